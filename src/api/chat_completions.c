/* POST /v1/chat/completions */
#include "api/chat_request.h"

#include <stdio.h>

#include "api/messages.h"
#include "api/store_chat.h"
#include "api/tools.h"

typedef struct chat_params {
    gen_params gen; /* first: the shared decoders write here */
    const chat_message *messages;
    size_t n_messages;
    tool_set tools;
    json_t *tool_choice, *function_call, *template_args;
    chat_answer answer;
    str prediction;
    int32_t *predicted; /* the same as tokens */
    size_t n_predicted;
    bool logprobs, store, has_top;
    int64_t top_logprobs;
    bool parallel_tool_calls;
    int effort, service_tier, verbosity, reasoning_format;
} chat_params;

static bool decode_messages(const field_ctx *c, json_t *v, const char *path, void *out,
                            error *err) {
    chat_params *p = out;
    return messages_parse(c->mem, v, path, &p->messages, &p->n_messages, err);
}

static bool decode_tools(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    return tools_parse(c->mem, v, path, &((chat_params *)out)->tools, err);
}

static bool decode_functions(const field_ctx *c, json_t *v, const char *path, void *out,
                             error *err) {
    chat_params *p = out;
    if (json_array_size(v) && p->tools.n)
        return error_set(err, ERR_INVALID_VALUE, path,
                         "'functions' is the older name of 'tools': give one of them.");
    return p->tools.n || functions_parse(c->mem, v, path, &p->tools, err);
}

static bool keep_tool_choice(const field_ctx *c, json_t *v, const char *path, void *out,
                             error *err) {
    (void)c, (void)path, (void)err;
    ((chat_params *)out)->tool_choice = v; /* needs tools: looked at when all fields are there */
    return true;
}

static bool keep_function_call(const field_ctx *c, json_t *v, const char *path, void *out,
                               error *err) {
    (void)c, (void)path, (void)err;
    ((chat_params *)out)->function_call = v;
    return true;
}

/* What the answer in words has to be; enforced while it is generated. */
static bool decode_response_format(const field_ctx *c, json_t *v, const char *path, void *out,
                                   error *err) {
    (void)c;
    static const char *const types[] = {"text", "json_object", "json_schema", NULL};
    static const char SCHEMA[] = "response_format.json_schema.schema";
    chat_answer *answer = &((chat_params *)out)->answer;
    field_path at, member;
    json_t *type, *spec, *name, *schema, *strict, *about;
    int which;
    bool ignored;
    str s;
    if (!field_object(v, path, err) || !(type = field_need(v, "type", path, err)) ||
        !field_enum(type, path_member(&at, path, "type"), types, &which, err))
        return false;
    if (which < 2) {
        answer->kind = which ? CHAT_ANSWER_JSON : CHAT_ANSWER_TEXT;
        return true;
    }
    if (!(spec = field_need(v, "json_schema", path, err)) ||
        !field_object(spec, path_member(&at, path, "json_schema"), err) ||
        !(name = field_need(spec, "name", at.text, err)) ||
        !field_str(name, path_member(&member, at.text, "name"), &s, err) ||
        !function_name_check(s, member.text, err))
        return false;
    if ((strict = field_get(spec, "strict")) &&
        !field_bool(strict, path_member(&member, at.text, "strict"), &ignored, err))
        return false;
    if ((about = field_get(spec, "description")) &&
        !field_str(about, path_member(&member, at.text, "description"), &s, err))
        return false;
    if (!(schema = field_need(spec, "schema", at.text, err))) return false;
    *answer = (chat_answer){.kind = CHAT_ANSWER_SCHEMA, .schema = schema, .param = SCHEMA};
    return field_object(schema, SCHEMA, err) &&
           schema_check(schema, SCHEMA, ERR_INVALID_VALUE, err);
}

static bool decode_modalities(const field_ctx *c, json_t *v, const char *path, void *out,
                              error *err) {
    (void)c, (void)out;
    static const char *const values[] = {"text", "audio", NULL};
    if (!field_array(v, path, 2, err)) return false;
    for (size_t i = 0; i < json_array_size(v); i++) {
        field_path at;
        int which;
        if (!field_enum(json_array_get(v, i), path_index(&at, path, i), values, &which, err))
            return false;
        if (which == 1)
            return error_set(err, ERR_UNSUPPORTED_VALUE, at.text,
                             "Audio output is not supported: this model writes text only.");
    }
    return true;
}

static bool decode_prediction(const field_ctx *c, json_t *v, const char *path, void *out,
                              error *err) {
    static const char *const types[] = {"content", NULL};
    chat_params *p = out;
    field_path at;
    json_t *type, *content;
    int which;
    return field_object(v, path, err) && (type = field_need(v, "type", path, err)) &&
           field_enum(type, path_member(&at, path, "type"), types, &which, err) &&
           (content = field_need(v, "content", path, err)) &&
           content_parse(c->mem, content, path_member(&at, path, "content"), &p->prediction, err);
}

static bool decode_template_args(const field_ctx *c, json_t *v, const char *path, void *out,
                                 error *err) {
    (void)c;
    if (!field_object(v, path, err)) return false;
    ((chat_params *)out)->template_args = v;
    return true;
}

static bool decode_top_logprobs(const field_ctx *c, json_t *v, const char *path, void *out,
                                error *err) {
    (void)c;
    chat_params *p = out;
    p->has_top = true;
    return field_int(v, path, 0, SAMPLE_MAX_TOP, &p->top_logprobs, err);
}

static const char *const cache_retentions[] = {"in_memory", "in-memory", "24h", NULL};

static bool decode_cache_options(const field_ctx *c, json_t *v, const char *path, void *out,
                                 error *err) {
    static const char *const ttls[] = {"30m", NULL}, *const modes[] = {"implicit", "explicit",
                                                                       NULL};
    static const field members[] = {
        {.name = "ttl", .kind = FIELD_ENUM, .offset = FIELD_NOWHERE, .values = ttls},
        {.name = "mode", .kind = FIELD_ENUM, .offset = FIELD_NOWHERE, .values = modes},
    };
    return fields_decode(c, v, members, sizeof members / sizeof members[0], path, out, err);
}

/* Which moderation is wanted of OpenAI; the same three levels for what comes in and what goes out. */
static bool decode_moderated(const field_ctx *c, json_t *v, const char *path, void *out,
                             error *err) {
    static const char *const modes[] = {"score", "block", NULL};
    static const field members[] = {{.name = "mode",
                                     .kind = FIELD_ENUM,
                                     .required = true,
                                     .offset = FIELD_NOWHERE,
                                     .values = modes}};
    return fields_decode(c, v, members, 1, path, out, err);
}
static bool decode_policy(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    static const field members[] = {
        {.name = "input", .kind = FIELD_CUSTOM, .decode = decode_moderated},
        {.name = "output", .kind = FIELD_CUSTOM, .decode = decode_moderated},
    };
    return fields_decode(c, v, members, sizeof members / sizeof members[0], path, out, err);
}
static bool decode_moderation(const field_ctx *c, json_t *v, const char *path, void *out,
                              error *err) {
    static const field members[] = {
        {.name = "model", .kind = FIELD_STR, .required = true, .offset = FIELD_NOWHERE},
        {.name = "policy", .kind = FIELD_CUSTOM, .decode = decode_policy},
    };
    return fields_decode(c, v, members, sizeof members / sizeof members[0], path, out, err);
}

static const char *const efforts[] = {"none", "minimal", "low", "medium",
                                      "high", "xhigh",   "max", NULL};
static const char *const effort_of[] = {"low", "low", "low", "medium", "high", "high", "high"};
static const char *const reasoning_formats[] = {"none", "auto", "deepseek", NULL};
static const char *const verbosities[] = {"low", "medium", "high", NULL};

static const field fields[] = {
    {.name = "model",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(chat_params, gen.model),
     .doc = "the model's id or 'default'"},
    {.name = "messages",
     .kind = FIELD_CUSTOM,
     .required = true,
     .decode = decode_messages,
     .doc = "text parts; images and audio are a 400 that names the part"},
    GEN_FIELDS("any 64-bit integer; same seed, same text"),
    {.name = "max_completion_tokens",
     .kind = FIELD_INT,
     .offset = offsetof(chat_params, gen.max_completion_tokens),
     .min = 1,
     .max = 1ll << 40,
     .doc = "reasoning included"},
    {.name = "max_tokens",
     .kind = FIELD_INT,
     .offset = offsetof(chat_params, gen.max_tokens),
     .min = 1,
     .max = 1ll << 40,
     .doc = "older name of max_completion_tokens"},
    {.name = "logprobs",
     .kind = FIELD_BOOL,
     .offset = offsetof(chat_params, logprobs),
     .doc = "every sampled token, markers included"},
    {.name = "top_logprobs",
     .kind = FIELD_CUSTOM,
     .decode = decode_top_logprobs,
     .doc = "0 to 20; needs logprobs"},
    {.name = "tools",
     .kind = FIELD_CUSTOM,
     .decode = decode_tools,
     .doc = "functions and custom tools (text, regex and Lark grammars)"},
    {.name = "tool_choice",
     .kind = FIELD_CUSTOM,
     .decode = keep_tool_choice,
     .doc = "none, auto, required, one by name, allowed_tools; enforced while generating"},
    {.name = "parallel_tool_calls",
     .kind = FIELD_BOOL,
     .offset = offsetof(chat_params, parallel_tool_calls),
     .doc = "false: at most one; harmony models make one at a time"},
    {.name = "response_format",
     .kind = FIELD_CUSTOM,
     .decode = decode_response_format,
     .doc = "text, json_object, json_schema; enforced while generating"},
    {.name = "reasoning_effort",
     .kind = FIELD_ENUM,
     .offset = offsetof(chat_params, effort),
     .values = efforts,
     .doc = "low, medium, high; none and minimal count as low, xhigh and max as high"},
    {.name = "service_tier",
     .kind = FIELD_ENUM,
     .offset = offsetof(chat_params, service_tier),
     .values = gen_service_tiers,
     .doc = "accepted; answers say default"},
    {.name = "verbosity",
     .kind = FIELD_ENUM,
     .offset = offsetof(chat_params, verbosity),
     .values = verbosities,
     .doc = "accepted, no effect"},
    {.name = "modalities", .kind = FIELD_CUSTOM, .decode = decode_modalities, .doc = "text"},
    {.name = "prediction",
     .kind = FIELD_CUSTOM,
     .decode = decode_prediction,
     .doc = "usage counts which of its tokens came; no effect on speed"},
    {.name = "metadata",
     .kind = FIELD_CUSTOM,
     .decode = gen_decode_metadata,
     .doc = "kept with store"},
    {.name = "store",
     .kind = FIELD_BOOL,
     .offset = offsetof(chat_params, store),
     .doc = "keeps the completion for the stored-completion routes"},
    {.name = "functions",
     .kind = FIELD_CUSTOM,
     .decode = decode_functions,
     .doc = "older name of tools; the answer then has function_call"},
    {.name = "function_call",
     .kind = FIELD_CUSTOM,
     .decode = keep_function_call,
     .doc = "none, auto, {name}; only beside functions"},
    {.name = "reasoning_format",
     .kind = FIELD_ENUM,
     .offset = offsetof(chat_params, reasoning_format),
     .values = reasoning_formats,
     .doc = "extension; none: reasoning stays in content as the model marks it"},
    {.name = "audio",
     .kind = FIELD_CUSTOM,
     .decode = gen_decode_unsupported,
     .doc = "400: text only"},
    {.name = "web_search_options",
     .kind = FIELD_CUSTOM,
     .decode = gen_decode_unsupported,
     .doc = "400: text only"},
    {.name = "chat_template_kwargs",
     .kind = FIELD_CUSTOM,
     .decode = decode_template_args,
     .doc = "extension: variables for the chat template"},
    {.name = "safety_identifier",
     .kind = FIELD_STR,
     .offset = FIELD_NOWHERE,
     .max = 64,
     .doc = "accepted, no effect"},
    {.name = "prompt_cache_key",
     .kind = FIELD_STR,
     .offset = FIELD_NOWHERE,
     .doc = "accepted, no effect"},
    {.name = "prompt_cache_retention",
     .kind = FIELD_ENUM,
     .offset = FIELD_NOWHERE,
     .values = cache_retentions,
     .doc = "accepted, no effect"},
    {.name = "prompt_cache_options",
     .kind = FIELD_CUSTOM,
     .decode = decode_cache_options,
     .doc = "accepted, no effect"},
    {.name = "moderation",
     .kind = FIELD_CUSTOM,
     .decode = decode_moderation,
     .doc = "accepted, no effect"},
};

const field_table chat_completions_fields = {fields, sizeof fields / sizeof fields[0]};

/* ── decoding ── */

static bool encode_prediction(const api *a, arena *mem, chat_params *p, error *err) {
    tok_ids ids = {0};
    tok *t = engine_get_tok(a->engine);
    if (!p->prediction.len || !t) return true;
    bool ok = tok_encode(t, p->prediction, (tok_encode_opts){0}, &ids, err);
    p->predicted = arena_array(mem, ids.n + 1, sizeof *p->predicted);
    if (ok && (ids.failed || !p->predicted))
        ok = error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (ok) memcpy(p->predicted, ids.ids, (p->n_predicted = ids.n) * sizeof *ids.ids);
    tok_ids_deinit(&ids);
    return ok;
}

struct chat_request {
    chat_params p;
    chat_input in;
};

static bool decode(api *a, arena *mem, json_t *body, chat_request *k, error *err) {
    k->p = (chat_params){
        .gen = gen_defaults(a), .effort = -1, .reasoning_format = 1, .parallel_tool_calls = true};
    field_ctx ctx = {.mem = mem};
    if (!fields_decode(&ctx, body, fields, sizeof fields / sizeof fields[0], "", &k->p, err))
        return false;
    if (!api_check_model(a, k->p.gen.model, err)) return false;
    if (k->p.has_top && !k->p.logprobs)
        return error_set(err, ERR_INVALID_VALUE, "top_logprobs",
                         "'top_logprobs' needs 'logprobs' to be true.");
    if (!gen_finish(a, &k->p.gen, err)) return false;
    if (k->p.answer.kind && k->p.gen.answer.kind)
        return error_set(
            err, ERR_INVALID_VALUE, "grammar",
            "'grammar' and 'response_format' both say what the answer looks like: give one.");
    if (k->p.tool_choice && !tool_choice_parse(k->p.tool_choice, "tool_choice", &k->p.tools, err))
        return false;
    bool has_functions = k->p.tools.are_functions;
    if (json_is_object(k->p.function_call) && !has_functions)
        return error_set(err, ERR_INVALID_VALUE, "function_call",
                         "'function_call' names a function, but there are no 'functions'.");
    if (k->p.function_call && has_functions &&
        !function_call_parse(k->p.function_call, "function_call", &k->p.tools, err))
        return false;
    if (!encode_prediction(a, mem, &k->p, err)) return false;
    k->in = (chat_input){.messages = k->p.messages,
                         .n_messages = k->p.n_messages,
                         .tools = k->p.tools.tools,
                         .n_tools = k->p.tools.n,
                         .tool_choice = k->p.tools.choice,
                         .are_functions = k->p.tools.are_functions,
                         .one_call = !k->p.parallel_tool_calls || k->p.tools.are_functions,
                         .answer = k->p.answer.kind       ? &k->p.answer
                                   : k->p.gen.answer.kind ? &k->p.gen.answer
                                                          : NULL,
                         .show_reasoning = k->p.reasoning_format == 0,
                         .now = api_now(),
                         .template_args = k->p.template_args};
    if (k->p.effort >= 0)
        k->in.reasoning_effort = str_from(effort_of[k->p.effort]);
    else if (a->o.reasoning_effort)
        k->in.reasoning_effort = str_from(a->o.reasoning_effort);
    return true;
}

chat_request *chat_request_decode(api *a, arena *mem, json_t *body, error *err) {
    chat_request *k = arena_alloc(mem, sizeof *k);
    if (!k) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
        return NULL;
    }
    return decode(a, mem, body, k, err) ? k : NULL;
}

const gen_params *chat_request_gen(const chat_request *k) {
    return &k->p.gen;
}
const chat_input *chat_request_input(const chat_request *k) {
    return &k->in;
}

void chat_request_make_turn(void *ctx, size_t i, turn_request *q) {
    chat_request *k = ctx;
    const gen_params *g = &k->p.gen;
    q->chat = &k->in;
    q->sampling = g->sampling;
    q->sampling.seed = gen_seed(g, i);
    q->sampling.n_top = k->p.logprobs ? (int32_t)k->p.top_logprobs : -1;
    q->max_tokens = g->max_tokens;
    q->context = g->context;
    q->stops = g->stops;
    q->n_stops = g->n_stops;
    q->ignore_end = g->ignore_eos;
    q->max_kv_size = g->max_kv_size;
    q->keep_ids = k->p.n_predicted > 0;
}

/* ── the running request ── */

typedef struct job {
    api *a;
    chat_request *q;
    choices *set;
    chat_keeper *keeper; /* NULL: the completion is not kept */
    api_id id;
    int64_t created;
    bool roles_sent;
} job;

static void put_head(json_out *j, const job *k, const char *object) {
    json_kv_cstr(j, "id", k->id.text);
    json_kv_cstr(j, "object", object);
    json_kv_int(j, "created", k->created);
    json_kv_str(j, "model", k->q->p.gen.model);
    json_kv_cstr(j, "service_tier", "default");
    json_kv_cstr(j, "system_fingerprint", k->a->fingerprint);
}

/* "function": {name, arguments} or "custom": {name, input}, the deprecated function_call alike. */
static void put_called(json_out *j, const char *key, str name, bool is_custom, str arguments) {
    json_key(j, key);
    json_obj(j);
    if (name.ptr) json_kv_str(j, "name", name);
    json_kv_str(j, is_custom ? "input" : "arguments", arguments);
    json_end_obj(j);
}

static bool is_custom(const job *k, str name) {
    const chat_tool *t = tool_set_find(&k->q->p.tools, name);
    return t && t->is_custom;
}

static void put_call(json_out *j, const job *k, const choice_call *call) {
    bool custom = is_custom(k, buf_str(&call->name));
    buf input = {0};
    if (custom) tools_put_input(&input, buf_str(&call->arguments));
    json_obj(j);
    json_kv_cstr(j, "id", call->id.text);
    json_kv_cstr(j, "type", custom ? "custom" : "function");
    put_called(j, custom ? "custom" : "function", buf_str(&call->name), custom,
               custom ? buf_str(&input) : buf_str(&call->arguments));
    json_end_obj(j);
    j->b->failed |= input.failed;
    buf_deinit(&input);
}

static const char *finish_name(const job *k, turn_finish f) {
    if (f == TURN_TOOL_CALLS && k->q->p.tools.are_functions) return "function_call";
    return api_finish_name(f);
}

static void put_message(json_out *j, const job *k, const choice *c) {
    json_obj(j);
    json_kv_cstr(j, "role", "assistant");
    json_key(j, "content");
    if (c->content.len || !c->n_calls)
        json_put_str(j, buf_str(&c->content));
    else
        json_put_null(j);
    json_kv_null(j, "refusal");
    json_key(j, "annotations");
    json_arr(j);
    json_end_arr(j);
    if (c->reasoning.len) {
        json_kv_str(j, "reasoning_content", buf_str(&c->reasoning));
        json_kv_str(j, "reasoning", buf_str(&c->reasoning));
    }
    if (c->n_calls && k->q->p.tools.are_functions) {
        put_called(j, "function_call", buf_str(&c->calls[0].name), false,
                   buf_str(&c->calls[0].arguments));
    } else if (c->n_calls) {
        json_key(j, "tool_calls");
        json_arr(j);
        for (size_t i = 0; i < c->n_calls; i++) put_call(j, k, &c->calls[i]);
        json_end_arr(j);
    }
    json_end_obj(j);
}

static void render_completion(void *ctx, buf *out) {
    const job *k = ctx;
    json_out j = json_begin(out);
    json_obj(&j);
    put_head(&j, k, "chat.completion");
    json_key(&j, "choices");
    json_arr(&j);
    for (size_t i = 0; i < k->set->n; i++) {
        const choice *c = &k->set->items[i];
        json_obj(&j);
        json_kv_int(&j, "index", (int64_t)i);
        json_key(&j, "message");
        put_message(&j, k, c);
        json_key(&j, "logprobs");
        if (k->q->p.logprobs)
            api_put_logprobs(&j, k->a, c, 0, c->n_tokens);
        else
            json_put_null(&j);
        json_kv_cstr(&j, "finish_reason", finish_name(k, c->finish));
        json_end_obj(&j);
    }
    json_end_arr(&j);
    json_key(&j, "usage");
    choices_put_usage(k->set, k->set->n, &j);
    json_end_obj(&j);
}

static bool step(http_req *r, void *ctx) {
    job *k = ctx;
    bool ended = choices_drain(k->set);
    const error *failed = choices_failure(k->set);
    if (failed) {
        http_reply_error(r, failed);
        return true;
    }
    if (!ended) return false;
    error err = {0};
    if (!chat_keeper_done(k->keeper, k->id.text, render_completion, k, &err)) return false;
    if (error_is_set(&err)) {
        http_reply_error(r, &err);
        return true;
    }
    buf body = {0};
    render_completion(k, &body);
    http_reply(r, 200, "application/json", &body);
    return true;
}

/* ── stream ── */

/* Everything of a chunk up to the inside of "delta". */
static json_out begin_chunk(const job *k, buf *out, size_t index) {
    sse_begin(out);
    json_out j = json_begin(out);
    json_obj(&j);
    put_head(&j, k, "chat.completion.chunk");
    json_key(&j, "choices");
    json_arr(&j);
    json_obj(&j);
    json_kv_int(&j, "index", (int64_t)index);
    json_key(&j, "delta");
    json_obj(&j);
    return j;
}

static void end_chunk(const job *k, json_out *j, choice *c, const char *finish) {
    json_end_obj(j);
    json_key(j, "logprobs");
    if (k->q->p.logprobs && c->n_tokens) {
        api_put_logprobs(j, k->a, c, 0, c->n_tokens);
        choice_drop_tokens(c);
    } else
        json_put_null(j);
    json_kv_cstr(j, "finish_reason", finish);
    json_end_obj(j);
    json_end_arr(j);
    choices_put_chunk_usage(j, &k->q->p.gen, c);
    json_end_obj(j);
    sse_end(j->b);
}

/* The name first, then pieces of the arguments. A custom tool's text is known when it is whole. */
static void put_call_delta(const job *k, choice *c, const turn_event *e, buf *out) {
    if (!c->n_calls) return;
    choice_call *call = &c->calls[c->n_calls - 1];
    bool custom = is_custom(k, buf_str(&call->name)), begins = e->kind == TURN_CALL_BEGIN;
    if (!begins && custom != (e->kind == TURN_CALL_END)) return;
    str name = begins ? e->text : (str){0};
    buf input = {0};
    if (custom && !begins) tools_put_input(&input, buf_str(&call->arguments));
    str piece = begins ? (str){0} : custom ? buf_str(&input) : e->text;
    json_out j = begin_chunk(k, out, c->index);
    if (k->q->p.tools.are_functions) {
        put_called(&j, "function_call", name, false, piece);
    } else {
        json_key(&j, "tool_calls");
        json_arr(&j);
        json_obj(&j);
        json_kv_int(&j, "index", e->call_index);
        if (begins) {
            json_kv_str(&j, "id", e->call_id);
            json_kv_cstr(&j, "type", custom ? "custom" : "function");
        }
        put_called(&j, custom ? "custom" : "function", name, custom, piece);
        json_end_obj(&j);
        json_end_arr(&j);
    }
    end_chunk(k, &j, c, NULL);
    if (!custom && !k->keeper) buf_clear(&call->arguments);
    out->failed |= input.failed;
    buf_deinit(&input);
}

static void put_event(void *ctx, choice *c, const turn_event *e, buf *out) {
    const job *k = ctx;
    json_out j;
    switch (e->kind) {
    case TURN_REASONING:
        j = begin_chunk(k, out, c->index);
        json_kv_str(&j, "reasoning_content", e->text);
        json_kv_str(&j, "reasoning", e->text);
        end_chunk(k, &j, c, NULL);
        if (!k->keeper) buf_clear(&c->reasoning);
        break;
    case TURN_CONTENT:
        j = begin_chunk(k, out, c->index);
        json_kv_str(&j, "content", e->text);
        end_chunk(k, &j, c, NULL);
        if (!k->keeper) buf_clear(&c->content);
        break;
    case TURN_CALL_BEGIN:
    case TURN_CALL_ARGS:
    case TURN_CALL_END: put_call_delta(k, c, e, out); break;
    case TURN_END:
        if (error_is_set(&c->err)) break;
        j = begin_chunk(k, out, c->index);
        end_chunk(k, &j, c, finish_name(k, e->finish));
        break;
    default: break;
    }
}

static void put_chunk_head(void *ctx, json_out *j) {
    put_head(j, ctx, "chat.completion.chunk");
}

static bool may_end(void *ctx, error *err) {
    job *k = ctx;
    return chat_keeper_done(k->keeper, k->id.text, render_completion, k, err);
}

static http_pull_result pull(http_req *r, void *ctx, buf *out) {
    (void)r;
    job *k = ctx;
    if (!k->roles_sent) {
        for (size_t i = 0; i < k->set->n; i++) {
            json_out j = begin_chunk(k, out, i);
            json_kv_cstr(&j, "role", "assistant");
            json_kv_cstr(&j, "content", "");
            json_kv_null(&j, "refusal");
            end_chunk(k, &j, &k->set->items[i], NULL);
        }
        k->roles_sent = true;
        return HTTP_MORE;
    }
    choices_sink sink = {put_event, put_chunk_head, k->q->p.gen.include_usage, k->set->n, may_end,
                         k->q->p.gen.live_usage};
    return choices_pull(k->set, &sink, k, out);
}

/* ── entry ── */

static bool start(api *a, http_req *r, job *k, error *err) {
    json_t *body = api_parse_body(r, err);
    if (!body || !(k->q = chat_request_decode(a, http_arena(r), body, err)) ||
        !messages_check_answered(k->q->p.messages, k->q->p.n_messages, "messages", err))
        return false;
    k->a = a;
    k->id = api_make_id("chatcmpl-");
    k->created = api_now();
    if (k->q->p.store) k->keeper = chat_keeper_new(a, r, body);
    k->set = choices_start(a, r, (size_t)k->q->p.gen.n, k->q->p.logprobs, chat_request_make_turn,
                           k->q, err);
    if (k->set) {
        k->set->predicted = k->q->p.predicted;
        k->set->n_predicted = k->q->p.n_predicted;
        return true;
    }
    if (err->code == ERR_CONTEXT_LENGTH ||
        (err->code == ERR_TEMPLATE && strncmp(err->param, "messages", 8) != 0))
        snprintf(err->param, sizeof err->param, "messages");
    return false;
}

void route_chat_completions(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    job *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k)
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    else
        start(a, r, k, &err);
    if (error_is_set(&err))
        http_reply_error(r, &err);
    else if (k->q->p.gen.stream)
        http_reply_stream(r, "text/event-stream", pull, k);
    else
        http_reply_later(r, step, k);
}
