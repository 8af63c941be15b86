/* Any bytes to the open port: what comes back is well-formed answers, one after the other, and the
 * connection ends; nothing is left behind. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/http.h"
#include "fuzz.h"

static bool admit(void *ctx, http_req *r, error *err) {
    (void)ctx;
    if (strstr(http_path(r), "no")) return error_set(err, ERR_UNAUTHORIZED, NULL, "No.");
    return true;
}

static http_pull_result pull(http_req *r, void *ctx, buf *out) {
    (void)ctx;
    buf_printf(out, "data: %zu\n\n", http_body(r).len);
    return HTTP_DONE;
}

static void handle(void *ctx, http_req *r) {
    (void)ctx;
    buf out = {0};
    const char *host = http_header(r, "Host"), *query = http_query(r, "q");
    buf_printf(&out, "%s %s %s %s", http_method(r), http_path(r), host ? host : "-",
               query ? query : "-");
    if (strstr(http_path(r), "stream")) {
        buf_deinit(&out);
        http_reply_stream(r, "text/event-stream", pull, NULL);
    } else
        http_reply(r, 200, "text/plain", &out);
}

static void render_error(void *ctx, http_req *r, const error *err, buf *out) {
    (void)ctx, (void)r;
    buf_append_cstr(out, err->message);
}

static http_server *open_server(void) {
    static const http_app app = {.admit = admit, .handle = handle, .render_error = render_error};
    error err = {0};
    http_options o = {.host = "127.0.0.1", .n_threads = 1};
    http_server *s = http_open(&o, &app, &err);
    EXPECT(s);
    return s;
}

/* The value of a header in the head, or NULL. */
static const char *find(const char *head, const char *name) {
    const char *at = strcasestr(head, name);
    return at ? at + strlen(name) : NULL;
}

static void check_answers(char *at, size_t left, bool is_head) {
    while (left) {
        EXPECT(left > 12 && strncmp(at, "HTTP/1.1 ", 9) == 0);
        int status = (int)strtol(at + 9, NULL, 10);
        EXPECT(status >= 100 && status < 600 && status != 500);
        char *end = strstr(at, "\r\n\r\n");
        EXPECT(end);
        end[2] = 0;
        const char *length = find(at, "\r\nContent-Length: ");
        bool is_ours = find(at, "\r\nx-request-id: ") || status == 100;
        char *body = end + 4;
        left -= (size_t)(body - at);
        at = body;
        if (status == 100 || status == 204) continue;
        EXPECT(is_ours);     /* never the library's own page */
        if (is_head) return; /* which answers have a body is not seen from here */
        if (!length) return; /* a stream: until the connection ends, or in chunks */
        size_t n = strtoul(length, NULL, 10);
        EXPECT(n <= left);
        at += n;
        left -= n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static http_server *s;
    if (!s) s = open_server();
    if (size > 60000) return 0;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 10};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct linger now = {1, 0}; /* no TIME_WAIT: there are only so many ports */
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)http_get_port(s)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    EXPECT(connect(fd, (struct sockaddr *)&to, sizeof to) == 0);
    bool all = true;
    for (size_t at = 0; at < size && all;) {
        ssize_t n = send(fd, data + at, size - at, MSG_NOSIGNAL);
        all = n > 0; /* it may have hung up on us */
        if (all) at += (size_t)n;
    }
    shutdown(fd, SHUT_WR);
    static char got[1 << 20];
    size_t len = 0;
    for (ssize_t n = 1; n > 0 && len + 1 < sizeof got; len += n > 0 ? (size_t)n : 0) {
        n = recv(fd, got + len, sizeof got - 1 - len, 0);
        EXPECT(n >= 0 || errno == ECONNRESET); /* else it let us wait for nothing */
    }
    got[len] = 0;
    close(fd);
    EXPECT(memchr(got, 0, len) == NULL);
    bool is_head = memmem(data, size, "HEAD", 4) != NULL;
    if (all) check_answers(got, len, is_head);
    /* The request is freed before the connection ends, or right after. */
    for (int i = 0; http_get_stats(s).n_active > 0; i++) {
        EXPECT(i < 5000);
        usleep(1000);
    }
    EXPECT(http_get_stats(s).body_bytes == 0);
    return 0;
}
