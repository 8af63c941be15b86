/* A mixture of experts on the CPU. (Row, rank) slots are sorted by expert, so a
 * prompt runs one product per expert over all its rows, and a single row streams
 * the chosen experts only. Every row adds its experts in rank order after all
 * are done: which rows shared an expert cannot be seen in the result.
 */
#include <math.h>
#include <string.h>

#include "dev/tasks.h"

typedef struct moe_job {
    const dev *d;
    const dev_moe *m;
    int64_t n_rows, chunk;
    int n_chunks;
    const dev_acts *acts;
    float *x;
} moe_job;

/* Top-k, then softmax over the chosen. For a router that takes the softmax over all experts and
 * renormalises the chosen (qwen3moe) the weights are the same numbers: the shared denominator falls
 * out. NaN is never preferred. */
static void route_row(void *ctx, int64_t r) {
    const moe_job *j = ctx;
    const dev_moe *m = j->m;
    const float *l = m->logits + r * m->n_experts;
    int32_t *chosen = m->chosen + r * m->n_used;
    float *weight = m->weight + r * m->n_used;
    for (int k = 0; k < m->n_used; k++) {
        int best = -1;
        for (int e = 0; e < m->n_experts; e++) {
            bool taken = false;
            for (int i = 0; i < k; i++) taken |= chosen[i] == e;
            if (!taken && (best < 0 || l[e] > l[best] || (isnan(l[best]) && !isnan(l[e]))))
                best = e;
        }
        chosen[k] = best;
    }
    double sum = 0;
    for (int k = 0; k < m->n_used; k++) sum += exp((double)l[chosen[k]] - (double)l[chosen[0]]);
    for (int k = 0; k < m->n_used; k++)
        weight[k] = (float)(exp((double)l[chosen[k]] - (double)l[chosen[0]]) / sum);
}

/* Counting sort of the slots by expert; returns the number of experts that have any. */
static int sort_slots(const dev_moe *m, int64_t n_rows) {
    int64_t n = n_rows * m->n_used;
    memset(m->first, 0, (size_t)(m->n_experts + 1) * sizeof *m->first);
    for (int64_t i = 0; i < n; i++) m->first[m->chosen[i] + 1]++;
    int n_active = 0;
    for (int e = 0; e < m->n_experts; e++) {
        if (m->first[e + 1]) m->active[n_active++] = e;
        m->first[e + 1] += m->first[e];
    }
    for (int64_t i = 0; i < n; i++) m->slot[i] = m->first[m->chosen[i]]++;
    for (int e = m->n_experts; e > 0; e--) m->first[e] = m->first[e - 1];
    m->first[0] = 0;
    return n_active;
}

static void gather_row(void *ctx, int64_t r) {
    const moe_job *j = ctx;
    for (int k = 0; k < j->m->n_used; k++)
        for (int t = 0; t < 2; t++) {
            size_t bytes = j->acts->row_bytes[t];
            if (!j->m->in.data[t]) continue;
            memcpy((char *)j->m->in.data[t] + (size_t)j->m->slot[r * j->m->n_used + k] * bytes,
                   (const char *)j->acts->data[t] + (size_t)r * bytes, bytes);
        }
}

static void gate_task(void *ctx, int task, int worker) {
    const moe_job *j = ctx;
    const dev_moe *m = j->m;
    int e = m->active[task / j->n_chunks];
    int64_t begin = task % j->n_chunks * j->chunk, end = begin + j->chunk;
    if (end > m->gate->first.n_out) end = m->gate->first.n_out;
    bool alone = j->n_rows == 1; /* nothing was gathered: every slot reads the one row */
    gate_rows(j->d, m->gate, m->up, e, m->gating, alone ? j->acts : &m->in, alone ? 0 : m->first[e],
              m->first[e + 1] - m->first[e], begin, end, &m->hidden, m->first[e], worker);
}

static void quantize_slot(void *ctx, int64_t s) {
    const moe_job *j = ctx;
    const dev_acts *h = &j->m->hidden, *rest = &j->m->rest;
    char *q = (char *)h->data[KERN_ACT_Q8] + (size_t)s * h->row_bytes[KERN_ACT_Q8];
    float *x = dev_acts_row(h, s);
    j->d->kern->quantize(KERN_ACT_Q8, h->n_in, x, q);
    kern_act_subtract(h->n_in, q, x);
    j->d->kern->quantize(KERN_ACT_Q8, h->n_in, x,
                         (char *)rest->data[KERN_ACT_Q8] + (size_t)s * h->row_bytes[KERN_ACT_Q8]);
}

static void down_task(void *ctx, int task, int worker) {
    const moe_job *j = ctx;
    const dev_moe *m = j->m;
    int e = m->active[task / j->n_chunks];
    int64_t n_out = m->down->first.n_out;
    int64_t begin = task % j->n_chunks * j->chunk, end = begin + j->chunk;
    if (end > n_out) end = n_out;
    for (int64_t row = m->first[e]; row < m->first[e + 1]; row += ROW_BLOCK) {
        int64_t n = m->first[e + 1] - row < ROW_BLOCK ? m->first[e + 1] - row : ROW_BLOCK;
        multiply(j->d, m->down, e, &m->hidden, row, n, begin, end, m->y + row * n_out, n_out);
        if (m->down->act != KERN_ACT_Q8) continue;
        dev_matrix unbiased = *m->down;
        unbiased.bias = NULL;
        float *tile = worker_scratch(j->d, worker);
        multiply(j->d, &unbiased, e, &m->rest, row, n, begin, end, tile - begin, CHUNK_MAX);
        for (int64_t r = 0; r < n; r++)
            j->d->kern->add(end - begin, tile + r * CHUNK_MAX, m->y + (row + r) * n_out + begin);
    }
}

static void combine_row(void *ctx, int64_t r) {
    const moe_job *j = ctx;
    const dev_moe *m = j->m;
    int64_t n = m->down->first.n_out;
    for (int k = 0; k < m->n_used; k++)
        j->d->kern->axpy(n, m->weight[r * m->n_used + k],
                         m->y + (int64_t)m->slot[r * m->n_used + k] * n, j->x + r * n);
}

void dev_run_moe(const dev *d, const dev_moe *m, int64_t n_rows, const dev_acts *acts, float *x) {
    if (n_rows == 0) return;
    moe_job j = {.d = d, .m = m, .n_rows = n_rows, .acts = acts, .x = x};
    run_rows(d, n_rows, (int64_t)m->n_experts * m->n_used, route_row, &j);
    int n_active = sort_slots(m, n_rows);
    if (n_rows > 1) run_rows(d, n_rows, acts->n_in * m->n_used, gather_row, &j);
    j.chunk = chunk_for(d, m->gate->first.n_out * n_active);
    j.n_chunks = (int)((m->gate->first.n_out + j.chunk - 1) / j.chunk);
    pool_run(d->pool, n_active * j.n_chunks, gate_task, &j);
    if (m->down->act == KERN_ACT_Q8)
        run_rows(d, n_rows * m->n_used, m->hidden.n_in, quantize_slot, &j);
    j.chunk = chunk_for(d, m->down->first.n_out * n_active);
    j.n_chunks = (int)((m->down->first.n_out + j.chunk - 1) / j.chunk);
    pool_run(d->pool, n_active * j.n_chunks, down_task, &j);
    run_rows(d, n_rows, acts->n_in * m->n_used, combine_row, &j);
}
