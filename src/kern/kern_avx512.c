/* AVX-512 with VNNI (Zen 4 and later, Ice Lake and later): one vector holds four k of all sixteen outputs
 * of a panel, vpdpbusd multiplies it with four activations that are broadcast from memory.
 *
 * vpdpbusd wants unsigned weights: levels get an offset (128, or the format's own 8, 16, 32), and the
 * accumulator starts at −offset·Σq, which the activation block carries. So sums are exact.
 *
 * Two ways through a matrix, with the same operations on every result and so the same bytes:
 *   one row      straight from the packed panels, one after the other;
 *   more rows    a chunk of two panels is widened to bytes once, then tiles of 6 rows × 32 outputs run
 *                over it with all accumulators in registers.
 */
#include <immintrin.h>
#include <string.h>

#include "kern/attention.h"
#include "kern/elementwise.h"
#include "kern/panel.h"

enum { TILE_ROWS = 6, FLOAT_TILE_ROWS = 8, STREAMS = 4, PREFETCH_AHEAD = 4096 };

/* ── the packed formats, 32 k at a time ───────────────────────────────── */

/* log2(128 / offset) of the unsigned levels below; −1: levels are unsigned by themselves. */
INLINE int offset_shift(dtype t) {
    return t == DTYPE_Q4_0   ? 4
           : t == DTYPE_Q5_0 ? 3
           : t == DTYPE_Q6_K ? 2
           : t == DTYPE_Q4_K ? -1
                             : 0;
}

INLINE int subs(dtype t) {
    return t == DTYPE_Q4_K || t == DTYPE_Q6_K ? 8 : 1;
}

INLINE size_t panel_block_bytes(dtype t) {
    return PANEL * (t == DTYPE_Q8_0    ? 34
                    : t == DTYPE_Q4_0  ? 18
                    : t == DTYPE_Q5_0  ? 22
                    : t == DTYPE_MXFP4 ? 17
                    : t == DTYPE_Q4_K  ? 144
                                       : 210);
}

INLINE void nibbles(const uint8_t *p, __m512i w[8]) {
    const __m512i low = _mm512_set1_epi8(15);
    for (int c = 0; c < 4; c++) {
        __m512i v = _mm512_loadu_si512(p + 64 * c);
        w[c] = _mm512_and_si512(v, low);
        w[c + 4] = _mm512_and_si512(_mm512_srli_epi16(v, 4), low);
    }
}

/* Eight steps of unsigned levels. */
INLINE void get_levels(dtype t, const uint8_t *b, int sub, __m512i w[8]) {
    if (t == DTYPE_Q8_0) {
        for (int s = 0; s < 8; s++)
            w[s] = _mm512_xor_si512(_mm512_loadu_si512(b + 32 + 64 * s), _mm512_set1_epi8(-128));
    } else if (t == DTYPE_Q4_0) {
        nibbles(b + 32, w);
    } else if (t == DTYPE_Q4_K) {
        nibbles(b + 256 + 256 * sub, w);
    } else if (t == DTYPE_MXFP4) {
        const __m512i table = _mm512_broadcast_i32x4(
            _mm_setr_epi8(/* 128 + level */ -128, -127, -126, -125, -124, -122, -120, -116, -128,
                          127, 126, 125, 124, 122, 120, 116));
        nibbles(b + 16, w);
        for (int s = 0; s < 8; s++) w[s] = _mm512_shuffle_epi8(table, w[s]);
    } else if (t == DTYPE_Q5_0) {
        nibbles(b + 96, w);
        __m512i high = _mm512_loadu_si512(b + 32), bit = _mm512_set1_epi8(16);
        for (int s = 0; s < 8; s++) {
            __m512i h = s < 4 ? _mm512_slli_epi32(high, 4 - s) : _mm512_srli_epi32(high, s - 4);
            w[s] = _mm512_ternarylogic_epi32(w[s], h, bit, 0xf8); /* w | (h & bit) */
        }
    } else {
        const uint8_t *o = b + 32 + 416 * sub;
        nibbles(o + 32, w);
        const __m512i two = _mm512_set1_epi8(48);
        for (int h = 0; h < 2; h++) {
            __m512i high = _mm512_loadu_si512(o + 288 + 64 * h);
            for (int f = 0; f < 4; f++) {
                __m512i v =
                    f < 2 ? _mm512_slli_epi32(high, 4 - 2 * f) : _mm512_srli_epi32(high, 2 * f - 4);
                w[4 * h + f] = _mm512_ternarylogic_epi32(w[4 * h + f], v, two, 0xf8);
            }
        }
    }
}

INLINE __m512 halves_to_floats(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

INLINE __m128i six_bits(__m128i v) {
    return _mm_and_si128(v, _mm_set1_epi8(63));
}

/* scale[0] and, by format, the second half's scale or the minimum. */
INLINE void get_scales(dtype t, const uint8_t *b, int sub, __m512 scale[2]) {
    if (t == DTYPE_MXFP4) {
        __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)b));
        __m512i normal = _mm512_slli_epi32(_mm512_sub_epi32(e, _mm512_set1_epi32(1)), 23);
        __m512i tiny = _mm512_sllv_epi32(_mm512_set1_epi32(0x00200000), e);
        __mmask16 is_tiny = _mm512_cmplt_epu32_mask(e, _mm512_set1_epi32(2));
        scale[0] = _mm512_castsi512_ps(_mm512_mask_blend_epi32(is_tiny, normal, tiny));
        return;
    }
    scale[0] = halves_to_floats(b);
    if (t == DTYPE_Q4_K) {
        const __m128i *v = (const __m128i *)(b + 64) + sub % 4;
        __m128i a = _mm_loadu_si128(v), m = _mm_loadu_si128(v + 4), c = _mm_loadu_si128(v + 8);
        __m128i q = six_bits(sub < 4 ? a : m);
        if (sub < 4)
            m = six_bits(c);
        else {
            const __m128i two = _mm_set1_epi8(3);
            m = _mm_or_si128(
                _mm_and_si128(_mm_srli_epi16(a, 6), two),
                _mm_or_si128(_mm_slli_epi16(_mm_and_si128(_mm_srli_epi16(m, 6), two), 2),
                             _mm_slli_epi16(_mm_and_si128(_mm_srli_epi16(c, 6), two), 4)));
        }
        scale[0] = _mm512_mul_ps(scale[0], _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(q)));
        scale[1] =
            _mm512_mul_ps(halves_to_floats(b + 32), _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(m)));
    } else if (t == DTYPE_Q6_K) {
        const __m128i *v = (const __m128i *)(b + 32 + 416 * sub);
        __m512 d = scale[0];
        scale[0] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(v))));
        scale[1] =
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(v + 1))));
    }
}

/* Where the sum of a block (half: −1 all of it, 0 and 1 its halves) starts. */
INLINE __m512i start(dtype t, const act_q8 *x, int half) {
    if (offset_shift(t) < 0) return _mm512_setzero_si512();
    __m512i v = half < 0 ? _mm512_set1_epi32(x->off)
                : half == 0
                    ? _mm512_set1_epi32(x->off_lo)
                    : _mm512_sub_epi32(_mm512_set1_epi32(x->off), _mm512_set1_epi32(x->off_lo));
    return offset_shift(t) ? _mm512_srai_epi32(v, (unsigned)offset_shift(t)) : v;
}

INLINE __m512i four(const act_q8 *x, int s) {
    int32_t v;
    memcpy(&v, x->q + 4 * s, 4);
    return _mm512_set1_epi32(v);
}

INLINE __m512 fold(__m512i sum, __m512 scale, float d, __m512 acc) {
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), _mm512_mul_ps(scale, _mm512_set1_ps(d)), acc);
}

/* ── one row ──────────────────────────────────────────────────────────── */

INLINE __m512 decode_block(dtype t, const uint8_t *b, int sub, const act_q8 *x, __m512 acc) {
    __m512i w[8];
    __m512 scale[2];
    get_levels(t, b, sub, w);
    get_scales(t, b, sub, scale);
    if (t == DTYPE_Q6_K) {
        __m512i lo = start(t, x, 0), hi = start(t, x, 1);
        for (int s = 0; s < 4; s++) {
            lo = _mm512_dpbusd_epi32(lo, w[s], four(x, s));
            hi = _mm512_dpbusd_epi32(hi, w[s + 4], four(x, s + 4));
        }
        return fold(hi, scale[1], x->d, fold(lo, scale[0], x->d, acc));
    }
    __m512i sum = start(t, x, -1);
    for (int s = 0; s < 8; s++) sum = _mm512_dpbusd_epi32(sum, w[s], four(x, s));
    acc = fold(sum, scale[0], x->d, acc);
    return t == DTYPE_Q4_K ? _mm512_fnmadd_ps(scale[1], _mm512_set1_ps(x->dsum), acc) : acc;
}

INLINE __mmask16 mask_of(int64_t n) {
    return n >= PANEL ? 0xffff : (__mmask16)((1u << n) - 1);
}

/* Panels follow each other in memory, so one panel at a time is one stream; the processor's own
 * prefetching stops at every page. */
INLINE void prefetch(const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; i += 64) __builtin_prefetch(p + PREFETCH_AHEAD + i);
}

INLINE void decode(dtype t, const kern_matrix *w, const void *x, float *y, int64_t begin,
                   int64_t end) {
    const size_t sub_bytes = panel_block_bytes(t) / (size_t)subs(t);
    uint8_t buffer[CHUNK_BLOCKS * PANEL * 34];
    panel_source source = panel_open(w);
    for (int64_t o = begin; o < end; o += PANEL) {
        const act_q8 *xb = x;
        __m512 acc = _mm512_setzero_ps();
        for (int64_t k = 0; k < w->n_in; k += CHUNK_K) {
            int64_t n = w->n_in - k < CHUNK_K ? w->n_in - k : CHUNK_K;
            const uint8_t *b = panel_get(&source, o, k, n, buffer);
            for (int64_t i = 0; i < n; i += 32 * subs(t), b += panel_block_bytes(t)) {
                for (int sub = 0; sub < subs(t); sub++, xb++) {
                    prefetch(b + (size_t)sub * sub_bytes, sub_bytes);
                    acc = decode_block(t, b, sub, xb, acc);
                }
            }
        }
        _mm512_mask_storeu_ps(y + o, mask_of(end - o), acc);
    }
}

/* ── many rows ────────────────────────────────────────────────────────── */

/* Two panels of CHUNK_K elements, ready for vpdpbusd. */
typedef struct chunk {
    _Alignas(64) uint8_t w[CHUNK_BLOCKS][2][8][64];
    _Alignas(64) float scale[CHUNK_BLOCKS][2][2][PANEL];
} chunk;

INLINE void widen(dtype t, const uint8_t *panel, int64_t n_blocks, int p, chunk *c) {
    for (int64_t i = 0; i < n_blocks; i++) {
        const uint8_t *b = panel + (size_t)(i / subs(t)) * panel_block_bytes(t);
        __m512i w[8];
        __m512 scale[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
        get_levels(t, b, (int)(i % subs(t)), w);
        get_scales(t, b, (int)(i % subs(t)), scale);
        for (int s = 0; s < 8; s++) _mm512_store_si512(c->w[i][p][s], w[s]);
        for (int h = 0; h < 2; h++) _mm512_store_ps(c->scale[i][p][h], scale[h]);
    }
}

INLINE __m512 load_y(const float *y, bool first, __mmask16 mask) {
    return first ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, y);
}

INLINE void tile(dtype t, int n_rows, int n_panels, const chunk *c, int64_t n_blocks,
                 const uint8_t *x, size_t x_stride, float *y, int64_t ldy, bool first,
                 const __mmask16 mask[2]) {
    __m512 acc[TILE_ROWS][2];
    for (int r = 0; r < n_rows; r++)
        for (int p = 0; p < n_panels; p++)
            acc[r][p] = load_y(y + r * ldy + PANEL * p, first, mask[p]);
    for (int64_t i = 0; i < n_blocks; i++, x += sizeof(act_q8)) {
        for (int half = t == DTYPE_Q6_K ? 0 : -1; half < (t == DTYPE_Q6_K ? 2 : 0); half++) {
            __m512i sum[TILE_ROWS][2];
            for (int r = 0; r < n_rows; r++)
                for (int p = 0; p < n_panels; p++)
                    sum[r][p] = start(t, (const act_q8 *)(x + (size_t)r * x_stride), half);
            for (int s = half == 1 ? 4 : 0; s < (half == 0 ? 4 : 8); s++) {
                __m512i w[2];
                for (int p = 0; p < n_panels; p++) w[p] = _mm512_load_si512(c->w[i][p][s]);
                for (int r = 0; r < n_rows; r++) {
                    __m512i q = four((const act_q8 *)(x + (size_t)r * x_stride), s);
                    for (int p = 0; p < n_panels; p++)
                        sum[r][p] = _mm512_dpbusd_epi32(sum[r][p], w[p], q);
                }
            }
            for (int p = 0; p < n_panels; p++) {
                __m512 scale = _mm512_load_ps(c->scale[i][p][half == 1]);
                for (int r = 0; r < n_rows; r++)
                    acc[r][p] = fold(sum[r][p], scale,
                                     ((const act_q8 *)(x + (size_t)r * x_stride))->d, acc[r][p]);
                if (t != DTYPE_Q4_K) continue;
                __m512 min = _mm512_load_ps(c->scale[i][p][1]);
                for (int r = 0; r < n_rows; r++)
                    acc[r][p] = _mm512_fnmadd_ps(
                        min, _mm512_set1_ps(((const act_q8 *)(x + (size_t)r * x_stride))->dsum),
                        acc[r][p]);
            }
        }
    }
    for (int r = 0; r < n_rows; r++)
        for (int p = 0; p < n_panels; p++)
            _mm512_mask_storeu_ps(y + r * ldy + PANEL * p, mask[p], acc[r][p]);
}

INLINE void gemm(dtype t, const kern_matrix *w, const kern_acts *x, int64_t n_rows, float *y,
                 int64_t ldy, int64_t begin, int64_t end) {
    chunk c;
    uint8_t buffer[CHUNK_BLOCKS * PANEL * 34];
    panel_source source = panel_open(w);
    size_t x_stride = kern_act_bytes(KERN_ACT_Q8, w->n_in);
    for (int64_t o = begin; o < end; o += 2 * PANEL) {
        int n_panels = end - o > PANEL ? 2 : 1;
        __mmask16 mask[2] = {mask_of(end - o), n_panels > 1 ? mask_of(end - o - PANEL) : 0};
        for (int64_t k = 0; k < w->n_in; k += CHUNK_K) {
            int64_t n = w->n_in - k < CHUNK_K ? w->n_in - k : CHUNK_K;
            for (int p = 0; p < n_panels; p++)
                widen(t, panel_get(&source, o + PANEL * p, k, n, buffer), n / 32, p, &c);
            const uint8_t *xk = (const uint8_t *)x->data + (size_t)(k / 32) * sizeof(act_q8);
            float *yo = y + o;
            for (int64_t r = 0; r < n_rows;
                 r += TILE_ROWS, xk += TILE_ROWS * x_stride, yo += TILE_ROWS * ldy) {
#define TILE(N, P) tile(t, N, P, &c, n / 32, xk, x_stride, yo, ldy, k == 0, mask)
                if (n_panels == 1) {
                    for (int64_t i = 0; i < n_rows - r && i < TILE_ROWS; i++)
                        tile(t, 1, 1, &c, n / 32, xk + (size_t)i * x_stride, x_stride, yo + i * ldy,
                             ldy, k == 0, mask);
                    continue;
                }
                switch (n_rows - r) {
                case 1: TILE(1, 2); break;
                case 2: TILE(2, 2); break;
                case 3: TILE(3, 2); break;
                case 4: TILE(4, 2); break;
                case 5: TILE(5, 2); break;
                default: TILE(6, 2); break;
                }
#undef TILE
            }
        }
    }
}

/* ── float weights ────────────────────────────────────────────────────── */

INLINE __m512 widen_float(dtype t, const uint8_t *p) {
    if (t == DTYPE_F32) return _mm512_loadu_ps(p);
    if (t == DTYPE_F16) return halves_to_floats(p);
    return _mm512_castsi512_ps(
        _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}

INLINE void decode_float_panels(dtype t, int n_panels, const uint8_t *panel, size_t panel_bytes,
                                int64_t n_in, const float *x, float *y, int64_t n_out) {
    __m512 acc[STREAMS];
    for (int p = 0; p < n_panels; p++) acc[p] = _mm512_setzero_ps();
    for (int64_t k = 0; k < n_in; k++, panel += PANEL * (t == DTYPE_F32 ? 4 : 2)) {
        __m512 xk = _mm512_set1_ps(x[k]);
        for (int p = 0; p < n_panels; p++) {
            __builtin_prefetch(panel + (size_t)p * panel_bytes + PREFETCH_AHEAD / 2);
            acc[p] = _mm512_fmadd_ps(widen_float(t, panel + (size_t)p * panel_bytes), xk, acc[p]);
        }
    }
    for (int p = 0; p < n_panels; p++)
        _mm512_mask_storeu_ps(y + PANEL * p, mask_of(n_out - PANEL * p), acc[p]);
}

INLINE void decode_float(dtype t, const kern_matrix *w, const void *x, float *y, int64_t begin,
                         int64_t end) {
    size_t panel_bytes = panel_open(w).row_bytes * PANEL;
    const uint8_t *panel = (const uint8_t *)w->data + (size_t)(begin / PANEL) * panel_bytes;
    int64_t o = begin;
    for (; end - o > PANEL * (STREAMS - 1); o += PANEL * STREAMS, panel += STREAMS * panel_bytes)
        decode_float_panels(t, STREAMS, panel, panel_bytes, w->n_in, x, y + o, end - o);
    for (; o < end; o += PANEL, panel += panel_bytes)
        decode_float_panels(t, 1, panel, panel_bytes, w->n_in, x, y + o, end - o);
}

enum { FLOAT_CHUNK_K = 256 };

INLINE void float_tile(int n_rows, int n_panels, const float *c, int64_t n, const uint8_t *x,
                       size_t x_stride, float *y, int64_t ldy, bool first,
                       const __mmask16 mask[2]) {
    __m512 acc[FLOAT_TILE_ROWS][2];
    for (int r = 0; r < n_rows; r++)
        for (int p = 0; p < n_panels; p++)
            acc[r][p] = load_y(y + r * ldy + PANEL * p, first, mask[p]);
    for (int64_t k = 0; k < n; k++, x += 4, c += 2 * PANEL) {
        __m512 w[2];
        for (int p = 0; p < n_panels; p++) w[p] = _mm512_load_ps(c + PANEL * p);
        for (int r = 0; r < n_rows; r++) {
            __m512 xk = _mm512_set1_ps(*(const float *)(x + (size_t)r * x_stride));
            for (int p = 0; p < n_panels; p++) acc[r][p] = _mm512_fmadd_ps(w[p], xk, acc[r][p]);
        }
    }
    for (int r = 0; r < n_rows; r++)
        for (int p = 0; p < n_panels; p++)
            _mm512_mask_storeu_ps(y + r * ldy + PANEL * p, mask[p], acc[r][p]);
}

static void float_tiles(int n_panels, const float *c, int64_t n, const uint8_t *x, size_t x_stride,
                        float *y, int64_t ldy, int64_t n_rows, bool first,
                        const __mmask16 mask[2]) {
    if (n_panels == 1) {
        for (int64_t r = 0; r < n_rows; r++)
            float_tile(1, 1, c, n, x + (size_t)r * x_stride, x_stride, y + r * ldy, ldy, first,
                       mask);
        return;
    }
    for (; n_rows > 0;
         n_rows -= FLOAT_TILE_ROWS, x += FLOAT_TILE_ROWS * x_stride, y += FLOAT_TILE_ROWS * ldy) {
#define TILE(N) float_tile(N, 2, c, n, x, x_stride, y, ldy, first, mask)
        switch (n_rows) {
        case 1: TILE(1); break;
        case 2: TILE(2); break;
        case 3: TILE(3); break;
        case 4: TILE(4); break;
        case 5: TILE(5); break;
        case 6: TILE(6); break;
        case 7: TILE(7); break;
        default: TILE(8); break;
        }
#undef TILE
    }
}

/* Float activations, any format: a chunk of two panels becomes floats first. */
static void gemm_float(const kern_matrix *w, const kern_acts *x, int64_t n_rows, float *y,
                       int64_t ldy, int64_t begin, int64_t end) {
    _Alignas(64) float c[FLOAT_CHUNK_K * 2 * PANEL];
    uint8_t buffer[FLOAT_CHUNK_K * PANEL * 4];
    panel_source source = panel_open(w);
    size_t x_stride = kern_act_bytes(KERN_ACT_F32, w->n_in);
    for (int64_t o = begin; o < end; o += 2 * PANEL) {
        int n_panels = end - o > PANEL ? 2 : 1;
        __mmask16 mask[2] = {mask_of(end - o), n_panels > 1 ? mask_of(end - o - PANEL) : 0};
        for (int64_t k = 0; k < w->n_in; k += FLOAT_CHUNK_K) {
            int64_t n = w->n_in - k < FLOAT_CHUNK_K ? w->n_in - k : FLOAT_CHUNK_K;
            for (int p = 0; p < n_panels; p++) {
                bool is_float =
                    w->type == DTYPE_F32 || w->type == DTYPE_F16 || w->type == DTYPE_BF16;
                const uint8_t *panel =
                    is_float ? panel_get(&source, o + PANEL * p, k, n, buffer) : NULL;
                for (int64_t i = 0; w->type == DTYPE_F32 && i < n; i++)
                    _mm512_store_ps(c + i * 2 * PANEL + PANEL * p,
                                    widen_float(DTYPE_F32, panel + 64 * i));
                for (int64_t i = 0; w->type == DTYPE_F16 && i < n; i++)
                    _mm512_store_ps(c + i * 2 * PANEL + PANEL * p,
                                    widen_float(DTYPE_F16, panel + 32 * i));
                for (int64_t i = 0; w->type == DTYPE_BF16 && i < n; i++)
                    _mm512_store_ps(c + i * 2 * PANEL + PANEL * p,
                                    widen_float(DTYPE_BF16, panel + 32 * i));
                if (!is_float)
                    panel_dequantize(&source, o + PANEL * p, k, n, c + PANEL * p, 2 * PANEL);
            }
            float_tiles(n_panels, c, n, (const uint8_t *)x->data + (size_t)k * 4, x_stride, y + o,
                        ldy, n_rows, k == 0, mask);
        }
    }
}

/* ── the door ─────────────────────────────────────────────────────────── */

#define QUANTISED(T)                                                                           \
    static void matmul_##T(const kern_matrix *w, const kern_acts *x, int64_t n_rows, float *y, \
                           int64_t ldy, int64_t begin, int64_t end) {                          \
        if (n_rows == 1)                                                                       \
            decode(DTYPE_##T, w, x->data, y, begin, end);                                      \
        else                                                                                   \
            gemm(DTYPE_##T, w, x, n_rows, y, ldy, begin, end);                                 \
    }
PACK_QUANTISED(QUANTISED)

static void matmul(const kern_matrix *w, const kern_acts *x, int64_t n_rows, float *y, int64_t ldy,
                   int64_t out_begin, int64_t out_end) {
    if (x->type == KERN_ACT_Q8) {
        switch (w->type) {
#define CASE(T) \
    case DTYPE_##T: matmul_##T(w, x, n_rows, y, ldy, out_begin, out_end); break;
            PACK_QUANTISED(CASE)
#undef CASE
        default: __builtin_unreachable(); /* kern_act_for */
        }
        return;
    }
    if (n_rows == 1 && w->layout == KERN_PACKED) {
        switch (w->type) {
        case DTYPE_F32: decode_float(DTYPE_F32, w, x->data, y, out_begin, out_end); return;
        case DTYPE_F16: decode_float(DTYPE_F16, w, x->data, y, out_begin, out_end); return;
        case DTYPE_BF16: decode_float(DTYPE_BF16, w, x->data, y, out_begin, out_end); return;
        default: break;
        }
    }
    gemm_float(w, x, n_rows, y, ldy, out_begin, out_end);
}

const kern kern_avx512 = {
    .rung = KERN_AVX512,
    .name = "avx512",
    .pack_rows = PANEL,
    .matmul = matmul,
    ELEMENTWISE_TABLE,
    .attn_tile = attn_tile,
};
