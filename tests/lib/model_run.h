/* For tests of models: loads one, runs ids through it, hands back every row's logits. */
#ifndef TESTS_MODEL_RUN_H
#define TESTS_MODEL_RUN_H

#include "base/json.h"
#include "model/model.h"

typedef struct loaded {
    file *f;
    model *m;
} loaded;

/* NULL when ORIEL_CORPUS is not set; else $ORIEL_CORPUS/models/<fmt>, in a static buffer of eight. */
const char *corpus_path(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* Fails the test when the model does not load. */
loaded load_model(const char *path, const model_options *opts);
void unload_model(loaded *l);

typedef struct run_options {
    kern_kv_type kv_type;
    kv_window window; /* width 0 = unbounded */
    int chunk;        /* 0 = 512 */
    pool *pool;
} run_options;

/* [n][n_vocab], malloc'd. */
float *run_logits(model *m, const int32_t *ids, int n, const run_options *o);
kv *new_kv(const model *m, kern_kv_type type, int n_seqs, int64_t max_rows, int64_t max_chunk);

json_t *read_json(const char *path);
/* Integers of an array, malloc'd. */
int32_t *json_ids(const json_t *array, int *n);
void *read_bytes(const char *path, size_t *n);

#endif
