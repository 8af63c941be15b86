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

/* ── activations ──────────────────────────────────────────────────────── */

static void quantize_block(int64_t n, const float *x, act_q8 *out) {
    uint32_t top =
        0; /* of the magnitudes' bits: their order is the order of the values, NaN above all */
    for (int64_t i = 0; i < n; i++) {
        uint32_t mag = num_bits(x[i]) & 0x7fffffff;
        if (mag > top) top = mag;
    }
    memset(out, 0, sizeof *out);
    float amax = num_from_bits(top);
    if (top >= 0x7f800000) {
        out->d = out->dsum = num_from_bits(0x7fc00000);
        return;
    }
    if (amax < ACT_TINY) return;
    float inverse = 127.0f / amax;
    int32_t low = 0, all = 0;
    for (int64_t i = 0; i < n; i++) {
        out->q[i] = (int8_t)rintf(x[i] * inverse);
        all += out->q[i];
        if (i < 16) low += out->q[i];
    }
    out->d = amax / 127.0f;
    out->dsum = out->d * (float)all;
    out->off = -128 * all;
    out->off_lo = -128 * low;
}

static void quantize(kern_act_type type, int64_t n, const float *x, void *out) {
    if (type == KERN_ACT_F32) {
        memcpy(out, x, (size_t)n * sizeof *x);
        return;
    }
    act_q8 *blocks = out;
    for (int64_t i = 0; i < n; i += 32) quantize_block(n - i < 32 ? n - i : 32, x + i, blocks++);
}

/* ── elementwise ──────────────────────────────────────────────────────── */

/* Element i adds to lane i mod 8, in double; then lanes l and l + 4, then + 2, then + 1. */
static void rmsnorm(int64_t n, const float *x, const float *w, float eps, float *y) {
    double lane[8] = {0};
    for (int64_t i = 0; i < n; i++) lane[i % 8] += (double)x[i] * x[i];
    for (int half = 4; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    float inverse = (float)(1.0 / sqrt(lane[0] / (double)n + (double)eps));
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * inverse * w[i];
}

static void add(int64_t n, const float *x, float *y) {
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

static void axpy(int64_t n, float a, const float *x, float *y) {
    for (int64_t i = 0; i < n; i++) y[i] = fmaf(a, x[i], y[i]);
}

static void swiglu(int64_t n, const float *g, const float *u, float *y) {
    for (int64_t i = 0; i < n; i++) y[i] = g[i] / (1.0f + num_exp(-g[i])) * u[i];
}

static void swiglu_oai(int64_t n, const float *g, const float *u, float alpha, float limit,
                       float *y) {
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] > limit ? limit : g[i];
        float ui = u[i] > limit ? limit : u[i] < -limit ? -limit : u[i];
        y[i] = gi / (1.0f + num_exp(-(alpha * gi))) * (ui + 1.0f);
    }
}

static void rope(int64_t n_rot, bool halves, const float *cs, float *head) {
    int64_t n = n_rot / 2;
    for (int64_t i = 0; i < n; i++) {
        float *a = head + (halves ? i : 2 * i), *b = a + (halves ? n : 1);
        float c = cs[2 * i], s = cs[2 * i + 1], a0 = *a, b0 = *b;
        *a = fmaf(a0, c, -(b0 * s));
        *b = fmaf(a0, s, b0 * c);
    }
}

static int64_t argmax(int64_t n, const float *x) {
    int64_t best = 0;
    float max = -INFINITY;
    for (int64_t i = 0; i < n; i++)
        if (x[i] > max) max = x[i], best = i;
    return best;
}

/* ── attention ────────────────────────────────────────────────────────── */

static void kv_store(kern_kv_type type, int64_t n, const float *x, void *row) {
    uint8_t *b = row;
    switch (type) {
    case KERN_KV_F32: memcpy(b, x, (size_t)n * 4); break;
    case KERN_KV_F16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t h = num_to_f16(x[i]);
            memcpy(b + 2 * i, &h, 2);
        }
        break;
    case KERN_KV_BF16:
        for (int64_t i = 0; i < n; i++) {
            uint16_t h = num_to_bf16(x[i]);
            memcpy(b + 2 * i, &h, 2);
        }
        break;
    case KERN_KV_Q8_0:
        for (int64_t i = 0; i < n; i += 32, b += 34) {
            int64_t m = n - i < 32 ? n - i : 32;
            float amax = 0;
            bool finite = true;
            for (int64_t j = 0; j < m; j++) {
                finite = finite && isfinite(x[i + j]);
                if (fabsf(x[i + j]) > amax) amax = fabsf(x[i + j]);
            }
            /* levels are relative to the scale as it is stored, so its rounding costs nothing */
            uint16_t d = finite ? num_to_f16(amax / 127.0f) : 0x7e00;
            if (finite && d >= 0x7c00) d = 0x7bff;
            float scale = num_f16(d), inverse = scale > 0 ? 1.0f / scale : 0;
            memcpy(b, &d, 2);
            memset(b + 2, 0, 32);
            for (int64_t j = 0; j < m && finite; j++) {
                float q = rintf(x[i + j] * inverse);
                b[2 + j] = (uint8_t)(int8_t)(q > 127 ? 127 : q < -127 ? -127 : q);
            }
        }
        break;
    }
}

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

static void attn_merge(int64_t head_dim, kern_attn_state *dst, const kern_attn_state *src) {
    if (src->sum == 0) return;
    float max = dst->max > src->max ? dst->max : src->max;
    float a = num_exp(dst->max - max), b = num_exp(src->max - max);
    for (int64_t i = 0; i < head_dim; i++) dst->acc[i] = fmaf(src->acc[i], b, dst->acc[i] * a);
    dst->sum = fmaf(src->sum, b, dst->sum * a);
    dst->max = max;
}

static void attn_finish(int64_t head_dim, const kern_attn_state *s, float sink, float *out) {
    float max = s->max > sink ? s->max : sink, scale = 0; /* nothing visible: zeros */
    if (s->sum != 0) {
        scale = num_exp(s->max - max);
        scale /= fmaf(s->sum, scale, sink > -INFINITY ? num_exp(sink - max) : 0.0f);
    }
    for (int64_t i = 0; i < head_dim; i++) out[i] = s->acc[i] * scale;
}

const kern kern_scalar = {
    .rung = KERN_SCALAR,
    .name = "scalar",
    .pack_rows = PANEL,
    .matmul = matmul,
    .quantize = quantize,
    .rmsnorm = rmsnorm,
    .add = add,
    .axpy = axpy,
    .swiglu = swiglu,
    .swiglu_oai = swiglu_oai,
    .rope = rope,
    .argmax = argmax,
    .kv_store = kv_store,
    .attn_tile = attn_tile,
    .attn_merge = attn_merge,
    .attn_finish = attn_finish,
};
