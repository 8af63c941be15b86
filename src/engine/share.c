#include "engine/share.h"

#include "base/hash.h"

/* Nobody in particular has the first one. */
static unsigned slot_of(const shares *s, uint64_t client) {
    if (client == 0) return 0;
    return 1 + (unsigned)(hash_combine(s->salt, client) % (SHARE_CLIENTS - 1));
}

void share_init(shares *s, int n_parallel, int n_queue, uint64_t salt) {
    s->n_parallel = n_parallel;
    s->n_places = n_parallel + n_queue;
    s->salt = salt;
}

/* n_held, held: before this one. */
static share_answer judge(const shares *s, uint64_t client, int n_held, int held) {
    int n_free = s->n_places - n_held;
    if (n_free <= 0) return SHARE_FULL;
    if (client == 0 || held < s->n_parallel || held / SHARE_GREED < n_free) return SHARE_TAKEN;
    return SHARE_OVER;
}

share_answer share_ask(shares *s, uint64_t client) {
    return judge(s, client, atomic_load(&s->n_held), atomic_load(&s->held[slot_of(s, client)]));
}

/* Taken first and judged then: two who ask at once are never both given the last place. */
share_answer share_take(shares *s, uint64_t client) {
    unsigned slot = slot_of(s, client);
    int n_held = atomic_fetch_add(&s->n_held, 1), held = atomic_fetch_add(&s->held[slot], 1);
    share_answer a = judge(s, client, n_held, held);
    if (a != SHARE_TAKEN) share_give_back(s, client);
    return a;
}

void share_give_back(shares *s, uint64_t client) {
    atomic_fetch_sub(&s->held[slot_of(s, client)], 1);
    atomic_fetch_sub(&s->n_held, 1);
}

int share_n_held(shares *s, uint64_t client) {
    return atomic_load(&s->held[slot_of(s, client)]);
}

int *share_running(shares *s, uint64_t client) {
    return &s->running[slot_of(s, client)];
}
