/* The meaning of every kernel, in plain C. Other rungs match the integer parts of this file exactly and
 * its order of float operations wherever the order is written down here; nothing in it is fast.
 *
 * Products with quantised activations, per 32-block in order along k (Q6_K: per 16):
 *     acc = fma((float)Σ level·q, scale·d, acc)          Σ exact in int32
 *     acc = fma(−min, d·Σq, acc)                          formats with minima (Q4_K)
 * Products with float activations: acc = fma(w, x, acc), k ascending, w dequantised to float.
 */
#include "kern/pack.h"

#include <string.h>

#include "kern/elementwise.h"
#include "kern/num.h"

/* ── matmul ───────────────────────────────────────────────────────────── */

/* Weights of one 32-block: signed levels (Q4_K's are unsigned and go with `min`). */
typedef struct levels {
    int8_t q[32];
    float scale[2]; /* of the first and the second 16; equal but in Q6_K */
    float min;
} levels;

enum { MAX_BLOCK_BYTES = 512 };

static const int8_t fp4_levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void get_levels(dtype type, const uint8_t *b, int sub, levels *l) {
    l->min = 0;
    const uint8_t *nibbles = NULL;
    switch (type) {
    case DTYPE_Q8_0:
        l->scale[0] = l->scale[1] = num_load_f16(b);
        memcpy(l->q, b + 2, 32);
        break;
    case DTYPE_Q4_0:
        l->scale[0] = l->scale[1] = num_load_f16(b);
        nibbles = b + 2;
        for (int i = 0; i < 16; i++) {
            l->q[i] = (int8_t)((nibbles[i] & 15) - 8);
            l->q[i + 16] = (int8_t)((nibbles[i] >> 4) - 8);
        }
        break;
    case DTYPE_Q5_0: {
        l->scale[0] = l->scale[1] = num_load_f16(b);
        uint32_t high = num_u32(b + 2);
        nibbles = b + 6;
        for (int i = 0; i < 16; i++) {
            l->q[i] = (int8_t)(((nibbles[i] & 15) | (high >> i & 1) << 4) - 16);
            l->q[i + 16] =
                (int8_t)(((uint32_t)(nibbles[i] >> 4) | (high >> (i + 16) & 1) << 4) - 16);
        }
        break;
    }
    case DTYPE_MXFP4:
        l->scale[0] = l->scale[1] = num_e8m0_half(b[0]);
        nibbles = b + 1;
        for (int i = 0; i < 16; i++) {
            l->q[i] = fp4_levels[nibbles[i] & 15];
            l->q[i + 16] = fp4_levels[nibbles[i] >> 4];
        }
        break;
    case DTYPE_Q4_K: {
        const uint8_t *sc = b + 4, *q = b + 16 + sub / 2 * 32;
        int scale, min;
        if (sub < 4)
            scale = sc[sub] & 63, min = sc[sub + 4] & 63;
        else {
            scale = (sc[sub + 4] & 15) | sc[sub - 4] >> 6 << 4;
            min = sc[sub + 4] >> 4 | sc[sub] >> 6 << 4;
        }
        l->scale[0] = l->scale[1] = num_load_f16(b) * (float)scale;
        l->min = num_load_f16(b + 2) * (float)min;
        for (int i = 0; i < 32; i++) l->q[i] = (int8_t)(sub & 1 ? q[i] >> 4 : q[i] & 15);
        break;
    }
    case DTYPE_Q6_K: {
        const uint8_t *low = b + sub / 4 * 64 + sub % 2 * 32, *high = b + 128 + sub / 4 * 32;
        float d = num_load_f16(b + 208);
        l->scale[0] = d * (float)(int8_t)b[192 + 2 * sub];
        l->scale[1] = d * (float)(int8_t)b[192 + 2 * sub + 1];
        for (int i = 0; i < 32; i++) {
            int nibble = sub % 4 / 2 ? low[i] >> 4 : low[i] & 15;
            l->q[i] = (int8_t)((nibble | (high[i] >> 2 * (sub % 4) & 3) << 4) - 32);
        }
        break;
    }
    default: __builtin_unreachable();
    }
}

static int32_t dot_int(const int8_t *a, const int8_t *b, int n) {
    int32_t sum = 0;
    for (int i = 0; i < n; i++) sum += a[i] * b[i];
    return sum;
}

static float block_q8(dtype type, const levels *l, const act_q8 *x, float acc) {
    if (type == DTYPE_Q6_K) {
        acc = fmaf((float)dot_int(l->q, x->q, 16), l->scale[0] * x->d, acc);
        return fmaf((float)dot_int(l->q + 16, x->q + 16, 16), l->scale[1] * x->d, acc);
    }
    acc = fmaf((float)dot_int(l->q, x->q, 32), l->scale[0] * x->d, acc);
    return type == DTYPE_Q4_K ? fmaf(-l->min, x->dsum, acc) : acc;
}

static void matmul(const kern_matrix *w, const kern_acts *x, int64_t n_rows, float *y, int64_t ldy,
                   int64_t out_begin, int64_t out_end) {
    const dtype_info *info = dtype_get(w->type);
    int64_t len = info->block_len, n_blocks = w->n_in / len;
    size_t row_bytes = (size_t)n_blocks * info->block_bytes,
           act_bytes = kern_act_bytes(x->type, w->n_in);
    const uint8_t *weights = w->data, *acts = x->data;
    uint8_t unpacked[MAX_BLOCK_BYTES];
    for (int64_t o = out_begin; o < out_end; o++) {
        for (int64_t r = 0; r < n_rows; r++) y[r * ldy + o] = 0;
        for (int64_t b = 0; b < n_blocks; b++) {
            const uint8_t *block = unpacked;
            if (w->layout == KERN_ROWS)
                block = weights + (size_t)o * row_bytes + (size_t)b * info->block_bytes;
            else
                unpack_block(w->type, weights + (size_t)(o / PANEL) * PANEL * row_bytes,
                             (int)(o % PANEL), b, unpacked);
            if (x->type == KERN_ACT_F32) {
                float wf[256];
                kern_dequantize(w->type, len, block, wf);
                for (int64_t r = 0; r < n_rows; r++) {
                    const float *xf = (const float *)(acts + (size_t)r * act_bytes) + b * len;
                    float acc = y[r * ldy + o];
                    for (int64_t i = 0; i < len; i++) acc = fmaf(wf[i], xf[i], acc);
                    y[r * ldy + o] = acc;
                }
                continue;
            }
            for (int sub = 0; sub < len / 32; sub++) {
                levels l;
                get_levels(w->type, block, sub, &l);
                for (int64_t r = 0; r < n_rows; r++) {
                    const act_q8 *xq =
                        (const act_q8 *)(acts + (size_t)r * act_bytes) + b * (len / 32) + sub;
                    y[r * ldy + o] = block_q8(w->type, &l, xq, y[r * ldy + o]);
                }
            }
        }
    }
}

/* ── attention ────────────────────────────────────────────────────────── */

static void attn_tile(kern_kv_type type, int64_t head_dim, int64_t n_group, const float *q,
                      const void *k, int64_t k_stride, const void *v, int64_t v_stride,
                      int64_t row_begin, int64_t row_end, kern_attn_state *states) {
    float row[KERN_MAX_HEAD_DIM], p[ATTN_ROWS];
    for (int64_t begin = row_begin, end; begin < row_end; begin = end) {
        end = (begin / ATTN_ROWS + 1) * ATTN_ROWS;
        if (end > row_end) end = row_end;
        for (int64_t g = 0; g < n_group; g++) {
            kern_attn_state *s = states + g;
            float max = s->max, sum = 0;
            for (int64_t j = begin; j < end; j++) {
                kern_kv_load(type, head_dim, (const uint8_t *)k + j * k_stride, row);
                float score = 0;
                for (int64_t i = 0; i < head_dim; i++)
                    score = fmaf(q[g * head_dim + i], row[i], score);
                p[j - begin] = score;
                if (score > max) max = score;
            }
            float keep = num_exp(s->max - max);
            if (max != s->max)
                for (int64_t i = 0; i < head_dim; i++) s->acc[i] *= keep;
            for (int64_t j = begin; j < end; j++) {
                kern_kv_load(type, head_dim, (const uint8_t *)v + j * v_stride, row);
                float weight = num_exp(p[j - begin] - max);
                sum += weight;
                for (int64_t i = 0; i < head_dim; i++) s->acc[i] = fmaf(weight, row[i], s->acc[i]);
            }
            s->sum = max != s->max ? fmaf(s->sum, keep, sum) : s->sum + sum;
            s->max = max;
        }
    }
}

const kern kern_scalar = {
    .rung = KERN_SCALAR,
    .name = "scalar",
    .pack_rows = PANEL,
    .matmul = matmul,
    ELEMENTWISE_TABLE,
    .attn_tile = attn_tile,
};
