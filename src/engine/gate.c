#include "engine/gate.h"

#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

void gate_wait(gate *g, unsigned seen, int64_t timeout_ns) {
    struct timespec t = {timeout_ns / 1000000000, timeout_ns % 1000000000};
    /* Announced before the kernel compares the word: either it has changed, or the signaller sees
     * a sleeper. */
    atomic_fetch_add(&g->n_sleepers, 1);
    syscall(SYS_futex, &g->word, FUTEX_WAIT_PRIVATE, seen, timeout_ns < 0 ? NULL : &t, NULL, 0);
    atomic_fetch_sub(&g->n_sleepers, 1);
}

void gate_signal(gate *g) {
    atomic_fetch_add(&g->word, 1);
    if (atomic_load(&g->n_sleepers) > 0)
        syscall(SYS_futex, &g->word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}
