#!/usr/bin/env python3
"""Transcriptions, translations and images: uploads are checked, then a 501 says
what is missing, or the operator's own program answers from inside the sandbox."""
import base64, io, json, os, struct, tempfile, wave, zlib

from oriel import Server, Skip, run_all, test, wait_for


def wav(seconds=1.0):
    b = io.BytesIO()
    with wave.open(b, "wb") as w:
        w.setparams((1, 2, 16000, 0, "NONE", ""))
        w.writeframes(b"\0\0" * int(16000 * seconds))
    return b.getvalue()


def png():
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)) + chunk(b"IDAT", zlib.compress(b"\0\xff\0\0")) +
            chunk(b"IEND", b""))


def form(s, path, *parts, want=200):
    body = b""
    for name, value in parts:
        if isinstance(value, tuple):
            body += f'--xx\r\nContent-Disposition: form-data; name="{name}"; filename="{value[0]}"\r\nContent-Type: application/octet-stream\r\n\r\n'.encode() + value[1]
        else:
            body += f'--xx\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        body += b"\r\n"
    status, headers, data = s.request("POST", path, body + b"--xx--\r\n", headers={"Content-Type": "multipart/form-data; boundary=xx"})
    assert status == want, (path, status, data[:300])
    return json.loads(data) if headers["content-type"].startswith("application/json") else data.decode()


HEARS = 'n=$(wc -c); printf "%s %s %s %s %s %s" "$1" "$2" "$3" "$4" "$5" "$n"'
AUDIO, TEXTS = "/v1/audio/transcriptions", ("model", "whisper-1")


def need_sandbox(s):
    status, _, data = s.request("POST", "/v1/audio/speech", {"model": "tts-1", "input": "a", "voice": "alloy"})
    if status == 501 and b"sandbox" in data:
        raise Skip(json.loads(data)["error"]["message"])


@test
def without_a_command_uploads_are_checked_first():
    with Server() as s:
        good = ("file", ("a.wav", wav()))
        for parts, param in [((TEXTS,), "file"), ((good,), "model"), ((TEXTS, ("file", ("a.wav", b""))), "file"), ((TEXTS, ("file", ("a.txt", b"x"))), "file"),
                             ((TEXTS, good, ("response_format", "xml")), "response_format"), ((TEXTS, good, ("temperature", "2")), "temperature"),
                             ((TEXTS, good, ("temperature", "warm")), "temperature"), ((TEXTS, good, ("language", "e;rm")), "language")]:
            assert form(s, AUDIO, *parts, want=400)["error"]["param"] == param, (parts, param)
        assert "--transcribe-command" in form(s, AUDIO, TEXTS, good, want=501)["error"]["message"]
        assert form(s, "/v1/audio/translations", TEXTS, good, want=501)["error"]["code"] == "not_implemented"
        s.post(AUDIO, {}, want=400)
        for body, param in [({}, "prompt"), ({"prompt": "a", "size": "big"}, "size"), ({"prompt": "a", "n": 11}, "n"), ({"prompt": "a", "response_format": "x"}, "response_format")]:
            assert s.post("/v1/images/generations", body, want=400)["error"]["param"] == param
        assert "--image-command" in s.post("/v1/images/generations", {"prompt": "a"}, want=501)["error"]["message"]
        assert form(s, "/v1/images/variations", ("n", "1"), want=400)["error"]["param"] == "image"
        assert form(s, "/v1/images/variations", ("image", ("i.png", b"no image")), want=400)["error"]["param"] == "image"
        assert form(s, "/v1/images/edits", ("image", ("i.png", png())), want=400)["error"]["param"] == "prompt"
        form(s, "/v1/images/edits", ("image", ("i.png", png())), ("prompt", "p"), want=501)


@test
def a_command_hears():
    data = wav(2.5)
    with Server("--transcribe-command", HEARS) as s:
        need_sandbox(s)
        ask = (TEXTS, ("file", ("a b.WAV", data)), ("language", "en"), ("prompt", "$(id) `id` 'q'"), ("temperature", "0.5"))
        want = f"transcribe wav en $(id) `id` 'q' 0.5 {len(data)}"
        got = form(s, AUDIO, *ask)
        assert got["text"] == want and abs(got["usage"]["seconds"] - 2.5) < 0.01, got
        assert form(s, AUDIO, *ask, ("response_format", "text")) == want + "\n"
        assert form(s, AUDIO, *ask, ("response_format", "srt")) == f"1\n00:00:00,000 --> 00:00:02,500\n{want}\n\n"
        assert form(s, AUDIO, *ask, ("response_format", "vtt")).startswith("WEBVTT\n\n00:00:00.000 --> 00:00:02.500\n")
        v = form(s, AUDIO, *ask, ("response_format", "verbose_json"), ("timestamp_granularities[]", "segment"))
        assert v["duration"] == 2.5 and v["segments"][0]["text"] == want and v["language"] == "en"
        assert form(s, "/v1/audio/translations", TEXTS, ("file", ("a.mp3", b"xyz")))["text"] == "translate mp3   0 3"
        events = [json.loads(l[6:]) for l in form(s, AUDIO, *ask, ("stream", "true")).splitlines() if l.startswith("data: ")]
        assert "".join(e["delta"] for e in events[:-1]) == want and events[-1]["type"] == "transcript.text.done" and events[-1]["text"] == want

    # A stream says what the whole answer says: white space at its ends is no part of it, however it comes.
    with Server("--transcribe-command", "printf ' \\n'; sleep 0.1; printf ' one '; sleep 0.1; printf '\\n two'; sleep 0.1; printf ' \\n\\n'") as s:
        events = [json.loads(l[6:]) for l in form(s, AUDIO, TEXTS, ("file", ("a.wav", data)), ("stream", "true")).splitlines() if l.startswith("data: ")]
        assert "".join(e["delta"] for e in events[:-1]) == events[-1]["text"] == "one \n two", events


@test
def a_command_draws():
    with tempfile.TemporaryDirectory(dir=os.path.expanduser("~")) as d:
        with open(os.path.join(d, "i.png"), "wb") as f:
            f.write(png())
        os.chmod(d, 0o755)
        with Server("--image-command", f'if [ "$1" = generate ]; then test "$4" = "a red dot" && cat {d}/i.png; else cat; fi') as s:
            need_sandbox(s)
            got = s.post("/v1/images/generations", {"prompt": "a red dot", "n": 3, "size": "256x256", "response_format": "b64_json"})
            assert [base64.b64decode(x["b64_json"]) for x in got["data"]] == [png()] * 3
            assert s.post("/v1/images/generations", {"prompt": "a red dot"})["data"][0]["url"].startswith("data:image/png;base64,")
            for path in ("edits", "variations"):
                got = form(s, f"/v1/images/{path}", ("image", ("i.png", png())), ("prompt", "bluer"), ("response_format", "b64_json"))
                assert base64.b64decode(got["data"][0]["b64_json"]) == png()
            s.post("/v1/images/generations", {"prompt": "something else"}, want=500)


@test
def a_command_is_held():
    """It sees no secrets, reaches nobody and ends with its client."""
    with tempfile.TemporaryDirectory() as d:
        with Server("--data-dir", d, "--transcribe-command", f'ls {d} | wc -l; (echo x > {d}/../y) 2>&1 | grep -c -i read-only; ls /sys/class/net | wc -l') as s:
            need_sandbox(s)
            assert form(s, AUDIO, TEXTS, ("file", ("a.wav", wav())))["text"].split()[0] == "0"
    with Server("--transcribe-command", "echo broken >&2; exit 3") as s:
        assert "broken" in form(s, AUDIO, TEXTS, ("file", ("a.wav", wav())), want=500)["error"]["message"]


run_all()
