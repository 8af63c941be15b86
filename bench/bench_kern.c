/* Times the kernels at the shapes models have: decode (one row, GB/s of weights, memory-bound) and prefill
 * (128 rows, GOP/s), every fast type, every rung, 1 and 2 threads; then attention at depth.
 * The best of several runs is printed: other load only ever slows a run down.
 *
 *     bench_kern [rung] [n_out n_in]
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/pool.h"
#include "kern/kern.h"

enum { TASK_OUTPUTS = 64, PREFILL_ROWS = 128, RUNS = 5 };

static void *take(size_t n) {
    void *p;
    if (posix_memalign(&p, 4096, n ? n : 1)) abort();
    return p;
}

typedef struct job {
    const kern *k;
    const kern_matrix *w;
    int n_matrices;
    const kern_acts *x;
    int64_t n_rows;
    float *y;
} job;

static void work(void *ctx, int task, int worker) {
    (void)worker;
    const job *j = ctx;
    int64_t per = (j->w->n_out + TASK_OUTPUTS - 1) / TASK_OUTPUTS;
    int64_t begin = task % per * TASK_OUTPUTS, end = begin + TASK_OUTPUTS;
    if (end > j->w->n_out) end = j->w->n_out;
    j->k->matmul(j->w + task / per, j->x, j->n_rows, j->y, j->w->n_out, begin, end);
}

static double best_seconds(pool *p, job *j) {
    int64_t best = INT64_MAX;
    int n_tasks = (int)((j->w->n_out + TASK_OUTPUTS - 1) / TASK_OUTPUTS) * j->n_matrices;
    for (int run = 0; run < RUNS; run++) {
        int64_t t = clock_ns();
        pool_run(p, n_tasks, work, j);
        t = clock_ns() - t;
        if (t < best) best = t;
    }
    return (double)best * 1e-9;
}

static void bench_type(const kern *k, dtype type, int64_t n_out, int64_t n_in, pool *pools[2]) {
    uint64_t row_bytes;
    if (!dtype_row_bytes(type, (uint64_t)n_in, &row_bytes)) return;
    size_t bytes = kern_pack_bytes(k, type, n_out, n_in);
    /* enough copies that no cache holds them */
    int n_matrices = (int)(((size_t)192 << 20) / bytes) + 1;
    kern_matrix *w = calloc((size_t)n_matrices, sizeof *w);
    uint8_t *data = take(bytes * (size_t)n_matrices);
    uint64_t *words = (uint64_t *)data;
    /* Scales far from infinity and from subnormals, which slow the processor down. */
    for (size_t i = 0; i < bytes / 8; i++)
        words[i] =
            (rng_at(1, i) & 0x3f3f3f3f3f3f3f3full) | 0x4040404040404040ull * (type == DTYPE_MXFP4);
    for (int i = 0; i < n_matrices; i++) {
        if (i) memcpy(data + bytes * (size_t)i, data, bytes);
        w[i] = (kern_matrix){type, KERN_PACKED, n_out, n_in, data + bytes * (size_t)i};
    }
    kern_act_type act = kern_act_for(type);
    size_t act_bytes = kern_act_bytes(act, n_in);
    uint8_t *x = take(act_bytes * PREFILL_ROWS);
    float *row = take((size_t)n_in * 4), *y = take((size_t)(n_out * PREFILL_ROWS) * 4);
    for (int r = 0; r < PREFILL_ROWS; r++) {
        for (int64_t i = 0; i < n_in; i++)
            row[i] = (float)rng_uniform_at(2, (uint64_t)(r * n_in + i)) - 0.5f;
        k->quantize(act, n_in, row, x + act_bytes * (size_t)r);
    }
    kern_acts acts = {act, n_in, x};
    printf("%-7s %-6s", k->name, dtype_get(type)->name);
    for (int p = 0; p < 2; p++) {
        job j = {k, w, n_matrices, &acts, 1, y};
        printf("  %6.1f", (double)bytes * n_matrices / best_seconds(pools[p], &j) * 1e-9);
    }
    static const int rows[] = {4, PREFILL_ROWS};
    for (int i = 0; i < 2; i++) {
        for (int p = 0; p < 2; p++) {
            job j = {k, w, 1, &acts, rows[i], y};
            double ops = 2.0 * (double)n_out * (double)n_in * rows[i];
            printf("  %6.0f", ops / best_seconds(pools[p], &j) * 1e-9);
        }
    }
    printf("\n");
    free(row), free(y), free(x), free(data), free(w);
}

static void bench_attention(const kern *k, kern_kv_type type, const char *name, int64_t dim,
                            int64_t n_group) {
    enum { TILE = 32, TILES = 512 };
    size_t row_bytes = kern_kv_row_bytes(type, dim), tile_bytes = row_bytes * TILE;
    uint8_t *kv = take(2 * tile_bytes * TILES);
    float *x = take((size_t)dim * 4), *q = take((size_t)(dim * n_group) * 4),
          *acc = take((size_t)(dim * n_group) * 4);
    for (int64_t i = 0; i < dim * n_group; i++) q[i] = (float)rng_uniform_at(3, (uint64_t)i) * 0.1f;
    for (int64_t i = 0; i < dim; i++) x[i] = (float)rng_uniform_at(4, (uint64_t)i);
    for (int i = 0; i < 2 * TILE * TILES; i++)
        k->kv_store(type, dim, x, kv + (size_t)i * row_bytes);
    kern_attn_state *st = calloc((size_t)n_group, sizeof *st);
    int64_t best = INT64_MAX;
    for (int run = 0; run < RUNS; run++) {
        memset(acc, 0, (size_t)(dim * n_group) * 4);
        for (int64_t g = 0; g < n_group; g++)
            st[g] = (kern_attn_state){-INFINITY, 0, acc + g * dim};
        int64_t t = clock_ns();
        for (int i = 0; i < TILES; i++)
            k->attn_tile(type, dim, n_group, q, kv + (size_t)(2 * i) * tile_bytes,
                         (int64_t)row_bytes, kv + (size_t)(2 * i + 1) * tile_bytes,
                         (int64_t)row_bytes, 0, TILE, st);
        t = clock_ns() - t;
        if (t < best) best = t;
    }
    printf("%-7s %-4s dim %3lld group %lld  %6.2f ns per row and query  %6.1f GB/s\n", k->name,
           name, (long long)dim, (long long)n_group,
           (double)best / (TILE * TILES) / (double)n_group,
           (double)(2 * tile_bytes * TILES) / (double)best);
    free(kv), free(x), free(q), free(acc), free(st);
}

int main(int argc, char **argv) {
    static const dtype types[] = {DTYPE_Q8_0,  DTYPE_Q4_0, DTYPE_Q4_K, DTYPE_Q5_0, DTYPE_Q6_K,
                                  DTYPE_MXFP4, DTYPE_F16,  DTYPE_BF16, DTYPE_F32};
    error err = {0};
    pool *pools[2] = {pool_new(1, &err), pool_new(2, &err)};
    int64_t n_out = argc > 3 ? atoll(argv[2]) : 2048, n_in = argc > 3 ? atoll(argv[3]) : 2048;
    printf("%lld x %lld              decode GB/s     4 rows GOP/s  %d rows GOP/s\n",
           (long long)n_out, (long long)n_in, PREFILL_ROWS);
    printf("rung    type    1 thr   2 thr   1 thr   2 thr   1 thr   2 thr\n");
    for (int r = KERN_AVX2; r < KERN_N_RUNGS; r++) {
        const kern *k = kern_get_rung((kern_rung)r);
        if (!k || (argc > 1 && strcmp(argv[1], k->name) != 0)) continue;
        for (size_t t = 0; t < sizeof types / sizeof *types; t++)
            bench_type(k, types[t], n_out, n_in, pools);
        bench_attention(k, KERN_KV_F16, "F16", 64, 4);
        bench_attention(k, KERN_KV_F16, "F16", 64, 8);
        bench_attention(k, KERN_KV_F16, "F16", 128, 4);
        bench_attention(k, KERN_KV_F16, "F16", 64, 1);
        bench_attention(k, KERN_KV_Q8_0, "Q8_0", 64, 8);
    }
    pool_free(pools[0]);
    pool_free(pools[1]);
    return 0;
}
