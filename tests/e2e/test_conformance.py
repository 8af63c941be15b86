#!/usr/bin/env python3
"""An external conformance kit against the running server, with and without a
key. The kit is not part of this repository: ORIEL_CONFORMANCE names its folder;
without it (or without node and npm) the test says skipped."""
import os, re, shutil, subprocess

from oriel import BUILD, SANITIZED, Server, Skip, run_all, test

# Said to be missing by a typed 501 while no program that hears or draws is configured, and nothing else may be.
MISSING = re.compile(r"^media/(transcriptions|translations|images)-.*$")


def kit():
    source = os.environ.get("ORIEL_CONFORMANCE")
    if not source:
        raise Skip("ORIEL_CONFORMANCE is not set")
    if SANITIZED:
        raise Skip("its time limits are for the ordinary build")
    if not shutil.which("npm") or not shutil.which("node"):
        raise Skip("node and npm are not installed")
    place = os.path.join(BUILD, "conformance")
    if not os.path.isdir(os.path.join(place, "node_modules")):
        shutil.copytree(source, place, dirs_exist_ok=True)
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=place, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=300)
    return place


def conform(place, server, *more):
    p = subprocess.run(["node", "run.mjs", "--base-url", f"http://127.0.0.1:{server.port}/v1", "--model", "default", "--context", "4096",
                        "--slow", "3", *more], cwd=place, stdout=subprocess.PIPE,
                       timeout=540)
    lines = p.stdout.decode().splitlines()
    failed = [l for l in lines if l.startswith("FAIL")]
    assert not failed, "\n".join(failed)
    missing = [l.split()[1] for l in lines if l.startswith("UNSUPPORTED")]
    assert all(MISSING.match(m) for m in missing), missing
    assert sum(l.startswith("PASS") for l in lines) >= 260, lines[-1]
    return missing


@test
def without_a_key():
    place = kit()
    with Server() as s:
        conform(place, s)


@test
def with_programs_that_hear_and_draw():
    place = kit()
    png = r"printf '\211PNG\r\n\032\n'"
    with Server("--transcribe-command", "cat > /dev/null; echo hello", "--image-command", png) as s:
        if s.request("POST", "/v1/images/generations", {"prompt": "a"})[0] == 501:
            raise Skip("the sandbox is not possible here")
        assert conform(place, s) == []


@test
def with_a_key():
    place = kit()
    with Server("--api-key", "sk-test") as s:
        conform(place, s, "--api-key", "sk-test")


run_all()
