/* Keywords → sets of shapes, and the algebra of those sets: and, or, not. */
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "sample/schema_impl.h"

enum { MAX_LOWER_DEPTH = 400, MAX_EMPTY_DEPTH = 4, SCHEMA_MEMORY = 256 << 20 };

/* ── Failing ── */

bool schema_failed(const schema_ctx *c) {
    return error_is_set(&c->b->err) || c->mem.failed;
}

const char *schema_path(schema_ctx *c, const char *base, const char *a, const char *b) {
    buf out = {0};
    buf_append_cstr(&out, base);
    if (a && *a) buf_printf(&out, "%s%s", out.len ? "." : "", a);
    if (b && *b) buf_printf(&out, "%s%s", out.len ? "." : "", b);
    char *s = out.failed ? NULL : arena_dup(&c->mem, buf_str(&out));
    buf_deinit(&out);
    return s ? s : "";
}

bool schema_invalid(schema_ctx *c, const char *path, const char *keyword, const char *fmt, ...) {
    char why[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    const char *at = schema_path(c, path, keyword, NULL);
    return builder_fail(c->b, c->o.code ? c->o.code : ERR_INVALID_VALUE, at,
                        "Invalid schema: '%s': %s", *at ? at : "schema", why);
}

bool schema_unsupported(schema_ctx *c, const char *path, const char *keyword, const char *why) {
    const char *at = schema_path(c, path, keyword, NULL);
    if (c->o.lenient) {
        if (c->o.ignored && str_find(buf_str(c->o.ignored), str_from(at), 0) < 0) {
            if (c->o.ignored->len) buf_append_cstr(c->o.ignored, ",");
            buf_append_cstr(c->o.ignored, at);
        }
        return true;
    }
    return builder_fail(c->b, c->o.code ? c->o.code : ERR_UNSUPPORTED_VALUE, at,
                        "'%s' cannot be enforced: %s%s", *at ? at : "schema", why,
                        str_ends(str_from(why), STR(".")) ? "" : ".");
}

static bool too_much(schema_ctx *c, const char *limit, int n) {
    return builder_fail(c->b, ERR_UNSUPPORTED_VALUE, c->o.param,
                        "The schema needs more than %d %s.", n, limit);
}

/* ── Expressions ── */

static uint64_t node_hash(const sx_node *n, const sx *kids) {
    uint64_t h = hash_combine(n->op, (uint64_t)(uintptr_t)n->json);
    h = hash_combine(h, (uint64_t)(uint32_t)n->resource << 32 | (uint32_t)n->b);
    return kids ? hash_bytes(kids, (size_t)n->b * sizeof *kids, h)
                : hash_combine(h, (uint64_t)n->a);
}

static sx intern(schema_ctx *c, sx_node n, const sx *kids) {
    if (schema_failed(c)) return SX_FAILED;
    n.hash = node_hash(&n, kids);
    n.jnode = -1;
    if ((uint32_t)c->n_nodes * 2 >= c->n_table) {
        uint32_t size = c->n_table ? c->n_table * 2 : 256;
        int32_t *t = malloc(size * sizeof *t);
        if (!t) return builder_fail(c->b, ERR_NO_MEMORY, NULL, "There is no memory.") - 1;
        memset(t, 0xFF, size * sizeof *t);
        for (int32_t i = 0; i < c->n_nodes; i++) {
            uint32_t at = (uint32_t)c->nodes[i].hash & (size - 1);
            while (t[at] >= 0) at = (at + 1) & (size - 1);
            t[at] = i;
        }
        free(c->table);
        c->table = t;
        c->n_table = size;
    }
    uint32_t at = (uint32_t)n.hash & (c->n_table - 1);
    for (; c->table[at] >= 0; at = (at + 1) & (c->n_table - 1)) {
        const sx_node *o = &c->nodes[c->table[at]];
        if (o->hash == n.hash && o->op == n.op && o->json == n.json && o->b == n.b &&
            (kids ? memcmp(c->kids + o->a, kids, (size_t)n.b * sizeof *kids) == 0 : o->a == n.a))
            return c->table[at];
    }
    if (c->n_nodes >= GRAMMAR_MAX_SCHEMAS)
        return too_much(c, "subschemas, combinations included (GRAMMAR_MAX_SCHEMAS)",
                        GRAMMAR_MAX_SCHEMAS) -
               1;
    if (!builder_grow(c->b, &c->nodes, &c->cap_nodes, c->n_nodes + 1, sizeof *c->nodes))
        return SX_FAILED;
    if (kids) {
        if (!builder_grow(c->b, &c->kids, &c->cap_kids, c->n_kids + n.b, sizeof *c->kids))
            return SX_FAILED;
        memcpy(c->kids + c->n_kids, kids, (size_t)n.b * sizeof *kids);
        n.a = c->n_kids;
        c->n_kids += n.b;
    }
    c->nodes[c->n_nodes] = n;
    c->table[at] = c->n_nodes;
    return c->n_nodes++;
}

sx schema_raw(schema_ctx *c, json_t *schema, int32_t resource, const char *path) {
    if (json_is_boolean(schema)) return json_is_true(schema) ? SX_TRUE : SX_FALSE;
    if (json_object_size(schema) == 0) return SX_TRUE;
    return intern(c, (sx_node){.op = SXO_RAW, .json = schema, .resource = resource, .path = path},
                  NULL);
}

sx schema_const(schema_ctx *c, json_t *value) {
    return intern(c, (sx_node){.op = SXO_CONST, .json = value}, NULL);
}

static int compare_sx(const void *a, const void *b) {
    sx x = *(const sx *)a, y = *(const sx *)b;
    return (x > y) - (x < y);
}

static sx combine(schema_ctx *c, sx_op op, const sx *items, size_t n) {
    sx absorbing = op == SXO_AND ? SX_FALSE : SX_TRUE, neutral = op == SXO_AND ? SX_TRUE : SX_FALSE;
    size_t len = 0, total = 0;
    for (size_t i = 0; i < n; i++) {
        if (items[i] < 0) return SX_FAILED;
        total += c->nodes[items[i]].op == op ? (size_t)c->nodes[items[i]].b : 1;
    }
    sx *v = arena_array(&c->mem, total + 1, sizeof *v);
    if (!v) return SX_FAILED;
    for (size_t i = 0; i < n; i++) {
        const sx_node *k = &c->nodes[items[i]];
        if (items[i] == absorbing) return absorbing;
        if (items[i] == neutral) continue;
        if (k->op == op)
            for (int32_t j = 0; j < k->b; j++) v[len++] = c->kids[k->a + j];
        else
            v[len++] = items[i];
    }
    qsort(v, len, sizeof *v, compare_sx);
    size_t kept = 0;
    for (size_t i = 0; i < len; i++)
        if (!kept || v[kept - 1] != v[i]) v[kept++] = v[i];
    if (kept == 0) return neutral;
    if (kept == 1) return v[0];
    return intern(c, (sx_node){.op = (uint8_t)op, .b = (int32_t)kept}, v);
}

sx schema_and(schema_ctx *c, const sx *items, size_t n) {
    return combine(c, SXO_AND, items, n);
}

sx schema_not(schema_ctx *c, sx a) {
    if (a < 0) return SX_FAILED;
    if (a == SX_TRUE) return SX_FALSE;
    if (a == SX_FALSE) return SX_TRUE;
    if (c->nodes[a].op == SXO_NOT) return c->nodes[a].a;
    return intern(c, (sx_node){.op = SXO_NOT, .a = a}, NULL);
}

/* ── Sets of shapes ── */

/* Appends to one of a typed's lists. */
#define PUSH(c, list, item)                                                       \
    do {                                                                          \
        if ((list).n == (list).cap) {                                             \
            size_t cap_ = (list).cap ? (list).cap * 2 : 4;                        \
            void *p_ = cap_ <= GRAMMAR_MAX_ALTERNATIVES * 2                       \
                           ? arena_array(&(c)->mem, cap_, sizeof *(list).v)       \
                           : NULL;                                                \
            if (!p_) {                                                            \
                too_much(c, "ways to write one value (GRAMMAR_MAX_ALTERNATIVES)", \
                         GRAMMAR_MAX_ALTERNATIVES);                               \
                break;                                                            \
            }                                                                     \
            if ((list).n) memcpy(p_, (list).v, (list).n * sizeof *(list).v);      \
            (list).v = p_;                                                        \
            (list).cap = cap_;                                                    \
        }                                                                         \
        (list).v[(list).n++] = (item);                                            \
    } while (0)

static typed *make_typed(schema_ctx *c) {
    return arena_alloc(&c->mem, sizeof(typed));
}

static const text_shape ANY_TEXT = {.pattern = RX_ALL, .max = UINT32_MAX};
static const list_shape ANY_LIST = {.rest = SX_TRUE, .max = UINT32_MAX};
static const map_shape ANY_MAP = {.max = UINT32_MAX};

static typed *all_values(schema_ctx *c) {
    typed *t = make_typed(c);
    if (!t) return NULL;
    t->lits = JLIT_NULL | JLIT_TRUE | JLIT_FALSE;
    PUSH(c, t->texts, ANY_TEXT);
    PUSH(c, t->nums, (num_shape){0});
    PUSH(c, t->lists, ANY_LIST);
    PUSH(c, t->maps, ANY_MAP);
    return t;
}

static bool is_empty(const typed *t) {
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
            too_much(c, "characters in a string that other keywords look at (GRAMMAR_MAX_REPEAT)",
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

static bool and_number(schema_ctx *c, const num_shape *a, const num_shape *b, num_shape *out) {
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
           memcmp(&t->texts.v[0], &ANY_TEXT, sizeof ANY_TEXT) == 0 &&
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

static typed *and_typed_deep(schema_ctx *c, const typed *a, const typed *b, int depth) {
    if (!a || !b) return NULL;
    if (is_plain(a)) return (typed *)b;
    if (is_plain(b)) return (typed *)a;
    typed *t = make_typed(c);
    if (!t) return NULL;
    t->lits = a->lits & b->lits;
    for (size_t i = 0; i < a->texts.n; i++)
        for (size_t k = 0; k < b->texts.n && !schema_failed(c); k++) {
            text_shape s;
            if (and_text(c, &a->texts.v[i], &b->texts.v[k], &s)) PUSH(c, t->texts, s);
        }
    for (size_t i = 0; i < a->nums.n; i++)
        for (size_t k = 0; k < b->nums.n && !schema_failed(c); k++) {
            num_shape s;
            if (and_number(c, &a->nums.v[i], &b->nums.v[k], &s)) PUSH(c, t->nums, s);
        }
    for (size_t i = 0; i < a->lists.n; i++)
        for (size_t k = 0; k < b->lists.n && !schema_failed(c); k++) {
            list_shape s;
            if (and_list(c, &a->lists.v[i], &b->lists.v[k], &s) &&
                !list_is_impossible(c, &s, depth))
                PUSH(c, t->lists, s);
        }
    for (size_t i = 0; i < a->maps.n; i++)
        for (size_t k = 0; k < b->maps.n && !schema_failed(c); k++) {
            map_shape s;
            if (and_map(c, &a->maps.v[i], &b->maps.v[k], &s) && !map_is_impossible(c, &s, depth))
                PUSH(c, t->maps, s);
        }
    return t;
}
static typed *and_typed(schema_ctx *c, const typed *a, const typed *b) {
    return and_typed_deep(c, a, b, c->depth > 40 ? MAX_EMPTY_DEPTH : 2);
}

/* ── or ── */

static typed *or_typed(schema_ctx *c, const typed *a, const typed *b) {
    if (!a || !b) return NULL;
    typed *t = make_typed(c);
    if (!t) return NULL;
    t->lits = a->lits | b->lits;
    const typed *both[2] = {a, b};
    for (int i = 0; i < 2; i++) {
        for (size_t k = 0; k < both[i]->texts.n; k++) PUSH(c, t->texts, both[i]->texts.v[k]);
        for (size_t k = 0; k < both[i]->nums.n; k++) PUSH(c, t->nums, both[i]->nums.v[k]);
        for (size_t k = 0; k < both[i]->lists.n; k++) PUSH(c, t->lists, both[i]->lists.v[k]);
        for (size_t k = 0; k < both[i]->maps.n; k++) PUSH(c, t->maps, both[i]->maps.v[k]);
    }
    return t;
}

/* ── not ── NULL with *why when that is no set of shapes. */

static typed *not_text(schema_ctx *c, const text_shape *s) {
    typed *t = all_values(c);
    if (!t) return NULL;
    rx r = regex_and2(c->x, regex_any_text(c->x), regex_not(c->x, schema_text_rx(c, s)));
    t->texts.v[0].pattern = r;
    if (r == RX_NONE) t->texts.n = 0;
    return t;
}

static typed *not_number(schema_ctx *c, const num_shape *s) {
    typed *t = all_values(c);
    if (!t) return NULL;
    t->nums.n = 0;
    if (s->has_values) {
        PUSH(c, t->nums, ((num_shape){.banned = s->values, .n_banned = s->n_values}));
        return t;
    }
    if (s->has_min)
        PUSH(c, t->nums, ((num_shape){.has_max = true, .max = s->min, .open_max = !s->open_min}));
    if (s->has_max)
        PUSH(c, t->nums, ((num_shape){.has_min = true, .min = s->max, .open_min = !s->open_max}));
    if (s->is_integer) PUSH(c, t->nums, ((num_shape){.is_fraction = true}));
    if (s->is_fraction) PUSH(c, t->nums, ((num_shape){.is_integer = true}));
    if (s->n_banned)
        PUSH(c, t->nums,
             ((num_shape){.has_values = true, .values = s->banned, .n_values = s->n_banned}));
    for (size_t i = 0; i < s->n_not_multiples; i++)
        PUSH(c, t->nums, ((num_shape){.multiples = &s->not_multiples[i], .n_multiples = 1}));
    dec one = dec_make(false, 1, 0);
    for (size_t i = 0; i < s->n_multiples; i++) {
        if (dec_compare(&s->multiples[i], &one) != 0)
            PUSH(c, t->nums,
                 ((num_shape){.not_multiples = &s->multiples[i], .n_not_multiples = 1}));
        else
            PUSH(c, t->nums, ((num_shape){.is_fraction = true}));
    }
    return t;
}

static typed *not_list(schema_ctx *c, const list_shape *s, const char **why) {
    typed *t = all_values(c);
    if (!t) return NULL;
    t->lists.n = 0;
    list_shape any = ANY_LIST;
    if (s->min > 0) {
        any.max = s->min - 1;
        PUSH(c, t->lists, any);
        any = ANY_LIST;
    }
    if (s->max != UINT32_MAX) {
        any.min = s->max + 1;
        PUSH(c, t->lists, any);
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
        PUSH(c, t->lists, any);
        any = ANY_LIST;
    }
    if (s->rest == SX_FALSE) {
        any.min = (uint32_t)s->n_prefix + 1;
        PUSH(c, t->lists, any);
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
        PUSH(c, t->lists, any);
        any = ANY_LIST;
    }
    for (size_t i = 0; i < s->n_contains; i++) {
        list_contains *k = arena_array(&c->mem, 2, sizeof *k);
        if (!k) return NULL;
        if (s->contains[i].min > 0) {
            k[0] = (list_contains){s->contains[i].what, 0, s->contains[i].min - 1};
            any.contains = &k[0];
            any.n_contains = 1;
            PUSH(c, t->lists, any);
        }
        if (s->contains[i].max != UINT32_MAX) {
            k[1] = (list_contains){s->contains[i].what, s->contains[i].max + 1, UINT32_MAX};
            any.contains = &k[1];
            any.n_contains = 1;
            PUSH(c, t->lists, any);
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

static void push_property(schema_ctx *c, typed *t, str name, sx what, bool required) {
    map_shape m = ANY_MAP;
    str *r = arena_alloc(&c->mem, sizeof *r);
    if (!r || !(m.groups = make_group(c, name, what))) return;
    *r = name;
    m.n_groups = 1;
    m.required = r;
    m.n_required = required;
    PUSH(c, t->maps, m);
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
    PUSH(c, t->maps, m);
}

static rx not_keys(schema_ctx *c, rx keys) {
    return regex_and2(c->x, regex_any_text(c->x), regex_not(c->x, keys));
}

static typed *not_map(schema_ctx *c, const map_shape *s) {
    typed *t = all_values(c);
    if (!t) return NULL;
    t->maps.n = 0;
    map_shape any = ANY_MAP;
    if (s->min > 0) {
        any.max = s->min - 1;
        PUSH(c, t->maps, any);
        any = ANY_MAP;
    }
    if (s->max != UINT32_MAX) {
        any.min = s->max + 1;
        PUSH(c, t->maps, any);
    }
    for (size_t i = 0; i < s->n_required; i++) push_property(c, t, s->required[i], SX_FALSE, false);
    for (size_t i = 0; i < s->n_groups; i++) {
        const key_group *g = &s->groups[i];
        for (size_t k = 0; k < g->n_names; k++)
            if (g->names[k].what != SX_TRUE)
                push_property(c, t, g->names[k].name, schema_not(c, g->names[k].what), true);
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
        PUSH(c, t->maps, m);
    }
    return t;
}

static typed *not_typed(schema_ctx *c, const typed *a, const char **why) {
    typed *t = all_values(c);
    if (!t || !a) return NULL;
    t->lits = (uint8_t)(7 & ~a->lits);
    for (size_t i = 0; i < a->texts.n && t; i++) t = and_typed(c, t, not_text(c, &a->texts.v[i]));
    for (size_t i = 0; i < a->nums.n && t; i++) t = and_typed(c, t, not_number(c, &a->nums.v[i]));
    for (size_t i = 0; i < a->lists.n && t; i++)
        t = and_typed(c, t, not_list(c, &a->lists.v[i], why));
    for (size_t i = 0; i < a->maps.n && t; i++) t = and_typed(c, t, not_map(c, &a->maps.v[i]));
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

/* ── Constants ── */

static typed *const_typed(schema_ctx *c, json_t *v) {
    typed *t = make_typed(c);
    if (!t) return NULL;
    switch (json_typeof(v)) {
    case JSON_NULL: t->lits = JLIT_NULL; break;
    case JSON_TRUE: t->lits = JLIT_TRUE; break;
    case JSON_FALSE: t->lits = JLIT_FALSE; break;
    case JSON_STRING: {
        text_shape s = ANY_TEXT;
        str *value = arena_alloc(&c->mem, sizeof *value);
        if (!value) return NULL;
        *value = json_str(v);
        s.has_values = true;
        s.values = value;
        s.n_values = 1;
        PUSH(c, t->texts, s);
        break;
    }
    case JSON_INTEGER:
    case JSON_REAL: {
        dec *value = arena_alloc(&c->mem, sizeof *value);
        if (!value) return NULL;
        *value = dec_from_json(v);
        PUSH(c, t->nums, ((num_shape){.has_values = true, .values = value, .n_values = 1}));
        break;
    }
    case JSON_ARRAY: {
        size_t n = json_array_size(v);
        sx *prefix = arena_array(&c->mem, n + 1, sizeof *prefix);
        if (!prefix) return NULL;
        for (size_t i = 0; i < n; i++) prefix[i] = schema_const(c, json_array_get(v, i));
        PUSH(c, t->lists,
             ((list_shape){.prefix = prefix,
                           .n_prefix = n,
                           .rest = SX_FALSE,
                           .min = (uint32_t)n,
                           .max = (uint32_t)n}));
        break;
    }
    default: {
        size_t n = json_object_size(v), i = 0;
        named_schema *names = arena_array(&c->mem, n + 1, sizeof *names);
        str *required = arena_array(&c->mem, n + 1, sizeof *required);
        key_group *g = arena_alloc(&c->mem, sizeof *g);
        if (!names || !required || !g) return NULL;
        const char *key;
        json_t *value;
        json_object_foreach(v, key, value) {
            required[i] = str_from(key);
            names[i++] = (named_schema){str_from(key), schema_const(c, value)};
        }
        *g = (key_group){.names = names, .n_names = n, .others = SX_FALSE};
        PUSH(c, t->maps,
             ((map_shape){.groups = g,
                          .n_groups = 1,
                          .required = required,
                          .n_required = n,
                          .max = UINT32_MAX}));
    }
    }
    return t;
}

/* All strings of an enum are one shape, all numbers too. */
static typed *enum_typed(schema_ctx *c, json_t *list) {
    typed *t = make_typed(c);
    size_t n = json_array_size(list);
    str *texts = arena_array(&c->mem, n + 1, sizeof *texts);
    dec *nums = arena_array(&c->mem, n + 1, sizeof *nums);
    size_t n_texts = 0, n_nums = 0;
    if (!t || !texts || !nums) return NULL;
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(list, i);
        if (json_is_string(v))
            texts[n_texts++] = json_str(v);
        else if (json_is_number(v))
            nums[n_nums++] = dec_from_json(v);
        else
            t = or_typed(c, t, const_typed(c, v));
        if (!t) return NULL;
    }
    text_shape s = ANY_TEXT;
    s.has_values = true;
    s.values = texts;
    s.n_values = n_texts;
    if (n_texts) PUSH(c, t->texts, s);
    if (n_nums)
        PUSH(c, t->nums, ((num_shape){.has_values = true, .values = nums, .n_values = n_nums}));
    return t;
}

/* ── Keywords on the value itself ── */

static uint32_t get_count(json_t *v, uint32_t otherwise) {
    if (!v) return otherwise;
    double d = json_number_value(v);
    return d >= UINT32_MAX - 2 ? UINT32_MAX - 2 : (uint32_t)d;
}

static void keep_types(typed *t, json_t *type, bool *integer) {
    static const char *const NAMES[] = {"string",  "number", "array",  "object",
                                        "integer", "null",   "boolean"};
    bool has[7] = {0};
    for (size_t k = 0; k < 7; k++) {
        has[k] = str_is(json_str(type), NAMES[k]);
        for (size_t i = 0; i < json_array_size(type); i++)
            has[k] |= str_is(json_str(json_array_get(type, i)), NAMES[k]);
    }
    if (!has[0]) t->texts.n = 0;
    *integer = has[4] && !has[1];
    if (!has[1] && !has[4]) t->nums.n = 0;
    if (!has[2]) t->lists.n = 0;
    if (!has[3]) t->maps.n = 0;
    t->lits = (uint8_t)((has[5] ? JLIT_NULL : 0) | (has[6] ? JLIT_TRUE | JLIT_FALSE : 0));
}

static void read_number(schema_ctx *c, json_t *s, num_shape *n) {
    json_t *v, *flag;
    if ((v = json_object_get(s, "minimum"))) {
        flag = json_object_get(s, "exclusiveMinimum");
        *n = (num_shape){.is_integer = n->is_integer,
                         .is_digits = n->is_digits,
                         .has_min = true,
                         .min = dec_from_json(v),
                         .open_min = json_is_true(flag)};
    }
    if ((v = json_object_get(s, "maximum"))) {
        flag = json_object_get(s, "exclusiveMaximum");
        n->has_max = true;
        n->max = dec_from_json(v);
        n->open_max = json_is_true(flag);
    }
    num_shape more = {0}, both;
    if (json_is_number(v = json_object_get(s, "exclusiveMinimum")))
        more.has_min = more.open_min = true, more.min = dec_from_json(v);
    if (json_is_number(v = json_object_get(s, "exclusiveMaximum")))
        more.has_max = more.open_max = true, more.max = dec_from_json(v);
    if ((v = json_object_get(s, "multipleOf")) &&
        (more.multiples = arena_alloc(&c->mem, sizeof *more.multiples))) {
        more.multiples[0] = dec_from_json(v);
        more.n_multiples = 1;
    }
    and_number(c, n, &more, &both);
    *n = both;
}

/* "^.{2,60}$" and the like, a length in a pattern's words: counted as one. */
static bool read_length_pattern(str p, text_shape *t) {
    if (!str_starts(p, STR("^.{")) || !str_ends(p, STR("}$"))) return false;
    str inside = str_make(p.ptr + 3, p.len - 5);
    uint64_t bounds[2] = {0, 0};
    size_t n = 0, digits = 0, i = 0;
    for (; i < inside.len && n < 2; i++) {
        char d = inside.ptr[i];
        if (d == ',' && n == 0 && digits) {
            n = 1, digits = 0;
            continue;
        }
        if (d < '0' || d > '9' || ++digits > 6) return false;
        bounds[n] = bounds[n] * 10 + (uint64_t)(d - '0');
    }
    if (n == 0 && !digits) return false;
    if (n == 0) bounds[1] = bounds[0];
    if (bounds[0] > t->min) t->min = (uint32_t)bounds[0];
    if ((n == 0 || digits) && bounds[1] < t->max) t->max = (uint32_t)bounds[1];
    return true;
}

static bool read_text(schema_ctx *c, json_t *s, const char *path, text_shape *t) {
    json_t *v;
    t->min = get_count(json_object_get(s, "minLength"), 0);
    t->max = get_count(json_object_get(s, "maxLength"), UINT32_MAX);
    if ((v = json_object_get(s, "pattern"))) {
        error e = {0};
        str pattern = read_length_pattern(json_str(v), t) ? STR("^.*$") : json_str(v);
        rx r = regex_parse(c->x, pattern, (regex_syntax){.search = true}, &e);
        if (r < 0 && !schema_unsupported(c, path, "pattern", e.message)) return false;
        if (r >= 0) t->pattern = r;
    }
    if ((v = json_object_get(s, "format"))) {
        rx r = schema_format(c, json_str(v), &t->max);
        if (r < 0 &&
            !schema_unsupported(c, path, "format", "this format is not a regular language"))
            return false;
        if (r >= 0) t->pattern = regex_and2(c->x, t->pattern, r);
    }
    return true;
}

static sx sub(schema_ctx *c, const sx_node *at, json_t *schema, const char *a, const char *b);

static sx sub_index(schema_ctx *c, const sx_node *at, json_t *list, size_t i, const char *keyword) {
    char index[24];
    snprintf(index, sizeof index, "%zu", i);
    return sub(c, at, json_array_get(list, i), keyword, index);
}

static bool read_list(schema_ctx *c, const sx_node *at, list_shape *l) {
    json_t *s = at->json, *items = json_object_get(s, "items"),
           *prefix = json_object_get(s, "prefixItems"), *rest = items, *v;
    const char *keyword = "prefixItems", *rest_keyword = "items";
    if (json_is_array(items)) {
        prefix = items;
        keyword = "items";
        rest = json_object_get(s, "additionalItems");
        rest_keyword = "additionalItems";
    }
    l->min = get_count(json_object_get(s, "minItems"), 0);
    l->max = get_count(json_object_get(s, "maxItems"), UINT32_MAX);
    l->is_unique = json_is_true(json_object_get(s, "uniqueItems"));
    if (prefix && json_array_size(prefix)) {
        sx *p = arena_array(&c->mem, json_array_size(prefix), sizeof *p);
        if (!p) return false;
        for (size_t i = 0; i < json_array_size(prefix); i++)
            p[i] = sub_index(c, at, prefix, i, keyword);
        l->prefix = p;
        l->n_prefix = json_array_size(prefix);
    }
    if (rest) l->rest = sub(c, at, rest, rest_keyword, NULL);
    if ((v = json_object_get(s, "contains"))) {
        list_contains *k = arena_alloc(&c->mem, sizeof *k);
        if (!k) return false;
        *k = (list_contains){.what = sub(c, at, v, "contains", NULL),
                             .min = get_count(json_object_get(s, "minContains"), 1),
                             .max = get_count(json_object_get(s, "maxContains"), UINT32_MAX)};
        if (k->min > k->max) l->min = 1, l->max = 0;
        l->contains = k;
        l->n_contains = 1;
    }
    return true;
}

static bool read_map(schema_ctx *c, const sx_node *at, map_shape *m) {
    json_t *s = at->json, *v, *value;
    const char *key;
    m->min = get_count(json_object_get(s, "minProperties"), 0);
    m->max = get_count(json_object_get(s, "maxProperties"), UINT32_MAX);
    json_t *properties = json_object_get(s, "properties"),
           *patterns = json_object_get(s, "patternProperties"),
           *others = json_object_get(s, "additionalProperties");
    const char *others_keyword = "additionalProperties";
    if (!others && (others = json_object_get(s, "unevaluatedProperties")))
        others_keyword = "unevaluatedProperties";
    if (properties || patterns || others) {
        key_group *g = arena_alloc(&c->mem, sizeof *g);
        named_schema *names = arena_array(&c->mem, json_object_size(properties) + 1, sizeof *names);
        matched_schema *p = arena_array(&c->mem, json_object_size(patterns) + 1, sizeof *p);
        if (!g || !names || !p) return false;
        *g = (key_group){.names = names, .patterns = p, .others = SX_TRUE};
        json_object_foreach(properties, key, value) names[g->n_names++] =
            (named_schema){str_from(key), sub(c, at, value, "properties", key)};
        json_object_foreach(patterns, key, value) {
            error e = {0};
            rx r = regex_parse(c->x, str_from(key), (regex_syntax){.search = true}, &e);
            if (r < 0) {
                if (!schema_unsupported(c, at->path, "patternProperties", e.message)) return false;
                others = NULL; /* which names it would have matched is not known */
                continue;
            }
            p[g->n_patterns++] = (matched_schema){r, sub(c, at, value, "patternProperties", key)};
        }
        if (others) g->others = sub(c, at, others, others_keyword, NULL);
        m->groups = g;
        m->n_groups = 1;
    }
    if ((v = json_object_get(s, "required"))) {
        str *names = arena_array(&c->mem, json_array_size(v) + 1, sizeof *names);
        if (!names) return false;
        for (size_t i = 0; i < json_array_size(v); i++) {
            str name = json_str(json_array_get(v, i));
            bool known = false;
            for (size_t k = 0; k < m->n_required && !known; k++) known = str_eq(names[k], name);
            if (!known) names[m->n_required++] = name;
        }
        m->required = names;
    }
    if ((v = json_object_get(s, "propertyNames"))) {
        sx *k = arena_alloc(&c->mem, sizeof *k);
        if (!k) return false;
        *k = sub(c, at, v, "propertyNames", NULL);
        m->names = k;
        m->n_names = 1;
    }
    return m->min <= m->max || true;
}

static const char *const IN_PLACE[] = {"$ref",        "$dynamicRef", "allOf", "anyOf",
                                       "oneOf",       "if",          "not",   "dependentSchemas",
                                       "dependencies"};

static bool has_in_place(json_t *s) {
    for (size_t i = 0; i < sizeof IN_PLACE / sizeof *IN_PLACE; i++)
        if (json_object_get(s, IN_PLACE[i]) && strcmp(IN_PLACE[i], "not") != 0) return true;
    return false;
}

static typed *own_typed(schema_ctx *c, const sx_node *at) {
    json_t *s = at->json, *v;
    typed *t = all_values(c);
    if (!t) return NULL;
    bool integer = false;
    if ((v = json_object_get(s, "type"))) keep_types(t, v, &integer);
    if (t->nums.n) {
        t->nums.v[0].is_integer = integer;
        t->nums.v[0].is_digits = integer && c->resources[at->resource].is_draft4;
        read_number(c, s, &t->nums.v[0]);
    }
    if (t->texts.n && !read_text(c, s, at->path, &t->texts.v[0])) return NULL;
    if (t->lists.n && !read_list(c, at, &t->lists.v[0])) return NULL;
    if (t->maps.n && !read_map(c, at, &t->maps.v[0])) return NULL;
    if (t->texts.n && t->texts.v[0].min > t->texts.v[0].max) t->texts.n = 0;
    if (t->lists.n && t->lists.v[0].min > t->lists.v[0].max) t->lists.n = 0;
    if (t->maps.n && t->maps.v[0].min > t->maps.v[0].max) t->maps.n = 0;
    if ((v = json_object_get(s, "enum"))) t = and_typed(c, t, enum_typed(c, v));
    if ((v = json_object_get(s, "const"))) t = and_typed(c, t, const_typed(c, v));
    static const char *const UNEVALUATED[] = {"unevaluatedProperties", "unevaluatedItems"};
    for (int i = 0; i < 2; i++) {
        v = json_object_get(s, UNEVALUATED[i]);
        if (!v || json_is_true(v) || (json_is_object(v) && !json_object_size(v))) continue;
        bool simple = i == 0 && !has_in_place(s);
        if (!simple && !schema_unsupported(c, at->path, UNEVALUATED[i],
                                           "it depends on which other schemas hold"))
            return NULL;
    }
    return t;
}

/* ── References ── */

static void normalize_path(buf *path) {
    /* "a/b/../c" and "./" */
    buf out = {0};
    str s = buf_str(path);
    size_t i = 0;
    while (i < s.len) {
        size_t k = i;
        while (k < s.len && s.ptr[k] != '/') k++;
        str part = {s.ptr + i, k - i};
        bool last = k == s.len;
        if (str_is(part, "..")) {
            if (out.len) out.len--;
            while (out.len && out.ptr[out.len - 1] != '/') out.len--;
        } else if (!str_is(part, ".")) {
            buf_append_str(&out, part);
            if (!last) buf_append_char(&out, '/');
        }
        i = k + 1;
    }
    buf_deinit(path);
    *path = out;
}

/* RFC 3986 §5.2 as far as identifiers of schemas need it; the fragment is not part of either. */
static str resolve_uri(schema_ctx *c, str base, str ref) {
    ptrdiff_t colon = str_find(ref, STR(":"), 0), slash = str_find(ref, STR("/"), 0);
    if (colon > 0 && (slash < 0 || colon < slash)) return ref;
    if (!ref.len) return base;
    ptrdiff_t scheme = str_find(base, STR("://"), 0);
    size_t host = scheme >= 0 ? (size_t)scheme + 3 : 0, path = host;
    while (path < base.len && base.ptr[path] != '/') path++;
    if (scheme < 0) path = 0;
    buf out = {0}, tail = {0};
    if (ref.len > 1 && ref.ptr[0] == '/' && ref.ptr[1] == '/') {
        buf_append(&out, base.ptr, scheme >= 0 ? (size_t)scheme + 1 : 0);
        buf_append_str(&out, ref);
    } else {
        buf_append(&out, base.ptr, path);
        if (ref.ptr[0] == '/')
            buf_append_str(&tail, ref);
        else {
            size_t end = base.len;
            while (end > path && base.ptr[end - 1] != '/') end--;
            buf_append(&tail, base.ptr + path, end - path);
            if (end == path && scheme >= 0) buf_append_char(&tail, '/');
            buf_append_str(&tail, ref);
        }
        normalize_path(&tail);
        buf_append_str(&out, buf_str(&tail));
    }
    char *kept = arena_dup(&c->mem, buf_str(&out));
    str result = kept ? str_make(kept, out.len) : (str){0};
    buf_deinit(&out);
    buf_deinit(&tail);
    return result;
}

static str get_id(json_t *s) {
    json_t *v = json_object_get(s, "$id");
    if (!v) v = json_object_get(s, "id");
    str id = json_str(v);
    ptrdiff_t hash = str_find(id, STR("#"), 0);
    if (hash >= 0) id.len = (size_t)hash;
    return id;
}

static bool is_draft4(json_t *s, bool otherwise) {
    str uri = json_str(json_object_get(s, "$schema"));
    if (!uri.len) return otherwise;
    return str_find(uri, STR("draft-04"), 0) >= 0 || str_find(uri, STR("draft-03"), 0) >= 0;
}

static bool hides_siblings(const schema_ctx *c, json_t *s, bool otherwise) {
    (void)c;
    json_t *v = json_object_get(s, "$schema");
    if (!json_is_string(v)) return otherwise;
    str uri = json_str(v);
    static const char *const OLD[] = {"draft-03", "draft-04", "draft-05", "draft-06", "draft-07"};
    for (size_t i = 0; i < sizeof OLD / sizeof *OLD; i++)
        if (str_find(uri, str_from(OLD[i]), 0) >= 0) return true;
    return false;
}

/* Every schema with an identifier, so that references by name find it. */
static void list_resources(schema_ctx *c, json_t *s, int32_t resource, int depth) {
    if (depth > GRAMMAR_MAX_SCHEMA_DEPTH || schema_failed(c)) return;
    if (json_is_array(s)) {
        for (size_t i = 0; i < json_array_size(s); i++)
            list_resources(c, json_array_get(s, i), resource, depth + 1);
        return;
    }
    if (!json_is_object(s)) return;
    str id = get_id(s);
    if (id.len && s != c->root && !(c->resources[resource].old && json_object_get(s, "$ref"))) {
        if (!builder_grow(c->b, &c->resources, &c->cap_resources, c->n_resources + 1,
                          sizeof *c->resources))
            return;
        c->resources[c->n_resources] = (schema_doc){
            .uri = resolve_uri(c, c->resources[resource].uri, id),
            .root = s,
            .old = hides_siblings(c, s, c->resources[resource].old),
            .is_draft4 = is_draft4(s, c->resources[resource].is_draft4),
        };
        resource = c->n_resources++;
    }
    const char *key;
    json_t *v;
    json_object_foreach(s, key, v) {
        if (str_is(str_from(key), "enum") || str_is(str_from(key), "const") ||
            str_is(str_from(key), "default") || str_is(str_from(key), "examples"))
            continue;
        list_resources(c, v, resource, depth + 1);
    }
}

static int32_t resource_of(const schema_ctx *c, json_t *s, int32_t inherited) {
    for (int32_t i = 0; i < c->n_resources; i++)
        if (c->resources[i].root == s) return i;
    return inherited;
}

static sx sub(schema_ctx *c, const sx_node *at, json_t *schema, const char *a, const char *b) {
    return schema_raw(c, schema, resource_of(c, schema, at->resource),
                      schema_path(c, at->path, a, b));
}

static json_t *find_anchor(json_t *s, str name, int depth) {
    if (depth > GRAMMAR_MAX_SCHEMA_DEPTH) return NULL;
    json_t *found = NULL, *v;
    if (json_is_array(s)) {
        for (size_t i = 0; i < json_array_size(s) && !found; i++)
            if (!get_id(json_array_get(s, i)).len) /* another resource's anchors are not ours */
                found = find_anchor(json_array_get(s, i), name, depth + 1);
        return found;
    }
    if (!json_is_object(s)) return NULL;
    if (str_eq(json_str(json_object_get(s, "$anchor")), name) && name.len) return s;
    if (str_eq(json_str(json_object_get(s, "$dynamicAnchor")), name) && name.len) return s;
    for (int i = 0; i < 2; i++) { /* the older way: an id that is only a fragment */
        str id = json_str(json_object_get(s, i ? "id" : "$id"));
        if (id.len == name.len + 1 && id.ptr[0] == '#' &&
            str_eq(str_make(id.ptr + 1, name.len), name))
            return s;
    }
    const char *key;
    json_object_foreach(s, key, v) {
        if (get_id(v).len || str_is(str_from(key), "enum") || str_is(str_from(key), "const"))
            continue;
        if ((found = find_anchor(v, name, depth + 1))) return found;
    }
    return NULL;
}

static int count_dynamic_anchors(json_t *s, int depth) {
    int n = 0;
    const char *key;
    json_t *v;
    if (depth > GRAMMAR_MAX_SCHEMA_DEPTH) return 2;
    if (json_is_object(s) && json_object_get(s, "$dynamicAnchor")) n++;
    for (size_t i = 0; i < json_array_size(s); i++)
        n += count_dynamic_anchors(json_array_get(s, i), depth + 1);
    json_object_foreach(s, key, v) n += count_dynamic_anchors(v, depth + 1);
    return n;
}

static int hex_digit(char ch) {
    if (ch >= '0' && ch <= '9') return ch - '0';
    ch |= 32;
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* A JSON pointer below `s`; notes the resources it walks through. */
static json_t *follow_pointer(schema_ctx *c, json_t *s, str pointer, int32_t *resource) {
    size_t i = 0;
    while (s && i < pointer.len) {
        if (pointer.ptr[i] != '/') return NULL;
        i++;
        buf name = {0};
        for (; i < pointer.len && pointer.ptr[i] != '/'; i++) {
            char ch = pointer.ptr[i];
            if (ch == '%' && i + 2 < pointer.len && hex_digit(pointer.ptr[i + 1]) >= 0 &&
                hex_digit(pointer.ptr[i + 2]) >= 0) {
                ch = (char)(hex_digit(pointer.ptr[i + 1]) * 16 + hex_digit(pointer.ptr[i + 2]));
                i += 2;
            }
            buf_append_char(&name, ch);
        }
        buf plain = {0};
        for (size_t k = 0; k < name.len; k++) {
            char ch = name.ptr[k];
            if (ch == '~' && k + 1 < name.len && (name.ptr[k + 1] == '0' || name.ptr[k + 1] == '1'))
                ch = name.ptr[++k] == '0' ? '~' : '/';
            buf_append_char(&plain, ch);
        }
        if (json_is_array(s)) {
            char *end = NULL;
            unsigned long at = plain.len ? strtoul(plain.ptr, &end, 10) : 0;
            s = plain.len && !*end ? json_array_get(s, at) : NULL;
        } else
            s = json_object_getn(s, plain.ptr ? plain.ptr : "", plain.len);
        buf_deinit(&name);
        buf_deinit(&plain);
        if (s) *resource = resource_of(c, s, *resource);
    }
    return s;
}

static sx resolve(schema_ctx *c, const sx_node *at, str ref, const char *keyword) {
    ptrdiff_t hash = str_find(ref, STR("#"), 0);
    str uri = hash < 0 ? ref : str_make(ref.ptr, (size_t)hash);
    str fragment = hash < 0 ? (str){0} : str_make(ref.ptr + hash + 1, ref.len - (size_t)hash - 1);
    int32_t r = at->resource;
    if (uri.len) {
        str whole = resolve_uri(c, c->resources[r].uri, uri);
        for (r = 0; r < c->n_resources; r++)
            if (str_eq(c->resources[r].uri, whole)) break;
        if (r == c->n_resources) {
            if (!schema_unsupported(c, at->path, keyword,
                                    "it refers to a schema outside of this one"))
                return SX_FAILED;
            return SX_TRUE;
        }
    }
    json_t *s = c->resources[r].root;
    if (fragment.len && fragment.ptr[0] == '/')
        s = follow_pointer(c, s, fragment, &r);
    else if (fragment.len) {
        s = find_anchor(s, fragment, 0);
        if (s) r = resource_of(c, s, r);
    }
    if (!s || !(json_is_object(s) || json_is_boolean(s))) {
        schema_invalid(c, at->path, keyword, "'%.*s' leads to no schema.",
                       ref.len < 100 ? (int)ref.len : 100, ref.ptr);
        return SX_FAILED;
    }
    return schema_raw(c, s, r, schema_path(c, at->path, keyword, NULL));
}

/* ── Keywords that combine ── */

static typed *any_of(schema_ctx *c, const sx_node *at, json_t *list) {
    typed *t = make_typed(c);
    for (size_t i = 0; i < json_array_size(list) && t; i++)
        t = or_typed(c, t, schema_lower(c, sub_index(c, at, list, i, "anyOf")));
    return t;
}

/* Exactly one: as anyOf where no two can hold together, else each and not the others. */
static typed *one_of(schema_ctx *c, const sx_node *at, json_t *list) {
    size_t n = json_array_size(list);
    typed **v = arena_array(&c->mem, n + 1, sizeof *v);
    if (!v) return NULL;
    for (size_t i = 0; i < n; i++)
        if (!(v[i] = schema_lower(c, sub_index(c, at, list, i, "oneOf")))) return NULL;
    typed *t = make_typed(c);
    for (size_t i = 0; i < n && t; i++) {
        typed *only = v[i];
        for (size_t k = 0; k < n && only; k++) {
            if (k == i) continue;
            typed *both = and_typed_deep(c, only, v[k], 0);
            if (!both) return NULL;
            if (is_empty(both)) continue;
            const char *why = "two of its schemas may hold together";
            typed *others = not_typed(c, v[k], &why);
            if (schema_failed(c)) return NULL;
            if (!others) {
                if (!schema_unsupported(c, at->path, "oneOf", why)) return NULL;
                continue; /* lenient: at least one of them */
            }
            only = and_typed(c, only, others);
        }
        t = or_typed(c, t, only);
    }
    return t;
}

static typed *not_of(schema_ctx *c, const sx_node *at, typed *inner, const char *keyword) {
    const char *why = "it is not a set of shapes";
    typed *t = inner ? not_typed(c, inner, &why) : NULL;
    if (t || schema_failed(c)) return t;
    return schema_unsupported(c, at->path, keyword, why) ? all_values(c) : NULL;
}

static typed *if_then_else(schema_ctx *c, const sx_node *at) {
    json_t *s = at->json, *then = json_object_get(s, "then"), *other = json_object_get(s, "else");
    if (!then && !other) return all_values(c);
    typed *yes = schema_lower(c, sub(c, at, json_object_get(s, "if"), "if", NULL));
    const char *why = "its contrary is not a set of shapes";
    typed *no = yes ? not_typed(c, yes, &why) : NULL;
    if (schema_failed(c)) return NULL;
    if (!no) return schema_unsupported(c, at->path, "if", why) ? all_values(c) : NULL;
    if (then) yes = and_typed(c, yes, schema_lower(c, sub(c, at, then, "then", NULL)));
    if (other) no = and_typed(c, no, schema_lower(c, sub(c, at, other, "else", NULL)));
    return yes && no ? or_typed(c, yes, no) : NULL;
}

/* Without the property, or with it and the rest. */
static typed *depends(schema_ctx *c, const sx_node *at, str name, json_t *needs,
                      const char *keyword) {
    typed *without = all_values(c), *with = all_values(c);
    if (!without || !with) return NULL;
    without->maps.n = 0;
    push_property(c, without, name, SX_FALSE, false);
    with->lits = 0;
    with->texts.n = with->nums.n = with->lists.n = with->maps.n = 0;
    push_property(c, with, name, SX_TRUE, true);
    if (json_is_array(needs)) {
        str *required = arena_array(&c->mem, json_array_size(needs) + 1, sizeof *required);
        if (!required || schema_failed(c)) return NULL;
        map_shape *m = &with->maps.v[0];
        required[m->n_required - 1] = name;
        for (size_t i = 0; i < json_array_size(needs); i++) {
            str other = json_str(json_array_get(needs, i));
            bool known = false;
            for (size_t k = 0; k < m->n_required && !known; k++) known = str_eq(required[k], other);
            if (!known) required[m->n_required++] = other;
        }
        m->required = required;
    } else {
        sx k = sub(c, at, needs, keyword, NULL);
        if (k < 0) return NULL;
        with = and_typed(c, with, schema_lower(c, k));
    }
    return schema_failed(c) || !with ? NULL : or_typed(c, without, with);
}

static typed *raw_typed(schema_ctx *c, sx a) {
    sx_node at = c->nodes[a]; /* by value: lowering adds nodes */
    json_t *s = at.json, *v, *value;
    const char *key;
    if ((v = json_object_get(s, "$ref"))) {
        sx target = resolve(c, &at, json_str(v), "$ref");
        typed *t = target < 0 ? NULL : schema_lower(c, target);
        if (!t || c->resources[at.resource].old) return t;
        json_t *rest = json_copy(s);
        json_object_del(rest, "$ref");
        bool alone = json_object_size(rest) == 0;
        json_decref(rest);
        if (alone) return t;
    }
    typed *t = own_typed(c, &at);
    if (v && t) t = and_typed(c, t, schema_lower(c, resolve(c, &at, json_str(v), "$ref")));
    v = json_object_get(s, "$dynamicRef");
    if (t && v && count_dynamic_anchors(c->root, 0) > 1) { /* who refers here decides */
        if (!schema_unsupported(c, at.path, "$dynamicRef", "it has several anchors to choose from"))
            return NULL;
    } else if (t && v)
        t = and_typed(c, t, schema_lower(c, resolve(c, &at, json_str(v), "$dynamicRef")));
    if (t && (v = json_object_get(s, "$recursiveRef")) &&
        !schema_unsupported(c, at.path, "$recursiveRef", "it depends on who refers here"))
        return NULL;
    if (t && (v = json_object_get(s, "allOf")))
        for (size_t i = 0; i < json_array_size(v) && t; i++)
            t = and_typed(c, t, schema_lower(c, sub_index(c, &at, v, i, "allOf")));
    if (t && (v = json_object_get(s, "anyOf"))) t = and_typed(c, t, any_of(c, &at, v));
    if (t && (v = json_object_get(s, "oneOf"))) t = and_typed(c, t, one_of(c, &at, v));
    if (t && (v = json_object_get(s, "not")) && json_object_size(v) == 1 &&
        (value = json_object_get(v, "not"))) /* twice is not at all */
        t = and_typed(c, t, schema_lower(c, sub(c, &at, value, "not", "not")));
    else if (t && v)
        t = and_typed(c, t, not_of(c, &at, schema_lower(c, sub(c, &at, v, "not", NULL)), "not"));
    if (t && json_object_get(s, "if")) t = and_typed(c, t, if_then_else(c, &at));
    static const char *const DEPENDENT[] = {"dependentRequired", "dependentSchemas",
                                            "dependencies"};
    for (int i = 0; i < 3 && t; i++) {
        v = json_object_get(s, DEPENDENT[i]);
        json_object_foreach(v, key, value) {
            if (!t) break;
            t = and_typed(c, t, depends(c, &at, str_from(key), value, DEPENDENT[i]));
        }
    }
    return t;
}

typed *schema_lower(schema_ctx *c, sx a) {
    if (a < 0 || schema_failed(c)) return NULL;
    sx_node *n = &c->nodes[a];
    if (n->lowered) return n->lowered;
    if (n->is_lowering) {
        schema_invalid(c, n->path ? n->path : "", "$ref", "It refers to itself without end.");
        return NULL;
    }
    if (c->depth >= MAX_LOWER_DEPTH) {
        too_much(c, "references one behind the other", MAX_LOWER_DEPTH);
        return NULL;
    }
    c->depth++;
    n->is_lowering = true;
    typed *t = NULL;
    switch (n->op) {
    case SXO_TRUE: t = all_values(c); break;
    case SXO_FALSE: t = make_typed(c); break;
    case SXO_CONST: t = const_typed(c, n->json); break;
    case SXO_RAW: t = raw_typed(c, a); break;
    case SXO_NOT: {
        const char *why = "it is not a set of shapes";
        sx inner = n->a;
        typed *k = schema_lower(c, inner);
        t = k ? not_typed(c, k, &why) : NULL;
        if (!t && !schema_failed(c)) {
            const char *path = c->nodes[inner].path;
            t = schema_unsupported(c,
                                   path         ? path
                                   : c->o.param ? c->o.param
                                                : "",
                                   "not", why)
                    ? all_values(c)
                    : NULL;
        }
        break;
    }
    default: {
        int32_t first = n->a, count = n->b;
        sx_op op = n->op;
        t = op == SXO_AND ? all_values(c) : make_typed(c);
        for (int32_t i = 0; i < count && t; i++) {
            typed *k = schema_lower(c, c->kids[first + i]);
            t = op == SXO_AND ? and_typed(c, t, k) : or_typed(c, t, k);
        }
    }
    }
    c->depth--;
    n = &c->nodes[a];
    n->is_lowering = false;
    if (schema_failed(c)) return NULL;
    n->lowered = t;
    return t;
}

rx schema_keys_rx(schema_ctx *c, sx a) {
    typed *t = schema_lower(c, a);
    rx r = t ? RX_NONE : -1;
    for (size_t i = 0; t && i < t->texts.n; i++)
        r = regex_alt2(c->x, r, schema_text_rx(c, &t->texts.v[i]));
    return r;
}

/* ── Entry ── */

static bool json_is_deep(json_t *v, int depth) {
    if (depth > GRAMMAR_MAX_SCHEMA_DEPTH * 2) return true;
    const char *key;
    json_t *k;
    if (json_is_array(v))
        for (size_t i = 0; i < json_array_size(v); i++)
            if (json_is_deep(json_array_get(v, i), depth + 1)) return true;
    json_object_foreach(v, key, k) if (json_is_deep(k, depth + 1)) return true;
    return false;
}

int32_t schema_compile(grammar_builder *b, json_t *schema, const grammar_schema_options *o) {
    schema_ctx c = {.b = b, .x = b->x, .root = schema};
    if (o) c.o = *o;
    const char *path = c.o.param ? c.o.param : "";
    arena_init(&c.mem, SCHEMA_MEMORY);
    int32_t result = -1;
    intern(&c, (sx_node){.op = SXO_TRUE}, NULL);
    intern(&c, (sx_node){.op = SXO_FALSE}, NULL);
    if (json_is_deep(schema, 0))
        schema_invalid(&c, path, "",
                       "It is nested more than %d levels deep (GRAMMAR_MAX_SCHEMA_DEPTH).",
                       GRAMMAR_MAX_SCHEMA_DEPTH);
    else if (schema_check_all(&c, schema, path, 0) &&
             builder_grow(b, &c.resources, &c.cap_resources, 1, sizeof *c.resources)) {
        str id = get_id(schema);
        c.resources[0] = (schema_doc){.uri = id,
                                      .root = schema,
                                      .old = hides_siblings(&c, schema, false),
                                      .is_draft4 = is_draft4(schema, false)};
        c.n_resources = 1;
        list_resources(&c, schema, 0, 0);
        str dialect = json_str(json_object_get(schema, "$schema"));
        if (dialect.len && str_find(dialect, STR("json-schema.org/"), 0) < 0)
            schema_unsupported(&c, path, "$schema",
                               "it names a dialect that is not JSON Schema's own");
        sx root = schema_raw(&c, schema, 0, path);
        if (c.o.must_be_object) {
            static const char TEXT[] = "{\"type\":\"object\"}";
            json_t *object = json_loads(TEXT, 0, NULL);
            if (object) {
                root = schema_and(&c, (sx[]){root, schema_raw(&c, object, 0, path)}, 2);
                result = schema_emit(&c, root);
                json_decref(object);
            }
        } else
            result = schema_emit(&c, root);
    }
    if (c.mem.failed && !error_is_set(&b->err))
        builder_fail(b, ERR_UNSUPPORTED_VALUE, c.o.param,
                     "The schema needs more than %d MiB to compile.", SCHEMA_MEMORY >> 20);
    if (regexes_failure(b->x) && !error_is_set(&b->err))
        builder_fail(b, ERR_UNSUPPORTED_VALUE, c.o.param, "%s", regexes_failure(b->x));
    if (error_is_set(&b->err)) result = -1;
    free(c.nodes);
    free(c.kids);
    free(c.table);
    free(c.resources);
    free(c.work);
    arena_deinit(&c.mem);
    return result;
}
