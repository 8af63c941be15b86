#!/usr/bin/env python3
"""The judgement of bench/compare, with invented peers and times: which pairs count, what the verdict says, whether
two models that differ are caught. Prints TAP; nothing is timed."""
import argparse
import importlib.machinery
import importlib.util
import os
import sys

sys.dont_write_bytecode = True
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
loader = importlib.machinery.SourceFileLoader("compare", os.path.join(ROOT, "bench", "compare", "run"))
compare = importlib.util.module_from_spec(importlib.util.spec_from_loader("compare", loader))
loader.exec_module(compare)
compare.wait_for_quiet = lambda limit, patience: None
number = failed = 0


def check(good, name, detail=""):
    global number, failed
    number += 1
    failed += not good
    print("%sok %d - %s%s" % ("" if good else "not ", number, name, " (%s)" % detail if detail else ""), flush=True)


class Fake:
    """Answers from lists: seconds and foreign load of each measurement in turn, or logits."""

    def __init__(self, name, log, seconds=(), foreign=(), logits=None):
        self.name, self.log, self.logits = name, log, logits
        self.seconds, self.load = list(seconds), list(foreign)

    def measure(self, idle, **request):
        self.log.append((self.name, request))
        return dict(seconds=self.seconds.pop(0), foreign=self.load.pop(0) if self.load else 0.0, idle_peer=0.0)

    def ask(self, **request):
        return dict(top=sorted(self.logits.items(), key=lambda t: -t[1])[:request["n"]])


def judge(a, b, load_a=(), load_b=(), pairs=3, tries=2):
    log = []
    o = argparse.Namespace(pairs=pairs, tries=tries, foreign=0.2, patience=0)
    request = lambda i: {"oriel": dict(op="x", i=i), "llama.cpp": dict(op="x", i=i)}
    return compare.compare(Fake("oriel", log, a, load_a), Fake("llama.cpp", log, b, load_b), 100, request, o), log


r, log = judge([1, 1, 1], [2, 1, 3])
check(r["ratio"] == 2 and r["q1"] == 1.5 and r["q3"] == 2.5, "the verdict is the median of the pairs' ratios, with quartiles")
check(r["verdict"] == "as fast" and r["oriel"] == 100 and r["kept"] == r["run"] == 3, "faster is as fast; three pairs are enough")
check([n for n, _ in log] == ["oriel", "llama.cpp", "llama.cpp", "oriel", "oriel", "llama.cpp"], "the order alternates")
check(all(log[k][1] == log[k + 1][1] for k in (0, 2, 4)), "both peers of a pair get the same request")
check(judge([1] * 3, [0.975] * 3)[0]["verdict"] == "as fast", "0.975 counts as 1.0x")
check(judge([1] * 3, [0.96] * 3)[0]["verdict"] == "slower", "0.96 does not")
r, _ = judge([1, 9, 1, 1], [1, 1, 1, 1], load_a=[0, 0.5, 0, 0])
check(r["ratio"] == 1 and r["kept"] == 3 and r["run"] == 4, "a pair under foreign load is dropped and repeated")
r, _ = judge([1, 1, 9, 1], [1] * 4, load_b=[0, 0, 0.21, 0])
check(r["kept"] == 3 and r["run"] == 4 and r["ratio"] == 1, "whichever of the two saw the load")
r, _ = judge([1] * 5, [1] * 5, load_a=[0, 1, 1, 1, 1])
check(r["run"] == 5 and r["kept"] == 1 and r["verdict"].startswith("noisy") and not r["quiet"], "it gives up after --tries, and says noisy")
r, _ = judge([1] * 5, [2] * 5, load_a=[1] * 5)
check(r["kept"] == 0 and r["ratio"] == 2 and r["verdict"].startswith("noisy"), "without any quiet pair all are shown, as noisy")

ids_of = lambda n: list(range(n))
scores = {i: 20 - 0.3 * i for i in range(40)}
same = lambda other: compare.same_arithmetic(Fake("oriel", [], logits=other), Fake("llama.cpp", [], logits=scores), ids_of)
check(same({i: x - 17 for i, x in scores.items()})["ok"], "log-probabilities and logits of one model agree")
check(not same({i: 20 - 0.3 * ((i * 7) % 40) for i in range(40)})["ok"], "other ids at the top are another model")
check(not same({i: x - (1.5 if i % 2 else 0) for i, x in scores.items()})["ok"], "and so are other distances between them")
w = compare.Window(os.getpid())
check(w.foreign() >= 0 and compare.cpu_of(os.getpid()) >= 0 and compare.busy() > 0, "processor time is read")
print("1..%d" % number)
sys.exit(1 if failed else 0)
