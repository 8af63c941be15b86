#include "api/tools.h"

#include <stdio.h>

#include "api/messages.h"
#include "api/serve.h"

static bool no_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
}

const chat_tool *tool_set_find(const tool_set *set, str name) {
    for (size_t i = 0; i < set->n; i++)
        if (str_eq(set->tools[i].name, name)) return &set->tools[i];
    return NULL;
}

/* ── Declarations ── */

static bool begin_set(arena *mem, json_t *v, const char *path, tool_set *out, error *err) {
    if (!field_array(v, path, API_MAX_TOOLS, err)) return false;
    *out = (tool_set){.tools = arena_array(mem, json_array_size(v) + 1, sizeof *out->tools)};
    return out->tools || no_memory(err);
}

static bool parse_name(json_t *v, const char *path, chat_tool *t, error *err) {
    field_path member;
    json_t *x = field_need(v, "name", path, err);
    path_member(&member, path, "name");
    if (!x || !field_str(x, member.text, &t->name, err) ||
        !function_name_check(t->name, member.text, err))
        return false;
    x = field_get(v, "description");
    return !x || field_str(x, path_member(&member, path, "description"), &t->description, err);
}

static bool parse_function(json_t *v, const char *path, chat_tool *t, error *err) {
    field_path member;
    json_t *x;
    if (!field_object(v, path, err) || !parse_name(v, path, t, err)) return false;
    if ((x = field_get(v, "strict")) &&
        !field_bool(x, path_member(&member, path, "strict"), &t->strict, err))
        return false;
    if (!(x = field_get(v, "parameters"))) return true;
    path_member(&member, path, "parameters");
    t->parameters = x;
    return field_object(x, member.text, err) &&
           schema_check(x, member.text, ERR_INVALID_FUNCTION_PARAMETERS, err);
}

/* {"type": "grammar", "grammar": {"syntax": "lark" | "regex", "definition": …}} */
static bool parse_format(json_t *v, const char *path, chat_tool *t, error *err) {
    static const char *const types[] = {"text", "grammar", NULL};
    static const char *const syntaxes[] = {"lark", "regex", NULL};
    field_path at, g;
    json_t *x;
    int which;
    if (!field_object(v, path, err) || !(x = field_need(v, "type", path, err)) ||
        !field_enum(x, path_member(&at, path, "type"), types, &which, err))
        return false;
    if (which == 0) return true;
    /* The newer flat form has both members beside the type. */
    json_t *spec = field_get(v, "grammar");
    path_member(&g, path, "grammar");
    if (!spec && field_get(v, "definition")) {
        spec = v;
        path_member(&g, path, "");
        g.text[strlen(path)] = 0;
    }
    if (!spec) return field_need(v, "grammar", path, err) != NULL;
    if (!field_object(spec, g.text, err) || !(x = field_need(spec, "syntax", g.text, err)) ||
        !field_enum(x, path_member(&at, g.text, "syntax"), syntaxes, &which, err) ||
        !(x = field_need(spec, "definition", g.text, err)) ||
        !field_str(x, path_member(&at, g.text, "definition"), &t->definition, err))
        return false;
    t->format = which ? CHAT_FORMAT_REGEX : CHAT_FORMAT_LARK;
    return true;
}

static bool parse_custom(json_t *v, const char *path, chat_tool *t, error *err) {
    field_path at;
    t->is_custom = t->strict = true;
    if (!field_object(v, path, err) || !parse_name(v, path, t, err)) return false;
    json_t *x = field_get(v, "format");
    return !x || parse_format(x, path_member(&at, path, "format"), t, err);
}

static bool add(tool_set *set, const chat_tool *t, const char *path, error *err) {
    if (tool_set_find(set, t->name))
        return error_set(err, ERR_INVALID_VALUE, path, "Two tools are called '%.*s'.",
                         STR_ARG(t->name));
    set->tools[set->n++] = *t;
    return true;
}

bool tools_parse(arena *mem, json_t *v, const char *path, tool_set *out, error *err) {
    static const char *const types[] = {"function", "custom", NULL};
    if (!begin_set(mem, v, path, out, err)) return false;
    for (size_t i = 0; i < json_array_size(v); i++) {
        field_path at, f, member;
        path_index(&at, path, i);
        json_t *tool = json_array_get(v, i), *type, *x;
        chat_tool t = {0};
        int which;
        if (!field_object(tool, at.text, err) || !(type = field_need(tool, "type", at.text, err)) ||
            !field_enum(type, path_member(&member, at.text, "type"), types, &which, err) ||
            !(x = field_need(tool, types[which], at.text, err)))
            return false;
        path_member(&f, at.text, types[which]);
        if (!(which ? parse_custom : parse_function)(x, f.text, &t, err) ||
            !add(out, &t, f.text, err))
            return false;
    }
    return true;
}

bool functions_parse(arena *mem, json_t *v, const char *path, tool_set *out, error *err) {
    if (!begin_set(mem, v, path, out, err)) return false;
    out->are_functions = true;
    for (size_t i = 0; i < json_array_size(v); i++) {
        field_path at;
        chat_tool t = {0};
        if (!parse_function(json_array_get(v, i), path_index(&at, path, i), &t, err) ||
            !add(out, &t, at.text, err))
            return false;
    }
    return true;
}

/* ── Choice ── */

static void bar_all(tool_set *set) {
    for (size_t i = 0; i < set->n; i++) set->tools[i].is_barred = true;
}

/* Lifts the bar of the tool that v names: {"type": "function", "function": {"name": …}}, or flat. */
static bool allow_named(json_t *v, const char *path, tool_set *set, error *err) {
    static const char *const types[] = {"function", "custom", NULL};
    field_path at;
    json_t *type, *body, *name;
    str s;
    int which;
    if (!field_object(v, path, err) || !(type = field_need(v, "type", path, err)) ||
        !field_enum(type, path_member(&at, path, "type"), types, &which, err))
        return false;
    bool is_flat = field_get(v, "name") && !field_get(v, types[which]);
    body = is_flat ? v : field_need(v, types[which], path, err);
    if (!body) return false;
    if (is_flat)
        snprintf(at.text, sizeof at.text, "%s", path);
    else
        path_member(&at, path, types[which]);
    field_path member;
    if (!field_object(body, at.text, err) || !(name = field_need(body, "name", at.text, err)) ||
        !field_str(name, path_member(&member, at.text, "name"), &s, err))
        return false;
    chat_tool *t = (chat_tool *)(uintptr_t)tool_set_find(set, s);
    if (!t || t->is_custom != (which == 1))
        return error_set(err, ERR_INVALID_VALUE, "tool_choice",
                         "'%s' names the %s '%.*s', which is not among 'tools'.", path,
                         which ? "custom tool" : "function", STR_ARG(s));
    t->is_barred = false;
    return true;
}

static bool parse_allowed(json_t *v, const char *path, tool_set *set, error *err) {
    static const char *const modes[] = {"auto", "required", NULL};
    field_path at, item;
    json_t *mode, *list;
    int which;
    if (!field_object(v, path, err) || !(mode = field_need(v, "mode", path, err)) ||
        !field_enum(mode, path_member(&at, path, "mode"), modes, &which, err) ||
        !(list = field_need(v, "tools", path, err)) ||
        !field_array(list, path_member(&at, path, "tools"), API_MAX_TOOLS, err))
        return false;
    if (!json_array_size(list)) return field_empty_array(at.text, err);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!allow_named(json_array_get(list, i), path_index(&item, at.text, i), set, err))
            return false;
    set->choice = which ? CHAT_TOOLS_REQUIRED : CHAT_TOOLS_AUTO;
    return true;
}

bool tool_choice_parse(json_t *v, const char *path, tool_set *set, error *err) {
    static const char *const words[] = {"none", "auto", "required", NULL};
    static const chat_tool_choice meant[] = {CHAT_TOOLS_NONE, CHAT_TOOLS_AUTO, CHAT_TOOLS_REQUIRED};
    static const char *const types[] = {"function", "custom", "allowed_tools", NULL};
    field_path at;
    json_t *type, *body;
    int which;
    if (json_is_string(v)) {
        if (!field_enum(v, path, words, &which, err)) return false;
        set->choice = meant[which];
        return which < 2 || set->n ||
               error_set(err, ERR_INVALID_VALUE, path,
                         "'%s' is 'required', but there are no 'tools'.", path);
    }
    if (!field_object(v, path, err)) return false;
    if (!set->n)
        return error_set(err, ERR_INVALID_VALUE, path,
                         "'%s' names a tool, but there are no 'tools'.", path);
    if (!(type = field_need(v, "type", path, err)) ||
        !field_enum(type, path_member(&at, path, "type"), types, &which, err))
        return false;
    bar_all(set);
    if (which < 2) {
        set->choice = CHAT_TOOLS_REQUIRED;
        return allow_named(v, path, set, err);
    }
    /* Also flat, as /v1/responses has it. */
    body = field_get(v, "allowed_tools");
    if (!body && field_get(v, "mode")) return parse_allowed(v, path, set, err);
    return (body || (body = field_need(v, "allowed_tools", path, err))) &&
           parse_allowed(body, path_member(&at, path, "allowed_tools"), set, err);
}

bool function_call_parse(json_t *v, const char *path, tool_set *set, error *err) {
    static const char *const words[] = {"none", "auto", NULL};
    field_path at;
    json_t *name;
    str s;
    int which;
    if (json_is_string(v)) {
        if (!field_enum(v, path, words, &which, err)) return false;
        set->choice = which ? CHAT_TOOLS_AUTO : CHAT_TOOLS_NONE;
        return true;
    }
    if (!field_object(v, path, err) || !(name = field_need(v, "name", path, err)) ||
        !field_str(name, path_member(&at, path, "name"), &s, err))
        return false;
    chat_tool *t = (chat_tool *)(uintptr_t)tool_set_find(set, s);
    if (!t)
        return error_set(err, ERR_INVALID_VALUE, path,
                         "'%s' names the function '%.*s', which is not among 'functions'.", path,
                         STR_ARG(s));
    bar_all(set);
    t->is_barred = false;
    set->choice = CHAT_TOOLS_REQUIRED;
    return true;
}

/* ── Answers ── */

void tools_put_input(buf *out, str arguments) {
    json_t *v = json_parse(arguments, NULL), *input = json_object_get(v, "input");
    bool is_wrapped = json_is_string(input) && json_object_size(v) == 1;
    buf_append_str(out, is_wrapped ? json_str(input) : arguments);
    json_decref(v);
}
