/* /v1/uploads: a file in parts. Each part is a content of its own; completing joins them. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "api/files.h"
#include "api/multipart.h"

enum { UPLOAD_SECONDS = 3600, MAX_PARTS = 1024 };
static const int64_t max_bytes = 8ll << 30;

typedef struct upload_params {
    str filename, purpose, mime_type;
    int64_t bytes;
    int64_t expires_after; /* seconds, 0 = none */
} upload_params;

static bool decode_expires_after(const field_ctx *c, json_t *v, const char *path, void *out,
                                 error *err) {
    (void)c;
    return file_decode_expiry(v, path, &((upload_params *)out)->expires_after, err);
}

static const field create_fields[] = {
    {.name = "filename",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(upload_params, filename),
     .max = 255,
     .doc = "the file's name"},
    {.name = "purpose",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(upload_params, purpose),
     .doc = "as for files"},
    {.name = "bytes",
     .kind = FIELD_INT,
     .required = true,
     .offset = offsetof(upload_params, bytes),
     .min = 0,
     .max = 8589934592.0,
     .doc = "what the parts will come to; checked when completed"},
    {.name = "mime_type",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(upload_params, mime_type),
     .doc = "accepted, no effect"},
    {.name = "expires_after",
     .kind = FIELD_CUSTOM,
     .decode = decode_expires_after,
     .doc = "of the file"},
};
const field_table upload_fields = {create_fields, sizeof create_fields / sizeof create_fields[0]};

/* ── the object ── */

typedef struct upload {
    str owner, id, filename, purpose, status, file; /* file: JSON, or empty */
    int64_t bytes, created, expires, file_expires_after;
} upload;

static void render(const upload *u, buf *out) {
    json_out j = json_begin(out);
    json_obj(&j);
    json_kv_str(&j, "id", u->id);
    json_kv_cstr(&j, "object", "upload");
    json_kv_int(&j, "bytes", u->bytes);
    json_kv_int(&j, "created_at", u->created);
    json_kv_str(&j, "filename", u->filename);
    json_kv_str(&j, "purpose", u->purpose);
    json_kv_str(&j, "status", u->status);
    json_kv_int(&j, "expires_at", u->expires);
    json_key(&j, "file");
    if (u->file.len)
        json_put_raw(&j, u->file);
    else
        json_put_null(&j);
    json_end_obj(&j);
}

/* A row → the object; strings are the JSON's. */
static upload read_upload(json_t *v, str extra) {
    char digits[24];
    snprintf(digits, sizeof digits, "%.*s", STR_ARG(extra));
    return (upload){.id = json_str(json_object_get(v, "id")),
                    .filename = json_str(json_object_get(v, "filename")),
                    .purpose = json_str(json_object_get(v, "purpose")),
                    .status = json_str(json_object_get(v, "status")),
                    .bytes = json_integer_value(json_object_get(v, "bytes")),
                    .created = json_integer_value(json_object_get(v, "created_at")),
                    .expires = json_integer_value(json_object_get(v, "expires_at")),
                    .file_expires_after = strtoll(digits, NULL, 10)};
}

static bool put_upload(store_tx *tx, const upload *u, error *err) {
    buf data = {0};
    render(u, &data);
    char seconds[24];
    snprintf(seconds, sizeof seconds, "%lld", (long long)u->file_expires_after);
    store_row row = {.kind = STR("upload"),
                     .owner = u->owner,
                     .id = u->id,
                     .tag = u->status,
                     .created = u->created,
                     .expires = u->expires + 30 * 86400,
                     .data = buf_str(&data),
                     .extra = str_from(seconds)};
    bool ok = store_put(tx, &row, err);
    buf_deinit(&data);
    return ok;
}

/* The upload, if it still takes parts. */
static bool get_pending(api *a, http_req *r, str id, upload *u, error *err) {
    store_row row;
    json_t *v;
    if (!api_get_row(a, r, "upload", id, "upload", &row, err) ||
        !(v = api_parse_row(r, row.data, err)))
        return false;
    *u = read_upload(v, row.extra);
    u->owner = row.owner;
    if (str_is(u->status, "pending") && u->expires <= api_now()) u->status = STR("expired");
    return str_is(u->status, "pending") ||
           error_set(err, ERR_INVALID_VALUE, "upload_id", "This upload is %.*s already.",
                     STR_ARG(u->status));
}

/* In the operation that changes it: another request may have ended it meanwhile. */
static bool still_takes_parts(store_tx *tx, str id, error *err) {
    arena mem;
    store_row row;
    arena_init(&mem, 0);
    bool ok =
        store_get(tx, "upload", id, &mem, &row, err) &&
        (str_is(row.tag, "pending") || error_set(err, ERR_INVALID_VALUE, "upload_id",
                                                 "This upload is %.*s already.", STR_ARG(row.tag)));
    arena_deinit(&mem);
    return ok;
}

/* ── create, cancel ── */

static bool save(store_tx *tx, void *ctx, error *err) {
    return put_upload(tx, ctx, err);
}

static void say(api *a, http_req *r, void *ctx) {
    (void)a;
    buf body = {0};
    render(ctx, &body);
    http_reply(r, 200, "application/json", &body);
}

void route_upload_create(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    upload_params p = {0};
    json_t *body;
    upload *u = arena_alloc(http_arena(r), sizeof *u);
    char *id = arena_dup(http_arena(r), str_from(api_make_id("upload_").text));
    field_ctx c = {.mem = http_arena(r)};
    if (!u || !id) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (error_is_set(&err) || !api_get_store(a, &err) || !(body = api_parse_body(r, &err)) ||
        !fields_decode(&c, body, create_fields, upload_fields.n, "", &p, &err) ||
        !file_check_purpose(p.purpose, &err)) {
        http_reply_error(r, &err);
        return;
    }
    *u = (upload){.owner = http_user(r),
                  .id = str_from(id),
                  .filename = p.filename,
                  .purpose = p.purpose,
                  .status = STR("pending"),
                  .bytes = p.bytes,
                  .created = api_now(),
                  .expires = api_now() + UPLOAD_SECONDS,
                  .file_expires_after = p.expires_after};
    api_write(a, r, save, u, say);
}

static bool save_cancelled(store_tx *tx, void *ctx, error *err) {
    upload *u = ctx;
    return still_takes_parts(tx, u->id, err) && store_delete_children(tx, "part", u->id, err) &&
           put_upload(tx, u, err);
}

void route_upload_cancel(api *a, http_req *r, str arg) {
    error err = {0};
    upload *u = arena_alloc(http_arena(r), sizeof *u);
    if (!u) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (!u || !get_pending(a, r, arg, u, &err)) {
        http_reply_error(r, &err);
        return;
    }
    u->status = STR("cancelled");
    api_write(a, r, save_cancelled, u, say);
}

/* ── parts ── */

typedef struct part {
    multipart form;
    str body;
    api_id id;
    upload u;
    int64_t created;
    store_content content;
} part;

static void render_part(const part *p, buf *out) {
    json_out j = json_begin(out);
    json_obj(&j);
    json_kv_cstr(&j, "id", p->id.text);
    json_kv_cstr(&j, "object", "upload.part");
    json_kv_int(&j, "created_at", p->created);
    json_kv_str(&j, "upload_id", p->u.id);
    json_end_obj(&j);
}

static bool put_part(store_tx *tx, void *ctx, error *err) {
    part *p = ctx;
    if (store_count(tx, "part", p->u.id, (str){0}) >= MAX_PARTS)
        return error_set(err, ERR_ARRAY_ABOVE_MAX, "data", "An upload has at most %d parts.",
                         MAX_PARTS);
    buf data = {0};
    render_part(p, &data);
    char bytes[24];
    snprintf(bytes, sizeof bytes, "%lld", (long long)p->content.bytes);
    store_row row = {.kind = STR("part"),
                     .owner = p->u.owner,
                     .id = str_from(p->id.text),
                     .parent = p->u.id,
                     .created = p->created,
                     .content = str_from(p->content.hash),
                     .data = buf_str(&data),
                     .extra = str_from(bytes)};
    bool ok = still_takes_parts(tx, p->u.id, err) && store_keep_content(tx, &p->content, err) &&
              store_put(tx, &row, err);
    buf_deinit(&data);
    return ok;
}

static bool save_part(store *s, void *ctx, error *err) {
    part *p = ctx;
    store_writer *w = store_writer_open(s, err);
    bool ok = w && store_writer_put(w, p->body.ptr, p->body.len, err) &&
              store_writer_finish(w, &p->content, err) && store_write(s, put_part, p, err);
    store_writer_free(w);
    if (!ok) store_drop_content(s, &p->content);
    return ok;
}

static void say_part(api *a, http_req *r, void *ctx) {
    (void)a;
    buf body = {0};
    render_part(ctx, &body);
    http_reply(r, 200, "application/json", &body);
}

void route_upload_part(api *a, http_req *r, str arg) {
    error err = {0};
    part *p = arena_alloc(http_arena(r), sizeof *p);
    const multipart_part *data = NULL;
    if (!p) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (p && get_pending(a, r, arg, &p->u, &err) &&
        multipart_parse(http_header(r, "Content-Type"), http_body(r), &p->form, &err) &&
        !(data = multipart_find(&p->form, "data")))
        error_set(&err, ERR_MISSING_PARAMETER, "data", "Missing required parameter: 'data'.");
    if (error_is_set(&err)) {
        http_reply_error(r, &err);
        return;
    }
    p->body = data->body;
    p->id = api_make_id("part_");
    p->created = api_now();
    api_task(a, r, save_part, p, say_part);
}

/* ── complete ── */

typedef struct joining {
    upload u;
    json_t *part_ids;
    str md5;
    file_draft f;
    arena *mem;
    struct {
        str hash;
        int64_t bytes;
    } parts[MAX_PARTS];
    size_t n;
} joining;

static bool put_joined(store_tx *tx, void *ctx, error *err) {
    joining *k = ctx;
    upload done = k->u;
    buf object = {0};
    file_render(&k->f, &object);
    done.status = STR("completed");
    done.file = buf_str(&object);
    bool ok = still_takes_parts(tx, k->u.id, err) && file_put(tx, &k->f, err) &&
              store_delete_children(tx, "part", k->u.id, err) && put_upload(tx, &done, err);
    buf_deinit(&object);
    return ok;
}

static bool copy_content(store *s, str hash, store_writer *w, error *err) {
    enum { PIECE = 1 << 20 };
    int fd = store_open_content(s, hash, err);
    if (fd < 0) return false;
    char *bytes = malloc(PIECE);
    bool ok = bytes || error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the file.");
    ssize_t n = 0;
    for (off_t at = 0; ok && (n = pread(fd, bytes, PIECE, at)) > 0; at += n)
        ok = store_writer_put(w, bytes, (size_t)n, err);
    if (n < 0) ok = error_set(err, ERR_IO, NULL, "A part cannot be read.");
    free(bytes);
    close(fd);
    return ok;
}

static bool join(store *s, void *ctx, error *err) {
    joining *k = ctx;
    store_writer *w = store_writer_open(s, err);
    bool ok = w != NULL;
    for (size_t i = 0; ok && i < k->n; i++) ok = copy_content(s, k->parts[i].hash, w, err);
    ok = ok && store_writer_finish(w, &k->f.content, err);
    if (ok && k->md5.len && !str_is(k->md5, k->f.content.md5))
        ok = error_set(err, ERR_INVALID_VALUE, "md5",
                       "The parts have the MD5 %s, not the one given. Nothing was completed.",
                       k->f.content.md5);
    ok = ok && store_write(s, put_joined, k, err);
    store_writer_free(w);
    if (!ok) store_drop_content(s, &k->f.content);
    return ok;
}

static void say_joined(api *a, http_req *r, void *ctx) {
    (void)a;
    joining *k = ctx;
    buf object = {0}, body = {0};
    file_render(&k->f, &object);
    k->u.status = STR("completed");
    k->u.file = buf_str(&object);
    render(&k->u, &body);
    buf_deinit(&object);
    http_reply(r, 200, "application/json", &body);
}

static bool decode_parts(api *a, http_req *r, joining *k, error *err) {
    json_t *body = api_parse_body(r, err), *ids, *md5;
    if (!body || !(ids = field_need(body, "part_ids", "", err)) ||
        !field_array(ids, "part_ids", MAX_PARTS, err))
        return false;
    if ((md5 = field_get(body, "md5"))) {
        if (!field_str(md5, "md5", &k->md5, err)) return false;
        char *lower = arena_dup(http_arena(r), k->md5);
        for (char *p = lower; p && *p; p++)
            if (*p >= 'A' && *p <= 'F') *p += 'a' - 'A';
        k->md5.ptr = lower;
    }
    int64_t total = 0;
    for (size_t i = 0; i < json_array_size(ids); i++) {
        field_path at;
        str id;
        store_row row;
        error mine = {0};
        path_index(&at, "part_ids", i);
        if (!field_str(json_array_get(ids, i), at.text, &id, err)) return false;
        if (!api_get_row(a, r, "part", id, "part", &row, &mine) || !str_eq(row.parent, k->u.id))
            return error_set(err, ERR_INVALID_VALUE, at.text,
                             "'%.*s' is not a part of this upload.",
                             (int)(id.len > 100 ? 100 : id.len), id.ptr);
        k->parts[k->n].hash = row.content;
        k->parts[k->n].bytes = strtoll(row.extra.ptr, NULL, 10);
        total += k->parts[k->n++].bytes;
        if (total > max_bytes)
            return error_set(err, ERR_INVALID_VALUE, "part_ids", "A file has at most %lld bytes.",
                             (long long)max_bytes);
    }
    if (total != k->u.bytes)
        return error_set(
            err, ERR_INVALID_VALUE, "part_ids",
            "The parts have %lld bytes in all, but the upload was announced with %lld.",
            (long long)total, (long long)k->u.bytes);
    return true;
}

void route_upload_complete(api *a, http_req *r, str arg) {
    error err = {0};
    joining *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (!k || !get_pending(a, r, arg, &k->u, &err) || !decode_parts(a, r, k, &err)) {
        http_reply_error(r, &err);
        return;
    }
    k->f = (file_draft){.id = api_make_id("file-"),
                        .owner = k->u.owner,
                        .filename = k->u.filename,
                        .purpose = k->u.purpose,
                        .created = api_now()};
    if (k->u.file_expires_after)
        k->f.expires = k->f.created + k->u.file_expires_after;
    else if (str_is(k->u.purpose, "batch"))
        k->f.expires = k->f.created + 30 * 86400;
    api_task(a, r, join, k, say_joined);
}
