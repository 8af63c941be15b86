#include "api/worker.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

struct worker {
    api *a;
    runs *runs;
    batches *batches;
    pthread_t thread;
    bool has_thread;
    atomic_bool closing;
    sem_t more;
};

worker *worker_open(api *a, error *err) {
    worker *w = calloc(1, sizeof *w);
    if (!w) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the server.");
        return NULL;
    }
    w->a = a;
    sem_init(&w->more, 0, 0);
    a->worker = w; /* runs and batches wake it */
    if (!(w->runs = runs_new(a, err)) || !(w->batches = batches_new(a, err))) {
        worker_close(w);
        return a->worker = NULL;
    }
    return w;
}

void worker_sleep(sem_t *more, int ms) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += ms / 1000;
    until.tv_nsec += (long)(ms % 1000) * 1000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    while (sem_timedwait(more, &until) != 0 && errno == EINTR) continue;
    while (sem_trywait(more) == 0) continue;
}

static void *work(void *arg) {
    worker *w = arg;
    runs_resume(w->runs);
    while (!atomic_load(&w->closing)) {
        worker_sleep(&w->more, runs_advance(w->runs));
    }
    return NULL;
}

void worker_start(worker *w) {
    w->has_thread = pthread_create(&w->thread, NULL, work, w) == 0;
    batches_start(w->batches);
}

void worker_stop(worker *w) {
    if (!w) return;
    atomic_store(&w->closing, true);
    sem_post(&w->more);
    if (w->has_thread) pthread_join(w->thread, NULL);
    w->has_thread = false;
    batches_stop(w->batches);
}

void worker_close(worker *w) {
    if (!w) return;
    batches_free(w->batches);
    runs_free(w->runs);
    sem_destroy(&w->more);
    free(w);
}

void worker_wake(void *w) {
    sem_post(&((worker *)w)->more);
}
runs *worker_runs(worker *w) {
    return w->runs;
}
batches *worker_batches(worker *w) {
    return w->batches;
}
