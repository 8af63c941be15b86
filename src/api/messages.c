#include "api/messages.h"

#include <stdio.h>
#include <string.h>

#include "api/serve.h"

static bool no_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
}

/* ── content ── */

bool content_parse(arena *mem, json_t *v, const char *path, str *out, error *err) {
    if (json_is_string(v)) {
        *out = json_str(v);
        return true;
    }
    if (!json_is_array(v))
        return error_set(
            err, ERR_INVALID_TYPE, path,
            "Invalid type for '%s': expected a string or an array of content parts, but got %s instead.",
            path, field_type_name(v));
    if (!field_array(v, path, API_MAX_PARTS, err)) return false;
    size_t n = json_array_size(v), len = 0;
    if (n == 0) return field_empty_array(path, err);
    str *texts = arena_array(mem, n, sizeof *texts);
    if (!texts) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        field_path at, member;
        path_index(&at, path, i);
        json_t *part = json_array_get(v, i);
        if (!field_object(part, at.text, err)) return false;
        json_t *type = field_need(part, "type", at.text, err);
        str name;
        if (!type || !field_str(type, path_member(&member, at.text, "type"), &name, err))
            return false;
        const char *key = NULL;
        if (str_is(name, "text") || str_is(name, "input_text") || str_is(name, "output_text"))
            key = "text";
        else if (str_is(name, "refusal"))
            key = "refusal";
        else if (str_is(name, "image_url") || str_is(name, "input_audio") || str_is(name, "file") ||
                 str_is(name, "input_image") || str_is(name, "input_file") ||
                 str_is(name, "video_url"))
            return error_set(
                err, ERR_UNSUPPORTED_VALUE, at.text,
                "'%s' is a content part of type '%.*s', but this model reads text only.", at.text,
                STR_ARG(name));
        else
            return error_set(err, ERR_INVALID_VALUE, member.text,
                             "Invalid value: '%.40s'. Supported values are: 'text' and 'refusal'.",
                             name.len ? name.ptr : "");
        json_t *text = field_need(part, key, at.text, err);
        if (!text || !field_str(text, path_member(&member, at.text, key), &texts[i], err))
            return false;
        len += texts[i].len;
    }
    if (n == 1) {
        *out = texts[0];
        return true;
    }
    char *joined = arena_alloc_aligned(mem, len + 1, 1);
    if (!joined) return no_memory(err);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (texts[i].len) memcpy(joined + at, texts[i].ptr, texts[i].len);
        at += texts[i].len;
    }
    *out = str_make(joined, len);
    return true;
}

static bool parse_calls(arena *mem, json_t *v, const char *path, chat_message *m, error *err) {
    static const char *const types[] = {"function", "custom", NULL};
    if (!field_array(v, path, API_MAX_PARTS, err)) return false;
    size_t n = json_array_size(v);
    chat_call *calls = arena_array(mem, n ? n : 1, sizeof *calls);
    if (!calls) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        field_path at, f, member;
        path_index(&at, path, i);
        json_t *call = json_array_get(v, i), *id, *type, *body, *name, *text;
        int which;
        if (!field_object(call, at.text, err) || !(id = field_need(call, "id", at.text, err)) ||
            !field_str(id, path_member(&member, at.text, "id"), &calls[i].id, err) ||
            !(type = field_need(call, "type", at.text, err)) ||
            !field_enum(type, path_member(&member, at.text, "type"), types, &which, err))
            return false;
        bool custom = calls[i].is_custom = which == 1;
        const char *key = types[which];
        if (!(body = field_need(call, key, at.text, err)) ||
            !field_object(body, path_member(&f, at.text, key), err) ||
            !(name = field_need(body, "name", f.text, err)) ||
            !field_str(name, path_member(&member, f.text, "name"), &calls[i].name, err))
            return false;
        const char *args = custom ? "input" : "arguments";
        if (!(text = field_need(body, args, f.text, err)) ||
            !field_str(text, path_member(&member, f.text, args), &calls[i].arguments, err))
            return false;
    }
    m->calls = calls;
    m->n_calls = n;
    return true;
}

/* Who speaks: no white space and nothing that a template could take for a marker. */
static bool check_name(str name, const char *path, error *err) {
    bool ok = name.len > 0;
    for (size_t i = 0; ok && i < name.len; i++) ok = !strchr(" \t\n\v\f\r<|\\/>", name.ptr[i]);
    if (!ok)
        return error_set(
            err, ERR_INVALID_VALUE, path,
            "Invalid '%s': string does not match pattern. Expected a string that matches "
            "the pattern '^[^\\s<|\\\\/>]+$'.",
            path);
    return field_max_chars(name, path, API_MAX_NAME, err);
}

static const char *const roles[] = {"system", "developer", "user", "assistant",
                                    "tool",   "function",  NULL};
static const chat_role role_of[] = {CHAT_SYSTEM,    CHAT_DEVELOPER, CHAT_USER,
                                    CHAT_ASSISTANT, CHAT_TOOL,      CHAT_TOOL};
enum { ROLE_FUNCTION = 5 };

static bool parse_message(arena *mem, json_t *v, const char *path, chat_message *m, error *err) {
    field_path p;
    json_t *role, *x;
    int which;
    if (!field_object(v, path, err) || !(role = field_need(v, "role", path, err)) ||
        !field_enum(role, path_member(&p, path, "role"), roles, &which, err))
        return false;
    m->role = role_of[which];
    if (m->role == CHAT_ASSISTANT) {
        if ((x = field_get(v, "tool_calls")) &&
            !parse_calls(mem, x, path_member(&p, path, "tool_calls"), m, err))
            return false;
        /* The deprecated single call: its answer comes as role "function" with a name. */
        if ((x = field_get(v, "function_call")) && !m->n_calls) {
            chat_call *call = arena_alloc(mem, sizeof *call);
            json_t *name, *args;
            field_path q;
            if (!call) return no_memory(err);
            path_member(&p, path, "function_call");
            if (!field_object(x, p.text, err) || !(name = field_need(x, "name", p.text, err)) ||
                !field_str(name, path_member(&q, p.text, "name"), &call->name, err) ||
                !(args = field_need(x, "arguments", p.text, err)) ||
                !field_str(args, path_member(&q, p.text, "arguments"), &call->arguments, err))
                return false;
            call->id = call->name;
            m->calls = call;
            m->n_calls = 1;
        }
        x = field_get(v, "reasoning_content");
        if (!x) x = field_get(v, "reasoning");
        if (json_is_string(x)) m->reasoning = json_str(x);
    }
    if ((x = field_get(v, "name")) &&
        (!field_str(x, path_member(&p, path, "name"), &m->name, err) ||
         !check_name(m->name, p.text, err)))
        return false;
    if (m->role == CHAT_TOOL) {
        const char *key = which == ROLE_FUNCTION ? "name" : "tool_call_id";
        if (!(x = field_need(v, key, path, err)) ||
            !field_str(x, path_member(&p, path, key), &m->call_id, err))
            return false;
    }
    x = field_get(v, "content");
    if (m->role == CHAT_ASSISTANT) {
        json_t *refusal = field_get(v, "refusal");
        str ignored;
        if (refusal && !field_str(refusal, path_member(&p, path, "refusal"), &ignored, err))
            return false;
        if (!x) x = refusal;
        if (!x && (m->n_calls || json_object_get(v, "content")))
            return true; /* null beside calls */
    }
    if (!x && which == ROLE_FUNCTION && json_object_get(v, "content"))
        return m->has_content = true; /* a function may have returned nothing */
    if (!x && !(x = field_need(v, "content", path, err))) return false;
    m->has_content = true;
    return content_parse(mem, x, path_member(&p, path, "content"), &m->content, err);
}

void messages_name_results(chat_message *m, size_t n) {
    for (size_t i = 0; i < n; i++)
        for (size_t k = i; m[i].role == CHAT_TOOL && !m[i].name.len && k-- > 0;)
            for (size_t c = 0; c < m[k].n_calls; c++)
                if (str_eq(m[k].calls[c].id, m[i].call_id)) m[i].name = m[k].calls[c].name;
}

/* A tool's result belongs to a call that was made before. */
static bool check_results(const chat_message *m, size_t n, const char *path, error *err) {
    for (size_t i = 0; i < n; i++) {
        bool by_name = m[i].name.len && str_eq(m[i].name, m[i].call_id); /* role function */
        bool found = m[i].role != CHAT_TOOL || by_name;
        for (size_t k = i; !found && k-- > 0;)
            for (size_t c = 0; c < m[k].n_calls; c++)
                found |= str_eq(m[k].calls[c].id, m[i].call_id);
        if (found) continue;
        field_path at, member;
        path_index(&at, path, i);
        return error_set(err, ERR_INVALID_VALUE, path_member(&member, at.text, "tool_call_id"),
                         "Invalid parameter: messages with role 'tool' must be a response to a "
                         "preceding message with 'tool_calls', and none has the id '%.60s'.",
                         m[i].call_id.ptr);
    }
    return true;
}

bool messages_check_answered(const chat_message *m, size_t n, const char *path, error *err) {
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < m[i].n_calls; c++) {
            const chat_call *call = &m[i].calls[c];
            bool found = call->id.ptr == call->name.ptr; /* function_call: it has no id */
            for (size_t k = i + 1; !found && k < n && m[k].role == CHAT_TOOL; k++)
                found = str_eq(m[k].call_id, call->id);
            if (found) continue;
            field_path at, member;
            path_index(&at, path, i);
            return error_set(err, ERR_INVALID_VALUE, path_member(&member, at.text, "tool_calls"),
                             "An assistant message with 'tool_calls' must be followed by messages "
                             "with role 'tool' that answer each of them, and none answers '%.60s'.",
                             call->id.ptr);
        }
    return true;
}

bool messages_parse(arena *mem, json_t *v, const char *path, const chat_message **out,
                    size_t *n_out, error *err) {
    if (!field_array(v, path, API_MAX_MESSAGES, err)) return false;
    size_t n = json_array_size(v);
    if (n == 0) return field_empty_array(path, err);
    chat_message *m = arena_array(mem, n, sizeof *m);
    if (!m) return no_memory(err);
    for (size_t i = 0; i < n; i++) {
        field_path p;
        if (!parse_message(mem, json_array_get(v, i), path_index(&p, path, i), &m[i], err))
            return false;
    }
    if (!check_results(m, n, path, err)) return false;
    messages_name_results(m, n);
    *out = m;
    *n_out = n;
    return true;
}

/* ── tools ── */

bool function_name_check(str name, const char *path, error *err) {
    bool ok = name.len >= 1;
    for (size_t i = 0; ok && i < name.len; i++) {
        char c = name.ptr[i];
        ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
             c == '_' || c == '-';
    }
    if (!ok)
        return error_set(
            err, ERR_INVALID_VALUE, path,
            "Invalid '%s': string does not match pattern. Expected a string that matches "
            "the pattern '^[a-zA-Z0-9_-]+$'.",
            path);
    return field_max_chars(name, path, API_MAX_NAME, err);
}

static bool is_type_name(json_t *v) {
    static const char *const names[] = {"string", "number", "integer", "boolean",
                                        "object", "array",  "null"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (str_is(json_str(v), names[i])) return true;
    return false;
}

enum { SCHEMA_MAX_DEPTH = 64 };

static bool check_schema(json_t *s, const char *where, const char *param, error_code code,
                         int depth, error *err) {
    if (json_is_boolean(s)) return true;
    if (depth > SCHEMA_MAX_DEPTH)
        return error_set(err, code, param, "Invalid schema: nested deeper than %d.",
                         SCHEMA_MAX_DEPTH);
    if (!json_is_object(s))
        return error_set(err, code, param,
                         "Invalid schema at '%s': expected an object or a boolean, but got %s.",
                         where, field_type_name(s));
    field_path at;
    json_t *v = json_object_get(s, "type");
    if (json_is_array(v)) {
        for (size_t i = 0; i < json_array_size(v); i++)
            if (!is_type_name(json_array_get(v, i)))
                return error_set(
                    err, code, param,
                    "Invalid schema at '%s': 'type' lists something that is not a JSON type.",
                    where);
    } else if (v && !is_type_name(v))
        return error_set(err, code, param, "Invalid schema at '%s': '%.40s' is not a valid type.",
                         where, json_is_string(v) ? json_string_value(v) : field_type_name(v));
    static const char *const maps[] = {"properties", "patternProperties", "$defs", "definitions",
                                       "dependentSchemas"};
    for (size_t m = 0; m < sizeof maps / sizeof maps[0]; m++) {
        json_t *map = json_object_get(s, maps[m]), *sub;
        if (!map) continue;
        if (!json_is_object(map))
            return error_set(err, code, param, "Invalid schema at '%s': '%s' must be an object.",
                             where, maps[m]);
        const char *key;
        json_object_foreach(map, key,
                            sub) if (!check_schema(sub, path_member(&at, where, key), param, code,
                                                   depth + 1, err)) return false;
    }
    static const char *const subs[] = {"additionalProperties",
                                       "not",
                                       "if",
                                       "then",
                                       "else",
                                       "contains",
                                       "propertyNames",
                                       "unevaluatedProperties",
                                       "unevaluatedItems"};
    for (size_t m = 0; m < sizeof subs / sizeof subs[0]; m++) {
        json_t *sub = json_object_get(s, subs[m]);
        if (sub &&
            !check_schema(sub, path_member(&at, where, subs[m]), param, code, depth + 1, err))
            return false;
    }
    static const char *const lists[] = {"anyOf", "oneOf", "allOf", "prefixItems", "items"};
    for (size_t m = 0; m < sizeof lists / sizeof lists[0]; m++) {
        json_t *list = json_object_get(s, lists[m]);
        if (!list) continue;
        path_member(&at, where, lists[m]);
        if (!json_is_array(list)) {
            if (strcmp(lists[m], "items") != 0)
                return error_set(err, code, param, "Invalid schema at '%s': '%s' must be an array.",
                                 where, lists[m]);
            if (!check_schema(list, at.text, param, code, depth + 1, err)) return false;
            continue;
        }
        for (size_t i = 0; i < json_array_size(list); i++) {
            field_path item;
            if (!check_schema(json_array_get(list, i), path_index(&item, at.text, i), param, code,
                              depth + 1, err))
                return false;
        }
    }
    v = json_object_get(s, "required");
    if (v && !json_is_array(v))
        return error_set(err, code, param,
                         "Invalid schema at '%s': 'required' must be an array of strings.", where);
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!json_is_string(json_array_get(v, i)))
            return error_set(err, code, param,
                             "Invalid schema at '%s': 'required' must be an array of strings.",
                             where);
    v = json_object_get(s, "enum");
    if (v && !json_is_array(v))
        return error_set(err, code, param, "Invalid schema at '%s': 'enum' must be an array.",
                         where);
    return true;
}

bool schema_check(json_t *schema, const char *path, error_code code, error *err) {
    return check_schema(schema, path, path, code, 0, err);
}
