/* What came of a batch's lines: the row of each while it runs, and in the end two files of the rows, in the
 * order of the lines. */
#include <stdio.h>

#include "api/batches_impl.h"

enum { PAGE = 200 };

/* One line of the output or error file. */
void batch_render_line(const batch_job *k, size_t n, int status, const char *request_id, str body,
                       const char *code, const char *message, buf *out) {
    json_t *line = json_parse(batch_get_line(k, n), NULL);
    json_out j = json_begin(out);
    json_obj(&j);
    char id[64];
    snprintf(id, sizeof id, "batch_req_%s_%zu", k->id + 6, n + 1);
    json_kv_cstr(&j, "id", id);
    json_kv_str(&j, "custom_id", json_str(json_object_get(line, "custom_id")));
    json_key(&j, "response");
    if (request_id) {
        json_obj(&j);
        json_kv_int(&j, "status_code", status);
        json_kv_cstr(&j, "request_id", request_id);
        json_key(&j, "body");
        json_put_raw(&j, body);
        json_end_obj(&j);
    } else
        json_put_null(&j);
    json_key(&j, "error");
    if (code) {
        json_obj(&j);
        json_kv_cstr(&j, "code", code);
        json_kv_cstr(&j, "message", message);
        json_end_obj(&j);
    } else
        json_put_null(&j);
    json_end_obj(&j);
    json_decref(line);
}

typedef struct page {
    buf text;
    char last[STORE_MAX_ID + 1];
    int left;
} page;
static bool add_to_page(void *ctx, const store_row *row) {
    page *p = ctx;
    buf_append_str(&p->text, row->data);
    buf_append_char(&p->text, '\n');
    snprintf(p->last, sizeof p->last, "%.*s", STR_ARG(row->id));
    return --p->left > 0;
}

/* The rows of one tag, in order, as a file; page by page, so that readers are not held up. */
static bool write_rows(store *s, batch_job *k, const char *tag, store_writer *w, error *err) {
    page p = {0};
    bool ok = true;
    do {
        str after = p.last[0] ? str_from(p.last) : (str){0};
        char last[sizeof p.last];
        memcpy(last, p.last, sizeof last);
        if (after.ptr) after.ptr = last;
        p.left = PAGE;
        buf_clear(&p.text);
        store_query q = {
            .kind = "line", .parent = str_from(k->id), .tag = str_from(tag), .after = after};
        store_tx *tx = store_begin_read(s);
        ok = store_each(tx, &q, add_to_page, &p, err);
        store_end_read(tx);
        ok = ok && (!p.text.failed ||
                    error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the batch."));
        ok = ok && store_writer_put(w, p.text.ptr, p.text.len, err);
    } while (ok && p.left == 0);
    buf_deinit(&p.text);
    return ok;
}

/* Lines that were never answered: said to be so in the error file. */
static bool write_missing(batch_job *k, const char *code, const char *message, store_writer *w,
                          error *err) {
    bool ok = true;
    for (size_t i = 0; ok && i < k->n; i++) {
        if (k->state[i] & LINE_DONE) continue;
        buf line = {0};
        batch_render_line(k, i, 0, NULL, (str){0}, code, message, &line);
        buf_append_char(&line, '\n');
        ok = store_writer_put(w, line.ptr, line.len, err);
        buf_deinit(&line);
        k->n_failed++;
    }
    return ok;
}

static file_draft begin_file(const batch_job *k, const char *what, char name[80]) {
    snprintf(name, 80, "%s_%s.jsonl", k->id, what);
    return (file_draft){.id = api_make_id("file-"),
                        .filename = str_from(name),
                        .purpose = STR("batch_output"),
                        .owner = str_from(k->owner),
                        .created = api_now(),
                        .expires = k->output_seconds ? api_now() + k->output_seconds : 0};
}

bool batch_files_write(store *s, batch_job *k, bool expired, batch_files *files, error *err) {
    *files = (batch_files){.has_output = k->n_ok > 0,
                           .has_errors = k->n_failed > 0 ||
                                         (expired && k->n_ok + k->n_failed < (int64_t)k->n)};
    files->output = begin_file(k, "output", files->names[0]);
    files->errors = begin_file(k, "error", files->names[1]);
    store_writer *w = NULL;
    bool ok = true;
    if (files->has_output) {
        ok = (w = store_writer_open(s, err)) && write_rows(s, k, "ok", w, err) &&
             store_writer_finish(w, &files->output.content, err);
        store_writer_free(w);
    }
    if (ok && files->has_errors) {
        ok = (w = store_writer_open(s, err)) && write_rows(s, k, "error", w, err) &&
             (!expired ||
              write_missing(
                  k, "batch_expired",
                  "This request could not be executed before the completion window expired.", w,
                  err)) &&
             store_writer_finish(w, &files->errors.content, err);
        store_writer_free(w);
    }
    return ok;
}

bool batch_files_put(store_tx *tx, const batch_files *files, error *err) {
    return (!files->has_output || file_put(tx, &files->output, err)) &&
           (!files->has_errors || file_put(tx, &files->errors, err));
}

void batch_files_drop(store *s, const batch_files *files) {
    store_drop_content(s, &files->output.content);
    store_drop_content(s, &files->errors.content);
}
