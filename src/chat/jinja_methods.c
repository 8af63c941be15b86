/* Methods of str, list and dict, and the global functions: raise_exception,
 * strftime_now, namespace, range, dict, cycler, joiner. Tables at the end of
 * each part; a row's parameters are Python's ("/" behind one: it has no name for the caller).
 */
#include "chat/jinja_impl.h"

enum { MAX_RANGE = 100000 }; /* as Jinja's sandbox */

static bool want_str(rt *r, value v, const char *what) {
    if (v.kind == V_STR) return true;
    if (v.kind == V_UNDEF)
        jinja_fail_undef(r, v);
    else
        jinja_fail(r, "%s must be str, not %s", what, jinja_type(v));
    return false;
}

#define METHOD(name) static value name(rt *r, value self, value *a, const args *raw)
#define UNUSED       (void)r, (void)self, (void)a, (void)raw

/* ── str ── */

METHOD(s_upper) {
    UNUSED;
    return jinja_case(r, self, CASE_UPPER);
}
METHOD(s_lower) {
    UNUSED;
    return jinja_case(r, self, CASE_LOWER);
}
METHOD(s_capitalize) {
    UNUSED;
    return jinja_case(r, self, CASE_CAPITAL);
}
METHOD(s_title) {
    UNUSED;
    return jinja_case(r, self, CASE_TITLE);
}
METHOD(s_swapcase) {
    UNUSED;
    return jinja_case(r, self, CASE_SWAP);
}

static value strip(rt *r, value self, value chars, int sides) {
    if (given(chars) && chars.kind != V_NONE && !want_str(r, chars, "strip arg")) return v_none();
    return jinja_strip(r, self, chars, sides);
}
METHOD(s_strip) {
    UNUSED;
    return strip(r, self, a[0], STRIP_LEFT | STRIP_RIGHT);
}
METHOD(s_lstrip) {
    UNUSED;
    return strip(r, self, a[0], STRIP_LEFT);
}
METHOD(s_rstrip) {
    UNUSED;
    return strip(r, self, a[0], STRIP_RIGHT);
}

static value split(rt *r, value self, value *a, bool from_right) {
    value sep = given(a[0]) ? a[0] : v_none();
    int64_t max = jinja_whole(r, a[1], -1);
    if (sep.kind != V_NONE && !want_str(r, sep, "separator")) return v_none();
    return from_right ? jinja_rsplit(r, self, sep, max) : jinja_split(r, self, sep, max);
}
METHOD(s_split) {
    UNUSED;
    return split(r, self, a, false);
}
METHOD(s_rsplit) {
    UNUSED;
    return split(r, self, a, true);
}
METHOD(s_splitlines) {
    UNUSED;
    return jinja_splitlines(r, self, jinja_whole(r, a[0], 0) != 0);
}

METHOD(s_replace) {
    UNUSED;
    if (!want_str(r, a[0], "replace() argument 1") || !want_str(r, a[1], "replace() argument 2"))
        return v_none();
    value new = self.markup ? jinja_escape(r, a[1]) : a[1];
    return jinja_replace(r, self, a[0], new, jinja_whole(r, a[2], -1));
}

METHOD(s_join) {
    UNUSED;
    seq *items = jinja_iter(r, a[0]);
    for (size_t i = 0; items && i < items->n; i++)
        if (items->items[i].kind != V_STR)
            return jinja_fail(r, "sequence item %zu: expected str instance, %s found", i,
                              jinja_type(items->items[i]));
    return jinja_join(r, self, items);
}

METHOD(s_format) {
    UNUSED;
    return jinja_format(r, self, raw);
}

METHOD(s_format_map) {
    UNUSED;
    if (a[0].kind != V_DICT) return jinja_fail(r, "format_map() wants a dict");
    args in = {.kw = jinja_alloc(r, a[0].dict->n, sizeof(kwarg))};
    for (size_t i = 0; in.kw && i < a[0].dict->n && i < 1 << 20; i++)
        if (a[0].dict->e[i].key.kind == V_STR)
            in.kw[in.n_kw++] = (kwarg){as_str(a[0].dict->e[i].key), a[0].dict->e[i].val};
    return jinja_format(r, self, &in);
}

/* A bound of find() and its like, in characters; negative counts from the end. */
static int64_t bound_or(rt *r, value v, int64_t fallback, int64_t n) {
    int64_t at = given(v) && v.kind != V_NONE ? jinja_whole(r, v, 0) : fallback;
    return at >= 0 ? at : at + n < 0 ? 0 : at + n;
}

/* The part of self between start and end, and the character it begins at. False when it begins
 * behind its end: nothing is in there, not even "". */
static bool window(rt *r, value self, value *a, value *part, int64_t *begin) {
    int64_t n = (int64_t)jinja_n_chars(self), end = bound_or(r, a[2], n, n);
    *begin = bound_or(r, a[1], 0, n);
    *part = self;
    if (end > n) end = n;
    if (r->failed || *begin > end) return false;
    if (*begin || end < n)
        *part =
            jinja_sub(r, self, jinja_offset(self, (size_t)*begin), jinja_offset(self, (size_t)end));
    return !r->failed;
}

static bool has_affix(rt *r, value self, value *a, bool suffix) {
    value part;
    int64_t begin;
    bool within = window(r, self, a, &part, &begin);
    str t = as_str(part);
    if (is_tuple(a[0])) {
        for (size_t i = 0; i < a[0].seq->n && tick(r); i++) {
            value x = a[0].seq->items[i];
            if (want_str(r, x, "every affix") && within &&
                (suffix ? str_ends(t, as_str(x)) : str_starts(t, as_str(x))))
                return true;
        }
        return false;
    }
    if (!want_str(r, a[0], suffix ? "endswith first arg" : "startswith first arg")) return false;
    return within && (suffix ? str_ends(t, as_str(a[0])) : str_starts(t, as_str(a[0])));
}
METHOD(s_startswith) {
    UNUSED;
    return v_bool(has_affix(r, self, a, false), self.data);
}
METHOD(s_endswith) {
    UNUSED;
    return v_bool(has_affix(r, self, a, true), self.data);
}

METHOD(s_removeprefix) {
    UNUSED;
    if (!want_str(r, a[0], "removeprefix() argument") || !str_starts(as_str(self), as_str(a[0])))
        return self;
    return jinja_sub(r, self, a[0].s->len, self.s->len);
}
METHOD(s_removesuffix) {
    UNUSED;
    if (!want_str(r, a[0], "removesuffix() argument") || !str_ends(as_str(self), as_str(a[0])))
        return self;
    return jinja_sub(r, self, 0, self.s->len - a[0].s->len);
}

static ptrdiff_t rfind(str t, str d) {
    for (size_t p = t.len >= d.len ? t.len - d.len + 1 : 0; p-- > 0;)
        if (!d.len || memcmp(t.ptr + p, d.ptr, d.len) == 0) return (ptrdiff_t)p;
    return -1;
}

static int64_t find(rt *r, value self, value *a, bool from_right) {
    value part;
    int64_t begin;
    if (!want_str(r, a[0], "what is searched for")) return -1;
    if (!window(r, self, a, &part, &begin) || !charge(r, part.s->len)) return -1;
    ptrdiff_t hit =
        from_right ? rfind(as_str(part), as_str(a[0])) : str_find(as_str(part), as_str(a[0]), 0);
    return hit < 0 ? -1 : begin + (int64_t)utf8_count(str_make(part.s->ptr, (size_t)hit));
}
METHOD(s_find) {
    UNUSED;
    return v_int(find(r, self, a, false), self.data);
}
METHOD(s_rfind) {
    UNUSED;
    return v_int(find(r, self, a, true), self.data);
}
METHOD(s_index) {
    UNUSED;
    int64_t at = find(r, self, a, false);
    return at < 0 ? jinja_fail(r, "substring not found") : v_int(at, self.data);
}
METHOD(s_rindex) {
    UNUSED;
    int64_t at = find(r, self, a, true);
    return at < 0 ? jinja_fail(r, "substring not found") : v_int(at, self.data);
}

METHOD(s_count) {
    UNUSED;
    value part;
    int64_t begin, n = 0;
    if (!want_str(r, a[0], "what is counted")) return v_none();
    if (!window(r, self, a, &part, &begin)) return v_int(0, self.data);
    str t = as_str(part), d = as_str(a[0]);
    if (!charge(r, t.len)) return v_none();
    if (!d.len) return v_int((int64_t)jinja_n_chars(part) + 1, self.data);
    for (ptrdiff_t hit = 0; (hit = str_find(t, d, (size_t)hit)) >= 0; hit += (ptrdiff_t)d.len) n++;
    return v_int(n, self.data);
}

static value partition(rt *r, value self, value sep, bool from_right) {
    if (!want_str(r, sep, "separator")) return v_none();
    if (!sep.s->len) return jinja_fail(r, "empty separator");
    ptrdiff_t hit =
        from_right ? rfind(as_str(self), as_str(sep)) : str_find(as_str(self), as_str(sep), 0);
    seq *out = jinja_seq(r, SEQ_TUPLE, 3);
    value none = jinja_cstr(r, "");
    if (hit < 0) {
        jinja_push(r, out, from_right ? none : self);
        jinja_push(r, out, none);
        jinja_push(r, out, from_right ? self : none);
    } else {
        size_t at = (size_t)hit, end = at + sep.s->len;
        jinja_push(r, out, jinja_sub(r, self, 0, at));
        jinja_push(r, out, jinja_sub(r, self, at, end));
        jinja_push(r, out, jinja_sub(r, self, end, self.s->len));
    }
    value v = v_seq(out);
    v.data = self.data;
    return v;
}
METHOD(s_partition) {
    UNUSED;
    return partition(r, self, a[0], false);
}
METHOD(s_rpartition) {
    UNUSED;
    return partition(r, self, a[0], true);
}

static value justify(rt *r, value self, value *a, char how) {
    int64_t width = jinja_whole(r, a[0], 0), n = width - (int64_t)jinja_n_chars(self);
    value fill = given(a[1]) ? a[1] : jinja_cstr(r, " ");
    if (!want_str(r, fill, "the fill character")) return self;
    if (jinja_n_chars(fill) != 1)
        return jinja_fail(r, "The fill character must be exactly one character long");
    if (n <= 0) return self;
    int64_t left = how == 'r' ? n : how == 'l' ? 0 : n / 2 + (n & width & 1);
    grow *g = jinja_grow(r);
    for (int64_t i = 0; i < left && tick(r); i++) jinja_put_str(r, g, fill);
    jinja_put_str(r, g, self);
    for (int64_t i = left; i < n && tick(r); i++) jinja_put_str(r, g, fill);
    value v = jinja_grown(r, g);
    v.markup = self.markup;
    return v;
}
METHOD(s_ljust) {
    UNUSED;
    return justify(r, self, a, 'l');
}
METHOD(s_rjust) {
    UNUSED;
    return justify(r, self, a, 'r');
}
METHOD(s_center) {
    UNUSED;
    return justify(r, self, a, 'c');
}
METHOD(s_zfill) {
    UNUSED;
    int64_t n = jinja_whole(r, a[0], 0) - (int64_t)jinja_n_chars(self);
    bool sign = self.s->len && (self.s->ptr[0] == '-' || self.s->ptr[0] == '+');
    if (n <= 0) return self;
    grow *g = jinja_grow(r);
    jinja_put_sub(r, g, self, 0, sign);
    for (int64_t i = 0; i < n && tick(r); i++) jinja_put_cstr(r, g, "0", self.data);
    jinja_put_sub(r, g, self, sign, self.s->len);
    return jinja_grown(r, g);
}

METHOD(s_expandtabs) {
    UNUSED;
    int64_t size = jinja_whole(r, a[0], 8), column = 0;
    str t = as_str(self);
    grow *g = jinja_grow(r);
    for (size_t at = 0, next; at < t.len && tick(r); at = next) {
        uint32_t cp = jinja_char(t, at, &next);
        if (cp == '\t') {
            for (int64_t n = size > 0 ? size - column % size : 0; n > 0 && tick(r); n--, column++)
                jinja_put_cstr(r, g, " ", self.data);
        } else {
            column = cp == '\n' || cp == '\r' ? 0 : column + 1;
            jinja_put_sub(r, g, self, at, next);
        }
    }
    return jinja_grown(r, g);
}

static bool is_ascii(uint32_t cp) {
    return cp < 128;
}
METHOD(s_isalpha) {
    UNUSED;
    return v_bool(jinja_all_chars(self, jinja_is_alpha), self.data);
}
METHOD(s_isalnum) {
    UNUSED;
    return v_bool(jinja_all_chars(self, jinja_is_alnum), self.data);
}
METHOD(s_isdigit) {
    UNUSED;
    return v_bool(jinja_all_chars(self, jinja_is_digit), self.data);
}
METHOD(s_isdecimal) {
    UNUSED;
    return v_bool(jinja_all_chars(self, jinja_is_decimal), self.data);
}
METHOD(s_isnumeric) {
    UNUSED;
    return v_bool(jinja_all_chars(self, jinja_is_numeric), self.data);
}
METHOD(s_isspace) {
    UNUSED;
    return v_bool(jinja_all_chars(self, jinja_is_space), self.data);
}
METHOD(s_isascii) {
    UNUSED;
    return v_bool(!self.s->len || jinja_all_chars(self, is_ascii), self.data);
}
METHOD(s_isprintable) {
    UNUSED;
    return v_bool(!self.s->len || jinja_all_chars(self, jinja_is_printable), self.data);
}
METHOD(s_isupper) {
    UNUSED;
    return v_bool(jinja_is_case(self, true), self.data);
}
METHOD(s_islower) {
    UNUSED;
    return v_bool(jinja_is_case(self, false), self.data);
}
METHOD(s_istitle) {
    UNUSED;
    value title = jinja_case(r, self, CASE_TITLE);
    return v_bool(!r->failed && str_eq(as_str(title), as_str(self)) &&
                      (jinja_is_case(jinja_case(r, self, CASE_UPPER), true)),
                  self.data);
}
METHOD(s_isidentifier) {
    UNUSED;
    bool digit_first = self.s->len && self.s->ptr[0] >= '0' && self.s->ptr[0] <= '9';
    return v_bool(!digit_first && jinja_all_chars(self, jinja_is_word), self.data);
}

static const builtin str_methods[] = {
    {"capitalize", s_capitalize, 0, ""},
    {"casefold", s_lower, 0, ""},
    {"center", s_center, 1, "width/ fillchar/"},
    {"count", s_count, 1, "sub/ start/ end/"},
    {"endswith", s_endswith, 1, "suffix/ start/ end/"},
    {"expandtabs", s_expandtabs, 0, "tabsize"},
    {"find", s_find, 1, "sub/ start/ end/"},
    {"format", s_format, 0, "*"},
    {"format_map", s_format_map, 1, "mapping/"},
    {"index", s_index, 1, "sub/ start/ end/"},
    {"isalnum", s_isalnum, 0, ""},
    {"isalpha", s_isalpha, 0, ""},
    {"isascii", s_isascii, 0, ""},
    {"isdecimal", s_isdecimal, 0, ""},
    {"isdigit", s_isdigit, 0, ""},
    {"isidentifier", s_isidentifier, 0, ""},
    {"islower", s_islower, 0, ""},
    {"isnumeric", s_isnumeric, 0, ""},
    {"isprintable", s_isprintable, 0, ""},
    {"isspace", s_isspace, 0, ""},
    {"istitle", s_istitle, 0, ""},
    {"isupper", s_isupper, 0, ""},
    {"join", s_join, 1, "iterable/"},
    {"ljust", s_ljust, 1, "width/ fillchar/"},
    {"lower", s_lower, 0, ""},
    {"lstrip", s_lstrip, 0, "chars/"},
    {"partition", s_partition, 1, "sep/"},
    {"removeprefix", s_removeprefix, 1, "prefix/"},
    {"removesuffix", s_removesuffix, 1, "suffix/"},
    {"replace", s_replace, 2, "old/ new/ count/"},
    {"rfind", s_rfind, 1, "sub/ start/ end/"},
    {"rindex", s_rindex, 1, "sub/ start/ end/"},
    {"rjust", s_rjust, 1, "width/ fillchar/"},
    {"rpartition", s_rpartition, 1, "sep/"},
    {"rsplit", s_rsplit, 0, "sep maxsplit"},
    {"rstrip", s_rstrip, 0, "chars/"},
    {"split", s_split, 0, "sep maxsplit"},
    {"splitlines", s_splitlines, 0, "keepends"},
    {"startswith", s_startswith, 1, "prefix/ start/ end/"},
    {"strip", s_strip, 0, "chars/"},
    {"swapcase", s_swapcase, 0, ""},
    {"title", s_title, 0, ""},
    {"upper", s_upper, 0, ""},
    {"zfill", s_zfill, 1, "width/"},
};

/* ── list ── */

METHOD(l_append) {
    UNUSED;
    jinja_push(r, self.seq, a[0]);
    return v_none();
}
METHOD(l_extend) {
    UNUSED;
    seq *more = jinja_iter(r, a[0]);
    for (size_t i = 0; more && i < more->n && !r->failed; i++)
        jinja_push(r, self.seq, more->items[i]);
    return v_none();
}
METHOD(l_insert) {
    UNUSED;
    seq *s = self.seq;
    int64_t at = jinja_whole(r, a[0], 0), n = (int64_t)s->n;
    if (at < 0) at = at + n < 0 ? 0 : at + n;
    if (at > n) at = n;
    jinja_push(r, s, a[1]);
    if (r->failed || !charge(r, s->n * sizeof(value))) return v_none();
    memmove(s->items + at + 1, s->items + at, (size_t)(n - at) * sizeof *s->items);
    s->items[at] = a[1];
    return v_none();
}
METHOD(l_pop) {
    UNUSED;
    seq *s = self.seq;
    int64_t at = jinja_whole(r, a[0], -1), n = (int64_t)s->n;
    if (at < 0) at += n;
    if (r->failed || !n) return jinja_fail(r, "pop from empty list");
    if (at < 0 || at >= n) return jinja_fail(r, "pop index out of range");
    value v = s->items[at];
    if (!charge(r, s->n * sizeof(value))) return v_none();
    memmove(s->items + at, s->items + at + 1, (size_t)(n - at - 1) * sizeof *s->items);
    s->n--;
    return v;
}
METHOD(l_index) {
    UNUSED;
    int64_t n = (int64_t)self.seq->n, stop = bound_or(r, a[2], n, n);
    for (int64_t i = bound_or(r, a[1], 0, n); i < n && i < stop && tick(r); i++)
        if (jinja_eq(r, self.seq->items[i], a[0])) return v_int(i, self.data);
    return jinja_fail(r, "the value is not in the list");
}
METHOD(l_remove) {
    UNUSED;
    value sought[3] = {a[0], {.kind = V_MISSING}, {.kind = V_MISSING}};
    value at = l_index(r, self, sought, raw);
    return r->failed ? v_none() : (l_pop(r, self, &at, raw), v_none());
}
METHOD(l_count) {
    UNUSED;
    int64_t n = 0;
    for (size_t i = 0; i < self.seq->n && tick(r); i++) n += jinja_eq(r, self.seq->items[i], a[0]);
    return v_int(n, self.data);
}
METHOD(l_clear) {
    UNUSED;
    self.seq->n = 0;
    return v_none();
}
METHOD(l_copy) {
    UNUSED;
    seq *copy = jinja_iter(r, self);
    value v = copy ? v_seq(copy) : v_none();
    v.data = self.data;
    return v;
}
METHOD(l_reverse) {
    UNUSED;
    seq *s = self.seq;
    for (size_t i = 0; i < s->n / 2 && tick(r); i++) {
        value x = s->items[i];
        s->items[i] = s->items[s->n - 1 - i];
        s->items[s->n - 1 - i] = x;
    }
    return v_none();
}

static const builtin list_methods[] = {
    {"append", l_append, 1, "object/"},
    {"clear", l_clear, 0, ""},
    {"copy", l_copy, 0, ""},
    {"count", l_count, 1, "value/"},
    {"extend", l_extend, 1, "iterable/"},
    {"index", l_index, 1, "value/ start/ stop/"},
    {"insert", l_insert, 2, "index/ object/"},
    {"pop", l_pop, 0, "index/"},
    {"remove", l_remove, 1, "value/"},
    {"reverse", l_reverse, 0, ""},
};

/* ── dict ── */

static value view(rt *r, value self, seq_type type) {
    seq *out = jinja_seq(r, type, self.dict->n);
    for (size_t i = 0; i < self.dict->n && !r->failed; i++) {
        const dict_entry *e = &self.dict->e[i];
        if (type == SEQ_ITEMS) {
            seq *pair = jinja_seq(r, SEQ_TUPLE, 2);
            jinja_push(r, pair, e->key);
            jinja_push(r, pair, e->val);
            value p = v_seq(pair);
            p.data = self.data;
            jinja_push(r, out, p);
        } else {
            jinja_push(r, out, type == SEQ_KEYS ? e->key : e->val);
        }
    }
    value v = v_seq(out);
    v.data = self.data;
    return v;
}
METHOD(d_items) {
    UNUSED;
    return view(r, self, SEQ_ITEMS);
}
METHOD(d_keys) {
    UNUSED;
    return view(r, self, SEQ_KEYS);
}
METHOD(d_values) {
    UNUSED;
    return view(r, self, SEQ_VALUES);
}
METHOD(d_get) {
    UNUSED;
    value *v = jinja_dict_find(r, self.dict, a[0]);
    return v ? *v : given(a[1]) ? a[1] : v_none();
}
METHOD(d_pop) {
    UNUSED;
    value *v = jinja_dict_find(r, self.dict, a[0]);
    if (!v) return given(a[1]) ? a[1] : jinja_fail(r, "the dict has no such key");
    value out = *v;
    jinja_dict_del(r, self.dict, v);
    return out;
}
METHOD(d_popitem) {
    UNUSED;
    if (!self.dict->n) return jinja_fail(r, "popitem(): dictionary is empty");
    dict_entry *e = &self.dict->e[self.dict->n - 1];
    seq *pair = jinja_seq(r, SEQ_TUPLE, 2);
    jinja_push(r, pair, e->key);
    jinja_push(r, pair, e->val);
    jinja_dict_del(r, self.dict, &e->val);
    return v_seq(pair);
}
METHOD(d_setdefault) {
    UNUSED;
    value *v = jinja_dict_find(r, self.dict, a[0]);
    if (v || r->failed) return v ? *v : v_none();
    value fresh = given(a[1]) ? a[1] : v_none();
    jinja_dict_set(r, self.dict, a[0], fresh);
    return fresh;
}

/* dict(mapping or pairs, **names) into d. */
static void fill(rt *r, dict *d, const args *in) {
    if (in->n_pos > 1) jinja_fail(r, "dict expected at most 1 argument, got %d", in->n_pos);
    if (in->n_pos == 1 && (in->pos[0].kind == V_DICT || in->pos[0].kind == V_NAMESPACE)) {
        const dict *from = in->pos[0].dict;
        for (size_t i = 0; from != d && i < from->n && !r->failed; i++)
            jinja_dict_set(r, d, from->e[i].key, from->e[i].val);
    } else if (in->n_pos == 1) {
        seq *pairs = jinja_iter(r, in->pos[0]);
        for (size_t i = 0; pairs && i < pairs->n && !r->failed; i++) {
            seq *pair = jinja_iter(r, pairs->items[i]);
            if (pair && pair->n == 2)
                jinja_dict_set(r, d, pair->items[0], pair->items[1]);
            else if (pair)
                jinja_fail(r,
                           "dictionary update sequence element #%zu has length %zu; 2 is required",
                           i, pair->n);
        }
    }
    for (int k = 0; k < in->n_kw && !r->failed; k++)
        jinja_dict_set(r, d, jinja_str(r, in->kw[k].name, false), in->kw[k].v);
}
METHOD(d_update) {
    UNUSED;
    fill(r, self.dict, raw);
    return v_none();
}
METHOD(d_clear) {
    UNUSED;
    *self.dict = (dict){0};
    return v_none();
}
METHOD(d_copy) {
    UNUSED;
    value v = v_dict(jinja_dict(r));
    fill(r, v.dict, &(args){.pos = &self, .n_pos = 1});
    v.data = self.data;
    return v;
}

static const builtin dict_methods[] = {
    {"clear", d_clear, 0, ""},
    {"copy", d_copy, 0, ""},
    {"get", d_get, 1, "key/ default/"},
    {"items", d_items, 0, ""},
    {"keys", d_keys, 0, ""},
    {"pop", d_pop, 1, "key/ default/"},
    {"popitem", d_popitem, 0, ""},
    {"setdefault", d_setdefault, 1, "key/ default/"},
    {"update", d_update, 0, "*"},
    {"values", d_values, 0, ""},
};

/* ── Functions ── */

METHOD(f_raise_exception) {
    UNUSED;
    value text = jinja_to_str(r, a[0]);
    return r->failed ? v_none() : jinja_raise(r, as_str(text));
}
METHOD(f_strftime_now) {
    UNUSED;
    return want_str(r, a[0], "the format") ? jinja_strftime(r, a[0]) : v_none();
}
METHOD(f_namespace) {
    UNUSED;
    dict *d = jinja_dict(r);
    fill(r, d, raw);
    return (value){.kind = V_NAMESPACE, .dict = d};
}
METHOD(f_dict) {
    UNUSED;
    dict *d = jinja_dict(r);
    fill(r, d, raw);
    return v_dict(d);
}
METHOD(f_range) {
    UNUSED;
    int64_t start = 0, stop = jinja_whole(r, a[0], 0), step = jinja_whole(r, a[2], 1);
    if (given(a[1])) {
        start = stop;
        stop = jinja_whole(r, a[1], 0);
    }
    if (r->failed) return v_none();
    if (step == 0) return jinja_fail(r, "range() arg 3 must not be zero");
    double n = ((double)stop - (double)start) / (double)step;
    if (n > MAX_RANGE)
        return jinja_fail(r, "Range too big. The sandbox blocks ranges larger than MAX_RANGE (%d)",
                          MAX_RANGE);
    seq *s = jinja_seq(r, SEQ_RANGE, n > 0 ? (size_t)n + 1 : 0);
    bool data = a[0].data || a[1].data || a[2].data;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        jinja_push(r, s, v_int(i, data));
        if (r->failed || __builtin_add_overflow(i, step, &i)) break;
    }
    if (r->failed) return v_none();
    s->start = start;
    s->stop = stop;
    s->step = step;
    return v_seq(s);
}
METHOD(f_cycler) {
    UNUSED;
    if (!raw->n_pos) return jinja_fail(r, "at least one item has to be provided");
    cycler *c = jinja_alloc(r, 1, sizeof *c);
    if (!c) return v_none();
    *c = (cycler){.items = raw->pos, .n = (size_t)raw->n_pos};
    return (value){.kind = V_CYCLER, .cycler = c};
}
METHOD(f_joiner) {
    UNUSED;
    joiner *j = jinja_alloc(r, 1, sizeof *j);
    if (!j) return v_none();
    *j = (joiner){.sep = given(a[0]) ? a[0] : jinja_cstr(r, ", ")};
    return (value){.kind = V_JOINER, .joiner = j};
}

static const builtin functions[] = {
    {"raise_exception", f_raise_exception, 1, "message"},
    {"strftime_now", f_strftime_now, 1, "format"},
    {"namespace", f_namespace, 0, "*"},
    {"range", f_range, 1, "start/ stop/ step/"},
    {"dict", f_dict, 0, "*"},
    {"cycler", f_cycler, 0, "*"},
    {"joiner", f_joiner, 0, "sep"},
};

#define FIND(table, name)                                     \
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) \
        if (str_is(name, table[i].name)) return &table[i];

const builtin *jinja_find_method(method_of of, str name) {
    if (of == METHOD_STR) FIND(str_methods, name)
    if (of == METHOD_LIST) FIND(list_methods, name)
    if (of == METHOD_DICT) FIND(dict_methods, name)
    return NULL;
}

const builtin *jinja_find_global(str name) {
    FIND(functions, name)
    return NULL;
}
