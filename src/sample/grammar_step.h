/* One step of the machine: a thread (a chain of frames, the innermost first) and a
 * byte → the threads it becomes. Frames are immutable and share their outer part.
 * Pure but for the memory it takes from a region.
 */
#ifndef SAMPLE_GRAMMAR_STEP_H
#define SAMPLE_GRAMMAR_STEP_H

#include "sample/grammar_impl.h"

typedef enum frame_kind {
    F_LIT,   /* node, n = position */
    F_SET,   /* node */
    F_TOKEN, /* node */
    F_DFA,   /* node = which automaton, q = state */
    F_SEQ,   /* node, n = next item */
    F_REP,   /* node, n = rounds begun */
    F_VALUE, /* node = jnode; a value comes */
    F_JLIT,  /* node = 0 null 1 true 2 false, n = position */
    F_STR,   /* node = str_shape, q = state, esc, y, n = characters, x = hash */
    F_KEY,   /* the same; parent is the object, node its shape */
    F_NUM, /* node = num_shape, phase, x y = digits, n = behind the dot, q = before it, esc = exponent */
    F_OBJ, /* node = obj_shape, phase, words = properties seen, n = their number, q = jnode to come */
    F_ARR,  /* node = arr_shape, phase, n = items, q = hits */
        F_TAIL,  /* recognising: blanks behind a whole text that is one JSON value */
    F_SEEN,  /* x = hash of a key or item; parent = the one before */
} frame_kind;

typedef struct frame {
    const struct frame *parent;
    const struct frame *seen; /* OBJ: other keys, ARR: unique items */
    uint64_t hash;            /* of all of it, parents included */
    uint64_t x, y;
    uint32_t node, q, n, esc;
    uint32_t birth; /* REP: the step it began in; not part of the identity */
    uint16_t depth; /* containers open */
    uint8_t kind, phase, ws, negative, n_words, is_copied;
    uint64_t words[];
} frame;

typedef struct region {
    char *base;
    size_t used, cap;
} region;

typedef struct stepper {
    const grammar *g;
    bool exact;
    region *mem;
    const frame **out; /* [cap] */
    int n_out, cap_out;
    bool can_end;  /* a reading ended here */
    bool overflow; /* more readings or memory than there may be: the step is void */
    uint32_t birth;
    int deep, work;
} stepper;

/* Before each step: an empty set of threads in out. */
void stepper_begin(stepper *s, region *mem, const frame **out, int cap_out);
void stepper_start(stepper *s); /* the grammar's first threads */
void stepper_byte(stepper *s, const frame *f, uint8_t byte);
void stepper_token(stepper *s, const frame *f, int32_t id);
static inline size_t frame_size(const frame *f) {
    return sizeof *f + f->n_words * sizeof f->words[0];
}

/* ── The same without frames ── for walking a vocabulary through one string, key or automaton: most
 * bytes only move its state. */
typedef struct glide {
    const frame *base; /* the thread it began as */
    const dfa *d;
    uint32_t q, n;
    uint64_t x;
    struct obj_room { /* of a key's object: properties that may still come */
        bool none, named_only_required, others;
        uint32_t from, to; /* of the names only those of these places, see obj_shape.is_ordered */
    } room;
} glide;
/* False: this thread needs frames. */
bool glide_begin(const stepper *s, const frame *f, glide *at);
typedef enum glide_step { GLIDE_DEAD, GLIDE_ON, GLIDE_LEAVES } glide_step;
/* LEAVES: the byte needs frames, see glide_frame; nothing moved. (An automaton that accepts in state q
 * may be left at any byte besides: the caller looks at d->label[q].) */
glide_step glide_byte(const stepper *s, glide *at, uint8_t c);
/* The thread as a frame again. NULL: no room. */
const frame *glide_frame(stepper *s, const glide *at);
/* Any text without quote, backslash and controls keeps it alive; *room: how many characters of it. */
bool glide_is_open(const stepper *s, const glide *at, uint32_t *room);
/* Whatever f waits for is over: the threads that follow. */
void stepper_resume(stepper *s, const frame *f);

#endif
