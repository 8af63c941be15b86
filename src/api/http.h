/* HTTP/1.1 over libmicrohttpd: connections, bodies, suspend and resume. Knows
 * requests and bytes, nothing of OpenAI but the shape of an error.
 *
 * What the library leaves open is guarded here:
 *   - a client that leaves while nothing is being sent is seen by a watcher
 *     (EPOLLRDHUP), which wakes the request so that its work is cancelled;
 *   - strict framing (http_framing.h): what is not HTTP, or could be read in two ways, never
 *     becomes a request; it is answered with the app's error (400, 413, 431) and closed;
 *   - answers are pulled: a stream holds at most HTTP_STREAM_CAP bytes that the
 *     client has not taken;
 *   - headers and bodies have deadlines however slowly their bytes trickle, and a
 *     client that takes nothing of its answer has one too;
 *   - bodies of all requests together have a bound; when connections run out, idle
 *     ones and those slow with their headers are closed first.
 *
 * Closing its sending half is leaving, for a client: nobody could tell it from one
 * that is gone.
 *
 * Threads: handlers and pull functions run one at a time per request; steps and pulls
 * on one of the HTTP threads, a handler there or, for a body of more than HTTP_LIGHT_BODY
 * bytes or one that is compressed, on a thread for those, so that nobody's stream waits
 * while it is read. http_wake may be called from any thread and never blocks.
 */
#ifndef API_HTTP_H
#define API_HTTP_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/error.h"

enum {
    /* Each looks at all its connections when it wakes, which may be at every token: fewer of them each
     * (docs/decisions/0003). */
    HTTP_THREADS = 4,
    HTTP_STREAM_CAP = 64 * 1024,         /* bytes of a stream waiting for the client */
    HTTP_MAX_BODY = 32 * 1024 * 1024,    /* after decompression too */
    HTTP_ANY_RATIO = 4 * 1024 * 1024,    /* a body up to here may be compressed at will … */
    HTTP_MAX_RATIO = 100,                /* … beyond, to a hundredth */
    HTTP_MAX_BODIES = 512 * 1024 * 1024, /* of all requests together; beyond: 503 */
    HTTP_LIGHT_BODY = 16 * 1024,         /* read on the HTTP thread itself */
    HTTP_MAX_HEADER = 32 * 1024,         /* request line and headers together */
    HTTP_MAX_CONNECTIONS = 4096,
    HTTP_HEADER_SECONDS = 15, /* from connecting (or the request line) to the last header */
    HTTP_BODY_SECONDS = 120,  /* from the last header to the last body byte */
    HTTP_HURRY_SECONDS = 3,   /* all a header gets when connections run out */
    HTTP_IDLE_SECONDS = 120,  /* keep-alive between requests */
    HTTP_STALL_SECONDS = 120, /* there is something to send and the client takes none of it */
    HTTP_PING_SECONDS = 15,   /* a comment on event streams that wait this long */
    /* What a refused client is told to wait. One that asks again sooner on the same connection, and is refused
     * again, hears so only then. */
    HTTP_RETRY_SECONDS = 1,
};

typedef struct http_server http_server;
typedef struct http_req http_req;

typedef enum http_pull_result { HTTP_MORE, HTTP_WAIT, HTTP_DONE, HTTP_ABORT } http_pull_result;

/* Appends the next bytes of a stream. HTTP_WAIT: nothing now, http_wake follows. HTTP_MORE: call
 * again when these are sent. HTTP_DONE: these were the last. HTTP_ABORT: break the connection. */
typedef http_pull_result http_pull_fn(http_req *r, void *ctx, buf *out);
/* Called after each wake until it has replied (returns true). */
typedef bool http_step_fn(http_req *r, void *ctx);

typedef struct http_app {
    void *ctx;
    /* Headers are here, the body is not. False with err set refuses the request now. May add
     * response headers (CORS). */
    bool (*admit)(void *ctx, http_req *r, error *err);
    /* The last byte is here and nothing was spent on the body yet, which is as it came. False with err
     * set refuses the request; unlike admit's, that keeps the connection. */
    bool (*has_place)(void *ctx, http_req *r, error *err);
    /* The whole request is here: reply, now or later. */
    void (*handle)(void *ctx, http_req *r);
    /* Renders an error as a body in the manner of the request's path. */
    void (*render_error)(void *ctx, http_req *r, const error *err, buf *out);
} http_app;

typedef struct http_options {
    const char *host; /* address to bind: "127.0.0.1", "::1", "0.0.0.0", … */
    int port;         /* 0 = any free one */
    int n_threads;    /* ≥ 1; HTTP_THREADS does well */
    /* 0 = the limits above. */
    int max_connections, stall_seconds, ping_seconds;
    size_t max_bodies;
} http_options;

http_server *http_open(const http_options *o, const http_app *app, error *err);
/* Cancels what runs, closes all connections, joins all threads. */
void http_close(http_server *s);
int http_get_port(const http_server *s);

/* ── A request. Strings are borrowed and live as long as it. ── */
const char *http_method(const http_req *r);
const char *http_path(const http_req *r); /* percent-decoded, without authority and query */
/* NULL when absent. "Host" is the target's authority where the target has one. */
const char *http_header(const http_req *r, const char *name);
const char *http_query(const http_req *r, const char *name); /* NULL when absent */
void http_each_query(const http_req *r,
                     void (*each)(void *ctx, const char *name, const char *value), void *ctx);
str http_body(const http_req *r); /* decompressed */
const char *http_request_id(const http_req *r);
arena *http_arena(http_req *r);
int64_t http_started_ns(const http_req *r);
/* Whom the app took the client for (in admit); "" until it says. Borrowed: it outlives the request. */
void http_set_user(http_req *r, str user);
str http_user(const http_req *r);
/* The same as a number for who shares what; 0 until it says. */
void http_set_client(http_req *r, uint64_t client);
uint64_t http_client(const http_req *r);
/* The address at the other end as a number, of IPv6 its network of 64 bits; 0 = a request from inside. */
uint64_t http_peer(const http_req *r);
/* The client left, or the server is closing: stop working for it. */
bool http_is_gone(const http_req *r);

/* For the answer; before replying. */
void http_add_header(http_req *r, const char *name, const char *value);
/* Freed with fn when the request ends, however it ends (once, on an HTTP thread). */
void http_own(http_req *r, void *ctx, void (*free_fn)(void *ctx));
/* The same for what is large and nobody waits for: freed after all others, of a large body on the
 * reader's thread, and some time. */
void http_own_late(http_req *r, void *ctx, void (*free_fn)(void *ctx));

/* Exactly one of these, once. http_reply takes the bytes out of *body. */
void http_reply(http_req *r, int status, const char *content_type, buf *body);
void http_reply_error(http_req *r, const error *err);
void http_reply_stream(http_req *r, const char *content_type, http_pull_fn *pull, void *ctx);
/* The same of what has n_bytes in all: pull gives that many. */
void http_reply_bytes(http_req *r, const char *content_type, size_t n_bytes, http_pull_fn *pull,
                      void *ctx);
void http_reply_later(http_req *r, http_step_fn *step, void *ctx);

/* There is something to do for this request. Any thread, while the request lives. */
void http_wake(http_req *r);

/* ── A request from inside ──
 * The same handlers without a socket: what a batch line runs. It is not admitted (no key, no Host) and
 * has no headers and no query; `user` is whom it is run for. Handlers, steps and pulls run on the thread that opens and polls it. */

/* Runs the handler. wake: as http_wake, it comes from any thread and must not block; poll again then.
 * NULL: no memory. */
http_req *http_local_open(http_server *s, const char *method, const char *path, str body, str user,
                          void (*wake)(void *ctx), void *ctx);
/* True once the whole answer is here; *body (the request's, until it is closed) may be an event
 * stream. */
bool http_local_poll(http_req *r, int *status, str *body);
/* Also before it is answered: its work is cancelled. */
void http_local_close(http_req *r);

/* For /metrics. */
typedef struct http_stats {
    uint64_t n_requests, n_aborted, n_timed_out;
    int64_t n_connections, n_active, body_bytes;
    uint64_t n_status[6]; /* by first digit */
} http_stats;
http_stats http_get_stats(const http_server *s);
/* The server a request came to. Handlers ask here: the first request may come before http_open has
 * returned. */
const http_server *http_get_server(const http_req *r);

#endif
