/* Chat completions that are kept ("store": true) and their routes. Not a door. */
#ifndef API_STORE_CHAT_H
#define API_STORE_CHAT_H

#include "api/store.h"

typedef struct chat_keeper chat_keeper;

/* For a request whose answer is to be kept; body: its JSON. Lives in the request's arena. NULL: there is
 * no store, and nothing is kept; the calls below take it. */
chat_keeper *chat_keeper_new(api *a, http_req *r, json_t *body);
/* Once the answer is complete and before it is shown to be: starts writing it (render gives the
 * object), and is true when the outcome is known, with err set if it was not kept. http_wake follows a
 * false. */
bool chat_keeper_done(chat_keeper *k, const char *id, void (*render)(void *ctx, buf *out),
                      void *ctx, error *err);

#endif
