#include "model_run.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

const char *corpus_path(const char *fmt, ...) {
    static char names[8][512];
    static int next;
    const char *corpus = getenv("ORIEL_CORPUS");
    if (!corpus) return NULL;
    char *name = names[next++ % 8];
    int n = snprintf(name, sizeof names[0], "%s/models/", corpus);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name + n, sizeof names[0] - (size_t)n, fmt, ap);
    va_end(ap);
    return name;
}

loaded load_model(const char *path, const model_options *opts) {
    error err = {0};
    loaded l = {.f = file_open(path, &err)};
    if (l.f) l.m = model_load(l.f, opts, &err);
    if (!l.m) fail_msg("%s: %s", path, err.message);
    return l;
}

void unload_model(loaded *l) {
    model_free(l->m);
    file_close(l->f);
}

kv *new_kv(const model *m, kern_kv_type type, int n_seqs, int64_t max_rows, int64_t max_chunk) {
    const model_info *i = model_get_info(m);
    kv_config c = {.shape = {i->n_layers, i->n_kv_heads, i->head_dim, i->layer_width, type},
                   .n_seqs = n_seqs,
                   .max_rows = max_rows,
                   .max_chunk = max_chunk};
    kv *k = kv_new(&c, NULL);
    assert_non_null(k);
    return k;
}

float *run_logits(model *m, const int32_t *ids, int n, const run_options *o) {
    int chunk = o->chunk ? o->chunk : 512;
    kv_window w = o->window;
    if (w.width == 0) w.width = KV_UNBOUNDED;
    int64_t rows = w.width == KV_UNBOUNDED ? n : w.pinned + w.width;
    kv *k = new_kv(m, o->kv_type, 1, rows < KV_BLOCK ? KV_BLOCK : rows, chunk);
    error err = {0};
    kv_seq *s = kv_seq_new(k, w, &err);
    if (!s) fail_msg("%s", err.message);
    model_ctx *c = model_ctx_new(m, (model_limits){chunk, chunk}, o->pool, &err);
    if (!c) fail_msg("%s", err.message);
    size_t n_vocab = (size_t)model_get_info(m)->n_vocab;
    float *out = malloc((size_t)n * n_vocab * sizeof *out);
    assert_non_null(out);
    for (int at = 0; at < n; at += chunk) {
        int len = n - at < chunk ? n - at : chunk;
        assert_true(kv_seq_reserve(s, len));
        model_span sp = {.seq = s, .ids = ids + at, .n = len, .n_logits = len};
        assert_true(model_forward(c, &sp, 1, NULL));
        memcpy(out + (size_t)at * n_vocab, sp.logits, (size_t)len * n_vocab * sizeof *out);
        kv_seq_commit(s, len);
    }
    model_ctx_free(c);
    kv_seq_free(s);
    kv_free(k);
    return out;
}

void *read_bytes(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    if (!f) fail_msg("%s cannot be opened", path);
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    void *p = malloc(*n + 1);
    assert_true(p && fread(p, 1, *n, f) == *n);
    fclose(f);
    return p;
}

json_t *read_json(const char *path) {
    size_t n;
    char *text = read_bytes(path, &n);
    error err = {0};
    json_t *v = json_parse(str_make(text, n), &err);
    if (!v) fail_msg("%s: %s", path, err.message);
    free(text);
    return v;
}

int32_t *json_ids(const json_t *array, int *n) {
    *n = (int)json_array_size(array);
    int32_t *ids = malloc(((size_t)*n + 1) * sizeof *ids);
    for (int i = 0; i < *n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, (size_t)i));
    return ids;
}
