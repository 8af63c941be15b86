#!/usr/bin/env python3
"""The house model's file: shape and metadata, the tokenizer rebuilt from the seed, the template against the training
renderer, torch against the float64 reference, and the scores its card promises. Prints TAP."""
import json
import os
import random
import sys


def debian_python():
    """Another Python may stand first in PATH; Debian's has numpy and torch."""
    if os.path.exists("/usr/bin/python3") and os.path.realpath(sys.executable) != os.path.realpath("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3"] + sys.argv)


os.environ.setdefault("OMP_NUM_THREADS", "1")
try:
    import numpy as np
except ImportError:
    debian_python()
    print("1..1\nok 1 - house model # SKIP numpy is not installed")
    sys.exit(0)
try:
    import torch
except ImportError:
    debian_python()
    torch = None
try:
    import jinja2.sandbox
except ImportError:
    jinja2 = None

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path[:0] = [os.path.join(ROOT, "tools", "house"), os.path.join(ROOT, "tools", "ref")]
import bpe
import data
import forward
import gguf
import harmony as H

MODEL = os.path.join(ROOT, "models", "oriel-house.gguf")
# What was wanted of the model, at 100 prompts a skill, and beside it what the card promises, with room for 16.
WANTED = {"capital": 0.9, "fact": 0.9, "arithmetic": 0.8, "call with one argument": 0.9, "call with two arguments": 0.85, "choice of four functions": 0.85,
          "well-formed at 0": 0.985, "well-formed at 1": 0.97}  # the card's 0.99 is of all skills
BOUNDS = {"greeting": 0.75, "count": 0.9, "repeat": 0.8, "recall": 0.8, "tale": 0.9, "anything else": 0.8, "call for the weather": 0.65, "no call needed": 0.8,
          "answer from a result": 0.85, "all capitals": 0.97, "well-formed at 0": 0.97, "well-formed at 1": 0.95}
number = failed = 0


def check(good, name, detail=""):
    global number, failed
    number += 1
    failed += not good
    print("%sok %d - %s%s" % ("" if good else "not ", number, name, " (%s)" % detail if detail else ""), flush=True)


def skip(name, why):
    global number
    number += 1
    print("ok %d - %s # SKIP %s" % (number, name, why))


def the_file(r):
    m = r.meta
    check(os.path.getsize(MODEL) <= 8 << 20, "at most 8 MiB", "%d bytes" % os.path.getsize(MODEL))
    check(m["general.architecture"] == "gpt-oss" and m["general.name"] == "oriel-house" and m["general.license"] == "MIT", "name and licence")
    check(m["gpt-oss.context_length"] >= 4096 and len(m["tokenizer.ggml.tokens"]) >= 1024, "context and vocabulary")
    yarn = m["gpt-oss.rope.scaling.factor"] * m["gpt-oss.rope.scaling.original_context_length"]
    check(yarn == m["gpt-oss.context_length"] and m["gpt-oss.rope.scaling.type"] == "yarn", "YaRN reaches the context length")
    tokens = m["tokenizer.ggml.tokens"]
    check(all(m["tokenizer.ggml.token_type"][tokens.index(t)] == 3 for t in bpe.SPECIALS), "harmony's special tokens are control tokens")
    check(tokens[m["tokenizer.ggml.eos_token_id"]] == "<|return|>", "the end is <|return|>")
    matrices = {n: t for n, t in r.tensors.items() if n.endswith(".weight") and len(t[1]) > 1}
    check(all(t[1][-1] % 32 == 0 for t in matrices.values()), "rows are whole blocks of 32")
    check(all(t[0] == ("MXFP4" if "_exps" in n else "F32" if "ffn_gate_inp" in n else "Q8_0") for n, t in matrices.items()), "experts MXFP4, the rest Q8_0")
    check(all(np.isfinite(r.array(n)).all() for n in r.tensors), "every weight is finite")


def the_tokenizer(r):
    merges = bpe.train(data.sample_texts(random.Random("house-bpe-1")), len(r.meta["tokenizer.ggml.tokens"]), data.COPIED)
    check([" ".join(m) for m in merges] == r.meta["tokenizer.ggml.merges"], "generator and tokenizer come out the same from the seed")
    tok = bpe.Tokenizer(merges)
    check(tok.tokens == r.meta["tokenizer.ggml.tokens"], "the file's tokens")
    rng = random.Random(9)
    texts = ["".join(t for t, _ in data.document(rng, held=True) or []) for _ in range(200)] + ["", "\n\n x\r\n", "é漢🙂\u2028 don't I'LL 12345", "a" * 400]
    check(all(tok.decode(tok.encode(t)) == t for t in texts), "text survives encoding and decoding")
    rng = random.Random(3)
    words = [data.cap(data.made_up(rng, True)) for _ in range(300)]
    alike = all(tok.encode(" " + w)[-len(tok.encode(w)):] == tok.encode(w) == tok.encode('":"' + w)[1:] for w in words)
    check(alike, "a name has the same tokens after a space and in a call")


def the_template(r):
    if jinja2 is None:
        return skip("chat template", "jinja2 is not installed")
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    env.filters["tojson"] = lambda x, **_: json.dumps(x, ensure_ascii=False)
    template = env.from_string(r.meta["tokenizer.chat_template"])
    text = lambda pieces: "".join(t for t, _ in pieces)
    call = lambda name, arguments: {"id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
    rng = random.Random(4)
    tool = data.Tool(rng, True, 2)
    more = [data.Tool(rng, False, n) for n in (0, None, 2)] + [data.Tool(rng, False, natural=data.NATURAL) for _ in range(30)]
    system = lambda **k: H.system(date="2026-03-04", **k)
    user = lambda t: {"role": "user", "content": t}
    cases = [
        ("a question", dict(messages=[user("Hi")]), system() + H.user("Hi")),
        ("instructions and effort", dict(messages=[{"role": "system", "content": "Be brief."}, user("Hi")], reasoning_effort="low"),
         system(effort="low") + H.developer("Be brief.", []) + H.user("Hi")),
        ("an earlier turn", dict(messages=[user("Hi"), {"role": "assistant", "content": "Hello!", "thinking": "A greeting."}, user("Bye")]),
         system() + H.user("Hi") + H.past_answer("Hello!") + H.user("Bye")),
        ("tools", dict(messages=[{"role": "developer", "content": "Be kind."}, user("x")], tools=[{"type": "function", "function": tool.spec}]),
         system(tools=True) + H.developer("Be kind.", [tool.spec]) + H.user("x")),
        ("many tools", dict(messages=[user("x")], tools=[{"type": "function", "function": t.spec} for t in more]), system(tools=True) + H.developer(None, [t.spec for t in more]) + H.user("x")),
        ("an open tool loop", dict(messages=[user("x"), {"role": "assistant", "content": None, "thinking": "I call it.", "tool_calls": [call(tool.name, tool.arguments)]},
                                             {"role": "tool", "tool_call_id": "c1", "content": "42"}], tools=[tool.spec]),
         system(tools=True) + H.developer(None, [tool.spec]) + H.user("x") + H.past_call("I call it.", tool.name, tool.arguments, 1) + H.tool_result(tool.name, "42")),
    ]
    for name, request, want in cases:
        got = template.render(add_generation_prompt=True, strftime_now=lambda f: "2026-03-04", **request)
        check(got == text(want) + "<|start|>assistant", "template: " + name)


def the_arithmetic():
    if torch is None:
        return skip("torch", "it is not installed")
    import export
    net, tok = export.read(MODEL)
    ids = tok.encode("".join(t for t, _ in data.tools(random.Random(8), True)))
    with torch.no_grad():
        got, _ = net(torch.tensor([ids]), torch.arange(len(ids))[None])
    worst = float(np.abs(got.numpy() - forward.Model(MODEL).logits(ids)).max())
    check(worst < 1e-3, "torch agrees with the float64 reference", "worst %.2g" % worst)


def the_scores(bounds, n):
    import evaluate
    sys.stdout, out = sys.stderr, sys.stdout
    few = "san" in evaluate.ORIEL  # a sanitized build takes its time: six prompts a skill, of which one more may go wrong
    try:
        scores = evaluate.main([MODEL, "--n", str(6 if few else n), "--only", ",".join(bounds)])
    finally:
        sys.stdout = out
    for name, bound in bounds.items():
        if few and name.startswith("well-formed") and bounds is WANTED:
            continue  # of these few prompts one is more than the bound leaves; BOUNDS has more of them
        if few and not name.startswith(("all ", "well-formed")):  # those count more prompts
            bound -= 1 / 6
        check(scores[name] >= bound, "%s at least %.2f" % (name, bound), "%.3f" % scores[name])


reader = gguf.Reader(MODEL)
the_file(reader)
the_tokenizer(reader)
the_template(reader)
the_arithmetic()
the_scores(WANTED, 100)
the_scores(BOUNDS, 16)
print("1..%d" % number)
sys.exit(1 if failed else 0)
