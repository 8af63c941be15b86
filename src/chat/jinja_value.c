/* Values: strings that know who wrote each byte, lists, dicts, undefined; how
 * they print, compare and hash. The meaning is Python's.
 *
 * Provenance: a string is all trusted, all data (value.data), or mixed, and then
 * carries a mask with one byte per byte. Slices share bytes and mask. Whoever
 * builds a string goes through a grow, which keeps the mask; nothing else
 * writes string bytes.
 */
#include "base/hash.h"
#include "chat/jinja_impl.h"

#include <math.h>
#include <stdio.h>

void *jinja_alloc(rt *r, size_t n, size_t size) {
    void *p = r->failed ? NULL : arena_array(&r->mem, n, size);
    if (!p && !r->failed)
        jinja_fail(r, "rendering needs more than %zu bytes of memory", r->lim.max_memory_bytes);
    return p;
}

/* ── Strings ── */

static const string empty_text = {.ptr = "", .n_chars = 0};

static value text_value(const string *s, bool data) {
    /* Only a render writes texts it made itself, and only the count of characters. */
    return (value){.kind = V_STR, .data = data, .s = (string *)(uintptr_t)s};
}

value jinja_str(rt *r, str s, bool data) {
    if (!s.len) return text_value(&empty_text, data);
    string *x = jinja_alloc(r, 1, sizeof *x);
    if (!x) return text_value(&empty_text, data);
    *x = (string){.ptr = s.ptr, .len = s.len, .n_chars = -1};
    return text_value(x, data);
}

value jinja_cstr(rt *r, const char *s) {
    return jinja_str(r, str_from(s), false);
}

value jinja_sub(rt *r, value s, size_t begin, size_t end) {
    if (end > s.s->len) end = s.s->len;
    if (begin == 0 && end == s.s->len) return s;
    if (begin >= end) {
        value none = text_value(&empty_text, s.data);
        none.markup = s.markup;
        return none;
    }
    value v = jinja_str(r, str_make(s.s->ptr + begin, end - begin), s.data);
    if (r->failed) return v;
    if (s.s->mask) v.s->mask = s.s->mask + begin;
    if (s.s->n_chars == (ptrdiff_t)s.s->len) v.s->n_chars = (ptrdiff_t)(end - begin);
    v.markup = s.markup;
    return v;
}

grow *jinja_grow(rt *r) {
    static grow none; /* given out after a failure; jinja_put leaves it alone */
    grow *g = jinja_alloc(r, 1, sizeof *g);
    return g ? g : &none;
}

static bool reserve(rt *r, grow *g, size_t n) {
    if (g->max && n > g->max - g->len) {
        jinja_fail(r, "it writes more than %zu bytes", g->max);
        return false;
    }
    if (n <= g->cap - g->len) return true;
    size_t cap = g->cap * 2 > 64 ? g->cap * 2 : 64;
    if (cap < g->len + n) cap = g->len + n;
    char *ptr = r->failed ? NULL : arena_alloc_aligned(&r->mem, cap, 1);
    uint8_t *mask = NULL;
    if (ptr && g->mask) mask = arena_alloc_aligned(&r->mem, cap, 1);
    if (!ptr || (g->mask && !mask)) {
        jinja_fail(r, "rendering needs more than %zu bytes of memory", r->lim.max_memory_bytes);
        return false;
    }
    if (g->len) memcpy(ptr, g->ptr, g->len);
    if (g->len && mask) memcpy(mask, g->mask, g->len);
    g->ptr = ptr;
    g->mask = mask;
    g->cap = cap;
    return true;
}

void jinja_put(rt *r, grow *g, const char *p, size_t n, const uint8_t *mask, bool data) {
    if (!n || !charge(r, n) || !reserve(r, g, n)) return;
    if (!g->len && !mask) g->data = data;
    if (!g->mask && (mask || g->data != data)) {
        g->mask = arena_alloc_aligned(&r->mem, g->cap, 1);
        if (!g->mask) {
            jinja_fail(r, "rendering needs more than %zu bytes of memory", r->lim.max_memory_bytes);
            return;
        }
        memset(g->mask, !g->data, g->len);
    }
    memcpy(g->ptr + g->len, p, n);
    if (g->mask) {
        if (mask)
            memcpy(g->mask + g->len, mask, n);
        else
            memset(g->mask + g->len, !data, n);
    }
    g->len += n;
}

void jinja_put_cstr(rt *r, grow *g, const char *s, bool data) {
    jinja_put(r, g, s, strlen(s), NULL, data);
}
void jinja_put_str(rt *r, grow *g, value s) {
    jinja_put(r, g, s.s->ptr, s.s->len, s.s->mask, s.data);
}
void jinja_put_sub(rt *r, grow *g, value s, size_t begin, size_t end) {
    jinja_put(r, g, s.s->ptr + begin, end - begin, s.s->mask ? s.s->mask + begin : NULL, s.data);
}

value jinja_grown(rt *r, grow *g) {
    value v = jinja_str(r, str_make(g->ptr, g->len), g->data || g->mask);
    if (!g->len || r->failed) return v;
    v.s->mask = g->mask;
    v.s->owner = g;
    return v;
}

/* The end of `s` may grow in place when s is all of what its grow holds; older strings that share
 * the grow keep seeing their own length of it. */
value jinja_concat(rt *r, value a, value b) {
    if (!b.s->len) return a;
    if (!a.s->len) return b;
    grow *g = a.s->owner;
    if (!g || g->ptr != a.s->ptr || g->len != a.s->len || g->max) {
        g = jinja_grow(r);
        jinja_put_str(r, g, a);
    }
    jinja_put_str(r, g, b);
    value v = jinja_grown(r, g);
    v.markup = a.markup;
    return v;
}

value jinja_escape(rt *r, value v) {
    if (v.kind == V_STR && v.markup) return v;
    v = jinja_to_str(r, v);
    grow *g = jinja_grow(r);
    size_t from = 0;
    for (size_t i = 0; i < v.s->len; i++) {
        const char *as = NULL;
        switch (v.s->ptr[i]) {
        case '&': as = "&amp;"; break;
        case '<': as = "&lt;"; break;
        case '>': as = "&gt;"; break;
        case '\'': as = "&#39;"; break;
        case '"': as = "&#34;"; break;
        }
        if (!as) continue;
        jinja_put_sub(r, g, v, from, i);
        jinja_put_cstr(r, g, as, v.s->mask ? !v.s->mask[i] : v.data);
        from = i + 1;
    }
    jinja_put_sub(r, g, v, from, v.s->len);
    v = jinja_grown(r, g);
    v.markup = true;
    return v;
}

/* ── Undefined and types ── */

const char *jinja_type(value v) {
    static const char *const seqs[] = {"list",      "tuple",       "tuple",      "range",
                                       "dict_keys", "dict_values", "dict_items", "generator"};
    switch ((vkind)v.kind) {
    case V_MISSING:
    case V_UNDEF: return "Undefined";
    case V_NONE: return "NoneType";
    case V_BOOL: return "bool";
    case V_INT: return "int";
    case V_FLOAT: return "float";
    case V_STR: return v.markup ? "Markup" : "str";
    case V_SEQ: return seqs[v.seq->type];
    case V_DICT: return "dict";
    case V_NAMESPACE: return "Namespace";
    case V_MACRO: return "Macro";
    case V_BUILTIN:
    case V_METHOD: return "function";
    case V_LOOP: return "LoopContext";
    case V_CYCLER: return "Cycler";
    case V_JOINER: return "Joiner";
    }
    return "?";
}

const char *jinja_object(value v) {
    static const char *const seqs[] = {
        "list object",      "tuple object",       "tuple object",      "range object",
        "dict_keys object", "dict_values object", "dict_items object", "generator object"};
    switch ((vkind)v.kind) {
    case V_NONE: return "None";
    case V_BOOL: return "bool object";
    case V_INT: return "int object";
    case V_FLOAT: return "float object";
    case V_STR: return v.markup ? "markupsafe.Markup object" : "str object";
    case V_SEQ: return seqs[v.seq->type];
    case V_DICT: return "dict object";
    case V_NAMESPACE: return "namespace object";
    case V_MACRO: return "macro object";
    case V_LOOP: return "loop object";
    default: return "object";
    }
}

value jinja_undef(rt *r, const char *object, str name, bool is_element) {
    undef *u = jinja_alloc(r, 1, sizeof *u);
    if (!u) return v_none();
    *u = (undef){.object = object, .name = name, .is_element = is_element};
    return (value){.kind = V_UNDEF, .undef = u};
}

value jinja_undef_hint(rt *r, const char *hint) {
    value v = jinja_undef(r, NULL, (str){0}, false);
    if (v.kind == V_UNDEF) v.undef->hint = hint;
    return v;
}

value jinja_fail_undef(rt *r, value v) {
    const undef *u = v.undef;
    int n = (int)(u->name.len < 120 ? u->name.len : 120);
    const char *name = u->name.ptr ? u->name.ptr : "";
    if (u->hint) return jinja_fail(r, "%s", u->hint);
    if (!u->object) return jinja_fail(r, "'%.*s' is undefined", n, name);
    if (u->is_element) return jinja_fail(r, "%s has no element %.*s", u->object, n, name);
    return jinja_fail(r, "'%s' has no attribute '%.*s'", u->object, n, name);
}

/* ── Lists ── */

seq *jinja_seq(rt *r, seq_type type, size_t cap) {
    static seq none; /* given out after a failure; jinja_push leaves it alone */
    seq *s = jinja_alloc(r, 1, sizeof *s);
    if (!s) return &none;
    *s = (seq){.type = type};
    if (cap) {
        s->items = jinja_alloc(r, cap, sizeof *s->items);
        if (s->items) s->cap = cap;
    }
    return s;
}

void jinja_push(rt *r, seq *s, value v) {
    if (!tick(r)) return;
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 8;
        value *grown = jinja_alloc(r, cap, sizeof *grown);
        if (!grown) return;
        if (s->n) memcpy(grown, s->items, s->n * sizeof *grown);
        s->items = grown;
        s->cap = cap;
    }
    s->items[s->n++] = v;
}

seq *jinja_iter(rt *r, value v) {
    seq *out;
    switch ((vkind)v.kind) {
    case V_UNDEF: return jinja_seq(r, SEQ_LIST, 0);
    case V_STR: {
        out = jinja_seq(r, SEQ_LIST, jinja_n_chars(v));
        str s = as_str(v);
        for (size_t at = 0, next; at < s.len && !r->failed; at = next) {
            jinja_char(s, at, &next);
            value one = jinja_sub(r, v, at, next);
            one.markup = false;
            jinja_push(r, out, one);
        }
        break;
    }
    case V_SEQ:
        out = jinja_seq(r, SEQ_LIST, v.seq->n);
        if (out->cap < v.seq->n || !charge(r, v.seq->n * sizeof(value))) break;
        if (v.seq->n) memcpy(out->items, v.seq->items, v.seq->n * sizeof(value));
        out->n = v.seq->n;
        if (v.seq->type == SEQ_ITER) v.seq->n = 0; /* read once */
        break;
    case V_DICT:
        out = jinja_seq(r, SEQ_LIST, v.dict->n);
        for (size_t i = 0; i < v.dict->n && !r->failed; i++) jinja_push(r, out, v.dict->e[i].key);
        break;
    case V_LOOP: { /* what a loop has not served yet, as (item, loop) pairs: nobody asks for it */
        out = NULL;
        jinja_fail(r, "'loop' cannot be looped over");
        break;
    }
    default: jinja_fail(r, "'%s' object is not iterable", jinja_type(v)); out = NULL;
    }
    return r->failed ? NULL : out;
}

bool jinja_has_len(value v) {
    return v.kind == V_UNDEF || v.kind == V_STR || v.kind == V_DICT ||
           (v.kind == V_SEQ && v.seq->type != SEQ_ITER) || v.kind == V_LOOP;
}

int64_t jinja_len(rt *r, value v) {
    switch ((vkind)v.kind) {
    case V_UNDEF: return 0;
    case V_STR: return (int64_t)jinja_n_chars(v);
    case V_DICT: return (int64_t)v.dict->n;
    case V_LOOP: return (int64_t)v.loop->n;
    case V_SEQ:
        if (v.seq->type != SEQ_ITER) return (int64_t)v.seq->n;
        /* fall through */
    default: jinja_fail(r, "object of type '%s' has no len()", jinja_type(v)); return 0;
    }
}

/* ── Dicts ── */

enum { SMALL_DICT = 8 };

dict *jinja_dict(rt *r) {
    static dict none; /* given out after a failure; jinja_dict_set leaves it alone */
    dict *d = jinja_alloc(r, 1, sizeof *d);
    return d ? d : &none;
}

static bool hash_value(rt *r, value v, uint64_t *out) {
    switch ((vkind)v.kind) {
    case V_NONE: *out = hash_mix(1); return true;
    case V_STR: *out = hash_str(as_str(v)); return true;
    case V_FLOAT:
        /* 1 == 1.0, so they hash alike. */
        if (v.f >= -0x1p63 && v.f < 0x1p63 && v.f == floor(v.f)) {
            *out = hash_mix((uint64_t)(int64_t)v.f);
        } else {
            *out = hash_bytes(&v.f, sizeof v.f, 0);
        }
        return true;
    case V_BOOL:
    case V_INT: *out = hash_mix((uint64_t)as_int(v)); return true;
    case V_SEQ:
        if (is_tuple(v)) {
            *out = hash_mix(v.seq->n);
            if (!jinja_enter(r)) return false;
            bool ok = true;
            for (size_t i = 0; ok && i < v.seq->n; i++) {
                uint64_t h;
                ok = tick(r) && hash_value(r, v.seq->items[i], &h);
                if (ok) *out = hash_combine(*out, h);
            }
            jinja_leave(r);
            return ok;
        }
        if (v.seq->type != SEQ_RANGE) break;
        *out = hash_mix(v.seq->n); /* equal ranges hold equal numbers */
        for (size_t i = 0; i < 2 && i < v.seq->n; i++)
            *out = hash_combine(*out, hash_mix((uint64_t)as_int(v.seq->items[i])));
        return true;
    case V_DICT: break;
    case V_UNDEF: *out = hash_mix(2); return true; /* every undefined equals every other */
    default: *out = hash_bytes(&v.s, sizeof v.s, v.kind); return true;
    }
    jinja_fail(r, "unhashable type: '%s'", jinja_type(v));
    return false;
}

static bool same_key(rt *r, const dict_entry *e, value key, uint64_t hash) {
    if (e->hash != hash) return false;
    if (e->key.kind == V_STR && key.kind == V_STR) return str_eq(as_str(e->key), as_str(key));
    return jinja_eq(r, e->key, key);
}

static dict_entry *find(rt *r, const dict *d, value key, uint64_t hash) {
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++)
            if (same_key(r, &d->e[i], key, hash)) return &d->e[i];
        return NULL;
    }
    for (uint64_t at = hash;; at++) {
        uint32_t i = d->index[at & (d->n_index - 1)];
        if (!i || !tick(r)) return NULL;
        if (same_key(r, &d->e[i - 1], key, hash)) return &d->e[i - 1];
    }
}

static void reindex(rt *r, dict *d) {
    if (d->cap <= SMALL_DICT) return;
    if (d->n_index < d->cap * 2) {
        size_t n = 32;
        while (n < d->cap * 2) n *= 2;
        d->index = jinja_alloc(r, n, sizeof *d->index);
        d->n_index = d->index ? n : 0;
        if (!d->index) return;
    } else {
        memset(d->index, 0, d->n_index * sizeof *d->index);
    }
    for (size_t i = 0; i < d->n; i++) {
        uint64_t at = d->e[i].hash;
        while (d->index[at & (d->n_index - 1)]) at++;
        d->index[at & (d->n_index - 1)] = (uint32_t)i + 1;
    }
}

value *jinja_dict_find(rt *r, const dict *d, value key) {
    uint64_t hash;
    if (!hash_value(r, key, &hash)) return NULL;
    dict_entry *e = find(r, d, key, hash);
    return e ? &e->val : NULL;
}

value *jinja_dict_find_str(const dict *d, str key) {
    if (!d->index) {
        for (size_t i = 0; i < d->n; i++)
            if (d->e[i].key.kind == V_STR && str_eq(as_str(d->e[i].key), key)) return &d->e[i].val;
        return NULL;
    }
    for (uint64_t at = hash_str(key);; at++) {
        uint32_t i = d->index[at & (d->n_index - 1)];
        if (!i) return NULL;
        dict_entry *e = &d->e[i - 1];
        if (e->key.kind == V_STR && str_eq(as_str(e->key), key)) return &e->val;
    }
}

void jinja_dict_set(rt *r, dict *d, value key, value v) {
    uint64_t hash;
    if (!tick(r) || !hash_value(r, key, &hash)) return;
    dict_entry *e = find(r, d, key, hash);
    if (r->failed) return;
    if (e) {
        e->val = v;
        return;
    }
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 4;
        dict_entry *grown = cap < UINT32_MAX ? jinja_alloc(r, cap, sizeof *grown) : NULL;
        if (!grown) return;
        if (d->n) memcpy(grown, d->e, d->n * sizeof *grown);
        d->e = grown;
        d->cap = cap;
        reindex(r, d);
        if (r->failed) return;
    }
    d->e[d->n++] = (dict_entry){key, v, hash};
    if (d->index) {
        uint64_t at = hash;
        while (d->index[at & (d->n_index - 1)]) at++;
        d->index[at & (d->n_index - 1)] = (uint32_t)d->n;
    }
}

void jinja_dict_del(rt *r, dict *d, value *val) {
    dict_entry *e = (dict_entry *)((char *)val - offsetof(dict_entry, val));
    size_t i = (size_t)(e - d->e);
    if (!charge(r, d->n * sizeof *e)) return;
    memmove(e, e + 1, (d->n - i - 1) * sizeof *e);
    d->n--;
    reindex(r, d);
}

/* ── Truth, equality, order ── */

bool jinja_true(value v) {
    switch ((vkind)v.kind) {
    case V_MISSING:
    case V_UNDEF:
    case V_NONE: return false;
    case V_BOOL: return v.b;
    case V_INT: return v.i != 0;
    case V_FLOAT: return v.f != 0;
    case V_STR: return v.s->len != 0;
    case V_SEQ: return v.seq->type == SEQ_ITER || v.seq->n != 0;
    case V_DICT: return v.dict->n != 0;
    case V_LOOP: return v.loop->n != 0;
    default: return true;
    }
}

enum { NEITHER = 2 }; /* what NaN is */

/* Exactly: a double does not hold every integer. */
static int compare_int(int64_t i, double f) {
    if (isnan(f)) return NEITHER;
    if (f >= 0x1p63) return -1;
    if (f < -0x1p63) return 1;
    int64_t whole = (int64_t)f;
    if (i != whole) return i < whole ? -1 : 1;
    return f > (double)whole ? -1 : f < (double)whole;
}

static int compare_numbers(value a, value b) {
    if (a.kind != V_FLOAT && b.kind != V_FLOAT) {
        int64_t x = as_int(a), y = as_int(b);
        return (x > y) - (x < y);
    }
    if (a.kind == V_FLOAT && b.kind == V_FLOAT)
        return a.f < b.f ? -1 : a.f > b.f ? 1 : a.f == b.f ? 0 : NEITHER;
    int c = a.kind == V_FLOAT ? compare_int(as_int(b), a.f) : compare_int(as_int(a), b.f);
    return a.kind == V_FLOAT && c != NEITHER ? -c : c;
}

static int compare_text(str a, str b) {
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n ? memcmp(a.ptr, b.ptr, n) : 0; /* UTF-8 sorts as its code points do */
    return c < 0 ? -1 : c > 0 ? 1 : (a.len > b.len) - (a.len < b.len);
}

bool jinja_eq(rt *r, value a, value b) {
    if (is_number(a) && is_number(b)) return compare_numbers(a, b) == 0;
    if (a.kind != b.kind) return false;
    switch ((vkind)a.kind) {
    case V_MISSING:
    case V_UNDEF:
    case V_NONE: return true;
    case V_STR: return a.s == b.s || (charge(r, a.s->len) && str_eq(as_str(a), as_str(b)));
    case V_SEQ: {
        if (a.seq == b.seq) return true;
        if (is_tuple(a) ? !is_tuple(b) : a.seq->type != b.seq->type) return false;
        if (a.seq->type == SEQ_ITER || a.seq->n != b.seq->n || !jinja_enter(r)) return false;
        bool same = true;
        for (size_t i = 0; same && i < a.seq->n; i++)
            same = tick(r) && jinja_eq(r, a.seq->items[i], b.seq->items[i]);
        jinja_leave(r);
        return same;
    }
    case V_DICT: {
        if (a.dict == b.dict) return true;
        if (a.dict->n != b.dict->n || !jinja_enter(r)) return false;
        bool same = true;
        for (size_t i = 0; same && i < a.dict->n; i++) {
            const dict_entry *e = &a.dict->e[i];
            const dict_entry *other = tick(r) ? find(r, b.dict, e->key, e->hash) : NULL;
            same = other && jinja_eq(r, e->val, other->val);
        }
        jinja_leave(r);
        return same;
    }
    default: return a.s == b.s; /* the same object */
    }
}

int jinja_cmp(rt *r, value a, value b, const char *op) {
    if (is_number(a) && is_number(b)) return compare_numbers(a, b);
    if (a.kind == V_STR && b.kind == V_STR)
        return charge(r, a.s->len) ? compare_text(as_str(a), as_str(b)) : 2;
    if ((is_list(a) && is_list(b)) || (is_tuple(a) && is_tuple(b))) {
        if (!jinja_enter(r)) return 2;
        int c = 0;
        size_t n = a.seq->n < b.seq->n ? a.seq->n : b.seq->n;
        for (size_t i = 0; !c && i < n && tick(r); i++)
            if (!jinja_eq(r, a.seq->items[i], b.seq->items[i]))
                c = jinja_cmp(r, a.seq->items[i], b.seq->items[i], op);
        jinja_leave(r);
        return c ? c : (a.seq->n > b.seq->n) - (a.seq->n < b.seq->n);
    }
    if (a.kind == V_UNDEF)
        jinja_fail_undef(r, a);
    else if (b.kind == V_UNDEF)
        jinja_fail_undef(r, b);
    else
        jinja_fail(r, "'%s' not supported between instances of '%s' and '%s'", op, jinja_type(a),
                   jinja_type(b));
    return 2;
}

bool jinja_in(rt *r, value item, value container) {
    switch ((vkind)container.kind) {
    case V_STR:
        if (item.kind != V_STR) {
            jinja_fail(r, "'in <string>' requires string as left operand, not %s",
                       jinja_type(item));
            return false;
        }
        return charge(r, container.s->len) && str_find(as_str(container), as_str(item), 0) >= 0;
    case V_DICT: return jinja_dict_find(r, container.dict, item) != NULL;
    case V_SEQ:
        for (size_t i = 0; i < container.seq->n; i++)
            if (!tick(r) || jinja_eq(r, item, container.seq->items[i])) return !r->failed;
        return false;
    case V_UNDEF: return false;
    default:
        jinja_fail(r, "argument of type '%s' is not iterable", jinja_type(container));
        return false;
    }
}

/* ── Printing ── */

static void put_number(rt *r, grow *g, value v) {
    char num[FLOAT_TEXT];
    if (v.kind == V_BOOL) {
        jinja_put_cstr(r, g, v.b ? "True" : "False", v.data);
    } else if (v.kind == V_INT) {
        int n = snprintf(num, sizeof num, "%lld", (long long)v.i);
        jinja_put(r, g, num, (size_t)n, NULL, v.data);
    } else {
        jinja_put(r, g, num, jinja_float_text(v.f, num), NULL, v.data);
    }
}

static void repr_str(rt *r, grow *g, value v) {
    str s = as_str(v);
    bool single = s.len && memchr(s.ptr, '\'', s.len), twice = s.len && memchr(s.ptr, '"', s.len);
    char quote = single && !twice ? '"' : '\'';
    jinja_put(r, g, &quote, 1, NULL, v.data);
    size_t from = 0;
    for (size_t at = 0, next; at < s.len && !r->failed; at = next) {
        uint32_t cp = jinja_char(s, at, &next);
        char esc[16] = "";
        if (cp == '\\' || cp == (unsigned char)quote)
            snprintf(esc, sizeof esc, "\\%c", (char)cp);
        else if (cp == '\n')
            snprintf(esc, sizeof esc, "\\n");
        else if (cp == '\r')
            snprintf(esc, sizeof esc, "\\r");
        else if (cp == '\t')
            snprintf(esc, sizeof esc, "\\t");
        else if (cp != ' ' && !jinja_is_printable(cp))
            snprintf(esc, sizeof esc,
                     cp < 0x100     ? "\\x%02x"
                     : cp < 0x10000 ? "\\u%04x"
                                    : "\\U%08x",
                     (unsigned)cp);
        if (!esc[0]) continue;
        jinja_put_sub(r, g, v, from, at);
        jinja_put_cstr(r, g, esc, v.s->mask ? !v.s->mask[at] : v.data);
        from = next;
    }
    jinja_put_sub(r, g, v, from, s.len);
    jinja_put(r, g, &quote, 1, NULL, v.data);
}

static void repr_dict(rt *r, grow *g, const dict *d, bool data) {
    jinja_put(r, g, "{", 1, NULL, data);
    for (size_t i = 0; i < d->n && !r->failed; i++) {
        if (i) jinja_put(r, g, ", ", 2, NULL, data);
        jinja_repr(r, g, d->e[i].key);
        jinja_put(r, g, ": ", 2, NULL, data);
        jinja_repr(r, g, d->e[i].val);
    }
    jinja_put(r, g, "}", 1, NULL, data);
}

static void repr_seq(rt *r, grow *g, value v) {
    static const char *const open[] = {
        "[", "(", "(", "", "dict_keys([", "dict_values([", "dict_items([", ""};
    static const char *const close[] = {"]", ")", ")", "", "])", "])", "])", ""};
    const seq *s = v.seq;
    if (s->type == SEQ_ITER) {
        jinja_put_cstr(r, g, "<generator object>", v.data);
        return;
    }
    if (s->type == SEQ_RANGE) {
        char what[96];
        if (s->step == 1)
            snprintf(what, sizeof what, "range(%lld, %lld)", (long long)s->start,
                     (long long)s->stop);
        else
            snprintf(what, sizeof what, "range(%lld, %lld, %lld)", (long long)s->start,
                     (long long)s->stop, (long long)s->step);
        jinja_put_cstr(r, g, what, v.data);
        return;
    }
    jinja_put_cstr(r, g, open[s->type], v.data);
    for (size_t i = 0; i < s->n && !r->failed; i++) {
        if (i) jinja_put(r, g, ", ", 2, NULL, v.data);
        jinja_repr(r, g, s->items[i]);
    }
    if (is_tuple(v) && s->n == 1) jinja_put(r, g, ",", 1, NULL, v.data);
    jinja_put_cstr(r, g, close[s->type], v.data);
}

void jinja_repr(rt *r, grow *g, value v) {
    if (!tick(r)) return;
    switch ((vkind)v.kind) {
    case V_STR:
        if (v.markup) jinja_put_cstr(r, g, "Markup(", v.data);
        repr_str(r, g, v);
        if (v.markup) jinja_put_cstr(r, g, ")", v.data);
        return;
    case V_UNDEF: jinja_put_cstr(r, g, "Undefined", false); return;
    case V_SEQ:
    case V_DICT:
    case V_NAMESPACE:
        if (!jinja_enter(r)) return;
        if (v.kind == V_SEQ) {
            repr_seq(r, g, v);
        } else if (v.kind == V_DICT) {
            repr_dict(r, g, v.dict, v.data);
        } else {
            jinja_put_cstr(r, g, "<Namespace ", false);
            repr_dict(r, g, v.dict, v.data);
            jinja_put_cstr(r, g, ">", false);
        }
        jinja_leave(r);
        return;
    default: jinja_print(r, g, v);
    }
}

void jinja_print(rt *r, grow *g, value v) {
    switch ((vkind)v.kind) {
    case V_MISSING:
    case V_UNDEF: return;
    case V_NONE: jinja_put_cstr(r, g, "None", v.data); return;
    case V_BOOL:
    case V_INT:
    case V_FLOAT: put_number(r, g, v); return;
    case V_STR: jinja_put_str(r, g, v); return;
    case V_SEQ:
    case V_DICT:
    case V_NAMESPACE: jinja_repr(r, g, v); return;
    case V_MACRO:
        jinja_put_cstr(r, g, "<Macro '", false);
        jinja_put(r, g, v.macro->def->name.ptr, v.macro->def->name.len, NULL, false);
        jinja_put_cstr(r, g, "'>", false);
        return;
    case V_LOOP: {
        char what[64];
        snprintf(what, sizeof what, "<LoopContext %zu/%zu>", v.loop->at + 1, v.loop->n);
        jinja_put_cstr(r, g, what, false);
        return;
    }
    default: jinja_put_cstr(r, g, "<function>", false);
    }
}

value jinja_to_str(rt *r, value v) {
    if (v.kind == V_STR) return v;
    grow *g = jinja_grow(r);
    jinja_print(r, g, v);
    return jinja_grown(r, g);
}
