#!/usr/bin/env python3
"""/v1/audio/speech: real sound in every format, errors before the first byte,
and a program that ends with the client."""
import base64, json, socket, struct, time

from oriel import Server, Skip, run_all, test, wait_for

SAY = {"model": "tts-1", "input": "Hello, this is oriel.", "voice": "alloy"}


def speak(s, **more):
    status, headers, data = s.request("POST", "/v1/audio/speech", {**SAY, **more})
    if status == 501:
        raise Skip(json.loads(data)["error"]["message"])
    assert status == 200, data[:300]
    return headers, data


def seconds(wav):
    """Of sound, silence at the ends left out."""
    n = struct.unpack("<I", wav[40:44])[0]
    assert wav[:4] == b"RIFF" and wav[8:12] == b"WAVE" and n == len(wav) - 44
    assert struct.unpack("<HHI", wav[20:28]) == (1, 1, 24000)
    samples = struct.unpack(f"<{n // 2}h", wav[44:])
    loud = [i for i, v in enumerate(samples) if abs(v) > 300]
    assert len(loud) > 2000, "silence"
    return (loud[-1] - loud[0]) / 24000


@test
def every_format_is_real():
    with Server() as s:
        headers, wav = speak(s, response_format="wav")
        assert headers["content-type"] == "audio/wav"
        assert 0.5 < seconds(wav) < 6
        for name, magic, kind in [("mp3", b"\xff", "audio/mpeg"), ("opus", b"OggS", "audio/ogg"), ("flac", b"fLaC", "audio/flac")]:
            headers, data = speak(s, response_format=name)
            assert data.startswith(magic) and headers["content-type"] == kind and len(data) > 3000, name
        _, pcm = speak(s, response_format="pcm")
        assert abs(len(pcm) - (len(wav) - 44)) <= 4
        headers, _ = speak(s)
        assert headers["content-type"] == "audio/mpeg", "mp3 is the default"


@test
def speed_and_voice_are_heard():
    with Server() as s:
        plain = seconds(speak(s, response_format="wav")[1])
        assert seconds(speak(s, response_format="wav", speed=2)[1]) < 0.75 * plain
        assert seconds(speak(s, response_format="wav", speed=0.5)[1]) > 1.5 * plain
        assert speak(s, response_format="wav", voice="onyx")[1] != speak(s, response_format="wav")[1]
        assert speak(s, response_format="wav", voice={"id": "de"})[1] != speak(s, response_format="wav", voice="en")[1]
        names = [v["id"] for v in s.get("/v1/audio/voices")["data"]]
        assert "alloy" in names and len(set(names)) == len(names)


@test
def events_carry_the_same_bytes():
    with Server() as s:
        _, whole = speak(s, response_format="pcm")
        _, data = speak(s, response_format="pcm", stream_format="sse")
        events = [json.loads(line[6:]) for line in data.decode().splitlines() if line.startswith("data: {")]
        assert [e["type"] for e in events[:-1]] == ["speech.audio.delta"] * (len(events) - 1)
        assert events[-1]["type"] == "speech.audio.done" and events[-1]["usage"]["input_tokens"] > 0
        assert b"".join(base64.b64decode(e["audio"]) for e in events[:-1]) == whole


@test
def wrong_requests_name_the_parameter():
    with Server() as s:
        speak(s)
        for more, param, code in [
            ({"voice": "../../etc/passwd"}, "voice", "invalid_value"),
            ({"voice": "-w/tmp/x"}, "voice", "invalid_value"),
            ({"voice": "xx-none"}, "voice", "invalid_value"),
            ({"voice": None}, "voice", "missing_required_parameter"),
            ({"input": ""}, "input", "invalid_value"),
            ({"input": "a" * 4097}, "input", "string_above_max_length"),
            ({"input": 5}, "input", "invalid_type"),
            ({"speed": 4.5}, "speed", "decimal_above_max_value"),
            ({"response_format": "midi"}, "response_format", "invalid_value"),
        ]:
            e = s.post("/v1/audio/speech", {**SAY, **more}, want=400)["error"]
            assert (e["param"], e["code"]) == (param, code), (more, e)
        assert s.post("/v1/audio/speech", {**SAY, "model": "other"}, want=404)["error"]["code"] == "model_not_found"
        assert s.post("/v1/audio/speech", {**SAY, "response_format": "aac"}, want=501)["error"]["param"] == "response_format"
        # An input that looks like options or markup is only read aloud.
        for text in ["--help", "<speak>", "[[h@l'oU]]", "\u0000" * 3 + "a", "日本語"]:
            assert len(speak(s, input=text, response_format="wav")[1]) > 44


@test
def a_client_that_leaves_takes_its_program_along():
    with Server() as s:
        speak(s)
        body = json.dumps({**SAY, "input": "word " * 800, "response_format": "pcm", "speed": 0.3}).encode()
        for _ in range(12):  # more than may run at once: each must give its place back
            c = socket.create_connection((s.host, s.port))
            c.sendall(b"POST /v1/audio/speech HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                      b"Content-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
            time.sleep(0.05)
            c.close()
        wait_for(lambda: s.request("POST", "/v1/audio/speech", SAY)[0] == 200)


run_all()
