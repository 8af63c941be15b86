/* One table for every path of OpenAI's published specification plus our own.
 * What is implemented has a handler; the rest of the specification answers a
 * typed 501; a path nobody knows is a 404, a known path with another method a
 * 405 with Allow. docs/API.md is generated from the same table.
 */
#ifndef API_ROUTES_H
#define API_ROUTES_H

#include "api/api.h"
/* `arg` is what {…} in the pattern matched (the first one), or "". */
typedef void route_fn(api *a, http_req *r, str arg);

typedef enum route_found {
    ROUTE_OK,
    ROUTE_NOT_IMPLEMENTED,
    ROUTE_WRONG_METHOD,
    ROUTE_UNKNOWN
} route_found;

typedef struct route_match {
    route_found found;
    route_fn *handler;
    str arg;
    char allow[40]; /* ROUTE_WRONG_METHOD: "GET, POST" */
    bool open;      /* needs no key (health) */
} route_match;

route_match route_find(const char *method, const char *path);

/* For the docs generator: the i-th row, false past the end. */
typedef struct route_row {
    const char *path, *methods;
    const char *done;
} route_row;
bool route_get_row(size_t i, route_row *out);

/* Handlers, each in its file. */
route_fn route_chat_completions;                  /* chat_completions.c */
route_fn route_completions;                       /* completions.c */
route_fn route_anthropic_messages, route_anthropic_count;    /* anthropic.c */
route_fn route_speech, route_voices;                         /* speech.c */
route_fn route_tokenize, route_detokenize, route_props; /* tokens.c */
route_fn route_models, route_model;               /* models.c */
route_fn route_health, route_metrics, route_root; /* status.c */

#endif
