/* Sequences: block tables that grow at one end and let go at the other, and what
 * each row sees. */
#include "kv/kv.h"

#include <assert.h>
#include <stdlib.h>

#include "kv/impl.h"

/* ── Lifetime ── */

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
        if (n == 0) continue;
        t->ring = n - t->n_fixed + k->groups[g].rerun_blocks;
        t->slots = calloc((size_t)(t->n_fixed + t->ring), sizeof *t->slots);
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
    s->is_named = true;
    return s;
}

static int64_t n_held(const table *t, int64_t first, int64_t end) {
    return min64(t->n_fixed, end) + max64(0, end - first);
}

/* Lets go of every held block of a table from block `from` on, the last first: what is nearer to the
 * beginning is worth more to others. */
static void drop_tail(kv *k, int g, table *t, int64_t from) {
    for (int64_t b = t->end - 1; b >= from; b--)
        if (is_held(t, b)) kv_drop_slot(k, g, *slot_of(t, b), true);
    t->end = min64(t->end, from);
    if (t->first > t->end) t->first = max64(t->n_fixed, t->end);
}

void kv_seq_free(kv_seq *s) {
    if (!s) return;
    kv_name_tail(s);
    if (s->fetch.place.start > 0 && s->pool->fetcher == s) s->pool->fetcher = NULL;
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

/* ── Growing ── */

void kv_seq_mark(kv_seq *s, int64_t pos) {
    for (int i = 0; i < s->n_marks; i++)
        if (s->marks[i] == pos) return;
    if (s->n_marks < KV_MAX_MARKS && pos > 0) s->marks[s->n_marks++] = pos;
}

bool kv_is_marked(const kv_seq *s, int64_t block) {
    for (int i = 0; i < s->n_marks; i++) {
        int64_t last = s->marks[i] / KV_BLOCK; /* going on at the mark, or where its block begins */
        if (block >= oldest_seen(s, SLIDING, last * KV_BLOCK) / KV_BLOCK && block <= last)
            return true;
    }
    return false;
}

bool kv_seq_is_rerunning(const kv_seq *s) {
    return s->len < s->kept_until;
}

/* The held block that the next rows go into while others can see it, else NONE. */
static int64_t shared_tail(const kv_seq *s, int g, int64_t end) {
    const table *t = &s->tables[g];
    int64_t row = g == FULL ? max64(s->len, s->kept_until) : s->len;
    if (row % KV_BLOCK == 0 || row >= end || !is_held(t, row / KV_BLOCK)) return NONE;
    const slot *at = &s->pool->groups[g].slots[*slot_of(t, row / KV_BLOCK)];
    return at->n_refs > 1 || at->entry != NONE ? row / KV_BLOCK : NONE;
}

bool kv_seq_reserve(kv_seq *s, int64_t n) {
    if (n < 0 || n > INT64_MAX / 2 - s->len) return false;
    kv *k = s->pool;
    int64_t first[N_GROUPS], end[N_GROUPS], copied[N_GROUPS];
    for (int i = 0; i < N_GROUPS; i++) {
        const table *t = &s->tables[i];
        if (!t->slots) continue;
        const group *g = &k->groups[i];
        first[i] = max64(t->first, oldest_seen(s, i, s->len) / KV_BLOCK);
        end[i] = max64(t->end, div_up(s->len + n, KV_BLOCK));
        copied[i] = shared_tail(s, i, s->len + n);
        int64_t most = g->seq_blocks + (kv_seq_is_rerunning(s) ? g->rerun_blocks : 0);
        if (end[i] - first[i] > t->ring || n_held(t, first[i], end[i]) > most) return false;
        int64_t there = g->n_free + g->n_idle, wanted = copied[i] != NONE;
        for (int64_t b = t->first; b < first[i] && b < t->end; b++)
            there += g->slots[*slot_of(t, b)].n_refs == 1;
        wanted += n_held(t, max64(first[i], t->end), end[i]) - min64(t->n_fixed, t->end);
        if (wanted > there) return false;
    }
    for (int i = 0; i < N_GROUPS; i++) {
        table *t = &s->tables[i];
        if (!t->slots) continue;
        for (; t->first < first[i] && t->first < t->end; t->first++)
            kv_drop_slot(k, i, *slot_of(t, t->first), i == FULL || kv_is_marked(s, t->first));
        t->first = first[i];
        for (; t->end < end[i]; t->end++)
            if (t->end < t->n_fixed || t->end >= t->first) *slot_of(t, t->end) = kv_take_slot(k, i);
        if (copied[i] == NONE) continue;
        int32_t *at = slot_of(t, copied[i]), copy = kv_take_slot(k, i);
        int64_t row = i == FULL ? max64(s->len, s->kept_until) : s->len;
        kv_copy_rows(k, i, *at, copy, row % KV_BLOCK);
        kv_drop_slot(k, i, *at, true);
        *at = copy;
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
        if (!t->slots) continue;
        int64_t seen = oldest_seen(s, g, len - 1);
        if (max64(t->n_fixed, seen / KV_BLOCK) < t->first) return false;
        if (g == SLIDING && seen < s->slide_true) return false;
    }
    for (int g = 0; g < N_GROUPS; g++) {
        table *t = &s->tables[g];
        if (!t->slots) continue;
        drop_tail(k, g, t, div_up(len, KV_BLOCK));
        if (len == 0) t->first = t->n_fixed;
        if (len % KV_BLOCK == 0 || !is_held(t, len / KV_BLOCK)) continue;
        int32_t at = *slot_of(t, len / KV_BLOCK);
        const slot *last = &k->groups[g].slots[at];
        if (last->n_refs == 1 && last->entry == NONE) kv_poison_rows(k, g, at, len % KV_BLOCK);
    }
    s->len = s->reserved = len;
    s->kept_until = min64(s->kept_until, len);
    if (len == 0) {
        s->slide_from = s->slide_true = s->n_named = 0;
        s->name = (kv_name){0, 0};
        s->is_named = true;
        s->is_rerun_unshared = false;
    } else if (len < s->n_named) {
        s->is_named = s->is_named && len >= s->n_named - s->n_named % KV_BLOCK;
        s->n_named = len;
    }
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

int kv_seq_visible(const kv_seq *s, int layer, int64_t i, kv_range out[2]) {
    int64_t width = s->pool->shape.layer_width[layer];
    int n = kv_visible(s->window, width, i, out);
    if (width > 0 && n == 1) out[0].begin = max64(out[0].begin, min64(s->slide_from, i));
    return n;
}

bool kv_seq_has_row(const kv_seq *s, int layer, int64_t i) {
    return i < s->kept_until && s->pool->shape.layer_width[layer] == 0;
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
    char *p = kv_slot_tile(k, &k->groups[g], k->layer_index[layer], *slot_of(t, block), kv_head);
    return (kv_tile){p, p + k->tile_bytes, (int64_t)k->row_bytes};
}

dev_kv kv_get_rows(const kv_seq *s, int layer) {
    const kv *k = s->pool;
    int g = k->shape.layer_width[layer] > 0 ? SLIDING : FULL;
    const table *t = &s->tables[g];
    return (dev_kv){.type = k->shape.type,
                    .base = kv_slot_tile(k, &k->groups[g], k->layer_index[layer], 0, 0),
                    .slot_bytes = k->slot_bytes,
                    .tile_bytes = k->tile_bytes,
                    .row_bytes = (int64_t)k->row_bytes,
                    .slots = t->slots,
                    .n_fixed = t->n_fixed,
                    .ring = t->ring};
}
