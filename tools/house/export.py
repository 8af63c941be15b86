#!/usr/bin/env python3
"""Writes the house model as GGUF: MXFP4 experts, Q8_0 embeddings and attention, F32 for the rest.

    tools/house/export.py [--work build/house] [--out models/oriel-house.gguf]     # from a checkpoint
"""
import argparse
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "tools", "ref")]

import gguf

LAYER = {"attn_norm": "attn_norm.weight", "mlp_norm": "post_attention_norm.weight", "q": "attn_q.weight", "k": "attn_k.weight", "v": "attn_v.weight",
         "o": "attn_output.weight", "qb": "attn_q.bias", "kb": "attn_k.bias", "vb": "attn_v.bias", "ob": "attn_output.bias", "sinks": "attn_sinks.weight",
         "router": "ffn_gate_inp.weight", "router_b": "ffn_gate_inp.bias", "gate": "ffn_gate_exps.weight", "up": "ffn_up_exps.weight",
         "down": "ffn_down_exps.weight", "gate_b": "ffn_gate_exps.bias", "up_b": "ffn_up_exps.bias", "down_b": "ffn_down_exps.bias"}
TOP = {"embed": "token_embd.weight", "out_norm": "output_norm.weight", "head": "output.weight"}
NORMAL, CONTROL = 1, 3


def file_name(parameter):
    """The GGUF name of a torch parameter."""
    part = parameter.split(".")
    return TOP[parameter] if len(part) == 1 else "blk.%s.%s" % (part[1], LAYER[part[2]])


def write(net, tok, path):
    import bpe
    s = net.shape
    w = gguf.Writer()
    w.set("general.architecture", "gpt-oss")
    w.set("general.type", "model")
    w.set("general.name", "oriel-house")
    w.set("general.description", "A small GPT-OSS-shaped model trained from scratch by the oriel project on generated data.")
    w.set("general.license", "MIT")
    w.set("general.languages", ["en"])
    w.set("general.size_label", "%.1fM" % (sum(p.numel() for p in net.parameters()) / 1e6))
    w.set("general.file_type", gguf.FILE_TYPE["MXFP4"])
    w.set("general.quantization_version", 2)
    a = lambda key, value: w.set("gpt-oss." + key, value)
    a("block_count", s["layers"])
    a("context_length", s["context"])
    a("embedding_length", s["d"])
    a("feed_forward_length", s["ff"])
    a("attention.head_count", s["heads"])
    a("attention.head_count_kv", s["kv_heads"])
    a("attention.key_length", s["head_dim"])
    a("attention.value_length", s["head_dim"])
    a("attention.layer_norm_rms_epsilon", s["eps"])
    a("attention.sliding_window", s["window"])
    a("expert_count", s["experts"])
    a("expert_used_count", s["used"])
    a("expert_feed_forward_length", s["ff"])
    a("rope.freq_base", s["rope_base"])
    a("rope.scaling.type", "yarn")
    a("rope.scaling.factor", s["yarn_factor"])
    a("rope.scaling.original_context_length", s["original_context"])
    a("rope.scaling.yarn_beta_fast", s["beta_fast"])
    a("rope.scaling.yarn_beta_slow", s["beta_slow"])
    t = lambda key, value: w.set("tokenizer." + key, value)
    t("ggml.model", "gpt2")
    t("ggml.pre", "gpt-4o")
    t("ggml.tokens", tok.tokens)
    t("ggml.token_type", [NORMAL if i < tok.n_text else CONTROL for i in range(len(tok.tokens))])
    t("ggml.merges", [" ".join(m) for m in tok.merges])
    t("ggml.bos_token_id", tok.id_of["<|startoftext|>"])
    t("ggml.eos_token_id", tok.id_of["<|return|>"])
    t("ggml.padding_token_id", tok.id_of["<|endoftext|>"])
    t("ggml.add_bos_token", False)
    with open(os.path.join(HERE, "template.jinja")) as f:
        t("chat_template", f.read())
    assert len(tok.tokens) == s["vocab"] and tok.tokens[-len(bpe.SPECIALS):] == bpe.SPECIALS
    for name, p in net.named_parameters():
        w.tensor(file_name(name), p.detach().numpy(), net.kind(name))
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    w.write(path)
    print("%s: %d bytes" % (path, os.path.getsize(path)))


def read(path):
    """The shipped file as a torch model and a tokenizer: rounded weights, float32 arithmetic."""
    import torch
    import bpe
    import model as M
    r = gguf.Reader(path)
    g = lambda key: r.meta["gpt-oss." + key]
    shape = dict(M.SHAPE, vocab=len(r.meta["tokenizer.ggml.tokens"]), d=g("embedding_length"), layers=g("block_count"), heads=g("attention.head_count"),
                 kv_heads=g("attention.head_count_kv"), head_dim=g("attention.key_length"), experts=g("expert_count"), used=g("expert_used_count"),
                 ff=g("expert_feed_forward_length"), window=g("attention.sliding_window"), context=g("context_length"), rope_base=g("rope.freq_base"),
                 yarn_factor=g("rope.scaling.factor"), original_context=g("rope.scaling.original_context_length"), eps=g("attention.layer_norm_rms_epsilon"))
    net = M.House(shape)
    with torch.no_grad():
        for name, p in net.named_parameters():
            p.copy_(torch.from_numpy(r.array(file_name(name))))
    net.exact = True
    return net, bpe.Tokenizer([m.split(" ") for m in r.meta["tokenizer.ggml.merges"]])


def main():
    import torch
    import model as M
    import train
    ap = argparse.ArgumentParser()
    ap.add_argument("--work", default=os.path.join(ROOT, "build", "house"))
    ap.add_argument("--out", default=os.path.join(ROOT, "models", "oriel-house.gguf"))
    args = ap.parse_args()
    net = M.House(M.SHAPE)
    net.load_state_dict(torch.load(os.path.join(args.work, "checkpoint.pt"))["net"])
    write(net, train.tokenizer(args.work, train.SEED), args.out)


if __name__ == "__main__":
    main()
