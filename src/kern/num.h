/* Small number formats, one element at a time: half, bfloat16, E8M0, E4M3 and little-endian reads.
 * Exact in both directions where the format allows; narrowing rounds to nearest, ties to even.
 */
#ifndef KERN_NUM_H
#define KERN_NUM_H

#include <math.h>
#include <stdint.h>
#include <string.h>

static inline float num_from_bits(uint32_t bits) {
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

static inline uint32_t num_bits(float f) {
    uint32_t bits;
    memcpy(&bits, &f, 4);
    return bits;
}

static inline uint16_t num_u16(const void *p) {
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}

static inline uint32_t num_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

static inline float num_f16(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, mag = h & 0x7fff;
    if (mag >= 0x7c00) /* inf; NaNs become quiet, as the processor's own conversion does */
        return num_from_bits(sign | 0x7f800000 | (mag > 0x7c00 ? 0x400000 : 0) |
                             (mag & 0x3ff) << 13);
    if (mag >= 0x400) return num_from_bits(sign | ((mag << 13) + ((127 - 15) << 23)));
    float f = (float)mag * 0x1p-24f; /* subnormal or zero: exact */
    return num_from_bits(sign | num_bits(f));
}

static inline float num_load_f16(const void *p) {
    return num_f16(num_u16(p));
}

static inline uint16_t num_to_f16(float f) {
    uint32_t bits = num_bits(f), sign = bits >> 16 & 0x8000, mag = bits & 0x7fffffff;
    if (mag > 0x7f800000) return (uint16_t)(sign | 0x7e00 | (mag >> 13 & 0x3ff));
    if (mag >= 0x477ff000) return (uint16_t)(sign | 0x7c00); /* rounds past 65504 */
    if (mag <
        0x38800000) { /* subnormal: adding 0.5 leaves the rounded multiple of 2^-24 below it */
        uint32_t r = num_bits(num_from_bits(mag) + 0.5f);
        return (uint16_t)(sign | (r - 0x3f000000));
    }
    mag += 0xfff + (mag >> 13 & 1);
    return (uint16_t)(sign | ((mag - ((127 - 15) << 23)) >> 13));
}

static inline float num_bf16(uint16_t h) {
    return num_from_bits((uint32_t)h << 16);
}

static inline uint16_t num_to_bf16(float f) {
    uint32_t bits = num_bits(f);
    if ((bits & 0x7fffffff) > 0x7f800000) return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* 2^(e - 128): half an E8M0 scale, since the E2M1 table holds doubled values. */
static inline float num_e8m0_half(uint8_t e) {
    return num_from_bits(e < 2 ? 0x00200000u << e : (uint32_t)(e - 1) << 23);
}

/* Half of an unsigned E4M3 scale; 0x7f (and with it the sign bit) is not a number and counts as 0. */
static inline float num_e4m3_half(uint8_t v) {
    if (v == 0 || v == 0x7f) return 0;
    int exponent = v >> 3 & 15, mantissa = v & 7;
    return exponent ? ldexpf(8 + (float)mantissa, exponent - 11) : ldexpf((float)mantissa, -10);
}

/* exp(x) within 1 ulp or two: x = n·ln 2 + r, a polynomial in r, n added to the exponent. Every rung
 * runs these very operations, so their results agree bit for bit. Below EXP_LOW the result is 0, above
 * EXP_HIGH it stays at exp(EXP_HIGH), about 2.3e38; NaN stays NaN. */
#define EXP_LOW      (-87.33f)
#define EXP_HIGH     88.3f
#define EXP_LOG2E    1.44269504f
#define EXP_LN2_HIGH 0.693145752f
#define EXP_LN2_LOW  1.42860677e-6f
#define EXP_C2       0.5f
#define EXP_C3       0.166666667f
#define EXP_C4       0.0416666667f
#define EXP_C5       0.00833333333f
#define EXP_C6       0.00138888889f
#define EXP_C7       0.000198412698f

static inline float num_exp(float x) {
    if (x < EXP_LOW) return 0;
    if (x > EXP_HIGH) x = EXP_HIGH;
    if (x != x) return x;
    float n = rintf(x * EXP_LOG2E);
    float r = fmaf(-n, EXP_LN2_LOW, fmaf(-n, EXP_LN2_HIGH, x));
    float p = fmaf(EXP_C7, r, EXP_C6);
    p = fmaf(p, r, EXP_C5);
    p = fmaf(p, r, EXP_C4);
    p = fmaf(p, r, EXP_C3);
    p = fmaf(p, r, EXP_C2);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    return num_from_bits(num_bits(p) + ((uint32_t)(int32_t)n << 23));
}

#endif
