/* A float vector of the rung that includes this: its width, and the few operations attention needs.
 * Empty where the compiler is not told of an instruction set (only rungs include it). */
#ifndef KERN_SIMD_H
#define KERN_SIMD_H

#include <string.h>

#include "kern/kern.h"
#include "kern/num.h"

#define INLINE static inline __attribute__((always_inline))

#if defined(__AVX2__) || defined(__ARM_NEON)

#if defined(__AVX512F__)
#include <immintrin.h>
enum { LANES = 16 };
typedef __m512 vf;
typedef __m512i vi;
INLINE vf v_set1(float x) {
    return _mm512_set1_ps(x);
}
INLINE vf v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
INLINE void v_store(float *p, vf v) {
    _mm512_storeu_ps(p, v);
}
INLINE vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
INLINE vf v_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
INLINE vf v_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
INLINE vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
INLINE vf v_fnma(vf a, vf b, vf c) {
    return _mm512_fnmadd_ps(a, b, c);
}
INLINE vf v_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
INLINE vf v_min(vf a, vf b) {
    return _mm512_min_ps(a, b);
}
INLINE vf v_rint(vf a) {
    return _mm512_roundscale_ps(a, 0x08);
}
/* p·2^n, and 0 where x is below `low` */
INLINE vf v_scale_exp(vf p, vf n, vf x, vf low) {
    vi e = _mm512_slli_epi32(_mm512_cvtps_epi32(n), 23);
    vf r = _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(p), e));
    return _mm512_mask_mov_ps(r, _mm512_cmp_ps_mask(x, low, _CMP_LT_OQ), _mm512_setzero_ps());
}
INLINE vf v_f16(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
INLINE vf v_bf16(const uint8_t *p) {
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
INLINE vf v_i8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

#elif defined(__AVX2__)
#include <immintrin.h>
enum { LANES = 8 };
typedef __m256 vf;
typedef __m256i vi;
INLINE vf v_set1(float x) {
    return _mm256_set1_ps(x);
}
INLINE vf v_load(const float *p) {
    return _mm256_loadu_ps(p);
}
INLINE void v_store(float *p, vf v) {
    _mm256_storeu_ps(p, v);
}
INLINE vf v_add(vf a, vf b) {
    return _mm256_add_ps(a, b);
}
INLINE vf v_sub(vf a, vf b) {
    return _mm256_sub_ps(a, b);
}
INLINE vf v_mul(vf a, vf b) {
    return _mm256_mul_ps(a, b);
}
INLINE vf v_fma(vf a, vf b, vf c) {
    return _mm256_fmadd_ps(a, b, c);
}
INLINE vf v_fnma(vf a, vf b, vf c) {
    return _mm256_fnmadd_ps(a, b, c);
}
INLINE vf v_max(vf a, vf b) {
    return _mm256_max_ps(a, b);
}
INLINE vf v_min(vf a, vf b) {
    return _mm256_min_ps(a, b);
}
INLINE vf v_rint(vf a) {
    return _mm256_round_ps(a, 0x08);
}
INLINE vf v_scale_exp(vf p, vf n, vf x, vf low) {
    vi e = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    vf r = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), e));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, low, _CMP_LT_OQ), r);
}
INLINE vf v_f16(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
INLINE vf v_bf16(const uint8_t *p) {
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
INLINE vf v_i8(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

#elif defined(__ARM_NEON)
#include <arm_neon.h>
enum { LANES = 4 };
typedef float32x4_t vf;
INLINE vf v_set1(float x) {
    return vdupq_n_f32(x);
}
INLINE vf v_load(const float *p) {
    return vld1q_f32(p);
}
INLINE void v_store(float *p, vf v) {
    vst1q_f32(p, v);
}
INLINE vf v_add(vf a, vf b) {
    return vaddq_f32(a, b);
}
INLINE vf v_sub(vf a, vf b) {
    return vsubq_f32(a, b);
}
INLINE vf v_mul(vf a, vf b) {
    return vmulq_f32(a, b);
}
INLINE vf v_fma(vf a, vf b, vf c) {
    return vfmaq_f32(c, a, b);
}
INLINE vf v_fnma(vf a, vf b, vf c) {
    return vfmsq_f32(c, a, b);
}
INLINE vf v_max(vf a, vf b) {
    return vmaxq_f32(a, b);
}
INLINE vf v_min(vf a, vf b) {
    return vminq_f32(a, b);
}
INLINE vf v_rint(vf a) {
    return vrndnq_f32(a);
}
INLINE vf v_scale_exp(vf p, vf n, vf x, vf low) {
    int32x4_t e = vshlq_n_s32(vcvtq_s32_f32(n), 23);
    int32x4_t r = vaddq_s32(vreinterpretq_s32_f32(p), e);
    return vreinterpretq_f32_s32(vbicq_s32(r, vreinterpretq_s32_u32(vcltq_f32(x, low))));
}
INLINE vf v_f16(const uint8_t *p) {
    uint16x4_t h;
    memcpy(&h, p, 8);
    return vcvt_f32_f16(vreinterpret_f16_u16(h));
}
INLINE vf v_bf16(const uint8_t *p) {
    uint16x4_t h;
    memcpy(&h, p, 8);
    return vreinterpretq_f32_u32(vshll_n_u16(h, 16));
}
INLINE vf v_i8(const uint8_t *p) {
    const int8_t *q = (const int8_t *)p;
    const float f[4] = {q[0], q[1], q[2], q[3]};
    return vld1q_f32(f);
}
#endif

/* num_exp, lane by lane: the same operations in the same order. */
INLINE vf v_exp(vf x) {
    vf c =
        v_min(v_set1(EXP_HIGH), x); /* NaN: the second operand comes through on x86, and on arm */
    vf n = v_rint(v_mul(c, v_set1(EXP_LOG2E)));
    vf r = v_fnma(n, v_set1(EXP_LN2_LOW), v_fnma(n, v_set1(EXP_LN2_HIGH), c));
    vf p = v_fma(v_set1(EXP_C7), r, v_set1(EXP_C6));
    p = v_fma(p, r, v_set1(EXP_C5));
    p = v_fma(p, r, v_set1(EXP_C4));
    p = v_fma(p, r, v_set1(EXP_C3));
    p = v_fma(p, r, v_set1(EXP_C2));
    p = v_fma(p, r, v_set1(1.0f));
    p = v_fma(p, r, v_set1(1.0f));
    return v_scale_exp(p, n, x, v_set1(EXP_LOW));
}

/* Lane i of the result: the sum of v[i]'s lanes; every lane by the same tree. */
#if defined(__AVX2__)
INLINE __m256 sum_each_8(const __m256 *v) {
    __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}
#endif
INLINE vf v_sum_each(const vf *v) {
#if defined(__AVX512F__)
    __m256 half[16];
    for (int i = 0; i < 16; i++)
        half[i] = _mm256_add_ps(_mm512_castps512_ps256(v[i]), _mm512_extractf32x8_ps(v[i], 1));
    return _mm512_insertf32x8(_mm512_castps256_ps512(sum_each_8(half)), sum_each_8(half + 8), 1);
#elif defined(__AVX2__)
    return sum_each_8(v);
#else
    return vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3]));
#endif
}

#endif /* a vector instruction set */

#endif
