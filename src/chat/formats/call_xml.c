/* Calls whose parameters are tagged, such as
 *
 *     <function=get><parameter=city>Rome</parameter></function>
 *
 * A value is text or JSON, which only the tool's schema (or an attribute) can
 * tell. Text goes out as it comes, escaped; what may be JSON waits for its end.
 */
#include "chat/formats/tagged.h"

static const char CDATA[] = "<![CDATA[", CDATA_END[] = "]]>";

/* An attribute list may follow a name in quotes: name" index="1" → name. */
static str before_quote(str s) {
    const char *quote = s.len ? memchr(s.ptr, '"', s.len) : NULL;
    return str_trim(quote ? str_make(s.ptr, (size_t)(quote - s.ptr)) : s);
}

/* Bytes at the end of text that may be the beginning of mark. */
static size_t n_partial(str text, str mark) {
    size_t n = mark.len - 1 < text.len ? mark.len - 1 : text.len;
    while (n && memcmp(text.ptr + text.len - n, mark.ptr, n) != 0) n--;
    return n;
}

static bool is_beginning(str mark, str text) {
    return text.len < mark.len && str_starts(mark, text);
}

/* ── Values ── */

static void put_key(call_reader *r) {
    call_xml *x = &r->xml;
    buf out = {0};
    buf_append_cstr(&out, x->n_params++ ? ", \"" : "{\"");
    json_escape(&out, before_quote(buf_str(&x->key)));
    buf_append_cstr(&out, x->is_text ? "\": \"" : "\": ");
    call_put(&r->sink, buf_str(&out));
    r->sink.failed |= out.failed;
    buf_deinit(&out);
}

static void put_escaped(call_reader *r, str text) {
    buf out = {0};
    json_escape(&out, text);
    call_put(&r->sink, buf_str(&out));
    r->sink.failed |= out.failed;
    buf_deinit(&out);
}

static unsigned type_bit(const json_t *v) {
    return json_is_string(v)    ? CALL_TYPE_STRING
           : json_is_number(v)  ? CALL_TYPE_NUMBER
           : json_is_boolean(v) ? CALL_TYPE_BOOL
           : json_is_null(v)    ? CALL_TYPE_NULL
           : json_is_object(v)  ? CALL_TYPE_OBJECT
                                : CALL_TYPE_ARRAY;
}

/* Python's string at text[*at], quotes and all, as JSON's. */
static void put_python_string(buf *out, str text, size_t *at) {
    static const char FROM[] = "nrtbfav0", TO[] = "\n\r\t\b\f\a\v";
    char quote = text.ptr[(*at)++];
    buf plain = {0};
    while (*at < text.len && text.ptr[*at] != quote) {
        char c = text.ptr[(*at)++], utf8[4];
        if (c != '\\' || *at == text.len) {
            buf_append_char(&plain, c);
            continue;
        }
        c = text.ptr[(*at)++];
        const char *known = c ? strchr(FROM, c) : NULL;
        int n_hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
        uint32_t cp = known ? (unsigned char)TO[known - FROM] : 0;
        for (; n_hex && *at < text.len && strchr("0123456789abcdefABCDEF", text.ptr[*at]);
             n_hex--) {
            char d = text.ptr[(*at)++];
            cp = cp * 16 + (uint32_t)(d <= '9' ? d - '0' : (d | 32) - 'a' + 10);
        }
        if (known || c == 'x' || c == 'u' || c == 'U')
            buf_append(&plain, utf8, (size_t)utf8_encode(cp, utf8));
        else
            buf_append_char(&plain, c);
    }
    (*at)++;
    buf_append_char(out, '"');
    json_escape(out, buf_str(&plain));
    buf_append_char(out, '"');
    out->failed |= plain.failed;
    buf_deinit(&plain);
}

/* What Python prints of a list or a dict, as JSON. Templates that print arguments as they are show a
 * model its own calls like that. Whether the outcome is JSON is for the caller to see. */
static void put_python(buf *out, str text) {
    for (size_t at = 0; at < text.len;) {
        char c = text.ptr[at];
        size_t n = 0;
        while (at + n < text.len &&
               ((text.ptr[at + n] | 32) >= 'a' && (text.ptr[at + n] | 32) <= 'z'))
            n++;
        str word = str_make(text.ptr + at, n);
        if (c == '\'' || c == '"')
            put_python_string(out, text, &at);
        else if (n)
            buf_append_str(out, str_is(word, "True")    ? STR("true")
                                : str_is(word, "False") ? STR("false")
                                : str_is(word, "None")  ? STR("null")
                                                        : word);
        else
            buf_append_char(out, c);
        at += c == '\'' || c == '"' ? 0 : n ? n : 1;
    }
}

/* A value that was read whole: JSON where it is some the schema allows, else a string. */
static void put_whole(call_reader *r, str text) {
    call_xml *x = &r->xml;
    json_error_t where;
    str word = str_trim(text);
    /* Python's words, which models write where they mean JSON's */
    bool may_be_text = !x->type || x->type & CALL_TYPE_STRING;
    if (!may_be_text && str_is(word, "True")) word = STR("true");
    if (!may_be_text && str_is(word, "False")) word = STR("false");
    if (!may_be_text && str_is(word, "None")) word = STR("null");
    json_t *v = word.len && word.len <= CALL_MAX_VALUE
                    ? json_loadb(word.ptr, word.len, JSON_DECODE_ANY, &where)
                    : NULL;
    buf rewritten = {0};
    bool encloses = word.len && (word.ptr[0] == '[' || word.ptr[0] == '{');
    if (!v && !may_be_text && encloses && word.len <= CALL_MAX_VALUE) {
        put_python(&rewritten, word);
        r->sink.failed |= rewritten.failed;
        word = buf_str(&rewritten);
        v = rewritten.failed ? NULL : json_loadb(word.ptr, word.len, 0, &where);
    }
    bool is_json =
        v && (!may_be_text || (!json_is_string(v) && (!x->type || x->type & type_bit(v))));
    json_decref(v);
    if (is_json) {
        call_put(&r->sink, word);
    } else {
        call_put(&r->sink, STR("\""));
        put_escaped(r, text);
        call_put(&r->sink, STR("\""));
    }
    buf_deinit(&rewritten);
}

/* The attributes or else the schema say what the value is. */
static void begin_value(call_reader *r) {
    call_xml *x = &r->xml;
    const family_xml *f = &r->family->xml;
    str key = buf_str(&x->key);
    x->type = 0;
    const chat_tool *tool = call_find_tool(&r->sink, before_quote(buf_str(&x->name)));
    if (tool)
        x->type = tool->is_custom ? CALL_TYPE_STRING
                                  : call_find_type(tool->parameters, before_quote(key));
    if (f->is_string && str_find(key, str_from(f->is_string), 0) >= 0)
        x->type = CALL_TYPE_STRING;
    else if (f->is_json && str_find(key, str_from(f->is_json), 0) >= 0)
        x->type = ~(unsigned)CALL_TYPE_STRING;
    x->is_text = x->type == CALL_TYPE_STRING;
    x->cdata = x->started = false;
    x->at = XML_VALUE;
    buf_clear(&x->value);
    put_key(r);
}

static void put_value(call_reader *r, str text, bool is_end) {
    call_xml *x = &r->xml;
    if (x->is_text) {
        put_escaped(r, text);
        if (is_end) call_put(&r->sink, STR("\""));
        return;
    }
    buf_append_str(&x->value, text);
    if (is_end) put_whole(r, buf_str(&x->value));
}

/* Returns bytes used, 0 when more are needed. */
static size_t read_value(call_reader *r, str text, bool last) {
    call_xml *x = &r->xml;
    bool trims = r->family->flags & FAMILY_TRIMS_LINES;
    size_t from = 0;
    if (!x->started) { /* a line break or <![CDATA[ at the front */
        if (!last && (!text.len || is_beginning(str_from(CDATA), text))) return 0;
        x->started = true;
        if (str_starts(text, str_from(CDATA))) {
            x->cdata = true;
            return strlen(CDATA);
        }
        if (trims && text.len && text.ptr[0] == '\n') from = 1;
    }
    str rest = str_make(text.ptr + from, text.len - from);
    str end = str_from(x->cdata ? CDATA_END : r->family->xml.value_end);
    ptrdiff_t found = str_find(rest, end, 0);
    size_t n = found >= 0 ? (size_t)found : last ? rest.len : rest.len - n_partial(rest, end);
    if (found < 0 && trims && !last && n && rest.ptr[n - 1] == '\n') n--; /* may be the end's */
    size_t shown = n;
    if (found >= 0 && trims && shown && rest.ptr[shown - 1] == '\n') shown--;
    bool is_end = found >= 0 || last;
    put_value(r, str_make(rest.ptr, shown), is_end);
    if (is_end) x->at = XML_BETWEEN;
    return from + n + (found >= 0 ? end.len : 0);
}

/* ── Structure ── */

/* The text up to mark goes to b, of what is too long for a head only the first character too many: where
 * it is given up must not depend on cuts. Returns bytes used; *found says whether mark was there. */
static size_t read_until(buf *b, str text, str mark, bool *found) {
    ptrdiff_t at = str_find(text, mark, 0);
    size_t n = at >= 0 ? (size_t)at : text.len - n_partial(text, mark);
    size_t most = b->len > CALL_MAX_HEAD ? 0 : CALL_MAX_HEAD + 1 - b->len;
    if (n >= most) {
        for (n = most; n < text.len && ((unsigned char)text.ptr[n] & 0xC0) == 0x80;) n++;
        at = -1;
    }
    *found = at >= 0;
    buf_append(b, text.ptr, n);
    return n + (at >= 0 ? mark.len : 0);
}

/* A name that ends at white space or at the next tag. */
static size_t read_word(buf *b, str text, bool last, bool *found) {
    size_t from = 0, n;
    while (!b->len && from < text.len && call_is_space(text.ptr[from])) from++;
    for (n = from; n < text.len && !call_is_space(text.ptr[n]) && text.ptr[n] != '<';) n++;
    *found = n < text.len || last;
    buf_append(b, text.ptr + from, n - from);
    return n;
}

static call_state end_call(call_reader *r) {
    call_put(&r->sink, r->xml.n_params ? STR("}") : STR("{}"));
    call_end(&r->sink, (str){0});
    return CALL_DONE;
}

/* Between parameters. *used counts from text's begin. */
static call_state read_between(call_reader *r, str text, bool last, size_t *used) {
    const family_xml *f = &r->family->xml;
    str param = str_from(f->param), end = str_from(f->end);
    size_t n = 0;
    while (n < text.len && call_is_space(text.ptr[n])) n++;
    str rest = str_make(text.ptr + n, text.len - n);
    *used = n;
    if (str_starts(rest, param)) {
        *used += param.len;
        buf_clear(&r->xml.key);
        r->xml.at = XML_KEY;
        return CALL_MORE;
    }
    if (str_starts(rest, end)) {
        *used += end.len;
        return end_call(r);
    }
    if (!last && (is_beginning(param, rest) || is_beginning(end, rest))) return CALL_MORE;
    /* What stands behind ]]> is the end of the value. */
    str value_end = str_from(f->value_end);
    if (r->xml.cdata && str_starts(rest, value_end)) {
        *used += value_end.len;
        r->xml.cdata = false;
        return CALL_MORE;
    }
    if (!last && r->xml.cdata && is_beginning(value_end, rest)) return CALL_MORE;
    return end_call(r); /* something else: the call is over, its end forgotten */
}

call_state call_xml_read(call_reader *r, str text, bool last, size_t *used) {
    call_xml *x = &r->xml;
    const family_xml *f = &r->family->xml;
    call_state state = CALL_MORE;
    size_t i = 0, before;
    bool found = true;
    do {
        str rest = str_make(text.ptr + i, text.len - i);
        size_t n = 0;
        int at = x->at;
        before = i;
        switch (x->at) {
        case XML_NAME:
            n = *f->name_end ? read_until(&x->name, rest, str_from(f->name_end), &found)
                             : read_word(&x->name, rest, last, &found);
            if (x->name.len > CALL_MAX_HEAD || (!found && last)) state = CALL_BAD;
            if (!found || state == CALL_BAD) break;
            if (!call_begin(&r->sink, before_quote(buf_str(&x->name)), (str){0})) state = CALL_BAD;
            x->at = XML_BETWEEN;
            break;
        case XML_BETWEEN: state = read_between(r, rest, last, &n); break;
        case XML_KEY:
            n = read_until(&x->key, rest, str_from(f->key_end), &found);
            if (x->key.len > CALL_MAX_HEAD) {
                state = end_call(r);
            } else if (found && *f->value) {
                x->at = XML_TO_VALUE;
            } else if (found) {
                begin_value(r);
            }
            break;
        case XML_TO_VALUE: {
            str mark = str_from(f->value);
            while (n < rest.len && call_is_space(rest.ptr[n])) n++;
            str next = str_make(rest.ptr + n, rest.len - n);
            if (str_starts(next, mark)) {
                n += mark.len;
                begin_value(r);
            } else if (!is_beginning(mark, next)) {
                state = end_call(r);
            }
            break;
        }
        case XML_VALUE: n = read_value(r, rest, last); break;
        }
        i += n;
        if ((int)x->at != at) continue; /* a step without bytes is one too */
        if (i == before) break;
    } while (state == CALL_MORE);
    *used = i;
    r->sink.failed |= x->name.failed || x->key.failed || x->value.failed;
    if (state == CALL_MORE && last) {
        if (!r->sink.open) return CALL_BAD;
        if (x->at == XML_BETWEEN) return end_call(r);
        return CALL_BAD; /* cut; what is open is closed by the caller */
    }
    return state;
}
