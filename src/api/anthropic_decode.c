/* Anthropic's requests: parameters, content blocks, tools, and what the turn is asked for. Members that
 * change nothing here are held to their types all the same.
 *
 * Source: Anthropic's API reference, version 2023-06-01.
 */
#include <inttypes.h>

#include "api/anthropic_impl.h"
#include "api/messages.h"

enum { MAX_STOP_SEQUENCES = TURN_MAX_STOPS, LOW_BUDGET = 2048, MEDIUM_BUDGET = 16384 };

/* ── fields ── */

static bool no_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
}

/* Texts put together, as a list of blocks gives them. */
typedef struct joined {
    arena *mem;
    str text;
    bool any;
} joined;

static bool join(joined *t, str more, const char *between, error *err) {
    if (!t->any) {
        t->text = more;
        t->any = true;
        return true;
    }
    size_t gap = strlen(between), len = t->text.len + gap + more.len;
    char *both = arena_alloc_aligned(t->mem, len + 1, 1);
    if (!both) return no_memory(err);
    if (t->text.len) memcpy(both, t->text.ptr, t->text.len);
    memcpy(both + t->text.len, between, gap);
    if (more.len) memcpy(both + t->text.len + gap, more.ptr, more.len);
    t->text = str_make(both, len);
    return true;
}

/* Where to cache: prompts are kept by themselves, so it is only checked. Of a block, a tool or the whole. */
static bool check_cache_control(json_t *v, const char *path, error *err) {
    static const char *const types[] = {"ephemeral", NULL}, *const ttls[] = {"5m", "1h", NULL};
    field_path p;
    int which;
    json_t *type, *ttl;
    return field_object(v, path, err) && (type = field_need(v, "type", path, err)) &&
           field_enum(type, path_member(&p, path, "type"), types, &which, err) &&
           (!(ttl = field_get(v, "ttl")) ||
            field_enum(ttl, path_member(&p, path, "ttl"), ttls, &which, err));
}

/* Members that change nothing here, in any block or tool. */
static bool check_marks(json_t *object, const char *path, error *err) {
    static const char *const texts[] = {"title", "context", "signature"};
    field_path p;
    json_t *v;
    str s;
    bool b;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if ((v = field_get(object, texts[i])) &&
            !field_str(v, path_member(&p, path, texts[i]), &s, err))
            return false;
    if ((v = field_get(object, "is_error")) &&
        !field_bool(v, path_member(&p, path, "is_error"), &b, err))
        return false;
    v = field_get(object, "cache_control");
    return !v || check_cache_control(v, path_member(&p, path, "cache_control"), err);
}

static bool block_type(json_t *block, const char *path, str *type, error *err) {
    field_path p;
    json_t *v;
    return field_object(block, path, err) && (v = field_need(block, "type", path, err)) &&
           field_str(v, path_member(&p, path, "type"), type, err) && check_marks(block, path, err);
}

static bool member_str(json_t *block, const char *name, const char *path, str *out, error *err) {
    field_path p;
    json_t *v = field_need(block, name, path, err);
    return v && field_str(v, path_member(&p, path, name), out, err);
}

/* A block that is text: text itself, which is not empty, or a document that holds plain text. */
static bool parse_text_block(json_t *block, str type, const char *path, str *out, error *err) {
    if (str_is(type, "text"))
        return member_str(block, "text", path, out, err) &&
               (out->len || error_set(err, ERR_INVALID_VALUE, path,
                                      "%s: text content blocks must be non-empty.", path));
    if (str_is(type, "document")) {
        json_t *source = field_get(block, "source");
        if (str_is(json_str(field_get(source, "type")), "text"))
            return member_str(source, "data", path, out, err);
    }
    return error_set(err, ERR_UNSUPPORTED_VALUE, path,
                     "%s: a block of type '%.40s' is not supported: this model reads text only.",
                     path, type.len ? type.ptr : "");
}

static bool check_words(str text, const char *path, error *err) {
    return str_trim(text).len ||
           error_set(err, ERR_INVALID_VALUE, path,
                     "%s: text must contain something besides whitespace.", path);
}

/* A string or a list of text blocks. */
static bool parse_texts(arena *mem, json_t *v, const char *path, str *out, error *err) {
    if (json_is_string(v)) {
        *out = json_str(v);
        return true;
    }
    if (!field_array(v, path, API_MAX_PARTS, err)) return false;
    joined all = {.mem = mem};
    for (size_t i = 0; i < json_array_size(v); i++) {
        field_path at;
        str type, text;
        json_t *block = json_array_get(v, i);
        path_index(&at, path, i);
        if (!block_type(block, at.text, &type, err) ||
            !parse_text_block(block, type, at.text, &text, err) || !join(&all, text, "\n", err))
            return false;
    }
    *out = all.text;
    return true;
}

static bool decode_system(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    anthropic_request *p = out;
    p->has_system = true;
    return parse_texts(c->mem, v, path, &p->system, err);
}

static bool keep(json_t **to, json_t *v) {
    *to = v;
    return true;
}
static bool keep_messages(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    return field_array(v, path, API_MAX_MESSAGES, err) &&
           keep(&((anthropic_request *)out)->messages, v);
}
static bool keep_tools(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    return field_array(v, path, 4 * API_MAX_TOOLS, err) && /* Anthropic names no limit */
           keep(&((anthropic_request *)out)->tools, v);
}
static bool keep_tool_choice(const field_ctx *c, json_t *v, const char *path, void *out,
                             error *err) {
    (void)c;
    return field_object(v, path, err) && keep(&((anthropic_request *)out)->tool_choice, v);
}

static bool decode_stops(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    anthropic_request *p = out;
    if (!field_array(v, path, MAX_STOP_SEQUENCES, err)) return false;
    size_t n = json_array_size(v);
    p->gen.stops = arena_array(c->mem, n ? n : 1, sizeof *p->gen.stops);
    if (!p->gen.stops) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        field_path at;
        str s;
        if (!field_str(json_array_get(v, i), path_index(&at, path, i), &s, err)) return false;
        if (!str_trim(s).len || s.len > TURN_MAX_STOP_BYTES)
            return error_set(err, ERR_INVALID_VALUE, at.text,
                             "%s: a stop sequence has 1 to %d bytes, not white space alone.",
                             at.text, TURN_MAX_STOP_BYTES);
        p->gen.stops[p->gen.n_stops++] = s;
    }
    return true;
}

/* How much it may think becomes how hard it tries; whether its thinking is shown is a question of its
 * own. */
static bool decode_thinking(const field_ctx *c, json_t *v, const char *path, void *out,
                            error *err) {
    (void)c;
    static const char *const types[] = {"enabled", "disabled", "adaptive", NULL};
    anthropic_request *p = out;
    field_path at;
    int which;
    json_t *type, *budget;
    if (!field_object(v, path, err) || !(type = field_need(v, "type", path, err)) ||
        !field_enum(type, path_member(&at, path, "type"), types, &which, err))
        return false;
    p->shows_thinking = which != 1;
    p->never_thinks = which == 1;
    p->effort = which == 1 ? STR("low") : (str){0};
    if (which != 0) return true;
    int64_t n;
    if (!(budget = field_need(v, "budget_tokens", path, err)) ||
        !field_int(budget, path_member(&at, path, "budget_tokens"), 1024, 1ll << 40, &n, err))
        return false;
    p->budget_tokens = n;
    p->effort = n <= LOW_BUDGET ? STR("low") : n <= MEDIUM_BUDGET ? STR("medium") : STR("high");
    return true;
}

/* {"type": "json_schema", "schema": …}; where: of the schema, and static, for errors that come later */
static bool take_format(json_t *v, const char *path, const char *where, anthropic_request *p,
                        error *err) {
    static const char *const types[] = {"json_schema", NULL};
    field_path at;
    int which;
    json_t *type, *schema;
    if (!field_object(v, path, err) || !(type = field_need(v, "type", path, err)) ||
        !field_enum(type, path_member(&at, path, "type"), types, &which, err) ||
        !(schema = field_need(v, "schema", path, err)) || !field_object(schema, where, err) ||
        !schema_check(schema, where, ERR_INVALID_VALUE, err))
        return false;
    p->answer = (chat_answer){.kind = CHAT_ANSWER_SCHEMA, .schema = schema, .param = where};
    return true;
}

static bool decode_output_config(const field_ctx *c, json_t *v, const char *path, void *out,
                                 error *err) {
    (void)c;
    static const char *const efforts[] = {"low", "medium", "high", "xhigh", "max", NULL};
    anthropic_request *p = out;
    int which;
    if (!field_object(v, path, err)) return false;
    json_t *effort = field_get(v, "effort"), *format = field_get(v, "format");
    if (effort) {
        if (!field_enum(effort, "output_config.effort", efforts, &which, err)) return false;
        p->asked_effort = str_from(efforts[which < 2 ? which : 2]);
    }
    return !format ||
           take_format(format, "output_config.format", "output_config.format.schema", p, err);
}

static bool decode_output_format(const field_ctx *c, json_t *v, const char *path, void *out,
                                 error *err) {
    (void)c;
    return take_format(v, path, "output_format.schema", out, err);
}

static bool decode_cache_control(const field_ctx *c, json_t *v, const char *path, void *out,
                                 error *err) {
    (void)c, (void)out;
    return check_cache_control(v, path, err);
}

static bool decode_metadata(const field_ctx *c, json_t *v, const char *path, void *out,
                            error *err) {
    enum { MAX_USER = 256 };
    (void)c, (void)out;
    field_path p;
    str s;
    json_t *user;
    return field_object(v, path, err) &&
           (!(user = field_get(v, "user_id")) ||
            (field_str(user, path_member(&p, path, "user_id"), &s, err) &&
             field_max_chars(s, p.text, MAX_USER, err)));
}

static bool decode_context_management(const field_ctx *c, json_t *v, const char *path, void *out,
                                      error *err) {
    (void)c, (void)out;
    field_path list, at, p;
    json_t *edits, *type;
    str s;
    if (!field_object(v, path, err)) return false;
    if (!(edits = field_get(v, "edits"))) return true;
    if (!field_array(edits, path_member(&list, path, "edits"), API_MAX_PARTS, err)) return false;
    for (size_t i = 0; i < json_array_size(edits); i++) {
        json_t *edit = json_array_get(edits, i);
        path_index(&at, list.text, i);
        if (!field_object(edit, at.text, err) || !(type = field_need(edit, "type", at.text, err)) ||
            !field_str(type, path_member(&p, at.text, "type"), &s, err))
            return false;
    }
    return true;
}

/* None are as good as no list. */
static bool decode_mcp_servers(const field_ctx *c, json_t *v, const char *path, void *out,
                               error *err) {
    return field_array(v, path, API_MAX_PARTS, err) &&
           (json_array_size(v) == 0 || gen_decode_not_implemented(c, v, path, out, err));
}

static bool decode_container(const field_ctx *c, json_t *v, const char *path, void *out,
                             error *err) {
    return (json_is_string(v) || field_object(v, path, err)) &&
           gen_decode_not_implemented(c, v, path, out, err);
}

static const char *const service_tiers[] = {"auto", "standard_only", NULL};

static const field fields[] = {
    {.name = "model",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(anthropic_request, gen.model),
     .doc = "the loaded model or default"},
    {.name = "max_tokens",
     .kind = FIELD_INT,
     .required = true,
     .offset = offsetof(anthropic_request, gen.max_tokens),
     .min = 1,
     .max = 1ll << 40,
     .doc = "thinking included"},
    {.name = "messages",
     .kind = FIELD_CUSTOM,
     .required = true,
     .decode = keep_messages,
     .doc = "text, thinking, tool_use and tool_result blocks"},
    {.name = "system",
     .kind = FIELD_CUSTOM,
     .decode = decode_system,
     .doc = "string or text blocks"},
    {.name = "tools",
     .kind = FIELD_CUSTOM,
     .decode = keep_tools,
     .doc = "custom tools; bash, text_editor and memory, which clients run"},
    {.name = "tool_choice",
     .kind = FIELD_CUSTOM,
     .decode = keep_tool_choice,
     .doc = "auto, none, any, tool"},
    {.name = "temperature",
     .kind = FIELD_NUM,
     .offset = offsetof(anthropic_request, gen.sampling.temperature),
     .min = 0,
     .max = 1,
     .doc = "0 is greedy"},
    {.name = "top_p",
     .kind = FIELD_NUM,
     .offset = offsetof(anthropic_request, gen.sampling.top_p),
     .min = 0,
     .max = 1,
     .doc = "nucleus"},
    {.name = "top_k",
     .kind = FIELD_INT,
     .offset = offsetof(anthropic_request, gen.top_k),
     .min = 0,
     .max = 1 << 30,
     .doc = "0 is off"},
    {.name = "stop_sequences",
     .kind = FIELD_CUSTOM,
     .decode = decode_stops,
     .doc = "up to 16, in the answer's text"},
    {.name = "stream",
     .kind = FIELD_BOOL,
     .offset = offsetof(anthropic_request, gen.stream),
     .doc = "SSE"},
    {.name = "thinking",
     .kind = FIELD_CUSTOM,
     .decode = decode_thinking,
     .doc = "enabled shows it; the budget chooses low, medium or high effort"},
    {.name = "output_config",
     .kind = FIELD_CUSTOM,
     .decode = decode_output_config,
     .doc = "effort (xhigh and max count as high) and format, a schema enforced while generating"},
    {.name = "output_format",
     .kind = FIELD_CUSTOM,
     .decode = decode_output_format,
     .doc = "the older name of output_config.format"},
    {.name = "seed", .kind = FIELD_CUSTOM, .decode = gen_decode_seed, .doc = "extension"},
    GEN_LIMIT_FIELDS,
    {.name = "context_management",
     .kind = FIELD_CUSTOM,
     .decode = decode_context_management,
     .doc = "checked, no effect: nothing is cleared"},
    {.name = "cache_control",
     .kind = FIELD_CUSTOM,
     .decode = decode_cache_control,
     .doc = "checked, no effect: prompts are cached by themselves"},
    {.name = "metadata",
     .kind = FIELD_CUSTOM,
     .decode = decode_metadata,
     .doc = "checked, no effect"},
    {.name = "service_tier",
     .kind = FIELD_ENUM,
     .offset = FIELD_NOWHERE,
     .values = service_tiers,
     .doc = "checked, no effect"},
    {.name = "inference_geo",
     .kind = FIELD_STR,
     .offset = FIELD_NOWHERE,
     .doc = "checked, no effect"},
    {.name = "container", .kind = FIELD_CUSTOM, .decode = decode_container, .doc = "501"},
    {.name = "mcp_servers",
     .kind = FIELD_CUSTOM,
     .decode = decode_mcp_servers,
     .doc = "501, unless the list is empty"},
};
const field_table anthropic_fields = {fields, sizeof fields / sizeof fields[0]};

/* ── messages and tools ── */

/* The arguments of an earlier call, as the text the model wrote them in. */
static bool dump_input(arena *mem, json_t *v, str *out, error *err) {
    buf text = {0};
    json_out j = json_begin(&text);
    json_put_value(&j, v);
    char *copy = text.failed ? NULL : arena_dup(mem, buf_str(&text));
    *out = str_make(copy, copy ? text.len : 0);
    buf_deinit(&text);
    return copy || no_memory(err);
}

static bool parse_assistant(arena *mem, json_t *blocks, const char *path, chat_message *m,
                            error *err) {
    size_t n = json_array_size(blocks);
    chat_call *calls = arena_array(mem, n ? n : 1, sizeof *calls);
    joined text = {.mem = mem}, thinking = {.mem = mem};
    if (!calls) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        field_path at, p;
        str type, s;
        json_t *block = json_array_get(blocks, i);
        path_index(&at, path, i);
        if (!block_type(block, at.text, &type, err)) return false;
        if (str_is(type, "redacted_thinking")) continue;
        if (str_is(type, "thinking")) {
            if (!member_str(block, "thinking", at.text, &s, err) || !join(&thinking, s, "\n", err))
                return false;
        } else if (str_is(type, "tool_use")) {
            json_t *input = field_need(block, "input", at.text, err);
            chat_call *c = &calls[m->n_calls++];
            if (!input || !field_object(input, path_member(&p, at.text, "input"), err) ||
                !member_str(block, "id", at.text, &c->id, err) ||
                !member_str(block, "name", at.text, &c->name, err) ||
                !dump_input(mem, input, &c->arguments, err))
                return false;
        } else if (!parse_text_block(block, type, at.text, &s, err) ||
                   !check_words(s, at.text, err) || !join(&text, s, "", err))
            return false;
    }
    m->calls = calls;
    m->content = text.text;
    m->has_content = text.any || !m->n_calls;
    m->reasoning = thinking.text;
    return true;
}

/* A user's message: its tool results first, each a message of its own, then what was said. */
static bool parse_user(arena *mem, json_t *blocks, const char *path, chat_message *out,
                       size_t *n_out, error *err) {
    joined text = {.mem = mem};
    size_t n = 0;
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        field_path at, p;
        str type, s;
        json_t *block = json_array_get(blocks, i), *content;
        path_index(&at, path, i);
        if (!block_type(block, at.text, &type, err)) return false;
        if (str_is(type, "tool_result")) {
            chat_message *m = &out[n++];
            *m = (chat_message){.role = CHAT_TOOL, .has_content = true};
            if (!member_str(block, "tool_use_id", at.text, &m->call_id, err)) return false;
            if ((content = field_get(block, "content")) &&
                !parse_texts(mem, content, path_member(&p, at.text, "content"), &m->content, err))
                return false;
        } else if (!parse_text_block(block, type, at.text, &s, err) ||
                   !check_words(s, at.text, err) || !join(&text, s, "\n", err))
            return false;
    }
    if (text.any || n == 0)
        out[n++] = (chat_message){.role = CHAT_USER, .content = text.text, .has_content = true};
    *n_out = n;
    return true;
}

/* ── which result belongs to which call ── */

static bool is_of_assistant(json_t *message) {
    return str_is(json_str(json_object_get(message, "role")), "assistant");
}

/* The ids that blocks of one type have in a message, with false; a second one of that name is an error. */
static bool collect_ids(json_t *message, const char *type, const char *member, json_t *seen,
                        json_t *ids, error *err) {
    json_t *blocks = json_object_get(message, "content");
    for (size_t i = 0; i < json_array_size(blocks); i++) {
        json_t *block = json_array_get(blocks, i);
        str id = json_str(json_object_get(block, member));
        if (!str_is(json_str(json_object_get(block, "type")), type) || !id.ptr) continue;
        if (json_object_getn(seen, id.ptr, id.len))
            return error_set(err, ERR_INVALID_VALUE, "messages",
                             "messages: `%s` ids must be unique, and '%.60s' is there twice.", type,
                             id.ptr);
        json_object_setn_new(seen, id.ptr, id.len, json_true());
        if (ids != seen) json_object_setn_new(ids, id.ptr, id.len, json_true());
    }
    return true;
}

/* Every call is answered by what the user says next, and nothing else is. Messages of one role that
 * follow each other count as one, as at Anthropic. */
static bool check_results(json_t *messages, error *err) {
    size_t n = json_array_size(messages), i = 0;
    json_t *all = json_object(), *calls = json_object(), *results = json_object();
    bool ok = (all && calls && results) || no_memory(err);
    while (ok && i < n) {
        const char *id;
        json_t *v;
        size_t begin = i;
        json_object_clear(results);
        for (; ok && i < n && !is_of_assistant(json_array_get(messages, i)); i++)
            ok = collect_ids(json_array_get(messages, i), "tool_result", "tool_use_id", results,
                             results, err);
        if (!ok) break;
        json_object_foreach(results, id, v) if (ok && !json_object_get(calls, id)) ok =
            error_set(err, ERR_INVALID_VALUE, "messages",
                      "messages.%zu: unexpected `tool_use_id` in a `tool_result` block: '%.60s'. "
                      "Each tool_result needs a tool_use of that id in the message before.",
                      begin, id);
        json_object_foreach(calls, id, v) if (ok && !json_object_get(results, id)) ok =
            error_set(err, ERR_INVALID_VALUE, "messages",
                      "messages.%zu: the `tool_use` '%.60s' has no `tool_result` block in the "
                      "message after it.",
                      begin ? begin - 1 : 0, id);
        json_object_clear(calls);
        for (; ok && i < n && is_of_assistant(json_array_get(messages, i)); i++)
            ok = collect_ids(json_array_get(messages, i), "tool_use", "id", all, calls, err);
    }
    json_decref(all);
    json_decref(calls);
    json_decref(results);
    return ok;
}

/* A last message of the assistant's is what its answer begins with (prefill). */
static bool take_started(const anthropic_request *p, const chat_message *m, chat_input *in,
                         error *err) {
    if (!m->content.len && !m->n_calls) return true; /* begun with nothing */
    const char *with = m->n_calls                  ? "calls"
                       : p->shows_thinking         ? "thinking"
                       : json_array_size(p->tools) ? "tools"
                       : p->answer.kind            ? "an output format"
                                                   : NULL;
    if (with)
        return error_set(
            err, ERR_UNSUPPORTED_VALUE, "messages",
            "messages: the last one is the assistant's; a started answer (prefill) does not go with %s.",
            with);
    if (m->content.len && strchr(" \t\r\n", m->content.ptr[m->content.len - 1]))
        return error_set(
            err, ERR_INVALID_VALUE, "messages",
            "messages: the last one is the assistant's; its text must not end with white space.");
    in->started = m->content;
    return true;
}

static bool parse_messages(arena *mem, const anthropic_request *p, chat_input *in, error *err) {
    static const char *const roles[] = {"user", "assistant", NULL};
    size_t n = json_array_size(p->messages), cap = 1, k = 0;
    if (n == 0)
        return error_set(err, ERR_ARRAY_BELOW_MIN, "messages",
                         "messages: at least one message is required.");
    for (size_t i = 0; i < n; i++) {
        json_t *content = json_object_get(json_array_get(p->messages, i), "content");
        cap += 1 + (json_is_array(content) ? json_array_size(content) : 0);
    }
    chat_message *m = arena_array(mem, cap, sizeof *m);
    if (!m) return no_memory(err);
    if (p->has_system)
        m[k++] = (chat_message){.role = CHAT_SYSTEM, .content = p->system, .has_content = true};
    for (size_t i = 0; i < n; i++) {
        field_path at, q;
        json_t *v = json_array_get(p->messages, i), *role, *content;
        int which;
        size_t added = 1;
        path_index(&at, "messages", i);
        if (!field_object(v, at.text, err) || !(role = field_need(v, "role", at.text, err)) ||
            !field_enum(role, path_member(&q, at.text, "role"), roles, &which, err) ||
            !(content = field_need(v, "content", at.text, err)))
            return false;
        path_member(&q, at.text, "content");
        bool is_last_answer = which && i == n - 1, is_text = json_is_string(content);
        if (!is_last_answer && (is_text ? !json_string_length(content)
                                        : json_is_array(content) && !json_array_size(content)))
            return error_set(err, ERR_INVALID_VALUE, q.text,
                             "%s: all messages must have non-empty content, except for the "
                             "optional final assistant message.",
                             q.text);
        if (!is_last_answer && is_text && !check_words(json_str(content), q.text, err))
            return false;
        m[k] = (chat_message){.role = which ? CHAT_ASSISTANT : CHAT_USER, .has_content = true};
        if (json_is_string(content))
            m[k].content = json_str(content);
        else if (!field_array(content, q.text, API_MAX_PARTS, err))
            return false;
        else if (which ? !parse_assistant(mem, content, q.text, &m[k], err)
                       : !parse_user(mem, content, q.text, &m[k], &added, err))
            return false;
        k += added;
    }
    if (m[k - 1].role == CHAT_ASSISTANT) {
        if (!take_started(p, &m[--k], in, err)) return false;
    }
    if (!check_results(p->messages, err)) return false;
    messages_name_results(m, k);
    in->messages = m;
    in->n_messages = k;
    return true;
}

/* Tools that Anthropic defined and the client runs come without their arguments: models of theirs know
 * them by heart. */
static bool give_schema(json_t *tool, str type) {
#define TEXT           "{\"type\": \"string\"}"
#define WHOLE          "{\"type\": \"integer\"}"
#define COMMANDS(list) "\"command\": {\"type\": \"string\", \"enum\": [" list "]}, \"path\": " TEXT
#define EDITING                                                            \
    ", \"file_text\": " TEXT ", \"old_str\": " TEXT ", \"new_str\": " TEXT \
    ", \"insert_line\": " WHOLE ", \"insert_text\": " TEXT                 \
    ", \"view_range\": {\"type\": \"array\", \"items\": " WHOLE "}"
    static const struct {
        const char *prefix, *schema;
    } known[] = {
        {"bash_", "{\"type\": \"object\", \"properties\": {\"command\": " TEXT
                  ", \"restart\": {\"type\": \"boolean\"}}}"},
        {"text_editor_", "{\"type\": \"object\", \"properties\": {" COMMANDS(
                             "\"view\", \"create\", \"str_replace\", \"insert\"") EDITING
         "}, \"required\": [\"command\", \"path\"]}"},
        {"memory_",
         "{\"type\": \"object\", \"properties\": {" COMMANDS(
             "\"view\", \"create\", \"str_replace\", \"insert\", \"delete\", \"rename\"") EDITING
         ", \"old_path\": " TEXT ", \"new_path\": " TEXT "}, \"required\": [\"command\"]}"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (str_starts(type, str_from(known[i].prefix)))
            return json_object_set_new(tool, "input_schema",
                                       json_parse(str_from(known[i].schema), NULL)) == 0;
    return false;
}

static bool parse_tools(arena *mem, const anthropic_request *p, chat_input *in, error *err) {
    size_t n = json_array_size(p->tools);
    chat_tool *tools = arena_array(mem, n ? n : 1, sizeof *tools);
    if (!tools) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        field_path at, q;
        json_t *v = json_array_get(p->tools, i), *x;
        str type;
        path_index(&at, "tools", i);
        if (!field_object(v, at.text, err)) return false;
        if ((x = field_get(v, "type")) &&
            !field_str(x, path_member(&q, at.text, "type"), &type, err))
            return false;
        if (x && !str_is(type, "custom") && !give_schema(v, type))
            return error_set(err, ERR_UNSUPPORTED_VALUE, q.text,
                             "%s: tools of type '%.60s' run at Anthropic, or are not known here.",
                             q.text, type.len ? type.ptr : "");
        if (!check_marks(v, at.text, err) || !member_str(v, "name", at.text, &tools[i].name, err) ||
            !function_name_check(tools[i].name, path_member(&q, at.text, "name"), err))
            return false;
        if ((x = field_get(v, "description")) &&
            !field_str(x, path_member(&q, at.text, "description"), &tools[i].description, err))
            return false;
        if ((x = field_get(v, "strict")) &&
            !field_bool(x, path_member(&q, at.text, "strict"), &tools[i].strict, err))
            return false;
        if (!(x = field_need(v, "input_schema", at.text, err)) ||
            !field_object(x, path_member(&q, at.text, "input_schema"), err) ||
            !schema_check(x, q.text, ERR_INVALID_FUNCTION_PARAMETERS, err))
            return false;
        json_t *of = field_get(x, "type");
        if (of && !str_is(json_str(of), "object"))
            return error_set(err, ERR_INVALID_VALUE, q.text, "%s.type: it must be 'object'.",
                             q.text);
        tools[i].parameters = x;
        tools[i].schema_member = "input_schema";
        for (size_t k = 0; k < i; k++)
            if (str_eq(tools[k].name, tools[i].name))
                return error_set(err, ERR_INVALID_VALUE, at.text, "Two tools are called '%.*s'.",
                                 STR_ARG(tools[i].name));
    }
    in->tools = tools;
    in->n_tools = n;
    return true;
}

static bool parse_tool_choice(const anthropic_request *p, chat_input *in, error *err) {
    static const char *const types[] = {"auto", "none", "any", "tool", NULL};
    json_t *type;
    int which;
    if (!p->tool_choice) return true;
    if (!(type = field_need(p->tool_choice, "type", "tool_choice", err)) ||
        !field_enum(type, "tool_choice.type", types, &which, err))
        return false;
    json_t *single = field_get(p->tool_choice, "disable_parallel_tool_use"), *name;
    if (single && !field_bool(single, "tool_choice.disable_parallel_tool_use", &in->one_call, err))
        return false;
    if (which == 1) in->tool_choice = CHAT_TOOLS_NONE;
    if (which < 2) return true;
    if (!in->n_tools)
        return error_set(err, ERR_INVALID_VALUE, "tool_choice",
                         "tool_choice: '%s' needs tools, and there are none.", types[which]);
    in->tool_choice = CHAT_TOOLS_REQUIRED;
    if (which == 2) return true;
    str s;
    chat_tool *tools = (chat_tool *)(uintptr_t)in->tools; /* parse_tools made them */
    bool known = false;
    if (!(name = field_need(p->tool_choice, "name", "tool_choice", err)) ||
        !field_str(name, "tool_choice.name", &s, err))
        return false;
    for (size_t i = 0; i < in->n_tools; i++) {
        tools[i].is_barred = !str_eq(tools[i].name, s);
        known |= !tools[i].is_barred;
    }
    return known || error_set(err, ERR_INVALID_VALUE, "tool_choice.name",
                              "tool_choice: there is no tool called '%.*s'.", STR_ARG(s));
}

/* ── entry ── */

bool anthropic_decode(api *a, http_req *r, bool only_counts, anthropic_request *q, error *err) {
    json_t *body = api_parse_body(r, err);
    if (!body) return false;
    *q = (anthropic_request){.gen = gen_defaults(a)};
    field_ctx ctx = {.mem = http_arena(r), .user = a};
    if (only_counts && !json_object_get(body, "max_tokens")) /* counting makes no answer */
        json_object_set_new(body, "max_tokens", json_integer(1));
    if (!fields_decode(&ctx, body, fields, sizeof fields / sizeof fields[0], "", q, err) ||
        !api_check_model(a, q->gen.model, err) || !gen_finish(a, &q->gen, err))
        return false;
    /* Between calls, with that beta, it may think more than one answer is long. */
    const char *betas = http_header(r, "anthropic-beta");
    if (!only_counts && q->budget_tokens >= q->gen.max_tokens &&
        !(betas && strstr(betas, "interleaved-thinking")))
        return error_set(err, ERR_INVALID_VALUE, "thinking.budget_tokens",
                         "thinking.budget_tokens: it must be less than max_tokens (%" PRId64 ").",
                         q->gen.max_tokens);
    q->in.now = api_now();
    if (q->answer.kind) q->in.answer = &q->answer;
    q->in.reasoning_effort = q->effort;
    if (q->asked_effort.len && !q->never_thinks)
        q->effort = q->in.reasoning_effort = q->asked_effort;
    if (!q->effort.len && a->o.reasoning_effort)
        q->in.reasoning_effort = str_from(a->o.reasoning_effort);
    return parse_messages(ctx.mem, q, &q->in, err) && parse_tools(ctx.mem, q, &q->in, err) &&
           parse_tool_choice(q, &q->in, err);
}
