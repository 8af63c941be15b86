#!/usr/bin/env python3
"""Prompts that are too long, through every door: whole turns go or the request is refused, never silently;
performance mode; windows that make no sense; generation past the window."""
import json, os, tempfile

from oriel import SANITIZED, Server, run, run_all, run_json, test

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


def user(text):
    return {"role": "user", "content": text}


def assistant(text):
    return {"role": "assistant", "content": text}


def ask(messages, **more):
    return {"model": "default", "temperature": 0, "max_tokens": 4, "messages": messages, **more}


def long_talk(n):
    m = [{"role": "system", "content": "You answer briefly."}]
    for i in range(n):
        m += [user(f"What is the capital of France? I ask for the time number {i}."), assistant("It is Paris.")]
    return m + [user("And of Japan?")]


def post(s, path, body):
    status, headers, data = s.request("POST", path, body)
    return status, headers, json.loads(data)


def refused(answer, code, param, *words):
    status, _, body = answer
    e = body.get("error", {})
    assert status == 400 and e.get("code") == code and e.get("param") == param, answer
    for w in words:
        assert w in e["message"], (w, e["message"])


@test
def too_long_is_refused_with_the_numbers_or_cut_when_asked():
    with Server("--ctx", 512) as s:
        whole = ask(long_talk(40))
        refused(post(s, CHAT, whole), "context_length_exceeded", "messages", "at most 512 fit", "truncation")
        refused(post(s, CHAT, {**whole, "truncation": "disabled"}), "context_length_exceeded", "messages")
        status, headers, body = post(s, CHAT, {**whole, "truncation": "auto"})
        assert status == 200, body
        u = body["usage"]
        d = u["prompt_tokens_details"]
        assert u["prompt_tokens"] <= 512 and d["dropped_turns"] > 20 and d["dropped_tokens"] > 500, u
        assert headers["x-oriel-dropped-turns"] == str(d["dropped_turns"]), headers
        assert headers["x-oriel-dropped-tokens"] == str(d["dropped_tokens"]), headers
        # the answer is that to what was left
        kept = whole["messages"][:1] + whole["messages"][1 + 2 * d["dropped_turns"]:]
        same = s.post(CHAT, {**whole, "messages": kept})
        assert same["choices"][0]["message"] == body["choices"][0]["message"]
        assert same["usage"]["prompt_tokens"] == u["prompt_tokens"] and "dropped_turns" not in same["usage"]["prompt_tokens_details"]
        m = s.metrics()
        assert m["oriel_context_cut_total"] == 1 and m["oriel_context_refused_total"] == 2, m
        assert m["oriel_context_dropped_turns_total"] == d["dropped_turns"]
        assert m["oriel_context_dropped_tokens_total"] == d["dropped_tokens"]
        # in a stream the head says it and the usage chunk
        chunks = s.stream(CHAT, {**whole, "truncation": "auto", "stream_options": {"include_usage": True}})
        assert chunks[-1]["usage"]["prompt_tokens_details"]["dropped_tokens"] == d["dropped_tokens"]
        # one turn that cannot fit
        huge = ask([user("a little more of the same " * 400)])
        refused(post(s, CHAT, huge), "context_length_exceeded", "messages", "at most 512")
        status, headers, body = post(s, CHAT, {**huge, "truncation": "auto"})
        assert status == 200 and 440 <= body["usage"]["prompt_tokens"] <= 512, body
        assert int(headers["x-oriel-dropped-tokens"]) > 1000
        # wrong values
        refused(post(s, CHAT, {**whole, "truncation": "some"}), "invalid_value", "truncation")


@test
def a_configured_limit_drops_turns_and_holds_for_ever():
    n_turns = 60 if not SANITIZED else 12
    with Server("--max-context-tokens", 400, "--max-context-tokens-margin", 40) as s:
        messages, most, cuts = [{"role": "system", "content": "Answer briefly."}], 0, []
        for i in range(n_turns):
            messages.append(user(f"Tell me what is the capital of France, this is time {i}."))
            status, headers, body = post(s, CHAT, ask(messages))
            assert status == 200, body
            most = max(most, body["usage"]["prompt_tokens"])
            cuts.append(int(headers.get("x-oriel-dropped-turns", 0)))
            messages.append(assistant("Paris, as before."))
        assert 250 < most <= 360, most
        assert cuts == sorted(cuts) and cuts[-1] > n_turns / 3
        moves = len(set(cuts)) - 1
        assert 1 <= moves <= n_turns / 2, cuts  # in steps, not with every turn
        refused(post(s, CHAT, ask(messages, truncation="disabled")), "context_length_exceeded", "messages", "at most 360 fit")
        refused(post(s, CHAT, ask([user("a little more of the same " * 400)])), "context_length_exceeded", "messages",
                "last turn", "margin of 40")
        refused(post(s, CHAT, ask(messages, max_context_tokens=40)), "integer_below_min_value", "max_context_tokens", "keeps 40 tokens")
        refused(post(s, CHAT, ask(messages, max_context_tokens=40, performance_mode=True, perf_max_context_tokens=30)),
                "integer_below_min_value", "perf_max_context_tokens", "'perf_max_context_tokens'")
        # the same through Anthropic's door
        status, headers, body = post(s, "/v1/messages", {"model": "default", "max_tokens": 3, "messages": long_talk(20)[1:]})
        assert status == 200 and int(headers["x-oriel-dropped-turns"]) > 3 and body["usage"]["input_tokens"] <= 360, body
    assert b"cut to" in s.stderr  # and the log says it


@test
def what_was_computed_before_is_not_computed_again():
    n_turns = 60 if not SANITIZED else 12
    with Server("--max-context-tokens", 500, "--parallel", 1) as s:
        messages, prompt, computed = [{"role": "system", "content": "Answer briefly."}], 0, 0
        for i in range(n_turns):
            messages.append(user(f"Tell me what is the capital of France, this is time {i}."))
            u = s.post(CHAT, ask(messages, max_tokens=1))["usage"]
            prompt += u["prompt_tokens"]
            computed += u["prompt_tokens"] - u["prompt_tokens_details"]["cached_tokens"]
            messages.append(assistant("Paris, as before, and it is a beautiful city by a river."))
        whole = u["prompt_tokens"] + u["prompt_tokens_details"].get("dropped_tokens", 0)
        print(f"# {n_turns} turns of {whole} tokens in all: prompts {prompt}, computed {computed}")
        assert computed < prompt / 2 and computed < 5 * whole, (prompt, computed, whole)


@test
def tools_and_their_results_stay_together():
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    tools = [{"type": "function", "function": {"name": "f", "description": "does it", "parameters": {"type": "object", "properties": {}}}}]
    with Server("--ctx", 600) as s:
        m = []
        for i in range(40):
            m += [user("do it please"), {"role": "assistant", "content": None, "tool_calls": [dict(call, id=f"c{i}")]},
                  {"role": "tool", "tool_call_id": f"c{i}", "content": "done " * 5}, assistant("It is done.")]
        status, headers, body = post(s, CHAT, ask(m + [user("again")], tools=tools, truncation="auto"))
        assert status == 200 and int(headers["x-oriel-dropped-turns"]) > 5, body
        # one endless turn of tool calls: its oldest rounds go
        m = [user("do all of it")]
        for i in range(60):
            m += [{"role": "assistant", "content": None, "tool_calls": [dict(call, id=f"c{i}")]},
                  {"role": "tool", "tool_call_id": f"c{i}", "content": f"part {i} is done"}]
        status, headers, body = post(s, CHAT, ask(m, tools=tools, truncation="auto"))
        assert status == 200 and headers["x-oriel-dropped-turns"] == "0", (headers, body)
        assert body["usage"]["prompt_tokens"] <= 600


@test
def requests_bring_their_own_limits():
    with Server("--ctx", 1000, "--max-kv-size", 512) as s:
        talk = long_talk(15)
        whole = s.post(CHAT, ask(talk))["usage"]["prompt_tokens"]
        assert whole > 320
        u = s.post(CHAT, ask(talk, max_context_tokens=300, max_context_tokens_margin=20))["usage"]
        assert u["prompt_tokens"] <= 280 and u["prompt_tokens_details"]["dropped_turns"] > 0, u
        refused(post(s, CHAT, ask(talk, max_context_tokens=300, truncation="disabled")), "context_length_exceeded", "messages")
        refused(post(s, CHAT, ask(talk, max_context_tokens=300, max_context_tokens_margin=300)), "invalid_value",
                "max_context_tokens_margin", "leaves nothing")
        refused(post(s, CHAT, ask(talk, max_context_tokens=2000)), "integer_above_max_value", "max_context_tokens", "1000")
        refused(post(s, CHAT, ask(talk, max_context_tokens=0)), "integer_below_min_value", "max_context_tokens")
        refused(post(s, CHAT, ask(talk, max_kv_size=5)), "integer_below_min_value", "max_kv_size", "at least")
        refused(post(s, CHAT, ask(talk, max_kv_size=4096)), "integer_above_max_value", "max_kv_size", "512")
        refused(post(s, TEXT, {"model": "default", "prompt": "x", "max_context_tokens_margin": 1000}), "invalid_value",
                "max_context_tokens_margin")


@test
def a_stored_conversation_stays_within_the_limit():
    n_turns = 20 if not SANITIZED else 6
    with tempfile.TemporaryDirectory() as d, Server("--ctx", 300, "--data-dir", d) as s:
        body = {"model": "default", "temperature": 0, "max_output_tokens": 24}
        refused(post(s, "/v1/responses", {**body, "input": long_talk(20)}), "context_length_exceeded", "input", "at most 300 fit")
        last, most = None, 0
        for i in range(n_turns):
            q = {**body, "input": f"What is the capital of France? This is number {i}.", "truncation": "auto"}
            status, headers, got = post(s, "/v1/responses", {**q, "previous_response_id": last} if last else q)
            assert status == 200, got
            last, most = got["id"], max(most, got["usage"]["input_tokens"])
        assert 150 < most <= 300, most
        if not SANITIZED:
            assert int(headers["x-oriel-dropped-turns"]) > 3, headers


@test
def raw_prompts_lose_their_beginning_only_when_asked():
    with Server("--ctx", 256) as s:
        body = {"model": "default", "prompt": "once upon a time there was a dog. " * 80, "max_tokens": 3, "temperature": 0}
        refused(post(s, TEXT, body), "context_length_exceeded", "prompt", "at most 256 fit")
        status, headers, got = post(s, TEXT, {**body, "truncation": "auto"})
        assert status == 200 and got["usage"]["prompt_tokens"] <= 256, got
        assert int(headers["x-oriel-dropped-tokens"]) == got["usage"]["prompt_tokens_details"]["dropped_tokens"]
        refused(post(s, TEXT, {**body, "truncation": "auto", "echo": True}), "context_length_exceeded", "prompt")


@test
def performance_mode_in_requests():
    with Server("--ctx", 1000) as s:
        talk = long_talk(15)
        perf = {"perf_max_tokens": 3, "perf_max_context_tokens": 300, "perf_max_kv_size": 256, "perf_prompt_token_budget": 250}
        on = s.post(CHAT, ask(talk, performance_mode=True, ignore_eos=True, max_tokens=9, **perf))
        assert on["usage"]["completion_tokens"] == 3 and on["usage"]["prompt_tokens"] <= 250, on["usage"]
        off = s.post(CHAT, ask(talk, performance_mode=False, ignore_eos=True, max_tokens=9, **perf))
        assert off["usage"]["completion_tokens"] == 9 and off["usage"]["prompt_tokens"] > 320, off["usage"]
        refused(post(s, CHAT, ask(talk, performance_mode="yes")), "invalid_type", "performance_mode")
        refused(post(s, CHAT, ask(talk, performance_mode=True, perf_max_kv_size=0)), "integer_below_min_value", "perf_max_kv_size")
        # what is blamed is what was sent
        for name, value, code in (("perf_max_kv_size", 16, "integer_below_min_value"), ("perf_max_kv_size", 5000, "integer_above_max_value"),
                                  ("perf_max_context_tokens", 5000, "integer_above_max_value")):
            refused(post(s, CHAT, ask(talk, performance_mode=True, **{name: value})), code, name, name)
        refused(post(s, CHAT, ask(talk, performance_mode=True, perf_max_context_tokens=200, truncation="disabled")),
                "context_length_exceeded", "messages", "(perf_max_context_tokens)")
    with Server("--ctx", 1000, "--pinned", 0) as s:
        status, _, body = post(s, CHAT, ask(talk, max_kv_size=16))
        assert status == 400 and "pinned" not in body["error"]["message"] and "32" in body["error"]["message"], body


@test
def performance_mode_and_limits_from_a_file():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "prompt-config.json")
        config = {"max_tokens": 9, "max_context_tokens": 900, "max_context_tokens_margin": 100, "max_kv_size": 512,
                  "performance_mode": True, "perf_max_tokens": 3, "perf_max_context_tokens": 400, "perf_max_kv_size": 256,
                  "perf_prompt_token_budget": 250, "temperature": 0}
        with open(path, "w") as f:
            json.dump(config, f)
        got = run_json("generate", "--ignore-eos", "--config", path, "hello")
        assert got["usage"]["completion_tokens"] == 3, got["usage"]
        got = run_json("generate", "--ignore-eos", "--config", path, "--max-tokens", 5, "hello")
        assert got["usage"]["completion_tokens"] == 5, "the command line is stronger than the file"
        with Server("--config", path) as s:
            talk = {k: v for k, v in ask(long_talk(15), ignore_eos=True).items() if k != "max_tokens"}
            u = s.post(CHAT, talk)["usage"]
            assert u["completion_tokens"] == 3 and u["prompt_tokens"] <= 250 and u["prompt_tokens_details"]["dropped_turns"] > 0, u
            u = s.post(CHAT, {**talk, "max_tokens": 7})["usage"]
            assert u["completion_tokens"] == 7, u  # a request is stronger than the server's configuration
            refused(post(s, CHAT, {**talk, "max_kv_size": 300}), "integer_above_max_value", "max_kv_size", "256")


@test
def windows_that_make_no_sense_say_what_to_change():
    def says(args, *words):
        p = run("generate", *args, "hello", check=False)
        text = p.stderr.decode()
        assert p.returncode == 2, (args, p.returncode, text)
        assert all(w in text for w in words), (args, text)

    says(["--max-kv-size", 20], "--max-kv-size 20", "raise it to 32")
    says(["--max-kv-size", 60, "--pinned", 40], "--pinned", "96")
    says(["--max-kv-size", 60, "--pinned", 60], "--pinned 60", "raise --max-kv-size")
    says(["--max-context-tokens", 100, "--max-context-tokens-margin", 100], "--max-context-tokens-margin", "less than that")
    says(["--max-context-tokens-margin", 100000], "max_context_tokens_margin", "less than that")
    says(["--max-context-tokens", 900, "--ctx", 100], "--ctx 100", "raise --ctx")
    says(["--max-context-tokens", 0], "from 1")
    says(["--perf-max-kv-size", 20, "--performance-mode"], "--perf-max-kv-size 20", "raise it to 32")
    says(["--perf-max-kv-size", 60, "--pinned", 60, "--performance-mode"], "raise --perf-max-kv-size")
    says(["--perf-max-context-tokens", 900, "--performance-mode", "--ctx", 100], "--perf-max-context-tokens 900")
    says(["--perf-max-context-tokens", 900, "--performance-mode", "--max-context-tokens-margin", 900], "less than that")
    says(["--ctx", 100, "--pinned", 200], "'pinned'", "--pinned to 64", "--max-kv-size to 256")
    says(["--pinned", 50000], "'pinned'", "--max-kv-size to 50048")
    says(["--pinned", 1 << 40], "--pinned takes", str(1 << 39))
    says(["--kv-cache", 1 << 30], "--kv-cache", "lower it")
    says(["--chunk", 8193], "--chunk takes", "8192")
    assert b"changes nothing" in run("generate", "--performance-mode", "--max-tokens", 1, "hello").stderr


@test
def a_plan_refuses_and_warns_as_loading_does():
    for args, status in ((["--max-context-tokens-margin", 100000], 2), (["--max-kv-size", 20], 2), (["--ctx", 100, "--pinned", 200], 2),
                         (["--kv-cache", 1 << 30], 2), (["--kv-dir", ""], 2), (["--performance-mode"], 0), (["--ctx", 5000], 0)):
        plan, load = run("plan", *args, check=False), run("generate", "-n", 1, "--temperature", 0, *args, "hello", check=False)
        said = [l for l in plan.stderr.decode().splitlines()]
        assert plan.returncode == load.returncode == status, (args, plan.returncode, load.returncode, said, load.stderr)
        strip = lambda l: l.split("] ")[-1].split(" config: ")[-1]
        assert len(said) == 1 and said[0].strip() and strip(said[0]) in load.stderr.decode(), (args, said, load.stderr)
    for command, option, most in (("plan", "--parallel", 256), ("serve", "--parallel", 256), ("serve", "--queue", 65536)):
        p = run(command, option, most + 1, check=False)
        assert p.returncode == 2 and f"{option} takes a number".encode() in p.stderr and str(most).encode() in p.stderr, p.stderr


@test
def a_cache_that_is_too_large_is_what_has_to_shrink():
    plain = run_json("plan")
    p = run("plan", "--kv-cache", 20000000, "--json", check=False)
    plan = json.loads(p.stdout)
    assert p.returncode == 1 and plan["max_kv_size"] == plain["max_kv_size"] and plan["kv_cache_bytes"] > 20000000 << 20, plan
    assert plan["kv_bytes"] - plan["kv_cache_bytes"] == plain["kv_bytes"] and plain["kv_cache_bytes"] == 0, (plan, plain)
    p = run("generate", "--kv-cache", 20000000, "hello", check=False)
    said = p.stderr.decode()
    assert p.returncode == 1 and "--kv-cache alone takes" in said and "(MiB) at most" in said, said
    assert "No window" not in said and "mmap" not in said and said.count("\n") == 1, said
    most = int(said.split("lower it to ")[1].split()[0])
    # (Free memory moves between the calls; a tenth is more than it does.)
    assert run_json("plan", "--kv-cache", most * 8 // 10, "--max-kv-size", plain["max_kv_size"])["fits"]
    assert run("plan", "--kv-cache", most * 12 // 10, "--max-kv-size", plain["max_kv_size"], check=False).returncode == 1


@test
def a_directory_for_rows_says_what_it_needs():
    def says(directory, *words):
        p = run("generate", "--kv-dir", directory, "-n", 1, "hello", check=False)
        said = p.stderr.decode()
        assert p.returncode and said.startswith("oriel: ") and said[7] != " " and all(w in said for w in words), said

    says("", "--kv-dir is empty")
    with tempfile.TemporaryDirectory() as d:
        says(os.path.join(d, "a", "b"), os.path.join(d, "a", "b"), "directory above it is not there", "Make that first")


@test
def the_terminal_drops_the_oldest_turns():
    lines = "".join(f"What is the capital of France? Time {i}.\n" for i in range(12))
    p = run("chat", "--temperature", 0, "--max-context-tokens", 200, "--max-tokens", 8, stdin=lines)
    notes = [l for l in p.stderr.decode().splitlines() if "left out" in l and l.startswith("[")]
    assert 1 <= len(notes) < 12, p.stderr
    assert all(int(l.split("prompt has ")[1].split()[0]) <= 200 for l in notes), notes
    p = run("chat", "--temperature", 0, "--max-context-tokens", 150, stdin="word " * 300 + "\nhello\n")
    assert b"last turn is too long" in p.stderr and p.stdout.strip(), "the conversation goes on"


@test
def a_turn_more_tokenizes_that_turn_only():
    with Server("--ctx", 4096) as s:
        messages, before = [], None
        for i in range(10):
            text = f"{i}: " + "tell me more about the sea and the red dog " * (i + 1)
            messages.append(user(text))
            s.post(CHAT, ask(messages))
            m = s.metrics()
            now, known = m["oriel_tokenized_bytes_total"], m["oriel_tokenized_remembered_bytes_total"]
            if i > 1:  # by then every word of the format was seen
                assert now - before[0] == len(text) + len(answer), (i, now - before[0], len(text) + len(answer))
                assert known > before[1]
            before = now, known
            answer = f"answer number {i} is this"
            messages.append(assistant(answer))


@test
def generation_goes_on_past_the_window():
    n = 400 if not SANITIZED else 150
    with Server("--max-kv-size", 96, "--ctx", 96) as s:
        body = {"model": "default", "prompt": "Once upon a time", "max_tokens": n, "ignore_eos": True, "temperature": 0}
        got = s.post(TEXT, body)
        assert got["usage"]["completion_tokens"] == n and got["choices"][0]["finish_reason"] == "length", got["usage"]
        # an end token past the window is a stop, not a length
        ids = run_json("generate", "--raw", "--max-kv-size", 96, "--ctx", 96, "--ignore-eos", "--temperature", 0, "--max-tokens", n,
                       "Once upon a time")["token_ids"]
        text = s.post(TEXT, {**body, "stop": None})["choices"][0]["text"]
        stop = text[len(text) * 2 // 3:][:20]
        got = s.post(TEXT, {**body, "stop": [stop]})
        assert got["choices"][0]["finish_reason"] == "stop" and len(ids) == n, got


run_all()
