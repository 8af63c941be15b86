/* File rows ⇄ packed panels. See pack.h for the layout. Whole panels take a fast way, because matrices that
 * stay as file rows (mmap) come by here again for every product; tails and the way back are plain.
 */
#include "kern/pack.h"

#include <string.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include "kern/num.h"

static bool is_packable(dtype type) {
    return kern_act_for(type) == KERN_ACT_Q8 || type == DTYPE_F32 || type == DTYPE_F16 ||
           type == DTYPE_BF16;
}

size_t pack_panel_bytes(dtype type, int64_t n_in) {
    uint64_t bytes;
    if (!is_packable(type) || n_in < 0 || !dtype_row_bytes(type, (uint64_t)n_in, &bytes)) return 0;
    return __builtin_mul_overflow(bytes, PANEL, &bytes) ? 0 : (size_t)bytes;
}

/* ── one block of one row: pack and its inverse ───────────────────────── */

/* 16 bytes of nibbles as files have them: byte i holds elements i (low) and i + 16 (high). */
static void put_nibbles(uint8_t *p, int r, const uint8_t *q) {
    for (int c = 0; c < 4; c++) memcpy(p + 64 * c + 4 * r, q + 4 * c, 4);
}

static void get_nibbles(const uint8_t *p, int r, uint8_t *q) {
    for (int c = 0; c < 4; c++) memcpy(q + 4 * c, p + 64 * c + 4 * r, 4);
}

/* Elements as bytes → 16 bytes of nibbles in that order, and back. */
static void join_nibbles(const uint8_t *e, uint8_t *q) {
    for (int i = 0; i < 16; i++) q[i] = (uint8_t)((e[i] & 15) | (e[i + 16] & 15) << 4);
}

static void split_nibbles(const uint8_t *q, uint8_t *e) {
    for (int i = 0; i < 16; i++) e[i] = q[i] & 15, e[i + 16] = q[i] >> 4;
}

static void pack_q8_0(uint8_t *p, int r, const uint8_t *b) {
    memcpy(p + 2 * r, b, 2);
    for (int s = 0; s < 8; s++) memcpy(p + 32 + 64 * s + 4 * r, b + 2 + 4 * s, 4);
}

static void unpack_q8_0(const uint8_t *p, int r, uint8_t *b) {
    memcpy(b, p + 2 * r, 2);
    for (int s = 0; s < 8; s++) memcpy(b + 2 + 4 * s, p + 32 + 64 * s + 4 * r, 4);
}

static void pack_q4_0(uint8_t *p, int r, const uint8_t *b) {
    memcpy(p + 2 * r, b, 2);
    put_nibbles(p + 32, r, b + 2);
}

static void unpack_q4_0(const uint8_t *p, int r, uint8_t *b) {
    memcpy(b, p + 2 * r, 2);
    get_nibbles(p + 32, r, b + 2);
}

static void pack_mxfp4(uint8_t *p, int r, const uint8_t *b) {
    p[r] = b[0];
    put_nibbles(p + 16, r, b + 1);
}

static void unpack_mxfp4(const uint8_t *p, int r, uint8_t *b) {
    b[0] = p[r];
    get_nibbles(p + 16, r, b + 1);
}

static void pack_q5_0(uint8_t *p, int r, const uint8_t *b) {
    uint32_t high = num_u32(b + 2), moved = 0;
    for (int e = 0; e < 32; e++) moved |= (high >> e & 1) << (8 * (e % 4) + e / 4);
    memcpy(p + 2 * r, b, 2);
    memcpy(p + 32 + 4 * r, &moved, 4);
    put_nibbles(p + 96, r, b + 6);
}

static void unpack_q5_0(const uint8_t *p, int r, uint8_t *b) {
    uint32_t moved = num_u32(p + 32 + 4 * r), high = 0;
    for (int e = 0; e < 32; e++) high |= (moved >> (8 * (e % 4) + e / 4) & 1) << e;
    memcpy(b, p + 2 * r, 2);
    memcpy(b + 2, &high, 4);
    get_nibbles(p + 96, r, b + 6);
}

/* Q4_K's scales: vectors A, B, C of 64 bytes, byte 16j + r. A: scales 0–3, B: scales 4–7, C: minima 0–3,
 * six bits each; minima 4–7 lie in the two top bits: bits 0–1 in A, 2–3 in B, 4–5 in C. */
static void pack_q4_k_scales(uint8_t *p, int r, const uint8_t *b) {
    memcpy(p + 2 * r, b, 2);
    memcpy(p + 32 + 2 * r, b + 2, 2);
    const uint8_t *sc = b + 4;
    uint8_t *a = p + 64 + r;
    for (int j = 0; j < 4; j++) {
        int high_scale = (sc[j + 8] & 15) | sc[j] >> 6 << 4;
        int high_min = sc[j + 8] >> 4 | sc[j + 4] >> 6 << 4;
        a[16 * j] = (uint8_t)((sc[j] & 63) | (high_min & 3) << 6);
        a[64 + 16 * j] = (uint8_t)(high_scale | (high_min >> 2 & 3) << 6);
        a[128 + 16 * j] = (uint8_t)((sc[j + 4] & 63) | high_min >> 4 << 6);
    }
}

static void pack_q4_k(uint8_t *p, int r, const uint8_t *b) {
    pack_q4_k_scales(p, r, b);
    for (int j = 0; j < 8;
         j++) { /* sub-blocks 2i and 2i + 1 share 32 bytes: low and high nibbles */
        const uint8_t *q = b + 16 + j / 2 * 32;
        uint8_t e[32], nibbles[16];
        for (int i = 0; i < 32; i++) e[i] = j & 1 ? q[i] >> 4 : q[i] & 15;
        join_nibbles(e, nibbles);
        put_nibbles(p + 256 + 256 * j, r, nibbles);
    }
}

static void unpack_q4_k(const uint8_t *p, int r, uint8_t *b) {
    memcpy(b, p + 2 * r, 2);
    memcpy(b + 2, p + 32 + 2 * r, 2);
    uint8_t *sc = b + 4;
    const uint8_t *a = p + 64 + r;
    for (int j = 0; j < 4; j++) {
        int va = a[16 * j], vb = a[64 + 16 * j], vc = a[128 + 16 * j];
        int high_min = va >> 6 | vb >> 6 << 2 | vc >> 6 << 4, high_scale = vb & 63;
        sc[j] = (uint8_t)((va & 63) | high_scale >> 4 << 6);
        sc[j + 4] = (uint8_t)((vc & 63) | high_min >> 4 << 6);
        sc[j + 8] = (uint8_t)((high_scale & 15) | (high_min & 15) << 4);
    }
    for (int j = 0; j < 8; j++) {
        uint8_t *q = b + 16 + j / 2 * 32, e[32], nibbles[16];
        get_nibbles(p + 256 + 256 * j, r, nibbles);
        split_nibbles(nibbles, e);
        for (int i = 0; i < 32; i++) q[i] = (uint8_t)(j & 1 ? (q[i] & 15) | e[i] << 4 : e[i]);
    }
}

static void pack_q6_k(uint8_t *p, int r, const uint8_t *b) {
    memcpy(p + 2 * r, b + 208, 2);
    for (int j = 0; j < 8; j++) {
        const uint8_t *low = b + j / 4 * 64 + j % 2 * 32, *high = b + 128 + j / 4 * 32;
        uint8_t *o = p + 32 + 416 * j, e[32], nibbles[16];
        o[r] = b[192 + 2 * j];
        o[16 + r] = b[192 + 2 * j + 1];
        for (int i = 0; i < 32; i++) e[i] = j % 4 / 2 ? low[i] >> 4 : low[i] & 15;
        join_nibbles(e, nibbles);
        put_nibbles(o + 32, r, nibbles);
        uint8_t *h = o + 288 + 4 * r;
        for (int i = 0; i < 32; i++) {
            int two = high[i] >> 2 * (j % 4) & 3, s = i / 4;
            uint8_t *at = h + 64 * (s / 4) + i % 4;
            if (s % 4 == 0) *at = 0;
            *at |= (uint8_t)(two << 2 * (s % 4));
        }
    }
}

static void unpack_q6_k(const uint8_t *p, int r, uint8_t *b) {
    memset(b, 0, 192);
    memcpy(b + 208, p + 2 * r, 2);
    for (int j = 0; j < 8; j++) {
        uint8_t *low = b + j / 4 * 64 + j % 2 * 32, *high = b + 128 + j / 4 * 32;
        const uint8_t *o = p + 32 + 416 * j, *h = o + 288 + 4 * r;
        uint8_t e[32], nibbles[16];
        b[192 + 2 * j] = o[r];
        b[192 + 2 * j + 1] = o[16 + r];
        get_nibbles(o + 32, r, nibbles);
        split_nibbles(nibbles, e);
        for (int i = 0; i < 32; i++) {
            int s = i / 4, two = h[64 * (s / 4) + i % 4] >> 2 * (s % 4) & 3;
            low[i] |= (uint8_t)(e[i] << 4 * (j % 4 / 2));
            high[i] |= (uint8_t)(two << 2 * (j % 4));
        }
    }
}

static void pack_one(dtype type, uint8_t *p, int r, const uint8_t *b) {
    switch (type) {
    case DTYPE_F32: memcpy(p + 4 * r, b, 4); break;
    case DTYPE_F16:
    case DTYPE_BF16: memcpy(p + 2 * r, b, 2); break;
    case DTYPE_Q8_0: pack_q8_0(p, r, b); break;
    case DTYPE_Q4_0: pack_q4_0(p, r, b); break;
    case DTYPE_Q5_0: pack_q5_0(p, r, b); break;
    case DTYPE_MXFP4: pack_mxfp4(p, r, b); break;
    case DTYPE_Q4_K: pack_q4_k(p, r, b); break;
    case DTYPE_Q6_K: pack_q6_k(p, r, b); break;
    default: __builtin_unreachable();
    }
}

void unpack_block(dtype type, const uint8_t *panel, int row, int64_t block, uint8_t *out) {
    const uint8_t *p = panel + (size_t)block * PANEL * dtype_get(type)->block_bytes;
    switch (type) {
    case DTYPE_F32: memcpy(out, p + 4 * row, 4); break;
    case DTYPE_F16:
    case DTYPE_BF16: memcpy(out, p + 2 * row, 2); break;
    case DTYPE_Q8_0: unpack_q8_0(p, row, out); break;
    case DTYPE_Q4_0: unpack_q4_0(p, row, out); break;
    case DTYPE_Q5_0: unpack_q5_0(p, row, out); break;
    case DTYPE_MXFP4: unpack_mxfp4(p, row, out); break;
    case DTYPE_Q4_K: unpack_q4_k(p, row, out); break;
    case DTYPE_Q6_K: unpack_q6_k(p, row, out); break;
    default: __builtin_unreachable();
    }
}

/* ── sixteen rows at once ─────────────────────────────────────────────── */

/* 16 bytes of each of 16 rows → 4 × 64 bytes, four bytes of every row in each. */
static inline void interleave(const uint8_t *src, size_t stride, uint8_t *dst) {
#if defined(__SSE2__)
    for (int r = 0; r < PANEL; r += 4, src += 4 * stride, dst += 16) {
        __m128i v[4];
        for (int i = 0; i < 4; i++)
            v[i] = _mm_loadu_si128((const __m128i *)(src + (size_t)i * stride));
        __m128i a = _mm_unpacklo_epi32(v[0], v[1]), b = _mm_unpackhi_epi32(v[0], v[1]);
        __m128i c = _mm_unpacklo_epi32(v[2], v[3]), d = _mm_unpackhi_epi32(v[2], v[3]);
        _mm_storeu_si128((__m128i *)dst, _mm_unpacklo_epi64(a, c));
        _mm_storeu_si128((__m128i *)(dst + 64), _mm_unpackhi_epi64(a, c));
        _mm_storeu_si128((__m128i *)(dst + 128), _mm_unpacklo_epi64(b, d));
        _mm_storeu_si128((__m128i *)(dst + 192), _mm_unpackhi_epi64(b, d));
    }
#else
    for (int r = 0; r < PANEL; r++, src += stride)
        for (int c = 0; c < 4; c++) memcpy(dst + 64 * c + 4 * r, src + 4 * c, 4);
#endif
}

static inline void interleave_u16(const uint8_t *src, size_t stride, uint8_t *dst) {
    for (int r = 0; r < PANEL; r++, src += stride) memcpy(dst + 2 * r, src, 2);
}

/* Eight 16-bit elements of each of 16 rows → eight times 16 elements. */
static inline void interleave_8_halves(const uint8_t *src, size_t stride, uint8_t *dst) {
#if defined(__SSE2__)
    for (int r = 0; r < PANEL; r += 8, src += 8 * stride, dst += 16) {
        __m128i v[8], t[8];
        for (int i = 0; i < 8; i++)
            v[i] = _mm_loadu_si128((const __m128i *)(src + (size_t)i * stride));
        for (int i = 0; i < 4; i++) { /* k 0–3 and 4–7 of rows 2i and 2i + 1 */
            t[i] = _mm_unpacklo_epi16(v[2 * i], v[2 * i + 1]);
            t[i + 4] = _mm_unpackhi_epi16(v[2 * i], v[2 * i + 1]);
        }
        for (int half = 0; half < 2; half++) {
            const __m128i *u = t + 4 * half;
            __m128i a = _mm_unpacklo_epi32(u[0], u[1]), b = _mm_unpackhi_epi32(u[0], u[1]);
            __m128i c = _mm_unpacklo_epi32(u[2], u[3]), d = _mm_unpackhi_epi32(u[2], u[3]);
            uint8_t *out = dst + 128 * half;
            _mm_storeu_si128((__m128i *)out, _mm_unpacklo_epi64(a, c));
            _mm_storeu_si128((__m128i *)(out + 32), _mm_unpackhi_epi64(a, c));
            _mm_storeu_si128((__m128i *)(out + 64), _mm_unpacklo_epi64(b, d));
            _mm_storeu_si128((__m128i *)(out + 96), _mm_unpackhi_epi64(b, d));
        }
    }
#else
    for (int r = 0; r < PANEL; r++, src += stride)
        for (int k = 0; k < 8; k++) memcpy(dst + 32 * k + 2 * r, src + 2 * k, 2);
#endif
}

typedef uint64_t words[32]; /* 4 × 64 bytes */

static const uint64_t low_nibbles = 0x0f0f0f0f0f0f0f0f;

/* Elements i and i + 16 of a block lie in the same nibble of bytes i and i + 16: pair them up. */
static void pair_nibbles(const words x, const words y, bool high, uint8_t *dst) {
    words out;
    for (int i = 0; i < 32; i++)
        out[i] = high ? (x[i] >> 4 & low_nibbles) | (y[i] & ~low_nibbles)
                      : (x[i] & low_nibbles) | (y[i] & low_nibbles) << 4;
    memcpy(dst, out, sizeof out);
}

/* Byte i of the first half to 2i, of the second to 2i + 1: the index's bits rotate left by one. */
static void shuffle_bytes(const uint8_t *in, int n, uint8_t *out) {
    for (int i = 0; i < n / 2; i++) {
        out[2 * i] = in[i];
        out[2 * i + 1] = in[n / 2 + i];
    }
}

/* [row][n / 16] bytes → [n / 16][row]: sixteen rows are four bits of the index. */
static void transpose_bytes(uint8_t *bytes, int n, uint8_t *dst) {
    uint8_t t[256];
    shuffle_bytes(bytes, n, t);
    shuffle_bytes(t, n, bytes);
    shuffle_bytes(bytes, n, t);
    shuffle_bytes(t, n, dst);
}

/* pack_q4_k_scales for sixteen rows: every byte has its own row's and sub-block's bits in it. */
static void panel_q4_k_scales(const uint8_t *b, size_t stride, uint8_t *p) {
    words v; /* [4][8]: scale bytes 0–3, 4–7 and 8–11 of all rows */
    uint64_t out[3][8];
    interleave(b + 4, stride, (uint8_t *)v);
    const uint64_t six = 0x3f3f3f3f3f3f3f3f, two = 0x0303030303030303, high = ~six;
    for (int i = 0; i < 8; i++) {
        uint64_t x = v[i], y = v[8 + i], z = v[16 + i];
        uint64_t scale = (z & low_nibbles) | (x >> 2 & (two << 4));
        uint64_t min = (z >> 4 & low_nibbles) | (y >> 2 & (two << 4));
        out[0][i] = (x & six) | (min << 6 & high);
        out[1][i] = scale | (min << 4 & high);
        out[2][i] = (y & six) | (min << 2 & high);
    }
    for (int i = 0; i < 3; i++) transpose_bytes((uint8_t *)out[i], 64, p + 64 + 64 * i);
}

static void panel_q4_k(const uint8_t *b, size_t stride, uint8_t *p) {
    interleave_u16(b, stride, p);
    interleave_u16(b + 2, stride, p + 32);
    panel_q4_k_scales(b, stride, p);
    for (int j = 0; j < 8; j += 2) {
        words x, y;
        interleave(b + 16 + 16 * j, stride, (uint8_t *)x);
        interleave(b + 32 + 16 * j, stride, (uint8_t *)y);
        pair_nibbles(x, y, false, p + 256 + 256 * j);
        pair_nibbles(x, y, true, p + 512 + 256 * j);
    }
}

static void panel_q6_k(const uint8_t *b, size_t stride, uint8_t *p) {
    interleave_u16(b + 208, stride, p);
    uint8_t scales[256], by_sub[256];
    for (int r = 0; r < PANEL; r++) memcpy(scales + 16 * r, b + (size_t)r * stride + 192, 16);
    transpose_bytes(scales, 256, by_sub);
    for (int j = 0; j < 8; j++) memcpy(p + 32 + 416 * j, by_sub + 32 * j, 32);
    for (int n = 0; n < 2; n++) {
        for (int m = 0; m < 2; m++) {
            words x, y;
            interleave(b + 64 * n + 32 * m, stride, (uint8_t *)x);
            interleave(b + 64 * n + 32 * m + 16, stride, (uint8_t *)y);
            pair_nibbles(x, y, false, p + 64 + 416 * (4 * n + m));
            pair_nibbles(x, y, true, p + 64 + 416 * (4 * n + m + 2));
        }
        for (int h = 0; h < 2; h++) {
            words v;
            interleave(b + 128 + 32 * n + 16 * h, stride, (uint8_t *)v);
            for (int j = 0; j < 4; j++) {
                uint64_t out[8] = {0};
                for (int f = 0; f < 4; f++)
                    for (int i = 0; i < 8; i++)
                        out[i] |= (v[8 * f + i] >> 2 * j & 0x0303030303030303) << 2 * f;
                memcpy(p + 320 + 416 * (4 * n + j) + 64 * h, out, sizeof out);
            }
        }
    }
}

/* Bit 4s + b of a row's word to bit 8b + s. The five bits of the index go round by two, which is four
 * exchanges of two index bits; each moves the bits that have one of them set and the other not. */
static void panel_q5_0_bits(const uint8_t *b, size_t stride, uint8_t *dst) {
    uint32_t v[PANEL];
    for (int r = 0; r < PANEL; r++) v[r] = num_u32(b + (size_t)r * stride);
    for (int r = 0; r < PANEL; r++) {
        uint32_t x = v[r], t;
        t = (x ^ x >> 3) & 0x0a0a0a0a, x ^= t ^ t << 3;   /* 0 and 2 */
        t = (x ^ x >> 6) & 0x00cc00cc, x ^= t ^ t << 6;   /* 1 and 3 */
        t = (x ^ x >> 12) & 0x0000f0f0, x ^= t ^ t << 12; /* 2 and 4 */
        t = (x ^ x >> 8) & 0x0000ff00, x ^= t ^ t << 8;   /* 3 and 4 */
        v[r] = x;
    }
    memcpy(dst, v, sizeof v);
}

/* n blocks of k, all sixteen rows there. */
static void pack_full(dtype type, const uint8_t *b, size_t stride, int64_t n, uint8_t *dst) {
    switch (type) {
    case DTYPE_F32:
        for (; n >= 4; n -= 4, b += 16, dst += 256) interleave(b, stride, dst);
        break;
    case DTYPE_F16:
    case DTYPE_BF16:
        for (; n >= 8; n -= 8, b += 16, dst += 256) interleave_8_halves(b, stride, dst);
        break;
    case DTYPE_Q8_0:
        for (; n; n--, b += 34, dst += 544) {
            interleave_u16(b, stride, dst);
            interleave(b + 2, stride, dst + 32);
            interleave(b + 18, stride, dst + 288);
        }
        break;
    case DTYPE_Q4_0:
        for (; n; n--, b += 18, dst += 288) {
            interleave_u16(b, stride, dst);
            interleave(b + 2, stride, dst + 32);
        }
        break;
    case DTYPE_Q5_0:
        for (; n; n--, b += 22, dst += 352) {
            interleave_u16(b, stride, dst);
            panel_q5_0_bits(b + 2, stride, dst + 32);
            interleave(b + 6, stride, dst + 96);
        }
        break;
    case DTYPE_MXFP4:
        for (; n; n--, b += 17, dst += 272) {
            for (int r = 0; r < PANEL; r++) dst[r] = b[(size_t)r * stride];
            interleave(b + 1, stride, dst + 16);
        }
        break;
    case DTYPE_Q4_K:
        for (; n; n--, b += 144, dst += 2304) panel_q4_k(b, stride, dst);
        break;
    case DTYPE_Q6_K:
        for (; n; n--, b += 210, dst += 3360) panel_q6_k(b, stride, dst);
        break;
    default: break;
    }
    size_t block_bytes = dtype_get(type)->block_bytes; /* a tail of single elements */
    for (; n; n--, b += block_bytes, dst += PANEL * block_bytes)
        for (int r = 0; r < PANEL; r++) pack_one(type, dst, r, b + (size_t)r * stride);
}

void pack_panel(dtype type, const uint8_t *rows, size_t row_bytes, int n_rows, int64_t block_begin,
                int64_t n_blocks, uint8_t *dst) {
    size_t block_bytes = dtype_get(type)->block_bytes;
    const uint8_t *b = rows + (size_t)block_begin * block_bytes;
    if (n_rows == PANEL) {
        pack_full(type, b, row_bytes, n_blocks, dst);
        return;
    }
    memset(dst, 0, (size_t)n_blocks * PANEL * block_bytes);
    for (int64_t i = 0; i < n_blocks; i++, b += block_bytes, dst += PANEL * block_bytes)
        for (int r = 0; r < n_rows; r++) pack_one(type, dst, r, b + (size_t)r * row_bytes);
}

/* ── the door ─────────────────────────────────────────────────────────── */

bool kern_can_pack(const kern *k, dtype type) {
    (void)k; /* every rung reads the same layout */
    return is_packable(type);
}

size_t kern_pack_bytes(const kern *k, dtype type, int64_t n_out, int64_t n_in) {
    (void)k;
    size_t panel = pack_panel_bytes(type, n_in), bytes;
    if (n_out < 0 || __builtin_mul_overflow(((size_t)n_out + PANEL - 1) / PANEL, panel, &bytes))
        return 0;
    return bytes;
}

void kern_pack(const kern *k, dtype type, int64_t n_out, int64_t n_in, const void *rows,
               int64_t out_begin, int64_t out_end, void *dst) {
    (void)k;
    const dtype_info *info = dtype_get(type);
    size_t row_bytes = (size_t)n_in / info->block_len * info->block_bytes;
    const uint8_t *src = rows;
    for (int64_t o = out_begin; o < out_end; o += PANEL) {
        int64_t last = o + PANEL < n_out ? o + PANEL : n_out;
        pack_panel(type, src + (size_t)(o - out_begin) * row_bytes, row_bytes, (int)(last - o), 0,
                   n_in / info->block_len,
                   (uint8_t *)dst + (size_t)(o / PANEL) * PANEL * row_bytes);
    }
}

void kern_matrix_row(const kern_matrix *w, int64_t row, float *out) {
    const dtype_info *info = dtype_get(w->type);
    size_t row_bytes = (size_t)w->n_in / info->block_len * info->block_bytes;
    if (w->layout == KERN_ROWS) {
        kern_dequantize(w->type, w->n_in, (const uint8_t *)w->data + (size_t)row * row_bytes, out);
        return;
    }
    const uint8_t *panel = (const uint8_t *)w->data + (size_t)(row / PANEL) * PANEL * row_bytes;
    uint8_t block[256];
    for (int64_t k = 0; k < w->n_in; k += info->block_len) {
        unpack_block(w->type, panel, (int)(row % PANEL), k / info->block_len, block);
        kern_dequantize(w->type, info->block_len, block, out + k);
    }
}
