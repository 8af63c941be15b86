/* Calls written in JSON: {"name": …, "arguments": {…}}, a list or a run of such
 * objects; and a name with separators whose arguments are JSON (named). The
 * arguments go out byte by byte as they come.
 */
#include "chat/formats/tagged.h"

/* ── Objects ── */

static const char *const NAMES[] = {"name", "tool_name", NULL};
static const char *const ARGUMENTS[] = {"arguments", "parameters", "args", NULL};
static const char *const IDS[] = {"id", "tool_call_id", NULL};

static bool is_one_of(str s, const char *const *words) {
    for (; *words; words++)
        if (str_is(s, *words)) return true;
    return false;
}

/* The text of a JSON string, or of anything that is none. */
static bool unquote(str json, buf *out) {
    json_error_t where;
    json_t *v = json_loadb(json.ptr, json.len, JSON_DECODE_ANY, &where);
    bool is_text = json_is_string(v);
    if (is_text) buf_append_str(out, json_str(v));
    json_decref(v);
    return is_text;
}

static void begin_object(call_json *j) {
    buf_clear(&j->name);
    buf_clear(&j->id);
    buf_clear(&j->early);
    j->has_args = false;
    j->nesting = 0;
    j->at = JSON_KEY;
}

/* The name is known: arguments that came first follow it. */
static bool take_name(call_reader *r) {
    call_json *j = &r->json;
    if (r->sink.open || !unquote(buf_str(&j->value), &j->name)) return false;
    if (!call_begin(&r->sink, buf_str(&j->name), buf_str(&j->id))) return false;
    call_put(&r->sink, buf_str(&j->early));
    return true;
}

static bool end_value(call_reader *r) {
    call_json *j = &r->json;
    j->at = JSON_KEY;
    switch (j->what) {
    case JSON_NAME: return take_name(r);
    case JSON_ID: {
        buf_clear(&j->id);
        if (!unquote(buf_str(&j->value), &j->id)) buf_append_str(&j->id, buf_str(&j->value));
        break;
    }
    case JSON_ARGS:
        if (!j->whole) break;
        /* Arguments as a string that holds JSON: what it holds. */
        if (r->sink.open) {
            buf text = {0};
            if (unquote(buf_str(&j->value), &text)) call_put(&r->sink, buf_str(&text));
            r->sink.failed |= text.failed;
            buf_deinit(&text);
        } else {
            unquote(buf_str(&j->value), &j->early);
        }
        break;
    default: break;
    }
    return true;
}

static bool end_object(call_reader *r) {
    call_json *j = &r->json;
    if (j->nesting) {
        j->nesting--;
        return true;
    }
    if (!r->sink.open) return false;
    if (!j->has_args) call_put(&r->sink, STR("{}"));
    call_end(&r->sink, buf_str(&j->id));
    j->n_objects++;
    j->at = JSON_ITEM;
    return true;
}

/* False: not a call. */
static bool begin_value(call_reader *r, char c) {
    call_json *j = &r->json;
    str key = buf_str(&j->key);
    j->at = JSON_IN_VALUE;
    j->walk = (json_walk){0};
    j->whole = false;
    buf_clear(&j->value);
    if (r->family->flags & FAMILY_KEYED) {
        j->what = r->sink.open ? JSON_SKIP : JSON_ARGS;
        j->has_args = true;
        return r->sink.open || call_begin(&r->sink, key, (str){0});
    }
    j->what = is_one_of(key, NAMES)                       ? JSON_NAME
              : is_one_of(key, IDS)                       ? JSON_ID
              : is_one_of(key, ARGUMENTS) && !j->has_args ? JSON_ARGS
                                                          : JSON_SKIP;
    /* {"type": "function", "function": {"name": …}} */
    if (c == '{' && str_is(key, "function") && j->nesting == 0) j->what = JSON_INNER;
    if (j->what == JSON_ARGS) {
        j->has_args = true;
        j->whole = c == '"';
    }
    return true;
}

static bool keep_byte(call_reader *r, char c) {
    call_json *j = &r->json;
    if (j->what == JSON_SKIP) return true;
    if (j->what == JSON_ARGS && !j->whole) {
        if (!r->sink.open) buf_append_char(&j->early, c);
        return true; /* else the whole stretch goes out at once, see call_json_read */
    }
    buf_append_char(&j->value, c);
    return j->value.len <= (j->whole ? (size_t)CALL_MAX_VALUE : CALL_MAX_NAME);
}

/* One byte; false: not a call. *done: all objects are read and c is not theirs. *taken: c was used. */
static bool step(call_reader *r, char c, bool *done, bool *taken) {
    call_json *j = &r->json;
    bool is_space = call_is_space(c);
    switch (j->at) {
    case JSON_ITEM:
        if (c == '{') {
            begin_object(j);
        } else if (c == '[' && !j->in_list && !j->n_objects) {
            j->in_list = true;
        } else if (c == ']' && j->in_list) {
            *done = true;
            return j->n_objects > 0;
        } else if (!is_space && !((c == ',' || c == ';') && j->n_objects)) {
            *taken = false;
            *done = true;
            return j->n_objects > 0;
        }
        return true;
    case JSON_KEY:
        if (c == '"') {
            buf_clear(&j->key);
            j->escaped = false;
            j->at = JSON_IN_KEY;
        } else if (c == '}') {
            return end_object(r);
        } else if (!is_space && c != ',') {
            return false;
        }
        return true;
    case JSON_IN_KEY:
        if (!j->escaped && c == '"') {
            j->at = JSON_COLON;
        } else {
            j->escaped = !j->escaped && c == '\\';
            buf_append_char(&j->key, c);
        }
        return j->key.len <= CALL_MAX_NAME;
    case JSON_COLON:
        if (c == ':') j->at = JSON_VALUE;
        return c == ':' || is_space;
    case JSON_VALUE:
        if (is_space) return true;
        if (!begin_value(r, c)) return false;
        if (j->what == JSON_INNER) {
            j->nesting++;
            j->at = JSON_KEY;
            return true;
        }
        /* fall through */
    case JSON_IN_VALUE:
        switch (json_walk_byte(&j->walk, c)) {
        case WALK_IN: return keep_byte(r, c);
        case WALK_LAST: return keep_byte(r, c) && end_value(r);
        case WALK_BEHIND: *taken = false; return end_value(r);
        default: return false;
        }
    }
    return false;
}

/* Whether the byte just read belongs to arguments that go out at once. */
static bool is_passing(const call_reader *r) {
    return r->json.at == JSON_IN_VALUE && r->json.what == JSON_ARGS && !r->json.whole &&
           r->sink.open;
}

call_state call_json_read(call_reader *r, str text, bool last, size_t *used) {
    call_json *j = &r->json;
    bool done = false, ok = true;
    size_t i = 0, from = 0; /* from: where passing arguments begin */
    while (i < text.len && ok && !done) {
        bool was = is_passing(r), taken = true;
        ok = step(r, text.ptr[i], &done, &taken);
        if (!was && is_passing(r)) from = i;
        if (was && !is_passing(r))
            call_put(&r->sink, str_make(text.ptr + from, i + (taken && ok) - from));
        i += taken && ok;
    }
    if (is_passing(r)) call_put(&r->sink, str_make(text.ptr + from, i - from));
    *used = i;
    r->sink.failed |=
        j->key.failed || j->value.failed || j->name.failed || j->early.failed || j->id.failed;
    if (!ok) return CALL_BAD;
    if (done) return CALL_DONE;
    return !last ? CALL_MORE : j->at == JSON_ITEM && j->n_objects ? CALL_DONE : CALL_BAD;
}

/* ── A name, then JSON ── */

/* The head's parts, each where its separator says. */
typedef struct head {
    str name, id;
    bool complete; /* the separator before the arguments was there */
} head;

static void set_part(head *h, char what, str part) {
    part = str_trim(part);
    if (part.len && (what == 'n' || what == 't'))
        h->name = part; /* a kind, unless a name follows */
    if (what == 'i') h->id = part;
}

/* "functions.get:0" → "get". */
static str name_of_id(str id) {
    static const str PREFIX = {"functions.", 10};
    if (str_starts(id, PREFIX)) id = str_make(id.ptr + PREFIX.len, id.len - PREFIX.len);
    size_t end = id.len;
    while (end && id.ptr[end - 1] >= '0' && id.ptr[end - 1] <= '9') end--;
    return end > 1 && end < id.len && id.ptr[end - 1] == ':' ? str_make(id.ptr, end - 1) : id;
}

static head parse_head(const parser_family *f, str text) {
    head h = {0};
    char what = f->head;
    size_t at = 0;
    while (!h.complete) {
        ptrdiff_t found = -1;
        const family_sep *sep = NULL;
        for (int i = 0; i < FAMILY_MAX_SEPS && f->seps[i].text; i++) {
            ptrdiff_t p = str_find(text, str_from(f->seps[i].text), at);
            if (p >= 0 && (found < 0 || p < found)) {
                found = p;
                sep = &f->seps[i];
            }
        }
        size_t end = found < 0 ? text.len : (size_t)found;
        set_part(&h, what, str_make(text.ptr + at, end - at));
        if (!sep) break;
        at = end + strlen(sep->text);
        what = sep->next;
        h.complete = what == 'a';
    }
    if (!h.name.len) h.name = name_of_id(h.id);
    return h;
}

/* Where the mark of a call's end begins that stands at text's end; −1: there is none. */
static ptrdiff_t find_end(const parser_family *f, str text) {
    str end = f->after[0] ? str_from(f->after[0]) : (str){0};
    return end.len && str_ends(text, end) ? (ptrdiff_t)(text.len - end.len) : -1;
}

static bool begin_named(call_reader *r) {
    head h = parse_head(r->family, buf_str(&r->named.head));
    r->named.begun = call_begin(&r->sink, h.name, h.id);
    return r->named.begun;
}

/* The head ends with the first { or [; what begins with one is no name but a list of objects. */
static call_state read_head(call_reader *r, str text, bool last, size_t *used) {
    buf *b = &r->named.head;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        *used = i;
        if (c == '{' || (c == '[' && !str_trim(buf_str(b)).len)) {
            if (!str_trim(buf_str(b)).len) {
                bool failed = b->failed;
                buf_deinit(b);
                r->style = CALLS_JSON;
                r->json = (call_json){0};
                r->sink.failed |= failed;
                return CALL_MORE;
            }
            if (!begin_named(r)) return CALL_BAD;
            r->named.in_args = true;
            return CALL_MORE;
        }
        buf_append_char(b, c);
        *used = i + 1;
        ptrdiff_t end = find_end(r->family, buf_str(b));
        if (end >= 0) { /* a call without arguments */
            b->len = (size_t)end;
            if (!parse_head(r->family, buf_str(b)).complete || !begin_named(r)) return CALL_BAD;
            call_put(&r->sink, STR("{}"));
            call_end(&r->sink, (str){0});
            return CALL_DONE;
        }
        if (b->len > CALL_MAX_HEAD || b->failed) return CALL_BAD;
    }
    return last ? CALL_BAD : CALL_MORE;
}

call_state call_named_read(call_reader *r, str text, bool last, size_t *used) {
    *used = 0;
    if (!r->named.in_args) return read_head(r, text, last, used);
    for (size_t i = 0; i < text.len; i++) {
        walk_step s = json_walk_byte(&r->named.walk, text.ptr[i]);
        if (s != WALK_IN) {
            *used = i + (s == WALK_LAST);
            call_put(&r->sink, str_make(text.ptr, *used));
            call_end(&r->sink, (str){0});
            return CALL_DONE;
        }
    }
    call_put(&r->sink, text);
    *used = text.len;
    return last ? CALL_BAD : CALL_MORE;
}
