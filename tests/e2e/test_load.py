#!/usr/bin/env python3
"""Bad neighbours, as a whole process sees them: floods, clients that vanish, never read or trickle,
bodies of every broken kind. What is counted: answers, places, tokens, descriptors, threads, memory.

ORIEL_CYCLES (default 200) connections are made and given up at random points, drawn from ORIEL_LOAD_SEED.
"""
import gzip, json, os, random, re, select, selectors, socket, struct, sys, time

from oriel import SANITIZED, Server, run_all, test, wait_for

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HI = {"model": "default", "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 3, "temperature": 0}
ENDLESS = dict(HI, max_completion_tokens=1000000, ignore_eos=True, stream=True)
BODY = json.dumps(HI).encode()
CYCLES = int(os.environ.get("ORIEL_CYCLES", "200"))
SEED = int(os.environ.get("ORIEL_LOAD_SEED", "1"))


def message(body=BODY, target=CHAT, method="POST", version="HTTP/1.1", extra=b"", length=True):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    head = f"{method} {target} {version}\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode() + extra
    return head + (b"Content-Length: %d\r\n" % len(body) if length else b"") + b"\r\n" + body


def chunks(*pieces):
    return b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"


class Process:
    """What the server holds, from outside."""

    def __init__(self, s):
        self.s = s
        self.dir = f"/proc/{s.p.pid}"

    def fds(self):
        return len(os.listdir(self.dir + "/fd"))

    def sockets(self):
        """One listens."""
        n = 0
        for fd in os.listdir(self.dir + "/fd"):
            try:
                n += os.readlink(f"{self.dir}/fd/{fd}").startswith("socket:")
            except FileNotFoundError:
                pass
        return n

    def threads(self):
        return len(os.listdir(self.dir + "/task"))

    def anon(self):
        return int(re.search(r"RssAnon:\s+(\d+)", open(self.dir + "/status").read())[1]) * 1024

    def rest(self, seconds=60):
        """Waits until nobody is being answered and all connections are closed; what is held then."""
        def quiet():
            m = self.s.metrics()
            return m if (m["oriel_sequences_running"] == m["oriel_sequences_waiting"] == 0 and
                         m["oriel_http_active_requests"] == 1 and self.sockets() == 1) else None
        m = wait_for(quiet, seconds, "the server's rest")
        assert m["oriel_kv_blocks_used"] == 0, m["oriel_kv_blocks_used"]
        return {"fds": self.fds(), "threads": self.threads()}


def read_all(c, seconds=30):
    """Everything until the server closes, or b'' … as far as it came when time is up."""
    got, end = b"", time.monotonic() + seconds
    c.settimeout(seconds)
    try:
        while time.monotonic() < end:
            piece = c.recv(65536)
            if not piece:
                break
            got += piece
    except (socket.timeout, ConnectionResetError):
        pass
    return got


def answers(got):
    """[(status, headers, body)] of a byte stream of answers that carry their length."""
    out = []
    while got.startswith(b"HTTP/1.1 "):
        head, _, rest = got.partition(b"\r\n\r\n")
        status = int(head[9:12])
        if status == 100:
            got = rest
            continue
        headers = {k.lower(): v for k, v in (l.split(": ", 1) for l in head.decode().split("\r\n")[1:])}
        n = int(headers.get("content-length", len(rest)))
        out.append((status, headers, rest[:n]))
        got = rest[n:]
    return out


CLOSE = b"Connection: close\r\n"


def broken():
    """(name, bytes, statuses that are right, is the answer ours: JSON with an error object). None among the
    statuses: the connection may just be closed."""
    te = b"Transfer-Encoding: chunked\r\n"
    gz = lambda b: message(b, extra=CLOSE + b"Content-Encoding: gzip\r\n")
    zs = lambda b: message(b, extra=CLOSE + b"Content-Encoding: zstd\r\n")
    deep = b'{"messages":' + b"[" * 100000 + b"]" * 100000 + b"}"
    yield "not HTTP", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) + b"\r\n\r\n", {400, None}, False
    yield "HTTP/0.9", b"GET /v1/models\r\n\r\n", {400}, False
    yield "HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}, False
    yield "no colon", message(extra=b"nonsense\r\n"), {400}, False
    yield "space before a colon", message(extra=b"Content-Encoding : gzip\r\n"), {400}, True
    yield "a lone CR", message(extra=b"X: a\rY: b\r\n"), {400}, True
    yield "NUL in a header's name", message(extra=b"X\0Y: b\r\n"), {400}, False
    yield "NUL in the target", message(target="/v1/models%00", method="GET", body=b""), {400}, True
    yield "long header", message(extra=b"X: " + b"a" * 40000 + b"\r\n"), {431}, True
    yield "many headers", message(extra=b"".join(b"X-%d: a\r\n" % i for i in range(3000))), {431}, None
    yield "header without end", b"GET / HTTP/1.1\r\nX: " + b"a" * 300000, {431, None}, False
    yield "long target", message(target="/v1/models/" + "a" * 40000, method="GET", body=b""), {431}, True
    yield "target without end", b"GET /" + b"a" * 300000, {414, 431, None}, False
    yield "long method", message(method="A" * 5000, extra=CLOSE), {405}, True
    yield "bad chunk size", message(chunks(BODY).replace(b"\r\n", b"z\r\n", 1), extra=te, length=False), {400}, False
    yield "negative chunk size", message(b"-1\r\n{}\r\n0\r\n\r\n", extra=te, length=False), {400}, False
    yield "chunk size beyond 64 bits", message(b"fffffffffffffffff\r\n{}", extra=te, length=False), {400, 413}, False
    yield "wrong end of a chunk", message(b"2\r\n{}XX0\r\n\r\n", extra=te, length=False), {400}, False
    yield "chunked in HTTP/1.0", message(chunks(BODY), version="HTTP/1.0", extra=te, length=False), {400}, True
    yield "length and chunks", message(chunks(BODY), extra=te), {400}, True
    yield "length too short", message(extra=b"Content-Length: 5\r\n" + CLOSE, length=False), {400}, True
    yield "length in words", message(extra=b"Content-Length: five\r\n", length=False), {400}, None
    yield "length beyond 64 bits", message(extra=b"Content-Length: 99999999999999999999999\r\n", length=False), {400, 413}, None
    yield "length too large", message(extra=b"Content-Length: 33554433\r\n", length=False), {413}, True
    yield "odd bytes as gzip", gz(bytes(range(256))), {400}, True
    yield "gzip cut short", gz(gzip.compress(BODY)[:-9]), {400}, True
    yield "empty gzip", gz(b""), {400}, True
    yield "a bomb in gzip", gz(gzip.compress(bytes(40 << 20))), {413}, True
    yield "a small bomb in gzip", gz(gzip.compress(bytes(5 << 20))), {413}, True
    yield "odd bytes as zstd", zs(b"\x28\xb5\x2f\xfd" + bytes(100)), {400}, True
    yield "a bomb in zstd", zs(ZSTD_BOMB), {413, 400}, True
    yield "unknown encoding", message(extra=CLOSE + b"Content-Encoding: br\r\n"), {415}, True
    yield "empty", message(b"", extra=CLOSE), {400}, True
    yield "no object", message(b"[]", extra=CLOSE), {400}, True
    yield "cut JSON", message(BODY[:-1], extra=CLOSE), {400}, True
    yield "two values", message(BODY + BODY, extra=CLOSE), {400}, True
    yield "deep JSON", message(deep, extra=CLOSE), {400}, True
    yield "too many values", message(b'{"messages":[' + b"0," * (1 << 20) + b"0]}", extra=CLOSE), {413}, True
    yield "too many objects", message(b'{"messages":[' + b"{}," * (1 << 17) + b"{}]}", extra=CLOSE), {413}, True
    yield "ill-formed UTF-8", message(BODY.replace(b"Hello", b"\xff\xfe"), extra=CLOSE), {400}, True
    yield "UTF-16", message(BODY.decode().encode("utf-16"), extra=CLOSE), {400}, True
    yield "NUL in JSON", message(BODY.replace(b"Hello", b"\0"), extra=CLOSE), {400}, True
    yield "half a surrogate", message(BODY.replace(b"Hello", b"\\ud800"), extra=CLOSE), {400}, True
    yield "a number beyond all bounds", message(BODY.replace(b": 3", b": 1e999999"), extra=CLOSE), {400}, True
    yield "a key twice", message(BODY[:-1] + b',"model":"default"}', extra=CLOSE), {400}, True


# 64 MiB of zeros in a frame: magic, descriptor (single segment, 4-byte size), 512 RLE blocks of 128 KiB
ZSTD_BOMB = b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", 64 << 20) + b"".join(
    struct.pack("<I", (128 << 10) << 3 | 1 << 1 | (i == 511))[:3] + b"\0" for i in range(512))


@test
def broken_requests_are_told_so():
    with Server() as s:
        p = Process(s)
        before = None
        for _ in range(2):  # what the first round makes once is not a leak
            for name, data, right, ours in broken():
                c = s.socket()
                try:
                    c.sendall(data)
                except (BrokenPipeError, ConnectionResetError):
                    pass
                got = answers(read_all(c, 20))
                c.close()
                status = got[0][0] if got else None
                assert status in right, f"{name}: {status} {got[:1]}"
                if ours and status:
                    assert got[0][1].get("content-type") == "application/json", (name, got[0])
                    e = json.loads(got[0][2])["error"]
                    assert e["message"] and e["type"] == "invalid_request_error" and "param" in e and "code" in e, (name, e)
                    assert "x-request-id" in got[0][1], name
            now = p.rest()
            assert before in (None, now), (before, now)
            before = now
        assert s.metrics()['oriel_http_responses_total{class="5xx"}'] == 0


@test
def odd_requests_that_are_right():
    with Server() as s:
        whole = lambda m: answers(read_all_of(s, m))
        def read_all_of(s, m):
            c = s.socket()
            c.sendall(m)
            got = read_all(c)
            c.close()
            return got
        for name, m in {
            "absolute target": message(target="http://localhost:1/v1/chat/completions", extra=CLOSE),
            "absolute target, another Host": message(target="http://127.0.0.1/v1/chat/completions", extra=CLOSE).replace(b"Host: localhost", b"Host: evil.example"),
            "HTTP/1.0": message(version="HTTP/1.0"),
            "chunks of one byte": message(chunks(*(BODY[i:i + 1] for i in range(len(BODY)))), extra=CLOSE + b"Transfer-Encoding: chunked\r\n", length=False),
            "a trailer": message(chunks(BODY)[:-2] + b"X: y\r\n\r\n", extra=CLOSE + b"Transfer-Encoding: chunked\r\n", length=False),
            "compressed to a thousandth": message(gzip.compress(BODY + b" " * (3 << 20)), extra=CLOSE + b"Content-Encoding: gzip\r\n"),
            "Expect": message(extra=CLOSE + b"Expect: 100-continue\r\n"),
            "lines that end in LF": message(extra=CLOSE).replace(b"\r\n", b"\n"),
            "something behind Connection: close": message(extra=CLOSE) + message(),
        }.items():
            got = whole(m)
            assert [a[0] for a in got] == [200], (name, got)
            json.loads(got[0][2])
        got = whole(message(target="http://evil.example/v1/models", method="GET", body=b"", extra=CLOSE))
        assert got[0][0] == 403, got
        got = whole(message() + message(b"{}") + message(target="/nothing", method="GET", body=b"") + message(extra=CLOSE) + b"rubbish")
        assert [a[0] for a in got] == [200, 400, 404, 200], got
        stream = read_all_of(s, message(dict(HI, stream=True), version="HTTP/1.0"))
        assert b"200 OK" in stream and stream.endswith(b"data: [DONE]\n\n") and b"chunked" not in stream, stream[-300:]


class Client:
    """One connection of the crowd. kind: ok, vanish, mute (never reads), slow (a byte now and then)."""

    def __init__(self, s, kind, body, rng):
        self.kind, self.got, self.sent = kind, b"", 0
        self.sock = socket.socket()
        if kind in ("mute", "slow"):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.connect((s.host, s.port))
        self.data = message(body, TEXT)
        self.leave_after = rng.randrange(0, 6000)
        self.cut_body = kind == "slow" and rng.random() < 0.5
        n = rng.randrange(1, len(self.data)) if self.cut_body else len(self.data)
        self.sock.sendall(self.data[:n])
        self.sock.setblocking(False)
        self.over = False

    def read(self):
        try:
            piece = self.sock.recv(1 if self.kind == "slow" else 65536)
        except BlockingIOError:
            return
        except ConnectionResetError:
            piece = b""
        self.got += piece
        if not piece or self.got.endswith(b"0\r\n\r\n"):
            self.over = True
        if self.kind == "vanish" and len(self.got) > self.leave_after:
            self.over = True
        if self.over:
            self.sock.close()

    def text(self):
        events = re.findall(rb"data: (\{.*\})\n\n", self.got)
        assert b"data: [DONE]" in self.got, self.got[-300:]
        return "".join(json.loads(e)["choices"][0]["text"] for e in events if b'"text"' in e)


@test
def two_hundred_streams():
    """120 healthy among 80 bad: all healthy ones say what they say alone, and nothing is held afterwards."""
    rng = random.Random(SEED)
    prompts = [f"Once upon a time number {i} " for i in range(8)]
    ask = lambda i: {"model": "default", "prompt": prompts[i % 8], "max_tokens": 8, "temperature": 0, "ignore_eos": True, "stream": True}
    long = lambda i: dict(ask(i), max_tokens=1000000)
    with Server("--parallel", "8", "--ctx", "512", "--max-kv-size", "512") as s:
        p = Process(s)
        alone = ["".join(e["choices"][0]["text"] for e in s.stream(TEXT, ask(i)) if e["choices"]) for i in range(8)]
        before = p.rest()
        kinds = ["ok"] * 120 + ["vanish"] * 40 + ["mute"] * 4 + ["slow"] * 36
        rng.shuffle(kinds)
        crowd = [Client(s, k, ask(i) if k in ("ok", "vanish") or k == "slow" else long(i), rng) for i, k in enumerate(kinds)]
        sel = selectors.DefaultSelector()
        for i, c in enumerate(crowd):
            if c.kind != "mute":
                sel.register(c.sock, selectors.EVENT_READ, (i, c))
        waiting = {i for i, c in enumerate(crowd) if c.kind == "ok"}
        end = time.monotonic() + 240
        while waiting:
            assert time.monotonic() < end, f"{len(waiting)} healthy streams never ended"
            for key, _ in sel.select(1):
                i, c = key.data
                c.read()
                if c.over:
                    sel.unregister(key.fileobj) if key.fileobj.fileno() >= 0 else sel._fd_to_key.pop(key.fd)
                    waiting.discard(i)
        for i, c in enumerate(crowd):
            if c.kind == "ok":
                assert c.text() == alone[i % 8], (i, c.text(), alone[i % 8])
            c.sock.close()
        after = p.rest()
        assert after == before, (before, after)
        m = s.metrics()
        assert m["oriel_sequences_failed_total"] == m["oriel_sequences_rejected_total"] == 0, m


@test
def a_flood_beyond_the_queue():
    """Exactly as many as there is room for; the others are told when to come again, and nobody loses a place."""
    parallel, queue, n = 2, 8, 60
    with Server("--parallel", parallel, "--queue", queue, "--ctx", "512", "--max-kv-size", "512") as s:
        p = Process(s)
        s.post(CHAT, HI)
        before = p.rest()
        for _ in range(3):
            crowd = []
            for i in range(n):
                c = s.socket()
                c.sendall(message(ENDLESS))
                crowd.append(c)
            refused = []
            def collect():
                for c in [c for c in crowd if c not in refused and c not in served]:
                    if select.select([c], [], [], 0)[0]:
                        head = c.recv(4096, socket.MSG_PEEK)
                        (refused if head.startswith(b"HTTP/1.1 429") else served).append(c)
                return len(refused) == n - parallel - queue
            served = []
            wait_for(collect, 60, f"{n - parallel - queue} refusals")
            time.sleep(0.1)
            collect()
            assert len(refused) == n - parallel - queue, len(refused)
            for c in refused:
                c.settimeout(10)
                got = answers(c.recv(65536))
                assert got[0][0] == 429 and int(got[0][1]["retry-after"]) >= 1 and int(got[0][1]["retry-after-ms"]) >= 1, got
                e = json.loads(got[0][2])["error"]
                assert e["code"] == "rate_limit_exceeded" and e["type"] == "requests" and e["param"] is None, e
            m = s.metrics()
            assert m["oriel_sequences_running"] + m["oriel_sequences_waiting"] == parallel + queue, m
            # A refused client keeps its connection, and its place in the crowd is not taken by it.
            refused[0].sendall(message(method="GET", target="/health", body=b""))
            assert answers(refused[0].recv(65536))[0][0] == 200
            for c in crowd:
                c.close()
            after = p.rest()
            assert after == before, (before, after)
            s.post(CHAT, HI)


def is_whole(got):
    """Is this a whole answer?"""
    head, _, rest = got.partition(b"\r\n\r\n")
    n = re.search(rb"content-length: (\d+)", head, re.I)
    return bool(rest) and (len(rest) >= int(n[1]) if n else rest.endswith(b"0\r\n\r\n"))


def cycle(s, rng):
    """One connection that is given up at a random point; the name of the point."""
    stream = rng.random() < 0.7
    how = rng.choice(["header", "body", "sent", "first", "middle", "last", "half", "reset", "delete", "pipelined"])
    body = dict(ENDLESS if how not in ("last",) else dict(HI, max_completion_tokens=rng.randrange(1, 9), ignore_eos=True), stream=stream)
    data = message(body)
    if how != "last" and rng.random() < 0.2:
        data = message({"model": "default", "prompt": "word " * rng.randrange(1, 300), "max_tokens": 100000, "ignore_eos": True, "stream": stream}, TEXT)
    head = data.index(b"\r\n\r\n") + 4
    if how == "delete":
        # made in the background, deleted or cancelled while it runs
        st, _, got = s.request("POST", "/v1/responses", {"model": "default", "input": "Hi", "background": True, "max_output_tokens": 100000, "ignore_eos": True})
        if st == 200:
            rid = json.loads(got)["id"]
            cancel = rng.random() < 0.5
            st, _, got = s.request("POST" if cancel else "DELETE", f"/v1/responses/{rid}" + ("/cancel" if cancel else ""), b"" if cancel else None)
            assert st == 200, got
            if cancel:
                st, _, got = s.request("DELETE", f"/v1/responses/{rid}")
                assert st == 200, got
        else:
            assert st == 429, got
        return how
    c = s.socket(timeout=60)
    if how == "header":
        c.sendall(data[:rng.randrange(0, head)])
    elif how == "body":
        c.sendall(data[:rng.randrange(head, len(data))])
    elif how == "pipelined":
        c.sendall(data * rng.randrange(2, 5))
    else:
        c.sendall(data)
    if how in ("first", "middle", "half", "last"):
        want = {"first": 1, "middle": rng.randrange(300, 5000), "half": 1, "last": 1 << 30}[how]
        got = b""
        while len(got) < want and not is_whole(got):
            if not stream and how != "last" and not select.select([c], [], [], 0.01)[0]:
                break  # its answer is far away
            piece = c.recv(4096)
            if not piece:
                break
            got += piece
    elif rng.random() < 0.5:
        time.sleep(rng.random() * 0.003)
    if how == "half":
        c.shutdown(socket.SHUT_WR)
        read_all(c, 60)
    if how == "reset":
        c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()
    return how


@test
def nothing_leaks_over_many_cycles():
    rng = random.Random(SEED)
    with Server("--parallel", "4", "--queue", "16", "--ctx", "512", "--max-kv-size", "512") as s:
        p = Process(s)
        seen, marks = {}, []
        warm = min(100, CYCLES // 2)
        for i in range(CYCLES):
            how = cycle(s, rng)
            seen[how] = seen.get(how, 0) + 1
            if i + 1 == warm or i + 1 > warm and (i + 1) % max(100, CYCLES // 20) == 0 or i + 1 == CYCLES:
                marks.append((i + 1, p.rest(), p.anon()))
                if CYCLES > 1000:
                    print(f"# {i + 1} cycles: {marks[-1][1]}, {marks[-1][2] / 1e6:.1f} MB", flush=True)
        assert all(m[1] == marks[0][1] for m in marks), marks
        # Memory comes to a plateau: what the second half adds is less than a kilobyte a cycle.
        if not SANITIZED:  # (freed memory is kept in quarantine there; leaks are told at exit)
            half = marks[len(marks) // 2]
            grown = marks[-1][2] - half[2]
            assert grown < 2e6 + 1000 * (marks[-1][0] - half[0]), marks
        st = s.metrics()
        assert st["oriel_sequences_failed_total"] == 0 and st['oriel_http_responses_total{class="5xx"}'] == 0, st
        assert s.post(CHAT, HI)["choices"]
        print("# " + ", ".join(f"{k} {v}" for k, v in sorted(seen.items())), flush=True)


run_all()
