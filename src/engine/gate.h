/* Where one thread sleeps until another says that something changed. A signal
 * between gate_look and gate_wait is never lost; a signal to a gate where
 * nobody sleeps costs one atomic add and no system call.
 *
 *   for (;;) {
 *       unsigned seen = gate_look(&g);
 *       if (condition) break;
 *       gate_wait(&g, seen, timeout_ns);
 *   }
 */
#ifndef ENGINE_GATE_H
#define ENGINE_GATE_H

#include <stdatomic.h>
#include <stdint.h>

typedef struct gate {
    atomic_uint word; /* counts signals */
    atomic_int n_sleepers;
} gate;

static inline unsigned gate_look(gate *g) {
    return atomic_load(&g->word);
}
/* Sleeps until the next signal after gate_look, or timeout_ns (< 0: for ever). May return early. */
void gate_wait(gate *g, unsigned seen, int64_t timeout_ns);
/* Any thread. */
void gate_signal(gate *g);

#endif
