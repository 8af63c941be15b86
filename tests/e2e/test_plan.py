#!/usr/bin/env python3
"""`oriel plan` against what a run takes: never under, over by at most max(2 %, 4 MiB); and the ways to load.

A few combinations of shape, key/value type, window, sequences and load mode in the ordinary run; with
ORIEL_PLAN_ALL=1 (make soak) all of them, and a table."""
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

from oriel import ORIEL, ROOT, SANITIZED, Server, Skip, debian_modules, env, run, run_all, run_json, test, wait_for

debian_modules("numpy")
sys.path.insert(0, os.path.join(ROOT, "tools", "ref"))
import gguf
import random_model

ALL = bool(os.environ.get("ORIEL_PLAN_ALL"))
TEMP = tempfile.TemporaryDirectory(prefix="oriel-plan-", dir=os.path.join(ROOT, "build"))
BIGGER = dict(d=512, layers=6, vocab=32000, ff=1536)
SHAPES = {
    "llama-f32": ("llama", "F32", {}),
    "llama-q8": ("llama", "Q8_0", BIGGER),
    "llama3-q4k": ("llama3", "Q4_K_M", {}),
    "qwen2-q4": ("qwen2", "Q4_0", dict(vocab=100000)),
    "qwen3-f16": ("qwen3", "F16", dict(layers=8)),
    "qwen3moe-q6k": ("qwen3moe", "Q6_K", {}),
    "gpt-oss-mxfp4": ("gpt-oss", "MXFP4", {}),
    "gpt-oss-bf16": ("gpt-oss", "BF16", dict(layers=6, vocab=20000)),
}
MODES, KV_TYPES, WINDOWS, PARALLEL = ("read", "direct", "mmap"), ("f16", "bf16", "q8_0", "f32"), (64, 256, 1000), (1, 2, 4)


def model(name):
    path = os.path.join(TEMP.name, name + ".gguf")
    if not os.path.exists(path):
        arch, kind, change = SHAPES[name]
        random_model.make(path, arch, "tiny", kind, **change)
        fd = os.open(path, os.O_RDONLY)
        os.fsync(fd)  # what is not written yet cannot leave the page cache
        os.close(fd)
    return path


def combinations():
    """Eight a shape: every value of every axis meets every shape."""
    for s, name in enumerate(SHAPES):
        for i in range(8):
            yield name, KV_TYPES[(i + s) % 4], WINDOWS[(i + s // 2) % 3], PARALLEL[(i // 2 + s) % 3], MODES[(i + i // 3 + s) % 3]


def memory(pid):
    """Bytes of VmHWM and RssAnon; zeros when it is gone."""
    got = {}
    try:
        with open(f"/proc/{pid}/status") as f:
            got = {k: int(v.split()[0]) * 1024 for k, _, v in (l.partition(":") for l in f) if k in ("VmHWM", "RssAnon")}
    except OSError:
        pass
    return got.get("VmHWM", 0), got.get("RssAnon", 0)


def watched(pid, alive):
    """Highest VmHWM and RssAnon seen while alive()."""
    top = [0, 0]
    while alive():
        top = [max(a, b) for a, b in zip(top, memory(pid))]
        time.sleep(0.003)
    return [max(a, b) for a, b in zip(top, memory(pid))]


def fill_alone(path, flags, n):
    p = subprocess.Popen([ORIEL, "generate", "-m", path, *flags, "--raw", "--ignore-eos", "-n", str(n), "-q", "--json", "-s", "1",
                          "--prompt", "a cat"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env())
    top = watched(p.pid, lambda: p.poll() is None)
    assert p.returncode == 0, p.stderr.read().decode()
    return top


def fill_together(path, flags, parallel, n):
    with Server("-m", path, "--parallel", parallel, *flags) as s:
        def one(i):
            s.post("/v1/completions", {"model": "default", "prompt": f"{i} cats", "max_tokens": n, "ignore_eos": True, "seed": i}, timeout=600)
        threads = [threading.Thread(target=one, args=(i,)) for i in range(parallel)]
        for t in threads:
            t.start()
        top = watched(s.p.pid, lambda: any(t.is_alive() for t in threads))
        usage = s.get("/metrics")
        assert "oriel" in usage
    return top


def check(name, kv, window, parallel, mode):
    path, flags = model(name), ["--max-kv-size", str(window), "--kv-type", kv, "--load", mode]
    plan = run_json("plan", path, *(["--parallel", parallel] if parallel > 1 else []), *flags)
    assert plan["for"] == ("serve" if parallel > 1 else "generate") and plan["parallel"] == parallel, plan
    parts = sum(plan[k + "_bytes"] for k in ("weight", "kv", "scratch", "sampling", "fixed"))
    assert plan["total_bytes"] == max(parts, plan["loading_bytes"]), plan
    assert plan["fits"] and plan["shortfall_bytes"] == 0 and plan["load"] == mode, plan
    top = fill_alone(path, flags, window + 96) if parallel == 1 else fill_together(path, flags, parallel, window + 96)
    got = top[mode == "mmap"]
    over = plan["total_bytes"] - got
    line = f"{name:14} {kv:5} W {window:5} x {parallel} {mode:6} planned {plan['total_bytes'] / 1e6:8.2f} MB, taken {got / 1e6:8.2f}, over {over / 1e6:5.2f} MB = {100 * over / got:5.2f} %"
    print("# " + line, flush=True)
    return line if not 0 <= over <= max(0.02 * got, 4 << 20) else None


@test
def a_plan_is_what_a_run_takes():
    if SANITIZED:
        raise Skip("a sanitizer's own memory is not planned")
    every = list(combinations())
    assert len(every) >= 60 and len(set(every)) == len(every)
    bad = [b for b in (check(*c) for c in (every if ALL else every[::11])) if b]
    assert not bad, "\n".join(bad)


@test
def what_does_not_fit_is_said_with_numbers():
    path = model("llama-f32")
    small = run_json("plan", path, "--max-kv-size", 256, "--load", "read")
    largest = small["largest_max_kv_size"]
    assert largest % 32 == 0 and largest > 1 << 16, small
    # (Free memory moves between the calls; a tenth is more than it does.)
    assert run_json("plan", path, "--max-kv-size", largest * 9 // 10, "--load", "read")["fits"]
    p = run("plan", path, "--max-kv-size", largest * 11 // 10, "--load", "read", "--json", check=False)
    big = json.loads(p.stdout)
    assert p.returncode == 1 and not big["fits"] and big["shortfall_bytes"] == big["total_bytes"] - big["free_bytes"] > 0, big
    assert abs(big["largest_max_kv_size"] - largest) < largest / 10
    text = run("plan", path, "--max-kv-size", largest * 11 // 10, check=False).stdout.decode()
    assert "does not fit" in text and "bytes) are missing" in text and "largest window" in text, text
    p = run("generate", "-m", path, "--max-kv-size", largest * 11 // 10, "--prompt", "x", "--raw", check=False)
    said = p.stderr.decode()
    assert p.returncode == 1 and "bytes are missing" in said and "--max-kv-size" in said and said.count("\n") == 1, said
    per = small["per_sequence"]
    small, two = (run_json("plan", path, "--max-kv-size", 256, "--load", "read", "--parallel", p) for p in (1, 2))
    assert two["kv_bytes"] - small["kv_bytes"] == per["kv_bytes"] and two["sampling_bytes"] - small["sampling_bytes"] == per["sampling_bytes"]


def resident_bytes(path):
    """Of the file in the page cache."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mincore.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p]
    libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    size, fd = os.path.getsize(path), os.open(path, os.O_RDONLY)
    at = libc.mmap(None, size, 1, 1, fd, 0)
    pages = ctypes.create_string_buffer((size + 4095) // 4096)
    assert libc.mincore(at, size, pages) == 0
    libc.munmap(at, size)
    os.close(fd)
    return sum(b & 1 for b in pages.raw) * 4096


def drop_cache(path):
    fd = os.open(path, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


@test
def every_mode_loads_the_same_model():
    path = model("llama-q8")
    size = os.path.getsize(path)
    said, plans = {}, {}
    for mode in ("read", "direct", "mmap", "auto"):
        drop_cache(path)
        if resident_bytes(path) > size // 100:
            raise Skip("this file system keeps the file in the page cache")
        said[mode] = run_json("generate", "-m", path, "--load", mode, "--raw", "--prompt", "a cat", "-n", 8, "--temperature", 0, "--ctx", 256)["token_ids"]
        cached = resident_bytes(path)
        print(f"# {mode}: {cached} of {size} bytes in the page cache afterwards")
        if mode in ("direct", "auto"):  # auto finds nothing of the file there
            assert cached < size / 100, (mode, cached, size)
        elif mode == "read":
            assert cached > size * 0.9, (mode, cached, size)
        plans[mode] = run_json("plan", path, "--load", mode, "--ctx", 256)
    assert said["read"] == said["direct"] == said["auto"], said
    assert plans["read"]["weight_bytes"] == plans["direct"]["weight_bytes"] and plans["read"]["mapped_bytes"] == 0
    assert plans["mmap"]["weight_bytes"] + plans["mmap"]["mapped_bytes"] > size * 0.9
    with open(path, "rb") as f:  # warm
        while f.read(1 << 20):
            pass
    assert run_json("plan", path)["load"] == "read"
    drop_cache(path)
    assert run_json("plan", path)["load"] == "direct"
    assert run_json("plan", path, "--no-repack")["load"] == "mmap"
    p = run("plan", path, "--load", "fast", check=False)
    assert p.returncode == 2 and b"mmap" in p.stderr, p.stderr


REFUSING = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>
/* A file system without direct reading: it says so at the door ("open") or only when asked to read ("read"). */
static int fds[1024];
int open(const char *path, int flags, ...) {
    int (*next)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    if ((flags & O_DIRECT) && getenv("REFUSE")[0] == 'o') { errno = EINVAL; return -1; }
    int fd = next(path, flags, 0600);
    if (fd >= 0 && fd < 1024) fds[fd] = !!(flags & O_DIRECT);
    return fd;
}
ssize_t pread(int fd, void *to, size_t n, off_t at) {
    ssize_t (*next)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread");
    if (fd < 1024 && fds[fd]) { errno = EINVAL; return -1; }
    return next(fd, to, n, at);
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));
ssize_t pread64(int fd, void *to, size_t n, off_t at) __attribute__((alias("pread")));
"""


@test
def direct_falls_back_aloud():
    if SANITIZED:
        raise Skip("a sanitizer wants to be the first library")
    path, lib = model("llama-q8"), os.path.join(TEMP.name, "refusing.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-o", lib, "-", "-ldl"], input=REFUSING.encode(), check=True)
    ask = ("generate", "-m", path, "--raw", "--prompt", "a cat", "-n", 8, "--temperature", 0, "--ctx", 256, "--json", "--log-level", 1)
    plain = run(*ask, "--load", "direct")
    assert b"O_DIRECT" not in plain.stderr, plain.stderr
    for where in ("open", "read"):
        p = run(*ask, "--load", "direct", LD_PRELOAD=lib, REFUSE=where)
        assert p.stderr.count(b"O_DIRECT") == 1, (where, p.stderr)
        assert json.loads(p.stdout)["token_ids"] == json.loads(plain.stdout)["token_ids"], where


def split_model(parts):
    """The same model in one file and in several."""
    arch, kind, change = SHAPES["llama-q8"]
    shape = dict(random_model.TINY, arch=arch, name="split", **random_model.TINY_OF[arch])
    whole = random_model.Builder(dict(shape, vocab=20000), kind, 1, fast=False).build()
    one, n = os.path.join(TEMP.name, "whole.gguf"), len(whole.tensors)
    whole.write(one)
    paths = []
    for i in range(parts):
        w = gguf.Writer()
        w.meta = list(whole.meta) if i == 0 else []
        w.set("split.no", i, 2)
        w.set("split.count", parts, 2)
        w.set("split.tensors.count", n, 5)
        w.tensors = whole.tensors[n * i // parts:n * (i + 1) // parts]
        paths.append(os.path.join(TEMP.name, f"split-{i + 1:05}-of-{parts:05}.gguf"))
        w.write(paths[-1])
    return one, paths


@test
def a_split_model_loads_every_way():
    one, paths = split_model(3)
    args = ["--raw", "--prompt", "a cat", "-n", 8, "--temperature", 0, "--ctx", 256]
    for mode in ("read", "direct", "mmap"):
        want = run_json("generate", "-m", one, "--load", mode, *args)["token_ids"]
        assert len(want) == 8
        for p in (paths[0], paths[2]):
            assert run_json("generate", "-m", p, "--load", mode, *args)["token_ids"] == want, (mode, p)


@test
def the_modes_are_compared():
    path = model("llama-q8")
    size = os.path.getsize(path)
    got = run_json("bench", "load", "-m", path, "--repeat", 1)
    runs = {(r["mode"], r["cache"]): r for r in got["runs"]}
    assert got["file_bytes"] == size and len(runs) == len(got["runs"]) == 8, got
    for (mode, cache), r in runs.items():
        assert 0 < r["load_seconds"] < r["first_token_seconds"] < 60 and r["cpu_seconds"] > 0 and r["gb_per_second"] > 0, r
        assert r["used"] == mode or mode == "auto", r
        if not SANITIZED:
            assert size < r["peak_rss_bytes"] < 3 * size, r
        if cache == "cold" and r["page_cache_before_bytes"] < size / 100:
            if r["used"] == "direct":
                assert r["page_cache_growth_bytes"] < size / 100, r
            else:
                assert r["page_cache_growth_bytes"] > size / 2, r
    assert runs["auto", "warm"]["used"] == "read"
    one = run_json("bench", "load", "-m", path, "--repeat", 1, "--load", "read")["runs"]
    assert [r["mode"] for r in one] == ["read", "read"], one
    p = run("bench", "load", check=False)
    assert p.returncode == 2 and b"--model" in p.stderr, p.stderr


@test
def locking_says_what_to_do():
    path = model("llama-q8")
    p = subprocess.run(["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", "prlimit", "--memlock=1048576:1048576", ORIEL,
                        "generate", "-m", path, "--mlock", "--raw", "--prompt", "x", "-n", "1", "--ctx", "256"], capture_output=True, env=env())
    said = p.stderr.decode()
    if p.returncode == 127 or "setpriv:" in said:
        raise Skip("setpriv cannot take the right to lock away here")
    assert p.returncode == 1 and "ulimit -l" in said and "LimitMEMLOCK" in said and "1.0 MiB" in said, said
    p = subprocess.run(p.args[:5] + [ORIEL, "plan", path, "--mlock", "--ctx", "256"], capture_output=True, env=env())
    assert p.returncode == 1 and not p.stdout and "ulimit -l" in p.stderr.decode() and "1.0 MiB" in p.stderr.decode(), p
    soft = subprocess.run(["prlimit", "--memlock", "--output=SOFT", "--noheadings"], capture_output=True).stdout.decode().strip()
    plan = run_json("plan", path, "--ctx", 256, "--load", "read")
    want = plan["weight_bytes"] + plan["kv_bytes"] + plan["scratch_bytes"]
    if os.geteuid() != 0 and soft != "unlimited" and int(soft or 0) < want:
        raise Skip("the limit forbids locking here")
    if SANITIZED:
        return  # its runtime makes mlock do nothing
    for mode in ("read", "mmap"):
        plan = run_json("plan", path, "--ctx", 256, "--load", mode)
        want = plan["weight_bytes"] + plan["kv_bytes"] + plan["scratch_bytes"] + plan["mapped_bytes"]
        with Server("-m", path, "--mlock", "--ctx", 256, "--parallel", 1, "--load", mode) as s:
            locked = [int(l.split()[1]) * 1024 for l in open(f"/proc/{s.p.pid}/status") if l.startswith("VmLck")][0]
        assert want * 0.95 <= locked <= want * 1.05 + (1 << 20), (mode, want, locked)


@test
def a_model_that_is_cut_short():
    """In mmap mode one sentence; loaded by reading it does not matter."""
    name = model("llama-f32")
    for mode in ("mmap", "read"):
        path = os.path.join(TEMP.name, "cut.gguf")
        with open(name, "rb") as f, open(path, "wb") as g:
            g.write(f.read())
        ask = {"model": "default", "prompt": "cats", "max_tokens": 4, "seed": 1}
        s = Server("-m", path, "--load", mode, "--ctx", 256)
        s.__enter__()
        before = s.post("/v1/completions", ask)["choices"][0]["text"]
        os.truncate(path, 4096)
        if mode == "read":
            assert s.post("/v1/completions", ask)["choices"][0]["text"] == before
            s.__exit__(None, None, None)
            continue
        try:
            s.post("/v1/completions", ask)
            raise AssertionError("an answer from a file that is gone")
        except (ConnectionError, OSError) as e:
            print("# " + repr(e))
        said = s.p.communicate(timeout=30)[1].decode()
        assert s.p.returncode == 1 and "cut short" in said and said.count("\n") == 1, (s.p.returncode, said)


@test
def loading_stops_when_it_is_told_to():
    """Ctrl-C while the weights are read: how long until the program is gone."""
    path = os.path.join(TEMP.name, "large.gguf")
    random_model.make(path, shape="qwen2.5-0.5b", wanted="Q4_0", layers=2 if not ALL else 8, vocab=20000)
    drop_cache(path)
    took = []
    for delay in (0.02, 0.04, 0.08, 0.12):
        p = subprocess.Popen([ORIEL, "generate", "-m", path, "--load", "read", "--raw", "--prompt", "x", "-n", "100000", "--ignore-eos"],
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env(),
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # a shell's background job ignores it
        time.sleep(delay)
        if p.poll() is None:
            start = time.monotonic()
            p.send_signal(signal.SIGINT)
            p.wait(60)
            took.append(time.monotonic() - start)
            said = p.stderr.read().decode()
            assert p.returncode in (130, -signal.SIGINT), (p.returncode, said)
        else:
            p.stderr.read()
    print("# seconds from the signal to the end: " + ", ".join(f"{t:.3f}" for t in took))
    assert took and max(took) < (0.1 if not SANITIZED else 5), took


run_all()
