/* The scanner that sees a connection's bytes first and the HTTP library that gets what it lets pass read
 * the same messages in them: as many, with the same bodies, and where the scanner refuses, everything
 * before was answered. Streams of pipelined requests, right, odd and damaged, cut anywhere.
 * ORIEL_HTTP_STREAMS sets how many. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/http.h"
#include "api/http_framing.h"
#include "base/hash.h"

enum { N_STREAMS = 600, PATIENCE_S = 20 };

static uint64_t seed, n_drawn;
static size_t below(size_t n) {
    return (size_t)(rng_at(seed, n_drawn++) % n);
}

/* ── the server: says how long each body was, and its hash ── */

static bool admit(void *ctx, http_req *r, error *err) {
    (void)ctx, (void)r, (void)err;
    return true;
}

static void print_body(buf *out, str body) {
    buf_printf(out, "<%zu %016llx>", body.len, (unsigned long long)hash_str(body));
}

static void handle(void *ctx, http_req *r) {
    (void)ctx;
    buf seen = {0}, body = {0};
    print_body(&seen, http_body(r));
    http_add_header(r, "x-seen", seen.ptr);
    buf_deinit(&seen);
    buf_append_cstr(&body, "ok");
    http_reply(r, 200, "text/plain", &body);
}

static void render_error(void *ctx, http_req *r, const error *err, buf *out) {
    (void)ctx, (void)r;
    buf_printf(out, "typed: %s", err->message);
}

/* ── streams ── */

#define ONE_OF(list) list[below(sizeof list / sizeof list[0])]

static const char *const methods[] = {"GET",     "POST",   "POST", "PUT",    "HEAD",
                                      "OPTIONS", "DELETE", "FOO",  "CONNECT"};
static const char *const targets[] = {"/",        "/a?b=c&d",  "*",     "http://h/x", "/%41%2f",
                                      "/a?&&&?=", "//",        "x",     "/?%",        "/%zz",
                                      "/#f",      "/\x80\xFF", "/a?=b", "HTTP://h",   "/?%0a"};
static const char *const versions[] = {"1.1", "1.1", "1.1", "1.1", "1.2", "1.0"};
static const char *const before[] = {" ", " ", " ", "", " \t", "\t"};
static const char *const behind[] = {"", "", "", "", "", "", "", "", " ", "\t"};
static const char *const fields[] = {
    "X-A: b",
    "X:",
    "Cookie: a=b; c=d",
    "Cookie: ;;,;=;\"",
    "Cookie: a=\"",
    "Cookie: a=\"b;c\"",
    "Expect: 100-continue",
    "Accept: \x80\xFF",
    "Connection: keep-alive",
    "Connection: Upgrade, HTTP2-Settings",
    "Upgrade: h2c",
    "TE: trailers",
    "Content-Type: multipart/form-data; boundary=x",
    "Content-Type: application/x-www-form-urlencoded",
    "Authorization: Basic eDp5",
    "!#$%&'*+-.^_`|~: a:b: c",
    "Content-Length-X: 4",
};
static const char *const extensions[] = {"",     "",     "", ";", "; a=b", ";a=\"b;\\\"c\"",
                                         " ; x", ";\x80"};
static const char *const trailers[] = {"X: y", "X:", "Content-Length: 5",
                                       "Transfer-Encoding: chunked", "Cookie: a=b"};

static void put_eol(buf *s) {
    buf_append_cstr(s, below(20) ? "\r\n" : "\n");
}

static void put_bytes(buf *s, size_t n) {
    static const char odd[] = "\r\n0 ";
    for (size_t i = 0; i < n; i++)
        buf_append_char(s, below(4) ? (char)('a' + below(26)) : odd[below(4)]);
}

static void put_chunks(buf *s, size_t n) {
    while (n) {
        size_t some = 1 + below(n < 2000 ? n : 2000), how = below(3);
        if (how == 0) buf_printf(s, "%zx", some);
        if (how == 1) buf_printf(s, "%zX", some);
        if (how == 2) buf_printf(s, "%012zx", some);
        buf_printf(s, "%s\r\n", ONE_OF(extensions));
        put_bytes(s, some);
        buf_append_cstr(s, "\r\n");
        n -= some;
    }
    buf_printf(s, "%s%s\r\n", below(3) ? "0" : "000", ONE_OF(extensions));
    while (!below(3)) buf_printf(s, "%s\r\n", ONE_OF(trailers));
    buf_append_cstr(s, "\r\n");
}

/* As much of one thing as the scanner lets pass, and a little more. */
static void put_plenty(buf *s) {
    size_t how = below(3), n = below(FRAMING_MAX_FIELDS + FRAMING_MAX_FIELDS / 8);
    if (how == 1) buf_append_cstr(s, "Cookie: ");
    if (how == 2) buf_printf(s, "X: %0*d", (int)below(HTTP_MAX_HEADER + 500) + 1, 0);
    for (size_t i = 0; i < n && how < 2; i++) buf_append_cstr(s, how ? "ab=c;" : "a: b\r\n");
    if (how) put_eol(s);
}

static void put_request(buf *s) {
    enum { NO_BODY, LENGTH, CHUNKS };
    static const char *const empty[] = {"\r\n", "\n", "\r\n\r\n"};
    if (!below(10)) buf_append_cstr(s, ONE_OF(empty));
    buf_printf(s, "%s %s HTTP/%s", ONE_OF(methods), ONE_OF(targets), ONE_OF(versions));
    put_eol(s);
    size_t body = below(3), n_fields = below(5), host = below(n_fields + 1),
           length = below(n_fields + 1), n = below(4) ? below(40) : below(30000);
    for (size_t i = 0; i <= n_fields; i++) {
        if (i == host && below(40)) {
            buf_printf(s, "%s:%sh%s", below(2) ? "Host" : "hOST", ONE_OF(before), ONE_OF(behind));
            put_eol(s);
        }
        if (i == length && body == LENGTH) {
            buf_printf(s, "content-Length:%s%s%zu%s", ONE_OF(before), below(6) ? "" : "000", n,
                       ONE_OF(behind));
            put_eol(s);
        }
        if (i == length && body == CHUNKS) {
            buf_printf(s, "transfer-Encoding:%s%s%s", ONE_OF(before),
                       below(3) ? "chunked" : "Chunked", ONE_OF(behind));
            put_eol(s);
        }
        if (below(3)) {
            buf_printf(s, "%s%s", ONE_OF(fields), ONE_OF(behind));
            put_eol(s);
        }
    }
    if (!below(40)) put_plenty(s);
    put_eol(s);
    if (body == LENGTH) put_bytes(s, n);
    if (body == CHUNKS) put_chunks(s, n);
}

static void damage(buf *s) {
    static const char bytes[] = "\r\n \t:;0129aAfF%/?&=\x7F\x80,-+xH";
    for (size_t n = 1 + below(3); n; n--) {
        size_t near = s->len < 400 ? s->len : 400, at = below(below(3) ? near : s->len);
        char c = bytes[below(sizeof bytes)]; /* its NUL too */
        size_t how = below(3);
        if (how == 0) s->ptr[at] = c;
        if (how == 1) memmove(s->ptr + at, s->ptr + at + 1, --s->len - at);
        if (how == 2 && buf_reserve(s, 1)) {
            memmove(s->ptr + at + 1, s->ptr + at, s->len++ - at);
            s->ptr[at] = c;
        }
    }
}

/* ── both readings ── */

/* The scanner's: "<length hash>" for each message, "!" where it refuses. *more: after an HTTP/1.0 message,
 * which may be the connection's last. False: the stream ends within a message. */
static bool read_alone(str bytes, buf *out, bool *more) {
    framing f;
    framing_init(&f, (framing_limits){HTTP_MAX_HEADER, HTTP_MAX_BODY});
    buf body = {0};
    int minor = 1;
    bool between = true, refused = false;
    *more = false;
    for (size_t i = 0; i < bytes.len && !*more && !refused; i++) {
        if (framing_body_left(&f)) buf_append_char(&body, bytes.ptr[i]);
        if (!framing_feed(&f, str_make(bytes.ptr + i, 1))) {
            refused = true;
            break;
        }
        between = f.n_head == 0; /* it starts afresh */
        if (!between) {
            minor = f.minor;
            continue;
        }
        print_body(out, buf_str(&body));
        buf_clear(&body);
        *more = minor == 0;
        minor = 1;
    }
    if (refused) buf_append_char(out, '!');
    buf_deinit(&body);
    return between || refused;
}

/* The server's, from its answers; "?" for one that is not ours. */
static void read_answers(const char *text, buf *out) {
    for (const char *at = text; (at = strstr(at, "HTTP/1.1 ")); at++) {
        const char *end = strstr(at, "\r\n\r\n"), *seen = strstr(at, "x-seen: ");
        int status = atoi(at + strlen("HTTP/1.1 "));
        if (!end || status == 100) continue;
        if (status == 200 && seen && seen < end) {
            seen += strlen("x-seen: ");
            buf_append(out, seen, strcspn(seen, "\r"));
        } else {
            buf_append_char(out, strncmp(end + 4, "typed: ", 7) == 0 ? '!' : '?');
        }
    }
}

static void converse(int port, str bytes, buf *answers) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
    struct timeval patience = {.tv_sec = PATIENCE_S};
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    size_t most = below(2) ? bytes.len : 1 + below(300);
    for (size_t at = 0; at < bytes.len;) {
        size_t left = bytes.len - at;
        ssize_t n = send(fd, bytes.ptr + at, 1 + below(left < most ? left : most), MSG_NOSIGNAL);
        if (n <= 0) break; /* it was refused, and ended */
        at += (size_t)n;
    }
    for (ssize_t n = 1; n > 0;) {
        char *at = buf_reserve(answers, 4096);
        n = recv(fd, at, 4096, 0);
        if (n > 0) answers->len += (size_t)n;
    }
    buf_append_char(answers, 0);
    close(fd);
}

static void one_reading(void **state) {
    (void)state;
    static const http_app app = {.admit = admit, .handle = handle, .render_error = render_error};
    const char *asked = getenv("ORIEL_HTTP_STREAMS");
    long n_streams = asked ? atol(asked) : N_STREAMS;
    error err = {0};
    http_server *s = http_open(&(http_options){.host = "127.0.0.1", .n_threads = 1}, &app, &err);
    if (!s) fail_msg("%s", err.message);
    buf bytes = {0}, want = {0}, have = {0}, answers = {0};
    for (long i = 0; i < n_streams; i++) {
        seed = (uint64_t)i;
        n_drawn = 0;
        buf_clear(&bytes);
        buf_clear(&want);
        buf_clear(&have);
        buf_clear(&answers);
        for (size_t n = 1 + below(4); n; n--) put_request(&bytes);
        if (below(2)) damage(&bytes);
        buf_append_cstr(&bytes, "GET /end HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        bool more;
        if (!read_alone(buf_str(&bytes), &want, &more)) continue;
        converse(http_get_port(s), buf_str(&bytes), &answers);
        read_answers(answers.ptr, &have);
        if (!have.ptr || (more ? !str_starts(buf_str(&have), buf_str(&want))
                               : !str_eq(buf_str(&have), buf_str(&want))))
            fail_msg("stream %ld: the scanner reads %s, the server answers %s", i, want.ptr,
                     have.ptr ? have.ptr : "nothing");
    }
    buf_deinit(&bytes);
    buf_deinit(&want);
    buf_deinit(&have);
    buf_deinit(&answers);
    http_close(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(one_reading)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
