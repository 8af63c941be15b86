#include "api/backend.h"

#include <pthread.h>
#include <stdlib.h>

enum { MAX_RUNNING = 4, READ_BYTES = 16 * 1024, MAX_OUTPUT = 512 << 20 };

struct backend {
    pthread_mutex_t lock;
    int n_refs;  /* the request and the thread */
    http_req *r; /* NULL once the request is gone */
    sandbox *box;
    backend_filter filter;
    bool ended;
    buf out;
    error err;
};

static atomic_int n_running; /* of this process: they share its cores */

static void drop(backend *b) {
    pthread_mutex_lock(&b->lock);
    bool last = --b->n_refs == 0;
    pthread_mutex_unlock(&b->lock);
    if (!last) return;
    sandbox_close(b->box);
    if (b->filter.done) b->filter.done(b->filter.ctx);
    buf_deinit(&b->out);
    pthread_mutex_destroy(&b->lock);
    free(b);
}

static void leave(void *ctx) {
    backend *b = ctx;
    pthread_mutex_lock(&b->lock);
    b->r = NULL;
    pthread_mutex_unlock(&b->lock);
    sandbox_kill(b->box);
    drop(b);
}

/* Hands bytes (or the end) to the request. */
static void publish(backend *b, buf *fresh, bool ended, const error *err) {
    pthread_mutex_lock(&b->lock);
    if (fresh->len) buf_append(&b->out, fresh->ptr, fresh->len);
    if ((fresh->failed || b->out.failed) && !error_is_set(&b->err))
        error_set(&b->err, ERR_NO_MEMORY, NULL, "There is no memory for the program's output.");
    if (error_is_set(err) && !error_is_set(&b->err)) b->err = *err;
    b->ended = b->ended || ended;
    if (b->r && (ended || fresh->len)) http_wake(b->r);
    pthread_mutex_unlock(&b->lock);
    buf_clear(fresh);
}

static bool pass(backend *b, str bytes, buf *fresh, error *err) {
    if (b->filter.push) return b->filter.push(b->filter.ctx, bytes, fresh, err);
    buf_append_str(fresh, bytes);
    return true;
}

static void *backend_main(void *ctx) {
    backend *b = ctx;
    buf fresh = {0};
    error err = {0};
    char *bytes = malloc(READ_BYTES);
    ptrdiff_t n = -1;
    if (!bytes) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory to run a program.");
    while (bytes && (n = sandbox_read(b->box, bytes, READ_BYTES, &err)) > 0) {
        if (!pass(b, str_make(bytes, (size_t)n), &fresh, &err)) break;
        publish(b, &fresh, false, &err);
    }
    if (n == 0 && sandbox_finish(b->box, &err)) pass(b, (str){0}, &fresh, &err);
    atomic_fetch_sub(&n_running, 1);
    publish(b, &fresh, true, &err);
    buf_deinit(&fresh);
    free(bytes);
    drop(b);
    return NULL;
}

backend *backend_start(http_req *r, const sandbox_command *c, backend_filter f, error *err) {
    backend *b = NULL;
    if (atomic_fetch_add(&n_running, 1) >= MAX_RUNNING) {
        atomic_fetch_sub(&n_running, 1);
        error_set(err, ERR_RATE_LIMIT, NULL, "%d programs run already; try again in a moment.",
                  MAX_RUNNING);
        goto refuse;
    }
    b = calloc(1, sizeof *b);
    pthread_t thread;
    if (!b) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to run a program.");
        goto fail;
    }
    pthread_mutex_init(&b->lock, NULL);
    b->n_refs = 3; /* and this function */
    b->r = r;
    b->out.max = MAX_OUTPUT;
    b->filter = f;
    b->box = sandbox_open(c, err);
    if (!b->box) goto fail;
    if (pthread_create(&thread, NULL, backend_main, b) != 0) {
        error_set(err, ERR_NO_MEMORY, NULL, "A thread cannot be started.");
        goto fail;
    }
    pthread_detach(thread);
    http_own(r, b, leave); /* without memory it leaves at once */
    pthread_mutex_lock(&b->lock);
    bool owned = b->r != NULL;
    pthread_mutex_unlock(&b->lock);
    drop(b);
    if (owned) return b;
    error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to run a program.");
    return NULL;
fail:
    atomic_fetch_sub(&n_running, 1);
refuse:
    if (f.done) f.done(f.ctx);
    if (b) {
        sandbox_close(b->box);
        pthread_mutex_destroy(&b->lock);
        free(b);
    }
    return NULL;
}

bool backend_take(backend *b, buf *out, error *err) {
    pthread_mutex_lock(&b->lock);
    if (b->out.len) buf_append(out, b->out.ptr, b->out.len);
    buf_clear(&b->out);
    bool ended = b->ended;
    if (ended && error_is_set(&b->err)) *err = b->err;
    pthread_mutex_unlock(&b->lock);
    return ended;
}
