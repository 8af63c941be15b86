/* The event ring: facts in one thread, then two threads that try to lose a wake-up. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "engine/gate.h"
#include "engine/ring.h"

static void test_order_and_end(void **state) {
    (void)state;
    ring_slot slots[4], s;
    static ring r; /* not on the stack: ASan's does not keep its alignment */
    bool unstarved;
    ring_init(&r, slots, 4);
    assert_int_equal(ring_room(&r), 4);
    assert_int_equal(ring_poll(&r, &s, &unstarved), RING_NOTHING);
    ring_push(&r, &(ring_slot){.index = 1});
    assert_true(ring_take_waiter(&r));
    assert_false(ring_take_waiter(&r)); /* once for one poll in vain */
    ring_push(&r, &(ring_slot){.index = 2});
    ring_end(&r);
    assert_false(ring_take_waiter(&r));
    for (int64_t i = 1; i <= 2; i++) {
        assert_int_equal(ring_poll(&r, &s, &unstarved), RING_EVENT);
        assert_int_equal(s.index, i);
    }
    assert_int_equal(ring_poll(&r, &s, &unstarved), RING_END);
    assert_int_equal(ring_poll(&r, &s, &unstarved), RING_NOTHING);
    assert_false(ring_take_waiter(&r)); /* nothing follows the end, so nobody waits */
}

static void test_starving(void **state) {
    (void)state;
    ring_slot slots[8], s;
    static ring r;
    bool unstarved;
    ring_init(&r, slots, 8);
    for (int i = 0; i < 8; i++) ring_push(&r, &(ring_slot){.index = i});
    assert_int_equal(ring_room(&r), 0);
    assert_int_equal(ring_poll(&r, &s, &unstarved), RING_EVENT);
    assert_false(unstarved);
    assert_int_equal(ring_room(&r), 0); /* served again when a quarter is free, not slot by slot */
    assert_int_equal(ring_poll(&r, &s, &unstarved), RING_EVENT);
    assert_true(unstarved);
    assert_int_equal(ring_room(&r), 2);
    assert_int_equal(ring_poll(&r, &s, &unstarved), RING_EVENT);
    assert_false(unstarved);
}

/* Producer and reader sleep on gates whenever the ring's marks say they may. If a wake-up were lost, both
 * would sleep and the gates' time would run out. */
enum { N_EVENTS = 200000 };
typedef struct pair {
    ring r;
    gate reader, producer;
    atomic_int n_timeouts;
    ring_slot slots[8];
} pair;

static void *produce(void *ctx) {
    pair *p = ctx;
    for (int64_t sent = 0; sent < N_EVENTS;) {
        unsigned seen = gate_look(&p->producer);
        uint32_t room = ring_room(&p->r);
        if (room == 0) {
            int64_t start = clock_ns();
            gate_wait(&p->producer, seen, 5000000000);
            if (clock_ns() - start > 4000000000) atomic_fetch_add(&p->n_timeouts, 1);
            continue;
        }
        uint32_t n = 1 + (uint32_t)(rng_at(3, (uint64_t)sent) % room);
        for (uint32_t i = 0; i < n && sent < N_EVENTS; i++)
            ring_push(&p->r, &(ring_slot){.index = sent++});
        if (sent == N_EVENTS) ring_end(&p->r);
        if (ring_take_waiter(&p->r)) gate_signal(&p->reader);
    }
    return NULL;
}

static void test_two_threads(void **state) {
    (void)state;
    pair *p = aligned_alloc(RING_LINE, (sizeof *p + RING_LINE - 1) / RING_LINE * RING_LINE);
    assert_non_null(p);
    *p = (pair){0};
    ring_init(&p->r, p->slots, 8);
    pthread_t t;
    assert_int_equal(pthread_create(&t, NULL, produce, p), 0);
    int64_t got = 0;
    for (;;) {
        unsigned seen = gate_look(&p->reader);
        ring_slot s;
        bool unstarved;
        ring_read read = ring_poll(&p->r, &s, &unstarved);
        if (unstarved) gate_signal(&p->producer);
        if (read == RING_END) break;
        if (read == RING_EVENT) {
            assert_int_equal(s.index, got);
            got++;
            continue;
        }
        int64_t start = clock_ns();
        gate_wait(&p->reader, seen, 5000000000);
        if (clock_ns() - start > 4000000000) atomic_fetch_add(&p->n_timeouts, 1);
    }
    pthread_join(t, NULL);
    assert_int_equal(got, N_EVENTS);
    assert_int_equal(p->n_timeouts, 0);
    free(p);
}

static void test_gate_times_out(void **state) {
    (void)state;
    gate g = {0};
    int64_t start = clock_ns();
    gate_wait(&g, gate_look(&g), 3000000);
    assert_true(clock_ns() - start >= 2000000);
    unsigned seen = gate_look(&g);
    gate_signal(&g);
    gate_wait(&g, seen, -1); /* a signal after the look: no sleep at all */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_and_end),
        cmocka_unit_test(test_starving),
        cmocka_unit_test(test_gate_times_out),
        cmocka_unit_test(test_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
