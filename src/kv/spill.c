/* Between the pool and a directory: which blocks are written, which are brought
 * back for a sequence that is about to begin. Copies blocks into the disk thread's
 * buffers and out of them; never waits for it, except when the pool is freed. */
#include <stdlib.h>

#include "base/clock.h"
#include "kv/impl.h"

enum { CLOSE_MS = 5000 };

size_t kv_block_bytes(const kv *k, int g) {
    return (size_t)k->groups[g].n_layers * k->slot_bytes;
}

bool kv_open_disk(kv *k, const kv_disk_config *c, error *err) {
    struct {
        uint64_t made_by;
        int32_t type, block, n_layers, n_kv_heads, head_dim, zero;
        int32_t widths[KV_MAX_LAYERS];
    } what;
    memset(&what, 0, sizeof what);
    what.made_by = c->made_by;
    what.type = (int32_t)k->shape.type;
    what.block = KV_BLOCK;
    what.n_layers = k->shape.n_layers;
    what.n_kv_heads = k->shape.n_kv_heads;
    what.head_dim = k->shape.head_dim;
    memcpy(what.widths, k->shape.layer_width, (size_t)k->shape.n_layers * sizeof *what.widths);
    const size_t bytes[2] = {kv_block_bytes(k, FULL), kv_block_bytes(k, SLIDING)};
    kv_name key;
    k->pending = malloc(KV_PENDING * sizeof *k->pending);
    if (!k->pending)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for blocks to be written.");
    k->disk = kv_disk_open(c, chain_hash((kv_name){1, 2}, &what, sizeof what), bytes, &key, err);
    if (!k->disk) {
        free(k->pending);
        k->pending = NULL;
        return false;
    }
    k->key = key;
    return true;
}

/* ── Out ── */

void kv_save_later(kv *k, int g, int32_t at) {
    slot *s = &k->groups[g].slots[at];
    if (!k->disk || s->is_saved || k->entries[s->entry].n_ids < KV_BLOCK) return;
    if (k->pending_end - k->pending_first == KV_PENDING) k->pending_first++; /* the disk is slow */
    k->pending[k->pending_end++ % KV_PENDING] = (pending){k->entries[s->entry].name, g, at};
    s->is_saved = true;
}

static void copy_block(const kv *k, int g, int32_t at, char *rows, bool in) {
    const group *gr = &k->groups[g];
    for (int i = 0; i < gr->n_layers; i++, rows += k->slot_bytes) {
        char *tile = kv_slot_tile(k, gr, i, at, 0);
        memcpy(in ? tile : rows, in ? rows : tile, k->slot_bytes);
    }
}

/* False: no buffer is free. */
static bool save_one(kv *k) {
    pending p = k->pending[k->pending_first % KV_PENDING];
    const slot *s = &k->groups[p.group].slots[p.at];
    const entry *e = s->entry == NONE ? NULL : &k->entries[s->entry];
    bool is_same = e && kv_name_equal(e->name, p.name);
    if (is_same && !kv_disk_has(k->disk, p.name, p.group)) {
        kv_disk_item *i = kv_disk_take_free(k->disk);
        if (!i) return false;
        i->is_read = false;
        i->of = (kv_disk_block){.parent = e->parent,
                                .name = e->name,
                                .window = e->window,
                                .block = e->block,
                                .group = p.group};
        memcpy(i->of.ids, e->ids, sizeof i->of.ids);
        copy_block(k, p.group, p.at, i->rows, false);
        kv_disk_submit(k->disk, i);
    }
    k->pending_first++;
    return true;
}

/* ── In ── */

static void insert(kv *k, const kv_disk_item *i) {
    const kv_disk_block *b = &i->of;
    group *g = &k->groups[b->group];
    int same;
    int32_t e = kv_find_child(k, b->parent, b->block, b->window, b->ids, KV_BLOCK, &same);
    if (same < KV_BLOCK) e = NONE;
    if ((e != NONE && k->entries[e].slots[b->group] != NONE) || g->n_free + g->n_idle == 0) return;
    int32_t at = kv_take_slot(k, b->group); /* which is none of e's: those are of the other group */
    if (e == NONE) e = kv_add_entry(k, b->parent, b->block, b->window, b->ids, KV_BLOCK);
    copy_block(k, b->group, at, i->rows, true);
    k->entries[e].slots[b->group] = at;
    g->slots[at].entry = e;
    g->slots[at].is_saved = true;
    kv_drop_slot(k, b->group, at, true);
}

static void take_back(kv *k, kv_disk_item *i) {
    if (i->is_read) {
        k->n_reading--;
        if (i->ok)
            insert(k, i);
        else
            k->fetch_failed = true;
    }
    kv_disk_give_back(k->disk, i);
}

void kv_run_disk(kv *k) {
    if (!k->disk) return;
    for (kv_disk_item *i; (i = kv_disk_take_done(k->disk, 0));) take_back(k, i);
    while (!k->fetcher && k->pending_first < k->pending_end && save_one(k)) {
    }
}

void kv_close_disk(kv *k) {
    if (!k->disk) return;
    int64_t until = clock_ns() + (int64_t)CLOSE_MS * 1000000;
    while (clock_ns() < until) {
        kv_run_disk(k);
        if (k->pending_first == k->pending_end && kv_disk_is_idle(k->disk)) break;
        kv_disk_item *i = kv_disk_take_done(k->disk, 100);
        if (i) take_back(k, i);
    }
    kv_disk_close(k->disk);
    k->disk = NULL;
}

/* Asks for what block b of group g is missing. False: no buffer is free. */
static bool fetch_one(kv *k, int g, int64_t b, kv_name parent, kv_name name, kv_window w,
                      const int32_t *ids) {
    int same;
    int32_t e = kv_find_child(k, parent, b, w, ids, KV_BLOCK, &same);
    if (same == KV_BLOCK && k->entries[e].slots[g] != NONE) return true;
    kv_disk_item *i = kv_disk_take_free(k->disk);
    if (!i) return false;
    i->is_read = true;
    i->of = (kv_disk_block){.parent = parent, .name = name, .window = w, .block = b, .group = g};
    memcpy(i->of.ids, ids, sizeof i->of.ids);
    k->n_reading++;
    kv_disk_submit(k->disk, i);
    return true;
}

static bool is_needed(const kv_seq *s, const fetch *f, int g, int64_t b) {
    const place *p = &f->place;
    if (!s->tables[g].slots) return false;
    if (g == SLIDING) return p->start == p->len && b >= oldest_seen(s, SLIDING, p->len) / KV_BLOCK;
    return b < s->window.pinned / KV_BLOCK || b >= oldest_seen(s, FULL, p->start) / KV_BLOCK;
}

bool kv_seq_fetch(kv_seq *s, const int32_t *ids, int64_t limit) {
    kv *k = s->pool;
    fetch *f = &s->fetch;
    if (!k->disk || f->is_over) return false;
    if (k->fetcher && k->fetcher != s) return true;
    if (!k->fetcher) {
        f->place = kv_find_place(s, ids, limit, true);
        if (f->place.start <= kv_find_place(s, ids, limit, false).start) {
            f->is_over = true;
            return false;
        }
        k->fetcher = s;
        k->fetch_failed = false;
        f->next = 0;
        f->group = FULL;
        f->name = (kv_name){0, 0};
    }
    while ((f->next + 1) * KV_BLOCK <= f->place.len && !k->fetch_failed) {
        kv_window w = kv_named_window(s->window, f->next);
        kv_name name = kv_name_of(k, f->name, w, ids + f->next * KV_BLOCK);
        for (; f->group < N_GROUPS; f->group++)
            if (is_needed(s, f, f->group, f->next) &&
                !fetch_one(k, f->group, f->next, f->name, name, w, ids + f->next * KV_BLOCK))
                return true;
        f->name = name;
        f->group = FULL;
        f->next++;
    }
    if (k->n_reading > 0) return true;
    k->fetcher = NULL;
    f->is_over = true;
    return false;
}
