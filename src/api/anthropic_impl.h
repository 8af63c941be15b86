/* What the two halves of the Messages API share: anthropic_decode.c reads a request, anthropic.c answers it.
 * Not a door. */
#ifndef API_ANTHROPIC_IMPL_H
#define API_ANTHROPIC_IMPL_H

#include "api/serve.h"

typedef struct anthropic_request {
    gen_params gen;
    json_t *messages, *tools, *tool_choice;
    str system;
    bool has_system, shows_thinking, never_thinks;
    str effort, asked_effort; /* of thinking; of output_config, which goes before it */
    int64_t budget_tokens;    /* of thinking; 0 = none */
    chat_answer answer;
    chat_input in; /* what the turn gets */
} anthropic_request;

/* Reads the body; everything in q lives as long as the HTTP request. only_counts: max_tokens may be
 * missing, and nothing is held against it. */
bool anthropic_decode(api *a, http_req *r, bool only_counts, anthropic_request *q, error *err);

#endif
