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
 * Blocks are counted references. A whole block whose ids are known has a name, the
 * chain hash of all ids since position 0 (and of p and W for blocks with rows ≥
 * p + W; earlier rows do not depend on them). What sequences let go of stays
 * findable by that name until the pool needs the block: the cache is the blocks
 * that no sequence holds, least recently used first out, and never makes a
 * sequence fail. A block that others can see is not written: a sequence that goes
 * on in the middle of one copies it first.
 *
 * Reuse is exact: a row depends on ids and positions alone, never on how it came
 * to be, so a sequence that adopts blocks says the same bytes as one that ran all.
 * Full and sliding rows of a block are separate references: where the full rows of
 * a prefix are there and the sliding ones are not, the sliding ones are run again
 * from Σ (width − 1) positions earlier, over all sliding layers: the k-th of them
 * has true inputs from k steps of width − 1 on, so the last is right where the new
 * rows begin to look. Full rows are kept and not written meanwhile.
 *
 * Threads: one owner (the engine thread); kv_seq_new, and kv_seq_free of a sequence
 * that never held a block, may be called on any thread. During a forward pass compute
 * threads read rows and write rows of their own positions; nothing else changes then.
 * Debug builds poison freed blocks with NaN, and stop when two blocks of one name
 * hold different bytes.
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
    int n_seqs;           /* sequences that can be at their full window at once */
    int64_t max_rows;     /* most rows of a full layer one sequence may hold: p + W */
    int64_t max_chunk;    /* most rows appended at once */
    uint64_t cache_bytes; /* blocks beyond what the sequences may hold, for the cache; on top of the
                             few that a re-run and snapshots of sliding layers want */
    uint64_t disk_bytes;  /* budget of the directory that kv_open_disk will be given; 0 = none */
} kv_config;

/* Bytes kv_new will allocate for this configuration, exactly; 0 on overflow. */
uint64_t kv_plan_bytes(const kv_config *c);
/* Of a configuration that can be built: is its disk_bytes enough for a block? False: a sentence. */
bool kv_check_disk(const kv_config *c, error *err);
kv *kv_new(const kv_config *c, error *err);
void kv_free(kv *k);
/* The memory of all rows, so that whoever planned it can take its pages at once. Never read there. */
void *kv_get_memory(kv *k, size_t *bytes);
int64_t kv_n_free_blocks(const kv *k, bool sliding);   /* held by no sequence: empty or cached */
int64_t kv_n_cached_blocks(const kv *k, bool sliding); /* of those, findable by name */
int64_t kv_n_blocks(const kv *k, bool sliding);
/* Most positions a re-run goes back: Σ (width − 1) over the sliding layers. */
int64_t kv_rerun_rows(const kv *k);

/* NULL with a sentence when the window is nonsensical (W < KV_BLOCK, p not a multiple, p + W above
 * the plan). Holds no block yet. */
kv_seq *kv_seq_new(kv *k, kv_window window, error *err);
void kv_seq_free(kv_seq *s);         /* lets every block go; named ones stay findable */
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

/* ── Reuse ── */
typedef struct kv_reuse {
    int64_t n_kept;  /* positions that need not run: the sequence's length is this now */
    int64_t n_rerun; /* positions from there on that run again for the sliding layers alone */
} kv_reuse;
/* Makes an empty sequence begin with the longest part of ids that is worth reusing, of at most
 * `limit` < n positions; the sequence is left empty where there is none. Holds no lock, allocates
 * nothing; walks the ids once or twice. */
kv_reuse kv_seq_adopt(kv_seq *s, const int32_t *ids, int64_t limit);
/* At how many positions such a sequence would start, as things are now. */
int64_t kv_seq_find(kv_seq *s, const int32_t *ids, int64_t limit);
/* The ids of the n rows committed last. Blocks that are whole now get their name and can be found;
 * where the same block is there already the sequence holds that one from now on. Without these calls,
 * or after a rewind out of the block that is being filled, a sequence is simply not shared. */
void kv_seq_share(kv_seq *s, const int32_t *ids, int64_t n);
/* Where another sequence is likely to part from this one (before an answer, after a system prompt):
 * the sliding rows that one going on at pos would see are kept longer than others. At most
 * KV_MAX_MARKS are remembered. */
enum { KV_MAX_MARKS = 4 };
void kv_seq_mark(kv_seq *s, int64_t pos);
bool kv_seq_is_rerunning(const kv_seq *s);

/* ── On disk ── */
typedef struct kv_disk_config {
    const char *dir;    /* made if it is not there; 0700 */
    uint64_t max_bytes; /* least recently used files go */
    uint64_t made_by; /* stands for the model's weights and the arithmetic: rows of another are not
                           taken. Shape and row format are added */
    void (*notify)(void *ctx); /* any thread: kv_run_disk has something to do. May be NULL */
    void *notify_ctx;
} kv_disk_config;
/* Named blocks are written there from now on and found there. Before any sequence; closed with the
 * pool, which then waits for what is to be written, a few seconds at most. */
bool kv_open_disk(kv *k, const kv_disk_config *c, error *err);
/* Moves blocks to the writing thread and from the reading one, as many as there are buffers. Does not
 * wait. */
void kv_run_disk(kv *k);
/* Before kv_seq_adopt, for the same ids: asks for the blocks on disk that are worth reading. True: they
 * are on their way, call again (after kv_run_disk); others may run meanwhile. One sequence at a time
 * is served. */
bool kv_seq_fetch(kv_seq *s, const int32_t *ids, int64_t limit);

typedef dev_range kv_range; /* positions, half-open */
/* What row i of a layer sees, ascending: 0, 1 or 2 disjoint ranges. sliding_width 0 = full layer. */
int kv_visible(kv_window w, int64_t sliding_width, int64_t i, kv_range out[2]);
/* The same of a sequence's layer; during a re-run without the sliding rows that are not there: what
 * such a row computes is used by nobody. */
int kv_seq_visible(const kv_seq *s, int layer, int64_t i, kv_range out[2]);
/* Row i of this layer is there already and must not be written: a full layer during a re-run. */
bool kv_seq_has_row(const kv_seq *s, int layer, int64_t i);
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
