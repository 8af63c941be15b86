#!/usr/bin/env python3
"""Every door runs the one turn: the same request, configuration and seed give
the same token ids through the command line, HTTP whole and HTTP streamed."""
import glob, json, os, random, tempfile

from oriel import SANITIZED, Server, run_all, run_json, test

WORDS = "tell me about the sea a dog capital of France Japan hello what can you do story red opposite three and four".split()


def requests(n):
    rnd = random.Random(20)
    for i in range(n):
        yield {
            "prompt": " ".join(rnd.choice(WORDS) for _ in range(rnd.randint(1, 12))),
            "seed": rnd.randrange(1 << 40),
            "temperature": rnd.choice([0, 0.7, 1, 1.5]),
            "top_p": rnd.choice([1, 0.9]),
            "top_k": rnd.choice([0, 20]),
            "max_tokens": rnd.randint(1, 40),
        }


def ids_of(debug_dir, before):
    new = sorted(set(glob.glob(os.path.join(debug_dir, "*ids.json"))) - before)
    assert len(new) == 1, new
    before.update(new)
    return json.load(open(new[0]))


@test
def two_hundred_requests_through_three_doors():
    n = 200 if not SANITIZED else 20
    with tempfile.TemporaryDirectory() as d, Server("--debug", d, "--parallel", 2) as s:
        seen = set()
        for i, q in enumerate(requests(n)):
            cli = run_json("generate", "--prompt", q["prompt"], "--seed", q["seed"], "--temperature", q["temperature"], "--top-p", q["top_p"],
                           "--top-k", q["top_k"], "--max-tokens", q["max_tokens"], "--threads", 1 + i % 2)
            body = {"model": "default", "messages": [{"role": "user", "content": q["prompt"]}], "max_completion_tokens": q["max_tokens"],
                    **{k: q[k] for k in ("seed", "temperature", "top_p", "top_k")}}
            whole = s.post("/v1/chat/completions", body)
            a = ids_of(d, seen)
            chunks = s.stream("/v1/chat/completions", body)
            b = ids_of(d, seen)
            assert a == b, f"request {i}: whole and streamed differ"
            assert a["token_ids"] == cli["token_ids"] and a["prompt_ids"] == cli["prompt_ids"], f"request {i}: CLI and HTTP differ: {q}"
            m = whole["choices"][0]["message"]
            assert (m["content"] or "") == cli["text"]
            assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == cli["text"]
            assert m.get("reasoning", "") == cli.get("reasoning", "")


run_all()
