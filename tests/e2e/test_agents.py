#!/usr/bin/env python3
"""OpenAI's SDK and its helpers, OpenAI's Agents SDK and Vercel's AI SDK, as npm has them, against a running server."""
import os, shutil, subprocess

from oriel import BUILD, ROOT, SANITIZED, Server, Skip, run_all, test


def place():
    if SANITIZED:
        raise Skip("its time limits are for the ordinary build")
    if not shutil.which("npm") or not shutil.which("node"):
        raise Skip("node and npm are not installed")
    at = os.path.join(BUILD, "clients-agents")
    shutil.copytree(os.path.join(ROOT, "tests/clients"), at, dirs_exist_ok=True)
    if not os.path.isdir(os.path.join(at, "node_modules/ai")):
        p = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=at, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=300)
        if p.returncode:
            raise Skip("npm could not install the clients")
    return at


def passes(script, n):
    at = place()
    with Server("--ctx", 4096) as s:
        p = subprocess.run(["node", script, f"http://127.0.0.1:{s.port}/v1"], cwd=at, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)
        assert p.returncode == 0 and p.stdout.count(b"\nok") + p.stdout.startswith(b"ok") == n, p.stdout.decode()[-3000:]


@test
def agents_libraries():
    passes("agents.mjs", 8)


@test
def openai_and_its_helpers():
    passes("openai.mjs", 13)


run_all()
