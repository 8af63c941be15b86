"""Byte-level BPE in GPT-2's alphabet with the `gpt-4o` pre-tokeniser (o200k's pattern): training,
encoding, decoding. Python's re has no \\p classes, so they are spelled out from unicodedata."""
import functools
import re
import sys
import unicodedata
from collections import Counter, defaultdict

SPECIALS = ["<|startoftext|>", "<|endoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", "<|call|>"]
SPECIAL_RE = re.compile("(" + "|".join(re.escape(s) for s in SPECIALS) + ")")


def alphabet():
    """byte → printable character, as GPT-2 fixed it."""
    keep = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    out, extra = {}, 256
    for b in range(256):
        if b in keep:
            out[b] = chr(b)
        else:
            out[b] = chr(extra)
            extra += 1
    return out


BYTE_CHAR = alphabet()
CHAR_BYTE = {c: b for b, c in BYTE_CHAR.items()}


@functools.lru_cache(None)
def char_class(categories):
    ranges, start = [], None
    for cp in range(sys.maxunicode + 2):
        hit = cp <= sys.maxunicode and unicodedata.category(chr(cp)) in categories and not 0xD800 <= cp < 0xE000
        if hit and start is None:
            start = cp
        elif not hit and start is not None:
            ranges.append((start, cp - 1))
            start = None
    esc = lambda cp: re.escape(chr(cp))
    return "".join(esc(a) if a == b else esc(a) + "-" + esc(b) for a, b in ranges)


@functools.lru_cache(None)
def pattern():
    letters = char_class(("Lu", "Ll", "Lt", "Lm", "Lo"))
    digits = char_class(("Nd", "Nl", "No"))
    upper = char_class(("Lu", "Lt", "Lm", "Lo", "Mn", "Mc", "Me"))
    lower = char_class(("Ll", "Lm", "Lo", "Mn", "Mc", "Me"))
    tail = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])?"
    head = "[^\\r\\n%s%s]?" % (letters, digits)
    return re.compile("|".join([
        head + "[%s]*[%s]+%s" % (upper, lower, tail), head + "[%s]+[%s]*%s" % (upper, lower, tail),
        "[%s]{1,3}" % digits, " ?[^\\s%s%s]+[\\r\\n/]*" % (letters, digits), "\\s*[\\r\\n]+", "\\s+(?!\\S)", "\\s+"]))


def pieces(text):
    return pattern().findall(text)


HEADS = 256  # how many words are one token together with the space before them


def train(texts, n_tokens, apart=()):
    """Merges for a vocabulary of n_tokens, specials included. Ties go to the pair that sorts first.

    What a small model must copy has to look the same everywhere: ` Oslo` in a question, `Oslo` in a call, `_oslo` in a name. So the
    character before a word is a token of its own, and so is every digit. Only the commonest lower-case words take their space in, by merges that
    come last, and none of the words in `apart`."""
    counts, spaced = Counter(), Counter()
    for text in texts:
        for part in SPECIAL_RE.split(text):
            if part not in SPECIALS:
                for w in pieces(part):
                    if w[-1].isalpha() and not w[0].isalpha() and len(w) > 1:
                        if w[0] == " ":
                            spaced[w[1:]] += 1
                        w = w[1:]
                    if not w[0].isnumeric():
                        counts[w] += 1
    words = [[list("".join(BYTE_CHAR[b] for b in w.encode())), n] for w, n in sorted(counts.items())]
    pair_count, where = Counter(), defaultdict(set)
    for i, (sym, n) in enumerate(words):
        for pair in zip(sym, sym[1:]):
            pair_count[pair] += n
            where[pair].add(i)
    merges = []
    while len(merges) < n_tokens - 256 - len(SPECIALS) - HEADS:
        pair = min(pair_count, key=lambda p: (-pair_count[p], p))
        if pair_count[pair] <= 0:
            raise ValueError("too little text for %d tokens" % n_tokens)
        merges.append(pair)
        for i in sorted(where.pop(pair)):
            sym, n = words[i]
            for p in zip(sym, sym[1:]):
                pair_count[p] -= n
            out, j = [], 0
            while j < len(sym):
                if j + 1 < len(sym) and (sym[j], sym[j + 1]) == pair:
                    out.append(sym[j] + sym[j + 1])
                    j += 2
                else:
                    out.append(sym[j])
                    j += 1
            words[i][0] = out
            for p in zip(out, out[1:]):
                pair_count[p] += n
                where[p].add(i)
        del pair_count[pair]
    whole = {a + b for a, b in merges}
    common = sorted((w for w in spaced if w in whole and w.islower() and w.isascii() and w not in apart), key=lambda w: (-spaced[w], w))
    return merges + [(BYTE_CHAR[32], w) for w in common[:HEADS]]


class Tokenizer:
    def __init__(self, merges):
        self.merges = [tuple(m) for m in merges]
        self.tokens = [BYTE_CHAR[b] for b in sorted(BYTE_CHAR, key=lambda b: ord(BYTE_CHAR[b]))]
        seen = set(self.tokens)
        for a, b in self.merges:
            if a + b not in seen:
                seen.add(a + b)
                self.tokens.append(a + b)
        while len(self.tokens) < 256 + len(self.merges):  # two merges can make the same token
            self.tokens.append("<|unused_%d|>" % len(self.tokens))
        self.n_text = len(self.tokens)
        self.tokens += SPECIALS
        self.id_of = {t: i for i, t in enumerate(self.tokens)}
        self.rank = {m: i for i, m in enumerate(self.merges)}
        self.cache = {}

    def word(self, w):
        ids = self.cache.get(w)
        if ids is None:
            sym = [BYTE_CHAR[b] for b in w.encode()]
            while len(sym) > 1:
                best = min(range(len(sym) - 1), key=lambda i: self.rank.get((sym[i], sym[i + 1]), 1 << 30))
                if (sym[best], sym[best + 1]) not in self.rank:
                    break
                sym[best:best + 2] = [sym[best] + sym[best + 1]]
            ids = [self.id_of[s] for s in sym]
            if len(self.cache) < 200000:
                self.cache[w] = ids
        return ids

    def encode(self, text, special=True):
        out = []
        for part in SPECIAL_RE.split(text) if special else [text]:
            if special and part in SPECIALS:
                out.append(self.id_of[part])
            elif part:
                for w in pieces(part):
                    out += self.word(w)
        return out

    def decode(self, ids):
        out = b""
        for i in ids:
            t = self.tokens[i]
            out += t.encode() if i >= self.n_text or t not in self.id_of or not all(c in CHAR_BYTE for c in t) else bytes(CHAR_BYTE[c] for c in t)
        return out.decode("utf-8", "replace")

    def encode_document(self, document):
        """ids and, for each, how much it counts in the loss (0 to 1). Neighbouring pieces meet at special tokens or in plain content."""
        ids, learn = [], []
        for text, want in document:
            e = self.encode(text)
            ids += e
            learn += [want] * len(e)
        return ids, learn
