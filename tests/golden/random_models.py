#!/usr/bin/env python3
"""For test_model_random.c: tiny random models of every architecture and weight type in a folder, and
beside each its float64 logits (NAME.f64: [n][vocab], little-endian) after the ids in ids.json.
Exit status 77: this Python has no numpy."""
import json
import os
import sys

try:
    import numpy as np
except ImportError:
    sys.exit(77)

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "tools", "ref"))
import forward
import random_model

ARCHS = ["gpt-oss", "llama", "llama3", "llama-linear", "llama-yarn", "qwen2", "qwen3", "qwen3moe"]
TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q6_K", "MXFP4"]


def main():
    out = sys.argv[1]
    ids = [int(x) for x in np.random.default_rng(3).integers(0, 200, 48)]
    with open(os.path.join(out, "ids.json"), "w") as f:
        json.dump(ids, f)
    for arch in ARCHS:
        for kind in TYPES:
            path = os.path.join(out, "%s-%s.gguf" % (arch, kind))
            random_model.make(path, arch=arch, wanted=kind, seed=7)
            forward.Model(path).logits(ids, None).astype("<f8").tofile(path[:-5] + ".f64")
            print(os.path.basename(path)[:-5], flush=True)


main()
