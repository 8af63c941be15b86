#!/usr/bin/env python3
"""What OpenAI's Codex CLI sends to /v1/responses and reads of the stream, without the program itself (it has hundreds of
megabytes): the shapes of its version 0.169.0 in our own words. DEVELOPER_GUIDE says how it was tried."""
import json

from oriel import Server, run_all, test

PATCH = """start: begin_patch hunk+ end_patch
begin_patch: "*** Begin Patch" LF
end_patch: "*** End Patch" LF?

hunk: add_hunk | delete_hunk
add_hunk: "*** Add File: " filename LF add_line+
delete_hunk: "*** Delete File: " filename LF

filename: /(.+)/
add_line: "+" /(.*)/ LF -> line

%import common.LF
"""
STR = {"type": "string"}


def obj(*required, **properties):
    return {"type": "object", "properties": properties, "required": list(required), "additionalProperties": False}


def function(name, parameters, **more):
    return dict({"type": "function", "name": name, "description": name, "strict": False, "parameters": parameters}, **more)


CHOICE = {"type": "string", "enum": ["a", "b"]}
TOOLS = [function("exec_command", obj("cmd", cmd=STR, max_output_tokens={"type": "number"}, prefix_rule={"type": "array", "items": STR})),
         {"type": "custom", "name": "apply_patch", "description": "edits files", "format": {"type": "grammar", "syntax": "lark", "definition": PATCH}},
         {"type": "namespace", "name": "mcp__notes", "description": "notes", "tools": [function("find", obj("key", key=CHOICE)), function("exec_command", obj("key", key=CHOICE))]},
         {"type": "tool_search", "execution": "client", "description": "finds tools", "parameters": obj("query", query=CHOICE)},
         {"type": "web_search", "external_web_access": False, "search_content_types": ["text", "image"]}]
HEADERS = {"x-codex-beta-features": "remote_compaction_v2", "x-codex-window-id": "w:0", "x-codex-turn-metadata": '{"turn_id":"t"}', "x-client-request-id": "c",
           "session-id": "s", "thread-id": "s", "originator": "codex_exec", "Accept": "text/event-stream", "Authorization": "Bearer sk-local",
           "User-Agent": "codex_exec/0.169.0 (Debian 12.0.0; x86_64)"}


def message(role, text, n):
    return {"type": "message", "id": f"msg_01a20950-d609-7d60-881e-{n:012d}", "role": role, "content": [{"type": "input_text", "text": text}]}


TURN = [message("developer", "You are a coding agent.", 1), message("developer", "<skills_instructions>none</skills_instructions>", 2),
        message("user", "<environment_context><cwd>/w</cwd></environment_context>", 3), message("user", "Do it", 4)]


def request(items=TURN, **more):
    return dict({"model": "default", "input": items, "tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": True, "reasoning": {"effort": "medium", "summary": "auto"},
                 "store": False, "stream": True, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "01a20950", "text": {"verbosity": "low"},
                 "client_metadata": {"thread_id": "t", "x-codex-turn-metadata": "{}"}, "temperature": 0, "max_output_tokens": 300}, **more)


def stream(s, body):
    status, headers, data = s.request("POST", "/v1/responses", body, headers=HEADERS)
    assert status == 200 and headers["content-type"].startswith("text/event-stream"), (status, data[:400])
    out = []
    for block in data.decode().split("\n\n"):
        for line in block.split("\n"):
            if line.startswith("data: "):
                out.append(json.loads(line[6:]))
    assert [e["sequence_number"] for e in out] == list(range(len(out)))
    return out


def finished(events):
    """What Codex lives on: an item is known when it is done, the turn when the response is."""
    last = events[-1]["response"]
    assert last["status"] in ("completed", "incomplete"), (last["status"], last["error"])
    items = [e["item"] for e in events if e["type"] == "response.output_item.done"]
    assert items == last["output"] and last["id"].startswith("resp_") and last["usage"]["total_tokens"] > 0
    return items


def forced(s, name, kind, **more):
    """A call of that tool, with whatever the model thinks before it."""
    for seed in range(12):  # a small model may think for ever
        events = stream(s, request(tool_choice=dict({"type": "function", "name": name}, **more), temperature=1, seed=seed, max_output_tokens=400))
        if events[-1]["type"] == "response.completed":
            break
    items = finished(events)
    assert [i["type"] for i in items if i["type"] not in ("reasoning", "message")] == [kind], items
    return events, items


@test
def a_turn_is_accepted_and_understood():
    with Server("--ctx", 8192) as s:
        items = finished(stream(s, request(tools=[TOOLS[0], TOOLS[4]])))
        # The next turn sends all of it back, reasoning with its seal (and without its words), calls with their outputs.
        back = [dict(i, content=None) if i["type"] == "reasoning" else i for i in items]
        back += [{"type": i["type"] + "_output", "call_id": i["call_id"], "output": "ok"} for i in items if i["type"] in ("function_call", "custom_tool_call")]
        call = {"type": "function_call", "status": "completed", "id": "fc_1", "name": "exec_command", "arguments": '{"cmd":"ls"}', "call_id": "call_1"}
        result = {"type": "function_call_output", "id": "fco_01a20950", "call_id": "call_1", "output": "Chunk ID: 1\nProcess exited with code 0\nOutput:\n"}
        patch = {"type": "custom_tool_call", "status": "completed", "call_id": "call_2", "name": "apply_patch", "input": "*** Begin Patch\n*** Delete File: x\n*** End Patch"}
        patched = {"type": "custom_tool_call_output", "call_id": "call_2", "name": "apply_patch", "output": [{"type": "input_text", "text": "Success"}]}
        shell = [{"type": "local_shell_call", "id": "lsh_1", "call_id": "call_3", "status": "completed", "action": {"type": "exec", "command": ["ls"]}},
                 {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}}]
        finished(stream(s, request([*TURN, *back, message("user", "Go on", 5), call, result, patch, patched, *shell, message("user", "Go on", 6)])))


@test
def a_namespace_is_offered_and_comes_back():
    with Server("--ctx", 8192) as s:
        events, items = forced(s, "find", "function_call", namespace="mcp__notes")
        call = items[-1]
        assert call["name"] == "find" and call["namespace"] == "mcp__notes" and json.loads(call["arguments"])["key"] in "ab", call
        added = [e["item"] for e in events if e["type"] == "response.output_item.added"][-1]
        done = [e for e in events if e["type"] == "response.function_call_arguments.done"][-1]
        assert added["namespace"] == "mcp__notes" and added["arguments"] == "" and done["name"] == "find" and done["arguments"] == call["arguments"]
        # Its twin of the same name, and the plain one.
        assert forced(s, "exec_command", "function_call", namespace="mcp__notes")[1][-1]["namespace"] == "mcp__notes"
        events, items = forced(s, "find", "function_call", namespace="mcp__notes")
        output = {"type": "function_call_output", "call_id": items[-1]["call_id"], "output": "none"}
        finished(stream(s, request([*TURN, *items, output, message("user", "And?", 7)])))
        # What the client sent is what it gets to see.
        assert events[-1]["response"]["tools"][2] == TOOLS[2]
        bad = [TOOLS[0], dict(TOOLS[2], tools=[function("ok", obj()), function("find", {"type": "nonsense"})])]
        status, _, data = s.request("POST", "/v1/responses", request(tools=bad, stream=False))
        assert status == 400 and json.loads(data)["error"]["param"].startswith("tools[1].tools[1].parameters"), data
        status, _, data = s.request("POST", "/v1/responses", request(tools=[{"type": "namespace", "name": "x"}]))
        assert status == 400 and json.loads(data)["error"]["param"] == "tools[0].tools", data


@test
def a_search_for_tools_is_the_clients():
    with Server("--ctx", 8192) as s:
        events, items = forced(s, "tool_search", "tool_search_call")
        call = items[-1]
        assert call["execution"] == "client" and call["arguments"]["query"] in "ab" and call["call_id"] and call["status"] == "completed", call
        assert not [e for e in events if "function_call_arguments" in e["type"]]
        found = {"type": "tool_search_output", "call_id": call["call_id"], "execution": "client", "status": "completed",
                 "tools": [{"type": "namespace", "name": "mcp__late", "description": "", "tools": [function("look", obj("key", key=CHOICE), defer_loading=True)]}]}
        # What it found can be called from then on, also when the search lies some turns back.
        for again in ([], [message("user", "Look", 8)]):
            ask = request([*TURN, *items, found, *again], tool_choice={"type": "function", "name": "look", "namespace": "mcp__late"})
            for seed in range(12):
                events = stream(s, dict(ask, temperature=1, seed=seed, max_output_tokens=400))
                if events[-1]["type"] == "response.completed":
                    break
            assert finished(events)[-1]["namespace"] == "mcp__late"


@test
def tools_may_come_as_an_item():
    with Server("--ctx", 8192) as s:
        more = {"type": "additional_tools", "id": "at_1", "role": "developer", "tools": [
            {"type": "namespace", "name": "functions", "description": "", "tools": [
                {"type": "custom", "name": "exec", "description": "code", "format": {"type": "grammar", "syntax": "lark", "definition": 'start: "ab"+'}},
                function("wait", obj("key", key=CHOICE))]},
            {"type": "namespace", "name": "clock", "description": "", "tools": [function("sleep", obj("key", key=CHOICE))]}]}
        for seed in range(12):
            body = request([more, *TURN], tool_choice="required", parallel_tool_calls=False, temperature=1, seed=seed, max_output_tokens=400,
                           reasoning={"effort": "medium", "context": "all_turns"})
            del body["tools"]
            events = stream(s, body)
            if events[-1]["type"] == "response.completed":
                break
        call = [i for i in finished(events) if i["type"] != "reasoning"][-1]
        assert (call["type"], call["name"], call.get("namespace")) in [("custom_tool_call", "exec", "functions"), ("function_call", "wait", "functions"),
                                                                       ("function_call", "sleep", "clock")], call


@test
def what_it_asks_besides():
    with Server("--ctx", 8192) as s:
        assert s.get("/v1/models?client_version=0.169.0")["data"][0]["id"]
        # It tries a WebSocket first where a provider is said to have them: a 426 makes it go on over HTTP at once.
        status, _, _ = s.request("GET", "/v1/responses", headers={"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                                                                  "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
        assert status == 426, status
        # Compaction over HTTP, then the turn that goes on from it.
        c = s.post("/v1/responses/compact", {"model": "default", "input": TURN, "instructions": "", "tools": TOOLS, "parallel_tool_calls": True,
                                             "reasoning": {"effort": "medium"}, "text": {"verbosity": "low"}, "temperature": 0, "max_output_tokens": 64})
        assert c["output"][-1]["type"] == "compaction"
        finished(stream(s, request([*c["output"], message("user", "Go on", 9)])))


run_all()
