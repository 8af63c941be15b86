/* The scheduler: what every plan must keep, for random jobs; and a simulation in which it drives made-up
 * jobs on a made-up machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "engine/sched.h"

typedef struct dice {
    uint64_t seed, at;
} dice;
static int64_t roll(dice *d, int64_t n) {
    return (int64_t)(rng_at(d->seed, d->at++) % (uint64_t)n);
}

/* Everything a plan promises, whatever went in. */
static void check_plan(const sched_job *jobs, int n, const sched_limits *l, const int32_t *rows) {
    int32_t total = 0, prefill = 0, logits = 0, n_decode = 0;
    bool any_room = false;
    for (int i = 0; i < n; i++) {
        const sched_job *j = &jobs[i];
        assert_true(rows[i] >= 0);
        total += rows[i];
        any_room |= j->n_room > 0;
        if (j->n_room == 0) {
            assert_int_equal(rows[i], 0);
        } else if (j->n_left == 0) {
            assert_int_equal(rows[i], 1); /* whoever is read along is never held up */
            logits++;
            n_decode++;
        } else {
            assert_true(rows[i] <= j->n_left && rows[i] <= l->max_chunk);
            if (j->is_scoring) assert_true(rows[i] <= j->n_room);
            prefill += rows[i];
            logits += j->is_scoring ? rows[i] : rows[i] == j->n_left;
        }
    }
    assert_true(total <= l->max_rows);
    assert_true(logits <= l->max_logits);
    assert_true(prefill <= l->budget);
    if (any_room) assert_true(total > 0);
    /* Nothing is left lying: if rows remain, every prompt has all it can use. */
    if (prefill == l->budget || total == l->max_rows) return;
    for (int i = 0; i < n; i++)
        if (jobs[i].n_room > 0 && jobs[i].n_left > 0 && !jobs[i].is_scoring)
            assert_int_equal(rows[i], jobs[i].n_left < l->max_chunk ? (int32_t)jobs[i].n_left
                                                                    : l->max_chunk);
}

static void test_random_plans(void **state) {
    (void)state;
    enum { MAX = 12 };
    for (uint64_t seed = 0; seed < 200000; seed++) {
        dice d = {seed, 0};
        sched_job jobs[MAX];
        int32_t rows[MAX], again[MAX];
        int n = (int)roll(&d, MAX + 1);
        for (int i = 0; i < n; i++)
            jobs[i] =
                (sched_job){.n_left = roll(&d, 2) ? 0 : 1 + roll(&d, roll(&d, 2) ? 8 : 100000),
                            .n_room = roll(&d, 4) ? 1 + (int32_t)roll(&d, 64) : 0,
                            .is_scoring = roll(&d, 4) == 0};
        sched_limits l = {.max_chunk = 1 + (int32_t)roll(&d, 600)};
        l.max_rows = n + (int32_t)roll(&d, 600);
        l.max_logits = n + (int32_t)roll(&d, 40);
        l.budget = 1 + (int32_t)roll(&d, 600);
        memset(rows, 0x55, sizeof rows);
        sched_plan(jobs, n, &l, rows);
        check_plan(jobs, n, &l, rows);
        sched_plan(jobs, n, &l, again);
        assert_memory_equal(rows, again, (size_t)n * sizeof *rows);
    }
}

static void test_even_shares(void **state) {
    (void)state;
    sched_job jobs[] = {
        {1000, 8, false}, {0, 8, false}, {5, 8, false}, {1000, 8, false}, {1000, 0, false}};
    sched_limits l = {.max_rows = 516, .max_logits = 20, .max_chunk = 512, .budget = 100};
    int32_t rows[5];
    sched_plan(jobs, 5, &l, rows);
    int32_t want[] = {48, 1, 5, 47, 0}; /* the short one is through; the oldest gets the odd row */
    assert_memory_equal(rows, want, sizeof want);
    l.budget = 1;
    sched_plan(jobs, 5, &l, rows);
    int32_t least[] = {1, 1, 0, 0, 0};
    assert_memory_equal(rows, least, sizeof least);
}

/* A machine: base time, time per row; jobs arrive, are prefilled, decode, leave. */
typedef struct sim_job {
    int64_t n_left, n_decode, arrived_ns, last_ns;
    bool scores;
} sim_job;

static void simulate(uint64_t seed) {
    enum { PARALLEL = 6, JOBS = 200, CHUNK = 512 };
    const int64_t budget_ns = 100000000;
    dice d = {seed, 0};
    int64_t base_ns = 1000000 + roll(&d, 40000000), row_ns = 10000 + roll(&d, 3000000), now = 0;
    sim_job running[PARALLEL];
    int n = 0, n_arrived = 0, n_finished = 0, n_steps = 0, n_over = 0;
    sched_rate rate = {0};
    while (n_finished < JOBS) {
        while (n < PARALLEL && n_arrived < JOBS && roll(&d, 3)) {
            running[n++] = (sim_job){.n_left = 1 + roll(&d, roll(&d, 4) ? 200 : 20000),
                                     .n_decode = 1 + roll(&d, 60),
                                     .arrived_ns = now,
                                     .scores = roll(&d, 8) == 0};
            n_arrived++;
        }
        sched_job jobs[PARALLEL];
        int32_t rows[PARALLEL], n_decode = 0, n_prefill = 0;
        for (int i = 0; i < n; i++) {
            jobs[i] = (sched_job){running[i].n_left, roll(&d, 20) ? 32 : 0, running[i].scores};
            n_decode += running[i].n_left == 0 && jobs[i].n_room;
        }
        sched_limits l = {CHUNK + PARALLEL, PARALLEL + 40, CHUNK,
                          sched_budget(&rate, budget_ns, CHUNK)};
        sched_plan(jobs, n, &l, rows);
        check_plan(jobs, n, &l, rows);
        int32_t total = 0;
        for (int i = 0; i < n; i++) {
            total += rows[i];
            if (running[i].n_left) n_prefill += rows[i];
        }
        if (total == 0) {
            now += 1000000;
            continue;
        }
        int64_t noise = 90 + roll(&d, 20);
        int64_t took = (base_ns + row_ns * total) * noise / 100;
        if (roll(&d, 200) == 0) took *= 10; /* somebody took the core */
        now += took;
        sched_learn(&rate, n_decode, n_prefill, took);
        n_steps++;
        /* A step may exceed the budget only where the budget cannot be met: the machine needs longer for
         * the smallest chunk. */
        if (n_prefill > 8 && (base_ns + row_ns * total) > budget_ns * 13 / 10) n_over++;
        int kept = 0;
        for (int i = 0; i < n; i++) {
            sim_job *j = &running[i];
            if (j->n_left > 0)
                j->n_left -= rows[i];
            else
                j->n_decode -= rows[i];
            if (j->n_left == 0 && j->n_decode == 0)
                n_finished++;
            else
                running[kept++] = *j;
        }
        n = kept;
        assert_true(n_steps < 10000000);
    }
    /* Beyond the first steps, and those after somebody took the core, the budget holds. */
    if (n_over > 20 + n_steps / 50)
        fail_msg("seed %llu: %d of %d steps over budget", (unsigned long long)seed, n_over,
                 n_steps);
}

static void test_simulation(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) simulate(seed);
}

static void test_budget_learns(void **state) {
    (void)state;
    sched_rate r = {0};
    assert_in_range(sched_budget(&r, 100000000, 512), 1, 64); /* careful at first */
    assert_int_equal(sched_budget(&r, 100000000, 4), 4);
    for (int i = 0; i < 40; i++) sched_learn(&r, 0, 32, 32 * 1000000);
    assert_in_range(sched_budget(&r, 100000000, 512), 95, 105); /* a millisecond per row */
    for (int i = 0; i < 40; i++) sched_learn(&r, 3, 0, 60000000);
    assert_in_range(sched_budget(&r, 100000000, 512), 38, 42); /* decoding takes 60 of the 100 */
    sched_learn(&r, 0, 32, (int64_t)32 * 1000000 * 1000);      /* one odd step */
    assert_in_range(sched_budget(&r, 100000000, 512), 20,
                    42); /* moves it by a factor of 2 at most */
    sched_learn(&r, 0, 32, 0);
    assert_true(sched_budget(&r, 1, 512) >= 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_plans),
        cmocka_unit_test(test_even_shares),
        cmocka_unit_test(test_budget_learns),
        cmocka_unit_test(test_simulation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
