#include "chat/constrain.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "chat/answer.h"
#include "chat/close_schema.h"
#include "chat/formats/tagged.h"
#include "sample/grammar_quote.h"

enum {
    MAX_PARTS = 24, /* of one mark: special tokens and text between them */
    MAX_SPECIAL_BYTES = 48,
    MAX_CALLS = 32,   /* in one answer */
    MAX_ANALYSES = 8, /* harmony: messages of reasoning before a call or form that has to come */
};

typedef struct maker {
    const chat *c;
    const chat_input *in;
    const parser_family *f; /* NULL for harmony */
    grammar_builder *b;
    buf *ignored;
    error err; /* ours; the builder keeps its own */
} maker;

/* ── Pieces ── */

static grammar_node bytes(maker *m, const char *text) {
    return grammar_bytes(m->b, str_from(text));
}

static grammar_node seq2(maker *m, grammar_node x, grammar_node y) {
    return grammar_seq(m->b, (grammar_node[]){x, y}, 2);
}

static grammar_node token_or_empty(maker *m, int32_t id) {
    return id < 0 ? bytes(m, "") : grammar_token(m->b, id);
}

/* The special token whose text begins at `at`; −1. */
static int32_t find_special(const maker *m, str text, size_t at, size_t *len) {
    if (text.ptr[at] != '<' && text.ptr[at] != '[') return -1;
    size_t most = text.len - at < MAX_SPECIAL_BYTES ? text.len - at : MAX_SPECIAL_BYTES;
    for (*len = most; *len > 1; --*len) {
        char last = text.ptr[at + *len - 1];
        if (last != '>' && last != ']') continue;
        int32_t id = tok_find_special(m->c->t, str_make(text.ptr + at, *len));
        if (id >= 0) return id;
    }
    return -1;
}

/* A mark as this vocabulary writes it: special tokens where it has them, text between. */
static grammar_node mark(maker *m, str text) {
    grammar_node parts[MAX_PARTS];
    size_t n = 0, from = 0, i = 0, len = 0;
    while (i < text.len && n + 2 < MAX_PARTS) {
        int32_t id = find_special(m, text, i, &len);
        if (id < 0) {
            i++;
            continue;
        }
        if (i > from) parts[n++] = grammar_bytes(m->b, str_make(text.ptr + from, i - from));
        parts[n++] = grammar_token(m->b, id);
        from = i += len;
    }
    if (from < text.len || !n)
        parts[n++] = grammar_bytes(m->b, str_make(text.ptr + from, text.len - from));
    return grammar_seq(m->b, parts, n);
}

/* Text in which none of these occurs, not even letter by letter where it is a special token. */
static grammar_node text_without(maker *m, const char *const *marks, size_t n) {
    str found[FAMILY_MAX_OPEN + 2];
    size_t k = 0;
    for (size_t i = 0; i < n && k < sizeof found / sizeof *found; i++)
        if (marks[i] && *marks[i]) found[k++] = str_from(marks[i]);
    return grammar_text(m->b, found, k);
}

static grammar_node spaces(maker *m) {
    uint64_t set[4] = {1ull << ' ' | 1ull << '\n', 0, 0, 0};
    return grammar_repeat(m->b, grammar_set(m->b, set), 0, 2);
}

/* ── Arguments ── */

typedef struct tool_place {
    const chat_tool *tool;
    char param[80]; /* where its schema stands in the request */
} tool_place;

static tool_place place_of(const maker *m, size_t i) {
    tool_place p = {.tool = &m->in->tools[i]};
    const char *member = m->in->are_functions    ? "parameters"
                         : p.tool->is_custom     ? "custom.format"
                         : p.tool->schema_member ? p.tool->schema_member
                                                 : "function.parameters";
    snprintf(p.param, sizeof p.param, "%s[%zu].%s", m->in->are_functions ? "functions" : "tools", i,
             member);
    return p;
}

static grammar_schema_options schema_options(maker *m, const tool_place *p, bool must_be_object) {
    return (grammar_schema_options){.param = p->param,
                                    .code = ERR_INVALID_FUNCTION_PARAMETERS,
                                    .lenient = !p->tool->strict,
                                    .ignored = m->ignored,
                                    .must_be_object = must_be_object};
}

static grammar_node json_arguments(maker *m, const tool_place *p) {
    grammar_schema_options o = schema_options(m, p, true);
    json_t *schema = p->tool->parameters ? close_schema(p->tool->parameters)
                                         : json_pack("{s:s, s:{}, s:b}", "type", "object",
                                                     "properties", "additionalProperties", 0);
    grammar_node node = grammar_schema(m->b, schema, &o);
    json_decref(schema);
    return node;
}

/* The free text of a custom tool, as its format says. */
static grammar_node custom_text(maker *m, const tool_place *p, const char *end) {
    switch (p->tool->format) {
    case CHAT_FORMAT_REGEX: return grammar_regex(m->b, p->tool->definition, p->param);
    case CHAT_FORMAT_LARK: return grammar_lark(m->b, p->tool->definition, p->param);
    default: return text_without(m, &end, 1);
    }
}

/* … as a string in JSON's quotes. A Lark grammar describes the text, not its spelling: what has to be
 * escaped is, in one way. */
static grammar_node custom_string(maker *m, const tool_place *p) {
    if (p->tool->format == CHAT_FORMAT_LARK) {
        grammar_node text = grammar_lark(m->b, p->tool->definition, p->param);
        grammar_node nodes[] = {bytes(m, "\""), grammar_quote(m->b, text, p->param),
                                bytes(m, "\"")};
        return grammar_seq(m->b, nodes, 3);
    }
    grammar_schema_options o = schema_options(m, p, false);
    json_t *schema = json_pack("{s:s}", "type", "string");
    if (p->tool->format == CHAT_FORMAT_REGEX) {
        buf pattern = {0};
        buf_printf(&pattern, "^(?:%.*s)$", STR_ARG(p->tool->definition));
        json_object_set_new(schema, "pattern", json_stringn(pattern.ptr, pattern.len));
        buf_deinit(&pattern);
    }
    grammar_node node = grammar_schema(m->b, schema, &o);
    json_decref(schema);
    return node;
}

static grammar_node custom_object(maker *m, const tool_place *p) {
    grammar_node nodes[] = {bytes(m, "{\"input\": "), custom_string(m, p), bytes(m, "}")};
    return grammar_seq(m->b, nodes, 3);
}

/* A property's schema, with the definitions that its references need. */
static json_t *take_property(const json_t *parameters, json_t *property) {
    json_t *copy = json_is_object(property) ? json_copy(property) : json_object();
    static const char *const PLACES[] = {"$defs", "definitions"};
    for (int i = 0; i < 2; i++) {
        json_t *defs = json_object_get(parameters, PLACES[i]);
        if (defs && copy && !json_object_get(copy, PLACES[i]))
            json_object_set(copy, PLACES[i], defs);
    }
    return copy;
}

static grammar_node schema_value(maker *m, const tool_place *p, json_t *property) {
    grammar_schema_options o = schema_options(m, p, false);
    json_t *open = take_property(p->tool->parameters, property), *schema = NULL;
    if (open) schema = close_schema(open);
    json_decref(open);
    grammar_node node = schema ? grammar_schema(m->b, schema, &o) : bytes(m, "");
    json_decref(schema);
    return node;
}

/* A parameter whose value stands outside of JSON's quotes. */
typedef struct plain {
    const tool_place *p;
    const char *key, *end; /* the mark behind the value */
    bool only_text;        /* it was said to be text: a value that is none cannot be written */
} plain;

enum { MAX_FOLLOWED = 8 }; /* choices within choices */

static grammar_node plain_string(maker *m, const plain *q, const json_t *property, int depth);

/* Any of the values of an enumeration, or of the schemas of a choice; −1: there is none. */
static grammar_node plain_choice(maker *m, const plain *q, const json_t *list, bool are_values,
                                 int depth) {
    grammar_node all = -1;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        char *dumped =
            are_values && !json_is_string(item) ? json_dumps(item, JSON_ENCODE_ANY) : NULL;
        if (dumped && q->only_text) {
            free(dumped);
            continue;
        }
        grammar_node one = are_values
                               ? grammar_bytes(m->b, dumped ? str_from(dumped) : json_str(item))
                               : plain_string(m, q, item, depth + 1);
        free(dumped);
        if (one >= 0) all = all < 0 ? one : grammar_alt(m->b, (grammar_node[]){all, one}, 2);
    }
    return all;
}

/* What this model cannot be held to, and is not to be passed over where it must be. */
static void check_known(maker *m, const plain *q, const json_t *property) {
    static const char *const KNOWN[] = {"type",    "description", "title",
                                        "default", "examples",    "$ref",
                                        "$defs",   "definitions", "deprecated"};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)property, name, value) {
        bool known = false;
        for (size_t i = 0; i < sizeof KNOWN / sizeof *KNOWN; i++)
            known = known || strcmp(name, KNOWN[i]) == 0;
        if (known) continue;
        if (q->p->tool->strict)
            error_set(&m->err, ERR_INVALID_FUNCTION_PARAMETERS, q->p->param,
                      "'%s' of the property '%s' cannot be enforced: this model writes text "
                      "arguments without quotes. Leave it out, or set 'strict' to false.",
                      name, q->key);
        else if (m->ignored)
            buf_printf(m->ignored, "%s%s.properties.%s.%s", m->ignored->len ? "," : "", q->p->param,
                       q->key, name);
    }
}

/* One of an enumeration, of a choice, or anything without the mark that ends it. */
static grammar_node plain_string(maker *m, const plain *q, const json_t *property, int depth) {
    const json_t *parameters = q->p->tool->parameters;
    property = call_follow(parameters, property);
    unsigned types = call_types_of(parameters, property);
    if (types && !(types & CALL_TYPE_STRING))
        return q->only_text ? -1 : schema_value(m, q->p, (json_t *)(uintptr_t)property);
    const json_t *one = json_object_get(property, "const"),
                 *only = json_object_get(property, "enum"),
                 *choice = json_object_get(property, "anyOf");
    if (!choice) choice = json_object_get(property, "oneOf");
    if (json_is_string(one)) return grammar_bytes(m->b, json_str(one));
    if (json_array_size(only)) return plain_choice(m, q, only, true, depth);
    if (json_array_size(choice) && depth < MAX_FOLLOWED)
        return plain_choice(m, q, choice, false, depth);
    check_known(m, q, property);
    return text_without(m, &q->end, 1);
}

static bool is_required(const json_t *parameters, const char *key) {
    const json_t *list = json_object_get(parameters, "required");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (str_is(json_str(json_array_get(list, i)), key)) return true;
    return false;
}

static const char *type_word(unsigned types) {
    return types & CALL_TYPE_NUMBER   ? "number"
           : types & CALL_TYPE_BOOL   ? "boolean"
           : types & CALL_TYPE_OBJECT ? "object"
           : types & CALL_TYPE_ARRAY  ? "array"
           : types & CALL_TYPE_NULL   ? "null"
                                      : "string";
}

/* One tagged parameter, as call_xml.c reads it. */
static grammar_node xml_parameter(maker *m, const tool_place *p, const char *key, json_t *property,
                                  bool is_custom) {
    const family_xml *x = &m->f->xml;
    unsigned types =
        is_custom ? CALL_TYPE_STRING : call_find_type(p->tool->parameters, str_from(key));
    bool is_text = types & CALL_TYPE_STRING, trims = m->f->flags & FAMILY_TRIMS_LINES;
    bool lines = strchr(m->f->writing.before_args, '\n') != NULL;
    buf head = {0};
    buf_printf(&head, "%s%s%s", x->param, key, str_ends(str_from(x->param), STR("\"")) ? "\"" : "");
    if (x->is_json && strcmp(x->is_json, "type=\"") == 0)
        buf_printf(&head, " type=\"%s\"", is_text ? "string" : type_word(types));
    else if (x->is_json)
        buf_printf(&head, " %s", is_text ? x->is_string : x->is_json);
    buf_append_cstr(&head, x->key_end);
    if (*x->value) buf_printf(&head, "%s%s", lines ? "\n" : "", x->value);
    if (trims) buf_append_char(&head, '\n');
    buf tail = {0};
    buf_printf(&tail, "%s%s%s", trims ? "\n" : "", x->value_end, lines ? "\n" : "");
    plain text = {p, key, x->value_end, .only_text = x->is_json != NULL};
    grammar_node value = is_custom ? custom_text(m, p, x->value_end)
                         : is_text ? plain_string(m, &text, property, 0)
                                   : schema_value(m, p, property);
    grammar_node node = grammar_seq(
        m->b, (grammar_node[]){mark(m, buf_str(&head)), value, mark(m, buf_str(&tail))}, 3);
    buf_deinit(&head);
    buf_deinit(&tail);
    return node;
}

static grammar_node literal_parameter(maker *m, const tool_place *p, const char *key,
                                      json_t *property) {
    bool is_python = m->f->style == CALLS_PYTHON;
    grammar_node name = seq2(m, bytes(m, key), bytes(m, is_python ? "=" : ":"));
    if (is_python || call_find_type(p->tool->parameters, str_from(key)) != CALL_TYPE_STRING)
        return seq2(m, name, schema_value(m, p, property));
    grammar_node quote = mark(m, STR("<|\"|>"));
    plain text = {p, key, "<|\"|>", .only_text = true};
    return grammar_seq(
        m->b, (grammar_node[]){name, quote, plain_string(m, &text, property, 0), quote}, 4);
}

/* input="…" with JSON's escapes, which are Python's too, or input:<|"|>…<|"|> with the text as it is. */
static grammar_node literal_custom(maker *m, const tool_place *p) {
    if (m->f->style == CALLS_PYTHON) return seq2(m, bytes(m, "input="), custom_string(m, p));
    grammar_node quote = mark(m, STR("<|\"|>"));
    grammar_node nodes[] = {bytes(m, "input:"), quote, custom_text(m, p, "<|\"|>"), quote};
    return grammar_seq(m->b, nodes, 4);
}

/* Parameters in the schema's order, those not required may be missing. */
static grammar_node parameters(maker *m, const tool_place *p, const char *between) {
    json_t *properties = json_object_get(p->tool->parameters, "properties"), *property;
    const char *key;
    size_t n = json_object_size(properties), i = 0;
    const char **keys = calloc(n ? n : 1, sizeof *keys);
    if (!keys) {
        error_set(&m->err, ERR_NO_MEMORY, NULL, "There is no memory for the grammar.");
        return -1;
    }
    json_object_foreach(properties, key, property) keys[i++] = key;
    /* From the last to the first: what may follow where something or nothing was written yet. */
    grammar_node some = bytes(m, ""), none = some;
    while (i-- > 0) {
        property = json_object_get(properties, keys[i]);
        grammar_node one = m->f->style == CALLS_XML ? xml_parameter(m, p, keys[i], property, false)
                                                    : literal_parameter(m, p, keys[i], property);
        grammar_node after = grammar_seq(m->b, (grammar_node[]){bytes(m, between), one, some}, 3);
        grammar_node first = seq2(m, one, some);
        bool required = is_required(p->tool->parameters, keys[i]);
        none = required ? first : grammar_alt(m->b, (grammar_node[]){first, none}, 2);
        some = required ? after : grammar_alt(m->b, (grammar_node[]){after, some}, 2);
    }
    free(keys);
    return none;
}

static grammar_node arguments(maker *m, const tool_place *p) {
    bool is_custom = p->tool->is_custom;
    switch (m->f->style) {
    case CALLS_XML:
        return is_custom ? xml_parameter(m, p, "input", NULL, true) : parameters(m, p, "");
    case CALLS_PYTHON:
    case CALLS_LITERAL: {
        bool is_python = m->f->style == CALLS_PYTHON;
        grammar_node list =
            is_custom ? literal_custom(m, p) : parameters(m, p, is_python ? ", " : ",");
        if (is_python) return list;
        return grammar_seq(m->b, (grammar_node[]){bytes(m, "{"), list, bytes(m, "}")}, 3);
    }
    default: return is_custom ? custom_object(m, p) : json_arguments(m, p);
    }
}

/* ── Answers ── */

static grammar_node answer(maker *m, const char *const *without, size_t n) {
    const chat_answer *a = m->in->answer;
    if (!a) return text_without(m, without, n);
    switch (a->kind) {
    case CHAT_ANSWER_JSON: return grammar_json_object(m->b);
    case CHAT_ANSWER_SCHEMA: {
        grammar_schema_options o = {.param = a->param, .code = ERR_INVALID_VALUE};
        json_t *closed = close_schema(a->schema);
        grammar_node node = grammar_schema(m->b, closed, &o);
        json_decref(closed);
        return node;
    }
    case CHAT_ANSWER_REGEX: return grammar_regex(m->b, a->source, a->param);
    case CHAT_ANSWER_LARK: return grammar_lark(m->b, a->source, a->param);
    case CHAT_ANSWER_GBNF: return grammar_gbnf(m->b, a->source, a->param);
    default: return text_without(m, without, n);
    }
}

static bool may_call(const maker *m) {
    if (m->in->tool_choice == CHAT_TOOLS_NONE) return false;
    for (size_t i = 0; i < m->in->n_tools; i++)
        if (!m->in->tools[i].is_barred) return true;
    return false;
}

/* One of the calls that may be made. */
static grammar_node any_call(maker *m, grammar_node (*one)(maker *m, const tool_place *p)) {
    grammar_node all = -1;
    for (size_t i = 0; i < m->in->n_tools; i++) {
        if (m->in->tools[i].is_barred) continue;
        tool_place p = place_of(m, i);
        grammar_node node = one(m, &p);
        all = all < 0 ? node : grammar_alt(m->b, (grammar_node[]){all, node}, 2);
    }
    return all;
}

/* ── harmony ──
 * <|channel|>analysis<|message|>…<|end|><|start|>assistant, as often as it likes, then
 * <|channel|>commentary to=functions.get <|constrain|>json<|message|>{…}<|call|>, or the final answer. */

static grammar_node harmony_words(maker *m, const char *channel) {
    const harmony *h = &m->c->harmony;
    return grammar_seq(m->b,
                       (grammar_node[]){grammar_token(m->b, h->channel), bytes(m, channel),
                                        grammar_token(m->b, h->message),
                                        grammar_text(m->b, NULL, 0), grammar_token(m->b, h->end),
                                        grammar_token(m->b, h->start), bytes(m, "assistant")},
                       7);
}

static grammar_node harmony_call(maker *m, const tool_place *p) {
    const harmony *h = &m->c->harmony;
    bool is_custom = p->tool->is_custom;
    buf to = {0};
    buf_printf(&to, "commentary to=functions.%.*s ", STR_ARG(p->tool->name));
    if (is_custom) to.len--;
    grammar_node type =
        is_custom ? bytes(m, "") : seq2(m, token_or_empty(m, h->constrain), bytes(m, "json"));
    grammar_node nodes[] = {
        grammar_token(m->b, h->channel),
        grammar_bytes(m->b, buf_str(&to)),
        type,
        grammar_token(m->b, h->message),
        is_custom ? custom_text(m, p, "") : json_arguments(m, p),
        token_or_empty(m, h->call),
    };
    buf_deinit(&to);
    return grammar_seq(m->b, nodes, sizeof nodes / sizeof *nodes);
}

/* "python" and "browser", which the prompt may offer beside the functions, take what they like. */
static grammar_node harmony_builtin(maker *m) {
    const harmony *h = &m->c->harmony;
    const json_t *wanted = json_object_get(m->in->template_args, "builtin_tools");
    grammar_node all = -1;
    for (size_t i = 0; i < json_array_size(wanted); i++) {
        str name = json_str(json_array_get(wanted, i));
        if (!harmony_find_builtin(name)) continue;
        uint64_t letters[4] = {0, 0x07fffffe00000000ull, 0, 0}; /* a–z */
        grammar_node part = grammar_repeat(m->b, grammar_set(m->b, letters), 1, 20);
        grammar_node method = grammar_optional(m->b, seq2(m, bytes(m, "."), part));
        grammar_node type = grammar_optional(
            m->b, grammar_seq(m->b,
                              (grammar_node[]){
                                  bytes(m, " "),
                                  grammar_optional(m->b, token_or_empty(m, h->constrain)), part},
                              3));
        grammar_node channels[] = {bytes(m, "analysis to="), bytes(m, "commentary to=")};
        grammar_node nodes[] = {grammar_token(m->b, h->channel),
                                grammar_alt(m->b, channels, 2),
                                grammar_bytes(m->b, name),
                                method,
                                type,
                                grammar_token(m->b, h->message),
                                grammar_text(m->b, NULL, 0),
                                token_or_empty(m, h->call)};
        grammar_node node = grammar_seq(m->b, nodes, sizeof nodes / sizeof *nodes);
        all = all < 0 ? node : grammar_alt(m->b, (grammar_node[]){all, node}, 2);
    }
    return all;
}

static grammar_node harmony_root(maker *m) {
    const harmony *h = &m->c->harmony;
    grammar_node analysis = harmony_words(m, "analysis"), ends[3];
    size_t n = 0;
    if (may_call(m)) ends[n++] = any_call(m, harmony_call);
    if (m->in->tool_choice == CHAT_TOOLS_REQUIRED)
        return seq2(m, grammar_repeat(m->b, analysis, 0, MAX_ANALYSES), ends[0]);
    grammar_node builtin = harmony_builtin(m);
    if (builtin >= 0) ends[n++] = builtin;
    bool is_json = m->in->answer && m->in->answer->kind <= CHAT_ANSWER_SCHEMA;
    grammar_node type = grammar_seq(
        m->b, (grammar_node[]){bytes(m, " "), token_or_empty(m, h->constrain), bytes(m, "json")},
        3);
    ends[n++] = grammar_seq(m->b,
                            (grammar_node[]){grammar_token(m->b, h->channel), bytes(m, "final"),
                                             is_json ? grammar_optional(m->b, type) : bytes(m, ""),
                                             grammar_token(m->b, h->message), answer(m, NULL, 0),
                                             token_or_empty(m, h->ret)},
                            6);
    grammar_node words = analysis;
    if (n > 1)
        words = grammar_alt(m->b, (grammar_node[]){analysis, harmony_words(m, "commentary")}, 2);
    bool must = m->in->answer && m->in->answer->kind != CHAT_ANSWER_TEXT;
    return seq2(m, grammar_repeat(m->b, words, 0, must ? MAX_ANALYSES : -1),
                grammar_alt(m->b, ends, n));
}

/* ── Text ── */

static grammar_node text_call(maker *m, const tool_place *p) {
    const family_writing *w = &m->f->writing;
    grammar_node nodes[] = {mark(m, str_from(w->before_name)), grammar_bytes(m->b, p->tool->name),
                            mark(m, str_from(w->before_args)), arguments(m, p),
                            mark(m, str_from(w->after_args))};
    return grammar_seq(m->b, nodes, 5);
}

/* All calls of an answer. `written`: the prompt already wrote the first one's beginning. */
static grammar_node text_calls(maker *m, str written) {
    const family_writing *w = &m->f->writing;
    grammar_node one = any_call(m, text_call), first = one;
    if (written.len && str_starts(str_from(w->before_name), written)) {
        /* the same row, its first mark shortened by what is there */
        parser_family rest = *m->f;
        const parser_family *whole = m->f;
        rest.writing.before_name += written.len;
        m->f = &rest;
        first = any_call(m, text_call);
        m->f = whole;
    }
    int32_t more = m->in->one_call || !w->between ? 0 : MAX_CALLS - 1;
    grammar_node next =
        more ? grammar_repeat(m->b, seq2(m, mark(m, str_from(w->between)), one), 0, more)
             : bytes(m, "");
    grammar_node nodes[] = {mark(m, str_from(w->before)), first, next, mark(m, str_from(w->after))};
    return grammar_seq(m->b, nodes, 4);
}

/* Reasoning, where the family reasons; `opened`: the prompt began it. */
static grammar_node thinking(maker *m, bool opened) {
    const parser_tags *t = &m->c->style.think;
    if (!t->close.len) return bytes(m, "");
    grammar_node inside = grammar_seq(
        m->b, (grammar_node[]){grammar_text(m->b, &t->close, 1), mark(m, t->close), spaces(m)}, 3);
    if (opened) return inside;
    return grammar_optional(m->b, seq2(m, mark(m, t->open), inside));
}

/* Words that are no bare call: they begin with another character than {. */
static grammar_node words_not_bare(maker *m, grammar_node text) {
    return seq2(m, grammar_regex(m->b, STR("[^{\\s]"), NULL), text);
}

/* How words go on where the prompt has begun to say what comes (Functionary's ">>>"). */
static grammar_node rest_of_mark(maker *m, str written) {
    for (size_t i = 0; written.len && i < sizeof m->f->drop / sizeof *m->f->drop; i++) {
        str all = m->f->drop[i] ? str_from(m->f->drop[i]) : (str){0};
        if (str_starts(all, written))
            return grammar_bytes(m->b, str_make(all.ptr + written.len, all.len - written.len));
    }
    return bytes(m, "");
}

static grammar_node text_root(maker *m, str prefix) {
    const parser_family *f = m->f;
    str open = m->c->style.think.open;
    bool begins = f->flags & FAMILY_BEGINS_THINKING;
    bool opened = begins || (open.len && str_starts(prefix, open));
    str written = opened ? (str){0} : prefix;
    bool calls = may_call(m);
    grammar_node lead = thinking(m, opened);
    if (calls && m->in->tool_choice == CHAT_TOOLS_REQUIRED)
        return seq2(m, lead, text_calls(m, written));
    if (!calls) return seq2(m, seq2(m, lead, rest_of_mark(m, written)), answer(m, NULL, 0));
    const char *marks[FAMILY_MAX_OPEN + 1] = {f->open[0], f->open[1], f->open[2]};
    grammar_node call = text_calls(m, written), ends[3];
    size_t n = 0;
    ends[n++] = call;
    if (m->in->answer && m->in->answer->kind != CHAT_ANSWER_TEXT) {
        ends[n++] = seq2(m, rest_of_mark(m, written), answer(m, NULL, 0));
    } else {
        grammar_node words = text_without(m, marks, FAMILY_MAX_OPEN);
        if (f->flags & FAMILY_BARE) words = words_not_bare(m, words);
        ends[n++] = seq2(m, words, grammar_optional(m->b, call));
        ends[n++] = bytes(m, "");
    }
    return seq2(m, lead, grammar_alt(m->b, ends, n));
}

/* ── The door ── */

static bool needs_constraint(const maker *m, str prefix) {
    bool has_answer = m->in->answer && m->in->answer->kind != CHAT_ANSWER_TEXT;
    if (!may_call(m)) return has_answer;
    if (m->in->tool_choice == CHAT_TOOLS_REQUIRED || has_answer) return true;
    /* A prompt that has begun a call lets the model name its answer there instead. */
    return !prefix.len || !m->f || str_starts(prefix, m->c->style.think.open);
}

static bool make(maker *m, str prefix, grammar **out, error *err) {
    m->b = grammar_builder_new();
    grammar_node root = m->f ? text_root(m, prefix) : harmony_root(m);
    if (error_is_set(&m->err))
        *err = m->err;
    else
        *out = grammar_build(m->b, root, err);
    grammar_builder_free(m->b);
    return *out != NULL;
}

/* ── The cache ── */

enum { CACHE_SIZE = 16, MAX_KEY = 1 << 20 };

struct constraint_cache {
    pthread_mutex_t lock;
    uint64_t clock;
    struct {
        buf key, ignored;
        grammar *g;
        uint64_t used;
    } items[CACHE_SIZE];
};

constraint_cache *constraint_cache_new(void) {
    constraint_cache *k = calloc(1, sizeof *k);
    if (k) pthread_mutex_init(&k->lock, NULL);
    return k;
}

void constraint_cache_free(constraint_cache *k) {
    if (!k) return;
    for (int i = 0; i < CACHE_SIZE; i++) {
        buf_deinit(&k->items[i].key);
        buf_deinit(&k->items[i].ignored);
        grammar_unref(k->items[i].g);
    }
    pthread_mutex_destroy(&k->lock);
    free(k);
}

static void put_answer(json_out *j, const chat_answer *a) {
    json_put_int(j, a->kind);
    json_put_value(j, a->schema);
    json_put_str(j, a->source);
}

/* Everything a constraint is made of, as text. */
static void put_key(buf *out, const chat_input *in, str prefix) {
    json_out j = json_begin(out);
    json_arr(&j);
    json_put_str(&j, prefix);
    json_put_int(&j, in->tool_choice * 4 + in->one_call * 2 + in->are_functions);
    json_put_value(&j, json_object_get(in->template_args, "builtin_tools"));
    if (in->answer) put_answer(&j, in->answer);
    for (size_t i = 0; i < in->n_tools; i++) {
        const chat_tool *t = &in->tools[i];
        json_put_str(&j, t->name);
        json_put_int(&j, t->format * 8 + t->strict * 4 + t->is_barred * 2 + t->is_custom);
        json_put_str(&j, t->definition);
        json_put_value(&j, t->parameters);
    }
    json_end_arr(&j);
}

static grammar *find(constraint_cache *k, const buf *key, buf *ignored) {
    grammar *g = NULL;
    pthread_mutex_lock(&k->lock);
    for (int i = 0; i < CACHE_SIZE && !g; i++) {
        if (!k->items[i].g || !str_eq(buf_str(&k->items[i].key), buf_str(key))) continue;
        g = grammar_ref(k->items[i].g);
        if (ignored) buf_append_str(ignored, buf_str(&k->items[i].ignored));
        k->items[i].used = ++k->clock;
    }
    pthread_mutex_unlock(&k->lock);
    return g;
}

/* Takes key. The one that was used longest ago makes room. */
static void keep(constraint_cache *k, buf *key, const grammar *g, str ignored) {
    buf copy = {0};
    buf_append_str(&copy, ignored);
    if (key->failed || copy.failed) {
        buf_deinit(&copy);
        return;
    }
    pthread_mutex_lock(&k->lock);
    int oldest = 0;
    for (int i = 1; i < CACHE_SIZE; i++)
        if (k->items[i].used < k->items[oldest].used) oldest = i;
    buf_deinit(&k->items[oldest].key);
    buf_deinit(&k->items[oldest].ignored);
    grammar_unref(k->items[oldest].g);
    k->items[oldest].key = *key;
    k->items[oldest].ignored = copy;
    k->items[oldest].g = grammar_ref(g);
    k->items[oldest].used = ++k->clock;
    pthread_mutex_unlock(&k->lock);
    *key = (buf){0};
}

bool chat_constrain(const chat *c, const chat_input *in, str prefix, grammar **out, buf *ignored,
                    error *err) {
    maker m = {.c = c, .in = in, .ignored = ignored, .f = c->is_harmony ? NULL : c->style.family};
    buf key = {.max = MAX_KEY};
    *out = NULL;
    if (!c->t || (!m.f && !c->is_harmony) || !needs_constraint(&m, prefix)) return true;
    if (c->constraints) put_key(&key, in, prefix);
    bool keeps = c->constraints && !key.failed;
    if (keeps) *out = find(c->constraints, &key, ignored);
    bool found = *out, ok = found || make(&m, prefix, out, err);
    if (ok && keeps && !found)
        keep(c->constraints, &key, *out, ignored ? buf_str(ignored) : (str){0});
    buf_deinit(&key);
    return ok;
}

bool chat_constrain_raw(const chat *c, const chat_answer *a, grammar **out, error *err) {
    buf key = {.max = MAX_KEY};
    json_out j = json_begin(&key);
    json_obj(&j); /* a chat's keys are arrays */
    json_key(&j, "answer");
    json_arr(&j);
    put_answer(&j, a);
    json_end_arr(&j);
    json_end_obj(&j);
    bool keeps = c->constraints && !key.failed;
    *out = keeps ? find(c->constraints, &key, NULL) : NULL;
    if (!*out && (*out = chat_answer_compile(a, err)) && keeps)
        keep(c->constraints, &key, *out, (str){0});
    buf_deinit(&key);
    return *out != NULL;
}

bool chat_must_come(const chat_input *in) {
    return in->tool_choice == CHAT_TOOLS_REQUIRED ||
           (in->answer && in->answer->kind != CHAT_ANSWER_TEXT);
}

int32_t chat_find_think_end(const chat *c) {
    if (c->is_harmony) return c->harmony.end;
    str close = c->style.family ? c->style.think.close : (str){0};
    return close.len && c->t ? tok_find_special(c->t, close) : -1;
}
