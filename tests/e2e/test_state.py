#!/usr/bin/env python3
"""What the server keeps: responses and their events, conversations, stored completions, files,
uploads, batches. Also what survives kill -9 and what a full disk does."""
import base64, hashlib, http.client, json, os, random, shutil, signal, subprocess, tempfile, threading, time

from oriel import ORIEL, SANITIZED, Server, Skip, run_all, test, wait_for

ASK = {"model": "default", "temperature": 0, "max_output_tokens": 48}
SOAK = int(os.environ.get("ORIEL_SOAK_KILLS", "0"))


def ask(s, question, want=200, **more):
    return s.post("/v1/responses", dict(ASK, input=question, **more), want=want)


def events(s, path, body=None, headers=None):
    status, h, data = s.request("POST" if body else "GET", path, body, headers=headers)
    assert status == 200, (status, data[:300])
    out = []
    for block in data.decode().split("\n\n"):
        if block:
            lines = dict(l.split(": ", 1) for l in block.split("\n"))
            e = json.loads(lines["data"])
            assert lines["event"] == e["type"] and int(lines["id"]) == e["sequence_number"], block
            out.append(e)
    return out


def text_of(r):
    return "".join(c["text"] for o in r["output"] if o["type"] == "message" for c in o["content"])


def error(s, method, path, body=None, status=400, **want):
    got, h, data = s.request(method, path, body)
    e = json.loads(data)["error"]
    assert got == status, (got, e)
    for k, v in want.items():
        assert e[k] == v, (k, v, e)
    return e


def form(fields, boundary="----oriel-test"):
    out = b""
    for name, value in fields:
        out += f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode()
        if isinstance(value, tuple):
            out += f'; filename="{value[0]}"\r\nContent-Type: application/octet-stream'.encode()
            value = value[1]
        out += b"\r\n\r\n" + (value if isinstance(value, bytes) else value.encode()) + b"\r\n"
    return out + f"--{boundary}--\r\n".encode(), {"Content-Type": f"multipart/form-data; boundary={boundary}"}


def upload(s, data, purpose="batch", name="in.jsonl", want=200):
    body, headers = form([("purpose", purpose), ("file", (name, data))])
    return s.post("/v1/files", body, headers=headers, want=want)


def content(s, file_id):
    status, _, data = s.request("GET", f"/v1/files/{file_id}/content")
    assert status == 200, data
    return data


def lines(n, url="/v1/chat/completions", **more):
    body = {"model": "default", "messages": [{"role": "user", "content": "Say hi"}], "max_completion_tokens": 4, "temperature": 0}
    return "\n".join(json.dumps({"custom_id": f"c{i}", "method": "POST", "url": url, "body": dict(body, seed=i, **more)}) for i in range(n)).encode()


def batch(s, data, endpoint="/v1/chat/completions", **more):
    f = upload(s, data)
    return s.post("/v1/batches", dict(input_file_id=f["id"], endpoint=endpoint, completion_window="24h", **more))


def ended(s, b, seconds=60):
    def look():
        now = s.get(f"/v1/batches/{b['id']}")
        return now["status"] in ("completed", "failed", "expired", "cancelled") and now
    return wait_for(look, seconds, "the batch's end")


# ── responses ──


@test
def a_stream_and_a_whole_answer_say_the_same():
    with Server("--ctx", 4096) as s:
        e = events(s, "/v1/responses", dict(ASK, input="What is the capital of France?", stream=True))
        assert [x["sequence_number"] for x in e] == list(range(len(e)))
        assert [x["type"] for x in e[:2]] == ["response.created", "response.in_progress"] and e[-1]["type"] == "response.completed"
        final = e[-1]["response"]
        whole = ask(s, "What is the capital of France?")
        assert text_of(final) == text_of(whole) and text_of(whole)
        deltas = "".join(x["delta"] for x in e if x["type"] == "response.output_text.delta")
        assert deltas == text_of(final)
        opened = [x for x in e if x["type"].endswith(".added")]
        done = [x for x in e if x["type"].endswith(".done")]
        for x in opened:
            assert any(d["type"] == x["type"].replace(".added", ".done") and d["output_index"] == x["output_index"] for d in done), x["type"]
        # The chat route gives the same text for the same question.
        chat = s.post("/v1/chat/completions", {"model": "default", "temperature": 0, "max_completion_tokens": 48,
                                               "messages": [{"role": "user", "content": "What is the capital of France?"}]})
        assert chat["choices"][0]["message"]["content"] == text_of(whole)
        assert chat["usage"]["prompt_tokens"] == whole["usage"]["input_tokens"]


@test
def stored_events_can_be_read_again_from_anywhere():
    with Server("--ctx", 4096) as s:
        e = events(s, "/v1/responses", dict(ASK, input="What is the capital of France?", stream=True))
        path = f"/v1/responses/{e[0]['response']['id']}?stream=true"
        assert events(s, path) == e
        assert events(s, path + "&starting_after=4") == e[5:]
        assert events(s, path, headers={"Last-Event-ID": "7"}) == e[8:]
        assert events(s, path, headers={"Last-Event-ID": str(len(e) - 1)}) == []
        plain = ask(s, "Say hi")
        error(s, "GET", f"/v1/responses/{plain['id']}?stream=true", param="stream")
        error(s, "GET", path + "&starting_after=x", param="starting_after")


@test
def chains_and_conversations_lengthen_the_prompt():
    with Server("--ctx", 4096) as s:
        a = ask(s, "My name is Ada.")
        b = ask(s, "What is my name?", previous_response_id=a["id"])
        alone = ask(s, "What is my name?")
        assert b["usage"]["input_tokens"] > alone["usage"]["input_tokens"]
        items = s.get(f"/v1/responses/{b['id']}/input_items")
        assert len(items["data"]) == 1 and items["data"][0]["content"][0]["text"] == "What is my name?"
        c = s.post("/v1/conversations", {"items": [{"role": "user", "content": "My name is Ada."}], "metadata": {"k": "v"}})
        assert c["object"] == "conversation" and c["metadata"] == {"k": "v"}
        d = ask(s, "What is my name?", conversation=c["id"])
        assert d["conversation"] == {"id": c["id"]} and d["usage"]["input_tokens"] > alone["usage"]["input_tokens"]
        got = s.get(f"/v1/conversations/{c['id']}/items?order=asc")
        assert [i["type"] for i in got["data"]][:2] == ["message", "message"] and got["data"][-1]["role"] == "assistant", got
        # Pages, forwards and back.
        one = s.get(f"/v1/conversations/{c['id']}/items?order=asc&limit=1")
        assert one["has_more"] and one["data"] == got["data"][:1]
        rest = s.get(f"/v1/conversations/{c['id']}/items?order=asc&after={one['last_id']}")
        assert rest["data"] == got["data"][1:] and not rest["has_more"]
        assert s.get(f"/v1/conversations/{c['id']}/items")["data"] == got["data"][::-1]
        # Single items, metadata, the end.
        first = got["data"][0]["id"]
        assert s.get(f"/v1/conversations/{c['id']}/items/{first}") == got["data"][0]
        more = s.post(f"/v1/conversations/{c['id']}/items", {"items": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}]})
        assert len(more["data"]) == 1
        status, _, data = s.request("DELETE", f"/v1/conversations/{c['id']}/items/{first}")
        assert status == 200 and json.loads(data)["id"] == c["id"]
        error(s, "GET", f"/v1/conversations/{c['id']}/items/{first}", status=404)
        assert s.post(f"/v1/conversations/{c['id']}", {"metadata": {"k": "w"}})["metadata"] == {"k": "w"}
        status, _, data = s.request("DELETE", f"/v1/conversations/{c['id']}")
        assert json.loads(data) == {"id": c["id"], "object": "conversation.deleted", "deleted": True}
        error(s, "GET", f"/v1/conversations/{c['id']}", status=404)
        error(s, "POST", "/v1/responses", dict(ASK, input="x", conversation=c["id"]), status=404, param="conversation")
        error(s, "POST", "/v1/responses", dict(ASK, input="x", conversation="c", previous_response_id="r"), param="previous_response_id")
        # An id that a client made up twice does not take an item out of another conversation.
        c1, c2 = (s.post("/v1/conversations", {}) for _ in range(2))
        for c in (c1, c2):
            ask(s, [{"type": "message", "id": "msg_mine", "role": "user", "content": "Hi"}], conversation=c["id"])
            ask(s, [{"type": "message", "id": a["id"], "role": "user", "content": "Hi"}], conversation=c["id"])
        assert all(len([i for i in s.get(f"/v1/conversations/{c['id']}/items")["data"] if i.get("role") == "user"]) == 2 for c in (c1, c2))
        assert s.get(f"/v1/responses/{a['id']}") == a
        # A link of the chain that is gone is not passed over in silence.
        s.request("DELETE", f"/v1/responses/{a['id']}")
        error(s, "POST", "/v1/responses", dict(ASK, input="x", previous_response_id=b["id"]), code="previous_response_not_found")


@test
def items_come_back_verbatim():
    """What agents do: send the output of one call as input of the next, also when only the sealed reasoning is left of it."""
    with Server("--ctx", 4096) as s:
        a = ask(s, "What is the capital of France?", store=False, include=["reasoning.encrypted_content"])
        reasoning = [o for o in a["output"] if o["type"] == "reasoning"]
        assert reasoning and reasoning[0]["encrypted_content"]
        first = {"role": "user", "content": "What is the capital of France?"}
        second = {"role": "user", "content": "And of Italy?"}
        plain = ask(s, [first, *a["output"], second])
        sealed = [dict(o, content=[]) if o["type"] == "reasoning" else o for o in a["output"]]
        again = ask(s, [first, *sealed, second], store=False)
        assert text_of(again) == text_of(plain) and again["usage"]["input_tokens"] == plain["usage"]["input_tokens"]
        error(s, "GET", f"/v1/responses/{a['id']}", status=404)
        blob = bytearray(base64.b64decode(reasoning[0]["encrypted_content"]))
        blob[-1] ^= 1
        bad = [first, {"type": "reasoning", "summary": [], "encrypted_content": base64.b64encode(blob).decode()}]
        error(s, "POST", "/v1/responses", dict(ASK, input=bad), param="input[1].encrypted_content")
        # Calls, their outputs, items of hosted tools, references.
        kept = ask(s, "Hello")
        mixed = [first, {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": "{}"},
                 {"type": "function_call_output", "call_id": "call_1", "output": "Paris"},
                 {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "x"}},
                 {"type": "item_reference", "id": kept["output"][-1]["id"]}, second]
        tools = [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}, {"type": "web_search"}, {"type": "mcp", "server_label": "x"}]
        r = ask(s, mixed, tools=tools)
        assert [t["type"] for t in r["tools"]] == ["function", "web_search", "mcp"]
        listed = s.get(f"/v1/responses/{r['id']}/input_items?order=asc")["data"]
        assert [i["type"] for i in listed] == ["message", "function_call", "function_call_output", "web_search_call", "message", "message"]
        error(s, "POST", "/v1/responses", dict(ASK, input=[{"type": "item_reference", "id": "msg_nope"}]), status=404, param="input[0].id")
        error(s, "POST", "/v1/responses", dict(ASK, input=[first, {"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]),
              param="input[1].content[0]")
        error(s, "POST", "/v1/responses", dict(ASK, input=[{"type": "nonsense"}]), param="input[0].type")
        error(s, "POST", "/v1/responses", dict(ASK, input="x", tools=[{"type": "web_search"}, {"type": "function", "name": "a b"}]), param="tools[1].name")
        error(s, "POST", "/v1/responses", dict(ASK, input="x", max_output_tokens=3), param="max_output_tokens", code="integer_below_min_value")
        error(s, "POST", "/v1/responses", dict(ASK, input="x", include=["nope"]), param="include[0]")
        logprobs = ask(s, "Say hi", include=["message.output_text.logprobs"], top_logprobs=2)
        part = [o for o in logprobs["output"] if o["type"] == "message"][0]["content"][0]
        assert part["logprobs"] and len(part["logprobs"][0]["top_logprobs"]) == 2


@test
def tools_and_formats_are_those_of_chat():
    with Server("--ctx", 4096) as s:
        obj = {"type": "object", "properties": {"city": {"type": "string", "enum": ["Rome", "Kyiv"]}}, "required": ["city"], "additionalProperties": False}
        f = {"type": "function", "name": "weather", "strict": True, "parameters": obj}
        r = ask(s, "Weather?", tools=[{"type": "web_search"}, f], tool_choice={"type": "function", "name": "weather"}, max_output_tokens=200)
        calls = [o for o in r["output"] if o["type"] == "function_call"]
        assert len(calls) == 1 and json.loads(calls[0]["arguments"])["city"] in ("Rome", "Kyiv"), r["output"]
        j = ask(s, "Pick one", text={"format": {"type": "json_schema", "name": "x", "strict": True, "schema": obj}}, max_output_tokens=200)
        assert json.loads(text_of(j))["city"] in ("Rome", "Kyiv")
        custom = {"type": "custom", "name": "patch", "format": {"type": "grammar", "syntax": "regex", "definition": "[ab]{3,6}"}}
        for seed in range(20):  # a small model may think for ever
            e = events(s, "/v1/responses", dict(ASK, input="Patch it.", tools=[custom], tool_choice="required", max_output_tokens=200,
                                                stream=True, temperature=1, seed=seed))
            if e[-1]["type"] == "response.completed":
                break
        done = [x for x in e if x["type"] == "response.custom_tool_call_input.done"]
        assert len(done) == 1 and set(done[0]["input"]) <= set("ab") and 3 <= len(done[0]["input"]) <= 6
        assert "".join(x["delta"] for x in e if x["type"] == "response.custom_tool_call_input.delta") == done[0]["input"]
        call = [o for o in e[-1]["response"]["output"] if o["type"] == "custom_tool_call"][0]
        ask(s, [{"role": "user", "content": "x"}, call, {"type": "custom_tool_call_output", "call_id": call["call_id"], "output": "ok"}], tools=[custom])
        bad = dict(f, parameters={"type": "object", "properties": {"a": {"type": "nonsense"}}})
        assert error(s, "POST", "/v1/responses", dict(ASK, input="x", tools=[{"type": "web_search"}, bad]))["param"].startswith("tools[1].parameters")
        wrong = {"format": {"type": "json_schema", "name": "x", "strict": True, "schema": {"type": "nonsense"}}}
        assert error(s, "POST", "/v1/responses", dict(ASK, input="x", text=wrong))["param"].startswith("text.format")


@test
def a_background_response_outlives_its_client_and_a_restart():
    where = tempfile.mkdtemp(prefix="oriel-data-")
    try:
        with Server("--ctx", 4096, "--data-dir", where) as s:
            r = ask(s, "Say hi", background=True)
            assert r["status"] in ("queued", "in_progress", "completed") and r["background"]  # a small model may be done already
            done = wait_for(lambda: (lambda x: x["status"] == "completed" and x)(s.get(f"/v1/responses/{r['id']}")), 30)
            e = events(s, f"/v1/responses/{r['id']}?stream=true")
            # created is the first one whatever follows: the clients' stream helpers refuse another.
            assert [(x["type"], x["response"]["status"]) for x in e[:3]] == [("response.created", "queued"), ("response.queued", "queued"),
                                                                             ("response.in_progress", "in_progress")]
            assert e[-1]["response"] == done
            error(s, "POST", "/v1/responses", dict(ASK, input="x", background=True, store=False), param="background")
            # Cancelled while it runs.
            long = s.post("/v1/responses", {"model": "default", "input": "Count", "background": True, "ignore_eos": True, "max_output_tokens": 4000})
            status, _, data = s.request("POST", f"/v1/responses/{long['id']}/cancel")
            assert status == 200 and json.loads(data)["status"] == "cancelled", data
            assert s.get(f"/v1/responses/{long['id']}")["status"] == "cancelled"
            error(s, "POST", f"/v1/responses/{ask(s, 'Hi')['id']}/cancel")
            # Deleted while it runs, it is gone at once, however long its last step takes.
            for _ in range(30):
                gone = s.post("/v1/responses", {"model": "default", "input": "Count", "background": True, "ignore_eos": True, "max_output_tokens": 4000})
                assert s.request("DELETE", f"/v1/responses/{gone['id']}")[0] == 200
                for method, more in ("GET", ""), ("GET", "?stream=true"), ("GET", "/input_items"), ("POST", "/cancel"), ("DELETE", ""):
                    error(s, method, f"/v1/responses/{gone['id']}{more}", status=404)
            # Killed while it runs: the next server takes it up.
            last = s.post("/v1/responses", {"model": "default", "input": "Count", "background": True, "ignore_eos": True, "max_output_tokens": 1500, "seed": 3})
            s.p.kill()
            s.p.wait()
            s.p.returncode = 0
        with Server("--ctx", 4096, "--data-dir", where) as s:
            assert s.get(f"/v1/responses/{done['id']}") == done
            now = wait_for(lambda: (lambda x: x["status"] == "incomplete" and x)(s.get(f"/v1/responses/{last['id']}")), 60)
            assert now["created_at"] == last["created_at"] and now["usage"]["output_tokens"] == 1500
    finally:
        shutil.rmtree(where)


@test
def a_client_that_leaves_ends_its_response():
    with Server("--ctx", 4096, "--parallel", 1) as s:
        body = json.dumps({"model": "default", "input": "Count", "stream": True, "ignore_eos": True, "max_output_tokens": 4000})
        c = s.socket()
        c.sendall(f"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        got = b""
        while b"output_text.delta" not in got and b"reasoning_text.delta" not in got:
            got += c.recv(65536)
        c.close()
        wait_for(lambda: s.metrics()["oriel_sequences_running"] == 0, 5, "the slot's release")
        rid = json.loads(got.split(b"data: ")[1].split(b"\n")[0])["response"]["id"]
        kept = wait_for(lambda: (lambda x: x["status"] == "cancelled" and x)(s.get(f"/v1/responses/{rid}")), 5, "the response's end")
        e = events(s, f"/v1/responses/{rid}?stream=true&starting_after=3")
        assert e[0]["sequence_number"] == 4 and e[-1]["response"] == kept


@test
def compaction_and_counting():
    with Server("--ctx", 4096) as s:
        items = [{"role": "user", "content": "My dog is called Rex."}, {"role": "assistant", "content": "Good to know."}]
        c = s.post("/v1/responses/compact", {"model": "default", "input": items})
        assert c["object"] == "response.compaction" and [o["type"] for o in c["output"]] == ["message", "compaction"]
        assert c["output"][0]["content"][0]["text"] == "My dog is called Rex."
        r = ask(s, c["output"] + [{"role": "user", "content": "And now?"}])
        n = s.post("/v1/responses/input_tokens", {"model": "default", "input": c["output"] + [{"role": "user", "content": "And now?"}]})
        assert n == {"object": "response.input_tokens", "input_tokens": r["usage"]["input_tokens"]}


@test
def nothing_is_kept_without_a_store():
    with Server("--ctx", 4096, "--no-store") as s:
        r = ask(s, "Say hi")
        assert r["store"] is False and r["status"] == "completed"
        error(s, "GET", f"/v1/responses/{r['id']}", status=501)
        error(s, "POST", "/v1/responses", dict(ASK, input="x", previous_response_id=r["id"]), code="previous_response_not_found")
        error(s, "POST", "/v1/conversations", {}, status=501)
        error(s, "GET", "/v1/files", status=501)
        assert s.post("/v1/chat/completions", {"model": "default", "store": True, "max_completion_tokens": 2,
                                               "messages": [{"role": "user", "content": "Hi"}]})["choices"]


@test
def stored_completions():
    with Server("--ctx", 4096) as s:
        def chat(text, **more):
            return {"model": "default", "temperature": 0, "store": True, "max_completion_tokens": 24, "messages": [{"role": "user", "content": text}], **more}
        a = s.post("/v1/chat/completions", chat("Hi", metadata={"n": "1"}))
        b = s.post("/v1/chat/completions", chat([{"type": "text", "text": "Say "}, {"type": "text", "text": "hi"}], metadata={"n": "2"}))
        chunks = s.stream("/v1/chat/completions", chat("Hi"))
        got = s.get(f"/v1/chat/completions/{a['id']}")
        assert got["choices"] == a["choices"] and got["metadata"] == {"n": "1"}
        streamed = s.get(f"/v1/chat/completions/{chunks[0]['id']}")
        assert streamed["choices"][0]["message"]["content"] == a["choices"][0]["message"]["content"]
        ids = [x["id"] for x in s.get("/v1/chat/completions")["data"]]
        assert ids == [a["id"], b["id"], chunks[0]["id"]]
        assert [x["id"] for x in s.get("/v1/chat/completions?order=desc&limit=2")["data"]] == ids[:0:-1]
        assert [x["id"] for x in s.get("/v1/chat/completions?metadata[n]=2")["data"]] == [b["id"]]
        assert s.get("/v1/chat/completions?model=other")["data"] == []
        m = s.get(f"/v1/chat/completions/{b['id']}/messages")["data"]
        assert len(m) == 1 and m[0]["content"] == "Say hi" and len(m[0]["content_parts"]) == 2 and m[0]["role"] == "user"
        assert s.post(f"/v1/chat/completions/{a['id']}", {"metadata": {"n": "3"}})["metadata"] == {"n": "3"}
        assert s.get(f"/v1/chat/completions/{a['id']}")["metadata"] == {"n": "3"}
        status, _, data = s.request("DELETE", f"/v1/chat/completions/{a['id']}")
        assert json.loads(data) == {"id": a["id"], "object": "chat.completion.deleted", "deleted": True}
        error(s, "GET", f"/v1/chat/completions/{a['id']}", status=404)
        not_kept = s.post("/v1/chat/completions", chat("Hi", store=False))
        error(s, "GET", f"/v1/chat/completions/{not_kept['id']}", status=404)


@test
def what_is_too_long_is_cut_or_refused_wherever_it_comes_from():
    with Server("--ctx", 1024) as s:
        old = [{"role": "user", "content": "Remember this. " * 60}, {"role": "assistant", "content": "I will. " * 60}]
        a = ask(s, [*old, {"role": "user", "content": "Hi"}])
        b = ask(s, [*old, {"role": "user", "content": "Hi"}], previous_response_id=a["id"], truncation="auto")
        assert b["truncation"] == "auto"
        c = s.post("/v1/conversations", {"items": old * 3})
        more = {"role": "user", "content": "What did I say?"}
        for way in ({"previous_response_id": b["id"], "input": [*old, more]}, {"conversation": c["id"], "input": [more]}, {"input": [*(old * 3), more]}):
            for stream in (False, True):
                for truncation in ("disabled", None):
                    error(s, "POST", "/v1/responses", dict(ASK, **way, truncation=truncation, stream=stream), code="context_length_exceeded", param="input")
            cut = s.post("/v1/responses", dict(ASK, **way, truncation="auto"))
            assert cut["usage"]["input_tokens"] < 1024 and cut["usage"]["input_tokens_details"]["dropped_tokens"] > 0, cut["usage"]
            whole = s.get(f"/v1/responses/{cut['id']}/input_items?limit=100")["data"]
            assert len(whole) == len(way["input"])  # cut from the prompt, not from what is kept


@test
def errors_speak_the_clients_language():
    with Server("--ctx", 4096) as s:
        bad = lambda status=400, want_message=None, **more: error(s, "POST", "/v1/responses", dict(ASK, input="x", **more), status=status)
        e = bad(tools=[{"type": "web_search"}, {"type": "function"}])
        assert e["param"] == "tools[1].name" and "'tools[1].name'" in e["message"] and "function" not in e["message"], e
        e = bad(text={"format": {"type": "json_schema", "name": "x"}})
        assert e["param"] == "text.format.schema" and "'text.format.schema'" in e["message"], e
        e = bad(reasoning={"effort": "x"})
        assert e["param"] == "reasoning.effort", e
        orphan = [{"role": "user", "content": "hi"}, {"type": "function_call_output", "call_id": "call_9", "output": "x"}]
        e = error(s, "POST", "/v1/responses", dict(ASK, input=orphan))
        assert (e["message"], e["param"], e["code"]) == ("No tool call found for function call output with call_id call_9.", "input", None), e
        assert bad(conversation="")["param"] == "conversation" and bad(conversation={"id": ""})["param"] == "conversation.id"
        assert bad(conversation="c", previous_response_id="r")["param"] == "previous_response_id"
        many = {str(i): "x" for i in range(17)}
        for metadata, param in ((many, "metadata"), ({"k" * 65: "x"}, "metadata"), ({"k": "x" * 513}, "metadata.k"), ({"k": 5}, "metadata.k")):
            assert bad(metadata=metadata)["param"] == param
            error(s, "POST", "/v1/conversations", {"metadata": metadata}, param=param)
        ask(s, "x", metadata={str(i) * 2 + "k" * 60: "x" * 512 for i in range(16)})
        # Retrieving takes `include`, too.
        r = ask(s, "What is the capital of France?")
        path = f"/v1/responses/{r['id']}"
        error(s, "GET", path + "?include=nope", param="include")
        error(s, "GET", path + "?include[]=message.output_text.logprobs&include[]=nope", param="include")
        assert s.get(path + "?include=message.output_text.logprobs") == r
        sealed = s.get(path + "?include[]=reasoning.encrypted_content")
        thought = [o for o in sealed["output"] if o["type"] == "reasoning"][0].pop("encrypted_content")
        assert sealed == r and len(thought) > 40
        # Also while it is made.
        live = ask(s, "Tell me a story.", background=True, max_output_tokens=4000)
        thoughts, path = [], f"/v1/responses/{live['id']}"
        while not thoughts and live["status"] in ("queued", "in_progress"):
            live = s.get(path + "?include=reasoning.encrypted_content")
            thoughts = [o for o in live["output"] if o["type"] == "reasoning"]
        assert thoughts and len(thoughts[0]["encrypted_content"]) > 40, live
        back = ask(s, [{"role": "user", "content": "What is the capital of France?"}, {"type": "reasoning", "summary": [], "encrypted_content": thought},
                       *[o for o in r["output"] if o["type"] == "message"], {"role": "user", "content": "And of Italy?"}])
        assert back["usage"]["input_tokens"] == ask(s, "And of Italy?", previous_response_id=r["id"])["usage"]["input_tokens"]


@test
def what_a_response_cannot_be_made_of():
    user, call = {"role": "user", "content": "x"}, {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
    out = {"type": "function_call_output", "call_id": "c1", "output": "1"}
    patch = {"type": "custom_tool_call", "call_id": "c2", "name": "p", "input": "a"}
    f = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}

    def part(kind, role="user", **more):
        return {"input": [user, {"role": role, "content": [{"type": kind, **more}]}]}
    with Server("--ctx", 4096) as s:
        for more, param, status in (
                ({"previous_response_id": ""}, "previous_response_id", 400), ({"reasoning": {"generate_summary": "x"}}, "reasoning.generate_summary", 400),
                ({"prompt": "x"}, "prompt", 400), ({"prompt": {}}, "prompt.id", 400), ({"prompt": {"id": "pmpt_1", "variables": []}}, "prompt.variables", 400),
                ({"prompt": {"id": "pmpt_1", "version": "2", "variables": {"a": "b"}}}, "prompt", 404),
                (part("text", text="a"), "input[1].content[0].type", 400), (part("output_text", text="a"), "input[1].content[0].type", 400),
                (part("refusal", refusal="a"), "input[1].content[0].type", 400), (part("text", "assistant", text="a"), "input[1].content[0].type", 400),
                ({"tools": [f], "tool_choice": {"type": "function"}}, "tool_choice.name", 400),
                ({"tools": [f], "tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice.name", 400),
                ({"tools": [f], "tool_choice": {"type": "web_search"}}, "tool_choice", 400), ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice", 400),
                ({"tools": [{"type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "x", "definition": "a"}}]}, "tools[0].format.syntax", 400),
                # A call that nobody answered.
                ({"input": [user, call]}, "input", 400), ({"input": [user, call, user]}, "input", 400), ({"input": [user, call, dict(call, call_id="c3"), out]}, "input", 400),
                ({"input": [user, patch, user]}, "input", 400)):
            e = error(s, "POST", "/v1/responses", {**ASK, "input": "x", **more}, status=status, param=param)
            assert e["type"] == "invalid_request_error", e
        a = ask(s, "x", tools=[dict(f, strict=True)], tool_choice="required", max_output_tokens=200)
        made = [o for o in a["output"] if o["type"] == "function_call"]
        assert made and made[0]["call_id"] in error(s, "POST", "/v1/responses", dict(ASK, input="x", previous_response_id=a["id"]), param="input")["message"]
        ask(s, [dict(out, call_id=o["call_id"]) for o in made], previous_response_id=a["id"])
        ask(s, [user, call, patch, out, {"type": "custom_tool_call_output", "call_id": "c2", "output": "1"}])
        ask(s, [user, dict(call, status="incomplete"), user])  # cut short: there was nothing to answer
        ask(s, [user, {"role": "assistant", "content": [{"type": "input_text", "text": "a"}]}, user])
        for tool, choice in ("web_search", "web_search_preview"), ("web_search_2025_08_26", "web_search"), ("computer_use_preview", "computer"):
            ask(s, "x", tools=[{"type": tool}], tool_choice={"type": choice})
        for path in f"/v1/responses/{a['id']}", f"/v1/responses/{a['id']}/input_items":
            error(s, "GET", path + "?include[]=nope", param="include")
            s.get(path + "?include[]=reasoning.encrypted_content")


@test
def lists_are_what_their_schema_says():
    """Items of custom tools have a status; include is checked; null takes metadata away."""
    items = [{"role": "user", "content": "x"}, {"type": "custom_tool_call", "call_id": "c", "name": "p", "input": "a"},
             {"type": "custom_tool_call_output", "call_id": "c", "output": "b"}]
    with Server("--ctx", 4096) as s:
        r = ask(s, items)
        c = s.post("/v1/conversations", {"items": items, "metadata": {"a": "b"}})
        path = f"/v1/conversations/{c['id']}"
        for data in s.get(f"/v1/responses/{r['id']}/input_items")["data"], s.get(path + "/items")["data"]:
            assert [i["status"] for i in data] == ["completed"] * 3, data
        for where in path + "/items", f"{path}/items/{data[0]['id']}":
            error(s, "GET", where + "?include[]=nope", param="include")
            s.get(where + "?include[]=message.output_text.logprobs")
        error(s, "POST", path + "/items?include[]=nope", {"items": items}, param="include")
        assert len(s.get(path + "/items")["data"]) == 3
        assert s.post(path, {"metadata": None})["metadata"] == {}
        error(s, "POST", path, {}, param="metadata", code="missing_required_parameter")
        chat = s.post("/v1/chat/completions", {"model": "default", "messages": items[:1], "store": True, "metadata": {"a": "b"}, "max_completion_tokens": 2})
        assert s.post(f"/v1/chat/completions/{chat['id']}", {"metadata": None})["metadata"] == {}
        # The tokens of a message are those of its text, not those that announce it.
        for seed in range(6):
            e = events(s, "/v1/responses", dict(ASK, input="Say hi", include=["message.output_text.logprobs"], top_logprobs=1, temperature=1, seed=seed, stream=True))
            for o in e[-1]["response"]["output"]:
                if o["type"] == "message" and o["status"] == "completed":
                    assert "".join(l["token"] for l in o["content"][0]["logprobs"]) == o["content"][0]["text"], o
            said = [l["token"] for x in e if x["type"] == "response.output_text.delta" for l in x["logprobs"]]
            assert "".join(said) == text_of(e[-1]["response"])


@test
def a_threshold_summarises_before_answering():
    """context_management: what came before becomes one sealed item of the output, and the prompt gets short again."""
    with Server("--ctx", 4096) as s:
        manage = [{"type": "compaction", "compact_threshold": 1000}]
        old = [{"role": "user", "content": "Remember this. " * 200}, {"role": "assistant", "content": "I will. " * 100}]
        last = {"role": "user", "content": "My name is Ada. Say hi."}
        whole = ask(s, [*old, last], context_management=None)
        assert whole["usage"]["input_tokens"] > 1000
        e = events(s, "/v1/responses", dict(ASK, input=[*old, last], context_management=manage, instructions="Be brief.", stream=True))
        assert [x["sequence_number"] for x in e] == list(range(len(e))) and e[-1]["type"] == "response.completed", e[-1]
        added, done = [x for x in e if x["type"].startswith("response.output_item")][:2]
        assert (added["type"], done["type"]) == ("response.output_item.added", "response.output_item.done") and added["output_index"] == done["output_index"] == 0
        r = e[-1]["response"]
        first = r["output"][0]
        assert added["item"] == done["item"] == first and first["type"] == "compaction" and first["id"].startswith("cmp_") and len(first["encrypted_content"]) > 40
        assert [o["type"] for o in r["output"]][1:] and "compaction" not in [o["type"] for o in r["output"]][1:]
        assert r["usage"]["input_tokens"] < 1000 and text_of(r)
        # What the user said last is there word for word.
        short = ask(s, [first, {"role": "user", "content": "Hi"}])
        bare = ask(s, [{"role": "user", "content": "Hi"}])
        assert short["usage"]["input_tokens"] > bare["usage"]["input_tokens"] + 10
        # It stands for all before it, however the conversation goes on.
        more = {"role": "user", "content": "And my name?"}
        b = ask(s, [more], previous_response_id=r["id"])
        c = ask(s, [*old, last, *r["output"], more])
        d = ask(s, [*r["output"], more])
        assert b["usage"]["input_tokens"] == c["usage"]["input_tokens"] == d["usage"]["input_tokens"] < 1000
        assert text_of(b) == text_of(c) == text_of(d)
        assert [i["type"] for i in s.get(f"/v1/responses/{c['id']}/input_items?order=asc")["data"]][:4] == ["message"] * 3 + ["compaction"]
        # Below the threshold nothing happens.
        assert ask(s, [last], context_management=manage)["output"][0]["type"] != "compaction"
        # A conversation keeps it, a background response makes it too.
        k = s.post("/v1/conversations", {"items": old})
        g = ask(s, [last], conversation=k["id"], context_management=manage, background=True)
        g = wait_for(lambda: (lambda v: v["status"] not in ("queued", "in_progress") and v)(s.get(f"/v1/responses/{g['id']}")), 60, "its end")
        assert g["output"][0]["type"] == "compaction", g
        assert ask(s, [more], conversation=k["id"])["usage"]["input_tokens"] < 1000
        # Cancelled while it summarises, it is cancelled.
        h = ask(s, [*old, last], background=True, context_management=manage)
        assert s.post(f"/v1/responses/{h['id']}/cancel", {})["status"] in ("cancelled", "completed", "incomplete")
        # Too long for the context altogether: refused without, answered with it.
        long = [{"role": "user", "content": "Remember this. " * 300}, {"role": "assistant", "content": "I will. " * 100}] * 4
        error(s, "POST", "/v1/responses", dict(ASK, input=[*long, last]), code="context_length_exceeded", param="input")
        assert ask(s, [*long, last], context_management=[{"type": "compaction"}])["output"][0]["type"] == "compaction"
        for bad, param in (([{"type": "x"}], "[0].type"), ([{}], "[0].type"), ({}, ""), ([{"type": "compaction", "compact_threshold": 999}], "[0].compact_threshold"),
                           ([{"type": "compaction", "compact_threshold": "x"}], "[0].compact_threshold")):
            error(s, "POST", "/v1/responses", dict(ASK, input="x", context_management=bad), param="context_management" + param)


# ── files, uploads ──


@test
def files_and_uploads():
    with Server("--ctx", 4096) as s:
        data = bytes(range(256)) * 9000
        f = upload(s, data, "user_data", 'a "b".bin'.replace('"', '\\"'))
        assert f["bytes"] == len(data) and f["filename"] == 'a "b".bin' and f["expires_at"] is None
        assert content(s, f["id"]) == data
        g = upload(s, b"", "batch")
        assert g["bytes"] == 0 and content(s, g["id"]) == b"" and g["expires_at"] > time.time()
        assert [x["id"] for x in s.get("/v1/files?purpose=user_data")["data"]] == [f["id"]]
        assert [x["id"] for x in s.get("/v1/files")["data"]] == [g["id"], f["id"]]
        body, headers = form([("purpose", "nonsense"), ("file", ("x", b"x"))])
        assert s.post("/v1/files", body, want=400, headers=headers)["error"]["param"] == "purpose"
        assert s.post("/v1/files", b"--x\r\n", want=400, headers={"Content-Type": "multipart/form-data; boundary=x"})["error"]["message"]
        assert s.post("/v1/files", {}, want=400)["error"]["message"]
        body, headers = form([("purpose", "batch"), ("expires_after[anchor]", "created_at"), ("expires_after[seconds]", "3600"), ("file", ("x", b"x"))])
        assert 3590 < s.post("/v1/files", body, headers=headers)["expires_at"] - time.time() < 3610
        # In parts.
        parts = [data[:1000000], data[1000000:]]
        def begin(bytes=len(data)):
            return s.post("/v1/uploads", {"filename": "big.bin", "purpose": "user_data", "bytes": bytes, "mime_type": "x/y"})
        u = begin()
        assert u["status"] == "pending" and u["object"] == "upload"
        ids = []
        for p in reversed(parts):
            body, headers = form([("data", ("part", p))])
            ids.insert(0, s.post(f"/v1/uploads/{u['id']}/parts", body, headers=headers)["id"])
        wrong = s.post(f"/v1/uploads/{u['id']}/complete", {"part_ids": ids, "md5": "0" * 32}, want=400)
        assert wrong["error"]["param"] == "md5"
        assert s.post(f"/v1/uploads/{u['id']}/complete", {"part_ids": ids[:1]}, want=400)["error"]["param"] == "part_ids"
        assert s.post(f"/v1/uploads/{u['id']}/complete", {"part_ids": ["part_x"]}, want=400)["error"]["param"] == "part_ids[0]"
        done = s.post(f"/v1/uploads/{u['id']}/complete", {"part_ids": ids, "md5": hashlib.md5(data).hexdigest().upper()})
        assert done["status"] == "completed" and done["file"]["bytes"] == len(data)
        assert content(s, done["file"]["id"]) == data
        assert s.post(f"/v1/uploads/{u['id']}/complete", {"part_ids": ids}, want=400)["error"]["message"]
        v = begin(5)
        assert s.post(f"/v1/uploads/{v['id']}/cancel", {})["status"] == "cancelled"
        body, headers = form([("data", ("part", b"x"))])
        s.post(f"/v1/uploads/{v['id']}/parts", body, headers=headers, want=400)
        for id in (f["id"], done["file"]["id"]):
            s.request("DELETE", f"/v1/files/{id}")
        left = subprocess.run(["find", os.path.join(s.own_data, "files"), "-type", "f", "-size", "+100k"], stdout=subprocess.PIPE).stdout
        assert left == b"", left


@test
def an_upload_is_completed_once():
    with Server("--ctx", 4096) as s:
        for other in "complete", "cancel":
            u = s.post("/v1/uploads", {"filename": "a", "purpose": "user_data", "bytes": 1, "mime_type": "x/y"})
            body, headers = form([("data", ("a", b"x"))])
            p = s.post(f"/v1/uploads/{u['id']}/parts", body, headers=headers)
            got = []

            def end(how):
                got.append(s.request("POST", f"/v1/uploads/{u['id']}/{how}", {"part_ids": [p["id"]]} if how == "complete" else None)[0])
            threads = [threading.Thread(target=end, args=(how,)) for how in ("complete", other) * 4]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            assert sorted(got) == [200] + [400] * 7, got
        assert len(s.get("/v1/files")["data"]) <= 2


@test
def a_content_tells_its_length():
    """Also to HEAD, whose answer has no body, not even the end of one: it would be read as the next answer."""
    with Server("--ctx", 4096) as s:
        f = upload(s, b"0123456789", "user_data")
        e = events(s, "/v1/responses", dict(ASK, input="Say hi", stream=True))
        status, h, data = s.request("GET", f"/v1/files/{f['id']}/content")
        assert (status, h["content-length"], data) == (200, "10", b"0123456789"), h
        for path, length in (f"/v1/files/{f['id']}/content", b"Content-Length: 10"), (f"/v1/responses/{e[0]['response']['id']}?stream=true", b""):
            head = f"HEAD {path} HTTP/1.1\r\nHost: 127.0.0.1:{s.port}\r\n"
            got = s.raw((head + "\r\n" + head + "Connection: close\r\n\r\n").encode(), until_close=True)
            first, second, rest = got.split(b"\r\n\r\n")
            assert not rest and all(a.startswith(b"HTTP/1.1 200 OK\r\n") and length in a and b"chunked" not in a for a in (first, second)), got


@test
def a_full_disk_is_a_507_and_leaves_nothing():
    if os.geteuid() != 0:
        raise Skip("needs root to mount a small file system")
    where = tempfile.mkdtemp(prefix="oriel-small-")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", where], stderr=subprocess.DEVNULL).returncode:
        os.rmdir(where)
        raise Skip("tmpfs cannot be mounted here")
    try:
        with Server("--ctx", 4096, "--data-dir", os.path.join(where, "d")) as s:
            kept = ask(s, "Say hi")
            body, headers = form([("purpose", "user_data"), ("file", ("x", os.urandom(3 << 20)))])
            status, h, data = s.request("POST", "/v1/files", body, headers=headers)
            e = json.loads(data)["error"]
            assert status == 507 and e["type"] == "server_error" and e["code"] == "insufficient_storage", (status, e)
            assert h["x-should-retry"] == "false"
            assert s.get("/v1/files")["data"] == []
            found = subprocess.run(["find", where, "-path", "*files/*", "-type", "f"], stdout=subprocess.PIPE).stdout
            assert found == b"", found
            # Rows, too: fill it up, until an answer cannot be kept.
            filler = os.open(os.path.join(where, "filler"), os.O_CREAT | os.O_WRONLY)
            try:
                while True:
                    os.write(filler, b"x" * 4096)
            except OSError:
                pass
            os.close(filler)
            big = "word " * 1500
            status, h, data = s.request("POST", "/v1/responses", dict(ASK, input=big))
            refused = 0
            for _ in range(40):
                status, h, data = s.request("POST", "/v1/responses", dict(ASK, input=big, max_output_tokens=16))
                refused += status == 507
                assert status in (200, 507), (status, data)
                if status == 507:
                    assert json.loads(data)["error"]["code"] == "insufficient_storage" and h["x-should-retry"] == "false"
                    break
            assert refused, "the disk never became full"
            os.unlink(os.path.join(where, "filler"))
            assert s.get(f"/v1/responses/{kept['id']}") == kept
            after = ask(s, "Say hi")
            assert s.get(f"/v1/responses/{after['id']}") == after
    finally:
        subprocess.run(["umount", where])
        os.rmdir(where)


@test
def every_writer_meets_a_full_disk():
    """Each kind of write is refused with a 507 and leaves nothing; what was acknowledged stays; a batch waits for room."""
    if os.geteuid() != 0:
        raise Skip("needs root to mount a small file system")
    where = tempfile.mkdtemp(prefix="oriel-small-")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", where], stderr=subprocess.DEVNULL).returncode:
        os.rmdir(where)
        raise Skip("tmpfs cannot be mounted here")
    on_disk = lambda: sorted(f for d, _, files in os.walk(os.path.join(where, "d/files")) for f in files)
    try:
        with Server("--ctx", 4096, "--data-dir", os.path.join(where, "d"), "--kv-dir", os.path.join(where, "kv")) as s:
            words, kept = "word " * 1500, []
            def parts(u, data):
                body, headers = form([("data", ("part", data))])
                return s.request("POST", f"/v1/uploads/{u['id']}/parts", body, headers=headers)
            def begin(n):
                return s.post("/v1/uploads", {"filename": "f", "purpose": "user_data", "bytes": n, "mime_type": "x/y"})
            u, v = begin(150000), begin(150000)
            part = json.loads(parts(u, os.urandom(150000))[2])
            b = batch(s, lines(30, max_completion_tokens=40, ignore_eos=True))
            c = s.post("/v1/conversations", {})
            filler = os.open(os.path.join(where, "filler"), os.O_CREAT | os.O_WRONLY)
            def fill():
                for size in (1 << 16, 4096, 1):
                    try:
                        while True:
                            os.write(filler, b"x" * size)
                    except OSError:
                        pass
            def refused(what, ask_once):
                for _ in range(60):
                    fill()
                    status, h, data = ask_once()
                    if h["content-type"].startswith("text/event-stream"):
                        last = json.loads(data.decode().strip().split("\n")[-1][6:])
                        if last["type"] == "error":
                            assert last["code"] == "insufficient_storage", last
                            return
                    elif status == 507:
                        assert json.loads(data)["error"]["code"] == "insufficient_storage" and h["x-should-retry"] == "false", what
                        return
                    else:
                        kept.append(json.loads(data))
                    assert status == 200, (what, status, data[:300])
                raise AssertionError(f"{what}: the disk never became full")
            post = lambda path, body: lambda: s.request("POST", path, body)
            body, headers = form([("purpose", "user_data"), ("file", ("x", os.urandom(100000)))])
            refused("a file", lambda: s.request("POST", "/v1/files", body, headers=headers))
            refused("a part", lambda: parts(v, os.urandom(150000)))
            refused("a completed upload", post(f"/v1/uploads/{u['id']}/complete", {"part_ids": [part["id"]]}))
            refused("a conversation", post("/v1/conversations", {"items": [{"role": "user", "content": words}]}))
            refused("items", post(f"/v1/conversations/{c['id']}/items", {"items": [{"role": "user", "content": words}]}))
            refused("a response", post("/v1/responses", dict(ASK, input=words, max_output_tokens=16)))
            refused("a stream", post("/v1/responses", dict(ASK, input=words, max_output_tokens=16, stream=True)))
            refused("a background response", post("/v1/responses", dict(ASK, input=words, max_output_tokens=16, background=True)))
            refused("a completion", post("/v1/chat/completions", {"model": "default", "store": True, "max_completion_tokens": 4, "messages": [{"role": "user", "content": words}]}))
            assert not [f for f in on_disk() if f.startswith("tmp-")], on_disk()
            assert s.get("/v1/files")["data"] and all(f["purpose"] == "batch" for f in s.get("/v1/files")["data"] if f["id"] not in [k["id"] for k in kept])
            os.close(filler)
            os.unlink(os.path.join(where, "filler"))
            # Room again: everything that was promised is there, and what waited goes on.
            for k in kept:
                path = {"response": "responses", "conversation": "conversations", "chat.completion": "chat/completions", "file": "files"}.get(k["object"])
                if path and not (k["object"] == "response" and k["background"]):
                    assert s.get(f"/v1/{path}/{k['id']}")["id"] == k["id"]
            d = ended(s, b)
            assert d["status"] == "completed" and d["request_counts"]["completed"] == 30, d
            assert [json.loads(l)["custom_id"] for l in content(s, d["output_file_id"]).splitlines()] == [f"c{i}" for i in range(30)]
            assert s.post(f"/v1/uploads/{u['id']}/complete", {"part_ids": [part["id"]]})["status"] == "completed"
            after = ask(s, "Say hi")
            assert s.get(f"/v1/responses/{after['id']}") == after
        with Server("--ctx", 4096, "--data-dir", os.path.join(where, "d"), "--kv-dir", os.path.join(where, "kv")) as s:
            assert s.get(f"/v1/responses/{after['id']}") == after and ask(s, "Say hi")["output"][-1]["content"] == after["output"][-1]["content"]
    finally:
        subprocess.run(["umount", where])
        os.rmdir(where)


# ── batches ──


@test
def a_batch_answers_in_order():
    with Server("--ctx", 4096) as s:
        data = lines(9) + b"\n\n" + json.dumps({"custom_id": "bad", "method": "POST", "url": "/v1/chat/completions",
                                               "body": {"model": "default", "messages": [], "temperature": 0}}).encode()
        b = batch(s, data, metadata={"k": "v"})
        assert b["object"] == "batch" and b["status"] in ("validating", "in_progress")
        d = ended(s, b)
        assert d["status"] == "completed" and d["request_counts"] == {"total": 10, "completed": 9, "failed": 1} and d["metadata"] == {"k": "v"}, d
        assert d["usage"]["output_tokens"] > 0 and d["model"] == "default"
        out = [json.loads(l) for l in content(s, d["output_file_id"]).splitlines()]
        assert [o["custom_id"] for o in out] == [f"c{i}" for i in range(9)]
        live = s.post("/v1/chat/completions", json.loads(lines(1))["body"])
        assert out[0]["response"]["status_code"] == 200 and out[0]["response"]["body"]["choices"] == live["choices"]
        bad = [json.loads(l) for l in content(s, d["error_file_id"]).splitlines()]
        assert [(e["custom_id"], e["response"]["status_code"]) for e in bad] == [("bad", 400)]
        f = s.get(f"/v1/files/{d['output_file_id']}")
        assert f["purpose"] == "batch_output" and f["filename"] == f"{b['id']}_output.jsonl"
        assert s.get("/v1/batches")["data"][0]["id"] == b["id"]
        error(s, "POST", f"/v1/batches/{b['id']}/cancel", {}, status=409)
        # The other endpoints.
        r = json.dumps({"custom_id": "r", "method": "POST", "url": "/v1/responses", "body": dict(ASK, input="Hi")}).encode()
        d = ended(s, batch(s, r, "/v1/responses"))
        body = json.loads(content(s, d["output_file_id"]))["response"]["body"]
        assert body["object"] == "response" and s.get(f"/v1/responses/{body['id']}") == body
        c = json.dumps({"custom_id": "c", "method": "POST", "url": "/v1/completions", "body": {"model": "default", "prompt": "Once", "max_tokens": 3}}).encode()
        assert ended(s, batch(s, c, "/v1/completions"))["request_counts"]["completed"] == 1


@test
def bad_batches_fail_validation():
    with Server("--ctx", 4096) as s:
        good = json.loads(lines(1))
        cases = [(b"", "empty_file", None), (b"nonsense", "invalid_json_line", 1),
                 (json.dumps(dict(good, url="/v1/completions")).encode(), "mismatched_endpoint", 1),
                 (json.dumps(dict(good, method="GET")).encode(), "invalid_method", 1),
                 (lines(1) + b"\n" + lines(1), "duplicate_custom_id", 2),
                 (json.dumps(dict(good, custom_id=None)).encode(), "missing_required_parameter", 1),
                 (json.dumps(dict(good, body=[])).encode(), "missing_required_parameter", 1)]
        for data, code, line in cases:
            d = ended(s, batch(s, data))
            assert d["status"] == "failed" and d["errors"]["data"][0]["code"] == code and d["errors"]["data"][0]["line"] == line, (code, d)
        error(s, "POST", "/v1/batches", {"input_file_id": "file-x", "endpoint": "/v1/chat/completions", "completion_window": "24h"}, param="input_file_id")
        other = upload(s, b"x", "user_data")["id"]
        error(s, "POST", "/v1/batches", {"input_file_id": other, "endpoint": "/v1/chat/completions", "completion_window": "24h"}, param="input_file_id")
        error(s, "POST", "/v1/batches", {"input_file_id": other, "endpoint": "/v1/nope", "completion_window": "24h"}, param="endpoint")
        error(s, "POST", "/v1/batches", {"input_file_id": other, "endpoint": "/v1/chat/completions", "completion_window": "1h"}, param="completion_window")


@test
def ids_of_lines_are_compared_whole():
    ids = ["a\0b", "a\0c", "a", "a\0"]
    one = json.loads(lines(1))
    with Server("--ctx", 4096) as s:
        b = ended(s, batch(s, "\n".join(json.dumps(dict(one, custom_id=i)) for i in ids).encode()))
        assert b["status"] == "completed", b["errors"]
        assert [json.loads(l)["custom_id"] for l in content(s, b["output_file_id"]).splitlines()] == ids
        b = ended(s, batch(s, "\n".join(json.dumps(dict(one, custom_id=i)) for i in ids + ["a\0c"]).encode()))
        assert [(e["line"], e["code"]) for e in b["errors"]["data"]] == [(5, "duplicate_custom_id")]
        # A line's number is that of the file, where empty ones count.
        b = ended(s, batch(s, b"\n \r\n" + lines(1) + b"\n\nnope\n"))
        assert [(e["line"], e["code"]) for e in b["errors"]["data"]] == [(5, "invalid_json_line")], b["errors"]


@test
def a_batch_is_cancelled_and_yields_to_live_requests():
    with Server("--ctx", 4096, "--parallel", 1) as s:
        b = batch(s, lines(300, max_completion_tokens=400, ignore_eos=True))
        wait_for(lambda: s.metrics()["oriel_sequences_running"] == 1, 10, "the first line")
        begin = time.monotonic()
        ask(s, "Say hi")
        waited = time.monotonic() - begin
        d = s.post(f"/v1/batches/{b['id']}/cancel", {})
        assert d["status"] in ("cancelling", "cancelled"), d
        d = ended(s, b)
        assert d["status"] == "cancelled" and d["cancelled_at"] and d["request_counts"]["completed"] < 300
        if d["output_file_id"]:
            assert len(content(s, d["output_file_id"]).splitlines()) == d["request_counts"]["completed"]
        wait_for(lambda: s.metrics()["oriel_sequences_running"] == 0, 5, "the slot's release")
        assert waited < 10, waited


def kill_and_resume(n_lines, kills, seconds):
    """kill -9 at random moments while a batch runs: every line is in the output once, in order."""
    where = tempfile.mkdtemp(prefix="oriel-data-")
    rng = random.Random(7)
    try:
        with Server("--ctx", 512, "--max-kv-size", 512, "--data-dir", where) as s:
            b = batch(s, lines(n_lines))
            s.p.kill()
            s.p.wait()
            s.p.returncode = 0
        for i in range(kills):
            with Server("--ctx", 512, "--max-kv-size", 512, "--data-dir", where) as s:
                time.sleep(rng.uniform(0, seconds))
                s.p.kill()
                s.p.wait()
                s.p.returncode = 0
        with Server("--ctx", 512, "--max-kv-size", 512, "--data-dir", where) as s:
            before = s.get(f"/v1/batches/{b['id']}")["request_counts"]
            d = ended(s, b, 600)
            assert d["status"] == "completed" and d["request_counts"] == {"total": n_lines, "completed": n_lines, "failed": 0}, d
            out = [json.loads(l)["custom_id"] for l in content(s, d["output_file_id"]).splitlines()]
            assert out == [f"c{i}" for i in range(n_lines)], "lines are lost, doubled or out of order"
            found = subprocess.run(["find", os.path.join(where, "files"), "-name", "tmp-*"], stdout=subprocess.PIPE).stdout
            assert found == b"", found
            print(f"# {kills} kills, {before['completed']} of {n_lines} lines done before the last start")
    finally:
        shutil.rmtree(where)


@test
def every_line_once_whatever_is_killed():
    kill_and_resume(300, 20, 0.3)


@test
def every_line_once_soak():
    if not SOAK:
        raise Skip("ORIEL_SOAK_KILLS=300 kills that often over 2,000 lines")
    kill_and_resume(2000, SOAK, 0.4)


@test
def acknowledged_writes_survive_kill():
    """Clients write as fast as they can; the server is killed; what was acknowledged is there."""
    where = tempfile.mkdtemp(prefix="oriel-data-")
    try:
        acknowledged, deleted = [], []
        for _ in range(5):
            with Server("--ctx", 4096, "--data-dir", where) as s:
                def writer(k):
                    try:
                        for i in range(1000):
                            c = s.post("/v1/conversations", {"metadata": {"n": f"{k}-{i}"}})
                            acknowledged.append(c)
                            if i % 3 == 0:
                                if s.request("DELETE", f"/v1/conversations/{c['id']}")[0] == 200:
                                    deleted.append(c["id"])
                            f = upload(s, f"{k} {i}".encode(), "user_data")
                            acknowledged.append(f)
                    except Exception:
                        pass
                threads = [threading.Thread(target=writer, args=(k,)) for k in range(4)]
                for t in threads:
                    t.start()
                time.sleep(0.4)
                s.p.kill()
                for t in threads:
                    t.join()
                s.p.wait()
                s.p.returncode = 0
        assert len(acknowledged) > 20, len(acknowledged)
        with Server("--ctx", 4096, "--data-dir", where) as s:
            for x in acknowledged:
                if x["object"] == "file":
                    assert len(content(s, x["id"])) == x["bytes"]
                elif x["id"] in deleted:
                    error(s, "GET", f"/v1/conversations/{x['id']}", status=404)
            unsure = {x["id"] for x in acknowledged if x["object"] == "conversation"} - set(deleted)
            missing = [i for i in unsure if s.request("GET", f"/v1/conversations/{i}")[0] != 200]
            # Only a deletion whose answer never came may have happened, one for each client and kill.
            assert len(missing) <= 4 * 5, len(missing)
    finally:
        shutil.rmtree(where)


@test
def memory_does_not_grow_with_what_is_kept():
    if SANITIZED:
        raise Skip("a sanitizer keeps what is freed")
    with Server("--ctx", 4096) as s:
        c = http.client.HTTPConnection(s.host, s.port, timeout=60)

        def keep(n):
            """Bytes of the process's own memory after n conversations more, each read again."""
            for i in range(n):
                c.request("POST", "/v1/conversations", json.dumps({"items": [{"type": "message", "role": "user", "content": f"{i} cats"}]}), {"Content-Type": "application/json"})
                made = json.loads(c.getresponse().read())
                c.request("GET", f"/v1/conversations/{made['id']}/items")
                assert len(json.loads(c.getresponse().read())["data"]) == 1
            with open(f"/proc/{s.p.pid}/status") as f:
                return next(int(l.split()[1]) for l in f if l.startswith("RssAnon")) * 1024

        begin = keep(500)
        grew = keep(1500) - begin
        c.close()
        print(f"# {grew >> 10} KB more for 1500 conversations")
        assert grew < 512 << 10, grew


run_all()
