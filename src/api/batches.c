/* /v1/batches: files of requests that run below live traffic. The routes, and the object that clients see. */
#include <stdio.h>
#include <stdlib.h>

#include "api/batches_impl.h"

enum { MAX_LIST = 100, WINDOW_SECONDS = 24 * 3600 };

static const char *const endpoints[] = {"/v1/chat/completions", "/v1/completions", "/v1/embeddings",
                                        "/v1/responses",        "/v1/moderations", NULL};
static const char *const windows[] = {"24h", NULL};

/* ── the object ── */

const char *batch_get_status(const batch_job *b) {
    return json_string_value(json_object_get(b->object, "status"));
}

int64_t batch_parse_seconds(str extra) {
    char digits[24];
    snprintf(digits, sizeof digits, "%.*s", STR_ARG(extra));
    return strtoll(digits, NULL, 10);
}

/* status and the time it began */
void batch_set_status(json_t *object, const char *status) {
    char key[40];
    snprintf(key, sizeof key, "%s_at", status);
    json_object_set_new(object, "status", json_string(status));
    json_object_set_new(object, key, json_integer(api_now()));
}

void batch_set_counts(batch_job *b) {
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
bool batch_put_object(store_tx *tx, const char *id, json_t *object, str owner, int64_t created,
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
    return batch_put_object(tx, c->id.text, c->object, c->owner, c->created, c->expires,
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
    api_reply_row(a, r, "batch", arg, "batch");
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
        batch_set_status(v, "cancelling");
        ok = batch_put_object(tx, row.id.ptr, v, row.owner, row.created, row.expires,
                              batch_parse_seconds(row.extra), err);
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
