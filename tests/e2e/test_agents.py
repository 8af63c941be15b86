#!/usr/bin/env python3
"""Vercel's AI SDK and OpenAI's Agents SDK, as npm has them, against /v1/responses."""
import os, shutil, subprocess

from oriel import BUILD, ROOT, SANITIZED, Server, Skip, run_all, test


@test
def agents_libraries():
    if SANITIZED:
        raise Skip("its time limits are for the ordinary build")
    if not shutil.which("npm") or not shutil.which("node"):
        raise Skip("node and npm are not installed")
    place = os.path.join(BUILD, "clients-agents")
    shutil.copytree(os.path.join(ROOT, "tests/clients"), place, dirs_exist_ok=True)
    if not os.path.isdir(os.path.join(place, "node_modules/ai")):
        p = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           timeout=300)
        if p.returncode:
            raise Skip("npm could not install the clients")
    with Server("--ctx", 4096) as s:
        p = subprocess.run(["node", "agents.mjs", f"http://127.0.0.1:{s.port}/v1"], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=240)
        assert p.returncode == 0 and p.stdout.count(b"\nok") + p.stdout.startswith(b"ok") == 6, p.stdout.decode()[-3000:]


run_all()
