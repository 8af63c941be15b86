#!/usr/bin/env python3
"""oriel bench window: what is counted stays constant over 20,000 tokens past the window; the report has all it
promises in each form; exit statuses mean what they say."""
import json, os, sys, tempfile
import xml.etree.ElementTree as ET
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from oriel import SANITIZED, run, run_all, test

TOKENS = 4000 if SANITIZED else 20000


def window(*args, status=0, **kw):
    p = run("bench", "window", "--threads", 1, *args, check=False, timeout=900, **kw)
    assert p.returncode == status, (p.returncode, p.stdout[-2000:], p.stderr[-500:])
    return p.stdout.decode()


def checks(w):
    return {c["name"]: c["verdict"] for c in w["checks"]}


@test
def counters_are_constant():
    for kv in ("f16", "q8_0"):
        j = json.loads(window("--counters", "--tokens", TOKENS, "--max-kv-size", "100,256", "--kv-type", kv, "--json"))
        assert j["verdict"] == "pass" and len(j["windows"]) == 2, j["verdict"]
        for w in j["windows"]:
            assert w["tokens"] == TOKENS and w["tokens_counted"] > TOKENS - w["max_kv_size"] - 200
            # the built-in model: half of its layers slide over 128 rows, the other half see the window
            assert w["rows_attended_min"] == w["rows_attended_max"] == 2 * (128 + w["max_kv_size"]), w
            assert w["blocks_uneven"] == 0 and w["allocations"] == 0
            assert checks(w) == {"rows attended": "pass", "blocks held": "pass", "allocations": "pass", "windows passed": "pass"}


@test
def few_windows_are_inconclusive():
    j = json.loads(window("--counters", "--tokens", 1500, "--max-kv-size", "512", "--json", status=2))
    assert checks(j["windows"][0])["windows passed"] == j["verdict"] == "inconclusive"
    text = window("--counters", "--tokens", 1500, "--max-kv-size", "512", status=2)
    assert "windows passed is inconclusive" in text and "FAIL" not in text


@test
def long_chats_stay_below_their_limit():
    turns = 40
    j = json.loads(window("--counters", "--tokens", 3000, "--max-kv-size", 256, "--turns", turns, "--turn-tokens", 24, "--json", "--quiet"))
    c = j["windows"][0]["chat"]
    assert c["turns"] == turns and c["limit"] == 256 - 24 and 100 < c["longest_prompt"] <= c["limit"], c
    assert c["cuts"] >= 10, c
    assert 0 < c["computed_tokens"] < c["prompt_tokens"] and 0 < c["ttft_p50_seconds"] <= c["ttft_p99_seconds"], c
    j = json.loads(window("--counters", "--tokens", 3000, "--max-kv-size", 64, "--turns", 5, "--json", status=2))
    assert "too few" in j["windows"][0]["chat"]["skipped"]


@test
def everything_is_in_the_report():
    with tempfile.TemporaryDirectory() as d:
        svg = os.path.join(d, "w.svg")
        args = ("--tokens", 3000, "--pairs", 5, "--prompt-tokens", 64, "--max-kv-size", "64,128", "--seed", 7)
        p = run("bench", "window", "--threads", 1, *args, "--json", "--svg", svg, check=False, timeout=900)
        assert p.returncode in (1, 2), (p.returncode, p.stderr)  # five pairs decide nothing
        j = json.loads(p.stdout)
        for key in ("model", "digest", "commit", "cpu", "cores", "threads", "kernels", "date", "system"):
            assert j[key], key
        for w in j["windows"]:
            assert w["pairs"] == 5 and w["deep_over_shallow"]["value"] > 0
            assert w["prefill_seconds"] > 0 and w["ttft_seconds"] > 0 and w["cpu_percent"] > 0
            assert w["tokens_per_second_past"] > 0 and w["tokens_per_second_before"] > 0
            assert 0 < w["step_p50_ms"] <= w["step_p99_ms"] and w["gpu_percent"] is None
            assert w["rss_anon"]["median_bytes"] > w["kv"]["median_bytes"] > 0 and "minor_faults" in w
            assert w["judged_slope"] in w and "raw_slope_percent_per_100k_tokens" in w and w["allocations"] == 0
            # 128 tokens apart; where a new young one begins, and at the end, nothing is compared
            n = len(w["reference"]["tokens"])
            assert w["reference_points"] == n == len(w["reference"]["run_over_reference"]) and 15 <= n <= 24, n
            assert w["reference_tokens"] >= 64 * n and all(v > 0 for v in w["reference"]["run_over_reference"])
            n = len(w["series"]["tokens"])
            assert n > 20 and all(len(v) == n for v in w["series"].values())
            assert checks(w)["deep/shallow"] == "inconclusive" and checks(w)["rows attended"] == "pass"
        root = ET.parse(svg).getroot()
        texts = [t.text for t in root.iter("{http://www.w3.org/2000/svg}text")]
        assert "speed, of the young reference's" in texts
        assert "tokens per second" in texts and "64 rows" in texts and j["model"] in " ".join(texts), texts

        notes = os.path.join(d, "NOTES.md")
        open(notes, "w").write("# Notes\n")
        for n in 1, 2:
            p = run("bench", "notes", "--threads", 1, *args, "--notes", notes, check=False, timeout=900)
            assert p.returncode in (1, 2), p.stderr
            text = open(notes).read()
            assert text.startswith("# Notes\n") and text.count("\n## ") == n and "| tokens/s past it |" in text
            assert "| slope to reference (judged) |" in text
        picture = text.rsplit("](", 1)[1].split(")")[0]
        assert os.path.exists(os.path.join(d, picture)), picture


@test
def wrong_command_lines_are_sentences():
    for args, needle in ((("--max-kv-size", "256,x"), "--max-kv-size"), (("--max-kv-size", ""), "--max-kv-size"),
                         (("--max-kv-size", "16"), "max_kv_size"), (("--tokens", "0"), "--tokens"), (("fast",), "options only"),
                         (("--tokens", "300", "--max-kv-size", "256"), "--tokens"),
                         (("--frontiers", "1"), "--frontiers")):
        p = run("bench", "window", "--counters", *args, check=False)
        err = p.stderr.decode()
        assert p.returncode in (1, 2) and needle in err and err.count("\n") == 1, (args, p.returncode, err)
    p = run("bench", "notes", "--counters", "--tokens", 800, "--max-kv-size", 64, "--notes", "/no/such/folder/x.md", check=False)
    assert p.returncode == 1 and b"/no/such/folder/x.md" in p.stderr, p.stderr
    assert "--tokens" in run("bench", "window", "--help").stdout.decode()


if __name__ == "__main__":
    run_all()
