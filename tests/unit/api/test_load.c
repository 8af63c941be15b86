/* The server under bad neighbours, counted in steps of the engine, not in time: the model takes a step
 * only when the test allows one, so it is known exactly which step a client's leaving falls into and
 * what the next one runs. */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
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

#include "api/serve.h"
#include "base/clock.h"
#include "model/impl.h"
#include "tiny_vocab.h"

enum { PATIENCE_S = 30, CONTEXT = 512, N_PARALLEL = 4, N_QUEUE = 3 };

/* ── a model that waits to be allowed ── */

static struct gate {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_open;          /* steps are free */
    int n_allowed;         /* further steps that may run */
    int n_entered, n_over; /* steps begun, and ended or given up */
    int n_spans;           /* sequences of the step begun last */
} gate = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, false, 0, 0, 0, 0};

static bool (*run_step)(model_ctx *, model_span *, int, const atomic_bool *);

static bool gated_forward(model_ctx *c, model_span *spans, int n, const atomic_bool *cancel) {
    pthread_mutex_lock(&gate.lock);
    gate.n_entered++;
    gate.n_spans = n;
    pthread_cond_broadcast(&gate.changed);
    bool stopped = false;
    while (!gate.is_open && gate.n_allowed == 0 && !stopped) {
        struct timespec soon;
        clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_nsec += 2000000;
        if (soon.tv_nsec >= 1000000000) soon.tv_sec++, soon.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&gate.changed, &gate.lock, &soon);
        stopped = cancel && atomic_load(cancel);
    }
    if (!gate.is_open && !stopped) gate.n_allowed--;
    pthread_mutex_unlock(&gate.lock);
    bool ok = !stopped && run_step(c, spans, n, cancel);
    pthread_mutex_lock(&gate.lock);
    gate.n_over++;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    return ok;
}

static void allow(int n) {
    pthread_mutex_lock(&gate.lock);
    gate.n_allowed += n;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
}

/* Until the engine stands before a step that nobody has allowed; how many sequences it runs. */
static int next_step(void) {
    pthread_mutex_lock(&gate.lock);
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += PATIENCE_S;
    int rc = 0;
    while ((gate.n_allowed > 0 || gate.n_entered == gate.n_over) && rc == 0)
        rc = pthread_cond_timedwait(&gate.changed, &gate.lock, &end);
    int n = rc == 0 ? gate.n_spans : -1;
    pthread_mutex_unlock(&gate.lock);
    return n;
}

/* ── a server around it ── */

static engine *eng;
static chat *talk;
static api *server;

static const char *credentials = ""; /* whose requests are sent from now on: a header's line, or nothing */
#define CALM "Authorization: Bearer c\r\n"
#define FLOOD "Authorization: Bearer f\r\n"

static int start_server(const api_key *keys, size_t n_keys) {
    error err = {0};
    gate.is_open = false;
    gate.n_allowed = gate.n_entered = gate.n_over = 0;
    tok *t = tiny_vocab_harmony();
    model_fake_config f = {
        .n_vocab = tok_n_vocab(t), .n_layers = 2, .width = 16, .end_id = -1, .seed = 7};
    model *m = model_new_fake(&f, &err);
    assert_non_null(m);
    static model_ops ops;
    ops = *m->ops;
    run_step = ops.forward;
    ops.forward = gated_forward;
    m->ops = &ops;
    engine_config c = engine_defaults();
    c.n_threads = 1;
    c.n_parallel = N_PARALLEL;
    c.n_queue = N_QUEUE;
    c.max_context_tokens = c.max_kv_size = CONTEXT;
    c.max_chunk = 64;
    chat_options co = {0};
    api_options o = api_defaults();
    o.port = 0;
    o.keys = keys;
    o.n_keys = n_keys;
    credentials = "";
    if (!(eng = engine_open_model(m, t, &c, &err)) || !(talk = chat_new(eng, &co, &err)) ||
        !(server = api_open(talk, &o, &err)))
        fail_msg("%s", err.message);
    return 0;
}

static int start(void **state) {
    (void)state;
    return start_server(NULL, 0);
}

static int start_with_keys(void **state) {
    (void)state;
    static const api_key keys[] = {{{"calm", 4}, {"c", 1}}, {{NULL, 0}, {"f", 1}}};
    return start_server(keys, 2);
}

static int stop(void **state) {
    (void)state;
    pthread_mutex_lock(&gate.lock);
    gate.is_open = true;
    pthread_cond_broadcast(&gate.changed);
    pthread_mutex_unlock(&gate.lock);
    api_close(server);
    chat_free(talk);
    engine_close(eng);
    return 0;
}

/* ── clients ── */

static int dial(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = PATIENCE_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)api_get_port(server)),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static void say(int fd, const char *text) {
    for (size_t at = 0, n = strlen(text); at < n;) {
        ssize_t put = send(fd, text + at, n - at, MSG_NOSIGNAL);
        if (put <= 0) fail_msg("send: %s", strerror(errno));
        at += (size_t)put;
    }
}

static int ask(const char *more, int n_prompt) {
    char body[2000], request[2400], prompt[1000];
    memset(prompt, 'a', sizeof prompt);
    prompt[n_prompt] = 0;
    snprintf(body, sizeof body,
             "{\"model\":\"default\",\"prompt\":\"%s\",\"temperature\":0,\"ignore_eos\":true,%s}",
             prompt, more);
    snprintf(request, sizeof request,
             "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s",
             credentials, strlen(body), body);
    int fd = dial();
    say(fd, request);
    return fd;
}
static int ask_stream(int n_tokens) {
    char more[100];
    snprintf(more, sizeof more, "\"stream\":true,\"max_tokens\":%d", n_tokens);
    return ask(more, 5);
}

static char answer[1 << 20];
/* What came until `end` or the server closed; fails when it takes too long. */
static const char *hear(int fd, const char *end) {
    size_t len = 0;
    answer[0] = 0;
    while (len + 1 < sizeof answer && !strstr(answer, end)) {
        ssize_t n = recv(fd, answer + len, sizeof answer - 1 - len, 0);
        if (n <= 0) fail_msg("'%s' did not come, but '%.300s'", end, answer);
        answer[len += (size_t)n] = 0;
    }
    return answer;
}

static int64_t n_active(void) {
    return http_get_stats(server->http).n_active;
}
#define wait_for(what)                                                \
    do {                                                              \
        int64_t end_ = clock_ns() + PATIENCE_S * (int64_t)1000000000; \
        bool so_; /* asked once a time: asking may change it */       \
        while (!(so_ = (what)) && clock_ns() < end_) usleep(1000);    \
        if (!so_) fail_msg("never: " #what);                          \
    } while (0)

static uint64_t n_jobs(void) {
    return engine_get_stats(eng).n_jobs;
}

/* Leaves in one of the ways a client can. */
static void leave(int fd, int how) {
    if (how == 1) { /* with a reset */
        struct linger now = {1, 0};
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    if (how == 2) /* it will say nothing more, but still listens: the test closes it later */
        shutdown(fd, SHUT_WR);
    else
        close(fd);
}

/* ── the tests ── */

/* Whoever leaves during a step is not in the next one, and those who waited are. */
static void who_leaves_is_gone_with_the_step(void **state) {
    (void)state;
    int run[N_PARALLEL], wait[N_QUEUE];
    for (int i = 0; i < N_PARALLEL; i++) run[i] = ask_stream(i == 1 ? 100000 : 90000);
    wait_for(n_jobs() == N_PARALLEL);
    next_step(); /* the first may have come before the others: one step takes them all in */
    allow(1);
    assert_int_equal(next_step(), N_PARALLEL);
    allow(3);
    assert_int_equal(next_step(), N_PARALLEL);
    for (int i = 0; i < N_QUEUE; i++) wait[i] = ask_stream(90000);
    wait_for(n_jobs() == N_PARALLEL + N_QUEUE);
    for (int i = 0; i < 3; i++) leave(run[i], i);
    wait_for(n_active() == N_PARALLEL + N_QUEUE - 3); /* still within that same step */
    int entered = gate.n_entered;
    allow(1);
    assert_int_equal(next_step(), 1 + 3);
    assert_int_equal(gate.n_entered, entered + 1);
    engine_stats s = engine_get_stats(eng);
    assert_int_equal(s.n_cancelled, 3);
    assert_int_equal(s.n_running, 4);
    assert_int_equal(s.n_waiting, 0);
    /* The last ones all leave: a step that nobody wants any more needs no permission to end. */
    close(run[2]);
    close(run[3]);
    for (int i = 0; i < N_QUEUE; i++) leave(wait[i], i % 2);
    wait_for(n_active() == 0);
    wait_for(engine_get_stats(eng).n_running == 0);
    s = engine_get_stats(eng);
    assert_int_equal(s.n_cancelled, N_PARALLEL + N_QUEUE);
    assert_int_equal(s.kv_blocks_used, 0);
    assert_int_equal(gate.n_entered, entered + 1);
}

/* The same for one whose prompt is still being read, whose answer is not a stream, and for several choices. */
static void also_before_the_first_token(void **state) {
    (void)state;
    int slow = ask("\"stream\":true,\"max_tokens\":5", 300); /* five chunks */
    int plain = ask("\"max_tokens\":90000", 5), many = ask("\"n\":2,\"max_tokens\":90000", 7);
    wait_for(n_jobs() == 4);
    next_step();
    allow(1);
    next_step();
    int next = ask_stream(1);
    wait_for(n_jobs() == 5);
    leave(slow, 0);
    leave(plain, 1);
    leave(many, 0);
    wait_for(engine_get_stats(eng).n_cancelled == 4); /* nobody wants the step: it is given up */
    assert_int_equal(n_active(), 1);
    assert_int_equal(next_step(), 1);
    allow(1);
    assert_non_null(strstr(hear(next, "[DONE]"), "finish_reason\":\"length"));
    close(next);
    wait_for(engine_get_stats(eng).kv_blocks_used == 0);
}

static void expect_refused(int fd) {
    const char *said = hear(fd, "rate_limit_exceeded");
    assert_non_null(strstr(said, "HTTP/1.1 429"));
    assert_non_null(strstr(said, "\r\nRetry-After: "));
    close(fd);
}

/* Places: exactly those that were promised, however they were lost. */
static void the_queue_is_exact(void **state) {
    (void)state;
    enum { PLACES = N_PARALLEL + N_QUEUE };
    int fds[PLACES];
    for (int round = 0; round < 3; round++) {
        uint64_t before = n_jobs(), refused = engine_get_stats(eng).n_rejected;
        for (int i = 0; i < PLACES; i++) fds[i] = ask_stream(100000 - i);
        wait_for(n_jobs() == before + PLACES);
        for (int i = 0; i < 5; i++) expect_refused(ask_stream(1));
        assert_int_equal(engine_get_stats(eng).n_rejected, refused + 5);
        /* Three choices where two have room: none is begun, no place is lost. */
        next_step();
        leave(fds[0], round);
        leave(fds[PLACES - 1], round);
        wait_for(n_active() == PLACES - 2);
        allow(1);
        next_step();
        expect_refused(ask("\"n\":3,\"max_tokens\":1", 5));
        wait_for(n_active() == PLACES - 2);
        allow(1);
        next_step();
        before = n_jobs();
        int pair = ask("\"n\":2,\"max_tokens\":90000", 5);
        wait_for(n_jobs() == before + 2);
        expect_refused(ask_stream(1));
        close(pair);
        if (round == 2) close(fds[0]), close(fds[PLACES - 1]);
        for (int i = 1; i < PLACES - 1; i++) close(fds[i]);
        wait_for(n_active() == 0);
        allow(1);
        wait_for(engine_get_stats(eng).n_running + engine_get_stats(eng).n_waiting == 0);
        assert_int_equal(engine_get_stats(eng).kv_blocks_used, 0);
        pthread_mutex_lock(&gate.lock);
        gate.n_allowed = 0;
        pthread_mutex_unlock(&gate.lock);
    }
}

/* The text of the answer, as it is escaped, piece by piece. */
static char *only_text(void) {
    buf out = {0};
    static const char key[] = "\"text\":\"";
    for (char *p = strstr(answer, key); p; p = strstr(p, key)) {
        p += strlen(key);
        char *end = p;
        while (*end && *end != '"') end += *end == '\\' ? 2 : 1;
        buf_append(&out, p, (size_t)(end - p));
        buf_append_char(&out, '|');
    }
    return buf_take(&out, NULL);
}

/* A token every step, from the first to the last, whoever else is there. */
static void healthy_streams_miss_no_step(void **state) {
    (void)state;
    enum { N_TOKENS = 40, BAD = 6 };
    int fd = ask_stream(N_TOKENS);
    wait_for(n_jobs() == 1);
    allow(N_TOKENS);
    hear(fd, "[DONE]");
    close(fd);
    char *alone = only_text();
    wait_for(n_active() == 0);

    int entered = gate.n_entered, bad[BAD];
    static const char *const rude[] = {
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{\"model\"",
        "POST /v1/completions HTTP/1.1\r\nHost: loc",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n{",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n{{{",
    };
    fd = ask_stream(N_TOKENS); /* … beside two that leave, and some that say little or nonsense */
    wait_for(n_jobs() == 2);
    next_step();
    for (int i = 0; i < 2; i++) bad[i] = ask_stream(100000);
    for (int i = 2; i < BAD; i++) {
        bad[i] = dial();
        say(bad[i], rude[i - 2]);
    }
    wait_for(n_jobs() == 4);
    wait_for(n_active() == 5 && http_get_stats(server->http).n_status[4] == 1);
    for (int i = 0; i < N_TOKENS; i++) {
        allow(1);
        if (i == 10 || i == 20) {
            int64_t before = n_active();
            leave(bad[i / 10 - 1], i == 10);
            wait_for(n_active() == before - 1);
        }
        if (i < N_TOKENS - 1) next_step();
    }
    hear(fd, "[DONE]");
    close(fd);
    char *beside = only_text();
    assert_true(strlen(alone) > N_TOKENS);
    assert_string_equal(beside, alone);
    free(alone);
    free(beside);
    assert_int_equal(gate.n_entered, entered + N_TOKENS);
    for (int i = 2; i < BAD; i++) close(bad[i]);
    /* The library closes what was idle when it next does something. */
    wait_for((close(dial()), http_get_stats(server->http).n_connections == 0));
}

/* One key asks for all places: the other one finds one, and is next when something ends. */
static void a_flood_leaves_a_place_and_the_turn(void **state) {
    (void)state;
    enum { PLACES = N_PARALLEL + N_QUEUE, SHARE = PLACES - 1 };
    int flood[SHARE];
    credentials = FLOOD;
    for (int i = 0; i < SHARE; i++) { /* in this order, whichever thread takes them */
        flood[i] = ask_stream(90000 + i);
        wait_for(n_jobs() == (uint64_t)i + 1);
    }
    expect_refused(ask_stream(1));
    assert_non_null(strstr(answer, "kept for others"));
    next_step(); /* the first may have come before the others: one step takes them all in */
    allow(1);
    assert_int_equal(next_step(), N_PARALLEL);
    credentials = CALM;
    int calm = ask_stream(3);
    wait_for(n_jobs() == PLACES);
    expect_refused(ask_stream(1));
    assert_non_null(strstr(answer, "queue is full"));
    leave(flood[1], 0);
    wait_for(n_active() == PLACES - 1);
    /* Two of the flood wait since before it came, and have three running. */
    allow(1);
    assert_int_equal(next_step(), N_PARALLEL);
    engine_stats s = engine_get_stats(eng);
    assert_int_equal(s.n_waiting, 2);
    allow(3);
    hear(calm, "[DONE]");
    close(calm);
    /* What the flood has given back it may take again, no more. */
    credentials = FLOOD;
    wait_for(n_active() == SHARE - 1);
    next_step();
    flood[1] = ask_stream(80000);
    wait_for(n_jobs() == PLACES + 1);
    expect_refused(ask_stream(1));
    for (int i = 0; i < SHARE; i++) close(flood[i]);
}

/* Who would be refused is refused before its body is looked at. */
static void a_refusal_costs_no_reading(void **state) {
    (void)state;
    enum { PLACES = N_PARALLEL + N_QUEUE };
    static const struct {
        const char *headers, *body;
    } odd[] = {
        {"", "{{{"},
        {"", "{\"prompt\":\"words that nobody has said before\",\"max_tokens\":1}"},
        {"Content-Encoding: gzip\r\n", "no gzip"},
    };
    int fds[PLACES];
    for (int i = 0; i < PLACES; i++) fds[i] = ask_stream(90000);
    wait_for(n_jobs() == PLACES);
    uint64_t before = chat_get_stats(talk).tokenizing.n_encoded_bytes;
    int fd = -1;
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        char request[400];
        if (fd >= 0) close(fd);
        fd = dial();
        snprintf(request, sizeof request,
                 "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n%sContent-Length: %zu\r\n\r\n%s",
                 odd[i].headers, strlen(odd[i].body), odd[i].body);
        say(fd, request);
        assert_non_null(strstr(hear(fd, "rate_limit_exceeded\"}}"), "HTTP/1.1 429"));
    }
    assert_int_equal(chat_get_stats(talk).tokenizing.n_encoded_bytes, before);
    /* What starts nothing is not refused, and the connection is still good. */
    say(fd, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
    hear(fd, "200 OK");
    close(fd);
    for (int i = 0; i < PLACES; i++) close(fds[i]);
}

static void say_request(int fd, const char *more) {
    char body[200], request[400];
    snprintf(body, sizeof body, "{\"model\":\"default\",\"prompt\":\"aaaaa\",%s}", more);
    snprintf(request, sizeof request,
             "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(body), body);
    say(fd, request);
}

/* Told to come again in a second and asking at once: the answer is the same, and comes when that second is
 * over. Others do not wait for it, and who asks when there is room is not held. */
static void who_does_not_wait_is_made_to(void **state) {
    (void)state;
    enum { PLACES = N_PARALLEL + N_QUEUE };
    int fds[PLACES], hasty = dial(), served = dial();
    for (int i = 0; i < PLACES; i++) fds[i] = ask_stream(90000);
    wait_for(n_jobs() == PLACES);
    int64_t begun = clock_ns();
    say_request(hasty, "\"max_tokens\":1");
    hear(hasty, "rate_limit_exceeded\"}}");
    say_request(hasty, "\"max_tokens\":1");
    wait_for(n_active() == PLACES + 1);
    say_request(served, "\"max_tokens\":1");
    hear(served, "rate_limit_exceeded\"}}");
    close(fds[0]);
    wait_for(n_active() == PLACES);
    allow(1);
    next_step();
    say_request(served, "\"max_tokens\":90000,\"stream\":true");
    hear(served, "200 OK");
    hear(hasty, "rate_limit_exceeded\"}}");
    assert_true(clock_ns() - begun >= HTTP_RETRY_SECONDS * (int64_t)1000000000);
    for (int i = 1; i < PLACES; i++) close(fds[i]);
    /* Whoever leaves meanwhile is gone at once. */
    close(hasty);
    close(served);
    wait_for(n_active() == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_leaves_is_gone_with_the_step, start, stop),
        cmocka_unit_test_setup_teardown(also_before_the_first_token, start, stop),
        cmocka_unit_test_setup_teardown(the_queue_is_exact, start, stop),
        cmocka_unit_test_setup_teardown(healthy_streams_miss_no_step, start, stop),
        cmocka_unit_test_setup_teardown(a_flood_leaves_a_place_and_the_turn, start_with_keys, stop),
        cmocka_unit_test_setup_teardown(a_refusal_costs_no_reading, start, stop),
        cmocka_unit_test_setup_teardown(who_does_not_wait_is_made_to, start, stop),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
