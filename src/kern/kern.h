/* Arithmetic on plain pointers; knows no tensors, no threads, no files.
 *
 * One table of functions per rung (scalar, AVX2, AVX-512, NEON), chosen once at
 * start and masked by ORIEL_CPU=scalar|avx2|avx512|neon. The scalar file is the
 * meaning: integer kernels of other rungs match it exactly, float kernels stay
 * within n·ε·Σ|xᵢyᵢ| of a double-precision sum.
 *
 * The promise all of oriel leans on: an output element depends only on its own
 * row of activations, its own row of weights, the rung and the weight layout.
 * Never on how many rows or outputs were computed in the same call, or by whom.
 * So tiles grow across outputs and rows, and every output keeps one fixed
 * order along k (explicit fma, also in tails; no contraction by the compiler).
 *
 * Shapes: weights [n_out][n_in] (one row per output), activations
 * [n_rows][n_in], results [n_rows][n_out], all row-major.
 * Threads: every function is pure over its arguments.
 */
#ifndef KERN_KERN_H
#define KERN_KERN_H

#include "base/dtype.h"
#include "base/error.h"

typedef enum kern_rung { KERN_SCALAR, KERN_AVX2, KERN_AVX512, KERN_NEON, KERN_N_RUNGS } kern_rung;

/* How a weight matrix lies in memory. */
typedef enum kern_layout {
    KERN_ROWS,   /* as in the file: any known dtype */
    KERN_PACKED, /* repacked by kern_pack: rows interleaved so that one load feeds several outputs */
} kern_layout;

typedef struct kern_matrix {
    dtype type;
    kern_layout layout;
    int64_t n_out, n_in;
    const void *data; /* KERN_PACKED: 64-byte aligned */
} kern_matrix;

/* What a matrix wants its activations as. */
typedef enum kern_act_type {
    KERN_ACT_F32,
    KERN_ACT_Q8, /* int8 blocks of 32 with one float scale and block sums */
} kern_act_type;

typedef struct kern_acts {
    kern_act_type type;
    int64_t n_in;
    const void *data; /* n_rows × kern_act_bytes(type, n_in), 64-byte aligned rows */
} kern_acts;

/* KV row formats. */
typedef enum kern_kv_type { KERN_KV_F32, KERN_KV_F16, KERN_KV_BF16, KERN_KV_Q8_0 } kern_kv_type;

/* Heads up to this size; loaders refuse larger ones. */
enum { KERN_MAX_HEAD_DIM = 512 };

/* Running state of one query head's attention: softmax numerator and denominator so far, relative
 * to the running maximum (online softmax, Milakov & Gimelshein 2018). Starts {-inf, 0, zeros}. */
typedef struct kern_attn_state {
    float max, sum;
    float *acc; /* [head_dim] */
} kern_attn_state;

typedef struct kern {
    kern_rung rung;
    const char *name;
    int pack_rows; /* outputs per packed panel; tasks split outputs at multiples of this */

    /* y[r][o] = Σ_k x[r][k]·w[o][k] for r in [0,n_rows), o in [out_begin,out_end), out_begin a
     * multiple of pack_rows. ldy in floats. */
    void (*matmul)(const kern_matrix *w, const kern_acts *x, int64_t n_rows, float *y, int64_t ldy,
                   int64_t out_begin, int64_t out_end);
    /* One row to the activation format (F32 is a copy). */
    void (*quantize)(kern_act_type type, int64_t n, const float *x, void *out);
    /* y = x / rms(x) · w. Sum of squares in one fixed order, in double. y may be x. */
    void (*rmsnorm)(int64_t n, const float *x, const float *w, float eps, float *y);
    /* y += x; y may not overlap x. */
    void (*add)(int64_t n, const float *x, float *y);
    /* y = fma(a, x, y) */
    void (*axpy)(int64_t n, float a, const float *x, float *y);
    /* y[i] = silu(g[i])·u[i] */
    void (*swiglu)(int64_t n, const float *g, const float *u, float *y);
    /* gpt-oss: g = min(g,limit), u = clamp(u,±limit), y = g·σ(alpha·g)·(u+1) */
    void (*swiglu_oai)(int64_t n, const float *g, const float *u, float alpha, float limit,
                       float *y);
    /* Rotates one head in place. cs: [n_rot/2] pairs {cos, sin} (already scaled by the YaRN
     * concentration). halves: pairs are (i, i+n_rot/2), else (2i, 2i+1). */
    void (*rope)(int64_t n_rot, bool halves, const float *cs, float *head);
    /* Index of the maximum, lowest index on ties; NaN never wins. */
    int64_t (*argmax)(int64_t n, const float *x);

    /* One row of head_dim floats into the KV format. */
    void (*kv_store)(kern_kv_type type, int64_t n, const float *x, void *row);
    /* Folds rows [row_begin,row_end) of one KV tile into the states of a whole GQA group, in row
     * order within fixed positions of the tile: q is [n_group][head_dim] with the softmax scale
     * already applied; k and v are tile rows of one KV head, `k_stride`/`v_stride` bytes apart.
     * Rows outside the range are never read (they may be poison). */
    void (*attn_tile)(kern_kv_type type, int64_t head_dim, int64_t n_group, const float *q,
                      const void *k, int64_t k_stride, const void *v, int64_t v_stride,
                      int64_t row_begin, int64_t row_end, kern_attn_state *states);
    /* dst := dst ⊕ src, for KV splits merged in order at fixed positions. */
    void (*attn_merge)(int64_t head_dim, kern_attn_state *dst, const kern_attn_state *src);
    /* Adds the sink (a logit without a value; pass -INFINITY for none) and writes acc/sum. */
    void (*attn_finish)(int64_t head_dim, const kern_attn_state *s, float sink, float *out);
} kern;

/* The best rung this processor has that ORIEL_CPU allows. Never NULL. Same pointer every time. */
const kern *kern_get(void);
/* A given rung, or NULL when it is not compiled in or the processor lacks it. For tests. */
const kern *kern_get_rung(kern_rung rung);

/* Can weights of this type be used in matmul at all, and is there a packed form? */
bool kern_is_supported(dtype type);
bool kern_can_pack(const kern *k, dtype type);
/* Activations this matrix wants by default; KERN_ACT_F32 is accepted by every matrix as well
 * (slower; serves parity tests). */
kern_act_type kern_act_for(dtype type);
size_t kern_act_bytes(kern_act_type type, int64_t n_in); /* one row, rounded up to 64 */
/* x −= what the KERN_ACT_Q8 row stands for: leaves what quantising it lost. */
void kern_act_subtract(int64_t n, const void *q8, float *x);
/* Bytes of a packed matrix, rows padded to pack_rows; 0 when it cannot be packed. */
size_t kern_pack_bytes(const kern *k, dtype type, int64_t n_out, int64_t n_in);
/* Packs output rows [out_begin,out_end) (out_begin a multiple of pack_rows) of `rows` (file layout,
 * pointing at row out_begin) into dst (the whole packed matrix). Independent panels: any thread. */
void kern_pack(const kern *k, dtype type, int64_t n_out, int64_t n_in, const void *rows,
               int64_t out_begin, int64_t out_end, void *dst);

/* One row of weights as floats, from either layout (embedding lookups in a tied matrix). */
void kern_matrix_row(const kern_matrix *w, int64_t row, float *out);

/* n elements (a multiple of the block) to float, bit-exactly as the format defines. False for a
 * type that is not known. */
bool kern_dequantize(dtype type, int64_t n, const void *blocks, float *out);
size_t kern_kv_row_bytes(kern_kv_type type, int64_t n);
void kern_kv_load(kern_kv_type type, int64_t n, const void *row, float *out);

/* Names the numerics: rung, layout version. Part of the cache identity and system_fingerprint. */
uint64_t kern_numerics_id(const kern *k);

#endif
