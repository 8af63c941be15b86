/* POST /v1/responses, decoded: its fields, what came before (previous_response_id, conversation), and
 * the chat request it is translated into. */
#include <stdio.h>
#include <stdlib.h>

#include "api/responses_impl.h"
#include "base/os.h"

enum { MAX_CHAIN = 10000, MIN_OUTPUT = 16, MAX_MANAGEMENT = 16, MIN_THRESHOLD = 1000 };
enum { COMPACT_BY_CONTEXT = -1 }; /* at three quarters of the longest prompt */

typedef struct response_params {
    str model, instructions, previous, conversation;
    bool has_instructions, has_previous;
    json_t *input, *tools, *tool_choice, *format, *metadata, *reasoning, *text;
    bool store, background, stream, parallel_tool_calls;
    bool has_stream_options;
    bool wants_sealed, wants_logprobs;
    int64_t max_output_tokens, max_tool_calls, top_logprobs, compact_threshold;
    int service_tier;
} response_params;

/* ── fields ── */

#define KEEP(name, member)                                                              \
    static bool keep_##name(const field_ctx *c, json_t *v, const char *path, void *out, \
                            error *err) {                                               \
        (void)c, (void)path, (void)err;                                                 \
        ((response_params *)out)->member = v;                                           \
        return true;                                                                    \
    }
KEEP(input, input)
KEEP(tools, tools)
KEEP(tool_choice, tool_choice)

static bool keep_metadata(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    ((response_params *)out)->metadata = v;
    return gen_decode_metadata(c, v, path, NULL, err);
}

static bool decode_instructions(const field_ctx *c, json_t *v, const char *path, void *out,
                                error *err) {
    (void)c;
    response_params *p = out;
    return p->has_instructions = field_str(v, path, &p->instructions, err);
}

static bool decode_previous(const field_ctx *c, json_t *v, const char *path, void *out,
                            error *err) {
    (void)c;
    response_params *p = out;
    if (!field_str(v, path, &p->previous, err)) return false;
    p->has_previous = true;
    return p->previous.len ||
           error_set(err, ERR_INVALID_VALUE, path,
                     "Invalid '%s': expected a response's id, but got an empty string.", path);
}

/* An id that is empty by mistake must not silently mean none. */
static bool take_conversation(json_t *v, const char *path, response_params *p, error *err) {
    return field_str(v, path, &p->conversation, err) &&
           (p->conversation.len ||
            error_set(err, ERR_INVALID_VALUE, path,
                      "Invalid '%s': expected a conversation's id, but got an empty string.",
                      path));
}

static bool decode_conversation(const field_ctx *c, json_t *v, const char *path, void *out,
                                error *err) {
    (void)c;
    response_params *p = out;
    field_path at;
    if (json_is_string(v)) return take_conversation(v, path, p, err);
    json_t *id;
    return field_object(v, path, err) && (id = field_need(v, "id", path, err)) &&
           take_conversation(id, path_member(&at, path, "id"), p, err);
}

const char *const response_includes[] = {"file_search_call.results",
                                         "web_search_call.results",
                                         "web_search_call.action.sources",
                                         "message.input_image.image_url",
                                         "computer_call_output.output.image_url",
                                         "code_interpreter_call.outputs",
                                         [INCLUDE_SEALED] = "reasoning.encrypted_content",
                                         [INCLUDE_LOGPROBS] = "message.output_text.logprobs",
                                         NULL};

static bool decode_include(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    response_params *p = out;
    if (!field_array(v, path, 64, err)) return false;
    for (size_t i = 0; i < json_array_size(v); i++) {
        field_path at;
        int which;
        if (!field_enum(json_array_get(v, i), path_index(&at, path, i), response_includes, &which,
                        err))
            return false;
        if (which == INCLUDE_SEALED) p->wants_sealed = true;
        if (which == INCLUDE_LOGPROBS) p->wants_logprobs = true;
    }
    return true;
}

static bool decode_text(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    response_params *p = out;
    static const char *const verbosities[] = {"low", "medium", "high", NULL};
    field_path at;
    int which;
    if (!field_object(v, path, err)) return false;
    p->text = v;
    p->format = field_get(v, "format");
    json_t *verbosity = field_get(v, "verbosity");
    return (!verbosity ||
            field_enum(verbosity, path_member(&at, path, "verbosity"), verbosities, &which, err)) &&
           (!p->format || field_object(p->format, path_member(&at, path, "format"), err));
}

static bool decode_reasoning(const field_ctx *c, json_t *v, const char *path, void *out,
                             error *err) {
    (void)c;
    static const char *const summaries[] = {"auto", "concise", "detailed", NULL};
    field_path at;
    int which;
    if (!field_object(v, path, err)) return false;
    ((response_params *)out)->reasoning = v;
    static const char *const names[] = {"summary",
                                        "generate_summary"}; /* the second: its old name */
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        json_t *summary = field_get(v, names[i]);
        if (summary &&
            !field_enum(summary, path_member(&at, path, names[i]), summaries, &which, err))
            return false;
    }
    return true;
}

static bool decode_context_management(const field_ctx *c, json_t *v, const char *path, void *out,
                                      error *err) {
    (void)c;
    static const char *const types[] = {"compaction", NULL};
    response_params *p = out;
    if (!field_array(v, path, MAX_MANAGEMENT, err)) return false;
    for (size_t i = 0; i < json_array_size(v); i++) {
        json_t *entry = json_array_get(v, i), *type, *threshold;
        field_path at, member;
        int which;
        path_index(&at, path, i);
        if (!field_object(entry, at.text, err) ||
            !(type = field_need(entry, "type", at.text, err)) ||
            !field_enum(type, path_member(&member, at.text, "type"), types, &which, err))
            return false;
        p->compact_threshold = COMPACT_BY_CONTEXT;
        if ((threshold = field_get(entry, "compact_threshold")) &&
            !field_int(threshold, path_member(&member, at.text, "compact_threshold"), MIN_THRESHOLD,
                       1ll << 40, &p->compact_threshold, err))
            return false;
    }
    return true;
}

static bool decode_stream_options(const field_ctx *c, json_t *v, const char *path, void *out,
                                  error *err) {
    (void)c;
    field_path at;
    json_t *obfuscation;
    bool ignored;
    ((response_params *)out)->has_stream_options = true;
    return field_object(v, path, err) &&
           (!(obfuscation = field_get(v, "include_obfuscation")) ||
            field_bool(obfuscation, path_member(&at, path, "include_obfuscation"), &ignored, err));
}

/* Templates are made on OpenAI's platform, not over its API: here is none, whatever its id. */
static bool decode_prompt(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c, (void)out;
    field_path at;
    str id, version;
    json_t *of, *more;
    if (!field_object(v, path, err) || !(of = field_need(v, "id", path, err)) ||
        !field_str(of, path_member(&at, path, "id"), &id, err))
        return false;
    if ((more = field_get(v, "version")) &&
        !field_str(more, path_member(&at, path, "version"), &version, err))
        return false;
    if ((more = field_get(v, "variables")) &&
        !field_object(more, path_member(&at, path, "variables"), err))
        return false;
    return error_set(err, ERR_NOT_FOUND, path,
                     "Prompt with id '%.*s' not found: no prompt templates are kept here. Send its "
                     "text as 'instructions' and 'input'.",
                     (int)(id.len > 100 ? 100 : id.len), id.ptr ? id.ptr : "");
}

#define AT(member) .offset = offsetof(response_params, member)
static const field fields[] = {
    {.name = "model",
     .kind = FIELD_STR,
     .required = true,
     AT(model),
     .doc = "the model's id or 'default'"},
    {.name = "input",
     .kind = FIELD_CUSTOM,
     .decode = keep_input,
     .doc =
         "a string or items; may be left out where a conversation or previous response has some"},
    {.name = "instructions",
     .kind = FIELD_CUSTOM,
     .decode = decode_instructions,
     .doc = "a developer message at the beginning; not carried over by previous_response_id"},
    {.name = "previous_response_id",
     .kind = FIELD_CUSTOM,
     .decode = decode_previous,
     .doc = "a stored response: its input and output come first"},
    {.name = "conversation",
     .kind = FIELD_CUSTOM,
     .decode = decode_conversation,
     .doc = "id or {id}: its items come first, new ones are added when the response is complete"},
    {.name = "store", .kind = FIELD_BOOL, AT(store), .doc = "default true"},
    {.name = "background",
     .kind = FIELD_BOOL,
     AT(background),
     .doc = "goes on without a client, also after a restart; needs store"},
    {.name = "stream", .kind = FIELD_BOOL, AT(stream), .doc = "SSE"},
    {.name = "stream_options",
     .kind = FIELD_CUSTOM,
     .decode = decode_stream_options,
     .doc = "include_obfuscation is accepted"},
    {.name = "include",
     .kind = FIELD_CUSTOM,
     .decode = decode_include,
     .doc = "reasoning.encrypted_content and message.output_text.logprobs; others are accepted"},
    {.name = "tools",
     .kind = FIELD_CUSTOM,
     .decode = keep_tools,
     .doc = "function, custom, namespace, tool_search run by the client; hosted tools are kept and "
            "not offered to the model"},
    {.name = "tool_choice",
     .kind = FIELD_CUSTOM,
     .decode = keep_tool_choice,
     .doc = "as for chat completions; one that names a hosted tool counts as auto"},
    {.name = "parallel_tool_calls",
     .kind = FIELD_BOOL,
     AT(parallel_tool_calls),
     .doc = "as for chat completions"},
    {.name = "max_output_tokens",
     .kind = FIELD_INT,
     AT(max_output_tokens),
     .min = MIN_OUTPUT,
     .max = 1ll << 40,
     .doc = "reasoning included; reaching it makes the response incomplete"},
    {.name = "max_tool_calls",
     .kind = FIELD_INT,
     AT(max_tool_calls),
     .min = 1,
     .max = 1ll << 40,
     .doc = "accepted: it counts calls of hosted tools, which are not run here"},
    {.name = "text",
     .kind = FIELD_CUSTOM,
     .decode = decode_text,
     .doc = "format as response_format of chat completions; verbosity is accepted"},
    {.name = "reasoning",
     .kind = FIELD_CUSTOM,
     .decode = decode_reasoning,
     .doc = "effort; no summaries are made: the reasoning itself is in the reasoning item"},
    {.name = "top_logprobs",
     .kind = FIELD_INT,
     AT(top_logprobs),
     .max = SAMPLE_MAX_TOP,
     .doc = "with include message.output_text.logprobs"},
    {.name = "metadata", .kind = FIELD_CUSTOM, .decode = keep_metadata, .doc = "up to 16 pairs"},
    {.name = "service_tier",
     .kind = FIELD_ENUM,
     AT(service_tier),
     .values = gen_service_tiers,
     .doc = "accepted; answers say default"},
    {.name = "prompt",
     .kind = FIELD_CUSTOM,
     .decode = decode_prompt,
     .doc = "404: no prompt templates are kept here"},
    {.name = "temperature", .kind = FIELD_ACCEPT, .doc = "as for chat completions"},
    {.name = "top_p", .kind = FIELD_ACCEPT, .doc = "as for chat completions"},
    {.name = "truncation", .kind = FIELD_ACCEPT, .doc = "as for chat completions"},
    {.name = "user", .kind = FIELD_ACCEPT, .doc = "echoed, no effect"},
    {.name = "safety_identifier", .kind = FIELD_ACCEPT, .doc = "echoed, no effect"},
    {.name = "prompt_cache_key", .kind = FIELD_ACCEPT, .doc = "echoed, no effect"},
    {.name = "prompt_cache_retention", .kind = FIELD_ACCEPT, .doc = "echoed, no effect"},
    {.name = "context_management",
     .kind = FIELD_CUSTOM,
     .decode = decode_context_management,
     .doc = "compaction: prompts above compact_threshold tokens (from 1000; default three quarters "
            "of the context) are summarised first, into a sealed item that leads the output"},
    {.name = "moderation", .kind = FIELD_ACCEPT, .doc = "accepted, no effect"},
};
const field_table response_fields = {fields, sizeof fields / sizeof fields[0]};

/* Members of a chat completion that mean the same here, extensions among them. */
static const char *const shared[] = {
    "model",
    "temperature",
    "top_p",
    "truncation",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "moderation",
    "parallel_tool_calls",
    "seed",
    "stop",
    "presence_penalty",
    "frequency_penalty",
    "logit_bias",
    "top_k",
    "min_p",
    "min_tokens_to_keep",
    "repetition_penalty",
    "repetition_context_size",
    "ignore_eos",
    "max_kv_size",
    "typical_p",
    "xtc_probability",
    "xtc_threshold",
    "grammar",
    "chat_template_kwargs",
    "max_context_tokens",
    "max_context_tokens_margin",
    "performance_mode",
    "perf_max_tokens",
    "perf_max_context_tokens",
    "perf_max_kv_size",
    "perf_prompt_token_budget",
};

/* ── what came before ── */

static void append_all(json_t *to, json_t *from) {
    for (size_t i = 0; i < json_array_size(from); i++)
        json_array_append(to, json_array_get(from, i));
}

static bool gone(error *err, str id) {
    return error_set(err, ERR_PREVIOUS_RESPONSE, "previous_response_id",
                     "Previous response with id '%.*s' not found.",
                     (int)(id.len > 100 ? 100 : id.len), id.ptr ? id.ptr : "");
}

/* The chain of responses, oldest first. */
static bool load_chain(run *k, str id, error *err) {
    store *s = api_get_store(k->a, NULL);
    if (!s) return gone(err, id);
    json_t *links = json_array(); /* newest first: [input, output] */
    store_tx *tx = store_begin_read_as(s, k->owner);
    bool ok = true;
    while (ok && id.len) {
        store_row row;
        if (json_array_size(links) >= 2 * MAX_CHAIN ||
            !store_get(tx, "response", id, &k->mem, &row, NULL)) {
            ok = gone(err, id);
            break;
        }
        json_t *data = json_parse(row.data, err), *extra = json_parse(row.extra, err);
        str status = json_str(json_object_get(data, "status"));
        if (!data || !extra)
            ok = false;
        else if (str_is(status, "queued") || str_is(status, "in_progress"))
            ok = error_set(err, ERR_INVALID_VALUE, "previous_response_id",
                           "The previous response '%.*s' is not finished yet.", STR_ARG(id));
        if (ok) {
            json_array_append(links, json_object_get(extra, "input"));
            json_array_append(links, json_object_get(data, "output"));
            json_array_append_new(k->ancestors, json_stringn(row.id.ptr, row.id.len));
            str before = json_str(json_object_get(data, "previous_response_id"));
            char *copy = before.len ? arena_dup(&k->mem, before) : NULL;
            id = copy ? str_make(copy, before.len) : (str){0};
        }
        json_decref(data);
        json_decref(extra);
    }
    store_end_read(tx);
    for (size_t i = json_array_size(links); ok && i >= 2; i -= 2) {
        append_all(k->all_input, json_array_get(links, i - 2));
        append_all(k->all_input, json_array_get(links, i - 1));
    }
    json_decref(links);
    return ok;
}

static bool add_stored_item(void *ctx, const store_row *row) {
    json_t *item = json_parse(row->data, NULL);
    if (item) json_array_append_new(ctx, item);
    return true;
}

static bool load_conversation(run *k, run_purpose purpose, str id, error *err) {
    store *s = api_get_store(k->a, err);
    if (!s) return false;
    store_tx *tx = store_begin_read_as(s, k->owner);
    bool ok =
        store_has(tx, "conversation", id) ||
        error_set(err, ERR_NOT_FOUND, "conversation", "Conversation with id '%.*s' not found.",
                  (int)(id.len > 100 ? 100 : id.len), id.ptr);
    store_end_read(tx);
    if (ok && purpose == RUN_TO_ANSWER)
        ok = k->holds = conversation_hold(k->a, id, "conversation", err);
    if (!ok) return false;
    /* Read only now: while it is held nobody adds to it. */
    store_query q = {.kind = "item", .parent = id};
    tx = store_begin_read_as(s, k->owner);
    ok = store_each(tx, &q, add_stored_item, k->all_input, err);
    store_end_read(tx);
    return ok;
}

/* ── translation ── */

static json_t *copy_members(json_t *from, const char *const *names) {
    json_t *out = json_object();
    for (; *names; names++) {
        json_t *v = field_get(from, *names);
        if (v) json_object_set(out, *names, v);
    }
    return out;
}

/* A grammar's definition lies one level deeper in chat. */
static void nest_grammar(json_t *tool) {
    json_t *format = json_object_get(tool, "format");
    if (!str_is(json_str(json_object_get(format, "type")), "grammar") ||
        json_object_get(format, "grammar"))
        return;
    json_t *g = json_object();
    json_object_set(g, "syntax", json_object_get(format, "syntax"));
    json_object_set(g, "definition", json_object_get(format, "definition"));
    json_object_set_new(tool, "format", json_pack("{s:s, s:o}", "type", "grammar", "grammar", g));
}

/* One tool as chat has it. One of a namespace gets a name of its own; the answer has it back in its
 * two parts. */
static void offer(run *k, json_t *tool, item_kind kind, str space, const char *path, json_t *out) {
    static const char *const of_function[] = {"name", "description", "parameters", "strict", NULL};
    static const char *const of_custom[] = {"name", "description", "format", NULL};
    bool custom = kind == ITEM_CUSTOM_CALL;
    const char *key = custom ? "custom" : "function";
    json_t *inner = copy_members(tool, custom ? of_custom : of_function);
    if (custom) nest_grammar(inner);
    if (kind == ITEM_SEARCH_CALL) json_object_set_new(inner, "name", json_string("tool_search"));
    str name = json_str(json_object_get(inner, "name"));
    tool_name as = tool_name_offered(space, name);
    if (kind != ITEM_CALL || space.len)
        json_object_set_new(k->offered, as.text,
                            json_pack("{s:i, s:s%, s:s%}", "kind", (int)kind, "name",
                                      name.ptr ? name.ptr : "", name.len, "namespace",
                                      space.ptr ? space.ptr : "", space.len));
    if (space.len && name.len) json_object_set_new(inner, "name", json_string(as.text));
    json_array_append_new(out, json_pack("{s:s, s:o}", "type", key, key, inner));
    json_array_append_new(k->tool_paths, json_string(path));
}

static bool is_offered(const json_t *out, str name) {
    for (size_t i = 0; i < json_array_size(out); i++) {
        json_t *tool = json_array_get(out, i);
        json_t *body = json_object_get(tool, json_string_value(json_object_get(tool, "type")));
        if (str_eq(json_str(json_object_get(body, "name")), name)) return true;
    }
    return false;
}

/* Flat tools → nested ones; those that only OpenAI's servers run are left out. `again`: of an item; one
 * that was offered before is passed over. */
static bool translate_tools(run *k, json_t *tools, str space, const char *path, bool again,
                            json_t *out, error *err) {
    if (!field_array(tools, path, API_MAX_TOOLS, err)) return false;
    for (size_t i = 0; i < json_array_size(tools); i++) {
        json_t *tool = json_array_get(tools, i), *type, *v;
        field_path at, member;
        str name, kind;
        path_index(&at, path, i);
        if (!field_object(tool, at.text, err) || !(type = field_need(tool, "type", at.text, err)) ||
            !field_str(type, path_member(&member, at.text, "type"), &kind, err))
            return false;
        name = json_str(json_object_get(tool, "name"));
        if (str_is(kind, "namespace") && !space.len) {
            if (!(v = field_need(tool, "name", at.text, err)) ||
                !field_str(v, path_member(&member, at.text, "name"), &name, err) ||
                !(v = field_need(tool, "tools", at.text, err)) ||
                !translate_tools(k, v, name, path_member(&member, at.text, "tools"), again, out,
                                 err))
                return false;
            continue;
        }
        bool search = str_is(kind, "tool_search"), custom = str_is(kind, "custom");
        if (search && !str_is(json_str(json_object_get(tool, "execution")), "client")) continue;
        if (!search && !custom && !str_is(kind, "function")) continue;
        if (again && is_offered(out, str_from(tool_name_offered(space, name).text))) continue;
        offer(k, tool,
              search   ? ITEM_SEARCH_CALL
              : custom ? ITEM_CUSTOM_CALL
                       : ITEM_CALL,
              space, at.text, out);
    }
    return true;
}

static bool translate_items_tools(run *k, json_t *items, const char *path, json_t *out,
                                  error *err) {
    for (size_t i = 0; i < json_array_size(items); i++) {
        json_t *item = json_array_get(items, i),
               *tools = item_has_tools(item) ? field_get(item, "tools") : NULL;
        field_path at, member;
        path_index(&at, path, i);
        if (tools && !translate_tools(k, tools, (str){0}, path_member(&member, at.text, "tools"),
                                      true, out, err))
            return false;
    }
    return true;
}

static bool is_hosted(str type) {
    static const char *const hosted[] = {
        "file_search", "web_search",           "web_search_preview", "computer",
        "mcp",         "code_interpreter",     "image_generation",   "shell",
        "apply_patch", "computer_use_preview", "local_shell"};
    for (size_t i = 0; i < sizeof hosted / sizeof hosted[0]; i++)
        if (str_is(type, hosted[i])) return true;
    return false;
}

static json_t *translate_choice(json_t *v) {
    str type = json_str(json_object_get(v, "type"));
    if (!json_is_object(v)) return json_incref(v);
    bool function = str_is(type, "function"), custom = str_is(type, "custom");
    if (function || custom) {
        const char *key = function ? "function" : "custom";
        tool_name name = tool_name_offered(json_str(json_object_get(v, "namespace")),
                                           json_str(json_object_get(v, "name")));
        if (!json_is_string(json_object_get(v, "name"))) return json_incref(v); /* for the error */
        return json_pack("{s:s, s:{s:s}}", "type", key, key, "name", name.text);
    }
    if (str_is(type, "allowed_tools")) {
        json_t *tools = json_array(), *list = json_object_get(v, "tools");
        for (size_t i = 0; i < json_array_size(list); i++) {
            json_t *t = json_array_get(list, i);
            str of = json_str(json_object_get(t, "type"));
            if (str_is(of, "function") || str_is(of, "custom"))
                json_array_append_new(tools, translate_choice(t));
        }
        json_t *mode = json_object_get(v, "mode");
        return json_pack("{s:s, s:{s:O, s:o}}", "type", "allowed_tools", "allowed_tools", "mode",
                         mode ? mode : json_null(), "tools", tools);
    }
    return is_hosted(type) ? json_string("auto") : json_incref(v); /* for the error */
}

/* What is said here in other words than in chat: a name that lies one level higher, a hosted tool that
 * was not sent. */
static bool check_choice(json_t *v, json_t *tools, error *err) {
    str type = json_str(json_object_get(v, "type"));
    if (str_is(type, "function") || str_is(type, "custom"))
        return field_need(v, "name", "tool_choice", err) != NULL;
    if (!is_hosted(type)) return true;
    for (size_t i = 0; i < json_array_size(tools); i++) {
        /* One tool has several names: web_search_preview, web_search_2025_08_26 … */
        str of = json_str(json_object_get(json_array_get(tools, i), "type"));
        if (str_starts(of, type) || (of.len && str_starts(type, of))) return true;
    }
    return error_set(err, ERR_INVALID_VALUE, "tool_choice",
                     "Tool choice '%.*s' not found in 'tools' parameter.", STR_ARG(type));
}

static json_t *translate_format(json_t *v) {
    if (!str_is(json_str(json_object_get(v, "type")), "json_schema")) return json_incref(v);
    static const char *const names[] = {"name", "description", "schema", "strict", NULL};
    return json_pack("{s:s, s:o}", "type", "json_schema", "json_schema", copy_members(v, names));
}

static bool make_chat_body(run *k, const response_params *p, json_t *body, error *err) {
    json_t *c = k->chat_body = json_object();
    if (!c) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    for (size_t i = 0; i < sizeof shared / sizeof shared[0]; i++) {
        json_t *v = field_get(body, shared[i]);
        if (v) json_object_set(c, shared[i], v);
    }
    json_object_set(c, "messages", k->messages.messages);
    json_t *tools = json_array();
    size_t n_own = json_array_size(k->input), n_all = json_array_size(k->all_input);
    bool ok = !p->tools || translate_tools(k, p->tools, (str){0}, "tools", false, tools, err);
    ok = ok && translate_items_tools(k, k->input, "input", tools, err) &&
         (n_own == n_all || translate_items_tools(k, k->all_input, "input", tools, err));
    if (json_array_size(tools)) json_object_set(c, "tools", tools);
    json_decref(tools);
    if (!ok || !check_choice(p->tool_choice, p->tools, err)) return false;
    if (p->tool_choice) json_object_set_new(c, "tool_choice", translate_choice(p->tool_choice));
    if (p->format) json_object_set_new(c, "response_format", translate_format(p->format));
    json_t *effort = field_get(p->reasoning, "effort");
    if (effort) json_object_set(c, "reasoning_effort", effort);
    if (p->max_output_tokens >= 0)
        json_object_set_new(c, "max_completion_tokens", json_integer(p->max_output_tokens));
    if (p->wants_logprobs) {
        json_object_set_new(c, "logprobs", json_true());
        json_object_set_new(c, "top_logprobs", json_integer(p->top_logprobs));
    }
    return true;
}

/* "tools[0].function.name" → "tools[2].name", and so on: the client's names. */
static void fix_param(const run *k, error *err) {
    static const struct {
        const char *from, *to;
    } renamed[] = {{"response_format.json_schema", "text.format"},
                   {"response_format", "text.format"},
                   {"max_completion_tokens", "max_output_tokens"},
                   {"reasoning_effort", "reasoning.effort"},
                   {"tool_choice.function", "tool_choice"}};
    char copy[sizeof err->param];
    size_t i;
    int n = 0;
    item_messages_fix_param(&k->messages, err);
    if (sscanf(err->param, "tools[%zu]%n", &i, &n) == 1 && n &&
        i < json_array_size(k->tool_paths)) {
        const char *rest = err->param + n;
        if (strncmp(rest, ".function", 9) == 0) rest += 9;
        if (strncmp(rest, ".custom", 7) == 0) rest += 7;
        static const char nested[] = ".format.grammar", flat[] = ".format";
        bool deep = strncmp(rest, nested, sizeof nested - 1) == 0;
        if (deep) rest += sizeof nested - 1;
        snprintf(copy, sizeof copy, "%.60s%s%.50s",
                 json_string_value(json_array_get(k->tool_paths, i)), deep ? flat : "", rest);
        memcpy(err->param, copy, sizeof copy);
        return;
    }
    for (i = 0; i < sizeof renamed / sizeof renamed[0]; i++) {
        size_t len = strlen(renamed[i].from);
        if (strncmp(err->param, renamed[i].from, len) != 0) continue;
        snprintf(copy, sizeof copy, "%s%.90s", renamed[i].to, err->param + len);
        memcpy(err->param, copy, sizeof copy);
        return;
    }
}

/* An output of a call that nobody made, as OpenAI says it. */
static bool fix_orphan(const run *k, error *err) {
    size_t i;
    int n = 0;
    if (sscanf(err->param, "messages[%zu].tool_call_id%n", &i, &n) != 1 || !n || err->param[n])
        return false;
    str id = json_str(json_object_get(json_array_get(k->messages.messages, i), "tool_call_id"));
    *err = (error){0};
    error_set(err, ERR_MALFORMED, "input",
              "No tool call found for function call output with call_id %.*s.",
              (int)(id.len > 100 ? 100 : id.len), id.ptr ? id.ptr : "");
    return true;
}

void run_fix_param(const run *k, error *err) {
    char before[sizeof err->param], copy[sizeof err->message];
    memcpy(before, err->param, sizeof before);
    if (!before[0] || fix_orphan(k, err)) return;
    fix_param(k, err);
    const char *at = strstr(err->message, before);
    if (!at) return;
    snprintf(copy, sizeof copy, "%.*s%s%s", (int)(at - err->message), err->message, err->param,
             at + strlen(before));
    memcpy(err->message, copy, sizeof copy);
}

/* Every call must have its output before the model goes on: templates would show it a call that
 * hangs. One that was cut short has none. */
static bool check_answered(const json_t *items, error *err) {
    json_t *answered = json_object();
    bool ok =
        answered || error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    for (size_t i = json_array_size(items); ok && i-- > 0;) {
        json_t *item = json_array_get(items, i);
        str type = json_str(json_object_get(item, "type")),
            id = json_str(json_object_get(item, "call_id"));
        if (str_is(type, "compaction")) break; /* what lies before is not shown */
        if (str_is(type, "function_call_output") || str_is(type, "custom_tool_call_output"))
            json_object_setn_new(answered, id.ptr, id.len, json_true());
        bool custom = str_is(type, "custom_tool_call");
        if ((!custom && !str_is(type, "function_call")) ||
            str_is(json_str(json_object_get(item, "status")), "incomplete"))
            continue;
        ok = json_object_getn(answered, id.ptr, id.len) ||
             error_set(err, ERR_MALFORMED, "input", "No tool output found for %s call %.*s.",
                       custom ? "custom tool" : "function", (int)(id.len > 100 ? 100 : id.len),
                       id.ptr);
    }
    json_decref(answered);
    return ok;
}

/* ── what the response repeats ── */

static json_t *echo_tools(json_t *tools) {
    json_t *out = json_array();
    for (size_t i = 0; i < json_array_size(tools); i++) {
        json_t *tool = json_copy(json_array_get(tools, i));
        if (str_is(json_str(json_object_get(tool, "type")), "function")) {
            if (!field_get(tool, "strict")) json_object_set_new(tool, "strict", json_false());
            if (!json_object_get(tool, "parameters"))
                json_object_set_new(tool, "parameters", json_null());
        }
        json_array_append_new(out, tool);
    }
    return out;
}

static void echo(json_t *e, const char *name, json_t *v) {
    json_object_set(e, name, v ? v : json_null());
}

static void make_echo(run *k, const response_params *p, json_t *body) {
    json_t *e = k->echo = json_object();
    const gen_params *g = chat_request_gen(k->chat);
    json_object_set_new(e, "background", json_boolean(p->background));
    json_object_set_new(e, "conversation",
                        p->conversation.len
                            ? json_pack("{s:s%}", "id", p->conversation.ptr, p->conversation.len)
                            : json_null());
    echo(e, "instructions", field_get(body, "instructions"));
    echo(e, "max_output_tokens", field_get(body, "max_output_tokens"));
    echo(e, "max_tool_calls", field_get(body, "max_tool_calls"));
    json_object_set_new(e, "metadata", p->metadata ? json_incref(p->metadata) : json_object());
    json_object_set(e, "model", json_object_get(body, "model"));
    json_object_set_new(e, "parallel_tool_calls", json_boolean(p->parallel_tool_calls));
    echo(e, "previous_response_id", field_get(body, "previous_response_id"));
    echo(e, "prompt_cache_key", field_get(body, "prompt_cache_key"));
    json_t *reasoning = json_object();
    echo(reasoning, "effort", field_get(p->reasoning, "effort"));
    echo(reasoning, "summary", field_get(p->reasoning, "summary"));
    json_object_set_new(e, "reasoning", reasoning);
    echo(e, "safety_identifier", field_get(body, "safety_identifier"));
    json_object_set_new(e, "service_tier", json_string("default"));
    json_object_set_new(e, "store", json_boolean(k->store));
    json_object_set_new(e, "temperature", json_real(g->sampling.temperature));
    json_t *text = p->text ? json_copy(p->text) : json_object();
    if (!field_get(text, "format"))
        json_object_set_new(text, "format", json_pack("{s:s}", "type", "text"));
    if (!field_get(text, "verbosity"))
        json_object_set_new(text, "verbosity", json_string("medium"));
    json_object_set_new(e, "text", text);
    json_object_set_new(e, "tool_choice",
                        p->tool_choice ? json_incref(p->tool_choice) : json_string("auto"));
    json_object_set_new(e, "tools", echo_tools(p->tools));
    json_object_set_new(e, "top_logprobs", json_integer(p->top_logprobs));
    json_object_set_new(e, "top_p", json_real(g->sampling.top_p));
    json_t *truncation = field_get(body, "truncation");
    json_object_set_new(e, "truncation",
                        truncation ? json_incref(truncation) : json_string("disabled"));
    json_t *user = field_get(body, "user");
    if (user) json_object_set(e, "user", user);
    json_object_set_new(e, "system_fingerprint", json_string(k->a->fingerprint));
}

/* ── all of it ── */

static bool decode(run *k, run_purpose purpose, json_t *body, error *err) {
    api *a = k->a;
    response_params p = {
        .store = true, .parallel_tool_calls = true, .max_output_tokens = -1, .max_tool_calls = -1};
    field_ctx c = {.mem = &k->mem};
    if (!fields_decode(&c, body, fields, response_fields.n, "", &p, err) ||
        !api_check_model(a, p.model, err))
        return false;
    if (p.has_stream_options && !p.stream)
        return error_set(err, ERR_INVALID_VALUE, "stream_options",
                         "'stream_options' is only allowed when 'stream' is true.");
    if (p.previous.len && p.conversation.len)
        return error_set(err, ERR_INVALID_VALUE, "previous_response_id",
                         "Mutually exclusive parameters: send either 'previous_response_id' or "
                         "'conversation'.");
    if (p.background && !p.store)
        return error_set(err, ERR_INVALID_VALUE, "background",
                         "A background response must be stored: 'store' cannot be false.");
    if (p.background && !api_get_store(a, err)) return false;
    if (p.background && !store_is_owner(a->store))
        return error_set(err, ERR_OVERLOADED, NULL,
                         "Another process uses this data directory and does its background work.");
    if (!p.input && !p.has_previous && !p.conversation.len) {
        error_set(err, ERR_MISSING_PARAMETER, "input", "Missing required parameter: 'input'.");
        return false;
    }
    k->store = p.store && a->store;
    k->background = p.background;
    k->stream = p.stream;
    k->keep_log = p.stream || p.background;
    k->wants_logprobs = p.wants_logprobs;
    k->wants_sealed = p.wants_sealed;
    k->compact_threshold = p.compact_threshold != COMPACT_BY_CONTEXT
                               ? p.compact_threshold
                               : engine_get_config(a->engine)->max_context_tokens / 4 * 3;
    if (p.conversation.len) {
        char *copy = arena_dup(&k->mem, p.conversation);
        if (!copy)
            return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
        k->conversation = str_make(copy, p.conversation.len);
    }
    k->input = p.input ? items_normalise(a, k->owner, p.input, "input", k->seed, false, err)
                       : json_array();
    if (!k->input) return false;
    if (p.has_instructions && !item_messages_instruct(&k->messages, p.instructions, err))
        return false;
    if (p.has_previous && !load_chain(k, p.previous, err)) return false;
    if (p.conversation.len && !load_conversation(k, purpose, p.conversation, err)) return false;
    if (!item_messages_add(a, &k->messages, k->all_input,
                           p.has_previous ? "previous_response_id" : "conversation", err) ||
        !item_messages_add(a, &k->messages, k->input, "input", err))
        return false;
    append_all(k->all_input, k->input);
    if (json_array_size(k->messages.messages) == 0)
        return error_set(err, ERR_ARRAY_BELOW_MIN, "input",
                         "Invalid 'input': there is nothing to answer.");
    if (purpose == RUN_TO_ANSWER && !check_answered(k->all_input, err)) return false;
    if (!make_chat_body(k, &p, body, err) ||
        !(k->chat = chat_request_decode(a, &k->mem, k->chat_body, err))) {
        run_fix_param(k, err);
        return false;
    }
    make_echo(k, &p, body);
    return true;
}

run *run_decode(api *a, str owner, json_t *body, const char *id, run_purpose purpose, error *err) {
    run *k = calloc(1, sizeof *k);
    if (!k) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
        return NULL;
    }
    k->a = a;
    k->id = id ? (api_id){{0}} : api_make_id("resp_");
    if (id) snprintf(k->id.text, sizeof k->id.text, "%s", id);
    k->seed = k->id.text + 5;
    k->created = api_now();
    k->expires = api_get_expiry(a);
    k->status = RUN_IN_PROGRESS;
    arena_init(&k->mem, 1u << 30);
    char *copy = arena_dup(&k->mem, owner);
    if (copy) k->owner = str_make(copy, owner.len);
    pthread_mutex_init(&k->lock, NULL);
    k->all_input = json_array();
    k->ancestors = json_array();
    k->keep = json_array();
    k->offered = json_object();
    k->tool_paths = json_array();
    /* Its own copy of the top: what it repeats later must not be the HTTP request's. */
    k->request = json_is_object(body) ? json_copy(body) : json_incref(body);
    if (!copy || !k->all_input || !k->ancestors || !k->keep || !k->offered || !k->tool_paths ||
        !k->request || !item_messages_init(&k->messages)) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
        run_free(k);
        return NULL;
    }
    if (json_is_object(body) && !field_get(body, "seed")) { /* the same answer after a restart */
        int64_t seed;
        os_random(&seed, sizeof seed);
        json_object_set_new(k->request, "seed", json_integer(seed & INT64_MAX));
    }
    if (decode(k, purpose, k->request, err)) return k;
    run_free(k);
    return NULL;
}

const char *run_id(const run *k) {
    return k->id.text;
}
bool run_is_background(const run *k) {
    return k->background;
}
bool run_is_stored(const run *k) {
    return k->store;
}
bool run_is_stream(const run *k) {
    return k->stream;
}
const chat_request *run_chat(const run *k) {
    return k->chat;
}
json_t *run_input(const run *k) {
    return k->all_input;
}
bool run_has_log(const run *k) {
    return k->keep_log;
}
json_t *run_own_input(const run *k) {
    return k->input;
}
json_t *run_messages(const run *k) {
    return k->messages.messages;
}
void run_drop_last_input(run *k) {
    size_t n = json_array_size(k->all_input);
    if (n) json_array_remove(k->all_input, n - 1);
}
