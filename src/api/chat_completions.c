/* POST /v1/chat/completions */
#include "api/chat_request.h"

#include <stdio.h>

#include "api/messages.h"
#include "api/store_chat.h"

typedef struct chat_params {
    gen_params gen; /* first: the shared decoders write here */
    const chat_message *messages;
    size_t n_messages;
    const chat_tool *tools;
    size_t n_tools;
    json_t *tool_choice, *response_format, *template_args;
    bool logprobs, store, has_top;
    int64_t top_logprobs;
    bool parallel_tool_calls;
    int effort, service_tier, verbosity;
} chat_params;

static bool decode_messages(const field_ctx *c, json_t *v, const char *path, void *out,
                            error *err) {
    chat_params *p = out;
    return messages_parse(c->mem, v, path, &p->messages, &p->n_messages, err);
}

static bool decode_tools(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    chat_params *p = out;
    return tools_parse(c->mem, v, path, &p->tools, &p->n_tools, err);
}

static bool keep_tool_choice(const field_ctx *c, json_t *v, const char *path, void *out,
                             error *err) {
    (void)c, (void)path, (void)err;
    ((chat_params *)out)->tool_choice = v; /* needs tools: looked at when all fields are there */
    return true;
}

static bool decode_response_format(const field_ctx *c, json_t *v, const char *path, void *out,
                                   error *err) {
    (void)c, (void)out;
    static const char *const types[] = {"text", "json_object", "json_schema", NULL};
    field_path at, member;
    json_t *type, *spec, *name, *schema;
    int which;
    if (!field_object(v, path, err) || !(type = field_need(v, "type", path, err)) ||
        !field_enum(type, path_member(&at, path, "type"), types, &which, err))
        return false;
    if (which == 0) return true;
    if (which == 2) {
        str s;
        if (!(spec = field_need(v, "json_schema", path, err)) ||
            !field_object(spec, path_member(&at, path, "json_schema"), err) ||
            !(name = field_need(spec, "name", at.text, err)) ||
            !field_str(name, path_member(&member, at.text, "name"), &s, err) ||
            !function_name_check(s, member.text, err))
            return false;
        if ((schema = field_get(spec, "schema"))) {
            path_member(&member, at.text, "schema");
            if (!field_object(schema, member.text, err) ||
                !schema_check(schema, member.text, ERR_INVALID_VALUE, err))
                return false;
        }
    }
    path_member(&at, path, "type");
    return error_set(err, ERR_NOT_IMPLEMENTED, at.text,
                     "response_format '%s' is not implemented yet.", types[which]);
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
    (void)c, (void)out;
    static const char *const types[] = {"content", NULL};
    field_path at;
    json_t *type;
    int which;
    return field_object(v, path, err) && (type = field_need(v, "type", path, err)) &&
           field_enum(type, path_member(&at, path, "type"), types, &which, err) &&
           field_need(v, "content", path, err);
}

static bool decode_template_args(const field_ctx *c, json_t *v, const char *path, void *out,
                                 error *err) {
    (void)c;
    if (!field_object(v, path, err)) return false;
    ((chat_params *)out)->template_args = v;
    return true;
}

static bool decode_functions(const field_ctx *c, json_t *v, const char *path, void *out,
                             error *err) {
    (void)c, (void)out;
    if (!field_array(v, path, API_MAX_TOOLS, err)) return false;
    return json_array_size(v) == 0 ||
           error_set(err, ERR_NOT_IMPLEMENTED, path,
                     "The deprecated 'functions' is not implemented yet; send 'tools'.");
}

static bool decode_top_logprobs(const field_ctx *c, json_t *v, const char *path, void *out,
                                error *err) {
    (void)c;
    chat_params *p = out;
    p->has_top = true;
    return field_int(v, path, 0, SAMPLE_MAX_TOP, &p->top_logprobs, err);
}

static const char *const efforts[] = {"none", "minimal", "low", "medium",
                                      "high", "xhigh",   "max", NULL};
static const char *const effort_of[] = {"low", "low", "low", "medium", "high", "high", "high"};
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
     .doc = "functions; custom tools are a 501"},
    {.name = "tool_choice",
     .kind = FIELD_CUSTOM,
     .decode = keep_tool_choice,
     .doc = "auto and none; required, named and allowed_tools are a 501"},
    {.name = "parallel_tool_calls",
     .kind = FIELD_BOOL,
     .offset = offsetof(chat_params, parallel_tool_calls),
     .doc = "harmony makes one call at a time"},
    {.name = "response_format",
     .kind = FIELD_CUSTOM,
     .decode = decode_response_format,
     .doc = "text; json_object and json_schema are a 501"},
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
     .doc = "accepted, no effect"},
    {.name = "metadata",
     .kind = FIELD_CUSTOM,
     .decode = gen_decode_metadata,
     .doc = "kept with store"},
    {.name = "store",
     .kind = FIELD_BOOL,
     .offset = offsetof(chat_params, store),
     .doc = "keeps the completion for the stored-completion routes"},
    {.name = "functions", .kind = FIELD_CUSTOM, .decode = decode_functions, .doc = "501"},
    {.name = "function_call", .kind = FIELD_ACCEPT, .doc = "only beside functions"},
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
    {.name = "safety_identifier", .kind = FIELD_ACCEPT, .doc = "accepted, no effect"},
    {.name = "prompt_cache_key", .kind = FIELD_ACCEPT, .doc = "accepted, no effect"},
    {.name = "prompt_cache_retention", .kind = FIELD_ACCEPT, .doc = "accepted, no effect"},
    {.name = "prompt_cache_options", .kind = FIELD_ACCEPT, .doc = "accepted, no effect"},
    {.name = "moderation", .kind = FIELD_ACCEPT, .doc = "accepted, no effect"},
};

const field_table chat_completions_fields = {fields, sizeof fields / sizeof fields[0]};

/* auto and none work; forcing a call needs guided decoding. */
static bool check_tool_choice(const chat_params *p, chat_tool_choice *out, error *err) {
    *out = CHAT_TOOLS_AUTO;
    json_t *v = p->tool_choice;
    if (!v) return true;
    str s = json_str(v);
    if (json_is_string(v)) {
        static const char *const values[] = {"none", "auto", "required", NULL};
        int which;
        if (!field_enum(v, "tool_choice", values, &which, err)) return false;
        if (which == 0) *out = CHAT_TOOLS_NONE;
        if (which < 2) return true;
        if (!p->n_tools)
            return error_set(err, ERR_INVALID_VALUE, "tool_choice",
                             "'tool_choice' is 'required', but there are no 'tools'.");
    } else {
        if (!field_object(v, "tool_choice", err)) return false;
        if (!p->n_tools)
            return error_set(err, ERR_INVALID_VALUE, "tool_choice",
                             "'tool_choice' names a tool, but there are no 'tools'.");
        static const char *const types[] = {"function", "allowed_tools", "custom", NULL};
        json_t *type = field_need(v, "type", "tool_choice", err), *fn, *name;
        int which;
        if (!type || !field_enum(type, "tool_choice.type", types, &which, err)) return false;
        if (which == 0) {
            if (!(fn = field_need(v, "function", "tool_choice", err)) ||
                !field_object(fn, "tool_choice.function", err) ||
                !(name = field_need(fn, "name", "tool_choice.function", err)) ||
                !field_str(name, "tool_choice.function.name", &s, err))
                return false;
            bool known = false;
            for (size_t i = 0; i < p->n_tools; i++) known |= str_eq(p->tools[i].name, s);
            if (!known)
                return error_set(
                    err, ERR_INVALID_VALUE, "tool_choice",
                    "'tool_choice' names the function '%.*s', which is not among 'tools'.",
                    STR_ARG(s));
        }
    }
    return error_set(
        err, ERR_NOT_IMPLEMENTED, "tool_choice",
        "A 'tool_choice' that forces a call is not implemented yet; 'auto' and 'none' work.");
}

/* ── decoding ── */

struct chat_request {
    chat_params p;
    chat_input in;
};

static bool decode(api *a, arena *mem, json_t *body, chat_request *k, error *err) {
    k->p = (chat_params){.gen = gen_defaults(a), .effort = -1, .parallel_tool_calls = true};
    field_ctx ctx = {.mem = mem};
    if (!fields_decode(&ctx, body, fields, sizeof fields / sizeof fields[0], "", &k->p, err))
        return false;
    if (!api_check_model(a, k->p.gen.model, err)) return false;
    if (k->p.has_top && !k->p.logprobs)
        return error_set(err, ERR_INVALID_VALUE, "top_logprobs",
                         "'top_logprobs' needs 'logprobs' to be true.");
    if (!gen_finish(a, &k->p.gen, err)) return false;
    k->in = (chat_input){.messages = k->p.messages,
                         .n_messages = k->p.n_messages,
                         .tools = k->p.tools,
                         .n_tools = k->p.n_tools,
                         .now = api_now(),
                         .template_args = k->p.template_args};
    if (!check_tool_choice(&k->p, &k->in.tool_choice, err)) return false;
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

static void put_message(json_out *j, const choice *c) {
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
    if (c->n_calls) {
        json_key(j, "tool_calls");
        json_arr(j);
        for (size_t i = 0; i < c->n_calls; i++) {
            json_obj(j);
            json_kv_cstr(j, "id", c->calls[i].id.text);
            json_kv_cstr(j, "type", "function");
            json_key(j, "function");
            json_obj(j);
            json_kv_str(j, "name", buf_str(&c->calls[i].name));
            json_kv_str(j, "arguments", buf_str(&c->calls[i].arguments));
            json_end_obj(j);
            json_end_obj(j);
        }
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
        put_message(&j, c);
        json_key(&j, "logprobs");
        if (k->q->p.logprobs)
            api_put_logprobs(&j, k->a, c, 0, c->n_tokens);
        else
            json_put_null(&j);
        json_kv_cstr(&j, "finish_reason", api_finish_name(c->finish));
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
    if (k->q->p.gen.include_usage) json_kv_null(j, "usage");
    json_end_obj(j);
    sse_end(j->b);
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
        j = begin_chunk(k, out, c->index);
        json_key(&j, "tool_calls");
        json_arr(&j);
        json_obj(&j);
        json_kv_int(&j, "index", e->call_index);
        if (e->kind == TURN_CALL_BEGIN) {
            json_kv_str(&j, "id", e->call_id);
            json_kv_cstr(&j, "type", "function");
        }
        json_key(&j, "function");
        json_obj(&j);
        if (e->kind == TURN_CALL_BEGIN) json_kv_str(&j, "name", e->text);
        json_kv_str(&j, "arguments", e->kind == TURN_CALL_BEGIN ? (str){0} : e->text);
        json_end_obj(&j);
        json_end_obj(&j);
        json_end_arr(&j);
        end_chunk(k, &j, c, NULL);
        break;
    case TURN_END:
        if (error_is_set(&c->err)) break;
        j = begin_chunk(k, out, c->index);
        end_chunk(k, &j, c, api_finish_name(e->finish));
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
    choices_sink sink = {put_event, put_chunk_head, k->q->p.gen.include_usage, k->set->n, may_end};
    return choices_pull(k->set, &sink, k, out);
}

/* ── entry ── */

static bool start(api *a, http_req *r, job *k, error *err) {
    json_t *body = api_parse_body(r, err);
    if (!body || !(k->q = chat_request_decode(a, http_arena(r), body, err))) return false;
    k->a = a;
    k->id = api_make_id("chatcmpl-");
    k->created = api_now();
    if (k->q->p.store) k->keeper = chat_keeper_new(a, r, body);
    k->set = choices_start(a, r, (size_t)k->q->p.gen.n, k->q->p.logprobs, chat_request_make_turn,
                           k->q, err);
    if (k->set) return true;
    if (err->code == ERR_CONTEXT_LENGTH || err->code == ERR_TEMPLATE)
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
