#!/usr/bin/env python3
"""Float64 reference forward for gpt-oss, llama, qwen2, qwen3 and qwen3moe, straight from a GGUF file.

    tools/ref/forward.py MODEL.gguf --ids 1,403,407            # the five likeliest tokens after the last id
    tools/ref/forward.py MODEL.gguf --ids-file ids.json --out logits.npy --rows all
    tools/ref/forward.py MODEL.gguf --ids 1 --greedy 20

Meant to be read, not to be fast: weights are dequantised and everything after that is float64, with no cache
and no approximation. It shares no code with oriel, so the two can be held against each other.

Sources: OpenAI's gpt-oss reference model; Hugging Face's modeling files for Llama, Qwen2, Qwen3, Qwen3-MoE;
YaRN (arXiv 2309.00071); attention sinks as gpt-oss uses them (arXiv 2309.17453 has the idea).
"""
import argparse
import json
import os
import sys

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import gguf

ARCHITECTURES = ("gpt-oss", "llama", "qwen2", "qwen3", "qwen3moe")


def rms_norm(x, weight, eps):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + eps) * weight


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Model:
    """Hyperparameters and float64 weights of one file. `override` replaces metadata, for experiments."""

    def __init__(self, path, override=None):
        self.file = gguf.Reader(path)
        meta = dict(self.file.meta, **(override or {}))
        self.arch = meta["general.architecture"]
        if self.arch not in ARCHITECTURES:
            raise ValueError("no reference for architecture '%s'" % self.arch)
        get = lambda key, default=None: meta.get(self.arch + "." + key, default)
        self.n_layers, self.d = get("block_count"), get("embedding_length")
        self.n_heads = get("attention.head_count")
        self.n_kv = get("attention.head_count_kv", self.n_heads)
        self.head_dim = get("attention.key_length", self.d // self.n_heads)
        self.eps = get("attention.layer_norm_rms_epsilon")
        self.n_experts, self.n_used = get("expert_count", 0), get("expert_used_count", 0)
        self.window = get("attention.sliding_window", 0) if self.arch == "gpt-oss" else 0
        self.n_rot = get("rope.dimension_count", self.head_dim)
        self.inv_freq, self.concentration = self.rope(get)
        self.cache = {}

    def rope(self, get):
        """Inverse frequencies [n_rot/2] and the factor on cos and sin."""
        half = self.n_rot // 2
        base = get("rope.freq_base", 10000.0)
        freq = np.power(float(base), np.arange(half) * 2.0 / self.n_rot)
        kind, factor = get("rope.scaling.type", "none"), get("rope.scaling.factor", 1.0)
        if "rope_freqs.weight" in self.file.tensors:  # Llama 3: one divisor for each frequency
            freq = freq * self.file.array("rope_freqs.weight").astype(np.float64)
        if kind == "linear":
            return 1 / (freq * factor), 1.0
        if kind != "yarn":
            return 1 / freq, 1.0
        trained = get("rope.scaling.original_context_length")
        bound = lambda beta: self.n_rot * np.log(trained / (beta * 2 * np.pi)) / (2 * np.log(base))
        low, high = bound(get("rope.scaling.yarn_beta_fast", 32.0)), bound(get("rope.scaling.yarn_beta_slow", 1.0))
        if self.arch != "gpt-oss":  # everybody but gpt-oss rounds the range outwards
            low, high = np.floor(low), np.ceil(high)
        low, high = max(low, 0), min(high, self.n_rot - 1)
        keep = 1 - np.clip((np.arange(half) - low) / max(high - low, 0.001), 0, 1)
        return (1 - keep) / (factor * freq) + keep / freq, get("rope.scaling.attn_factor", 1.0) * (0.1 * np.log(factor) + 1)

    def has(self, name):
        return name in self.file.tensors

    def w(self, name):
        if name not in self.cache:
            self.cache[name] = self.file.array(name).astype(np.float64)
        return self.cache[name]

    def linear(self, x, name):
        y = x @ self.w(name + ".weight").T
        return y + self.w(name + ".bias") if self.has(name + ".bias") else y

    def rotate(self, x, pos):
        """x [n][heads][head_dim]. Pairs are adjacent for llama's files, halves for the rest."""
        angle = np.outer(pos, self.inv_freq)
        cos, sin = np.cos(angle)[:, None] * self.concentration, np.sin(angle)[:, None] * self.concentration
        out, half = x.copy(), self.n_rot // 2
        a, b = (slice(0, self.n_rot, 2), slice(1, self.n_rot, 2)) if self.arch == "llama" else (slice(0, half), slice(half, self.n_rot))
        out[..., a] = x[..., a] * cos - x[..., b] * sin
        out[..., b] = x[..., b] * cos + x[..., a] * sin
        return out

    def attention(self, x, pos, layer):
        p = "blk.%d." % layer
        n = len(x)
        q = self.linear(x, p + "attn_q").reshape(n, self.n_heads, self.head_dim)
        k = self.linear(x, p + "attn_k").reshape(n, self.n_kv, self.head_dim)
        v = self.linear(x, p + "attn_v").reshape(n, self.n_kv, self.head_dim)
        if self.has(p + "attn_q_norm.weight"):
            q = rms_norm(q, self.w(p + "attn_q_norm.weight"), self.eps)
            k = rms_norm(k, self.w(p + "attn_k_norm.weight"), self.eps)
        q, k = self.rotate(q, pos), self.rotate(k, pos)
        sinks = self.w(p + "attn_sinks.weight") if self.has(p + "attn_sinks.weight") else None
        window = self.window if layer % 2 == 0 else 0
        out = np.empty((n, self.n_heads, self.head_dim))
        for first in range(0, n, 256):
            rows = slice(first, min(n, first + 256))
            start = max(0, first - window + 1) if window else 0
            cols = slice(start, rows.stop)
            away = pos[rows, None] - pos[None, cols]
            seen = (away >= 0) & (away < window) if window else away >= 0
            for h in range(self.n_heads):
                g = h // (self.n_heads // self.n_kv)
                s = q[rows, h] @ k[cols, g].T / np.sqrt(self.head_dim)
                s[~seen] = -np.inf
                if sinks is not None:  # one more logit in maximum and denominator, without a value
                    s = np.concatenate([s, np.full((len(s), 1), sinks[h])], 1)
                a = softmax(s)
                out[rows, h] = a[:, :cols.stop - start] @ v[cols, g]
        return self.linear(out.reshape(n, -1), p + "attn_output")

    def experts(self, x, layer):
        p = "blk.%d." % layer
        logits = self.linear(x, p + "ffn_gate_inp")
        # Stable sort: of equal logits the lower index wins.
        chosen = np.argsort(-logits, -1, kind="stable")[:, :self.n_used]
        if self.arch == "gpt-oss":
            share = softmax(np.take_along_axis(logits, chosen, 1))
        else:
            share = np.take_along_axis(softmax(logits), chosen, 1)
            share /= share.sum(1, keepdims=True)
        gate, up, down = (self.w(p + "ffn_%s_exps.weight" % m) for m in ("gate", "up", "down"))
        bias = [self.w(p + "ffn_%s_exps.bias" % m) if self.has(p + "ffn_%s_exps.bias" % m) else np.zeros((self.n_experts, 1)) for m in ("gate", "up", "down")]
        out = np.zeros_like(x)
        for e in range(self.n_experts):
            rows, rank = np.nonzero(chosen == e)
            if len(rows) == 0:
                continue
            g, u = x[rows] @ gate[e].T + bias[0][e], x[rows] @ up[e].T + bias[1][e]
            if self.arch == "gpt-oss":
                g, u = np.minimum(g, 7), np.clip(u, -7, 7)
                a = g * sigmoid(1.702 * g) * (u + 1)
            else:
                a = g * sigmoid(g) * u
            out[rows] += share[rows, rank][:, None] * (a @ down[e].T + bias[2][e])
        return out

    def dense(self, x, layer):
        p = "blk.%d." % layer
        g = self.linear(x, p + "ffn_gate")
        return self.linear(g * sigmoid(g) * self.linear(x, p + "ffn_up"), p + "ffn_down")

    def hidden(self, ids, rows=None):
        """[len(rows)][d] after the output's norm, at each of the positions in rows (all by default)."""
        pos = np.arange(len(ids))
        x = self.w("token_embd.weight")[np.asarray(ids)]
        mlp_norm = "post_attention_norm" if self.arch == "gpt-oss" else "ffn_norm"
        for layer in range(self.n_layers):
            p = "blk.%d." % layer
            x = x + self.attention(rms_norm(x, self.w(p + "attn_norm.weight"), self.eps), pos, layer)
            h = rms_norm(x, self.w(p + mlp_norm + ".weight"), self.eps)
            x = x + (self.experts(h, layer) if self.n_experts else self.dense(h, layer))
        return rms_norm(x[pos if rows is None else rows], self.w("output_norm.weight"), self.eps)

    def logits(self, ids, rows=None):
        """[len(rows)][vocab] likewise."""
        return self.hidden(ids, rows) @ self.w("output.weight" if self.has("output.weight") else "token_embd.weight").T


def main():
    ap = argparse.ArgumentParser(description="float64 reference forward")
    ap.add_argument("model")
    ap.add_argument("--ids", help="comma-separated token ids")
    ap.add_argument("--ids-file", help="JSON list of token ids")
    ap.add_argument("--rows", choices=["last", "all"], default="last")
    ap.add_argument("--greedy", type=int, default=0, metavar="N", help="continue with the N likeliest tokens")
    ap.add_argument("--top", type=int, default=5)
    ap.add_argument("--out", help="save the logits (.npy, float64 [rows][vocab])")
    args = ap.parse_args()
    if args.ids_file:
        with open(args.ids_file) as f:
            ids = json.load(f)
    elif args.ids:
        ids = [int(x) for x in args.ids.split(",")]
    else:
        ap.error("--ids or --ids-file, please")
    model = Model(args.model)
    given = len(ids)
    for _ in range(args.greedy):
        ids.append(int(model.logits(ids, [-1])[0].argmax()))
    if args.greedy:
        print(",".join(map(str, ids[given:])))
        return
    out = model.logits(ids, None if args.rows == "all" else [-1])
    if args.out:
        np.save(args.out, out)
    for i in np.argsort(-out[-1], kind="stable")[:args.top]:
        print("%6d  %.12g" % (i, out[-1][i]))


if __name__ == "__main__":
    main()
