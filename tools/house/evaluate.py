#!/usr/bin/env python3
"""Scores the shipped GGUF on held-out prompts: wordings, names, functions and arguments training never saw.

    tools/house/evaluate.py [models/oriel-house.gguf] [--n 64] [--json scores.json]

The weights are the file's rounded ones, the arithmetic float32. Greedy unless said otherwise.
"""
import argparse
import json
import math
import os
import random
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "tools", "ref")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F

import data
import export
import harmony as H
import model as M
import stories
from words import *

STOPS = ["<|return|>", "<|call|>", "<|endoftext|>"]


class Runner:
    """Token by token with a KV cache, many sequences side by side, all at the same position."""

    def __init__(self, net, tok):
        self.net, self.tok, self.s = net, tok, net.shape
        self.stops = {tok.id_of[t] for t in STOPS}

    def attention(self, b, x, at, i):
        s, B = self.s, len(x)
        h = M.norm(x, b.attn_norm, s["eps"])
        cos, sin = self.net.cos[at], self.net.sin[at]
        proj = lambda w, bias: F.linear(h, w, bias).view(B, -1, s["head_dim"])
        q = self.net.rotate(proj(b.q, b.qb), cos, sin) * s["head_dim"] ** -0.5
        self.k[i][:, at] = self.net.rotate(proj(b.k, b.kb), cos, sin)
        self.v[i][:, at] = proj(b.v, b.vb)
        first = max(0, at - s["window"] + 1) if i % 2 == 0 else 0
        k, v = self.k[i][:, first:at + 1], self.v[i][:, first:at + 1]
        q = q.view(B, s["kv_heads"], -1, s["head_dim"])
        a = torch.einsum("bghd,btgd->bght", q, k)
        sink = b.sinks.view(1, s["kv_heads"], -1, 1).expand(B, -1, -1, 1)
        a = torch.softmax(torch.cat((a, sink), -1), -1)[..., :-1]
        return F.linear(torch.einsum("bght,btgd->bghd", a, v).reshape(B, -1), b.o, b.ob)

    def step(self, ids, at):
        x = self.net.embed[ids]
        for i, b in enumerate(self.net.blocks):
            x = x + self.attention(b, x, at, i)
            x = x + self.net.mlp(b, x)[0]
        return F.linear(M.norm(x, self.net.out_norm, self.s["eps"]), self.net.head)

    @torch.no_grad()
    def generate(self, prompts, max_new, temperature=0.0, seed=1):
        """Lists of new ids, the stop token included."""
        B, room = len(prompts), max(map(len, prompts)) + max_new
        size = (self.s["layers"], B, room, self.s["kv_heads"], self.s["head_dim"])
        self.k, self.v = torch.zeros(size), torch.zeros(size)
        rng = torch.Generator().manual_seed(seed)
        out = [[] for _ in prompts]
        open_ = set(range(B))
        feed = [p[0] for p in prompts]
        for at in range(room - 1):
            logits = self.step(torch.tensor(feed), at)
            best = logits.argmax(-1) if temperature == 0 else torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=rng)[:, 0]
            for j in range(B):
                if at + 1 < len(prompts[j]):
                    feed[j] = prompts[j][at + 1]
                elif j in open_:
                    feed[j] = int(best[j])
                    out[j].append(feed[j])
                    if feed[j] in self.stops or len(out[j]) >= max_new:
                        open_.discard(j)
            if not open_:
                break
        return out

    def texts(self, prompts, max_new=220, temperature=0.0, seed=1, batch=64):
        """Continuations of prompt texts; similar lengths run together."""
        ids = [self.tok.encode(p) for p in prompts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = [None] * len(ids)
        for a in range(0, len(order), batch):
            some = order[a:a + batch]
            for i, new in zip(some, self.generate([ids[i] for i in some], max_new, temperature, seed)):
                out[i] = self.tok.decode(new)
        return out


ANSWER = re.compile(r"<\|channel\|>analysis<\|message\|>([^<]*)<\|end\|><\|start\|>assistant<\|channel\|>final<\|message\|>(.*)<\|return\|>", re.S)
CALL = re.compile(r"<\|channel\|>analysis<\|message\|>([^<]*)<\|end\|><\|start\|>assistant<\|channel\|>commentary to=functions\.([\w.-]+)"
                  r" <\|constrain\|>json<\|message\|>(.*)<\|call\|>", re.S)


def well_formed(text):
    m = CALL.fullmatch(text)
    if m:
        try:
            return isinstance(json.loads(m[3]), dict)
        except ValueError:
            return False
    m = ANSWER.fullmatch(text)
    return bool(m and m[2].strip() and "<|" not in m[2])


def parts(text):
    """What counts: the final answer, or the function and its arguments."""
    m = CALL.fullmatch(text)
    if m:
        try:
            return m[2], json.loads(m[3])
        except ValueError:
            return m[2], None
    m = ANSWER.fullmatch(text)
    return m[2] if m else None


def same(got, want, prompt):
    return parts(got) is not None and parts(got) == parts(want)


def says_what_it_can(got, want, prompt):
    return isinstance(parts(got), str) and len(parts(got)) >= 20 and parts(got) in data.ABOUT.values()


def is_tale(got, want, prompt):
    return isinstance(parts(got), str) and len(parts(got)) >= 120 and parts(got)[-1] in ".\""


def greets(got, want, prompt):
    """Any hello will do for a hello; names and other small talk are exact."""
    return same(got, want, prompt) or parts(want) in data.HELLO and parts(got) in data.HELLO


def right_function(got, want, prompt):
    return isinstance(parts(got), tuple) and parts(got)[0] == parts(want)[0]


def one(f):
    return lambda rng: data.conversation(rng, held=True, only=f)


SKILLS = {
    "greeting": (one(data.greet), greets), "capital": (one(data.capital), same), "fact": (one(data.fact), same),
    "arithmetic": (one(data.arithmetic), same), "count": (one(data.count), same), "repeat": (one(data.echo), same),
    "tale": (one(data.tale), is_tale), "anything else": (one(data.anything), says_what_it_can),
    "call, one argument": (lambda rng: data.tools(rng, True, 1, 1, round_trip=False), same),
    "call, two arguments": (lambda rng: data.tools(rng, True, 1, 2, round_trip=False), same),
    "choice of three functions": (lambda rng: data.tools(rng, True, 3, round_trip=False), right_function),
    "answer from a result": (lambda rng: data.tools(rng, True, 1, round_trip=True), same),
}


def split(document):
    """The prompt, and what should follow."""
    return "".join(t for t, _ in document[:-1]), document[-1][0]


def distinct_4(text):
    w = text.split()
    grams = [tuple(w[i:i + 4]) for i in range(len(w) - 3)]
    return len(set(grams)) / max(1, len(grams))


@torch.no_grad()
def perplexity(net, tok, n):
    rng, total, count = random.Random("house-eval-raw"), 0.0, 0
    for _ in range(n):
        ids = tok.encode(stories.story(rng, stories.pick(rng, ANIMALS)) + "<|endoftext|>")
        x = torch.tensor([ids])
        logits, _ = net(x, torch.arange(len(ids))[None])
        total += F.cross_entropy(logits[:-1], x[0, 1:], reduction="sum").item()
        count += len(ids) - 1
    return math.exp(total / count)


def plain_text(run, net, tok, show):
    tales = run.texts(["Once upon a time"] * 16, 200, temperature=0.8, seed=5)
    show("stories: distinct 4-grams", sum(map(distinct_4, tales)) / len(tales))
    show("stories: perplexity", perplexity(net, tok, 60))
    print("story: Once upon a time" + tales[0])


def main(argv=None):
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("model", nargs="?", default=os.path.join(ROOT, "models", "oriel-house.gguf"))
    ap.add_argument("--n", type=int, default=64, help="prompts for each skill")
    ap.add_argument("--json")
    ap.add_argument("--only", help="comma-separated skills; the rest is left out")
    ap.add_argument("--misses", type=int, default=0, help="show so many wrong answers of each skill")
    args = ap.parse_args(argv)
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    net, tok = export.read(args.model)
    run = Runner(net, tok)
    scores, every, formed = {}, [], 0

    def show(name, value):
        scores[name] = round(value, 4)
        print("%-28s %.3f" % (name, value), flush=True)

    wanted = args.only.split(",") if args.only else None
    asked = lambda name: wanted is None or name in wanted
    for name, (draw, good) in SKILLS.items():
        if not asked(name):
            continue
        rng = random.Random("house-eval-" + name)
        cases = [split(draw(rng)) for _ in range(args.n)]
        got = run.texts([p for p, _ in cases])
        hits = [good(g, w, p) for g, (p, w) in zip(got, cases)]
        show(name, sum(hits) / len(hits))
        formed += sum(map(well_formed, got))
        every += [p for p, _ in cases]
        for g, (p, w) in [x for x, h in zip(zip(got, cases), hits) if not h][:args.misses]:
            print("    asked  %r\n    wanted %r\n    got    %r" % (p.split("<|start|>user<|message|>")[-1][:200], w, g))
    if asked("all capitals"):
        prompts = ["".join(t for t, _ in H.system(date="2026-03-04") + H.user("What is the capital of %s?" % c)) + "<|start|>assistant" for c in data.COUNTRIES]
        got = run.texts(prompts, 60)
        wrong = [c for c, g in zip(data.COUNTRIES, got) if not (isinstance(parts(g), str) and CAPITALS[c] in parts(g))]
        show("all capitals", 1 - len(wrong) / len(got))
        if wrong:
            print("    wrong: " + ", ".join(wrong))
    show("well-formed at 0", formed / len(every))
    some = random.Random(3).sample(every, min(len(every), 2 * args.n))
    show("well-formed at 1", sum(map(well_formed, run.texts(some, temperature=1.0))) / len(some))
    if wanted is None:
        plain_text(run, net, tok, show)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(scores, f, indent=1)
    return scores


if __name__ == "__main__":
    main()
