#include "api/http_impl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/os.h"

enum {
    CONNECTION_MEMORY =
        128 * 1024,          /* the library's pool per connection, mapped and touched as needed:
                                       HTTP_MAX_HEADER twice, and FRAMING_MAX_FIELDS */
    PULL_TARGET = 16 * 1024, /* enough per pull to keep a socket busy */
    DISCARD_FACTOR = 4,      /* a too large body is read to this multiple before we hang up */
    ARENA_CAP = 256 * 1024 * 1024,
    TRIM_BODY = 1024 * 1024, /* a request this large leaves a heap worth giving back */
    OTHER_FILES = 128,  /* descriptors that connections may not have: the store's, the model's */
    ALIVE_AFTER_S = 30, /* a peer that says nothing is asked whether it is there … */
    ALIVE_EVERY_S = 10, /* … this often */
};

/* ── requests ── */

const char *http_method(const http_req *r) {
    return r->method;
}
const char *http_path(const http_req *r) {
    return r->path;
}
str http_body(const http_req *r) {
    return buf_str(&r->body);
}
const char *http_request_id(const http_req *r) {
    return r->id;
}
arena *http_arena(http_req *r) {
    return &r->mem;
}
void http_set_user(http_req *r, str user) {
    r->user = user;
}
str http_user(const http_req *r) {
    return r->user;
}
void http_set_client(http_req *r, uint64_t client) {
    r->client = client;
}
uint64_t http_client(const http_req *r) {
    return r->client;
}

uint64_t http_peer(const http_req *r) {
    enum { NET_BYTES = 8 };
    const union MHD_ConnectionInfo *i =
        r->mhd ? MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS) : NULL;
    if (!i || !i->client_addr) return 0;
    const struct sockaddr_in *v4 = (const void *)i->client_addr;
    const struct sockaddr_in6 *v6 = (const void *)i->client_addr;
    if (i->client_addr->sa_family == AF_INET6)
        return hash_bytes(&v6->sin6_addr, NET_BYTES, AF_INET6);
    return hash_bytes(&v4->sin_addr, sizeof v4->sin_addr, AF_INET);
}
int64_t http_started_ns(const http_req *r) {
    return r->started_ns;
}
bool http_is_gone(const http_req *r) {
    return atomic_load(&r->gone);
}

const char *http_header(const http_req *r, const char *name) {
    if (!r->mhd) return NULL;
    if (r->authority && strcasecmp(name, "Host") == 0) return r->authority;
    return MHD_lookup_connection_value(r->mhd, MHD_HEADER_KIND, name);
}

const char *http_query(const http_req *r, const char *name) {
    if (!r->mhd) return NULL;
    return MHD_lookup_connection_value(r->mhd, MHD_GET_ARGUMENT_KIND, name);
}

typedef struct each_query {
    void (*each)(void *, const char *, const char *);
    void *ctx;
} each_query;
static enum MHD_Result see_query(void *cls, enum MHD_ValueKind kind, const char *name,
                                 const char *value) {
    (void)kind;
    const each_query *q = cls;
    q->each(q->ctx, name, value);
    return MHD_YES;
}
void http_each_query(const http_req *r,
                     void (*each)(void *ctx, const char *name, const char *value), void *ctx) {
    each_query q = {each, ctx};
    if (r->mhd) MHD_get_connection_values(r->mhd, MHD_GET_ARGUMENT_KIND, see_query, &q);
}

void http_add_header(http_req *r, const char *name, const char *value) {
    if (r->n_headers == (int)(sizeof r->headers / sizeof r->headers[0])) return;
    char *n = arena_dup(&r->mem, str_from(name)), *v = arena_dup(&r->mem, str_from(value));
    if (!n || !v) return;
    r->headers[r->n_headers].name = n;
    r->headers[r->n_headers++].value = v;
}

static void own(http_req *r, void *ctx, void (*free_fn)(void *), bool is_late) {
    http_owned *o =
        r->n_owned < HTTP_OWNED ? &r->first_owned[r->n_owned++] : arena_alloc(&r->mem, sizeof *o);
    if (!o) { /* nowhere to remember it */
        free_fn(ctx);
        return;
    }
    *o = (http_owned){ctx, free_fn, is_late, r->owned};
    r->owned = o;
}

void http_own(http_req *r, void *ctx, void (*free_fn)(void *)) {
    own(r, ctx, free_fn, false);
}
void http_own_late(http_req *r, void *ctx, void (*free_fn)(void *)) {
    own(r, ctx, free_fn, true);
}

/* "http://name:port/path" → the authority, and where the path begins; NULL for any other target. */
static const char *split_target(const char *target, str *authority) {
    size_t scheme = strncasecmp(target, "http://", 7) == 0    ? 7
                    : strncasecmp(target, "https://", 8) == 0 ? 8
                                                              : 0;
    if (!scheme) return NULL;
    const char *end = target + scheme;
    while (*end && *end != '/') end++;
    *authority = str_make(target + scheme, (size_t)(end - target) - scheme);
    return *end ? end : "/";
}

http_req *http_req_new(http_server *s, struct MHD_Connection *mhd, http_conn *c, const char *method,
                       const char *path) {
    http_req *r = calloc(1, sizeof *r);
    if (!r) return NULL;
    arena_init(&r->mem, ARENA_CAP);
    r->server = s;
    r->mhd = mhd;
    r->c = c;
    r->started_ns = clock_ns();
    r->body.max = HTTP_MAX_BODY;
    str authority;
    const char *rest = mhd ? split_target(path, &authority) : NULL;
    if (rest) {
        path = rest;
        r->authority = arena_dup(&r->mem, authority);
    }
    r->method = arena_dup(&r->mem, str_from(method));
    r->path = arena_dup(&r->mem, str_from(path));
    unsigned char bytes[12];
    os_random(bytes, sizeof bytes);
    int n = snprintf(r->id, sizeof r->id, "req_");
    for (size_t i = 0; i < sizeof bytes; i++)
        n += snprintf(r->id + n, sizeof r->id - (size_t)n, "%02x", bytes[i]);
    atomic_init(&r->state, RUNNING);
    if (!r->method || !r->path || (rest && !r->authority)) {
        arena_deinit(&r->mem);
        free(r);
        return NULL;
    }
    return r;
}

static void free_owned(http_req *r, bool late) {
    for (http_owned *o = r->owned; o; o = o->next)
        if (o->is_late == late) o->free_fn(o->ctx);
}

/* A megabyte of JSON is half a million values: giving them back takes as long as many tokens. */
void http_req_free(http_req *r) {
    free_owned(r, false);
    if (r->answer) MHD_destroy_response(r->answer);
    r->answer = NULL;
    if (r->n_counted <= HTTP_LIGHT_BODY || !http_reader_bury(r->server, r)) http_req_bury(r);
}

void http_req_bury(http_req *r) {
    http_server *s = r->server;
    bool is_large = r->n_counted > TRIM_BODY;
    free_owned(r, true);
    atomic_fetch_sub(&s->body_bytes, (int64_t)r->n_counted);
    buf_deinit(&r->body);
    buf_deinit(&r->out);
    arena_deinit(&r->mem);
    free(r);
    if (is_large) http_reader_trim(s);
}

void http_wake(http_req *r) {
    /* Once WOKEN is written the other side may go on and end: what is needed is read before. */
    void (*wake)(void *) = r->local_wake;
    void *ctx = r->local_ctx;
    if (atomic_exchange(&r->state, WOKEN) != SUSPENDED) return;
    if (wake)
        wake(ctx);
    else
        MHD_resume_connection(r->mhd);
}

/* Parks the connection until http_wake. A wake that came since the last look resumes it at once.
 * False: the server is closing, which waits for nobody to be parked. */
static bool park(http_req *r) {
    if (atomic_load(&r->server->closing)) return false;
    MHD_suspend_connection(r->mhd);
    int expected = RUNNING;
    if (!atomic_compare_exchange_strong(&r->state, &expected, SUSPENDED))
        MHD_resume_connection(r->mhd);
    return true;
}

static void unpark(http_req *r) {
    atomic_store(&r->waiting_since, 0);
    atomic_store(&r->state, RUNNING);
}

/* ── replying ── */

static void finish_response(http_req *r, int status, struct MHD_Response *resp, const char *type) {
    if (!resp) return;
    if (type) MHD_add_response_header(resp, "Content-Type", type);
    MHD_add_response_header(resp, "x-request-id", r->id);
    for (int i = 0; i < r->n_headers; i++)
        MHD_add_response_header(resp, r->headers[i].name, r->headers[i].value);
    char ms[32];
    snprintf(ms, sizeof ms, "%lld", (long long)((clock_ns() - r->started_ns) / 1000000));
    MHD_add_response_header(resp, "openai-processing-ms", ms);
    if (status >= 100 && status < 600) atomic_fetch_add(&r->server->n_status[status / 100], 1);
    if (r->is_away) {
        r->answer = resp;
        r->answer_status = (unsigned)status;
        r->replied = true;
        return;
    }
    r->replied = MHD_queue_response(r->mhd, (unsigned)status, resp) == MHD_YES;
    MHD_destroy_response(resp);
}

void http_reply(http_req *r, int status, const char *type, buf *body) {
    size_t len = 0;
    char *bytes = buf_take(body, &len);
    if (!bytes) {
        error err = {0};
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the answer.");
        if (status != error_get_info(ERR_NO_MEMORY)->http_status) http_reply_error(r, &err);
        return;
    }
    r->finished = true;
    if (!r->mhd) {
        buf_deinit(&r->out);
        r->out = (buf){.ptr = bytes, .len = len, .cap = len};
        r->local_status = status;
        r->replied = r->pull_done = true;
        return;
    }
    struct MHD_Response *resp = MHD_create_response_from_buffer(len, bytes, MHD_RESPMEM_MUST_FREE);
    if (!resp) free(bytes);
    finish_response(r, status, resp, type);
}

void http_reply_error(http_req *r, const error *err) {
    const error_info *info = error_get_info(err->code);
    int status = info->http_status;
    if (status == 429 || status == 503) {
        _Static_assert(HTTP_RETRY_SECONDS == 1, "the header says so");
        http_add_header(r, "Retry-After", "1");
        http_add_header(r, "retry-after-ms", "1000");
        if (r->c) r->c->again_ns = clock_ns() + (int64_t)HTTP_RETRY_SECONDS * 1000000000;
    }
    /* Both SDKs ask again after a 5xx unless told not to. */
    if (status == 507 || status == 501) http_add_header(r, "x-should-retry", "false");
    if (status >= 500 && status != 501)
        log_line(LOG_WARN, "api", "%s %s answered %d: %s", r->id, r->path, status, err->message);
    buf body = {0};
    r->server->app.render_error(r->server->app.ctx, r, err, &body);
    http_reply(r, status, "application/json", &body);
}

static ssize_t read_stream(void *cls, uint64_t pos, char *to, size_t max) {
    http_req *r = cls;
    unpark(r);
    if (atomic_load(&r->gone)) return MHD_CONTENT_READER_END_WITH_ERROR;
    while (r->out_sent == r->out.len) {
        if (r->pull_done) return MHD_CONTENT_READER_END_OF_STREAM;
        buf_clear(&r->out);
        r->out_sent = 0;
        http_pull_result got = HTTP_MORE;
        while (got == HTTP_MORE && r->out.len < PULL_TARGET) got = r->pull(r, r->ctx, &r->out);
        if (got == HTTP_ABORT || r->out.failed) return MHD_CONTENT_READER_END_WITH_ERROR;
        if (got == HTTP_DONE) r->finished = r->pull_done = true;
        if (r->out.len) break;
        if (got == HTTP_WAIT) {
            if (atomic_exchange(&r->ping, false)) {
                buf_append_cstr(&r->out, ": ping\n\n");
                break;
            }
            if (r->is_events) atomic_store(&r->waiting_since, clock_ns());
            return park(r) ? 0 : MHD_CONTENT_READER_END_WITH_ERROR;
        }
    }
    size_t n = r->out.len - r->out_sent;
    if (n > max) n = max;
    memcpy(to, r->out.ptr + r->out_sent, n);
    r->out_sent += n;
    if (pos + n == r->n_bytes) r->finished = true; /* nobody asks for an end that is known */
    return (ssize_t)n;
}

/* n_bytes: MHD_SIZE_UNKNOWN, or how many there will be. */
static void reply_pulled(http_req *r, const char *type, uint64_t n_bytes, http_pull_fn *pull,
                         void *ctx) {
    r->pull = pull;
    r->ctx = ctx;
    r->is_events = strcmp(type, "text/event-stream") == 0;
    if (!r->mhd) {
        r->local_status = 200;
        r->replied = true;
        return;
    }
    r->out.max = HTTP_STREAM_CAP * 16; /* one event may be large; pulls stop at PULL_TARGET */
    http_add_header(r, "Cache-Control", "no-cache");
    http_add_header(r, "X-Accel-Buffering", "no");
    r->n_bytes = n_bytes;
    /* The library ends the body of an answer to HEAD, which has none: the next answer on the connection
     * would begin with that end. */
    bool no_body = n_bytes == MHD_SIZE_UNKNOWN && strcmp(r->method, "HEAD") == 0;
    if (no_body) r->finished = true;
    finish_response(
        r, 200,
        no_body ? MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT)
                : MHD_create_response_from_callback(n_bytes, 32 * 1024, read_stream, r, NULL),
        type);
}

void http_reply_stream(http_req *r, const char *type, http_pull_fn *pull, void *ctx) {
    reply_pulled(r, type, MHD_SIZE_UNKNOWN, pull, ctx);
}

void http_reply_bytes(http_req *r, const char *type, size_t n_bytes, http_pull_fn *pull,
                      void *ctx) {
    reply_pulled(r, type, n_bytes, pull, ctx);
}

void http_reply_later(http_req *r, http_step_fn *step, void *ctx) {
    r->step = step;
    r->ctx = ctx;
}

/* ── requests from inside ── */

http_req *http_local_open(http_server *s, const char *method, const char *path, str body, str user,
                          void (*wake)(void *ctx), void *ctx) {
    http_req *r = http_req_new(s, NULL, NULL, method, path);
    if (!r) return NULL;
    r->user = user;
    r->local_wake = wake;
    r->local_ctx = ctx;
    r->admitted = r->complete = true;
    buf_append_str(&r->body, body);
    if (!r->body.ptr) buf_reserve(&r->body, 0);
    if (r->body.failed) {
        http_req_free(r);
        return NULL;
    }
    s->app.handle(s->app.ctx, r);
    return r;
}

bool http_local_poll(http_req *r, int *status, str *body) {
    for (;;) {
        unpark(r);
        if (!r->replied && !(r->step && r->step(r, r->ctx))) {
            if (!r->step) { /* a handler that neither replied nor waits could not get memory */
                *status = 503;
                *body = (str){0};
                return true;
            }
        } else if (!r->pull_done && r->pull) {
            http_pull_result got;
            while ((got = r->pull(r, r->ctx, &r->out)) == HTTP_MORE) continue;
            r->pull_done = got != HTTP_WAIT;
        }
        if (r->replied && (r->pull_done || !r->pull)) {
            *status = r->out.failed ? 503 : r->local_status;
            *body = buf_str(&r->out);
            return true;
        }
        int expected = RUNNING;
        if (atomic_compare_exchange_strong(&r->state, &expected, SUSPENDED)) return false;
    }
}

void http_local_close(http_req *r) {
    if (!r) return;
    atomic_store(&r->gone, true);
    http_req_free(r);
}

/* ── the library's callbacks ── */

static http_conn *get_conn(struct MHD_Connection *mhd) {
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return i ? i->socket_context : NULL;
}

void http_set_phase(http_server *s, http_conn *c, http_phase p, int seconds) {
    if (!c) return;
    pthread_mutex_lock(&s->lock);
    c->phase = p;
    c->deadline_ns = seconds ? clock_ns() + (int64_t)seconds * 1000000000 : 0;
    pthread_mutex_unlock(&s->lock);
}

/* From now on the client's leaving is news. */
static void watch(http_req *r) {
    http_server *s = r->server;
    http_conn *c = r->c;
    if (!c) return;
    pthread_mutex_lock(&s->lock);
    c->req = r;
    c->phase = PHASE_ANSWER;
    c->deadline_ns = 0;
    struct epoll_event e = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.u64 = c->number};
    c->watched = epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, c->fd, &e) == 0;
    pthread_mutex_unlock(&s->lock);
}

static void unwatch(http_req *r) {
    http_server *s = r->server;
    http_conn *c = r->c;
    if (!c) return;
    pthread_mutex_lock(&s->lock);
    if (c->watched) epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->watched = false;
    c->req = NULL;
    c->phase = PHASE_IDLE;
    c->deadline_ns = clock_ns() + (int64_t)HTTP_IDLE_SECONDS * 1000000000;
    pthread_mutex_unlock(&s->lock);
}

static bool has_body(const http_req *r) {
    const char *length = http_header(r, "Content-Length");
    return http_header(r, "Transfer-Encoding") || (length && strspn(length, "0") != strlen(length));
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **req) {
    (void)version;
    http_server *s = cls;
    http_req *r = *req;
    if (!r) {
        http_conn *c = get_conn(mhd);
        if (!c ||
            !c->seen) { /* bytes that did not pass http_input.c: nothing may be built on them */
            log_line(LOG_ERROR, "http", "a request came unseen; it is not answered");
            return MHD_NO;
        }
        *req = r = http_req_new(s, mhd, c, method, url);
        if (!r) return MHD_NO;
        atomic_fetch_add(&s->n_requests, 1);
        atomic_fetch_add(&s->n_active, 1);
        /* An answer given now closes the connection, for the library will not read the body. */
        if (!s->app.admit(s->app.ctx, r, &r->refusal) && has_body(r)) {
            http_reply_error(r, &r->refusal);
            return r->replied ? MHD_YES : MHD_NO;
        }
        r->admitted = true;
        http_set_phase(s, c, PHASE_BODY, HTTP_BODY_SECONDS);
        return MHD_YES;
    }
    if (*data_len) {
        http_body_take(r, data, *data_len);
        *data_len = 0;
        return r->n_discarded > (size_t)HTTP_MAX_BODY * DISCARD_FACTOR ? MHD_NO : MHD_YES;
    }
    if (!r->complete) {
        r->complete = true;
        watch(r);
        if (!http_body_begin(r)) return MHD_NO;
        if (r->is_away) return MHD_YES;
    } else if (r->is_away) {
        http_body_come_back(r);
    }
    if (r->replied) return MHD_YES;
    if (!r->step) return MHD_NO; /* a handler that neither replied nor waits could not get memory */
    unpark(r);
    if (atomic_load(&r->gone)) return MHD_NO;
    if (r->step(r, r->ctx)) return r->replied ? MHD_YES : MHD_NO;
    return park(r) ? MHD_YES : MHD_NO;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **req,
                         enum MHD_RequestTerminationCode code) {
    (void)mhd;
    http_server *s = cls;
    http_req *r = *req;
    if (!r) return;
    unwatch(r);
    if (code != MHD_REQUEST_TERMINATED_COMPLETED_OK && !r->finished)
        atomic_fetch_add(&s->n_aborted, 1);
    http_req_free(r);
    *req = NULL;
    atomic_fetch_sub(&s->n_active, 1);
}

/* The library's thread gets its name, and no lower priority than the engine's: it brings the tokens to those
 * who read along (docs/BENCHMARKS.md has what that was worth). */
static void name_thread(void) {
    static _Thread_local bool is_named;
    if (!is_named) os_share_core("http", 0, 0);
    is_named = true;
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **ctx,
                          enum MHD_ConnectionNotificationCode code) {
    http_server *s = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        name_thread();
        http_conn *c = calloc(1, sizeof *c);
        const union MHD_ConnectionInfo *i =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        *ctx = c;
        if (c && i) {
            c->fd = i->connect_fd;
            c->server = s;
        }
        if (!c || !i || !http_input_open(c)) { /* nobody would see its bytes or its time */
            if (i) shutdown(i->connect_fd, SHUT_RDWR);
            free(c);
            *ctx = NULL;
            return;
        }
        /* The kernel would grow this to megabytes for a client that does not read. */
        int send_buffer = HTTP_STREAM_CAP;
        if (setsockopt(c->fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer) != 0)
            log_line(LOG_DEBUG, "http", "SO_SNDBUF: %s", strerror(errno));
        /* A peer that is gone without a word, and one that takes nothing: the kernel notices both. */
        const struct {
            int level, name, value;
        } options[] = {{SOL_SOCKET, SO_KEEPALIVE, 1},
                       {IPPROTO_TCP, TCP_KEEPIDLE, ALIVE_AFTER_S},
                       {IPPROTO_TCP, TCP_KEEPINTVL, ALIVE_EVERY_S},
                       {IPPROTO_TCP, TCP_USER_TIMEOUT, s->stall_seconds * 1000}};
        for (size_t k = 0; k < sizeof options / sizeof options[0]; k++)
            if (setsockopt(c->fd, options[k].level, options[k].name, &options[k].value,
                           sizeof options[k].value) != 0)
                log_line(LOG_DEBUG, "http", "socket option %d: %s", options[k].name,
                         strerror(errno));
        c->phase = PHASE_HEADERS;
        c->deadline_ns = clock_ns() + (int64_t)HTTP_HEADER_SECONDS * 1000000000;
        pthread_mutex_lock(&s->lock);
        c->number = ++s->n_numbered;
        c->next = s->conns;
        if (c->next) c->next->prev = c;
        s->conns = c;
        pthread_mutex_unlock(&s->lock);
        atomic_fetch_add(&s->n_connections, 1);
    } else if (*ctx) {
        http_conn *c = *ctx;
        http_input_close(c);
        pthread_mutex_lock(&s->lock);
        if (c->watched) epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
        if (c->prev)
            c->prev->next = c->next;
        else
            s->conns = c->next;
        if (c->next) c->next->prev = c->prev;
        pthread_mutex_unlock(&s->lock);
        free(c);
        *ctx = NULL;
        atomic_fetch_sub(&s->n_connections, 1);
    }
}

/* The request line is here: its headers have a deadline of their own, also on a kept connection. */
static void *on_request_line(void *cls, const char *uri, struct MHD_Connection *mhd) {
    (void)uri;
    http_set_phase(cls, get_conn(mhd), PHASE_HEADERS, HTTP_HEADER_SECONDS);
    return NULL;
}

static void on_log(void *cls, const char *fmt, va_list ap) {
    (void)cls;
    char line[300];
    vsnprintf(line, sizeof line, fmt, ap);
    log_line(LOG_DEBUG, "http", "%s", line);
}

/* ── the watcher ── */

/* What of its time a connection gives up when connections run out. */
static int64_t spare_ns(const http_conn *c) {
    int64_t second = 1000000000;
    return c->phase == PHASE_IDLE      ? HTTP_IDLE_SECONDS * second
           : c->phase == PHASE_HEADERS ? (HTTP_HEADER_SECONDS - HTTP_HURRY_SECONDS) * second
                                       : 0;
}

static void *watch_main(void *arg) {
    http_server *s = arg;
    os_share_core("watcher", 0, 0);
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(s->epoll_fd, events, 64, 1000);
        if (n < 0 && errno != EINTR) return NULL;
        int64_t now = clock_ns();
        pthread_mutex_lock(&s->lock);
        for (int i = 0; i < n; i++) {
            uint64_t ready = events[i].data.u64;
            if (!ready) { /* the stop eventfd */
                pthread_mutex_unlock(&s->lock);
                return NULL;
            }
            /* The event may be older than the connection's end: believe only what is listed. (By its
             * address another one was taken for it once in some thousand, and broken off.) */
            for (http_conn *c = s->conns; c; c = c->next)
                if (c->number == ready && c->req && c->watched) {
                    atomic_store(&c->req->gone, true);
                    http_wake(c->req);
                }
        }
        int64_t n_over = atomic_load(&s->n_connections) - s->max_connections / 4 * 3;
        for (http_conn *c = s->conns; c; c = c->next) {
            bool is_spare = n_over > 0 && c->deadline_ns && now > c->deadline_ns - spare_ns(c);
            if (is_spare) n_over--;
            if (is_spare || (c->deadline_ns && now > c->deadline_ns)) {
                c->deadline_ns = 0;
                atomic_fetch_add(&s->n_timed_out, c->phase != PHASE_IDLE);
                shutdown(c->fd, SHUT_RDWR);
            }
            http_req *r = c->req;
            int64_t until = r ? atomic_load(&r->held_until) : 0;
            if (until && now >= until) http_wake(r);
            int64_t since = r ? atomic_load(&r->waiting_since) : 0;
            if (since && now - since > (int64_t)s->ping_seconds * 1000000000) {
                atomic_store(&r->ping, true);
                http_wake(r);
            }
        }
        pthread_mutex_unlock(&s->lock);
    }
}

/* ── open, close ── */

static bool resolve(const http_options *o, struct sockaddr_storage *addr, error *err) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    char port[16];
    snprintf(port, sizeof port, "%d", o->port);
    int rc = getaddrinfo(o->host, port, &hints, &found);
    if (rc != 0 || !found)
        return error_set(err, ERR_USAGE, "host", "The address '%s' cannot be resolved: %s.",
                         o->host, gai_strerror(rc));
    memcpy(addr, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    return true;
}

/* Each takes a descriptor, and the system may allow this process fewer. Raises the soft limit first. */
static int limit_connections(int wanted) {
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0) return wanted;
    rlim_t need = (rlim_t)wanted + OTHER_FILES;
    if (files.rlim_cur < need) {
        struct rlimit more = {files.rlim_max < need ? files.rlim_max : need, files.rlim_max};
        if (setrlimit(RLIMIT_NOFILE, &more) == 0) files = more;
    }
    if (files.rlim_cur >= need) return wanted;
    int left = files.rlim_cur > 2 * OTHER_FILES ? (int)files.rlim_cur - OTHER_FILES
                                                : (int)files.rlim_cur / 2;
    return left > 1 ? left : 1;
}

http_server *http_open(const http_options *o, const http_app *app, error *err) {
    http_server *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the server.");
        return NULL;
    }
    s->app = *app;
    s->max_connections =
        limit_connections(o->max_connections ? o->max_connections : HTTP_MAX_CONNECTIONS);
    s->stall_seconds = o->stall_seconds ? o->stall_seconds : HTTP_STALL_SECONDS;
    s->ping_seconds = o->ping_seconds ? o->ping_seconds : HTTP_PING_SECONDS;
    s->max_bodies = o->max_bodies ? (int64_t)o->max_bodies : HTTP_MAX_BODIES;
    pthread_mutex_init(&s->away_lock, NULL);
    pthread_cond_init(&s->away_more, NULL);
    s->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    s->stop_fd = eventfd(0, EFD_CLOEXEC);
    pthread_mutex_init(&s->lock, NULL);
    struct sockaddr_storage addr;
    if (!resolve(o, &addr, err)) goto fail;
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0};
    if (s->epoll_fd < 0 || s->stop_fd < 0 ||
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->stop_fd, &e) != 0 ||
        pthread_create(&s->watcher, NULL, watch_main, s) != 0) {
        error_set(err, ERR_IO, NULL, "The server's watcher cannot start: %s.", strerror(errno));
        goto fail;
    }
    s->watcher_runs = true;
    if (!http_reader_start(s)) {
        error_set(err, ERR_IO, NULL, "The server's reader cannot start.");
        goto fail;
    }
    /* Not the library's epoll mode: it waits for edges, and 0.9.75 loses those of a client that leaves
     * while its request is read or its stream is broken off, connection and descriptor with it. poll
     * looks at every connection that is not suspended, which most are while they wait for tokens. */
    unsigned flags = MHD_USE_POLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    if (addr.ss_family == AF_INET6) flags |= MHD_USE_IPv6;
    struct MHD_OptionItem items[] = {
        {MHD_OPTION_EXTERNAL_LOGGER, (intptr_t)on_log, NULL},
        {MHD_OPTION_SOCK_ADDR, 0, &addr},
        {MHD_OPTION_NOTIFY_COMPLETED, (intptr_t)on_completed, s},
        {MHD_OPTION_NOTIFY_CONNECTION, (intptr_t)on_connection, s},
        {MHD_OPTION_URI_LOG_CALLBACK, (intptr_t)on_request_line, s},
        {MHD_OPTION_CONNECTION_LIMIT, s->max_connections, NULL},
        {MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, NULL},
        {MHD_OPTION_LISTEN_BACKLOG_SIZE, 1024, NULL},
        {MHD_OPTION_END, 0, NULL},
        {MHD_OPTION_END, 0, NULL},
    };
    /* Each takes its part of the connections: one without any would be of no use. */
    int n_threads = o->n_threads < s->max_connections ? o->n_threads : s->max_connections;
    if (n_threads > 1)
        items[8] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, n_threads, NULL};
    errno = 0;
    s->daemon = MHD_start_daemon(flags, (uint16_t)o->port, NULL, NULL, on_request, s,
                                 MHD_OPTION_ARRAY, items, MHD_OPTION_END);
    if (!s->daemon) {
        int why = errno;
        error_set(err, ERR_IO, "port", "Cannot listen on %s port %d: %s.%s", o->host, o->port,
                  why ? strerror(why) : "the address is in use or not allowed",
                  why == EADDRINUSE ? " --port takes another one, --port 0 any that is free."
                  : why == EACCES   ? " Ports below 1024 are the system's: --port takes another."
                                    : "");
        goto fail;
    }
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(s->daemon, MHD_DAEMON_INFO_BIND_PORT);
    s->port = info ? info->port : o->port;
    return s;
fail:
    http_close(s);
    return NULL;
}

void http_close(http_server *s) {
    if (!s) return;
    atomic_store(&s->closing, true);
    if (s->watcher_runs) {
        uint64_t one = 1;
        if (write(s->stop_fd, &one, sizeof one) < 0)
            log_line(LOG_WARN, "http", "cannot stop the watcher");
        pthread_join(s->watcher, NULL);
    }
    http_reader_stop(s);
    if (s->daemon) {
        int listener = MHD_quiesce_daemon(s->daemon);
        /* The library refuses to stop with suspended connections: wake them all to see `gone`. Nobody is
         * suspended from now on, but for those that find the wake which came a moment before. */
        pthread_mutex_lock(&s->lock);
        for (http_conn *c = s->conns; c; c = c->next)
            if (c->req) {
                atomic_store(&c->req->gone, true);
                http_wake(c->req);
            }
        pthread_mutex_unlock(&s->lock);
        MHD_stop_daemon(s->daemon);
        if (listener >= 0) close(listener);
    }
    if (s->epoll_fd >= 0) close(s->epoll_fd);
    if (s->stop_fd >= 0) close(s->stop_fd);
    pthread_mutex_destroy(&s->lock);
    pthread_mutex_destroy(&s->away_lock);
    pthread_cond_destroy(&s->away_more);
    free(s);
}

const http_server *http_get_server(const http_req *r) {
    return r->server;
}

int http_get_port(const http_server *s) {
    return s->port;
}

http_stats http_get_stats(const http_server *s) {
    http_stats out = {
        .n_requests = atomic_load(&s->n_requests),
        .n_aborted = atomic_load(&s->n_aborted),
        .n_timed_out = atomic_load(&s->n_timed_out),
        .n_connections = atomic_load(&s->n_connections),
        .n_active = atomic_load(&s->n_active),
        .body_bytes = atomic_load(&s->body_bytes),
    };
    for (int i = 0; i < 6; i++) out.n_status[i] = atomic_load(&s->n_status[i]);
    return out;
}
