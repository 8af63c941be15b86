/* NEON (ARMv8.0): the elementwise kernels and attention as every rung compiles them, and matmul for Q8_0.
 * Other formats run the scalar matmul, which gives the same bytes.
 */
#include "kern/attention.h"
#include "kern/elementwise.h"
#include "kern/panel.h"

typedef struct panel_acc {
    float32x4_t v[4]; /* sixteen outputs */
} panel_acc;

/* One 32-block: each vector of weights holds four k of four outputs. */
INLINE panel_acc block_q8_0(const uint8_t *b, const act_q8 *x, panel_acc acc) {
    int32x4_t even[4], odd[4]; /* outputs 0 1 and 2 3 of each vector, two partial sums each */
    for (int v = 0; v < 4; v++) even[v] = odd[v] = vdupq_n_s32(0);
    for (int s = 0; s < 8; s++) {
        int32_t four;
        memcpy(&four, x->q + 4 * s, 4);
        int8x8_t q = vreinterpret_s8_s32(vdup_n_s32(four));
        for (int v = 0; v < 4; v++) {
            int8x16_t w = vld1q_s8((const int8_t *)b + 32 + 64 * s + 16 * v);
            even[v] = vpadalq_s16(even[v], vmull_s8(vget_low_s8(w), q));
            odd[v] = vpadalq_s16(odd[v], vmull_s8(vget_high_s8(w), q));
        }
    }
    for (int v = 0; v < 4; v++) {
        float32x4_t scale = vmulq_n_f32(v_f16(b + 8 * v), x->d);
        acc.v[v] = vfmaq_f32(acc.v[v], vcvtq_f32_s32(vpaddq_s32(even[v], odd[v])), scale);
    }
    return acc;
}

static void matmul_q8_0(const kern_matrix *w, const kern_acts *x, int64_t n_rows, float *y,
                        int64_t ldy, int64_t begin, int64_t end) {
    uint8_t buffer[CHUNK_BLOCKS * PANEL * 34];
    panel_source source = panel_open(w);
    size_t x_stride = kern_act_bytes(KERN_ACT_Q8, w->n_in);
    for (int64_t o = begin; o < end; o += PANEL) {
        size_t n_bytes = (size_t)(end - o < PANEL ? end - o : PANEL) * sizeof(float);
        for (int64_t k = 0; k < w->n_in; k += CHUNK_K) {
            int64_t n = w->n_in - k < CHUNK_K ? w->n_in - k : CHUNK_K;
            const uint8_t *panel = panel_get(&source, o, k, n, buffer);
            for (int64_t r = 0; r < n_rows; r++) {
                const act_q8 *xk =
                    (const act_q8 *)((const uint8_t *)x->data + (size_t)r * x_stride) + k / 32;
                float copy[PANEL] = {0};
                if (k) memcpy(copy, y + r * ldy + o, n_bytes);
                panel_acc acc;
                for (int v = 0; v < 4; v++) acc.v[v] = vld1q_f32(copy + 4 * v);
                for (int64_t i = 0; i < n / 32; i++)
                    acc = block_q8_0(panel + (size_t)i * PANEL * 34, xk + i, acc);
                for (int v = 0; v < 4; v++) vst1q_f32(copy + 4 * v, acc.v[v]);
                memcpy(y + r * ldy + o, copy, n_bytes);
            }
        }
    }
}

static void matmul(const kern_matrix *w, const kern_acts *x, int64_t n_rows, float *y, int64_t ldy,
                   int64_t out_begin, int64_t out_end) {
    if (w->type == DTYPE_Q8_0 && x->type == KERN_ACT_Q8)
        matmul_q8_0(w, x, n_rows, y, ldy, out_begin, out_end);
    else
        kern_scalar.matmul(w, x, n_rows, y, ldy, out_begin, out_end);
}

const kern kern_neon = {
    .rung = KERN_NEON,
    .name = "neon",
    .pack_rows = PANEL,
    .matmul = matmul,
    ELEMENTWISE_TABLE,
    .attn_tile = attn_tile,
};
