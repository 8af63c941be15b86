#!/usr/bin/env python3
"""Trains the house model: tokenizer, data, training, export, evaluation. One command, one seed.

    /usr/bin/python3 tools/house/train.py                      # then models/oriel-house.gguf
    /usr/bin/python3 tools/house/train.py --tokens 40e6         # a longer run; an unfinished one goes on under the new budget
    /usr/bin/python3 tools/house/train.py --until 10            # a trial: ten groups, no file

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
import harmony as H
import heads
import model as M

SEED = 1
TOKENS = 47e6  # learning rate and stages follow the share of this that is done
DOCS_PER_GROUP = 512
ROOM, BATCHES = 2048, 2  # tokens of a batch, whose documents are of one length and so much alike; batches of a step
MAX_LENGTH = 768
EARLY = 0.2  # until here: the early mix of documents, rich in copying, and the full learning rate
CALLS = 0.6  # from here: many calls and choices in a row
AGAIN = 0.93  # from here: everything again, conversation first, which many calls had pushed aside
AIMED = 0.5  # what it counts in the loss where the last layer looks when a call is decided (heads.py)
DECAY = 0.85  # until here half the learning rate, then down to nothing
LOST = 0.12  # share of documents in which thoughts derail
ROUNDING = 0.85  # from here the weights are the file's rounded ones
MUON_LR, ADAM_LR = 0.02, 0.003


def tokenizer(work, seed):
    path = os.path.join(work, "merges.json")
    if not os.path.exists(path):
        rng = random.Random("house-bpe-%d" % seed)
        merges = bpe.train(data.sample_texts(rng), M.SHAPE["vocab"], data.COPIED)
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
    if len(starts) > 2 and rng.random() < 0.1:
        at = starts[1 + int(rng.random() * (len(starts) - 2))]
        pos[at:] += int(rng.random() * (M.SHAPE["context"] - len(ids)))
    return pos


def repeated(tok, rng):
    """Random tokens, then the same again once or twice, of which only that is learned: the purest exercise in looking back."""
    n, times = 8 + int(rng.random() ** 2 * 150), 2 + int(rng.random() * 2)
    ids = [int(rng.random() * tok.n_text) for _ in range(n)]
    return ids * times, [0] * n + [1] * (n * (times - 1))


def lost(tok, document, rng):
    """Now and then a thought derails, as sampling at a high temperature makes it: what is learned is to end it and go on."""
    ids, weight, thought = [], [], None
    for text, want in document:
        x, w = tok.encode_document([(text, want)])
        if thought is not None and text.startswith("<|end|>"):
            keep, junk = int(rng.random() * (len(ids) - thought + 1)), 1 + int(rng.random() ** 2 * 60)
            ids[thought + keep:] = [int(rng.random() * tok.n_text) for _ in range(junk)]
            weight[thought + keep:] = [0] * junk
            thought = None
        ids += x
        weight += w
        if want and text.endswith("analysis<|message|>"):
            thought = len(ids)
    return ids, weight


def encoded(tok, rng, stage):
    document = data.document(rng, stage=stage)
    if not document:
        return *repeated(tok, rng), []
    if rng.random() < LOST:
        return *lost(tok, document, rng), []
    ids, weight = tok.encode_document(document)
    return ids, weight, heads.aims(tok, document, ids) if stage in ("calls", "again") else []


def group(tok, seed, number, stage):
    """Batches of one group, each of similar lengths."""
    rng = random.Random("house-train-%d-%d" % (seed, number))
    docs = []
    while len(docs) < DOCS_PER_GROUP:
        ids, weight, aims = encoded(tok, rng, stage=stage)
        if len(ids) <= MAX_LENGTH:
            docs.append((ids, weight, positions(ids, tok.id_of["<|start|>"], rng), aims))
    docs.sort(key=lambda d: len(d[0]))
    batches, some = [], []
    for d in docs:
        if some and (len(some) + 1) * len(d[0]) > ROOM:
            batches.append(some)
            some = []
        some.append(d)
    batches.append(some)
    rng.shuffle(batches)
    return [(*batch(b), torch.tensor([(i, *aim) for i, d in enumerate(b) for aim in d[3]], dtype=torch.long)) for b in batches]


def batch(docs):
    """(ids, positions, wanted rows, targets, weights)"""
    T = (max(len(d[0]) for d in docs) + 15) // 16 * 16
    ids, pos = np.zeros((len(docs), T), np.int64), np.zeros((len(docs), T), np.int64)
    want, target, weights = [], [], []
    for i, (x, weight, p, *_) in enumerate(docs):
        ids[i, :len(x)] = x
        pos[i] = np.minimum(np.concatenate([p, p[-1] + 1 + np.arange(T - len(x))]), M.SHAPE["context"] - 1)
        for j in range(1, len(x)):
            if weight[j]:
                want.append(i * T + j - 1)
                target.append(x[j])
                weights.append(weight[j])
    return tuple(torch.from_numpy(np.asarray(a)) for a in (ids, pos, want, target, np.float32(weights)))


def probes(tok):
    """Held-out documents to watch the training by: name → batch. The share of documents whose learned tokens all come first."""
    one = (1,)  # the weights of the tokens that count here
    kinds = {"drill": (lambda r: data.drill(r, True), one), "lookup": (lambda r: data.lookups(r, True), (data.NAME_WEIGHT,)),
             "choice": (lambda r: data.tools(r, True, 4, None, "low", False), (data.NAME_WEIGHT,)),
             "call": (lambda r: data.tools(r, True, 1, 1, "low", False), (data.ARGUMENTS_WEIGHT,)), "call2": (lambda r: data.tools(r, True, 1, 2, "low", False), (data.ARGUMENTS_WEIGHT,)),
             "capital": (lambda r: data.conversation(r, True, data.capital, "low"), one), "sum": (lambda r: data.conversation(r, True, data.small_sum, "low"), one),
             "fact": (lambda r: data.conversation(r, True, data.fact, "low"), one)}
    out = {"repeat": batch([(x, w, np.arange(len(x))) for x, w in (repeated(tok, random.Random(i)) for i in range(12))])}
    for name, (draw, counted) in kinds.items():
        docs = []
        for i in range(40):
            x, w = tok.encode_document(draw(random.Random("house-probe-%s-%d" % (name, i))))
            docs.append((x, [1 if v in counted else 0 for v in w], np.arange(len(x))))
        out[name] = batch(docs)
    return out


@torch.no_grad()
def watch(net, probe):
    words = []
    for name, (ids, pos, want, target, _) in probe.items():
        right = net(ids, pos, want)[0].argmax(-1) == target
        row = want // ids.shape[1]
        wrong = set(row[~right].tolist())
        words.append("%s %.2f/%.2f" % (name, right.float().mean(), 1 - len(wrong) / len(ids)))
    return ", ".join(words)


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


def schedule(done, step):
    """Learning rate when that share of the tokens is done: a short warm-up and a plateau, then half of it, then down to nothing."""
    return min(1.0, (step + 1) / 60) if done < EARLY else 0.5 * min(1.0, max(0.01, (1 - done) / (1 - DECAY)))


def stage_of(done):
    return "early" if done < EARLY else "late" if done < CALLS else "calls" if done < AGAIN else "again"


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--seed", type=int, default=SEED)
    ap.add_argument("--work", default=os.path.join(ROOT, "build", "house"))
    ap.add_argument("--out", default=os.path.join(ROOT, "models", "oriel-house.gguf"))
    ap.add_argument("--tokens", type=float, default=TOKENS, help="how long to train")
    ap.add_argument("--until", type=int, default=0, help="stop after so many groups, export nothing")
    args = ap.parse_args()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    os.makedirs(args.work, exist_ok=True)
    tok = tokenizer(args.work, args.seed)
    net = M.House(M.SHAPE, args.seed)
    opt = Optimizer(net)
    number, tokens, seconds, aside = 0, 0, 0.0, False
    path = os.path.join(args.work, "checkpoint.pt")
    if os.path.exists(path):
        saved = torch.load(path)
        net.load_state_dict(saved["net"])
        opt.load(saved["opt"])
        number, tokens, seconds = saved["group"], saved["tokens"], saved["seconds"]
        aside = saved.get("aside", False)
        print("going on after group %d" % number, flush=True)
    probe = probes(tok)
    while tokens < args.tokens:
        if args.until and number >= args.until:
            return
        begin = time.monotonic()
        if not aside and stage_of(tokens / args.tokens) == "calls":
            heads.look_aside(net, opt, tok, args.seed)
            aside = True
        losses, missed, first = [], [], tokens
        batches = group(tok, args.seed, number, stage_of(tokens / args.tokens))
        for at in range(0, len(batches), BATCHES):
            some = batches[at:at + BATCHES]
            done, total = tokens / args.tokens, sum(b[4].sum() for b in some)
            net.rounding = done >= ROUNDING
            for ids, pos, want, target, weight, aim in some:
                logits, balance = net(ids, pos, want, aim)
                loss = (F.cross_entropy(logits, target, reduction="none") * weight).sum() / total
                aimed = loss if net.missed is None else loss + AIMED / len(some) * net.missed
                missed.append(0 if net.missed is None else net.missed.item())
                (aimed + 0.01 / len(some) * balance).backward()
                losses.append(loss.item())
                tokens += ids.numel()
            size = opt.step(schedule(done, opt.t))
        seconds += time.monotonic() - begin
        number += 1
        last = tokens >= args.tokens
        print("group %d  loss %.4f  missed %.2f  balance %.3f  grad %.2f  %.2f M tokens  %.0f s  %.0f tokens/s%s" % (
            number, sum(losses) / len(losses) * BATCHES, sum(missed) / max(1, len([m for m in missed if m])), balance.item(), size, tokens / 1e6, seconds, (tokens - first) / (time.monotonic() - begin),
            "  " + watch(net, probe) if number % 4 == 0 or last else ""), flush=True)
        if number % 4 == 0 or last:
            torch.save({"net": net.state_dict(), "opt": opt.state(), "group": number, "tokens": tokens, "seconds": seconds, "aside": aside}, path + ".part")
            os.replace(path + ".part", path)
    import export
    export.write(net, tok, args.out)
    import evaluate
    if os.path.exists(evaluate.ORIEL):
        evaluate.main([args.out])


if __name__ == "__main__":
    main()
