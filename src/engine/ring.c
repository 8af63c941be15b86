#include "engine/ring.h"

/* Each mark works like this: one side stores its mark and then looks at the other's position; the
 * other stores its position and then looks at the mark. All four are sequentially consistent, so at
 * least one of them sees the other. */

void ring_init(ring *r, ring_slot *slots, uint32_t cap) {
    *r = (ring){.slots = slots, .cap = cap};
}

static uint32_t n_used(ring *r) {
    return atomic_load(&r->head) - atomic_load(&r->tail);
}
static bool has_drained(ring *r) {
    return n_used(r) <= r->cap - r->cap / 4;
}

uint32_t ring_room(ring *r) {
    if (atomic_load(&r->is_starved)) return 0;
    uint32_t room = r->cap - n_used(r);
    if (room > 0) return room;
    atomic_store(&r->is_starved, true);
    if (!has_drained(r)) return 0;
    /* The reader was faster. If it took the mark already, its signal does no harm. */
    atomic_store(&r->is_starved, false);
    return r->cap - n_used(r);
}

void ring_push(ring *r, const ring_slot *s) {
    unsigned head = atomic_load_explicit(&r->head, memory_order_relaxed);
    r->slots[head & (r->cap - 1)] = *s;
    atomic_store(&r->head, head + 1);
}

void ring_end(ring *r) {
    atomic_store(&r->is_ended, true);
}

bool ring_take_waiter(ring *r) {
    return atomic_load(&r->is_waiting) && atomic_exchange(&r->is_waiting, false);
}

/* What is there, without leaving a mark and without taking it. */
static ring_read look(ring *r) {
    unsigned tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    if (atomic_load(&r->head) != tail) return RING_EVENT;
    if (!atomic_load(&r->is_ended)) return RING_NOTHING;
    /* Events may have come between the two looks; after the end none can. */
    return atomic_load(&r->head) != tail ? RING_EVENT : RING_END;
}

ring_read ring_poll(ring *r, ring_slot *out, bool *unstarved) {
    *unstarved = false;
    if (r->end_taken) return RING_NOTHING;
    ring_read found = look(r);
    if (found == RING_NOTHING) {
        atomic_store(&r->is_waiting, true);
        found = look(r);
        if (found == RING_NOTHING) return found;
        /* Something came meanwhile. Without the mark nobody wakes us; if the producer has taken it, a
         * wake-up is on its way and what came is read then. */
        if (!atomic_exchange(&r->is_waiting, false)) return RING_NOTHING;
    }
    if (found == RING_END) {
        r->end_taken = true;
        return found;
    }
    unsigned tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    *out = r->slots[tail & (r->cap - 1)];
    atomic_store(&r->tail, tail + 1);
    if (atomic_load(&r->is_starved) && has_drained(r))
        *unstarved = atomic_exchange(&r->is_starved, false);
    return found;
}
