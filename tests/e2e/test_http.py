#!/usr/bin/env python3
"""The open port: framing, hosts, origins, keys, deadlines, clients that leave,
clients that do not read."""
import gzip, json, os, socket, threading, time, zlib

from oriel import ORIEL, SANITIZED, Server, run, run_all, test, wait_for

CHAT = "/v1/chat/completions"
HI = {"model": "default", "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 4, "temperature": 0}
BODY = json.dumps(HI).encode()


def head(extra=b"", method=b"POST", path=CHAT.encode(), host=b"Host: localhost\r\n"):
    return method + b" " + path + b" HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n" + extra + b"\r\n"


def status(answer):
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else None


@test
def ambiguous_framing_is_refused():
    with Server() as s:
        n = str(len(BODY)).encode()
        for name, data in {
            "two lengths": head(b"Content-Length: " + n + b"\r\nContent-Length: 5\r\n") + BODY,
            "length and chunked": head(b"Content-Length: " + n + b"\r\nTransfer-Encoding: chunked\r\n") + BODY,
            "unknown encoding": head(b"Transfer-Encoding: xchunked\r\n") + BODY,
            "two encodings": head(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n") + b"0\r\n\r\n",
            "length not a number": head(b"Content-Length: +5\r\n") + BODY,
            "no host": head(b"Content-Length: " + n + b"\r\n", host=b"") + BODY,
            "two hosts": head(b"Content-Length: " + n + b"\r\n", host=b"Host: localhost\r\nHost: localhost\r\n") + BODY,
        }.items():
            got = s.raw(data, timeout=10)
            assert status(got) == 400, f"{name}: {got[:120]}"
        assert s.get("/health") == {"status": "ok"}


@test
def what_is_no_http_is_refused_in_json():
    """One answer, in the API's own words and shape, and then the end of the connection."""
    n = b"Content-Length: %d\r\n" % len(BODY)
    te = head(b"Transfer-Encoding: chunked\r\n")
    get = lambda line: line + b"\r\nHost: localhost\r\n\r\n"
    cases = {
        "TLS": (b"\x16\x03\x01\x02\x00" + bytes(200), 400), "one word": (b"GET\r\n\r\n", 400),
        "HTTP/0.9": (b"GET /health\r\n\r\n", 400), "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        "another protocol": (get(b"GET /health HTTX/1.1"), 400), "a space in the target": (get(b"GET /a b HTTP/1.1"), 400),
        "NUL in the target": (get(b"GET /health\0/x HTTP/1.1"), 400), "NUL in the method": (get(b"GE\0T /health HTTP/1.1"), 400),
        "no colon": (head(b"nocolon\r\n" + n) + BODY, 400), "no name": (head(b": x\r\n" + n) + BODY, 400),
        "space before the colon": (head(b"A : x\r\n" + n) + BODY, 400), "folded": (head(b"A: x\r\n y\r\n" + n) + BODY, 400),
        "NUL in a value": (head(b"X-A: a\0b\r\n" + n) + BODY, 400), "NUL behind a value": (head(b"X-A: a\0\r\n" + n) + BODY, 400),
        "NUL in a name": (head(b"X\0A: a\r\n" + n) + BODY, 400), "a bare CR": (head(b"A: x\ry\r\n" + n) + BODY, 400),
        "a long value": (head(b"A: " + b"a" * 200000 + b"\r\n" + n) + BODY, 431),
        "many fields": (head(b"".join(b"A%d: a\r\n" % i for i in range(9000)) + n) + BODY, 431),
        "many arguments": (get(b"GET /health?" + b"&a" * 9000 + b" HTTP/1.1"), 431),
        "length with a sign": (head(b"Content-Length: +5\r\n") + BODY, 400), "length in words": (head(b"Content-Length: five\r\n") + BODY, 400),
        "a list of lengths": (head(b"Content-Length: 5, 5\r\n") + BODY, 400), "no length": (head(b"Content-Length:\r\n") + BODY, 400),
        "two lengths": (head(n + n) + BODY, 400), "length beyond 64 bits": (head(b"Content-Length: " + b"9" * 30 + b"\r\n") + BODY, 413),
        "length and chunks": (head(n + b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", 400),
        "chunk size in words": (te + b"xyz\r\nabc\r\n0\r\n\r\n", 400), "negative chunk size": (te + b"-5\r\nabc\r\n0\r\n\r\n", 400),
        "chunk size beyond 64 bits": (te + b"F" * 20 + b"\r\nabc\r\n0\r\n\r\n", 413), "wrong end of a chunk": (te + b"2\r\n{}XX0\r\n\r\n", 400),
        "long extension": (te + b"2;" + b"a" * 200000 + b"\r\n{}\r\n0\r\n\r\n", 400), "a bad trailer": (te + b"2\r\n{}\r\n0\r\nnocolon\r\n\r\n", 400),
    }
    with Server() as s:
        def check(name, got, want):
            top, _, rest = got.partition(b"\r\n\r\n")
            assert status(got) == want, f"{name}: {got[:200]}"
            assert b"Content-Type: application/json" in top and b"x-request-id: req_" in top and b"Connection: close" in top, (name, top)
            assert int(top.lower().split(b"content-length: ")[1].split()[0]) == len(rest), (name, got)
            return json.loads(rest)["error"]
        for name, (data, want) in cases.items():
            t = time.monotonic()
            error = check(name, s.raw(data, timeout=10, until_close=True), want)
            assert error["type"] == "invalid_request_error" and error["code"] is None and error["message"], (name, error)
            assert time.monotonic() - t < 5, name
        # the second request of a connection, sent with the first and after it
        ok = get(b"GET /health HTTP/1.1")
        both = s.raw(ok + b"nonsense\r\n\r\n", until_close=True)
        assert both.startswith(b"HTTP/1.1 200") and both.index(b'{"status":"ok"}') < both.index(b"HTTP/1.1 400"), both
        c = s.socket()
        c.sendall(ok)
        while not (got := c.recv(65536)).endswith(b'{"status":"ok"}'):
            assert got
        c.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: \0\r\n\r\n")
        check("after a good one", c.recv(65536), 400)
        c.close()
        # in pieces, and in Anthropic's shape
        c = s.socket()
        for byte in b"POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nA: \0":
            c.sendall(bytes([byte]))
        assert check("byte by byte", c.recv(65536), 400)["type"] == "invalid_request_error"
        c.close()
        assert s.raw(b"POST /v1/messages HTTP/1.1\r\nA\r\n").endswith(b'"}') and s.get("/health") == {"status": "ok"}


def zstd_frame(data):
    """Uncompressed, in one block (RFC 8878)."""
    n = len(data)
    assert n < 256
    return b"\x28\xb5\x2f\xfd\x20" + bytes([n]) + (1 | n << 3).to_bytes(3, "little") + data


@test
def ordinary_bodies_pass():
    with Server() as s:
        n = str(len(BODY)).encode()
        for name, data in {
            "length": head(b"Content-Length: " + n + b"\r\n") + BODY,
            "chunked with an extension": head(b"Transfer-Encoding: chunked\r\n") + b"%x;a=b\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n",
        }.items():
            got = s.raw(data)
            assert status(got) == 200, f"{name}: {got[:300]}"
        half = len(BODY) // 2
        for name, coding, data, want in [
            ("gzip", "gzip", gzip.compress(BODY), 200),
            ("two members", "gzip", gzip.compress(BODY[:half]) + gzip.compress(BODY[half:]), 200),
            ("an empty member", "x-gzip", gzip.compress(b"") + gzip.compress(BODY), 200),
            ("cut gzip", "gzip", gzip.compress(BODY)[:-9], 400),
            ("a second member cut", "gzip", gzip.compress(BODY) + gzip.compress(b" ")[:-3], 400),
            ("gzip and more", "gzip", gzip.compress(BODY) + b"more", 400),
            ("deflate", "deflate", zlib.compress(BODY), 200),
            ("deflate and more", "deflate", zlib.compress(BODY) + b"more", 400),
            ("zstd", "zstd", zstd_frame(BODY), 200),
            ("two frames", "zstd", zstd_frame(BODY[:half]) + zstd_frame(BODY[half:]), 200),
            ("a frame to skip", "zstd", b"\x50\x2a\x4d\x18\x03\0\0\0abc" + zstd_frame(BODY), 200),
            ("cut zstd", "zstd", zstd_frame(BODY)[:-1], 400),
            ("zstd and more", "zstd", zstd_frame(BODY) + b"more", 400),
            ("brotli", "br", BODY, 415),
        ]:
            st, _, said = s.request("POST", CHAT, data, {"Content-Type": "application/json", "Content-Encoding": coding})
            assert st == want, f"{name}: {st} {said}"
        bomb = gzip.compress(b" " * (40 << 20))
        st, _, data = s.request("POST", CHAT, bomb, {"Content-Type": "application/json", "Content-Encoding": "gzip"})
        assert st == 413, (st, data)


@test
def websockets_are_sent_back_to_http():
    ask = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    with Server() as s:
        got = s.raw(head(ask, b"GET", b"/v1/responses"))
        assert status(got) == 426 and b"\r\nUpgrade: HTTP/1.1\r\n" in got, got
        error = json.loads(got.split(b"\r\n\r\n", 1)[1])["error"]
        assert error["code"] == "upgrade_required" and "HTTP" in error["message"], error
        # who asks for another protocol, or is served as it is, is not sent back
        assert status(s.raw(head(b"Connection: Upgrade\r\nUpgrade: h2c\r\n", b"GET", b"/health"))) == 200
        assert status(s.raw(head(ask, b"GET", b"/health"))) == 200
        assert status(s.raw(head(b"", b"GET", b"/v1/responses"))) == 405 and status(s.raw(head(ask, b"GET", b"/v1/nothing"))) == 404


@test
def hosts_and_origins():
    with Server("--allow-host", "my.example", "--cors-origin", "https://app.example") as s:
        def ask(host, origin=None):
            extra = b"Origin: " + origin + b"\r\n" if origin else b""
            return s.raw(head(extra, b"GET", b"/v1/models", b"Host: " + host + b"\r\n"))
        for good in (b"localhost:8080", b"127.0.0.1", b"[::1]:9", b"my.example:1", b"127.1.2.3"):
            assert status(ask(good)) == 200, good
        for bad in (b"evil.example", b"127.0.0.1.evil.example", b"localhost.evil.example", b"10.0.0.1"):
            assert status(ask(bad)) == 403, bad
        for origin, ok in ((b"http://localhost:3000", True), (b"http://127.0.0.1:5", True), (b"https://app.example", True),
                           (b"https://evil.example", False), (b"http://localhost.evil.example", False), (b"null", False),
                           (b"file://localhost", False)):
            assert (b"Access-Control-Allow-Origin" in ask(b"localhost", origin)) == ok, origin


@test
def keys():
    p = run("serve", "--host", "0.0.0.0", "--port", "0", check=False)
    assert p.returncode == 2 and b"without a key" in p.stderr, p.stderr
    with Server("--api-key", "alice=sesame", "--api-key", "hush") as s:
        assert s.request("GET", "/health")[0] == 200
        for headers, want in (({}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": "Bearer sesam"}, 401),
                              ({"Authorization": "Bearer sesame"}, 200), ({"Authorization": "Bearer hush"}, 200),
                              ({"x-api-key": "hush"}, 200), ({"Authorization": "Bearer alice=sesame"}, 401)):
            st, h, data = s.request("GET", "/v1/models", headers=headers)
            assert st == want, (headers, st)
            assert "x-request-id" in h
            if st == 401:
                assert b"sesame" not in data and json.loads(data)["error"]["type"] == "invalid_request_error"
    assert b"sesame" not in s.stderr and b"hush" not in s.stderr


@test
def a_model_answers_to_its_aliases():
    with Server("--alias", "gpt-4o", "--alias", "text-embedding-3-small") as s:
        ids = [m["id"] for m in s.get("/v1/models")["data"]]
        assert ids[-2:] == ["gpt-4o", "text-embedding-3-small"] and "default" in ids, ids
        assert s.get("/v1/models/gpt-4o")["id"] == "gpt-4o"
        s.post("/v1/chat/completions", {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1})
        s.post("/v1/embeddings", {"model": "text-embedding-3-small", "input": "Hi"})
        assert "--alias" in s.post("/v1/embeddings", {"model": "gpt-4", "input": "Hi"}, want=404)["error"]["message"]
    for name in ("", "x" * 201, "\udcff"):
        p = run("serve", "--port", "0", "--alias", name, check=False)
        assert p.returncode == 2 and b"--alias" in p.stderr, (name, p.stderr)


@test
def too_large_bodies_are_refused_at_once():
    with Server() as s:
        t = time.monotonic()
        got = s.raw(head(b"Content-Length: 1000000000000\r\n") + b"{", timeout=10)
        assert status(got) == 413 and time.monotonic() - t < 5, got[:200]
        assert json.loads(got.split(b"\r\n\r\n", 1)[1])["error"]["code"] is None


@test
def slow_headers_are_cut():
    deadline = 15 + 6
    with Server() as s:
        c = s.socket(timeout=40)
        t = time.monotonic()
        cut = False
        for byte in head(b"Content-Length: 2\r\n") * 50:
            try:
                c.sendall(bytes([byte]))
                c.settimeout(0.5)
                try:
                    if c.recv(1000) == b"":
                        cut = True
                except socket.timeout:
                    pass
            except OSError:
                cut = True
            if cut or time.monotonic() - t > deadline:
                break
        assert cut, "a client that sends a header byte every half second was never cut off"
        assert time.monotonic() - t > 5, "cut off much too early"
        assert s.get("/health") == {"status": "ok"}


@test
def a_client_that_leaves_frees_its_slot():
    endless = dict(HI, messages=[{"role": "user", "content": "Tell me a long story"}], max_completion_tokens=100000, ignore_eos=True)
    with Server("--parallel", "2") as s:
        for stream in (True, False):
            socks = []
            for _ in range(2):
                body = json.dumps(dict(endless, stream=stream)).encode()
                c = s.socket()
                c.sendall(head(b"Content-Length: %d\r\n" % len(body)) + body)
                socks.append(c)
            wait_for(lambda: s.metrics()["oriel_sequences_running"] == 2, 20, "both running")
            for c in socks:
                c.close()
            wait_for(lambda: s.metrics()["oriel_sequences_running"] == 0, 5, "slots free after the clients left")
        assert s.metrics()["oriel_kv_blocks_used"] == 0, "blocks leaked"


@test
def a_full_queue_says_so():
    endless = dict(HI, max_completion_tokens=100000, ignore_eos=True, stream=True)
    with Server("--parallel", "1", "--queue", "1") as s:
        body = json.dumps(endless).encode()
        socks = []
        for want in (1, 2):
            c = s.socket()
            c.sendall(head(b"Content-Length: %d\r\n" % len(body)) + body)
            socks.append(c)
            wait_for(lambda: (lambda m: m["oriel_sequences_running"] + m["oriel_sequences_waiting"])(s.metrics()) == want, 20)
        st, h, data = s.request("POST", CHAT, HI)
        assert st == 429 and "retry-after" in h, (st, data)
        assert json.loads(data)["error"]["code"] == "rate_limit_exceeded"
        for c in socks:
            c.close()


@test
def slow_readers_do_not_delay_the_others():
    """50 streams, 5 of which read nothing: the others finish, memory stays bounded."""
    n, lazy_n = 50, 5
    with Server("--parallel", "8") as s:
        lazy = []
        body = json.dumps(dict(HI, stream=True, max_completion_tokens=20000, ignore_eos=True, messages=[{"role": "user", "content": "story"}])).encode()
        for _ in range(lazy_n):
            c = socket.socket()
            c.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.connect((s.host, s.port))
            c.sendall(head(b"Content-Length: %d\r\n" % len(body)) + body)
            lazy.append(c)
        wait_for(lambda: s.metrics()["oriel_sequences_running"] >= lazy_n, 20, "lazy clients running")
        results, lock = [], threading.Lock()

        def one(i):
            ev = s.stream(CHAT, dict(HI, max_completion_tokens=8, messages=[{"role": "user", "content": f"Number {i}?"}]), timeout=300)
            with lock:
                results.append(ev[-1]["choices"][0]["finish_reason"])
        threads = [threading.Thread(target=one, args=(i,)) for i in range(n - lazy_n)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(300)
        assert len(results) == n - lazy_n and set(results) <= {"stop", "length"}, results
        # The lazy ones come to stand still: their rings and sockets are full. (A sanitized build is
        # too slow to fill them in reasonable time.)
        if not SANITIZED:
            def at_rest():
                before = s.metrics()["oriel_generated_tokens_total"]
                time.sleep(0.5)
                return s.metrics()["oriel_generated_tokens_total"] == before
            wait_for(at_rest, 240, "the engine's rest")
            m = s.metrics()
            assert m["oriel_resident_bytes"] < m["oriel_planned_bytes"] + 300e6, m["oriel_resident_bytes"]
        for c in lazy:
            c.close()
        wait_for(lambda: s.metrics()["oriel_sequences_running"] == 0, 10, "slots free")


@test
def stopping_with_work_in_flight():
    with Server() as s:
        body = json.dumps(dict(HI, stream=True, max_completion_tokens=100000, ignore_eos=True)).encode()
        socks = []
        for _ in range(6):
            c = s.socket()
            c.sendall(head(b"Content-Length: %d\r\n" % len(body)) + body)
            socks.append(c)
        time.sleep(0.3)
    for c in socks:
        c.close()


@test
def a_slip_in_the_base_url_is_named():
    with Server() as s:
        length = b"Content-Length: %d\r\nConnection: close\r\n" % len(BODY)
        for path in (b"/chat/completions", b"/v1" + CHAT.encode()):
            got = s.raw(head(length, path=path) + BODY)
            assert status(got) == 404 and b"unknown_url" in got and b"Did you mean " + CHAT.encode() + b"?" in got, got
        for path in (b"/v1/nothing", b"/nothing", b"/v1/v1/nothing", b"/" + b"a" * 200):
            got = s.raw(head(b"Connection: close\r\n", b"GET", path))
            assert status(got) == 404 and b"unknown_url" in got and b"Did you mean" not in got, got


@test
def taken_port_is_one_sentence():
    with Server() as s:
        p = run("serve", "--port", s.port, check=False)
        assert p.returncode == 1 and b"Cannot listen" in p.stderr and b"--port 0" in p.stderr and p.stderr.count(b"\n") == 1, p.stderr


run_all()
