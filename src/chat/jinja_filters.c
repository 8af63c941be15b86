/* Filters and tests: Jinja's own, and tojson as transformers defines it. The
 * tables at the end name them; a row's parameters are Jinja's.
 */
#include "chat/jinja_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define FILTER(name) static value name(rt *r, value self, value *a, const args *raw)
#define UNUSED       (void)r, (void)self, (void)a, (void)raw

static bool flag(value v, bool fallback) {
    return given(v) ? jinja_true(v) : fallback;
}

static int64_t whole(rt *r, value v, int64_t fallback) {
    if (!given(v)) return fallback;
    if (is_int(v)) return as_int(v);
    if (v.kind == V_UNDEF)
        jinja_fail_undef(r, v);
    else
        jinja_fail(r, "'%s' object cannot be interpreted as an integer", jinja_type(v));
    return fallback;
}

static value of_seq(seq *s, bool data) {
    value v = v_seq(s);
    v.data = data;
    return v;
}

/* item.a.b or item[0] by an attribute such as "a.b" or 0; V_MISSING or none means the item itself. */
static value by_attribute(rt *r, value item, value attribute, value fallback) {
    if (!given(attribute) || attribute.kind == V_NONE) return item;
    if (attribute.kind != V_STR) {
        item = jinja_getitem(r, item, attribute);
        return item.kind == V_UNDEF && given(fallback) ? fallback : item;
    }
    str path = as_str(attribute);
    for (size_t at = 0; at <= path.len && !r->failed;) {
        size_t end = at;
        while (end < path.len && path.ptr[end] != '.') end++;
        str part = str_make(path.ptr + at, end - at);
        int64_t index;
        bool digits = part.len > 0;
        for (size_t i = 0; i < part.len; i++)
            digits = digits && part.ptr[i] >= '0' && part.ptr[i] <= '9';
        if (digits && jinja_parse_int(part, 10, &index))
            item = jinja_getitem(r, item, v_int(index, false));
        else
            item = jinja_getitem(r, item, jinja_str(r, part, false));
        if (item.kind == V_UNDEF && given(fallback) && fallback.kind != V_NONE) item = fallback;
        at = end + 1;
    }
    return item;
}

static value fold_case(rt *r, value v, bool case_sensitive) {
    return v.kind == V_STR && !case_sensitive ? jinja_case(r, v, CASE_LOWER) : v;
}

/* ── Text ── */

FILTER(f_upper) {
    UNUSED;
    return jinja_case(r, jinja_to_str(r, self), CASE_UPPER);
}
FILTER(f_lower) {
    UNUSED;
    return jinja_case(r, jinja_to_str(r, self), CASE_LOWER);
}
FILTER(f_title) {
    UNUSED;
    return jinja_case(r, jinja_to_str(r, self), CASE_FILTER_TITLE);
}
FILTER(f_capitalize) {
    UNUSED;
    return jinja_case(r, jinja_to_str(r, self), CASE_CAPITAL);
}
FILTER(f_string) {
    UNUSED;
    return jinja_to_str(r, self);
}
FILTER(f_trim) {
    UNUSED;
    value chars = given(a[0]) ? a[0] : v_none();
    if (chars.kind != V_NONE && chars.kind != V_STR)
        return jinja_fail(r, "strip arg must be None or str, not %s", jinja_type(chars));
    return jinja_strip(r, jinja_to_str(r, self), chars, STRIP_LEFT | STRIP_RIGHT);
}
FILTER(f_replace) {
    UNUSED;
    int64_t count = given(a[2]) && a[2].kind != V_NONE ? whole(r, a[2], -1) : -1;
    value s = jinja_to_str(r, self), old = jinja_to_str(r, a[0]), new = jinja_to_str(r, a[1]);
    s.markup = false;
    return r->failed ? s : jinja_replace(r, s, old, new, count);
}
FILTER(f_safe) {
    UNUSED;
    value v = jinja_to_str(r, self);
    v.markup = true;
    return v;
}
FILTER(f_escape) {
    UNUSED;
    return jinja_escape(r, self);
}
FILTER(f_forceescape) {
    UNUSED;
    value v = jinja_to_str(r, self);
    v.markup = false;
    return jinja_escape(r, v);
}

FILTER(f_center) {
    UNUSED;
    const builtin *center = jinja_find_method(METHOD_STR, STR("center"));
    value width = v_int(whole(r, a[0], 80), false);
    return jinja_call_builtin(r, center, "filter", jinja_to_str(r, self),
                              &(args){.pos = &width, .n_pos = 1});
}

FILTER(f_indent) {
    UNUSED;
    value pad = given(a[0]) && a[0].kind == V_STR
                    ? a[0]
                    : jinja_repeat(r, jinja_cstr(r, " "), whole(r, a[0], 4));
    bool first = flag(a[1], false), blank = flag(a[2], false);
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    if (self.kind != V_STR)
        return jinja_fail(r, "unsupported operand type(s) for +=: '%s' and 'str'",
                          jinja_type(self));
    value lines = jinja_splitlines(r, jinja_concat(r, self, jinja_cstr(r, "\n")), false);
    grow *g = jinja_grow(r);
    for (size_t i = 0; !r->failed && i < lines.seq->n; i++) {
        value line = lines.seq->items[i];
        if (i) jinja_put_cstr(r, g, "\n", self.data);
        if (i ? blank || line.s->len : first) jinja_put_str(r, g, pad);
        jinja_put_str(r, g, line);
    }
    value v = jinja_grown(r, g);
    v.markup = self.markup;
    return v;
}

FILTER(f_truncate) {
    UNUSED;
    if (self.kind == V_UNDEF) return self;
    int64_t length = whole(r, a[0], 255),
            leeway = given(a[3]) && a[3].kind != V_NONE ? whole(r, a[3], 5) : 5;
    value end = given(a[2]) ? jinja_to_str(r, a[2]) : jinja_cstr(r, "...");
    int64_t n_end = (int64_t)jinja_n_chars(end), n = jinja_len(r, self);
    if (length < n_end)
        return jinja_fail(r, "expected length >= %lld, got %lld", (long long)n_end,
                          (long long)length);
    if (leeway < 0) return jinja_fail(r, "expected leeway >= 0, got %lld", (long long)leeway);
    if (n - leeway <= length || r->failed) return self;
    if (self.kind != V_STR) return jinja_fail(r, "truncate wants a str, not %s", jinja_type(self));
    value head = jinja_sub(r, self, 0, jinja_offset(self, (size_t)(length - n_end)));
    if (!flag(a[1], false)) {
        value parts = jinja_rsplit(r, head, jinja_cstr(r, " "), 1);
        if (!r->failed) head = parts.seq->items[0];
    }
    return jinja_binary(r, OP_ADD, head, end);
}

/* Greedy lines of at most `width` characters out of one paragraph. */
static void wrap_line(rt *r, grow *g, value line, int64_t width, bool break_long, value newline) {
    str t = as_str(line);
    size_t at = 0, next;
    int64_t column = 0;
    bool any = false;
    while (at < t.len && tick(r)) {
        size_t space = at, word, n_space = 0, n_word = 0;
        for (word = at; word < t.len && jinja_is_space(jinja_char(t, word, &next)); word = next)
            n_space++;
        size_t end = word;
        while (end < t.len && !jinja_is_space(jinja_char(t, end, &next))) {
            bool hyphen = t.ptr[end] == '-' && n_word > 0 && next < t.len;
            end = next;
            n_word++;
            if (hyphen) break;
        }
        at = end;
        if (!n_word) break;                                /* space at the end goes */
        if (column == 0 && any) n_space = 0, space = word; /* and at a line's beginning */
        bool cuts = break_long && (int64_t)n_word > width; /* such a word fills the line first */
        if (column + (int64_t)(n_space + (cuts ? 0 : n_word)) > width) {
            if (column > 0) jinja_put_str(r, g, newline);
            column = 0;
            n_space = 0;
            space = word;
        }
        jinja_put_sub(r, g, line, space, word);
        column += (int64_t)n_space;
        while (cuts && column + (int64_t)n_word > width && tick(r)) {
            size_t cut = word;
            for (int64_t i = column; i < width; i++) jinja_char(t, cut, &cut);
            jinja_put_sub(r, g, line, word, cut);
            jinja_put_str(r, g, newline);
            n_word -= (size_t)(width - column);
            column = 0;
            word = cut;
        }
        jinja_put_sub(r, g, line, word, end);
        column += (int64_t)n_word;
        any = true;
    }
}

FILTER(f_wordwrap) {
    UNUSED;
    value newline = given(a[2]) && a[2].kind == V_STR ? a[2] : jinja_cstr(r, "\n");
    if (self.kind != V_STR)
        return jinja_fail(r, "'%s' object has no attribute 'splitlines'", jinja_type(self));
    if (!self.s->len) return self;
    int64_t width = whole(r, a[0], 79);
    if (width <= 0) return jinja_fail(r, "invalid width %lld (must be > 0)", (long long)width);
    value lines = jinja_splitlines(r, self, false);
    grow *g = jinja_grow(r);
    for (size_t i = 0; !r->failed && i < lines.seq->n; i++) {
        if (i) jinja_put_str(r, g, newline);
        wrap_line(r, g, lines.seq->items[i], width, flag(a[1], true), newline);
    }
    return jinja_grown(r, g);
}

FILTER(f_wordcount) {
    UNUSED;
    value v = jinja_to_str(r, self);
    str t = as_str(v);
    int64_t n = 0;
    bool inside = false;
    for (size_t at = 0, next; at < t.len; at = next) {
        bool word = jinja_is_word(jinja_char(t, at, &next));
        n += word && !inside;
        inside = word;
    }
    return v_int(n, self.data);
}

FILTER(f_striptags) {
    UNUSED;
    value v = jinja_to_str(r, self);
    str t = as_str(v);
    grow *g = jinja_grow(r);
    size_t from = 0;
    for (size_t at = 0; at < t.len && tick(r);) {
        bool comment = str_starts(str_make(t.ptr + at, t.len - at), STR("<!--"));
        ptrdiff_t end = t.ptr[at] == '<' ? str_find(t, comment ? STR("-->") : STR(">"), at) : -1;
        if (end < 0) {
            at++;
            continue;
        }
        jinja_put_sub(r, g, v, from, at);
        from = at = (size_t)end + (comment ? 3 : 1);
    }
    jinja_put_sub(r, g, v, from, t.len);
    value words = jinja_split(r, jinja_grown(r, g), v_none(), -1);
    if (r->failed) return words;
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;", "&#34;"},
                             *const chars[] = {"&", "<", ">", "\"", "'", "\""};
    value out = jinja_join(r, jinja_cstr(r, " "), words.seq);
    for (int i = 5; i >= 0 && !r->failed; i--)
        out = jinja_replace(r, out, jinja_cstr(r, names[i]),
                            jinja_str(r, str_from(chars[i]), self.data), -1);
    return out;
}

static void put_quoted(rt *r, grow *g, value v, bool in_query) {
    v = jinja_to_str(r, v);
    for (size_t i = 0; i < v.s->len && !r->failed; i++) {
        unsigned char c = (unsigned char)v.s->ptr[i];
        char hex[4];
        bool plain = (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z') ||
                     (c && strchr("_.-~", c)) || (!in_query && c == '/');
        snprintf(hex, sizeof hex, in_query && c == ' ' ? "+" : "%%%02X", c);
        if (plain)
            jinja_put_sub(r, g, v, i, i + 1);
        else
            jinja_put_cstr(r, g, hex, v.s->mask ? !v.s->mask[i] : v.data);
    }
}

FILTER(f_urlencode) {
    UNUSED;
    grow *g = jinja_grow(r);
    if (self.kind != V_DICT && self.kind != V_SEQ) {
        put_quoted(r, g, self, false);
        return jinja_grown(r, g);
    }
    value pairs = self;
    if (self.kind == V_DICT)
        pairs = jinja_call_builtin(r, jinja_find_method(METHOD_DICT, STR("items")), "method", self,
                                   &(args){0});
    seq *items = jinja_iter(r, pairs);
    for (size_t i = 0; items && i < items->n && tick(r); i++) {
        seq *pair = jinja_iter(r, items->items[i]);
        if (!pair) break;
        if (pair->n != 2) return jinja_fail(r, "urlencode wants pairs");
        if (i) jinja_put_cstr(r, g, "&", self.data);
        put_quoted(r, g, pair->items[0], true);
        jinja_put_cstr(r, g, "=", self.data);
        put_quoted(r, g, pair->items[1], true);
    }
    return jinja_grown(r, g);
}

FILTER(f_xmlattr) {
    UNUSED;
    if (self.kind != V_DICT) return jinja_fail(r, "xmlattr wants a dict, not %s", jinja_type(self));
    grow *g = jinja_grow(r);
    for (size_t i = 0; i < self.dict->n && tick(r); i++) {
        const dict_entry *e = &self.dict->e[i];
        if (e->val.kind == V_NONE || e->val.kind == V_UNDEF) continue;
        str key = as_str(e->key);
        for (size_t k = 0; k < key.len; k++)
            if (key.ptr[k] && strchr(" \t\n\r\f\v/>=", key.ptr[k]))
                return jinja_fail(r, "Invalid character in attribute name");
        if (g->len || flag(a[0], true)) jinja_put_cstr(r, g, " ", self.data);
        jinja_put_str(r, g, jinja_escape(r, e->key));
        jinja_put_cstr(r, g, "=\"", self.data);
        jinja_put_str(r, g, jinja_escape(r, e->val));
        jinja_put_cstr(r, g, "\"", self.data);
    }
    return jinja_grown(r, g);
}

FILTER(f_format) {
    UNUSED;
    value fmt = jinja_to_str(r, self), arg;
    if (raw->n_kw && raw->n_pos)
        return jinja_fail(r, "can't handle positional and keyword arguments at the same time");
    if (raw->n_kw) {
        arg = v_dict(jinja_dict(r));
        for (int k = 0; k < raw->n_kw && !r->failed; k++)
            jinja_dict_set(r, arg.dict, jinja_str(r, raw->kw[k].name, false), raw->kw[k].v);
    } else {
        seq *s = jinja_seq(r, SEQ_TUPLE, (size_t)raw->n_pos);
        for (int i = 0; i < raw->n_pos && !r->failed; i++) jinja_push(r, s, raw->pos[i]);
        arg = v_seq(s);
    }
    return r->failed ? v_none() : jinja_percent(r, fmt, arg);
}

FILTER(f_pprint) {
    UNUSED;
    grow *g = jinja_grow(r);
    jinja_repr(r, g, self);
    return jinja_grown(r, g);
}

FILTER(f_tojson) {
    UNUSED;
    json_style style = {.ensure_ascii = flag(a[0], false),
                        .sort_keys = flag(a[3], false),
                        .indent = given(a[1]) ? a[1] : v_none()};
    style.item_sep = style.key_sep = (value){.kind = V_MISSING};
    if (style.indent.kind == V_BOOL) style.indent = v_int(style.indent.b, style.indent.data);
    if (style.indent.kind != V_NONE && style.indent.kind != V_INT && style.indent.kind != V_STR)
        return jinja_fail(r, "tojson: indent must be an int or a str");
    if (given(a[2]) && a[2].kind != V_NONE) {
        seq *pair = jinja_iter(r, a[2]);
        if (!pair) return v_none();
        if (pair->n != 2 || pair->items[0].kind != V_STR || pair->items[1].kind != V_STR)
            return jinja_fail(r, "tojson: separators must be two strings");
        style.item_sep = pair->items[0];
        style.key_sep = pair->items[1];
    }
    return jinja_to_json(r, self, &style);
}

/* ── Numbers ── */

FILTER(f_abs) {
    UNUSED;
    if (self.kind == V_FLOAT) return v_float(fabs(self.f), self.data);
    if (is_int(self))
        return as_int(self) < 0 ? jinja_binary(r, OP_SUB, v_int(0, false), self)
                                : v_int(as_int(self), self.data);
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    return jinja_fail(r, "bad operand type for abs(): '%s'", jinja_type(self));
}

static bool float_to_int(double f, int64_t *out) {
    if (!(f > -9.2e18 && f < 9.2e18)) return false;
    *out = (int64_t)f;
    return true;
}

FILTER(f_int) {
    UNUSED;
    int64_t i;
    double f;
    value fallback = given(a[0]) ? a[0] : v_int(0, false);
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    if (is_int(self)) return v_int(as_int(self), self.data);
    if (self.kind == V_FLOAT) return float_to_int(self.f, &i) ? v_int(i, self.data) : fallback;
    if (self.kind != V_STR) return fallback;
    int64_t base = !given(a[1]) ? 10 : is_int(a[1]) ? as_int(a[1]) : -1;
    if (base >= 0 && base <= 36 && jinja_parse_int(as_str(self), (int)base, &i))
        return v_int(i, self.data);
    if (jinja_parse_float(as_str(self), &f) && float_to_int(f, &i)) return v_int(i, self.data);
    return fallback;
}

FILTER(f_float) {
    UNUSED;
    double f;
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    if (is_number(self)) return v_float(as_float(self), self.data);
    if (self.kind == V_STR && jinja_parse_float(as_str(self), &f)) return v_float(f, self.data);
    return given(a[0]) ? a[0] : v_float(0, false);
}

FILTER(f_round) {
    UNUSED;
    bool to_int = given(a[0]) && a[0].kind == V_NONE;
    int64_t precision = to_int ? 0 : whole(r, a[0], 0), i;
    str method = given(a[1]) ? as_str(a[1]) : STR("common");
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    if (!is_number(self))
        return jinja_fail(r, "type %s doesn't define __round__ method", jinja_type(self));
    if (precision > 300) precision = 300;
    if (precision < -300) precision = -300;
    double scale = pow(10, (double)precision), f = as_float(self);
    if (str_is(method, "ceil")) return v_float(ceil(f * scale) / scale, self.data);
    if (str_is(method, "floor")) return v_float(floor(f * scale) / scale, self.data);
    if (!str_is(method, "common")) return jinja_fail(r, "method must be common, ceil or floor");
    if (is_int(self) && precision >= 0) return v_int(as_int(self), self.data);
    if (to_int && float_to_int(nearbyint(f), &i)) return v_int(i, self.data);
    if (isnan(f) || isinf(f)) return self;
    if (precision >= 0) { /* decimal rounding of the exact value, ties to even, as printf does */
        char text[720];
        snprintf(text, sizeof text, "%.*f", (int)precision, f);
        return v_float(strtod(text, NULL), self.data);
    }
    double unit = pow(10, (double)-precision), q = nearbyint(f / unit) * unit;
    return is_int(self) && float_to_int(q, &i) ? v_int(i, self.data) : v_float(q, self.data);
}

FILTER(f_filesizeformat) {
    UNUSED;
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    double f, base = flag(a[0], false) ? 1024 : 1000, unit = base;
    char text[400];
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    if (is_number(self))
        f = as_float(self);
    else if (self.kind != V_STR || !jinja_parse_float(as_str(self), &f))
        return jinja_fail(r, "filesizeformat wants a number");
    int64_t bytes = 0;
    if (f == 1) {
        snprintf(text, sizeof text, "1 Byte");
    } else if (f < base && float_to_int(f, &bytes)) {
        snprintf(text, sizeof text, "%lld Bytes", (long long)bytes);
    } else {
        int i = 0;
        for (; i < 7 && f >= unit * base; i++) unit *= base;
        snprintf(text, sizeof text, "%.1f %s", f / unit, base == 1024 ? binary[i] : decimal[i]);
    }
    char *kept = arena_dup(&r->mem, str_from(text));
    return kept ? jinja_str(r, str_from(kept), self.data) : jinja_fail(r, "memory ran out");
}

FILTER(f_sum) {
    UNUSED;
    seq *items = jinja_iter(r, self);
    value total = given(a[1]) ? a[1] : v_int(0, false);
    if (total.kind == V_STR)
        return jinja_fail(r, "sum() can't sum strings [use ''.join(seq) instead]");
    for (size_t i = 0; items && i < items->n && tick(r); i++)
        total = jinja_binary(r, OP_ADD, total,
                             by_attribute(r, items->items[i], a[0], (value){.kind = V_MISSING}));
    return total;
}

/* ── Collections ── */

FILTER(f_length) {
    UNUSED;
    return v_int(jinja_len(r, self), self.data);
}
FILTER(f_default) {
    UNUSED;
    bool use = self.kind == V_UNDEF || (flag(a[1], false) && !jinja_true(self));
    return use ? given(a[0]) ? a[0] : jinja_cstr(r, "") : self;
}
FILTER(f_list) {
    UNUSED;
    seq *s = jinja_iter(r, self);
    return s ? of_seq(s, self.data) : v_none();
}
FILTER(f_first) {
    UNUSED;
    if (self.kind == V_SEQ && self.seq->type != SEQ_ITER && self.seq->n) return self.seq->items[0];
    if (self.kind == V_SEQ && self.seq->type == SEQ_ITER && self.seq->n) { /* takes just this one */
        self.seq->n--;
        return *self.seq->items++;
    }
    seq *s = jinja_iter(r, self);
    return !s     ? v_none()
           : s->n ? s->items[0]
                  : jinja_undef_hint(r, "No first item, sequence was empty.");
}
FILTER(f_last) {
    UNUSED;
    if (self.kind == V_SEQ && self.seq->type == SEQ_ITER)
        return jinja_fail(r, "'generator' object is not reversible");
    if (self.kind == V_SEQ && self.seq->n) return self.seq->items[self.seq->n - 1];
    seq *s = jinja_iter(r, self);
    return !s     ? v_none()
           : s->n ? s->items[s->n - 1]
                  : jinja_undef_hint(r, "No last item, sequence was empty.");
}
FILTER(f_join) {
    UNUSED;
    seq *items = jinja_iter(r, self);
    value sep = given(a[0]) ? jinja_to_str(r, a[0]) : jinja_cstr(r, "");
    sep.markup = false;
    for (size_t i = 0; items && given(a[1]) && i < items->n && tick(r); i++)
        items->items[i] = by_attribute(r, items->items[i], a[1], (value){.kind = V_MISSING});
    return items ? jinja_join(r, sep, items) : v_none();
}
FILTER(f_reverse) {
    UNUSED;
    if (self.kind == V_STR) return jinja_slice(r, self, v_none(), v_none(), v_int(-1, false));
    seq *s = jinja_iter(r, self);
    if (!s) return v_none();
    for (size_t i = 0; i < s->n / 2; i++) {
        value x = s->items[i];
        s->items[i] = s->items[s->n - 1 - i];
        s->items[s->n - 1 - i] = x;
    }
    s->type = self.kind == V_SEQ && self.seq->type == SEQ_ITER ? SEQ_LIST : SEQ_ITER;
    return of_seq(s, self.data);
}
FILTER(f_items) {
    UNUSED;
    if (self.kind == V_UNDEF) return of_seq(jinja_seq(r, SEQ_ITER, 0), false);
    if (self.kind != V_DICT) return jinja_fail(r, "Can only get item pairs from a mapping.");
    value v = jinja_call_builtin(r, jinja_find_method(METHOD_DICT, STR("items")), "method", self,
                                 &(args){0});
    if (!r->failed) v.seq->type = SEQ_ITER;
    return v;
}

/* Stable merge sort; keys and items move together. */
typedef struct sorted {
    value key, item;
} sorted;

static void merge_sort(rt *r, sorted *x, sorted *scratch, size_t n, bool reverse) {
    for (size_t width = 1; width < n && !r->failed; width *= 2) {
        for (size_t at = 0; at < n; at += 2 * width) {
            size_t i = at, mid = at + width < n ? at + width : n, j = mid,
                   end = at + 2 * width < n ? at + 2 * width : n, k = at;
            while (i < mid && j < end) {
                if (!tick(r)) return;
                int c = jinja_cmp(r, x[j].key, x[i].key,
                                  "<"); /* the right one only if it must come first */
                scratch[k++] = (reverse ? c == 1 : c == -1) ? x[j++] : x[i++];
            }
            while (i < mid) scratch[k++] = x[i++];
            while (j < end) scratch[k++] = x[j++];
        }
        memcpy(x, scratch, n * sizeof *x);
    }
}

/* Sorts `items` in place by attribute. As a list ("a,b" sorts by a, then b) keys that are equal need
 * no order, so that [None] stands beside [None]. */
static void sort_items(rt *r, seq *items, value attribute, bool case_sensitive, bool reverse,
                       bool as_list) {
    sorted *x = jinja_alloc(r, items->n * 2, sizeof *x);
    if (!x) return;
    seq *parts = jinja_seq(r, SEQ_LIST, 1);
    if (as_list && attribute.kind == V_STR && attribute.s->len)
        parts = jinja_split(r, attribute, jinja_cstr(r, ","), -1).seq;
    else
        jinja_push(r, parts, attribute);
    if (r->failed) return;
    for (size_t i = 0; i < items->n && tick(r); i++) {
        value item = items->items[i];
        x[i].item = item;
        if (!as_list) {
            x[i].key = fold_case(r, by_attribute(r, item, attribute, (value){.kind = V_MISSING}),
                                 case_sensitive);
            continue;
        }
        seq *key = jinja_seq(r, SEQ_LIST, parts->n);
        for (size_t k = 0; k < parts->n && !r->failed; k++)
            jinja_push(r, key,
                       fold_case(r,
                                 by_attribute(r, item, parts->items[k], (value){.kind = V_MISSING}),
                                 case_sensitive));
        x[i].key = v_seq(key);
    }
    if (!r->failed) merge_sort(r, x, x + items->n, items->n, reverse);
    for (size_t i = 0; i < items->n && !r->failed; i++) items->items[i] = x[i].item;
}

FILTER(f_sort) {
    UNUSED;
    seq *s = jinja_iter(r, self);
    if (!s) return v_none();
    sort_items(r, s, given(a[2]) ? a[2] : v_none(), flag(a[1], false), whole(r, a[0], 0) != 0,
               true);
    return of_seq(s, self.data);
}

FILTER(f_dictsort) {
    UNUSED;
    str by = given(a[1]) ? as_str(a[1]) : STR("key");
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    if (self.kind != V_DICT)
        return jinja_fail(r, "dictsort wants a dict, not %s", jinja_type(self));
    if (!str_is(by, "key") && !str_is(by, "value"))
        return jinja_fail(r, "You can only sort by either \"key\" or \"value\"");
    value v = jinja_call_builtin(r, jinja_find_method(METHOD_DICT, STR("items")), "method", self,
                                 &(args){0});
    if (r->failed) return v;
    v.seq->type = SEQ_LIST;
    sort_items(r, v.seq, v_int(str_is(by, "value"), false), flag(a[0], false),
               whole(r, a[2], 0) != 0, false);
    return v;
}

static value extreme(rt *r, value self, value *a, bool greatest) {
    seq *s = jinja_iter(r, self);
    if (!s) return v_none();
    if (!s->n) return jinja_undef_hint(r, "No aggregated item, sequence was empty.");
    bool case_sensitive = flag(a[0], false);
    value missing = {.kind = V_MISSING}, best = s->items[0],
          best_key = fold_case(r, by_attribute(r, best, a[1], missing), case_sensitive);
    for (size_t i = 1; i < s->n && tick(r); i++) {
        value key = fold_case(r, by_attribute(r, s->items[i], a[1], missing), case_sensitive);
        int c = r->failed ? 0 : jinja_cmp(r, key, best_key, greatest ? ">" : "<");
        if (c != (greatest ? 1 : -1)) continue;
        best = s->items[i];
        best_key = key;
    }
    return best;
}
FILTER(f_min) {
    UNUSED;
    return extreme(r, self, a, false);
}
FILTER(f_max) {
    UNUSED;
    return extreme(r, self, a, true);
}

FILTER(f_unique) {
    UNUSED;
    seq *s = jinja_iter(r, self), *out = jinja_seq(r, SEQ_ITER, 0);
    dict *seen = jinja_dict(r);
    for (size_t i = 0; s && i < s->n && tick(r); i++) {
        value key = fold_case(r, by_attribute(r, s->items[i], a[1], (value){.kind = V_MISSING}),
                              flag(a[0], false));
        if (r->failed || jinja_dict_find(r, seen, key)) continue;
        jinja_dict_set(r, seen, key, v_none());
        jinja_push(r, out, s->items[i]);
    }
    return of_seq(out, self.data);
}

FILTER(f_groupby) {
    UNUSED;
    seq *s = jinja_iter(r, self), *out = jinja_seq(r, SEQ_LIST, 0);
    if (!s) return v_none();
    bool case_sensitive = flag(a[2], false);
    for (size_t i = 0; i < s->n && tick(r); i++) { /* as (key, item) while sorting */
        seq *pair = jinja_seq(r, SEQ_TUPLE, 2);
        jinja_push(r, pair, by_attribute(r, s->items[i], a[0], a[1]));
        jinja_push(r, pair, s->items[i]);
        s->items[i] = v_seq(pair);
    }
    if (!r->failed) sort_items(r, s, v_int(0, false), case_sensitive, false, false);
    seq *members = NULL;
    value last = v_none();
    for (size_t i = 0; i < s->n && tick(r); i++) {
        const seq *pair = s->items[i].seq;
        value key = fold_case(r, pair->items[0], case_sensitive);
        if (!members || !jinja_eq(r, key, last)) {
            seq *group = jinja_seq(r, SEQ_GROUP, 2);
            members = jinja_seq(r, SEQ_LIST, 0);
            jinja_push(r, group, pair->items[0]);
            jinja_push(r, group, of_seq(members, self.data));
            jinja_push(r, out, v_seq(group));
        }
        last = key;
        jinja_push(r, members, pair->items[1]);
    }
    return of_seq(out, self.data);
}

FILTER(f_batch) {
    UNUSED;
    seq *s = jinja_iter(r, self), *out = jinja_seq(r, SEQ_ITER, 0), *row = NULL;
    /* A row ends when it is as long as that, which what is no number never is. */
    double n = is_number(a[0]) ? as_float(a[0]) : -1;
    for (size_t i = 0; s && i < s->n && tick(r); i++) {
        if (!row || (double)row->n == n) {
            if (!row && n == 0) jinja_push(r, out, v_seq(jinja_seq(r, SEQ_LIST, 0)));
            row = jinja_seq(r, SEQ_LIST, 0);
            jinja_push(r, out, v_seq(row));
        }
        jinja_push(r, row, s->items[i]);
    }
    bool fills = row && given(a[1]) && a[1].kind != V_NONE;
    if (fills && !is_int(a[0])) return v_int(whole(r, a[0], 0), false);
    while (fills && (double)row->n < n && tick(r)) jinja_push(r, row, a[1]);
    return of_seq(out, self.data);
}

FILTER(f_slice) {
    UNUSED;
    seq *s = jinja_iter(r, self), *out = jinja_seq(r, SEQ_ITER, 0);
    int64_t n = whole(r, a[0], 1);
    if (n == 0) return jinja_fail(r, "integer division or modulo by zero");
    size_t at = 0;
    for (int64_t k = 0; s && k < n && tick(r); k++) {
        seq *row = jinja_seq(r, SEQ_LIST, 0);
        size_t take = s->n / (size_t)n, extra = s->n % (size_t)n;
        bool longer = (size_t)k < extra;
        for (size_t i = 0; i < take + longer && !r->failed; i++) jinja_push(r, row, s->items[at++]);
        if (given(a[1]) && a[1].kind != V_NONE && !longer) jinja_push(r, row, a[1]);
        jinja_push(r, out, v_seq(row));
    }
    return of_seq(out, self.data);
}

FILTER(f_attr) {
    UNUSED;
    if (a[0].kind != V_STR)
        return jinja_fail(r, "attribute name must be string, not '%s'", jinja_type(a[0]));
    value name = a[0];
    if (self.kind != V_DICT || r->failed)
        return r->failed ? v_none() : jinja_getattr(r, self, as_str(name));
    /* Attributes only: a dict's keys are not. */
    if (jinja_find_method(METHOD_DICT, as_str(name))) return jinja_getattr(r, self, as_str(name));
    return jinja_undef(r, jinja_object(self), as_str(name), false);
}

static args rest_of(const args *raw, int from) {
    args rest = *raw;
    int skip = from < raw->n_pos ? from : raw->n_pos;
    if (skip) rest.pos += skip;
    rest.n_pos -= skip;
    return rest;
}

FILTER(f_map) {
    UNUSED;
    seq *out = jinja_seq(r, SEQ_ITER, 0);
    if (!jinja_true(self)) return of_seq(out, false);
    value attribute = {.kind = V_MISSING}, fallback = attribute;
    for (int k = 0; !raw->n_pos && k < raw->n_kw; k++) {
        if (str_is(raw->kw[k].name, "attribute"))
            attribute = raw->kw[k].v;
        else if (str_is(raw->kw[k].name, "default"))
            fallback = raw->kw[k].v;
        else
            return jinja_fail(r, "Unexpected keyword argument '%.*s'", STR_ARG(raw->kw[k].name));
    }
    const builtin *fn = NULL;
    if (!given(attribute)) {
        if (!raw->n_pos) return jinja_fail(r, "map requires a filter argument");
        str name = as_str(raw->pos[0]);
        fn = jinja_find_filter(name);
        if (!fn)
            return jinja_fail(r, "No filter named '%.*s'", (int)(name.len < 80 ? name.len : 80),
                              name.ptr ? name.ptr : "");
    }
    args rest = rest_of(raw, 1);
    seq *s = jinja_iter(r, self);
    if (fn && !jinja_enter(r)) return v_none();
    for (size_t i = 0; s && i < s->n && tick(r); i++)
        jinja_push(r, out,
                   fn ? jinja_call_builtin(r, fn, "filter", s->items[i], &rest)
                      : by_attribute(r, s->items[i], attribute, fallback));
    if (fn) jinja_leave(r);
    return of_seq(out, self.data);
}

static value choose(rt *r, value self, const args *raw, bool wanted, bool by_attr) {
    seq *out = jinja_seq(r, SEQ_ITER, 0);
    if (!jinja_true(self)) return of_seq(out, false);
    if (by_attr && !raw->n_pos) return jinja_fail(r, "Missing parameter for attribute name");
    const builtin *fn = NULL;
    if (raw->n_pos > by_attr) {
        str name = as_str(raw->pos[by_attr]);
        fn = jinja_find_test(name);
        if (!fn)
            return jinja_fail(r, "No test named '%.*s'", (int)(name.len < 80 ? name.len : 80),
                              name.ptr ? name.ptr : "");
    }
    args rest = rest_of(raw, by_attr + 1);
    seq *s = jinja_iter(r, self);
    for (size_t i = 0; s && i < s->n && tick(r); i++) {
        value v = by_attr ? by_attribute(r, s->items[i], raw->pos[0], (value){.kind = V_MISSING})
                          : s->items[i];
        if (fn && !r->failed) v = jinja_call_builtin(r, fn, "test", v, &rest);
        if (jinja_true(v) == wanted) jinja_push(r, out, s->items[i]);
    }
    return of_seq(out, self.data);
}
FILTER(f_select) {
    UNUSED;
    return choose(r, self, raw, true, false);
}
FILTER(f_reject) {
    UNUSED;
    return choose(r, self, raw, false, false);
}
FILTER(f_selectattr) {
    UNUSED;
    return choose(r, self, raw, true, true);
}
FILTER(f_rejectattr) {
    UNUSED;
    return choose(r, self, raw, false, true);
}

static const builtin filters[] = {
    {"abs", f_abs, 0, ""},
    {"attr", f_attr, 1, "name"},
    {"batch", f_batch, 1, "linecount fill_with"},
    {"capitalize", f_capitalize, 0, ""},
    {"center", f_center, 0, "width"},
    {"count", f_length, 0, ""},
    {"d", f_default, 0, "default_value boolean"},
    {"default", f_default, 0, "default_value boolean"},
    {"dictsort", f_dictsort, 0, "case_sensitive by reverse"},
    {"e", f_escape, 0, ""},
    {"escape", f_escape, 0, ""},
    {"filesizeformat", f_filesizeformat, 0, "binary"},
    {"first", f_first, 0, ""},
    {"float", f_float, 0, "default"},
    {"forceescape", f_forceescape, 0, ""},
    {"format", f_format, 0, "*"},
    {"groupby", f_groupby, 1, "attribute default case_sensitive"},
    {"indent", f_indent, 0, "width first blank"},
    {"int", f_int, 0, "default base"},
    {"items", f_items, 0, ""},
    {"join", f_join, 0, "d attribute"},
    {"last", f_last, 0, ""},
    {"length", f_length, 0, ""},
    {"list", f_list, 0, ""},
    {"lower", f_lower, 0, ""},
    {"map", f_map, 0, "*"},
    {"max", f_max, 0, "case_sensitive attribute"},
    {"min", f_min, 0, "case_sensitive attribute"},
    {"pprint", f_pprint, 0, ""},
    {"reject", f_reject, 0, "*"},
    {"rejectattr", f_rejectattr, 0, "*"},
    {"replace", f_replace, 2, "old new count"},
    {"reverse", f_reverse, 0, ""},
    {"round", f_round, 0, "precision method"},
    {"safe", f_safe, 0, ""},
    {"select", f_select, 0, "*"},
    {"selectattr", f_selectattr, 0, "*"},
    {"slice", f_slice, 1, "slices fill_with"},
    {"sort", f_sort, 0, "reverse case_sensitive attribute"},
    {"string", f_string, 0, ""},
    {"striptags", f_striptags, 0, ""},
    {"sum", f_sum, 0, "attribute start"},
    {"title", f_title, 0, ""},
    {"tojson", f_tojson, 0, "ensure_ascii indent separators sort_keys"},
    {"trim", f_trim, 0, "chars"},
    {"truncate", f_truncate, 0, "length killwords end leeway"},
    {"unique", f_unique, 0, "case_sensitive attribute"},
    {"upper", f_upper, 0, ""},
    {"urlencode", f_urlencode, 0, ""},
    {"wordcount", f_wordcount, 0, ""},
    {"wordwrap", f_wordwrap, 0, "width break_long_words wrapstring"},
    {"xmlattr", f_xmlattr, 0, "autospace"},
};

/* ── Tests ── */

#define TEST(name, expr)              \
    FILTER(name) {                    \
        UNUSED;                       \
        return v_bool((expr), false); \
    }

static value remainder_of(rt *r, value self, value by) {
    return jinja_binary(r, OP_MOD, self, by);
}
static bool zero(rt *r, value v) {
    return !r->failed && is_number(v) && as_float(v) == 0;
}
static bool ordered(rt *r, value x, value y, const char *op) {
    int c = jinja_cmp(r, x, y, op);
    if (c == 2) return false;
    return op[0] == '<' ? (op[1] ? c <= 0 : c < 0) : (op[1] ? c >= 0 : c > 0);
}
static bool is_callable(value v) {
    return (v.kind >= V_MACRO && v.kind <= V_LOOP) || v.kind == V_JOINER;
}
static bool same(value x, value y) {
    if (x.kind != y.kind) return false;
    switch ((vkind)x.kind) {
    case V_NONE: return true;
    case V_BOOL: return x.b == y.b;
    case V_INT: return x.i == y.i;
    case V_FLOAT: return x.f == y.f;
    case V_STR: return str_eq(as_str(x), as_str(y));
    default: return x.s == y.s;
    }
}

TEST(t_boolean, self.kind == V_BOOL)
TEST(t_callable,
     is_callable(self) || self.kind == V_UNDEF) /* undefined has a call: one that fails */
TEST(t_defined, self.kind != V_UNDEF)
TEST(t_undefined, self.kind == V_UNDEF)
TEST(t_divisibleby, zero(r, remainder_of(r, self, a[0])))
TEST(t_eq, jinja_eq(r, self, a[0]))
TEST(t_ne, !jinja_eq(r, self, a[0]))
TEST(t_ge, ordered(r, self, a[0], ">="))
TEST(t_gt, ordered(r, self, a[0], ">"))
TEST(t_le, ordered(r, self, a[0], "<="))
TEST(t_lt, ordered(r, self, a[0], "<"))
TEST(t_in, jinja_in(r, self, a[0]))
TEST(t_escaped, self.kind == V_STR && self.markup)
TEST(t_even, zero(r, remainder_of(r, self, v_int(2, false))))
TEST(t_odd,
     jinja_eq(r, remainder_of(r, self, v_int(2, false)), v_int(1, false))) /* 2.5 is neither */
TEST(t_false, self.kind == V_BOOL && !self.b)
TEST(t_true, self.kind == V_BOOL && self.b)
TEST(t_filter, jinja_find_filter(as_str(self)) != NULL)
TEST(t_test, jinja_find_test(as_str(self)) != NULL)
TEST(t_float, self.kind == V_FLOAT)
TEST(t_integer, self.kind == V_INT)
TEST(t_number, is_number(self))
TEST(t_iterable,
     self.kind == V_UNDEF || self.kind == V_STR || self.kind == V_SEQ || self.kind == V_DICT)
TEST(t_sequence, self.kind == V_UNDEF || self.kind == V_STR || self.kind == V_DICT ||
                     (self.kind == V_SEQ && self.seq->type <= SEQ_RANGE))
TEST(t_mapping, self.kind == V_DICT)
TEST(t_none, self.kind == V_NONE)
TEST(t_string, self.kind == V_STR)
TEST(t_lower, jinja_is_case(jinja_to_str(r, self), false))
TEST(t_upper, jinja_is_case(jinja_to_str(r, self), true))
TEST(t_sameas, same(self, a[0]))

static const builtin tests[] = {
    {"!=", t_ne, 1, "other"},
    {"<", t_lt, 1, "other"},
    {"<=", t_le, 1, "other"},
    {"==", t_eq, 1, "other"},
    {">", t_gt, 1, "other"},
    {">=", t_ge, 1, "other"},
    {"boolean", t_boolean, 0, ""},
    {"callable", t_callable, 0, ""},
    {"defined", t_defined, 0, ""},
    {"divisibleby", t_divisibleby, 1, "num"},
    {"eq", t_eq, 1, "other"},
    {"equalto", t_eq, 1, "other"},
    {"escaped", t_escaped, 0, ""},
    {"even", t_even, 0, ""},
    {"false", t_false, 0, ""},
    {"filter", t_filter, 0, ""},
    {"float", t_float, 0, ""},
    {"ge", t_ge, 1, "other"},
    {"greaterthan", t_gt, 1, "other"},
    {"gt", t_gt, 1, "other"},
    {"in", t_in, 1, "seq"},
    {"integer", t_integer, 0, ""},
    {"iterable", t_iterable, 0, ""},
    {"le", t_le, 1, "other"},
    {"lessthan", t_lt, 1, "other"},
    {"lower", t_lower, 0, ""},
    {"lt", t_lt, 1, "other"},
    {"mapping", t_mapping, 0, ""},
    {"ne", t_ne, 1, "other"},
    {"none", t_none, 0, ""},
    {"number", t_number, 0, ""},
    {"odd", t_odd, 0, ""},
    {"sameas", t_sameas, 1, "other"},
    {"sequence", t_sequence, 0, ""},
    {"string", t_string, 0, ""},
    {"test", t_test, 0, ""},
    {"true", t_true, 0, ""},
    {"undefined", t_undefined, 0, ""},
    {"upper", t_upper, 0, ""},
};

#define FIND(table, name)                                     \
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) \
        if (str_is(name, table[i].name)) return &table[i];

const builtin *jinja_find_filter(str name) {
    FIND(filters, name)
    return NULL;
}

const builtin *jinja_find_test(str name) {
    FIND(tests, name)
    return NULL;
}
