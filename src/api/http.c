#include "api/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <linux/tcp.h>
#include <microhttpd.h>
#include <netdb.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/os.h"

enum {
    CONNECTION_MEMORY =
        128 * 1024,          /* the library's pool per connection, mapped and touched as needed;
                                       room to refuse HTTP_MAX_HEADER in our own words */
    PULL_TARGET = 16 * 1024, /* enough per pull to keep a socket busy */
    DISCARD_FACTOR = 4,      /* a too large body is read to this multiple before we hang up */
    ARENA_CAP = 256 * 1024 * 1024,
    TRIM_BODY = 1024 * 1024, /* a request this large leaves a heap worth giving back */
    READER_NICE = 5,         /* of the thread for large bodies: streams that run go first */
    OTHER_FILES = 128,  /* descriptors that connections may not have: the store's, the model's */
    ALIVE_AFTER_S = 30, /* a peer that says nothing is asked whether it is there … */
    ALIVE_EVERY_S = 10, /* … this often */
};

/* Who holds the request. Only SUSPENDED → WOKEN resumes the connection, so each suspension is
 * resumed exactly once however many wakes race. */
enum { RUNNING, SUSPENDED, WOKEN };

typedef struct owned {
    void *ctx;
    void (*free_fn)(void *);
    struct owned *next;
} owned;

typedef struct conn conn;

struct http_req {
    http_server *server;
    struct MHD_Connection *mhd;
    conn *c;
    arena mem;
    char id[40];
    char *method, *path;
    char *authority; /* of a target like http://name/path; else NULL */
    str user;
    int64_t started_ns;
    buf body;
    error refusal;    /* of a request without a body: told when it is complete */
    size_t n_counted; /* bytes of body in the server's sum */
    bool admitted, long_header, too_large, crowded_out, complete, replied, finished, is_events;
    /* Its body is read and its handler runs on the reader's thread. An answer given there waits here,
     * because the library takes answers on its own thread only. */
    bool is_away;
    struct http_req *next_away;
    struct MHD_Response *answer;
    unsigned answer_status;
    owned *owned;
    struct {
        char *name, *value;
    } headers[16];
    int n_headers;
    /* one of these once the body is complete */
    http_pull_fn *pull;
    http_step_fn *step;
    void *ctx;
    buf out;
    size_t out_sent;
    bool pull_done;
    atomic_int state;
    atomic_bool gone;
    atomic_bool ping;
    _Atomic int64_t waiting_since; /* a stream's: since when it has nothing to send; 0 = it has */
    /* a request from inside: no connection */
    void (*local_wake)(void *ctx);
    void *local_ctx;
    int local_status;
};

/* What a connection is allowed to take its time for. */
typedef enum phase { PHASE_HEADERS, PHASE_IDLE, PHASE_BODY, PHASE_ANSWER } phase;

struct conn {
    conn *prev, *next;
    int fd;
    phase phase;
    int64_t deadline_ns; /* 0 = none */
    http_req *req;       /* while the answer is being made */
    bool watched;
    bool bad_target;
};

struct http_server {
    struct MHD_Daemon *daemon;
    http_app app;
    int port;
    pthread_t watcher;
    bool watcher_runs;
    int epoll_fd, stop_fd;
    pthread_mutex_t lock; /* conns, and the life of conn.req against the watcher */
    conn *conns;
    int max_connections, stall_seconds, ping_seconds;
    int64_t max_bodies;
    /* Large bodies, one after the other, the smallest first. */
    pthread_t reader;
    bool reader_runs, reader_stops, wants_trim;
    pthread_mutex_t away_lock;
    pthread_cond_t away_more;
    http_req *away;
    atomic_bool closing;
    _Atomic uint64_t n_requests, n_aborted, n_timed_out, n_status[6];
    _Atomic int64_t n_connections, n_active, body_bytes;
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

void http_own(http_req *r, void *ctx, void (*free_fn)(void *)) {
    owned *o = arena_alloc(&r->mem, sizeof *o);
    if (!o) { /* nowhere to remember it: give it back at once, the caller's alloc failed as well */
        free_fn(ctx);
        return;
    }
    *o = (owned){ctx, free_fn, r->owned};
    r->owned = o;
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

static http_req *req_new(http_server *s, struct MHD_Connection *mhd, conn *c, const char *method,
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

static void req_free(http_req *r) {
    http_server *s = r->server;
    bool is_large = r->n_counted > TRIM_BODY;
    atomic_fetch_sub(&s->body_bytes, (int64_t)r->n_counted);
    if (r->answer) MHD_destroy_response(r->answer);
    for (owned *o = r->owned; o; o = o->next) o->free_fn(o->ctx);
    buf_deinit(&r->body);
    buf_deinit(&r->out);
    arena_deinit(&r->mem);
    free(r);
    if (!is_large) return;
    pthread_mutex_lock(&s->away_lock);
    s->wants_trim = true;
    pthread_cond_signal(&s->away_more);
    pthread_mutex_unlock(&s->away_lock);
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
    int status = r->long_header ? 431 : info->http_status;
    if (status == 429 || status == 503) {
        http_add_header(r, "Retry-After", "1");
        http_add_header(r, "retry-after-ms", "1000");
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
    (void)pos;
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
    return (ssize_t)n;
}

void http_reply_stream(http_req *r, const char *type, http_pull_fn *pull, void *ctx) {
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
    finish_response(
        r, 200,
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 32 * 1024, read_stream, r, NULL), type);
}

void http_reply_later(http_req *r, http_step_fn *step, void *ctx) {
    r->step = step;
    r->ctx = ctx;
}

/* ── requests from inside ── */

http_req *http_local_open(http_server *s, const char *method, const char *path, str body, str user,
                          void (*wake)(void *ctx), void *ctx) {
    http_req *r = req_new(s, NULL, NULL, method, path);
    if (!r) return NULL;
    r->user = user;
    r->local_wake = wake;
    r->local_ctx = ctx;
    r->admitted = r->complete = true;
    buf_append_str(&r->body, body);
    if (!r->body.ptr) buf_reserve(&r->body, 0);
    if (r->body.failed) {
        req_free(r);
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
    req_free(r);
}

/* ── request bodies ── */

static bool inflate_body(str in, buf *out, error *err) {
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.ptr, .avail_in = (uInt)in.len};
    if (in.len > UINT_MAX || inflateInit2(&z, 15 + 32) != Z_OK)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to decompress the body.");
    int got = Z_OK;
    while (got == Z_OK) {
        char *at = buf_reserve(out, 64 * 1024);
        if (!at) break;
        z.next_out = (Bytef *)at;
        z.avail_out = 64 * 1024;
        got = inflate(&z, Z_NO_FLUSH);
        out->len += 64 * 1024 - z.avail_out;
        if (got == Z_OK && z.avail_in == 0 && z.avail_out) got = Z_BUF_ERROR; /* cut short */
    }
    inflateEnd(&z);
    if (out->failed)
        return error_set(err, ERR_BODY_TOO_LARGE, NULL,
                         "The body is larger than %d bytes after decompression.", HTTP_MAX_BODY);
    if (got != Z_STREAM_END)
        return error_set(err, ERR_MALFORMED, NULL, "The body is not valid gzip or deflate data.");
    return true;
}

static bool unzstd_body(str in, buf *out, error *err) {
    ZSTD_DStream *z = ZSTD_createDStream();
    if (!z)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to decompress the body.");
    ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, 25); /* a hostile frame may ask for gigabytes */
    ZSTD_inBuffer src = {in.ptr, in.len, 0};
    size_t left = 1;
    while (left && !ZSTD_isError(left)) {
        char *at = buf_reserve(out, 64 * 1024);
        if (!at) break;
        ZSTD_outBuffer dst = {at, 64 * 1024, 0};
        size_t before = src.pos;
        left = ZSTD_decompressStream(z, &dst, &src);
        out->len += dst.pos;
        if (left && !ZSTD_isError(left) && dst.pos == 0 && src.pos == before) break; /* cut short */
    }
    ZSTD_freeDStream(z);
    if (out->failed)
        return error_set(err, ERR_BODY_TOO_LARGE, NULL,
                         "The body is larger than %d bytes after decompression.", HTTP_MAX_BODY);
    if (left) return error_set(err, ERR_MALFORMED, NULL, "The body is not valid zstd data.");
    return true;
}

/* Undoes Content-Encoding in place. */
static bool decode_body(http_req *r, error *err) {
    const char *enc = http_header(r, "Content-Encoding");
    if (!enc || !*enc || strcasecmp(enc, "identity") == 0) return true;
    buf out = {.max = HTTP_MAX_BODY};
    bool ok;
    if (strcasecmp(enc, "gzip") == 0 || strcasecmp(enc, "x-gzip") == 0 ||
        strcasecmp(enc, "deflate") == 0)
        ok = inflate_body(buf_str(&r->body), &out, err);
    else if (strcasecmp(enc, "zstd") == 0)
        ok = unzstd_body(buf_str(&r->body), &out, err);
    else
        ok = error_set(
            err, ERR_CONTENT_ENCODING, NULL,
            "Content-Encoding '%.40s' is not supported. Send gzip, deflate, zstd or no encoding.",
            enc);
    if (!ok) {
        buf_deinit(&out);
        return false;
    }
    if (!out.ptr) buf_reserve(&out, 0);
    buf_deinit(&r->body);
    r->body = out;
    return true;
}

/* ── framing ── */

typedef struct framing {
    int n_length, n_encoding, n_host;
    bool bad_length, bad_encoding, bad_bytes;
    uint64_t length;
    size_t n_bytes;
} framing;

static enum MHD_Result see_header(void *cls, enum MHD_ValueKind kind, const char *key,
                                  size_t key_len, const char *value, size_t value_len) {
    (void)kind;
    framing *f = cls;
    str k = str_make(key, key_len), v = str_make(value, value_len);
    f->n_bytes += k.len + v.len + 4; /* ": " and the line's end */
    for (size_t i = 0; i < k.len; i++)
        if ((unsigned char)k.ptr[i] <= ' ' || (unsigned char)k.ptr[i] == 0x7F) f->bad_bytes = true;
    for (size_t i = 0; i < v.len; i++) {
        unsigned char c = (unsigned char)v.ptr[i];
        if ((c < ' ' && c != '\t') || c == 0x7F) f->bad_bytes = true;
    }
    if (k.len == 14 && strncasecmp(key, "Content-Length", 14) == 0) {
        f->n_length++;
        uint64_t n = 0;
        if (v.len == 0) f->bad_length = true;
        for (size_t i = 0; i < v.len; i++) {
            if (v.ptr[i] < '0' || v.ptr[i] > '9' || n > UINT64_MAX / 10 - 10) {
                f->bad_length = true;
                break;
            }
            n = n * 10 + (uint64_t)(v.ptr[i] - '0');
        }
        f->length = n;
    } else if (k.len == 17 && strncasecmp(key, "Transfer-Encoding", 17) == 0) {
        f->n_encoding++;
        if (v.len != 7 || strncasecmp(v.ptr, "chunked", 7) != 0) f->bad_encoding = true;
    } else if (k.len == 4 && strncasecmp(key, "Host", 4) == 0) {
        f->n_host++;
    }
    return MHD_YES;
}

/* RFC 9112 §6: what two parsers could read differently is refused. */
static bool check_framing(http_req *r, const char *version, bool *has_body, error *err) {
    framing f = {.n_bytes = strlen(r->path)};
    bool is_old = strcmp(version, "HTTP/1.0") == 0;
    MHD_get_connection_values_n(r->mhd, MHD_HEADER_KIND, see_header, &f);
    *has_body = f.length || f.n_encoding;
    if (f.bad_bytes)
        return error_set(err, ERR_MALFORMED, NULL, "A header holds control characters.");
    if (r->c && r->c->bad_target)
        return error_set(err, ERR_MALFORMED, NULL, "The request's target holds a NUL (%%00).");
    if (r->authority && !r->authority[0])
        return error_set(err, ERR_MALFORMED, NULL, "The request's target names no host.");
    r->long_header = f.n_bytes > HTTP_MAX_HEADER;
    if (r->long_header)
        return error_set(err, ERR_BODY_TOO_LARGE, NULL,
                         "The request line and headers have %zu bytes; at most %d are accepted.",
                         f.n_bytes, HTTP_MAX_HEADER);
    if (f.n_length > 1 || f.bad_length)
        return error_set(err, ERR_MALFORMED, NULL,
                         "There must be one numeric Content-Length header.");
    if (f.n_encoding > 1 || f.bad_encoding)
        return error_set(err, ERR_MALFORMED, NULL,
                         "The only Transfer-Encoding supported is chunked.");
    if (f.n_length && f.n_encoding)
        return error_set(err, ERR_MALFORMED, NULL,
                         "Content-Length and Transfer-Encoding exclude each other.");
    if (f.n_encoding && is_old)
        return error_set(err, ERR_MALFORMED, NULL, "HTTP/1.0 has no Transfer-Encoding.");
    if (f.n_host > 1 || (f.n_host == 0 && !is_old))
        return error_set(err, ERR_MALFORMED, NULL, "There must be exactly one Host header.");
    if (f.length > HTTP_MAX_BODY)
        return error_set(err, ERR_BODY_TOO_LARGE, NULL,
                         "The body has %llu bytes; at most %d are accepted.",
                         (unsigned long long)f.length, HTTP_MAX_BODY);
    return true;
}

/* ── the library's callbacks ── */

static conn *get_conn(struct MHD_Connection *mhd) {
    const union MHD_ConnectionInfo *i =
        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return i ? i->socket_context : NULL;
}

static void set_phase(http_server *s, conn *c, phase p, int seconds) {
    if (!c) return;
    pthread_mutex_lock(&s->lock);
    c->phase = p;
    c->deadline_ns = seconds ? clock_ns() + (int64_t)seconds * 1000000000 : 0;
    pthread_mutex_unlock(&s->lock);
}

/* From now on the client's leaving is news. */
static void watch(http_req *r) {
    http_server *s = r->server;
    conn *c = r->c;
    if (!c) return;
    pthread_mutex_lock(&s->lock);
    c->req = r;
    c->phase = PHASE_ANSWER;
    c->deadline_ns = 0;
    struct epoll_event e = {.events = EPOLLRDHUP | EPOLLONESHOT, .data.ptr = c};
    c->watched = epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, c->fd, &e) == 0;
    pthread_mutex_unlock(&s->lock);
}

static void unwatch(http_req *r) {
    http_server *s = r->server;
    conn *c = r->c;
    if (!c) return;
    pthread_mutex_lock(&s->lock);
    if (c->watched) epoll_ctl(s->epoll_fd, EPOLL_CTL_DEL, c->fd, NULL);
    c->watched = false;
    c->req = NULL;
    c->phase = PHASE_IDLE;
    c->deadline_ns = clock_ns() + (int64_t)HTTP_IDLE_SECONDS * 1000000000;
    pthread_mutex_unlock(&s->lock);
}

/* Only at the end of the upload can an answer be queued; a client that never ends it is cut off. out_sent
 * counts what was thrown away. */
static void take_body(http_req *r, const char *data, size_t n) {
    http_server *s = r->server;
    if (!r->admitted) return;
    if (!r->too_large && !r->crowded_out) {
        int64_t all = atomic_fetch_add(&s->body_bytes, (int64_t)n) + (int64_t)n;
        r->n_counted += n;
        r->crowded_out = all > s->max_bodies;
        if (!r->crowded_out) buf_append(&r->body, data, n);
        if (!r->body.failed && !r->crowded_out) return;
        r->too_large = r->body.failed;
        r->out_sent = r->body.len;
        buf_deinit(&r->body);
        atomic_fetch_sub(&s->body_bytes, (int64_t)r->n_counted);
        r->n_counted = 0;
    }
    r->out_sent += n;
}

/* What decompressing added. */
static bool count_decoded(http_req *r) {
    http_server *s = r->server;
    int64_t more = (int64_t)r->body.len - (int64_t)r->n_counted;
    r->n_counted = r->body.len;
    return atomic_fetch_add(&s->body_bytes, more) + more <= s->max_bodies;
}

/* The whole request is here. */
static void begin(http_req *r) {
    static const char crowded[] =
        "The requests that are here now fill the memory for their bodies.";
    http_server *s = r->server;
    error err = {0};
    if (error_is_set(&r->refusal))
        err = r->refusal;
    else if (r->too_large)
        error_set(&err, ERR_BODY_TOO_LARGE, NULL, "The body has more than %d bytes.",
                  HTTP_MAX_BODY);
    else if (r->crowded_out)
        error_set(&err, ERR_OVERLOADED, NULL, "%s", crowded);
    else if (!r->body.ptr && !buf_reserve(&r->body, 0))
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    else if (decode_body(r, &err) && !count_decoded(r))
        error_set(&err, ERR_OVERLOADED, NULL, "%s", crowded);
    if (error_is_set(&err))
        http_reply_error(r, &err);
    else
        s->app.handle(s->app.ctx, r);
}

/* ── large bodies ── */

static bool is_heavy(const http_req *r) {
    return r->body.len > HTTP_LIGHT_BODY || http_header(r, "Content-Encoding");
}

/* The connection stands still until the reader is done with it; wakes in between leave their mark. */
static bool send_away(http_req *r) {
    http_server *s = r->server;
    pthread_mutex_lock(&s->away_lock);
    bool ok = !s->reader_stops;
    if (ok) {
        MHD_suspend_connection(r->mhd);
        r->is_away = true;
        http_req **at = &s->away; /* smaller ones first: 20 KB do not wait for many times 30 MB */
        while (*at && (*at)->body.len <= r->body.len) at = &(*at)->next_away;
        r->next_away = *at;
        *at = r;
        pthread_cond_signal(&s->away_more);
    }
    pthread_mutex_unlock(&s->away_lock);
    return ok;
}

static void come_back(http_req *r) {
    r->is_away = false;
    if (!r->answer) return;
    r->replied = MHD_queue_response(r->mhd, r->answer_status, r->answer) == MHD_YES;
    MHD_destroy_response(r->answer);
    r->answer = NULL;
}

static void *read_main(void *arg) {
    http_server *s = arg;
    if (setpriority(PRIO_PROCESS, (id_t)gettid(), READER_NICE) != 0)
        log_line(LOG_DEBUG, "http", "the reader's priority: %s", strerror(errno));
    pthread_mutex_lock(&s->away_lock);
    for (;;) {
        http_req *r = s->away;
        if (r) {
            s->away = r->next_away;
            bool runs = !s->reader_stops && !atomic_load(&r->gone);
            pthread_mutex_unlock(&s->away_lock);
            if (runs) begin(r);
            MHD_resume_connection(r->mhd);
            pthread_mutex_lock(&s->away_lock);
        } else if (s->reader_stops) {
            break;
        } else if (s->wants_trim) {
            s->wants_trim = false;
            pthread_mutex_unlock(&s->away_lock);
            os_trim_heap();
            pthread_mutex_lock(&s->away_lock);
        } else {
            pthread_cond_wait(&s->away_more, &s->away_lock);
        }
    }
    pthread_mutex_unlock(&s->away_lock);
    return NULL;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *data_len, void **req) {
    http_server *s = cls;
    http_req *r = *req;
    error err = {0};
    if (!r) {
        conn *c = get_conn(mhd);
        *req = r = req_new(s, mhd, c, method, url);
        if (!r) return MHD_NO;
        atomic_fetch_add(&s->n_requests, 1);
        atomic_fetch_add(&s->n_active, 1);
        bool has_body;
        if (!check_framing(r, version, &has_body, &err)) {
            http_add_header(r, "Connection", "close");
            http_reply_error(r, &err);
            return r->replied ? MHD_YES : MHD_NO;
        }
        /* An answer given now closes the connection, for the library will not read the body. */
        if (!s->app.admit(s->app.ctx, r, &r->refusal) && has_body) {
            http_reply_error(r, &r->refusal);
            return r->replied ? MHD_YES : MHD_NO;
        }
        r->admitted = true;
        set_phase(s, c, PHASE_BODY, HTTP_BODY_SECONDS);
        return MHD_YES;
    }
    if (*data_len) {
        take_body(r, data, *data_len);
        *data_len = 0;
        return r->out_sent > (size_t)HTTP_MAX_BODY * DISCARD_FACTOR ? MHD_NO : MHD_YES;
    }
    if (!r->complete) {
        r->complete = true;
        r->out_sent = 0;
        watch(r);
        if (is_heavy(r)) return send_away(r) ? MHD_YES : MHD_NO;
        begin(r);
    } else if (r->is_away) {
        come_back(r);
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
    req_free(r);
    *req = NULL;
    atomic_fetch_sub(&s->n_active, 1);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **ctx,
                          enum MHD_ConnectionNotificationCode code) {
    http_server *s = cls;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        conn *c = calloc(1, sizeof *c);
        const union MHD_ConnectionInfo *i =
            MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD);
        *ctx = c;
        if (!c || !i) {
            free(c);
            *ctx = NULL;
            return;
        }
        c->fd = i->connect_fd;
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
        c->next = s->conns;
        if (c->next) c->next->prev = c;
        s->conns = c;
        pthread_mutex_unlock(&s->lock);
        atomic_fetch_add(&s->n_connections, 1);
    } else if (*ctx) {
        conn *c = *ctx;
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
    conn *c = get_conn(mhd);
    if (c) c->bad_target = strstr(uri, "%00") != NULL;
    set_phase(cls, c, PHASE_HEADERS, HTTP_HEADER_SECONDS);
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
static int64_t spare_ns(const conn *c) {
    int64_t second = 1000000000;
    return c->phase == PHASE_IDLE      ? HTTP_IDLE_SECONDS * second
           : c->phase == PHASE_HEADERS ? (HTTP_HEADER_SECONDS - HTTP_HURRY_SECONDS) * second
                                       : 0;
}

static void *watch_main(void *arg) {
    http_server *s = arg;
    for (;;) {
        struct epoll_event events[64];
        int n = epoll_wait(s->epoll_fd, events, 64, 1000);
        if (n < 0 && errno != EINTR) return NULL;
        int64_t now = clock_ns();
        pthread_mutex_lock(&s->lock);
        for (int i = 0; i < n; i++) {
            conn *ready = events[i].data.ptr;
            if (!ready) { /* the stop eventfd */
                pthread_mutex_unlock(&s->lock);
                return NULL;
            }
            /* The event may be older than the connection's end: believe only what is listed. */
            for (conn *c = s->conns; c; c = c->next)
                if (c == ready && c->req && c->watched) {
                    atomic_store(&c->req->gone, true);
                    http_wake(c->req);
                }
        }
        int64_t n_over = atomic_load(&s->n_connections) - s->max_connections / 4 * 3;
        for (conn *c = s->conns; c; c = c->next) {
            bool is_spare = n_over > 0 && c->deadline_ns && now > c->deadline_ns - spare_ns(c);
            if (is_spare) n_over--;
            if (is_spare || (c->deadline_ns && now > c->deadline_ns)) {
                c->deadline_ns = 0;
                atomic_fetch_add(&s->n_timed_out, c->phase != PHASE_IDLE);
                shutdown(c->fd, SHUT_RDWR);
            }
            http_req *r = c->req;
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
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
    if (s->epoll_fd < 0 || s->stop_fd < 0 ||
        epoll_ctl(s->epoll_fd, EPOLL_CTL_ADD, s->stop_fd, &e) != 0 ||
        pthread_create(&s->watcher, NULL, watch_main, s) != 0) {
        error_set(err, ERR_IO, NULL, "The server's watcher cannot start: %s.", strerror(errno));
        goto fail;
    }
    s->watcher_runs = true;
    if (pthread_create(&s->reader, NULL, read_main, s) != 0) {
        error_set(err, ERR_IO, NULL, "The server's reader cannot start.");
        goto fail;
    }
    s->reader_runs = true;
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
    if (o->n_threads > 1)
        items[8] = (struct MHD_OptionItem){MHD_OPTION_THREAD_POOL_SIZE, o->n_threads, NULL};
    errno = 0;
    s->daemon = MHD_start_daemon(flags, (uint16_t)o->port, NULL, NULL, on_request, s,
                                 MHD_OPTION_ARRAY, items, MHD_OPTION_END);
    if (!s->daemon) {
        error_set(err, ERR_IO, "port", "Cannot listen on %s port %d: %s.", o->host, o->port,
                  errno ? strerror(errno) : "the address is in use or not allowed");
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
    if (s->reader_runs) {
        pthread_mutex_lock(&s->away_lock);
        s->reader_stops = true;
        pthread_cond_signal(&s->away_more);
        pthread_mutex_unlock(&s->away_lock);
        pthread_join(s->reader, NULL);
    }
    if (s->daemon) {
        int listener = MHD_quiesce_daemon(s->daemon);
        /* The library refuses to stop with suspended connections: wake them all to see `gone`. Nobody is
         * suspended from now on, but for those that find the wake which came a moment before. */
        pthread_mutex_lock(&s->lock);
        for (conn *c = s->conns; c; c = c->next)
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
