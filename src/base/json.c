#include "base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"

/* jansson reports a failed allocation as whatever syntax it was reading; its allocator tells. */
static _Thread_local bool out_of_memory;

static void *watched_malloc(size_t n) {
    void *p = malloc(n);
    if (!p) out_of_memory = true;
    return p;
}

__attribute__((constructor)) static void watch_memory(void) {
    json_set_alloc_funcs(watched_malloc, free);
}

static json_t *malformed(error *err, const char *what, int line, int column) {
    error_set(err, ERR_MALFORMED, NULL, "This is not valid JSON: %s (line %d, column %d).", what,
              line, column);
    return NULL;
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* An integer's digits, after a sign: are they more than int64 holds? */
static bool is_beyond(str digits, bool minus) {
    static const char most[] = "9223372036854775807", least[] = "9223372036854775808";
    if (digits.len != sizeof most - 1) return digits.len > sizeof most - 1;
    return memcmp(digits.ptr, minus ? least : most, digits.len) > 0;
}

/* The text with "e0" behind every integer that int64 does not hold. */
static void mark_reals(str text, buf *out) {
    bool in_string = false;
    size_t from = 0;
    for (size_t i = 0, end; i < text.len; i = end) {
        char c = text.ptr[i];
        end = i + 1;
        if (in_string && c == '\\' && end < text.len) end++;
        if (c == '"') in_string = !in_string;
        if (in_string || (c != '-' && !is_digit(c))) continue;
        while (end < text.len && is_digit(text.ptr[end])) end++;
        str digits = str_make(text.ptr + i + (c == '-'), end - i - (c == '-'));
        size_t end_of_digits = end;
        while (end < text.len && strchr(".0123456789eE+-", text.ptr[end])) end++;
        if (end > end_of_digits || !is_beyond(digits, c == '-')) continue;
        buf_append(out, text.ptr + from, end - from);
        buf_append_cstr(out, "e0");
        from = end;
    }
    buf_append(out, text.ptr + from, text.len - from);
}

/* jansson takes the text in pieces of its own size; a megabyte of numbers is tens of milliseconds. */
static size_t next_piece(void *to, size_t n, void *ctx) {
    str *left = ctx;
    if (n > left->len) n = left->len;
    memcpy(to, left->ptr, n);
    *left = str_make(left->ptr + n, left->len - n);
    os_give_way();
    return n;
}

static json_t *load(str text, size_t flags, json_error_t *e) {
    return json_load_callback(next_piece, &text, flags, e);
}

json_t *json_parse(str text, error *err) {
    json_error_t e = {0};
    size_t flags = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    if (!text.ptr) text = STR("");
    /* jansson steps over a raw NUL between tokens. */
    const char *nul = memchr(text.ptr, 0, text.len);
    if (nul) {
        int line = 1, column = 1;
        for (const char *p = text.ptr; p < nul; p++) column = *p == '\n' ? (line++, 1) : column + 1;
        return malformed(err, "there is a NUL byte", line, column);
    }
    out_of_memory = false;
    json_t *v = load(text, flags, &e);
    /* An integer beyond int64 is legal JSON: it, and no other, becomes a real. */
    if (!v && json_error_code(&e) == json_error_numeric_overflow) {
        buf b = {0};
        mark_reals(text, &b);
        if (b.failed) out_of_memory = true;
        if (!b.failed) v = load(buf_str(&b), flags, &e);
        buf_deinit(&b);
    }
    if (v) return v;
    if (out_of_memory) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to read %zu bytes of JSON.",
                  text.len);
        return NULL;
    }
    /* What it quotes may be cut inside a character. */
    for (size_t i = 0, n = strlen(e.text); i < n;) {
        uint32_t cp;
        int k = utf8_decode(str_make(e.text, n), i, &cp);
        if (!k) e.text[i] = '?';
        i += k ? (size_t)k : 1;
    }
    return malformed(err, e.text, e.line, e.column);
}

json_out json_begin(buf *b) {
    return (json_out){.b = b};
}

static void separate(json_out *j) {
    if (j->after_key) {
        j->after_key = false;
        return;
    }
    uint64_t bit = 1ull << (j->depth & 63);
    if (j->depth > 0 && j->has_item & bit) buf_append_char(j->b, ',');
    j->has_item |= bit;
}

static void open_container(json_out *j, char c) {
    separate(j);
    buf_append_char(j->b, c);
    j->depth++;
    assert(j->depth < 64);
    j->has_item &= ~(1ull << (j->depth & 63));
}

static void close_container(json_out *j, char c) {
    assert(j->depth > 0 && !j->after_key);
    j->depth--;
    buf_append_char(j->b, c);
}

void json_obj(json_out *j) {
    open_container(j, '{');
}
void json_end_obj(json_out *j) {
    close_container(j, '}');
}
void json_arr(json_out *j) {
    open_container(j, '[');
}
void json_end_arr(json_out *j) {
    close_container(j, ']');
}

void json_key(json_out *j, const char *key) {
    separate(j);
    buf_append_char(j->b, '"');
    buf_append_cstr(j->b, key);
    buf_append(j->b, "\":", 2);
    j->after_key = true;
}

void json_key_str(json_out *j, str key) {
    json_put_str(j, key);
    buf_append_char(j->b, ':');
    j->after_key = true;
}

void json_escape(buf *b, str s) {
    size_t plain = 0, i = 0;
    while (i < s.len) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c >= 0x20 && c < 0x80 && c != '"' && c != '\\') {
            i++;
            continue;
        }
        if (c >= 0x80) {
            uint32_t cp;
            int n = utf8_decode(s, i, &cp);
            if (n) {
                i += (size_t)n;
                continue;
            }
        }
        buf_append(b, s.ptr + plain, i - plain);
        switch (c) {
        case '"': buf_append(b, "\\\"", 2); break;
        case '\\': buf_append(b, "\\\\", 2); break;
        case '\n': buf_append(b, "\\n", 2); break;
        case '\r': buf_append(b, "\\r", 2); break;
        case '\t': buf_append(b, "\\t", 2); break;
        case '\b': buf_append(b, "\\b", 2); break;
        case '\f': buf_append(b, "\\f", 2); break;
        default:
            if (c >= 0x80)
                buf_append(b, "\xEF\xBF\xBD", 3);
            else
                buf_printf(b, "\\u%04x", c);
        }
        plain = ++i;
    }
    if (plain < s.len) buf_append(b, s.ptr + plain, i - plain);
}

static void append_quoted(buf *b, str s) {
    buf_append_char(b, '"');
    json_escape(b, s);
    buf_append_char(b, '"');
}

void json_put_str(json_out *j, str s) {
    separate(j);
    append_quoted(j->b, s);
}

void json_put_cstr(json_out *j, const char *s) {
    if (s)
        json_put_str(j, str_from(s));
    else
        json_put_null(j);
}

void json_put_int(json_out *j, int64_t v) {
    separate(j);
    buf_printf(j->b, "%" PRId64, v);
}

static void append_num(buf *b, double v) {
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    buf_append_cstr(b, text);
}

void json_put_num(json_out *j, double v) {
    if (!isfinite(v)) {
        json_put_null(j);
        return;
    }
    separate(j);
    append_num(j->b, v);
}

void json_put_float(json_out *j, float v) {
    if (!isfinite(v)) {
        json_put_null(j);
        return;
    }
    separate(j);
    char text[40];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)v);
        if (strtof(text, NULL) == v) break;
    }
    buf_append_cstr(j->b, text);
}

void json_put_bool(json_out *j, bool v) {
    separate(j);
    buf_append_cstr(j->b, v ? "true" : "false");
}

void json_put_null(json_out *j) {
    separate(j);
    buf_append(j->b, "null", 4);
}

void json_put_raw(json_out *j, str json) {
    separate(j);
    buf_append_str(j->b, json);
}

/* Our own walk, not jansson's dump: that prints 0.1 as 0.10000000000000001. As deep as the parser
 * lets a value be. */
static void append_value(buf *b, const json_t *v) {
    const char *comma = "";
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        buf_append_char(b, '{');
        for (void *i = json_object_iter((json_t *)v); i;
             i = json_object_iter_next((json_t *)v, i)) {
            buf_append_cstr(b, comma);
            append_quoted(b, str_from(json_object_iter_key(i)));
            buf_append_char(b, ':');
            append_value(b, json_object_iter_value(i));
            comma = ",";
        }
        buf_append_char(b, '}');
        break;
    case JSON_ARRAY:
        buf_append_char(b, '[');
        for (size_t i = 0; i < json_array_size(v); i++) {
            buf_append_cstr(b, comma);
            append_value(b, json_array_get(v, i));
            comma = ",";
        }
        buf_append_char(b, ']');
        break;
    case JSON_STRING: append_quoted(b, json_str(v)); break;
    case JSON_INTEGER: buf_printf(b, "%" JSON_INTEGER_FORMAT, json_integer_value(v)); break;
    case JSON_REAL: {
        size_t at = b->len;
        append_num(b, json_real_value(v));
        /* 1.0 stays a real for whoever reads it next. */
        if (!b->failed && !strpbrk(b->ptr + at, ".e")) buf_append(b, ".0", 2);
        break;
    }
    case JSON_TRUE: buf_append_cstr(b, "true"); break;
    case JSON_FALSE: buf_append_cstr(b, "false"); break;
    case JSON_NULL: buf_append_cstr(b, "null"); break;
    }
}

void json_put_value(json_out *j, const json_t *v) {
    separate(j);
    if (v)
        append_value(j->b, v);
    else
        buf_append(j->b, "null", 4);
}

void json_kv_str(json_out *j, const char *key, str s) {
    json_key(j, key);
    json_put_str(j, s);
}
void json_kv_cstr(json_out *j, const char *key, const char *s) {
    json_key(j, key);
    json_put_cstr(j, s);
}
void json_kv_int(json_out *j, const char *key, int64_t v) {
    json_key(j, key);
    json_put_int(j, v);
}
void json_kv_num(json_out *j, const char *key, double v) {
    json_key(j, key);
    json_put_num(j, v);
}
void json_kv_bool(json_out *j, const char *key, bool v) {
    json_key(j, key);
    json_put_bool(j, v);
}
void json_kv_null(json_out *j, const char *key) {
    json_key(j, key);
    json_put_null(j);
}
