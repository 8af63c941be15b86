#!/usr/bin/env python3
"""The float64 reference (tools/ref) against oracles from outside: every block type bit for bit, every
architecture's logits, a trained Llama's greedy ids. Prints TAP; without ORIEL_CORPUS only the round trips run."""
import json
import os
import sys
import tempfile

try:
    import numpy as np
except ImportError:  # another Python may stand first in PATH; Debian's has numpy
    if os.path.exists("/usr/bin/python3") and os.path.realpath(sys.executable) != os.path.realpath("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3"] + sys.argv)
    print("1..1\nok 1 - reference # SKIP numpy is not installed")
    sys.exit(0)

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tools", "ref"))
import forward
import gguf
import random_model

CORPUS = os.environ.get("ORIEL_CORPUS")
number = failed = 0


def check(good, name, detail=""):
    global number, failed
    number += 1
    failed += not good
    print("%sok %d - %s%s" % ("" if good else "not ", number, name, " (%s)" % detail if detail else ""), flush=True)


def skip(name):
    global number
    number += 1
    print("ok %d - %s # SKIP ORIEL_CORPUS is not set" % (number, name))


def round_trip():
    """What is written is read again: metadata, names, shapes, and each type's values within its step."""
    rng = np.random.default_rng(7)
    step = {"F32": 0, "F16": 1e-3, "BF16": 8e-3, "Q8_0": 0.03, "Q4_0": 0.5, "Q5_0": 0.25, "Q4_K": 0.4, "Q6_K": 0.12, "MXFP4": 1.1}
    arrays = {k: rng.standard_normal((3, 512)).astype(np.float32) for k in gguf.TYPES}
    w = gguf.Writer()
    meta = {"general.architecture": "llama", "a.flag": True, "a.count": 7, "a.scale": 0.5, "a.words": ["x", "", "é"], "a.ids": [1, -2]}
    for k, v in meta.items():
        w.set(k, v)
    for k, a in arrays.items():
        w.tensor(k.lower() + ".weight", a, k)
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "x.gguf")
        w.write(path)
        r = gguf.Reader(path)
        check(r.meta == meta, "metadata survives the file")
        for k, a in arrays.items():
            worst = float(np.abs(r.array(k.lower() + ".weight") - a).max())
            check(worst <= step[k], k + " written and read", "worst %.3g" % worst)


def block_types():
    folder = os.path.join(CORPUS, "models", "quant_oracle")
    for k in gguf.TYPES:
        with open(os.path.join(folder, k + ".bin"), "rb") as f:
            got = gguf.decode(f.read(), k)
        want = np.fromfile(os.path.join(folder, k + ".dequant.f32"), "<f4")
        check((got.view(np.uint32) == want.view(np.uint32)).all(), k + " blocks decode bit for bit")


def kept_rows(n):
    return list(range(n)) if n <= 32 else sorted(set(range(0, n, 16)) | set(range(n - 32, n)))


def architectures():
    folder = os.path.join(CORPUS, "models", "arch_oracle")
    with open(os.path.join(folder, "index.json")) as f:
        index = json.load(f)["models"]
    for name, m in sorted(index.items()):
        with open(os.path.join(folder, name, "ids.json")) as f:
            ids = json.load(f)
        for file, e in sorted(m["logits"].items()):
            if e["n_tokens"] > 2000:
                continue
            plain = {m["arch"] + ".rope.scaling.type": "none"} if "noropescaling" in file else None
            model = forward.Model(os.path.join(folder, name, e["for"].split()[0]), plain)
            want = np.fromfile(os.path.join(folder, name, file), "<f4" if "float32" in e["dtype"] else "<f8").reshape(e["shape"])
            worst = float(np.abs(model.logits(ids[e["ids"]], kept_rows(e["n_tokens"])) - want).max())
            check(worst < (1e-5 if "float32" in e["dtype"] else 1e-8), "%s %s" % (name, file), "worst %.2g" % worst)


def stories():
    folder = os.path.join(CORPUS, "models", "derived", "stories260K")
    with open(os.path.join(folder, "reference.json")) as f:
        cases = json.load(f)["cases"]
    model = forward.Model(os.path.join(folder, "stories260K-f32.gguf"))
    for i, c in enumerate(cases):
        ids = c["prompt_ids"] + c["greedy_ids"]
        first = len(c["prompt_ids"]) - 1
        out = model.logits(ids[:-1])
        check(out[first:].argmax(-1).tolist() == c["greedy_ids"], "stories260K prompt %d: every greedy id" % i)
        worst = float(np.abs(out[first] - np.array(c["logits_last_prompt_pos"])).max())
        check(worst < 1e-4, "stories260K prompt %d: logits" % i, "worst %.2g" % worst)


def random_models():
    """The generator's files: the same bytes from the same seed, every type present, logits finite and alive."""
    with tempfile.TemporaryDirectory() as tmp:
        for i, arch in enumerate(sorted(random_model.TINY_OF)):
            kind = random_model.TYPES[i]
            a, b = os.path.join(tmp, "a.gguf"), os.path.join(tmp, "b.gguf")
            for path in (a, b):
                random_model.make(path, arch, "tiny", kind, seed=3, layers=2)
            with open(a, "rb") as f, open(b, "rb") as g:
                again = f.read() == g.read()
            model = forward.Model(a)
            types = {t[0] for t in model.file.tensors.values()}
            out = model.logits(list(range(30)))
            alive = bool(np.isfinite(out).all()) and len(set(out.argmax(-1).tolist())) > 8 and 0.5 < out.std() < 5
            check(again and alive and kind.replace("_M", "") in types, "random %s %s" % (arch, kind), "std %.2f" % out.std())
        # Blocks made directly have the spread they promise.
        for kind in gguf.TYPES:
            x = gguf.decode(random_model.random_blocks(np.random.default_rng(1), kind, 4096, 0.02), kind)
            check(abs(x.std() / 0.02 - 1) < 0.25 and abs(x.mean()) < 0.002, "random %s blocks" % kind, "std %.4f, wanted 0.02" % x.std())


round_trip()
random_models()
for part in (block_types, architectures, stories):
    if CORPUS:
        part()
    else:
        skip(part.__name__)
print("1..%d" % number)
sys.exit(1 if failed else 0)
