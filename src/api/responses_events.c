/* What a turn's events look like as a response and as its stream. Every *.added has its *.done; indexes
 * and sequence_number count from 0. */
#include <stdio.h>
#include <stdlib.h>

#include "api/responses_impl.h"
#include "api/tools.h"

static const char *const kinds[] = {"message",          "reasoning",        "function_call",
                                    "custom_tool_call", "tool_search_call", "compaction"};

const char *run_status_name(run_status s) {
    static const char *const names[] = {"queued",     "in_progress", "completed",
                                        "incomplete", "cancelled",   "failed"};
    return names[s];
}

/* ── objects ── */

static void put_text_part(json_out *j, str text, str logprobs) {
    json_obj(j);
    json_kv_cstr(j, "type", "output_text");
    json_kv_str(j, "text", text);
    json_key(j, "annotations");
    json_arr(j);
    json_end_arr(j);
    json_key(j, "logprobs");
    json_arr(j);
    if (logprobs.len) json_put_raw(j, logprobs);
    json_end_arr(j);
    json_end_obj(j);
}

static void put_reasoning_part(json_out *j, str text) {
    json_obj(j);
    json_kv_cstr(j, "type", "reasoning_text");
    json_kv_str(j, "text", text);
    json_end_obj(j);
}

/* `begun`: as it is when added, before its content. */
static void put_item(json_out *j, const out_item *t, bool begun) {
    json_obj(j);
    json_kv_cstr(j, "id", t->id.text);
    json_kv_cstr(j, "type", kinds[t->kind]);
    if (t->kind != ITEM_COMPACTION) json_kv_cstr(j, "status", t->status);
    switch (t->kind) {
    case ITEM_MESSAGE:
        json_kv_cstr(j, "role", "assistant");
        json_key(j, "content");
        json_arr(j);
        if (!begun) put_text_part(j, buf_str(&t->text), buf_str(&t->logprobs));
        json_end_arr(j);
        break;
    case ITEM_REASONING:
        json_key(j, "summary");
        json_arr(j);
        json_end_arr(j);
        json_key(j, "content");
        json_arr(j);
        if (!begun) put_reasoning_part(j, buf_str(&t->text));
        json_end_arr(j);
        if (t->sealed.len && !begun) json_kv_str(j, "encrypted_content", buf_str(&t->sealed));
        break;
    case ITEM_CALL:
    case ITEM_CUSTOM_CALL:
        json_kv_cstr(j, "call_id", t->call_id.text);
        if (t->space.len) json_kv_str(j, "namespace", buf_str(&t->space));
        json_kv_str(j, "name", buf_str(&t->name));
        json_kv_str(j, t->kind == ITEM_CALL ? "arguments" : "input",
                    begun ? (str){0} : buf_str(&t->text));
        break;
    case ITEM_SEARCH_CALL:
        json_kv_cstr(j, "call_id", t->call_id.text);
        json_kv_cstr(j, "execution", "client");
        json_key(j, "arguments");
        json_t *args = begun ? NULL : json_parse(buf_str(&t->text), NULL);
        if (json_is_object(args))
            json_put_value(j, args);
        else {
            json_obj(j);
            json_end_obj(j);
        }
        json_decref(args);
        break;
    case ITEM_COMPACTION: json_kv_str(j, "encrypted_content", buf_str(&t->sealed)); break;
    }
    json_end_obj(j);
}

void responses_put_usage(const choice *c, json_out *j) {
    const turn_usage *u = &c->usage;
    const context_result *cut = turn_get_context(c->t);
    json_obj(j);
    json_kv_int(j, "input_tokens", u->n_prompt);
    json_key(j, "input_tokens_details");
    json_obj(j);
    json_kv_int(j, "cached_tokens", u->n_cached);
    json_kv_int(j, "cache_write_tokens", 0);
    if (cut->n_tokens_dropped) { /* extension, there only when something was left out of the prompt */
        json_kv_int(j, "dropped_turns", cut->n_turns_dropped);
        json_kv_int(j, "dropped_tokens", cut->n_tokens_dropped);
    }
    json_end_obj(j);
    json_kv_int(j, "output_tokens", u->n_completion);
    json_key(j, "output_tokens_details");
    json_obj(j);
    json_kv_int(j, "reasoning_tokens", u->n_reasoning);
    json_end_obj(j);
    json_kv_int(j, "total_tokens", u->n_prompt + u->n_completion);
    json_end_obj(j);
}

static void put_response(const run *k, json_out *j, run_status status) {
    bool ended = status > RUN_IN_PROGRESS;
    json_obj(j);
    json_kv_cstr(j, "id", k->id.text);
    json_kv_cstr(j, "object", "response");
    json_kv_int(j, "created_at", k->created);
    json_key(j, "completed_at");
    if (status == RUN_COMPLETED)
        json_put_int(j, k->completed);
    else
        json_put_null(j);
    json_kv_cstr(j, "status", run_status_name(status));
    json_key(j, "error");
    if (status == RUN_FAILED) {
        json_obj(j);
        json_kv_cstr(j, "code", "server_error");
        json_kv_cstr(j, "message", k->err.message);
        json_end_obj(j);
    } else
        json_put_null(j);
    json_key(j, "incomplete_details");
    if (status == RUN_INCOMPLETE) {
        json_obj(j);
        json_kv_cstr(j, "reason", "max_output_tokens");
        json_end_obj(j);
    } else
        json_put_null(j);
    json_key(j, "output");
    json_arr(j);
    for (size_t i = 0; i < k->n_items; i++) put_item(j, &k->items[i], false);
    json_end_arr(j);
    json_key(j, "usage");
    if (ended && k->set)
        responses_put_usage(&k->set->items[0], j);
    else
        json_put_null(j);
    const char *key;
    json_t *v;
    json_object_foreach(k->echo, key, v) {
        json_key_str(j, str_from(key));
        json_put_value(j, v);
    }
    json_end_obj(j);
}

void run_put_response(run *k, buf *out, run_status status) {
    json_out j = json_begin(out);
    put_response(k, &j, status);
}

void run_render(run *k, buf *out) {
    pthread_mutex_lock(&k->lock);
    if (k->phase == RUN_OVER)
        buf_append_str(out, buf_str(&k->final));
    else
        run_put_response(k, out, k->phase == RUN_SAVES ? RUN_IN_PROGRESS : k->status);
    pthread_mutex_unlock(&k->lock);
}

/* ── events ── */

static json_out begin_event(run *k, const char *type) {
    buf_printf(&k->log, "event: %s\nid: %zu\ndata: ", type, k->n_events);
    json_out j = json_begin(&k->log);
    json_obj(&j);
    json_kv_cstr(&j, "type", type);
    json_kv_int(&j, "sequence_number", (int64_t)k->n_events);
    return j;
}

static void end_event(run *k, json_out *j) {
    json_end_obj(j);
    buf_append(&k->log, "\n\n", 2);
    size_t i = k->n_events - k->n_dropped;
    if (i == k->cap_ends) {
        size_t cap = k->cap_ends ? k->cap_ends * 2 : 64;
        size_t *grown = realloc(k->ends, cap * sizeof *grown);
        if (!grown) {
            k->log.failed = true;
            return;
        }
        k->ends = grown;
        k->cap_ends = cap;
    }
    k->ends[i] = k->log.len;
    k->n_events++;
    if (!k->keep_log) { /* nobody will read it */
        k->n_dropped = k->n_events;
        buf_clear(&k->log);
    }
}

void run_event_drop_last(run *k) {
    if (k->n_events == k->n_dropped) return;
    size_t i = --k->n_events - k->n_dropped;
    k->log.len = i ? k->ends[i - 1] : 0;
}

void run_event_response(run *k, const char *type) {
    json_out j = begin_event(k, type);
    json_key(&j, "response");
    put_response(k, &j, k->status);
    end_event(k, &j);
}

void run_event_error(run *k, const error *err) {
    const error_info *info = error_get_info(err->code);
    json_out j = begin_event(k, "error");
    json_kv_cstr(&j, "code", info->api_code ? info->api_code : info->type);
    json_kv_cstr(&j, "message", err->message);
    json_kv_cstr(&j, "param", err->param[0] ? err->param : NULL);
    end_event(k, &j);
}

static json_out begin_item_event(run *k, const char *type, const out_item *t, bool with_content) {
    json_out j = begin_event(k, type);
    json_kv_cstr(&j, "item_id", t->id.text);
    json_kv_int(&j, "output_index", t - k->items);
    if (with_content) json_kv_int(&j, "content_index", 0);
    return j;
}

static void event_item(run *k, const char *type, const out_item *t, bool begun) {
    json_out j = begin_event(k, type);
    json_kv_int(&j, "output_index", t - k->items);
    json_key(&j, "item");
    put_item(&j, t, begun);
    end_event(k, &j);
}

static void event_part(run *k, const char *type, const out_item *t, bool begun) {
    json_out j = begin_item_event(k, type, t, true);
    json_key(&j, "part");
    str text = begun ? (str){0} : buf_str(&t->text);
    if (t->kind == ITEM_MESSAGE)
        put_text_part(&j, text, begun ? (str){0} : buf_str(&t->logprobs));
    else
        put_reasoning_part(&j, text);
    end_event(k, &j);
}

static void event_call_delta(run *k, const out_item *t, str delta) {
    json_out j = begin_item_event(k,
                                  t->kind == ITEM_CALL ? "response.function_call_arguments.delta"
                                                       : "response.custom_tool_call_input.delta",
                                  t, false);
    json_kv_str(&j, "delta", delta);
    end_event(k, &j);
}

static void close_item(run *k, const char *status) {
    if (!k->item_open) return;
    k->item_open = false;
    out_item *t = &k->items[k->n_items - 1];
    t->status = status;
    json_out j;
    buf input = {0};
    switch (t->kind) {
    case ITEM_MESSAGE:
        j = begin_item_event(k, "response.output_text.done", t, true);
        json_kv_str(&j, "text", buf_str(&t->text));
        json_key(&j, "logprobs");
        json_arr(&j);
        if (t->logprobs.len) json_put_raw(&j, buf_str(&t->logprobs));
        json_end_arr(&j);
        end_event(k, &j);
        event_part(k, "response.content_part.done", t, false);
        break;
    case ITEM_REASONING:
        if (k->wants_sealed) seal_text(k->a, SEAL_REASONING, buf_str(&t->text), &t->sealed);
        j = begin_item_event(k, "response.reasoning_text.done", t, true);
        json_kv_str(&j, "text", buf_str(&t->text));
        end_event(k, &j);
        event_part(k, "response.content_part.done", t, false);
        break;
    case ITEM_CALL:
        j = begin_item_event(k, "response.function_call_arguments.done", t, false);
        json_kv_str(&j, "name", buf_str(&t->name));
        json_kv_str(&j, "arguments", buf_str(&t->text));
        end_event(k, &j);
        break;
    case ITEM_CUSTOM_CALL:
        tools_put_input(&input, buf_str(&t->text));
        buf_clear(&t->text);
        buf_append_str(&t->text, buf_str(&input));
        buf_deinit(&input);
        event_call_delta(k, t, buf_str(&t->text));
        j = begin_item_event(k, "response.custom_tool_call_input.done", t, false);
        json_kv_str(&j, "input", buf_str(&t->text));
        end_event(k, &j);
        break;
    case ITEM_SEARCH_CALL:
    case ITEM_COMPACTION: break;
    }
    event_item(k, "response.output_item.done", t, false);
}

static out_item *open_item(run *k, item_kind kind) {
    close_item(k, "completed");
    out_item *grown = realloc(k->items, (k->n_items + 1) * sizeof *grown);
    if (!grown) {
        k->log.failed = true;
        return NULL;
    }
    k->items = grown;
    out_item *t = &grown[k->n_items];
    *t = (out_item){.kind = kind,
                    .id = item_id(kinds[kind], k->seed, 'o', k->n_items),
                    .status = "in_progress"};
    k->n_items++;
    k->item_open = true;
    return t;
}

void run_event_compaction(run *k, str sealed) {
    out_item *t = open_item(k, ITEM_COMPACTION);
    if (!t) return;
    buf_append_str(&t->sealed, sealed);
    event_item(k, "response.output_item.added", t, false);
    close_item(k, "completed");
}

/* The open item if it is of that kind, else a new one, announced. */
static out_item *want_item(run *k, item_kind kind) {
    if (k->item_open && k->items[k->n_items - 1].kind == kind) return &k->items[k->n_items - 1];
    out_item *t = open_item(k, kind);
    if (!t) return NULL;
    event_item(k, "response.output_item.added", t, true);
    event_part(k, "response.content_part.added", t, true);
    return t;
}

/* Where the tokens of a message begin: behind those that announce it, which its text does not show. */
static size_t find_text(const run *k, const choice *c, str text) {
    const tok *vocabulary = engine_get_tok(k->a->engine);
    size_t from = c->n_tokens;
    while (from && !(vocabulary && tok_is_special(vocabulary, c->tokens[from - 1].r.id))) from--;
    for (size_t i = from; i < c->n_tokens; i++) {
        str piece = str_make(c->tokens[i].piece, c->tokens[i].piece_len);
        if (piece.len && (str_starts(text, piece) || str_starts(piece, text))) return i;
    }
    return from;
}

/* The tokens since the last piece of text, as logprobs: appended to the item, given back for the
 * delta. `text`: the item's first piece, or nothing. */
static str take_logprobs(run *k, out_item *t, str text, buf *delta) {
    choice *c = &k->set->items[0];
    if (!k->wants_logprobs || !c->n_tokens) return (str){0};
    json_out j = json_begin(delta);
    json_arr(&j);
    api_put_token_logprobs(&j, k->a, c, text.len ? find_text(k, c, text) : 0, c->n_tokens);
    json_end_arr(&j);
    choice_drop_tokens(c);
    if (delta->len <= 2) return (str){0};
    str inner = str_make(delta->ptr + 1, delta->len - 2);
    if (t->logprobs.len) buf_append_char(&t->logprobs, ',');
    buf_append_str(&t->logprobs, inner);
    return inner;
}

/* A call of the tool that the model knows as `name`, which the client may know as something else. */
static out_item *open_call(run *k, str name) {
    json_t *tool = json_object_getn(k->offered, name.ptr ? name.ptr : "", name.len);
    out_item *t = open_item(k, tool ? (item_kind)json_integer_value(json_object_get(tool, "kind"))
                                    : ITEM_CALL);
    if (!t) return NULL;
    buf_append_str(&t->name, tool ? json_str(json_object_get(tool, "name")) : name);
    buf_append_str(&t->space, json_str(json_object_get(tool, "namespace")));
    return t;
}

void run_take_event(run *k, const turn_event *e) {
    out_item *t;
    json_out j;
    buf delta = {0};
    str logprobs;
    switch (e->kind) {
    case TURN_REASONING:
        if (!(t = want_item(k, ITEM_REASONING))) break;
        choice_drop_tokens(&k->set->items[0]);
        buf_append_str(&t->text, e->text);
        j = begin_item_event(k, "response.reasoning_text.delta", t, true);
        json_kv_str(&j, "delta", e->text);
        end_event(k, &j);
        break;
    case TURN_CONTENT:
        if (!(t = want_item(k, ITEM_MESSAGE))) break;
        logprobs = take_logprobs(k, t, t->text.len ? (str){0} : e->text, &delta);
        buf_append_str(&t->text, e->text);
        j = begin_item_event(k, "response.output_text.delta", t, true);
        json_kv_str(&j, "delta", e->text);
        json_key(&j, "logprobs");
        json_arr(&j);
        if (logprobs.len) json_put_raw(&j, logprobs);
        json_end_arr(&j);
        end_event(k, &j);
        break;
    case TURN_CALL_BEGIN:
        if (!(t = open_call(k, e->text))) break;
        snprintf(t->call_id.text, sizeof t->call_id.text, "%.*s", STR_ARG(e->call_id));
        event_item(k, "response.output_item.added", t, true);
        break;
    case TURN_CALL_ARGS:
        if (!k->item_open || k->items[k->n_items - 1].kind < ITEM_CALL) break;
        t = &k->items[k->n_items - 1];
        buf_append_str(&t->text, e->text);
        if (t->kind != ITEM_CALL) break; /* its text is known when it is whole */
        event_call_delta(k, t, e->text);
        break;
    case TURN_CALL_END: close_item(k, "completed"); break;
    case TURN_END:
        if (e->finish == TURN_LENGTH)
            k->status = RUN_INCOMPLETE;
        else if (e->finish == TURN_CANCELLED)
            k->status = RUN_CANCELLED;
        else if (e->finish == TURN_FAILED) {
            k->status = RUN_FAILED;
            k->err = k->set->items[0].err;
        } else
            k->status = RUN_COMPLETED;
        k->completed = api_now();
        break;
    default: break;
    }
    buf_deinit(&delta);
    /* The record of the choice keeps texts a second time: not needed here. */
    buf_clear(&k->set->items[0].content);
    buf_clear(&k->set->items[0].reasoning);
}

static bool has_answer(const run *k) {
    return k->n_items && k->items[k->n_items - 1].kind != ITEM_COMPACTION;
}

void run_event_end(run *k) {
    bool whole = k->status == RUN_COMPLETED;
    /* A model that said nothing said an empty message. */
    if (!has_answer(k) && k->status <= RUN_INCOMPLETE) want_item(k, ITEM_MESSAGE);
    close_item(k, whole ? "completed" : "incomplete");
    run_event_response(k, whole                     ? "response.completed"
                          : k->status == RUN_FAILED ? "response.failed"
                                                    : "response.incomplete");
}
