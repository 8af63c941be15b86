"""GGUF v2/v3 in numpy: reader, writer, and the block types the reference and the generators need.

Layouts follow ggml's description of the format (github.com/ggml-org/ggml/blob/master/docs/gguf.md). Shapes here are
numpy's (rows first); the file stores them reversed. Rows are quantised along their last axis.
"""
import os
import struct

import numpy as np

MAGIC = b"GGUF"
ALIGNMENT = 32

# name: (id, elements per block, bytes per block)
TYPES = {"F32": (0, 1, 4), "F16": (1, 1, 2), "Q4_0": (2, 32, 18), "Q5_0": (6, 32, 22), "Q8_0": (8, 32, 34), "Q4_K": (12, 256, 144), "Q6_K": (14, 256, 210),
         "BF16": (30, 1, 2), "MXFP4": (39, 32, 17)}
NAME_OF = {v[0]: k for k, v in TYPES.items()}
# general.file_type, as llama.cpp numbers it
FILE_TYPE = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q5_0": 8, "Q4_K": 15, "Q6_K": 18, "BF16": 32, "MXFP4": 38}

FP4 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def row_bytes(kind, n):
    _, block, size = TYPES[kind]
    if n % block:
        raise ValueError("a row of %d elements is no whole number of %s blocks" % (n, kind))
    return n // block * size


# ── values to blocks ─────────────────────────────────────────────────────

def blocks_of(x, n):
    return np.ascontiguousarray(x, np.float32).reshape(-1, n)


def half(x):
    return x.astype(np.float16).view(np.uint16)


def pack(*columns):
    """Columns of bytes side by side."""
    return np.concatenate([np.ascontiguousarray(c).view(np.uint8).reshape(len(c), -1) for c in columns], 1).tobytes()


def to_bf16(x):
    u = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((u + 0x7FFF + ((u >> 16) & 1)) >> 16).astype(np.uint16)


def safe(d):
    return np.where(d == 0, 1, d)


def q8_0(x):
    b = blocks_of(x, 32)
    d = np.abs(b).max(1, keepdims=True) / np.float32(127)
    return pack(half(d), np.rint(b / safe(d)).astype(np.int8))


def q4_0(x):
    b = blocks_of(x, 32)
    # The extreme value, with its sign, becomes −8: that end of the grid is used in full.
    top = np.take_along_axis(b, np.abs(b).argmax(1)[:, None], 1)
    d = top / np.float32(-8)
    q = np.clip(np.floor(b / safe(d) + np.float32(8.5)), 0, 15).astype(np.uint8)
    return pack(half(d), q[:, :16] | q[:, 16:] << 4)


def q5_0(x):
    b = blocks_of(x, 32)
    top = np.take_along_axis(b, np.abs(b).argmax(1)[:, None], 1)
    d = top / np.float32(-16)
    q = np.clip(np.floor(b / safe(d) + np.float32(16.5)), 0, 31).astype(np.uint8)
    low = q & 15
    return pack(half(d), np.packbits(q >> 4, axis=1, bitorder="little"), low[:, :16] | low[:, 16:] << 4)


def fp4_codes(m):
    """Nearest FP4 magnitude, ties to the even mantissa, for m ≥ 0."""
    r = np.where(m < 2, np.rint(m * 2) / 2, np.where(m < 4, np.rint(m), np.rint(m / 2) * 2))
    return np.searchsorted(FP4[:8], np.minimum(r, 6)).astype(np.uint8)


def mxfp4(x):
    b = blocks_of(x, 32)
    top = np.abs(b).max(1, keepdims=True)
    e = np.floor(np.log2(np.maximum(top, np.float32(1e-30)))) - 2
    best = None
    for shift in (0, 1):  # of the two sensible exponents the one with the smaller error
        s = np.exp2(e + shift).astype(np.float32)
        code = fp4_codes(np.abs(b) / s) | (b < 0).astype(np.uint8) << 3
        err = np.square(FP4[code] * s - b).sum(1, keepdims=True)
        if best is None:
            best, exponent, least = code, e + shift, err
        else:
            better = err < least
            best, exponent = np.where(better, code, best), np.where(better, e + shift, exponent)
    scale = np.clip(exponent + 127, 0, 254).astype(np.uint8)
    return pack(scale, best[:, :16] | best[:, 16:] << 4)


def q4_k(x):
    """Plain min/max per sub-block of 32: valid, not the best."""
    b = blocks_of(x, 256).reshape(-1, 8, 32)
    low = np.minimum(b.min(2), 0)
    step, low = (b.max(2) - low) / np.float32(15), -low
    d, dmin = step.max(1, keepdims=True) / np.float32(63), low.max(1, keepdims=True) / np.float32(63)
    sc = np.rint(step / safe(d)).astype(np.uint8)
    mn = np.rint(low / safe(dmin)).astype(np.uint8)
    d16, m16 = d.astype(np.float16), dmin.astype(np.float16)
    scale = d16.astype(np.float32) * sc
    offset = m16.astype(np.float32) * mn
    q = np.clip(np.rint((b + offset[..., None]) / safe(scale)[..., None]), 0, 15).astype(np.uint8)
    packed = np.empty((len(b), 12), np.uint8)
    packed[:, :4] = sc[:, :4] | (sc[:, 4:] >> 4) << 6
    packed[:, 4:8] = mn[:, :4] | (mn[:, 4:] >> 4) << 6
    packed[:, 8:] = (sc[:, 4:] & 15) | (mn[:, 4:] & 15) << 4
    q = q.reshape(-1, 4, 2, 32)
    return pack(d16, m16, packed, (q[:, :, 0] | q[:, :, 1] << 4).reshape(-1, 128))


def q6_k(x):
    b = blocks_of(x, 256).reshape(-1, 16, 16)
    step = np.abs(b).max(2) / np.float32(31)
    d = step.max(1, keepdims=True) / np.float32(127)
    d16 = d.astype(np.float16)
    sc = np.rint(step / safe(d)).astype(np.int8)
    scale = d16.astype(np.float32) * sc
    q = (np.clip(np.rint(b / safe(scale)[..., None]), -32, 31) + 32).astype(np.uint8)
    q = q.reshape(-1, 2, 4, 32)  # half, quarter of the half, element
    ql = np.stack([q[:, :, 0] & 15 | (q[:, :, 2] & 15) << 4, q[:, :, 1] & 15 | (q[:, :, 3] & 15) << 4], 2)
    qh = q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6
    return pack(ql.reshape(-1, 128), qh.reshape(-1, 64), sc, d16)


def encode(x, kind):
    if kind == "F32":
        return np.ascontiguousarray(x, np.float32).tobytes()
    if kind == "F16":
        return np.ascontiguousarray(x, np.float16).tobytes()
    if kind == "BF16":
        return to_bf16(x).tobytes()
    return {"Q8_0": q8_0, "Q4_0": q4_0, "Q5_0": q5_0, "MXFP4": mxfp4, "Q4_K": q4_k, "Q6_K": q6_k}[kind](x)


# ── blocks to values (float32, in ggml's order of operations) ────────────

def f16_at(rows, a):
    return np.ascontiguousarray(rows[:, a:a + 2]).view(np.float16).astype(np.float32)


def nibbles(q):
    return np.concatenate([q & 15, q >> 4], 1)


def decode(data, kind):
    raw = np.frombuffer(data, np.uint8)
    if kind == "F32":
        return raw.view(np.float32).copy()
    if kind == "F16":
        return raw.view(np.float16).astype(np.float32)
    if kind == "BF16":
        return (raw.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    r = raw.reshape(-1, TYPES[kind][2])
    if kind == "Q8_0":
        out = f16_at(r, 0) * r[:, 2:].view(np.int8)
    elif kind == "Q4_0":
        out = (nibbles(r[:, 2:]).astype(np.float32) - 8) * f16_at(r, 0)
    elif kind == "Q5_0":
        high = np.unpackbits(r[:, 2:6], axis=1, bitorder="little")
        out = ((nibbles(r[:, 6:]) | high << 4).astype(np.float32) - 16) * f16_at(r, 0)
    elif kind == "MXFP4":
        out = FP4[nibbles(r[:, 1:])] * np.exp2(r[:, :1].astype(np.float32) - 127).astype(np.float32)
    elif kind == "Q4_K":
        d, dmin, s = f16_at(r, 0), f16_at(r, 2), r[:, 4:16]
        sc = np.concatenate([s[:, :4] & 63, s[:, 8:] & 15 | s[:, :4] >> 6 << 4], 1)
        mn = np.concatenate([s[:, 4:8] & 63, s[:, 8:] >> 4 | s[:, 4:8] >> 6 << 4], 1)
        q = r[:, 16:].reshape(-1, 4, 32)
        q = np.stack([q & 15, q >> 4], 2).reshape(-1, 8, 32)
        out = (d * sc)[..., None] * q - (dmin * mn)[..., None]
    elif kind == "Q6_K":
        ql, qh = r[:, :128].reshape(-1, 2, 2, 32), r[:, 128:192].reshape(-1, 2, 32)
        sc = r[:, 192:208].view(np.int8)
        q = np.stack([ql[:, :, 0] & 15 | (qh & 3) << 4, ql[:, :, 1] & 15 | (qh >> 2 & 3) << 4, ql[:, :, 0] >> 4 | (qh >> 4 & 3) << 4,
                      ql[:, :, 1] >> 4 | (qh >> 6) << 4], 2)
        out = (f16_at(r, 208) * sc)[..., None] * (q.reshape(-1, 16, 16).astype(np.float32) - 32)
    else:
        raise ValueError("cannot decode " + kind)
    return out.astype(np.float32).reshape(-1)


# ── files ────────────────────────────────────────────────────────────────

class Reader:
    """meta: key → value; tensors: name → (type name or number, shape, offset in the file)."""

    def __init__(self, path):
        self.path = path
        self.data = np.memmap(path, np.uint8, "r")
        self.at = 0
        if bytes(self.take(4)) != MAGIC:
            raise ValueError(path + " is not a GGUF file")
        self.version = self.scalar("I")
        if self.version not in (2, 3):
            raise ValueError("GGUF version %d" % self.version)
        n_tensors, n_meta = self.scalar("Q"), self.scalar("Q")
        self.meta, self.tensors = {}, {}
        for _ in range(n_meta):
            key = self.string()
            self.meta[key] = self.value(self.scalar("I"))
        for _ in range(n_tensors):
            name = self.string()
            dims = [self.scalar("Q") for _ in range(self.scalar("I"))]
            kind = self.scalar("I")
            self.tensors[name] = [NAME_OF.get(kind, kind), tuple(reversed(dims)), self.scalar("Q")]
        align = self.meta.get("general.alignment", ALIGNMENT)
        base = -(-self.at // align) * align
        for t in self.tensors.values():
            t[2] += base

    def take(self, n):
        if n > len(self.data) - self.at:
            raise ValueError("%s ends early" % self.path)
        self.at += n
        return self.data[self.at - n:self.at]

    def scalar(self, f):
        return struct.unpack("<" + f, self.take(struct.calcsize(f)))[0]

    def string(self):
        return bytes(self.take(self.scalar("Q"))).decode("utf-8", "surrogateescape")

    def value(self, kind):
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            return self.scalar(SCALARS[kind])
        kind, n = self.scalar("I"), self.scalar("Q")
        if kind in SCALARS:
            return np.frombuffer(self.take(n * struct.calcsize(SCALARS[kind])), "<" + SCALARS[kind]).tolist()
        return [self.value(kind) for _ in range(n)]

    def array(self, name):
        """float32 values in numpy's shape."""
        kind, shape, offset = self.tensors[name]
        if kind not in TYPES:
            raise ValueError("%s has type %s, which is not read here" % (name, kind))
        n = int(np.prod(shape[:-1], dtype=np.int64)) * row_bytes(kind, shape[-1])
        return decode(self.data[offset:offset + n].tobytes(), kind).reshape(shape)


class Writer:
    """Collects metadata and tensors, then writes the file in one pass. A tensor's bytes may come as a function
    that yields them in parts, so that a big file needs little memory."""

    def __init__(self):
        self.meta, self.tensors = [], []

    def set(self, key, value, kind=None):
        """kind: a GGUF type number for scalars or array elements; by default strings, bools, uint32 (int32 in arrays), float32."""
        self.meta.append((key, value, kind))

    def tensor(self, name, array, kind):
        self.stream(name, array.shape, kind, lambda: [encode(array, kind)])

    def stream(self, name, shape, kind, parts):
        size = int(np.prod(shape[:-1], dtype=np.int64)) * row_bytes(kind, shape[-1])
        self.tensors.append((name, tuple(shape), kind, size, parts))

    @staticmethod
    def guess(v, in_array):
        return STRING if isinstance(v, str) else 7 if isinstance(v, bool) else 6 if isinstance(v, float) else 5 if in_array else 4

    @staticmethod
    def pack_string(s):
        b = s.encode("utf-8", "surrogateescape")
        return struct.pack("<Q", len(b)) + b

    def pack_value(self, v, kind, in_array=False):
        kind = self.guess(v, in_array) if kind is None else kind
        return kind, self.pack_string(v) if kind == STRING else struct.pack("<" + SCALARS[kind], v)

    def head(self):
        out = [MAGIC, struct.pack("<IQQ", 3, len(self.tensors), len(self.meta))]
        for key, v, kind in self.meta:
            out.append(self.pack_string(key))
            if isinstance(v, (list, tuple)):
                items = [self.pack_value(x, kind, True) for x in v]
                out.append(struct.pack("<IIQ", ARRAY, items[0][0] if items else kind or STRING, len(v)))
                out += [b for _, b in items]
            else:
                kind, b = self.pack_value(v, kind)
                out += [struct.pack("<I", kind), b]
        offset = 0
        for name, shape, kind, size, _ in self.tensors:
            out.append(self.pack_string(name) + struct.pack("<I%dQ" % len(shape), len(shape), *reversed(shape)) + struct.pack("<IQ", TYPES[kind][0], offset))
            offset += -(-size // ALIGNMENT) * ALIGNMENT
        return b"".join(out)

    def write(self, path):
        with open(path + ".part", "wb") as f:
            f.write(self.head())
            for name, _, _, size, parts in self.tensors:
                f.write(b"\0" * (-f.tell() % ALIGNMENT))
                start = f.tell()
                for part in parts():
                    f.write(part)
                if f.tell() - start != size:
                    raise ValueError("%s: %d bytes instead of %d" % (name, f.tell() - start, size))
            f.write(b"\0" * (-f.tell() % ALIGNMENT))
        os.replace(path + ".part", path)
