"""A headless Chromium driven over its debugging pipe, as far as the page's tests need it. Not a test itself."""
import base64, json, os, select, shutil, signal, subprocess, tempfile, time

BROWSER = next((p for p in map(shutil.which, ("chromium-headless-shell", "chromium")) if p), None)
# Without it a headless browser believes that nothing can hover.
MOUSE = "--blink-settings=primaryHoverType=2,availableHoverTypes=2,primaryPointerType=4,availablePointerTypes=4"
KEYS = {"Enter": (13, "\r"), "Escape": (27, ""), "ArrowUp": (38, ""), "Tab": (9, "")}


class Chrome:
    """`with Chrome() as c: tab = c.open(url)`. Each tab is a browser of its own, which knows nothing of the last one and
    takes its place."""

    def __enter__(self):
        self.home = tempfile.mkdtemp(prefix="oriel-chrome-")
        to_us, from_them = os.pipe()
        to_them, from_us = os.pipe()
        root = ["--no-sandbox"] if os.geteuid() == 0 else []
        self.p = subprocess.Popen(
            ["bash", "-c", f'exec "$@" 3<&{to_them} 4>&{from_them} {to_them}<&- {from_them}>&-', "-", BROWSER, "--headless",
             "--remote-debugging-pipe", f"--user-data-dir={self.home}", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
             "--force-color-profile=srgb", "--disable-background-networking", MOUSE, *root],
            pass_fds=(to_them, from_them), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env=dict(os.environ, HOME=self.home))
        os.close(to_them)
        os.close(from_them)
        self.read_fd, self.write_fd, self.rest, self.last_id = to_us, from_us, b"", 0
        self.tabs, self.context = {}, None
        return self

    def __exit__(self, *exc):
        try:
            self.call("Browser.close", timeout=5)
            self.p.wait(10)
        except (AssertionError, OSError, subprocess.TimeoutExpired):
            os.killpg(self.p.pid, signal.SIGKILL)
            self.p.wait()
        os.close(self.read_fd)
        os.close(self.write_fd)
        shutil.rmtree(self.home, ignore_errors=True)

    def call(self, method, params=None, session=None, timeout=30):
        self.last_id += 1
        own = self.last_id
        message = {"id": own, "method": method, "params": params or {}, **({"sessionId": session} if session else {})}
        os.write(self.write_fd, json.dumps(message).encode() + b"\0")
        end = time.monotonic() + timeout
        while True:
            answer = self.next_message(end - time.monotonic(), method)
            if answer.get("id") == own:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            if answer.get("sessionId") in self.tabs:
                self.tabs[answer["sessionId"]].events.append(answer)

    def next_message(self, seconds, what):
        end = time.monotonic() + seconds
        while b"\0" not in self.rest:
            left = end - time.monotonic()
            ready = left > 0 and select.select([self.read_fd], [], [], left)[0]
            assert ready, f"Chromium did not answer {what} in time"
            piece = os.read(self.read_fd, 1 << 20)
            assert piece, "Chromium ended"
            self.rest += piece
        one, _, self.rest = self.rest.partition(b"\0")
        return json.loads(one)

    def open(self, url, width=1280, height=800, dark=False, phone=False):
        if self.context:
            self.tabs.clear()
            self.call("Target.disposeBrowserContext", {"browserContextId": self.context})
        self.context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", {"url": "about:blank", "browserContextId": self.context})["targetId"]
        session = self.call("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        tab = self.tabs[session] = Tab(self, session)
        for domain in ("Page", "Runtime", "Network", "Log"):
            tab.call(domain + ".enable")
        tab.set_size(width, height, phone)
        tab.set_media(dark=dark)
        tab.go(url)
        return tab


class Tab:
    def __init__(self, chrome, session):
        self.chrome, self.session, self.events = chrome, session, []

    def call(self, method, params=None, **kw):
        return self.chrome.call(method, params, self.session, **kw)

    def go(self, url):
        self.call("Page.navigate", {"url": url})
        self.wait("document.readyState === 'complete'")

    def set_size(self, width, height, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone})
        self.call("Emulation.setTouchEmulationEnabled", {"enabled": phone})

    def set_media(self, dark=False, still=False):
        self.call("Emulation.setEmulatedMedia", {"features": [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if still else "no-preference"}]})

    def js(self, expression):
        """The value of an expression in the page; promises are awaited."""
        got = self.call("Runtime.evaluate", {"expression": expression, "awaitPromise": True, "returnByValue": True})
        if "exceptionDetails" in got:
            raise AssertionError(f"{expression}: {got['exceptionDetails'].get('exception', {}).get('description')}")
        return got["result"].get("value")

    def wait(self, expression, seconds=60):
        end = time.monotonic() + seconds
        while not self.js(f"Boolean({expression})"):
            assert time.monotonic() < end, f"never true: {expression}\n{self.js('document.body?.innerText')}"
            time.sleep(0.05)

    def text(self, selector):
        return self.js(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent).join('\\n')")

    def click(self, selector):
        """A real press in the middle of the element, once it is the topmost thing there (things slide in)."""
        find = (f"""(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: 'nearest'}});
            const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2, top = document.elementFromPoint(x, y);
            return e.contains(top) || e.control?.contains(top) ? [x, y] : null; }})()""")
        end = time.monotonic() + 10
        while not (box := self.js(find)):
            assert time.monotonic() < end, f"{selector} is covered or not there"
            time.sleep(0.05)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", {"type": kind, "x": box[0], "y": box[1], "button": "left", "clickCount": 1})

    def type(self, text):
        self.call("Input.insertText", {"text": text})

    def press(self, key, shift=False):
        code, text = KEYS[key]
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", {"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0,
                                                 **({"text": text} if text and kind == "keyDown" else {})})

    def screenshot(self, path):
        data = self.call("Page.captureScreenshot", {"format": "png"})["data"]
        with open(path, "wb") as f:
            f.write(base64.b64decode(data))

    def drain(self):
        self.js("0")
        return self.events

    def requests(self):
        return [e["params"]["request"]["url"] for e in self.drain() if e["method"] == "Network.requestWillBeSent"]

    def complaints(self):
        """Exceptions nobody caught, and what the browser refused."""
        found = [e["params"]["exceptionDetails"].get("exception", {}).get("description", "?") for e in self.drain() if e["method"] == "Runtime.exceptionThrown"]
        return found + [e["params"]["entry"]["text"] for e in self.events if e["method"] == "Log.entryAdded" and e["params"]["entry"]["level"] == "error"
                        and e["params"]["entry"]["source"] != "network"]
