#!/usr/bin/env python3
"""Random schemas, patterns and grammars against judges that are not ours: Debian's python3-jsonschema and
python3-lark, and Python's re. Grammars are written in both notations.

Whatever the compiler takes has to accept exactly what the judge accepts, and whatever a random walk through
the masks writes has to be valid. ORIEL_FORMS says how many (schemas, patterns) there are, ORIEL_FORMS_SEED
where they begin."""
import json, os, random, re, signal, sys

try:
    import jsonschema, lark  # noqa: F401
except ImportError:  # Debian's own Python has Debian's modules
    if os.path.realpath(sys.executable) != os.path.realpath("/usr/bin/python3") and os.path.exists("/usr/bin/python3"):
        os.execv("/usr/bin/python3", ["/usr/bin/python3"] + sys.argv)

from oriel import SANITIZED, Skip, judge, run_all, test

N = int(os.environ.get("ORIEL_FORMS") or 250)
SEED = int(os.environ.get("ORIEL_FORMS_SEED") or 1)
NAMES = ["a", "b", "c", "aa", "ab", "name", "x1"]
PATTERNS = ["^a", "b$", "^[ab]*$", "^.{2,3}$", "a|b", "^(ab)+$", "[0-9]", "^x", "^[^a]", "a.b", "^$", "^(a|b|name)$"]
WORDS = ["", "a", "b", "ab", "aa", "abab", "name", "x1", "é", "€uro", "a b", "0", "😀", "longer than that", "a\"b\\c"]


# ── Schemas ──

class Maker:
    def __init__(self, r):
        self.r, self.defs = r, []

    def few(self, items, most=3):
        return self.r.sample(items, self.r.randint(1, min(most, len(items))))

    def number(self):
        return self.r.choice([0, 1, -1, 2, 3, 5, 10, -7, 100, 0.5, 2.5, -0.25, 1000])

    def value(self, depth=2):
        r = self.r
        kind = r.randrange(8 if depth > 0 else 6)
        if kind == 0:
            return r.choice([None, True, False])
        if kind in (1, 2):
            return self.number() if r.random() < 0.7 else r.randint(-20, 20)
        if kind in (3, 4, 5):
            return r.choice(WORDS)
        if kind == 6:
            return [self.value(depth - 1) for _ in range(r.randint(0, 4))]
        return {n: self.value(depth - 1) for n in r.sample(NAMES, r.randint(0, 4))}

    def bounds(self, s, low, high, most):
        a, b = sorted([self.r.randint(0, most), self.r.randint(0, most)])
        if self.r.random() < 0.6:
            s[low] = a
        if self.r.random() < 0.6:
            s[high] = b

    def string(self, s):
        if self.r.random() < 0.5:
            self.bounds(s, "minLength", "maxLength", 5)
        if self.r.random() < 0.4:
            s["pattern"] = self.r.choice(PATTERNS)

    def numeric(self, s):
        r = self.r
        if r.random() < 0.5:
            s[r.choice(["minimum", "exclusiveMinimum"])] = self.number()
        if r.random() < 0.5:
            s[r.choice(["maximum", "exclusiveMaximum"])] = self.number()
        if r.random() < 0.25:
            s["multipleOf"] = r.choice([1, 2, 3, 5, 0.5, 0.25, 10])

    def array(self, s, depth):
        r = self.r
        if r.random() < 0.3:
            s["prefixItems"] = [self.schema(depth - 1) for _ in range(r.randint(1, 3))]
        if r.random() < 0.6:
            s["items"] = self.schema(depth - 1)
        if r.random() < 0.5:
            self.bounds(s, "minItems", "maxItems", 4)
        if r.random() < 0.25:
            s["contains"] = self.schema(depth - 1)
            if r.random() < 0.5:
                self.bounds(s, "minContains", "maxContains", 3)
        if r.random() < 0.12:
            s["uniqueItems"] = True
            s["items"] = {"type": "string"}
            s.pop("prefixItems", None)

    def object(self, s, depth):
        r = self.r
        if r.random() < 0.8:
            s["properties"] = {n: self.schema(depth - 1) for n in self.few(NAMES, 4)}
        if r.random() < 0.5:
            s["required"] = self.few(NAMES, 2) if r.random() < 0.4 or "properties" not in s else self.few(list(s["properties"]), 2)
        if r.random() < 0.3:
            s["patternProperties"] = {p: self.schema(depth - 1) for p in self.few(PATTERNS, 2)}
        if r.random() < 0.5:
            s["additionalProperties"] = r.choice([False, False, self.schema(depth - 1)])
        if r.random() < 0.12:
            s["propertyNames"] = r.choice([{"pattern": r.choice(PATTERNS)}, {"maxLength": 2}, {"enum": self.few(NAMES, 4)}])
        if r.random() < 0.25:
            self.bounds(s, "minProperties", "maxProperties", 4)
        if r.random() < 0.1:
            s["dependentRequired"] = {r.choice(NAMES): self.few(NAMES, 2)}
        if r.random() < 0.08:
            s["dependentSchemas"] = {r.choice(NAMES): self.schema(depth - 1)}

    def typed(self, depth):
        r, s = self.r, {}
        types = ["string", "integer", "number", "boolean", "null"] + (["array", "object", "object"] if depth > 0 else [])
        kind = r.choice(types)
        if r.random() < 0.85:
            s["type"] = kind if r.random() < 0.8 else sorted({kind, r.choice(types)})
        if kind == "string":
            self.string(s)
        elif kind in ("integer", "number"):
            self.numeric(s)
        elif kind == "array":
            self.array(s, depth)
        elif kind == "object":
            self.object(s, depth)
        return s

    def schema(self, depth):
        r = self.r
        roll = r.random()
        if roll < 0.05:
            return r.choice([True, True, False, {}])
        if roll < 0.13:
            return {"enum": [self.value(1) for _ in range(r.randint(1, 4))]}
        if roll < 0.17:
            return {"const": self.value(1)}
        if roll < 0.22 and self.defs:
            return {"$ref": "#/$defs/" + r.choice(self.defs)}
        s = self.typed(depth)
        if depth > 0 and r.random() < 0.22:
            how = r.choice(["anyOf", "anyOf", "oneOf", "allOf", "not", "if"])
            if how == "not":
                s["not"] = self.typed(depth - 1) if r.random() < 0.5 else {"enum": [self.value(1)]}
            elif how == "if":
                s["if"] = self.typed(depth - 1)
                s[r.choice(["then", "else"])] = self.schema(depth - 1)
            else:
                s[how] = [self.schema(depth - 1) for _ in range(r.randint(1, 3))]
        if r.random() < 0.1:
            s["title"] = "t"
        return s

    def whole(self):
        self.defs = self.r.choice([[], [], ["p"], ["p", "q"]])
        s = self.schema(3)
        if isinstance(s, dict) and self.defs:
            s = dict(s)
            s["$defs"] = {n: self.schema(2) for n in self.defs}
        return s

    # Something that may well be valid: what the schema says, read in haste.
    def instance(self, s, root, depth=4):
        r = self.r
        if not isinstance(s, dict) or depth < 0 or r.random() < 0.06:
            return self.value(1)
        if "$ref" in s:
            return self.instance(root.get("$defs", {}).get(s["$ref"].split("/")[-1], {}), root, depth - 1)
        if "const" in s:
            return s["const"]
        if "enum" in s:
            return r.choice(s["enum"])
        for word in ("anyOf", "oneOf", "allOf"):
            if word in s and r.random() < 0.6:
                return self.instance(r.choice(s[word]), root, depth - 1)
        kinds = s.get("type", [])
        kind = kinds if isinstance(kinds, str) else r.choice(kinds) if kinds else None
        if kind is None:
            kind = next((k for k, words in (("object", ("properties", "required", "additionalProperties", "patternProperties", "minProperties")),
                                            ("array", ("items", "prefixItems", "contains")), ("string", ("pattern", "minLength", "maxLength")),
                                            ("number", ("minimum", "maximum", "multipleOf"))) if any(w in s for w in words)), None)
        if kind == "object":
            names = list(s.get("properties", {})) if r.random() < 0.9 else NAMES
            chosen = dict.fromkeys(s.get("required", []) if r.random() < 0.9 else [])
            for n in names:
                if r.random() < 0.6:
                    chosen[n] = None
            while len(chosen) < s.get("minProperties", 0) and len(chosen) < len(NAMES):
                chosen[r.choice(NAMES)] = None
            if r.random() < 0.15:
                chosen[r.choice(NAMES)] = None
            out = {}
            for n in chosen:
                sub = s.get("properties", {}).get(n)
                if sub is None:
                    sub = next((v for p, v in s.get("patternProperties", {}).items() if re.search(p, n)), s.get("additionalProperties", {}))
                out[n] = self.instance(sub, root, depth - 1)
            return out
        if kind == "array":
            n = r.randint(s.get("minItems", 0), max(s.get("minItems", 0), min(s.get("maxItems", 4), 4)))
            pre = s.get("prefixItems", [])
            return [self.instance(s.get("contains", {}) if "contains" in s and r.random() < 0.4 else pre[i] if i < len(pre) else s.get("items", {}), root, depth - 1)
                    for i in range(n)]
        if kind == "string":
            low, high = s.get("minLength", 0), s.get("maxLength", 6)
            fit = [w for w in WORDS if low <= len(w) <= high and ("pattern" not in s or re.search(s["pattern"], w))]
            return r.choice(fit or WORDS)
        if kind in ("integer", "number"):
            near = [s[k] for k in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum") if k in s]
            n = r.choice(near or [0]) + r.choice([0, 1, -1, 2, 0.5, 10])
            return n // s["multipleOf"] * s["multipleOf"] if "multipleOf" in s and r.random() < 0.7 else n
        return {"null": None, "boolean": r.random() < 0.5}.get(kind, self.value(1))


def write(r, v):
    """JSON as somebody might write it."""
    if isinstance(v, dict):
        items = [write(r, k) + r.choice([":", ": ", " :\n"]) + write(r, x) for k, x in v.items()]
        r.shuffle(items)
        return "{" + r.choice(["", " "]) + r.choice([",", ", ", " ,\t"]).join(items) + "}"
    if isinstance(v, list):
        return "[" + r.choice([",", ", "]).join(write(r, x) for x in v) + r.choice(["", "\n"]) + "]"
    if isinstance(v, str):
        return "".join("\\u%04x" % ord(c) if ord(c) < 0x10000 and r.random() < 0.05 else json.dumps(c, ensure_ascii=r.random() < 0.1)[1:-1] for c in v).join('""')
    if isinstance(v, float) or (isinstance(v, int) and not isinstance(v, bool)):
        if v and v == int(v) and r.random() < 0.15:
            return r.choice([f"{int(v)}.0", f"{int(v)}e0", f"{int(v)}0e-1", f"{int(v)}.00E+0"])
        tenfold = repr(v * 10)
        return tenfold + "e-1" if r.random() < 0.1 and "e" not in tenfold and json.loads(tenfold + "e-1") == v else repr(v)
    return json.dumps(v)


# ── The judges ──

JUDGE = ("tests/unit/sample/test_judge", "ORIEL_JUDGE")


def some_schemas(n):
    import jsonschema
    for i in range(n):
        r = random.Random(SEED * 1000003 + i)
        m = Maker(r)
        s = m.whole()
        values = [m.instance(s, s if isinstance(s, dict) else {}) for _ in range(14)] + [m.value() for _ in range(4)]
        texts = list(dict.fromkeys(write(r, v) for v in values))
        v = jsonschema.Draft202012Validator(s)
        try:
            verdicts = [v.is_valid(json.loads(t)) for t in texts]
        except RecursionError:  # a reference to itself without anything between
            continue
        yield {"schema": s, "texts": texts, "n": i}, verdicts, v


@test
def random_schemas_against_jsonschema():
    try:
        import jsonschema  # noqa: F401
    except ImportError:
        raise Skip("python3-jsonschema is not installed")
    cases = list(some_schemas(N if not SANITIZED else min(N, 40)))
    bad, why, n_texts, n_valid, n_made = [], {}, 0, 0, 0
    for (case, verdicts, v), said in zip(cases, judge(*JUDGE, [c for c, _, _ in cases])):
        if "error" in said:
            if "No text can ever match" in said["error"] or "o value" in said["error"]:
                if any(verdicts):
                    bad.append(f"{case['n']}: impossible? {json.dumps(case['schema'])} {case['texts'][verdicts.index(True)]}")
            why[re.sub(r"'[^']*'", "'…'", said["error"])] = why.get(re.sub(r"'[^']*'", "'…'", said["error"]), 0) + 1
            continue
        for text, want, got in zip(case["texts"], verdicts, said["verdicts"]):
            n_texts += 1
            n_valid += want
            if want != got:
                bad.append(f"{case['n']}: {json.dumps(case['schema'])}\n#   {text} is {'' if want else 'not '}valid")
        for text in said["made"]:
            n_made += 1
            if isinstance(text, dict):
                bad.append(f"{case['n']}: {json.dumps(case['schema'])}\n#   a dead end behind {text['dead_end']}")
            elif not v.is_valid(json.loads(text)):
                bad.append(f"{case['n']}: {json.dumps(case['schema'])}\n#   wrote {text}")
    refused = sum(why.values())
    print(f"# {len(cases)} schemas, {refused} refused, {n_texts} texts ({n_valid} valid), {n_made} written, {len(bad)} misjudged")
    for reason, k in sorted(why.items(), key=lambda x: -x[1])[:12]:
        print(f"#   {k} × {reason}")
    assert not bad, "\n".join("# " + b for b in bad[:60])
    assert refused < len(cases) / 3 and n_valid > n_texts / 10


# ── Patterns ──

class Patterns:
    """The part of the syntax that ECMAScript's and Python's patterns share, over a small alphabet."""

    def __init__(self, r):
        self.r = r

    def atom(self, depth):
        r = self.r
        roll = r.randrange(12 if depth > 0 else 9)
        if roll < 4:
            return r.choice("abcxy01 -_")
        if roll == 4:
            return "."
        if roll == 5:
            return r.choice(["\\d", "\\D", "\\w", "\\W", "\\s", "\\S", "\\.", "\\-", "\\/", "\\x61", "\\u0062", "\\t"])
        if roll in (6, 7):
            items = [r.choice(["a", "b", "0-9", "a-c", "x", "_", "\\d", "\\w", "\\s", "\\-", "é", "."]) for _ in range(r.randint(1, 3))]
            return "[" + r.choice(["", "", "^"]) + "".join(items) + "]"
        if roll == 8:
            return r.choice(["é", "€", "/", "\\\\", "\\(", "\\["])
        if roll == 9:
            return r.choice(["(?=", "(?!"]) + self.alternatives(depth - 1) + ")" if r.random() < 0.35 else "(?:" + self.alternatives(depth - 1) + ")"
        return "(" + self.alternatives(depth - 1) + ")"

    def piece(self, depth):
        r = self.r
        a = self.atom(depth)
        if a.startswith(("(?=", "(?!")) or r.random() < 0.6:
            return a
        return a + r.choice(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "{2,}", "*?", "+?", "??", "{1,2}?"])

    def alternatives(self, depth):
        r = self.r
        return "|".join("".join(self.piece(depth) for _ in range(r.randint(0 if r.random() < 0.1 else 1, 4))) for _ in range(r.choice([1, 1, 1, 2, 3])))

    def whole(self):
        p = self.alternatives(3)
        return p if self.r.random() < 0.7 else "^" + p + "$" if self.r.random() < 0.6 else self.r.choice(["^", ""]) + p + self.r.choice(["$", ""])

    def text(self):
        return "".join(self.r.choice("aabbccxy01 -_./\\([é€Z\t") for _ in range(self.r.randint(0, 6)))


@test
def random_patterns_against_re():
    cases = []
    for i in range(2 * N if not SANITIZED else 60):
        r = random.Random(SEED * 7000003 + i)
        m = Patterns(r)
        source = m.whole()
        try:
            # ECMAScript's \s has more characters than ASCII, its \d and \w have not; none of them is in the texts.
            judge_re = re.compile(source, re.ASCII)
        except re.error:
            continue
        texts = {m.text() for _ in range(24)}
        cases.append(({"regex": source, "texts": sorted(texts), "n": i}, judge_re))
    bad, refused, n_texts, n_match, why = [], 0, 0, 0, {}
    for (case, pattern), said in zip(cases, judge(*JUDGE, [c for c, _ in cases])):
        if "error" in said:
            why[said["error"][:90]] = why.get(said["error"][:90], 0) + 1
            refused += 1
            continue
        for text, got in zip(case["texts"], said["verdicts"]):
            want = bool(pattern.fullmatch(text))
            n_texts += 1
            n_match += want
            if want != got:
                bad.append(f"{case['n']}: {case['regex']!r} {text!r} {'matches' if want else 'does not match'}")
        for text in said["made"]:
            if isinstance(text, dict):
                bad.append(f"{case['n']}: {case['regex']!r} a dead end behind {text['dead_end']!r}")
            elif text.isascii() and "\n" not in text and "\r" not in text and not re.search("[\x1c-\x1f]", text) and not pattern.fullmatch(text):
                bad.append(f"{case['n']}: {case['regex']!r} wrote {text!r}")
    print(f"# {len(cases)} patterns, {refused} refused, {n_texts} texts ({n_match} match), {len(bad)} misjudged")
    for reason, k in sorted(why.items(), key=lambda x: -x[1])[:8]:
        print(f"#   {k} × {reason}")
    assert not bad, "\n".join("# " + b for b in bad[:15])
    assert refused < len(cases) / 4 and n_match > n_texts / 50


# ── Grammars ──

class Grammars:
    """One grammar as a tree, which is then written as Lark and as GBNF. Rules refer to later ones, or to any behind a
    letter, so that nothing is left-recursive."""

    def __init__(self, r):
        self.r = r
        self.n_rules, self.n_terminals = r.randint(1, 4), r.randint(0, 3)
        self.ignores = r.random() < 0.25
        self.rules = [self.some(k, 3) for k in range(self.n_rules)]
        self.terminals = [("seq", [self.leaf()] + [self.terminal(k, 2) for _ in range(r.randint(0, 2))]) for k in range(self.n_terminals)]

    def leaf(self):
        r = self.r
        return r.choice([("lit", r.choice(["a", "b", "ab", "c1", "-", 'q"', "\\", "é"])), ("lit", r.choice("abc")), ("icase", r.choice(["ab", "c", "aB"])),
                         ("range", *r.choice(["ac", "bc", "13"])), ("class", r.choice(["ab", "a-c", "1-3", "^ab 1-3", "c1"]), r.choice(["", "", "+"]))])

    def terminal(self, k, depth):
        r = self.r
        if depth == 0 or r.random() < 0.4:
            return self.leaf() if k == 0 or r.random() < 0.7 else ("T", r.randrange(k))
        return self.combine(lambda: self.terminal(k, depth - 1))

    def combine(self, one):
        r = self.r
        roll = r.randrange(6)
        if roll < 2:
            return ("seq", [one() for _ in range(r.randint(1, 3))])
        if roll < 4:
            return ("alt", [one() for _ in range(r.randint(2, 3))])
        if roll == 4:
            return ("rep", one(), *r.choice([(0, 1), (0, 1), (0, None), (1, None)]))
        return ("rep", one(), *r.choice([(2, 2), (1, 3), (0, 2), (3, 3)]))

    def some(self, k, depth):
        r = self.r
        if depth == 0 or r.random() < 0.25:
            roll = r.random()
            if roll < 0.25 and k + 1 < self.n_rules:
                return ("R", r.randrange(k + 1, self.n_rules))
            if roll < 0.4:
                return ("seq", [("lit", r.choice("abc")), ("rep", ("R", r.randrange(self.n_rules)), 0, 1)])
            if roll < 0.65 and self.n_terminals:
                return ("T", r.randrange(self.n_terminals))
            return self.leaf()
        return self.combine(lambda: self.some(k, depth - 1))

    def text(self, t, gbnf):
        kind = t[0]
        if kind == "lit":
            return json.dumps(t[1], ensure_ascii=False)
        if kind == "icase":
            return '"' + t[1] + '"i' if not gbnf else "(" + " ".join(f"[{c.lower()}{c.upper()}]" for c in t[1]) + ")"
        if kind == "range":
            return f"[{t[1]}-{t[2]}]" if gbnf else f'"{t[1]}".."{t[2]}"'
        if kind == "class":
            return f"[{t[1]}]{t[2]}" if gbnf else f"/[{t[1]}]{t[2]}/"
        if kind == "R":
            return ("root" if t[1] == 0 else f"r{t[1]}") if gbnf else ("start" if t[1] == 0 else f"r{t[1]}")
        if kind == "T":
            return f"t-{t[1]}" if gbnf else f"T{t[1]}"
        if kind == "seq":
            return " ".join(self.text(x, gbnf) for x in t[1])
        if kind == "alt":
            return "(" + " | ".join(self.text(x, gbnf) for x in t[1]) + ")"
        _, x, low, high = t
        inner = "(" + self.text(x, gbnf) + ")"
        if (low, high) == (0, 1) and not gbnf and len(inner) % 2:
            return "[" + inner[1:-1] + "]"
        if high is None or (low, high) == (0, 1):
            return inner + {(0, 1): "?", (0, None): "*", (1, None): "+"}[low, high]
        if gbnf:
            return inner + ("{%d}" % low if low == high else "{%d,%d}" % (low, high))
        return inner + (f" ~ {low}" if low == high else f" ~ {low}..{high}")

    def lark(self):
        lines = [f"{'start' if k == 0 else 'r%d' % k}: {self.text(t, False)}" for k, t in enumerate(self.rules)]
        lines += [f"T{k}: {self.text(t, False)}" for k, t in enumerate(self.terminals)]
        return "\n".join(lines + (['%ignore " "'] if self.ignores else [])) + "\n"

    def gbnf(self):
        lines = [f"{'root' if k == 0 else 'r%d' % k} ::= {self.text(t, True)}" for k, t in enumerate(self.rules)]
        return "\n".join(lines + [f"t-{k} ::= {self.text(t, True)}" for k, t in enumerate(self.terminals)]) + "\n"

    def say(self, t, depth=12):
        r, kind = self.r, t[0]
        if depth < 0:
            return ""
        if kind in ("lit", "icase"):
            return t[1] if kind == "lit" or r.random() < 0.5 else t[1].swapcase()
        if kind == "range":
            return r.choice(t[1] + t[2])
        if kind == "class":
            return "".join(r.choice({"ab": "ab", "a-c": "abc", "1-3": "123", "^ab 1-3": "cé-", "c1": "c1"}[t[1]]) for _ in range(r.randint(1, 2) if t[2] else 1))
        if kind in ("R", "T"):
            return self.say((self.rules if kind == "R" else self.terminals)[t[1]], depth - 1)
        if kind == "alt":
            return self.say(r.choice(t[1]), depth - 1)
        parts = t[1] if kind == "seq" else [t[1]] * r.randint(t[2], t[3] if t[3] is not None else t[2] + 2)
        between = " " * r.choice([0, 0, 1, 2]) if self.ignores and r.random() < 0.5 else ""
        return between.join(self.say(x, depth - 1) for x in parts)


def parses(oracle, text):
    """None: that would take the judge too long, for it looks for every way to read an ambiguous text."""
    import lark

    def too_long(*_):
        raise TimeoutError

    signal.signal(signal.SIGVTALRM, too_long)
    signal.setitimer(signal.ITIMER_VIRTUAL, 0.2)
    try:
        oracle.parse(text)
        return True
    except lark.exceptions.LarkError:
        return False
    except TimeoutError:
        return None
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def some_grammars(n):
    import lark
    for i in range(n):
        r = random.Random(SEED * 3000017 + i)
        m = Grammars(r)
        source = m.lark()
        try:
            oracle = lark.Lark(source, parser="earley", lexer="dynamic_complete", ambiguity="forest")
        except lark.exceptions.LarkError:  # a terminal that may be empty, an unused one
            continue
        texts = {m.say(m.rules[0])[:14] for _ in range(6)}
        texts |= {t[:-1] for t in list(texts)[:3]} | {t + r.choice("abc 1") for t in list(texts)[:3]} | {"", "".join(r.choice("abc1 -") for _ in range(r.randint(1, 6)))}
        texts = sorted(texts)
        verdicts = [parses(oracle, t) for t in texts]
        if None in verdicts:
            continue
        yield {"lark": source, "texts": texts, "n": i}, verdicts, oracle
        if not m.ignores:
            yield {"gbnf": m.gbnf(), "texts": texts, "n": i}, verdicts, oracle


@test
def random_grammars_against_lark():
    try:
        import lark  # noqa: F401
    except ImportError:
        raise Skip("python3-lark is not installed")
    cases = list(some_grammars(N // 8 if not SANITIZED else 20))
    bad, why, n_texts, n_valid, n_made = [], {}, 0, 0, 0
    for (case, verdicts, oracle), said in zip(cases, judge(*JUDGE, [c for c, _, _ in cases])):
        source = case.get("lark") or case["gbnf"]
        if "error" in said:
            why[said["error"]] = why.get(said["error"], 0) + 1
            if len(why) < 4 and why[said["error"]] == 1:
                print("# " + repr(source))
            continue
        for text, want, got in zip(case["texts"], verdicts, said["verdicts"]):
            n_texts += 1
            n_valid += want
            if want != got:
                bad.append(f"{case['n']}: {source!r}\n#   {text!r} is {'' if want else 'not '}of it")
        for text in said["made"][:2]:
            if isinstance(text, dict):
                bad.append(f"{case['n']}: {source!r}\n#   a dead end behind {text['dead_end']!r}")
                continue
            if len(text) > 20:
                continue
            n_made += 1
            if parses(oracle, text) is False:
                bad.append(f"{case['n']}: {source!r}\n#   wrote {text!r}")
    print(f"# {len(cases)} grammars, {sum(why.values())} refused, {n_texts} texts ({n_valid} of it), {n_made} written, {len(bad)} misjudged")
    for reason, k in sorted(why.items(), key=lambda x: -x[1])[:8]:
        print(f"#   {k} × {reason}")
    assert not bad, "\n".join("# " + b for b in bad[:15])
    assert sum(why.values()) < len(cases) / 10 and n_valid > n_texts / 8


run_all()
