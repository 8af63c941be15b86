#!/usr/bin/env python3
"""Tool calling over HTTP with the built-in model, which is no good at tools: what
it calls is right because it can write nothing else."""
import json, os, re, sys, tempfile

from oriel import ROOT, Server, Skip, need_corpus, run_all, test

CHAT = "/v1/chat/completions"


def fn(name, properties=None, required=None, strict=None, **more):
    f = {"name": name, "description": f"The function {name}."}
    if properties is not None:
        f["parameters"] = {"type": "object", "properties": properties, "required": list(properties) if required is None else required,
                           "additionalProperties": False, **more}
    if strict is not None:
        f["strict"] = strict
    return {"type": "function", "function": f}


WEATHER = fn("get_weather", {"city": {"type": "string", "enum": ["Paris", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}})
ADD = fn("add", {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "b": {"type": "integer", "minimum": 0, "maximum": 99}})
PING = {"type": "function", "function": {"name": "ping"}}


def body(**more):
    b = {"model": "default", "messages": [{"role": "user", "content": "What is the weather in Oslo?"}], "max_completion_tokens": 600, "seed": 7}
    b.update(more)
    return b


def check(call, *allowed):
    assert call["type"] == "function" and call["id"], call
    name, args = call["function"]["name"], json.loads(call["function"]["arguments"])
    assert name in allowed, name
    if name == "get_weather":
        assert set(args) == {"city", "days"} and args["city"] in ("Paris", "Oslo") and 1 <= args["days"] <= 7, args
    if name == "add":
        assert set(args) == {"a", "b"} and all(isinstance(v, int) and 0 <= v <= 99 for v in args.values()), args
    if name == "ping":
        assert args == {}, args
    return name, args


def only_call(answer, finish="tool_calls"):
    c = answer["choices"][0]
    assert c["finish_reason"] == finish, c
    assert len(c["message"]["tool_calls"]) == 1 and not c["message"]["content"], c["message"]
    return c["message"]["tool_calls"][0]


@test
def forced_calls_are_valid():
    with Server() as s:
        for seed in range(6):
            for temperature in (0, 1, 2):
                a = s.post(CHAT, body(tools=[WEATHER, ADD, PING], tool_choice="required", seed=seed, temperature=temperature))
                check(only_call(a), "get_weather", "add", "ping")
        named = {"type": "function", "function": {"name": "add"}}
        check(only_call(s.post(CHAT, body(tools=[WEATHER, ADD], tool_choice=named))), "add")
        allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "ping"}}]}}
        check(only_call(s.post(CHAT, body(tools=[WEATHER, ADD, PING], tool_choice=allowed))), "ping")
        several = s.post(CHAT, body(tools=[WEATHER, ADD], tool_choice="required", n=3))
        assert len(several["choices"]) == 3
        for c in several["choices"]:
            check(c["message"]["tool_calls"][0], "get_weather", "add")


@test
def schemas_of_every_kind():
    kinds = {
        "nested": ({"seat": {"type": "object", "properties": {"row": {"type": "integer", "minimum": 1, "maximum": 30}, "letter": {"enum": ["A", "B"]}},
                             "required": ["row", "letter"], "additionalProperties": False}},
                   lambda a: 1 <= a["seat"]["row"] <= 30 and a["seat"]["letter"] in "AB"),
        "union": ({"to": {"anyOf": [{"const": "eco"}, {"type": "null"}]}}, lambda a: a["to"] in ("eco", None)),
        "list": ({"xs": {"type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 3}},
                 lambda a: 1 <= len(a["xs"]) <= 3 and all(isinstance(x, bool) for x in a["xs"])),
        "pattern": ({"code": {"type": "string", "pattern": "^[A-Z]{2}-[0-9]{3}$"}}, lambda a: re.fullmatch("[A-Z]{2}-[0-9]{3}", a["code"])),
        "reference": ({"p": {"$ref": "#/$defs/point"}}, lambda a: set(a["p"]) == {"x"} and a["p"]["x"] in (1, 2)),
    }
    with Server() as s:
        for strict in (True, False):
            for name, (properties, holds) in kinds.items():
                more = {"$defs": {"point": {"type": "object", "properties": {"x": {"enum": [1, 2]}}, "required": ["x"], "additionalProperties": False}}}
                tool = fn("book", properties, strict=strict, **(more if name == "reference" else {}))
                call = only_call(s.post(CHAT, body(tools=[tool], tool_choice="required", temperature=1.5)))
                args = json.loads(call["function"]["arguments"])
                assert set(args) == set(properties) and holds(args), (name, args)


def assemble(events):
    calls, finish, content, reasoning = {}, None, "", ""
    for e in events:
        for c in e["choices"]:
            d = c["delta"]
            content += d.get("content") or ""
            reasoning += d.get("reasoning_content") or ""
            finish = c["finish_reason"] or finish
            for t in d.get("tool_calls", []):
                kind = "custom" if t["index"] in calls and calls[t["index"]]["type"] == "custom" or t.get("type") == "custom" else "function"
                text = "input" if kind == "custom" else "arguments"
                if "id" in t:
                    assert t["index"] == len(calls), t
                    calls[t["index"]] = {"id": t["id"], "type": t["type"], kind: {"name": t[kind]["name"], text: ""}}
                calls[t["index"]][kind][text] += t[kind].get(text, "")
    return list(calls.values()), finish, content, reasoning


@test
def streams_say_the_same():
    with Server() as s:
        q = body(tools=[WEATHER, ADD], tool_choice="required", temperature=0)
        whole = s.post(CHAT, q)["choices"][0]
        events = s.stream(CHAT, dict(q, stream=True))
        calls, finish, content, reasoning = assemble(events)
        assert finish == "tool_calls" and not content
        assert len(calls) == 1
        check(calls[0], "get_weather", "add")
        assert calls[0]["function"] == whole["message"]["tool_calls"][0]["function"]
        assert reasoning == whole["message"].get("reasoning_content", "")
        pieces = [t for e in events for c in e["choices"] for t in c["delta"].get("tool_calls", [])]
        assert len(pieces) > 3, "the arguments came in one piece"


@test
def custom_tools():
    text = {"type": "custom", "custom": {"name": "note", "description": "Takes a note."}}
    regex = {"type": "custom", "custom": {"name": "dial", "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[0-9]{3}-[0-9]{4}"}}}}
    lark = {"type": "custom", "custom": {"name": "sum", "format": {"type": "grammar", "grammar": {
        "syntax": "lark", "definition": 'start: NUMBER ("+" NUMBER)~1..2\nNUMBER: /[0-9]{1,2}/'}}}}
    with Server() as s:
        for tool, pattern in ((regex, r"[0-9]{3}-[0-9]{4}"), (lark, r"[0-9]{1,2}(\+[0-9]{1,2}){1,2}")):
            call = only_call(s.post(CHAT, body(tools=[tool], tool_choice="required", temperature=1.5)))
            assert call["type"] == "custom" and re.fullmatch(pattern, call["custom"]["input"]), call
            events = s.stream(CHAT, body(tools=[tool], tool_choice="required", temperature=1.5, stream=True))
            calls, finish, _, _ = assemble(events)
            assert finish == "tool_calls" and calls[0]["custom"] == call["custom"], (calls, call)
        named = {"type": "custom", "custom": {"name": "note"}}
        c = s.post(CHAT, body(tools=[text, WEATHER], tool_choice=named, max_completion_tokens=60))["choices"][0]
        assert c["finish_reason"] in ("tool_calls", "length")
        if c["message"].get("tool_calls"):
            assert c["message"]["tool_calls"][0]["custom"]["name"] == "note"
        # and back in
        call = {"id": "call_1", "type": "custom", "custom": {"name": "dial", "input": "555-1234"}}
        s.post(CHAT, body(messages=[{"role": "user", "content": "Call"}, {"role": "assistant", "tool_calls": [call]},
                                    {"role": "tool", "tool_call_id": "call_1", "content": "busy"}], tools=[regex], max_completion_tokens=4))


@test
def deprecated_functions():
    with Server() as s:
        q = body(functions=[WEATHER["function"], ADD["function"]], function_call={"name": "add"})
        c = s.post(CHAT, q)["choices"][0]
        assert c["finish_reason"] == "function_call" and "tool_calls" not in c["message"], c
        called = c["message"]["function_call"]
        check({"type": "function", "id": "x", "function": called}, "add")
        name, args = "", ""
        for e in s.stream(CHAT, dict(q, stream=True)):
            for c in e["choices"]:
                f = c["delta"].get("function_call", {})
                name += f.get("name", "")
                args += f.get("arguments", "")
        assert name == "add" and json.loads(args)
        back = [{"role": "user", "content": "Sum"}, {"role": "assistant", "content": None, "function_call": called},
                {"role": "function", "name": "add", "content": "3"}]
        s.post(CHAT, body(messages=back, functions=[ADD["function"]], function_call="none", max_completion_tokens=4))


@test
def round_trips():
    with Server() as s:
        q = body(tools=[WEATHER], tool_choice="required")
        m = s.post(CHAT, q)["choices"][0]["message"]
        history = q["messages"] + [m, {"role": "tool", "tool_call_id": m["tool_calls"][0]["id"], "content": "-3 degrees"}]
        short = s.post(CHAT, body(messages=history, tools=[WEATHER], tool_choice="none", max_completion_tokens=4))
        assert short["usage"]["prompt_tokens"] > s.post(CHAT, body(tools=[WEATHER], tool_choice="none", max_completion_tokens=4))["usage"]["prompt_tokens"]
        s.post(CHAT, body(messages=history, tools=[WEATHER], max_completion_tokens=4))


@test
def what_cannot_be_enforced_is_said():
    odd = {"n": {"type": "integer", "multipleOf": 7919}, "x": {"type": "string", "pattern": r"^(a|b)\1$"}}
    hard = {"a": {"type": "object", "dependentSchemas": {"b": {"required": ["c"]}}, "if": {"required": ["z"]}, "then": {"required": ["y"]}}}
    n_told = 0
    with Server() as s:
        for properties in (odd, hard):
            st, headers, data = s.request("POST", CHAT, body(tools=[fn("f", properties, strict=False)], max_completion_tokens=2))
            assert st == 200, data
            told = headers.get("x-oriel-unenforced")
            st, _, data = s.request("POST", CHAT, body(tools=[fn("f", properties, strict=True)], max_completion_tokens=2))
            assert st == (400 if told else 200), (told, data)
            if told:
                n_told += 1
                assert told.startswith("tools[0].function.parameters"), told
                e = json.loads(data)["error"]
                assert e["code"] == "invalid_function_parameters" and e["param"].startswith("tools[0].function.parameters"), e
    assert n_told, "everything was enforced"


@test
def wrong_requests():
    with Server() as s:
        def refused(param, **more):
            e = s.post(CHAT, body(**more), want=400)["error"]
            assert e["param"] == param and isinstance(e["message"], str), e
        refused("tool_choice", tool_choice="required")
        refused("tool_choice", tools=[ADD], tool_choice="sometimes")
        refused("tool_choice", tools=[ADD], tool_choice={"type": "function", "function": {"name": "subtract"}})
        refused("tool_choice", tools=[ADD], tool_choice={"type": "custom", "custom": {"name": "add"}})
        refused("tool_choice.type", tools=[ADD], tool_choice={"type": "mcp"})
        refused("tool_choice.allowed_tools.mode", tools=[ADD], tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "x", "tools": []}})
        refused("tool_choice.allowed_tools.tools", tools=[ADD], tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}})
        refused("function_call", functions=[ADD["function"]], function_call={"name": "subtract"})
        refused("tools[0].custom.format.grammar.syntax", tools=[{"type": "custom", "custom": {"name": "x", "format": {
            "type": "grammar", "grammar": {"syntax": "ebnf", "definition": "x"}}}}])
        refused("tools[0].custom.format", tools=[{"type": "custom", "custom": {"name": "x", "format": {
            "type": "grammar", "grammar": {"syntax": "regex", "definition": "("}}}}])
        refused("tools[1].function", tools=[ADD, ADD])


@test
def an_answer_cut_short():
    with Server() as s:
        c = s.post(CHAT, body(tools=[WEATHER], tool_choice="required", max_completion_tokens=2))["choices"][0]
        assert c["finish_reason"] == "length", c


@test
def other_parameters():
    with Server() as s:
        plain = s.post(CHAT, body(max_completion_tokens=40, temperature=0))
        text = plain["choices"][0]["message"]
        said = text["content"] or text.get("reasoning_content")
        u = s.post(CHAT, body(max_completion_tokens=40, temperature=0, prediction={"type": "content", "content": said}))["usage"]
        d = u["completion_tokens_details"]
        assert d["accepted_prediction_tokens"] > 0, d
        shown = s.post(CHAT, body(max_completion_tokens=40, temperature=0, reasoning_format="none"))["choices"][0]["message"]
        assert "reasoning_content" not in shown
        if text.get("reasoning_content"):
            assert text["reasoning_content"] in shown["content"], shown
        for more in ({"typical_p": 0.5}, {"xtc_probability": 1, "xtc_threshold": 0.1}, {"typical_p": 0.9, "top_k": 5, "min_p": 0.1}):
            a, b = (s.post(CHAT, body(max_completion_tokens=12, **more))["choices"][0]["message"] for _ in range(2))
            assert a == b, more
        for param, value in (("typical_p", 1.5), ("xtc_probability", -0.1), ("xtc_threshold", 0.6)):
            assert s.post(CHAT, body(**{param: value}), want=400)["error"]["param"] == param
        e = s.post("/v1/completions", {"model": "default", "prompt": "def f(", "suffix": "return x", "max_tokens": 4}, want=400)["error"]
        assert e["param"] == "suffix", e


@test
def other_families_with_a_model_of_random_weights():
    """It knows nothing, so what it calls is right because it can write nothing else."""
    folder = need_corpus("templates", "llama.cpp-templates")
    sys.path.insert(0, os.path.join(ROOT, "tools/ref"))
    try:
        import random_model
    except ImportError:
        raise Skip("numpy is not installed")
    ticket = fn("book", {"seat": {"anyOf": [{"const": "aisle"}, {"$ref": "#/$defs/other"}]}, "meal": {"anyOf": [{"enum": ["fish"]}, {"type": "null"}]}},
                strict=True, **{"$defs": {"other": {"enum": ["window", "none"]}}})
    form = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": ADD["function"]["parameters"]}}
    asked = {"role": "user", "content": "Go on."}
    for arch, name in (("llama", "meta-llama-Llama-3.1-8B-Instruct"), ("qwen3", "Qwen-Qwen3-0.6B"), ("qwen3", "Qwen3-Coder"),
                       ("llama", "mistralai-Mistral-Nemo-Instruct-2407"), ("qwen3", "GLM-4.6"), ("qwen3", "GLM-4.7-Flash"), ("qwen3", "ByteDance-Seed-OSS"),
                       ("llama", "CohereForAI-c4ai-command-r-plus-tool_use"), ("llama", "meetkai-functionary-medium-v3.2"), ("qwen3", "tencent-Hy3")):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "random.gguf")
            random_model.make(path, arch=arch, wanted="Q8_0", seed=3)
            with Server("--model", path, "--chat-template", os.path.join(folder, name + ".jinja")) as s:
                for seed in range(4):
                    call = only_call(s.post(CHAT, body(tools=[ticket], tool_choice="required", parallel_tool_calls=False, seed=seed)))
                    args = json.loads(call["function"]["arguments"])
                    assert args["seat"] in ("aisle", "window", "none") and args["meal"] in ("fish", None), (name, args)
                for effort in "minimal", "medium", "xhigh":
                    s.post(CHAT, body(max_completion_tokens=1, reasoning_effort=effort))
                beside = s.post(CHAT, body(tools=[ADD], tool_choice="required", parallel_tool_calls=False, response_format=form))
                check(only_call(beside), "add")
                for more in {}, {"tools": [PING], "tool_choice": "auto", "parallel_tool_calls": False}:
                    c = s.post(CHAT, body(response_format=form, **more))["choices"][0]
                    if c["finish_reason"] == "tool_calls":
                        check(only_call({"choices": [c]}), "ping")
                    else:
                        assert set(json.loads(c["message"]["content"])) == {"a", "b"}, (name, c)
                words = {"type": "custom", "custom": {"name": "say", "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "[1-9][0-9]{3}"}}}}
                said = only_call(s.post(CHAT, body(tools=[words], tool_choice="required", parallel_tool_calls=False)))
                assert re.fullmatch("[1-9][0-9]{3}", said["custom"]["input"]), (name, said)
                # Arguments that are none, or were cut, and parameters without a word: clients send them back and on.
                for arguments in "", "{\"a\": 1", "null", "[1]", "plain words", None:
                    made = {"id": "abcdefghi", "type": "function", "function": {"name": "ping", "arguments": arguments}}
                    if arguments is None:
                        made = dict(said, id="abcdefghi")
                    s.post(CHAT, body(messages=[asked, {"role": "assistant", "tool_calls": [made]}, {"role": "tool", "tool_call_id": "abcdefghi", "content": ""}],
                                      tools=[words, fn("add", {"a": {}}), {"type": "function", "function": {"name": "ping", "parameters": {}}},
                                             {"type": "function", "function": {"name": "pong", "parameters": {"type": "object"}}}], max_completion_tokens=1))


run_all()
