/* Inside one step of the machine: making frames, and what its files ask of each other; not a door.
 * grammar_step.c is the program and the values, step_text.c what is between quotes, step_json.c objects
 * and arrays, step_number.c numbers. Functions that step take a thread and a byte and emit what it
 * becomes; nothing emitted: the byte does not fit.
 */
#ifndef SAMPLE_STEP_IMPL_H
#define SAMPLE_STEP_IMPL_H

#include "base/hash.h"
#include "sample/grammar_step.h"

enum { MAX_DEEP = 3000, MAX_WORK = 200000 };

/* phases */
enum { O_OPEN, O_KEY, O_WANT_KEY, O_COLON, O_NEXT };
enum { N_SIGN, N_INT, N_DOT, N_FRACTION, N_E, N_E_SIGN, N_EXPONENT };

/* ── Frames ── */

static inline frame *frame_take(stepper *s, unsigned n_words) {
    size_t size = sizeof(frame) + n_words * sizeof(uint64_t);
    if (s->mem->cap - s->mem->used < size) {
        s->overflow = true;
        return NULL;
    }
    frame *f = (frame *)(s->mem->base + s->mem->used);
    s->mem->used += size;
    return f;
}

static inline frame *frame_make(stepper *s, frame_kind kind, uint32_t node, const frame *parent) {
    frame *f = frame_take(s, 0);
    if (f)
        *f = (frame){
            .kind = kind, .node = node, .parent = parent, .depth = parent ? parent->depth : 0};
    return f;
}

static inline frame *frame_copy(stepper *s, const frame *from) {
    frame *f = frame_take(s, from->n_words);
    if (f) {
        memcpy(f, from, frame_size(from));
        f->is_copied = 0;
    }
    return f;
}

static inline uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9E3779B97F4A7C15ull;
    return h ^ h >> 29;
}

/* A multiplication per word: frames are made by the million, and a set of threads mixes again. */
static inline void frame_seal(frame *f) {
    uint64_t h = f->parent ? f->parent->hash : 1;
    h = mix(h, (uint64_t)f->kind << 56 | (uint64_t)f->phase << 48 | (uint64_t)f->ws << 40 |
                   (uint64_t)f->negative << 32 | f->node);
    h = mix(h, (uint64_t)f->q << 32 | f->n);
    h = mix(h, f->x + f->esc);
    if (f->y) h = mix(h, f->y);
    for (int i = 0; i < f->n_words; i++) h = mix(h, f->words[i]);
    if (f->seen) h = mix(h, f->seen->hash);
    f->hash = h;
}

/* A thread that waits for input. */
static inline void step_emit(stepper *s, frame *f) {
    if (!f || s->overflow) return;
    frame_seal(f);
    for (int i = 0; i < s->n_out; i++)
        if (s->out[i]->hash == f->hash) {
            /* the last one taken: give its room back */
            if ((char *)f + frame_size(f) == s->mem->base + s->mem->used)
                s->mem->used -= frame_size(f);
            return;
        }
    if (s->n_out == s->cap_out) {
        s->overflow = true;
        return;
    }
    s->out[s->n_out++] = f;
}

static inline void step_emit_again(stepper *s, const frame *f) {
    for (int i = 0; i < s->n_out; i++)
        if (s->out[i]->hash == f->hash) return;
    if (s->n_out == s->cap_out)
        s->overflow = true;
    else
        s->out[s->n_out++] = f;
}

/* ── grammar_step.c ── */
/* A value of this jnode, whose first byte is c. */
void step_begin_value(stepper *s, uint32_t node, const frame *parent, uint8_t c);

/* ── step_text.c ── */
/* What was seen (other keys, unique items) is a list of hashes of texts, each from TEXT_SEED on. */
static const uint64_t TEXT_SEED = 0x6B6579;
static inline uint32_t step_count_seen(const frame *seen) {
    return seen ? seen->n : 0;
}
bool step_was_seen(const frame *seen, uint64_t x);
const frame *step_add_seen(stepper *s, const frame *seen, uint64_t x);

/* All, or only the required ones where there is room for no others. */
typedef struct obj_room obj_room;
obj_room step_find_room(const stepper *s, const obj_shape *o, const frame *f);
/* Of a word of properties: those whose places are in the room's. */
static inline uint64_t step_room_names(obj_room r, uint32_t w) {
    uint32_t at = w * 64;
    uint64_t names = UINT64_MAX;
    if (r.from > at) names = r.from - at < 64 ? names << (r.from - at) : 0;
    if (r.to < at + 64) names &= r.to > at ? UINT64_MAX >> (64 - (r.to - at)) : 0;
    return names;
}
enum { COVER_WORDS = 4, COVER_WORK = 3000 };
/* Can `room` more properties be all that is still required? `classes` of others and (NULL: all) named
 * properties to begin with. By trying; what takes too long is taken to be possible. */
bool step_can_cover(const obj_shape *o, const uint64_t *words, uint32_t room, uint64_t classes,
                    const uint64_t *names, bool first, int *work);
/* A key that may come, in state q of the keys and with hash x. */
bool step_key_is_possible(const obj_shape *o, const dfa *d, const frame *f, obj_room room,
                          uint32_t q, uint64_t x);

typedef struct text_rule { /* what a string is read by */
    const dfa *d;
    bool counts, hashes;
    bool is_tight; /* only what must be escaped is: a name or a word of a list has one spelling */
    uint32_t min, max;
    const str_shape *shape; /* a value */
    const obj_shape *o;     /* a key: of this object … */
    const frame *object;    /* … as far as it is */
    obj_room room;
    const frame *seen; /* a unique item: those before */
    bool is_unique;
} text_rule;
/* Some number of characters from here is both what the automaton takes and what the limits allow. */
bool step_length_is_possible(const str_shape *s, uint32_t q, uint32_t n);
/* Can the text go on from here to an end that is allowed? */
bool text_is_alive(const text_rule *r, uint32_t q, uint64_t x, uint32_t n);
typedef enum text_step { TEXT_DEAD, TEXT_ON, TEXT_CLOSED } text_step;
/* One byte between the quotes, or the second of them; f is changed in place. */
text_step text_step_byte(const text_rule *r, frame *f, uint8_t c);
void step_string(stepper *s, const frame *from, uint8_t c);

/* ── step_json.c ── */
enum { WS_ONE, WS_LINE };
/* Generating: one space, or (WS_LINE) a line end and up to 4 columns per level. `ws` is 0 at first. */
bool step_blank(const stepper *s, int where, uint8_t *ws, uint16_t depth, uint8_t c);
void step_key(stepper *s, const frame *f, uint8_t c);
void step_object(stepper *s, const frame *f, uint8_t c);
void step_array(stepper *s, const frame *f, uint8_t c);

/* ── step_number.c ── */
void step_number(stepper *s, const frame *from, uint8_t c);
void step_begin_number(stepper *s, uint32_t shape, const frame *parent, uint8_t c);

#endif
