/* The CPU device: matrices, rows, products. Attention is in attn.c, the mixture
 * of experts in moe.c. Sizes of tasks were measured; they never show in results.
 */
#include "dev/dev.h"

#include <stdlib.h>
#include <string.h>

#include "dev/tasks.h"

/* ── Weights ── */

static bool is_packed(const dev *d, dtype type, bool pack) {
    return pack && kern_can_pack(d->kern, type);
}

uint64_t dev_matrix_bytes(const dev *d, dtype type, int64_t n_out, int64_t n_in, int n_mats,
                          bool pack) {
    uint64_t bytes;
    if (!dtype_row_bytes(type, (uint64_t)n_in, &bytes)) return 0;
    if (is_packed(d, type, pack))
        bytes = kern_pack_bytes(d->kern, type, n_out, n_in);
    else
        bytes *= (uint64_t)n_out;
    return (uint64_t)n_mats * bytes;
}

dev_matrix dev_matrix_place(const dev *d, dtype type, int64_t n_out, int64_t n_in, int n_mats,
                            bool pack, bool f32, const void *memory) {
    bool packed = is_packed(d, type, pack);
    return (dev_matrix){
        .first = {type, packed ? KERN_PACKED : KERN_ROWS, n_out, n_in, memory},
        .n_mats = n_mats,
        .mat_bytes = dev_matrix_bytes(d, type, n_out, n_in, 1, pack),
        .act = f32 ? KERN_ACT_F32 : kern_act_for(type),
    };
}

void dev_matrix_put(const dev *d, const dev_matrix *m, int mat, int64_t row, int64_t n,
                    const void *rows) {
    const kern_matrix *k = &m->first;
    char *to = (char *)k->data + (size_t)mat * m->mat_bytes;
    if (k->layout == KERN_PACKED) {
        kern_pack(d->kern, k->type, k->n_out, k->n_in, rows, row, row + n, to);
        return;
    }
    size_t row_bytes = m->mat_bytes / (size_t)k->n_out;
    to += (size_t)row * row_bytes;
    if (to != rows) memcpy(to, rows, (size_t)n * row_bytes); /* else they were read into place */
}

/* ── Rows ── */

typedef struct row_job {
    row_fn *fn;
    void *ctx;
    int64_t n_rows, per_task;
} row_job;

static void row_task(void *ctx, int task, int worker) {
    (void)worker;
    const row_job *j = ctx;
    int64_t begin = (int64_t)task * j->per_task, end = begin + j->per_task;
    for (int64_t r = begin; r < end && r < j->n_rows; r++) j->fn(j->ctx, r);
}

void run_rows(const dev *d, int64_t n_rows, int64_t row_work, row_fn *fn, void *ctx) {
    if (n_rows == 1 || n_rows * row_work < ROWS_INLINE || pool_n_threads(d->pool) == 1) {
        for (int64_t r = 0; r < n_rows; r++) fn(ctx, r);
        return;
    }
    int64_t per_task = ROWS_INLINE / 2 / (row_work > 0 ? row_work : 1);
    row_job j = {fn, ctx, n_rows, per_task > 1 ? per_task : 1};
    pool_run(d->pool, (int)((n_rows + j.per_task - 1) / j.per_task), row_task, &j);
}

typedef struct rows {
    const dev *d;
    const dev_matrix *table;
    const int32_t *ids;
    const float *x, *w;
    float *y;
    float eps;
    const dev_acts *acts;
} rows;

static void embed_row(void *ctx, int64_t r) {
    const rows *j = ctx;
    kern_matrix_row(&j->table->first, j->ids[r], j->y + r * j->table->first.n_in);
}

void dev_embed(const dev *d, const dev_matrix *table, int64_t n_rows, const int32_t *ids,
               float *x) {
    rows j = {.table = table, .ids = ids, .y = x};
    run_rows(d, n_rows, table->first.n_in, embed_row, &j);
}

static void quantize_row(void *ctx, int64_t r) {
    const rows *j = ctx;
    const dev_acts *a = j->acts;
    j->d->kern->quantize(KERN_ACT_Q8, a->n_in, dev_acts_row(a, r),
                         (char *)a->data[KERN_ACT_Q8] + (size_t)r * a->row_bytes[KERN_ACT_Q8]);
}

static void norm_row(void *ctx, int64_t r) {
    const rows *j = ctx;
    const dev_acts *a = j->acts;
    j->d->kern->rmsnorm(a->n_in, j->x + r * a->n_in, j->w, j->eps, dev_acts_row(a, r));
    if (a->data[KERN_ACT_Q8]) quantize_row(ctx, r);
}

void dev_norm(const dev *d, int64_t n_rows, const float *x, const float *w, float eps,
              const dev_acts *out) {
    rows j = {.d = d, .x = x, .w = w, .eps = eps, .acts = out};
    run_rows(d, n_rows, out->n_in, norm_row, &j);
}

void dev_quantize(const dev *d, int64_t n_rows, const dev_acts *a) {
    if (!a->data[KERN_ACT_Q8]) return;
    rows j = {.d = d, .acts = a};
    run_rows(d, n_rows, a->n_in, quantize_row, &j);
}

/* ── Products ── */

void multiply(const dev *d, const dev_matrix *w, int mat, const dev_acts *x, int64_t row,
              int64_t n_rows, int64_t begin, int64_t end, float *y, int64_t ldy) {
    kern_matrix m = dev_matrix_at(w, mat);
    kern_acts a = {w->act, w->first.n_in,
                   (const char *)x->data[w->act] + (size_t)row * x->row_bytes[w->act]};
    d->kern->matmul(&m, &a, n_rows, y, ldy, begin, end);
    if (!w->bias) return;
    const float *bias = w->bias + (int64_t)mat * w->first.n_out;
    for (int64_t r = 0; r < n_rows; r++)
        d->kern->add(end - begin, bias + begin, y + r * ldy + begin);
}

typedef struct matmul_job {
    const dev *d;
    int64_t n_rows, chunk;
    const dev_acts *x;
    const dev_product *p;
    int n, task_end[DEV_MAX_PRODUCTS];
} matmul_job;

static void matmul_task(void *ctx, int task, int worker) {
    const matmul_job *j = ctx;
    int i = 0, base = 0;
    while (task >= j->task_end[i]) base = j->task_end[i++];
    const dev_product *p = &j->p[i];
    int64_t begin = (int64_t)(task - base) * j->chunk, end = begin + j->chunk;
    if (end > p->w->first.n_out) end = p->w->first.n_out;
    for (int64_t row = 0; row < j->n_rows; row += ROW_BLOCK) {
        int64_t n = j->n_rows - row < ROW_BLOCK ? j->n_rows - row : ROW_BLOCK;
        float *y = p->y + row * p->ldy;
        if (!p->add) {
            multiply(j->d, p->w, 0, j->x, row, n, begin, end, y, p->ldy);
            continue;
        }
        float *tile = worker_scratch(j->d, worker);
        multiply(j->d, p->w, 0, j->x, row, n, begin, end, tile - begin, CHUNK_MAX);
        for (int64_t r = 0; r < n; r++)
            j->d->kern->add(end - begin, tile + r * CHUNK_MAX, y + r * p->ldy + begin);
    }
}

void dev_matmul(const dev *d, int64_t n_rows, const dev_acts *x, const dev_product *p, int n) {
    if (n_rows == 0) return;
    matmul_job j = {.d = d, .n_rows = n_rows, .x = x, .p = p, .n = n};
    int64_t n_out = 0;
    for (int i = 0; i < n; i++) n_out += p[i].w->first.n_out;
    j.chunk = chunk_for(d, n_out);
    int n_tasks = 0;
    for (int i = 0; i < n; i++)
        j.task_end[i] = n_tasks += (int)((p[i].w->first.n_out + j.chunk - 1) / j.chunk);
    pool_run(d->pool, n_tasks, matmul_task, &j);
}

typedef struct gated_job {
    const dev *d;
    int64_t n_rows, chunk;
    const dev_acts *x, *out;
    const dev_matrix *gate, *up;
    dev_gating g;
} gated_job;

void gate_rows(const dev *d, const dev_matrix *gate, const dev_matrix *up, int mat, dev_gating g,
               const dev_acts *x, int64_t row, int64_t n_rows, int64_t begin, int64_t end,
               const dev_acts *out, int64_t out_row, int worker) {
    float *gt = worker_scratch(d, worker), *ut = gt + ROW_BLOCK * CHUNK_MAX;
    for (int64_t at = 0; at < n_rows; at += ROW_BLOCK) {
        int64_t n = n_rows - at < ROW_BLOCK ? n_rows - at : ROW_BLOCK;
        multiply(d, gate, mat, x, row + at, n, begin, end, gt - begin, CHUNK_MAX);
        multiply(d, up, mat, x, row + at, n, begin, end, ut - begin, CHUNK_MAX);
        for (int64_t r = 0; r < n; r++) {
            float *y = dev_acts_row(out, out_row + at + r) + begin;
            const float *gr = gt + r * CHUNK_MAX, *ur = ut + r * CHUNK_MAX;
            if (g.oai)
                d->kern->swiglu_oai(end - begin, gr, ur, g.alpha, g.limit, y);
            else
                d->kern->swiglu(end - begin, gr, ur, y);
        }
    }
}

static void gated_task(void *ctx, int task, int worker) {
    const gated_job *j = ctx;
    int64_t begin = (int64_t)task * j->chunk, end = begin + j->chunk;
    if (end > j->gate->first.n_out) end = j->gate->first.n_out;
    gate_rows(j->d, j->gate, j->up, 0, j->g, j->x, 0, j->n_rows, begin, end, j->out, 0, worker);
}

void dev_gated(const dev *d, int64_t n_rows, const dev_acts *x, const dev_matrix *gate,
               const dev_matrix *up, dev_gating g, const dev_acts *out) {
    if (n_rows == 0) return;
    int64_t n_out = gate->first.n_out;
    gated_job j = {d, n_rows, chunk_for(d, n_out), x, out, gate, up, g};
    pool_run(d->pool, (int)((n_out + j.chunk - 1) / j.chunk), gated_task, &j);
}

size_t dev_scratch_bytes(dev *d, int n_workers, int n_heads, int n_kv_heads, int head_dim) {
    size_t gated = (size_t)2 * ROW_BLOCK * CHUNK_MAX * sizeof(float);
    size_t attn = attn_scratch_bytes(n_heads, n_kv_heads, head_dim);
    d->worker_bytes = ((gated > attn ? gated : attn) + 4095) / 4096 * 4096;
    return d->worker_bytes * (size_t)n_workers;
}
