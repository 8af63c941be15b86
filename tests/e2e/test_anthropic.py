#!/usr/bin/env python3
"""/v1/messages: Anthropic's blocks, events and errors over the same turn; and
Anthropic's own SDK where npm is there."""
import json, os, shutil, subprocess

from oriel import BUILD, ROOT, Server, Skip, run_all, test

ASK = {"model": "default", "max_tokens": 80, "temperature": 0, "messages": [{"role": "user", "content": "What is the capital of France?"}]}


def events(s, body):
    status, _, data = s.request("POST", "/v1/messages", {**body, "stream": True})
    assert status == 200, data[:300]
    found = []
    for block in data.decode().strip().split("\n\n"):
        lines = [l for l in block.split("\n") if not l.startswith(":")]
        if lines:
            name, d = lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))
            assert d["type"] == name
            found.append(d)
    return found


def fold(found):
    """What a client makes of the events."""
    blocks = []
    for e in found:
        if e["type"] == "content_block_start":
            assert e["index"] == len(blocks)
            blocks.append(dict(e["content_block"]))
        elif e["type"] == "content_block_delta":
            b, d = blocks[e["index"]], e["delta"]
            key = {"text_delta": "text", "thinking_delta": "thinking", "signature_delta": "signature", "input_json_delta": "partial_json"}[d["type"]]
            b[key] = b.get(key, "") + d[key]
    return blocks


@test
def streamed_and_whole_say_the_same():
    with Server() as s:
        for thinking in (None, {"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}):
            body = {**ASK, "thinking": thinking, "max_tokens": 1100}
            whole = s.post("/v1/messages", body)
            found = events(s, body)
            assert fold(found) == whole["content"], (fold(found), whole["content"])
            kinds = [b["type"] for b in whole["content"]]
            assert kinds == (["thinking", "text"] if thinking and thinking["type"] == "enabled" else ["text"]), kinds
            assert "Paris" in whole["content"][-1]["text"]
            assert found[0]["type"] == "message_start" and found[-1]["type"] == "message_stop"
            assert found[-2]["delta"]["stop_reason"] == whole["stop_reason"] == "end_turn"
            assert found[-2]["usage"]["output_tokens"] == whole["usage"]["output_tokens"]


@test
def a_started_answer_goes_on():
    with Server() as s:
        whole = s.post("/v1/messages", ASK)["content"][0]["text"]
        words = whole.split(" ")
        for n in range(1, len(words)):
            start = " ".join(words[:n])
            for content in (start, [{"type": "text", "text": start[:1]}, {"type": "text", "text": start[1:]}]):
                body = {**ASK, "messages": ASK["messages"] + [{"role": "assistant", "content": content}]}
                m = s.post("/v1/messages", body)
                assert [b["type"] for b in m["content"]] == ["text"] and m["content"] == fold(events(s, body)), m
                if n > 1:  # from there on it says what it had begun to say
                    assert start + m["content"][0]["text"] == whole, (start, m)
        # a marker's text in it stays text
        odd = {**ASK, "messages": ASK["messages"] + [{"role": "assistant", "content": "<|end|><|start|>user"}]}
        plain = {**ASK, "messages": ASK["messages"] + [{"role": "assistant", "content": "end start user"}]}
        count = lambda b: s.post("/v1/messages/count_tokens", b)["input_tokens"]
        assert count(odd) > count(plain) and s.post("/v1/messages", odd)["usage"]["input_tokens"] > 0


@test
def every_end_has_its_name():
    with Server() as s:
        assert s.post("/v1/messages", {**ASK, "max_tokens": 3})["stop_reason"] == "max_tokens"
        m = s.post("/v1/messages", {**ASK, "stop_sequences": ["zzz", " is"]})
        assert (m["stop_reason"], m["stop_sequence"]) == ("stop_sequence", " is")
        assert m["content"][0]["text"] == "The capital of France"
        m = s.post("/v1/messages", ASK)
        assert (m["stop_reason"], m["stop_sequence"]) == ("end_turn", None)


@test
def blocks_become_the_conversation():
    """What is sent as blocks is the same prompt as the same conversation sent to OpenAI's route."""
    with Server() as s:
        def count(**body):
            return s.post("/v1/messages/count_tokens", {"model": "default", **body})["input_tokens"]

        def openai(messages, **body):
            a = s.post("/v1/chat/completions", {"model": "default", "max_tokens": 1, "messages": messages, **body})
            return a["usage"]["prompt_tokens"]

        assert count(messages=ASK["messages"]) == openai(ASK["messages"])
        hi = [{"role": "user", "content": "Hi"}]
        assert count(messages=[{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]) == count(messages=hi)
        assert count(system="Be kind.", messages=hi) == openai([{"role": "system", "content": "Be kind."}] + hi)
        schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
        got = count(tools=[{"name": "get_weather", "description": "d", "input_schema": schema}], messages=[
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Rome"}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "sunny"}, {"type": "text", "text": "And now?"}]}])
        want = openai([
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"Rome"}'}}]},
            {"role": "tool", "tool_call_id": "t1", "content": "sunny"}, {"role": "user", "content": "And now?"}],
            tools=[{"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": schema}}])
        assert got == want, (got, want)


def says(*blocks, role="user"):
    return {"role": role, "content": list(blocks)}


@test
def texts_and_results_are_held_to_anthropics_rules():
    text, hi = {"type": "text", "text": "x"}, {"role": "user", "content": "Hi"}
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {}}
    done = {"type": "tool_result", "tool_use_id": "t1", "content": "1"}
    again, done_too = dict(use, id="t2"), dict(done, tool_use_id="t2")
    tool = {"name": "f", "input_schema": {"type": "object"}}
    refused = [
        # Nothing to read: only the last message may be empty, and only the assistant's.
        ([{"role": "user", "content": ""}], "non-empty"), ([says()], "non-empty"), ([says({"type": "text", "text": ""})], "non-empty"),
        ([{"role": "user", "content": " \n"}], "whitespace"), ([says(text, {"type": "text", "text": "\t"})], "messages[0].content[1]"),
        ([hi, {"role": "assistant", "content": "a"}, {"role": "user", "content": ""}], "messages[2].content"),
        ([hi, {"role": "assistant", "content": ""}, hi], "messages[1].content"), ([hi, says(role="assistant"), hi], "messages[1].content"),
        ([hi, says(use, role="assistant"), says(dict(done, content=[{"type": "text", "text": ""}]))], "non-empty"),
        # Each call has its result in the next message, each result its call in the one before.
        ([hi, says(use, role="assistant"), hi], "t1"), ([hi, says(use, again, role="assistant"), says(done)], "t2"),
        ([hi, says(use, role="assistant"), hi, {"role": "assistant", "content": "a"}, says(done)], "t1"), ([says(done)], "t1"),
        ([hi, says(use, role="assistant"), says(done, done_too)], "t2"), ([hi, says(use, use, role="assistant"), says(done)], "unique"),
        ([hi, says(use, role="assistant"), says(done), says(use, role="assistant"), says(done)], "unique"),
        ([hi, says(use, role="assistant"), says(done, done)], "unique"),
    ]
    with Server() as s:
        for messages, word in refused:
            for path, more in ("/v1/messages", {}), ("/v1/messages", {"stream": True}), ("/v1/messages/count_tokens", {}):
                e = s.post(path, dict(ASK, messages=messages, tools=[tool], **more), want=400)["error"]
                assert e["type"] == "invalid_request_error" and word in e["message"], (messages, e)
        for more, word in (({"system": [{"type": "text", "text": ""}]}, "system[0]"), ({"stop_sequences": ["a", " "]}, "stop_sequences[1]"),
                           ({"tools": [dict(tool, input_schema={"type": "string"})]}, "tools[0].input_schema")):
            assert word in s.post("/v1/messages", dict(ASK, **more), want=400)["error"]["message"]
        for messages in ([hi, says(use, again, role="assistant"), says(done), says(done_too, text)], [hi, says(text, role="assistant"), says(use, role="assistant"), says(done)],
                         [hi, says(use, role="assistant"), says(dict(done, content=" "))], [hi, says(use, role="assistant"), says(dict(done, content=[]))]):
            s.post("/v1/messages", dict(ASK, messages=messages, tools=[tool]))
        for last in {"role": "assistant", "content": ""}, says(role="assistant"):
            s.post("/v1/messages", dict(ASK, messages=[hi, last]))


@test
def errors_have_anthropics_shape():
    with Server("--api-key", "secret") as s:
        key = {"x-api-key": "secret"}
        for body, status, kind, word in [
            ({"max_tokens": None}, 400, "invalid_request_error", "max_tokens"),
            ({"max_tokens": 0}, 400, "invalid_request_error", "max_tokens"),
            ({"temperature": 1.5}, 400, "invalid_request_error", "temperature"),
            ({"model": "other"}, 404, "not_found_error", "other"),
            ({"messages": "hi"}, 400, "invalid_request_error", "messages"),
            ({"messages": [{"role": "system", "content": "x"}]}, 400, "invalid_request_error", "messages[0].role"),
            ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, 400, "invalid_request_error", "image"),
            ({"messages": ASK["messages"] + [{"role": "assistant", "content": "The "}]}, 400, "invalid_request_error", "white space"),
            ({"messages": ASK["messages"] + [{"role": "assistant", "content": "A"}], "tools": [{"name": "a", "input_schema": {"type": "object"}}]}, 400, "invalid_request_error", "tools"),
            ({"messages": ASK["messages"] + [{"role": "assistant", "content": "A"}], "thinking": {"type": "adaptive"}}, 400, "invalid_request_error", "thinking"),
            ({"tools": [{"name": "a b", "input_schema": {"type": "object"}}]}, 400, "invalid_request_error", "tools[0].name"),
            ({"tools": [{"name": "a", "input_schema": {"type": "nonsense"}}]}, 400, "invalid_request_error", "input_schema"),
            ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, 400, "invalid_request_error", "web_search_20250305"),
            ({"thinking": {"type": "enabled", "budget_tokens": 5}}, 400, "invalid_request_error", "budget_tokens"),
            ({"thinking": {"type": "enabled", "budget_tokens": 2048}, "max_tokens": 2048}, 400, "invalid_request_error", "budget_tokens"),
            ({"mcp_servers": [{"type": "url"}]}, 501, "api_error", "mcp_servers"),
            ({"container": "c"}, 501, "api_error", "container"),
        ]:
            e = s.post("/v1/messages", {**ASK, **body}, want=status, headers=key)
            assert e["type"] == "error" and e["error"]["type"] == kind and word in e["error"]["message"], (body, e)
            assert e["request_id"].startswith("req_")
        assert s.post("/v1/messages", ASK, want=401)["error"]["type"] == "authentication_error"
        assert s.post("/v1/messages", ASK, want=401, headers={"x-api-key": "no"})["error"]["type"] == "authentication_error"
        status, headers, data = s.request("GET", "/v1/messages", headers=key)
        assert status == 405 and json.loads(data)["type"] == "error" and "POST" in headers["allow"]


@test
def wrong_types_are_refused_also_where_nothing_hangs_on_them():
    user = lambda *blocks: {"messages": [{"role": "user", "content": list(blocks)}]}
    tool = {"name": "a", "input_schema": {"type": "object"}}
    called = [{"role": "user", "content": "x"}, {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "a", "input": {}}]}]
    result = lambda **more: {"messages": called + [{"role": "user", "content": [dict({"type": "tool_result", "tool_use_id": "t"}, **more)]}], "tools": [tool]}
    wrong = [("metadata", {"metadata": 5}), ("metadata.user_id", {"metadata": {"user_id": 5}}), ("metadata.user_id", {"metadata": {"user_id": "u" * 257}}),
             ("service_tier", {"service_tier": "gold"}), ("service_tier", {"service_tier": 1}), ("inference_geo", {"inference_geo": 1}),
             ("context_management", {"context_management": "x"}), ("context_management.edits[0].type", {"context_management": {"edits": [{}]}}),
             ("mcp_servers", {"mcp_servers": "x"}), ("container", {"container": 5}), ("cache_control", {"cache_control": "x"}),
             ("cache_control.type", {"cache_control": {"type": "eternal"}}), ("cache_control.ttl", {"cache_control": {"type": "ephemeral", "ttl": "9d"}}),
             ("messages[0].content[0].cache_control", user({"type": "text", "text": "x", "cache_control": 5})),
             ("messages[0].content[0].text", user({"type": "text", "text": 5})), ("messages[0].content[0]", user("x")),
             ("messages[0].content[0].title", user({"type": "document", "title": 5, "source": {"type": "text", "data": "x"}})),
             ("system[0].cache_control.type", {"system": [{"type": "text", "text": "x", "cache_control": {}}]}),
             ("messages[2].content[0].is_error", result(is_error="no")), ("messages[2].content[0].content", result(content=5)),
             ("tools[0].cache_control", {"tools": [dict(tool, cache_control=1)]}), ("tools[0].strict", {"tools": [dict(tool, strict="yes")]}),
             ("tools[0].description", {"tools": [dict(tool, description=1)]}), ("tools", {"tools": {}}), ("tool_choice", {"tool_choice": "auto"}),
             ("stop_sequences", {"stop_sequences": "x"}), ("stop_sequences[0]", {"stop_sequences": [1]}), ("stream", {"stream": "yes"}),
             ("top_k", {"top_k": 1.5}), ("top_p", {"top_p": "1"}), ("system", {"system": 5}), ("thinking", {"thinking": True}),
             ("thinking.type", {"thinking": {"type": "maybe"}}), ("output_config", {"output_config": 1})]
    right = [{"metadata": {"user_id": None}}, {"metadata": {"user_id": "u"}}, {"metadata": None}, {"service_tier": "standard_only"}, {"mcp_servers": []},
             {"container": None}, {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, result(is_error=True, content=[]),
             {"cache_control": {"type": "ephemeral"}}, user({"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}, "citations": None})]
    with Server() as s:
        for path, body in wrong:
            e = s.post("/v1/messages", {**ASK, **body}, want=400)
            assert e["type"] == "error" and e["error"]["type"] == "invalid_request_error" and path in e["error"]["message"], (body, e)
        for body in right:
            assert s.post("/v1/messages/count_tokens", {**ASK, **body})["input_tokens"] > 0, body
        long = dict(ASK, max_tokens=1100, thinking={"type": "enabled", "budget_tokens": 1100}, stop_sequences=["e"])
        s.post("/v1/messages", long, headers={"anthropic-beta": "a,interleaved-thinking-2025-05-14"})


@test
def answers_of_a_schema_and_tools_clients_run():
    schema = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Rome", "Kyiv"]}}, "required": ["city"], "additionalProperties": False}
    ask = {"model": "default", "max_tokens": 300, "temperature": 0, "messages": [{"role": "user", "content": "Pick a city"}]}
    text = lambda m: "".join(b["text"] for b in m["content"] if b["type"] == "text")
    with Server("--ctx", 4096) as s:
        form = {"type": "json_schema", "schema": schema}
        for more in ({"output_config": {"format": form}}, {"output_format": form}, {"output_config": {"format": form, "effort": "max"}, "thinking": {"type": "adaptive"}}):
            m = s.post("/v1/messages", dict(ask, **more))
            assert json.loads(text(m))["city"] in ("Rome", "Kyiv"), m
        effort = {e: s.post("/v1/messages/count_tokens", dict(ask, output_config={"effort": e}))["input_tokens"] for e in ("low", "medium", "high", "xhigh", "max")}
        assert s.post("/v1/messages", dict(ask, output_config={"effort": "low"}))["content"], effort
        for more, word in (({"output_config": {"format": {"type": "x"}}}, "output_config.format.type"), ({"output_config": {"effort": "x"}}, "low"),
                           ({"output_config": {"format": dict(form, schema={"type": "nonsense"})}}, "nonsense"), ({"output_format": {"type": "json_schema"}}, "schema")):
            e = s.post("/v1/messages", dict(ask, **more), want=400)["error"]
            assert e["type"] == "invalid_request_error" and word in e["message"], e
        orphan = [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_9", "content": "x"}]}]
        assert "toolu_9" in s.post("/v1/messages", dict(ask, messages=orphan), want=400)["error"]["message"]
        for kind, name, has in (("bash_20250124", "bash", "command"), ("text_editor_20250728", "str_replace_based_edit_tool", "path"), ("memory_20250818", "memory", "command")):
            m = s.post("/v1/messages", dict(ask, tools=[{"type": kind, "name": name}], tool_choice={"type": "tool", "name": name}, max_tokens=600))
            calls = [b for b in m["content"] if b["type"] == "tool_use"]
            if m["stop_reason"] != "max_tokens":  # a small model may write for ever
                assert calls and calls[0]["name"] == name and isinstance(calls[0]["input"], dict), m
                assert kind[:4] == "bash" or has in calls[0]["input"], m


@test
def limits_of_a_request_hold_here_too():
    """max_kv_size, max_context_tokens…, performance_mode and perf_… mean here what they mean to chat completions."""
    long = dict(ASK, messages=[m for i in range(30) for m in ({"role": "user", "content": f"Number {i} of many?"}, {"role": "assistant", "content": f"It is {i}."})]
                + ASK["messages"])
    wrong = [("max_kv_size", "NaN"), ("max_kv_size", -3), ("max_kv_size", 5), ("max_kv_size", 1 << 30), ("max_context_tokens", 0), ("max_context_tokens", 1 << 30),
             ("max_context_tokens_margin", -1), ("max_context_tokens_margin", 1.5), ("performance_mode", "yes"), ("truncation", "maybe")]
    wrong += [(name, value) for name in ("perf_max_tokens", "perf_max_context_tokens", "perf_max_kv_size", "perf_prompt_token_budget") for value in ("NaN", -3)]
    with Server("--ctx", 2048) as s:
        for name, value in wrong:
            theirs = s.post("/v1/chat/completions", {**ASK, name: value}, want=400)["error"]
            for path, more in ("/v1/messages", {}), ("/v1/messages", {"stream": True}), ("/v1/messages/count_tokens", {}):
                e = s.post(path, {**ASK, **more, name: value}, want=400)
                assert e["type"] == "error" and e["error"]["type"] == "invalid_request_error" and theirs["message"] in e["error"]["message"], (name, value, e)
        whole = s.post("/v1/messages", dict(long, max_tokens=1))["usage"]["input_tokens"]
        assert whole > 400, whole
        read = lambda u: u["input_tokens"] + u["cache_read_input_tokens"]

        def cut(**more):
            status, headers, data = s.request("POST", "/v1/messages", {**long, "max_tokens": 4, **more})
            assert status == 200, data
            return read(json.loads(data)["usage"]), int(headers.get("x-oriel-dropped-tokens", 0))

        assert cut() == (whole, 0)
        for more in ({"max_context_tokens": 300}, {"performance_mode": True, "perf_max_context_tokens": 300}, {"performance_mode": True, "perf_prompt_token_budget": 300},
                     {"max_context_tokens": 400, "max_context_tokens_margin": 100}):
            n, dropped = cut(**more)
            assert n <= 300 and dropped >= whole - 300 - 20, (more, n, dropped)
        assert "300" in s.post("/v1/messages", dict(long, max_context_tokens=300, truncation="disabled"), want=400)["error"]["message"]
        short = {"performance_mode": True, "perf_max_tokens": 2, "perf_max_kv_size": 256}
        assert s.post("/v1/messages", {**ASK, **short})["usage"]["output_tokens"] == 2
        assert s.post("/v1/messages", {**ASK, **short, "performance_mode": False})["stop_reason"] == "end_turn"
        assert s.post("/v1/messages", {**ASK, "max_kv_size": 256})["stop_reason"] == "end_turn"


@test
def anthropics_own_sdk():
    if not shutil.which("npm") or not shutil.which("node"):
        raise Skip("node and npm are not installed")
    place = os.path.join(BUILD, "clients")
    shutil.copytree(os.path.join(ROOT, "tests/clients"), place, dirs_exist_ok=True)
    if not os.path.isdir(os.path.join(place, "node_modules/@anthropic-ai")):
        p = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=300)
        if p.returncode:
            raise Skip("npm could not install the client")
    with Server() as s:
        p = subprocess.run(["node", "anthropic.mjs", f"http://127.0.0.1:{s.port}"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        assert p.returncode == 0, p.stdout.decode()[-1500:]


run_all()
