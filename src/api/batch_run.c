/* How batches run: below live traffic.
 *
 * A line is run by the same handler that would answer it over HTTP (http_local_open). Its answer becomes
 * a row before anything counts it, and the output files are made of the rows in the order of
 * the lines, in one operation with the batch's last state. So after a crash at any moment every
 * line is in the output once: those with a row are not run again, those without are.
 *
 * One thread drives one batch after the other. A line starts only while nobody waits for the model and
 * a slot is left for whoever comes; when live requests wait, the youngest line is put back.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "api/batches_impl.h"
#include "base/clock.h"
#include "base/log.h"

enum {
    MAX_PUT_BACK = 3, /* then a line runs to its end, whoever waits */
    TICK_MS = 20,
    RETRY_MS = 5000, /* after a full disk, say */
    RETRY_FIRST_MS = 20,
};

/* ── taking one up ── */

static void wake(void *ctx) {
    sem_post(&((batches *)ctx)->more);
}

static void free_job(batches *b) {
    batch_job *k = b->job;
    if (!k) return;
    for (size_t i = 0; i < k->n_active; i++) http_local_close(k->active[i].r);
    if (k->text) munmap(k->text, k->len);
    if (k->fd >= 0) close(k->fd);
    json_decref(k->object);
    free(k->owner);
    free(k->starts);
    free(k->state);
    free(k);
    b->job = NULL;
}

typedef struct oldest {
    char id[48];
} oldest;
static bool note_oldest(void *ctx, const store_row *row) {
    snprintf(((oldest *)ctx)->id, sizeof((oldest *)ctx)->id, "%.*s", STR_ARG(row->id));
    return false;
}

/* One that is under way first, then the oldest new one. */
static bool find_next(batches *b, char id[48]) {
    static const char *const tags[] = {"finalizing", "cancelling", "in_progress", "validating"};
    oldest o = {0};
    store_tx *tx = store_begin_read(b->a->store);
    for (int i = 0; i < 4 && !o.id[0]; i++) {
        store_query q = {.kind = "batch", .tag = str_from(tags[i])};
        store_each(tx, &q, note_oldest, &o, NULL);
    }
    store_end_read(tx);
    memcpy(id, o.id, 48);
    return o.id[0] != 0;
}

static bool note_done(void *ctx, const store_row *row) {
    batch_job *k = ctx;
    if (row->ord < 1 || row->ord > (int64_t)k->n) return true;
    k->state[row->ord - 1] = LINE_DONE;
    if (str_is(row->tag, "ok"))
        k->n_ok++;
    else
        k->n_failed++;
    return true;
}

static bool save_object(store_tx *tx, void *ctx, error *err) {
    batch_job *k = ctx;
    return batch_put_object(tx, k->id, k->object, str_from(k->owner), k->created, k->expires,
                            k->output_seconds, err);
}

static void end_failed(batches *b) {
    batch_job *k = b->job;
    error err = {0};
    batch_set_status(k->object, "failed");
    if (!store_write(b->a->store, save_object, k, &err))
        log_line(LOG_WARN, "api", "batch %s: %s", k->id, err.message);
    free_job(b);
}

static void take_up(batches *b, const char *id) {
    store *s = b->a->store;
    batch_job *k = b->job = calloc(1, sizeof *k);
    if (!k) return;
    k->fd = -1;
    snprintf(k->id, sizeof k->id, "%s", id);
    arena mem;
    arena_init(&mem, 0);
    store_row row, input;
    error err = {0};
    store_tx *tx = store_begin_read(s);
    bool ok = store_get(tx, "batch", str_from(id), &mem, &row, &err);
    if (ok && (k->object = json_parse(row.data, &err))) {
        k->created = row.created;
        k->expires = row.expires;
        k->output_seconds = batch_parse_seconds(row.extra);
        k->owner = str_dup(row.owner);
        ok = k->owner || error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the batch.");
        ok = ok && store_get(tx, "file", json_str(json_object_get(k->object, "input_file_id")),
                             &mem, &input, &err);
    }
    store_end_read(tx);
    ok = ok && batch_open_input(k, s, input.content, &err);
    if (!k->object) {
        log_line(LOG_WARN, "api", "batch %s: %s", id, err.message);
        free_job(b);
    } else if (!ok) {
        json_t *errors = json_array();
        batch_add_error(errors, "invalid_input_file", 0, "input_file_id", err.message);
        json_object_set_new(k->object, "errors",
                            json_pack("{s:s, s:o}", "object", "list", "data", errors));
        end_failed(b);
    } else {
        const char *const keys[] = {"input_tokens", NULL, "output_tokens", NULL, "total_tokens"};
        json_t *usage = json_object_get(k->object, "usage");
        for (int i = 0; i < 5; i++)
            if (keys[i]) k->usage[i] = json_integer_value(json_object_get(usage, keys[i]));
        k->usage[1] = json_integer_value(
            json_object_get(json_object_get(usage, "input_tokens_details"), "cached_tokens"));
        k->usage[3] = json_integer_value(
            json_object_get(json_object_get(usage, "output_tokens_details"), "reasoning_tokens"));
        tx = store_begin_read(s);
        store_query q = {.kind = "line", .parent = str_from(k->id)};
        store_each(tx, &q, note_done, k, NULL);
        store_end_read(tx);
    }
    arena_deinit(&mem);
}

/* ── lines ── */

typedef struct answered {
    size_t n;
    bool ok;
    buf data;
} answered;

typedef struct save_lines {
    batch_job *k;
    answered *lines;
    size_t n;
    bool cancelled;
} save_lines;

/* The rows of some lines and the batch with its new counts, at once. A cancel that came meanwhile stays. */
static bool put_lines(store_tx *tx, void *ctx, error *err) {
    save_lines *s = ctx;
    batch_job *k = s->k;
    for (size_t i = 0; i < s->n; i++) {
        char id[STORE_MAX_ID];
        snprintf(id, sizeof id, "batch_req_%s_%zu", k->id + 6, s->lines[i].n + 1);
        store_row row = {.kind = STR("line"),
                         .owner = str_from(k->owner),
                         .id = str_from(id),
                         .parent = str_from(k->id),
                         .tag = s->lines[i].ok ? STR("ok") : STR("error"),
                         .ord = (int64_t)s->lines[i].n + 1,
                         .created = api_now(),
                         .data = buf_str(&s->lines[i].data)};
        if (!store_put(tx, &row, err)) return false;
    }
    arena mem;
    arena_init(&mem, 0);
    store_row row;
    bool ok = store_get(tx, "batch", str_from(k->id), &mem, &row, err);
    s->cancelled = ok && str_is(row.tag, "cancelling");
    json_t *object = json_copy(k->object);
    if (s->cancelled) {
        json_t *now = json_parse(row.data, NULL);
        json_object_set_new(object, "status", json_string("cancelling"));
        json_object_set(object, "cancelling_at", json_object_get(now, "cancelling_at"));
        json_decref(now);
    }
    ok = ok && batch_put_object(tx, k->id, object, str_from(k->owner), k->created, k->expires,
                                k->output_seconds, err);
    json_decref(object);
    arena_deinit(&mem);
    return ok;
}

static void count_usage(batch_job *k, json_t *answer) {
    json_t *u = json_object_get(answer, "usage");
    bool is_chat = json_object_get(u, "prompt_tokens") != NULL;
    int64_t in = json_integer_value(json_object_get(u, is_chat ? "prompt_tokens" : "input_tokens")),
            out = json_integer_value(
                json_object_get(u, is_chat ? "completion_tokens" : "output_tokens"));
    json_t *in_details =
               json_object_get(u, is_chat ? "prompt_tokens_details" : "input_tokens_details"),
           *out_details =
               json_object_get(u, is_chat ? "completion_tokens_details" : "output_tokens_details");
    k->usage[0] += in;
    k->usage[1] += json_integer_value(json_object_get(in_details, "cached_tokens"));
    k->usage[2] += out;
    k->usage[3] += json_integer_value(json_object_get(out_details, "reasoning_tokens"));
    k->usage[4] += in + out;
}

static bool is_locked(int status, str body) {
    json_t *v = status == 400 ? json_parse(body, NULL) : NULL;
    str code = json_str(json_object_get(json_object_get(v, "error"), "code"));
    bool yes = str_is(code, "conversation_locked");
    json_decref(v);
    return yes;
}

bool batch_line_refused(unsigned char *state, int status, bool is_locked, int64_t *wait_ms) {
    bool is_busy = status == 503;
    if (status != 429 && !is_busy && !is_locked) return false;
    if (is_busy || !(*state & LINE_REFUSED)) {
        if ((*state & LINE_REFUSED) + 1 >= BATCH_MAX_REFUSALS) return false;
        (*state)++;
    }
    *wait_ms = RETRY_FIRST_MS << (*state & LINE_REFUSED);
    if (*wait_ms > RETRY_MS) *wait_ms = RETRY_MS;
    return true;
}

/* Takes what is answered; false when it could not be stored (it is tried again later). */
static bool collect(batches *b) {
    batch_job *k = b->job;
    answered lines[BATCH_MAX_ACTIVE];
    save_lines s = {.k = k, .lines = lines};
    for (size_t i = 0; i < k->n_active; i++) {
        batch_line *l = &k->active[i];
        int status;
        str body;
        if (!http_local_poll(l->r, &status, &body)) continue;
        int64_t wait_ms;
        k->state[l->n] &= (unsigned char)~LINE_ACTIVE;
        if (batch_line_refused(&k->state[l->n], status, is_locked(status, body), &wait_ms)) {
            k->retry_ns = clock_ns() + wait_ms * 1000000;
            if (l->n < k->next) k->next = l->n;
        } else {
            answered *out = &lines[s.n++];
            *out = (answered){.n = l->n, .ok = status < 400};
            json_t *answer = json_parse(body, NULL);
            if (answer && out->ok) count_usage(k, answer);
            buf compact = {0};
            json_out j = json_begin(&compact);
            if (answer)
                json_put_value(&j, answer);
            else
                json_put_null(&j);
            batch_render_line(k, l->n, status, http_request_id(l->r), buf_str(&compact), NULL, NULL,
                              &out->data);
            buf_deinit(&compact);
            json_decref(answer);
        }
        http_local_close(l->r);
        *l = k->active[--k->n_active];
        i--;
    }
    if (!s.n) return true;
    for (size_t i = 0; i < s.n; i++) {
        k->n_ok += lines[i].ok;
        k->n_failed += !lines[i].ok;
    }
    batch_set_counts(k);
    error err = {0};
    bool ok = store_write(b->a->store, put_lines, &s, &err);
    for (size_t i = 0; i < s.n; i++) {
        k->state[lines[i].n] &= (unsigned char)~LINE_ACTIVE;
        if (ok)
            k->state[lines[i].n] = LINE_DONE;
        else { /* as if it had not run */
            k->n_ok -= lines[i].ok;
            k->n_failed -= !lines[i].ok;
            if (lines[i].n < k->next) k->next = lines[i].n;
        }
        buf_deinit(&lines[i].data);
    }
    if (!ok) log_line(LOG_WARN, "api", "batch %s: %s", k->id, err.message);
    if (s.cancelled) atomic_store(&b->look, true);
    return ok;
}

static void start_line(batches *b, size_t n) {
    batch_job *k = b->job;
    json_t *line = json_parse(batch_get_line(k, n), NULL), *body = json_object_get(line, "body");
    buf text = {0};
    json_out j = json_begin(&text);
    if (json_is_true(json_object_get(body, "stream"))) json_object_del(body, "stream");
    json_object_del(body, "stream_options");
    json_put_value(&j, body);
    http_req *r = text.failed
                      ? NULL
                      : http_local_open(b->a->http, "POST",
                                        json_string_value(json_object_get(k->object, "endpoint")),
                                        buf_str(&text), str_from(k->owner), wake, b);
    if (r) {
        k->state[n] |= LINE_ACTIVE;
        k->active[k->n_active++] = (batch_line){n, r};
        wake(b); /* it may be answered already */
    }
    buf_deinit(&text);
    json_decref(line);
}

/* Live requests wait: the line that was started last makes room. */
static void put_back(batches *b) {
    batch_job *k = b->job;
    for (size_t i = k->n_active; i-- > 0;) {
        unsigned char *state = &k->state[k->active[i].n];
        if ((*state & LINE_PUT_BACK) / ONE_PUT_BACK >= MAX_PUT_BACK) continue;
        http_local_close(k->active[i].r);
        *state = (unsigned char)((*state & ~LINE_ACTIVE) + ONE_PUT_BACK);
        if (k->active[i].n < k->next) k->next = k->active[i].n;
        k->active[i] = k->active[--k->n_active];
        return;
    }
}

static void start_lines(batches *b) {
    batch_job *k = b->job;
    engine_stats e = engine_get_stats(b->a->engine);
    size_t slots = (size_t)engine_get_config(b->a->engine)->n_parallel;
    size_t limit = slots > 1 ? slots - 1 : 1;
    if (limit > BATCH_MAX_ACTIVE) limit = BATCH_MAX_ACTIVE;
    b->n_waited = e.n_waiting > 0 ? b->n_waited + 1 : 0;
    if (b->n_waited > 1) {
        put_back(b);
        b->n_waited = 0;
    }
    if (e.n_waiting > 0) return;
    /* What runs, or was started and is not seen running yet. */
    size_t busy = (size_t)e.n_running > k->n_active ? (size_t)e.n_running : k->n_active;
    bool waits = clock_ns() < k->retry_ns;
    size_t held = k->n;
    for (; k->next < k->n && busy < limit; k->next++) {
        unsigned char state = k->state[k->next];
        if (state & (LINE_DONE | LINE_ACTIVE)) continue;
        if (waits && (state & LINE_REFUSED)) {
            if (k->next < held) held = k->next;
            continue;
        }
        start_line(b, k->next);
        busy++;
    }
    if (held < k->next) k->next = held;
}

/* ── the end ── */

typedef struct ending {
    batch_job *k;
    batch_files files;
} ending;

static bool put_ending(store_tx *tx, void *ctx, error *err) {
    ending *e = ctx;
    return batch_files_put(tx, &e->files, err) &&
           store_delete_children(tx, "line", str_from(e->k->id), err) && save_object(tx, e->k, err);
}

/* status: "completed", "expired" or "cancelled". The job is gone afterwards; false: to be taken up again. */
static bool finish(batches *b, const char *status) {
    store *s = b->a->store;
    batch_job *k = b->job;
    error err = {0};
    for (size_t i = 0; i < k->n_active; i++) http_local_close(k->active[i].r);
    k->n_active = 0;
    bool expired = strcmp(status, "expired") == 0;
    if (strcmp(status, "completed") == 0 && strcmp(batch_get_status(k), "finalizing") != 0) {
        batch_set_status(k->object, "finalizing");
        save_lines nothing = {.k = k};
        if (!store_write(s, put_lines, &nothing, &err)) goto failed;
        if (nothing.cancelled) status = "cancelled";
    }
    ending e = {.k = k};
    bool ok = batch_files_write(s, k, expired, &e.files, &err);
    if (ok) {
        json_t *before = json_deep_copy(k->object);
        batch_set_counts(k);
        batch_set_status(k->object, status);
        if (e.files.has_output)
            json_object_set_new(k->object, "output_file_id", json_string(e.files.output.id.text));
        if (e.files.has_errors)
            json_object_set_new(k->object, "error_file_id", json_string(e.files.errors.id.text));
        ok = store_write(s, put_ending, &e, &err);
        if (!ok) {
            json_decref(k->object);
            k->object = before;
        } else
            json_decref(before);
    }
    if (ok) {
        free_job(b);
        atomic_store(&b->look, true);
        return true;
    }
    batch_files_drop(s, &e.files);
failed: /* a full disk, say: tried again after a while */
    log_line(LOG_WARN, "api", "batch %s cannot be finished yet: %s", k->id, err.message);
    free_job(b);
    return false;
}

/* ── driving ── */

/* A cancel is a change of the row by somebody else. */
static bool was_cancelled(batches *b) {
    arena mem;
    arena_init(&mem, 0);
    store_row row;
    store_tx *tx = store_begin_read(b->a->store);
    bool yes = store_get(tx, "batch", str_from(b->job->id), &mem, &row, NULL) &&
               str_is(row.tag, "cancelling");
    if (yes) {
        json_t *now = json_parse(row.data, NULL);
        if (now) {
            json_object_set_new(b->job->object, "status", json_string("cancelling"));
            json_object_set(b->job->object, "cancelling_at", json_object_get(now, "cancelling_at"));
        }
        json_decref(now);
    }
    store_end_read(tx);
    arena_deinit(&mem);
    return yes;
}

static void begin(batches *b) {
    batch_job *k = b->job;
    json_t *errors = json_array();
    batch_validate(k, errors);
    if (json_array_size(errors)) {
        json_object_set_new(k->object, "errors",
                            json_pack("{s:s, s:o}", "object", "list", "data", errors));
        end_failed(b);
        return;
    }
    json_decref(errors);
    batch_set_status(k->object, "in_progress");
    batch_set_counts(k);
    save_lines nothing = {.k = k};
    error err = {0};
    if (!store_write(b->a->store, put_lines, &nothing, &err)) {
        log_line(LOG_WARN, "api", "batch %s cannot begin yet: %s", k->id, err.message);
        free_job(b);
    } else if (nothing.cancelled)
        atomic_store(&b->look, true);
}

/* Returns in how many milliseconds to look again. */
static int advance(batches *b) {
    char id[48];
    bool look = atomic_exchange(&b->look, false);
    if (!b->job) {
        if (!find_next(b, id)) return 10000;
        take_up(b, id);
        if (!b->job) return RETRY_MS;
        if (strcmp(batch_get_status(b->job), "validating") == 0) begin(b);
        if (!b->job) return RETRY_MS;
        look = true;
    }
    batch_job *k = b->job;
    if (!collect(b)) {
        free_job(b); /* taken up again from what is stored */
        return RETRY_MS;
    }
    const char *end = NULL;
    if (look && (strcmp(batch_get_status(k), "cancelling") == 0 || was_cancelled(b)))
        end = "cancelled";
    else if (k->n_ok + k->n_failed == (int64_t)k->n)
        end = "completed";
    else if (api_now() >= json_integer_value(json_object_get(k->object, "expires_at")))
        end = "expired";
    if (end) return finish(b, end) ? 0 : RETRY_MS;
    start_lines(b);
    return TICK_MS;
}

static void *work(void *arg) {
    batches *b = arg;
    while (!atomic_load(&b->closing)) {
        worker_sleep(&b->more, advance(b));
    }
    return NULL;
}

batches *batches_new(api *a, error *err) {
    batches *b = calloc(1, sizeof *b);
    if (!b) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the server.");
        return NULL;
    }
    b->a = a;
    sem_init(&b->more, 0, 0);
    return b;
}

void batches_start(batches *b) {
    if (b->a->store && store_is_owner(b->a->store))
        b->has_thread = pthread_create(&b->thread, NULL, work, b) == 0;
}

void batches_stop(batches *b) {
    atomic_store(&b->closing, true);
    sem_post(&b->more);
    if (b->has_thread) pthread_join(b->thread, NULL);
    b->has_thread = false;
    free_job(b);
}

void batches_free(batches *b) {
    if (!b) return;
    free_job(b);
    sem_destroy(&b->more);
    free(b);
}
