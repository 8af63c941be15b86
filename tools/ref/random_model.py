#!/usr/bin/env python3
"""Seeded random GGUF models: any architecture and weight type, tiny for tests or in a real shape for speed.

    tools/ref/random_model.py --arch qwen3 --type Q8_0 --out x.gguf           # tiny
    tools/ref/random_model.py --shape llama-3.2-1b --type Q4_K_M --out y.gguf # real shape, written at disk speed
    tools/ref/random_model.py --all build/random                              # every tiny architecture × type

Tiny models get normally distributed weights through the real quantisers. Big ones are random blocks with sane
scales (standard deviation 1/sqrt(row length), zero mean), made and written in chunks of a few MiB. The tokenizer
is complete (256 bytes, merges, special tokens) but made up; llama.cpp loads the files too.
"""
import argparse
import itertools
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gguf

TINY = dict(d=256, layers=4, heads=8, kv_heads=2, head_dim=64, ff=512, vocab=512, context=4096, eps=1e-5, base=10000.0, tied=False)
MOE = dict(experts=8, used=2, ff=256)
TINY_OF = {
    "llama": dict(tied=True),
    "llama-linear": dict(arch="llama", scaling=dict(type="linear", factor=4.0)),
    "llama-yarn": dict(arch="llama", context=8192, scaling=dict(type="yarn", factor=4.0, original_context_length=2048)),
    "llama3": dict(arch="llama", base=500000.0, context=8192, llama3=(8.0, 1.0, 4.0, 2048)),
    "qwen2": dict(tied=True, base=1e6, eps=1e-6),
    "qwen3": dict(tied=True, base=1e6, eps=1e-6),
    "qwen3moe": dict(base=1e6, eps=1e-6, **MOE),
    "gpt-oss": dict(base=150000.0, context=131072, window=128, scaling=dict(type="yarn", factor=32.0, original_context_length=4096), **dict(MOE, used=4)),
}
BIG = {
    "llama-3.2-1b": dict(arch="llama", d=2048, layers=16, heads=32, kv_heads=8, head_dim=64, ff=8192, vocab=128256, context=131072, eps=1e-5, base=500000.0,
                         tied=True, llama3=(32.0, 1.0, 4.0, 8192)),
    "qwen2.5-0.5b": dict(arch="qwen2", d=896, layers=24, heads=14, kv_heads=2, head_dim=64, ff=4864, vocab=151936, context=32768, eps=1e-6, base=1e6, tied=True),
    "gpt-oss-moe": dict(arch="gpt-oss", d=2880, layers=6, heads=64, kv_heads=8, head_dim=64, ff=2880, vocab=201088, context=131072, eps=1e-5, base=150000.0,
                        tied=False, experts=32, used=4, window=128, scaling=dict(type="yarn", factor=32.0, original_context_length=4096)),
}
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q6_K", "MXFP4"]
PRE = {"llama": "llama-bpe", "qwen2": "qwen2", "qwen3": "qwen2", "qwen3moe": "qwen2", "gpt-oss": "gpt-4o"}
HARMONY = ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", "<|call|>"]
SPECIALS = {"llama": ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
            "qwen": ["<|endoftext|>", "<|im_start|>", "<|im_end|>"], "gpt-oss": HARMONY}
LETTERS = "etaoinshrdlcumwfgypbvkjxqzETAOINSHRDLCUMWFGYPBVKJXQZ"


def vocabulary(arch, n):
    """tokens, types, merges, special ids: bytes, then ever longer strings of letters, then the special tokens."""
    byte_chars = [chr(b) for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    byte_chars += [chr(256 + i) for i in range(256 - len(byte_chars))]
    specials = SPECIALS["qwen" if arch.startswith("qwen") else arch]
    tokens, merges = list(byte_chars), []
    level = ["\u0120"] + list(LETTERS)  # U+0120 is the space
    while len(tokens) < n - len(specials):
        pairs = itertools.islice(itertools.product(level, LETTERS), n - len(specials) - len(tokens))
        pairs = list(pairs)
        merges += ["%s %s" % p for p in pairs]
        level = ["".join(p) for p in pairs]
        tokens += level
    types = [1] * len(tokens) + [3] * len(specials)
    first = len(tokens)
    return tokens + specials, types, merges, {s: first + i for i, s in enumerate(specials)}


def more_bits(i, n):
    """The layers to which llama.cpp's Q4_K_M mixture gives Q6_K for attn_v and ffn_down."""
    return i < n // 8 or i >= 7 * n // 8 or (i - n // 8) % 3 == 2


def type_of(name, shape, wanted, layers):
    """The storage type of one matrix: the wanted one, or what its row length and place allow."""
    last = name.split(".")[-2]
    if last == "ffn_gate_inp":
        return "F32"
    top = last in ("token_embd", "output")
    if wanted == "Q4_K_M":
        heavy = top or (last in ("attn_v", "ffn_down", "ffn_down_exps") and more_bits(int(name.split(".")[1]), layers))
        kind = "Q6_K" if heavy else "Q4_K"
    elif wanted == "MXFP4":
        # Experts only, as in gpt-oss' files; dense models put their whole layers into it.
        kind = "MXFP4" if not top and ("exps" in last or not shape.get("experts")) else "Q8_0"
    else:
        kind = wanted
    return kind


def fit(kind, row):
    """What llama.cpp falls back to when a row is no whole number of super-blocks."""
    return {"Q4_K": "Q5_0", "Q6_K": "Q8_0"}.get(kind, kind) if row % gguf.TYPES[kind][1] else kind


def random_blocks(rng, kind, n_blocks, sigma):
    """Valid blocks whose values have mean 0 and about the standard deviation sigma."""
    if kind in ("F32", "F16", "BF16"):
        x = (rng.random(n_blocks, np.float32) - np.float32(0.5)) * np.float32(sigma * 12 ** 0.5)
        return gguf.encode(x, kind)
    b = np.frombuffer(rng.bytes(n_blocks * gguf.TYPES[kind][2]), np.uint8).reshape(n_blocks, -1).copy()
    sign = np.where(b[:, :1] & 1, 1, -1) * (0.75 + (b[:, 1:2] & 63) / 128)  # a sign and a spread for each block
    scale = lambda x: (np.broadcast_to(x, (n_blocks, 1))).astype(np.float16).view(np.uint8)
    if kind == "Q8_0":
        b[:, :2] = scale(sigma / 73.3 * sign)
        b[:, 2:][b[:, 2:] == 0x80] = 0  # −128 does not occur in real files
    elif kind == "Q4_0":
        b[:, :2] = scale(sigma / 4.6 * sign)
    elif kind == "Q5_0":
        b[:, :2] = scale(sigma / 9.2 * sign)
    elif kind == "MXFP4":
        b[:, :1] = int(np.clip(127 + np.round(np.log2(sigma / 2.93)), 1, 254)) - (b[:, :1] & 1)
    elif kind == "Q4_K":
        # Scale and minimum of a sub-block are the same number s: values are d·s·(q − 7.5).
        s = (b[:, 4:12] & 31) + 16
        b[:, :2] = scale(sigma / (31.5 * 4.6) * np.abs(sign))
        b[:, 2:4] = scale(7.5 * sigma / (31.5 * 4.6) * np.abs(sign))
        b[:, 4:8] = s[:, :4] | (s[:, 4:] >> 4) << 6
        b[:, 8:12] = b[:, 4:8]
        b[:, 12:16] = (s[:, 4:] & 15) | (s[:, 4:] & 15) << 4
    elif kind == "Q6_K":
        b[:, 192:208] = ((b[:, 192:208] & 63) + 32) * np.where(b[:, 192:208] & 64, 1, 255).astype(np.uint8)
        b[:, 208:] = scale(sigma / (18.5 * 65) * sign)
    return b.tobytes()


def llama3_divisors(head_dim, base, factor, low, high, trained):
    """Llama 3's rope_freqs.weight."""
    wavelength = 2 * np.pi * base ** (np.arange(head_dim // 2) * 2.0 / head_dim)
    smooth = np.clip((trained / wavelength - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


class Builder:
    def __init__(self, shape, wanted, seed, fast):
        self.s, self.wanted, self.fast = shape, wanted, fast
        self.rng = np.random.default_rng(seed)
        self.w = gguf.Writer()

    def vector(self, name, n, around, spread):
        x = around + spread * self.rng.standard_normal(n)
        self.w.tensor(name, x.astype(np.float32), "F32")

    def matrix(self, name, *shape, gain=1.0):
        kind = fit(type_of(name, self.s, self.wanted, self.s["layers"]), shape[-1])
        sigma = gain * shape[-1] ** -0.5
        seed = self.rng.integers(1 << 62)
        if not self.fast or "ffn_gate_inp" in name:
            x = np.random.default_rng(seed).standard_normal(shape, np.float32) * np.float32(sigma)
            self.w.tensor(name, x, kind)
            return
        _, block, size = gguf.TYPES[kind]
        n_blocks = int(np.prod(shape, dtype=np.int64)) // block

        def parts():
            rng, left, chunk = np.random.default_rng(seed), n_blocks, max(1, (4 << 20) // size)
            while left:
                n = min(left, chunk)
                left -= n
                yield random_blocks(rng, kind, n, sigma)
        self.w.stream(name, shape, kind, parts)

    def build(self):
        s, w, arch = self.s, self.w, self.s["arch"]
        E, q, kv = s.get("experts", 0), s["heads"] * s["head_dim"], s["kv_heads"] * s["head_dim"]
        w.set("general.architecture", arch)
        w.set("general.name", "random-%s-%s" % (s["name"], self.wanted.lower()))
        w.set("general.file_type", gguf.FILE_TYPE[self.wanted.replace("_M", "")])
        w.set("general.quantization_version", 2)
        a = lambda key, value: w.set(arch + "." + key, value)
        a("block_count", s["layers"])
        a("context_length", s["context"])
        a("embedding_length", s["d"])
        a("feed_forward_length", s["ff"])
        a("attention.head_count", s["heads"])
        a("attention.head_count_kv", s["kv_heads"])
        a("attention.key_length", s["head_dim"])
        a("attention.value_length", s["head_dim"])
        a("attention.layer_norm_rms_epsilon", s["eps"])
        a("rope.freq_base", s["base"])
        if arch != "gpt-oss":
            a("rope.dimension_count", s["head_dim"])
        for key, value in s.get("scaling", {}).items():
            a("rope.scaling." + key, value)
        if E:
            a("expert_count", E)
            a("expert_used_count", s["used"])
            a("expert_feed_forward_length", s["ff"])
        if s.get("window"):
            a("attention.sliding_window", s["window"])
        tokens, types, merges, special = vocabulary(arch, s["vocab"])
        a("vocab_size", len(tokens))
        t = lambda key, value: w.set("tokenizer.ggml." + key, value)
        t("model", "gpt2")
        t("pre", PRE[arch])
        t("tokens", tokens)
        t("token_type", types)
        t("merges", merges)
        ids = list(special.values())
        t("bos_token_id", ids[0])
        t("eos_token_id", special.get("<|return|>", special.get("<|im_end|>", special.get("<|eot_id|>"))))
        t("padding_token_id", special.get("<|endoftext|>", ids[0]))
        t("add_bos_token", False)

        self.matrix("token_embd.weight", s["vocab"], s["d"], gain=s["d"] ** 0.5 * (0.1 if s["tied"] else 1.0))
        self.vector("output_norm.weight", s["d"], 1.0, 0.1)
        if not s["tied"]:
            self.matrix("output.weight", s["vocab"], s["d"], gain=2.0)
        if "llama3" in s:
            w.tensor("rope_freqs.weight", llama3_divisors(s["head_dim"], s["base"], *s["llama3"]), "F32")
        for i in range(s["layers"]):
            p = "blk.%d." % i
            self.vector(p + "attn_norm.weight", s["d"], 1.0, 0.1)
            self.vector(p + ("post_attention_norm" if arch == "gpt-oss" else "ffn_norm") + ".weight", s["d"], 1.0, 0.1)
            for name, rows, cols in (("attn_q", q, s["d"]), ("attn_k", kv, s["d"]), ("attn_v", kv, s["d"]), ("attn_output", s["d"], q)):
                self.matrix(p + name + ".weight", rows, cols, gain=1.5 if name in ("attn_q", "attn_k") else 1.0)
                if arch == "gpt-oss" or arch == "qwen2" and name != "attn_output":
                    self.vector(p + name + ".bias", rows, 0.0, 0.3)
            if arch in ("qwen3", "qwen3moe"):
                self.vector(p + "attn_q_norm.weight", s["head_dim"], 1.3, 0.2)
                self.vector(p + "attn_k_norm.weight", s["head_dim"], 1.3, 0.2)
            if arch == "gpt-oss":
                self.vector(p + "attn_sinks.weight", s["heads"], 0.0, 1.0)
            if not E:
                self.matrix(p + "ffn_gate.weight", s["ff"], s["d"])
                self.matrix(p + "ffn_up.weight", s["ff"], s["d"])
                self.matrix(p + "ffn_down.weight", s["d"], s["ff"])
                continue
            self.matrix(p + "ffn_gate_inp.weight", E, s["d"], gain=2.0)
            for name, rows, cols in (("gate", s["ff"], s["d"]), ("up", s["ff"], s["d"]), ("down", s["d"], s["ff"])):
                self.matrix(p + "ffn_%s_exps.weight" % name, E, rows, cols)
            if arch == "gpt-oss":
                self.vector(p + "ffn_gate_inp.bias", E, 0.0, 0.5)
                for name, rows in (("gate", s["ff"]), ("up", s["ff"]), ("down", s["d"])):
                    self.vector(p + "ffn_%s_exps.bias" % name, (E, rows), 0.0, 0.3)
        return w


def make(path, arch="llama", shape="tiny", wanted="F32", seed=1, **change):
    """Writes one model. `change` replaces entries of the shape."""
    if shape == "tiny":
        s = dict(TINY, arch=arch, name=arch + "-tiny")
        s.update(TINY_OF[arch])
    else:
        s = dict(BIG[shape], name=shape)
    s.update({k: v for k, v in change.items() if v})
    Builder(s, wanted, seed, fast=shape != "tiny").build().write(path)


def main():
    ap = argparse.ArgumentParser(description="seeded random GGUF models")
    ap.add_argument("--arch", choices=sorted(TINY_OF), default="llama", help="of a tiny model")
    ap.add_argument("--shape", choices=["tiny"] + sorted(BIG), default="tiny")
    ap.add_argument("--type", choices=TYPES, default="Q8_0")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--layers", type=int)
    ap.add_argument("--vocab", type=int)
    ap.add_argument("--out")
    ap.add_argument("--all", metavar="DIR", help="every tiny architecture and type")
    args = ap.parse_args()
    if args.all:
        os.makedirs(args.all, exist_ok=True)
        for arch, kind in itertools.product(sorted(TINY_OF), TYPES):
            make(os.path.join(args.all, "%s-%s.gguf" % (arch, kind.lower())), arch, "tiny", kind, args.seed)
    elif args.out:
        make(args.out, args.arch, args.shape, args.type, args.seed, layers=args.layers, vocab=args.vocab)
    else:
        ap.error("--out FILE or --all DIR, please")


if __name__ == "__main__":
    main()
