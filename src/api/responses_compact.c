/* What becomes of a conversation that is too long to go on with: a summary that the model writes, sealed, so
 * that clients keep it without reading or changing it.
 *
 *     POST /v1/responses/compact      on request: the user's messages stay, the rest is summarised
 *     context_management              before an answer, when its prompt has more tokens than
 *                                     compact_threshold: one item stands for all that came before it, and what
 *                                     was said since the user last spoke lies in it word for word
 *
 * Should the model write nothing, the words themselves are kept: nothing is lost in silence. */
#include <stdio.h>
#include <stdlib.h>

#include "api/responses_impl.h"

enum { COMPACT_TOKENS = 1024 };

static const char compact_prompt[] =
    "Summarise the conversation above for yourself, so that you can go on from the summary alone: what the "
    "user wants, what was decided and found out, names, numbers and paths that matter, and what is "
    "left to do. Write the summary only.";

static void append_transcript(json_t *messages, buf *out) {
    for (size_t i = 0; i < json_array_size(messages); i++) {
        json_t *m = json_array_get(messages, i);
        buf_append_str(out, json_str(json_object_get(m, "role")));
        buf_append_cstr(out, ": ");
        json_t *content = json_object_get(m, "content");
        buf_append_str(out, json_str(content));
        for (size_t p = 0; p < json_array_size(content); p++)
            buf_append_str(out, json_str(json_object_get(json_array_get(content, p), "text")));
        buf_append_char(out, '\n');
    }
}

/* What the model wrote, or the words themselves. */
static void append_summary(const choice *said, json_t *messages, buf *out) {
    str text = str_trim(buf_str(&said->content));
    if (text.len)
        buf_append_str(out, text);
    else
        append_transcript(messages, out);
}

/* ── on request ── */

typedef struct compaction {
    api *a;
    run *k;
    choices *set;
    int64_t created;
} compaction;

static void drop_run(void *k) {
    run_free(k);
}

static bool step_compaction(http_req *r, void *ctx) {
    compaction *c = ctx;
    bool ended = choices_drain(c->set);
    const error *failed = choices_failure(c->set);
    if (failed) {
        http_reply_error(r, failed);
        return true;
    }
    if (!ended) return false;
    const choice *said = &c->set->items[0];
    buf text = {0}, sealed = {0}, body = {0};
    append_summary(said, run_messages(c->k), &text);
    json_out j = json_begin(&body);
    json_obj(&j);
    json_kv_cstr(&j, "id", run_id(c->k));
    json_kv_cstr(&j, "object", "response.compaction");
    json_kv_int(&j, "created_at", c->created);
    json_key(&j, "output");
    json_arr(&j);
    json_t *input = run_input(c->k);
    for (size_t i = 0; i < json_array_size(input); i++) {
        json_t *item = json_array_get(input, i);
        if (str_is(json_str(json_object_get(item, "role")), "user")) json_put_value(&j, item);
    }
    json_obj(&j);
    json_kv_cstr(&j, "id", item_id("compaction", run_id(c->k) + 5, 'o', 0).text);
    json_kv_cstr(&j, "type", "compaction");
    if (seal_text(c->a, SEAL_COMPACTION, buf_str(&text), &sealed))
        json_kv_str(&j, "encrypted_content", buf_str(&sealed));
    else
        body.failed = true;
    json_end_obj(&j);
    json_end_arr(&j);
    json_key(&j, "usage");
    responses_put_usage(said, &j);
    json_end_obj(&j);
    buf_deinit(&text);
    buf_deinit(&sealed);
    http_reply(r, 200, "application/json", &body);
    return true;
}

void route_response_compact(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    compaction *c = arena_alloc(http_arena(r), sizeof *c);
    json_t *body = c ? api_parse_body(r, &err) : NULL, *input;
    if (body && (input = field_get(body, "input"))) {
        json_t *ask = json_pack("{s:s, s:s}", "role", "user", "content", compact_prompt);
        if (json_is_string(input))
            input = json_pack("[{s:s, s:O}]", "role", "user", "content", input);
        else
            input = json_copy(input);
        json_array_append_new(input, ask);
        json_object_set_new(body, "input", input);
    }
    if (body) {
        json_object_del(body, "stream");
        if (!field_get(body, "max_output_tokens"))
            json_object_set_new(body, "max_output_tokens", json_integer(COMPACT_TOKENS));
    }
    run *k = body ? run_decode(a, http_user(r), body, NULL, RUN_TO_COUNT, &err) : NULL;
    if (k) {
        http_own(r, k, drop_run);
        run_drop_last_input(k); /* our own question is no part of the conversation */
        *c = (compaction){.a = a, .k = k, .created = api_now()};
        c->set = choices_start(a, r, 1, false, chat_request_make_turn,
                               (void *)(uintptr_t)run_chat(k), &err);
    }
    if (!c) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (error_is_set(&err))
        http_reply_error(r, &err);
    else
        http_reply_later(r, step_compaction, c);
}

/* ── before an answer ── */

bool compaction_is_due(const run *k) {
    tok_ids ids = {0};
    bool due = k->compact_threshold &&
               chat_render(k->a->chat, chat_request_input(k->chat), &ids, NULL, NULL) &&
               (int64_t)ids.n > k->compact_threshold;
    tok_ids_deinit(&ids);
    return due;
}

chat_request *compaction_request(run *k, error *err) {
    static const char *const answers_only[] = {"tools", "tool_choice", "response_format", "grammar",
                                               "stop",  "logprobs",    "top_logprobs"};
    json_t *messages = json_copy(k->messages.messages), *body = json_copy(k->chat_body);
    json_array_append_new(messages,
                          json_pack("{s:s, s:s}", "role", "user", "content", compact_prompt));
    for (size_t i = 0; i < sizeof answers_only / sizeof answers_only[0]; i++)
        json_object_del(body, answers_only[i]);
    json_object_set_new(body, "messages", messages);
    json_object_set_new(body, "max_completion_tokens", json_integer(COMPACT_TOKENS));
    /* The one chance of a conversation that is too long already. */
    json_object_set_new(body, "truncation", json_string("auto"));
    json_array_append_new(k->keep, body);
    return chat_request_decode(k->a, &k->mem, body, err);
}

/* From the user's last message on, if that is short beside the threshold; else nothing. */
static json_t *last_words(const run *k) {
    enum { BYTES_PER_TOKEN = 4 };
    json_t *out = json_array();
    size_t n = json_array_size(k->all_input), from = n;
    while (
        from &&
        !str_is(json_str(json_object_get(json_array_get(k->all_input, from - 1), "role")), "user"))
        from--;
    for (size_t i = from ? from - 1 : n; i < n; i++)
        json_array_append(out, json_array_get(k->all_input, i));
    buf text = {0};
    json_out j = json_begin(&text);
    json_put_value(&j, out);
    if (text.failed || (int64_t)text.len > k->compact_threshold * BYTES_PER_TOKEN / 2)
        json_array_clear(out);
    buf_deinit(&text);
    return out;
}

/* {"summary": …, "items": […]}, sealed. */
static bool seal_window(const run *k, buf *sealed) {
    buf summary = {0}, window = {0};
    append_summary(&k->set->items[0], k->messages.messages, &summary);
    json_t *items = last_words(k);
    json_out j = json_begin(&window);
    json_obj(&j);
    json_kv_str(&j, "summary", buf_str(&summary));
    json_key(&j, "items");
    json_put_value(&j, items);
    json_end_obj(&j);
    bool ok =
        !window.failed && !summary.failed && seal_text(k->a, SEAL_WINDOW, buf_str(&window), sealed);
    json_decref(items);
    buf_deinit(&summary);
    buf_deinit(&window);
    return ok;
}

bool compaction_apply(run *k, error *err) {
    buf sealed = {0};
    item_messages m = {0};
    json_t *item = NULL;
    bool ok = seal_window(k, &sealed) &&
              (item = json_pack("[{s:s, s:s%}]", "type", "compaction", "encrypted_content",
                                sealed.ptr, sealed.len)) &&
              item_messages_init(&m);
    if (!ok) error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the summary.");
    str instructions = json_str(field_get(k->request, "instructions"));
    ok = ok && (!instructions.len || item_messages_instruct(&m, instructions, err)) &&
         item_messages_add(k->a, &m, item, "input", err);
    if (ok) {
        item_messages_deinit(&k->messages);
        k->messages = m;
        m = (item_messages){0};
        json_object_set(k->chat_body, "messages", k->messages.messages);
        ok = (k->chat = chat_request_decode(k->a, &k->mem, k->chat_body, err)) != NULL;
    }
    if (ok) run_event_compaction(k, buf_str(&sealed));
    item_messages_deinit(&m);
    json_decref(item);
    buf_deinit(&sealed);
    return ok;
}
