/* A program that answers a request in oriel's place: it runs in the sandbox on a
 * thread of its own, and what it writes waits here for the request to take.
 *
 * Ownership: backend_start ties it to the request, with whose end it ends.
 */
#ifndef API_BACKEND_H
#define API_BACKEND_H

#include "api/serve.h"
#include "tools/sandbox.h"

typedef struct backend backend;

/* What happens to the program's output on its way, on the backend's thread; calls come one after
 * the other. NULL members pass bytes through. */
typedef struct backend_filter {
    void *ctx; /* taken: ends with `done`, also when backend_start fails */
    /* The next bytes; `bytes` is empty once at the end, when the program ended well. */
    bool (*push)(void *ctx, str bytes, buf *out, error *err);
    void (*done)(void *ctx);
} backend_filter;

/* The command's strings are copied. ERR_RATE_LIMIT when too many run already. NULL with the error
 * set. */
backend *backend_start(http_req *r, const sandbox_command *c, backend_filter f, error *err);
/* Appends what came since the last call. True when there will be no more; then err says how it
 * ended. http_wake() follows while it is false. */
bool backend_take(backend *b, buf *out, error *err);

#endif
