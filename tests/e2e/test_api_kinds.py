#!/usr/bin/env python3
"""What the API says yes and no to, kind by kind: every parameter with values just
inside and just outside, the shape of every error, of every chunk. One table of
requests written by hand, and a sweep that makes them from request schemas: each
member of a request that works is replaced by each of a pool of values, and the
server's verdict is compared with the schema's. ORIEL_CONFORMANCE names the
folder the schemas lie in; without it the sweep says skipped."""
import copy, itertools, json, os, re, sys, tempfile, threading

from oriel import ROOT, SANITIZED, Server, Skip, run_all, test

CHAT, TEXT, EMBED, RESPOND = "/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"
HI = [{"role": "user", "content": "Hello"}]
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {
    "type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"], "additionalProperties": False}}}
ANY = object()  # the code, or the parameter, is not looked at


def chat(**more):
    return {"model": "default", "messages": HI, "max_completion_tokens": 1, **more}


def text(**more):
    return {"model": "default", "prompt": "ab", "max_tokens": 1, **more}


def embed(**more):
    return {"model": "default", "input": "ab", **more}


def respond(**more):
    return {"model": "default", "input": "ab", "max_output_tokens": 16, "store": False, **more}


def say(*messages):
    return chat(messages=[*messages])


def schema(**spec):
    return chat(response_format={"type": "json_schema", "json_schema": spec})


def tools(*list_, **more):
    return chat(tools=[*list_], **more)


def named(name, **more):
    return {"type": "function", "function": {"name": name, **more}}


USER = {"role": "user", "content": "x"}
CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "1"}
OBJECT = {"type": "object", "properties": {}, "additionalProperties": False}


def check_error(status, headers, data, want, param, code):
    assert status == want, f"answered {status}, not {want}: {data[:200]}"
    assert headers["content-type"].startswith("application/json"), headers
    assert headers.get("x-request-id"), headers
    e = json.loads(data)["error"]
    assert set(e) >= {"message", "type", "param", "code"}, e
    assert isinstance(e["message"], str) and len(e["message"]) > 10, e
    assert isinstance(e["type"], str) and e["type"], e
    assert e["param"] is None or isinstance(e["param"], str), e
    assert e["code"] is None or isinstance(e["code"], str), e
    if want < 500:
        assert e["type"] == "invalid_request_error", e
    assert param is ANY or e["param"] == param, f"param is {e['param']!r}, not {param!r}: {e}"
    assert code is ANY or e["code"] == code, f"code is {e['code']!r}, not {code!r}: {e}"


# ── Refused: (path, body, param, code[, status]) ──

def out_of_range(path, base, name, low, high, kind, step):
    if low is not None:
        yield path, base(**{name: low - step}), name, f"{kind}_below_min_value"
        yield path, base(**{name: -1e300 if kind == "decimal" else -(10 ** 30)}), name, f"{kind}_below_min_value"
    if high is not None:
        yield path, base(**{name: high + step}), name, f"{kind}_above_max_value"
        yield path, base(**{name: 1e300 if kind == "decimal" else 10 ** 30}), name, f"{kind}_above_max_value"


def wrong_types(path, base, name, kind):
    values = {"boolean": True, "integer": 3, "number": 1.5, "string": "1", "array": [], "object": {}}
    fits = {"integer": {"integer"}, "number": {"integer", "number"}, "boolean": {"boolean"}, "string": {"string"},
            "array": {"array"}, "object": {"object"}, "string or array": {"string", "array"}, "string or object": {"string", "object"}}[kind]
    for what, v in values.items():
        if what not in fits:
            yield path, base(**{name: v}), name, "invalid_type"


DECIMALS = [("temperature", 0, 2), ("top_p", 0, 1), ("presence_penalty", -2, 2), ("frequency_penalty", -2, 2), ("min_p", 0, 1)]


def refused():
    for path, base in (CHAT, chat), (TEXT, text):
        for name, low, high in DECIMALS:
            yield from out_of_range(path, base, name, low, high, "decimal", 0.001)
            yield from wrong_types(path, base, name, "number")
        yield from out_of_range(path, base, "n", 1, 128, "integer", 1)
        yield from out_of_range(path, base, "top_k", 0, None, "integer", 1)
        for name in "n", "seed", "top_k":
            yield from wrong_types(path, base, name, "integer")
        yield from out_of_range(path, base, "seed", None, 2 ** 63 - 1, "integer", 1)
        yield path, base(seed=-(2 ** 64)), "seed", "integer_below_min_value"
        for name in "stream", "ignore_eos":
            yield from wrong_types(path, base, name, "boolean")
        for name, kind in {"user": "string", "model": "string", "stop": "string or array", "logit_bias": "object",
                           "stream_options": "object"}.items():
            yield from wrong_types(path, base, name, kind)
        yield path, base(model="nobody"), "model", "model_not_found", 404
        yield path, base(model=""), "model", "model_not_found", 404
        yield path, base(model=None), "model", "missing_required_parameter"
        yield path, base(stop=["a"] * 5), "stop", "array_above_max_length"
        yield path, base(stop=["a", 1]), "stop[1]", "invalid_type"
        yield path, base(stop=["a", None]), "stop[1]", "invalid_type"
        yield path, base(stop=[["a"]]), "stop[0]", "invalid_type"
        yield path, base(logit_bias={"5": 100.5}), "logit_bias.5", "decimal_above_max_value"
        yield path, base(logit_bias={"5": -101}), "logit_bias.5", "decimal_below_min_value"
        yield path, base(logit_bias={"5": "1"}), "logit_bias.5", "invalid_type"
        yield path, base(logit_bias={"5": None}), "logit_bias.5", "invalid_type"
        for key in "", "a", "-1", "1.5", " 5", "5 ", "0x5", "1e3", "99999999999999999999":
            yield path, base(logit_bias={key: 1}), "logit_bias", "invalid_value"
        yield path, base(logit_bias={"2000000": 1}), "logit_bias", "invalid_value"
        yield path, base(stream_options={"include_usage": True}), "stream_options", "invalid_value"
        yield path, base(stream=False, stream_options={}), "stream_options", "invalid_value"
        yield path, base(stream=True, stream_options={"include_usage": 1}), "stream_options.include_usage", "invalid_type"
        yield path, base(stream=True, stream_options={"include_obfuscation": "no"}), "stream_options.include_obfuscation", "invalid_type"
    # chat completions
    for name in "max_tokens", "max_completion_tokens":
        yield from out_of_range(CHAT, chat, name, 1, None, "integer", 1)
        yield from wrong_types(CHAT, chat, name, "integer")
    for name, kind in {"logprobs": "boolean", "store": "boolean", "parallel_tool_calls": "boolean", "top_logprobs": "integer",
                       "messages": "array", "tools": "array", "functions": "array", "modalities": "array",
                       "response_format": "object", "prediction": "object", "metadata": "object", "prompt_cache_options": "object",
                       "moderation": "object", "safety_identifier": "string", "prompt_cache_key": "string",
                       "prompt_cache_retention": "string", "reasoning_effort": "string", "service_tier": "string",
                       "verbosity": "string"}.items():
        yield from wrong_types(CHAT, chat, name, kind)
    for name in "reasoning_effort", "service_tier", "verbosity", "prompt_cache_retention":
        for word in "", "Low", "huge", "low ", "AUTO":
            yield CHAT, chat(**{name: word}), name, "invalid_value"
    yield from out_of_range(CHAT, lambda **v: chat(logprobs=True, **v), "top_logprobs", 0, 20, "integer", 1)
    yield CHAT, chat(top_logprobs=0), "top_logprobs", "invalid_value"
    yield CHAT, chat(top_logprobs=5, logprobs=False), "top_logprobs", "invalid_value"
    yield CHAT, chat(top_logprobs=5, logprobs=None), "top_logprobs", "invalid_value"
    yield CHAT, {"model": "default"}, "messages", "missing_required_parameter"
    yield CHAT, {"messages": HI}, "model", "missing_required_parameter"
    yield CHAT, {}, "model", "missing_required_parameter"
    yield CHAT, chat(messages=None), "messages", "missing_required_parameter"
    yield CHAT, chat(messages=[]), "messages", "empty_array"
    for v in "x", 1, None, [], True:
        yield CHAT, chat(messages=[USER, v]), "messages[1]", "invalid_type"
    yield CHAT, say({"content": "x"}), "messages[0].role", "missing_required_parameter"
    yield CHAT, say({"role": None, "content": "x"}), "messages[0].role", "missing_required_parameter"
    yield CHAT, say({"role": 1, "content": "x"}), "messages[0].role", "invalid_type"
    for role in "", "User", "human", "USER", "moderator":
        yield CHAT, say(USER, {"role": role, "content": "x"}), "messages[1].role", "invalid_value"
    for role in "system", "developer", "user":
        yield CHAT, say({"role": role}), "messages[0].content", "missing_required_parameter"
        yield CHAT, say({"role": role, "content": None}), "messages[0].content", "missing_required_parameter"
        for v in 1, True, {}, 1.5:
            yield CHAT, say({"role": role, "content": v}), "messages[0].content", "invalid_type"
        yield CHAT, say({"role": role, "content": []}), "messages[0].content", "empty_array"
        for v in "x", 1, None, []:
            yield CHAT, say({"role": role, "content": [v]}), "messages[0].content[0]", "invalid_type"
        yield CHAT, say({"role": role, "content": [{}]}), "messages[0].content[0].type", "missing_required_parameter"
        yield CHAT, say({"role": role, "content": [{"type": 1}]}), "messages[0].content[0].type", "invalid_type"
        yield CHAT, say({"role": role, "content": [{"type": "smell"}]}), "messages[0].content[0].type", "invalid_value"
        yield CHAT, say({"role": role, "content": [{"type": "text"}]}), "messages[0].content[0].text", "missing_required_parameter"
        yield CHAT, say({"role": role, "content": [{"type": "text", "text": "a"}, {"type": "text", "text": 1}]}), "messages[0].content[1].text", "invalid_type"
        for name in "a b", "a<b", "a|b", "a>b", "a/b", "a\\b", "", "a\nb":
            yield CHAT, say({"role": role, "content": "x", "name": name}), "messages[0].name", "invalid_value"
        yield CHAT, say({"role": role, "content": "x", "name": "n" * 65}), "messages[0].name", "string_above_max_length"
        yield CHAT, say({"role": role, "content": "x", "name": 5}), "messages[0].name", "invalid_type"
    for part in ({"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}, {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
                 {"type": "file", "file": {"file_id": "file-1"}}):
        yield CHAT, say({"role": "user", "content": [{"type": "text", "text": "?"}, part]}), "messages[0].content[1]", "unsupported_value"
    yield CHAT, say(USER, {"role": "assistant"}), "messages[1].content", "missing_required_parameter"
    yield CHAT, say(USER, {"role": "assistant", "content": 1}), "messages[1].content", "invalid_type"
    yield CHAT, say(USER, {"role": "assistant", "content": None, "refusal": 1}), "messages[1].refusal", "invalid_type"
    yield CHAT, say(USER, {"role": "tool", "content": "x"}), "messages[1].tool_call_id", "missing_required_parameter"
    yield CHAT, say(USER, CALL, {"role": "tool", "tool_call_id": 1, "content": "x"}), "messages[2].tool_call_id", "invalid_type"
    yield CHAT, say(USER, CALL, {"role": "tool", "tool_call_id": "c1"}), "messages[2].content", "missing_required_parameter"
    yield CHAT, say(USER, RESULT), "messages[1].tool_call_id", "invalid_value"
    yield CHAT, say(USER, RESULT, CALL), "messages[1].tool_call_id", "invalid_value"
    yield CHAT, say(USER, CALL, {**RESULT, "tool_call_id": ""}), "messages[2].tool_call_id", "invalid_value"
    yield CHAT, say(USER, CALL, {**RESULT, "tool_call_id": "c2"}), "messages[2].tool_call_id", "invalid_value"
    yield CHAT, say(USER, {"role": "function", "content": "x"}), "messages[1].name", "missing_required_parameter"
    for call, where, code in (
            ("x", "", "invalid_type"), ({}, ".id", "missing_required_parameter"), ({"id": 1}, ".id", "invalid_type"),
            ({"id": "c"}, ".type", "missing_required_parameter"), ({"id": "c", "type": "tool"}, ".type", "invalid_value"),
            ({"id": "c", "type": "function"}, ".function", "missing_required_parameter"),
            ({"id": "c", "type": "function", "function": "f"}, ".function", "invalid_type"),
            ({"id": "c", "type": "function", "function": {"arguments": "{}"}}, ".function.name", "missing_required_parameter"),
            ({"id": "c", "type": "function", "function": {"name": "f"}}, ".function.arguments", "missing_required_parameter"),
            ({"id": "c", "type": "function", "function": {"name": "f", "arguments": {}}}, ".function.arguments", "invalid_type"),
            ({"id": "c", "type": "custom", "custom": {"name": "f"}}, ".custom.input", "missing_required_parameter"),
            ({"id": "c", "type": "custom", "function": {"name": "f", "arguments": "{}"}}, ".custom", "missing_required_parameter")):
        yield CHAT, say(USER, {"role": "assistant", "tool_calls": [call]}), "messages[1].tool_calls[0]" + where, code
    yield CHAT, say(USER, {"role": "assistant", "tool_calls": {}}), "messages[1].tool_calls", "invalid_type"
    for v, where, code in (("f", "", "invalid_type"), ({}, ".name", "missing_required_parameter"), ({"name": "f"}, ".arguments", "missing_required_parameter")):
        yield CHAT, say(USER, {"role": "assistant", "function_call": v}), "messages[1].function_call" + where, code
    # answers by schema
    for v in "json", 1, []:
        yield CHAT, chat(response_format=v), "response_format", "invalid_type"
    yield CHAT, chat(response_format={}), "response_format.type", "missing_required_parameter"
    yield CHAT, chat(response_format={"type": 1}), "response_format.type", "invalid_type"
    for word in "", "JSON", "json", "yaml":
        yield CHAT, chat(response_format={"type": word}), "response_format.type", "invalid_value"
    yield CHAT, chat(response_format={"type": "json_schema"}), "response_format.json_schema", "missing_required_parameter"
    yield CHAT, chat(response_format={"type": "json_schema", "json_schema": "x"}), "response_format.json_schema", "invalid_type"
    S = "response_format.json_schema"
    yield CHAT, schema(), S + ".name", "missing_required_parameter"
    yield CHAT, schema(schema=OBJECT), S + ".name", "missing_required_parameter"
    yield CHAT, schema(name=1, schema=OBJECT), S + ".name", "invalid_type"
    for name in "", "a b", "a.b", "é", "a/b":
        yield CHAT, schema(name=name, schema=OBJECT), S + ".name", "invalid_value"
    yield CHAT, schema(name="n" * 65, schema=OBJECT), S + ".name", "string_above_max_length"
    yield CHAT, schema(name="n"), S + ".schema", "missing_required_parameter"
    for v in "x", 1, []:
        yield CHAT, schema(name="n", schema=v), S + ".schema", "invalid_type"
    yield CHAT, schema(name="n", strict="yes", schema=OBJECT), S + ".strict", "invalid_type"
    yield CHAT, schema(name="n", description=1, schema=OBJECT), S + ".description", "invalid_type"
    for bad in ({"type": "objekt"}, {"type": 1}, {"type": []}, {"type": ["string", "strng"]}, {"type": "object", "properties": []},
                {"type": "object", "properties": {"a": 1}}, {"type": "object", "required": "a"}, {"type": "object", "required": [1]},
                {"type": "array", "items": 1}, {"enum": "a"}, {"anyOf": {}}, {"anyOf": [1]}, {"$ref": "#/$defs/none"},
                {"type": "string", "pattern": "("}, {"type": "object", "additionalProperties": "no"}, {"not": 1}):
        yield CHAT, schema(name="n", schema=bad), ANY, ANY
    # tools
    yield CHAT, tools("x"), "tools[0]", "invalid_type"
    yield CHAT, tools({}), "tools[0].type", "missing_required_parameter"
    yield CHAT, tools(FUNCTION, {"type": "plugin"}), "tools[1].type", "invalid_value"
    yield CHAT, tools({"type": "function"}), "tools[0].function", "missing_required_parameter"
    yield CHAT, tools({"type": "function", "function": "f"}), "tools[0].function", "invalid_type"
    yield CHAT, tools({"type": "function", "function": {}}), "tools[0].function.name", "missing_required_parameter"
    yield CHAT, tools(named(1)), "tools[0].function.name", "invalid_type"
    for name in "", "a b", "a.b", "f()", "naïve", "a\u0000":
        yield CHAT, tools(named(name)), "tools[0].function.name", "invalid_value"
    yield CHAT, tools(named("f" * 65)), "tools[0].function.name", "string_above_max_length"
    yield CHAT, tools(named("f", description=1)), "tools[0].function.description", "invalid_type"
    yield CHAT, tools(named("f", strict="true")), "tools[0].function.strict", "invalid_type"
    for v in "x", 1, []:
        yield CHAT, tools(named("f", parameters=v)), "tools[0].function.parameters", "invalid_type"
    for v in {"type": "strng"}, {"type": "object", "properties": {"a": {"type": "strng"}}}, {"type": "object", "properties": {"a": []}}:
        yield CHAT, tools(named("f", parameters=v)), "tools[0].function.parameters", "invalid_function_parameters"
    yield CHAT, tools(FUNCTION, FUNCTION), ANY, "invalid_value"
    yield CHAT, tools(*(named(f"f{i}") for i in range(129))), "tools", "array_above_max_length"
    yield CHAT, chat(functions=[{"name": f"f{i}"} for i in range(129)]), "functions", "array_above_max_length"
    yield CHAT, chat(functions=[{}]), "functions[0].name", "missing_required_parameter"
    yield CHAT, chat(functions=[{"name": "a b"}]), "functions[0].name", "invalid_value"
    yield CHAT, tools({"type": "custom"}), "tools[0].custom", "missing_required_parameter"
    yield CHAT, tools({"type": "custom", "custom": {}}), "tools[0].custom.name", "missing_required_parameter"
    for v, where, code in (("x", "", "invalid_type"), ({}, ".type", "missing_required_parameter"), ({"type": "xml"}, ".type", "invalid_value"),
                           ({"type": "grammar"}, ".grammar", "missing_required_parameter"),
                           ({"type": "grammar", "grammar": {"definition": "a"}}, ".grammar.syntax", "missing_required_parameter"),
                           ({"type": "grammar", "grammar": {"syntax": "bnf", "definition": "a"}}, ".grammar.syntax", "invalid_value"),
                           ({"type": "grammar", "grammar": {"syntax": "regex"}}, ".grammar.definition", "missing_required_parameter"),
                           ({"type": "grammar", "grammar": {"syntax": "regex", "definition": 1}}, ".grammar.definition", "invalid_type")):
        yield CHAT, tools({"type": "custom", "custom": {"name": "g", "format": v}}), "tools[0].custom.format" + where, code
    for v in "any", "", "Auto", "f":
        yield CHAT, tools(FUNCTION, tool_choice=v), "tool_choice", "invalid_value"
    for v in 1, True, []:
        yield CHAT, tools(FUNCTION, tool_choice=v), "tool_choice", "invalid_type"
    for v, where, code in (({}, ".type", "missing_required_parameter"), ({"type": "tool"}, ".type", "invalid_value"),
                           ({"type": "function"}, ".function", "missing_required_parameter"),
                           ({"type": "function", "function": {}}, ".function.name", "missing_required_parameter"),
                           ({"type": "function", "function": {"name": 1}}, ".function.name", "invalid_type"),
                           (named("g"), "", "invalid_value"), ({"type": "custom", "custom": {"name": "f"}}, "", "invalid_value"),
                           ({"type": "allowed_tools"}, ".allowed_tools", "missing_required_parameter"),
                           ({"type": "allowed_tools", "allowed_tools": {"tools": []}}, ".allowed_tools.mode", "missing_required_parameter"),
                           ({"type": "allowed_tools", "allowed_tools": {"mode": "none", "tools": []}}, ".allowed_tools.mode", "invalid_value"),
                           ({"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}, ".allowed_tools.tools", "missing_required_parameter"),
                           ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named("g")]}}, "", "invalid_value")):
        yield CHAT, tools(FUNCTION, tool_choice=v), "tool_choice" + where, code
    for v in "required", named("f"):
        yield CHAT, chat(tool_choice=v), "tool_choice", "invalid_value"
        yield CHAT, tools(tool_choice=v), "tool_choice", "invalid_value"
    yield CHAT, chat(functions=[{"name": "f"}], function_call={"name": "g"}), "function_call", "invalid_value"
    yield CHAT, chat(functions=[{"name": "f"}], function_call="required"), "function_call", "invalid_value"
    yield CHAT, chat(function_call={"name": "f"}), "function_call", "invalid_value"
    yield CHAT, tools(FUNCTION, function_call={"name": "f"}), "function_call", "invalid_value"
    yield CHAT, tools(FUNCTION, functions=[{"name": "g"}]), "functions", "invalid_value"
    two = {**CALL, "tool_calls": CALL["tool_calls"] + [{"id": "c2", "type": "custom", "custom": {"name": "g", "input": ""}}]}
    for rest in [], [USER], [RESULT], [RESULT, USER], [USER, RESULT, {**RESULT, "tool_call_id": "c2"}], [RESULT, USER, {**RESULT, "tool_call_id": "c2"}]:
        yield CHAT, say(USER, two, *rest), "messages[1].tool_calls", "invalid_value"
    yield CHAT, say(USER, CALL), "messages[1].tool_calls", "invalid_value"
    yield CHAT, say(USER, CALL, RESULT, CALL, USER), "messages[3].tool_calls", "invalid_value"
    # what is kept, what is only looked at
    yield CHAT, chat(metadata={f"k{i}": "" for i in range(17)}), "metadata", ANY
    yield CHAT, chat(metadata={"k" * 65: "v"}), "metadata", "string_above_max_length"
    yield CHAT, chat(metadata={"k": "é" * 513}), "metadata.k", "string_above_max_length"
    for v in 1, True, None, {}, []:
        yield CHAT, chat(metadata={"k": v}), "metadata.k", "invalid_type"
    yield CHAT, chat(safety_identifier="s" * 65), "safety_identifier", "string_above_max_length"
    yield CHAT, chat(prompt_cache_options={"ttl": "1h"}), "prompt_cache_options.ttl", "invalid_value"
    yield CHAT, chat(moderation={}), "moderation.model", "missing_required_parameter"
    yield CHAT, chat(moderation={"model": "m", "policy": {"input": {}}}), "moderation.policy.input.mode", "missing_required_parameter"
    yield CHAT, chat(modalities=["smell"]), "modalities[0]", "invalid_value"
    yield CHAT, chat(modalities=["text", "audio"]), "modalities[1]", "unsupported_value"
    yield CHAT, chat(audio={"voice": "alloy", "format": "wav"}), "audio", "unsupported_value"
    yield CHAT, chat(web_search_options={}), "web_search_options", ANY
    for v, where, code in (({}, ".type", "missing_required_parameter"), ({"type": "guess", "content": "x"}, ".type", "invalid_value"),
                           ({"type": "content"}, ".content", "missing_required_parameter"), ({"type": "content", "content": 1}, ".content", "invalid_type"),
                           ({"type": "content", "content": []}, ".content", "empty_array")):
        yield CHAT, chat(prediction=v), "prediction" + where, code
    # completions
    yield from out_of_range(TEXT, text, "max_tokens", 0, None, "integer", 1)
    yield from out_of_range(TEXT, text, "logprobs", 0, 5, "integer", 1)
    yield from out_of_range(TEXT, text, "best_of", None, 20, "integer", 1)
    for name in "max_tokens", "logprobs", "best_of":
        yield from wrong_types(TEXT, text, name, "integer")
    yield from wrong_types(TEXT, text, "echo", "boolean")
    yield from wrong_types(TEXT, text, "suffix", "string")
    yield from wrong_types(TEXT, text, "prompt", "string or array")
    yield TEXT, {"model": "default"}, "prompt", "missing_required_parameter"
    yield TEXT, text(prompt=[]), "prompt", "empty_array"
    yield TEXT, text(prompt=[[]]), "prompt[0]", "empty_array"
    yield TEXT, text(prompt=[[65], []]), "prompt[1]", "empty_array"
    for v in [65, "a"], [65, [65]], [65, None], [65, 1.5], [65, True]:
        yield TEXT, text(prompt=v), "prompt[1]", "invalid_type"
    for v in ["a", 65], ["a", ["a"]], ["a", [65]], ["a", None], [[65], "a"], [[65], 65]:
        yield TEXT, text(prompt=v), "prompt[1]", "invalid_type"
    yield TEXT, text(prompt=[["a"]]), "prompt[0][0]", "invalid_type"
    yield TEXT, text(prompt=["a"] * 129), "prompt", "array_above_max_length"
    for id in -1, 2 ** 31, 2 ** 40, 2 ** 63 - 1:
        yield TEXT, text(prompt=[id]), "prompt", "invalid_value"
        yield TEXT, text(prompt=[[65], [65, id]]), "prompt", "invalid_value"
    yield TEXT, text(n=2, best_of=1), "best_of", "invalid_value"
    yield TEXT, text(best_of=0), "best_of", ANY
    yield TEXT, text(best_of=2, stream=True), "best_of", "invalid_value"
    # embeddings, rerank
    yield from wrong_types(EMBED, embed, "input", "string or array")
    yield from wrong_types(EMBED, embed, "dimensions", "integer")
    yield from wrong_types(EMBED, embed, "encoding_format", "string")
    yield from wrong_types(EMBED, embed, "user", "string")
    yield from wrong_types(EMBED, embed, "model", "string")
    yield from out_of_range(EMBED, embed, "dimensions", 1, None, "integer", 1)
    yield EMBED, embed(dimensions=10 ** 6), "dimensions", "integer_above_max_value"
    yield EMBED, {"model": "default"}, "input", "missing_required_parameter"
    yield EMBED, {"input": "a"}, "model", "missing_required_parameter"
    yield EMBED, embed(input=None), "input", "missing_required_parameter"
    yield EMBED, embed(model="nobody"), "model", "model_not_found", 404
    yield EMBED, embed(model=""), "model", "model_not_found", 404
    yield EMBED, embed(input=""), "input", "invalid_value"
    yield EMBED, embed(input=[]), "input", "empty_array"
    yield EMBED, embed(input=["a", ""]), "input[1]", "invalid_value"
    yield EMBED, embed(input=[[]]), "input[0]", "empty_array"
    yield EMBED, embed(input=["a"] * 2049), "input", "array_above_max_length"
    for v in ["a", 65], ["a", None], ["a", ["a"]], ["a", {}], [65, "a"], [65, 1.5], [[65], "a"], [[65], 65]:
        yield EMBED, embed(input=v), "input[1]", "invalid_type"
    for id in -1, 2 ** 31, 2 ** 63 - 1:
        yield EMBED, embed(input=[id]), "input", "invalid_value"
        yield EMBED, embed(input=[[id]]), "input", "invalid_value"
    for word in "", "hex", "Float", "bytes":
        yield EMBED, embed(encoding_format=word), "encoding_format", "invalid_value"
    rank = lambda **more: {"query": "a", "documents": ["b", "c"], **more}
    yield from wrong_types("/v1/rerank", rank, "query", "string")
    yield from wrong_types("/v1/rerank", rank, "documents", "array")
    yield from wrong_types("/v1/rerank", rank, "top_n", "integer")
    yield from wrong_types("/v1/rerank", rank, "return_documents", "boolean")
    yield from out_of_range("/v1/rerank", rank, "top_n", 1, None, "integer", 1)
    yield "/v1/rerank", {"documents": ["a"]}, "query", "missing_required_parameter"
    yield "/v1/rerank", {"query": "a"}, "documents", "missing_required_parameter"
    yield "/v1/rerank", rank(documents=[]), "documents", "empty_array"
    yield "/v1/rerank", rank(documents=["a", 1]), "documents[1]", "invalid_type"
    yield "/v1/rerank", rank(documents=[{"title": "a"}]), "documents[0].text", "missing_required_parameter"
    yield "/v1/rerank", rank(query=""), "query", "invalid_value"
    # tokens
    yield "/tokenize", {}, "content", "missing_required_parameter"
    yield "/tokenize", {"content": 5}, "content", "invalid_type"
    yield "/tokenize", {"content": "a", "add_special": "yes"}, "add_special", "invalid_type"
    yield "/tokenize", {"messages": []}, "messages", "empty_array"
    yield "/detokenize", {}, "tokens", "missing_required_parameter"
    yield "/detokenize", {"tokens": "a"}, "tokens", "invalid_type"
    yield "/detokenize", {"tokens": [1, "a"]}, "tokens[1]", "invalid_type"
    yield "/detokenize", {"tokens": [1.5]}, "tokens[0]", "invalid_type"
    yield "/detokenize", {"tokens": [-1]}, "tokens[0]", "integer_below_min_value"
    yield "/detokenize", {"tokens": [2 ** 31]}, "tokens[0]", "integer_above_max_value"
    # moderations, speech, images
    moderate = lambda **more: {"input": "a", **more}
    yield from wrong_types("/v1/moderations", moderate, "input", "string or array")
    yield from wrong_types("/v1/moderations", moderate, "model", "string")
    yield "/v1/moderations", {}, "input", "missing_required_parameter"
    yield "/v1/moderations", moderate(input=[]), "input", "empty_array"
    yield "/v1/moderations", moderate(input=["a", 1]), "input[1]", "invalid_type"
    yield "/v1/moderations", moderate(input=[{}]), "input[0].type", "missing_required_parameter"
    yield "/v1/moderations", moderate(input=[{"type": "smell"}]), "input[0].type", "invalid_value"
    yield "/v1/moderations", moderate(input=[{"type": "text"}]), "input[0].text", "missing_required_parameter"
    yield "/v1/moderations", moderate(input=[{"type": "image_url", "image_url": {"url": "data:,"}}]), "input[0]", "unsupported_value"
    yield "/v1/moderations", moderate(model="nobody"), "model", "model_not_found", 404
    speak = lambda **more: {"model": "tts-1", "input": "a", "voice": "alloy", "response_format": "wav", **more}
    for name in "model", "input", "response_format", "instructions", "stream_format":
        yield from wrong_types("/v1/audio/speech", speak, name, "string")
    yield from wrong_types("/v1/audio/speech", speak, "speed", "number")
    yield from out_of_range("/v1/audio/speech", speak, "speed", 0.25, 4, "decimal", 0.01)
    for name in "model", "input", "voice":
        yield "/v1/audio/speech", {k: v for k, v in speak().items() if k != name}, name, "missing_required_parameter"
    yield "/v1/audio/speech", speak(input="é" * 4097), "input", "string_above_max_length"
    yield "/v1/audio/speech", speak(input=""), "input", "invalid_value"
    yield "/v1/audio/speech", speak(instructions="i" * 4097), "instructions", "string_above_max_length"
    yield "/v1/audio/speech", speak(response_format="ogg"), "response_format", "invalid_value"
    yield "/v1/audio/speech", speak(stream_format="ndjson"), "stream_format", "invalid_value"
    yield "/v1/audio/speech", speak(voice="../../etc/passwd"), "voice", "invalid_value"
    yield "/v1/audio/speech", speak(voice={}), "voice.id", "missing_required_parameter"
    yield "/v1/audio/speech", speak(voice=1), "voice", "invalid_type"
    yield "/v1/audio/speech", speak(model="nobody"), "model", "model_not_found", 404
    draw = lambda **more: {"prompt": "a", **more}
    for name in "prompt", "model", "size", "quality", "response_format", "style", "background", "user", "output_format":
        yield from wrong_types("/v1/images/generations", draw, name, "string")
    yield from wrong_types("/v1/images/generations", draw, "n", "integer")
    yield from out_of_range("/v1/images/generations", draw, "n", 1, 10, "integer", 1)
    yield from out_of_range("/v1/images/generations", draw, "output_compression", 0, 100, "integer", 1)
    yield "/v1/images/generations", {}, "prompt", "missing_required_parameter"
    for name in "size", "quality", "response_format", "style", "background", "output_format", "moderation":
        yield "/v1/images/generations", draw(**{name: "nonsense"}), name, "invalid_value"
    yield "/v1/images/generations", draw(stream="yes"), "stream", "invalid_type"
    yield "/v1/images/generations", draw(partial_images=4), "partial_images", "integer_above_max_value"
    yield "/v1/images/generations", draw(stream=True), "stream", "not_implemented", 501
    yield "/v1/images/generations", draw(stream=False, partial_images=0), None, "not_implemented", 501  # for want of a model
    # responses
    for name, kind in {"temperature": "number", "top_p": "number", "max_output_tokens": "integer", "stream": "boolean", "store": "boolean",
                       "metadata": "object", "instructions": "string", "parallel_tool_calls": "boolean", "user": "string",
                       "safety_identifier": "string", "prompt_cache_key": "string", "prompt_cache_retention": "string",
                       "truncation": "string", "service_tier": "string", "reasoning": "object", "text": "object", "tools": "array",
                       "include": "array", "top_logprobs": "integer", "max_tool_calls": "integer", "previous_response_id": "string",
                       "background": "boolean"}.items():
        yield from wrong_types(RESPOND, respond, name, kind)
    yield from out_of_range(RESPOND, respond, "temperature", 0, 2, "decimal", 0.001)
    yield from out_of_range(RESPOND, respond, "top_p", 0, 1, "decimal", 0.001)
    yield from out_of_range(RESPOND, respond, "top_logprobs", 0, 20, "integer", 1)
    yield from out_of_range(RESPOND, respond, "max_output_tokens", 16, None, "integer", 1)
    yield RESPOND, respond(truncation="middle"), "truncation", "invalid_value"
    yield RESPOND, respond(include=["everything"]), "include[0]", "invalid_value"
    yield RESPOND, respond(reasoning={"effort": "huge"}), "reasoning.effort", "invalid_value"
    yield RESPOND, respond(text={"format": {"type": "xml"}}), "text.format.type", "invalid_value"
    yield RESPOND, respond(text={"format": {"type": "json_schema", "schema": OBJECT}}), "text.format.name", "missing_required_parameter"
    yield RESPOND, respond(safety_identifier="s" * 65), "safety_identifier", "string_above_max_length"
    yield RESPOND, respond(prompt_cache_retention="1h"), "prompt_cache_retention", "invalid_value"
    yield RESPOND, respond(input=[{"role": "wizard", "content": "x"}]), "input[0].role", "invalid_value"
    yield RESPOND, respond(tools=[{"type": "function"}]), "tools[0].name", "missing_required_parameter"
    yield RESPOND, respond(tools=[{"type": "function", "name": "a b"}]), "tools[0].name", "invalid_value"
    yield RESPOND, respond(tool_choice="required"), "tool_choice", "invalid_value"
    yield RESPOND, respond(stream_options={}), "stream_options", "invalid_value"
    yield RESPOND, respond(stream=False, stream_options={"include_obfuscation": True}), "stream_options", "invalid_value"


# ── Accepted ──

def accepted():
    for path, base in (CHAT, chat), (TEXT, text):
        for name, low, high in DECIMALS:
            for v in low, high, None, int(high):
                yield path, base(**{name: v})
        for more in ({"n": 1}, {"n": 3}, {"n": 3.0}, {"seed": 2 ** 63 - 1}, {"seed": -(2 ** 63)}, {"seed": 0}, {"stop": []}, {"stop": ["a"] * 4},
                     {"stop": "é🦜"}, {"logit_bias": {"5": 100, "6": -100}}, {"logit_bias": {"5": 0.5}}, {"stream": False, "stream_options": None},
                     {"user": "u"}, {"user": None}, {"nobody_knows_this": {"a": [1]}}, {"stop": None, "n": None, "seed": None, "logit_bias": None, "user": None}):
            yield path, base(**more)
    for tier in "auto", "default", "flex", "scale", "priority", "fast":
        yield CHAT, chat(service_tier=tier)
    for effort in "none", "minimal", "low", "medium", "high", "xhigh", "max":
        yield CHAT, chat(reasoning_effort=effort)
    for word in "low", "medium", "high":
        yield CHAT, chat(verbosity=word)
    for more in ({"max_tokens": 1, "max_completion_tokens": 1}, {"logprobs": True, "top_logprobs": 20}, {"logprobs": True, "top_logprobs": 0},
                 {"logprobs": False}, {"logprobs": False, "top_logprobs": None}, {"metadata": {}}, {"metadata": {"k" * 64: "é" * 512}},
                 {"metadata": {f"k{i}": "" for i in range(16)}}, {"modalities": ["text"]}, {"modalities": None}, {"tools": []},
                 {"tool_choice": "none"}, {"tool_choice": "auto"}, {"parallel_tool_calls": False}, {"response_format": None},
                 {"response_format": {"type": "text"}}, {"response_format": {"type": "json_object"}}, {"prompt_cache_retention": "24h"},
                 {"prompt_cache_retention": "in_memory"}, {"prompt_cache_options": {"ttl": "30m", "mode": "explicit"}}, {"prompt_cache_options": {}},
                 {"moderation": {"model": "m", "policy": {"input": {"mode": "score"}, "output": None}}}, {"safety_identifier": "é" * 64},
                 {"prediction": {"type": "content", "content": [{"type": "text", "text": "a"}]}}, {"store": False, "user": "u"},
                 {"functions": [{"name": "f"}], "function_call": "none"}, {"functions": [{"name": "f", "parameters": OBJECT}], "function_call": {"name": "f"}},
                 {"tools": [named("f" * 64)]}, {"tools": [named(f"f{i}") for i in range(128)], "tool_choice": "none"},
                 {"tools": [{"type": "custom", "custom": {"name": "g", "format": {"type": "text"}}}], "tool_choice": {"type": "custom", "custom": {"name": "g"}}},
                 {"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named("f")]}}}):
        yield CHAT, chat(**more)
    for messages in ([{"role": "user", "content": ""}], [{"role": "system", "content": "s"}], [{"role": "user", "content": "x", "name": "Zoë-1.2"}],
                     [{"role": "developer", "content": [{"type": "text", "text": "d"}]}, USER], [USER, {"role": "assistant", "content": None}, USER],
                     [USER, {"role": "assistant", "content": "", "tool_calls": None, "function_call": None, "refusal": None, "audio": None}, USER],
                     [USER, {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, USER], [USER, CALL, RESULT],
                     [USER, {"role": "assistant", "content": None, "refusal": "no"}, USER], [USER, {"role": "assistant", "content": "a"}],
                     [USER, {"role": "assistant", "function_call": {"name": "f", "arguments": "{}"}}, {"role": "function", "name": "f", "content": None}],
                     [USER, CALL, {**RESULT, "content": [{"type": "text", "text": "1"}]}, USER, CALL, RESULT], [USER, CALL, RESULT, RESULT, USER],
                     [USER, {**CALL, "tool_calls": CALL["tool_calls"] + [{**CALL["tool_calls"][0], "id": "c2"}]}, {**RESULT, "tool_call_id": "c2"}, RESULT],
                     [USER, USER, {"role": "system", "content": "late"}]):
        yield CHAT, chat(messages=messages)
    for more in ({"prompt": ""}, {"prompt": ["", "a"]}, {"prompt": "a\u0000b"}, {"prompt": [0]}, {"prompt": [[65], [66, 67]]}, {"max_tokens": 0},
                 {"max_tokens": 0, "echo": True, "logprobs": 0}, {"prompt": "", "echo": True, "logprobs": 1}, {"logprobs": 5}, {"best_of": 3, "n": 2},
                 {"suffix": None}, {"suffix": ""}, {"echo": None, "best_of": None, "logprobs": None, "max_tokens": 1}):
        yield TEXT, text(**more)
    for more in ({"input": [0]}, {"input": [[65], [66, 67]]}, {"input": ["a"] * 20}, {"dimensions": 1}, {"encoding_format": "base64"}, {"user": "u"},
                 {"dimensions": None, "encoding_format": None, "user": None}, {"input": "a\u0000b"}, {"input": " "}):
        yield EMBED, embed(**more)
    yield "/v1/rerank", {"query": "a", "documents": [{"text": "b"}, "c"], "top_n": 9, "return_documents": True}
    yield "/tokenize", {"content": ""}
    yield "/tokenize", {"content": "a\u0000é🦜"}
    yield "/tokenize", {"messages": HI, "tools": [FUNCTION]}
    yield "/detokenize", {"tokens": []}
    yield "/v1/moderations", {"input": ["a", "b"], "model": "omni-moderation-latest"}
    yield "/v1/moderations", {"input": [{"type": "text", "text": "a"}], "model": None}
    for more in ({"temperature": 2, "top_p": 0}, {"metadata": None, "user": None, "tools": None, "text": None}, {"input": [USER]}, {"max_output_tokens": 16.0},
                 {"tools": [{"type": "web_search"}]}, {"prompt_cache_key": "k", "safety_identifier": "s", "user": "u"}):
        yield RESPOND, respond(**more)


def each(cases, check):
    """Four at a time; what went wrong, all of it."""
    cases, wrong, lock = list(cases), [], threading.Lock()
    at = itertools.count()

    def work():
        while (i := next(at)) < len(cases):
            try:
                check(*cases[i])
            except Exception as e:
                with lock:
                    wrong.append(f"{cases[i][0]} {json.dumps(cases[i][1], default=str)[:220]}: {e}")
    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, f"{len(wrong)} of {len(cases)}:\n" + "\n".join(wrong[:40])
    print(f"# {len(cases)} requests")


@test
def what_is_wrong_is_refused_by_name():
    with Server() as s:
        def check(path, body, param, code, want=400):
            check_error(*s.request("POST", path, body), want, param, code)
        each(refused(), check)
        assert s.get("/health") == {"status": "ok"}


@test
def what_is_right_is_accepted():
    with Server() as s:
        def check(path, body):
            status, _, data = s.request("POST", path, body)
            assert status == 200, f"answered {status}: {data[:200]}"
        each(accepted(), check)


@test
def bodies_that_are_no_json_object():
    with Server() as s:
        paths = [CHAT, TEXT, EMBED, RESPOND, "/v1/moderations", "/v1/audio/speech", "/v1/images/generations", "/v1/batches", "/v1/uploads",
                 "/v1/conversations", "/v1/responses/input_tokens", "/v1/rerank", "/tokenize", "/detokenize"]
        bodies = [b"", b" \n", b"{", b"{\"a\":1", b"[]", b"null", b"true", b"1", b"\"x\"", b"{} {}", b"{}x", b"{a:1}", b"{'a':1}", b"{\"a\":01}", b"{\"a\":+1}",
                  b"{\"a\":NaN}", b"{\"a\":Infinity}", b"{\"a\":1e999}", b"{\"a\":.5}", b"{\"a\":\"\\x\"}", b"{\"a\":\"\\ud800\"}", b"{\"a\":\"\xff\"}", b"{\"a\":\"\x01\"}",
                  b"{\"a\":1,}", b"{\"a\":[1,]}", b"// x\n{}", b"\xef\xbb\xbf", b"{\"a\":tru}", b"{\"\\u0000", b"{\"a\":" + b"[" * 9999]
        def check(path, body):
            if path == "/v1/conversations" and body in (b"", b" \n"):
                return  # a conversation may begin with nothing
            status, headers, data = s.request("POST", path, body, headers={"Content-Type": "application/json"})
            check_error(status, headers, data, 400, None, ANY)
        each(((p, b) for p in paths for b in bodies), check)


@test
def more_inputs_than_run_at_once():
    with Server("--parallel", 2) as s:
        for n in 2, 3, 4, 5, 9, 30:
            for _ in range(8):
                got = s.post(EMBED, embed(input=["a"] * n), timeout=30)
                assert [d["index"] for d in got["data"]] == list(range(n)), n
                assert len(s.post("/v1/rerank", {"query": "a", "documents": ["b"] * n}, timeout=30)["results"]) == n


@test
def a_model_of_random_weights_gives_what_has_to_come():
    """It would think until its tokens are gone: thinking ends where the answer's share of them begins."""
    sys.path.insert(0, os.path.join(ROOT, "tools/ref"))
    try:
        import random_model
    except ImportError:
        raise Skip("numpy is not installed")
    pick = {"type": "object", "properties": {"c": {"enum": ["red", "green"]}, "n": {"type": "integer", "minimum": 0, "maximum": 9}},
            "required": ["c", "n"], "additionalProperties": False}
    forms = [{"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": pick}}},
             {"tools": [{"type": "function", "function": {"name": "pick", "parameters": pick}}], "tool_choice": "required"}]
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "random.gguf")
        random_model.make(path, arch="gpt-oss", wanted="Q8_0", seed=3)
        with Server("--model", path) as s:
            for form, seed, temperature in itertools.product(forms, range(6), (0, 1)):
                c = s.post(CHAT, chat(max_completion_tokens=300, seed=seed, temperature=temperature, **form))["choices"][0]
                told = c["message"]["content"] if "response_format" in form else c["message"]["tool_calls"][0]["function"]["arguments"]
                got = json.loads(told)
                assert got["c"] in ("red", "green") and 0 <= got["n"] <= 9 and c["finish_reason"] in ("stop", "tool_calls"), c


# ── The sweep ──

POOL = [True, False, 0, 1, -1, 2, 1.5, -0.5, "", " ", "x", "1", "é🦜", [], ["a"], [1], [None], [[]], {}, {"a": 1}, None, 1e15, -1e15, 1e300, 21, 129,
        2.001, -2.001, "y" * 65, "y" * 513, ["s"] * 5, [{}] * 6]
FEW = [True, 1, 1.5, "", "x", [], ["a"], {}, None, 1e15]  # for what lies deeper
GONE = object()

CHAT_SEEDS = [
    chat(temperature=1, top_p=1, n=1, stream=True, stream_options={"include_usage": True, "include_obfuscation": False}, stop=["aa", "b"], presence_penalty=0,
         frequency_penalty=0, logit_bias={"5": 1}, seed=1, user="u", logprobs=True, top_logprobs=1, service_tier="auto", verbosity="low", modalities=["text"],
         reasoning_effort="low", prediction={"type": "content", "content": [{"type": "text", "text": "a"}]}, store=False, metadata={"k": "v"},
         safety_identifier="s", prompt_cache_key="k", prompt_cache_retention="24h", prompt_cache_options={"ttl": "30m", "mode": "implicit"},
         moderation={"model": "m", "policy": {"input": {"mode": "score"}, "output": {"mode": "block"}}}),
    tools({"type": "custom", "custom": {"name": "g", "description": "d", "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": "a+"}}}},
          {"type": "function", "function": {"name": "f", "description": "d", "strict": True, "parameters": {}}}, parallel_tool_calls=True,
          tool_choice={"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [named("f")]}}),
    tools(named("f"), tool_choice=named("f")),
    tools({"type": "custom", "custom": {"name": "g", "format": {"type": "text"}}}, tool_choice={"type": "custom", "custom": {"name": "g"}}),
    chat(functions=[{"name": "f", "description": "d", "parameters": {}}], function_call={"name": "f"}),
    schema(name="n", description="d", strict=True, schema=OBJECT),
    say({"role": "system", "content": [{"type": "text", "text": "s"}], "name": "n"}, {"role": "developer", "content": "d", "name": "n"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "name": "n"},
        {"role": "assistant", "content": [{"type": "text", "text": "b"}, {"type": "refusal", "refusal": "no"}], "name": "n"}, USER,
        {"role": "assistant", "content": None, "refusal": "no"}, CALL, {**RESULT, "content": [{"type": "text", "text": "t"}]},
        {"role": "assistant", "content": "z", "function_call": {"name": "f", "arguments": "{}"}}, {"role": "function", "name": "f", "content": "r"}),
]
RESPOND_SEEDS = [
    respond(temperature=1, top_p=1, top_logprobs=1, stream=False, metadata={"k": "v"}, user="u", service_tier="auto", safety_identifier="s",
            prompt_cache_key="k", prompt_cache_retention="24h", parallel_tool_calls=True, max_tool_calls=1, truncation="auto", instructions="i",
            include=["message.output_text.logprobs"], reasoning={"effort": "low", "summary": "auto"}, text={"verbosity": "low", "format": {"type": "text"}},
            tool_choice="auto", tools=[{"type": "function", "name": "f", "description": "d", "strict": True, "parameters": OBJECT}]),
    respond(input=[{"role": "user", "content": "x"}, {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "y"}]}], stream=True,
            stream_options={"include_obfuscation": True}),
]

# Where the server is right to differ from the schema: stricter, as OpenAI's own service is (its schema leaves out ranges that its
# text has), or more tolerant (null where a member may be absent). (path, of the values, verdict of the server)
DIFFERS = [
    (r".*", lambda v: v is None, True),  # null counts as absent
    (r"model", lambda v: isinstance(v, str) or v is GONE, False),  # another name is another model
    (r"max_(completion_)?tokens|max_output_tokens|max_tool_calls", lambda v: isinstance(v, (int, float)), False),  # below 1, above 2^40
    (r"stop|stop\[\d\]", lambda v: v == "", False),
    (r"stop|stop\[\d\]", lambda v: v == [] or v is GONE, True),
    (r"logit_bias", lambda v: isinstance(v, dict), False),  # a key that is no token id
    (r"logit_bias\.5", lambda v: isinstance(v, (int, float)), ANY),  # −100 to 100, and fractions
    (r"metadata\.k", lambda v: isinstance(v, str), False),  # 512 characters
    (r".*\.(schema|parameters)(\..*)?", lambda v: True, ANY),  # a schema is checked as one
    (r".*name", lambda v: isinstance(v, str), False),  # letters, digits, _ and - ; known to tool_choice
    (r"(stream|logprobs|tools|functions|tools\[\d\]|functions\[\d\]|tool_choice.*|function_call.*)", lambda v: True, False),  # others need it
    (r"messages\[\d\](\.tool_calls.*|\.content)?", lambda v: v in ([], GONE, None), False),  # what follows needs it
    (r"messages\[\d\]\.(tool_call_id|tool_calls\[0\]\.id)", lambda v: isinstance(v, str), False),
    (r"messages\[\d\]\.tool_calls", lambda v: v == [], ANY),
    (r"messages\[\d\]\.content\[\d\]\.type", lambda v: isinstance(v, str), False),
    (r"input", lambda v: v is GONE or v == [], False),
    (r"tools\[\d\]\.type", lambda v: isinstance(v, str), True),  # tools of other kinds are kept for the next server
    (r"tools\[\d\]\.(strict|parameters)", lambda v: v is GONE, True),
    (r"text\.format\.description", lambda v: True, True),
    (r"seed|top_logprobs|n", lambda v: v is None, True),
    (r"n", lambda v: v == 129, False),
]


def nodes(x, path=()):
    yield path
    if isinstance(x, dict):
        for k in x:
            yield from nodes(x[k], (*path, k))
    elif isinstance(x, list):
        for i, v in enumerate(x):
            yield from nodes(v, (*path, i))


def replaced(seed, path, value):
    body = copy.deepcopy(seed)
    at = body
    for k in path[:-1]:
        at = at[k]
    if value is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return body


def spell(path):
    return "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in path)[1:]


def validators():
    folder = os.environ.get("ORIEL_CONFORMANCE")
    if not folder:
        raise Skip("ORIEL_CONFORMANCE is not set")
    try:
        from jsonschema import Draft202012Validator
    except ImportError:
        raise Skip("python3-jsonschema is not installed")
    with open(os.path.join(folder, "lib/schemas.json")) as f:
        kit = json.load(f)["strict"]
    return {name: Draft202012Validator({**kit, "$ref": f"#/$defs/{name}"}) for name in ("CreateChatCompletionRequest", "CreateResponse")}


@test
def every_parameter_against_the_schema():
    if SANITIZED:
        raise Skip("thousands of requests: the ordinary build's")
    valid = validators()
    with Server() as s:
        def check(path, body, where, value, fits):
            status, headers, data = s.request("POST", path, body)
            took = status == 200
            name = spell(where)
            if took != fits:
                assert any(re.fullmatch(r, name) and of(value) and verdict in (ANY, took) for r, of, verdict in DIFFERS), \
                    f"{name} = {'(left out)' if value is GONE else json.dumps(value)[:40]}: the schema says {fits}, the server {status} {data[:160]}"
            if not took:
                check_error(status, headers, data, 404 if "model" in name and status == 404 else 400, ANY, ANY)
                param = json.loads(data)["error"]["param"]
                first = re.split(r"[.\[]", name)[0]
                assert param, f"{name}: no param: {data[:200]}"
                if first not in ("stream", "logprobs", "tools", "functions", "n"):  # those are missed by others
                    assert re.split(r"[.\[]", param)[0] == first, f"{name}: param is {param}"
        cases = []
        for path, name, seeds in (CHAT, "CreateChatCompletionRequest", CHAT_SEEDS), (RESPOND, "CreateResponse", RESPOND_SEEDS):
            for seed in seeds:
                status, _, data = s.request("POST", path, seed)
                assert status == 200, data[:300]
                for where in nodes(seed):
                    for value in (*(POOL if len(where) == 1 else FEW), GONE):
                        if where and not (seed is not seeds[0] and where[0].startswith("max_")):  # nor without a limit
                            body = replaced(seed, where, value)
                            cases.append((path, body, where, value, valid[name].is_valid(body)))
        each(cases, check)


run_all()
