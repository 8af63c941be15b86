#include "base/json.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

json_t *json_parse(str text, error *err) {
    json_error_t e;
    size_t flags = JSON_DECODE_ANY | JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL;
    json_t *v = json_loadb(text.ptr ? text.ptr : "", text.len, flags, &e);
    /* An integer beyond int64 is legal JSON; only then pay for reading everything as reals. */
    if (!v && json_error_code(&e) == json_error_numeric_overflow)
        v = json_loadb(text.ptr, text.len, flags | JSON_DECODE_INT_AS_REAL, &e);
    if (!v)
        error_set(
            err, json_error_code(&e) == json_error_out_of_memory ? ERR_NO_MEMORY : ERR_MALFORMED,
            NULL, "This is not valid JSON: %s (line %d, column %d).", e.text, e.line, e.column);
    return v;
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
    buf_append(b, s.ptr + plain, i - plain);
}

void json_put_str(json_out *j, str s) {
    separate(j);
    buf_append_char(j->b, '"');
    json_escape(j->b, s);
    buf_append_char(j->b, '"');
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

void json_put_num(json_out *j, double v) {
    if (!isfinite(v)) {
        json_put_null(j);
        return;
    }
    separate(j);
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    buf_append_cstr(j->b, text);
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

static int append_chunk(const char *bytes, size_t len, void *b) {
    buf_append(b, bytes, len);
    return ((buf *)b)->failed ? -1 : 0;
}

void json_put_value(json_out *j, const json_t *v) {
    separate(j);
    if (!v)
        buf_append(j->b, "null", 4);
    else if (json_dump_callback(v, append_chunk, j->b,
                                JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17)) != 0)
        j->b->failed = true;
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
