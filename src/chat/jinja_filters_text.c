/* Filters that make text of text: case, white space, lines, escapes, format.
 * What is no string is printed first, as in Jinja.
 */
#include "chat/jinja_filters.h"

#include <stdio.h>

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
    int64_t count = given(a[2]) && a[2].kind != V_NONE ? jinja_whole(r, a[2], -1) : -1;
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
    value width = v_int(jinja_whole(r, a[0], 80), false);
    return jinja_call_builtin(r, center, "filter", jinja_to_str(r, self),
                              &(args){.pos = &width, .n_pos = 1});
}

FILTER(f_indent) {
    UNUSED;
    value pad = given(a[0]) && a[0].kind == V_STR
                    ? a[0]
                    : jinja_repeat(r, jinja_cstr(r, " "), jinja_whole(r, a[0], 4));
    bool first = jinja_flag(a[1], false), blank = jinja_flag(a[2], false);
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
    int64_t length = jinja_whole(r, a[0], 255),
            leeway = given(a[3]) && a[3].kind != V_NONE ? jinja_whole(r, a[3], 5) : 5;
    value end = given(a[2]) ? jinja_to_str(r, a[2]) : jinja_cstr(r, "...");
    int64_t n_end = (int64_t)jinja_n_chars(end), n = jinja_len(r, self);
    if (length < n_end)
        return jinja_fail(r, "expected length >= %lld, got %lld", (long long)n_end,
                          (long long)length);
    if (leeway < 0) return jinja_fail(r, "expected leeway >= 0, got %lld", (long long)leeway);
    if (n - leeway <= length || r->failed) return self;
    if (self.kind != V_STR) return jinja_fail(r, "truncate wants a str, not %s", jinja_type(self));
    value head = jinja_sub(r, self, 0, jinja_offset(self, (size_t)(length - n_end)));
    if (!jinja_flag(a[1], false)) {
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
    int64_t width = jinja_whole(r, a[0], 79);
    if (width <= 0) return jinja_fail(r, "invalid width %lld (must be > 0)", (long long)width);
    value lines = jinja_splitlines(r, self, false);
    grow *g = jinja_grow(r);
    for (size_t i = 0; !r->failed && i < lines.seq->n; i++) {
        if (i) jinja_put_str(r, g, newline);
        wrap_line(r, g, lines.seq->items[i], width, jinja_flag(a[1], true), newline);
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
        if (g->len || jinja_flag(a[0], true)) jinja_put_cstr(r, g, " ", self.data);
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

static const builtin rows[] = {
    {"capitalize", f_capitalize, 0, ""},
    {"center", f_center, 0, "width"},
    {"e", f_escape, 0, ""},
    {"escape", f_escape, 0, ""},
    {"forceescape", f_forceescape, 0, ""},
    {"format", f_format, 0, "*"},
    {"indent", f_indent, 0, "width first blank"},
    {"lower", f_lower, 0, ""},
    {"replace", f_replace, 2, "old new count"},
    {"safe", f_safe, 0, ""},
    {"string", f_string, 0, ""},
    {"striptags", f_striptags, 0, ""},
    {"title", f_title, 0, ""},
    {"trim", f_trim, 0, "chars"},
    {"truncate", f_truncate, 0, "length killwords end leeway"},
    {"upper", f_upper, 0, ""},
    {"urlencode", f_urlencode, 0, ""},
    {"wordcount", f_wordcount, 0, ""},
    {"wordwrap", f_wordwrap, 0, "width break_long_words wrapstring"},
    {"xmlattr", f_xmlattr, 0, "autospace"},
};
const builtin_table jinja_text_filters = {rows, sizeof rows / sizeof *rows};
