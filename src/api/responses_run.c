/* Runs: from the turn's events to response objects and their event stream. */
#include "api/responses.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

#include "api/fair.h"
#include "api/responses_impl.h"
#include "base/log.h"

struct runs {
    api *a;
    pthread_mutex_t lock; /* the list and all refs */
    run *head;
    bool resume; /* there may be background responses of before */
    int64_t resume_at;
};

/* ── references ── */

static void free_items(run *k) {
    for (size_t i = 0; i < k->n_items; i++) {
        buf_deinit(&k->items[i].name);
        buf_deinit(&k->items[i].space);
        buf_deinit(&k->items[i].text);
        buf_deinit(&k->items[i].sealed);
        buf_deinit(&k->items[i].logprobs);
    }
    free(k->items);
}

void run_release(run *k) {
    if (k->holds) store_release(k->a->store, k->conversation);
    k->holds = false;
}

void run_free(run *k) {
    if (!k) return;
    store_job_free(k->job);
    run_release(k);
    choices_free(k->set);
    free_items(k);
    item_messages_deinit(&k->messages);
    json_decref(k->request);
    json_decref(k->input);
    json_decref(k->all_input);
    json_decref(k->echo);
    json_decref(k->chat_body);
    json_decref(k->ancestors);
    json_decref(k->keep);
    json_decref(k->offered);
    json_decref(k->tool_paths);
    buf_deinit(&k->log);
    buf_deinit(&k->final);
    free(k->ends);
    arena_deinit(&k->mem);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

void run_unref(run *k) {
    runs *s = worker_runs(k->a->worker);
    pthread_mutex_lock(&s->lock);
    bool last = --k->refs == 0;
    pthread_mutex_unlock(&s->lock);
    if (last) run_free(k);
}

static run *find_run(runs *s, const str *owner, str id) {
    pthread_mutex_lock(&s->lock);
    run *k = s->head;
    /* One that was deleted is still there for us, until it ended, and for nobody else. */
    while (k && !(str_is(id, k->id.text) && k->is_public && !(owner && atomic_load(&k->forgotten))))
        k = k->next;
    if (k && owner && !str_eq(k->owner, *owner)) k = NULL;
    if (k) k->refs++;
    pthread_mutex_unlock(&s->lock);
    return k;
}

run *runs_find(api *a, str owner, str id) {
    return find_run(worker_runs(a->worker), &owner, id);
}

static void wake_run(void *ctx) {
    run *k = ctx;
    atomic_store(&k->woken, true);
    worker_wake(k->a->worker);
}

static bool start_turn(run *k, chat_request *q, bool keep_tokens, error *err) {
    return (k->set = choices_new(k->a, fair_get_owner(k->owner), 1, keep_tokens,
                                 chat_request_make_turn, q, wake_run, k, err));
}

bool run_start(run *k, error *err) {
    runs *s = worker_runs(k->a->worker);
    bool compacts = compaction_is_due(k);
    chat_request *q = compacts ? compaction_request(k, err) : k->chat;
    if (!q || !start_turn(k, q, k->wants_logprobs && !compacts, err)) {
        if (err->code == ERR_CONTEXT_LENGTH || err->code == ERR_TEMPLATE)
            snprintf(err->param, sizeof err->param, "input");
        run_fix_param(k, err);
        return false;
    }
    k->phase = compacts ? RUN_COMPACTS : RUN_GENERATES;
    /* The first one is created in any case: clients refuse a stream that begins otherwise. */
    if (k->background) k->status = RUN_QUEUED;
    run_event_response(k, "response.created");
    if (k->background) run_event_response(k, "response.queued");
    k->status = RUN_IN_PROGRESS;
    run_event_response(k, "response.in_progress");
    pthread_mutex_lock(&s->lock);
    k->refs = 2; /* the list's and the caller's */
    k->is_public = k->store;
    k->next = s->head;
    s->head = k;
    pthread_mutex_unlock(&s->lock);
    wake_run(k);
    return true;
}

void run_put_headers(run *k, http_req *r) {
    pthread_mutex_lock(&k->lock);
    choices_put_headers(k->set, r);
    pthread_mutex_unlock(&k->lock);
}

void run_forget(run *k) {
    atomic_store(&k->forgotten, true);
}

void run_cancel(run *k) {
    atomic_store(&k->cancel, true);
    wake_run(k);
}

/* ── readers ── */

typedef struct reader {
    run *k;
    http_req *r;
    struct reader *next;
    size_t at; /* the next event it wants */
    bool owner;
} reader;

static void wake_readers(run *k) {
    for (reader *d = k->readers; d; d = d->next) http_wake(d->r);
}

static void end_reader(void *ctx) {
    reader *d = ctx;
    run *k = d->k;
    pthread_mutex_lock(&k->lock);
    for (reader **p = &k->readers; *p; p = &(*p)->next)
        if (*p == d) {
            *p = d->next;
            break;
        }
    bool cancel = d->owner && k->phase <= RUN_GENERATES;
    pthread_mutex_unlock(&k->lock);
    if (cancel) run_cancel(k);
    run_unref(k);
}

static http_pull_result pull(http_req *r, void *ctx, buf *out) {
    (void)r;
    reader *d = ctx;
    run *k = d->k;
    pthread_mutex_lock(&k->lock);
    size_t n = 0;
    while (d->at < k->n_shown && n < 16 * 1024) {
        size_t i = d->at - k->n_dropped;
        size_t from = i ? k->ends[i - 1] : 0, len = k->ends[i] - from;
        buf_append(out, k->log.ptr + from, len);
        n += len;
        d->at++;
    }
    if (!k->store && d->at == k->n_shown && k->n_shown == k->n_events) {
        /* Nobody can ask for them again. */
        k->n_dropped = k->n_events;
        buf_clear(&k->log);
    }
    bool over = k->phase == RUN_OVER && d->at >= k->n_shown;
    pthread_mutex_unlock(&k->lock);
    return over ? HTTP_DONE : n ? HTTP_MORE : HTTP_WAIT;
}

static bool step(http_req *r, void *ctx) {
    reader *d = ctx;
    run *k = d->k;
    pthread_mutex_lock(&k->lock);
    bool over = k->phase == RUN_OVER;
    error err = k->err;
    buf body = {0};
    if (over && !error_is_set(&err)) {
        buf_reserve(&body, 0);
        buf_append_str(&body, buf_str(&k->final));
    }
    pthread_mutex_unlock(&k->lock);
    if (!over) return false;
    if (error_is_set(&err))
        http_reply_error(r, &err);
    else
        http_reply(r, 200, "application/json", &body);
    return true;
}

bool run_read(run *k, http_req *r, bool owner, size_t from) {
    reader *d = arena_alloc(http_arena(r), sizeof *d);
    if (!d) {
        if (owner) run_cancel(k);
        run_unref(k);
        return false;
    }
    *d = (reader){.k = k, .r = r, .owner = owner, .at = from};
    pthread_mutex_lock(&k->lock);
    d->next = k->readers;
    k->readers = d;
    pthread_mutex_unlock(&k->lock);
    http_own(r, d, end_reader);
    return true;
}

static reader *find_reader(run *k, http_req *r) {
    pthread_mutex_lock(&k->lock);
    reader *d = k->readers;
    while (d && d->r != r) d = d->next;
    pthread_mutex_unlock(&k->lock);
    return d;
}

void run_reply_stream(run *k, http_req *r) {
    http_reply_stream(r, "text/event-stream", pull, find_reader(k, r));
}
void run_reply_whole(run *k, http_req *r) {
    http_reply_later(r, step, find_reader(k, r));
}

/* ── saving ── */

static const char *status_name(const run *k) {
    return run_status_name(k->status);
}

static bool put_row(store_tx *tx, run *k, str data, str blob, bool with_request, error *err) {
    buf extra = {0};
    json_out j = json_begin(&extra);
    json_obj(&j);
    json_key(&j, "input");
    json_put_value(&j, k->input);
    if (with_request) {
        json_key(&j, "request");
        json_put_value(&j, k->request);
    }
    json_end_obj(&j);
    store_row row = {.kind = STR("response"),
                     .owner = k->owner,
                     .id = str_from(k->id.text),
                     .tag = str_from(status_name(k)),
                     .created = k->created,
                     .expires = k->expires,
                     .data = data,
                     .extra = buf_str(&extra),
                     .blob = blob};
    bool ok = (!extra.failed ||
               error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the response.")) &&
              store_put(tx, &row, err);
    buf_deinit(&extra);
    return ok;
}

bool run_save_queued(store_tx *tx, void *ctx, error *err) {
    run *k = ctx;
    pthread_mutex_lock(&k->lock);
    bool ok = true;
    if (k->phase <= RUN_GENERATES &&
        !atomic_load(&k->forgotten)) { /* else its end is written already */
        buf data = {0};
        run_put_response(k, &data, RUN_IN_PROGRESS);
        ok = put_row(tx, k, buf_str(&data), (str){0}, true, err);
        buf_deinit(&data);
    }
    pthread_mutex_unlock(&k->lock);
    return ok;
}

/* Whether its conversation gets a turn out of it: one that failed or was cancelled leaves none, as if it
 * had not been asked. Kept or not, the response's items are the conversation's. */
static bool has_turn(const run *k) {
    return k->conversation.len && (k->status == RUN_COMPLETED || k->status == RUN_INCOMPLETE);
}

/* While phase is RUN_SAVES nothing of the run changes, so no lock is needed here. */
static bool save(store_tx *tx, void *ctx, error *err) {
    run *k = ctx;
    buf blob = {0};
    /* One that was deleted while it ran stays deleted. */
    if (atomic_load(&k->forgotten)) return true;
    if (k->store && k->keep_log && k->log.len) {
        size_t bound = ZSTD_compressBound(k->log.len);
        char *to = buf_reserve(&blob, bound);
        size_t n = to ? ZSTD_compress(to, bound, k->log.ptr, k->log.len, 3) : 0;
        if (!to || ZSTD_isError(n)) {
            buf_deinit(&blob);
            return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the response.");
        }
        blob.len = n;
    }
    bool ok = !k->store || put_row(tx, k, buf_str(&k->final), buf_str(&blob), false, err);
    buf_deinit(&blob);
    /* What it builds on lives as long as it does. */
    for (size_t i = 0; ok && i < json_array_size(k->ancestors); i++)
        ok = store_set_expiry(tx, json_str(json_array_get(k->ancestors, i)), k->expires, err);
    if (ok && has_turn(k) && store_has(tx, "conversation", k->conversation)) {
        json_t *data = json_parse(buf_str(&k->final), err);
        ok = data && conversation_put_items(tx, k->owner, k->conversation, k->input, err) &&
             conversation_put_items(tx, k->owner, k->conversation, json_object_get(data, "output"),
                                    err);
        json_decref(data);
    }
    return ok;
}

static void be_over(run *k) {
    k->phase = RUN_OVER;
    k->n_shown = k->n_events;
    run_release(k);
    if (!k->final.failed && !k->log.failed) return;
    error_set(&k->err, ERR_NO_MEMORY, NULL, "There is no memory for the response.");
}

static void begin_saving(run *k) {
    k->n_shown = k->n_events;
    run_event_end(k); /* the terminal event: not shown yet */
    run_put_response(k, &k->final, k->status);
    if (!(k->store || has_turn(k)) || k->final.failed || k->log.failed) {
        be_over(k);
        return;
    }
    k->phase = RUN_SAVES;
    k->job = store_submit(k->a->store, save, k, wake_run, k);
    if (!k->job) {
        error_set(&k->err, ERR_NO_MEMORY, NULL, "There is no memory for the response.");
        be_over(k);
    }
}

static void end_saving(run *k) {
    error err = {0};
    if (!store_poll(k->job, &err)) return;
    if (error_is_set(&err)) { /* the answer was made, but could not be kept as promised */
        k->err = err;
        run_event_drop_last(k);
        k->status = RUN_FAILED;
        run_event_error(k, &err);
    }
    be_over(k);
}

/* ── driving ── */

/* The summary is written: the answer can begin. */
static void end_compacting(run *k) {
    const error *failed;
    error err = {0};
    if (!choices_drain(k->set)) return;
    if (k->cancelled) {
        k->status = RUN_CANCELLED;
    } else if ((failed = choices_failure(k->set)) || !compaction_apply(k, &err)) {
        k->status = RUN_FAILED;
        k->err = failed ? *failed : err;
    } else {
        choices *before = k->set;
        if (start_turn(k, k->chat, k->wants_logprobs, &err)) {
            choices_free(before);
            k->phase = RUN_GENERATES;
            return;
        }
        k->set = before;
        k->status = RUN_FAILED;
        k->err = err;
    }
    begin_saving(k);
}

static void advance(run *k) {
    pthread_mutex_lock(&k->lock);
    size_t before = k->n_shown;
    run_phase phase = k->phase;
    if (k->phase <= RUN_GENERATES && atomic_load(&k->cancel) && !k->cancelled) {
        k->cancelled = true;
        turn_cancel(k->set->items[0].t);
    }
    if (k->phase == RUN_COMPACTS) end_compacting(k);
    if (k->phase == RUN_GENERATES) {
        turn_event e;
        bool ended = false;
        while (!ended && choice_next(k->set, 0, &e)) {
            run_take_event(k, &e);
            ended = e.kind == TURN_END;
        }
        k->n_shown = k->n_events;
        if (ended) begin_saving(k);
    }
    if (k->phase == RUN_SAVES) end_saving(k);
    if (k->n_shown != before || k->phase != phase) wake_readers(k);
    pthread_mutex_unlock(&k->lock);
}

int runs_advance(runs *s) {
    /* Only this thread removes runs, so the list can be walked without holding the lock. */
    pthread_mutex_lock(&s->lock);
    run *k = s->head;
    pthread_mutex_unlock(&s->lock);
    while (k) {
        if (atomic_exchange(&k->woken, false)) advance(k);
        pthread_mutex_lock(&s->lock);
        run *next = k->next, *over = NULL;
        if (k->phase == RUN_OVER) {
            run **p = &s->head;
            while (*p != k) p = &(*p)->next;
            *p = next;
            over = k;
        }
        pthread_mutex_unlock(&s->lock);
        if (over) run_unref(over);
        k = next;
    }
    if (s->resume && api_now() >= s->resume_at) runs_resume(s);
    return 1000;
}

/* ── after a restart ── */

typedef struct unfinished {
    char ids[64][48];
    size_t n;
} unfinished;

static bool note_unfinished(void *ctx, const store_row *row) {
    unfinished *u = ctx;
    snprintf(u->ids[u->n++], sizeof u->ids[0], "%.*s", STR_ARG(row->id));
    return u->n < sizeof u->ids / sizeof u->ids[0];
}

typedef struct failing {
    store_row row;
    str data;
} failing;

static bool put_failed(store_tx *tx, void *ctx, error *err) {
    failing *f = ctx;
    f->row.tag = STR("failed");
    f->row.data = f->data;
    return store_put(tx, &f->row, err);
}

/* It cannot be taken up again (what it built on is gone, the model is another): that is its outcome. */
static void fail_row(runs *s, const store_row *row, const error *why) {
    json_t *v = json_parse(row->data, NULL);
    buf data = {0};
    error err = {0};
    json_object_set_new(v, "status", json_string("failed"));
    json_object_set_new(v, "error",
                        json_pack("{s:s, s:s}", "code", "server_error", "message", why->message));
    json_out j = json_begin(&data);
    json_put_value(&j, v);
    failing f = {*row, buf_str(&data)};
    if (!v || data.failed || !store_write(s->a->store, put_failed, &f, &err))
        log_line(LOG_WARN, "api", "%.*s stays unfinished: %s", STR_ARG(row->id), err.message);
    buf_deinit(&data);
    json_decref(v);
}

static bool resume_one(runs *s, const char *id) {
    arena mem;
    arena_init(&mem, 0);
    store_row row;
    error err = {0};
    bool go_on = true;
    store_tx *tx = store_begin_read(s->a->store);
    bool found = store_get(tx, "response", str_from(id), &mem, &row, &err);
    store_end_read(tx);
    if (found) {
        json_t *extra = json_parse(row.extra, &err), *request = json_object_get(extra, "request");
        run *k = request ? run_decode(s->a, row.owner, request, id, RUN_TO_ANSWER, &err) : NULL;
        if (!request) error_set(&err, ERR_INTERNAL, NULL, "Its request was not kept.");
        if (k) k->created = row.created;
        if (k && run_start(k, &err)) {
            run_unref(k);
        } else {
            run_free(k);
            if (err.code == ERR_RATE_LIMIT || err.code == ERR_CONVERSATION_LOCKED)
                go_on = false;
            else
                fail_row(s, &row, &err);
        }
        json_decref(extra);
    }
    arena_deinit(&mem);
    return go_on;
}

void runs_resume(runs *s) {
    static const char *const tags[] = {"queued", "in_progress"};
    s->resume = false;
    if (!s->a->store || !store_is_owner(s->a->store)) return;
    for (int t = 0; t < 2; t++) {
        unfinished *u = calloc(1, sizeof *u);
        if (!u) return;
        store_query q = {.kind = "response", .tag = str_from(tags[t])};
        store_tx *tx = store_begin_read(s->a->store);
        store_each(tx, &q, note_unfinished, u, NULL);
        store_end_read(tx);
        for (size_t i = 0; i < u->n && !s->resume; i++) {
            run *live = find_run(s, NULL, str_from(u->ids[i]));
            if (live)
                run_unref(live);
            else if (!resume_one(s, u->ids[i]))
                s->resume = true; /* the queue is full, or its conversation is held */
        }
        if (u->n == sizeof u->ids / sizeof u->ids[0]) s->resume = true;
        free(u);
    }
    s->resume_at = api_now() + 1;
}

runs *runs_new(api *a, error *err) {
    runs *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the server.");
        return NULL;
    }
    s->a = a;
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

void runs_free(runs *s) {
    if (!s) return;
    while (s->head) {
        run *k = s->head;
        s->head = k->next;
        run_free(k); /* its requests are gone by now */
    }
    pthread_mutex_destroy(&s->lock);
    free(s);
}
