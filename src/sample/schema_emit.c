/* Shapes → the machine's tables: one jnode per schema expression, worked off a
 * list; then what is impossible is taken out, so that the machine never walks
 * into a dead end.
 */
#include <stdlib.h>

#include "sample/schema_impl.h"

enum { MAX_NAMED = 16000, MAX_PATTERNS = 60 };

static bool out_of_memory(schema_ctx *c) {
    return builder_fail(c->b, ERR_NO_MEMORY, NULL, "There is not enough memory for a schema.");
}
static bool beyond(schema_ctx *c, const char *what, int n) {
    return builder_fail(c->b, ERR_UNSUPPORTED_VALUE, c->o.param,
                        "The schema needs more than %d %s.", n, what);
}

/* The jnode of an expression; its content follows later. */
static int32_t jnode_of(schema_ctx *c, sx a) {
    grammar_builder *b = c->b;
    if (a < 0 || schema_failed(c)) return -1;
    if (c->nodes[a].jnode >= 0) return c->nodes[a].jnode;
    if (!builder_grow(b, &b->jnodes, &b->cap_jnodes, b->n_jnodes + 1, sizeof *b->jnodes) ||
        !builder_grow(b, &c->work, &c->cap_work, c->n_work + 1, sizeof *c->work))
        return -1;
    b->jnodes[b->n_jnodes] = (jnode){.height = UINT16_MAX};
    c->work[c->n_work++] = a;
    return c->nodes[a].jnode = b->n_jnodes++;
}

/* ── Strings ── */

static int32_t label_zero(void *ctx, int32_t name, uint64_t matched) {
    (void)ctx;
    return name >= 0 || matched ? 0 : -1;
}

/* The automaton of some strings, found again when an equal one was made for this schema. */
static int32_t text_dfa(schema_ctx *c, const str *values, size_t n_values, rx r) {
    grammar_builder *b = c->b;
    dfa *d = values ? dfa_new(c->x, values, n_values, NULL, 0, label_zero, NULL, &b->err)
                    : dfa_new_single(c->x, r, &b->err);
    if (d && d->n_states == 0) {
        dfa_free(d);
        return -2;
    }
    int32_t at = builder_add_dfa(b, d);
    return at < 0 ? -1 : at;
}

static bool push_text(schema_ctx *c, str_shape s) {
    grammar_builder *b = c->b;
    if (!builder_grow(b, &b->strs, &b->cap_strs, b->n_strs + 1, sizeof *b->strs)) return false;
    b->strs[b->n_strs++] = s;
    builder_mix(b, (uint64_t)s.dfa << 32 | (s.counts ? s.min : 0));
    builder_mix(b, s.counts ? s.max : 0);
    return true;
}

enum { MAX_LENGTH_WORDS = 1 << 20, MAX_LENGTH_WORK = 60000000 };

/* States from which one character leads to a state of `before`. A character begins with a byte that is
 * no continuation; in the middle of one its rest comes first. */
static void find_before(const dfa *d, const uint8_t *before, uint8_t *now) {
    bool is_tail[256] = {0};
    for (int b = 0x80; b < 0xC0; b++) is_tail[d->class_of[b]] = true;
    for (uint32_t q = 0; q < d->n_states; q++) {
        now[q] = 0;
        for (uint32_t b = 0; b < d->n_classes && !now[q]; b++) {
            uint32_t t = d->next[(size_t)q * d->n_classes + b];
            now[q] = !is_tail[b] && t != DFA_DEAD && before[t];
        }
    }
}
static void close_tails(const dfa *d, uint8_t *now) {
    bool is_tail[256] = {0};
    for (int b = 0x80; b < 0xC0; b++) is_tail[d->class_of[b]] = true;
    for (int pass = 0; pass < 3; pass++)
        for (uint32_t q = 0; q < d->n_states; q++)
            for (uint32_t b = 0; b < d->n_classes && !now[q]; b++) {
                uint32_t t = d->next[(size_t)q * d->n_classes + b];
                now[q] = is_tail[b] && t != DFA_DEAD && now[t];
            }
}

/* Which numbers of characters lead from each state to acceptance, one number after the other; without a
 * maximum the last bit says "so many or more". False: too many. */
static bool find_lengths(const dfa *d, str_shape *s) {
    uint32_t most = s->max == UINT32_MAX ? s->min : s->max, n = d->n_states;
    s->n_length_words = most / 64 + 1;
    if ((uint64_t)n * s->n_length_words > MAX_LENGTH_WORDS) return false;
    uint8_t *now = calloc(n, 1), *before = calloc(n, 1);
    s->lengths = calloc((size_t)n * s->n_length_words, sizeof *s->lengths);
    bool ok = now && before && s->lengths;
    uint64_t work = 0;
    for (int at_least = 0; at_least < (s->max == UINT32_MAX ? 2 : 1); at_least++) {
        bool settled = false;
        for (uint32_t k = 0; ok && k <= most; k++) {
            if (k == 0) { /* every state leads to acceptance somehow */
                for (uint32_t q = 0; q < n; q++) now[q] = at_least || d->label[q] >= 0;
                close_tails(d, now);
            } else if (!settled) {
                uint8_t *spare = before;
                before = now;
                now = spare;
                find_before(d, before, now);
                close_tails(d, now);
                settled = memcmp(now, before, n) == 0;
            }
            if (!settled) work += (uint64_t)n * d->n_classes * 4;
            if (work > MAX_LENGTH_WORK) ok = false;
            for (uint32_t q = 0; q < n && (!at_least || k == most); q++)
                if (now[q])
                    s->lengths[(size_t)q * s->n_length_words + (k >> 6)] |= 1ull << (k & 63);
        }
    }
    free(now);
    free(before);
    return ok;
}

/* A pattern with limits beside it: the automaton of the one, and a table for the other; where that
 * would be too large, one automaton of both. */
static bool push_limited(schema_ctx *c, const text_shape *t) {
    text_shape free_length = *t;
    free_length.min = 0;
    free_length.max = UINT32_MAX;
    int32_t at = text_dfa(c, NULL, 0, schema_text_rx(c, &free_length));
    if (at == -2) return true;
    if (at < 0) return false;
    str_shape s = {.dfa = (uint32_t)at, .counts = true, .min = t->min, .max = t->max};
    if (!find_lengths(c->b->dfas[at], &s)) {
        free(s.lengths);
        return builder_fail(
            c->b, ERR_UNSUPPORTED_VALUE, NULL, /* name_keyword says whose */
            "This pattern or format beside so large a minLength or maxLength needs more "
            "than %d places for lengths (MAX_LENGTH_WORDS).",
            MAX_LENGTH_WORDS * 64);
    }
    uint32_t most = s.max == UINT32_MAX ? s.min : s.max;
    bool any = false;
    for (uint32_t k = s.min; k <= most; k++) any = any || s.lengths[k >> 6] >> (k & 63) & 1;
    if (!any) {
        free(s.lengths);
        return true; /* no text of that length */
    }
    if (push_text(c, s)) return true;
    free(s.lengths);
    return false;
}

/* Shapes with only a length count as they go; lists of values are one trie; the rest is one automaton. */
static bool emit_texts(schema_ctx *c, const typed *t, jnode *j) {
    j->str = (uint32_t)c->b->n_strs;
    size_t n_values = 0, n_rx = 0;
    for (size_t i = 0; i < t->texts.n; i++) {
        const text_shape *s = &t->texts.v[i];
        if (!s->has_values && s->pattern == RX_ALL && s->min == 0 && s->max == UINT32_MAX) {
            if (!push_text(c, (str_shape){.dfa = 0})) return false;
            j->n_str = 1;
            return true;
        }
        n_values += s->n_values;
    }
    str *values = arena_array(&c->mem, n_values + 1, sizeof *values);
    rx *rest = arena_array(&c->mem, t->texts.n + 1, sizeof *rest);
    if (!values || !rest) return out_of_memory(c);
    n_values = 0;
    for (size_t i = 0; i < t->texts.n; i++) {
        const text_shape *s = &t->texts.v[i];
        if (s->has_values) {
            /* The values passed whatever stood beside them. */
            for (size_t k = 0; k < s->n_values; k++) values[n_values++] = s->values[k];
        } else if (s->pattern == RX_ALL) {
            if (!push_text(c, (str_shape){.counts = true, .min = s->min, .max = s->max}))
                return false;

        } else if (s->min > 0 || s->max != UINT32_MAX) {
            if (!push_limited(c, s)) return false;
        } else {
            rest[n_rx] = schema_text_rx(c, s);
            if (rest[n_rx++] < 0) return false;
        }
    }
    if (n_values) {
        int32_t d = text_dfa(c, values, n_values, 0);
        if (d == -1 || (d >= 0 && !push_text(c, (str_shape){.dfa = (uint32_t)d}))) return false;
    }
    if (n_rx) {
        int32_t d = text_dfa(c, NULL, 0, regex_alt(c->x, rest, n_rx));
        if (d == -1 || (d >= 0 && !push_text(c, (str_shape){.dfa = (uint32_t)d}))) return false;
    }

    j->n_str = (uint32_t)c->b->n_strs - j->str;
    return true;
}

/* ── Numbers ── */

static void *heap_copy(const void *p, size_t n, size_t size) {
    void *q = calloc(n + 1, size);
    if (q && n) memcpy(q, p, n * size);
    return q;
}

static bool emit_numbers(schema_ctx *c, const typed *t, jnode *j) {
    grammar_builder *b = c->b;
    j->num = (uint32_t)b->n_nums;
    for (size_t i = 0; i < t->nums.n; i++) {
        num_shape n = t->nums.v[i];
        bool unrepresentable;
        n.multiples = heap_copy(n.multiples, n.n_multiples, sizeof *n.multiples);
        n.not_multiples = heap_copy(n.not_multiples, n.n_not_multiples, sizeof *n.not_multiples);
        n.banned = heap_copy(n.banned, n.n_banned, sizeof *n.banned);
        n.values = heap_copy(n.values, n.n_values, sizeof *n.values);
        n.banned_scaled = n.values_scaled = n.skips = NULL;
        if (!n.multiples || !n.not_multiples || !n.banned || !n.values ||
            !builder_grow(b, &b->nums, &b->cap_nums, b->n_nums + 1, sizeof *b->nums)) {
            num_deinit(&n);
            return out_of_memory(c);
        }
        if (!num_prepare(&n, &unrepresentable)) {
            num_deinit(&n);
            if (unrepresentable)
                return builder_fail(b, ERR_UNSUPPORTED_VALUE, c->o.param,
                                    "The schema needs numbers of more than %d digits.", DEC_DIGITS);
            continue;
        }
        builder_mix(b, (uint64_t)n.low[0] ^ (uint64_t)n.high[0] << 1 ^ (uint64_t)n.step << 2);
        builder_mix(b,
                    (uint64_t)n.low[1] ^ (uint64_t)n.high[1] << 1 ^ (uint64_t)n.n_fraction << 60);
        b->nums[b->n_nums++] = n;
    }
    j->n_num = (uint32_t)b->n_nums - j->num;
    return true;
}

/* ── Arrays ── */

/* Items of a list that has to hold certain values are told apart by which of them they are. Where there
 * is no upper limit, "is not" need not be known: uncounted ones do no harm. */
static bool emit_position(schema_ctx *c, const list_shape *l, sx item, arr_choice *out,
                          uint32_t *n) {
    *n = 0;
    for (uint32_t set = 0; set < 1u << l->n_contains; set++) {
        sx all = item;
        for (size_t k = 0; k < l->n_contains && all >= 0; k++) {
            const list_contains *w = &l->contains[k];
            if (set >> k & 1)
                all = schema_and(c, (sx[]){all, w->what}, 2);
            else if (w->max != UINT32_MAX)
                all = schema_and(c, (sx[]){all, schema_not(c, w->what)}, 2);
        }
        int32_t node = jnode_of(c, all);
        if (node < 0) return false;
        out[(*n)++] = (arr_choice){.node = (uint32_t)node, .hits = (uint8_t)set};
    }
    return true;
}

static bool emit_list(schema_ctx *c, const list_shape *l) {
    grammar_builder *b = c->b;
    const char *at = c->o.param ? c->o.param : "";
    bool fits = l->n_contains <= ARR_MAX_CONTAINS;
    for (size_t k = 0; k < l->n_contains && fits && l->n_contains > 1; k++)
        fits = l->contains[k].min < 200 &&
               (l->contains[k].max < 200 || l->contains[k].max == UINT32_MAX);
    if (!fits)
        return schema_unsupported(c, at, "contains",
                                  "an array has to hold too many kinds of items at once");
    if (l->n_prefix > 10000) return beyond(c, "items listed one by one", 10000);
    if (!builder_grow(b, &b->arrs, &b->cap_arrs, b->n_arrs + 1, sizeof *b->arrs)) return false;
    arr_shape a = {.n_prefix = (uint32_t)l->n_prefix,
                   .min = l->min,
                   .max = l->max,
                   .n_contains = (uint32_t)l->n_contains,
                   .is_unique = l->is_unique && l->max > 1};
    a.first = calloc(l->n_prefix + 2, sizeof *a.first);
    a.choices = calloc((l->n_prefix + 1) << l->n_contains, sizeof *a.choices);
    if (!a.first || !a.choices) {
        free(a.first);
        free(a.choices);
        return out_of_memory(c);
    }
    for (size_t k = 0; k < l->n_contains; k++) {
        a.min_hits[k] = l->contains[k].min;
        a.max_hits[k] = l->contains[k].max;
        builder_mix(b, (uint64_t)a.min_hits[k] << 32 | a.max_hits[k]);
    }
    b->arrs[b->n_arrs++] = a;
    uint32_t n = 0;
    for (size_t i = 0; i <= l->n_prefix; i++) {
        uint32_t k = 0;
        a.first[i] = n;
        /* a.first and a.choices are the builder's by now: the same memory */
        if (!emit_position(c, l, i < l->n_prefix ? l->prefix[i] : l->rest, a.choices + n, &k))
            return false;
        n += k;
    }
    a.first[l->n_prefix + 1] = n;
    for (uint32_t i = 0; i < n; i++)
        builder_mix(b, (uint64_t)a.choices[i].node << 8 | a.choices[i].hits);
    builder_mix(b, (uint64_t)a.min << 32 | a.max);
    builder_mix(b, (uint64_t)a.n_prefix << 1 | a.is_unique);
    return true;
}

static bool emit_lists(schema_ctx *c, const typed *t, jnode *j) {
    j->arr = (uint32_t)c->b->n_arrs;
    for (size_t i = 0; i < t->lists.n; i++)
        if (!emit_list(c, &t->lists.v[i])) return false;
    j->n_arr = (uint32_t)c->b->n_arrs - j->arr;
    return !schema_failed(c);
}

/* ── Objects ── */

typedef struct key_labels {
    schema_ctx *c;
    const map_shape *m;
    size_t n_named, n_slots, cap_slots;
    obj_choice *choices; /* [n_choices] */
    uint32_t *first;     /* [cap_slots + 1] */
    size_t n_choices, cap_choices;
    uint64_t *known; /* [cap_slots] what matched, per label beyond the named */
    bool has_others;
    const bool *name_is_bad; /* [n_named] */
    bool failed;
} key_labels;

/* A label's ways to be filled: plainly, and as one or several of what the object has to hold. */
static bool add_slot(key_labels *k, sx what, uint64_t somes) {
    schema_ctx *c = k->c;
    size_t n_some = (size_t)__builtin_popcountll(somes);
    if (k->n_slots == k->cap_slots || n_some > 6 ||
        k->n_choices + ((size_t)1 << n_some) > k->cap_choices)
        return !(k->failed = true);
    k->first[k->n_slots] = (uint32_t)k->n_choices;
    uint64_t set = 0;
    do { /* every subset of somes */
        sx all = what;
        for (size_t i = 0; i < k->m->n_some; i++)
            if (set >> i & 1) all = schema_and(c, (sx[]){all, k->m->some[i].what}, 2);
        int32_t node = jnode_of(c, all);
        if (node < 0) return !(k->failed = true);
        k->choices[k->n_choices++] = (obj_choice){(uint32_t)node, (uint32_t)set};
        set = (set - somes) & somes;
    } while (set);
    k->first[++k->n_slots] = (uint32_t)k->n_choices;
    return true;
}

/* The slot for names that are not listed: every group says what it wants of them. */
static int32_t label_key(void *ctx, int32_t name, uint64_t matched) {
    key_labels *k = ctx;
    if (name >= 0) return k->name_is_bad[name] ? -1 : name;
    if (!k->has_others || !(matched & 1)) return -1; /* bit 0: well-formed, and a fine name */
    matched >>= 1;
    for (size_t i = k->n_named; i < k->n_slots; i++)
        if (k->known[i] == matched) return (int32_t)i;
    sx all = SX_TRUE;
    size_t bit = 0;
    for (size_t i = 0; i < k->m->n_groups; i++) {
        const key_group *g = &k->m->groups[i];
        bool found = false;
        for (size_t p = 0; p < g->n_patterns; p++, bit++)
            if (matched >> bit & 1) {
                found = true;
                all = schema_and(k->c, (sx[]){all, g->patterns[p].what}, 2);
            }
        if (!found) all = schema_and(k->c, (sx[]){all, g->others}, 2);
    }
    if (k->failed || !add_slot(k, all, matched >> bit)) return -1;
    k->known[k->n_slots - 1] = matched;
    return (int32_t)k->n_slots - 1;
}

typedef struct name_place {
    str name;
    size_t at; /* among the names in the schema's order */
} name_place;

typedef struct name_list {
    str *names; /* in the schema's order */
    name_place *sorted;
    size_t n;
} name_list;

static int compare_places(const void *a, const void *b) {
    const name_place *x = a, *y = b;
    size_t n = x->name.len < y->name.len ? x->name.len : y->name.len;
    int k = n ? memcmp(x->name.ptr, y->name.ptr, n) : 0;
    if (!k) k = (x->name.len > y->name.len) - (x->name.len < y->name.len);
    return k ? k : (x->at > y->at) - (x->at < y->at);
}

static int compare_place_names(const void *a, const void *b) {
    name_place x = *(const name_place *)a, y = *(const name_place *)b;
    x.at = y.at = 0;
    return compare_places(&x, &y);
}

static size_t find_name(const name_list *l, str name) {
    const name_place *p = bsearch(&(name_place){.name = name}, l->sorted, l->n, sizeof *l->sorted,
                                  compare_place_names);
    return p->at;
}

/* All names that anything is said about: the properties as they stand, then what is only required. */
static bool list_names(schema_ctx *c, const map_shape *m, name_list *l) {
    size_t total = m->n_required, len = 0, kept = 0;
    for (size_t i = 0; i < m->n_groups; i++) total += m->groups[i].n_names;
    l->names = arena_array(&c->mem, total + 1, sizeof *l->names);
    l->sorted = arena_array(&c->mem, total + 1, sizeof *l->sorted);
    size_t *place = arena_array(&c->mem, total + 1, sizeof *place);
    if (!l->names || !l->sorted || !place) return false;
    for (size_t i = 0; i < m->n_groups; i++)
        for (size_t k = 0; k < m->groups[i].n_names; k++, len++)
            l->sorted[len] = (name_place){m->groups[i].names[k].name, len};
    for (size_t i = 0; i < m->n_required; i++, len++)
        l->sorted[len] = (name_place){m->required[i], len};
    qsort(l->sorted, len, sizeof *l->sorted, compare_places);
    /* Of those alike the first counts; then places without gaps. */
    for (size_t i = 0; i < len; i++)
        if (!kept || !str_eq(l->sorted[kept - 1].name, l->sorted[i].name))
            l->sorted[kept++] = l->sorted[i];
    for (size_t i = 0; i < kept; i++) place[l->sorted[i].at] = 1;
    for (size_t i = 0, n = 0; i < len; i++) n += place[i], place[i] = n;
    for (size_t i = 0; i < kept; i++) {
        l->sorted[i].at = place[l->sorted[i].at] - 1;
        l->names[l->sorted[i].at] = l->sorted[i].name;
    }
    l->n = kept;
    return true;
}

/* What the groups together want under every listed name. */
static bool name_schemas(schema_ctx *c, const map_shape *m, const name_list *l, sx *out) {
    const str *names = l->names;
    size_t n = l->n;
    bool *found = arena_array(&c->mem, n + 1, sizeof *found);
    if (!found) return false;
    for (size_t i = 0; i < n; i++) out[i] = SX_TRUE;
    for (size_t i = 0; i < m->n_groups; i++) {
        const key_group *g = &m->groups[i];
        memset(found, 0, n);
        for (size_t k = 0; k < g->n_names; k++) {
            size_t at = find_name(l, g->names[k].name);
            found[at] = true;
            out[at] = schema_and(c, (sx[]){out[at], g->names[k].what}, 2);
        }
        for (size_t k = 0; k < n; k++) {
            for (size_t p = 0; p < g->n_patterns; p++)
                if (regex_is_match(c->x, g->patterns[p].pattern, names[k])) {
                    found[k] = true;
                    out[k] = schema_and(c, (sx[]){out[k], g->patterns[p].what}, 2);
                }
            if (!found[k]) out[k] = schema_and(c, (sx[]){out[k], g->others}, 2);
        }
        if (schema_failed(c)) return false;
    }
    return true;
}

static bool emit_map(schema_ctx *c, const map_shape *m) {
    grammar_builder *b = c->b;
    name_list listed = {0};
    bool has_names = list_names(c, m, &listed);
    const str *names = listed.names;
    size_t n = listed.n, n_patterns = 0;
    sx *what = has_names ? arena_array(&c->mem, n + 1, sizeof *what) : NULL;
    bool *bad = what ? arena_array(&c->mem, n + 1, sizeof *bad) : NULL;
    if (!bad || !name_schemas(c, m, &listed, what))
        return schema_failed(c) ? false : out_of_memory(c);
    if (n > MAX_NAMED) return beyond(c, "properties in one object", MAX_NAMED);
    bool others = true;
    rx roots[MAX_PATTERNS + 1], name_rule = regex_any_text(c->x);
    for (size_t i = 0; i < m->n_groups; i++) {
        others &= m->groups[i].others != SX_FALSE || m->groups[i].n_patterns > 0;
        for (size_t p = 0; p < m->groups[i].n_patterns; p++) {
            if (n_patterns == MAX_PATTERNS)
                return beyond(c, "patterns in one object's patternProperties", MAX_PATTERNS);
            roots[++n_patterns] = m->groups[i].patterns[p].pattern;
        }
    }
    for (size_t i = 0; i < m->n_names; i++)
        name_rule = regex_and2(c->x, name_rule, schema_keys_rx(c, m->names[i]));
    if (name_rule < 0) return false;
    roots[0] = name_rule;
    for (size_t i = 0; i < n && m->n_names; i++)
        bad[i] = !regex_is_match(c->x, name_rule, names[i]);

    if (m->n_some > OBJ_MAX_SOME || n_patterns + m->n_some > MAX_PATTERNS)
        return schema_unsupported(c, c->o.param ? c->o.param : "", "not",
                                  "an object has to hold too many kinds of properties at once");

    for (size_t i = 0; i < m->n_some; i++) roots[1 + n_patterns + i] = m->some[i].keys;

    if (!builder_grow(b, &b->objs, &b->cap_objs, b->n_objs + 1, sizeof *b->objs)) return false;
    size_t cap_slots = n + 1024;
    key_labels k = {.c = c,
                    .m = m,
                    .n_named = n,
                    .cap_slots = cap_slots,
                    .has_others = others,
                    .name_is_bad = bad,
                    .cap_choices = m->n_some ? cap_slots * 8 : cap_slots,
                    .first = calloc(cap_slots + 1, sizeof *k.first),
                    .known = calloc(cap_slots, sizeof *k.known)};
    k.choices = calloc(k.cap_choices, sizeof *k.choices);
    obj_shape o = {.n_named = (uint32_t)n,
                   .n_words = (uint32_t)((n + m->n_some + 63) / 64),
                   .n_required = (uint32_t)m->n_required,
                   .min = m->min,
                   .max = m->max,
                   .is_ordered = m->n_some == 0 && m->min <= m->n_required &&
                                 (!c->o.lenient || m->n_required == n),
                   .first = k.first,
                   .choices = k.choices};
    o.required = calloc(o.n_words + 1, sizeof *o.required);
    bool ok = k.first && k.choices && k.known && o.required;
    for (size_t i = 0; i < m->n_some && ok; i++, o.n_some++)
        ok = (o.some[i].names = calloc(o.n_words, sizeof(uint64_t))) != NULL;
    for (size_t i = 0; i < n && ok; i++) {
        uint64_t somes = 0;
        for (size_t p = 0; p < m->n_some; p++)
            if (regex_is_match(c->x, m->some[p].keys, names[i])) somes |= 1ull << p;
        ok = add_slot(&k, what[i], somes);
    }
    for (size_t i = 0; i < m->n_required && ok; i++) {
        size_t at = find_name(&listed, m->required[i]);
        o.required[at >> 6] |= 1ull << (at & 63);
    }
    for (size_t i = n; i < n + m->n_some && ok; i++) o.required[i >> 6] |= 1ull << (i & 63);
    dfa *d = NULL;
    if (ok)
        d = dfa_new(c->x, names, n, roots, others ? 1 + n_patterns + m->n_some : 0, label_key, &k,
                    &b->err);
    if (k.failed) {
        dfa_free(d);
        d = NULL;
    }
    int32_t at = builder_add_dfa(b, d);
    free(k.known);
    o.n_slots = (uint32_t)k.n_slots;
    if (at < 0) {
        free(o.first);
        free(o.choices);
        free(o.required);
        for (uint32_t i = 0; i < o.n_some; i++) free(o.some[i].names);
        return schema_failed(c) ? false
                                : beyond(c, "kinds of properties in one object", (int)cap_slots);
    }
    o.dfa = (uint32_t)at;
    for (size_t i = 0; i < k.n_choices; i++)
        builder_mix(b, (uint64_t)k.choices[i].node << 32 | k.choices[i].hits);
    for (uint32_t w = 0; w < o.n_words; w++) builder_mix(b, o.required[w]);
    builder_mix(b, (uint64_t)o.min << 32 | o.max);
    builder_mix(b, o.is_ordered);
    b->objs[b->n_objs++] = o;
    return true;
}

static bool emit_maps(schema_ctx *c, const typed *t, jnode *j) {
    j->obj = (uint32_t)c->b->n_objs;
    for (size_t i = 0; i < t->maps.n; i++)
        if (!emit_map(c, &t->maps.v[i])) return false;
    j->n_obj = (uint32_t)c->b->n_objs - j->obj;
    return true;
}

/* ── What is possible ── */

static uint32_t height_of(const grammar_builder *b, uint32_t node) {
    return b->jnodes[node].height;
}

/* Can as many items be hits of each `contains` as it wants, and as few as it allows? Looks at one of
 * them at a time. */
static bool hits_are_possible(const grammar_builder *b, const arr_shape *a) {
    for (uint32_t w = 0; w < a->n_contains; w++) {
        uint64_t n_can = 0, n_must = 0;
        for (uint32_t i = 0; i <= a->n_prefix && i < a->max; i++) {
            bool can = false, must = true;
            for (uint32_t k = a->first[i]; k < a->first[i + 1]; k++) {
                if (height_of(b, a->choices[k].node) == UINT16_MAX) continue;
                bool hit = a->choices[k].hits >> w & 1;
                can |= hit;
                must &= hit;
            }
            bool last = i == a->n_prefix; /* stands for all that follow, too */
            if (can) n_can += last ? a->max - i : 1;
            if (must && i < a->min) n_must += last ? a->min - i : 1;
        }
        if (n_can < a->min_hits[w] || n_must > a->max_hits[w]) return false;
    }
    return true;
}

static uint32_t list_height(const grammar_builder *b, const arr_shape *a) {
    uint32_t highest = 0, need = a->min;
    if (a->max < a->min || !hits_are_possible(b, a)) return UINT16_MAX;
    /* Items that must be hits may stand anywhere: the cheapest possible one. */
    uint32_t hit[ARR_MAX_CONTAINS];
    for (uint32_t w = 0; w < a->n_contains; w++) {
        hit[w] = UINT16_MAX;
        if (a->min_hits[w] > a->max || a->min_hits[w] > a->max_hits[w]) return UINT16_MAX;
    }
    for (uint32_t i = 0; i <= a->n_prefix; i++) {
        uint32_t least = UINT16_MAX;
        if (i >= a->max) break;
        for (uint32_t k = a->first[i]; k < a->first[i + 1]; k++) {
            uint32_t h = height_of(b, a->choices[k].node);
            if (h < least) least = h;
            for (uint32_t w = 0; w < a->n_contains; w++)
                if (a->choices[k].hits >> w & 1 && h < hit[w]) hit[w] = h;
        }
        if (i < need) {
            if (least == UINT16_MAX) return UINT16_MAX;
            if (least > highest) highest = least;
        }
    }
    for (uint32_t w = 0; w < a->n_contains; w++) {
        if (!a->min_hits[w]) continue;
        if (hit[w] == UINT16_MAX) return UINT16_MAX;
        if (hit[w] > highest) highest = hit[w];
    }
    return highest + 1;
}

static uint32_t map_height(const grammar_builder *b, const obj_shape *o) {
    uint32_t highest = 0, n_possible = 0;
    bool others = o->n_slots > o->n_named;
    for (uint32_t i = 0; i < o->n_named; i++) {
        uint32_t h = height_of(b, o->choices[o->first[i]].node);
        n_possible += h != UINT16_MAX;
        if (!(o->required[i >> 6] >> (i & 63) & 1)) continue;
        if (h == UINT16_MAX) return UINT16_MAX;
        if (h > highest) highest = h;
    }
    if (o->n_required > o->max) return UINT16_MAX;
    for (uint32_t w = 0; w < o->n_some; w++) {
        uint32_t least = UINT16_MAX;
        for (uint32_t k = 0; k < o->first[o->n_slots]; k++)
            if (o->choices[k].hits >> w & 1 && height_of(b, o->choices[k].node) < least)
                least = height_of(b, o->choices[k].node);
        if (least == UINT16_MAX) return UINT16_MAX;
        if (least > highest) highest = least;
    }
    if (o->min > o->n_required) { /* some more: the cheapest there are, which may be any */
        uint32_t least = UINT16_MAX;
        bool some_other = false;
        for (uint32_t i = 0; i < o->n_slots; i++) {
            uint32_t h = height_of(b, o->choices[o->first[i]].node);
            some_other |= i >= o->n_named && h != UINT16_MAX;
            if (h < least) least = h;
        }
        if (least == UINT16_MAX || (n_possible < o->min && !(others && some_other)))
            return UINT16_MAX;
        if (least > highest) highest = least;
    }
    return highest + 1;
}

static bool settle_heights(grammar_builder *b, int32_t from) {
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t i = from; i < b->n_jnodes; i++) {
            jnode *j = &b->jnodes[i];
            uint32_t h = j->lits || j->n_str || j->n_num ? 0 : UINT16_MAX;
            for (uint32_t k = 0; k < j->n_arr && h; k++) {
                uint32_t a = list_height(b, &b->arrs[j->arr + k]);
                if (a < h) h = a;
            }
            for (uint32_t k = 0; k < j->n_obj && h; k++) {
                uint32_t a = map_height(b, &b->objs[j->obj + k]);
                if (a < h) h = a;
            }
            if (h < j->height) j->height = (uint16_t)h, changed = true;
        }
    }
    return true;
}

static void drop_impossible_items(const grammar_builder *b, arr_shape *a) {
    uint32_t n = 0, from = 0;
    for (uint32_t i = 0; i <= a->n_prefix; i++) {
        uint32_t end = a->first[i + 1], begin = n;
        for (uint32_t k = from; k < end; k++)
            if (height_of(b, a->choices[k].node) != UINT16_MAX) a->choices[n++] = a->choices[k];
        a->first[i] = begin;
        if (begin == n && i < a->max) a->max = i;
        from = end;
    }
    a->first[a->n_prefix + 1] = n;
}

/* Names under which nothing fits may not occur; then who can reach what is counted. */
static bool finish_map(schema_ctx *c, obj_shape *o) {
    grammar_builder *b = c->b;
    dfa *d = b->dfas[o->dfa];
    for (uint32_t s = 0; s < d->n_states; s++)
        if (d->label[s] >= 0 && height_of(b, o->choices[o->first[d->label[s]]].node) == UINT16_MAX)
            d->label[s] = -1;
    if (!dfa_trim(d)) return out_of_memory(c);
    for (uint32_t w = 0; w < o->n_some; w++) {
        o->some[w].others = false;
        memset(o->some[w].names, 0, o->n_words * sizeof(uint64_t));
        for (uint32_t i = 0; i < o->n_slots; i++)
            for (uint32_t k = o->first[i]; k < o->first[i + 1]; k++) {
                obj_choice *choice = &o->choices[k];
                if (height_of(b, choice->node) == UINT16_MAX) choice->hits = UINT32_MAX; /* never */
                if (choice->hits == UINT32_MAX || !(choice->hits >> w & 1)) continue;
                if (i < o->n_named)
                    o->some[w].names[i >> 6] |= 1ull << (i & 63);
                else
                    o->some[w].others = true;
            }
    }
    free(o->reach);
    free(o->n_others);
    o->has_others = false;
    o->reach = calloc((size_t)d->n_states * o->n_words + 1, sizeof *o->reach);
    o->n_others = calloc(d->n_states + 1, sizeof *o->n_others);
    if (!o->reach || !o->n_others) return out_of_memory(c);
    /* Names are a trie: their states come before what they lead to only by chance, so to a fixed
     * point, downwards. */
    for (uint32_t s = 0; s < d->n_states; s++) {
        if (d->label[s] < 0) continue;
        uint64_t *row = o->reach + (size_t)s * o->n_words;
        uint32_t label = (uint32_t)d->label[s];
        if (label < o->n_named) row[label >> 6] |= 1ull << (label & 63);
        for (uint32_t k = o->first[label]; k < o->first[label + 1]; k++)
            for (uint32_t w = 0; w < o->n_some && o->choices[k].hits != UINT32_MAX; w++)
                if (o->choices[k].hits >> w & 1)
                    row[(o->n_named + w) >> 6] |= 1ull << ((o->n_named + w) & 63);
    }
    for (bool changed = o->n_words > 0; changed;) {
        changed = false;
        for (uint32_t s = d->n_states; s-- > 0;) {
            uint64_t *row = o->reach + (size_t)s * o->n_words;
            for (uint32_t k = 0; k < d->n_classes; k++) {
                uint32_t t = d->next[(size_t)s * d->n_classes + k];
                if (t == DFA_DEAD) continue;
                for (uint32_t w = 0; w < o->n_words; w++) {
                    uint64_t more = o->reach[(size_t)t * o->n_words + w] & ~row[w];
                    row[w] |= more;
                    changed |= more != 0;
                }
            }
        }
    }
    free(o->classes);
    o->classes = NULL;
    if (o->n_some > 1 && o->max != UINT32_MAX) {
        if (o->n_slots - o->n_named > 64)
            return beyond(c, "kinds of properties beside maxProperties", 64);
        o->classes = calloc(d->n_states + 1, sizeof *o->classes);
        if (!o->classes) return out_of_memory(c);
        for (bool changed = true; changed;) {
            changed = false;
            for (uint32_t s = d->n_states; s-- > 0;) {
                uint64_t all = o->classes[s];
                if (d->label[s] >= (int32_t)o->n_named)
                    all |= 1ull << ((uint32_t)d->label[s] - o->n_named);
                for (uint32_t k = 0; k < d->n_classes; k++) {
                    uint32_t t = d->next[(size_t)s * d->n_classes + k];
                    if (t != DFA_DEAD) all |= o->classes[t];
                }
                changed |= all != o->classes[s];
                o->classes[s] = all;
            }
        }
    }
    /* Other keys: all texts less the named ones. */
    for (uint32_t s = 0; s < d->n_states; s++) {
        uint32_t named = 0;
        for (uint32_t i = 0; i < o->n_named; i++)
            named += o->reach[(size_t)s * o->n_words + (i >> 6)] >> (i & 63) & 1;
        o->n_others[s] = d->n_left[s] == UINT32_MAX ? UINT32_MAX : d->n_left[s] - named;
        o->has_others |= o->n_others[s] > 0;
    }
    return true;
}

/* More properties wanted than there are names for, or one whose name may not be. */
static bool map_is_short(const grammar_builder *b, const obj_shape *o) {
    const dfa *d = b->dfas[o->dfa];
    for (uint32_t w = 0; w < o->n_words; w++)
        if (o->required[w] & ~(d->n_states ? o->reach[w] : 0)) return true;
    return o->min > 0 && (!d->n_states || (d->n_left[0] != UINT32_MAX && d->n_left[0] < o->min));
}

static bool finish_list(schema_ctx *c, arr_shape *a) {
    grammar_builder *b = c->b;
    drop_impossible_items(b, a);
    if (!a->is_unique || a->max < 2) {
        a->is_unique = false;
        return true;
    }
    /* Equal items can be foreseen where all of them are strings of one automaton. */
    const jnode *first = NULL;
    bool alike = true;
    for (uint32_t k = 0; k < a->first[a->n_prefix + 1]; k++) {
        const jnode *j = &b->jnodes[a->choices[k].node];
        if (!first) first = j;
        alike &= !j->lits && !j->n_num && !j->n_arr && !j->n_obj && j->n_str == 1 &&
                 j->str == first->str && !b->strs[j->str].counts;
    }
    if (first && alike && !a->n_contains) {
        a->unique_dfa = b->strs[first->str].dfa;
        uint32_t n = b->dfas[a->unique_dfa]->n_left[0];
        if (n != UINT32_MAX && a->max > n) a->max = n;
        return true;
    }
    a->is_unique = false;
    return schema_unsupported(c, c->o.param ? c->o.param : "", "uniqueItems",
                              "equal items can be foreseen among strings only");
}

/* Shapes that turned out impossible leave their jnode's range. True: a jnode lost all it had. */
static bool drop_impossible_shapes(grammar_builder *b, int32_t jnodes) {
    bool lost = false;
    for (int32_t i = jnodes; i < b->n_jnodes; i++) {
        jnode *j = &b->jnodes[i];
        uint32_t n = 0;
        for (uint32_t k = 0; k < j->n_arr; k++) {
            arr_shape t = b->arrs[j->arr + k];
            if (t.height == UINT16_MAX) continue;
            b->arrs[j->arr + k] = b->arrs[j->arr + n];
            b->arrs[j->arr + n++] = t;
        }
        j->n_arr = n;
        n = 0;
        for (uint32_t k = 0; k < j->n_obj; k++) {
            obj_shape t = b->objs[j->obj + k];
            if (t.height == UINT16_MAX) continue;
            b->objs[j->obj + k] = b->objs[j->obj + n];
            b->objs[j->obj + n++] = t;
        }
        j->n_obj = n;
        bool any = j->lits || j->n_str || j->n_num || j->n_arr || j->n_obj;
        lost |= !any && j->height != UINT16_MAX;
    }
    return lost;
}

static bool finish(schema_ctx *c, int32_t jnodes, int32_t arrs, int32_t objs) {
    grammar_builder *b = c->b;
    do {
        for (int32_t i = jnodes; i < b->n_jnodes; i++) b->jnodes[i].height = UINT16_MAX;
        settle_heights(b, jnodes);
        for (int32_t i = arrs; i < b->n_arrs; i++)
            if (!finish_list(c, &b->arrs[i])) return false;
        for (int32_t i = objs; i < b->n_objs; i++)
            if (!finish_map(c, &b->objs[i])) return false;
        for (int32_t i = arrs; i < b->n_arrs; i++) {
            uint32_t h = list_height(b, &b->arrs[i]);
            b->arrs[i].height = (uint16_t)(h > UINT16_MAX ? UINT16_MAX : h);
        }
        for (int32_t i = objs; i < b->n_objs; i++) {
            uint32_t h = map_height(b, &b->objs[i]);
            if (map_is_short(b, &b->objs[i]) || h > UINT16_MAX) h = UINT16_MAX;
            b->objs[i].height = (uint16_t)h;
        }
    } while (drop_impossible_shapes(b, jnodes));
    return true;
}

/* Where in the schema an expression comes from: the first piece of it that was written; NULL: none. */
static const sx_node *find_written(const schema_ctx *c, sx a, int depth) {
    const sx_node *n = &c->nodes[a], *found = NULL;
    if (n->op == SXO_RAW) return n;
    if (n->op == SXO_NOT && depth < 50) return find_written(c, n->a, depth + 1);
    if ((n->op == SXO_AND || n->op == SXO_OR) && depth < 50)
        for (int32_t i = 0; i < n->b && !found; i++)
            found = find_written(c, c->kids[n->a + i], depth + 1);
    return found;
}

/* A limit of automata says nothing of the schema: which keyword it was is added here. */
static void name_keyword(schema_ctx *c, sx a) {
    static const char *const KEYWORDS[] = {"pattern", "format", "patternProperties",
                                           "propertyNames"};
    error *err = &c->b->err;
    const sx_node *n = find_written(c, a, 0);
    if (!error_is_set(err) && regexes_failure(c->x))
        builder_fail(c->b, ERR_UNSUPPORTED_VALUE, NULL, "%s", regexes_failure(c->x));
    if (!error_is_set(err) || err->param[0]) return;
    const char *path = n && n->path ? n->path : c->o.param ? c->o.param : "", *keyword = "";
    for (size_t i = 0; n && !*keyword && i < sizeof KEYWORDS / sizeof *KEYWORDS; i++)
        if (json_object_get(n->json, KEYWORDS[i])) keyword = KEYWORDS[i];
    snprintf(err->param, sizeof err->param, "%s%s%s", path, *path && *keyword ? "." : "", keyword);
}

int32_t schema_emit(schema_ctx *c, sx root) {
    grammar_builder *b = c->b;
    int32_t jnodes = b->n_jnodes, arrs = b->n_arrs, objs = b->n_objs;
    int32_t result = jnode_of(c, root);
    for (int32_t i = 0; i < c->n_work && !schema_failed(c); i++) {
        sx a = c->work[i];
        typed *t = schema_lower(c, a);
        if (!t) {
            name_keyword(c, a);
            break;
        }
        jnode j = {.lits = t->lits, .height = UINT16_MAX};
        if (!emit_texts(c, t, &j) || !emit_numbers(c, t, &j) || !emit_lists(c, t, &j) ||
            !emit_maps(c, t, &j)) {
            name_keyword(c, a);
            break;
        }
        b->jnodes[c->nodes[a].jnode] = j;
        builder_mix(b, (uint64_t)c->nodes[a].jnode << 8 | j.lits);
    }
    if (schema_failed(c) || result < 0 || !finish(c, jnodes, arrs, objs)) return -1;
    if (b->jnodes[result].height == UINT16_MAX)
        builder_fail(b, c->o.code ? c->o.code : ERR_INVALID_VALUE, c->o.param,
                     "Invalid schema: no value can ever satisfy it.");
    return schema_failed(c) ? -1 : result;
}
