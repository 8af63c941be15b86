#!/usr/bin/env python3
"""Tokenizers against plain ones written here and against SentencePiece itself, on random and nasty texts.

ORIEL_TOKENS says how many texts each vocabulary gets, ORIEL_TOKENS_SEED where they begin. Without ORIEL_TOKENS only the
small vocabularies are read."""
import base64, io, os, random, struct, sys, tempfile, unicodedata

from oriel import CORPUS, SANITIZED, Skip, debian_modules, judge, run_all, test

debian_modules("regex", "sentencepiece")
import regex
import sentencepiece

SOAK = bool(os.environ.get("ORIEL_TOKENS"))
N = int(os.environ.get("ORIEL_TOKENS") or 150)
SEED = int(os.environ.get("ORIEL_TOKENS_SEED") or 1)
if SANITIZED:
    N = min(N, 30)

# ── Texts ──

WORDS = """the a Hello WORLD don't I'M you'Re we'LL they'VE it's he'D o'clock 'tis 'S 's' 'ſ 'Ll isn’t I’m ’S s's I'ſ x'llama cafe café naïve Straße ẞ ﬀ ǅ Ǆ ǆ İ ı ſ K Å İstanbul ΣΊΣΥΦΟΣ ς
Größe camelCase HTTPServer iPhone XMLHttpRequest snake_case __init__ 3rd x2 1st 10km ½ ² Ⅷ ٣٤٥ ０１２ १२३ 1,000 3.14 1e-10 0x1F Привет мир עברית שָׁלוֹם العربية مُحَمَّد ไทย ภาษา हिन्दी नमस्ते 日本語 中文 한국어 각 가각 ｶﾀｶﾅ ガ か゚ 東京都 𠀀 𝔘𝔫𝔦
é é ạ́ ạ́ é́ Å ḍ̇ ḍ̇ ｅ ™ ① … — – “x” ‘y’ «z» ¿qué? ## // /* */ -> => == != ++ :) http://a.b/c?d=e&f=%20 <b> </b> <| |> <0x0A> <0xFF> <s> </s> <unk> [UNK] [CLS] [SEP] ▁ ▁▁ ▁the ##ing Ġ Ċ
🙂 👍🏽 🇮🇳 👨‍👩‍👧 🏴‍☠️ 🤷🏿‍♀️ ☠️ 1️⃣ \\n {} [] () "q" `c` $x$ a/b // /// .../ a.b,c;d""".split()
SPACES = [" ", "  ", "   ", "\n", "\n\n", "\r\n", "\r", "\t", "\u00a0", "\u2028", "\u2029", "\u3000", "\u2003", "\u200b", "\u1680", "\u180e", "\u0085", "\x0b", "\x0c", "\x1c", "\x1f", " \n", "\n ", " \r\n ", "\t\n", "\ufeff"]
ODD = ["\0", "\x01", "\x7f", "\x9f", "\u00ad", "\u0301", "\u0308", "\u20dd", "\u0327", "\u093f", "\u200d", "\u200c", "\u202e", "\ufe0f", "\ufffd", "\ue000", "\uffff", "\U0010ffff", "\U000e0041", "\u0378", "'", "’", "\u1100\u1161\u11a8",
       "\u0345", "\u0344", "\u2126", "\ufb1d", "\U0001d15e", "\u0958", "\u2adc", "\u1e9b\u0323", "\u3099", "\u0130", "\u00df", "/", "\\", "\u0f73", "\u0f71\u0f72", "\ufb01", "\uff76\uff9e", "\ufdfa", "\u33a2"]
BROKEN = [b"\xff", b"\xc3", b"\xe2\x96", b"\xf0\x9f\x99", b"\x80", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf5", b"\xe2\x28\xa1"]


def by_category():
    """Characters of each category that Python's Unicode and newer ones agree on."""
    found = {}
    for c in range(0x110000):
        found.setdefault(unicodedata.category(chr(c)), []).append(c)
    del found["Cs"], found["Cn"]  # no text; and it depends on Unicode's version what is assigned
    return found


CATEGORIES = by_category()
SCRIPTS = [(0x20, 0x7E), (0x20, 0x7E), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x3FF), (0x400, 0x4FF), (0x590, 0x5F4), (0x600, 0x6FF), (0x900, 0x97F), (0xE01, 0xE3A), (0x1100, 0x11FF), (0x1E00, 0x1FFE), (0x2000, 0x206F),
           (0x2100, 0x218B), (0x3000, 0x30FF), (0x4E00, 0x9FA5), (0xAC00, 0xD7A3), (0xFB00, 0xFDFB), (0xFF01, 0xFFEE), (0x1F300, 0x1F5FF)]


def assigned(r, lo, hi):
    while unicodedata.category(c := chr(r.randint(lo, hi))) == "Cn":
        pass
    return c


def atom(r, specials):
    roll = r.random()
    if roll < 0.36:
        w = r.choice(WORDS)
        return w if r.random() < 0.8 else r.choice([w.upper(), w.lower(), w.title(), unicodedata.normalize("NFD", w), unicodedata.normalize("NFC", w), w + w, w[:r.randint(1, 4)]])
    if roll < 0.60:
        return r.choice(SPACES) if r.random() < 0.4 else " " * r.choice([1, 1, 1, 1, 2, 3, 5])
    if roll < 0.66:
        return "".join(r.choice("0123456789") for _ in range(r.choice([1, 2, 3, 4, 5, 7, 12])))
    if roll < 0.72:
        return r.choice(ODD)
    if roll < 0.79:
        return "".join(chr(r.choice(CATEGORIES[r.choice(sorted(CATEGORIES))])) for _ in range(r.randint(1, 3)))
    if roll < 0.87:
        lo, hi = r.choice(SCRIPTS)
        return "".join(assigned(r, lo, hi) for _ in range(r.randint(1, 6)))
    if roll < 0.92:
        return "".join(r.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") for _ in range(r.randint(1, 5)))
    if roll < 0.95:
        return r.choice(["a", " ", "\n", "0", "é", "日", "\u0301", "=", "-", "\t", " \n", "ab", "!", "\u3000", "🙂", "\r\n", "ー"]) * r.choice([2, 3, 7, 16, 33, 40, 101])
    if specials and roll < 0.985:
        s = r.choice(specials)
        return s if r.random() < 0.7 else s[:r.randint(1, len(s))]
    return r.choice(["\u0301 ", " \u0301", "a\u0301\u0327", "e\u0327\u0301", "\n\u0301", "\u0301\n"])


def text(r, specials=(), broken=False):
    parts = [atom(r, specials).encode("utf-8") for _ in range(r.choice([1, 1, 2, 3, 4, 6, 9, 14, 25]))]
    if broken and r.random() < 0.25:
        for _ in range(r.randint(1, 3)):
            parts.insert(r.randrange(len(parts) + 1), r.choice(BROKEN))
    joined = b"".join(parts)
    if broken and r.random() < 0.05:
        joined = joined[r.randint(0, 3):len(joined) - r.randint(0, 3)]
    return joined


# ── Oracles: text (bytes) → ids ──

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}" + TAIL
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
O200K = "|".join(rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}{a}{LOWER}{b}(?i:'s|'t|'re|'ve|'m|'ll|'d)?" for a, b in ("*+", "+*")) + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = "|".join(rf"[^\r\n\p{{L}}\p{{N}}]?{UPPER}{a}{LOWER}{b}" for a, b in ("*+", "+*")) + r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
CJK = "[一-龥\u0800-一가-\ud7ff]+"
PATTERNS = {
    "gpt-2": [GPT2], "llama-bpe": [LLAMA3], "gpt-4o": [O200K], "tekken": [TEKKEN], "starcoder": [r"\p{N}", GPT2], "dbrx": [LLAMA3],
    "qwen2": [LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")], "stablelm2": [LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")], "qwen35": [LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}").replace(r"?\p{L}+", r"?[\p{L}\p{M}]+")],
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"], "default": [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", CJK, r"\p{N}"],
    "deepseek-v3": [r"\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""],
    "bloom": [" ?[^(\\s|.,!?…。，、।۔،)]+"],
}
COMPOSED = {"qwen2", "qwen35"}


def pieces(patterns, s):
    parts = [s]
    for p in patterns:
        cut = []
        for part in parts:
            at = 0
            for m in regex.finditer(p, part):
                cut += [part[at:m.start()], m.group()]
                at = m.end()
            cut.append(part[at:])
        parts = [c for c in cut if c]
    return parts


def best_first(symbols, rank):
    """Joins the two neighbours that rank lowest, the leftmost of several, until none has a rank."""
    while len(symbols) > 1:
        best = min(((r, i) for i in range(len(symbols) - 1) if (r := rank(symbols[i], symbols[i + 1])) is not None), default=None)
        if not best:
            break
        i = best[1]
        symbols[i:i + 2] = [symbols[i] + symbols[i + 1]]
    return symbols


class Bytes:
    """Byte-level BPE. ids: bytes → id; rank: of two symbols, None when they do not join."""

    def __init__(self, ids, rank, patterns, composed=False, whole_first=True):
        self.ids, self.rank, self.patterns, self.composed, self.whole_first, self.known = ids, rank, patterns, composed, whole_first, {}

    def encode(self, raw):
        s = raw.decode("utf-8", "surrogateescape")
        if self.composed:
            s = unicodedata.normalize("NFC", s)
        return [i for p in pieces(self.patterns, s) for i in self.piece(p.encode("utf-8", "surrogateescape"))]

    def piece(self, p):
        if p not in self.known:
            whole = self.whole_first and p in self.ids
            self.known[p] = [self.ids[p]] if whole else [self.ids[b] for b in best_first([bytes([c]) for c in p], self.rank) if b in self.ids]
        return self.known[p]


def alphabet():
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [b for b in range(256) if b not in plain]
    return {**{chr(b): b for b in plain}, **{chr(256 + i): b for i, b in enumerate(rest)}}


def read_gguf(path):
    """The metadata of a GGUF file."""
    with open(path, "rb") as f:
        data = f.read()
    at, forms = 24, {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

    def string():
        nonlocal at
        n = int.from_bytes(data[at:at + 8], "little")
        at += 8 + n
        return data[at - n:at]

    def value(kind):
        nonlocal at
        if kind == 8:
            return string()
        if kind == 9:
            inner, n = struct.unpack_from("<IQ", data, at)
            at += 12
            if inner == 8:
                return [string() for _ in range(n)]
            form = f"<{n}{forms[inner]}"
            at += struct.calcsize(form)
            return struct.unpack_from(form, data, at - struct.calcsize(form))
        form = "<" + forms[kind]
        at += struct.calcsize(form)
        return struct.unpack_from(form, data, at - struct.calcsize(form))[0]

    found = {}
    for _ in range(struct.unpack_from("<Q", data, 16)[0]):
        key = string().decode()
        at += 4
        found[key] = value(int.from_bytes(data[at - 4:at], "little"))
    return found


def gguf_bytes(path, pre, whole_first):
    g, undo = read_gguf(path), alphabet()

    def plain(t):
        try:
            return bytes(undo[c] for c in t.decode())
        except KeyError:
            return None

    ids = {}
    for i, t in enumerate(g["tokenizer.ggml.tokens"]):
        if g["tokenizer.ggml.token_type"][i] == 1 and plain(t) is not None and not t.startswith(b"<|"):
            ids.setdefault(plain(t), i)
    ranks = {}
    for i, m in enumerate(g["tokenizer.ggml.merges"]):
        ranks.setdefault(tuple(plain(x) for x in m.split(b" ")), i)
    return Bytes(ids, lambda a, b: ranks.get((a, b)), PATTERNS[pre], pre in COMPOSED, whole_first), named(g)


def named(g):
    return [t.decode() for t, kind in zip(g["tokenizer.ggml.tokens"], g["tokenizer.ggml.token_type"]) if kind in (3, 4)][:40]


def ranks_bytes(path, pre, most=None):
    with open(path, "rb") as f:
        ids = {base64.b64decode(a): int(b) for a, b in (line.split() for line in list(f)[:most])}
    return Bytes(ids, lambda a, b: ids.get(a + b), PATTERNS[pre], pre in COMPOSED)


class Bert:
    """WordPiece after BERT's own cleaning, without accents and case."""

    def __init__(self, path):
        g = read_gguf(path)
        self.names = [n for n in named(g) if n != "[UNK]"]
        self.ids = {t.decode(): i for i, t in enumerate(g["tokenizer.ggml.tokens"])}
        self.unknown = self.ids["[UNK]"]
        for n in self.names:
            del self.ids[n]

    def encode(self, raw):
        out = []
        for c in raw.decode():
            cp, kind = ord(c), unicodedata.category(c)
            if cp == 0xFFFD or (kind in ("Cc", "Cf", "Co") and c not in "\t\n\r"):
                continue
            if regex.match(r"\s", c):
                out.append(" ")
            elif 0x4E00 <= cp <= 0x9FFF or 0x3400 <= cp <= 0x4DBF or 0x20000 <= cp <= 0x2A6DF or 0x2A700 <= cp <= 0x2CEAF or 0xF900 <= cp <= 0xFAFF or 0x2F800 <= cp <= 0x2FA1F:
                out.append(f" {c} ")
            else:
                out.append(c)
        plain = "".join(c.lower() for c in unicodedata.normalize("NFD", "".join(out)) if unicodedata.category(c) != "Mn")
        spaced = regex.sub(r"[\p{P}$+<=>^`|~]", r" \g<0> ", plain)
        return [i for word in spaced.split(" ") if word for i in self.word(word)]

    def word(self, w):
        ids, at = [], 0
        while at < len(w) <= 100:
            for end in range(len(w), at, -1):
                i = self.ids.get(("" if at else "\u2581") + w[at:end])
                if i is not None and not (at and w[at] == "\u2581"):  # which the file writes before what begins a word
                    ids.append(i)
                    at = end
                    break
            else:
                return [self.unknown]
        return ids if at else [self.unknown]


# ── Tests ──

def compare(name, load, oracle, specials=(), broken=True, skip=lambda t: False, mixed=()):
    """Every text without special tokens, and some with them between two texts that are encoded apart."""
    r = random.Random(f"{SEED} {name}")
    texts = [t for t in (text(r, mixed, broken) for _ in range(N)) if not skip(t) and not any(s.encode() in t for s in specials)]
    said = judge("tests/unit/tok/test_encode", "ORIEL_ENCODE", [load] + [{"bytes": t.hex()} for t in texts])
    assert "loaded" in said[0], f"{name}: {said[0]}"
    bad = []
    for t, s in zip(texts, said[1:]):
        want = oracle(t)
        if want != s["ids"]:
            bad.append(f"{name} {t!r:.300}\n#   want {want[:30]}\n#   have {s['ids'][:30]}")
        elif bytes.fromhex(s["stream"]) != bytes.fromhex(s["text"]).decode("utf-8", "replace").encode():
            bad.append(f"{name} {t!r:.300} streams as {bytes.fromhex(s['stream'])!r:.300}")
    print(f"# {name}: {len(texts) - len(bad)} of {len(texts)}")
    return bad, texts, said[1:]


def fail_on(bad):
    assert not bad, "\n".join("# " + b for b in bad[:12])


def path_of(*parts):
    if not CORPUS:
        raise Skip("ORIEL_CORPUS is not set")
    return os.path.join(CORPUS, "tokenizers", *parts)


@test
def patterns_cut_as_written():
    """Each pre-tokeniser that files name, over the first ranks of o200k; and what was cut is put together again."""
    bad, file = [], path_of("o200k/o200k_base.tiktoken")
    with tempfile.TemporaryDirectory() as d:
        few = os.path.join(d, "few")
        with open(file, "rb") as f, open(few, "wb") as g:
            g.writelines(list(f)[:6000])
        for pre in PATTERNS:
            oracle = ranks_bytes(few, pre)
            wrong, texts, said = compare("pattern " + pre, {"load": "tiktoken", "path": few, "pre": pre}, oracle.encode)
            bad += wrong
            if pre not in COMPOSED:
                bad += [f"{pre} {t!r:.300} comes back as {s['text']}" for t, s in zip(texts, said) if bytes.fromhex(s["text"]) != t]
    fail_on(bad)


@test
def byte_level_vocabularies():
    bad = []
    for name, pre, whole in [("gpt-2", "gpt-2", False)] + SOAK * [("llama-bpe", "llama-bpe", True), ("qwen2", "qwen2", False), ("starcoder", "starcoder", False), ("mpt", "gpt-2", False)]:
        file = path_of("llama.cpp-vocabs", f"ggml-vocab-{name}.gguf")
        oracle, specials = gguf_bytes(file, pre, whole)
        bad += compare(name, {"load": "gguf", "path": file}, oracle.encode, [s for s in specials if not s.isspace()], skip=lambda t: name == "mpt" and b"  " in t)[0]
    for name, pre in SOAK * [("o200k_base", "gpt-4o"), ("cl100k_base", "llama-bpe")]:
        file = path_of("o200k", name + ".tiktoken")
        bad += compare(name, {"load": "tiktoken", "path": file, "pre": pre}, ranks_bytes(file, pre).encode)[0]
    fail_on(bad)


@test
def words_of_bert():
    file = path_of("llama.cpp-vocabs", "ggml-vocab-bert-bge.gguf")
    oracle = Bert(file)
    fail_on(compare("bert", {"load": "gguf", "path": file}, oracle.encode, oracle.names + ["[UNK]"], broken=False)[0])


@test
def sentencepiece_says_the_same():
    """Llama 2's model in the three forms it comes in, and small models trained here with all kinds of options."""
    file = path_of("llama2", "tokenizer.model")
    marks = lambda t: any(s in t for s in (b"<s>", b"</s>", b"<unk>"))
    sp = sentencepiece.SentencePieceProcessor(model_file=file)
    bad = []
    for load, name in (("sentencepiece", file), ("llama2c", path_of("llama2", "tokenizer.bin")), ("gguf", path_of("llama.cpp-vocabs", "ggml-vocab-llama-spm.gguf"))):
        bad += compare("llama2 " + load, {"load": load, "path": name}, lambda t: sp.encode(t.decode()), broken=False, skip=marks)[0]
    r = random.Random(f"{SEED} trained")
    lines = [x for x in (text(r).decode().replace("\n", " ").replace("\0", "") for _ in range(500)) if x.strip()]
    with tempfile.TemporaryDirectory() as d:
        for k, (kind, more) in enumerate([(kind, more) for more in [{}, {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}, {"normalization_rule_name": "nfkc_cf", "add_dummy_prefix": False}, {
                "normalization_rule_name": "nfkc", "split_digits": True}] for kind in ("unigram", "bpe")]):
            model = io.BytesIO()
            size = {"vocab_size": 2400, "hard_vocab_limit": False} if kind == "unigram" else {"vocab_size": 2400}
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, model_type=kind, character_coverage=0.98, minloglevel=2, **size, **more)
            small = os.path.join(d, str(k))
            with open(small, "wb") as f:
                f.write(model.getvalue())
            own = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
            bad += compare(f"{kind} {more}", {"load": "sentencepiece", "path": small}, lambda t: own.encode(t.decode()), broken=False, skip=lambda t: marks(t) or b"\xe2\x96\x81" in t)[0]
    fail_on(bad)


@test
def only_what_is_trusted_is_special():
    """Texts with special tokens: all of them, none, and those that lie inside one of the spans that are trusted."""
    file = path_of("llama.cpp-vocabs", "ggml-vocab-llama-bpe.gguf")
    oracle, _ = gguf_bytes(file, "llama-bpe", True)
    g = read_gguf(file)
    ids = {t: i for i, (t, kind) in enumerate(zip(g["tokenizer.ggml.tokens"], g["tokenizer.ggml.token_type"])) if kind == 3}
    names = sorted(ids, key=len, reverse=True)
    few = [b"<|begin_of_text|>", b"<|eot_id|>", b"<|start_header_id|>", b"<|end_header_id|>"]
    assert set(few) <= set(ids)
    r = random.Random(f"{SEED} trusted")
    lines, wanted = [], []
    for k in range(N):
        raw, spans = b"", []
        for _ in range(r.randint(1, 6)):
            begin = len(raw)
            raw += r.choice(few) * r.choice([1, 1, 1, 2]) if r.random() < 0.5 else text(r, ["<|eot_id|>"])
            roll = r.random()
            if roll < 0.4:
                spans.append([begin, len(raw)])
            elif roll < 0.6 and len(raw) - begin > 2:  # a part of it, which is not enough
                spans.append(sorted(r.sample(range(begin, len(raw) + 1), 2)))
        mode = ("all", "none", "trusted", "trusted")[k % 4]
        if mode == "all":
            spans = [[0, len(raw)]]
        allowed = lambda a, b: mode != "none" and any(s <= a and b <= e for s, e in spans)
        want, at, begin = [], 0, 0
        while at < len(raw):
            name = next((n for n in names if raw.startswith(n, at) and allowed(at, at + len(n))), None) if raw[at] == names[0][0] else None
            if name:
                want += (oracle.encode(raw[begin:at]) if at > begin else []) + [ids[name]]
                at = begin = at + len(name)
            else:
                at += 1
        wanted.append(want + (oracle.encode(raw[begin:]) if begin < len(raw) else []))
        lines.append({"bytes": raw.hex(), "special": mode != "none", **({"trusted": spans} if mode == "trusted" else {})})
    said = judge("tests/unit/tok/test_encode", "ORIEL_ENCODE", [{"load": "gguf", "path": file}] + lines)
    bad = [f"{line} want {w[:30]} have {s['ids'][:30]}" for line, w, s in zip(lines, wanted, said[1:]) if w != s["ids"]]
    print(f"# trusted spans: {len(lines) - len(bad)} of {len(lines)}")
    fail_on(bad)


USER_WORDS = ["<sep>", "<|x|>", "[A]", "##", "zq", "don't", "Größe", "日本", "<se", "🙂🙂", "1,000"]


@test
def sentencepiece_keeps_words_of_the_user():
    """Words that the user defined stay whole wherever they stand, the longest of those at one place."""
    bad = []
    r = random.Random(f"{SEED} user")
    lines = [x for x in (text(r, USER_WORDS).decode().replace("\n", " ").replace("\0", "") for _ in range(500)) if x.strip()]
    marks = lambda t: any(s in t for s in (b"<s>", b"</s>", b"<unk>", b"\xe2\x96\x81"))
    with tempfile.TemporaryDirectory() as d:
        for k, (kind, more) in enumerate([(kind, more) for more in [{}, {"byte_fallback": True, "normalization_rule_name": "identity", "remove_extra_whitespaces": False}, {"normalization_rule_name": "nfkc_cf", "add_dummy_prefix": False}] for kind in ("unigram", "bpe")]):
            model = io.BytesIO()
            size = {"vocab_size": 2400, "hard_vocab_limit": False} if kind == "unigram" else {"vocab_size": 2400}
            sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=model, model_type=kind, character_coverage=0.98, minloglevel=2, user_defined_symbols=USER_WORDS, **size, **more)
            small = os.path.join(d, str(k))
            with open(small, "wb") as f:
                f.write(model.getvalue())
            own = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
            bad += compare(f"user's words, {kind} {more}", {"load": "sentencepiece", "path": small}, lambda t: own.encode(t.decode()), broken=False, skip=marks, mixed=USER_WORDS)[0]
    fail_on(bad)


run_all()
