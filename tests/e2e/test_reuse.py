#!/usr/bin/env python3
"""What was computed before is not computed again: over HTTP, in every row format, and after `kill -9`
with --kv-dir. The answers are those of a server that starts from nothing."""
import os, shutil, signal, tempfile, time

from oriel import Server, run_all, test

SYSTEM = {"role": "system", "content": "You answer briefly. " * 30}


def ask(s, messages, n=12):
    j = s.post("/v1/chat/completions", {"model": "default", "messages": messages, "max_completion_tokens": n, "temperature": 0,
                                        "logprobs": True, "top_logprobs": 3})
    choice, usage = j["choices"][0], j["usage"]
    return choice["message"], choice["logprobs"], usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]


def turns(s, n=3):
    """A conversation; what was said and how much of each prompt was cached."""
    messages, said = [SYSTEM], []
    for i in range(n):
        messages.append({"role": "user", "content": f"What comes after {i}?"})
        message, logprobs, n_prompt, cached = ask(s, messages)
        said.append((message, logprobs, n_prompt, cached))
        messages.append({"role": "assistant", "content": message.get("content") or "Well."})
    return said


@test
def turns_reuse_their_prefix_in_every_row_format():
    for kind in "f16", "bf16", "q8_0", "f32":
        with Server("--kv-type", kind, "--no-store") as s:
            warm = turns(s)
        assert warm[0][3] == 0
        for message, logprobs, n_prompt, cached in warm[1:]:
            assert 0 < n_prompt - cached < 64, (kind, n_prompt, cached)
        messages = [SYSTEM]
        for i, (message, logprobs, n_prompt, _) in enumerate(warm):
            messages.append({"role": "user", "content": f"What comes after {i}?"})
            if i == 2: # the last one once more, from nothing
                with Server("--kv-type", kind, "--no-store") as s:
                    again = ask(s, messages)
                assert again[:3] == (message, logprobs, n_prompt) and again[3] == 0, kind
            messages.append({"role": "assistant", "content": message.get("content") or "Well."})


@test
def a_killed_server_goes_on_where_it_was():
    place = tempfile.mkdtemp(prefix="oriel-kv-")
    try:
        with Server("--no-store") as s:
            want = turns(s)
        for last in False, True:
            s = Server("--kv-dir", place, "--no-store").__enter__()
            got = turns(s)
            if last:
                s.__exit__(None, None, None)
            else:
                deadline = time.monotonic() + 30
                while len([f for f in os.listdir(place) if f.endswith(".f")]) < got[-1][2] // 32 and time.monotonic() < deadline:
                    time.sleep(0.1)
                s.p.send_signal(signal.SIGKILL)
                s.p.communicate()
            assert [g[:3] for g in got] == [w[:3] for w in want]
            assert got[0][3] == 0 if not last else got[0][3] > 0, got[0][3]
        assert oct(os.stat(place).st_mode)[-3:] == "700"
    finally:
        shutil.rmtree(place)


run_all()
