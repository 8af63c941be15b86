/* Where the SIMD rungs get their panels from, whatever the layout: packed matrices hand out pointers,
 * file rows are packed into a small buffer first (so that both layouts run the same arithmetic), and any
 * other format is dequantised into a float panel.
 */
#ifndef KERN_PANEL_H
#define KERN_PANEL_H

#include <string.h>

#include "kern/pack.h"

enum {
    CHUNK_K = 512, /* k elements worked on at a time: a chunk of two panels stays in L1 */
    CHUNK_BLOCKS = CHUNK_K / 32, /* in 32-blocks */
    MAX_FILE_BLOCK = 512,
};

typedef struct panel_source {
    const kern_matrix *w;
    int64_t block_len, block_bytes;
    size_t row_bytes;
} panel_source;

static inline panel_source panel_open(const kern_matrix *w) {
    const dtype_info *info = dtype_get(w->type);
    panel_source s = {w, info->block_len, info->block_bytes, 0};
    s.row_bytes = (size_t)(w->n_in / s.block_len * s.block_bytes);
    return s;
}

static inline int panel_rows(const panel_source *s, int64_t o) {
    return s->w->n_out - o < PANEL ? (int)(s->w->n_out - o) : PANEL;
}

/* The packed form of elements [k, k + n) of the panel of outputs [o, o + 16); `buffer` is used for file
 * rows. */
static inline const uint8_t *panel_get(const panel_source *s, int64_t o, int64_t k, int64_t n,
                                       uint8_t *buffer) {
    const uint8_t *data = s->w->data;
    if (s->w->layout == KERN_PACKED)
        return data + (size_t)o * s->row_bytes +
               (size_t)(k / s->block_len * s->block_bytes) * PANEL;
    const uint8_t *rows = data + (size_t)o * s->row_bytes;
    /* Sixteen rows are more streams than a processor follows: ask for what comes after this chunk. */
    bool last = k + n >= s->w->n_in;
    const uint8_t *next = last ? rows + PANEL * s->row_bytes
                               : rows + (size_t)((k + n) / s->block_len * s->block_bytes);
    for (int r = 0; r < PANEL; r++, next += s->row_bytes)
        for (int64_t i = 0; i < n / s->block_len * s->block_bytes; i += 64)
            __builtin_prefetch(next + i);
    pack_panel(s->w->type, rows, s->row_bytes, panel_rows(s, o), k / s->block_len, n / s->block_len,
               buffer);
    return buffer;
}

/* The same elements as floats, [n][stride], 16 of each row used: any format, either layout. Not fast. */
static inline void panel_dequantize(const panel_source *s, int64_t o, int64_t k, int64_t n,
                                    float *out, int64_t stride) {
    uint8_t block[MAX_FILE_BLOCK];
    float row[256];
    const uint8_t *data = (const uint8_t *)s->w->data + (size_t)o * s->row_bytes;
    int n_rows = panel_rows(s, o);
    for (int r = 0; r < PANEL; r++) {
        for (int64_t i = 0; i < n; i += s->block_len) {
            const uint8_t *b = block;
            if (r >= n_rows)
                memset(row, 0, (size_t)s->block_len * sizeof *row);
            else {
                if (s->w->layout == KERN_ROWS)
                    b = data + (size_t)r * s->row_bytes +
                        (size_t)((k + i) / s->block_len * s->block_bytes);
                else
                    unpack_block(s->w->type, data, r, (k + i) / s->block_len, block);
                kern_dequantize(s->w->type, s->block_len, b, row);
            }
            for (int64_t j = 0; j < s->block_len; j++) out[(i + j) * stride + r] = row[j];
        }
    }
}

#endif
