#!/usr/bin/env python3
"""Scores the shipped GGUF on held-out prompts: wordings, names, functions and arguments training never saw.

    tools/house/evaluate.py [models/oriel-house.gguf] [--n 64] [--json scores.json]

Every answer comes from the oriel program and the file itself. Greedy unless said otherwise.
"""
import argparse
import json
import math
import os
import random
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.path[:0] = [HERE, os.path.join(ROOT, "tools", "ref")]

import bpe
import data
import gguf
import harmony as H
import stories
from words import *

ORIEL = os.path.join(os.environ.get("ORIEL_BUILD", os.path.join(ROOT, "build", "release")), "oriel")


class Runner:
    def __init__(self, path):
        self.path = path
        meta = gguf.Reader(path).meta
        self.tok = bpe.Tokenizer([m.split(" ") for m in meta["tokenizer.ggml.merges"]])

    def oriel(self, *args, stdin=""):
        p = subprocess.run([ORIEL, *map(str, args), "--model", self.path, "--threads", "1", "--json"], input=stdin.encode(), stdout=subprocess.PIPE, check=True)
        return json.loads(p.stdout)

    def text(self, prompt, max_new=220, temperature=0.0, seed=1):
        """What the model says after a prompt in which special tokens are written out."""
        ids = ",".join(map(str, self.tok.encode(prompt)))
        return self.tok.decode(self.oriel("generate", "--prompt-ids", ids, "--max-tokens", max_new, "--temperature", temperature, "--seed", seed)["token_ids"])

    def texts(self, prompts, max_new=220, temperature=0.0, seed=1):
        return [self.text(p, max_new, temperature, seed + i) for i, p in enumerate(prompts)]


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
    return isinstance(parts(got), str) and "I can " in parts(got) and all(x in KNOWN_SENTENCE for x in sentences(parts(got))[:1])


def is_tale(got, want, prompt):
    return isinstance(parts(got), str) and len(parts(got)) >= 120 and parts(got)[-1] in ".\""


def sentences(text):
    return re.findall(r"[^.!?]+[.!?]+", text)


def question_of(prompt):
    return prompt.split("<|start|>user<|message|>")[-1].split("<|end|>")[0]


def wordings(skill, n=6000):
    """question → every sentence the generator answers it with"""
    rng, out = random.Random(1), {}
    for i in range(n):
        q, _, a = skill(rng, i % 2 == 0)
        out.setdefault(q, set()).update(x.strip() for x in sentences(a))
    return out


GREETED = wordings(data.greet)
KNOWN_SENTENCE = {x for _ in [0] for many in wordings(data.anything, 3000).values() for x in many}


def greets(got, want, prompt):
    """A free-form answer is right when each of its sentences is one of the wordings for this question; a name must be repeated."""
    if not isinstance(parts(got), str):
        return False
    name = re.search(r", ([A-Z][a-z]+)!", parts(want))
    if name:
        return name[1] + "!" in parts(got)
    known = GREETED.get(question_of(prompt), set())
    return bool(sentences(parts(got))) and all(x.strip() in known for x in sentences(parts(got)))


def uses_result(got, want, prompt):
    """Every value the tool returned stands in the answer."""
    if not isinstance(parts(got), str):
        return False
    text = prompt.split("<|channel|>commentary<|message|>")[-1].split("<|end|>")[0]
    if text.lower().startswith("error: "):
        text = text[7:]
    try:
        value = json.loads(text)
        if isinstance(value, str):
            value = json.loads(value)
        values = list(value.values()) if isinstance(value, dict) else [value]
    except ValueError:
        values = [text.strip('"')]
    return all(str(v) in parts(got) for v in values)


def right_function(got, want, prompt):
    return isinstance(parts(got), tuple) and parts(got)[0] == parts(want)[0]


def one(f):
    return lambda rng: data.conversation(rng, held=True, only=f)


def weather(rng):
    """What everybody tries first, for a city nobody has heard of."""
    while True:
        t = data.Tool(rng, True, natural=data.NATURAL)
        if "weather" in t.name:
            return data.preamble(rng, "medium", [t.spec]) + H.user(t.question) + H.call("", t.name, t.arguments)


def no_call(rng):
    """Functions are declared, but the question needs none."""
    q, _, a = data.pick(rng, [data.greet, data.capital])(rng, True)
    specs = [data.Tool(rng, True).spec for _ in range(2)]
    return data.preamble(rng, "medium", specs) + H.user(q) + H.answer("", a)


SKILLS = {
    "greeting": (one(data.greet), greets), "capital": (one(data.capital), same), "fact": (one(data.fact), same),
    "arithmetic": (one(data.small_sum), same), "count": (one(data.count), same), "repeat": (one(data.echo), same), "recall": (one(data.recall), same),
    "JSON": (one(data.as_json), same), "tale": (one(data.tale), is_tale), "anything else": (one(data.anything), says_what_it_can),
    "call with one argument": (lambda rng: data.tools(rng, True, 1, 1, round_trip=False), same),
    "call with two arguments": (lambda rng: data.tools(rng, True, 1, 2, round_trip=False), same),
    "call for the weather": (weather, same),
    "choice of four functions": (lambda rng: data.tools(rng, True, 4, round_trip=False), right_function),
    "choice and arguments": (lambda rng: data.tools(rng, True, 4, round_trip=False), same),
    "no call needed": (no_call, lambda got, want, prompt: greets(got, want, prompt) or same(got, want, prompt)),
    "answer from a result": (lambda rng: data.tools(rng, True, 1, round_trip=True), uses_result),
}


def split(document):
    """The prompt, and what should follow."""
    at = max(i for i, (text, _) in enumerate(document) if text.endswith("<|start|>assistant")) + 1
    return "".join(t for t, _ in document[:at]), "".join(t for t, _ in document[at:])


def distinct_4(text):
    w = text.split()
    grams = [tuple(w[i:i + 4]) for i in range(len(w) - 3)]
    return len(set(grams)) / max(1, len(grams))


def plain_text(run, show):
    tales = run.texts(["Once upon a time"] * 16, 200, temperature=0.8, seed=5)
    show("stories: distinct 4-grams", sum(map(distinct_4, tales)) / len(tales))
    rng = random.Random("house-eval-raw")
    nll = [run.oriel("score", stdin=stories.story(rng, stories.pick(rng, ANIMALS)))["nll"] for _ in range(40)]
    show("stories: perplexity", math.exp(sum(map(sum, nll)) / sum(map(len, nll))))
    print("story: Once upon a time" + tales[0])


def main(argv=None):
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("model", nargs="?", default=os.path.join(ROOT, "models", "oriel-house.gguf"))
    ap.add_argument("--n", type=int, default=64, help="prompts for each skill")
    ap.add_argument("--json")
    ap.add_argument("--only", help="comma-separated skills; the rest is left out")
    ap.add_argument("--misses", type=int, default=0, help="show so many wrong answers of each skill")
    args = ap.parse_args(argv)
    run = Runner(args.model)
    scores, every, formed = {}, [], 0

    def show(name, value):
        scores[name] = round(value, 4)
        print("%-30s %.3f" % (name, value), flush=True)

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
    if every:
        show("well-formed at 0", formed / len(every))
        some = random.Random(3).sample(every, min(len(every), 4 * args.n))
        show("well-formed at 1", sum(map(well_formed, run.texts(some, temperature=1.0))) / len(some))
    if asked("France at 1"):
        prompt = "".join(t for t, _ in H.system(date="2026-03-04") + H.user("What is the capital of France?")) + "<|start|>assistant"
        got = run.texts([prompt] * 4 * args.n, 120, temperature=1.0)
        show("France at 1", sum("Paris" in str(parts(g)) for g in got) / len(got))
        show("France at 2, different", len({g[:60] for g in run.texts([prompt] * 16, 120, temperature=2.0)}) / 16)
    if wanted is None:
        plain_text(run, show)
    if args.json:
        with open(args.json, "w") as f:
            json.dump(scores, f, indent=1)
    return scores


if __name__ == "__main__":
    main()
