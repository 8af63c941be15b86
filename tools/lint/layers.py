#!/usr/bin/env python3
"""Checks src/LAYERS: a room includes itself and only the rooms on its line."""
import os, re, sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def main():
    rooms, order = {}, []
    for line in open(os.path.join(ROOT, "src/LAYERS")):
        line = line.split("#")[0].strip()
        if line:
            room, _, below = line.partition(":")
            order.append(room)
            rooms[room] = set(below.split())
            for b in rooms[room]:
                if b not in order[:-1]:
                    sys.exit(f"src/LAYERS: {room} lists {b}, which is not below it")
    bad = 0
    for top, _, names in os.walk(os.path.join(ROOT, "src")):
        for name in sorted(names):
            if not name.endswith((".c", ".h")):
                continue
            path = os.path.relpath(os.path.join(top, name), ROOT)
            room = path.split(os.sep)[1]
            if room not in rooms:
                print(f"{path}: room '{room}' is not in src/LAYERS")
                bad += 1
                continue
            for n, text in enumerate(open(os.path.join(ROOT, path), encoding="utf-8"), 1):
                m = re.match(r'\s*#\s*include\s+"([a-z0-9_]+)/', text)
                if m and m[1] != room and m[1] not in rooms[room]:
                    print(f"{path}:{n}: {room} may not include {m[1]}")
                    bad += 1
    print("layers: ok" if not bad else f"layers: {bad} wrong")
    sys.exit(1 if bad else 0)


main()
