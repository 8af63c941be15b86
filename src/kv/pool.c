/* Owns the memory of all blocks: how much there is, which slots are empty, held
 * or idle, and in which order idle ones go. */
#include <stdlib.h>
#include <string.h>

#include "base/os.h"
#include "kv/impl.h"

enum { PAGE = 4096, POISON = 0xFF /* NaN in every format a row may have */ };

/* ── The plan ── */

typedef struct layout {
    size_t row_bytes, slot_bytes;
    int n_layers[N_GROUPS];
    int64_t width, last_width, rerun_rows;
    int64_t seq_blocks[N_GROUPS], rerun_blocks[N_GROUPS], n_blocks[N_GROUPS];
    int64_t n_entries, n_buckets;
    uint64_t data_bytes, total_bytes;
} layout;

/* Most blocks that n consecutive rows touch, wherever they begin. */
static int64_t blocks_touched(int64_t n) {
    return (n + KV_BLOCK - 2) / KV_BLOCK + 1;
}

/* Blocks beyond what the sequences hold: one for a copy under way, what one re-run looks back to, and
 * the sliding rows before two marks of each sequence; and what was asked for. */
static int64_t cache_blocks(const kv_config *c, const layout *l, int g) {
    bool has_both = l->n_layers[FULL] && l->n_layers[SLIDING];
    int64_t n = 1 + min64(l->rerun_blocks[g], l->seq_blocks[g]);
    if (g == SLIDING && has_both)
        n += (2 * (int64_t)c->n_seqs + 2) * (blocks_touched(l->width) + 1);
    uint64_t bytes =
        has_both ? (g == FULL ? c->cache_bytes / 4 * 3 : c->cache_bytes / 4) : c->cache_bytes;
    uint64_t block = l->slot_bytes * (uint64_t)l->n_layers[g];
    uint64_t more = bytes / block;
    return n + (more > INT32_MAX ? INT32_MAX : (int64_t)more);
}

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
        int32_t width = s->layer_width[i];
        if (width < 0) return false;
        l->n_layers[width > 0 ? SLIDING : FULL]++;
        l->width = max64(l->width, width);
        if (width > 0) l->rerun_rows += (l->last_width = width) - 1;
    }
    if (!l->n_layers[FULL]) l->rerun_rows = 0; /* nothing would be kept */
    l->row_bytes = kern_kv_row_bytes(s->type, s->head_dim);
    *why = "its size does not fit in 64 bits";
    uint64_t one, sum = 0, meta = sizeof(kv) + (uint64_t)s->n_layers * 2 * sizeof(int32_t);
    if (__builtin_mul_overflow((uint64_t)l->row_bytes * 2 * KV_BLOCK, (uint64_t)s->n_kv_heads,
                               &one))
        return false;
    l->slot_bytes = one;
    if (l->rerun_rows > 0) l->rerun_blocks[FULL] = blocks_touched(l->rerun_rows);
    for (int g = 0; g < N_GROUPS; g++) {
        if (l->n_layers[g] == 0) continue;
        int64_t rows = g == FULL ? c->max_rows : l->width;
        l->seq_blocks[g] = blocks_touched(rows + c->max_chunk - 1);
        l->n_blocks[g] = l->seq_blocks[g] * c->n_seqs + cache_blocks(c, l, g);
        if (l->n_blocks[g] > INT32_MAX - l->n_entries) return false;
        uint64_t bytes;
        if (__builtin_mul_overflow(one, (uint64_t)l->n_blocks[g], &bytes) ||
            __builtin_mul_overflow(bytes, (uint64_t)l->n_layers[g], &bytes) ||
            __builtin_add_overflow(sum, bytes, &sum))
            return false;
        meta += (uint64_t)l->n_blocks[g] * (sizeof(int32_t) + sizeof(slot));
        l->n_entries += l->n_blocks[g];
    }
    if (sum > UINT64_MAX / 2) return false;
    for (l->n_buckets = 16; l->n_buckets < l->n_entries;) l->n_buckets *= 2;
    if (c->disk_bytes > 0)
        meta +=
            KV_PENDING * sizeof(pending) +
            kv_disk_plan(c->disk_bytes, (const size_t[]){l->slot_bytes * (size_t)l->n_layers[0],
                                                         l->slot_bytes * (size_t)l->n_layers[1]});
    meta += (uint64_t)l->n_entries * sizeof(entry) + (uint64_t)l->n_buckets * sizeof(int32_t);
    l->data_bytes = (sum + PAGE - 1) / PAGE * PAGE;
    l->total_bytes = l->data_bytes + meta;
    return true;
}

uint64_t kv_plan_bytes(const kv_config *c) {
    layout l;
    const char *why;
    return plan(c, &l, &why) ? l.total_bytes : 0;
}

bool kv_check_disk(const kv_config *c, error *err) {
    layout l;
    const char *why;
    return !c->disk_bytes || !plan(c, &l, &why) ||
           kv_disk_check(c->disk_bytes,
                         (const size_t[]){l.slot_bytes * (size_t)l.n_layers[0],
                                          l.slot_bytes * (size_t)l.n_layers[1]},
                         err);
}

/* ── Building ── */

static bool build_group(kv *k, const layout *l, int i, char *data) {
    group *g = &k->groups[i];
    *g = (group){.n_layers = l->n_layers[i],
                 .width = i == SLIDING ? l->width : 0,
                 .n_blocks = l->n_blocks[i],
                 .seq_blocks = l->seq_blocks[i],
                 .rerun_blocks = l->rerun_blocks[i],
                 .layer_bytes = (size_t)l->n_blocks[i] * l->slot_bytes,
                 .data = data,
                 .oldest = NONE,
                 .newest = NONE};
    if (g->n_blocks == 0) return true;
    g->free = malloc((size_t)g->n_blocks * sizeof *g->free);
    g->slots = malloc((size_t)g->n_blocks * sizeof *g->slots);
    if (!g->free || !g->slots) return false;
    for (int64_t b = 0; b < g->n_blocks; b++) {
        g->free[b] = (int32_t)(g->n_blocks - 1 - b); /* low slots go out first */
        g->slots[b] = (slot){.entry = NONE, .older = NONE, .newer = NONE};
    }
    g->n_free = g->n_blocks;
    return true;
}

static bool build(kv *k, const kv_config *c, const layout *l) {
    size_t n_layers = (size_t)c->shape.n_layers;
    int32_t *widths = calloc(n_layers, sizeof *widths);
    k->shape.layer_width = widths;
    k->layer_index = calloc(n_layers, sizeof *k->layer_index);
    if (!widths || !k->layer_index) return false;
    memcpy(widths, c->shape.layer_width, n_layers * sizeof *widths);
    int seen[N_GROUPS] = {0};
    for (size_t i = 0; i < n_layers; i++)
        k->layer_index[i] = seen[widths[i] > 0 ? SLIDING : FULL]++;
    k->data = os_map(l->data_bytes);
    if (!k->data) return false;
    char *at = k->data;
    for (int g = 0; g < N_GROUPS; g++) {
        if (!build_group(k, l, g, at)) return false;
        at += (size_t)l->n_layers[g] * k->groups[g].layer_bytes;
    }
    k->entries = malloc((size_t)l->n_entries * sizeof *k->entries);
    k->buckets = malloc((size_t)l->n_buckets * sizeof *k->buckets);
    if (!k->entries || !k->buckets) return false;
    for (int64_t i = 0; i < l->n_entries; i++)
        k->entries[i].next = i + 1 < l->n_entries ? (int32_t)i + 1 : NONE;
    for (int64_t i = 0; i < l->n_buckets; i++) k->buckets[i] = NONE;
    os_random(&k->key, sizeof k->key);
    return true;
}

kv *kv_new(const kv_config *c, error *err) {
    layout l;
    const char *why;
    if (!plan(c, &l, &why)) {
        error_set(err, ERR_INVALID_VALUE, NULL, "The key/value cache cannot be built: %s.", why);
        return NULL;
    }
    kv *k = calloc(1, sizeof *k);
    if (k) {
        *k = (kv){.shape = c->shape,
                  .max_rows = c->max_rows,
                  .max_chunk = c->max_chunk,
                  .rerun_rows = l.rerun_rows,
                  .last_width = l.last_width,
                  .row_bytes = l.row_bytes,
                  .tile_bytes = l.row_bytes * KV_BLOCK,
                  .slot_bytes = l.slot_bytes,
                  .data_bytes = l.data_bytes,
                  .n_entries = l.n_entries,
                  .n_buckets = l.n_buckets};
        if (build(k, c, &l)) {
            kv_poison(k->data, l.data_bytes);
            return k;
        }
    }
    error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for %llu bytes of key/value cache.",
              (unsigned long long)l.total_bytes);
    kv_free(k);
    return NULL;
}

void kv_free(kv *k) {
    if (!k) return;
    kv_close_disk(k);
    free(k->pending);
    for (int g = 0; g < N_GROUPS; g++) {
        free(k->groups[g].free);
        free(k->groups[g].slots);
    }
    if (k->data) os_unmap(k->data, k->data_bytes);
    free((void *)k->shape.layer_width);
    free(k->layer_index);
    free(k->entries);
    free(k->buckets);
    free(k);
}

void *kv_get_memory(kv *k, size_t *bytes) {
    *bytes = k->data_bytes;
    return k->data;
}

int64_t kv_n_free_blocks(const kv *k, bool sliding) {
    const group *g = &k->groups[sliding ? SLIDING : FULL];
    return g->n_free + g->n_idle;
}
int64_t kv_n_cached_blocks(const kv *k, bool sliding) {
    return k->groups[sliding ? SLIDING : FULL].n_idle;
}
int64_t kv_n_blocks(const kv *k, bool sliding) {
    return k->groups[sliding ? SLIDING : FULL].n_blocks;
}
int64_t kv_rerun_rows(const kv *k) {
    return k->rerun_rows;
}

/* ── Slots ── */

char *kv_slot_tile(const kv *k, const group *g, int index, int32_t at, int head) {
    return g->data + (size_t)index * g->layer_bytes + (size_t)at * k->slot_bytes +
           (size_t)head * 2 * k->tile_bytes;
}

void kv_poison(void *p, size_t n) {
#ifdef ORIEL_DEBUG
    memset(p, POISON, n);
#else
    (void)p;
    (void)n;
#endif
}

void kv_poison_rows(kv *k, int g, int32_t at, int64_t n_rows) {
#ifdef ORIEL_DEBUG
    size_t from = (size_t)n_rows * k->row_bytes;
    for (int i = 0; i < k->groups[g].n_layers; i++)
        for (int h = 0; h < k->shape.n_kv_heads; h++) {
            char *tile = kv_slot_tile(k, &k->groups[g], i, at, h);
            kv_poison(tile + from, k->tile_bytes - from);
            kv_poison(tile + k->tile_bytes + from, k->tile_bytes - from);
        }
#else
    (void)k, (void)g, (void)at, (void)n_rows;
#endif
}

void kv_copy_rows(kv *k, int g, int32_t from, int32_t to, int64_t n_rows) {
    size_t n = (size_t)n_rows * k->row_bytes;
    for (int i = 0; i < k->groups[g].n_layers; i++)
        for (int h = 0; h < k->shape.n_kv_heads; h++) {
            char *src = kv_slot_tile(k, &k->groups[g], i, from, h);
            char *dst = kv_slot_tile(k, &k->groups[g], i, to, h);
            memcpy(dst, src, n);
            memcpy(dst + k->tile_bytes, src + k->tile_bytes, n);
        }
}

static void leave_idle(group *g, int32_t at) {
    slot *s = &g->slots[at];
    *(s->older == NONE ? &g->oldest : &g->slots[s->older].newer) = s->newer;
    *(s->newer == NONE ? &g->newest : &g->slots[s->newer].older) = s->older;
    s->older = s->newer = NONE;
    g->n_idle--;
}

static void enter_idle(group *g, int32_t at, bool recent) {
    slot *s = &g->slots[at];
    s->older = recent ? g->newest : NONE;
    s->newer = recent ? NONE : g->oldest;
    *(s->older == NONE ? &g->oldest : &g->slots[s->older].newer) = at;
    *(s->newer == NONE ? &g->newest : &g->slots[s->newer].older) = at;
    g->n_idle++;
}

int32_t kv_take_slot(kv *k, int gi) {
    group *g = &k->groups[gi];
    int32_t at;
    if (g->n_free > 0) {
        at = g->free[--g->n_free];
    } else {
        at = g->oldest;
        leave_idle(g, at);
        kv_forget(k, gi, at);
        kv_poison_rows(k, gi, at, 0);
    }
    g->slots[at].n_refs = 1;
    return at;
}

void kv_hold_slot(kv *k, int gi, int32_t at) {
    group *g = &k->groups[gi];
    if (g->slots[at].n_refs++ == 0) leave_idle(g, at);
}

void kv_drop_slot(kv *k, int gi, int32_t at, bool recent) {
    group *g = &k->groups[gi];
    if (--g->slots[at].n_refs > 0) return;
    if (g->slots[at].entry != NONE) {
        enter_idle(g, at, recent);
        if (gi == SLIDING && recent) kv_save_later(k, gi, at); /* others come and go */
        return;
    }
    kv_poison_rows(k, gi, at, 0);
    g->free[g->n_free++] = at;
}
