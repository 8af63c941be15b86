/* The HTTP layer alone, with an app that knows nothing of models: targets, limits, clients that do
 * not read, requests that take long to read, and what is left over afterwards. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/http.h"
#include "base/clock.h"

enum { PATIENCE_S = 20 }; /* longer is a failure, not a slow machine */

/* ── the app ── */

static sem_t go_on;            /* /wait's handler blocks here */
static atomic_int n_waits;     /* handlers that are blocked */
static atomic_int n_living;    /* requests whose end was not told */
static atomic_bool say_words;  /* /events has something to say */
static atomic_size_t order[8]; /* the lengths of bodies that came to /wait, as they were read */
static atomic_size_t n_order;

static void end_one(void *ctx) {
    (void)ctx;
    atomic_fetch_sub(&n_living, 1);
}

static bool admit(void *ctx, http_req *r, error *err) {
    (void)ctx, (void)r, (void)err;
    return true;
}

static http_pull_result pull_endless(http_req *r, void *ctx, buf *out) {
    (void)r, (void)ctx;
    char *to = buf_reserve(out, 4096);
    if (!to) return HTTP_ABORT;
    memset(to, 'x', 4096);
    out->len += 4096;
    return HTTP_MORE;
}

static http_pull_result pull_quiet(http_req *r, void *ctx, buf *out) {
    (void)r, (void)ctx;
    if (!atomic_load(&say_words)) return HTTP_WAIT;
    buf_append_cstr(out, "word");
    return HTTP_DONE;
}

static bool step_never(http_req *r, void *ctx) {
    (void)r, (void)ctx;
    return false;
}

static void handle(void *ctx, http_req *r) {
    (void)ctx;
    atomic_fetch_add(&n_living, 1);
    http_own(r, r, end_one);
    const char *path = http_path(r);
    buf body = {0};
    if (strcmp(path, "/endless") == 0) {
        http_reply_stream(r, "text/event-stream", pull_endless, NULL);
    } else if (strcmp(path, "/events") == 0) {
        http_reply_stream(r, "text/event-stream", pull_quiet, NULL);
    } else if (strcmp(path, "/sound") == 0) {
        http_reply_stream(r, "audio/pcm", pull_quiet, NULL);
    } else if (strcmp(path, "/full") == 0) {
        arena_alloc(http_arena(r), SIZE_MAX / 2);
        int n_before = atomic_fetch_add(&n_living, 1);
        http_own(r, r, end_one);
        buf_printf(&body, "%s", atomic_load(&n_living) > n_before ? "kept" : "lost");
        http_reply(r, 200, "text/plain", &body);
    } else if (strcmp(path, "/never") == 0) {
        http_reply_later(r, step_never, NULL);
    } else {
        if (strcmp(path, "/wait") == 0) {
            size_t n = atomic_fetch_add(&n_order, 1);
            if (n < 8) atomic_store(&order[n], http_body(r).len);
            atomic_fetch_add(&n_waits, 1);
            while (sem_wait(&go_on) != 0 && errno == EINTR) continue;
            atomic_fetch_sub(&n_waits, 1);
        }
        const char *host = http_header(r, "host");
        buf_printf(&body, "%s at %s: %zu", path, host ? host : "nowhere", http_body(r).len);
        http_reply(r, 200, "text/plain", &body);
    }
}

static void render_error(void *ctx, http_req *r, const error *err, buf *out) {
    (void)ctx, (void)r;
    buf_printf(out, "typed: %s", err->message);
}

static http_server *open_server(http_options o) {
    static const http_app app = {.admit = admit, .handle = handle, .render_error = render_error};
    error err = {0};
    o.host = "127.0.0.1";
    o.n_threads = HTTP_THREADS;
    http_server *s = http_open(&o, &app, &err);
    if (!s) fail_msg("%s", err.message);
    return s;
}

static void close_server(http_server *s) {
    http_close(s);
    assert_int_equal(atomic_load(&n_living), 0);
}

/* ── a client ── */

static int dial(const http_server *s, int receive_buffer) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    if (receive_buffer)
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
    struct timeval patience = {.tv_sec = PATIENCE_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)http_get_port(s)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void say(int fd, const char *text, size_t len) {
    for (size_t at = 0; at < len;) {
        ssize_t n = send(fd, text + at, len - at, MSG_NOSIGNAL);
        if (n <= 0) fail_msg("send: %s", strerror(errno));
        at += (size_t)n;
    }
}
static void say_text(int fd, const char *text) {
    say(fd, text, strlen(text));
}

/* Reads until `end` was seen or the server closed; false when the time was up before. */
static bool hear(int fd, const char *end, char *into, size_t cap) {
    size_t len = 0;
    while (len + 1 < cap) {
        ssize_t n = recv(fd, into + len, cap - 1 - len, 0);
        if (n < 0) return false;
        len += (size_t)n;
        into[len] = 0;
        if (n == 0 || (end && strstr(into, end))) return true;
    }
    return true;
}

static char answer[65536];
static const char *ask(const http_server *s, const char *request) {
    int fd = dial(s, 0);
    say_text(fd, request);
    answer[0] = 0;
    if (!hear(fd, NULL, answer, sizeof answer)) fail_msg("no answer to: %.60s", request);
    close(fd);
    return answer;
}
#define assert_says(text, what)                                                     \
    do {                                                                            \
        const char *said_ = (text);                                                 \
        if (!strstr(said_, what)) fail_msg("'%s' is not in '%.300s'", what, said_); \
    } while (0)

static bool wait_until(bool (*is_so)(void *), void *ctx) {
    for (int64_t end = clock_ns() + PATIENCE_S * (int64_t)1000000000; clock_ns() < end;) {
        if (is_so(ctx)) return true;
        usleep(2000);
    }
    return false;
}
static bool is_nobody(void *ctx) {
    (void)ctx;
    return atomic_load(&n_living) == 0;
}
static bool are_waiting(void *ctx) {
    return atomic_load(&n_waits) == *(int *)ctx;
}

/* ── the tests ── */

static void targets(void **state) {
    (void)state;
    http_server *s = open_server((http_options){0});
#define TAIL " HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"
    assert_says(ask(s, "GET /a%20b?c=d" TAIL), "/a b at here: 0");
    assert_says(ask(s, "GET http://there:8/a?c=d" TAIL), "/a at there:8: 0");
    assert_says(ask(s, "GET HTTPS://there/a/b" TAIL), "/a/b at there: 0");
    assert_says(ask(s, "GET http://there" TAIL), "/ at there: 0");
    assert_says(ask(s, "GET http:///a" TAIL), "HTTP/1.1 400");
    assert_says(ask(s, "OPTIONS *" TAIL), "* at here: 0");
    /* Cut at the NUL, the path would be another one. */
    assert_says(ask(s, "GET /a%00b" TAIL), "typed: ");
    assert_says(ask(s, "GET /a?x=%00b" TAIL), "typed: ");
    assert_says(
        ask(s, "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"),
        "typed: ");
    assert_says(ask(s, "POST /a HTTP/1.0\r\nContent-Length: 2\r\n\r\nab"), "/a at nowhere: 2");
    close_server(s);
}

static void headers_have_a_limit(void **state) {
    (void)state;
    http_server *s = open_server((http_options){0});
    static char request[HTTP_MAX_HEADER + 1000];
    for (int many = 0; many < 2; many++) {
        size_t n = (size_t)snprintf(request, sizeof request, "GET /a HTTP/1.1\r\nHost: here\r\n");
        if (many)
            for (int i = 0; n < HTTP_MAX_HEADER; i++)
                n += (size_t)snprintf(request + n, sizeof request - n, "X-%d: %0100d\r\n", i, i);
        else
            n += (size_t)snprintf(request + n, sizeof request - n, "X: %0*d\r\n", HTTP_MAX_HEADER,
                                  1);
        snprintf(request + n, sizeof request - n, "\r\n");
        const char *got = ask(s, request);
        assert_says(got, "HTTP/1.1 431");
        assert_says(got, "typed: ");
    }
    snprintf(request, sizeof request,
             "GET /a HTTP/1.1\r\nHost: here\r\nConnection: close\r\nX: %0*d\r\n\r\n",
             HTTP_MAX_HEADER - 200, 1);
    assert_says(ask(s, request), "HTTP/1.1 200");
    close_server(s);
}

static int post(const http_server *s, const char *path, size_t n_body) {
    int fd = dial(s, 0);
    char head[200];
    snprintf(head, sizeof head, "POST %s HTTP/1.1\r\nHost: here\r\nContent-Length: %zu\r\n\r\n",
             path, n_body);
    say_text(fd, head);
    char *body = calloc(1, n_body ? n_body : 1);
    say(fd, body, n_body);
    free(body);
    return fd;
}

/* While one large request is being read, the others are answered; many of them wait in line. */
static void a_large_body_holds_up_nobody(void **state) {
    (void)state;
    http_server *s = open_server((http_options){0});
    enum { N = 3 };
    int fds[N + 1], one = 1;
    for (int i = 0; i < N; i++) fds[i] = post(s, "/wait", HTTP_LIGHT_BODY + 1);
    assert_true(wait_until(are_waiting, &one));
    fds[N] = post(s, "/never", HTTP_LIGHT_BODY + 1);
    for (int i = 0; i < 5; i++)
        assert_says(ask(s, "GET /light HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"),
                    "/light at here");
    assert_int_equal(atomic_load(&n_waits), 1);
    close(fds[1]); /* it leaves before its turn comes */
    for (int i = 0; i < N; i++) sem_post(&go_on);
    for (int i = 0; i < N; i += 2) {
        assert_true(hear(fds[i], "/wait at here: 16385", answer, sizeof answer));
        assert_says(answer, "HTTP/1.1 200");
        close(fds[i]);
    }
    close(fds[N]);
    assert_true(wait_until(is_nobody, NULL));
    while (sem_trywait(&go_on) == 0) continue;
    close_server(s);
}

/* What a handler gave for keeping it goes on to use. */
static void owning_needs_no_memory(void **state) {
    (void)state;
    http_server *s = open_server((http_options){0});
    assert_says(ask(s, "GET /full HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"), "kept");
    assert_true(wait_until(is_nobody, NULL));
    close_server(s);
}

/* What is no HTTP waits its turn behind the request before it, which is answered. */
static void garbage_after_a_request_waits(void **state) {
    (void)state;
    http_server *s = open_server((http_options){0});
    int one = 1, fd = post(s, "/wait", HTTP_LIGHT_BODY + 1);
    say_text(fd, " garbage");
    assert_true(wait_until(are_waiting, &one));
    sem_post(&go_on);
    assert_true(hear(fd, "typed: ", answer, sizeof answer));
    close(fd);
    assert_says(answer, "/wait at here: 16385HTTP/1.1 400");
    assert_true(wait_until(is_nobody, NULL));
    close_server(s);
}

static bool are_here(void *ctx) {
    enum { ALL = 5 };
    return http_get_stats(ctx).body_bytes >= (int64_t)ALL * (HTTP_LIGHT_BODY + 1) + 600;
}

static void the_smaller_ones_are_read_first(void **state) {
    (void)state;
    http_server *s = open_server((http_options){0});
    static const size_t more[] = {0, 200, 300, 100,
                                  0}; /* the first is being read when the others come */
    int fds[5], one = 1;
    atomic_store(&n_order, 0);
    for (int i = 0; i < 5; i++) {
        fds[i] = post(s, "/wait", HTTP_LIGHT_BODY + 1 + more[i]);
        if (i == 0) assert_true(wait_until(are_waiting, &one));
    }
    assert_true(wait_until(are_here, s));
    assert_says(ask(s, "GET /light HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"),
                "/light at");
    for (int i = 0; i < 5; i++) sem_post(&go_on);
    for (int i = 0; i < 5; i++) {
        assert_true(hear(fds[i], "/wait at here: ", answer, sizeof answer));
        close(fds[i]);
    }
    static const size_t want[] = {0, 0, 100, 200, 300};
    for (int i = 0; i < 5; i++)
        assert_int_equal(atomic_load(&order[i]), HTTP_LIGHT_BODY + 1 + want[i]);
    assert_true(wait_until(is_nobody, NULL));
    close_server(s);
}

/* Two compressed bytes may be 32 MiB: they take the same way. */
static void a_compressed_body_does_neither(void **state) {
    (void)state;
    http_server *s = open_server((http_options){0});
    int one = 1, fd = dial(s, 0);
    static const char gz[] =
        "\x1f\x8b\x08\0\0\0\0\0\0\x03\x4b\x04\0\x43\xbe\xb7\xe8\x01\0\0\0"; /* "a" */
    char head[200];
    snprintf(
        head, sizeof head,
        "POST /wait HTTP/1.1\r\nHost: here\r\nContent-Encoding: gzip\r\nContent-Length: %zu\r\n\r\n",
        sizeof gz - 1);
    say_text(fd, head);
    say(fd, gz, sizeof gz - 1);
    assert_true(wait_until(are_waiting, &one));
    assert_says(ask(s, "GET /light HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"),
                "/light at here");
    sem_post(&go_on);
    assert_true(hear(fd, "/wait at here: 1", answer, sizeof answer));
    close(fd);
    close_server(s);
}

static void who_reads_nothing_is_cut(void **state) {
    (void)state;
    http_server *s = open_server((http_options){.stall_seconds = 1});
    int lazy = dial(s, 4096), slow = dial(s, 4096);
    say_text(lazy, "GET /endless HTTP/1.1\r\nHost: here\r\n\r\n");
    say_text(slow, "GET /endless HTTP/1.1\r\nHost: here\r\n\r\n");
    int alive = 1;
    for (int64_t end = clock_ns() + PATIENCE_S * (int64_t)1000000000; clock_ns() < end;) {
        char some[2048]; /* slowly, but it reads */
        assert_true(recv(slow, some, sizeof some, 0) > 0);
        usleep(2000);
        if (http_get_stats(s).n_active == alive && atomic_load(&n_living) == alive &&
            http_get_stats(s).n_requests == 2)
            break;
    }
    assert_int_equal(atomic_load(&n_living), 1);
    close(lazy);
    close(slow);
    assert_true(wait_until(is_nobody, NULL));
    close_server(s);
}

/* A comment keeps an event stream alive; in a sound it would be a click. */
static void only_events_are_pinged(void **state) {
    (void)state;
    http_server *s = open_server((http_options){.ping_seconds = 1});
    atomic_store(&say_words, false);
    int sound = dial(s, 0), events = dial(s, 0);
    say_text(sound, "GET /sound HTTP/1.0\r\n\r\n");
    say_text(events, "GET /events HTTP/1.0\r\n\r\n");
    assert_true(hear(sound, "\r\n\r\n", answer, sizeof answer));
    assert_true(hear(events, ": ping\n\n", answer, sizeof answer));
    static char more[4096]; /* by the second one the sound's turn has come too */
    assert_true(hear(events, ": ping\n\n", more, sizeof more));
    assert_int_equal(recv(sound, more, sizeof more, MSG_DONTWAIT), -1);
    atomic_store(&say_words, true);
    assert_true(hear(events, "word", more, sizeof more)); /* a ping asks again */
    close(events);
    close(sound);
    assert_true(wait_until(is_nobody, NULL));
    close_server(s);
}

static void bodies_have_a_bound_together(void **state) {
    (void)state;
    enum { BODY = 100000, N = 4 };
    http_server *s = open_server((http_options){.max_bodies = N * BODY + BODY / 2});
    int fds[N];
    for (int i = 0; i < N; i++) {
        char head[200];
        fds[i] = dial(s, 0);
        snprintf(head, sizeof head, "POST /a HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n",
                 BODY + 1);
        say_text(fds[i], head);
        static char zeros[BODY];
        say(fds[i], zeros, BODY);
    }
    for (int64_t end = clock_ns() + PATIENCE_S * (int64_t)1000000000;
         http_get_stats(s).body_bytes < N * BODY && clock_ns() < end;)
        usleep(1000);
    assert_int_equal(http_get_stats(s).body_bytes, N * BODY);
    int fd = post(s, "/a", BODY);
    assert_true(hear(fd, "typed: ", answer, sizeof answer));
    assert_says(answer, "HTTP/1.1 503");
    assert_says(answer, "Retry-After: ");
    close(fd);
    for (int i = 0; i < N; i++) {
        say(fds[i], "", 1);
        assert_true(hear(fds[i], "/a at here: 100001", answer, sizeof answer));
        close(fds[i]);
    }
    assert_true(wait_until(is_nobody, NULL));
    for (int64_t end = clock_ns() + PATIENCE_S * (int64_t)1000000000;
         http_get_stats(s).body_bytes && clock_ns() < end;)
        usleep(1000);
    assert_int_equal(http_get_stats(s).body_bytes, 0);
    close_server(s);
}

/* Idle connections and slow headers take all places: a new client gets one nevertheless. */
static void idle_connections_make_room(void **state) {
    (void)state;
    enum { PLACES = 8 };
    http_server *s = open_server((http_options){.max_connections = PLACES});
    int fds[PLACES];
    for (int i = 0; i < PLACES; i++) {
        fds[i] = dial(s, 0);
        if (i % 2) {
            say_text(fds[i], "GET /a HTTP/1.1\r\nHost: here\r\n\r\n");
            assert_true(hear(fds[i], "/a at here", answer, sizeof answer));
        } else {
            say_text(fds[i], "GET /a HTTP/1.1\r\nHo");
        }
    }
    for (int i = 0; i < PLACES; i++)
        assert_says(ask(s, "GET /new HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n"),
                    "/new at here");
    for (int i = 0; i < PLACES; i++) close(fds[i]);
    close_server(s);
}

static void closing_with_everything_in_flight(void **state) {
    (void)state;
    http_server *s = open_server((http_options){0});
    enum { EACH = 20 };
    static const char *const paths[] = {"/never", "/endless", "/events", "/wait"};
    int fds[EACH * 5], n = 0, one = 1;
    for (int i = 0; i < EACH; i++)
        for (int p = 0; p < 4; p++) fds[n++] = post(s, paths[p], p == 3 ? HTTP_LIGHT_BODY + 1 : 3);
    for (int i = 0; i < EACH; i++) {
        fds[n] = dial(s, 0);
        say_text(fds[n++], "POST /a HTTP/1.1\r\nHost: here\r\nContent-Length: 10\r\n\r\nhalf");
    }
    atomic_store(&say_words, false);
    assert_true(wait_until(are_waiting, &one));
    for (int i = 0; i < EACH; i++) sem_post(&go_on);
    close_server(s);
    for (int i = 0; i < n; i++) close(fds[i]);
    while (sem_trywait(&go_on) == 0) continue;
}

int main(void) {
    sem_init(&go_on, 0, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(targets),
        cmocka_unit_test(headers_have_a_limit),
        cmocka_unit_test(a_large_body_holds_up_nobody),
        cmocka_unit_test(owning_needs_no_memory),
        cmocka_unit_test(garbage_after_a_request_waits),
        cmocka_unit_test(the_smaller_ones_are_read_first),
        cmocka_unit_test(a_compressed_body_does_neither),
        cmocka_unit_test(who_reads_nothing_is_cut),
        cmocka_unit_test(only_events_are_pinged),
        cmocka_unit_test(bodies_have_a_bound_together),
        cmocka_unit_test(idle_connections_make_room),
        cmocka_unit_test(closing_with_everything_in_flight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
