#!/usr/bin/env python3
"""Every command, its help, and what it says when something is wrong."""
import json, os, pty, random, re, signal, subprocess, tempfile, time

from oriel import ORIEL, ROOT, env, need_corpus, run, run_all, run_json, test

COMMANDS = ["generate", "chat", "serve", "score", "tokenize", "inspect", "bench", "plan"]


def one_sentence(p, *needles, status=None):
    text = p.stderr.decode()
    assert p.returncode in ((status,) if status else (1, 2)), (p.returncode, text)
    assert text.startswith("oriel: ") and text.count("\n") == 1, text
    for n in needles:
        assert n in text, f"{n!r} is not in {text!r}"


@test
def help_fits_a_screen_and_is_true():
    out = run("--help").stdout.decode()
    for c in COMMANDS:
        assert c in out
        text = run(c, "--help").stdout.decode()
        lines = text.splitlines()
        assert len(lines) <= 50 and max(map(len, lines)) <= 110, f"{c} --help: {len(lines)} lines, {max(map(len, lines))} wide"
        # Every flag it lists is known to that command: a wrong value or a missing one is the only complaint.
        # (With --help behind it a value that is taken prints the help and stops there.)
        for flag in re.findall(r"--([a-z0-9-]+) [A-Z0-9]", text):
            p = run(c, f"--{flag}=\x01", "--help", check=False, timeout=60)
            assert b"There is no option" not in p.stderr and b"does not belong" not in p.stderr, (c, flag, p.stderr)


@test
def strange_variables_are_said_once():
    more = {"ORIEL_MAX_TOKEN": 5}
    p = run("tokenize", "--quiet", stdin="a", **more)
    assert p.stderr == b"", p.stderr
    p = run("tokenize", stdin="a", **more)
    assert p.stderr.count(b"\n") == 1 and b"ORIEL_MAX_TOKEN." in p.stderr and b"ORIEL_MAX_TOKENS?" in p.stderr, p.stderr
    assert p.stdout == run("tokenize", stdin="a").stdout
    # The tests and scripts start the program with their own variables set: none of them is strange.
    names = set()
    for folder in ("tests", "bench", "tools", "script", "Makefile"):
        for path in subprocess.run(["grep", "-rlI", "ORIEL_", os.path.join(ROOT, folder)], capture_output=True, text=True).stdout.split():
            if "test_config.c" in path or path == __file__:
                continue
            text = open(path, errors="replace").read()
            names |= set(re.findall(r"""(?:getenv\(|environ(?:\.get\(|\[)|[ \t"]\$\{?)["']?(ORIEL_[A-Z0-9_]+)""", text))
            names |= set(re.findall(r"(?m)(?:^|[\s(`])(ORIEL_[A-Z0-9_]+)=", text))
    assert {"ORIEL_CORPUS", "ORIEL_CONFORMANCE"} <= names, names
    p = run("inspect", "/no/such.gguf", **{n: "1" for n in names if n != "ORIEL_CONFIG"}, check=False)
    assert b"environment variable" not in p.stderr, p.stderr


@test
def a_broken_default_file_stops_only_who_needs_it():
    with tempfile.TemporaryDirectory() as home:
        os.mkdir(f"{home}/oriel")
        path = f"{home}/oriel/config.json"
        with open(path, "w") as f:
            f.write('{"threads": 1,\n "ctx" 5}')
        e = {"XDG_CONFIG_HOME": home}
        for words in (["help"], ["--help"], ["version"], ["--version"], ["help", "chat"], ["serve", "--help"], ["bench", "speed", "-h"]):
            p = run(*words, **e)
            assert p.stdout and p.stderr == b"", (words, p.stderr)
        one_sentence(run("tokenize", stdin="a", **e, check=False), path, "line 2", "Mend that file", status=2)
        p = run("tokenize", "--config", "/dev/null", stdin="a", **e, check=False)
        one_sentence(p, "/dev/null", status=2)
        with open(f"{home}/good.json", "w") as f:
            f.write("{}")
        assert run("tokenize", "--config", f"{home}/good.json", stdin="a", **e).stdout


@test
def help_takes_a_command():
    for words in (["chat"], ["bench"], ["bench", "speed"]):
        assert run("help", *words).stdout == run(*words, "--help").stdout, words


@test
def a_context_beyond_the_trained_one_is_said():
    ask = ("generate", "--temperature", 0, "--max-kv-size", 4096, "Hi")
    p = run(*ask, "--ctx", 5000)
    assert p.stdout and b"5000 tokens" in p.stderr and b"trained for 4096" in p.stderr, p.stderr
    assert run(*ask, "--ctx", 4096).stderr == b""


@test
def an_answer_that_did_not_begin_is_explained():
    p = run("generate", "--temperature", 0, "--max-tokens", 4, "Hi")
    assert p.stdout == b"\n" and b"4 tokens" in p.stderr and b"--max-tokens" in p.stderr, (p.stdout, p.stderr)
    assert b"--max-tokens" in run("chat", "--temperature", 0, "--max-tokens", 4, stdin="Hi\n").stderr
    assert run("generate", "--temperature", 0, "--max-tokens", 4, "--quiet", "Hi").stderr == b""
    assert run("generate", "--temperature", 0, "Hi").stderr == b""


@test
def wrong_command_lines_are_sentences():
    one_sentence(run("fly", check=False), "no command 'fly'", status=2)
    one_sentence(run("caht", check=False), "Did you mean oriel chat?", status=2)
    one_sentence(run("generate", "--temprature", "0", "x", check=False), "Did you mean --temperature?", status=2)
    one_sentence(run("generate", "--fly", check=False), "--fly", status=2)
    one_sentence(run("generate", "--port", "1", "x", check=False), "--port", status=2)
    one_sentence(run("generate", "--temperature", "9", "x", check=False), "--temperature", "from 0 to 2", status=2)
    one_sentence(run("generate", "--temperature", "warm", "x", check=False), "--temperature", status=2)
    one_sentence(run("generate", "--max-tokens", check=False), "needs a value", status=2)
    one_sentence(run("generate", "--stop", "", "x", check=False), "--stop takes a text that is not empty", status=2)
    one_sentence(run("generate", "--model", "/no/such.gguf", "x", check=False), "/no/such.gguf", status=1)
    one_sentence(run("generate", "--model", "/tmp", "x", check=False))
    one_sentence(run("generate", "--kv-type", "q3", "x", check=False), "q3", status=2)
    one_sentence(run("serve", "--reasoning-effort", "huge", check=False, timeout=20), "huge", "low medium high", status=2)
    one_sentence(run("generate", "--reasoning-effort", "low medium", "x", check=False), status=2)
    one_sentence(run("generate", "--raw", "--prompt-ids", "1,x", check=False), "--prompt-ids", status=2)
    one_sentence(run("generate", "--raw", "--prompt-ids", "99999999", check=False), status=2)
    one_sentence(run("score", "--file", "/no/such.txt", check=False), "/no/such.txt", status=2)
    one_sentence(run("tokenize", "--decode", "x", check=False), "not a token id", status=2)
    one_sentence(run("bench", "sleep", check=False), "window", "bench speed", status=2)
    for origin in ("app.example", "https://app.example/", "://x", "https://"):
        one_sentence(run("serve", "--cors-origin", origin, check=False, timeout=20), "--cors-origin", "https://", status=2)
    one_sentence(run("--temperature", "0", check=False), "the command comes first", status=2)
    one_sentence(run("help", "fly", check=False), "no command 'fly'", status=2)
    one_sentence(run("generate", stdin=" \n", check=False), "The prompt is empty", status=2)
    one_sentence(run("generate", "--prompt", "", check=False), "The prompt is empty", status=2)
    one_sentence(run("chat", "--prompt", "a", "b", check=False), "once", status=2)
    assert run(check=False).returncode == 2


@test
def configuration_layers():
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "c.json")
        ids = lambda *a, **k: run_json("generate", "--raw", "Once upon", "--seed", 1, *a, **k)["token_ids"]
        open(path, "w").write('{"max_tokens": 3}')
        assert len(ids("--config", path)) == 3
        assert len(ids("--config", path, ORIEL_MAX_TOKENS=2)) == 2
        assert len(ids("--config", path, "--max-tokens", 1, ORIEL_MAX_TOKENS=2)) == 1
        for text, needle in (('{"max_tokenz": 3}', "Did you mean 'max_tokens'?"), ('{"colour": 3}', "'colour'"), ('{"max_tokens": "x"}', "max_tokens"), ("{", "JSON"), ("[]", "object")):
            open(path, "w").write(text)
            one_sentence(run("generate", "x", "--config", path, check=False), needle, status=2)
        one_sentence(run("generate", "x", ORIEL_TEMPERATURE="hot", check=False), "ORIEL_TEMPERATURE", status=2)


@test
def generate_answers():
    j = run_json("generate", "--prompt", "What is the capital of France?", "--temperature", 0)
    assert "Paris" in j["text"], j["text"]
    assert j["finish_reason"] == "stop" and j["usage"]["prompt_tokens"] == len(j["prompt_ids"])
    assert j["usage"]["completion_tokens"] == len(j["token_ids"])
    plain = run("generate", "--temperature", 0, "What is the capital of France?").stdout.decode()
    assert plain == j["text"] + "\n", (plain, j["text"])
    piped = run("generate", "--temperature", 0, stdin="What is the capital of France?").stdout.decode()
    assert piped == plain
    with tempfile.NamedTemporaryFile("w") as f:
        f.write("What is the capital of France?")
        f.flush()
        assert run("generate", "--temperature", 0, "--prompt-file", f.name).stdout.decode() == plain


@test
def generate_raw_ids_logprobs_stop():
    a = run_json("generate", "--raw", "Once upon a time", "--max-tokens", 12, "--temperature", 0, "--logprobs", 2)
    assert len(a["token_ids"]) == 12 and a["finish_reason"] == "length"
    assert len(a["logprobs"]) == 12 and all(len(r["top"]) == 2 and r["logprob"] <= 0 for r in a["logprobs"])
    assert all(r["id"] == r["top"][0]["id"] for r in a["logprobs"]), "greedy takes the likeliest"
    b = run_json("generate", "--prompt-ids", ",".join(map(str, a["prompt_ids"])), "--max-tokens", 12, "--temperature", 0)
    assert b["token_ids"] == a["token_ids"] and b["text"] == a["text"]
    stop = a["text"][4:7]
    c = run_json("generate", "--raw", "Once upon a time", "--max-tokens", 12, "--temperature", 0, "--stop", stop)
    assert c["text"] == a["text"][: a["text"].index(stop)] and c["finish_reason"] == "stop", (c["text"], a["text"], stop)
    s = [run_json("generate", "--raw", "Once", "--max-tokens", 20, "--seed", seed)["token_ids"] for seed in (1, 1, 2)]
    assert s[0] == s[1] != s[2]


@test
def threads_do_not_change_a_byte():
    one, two = (run_json("generate", "--raw", "Once upon a time", "--max-tokens", 40, "--temperature", 1, "--seed", 5, "--logprobs", 3, "--threads", t)
                for t in (1, 2))
    assert one["token_ids"] == two["token_ids"] and one["logprobs"] == two["logprobs"]


@test
def score_and_tokenize():
    text = "Once upon a time there was a little girl. — “Ünïcödé” 🦜 日本\n"
    j = run_json("tokenize", text)
    back = run("tokenize", "--decode", *map(str, j["ids"])).stdout.decode()
    assert back == text + "\n", (back, text)
    assert run("tokenize", text).stdout.decode().split() == [str(i) for i in j["ids"]]
    s = run_json("score", stdin=text)
    assert s["n_tokens"] >= len(j["ids"]) and len(s["nll"]) == s["n_tokens"] - 1 and s["perplexity"] > 1
    long = run_json("score", stdin="Once upon a time there was a little dog. " * 700)
    assert long["n_tokens"] > 4096 and long["perplexity"] > 1
    one_sentence(run("score", stdin="", check=False), status=2)


@test
def inspect_names_everything():
    j = run_json("inspect")
    assert j["supported"] and j["architecture"] == "gpt-oss" and j["metadata"]["general.architecture"] == "gpt-oss"
    assert len(j["tensors"]) > 20 and all(t["type"] and t["bytes"] > 0 for t in j["tensors"])
    text = run("inspect").stdout.decode()
    assert "token_embd.weight" in text and "gpt-oss" in text


@test
def chat_works_in_a_pipe():
    out = run("chat", "--temperature", "0", stdin="What is the capital of France?\nHello\nq\nnever\n").stdout.decode()
    assert "Paris" in out and "never" not in out and len(out.splitlines()) >= 2, out
    block = run("chat", "--temperature", "0", stdin="\\\\\nWhat is the capital\nof France?\n\\\\\n").stdout.decode()
    assert block.strip(), "a block is one message"
    assert run("chat", stdin="").returncode == 0
    first = run("chat", "--temperature", 0, "What is the capital", "of France?", stdin="").stdout.decode()
    assert "Paris" in first, "words are the first message"
    p = run("chat", "--temperature", 0, stdin="\\fly\n\\clear\nHello\n")
    assert b"no command" in p.stderr


@test
def chat_at_a_terminal_takes_slashes():
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(ORIEL, [ORIEL, "chat", "--temperature", "0"], env(TERM="dumb"))
    os.write(fd, b"/help\n/bye\n")
    out = b""
    try:
        while piece := os.read(fd, 4096):
            out += piece
    except OSError:  # the terminal's other end is gone
        pass
    assert os.waitpid(pid, 0)[1] == 0 and b"forget the conversation" in out and b"tokens so far" not in out, out
    os.close(fd)
    assert b"forget" not in run("chat", "--temperature", 0, stdin="/help\n").stdout, "in a pipe it is a message"


@test
def interrupt_stops_generate():
    p = subprocess.Popen([ORIEL, "generate", "--raw", "Once", "--ignore-eos"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env())
    p.stdout.read(20)
    p.send_signal(signal.SIGINT)
    start = time.monotonic()
    out, err = p.communicate(timeout=30)
    assert p.returncode == 130 and time.monotonic() - start < 10, (p.returncode, err)


@test
def closed_output_is_not_a_hang():
    p = subprocess.run(f"{ORIEL} generate --raw Once --ignore-eos | head -c 20", shell=True, stdout=subprocess.PIPE, timeout=60, env=env())
    assert len(p.stdout) == 20


@test
def a_full_disk_is_a_sentence():
    for args in (["generate", "--temperature", 0, "Hello"], ["generate", "--temperature", 0, "--json", "Hello"], ["inspect"], ["inspect", "--json"],
                 ["tokenize", "Hello"], ["score", "--file", "README.md"], ["score", "--file", "README.md", "--json"]):
        with open("/dev/full", "wb") as full:
            p = subprocess.run([ORIEL, *map(str, args)], stdout=full, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, timeout=60, env=env(), cwd=ROOT)
        one_sentence(p, "could not be written", status=1)


@test
def damaged_files_are_sentences():
    """300 seeded damages of the built-in model: an answer or one sentence, never a crash."""
    source = open(os.path.join(ROOT, "models/oriel-house.gguf"), "rb").read()
    rnd = random.Random(7)
    sentences = answers = 0
    with tempfile.TemporaryDirectory() as d:
        path = os.path.join(d, "m.gguf")
        n = 300 if "asan" not in ORIEL else 60
        for i in range(n):
            data = bytearray(source)
            kind = i % 3
            if kind == 0:  # the head: counts, keys, types, offsets
                for _ in range(rnd.randint(1, 4)):
                    data[rnd.randrange(0, 60000)] = rnd.randrange(256)
            elif kind == 1:
                del data[rnd.randrange(len(data)):]
            else:
                at = rnd.randrange(0, 4096)
                data[at:at + 8] = rnd.choice([b"\xff" * 8, b"\0" * 8, (1 << 40).to_bytes(8, "little"), b"\x7f" * 8])
            open(path, "wb").write(data)
            p = run("generate", "--model", path, "--raw", "Once", "--max-tokens", 2, "--temperature", 0, "--threads", 1, check=False)
            if p.returncode == 0:
                answers += 1
            else:
                one_sentence(p)
                sentences += 1
    assert sentences + answers == n and sentences > n // 3, (sentences, answers)


@test
def other_peoples_models():
    path = need_corpus("models", "derived", "stories260K", "stories260K-f32.gguf")
    j = run_json("generate", "--model", path, "--raw", "Once upon a time", "--max-tokens", 20, "--temperature", 0)
    assert len(j["token_ids"]) == 20 and " " in j["text"]
    p = run("generate", "--model", path, "Hi", check=False)
    one_sentence(p, "--raw", status=2)


@test
def debug_files_are_written():
    with tempfile.TemporaryDirectory() as d:
        j = run_json("generate", "Hello", "--temperature", 0, "--debug", d)
        names = sorted(os.listdir(d))
        assert len(names) >= 4, names
        ids = json.load(open(os.path.join(d, next(n for n in names if n.endswith("ids.json")))))
        assert json.dumps(j["prompt_ids"])[1:-1] in json.dumps(ids), names


run_all()
