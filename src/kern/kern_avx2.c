/* AVX2 with FMA and F16C (Haswell, Zen and later): a panel's sixteen outputs are two vectors of eight,
 * each 32-bit lane holding four k of one output; maddubs multiplies unsigned weights with four
 * activations that are broadcast from memory.
 *
 * maddubs adds pairs into 16 bits. Levels of up to 15 leave room for all eight steps of a block there
 * (8·2·15·127 = 30,480), so one madd per block is enough; larger levels widen earlier. Q8_0 needs the
 * weights' signs moved to the activations and widens every step.
 *
 * Two ways through a matrix, with the same operations on every result and so the same bytes:
 *   one row      straight from the packed panels, one after the other;
 *   more rows    a chunk of a panel is widened to bytes once, then tiles of 4 rows × 16 outputs run over it.
 */
#include <immintrin.h>
#include <string.h>

#include "kern/attention.h"
#include "kern/elementwise.h"
#include "kern/panel.h"

enum { TILE_ROWS = 4, FLOAT_TILE_ROWS = 6, STREAMS = 4, PREFETCH_AHEAD = 4096 };

typedef struct pair {
    __m256i v[2]; /* outputs 0–7 and 8–15 */
} pair;

typedef struct pair_f {
    __m256 v[2];
} pair_f;

/* ── the packed formats, 32 k at a time ───────────────────────────────── */

/* Steps that fit into 16 bits before they must be widened. */
INLINE int steps_in_16_bits(dtype t) {
    return t == DTYPE_Q8_0 ? 1 : t == DTYPE_Q6_K ? 2 : t == DTYPE_Q5_0 || t == DTYPE_MXFP4 ? 4 : 8;
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

INLINE __m256i load_32(const uint8_t *p) {
    return _mm256_loadu_si256((const __m256i *)p);
}

/* Levels of steps c and c + 4 (c < 4), outputs 8h … 8h + 7: signed for Q8_0, else unsigned (plus 8, 12,
 * 16, 32 by format). Two at a time, because that is what a byte of nibbles holds. */
INLINE void two_steps(dtype t, const uint8_t *b, int sub, int c, int h, __m256i *lo, __m256i *hi) {
    if (t == DTYPE_Q8_0) {
        *lo = load_32(b + 32 + 64 * c + 32 * h);
        *hi = load_32(b + 32 + 64 * (c + 4) + 32 * h);
        return;
    }
    const __m256i low = _mm256_set1_epi8(15);
    const uint8_t *group = t == DTYPE_Q6_K ? b + 32 + 416 * sub : b;
    const uint8_t *nibbles = t == DTYPE_Q4_0    ? b + 32
                             : t == DTYPE_Q4_K  ? b + 256 + 256 * sub
                             : t == DTYPE_MXFP4 ? b + 16
                             : t == DTYPE_Q5_0  ? b + 96
                                                : group + 32;
    __m256i v = load_32(nibbles + 64 * c + 32 * h);
    *lo = _mm256_and_si256(v, low);
    *hi = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
    if (t == DTYPE_MXFP4) {
        const __m256i table = /* 12 + level */
            _mm256_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4,
                             0, /* and again */
                             12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
        *lo = _mm256_shuffle_epi8(table, *lo);
        *hi = _mm256_shuffle_epi8(table, *hi);
    } else if (t == DTYPE_Q5_0) {
        const __m256i bit = _mm256_set1_epi8(16);
        __m256i high = load_32(b + 32 + 32 * h);
        *lo = _mm256_or_si256(*lo, _mm256_and_si256(_mm256_slli_epi32(high, 4 - c), bit));
        *hi = _mm256_or_si256(*hi, _mm256_and_si256(_mm256_srli_epi32(high, c), bit));
    } else if (t == DTYPE_Q6_K) {
        const __m256i two = _mm256_set1_epi8(48);
        __m256i a = load_32(group + 288 + 32 * h), z = load_32(group + 352 + 32 * h);
        a = c < 2 ? _mm256_slli_epi32(a, 4 - 2 * c) : _mm256_srli_epi32(a, 2 * c - 4);
        z = c < 2 ? _mm256_slli_epi32(z, 4 - 2 * c) : _mm256_srli_epi32(z, 2 * c - 4);
        *lo = _mm256_or_si256(*lo, _mm256_and_si256(a, two));
        *hi = _mm256_or_si256(*hi, _mm256_and_si256(z, two));
    }
}

INLINE pair_f halves_to_floats(const uint8_t *p) {
    return (pair_f){{_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)),
                     _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16)))}};
}

INLINE pair_f mul_pair(pair_f a, pair_f b) {
    return (pair_f){{_mm256_mul_ps(a.v[0], b.v[0]), _mm256_mul_ps(a.v[1], b.v[1])}};
}

INLINE pair_f unsigned_bytes(__m128i v) {
    return (pair_f){{_mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(v)),
                     _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(v, v)))}};
}

INLINE pair_f signed_bytes(const uint8_t *p) {
    __m128i v = _mm_loadu_si128((const __m128i *)p);
    return (pair_f){{_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(v)),
                     _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_unpackhi_epi64(v, v)))}};
}

INLINE __m256 e8m0_half(__m256i e) {
    __m256i normal = _mm256_slli_epi32(_mm256_sub_epi32(e, _mm256_set1_epi32(1)), 23);
    __m256i tiny = _mm256_sllv_epi32(_mm256_set1_epi32(0x00200000), e);
    __m256i is_normal = _mm256_cmpgt_epi32(e, _mm256_set1_epi32(1));
    return _mm256_castsi256_ps(_mm256_blendv_epi8(tiny, normal, is_normal));
}

INLINE __m128i six_bits(__m128i v) {
    return _mm_and_si128(v, _mm_set1_epi8(63));
}

/* scale[0] and, by format, the second half's scale or the minimum. */
INLINE void get_scales(dtype t, const uint8_t *b, int sub, pair_f scale[2]) {
    if (t == DTYPE_MXFP4) {
        __m128i e = _mm_loadu_si128((const __m128i *)b);
        scale[0].v[0] = e8m0_half(_mm256_cvtepu8_epi32(e));
        scale[0].v[1] = e8m0_half(_mm256_cvtepu8_epi32(_mm_unpackhi_epi64(e, e)));
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
        scale[0] = mul_pair(scale[0], unsigned_bytes(q));
        scale[1] = mul_pair(halves_to_floats(b + 32), unsigned_bytes(m));
    } else if (t == DTYPE_Q6_K) {
        pair_f d = scale[0];
        scale[0] = mul_pair(d, signed_bytes(b + 32 + 416 * sub));
        scale[1] = mul_pair(d, signed_bytes(b + 48 + 416 * sub));
    }
}

/* What the offset of the levels adds to the sum of a block (half: −1 all of it, 0 and 1 its halves). */
INLINE __m256i start(dtype t, const act_q8 *x, int half) {
    int32_t off = half < 0 ? x->off : half == 0 ? x->off_lo : x->off - x->off_lo;
    return t == DTYPE_Q4_0    ? _mm256_set1_epi32(off >> 4)
           : t == DTYPE_Q5_0  ? _mm256_set1_epi32(off >> 3)
           : t == DTYPE_Q6_K  ? _mm256_set1_epi32(off >> 2)
           : t == DTYPE_MXFP4 ? _mm256_set1_epi32((off >> 5) * 3)
                              : _mm256_setzero_si256();
}

INLINE __m256i four(const act_q8 *x, int s) {
    int32_t v;
    memcpy(&v, x->q + 4 * s, 4);
    return _mm256_set1_epi32(v);
}

INLINE __m256i widen_sum(__m256i sum, __m256i sixteen) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(sixteen, _mm256_set1_epi16(1)));
}

/* Products of one step, pairs added in 16 bits. */
INLINE __m256i step(dtype t, __m256i w, __m256i q) {
    if (t != DTYPE_Q8_0) return _mm256_maddubs_epi16(w, q);
    return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(q, w));
}

INLINE __m256 fold(__m256i sum, __m256 scale, float d, __m256 acc) {
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), _mm256_mul_ps(scale, _mm256_set1_ps(d)), acc);
}

/* ── one row ──────────────────────────────────────────────────────────── */

/* Weights are used as they come: with all eight steps unpacked first, sixteen registers spill. */
INLINE pair_f decode_block(dtype t, const uint8_t *b, int sub, const act_q8 *x, pair_f acc) {
    const int room = steps_in_16_bits(t);
    pair sum[2], sixteen[2]; /* of steps 0–3 and 4–7 */
    for (int h = 0; h < 2; h++) {
        sum[0].v[h] = start(t, x, t == DTYPE_Q6_K ? 0 : -1);
        sum[1].v[h] = t == DTYPE_Q6_K ? start(t, x, 1) : _mm256_setzero_si256();
    }
    for (int c = 0; c < 4; c++) {
        __m256i q0 = four(x, c), q1 = four(x, c + 4);
        for (int h = 0; h < 2; h++) {
            __m256i lo, hi;
            two_steps(t, b, sub, c, h, &lo, &hi);
            lo = step(t, lo, q0);
            hi = step(t, hi, q1);
            if (room == 8) lo = _mm256_add_epi16(lo, hi);
            const bool fresh = c % room == 0;
            sixteen[0].v[h] = fresh ? lo : _mm256_add_epi16(sixteen[0].v[h], lo);
            if (room < 8) sixteen[1].v[h] = fresh ? hi : _mm256_add_epi16(sixteen[1].v[h], hi);
            if (c != 3 && (c + 1) % room) continue;
            sum[0].v[h] = widen_sum(sum[0].v[h], sixteen[0].v[h]);
            if (room < 8) {
                int into = t == DTYPE_Q6_K;
                sum[into].v[h] = widen_sum(sum[into].v[h], sixteen[1].v[h]);
            }
        }
    }
    pair_f scale[2];
    get_scales(t, b, sub, scale);
    for (int h = 0; h < 2; h++) {
        acc.v[h] = fold(sum[0].v[h], scale[0].v[h], x->d, acc.v[h]);
        if (t == DTYPE_Q6_K) acc.v[h] = fold(sum[1].v[h], scale[1].v[h], x->d, acc.v[h]);
        if (t == DTYPE_Q4_K)
            acc.v[h] = _mm256_fnmadd_ps(scale[1].v[h], _mm256_set1_ps(x->dsum), acc.v[h]);
    }
    return acc;
}

/* n outputs of a panel, n < 16 only in the last one. */
INLINE void store_panel(float *y, int64_t n, pair_f v) {
    if (n >= PANEL) {
        _mm256_storeu_ps(y, v.v[0]);
        _mm256_storeu_ps(y + 8, v.v[1]);
        return;
    }
    float copy[PANEL];
    memcpy(copy, &v, sizeof copy);
    memcpy(y, copy, (size_t)n * sizeof *y);
}

INLINE pair_f load_panel(const float *y, int64_t n) {
    pair_f v;
    if (n >= PANEL) {
        v.v[0] = _mm256_loadu_ps(y);
        v.v[1] = _mm256_loadu_ps(y + 8);
        return v;
    }
    float copy[PANEL] = {0};
    memcpy(copy, y, (size_t)n * sizeof *y);
    memcpy(&v, copy, sizeof copy);
    return v;
}

INLINE pair_f zero_pair(void) {
    return (pair_f){{_mm256_setzero_ps(), _mm256_setzero_ps()}};
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
        pair_f acc = zero_pair();
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
        store_panel(y + o, end - o, acc);
    }
}

/* ── many rows ────────────────────────────────────────────────────────── */

/* One panel of CHUNK_K elements as bytes. */
typedef struct chunk {
    _Alignas(32) pair w[CHUNK_BLOCKS][8];
    pair_f scale[CHUNK_BLOCKS][2];
} chunk;

INLINE void widen(dtype t, const uint8_t *panel, int64_t n_blocks, chunk *c) {
    for (int64_t i = 0; i < n_blocks; i++) {
        const uint8_t *b = panel + (size_t)(i / subs(t)) * panel_block_bytes(t);
        for (int step4 = 0; step4 < 4; step4++)
            for (int h = 0; h < 2; h++)
                two_steps(t, b, (int)(i % subs(t)), step4, h, &c->w[i][step4].v[h],
                          &c->w[i][step4 + 4].v[h]);
        c->scale[i][1] = zero_pair();
        get_scales(t, b, (int)(i % subs(t)), c->scale[i]);
    }
}

INLINE void tile(dtype t, int n_rows, const chunk *c, int64_t n_blocks, const uint8_t *x,
                 size_t x_stride, float *y, int64_t ldy, bool first, int64_t n_out) {
    pair_f acc[TILE_ROWS];
    for (int r = 0; r < n_rows; r++) acc[r] = first ? zero_pair() : load_panel(y + r * ldy, n_out);
    for (int64_t i = 0; i < n_blocks; i++, x += sizeof(act_q8)) {
#define X(r) ((const act_q8 *)(x + (size_t)(r)*x_stride))
        const bool halves = t == DTYPE_Q6_K;
        for (int half = halves ? 0 : -1; half < (halves ? 2 : 0); half++) {
            pair sum[TILE_ROWS];
            for (int r = 0; r < n_rows; r++)
                for (int h = 0; h < 2; h++) sum[r].v[h] = start(t, X(r), half);
            for (int s = half == 1 ? 4 : 0; s < (half == 0 ? 4 : 8); s += steps_in_16_bits(t)) {
                pair sixteen[TILE_ROWS];
                for (int g = 0; g < steps_in_16_bits(t); g++) {
                    for (int r = 0; r < n_rows; r++) {
                        __m256i q = four(X(r), s + g);
                        for (int h = 0; h < 2; h++) {
                            __m256i v = step(t, c->w[i][s + g].v[h], q);
                            sixteen[r].v[h] = g ? _mm256_add_epi16(sixteen[r].v[h], v) : v;
                        }
                    }
                }
                for (int r = 0; r < n_rows; r++)
                    for (int h = 0; h < 2; h++)
                        sum[r].v[h] = widen_sum(sum[r].v[h], sixteen[r].v[h]);
            }
            for (int h = 0; h < 2; h++) {
                for (int r = 0; r < n_rows; r++) {
                    acc[r].v[h] =
                        fold(sum[r].v[h], c->scale[i][half == 1].v[h], X(r)->d, acc[r].v[h]);
                    if (t == DTYPE_Q4_K)
                        acc[r].v[h] = _mm256_fnmadd_ps(c->scale[i][1].v[h],
                                                       _mm256_set1_ps(X(r)->dsum), acc[r].v[h]);
                }
            }
        }
#undef X
    }
    for (int r = 0; r < n_rows; r++) store_panel(y + r * ldy, n_out, acc[r]);
}

INLINE void gemm(dtype t, const kern_matrix *w, const kern_acts *x, int64_t n_rows, float *y,
                 int64_t ldy, int64_t begin, int64_t end) {
    chunk c;
    uint8_t buffer[CHUNK_BLOCKS * PANEL * 34];
    panel_source source = panel_open(w);
    size_t x_stride = kern_act_bytes(KERN_ACT_Q8, w->n_in);
    for (int64_t o = begin; o < end; o += PANEL) {
        for (int64_t k = 0; k < w->n_in; k += CHUNK_K) {
            int64_t n = w->n_in - k < CHUNK_K ? w->n_in - k : CHUNK_K;
            widen(t, panel_get(&source, o, k, n, buffer), n / 32, &c);
            const uint8_t *xk = (const uint8_t *)x->data + (size_t)(k / 32) * sizeof(act_q8);
            float *yo = y + o;
            for (int64_t r = 0; r < n_rows;
                 r += TILE_ROWS, xk += TILE_ROWS * x_stride, yo += TILE_ROWS * ldy) {
#define TILE(N) tile(t, N, &c, n / 32, xk, x_stride, yo, ldy, k == 0, end - o)
                switch (n_rows - r) {
                case 1: TILE(1); break;
                case 2: TILE(2); break;
                case 3: TILE(3); break;
                default: TILE(4); break;
                }
#undef TILE
            }
        }
    }
}

/* ── float weights ────────────────────────────────────────────────────── */

INLINE pair_f widen_float(dtype t, const uint8_t *p) {
    if (t == DTYPE_F32) return load_panel((const float *)p, PANEL);
    if (t == DTYPE_F16) return halves_to_floats(p);
    pair_f v;
    for (int h = 0; h < 2; h++)
        v.v[h] = _mm256_castsi256_ps(_mm256_slli_epi32(
            _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p + 16 * h))), 16));
    return v;
}

INLINE void decode_float_panels(dtype t, int n_panels, const uint8_t *panel, size_t panel_bytes,
                                int64_t n_in, const float *x, float *y, int64_t n_out) {
    pair_f acc[STREAMS];
    for (int p = 0; p < n_panels; p++) acc[p] = zero_pair();
    for (int64_t k = 0; k < n_in; k++, panel += PANEL * (t == DTYPE_F32 ? 4 : 2)) {
        __m256 xk = _mm256_set1_ps(x[k]);
        for (int p = 0; p < n_panels; p++) {
            __builtin_prefetch(panel + (size_t)p * panel_bytes + PREFETCH_AHEAD / 2);
            pair_f w = widen_float(t, panel + (size_t)p * panel_bytes);
            for (int h = 0; h < 2; h++) acc[p].v[h] = _mm256_fmadd_ps(w.v[h], xk, acc[p].v[h]);
        }
    }
    for (int p = 0; p < n_panels; p++) store_panel(y + PANEL * p, n_out - PANEL * p, acc[p]);
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

INLINE void float_tile(int n_rows, const float *c, int64_t n, const uint8_t *x, size_t x_stride,
                       float *y, int64_t ldy, bool first, int64_t n_out) {
    pair_f acc[FLOAT_TILE_ROWS];
    for (int r = 0; r < n_rows; r++) acc[r] = first ? zero_pair() : load_panel(y + r * ldy, n_out);
    for (int64_t k = 0; k < n; k++, x += 4, c += PANEL) {
        __m256 w0 = _mm256_load_ps(c), w1 = _mm256_load_ps(c + 8);
        for (int r = 0; r < n_rows; r++) {
            __m256 xk = _mm256_set1_ps(*(const float *)(x + (size_t)r * x_stride));
            acc[r].v[0] = _mm256_fmadd_ps(w0, xk, acc[r].v[0]);
            acc[r].v[1] = _mm256_fmadd_ps(w1, xk, acc[r].v[1]);
        }
    }
    for (int r = 0; r < n_rows; r++) store_panel(y + r * ldy, n_out, acc[r]);
}

static void float_tiles(const float *c, int64_t n, const uint8_t *x, size_t x_stride, float *y,
                        int64_t ldy, int64_t n_rows, bool first, int64_t n_out) {
    for (; n_rows > 0;
         n_rows -= FLOAT_TILE_ROWS, x += FLOAT_TILE_ROWS * x_stride, y += FLOAT_TILE_ROWS * ldy) {
#define TILE(N) float_tile(N, c, n, x, x_stride, y, ldy, first, n_out)
        switch (n_rows) {
        case 1: TILE(1); break;
        case 2: TILE(2); break;
        case 3: TILE(3); break;
        case 4: TILE(4); break;
        case 5: TILE(5); break;
        default: TILE(6); break;
        }
#undef TILE
    }
}

INLINE void widen_floats(dtype t, const uint8_t *panel, int64_t n, float *c) {
    for (int64_t i = 0; i < n; i++)
        store_panel(c + i * PANEL, PANEL,
                    widen_float(t, panel + i * PANEL * (t == DTYPE_F32 ? 4 : 2)));
}

/* Float activations, any format: a chunk of a panel becomes floats first. */
static void gemm_float(const kern_matrix *w, const kern_acts *x, int64_t n_rows, float *y,
                       int64_t ldy, int64_t begin, int64_t end) {
    _Alignas(64) float c[FLOAT_CHUNK_K * PANEL];
    uint8_t buffer[FLOAT_CHUNK_K * PANEL * 4];
    panel_source source = panel_open(w);
    size_t x_stride = kern_act_bytes(KERN_ACT_F32, w->n_in);
    for (int64_t o = begin; o < end; o += PANEL) {
        for (int64_t k = 0; k < w->n_in; k += FLOAT_CHUNK_K) {
            int64_t n = w->n_in - k < FLOAT_CHUNK_K ? w->n_in - k : FLOAT_CHUNK_K;
            bool is_float = w->type == DTYPE_F32 || w->type == DTYPE_F16 || w->type == DTYPE_BF16;
            const uint8_t *panel = is_float ? panel_get(&source, o, k, n, buffer) : NULL;
            if (w->type == DTYPE_F32)
                widen_floats(DTYPE_F32, panel, n, c);
            else if (w->type == DTYPE_F16)
                widen_floats(DTYPE_F16, panel, n, c);
            else if (w->type == DTYPE_BF16)
                widen_floats(DTYPE_BF16, panel, n, c);
            else
                panel_dequantize(&source, o, k, n, c, PANEL);
            float_tiles(c, n, (const uint8_t *)x->data + (size_t)k * 4, x_stride, y + o, ldy,
                        n_rows, k == 0, end - o);
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

const kern kern_avx2 = {
    .rung = KERN_AVX2,
    .name = "avx2",
    .pack_rows = PANEL,
    .matmul = matmul,
    ELEMENTWISE_TABLE,
    .attn_tile = attn_tile,
};
