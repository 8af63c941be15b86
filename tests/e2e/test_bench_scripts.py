#!/usr/bin/env python3
"""The judgement of bench/quality, bench/load and bench/compare/window, with invented numbers, and one short real run of the first.
Prints TAP."""
import importlib.machinery, importlib.util, json, os, random, subprocess, sys, tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oriel import BUILD, ROOT, SANITIZED, Skip, need_corpus, run_all, test


def script(*path):
    loader = importlib.machinery.SourceFileLoader(path[-1], os.path.join(ROOT, "bench", *path))
    m = importlib.util.module_from_spec(importlib.util.spec_from_loader(path[-1], loader))
    loader.exec_module(m)
    return m


@test
def quality_is_judged_by_its_interval():
    q = script("quality", "run")
    assert q.judge(1.0, 0.999, 1.001, 4000) == "pass"
    assert q.judge(1.0, 0.999, 1.001, 3999) == "inconclusive"  # too few targets
    assert q.judge(1.015, 1.005, 1.025, 5000) == "inconclusive"  # reaches over the bound
    assert q.judge(1.03, 1.021, 1.04, 5000) == q.judge(1.03, 1.021, 1.04, 50) == "FAIL"
    rng = random.Random(5)
    cold = [rng.expovariate(0.5) for _ in range(4000)]
    ratio, low, high = q.ratio_of_means([x * 1.01 + rng.gauss(0, 0.2) for x in cold], cold, random.Random(1))
    assert low < 1.01 < high and low < ratio < high and high - low < 0.02, (low, ratio, high)


@test
def bad_neighbours_are_judged_by_their_interval():
    load = script("load", "run")
    assert load.judge(0.9, 1.2, 10) == "pass"
    assert load.judge(0.9, 1.2, 9) == "inconclusive"  # too few pairs
    assert load.judge(1.1, 1.21, 12) == "inconclusive"  # reaches over the bound
    assert load.judge(1.21, 1.5, 12) == load.judge(1.21, 1.5, 3) == "FAIL"
    assert [load.EXIT[v] for v in ("pass", "FAIL", "inconclusive")] == [0, 1, 2]
    assert load.quantile(range(1, 101), 0.99) == 100 and load.quantile([3, 1, 2], 0.5) == 2 and load.quantile([7], 0.99) == 7
    rng = random.Random(5)
    ratios = [1.1 + rng.gauss(0, 0.05) for _ in range(12)]
    value, low, high = load.interval(ratios, random.Random(1))
    assert low <= value <= high and low > 1.0 and high < 1.2 and low < high, (low, value, high)
    assert load.interval([1.5] * 12, rng) == (1.5, 1.5, 1.5)


@test
def past_the_window_counts():
    w = script("compare", "window")
    times = [5.0 + 2 * i for i in range(100)]
    times = times[:50] + [t + 200 for t in times[50:]]  # one stall of 202 ms
    s = w.summary_of_long(dict(times=times, computed=128 + 99 + 411, shifted=7), 128)
    assert s["stalls"] == 1 and abs(s["stalled_seconds"] - 0.202) < 1e-9 and s["again"] == 411 and s["shifted"] == 7, s
    assert s["step_p50_ms"] == 2 and s["step_max_ms"] == 202 and abs(s["tokens_per_second"] - 99 / 0.398) < 0.01, s

    class Perfect:
        """Reuses everything that was computed before."""
        def ask(self, op, ids, n):
            known = getattr(self, "ids", [])
            same = next((i for i, (a, b) in enumerate(zip(known, ids)) if a != b), min(len(known), len(ids)))
            self.ids = ids + [-1] * (n - 1)
            return dict(times=[1.0] * n, computed=len(ids) - same + n - 1, shifted=0)

    class o:
        seed, turns, thoughts = 1, 5, 40
        repeat, minutes, foreign, patience = 3, 0, 99, 0  # no time: once in any case
        name = "one"
        process = type("process", (), dict(pid=os.getpid()))
    assert w.alternate([o], o, lambda p: dict(steps=7))["one"]["runs"] == 1
    o.minutes = 9
    once = w.alternate([o], o, lambda p: dict(steps=7))["one"]
    assert once["runs"] == 3 and once["steps"] == 7, once
    r = w.run_turns(Perfect(), o, 1000)
    assert r["again"] == 0 and r["computed"] > 0 and r["prompt_tokens"] > r["computed"], r


@test
def quality_of_a_short_text():
    if SANITIZED or os.path.basename(BUILD) != "release":
        raise Skip("takes the release build")
    model = need_corpus("models", "derived", "stories260K", "stories260K-f32.gguf")
    text = need_corpus("text", "tinystories_sample.txt")
    with tempfile.TemporaryDirectory() as d:
        at = lambda name: os.path.join(d, name)
        p = subprocess.run([os.path.join(ROOT, "bench/quality/run"), "--model", model, "--text", text, "--tokens", "160", "--width", "64",
                            "--threads", "1", "--json", at("q.json"), "--svg", at("q.svg"), "--notes", at("q.md")],
                           stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=600)
        assert p.returncode == 2, (p.returncode, p.stderr[-500:])  # far too few targets
        r = json.load(open(at("q.json")))[0]
        assert len(r["runs"]) == 4 and all(len(x) == r["targets"] > 20 for x in r["runs"])
        assert all(0.3 < m < 6 for m in r["mean_nll"].values()), r["mean_nll"]
        # The first target's window is just full: nothing has left it yet, so both ways must agree.
        assert abs(r["runs"][0][0] - r["runs"][1][0]) < 1e-3, (r["runs"][0][0], r["runs"][1][0])
        assert open(at("q.svg")).read().startswith("<svg") and "inconclusive" in open(at("q.md")).read()


if __name__ == "__main__":
    run_all()
