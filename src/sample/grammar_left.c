#include "sample/grammar_left.h"
#include "sample/step_impl.h"

#include <stdlib.h>

static uint32_t capped(uint64_t n) {
    return n < LEFT_FAR ? (uint32_t)n : LEFT_FAR;
}

static uint32_t at_most(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* ── Numbers ── */

/* Bytes of the shortest plain number with this sign, the sign included. */
static uint32_t number_least(const num_shape *n, bool negative) {
    if (n->low[negative] > n->high[negative]) return LEFT_FAR;
    wide v = n->low[negative];
    for (int32_t i = 0; i < n->n_fraction; i++) v /= 10;
    uint32_t digits = 1;
    for (; v > 9; v /= 10) digits++;
    return digits + negative + (n->is_fraction ? 2 : 0);
}

static uint32_t number_left(const num_shape *n, const frame *f) {
    bool negative = f->negative & 1;
    uwide digits = (uwide)f->y << 64 | f->x;
    if (f->phase != N_SIGN && num_is_whole(n, negative, digits, (int32_t)f->n)) return 0;
    uint32_t all = number_least(n, negative), said = f->q + negative + f->n;
    return all > said ? all - said : 1;
}

/* ── Arrays ── */

static uint32_t item_least(const grammar *g, const arr_shape *a, uint32_t i) {
    uint32_t least = LEFT_FAR;
    for (uint32_t k = a->first[i]; k < a->first[i + 1]; k++)
        least = at_most(least, g->jnodes[a->choices[k].node].least);
    return least;
}

static uint32_t hit_least(const grammar *g, const arr_shape *a, uint32_t w) {
    uint32_t least = LEFT_FAR;
    for (uint32_t k = 0; k < a->first[a->n_prefix + 1]; k++)
        if (a->choices[k].hits >> w & 1)
            least = at_most(least, g->jnodes[a->choices[k].node].least);
    return least;
}

/* n items begun, `hits` counted as frames count them; must_go_on: a comma was written. */
static uint32_t array_left(const grammar *g, const arr_shape *a, uint32_t n, uint32_t hits,
                           bool must_go_on) {
    uint32_t items = n < a->min ? a->min - n : must_go_on;
    uint64_t sum = 1;
    for (uint32_t w = 0; w < a->n_contains; w++) {
        uint32_t have = a->n_contains == 1 ? hits : hits >> (8 * w) & 0xFF;
        if (have >= a->min_hits[w]) continue;
        uint32_t more = a->min_hits[w] - have, least = item_least(g, a, a->n_prefix),
                 hit = hit_least(g, a, w);
        if (more > items) items = more;
        if (hit > least) sum += (uint64_t)more * (hit - least);
    }
    uint32_t commas = items - (items && (n == 0 || must_go_on));
    for (; items && n < a->n_prefix; items--) sum += item_least(g, a, n++);
    if (items) sum += (uint64_t)items * item_least(g, a, a->n_prefix);
    return capped(sum + commas);
}

/* ── Objects ── */

/* Bytes that end an escape, by the steps of step_text.c's escape(). */
static uint32_t escape_left(uint32_t esc) {
    static const uint8_t LEFT[] = {0, 1, 4, 3, 2, 1, 6, 5, 4, 3, 2, 1};
    return esc < sizeof LEFT ? LEFT[esc] : 0;
}

/* Bytes to acceptance; while an escape is written, the character that it stands for comes first. */
static uint32_t text_ahead(const dfa *d, uint32_t q, uint32_t esc) {
    if (!esc) return d->n_ahead[q];
    uint32_t least = LEFT_FAR;
    for (uint32_t c = 0; c < d->n_classes; c++) {
        uint32_t t = d->next[(size_t)q * d->n_classes + c];
        if (t != DFA_DEAD) least = at_most(least, d->n_ahead[t]);
    }
    return least + escape_left(esc);
}

/* `words` as frames have them, NULL: nothing yet; n properties begun; must_go_on: a comma was written. */
static uint32_t object_left(const obj_shape *o, const uint64_t *words, uint32_t n,
                            bool must_go_on) {
    uint64_t sum = 1;
    uint32_t missing = 0;
    for (uint32_t w = 0; w < o->n_words; w++)
        for (uint64_t bits = o->required[w] & ~(words ? words[w] : 0); bits; bits &= bits - 1) {
            sum += o->costs[w * 64 + (uint32_t)__builtin_ctzll(bits)];
            missing++;
        }
    uint32_t more = o->min > n + missing ? o->min - n - missing : 0;
    if (!missing && !more && must_go_on) more = 1;
    sum += (uint64_t)more * o->cheapest;
    return capped(sum - (missing + more && (n == 0 || must_go_on)));
}

/* A key that has begun: of a required property if it can be (few of their names have escapes), else of
 * the least. */
static uint32_t key_left(const stepper *s, const frame *f, uint32_t q) {
    const obj_shape *o = &s->g->objs[f->node];
    const dfa *d = s->g->dfas[o->dfa];
    const frame *object = f->parent;
    const uint64_t *reach = o->reach + (size_t)q * o->n_words;
    obj_room room = step_find_room(s, o, object);
    uint32_t rest = text_ahead(d, q, f->esc), value = LEFT_FAR;
    for (uint32_t w = 0; w < o->n_words; w++) {
        uint64_t bits = reach[w] & ~object->words[w] & step_room_names(room, w);
        for (uint64_t must = f->esc ? 0 : bits & o->required[w]; must; must &= must - 1) {
            uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(must);
            if (i >= o->n_named) break;
            /* States that lead to names stand in a trie: their depth is what was said. */
            return object_left(o, object->words, object->n, true) - 1 - o->depths[q];
        }
        for (; bits; bits &= bits - 1) {
            uint32_t i = w * 64 + (uint32_t)__builtin_ctzll(bits);
            if (i < o->n_named) value = at_most(value, o->values[i]);
        }
    }
    uint32_t others = LEFT_FAR;
    for (uint32_t i = o->n_named; i < o->n_slots && o->n_others[q]; i++) {
        value = at_most(value, o->values[i]);
        others = at_most(others, o->lengths[i]);
    }
    /* … or of one that the object has to hold under some name. */
    for (uint32_t k = 0, i = o->n_named; k < o->n_some; k++, i++) {
        if (object->words[i >> 6] >> (i & 63) & 1) continue;
        uint32_t all = object_left(o, object->words, object->n, true) - 1;
        if (o->some[k].others && o->n_others[q])
            return all + rest > others ? all + rest - others : 1;
        for (uint32_t w = 0; w < o->n_words; w++)
            if (o->some[k].names[w] & reach[w] & ~object->words[w]) return all;
    }
    return capped((uint64_t)rest + 2 + value + object_left(o, object->words, object->n + 1, false));
}

/* ── Frames ── */

static uint32_t text_left(const str_shape *t, const dfa *d, uint32_t q, uint32_t n, uint32_t esc) {
    uint32_t chars = t->counts && n < t->min ? t->min - n + escape_left(esc) : 0;
    uint32_t ahead = text_ahead(d, q, esc);
    return capped((uint64_t)(ahead > chars ? ahead : chars) + 1);
}

/* One frame's own part: as a thread, or as what waits for an inner one. */
static uint32_t own_left(const stepper *s, const frame *f) {
    const grammar *g = s->g;
    const gnode *n;
    uint64_t sum = 0;
    switch (f->kind) {
    case F_LIT: return (uint32_t)g->nodes[f->node].b - f->n;
    case F_SET:
    case F_TOKEN: return 1;
    case F_DFA: return g->dfas[f->node]->n_ahead[f->q];
    case F_SEQ:
        n = &g->nodes[f->node];
        for (int32_t i = (int32_t)f->n; i < n->b; i++) sum += g->nodes[g->kids[n->a + i]].least;
        return capped(sum);
    case F_REP:
        n = &g->nodes[f->node];
        if ((int32_t)f->n >= n->min) return 0;
        return capped((uint64_t)(n->min - (int32_t)f->n) * g->nodes[n->a].least);
    case F_VALUE: return g->jnodes[f->node].least;
    case F_JLIT: return (f->node == 2 ? 5 : 4) - f->n;
    case F_STR: {
        const str_shape *t = &g->strs[f->node];
        return text_left(t, g->dfas[t->dfa], f->q, f->n, f->esc);
    }
    case F_KEY: return key_left(s, f, f->q);
    case F_NUM: return number_left(&g->nums[f->node], f);
    case F_OBJ:
        /* A key counts its object, see key_left; behind a key the value is not begun. */
        sum = f->phase == O_COLON ? 1 + (uint64_t)g->jnodes[f->q].least : 0;
        return capped(sum + object_left(&g->objs[f->node], f->words, f->n, f->phase == O_WANT_KEY));
    case F_ARR: return array_left(g, &g->arrs[f->node], f->n, f->q, f->phase == O_WANT_KEY);
    default: return 0;
    }
}

uint32_t stepper_left_after(const stepper *s, const frame *f) {
    uint64_t sum = 0;
    const frame *at = f->kind == F_KEY ? f->parent->parent : f->parent;
    for (; at && sum < LEFT_FAR; at = at->parent) sum += own_left(s, at);
    return capped(sum);
}

uint32_t stepper_left(const stepper *s, const frame *f) {
    return capped((uint64_t)own_left(s, f) + stepper_left_after(s, f));
}

uint32_t glide_left(const stepper *s, const glide *at) {
    const frame *f = at->base;
    if (f->kind == F_DFA) return at->d->n_ahead[at->q];
    if (f->kind == F_KEY) return key_left(s, f, at->q);
    return text_left(&s->g->strs[f->node], at->d, at->q, at->n, 0);
}

uint32_t stepper_left_inside(const stepper *s, const frame *f) {
    uint64_t most;
    if (f->kind == F_STR) {
        const str_shape *t = &s->g->strs[f->node];
        uint32_t ahead = s->g->dfas[t->dfa]->most_open_ahead;
        most =
            (t->counts && f->n + ahead < t->min ? t->min - f->n : ahead) + 1 + escape_left(f->esc);
    } else { /* it may turn out to be no property that is still required, but any other */
        const obj_shape *o = &s->g->objs[f->node];
        const frame *object = f->parent;
        uint32_t value = LEFT_FAR;
        for (uint32_t i = o->n_named; i < o->n_slots; i++) value = at_most(value, o->values[i]);
        most = (uint64_t)s->g->dfas[o->dfa]->most_open_ahead + escape_left(f->esc) + 2 + value +
               object_left(o, object->words, object->n + 1, false);
    }
    return capped(most + stepper_left_after(s, f));
}

bool glide_is_idle(const stepper *s, const glide *at) {
    const frame *f = at->base;
    if (f->kind == F_DFA || at->d->most_open_ahead || !at->d->is_open[at->q]) return false;
    if (f->kind == F_STR) return !s->g->strs[f->node].counts || at->n >= s->g->strs[f->node].min;
    const obj_shape *o = &s->g->objs[f->node];
    const uint64_t *reach = o->reach + (size_t)at->q * o->n_words;
    for (uint32_t w = 0; w * 64 < o->n_named; w++) {
        uint64_t names =
            o->n_named - w * 64 < 64 ? (1ull << (o->n_named - w * 64)) - 1 : UINT64_MAX;
        if (reach[w] & ~f->parent->words[w] & names & step_room_names(at->room, w)) return false;
    }
    return true;
}

/* ── Once ── */

/* The bytes of every key: how deep in the automaton its label first stands. */
static bool measure_keys(const grammar *g, obj_shape *o) {
    const dfa *d = g->dfas[o->dfa];
    size_t n = (size_t)o->n_slots * 2 + o->n_named + o->n_some + d->n_states;
    if (!(o->lengths = malloc((n + 1) * sizeof *o->lengths))) return false;
    o->values = o->lengths + o->n_slots;
    o->costs = o->values + o->n_slots;
    o->depths = o->costs + o->n_named + o->n_some;
    for (size_t i = 0; i < n; i++) o->lengths[i] = LEFT_FAR;
    uint32_t *queue = malloc((d->n_states + 1) * sizeof *queue), *depth = o->depths, end = 0;
    if (!queue) return false;
    if (d->n_states) depth[0] = 0, queue[end++] = 0;
    for (uint32_t i = 0; i < end; i++) {
        uint32_t q = queue[i];
        if (d->label[q] >= 0) o->lengths[d->label[q]] = at_most(o->lengths[d->label[q]], depth[q]);
        for (uint32_t c = 0; c < d->n_classes; c++) {
            uint32_t t = d->next[(size_t)q * d->n_classes + c];
            if (t == DFA_DEAD || depth[t] != LEFT_FAR) continue;
            depth[t] = depth[q] + 1;
            queue[end++] = t;
        }
    }
    free(queue);
    return true;
}

static uint32_t object_least(const grammar *g, obj_shape *o) {
    o->cheapest = LEFT_FAR;
    for (uint32_t i = 0; i < o->n_named + o->n_some; i++) o->costs[i] = LEFT_FAR;
    for (uint32_t i = 0; i < o->n_slots; i++) {
        o->values[i] = LEFT_FAR;
        for (uint32_t k = o->first[i]; k < o->first[i + 1]; k++) {
            const obj_choice *c = &o->choices[k];
            if (c->hits == UINT32_MAX) continue;
            uint32_t value = g->jnodes[c->node].least;
            uint32_t cost = capped((uint64_t)o->lengths[i] + 4 + value);
            o->values[i] = at_most(o->values[i], value);
            if (i < o->n_named) o->costs[i] = at_most(o->costs[i], cost);
            o->cheapest = at_most(o->cheapest, cost);
            for (uint32_t w = 0; w < o->n_some; w++)
                if (c->hits >> w & 1)
                    o->costs[o->n_named + w] = at_most(o->costs[o->n_named + w], cost);
        }
    }
    return capped(1 + (uint64_t)object_left(o, NULL, 0, false));
}

static uint32_t value_least(const grammar *g, const jnode *j) {
    uint32_t least = j->lits & (JLIT_NULL | JLIT_TRUE) ? 4 : j->lits ? 5 : LEFT_FAR;
    for (uint32_t i = 0; i < j->n_str; i++) {
        const str_shape *t = &g->strs[j->str + i];
        const dfa *d = g->dfas[t->dfa];
        if (d->n_states) least = at_most(least, 1 + text_left(t, d, 0, 0, 0));
    }
    for (uint32_t i = 0; i < j->n_num; i++)
        for (int sign = 0; sign < 2; sign++)
            least = at_most(least, number_least(&g->nums[j->num + i], sign));
    for (uint32_t i = 0; i < j->n_arr; i++)
        least =
            at_most(least, capped(1 + (uint64_t)array_left(g, &g->arrs[j->arr + i], 0, 0, false)));
    for (uint32_t i = 0; i < j->n_obj; i++)
        least = at_most(least, object_least(g, &g->objs[j->obj + i]));
    return least;
}

static uint32_t node_least(const grammar *g, const gnode *n) {
    uint64_t sum = 0;
    uint32_t least = LEFT_FAR;
    switch (n->op) {
    case G_EPS: return 0;
    case G_LIT: return (uint32_t)n->b;
    case G_SET:
    case G_TOKEN: return 1;
    case G_DFA: return g->dfas[n->a]->n_ahead[0];
    case G_CALL: return g->nodes[n->a].least;
    case G_JSON: return g->jnodes[n->a].least;
    case G_REP: return capped((uint64_t)n->min * g->nodes[n->a].least);
    case G_SEQ:
        for (int32_t i = 0; i < n->b; i++) sum += g->nodes[g->kids[n->a + i]].least;
        return capped(sum);
    case G_ALT:
        for (int32_t i = 0; i < n->b; i++)
            least = at_most(least, g->nodes[g->kids[n->a + i]].least);
        return least;
    default: return LEFT_FAR;
    }
}

bool grammar_left_settle(grammar *g) {
    for (size_t i = 0; i < g->n_objs; i++)
        if (!measure_keys(g, &g->objs[i])) return false;
    for (size_t i = 0; i < g->n_jnodes; i++) g->jnodes[i].least = LEFT_FAR;
    for (int32_t i = 0; i < g->n_nodes; i++) g->nodes[i].least = LEFT_FAR;
    /* Inner values mostly have higher numbers, inner nodes lower ones. */
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = g->n_jnodes; i-- > 0;) {
            uint32_t least = value_least(g, &g->jnodes[i]);
            changed |= least < g->jnodes[i].least;
            g->jnodes[i].least = least;
        }
    }
    for (bool changed = true; changed;) {
        changed = false;
        for (int32_t i = 0; i < g->n_nodes; i++) {
            uint32_t least = node_least(g, &g->nodes[i]);
            changed |= least < g->nodes[i].least;
            g->nodes[i].least = least;
        }
    }
    return true;
}
