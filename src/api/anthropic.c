/* Anthropic's Messages API over the same turn: POST /v1/messages and
 * /v1/messages/count_tokens, with its content blocks, events and errors.
 *
 * What differs from OpenAI's: the answer is a list of blocks (thinking, text,
 * tool_use) instead of one message, a tool result is a block of a user's message,
 * and input_tokens leaves out what came from the cache.
 *
 * Source: Anthropic's API reference, version 2023-06-01.
 */
#include <stdio.h>
#include <stdlib.h>

#include "api/anthropic_impl.h"
#include "base/hash.h"

/* ── errors ── */

bool anthropic_is_path(const char *path) {
    return str_starts(str_from(path), STR("/v1/messages"));
}

static const char *error_type(int status) {
    switch (status) {
    case 400:
    case 405:
    case 415:
    case 426:
    case 431: return "invalid_request_error";
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case 503:
    case 529: return "overloaded_error";
    case 504: return "timeout_error";
    default: return "api_error";
    }
}

static void put_error(json_out *j, const error *err, const char *request_id) {
    json_obj(j);
    json_kv_cstr(j, "type", "error");
    json_key(j, "error");
    json_obj(j);
    json_kv_cstr(j, "type", error_type(error_get_info(err->code)->http_status));
    /* There is no member for the parameter: it stands in front. */
    char message[sizeof err->param + sizeof err->message + 2];
    bool named = !err->param[0] || strstr(err->message, err->param);
    snprintf(message, sizeof message, "%s%s%s", named ? "" : err->param, named ? "" : ": ",
             err->message);
    json_kv_cstr(j, "message", message);
    json_end_obj(j);
    if (request_id) json_kv_cstr(j, "request_id", request_id);
    json_end_obj(j);
}

void anthropic_render_error(http_req *r, const error *err, buf *out) {
    json_out j = json_begin(out);
    put_error(&j, err, http_request_id(r));
}

/* ── the answer: blocks, whole or as events ── */

typedef enum block_kind { BLOCK_NONE, BLOCK_THINKING, BLOCK_TEXT, BLOCK_TOOL } block_kind;

typedef struct job {
    arena *mem; /* the request's */
    anthropic_request q;
    choices *set;
    api_id id;
    bool stream, started, ended;
    block_kind open;
    int64_t n_blocks;
    buf text;               /* whole: of the open block */
    buf blocks;             /* whole: the finished ones, JSON with commas between */
    str call_id, call_name; /* of the open block: in mem */
    turn_finish finish;
    str stop_string; /* in mem */
    turn_usage usage;
    error err;
} job;

static bool no_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
}

static void free_job(void *ctx) {
    job *k = ctx;
    buf_deinit(&k->text);
    buf_deinit(&k->blocks);
}

static json_out begin_event(buf *out, const char *type) {
    buf_append_cstr(out, "event: ");
    buf_append_cstr(out, type);
    buf_append_char(out, '\n');
    sse_begin(out);
    json_out j = json_begin(out);
    json_obj(&j);
    json_kv_cstr(&j, "type", type);
    return j;
}

static void end_event(json_out *j) {
    json_end_obj(j);
    sse_end(j->b);
}

/* What ties a block of thinking to its text when it comes back. Nothing here depends on it. */
static void put_signature(json_out *j, str thinking) {
    char text[24];
    snprintf(text, sizeof text, "or1_%016llx",
             (unsigned long long)hash_bytes(thinking.ptr, thinking.len, 0));
    json_kv_cstr(j, "signature", text);
}

static void put_block_start(const job *k, json_out *j) {
    json_obj(j);
    switch (k->open) {
    case BLOCK_THINKING:
        json_kv_cstr(j, "type", "thinking");
        json_kv_cstr(j, "thinking", "");
        json_kv_cstr(j, "signature", "");
        break;
    case BLOCK_TOOL:
        json_kv_cstr(j, "type", "tool_use");
        json_kv_str(j, "id", k->call_id);
        json_kv_str(j, "name", k->call_name);
        json_key(j, "input");
        json_obj(j);
        json_end_obj(j);
        break;
    default: json_kv_cstr(j, "type", "text"); json_kv_cstr(j, "text", "");
    }
    json_end_obj(j);
}

static void open_block(job *k, block_kind kind, buf *out) {
    k->open = kind;
    if (!k->stream) return;
    json_out j = begin_event(out, "content_block_start");
    json_kv_int(&j, "index", k->n_blocks);
    json_key(&j, "content_block");
    put_block_start(k, &j);
    end_event(&j);
}

static json_out begin_delta(const job *k, buf *out, const char *type) {
    json_out j = begin_event(out, "content_block_delta");
    json_kv_int(&j, "index", k->n_blocks);
    json_key(&j, "delta");
    json_obj(&j);
    json_kv_cstr(&j, "type", type);
    return j;
}

static void put_text(job *k, str text, buf *out) {
    if (k->open == BLOCK_THINKING || !k->stream) buf_append_str(&k->text, text);
    if (!k->stream) return;
    static const char *const types[] = {"", "thinking_delta", "text_delta", "input_json_delta"};
    static const char *const keys[] = {"", "thinking", "text", "partial_json"};
    json_out j = begin_delta(k, out, types[k->open]);
    json_kv_str(&j, keys[k->open], text);
    json_end_obj(&j);
    end_event(&j);
}

/* Arguments that are no JSON object still have to arrive as one. */
static void put_input(json_out *j, str text) {
    error err = {0};
    json_t *v = json_parse(text, &err);
    json_key(j, "input");
    if (json_is_object(v))
        json_put_value(j, v);
    else {
        json_obj(j);
        if (text.len) json_kv_str(j, "_invalid_arguments", text);
        json_end_obj(j);
    }
    json_decref(v);
}

static void put_whole_block(job *k) {
    if (k->blocks.len) buf_append_char(&k->blocks, ',');
    json_out j = json_begin(&k->blocks);
    json_obj(&j);
    switch (k->open) {
    case BLOCK_THINKING:
        json_kv_cstr(&j, "type", "thinking");
        json_kv_str(&j, "thinking", buf_str(&k->text));
        put_signature(&j, buf_str(&k->text));
        break;
    case BLOCK_TOOL:
        json_kv_cstr(&j, "type", "tool_use");
        json_kv_str(&j, "id", k->call_id);
        json_kv_str(&j, "name", k->call_name);
        put_input(&j, buf_str(&k->text));
        break;
    default: json_kv_cstr(&j, "type", "text"); json_kv_str(&j, "text", buf_str(&k->text));
    }
    json_end_obj(&j);
}

static void close_block(job *k, buf *out) {
    if (k->open == BLOCK_NONE) return;
    if (!k->stream)
        put_whole_block(k);
    else {
        if (k->open == BLOCK_THINKING) {
            json_out j = begin_delta(k, out, "signature_delta");
            put_signature(&j, buf_str(&k->text));
            json_end_obj(&j);
            end_event(&j);
        }
        json_out j = begin_event(out, "content_block_stop");
        json_kv_int(&j, "index", k->n_blocks);
        end_event(&j);
    }
    buf_clear(&k->text);
    k->open = BLOCK_NONE;
    k->n_blocks++;
}

static str copy(job *k, const char *prefix, str s) {
    size_t n = strlen(prefix);
    char *both = arena_alloc_aligned(k->mem, n + s.len + 1, 1);
    if (!both) {
        no_memory(&k->err);
        return (str){0};
    }
    memcpy(both, prefix, n);
    if (s.len) memcpy(both + n, s.ptr, s.len);
    return str_make(both, n + s.len);
}

static void take(job *k, block_kind kind, str text, buf *out) {
    if (k->open != kind) {
        close_block(k, out);
        open_block(k, kind, out);
    }
    put_text(k, text, out);
}

static void on_event(job *k, const turn_event *e, buf *out) {
    switch (e->kind) {
    case TURN_REASONING:
        if (k->q.shows_thinking) take(k, BLOCK_THINKING, e->text, out);
        break;
    case TURN_CONTENT: take(k, BLOCK_TEXT, e->text, out); break;
    case TURN_CALL_BEGIN:
        close_block(k, out);
        k->call_id = copy(k, "toolu_",
                          str_starts(e->call_id, STR("call_"))
                              ? str_make(e->call_id.ptr + 5, e->call_id.len - 5)
                              : e->call_id);
        k->call_name = copy(k, "", e->text);
        open_block(k, BLOCK_TOOL, out);
        break;
    case TURN_CALL_ARGS: put_text(k, e->text, out); break;
    case TURN_CALL_END: close_block(k, out); break;
    case TURN_END:
        close_block(k, out);
        k->ended = true;
        k->finish = e->finish;
        k->usage = e->usage;
        if (e->stop_string.len) k->stop_string = copy(k, "", e->stop_string);
        break;
    default: break;
    }
}

static void put_stop(const job *k, json_out *j) {
    const char *reason = k->stop_string.len             ? "stop_sequence"
                         : k->finish == TURN_LENGTH     ? "max_tokens"
                         : k->finish == TURN_TOOL_CALLS ? "tool_use"
                                                        : "end_turn";
    json_kv_cstr(j, "stop_reason", reason);
    json_key(j, "stop_sequence");
    if (k->stop_string.len)
        json_put_str(j, k->stop_string);
    else
        json_put_null(j);
}

static void put_usage(json_out *j, int64_t n_prompt, int64_t n_cached, int64_t n_output) {
    json_key(j, "usage");
    json_obj(j);
    json_kv_int(j, "input_tokens", n_prompt - n_cached);
    json_kv_int(j, "cache_creation_input_tokens", 0);
    json_kv_int(j, "cache_read_input_tokens", n_cached);
    json_kv_int(j, "output_tokens", n_output);
    json_kv_cstr(j, "service_tier", "standard");
    json_end_obj(j);
}

static void put_message_head(const job *k, json_out *j) {
    json_kv_cstr(j, "id", k->id.text);
    json_kv_cstr(j, "type", "message");
    json_kv_cstr(j, "role", "assistant");
    json_kv_str(j, "model", k->q.gen.model);
}

static const error *failure(const job *k) {
    if (error_is_set(&k->err)) return &k->err;
    return choices_failure(k->set);
}

static bool step(http_req *r, void *ctx) {
    job *k = ctx;
    turn_event e;
    while (choice_next(k->set, 0, &e)) on_event(k, &e, NULL);
    const error *failed = failure(k);
    if (failed) {
        http_reply_error(r, failed);
        return true;
    }
    if (!k->ended) return false;
    buf body = {0};
    json_out j = json_begin(&body);
    json_obj(&j);
    put_message_head(k, &j);
    json_key(&j, "content");
    buf list = {0};
    buf_append_char(&list, '[');
    buf_append_str(&list, buf_str(&k->blocks));
    buf_append_char(&list, ']');
    json_put_raw(&j, buf_str(&list));
    if (list.failed || k->blocks.failed) body.failed = true;
    buf_deinit(&list);
    put_stop(k, &j);
    put_usage(&j, k->usage.n_prompt, k->usage.n_cached, k->usage.n_completion);
    json_end_obj(&j);
    http_reply(r, 200, "application/json", &body);
    return true;
}

static void put_start(const job *k, buf *out) {
    size_t n_prompt;
    turn_prompt_ids(k->set->items[0].t, &n_prompt);
    json_out j = begin_event(out, "message_start");
    json_key(&j, "message");
    json_obj(&j);
    put_message_head(k, &j);
    json_key(&j, "content");
    json_arr(&j);
    json_end_arr(&j);
    json_kv_null(&j, "stop_reason");
    json_kv_null(&j, "stop_sequence");
    put_usage(&j, (int64_t)n_prompt, 0, 0);
    json_end_obj(&j);
    end_event(&j);
}

static void put_end(const job *k, buf *out) {
    json_out j = begin_event(out, "message_delta");
    json_key(&j, "delta");
    json_obj(&j);
    put_stop(k, &j);
    json_end_obj(&j);
    put_usage(&j, k->usage.n_prompt, k->usage.n_cached, k->usage.n_completion);
    end_event(&j);
    j = begin_event(out, "message_stop");
    end_event(&j);
}

static http_pull_result pull(http_req *r, void *ctx, buf *out) {
    (void)r;
    job *k = ctx;
    if (!k->started) {
        k->started = true;
        put_start(k, out);
        return HTTP_MORE;
    }
    turn_event e;
    bool any = choice_next(k->set, 0, &e);
    if (any) on_event(k, &e, out);
    const error *failed = failure(k);
    if (failed) {
        buf_append_cstr(out, "event: error\n");
        sse_begin(out);
        json_out j = json_begin(out);
        put_error(&j, failed, NULL);
        sse_end(out);
        return HTTP_DONE;
    }
    if (!k->ended) return any ? HTTP_MORE : HTTP_WAIT;
    put_end(k, out);
    return HTTP_DONE;
}

/* ── entry ── */

static void make_turn(void *ctx, size_t i, turn_request *q) {
    job *k = ctx;
    (void)i;
    q->chat = &k->q.in;
    q->sampling = k->q.gen.sampling;
    q->max_tokens = k->q.gen.max_tokens;
    q->context = k->q.gen.context;
    q->max_kv_size = k->q.gen.max_kv_size;
    q->stops = k->q.gen.stops;
    q->n_stops = k->q.gen.n_stops;
}

static job *new_job(http_req *r, error *err) {
    http_add_header(r, "request-id", http_request_id(r));
    job *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k) {
        no_memory(err);
        return NULL;
    }
    k->mem = http_arena(r);
    http_own(r, k, free_job);
    return k;
}

void route_anthropic_messages(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    job *k = new_job(r, &err);
    if (!k || !anthropic_decode(a, r, false, &k->q, &err)) {
        http_reply_error(r, &err);
        return;
    }
    k->id = api_make_id("msg_");
    k->stream = k->q.gen.stream;
    k->set = choices_start(a, r, 1, false, make_turn, k, &err);
    if (!k->set)
        http_reply_error(r, &err);
    else if (k->stream)
        http_reply_stream(r, "text/event-stream", pull, k);
    else
        http_reply_later(r, step, k);
}

void route_anthropic_count(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    tok_ids ids = {0};
    job *k = new_job(r, &err);
    if (!k || !anthropic_decode(a, r, true, &k->q, &err) ||
        !chat_render(a->chat, &k->q.in, &ids, NULL, &err))
        http_reply_error(r, &err);
    else {
        buf body = {0};
        json_out j = json_begin(&body);
        json_obj(&j);
        json_kv_int(&j, "input_tokens", (int64_t)ids.n);
        json_end_obj(&j);
        http_reply(r, 200, "application/json", &body);
    }
    tok_ids_deinit(&ids);
}
