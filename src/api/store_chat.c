#include "api/store_chat.h"

#include <stdio.h>

struct chat_keeper {
    api *a;
    http_req *r;
    json_t *body, *object, *messages;
    store_job *job;
    bool begun;
    int64_t created, expires;
    error err;
};

/* ── keeping ── */

static void end_keeper(void *ctx) {
    chat_keeper *k = ctx;
    store_job_free(k->job);
    json_decref(k->object);
    json_decref(k->messages);
}

chat_keeper *chat_keeper_new(api *a, http_req *r, json_t *body) {
    if (!a->store) return NULL;
    chat_keeper *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k) return NULL;
    *k = (chat_keeper){
        .a = a, .r = r, .body = body, .created = api_now(), .expires = api_get_expiry(a)};
    http_own(r, k, end_keeper);
    return k;
}

static bool put_chat(store_tx *tx, str owner, json_t *object, json_t *messages, int64_t created,
                     int64_t expires, error *err) {
    buf data = {0}, extra = {0};
    json_out j = json_begin(&data);
    json_put_value(&j, object);
    j = json_begin(&extra);
    json_put_value(&j, messages);
    store_row row = {.kind = STR("chat"),
                     .owner = owner,
                     .id = json_str(json_object_get(object, "id")),
                     .tag = json_str(json_object_get(object, "model")),
                     .created = created,
                     .expires = expires,
                     .data = buf_str(&data),
                     .extra = buf_str(&extra)};
    bool ok = ((!data.failed && !extra.failed) ||
               error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the completion.")) &&
              store_put(tx, &row, err);
    buf_deinit(&data);
    buf_deinit(&extra);
    return ok;
}

static bool save(store_tx *tx, void *ctx, error *err) {
    chat_keeper *k = ctx;
    return put_chat(tx, http_user(k->r), k->object, k->messages, k->created, k->expires, err);
}

static void wake(void *r) {
    http_wake(r);
}

/* The request's messages as the messages route lists them: texts joined, the parts beside them. */
static json_t *list_messages(json_t *messages, const char *id) {
    json_t *out = json_array();
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *m = json_copy(json_array_get(messages, i)),
               *content = json_object_get(m, "content");
        char name[80];
        snprintf(name, sizeof name, "%s-%zu", id, i);
        json_object_set_new(m, "id", json_string(name));
        if (json_is_array(content)) {
            buf text = {0};
            for (size_t p = 0; p < json_array_size(content); p++)
                buf_append_str(&text,
                               json_str(json_object_get(json_array_get(content, p), "text")));
            json_object_set(m, "content_parts", content);
            json_object_set_new(m, "content", json_stringn(text.ptr ? text.ptr : "", text.len));
            buf_deinit(&text);
        } else if (!content)
            json_object_set_new(m, "content", json_null());
        if (!json_object_get(m, "refusal")) json_object_set_new(m, "refusal", json_null());
        json_array_append_new(out, m);
    }
    return out;
}

static void begin(chat_keeper *k, const char *id, void (*render)(void *ctx, buf *out), void *ctx) {
    static const char *const kept[] = {"temperature",       "top_p", "seed",
                                       "presence_penalty",  "tools", "tool_choice",
                                       "frequency_penalty", "user",  "response_format"};
    buf text = {0};
    render(ctx, &text);
    k->begun = true;
    k->object = text.failed ? NULL : json_parse(buf_str(&text), &k->err);
    buf_deinit(&text);
    k->messages = list_messages(json_object_get(k->body, "messages"), id);
    if (k->object && k->messages) {
        json_t *metadata = field_get(k->body, "metadata");
        json_object_set_new(k->object, "metadata",
                            metadata ? json_incref(metadata) : json_object());
        for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++) {
            json_t *v = field_get(k->body, kept[i]);
            if (v) json_object_set(k->object, kept[i], v);
        }
        k->job = store_submit(k->a->store, save, k, wake, k->r);
    }
    if (!k->job)
        error_set(&k->err, ERR_NO_MEMORY, NULL, "There is no memory to keep the completion.");
}

bool chat_keeper_done(chat_keeper *k, const char *id, void (*render)(void *ctx, buf *out),
                      void *ctx, error *err) {
    if (!k) return true;
    if (!k->begun) begin(k, id, render, ctx);
    if (error_is_set(&k->err)) {
        *err = k->err;
        return true;
    }
    return store_poll(k->job, err);
}

/* ── routes ── */

/* ?metadata[key]=value: every pair given must be there. */
typedef struct filter {
    json_t *pairs;
} filter;

static void note_pair(void *ctx, const char *name, const char *value) {
    str key = str_from(name);
    if (!value || !str_starts(key, STR("metadata[")) || !str_ends(key, STR("]"))) return;
    json_object_setn_new(((filter *)ctx)->pairs, key.ptr + 9, key.len - 10, json_string(value));
}

static bool wants(void *ctx, const store_row *row) {
    json_t *pairs = ((filter *)ctx)->pairs, *v = json_parse(row->data, NULL), *want;
    json_t *metadata = json_object_get(v, "metadata");
    const char *key;
    bool ok = true;
    json_object_foreach(pairs, key, want) ok =
        ok && json_equal(json_object_get(metadata, key), want);
    json_decref(v);
    return ok;
}

void route_chat_list(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    list_query q;
    filter f = {json_object()};
    http_each_query(r, note_pair, &f);
    const char *of = http_query(r, "model");
    list_rows rows = {.kind = "chat", .ctx = &f};
    if (of && *of) rows.tag = str_from(of);
    if (json_object_size(f.pairs)) rows.wants = wants;
    if (list_parse(r, 20, 100, false, &q, &err))
        list_reply_rows(a, r, &q, &rows);
    else
        http_reply_error(r, &err);
    json_decref(f.pairs);
}

void route_chat_get(api *a, http_req *r, str arg) {
    api_reply_row(a, r, "chat", arg, "stored chat completion");
}

void route_chat_delete(api *a, http_req *r, str arg) {
    api_delete_row(a, r, "chat", arg, "stored chat completion", "chat.completion.deleted");
}

void route_chat_messages(api *a, http_req *r, str arg) {
    error err = {0};
    store_row row;
    list_query q;
    json_t *messages;
    if (api_get_row(a, r, "chat", arg, "stored chat completion", &row, &err) &&
        list_parse(r, 20, 100, false, &q, &err) && (messages = api_parse_row(r, row.extra, &err)))
        list_reply_array(r, &q, messages);
    else
        http_reply_error(r, &err);
}

static void say(api *a, http_req *r, void *ctx) {
    (void)a;
    buf body = {0};
    json_out j = json_begin(&body);
    json_put_value(&j, ((chat_keeper *)ctx)->object);
    http_reply(r, 200, "application/json", &body);
}

void route_chat_update(api *a, http_req *r, str arg) {
    error err = {0};
    store_row row;
    json_t *body, *metadata, *object, *messages;
    chat_keeper *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (!k || !api_get_row(a, r, "chat", arg, "stored chat completion", &row, &err) ||
        !(body = api_parse_body(r, &err)) || !(metadata = api_need_metadata(body, &err)) ||
        !(object = api_parse_row(r, row.data, &err)) ||
        !(messages = api_parse_row(r, row.extra, &err))) {
        http_reply_error(r, &err);
        return;
    }
    json_object_set(object, "metadata", metadata);
    *k = (chat_keeper){.r = r,
                       .object = object,
                       .messages = messages,
                       .created = row.created,
                       .expires = row.expires};
    api_write(a, r, save, k, say);
}
