#!/usr/bin/env python3
"""Trains the house model: tokenizer, data, training, export, evaluation. One command, one seed.

    /usr/bin/python3 tools/house/train.py             # ~40 minutes of one core, then models/oriel-house.gguf
    /usr/bin/python3 tools/house/train.py --until 10   # a trial: ten groups, no file

The work is cut into groups of documents; group g is drawn from its own random state, so a run can stop
after any group and go on where it was (checkpoint in --work). Generator and tokenizer output is the same
bytes for the same seed everywhere; the weights differ by the order of float sums.
"""
import argparse
import json
import math
import os
import random
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, HERE)
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import torch.nn.functional as F

import bpe
import data
import model as M

SEED = 1
DOCS_PER_GROUP = 576
# (first group, tokens per step) of each stage in data.STAGES. After 60 groups copying had not appeared by itself:
# stage 1 adds drills that teach it, in smaller steps. Stage 2 is a second, shorter leg with more tool calls.
STAGES = [(0, 6144), (60, 4096), (155, 4096)]
GROUPS = 205
MAX_LENGTH = 512
ROUNDING_FROM = 108  # group; from here on the weights are the file's rounded ones
MUON_LR, ADAM_LR = 0.02, 0.003


def tokenizer(work, seed):
    path = os.path.join(work, "merges.json")
    if not os.path.exists(path):
        rng = random.Random("house-bpe-%d" % seed)
        texts = ("".join(t for t, _ in data.document(rng, stage=0)) for _ in range(12000))
        merges = bpe.train(texts, M.SHAPE["vocab"])
        with open(path + ".part", "w") as f:
            json.dump(merges, f, ensure_ascii=False)
        os.replace(path + ".part", path)
    with open(path) as f:
        return bpe.Tokenizer(json.load(f))


def positions(ids, start, rng):
    """0,1,2,…; now and then the conversation's later part stands far from its beginning, so that the full
    layers learn distances that 512 tokens do not have."""
    pos = np.arange(len(ids))
    starts = np.flatnonzero(np.array(ids) == start)
    if len(starts) > 2 and rng.random() < 0.2:
        at = starts[1 + int(rng.random() * (len(starts) - 2))]
        pos[at:] += int(rng.random() * (M.SHAPE["context"] - len(ids)))
    return pos


def group(tok, seed, number):
    """Batches of one group: (ids, positions, wanted rows, targets), all of similar length."""
    rng = random.Random("house-train-%d-%d" % (seed, number))
    stage = max(i for i, (first, _) in enumerate(STAGES) if number >= first)
    room = STAGES[stage][1]
    docs = []
    while len(docs) < DOCS_PER_GROUP:
        ids, learn = tok.encode_document(data.document(rng, stage=stage))
        if len(ids) <= MAX_LENGTH:
            docs.append((ids, learn, positions(ids, tok.id_of["<|start|>"], rng)))
    docs.sort(key=lambda d: len(d[0]))
    batches, batch = [], []
    for d in docs:
        if batch and (len(batch) + 1) * len(d[0]) > room:
            batches.append(batch)
            batch = []
        batch.append(d)
    batches.append(batch)
    rng.shuffle(batches)
    for batch in batches:
        T = (max(len(d[0]) for d in batch) + 15) // 16 * 16
        ids, pos = np.zeros((len(batch), T), np.int64), np.zeros((len(batch), T), np.int64)
        want, target = [], []
        for i, (x, learn, p) in enumerate(batch):
            ids[i, :len(x)] = x
            pos[i] = np.minimum(np.concatenate([p, p[-1] + 1 + np.arange(T - len(x))]), M.SHAPE["context"] - 1)
            for j in range(1, len(x)):
                if learn[j]:
                    want.append(i * T + j - 1)
                    target.append(x[j])
        yield tuple(torch.from_numpy(np.asarray(a)) for a in (ids, pos, want, target))


def orthogonal(g):
    """Newton-Schulz iteration towards the nearest orthogonal matrix (Keller Jordan's Muon). g [..., r, c]"""
    x = g.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.transpose(-1, -2)
    x = x / (x.float().flatten(-2).norm(dim=-1)[..., None, None] + 1e-7).bfloat16()
    for _ in range(5):
        a = x @ x.transpose(-1, -2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return (x.transpose(-1, -2) if tall else x).float()


class Optimizer:
    """Muon for the matrices, Adam for embeddings, head, router, norms, biases and sinks."""

    def __init__(self, net):
        self.items = []
        for name, p in net.named_parameters():
            muon = net.kind(name) != "F32" and name not in ("embed", "head")
            self.items.append((name, p, muon, {"m": torch.zeros_like(p), "v": None if muon else torch.zeros_like(p)}))
        self.t = 0

    def state(self):
        return {"t": self.t, "items": {n: s for n, _, _, s in self.items}}

    def load(self, state):
        self.t = state["t"]
        for n, _, _, s in self.items:
            s.update(state["items"][n])

    @torch.no_grad()
    def step(self, scale):
        self.t += 1
        total = math.sqrt(sum(p.grad.square().sum().item() for _, p, _, _ in self.items))
        clip = min(1.0, 1.0 / (total + 1e-9))
        for name, p, muon, s in self.items:
            g = p.grad * clip
            if muon:
                s["m"].mul_(0.95).add_(g)
                u = orthogonal(g + 0.95 * s["m"]) * max(1.0, p.shape[-2] / p.shape[-1]) ** 0.5
                p.mul_(1 - 0.02 * MUON_LR * scale).sub_(u, alpha=MUON_LR * scale)
            else:
                s["m"].mul_(0.9).add_(g, alpha=0.1)
                s["v"].mul_(0.98).addcmul_(g, g, value=0.02)
                u = s["m"] / (1 - 0.9 ** self.t) / ((s["v"] / (1 - 0.98 ** self.t)).sqrt() + 1e-8)
                p.sub_(u, alpha=ADAM_LR * scale * (1.0 if p.dim() > 1 else 0.5))
            p.grad = None
        return total


def schedule(at):
    """Learning rate after `at` groups. First leg: a short warm-up, a plateau, down to nothing; second leg: half of it, down again."""
    first = STAGES[-1][0]
    if at >= first:
        return 0.5 * max(0.02, (GROUPS - at) / (GROUPS - first))
    done = at / first
    return min(1.0, done / 0.01 + 0.02) * min(1.0, max(0.01, (1 - done) / 0.5))


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=SEED)
    ap.add_argument("--work", default=os.path.join(ROOT, "build", "house"))
    ap.add_argument("--out", default=os.path.join(ROOT, "models", "oriel-house.gguf"))
    ap.add_argument("--until", type=int, default=0, help="stop after so many groups, export nothing")
    args = ap.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    os.makedirs(args.work, exist_ok=True)
    tok = tokenizer(args.work, args.seed)
    net = M.House(M.SHAPE, args.seed)
    opt = Optimizer(net)
    first, tokens, seconds = 0, 0, 0.0
    path = os.path.join(args.work, "checkpoint.pt")
    if os.path.exists(path):
        saved = torch.load(path)
        net.load_state_dict(saved["net"])
        opt.load(saved["opt"])
        first, tokens, seconds = saved["group"], saved["tokens"], saved["seconds"]
        print("going on after group %d" % first, flush=True)
    for number in range(first, GROUPS):
        if args.until and number >= args.until:
            return
        begin = time.process_time()
        batches = list(group(tok, args.seed, number))
        losses = []
        for i, (ids, pos, want, target) in enumerate(batches):
            net.rounding = number >= ROUNDING_FROM
            logits, balance = net(ids, pos, want)
            loss = F.cross_entropy(logits, target)
            (loss + 0.01 * balance).backward()
            size = opt.step(schedule(number + i / len(batches)))
            losses.append(loss.item())
            tokens += ids.numel()
        seconds += time.process_time() - begin
        print("group %d  loss %.4f  balance %.3f  grad %.2f  %.1f M tokens  %.0f CPU s" % (
            number + 1, sum(losses) / len(losses), balance.item(), size, tokens / 1e6, seconds), flush=True)
        if (number + 1) % 5 == 0 or number + 1 == GROUPS:
            torch.save({"net": net.state_dict(), "opt": opt.state(), "group": number + 1, "tokens": tokens, "seconds": seconds}, path + ".part")
            os.replace(path + ".part", path)
    import export
    export.write(net, tok, args.out)
    import evaluate
    evaluate.main([args.out])


if __name__ == "__main__":
    main()
