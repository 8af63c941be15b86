/* The store's two threads: one that writes rows, one that does long blocking work. */
#include <stdlib.h>
#include <time.h>

#include "base/log.h"
#include "store/impl.h"

enum { MAX_GROUP = 256, EXPIRY_SECONDS = 30 };

static void finish(store *s, store_job *j) {
    /* After `done` the job may be freed any moment. */
    void (*wake)(void *) = j->wake;
    void *wake_ctx = j->wake_ctx;
    pthread_mutex_lock(&s->lock);
    /* Under the lock: store_job_free waits for it, so the one to be woken still lives. */
    j->done = true;
    if (wake) wake(wake_ctx);
    pthread_cond_broadcast(&s->done);
    pthread_mutex_unlock(&s->lock);
}

static bool run_one(store_tx *tx, store_job *j) {
    if (!store_sql(tx, "SAVEPOINT one", &j->err)) return false;
    if (j->fn(tx, j->ctx, &j->err) && store_sql(tx, "RELEASE one", &j->err)) return true;
    error_set(&j->err, ERR_INTERNAL, NULL, "A write failed without a reason.");
    /* A full disk may already have rolled everything back. */
    if (!sqlite3_get_autocommit(tx->db))
        sqlite3_exec(tx->db, "ROLLBACK TO one; RELEASE one", NULL, NULL, NULL);
    return false;
}

/* True when all that could succeed is on disk. */
static bool commit_group(store_tx *tx, store_job **group, size_t n, error *err) {
    bool ok = store_sql(tx, "BEGIN IMMEDIATE", err);
    for (size_t i = 0; ok && i < n; i++) {
        run_one(tx, group[i]);
        if (sqlite3_get_autocommit(tx->db))
            ok = error_set(err, group[i]->err.code, NULL, "%s", group[i]->err.message);
    }
    if (ok) ok = store_sql(tx, "COMMIT", err);
    if (!ok && !sqlite3_get_autocommit(tx->db)) sqlite3_exec(tx->db, "ROLLBACK", NULL, NULL, NULL);
    return ok;
}

static void write_group(store *s, store_job **group, size_t n) {
    error err = {0};
    if (!commit_group(&s->write, group, n, &err)) {
        for (size_t i = 0; i < n; i++) {
            group[i]->err = (error){0};
            error alone = {0};
            if (!commit_group(&s->write, &group[i], 1, &alone) && !error_is_set(&group[i]->err))
                group[i]->err = alone;
        }
    }
    store_sweep_doubtful(&s->write); /* not between two tries of one operation */
    for (size_t i = 0; i < n; i++) finish(s, group[i]);
}

/* Waits for jobs; takes up to `max`. 0: closing and nothing left, or a timeout (*timed_out). */
static size_t take(store *s, job_queue *q, store_job **out, size_t max, bool *timed_out) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += EXPIRY_SECONDS;
    *timed_out = false;
    pthread_mutex_lock(&s->lock);
    while (!q->head && !s->closing && !*timed_out)
        *timed_out = pthread_cond_timedwait(&q->more, &s->lock, &until) != 0;
    size_t n = 0;
    while (q->head && n < max) {
        out[n++] = q->head;
        q->head = q->head->next;
    }
    if (!q->head) q->tail = &q->head;
    pthread_mutex_unlock(&s->lock);
    return n;
}

static void *write_main(void *arg) {
    store *s = arg;
    store_job *group[MAX_GROUP];
    time_t swept = 0;
    for (;;) {
        bool timed_out;
        size_t n = take(s, &s->writes, group, MAX_GROUP, &timed_out);
        if (n) write_group(s, group, n);
        if (!n && !timed_out) return NULL;
        if (s->is_owner && time(NULL) - swept >= EXPIRY_SECONDS) {
            store_job expiry = {.s = s, .fn = store_delete_expired};
            store_job *one = &expiry;
            error err = {0};
            if (!commit_group(&s->write, &one, 1, &err))
                log_line(LOG_WARN, "store", "expired objects stay: %s", err.message);
            store_sweep_doubtful(&s->write);
            swept = time(NULL);
        }
    }
}

static void *task_main(void *arg) {
    store *s = arg;
    for (;;) {
        store_job *j;
        bool timed_out;
        if (take(s, &s->tasks, &j, 1, &timed_out)) {
            if (!j->task(s, j->ctx, &j->err))
                error_set(&j->err, ERR_INTERNAL, NULL, "A write failed without a reason.");
            finish(s, j);
        } else if (!timed_out)
            return NULL;
    }
}

static bool start(store *s, job_queue *q, void *(*main)(void *), error *err) {
    q->tail = &q->head;
    pthread_cond_init(&q->more, NULL);
    q->runs = pthread_create(&q->thread, NULL, main, s) == 0;
    return q->runs || error_set(err, ERR_NO_MEMORY, NULL, "The store's thread cannot start.");
}

bool store_threads_start(store *s, error *err) {
    return start(s, &s->writes, write_main, err) && start(s, &s->tasks, task_main, err);
}

static void stop(store *s, job_queue *q) {
    if (!q->tail) return;
    pthread_mutex_lock(&s->lock);
    s->closing = true;
    pthread_cond_broadcast(&q->more);
    pthread_mutex_unlock(&s->lock);
    if (q->runs) pthread_join(q->thread, NULL);
    pthread_cond_destroy(&q->more);
}

/* Tasks first: they may still want to write. */
void store_threads_stop(store *s) {
    stop(s, &s->tasks);
    stop(s, &s->writes);
}

static store_job *submit(store *s, job_queue *q, store_job job) {
    store_job *j = malloc(sizeof *j);
    if (!j) return NULL;
    *j = job;
    j->s = s;
    pthread_mutex_lock(&s->lock);
    *q->tail = j;
    q->tail = &j->next;
    pthread_cond_signal(&q->more);
    pthread_mutex_unlock(&s->lock);
    return j;
}

store_job *store_submit(store *s, store_fn *fn, void *ctx, void (*wake)(void *), void *wake_ctx) {
    return submit(s, &s->writes,
                  (store_job){.fn = fn, .ctx = ctx, .wake = wake, .wake_ctx = wake_ctx});
}

store_job *store_submit_task(store *s, store_task_fn *fn, void *ctx, void (*wake)(void *),
                             void *wake_ctx) {
    return submit(s, &s->tasks,
                  (store_job){.task = fn, .ctx = ctx, .wake = wake, .wake_ctx = wake_ctx});
}

static bool no_memory(error *err) {
    error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the store.");
    return true;
}

bool store_poll(store_job *j, error *err) {
    if (!j) return no_memory(err);
    pthread_mutex_lock(&j->s->lock);
    bool done = j->done;
    if (done && error_is_set(&j->err) && err && !error_is_set(err)) *err = j->err;
    pthread_mutex_unlock(&j->s->lock);
    return done;
}

void store_job_free(store_job *j) {
    if (!j) return;
    pthread_mutex_lock(&j->s->lock);
    while (!j->done) pthread_cond_wait(&j->s->done, &j->s->lock);
    pthread_mutex_unlock(&j->s->lock);
    free(j);
}

bool store_write(store *s, store_fn *fn, void *ctx, error *err) {
    store_job *j = store_submit(s, fn, ctx, NULL, NULL);
    error mine = {0};
    if (!j) no_memory(&mine);
    if (j) {
        pthread_mutex_lock(&s->lock);
        while (!j->done) pthread_cond_wait(&s->done, &s->lock);
        pthread_mutex_unlock(&s->lock);
        mine = j->err;
        free(j);
    }
    if (error_is_set(&mine) && err && !error_is_set(err)) *err = mine;
    return !error_is_set(&mine);
}

static store_tx *begin_read(store *s, bool is_scoped, str owner) {
    pthread_mutex_lock(&s->read_lock);
    s->read.is_scoped = is_scoped;
    s->read.owner = owner;
    sqlite3_exec(s->read.db, "BEGIN", NULL, NULL, NULL);
    return &s->read;
}

store_tx *store_begin_read(store *s) {
    return begin_read(s, false, (str){0});
}
store_tx *store_begin_read_as(store *s, str owner) {
    return begin_read(s, true, owner);
}

void store_end_read(store_tx *tx) {
    sqlite3_exec(tx->db, "COMMIT", NULL, NULL, NULL);
    pthread_mutex_unlock(&tx->s->read_lock);
}
