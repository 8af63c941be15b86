/* OpenAI's endpoints: where JSON, the turn and (later) the store meet.
 *
 * The open port: loopback by default, and beyond it api_open refuses to start
 * without a key. Host must be loopback, the bound name or listed (DNS
 * rebinding); CORS answers loopback origins and listed ones.
 *
 * Threads: api_open starts its own; everything it borrows must outlive it.
 */
#ifndef API_API_H
#define API_API_H

#include "api/http.h"
#include "chat/turn.h"
#include "config/config.h"

typedef struct api api;

typedef struct api_key {
    str name; /* whose key it is: what it stores belongs to that name. "" = nobody in particular */
    str secret;
} api_key;

typedef struct api_options {
    const char *host;    /* default "127.0.0.1" */
    int port;            /* default 8080; 0 = any */
    int n_threads;       /* HTTP threads; default HTTP_THREADS */
    const api_key *keys; /* none = no key asked for (loopback only) */
    size_t n_keys;
    const char *const *cors_origins; /* exact origins allowed beside loopback ones; "*" = all */
    size_t n_cors_origins;
    const char *const *allowed_hosts; /* further Host names */
    size_t n_allowed_hosts;
    const char *model_id;       /* the loaded model's own id; "default" names it too */
    const char *const *aliases; /* what clients may call it beside those two */
    size_t n_aliases;
    int64_t model_created;        /* Unix seconds */
    uint64_t config_hash;         /* of the effective configuration, for system_fingerprint */
    sample_params sampling;       /* defaults of the operator for what a request leaves out */
    const char *reasoning_effort; /* default, or NULL */
    /* Shell lines of the operator's that hear and draw, inside the sandbox; NULL = a typed 501. */
    const char *transcribe_command, *image_command;
    /* for requests that do not say themselves: [performance mode] */
    config_limits limits[2];
    bool performance_mode;
    int64_t context_margin;
    int truncation; /* 1 auto, 0 disabled, −1: oldest turns are dropped where max_context_tokens is set */
    const char *data_dir;  /* what is stored lies below it; NULL = nothing is */
    int64_t store_seconds; /* stored answers expire after; 0 = never */
    bool page;             /* serve the chat page on /; default true */
} api_options;

api_options api_defaults(void);
/* Serves until api_close. NULL with a sentence. */
api *api_open(chat *c, const api_options *o, error *err);
void api_close(api *a);
/* What a server takes beside its engine and chat, measured: threads, connections, the store; with
 * `files` also the pages of libraries that nobody else touches. For the plan. */
size_t api_plan_bytes(bool files);
int api_get_port(const api *a);
/* Of this program, model, configuration and arithmetic: "fp_…". */
const char *api_get_fingerprint(const api *a);

#endif
