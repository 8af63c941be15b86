/* Names of blocks, and what sequences do with them: adopt what is there, share
 * what they have run. A table from the parent's name to its children; which rows
 * of a child are the same is decided by comparing ids.
 */
#include <assert.h>

#include "base/log.h"
#include "kv/impl.h"

/* ── The table ── */

static int32_t *bucket_of(kv *k, kv_name parent) {
    return &k->buckets[parent.a & (uint64_t)(k->n_buckets - 1)];
}

kv_window kv_named_window(kv_window w, int64_t block) {
    bool sees_all = w.width == KV_UNBOUNDED || (block + 1) * KV_BLOCK <= w.pinned + w.width;
    return sees_all ? (kv_window){0, 0} : w;
}

kv_name kv_name_of(const kv *k, kv_name parent, kv_window w, const int32_t *ids) {
    struct {
        kv_name parent;
        kv_window window;
        int32_t ids[KV_BLOCK];
    } all = {parent, w, {0}};
    memcpy(all.ids, ids, sizeof all.ids);
    return chain_hash(k->key, &all, sizeof all);
}

static int count_common(const int32_t *a, const int32_t *b, int64_t n) {
    int i = 0;
    while (i < n && a[i] == b[i]) i++;
    return i;
}

int32_t kv_find_child(kv *k, kv_name parent, int64_t block, kv_window w, const int32_t *ids,
                      int64_t n, int *n_common) {
    int32_t best = NONE;
    *n_common = 0;
    for (int32_t i = *bucket_of(k, parent); i != NONE; i = k->entries[i].next) {
        const entry *e = &k->entries[i];
        if (e->block != block || !kv_name_equal(e->parent, parent)) continue;
        if (e->window.pinned != w.pinned || e->window.width != w.width) continue;
        int same = count_common(e->ids, ids, min64(n, e->n_ids));
        if (same > *n_common || (same > 0 && same == *n_common && e->n_ids == KV_BLOCK)) {
            *n_common = same;
            best = i;
        }
    }
    return best;
}

int32_t kv_add_entry(kv *k, kv_name parent, int64_t block, kv_window w, const int32_t *ids, int n) {
    int32_t at = k->unused, *head = bucket_of(k, parent);
    entry *e = &k->entries[at]; /* there are as many as slots, and each has at least one */
    k->unused = e->next;
    *e = (entry){.parent = parent,
                 .window = w,
                 .block = block,
                 .slots = {NONE, NONE},
                 .prev = NONE,
                 .next = *head,
                 .n_ids = n};
    memcpy(e->ids, ids, (size_t)n * sizeof *ids);
    if (n == KV_BLOCK) e->name = kv_name_of(k, parent, w, ids);
    if (*head != NONE) k->entries[*head].prev = at;
    *head = at;
    return at;
}

void kv_forget(kv *k, int g, int32_t at) {
    slot *s = &k->groups[g].slots[at];
    entry *e = &k->entries[s->entry];
    int32_t index = s->entry;
    s->entry = NONE;
    s->is_saved = false;
    e->slots[g] = NONE;
    if (e->slots[FULL] != NONE || e->slots[SLIDING] != NONE) return;
    *(e->prev == NONE ? bucket_of(k, e->parent) : &k->entries[e->prev].next) = e->next;
    if (e->next != NONE) k->entries[e->next].prev = e->prev;
    e->next = k->unused;
    k->unused = index;
}

/* ── Sharing ── */

static void expect_same_rows(kv *k, int g, int32_t a, int32_t b) {
#ifdef ORIEL_DEBUG
    const group *gr = &k->groups[g];
    for (int i = 0; i < gr->n_layers; i++)
        if (memcmp(kv_slot_tile(k, gr, i, a, 0), kv_slot_tile(k, gr, i, b, 0), k->slot_bytes)) {
            log_line(LOG_ERROR, "kv", "two blocks of one name differ in layer %d of group %d", i,
                     g);
            __builtin_trap();
        }
#else
    (void)k, (void)g, (void)a, (void)b;
#endif
}

/* Block b of a sequence is that of entry e: whichever of the two has rows gives them to the other. */
static void unite(kv_seq *s, int g, int64_t b, int32_t e) {
    kv *k = s->pool;
    if (!is_held(&s->tables[g], b)) return;
    if (g == SLIDING && b * KV_BLOCK < s->slide_true) return;
    int32_t *mine = slot_of(&s->tables[g], b), *theirs = &k->entries[e].slots[g];
    slot *at = &k->groups[g].slots[*mine];
    if (*mine == *theirs || at->entry != NONE) return;
    if (*theirs == NONE) {
        *theirs = *mine;
        at->entry = e;
        if (g == FULL) kv_save_later(k, g, *mine);
        return;
    }
    expect_same_rows(k, g, *mine, *theirs);
    kv_hold_slot(k, g, *theirs);
    kv_drop_slot(k, g, *mine, true);
    *mine = *theirs;
}

static void name_block(kv_seq *s, int64_t b) {
    kv *k = s->pool;
    kv_window w = kv_named_window(s->window, b);
    bool is_here = is_held(&s->tables[FULL], b) ||
                   (is_held(&s->tables[SLIDING], b) && b * KV_BLOCK >= s->slide_true);
    int same;
    int32_t e = kv_find_child(k, s->name, b, w, s->tail, KV_BLOCK, &same);
    if ((e == NONE || same < KV_BLOCK) && is_here)
        e = kv_add_entry(k, s->name, b, w, s->tail, KV_BLOCK);
    else if (same < KV_BLOCK)
        e = NONE;
    for (int g = 0; g < N_GROUPS && e != NONE; g++) unite(s, g, b, e);
    s->name = kv_name_of(k, s->name, w, s->tail);
}

/* After a re-run: the sliding rows that are right in all layers go to the blocks they belong to. */
static void share_rerun(kv_seq *s) {
    for (int64_t b = div_up(s->slide_true, KV_BLOCK); (b + 1) * KV_BLOCK <= s->kept_until; b++) {
        if (!is_held(&s->tables[FULL], b)) continue;
        int32_t e = s->pool->groups[FULL].slots[*slot_of(&s->tables[FULL], b)].entry;
        if (e != NONE && s->pool->entries[e].n_ids == KV_BLOCK) unite(s, SLIDING, b, e);
    }
    s->is_rerun_unshared = false;
}

void kv_seq_share(kv_seq *s, const int32_t *ids, int64_t n) {
    int64_t from = s->len - n;
    if (from > s->n_named) s->is_named = false;
    if (s->is_rerun_unshared && s->len >= s->kept_until) share_rerun(s);
    if (!s->is_named) return;
    for (int64_t i = s->n_named - from; i < n; i++) {
        s->tail[s->n_named++ % KV_BLOCK] = ids[i];
        if (s->n_named % KV_BLOCK == 0) name_block(s, s->n_named / KV_BLOCK - 1);
    }
}

void kv_name_tail(kv_seq *s) {
    kv *k = s->pool;
    int64_t b = s->n_named / KV_BLOCK;
    int n = (int)(s->n_named % KV_BLOCK), same;
    if (!s->is_named || n == 0 || s->len != s->n_named) return;
    if (s->is_rerun_unshared) return;
    kv_window w = kv_named_window(s->window, b);
    kv_find_child(k, s->name, b, w, s->tail, n, &same);
    if (same == n) return;
    bool is_mine[N_GROUPS];
    for (int g = 0; g < N_GROUPS; g++)
        is_mine[g] = is_held(&s->tables[g], b) &&
                     k->groups[g].slots[*slot_of(&s->tables[g], b)].entry == NONE &&
                     (g == FULL || b * KV_BLOCK >= s->slide_true);
    if (!is_mine[FULL] && !is_mine[SLIDING]) return;
    int32_t e = kv_add_entry(k, s->name, b, w, s->tail, n);
    for (int g = 0; g < N_GROUPS; g++)
        if (is_mine[g]) unite(s, g, b, e);
}

/* ── Adopting ── */

/* What a walk along the ids has seen: how far back each group's blocks reach without a gap. */
typedef struct walk {
    const kv_seq *s;
    int64_t run[N_GROUPS]; /* first block of the run that ends here */
    bool has_pinned;       /* all pinned blocks so far */
    bool with_disk;
    place best;
} walk;

static bool has_rows(const walk *w, int g, int64_t i) {
    const kv_seq *s = w->s;
    if (!s->tables[g].slots) return true;
    int64_t seen = oldest_seen(s, g, i);
    if (g == FULL && seen <= s->window.pinned) return w->run[g] == 0;
    return w->has_pinned && w->run[g] <= seen / KV_BLOCK;
}

/* Is it worth going on with position len? */
static void consider(walk *w, int64_t len, int32_t tail) {
    const kv_seq *s = w->s;
    const group *g = &s->pool->groups[FULL];
    int64_t again = s->pool->rerun_rows, start = len;
    if (!has_rows(w, FULL, len)) return;
    if (s->window.width == KV_UNBOUNDED && g->n_layers && div_up(len, KV_BLOCK) > g->seq_blocks)
        return;
    if (!has_rows(w, SLIDING, len)) {
        start = len - again;
        if (again == 0 || start <= 0 || !has_rows(w, FULL, start)) return;
    }
    if (start > w->best.start) w->best = (place){len, start, tail};
}

/* Goes past block b: e in memory (or NULL); by its name (or NULL) it may be on disk. */
static void step(walk *w, int64_t b, const entry *e, const kv_name *name) {
    kv_disk *d = name && w->with_disk ? w->s->pool->disk : NULL;
    for (int g = 0; g < N_GROUPS; g++) {
        if ((e && e->slots[g] != NONE) || !w->s->tables[g].slots) continue;
        if (d && kv_disk_has(d, *name, g)) continue;
        w->run[g] = b + 1;
        if (g == FULL && b < w->s->window.pinned / KV_BLOCK) w->has_pinned = false;
    }
}

/* Beyond a gap at block b, can any row up to limit still be run? */
static bool is_hopeless(const walk *w, int64_t b, int64_t limit) {
    if (!w->s->tables[FULL].slots) return false;
    if (!w->has_pinned) return true;
    return w->run[FULL] == b + 1 && oldest_seen(w->s, FULL, limit) < (b + 1) * KV_BLOCK;
}

place kv_find_place(kv_seq *s, const int32_t *ids, int64_t limit, bool with_disk) {
    kv *k = s->pool;
    walk w = {.s = s, .has_pinned = true, .with_disk = with_disk, .best = {0, 0, NONE}};
    kv_name name = {0, 0};
    for (int64_t b = 0; b * KV_BLOCK < limit; b++) {
        int64_t left = min64(KV_BLOCK, limit - b * KV_BLOCK);
        const int32_t *at = ids + b * KV_BLOCK;
        kv_window nw = kv_named_window(s->window, b);
        int same;
        int32_t e = kv_find_child(k, name, b, nw, at, left, &same);
        bool is_whole = same == KV_BLOCK;
        if (same > 0 && !is_whole) {
            walk part = w;
            step(&part, b, &k->entries[e], NULL);
            consider(&part, b * KV_BLOCK + same, e);
            w.best = part.best;
        }
        if (left < KV_BLOCK) break;
        name = is_whole ? k->entries[e].name : kv_name_of(k, name, nw, at);
        step(&w, b, is_whole ? &k->entries[e] : NULL, &name);
        if (is_whole || with_disk) consider(&w, (b + 1) * KV_BLOCK, NONE);
        if (is_hopeless(&w, b, limit)) break;
    }
    return w.best;
}

static void hold(kv_seq *s, int g, int64_t b, const entry *e) {
    kv_hold_slot(s->pool, g, e->slots[g]);
    *slot_of(&s->tables[g], b) = e->slots[g];
}

/* Takes the blocks that a sequence going on at p.start needs and sets its tables. */
static void take_place(kv_seq *s, const int32_t *ids, place p) {
    kv *k = s->pool;
    bool runs_again = p.start < p.len;
    int64_t end = div_up(p.len, KV_BLOCK);
    table *full = &s->tables[FULL], *slide = &s->tables[SLIDING];
    if (full->slots) {
        full->first = max64(full->n_fixed, oldest_seen(s, FULL, p.start) / KV_BLOCK);
        full->end = end;
    }
    if (slide->slots) {
        slide->first = runs_again ? p.start / KV_BLOCK : oldest_seen(s, SLIDING, p.len) / KV_BLOCK;
        slide->end = runs_again ? slide->first : end;
    }
    kv_name name = {0, 0};
    for (int64_t b = 0; b < end; b++) {
        const int32_t *at = ids + b * KV_BLOCK;
        kv_window nw = kv_named_window(s->window, b);
        bool is_whole = (b + 1) * KV_BLOCK <= p.len;
        int32_t e = p.tail;
        int same;
        if (is_whole && (is_held(full, b) || is_held(slide, b)))
            e = kv_find_child(k, name, b, nw, at, KV_BLOCK, &same);
        if (is_held(full, b)) hold(s, FULL, b, &k->entries[e]);
        if (is_held(slide, b)) hold(s, SLIDING, b, &k->entries[e]);
        if (is_whole) name = kv_name_of(k, name, nw, at);
    }
    s->name = name;
    s->n_named = p.len;
    memcpy(s->tail, ids + p.len / KV_BLOCK * KV_BLOCK,
           (size_t)(p.len % KV_BLOCK) * sizeof *s->tail);
    s->len = s->reserved = p.start;
    s->kept_until = s->slide_from = s->slide_true = 0;
    s->is_rerun_unshared = runs_again;
    if (!runs_again) return;
    s->kept_until = p.len;
    s->slide_from = p.start;
    s->slide_true = p.len - (k->last_width - 1);
}

kv_reuse kv_seq_adopt(kv_seq *s, const int32_t *ids, int64_t limit) {
    assert(s->len == 0 && kv_seq_n_blocks(s) == 0);
    place p = kv_find_place(s, ids, limit, false);
    if (p.start == 0) return (kv_reuse){0, 0};
    take_place(s, ids, p);
    return (kv_reuse){p.start, p.len - p.start};
}

int64_t kv_seq_find(kv_seq *s, const int32_t *ids, int64_t limit) {
    return kv_find_place(s, ids, limit, false).start;
}
