/* What the readers of calls share: where calls go, where a JSON value ends, and
 * which types a tool's parameter may have. See tagged.h.
 */
#include "chat/formats/tagged.h"

/* ── Calls out ── */

const chat_tool *call_find_tool(const call_sink *s, str name) {
    for (size_t i = 0; i < s->n_tools; i++)
        if (str_eq(s->tools[i].name, name)) return &s->tools[i];
    return NULL;
}

bool call_begin(call_sink *s, str name, str id) {
    if (!name.len || name.len > CALL_MAX_NAME) return false;
    if (!call_find_tool(s, name)) {
        if (s->family->flags & FAMILY_KNOWN_ONLY) return false;
        parser_note(s->p, "The model called a tool it was not offered.");
    }
    parser_begin_call(s->p, name, id);
    s->n++;
    return s->open = true;
}

void call_put(call_sink *s, str args) {
    parser_put(s->p, PARSER_CALL_ARGS, args);
}

void call_end(call_sink *s, str id) {
    if (s->open) parser_end_call(s->p, id);
    s->open = false;
}

/* ── Where a JSON value ends ── */

static bool is_scalar_byte(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '+' || c == '.' || c == '_';
}

walk_step json_walk_byte(json_walk *w, char c) {
    if (w->in_string) {
        if (w->escaped)
            w->escaped = false;
        else if (c == '\\')
            w->escaped = true;
        else if (c == '"')
            w->in_string = false;
        return w->in_string || w->depth ? WALK_IN : WALK_LAST;
    }
    if (w->is_scalar) return is_scalar_byte(c) ? WALK_IN : WALK_BEHIND;
    w->begun = true;
    if (c == '"') {
        w->in_string = true;
    } else if (c == '{' || c == '[') {
        w->depth++;
    } else if (c == '}' || c == ']') {
        if (w->depth == 0) return WALK_BAD;
        return --w->depth ? WALK_IN : WALK_LAST;
    } else if (w->depth == 0) {
        if (!is_scalar_byte(c)) return WALK_BAD;
        w->is_scalar = true;
    }
    return WALK_IN;
}

/* ── Types ── */

static unsigned type_named(str name) {
    static const struct {
        const char *name;
        unsigned bit;
    } TYPES[] = {
        {"string", CALL_TYPE_STRING}, {"number", CALL_TYPE_NUMBER}, {"integer", CALL_TYPE_NUMBER},
        {"boolean", CALL_TYPE_BOOL},  {"null", CALL_TYPE_NULL},     {"object", CALL_TYPE_OBJECT},
        {"array", CALL_TYPE_ARRAY},
    };
    for (size_t i = 0; i < sizeof TYPES / sizeof *TYPES; i++)
        if (str_is(name, TYPES[i].name)) return TYPES[i].bit;
    return 0;
}

static unsigned type_of(const json_t *v) {
    switch (json_typeof(v)) {
    case JSON_STRING: return CALL_TYPE_STRING;
    case JSON_INTEGER:
    case JSON_REAL: return CALL_TYPE_NUMBER;
    case JSON_TRUE:
    case JSON_FALSE: return CALL_TYPE_BOOL;
    case JSON_NULL: return CALL_TYPE_NULL;
    case JSON_OBJECT: return CALL_TYPE_OBJECT;
    default: return CALL_TYPE_ARRAY;
    }
}

const json_t *call_follow(const json_t *root, const json_t *schema) {
    str ref = json_str(json_object_get(schema, "$ref"));
    static const struct {
        str prefix;
        const char *place;
    } PLACES[] = {{{"#/$defs/", 8}, "$defs"}, {{"#/definitions/", 14}, "definitions"}};
    for (int i = 0; i < 2; i++)
        if (str_starts(ref, PLACES[i].prefix))
            return json_object_get(json_object_get(root, PLACES[i].place),
                                   ref.ptr + PLACES[i].prefix.len);
    return schema;
}

static unsigned types_of(const json_t *root, const json_t *schema, int depth) {
    if (depth > 8) return 0;
    schema = call_follow(root, schema);
    const json_t *type = json_object_get(schema, "type");
    unsigned bits = type_named(json_str(type));
    for (size_t i = 0; i < json_array_size(type); i++)
        bits |= type_named(json_str(json_array_get(type, i)));
    if (bits) return bits;
    const json_t *only = json_object_get(schema, "const");
    if (only) return type_of(only);
    static const char *const LISTS[] = {"enum", "anyOf", "oneOf"};
    for (int k = 0; k < 3; k++) {
        const json_t *list = json_object_get(schema, LISTS[k]);
        for (size_t i = 0; i < json_array_size(list); i++) {
            const json_t *item = json_array_get(list, i);
            unsigned more = k ? types_of(root, item, depth + 1) : type_of(item);
            if (!more) return 0; /* one that may be anything */
            bits |= more;
        }
    }
    return bits;
}

unsigned call_types_of(const json_t *parameters, const json_t *schema) {
    return types_of(parameters, schema, 0);
}

unsigned call_find_type(const json_t *parameters, str property) {
    const json_t *properties = json_object_get(parameters, "properties");
    const json_t *schema = json_object_getn(properties, property.ptr, property.len);
    return schema ? call_types_of(parameters, schema) : 0;
}

/* ── Readers ── */

void call_reader_init(call_reader *r, const parser_family *f, call_style style, call_sink sink) {
    *r = (call_reader){.family = f, .style = style, .sink = sink};
}

void call_reader_deinit(call_reader *r) {
    switch (r->style) {
    case CALLS_JSON:
        buf_deinit(&r->json.key);
        buf_deinit(&r->json.value);
        buf_deinit(&r->json.name);
        buf_deinit(&r->json.id);
        buf_deinit(&r->json.early);
        break;
    case CALLS_NAMED: buf_deinit(&r->named.head); break;
    case CALLS_XML:
        buf_deinit(&r->xml.name);
        buf_deinit(&r->xml.key);
        buf_deinit(&r->xml.value);
        break;
    case CALLS_PYTHON:
    case CALLS_LITERAL:
    case CALLS_PYTHON_TAG:
        buf_deinit(&r->literal.name);
        buf_deinit(&r->literal.word);
        break;
    case CALLS_NONE: break;
    }
}

static bool is_name_byte(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '.';
}

static str find_interpreter(const call_sink *s) {
    static const char *const NAMES[] = {"python", "ipython", "code_interpreter"};
    for (int i = 0; i < 3; i++)
        if (call_find_tool(s, str_from(NAMES[i]))) return str_from(NAMES[i]);
    return (str){0};
}

/* JSON after all; "name.call(…" is a call of a built-in tool; anything else is code. */
static call_state read_python_tag(call_reader *r, str text, bool last, size_t *used) {
    static const str CALL = {".call(", 6};
    size_t n = 0;
    *used = 0;
    if (r->tag == TAG_UNDECIDED) {
        while (n < text.len && call_is_space(text.ptr[n])) n++;
        *used = n;
        if (n == text.len) return last ? CALL_BAD : CALL_MORE;
        size_t end = n;
        while (end < text.len && is_name_byte(text.ptr[end]) && end - n < CALL_MAX_NAME) end++;
        str word = str_make(text.ptr + n, end - n);
        if (text.ptr[n] == '{' || text.ptr[n] == '[') {
            r->style = CALLS_JSON;
            return CALL_MORE;
        }
        if (end == text.len && !last) return CALL_MORE;
        if (end < text.len && text.ptr[end] == '(' && str_ends(word, str_make(".call", 5))) {
            buf_append(&r->literal.name, word.ptr, word.len - 5);
            if (!call_begin(&r->sink, buf_str(&r->literal.name), (str){0})) return CALL_BAD;
            r->literal.at = LITERAL_KEY;
            r->tag = TAG_CALL;
            *used = n + word.len - 5 + CALL.len;
            return CALL_MORE;
        }
        if (!call_begin(&r->sink, find_interpreter(&r->sink), (str){0})) return CALL_BAD;
        call_put(&r->sink, STR("{\"code\": \""));
        r->tag = TAG_CODE;
        return CALL_MORE;
    }
    if (r->tag == TAG_CALL) return call_literal_read(r, text, last, used);
    buf escaped = {0};
    json_escape(&escaped, text);
    if (last) buf_append_cstr(&escaped, "\"}");
    call_put(&r->sink, buf_str(&escaped));
    r->sink.failed |= escaped.failed;
    buf_deinit(&escaped);
    *used = text.len;
    if (!last) return CALL_MORE;
    call_end(&r->sink, (str){0});
    return CALL_DONE;
}

call_state call_read(call_reader *r, str text, bool last, size_t *used) {
    switch (r->style) {
    case CALLS_JSON: return call_json_read(r, text, last, used);
    case CALLS_NAMED: return call_named_read(r, text, last, used);
    case CALLS_XML: return call_xml_read(r, text, last, used);
    case CALLS_PYTHON:
    case CALLS_LITERAL: return call_literal_read(r, text, last, used);
    case CALLS_PYTHON_TAG: return read_python_tag(r, text, last, used);
    default: *used = 0; return CALL_BAD;
    }
}
