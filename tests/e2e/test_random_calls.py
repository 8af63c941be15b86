#!/usr/bin/env python3
"""What models write, read back: real templates render random answers with tool calls (jinja2 does, as transformers
would), and the parser of the template's family must find in that text what was put in, however it is cut. Then the same
texts cut short and damaged, of which only is asked that they are read to the end.

ORIEL_CALLS says how many answers for each template, ORIEL_CALLS_SEED where they begin."""
import collections, json, os, random, sys

from oriel import CORPUS, SANITIZED, Skip, debian_modules, judge, run_all, test

debian_modules("jinja2")
import jinja2
from transformers_jinja import environment

N = int(os.environ.get("ORIEL_CALLS") or 8)
SEED = int(os.environ.get("ORIEL_CALLS_SEED") or 1)
if SANITIZED:
    N = min(N, 6)

# What ends a turn, which the model's text is read without.
ENDS = ["<|im_end|>", "</s>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|end_of_text|>", "<|end_of_turn|>", "<turn|>", "<|return|>", "<|call|>", "<｜end▁of▁sentence｜>", "<seed:eos>", "<|endoftext|>", "[e~[", "<SPECIAL_12>", "<end_of_turn>",
        "<|END_OF_TURN_TOKEN|>", "<|eos|>", "<|role_end|>", "<|message_sep|>", "</assistant>", "<|close|>message<|sep|>", "<|end_of_msg|>", "<|hy_eos|>", "<EOS>", "<|tool_response>"]
STRINGS = ["Paris", "", "日本語 😀", "it's \"so\"", "a\nb", "tab\there", "back\\slash", "{\"a\": 1}", "x < y & z > w", "<b>tag</b>", "line\n\n  indented", "1", "true", "null", "[1, 2]", "naïve — “quoted”", "a, b: c", "𝔘𝔫𝔦", "%s {}", "'single'", "C:\\new\\table", "é" * 30, "```json\n{}\n```", "// no comment", "1.0"]


def value(r, kind, depth=2):
    if kind == "string":
        return r.choice(STRINGS)
    if kind == "integer":
        return r.choice([0, 1, -7, 42, 10 ** 12])
    if kind == "number":
        return r.choice([0.5, -2.25, 3, 1e-5, 1.5e20, 0.1])
    if kind == "boolean":
        return r.random() < 0.5
    if kind == "array":
        return [value(r, r.choice(["string", "integer", "number", "boolean"] + (["array", "object"] if depth else [])), depth - 1) for _ in range(r.randint(0, 3))]
    return {r.choice(["k", "with space", "ключ", "a.b", "x-y", "0"]): value(r, r.choice(["string", "integer", "boolean", "number"] + (["array", "object"] if depth else [])), depth - 1) for _ in range(r.randint(0, 3))}


def tools(r):
    out = []
    for name in r.sample(["get_weather", "add", "search.web", "do-it", "f_1", "Über", "ns__call2"], r.randint(1, 3)):
        if not name.isascii() or "." in name:
            name = r.choice(["plain", "two_words"]) + str(len(out))
        props = {p: {"type": r.choice(["string", "integer", "number", "boolean", "array", "object"]), "description": p} for p in r.sample(["city", "n", "flag", "items", "opts", "text", "x_1"], r.randint(0, 4))}
        out.append({"type": "function", "function": {"name": name, "description": "does " + name, "parameters": {"type": "object", "properties": props, "required": []}}})
    return out


def answer(r, offered):
    calls = []
    for k in range(r.choice([1, 1, 1, 2, 3])):
        f = r.choice(offered)["function"]
        arguments = {p: value(r, s["type"]) for p, s in f["parameters"]["properties"].items() if r.random() < 0.8}
        calls.append({"id": f"call{r.randrange(10 ** 5):05}", "type": "function", "function": {"name": f["name"], "arguments": arguments}})
    m = {"role": "assistant", "content": r.choice(["", "", "Let me see.", "Ich schaue — 日本.", "I'll call <it>.\nNow."])}
    if r.random() < 0.3:
        m["reasoning_content"] = r.choice(["They want the weather.", "hm\n\nwell {\"a\": 1}", "因为"])
    if r.random() < 0.85:
        m["tool_calls"] = calls
    elif not m["content"]:
        m["content"] = "Plain."
    return m


def written(t, question, m, offered):
    """(prompt, what the model wrote after it) or None where the template changes or refuses what it is given."""
    v = {"bos_token": "", "eos_token": "</s>", "tools": offered, "documents": None, "enable_thinking": True, "thinking": True}
    try:
        prompt = t.render(messages=question, add_generation_prompt=True, **v)
        whole = t.render(messages=question + [m], add_generation_prompt=False, **v)
    except Exception:
        return None
    if not whole.startswith(prompt):
        bare = t.render(messages=question, add_generation_prompt=False, **v)
        if not whole.startswith(bare):
            return None
        opened, rest = prompt[len(bare):], whole[len(bare):]
        n = len(os.path.commonprefix([opened, rest]))  # the prompt opened or closed a reasoning that this answer has not
        if not n or opened[n:].strip():
            return None
        prompt, text = bare + opened[:n], rest[n:]
    else:
        text = whole[len(prompt):]
    text = text.rstrip("\n")
    if any(text.count(f) < n for f, n in collections.Counter(c["function"]["name"] for c in m.get("tool_calls", [])).items()):
        return None  # the template does not show them, or not all
    text = next((text[:-len(end)] for end in ENDS if text.endswith(end)), text)
    return None if "<SPECIAL_12>" in text else (prompt, text)  # Nemotron's template makes two turns of it


def same_json(a, b):
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same_json(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same_json, a, b))
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def collect():
    if not CORPUS:
        raise Skip("ORIEL_CORPUS is not set")
    folder, env = os.path.join(CORPUS, "templates/llama.cpp-templates"), environment()
    cases = []
    for name in sorted(os.listdir(folder)):
        if not name.endswith(".jinja"):
            continue
        with open(os.path.join(folder, name), encoding="utf-8") as f:
            source = f.read()
        t = env.from_string(source)
        for i in range(N):
            r = random.Random(f"{SEED} {i}")
            offered = tools(r)
            m = answer(r, offered)
            if name.startswith("LFM2.5-8B") and any(c in json.dumps(m, ensure_ascii=False) for c in "'\\"):
                continue  # it puts quotes around strings without minding those inside
            got = written(t, [{"role": "user", "content": "Well?"}], m, offered)
            if got:
                cases.append((name, m, {"template": source, "prompt": got[0], "text": got[1], "tools": [t["function"] for t in offered]}))
    return cases


@test
def what_templates_write_is_read_back():
    cases = collect()
    bad, tried, good = {}, {}, 0
    for (name, m, case), said in zip(cases, judge("tests/unit/chat/test_read", "ORIEL_READ", [c[2] for c in cases])):
        want = [(c["function"]["name"], c["function"]["arguments"]) for c in m.get("tool_calls", [])]
        try:
            have = [(c["name"], json.loads(c["arguments"])) for c in said["calls"]]
        except ValueError:
            have = [(c["name"], c["arguments"]) for c in said["calls"]]
        ok = len(want) == len(have) and all(w[0] == h[0] and same_json(w[1], h[1]) for w, h in zip(want, have)) and "cut" not in said
        tried.setdefault(said["format"], [0, 0])
        tried[said["format"]][0] += 1
        tried[said["format"]][1] += ok
        good += ok
        if not ok:
            bad.setdefault(name, []).append(f"{name} {said['format']}\n#   wrote {case['text']!r:.700}\n#   want {want!r:.400}\n#   have {have!r:.400}\n#   content {said['content']!r:.200} cut {said.get('cut')}")
    print("# " + ", ".join(f"{f} {g}/{n}" for f, (n, g) in sorted(tried.items())))
    print(f"# {len(cases)} answers, {good} read back")
    for name in bad:
        print(f"# {name}: {len(bad[name])}")
    assert not bad, "\n".join("# " + b[0] for b in list(bad.values())[:25])


@test
def damaged_text_is_read_to_its_end():
    cases = []
    for i, (name, m, case) in enumerate(collect()):
        r = random.Random(f"{SEED} damage {i}")
        text = case["text"]
        for _ in range(3):
            roll, at = r.random(), r.randrange(len(text) + 1)
            if roll < 0.4:
                text = text[:at]
            elif roll < 0.6:
                text = text[:at] + text[at + r.randint(1, 8):]
            elif roll < 0.8:
                text = text[:at] + r.choice(["<", "{", "}", "\"", "\\", "<think>", "</think>", "[", "]", "\u2028", "😀", "\0", ">", "'"]) + text[at:]
            else:
                text = text[:at] + text[r.randrange(len(text) + 1):]
            cases.append(dict(case, text=text))
    cut = [c["text"] for c, said in zip(cases, judge("tests/unit/chat/test_read", "ORIEL_READ", cases)) if "cut" in said]
    print(f"# {len(cases)} damaged texts")
    assert not cut, "\n".join(f"# depends on where it is cut: {t!r:.300}" for t in cut[:10])


run_all()
