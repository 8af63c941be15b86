/* What the files of the HTTP layer share; not a door. http.c owns connections and answers, http_input.c
 * sees the bytes first, http_body.c reads bodies and runs the handlers. */
#ifndef API_HTTP_IMPL_H
#define API_HTTP_IMPL_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "api/http.h"
#include "api/http_framing.h"

/* Who holds the request. Only SUSPENDED → WOKEN resumes the connection, so each suspension is
 * resumed exactly once however many wakes race. */
enum { RUNNING, SUSPENDED, WOKEN };

/* Things a request owns that need no memory to be remembered: no handler has more. */
enum { HTTP_OWNED = 8 };

typedef struct http_owned {
    void *ctx;
    void (*free_fn)(void *);
    bool is_late;
    struct http_owned *next;
} http_owned;

typedef struct http_conn http_conn;

struct http_req {
    http_server *server;
    struct MHD_Connection *mhd;
    http_conn *c;
    arena mem;
    char id[40];
    char *method, *path;
    char *authority; /* of a target like http://name/path; else NULL */
    str user;
    uint64_t client;
    int64_t started_ns;
    buf body;
    error refusal;               /* of a request without a body: told when it is complete */
    size_t n_counted;            /* bytes of body in the server's sum */
    size_t n_discarded;          /* bytes of one that is not kept */
    bool admitted;               /* the app let it in; else its body is not wanted */
    bool too_large, crowded_out; /* why its body is not kept */
    bool complete;               /* all of it is here */
    bool replied;                /* the library has its answer, or the first of it */
    bool finished; /* the app has said all of it: whoever leaves now broke nothing off */
    bool is_events;
    /* Its body is read and its handler runs on the reader's thread. An answer given there waits here,
     * because the library takes answers on its own thread only. */
    bool is_away;
    struct http_req *next_away; /* in either of the reader's lists */
    struct MHD_Response *answer;
    unsigned answer_status;
    http_owned *owned;
    http_owned first_owned[HTTP_OWNED];
    int n_owned;
    struct {
        char *name, *value;
    } headers[16];
    int n_headers;
    /* one of these once the body is complete */
    http_pull_fn *pull;
    http_step_fn *step;
    void *ctx;
    buf out;
    size_t out_sent;  /* bytes of `out` the library has */
    uint64_t n_bytes; /* of all that is pulled, when it is known */
    bool pull_done;
    atomic_int state;
    atomic_bool gone;
    atomic_bool ping;
    _Atomic int64_t held_until;    /* a refusal's: told then, not before; 0 = at once */
    _Atomic int64_t waiting_since; /* a stream's: since when it has nothing to send; 0 = it has */
    /* a request from inside: no connection */
    void (*local_wake)(void *ctx);
    void *local_ctx;
    int local_status;
};

/* What a connection is allowed to take its time for. */
typedef enum http_phase { PHASE_HEADERS, PHASE_IDLE, PHASE_BODY, PHASE_ANSWER } http_phase;

struct http_conn {
    http_conn *prev, *next;
    uint64_t number; /* never used again, as its address may be: what the watcher knows it by */
    int fd;
    http_phase phase;
    int64_t deadline_ns; /* 0 = none */
    int64_t
        again_ns;  /* refused for want of room: when it was told to come again. HTTP thread, or the
                         reader's while the request is there */
    http_req *req; /* while the answer is being made */
    bool watched;
    http_server *server;
    /* What came, as http_input.c sees it; on the HTTP thread only. */
    framing framing;
    bool seen, refused;
};

struct http_server {
    struct MHD_Daemon *daemon;
    http_app app;
    int port;
    pthread_t watcher;
    bool watcher_runs;
    int epoll_fd, stop_fd;
    pthread_mutex_t lock; /* conns, and the life of conn.req against the watcher */
    http_conn *conns;
    uint64_t n_numbered;
    int max_connections, stall_seconds, ping_seconds;
    int64_t max_bodies;
    /* Large bodies, one after the other, the smallest first. */
    pthread_t reader;
    bool reader_runs, reader_stops, wants_trim;
    pthread_mutex_t away_lock;
    pthread_cond_t away_more;
    http_req *away;
    http_req *over; /* ended; their memory is still to be given back */
    atomic_bool closing;
    _Atomic uint64_t n_requests, n_aborted, n_timed_out, n_status[6];
    _Atomic int64_t n_connections, n_active, body_bytes;
};

/* http.c: a request of its own memory; mhd and c are NULL for one without a connection. NULL: no
 * memory. */
http_req *http_req_new(http_server *s, struct MHD_Connection *mhd, http_conn *c, const char *method,
                       const char *path);
void http_req_free(http_req *r);
/* The rest of it, when nobody knows the request any more: its memory. Any thread. */
void http_req_bury(http_req *r);
/* What the connection may take its time for from now on, and how long; 0 = as long as it likes. */
void http_set_phase(http_server *s, http_conn *c, http_phase p, int seconds);

/* http_input.c: every byte of the connection is seen before the library gets it, from here to there.
 * False: its descriptor is too high a number. HTTP thread. */
bool http_input_open(http_conn *c);
void http_input_close(http_conn *c);

/* http_body.c: a piece of the body came. */
void http_body_take(http_req *r, const char *data, size_t n);
/* The body is whole: the handler runs, here or, when there is much to read, on the reader's thread; then
 * the connection is parked and http_body_come_back follows. False: the server is closing. */
bool http_body_begin(http_req *r);
void http_body_come_back(http_req *r);
bool http_reader_start(http_server *s);
void http_reader_stop(http_server *s);
/* The reader buries it, some time. False: it does not run. */
bool http_reader_bury(http_server *s, http_req *r);
/* There is a heap worth giving back. */
void http_reader_trim(http_server *s);

#endif
