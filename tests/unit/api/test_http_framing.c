/* Which bytes pass as HTTP: one verdict however they are cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/http_framing.h"

enum { MAX_HEAD = 400, MAX_LENGTH = 1000 };

#define HEAD "POST /a?b=c HTTP/1.1\r\nHost: h\r\n"
#define TE   HEAD "Transfer-Encoding: chunked\r\n\r\n"

/* code ERR_NONE: the first n_good bytes are one message; else n_good bytes pass before the fault, -1 = any. */
static const struct {
    const char *name, *bytes;
    size_t len; /* 0: strlen */
    int n_good;
    error_code code;
} rows[] = {
    {"no body", HEAD "\r\n", 0, sizeof HEAD + 1, ERR_NONE},
    {"the next message waits", HEAD "\r\nGET", 0, sizeof HEAD + 1, ERR_NONE},
    {"a body", HEAD "content-LENGTH: \t3\r\n\r\nabcGET", 0, 56, ERR_NONE},
    {"bare LF in the head", "GET / HTTP/1.1\nHost: h\n\nX", 0, 24, ERR_NONE},
    {"empty lines before", "\r\n\nGET / HTTP/1.0\r\n\r\n", 0, 21, ERR_NONE},
    {"chunks", TE "3;x=\"y\"\r\na\rb\r\n0\r\nT: v\r\n\r\nX", 0, 86, ERR_NONE},
    {"a bare CR before", "\r\r\nGET / HTTP/1.0\r\n\r\n", 0, 1, ERR_MALFORMED},
    {"text beyond ASCII", "GET /\xC3\xA9 HTTP/1.1\r\nHost: \xFF\r\n\r\n", 0, 29, ERR_NONE},
    {"%0 is no NUL", "GET /%0a%1000 HTTP/1.0\r\n\r\n", 0, 26, ERR_NONE},
    {"garbage", "\x16\x03\x01", 0, 0, ERR_MALFORMED},
    {"no method", " / HTTP/1.1\r\n", 0, 0, ERR_MALFORMED},
    {"no target", "GET  HTTP/1.1\r\n", 0, 4, ERR_MALFORMED},
    {"no version", "GET /\r\n", 0, 5, ERR_MALFORMED},
    {"a short version", "GET / HTTP/1.\r\n", 0, 13, ERR_MALFORMED},
    {"a long version", "GET / HTTP/1.10\r\n", 0, 14, ERR_MALFORMED},
    {"another version", "GET / HTTP/3.0\r\n", 0, 11, ERR_MALFORMED},
    {"%00", "GET /a%00 HTTP/1.1\r\n", 0, 8, ERR_MALFORMED},
    {"no host in the target", "GET http:///a HTTP/1.1\r\n", 0, -1, ERR_MALFORMED},
    {"a NUL in a value", HEAD "A: b\0c\r\n\r\n", sizeof HEAD - 1 + 10, sizeof HEAD - 1 + 4,
     ERR_MALFORMED},
    {"a bare CR", HEAD "A: b\rc\r\n\r\n", 0, sizeof HEAD - 1 + 5, ERR_MALFORMED},
    {"folded", HEAD "A: b\r\n c\r\n\r\n", 0, sizeof HEAD - 1 + 6, ERR_MALFORMED},
    {"no colon", HEAD "A\r\n", 0, sizeof HEAD, ERR_MALFORMED},
    {"no Host", "GET / HTTP/1.1\r\nA: b\r\n\r\n", 0, 23, ERR_MALFORMED},
    {"two Hosts", HEAD "host: h\r\n\r\n", 0, sizeof HEAD - 1 + 10, ERR_MALFORMED},
    {"two numbers", HEAD "Content-Length: 1 2\r\n\r\n", 0, sizeof HEAD - 1 + 17, ERR_MALFORMED},
    {"two lengths", HEAD "Content-Length: 1\r\nContent-Length: 1\r\n\r\n", 0, -1, ERR_MALFORMED},
    {"too long", HEAD "Content-Length: 1001\r\n\r\n", 0, -1, ERR_BODY_TOO_LARGE},
    {"beyond 64 bits", HEAD "Content-Length: 99999999999999999999999\r\n\r\n", 0, -1,
     ERR_BODY_TOO_LARGE},
    {"2^64", HEAD "Content-Length: 18446744073709551616\r\n\r\n", 0, -1, ERR_BODY_TOO_LARGE},
    {"both", HEAD "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 0, -1, ERR_MALFORMED},
    {"a name that only begins so", HEAD "Transfer-Encodings: x\r\nContent-Lengthy: y\r\n\r\n", 0,
     sizeof HEAD - 1 + 45, ERR_NONE},
    {"chunked and more", HEAD "Transfer-Encoding: chunked x\r\n\r\n", 0, -1, ERR_MALFORMED},
    /* The library takes these for no number, for no encoding and for no chunk. */
    {"a number and a space", HEAD "Content-Length: 1 \r\n\r\n", 0, sizeof HEAD - 1 + 17,
     ERR_MALFORMED},
    {"chunked and a tab", HEAD "Transfer-Encoding: chunked\t\r\n\r\n", 0, -1, ERR_MALFORMED},
    {"a chunk's size and a space", TE "1 \r\na\r\n0\r\n\r\n", 0, sizeof TE, ERR_MALFORMED},
    {"a cookie's half a pair", HEAD "Cookie: a=b; c=\"\r\n\r\n", 0, sizeof HEAD - 1 + 16,
     ERR_MALFORMED},
    {"cookies with quotes", HEAD "Cookie: a=\"\"; b=\"c=\"\r\nA: =\"\r\n\r\n", 0,
     sizeof HEAD - 1 + 31, ERR_NONE},
    {"gzip, chunked", HEAD "Transfer-Encoding: gzip, chunked\r\n\r\n", 0, -1, ERR_MALFORMED},
    {"chunked in 1.0", "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 0, -1,
     ERR_MALFORMED},
    {"no size", TE "\r\n", 0, sizeof TE - 1, ERR_MALFORMED},
    {"a sign", TE "-1\r\n", 0, sizeof TE - 1, ERR_MALFORMED},
    {"0x", TE "0x1\r\n", 0, sizeof TE, ERR_MALFORMED},
    {"a chunk too large", TE "ffffffffffffffffffff", 0, -1, ERR_BODY_TOO_LARGE},
    {"a chunk too long", TE "1\r\nab\r\n", 0, sizeof TE - 1 + 4, ERR_MALFORMED},
    {"a chunk and LF", TE "1\r\na\n", 0, sizeof TE - 1 + 4, ERR_MALFORMED},
    {"a size and LF", TE "1\na", 0, sizeof TE, ERR_MALFORMED},
    {"a bad trailer", TE "0\r\nA\r\n\r\n", 0, -1, ERR_MALFORMED},
};

/* Feeds pieces of one length; returns what passed. Stops at a fault or where a message ends. */
static size_t feed(framing *f, str bytes, size_t piece) {
    size_t at = 0;
    while (at < bytes.len) {
        size_t n = piece < bytes.len - at ? piece : bytes.len - at;
        uint64_t left = framing_body_left(f);
        size_t good = framing_feed(f, str_make(bytes.ptr + at, n));
        assert_true(good <= n && (left < n || good == n));
        at += good;
        if (good < n) break;
    }
    return at;
}

static void one_verdict_however_cut(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        str bytes = str_make(rows[i].bytes, rows[i].len ? rows[i].len : strlen(rows[i].bytes));
        size_t whole = 0;
        for (size_t piece = bytes.len; piece; piece--) {
            framing f;
            framing_init(&f, (framing_limits){MAX_HEAD, MAX_LENGTH});
            size_t n = feed(&f, bytes, piece);
            if (f.fault.code != rows[i].code)
                fail_msg("%s, pieces of %zu: code %d, %s", rows[i].name, piece, (int)f.fault.code,
                         f.fault.message);
            if (piece == bytes.len) whole = n;
            /* Where a piece ends with the message, the next one goes on with the next message. */
            if (rows[i].code && n != whole)
                fail_msg("%s, pieces of %zu: %zu bytes passed, not %zu", rows[i].name, piece, n,
                         whole);
            if (piece == bytes.len && rows[i].n_good >= 0 && n != (size_t)rows[i].n_good)
                fail_msg("%s: %zu bytes passed, not %d", rows[i].name, n, rows[i].n_good);
            if (rows[i].code) assert_int_equal(framing_feed(&f, STR("GET")), 0);
        }
    }
}

static void heads_have_limits(void **state) {
    (void)state;
    char bytes[4 * FRAMING_MAX_FIELDS + 100];
    framing f;
    framing_init(&f, (framing_limits){sizeof bytes, MAX_LENGTH});
    strcpy(bytes, HEAD);
    for (int i = 0; i < FRAMING_MAX_FIELDS; i++) strcat(bytes, "a:\r\n");
    framing_feed(&f, str_from(bytes));
    assert_int_equal(f.fault.code, ERR_HEADER_TOO_LARGE);
    framing_init(&f, (framing_limits){MAX_HEAD, MAX_LENGTH});
    assert_int_equal(framing_feed(&f, str_from(bytes)), MAX_HEAD);
    assert_int_equal(f.fault.code, ERR_HEADER_TOO_LARGE);
    /* The library keeps each cookie apart. */
    framing_init(&f, (framing_limits){sizeof bytes, MAX_LENGTH});
    strcpy(bytes, HEAD "cookie: ");
    for (int i = 0; i < FRAMING_MAX_FIELDS; i++) strcat(bytes, i % 2 ? "a;" : "b,");
    framing_feed(&f, str_from(bytes));
    assert_int_equal(f.fault.code, ERR_HEADER_TOO_LARGE);
    /* Trailers count, and so does the line before a chunk. */
    framing_init(&f, (framing_limits){MAX_HEAD, MAX_LENGTH});
    strcpy(bytes, TE "0\r\nA: ");
    memset(bytes + strlen(bytes), 'x', MAX_HEAD + 1);
    assert_true(framing_feed(&f, str_make(bytes, sizeof TE + 6 + MAX_HEAD)) <=
                sizeof TE + MAX_HEAD);
    assert_int_equal(f.fault.code, ERR_HEADER_TOO_LARGE);
    framing_init(&f, (framing_limits){sizeof bytes, MAX_LENGTH});
    strcpy(bytes, TE "0");
    memset(bytes + sizeof TE, '0', FRAMING_MAX_CHUNK_LINE + 1);
    framing_feed(&f, str_make(bytes, sizeof TE + FRAMING_MAX_CHUNK_LINE + 1));
    assert_int_equal(f.fault.code, ERR_MALFORMED);
}

static void the_target_is_kept(void **state) {
    (void)state;
    framing f;
    framing_init(&f, (framing_limits){MAX_HEAD, MAX_LENGTH});
    framing_feed(&f, STR("POST /v1/messages HTTP/1.1\r\n\r\n"));
    assert_string_equal(f.target, "/v1/messages");
    framing_init(&f, (framing_limits){MAX_HEAD, MAX_LENGTH});
    char line[200] = "GET /";
    memset(line + 5, 'a', 100);
    framing_feed(&f, str_from(line));
    assert_int_equal(strlen(f.target), FRAMING_TARGET - 1);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_verdict_however_cut),
        cmocka_unit_test(heads_have_limits),
        cmocka_unit_test(the_target_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
