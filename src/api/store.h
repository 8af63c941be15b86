/* What the routes that keep things share: waiting for a write without holding a thread, lists with
 * cursors, objects by id, sealed texts. Not a door.
 *
 * Rows (store/store.h) by kind:
 *   response       data: the response; extra: {"input": items, "request": body while it runs}; blob: its
 *                  events, zstd; tag: its status
 *   conversation   data: the object
 *   item           of a conversation: data: the item
 *   chat           a stored chat completion; extra: its messages; tag: model
 *   file           data: the object; content: its bytes; tag: purpose
 *   upload, part   a part's content; parent: the upload
 *   batch          data: the object; tag: its status
 *   line           of a batch: one answered line; ord: its number from 1; tag: "ok" or "error"
 */
#ifndef API_STORE_H
#define API_STORE_H

#include "api/serve.h"
#include "store/store.h"

/* NULL with a typed 501 when the server was started with --no-store. */
store *api_get_store(const api *a, error *err);
/* When an answer stored now expires; 0 = never. */
int64_t api_get_expiry(const api *a);

/* Runs fn on the store's writer (or tasks) thread, then `then` on an HTTP thread, which replies; a failure is
 * replied as an error and `then` is not called. ctx: of the request's arena, or owned by it. */
typedef void api_then(api *a, http_req *r, void *ctx);
void api_write(api *a, http_req *r, store_fn *fn, void *ctx, api_then *then);
void api_task(api *a, http_req *r, store_task_fn *fn, void *ctx, api_then *then);

/* Objects belong to whoever made them (http_user): to anybody else they are not there.
 *
 * The row into the request's arena; a 404 that says "No <what> found with id '…'." */
bool api_get_row(api *a, http_req *r, const char *kind, str id, const char *what, store_row *out,
                 error *err);
/* Replies with its data, or with that 404. */
void api_reply_row(api *a, http_req *r, const char *kind, str id, const char *what);
/* Its data, parsed; owned by the request. */
json_t *api_parse_row(http_req *r, str data, error *err);
/* What an update sets the metadata to: null takes all of it away. */
json_t *api_need_metadata(json_t *body, error *err);
/* Replies with JSON text as it was stored. */
void api_reply_data(http_req *r, str data);
/* {"id": …, "object": object, "deleted": true} */
void api_reply_deleted(http_req *r, str id, const char *object);
/* Deletes the row (404 if there is none), then replies as above. */
void api_delete_row(api *a, http_req *r, const char *kind, str id, const char *what,
                    const char *object);

/* ?limit, ?order, ?after of a list. */
typedef struct list_query {
    int64_t limit;
    bool descending;
    str after;
} list_query;
bool list_parse(http_req *r, int64_t fallback, int64_t max, bool descending, list_query *out,
                error *err);
typedef struct list_rows {
    const char *kind;
    str parent, tag;
    bool (*wants)(void *ctx, const store_row *row); /* NULL: all */
    void *ctx;
} list_rows;
/* Replies with {"object": "list", data, first_id, last_id, has_more}. */
void list_reply_rows(api *a, http_req *r, const list_query *q, const list_rows *rows);
void list_reply_array(http_req *r, const list_query *q, json_t *items);

/* Sealed with the data directory's secret (AES-256-GCM), base64. What a client keeps for us can
 * neither be read nor changed by it. */
bool seal_text(const api *a, const char *purpose, str plain, buf *out);
/* False: not ours, another purpose, or altered. */
bool unseal_text(const api *a, const char *purpose, str sealed, buf *plain);

#endif
