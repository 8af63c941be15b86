/* Owns the block pool and the sequences' block tables. Full and sliding layers
 * have a pool each: a block of a group is the same slot number in every layer
 * of that group, so one table serves all of them.
 *
 * Storage of a group: [layer][slot][kv_head]{ K [KV_BLOCK][row], V [KV_BLOCK][row] }.
 * A sequence's table holds the pinned blocks first, then a ring for the rest:
 * block b ≥ n_fixed lies at n_fixed + (b − n_fixed) mod ring.
 */
#include "kv/kv.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/os.h"

enum { FULL, SLIDING, N_GROUPS };
enum { PAGE = 4096, POISON = 0xFF /* NaN in every format a row may have */ };

typedef struct group {
    int n_layers;
    int64_t width; /* rows a row of the widest layer sees; 0 in the full group */
    int64_t n_blocks;
    int64_t seq_blocks; /* most one sequence may hold */
    size_t layer_bytes; /* n_blocks × slot_bytes */
    char *data;         /* [n_layers][n_blocks][slot_bytes] */
    int32_t *free;      /* stack of slots */
    int64_t n_free;
} group;

struct kv {
    kv_shape shape; /* layer_width is our own copy */
    int64_t max_rows, max_chunk;
    size_t row_bytes, tile_bytes, slot_bytes;
    uint64_t data_bytes;
    char *data;
    int32_t *layer_index; /* [n_layers]: index within its group */
    group groups[N_GROUPS];
};

typedef struct table {
    int64_t n_fixed;    /* pinned blocks, at most */
    int64_t first, end; /* window blocks held are [first, end), first ≥ n_fixed; the pinned ones
                           held are [0, min(n_fixed, end)) */
    int64_t ring;
    int32_t *slots; /* [n_fixed + ring] */
} table;

struct kv_seq {
    kv *pool;
    kv_window window;
    int64_t len, reserved; /* rows < reserved may be written */
    table tables[N_GROUPS];
};

static int64_t min64(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static int64_t max64(int64_t a, int64_t b) {
    return a > b ? a : b;
}
static int64_t div_up(int64_t a, int64_t b) {
    return (a + b - 1) / b;
}
/* Most blocks that n consecutive rows touch, wherever they begin. */
static int64_t blocks_touched(int64_t n) {
    return (n + KV_BLOCK - 2) / KV_BLOCK + 1;
}

/* ── The pool ── */

typedef struct layout {
    size_t row_bytes, slot_bytes;
    int n_layers[N_GROUPS];
    int64_t width, seq_blocks[N_GROUPS], n_blocks[N_GROUPS];
    uint64_t data_bytes, total_bytes;
} layout;

/* Says what a configuration needs; false when a number is out of range. */
static bool plan(const kv_config *c, layout *l, const char **why) {
    enum { MAX_HEADS = 1 << 16, MAX_DIM = 1 << 16, MAX_SEQS = 1 << 16 };
    const int64_t max_rows = (int64_t)1 << 40;
    const kv_shape *s = &c->shape;
    *l = (layout){0};
    *why = "its number of layers is out of range";
    if (s->n_layers < 1 || s->n_layers > KV_MAX_LAYERS) return false;
    *why = "its heads are out of range";
    if (s->n_kv_heads < 1 || s->n_kv_heads > MAX_HEADS || s->head_dim < 1 || s->head_dim > MAX_DIM)
        return false;
    *why = "Q8_0 rows need a head size that is a multiple of 32";
    if (s->type == KERN_KV_Q8_0 && s->head_dim % 32) return false;
    *why = "its number of sequences, rows or chunk size is out of range";
    if (c->n_seqs < 1 || c->n_seqs > MAX_SEQS || c->max_rows < KV_BLOCK || c->max_rows > max_rows ||
        c->max_chunk < 1 || c->max_chunk > max_rows)
        return false;
    for (int i = 0; i < s->n_layers; i++) {
        if (s->layer_width[i] < 0) return false;
        l->n_layers[s->layer_width[i] > 0 ? SLIDING : FULL]++;
        l->width = max64(l->width, s->layer_width[i]);
    }
    l->row_bytes = kern_kv_row_bytes(s->type, s->head_dim);
    *why = "its size does not fit in 64 bits";
    uint64_t slot, sum = 0, meta = sizeof(kv) + (uint64_t)s->n_layers * 2 * sizeof(int32_t);
    if (__builtin_mul_overflow((uint64_t)l->row_bytes * 2 * KV_BLOCK, (uint64_t)s->n_kv_heads,
                               &slot))
        return false;
    l->slot_bytes = slot;
    for (int g = 0; g < N_GROUPS; g++) {
        if (l->n_layers[g] == 0) continue;
        int64_t rows = g == FULL ? c->max_rows : l->width;
        l->seq_blocks[g] = blocks_touched(rows + c->max_chunk - 1);
        l->n_blocks[g] = l->seq_blocks[g] * c->n_seqs;
        if (l->n_blocks[g] > INT32_MAX) return false;
        uint64_t bytes;
        if (__builtin_mul_overflow(slot, (uint64_t)l->n_blocks[g], &bytes) ||
            __builtin_mul_overflow(bytes, (uint64_t)l->n_layers[g], &bytes) ||
            __builtin_add_overflow(sum, bytes, &sum))
            return false;
        meta += (uint64_t)l->n_blocks[g] * sizeof(int32_t);
    }
    if (sum > UINT64_MAX / 2) return false;
    l->data_bytes = (sum + PAGE - 1) / PAGE * PAGE;
    l->total_bytes = l->data_bytes + meta;
    return true;
}

uint64_t kv_plan_bytes(const kv_config *c) {
    layout l;
    const char *why;
    return plan(c, &l, &why) ? l.total_bytes : 0;
}

static void poison(void *p, size_t n) {
#ifdef ORIEL_DEBUG
    memset(p, POISON, n);
#else
    (void)p;
    (void)n;
#endif
}

kv *kv_new(const kv_config *c, error *err) {
    layout l;
    const char *why;
    if (!plan(c, &l, &why)) {
        error_set(err, ERR_INVALID_VALUE, NULL, "The key/value cache cannot be built: %s.", why);
        return NULL;
    }
    size_t n_layers = (size_t)c->shape.n_layers;
    int32_t *widths = calloc(n_layers, sizeof *widths), *index = calloc(n_layers, sizeof *index);
    kv *k = calloc(1, sizeof *k);
    if (!k || !widths || !index) {
        free(k);
        free(widths);
        free(index);
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the key/value cache's tables.");
        return NULL;
    }
    memcpy(widths, c->shape.layer_width, n_layers * sizeof *widths);
    *k = (kv){.shape = c->shape,
              .max_rows = c->max_rows,
              .max_chunk = c->max_chunk,
              .row_bytes = l.row_bytes,
              .tile_bytes = l.row_bytes * KV_BLOCK,
              .slot_bytes = l.slot_bytes,
              .data_bytes = l.data_bytes,
              .layer_index = index};
    k->shape.layer_width = widths;
    int seen[N_GROUPS] = {0};
    for (size_t i = 0; i < n_layers; i++) index[i] = seen[widths[i] > 0 ? SLIDING : FULL]++;
    k->data = os_map(l.data_bytes);
    char *at = k->data;
    bool ok = at != NULL;
    for (int i = 0; i < N_GROUPS && ok; i++) {
        group *g = &k->groups[i];
        *g = (group){.n_layers = l.n_layers[i],
                     .width = i == SLIDING ? l.width : 0,
                     .n_blocks = l.n_blocks[i],
                     .seq_blocks = l.seq_blocks[i],
                     .layer_bytes = (size_t)l.n_blocks[i] * l.slot_bytes,
                     .data = at};
        at += (size_t)g->n_layers * g->layer_bytes;
        if (g->n_blocks == 0) continue;
        g->free = malloc((size_t)g->n_blocks * sizeof *g->free);
        ok = g->free != NULL;
        for (int64_t b = 0; ok && b < g->n_blocks; b++)
            g->free[b] = (int32_t)(g->n_blocks - 1 - b); /* low slots go out first */
        g->n_free = g->n_blocks;
    }
    if (!ok) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for %llu bytes of key/value cache.",
                  (unsigned long long)l.total_bytes);
        kv_free(k);
        return NULL;
    }
    poison(k->data, l.data_bytes);
    return k;
}

void kv_free(kv *k) {
    if (!k) return;
    for (int g = 0; g < N_GROUPS; g++) free(k->groups[g].free);
    if (k->data) os_unmap(k->data, k->data_bytes);
    free((void *)k->shape.layer_width);
    free(k->layer_index);
    free(k);
}

bool kv_hold(kv *k, bool lock) {
    os_touch(k->data, k->data_bytes);
    return !lock || os_lock(k->data, k->data_bytes);
}

int64_t kv_n_free_blocks(const kv *k, bool sliding) {
    return k->groups[sliding ? SLIDING : FULL].n_free;
}
int64_t kv_n_blocks(const kv *k, bool sliding) {
    return k->groups[sliding ? SLIDING : FULL].n_blocks;
}

static char *tile_at(const kv *k, const group *g, int index, int32_t slot, int head) {
    return g->data + (size_t)index * g->layer_bytes + (size_t)slot * k->slot_bytes +
           (size_t)head * 2 * k->tile_bytes;
}

static void give_back(kv *k, group *g, int32_t slot) {
    for (int i = 0; i < g->n_layers; i++) poison(tile_at(k, g, i, slot, 0), k->slot_bytes);
    g->free[g->n_free++] = slot;
}

/* ── A sequence ── */

kv_seq *kv_seq_new(kv *k, kv_window w, error *err) {
    if (w.pinned < 0 || w.pinned % KV_BLOCK || w.width < KV_BLOCK) {
        error_set(
            err, ERR_INVALID_VALUE, NULL,
            "A window needs at least %d rows and pinned rows in multiples of %d; it has %lld and %lld.",
            KV_BLOCK, KV_BLOCK, (long long)w.width, (long long)w.pinned);
        return NULL;
    }
    if (w.pinned > k->max_rows || (w.width != KV_UNBOUNDED && w.width > k->max_rows - w.pinned)) {
        error_set(err, ERR_INVALID_VALUE, NULL,
                  "A window of %lld pinned and %lld further rows is larger than the planned %lld.",
                  (long long)w.pinned, (long long)w.width, (long long)k->max_rows);
        return NULL;
    }
    kv_seq *s = calloc(1, sizeof *s);
    bool ok = s != NULL;
    for (int g = 0; g < N_GROUPS && ok; g++) {
        table *t = &s->tables[g];
        int64_t n = k->groups[g].seq_blocks;
        t->n_fixed = g == FULL ? min64(w.pinned / KV_BLOCK, n) : 0;
        t->first = t->n_fixed;
        t->ring = n - t->n_fixed;
        if (n == 0) continue;
        t->slots = calloc((size_t)n, sizeof *t->slots);
        ok = t->slots != NULL;
    }
    if (!ok) {
        if (s)
            for (int g = 0; g < N_GROUPS; g++) free(s->tables[g].slots);
        free(s);
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for a sequence's block tables.");
        return NULL;
    }
    s->pool = k;
    s->window = w;
    return s;
}

static int32_t *slot_of(const table *t, int64_t b) {
    return &t->slots[b < t->n_fixed ? b : t->n_fixed + (b - t->n_fixed) % t->ring];
}
static bool is_held(const table *t, int64_t b) {
    return b >= 0 && b < t->end && (b < t->n_fixed || b >= t->first);
}
static int64_t n_held(const table *t, int64_t first, int64_t end) {
    return min64(t->n_fixed, end) + max64(0, end - first);
}

/* Gives back every held block of a table from block `from` on. */
static void drop_tail(kv *k, int g, table *t, int64_t from) {
    for (int64_t b = t->end - 1; b >= from; b--)
        if (is_held(t, b)) give_back(k, &k->groups[g], *slot_of(t, b));
    t->end = min64(t->end, from);
    if (t->first > t->end) t->first = max64(t->n_fixed, t->end);
}

void kv_seq_free(kv_seq *s) {
    if (!s) return;
    for (int g = 0; g < N_GROUPS; g++) {
        drop_tail(s->pool, g, &s->tables[g], 0);
        free(s->tables[g].slots);
    }
    free(s);
}

int64_t kv_seq_len(const kv_seq *s) {
    return s->len;
}
kv_window kv_seq_window(const kv_seq *s) {
    return s->window;
}

int64_t kv_seq_n_blocks(const kv_seq *s) {
    int64_t n = 0;
    for (int g = 0; g < N_GROUPS; g++)
        n += n_held(&s->tables[g], s->tables[g].first, s->tables[g].end);
    return n;
}

uint64_t kv_seq_held_bytes(const kv_seq *s) {
    uint64_t n = 0;
    for (int g = 0; g < N_GROUPS; g++)
        n += (uint64_t)n_held(&s->tables[g], s->tables[g].first, s->tables[g].end) *
             (uint64_t)s->pool->groups[g].n_layers * s->pool->slot_bytes;
    return n;
}

/* The oldest window position that row i of a group sees. */
static int64_t oldest_seen(const kv_seq *s, int g, int64_t i) {
    int64_t width = g == SLIDING ? s->pool->groups[g].width : s->window.width;
    return width > i ? 0 : i - width + 1;
}

bool kv_seq_reserve(kv_seq *s, int64_t n) {
    if (n < 0 || n > INT64_MAX / 2 - s->len) return false;
    kv *k = s->pool;
    int64_t first[N_GROUPS], end[N_GROUPS];
    for (int i = 0; i < N_GROUPS; i++) {
        const table *t = &s->tables[i];
        if (!t->slots) continue;
        first[i] = max64(t->first, oldest_seen(s, i, s->len) / KV_BLOCK);
        end[i] = max64(t->end, div_up(s->len + n, KV_BLOCK));
        int64_t held = n_held(t, t->first, t->end), then = n_held(t, first[i], end[i]);
        if (end[i] - first[i] > t->ring) return false;
        if (then - held > k->groups[i].n_free) return false;
    }
    for (int i = 0; i < N_GROUPS; i++) {
        table *t = &s->tables[i];
        if (!t->slots) continue;
        group *g = &k->groups[i];
        for (; t->first < first[i] && t->first < t->end; t->first++)
            give_back(k, g, *slot_of(t, t->first));
        t->first = first[i];
        for (; t->end < end[i]; t->end++)
            if (t->end < t->n_fixed || t->end >= t->first)
                *slot_of(t, t->end) = g->free[--g->n_free];
    }
    s->reserved = max64(s->reserved, s->len + n);
    return true;
}

void kv_seq_commit(kv_seq *s, int64_t n) {
    assert(n >= 0 && s->len + n <= s->reserved);
    s->len += n;
}

bool kv_seq_rewind(kv_seq *s, int64_t len) {
    if (len < 0 || len > s->len) return false;
    kv *k = s->pool;
    /* Row len − 1 must still be able to run again; an empty sequence needs nothing. */
    for (int g = 0; g < N_GROUPS && len > 0; g++) {
        const table *t = &s->tables[g];
        if (t->slots && max64(t->n_fixed, oldest_seen(s, g, len - 1) / KV_BLOCK) < t->first)
            return false;
    }
    for (int g = 0; g < N_GROUPS; g++) {
        table *t = &s->tables[g];
        if (!t->slots) continue;
        drop_tail(k, g, t, div_up(len, KV_BLOCK));
        if (len == 0) t->first = t->n_fixed;
#ifdef ORIEL_DEBUG
        int64_t last = len / KV_BLOCK, row = len % KV_BLOCK;
        if (row && is_held(t, last))
            for (int i = 0; i < k->groups[g].n_layers; i++)
                for (int h = 0; h < k->shape.n_kv_heads; h++) {
                    char *tile = tile_at(k, &k->groups[g], i, *slot_of(t, last), h);
                    size_t at = (size_t)row * k->row_bytes;
                    poison(tile + at, k->tile_bytes - at);
                    poison(tile + k->tile_bytes + at, k->tile_bytes - at);
                }
#endif
    }
    s->len = s->reserved = len;
    return true;
}

/* ── Reading ── */

int kv_visible(kv_window w, int64_t sliding_width, int64_t i, kv_range out[2]) {
    if (i < 0) return 0;
    int64_t width = sliding_width > 0 ? sliding_width : w.width;
    int64_t pinned = sliding_width > 0 ? 0 : w.pinned;
    int64_t begin = width > i ? 0 : i - width + 1;
    if (begin <= pinned) {
        out[0] = (kv_range){0, i + 1};
        return 1;
    }
    if (pinned == 0) {
        out[0] = (kv_range){begin, i + 1};
        return 1;
    }
    out[0] = (kv_range){0, pinned};
    out[1] = (kv_range){begin, i + 1};
    return 2;
}

int64_t kv_query_position(kv_window w, int64_t i) {
    if (w.width >= INT64_MAX - w.pinned) return i;
    return min64(i, w.pinned + w.width - 1);
}

kv_tile kv_get_tile(const kv_seq *s, int layer, int kv_head, int64_t block) {
    const kv *k = s->pool;
    int g = k->shape.layer_width[layer] > 0 ? SLIDING : FULL;
    const table *t = &s->tables[g];
    assert(is_held(t, block));
    char *p = tile_at(k, &k->groups[g], k->layer_index[layer], *slot_of(t, block), kv_head);
    return (kv_tile){p, p + k->tile_bytes, (int64_t)k->row_bytes};
}

dev_kv kv_get_rows(const kv_seq *s, int layer) {
    const kv *k = s->pool;
    int g = k->shape.layer_width[layer] > 0 ? SLIDING : FULL;
    const table *t = &s->tables[g];
    return (dev_kv){.type = k->shape.type,
                    .base = tile_at(k, &k->groups[g], k->layer_index[layer], 0, 0),
                    .slot_bytes = k->slot_bytes,
                    .tile_bytes = k->tile_bytes,
                    .row_bytes = (int64_t)k->row_bytes,
                    .slots = t->slots,
                    .n_fixed = t->n_fixed,
                    .ring = t->ring};
}
