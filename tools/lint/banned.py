#!/usr/bin/env python3
"""Calls we do not make, and why."""
import os, re, sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BANNED = {
    r"\b(strcpy|strcat|sprintf|vsprintf|gets)\s*\(": "no bound on what is written",
    r"\b(atoi|atol|atof)\s*\(": "cannot report an error: strtol and friends can",
    r"\b(strtok|localtime|gmtime|asctime|ctime)\s*\(": "hidden shared state: use the _r form",
    r"\b(system|popen|tmpnam|mktemp)\s*\(": "runs a shell or races",
    r"\balloca\s*\(": "unbounded stack",
    r"\b(rand|srand|random|srandom)\s*\(": "use base/hash.h, a pure function of seed and counter",
}
NO_PRINT = re.compile(r"\b(printf|puts|putchar|perror|exit|abort)\s*\(")
PRINTERS = ("src/cli/", "src/base/log.c", "src/base/os.c")


def main():
    bad = 0
    for top, _, names in os.walk(os.path.join(ROOT, "src")):
        for name in sorted(names):
            path = os.path.relpath(os.path.join(top, name), ROOT)
            if not name.endswith((".c", ".h")):
                continue
            text = re.sub(r"/\*.*?\*/", lambda m: "\n" * m[0].count("\n"), open(os.path.join(ROOT, path), encoding="utf-8").read(), flags=re.S)
            for n, line in enumerate(text.splitlines(), 1):
                line = re.sub(r'"(\\.|[^"\\])*"', '""', line.split("//")[0])
                for pattern, why in BANNED.items():
                    m = re.search(pattern, line)
                    if m:
                        print(f"{path}:{n}: {m[1]}: {why}")
                        bad += 1
                m = NO_PRINT.search(line)
                if m and not path.startswith(PRINTERS):
                    print(f"{path}:{n}: {m[1]}: below cli nothing prints or exits")
                    bad += 1
    print("banned calls: none" if not bad else f"banned calls: {bad}")
    sys.exit(1 if bad else 0)


main()
