/* The pool: every task exactly once, by a worker that exists, job after job. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/hash.h"
#include "base/pool.h"

enum { MAX_TASKS = 300, MAX_THREADS = 4 };

typedef struct job {
    int n_threads;
    atomic_int times[MAX_TASKS];
    uint64_t out[MAX_TASKS]; /* plain: who finishes a job has to see all of it */
    int scratch[MAX_THREADS][64];
    atomic_int bad;
    uint64_t seed;
} job;

static void work(void *ctx, int task, int worker) {
    job *j = ctx;
    if (task < 0 || task >= MAX_TASKS || worker < 0 || worker >= j->n_threads) {
        atomic_fetch_add(&j->bad, 1);
        return;
    }
    atomic_fetch_add(&j->times[task], 1);
    j->scratch[worker][0]++; /* a race here would mean that two threads share an index */
    j->out[task] = hash_combine(j->seed, (uint64_t)task);
}

static void run_jobs(int n_threads, int n_jobs) {
    error err = {0};
    pool *p = pool_new(n_threads, &err);
    assert_non_null(p);
    assert_int_equal(pool_n_threads(p), n_threads);
    static job j;
    for (int k = 0; k < n_jobs; k++) {
        int n = (int)(rng_at((uint64_t)n_threads, (uint64_t)k) % (k % 50 ? 9 : MAX_TASKS));
        memset(&j, 0, sizeof j);
        j.n_threads = n_threads;
        j.seed = (uint64_t)k;
        pool_run(p, n, work, &j);
        assert_int_equal(j.bad, 0);
        int total = 0;
        for (int t = 0; t < MAX_TASKS; t++) {
            if (j.times[t] != (t < n))
                fail_msg("job %d: task %d of %d ran %d times", k, t, n, j.times[t]);
            if (t < n && j.out[t] != hash_combine(j.seed, (uint64_t)t))
                fail_msg("a result is missing");
        }
        for (int w = 0; w < n_threads; w++) total += j.scratch[w][0];
        assert_int_equal(total, n);
        if (k % 500 == 250) { /* long enough for the workers to fall asleep */
            nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
        }
    }
    pool_free(p);
}

static void test_1(void **state) {
    (void)state, run_jobs(1, 2000);
}
static void test_2(void **state) {
    (void)state, run_jobs(2, 4000);
}
static void test_3(void **state) {
    (void)state, run_jobs(3, 2000);
}
static void test_4(void **state) {
    (void)state, run_jobs(4, 2000);
}

static void test_edges(void **state) {
    (void)state;
    job j = {.n_threads = 1};
    pool_run(NULL, 5, work, &j);
    for (int t = 0; t < 6; t++) assert_int_equal(j.times[t], t < 5);
    pool_run(NULL, 0, work, &j);
    pool_run(NULL, -1, work, &j);
    assert_int_equal(j.times[0], 1);
    assert_int_equal(pool_n_threads(NULL), 1);
    pool_free(NULL);
    pool *p = pool_new(0, NULL);
    assert_int_equal(pool_n_threads(p), 1);
    pool_free(p);
    for (int i = 0; i < 50; i++) { /* born and gone, sometimes without a job */
        p = pool_new(4, NULL);
        memset(&j, 0, sizeof j);
        j.n_threads = 4;
        if (i % 2) pool_run(p, 3, work, &j);
        pool_free(p);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_1), cmocka_unit_test(test_2),     cmocka_unit_test(test_3),
        cmocka_unit_test(test_4), cmocka_unit_test(test_edges),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
