/* /v1/files: what clients upload and what batches write. The object is a row, its bytes a content. */
#include "api/files.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "api/multipart.h"

enum { MIN_EXPIRY = 3600, MAX_EXPIRY = 2592000, MAX_LIST = 10000 };

bool file_check_purpose(str purpose, error *err) {
    static const char *const known[] = {"assistants", "batch",     "fine-tune",
                                        "vision",     "user_data", "evals"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (str_is(purpose, known[i])) return true;
    return error_set(err, ERR_INVALID_VALUE, "purpose",
                     "'%.*s' is not one of ['assistants', 'batch', 'fine-tune', 'vision', "
                     "'user_data', 'evals'] - 'purpose'",
                     (int)(purpose.len > 60 ? 60 : purpose.len), purpose.ptr ? purpose.ptr : "");
}

bool file_check_expiry(int64_t seconds, const char *path, error *err) {
    field_path at;
    path_member(&at, path, "seconds");
    if (seconds < MIN_EXPIRY)
        return error_set(err, ERR_INT_BELOW_MIN, at.text,
                         "Invalid '%s': expected a value >= %d, but got %lld instead.", at.text,
                         MIN_EXPIRY, (long long)seconds);
    if (seconds > MAX_EXPIRY)
        return error_set(err, ERR_INT_ABOVE_MAX, at.text,
                         "Invalid '%s': expected a value <= %d, but got %lld instead.", at.text,
                         MAX_EXPIRY, (long long)seconds);
    return true;
}

bool file_decode_expiry(json_t *v, const char *path, int64_t *seconds, error *err) {
    static const char *const anchors[] = {"created_at", NULL};
    int which;
    field_path at;
    json_t *anchor, *s;
    return field_object(v, path, err) && (anchor = field_need(v, "anchor", path, err)) &&
           field_enum(anchor, path_member(&at, path, "anchor"), anchors, &which, err) &&
           (s = field_need(v, "seconds", path, err)) &&
           field_int(s, path_member(&at, path, "seconds"), INT64_MIN, INT64_MAX, seconds, err) &&
           file_check_expiry(*seconds, path, err);
}

void file_render(const file_draft *f, buf *out) {
    json_out j = json_begin(out);
    json_obj(&j);
    json_kv_cstr(&j, "id", f->id.text);
    json_kv_cstr(&j, "object", "file");
    json_kv_int(&j, "bytes", f->content.bytes);
    json_kv_int(&j, "created_at", f->created);
    json_key(&j, "expires_at");
    if (f->expires)
        json_put_int(&j, f->expires);
    else
        json_put_null(&j);
    json_kv_str(&j, "filename", f->filename);
    json_kv_str(&j, "purpose", f->purpose);
    json_kv_cstr(&j, "status", "processed");
    json_kv_null(&j, "status_details");
    json_end_obj(&j);
}

bool file_put(store_tx *tx, const file_draft *f, error *err) {
    buf data = {0};
    file_render(f, &data);
    store_row row = {.kind = STR("file"),
                     .owner = f->owner,
                     .id = str_from(f->id.text),
                     .tag = f->purpose,
                     .created = f->created,
                     .expires = f->expires,
                     .content = str_from(f->content.hash),
                     .data = buf_str(&data)};
    bool ok =
        (!data.failed || error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the file.")) &&
        store_keep_content(tx, &f->content, err) && store_put(tx, &row, err);
    buf_deinit(&data);
    return ok;
}

/* ── create ── */

typedef struct upload {
    multipart form;
    str body;
    file_draft f;
} upload;

static bool put_upload(store_tx *tx, void *ctx, error *err) {
    return file_put(tx, &((upload *)ctx)->f, err);
}

static bool save_upload(store *s, void *ctx, error *err) {
    upload *u = ctx;
    store_writer *w = store_writer_open(s, err);
    bool ok = w && store_writer_put(w, u->body.ptr, u->body.len, err) &&
              store_writer_finish(w, &u->f.content, err) && store_write(s, put_upload, u, err);
    store_writer_free(w);
    if (!ok) store_drop_content(s, &u->f.content);
    return ok;
}

static void say_created(api *a, http_req *r, void *ctx) {
    (void)a;
    buf body = {0};
    file_render(&((upload *)ctx)->f, &body);
    http_reply(r, 200, "application/json", &body);
}

static bool decode_form(http_req *r, upload *u, error *err) {
    if (!multipart_parse(http_header(r, "Content-Type"), http_body(r), &u->form, err)) return false;
    const multipart_part *bytes = multipart_find(&u->form, "file"),
                         *purpose = multipart_find(&u->form, "purpose"),
                         *anchor = multipart_find(&u->form, "expires_after[anchor]"),
                         *seconds = multipart_find(&u->form, "expires_after[seconds]");
    if (!bytes)
        return error_set(err, ERR_MISSING_PARAMETER, "file", "Missing required parameter: 'file'.");
    if (!purpose)
        return error_set(err, ERR_MISSING_PARAMETER, "purpose",
                         "Missing required parameter: 'purpose'.");
    if (!file_check_purpose(purpose->body, err)) return false;
    if ((anchor != NULL) != (seconds != NULL))
        return error_set(err, ERR_MISSING_PARAMETER, "expires_after",
                         "'expires_after' needs both 'anchor' and 'seconds'.");
    if (anchor && !str_is(anchor->body, "created_at"))
        return error_set(err, ERR_INVALID_VALUE, "expires_after.anchor",
                         "Invalid value for 'expires_after.anchor': only 'created_at' is known.");
    if (seconds) {
        char digits[24];
        snprintf(digits, sizeof digits, "%.*s", STR_ARG(seconds->body));
        char *end;
        long long n = strtoll(digits, &end, 10);
        if (end == digits || *end)
            return error_set(err, ERR_INVALID_TYPE, "expires_after.seconds",
                             "Invalid type for 'expires_after.seconds': expected an integer.");
        if (!file_check_expiry(n, "expires_after", err)) return false;
        u->f.expires = api_now() + n;
    } else if (str_is(purpose->body, "batch")) {
        u->f.expires = api_now() + MAX_EXPIRY;
    }
    u->body = bytes->body;
    u->f.id = api_make_id("file-");
    u->f.owner = http_user(r);
    u->f.created = api_now();
    u->f.purpose = purpose->body;
    u->f.filename = bytes->filename[0] ? str_from(bytes->filename) : STR("upload");
    return true;
}

void route_file_create(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    upload *u = arena_alloc(http_arena(r), sizeof *u);
    if (!u)
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    else if (api_get_store(a, &err))
        decode_form(r, u, &err);
    if (error_is_set(&err))
        http_reply_error(r, &err);
    else
        api_task(a, r, save_upload, u, say_created);
}

/* ── the rest ── */

void route_file_list(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    list_query q;
    const char *purpose = http_query(r, "purpose");
    list_rows rows = {.kind = "file"};
    if (purpose && *purpose) rows.tag = str_from(purpose);
    if (list_parse(r, MAX_LIST, MAX_LIST, true, &q, &err))
        list_reply_rows(a, r, &q, &rows);
    else
        http_reply_error(r, &err);
}

void route_file_get(api *a, http_req *r, str arg) {
    api_reply_row(a, r, "file", arg, "file");
}

void route_file_delete(api *a, http_req *r, str arg) {
    api_delete_row(a, r, "file", arg, "file", "file");
}

/* Streamed from the page cache; a content never changes. */
typedef struct download {
    int fd;
    off_t at;
} download;

static void end_download(void *ctx) {
    close(((download *)ctx)->fd);
}

static http_pull_result pull_content(http_req *r, void *ctx, buf *out) {
    (void)r;
    download *d = ctx;
    enum { PIECE = 16 * 1024 };
    char *to = buf_reserve(out, PIECE);
    ssize_t n = to ? pread(d->fd, to, PIECE, d->at) : -1;
    if (n < 0) return HTTP_ABORT;
    out->len += (size_t)n;
    out->ptr[out->len] = 0;
    d->at += n;
    return n ? HTTP_MORE : HTTP_DONE;
}

void route_file_content(api *a, http_req *r, str arg) {
    error err = {0};
    store_row row;
    download *d = arena_alloc(http_arena(r), sizeof *d);
    if (!d) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (d && api_get_row(a, r, "file", arg, "file", &row, &err) &&
        (d->fd = store_open_content(a->store, row.content, &err)) >= 0) {
        d->at = 0;
        http_own(r, d, end_download);
        struct stat st;
        if (fstat(d->fd, &st) == 0)
            http_reply_bytes(r, "application/octet-stream", (size_t)st.st_size, pull_content, d);
        else {
            error_set(&err, ERR_IO, NULL, "The file cannot be read.");
            http_reply_error(r, &err);
        }
    } else
        http_reply_error(r, &err);
}
