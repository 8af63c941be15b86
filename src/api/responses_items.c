#include "api/responses_items.h"

#include <stdio.h>
#include <stdlib.h>

static bool no_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
}

/* ── kinds ── */

/* Items of tools that only OpenAI's servers run: kept and listed, and not shown to the model. */
static const char *const hosted[] = {
    "file_search_call",
    "web_search_call",
    "computer_call",
    "computer_call_output",
    "image_generation_call",
    "code_interpreter_call",
    "local_shell_call",
    "local_shell_call_output",
    "shell_call",
    "shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "mcp_list_tools",
    "mcp_approval_request",
    "mcp_approval_response",
    "mcp_call",
    "tool_search_call",
    "tool_search_output",
    "additional_tools",
    "program",
    "program_output",
};

/* Items that bring tools along. */
bool item_has_tools(json_t *item) {
    str type = json_str(json_object_get(item, "type"));
    return str_is(type, "additional_tools") || str_is(type, "tool_search_output");
}

static bool is_hosted(str type) {
    for (size_t i = 0; i < sizeof hosted / sizeof hosted[0]; i++)
        if (str_is(type, hosted[i])) return true;
    return false;
}

tool_name tool_name_offered(str space, str name) {
    enum { MAX_NAME = 64 };
    tool_name out;
    bool plain = !space.len || str_is(space, "functions") || space.len + 2 + name.len > MAX_NAME;
    snprintf(out.text, sizeof out.text, "%.*s%s%.*s", plain ? 0 : (int)space.len, space.ptr,
             plain ? "" : "__", (int)(name.len > 70 ? 70 : name.len), name.ptr ? name.ptr : "");
    return out;
}

api_id item_id(const char *type, const char *seed, char which, size_t index) {
    const char *prefix = strcmp(type, "message") == 0                   ? "msg_"
                         : strcmp(type, "reasoning") == 0               ? "rs_"
                         : strcmp(type, "function_call") == 0           ? "fc_"
                         : strcmp(type, "function_call_output") == 0    ? "fco_"
                         : strcmp(type, "custom_tool_call") == 0        ? "ctc_"
                         : strcmp(type, "custom_tool_call_output") == 0 ? "ctco_"
                         : strcmp(type, "compaction") == 0              ? "cmp_"
                         : strcmp(type, "tool_search_call") == 0        ? "tsc_"
                                                                        : "item_";
    api_id id;
    snprintf(id.text, sizeof id.text, "%s%.24s%c%zu", prefix, seed, which, index);
    return id;
}

/* ── references ── */

/* An item by its id: of a conversation, or of the response its id names. New reference. */
static json_t *find_item(api *a, str owner, str id) {
    store *s = api_get_store(a, NULL);
    if (!s) return NULL;
    arena mem;
    arena_init(&mem, 64 << 20);
    store_row row;
    json_t *found = NULL;
    store_tx *tx = store_begin_read_as(s, owner);
    if (store_get(tx, "item", id, &mem, &row, NULL)) {
        found = json_parse(row.data, NULL);
    } else {
        ptrdiff_t at = str_find(id, STR("_"), 0);
        char response[40];
        if (at >= 0 && id.len - (size_t)at > 25) {
            snprintf(response, sizeof response, "resp_%.24s", id.ptr + at + 1);
            if (store_get(tx, "response", str_from(response), &mem, &row, NULL)) {
                json_t *data = json_parse(row.data, NULL), *extra = json_parse(row.extra, NULL);
                json_t *lists[] = {json_object_get(data, "output"),
                                   json_object_get(extra, "input")};
                for (int l = 0; l < 2 && !found; l++)
                    for (size_t i = 0; i < json_array_size(lists[l]) && !found; i++) {
                        json_t *item = json_array_get(lists[l], i);
                        if (str_eq(json_str(json_object_get(item, "id")), id))
                            found = json_incref(item);
                    }
                json_decref(data);
                json_decref(extra);
            }
        }
    }
    store_end_read(tx);
    arena_deinit(&mem);
    return found;
}

/* ── normal form ── */

static json_t *new_text_part(const char *type, str text) {
    json_t *part =
        json_pack("{s:s, s:s%}", "type", type, "text", text.ptr ? text.ptr : "", text.len);
    if (part && strcmp(type, "output_text") == 0) {
        json_object_set_new(part, "annotations", json_array());
        json_object_set_new(part, "logprobs", json_array());
    }
    return part;
}

/* A string or parts → parts. Only texts; what a text model cannot take is named. */
static json_t *normal_content(json_t *v, const char *path, bool of_assistant, error *err) {
    const char *type = of_assistant ? "output_text" : "input_text";
    json_t *out = json_array();
    if (json_is_string(v)) {
        json_array_append_new(out, new_text_part(type, json_str(v)));
        return out;
    }
    if (!json_is_array(v)) {
        error_set(
            err, ERR_INVALID_TYPE, path,
            "Invalid type for '%s': expected a string or an array of content parts, but got %s "
            "instead.",
            path, field_type_name(v));
    } else if (field_array(v, path, API_MAX_PARTS, err)) {
        for (size_t i = 0; i < json_array_size(v) && !error_is_set(err); i++) {
            json_t *part = json_array_get(v, i), *text;
            field_path at, member;
            str name, s;
            path_index(&at, path, i);
            if (!field_object(part, at.text, err)) break;
            json_t *kind = field_need(part, "type", at.text, err);
            if (!kind || !field_str(kind, path_member(&member, at.text, "type"), &name, err)) break;
            if (str_is(name, "input_image") || str_is(name, "input_file") ||
                str_is(name, "input_audio") || str_is(name, "computer_screenshot")) {
                error_set(err, ERR_UNSUPPORTED_VALUE, at.text,
                          "'%s' is a content part of type '%.*s', but this model reads text only.",
                          at.text, STR_ARG(name));
                break;
            }
            bool refusal = str_is(name, "refusal");
            if (!str_is(name, "input_text") &&
                !(of_assistant && (refusal || str_is(name, "output_text")))) {
                error_set(
                    err, ERR_INVALID_VALUE, member.text,
                    "Invalid value: '%.40s'. Supported values are: %s.", name.len ? name.ptr : "",
                    of_assistant ? "'output_text', 'refusal' and 'input_text'" : "'input_text'");
                break;
            }
            const char *key = refusal ? "refusal" : "text";
            if (!(text = field_need(part, key, at.text, err)) ||
                !field_str(text, path_member(&member, at.text, key), &s, err))
                break;
            if (refusal)
                json_array_append(out, part);
            else
                json_array_append_new(out, new_text_part(type, s));
        }
    }
    if (!error_is_set(err)) return out;
    json_decref(out);
    return NULL;
}

static bool need_str(json_t *item, const char *name, const char *path, error *err) {
    field_path at;
    str s;
    json_t *v = field_need(item, name, path, err);
    return v && field_str(v, path_member(&at, path, name), &s, err);
}

/* What each kind must have; sets what it lacks. `item` is ours. */
static bool complete_item(json_t *item, str type, const char *path, error *err) {
    static const char *const roles[] = {"user", "assistant", "system", "developer", NULL};
    field_path at;
    if (str_is(type, "message")) {
        int which;
        json_t *role = field_need(item, "role", path, err), *content;
        if (!role || !field_enum(role, path_member(&at, path, "role"), roles, &which, err) ||
            !(content = field_need(item, "content", path, err)) ||
            !(content =
                  normal_content(content, path_member(&at, path, "content"), which == 1, err)))
            return false;
        json_object_set_new(item, "content", content);
        if (!field_get(item, "status"))
            json_object_set_new(item, "status", json_string("completed"));
    } else if (str_is(type, "function_call")) {
        if (!need_str(item, "call_id", path, err) || !need_str(item, "name", path, err) ||
            !need_str(item, "arguments", path, err))
            return false;
        if (!field_get(item, "status"))
            json_object_set_new(item, "status", json_string("completed"));
    } else if (str_is(type, "custom_tool_call")) {
        if (!need_str(item, "call_id", path, err) || !need_str(item, "name", path, err) ||
            !need_str(item, "input", path, err))
            return false;
        if (!field_get(item, "status"))
            json_object_set_new(item, "status", json_string("completed"));
    } else if (str_is(type, "function_call_output") || str_is(type, "custom_tool_call_output")) {
        json_t *output;
        if (!need_str(item, "call_id", path, err) ||
            !(output = field_need(item, "output", path, err)))
            return false;
        if (!json_is_string(output)) {
            json_t *parts = normal_content(output, path_member(&at, path, "output"), false, err);
            if (!parts) return false;
            json_object_set_new(item, "output", parts);
        }
        if (!field_get(item, "status"))
            json_object_set_new(item, "status", json_string("completed"));
    } else if (str_is(type, "reasoning")) {
        if (!json_is_array(json_object_get(item, "summary")))
            json_object_set_new(item, "summary", json_array());
        json_t *sealed = field_get(item, "encrypted_content");
        str s;
        if (sealed && !field_str(sealed, path_member(&at, path, "encrypted_content"), &s, err))
            return false;
    } else if (str_is(type, "compaction")) {
        if (!need_str(item, "encrypted_content", path, err)) return false;
    } else if (!is_hosted(type)) {
        path_member(&at, path, "type");
        return error_set(
            err, ERR_INVALID_VALUE, at.text,
            "Invalid value: '%.*s'. Supported values are: 'message', 'reasoning', "
            "'function_call', 'function_call_output', 'custom_tool_call', "
            "'custom_tool_call_output', 'item_reference', 'compaction' and the items of "
            "hosted tools.",
            (int)(type.len > 40 ? 40 : type.len), type.ptr ? type.ptr : "");
    }
    return true;
}

static json_t *normal_item(api *a, str owner, json_t *v, const char *path, const char *seed,
                           size_t index, bool fresh_ids, error *err) {
    if (!field_object(v, path, err)) return NULL;
    field_path at;
    str type, id;
    json_t *kind = field_get(v, "type");
    if (!kind)
        type = json_object_get(v, "role") || !json_object_get(v, "id") ? STR("message")
                                                                       : STR("item_reference");
    else if (!field_str(kind, path_member(&at, path, "type"), &type, err))
        return NULL;
    if (str_is(type, "item_reference")) {
        if (!need_str(v, "id", path, err)) return NULL;
        id = json_str(json_object_get(v, "id"));
        json_t *found = find_item(a, owner, id);
        if (!found)
            error_set(err, ERR_NOT_FOUND, path_member(&at, path, "id"),
                      "Item with id '%.*s' not found.", (int)(id.len > 100 ? 100 : id.len), id.ptr);
        return found;
    }
    json_t *item = json_object();
    const char *key;
    json_t *member;
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)(type.len > 60 ? 60 : type.len), type.ptr);
    id = json_str(field_get(v, "id"));
    if (fresh_ids || id.len == 0 || id.len > 64)
        json_object_set_new(item, "id", json_string(item_id(name, seed, 'i', index).text));
    else
        json_object_set(item, "id", json_object_get(v, "id"));
    json_object_set_new(item, "type", json_stringn(type.ptr, type.len));
    json_object_foreach(v, key, member) {
        if (strcmp(key, "id") != 0 && strcmp(key, "type") != 0 && !json_is_null(member))
            json_object_set(item, key, member);
    }
    if (complete_item(item, type, path, err)) return item;
    json_decref(item);
    return NULL;
}

json_t *items_normalise(api *a, str owner, json_t *input, const char *path, const char *seed,
                        bool fresh_ids, error *err) {
    json_t *out = json_array();
    if (!out) {
        no_memory(err);
        return NULL;
    }
    if (json_is_string(input)) {
        json_t *content = json_array(), *item = json_object();
        json_array_append_new(content, new_text_part("input_text", json_str(input)));
        json_object_set_new(item, "id", json_string(item_id("message", seed, 'i', 0).text));
        json_object_set_new(item, "type", json_string("message"));
        json_object_set_new(item, "status", json_string("completed"));
        json_object_set_new(item, "role", json_string("user"));
        json_object_set_new(item, "content", content);
        json_array_append_new(out, item);
        return out;
    }
    if (!json_is_array(input)) {
        error_set(
            err, ERR_INVALID_TYPE, path,
            "Invalid type for '%s': expected a string or an array of items, but got %s instead.",
            path, field_type_name(input));
    } else if (field_array(input, path, ITEMS_MAX, err)) {
        for (size_t i = 0; i < json_array_size(input); i++) {
            field_path at;
            json_t *item = normal_item(a, owner, json_array_get(input, i), path_index(&at, path, i),
                                       seed, i, fresh_ids, err);
            if (!item) break;
            json_array_append_new(out, item);
        }
    }
    if (!error_is_set(err)) return out;
    json_decref(out);
    return NULL;
}

/* ── messages ── */

bool item_messages_init(item_messages *m) {
    *m = (item_messages){.messages = json_array()};
    return m->messages != NULL;
}

void item_messages_deinit(item_messages *m) {
    json_decref(m->messages);
    buf_deinit(&m->reasoning);
    free(m->origins);
    *m = (item_messages){0};
}

static bool add(item_messages *m, json_t *message, const char *path, error *err) {
    size_t n = json_array_size(m->messages);
    if (n == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 16;
        field_path *grown = realloc(m->origins, cap * sizeof *grown);
        if (!grown) {
            json_decref(message);
            return no_memory(err);
        }
        m->origins = grown;
        m->cap = cap;
    }
    snprintf(m->origins[n].text, sizeof m->origins[n].text, "%s", path);
    return json_array_append_new(m->messages, message) == 0 || no_memory(err);
}

static void append_text(buf *out, json_t *v) {
    if (json_is_string(v)) buf_append_str(out, json_str(v));
    for (size_t i = 0; i < json_array_size(v); i++) {
        json_t *part = json_array_get(v, i);
        buf_append_str(out, json_str(json_object_get(part, "text")));
        buf_append_str(out, json_str(json_object_get(part, "refusal")));
    }
}

/* Instructions, and what the client says in the system's name before anything else, are one message:
 * many templates know one only, at the beginning. */
static bool add_system(item_messages *m, const char *role, json_t *content, const char *path,
                       error *err) {
    buf text = {0};
    size_t n = json_array_size(m->messages);
    json_t *last = n == 1 ? json_array_get(m->messages, 0) : NULL;
    str first = json_str(json_object_get(last, "role"));
    bool join = last && (str_is(first, "developer") || str_is(first, "system"));
    if (join) {
        append_text(&text, json_object_get(last, "content"));
        buf_append_cstr(&text, "\n\n");
    }
    append_text(&text, content);
    json_t *s = text.failed ? NULL : json_stringn(text.ptr ? text.ptr : "", text.len);
    buf_deinit(&text);
    if (!s) return no_memory(err);
    if (join) return json_object_set_new(last, "content", s) == 0 || no_memory(err);
    return add(m, json_pack("{s:s, s:o}", "role", role, "content", s), path, err);
}

bool item_messages_instruct(item_messages *m, str text, error *err) {
    json_t *s = json_stringn(text.ptr ? text.ptr : "", text.len);
    bool ok = s ? add_system(m, "developer", s, "instructions", err) : no_memory(err);
    json_decref(s);
    return ok;
}

/* The reasoning before a message or call belongs to it. */
static bool take_reasoning(item_messages *m, json_t *message, error *err) {
    if (m->reasoning.failed) return no_memory(err);
    if (!m->reasoning.len) return true;
    json_t *s = json_stringn(m->reasoning.ptr, m->reasoning.len);
    buf_clear(&m->reasoning);
    return (s && json_object_set_new(message, "reasoning_content", s) == 0) || no_memory(err);
}

/* A call as chat has it; `call` is taken. */
static bool add_call(item_messages *m, json_t *call, const char *path, error *err) {
    size_t n = json_array_size(m->messages);
    json_t *last = n ? json_array_get(m->messages, n - 1) : NULL;
    if (!call) return no_memory(err);
    /* One turn of the assistant: its words, then its calls. */
    if (last && str_is(json_str(json_object_get(last, "role")), "assistant") && !m->reasoning.len) {
        json_t *calls = json_object_get(last, "tool_calls");
        if (!calls) {
            calls = json_array();
            json_object_set_new(last, "tool_calls", calls);
        }
        return json_array_append_new(calls, call) == 0 || no_memory(err);
    }
    json_t *message =
        json_pack("{s:s, s:n, s:[o]}", "role", "assistant", "content", "tool_calls", call);
    if (!message) return no_memory(err);
    if (!take_reasoning(m, message, err)) {
        json_decref(message);
        return false;
    }
    return add(m, message, path, err);
}

static json_t *make_call(json_t *item, bool custom) {
    const char *key = custom ? "custom" : "function", *args = custom ? "input" : "arguments";
    tool_name name = tool_name_offered(json_str(json_object_get(item, "namespace")),
                                       json_str(json_object_get(item, "name")));
    return json_pack("{s:O, s:s, s:{s:s, s:O}}", "id", json_object_get(item, "call_id"), "type",
                     key, key, "name", name.text, args, json_object_get(item, args));
}

/* A search for tools that the client ran: a call like another. What it found is offered from then on
 * (responses_decode.c); here the model is told the names. */
static bool add_search(item_messages *m, json_t *item, const char *path, error *err) {
    buf args = {0};
    json_out j = json_begin(&args);
    json_put_value(&j, json_object_get(item, "arguments"));
    json_t *call = args.failed
                       ? NULL
                       : json_pack("{s:O, s:s, s:{s:s, s:s%}}", "id",
                                   json_object_get(item, "call_id"), "type", "function", "function",
                                   "name", "tool_search", "arguments", args.ptr, args.len);
    buf_deinit(&args);
    return add_call(m, call, path, err);
}

static void append_names(buf *out, json_t *tools, str space) {
    for (size_t i = 0; i < json_array_size(tools); i++) {
        json_t *tool = json_array_get(tools, i), *inner = json_object_get(tool, "tools");
        str name = json_str(json_object_get(tool, "name"));
        if (inner && !space.len)
            append_names(out, inner, name);
        else
            buf_printf(out, "\n%s", tool_name_offered(space, name).text);
    }
}

static bool add_found(item_messages *m, json_t *item, const char *path, error *err) {
    buf text = {0};
    buf_append_cstr(&text, "Tools that can be called now:");
    append_names(&text, json_object_get(item, "tools"), (str){0});
    json_t *message =
        text.failed ? NULL
                    : json_pack("{s:s, s:O, s:s%}", "role", "tool", "tool_call_id",
                                json_object_get(item, "call_id"), "content", text.ptr, text.len);
    buf_deinit(&text);
    return message ? add(m, message, path, err) : no_memory(err);
}

static bool add_reasoning(api *a, item_messages *m, json_t *item, const char *path, error *err) {
    if (m->reasoning.len) buf_append_cstr(&m->reasoning, "\n");
    json_t *content = json_object_get(item, "content"),
           *sealed = field_get(item, "encrypted_content");
    if (json_array_size(content)) {
        append_text(&m->reasoning, content);
    } else if (sealed) {
        field_path at;
        if (!unseal_text(a, SEAL_REASONING, json_str(sealed), &m->reasoning))
            return error_set(err, ERR_INVALID_VALUE, path_member(&at, path, "encrypted_content"),
                             "The encrypted content could not be verified: it was not made by this "
                             "server, or was changed.");
    } else
        append_text(&m->reasoning, json_object_get(item, "summary"));
    return !m->reasoning.failed || no_memory(err);
}

static bool add_summary(item_messages *m, str summary, const char *path, error *err) {
    static const char head[] = "Summary of the conversation so far:\n";
    buf text = {0};
    buf_append_cstr(&text, head);
    buf_append_str(&text, summary);
    json_t *message = text.failed
                          ? NULL
                          : json_pack("{s:s, s:s%}", "role", "user", "content", text.ptr, text.len);
    buf_deinit(&text);
    return message ? add(m, message, path, err) : no_memory(err);
}

/* Takes the place of every message so far but the first, if that is the system's. */
static bool add_window(api *a, item_messages *m, str window, const char *path, error *err) {
    json_t *v = json_parse(window, err), *first = json_array_get(m->messages, 0);
    if (!v) return false;
    str role = json_str(json_object_get(first, "role"));
    size_t stays = str_is(role, "developer") || str_is(role, "system") ? 1 : 0;
    while (json_array_size(m->messages) > stays)
        json_array_remove(m->messages, json_array_size(m->messages) - 1);
    buf_clear(&m->reasoning);
    bool ok = add_summary(m, json_str(json_object_get(v, "summary")), path, err) &&
              item_messages_add(a, m, json_object_get(v, "items"), path, err);
    json_decref(v);
    return ok;
}

static bool add_compaction(api *a, item_messages *m, json_t *item, const char *path, error *err) {
    field_path at;
    buf text = {0};
    str sealed = json_str(json_object_get(item, "encrypted_content"));
    bool ok;
    if (unseal_text(a, SEAL_WINDOW, sealed, &text))
        ok = add_window(a, m, buf_str(&text), path, err);
    else if (unseal_text(a, SEAL_COMPACTION, sealed, &text))
        ok = add_summary(m, buf_str(&text), path, err);
    else
        ok = error_set(err, ERR_INVALID_VALUE, path_member(&at, path, "encrypted_content"),
                       "The encrypted content could not be verified: it was not made by this "
                       "server, or was changed.");
    buf_deinit(&text);
    return ok;
}

static bool add_item(api *a, item_messages *m, json_t *item, const char *path, error *err) {
    str type = json_str(json_object_get(item, "type"));
    if (str_is(type, "message")) {
        const char *role = json_string_value(json_object_get(item, "role"));
        json_t *content = json_object_get(item, "content");
        if (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0) {
            if (json_array_size(m->messages) <= 1) return add_system(m, role, content, path, err);
        }
        json_t *message = json_pack("{s:s, s:O}", "role", role, "content", content);
        if (!message) return no_memory(err);
        /* An empty list of parts is what an answer cut short leaves. */
        if (json_array_size(content) == 0) json_object_set_new(message, "content", json_string(""));
        if (strcmp(role, "assistant") == 0 && !take_reasoning(m, message, err)) {
            json_decref(message);
            return false;
        }
        return add(m, message, path, err);
    }
    if (str_is(type, "reasoning")) return add_reasoning(a, m, item, path, err);
    if (str_is(type, "function_call")) return add_call(m, make_call(item, false), path, err);
    if (str_is(type, "custom_tool_call")) return add_call(m, make_call(item, true), path, err);
    bool by_client = json_is_string(json_object_get(item, "call_id"));
    if (str_is(type, "tool_search_call") && by_client) return add_search(m, item, path, err);
    if (str_is(type, "tool_search_output") && by_client) return add_found(m, item, path, err);
    if (str_is(type, "compaction")) return add_compaction(a, m, item, path, err);
    if (str_is(type, "function_call_output") || str_is(type, "custom_tool_call_output")) {
        json_t *output = json_object_get(item, "output");
        bool none = json_is_array(output) && json_array_size(output) == 0;
        json_t *message = json_pack("{s:s, s:O, s:o}", "role", "tool", "tool_call_id",
                                    json_object_get(item, "call_id"), "content",
                                    none ? json_string("") : json_incref(output));
        return message ? add(m, message, path, err) : no_memory(err);
    }
    return true; /* of a hosted tool */
}

bool item_messages_add(api *a, item_messages *m, json_t *items, const char *path, error *err) {
    for (size_t i = 0; i < json_array_size(items); i++) {
        field_path at;
        json_t *item = json_array_get(items, i);
        /* Reasoning that no word or call follows was cut short: it is not shown again. */
        str type = json_str(json_object_get(item, "type")),
            role = json_str(json_object_get(item, "role"));
        if (!str_is(type, "reasoning") && !str_ends(type, STR("_call")) &&
            !str_is(role, "assistant"))
            buf_clear(&m->reasoning);
        if (!add_item(a, m, item, path_index(&at, path, i), err)) return false;
    }
    return true;
}

void item_messages_fix_param(const item_messages *m, error *err) {
    size_t i;
    int n = 0;
    char copy[sizeof err->param];
    if (strcmp(err->param, "messages") == 0) {
        snprintf(err->param, sizeof err->param, "input");
    } else if (sscanf(err->param, "messages[%zu]%n", &i, &n) == 1 && n &&
               i < json_array_size(m->messages)) {
        snprintf(copy, sizeof copy, "%.60s%.50s", m->origins[i].text, err->param + n);
        memcpy(err->param, copy, sizeof copy);
    }
}
