/* Every block format to float, bit for bit as the format defines it: one function per format decodes
 * one block. Speed matters little here (the fast paths never come by); order of operations does:
 * (scale · level) in float, products with d rounded once where the reference rounds once.
 * Source: ggml's block definitions; OCP Microscaling v1.0 (MXFP4), NVIDIA's NVFP4.
 */
#include "kern/kern.h"

#include "kern/iq_tables.h"
#include "kern/num.h"

typedef void decode_fn(const uint8_t *b, float *y);

static const int8_t fp4_levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
static const int8_t iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};
static const float iq2_levels[4] = {8, 25, 43, 0};
static const float iq1_levels[4] = {-1, 0, 1, 0};
static const float iq3_xxs_levels[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const float iq3_s_levels[8] = {1, 3, 5, 7, 9, 11, 13, 15};

static inline int low_then_high(const uint8_t *nibbles, int half, int i) {
    return i < half ? nibbles[i] & 15 : nibbles[i - half] >> 4;
}

static inline int bit(const uint8_t *bits, int i) {
    return bits[i / 8] >> (i % 8) & 1;
}

/* ── one float per element ────────────────────────────────────────────── */

static void f32(const uint8_t *b, float *y) {
    memcpy(y, b, 4);
}
static void f16(const uint8_t *b, float *y) {
    *y = num_load_f16(b);
}
static void bf16(const uint8_t *b, float *y) {
    *y = num_bf16(num_u16(b));
}
static void f64(const uint8_t *b, float *y) {
    double v;
    memcpy(&v, b, 8);
    *y = (float)v;
}

/* ── blocks of 32 (and Q1_0, Q2_0, NVFP4) ─────────────────────────────── */

static void q4_0(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(low_then_high(b + 2, 16, i) - 8);
}

static void q4_1(const uint8_t *b, float *y) {
    float d = num_load_f16(b), m = num_load_f16(b + 2);
    for (int i = 0; i < 32; i++) y[i] = d * (float)low_then_high(b + 4, 16, i) + m;
}

static void q5_0(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)((low_then_high(b + 6, 16, i) | bit(b + 2, i) << 4) - 16);
}

static void q5_1(const uint8_t *b, float *y) {
    float d = num_load_f16(b), m = num_load_f16(b + 2);
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)(low_then_high(b + 8, 16, i) | bit(b + 4, i) << 4) + m;
}

static void q8_0(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)b[2 + i];
}

static void q8_1(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int i = 0; i < 32; i++) y[i] = d * (float)(int8_t)b[4 + i];
}

static void mxfp4(const uint8_t *b, float *y) {
    float d = num_e8m0_half(b[0]);
    for (int i = 0; i < 32; i++) y[i] = d * fp4_levels[low_then_high(b + 1, 16, i)];
}

static void nvfp4(const uint8_t *b, float *y) {
    for (int s = 0; s < 4; s++) {
        float d = num_e4m3_half(b[s]);
        for (int i = 0; i < 16; i++)
            y[16 * s + i] = d * fp4_levels[low_then_high(b + 4 + 8 * s, 8, i)];
    }
}

static void iq4_nl(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int i = 0; i < 32; i++) y[i] = d * iq4_levels[low_then_high(b + 2, 16, i)];
}

static void q1_0(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int i = 0; i < 128; i++) y[i] = bit(b + 2, i) ? d : -d;
}

static void q2_0(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int i = 0; i < 64; i++) y[i] = d * (float)((b[2 + i / 4] >> 2 * (i % 4) & 3) - 1);
}

/* ── super-blocks of 256 ──────────────────────────────────────────────── */

static void q2_k(const uint8_t *b, float *y) {
    const uint8_t *scales = b, *q = b + 16;
    float d = num_load_f16(b + 80), dmin = num_load_f16(b + 82);
    for (int i = 0; i < 256; i++) {
        uint8_t sc = scales[i / 16];
        int level = q[i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3;
        y[i] = d * (float)(sc & 15) * (float)level - dmin * (float)(sc >> 4);
    }
}

static void q3_k(const uint8_t *b, float *y) {
    const uint8_t *high = b, *q = b + 32, *sc = b + 96;
    float d = num_load_f16(b + 108);
    for (int i = 0; i < 256; i++) {
        int s = i / 16;
        int scale = (s < 8 ? sc[s] & 15 : sc[s - 8] >> 4) | (sc[8 + s % 4] >> 2 * (s / 4) & 3) << 4;
        int level = q[i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3;
        if (!(high[i % 32] >> i / 32 & 1)) level -= 4;
        y[i] = d * (float)(scale - 32) * (float)level;
    }
}

/* Eight 6-bit scales and minima in 12 bytes, shared by Q4_K and Q5_K. */
static void k_scale(const uint8_t *sc, int j, int *scale, int *min) {
    if (j < 4) {
        *scale = sc[j] & 63;
        *min = sc[j + 4] & 63;
    } else {
        *scale = (sc[j + 4] & 15) | sc[j - 4] >> 6 << 4;
        *min = sc[j + 4] >> 4 | sc[j] >> 6 << 4;
    }
}

static void k4_or_k5(const uint8_t *b, const uint8_t *high, const uint8_t *q, float *y) {
    float d = num_load_f16(b), dmin = num_load_f16(b + 2);
    for (int j = 0; j < 8; j++) {
        int scale, min;
        k_scale(b + 4, j, &scale, &min);
        float step = d * (float)scale, base = dmin * (float)min;
        for (int i = 0; i < 32; i++) {
            int level = low_then_high(q + j / 2 * 32, 32, j % 2 * 32 + i);
            if (high) level |= (high[i] >> j & 1) << 4;
            y[32 * j + i] = step * (float)level - base;
        }
    }
}

static void q4_k(const uint8_t *b, float *y) {
    k4_or_k5(b, NULL, b + 16, y);
}

static void q5_k(const uint8_t *b, float *y) {
    k4_or_k5(b, b + 16, b + 48, y);
}

static void q6_k(const uint8_t *b, float *y) {
    const uint8_t *low = b, *high = b + 128;
    const int8_t *sc = (const int8_t *)b + 192;
    float d = num_load_f16(b + 208);
    for (int i = 0; i < 256; i++) {
        int level = low_then_high(low + i / 128 * 64, 64, i % 128) |
                    (high[i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3) << 4;
        y[i] = d * (float)sc[i / 16] * (float)(level - 32);
    }
}

static void q8_k(const uint8_t *b, float *y) {
    float d = num_from_bits(num_u32(b));
    for (int i = 0; i < 256; i++) y[i] = d * (float)(int8_t)b[4 + i];
}

static void tq1_0(const uint8_t *b, float *y) {
    static const uint8_t pow3[5] = {1, 3, 9, 27, 81};
    float d = num_load_f16(b + 52);
    for (int i = 0; i < 256; i++) {
        int byte, digit; /* 32 bytes of 5 trits, 16 bytes of 5, 4 bytes of 4; digit-major in each */
        if (i < 160)
            byte = i % 32, digit = i / 32;
        else if (i < 240)
            byte = 32 + (i - 160) % 16, digit = (i - 160) / 16;
        else
            byte = 48 + (i - 240) % 4, digit = (i - 240) / 4;
        uint8_t q = (uint8_t)(b[byte] * pow3[digit]);
        y[i] = d * (float)((q * 3 >> 8) - 1);
    }
}

static void tq2_0(const uint8_t *b, float *y) {
    float d = num_load_f16(b + 64);
    for (int i = 0; i < 256; i++)
        y[i] = d * (float)((b[i / 128 * 32 + i % 32] >> 2 * (i / 32 % 4) & 3) - 1);
}

/* ── codebooks ────────────────────────────────────────────────────────── */

/* Seven sign bits; the eighth makes their number even. */
static int even_signs(uint32_t seven) {
    seven &= 127;
    return (int)(seven | (uint32_t)__builtin_parity(seven) << 7);
}

static void grid8(float scale, int code, int signs, float *y) {
    for (int i = 0; i < 8; i++) {
        float v = scale * iq2_levels[code >> 2 * i & 3];
        y[i] = signs >> i & 1 ? -v : v;
    }
}

static void grid4(float scale, const float *levels, int code, int signs, float *y) {
    for (int i = 0; i < 4; i++) {
        float v = scale * levels[code >> 3 * i & 7];
        y[i] = signs >> i & 1 ? -v : v;
    }
}

static void grid1(float scale, float delta, int code, float *y) {
    for (int i = 0; i < 8; i++) y[i] = scale * (iq1_levels[code >> 2 * i & 3] + delta);
}

static void iq2_xxs(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int j = 0; j < 8; j++) {
        const uint8_t *q = b + 2 + 8 * j;
        uint32_t meta = num_u32(q + 4);
        float scale = d * (0.5f + (float)(meta >> 28)) * 0.25f;
        for (int l = 0; l < 4; l++)
            grid8(scale, iq2_xxs_grid[q[l]], even_signs(meta >> 7 * l), y + 32 * j + 8 * l);
    }
}

static void iq2_xs(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int g = 0; g < 32; g++) {
        uint16_t q = num_u16(b + 2 + 2 * g);
        int sc = b[66 + g / 4] >> (g % 4 / 2 * 4) & 15;
        grid8(d * (0.5f + (float)sc) * 0.25f, iq2_xs_grid[q & 511], even_signs(q >> 9), y + 8 * g);
    }
}

static void iq2_s(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int g = 0; g < 32; g++) {
        int index = b[2 + g] | (b[66 + g / 4] >> 2 * (g % 4) & 3) << 8;
        int sc = b[74 + g / 4] >> (g % 4 / 2 * 4) & 15;
        grid8(d * (0.5f + (float)sc) * 0.25f, iq2_s_grid[index], b[34 + g], y + 8 * g);
    }
}

static void iq3_xxs(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int j = 0; j < 8; j++) {
        uint32_t meta = num_u32(b + 66 + 4 * j);
        float scale = d * (0.5f + (float)(meta >> 28)) * 0.5f;
        for (int l = 0; l < 8; l++)
            grid4(scale, iq3_xxs_levels, iq3_xxs_grid[b[2 + 8 * j + l]],
                  even_signs(meta >> 7 * (l / 2)) >> 4 * (l % 2), y + 32 * j + 4 * l);
    }
}

static void iq3_s(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int g = 0; g < 64; g++) {
        int index = b[2 + g] | (b[66 + g / 8] >> g % 8 & 1) << 8;
        int sc = b[106 + g / 16] >> (g / 8 % 2 * 4) & 15;
        grid4(d * (float)(1 + 2 * sc), iq3_s_levels, iq3_s_grid[index],
              b[74 + g / 2] >> 4 * (g % 2), y + 4 * g);
    }
}

static void iq1_s(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    for (int g = 0; g < 32; g++) {
        uint16_t h = num_u16(b + 34 + g / 4 * 2);
        int index = b[2 + g] | (h >> 3 * (g % 4) & 7) << 8;
        grid1(d * (float)(2 * (h >> 12 & 7) + 1), h & 0x8000 ? -0.125f : 0.125f, iq1_grid[index],
              y + 8 * g);
    }
}

static void iq1_m(const uint8_t *b, float *y) {
    uint16_t sc[4], half = 0;
    for (int i = 0; i < 4; i++) {
        sc[i] = num_u16(b + 48 + 2 * i);
        half |= (uint16_t)(sc[i] >> 12 << 4 * i);
    }
    float d = num_f16(half);
    for (int g = 0; g < 32; g++) {
        int h = b[32 + g / 2] >> g % 2 * 4 & 15, s = g / 2;
        int scale = sc[s / 4] >> 3 * (s % 4) & 7;
        grid1(d * (float)(2 * scale + 1), h & 8 ? -0.125f : 0.125f, iq1_grid[b[g] | (h & 7) << 8],
              y + 8 * g);
    }
}

static void iq4_xs(const uint8_t *b, float *y) {
    float d = num_load_f16(b);
    uint16_t high = num_u16(b + 2);
    for (int j = 0; j < 8; j++) {
        int scale = (b[4 + j / 2] >> j % 2 * 4 & 15) | (high >> 2 * j & 3) << 4;
        float step = d * (float)(scale - 32);
        for (int i = 0; i < 32; i++)
            y[32 * j + i] = step * iq4_levels[low_then_high(b + 8 + 16 * j, 16, i)];
    }
}

static decode_fn *const decoders[DTYPE_COUNT] = {
    [DTYPE_F32] = f32,       [DTYPE_F16] = f16,         [DTYPE_BF16] = bf16,
    [DTYPE_F64] = f64,       [DTYPE_Q4_0] = q4_0,       [DTYPE_Q4_1] = q4_1,
    [DTYPE_Q5_0] = q5_0,     [DTYPE_Q5_1] = q5_1,       [DTYPE_Q8_0] = q8_0,
    [DTYPE_Q8_1] = q8_1,     [DTYPE_Q2_K] = q2_k,       [DTYPE_Q3_K] = q3_k,
    [DTYPE_Q4_K] = q4_k,     [DTYPE_Q5_K] = q5_k,       [DTYPE_Q6_K] = q6_k,
    [DTYPE_Q8_K] = q8_k,     [DTYPE_IQ2_XXS] = iq2_xxs, [DTYPE_IQ2_XS] = iq2_xs,
    [DTYPE_IQ2_S] = iq2_s,   [DTYPE_IQ3_XXS] = iq3_xxs, [DTYPE_IQ3_S] = iq3_s,
    [DTYPE_IQ1_S] = iq1_s,   [DTYPE_IQ1_M] = iq1_m,     [DTYPE_IQ4_NL] = iq4_nl,
    [DTYPE_IQ4_XS] = iq4_xs, [DTYPE_TQ1_0] = tq1_0,     [DTYPE_TQ2_0] = tq2_0,
    [DTYPE_MXFP4] = mxfp4,   [DTYPE_NVFP4] = nvfp4,     [DTYPE_Q1_0] = q1_0,
    [DTYPE_Q2_0] = q2_0,
};

bool kern_is_supported(dtype type) {
    return type < DTYPE_COUNT && decoders[type];
}

bool kern_dequantize(dtype type, int64_t n, const void *blocks, float *out) {
    const dtype_info *info = dtype_get(type);
    if (!info || !kern_is_supported(type) || n < 0 || n % info->block_len) return false;
    const uint8_t *b = blocks;
    decode_fn *decode = decoders[type];
    for (int64_t i = 0; i < n; i += info->block_len, b += info->block_bytes) decode(b, out + i);
    return true;
}
