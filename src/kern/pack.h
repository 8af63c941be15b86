/* Inside kern: the packed weight layout and the activation blocks every rung agrees on.
 *
 * A packed matrix is a row of panels; a panel holds PANEL = 16 output rows, block after block along k
 * (missing rows of the last panel are zero). Within a block the bytes of the 16 rows are interleaved in
 * groups of four, so that one 64-byte load holds four consecutive k of sixteen outputs: the shape of
 * maddubs and vpdpbusd. "Step s" of a 32-block is its elements 4s … 4s+3. A panel takes exactly the
 * bytes its rows take in the file, and packing loses nothing.
 *
 *   F32 F16 BF16  per k: 16 elements
 *   Q8_0   544 B  16 f16 scales; 8 steps × 64 B
 *   Q4_0   288 B  16 f16 scales; 4 × 64 B of nibbles: low = step c, high = step c + 4
 *   MXFP4  272 B  16 E8M0 scales; nibbles as Q4_0
 *   Q5_0   352 B  16 f16 scales; 16 u32 of fifth bits (bit 8b + s: element 4s + b); nibbles as Q4_0
 *   Q4_K  2304 B  16 f16 d; 16 f16 dmin; 3 × 64 B of scales (pack.c); 8 × nibbles as Q4_0
 *   Q6_K  3360 B  16 f16 d; 8 × { 16 i8 scales of the first half, 16 of the second; nibbles as Q4_0;
 *                 2 × 64 B of high bits (vector h, bits 2f and 2f+1: step 4h + f) }
 */
#ifndef KERN_PACK_H
#define KERN_PACK_H

#include "kern/kern.h"

enum { PANEL = 16 };

/* Attention folds at most this many rows at once, cut at multiples of it counted from the tile's start. */
enum { ATTN_ROWS = 32 };
/* Blocks of activations whose largest magnitude is below this are zero (127 / amax must stay finite). */
#define ACT_TINY 0x1p-100f

/* 32 activations. off = −128·Σq (whole block) and off_lo (first 16): what a product with unsigned
 * weights (level + 128) must be corrected by. d·Σq serves formats with minima. A block with anything
 * that is not finite has d = NaN, so that it shows. */
typedef struct act_q8 {
    int8_t q[32];
    float d, dsum;
    int32_t off, off_lo;
} act_q8;

/* The quantised types with a packed form, once: each rung's matmul and the tables are made from it. */
#define PACK_QUANTISED(X) X(Q8_0) X(Q4_0) X(Q5_0) X(Q4_K) X(Q6_K) X(MXFP4)

/* Bytes of one panel: 16 rows. */
size_t pack_panel_bytes(dtype type, int64_t n_in);
/* Interleaves blocks [block_begin, block_begin + n_blocks) of n_rows ≤ 16 file rows, row_bytes apart,
 * into dst (16 × n_blocks blocks). */
void pack_panel(dtype type, const uint8_t *rows, size_t row_bytes, int n_rows, int64_t block_begin,
                int64_t n_blocks, uint8_t *dst);
/* One block of one row of a packed panel, back in the file's form. */
void unpack_block(dtype type, const uint8_t *panel, int row, int64_t block, uint8_t *out);

extern const kern kern_scalar;
#if defined(__x86_64__)
extern const kern kern_avx2;
#if !defined(ORIEL_NO_AVX512)
extern const kern kern_avx512;
#endif
#elif defined(__aarch64__)
extern const kern kern_neon;
#endif

#endif
