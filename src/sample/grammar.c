/* Builders and the life of a compiled grammar. */
#include "sample/grammar_left.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"

/* ── Life ── */

grammar *grammar_ref(const grammar *g) {
    grammar *w = (grammar *)g;
    if (w) atomic_fetch_add_explicit(&w->n_refs, 1, memory_order_relaxed);
    return w;
}

static void arr_deinit(arr_shape *a) {
    free(a->first);
    free(a->choices);
}
static void obj_deinit(obj_shape *o) {
    free(o->first);
    free(o->classes);
    free(o->choices);
    for (uint32_t k = 0; k < o->n_some; k++) free(o->some[k].names);
    free(o->required);
    free(o->reach);
    free(o->lengths);
    free(o->n_others);
}

void grammar_unref(const grammar *g) {
    grammar *w = (grammar *)g;
    if (!w || atomic_fetch_sub(&w->n_refs, 1) != 1) return;
    for (size_t i = 0; i < w->n_dfas; i++) dfa_free(w->dfas[i]);
    for (size_t i = 0; i < w->n_nums; i++) num_deinit(&w->nums[i]);
    for (size_t i = 0; i < w->n_strs; i++) free(w->strs[i].lengths);
    for (size_t i = 0; i < w->n_arrs; i++) arr_deinit(&w->arrs[i]);
    for (size_t i = 0; i < w->n_objs; i++) obj_deinit(&w->objs[i]);
    free(w->nodes);
    free(w->kids);
    free(w->text);
    free(w->sets);
    free(w->dfas);
    free(w->jnodes);
    free(w->strs);
    free(w->nums);
    free(w->arrs);
    free(w->objs);
    free(w);
}

uint64_t grammar_hash(const grammar *g) {
    return g->hash;
}

/* ── Builder ── */

bool builder_fail(grammar_builder *b, error_code code, const char *param, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    error_vset(&b->err, code, param, fmt, ap);
    va_end(ap);
    return false;
}

bool builder_grow(grammar_builder *b, void *array, int32_t *cap, int64_t need, size_t size) {
    if (need <= *cap) return true;
    int64_t to = *cap ? *cap : 32;
    while (to < need) to *= 2;
    void *p = to < INT32_MAX ? realloc(*(void **)array, (size_t)to * size) : NULL;
    if (!p)
        return builder_fail(b, ERR_NO_MEMORY, NULL, "There is not enough memory for a grammar.");
    *(void **)array = p;
    *cap = (int32_t)to;
    return true;
}

void builder_mix(grammar_builder *b, uint64_t h) {
    b->hash = hash_combine(b->hash, h);
}

grammar_builder *grammar_builder_new(void) {
    grammar_builder *b = calloc(1, sizeof *b);
    if (!b) return NULL;
    if (!(b->x = regexes_new())) {
        free(b);
        return NULL;
    }
    builder_add_dfa(b, dfa_new_single(b->x, regex_any_text(b->x), &b->err));
    return b;
}

void grammar_builder_free(grammar_builder *b) {
    if (!b) return;
    regexes_free(b->x);
    for (int32_t i = 0; i < b->n_dfas; i++) dfa_free(b->dfas[i]);
    for (int32_t i = 0; i < b->n_nums; i++) num_deinit(&b->nums[i]);
    for (int32_t i = 0; i < b->n_strs; i++) free(b->strs[i].lengths);
    for (int32_t i = 0; i < b->n_arrs; i++) arr_deinit(&b->arrs[i]);
    for (int32_t i = 0; i < b->n_objs; i++) obj_deinit(&b->objs[i]);
    free(b->nodes);
    free(b->kids);
    buf_deinit(&b->text);
    free(b->sets);
    free(b->dfas);
    free(b->jnodes);
    free(b->strs);
    free(b->nums);
    free(b->arrs);
    free(b->objs);
    free(b);
}

bool grammar_builder_failed(const grammar_builder *b) {
    return !b || error_is_set(&b->err);
}

grammar_node builder_add(grammar_builder *b, gnode n) {
    if (grammar_builder_failed(b)) return -1;
    if (b->is_spent) return builder_fail(b, ERR_INTERNAL, NULL, "A builder was used twice.") - 1;
    if (b->n_nodes >= GRAMMAR_MAX_NODES)
        return builder_fail(b, ERR_UNSUPPORTED_VALUE, NULL,
                            "The grammar has more than %d nodes (GRAMMAR_MAX_NODES).",
                            GRAMMAR_MAX_NODES) -
               1;
    if (!builder_grow(b, &b->nodes, &b->cap_nodes, b->n_nodes + 1, sizeof *b->nodes)) return -1;
    builder_mix(b, hash_combine((uint64_t)n.op << 32 | (uint32_t)n.a,
                                hash_combine((uint32_t)n.b,
                                             (uint64_t)(uint32_t)n.min << 32 | (uint32_t)n.max)));
    b->nodes[b->n_nodes] = n;
    return b->n_nodes++;
}

static bool is_node(grammar_builder *b, grammar_node n) {
    if (grammar_builder_failed(b)) return false;
    return (n >= 0 && n < b->n_nodes) ||
           builder_fail(b, ERR_INTERNAL, NULL, "A grammar node is out of range.");
}

grammar_node grammar_bytes(grammar_builder *b, str literal) {
    if (grammar_builder_failed(b)) return -1;
    if (!literal.len) return builder_add(b, (gnode){.op = G_EPS});
    int32_t at = (int32_t)b->text.len;
    if (b->text.len + literal.len > GRAMMAR_MAX_SOURCE * 4ul)
        return builder_fail(b, ERR_UNSUPPORTED_VALUE, NULL,
                            "The grammar's literals are too long.") -
               1;
    buf_append_str(&b->text, literal);
    if (b->text.failed) return builder_fail(b, ERR_NO_MEMORY, NULL, "There is no memory.") - 1;
    builder_mix(b, hash_str(literal));
    return builder_add(b, (gnode){.op = G_LIT, .a = at, .b = (int32_t)literal.len});
}

grammar_node grammar_set(grammar_builder *b, const uint64_t set[4]) {
    if (grammar_builder_failed(b)) return -1;
    if (!(set[0] | set[1] | set[2] | set[3])) return builder_add(b, (gnode){.op = G_FAIL});
    if (!builder_grow(b, &b->sets, &b->cap_sets, b->n_sets + 1, sizeof *b->sets)) return -1;
    memcpy(b->sets[b->n_sets], set, sizeof *b->sets);
    builder_mix(b, hash_bytes(set, sizeof *b->sets, 1));
    return builder_add(b, (gnode){.op = G_SET, .a = b->n_sets++});
}

grammar_node grammar_token(grammar_builder *b, int32_t id) {
    if (grammar_builder_failed(b)) return -1;
    if (id < 0) return builder_fail(b, ERR_INTERNAL, NULL, "The vocabulary has no such token.") - 1;
    return builder_add(b, (gnode){.op = G_TOKEN, .a = id});
}

static grammar_node add_list(grammar_builder *b, gop op, const grammar_node *items, size_t n) {
    if (grammar_builder_failed(b)) return -1;
    for (size_t i = 0; i < n; i++)
        if (!is_node(b, items[i])) return -1;
    if (n == 1) return items[0];
    if (n == 0) return builder_add(b, (gnode){.op = op == G_SEQ ? G_EPS : G_FAIL});
    if (n > GRAMMAR_MAX_NODES ||
        !builder_grow(b, &b->kids, &b->cap_kids, (int64_t)b->n_kids + (int64_t)n, sizeof *b->kids))
        return builder_fail(b, ERR_UNSUPPORTED_VALUE, NULL, "A grammar's list is too long.") - 1;
    memcpy(b->kids + b->n_kids, items, n * sizeof *items);
    builder_mix(b, hash_bytes(items, n * sizeof *items, op));
    b->n_kids += (int32_t)n;
    return builder_add(b, (gnode){.op = op, .a = b->n_kids - (int32_t)n, .b = (int32_t)n});
}

grammar_node grammar_seq(grammar_builder *b, const grammar_node *items, size_t n) {
    return add_list(b, G_SEQ, items, n);
}
grammar_node grammar_alt(grammar_builder *b, const grammar_node *items, size_t n) {
    return add_list(b, G_ALT, items, n);
}

grammar_node grammar_repeat(grammar_builder *b, grammar_node item, int32_t min, int32_t max) {
    if (!is_node(b, item)) return -1;
    if (min < 0 || (max >= 0 && max < min))
        return builder_fail(b, ERR_INVALID_VALUE, NULL, "A repetition of %d to %d is impossible.",
                            min, max) -
               1;
    if (min > GRAMMAR_MAX_REPEAT || max > GRAMMAR_MAX_REPEAT)
        return builder_fail(b, ERR_UNSUPPORTED_VALUE, NULL,
                            "A repetition goes beyond %d (GRAMMAR_MAX_REPEAT).",
                            GRAMMAR_MAX_REPEAT) -
               1;
    if (max == 0) return builder_add(b, (gnode){.op = G_EPS});
    if (min == 1 && max == 1) return item;
    return builder_add(b, (gnode){.op = G_REP, .a = item, .min = min, .max = max});
}

int32_t builder_add_dfa(grammar_builder *b, dfa *d) {
    if (!d || grammar_builder_failed(b) ||
        !builder_grow(b, &b->dfas, &b->cap_dfas, b->n_dfas + 1, sizeof *b->dfas)) {
        dfa_free(d);
        return -1;
    }
    builder_mix(b, hash_bytes(d->next, (size_t)d->n_states * d->n_classes * sizeof *d->next,
                              hash_bytes(d->class_of, 256, 0)));
    builder_mix(b, hash_bytes(d->label, d->n_states * sizeof *d->label, 0));
    b->dfas[b->n_dfas] = d;
    return b->n_dfas++;
}

grammar_node builder_regex(grammar_builder *b, rx r) {
    if (grammar_builder_failed(b)) return -1;
    if (r == RX_NONE) return builder_add(b, (gnode){.op = G_FAIL});
    if (r == RX_EPS) return builder_add(b, (gnode){.op = G_EPS});
    dfa *d = dfa_new_single(b->x, r, &b->err);
    if (d && d->n_states == 0) {
        dfa_free(d);
        return builder_add(b, (gnode){.op = G_FAIL});
    }
    int32_t at = builder_add_dfa(b, d);
    return at < 0 ? -1 : builder_add(b, (gnode){.op = G_DFA, .a = at});
}

static void name_param(grammar_builder *b, const char *param) {
    if (param && error_is_set(&b->err) && !b->err.param[0])
        snprintf(b->err.param, sizeof b->err.param, "%s", param);
}

grammar_node grammar_regex(grammar_builder *b, str pattern, const char *param) {
    if (grammar_builder_failed(b)) return -1;
    rx r = regex_parse(b->x, pattern, (regex_syntax){0}, &b->err);
    grammar_node n = r < 0 ? -1 : builder_regex(b, r);
    name_param(b, param);
    return n;
}

grammar_node grammar_text(grammar_builder *b, const str *markers, size_t n) {
    if (grammar_builder_failed(b)) return -1;
    if (n == 0) return builder_add(b, (gnode){.op = G_DFA, .a = 0});
    rx all = regex_any_text(b->x);
    for (size_t i = 0; i < n; i++) {
        rx has = regex_cat(b->x, RX_ALL, regex_cat(b->x, regex_literal(b->x, markers[i]), RX_ALL));
        all = regex_and2(b->x, all, regex_not(b->x, has));
    }
    if (all < 0)
        return builder_fail(b, ERR_UNSUPPORTED_VALUE, NULL, "%s", regexes_failure(b->x)) - 1;
    return builder_regex(b, all);
}

grammar_node grammar_declare(grammar_builder *b) {
    return builder_add(b, (gnode){.op = G_CALL, .a = -1});
}

void grammar_define(grammar_builder *b, grammar_node declared, grammar_node body) {
    if (!is_node(b, declared) || !is_node(b, body)) return;
    gnode *n = &b->nodes[declared];
    if (n->op != G_CALL || n->a >= 0) {
        builder_fail(b, ERR_INTERNAL, NULL, "A grammar rule is defined twice.");
        return;
    }
    n->a = body;
    builder_mix(b, hash_combine((uint64_t)declared, (uint64_t)body));
}

grammar_node grammar_schema(grammar_builder *b, json_t *schema, const grammar_schema_options *o) {
    if (grammar_builder_failed(b)) return -1;
    int32_t j = schema_compile(b, schema, o);
    return j < 0 ? -1 : builder_add(b, (gnode){.op = G_JSON, .a = j});
}

grammar_node grammar_json_object(grammar_builder *b) {
    if (grammar_builder_failed(b)) return -1;
    grammar_schema_options o = {.must_be_object = true};
    return grammar_schema(b, json_true(), &o);
}
grammar_node grammar_json_value(grammar_builder *b) {
    return grammar_schema(b, json_true(), NULL);
}

/* ── Analysis ── */

/* The alternatives of a body, nested ALTs opened, into out; −1 when there are too many. */
static int32_t list_alternatives(const grammar_builder *b, int32_t n, int32_t *out, int32_t have,
                                 int depth) {
    if (b->nodes[n].op == G_ALT && depth < 50) {
        for (int32_t i = 0; i < b->nodes[n].b && have >= 0; i++)
            have = list_alternatives(b, b->kids[b->nodes[n].a + i], out, have, depth + 1);
        return have;
    }
    if (have < 0 || have >= GRAMMAR_MAX_ALTERNATIVES) return -1;
    out[have] = n;
    return have + 1;
}

/* n, a last `rule` in it replaced by `by`. */
static int32_t end_otherwise(grammar_builder *b, int32_t n, int32_t rule, int32_t by) {
    enum { MAX = 64 };
    if (!is_node(b, n)) return n;
    const gnode *a = &b->nodes[n];
    int32_t kids[MAX];
    if (n == rule) return by;
    if (a->op != G_SEQ || a->b > MAX || b->kids[a->a + a->b - 1] != rule) return n;
    size_t n_kids = (size_t)a->b;
    memcpy(kids, b->kids + a->a, n_kids * sizeof *kids);
    kids[n_kids - 1] = by;
    return grammar_seq(b, kids, n_kids);
}

/* A: A x | y  becomes  A: B x*, B: y. Where an x or a y ends with A, it may end with B as well, for the x*
 * that would have followed follow it anyway: A: A "+" A | "-" A | "1" becomes A: B ("+" B)*, B: "-" B | "1".
 * Else "1+1+1+…" could be read in more and more ways at once. */
static void remove_left_recursion(grammar_builder *b, int32_t rule) {
    enum { MAX = GRAMMAR_MAX_ALTERNATIVES };
    int32_t *alts = malloc((size_t)MAX * 3 * sizeof *alts), *tails = alts + MAX,
            *heads = tails + MAX;
    if (!alts) {
        builder_fail(b, ERR_NO_MEMORY, NULL, "There is not enough memory for a grammar.");
        return;
    }
    int32_t n = list_alternatives(b, b->nodes[rule].a, alts, 0, 0);
    size_t n_tails = 0, n_heads = 0;
    for (int32_t i = 0; i < n; i++) {
        gnode a = b->nodes[alts[i]];
        if (alts[i] == rule) continue; /* A: A says nothing */
        if (a.op == G_SEQ && b->kids[a.a] == rule) {
            int32_t rest[64];
            if (a.b - 1 > 64) break;
            memcpy(rest, b->kids + a.a + 1, (size_t)(a.b - 1) * sizeof *rest);
            tails[n_tails++] = grammar_seq(b, rest, (size_t)a.b - 1);
        } else
            heads[n_heads++] = alts[i];
    }
    if (n_tails) {
        int32_t head = grammar_declare(b);
        for (size_t i = 0; i < n_heads; i++) heads[i] = end_otherwise(b, heads[i], rule, head);
        for (size_t i = 0; i < n_tails; i++) tails[i] = end_otherwise(b, tails[i], rule, head);
        grammar_define(b, head, grammar_alt(b, heads, n_heads));
        int32_t more = grammar_repeat(b, grammar_alt(b, tails, n_tails), 0, -1);
        int32_t body = grammar_seq(b, (int32_t[]){head, more}, 2);
        if (body >= 0) b->nodes[rule].a = body;
    }
    free(alts);
}

static bool value_is_possible(const grammar_builder *b, int32_t j) {
    return b->jnodes[j].height != UINT16_MAX;
}

/* nullable and productive, to their fixed point. */
static void settle_nodes(grammar_builder *b) {
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t i = 0; i < b->n_nodes; i++) {
            gnode *n = &b->nodes[i];
            bool empty = false, possible = true;
            switch (n->op) {
            case G_FAIL: possible = false; break;
            case G_EPS: empty = true; break;
            case G_DFA: empty = b->dfas[n->a]->label[0] >= 0; break;
            case G_JSON: possible = value_is_possible(b, n->a); break;
            case G_CALL:
                empty = b->nodes[n->a].nullable, possible = b->nodes[n->a].productive;
                break;
            case G_REP:
                empty = n->min == 0 || b->nodes[n->a].nullable;
                possible = n->min == 0 || b->nodes[n->a].productive;
                break;
            case G_SEQ:
                empty = true;
                for (int32_t k = 0; k < n->b; k++) {
                    empty &= b->nodes[b->kids[n->a + k]].nullable;
                    possible &= b->nodes[b->kids[n->a + k]].productive;
                }
                break;
            case G_ALT:
                possible = false;
                for (int32_t k = 0; k < n->b; k++) {
                    empty |= b->nodes[b->kids[n->a + k]].nullable;
                    possible |= b->nodes[b->kids[n->a + k]].productive;
                }
                break;
            default: break;
            }
            if (empty != n->nullable || possible != n->productive) {
                n->nullable = empty;
                n->productive = possible;
                changed = true;
            }
        }
    }
}

/* Whether a node can come back to itself without consuming anything. color: 1 = being visited. */
static bool is_left_recursive(const grammar_builder *b, int32_t n, uint8_t *color, int depth) {
    if (color[n] == 2) return false;
    if (color[n] == 1 || depth > 5000) return true;
    color[n] = 1;
    const gnode *g = &b->nodes[n];
    bool found = false;
    if (g->op == G_CALL || g->op == G_REP) found = is_left_recursive(b, g->a, color, depth + 1);
    if (g->op == G_ALT || g->op == G_SEQ)
        for (int32_t k = 0; k < g->b && !found; k++) {
            found = is_left_recursive(b, b->kids[g->a + k], color, depth + 1);
            if (g->op == G_SEQ && !b->nodes[b->kids[g->a + k]].nullable) break;
        }
    color[n] = 2;
    return found;
}

#define MOVE(member)           \
    do {                       \
        g->member = b->member; \
        b->member = NULL;      \
    } while (0)

grammar *grammar_build(grammar_builder *b, grammar_node root, error *err) {
    if (!b) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for a grammar.");
        return NULL;
    }
    int32_t n_written = b->n_nodes;
    if (is_node(b, root))
        for (int32_t i = 0; i < n_written && !error_is_set(&b->err); i++) {
            if (b->nodes[i].op != G_CALL) continue;
            if (b->nodes[i].a < 0)
                builder_fail(b, ERR_INTERNAL, NULL, "A grammar rule is used and not defined.");
            else
                remove_left_recursion(b, i);
        }
    if (!error_is_set(&b->err)) {
        settle_nodes(b);
        uint8_t *color = calloc((size_t)b->n_nodes + 1, 1);
        if (!color)
            builder_fail(b, ERR_NO_MEMORY, NULL, "There is not enough memory for a grammar.");
        for (int32_t i = 0; i < b->n_nodes && color && !error_is_set(&b->err); i++)
            if (b->nodes[i].op == G_CALL && is_left_recursive(b, i, color, 0))
                builder_fail(b, ERR_UNSUPPORTED_VALUE, NULL,
                             "The grammar is left-recursive by way of several rules or nested too "
                             "deeply; only a rule that begins with itself is understood.");
        free(color);
        if (!b->nodes[root].productive)
            builder_fail(b, ERR_INVALID_VALUE, NULL, "No text can ever match the grammar.");
    }
    grammar *g = error_is_set(&b->err) ? NULL : calloc(1, sizeof *g);
    if (!g) {
        builder_fail(b, ERR_NO_MEMORY, NULL, "There is not enough memory for a grammar.");
        if (err && !error_is_set(err)) *err = b->err;
        return NULL;
    }
    b->is_spent = true;
    atomic_store(&g->n_refs, 1);
    g->hash = hash_combine(b->hash, (uint64_t)root);
    g->root = root;
    g->n_nodes = b->n_nodes;
    g->n_dfas = (size_t)b->n_dfas, b->n_dfas = 0;
    g->n_jnodes = (size_t)b->n_jnodes, b->n_jnodes = 0;
    g->n_strs = (size_t)b->n_strs, b->n_strs = 0;
    g->n_nums = (size_t)b->n_nums, b->n_nums = 0;
    g->n_arrs = (size_t)b->n_arrs, b->n_arrs = 0;
    g->n_objs = (size_t)b->n_objs, b->n_objs = 0;
    MOVE(nodes);
    MOVE(kids);
    MOVE(sets);
    MOVE(dfas);
    MOVE(jnodes);
    MOVE(strs);
    MOVE(nums);
    MOVE(arrs);
    MOVE(objs);
    g->text = buf_take(&b->text, NULL);
    for (size_t i = 0; i < g->n_jnodes; i++)
        if (g->jnodes[i].height != UINT16_MAX && g->jnodes[i].height > g->max_height)
            g->max_height = g->jnodes[i].height;
    if (grammar_left_settle(g)) return g;
    grammar_unref(g);
    error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for a grammar.");
    return NULL;
}

/* ── In one call ── */

static grammar *build_and_free(grammar_builder *b, grammar_node root, error *err) {
    grammar *g = grammar_build(b, root, err);
    grammar_builder_free(b);
    return g;
}

grammar *grammar_from_schema(json_t *schema, const grammar_schema_options *o, error *err) {
    grammar_builder *b = grammar_builder_new();
    return build_and_free(b, grammar_schema(b, schema, o), err);
}
grammar *grammar_from_regex(str pattern, const char *param, error *err) {
    grammar_builder *b = grammar_builder_new();
    return build_and_free(b, grammar_regex(b, pattern, param), err);
}
grammar *grammar_from_gbnf(str source, const char *param, error *err) {
    grammar_builder *b = grammar_builder_new();
    return build_and_free(b, grammar_gbnf(b, source, param), err);
}
grammar *grammar_from_lark(str source, const char *param, error *err) {
    grammar_builder *b = grammar_builder_new();
    return build_and_free(b, grammar_lark(b, source, param), err);
}
