#!/usr/bin/env python3
"""Runs every test program and closes with `N passed, N failed, N skipped`.

A test is an executable below build/<preset>/tests (C, cmocka or the fuzz
replay) or a script tests/e2e/test_*.{py,sh,mjs}. Each speaks TAP on stdout:
`ok 1 - name`, `not ok 2 - name`, `ok 3 - name # SKIP reason`. A program that
dies, hangs or says nothing counts as one failure: a run that ran nothing fails.
"""
import argparse, concurrent.futures, os, re, signal, subprocess, sys, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LINE = re.compile(r"^(not )?ok\b\s*\d*\s*-?\s*(.*)$")


def find_tests(build, want):
    found = []
    for top, _, names in os.walk(os.path.join(build, "tests")):
        for name in sorted(names):
            path = os.path.join(top, name)
            source = os.path.join(ROOT, os.path.relpath(path, build) + ".c")
            if "." not in name and os.access(path, os.X_OK) and os.path.exists(source):
                found.append([path])
    e2e = os.path.join(ROOT, "tests", "e2e")
    how = {".py": ["python3"], ".sh": ["bash"], ".mjs": ["node"]}
    for name in sorted(os.listdir(e2e)) if os.path.isdir(e2e) else []:
        ext = os.path.splitext(name)[1]
        if name.startswith("test_") and ext in how:
            found.append(how[ext] + [os.path.join(e2e, name)])
    words = want.split() or [""]
    return sorted((t for t in found if any(w in os.path.relpath(t[-1], ROOT) for w in words)), key=lambda t: t[-1])


def run_one(cmd, env, timeout):
    start = time.monotonic()
    proc = subprocess.Popen(cmd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                            env=env, cwd=ROOT, start_new_session=True)
    try:
        out, _ = proc.communicate(timeout=timeout)
        died = None if proc.returncode >= 0 else f"killed by {signal.Signals(-proc.returncode).name}"
    except subprocess.TimeoutExpired:
        died = f"took longer than {timeout} s"
        os.killpg(proc.pid, signal.SIGKILL)
        out, _ = proc.communicate()
    text = out.decode("utf-8", "replace")
    passed, failed, skipped, bad = 0, 0, 0, []
    for line in text.splitlines():
        m = LINE.match(line)
        if not m:
            continue
        if "# SKIP" in line.upper():
            skipped += 1
        elif m[1]:
            failed += 1
            bad.append(m[2])
        else:
            passed += 1
    if died or (proc.returncode != 0 and not failed) or passed + failed + skipped == 0:
        failed += 1
        bad.append(died or (f"exit status {proc.returncode}" if proc.returncode else "ran no test"))
    return cmd, passed, failed, skipped, bad, text, time.monotonic() - start


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--build", default="build/release")
    ap.add_argument("--filter", default="")
    ap.add_argument("--timeout", type=int, default=600)
    ap.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    ap.add_argument("-v", action="store_true", help="show all output")
    args = ap.parse_args()
    build = os.path.join(ROOT, args.build)
    env = dict(os.environ, CMOCKA_MESSAGE_OUTPUT="TAP", ORIEL_BUILD=build)
    env.setdefault("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0:detect_stack_use_after_return=1")
    env.setdefault("UBSAN_OPTIONS", "print_stacktrace=1")
    env.setdefault("TSAN_OPTIONS", "halt_on_error=0:exitcode=66")
    if not env.get("ORIEL_CORPUS"):
        print("ORIEL_CORPUS is not set: tests against the corpus say 'skipped'.")
    else:
        env["ORIEL_CORPUS"] = os.path.abspath(env["ORIEL_CORPUS"])
    tests = find_tests(build, args.filter)
    total = [0, 0, 0]
    with concurrent.futures.ThreadPoolExecutor(max(1, args.jobs)) as pool:
        jobs = [pool.submit(run_one, t, env, args.timeout) for t in tests]
        for job in concurrent.futures.as_completed(jobs):
            cmd, passed, failed, skipped, bad, text, seconds = job.result()
            name = os.path.relpath(cmd[-1], build if cmd[-1].startswith(build) else ROOT)
            total = [total[0] + passed, total[1] + failed, total[2] + skipped]
            counts = f"{passed} passed" + (f", {failed} FAILED" if failed else "") + (f", {skipped} skipped" if skipped else "")
            print(f"{'FAIL' if failed else 'ok  '} {name}  {counts}  {seconds:.1f} s", flush=True)
            if failed or args.v:
                print("".join(f"     failed: {b}\n" for b in bad) + "\n".join("     | " + l for l in text.splitlines()[-60:]))
    if not tests:
        print(f"no test matches '{args.filter}'")
        total[1] += 1
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    sys.exit(1 if total[1] or total[0] == 0 else 0)


main()
