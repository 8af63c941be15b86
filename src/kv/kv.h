/* Windowed key/value rows. A position is for ever, a slot is rented: positions
 * are int64 and count a sequence's tokens since 0; slots are blocks of
 * KV_BLOCK rows from a fixed budget. Block b of a sequence holds positions
 * b·KV_BLOCK … b·KV_BLOCK+KV_BLOCK−1 and nothing is ever moved or rewritten.
 *
 * Layers fall into two groups, each with its own block table per sequence:
 * full layers, and sliding layers, which keep only what their width can see.
 *
 * Visibility is a pure function of position (kv_visible), never of chunk size
 * or timing: with p pinned rows and window W, row i of a full layer sees every
 * j < p and every j with i − W < j ≤ i; a sliding layer sees i − width < j ≤ i.
 * A block leaves when no row from the sequence's length on can see it.
 *
 * Queries of full layers are rotated twice instead of ever rewriting keys: at i
 * for the window, at min(i, p + W − 1) for the pinned rows (kv_query_position).
 *
 * Threads: one owner (the engine thread). During a forward pass compute threads
 * read rows and write rows of their own positions; nothing else changes then.
 * Debug builds poison freed blocks with NaN.
 */
#ifndef KV_KV_H
#define KV_KV_H

#include "base/error.h"
#include "dev/dev.h" /* and with it kern's row formats */

enum {
    KV_BLOCK = DEV_KV_BLOCK, /* rows (positions) per block */
    KV_MAX_LAYERS = 512,
};

typedef struct kv kv;         /* the pool of blocks */
typedef struct kv_seq kv_seq; /* one sequence's block tables */

typedef struct kv_shape {
    int n_layers;
    int n_kv_heads, head_dim;
    const int32_t *layer_width; /* [n_layers]: 0 = full, else the sliding width in rows */
    kern_kv_type type;
} kv_shape;

#define KV_UNBOUNDED INT64_MAX

typedef struct kv_window {
    int64_t pinned; /* p: rows, a multiple of KV_BLOCK */
    int64_t width;  /* W: rows, ≥ KV_BLOCK, or KV_UNBOUNDED */
} kv_window;

typedef struct kv_config {
    kv_shape shape;
    int n_seqs;        /* sequences that can be at their full window at once */
    int64_t max_rows;  /* most rows of a full layer one sequence may hold: p + W */
    int64_t max_chunk; /* most rows appended at once */
} kv_config;

/* Bytes kv_new will allocate for this configuration, exactly; 0 on overflow. */
uint64_t kv_plan_bytes(const kv_config *c);
kv *kv_new(const kv_config *c, error *err);
void kv_free(kv *k);
/* Takes every block's pages from the system now; with `lock` they stay. False: errno says why. */
bool kv_hold(kv *k, bool lock);
int64_t kv_n_free_blocks(const kv *k, bool sliding);
int64_t kv_n_blocks(const kv *k, bool sliding);

/* NULL with a sentence when the window is nonsensical (W < KV_BLOCK, p not a multiple, p + W above
 * the plan). Holds no block yet. */
kv_seq *kv_seq_new(kv *k, kv_window window, error *err);
void kv_seq_free(kv_seq *s);         /* gives every block back */
int64_t kv_seq_len(const kv_seq *s); /* positions committed */
kv_window kv_seq_window(const kv_seq *s);
/* Makes rows [len, len+n) writable, first releasing blocks that no row ≥ len can see. False when
 * blocks ran out; nothing changed then. */
bool kv_seq_reserve(kv_seq *s, int64_t n);
/* The reserved rows are now part of the sequence. */
void kv_seq_commit(kv_seq *s, int64_t n);
/* Forgets positions ≥ len. False (and unchanged) when rows that row len−1 or later would see have
 * left already; then start over. */
bool kv_seq_rewind(kv_seq *s, int64_t len);
int64_t kv_seq_n_blocks(const kv_seq *s);    /* held, both groups */
uint64_t kv_seq_held_bytes(const kv_seq *s); /* of those blocks, in all layers */

typedef dev_range kv_range; /* positions, half-open */
/* What row i of a layer sees, ascending: 0, 1 or 2 disjoint ranges. sliding_width 0 = full layer. */
int kv_visible(kv_window w, int64_t sliding_width, int64_t i, kv_range out[2]);
/* The position at which row i's query is rotated when it looks at pinned rows. */
int64_t kv_query_position(kv_window w, int64_t i);

/* The rows of one block of one KV head in one layer: [KV_BLOCK] rows, *stride bytes apart. The
 * position must be held (reserved or committed and not evicted). */
typedef struct kv_tile {
    void *k, *v;
    int64_t stride; /* bytes between rows, same for k and v */
} kv_tile;
kv_tile kv_get_tile(const kv_seq *s, int layer, int kv_head, int64_t block);
/* The same rows as the device's ops take them. Valid until the sequence reserves or rewinds. */
dev_kv kv_get_rows(const kv_seq *s, int layer);

#endif
