/* Sets of values as lists of shapes by type (schema_impl.h's `typed`), and their algebra: and, or, not, and
 * whether nothing is left. Knows shapes, no keywords.
 */
#include "sample/schema_impl.h"

/* ── Whole sets ── */

typed *typed_none(schema_ctx *c) {
    return arena_alloc(&c->mem, sizeof(typed));
}

static const list_shape ANY_LIST = {.rest = SX_TRUE, .max = UINT32_MAX};
static const map_shape ANY_MAP = {.max = UINT32_MAX};

typed *typed_all(schema_ctx *c) {
    typed *t = typed_none(c);
    if (!t) return NULL;
    t->lits = JLIT_NULL | JLIT_TRUE | JLIT_FALSE;
    SHAPE_PUSH(c, t->texts, SHAPE_ANY_TEXT);
    SHAPE_PUSH(c, t->nums, (num_shape){0});
    SHAPE_PUSH(c, t->lists, ANY_LIST);
    SHAPE_PUSH(c, t->maps, ANY_MAP);
    return t;
}

bool typed_is_empty(const typed *t) {
    return !t->lits && !t->texts.n && !t->nums.n && !t->lists.n && !t->maps.n;
}

static void *dup_array(schema_ctx *c, const void *a, size_t na, const void *b, size_t nb,
                       size_t size) {
    char *p = arena_array(&c->mem, na + nb + 1, size);
    if (p && na) memcpy(p, a, na * size);
    if (p && nb) memcpy(p + na * size, b, nb * size);
    return p;
}
#define CONCAT(c, a, na, b, nb) dup_array(c, a, na, b, nb, sizeof *(a))

/* ── and ── */

rx schema_text_rx(schema_ctx *c, const text_shape *t) {
    rx parts[4];
    size_t n = 0;
    parts[n++] = regex_any_text(c->x);
    if (t->pattern != RX_ALL) parts[n++] = t->pattern;
    if (t->min > 0 || t->max != UINT32_MAX) {
        if (t->min > GRAMMAR_MAX_REPEAT || (t->max != UINT32_MAX && t->max > GRAMMAR_MAX_REPEAT)) {
            schema_too_much(
                c, "characters in a string that other keywords look at (GRAMMAR_MAX_REPEAT)",
                GRAMMAR_MAX_REPEAT);
            return -1;
        }
        parts[n++] = regex_repeat(c->x, regex_any_char(c->x), (int32_t)t->min,
                                  t->max == UINT32_MAX ? -1 : (int32_t)t->max);
    }
    if (t->has_values) {
        rx *v = arena_array(&c->mem, t->n_values + 1, sizeof *v);
        if (!v) return -1;
        for (size_t i = 0; i < t->n_values; i++) v[i] = regex_literal(c->x, t->values[i]);
        parts[n++] = regex_alt(c->x, v, t->n_values);
    }
    return regex_and(c->x, parts, n);
}

static bool text_holds(schema_ctx *c, const text_shape *t, str s) {
    size_t n = utf8_count(s);
    if (n < t->min || (t->max != UINT32_MAX && n > t->max)) return false;
    if (t->has_values) {
        bool found = false;
        for (size_t i = 0; i < t->n_values && !found; i++) found = str_eq(t->values[i], s);
        if (!found) return false;
    }
    return t->pattern == RX_ALL || regex_is_match(c->x, t->pattern, s);
}

static bool and_text(schema_ctx *c, const text_shape *a, const text_shape *b, text_shape *out) {
    *out = (text_shape){.pattern = regex_and2(c->x, a->pattern, b->pattern),
                        .min = a->min > b->min ? a->min : b->min,
                        .max = a->max < b->max ? a->max : b->max};
    if (a->has_values || b->has_values) {
        const text_shape *from = a->has_values ? a : b, *other = a->has_values ? b : a;
        str *v = arena_array(&c->mem, from->n_values + 1, sizeof *v);
        if (!v) return false;
        out->has_values = true;
        out->values = v;
        for (size_t i = 0; i < from->n_values; i++)
            if (text_holds(c, other, from->values[i]) && text_holds(c, from, from->values[i]))
                v[out->n_values++] = from->values[i];
        out->pattern = RX_ALL;
        out->min = 0;
        out->max = UINT32_MAX;
        return out->n_values > 0;
    }
    if (a->pattern != RX_ALL && b->pattern != RX_ALL && a->pattern != b->pattern &&
        regex_is_empty(c->x, regex_and2(c->x, out->pattern, regex_any_text(c->x))))
        return false;
    return out->min <= out->max && out->pattern != RX_NONE;
}

bool schema_and_number(schema_ctx *c, const num_shape *a, const num_shape *b, num_shape *out) {
    *out = *a;
    out->is_integer |= b->is_integer;
    out->is_fraction |= b->is_fraction;
    if (b->has_min) {
        int k = a->has_min ? dec_compare(&b->min, &a->min) : 1;
        if (k > 0) out->min = b->min, out->open_min = b->open_min;
        if (k == 0) out->open_min |= b->open_min;
        out->has_min = true;
    }
    if (b->has_max) {
        int k = a->has_max ? dec_compare(&b->max, &a->max) : -1;
        if (k < 0) out->max = b->max, out->open_max = b->open_max;
        if (k == 0) out->open_max |= b->open_max;
        out->has_max = true;
    }
    out->n_multiples = a->n_multiples + b->n_multiples;
    out->multiples = CONCAT(c, a->multiples, a->n_multiples, b->multiples, b->n_multiples);
    out->is_digits |= b->is_digits;
    out->n_not_multiples = a->n_not_multiples + b->n_not_multiples;
    out->not_multiples =
        CONCAT(c, a->not_multiples, a->n_not_multiples, b->not_multiples, b->n_not_multiples);
    out->n_banned = a->n_banned + b->n_banned;
    out->banned = CONCAT(c, a->banned, a->n_banned, b->banned, b->n_banned);
    if (a->has_values || b->has_values) {
        const num_shape *from = a->has_values ? a : b;
        num_shape rule = *out, other = a->has_values ? *b : *a;
        rule.has_values = false;
        dec *v = arena_array(&c->mem, from->n_values + 1, sizeof *v);
        if (!v) return false;
        size_t n = 0;
        for (size_t i = 0; i < from->n_values; i++)
            if (num_holds(&rule, &from->values[i]) && num_holds(&other, &from->values[i]))
                v[n++] = from->values[i];
        out->has_values = true;
        out->values = v;
        out->n_values = n;
        return n > 0;
    }
    if (out->is_integer && out->is_fraction) return false;
    if (out->has_min && out->has_max) {
        int k = dec_compare(&out->min, &out->max);
        if (k > 0 || (k == 0 && (out->open_min || out->open_max))) return false;
    }
    return true;
}

static bool and_list(schema_ctx *c, const list_shape *a, const list_shape *b, list_shape *out) {
    size_t n = a->n_prefix > b->n_prefix ? a->n_prefix : b->n_prefix;
    sx *prefix = arena_array(&c->mem, n + 1, sizeof *prefix);
    if (!prefix) return false;
    for (size_t i = 0; i < n; i++)
        prefix[i] = schema_and(c,
                               (sx[]){i < a->n_prefix ? a->prefix[i] : a->rest,
                                      i < b->n_prefix ? b->prefix[i] : b->rest},
                               2);
    *out =
        (list_shape){.prefix = prefix,
                     .n_prefix = n,
                     .rest = schema_and(c, (sx[]){a->rest, b->rest}, 2),
                     .min = a->min > b->min ? a->min : b->min,
                     .max = a->max < b->max ? a->max : b->max,
                     .contains = CONCAT(c, a->contains, a->n_contains, b->contains, b->n_contains),
                     .n_contains = a->n_contains + b->n_contains,
                     .is_unique = a->is_unique || b->is_unique};
    return out->min <= out->max;
}

static bool and_map(schema_ctx *c, const map_shape *a, const map_shape *b, map_shape *out) {
    str *required = arena_array(&c->mem, a->n_required + b->n_required + 1, sizeof *required);
    if (!required) return false;
    size_t n = 0;
    for (size_t i = 0; i < a->n_required + b->n_required; i++) {
        str name = i < a->n_required ? a->required[i] : b->required[i - a->n_required];
        bool known = false;
        for (size_t k = 0; k < n && !known; k++) known = str_eq(required[k], name);
        if (!known) required[n++] = name;
    }
    key_group *groups = CONCAT(c, a->groups, a->n_groups, b->groups, b->n_groups);
    size_t n_groups = a->n_groups + b->n_groups;
    if (!groups) return false;
    /* The same properties by way of two references are one group. */
    size_t kept = 0;
    for (size_t i = 0; i < n_groups; i++) {
        bool known = false;
        for (size_t k = 0; k < kept && !known; k++)
            known = memcmp(&groups[k], &groups[i], sizeof *groups) == 0;
        if (!known) groups[kept++] = groups[i];
    }
    *out = (map_shape){.groups = groups,
                       .n_groups = kept,
                       .required = required,
                       .n_required = n,
                       .names = CONCAT(c, a->names, a->n_names, b->names, b->n_names),
                       .n_names = a->n_names + b->n_names,
                       .some = CONCAT(c, a->some, a->n_some, b->some, b->n_some),
                       .n_some = a->n_some + b->n_some,
                       .min = a->min > b->min ? a->min : b->min,
                       .max = a->max < b->max ? a->max : b->max};
    return out->min <= out->max && out->n_required <= out->max;
}

static bool is_plain(const typed *t) { /* no condition at all on strings, numbers, … */
    return t->lits == 7 && t->texts.n == 1 && t->nums.n == 1 && t->lists.n == 1 && t->maps.n == 1 &&
           memcmp(&t->texts.v[0], &SHAPE_ANY_TEXT, sizeof SHAPE_ANY_TEXT) == 0 &&
           memcmp(&t->nums.v[0], &(num_shape){0}, sizeof(num_shape)) == 0 &&
           memcmp(&t->lists.v[0], &ANY_LIST, sizeof ANY_LIST) == 0 &&
           memcmp(&t->maps.v[0], &ANY_MAP, sizeof ANY_MAP) == 0;
}

static bool map_is_impossible(schema_ctx *c, const map_shape *m, int depth);

/* A place that nothing fits ends the list; before its least length that is the end of the shape. */
static bool list_is_impossible(schema_ctx *c, list_shape *l, int depth) {
    for (size_t i = 0; i < l->n_prefix && i < l->max && depth < MAX_EMPTY_DEPTH; i++)
        if (schema_is_empty(c, l->prefix[i], depth + 1)) l->max = (uint32_t)i;
    return l->min > l->max;
}

typed *typed_and_deep(schema_ctx *c, const typed *a, const typed *b, int depth) {
    if (!a || !b) return NULL;
    if (is_plain(a)) return (typed *)b;
    if (is_plain(b)) return (typed *)a;
    typed *t = typed_none(c);
    if (!t) return NULL;
    t->lits = a->lits & b->lits;
    for (size_t i = 0; i < a->texts.n; i++)
        for (size_t k = 0; k < b->texts.n && !schema_failed(c); k++) {
            text_shape s;
            if (and_text(c, &a->texts.v[i], &b->texts.v[k], &s)) SHAPE_PUSH(c, t->texts, s);
        }
    for (size_t i = 0; i < a->nums.n; i++)
        for (size_t k = 0; k < b->nums.n && !schema_failed(c); k++) {
            num_shape s;
            if (schema_and_number(c, &a->nums.v[i], &b->nums.v[k], &s)) SHAPE_PUSH(c, t->nums, s);
        }
    for (size_t i = 0; i < a->lists.n; i++)
        for (size_t k = 0; k < b->lists.n && !schema_failed(c); k++) {
            list_shape s;
            if (and_list(c, &a->lists.v[i], &b->lists.v[k], &s) &&
                !list_is_impossible(c, &s, depth))
                SHAPE_PUSH(c, t->lists, s);
        }
    for (size_t i = 0; i < a->maps.n; i++)
        for (size_t k = 0; k < b->maps.n && !schema_failed(c); k++) {
            map_shape s;
            if (and_map(c, &a->maps.v[i], &b->maps.v[k], &s) && !map_is_impossible(c, &s, depth))
                SHAPE_PUSH(c, t->maps, s);
        }
    return t;
}
typed *typed_and(schema_ctx *c, const typed *a, const typed *b) {
    return typed_and_deep(c, a, b, c->depth > 40 ? MAX_EMPTY_DEPTH : 2);
}

/* ── or ── */

typed *typed_or(schema_ctx *c, const typed *a, const typed *b) {
    if (!a || !b) return NULL;
    typed *t = typed_none(c);
    if (!t) return NULL;
    t->lits = a->lits | b->lits;
    const typed *both[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < both[i]->texts.n; k++) SHAPE_PUSH(c, t->texts, both[i]->texts.v[k]);
        for (size_t k = 0; k < both[i]->nums.n; k++) SHAPE_PUSH(c, t->nums, both[i]->nums.v[k]);
        for (size_t k = 0; k < both[i]->lists.n; k++) SHAPE_PUSH(c, t->lists, both[i]->lists.v[k]);
        for (size_t k = 0; k < both[i]->maps.n; k++) SHAPE_PUSH(c, t->maps, both[i]->maps.v[k]);
    }
    return t;
}

/* ── not ── NULL with *why when that is no set of shapes. */

static typed *not_text(schema_ctx *c, const text_shape *s) {
    typed *t = typed_all(c);
    if (!t) return NULL;
    rx r = regex_and2(c->x, regex_any_text(c->x), regex_not(c->x, schema_text_rx(c, s)));
    t->texts.v[0].pattern = r;
    if (r == RX_NONE) t->texts.n = 0;
    return t;
}

static typed *not_number(schema_ctx *c, const num_shape *s) {
    typed *t = typed_all(c);
    if (!t) return NULL;
    t->nums.n = 0;
    if (s->has_values) {
        SHAPE_PUSH(c, t->nums, ((num_shape){.banned = s->values, .n_banned = s->n_values}));
        return t;
    }
    if (s->has_min)
        SHAPE_PUSH(c, t->nums,
                   ((num_shape){.has_max = true, .max = s->min, .open_max = !s->open_min}));
    if (s->has_max)
        SHAPE_PUSH(c, t->nums,
                   ((num_shape){.has_min = true, .min = s->max, .open_min = !s->open_max}));
    if (s->is_integer) SHAPE_PUSH(c, t->nums, ((num_shape){.is_fraction = true}));
    if (s->is_fraction) SHAPE_PUSH(c, t->nums, ((num_shape){.is_integer = true}));
    if (s->n_banned)
        SHAPE_PUSH(c, t->nums,
                   ((num_shape){.has_values = true, .values = s->banned, .n_values = s->n_banned}));
    for (size_t i = 0; i < s->n_not_multiples; i++)
        SHAPE_PUSH(c, t->nums, ((num_shape){.multiples = &s->not_multiples[i], .n_multiples = 1}));
    dec one = dec_make(false, 1, 0);
    for (size_t i = 0; i < s->n_multiples; i++) {
        if (dec_compare(&s->multiples[i], &one) != 0)
            SHAPE_PUSH(c, t->nums,
                       ((num_shape){.not_multiples = &s->multiples[i], .n_not_multiples = 1}));
        else
            SHAPE_PUSH(c, t->nums, ((num_shape){.is_fraction = true}));
    }
    return t;
}

static typed *not_list(schema_ctx *c, const list_shape *s, const char **why) {
    typed *t = typed_all(c);
    if (!t) return NULL;
    t->lists.n = 0;
    list_shape any = ANY_LIST;
    if (s->min > 0) {
        any.max = s->min - 1;
        SHAPE_PUSH(c, t->lists, any);
        any = ANY_LIST;
    }
    if (s->max != UINT32_MAX) {
        any.min = s->max + 1;
        SHAPE_PUSH(c, t->lists, any);
        any = ANY_LIST;
    }
    for (size_t i = 0; i < s->n_prefix; i++) {
        if (s->prefix[i] == SX_TRUE) continue;
        sx *prefix = arena_array(&c->mem, i + 1, sizeof *prefix);
        if (!prefix) return NULL;
        for (size_t k = 0; k < i; k++) prefix[k] = SX_TRUE;
        prefix[i] = schema_not(c, s->prefix[i]);
        any.prefix = prefix;
        any.n_prefix = i + 1;
        any.min = (uint32_t)i + 1;
        SHAPE_PUSH(c, t->lists, any);
        any = ANY_LIST;
    }
    if (s->rest == SX_FALSE) {
        any.min = (uint32_t)s->n_prefix + 1;
        SHAPE_PUSH(c, t->lists, any);
        any = ANY_LIST;
    } else if (s->rest != SX_TRUE) {
        if (s->n_prefix) {
            *why = "it would have to find a wrong item behind the first ones";
            return NULL;
        }
        list_contains *k = arena_alloc(&c->mem, sizeof *k);
        if (!k) return NULL;
        *k = (list_contains){schema_not(c, s->rest), 1, UINT32_MAX};
        any.contains = k;
        any.n_contains = 1;
        SHAPE_PUSH(c, t->lists, any);
        any = ANY_LIST;
    }
    for (size_t i = 0; i < s->n_contains; i++) {
        list_contains *k = arena_array(&c->mem, 2, sizeof *k);
        if (!k) return NULL;
        if (s->contains[i].min > 0) {
            k[0] = (list_contains){s->contains[i].what, 0, s->contains[i].min - 1};
            any.contains = &k[0];
            any.n_contains = 1;
            SHAPE_PUSH(c, t->lists, any);
        }
        if (s->contains[i].max != UINT32_MAX) {
            k[1] = (list_contains){s->contains[i].what, s->contains[i].max + 1, UINT32_MAX};
            any.contains = &k[1];
            any.n_contains = 1;
            SHAPE_PUSH(c, t->lists, any);
        }
        any = ANY_LIST;
    }
    if (s->is_unique) {
        *why = "it would have to find equal items";
        return NULL;
    }
    return t;
}

static key_group *make_group(schema_ctx *c, str name, sx what) {
    key_group *g = arena_alloc(&c->mem, sizeof *g);
    named_schema *n = arena_alloc(&c->mem, sizeof *n);
    if (!g || !n) return NULL;
    *n = (named_schema){name, what};
    *g = (key_group){.names = n, .n_names = 1, .others = SX_TRUE};
    return g;
}

void typed_push_property(schema_ctx *c, typed *t, str name, sx what, bool required) {
    map_shape m = ANY_MAP;
    str *r = arena_alloc(&c->mem, sizeof *r);
    if (!r || !(m.groups = make_group(c, name, what))) return;
    *r = name;
    m.n_groups = 1;
    m.required = r;
    m.n_required = required;
    SHAPE_PUSH(c, t->maps, m);
}

/* Some property whose name is among `keys` is `what`. */
static void push_some(schema_ctx *c, typed *t, rx keys, sx what) {
    map_shape m = ANY_MAP;
    map_some *k = arena_alloc(&c->mem, sizeof *k);
    if (!k || keys == RX_NONE || what == SX_FALSE) return;
    *k = (map_some){keys, what};
    m.some = k;
    m.n_some = 1;
    m.min = 1;
    SHAPE_PUSH(c, t->maps, m);
}

static rx not_keys(schema_ctx *c, rx keys) {
    return regex_and2(c->x, regex_any_text(c->x), regex_not(c->x, keys));
}

static typed *not_map(schema_ctx *c, const map_shape *s) {
    typed *t = typed_all(c);
    if (!t) return NULL;
    t->maps.n = 0;
    map_shape any = ANY_MAP;
    if (s->min > 0) {
        any.max = s->min - 1;
        SHAPE_PUSH(c, t->maps, any);
        any = ANY_MAP;
    }
    if (s->max != UINT32_MAX) {
        any.min = s->max + 1;
        SHAPE_PUSH(c, t->maps, any);
    }
    for (size_t i = 0; i < s->n_required; i++)
        typed_push_property(c, t, s->required[i], SX_FALSE, false);
    for (size_t i = 0; i < s->n_groups; i++) {
        const key_group *g = &s->groups[i];
        for (size_t k = 0; k < g->n_names; k++)
            if (g->names[k].what != SX_TRUE)
                typed_push_property(c, t, g->names[k].name, schema_not(c, g->names[k].what), true);
        rx known = RX_NONE;
        for (size_t k = 0; k < g->n_patterns; k++) {
            known = regex_alt2(c->x, known, g->patterns[k].pattern);
            if (g->patterns[k].what != SX_TRUE)
                push_some(c, t, g->patterns[k].pattern, schema_not(c, g->patterns[k].what));
        }
        if (g->others == SX_TRUE) continue;
        rx *names = arena_array(&c->mem, g->n_names + 1, sizeof *names);
        if (!names) return NULL;
        for (size_t k = 0; k < g->n_names; k++) names[k] = regex_literal(c->x, g->names[k].name);
        known = regex_alt2(c->x, known, regex_alt(c->x, names, g->n_names));
        push_some(c, t, not_keys(c, known), schema_not(c, g->others));
    }
    for (size_t i = 0; i < s->n_names; i++) {
        rx keys = schema_keys_rx(c, s->names[i]);
        if (keys < 0) return NULL;
        push_some(c, t, not_keys(c, keys), SX_TRUE);
    }
    for (size_t i = 0; i < s->n_some; i++) { /* every property that could have been it is not */
        map_shape m = ANY_MAP;
        key_group *g = arena_alloc(&c->mem, sizeof *g);
        matched_schema *p = arena_alloc(&c->mem, sizeof *p);
        if (!g || !p) return NULL;
        *p = (matched_schema){s->some[i].keys, schema_not(c, s->some[i].what)};
        *g = (key_group){.patterns = p, .n_patterns = 1, .others = SX_TRUE};
        m.groups = g;
        m.n_groups = 1;
        SHAPE_PUSH(c, t->maps, m);
    }
    return t;
}

typed *typed_not(schema_ctx *c, const typed *a, const char **why) {
    typed *t = typed_all(c);
    if (!t || !a) return NULL;
    t->lits = (uint8_t)(7 & ~a->lits);
    for (size_t i = 0; i < a->texts.n && t; i++) t = typed_and(c, t, not_text(c, &a->texts.v[i]));
    for (size_t i = 0; i < a->nums.n && t; i++) t = typed_and(c, t, not_number(c, &a->nums.v[i]));
    for (size_t i = 0; i < a->lists.n && t; i++)
        t = typed_and(c, t, not_list(c, &a->lists.v[i], why));
    for (size_t i = 0; i < a->maps.n && t; i++) t = typed_and(c, t, not_map(c, &a->maps.v[i]));
    return t;
}

/* ── Is there surely nothing in it? ── */

bool schema_is_empty(schema_ctx *c, sx a, int depth) {
    if (a == SX_FALSE) return true;
    if (a <= SX_TRUE || depth >= MAX_EMPTY_DEPTH || c->nodes[a].is_lowering) return false;
    if (c->depth > MAX_LOWER_DEPTH - 20) return false;
    /* A question must not fail the schema: what cannot be lowered is taken to be possible. */
    error kept = c->b->err;
    bool lenient = c->o.lenient;
    buf *ignored = c->o.ignored;
    typed *t = schema_lower(c, a);
    c->o.lenient = lenient;
    c->o.ignored = ignored;
    if (!t) {
        c->b->err = kept;
        return false;
    }
    if (t->lits || t->texts.n || t->nums.n) return false;
    for (size_t i = 0; i < t->lists.n; i++) {
        list_shape l = t->lists.v[i];
        if (!list_is_impossible(c, &l, depth + 1)) return false;
    }
    for (size_t i = 0; i < t->maps.n; i++)
        if (!map_is_impossible(c, &t->maps.v[i], depth + 1)) return false;
    return true;
}

static sx key_schema(schema_ctx *c, const map_shape *m, str name) {
    sx all = SX_TRUE;
    for (size_t i = 0; i < m->n_groups && all >= 0; i++) {
        const key_group *g = &m->groups[i];
        bool found = false;
        for (size_t k = 0; k < g->n_names; k++)
            if (str_eq(g->names[k].name, name)) {
                found = true;
                all = schema_and(c, (sx[]){all, g->names[k].what}, 2);
            }
        for (size_t k = 0; k < g->n_patterns; k++)
            if (regex_is_match(c->x, g->patterns[k].pattern, name)) {
                found = true;
                all = schema_and(c, (sx[]){all, g->patterns[k].what}, 2);
            }
        if (!found) all = schema_and(c, (sx[]){all, g->others}, 2);
    }
    return all;
}

static bool map_is_impossible(schema_ctx *c, const map_shape *m, int depth) {
    if (depth >= MAX_EMPTY_DEPTH) return false;
    for (size_t i = 0; i < m->n_required && !schema_failed(c); i++) {
        sx k = key_schema(c, m, m->required[i]);
        if (k == SX_FALSE || (k > SX_TRUE && schema_is_empty(c, k, depth + 1))) return true;
    }
    return false;
}
