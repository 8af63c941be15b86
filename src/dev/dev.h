/* Where tensors live and what is done to them. There is one device so far, the
 * CPU: a kernel table and a pool; it cuts every op into tasks. Ops are as coarse
 * as the forward pass wants them (norm + quantise; q, k and v in one; gate + up
 * + activation; residual add inside the matmul), because every op ends in a
 * barrier and every barrier costs.
 *
 * The promise: a row's result depends on that row and the weights alone. Tasks
 * are cut along outputs at fixed multiples and along rows anywhere; neither
 * thread count nor batch size can be seen in the bytes.
 *
 * Memory: ops allocate nothing. Threads: one owner, the one that owns the pool.
 */
#ifndef DEV_DEV_H
#define DEV_DEV_H

#include "base/error.h"
#include "base/pool.h"
#include "kern/kern.h"

enum {
    DEV_KV_BLOCK = 32, /* positions per KV tile: the unit attention walks in */
    DEV_MAX_PRODUCTS = 3,
};

typedef struct dev {
    const kern *kern;
    pool *pool;    /* NULL = this thread alone */
    char *scratch; /* dev_scratch_bytes(): 64-byte aligned; NULL while loading */
    size_t worker_bytes;
} dev;

/* Scratch the ops below need for these shapes, all n_workers together. Sets d->worker_bytes. */
size_t dev_scratch_bytes(dev *d, int n_workers, int n_heads, int n_kv_heads, int head_dim);

/* ── Weights ── */

/* A weight matrix, or n_mats alike (experts) one after the other. Its memory is the caller's. */
typedef struct dev_matrix {
    kern_matrix first;
    int n_mats;
    size_t mat_bytes;  /* from one to the next */
    const float *bias; /* [n_mats][n_out] or NULL; borrowed */
    kern_act_type act; /* what its activations are given as */
} dev_matrix;

static inline kern_matrix dev_matrix_at(const dev_matrix *m, int i) {
    kern_matrix k = m->first;
    k.data = (const char *)k.data + (size_t)i * m->mat_bytes;
    return k;
}
/* Bytes of a matrix with memory of its own: packed where that is wanted and possible, else rows. 0 when
 * a row of n_in elements is not whole blocks. */
uint64_t dev_matrix_bytes(const dev *d, dtype type, int64_t n_out, int64_t n_in, int n_mats,
                          bool pack);
/* A matrix over `memory`: dev_matrix_bytes, 64-byte aligned, to be filled by dev_matrix_put; or, with
 * pack false, [n_mats][n_out] rows in the file's layout that are there already. f32: give it float
 * activations whatever it prefers. The bias is left NULL. */
dev_matrix dev_matrix_place(const dev *d, dtype type, int64_t n_out, int64_t n_in, int n_mats,
                            bool pack, bool f32, const void *memory);
/* Puts n rows in the file's layout where rows [row, row + n) of matrix `mat` belong; row is a multiple
 * of kern's pack_rows. Any thread, as long as no two put the same rows. */
void dev_matrix_put(const dev *d, const dev_matrix *m, int mat, int64_t row, int64_t n,
                    const void *rows);

/* ── Activations ── */

/* Rows in every format a consumer wants. The float rows are always there: they are the source. */
typedef struct dev_acts {
    int64_t n_in;
    void *data[2]; /* by kern_act_type: F32; Q8 or NULL */
    size_t row_bytes[2];
} dev_acts;

static inline float *dev_acts_row(const dev_acts *a, int64_t row) {
    return (float *)((char *)a->data[KERN_ACT_F32] + (size_t)row * a->row_bytes[KERN_ACT_F32]);
}

/* x[r] = the embedding of ids[r]. */
void dev_embed(const dev *d, const dev_matrix *table, int64_t n_rows, const int32_t *ids, float *x);
/* out = rmsnorm(x)·w, in every format of out. x: [n_rows][out->n_in]. */
void dev_norm(const dev *d, int64_t n_rows, const float *x, const float *w, float eps,
              const dev_acts *out);
/* The other formats from the float rows. */
void dev_quantize(const dev *d, int64_t n_rows, const dev_acts *a);

/* ── Matrix products ── */

typedef struct dev_product {
    const dev_matrix *w;
    float *y; /* [n_rows][ldy] */
    int64_t ldy;
    bool add; /* y += instead of y = (the residual stream) */
} dev_product;

/* y = w·x + bias for up to DEV_MAX_PRODUCTS matrices that share x. */
void dev_matmul(const dev *d, int64_t n_rows, const dev_acts *x, const dev_product *p, int n);

typedef struct dev_gating {
    bool oai; /* gpt-oss: clamped at limit, σ(alpha·g), u + 1; else SwiGLU */
    float alpha, limit;
} dev_gating;

/* out's float rows = gating(gate·x, up·x); follow with dev_quantize. */
void dev_gated(const dev *d, int64_t n_rows, const dev_acts *x, const dev_matrix *gate,
               const dev_matrix *up, dev_gating g, const dev_acts *out);

/* ── Attention ── */

/* Where one layer keeps the key/value rows of one sequence. The tile of KV head h that holds
 * positions 32b … 32b+31 is K [DEV_KV_BLOCK][row], then V the same. */
typedef struct dev_kv {
    kern_kv_type type;
    char *base;
    size_t slot_bytes, tile_bytes;
    int64_t row_bytes;
    const int32_t *slots; /* [n_fixed + ring]: the pinned blocks, then a ring of the others */
    int64_t n_fixed, ring;
} dev_kv;

/* The K tile of a block; V follows tile_bytes later. */
static inline char *dev_kv_tile(const dev_kv *rows, int head, int64_t block) {
    int64_t at =
        block < rows->n_fixed ? block : rows->n_fixed + (block - rows->n_fixed) % rows->ring;
    return rows->base + (size_t)rows->slots[at] * rows->slot_bytes +
           (size_t)head * 2 * rows->tile_bytes;
}

typedef struct dev_range {
    int64_t begin, end;
} dev_range; /* positions, half-open */

/* One row's place in its sequence and what it may look at, ascending. With two ranges the first is
 * the pinned rows: whole blocks, looked at with the other rotation. */
typedef struct dev_attn_row {
    const dev_kv *kv;
    int64_t pos;
    bool is_stored; /* its K and V are there already and must not be written */
    int n_seen;
    dev_range seen[2];
} dev_attn_row;

/* Consecutive rows of one sequence that attend together: they share tiles while these are hot. */
typedef struct dev_attn_block {
    int32_t row, n_rows;
} dev_attn_block;

typedef struct dev_attention {
    int n_heads, n_kv_heads, head_dim, n_rot;
    bool halves;
    float scale;                  /* of the softmax: folded into q */
    const float *q_norm, *k_norm; /* [head_dim] or NULL */
    float eps;
    const float *sinks; /* [n_heads] or NULL */
    int64_t n_rows;
    const dev_attn_row *rows; /* [n_rows] */
    /* {cos, sin} pairs, [n_rows][n_rot]; the pinned ones are only read for rows with two ranges */
    const float *angles, *angles_pinned;
    float *q, *q_pinned; /* [n_kv_heads][n_rows][group][head_dim], scratch */
} dev_attention;

/* How many rows of one sequence a block should have at most. */
int dev_attn_block_rows(int n_heads, int n_kv_heads);
/* Norms, rotates and stores: fills q and q_pinned, writes each row's K and V at its position (unless
 * they are stored).
 * qkv: [n_rows][ldq] = q heads, k heads, v heads. */
void dev_rotate_store(const dev *d, const dev_attention *a, const float *qkv, int64_t ldq);
/* out's float rows [row] = the heads of that row, for the rows of the blocks. Online softmax over the
 * tiles in order of position; every DEV_SPLIT positions begin a new sum, and sums are merged in
 * order, so that a later division of one row among threads would not change a bit. */
enum { DEV_SPLIT = 1024 };
void dev_attend(const dev *d, const dev_attention *a, const dev_attn_block *blocks, int n_blocks,
                const dev_acts *out);

/* ── Mixture of experts ── */

typedef struct dev_moe {
    int n_experts, n_used;
    const dev_matrix *gate, *up, *down; /* n_mats = n_experts */
    dev_gating gating;
    const float *logits; /* [n_rows][n_experts], of the router */
    /* Scratch. A slot is one (row, rank); slots of one expert lie together. */
    int32_t *chosen;     /* [n_rows][n_used] experts, best first; ties take the lower index */
    int32_t *slot;       /* [n_rows][n_used] */
    float *weight;       /* [n_rows][n_used] softmax over the chosen */
    int32_t *first;      /* [n_experts + 1]: slots of expert e are [first[e], first[e+1]) */
    int32_t *active;     /* [n_experts]: experts with slots */
    dev_acts in, hidden; /* [n_slots] rows */
    dev_acts rest;       /* [n_slots] Q8 rows: what quantising `hidden` lost */
    float *y;            /* [n_slots][n_out of down] */
} dev_moe;

/* x[r] += Σ weight·expert(acts[r]) in rank order. Gated products have outliers, which cost the others
 * of their block precision, and the sum decides where the next router sends a row: so what int8
 * lost of them goes through the down matrix as well, while its rows are in the cache. */
void dev_run_moe(const dev *d, const dev_moe *m, int64_t n_rows, const dev_acts *acts, float *x);

#endif
