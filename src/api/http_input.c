/* The bytes that clients send, seen before the HTTP library gets them.
 *
 * libmicrohttpd has no hook for a request that is not HTTP: it answers with a page of its own, and it
 * reads a header's value up to a NUL. So its recv() is ours: the program defines the symbol, which the
 * library takes from it instead of from libc (docs/decisions/0004). For a descriptor that is no connection
 * of ours this is recv() and nothing else. For one that is, the bytes pass a scanner (http_framing.h), one
 * message at a time; the first that may not pass is answered here, as JSON, and nothing after it is read
 * by anybody.
 */
#include "api/http_impl.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"

enum {
    MOST_FDS = 65536,
    LINGER_SECONDS =
        2, /* how long a client that was refused may go on sending before it is cut off */
    MOST_DISCARDS = 16, /* reads in a row of what such a client sends */
};

static _Atomic(http_conn *) by_fd[MOST_FDS];

bool http_input_open(http_conn *c) {
    if (c->fd < 0 || c->fd >= MOST_FDS) return false;
    framing_init(&c->framing, (framing_limits){HTTP_MAX_HEADER, HTTP_MAX_BODY});
    atomic_store(&by_fd[c->fd], c);
    return true;
}

void http_input_close(http_conn *c) {
    if (c->fd >= 0 && c->fd < MOST_FDS) atomic_store(&by_fd[c->fd], NULL);
}

static ssize_t receive(int fd, void *to, size_t n, int flags) {
    return (ssize_t)syscall(SYS_recvfrom, fd, to, n, flags, NULL, NULL);
}

/* Says why and stops sending; what still comes is thrown away, for closing on unread bytes would take the
 * answer from the client. */
static void refuse(http_conn *c) {
    http_server *s = c->server;
    const error *why = &c->framing.fault;
    int status = error_get_info(why->code)->http_status;
    http_req *r = http_req_new(s, NULL, c, "", c->framing.target);
    buf body = {0}, answer = {0};
    char date[40];
    time_t now = time(NULL);
    struct tm utc;
    c->refused = true;
    if (r) {
        s->app.render_error(s->app.ctx, r, why, &body);
        strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &utc));
        buf_printf(
            &answer,
            "HTTP/1.1 %d %s\r\nDate: %s\r\nConnection: close\r\nContent-Type: application/json\r\n"
            "x-request-id: %s\r\nContent-Length: %zu\r\n\r\n",
            status, MHD_get_reason_phrase_for((unsigned)status), date, r->id, body.len);
        buf_append_str(&answer, buf_str(&body));
        http_req_free(r);
    }
    if (answer.failed || body.failed ||
        send(c->fd, answer.ptr, answer.len, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)answer.len)
        log_line(LOG_DEBUG, "http", "a refused client was not told why");
    buf_deinit(&body);
    buf_deinit(&answer);
    atomic_fetch_add(&s->n_requests, 1);
    atomic_fetch_add(&s->n_status[status / 100], 1);
    http_set_phase(s, c, PHASE_IDLE, LINGER_SECONDS);
    shutdown(c->fd, SHUT_WR);
}

static ssize_t discard(const http_conn *c, void *to, size_t n) {
    for (int i = 0; i < MOST_DISCARDS; i++) {
        ssize_t got = receive(c->fd, to, n, MSG_DONTWAIT);
        if (got <= 0) return got;
    }
    errno = EAGAIN;
    return -1;
}

static ssize_t read_some(http_conn *c, void *to, size_t n) {
    c->seen = true;
    if (c->refused) return discard(c, to, n);
    if (c->req) { /* the next message waits until this one is answered */
        errno = EAGAIN;
        return -1;
    }
    uint64_t unseen = framing_body_left(&c->framing);
    if (unseen && n > unseen) n = (size_t)unseen;
    ssize_t got = receive(c->fd, to, n, unseen ? MSG_DONTWAIT : MSG_DONTWAIT | MSG_PEEK);
    if (got <= 0) return got;
    size_t good = framing_feed(&c->framing, str_make(to, (size_t)got));
    if (unseen) return got;
    if (good) return receive(c->fd, to, good, MSG_DONTWAIT);
    refuse(c);
    return discard(c, to, n);
}

/* What the library calls. */
__attribute__((visibility("default"))) ssize_t recv(int fd, void *to, size_t n, int flags) {
    http_conn *c = fd >= 0 && fd < MOST_FDS && flags == 0 ? atomic_load(&by_fd[fd]) : NULL;
    return c && n ? read_some(c, to, n) : receive(fd, to, n, flags);
}
