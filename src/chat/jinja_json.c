/* JSON on both sides: the caller's context becomes values, and tojson writes
 * what Python's json.dumps writes (", " and ": " unless told otherwise, keys in
 * order, floats as repr, non-ASCII as it is).
 *
 * Provenance: text inside strings keeps its own; brackets, quotes and commas
 * take that of the value they belong to.
 */
#include "chat/jinja_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ── In ── */

/* The trusted paths that still match, each as what remains of it: "[].role". */
typedef struct paths {
    str rest[JINJA_MAX_TRUSTED];
    int n;
} paths;

/* Steps every path into `key`, or into an element when key.ptr is NULL. True: all below is trusted. */
static bool step_into(const paths *from, str key, paths *to) {
    to->n = 0;
    for (int i = 0; i < from->n; i++) {
        str p = from->rest[i];
        if (!key.ptr) {
            if (!str_starts(p, STR("[]"))) continue;
            p = str_make(p.ptr + 2, p.len - 2);
        } else {
            if (p.len < key.len + 1 || p.ptr[0] != '.' || memcmp(p.ptr + 1, key.ptr, key.len) != 0)
                continue;
            p = str_make(p.ptr + 1 + key.len, p.len - 1 - key.len);
            if (p.len && p.ptr[0] != '.' && p.ptr[0] != '[') continue; /* a longer name */
        }
        if (!p.len) return true;
        to->rest[to->n++] = p;
    }
    return false;
}

static value convert(rt *r, const json_t *j, const paths *at, bool data) {
    paths below = {.n = 0};
    value v = v_none();
    if (!tick(r)) return v;
    switch (json_typeof(j)) {
    case JSON_NULL: break;
    case JSON_TRUE: v = v_bool(true, data); break;
    case JSON_FALSE: v = v_bool(false, data); break;
    case JSON_INTEGER: v = v_int(json_integer_value(j), data); break;
    case JSON_REAL: v = v_float(json_real_value(j), data); break;
    case JSON_STRING: v = jinja_str(r, json_str(j), data); break;
    case JSON_ARRAY: {
        if (!jinja_enter(r)) break;
        size_t n = json_array_size(j);
        seq *s = jinja_seq(r, SEQ_LIST, n);
        bool trusted = at->n && step_into(at, (str){0}, &below);
        for (size_t i = 0; i < n && !r->failed; i++)
            jinja_push(r, s, convert(r, json_array_get(j, i), &below, data && !trusted));
        jinja_leave(r);
        v = v_seq(s);
        break;
    }
    case JSON_OBJECT: {
        if (!jinja_enter(r)) break;
        dict *d = jinja_dict(r);
        for (void *it = json_object_iter((json_t *)(uintptr_t)j); it && !r->failed;
             it = json_object_iter_next((json_t *)(uintptr_t)j, it)) {
            str key = str_from(json_object_iter_key(it));
            bool trusted = at->n && step_into(at, key, &below);
            jinja_dict_set(r, d, jinja_str(r, key, data),
                           convert(r, json_object_iter_value(it), &below, data && !trusted));
        }
        jinja_leave(r);
        v = v_dict(d);
        break;
    }
    }
    v.data = data;
    return v;
}

value jinja_from_json(rt *r, const json_t *j, str name) {
    paths all = {.n = 0};
    for (size_t i = 0; r->opts && i < r->opts->n_trusted && i < JINJA_MAX_TRUSTED; i++) {
        str p = str_from(r->opts->trusted[i]);
        if (!str_starts(p, name)) continue;
        p = str_make(p.ptr + name.len, p.len - name.len);
        if (!p.len) return convert(r, j, &(paths){.n = 0}, false);
        if (p.ptr[0] == '.' || p.ptr[0] == '[') all.rest[all.n++] = p;
    }
    return convert(r, j, &all, true);
}

/* ── Out ── */

typedef struct writer {
    const json_style *style;
    grow *g;
    int level;
} writer;

static void put_json_str(rt *r, writer *w, value v) {
    str s = as_str(v);
    bool ascii = w->style->ensure_ascii;
    jinja_put(r, w->g, "\"", 1, NULL, v.data);
    size_t from = 0;
    for (size_t at = 0, next; at < s.len && !r->failed; at = next) {
        unsigned char c = (unsigned char)s.ptr[at];
        next = at + 1;
        if (c >= 0x20 && c != '"' && c != '\\' && (c < 0x7F || !ascii)) continue;
        uint32_t cp = jinja_char(s, at, &next);
        char esc[16];
        const char *named = cp == '"'    ? "\\\""
                            : cp == '\\' ? "\\\\"
                            : cp == '\n' ? "\\n"
                            : cp == '\r' ? "\\r"
                            : cp == '\t' ? "\\t"
                            : cp == '\f' ? "\\f"
                            : cp == '\b' ? "\\b"
                                         : NULL;
        if (named)
            snprintf(esc, sizeof esc, "%s", named);
        else if (cp < 0x10000)
            snprintf(esc, sizeof esc, "\\u%04x", (unsigned)cp);
        else
            snprintf(esc, sizeof esc, "\\u%04x\\u%04x", (unsigned)(0xD800 + ((cp - 0x10000) >> 10)),
                     (unsigned)(0xDC00 + ((cp - 0x10000) & 0x3FF)));
        jinja_put_sub(r, w->g, v, from, at);
        jinja_put_cstr(r, w->g, esc, v.s->mask ? !v.s->mask[at] : v.data);
        from = next;
    }
    jinja_put_sub(r, w->g, v, from, s.len);
    jinja_put(r, w->g, "\"", 1, NULL, v.data);
}

static void put_number(rt *r, writer *w, value v) {
    if (v.kind == V_BOOL)
        jinja_put_cstr(r, w->g, v.b ? "true" : "false", v.data);
    else if (v.kind == V_FLOAT && isnan(v.f))
        jinja_put_cstr(r, w->g, "NaN", v.data);
    else if (v.kind == V_FLOAT && isinf(v.f))
        jinja_put_cstr(r, w->g, v.f < 0 ? "-Infinity" : "Infinity", v.data);
    else
        jinja_print(r, w->g, v);
}

static void new_line(rt *r, writer *w, bool data) {
    value indent = w->style->indent;
    if (indent.kind == V_NONE || indent.kind == V_MISSING) return;
    jinja_put(r, w->g, "\n", 1, NULL, data);
    for (int i = 0; i < w->level && tick(r); i++) {
        if (indent.kind == V_STR)
            jinja_put_str(r, w->g, indent);
        else
            for (int64_t k = 0; k < as_int(indent) && tick(r); k++)
                jinja_put(r, w->g, " ", 1, NULL, data);
    }
}

static void put_item_sep(rt *r, writer *w, bool data) {
    bool indented = w->style->indent.kind != V_NONE && given(w->style->indent);
    if (given(w->style->item_sep))
        jinja_put_str(r, w->g, w->style->item_sep);
    else
        jinja_put_cstr(r, w->g, indented ? "," : ", ", data);
}

static void put_key_sep(rt *r, writer *w, bool data) {
    if (given(w->style->key_sep))
        jinja_put_str(r, w->g, w->style->key_sep);
    else
        jinja_put_cstr(r, w->g, ": ", data);
}

static void put_json(rt *r, writer *w, value v);

static void put_key(rt *r, writer *w, value key) {
    if (key.kind == V_STR) {
        put_json_str(r, w, key);
    } else if (key.kind == V_NONE || is_number(key)) {
        jinja_put(r, w->g, "\"", 1, NULL, key.data);
        if (key.kind == V_NONE)
            jinja_put_cstr(r, w->g, "null", key.data);
        else
            put_number(r, w, key);
        jinja_put(r, w->g, "\"", 1, NULL, key.data);
    } else {
        jinja_fail(r, "keys must be str, int, float, bool or None, not %s", jinja_type(key));
    }
}

static int by_key(const void *a, const void *b, void *run) {
    const dict_entry *x = a, *y = b;
    return jinja_cmp(run, x->key, y->key, "<");
}

static void put_dict(rt *r, writer *w, value v) {
    const dict *d = v.dict;
    const dict_entry *e = d->e;
    jinja_put(r, w->g, "{", 1, NULL, v.data);
    if (w->style->sort_keys && d->n > 1) {
        dict_entry *sorted = jinja_alloc(r, d->n, sizeof *sorted);
        if (!sorted) return;
        memcpy(sorted, d->e, d->n * sizeof *sorted);
        qsort_r(sorted, d->n, sizeof *sorted, by_key, r);
        e = sorted;
    }
    w->level++;
    for (size_t i = 0; i < d->n && tick(r); i++) {
        if (i) put_item_sep(r, w, v.data);
        new_line(r, w, v.data);
        put_key(r, w, e[i].key);
        put_key_sep(r, w, v.data);
        put_json(r, w, e[i].val);
    }
    w->level--;
    if (d->n) new_line(r, w, v.data);
    jinja_put(r, w->g, "}", 1, NULL, v.data);
}

static void put_array(rt *r, writer *w, value v) {
    jinja_put(r, w->g, "[", 1, NULL, v.data);
    w->level++;
    for (size_t i = 0; i < v.seq->n && tick(r); i++) {
        if (i) put_item_sep(r, w, v.data);
        new_line(r, w, v.data);
        put_json(r, w, v.seq->items[i]);
    }
    w->level--;
    if (v.seq->n) new_line(r, w, v.data);
    jinja_put(r, w->g, "]", 1, NULL, v.data);
}

static void put_json(rt *r, writer *w, value v) {
    if (!jinja_enter(r)) return;
    if (v.kind == V_STR)
        put_json_str(r, w, v);
    else if (v.kind == V_NONE)
        jinja_put_cstr(r, w->g, "null", v.data);
    else if (is_number(v))
        put_number(r, w, v);
    else if (v.kind == V_DICT)
        put_dict(r, w, v);
    else if (v.kind == V_SEQ && v.seq->type <= SEQ_GROUP)
        put_array(r, w, v);
    else
        jinja_fail(r, "Object of type %s is not JSON serializable", jinja_type(v));
    jinja_leave(r);
}

value jinja_to_json(rt *r, value v, const json_style *style) {
    writer w = {.style = style, .g = jinja_grow(r)};
    put_json(r, &w, v);
    return jinja_grown(r, w.g);
}
