/* A chat completion's request, decoded: what /v1/chat/completions runs, and what a request to
 * /v1/responses is translated into, so that tools, formats and sampling mean the same through both. Not
 * a door.
 */
#ifndef API_CHAT_REQUEST_H
#define API_CHAT_REQUEST_H

#include "api/serve.h"

typedef struct chat_request chat_request;

/* body: what POST /v1/chat/completions takes. All of it lives in mem, which has to outlive it;
 * strings are borrowed from body. */
chat_request *chat_request_decode(api *a, arena *mem, json_t *body, error *err);
const gen_params *chat_request_gen(const chat_request *k);
const chat_input *chat_request_input(const chat_request *k);
/* For choices_start and choices_new: ctx is the chat_request. */
void chat_request_make_turn(void *ctx, size_t i, turn_request *q);

#endif
