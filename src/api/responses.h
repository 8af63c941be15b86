/* A response of /v1/responses while it is made: decoded, started, read by any number of requests,
 * saved. Not a door.
 *
 * The worker drives every run: it takes the turn's events, appends them to the run's log as the SSE
 * text clients get, and wakes the readers. A run is over once its outcome is durable: with `store`
 * nobody sees the terminal event, or the answer, before the write was acknowledged.
 *
 * A foreground run is cancelled when its client leaves; a background run goes on, also after a
 * restart (its request and seed are stored, so it gives the same answer again).
 */
#ifndef API_RESPONSES_H
#define API_RESPONSES_H

#include "api/chat_request.h"
#include "api/responses_items.h"
#include "api/worker.h"

typedef struct run run;

/* What a request is decoded for. To be answered, it holds its conversation from here to its end: two
 * answers at once in one conversation would not know of each other. */
typedef enum run_purpose { RUN_TO_ANSWER, RUN_TO_COUNT } run_purpose;
/* Decodes a request body (borrowed) and builds its prompt. id NULL: a new one. */
run *run_decode(api *a, str owner, json_t *body, const char *id, run_purpose purpose, error *err);
/* For one that was not started. Afterwards the worker and run_unref take care of it. */
void run_free(run *k);
/* Starts the turn and shows the run to runs_find. The caller's reference stays valid until run_unref. */
bool run_start(run *k, error *err);
void run_unref(run *k);
/* An owner's run that is not over, by its id; run_unref it. NULL: none. */
run *runs_find(api *a, str owner, str id);

/* "starting_after" or Last-Event-ID: the number of the last event a client has seen → the first it has
 * not. */
bool response_parse_after(const char *after, size_t *from, error *err);

const char *run_id(const run *k);
bool run_is_background(const run *k);
bool run_is_stored(const run *k);
bool run_is_stream(const run *k);
const chat_request *run_chat(const run *k);
/* Normal items of the whole prompt: those of before, then its own. Borrowed. */
json_t *run_input(const run *k);
void run_cancel(run *k);
bool run_has_log(const run *k);      /* made with stream or background: its events can be read */
void run_forget(run *k);             /* it was deleted: what it becomes is not stored */
json_t *run_own_input(const run *k); /* normal; borrowed */
json_t *run_messages(const run *k);  /* chat messages; borrowed */
void run_drop_last_input(run *k);    /* out of run_input, not out of the prompt */
/* What its prompt lost, as headers. */
void run_put_headers(run *k, http_req *r);
void responses_put_usage(const choice *c, json_out *j);
/* As it is now. */
void run_render(run *k, buf *out);
/* store_fn: ctx is the run. Puts the row of a background response before it is acknowledged. */
bool run_save_queued(store_tx *tx, void *ctx, error *err);

/* Ties a request to a run: it is woken when there is news. `owner`: its leaving cancels the run.
 * from: the first event it wants. Takes over the caller's reference. False: no memory. */
bool run_read(run *k, http_req *r, bool owner, size_t from);
/* Replies, now or later, with what run_read tied. */
void run_reply_stream(run *k, http_req *r);
void run_reply_whole(run *k, http_req *r);

#endif
