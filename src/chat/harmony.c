/* Rendering harmony: messages → ids and readable text. The segments that are
 * encoded on their own (role, recipient, channel, content) are those of OpenAI's
 * renderer: encoding is not additive, so joining them would change ids.
 */
#include "chat/harmony.h"

bool harmony_init(harmony *h, const tok *t) {
    *h = (harmony){
        .t = t,
        .start = tok_find_special(t, STR("<|start|>")),
        .message = tok_find_special(t, STR("<|message|>")),
        .end = tok_find_special(t, STR("<|end|>")),
        .channel = tok_find_special(t, STR("<|channel|>")),
        .constrain = tok_find_special(t, STR("<|constrain|>")),
        .ret = tok_find_special(t, STR("<|return|>")),
        .call = tok_find_special(t, STR("<|call|>")),
        .endoftext = tok_find_special(t, STR("<|endoftext|>")),
    };
    return h->start >= 0 && h->message >= 0 && h->end >= 0 && h->channel >= 0;
}

/* ── Out: ids and text together ── */

typedef struct writer {
    const harmony *h;
    tok_ids *ids;
    buf *text;
    error *err;
    bool failed;
} writer;

static void put_text(writer *w, str s) {
    if (w->failed || !s.len) return;
    if (w->text) buf_append_str(w->text, s);
    tok_encode_opts how = {.cache = w->h->cache};
    if (w->ids && !tok_encode(w->h->t, s, how, w->ids, w->err)) w->failed = true;
}

static void put_mark(writer *w, int32_t id) {
    if (w->text) buf_append_str(w->text, tok_piece(w->h->t, id));
    if (w->ids) tok_ids_push(w->ids, id);
}

/* ── Type notation ── */

/* Schemas come from clients: beyond this many levels a type is `any`. */
enum { MAX_TYPE_DEPTH = 32 };

static str get_str(const json_t *v, const char *key) {
    return json_str(json_object_get(v, key));
}

static bool is_true(const json_t *v) {
    return json_is_true(v);
}

static bool is_enum(const json_t *schema) {
    return json_array_size(json_object_get(schema, "enum")) > 0;
}

/* JSON as the reference renderer prints it: compact, and a real number always looks like one. */
static void put_json(buf *out, const json_t *v) {
    if (json_is_real(v)) {
        size_t at = out->len;
        json_out j = json_begin(out);
        json_put_num(&j, json_real_value(v));
        if (!out->failed && !strpbrk(out->ptr + at, ".en")) buf_append_cstr(out, ".0");
    } else if (json_is_array(v)) {
        buf_append_char(out, '[');
        for (size_t i = 0; i < json_array_size(v); i++) {
            if (i) buf_append_char(out, ',');
            put_json(out, json_array_get(v, i));
        }
        buf_append_char(out, ']');
    } else if (json_is_object(v)) {
        buf_append_char(out, '{');
        const char *key;
        json_t *item;
        bool first = true;
        json_object_foreach((json_t *)(uintptr_t)v, key, item) {
            json_out j = json_begin(out);
            if (!first) buf_append_char(out, ',');
            first = false;
            json_put_cstr(&j, key);
            buf_append_char(out, ':');
            put_json(out, item);
        }
        buf_append_char(out, '}');
    } else {
        json_out j = json_begin(out);
        json_put_value(&j, v);
    }
}

/* "default: …": strings in quotes, unless they name a value of an enum. */
static void put_default(buf *out, const json_t *value, bool bare) {
    buf_append_cstr(out, "default: ");
    if (!json_is_string(value)) {
        put_json(out, value);
        return;
    }
    if (!bare) buf_append_char(out, '"');
    buf_append_str(out, json_str(value));
    if (!bare) buf_append_char(out, '"');
}

static void put_spaces(buf *out, int n) {
    for (; n > 0; n--) buf_append_char(out, ' ');
}

static void put_comment(buf *out, int indent, str text) {
    put_spaces(out, indent);
    buf_append_cstr(out, "// ");
    buf_append_str(out, text);
    buf_append_char(out, '\n');
}

static void put_type(buf *out, const json_t *schema, int indent, int depth);

static void put_nullable_type(buf *out, const json_t *schema, int indent, int depth) {
    size_t at = out->len;
    put_type(out, schema, indent, depth);
    if (out->failed || !is_true(json_object_get(schema, "nullable"))) return;
    if (str_find(buf_str(out), STR("null"), at) < 0) buf_append_cstr(out, " | null");
}

/* " // description default: …" behind one alternative of a oneOf. */
static void put_variant_comment(buf *out, const json_t *variant, str description, bool bare_enum) {
    const json_t *value = json_object_get(variant, "default");
    if (!description.ptr && !value) return;
    buf_append_cstr(out, " // ");
    buf_append_str(out, description);
    if (description.ptr && value) buf_append_char(out, ' ');
    if (value) put_default(out, value, bare_enum && is_enum(variant));
}

static void put_property(buf *out, const char *key, const json_t *v, bool required, int indent,
                         int depth) {
    const json_t *one_of = json_object_get(v, "oneOf");
    const json_t *value = json_object_get(v, "default");
    str title = get_str(v, "title"), description = get_str(v, "description");
    if (title.ptr) {
        put_comment(out, indent, title);
        put_spaces(out, indent);
        buf_append_cstr(out, "//\n");
    }
    if (!one_of && description.ptr) put_comment(out, indent, description);
    const json_t *examples = json_object_get(v, "examples");
    if (json_array_size(examples) > 0) {
        put_comment(out, indent, STR("Examples:"));
        for (size_t i = 0; i < json_array_size(examples); i++) {
            const json_t *example = json_array_get(examples, i);
            if (!json_is_string(example)) continue;
            put_spaces(out, indent);
            buf_append_cstr(out, "// - \"");
            buf_append_str(out, json_str(example));
            buf_append_cstr(out, "\"\n");
        }
    }
    if (!json_is_array(one_of)) {
        put_spaces(out, indent);
        buf_append_cstr(out, key);
        buf_append_cstr(out, required ? ": " : "?: ");
        put_nullable_type(out, v, indent + 4, depth);
        buf_append_char(out, ',');
        if (value && !one_of) {
            buf_append_cstr(out, " // ");
            put_default(out, value, is_enum(v));
        }
        buf_append_char(out, '\n');
        return;
    }
    /* Alternatives, one a line. A description said above is not said again at the first one. */
    str first = get_str(json_array_get(one_of, 0), "description");
    bool above = description.ptr && !(first.ptr && str_eq(first, description));
    if (above) put_comment(out, indent, description);
    if (value) {
        put_spaces(out, indent);
        buf_append_cstr(out, "// ");
        put_default(out, value, is_enum(v));
        buf_append_char(out, '\n');
    }
    put_spaces(out, indent);
    buf_append_cstr(out, key);
    buf_append_cstr(out, required ? ":\n" : "?:\n");
    for (size_t i = 0; i < json_array_size(one_of); i++) {
        const json_t *variant = json_array_get(one_of, i);
        put_spaces(out, indent);
        buf_append_cstr(out, " | ");
        put_nullable_type(out, variant, indent + 3, depth);
        str own = get_str(variant, "description");
        bool said = (i == 0 && above) || (description.ptr && str_eq(own, description));
        put_variant_comment(out, variant, said ? (str){0} : own, true);
        buf_append_char(out, '\n');
    }
    put_spaces(out, indent);
    buf_append_cstr(out, ",\n");
}

static void put_object(buf *out, const json_t *schema, int indent, int depth) {
    str description = get_str(schema, "description");
    if (description.ptr) put_comment(out, indent, description);
    buf_append_cstr(out, "{\n");
    const json_t *required = json_object_get(schema, "required");
    const char *key;
    json_t *v;
    json_object_foreach(json_object_get(schema, "properties"), key, v) {
        bool is_required = false;
        for (size_t i = 0; i < json_array_size(required) && !is_required; i++)
            is_required = str_is(json_str(json_array_get(required, i)), key);
        put_property(out, key, v, is_required, indent, depth);
    }
    put_spaces(out, indent);
    buf_append_char(out, '}');
}

static void put_type(buf *out, const json_t *schema, int indent, int depth) {
    const json_t *one_of = json_object_get(schema, "oneOf");
    const json_t *type = json_object_get(schema, "type");
    str name = json_str(type);
    if (depth >= MAX_TYPE_DEPTH) {
        buf_append_cstr(out, "any");
    } else if (json_is_array(one_of)) {
        for (size_t i = 0; i < json_array_size(one_of); i++) {
            const json_t *variant = json_array_get(one_of, i);
            buf_append_char(out, '\n');
            put_spaces(out, indent);
            buf_append_cstr(out, " | ");
            put_nullable_type(out, variant, indent + 3, depth + 1);
            /* Here, unlike at a property, the reference quotes an enum's default too. */
            put_variant_comment(out, variant, get_str(variant, "description"), false);
        }
    } else if (json_is_array(type) && json_array_size(type) > 0) {
        bool first = true;
        for (size_t i = 0; i < json_array_size(type); i++) {
            str one = json_str(json_array_get(type, i));
            if (!one.ptr) continue;
            if (!first) buf_append_cstr(out, " | ");
            first = false;
            buf_append_str(out, str_is(one, "integer") ? STR("number") : one);
        }
        if (first) buf_append_cstr(out, "any");
    } else if (str_is(name, "object")) {
        put_object(out, schema, indent, depth + 1);
    } else if (str_is(name, "string")) {
        const json_t *values = json_object_get(schema, "enum");
        bool first = true;
        for (size_t i = 0; i < json_array_size(values); i++) {
            str one = json_str(json_array_get(values, i));
            if (!one.ptr) continue;
            buf_append_cstr(out, first ? "\"" : " | \"");
            first = false;
            buf_append_str(out, one);
            buf_append_char(out, '"');
        }
        if (first) buf_append_cstr(out, "string");
    } else if (str_is(name, "number") || str_is(name, "integer")) {
        buf_append_cstr(out, "number");
    } else if (str_is(name, "boolean")) {
        buf_append_cstr(out, "boolean");
    } else if (str_is(name, "array")) {
        const json_t *items = json_object_get(schema, "items");
        if (items) put_type(out, items, indent, depth + 1);
        buf_append_cstr(out, items ? "[]" : "Array<any>");
    } else {
        buf_append_cstr(out, "any");
    }
}

void harmony_put_type(buf *out, const json_t *schema) {
    put_type(out, schema, 0, 0);
}

/* ── Tools ── */

static str next_line(str *rest) {
    const char *nl = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    str line = str_make(rest->ptr, nl ? (size_t)(nl - rest->ptr) : rest->len);
    size_t used = line.len + (nl ? 1 : 0);
    *rest = str_make(rest->ptr + used, rest->len - used);
    if (nl && line.len && line.ptr[line.len - 1] == '\r') line.len--;
    return line;
}

static void put_namespace(buf *out, const harmony_namespace *n) {
    bool has_types = n->n_tools || n->types.len;
    buf_append_cstr(out, "## ");
    buf_append_str(out, n->name);
    buf_append_cstr(out, "\n");
    for (str rest = n->description; rest.len;) {
        str line = next_line(&rest);
        buf_append_cstr(out, has_types ? "\n// " : "\n");
        buf_append_str(out, line);
    }
    if (!has_types) return;
    buf_append_cstr(out, "\nnamespace ");
    buf_append_str(out, n->name);
    buf_append_cstr(out, " {\n");
    buf_append_str(out, n->types);
    for (size_t i = 0; i < n->n_tools; i++) {
        const chat_tool *t = &n->tools[i];
        for (str rest = t->description; rest.len;) {
            str line = next_line(&rest);
            buf_append_cstr(out, "\n// ");
            buf_append_str(out, line);
        }
        if (t->is_custom && t->format != CHAT_FORMAT_TEXT) {
            buf_append_cstr(out, t->format == CHAT_FORMAT_REGEX
                                     ? "\n// Its text matches this regular expression:"
                                     : "\n// Its text follows this grammar:");
            for (str rest = t->definition; rest.len;) {
                str line = next_line(&rest);
                buf_append_cstr(out, "\n// ");
                buf_append_str(out, line);
            }
        }
        buf_append_cstr(out, "\ntype ");
        buf_append_str(out, t->name);
        if (t->is_custom) {
            buf_append_cstr(out, " = (_: string) => any;\n");
        } else if (t->parameters) {
            buf_append_cstr(out, " = (_: ");
            harmony_put_type(out, t->parameters);
            buf_append_cstr(out, ") => any;\n");
        } else {
            buf_append_cstr(out, " = () => any;\n");
        }
    }
    buf_append_cstr(out, "\n} // namespace ");
    buf_append_str(out, n->name);
}

static void put_tools(buf *out, const harmony_namespace *const *tools, size_t n) {
    buf_append_cstr(out, "# Tools");
    for (size_t i = 0; i < n; i++) {
        buf_append_cstr(out, "\n\n");
        put_namespace(out, tools[i]);
    }
}

/* What gpt-oss was trained to see; the words are part of the format. */
#define LITERAL(text) \
    { text, sizeof(text) - 1 }
static const harmony_namespace BUILTINS[] = {
    {
        .name = LITERAL("browser"),
        .description = LITERAL(
            "Tool for browsing.\n"
            "The `cursor` appears in brackets before each browsing display: `[{cursor}]`.\n"
            "Cite information from the tool using the following format:\n"
            "`【{cursor}†L{line_start}(-L{line_end})?】`, for example: `【6†L9-L11】` or `【8†L3】`.\n"
            "Do not quote more than 10 words directly from the tool output.\n"
            "sources=web (default: web)"),
        .types = LITERAL(
            "\n"
            "// Searches for information related to `query` and displays `topn` results.\n"
            "type search = (_: {\n"
            "query: string,\n"
            "topn?: number, // default: 10\n"
            "source?: string,\n"
            "}) => any;\n"
            "\n"
            "// Opens the link `id` from the page indicated by `cursor` starting at line number `loc`, showing `num_lines` lines.\n"
            "// Valid link ids are displayed with the formatting: `【{id}†.*】`.\n"
            "// If `cursor` is not provided, the most recent page is implied.\n"
            "// If `id` is a string, it is treated as a fully qualified URL associated with `source`.\n"
            "// If `loc` is not provided, the viewport will be positioned at the beginning of the document or centered on the most relevant passage, if available.\n"
            "// Use this function without `id` to scroll to a new location of an opened page.\n"
            "type open = (_: {\n"
            "id?: number | string, // default: -1\n"
            "cursor?: number, // default: -1\n"
            "loc?: number, // default: -1\n"
            "num_lines?: number, // default: -1\n"
            "view_source?: boolean, // default: false\n"
            "source?: string,\n"
            "}) => any;\n"
            "\n"
            "// Finds exact matches of `pattern` in the current page, or the page given by `cursor`.\n"
            "type find = (_: {\n"
            "pattern: string,\n"
            "cursor?: number, // default: -1\n"
            "}) => any;\n"),
    },
    {
        .name = LITERAL("python"),
        .description = LITERAL(
            "Use this tool to execute Python code in your chain of thought. The code will not be shown to the user. This tool should be used for internal reasoning, but not for code that is intended to be visible to the user (e.g. when creating plots, tables, or files).\n"
            "\n"
            "When you send a message containing Python code to python, it will be executed in a stateful Jupyter notebook environment. python will respond with the output of the execution or time out after 120.0 seconds. The drive at '/mnt/data' can be used to save and persist user files. Internet access for this session is UNKNOWN. Depends on the cluster."),
    },
};
#undef LITERAL

const harmony_namespace *harmony_find_builtin(str name) {
    for (size_t i = 0; i < sizeof BUILTINS / sizeof *BUILTINS; i++)
        if (str_eq(BUILTINS[i].name, name)) return &BUILTINS[i];
    return NULL;
}

/* ── Messages ── */

static const str ROLE_NAMES[] = {
    [CHAT_SYSTEM] = {"system", 6}, [CHAT_DEVELOPER] = {"developer", 9},
    [CHAT_USER] = {"user", 4},     [CHAT_ASSISTANT] = {"assistant", 9},
    [CHAT_TOOL] = {"tool", 4},
};

/* Sections are separated by an empty line. */
static void next_section(buf *b) {
    if (b->len) buf_append_cstr(b, "\n\n");
}

static void put_line(buf *b, const char *label, str value) {
    if (!value.len) return;
    if (b->len) buf_append_char(b, '\n');
    buf_append_cstr(b, label);
    buf_append_str(b, value);
}

static void put_system(buf *b, const harmony_system *s, bool has_functions) {
    put_line(b, "", s->model_identity);
    put_line(b, "Knowledge cutoff: ", s->knowledge_cutoff);
    put_line(b, "Current date: ", s->start_date);
    if (s->reasoning_effort.len) {
        next_section(b);
        buf_append_cstr(b, "Reasoning: ");
        for (size_t i = 0; i < s->reasoning_effort.len; i++) {
            char c = s->reasoning_effort.ptr[i];
            buf_append_char(b, c >= 'A' && c <= 'Z' ? (char)(c + 32) : c);
        }
    }
    if (s->n_tools) {
        next_section(b);
        put_tools(b, s->tools, s->n_tools);
    }
    if (s->n_channels) {
        next_section(b);
        buf_append_cstr(b, "# Valid channels: ");
        for (size_t i = 0; i < s->n_channels; i++) {
            if (i) buf_append_cstr(b, ", ");
            buf_append_str(b, s->channels[i]);
        }
        buf_append_char(b, '.');
        if (s->channel_required) buf_append_cstr(b, " Channel must be included for every message.");
        if (has_functions)
            buf_append_cstr(
                b, "\nCalls to these tools must go to the commentary channel: 'functions'.");
    }
}

static void put_developer(buf *b, const harmony_developer *d) {
    if (d->has_instructions) {
        buf_append_cstr(b, "# Instructions\n\n");
        buf_append_str(b, d->instructions);
    }
    if (d->n_tools) {
        next_section(b);
        put_tools(b, d->tools, d->n_tools);
    }
}

static void put_joined(writer *w, buf *scratch, const char *before, str s) {
    buf_clear(scratch);
    buf_append_cstr(scratch, before);
    buf_append_str(scratch, s);
    if (scratch->failed) w->failed = true;
    put_text(w, buf_str(scratch));
}

static void put_message(writer *w, buf *scratch, const harmony_message *m, bool has_functions,
                        int32_t end) {
    static const str CONSTRAIN = {"<|constrain|>", 13};
    put_mark(w, w->h->start);
    if (m->role == CHAT_TOOL) {
        if (!m->name.len)
            w->failed =
                !error_set(w->err, ERR_TEMPLATE, NULL, "A tool's message needs the tool's name.");
        put_text(w, m->name);
    } else {
        put_text(w, ROLE_NAMES[m->role]);
        if (m->name.len) put_joined(w, scratch, ":", m->name);
    }
    if (m->recipient.len && !str_is(m->recipient, "all"))
        put_joined(w, scratch, " to=", m->recipient);
    if (m->channel.len) {
        put_mark(w, w->h->channel);
        put_text(w, m->channel);
    }
    if (m->content_type.len) {
        if (w->h->constrain >= 0 && str_starts(m->content_type, CONSTRAIN)) {
            put_text(w, STR(" "));
            put_mark(w, w->h->constrain);
            put_text(w, str_make(m->content_type.ptr + CONSTRAIN.len,
                                 m->content_type.len - CONSTRAIN.len));
        } else {
            put_joined(w, scratch, " ", m->content_type);
        }
    }
    put_mark(w, w->h->message);
    buf_clear(scratch);
    if (m->system) put_system(scratch, m->system, has_functions);
    if (m->developer) put_developer(scratch, m->developer);
    if (scratch->failed) w->failed = true;
    put_text(w, m->system || m->developer ? buf_str(scratch) : m->text);
    put_mark(w, end);
}

static bool is_functions(const harmony_message *m) {
    for (size_t i = 0; m->developer && i < m->developer->n_tools; i++) {
        const harmony_namespace *n = m->developer->tools[i];
        if (str_is(n->name, "functions") && (n->n_tools || n->types.len)) return true;
    }
    return false;
}

bool harmony_render(const harmony *h, const harmony_message *messages, size_t n,
                    harmony_render_opts opts, tok_ids *ids, buf *text, error *err) {
    writer w = {.h = h, .ids = ids, .text = text, .err = err};
    buf scratch = {0};
    bool has_functions = false, drop = false;
    size_t first_final = n;
    for (size_t i = n; i-- > 0;) {
        has_functions |= is_functions(&messages[i]);
        if (str_is(messages[i].channel, "final")) first_final = i;
    }
    for (size_t i = n; i-- > 0;)
        if (messages[i].role == CHAT_ASSISTANT) {
            drop = opts.drop_analysis && str_is(messages[i].channel, "final");
            break;
        }
    for (size_t i = 0; i < n; i++) {
        const harmony_message *m = &messages[i];
        bool is_assistant = m->role == CHAT_ASSISTANT;
        int32_t end = h->end;
        if (drop && i < first_final && str_is(m->channel, "analysis")) continue;
        if (is_assistant && m->recipient.len && h->call >= 0)
            end = h->call;
        else if (opts.end_of_training && i + 1 == n && is_assistant &&
                 str_is(m->channel, "final") && h->ret >= 0)
            end = h->ret;
        put_message(&w, &scratch, m, has_functions, end);
    }
    if (opts.open_assistant) {
        put_mark(&w, h->start);
        put_text(&w, ROLE_NAMES[CHAT_ASSISTANT]);
    }
    buf_deinit(&scratch);
    if (w.failed || (ids && ids->failed) || (text && text->failed))
        return error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for the prompt.");
    return true;
}
