/* Inside the kv room: the pool of blocks (pool.c), sequences (kv.c), names and
 * reuse (cache.c). Full and sliding layers are a group each: a block of a group is
 * the same slot number in every layer of that group, so one table serves them all.
 *
 * A slot is in one of three states: empty (on the free stack), held (n_refs > 0), or
 * idle (named, held by no sequence, in order of last use). Empty and idle slots
 * are what a sequence can be given.
 */
#ifndef KV_IMPL_H
#define KV_IMPL_H

#include "kv/chain.h"
#include "kv/disk.h"
#include "kv/kv.h"

enum { FULL, SLIDING, N_GROUPS };
enum { NONE = -1 };

typedef struct slot {
    int32_t n_refs; /* sequences that hold it */
    int32_t entry;  /* its name's, or NONE */
    int32_t older, newer;
    bool is_saved; /* written to disk, or going to be */
} slot;

typedef struct group {
    int n_layers;
    int64_t width; /* rows a row of the widest layer sees; 0 in the full group */
    int64_t n_blocks;
    int64_t seq_blocks;   /* most one sequence may hold */
    int64_t rerun_blocks; /* and how many more while it runs again */
    size_t layer_bytes;   /* n_blocks × slot_bytes */
    char *data;           /* [n_layers][n_blocks]{ [kv_head]{ K [KV_BLOCK][row], V the same } } */
    slot *slots;          /* [n_blocks] */
    int32_t *free;        /* stack of empty slots */
    int64_t n_free, n_idle;
    int32_t oldest, newest; /* of the idle */
} group;

/* A named block: what its rows were computed from, and where they are. */
typedef struct entry {
    kv_name parent, name;
    kv_window window; /* {0, 0}: no row of it depends on the window */
    int64_t block;
    int32_t slots[N_GROUPS];
    int32_t prev, next; /* in its bucket; next also links unused entries */
    int32_t n_ids;      /* KV_BLOCK, or fewer at the end of a sequence */
    int32_t ids[KV_BLOCK];
} entry;

/* A block that should be written, as long as it has this name. */
typedef struct pending {
    kv_name name;
    int32_t group, at;
} pending;
enum { KV_PENDING = 4096 };

struct kv {
    kv_shape shape; /* layer_width is our own copy */
    int64_t max_rows, max_chunk, rerun_rows;
    int64_t last_width; /* of the last sliding layer */
    size_t row_bytes, tile_bytes, slot_bytes;
    uint64_t data_bytes;
    char *data;
    int32_t *layer_index; /* [n_layers]: index within its group */
    group groups[N_GROUPS];
    kv_name key; /* of the chain */
    entry *entries;
    int32_t *buckets; /* [n_buckets] by parent's name: first entry */
    int64_t n_entries, n_buckets;
    int32_t unused; /* first unused entry */
    /* With a directory. */
    kv_disk *disk;    /* or NULL */
    pending *pending; /* ring of KV_PENDING: [pending_first, pending_end) */
    int64_t pending_first, pending_end;
    kv_seq *fetcher; /* whose blocks are being read, or NULL */
    int64_t n_reading;
    bool fetch_failed;
};

/* The pinned blocks first, then a ring for the rest: block b ≥ n_fixed lies at
 * n_fixed + (b − n_fixed) mod ring. */
typedef struct table {
    int64_t n_fixed;    /* pinned blocks, at most */
    int64_t first, end; /* window blocks held are [first, end), first ≥ n_fixed; the pinned ones
                           held are [0, min(n_fixed, end)) */
    int64_t ring;
    int32_t *slots; /* [n_fixed + ring] */
} table;

/* A place to go on from: rows < len are there, and the sequence starts at `start`, which is less when
 * sliding rows have to run again. */
typedef struct place {
    int64_t len, start;
    int32_t tail; /* the entry of a last block that is not whole, or NONE */
} place;

/* Bringing blocks back from disk: how far the asking is. */
typedef struct fetch {
    bool is_over;
    place place;
    int64_t next; /* block, and group of it */
    int group;
    kv_name name; /* of the blocks before it */
} fetch;

struct kv_seq {
    kv *pool;
    kv_window window;
    int64_t len, reserved; /* rows < reserved may be written */
    table tables[N_GROUPS];
    /* Reuse. */
    int64_t kept_until; /* full rows below are there already */
    int64_t slide_from; /* sliding rows below were never there … */
    int64_t slide_true; /* … and below this are not right in all layers */
    bool is_named, is_rerun_unshared;
    int64_t n_named; /* positions whose ids are in `name` and `tail` */
    kv_name name;    /* of the blocks before the one being filled */
    int32_t tail[KV_BLOCK];
    fetch fetch;
    int64_t marks[KV_MAX_MARKS];
    int n_marks;
};

static inline int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
static inline int64_t div_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}

/* ── pool.c ── */
char *kv_slot_tile(const kv *k, const group *g, int index, int32_t at, int head);
/* An empty slot, or the idle one used longest ago: held once now. There must be one. */
int32_t kv_take_slot(kv *k, int g);
void kv_hold_slot(kv *k, int g, int32_t at);
/* A slot that nobody holds any more is idle if it has a name: first or (recent) last to be taken. */
void kv_drop_slot(kv *k, int g, int32_t at, bool recent);
/* Copies the first n_rows rows of all heads and layers. */
void kv_copy_rows(kv *k, int g, int32_t from, int32_t to, int64_t n_rows);
void kv_poison(void *p, size_t n); /* NaN in every row format; nothing in release builds */
/* Rows n_rows … of a slot. */
void kv_poison_rows(kv *k, int g, int32_t at, int64_t n_rows);

/* ── cache.c ── */
void kv_forget(kv *k, int g, int32_t at); /* takes a slot's name away */
/* The child of parent that has most of these n ids in common; *n_common of them. */
int32_t kv_find_child(kv *k, kv_name parent, int64_t block, kv_window w, const int32_t *ids,
                      int64_t n, int *n_common);
int32_t kv_add_entry(kv *k, kv_name parent, int64_t block, kv_window w, const int32_t *ids, int n);
/* What a block's name depends on beside its ids: rows before p + W are the same in every window. */
kv_window kv_named_window(kv_window w, int64_t block);
kv_name kv_name_of(const kv *k, kv_name parent, kv_window w, const int32_t *ids);
/* The best place to go on from with what is in memory, or (with_disk) there and on disk. */
place kv_find_place(kv_seq *s, const int32_t *ids, int64_t limit, bool with_disk);

/* ── spill.c ── */
size_t kv_block_bytes(const kv *k, int g); /* of all its layers */
void kv_save_later(kv *k, int g, int32_t at);
void kv_close_disk(kv *k);

/* ── kv.c ── */
static inline int32_t *slot_of(const table *t, int64_t b) {
    return &t->slots[b < t->n_fixed ? b : t->n_fixed + (b - t->n_fixed) % t->ring];
}
static inline bool is_held(const table *t, int64_t b) {
    return t->slots && b >= 0 && b < t->end && (b < t->n_fixed || b >= t->first);
}
/* The oldest window position that row i of a group sees. */
static inline int64_t oldest_seen(const kv_seq *s, int g, int64_t i) {
    int64_t width = g == SLIDING ? s->pool->groups[g].width : s->window.width;
    return width > i ? 0 : i - width + 1;
}
bool kv_is_marked(const kv_seq *s, int64_t block);
/* cache.c: names the block being filled, as far as it is filled, when its sequence ends. */
void kv_name_tail(kv_seq *s);

#endif
