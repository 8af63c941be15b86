#!/usr/bin/env python3
"""The rows of tests/unit/sample/grammar_cases.json, as Lark itself (Debian's python3-lark) sees them: what oriel's own test
holds oriel to is what the language means. Rows with "oracle": false are about what Lark has and oriel refuses, or the other way."""
import json
import os
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")

try:
    import lark
except ImportError:  # it is a module of Debian's python
    if sys.executable != "/usr/bin/python3" and os.path.exists("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3"] + sys.argv)
    print("1..1\nok 1 - grammars by hand # SKIP python3-lark is missing")
    raise SystemExit


def accepts(parser, text):
    try:
        parser.parse(text)
        return True
    except lark.exceptions.LarkError:
        return False


def main():
    with open(os.path.join(ROOT, "tests/unit/sample/grammar_cases.json"), encoding="utf-8") as f:
        rows = [r for r in json.load(f) if r["syntax"] == "lark" and r.get("oracle", True)]
    print(f"1..{len(rows)}")
    failed = 0
    for i, row in enumerate(rows):
        wrong = []
        try:
            # Every way to cut the text into terminals, not only the longest.
            parser = lark.Lark(row["grammar"], parser="earley", lexer="dynamic_complete")
            if "error" in row:
                wrong.append("Lark takes the grammar")
        except Exception as e:
            parser = None
            if "error" not in row:
                wrong.append(f"Lark refuses the grammar: {e}")
        if parser:
            wrong += [f"Lark refuses {t!r}" for t in row.get("accept", []) if not accepts(parser, t)]
            wrong += [f"Lark accepts {t!r}" for t in row.get("reject", []) if accepts(parser, t)]
        for w in wrong:
            print("# " + w.replace("\n", " "))
        failed += bool(wrong)
        print(f"{'not ok' if wrong else 'ok'} {i + 1} - {row['name']}")
    raise SystemExit(failed > 0)


if __name__ == "__main__":
    main()
