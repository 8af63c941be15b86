/* Attention on the CPU: rotary embedding, storing rows, online softmax over tiles.
 * Sources: Vaswani et al. 2017; RoPE, Su et al. 2021; GQA, Ainslie et al. 2023;
 * online softmax, Milakov & Gimelshein 2018; sinks as in OpenAI's gpt-oss model.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "dev/tasks.h"

enum { QUERIES = 64 }; /* of one task: their sums stay in the cache while tiles stream by */

int dev_attn_block_rows(int n_heads, int n_kv_heads) {
    int group = n_heads / n_kv_heads;
    return group >= QUERIES ? 1 : QUERIES / group;
}

/* ── Rotation and storage ── */

typedef struct store_job {
    const dev *d;
    const dev_attention *a;
    const float *qkv;
    int64_t ldq;
} store_job;

static void scale_row(int64_t n, float s, float *x) {
    for (int64_t i = 0; i < n; i++) x[i] *= s;
}

static void store_row(void *ctx, int64_t r) {
    const store_job *j = ctx;
    const dev_attention *a = j->a;
    const kern *kn = j->d->kern;
    const dev_attn_row *row = &a->rows[r];
    int hd = a->head_dim, group = a->n_heads / a->n_kv_heads;
    const float *q = j->qkv + r * j->ldq, *k = q + a->n_heads * hd, *v = k + a->n_kv_heads * hd;
    const float *cs = a->angles + r * a->n_rot;
    for (int h = 0; h < a->n_kv_heads; h++, k += hd, v += hd) {
        for (int g = 0; g < group; g++, q += hd) {
            int64_t at = (((int64_t)h * a->n_rows + r) * group + g) * hd;
            float *to = a->q + at;
            if (a->q_norm)
                kn->rmsnorm(hd, q, a->q_norm, a->eps, to);
            else
                memcpy(to, q, (size_t)hd * sizeof *to);
            if (row->n_seen == 2) {
                float *pinned = a->q_pinned + at;
                memcpy(pinned, to, (size_t)hd * sizeof *to);
                kn->rope(a->n_rot, a->halves, a->angles_pinned + r * a->n_rot, pinned);
                scale_row(hd, a->scale, pinned);
            }
            kn->rope(a->n_rot, a->halves, cs, to);
            scale_row(hd, a->scale, to);
        }
        if (row->is_stored) continue;
        float rotated[KERN_MAX_HEAD_DIM];
        if (a->k_norm)
            kn->rmsnorm(hd, k, a->k_norm, a->eps, rotated);
        else
            memcpy(rotated, k, (size_t)hd * sizeof *rotated);
        kn->rope(a->n_rot, a->halves, cs, rotated);
        char *tile = dev_kv_tile(row->kv, h, row->pos / DEV_KV_BLOCK) +
                     row->pos % DEV_KV_BLOCK * row->kv->row_bytes;
        kn->kv_store(row->kv->type, hd, rotated, tile);
        kn->kv_store(row->kv->type, hd, v, tile + row->kv->tile_bytes);
    }
}

void dev_rotate_store(const dev *d, const dev_attention *a, const float *qkv, int64_t ldq) {
    store_job j = {d, a, qkv, ldq};
    run_rows(d, a->n_rows, (int64_t)a->n_heads * a->head_dim, store_row, &j);
}

/* ── Softmax over tiles ── */

typedef struct attend_job {
    const dev *d;
    const dev_attention *a;
    const dev_attn_block *blocks;
    const dev_acts *out;
} attend_job;

/* The sums of a task's queries: of the current split, and of all splits before it. */
typedef struct sums {
    int n;
    kern_attn_state *now, *total; /* [n] */
} sums;

size_t attn_scratch_bytes(int n_heads, int n_kv_heads, int head_dim) {
    size_t n = (size_t)dev_attn_block_rows(n_heads, n_kv_heads) * (size_t)(n_heads / n_kv_heads);
    return n * 2 * ((size_t)head_dim * sizeof(float) + sizeof(kern_attn_state)) + 64;
}

static void clear(kern_attn_state *s, int n, int head_dim) {
    for (int i = 0; i < n; i++) {
        s[i].max = -INFINITY;
        s[i].sum = 0;
        memset(s[i].acc, 0, (size_t)head_dim * sizeof(float));
    }
}

static sums new_sums(const dev *d, int worker, int n, int head_dim) {
    float *acc = worker_scratch(d, worker);
    sums s = {.n = n, .now = (kern_attn_state *)(acc + (size_t)2 * (size_t)n * (size_t)head_dim)};
    s.total = s.now + n;
    for (int i = 0; i < 2 * n; i++) s.now[i].acc = acc + (size_t)i * (size_t)head_dim;
    clear(s.now, 2 * n, head_dim);
    return s;
}

static void merge(const kern *kn, sums *s, int head_dim) {
    for (int i = 0; i < s->n; i++) {
        if (s->now[i].sum == 0) continue;
        if (s->total[i].sum == 0) { /* the first split of this row: nothing to rescale */
            kern_attn_state t = s->total[i];
            s->total[i] = s->now[i];
            s->now[i] = t;
        } else {
            kn->attn_merge(head_dim, &s->total[i], &s->now[i]);
        }
        clear(&s->now[i], 1, head_dim);
    }
}

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* The part of tile t that a row sees through its pinned or its other range. */
static dev_range part_of(const dev_attn_row *row, bool pinned, int64_t t) {
    if (pinned && row->n_seen < 2) return (dev_range){0, 0};
    const dev_range *r = &row->seen[pinned ? 0 : row->n_seen - 1];
    int64_t begin = max64(r->begin, t * DEV_KV_BLOCK);
    int64_t end = min64(r->end, (t + 1) * DEV_KV_BLOCK);
    return (dev_range){begin - t * DEV_KV_BLOCK, end - t * DEV_KV_BLOCK};
}

/* Folds what the rows of a block see of one kind into their sums, tile by tile. Rows that see the
 * same part of a tile go through it together; that they do cannot be seen in the result. */
static void fold(const dev *d, const dev_attention *a, const dev_attn_block *b, int head,
                 bool pinned, sums *s) {
    const dev_attn_row *rows = a->rows + b->row;
    int group = a->n_heads / a->n_kv_heads, hd = a->head_dim;
    int64_t lo = INT64_MAX, hi = 0;
    for (int r = 0; r < b->n_rows; r++) {
        if (pinned && rows[r].n_seen < 2) continue;
        const dev_range *seen = &rows[r].seen[pinned ? 0 : rows[r].n_seen - 1];
        lo = min64(lo, seen->begin / DEV_KV_BLOCK);
        hi = max64(hi, (seen->end + DEV_KV_BLOCK - 1) / DEV_KV_BLOCK);
    }
    const float *q =
        (pinned ? a->q_pinned : a->q) + ((int64_t)head * a->n_rows + b->row) * group * hd;
    const dev_kv *kv = rows[0].kv;
    for (int64_t t = lo; t < hi; t++) {
        if (t % (DEV_SPLIT / DEV_KV_BLOCK) == 0) merge(d->kern, s, hd);
        const char *tile = dev_kv_tile(kv, head, t);
        for (int r = 0, end; r < b->n_rows; r = end) {
            dev_range part = part_of(&rows[r], pinned, t);
            for (end = r + 1; end < b->n_rows; end++) {
                dev_range next = part_of(&rows[end], pinned, t);
                if (next.begin != part.begin || next.end != part.end) break;
            }
            if (part.begin >= part.end) continue;
            d->kern->attn_tile(kv->type, hd, (end - r) * group, q + (int64_t)r * group * hd, tile,
                               kv->row_bytes, tile + kv->tile_bytes, kv->row_bytes, part.begin,
                               part.end, s->now + r * group);
        }
    }
    merge(d->kern, s, hd);
}

static void attend_task(void *ctx, int task, int worker) {
    const attend_job *j = ctx;
    const dev_attention *a = j->a;
    const dev_attn_block *b = &j->blocks[task / a->n_kv_heads];
    int head = task % a->n_kv_heads, group = a->n_heads / a->n_kv_heads, hd = a->head_dim;
    sums s = new_sums(j->d, worker, b->n_rows * group, hd);
    bool has_pinned = false;
    for (int r = 0; r < b->n_rows; r++) has_pinned |= a->rows[b->row + r].n_seen == 2;
    if (has_pinned) fold(j->d, a, b, head, true, &s);
    fold(j->d, a, b, head, false, &s);
    for (int r = 0; r < b->n_rows; r++)
        for (int g = 0; g < group; g++) {
            int h = head * group + g;
            j->d->kern->attn_finish(hd, &s.total[r * group + g], a->sinks ? a->sinks[h] : -INFINITY,
                                    dev_acts_row(j->out, b->row + r) + (int64_t)h * hd);
        }
}

void dev_attend(const dev *d, const dev_attention *a, const dev_attn_block *blocks, int n_blocks,
                const dev_acts *out) {
    attend_job j = {d, a, blocks, out};
    pool_run(d->pool, n_blocks * a->n_kv_heads, attend_task, &j);
}
