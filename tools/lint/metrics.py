#!/usr/bin/env python3
"""Lines per room and the longest twenty functions. Shows, judges nothing."""
import collections, os, re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    rooms, functions = collections.Counter(), []
    for top, _, names in os.walk(os.path.join(ROOT, "src")):
        for name in names:
            if not name.endswith((".c", ".h")):
                continue
            path = os.path.relpath(os.path.join(top, name), ROOT)
            lines = open(os.path.join(ROOT, path), encoding="utf-8").read().splitlines()
            rooms[path.split(os.sep)[1]] += len(lines)
            start = None
            for i, line in enumerate(lines):
                m = re.match(r"^[A-Za-z_].*?\b(\w+)\(.*[^;]$", line)
                if start is None and m and not line.startswith(("#", "typedef", "struct", "enum")):
                    start = (i, m[1])
                if start and line == "}":
                    functions.append((i - start[0] + 1, path, start[1]))
                    start = None
                elif start and line.endswith(";") and not line.startswith((" ", "\t")):
                    start = None
    for room, n in rooms.most_common():
        print(f"{n:7} {room}")
    print(f"{sum(rooms.values()):7} in all\n")
    for n, path, name in sorted(functions, reverse=True)[:20]:
        print(f"{n:5} {path}: {name}")


main()
