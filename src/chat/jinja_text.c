/* Strings as characters: Python's str operations, by code point, keeping
 * provenance. Ill-formed bytes cannot get in through a template or JSON; should
 * one appear, it counts as one character.
 *
 * Case follows Unicode's simple mappings plus the two full ones that ordinary
 * text meets: ß → SS, and a word-final Σ → ς.
 */
#include "chat/jinja_impl.h"

#include <utf8proc.h>

uint32_t jinja_char(str s, size_t at, size_t *next) {
    unsigned char c = (unsigned char)s.ptr[at];
    if (c < 0x80) {
        *next = at + 1;
        return c;
    }
    uint32_t cp;
    int n = utf8_decode(s, at, &cp);
    *next = at + (n > 0 ? (size_t)n : 1);
    return cp;
}

size_t jinja_n_chars(value s) {
    if (s.s->n_chars < 0) s.s->n_chars = (ptrdiff_t)utf8_count(as_str(s));
    return (size_t)s.s->n_chars;
}

size_t jinja_offset(value s, size_t at) {
    str t = as_str(s);
    if (jinja_n_chars(s) == t.len) return at < t.len ? at : t.len;
    size_t off = 0;
    while (at-- > 0 && off < t.len) jinja_char(t, off, &off);
    return off;
}

/* ── Classes ── */

bool jinja_is_space(uint32_t cp) {
    return (cp >= 9 && cp <= 13) || (cp >= 28 && cp <= 32) || cp == 0x85 || cp == 0xA0 ||
           cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

static utf8proc_category_t category(uint32_t cp) {
    return utf8proc_category((utf8proc_int32_t)cp);
}

bool jinja_is_alpha(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    return c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
}
bool jinja_is_decimal(uint32_t cp) {
    return category(cp) == UTF8PROC_CATEGORY_ND;
}
bool jinja_is_digit(uint32_t cp) {
    return jinja_is_decimal(cp) || cp == 0xB2 || cp == 0xB3 || cp == 0xB9 || cp == 0x2070 ||
           (cp >= 0x2074 && cp <= 0x2079) || (cp >= 0x2080 && cp <= 0x2089) ||
           (cp >= 0x2460 && cp <= 0x2468);
}
bool jinja_is_numeric(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_ND || c == UTF8PROC_CATEGORY_NL || c == UTF8PROC_CATEGORY_NO;
}
bool jinja_is_alnum(uint32_t cp) {
    return jinja_is_alpha(cp) || jinja_is_numeric(cp);
}
bool jinja_is_word(uint32_t cp) {
    if (cp < 128)
        return (cp >= '0' && cp <= '9') || ((cp | 32) >= 'a' && (cp | 32) <= 'z') || cp == '_';
    return jinja_is_alnum(cp);
}
bool jinja_is_printable(uint32_t cp) {
    if (cp == ' ') return true;
    switch (category(cp)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP: return false;
    default: return true;
    }
}

bool jinja_all_chars(value s, char_test *test) {
    str t = as_str(s);
    for (size_t at = 0, next; at < t.len; at = next)
        if (!test(jinja_char(t, at, &next))) return false;
    return t.len > 0;
}

static uint32_t upper(uint32_t cp) {
    return cp < 128 ? (cp >= 'a' && cp <= 'z' ? cp - 32 : cp)
                    : (uint32_t)utf8proc_toupper((utf8proc_int32_t)cp);
}
static uint32_t lower(uint32_t cp) {
    return cp < 128 ? (cp >= 'A' && cp <= 'Z' ? cp + 32 : cp)
                    : (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
}
static bool is_upper(uint32_t cp) {
    utf8proc_category_t c = category(cp);
    return c == UTF8PROC_CATEGORY_LU || (cp > 127 && c != UTF8PROC_CATEGORY_LT && lower(cp) != cp);
}
static bool is_lower(uint32_t cp) {
    return category(cp) == UTF8PROC_CATEGORY_LL || (cp > 127 && upper(cp) != cp && lower(cp) == cp);
}
static bool is_cased(uint32_t cp) {
    return is_upper(cp) || is_lower(cp) || category(cp) == UTF8PROC_CATEGORY_LT;
}

bool jinja_is_case(value s, bool want_upper) {
    bool any = false;
    str t = as_str(s);
    for (size_t at = 0, next; at < t.len; at = next) {
        uint32_t cp = jinja_char(t, at, &next);
        if (want_upper ? is_lower(cp) : is_upper(cp)) return false;
        any = any || is_cased(cp);
    }
    return any;
}

/* ── Case ── */

static bool sigma_is_final(str s, size_t at, size_t next) {
    bool before = false;
    for (size_t p = 0, q; p < at; p = q) before = is_cased(jinja_char(s, p, &q));
    size_t after;
    return before && !(next < s.len && is_cased(jinja_char(s, next, &after)));
}

/* Letters whose capital is several characters (Unicode's SpecialCasing, without polytonic Greek). */
static const struct {
    uint32_t cp;
    const char *upper, *title;
} long_capitals[] = {
    {0xDF, "SS", "Ss"},
    {0x149, "\u02BCN", "\u02BCN"},
    {0x1F0, "J\u030C", "J\u030C"},
    {0x390, "\u0399\u0308\u0301", "\u0399\u0308\u0301"},
    {0x3B0, "\u03A5\u0308\u0301", "\u03A5\u0308\u0301"},
    {0x587, "\u0535\u0552", "\u0535\u0582"},
    {0x1E96, "H\u0331", "H\u0331"},
    {0x1E97, "T\u0308", "T\u0308"},
    {0x1E98, "W\u030A", "W\u030A"},
    {0x1E99, "Y\u030A", "Y\u030A"},
    {0x1E9A, "A\u02BE", "A\u02BE"},
    {0xFB00, "FF", "Ff"},
    {0xFB01, "FI", "Fi"},
    {0xFB02, "FL", "Fl"},
    {0xFB03, "FFI", "Ffi"},
    {0xFB04, "FFL", "Ffl"},
    {0xFB05, "ST", "St"},
    {0xFB06, "ST", "St"},
    {0xFB13, "\u0544\u0546", "\u0544\u0576"},
    {0xFB14, "\u0544\u0535", "\u0544\u0565"},
    {0xFB15, "\u0544\u053B", "\u0544\u056B"},
    {0xFB16, "\u054E\u0546", "\u054E\u0576"},
    {0xFB17, "\u0544\u053D", "\u0544\u056D"},
};

static void put_cased(rt *r, grow *g, value s, size_t at, size_t next, uint32_t cp, bool up,
                      bool title) {
    const uint8_t *mask = s.s->mask;
    bool data = mask ? !mask[at] : s.data;
    char out[8];
    size_t n;
    for (size_t i = 0; up && cp > 127 && i < sizeof long_capitals / sizeof *long_capitals; i++)
        if (long_capitals[i].cp == cp) {
            jinja_put_cstr(r, g, title ? long_capitals[i].title : long_capitals[i].upper, data);
            return;
        }
    if (up) {
        n = (size_t)utf8_encode(
            title && cp > 127 ? (uint32_t)utf8proc_totitle((utf8proc_int32_t)cp) : upper(cp), out);
    } else if (cp == 0x130) {
        jinja_put_cstr(r, g, "i\u0307", data);
        return;
    } else {
        uint32_t low = lower(cp);
        if (cp == 0x3A3 && at < 4096 && sigma_is_final(as_str(s), at, next)) low = 0x3C2;
        n = (size_t)utf8_encode(low, out);
    }
    jinja_put(r, g, out, n, NULL, data);
}

value jinja_case(rt *r, value s, text_case how) {
    str t = as_str(s);
    grow *g = jinja_grow(r);
    bool start = true; /* of a word, or of the string */
    for (size_t at = 0, next; at < t.len && !r->failed; at = next) {
        uint32_t cp = jinja_char(t, at, &next);
        bool up =
            how == CASE_UPPER || (how == CASE_SWAP ? is_lower(cp) : how != CASE_LOWER && start);
        put_cased(r, g, s, at, next, cp, up,
                  up && start && how != CASE_UPPER && how != CASE_SWAP && how != CASE_FILTER_TITLE);
        if (how == CASE_CAPITAL)
            start = false;
        else if (how == CASE_TITLE)
            start = !is_cased(cp);
        else
            start =
                cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<' || jinja_is_space(cp);
    }
    value v = jinja_grown(r, g);
    v.markup = s.markup;
    v.data = v.data || s.data;
    return v;
}

/* ── Slices ── */

/* Python's clamping of a bound into [low, high]. */
static int64_t clamp(int64_t at, int64_t n, int64_t low, int64_t high) {
    if (at < 0) at = at < -n ? low : at + n;
    return at < low ? low : at > high ? high : at;
}

static bool read_bound(rt *r, value v, int64_t *out) {
    if (v.kind == V_NONE) return false;
    if (is_int(v)) {
        *out = as_int(v);
        return true;
    }
    if (v.kind == V_UNDEF)
        jinja_fail_undef(r, v);
    else
        jinja_fail(r, "slice indices must be integers or None or have an __index__ method");
    return false;
}

value jinja_slice(rt *r, value v, value start, value stop, value step_value) {
    int64_t n, step = 1, a, b;
    if (v.kind == V_STR)
        n = (int64_t)jinja_n_chars(v);
    else
        n = (int64_t)v.seq->n;
    if (read_bound(r, step_value, &step) && step == 0)
        return jinja_fail(r, "slice step cannot be zero");
    int64_t low = step < 0 ? -1 : 0, high = step < 0 ? n - 1 : n;
    a = read_bound(r, start, &a) ? clamp(a, n, low, high) : step < 0 ? high : low;
    b = read_bound(r, stop, &b) ? clamp(b, n, low, high) : step < 0 ? low : high;
    if (r->failed) return v_none();
    if (v.kind == V_STR) {
        if (step == 1) {
            if (a >= b) return jinja_sub(r, v, 0, 0);
            size_t from = jinja_offset(v, (size_t)a);
            /* From there on, so that a[-3:] of a long text walks it once. */
            size_t to = b == n ? v.s->len : jinja_offset(v, (size_t)b);
            return charge(r, to) ? jinja_sub(r, v, from, to) : v;
        }
        seq *chars = jinja_iter(r, v);
        grow *g = jinja_grow(r);
        for (int64_t i = a; chars && (step > 0 ? i < b : i > b) && tick(r); i += step) {
            jinja_put_str(r, g, chars->items[i]);
            if ((step > 0 && i > INT64_MAX - step) || (step < 0 && i < INT64_MIN - step)) break;
        }
        value out = jinja_grown(r, g);
        out.data = out.data || v.data;
        out.markup = v.markup;
        return out;
    }
    seq *out = jinja_seq(r, is_tuple(v) ? SEQ_TUPLE : SEQ_LIST, 0);
    for (int64_t i = a; (step > 0 ? i < b : i > b) && tick(r); i += step) {
        jinja_push(r, out, v.seq->items[i]);
        if ((step > 0 && i > INT64_MAX - step) || (step < 0 && i < INT64_MIN - step)) break;
    }
    if (v.seq->type == SEQ_RANGE) { /* stays one, and says so when printed */
        const seq *of = v.seq;
        out->type = SEQ_RANGE;
        out->start = of->start + a * of->step;
        out->stop = b == n ? of->start + n * of->step : of->start + b * of->step;
        out->step = of->step * step;
    }
    value result = v_seq(out);
    result.data = v.data;
    return result;
}

/* ── Strip, replace, split, join ── */

value jinja_strip(rt *r, value s, value chars, int sides) {
    str t = as_str(s), set = as_str(chars);
    bool space = chars.kind != V_STR;
    size_t begin = 0, end = t.len, next;
    /* A character is in the set when its bytes are found there: UTF-8 is self-synchronising. */
#define STRIPPED(cp, p, q) \
    (space ? jinja_is_space(cp) : str_find(set, str_make(t.ptr + (p), (q) - (p)), 0) >= 0)
    if (!charge(r, t.len)) return s;
    while ((sides & STRIP_LEFT) && begin < end) {
        uint32_t cp = jinja_char(t, begin, &next);
        if (!STRIPPED(cp, begin, next)) break;
        begin = next;
    }
    while ((sides & STRIP_RIGHT) && end > begin) {
        size_t p = end - 1;
        while (p > begin && end - p < 4 && ((unsigned char)t.ptr[p] & 0xC0) == 0x80) p--;
        uint32_t cp = jinja_char(t, p, &next);
        if (next != end) p = end - 1; /* ill-formed: one byte */
        if (!STRIPPED(cp, p, end)) break;
        end = p;
    }
#undef STRIPPED
    return jinja_sub(r, s, begin, end);
}

value jinja_replace(rt *r, value s, value old, value new, int64_t count) {
    str t = as_str(s), o = as_str(old);
    grow *g = jinja_grow(r);
    if (count < 0) count = INT64_MAX;
    size_t from = 0, at = 0;
    if (!o.len) { /* between all characters */
        for (; count > 0 && !r->failed; count--) {
            jinja_put_str(r, g, new);
            if (at >= t.len) break;
            jinja_char(t, at, &at);
            jinja_put_sub(r, g, s, from, at);
            from = at;
        }
    } else if (charge(r, t.len)) {
        for (ptrdiff_t hit; count > 0 && tick(r) && (hit = str_find(t, o, from)) >= 0; count--) {
            jinja_put_sub(r, g, s, from, (size_t)hit);
            jinja_put_str(r, g, new);
            from = (size_t)hit + o.len;
        }
        if (!from) return s;
    }
    jinja_put_sub(r, g, s, from, t.len);
    value v = jinja_grown(r, g);
    v.markup = s.markup;
    v.data = v.data || s.data;
    return v;
}

static value list_of(seq *out, value s) {
    value v = v_seq(out);
    v.data = s.data;
    return v;
}

value jinja_split(rt *r, value s, value sep, int64_t max) {
    str t = as_str(s), d = as_str(sep);
    seq *out = jinja_seq(r, SEQ_LIST, 0);
    size_t at = 0, next;
    if (max < 0) max = INT64_MAX;
    if (!charge(r, t.len)) return v_none();
    if (sep.kind == V_STR) {
        if (!d.len) return jinja_fail(r, "empty separator");
        for (ptrdiff_t hit; max > 0 && !r->failed && (hit = str_find(t, d, at)) >= 0; max--) {
            jinja_push(r, out, jinja_sub(r, s, at, (size_t)hit));
            at = (size_t)hit + d.len;
        }
        jinja_push(r, out, jinja_sub(r, s, at, t.len));
        return list_of(out, s);
    }
    for (;;) {
        while (at < t.len && jinja_is_space(jinja_char(t, at, &next))) at = next;
        if (at >= t.len || r->failed) return list_of(out, s);
        size_t begin = at;
        if (max-- <= 0) { /* the rest as it is, with the space at its end */
            jinja_push(r, out, jinja_sub(r, s, begin, t.len));
            return list_of(out, s);
        }
        while (at < t.len && !jinja_is_space(jinja_char(t, at, &next))) at = next;
        jinja_push(r, out, jinja_sub(r, s, begin, at));
    }
}

static ptrdiff_t rfind(str t, str d, size_t end) {
    for (size_t p = end >= d.len ? end - d.len + 1 : 0; p-- > 0;)
        if (memcmp(t.ptr + p, d.ptr, d.len) == 0) return (ptrdiff_t)p;
    return -1;
}

value jinja_rsplit(rt *r, value s, value sep, int64_t max) {
    if (max < 0) max = INT64_MAX; /* not split(): "aaa" by "aa" */
    str t = as_str(s), d = as_str(sep);
    seq *parts = jinja_seq(r, SEQ_LIST, 0);
    size_t end = t.len;
    if (!charge(r, t.len)) return v_none();
    if (sep.kind == V_STR) {
        if (!d.len) return jinja_fail(r, "empty separator");
        for (ptrdiff_t hit; max > 0 && !r->failed && (hit = rfind(t, d, end)) >= 0; max--) {
            jinja_push(r, parts, jinja_sub(r, s, (size_t)hit + d.len, end));
            end = (size_t)hit;
        }
        jinja_push(r, parts, jinja_sub(r, s, 0, end));
    } else {
        for (;;) {
            value rest = jinja_strip(r, jinja_sub(r, s, 0, end), v_none(), STRIP_RIGHT);
            if (!rest.s->len || r->failed) break;
            size_t p = rest.s->len, next;
            if (max-- <= 0) {
                jinja_push(r, parts, rest); /* with the space at its beginning */
                break;
            }
            while (p > 0) {
                size_t q = p - 1;
                while (q > 0 && ((unsigned char)t.ptr[q] & 0xC0) == 0x80) q--;
                if (jinja_is_space(jinja_char(t, q, &next))) break;
                p = q;
            }
            jinja_push(r, parts, jinja_sub(r, rest, p, rest.s->len));
            end = p;
        }
    }
    for (size_t i = 0; i < parts->n / 2; i++) {
        value x = parts->items[i];
        parts->items[i] = parts->items[parts->n - 1 - i];
        parts->items[parts->n - 1 - i] = x;
    }
    return list_of(parts, s);
}

value jinja_splitlines(rt *r, value s, bool keep_ends) {
    str t = as_str(s);
    seq *out = jinja_seq(r, SEQ_LIST, 0);
    size_t begin = 0;
    if (!charge(r, t.len)) return v_none();
    for (size_t at = 0, next; at < t.len && !r->failed; at = next) {
        uint32_t cp = jinja_char(t, at, &next);
        bool ends = (cp >= 10 && cp <= 13) || (cp >= 28 && cp <= 30) || cp == 0x85 ||
                    cp == 0x2028 || cp == 0x2029;
        if (!ends) continue;
        if (cp == '\r' && next < t.len && t.ptr[next] == '\n') next++;
        jinja_push(r, out, jinja_sub(r, s, begin, keep_ends ? next : at));
        begin = next;
    }
    if (begin < t.len) jinja_push(r, out, jinja_sub(r, s, begin, t.len));
    return list_of(out, s);
}

value jinja_join(rt *r, value sep, seq *items) {
    grow *g = jinja_grow(r);
    for (size_t i = 0; items && i < items->n && tick(r); i++) {
        if (i) jinja_put_str(r, g, sep);
        if (sep.markup)
            jinja_put_str(r, g, jinja_escape(r, items->items[i]));
        else
            jinja_print(r, g, items->items[i]);
    }
    value v = jinja_grown(r, g);
    v.markup = sep.markup;
    return v;
}

value jinja_repeat(rt *r, value s, int64_t n) {
    grow *g = jinja_grow(r);
    for (int64_t i = 0; s.s->len && i < n && tick(r); i++) jinja_put_str(r, g, s);
    value v = jinja_grown(r, g);
    v.markup = s.markup;
    v.data = v.data || s.data;
    return v;
}
