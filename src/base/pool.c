#include "base/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    SPIN_NS = 40000, /* longer than the gap between two jobs of one forward pass */
    SPIN_CHECK = 64, /* pauses between looks at the clock */
    CACHE_LINE = 64,
};

typedef struct worker {
    pool *p;
    int index;
    pthread_t thread;
} worker;

struct pool {
    int n_threads;
    bool stopping;
    worker *workers; /* [n_threads - 1] */
    pool_fn *fn;
    void *ctx;
    int n_tasks;
    /* Each on its own line: all threads hammer them. */
    _Alignas(CACHE_LINE) atomic_uint job;     /* counts jobs; a change means work */
    _Alignas(CACHE_LINE) atomic_int sleepers; /* workers inside (or about to enter) the futex */
    _Alignas(CACHE_LINE) atomic_int next;     /* next task to take */
    _Alignas(CACHE_LINE) atomic_uint busy;    /* workers that have not finished this job */
};

static void cpu_relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void futex_wait(atomic_uint *word, unsigned seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

static void futex_wake_all(atomic_uint *word) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Waits until *word != seen: spins briefly, then sleeps. */
static void wait_change(atomic_uint *word, unsigned seen, atomic_int *sleepers) {
    int64_t until = 0;
    for (int i = 1;; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != seen) return;
        cpu_relax();
        if (i % SPIN_CHECK == 0) {
            int64_t now = clock_ns();
            if (!until) until = now + SPIN_NS;
            if (now > until) break;
        }
    }
    /* Announce before the last look: the owner either sees the sleeper or we see the change. */
    atomic_fetch_add(sleepers, 1);
    while (atomic_load(word) == seen) futex_wait(word, seen);
    atomic_fetch_sub(sleepers, 1);
}

static void take_tasks(pool *p, int index) {
    int n = p->n_tasks;
    for (int t; (t = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < n;)
        p->fn(p->ctx, t, index);
}

static void *worker_main(void *arg) {
    worker *w = arg;
    pool *p = w->p;
    for (unsigned seen = 0;;) {
        wait_change(&p->job, seen, &p->sleepers);
        seen = atomic_load_explicit(&p->job, memory_order_acquire);
        if (p->stopping) return NULL;
        take_tasks(p, w->index);
        if (atomic_fetch_sub_explicit(&p->busy, 1, memory_order_acq_rel) == 1)
            futex_wake_all(&p->busy);
    }
}

/* Pins worker i to the i-th allowed core; without it two threads can share one core for long. */
static void pin(pthread_t thread, int index) {
    cpu_set_t allowed, one;
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return;
    int n = CPU_COUNT(&allowed), want = n ? index % n : 0;
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &allowed) && want-- == 0) {
            CPU_ZERO(&one);
            CPU_SET(c, &one);
            pthread_setaffinity_np(thread, sizeof one, &one);
            return;
        }
}

pool *pool_new(int n_threads, error *err) {
    if (n_threads < 1) n_threads = 1;
    pool *p = aligned_alloc(CACHE_LINE, (sizeof *p + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE);
    worker *workers = calloc((size_t)n_threads, sizeof *workers);
    if (!p || !workers) {
        free(p);
        free(workers);
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the thread pool.");
        return NULL;
    }
    *p = (pool){.n_threads = 1, .workers = workers};
    for (int i = 1; i < n_threads; i++) {
        worker *w = &workers[i - 1];
        *w = (worker){.p = p, .index = i};
        if (pthread_create(&w->thread, NULL, worker_main, w) != 0) {
            error_set(err, ERR_NO_MEMORY, NULL,
                      "The system refuses to start compute thread %d of %d.", i + 1, n_threads);
            pool_free(p);
            return NULL;
        }
        pin(w->thread, i);
        p->n_threads++;
    }
    return p;
}

void pool_free(pool *p) {
    if (!p) return;
    p->stopping = true;
    atomic_fetch_add(&p->job, 1);
    futex_wake_all(&p->job);
    for (int i = 1; i < p->n_threads; i++) pthread_join(p->workers[i - 1].thread, NULL);
    free(p->workers);
    free(p);
}

int pool_n_threads(const pool *p) {
    return p ? p->n_threads : 1;
}

void pool_run(pool *p, int n_tasks, pool_fn *fn, void *ctx) {
    if (n_tasks <= 0) return;
    if (!p || p->n_threads == 1 || n_tasks == 1) {
        for (int t = 0; t < n_tasks; t++) fn(ctx, t, 0);
        return;
    }
    p->fn = fn;
    p->ctx = ctx;
    p->n_tasks = n_tasks;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    atomic_store_explicit(&p->busy, (unsigned)p->n_threads - 1, memory_order_relaxed);
    atomic_fetch_add(&p->job, 1);
    if (atomic_load(&p->sleepers) > 0) futex_wake_all(&p->job);
    take_tasks(p, 0);
    for (int i = 1;; i++) {
        unsigned left = atomic_load_explicit(&p->busy, memory_order_acquire);
        if (left == 0) return;
        cpu_relax();
        if (i % 4096 == 0) futex_wait(&p->busy, left);
    }
}
