/* What a vocabulary wants done to text before it is cut: Unicode normal forms,
 * replacements, SentencePiece's precompiled rules, BERT's cleaning. Ill-formed
 * bytes pass through every step unchanged.
 */
#include "tok/tok_impl.h"

#include <stdlib.h>
#include <utf8proc.h>

enum {
    MAX_NORMAL_STEPS = 32,
    MAX_RULE_BYTES = 256 /* of one charsmap rule: a damaged trie may have no end */
};

normal_step *normal_add(tok *t, error *err) {
    normal_step *grown = NULL;
    if (t->n_normal < MAX_NORMAL_STEPS)
        grown = realloc(t->normal, (size_t)(t->n_normal + 1) * sizeof *grown);
    if (!grown) {
        error_set(err, t->n_normal < MAX_NORMAL_STEPS ? ERR_NO_MEMORY : ERR_BAD_FILE, NULL,
                  "The tokenizer's %d normalising steps do not fit.", t->n_normal + 1);
        return NULL;
    }
    t->normal = grown;
    normal_step *step = &t->normal[t->n_normal++];
    *step = (normal_step){0};
    return step;
}

/* ── Normal forms ── */

/* A code point and its combining class, or a byte that is not UTF-8 (as RAW + byte, a starter). */
enum { RAW = 0x200000 };

typedef struct points {
    utf8proc_int32_t *cp;
    size_t n, cap;
    bool failed;
} points;

static utf8proc_int32_t *points_reserve(points *p, size_t extra) {
    if (p->cap - p->n < extra) {
        size_t cap = p->cap * 2 + extra + 256;
        utf8proc_int32_t *grown = realloc(p->cp, cap * sizeof *grown);
        if (!grown) {
            p->failed = true;
            return NULL;
        }
        p->cp = grown;
        p->cap = cap;
    }
    return p->cp + p->n;
}

static int combining_class(utf8proc_int32_t cp) {
    return cp >= RAW ? 0 : utf8proc_get_property(cp)->combining_class;
}

static int compare_marks(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

/* Canonical order within each run of marks. utf8proc's own ordering exchanges neighbours, which takes
 * hours for a megabyte of marks; long runs are sorted by (class, place) instead. */
static void order_marks(points *p) {
    for (size_t i = 0; i < p->n;) {
        if (!combining_class(p->cp[i])) {
            i++;
            continue;
        }
        size_t end = i;
        while (end < p->n && combining_class(p->cp[end])) end++;
        size_t n = end - i;
        if (n <= 16) {
            for (size_t a = i + 1; a < end; a++)
                for (size_t b = a;
                     b > i && combining_class(p->cp[b - 1]) > combining_class(p->cp[b]); b--) {
                    utf8proc_int32_t swap = p->cp[b];
                    p->cp[b] = p->cp[b - 1];
                    p->cp[b - 1] = swap;
                }
        } else {
            uint64_t *keys = malloc(n * sizeof *keys);
            utf8proc_int32_t *copy = malloc(n * sizeof *copy);
            if (keys && copy) {
                memcpy(copy, p->cp + i, n * sizeof *copy);
                for (size_t k = 0; k < n; k++)
                    keys[k] = (uint64_t)combining_class(copy[k]) << 32 | k;
                qsort(keys, n, sizeof *keys, compare_marks);
                for (size_t k = 0; k < n; k++) p->cp[i + k] = copy[(uint32_t)keys[k]];
            } else {
                p->failed = true;
            }
            free(keys);
            free(copy);
        }
        i = end;
    }
}

/* utf8proc composes a whole string of code points, which must hold no RAW ones. */
static void compose(points *p) {
    size_t to = 0;
    for (size_t i = 0; i < p->n;) {
        size_t end = i;
        while (end < p->n && p->cp[end] < RAW) end++;
        utf8proc_ssize_t n = 0;
        if (end > i)
            n = utf8proc_normalize_utf32(p->cp + i, (utf8proc_ssize_t)(end - i),
                                         UTF8PROC_COMPOSE | UTF8PROC_STABLE);
        if (n < 0) n = 0;
        memmove(p->cp + to, p->cp + i, (size_t)n * sizeof *p->cp);
        to += (size_t)n;
        for (i = end; i < p->n && p->cp[i] >= RAW; i++) p->cp[to++] = p->cp[i];
    }
    p->n = to;
}

/* Below U+00C0 nothing decomposes canonically, and below U+0300 nothing composes with what precedes
 * it: composed forms of text made only of those are the text itself. */
static bool is_normal_already(str text, normal_op op) {
    unsigned limit = op == NORMAL_NFC   ? 0xCC
                     : op == NORMAL_NFD ? 0xC3
                                        : 0x80; /* lead bytes of U+0300, U+00C0 */
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] >= limit) return false;
    return true;
}

static bool normal_form(str text, normal_op op, buf *out) {
    points p = {0};
    utf8proc_option_t how = UTF8PROC_DECOMPOSE | UTF8PROC_STABLE;
    if (op == NORMAL_NFKC || op == NORMAL_NFKD) how |= UTF8PROC_COMPAT;
    for (size_t i = 0; i < text.len && !p.failed;) {
        uint32_t cp;
        int n = utf8_decode(text, i, &cp);
        utf8proc_int32_t *to = points_reserve(&p, 32); /* the longest decomposition has 18 */
        if (!to) break;
        if (!n) {
            to[0] = RAW + (unsigned char)text.ptr[i++];
            p.n++;
            continue;
        }
        int boundary = 0;
        utf8proc_ssize_t k = utf8proc_decompose_char((utf8proc_int32_t)cp, to, 32, how, &boundary);
        if (k < 0 || k > 32) to[0] = (utf8proc_int32_t)cp, k = 1;
        p.n += (size_t)k;
        i += (size_t)n;
    }
    order_marks(&p);
    if (op == NORMAL_NFC || op == NORMAL_NFKC) compose(&p);
    for (size_t i = 0; i < p.n; i++) {
        if (p.cp[i] >= RAW)
            buf_append_char(out, (char)(p.cp[i] - RAW));
        else
            buf_append_utf8(out, (uint32_t)p.cp[i]);
    }
    bool ok = !p.failed && !out->failed;
    free(p.cp);
    return ok;
}

/* ── Character by character ── */
static bool is_cjk(uint32_t cp) {
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
           (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B81F) ||
           (cp >= 0x2B820 && cp <= 0x2CEAF) || (cp >= 0xF900 && cp <= 0xFAFF) ||
           (cp >= 0x2F800 && cp <= 0x2FA1F);
}

/* What BERT's cleaning drops: Cc, Cf and Co but for tab and line ends, so also those controls that Unicode
 * calls white space; what is not assigned stays. */
static bool is_bert_control(uint32_t cp) {
    if (cp == '\t' || cp == '\n' || cp == '\r') return false;
    utf8proc_category_t category = utf8proc_category((utf8proc_int32_t)cp);
    return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
           category == UTF8PROC_CATEGORY_CO;
}

static void map_characters(const normal_step *step, str text, buf *out) {
    for (size_t i = 0; i < text.len;) {
        character c = char_at(text, i);
        str bytes = str_make(text.ptr + i, (size_t)c.len);
        i += (size_t)c.len;
        bool ill_formed = c.cp == 0xFFFD && c.len == 1;
        if (step->op == NORMAL_LOWER && !ill_formed) {
            /* The one lower-case mapping that is two characters long. */
            if (c.cp == 0x130)
                buf_append_cstr(out, "i\xCC\x87");
            else
                buf_append_utf8(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)c.cp));
        } else if (step->op == NORMAL_STRIP_ACCENTS) {
            if (ill_formed || utf8proc_category((utf8proc_int32_t)c.cp) != UTF8PROC_CATEGORY_MN)
                buf_append_str(out, bytes);
        } else if (step->op == NORMAL_BERT) {
            if (step->a && ((c.cp == 0xFFFD && c.len == 3) || is_bert_control(c.cp))) continue;
            if (step->a && c.class & C_SPACE) {
                buf_append_char(out, ' ');
            } else if (step->b && is_cjk(c.cp)) {
                buf_append_char(out, ' ');
                buf_append_str(out, bytes);
                buf_append_char(out, ' ');
            } else {
                buf_append_str(out, bytes);
            }
        } else {
            buf_append_str(out, bytes);
        }
    }
}

static str strip(str s, bool left, bool right) {
    while (left && s.len) {
        character c = char_at(s, 0);
        if (!(c.class & C_SPACE)) break;
        s.ptr += c.len;
        s.len -= (size_t)c.len;
    }
    while (right && s.len) {
        size_t last = s.len - 1;
        while (last > 0 && ((unsigned char)s.ptr[last] & 0xC0) == 0x80) last--;
        if (!(char_at(s, last).class & C_SPACE)) break;
        s.len = last;
    }
    return s;
}

static void squeeze(const scratch *s, str text, buf *out) {
    bool pending = false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == ' ') {
            pending = out->len > 0 || s->goes_on;
            continue;
        }
        if (pending) buf_append_char(out, ' ');
        pending = false;
        buf_append_char(out, text.ptr[i]);
    }
    if (pending && s->is_cut) buf_append_char(out, ' ');
}

/* ── SentencePiece's precompiled rules ──
 * u32 bytes of a double-array trie (Darts-clone's units), the trie, then NUL-terminated replacements;
 * a trie value is an offset into those. The longest rule that matches here is applied. */
static uint32_t unit_at(str trie, uint32_t i, bool *ok) {
    uint32_t unit = 0;
    if ((uint64_t)i * 4 + 4 > trie.len)
        *ok = false;
    else
        memcpy(&unit, trie.ptr + (size_t)i * 4, 4);
    return unit;
}

static void charsmap(str rules, str text, buf *out) {
    uint32_t trie_bytes = 0;
    if (rules.len >= 4) memcpy(&trie_bytes, rules.ptr, 4);
    if (rules.len < 4 || trie_bytes > rules.len - 4) {
        buf_append_str(out, text);
        return;
    }
    str trie = str_make(rules.ptr + 4, trie_bytes);
    str words = str_make(trie.ptr + trie_bytes, rules.len - 4 - trie_bytes);
    for (size_t i = 0; i < text.len;) {
        bool ok = true;
        uint32_t unit = unit_at(trie, 0, &ok), node = 0;
        size_t longest = 0;
        uint32_t value = 0;
        /* unit: bits 0–7 label, bit 8 has a leaf, bit 9 wide offset, 10–30 offset; leaf: value in 0–30 */
        node ^= unit >> 10 << ((unit & 1u << 9) >> 6);
        for (size_t k = i; ok && k < text.len && k - i < MAX_RULE_BYTES && text.ptr[k]; k++) {
            unsigned char label = (unsigned char)text.ptr[k];
            node ^= label;
            unit = unit_at(trie, node, &ok);
            if (!ok || (unit & (1u << 31 | 0xFF)) != label) break;
            node ^= unit >> 10 << ((unit & 1u << 9) >> 6);
            if (unit >> 8 & 1) {
                uint32_t leaf = unit_at(trie, node, &ok);
                if (ok) longest = k + 1 - i, value = leaf & 0x7FFFFFFF;
            }
        }
        if (longest && value < words.len) {
            const char *word = words.ptr + value;
            buf_append(out, word, strnlen(word, words.len - value));
            i += longest;
        } else {
            int n = char_at(text, i).len;
            buf_append(out, text.ptr + i, (size_t)n);
            i += (size_t)n;
        }
    }
}

/* ── All steps ── */
static void replace(scratch *s, const normal_step *step, str text, buf *out) {
    size_t done = 0, from = 0, begin, end;
    while (from <= text.len) {
        if (step->op == NORMAL_REPLACE) {
            ptrdiff_t hit = step->from.len ? str_find(text, step->from, from) : -1;
            if (hit < 0) break;
            begin = (size_t)hit;
            end = begin + step->from.len;
        } else if (!regex_find(step->re, &s->re, text, from, &begin, &end)) {
            break;
        }
        buf_append(out, text.ptr + done, begin - done);
        buf_append_str(out, step->to);
        done = from = end;
        if (end == begin) from += end < text.len ? (size_t)char_at(text, end).len : 1;
    }
    buf_append(out, text.ptr + done, text.len - done);
}

str normal_apply(scratch *s, str text) {
    const tok *t = s->t;
    int turn = 0;
    for (int i = 0; i < t->n_normal && text.len; i++) {
        const normal_step *step = &t->normal[i];
        buf *out = &s->norm[turn];
        buf_clear(out);
        switch (step->op) {
        case NORMAL_NFC:
        case NORMAL_NFD:
        case NORMAL_NFKC:
        case NORMAL_NFKD:
            if (is_normal_already(text, step->op)) continue;
            if (!normal_form(text, step->op, out)) s->failed = true;
            break;
        case NORMAL_STRIP: text = strip(text, step->a, step->b); continue;
        case NORMAL_LOWER:
        case NORMAL_STRIP_ACCENTS:
        case NORMAL_BERT: map_characters(step, text, out); break;
        case NORMAL_PREPEND:
            buf_append_str(out, step->to);
            buf_append_str(out, text);
            break;
        case NORMAL_REPLACE_RE:
            if (!utf8_is_valid(text)) continue;
            replace(s, step, text, out);
            break;
        case NORMAL_REPLACE: replace(s, step, text, out); break;
        case NORMAL_CHARSMAP: charsmap(step->from, text, out); break;
        case NORMAL_SQUEEZE: squeeze(s, text, out); break;
        }
        if (out->failed) s->failed = true;
        if (s->failed) return (str){0};
        text = buf_str(out);
        turn = !turn;
    }
    return text;
}
