/* Texts through our event writer and back through a reader of the WHATWG's rules: every event comes out
 * once, in order, whole and equal, whatever is in it; and Last-Event-ID, which clients send back. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/responses.h"
#include "api/serve.h"
#include "fuzz.h"

/* One event from the stream; false at its end. Lines may end in CR, LF or CRLF; `data` is what its data
 * lines say, joined. */
static bool read_event(str stream, size_t *at, buf *data) {
    buf_clear(data);
    bool any = false;
    while (*at < stream.len) {
        size_t end = *at;
        while (end < stream.len && stream.ptr[end] != '\n' && stream.ptr[end] != '\r') end++;
        EXPECT(end < stream.len); /* no line is cut off */
        str line = str_make(stream.ptr + *at, end - *at);
        *at = end + 1;
        if (stream.ptr[end] == '\r' && *at < stream.len && stream.ptr[*at] == '\n') ++*at;
        if (!line.len) {
            if (any) return true;
            continue;
        }
        ptrdiff_t colon = str_find(line, STR(":"), 0);
        if (colon == 0) continue; /* a comment */
        EXPECT(colon == 4 && str_starts(line, STR("data")));
        str value = str_make(line.ptr + 5, line.len - 5);
        if (value.len && value.ptr[0] == ' ') value = str_make(value.ptr + 1, value.len - 1);
        if (any) buf_append_char(data, '\n');
        buf_append_str(data, value);
        any = true;
    }
    return false;
}

/* What JSON makes of bytes that are not UTF-8 is JSON's to say: its emitter and reader are asked. */
static void expect_text(str text, const char *said, size_t len) {
    buf b = {0};
    json_out j = json_begin(&b);
    json_put_str(&j, text);
    error err = {0};
    json_t *v = json_parse(buf_str(&b), &err);
    EXPECT(v && json_string_length(v) == len && memcmp(json_string_value(v), said, len) == 0);
    if (utf8_is_valid(text)) EXPECT(len == text.len && memcmp(text.ptr, said, len) == 0);
    json_decref(v);
    buf_deinit(&b);
}

enum { MAX_TEXTS = 64 };

static void write_and_read(str in) {
    str texts[MAX_TEXTS];
    bool is_error[MAX_TEXTS];
    size_t n = 0, at = 0;
    buf out = {0}, data = {0};
    while (at < in.len && n < MAX_TEXTS) {
        size_t len = (unsigned char)in.ptr[at++];
        is_error[n] = len & 1;
        len >>= 1;
        if (len > in.len - at) len = in.len - at;
        texts[n] = str_make(in.ptr + at, len);
        at += len;
        if (is_error[n]) {
            error err = {0};
            error_set(&err, ERR_INVALID_VALUE, "x", "%.*s", STR_ARG(texts[n]));
            sse_error(&out, &err);
        } else {
            if (len % 3 == 0) buf_append_cstr(&out, ": ping\n\n");
            sse_begin(&out);
            json_out j = json_begin(&out);
            json_obj(&j);
            json_kv_str(&j, "text", texts[n]);
            json_end_obj(&j);
            sse_end(&out);
        }
        n++;
    }
    sse_done(&out);
    at = 0;
    for (size_t i = 0; i < n; i++) {
        error err = {0};
        EXPECT(read_event(buf_str(&out), &at, &data));
        json_t *v = json_parse(buf_str(&data), &err);
        EXPECT(v);
        json_t *text = json_object_get(is_error[i] ? json_object_get(v, "error") : v,
                                       is_error[i] ? "message" : "text");
        EXPECT(json_is_string(text));
        if (!is_error[i]) expect_text(texts[i], json_string_value(text), json_string_length(text));
        json_decref(v);
    }
    EXPECT(read_event(buf_str(&out), &at, &data) && str_is(buf_str(&data), "[DONE]"));
    EXPECT(!read_event(buf_str(&out), &at, &data) && at == out.len);
    buf_deinit(&out);
    buf_deinit(&data);
}

/* A number is taken as it is or refused; never another one. */
static void read_id(str in) {
    char text[64], back[32];
    size_t len = in.len < sizeof text ? in.len : sizeof text - 1, from = 0;
    memcpy(text, in.ptr, len);
    text[len] = 0;
    error err = {0};
    if (!response_parse_after(text, &from, &err)) {
        EXPECT(err.code == ERR_INVALID_TYPE && strcmp(err.param, "starting_after") == 0);
        return;
    }
    EXPECT(from > 0);
    const char *digits = text;
    while (digits[0] == '0' && digits[1]) digits++;
    snprintf(back, sizeof back, "%zu", from - 1);
    EXPECT(strcmp(back, digits) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    str in = str_make((const char *)data, size);
    write_and_read(in);
    if (size) read_id(in);
    return 0;
}
