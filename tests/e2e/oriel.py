"""What the end-to-end tests share: the program, a running server, a small HTTP
client that sees raw bytes, and TAP output. Not a test itself."""
import http.client, importlib.util, json, os, re, select, shutil, signal, socket, subprocess, sys, tempfile, time, traceback

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("ORIEL_BUILD", os.path.join(ROOT, "build/release"))
ORIEL = os.path.join(BUILD, "oriel")
SANITIZED = os.path.basename(BUILD) in ("asan", "tsan")
CORPUS = os.environ.get("ORIEL_CORPUS")

_tests = []


def debian_modules(*names):
    """Modules of Debian's Python, while another one may stand first in PATH: goes on in Debian's, or says that the test is skipped."""
    missing = [n for n in names if importlib.util.find_spec(n) is None]
    if not missing:
        return
    debian = "/usr/bin/python3"
    if os.path.exists(debian) and os.path.realpath(sys.executable) != os.path.realpath(debian):
        os.execv(debian, [debian] + sys.argv)
    print("1..1\nok 1 - all of it # SKIP Debian's python3-%s is not installed" % ", python3-".join(missing))
    sys.exit(0)


class Skip(Exception):
    pass


def test(f):
    _tests.append(f)
    return f


def run_all():
    """Runs every @test in order and prints TAP; exit status 1 when one failed."""
    failed = 0
    only = sys.argv[1] if len(sys.argv) > 1 else ""
    for n, f in enumerate(_tests, 1):
        name = f.__name__
        if only not in name:
            continue
        try:
            f()
            print(f"ok {n} - {name}", flush=True)
        except Skip as e:
            print(f"ok {n} - {name} # SKIP {e}", flush=True)
        except BaseException as e:
            failed += 1
            print(f"not ok {n} - {name}: {str(e).splitlines()[0] if str(e) else type(e).__name__}", flush=True)
            traceback.print_exc(file=sys.stdout)
            if isinstance(e, KeyboardInterrupt):
                break
    sys.exit(1 if failed else 0)


def need_corpus(*path):
    if not CORPUS:
        raise Skip("ORIEL_CORPUS is not set")
    return os.path.join(CORPUS, *path)


def env(**more):
    """The environment without anybody's own configuration."""
    e = {k: v for k, v in os.environ.items() if not k.startswith("ORIEL_") or k == "ORIEL_CPU"}
    e["XDG_CONFIG_HOME"] = "/nonexistent"
    e.update({k: str(v) for k, v in more.items()})
    return e


def judge(program, variable, cases):
    """What a test program says to many cases: JSON by the line, in and out, in files that the environment names."""
    path = os.path.join(BUILD, program)
    if not os.path.exists(path):
        raise Skip(os.path.basename(program) + " is not built")
    with tempfile.TemporaryDirectory() as d:
        to, back = os.path.join(d, "in"), os.path.join(d, "out")
        with open(to, "w", encoding="utf-8") as f:
            f.writelines(json.dumps(c) + "\n" for c in cases)
        p = subprocess.run([path], env=dict(os.environ, **{variable: to, variable + "_OUT": back}), capture_output=True, timeout=3000)
        assert p.returncode == 0, (p.stdout + p.stderr).decode()[-2000:]
        with open(back, encoding="utf-8") as f:
            return [json.loads(line) for line in f]


def run(*args, stdin=b"", timeout=120, check=True, **more):
    """Runs oriel; returns the finished process (bytes). With check, a crash or a failure raises."""
    if isinstance(stdin, str):
        stdin = stdin.encode()
    p = subprocess.run([ORIEL, *map(str, args)], input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=timeout, env=env(**more))
    if p.returncode < 0 or b"Sanitizer" in p.stderr:
        raise AssertionError(f"oriel {' '.join(map(str, args))} crashed ({p.returncode}): {p.stderr.decode(errors='replace')[-3000:]}")
    if check and p.returncode:
        raise AssertionError(f"oriel {' '.join(map(str, args))} failed ({p.returncode}): {p.stderr.decode(errors='replace')[-500:]}")
    return p


def run_json(*args, **kw):
    return json.loads(run(*args, "--json", **kw).stdout)


class Server:
    """`oriel serve` on a free port; `with Server("--parallel", 2) as s: s.post(...)`."""

    def __init__(self, *args, **more):
        self.args = [str(a) for a in args]
        self.env = env(**more)
        self.own_data = None if "--data-dir" in self.args or "--no-store" in self.args else tempfile.mkdtemp(prefix="oriel-data-")
        if self.own_data:
            self.args += ["--data-dir", self.own_data]

    def __enter__(self):
        self.p = subprocess.Popen([ORIEL, "serve", "--port", "0", *self.args], stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, env=self.env)
        text, deadline = b"", time.monotonic() + 120
        while b"Ctrl-C stops" not in text:
            if time.monotonic() > deadline:
                raise AssertionError("the server did not start in 120 s")
            ready, _, _ = select.select([self.p.stdout], [], [], 1)
            chunk = os.read(self.p.stdout.fileno(), 65536) if ready else b""
            if ready and not chunk:
                raise AssertionError("the server did not start: " + self.p.stderr.read().decode(errors="replace")[-2000:])
            text += chunk
        self.banner = text.decode()
        m = re.search(r"http://([^/\s]+):(\d+)/v1", self.banner)
        self.host, self.port = m[1].strip("[]"), int(m[2])
        return self

    def __exit__(self, *exc):
        self.p.send_signal(signal.SIGINT)
        try:
            out, self.stderr = self.p.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self.p.kill()
            raise AssertionError("the server did not stop within 60 s of SIGINT")
        if self.own_data:
            shutil.rmtree(self.own_data, ignore_errors=True)
        if not exc[0]:
            if self.p.returncode != 0 or b"Sanitizer" in self.stderr:
                raise AssertionError(f"the server ended with {self.p.returncode}: {self.stderr.decode(errors='replace')[-4000:]}")

    def request(self, method, path, body=None, headers=None, timeout=120):
        """(status, headers, bytes)"""
        c = http.client.HTTPConnection(self.host, self.port, timeout=timeout)
        h = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            h.setdefault("Content-Type", "application/json")
        c.request(method, path, body, h)
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, {k.lower(): v for k, v in r.getheaders()}, data

    def post(self, path, body, want=200, **kw):
        status, headers, data = self.request("POST", path, body, **kw)
        assert status == want, f"POST {path} answered {status}: {data[:300]}"
        return json.loads(data)

    def get(self, path, want=200, **kw):
        status, headers, data = self.request("GET", path, **kw)
        assert status == want, f"GET {path} answered {status}: {data[:300]}"
        return json.loads(data) if headers.get("content-type", "").startswith("application/json") else data.decode()

    def metrics(self):
        rows = (l.rsplit(" ", 1) for l in self.get("/metrics").splitlines() if l and l[0] != "#")
        return {k: float(v) for k, v in rows}

    def stream(self, path, body, **kw):
        """Parsed SSE events of a whole stream."""
        status, headers, data = self.request("POST", path, dict(body, stream=True), **kw)
        assert status == 200, f"POST {path} answered {status}: {data[:300]}"
        assert headers["content-type"].startswith("text/event-stream"), headers
        events = [l[6:] for l in data.decode().split("\n") if l.startswith("data: ")]
        assert events[-1] == "[DONE]", events[-1:]
        return [json.loads(e) for e in events[:-1]]

    def socket(self, timeout=30):
        s = socket.create_connection((self.host, self.port), timeout=timeout)
        return s

    def raw(self, data, timeout=30, until_close=False):
        """Sends bytes, returns what comes until the connection closes or an answer is complete enough."""
        s = self.socket(timeout)
        s.sendall(data)
        got = b""
        try:
            while True:
                chunk = s.recv(65536)
                if not chunk:
                    break
                got += chunk
                if not until_close and b"\r\n\r\n" in got:
                    head, _, rest = got.partition(b"\r\n\r\n")
                    m = re.search(rb"content-length: (\d+)", head, re.I)
                    if m and len(rest) >= int(m[1]):
                        break
        except (socket.timeout, ConnectionResetError):
            pass
        s.close()
        return got


def wait_for(f, seconds=10, what="it"):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        v = f()
        if v:
            return v
        time.sleep(0.02)
    raise AssertionError(f"{what} did not happen within {seconds} s")
