/* /v1/batches: files of requests that run below live traffic.
 *
 * A line is run by the same handler that would answer it over HTTP (http_local_open). Its answer becomes
 * a row before anything counts it, and the output files are made of the rows in the order of
 * the lines, in one operation with the batch's last state. So after a crash at any moment every
 * line is in the output once: those with a row are not run again, those without are.
 *
 * One thread drives one batch after the other. A line starts only while nobody waits for the model and
 * a slot is left for whoever comes; when live requests wait, the youngest line is put back.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/files.h"
#include "api/worker.h"
#include "base/log.h"

enum {
    MAX_LINES = 50000,
    MAX_ERRORS = 100,
    MAX_LINE = 16 << 20,
    MAX_ACTIVE = 256,
    MAX_PUT_BACK = 3, /* then a line runs to its end, whoever waits */
    PAGE = 200,
    TICK_MS = 20,
    RETRY_MS = 5000, /* after a full disk, say */
    MAX_LIST = 100,
    WINDOW_SECONDS = 24 * 3600,
};

static const char *const endpoints[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings",
                                        "/v1/responses",        "/v1/moderations", NULL};
static const char *const windows[] = {"24h", NULL};

typedef struct active_line {
    size_t n; /* its number, from 0 */
    http_req *r;
} active_line;

typedef struct job {
    char id[48];
    char *owner;
    json_t *object; /* as clients see it */
    int64_t created, expires, output_seconds;
    int fd;
    char *text; /* the input file, mapped */
    size_t len;
    size_t *starts; /* [n][2]: where line i begins and ends */
    size_t n;
    unsigned char *state; /* bit 7: has its row; else how often it was put back */
    size_t next;          /* no line before it is undone and idle */
    int64_t n_ok, n_failed;
    active_line active[MAX_ACTIVE];
    size_t n_active;
    int64_t usage[5]; /* input, cached, output, reasoning, total */
} job;

enum { LINE_DONE = 0x80, LINE_ACTIVE = 0x40, LINE_PUT_BACK = 0x3F };

struct batches {
    api *a;
    pthread_t thread;
    bool has_thread;
    atomic_bool closing, look;
    sem_t more;
    job *job;
    int n_waited; /* ticks with live requests waiting */
};

/* ── the object ── */

static const char *get_status(const job *b) {
    return json_string_value(json_object_get(b->object, "status"));
}

static int64_t parse_seconds(str extra) {
    char digits[24];
    snprintf(digits, sizeof digits, "%.*s", STR_ARG(extra));
    return strtoll(digits, NULL, 10);
}

/* status and the time it began */
static void set_status(json_t *object, const char *status) {
    char key[40];
    snprintf(key, sizeof key, "%s_at", status);
    json_object_set_new(object, "status", json_string(status));
    json_object_set_new(object, key, json_integer(api_now()));
}

static void set_counts(job *b) {
    json_object_set_new(b->object, "request_counts",
                        json_pack("{s:I, s:I, s:I}", "total", (json_int_t)b->n, "completed",
                                  (json_int_t)b->n_ok, "failed", (json_int_t)b->n_failed));
    json_object_set_new(
        b->object, "usage",
        json_pack("{s:I, s:{s:I}, s:I, s:{s:I}, s:I}", "input_tokens", (json_int_t)b->usage[0],
                  "input_tokens_details", "cached_tokens", (json_int_t)b->usage[1], "output_tokens",
                  (json_int_t)b->usage[2], "output_tokens_details", "reasoning_tokens",
                  (json_int_t)b->usage[3], "total_tokens", (json_int_t)b->usage[4]));
}

/* extra: seconds its output files live, or 0. */
static bool put_object(store_tx *tx, const char *id, json_t *object, str owner, int64_t created,
                       int64_t expires, int64_t output_seconds, error *err) {
    buf data = {0};
    char seconds[24];
    snprintf(seconds, sizeof seconds, "%lld", (long long)output_seconds);
    json_out j = json_begin(&data);
    json_put_value(&j, object);
    store_row row = {.kind = STR("batch"),
                     .id = str_from(id),
                     .owner = owner,
                     .extra = str_from(seconds),
                     .tag = json_str(json_object_get(object, "status")),
                     .created = created,
                     .expires = expires,
                     .data = buf_str(&data)};
    bool ok = (!data.failed ||
               error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the batch.")) &&
              store_put(tx, &row, err);
    buf_deinit(&data);
    return ok;
}

/* ── create ── */

typedef struct batch_params {
    str input_file;
    int endpoint, window;
    json_t *metadata;
    int64_t output_seconds;
} batch_params;

static bool keep_metadata(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    ((batch_params *)out)->metadata = v;
    return gen_decode_metadata(c, v, path, NULL, err);
}

static bool decode_expiry(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    return file_decode_expiry(v, path, &((batch_params *)out)->output_seconds, err);
}

static const field fields[] = {
    {.name = "input_file_id",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(batch_params, input_file),
     .doc = "a file with purpose batch: JSON lines, at most 50,000"},
    {.name = "endpoint",
     .kind = FIELD_ENUM,
     .required = true,
     .offset = offsetof(batch_params, endpoint),
     .values = endpoints,
     .doc = "what every line asks"},
    {.name = "completion_window",
     .kind = FIELD_ENUM,
     .required = true,
     .offset = offsetof(batch_params, window),
     .values = windows,
     .doc = "what is not answered by then is in the error file"},
    {.name = "metadata", .kind = FIELD_CUSTOM, .decode = keep_metadata, .doc = "up to 16 pairs"},
    {.name = "output_expires_after",
     .kind = FIELD_CUSTOM,
     .decode = decode_expiry,
     .doc = "{anchor, seconds}: the output and error files are gone so long after they were made"},
};
const field_table batch_fields = {fields, sizeof fields / sizeof fields[0]};

typedef struct creation {
    api_id id;
    str owner;
    json_t *object;
    int64_t created, expires, output_seconds;
} creation;

static void drop_json(void *v) {
    json_decref(v);
}

static bool save_creation(store_tx *tx, void *ctx, error *err) {
    creation *c = ctx;
    return put_object(tx, c->id.text, c->object, c->owner, c->created, c->expires,
                      c->output_seconds, err);
}

static void reply_object(http_req *r, json_t *object) {
    buf body = {0};
    json_out j = json_begin(&body);
    json_put_value(&j, object);
    http_reply(r, 200, "application/json", &body);
}

static void look_again(api *a) {
    batches *b = worker_batches(a->worker);
    atomic_store(&b->look, true);
    sem_post(&b->more);
}

static void say_created(api *a, http_req *r, void *ctx) {
    look_again(a);
    reply_object(r, ((creation *)ctx)->object);
}

static bool create(api *a, http_req *r, creation *k, error *err) {
    batch_params p = {0};
    field_ctx c = {.mem = http_arena(r)};
    store_row input;
    error no_file = {0};
    json_t *body;
    if (!api_get_store(a, err) || !(body = api_parse_body(r, err)) ||
        !fields_decode(&c, body, fields, batch_fields.n, "", &p, err))
        return false;
    if (!store_is_owner(a->store))
        return error_set(err, ERR_OVERLOADED, NULL,
                         "Another process uses this data directory and runs its batches.");
    if (!api_get_row(a, r, "file", p.input_file, "file", &input, &no_file))
        return error_set(err, no_file.code == ERR_NOT_FOUND ? ERR_INVALID_VALUE : no_file.code,
                         "input_file_id", "%s", no_file.message);
    if (!str_is(input.tag, "batch"))
        return error_set(err, ERR_INVALID_VALUE, "input_file_id",
                         "The file's purpose is '%.*s'; a batch needs one with purpose 'batch'.",
                         STR_ARG(input.tag));
    k->id = api_make_id("batch_");
    k->owner = http_user(r);
    k->output_seconds = p.output_seconds;
    k->created = api_now();
    k->expires = a->o.store_seconds > 0 ? k->created + a->o.store_seconds + WINDOW_SECONDS : 0;
    k->object = json_pack("{s:s, s:s, s:s, s:n, s:n, s:s%, s:s, s:s, s:n, s:n, s:I, s:n, s:I}",
                          "id", k->id.text, "object", "batch", "endpoint", endpoints[p.endpoint],
                          "model", "errors", "input_file_id", p.input_file.ptr, p.input_file.len,
                          "completion_window", "24h", "status", "validating", "output_file_id",
                          "error_file_id", "created_at", (json_int_t)k->created, "in_progress_at",
                          "expires_at", (json_int_t)(k->created + WINDOW_SECONDS));
    static const char *const times[] = {"finalizing_at", "completed_at",  "failed_at",
                                        "expired_at",    "cancelling_at", "cancelled_at"};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        json_object_set_new(k->object, times[i], json_null());
    json_object_set_new(k->object, "request_counts",
                        json_pack("{s:i, s:i, s:i}", "total", 0, "completed", 0, "failed", 0));
    json_object_set(k->object, "metadata", p.metadata ? p.metadata : json_null());
    http_own(r, k->object, drop_json);
    return true;
}

void route_batch_create(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    creation *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (k && create(a, r, k, &err))
        api_write(a, r, save_creation, k, say_created);
    else
        http_reply_error(r, &err);
}

void route_batch_list(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    list_query q;
    list_rows rows = {.kind = "batch"};
    if (list_parse(r, 20, MAX_LIST, true, &q, &err))
        list_reply_rows(a, r, &q, &rows);
    else
        http_reply_error(r, &err);
}

void route_batch_get(api *a, http_req *r, str arg) {
    error err = {0};
    store_row row;
    if (api_get_row(a, r, "batch", arg, "batch", &row, &err))
        api_reply_data(r, row.data);
    else
        http_reply_error(r, &err);
}

/* ── cancel ── */

typedef struct cancelling {
    str id;
    buf data;
} cancelling;

static void end_cancelling(void *ctx) {
    buf_deinit(&((cancelling *)ctx)->data);
}

/* Read and written in one operation: the batch may be about to end. */
static bool save_cancelling(store_tx *tx, void *ctx, error *err) {
    cancelling *c = ctx;
    arena mem;
    arena_init(&mem, 0);
    store_row row;
    json_t *v = NULL;
    bool ok = store_get(tx, "batch", c->id, &mem, &row, err) && (v = json_parse(row.data, err));
    if (ok && (str_is(row.tag, "validating") || str_is(row.tag, "in_progress"))) {
        set_status(v, "cancelling");
        ok = put_object(tx, row.id.ptr, v, row.owner, row.created, row.expires,
                        parse_seconds(row.extra), err);
    } else if (ok && !str_is(row.tag, "cancelling") && !str_is(row.tag, "cancelled"))
        ok = error_set(err, ERR_CONFLICT, "batch_id", "Cannot cancel a batch with status '%.*s'.",
                       STR_ARG(row.tag));
    buf_clear(&c->data);
    json_out j = json_begin(&c->data);
    if (ok) json_put_value(&j, v);
    json_decref(v);
    arena_deinit(&mem);
    return ok;
}

static void say_cancelling(api *a, http_req *r, void *ctx) {
    look_again(a);
    api_reply_data(r, buf_str(&((cancelling *)ctx)->data));
}

void route_batch_cancel(api *a, http_req *r, str arg) {
    error err = {0};
    store_row row;
    cancelling *c = arena_alloc(http_arena(r), sizeof *c);
    if (!c) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (!c || !api_get_row(a, r, "batch", arg, "batch", &row, &err)) {
        http_reply_error(r, &err);
        return;
    }
    c->id = row.id;
    http_own(r, c, end_cancelling);
    api_write(a, r, save_cancelling, c, say_cancelling);
}

/* ── taking one up ── */

static void wake(void *ctx) {
    sem_post(&((batches *)ctx)->more);
}

static void free_job(batches *b) {
    job *k = b->job;
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
    job *k = ctx;
    if (row->ord < 1 || row->ord > (int64_t)k->n) return true;
    k->state[row->ord - 1] = LINE_DONE;
    if (str_is(row->tag, "ok"))
        k->n_ok++;
    else
        k->n_failed++;
    return true;
}

static bool save_object(store_tx *tx, void *ctx, error *err) {
    job *k = ctx;
    return put_object(tx, k->id, k->object, str_from(k->owner), k->created, k->expires,
                      k->output_seconds, err);
}

static void end_failed(batches *b) {
    job *k = b->job;
    error err = {0};
    set_status(k->object, "failed");
    if (!store_write(b->a->store, save_object, k, &err))
        log_line(LOG_WARN, "api", "batch %s: %s", k->id, err.message);
    free_job(b);
}

static void add_error(json_t *list, const char *code, size_t line, const char *param,
                      const char *message) {
    if (json_array_size(list) >= MAX_ERRORS) return;
    json_t *e = json_pack("{s:s, s:s}", "code", code, "message", message);
    json_object_set_new(e, "line", line ? json_integer((json_int_t)line) : json_null());
    json_object_set_new(e, "param", param ? json_string(param) : json_null());
    json_array_append_new(list, e);
}

static bool open_input(job *k, store *s, str hash, error *err) {
    struct stat st;
    k->fd = store_open_content(s, hash, err);
    if (k->fd < 0) return false;
    if (fstat(k->fd, &st) != 0) return error_set(err, ERR_IO, NULL, "The input cannot be read.");
    k->len = (size_t)st.st_size;
    if (k->len == 0) return true;
    void *text = mmap(NULL, k->len, PROT_READ, MAP_PRIVATE, k->fd, 0);
    if (text == MAP_FAILED)
        return error_set(err, ERR_NO_MEMORY, NULL, "The input cannot be mapped.");
    k->text = text;
    return true;
}

/* Lines that hold something. */
static bool index_lines(job *k, error *err) {
    size_t cap = 0;
    for (size_t at = 0; at < k->len;) {
        const char *end = memchr(k->text + at, '\n', k->len - at);
        size_t stop = end ? (size_t)(end - k->text) : k->len;
        if (str_trim(str_make(k->text + at, stop - at)).len) {
            if (k->n + 1 >= cap) {
                cap = cap ? cap * 2 : 64;
                size_t *grown = realloc(k->starts, cap * 2 * sizeof *grown);
                if (!grown)
                    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the batch.");
                k->starts = grown;
            }
            if (k->n == MAX_LINES)
                return error_set(err, ERR_ARRAY_ABOVE_MAX, NULL, "A batch has at most %d requests.",
                                 MAX_LINES);
            k->starts[2 * k->n] = at;
            k->starts[2 * k->n + 1] = stop;
            k->n++;
        }
        at = stop + 1;
    }
    k->state = calloc(k->n ? k->n : 1, 1);
    return k->state || error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the batch.");
}

static str get_line(const job *k, size_t n) {
    return str_trim(str_make(k->text + k->starts[2 * n], k->starts[2 * n + 1] - k->starts[2 * n]));
}

/* Every line is a request of this batch's endpoint with an id of its own; what the request itself
 * holds is its handler's business. */
static void validate(job *k, json_t *errors) {
    json_t *seen = json_object();
    const char *endpoint = json_string_value(json_object_get(k->object, "endpoint"));
    if (k->n == 0) add_error(errors, "empty_file", 0, NULL, "The input file has no requests.");
    for (size_t i = 0; i < k->n && json_array_size(errors) < MAX_ERRORS; i++) {
        error err = {0};
        str line = get_line(k, i);
        json_t *v = line.len <= MAX_LINE ? json_parse(line, &err) : NULL;
        str id = json_str(json_object_get(v, "custom_id"));
        json_t *body = json_object_get(v, "body");
        if (line.len > MAX_LINE)
            add_error(errors, "request_too_large", i + 1, NULL, "This line is too long.");
        else if (!v)
            add_error(errors, "invalid_json_line", i + 1, NULL,
                      "This line is not parseable as valid JSON.");
        else if (!json_is_object(v))
            add_error(errors, "invalid_request", i + 1, NULL, "This line is not a JSON object.");
        else if (!id.len)
            add_error(errors, "missing_required_parameter", i + 1, "custom_id",
                      "Missing required parameter: 'custom_id'.");
        else if (json_object_get(seen, id.ptr))
            add_error(errors, "duplicate_custom_id", i + 1, "custom_id",
                      "This custom_id was used by an earlier line.");
        else if (!str_is(json_str(json_object_get(v, "method")), "POST"))
            add_error(errors, "invalid_method", i + 1, "method", "The method must be POST.");
        else if (!str_is(json_str(json_object_get(v, "url")), endpoint))
            add_error(errors, "mismatched_endpoint", i + 1, "url",
                      "The url is not the batch's endpoint.");
        else if (!json_is_object(body))
            add_error(errors, "missing_required_parameter", i + 1, "body",
                      "Missing required parameter: 'body'.");
        else if (i == 0)
            json_object_set_new(k->object, "model",
                                json_is_string(json_object_get(body, "model"))
                                    ? json_incref(json_object_get(body, "model"))
                                    : json_null());
        if (id.len) json_object_set_new(seen, id.ptr, json_true());
        json_decref(v);
    }
    json_decref(seen);
}

static void take_up(batches *b, const char *id) {
    store *s = b->a->store;
    job *k = b->job = calloc(1, sizeof *k);
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
        k->output_seconds = parse_seconds(row.extra);
        k->owner = str_dup(row.owner);
        ok = k->owner || error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the batch.");
        ok = ok && store_get(tx, "file", json_str(json_object_get(k->object, "input_file_id")),
                             &mem, &input, &err);
    }
    store_end_read(tx);
    ok = ok && open_input(k, s, input.content, &err) && index_lines(k, &err);
    if (!k->object) {
        log_line(LOG_WARN, "api", "batch %s: %s", id, err.message);
        free_job(b);
    } else if (!ok) {
        json_t *errors = json_array();
        add_error(errors, "invalid_input_file", 0, "input_file_id", err.message);
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
    job *k;
    answered *lines;
    size_t n;
    bool cancelled;
} save_lines;

/* The rows of some lines and the batch with its new counts, at once. A cancel that came meanwhile stays. */
static bool put_lines(store_tx *tx, void *ctx, error *err) {
    save_lines *s = ctx;
    job *k = s->k;
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
    ok = ok && put_object(tx, k->id, object, str_from(k->owner), k->created, k->expires,
                          k->output_seconds, err);
    json_decref(object);
    arena_deinit(&mem);
    return ok;
}

static void count_usage(job *k, json_t *answer) {
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

/* One line of the output or error file. */
static void render_line(const job *k, size_t n, int status, const char *request_id, str body,
                        const char *code, const char *message, buf *out) {
    json_t *line = json_parse(get_line(k, n), NULL);
    json_out j = json_begin(out);
    json_obj(&j);
    char id[64];
    snprintf(id, sizeof id, "batch_req_%s_%zu", k->id + 6, n + 1);
    json_kv_cstr(&j, "id", id);
    json_kv_str(&j, "custom_id", json_str(json_object_get(line, "custom_id")));
    json_key(&j, "response");
    if (request_id) {
        json_obj(&j);
        json_kv_int(&j, "status_code", status);
        json_kv_cstr(&j, "request_id", request_id);
        json_key(&j, "body");
        json_put_raw(&j, body);
        json_end_obj(&j);
    } else
        json_put_null(&j);
    json_key(&j, "error");
    if (code) {
        json_obj(&j);
        json_kv_cstr(&j, "code", code);
        json_kv_cstr(&j, "message", message);
        json_end_obj(&j);
    } else
        json_put_null(&j);
    json_end_obj(&j);
    json_decref(line);
}

static bool is_locked(int status, str body) {
    json_t *v = status == 400 ? json_parse(body, NULL) : NULL;
    str code = json_str(json_object_get(json_object_get(v, "error"), "code"));
    bool yes = str_is(code, "conversation_locked");
    json_decref(v);
    return yes;
}

/* Takes what is answered; false when it could not be stored (it is tried again later). */
static bool collect(batches *b) {
    job *k = b->job;
    answered lines[MAX_ACTIVE];
    save_lines s = {.k = k, .lines = lines};
    for (size_t i = 0; i < k->n_active; i++) {
        active_line *l = &k->active[i];
        int status;
        str body;
        if (!http_local_poll(l->r, &status, &body)) continue;
        /* no room just now, or another line is answered in the same conversation */
        if (status == 429 || status == 503 || is_locked(status, body)) {
            k->state[l->n] &= (unsigned char)~LINE_ACTIVE;
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
            render_line(k, l->n, status, http_request_id(l->r), buf_str(&compact), NULL, NULL,
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
    set_counts(k);
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
    job *k = b->job;
    json_t *line = json_parse(get_line(k, n), NULL), *body = json_object_get(line, "body");
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
        k->active[k->n_active++] = (active_line){n, r};
        wake(b); /* it may be answered already */
    }
    buf_deinit(&text);
    json_decref(line);
}

/* Live requests wait: the line that was started last makes room. */
static void put_back(batches *b) {
    job *k = b->job;
    for (size_t i = k->n_active; i-- > 0;) {
        unsigned char *state = &k->state[k->active[i].n];
        if ((*state & LINE_PUT_BACK) >= MAX_PUT_BACK) continue;
        http_local_close(k->active[i].r);
        *state = (unsigned char)((*state & LINE_PUT_BACK) + 1);
        if (k->active[i].n < k->next) k->next = k->active[i].n;
        k->active[i] = k->active[--k->n_active];
        return;
    }
}

static void start_lines(batches *b) {
    job *k = b->job;
    engine_stats e = engine_get_stats(b->a->engine);
    size_t slots = (size_t)engine_get_config(b->a->engine)->n_parallel;
    size_t limit = slots > 1 ? slots - 1 : 1;
    if (limit > MAX_ACTIVE) limit = MAX_ACTIVE;
    b->n_waited = e.n_waiting > 0 ? b->n_waited + 1 : 0;
    if (b->n_waited > 1) {
        put_back(b);
        b->n_waited = 0;
    }
    if (e.n_waiting > 0) return;
    /* What runs, or was started and is not seen running yet. */
    size_t busy = (size_t)e.n_running > k->n_active ? (size_t)e.n_running : k->n_active;
    for (; k->next < k->n && busy < limit; k->next++) {
        if (k->state[k->next] & (LINE_DONE | LINE_ACTIVE)) continue;
        start_line(b, k->next);
        busy++;
    }
}

/* ── the end ── */

typedef struct ending {
    job *k;
    const char *status;
    file_draft output, errors;
    bool has_output, has_errors;
} ending;

static bool put_ending(store_tx *tx, void *ctx, error *err) {
    ending *e = ctx;
    return (!e->has_output || file_put(tx, &e->output, err)) &&
           (!e->has_errors || file_put(tx, &e->errors, err)) &&
           store_delete_children(tx, "line", str_from(e->k->id), err) && save_object(tx, e->k, err);
}

typedef struct page {
    buf text;
    char last[STORE_MAX_ID + 1];
    int left;
} page;
static bool add_to_page(void *ctx, const store_row *row) {
    page *p = ctx;
    buf_append_str(&p->text, row->data);
    buf_append_char(&p->text, '\n');
    snprintf(p->last, sizeof p->last, "%.*s", STR_ARG(row->id));
    return --p->left > 0;
}

/* The rows of one tag, in order, as a file; page by page, so that readers are not held up. */
static bool write_rows(store *s, job *k, const char *tag, store_writer *w, error *err) {
    page p = {0};
    bool ok = true;
    do {
        str after = p.last[0] ? str_from(p.last) : (str){0};
        char last[sizeof p.last];
        memcpy(last, p.last, sizeof last);
        if (after.ptr) after.ptr = last;
        p.left = PAGE;
        buf_clear(&p.text);
        store_query q = {
            .kind = "line", .parent = str_from(k->id), .tag = str_from(tag), .after = after};
        store_tx *tx = store_begin_read(s);
        ok = store_each(tx, &q, add_to_page, &p, err);
        store_end_read(tx);
        ok = ok && (!p.text.failed ||
                    error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the batch."));
        ok = ok && store_writer_put(w, p.text.ptr, p.text.len, err);
    } while (ok && p.left == 0);
    buf_deinit(&p.text);
    return ok;
}

/* Lines that were never answered: said to be so in the error file. */
static bool write_missing(job *k, const char *code, const char *message, store_writer *w,
                          error *err) {
    bool ok = true;
    for (size_t i = 0; ok && i < k->n; i++) {
        if (k->state[i] & LINE_DONE) continue;
        buf line = {0};
        render_line(k, i, 0, NULL, (str){0}, code, message, &line);
        buf_append_char(&line, '\n');
        ok = store_writer_put(w, line.ptr, line.len, err);
        buf_deinit(&line);
        k->n_failed++;
    }
    return ok;
}

static file_draft begin_file(const job *k, const char *what, char name[80]) {
    snprintf(name, 80, "%s_%s.jsonl", k->id, what);
    return (file_draft){.id = api_make_id("file-"),
                        .filename = str_from(name),
                        .purpose = STR("batch_output"),
                        .owner = str_from(k->owner),
                        .created = api_now(),
                        .expires = k->output_seconds ? api_now() + k->output_seconds : 0};
}

/* status: "completed", "expired" or "cancelled". The job is gone afterwards; false: to be taken up again. */
static bool finish(batches *b, const char *status) {
    store *s = b->a->store;
    job *k = b->job;
    error err = {0};
    char names[2][80];
    for (size_t i = 0; i < k->n_active; i++) http_local_close(k->active[i].r);
    k->n_active = 0;
    bool expired = strcmp(status, "expired") == 0;
    if (strcmp(status, "completed") == 0 && strcmp(get_status(k), "finalizing") != 0) {
        set_status(k->object, "finalizing");
        save_lines nothing = {.k = k};
        if (!store_write(s, put_lines, &nothing, &err)) goto failed;
        if (nothing.cancelled) status = "cancelled";
    }
    ending e = {.k = k,
                .status = status,
                .output = begin_file(k, "output", names[0]),
                .errors = begin_file(k, "error", names[1])};
    e.has_output = k->n_ok > 0;
    e.has_errors = k->n_failed > 0 || (expired && k->n_ok + k->n_failed < (int64_t)k->n);
    store_writer *w = NULL;
    bool ok = true;
    if (e.has_output) {
        ok = (w = store_writer_open(s, &err)) && write_rows(s, k, "ok", w, &err) &&
             store_writer_finish(w, &e.output.content, &err);
        store_writer_free(w);
    }
    if (ok && e.has_errors) {
        ok = (w = store_writer_open(s, &err)) && write_rows(s, k, "error", w, &err) &&
             (!expired ||
              write_missing(
                  k, "batch_expired",
                  "This request could not be executed before the completion window expired.", w,
                  &err)) &&
             store_writer_finish(w, &e.errors.content, &err);
        store_writer_free(w);
    }
    if (ok) {
        json_t *before = json_deep_copy(k->object);
        set_counts(k);
        set_status(k->object, status);
        if (e.has_output)
            json_object_set_new(k->object, "output_file_id", json_string(e.output.id.text));
        if (e.has_errors)
            json_object_set_new(k->object, "error_file_id", json_string(e.errors.id.text));
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
    store_drop_content(s, &e.output.content);
    store_drop_content(s, &e.errors.content);
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
    job *k = b->job;
    json_t *errors = json_array();
    validate(k, errors);
    if (json_array_size(errors)) {
        json_object_set_new(k->object, "errors",
                            json_pack("{s:s, s:o}", "object", "list", "data", errors));
        end_failed(b);
        return;
    }
    json_decref(errors);
    set_status(k->object, "in_progress");
    set_counts(k);
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
        if (strcmp(get_status(b->job), "validating") == 0) begin(b);
        if (!b->job) return RETRY_MS;
        look = true;
    }
    job *k = b->job;
    if (!collect(b)) {
        free_job(b); /* taken up again from what is stored */
        return RETRY_MS;
    }
    const char *end = NULL;
    if (look && (strcmp(get_status(k), "cancelling") == 0 || was_cancelled(b)))
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
