/* The routes of /v1/responses. */
#include "api/responses_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <zstd.h>

enum { MAX_LIST = 100, MAX_LOG = 1 << 30 };

/* ── create ── */

static void say_queued(api *a, http_req *r, void *ctx) {
    (void)a;
    buf body = {0};
    run_render(ctx, &body);
    http_reply(r, 200, "application/json", &body);
}

static void say_queued_stream(api *a, http_req *r, void *ctx) {
    (void)a;
    run_reply_stream(ctx, r);
}

void route_response_create(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    json_t *body = api_parse_body(r, &err);
    run *k = body ? run_decode(a, http_user(r), body, NULL, RUN_TO_ANSWER, &err) : NULL;
    if (!k || !run_start(k, &err)) {
        run_free(k);
        http_reply_error(r, &err);
        return;
    }
    run_put_headers(k, r);
    bool stream = run_is_stream(k), background = run_is_background(k);
    /* Tied in any case: a background run only so that it outlives the reply. */
    if (!run_read(k, r, !background, 0)) {
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
        http_reply_error(r, &err);
    } else if (background)
        api_write(a, r, run_save_queued, k, stream ? say_queued_stream : say_queued);
    else if (stream)
        run_reply_stream(k, r);
    else
        run_reply_whole(k, r);
}

/* ── retrieve ── */

bool response_parse_after(const char *after, size_t *from, error *err) {
    enum { MAX_DIGITS = 15 };
    size_t n = strspn(after, "0123456789");
    if (n == 0 || n > MAX_DIGITS || after[n])
        return error_set(err, ERR_INVALID_TYPE, "starting_after",
                         "Invalid type for 'starting_after': expected an integer >= 0.");
    *from = (size_t)strtoull(after, NULL, 10) + 1;
    return true;
}

/* Where a client wants to go on. */
static bool parse_start(http_req *r, size_t *from, error *err) {
    const char *after = http_query(r, "starting_after");
    if (!after || !*after) after = http_header(r, "Last-Event-ID");
    *from = 0;
    return !after || !*after || response_parse_after(after, from, err);
}

typedef struct replay {
    buf log;
    size_t at;
} replay;

static void end_replay(void *ctx) {
    buf_deinit(&((replay *)ctx)->log);
}

static http_pull_result pull_replay(http_req *r, void *ctx, buf *out) {
    (void)r;
    replay *p = ctx;
    size_t n = p->log.len - p->at;
    if (n > 16 * 1024) n = 16 * 1024;
    buf_append(out, p->log.ptr + p->at, n);
    p->at += n;
    return p->at == p->log.len ? HTTP_DONE : HTTP_MORE;
}

static void reply_replay(http_req *r, const store_row *row, size_t from, error *err) {
    replay *p = arena_alloc(http_arena(r), sizeof *p);
    unsigned long long size = ZSTD_getFrameContentSize(row->blob.ptr, row->blob.len);
    if (row->blob.len == 0) {
        error_set(err, ERR_INVALID_VALUE, "stream",
                  "This response was not created with 'stream' or 'background': it has no events.");
        return;
    }
    char *to = NULL;
    if (p && size <= MAX_LOG) {
        http_own(r, p, end_replay);
        to = buf_reserve(&p->log, size);
    }
    if (!to || ZSTD_decompress(to, size, row->blob.ptr, row->blob.len) != size) {
        error_set(err, ERR_IO, NULL, "The events of this response cannot be read.");
        return;
    }
    p->log.len = size;
    for (; from && p->at < p->log.len; from--) {
        ptrdiff_t end = str_find(buf_str(&p->log), STR("\n\n"), p->at);
        p->at = end < 0 ? p->log.len : (size_t)end + 2;
    }
    http_reply_stream(r, "text/event-stream", pull_replay, p);
}

typedef struct inclusion {
    bool sealed;
    error err;
} inclusion;

static void note_include(void *ctx, const char *name, const char *value) {
    inclusion *n = ctx;
    if (strcmp(name, "include") != 0 && strcmp(name, "include[]") != 0) return;
    int i = 0;
    while (response_includes[i] && strcmp(response_includes[i], value ? value : "") != 0) i++;
    if (!response_includes[i])
        error_set(&n->err, ERR_INVALID_VALUE, "include", "Invalid value for 'include': '%.60s'.",
                  value ? value : "");
    n->sealed |= i == INCLUDE_SEALED;
}

bool response_parse_include(http_req *r, bool *sealed, error *err) {
    inclusion n = {0};
    http_each_query(r, note_include, &n);
    if (sealed) *sealed = n.sealed;
    if (error_is_set(&n.err)) *err = n.err;
    return !error_is_set(err);
}

/* The response, stored or under way, with its reasoning sealed if that was not asked for when it was made. */
static void reply_sealed(api *a, http_req *r, str data, error *err) {
    json_t *v = api_parse_row(r, data, err), *output = json_object_get(v, "output");
    for (size_t i = 0; i < json_array_size(output); i++) {
        json_t *item = json_array_get(output, i), *content = json_object_get(item, "content");
        buf text = {0}, sealed = {0};
        if (!str_is(json_str(json_object_get(item, "type")), "reasoning") ||
            json_object_get(item, "encrypted_content"))
            continue;
        for (size_t p = 0; p < json_array_size(content); p++)
            buf_append_str(&text, json_str(json_object_get(json_array_get(content, p), "text")));
        if (seal_text(a, SEAL_REASONING, buf_str(&text), &sealed))
            json_object_set_new(item, "encrypted_content", json_stringn(sealed.ptr, sealed.len));
        buf_deinit(&text);
        buf_deinit(&sealed);
    }
    if (!v) return;
    buf body = {0};
    json_out j = json_begin(&body);
    json_put_value(&j, v);
    http_reply(r, 200, "application/json", &body);
}

void route_response_get(api *a, http_req *r, str arg) {
    error err = {0};
    size_t from = 0;
    bool sealed;
    const char *stream = http_query(r, "stream");
    bool wants_stream = stream && (strcmp(stream, "true") == 0 || strcmp(stream, "1") == 0);
    run *live = NULL;
    store_row row;
    if (!response_parse_include(r, &sealed, &err)) {
        http_reply_error(r, &err);
    } else if (wants_stream && !parse_start(r, &from, &err)) {
        http_reply_error(r, &err);
    } else if ((live = runs_find(a, http_user(r), arg)) && wants_stream && run_has_log(live)) {
        if (run_read(live, r, false, from))
            run_reply_stream(live, r);
        else {
            error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
            http_reply_error(r, &err);
        }
    } else if (live && !wants_stream) {
        buf body = {0};
        run_render(live, &body);
        run_unref(live);
        if (sealed) {
            reply_sealed(a, r, buf_str(&body), &err);
            buf_deinit(&body);
        } else {
            http_reply(r, 200, "application/json", &body);
        }
        if (error_is_set(&err)) http_reply_error(r, &err);
    } else {
        if (live) {
            run_unref(live);
            error_set(&err, ERR_INVALID_VALUE, "stream",
                      "This response was not created with 'stream' or 'background'.");
        } else if (api_get_row(a, r, "response", arg, "response", &row, &err)) {
            if (wants_stream)
                reply_replay(r, &row, from, &err);
            else if (sealed)
                reply_sealed(a, r, row.data, &err);
            else
                api_reply_data(r, row.data);
        }
        if (error_is_set(&err)) http_reply_error(r, &err);
    }
}

/* ── delete, cancel ── */

typedef struct deletion {
    str id;
} deletion;

static bool delete_response(store_tx *tx, void *ctx, error *err) {
    return store_delete(tx, "response", ((deletion *)ctx)->id, NULL, err);
}

static void say_deleted(api *a, http_req *r, void *ctx) {
    (void)a;
    api_reply_deleted(r, ((deletion *)ctx)->id, "response");
}

void route_response_delete(api *a, http_req *r, str arg) {
    error err = {0};
    store_row row = {0};
    deletion *d = arena_alloc(http_arena(r), sizeof *d);
    run *live = runs_find(a, http_user(r), arg);
    char *id = arena_dup(http_arena(r), arg);
    if (live) {
        run_forget(live);
        run_cancel(live);
        run_unref(live);
    } else
        api_get_row(a, r, "response", arg, "response", &row, &err);
    if (!d || !id) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (error_is_set(&err)) {
        http_reply_error(r, &err);
        return;
    }
    *d = (deletion){str_make(id, arg.len)};
    api_write(a, r, delete_response, d, say_deleted);
}

void route_response_cancel(api *a, http_req *r, str arg) {
    error err = {0};
    store_row row;
    run *live = runs_find(a, http_user(r), arg);
    if (live && run_is_background(live)) {
        run_cancel(live);
        if (run_read(live, r, false, 0)) {
            run_reply_whole(live, r);
            return;
        }
        live = NULL;
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    } else if (live) {
        error_set(&err, ERR_INVALID_VALUE, "response_id",
                  "Only background responses can be cancelled; leave the others' connection.");
    } else if (api_get_row(a, r, "response", arg, "response", &row, &err)) {
        json_t *v = api_parse_row(r, row.data, &err);
        if (v && !json_is_true(json_object_get(v, "background")))
            error_set(&err, ERR_INVALID_VALUE, "response_id",
                      "Only background responses can be cancelled.");
        if (!error_is_set(&err)) {
            api_reply_data(r, row.data);
            return;
        }
    }
    if (live) run_unref(live);
    http_reply_error(r, &err);
}

/* ── input items, tokens ── */

void route_response_input_items(api *a, http_req *r, str arg) {
    error err = {0};
    store_row row;
    list_query q;
    json_t *extra, *input = NULL;
    run *live = runs_find(a, http_user(r), arg);
    if (list_parse(r, 20, MAX_LIST, true, &q, &err) && response_parse_include(r, NULL, &err)) {
        if (live)
            input = run_own_input(live);
        else if (api_get_row(a, r, "response", arg, "response", &row, &err) &&
                 (extra = api_parse_row(r, row.extra, &err)))
            input = json_object_get(extra, "input");
    }
    if (error_is_set(&err))
        http_reply_error(r, &err);
    else
        list_reply_array(r, &q, input);
    if (live) run_unref(live);
}

void route_response_input_tokens(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    json_t *body = api_parse_body(r, &err);
    /* Whoever only counts need not say which model: there is one. */
    if (body && !field_get(body, "model"))
        json_object_set_new(body, "model", json_string("default"));
    run *k = body ? run_decode(a, http_user(r), body, NULL, RUN_TO_COUNT, &err) : NULL;
    tok_ids ids = {0};
    if (k && chat_render(a->chat, chat_request_input(run_chat(k)), &ids, NULL, &err)) {
        buf out = {0};
        json_out j = json_begin(&out);
        json_obj(&j);
        json_kv_cstr(&j, "object", "response.input_tokens");
        json_kv_int(&j, "input_tokens", (int64_t)ids.n);
        json_end_obj(&j);
        http_reply(r, 200, "application/json", &out);
    } else
        http_reply_error(r, &err);
    tok_ids_deinit(&ids);
    run_free(k);
}
