#include "api/store.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"

store *api_get_store(const api *a, error *err) {
    if (!a->store)
        error_set(err, ERR_NOT_IMPLEMENTED, NULL,
                  "This server was started with --no-store and keeps nothing.");
    return a->store;
}

int64_t api_get_expiry(const api *a) {
    return a->o.store_seconds > 0 ? api_now() + a->o.store_seconds : 0;
}

/* ── waiting for a write ── */

typedef struct waiting {
    api *a;
    store_job *job;
    void *ctx;
    api_then *then;
} waiting;

static void wake(void *r) {
    http_wake(r);
}

static bool step(http_req *r, void *ctx) {
    waiting *w = ctx;
    error err = {0};
    if (!store_poll(w->job, &err)) return false;
    if (error_is_set(&err))
        http_reply_error(r, &err);
    else
        w->then(w->a, r, w->ctx);
    return true;
}

static void end_waiting(void *ctx) {
    store_job_free(((waiting *)ctx)->job);
}

static waiting *wait_later(api *a, http_req *r, void *ctx, api_then *then) {
    error err = {0};
    waiting *w = arena_alloc(http_arena(r), sizeof *w);
    if (!api_get_store(a, &err) || !w) {
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
        http_reply_error(r, &err);
        return NULL;
    }
    *w = (waiting){.a = a, .ctx = ctx, .then = then};
    http_own(r, w, end_waiting);
    http_reply_later(r, step, w);
    return w;
}

void api_write(api *a, http_req *r, store_fn *fn, void *ctx, api_then *then) {
    waiting *w = wait_later(a, r, ctx, then);
    if (w) w->job = store_submit(a->store, fn, ctx, wake, r);
}

void api_task(api *a, http_req *r, store_task_fn *fn, void *ctx, api_then *then) {
    waiting *w = wait_later(a, r, ctx, then);
    if (w) w->job = store_submit_task(a->store, fn, ctx, wake, r);
}

/* ── objects ── */

bool api_get_row(api *a, http_req *r, const char *kind, str id, const char *what, store_row *out,
                 error *err) {
    store *s = api_get_store(a, err);
    if (!s) return false;
    error mine = {0};
    store_tx *tx = store_begin_read_as(s, http_user(r));
    bool ok = store_get(tx, kind, id, http_arena(r), out, &mine);
    store_end_read(tx);
    if (ok) return true;
    if (mine.code != ERR_NOT_FOUND) return error_set(err, mine.code, NULL, "%s", mine.message);
    return error_set(err, ERR_NOT_FOUND, "id", "No %s found with id '%.*s'.", what,
                     (int)(id.len > 100 ? 100 : id.len), id.ptr ? id.ptr : "");
}

static void drop_json(void *v) {
    json_decref(v);
}

json_t *api_parse_row(http_req *r, str data, error *err) {
    json_t *v = json_parse(data, err);
    if (v) http_own(r, v, drop_json);
    return v;
}

json_t *api_need_metadata(json_t *body, error *err) {
    if (json_is_null(json_object_get(body, "metadata")))
        json_object_set_new(body, "metadata", json_object());
    json_t *v = field_need(body, "metadata", "", err);
    return v && gen_decode_metadata(NULL, v, "metadata", NULL, err) ? v : NULL;
}

void api_reply_data(http_req *r, str data) {
    buf body = {0};
    buf_append_str(&body, data);
    http_reply(r, 200, "application/json", &body);
}

void api_reply_deleted(http_req *r, str id, const char *object) {
    buf body = {0};
    json_out j = json_begin(&body);
    json_obj(&j);
    json_kv_str(&j, "id", id);
    json_kv_cstr(&j, "object", object);
    json_kv_bool(&j, "deleted", true);
    json_end_obj(&j);
    http_reply(r, 200, "application/json", &body);
}

typedef struct deletion {
    const char *kind, *object;
    str id;
} deletion;

static bool delete_row(store_tx *tx, void *ctx, error *err) {
    deletion *d = ctx;
    return store_delete(tx, d->kind, d->id, NULL, err);
}

static void say_deleted(api *a, http_req *r, void *ctx) {
    (void)a;
    deletion *d = ctx;
    api_reply_deleted(r, d->id, d->object);
}

void api_reply_row(api *a, http_req *r, const char *kind, str id, const char *what) {
    error err = {0};
    store_row row;
    if (api_get_row(a, r, kind, id, what, &row, &err))
        api_reply_data(r, row.data);
    else
        http_reply_error(r, &err);
}

void api_delete_row(api *a, http_req *r, const char *kind, str id, const char *what,
                    const char *object) {
    error err = {0};
    store_row row;
    deletion *d = arena_alloc(http_arena(r), sizeof *d);
    if (!d) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (!d || !api_get_row(a, r, kind, id, what, &row, &err)) {
        http_reply_error(r, &err);
        return;
    }
    *d = (deletion){kind, object, row.id};
    api_write(a, r, delete_row, d, say_deleted);
}

/* ── lists ── */

bool list_parse(http_req *r, int64_t fallback, int64_t max, bool descending, list_query *out,
                error *err) {
    *out = (list_query){.limit = fallback, .descending = descending};
    const char *limit = http_query(r, "limit"), *order = http_query(r, "order");
    if (limit && *limit) {
        char *end;
        long long n = strtoll(limit, &end, 10);
        if (*end)
            return error_set(err, ERR_INVALID_TYPE, "limit",
                             "Invalid type for 'limit': expected an integer.");
        if (n < 1)
            return error_set(err, ERR_INT_BELOW_MIN, "limit",
                             "Invalid 'limit': expected a value >= 1, but got %lld instead.", n);
        if (n > max)
            return error_set(err, ERR_INT_ABOVE_MAX, "limit",
                             "Invalid 'limit': expected a value <= %lld, but got %lld instead.",
                             (long long)max, n);
        out->limit = n;
    }
    if (order && *order) {
        out->descending = strcmp(order, "desc") == 0;
        if (!out->descending && strcmp(order, "asc") != 0)
            return error_set(err, ERR_INVALID_VALUE, "order",
                             "Invalid value: '%.40s'. Supported values are: 'asc' and 'desc'.",
                             order);
    }
    const char *after = http_query(r, "after");
    if (after && *after) out->after = str_from(after);
    return true;
}

typedef struct listing {
    const list_rows *rows;
    json_out j;
    int64_t left;
    bool has_more;
    buf first, last;
} listing;

static void list_begin(listing *l, buf *body, int64_t limit) {
    l->left = limit;
    l->j = json_begin(body);
    json_obj(&l->j);
    json_kv_cstr(&l->j, "object", "list");
    json_key(&l->j, "data");
    json_arr(&l->j);
}

static void list_note(listing *l, str id) {
    if (!l->first.len) buf_append_str(&l->first, id);
    buf_clear(&l->last);
    buf_append_str(&l->last, id);
    l->left--;
}

static void put_id(json_out *j, const char *key, const buf *id) {
    if (id->len)
        json_kv_str(j, key, buf_str(id));
    else
        json_kv_null(j, key);
}

static void list_end(listing *l) {
    json_end_arr(&l->j);
    put_id(&l->j, "first_id", &l->first);
    put_id(&l->j, "last_id", &l->last);
    json_kv_bool(&l->j, "has_more", l->has_more);
    json_end_obj(&l->j);
    buf_deinit(&l->first);
    buf_deinit(&l->last);
}

static bool list_row(void *ctx, const store_row *row) {
    listing *l = ctx;
    if (l->rows->wants && !l->rows->wants(l->rows->ctx, row)) return true;
    if (l->left == 0) {
        l->has_more = true;
        return false;
    }
    json_put_raw(&l->j, row->data);
    list_note(l, row->id);
    return true;
}

void list_reply_rows(api *a, http_req *r, const list_query *q, const list_rows *rows) {
    error err = {0};
    store *s = api_get_store(a, &err);
    buf body = {0};
    listing l = {.rows = rows};
    if (s) {
        list_begin(&l, &body, q->limit);
        store_query sq = {rows->kind, rows->parent, rows->tag, q->after, q->descending};
        store_tx *tx = store_begin_read_as(s, http_user(r));
        store_each(tx, &sq, list_row, &l, &err);
        store_end_read(tx);
        list_end(&l);
    }
    if (error_is_set(&err)) {
        buf_deinit(&body);
        http_reply_error(r, &err);
    } else
        http_reply(r, 200, "application/json", &body);
}

void list_reply_array(http_req *r, const list_query *q, json_t *items) {
    buf body = {0};
    listing l = {0};
    list_begin(&l, &body, q->limit);
    size_t n = json_array_size(items);
    bool seen = !q->after.ptr;
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(items, q->descending ? n - 1 - i : i);
        str id = json_str(json_object_get(v, "id"));
        if (!seen) {
            seen = str_eq(id, q->after);
            continue;
        }
        if (l.left == 0) {
            l.has_more = true;
            break;
        }
        json_put_value(&l.j, v);
        list_note(&l, id);
    }
    list_end(&l);
    if (seen) {
        http_reply(r, 200, "application/json", &body);
        return;
    }
    error err = {0};
    error_set(&err, ERR_NOT_FOUND, "after", "There is no item '%.*s' to list after.",
              (int)(q->after.len > 100 ? 100 : q->after.len), q->after.ptr);
    buf_deinit(&body);
    http_reply_error(r, &err);
}

/* ── sealing ──
 * base64 of: version (1), nonce (12), ciphertext, tag (16). The purpose is authenticated with it. */

enum { NONCE = 12, TAG = 16, SEAL_VERSION = 1 };

bool seal_text(const api *a, const char *purpose, str plain, buf *out) {
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    buf raw = {0};
    int n = 0, rest = 0;
    unsigned char *p = (unsigned char *)buf_reserve(&raw, 1 + NONCE + plain.len + TAG);
    bool ok = c && p && plain.len < INT32_MAX / 2;
    if (ok) {
        p[0] = SEAL_VERSION;
        os_random(p + 1, NONCE);
        ok = EVP_EncryptInit_ex(c, EVP_aes_256_gcm(), NULL, a->secret, p + 1) &&
             EVP_EncryptUpdate(c, NULL, &n, (const unsigned char *)purpose, (int)strlen(purpose)) &&
             EVP_EncryptUpdate(c, p + 1 + NONCE, &n, (const unsigned char *)plain.ptr,
                               (int)plain.len) &&
             EVP_EncryptFinal_ex(c, p + 1 + NONCE + n, &rest) &&
             EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_GET_TAG, TAG, p + 1 + NONCE + plain.len);
    }
    if (ok) api_put_base64(out, str_make((const char *)p, 1 + NONCE + plain.len + TAG));
    EVP_CIPHER_CTX_free(c);
    buf_deinit(&raw);
    return ok && !out->failed;
}

bool unseal_text(const api *a, const char *purpose, str sealed, buf *plain) {
    if (sealed.len < 40 || sealed.len % 4 || sealed.len >= INT32_MAX / 2) return false;
    buf raw = {0};
    unsigned char *p = (unsigned char *)buf_reserve(&raw, sealed.len);
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n = p && c ? EVP_DecodeBlock(p, (const unsigned char *)sealed.ptr, (int)sealed.len) : -1;
    bool ok = false;
    if (n > 0) {
        /* The padding is counted as bytes by the library. */
        if (sealed.ptr[sealed.len - 1] == '=') n--;
        if (sealed.ptr[sealed.len - 2] == '=') n--;
        int len = n - 1 - NONCE - TAG, got = 0, rest = 0;
        char *to = len >= 0 && p[0] == SEAL_VERSION ? buf_reserve(plain, (size_t)len + 1) : NULL;
        ok = to && EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, a->secret, p + 1) &&
             EVP_DecryptUpdate(c, NULL, &got, (const unsigned char *)purpose,
                               (int)strlen(purpose)) &&
             EVP_DecryptUpdate(c, (unsigned char *)to, &got, p + 1 + NONCE, len) &&
             EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, TAG, p + 1 + NONCE + len) &&
             EVP_DecryptFinal_ex(c, (unsigned char *)to + got, &rest) > 0;
        if (ok) {
            plain->len += (size_t)len;
            plain->ptr[plain->len] = 0;
        }
    }
    EVP_CIPHER_CTX_free(c);
    buf_deinit(&raw);
    return ok;
}
