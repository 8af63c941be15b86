#!/usr/bin/env python3
"""What several clients share: one conversation is answered in by one at a time, and what one key stores is
not there for another. Also how long files live."""
import json, os, shutil, sqlite3, subprocess, tempfile, threading, time

from oriel import Server, run_all, test, wait_for

ASK = {"model": "default", "temperature": 0, "max_output_tokens": 16}
LONG = {"background": True, "max_output_tokens": 100000, "ignore_eos": True}


def call(s, method, path, body=None, key=None, form=None):
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    if form:
        mark = "----oriel-test"
        body = b"".join(f'--{mark}\r\nContent-Disposition: form-data; name="{n}"{"; filename=f" if n in ("file", "data") else ""}\r\n\r\n{v}\r\n'.encode()
                        for n, v in form.items()) + f"--{mark}--\r\n".encode()
        headers["Content-Type"] = f"multipart/form-data; boundary={mark}"
    status, _, data = s.request(method, path, body, headers=headers)
    return status, json.loads(data) if data[:1] in b"{[" else data


def made(s, path, body=None, key=None, **kw):
    status, v = call(s, "POST", path, body, key, **kw)
    assert status == 200, (path, status, v)
    return v


def refused(s, method, path, status, body=None, key=None, **want):
    got, v = call(s, method, path, body, key)
    assert got == status, (method, path, got, v)
    for k, x in want.items():
        assert v["error"][k] == x, (k, v)
    return v["error"]


def items(s, conversation, key=None):
    status, v = call(s, "GET", f"/v1/conversations/{conversation}/items?order=asc&limit=100", key=key)
    assert status == 200 and not v["has_more"], v
    return v["data"]


LOCKED = {"code": "conversation_locked", "type": "invalid_request_error"}


@test
def one_answer_at_a_time():
    with Server("--ctx", 4096) as s:
        c = made(s, "/v1/conversations", {"items": [{"role": "user", "content": "My name is Ada."}]})["id"]
        first = items(s, c)[0]["id"]
        other = made(s, "/v1/conversations", {})["id"]
        long = made(s, "/v1/responses", dict(ASK, **LONG, input="Count", conversation=c))
        for stream in (False, True):
            e = refused(s, "POST", "/v1/responses", 400, dict(ASK, input="x", conversation={"id": c}, stream=stream), param="conversation", **LOCKED)
            assert "Another process" in e["message"]
        refused(s, "POST", "/v1/responses", 400, dict(ASK, input="x", conversation=c, background=True), **LOCKED)
        refused(s, "POST", f"/v1/conversations/{c}/items", 400, {"items": [{"role": "user", "content": "x"}]}, **LOCKED)
        refused(s, "DELETE", f"/v1/conversations/{c}/items/{first}", 400, **LOCKED)
        # Reading, counting and other conversations go on; a refused request leaves nothing held.
        assert [i["id"] for i in items(s, c)] == [first]
        assert made(s, "/v1/responses/input_tokens", {"input": "x", "conversation": c})["input_tokens"] > 0
        assert made(s, f"/v1/conversations/{c}", {"metadata": {"k": "v"}})["metadata"] == {"k": "v"}
        made(s, "/v1/responses", dict(ASK, input="x", conversation=other))
        refused(s, "POST", "/v1/responses", 400, dict(ASK, input="x", conversation=other, max_output_tokens=1))
        refused(s, "POST", "/v1/responses", 400, dict(ASK, input=[{"type": "nonsense"}], conversation=other))
        made(s, "/v1/responses", dict(ASK, input="x", conversation=other))
        # A cancelled answer leaves no turn, and the conversation to others at once.
        assert made(s, f"/v1/responses/{long['id']}/cancel")["status"] == "cancelled"
        assert [i["id"] for i in items(s, c)] == [first]
        r = made(s, "/v1/responses", dict(ASK, input="What is my name?", conversation=c))
        got = items(s, c)
        assert [i["id"] for i in got[2:]] == [o["id"] for o in r["output"]] and got[1]["content"][0]["text"] == "What is my name?"
        # Not kept itself, its turn is the conversation's all the same.
        r = made(s, "/v1/responses", dict(ASK, input="And now?", conversation=c, store=False))
        assert [i["id"] for i in items(s, c)[-len(r["output"]):]] == [o["id"] for o in r["output"]]
        refused(s, "GET", f"/v1/responses/{r['id']}", 404)
        # Cut short, it is a turn too; the next one has it in its prompt.
        assert r["status"] in ("completed", "incomplete")
        assert call(s, "DELETE", f"/v1/conversations/{c}/items/{first}")[0] == 200
        made(s, f"/v1/conversations/{c}/items", {"items": [{"role": "user", "content": "x"}]})


@test
def turns_never_interleave():
    with Server("--ctx", 8192, "--max-kv-size", 2048) as s:
        c = made(s, "/v1/conversations", {})["id"]
        turns, locked, wrong = {}, [0], []

        def client(k):
            for i in range(4):
                text = f"client {k} turn {i}"
                deadline = time.monotonic() + 100
                while time.monotonic() < deadline:
                    status, v = call(s, "POST", "/v1/responses", dict(ASK, input=text, conversation=c, store=bool(k % 2), truncation="auto"))
                    if status == 200:
                        turns[text] = [o["id"] for o in v["output"]]
                        break
                    locked[0] += 1
                    if status != 400 or v["error"]["code"] != "conversation_locked":
                        wrong.append((status, v))
                        return
                    time.sleep(0.01)

        threads = [threading.Thread(target=client, args=(k,)) for k in range(5)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not wrong and len(turns) == 20, (wrong, len(turns))
        assert locked[0] > 0, "nobody ever waited"
        seen, at = items(s, c), 0
        while at < len(seen):
            text = seen[at]["content"][0]["text"]
            ids = turns.pop(text)
            assert [i["id"] for i in seen[at + 1:at + 1 + len(ids)]] == ids, text
            at += 1 + len(ids)
        assert not turns, turns
        # A batch's lines in one conversation wait for each other too.
        one = {"custom_id": "%d", "method": "POST", "url": "/v1/responses", "body": dict(ASK, input="line %d", conversation=c, truncation="auto")}
        f = made(s, "/v1/files", form={"purpose": "batch", "file": "\n".join(json.dumps(one).replace("%d", str(i)) for i in range(4))})
        b = made(s, "/v1/batches", {"input_file_id": f["id"], "endpoint": "/v1/responses", "completion_window": "24h"})
        d = wait_for(lambda: (lambda v: v["status"] == "completed" and v)(s.get(f"/v1/batches/{b['id']}")), 60, "the batch's end")
        assert d["request_counts"] == {"total": 4, "completed": 4, "failed": 0}, d


@test
def a_killed_server_leaves_no_lock():
    where = tempfile.mkdtemp(prefix="oriel-data-")
    try:
        with Server("--ctx", 4096, "--data-dir", where) as s:
            c, d = (made(s, "/v1/conversations", {})["id"] for _ in range(2))
            r = made(s, "/v1/responses", dict(ASK, input="Count", conversation=c, background=True, max_output_tokens=200, ignore_eos=True))
            body = json.dumps(dict(ASK, input="x", conversation=d, max_output_tokens=100000, ignore_eos=True)).encode()
            head = b"POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)

            def hold():  # asks again where the probe below held the name just then; ends when the server is gone
                while s.raw(head + body).startswith(b"HTTP/1.1 400"):
                    pass

            t = threading.Thread(target=hold)
            t.start()
            wait_for(lambda: call(s, "POST", f"/v1/conversations/{d}/items", {"items": [{"role": "user", "content": "x"}]})[0] == 400, 10, "the lock")
            # A second process on the same folder sees both.
            with Server("--ctx", 4096, "--data-dir", where) as other:
                refused(other, "POST", "/v1/responses", 400, dict(ASK, input="x", conversation=d), **LOCKED)
            s.p.kill()
            t.join()
            s.p.wait()
            s.p.returncode = 0
        with Server("--ctx", 4096, "--data-dir", where) as s:
            made(s, "/v1/responses", dict(ASK, input="x", conversation=d))
            # The background one is taken up again, in its conversation's turn.
            again = wait_for(lambda: (lambda v: v["status"] not in ("queued", "in_progress") and v)(s.get(f"/v1/responses/{r['id']}")), 60, "its end")
            assert again["status"] == "incomplete"
            assert [i["id"] for i in items(s, c)[1:]] == [o["id"] for o in again["output"]]
            made(s, "/v1/responses", dict(ASK, input="x", conversation=c))
    finally:
        shutil.rmtree(where)


# ── whose it is ──


@test
def a_key_sees_what_its_name_made():
    where = tempfile.mkdtemp(prefix="oriel-data-")
    keys = ["--api-key", "ada=sk-a", "--api-key", "ada=sk-a2", "--api-key", "bob=sk-b", "--api-key", "sk-plain", "--api-key", "sk-padded=="]
    try:
        with Server("--ctx", 4096, "--data-dir", where, *keys) as s:
            mine = {}
            r = made(s, "/v1/responses", dict(ASK, input="Hi"), "sk-a")
            live = made(s, "/v1/responses", dict(ASK, **LONG, input="Hi"), "sk-a")
            c = made(s, "/v1/conversations", {"items": [{"role": "user", "content": "secret"}]}, "sk-a")
            item = items(s, c["id"], "sk-a")[0]["id"]
            chat = made(s, "/v1/chat/completions", {"model": "default", "store": True, "max_completion_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}, "sk-a")
            line = json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/responses", "body": dict(ASK, input="Hi")})
            f = made(s, "/v1/files", key="sk-a", form={"purpose": "batch", "file": line})
            u = made(s, "/v1/uploads", {"filename": "f", "purpose": "user_data", "bytes": 3, "mime_type": "x/y"}, "sk-a")
            part = made(s, f"/v1/uploads/{u['id']}/parts", key="sk-a", form={"data": "abc"})
            b = made(s, "/v1/batches", {"input_file_id": f["id"], "endpoint": "/v1/responses", "completion_window": "24h"}, "sk-a")

            def ended():
                v = call(s, "GET", f"/v1/batches/{b['id']}", key="sk-a")[1]
                return v["status"] == "completed" and v
            done = wait_for(ended, 60, "the batch's end")
            output = call(s, "GET", f"/v1/files/{done['output_file_id']}/content", key="sk-a")[1]
            of_batch = (output if isinstance(output, dict) else json.loads(output))["response"]["body"]["id"]
            paths = [f"/v1/responses/{r['id']}", f"/v1/responses/{r['id']}/input_items", f"/v1/responses/{live['id']}", f"/v1/responses/{of_batch}",
                     f"/v1/conversations/{c['id']}", f"/v1/conversations/{c['id']}/items", f"/v1/conversations/{c['id']}/items/{item}",
                     f"/v1/chat/completions/{chat['id']}", f"/v1/chat/completions/{chat['id']}/messages", f"/v1/files/{f['id']}", f"/v1/files/{f['id']}/content",
                     f"/v1/files/{done['output_file_id']}", f"/v1/batches/{b['id']}"]
            for p in paths:
                assert call(s, "GET", p, key="sk-a")[0] == 200, p
                assert call(s, "GET", p, key="sk-a2")[0] == 200, p  # another key of the same name
                refused(s, "GET", p, 404, key="sk-b")
                refused(s, "GET", p, 404, key="sk-plain")
            lists = ["/v1/chat/completions", "/v1/files", "/v1/batches"]
            for p in lists:
                assert call(s, "GET", p, key="sk-a2")[1]["data"] and call(s, "GET", p, key="sk-b")[1]["data"] == [], p
            # Nor can he use or change it.
            b_ = {"key": "sk-b"}
            refused(s, "POST", "/v1/responses", 400, dict(ASK, input="x", previous_response_id=r["id"]), code="previous_response_not_found", **b_)
            refused(s, "POST", "/v1/responses", 404, dict(ASK, input="x", conversation=c["id"]), param="conversation", **b_)
            refused(s, "POST", "/v1/responses", 404, dict(ASK, input=[{"type": "item_reference", "id": r["output"][0]["id"]}]), param="input[0].id", **b_)
            refused(s, "POST", "/v1/responses", 404, dict(ASK, input=[{"type": "item_reference", "id": item}]), param="input[0].id", **b_)
            refused(s, "POST", f"/v1/responses/{live['id']}/cancel", 404, {}, **b_)
            refused(s, "POST", f"/v1/conversations/{c['id']}", 404, {"metadata": {}}, **b_)
            refused(s, "POST", f"/v1/conversations/{c['id']}/items", 404, {"items": []}, **b_)
            refused(s, "POST", f"/v1/chat/completions/{chat['id']}", 404, {"metadata": {}}, **b_)
            refused(s, "POST", "/v1/batches", 400, {"input_file_id": f["id"], "endpoint": "/v1/responses", "completion_window": "24h"}, param="input_file_id", **b_)
            refused(s, "POST", f"/v1/batches/{b['id']}/cancel", 404, {}, **b_)
            refused(s, "POST", f"/v1/uploads/{u['id']}/cancel", 404, {}, **b_)
            refused(s, "POST", f"/v1/uploads/{u['id']}/complete", 404, {"part_ids": [part["id"]]}, **b_)
            for p in (f"/v1/responses/{live['id']}", f"/v1/responses/{r['id']}", f"/v1/conversations/{c['id']}", f"/v1/conversations/{c['id']}/items/{item}",
                      f"/v1/chat/completions/{chat['id']}", f"/v1/files/{f['id']}"):
                refused(s, "DELETE", p, 404, **b_)
            up = made(s, "/v1/uploads", {"filename": "f", "purpose": "user_data", "bytes": 3, "mime_type": "x/y"}, "sk-b")
            refused(s, "POST", f"/v1/uploads/{up['id']}/complete", 400, {"part_ids": [part["id"]]}, param="part_ids[0]", **b_)
            assert made(s, f"/v1/responses/{live['id']}/cancel", {}, "sk-a2")["status"] == "cancelled"
            whole = made(s, f"/v1/uploads/{u['id']}/complete", {"part_ids": [part["id"]]}, "sk-a2")
            assert call(s, "GET", f"/v1/files/{whole['file']['id']}", key="sk-a")[0] == 200
            refused(s, "GET", f"/v1/files/{whole['file']['id']}", 404, key="sk-b")
            # Keys without a name are one.
            plain = made(s, "/v1/conversations", {}, "sk-plain")
            assert call(s, "GET", f"/v1/conversations/{plain['id']}", key="sk-padded==")[0] == 200
            refused(s, "GET", f"/v1/conversations/{plain['id']}", 404, key="sk-a")
            refused(s, "GET", f"/v1/conversations/{plain['id']}", 401, key="=")
        # They are also who uses a server that asks for no key.
        with Server("--ctx", 4096, "--data-dir", where) as s:
            assert s.get(f"/v1/conversations/{plain['id']}") == plain
            refused(s, "GET", f"/v1/conversations/{c['id']}", 404)
            assert s.get("/v1/files")["data"] == []
    finally:
        shutil.rmtree(where)


# ── how long files live ──


@test
def files_expire():
    where = tempfile.mkdtemp(prefix="oriel-data-")
    on_disk = lambda: int(subprocess.run(f"find {where}/files -type f | wc -l", shell=True, stdout=subprocess.PIPE).stdout)
    try:
        with Server("--ctx", 4096, "--data-dir", where) as s:
            line = json.dumps({"custom_id": "1", "method": "POST", "url": "/v1/chat/completions",
                               "body": {"model": "default", "max_completion_tokens": 4, "messages": [{"role": "user", "content": "Hi"}]}})
            f = made(s, "/v1/files", form={"purpose": "batch", "file": line, "expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"})
            kept = made(s, "/v1/files", form={"purpose": "user_data", "file": "kept"})
            ask = {"input_file_id": f["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
            for seconds, code in ((3599, "integer_below_min_value"), (2592001, "integer_above_max_value"), ("x", "invalid_type")):
                refused(s, "POST", "/v1/batches", 400, dict(ask, output_expires_after={"anchor": "created_at", "seconds": seconds}),
                        param="output_expires_after.seconds", code=code)
            refused(s, "POST", "/v1/batches", 400, dict(ask, output_expires_after={"anchor": "x", "seconds": 3600}), param="output_expires_after.anchor")
            refused(s, "POST", "/v1/batches", 400, dict(ask, output_expires_after={"anchor": "created_at"}), param="output_expires_after.seconds")
            b = made(s, "/v1/batches", dict(ask, output_expires_after={"anchor": "created_at", "seconds": 7200}))
            d = wait_for(lambda: (lambda v: v["status"] == "completed" and v)(s.get(f"/v1/batches/{b['id']}")), 60, "the batch's end")
            out = s.get(f"/v1/files/{d['output_file_id']}")
            assert out["expires_at"] - out["created_at"] == 7200 and kept["expires_at"] is None and f["expires_at"] - f["created_at"] == 3600
            assert on_disk() == 3
            # Their time comes.
            db = sqlite3.connect(os.path.join(where, "store.db"), timeout=20)
            db.execute("UPDATE object SET expires = ? WHERE kind = 'file' AND expires > 0", (int(time.time()) - 1,))
            db.commit()
            db.close()
            for i in (f["id"], out["id"]):
                for p in (f"/v1/files/{i}", f"/v1/files/{i}/content"):
                    assert i in refused(s, "GET", p, 404)["message"]
                refused(s, "DELETE", f"/v1/files/{i}", 404)
            assert [x["id"] for x in s.get("/v1/files")["data"]] == [kept["id"]]
            refused(s, "POST", "/v1/batches", 400, ask, param="input_file_id")
        with Server("--ctx", 4096, "--data-dir", where) as s:
            made(s, "/v1/conversations", {})  # the first write sweeps
            wait_for(lambda: on_disk() == 1, 10, "the bytes' end")
            assert call(s, "GET", f"/v1/files/{kept['id']}/content")[1] == b"kept"
    finally:
        shutil.rmtree(where)


run_all()
