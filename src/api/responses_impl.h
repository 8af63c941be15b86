/* Inside a run: shared by responses_run.c (driving), responses_events.c (rendering) and
 * responses_decode.c (requests). */
#ifndef API_RESPONSES_IMPL_H
#define API_RESPONSES_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "api/responses.h"

typedef enum run_phase { RUN_DECODED, RUN_COMPACTS, RUN_GENERATES, RUN_SAVES, RUN_OVER } run_phase;
typedef enum run_status {
    RUN_QUEUED,
    RUN_IN_PROGRESS,
    RUN_COMPLETED,
    RUN_INCOMPLETE,
    RUN_CANCELLED,
    RUN_FAILED
} run_status;

typedef enum item_kind {
    ITEM_MESSAGE,
    ITEM_REASONING,
    ITEM_CALL,
    ITEM_CUSTOM_CALL,
    ITEM_SEARCH_CALL, /* of tool_search, which the client runs */
    ITEM_COMPACTION
} item_kind;
typedef struct out_item {
    item_kind kind;
    api_id id;
    api_id call_id;
    buf name, space, text; /* text: of the message, the reasoning, the arguments or input */
    buf sealed;            /* the reasoning, once it is whole: the same text wherever it is shown */
    buf logprobs;          /* JSON, comma-separated */
    const char *status;
} out_item;

struct run {
    api *a;
    /* runs' lock */
    struct run *next;
    int refs;
    bool is_public;
    /* any thread */
    atomic_bool woken, cancel, forgotten;
    /* set while decoding */
    api_id id;
    const char *seed; /* 24 letters of id */
    int64_t created, expires;
    arena mem;
    json_t *request;   /* the body, with the seed it got */
    json_t *input;     /* its own items, normal */
    json_t *all_input; /* those of before, too */
    json_t *echo;      /* members the response repeats */
    json_t *chat_body;
    json_t *keep;              /* what requests that were decoded borrow from */
    int64_t compact_threshold; /* prompts with more tokens are summarised first; 0 = never */
    json_t *ancestors;         /* ids of the responses it builds on */
    /* By the name the model knows: {kind, name, namespace} of a tool that is no plain function. */
    json_t *offered;
    str owner, conversation;
    bool holds; /* the conversation's name */
    item_messages messages;
    json_t *tool_paths; /* where tool i of the chat request stood in the client's request */
    chat_request *chat;
    bool store, background, stream, keep_log, wants_logprobs, wants_sealed;
    /* run.lock */
    pthread_mutex_t lock;
    run_phase phase;
    run_status status;
    bool cancelled;
    choices *set;
    out_item *items;
    size_t n_items;
    bool item_open;
    int64_t completed;
    error err;
    buf final;
    buf log;      /* SSE text */
    size_t *ends; /* of each event still in it: [n_events − n_dropped] */
    size_t cap_ends, n_events, n_dropped, n_shown;
    store_job *job;
    struct reader *readers;
};

const char *run_status_name(run_status s);
/* The whole object as it stands. */
void run_put_response(run *k, buf *out, run_status status);
void run_event_response(run *k, const char *type);
void run_event_error(run *k, const error *err);
void run_event_end(run *k); /* closes what is open, then completed, incomplete or failed */
void run_event_drop_last(run *k);
void run_event_compaction(run *k, str sealed);
void run_take_event(run *k, const turn_event *e);

/* Others may answer in its conversation now. */
void run_release(run *k);

/* What `include` may ask for. */
enum { INCLUDE_SEALED = 6, INCLUDE_LOGPROBS };
extern const char *const response_includes[];

/* Of a query; whether reasoning is to be sealed. NULL: nobody asks. */
bool response_parse_include(http_req *r, bool *sealed, error *err);

/* The client's names for the chat request's parameters. */
void run_fix_param(const run *k, error *err);

/* responses_compact.c: whether its prompt is to be summarised before it is answered; the request for
 * the summary; and, when that was answered by k->set, the item, the new prompt and k->chat. */
bool compaction_is_due(const run *k);
chat_request *compaction_request(run *k, error *err);
bool compaction_apply(run *k, error *err);

/* conversations.c */
bool conversation_put_items(store_tx *tx, str owner, str id, json_t *items, error *err);
/* ERR_CONVERSATION_LOCKED when somebody works on it. */
bool conversation_hold(api *a, str id, const char *param, error *err);

#endif
