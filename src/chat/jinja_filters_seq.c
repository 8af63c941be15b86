/* Filters over lists, dicts and whatever else a loop runs over: picking, sorting,
 * grouping, adding up, and those that apply another filter or test to each item.
 */
#include "chat/jinja_filters.h"

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
        if (digits && jinja_parse_int(part, 10, &index, NULL))
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
    sort_items(r, s, given(a[2]) ? a[2] : v_none(), jinja_flag(a[1], false),
               jinja_whole(r, a[0], 0) != 0, true);
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
    sort_items(r, v.seq, v_int(str_is(by, "value"), false), jinja_flag(a[0], false),
               jinja_whole(r, a[2], 0) != 0, false);
    return v;
}

static value extreme(rt *r, value self, value *a, bool greatest) {
    seq *s = jinja_iter(r, self);
    if (!s) return v_none();
    if (!s->n) return jinja_undef_hint(r, "No aggregated item, sequence was empty.");
    bool case_sensitive = jinja_flag(a[0], false);
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
                              jinja_flag(a[0], false));
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
    bool case_sensitive = jinja_flag(a[2], false);
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
    if (fills && !is_int(a[0])) return v_int(jinja_whole(r, a[0], 0), false);
    while (fills && (double)row->n < n && tick(r)) jinja_push(r, row, a[1]);
    return of_seq(out, self.data);
}

FILTER(f_slice) {
    UNUSED;
    seq *s = jinja_iter(r, self), *out = jinja_seq(r, SEQ_ITER, 0);
    int64_t n = jinja_whole(r, a[0], 1);
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

static const builtin rows[] = {
    {"batch", f_batch, 1, "linecount fill_with"},
    {"dictsort", f_dictsort, 0, "case_sensitive by reverse"},
    {"first", f_first, 0, ""},
    {"groupby", f_groupby, 1, "attribute default case_sensitive"},
    {"items", f_items, 0, ""},
    {"join", f_join, 0, "d attribute"},
    {"last", f_last, 0, ""},
    {"list", f_list, 0, ""},
    {"map", f_map, 0, "*"},
    {"max", f_max, 0, "case_sensitive attribute"},
    {"min", f_min, 0, "case_sensitive attribute"},
    {"reject", f_reject, 0, "*"},
    {"rejectattr", f_rejectattr, 0, "*"},
    {"reverse", f_reverse, 0, ""},
    {"select", f_select, 0, "*"},
    {"selectattr", f_selectattr, 0, "*"},
    {"slice", f_slice, 1, "slices fill_with"},
    {"sort", f_sort, 0, "reverse case_sensitive attribute"},
    {"sum", f_sum, 0, "attribute start"},
    {"unique", f_unique, 0, "case_sensitive attribute"},
};
const builtin_table jinja_seq_filters = {rows, sizeof rows / sizeof *rows};
