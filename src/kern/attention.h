/* Attention over one KV tile for any vector width; included once per SIMD rung.
 *
 * Up to four queries of a group share every load of K and V. Scores of 32 rows are computed first, with
 * LANES sums reduced at once; then one vector exp, one rescaling of the accumulators and the weighted sum
 * of V with its accumulators in registers. For one (query, row) the operations never depend on how many
 * queries came along: the dot product runs over LANES partial sums and one tree, the softmax sum halves
 * 32 weights (absent rows count 0) five times, V is added in row order.
 */
#ifndef KERN_ATTENTION_H
#define KERN_ATTENTION_H

#include "kern/pack.h"
#include "kern/simd.h"

#if defined(__AVX2__) || defined(__ARM_NEON)

enum { DIM_VECTORS = LANES == 16 ? 4 : 2 }; /* of the output, per query, in registers at once */

INLINE size_t kv_offset(kern_kv_type type, int64_t i) {
    return type == KERN_KV_F32    ? (size_t)i * 4
           : type == KERN_KV_Q8_0 ? (size_t)(i / 32) * 34
                                  : (size_t)i * 2;
}

/* LANES elements of a row from element i on; n < LANES of them exist in the last vector. */
INLINE vf kv_vector(kern_kv_type type, const uint8_t *row, int64_t i, int64_t n) {
    const uint8_t *p = row + kv_offset(type, i);
    if (type == KERN_KV_Q8_0)
        return v_mul(v_set1(num_load_f16(p)), v_i8(p + 2 + i % 32)); /* padded to 32 */
    uint8_t copy[LANES * 4];
    if (n < LANES) {
        memset(copy, 0, sizeof copy);
        memcpy(copy, p, kv_offset(type, n));
        p = copy;
    }
    return type == KERN_KV_F32   ? v_load((const float *)p)
           : type == KERN_KV_F16 ? v_f16(p)
                                 : v_bf16(p);
}

INLINE vf load_part(const float *p, int64_t n) {
    if (n >= LANES) return v_load(p);
    float copy[LANES] = {0};
    memcpy(copy, p, (size_t)n * sizeof *p);
    return v_load(copy);
}

INLINE void store_part(float *p, int64_t n, vf v) {
    float copy[LANES];
    if (n >= LANES)
        v_store(p, v);
    else {
        v_store(copy, v);
        memcpy(p, copy, (size_t)n * sizeof *p);
    }
}

/* Scores as [row][n_q]; rows up to a multiple of LANES / n_q are written (the excess repeats the last). */
INLINE void scores(kern_kv_type type, int n_q, int64_t dim, const float *q, const uint8_t *k,
                   int64_t stride, int64_t n_rows, float *s) {
    const int at_once = LANES / n_q;
    for (int64_t j = 0; j < n_rows; j += at_once) {
        const uint8_t *row[LANES];
        vf acc[LANES];
        for (int r = 0; r < at_once; r++)
            row[r] = k + (j + r < n_rows ? j + r : n_rows - 1) * stride;
        for (int a = 0; a < LANES; a++) acc[a] = v_set1(0);
        int64_t i = 0;
        for (; i + LANES <= dim; i += LANES) {
            vf qv[4];
            for (int g = 0; g < n_q; g++) qv[g] = v_load(q + g * dim + i);
            for (int r = 0; r < at_once; r++) {
                vf kv = kv_vector(type, row[r], i, LANES);
                for (int g = 0; g < n_q; g++) acc[r * n_q + g] = v_fma(qv[g], kv, acc[r * n_q + g]);
            }
        }
        if (i < dim) {
            for (int r = 0; r < at_once; r++) {
                vf kv = kv_vector(type, row[r], i, dim - i);
                for (int g = 0; g < n_q; g++)
                    acc[r * n_q + g] =
                        v_fma(load_part(q + g * dim + i, dim - i), kv, acc[r * n_q + g]);
            }
        }
        v_store(s + j * n_q, v_sum_each(acc));
    }
}

/* acc = acc·keep + Σ weight·v, for some vectors of the head. */
INLINE void weigh(kern_kv_type type, int n_q, int n_vectors, int64_t dim, int64_t i,
                  const uint8_t *v, int64_t stride, int64_t n_rows, const float *weights,
                  const float *keep, kern_attn_state *states) {
    vf acc[4][DIM_VECTORS];
    for (int g = 0; g < n_q; g++)
        for (int u = 0; u < n_vectors; u++)
            acc[g][u] = v_mul(load_part(states[g].acc + i + LANES * u, dim - i - LANES * u),
                              v_set1(keep[g]));
    for (int64_t j = 0; j < n_rows; j++, v += stride) {
        vf row[DIM_VECTORS];
        for (int u = 0; u < n_vectors; u++)
            row[u] = kv_vector(type, v, i + LANES * u, dim - i - LANES * u);
        for (int g = 0; g < n_q; g++) {
            vf weight = v_set1(weights[j * n_q + g]);
            for (int u = 0; u < n_vectors; u++) acc[g][u] = v_fma(weight, row[u], acc[g][u]);
        }
    }
    for (int g = 0; g < n_q; g++)
        for (int u = 0; u < n_vectors; u++)
            store_part(states[g].acc + i + LANES * u, dim - i - LANES * u, acc[g][u]);
}

INLINE void attend(kern_kv_type type, int n_q, int64_t dim, const float *q, const uint8_t *k,
                   int64_t k_stride, const uint8_t *v, int64_t v_stride, int64_t n_rows,
                   kern_attn_state *states) {
    _Alignas(64) float s[ATTN_ROWS * 4], part[LANES];
    const int n_vectors = ATTN_ROWS * n_q / LANES;
    scores(type, n_q, dim, q, k, k_stride, n_rows, s);
    for (int64_t i = n_rows * n_q; i < ATTN_ROWS * n_q; i++) s[i] = -INFINITY;

    /* lane l of a vector belongs to query l mod n_q */
    float max[4], keep[4];
    vf top = v_load(s);
    for (int a = 1; a < n_vectors; a++) top = v_max(v_load(s + LANES * a), top);
    v_store(part, top);
    for (int g = 0; g < n_q; g++) {
        max[g] = states[g].max;
        for (int l = g; l < LANES; l += n_q) max[g] = part[l] > max[g] ? part[l] : max[g];
        keep[g] = max[g] != states[g].max ? num_exp(states[g].max - max[g]) : 1;
    }
    for (int l = 0; l < LANES; l++) part[l] = max[l % n_q];
    vf shift = v_load(part), sum[ATTN_ROWS * 4 / LANES];
    for (int a = 0; a < n_vectors; a++) {
        sum[a] = v_exp(v_sub(v_load(s + LANES * a), shift));
        v_store(s + LANES * a, sum[a]);
    }
    for (int half = n_vectors / 2; half; half /= 2)
        for (int a = 0; a < half; a++) sum[a] = v_add(sum[a], sum[a + half]);
    v_store(part, sum[0]);
    for (int half = LANES / 2; half >= n_q; half /= 2)
        for (int l = 0; l < half; l++) part[l] += part[l + half];
    for (int g = 0; g < n_q; g++) {
        states[g].sum = fmaf(states[g].sum, keep[g], part[g]);
        states[g].max = max[g];
    }

    int64_t i = 0;
    for (; i + LANES * DIM_VECTORS <= dim; i += LANES * DIM_VECTORS)
        weigh(type, n_q, DIM_VECTORS, dim, i, v, v_stride, n_rows, s, keep, states);
    for (; i < dim; i += LANES) weigh(type, n_q, 1, dim, i, v, v_stride, n_rows, s, keep, states);
}

INLINE void attend_group(kern_kv_type type, int64_t dim, int64_t n_group, const float *q,
                         const uint8_t *k, int64_t k_stride, const uint8_t *v, int64_t v_stride,
                         int64_t n_rows, kern_attn_state *states) {
    for (; n_group >= 4; n_group -= 4, q += 4 * dim, states += 4)
        attend(type, 4, dim, q, k, k_stride, v, v_stride, n_rows, states);
    if (n_group & 2) {
        attend(type, 2, dim, q, k, k_stride, v, v_stride, n_rows, states);
        q += 2 * dim, states += 2;
    }
    if (n_group & 1) attend(type, 1, dim, q, k, k_stride, v, v_stride, n_rows, states);
}

static void attn_tile(kern_kv_type type, int64_t head_dim, int64_t n_group, const float *q,
                      const void *k, int64_t k_stride, const void *v, int64_t v_stride,
                      int64_t row_begin, int64_t row_end, kern_attn_state *states) {
    for (int64_t begin = row_begin, end; begin < row_end; begin = end) {
        end = (begin / ATTN_ROWS + 1) * ATTN_ROWS;
        if (end > row_end) end = row_end;
        const uint8_t *kb = (const uint8_t *)k + begin * k_stride,
                      *vb = (const uint8_t *)v + begin * v_stride;
#define ATTEND(T) \
    attend_group(T, head_dim, n_group, q, kb, k_stride, vb, v_stride, end - begin, states)
        switch (type) {
        case KERN_KV_F32: ATTEND(KERN_KV_F32); break;
        case KERN_KV_F16: ATTEND(KERN_KV_F16); break;
        case KERN_KV_BF16: ATTEND(KERN_KV_BF16); break;
        case KERN_KV_Q8_0: ATTEND(KERN_KV_Q8_0); break;
        }
#undef ATTEND
    }
}

#endif /* a vector instruction set */

#endif
