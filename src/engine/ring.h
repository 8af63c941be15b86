/* One job's events on their way from the engine thread (the only producer) to
 * the job's reader (the only consumer), and who of the two waits for the other.
 * No locks; the producer never waits.
 *
 * A reader that finds nothing leaves a mark, and the producer takes that mark
 * exactly once after its next event: no wake-up is lost and none is given twice.
 * A producer that finds the ring full leaves a mark too; the reader takes it when
 * a quarter of the ring is free again, so that a slow reader is served in batches.
 */
#ifndef ENGINE_RING_H
#define ENGINE_RING_H

#include <stdatomic.h>

#include "engine/engine.h"

enum { RING_LINE = 64 /* bytes of a cache line */ };

typedef struct ring_slot {
    int32_t kind;
    int64_t index;
    sample_result token;
    engine_cost cost;
} ring_slot;

typedef struct ring {
    ring_slot *slots;                     /* [cap], borrowed */
    uint32_t cap;                         /* a power of two, ≥ 4 */
    bool end_taken;                       /* the reader's own */
    _Alignas(RING_LINE) atomic_uint head; /* next to write; the producer's */
    atomic_bool is_ended;                 /* nothing is pushed any more */
    _Alignas(RING_LINE) atomic_uint tail; /* next to read; the reader's */
    atomic_bool is_waiting;               /* the reader's mark */
    atomic_bool is_starved;               /* the producer's mark */
} ring;

void ring_init(ring *r, ring_slot *slots, uint32_t cap);

/* ── Producer ── */
/* Slots that can be pushed now; 0 while the starved mark stands. When there is none, leaves it. */
uint32_t ring_room(ring *r);
void ring_push(ring *r, const ring_slot *s);
void ring_end(ring *r);
/* True when the reader waits: its mark is taken, and it must be woken. */
bool ring_take_waiter(ring *r);

/* ── Reader ── */
typedef enum ring_read { RING_NOTHING, RING_EVENT, RING_END } ring_read;
/* RING_NOTHING leaves the mark, unless RING_END was given before: exactly one RING_END is given, after
 * the last event. *unstarved: the producer has to be told that there is room. */
ring_read ring_poll(ring *r, ring_slot *out, bool *unstarved);

#endif
