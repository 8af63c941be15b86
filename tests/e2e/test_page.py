#!/usr/bin/env python3
"""The chat page: how it is served, and what it does in a headless Chromium, with the built-in model and
with a stub that says exactly what a test needs."""
import atexit, http.server, json, os, queue, re, socket, threading

from chrome import BROWSER, Chrome
from oriel import ROOT, SANITIZED, Server, Skip, run_all, test, wait_for

FILES = {name: f"/page/{name}" for name in sorted(os.listdir(os.path.join(ROOT, "src/page")))}
FILES["index.html"] = "/"
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


def read(name):
    return open(os.path.join(ROOT, "src/page", name), "rb").read()


# ── how it is served ──

@test
def files_come_as_they_lie_there():
    with Server() as s:
        for name, path in FILES.items():
            st, h, data = s.request("GET", path)
            assert (st, data, h["content-type"]) == (200, read(name), TYPES[os.path.splitext(name)[1]]), name
            assert h["x-content-type-options"] == "nosniff" and h["cache-control"] == "no-cache", h
            st, again, nothing = s.request("HEAD", path)
            assert (st, nothing, again["content-length"], again["etag"]) == (200, b"", str(len(data)), h["etag"]), again
        assert len(FILES) >= 9


@test
def policy_allows_nothing_but_the_server_itself():
    with Server() as s:
        rules = dict(r.strip().split(" ", 1) for r in s.request("GET", "/")[1]["content-security-policy"].split(";"))
        assert rules["default-src"] == "'none'" and rules["script-src"] == "'self'" and rules["frame-ancestors"] == "'none'", rules
        assert set(rules.values()) <= {"'none'", "'self'", "'script'"}, rules


@test
def nothing_comes_from_elsewhere():
    for name in FILES:
        text = read(name).decode().replace('xmlns="http://www.w3.org/2000/svg"', "")
        for match in re.finditer(r"https?:|//[a-z]+\.|@import|url\(", text):
            line = text[:match.start()].count("\n")
            where = text.splitlines()[line]
            # The renderer's own tests of an address are the exception.
            assert name == "markdown.js" and ("https?:" in where or "url.protocol" in where), f"{name}:{line + 1}: {where}"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function| style=| on[a-z]+=", text), name


@test
def unchanged_files_are_not_sent_again():
    with Server() as s:
        tag = s.request("GET", "/page/app.js")[1]["etag"]
        for value, want in ((tag, 304), (f'"x", W/{tag}', 304), ("*", 304), ('"x"', 200), (tag[:-2] + '"', 200)):
            st, h, data = s.request("GET", "/page/app.js", headers={"If-None-Match": value})
            assert (st, h["etag"], bool(data)) == (want, tag, want == 200), (value, st)
        assert s.request("HEAD", "/", headers={"If-None-Match": "*"})[0] == 304
    with Server() as s:
        assert s.request("GET", "/page/app.js")[1]["etag"] == tag, "the tag is the content's, not the process's"


@test
def other_paths_stay_what_they_were():
    with Server() as s:
        for path in ("/page", "/page/", "/page/none.js", "/page/../page/app.js", "/page/%2e%2e/app.js", "/page/a/b", "/index.html", "/favicon.ico"):
            st, h, data = s.request("GET", path)
            assert st == 404 and json.loads(data)["error"]["code"] == "unknown_url", (path, st)
            assert s.request("HEAD", path)[0] == 404
        for path in ("/", "/page/app.js"):
            st, h, data = s.request("POST", path, {})
            assert st == 405 and h["allow"] == "GET" and json.loads(data)["error"], (path, st)


@test
def the_page_needs_no_key_and_the_api_does():
    with Server("--api-key", "sesame") as s:
        assert all(s.request("GET", path)[0] == 200 for path in FILES.values())
        assert s.request("GET", "/v1/models")[0] == 401 and s.request("GET", "/props")[0] == 401


@test
def it_can_be_switched_off():
    with Server("--no-page") as s:
        st, h, data = s.request("GET", "/")
        assert st == 200 and h["content-type"].startswith("text/plain") and b"/v1" in data
        assert s.request("GET", "/page/app.js")[0] == 404
        assert re.search(r"page +off", s.banner)


@test
def serve_says_where_it_is():
    with Server() as s:
        assert re.search(rf"^  page +http://127\.0\.0\.1:{s.port}/$", s.banner, re.M), s.banner


@test
def counts_come_with_every_piece():
    ask = {"model": "default", "temperature": 0, "messages": [{"role": "user", "content": "What is the capital of France?"}]}
    with Server() as s:
        for path, body in (("/v1/chat/completions", ask), ("/v1/completions", {"model": "default", "prompt": "Once upon", "max_tokens": 20})):
            *pieces, last = s.stream(path, dict(body, stream_options={"include_usage": True, "continuous_usage_stats": True}))
            so_far = [p["usage"]["completion_tokens"] for p in pieces]
            assert so_far == sorted(so_far) and so_far[-1] == last["usage"]["completion_tokens"] > len(set(so_far)) / 2 > 3, so_far
            assert {p["usage"]["prompt_tokens"] for p in pieces} == {last["usage"]["prompt_tokens"]}
            assert all(p["usage"]["total_tokens"] == p["usage"]["prompt_tokens"] + p["usage"]["completion_tokens"] for p in pieces)
            assert 0 <= last["window"]["pinned_rows"] <= last["window"]["rows"] <= last["usage"]["total_tokens"], last
            assert last["timings"]["predicted_n"] == last["usage"]["completion_tokens"] and last["timings"]["predicted_per_second"] > 0
            # Who does not ask for it gets what OpenAI sends.
            *pieces, last = s.stream(path, dict(body, stream_options={"include_usage": True}))
            assert all(p["usage"] is None for p in pieces) and not {"window", "timings"} & set(last)
        st, _, data = s.request("POST", "/v1/chat/completions", dict(ask, stream=True, stream_options={"continuous_usage_stats": 1}))
        assert st == 400 and json.loads(data)["error"]["param"] == "stream_options.continuous_usage_stats", data


# ── in a browser ──

_chrome = []


def chrome():
    if SANITIZED:
        raise Skip("a browser finds nothing more in this build")
    if not BROWSER:
        raise Skip("chromium is not installed (group `page` of script/packages)")
    if not _chrome:
        _chrome.append(Chrome().__enter__())
        atexit.register(_chrome[0].__exit__)
    return _chrome[0]


def open_page(server, **kw):
    tab = chrome().open(f"http://127.0.0.1:{server.port}/", **kw)
    tab.wait("document.querySelector('#model').value || document.querySelector('dialog[open]')")
    return tab


def say(tab, text):
    tab.js("document.querySelector('#prompt').focus()")
    tab.type(text)
    tab.press("Enter")


def finished(tab, phase="done"):
    tab.wait(f"!document.body.hasAttribute('data-running') && document.querySelector('#log > :last-child').dataset.phase === '{phase}'")


def set_up(tab, **settings):
    tab.js(f"localStorage.setItem('oriel.settings', JSON.stringify({json.dumps(settings)}))")
    tab.call("Page.reload")
    tab.wait("document.querySelector('#model')?.value")


# The built-in model's answers are over too soon to be stopped.
ENDLESS = """{ const plain = fetch; window.fetch = (path, options) => plain(path, options?.body ?
    { ...options, body: JSON.stringify({ ...JSON.parse(options.body), ignore_eos: true }) } : options); }"""


class Stub:
    """The page's files with their policy, and answers from a list: a list of deltas, a number with an error, or a
    function that writes the answer itself. `asked` has the requests."""

    def __init__(self, *answers, props={"max_kv_size": 1000}):
        with Server() as s:
            self.policy = s.request("GET", "/")[1]["content-security-policy"]
        self.answers, self.asked, self.open, self.props, stub = list(answers), [], [], props, self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *a):
                pass

            def reply(self, status, kind, data, **more):
                self.send_response(status)
                for k, v in {"Content-Type": kind, "Content-Length": len(data), "Content-Security-Policy": stub.policy, **more}.items():
                    self.send_header(k.replace("_", "-"), v)
                self.end_headers()
                self.wfile.write(data)

            def do_GET(self):
                for name, path in FILES.items():
                    if self.path == path:
                        return self.reply(200, TYPES[os.path.splitext(name)[1]], read(name))
                known = {"/v1/models": {"data": [{"id": "stub"}]}, "/props": stub.props, "/health": {}}
                found = known.get(self.path)
                self.reply(200 if found is not None else 404, "application/json", json.dumps(found or {}).encode())

            def do_POST(self):
                stub.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                answer = stub.answers.pop(0)
                if isinstance(answer, tuple):
                    return self.reply(answer[0], "application/json", json.dumps({"error": answer[1]}).encode(), Retry_After="7")
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                if callable(answer):
                    return answer(self)
                for delta in answer:
                    self.send(delta)
                self.end("tool_calls" if "tool_calls" in answer[-1] else "stop")

            def send(self, delta, **more):
                self.event({"choices": [{"index": 0, "delta": delta, **more}]})

            def event(self, value):
                self.wfile.write(f"data: {json.dumps(value)}\n\n".encode())
                self.wfile.flush()

            def end(self, reason="stop", prompt=100, completion=20):
                self.send({}, finish_reason=reason)
                self.event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
                            "window": {"rows": prompt + completion, "pinned_rows": 64}, "timings": {"predicted_per_second": 12345.6}})
                self.wfile.write(b"data: [DONE]\n\n")

        class Http(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def process_request(self, request, address):
                stub.open.append(request)
                super().process_request(request, address)

            def handle_error(self, request, address):
                pass  # a page that leaves

        self.make = lambda port: Http(("127.0.0.1", port), Handler)
        self.http = self.make(0)
        self.port = self.http.server_port

    def start(self):
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()
        for connection in self.open:  # browsers open some in advance
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # ended already

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *exc):
        self.stop()


@test
def an_answer_of_the_built_in_model():
    with Server("--temperature", 0) as s:
        tab = open_page(s)
        say(tab, "What is the capital of France?")
        finished(tab)
        assert tab.text(".answer .text") == "The capital of France is Paris."
        assert re.match(r"Thought for ([\d.]+ s|a moment)$", tab.text(".thought summary")) and not tab.js("document.querySelector('.thought').open")
        assert len(tab.text(".thoughts")) > 10
        assert re.match(r"\d+ tokens", tab.text(".answer .facts"))
        assert re.match(r"[\d,.]+ tokens/s$", tab.text("#speed")), tab.text("#speed")
        used = int(re.match(r"(\d+) of 4,096 tokens · \d+ pinned$", tab.text("#window"))[1])
        assert 30 < used < 400, used
        assert tab.js("parseFloat(document.querySelector('#gauge-fill').style.inlineSize)") > 0.5
        assert tab.text("#spoken p").splitlines()[-1] == "The capital of France is Paris.", tab.text("#spoken p")
        # The second turn has the first one before it, and a reload brings both back.
        say(tab, "What is the capital of Italy?")
        tab.wait("document.querySelectorAll('.answer').length === 2")
        finished(tab)
        assert "Rome" in tab.text(".answer.last .text")
        assert int(re.match(r"(\d+)", tab.text("#window-text"))[1]) > used
        before = tab.text("#log .text")
        tab.call("Page.reload")
        tab.wait("document.querySelectorAll('.answer').length === 2")
        assert tab.text("#log .text") == before and tab.text(".chat") == "What is the capital of France?"
        own = f"http://127.0.0.1:{s.port}/"
        assert all(u.startswith(own) for u in tab.requests()), tab.requests()
        assert tab.complaints() == []


@test
def stop_keeps_what_came_and_frees_the_slot():
    with Server("--parallel", 1) as s:
        tab = open_page(s)
        tab.js(ENDLESS)
        for how in (lambda: tab.press("Escape"), lambda: tab.click("#stop")):
            say(tab, "Tell me a long story.")
            tab.wait("document.querySelector('.answer.last .text').textContent.length > 20")
            assert s.metrics()["oriel_sequences_running"] == 1
            how()
            finished(tab, "stopped")
            wait_for(lambda: s.metrics()["oriel_sequences_running"] == 0, 10, "the slot free")
            assert "Stopped." in tab.text(".answer.last .note") and len(tab.text(".answer.last .text")) > 20
        assert tab.js("document.activeElement.id") == "prompt" and tab.complaints() == []
        tab.js("document.querySelector('#new-chat').click()")
        assert tab.text("#log") == "" and tab.js("document.querySelectorAll('.chat').length") == 1


@test
def thoughts_are_open_while_they_come():
    go_on = queue.Queue()

    def slowly(handler):
        handler.send({"role": "assistant", "content": ""})
        handler.send({"reasoning_content": "First I look. "})
        go_on.get(timeout=60)
        handler.send({"reasoning_content": "Then I see."})
        handler.send({"content": "It is "})
        go_on.get(timeout=60)
        handler.send({"content": "**there**."})
        handler.end()

    with Stub(slowly) as s:
        tab = open_page(s)
        say(tab, "Where?")
        tab.wait("document.querySelector('.thought')?.open && document.querySelector('.thoughts').textContent === 'First I look. '")
        assert tab.text(".thought summary").startswith("Thinking")
        go_on.put(1)
        tab.wait("document.querySelector('.text').textContent === 'It is ' || document.querySelector('.text').textContent === 'It is'")
        assert not tab.js("document.querySelector('.thought').open") and tab.text(".thoughts") == "First I look. Then I see."
        tab.click(".thought summary")
        go_on.put(1)
        finished(tab)
        assert tab.js("document.querySelector('.thought').open"), "what was opened by hand was closed"
        assert tab.js("document.querySelector('.text strong').textContent") == "there"
        assert tab.text("#window") == "120 of 1,000 tokens · 64 pinned" and tab.text("#speed") == "12,346 tokens/s"


CALL = [{"reasoning_content": "It wants a sum."}, {"tool_calls": [{"index": 0, "id": "call_1", "type": "function", "function": {"name": "calculate", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"expression":'}}]}, {"tool_calls": [{"index": 0, "function": {"arguments": ' "6 * 7"}'}}]}]


@test
def functions_run_and_their_results_go_on():
    bad = [{"tool_calls": [{"index": 0, "id": "a", "function": {"name": "calculate", "arguments": "{broken"}},
                           {"index": 1, "id": "b", "function": {"name": "constructor", "arguments": "{}"}}]}]
    with Stub(CALL, [{"content": "It is 42."}], bad, [{"content": "No luck."}]) as s:
        tab = open_page(s)
        tab.click("#use-tools")
        assert tab.js("document.querySelector('#use-tools').ariaPressed") == "true"
        say(tab, "What is 6 * 7?")
        tab.wait("document.querySelectorAll('.answer').length === 2")
        finished(tab)
        assert tab.text(".call b") == "calculate" and tab.text(".call > pre") == '{\n  "expression": "6 * 7"\n}'
        assert tab.text(".call-result code") == "42" and tab.text(".answer.last .text") == "It is 42."
        first, second = s.asked
        names = [t["function"]["name"] for t in first["tools"]]
        assert names == ["current_time", "calculate", "roll_dice"] and first["stream_options"]["include_usage"] is True, first
        user, call, result = second["messages"]
        assert call["tool_calls"][0]["function"] == {"name": "calculate", "arguments": '{"expression": "6 * 7"}'}, call
        assert call["reasoning_content"] == "It wants a sum."
        assert result == {"role": "tool", "tool_call_id": "call_1", "content": "42"}
        # Nonsense is an answer to the model, not the end.
        say(tab, "And this?")
        tab.wait("document.querySelectorAll('.answer').length === 4")
        finished(tab)
        results = [m["content"] for m in s.asked[3]["messages"] if m["role"] == "tool"][1:]
        assert results[0].startswith("Error: ") and results[1] == "Error: there is no function called constructor.", results
        assert tab.js("document.querySelectorAll('.call.failed').length") == 2 and tab.complaints() == []


@test
def the_built_in_model_calls():
    with Server("--temperature", 0) as s:
        tab = open_page(s)
        set_up(tab, useTools=True, tools=["calculate"])
        say(tab, "Calculate 6 * 7.")
        tab.wait("document.querySelectorAll('.answer').length === 2")
        finished(tab)
        assert tab.text(".call b") == "calculate" and tab.text(".call-result code") == "42", tab.text(".call")
        assert "42" in tab.text(".answer.last .text") and tab.complaints() == []


@test
def another_conversation_ends_the_one_that_runs():
    with Server("--parallel", 1, "--temperature", 0) as s:
        tab = open_page(s)
        tab.js(ENDLESS)
        say(tab, "Tell me a long story.")
        tab.wait("document.querySelector('.answer.last .text').textContent.length > 20")
        tab.click("#new-chat")
        wait_for(lambda: s.metrics()["oriel_sequences_running"] == 0, 10, "the slot free")
        assert tab.js("!document.body.hasAttribute('data-running') && document.querySelector('#log').childElementCount === 0")
        tab.click(".chat")  # what came is kept there
        assert "Stopped." in tab.text(".note") and len(tab.text(".text")) > 20
        tab.call("Page.reload")
        tab.wait("document.querySelector('#model')?.value")
        say(tab, "What is the capital of France?")
        finished(tab)
        assert "Paris" in tab.text(".answer.last .text")


@test
def hostile_answers_stay_text():
    answer = "\n\n".join([
        "<img src=x onerror=\"window.hit=1\"> <script>window.hit=1</script> <svg onload=window.hit=1>",
        "[a](javascript:window.hit=1) [b](JaVaScRiPt:window.hit=1) [c](data:text/html,<script>window.hit=1</script>) [d](\tjava\nscript:window.hit=1)",
        "![pixel](http://127.0.0.1:1/spy.png) [good](https://example.org/a_(b)?c=d) http://example.org/x.",
        "| <b>a</b> | b |\n|---|---|\n| <i>1</i> | [e](vbscript:x) |",
        "```html\n<img src=x onerror=window.hit=1>\n```",
        "> # <u>quote</u>\n> - [f](file:///etc/passwd)",
        "`<b>` **<b>bold</b>** &lt; &amp;",
    ])
    call = [{"tool_calls": [{"index": 0, "id": "x", "function": {"name": "<img src=x onerror=window.hit=1>", "arguments": "<img src=x onerror=window.hit=1>"}}]}]
    with Stub([{"reasoning_content": "<img src=x onerror=window.hit=1>"}, {"content": answer}], call, [{"content": "ok"}]) as s:
        tab = open_page(s)
        say(tab, "<img src=x onerror=window.hit=1>")
        finished(tab)
        tab.click("#use-tools")
        say(tab, "again")
        tab.wait("document.querySelectorAll('.answer').length === 3")
        finished(tab)
        assert tab.js("window.hit") is None
        assert tab.js("document.querySelectorAll('#log :is(img, script, svg[onload], iframe, b:not(.call-head b), i:not(.dots i), u), #side img').length") == 0
        links = tab.js("[...document.querySelectorAll('#log a')].map(a => [a.href, a.rel, a.target])")
        assert [l[0] for l in links] == ["http://127.0.0.1:1/spy.png", "https://example.org/a_(b)?c=d", "http://example.org/x"], links
        assert all(l[1:] == ["noopener noreferrer", "_blank"] for l in links)
        shown = tab.text(".answer .text")
        for piece in ('<img src=x onerror="window.hit=1">', "javascript:window.hit=1", "data:text/html", "vbscript:x", "<u>quote</u>", "file:///etc/passwd", "<b>bold</b>", "&lt; &amp;"):
            assert piece in shown, piece
        own = f"http://127.0.0.1:{s.port}/"
        assert all(u.startswith(own) for u in tab.requests()) and tab.complaints() == [], (tab.requests(), tab.complaints())


@test
def failures_say_what_to_do():
    def break_off(handler):
        handler.send({"content": "Half an "})

    def complain(handler):
        handler.send({"content": "Half"})
        handler.event({"error": {"message": "The model is gone.", "type": "server_error", "code": None}})

    too_long = {"message": "This prompt has 9,000 tokens.", "type": "invalid_request_error", "param": "messages", "code": "context_length_exceeded"}
    with Stub((429, {"message": "Too many requests wait.", "code": "rate_limit_exceeded"}), (400, too_long), break_off, complain, [{"content": "Here."}]) as s:
        tab = open_page(s)
        say(tab, "Hello")
        for words in (("Too many requests wait.", "again in 7 s"), ("This prompt has 9,000 tokens.", "Start a new chat"),
                      ("The answer broke off.", "Half an"), ("The model is gone.", "Half")):
            finished(tab, "failed")
            tab.wait(f"document.querySelector('.answer.last').textContent.includes({json.dumps(words[0])})")
            assert words[1] in tab.text(".answer.last") and tab.js("document.querySelector('.note').role") == "alert", tab.text(".answer.last")
            tab.click(".note button")
        finished(tab)
        assert tab.text(".answer .text") == "Here." and tab.js("document.querySelectorAll('.answer').length") == 1
        assert len(s.asked) == 5 and all(len(r["messages"]) == 1 for r in s.asked)


@test
def a_server_that_goes_and_comes_back():
    with Stub([{"content": "Back."}]) as s:
        tab = open_page(s)
        s.stop()
        say(tab, "Are you there?")
        finished(tab, "failed")
        assert "does not answer" in tab.text(".note") and "does not answer" in tab.text("#status")
        s.http = s.make(s.port)
        s.start()
        tab.wait("document.querySelector('#status').textContent === ''")
        tab.click(".note button")
        finished(tab)
        assert tab.text(".answer .text") == "Back."


@test
def keys_stay_in_the_tab():
    with Server("--api-key", "sesame", "--temperature", 0) as s:
        tab = open_page(s)
        tab.wait("document.querySelector('#key-dialog').open")
        tab.type("wrong")
        tab.press("Enter")
        tab.wait("document.querySelector('#key-dialog').open && document.querySelector('#key-why').textContent.includes('Incorrect')")
        tab.type("sesame")
        tab.press("Enter")
        tab.wait("document.querySelector('#model').value")
        say(tab, "What is the capital of France?")
        finished(tab)
        assert "Paris" in tab.text(".answer .text")
        assert tab.js("Object.values(sessionStorage).includes('sesame') && !JSON.stringify(localStorage).includes('sesame')")
        assert not any("sesame" in u for u in tab.requests())
        tab.click("#open-settings")
        tab.click("#forget-key")
        assert not tab.js("JSON.stringify(sessionStorage).includes('sesame')") and tab.complaints() == []


@test
def settings_go_into_requests():
    with Stub([{"content": "One."}], [{"content": "Two."}]) as s:
        tab = open_page(s)
        say(tab, "Plain")
        finished(tab)
        tab.click("#open-settings")
        tab.js("document.querySelector('[name=system]').focus()")
        tab.type("Be brief.")
        for name, value in (("temperature", "0.3"), ("maxTokens", "50"), ("temperature", "9")):
            tab.js(f"{{ const i = document.querySelector('[name={name}]'); i.value = '{value}'; i.dispatchEvent(new Event('input', {{bubbles: true}})); }}")
        tab.js("{ const i = document.querySelector('[name=effort]'); i.value = 'high'; i.dispatchEvent(new Event('input', {bubbles: true})); }")
        tab.js("document.querySelector('[name=cut]').click()")
        tab.press("Escape")
        tab.call("Page.reload")
        tab.wait("document.querySelector('#model')?.value")
        say(tab, "Set")
        tab.wait("document.querySelectorAll('.answer').length === 2")
        finished(tab)
        plain, with_settings = s.asked
        assert not {"temperature", "max_completion_tokens", "reasoning_effort", "tools"} & set(plain) and plain["truncation"] == "auto", plain
        assert with_settings["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (with_settings["temperature"], with_settings["max_completion_tokens"], with_settings["reasoning_effort"], with_settings["truncation"]) \
            == (0.3, 50, "high", "disabled"), with_settings


@test
def the_last_turn_can_be_changed():
    with Stub(*[[{"content": f"Answer {n}."}] for n in range(1, 6)]) as s:
        tab = open_page(s)
        for n in (1, 2):
            say(tab, f"Question {n}")
            tab.wait(f"document.querySelectorAll('.answer').length === {n}")
            finished(tab)
        assert tab.js("[...document.querySelectorAll('[data-do=edit], [data-do=again]')].filter(e => e.checkVisibility()).length") == 2
        tab.click(".answer.last [data-do=again]")
        tab.wait("document.querySelector('#log').textContent.includes('Answer 3.')")
        finished(tab)
        assert [m["content"] for m in s.asked[2]["messages"]] == ["Question 1", "Answer 1.", "Question 2"]
        tab.press("ArrowUp")  # in the empty field: the last message again
        tab.wait("document.querySelector('.edit textarea') === document.activeElement")
        tab.press("Escape")
        assert tab.js("document.querySelector('.edit') === null && document.activeElement.id") == "prompt"
        tab.press("ArrowUp")
        tab.type(" once more")
        tab.press("Enter")
        tab.wait("document.querySelector('#log').textContent.includes('Answer 4.')")
        finished(tab)
        assert [m["content"] for m in s.asked[3]["messages"]] == ["Question 1", "Answer 1.", "Question 2 once more"]
        assert tab.js("document.querySelectorAll('#log > article').length") == 4
        tab.js("document.querySelector('#prompt').focus()")
        tab.type("a")
        tab.press("Enter", shift=True)
        tab.type("b")
        assert tab.js("document.querySelector('#prompt').value") == "a\nb" and len(s.asked) == 4


@test
def conversations_can_be_found_and_deleted():
    with Stub(*[[{"content": "Yes."}] for _ in range(3)]) as s:
        tab = open_page(s)
        for n in range(3):
            tab.js("document.querySelector('#new-chat').click()")
            say(tab, f"Talk {n}")
            finished(tab)
        assert tab.text(".chat").split("\n") == ["Talk 2", "Talk 1", "Talk 0"]
        tab.click("#chats li:nth-child(3) .chat")
        assert "Talk 0" in tab.text("#log") and tab.js("document.querySelector('[aria-current]').textContent") == "Talk 0"
        for _ in range(2):  # pressed twice: it asks first
            assert tab.js("document.querySelectorAll('.chat').length") == 3
            tab.click("#chats li:nth-child(3) .bin")
        assert tab.text(".chat").split("\n") == ["Talk 2", "Talk 1"] and tab.text("#log") == ""
        tab.click("#open-settings")
        tab.click("#clear-all")
        tab.click("#clear-all")
        assert tab.js("Object.keys(localStorage).filter(k => k.startsWith('oriel.chat.')).length") == 0 and tab.complaints() == []


@test
def kept_conversations_have_a_limit():
    with Stub() as s:
        tab = open_page(s)
        kept = tab.js("""import('/page/store.js').then(async store => {
            for (let i = 0; i < 12; i++) {
                store.saveChat({ id: 'n' + i, title: String(i), messages: [{ role: 'user', content: 'x'.repeat(600000) }] });
                await new Promise(r => setTimeout(r, 3)); // each a later time
            }
            return store.loadChats().map(c => c.id); })""")
        assert kept == ["n11", "n10", "n9", "n8", "n7", "n6"], kept
        alone = tab.js("""import('/page/store.js').then(store => {
            store.saveChat({ id: 'huge', title: '', messages: [{ role: 'user', content: 'x'.repeat(9000000) }] }); return store.loadChats().length; })""")
        assert alone == 0, "one too large to keep pushes the others out and is not kept"


LONG = ("A" * 300 + "\n\n```\n" + "wide " * 200 + "\n```\n\n| " + " | ".join("column%d" % i for i in range(12)) + " |\n|" + "---|" * 12 + "\n| "
        + " | ".join("value" for _ in range(12)) + " |\n\nhttps://example.org/" + "path" * 100 + "\n\n- " + "`" + "c" * 200 + "`")


@test
def a_phone_needs_no_sideways_scrolling():
    with Stub([{"reasoning_content": "B" * 300}, {"content": LONG}], CALL, [{"content": "42"}]) as s:
        for width in (320, 390, 768):
            s.answers = [[{"reasoning_content": "B" * 300}, {"content": LONG}], CALL, [{"content": "42"}]]
            tab = open_page(s, width=width, height=700, phone=True)
            say(tab, "C" * 200)
            finished(tab)
            tab.click("#use-tools")
            say(tab, "And?")
            tab.wait("document.querySelectorAll('.answer').length === 3")
            finished(tab)
            wide = tab.js("""[...document.querySelectorAll('html, body, main, #scroll, header, #dock')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.id || e.localName)""")
            assert not wide, (width, wide)
            assert tab.js("document.querySelector('#dock').getBoundingClientRect().bottom") <= 700
            small = tab.js("""[...document.querySelectorAll('button, select, summary')].filter(e => e.checkVisibility({visibilityProperty: true}) && e.getBoundingClientRect().height < 24).map(e => e.outerHTML.slice(0, 80))""")
            assert not small, small
            tab.click("#menu")
            assert tab.js("document.activeElement.id") == "new-chat" and tab.js("document.querySelector('main').inert")
            tab.press("Escape")
            assert tab.js("document.activeElement.id") == "menu" and not tab.js("document.querySelector('main').inert")
            tab.click("#menu")
            tab.click("#open-settings")
            assert not tab.js("document.querySelector('#settings').scrollWidth > document.querySelector('#settings').clientWidth")


CONTRAST = """(() => {
    const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
    const rgb = colors => { // painted one over the other, as the screen does
        canvas.clearRect(0, 0, 1, 1);
        for (const c of colors) { canvas.fillStyle = c; canvas.fillRect(0, 0, 1, 1); }
        return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
    };
    const light = c => c.map(v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
    const bad = [];
    for (const e of document.querySelectorAll('body *')) {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility({ visibilityProperty: true }) || e.closest('.unseen, .skip, :disabled')) continue;
        const behind = [];
        for (let p = e; p; p = p.parentElement) behind.unshift(getComputedStyle(p).backgroundColor);
        const back = rgb(behind), front = rgb([...behind, getComputedStyle(e).color]);
        const [a, b] = [light(back), light(front)].sort((x, y) => y - x);
        if ((a + 0.05) / (b + 0.05) < 4.5) bad.push([e.className || e.localName, e.textContent.slice(0, 30), ((a + 0.05) / (b + 0.05)).toFixed(2)]);
    }
    return bad; })()"""


@test
def both_colour_schemes_can_be_read():
    with Stub() as s:
        backs = []
        for dark in (False, True):
            s.answers = [[{"reasoning_content": "Hm."}, {"content": "# Title\n\nText with `code`, a [link](https://example.org/) and\n\n> a quote\n\n```js\nlet a = 1\n```"}],
                         CALL, [{"content": "42"}], (400, {"message": "No."})]
            tab = open_page(s, dark=dark)
            assert tab.js(CONTRAST) == [], tab.js(CONTRAST)
            say(tab, "Hello")
            finished(tab)
            tab.click("#use-tools")
            say(tab, "And?")
            tab.wait("document.querySelectorAll('.answer').length === 3")
            finished(tab)
            say(tab, "And?")
            finished(tab, "failed")
            tab.js("document.querySelector('.thought').open = true")
            assert tab.js(CONTRAST) == [], tab.js(CONTRAST)
            tab.click("#open-settings")
            assert tab.js(CONTRAST) == [], tab.js(CONTRAST)
            backs.append(tab.js("getComputedStyle(document.body).backgroundColor"))
        assert backs[0] != backs[1], backs


@test
def still_where_stillness_is_asked_for():
    with Stub(lambda handler: threading.Event().wait(3)) as s:
        tab = open_page(s)
        for still, moving in ((False, True), (True, False)):
            tab.set_media(still=still)
            if not still:
                say(tab, "Hello")
                tab.wait("document.querySelector('.dots i')?.checkVisibility()")
            assert (tab.js("document.getAnimations().length") > 0) == moving, still


# ── the modules by themselves ──

@test
def calculator():
    good = {"1 + 2 * 3": 7, "(1 + 2) * 3": 9, "2 ^ 3 ^ 2": 512, "-2 ^ 2": -4, "10 / 4": 2.5, "7 % 4": 3, "0.1 + 0.2": 0.3, "2 ** 10": 1024, "6 × 7": 42, "8 ÷ 2": 4, "5 − 3": 2,
            "sqrt(16) + abs(-2)": 6, "log10(1000)": 3, "round(2 * pi)": 6, "1e3 + .5": 1000.5, "10 - 2 - 3": 5, "100 / 10 / 5": 2, "--3": 3, "2 * -3": -6, "12": 12}
    bad = ["", "1 +", "(1", "1)", "1 / 0", "alert(1)", "constructor", "__proto__", "a.b", "1;2", "0x10", "9" * 400, "(" * 2000, "sqrt", "1 2", "...", "toString()"]
    with Stub() as s:
        tab = open_page(s)
        got = tab.js(f"import('/page/tools.js').then(t => {json.dumps(list(good))}.map(e => t.calculate(e)))")
        assert got == list(good.values()), [(e, g) for e, g in zip(good, got) if g != good[e]]
        worked = tab.js(f"import('/page/tools.js').then(t => {json.dumps(bad)}.filter(e => {{ try {{ t.calculate(e); return true }} catch {{ return false }} }}))")
        assert worked == [], worked
        rolls = tab.js("import('/page/tools.js').then(t => Array.from({length: 300}, () => Number(t.runTool('roll_dice', '{\"dice\": \"d6\"}').text)))")
        assert set(rolls) == {1, 2, 3, 4, 5, 6}
        assert tab.js("import('/page/tools.js').then(t => t.runTool('current_time', '{\"timezone\": \"Nowhere/Land\"}').failed)") is True


@test
def event_streams_cut_anywhere():
    text = ': ping\n\ndata: {"a":"é"}\r\n\r\nid: 4\ndata: one\ndata:two\n\nevent: x\ndata: [DONE]\r\rdata: unfinished'
    with Stub() as s:
        tab = open_page(s)
        got = tab.js(f"""import('/page/client.js').then(({{ eventParser }}) => {{
            const text = {json.dumps(text)}, seen = new Set();
            for (let i = 0; i <= text.length; i++) for (let k = i; k <= text.length; k++) {{
                const parse = eventParser();
                seen.add(JSON.stringify([text.slice(0, i), text.slice(i, k), text.slice(k)].flatMap(parse)));
            }}
            return [...seen]; }})""")
        assert [json.loads(g) for g in got] == [['{"a":"é"}', "one\ntwo", "[DONE]"]], got


MARKDOWN = {
    "plain *em* and **strong _both_**": "<p>plain <em>em</em> and <strong>strong <em>both</em></strong></p>",
    "snake_case_name, 2 * 3 * 4, **open": "<p>snake_case_name, 2 * 3 * 4, **open</p>",
    "# One\ntext\n### Three #": "<h3>One</h3><p>text</p><h5>Three</h5>",
    "a\nb": "<p>a<br>b</p>",
    "``a ` b`` and `c": "<p><code>a ` b</code> and `c</p>",
    r"\*no\* \`no\`": "<p>*no* `no`</p>",
    "- a\n- b\n  - c\n\n    more\n- d": "<ul><li>a</li><li><p>b</p><ul><li><p>c</p><p>more</p></li></ul></li><li>d</li></ul>",
    "3. a\n4. b\n\nend": '<ol start="3"><li>a</li><li>b</li></ol><p>end</p>',
    "It was in\n1984. Yes": "<p>It was in<br>1984. Yes</p>",
    "> a\n> > b\n\nc": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>",
    "a | b\n--|:-:\n1 | *2*\n\nc": '<div class="wide" tabindex="0"><table><thead><tr><th>a</th><th>b</th></tr></thead><tbody><tr><td>1</td><td><em>2</em></td></tr></tbody></table></div><p>c</p>',
    "---\n***": "<hr><hr>",
    "~~gone~~ a ~ b": "<p><s>gone</s> a ~ b</p>",
    "a < b && c > d": "<p>a &lt; b &amp;&amp; c &gt; d</p>",
    "": "",
}


@test
def markdown():
    with Stub() as s:
        tab = open_page(s)
        show = "const show = t => { const d = document.createElement('div'); m.showMarkdown(d, t); return d; };"
        for source, want in MARKDOWN.items():
            got = tab.js(f"import('/page/markdown.js').then(m => {{ {show} return show({json.dumps(source)}).innerHTML; }})")
            assert got == want, (source, got)
        whole = "\n\n".join(MARKDOWN) + "\n\n```js\nlet a = `x`\n```\n\n" + LONG
        # Piece by piece it becomes what it is at once.
        assert tab.js(f"""import('/page/markdown.js').then(m => {{ {show}
            const text = {json.dumps(whole)}, d = document.createElement('div');
            for (let i = 0; i <= text.length; i++) {{ m.showMarkdown(d, text.slice(0, i)); if (i % 97 === 0 && d.innerHTML !== show(text.slice(0, i)).innerHTML) return 'differs at ' + i; }}
            return d.innerHTML === show(text).innerHTML; }})""") is True
        # No text takes long.
        for evil in ("*a ", "**", "_", "`", "[", "![](", "[a](b", "> ", "- ", "|", "\n- ", "  ", "\\", "#", "```\n", "http://", "~~x ", "1. ", "|a\n|-\n", "***a"):
            took = tab.js(f"import('/page/markdown.js').then(m => {{ {show} const t = performance.now(); show({json.dumps(evil)}.repeat(20000 / {len(evil)})); return performance.now() - t; }})")
            assert took < 5000, (evil, took)


run_all()
