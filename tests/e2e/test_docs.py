#!/usr/bin/env python3
"""The command blocks of the README and the guides do what they say, and what the
documents point at is there."""
import glob, json, os, re, shlex, subprocess, tempfile

from oriel import ORIEL, ROOT, Server, env, run, run_all, test

DOCS = ["README.md", "CONTRIBUTING.md", "models/README.md", *(os.path.relpath(p, ROOT) for p in sorted(glob.glob(os.path.join(ROOT, "docs/*.md"))))]
GUIDES = ["README.md", "docs/USER_GUIDE.md", "docs/DEVELOPER_GUIDE.md", "CONTRIBUTING.md"]
HOUSE = os.path.join(ROOT, "models/oriel-house.gguf")


def read(name):
    return open(os.path.join(ROOT, name), encoding="utf-8").read()


def commands(*names):
    """(document, command) of every indented line that is a command, continuation lines joined, comments off."""
    for name in names:
        text = read(name).replace("\\\n", " ")
        for line in text.splitlines():
            m = re.match(r"    (?:\$ )?((?:build/release/oriel|oriel|curl|make|script/|bench/)\S*.*)$", line)
            if m:
                yield name, re.sub(r"\s+#.*$", "", m[1])


@test
def oriel_commands_run():
    ran = 0
    with tempfile.TemporaryDirectory() as d:
        files = {"text.txt": "Once upon a time there was a little dog.",
                 "town.json": '{"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}}, "required": ["name"]}',
                 "sums.lark": 'start: SUM\nSUM: /[0-9]{1,2}/ "+" /[0-9]{1,2}/'}
        for file, text in files.items():
            open(os.path.join(d, file), "w").write(text)
        for name, line in commands(*GUIDES):
            words = shlex.split(line)
            if os.path.basename(words[0]) != "oriel":
                continue
            words = [HOUSE if w.endswith(".gguf") else w for w in words[1:]]
            words = [os.path.join(d, w) if w in files else w for w in words]
            # The built-in model has 4,096 tokens: a larger window is another model's.
            words = ["2048" if w == "8192" else w for w in words]
            if words[0] == "serve":
                with Server(*words[1:]) as s:
                    assert s.get("/health") == {"status": "ok"}, line
            else:
                short = {"speed": ["--repeat", "1"], "load": ["--repeat", "1"],
                         "window": ["--max-kv-size", "64", "--tokens", "2000", "--pairs", "2", "--threads", "1"],
                         "notes": ["--max-kv-size", "64", "--tokens", "2000", "--counters", "--notes", os.path.join(d, "n.md")]}
                words = [os.path.join(d, w) if w.endswith(".svg") else w for w in words]
                too_short = words[0] == "bench" and words[1] != "speed"  # to be conclusive
                if words[0] == "bench":
                    words += short[words[1]]
                p = run(*words, stdin="Hello\n", check=not too_short)
                assert p.stdout.strip(), f"{name}: {line} printed nothing"
            ran += 1
    assert ran >= 10, ran


@test
def the_readme_shows_a_real_run():
    readme = read("README.md")
    m = re.search(r"\$ build/release/oriel (generate .+)\n    (.+)\n", readme)
    assert run(*shlex.split(m[1])).stdout.decode() == m[2] + "\n"
    chat = shlex.split(re.search(r"\$ build/release/oriel (chat.*)\n", readme)[1])
    m = re.search(r"    > (.+)\n    (.+)\n", readme)
    assert run(*chat, stdin=m[1] + "\n").stdout.decode().strip() == m[2]
    greeting = re.search(r"    (oriel-house, .*leave\.)\n", readme)[1]
    p = subprocess.run(["script", "-qec", f"{ORIEL} {shlex.join(chat)} --threads 2", "/dev/null"], input=b"q\n", stdout=subprocess.PIPE, env=env(TERM="dumb"))
    same = lambda text: re.sub(r"[\d.]+ MB", "N MB", text)  # the program's own pages differ from machine to machine
    assert same(greeting) in same(p.stdout.decode()), (greeting, p.stdout)


@test
def curl_lines_work_as_they_stand():
    n = 0
    with Server() as s:
        for name, line in commands(*GUIDES):
            if not line.startswith("curl "):
                continue
            p = subprocess.run(line.replace("127.0.0.1:8080", f"127.0.0.1:{s.port}"), shell=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            assert "Paris" in json.loads(p.stdout)["choices"][0]["message"]["content"], (line, p.stdout)
            n += 1
        # So does the line that the server prints.
        line = re.search(r"(curl [^\n]*)\\\n([^\n]*)", s.banner)
        p = subprocess.run(line[1] + line[2], shell=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        assert "Paris" in json.loads(p.stdout)["choices"][0]["message"]["content"], p.stdout
    assert n >= 1


@test
def code_blocks_are_valid():
    kinds = set()
    with tempfile.TemporaryDirectory() as d:
        for name in DOCS:
            for kind, block in re.findall(r"```(\w+)\n(.*?)```", read(name), re.S):
                kinds.add(kind)
                if kind == "python":
                    compile(block, name, "exec")
                elif kind == "json":
                    values = dict(json.loads(block), model=HOUSE)
                    if values.get("max_kv_size", 0) > 4096:
                        values["max_kv_size"] = 2048
                    path = os.path.join(d, "config.json")
                    json.dump(values, open(path, "w"))
                    assert run("generate", "--config", path, "--max-tokens", 3, "Hello").returncode == 0
    assert kinds == {"python", "json"}, kinds


@test
def make_targets_and_options_exist():
    help_text = "".join(run(c, "--help").stdout.decode() for c in ("generate", "chat", "serve", "score", "tokenize", "inspect", "bench"))
    rows = set(re.findall(r'^    \{"([a-z0-9-]+)"', read("src/config/config.c"), re.M)) | {"config", "help"}
    for name in ("README.md", "docs/USER_GUIDE.md"):
        for flag in re.findall(r"--([a-z][a-z0-9-]+)", read(name)):
            assert flag in rows, f"{name}: --{flag} is not an option"
    assert all(f in rows for f in re.findall(r"--([a-z][a-z0-9-]+)", help_text))
    for name, line in commands(*GUIDES):
        if line.startswith("make"):
            p = subprocess.run(["make", "-n", *[w for w in shlex.split(line)[1:]]], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            assert p.returncode == 0, f"{name}: {line}: {p.stderr.decode()[-200:]}"
        elif line.startswith(("script/", "bench/")):
            assert os.access(os.path.join(ROOT, shlex.split(line)[0]), os.X_OK), f"{name}: {line}"


@test
def what_is_pointed_at_is_there():
    for name in DOCS:
        for path in re.findall(r"`((?:src|tests|tools|docs|bench|script|models|man)/[\w./-]+)`", read(name)):
            there = os.path.join(ROOT, path)
            assert os.path.exists(there) or glob.glob(there + "*"), f"{name} points at {path}, which is not there"


run_all()
