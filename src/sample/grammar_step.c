#include "sample/step_impl.h"

void stepper_begin(stepper *s, region *mem, const frame **out, int cap_out) {
    s->mem = mem;
    s->out = out;
    s->n_out = 0;
    s->cap_out = cap_out;
    s->can_end = s->overflow = false;
    s->birth++;
    s->deep = s->work = 0;
}

/* ── The program ── */

static void enter(stepper *s, int32_t n, const frame *parent) {
    const grammar *g = s->g;
    for (;;) {
        const gnode *node = &g->nodes[n];
        if (s->overflow || !node->productive) return;
        if (s->deep > MAX_DEEP || ++s->work > MAX_WORK) {
            s->overflow = true;
            return;
        }
        frame *f;
        switch (node->op) {
        case G_EPS: stepper_resume(s, parent); return;
        case G_LIT: step_emit(s, frame_make(s, F_LIT, (uint32_t)n, parent)); return;
        case G_SET: step_emit(s, frame_make(s, F_SET, (uint32_t)n, parent)); return;
        case G_TOKEN: step_emit(s, frame_make(s, F_TOKEN, (uint32_t)n, parent)); return;
        case G_JSON: step_emit(s, frame_make(s, F_VALUE, (uint32_t)node->a, parent)); return;
        case G_DFA: {
            const dfa *d = g->dfas[node->a];
            if (d->label[0] < 0 || d->n_left[0] > 1)
                step_emit(s, frame_make(s, F_DFA, (uint32_t)node->a, parent));
            if (d->label[0] >= 0) stepper_resume(s, parent);
            return;
        }
        case G_CALL: n = node->a; continue;
        case G_SEQ:
            if (!(f = frame_make(s, F_SEQ, (uint32_t)n, parent))) return;
            f->n = 1;
            frame_seal(f);
            parent = f;
            n = g->kids[node->a];
            continue;
        case G_ALT:
            s->deep++;
            for (int32_t k = 0; k < node->b; k++) enter(s, g->kids[node->a + k], parent);
            s->deep--;
            return;
        case G_REP:
            s->deep++;
            if (node->min == 0) stepper_resume(s, parent);
            s->deep--;
            if (!g->nodes[node->a].productive) return;
            if (!(f = frame_make(s, F_REP, (uint32_t)n, parent))) return;
            f->n = 1;
            f->birth = s->birth;
            frame_seal(f);
            parent = f;
            n = node->a;
            continue;
        default: return;
        }
    }
}

/* What f was waiting for is over. */
void stepper_resume(stepper *s, const frame *f) {
    if (!f) {
        s->can_end = true;
        if (s->exact && s->g->nodes[s->g->root].op == G_JSON)
            step_emit(s, frame_make(s, F_TAIL, 0, NULL));
        return;
    }
    if (s->overflow) return;
    if (s->deep > MAX_DEEP || ++s->work > MAX_WORK) {
        s->overflow = true;
        return;
    }
    const gnode *node = &s->g->nodes[f->kind == F_SEQ || f->kind == F_REP ? f->node : 0];
    s->deep++;
    if (f->kind == F_SEQ) {
        int32_t next = s->g->kids[node->a + (int32_t)f->n];
        const frame *parent = f->parent;
        if ((int32_t)f->n + 1 < node->b) {
            frame *more = frame_copy(s, f);
            if (more) {
                more->n++;
                frame_seal(more);
            }
            parent = more;
        }
        if (!s->overflow) enter(s, next, parent);
    } else if (f->kind == F_REP) {
        /* A round that took nothing counts for all that are left. */
        bool took_nothing = f->birth == s->birth;
        if ((int32_t)f->n >= node->min || took_nothing) stepper_resume(s, f->parent);
        if (!took_nothing && (node->max < 0 || (int32_t)f->n < node->max)) {
            frame *more = frame_copy(s, f);
            if (more) {
                if (node->max >= 0 || (int32_t)f->n < node->min) more->n++;
                more->birth = s->birth;
                frame_seal(more);
                enter(s, node->a, more);
            }
        }
    } else
        step_emit_again(s, f); /* an object or array, which waits for what follows its value */
    s->deep--;
}

void stepper_start(stepper *s) {
    enter(s, s->g->root, NULL);
}

void stepper_token(stepper *s, const frame *f, int32_t id) {
    if (f->kind == F_TOKEN && s->g->nodes[f->node].a == id) stepper_resume(s, f->parent);
}

/* ── Values ── */

static const char *const LITERALS[] = {"null", "true", "false"};

void step_begin_value(stepper *s, uint32_t node, const frame *parent, uint8_t c) {
    const grammar *g = s->g;
    const jnode *v = &g->jnodes[node];
    frame *f;
    uint16_t depth = parent ? parent->depth : 0;
    switch (c) {
    case '"':
        for (uint32_t i = 0; i < v->n_str; i++)
            if ((f = frame_make(s, F_STR, v->str + i, parent))) {
                if (parent && parent->kind == F_ARR && g->arrs[parent->node].is_unique)
                    f->x = TEXT_SEED;
                step_emit(s, f);
            }
        return;
    case '{':
        for (uint32_t i = 0; i < v->n_obj; i++) {
            const obj_shape *o = &g->objs[v->obj + i];
            if (depth + o->height > GRAMMAR_MAX_JSON_DEPTH) continue;
            if (!(f = frame_take(s, o->n_words))) return;
            *f = (frame){.kind = F_OBJ,
                         .node = v->obj + i,
                         .parent = parent,
                         .depth = (uint16_t)(depth + 1),
                         .n_words = (uint8_t)o->n_words};
            memset(f->words, 0, o->n_words * sizeof f->words[0]);
            step_emit(s, f);
        }
        return;
    case '[':
        for (uint32_t i = 0; i < v->n_arr; i++) {
            if (depth + g->arrs[v->arr + i].height > GRAMMAR_MAX_JSON_DEPTH) continue;
            if (!(f = frame_make(s, F_ARR, v->arr + i, parent))) return;
            f->depth++;
            step_emit(s, f);
        }
        return;
    case 'n':
    case 't':
    case 'f': {
        uint32_t which = c == 'n' ? 0 : c == 't' ? 1 : 2;
        if (!(v->lits >> which & 1) || !(f = frame_make(s, F_JLIT, which, parent))) return;
        f->n = 1;
        step_emit(s, f);
        return;
    }
    default:
        if (c != '-' && (c < '0' || c > '9')) return;
        for (uint32_t i = 0; i < v->n_num; i++) step_begin_number(s, v->num + i, parent, c);
    }
}

void stepper_byte(stepper *s, const frame *f, uint8_t c) {
    frame *next;
    switch (f->kind) {
    case F_LIT: {
        const gnode *n = &s->g->nodes[f->node];
        if ((uint8_t)s->g->text[n->a + (int32_t)f->n] != c) return;
        if ((int32_t)f->n + 1 == n->b)
            stepper_resume(s, f->parent);
        else if ((next = frame_copy(s, f))) {
            next->n++;
            step_emit(s, next);
        }
        return;
    }
    case F_SET:
        if (s->g->sets[s->g->nodes[f->node].a][c >> 6] >> (c & 63) & 1)
            stepper_resume(s, f->parent);
        return;
    case F_DFA: {
        const dfa *d = s->g->dfas[f->node];
        uint32_t q = dfa_step(d, f->q, c);
        if (q == DFA_DEAD) return;
        if ((d->label[q] < 0 || d->n_left[q] > 1) && (next = frame_copy(s, f))) {
            next->q = q;
            step_emit(s, next);
        }
        if (d->label[q] >= 0) stepper_resume(s, f->parent);
        return;
    }
    case F_VALUE: {
        uint8_t ws = f->ws;
        bool after_colon = f->parent && f->parent->kind == F_OBJ;
        if ((s->exact || after_colon) && step_blank(s, WS_ONE, &ws, f->depth, c)) {
            if ((next = frame_copy(s, f))) {
                next->ws = ws;
                step_emit(s, next);
            }
        } else
            step_begin_value(s, f->node, f->parent, c);
        return;
    }
    case F_JLIT: {
        const char *text = LITERALS[f->node];
        if ((uint8_t)text[f->n] != c) return;
        if (!text[f->n + 1])
            stepper_resume(s, f->parent);
        else if ((next = frame_copy(s, f))) {
            next->n++;
            step_emit(s, next);
        }
        return;
    }
    case F_TAIL:
        if (c == ' ' || c == '\n' || c == '\t' || c == '\r') stepper_resume(s, NULL);
        return;
    case F_STR: step_string(s, f, c); return;
    case F_KEY: step_key(s, f, c); return;
    case F_NUM: step_number(s, f, c); return;
    case F_OBJ: step_object(s, f, c); return;
    case F_ARR: step_array(s, f, c); return;
    default: return;
    }
}

/* ── Gliding ── */

bool glide_begin(const stepper *s, const frame *f, glide *at) {
    const grammar *g = s->g;
    if (f->kind != F_DFA && f->kind != F_STR && f->kind != F_KEY) return false;
    if (f->kind != F_DFA && f->esc) return false;
    uint32_t d = f->kind == F_DFA   ? f->node
                 : f->kind == F_STR ? g->strs[f->node].dfa
                                    : g->objs[f->node].dfa;
    *at = (glide){.base = f, .d = g->dfas[d], .q = f->q, .n = f->n, .x = f->x};
    if (f->kind == F_KEY) at->room = step_find_room(s, &g->objs[f->node], f->parent);
    return true;
}

glide_step glide_byte(const stepper *s, glide *at, uint8_t c) {
    const frame *f = at->base;
    uint32_t q;
    if (f->kind == F_DFA) {
        q = dfa_step(at->d, at->q, c);
        if (q == DFA_DEAD) return GLIDE_DEAD;
        at->q = q;
        return GLIDE_ON;
    }
    if (c == '"' || c == '\\') return GLIDE_LEAVES;
    if (c < 0x20 || (q = dfa_step(at->d, at->q, c)) == DFA_DEAD) return GLIDE_DEAD;
    if (f->kind == F_STR) {
        const str_shape *shape = &s->g->strs[f->node];
        if (shape->counts && (c & 0xC0) != 0x80) {
            if (at->n >= shape->max) return GLIDE_DEAD;
            if (shape->max != UINT32_MAX || at->n < shape->min) at->n++;
        }
        if (shape->lengths && !step_length_is_possible(shape, q, at->n)) return GLIDE_DEAD;
        if (f->x) {
            if (at->d->n_left[q] != UINT32_MAX) return GLIDE_LEAVES;
            at->x = hash_mix(at->x ^ c);
        }
    } else {
        const obj_shape *o = &s->g->objs[f->node];
        uint64_t x = o->has_others ? hash_mix(at->x ^ c) : 0;
        if (!step_key_is_possible(o, at->d, f->parent, at->room, q, x)) return GLIDE_DEAD;
        at->x = x;
    }
    at->q = q;
    return GLIDE_ON;
}

const frame *glide_frame(stepper *s, const glide *at) {
    frame *f = frame_copy(s, at->base);
    if (!f) return NULL;
    f->q = at->q;
    f->n = at->n;
    f->x = at->x;
    frame_seal(f);
    return f;
}

bool glide_is_open(const stepper *s, const glide *at, uint32_t *room) {
    const frame *f = at->base;
    *room = UINT32_MAX;
    if (f->kind == F_DFA || !at->d->is_open[at->q]) return false;
    if (f->kind == F_STR) {
        const str_shape *shape = &s->g->strs[f->node];
        if (shape->counts && shape->max != UINT32_MAX) *room = shape->max - at->n;
        return !shape->lengths;
    }
    return at->room.others;
}
