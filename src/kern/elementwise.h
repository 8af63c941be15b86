/* The parts of a rung that are loops over elements: activations' quantisation, norms, gates, rotary
 * positions, KV rows, the end of attention. Plain C that every rung compiles with its own instruction
 * set: the compiler vectorises it, and since each element sees the same operations (and no reduction is
 * left to the compiler's choice), all rungs give the same bytes.
 *
 * Static functions for a rung's table; included once per rung.
 */
#ifndef KERN_ELEMENTWISE_H
#define KERN_ELEMENTWISE_H

#include <math.h>
#include <string.h>

#include "kern/num.h"
#include "kern/pack.h"

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
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] += (double)x[i + l] * x[i + l];
    for (; i < n; i++) lane[i % 8] += (double)x[i] * x[i];
    for (int half = 4; half; half /= 2)
        for (int l = 0; l < half; l++) lane[l] += lane[l + half];
    float inverse = (float)(1.0 / sqrt(lane[0] / (double)n + (double)eps));
    for (i = 0; i < n; i++) y[i] = x[i] * inverse * w[i];
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

/* Eight lanes keep their maximum (a comparison with NaN is false), then the first element equal to the
 * largest of them is the answer. */
static int64_t argmax(int64_t n, const float *x) {
    float lane[8], max = -INFINITY;
    for (int l = 0; l < 8; l++) lane[l] = -INFINITY;
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int l = 0; l < 8; l++) lane[l] = x[i + l] > lane[l] ? x[i + l] : lane[l];
    for (; i < n; i++) lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    for (int l = 0; l < 8; l++) max = lane[l] > max ? lane[l] : max;
    if (max == -INFINITY) return 0;
    for (i = 0; x[i] != max;) i++;
    return i;
}

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

#define ELEMENTWISE_TABLE                                                                 \
    .quantize = quantize, .rmsnorm = rmsnorm, .add = add, .axpy = axpy, .swiglu = swiglu, \
    .swiglu_oai = swiglu_oai, .rope = rope, .argmax = argmax, .kv_store = kv_store,       \
    .attn_merge = attn_merge, .attn_finish = attn_finish

#endif
