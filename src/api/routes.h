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

/* For docs/API.md (docs.c): the i-th row of each table, false past the end. */
typedef struct route_row {
    const char *path, *methods; /* "/files/{file_id}", "DELETE GET" */
} route_row;
bool route_get_spec(size_t i, route_row *out);    /* OpenAI's, without /v1 */
bool route_get_handler(size_t i, route_row *out); /* ours: one method each, whole paths */

/* Handlers, each in its file. */
route_fn route_chat_completions;                   /* chat_completions.c */
route_fn route_completions;                        /* completions.c */
route_fn route_transcriptions, route_translations; /* transcribe.c */
route_fn route_image_generations, route_image_edits, route_image_variations; /* images.c */
route_fn route_moderations;                                                  /* moderations.c */
route_fn route_embeddings, route_rerank;                                     /* embeddings.c */
route_fn route_tokenize, route_detokenize, route_props;                      /* tokens.c */
route_fn route_models, route_model;                                          /* models.c */
route_fn route_health, route_metrics, route_root;                            /* status.c */
route_fn route_anthropic_messages, route_anthropic_count;                    /* anthropic.c */
route_fn route_speech, route_voices;                                         /* speech.c */
route_fn route_chat_list, route_chat_get, route_chat_update, route_chat_delete,
    route_chat_messages; /* store_chat.c */
route_fn route_response_create, route_response_get, route_response_delete, route_response_cancel,
    route_response_input_items, route_response_input_tokens,
    route_response_compact; /* responses.c */
route_fn route_conversation_create, route_conversation_get, route_conversation_update,
    route_conversation_delete, route_conversation_items_create, route_conversation_items_list,
    route_conversation_item_get, route_conversation_item_delete; /* conversations.c */
route_fn route_file_create, route_file_list, route_file_get, route_file_delete,
    route_file_content; /* files.c */
route_fn route_upload_create, route_upload_part, route_upload_complete,
    route_upload_cancel;                                                            /* uploads.c */
route_fn route_batch_create, route_batch_list, route_batch_get, route_batch_cancel; /* batches.c */
route_fn route_page;                                                                /* page.c */

#endif
