/* Inside dev: how work is cut, shared by the files of the CPU device. */
#ifndef DEV_TASKS_H
#define DEV_TASKS_H

#include "dev/dev.h"

enum {
    CHUNK_MIN = 64, /* outputs of a task: four panels, the streams a kernel reads at once */
    CHUNK_MAX = 128,
    ROW_BLOCK = 64,      /* rows multiplied with a chunk of weights while it is in the cache */
    ROWS_INLINE = 16384, /* elements: less work than this is not worth a barrier */
};

/* Outputs per task: small enough that threads finish together, else large. */
static inline int64_t chunk_for(const dev *d, int64_t n_out) {
    int64_t want = n_out / (8 * pool_n_threads(d->pool)) / CHUNK_MIN * CHUNK_MIN;
    return want < CHUNK_MIN ? CHUNK_MIN : want > CHUNK_MAX ? CHUNK_MAX : want;
}

static inline float *worker_scratch(const dev *d, int worker) {
    return (float *)(d->scratch + (size_t)worker * d->worker_bytes);
}
size_t attn_scratch_bytes(int n_heads, int n_kv_heads, int head_dim);

/* fn for every row: here when it is little work (row_work ≈ elements per row), else by the pool. */
typedef void row_fn(void *ctx, int64_t row);
void run_rows(const dev *d, int64_t n_rows, int64_t row_work, row_fn *fn, void *ctx);

/* y[r][o] = w[mat]·x[row + r] + bias for o in [begin, end); y is indexed by the absolute o. */
void multiply(const dev *d, const dev_matrix *w, int mat, const dev_acts *x, int64_t row,
              int64_t n_rows, int64_t begin, int64_t end, float *y, int64_t ldy);
/* One chunk of gating(gate[mat]·x, up[mat]·x) for rows row … row+n_rows−1 of x, to rows out_row … */
void gate_rows(const dev *d, const dev_matrix *gate, const dev_matrix *up, int mat, dev_gating g,
               const dev_acts *x, int64_t row, int64_t n_rows, int64_t begin, int64_t end,
               const dev_acts *out, int64_t out_row, int worker);

#endif
