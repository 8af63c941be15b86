/* Calls with literals that are almost JSON: Python's keyword arguments
 *
 *     [get(city="Rome", exact=True), put(x=[1, 2])]
 *
 * and the like without quotes around keys, strings between <|"|> marks:
 *
 *     get{city:<|"|>Rome<|"|>,exact:true}
 *
 * Values are rewritten as JSON while they come.
 */
#include "chat/formats/tagged.h"

static const str MARK = {"<|\"|>", 5};
enum { QUOTE_MARK = 1 };

static bool is_word_byte(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '.' || c == '-' || c == '+' || (unsigned char)c >= 0x80;
}

static bool is_python(const call_reader *r) {
    return r->style != CALLS_LITERAL;
}

/* A key without quotes is all there is up to its colon: "with space", "$ref". */
static bool is_key_byte(const call_reader *r, char c) {
    if (is_python(r) || !c || strchr(":,{}[]\"", c)) return false;
    return r->literal.word.len || !(call_is_space(c) || c == '<');
}

static void put(call_reader *r, const char *text) {
    call_put(&r->sink, str_from(text));
}

/* A value or key begins, behind the comma if one is due. False where a value stands already, as behind
 * the first two quotes of ''single''. */
static bool begin_value(call_reader *r) {
    call_literal *l = &r->literal;
    if (l->has_value) return false;
    if (l->comma) put(r, ", ");
    l->comma = false;
    l->has_value = true;
    return true;
}

/* A word or number: Python's three words become JSON's, numbers stay, the rest are strings. */
static void put_word(call_reader *r) {
    call_literal *l = &r->literal;
    str w = buf_str(&l->word);
    json_error_t where;
    if (!w.len) return;
    begin_value(r);
    if (str_is(w, "True")) w = STR("true");
    if (str_is(w, "False")) w = STR("false");
    if (str_is(w, "None")) w = STR("null");
    json_t *v = json_loadb(w.ptr, w.len, JSON_DECODE_ANY, &where);
    if (v) {
        call_put(&r->sink, w);
    } else {
        buf out = {0};
        buf_append_char(&out, '"');
        json_escape(&out, w);
        buf_append_char(&out, '"');
        call_put(&r->sink, buf_str(&out));
        r->sink.failed |= out.failed;
        buf_deinit(&out);
    }
    json_decref(v);
    buf_clear(&l->word);
}

static void put_key(call_reader *r, bool is_param) {
    call_literal *l = &r->literal;
    while (l->word.len && call_is_space(l->word.ptr[l->word.len - 1])) l->word.len--;
    buf out = {0};
    if (is_param)
        buf_append_cstr(&out, l->n_params++ ? ", \"" : "{\"");
    else
        buf_append_char(&out, '"');
    json_escape(&out, buf_str(&l->word));
    buf_append_cstr(&out, "\": ");
    call_put(&r->sink, buf_str(&out));
    r->sink.failed |= out.failed;
    buf_deinit(&out);
    buf_clear(&l->word);
}

static void put_code_point(call_reader *r, uint32_t cp) {
    buf out = {0};
    char utf8[4];
    int n = utf8_encode(cp, utf8);
    json_escape(&out, str_make(utf8, (size_t)n));
    call_put(&r->sink, buf_str(&out));
    r->sink.failed |= out.failed;
    buf_deinit(&out);
}

static int hex_of(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static void drop_half(call_reader *r) {
    if (r->literal.high) put_code_point(r, 0xFFFD);
    r->literal.high = 0;
}

/* \u of what JSON writes as a surrogate pair is one character; a half alone is none. */
static void put_escaped_point(call_reader *r, uint32_t cp) {
    call_literal *l = &r->literal;
    if (l->high && cp >= 0xDC00 && cp <= 0xDFFF) {
        put_code_point(r, 0x10000 + ((l->high - 0xD800) << 10) + (cp - 0xDC00));
        l->high = 0;
        return;
    }
    drop_half(r);
    if (cp >= 0xD800 && cp <= 0xDBFF)
        l->high = cp;
    else
        put_code_point(r, cp);
}

/* The byte after a backslash in Python's quotes. */
static void put_escape(call_reader *r, char c) {
    static const char FROM[] = "nrtbfav0", TO[] = "\n\r\t\b\f\a\v";
    call_literal *l = &r->literal;
    const char *at = c ? strchr(FROM, c) : NULL;
    if (c == 'x' || c == 'u' || c == 'U') {
        l->n_hex = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        l->cp = 0;
    } else if (at) {
        put_code_point(r, (uint32_t)(unsigned char)TO[at - FROM]);
    } else if (c != '\n') { /* \ at the end of a line joins lines */
        char pair[2] = {'\\', c};
        bool stands_alone = c == '"' || c == '\'' || c == '\\' || c == '/';
        buf out = {0};
        json_escape(&out, stands_alone ? str_make(&c, 1) : str_make(pair, 2));
        call_put(&r->sink, buf_str(&out));
        r->sink.failed |= out.failed;
        buf_deinit(&out);
    }
}

/* Inside a string; returns bytes used, 0 when more are needed. */
static size_t read_string(call_reader *r, str text, bool last) {
    call_literal *l = &r->literal;
    char c = text.ptr[0];
    if (l->n_hex) {
        int digit = hex_of(c);
        if (digit >= 0) {
            l->cp = l->cp * 16 + (uint32_t)digit;
            l->n_hex--;
        } else {
            l->n_hex = 0;
        }
        if (!l->n_hex) put_escaped_point(r, l->cp);
        return digit >= 0;
    }
    if (l->escaped) {
        l->escaped = false;
        if (c != 'u') drop_half(r);
        /* a character of several bytes: only its first is looked at */
        if ((unsigned char)c < 0x80) {
            put_escape(r, c);
            return 1;
        }
        put(r, "\\\\");
    }
    if (c != '\\') drop_half(r);
    if (l->quote == QUOTE_MARK) {
        if (str_starts(text, MARK)) {
            l->in_string = false;
            put(r, "\"");
            return MARK.len;
        }
        if (!last && text.len < MARK.len && str_starts(MARK, text)) return 0;
    } else if (c == l->quote) {
        l->in_string = false;
        put(r, "\"");
        return 1;
    } else if (c == '\\') {
        l->escaped = true;
        return 1;
    }
    size_t n = 1;
    while (n < text.len && text.ptr[n] != '\\' && text.ptr[n] != MARK.ptr[0] &&
           text.ptr[n] != l->quote)
        n++;
    buf out = {0};
    json_escape(&out, str_make(text.ptr, n));
    call_put(&r->sink, buf_str(&out));
    r->sink.failed |= out.failed;
    buf_deinit(&out);
    return n;
}

/* Opens a string if one begins here. Returns bytes used; *wait: it may be a mark; *bad: it may not
 * begin here. */
static size_t begin_string(call_reader *r, str text, bool last, bool *wait, bool *bad) {
    call_literal *l = &r->literal;
    char c = text.ptr[0];
    if (c == '"' || (c == '\'' && is_python(r))) {
        l->quote = c;
    } else if (!is_python(r) && str_starts(text, MARK)) {
        l->quote = QUOTE_MARK;
    } else {
        *wait = !is_python(r) && !last && str_starts(MARK, text);
        return 0;
    }
    put_word(r);
    *bad = !begin_value(r);
    if (*bad) return 0;
    l->in_string = true;
    l->escaped = false;
    put(r, "\"");
    return l->quote == QUOTE_MARK ? MARK.len : 1;
}

static call_state end_call(call_reader *r) {
    call_literal *l = &r->literal;
    put(r, l->n_params ? "}" : "{}");
    call_end(&r->sink, (str){0});
    l->n_params = 0;
    buf_clear(&l->name);
    l->at = LITERAL_AFTER;
    return l->in_list ? CALL_MORE : CALL_DONE;
}

/* The name: up to the bracket of its parameters. In Python's list a [ comes first. */
static call_state read_name(call_reader *r, char c) {
    call_literal *l = &r->literal;
    if (c == (is_python(r) ? '(' : '{')) {
        if (!call_begin(&r->sink, str_trim(buf_str(&l->name)), (str){0})) return CALL_BAD;
        l->at = LITERAL_KEY;
        return CALL_MORE;
    }
    if (is_python(r) && !str_trim(buf_str(&l->name)).len && c == '[' && !l->in_list) {
        l->in_list = true;
        return CALL_MORE;
    }
    if (!is_word_byte(c) && !call_is_space(c)) return CALL_BAD;
    buf_append_char(&l->name, c);
    return l->name.len > CALL_MAX_NAME ? CALL_BAD : CALL_MORE;
}

static call_state read_key(call_reader *r, char c) {
    call_literal *l = &r->literal;
    if (c == (is_python(r) ? '=' : ':') && l->word.len) {
        put_key(r, true);
        l->at = LITERAL_VALUE;
        l->depth = 0;
        l->has_value = l->comma = false;
    } else if (c == (is_python(r) ? ')' : '}') && !l->word.len) {
        return end_call(r);
    } else if ((is_word_byte(c) || is_key_byte(r, c)) && l->word.len < CALL_MAX_NAME) {
        buf_append_char(&l->word, c);
    } else if (!call_is_space(c) && c != ',' && c != '"' && c != '\'') {
        return CALL_BAD;
    }
    return CALL_MORE;
}

static char closing(char open) {
    return open == '[' ? ']' : open == '(' ? ')' : '}';
}

/* One byte of a value outside of strings. */
static call_state read_value(call_reader *r, char c) {
    call_literal *l = &r->literal;
    if (is_word_byte(c) || (l->expect_key && is_key_byte(r, c))) {
        if (l->has_value) return CALL_BAD;
        buf_append_char(&l->word, c);
        return l->word.len > CALL_MAX_NAME ? CALL_BAD : CALL_MORE;
    }
    if (l->expect_key && c == ':' && l->word.len) { /* a key without quotes */
        begin_value(r);
        put_key(r, false);
        l->expect_key = l->has_value = false;
        return CALL_MORE;
    }
    put_word(r);
    if (call_is_space(c)) return CALL_MORE;
    char end = is_python(r) ? ')' : '}';
    if (l->depth == 0 && (c == ',' || c == end)) {
        if (!l->has_value) return CALL_BAD;
        l->at = LITERAL_KEY;
        return c == end ? end_call(r) : CALL_MORE;
    }
    char open = l->depth ? l->stack[l->depth - 1] : 0;
    if (c == '[' || c == '{' || (c == '(' && is_python(r))) {
        if (l->depth == CALL_MAX_DEPTH || l->expect_key || !begin_value(r)) return CALL_BAD;
        l->stack[l->depth++] = c;
        l->expect_key = c == '{';
        l->has_value = false;
        put(r, c == '{' ? "{" : "[");
    } else if (open && c == closing(open)) {
        /* A dict ends behind a value or where a key could come, not between the two. */
        if (open == '{' && l->expect_key == l->has_value) return CALL_BAD;
        l->depth--;
        l->expect_key = l->comma = false;
        l->has_value = true;
        put(r, c == '}' ? "}" : "]");
    } else if (open && c == ',') { /* written when something follows: the last one may end in it */
        if (!l->has_value || l->expect_key) return CALL_BAD;
        l->expect_key = open == '{';
        l->has_value = false;
        l->comma = true;
    } else if (open == '{' && c == ':' && l->expect_key && l->has_value) {
        l->expect_key = l->has_value = false;
        put(r, ": ");
    } else {
        return CALL_BAD;
    }
    return CALL_MORE;
}

/* Between the calls of a list. */
static call_state read_after(call_reader *r, char c) {
    if (c == ']') return CALL_DONE;
    if (c == ',') r->literal.at = LITERAL_NAME;
    return c == ',' || call_is_space(c) ? CALL_MORE : CALL_BAD;
}

call_state call_literal_read(call_reader *r, str text, bool last, size_t *used) {
    call_literal *l = &r->literal;
    call_state state = CALL_MORE;
    size_t i = 0;
    while (i < text.len && state == CALL_MORE) {
        str rest = str_make(text.ptr + i, text.len - i);
        bool wait = false, bad = false;
        size_t n = 0;
        if (l->in_string) {
            bool hex = l->n_hex;
            n = read_string(r, rest, last);
            if (!n && !hex) break;
            i += n;
            continue;
        }
        if (l->at == LITERAL_VALUE) {
            n = begin_string(r, rest, last, &wait, &bad);
            if (wait) break;
            if (bad) {
                state = CALL_BAD;
                break;
            }
        }
        if (!n) {
            char c = rest.ptr[0];
            state = l->at == LITERAL_NAME    ? read_name(r, c)
                    : l->at == LITERAL_KEY   ? read_key(r, c)
                    : l->at == LITERAL_VALUE ? read_value(r, c)
                                             : read_after(r, c);
            n = state != CALL_BAD;
        }
        i += n;
    }
    *used = i;
    r->sink.failed |= l->name.failed || l->word.failed;
    if (state == CALL_MORE && last) return CALL_BAD;
    return state;
}
