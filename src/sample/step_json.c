/* Objects, arrays and the blanks between their parts. Each decides before it begins something whether it
 * can be completed: `required`, `minItems`, `contains` and their like are promises.
 */
#include "sample/step_impl.h"

/* ── JSON: blanks ── */

bool step_blank(const stepper *s, int where, uint8_t *ws, uint16_t depth, uint8_t c) {
    if (s->exact) return c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (*ws == 0) {
        if (c == ' ') {
            *ws = 255;
            return true;
        }
        if (c == '\n' && where == WS_LINE) {
            *ws = 1;
            return true;
        }
        return false;
    }
    int most = depth < 16 ? depth * 4 : 64;
    if (*ws == 255 || (c != ' ' && c != '\t') || *ws > most) return false;
    ++*ws;
    return true;
}

/* ── Objects ── */

static bool is_closable(const obj_shape *o, const frame *f) {
    if (f->n < o->min) return false;
    for (uint32_t w = 0; w < o->n_words; w++)
        if (o->required[w] & ~f->words[w]) return false;
    return true;
}

static void begin_key(stepper *s, const frame *f) {
    const obj_shape *o = &s->g->objs[f->node];
    const dfa *d = s->g->dfas[o->dfa];
    if (!d->n_states || !step_key_is_possible(o, d, f, step_find_room(s, o, f), 0, TEXT_SEED))
        return;
    frame *object = frame_copy(s, f);
    if (!object) return;
    object->phase = O_KEY;
    object->ws = 0;
    frame_seal(object);
    frame *key = frame_make(s, F_KEY, f->node, object);
    if (key && o->has_others) key->x = TEXT_SEED;
    step_emit(s, key);
}

static bool more_is_possible(const stepper *s, const frame *f) {
    const obj_shape *o = &s->g->objs[f->node];
    const dfa *d = s->g->dfas[o->dfa];
    return d->n_states && step_key_is_possible(o, d, f, step_find_room(s, o, f), 0, TEXT_SEED);
}

/* Something that is required came in. */
static bool is_progress(const obj_shape *o, const frame *before, const frame *after) {
    for (uint32_t w = 0; w < o->n_words; w++)
        if (o->required[w] & after->words[w] & ~before->words[w]) return true;
    return false;
}

/* Whatever the object still has to hold can still come. */
static bool somes_are_possible(const obj_shape *o, const frame *f) {
    for (uint32_t i = 0; i < o->n_some; i++) {
        uint32_t bit = o->n_named + i;
        if (f->words[bit >> 6] >> (bit & 63) & 1 || o->some[i].others) continue;
        bool any = false;
        for (uint32_t w = 0; w < o->n_words && !any; w++) any = o->some[i].names[w] & ~f->words[w];
        if (!any) return false;
    }
    return true;
}

void step_key(stepper *s, const frame *f, uint8_t c) {
    const frame *object = f->parent;
    const obj_shape *o = &s->g->objs[f->node];
    const dfa *d = s->g->dfas[o->dfa];
    obj_room room = step_find_room(s, o, object);
    text_rule rule = {.d = d,
                      .hashes = o->has_others,
                      .is_tight = !s->exact,
                      .o = o,
                      .object = object,
                      .room = room};
    frame *key = frame_copy(s, f);
    if (!key) return;
    text_step how = text_step_byte(&rule, key, c);
    if (how == TEXT_DEAD) return;
    if (how == TEXT_ON) {
        if (key->esc || text_is_alive(&rule, key->q, key->x, key->n)) step_emit(s, key);
        return;
    }
    int32_t label = d->label[key->q];
    bool named = (uint32_t)label < o->n_named;
    uint64_t bit = 1ull << (label & 63);
    if (named && ((uint32_t)label < room.from || (uint32_t)label >= room.to)) return;
    if (named ? (object->words[label >> 6] & bit) != 0 : step_was_seen(object->seen, key->x))
        return;
    const frame *seen = named ? object->seen : NULL;
    for (uint32_t k = o->first[label]; k < o->first[label + 1] && !s->overflow; k++) {
        const obj_choice *choice = &o->choices[k];
        if (choice->hits == UINT32_MAX) continue;
        frame *next = frame_copy(s, object);
        if (!next) return;
        if (named) next->words[label >> 6] |= bit;
        for (uint32_t i = 0; i < o->n_some; i++)
            if (choice->hits >> i & 1)
                next->words[(o->n_named + i) >> 6] |= 1ull << ((o->n_named + i) & 63);
        if (o->classes) {
            int work = COVER_WORK;
            if (!step_can_cover(o, next->words, o->max - next->n - 1, UINT64_MAX, NULL, false,
                                &work))
                continue;
        } else if (room.named_only_required ? !is_progress(o, object, next)
                                            : !named && !room.others)
            continue;
        if (!named && !seen && !(seen = step_add_seen(s, object->seen, key->x))) return;
        next->seen = seen;
        if (o->max != UINT32_MAX || next->n < o->min || next->n == 0) next->n++;
        next->phase = O_COLON;
        next->q = choice->node;
        if (o->n_some == 0 || somes_are_possible(o, next)) step_emit(s, next);
    }
}

void step_object(stepper *s, const frame *f, uint8_t c) {
    const obj_shape *o = &s->g->objs[f->node];
    uint8_t ws = f->ws;
    frame *next;
    switch (f->phase) {
    case O_OPEN:
    case O_WANT_KEY:
        if (c == '"') {
            begin_key(s, f);
            return;
        }
        if (c == '}' && f->phase == O_OPEN) {
            if (is_closable(o, f)) stepper_resume(s, f->parent);
            return;
        }
        break;
    case O_COLON:
        if (c == ':') {
            if (!(next = frame_copy(s, f))) return;
            next->phase = O_NEXT;
            next->ws = 0;
            next->q = 0;
            frame_seal(next);
            step_emit(s, frame_make(s, F_VALUE, f->q, next));
            return;
        }
        if (!s->exact) return;
        break;
    default:
        if (c == '}') {
            if (is_closable(o, f)) stepper_resume(s, f->parent);
            return;
        }
        if (c == ',') {
            if ((f->ws && !s->exact) || !more_is_possible(s, f) || !(next = frame_copy(s, f)))
                return;
            next->phase = O_WANT_KEY;
            next->ws = 0;
            step_emit(s, next);
            return;
        }
        if (!s->exact && !is_closable(o, f)) return; /* blanks only before the end */
    }
    if (step_blank(s, WS_LINE, &ws, f->depth, c) && (next = frame_copy(s, f))) {
        next->ws = ws;
        step_emit(s, next);
    }
}

/* ── Arrays ── */

static uint32_t position(const arr_shape *a, uint32_t n) {
    return n < a->n_prefix ? n : a->n_prefix;
}

/* Can an array with n items, of which `hits` count, still be completed? One `contains`. */
static bool can_finish_one(const arr_shape *a, uint32_t n, uint32_t hits) {
    uint32_t min_hits = a->min_hits[0], max_hits = a->max_hits[0];
    if (hits > max_hits || n > a->max) return false;
    uint32_t could = 0, must = 0; /* of the items from n on */
    for (uint32_t len = n;; len++) {
        if (hits + must > max_hits) return false;
        if (len >= a->min && hits + could >= min_hits) return true;
        if (len >= a->max) return false;
        uint32_t i = position(a, len);
        bool hit = false, miss = false;
        for (uint32_t k = a->first[i]; k < a->first[i + 1]; k++)
            if (a->choices[k].hits)
                hit = true;
            else
                miss = true;
        if (!hit && !miss) return false;
        could += hit;
        must += !miss;
        if (i == a->n_prefix) { /* from here on every item is alike: no need to count one by one */
            uint32_t more = len + 1 < a->min ? a->min - len - 1 : 0;
            if (!hit && hits + could < min_hits) return false;
            if (hit && hits + could < min_hits && min_hits - hits - could > more)
                more = min_hits - hits - could;
            uint64_t end = (uint64_t)len + 1 + more;
            if (end > a->max) return false;
            return (uint64_t)hits + must + (miss ? 0 : more) <= max_hits;
        }
    }
}

/* Hits of several are counted in a byte each; where there is no maximum, up to the minimum. */
static bool add_hits(const arr_shape *a, uint32_t *counts, uint8_t hits) {
    if (a->n_contains == 1) {
        if (hits && (a->max_hits[0] != UINT32_MAX || *counts < a->min_hits[0])) ++*counts;
        return *counts <= a->max_hits[0];
    }
    for (uint32_t w = 0; w < a->n_contains; w++) {
        uint32_t n = *counts >> (8 * w) & 0xFF;
        if (!(hits >> w & 1) || (a->max_hits[w] == UINT32_MAX && n >= a->min_hits[w])) continue;
        if (n + 1 > a->max_hits[w]) return false;
        *counts += 1u << (8 * w);
    }
    return true;
}

static bool has_hits(const arr_shape *a, uint32_t counts) {
    if (a->n_contains == 1) return counts >= a->min_hits[0];
    for (uint32_t w = 0; w < a->n_contains; w++)
        if ((counts >> (8 * w) & 0xFF) < a->min_hits[w]) return false;
    return true;
}

/* The same for several, by trying; what takes too long is taken to be possible. */
static bool can_finish_many(const arr_shape *a, uint32_t n, uint32_t counts, int *work) {
    bool enough = has_hits(a, counts);
    if ((enough && n >= a->min) || --*work < 0) return true;
    if (n >= a->max) return false;
    uint32_t i = position(a, n);
    for (uint32_t k = a->first[i]; k < a->first[i + 1]; k++) {
        uint32_t then = counts;
        if (!add_hits(a, &then, a->choices[k].hits)) continue;
        if (i == a->n_prefix && then == counts && !enough) continue; /* a filler brings nothing */
        if (i == a->n_prefix && then == counts) return a->min <= a->max;
        if (can_finish_many(a, n + 1, then, work)) return true;
    }
    return false;
}

static bool can_finish(const arr_shape *a, uint32_t n, uint32_t counts) {
    int work = 2000;
    return a->n_contains == 1 ? can_finish_one(a, n, counts)
                              : n <= a->max && can_finish_many(a, n, counts, &work);
}

static bool can_take(const arr_shape *a, const frame *f, const arr_choice *choice) {
    uint32_t counts = f->q;
    return add_hits(a, &counts, choice->hits) && can_finish(a, f->n + 1, counts);
}

static const dfa *unique_dfa(const stepper *s, const arr_shape *a) {
    return s->g->dfas[a->unique_dfa];
}

static bool item_is_possible(const stepper *s, const arr_shape *a, const frame *f) {
    if (f->n >= a->max) return false;
    if (f->n >= a->min && has_hits(a, f->q) && f->depth + s->g->max_height > GRAMMAR_MAX_JSON_DEPTH)
        return false;
    if (a->is_unique && unique_dfa(s, a)->n_left[0] <= step_count_seen(f->seen)) return false;
    uint32_t i = position(a, f->n);
    for (uint32_t k = a->first[i]; k < a->first[i + 1]; k++)
        if (!a->n_contains || can_take(a, f, &a->choices[k])) return true;
    return false;
}

static void begin_item(stepper *s, const frame *f, uint8_t c) {
    const arr_shape *a = &s->g->arrs[f->node];
    if (!item_is_possible(s, a, f)) return;
    uint32_t i = position(a, f->n);
    for (uint32_t k = a->first[i]; k < a->first[i + 1]; k++) {
        const arr_choice *choice = &a->choices[k];
        if (a->n_contains && !can_take(a, f, choice)) continue;
        frame *next = frame_copy(s, f);
        if (!next) return;
        next->phase = O_NEXT;
        next->ws = 0;
        if (a->max != UINT32_MAX || next->n < a->min || next->n < a->n_prefix || next->n == 0)
            next->n++;
        add_hits(a, &next->q, choice->hits);
        frame_seal(next);
        step_begin_value(s, choice->node, next, c);
    }
}

static bool array_is_closable(const arr_shape *a, const frame *f) {
    return f->n >= a->min && has_hits(a, f->q);
}

void step_array(stepper *s, const frame *f, uint8_t c) {
    const arr_shape *a = &s->g->arrs[f->node];
    uint8_t ws = f->ws;
    frame *next;
    if (c == ']' && f->phase != O_WANT_KEY) {
        if (array_is_closable(a, f)) stepper_resume(s, f->parent);
        return;
    }
    if (f->phase == O_NEXT) {
        if (c == ',') {
            if ((f->ws && !s->exact) || !item_is_possible(s, a, f) || !(next = frame_copy(s, f)))
                return;
            next->phase = O_WANT_KEY;
            next->ws = 0;
            step_emit(s, next);
            return;
        }
        if (!s->exact && !array_is_closable(a, f)) return;
    }
    if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
        /* Blanks behind '[' that nothing but an item could follow are fine: one is possible. */
        if (step_blank(s, WS_LINE, &ws, f->depth, c) && (next = frame_copy(s, f))) {
            next->ws = ws;
            step_emit(s, next);
        }
        return;
    }
    if (f->phase != O_NEXT) begin_item(s, f, c);
}
