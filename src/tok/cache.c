/* Remembered encodings of stretches of text, in fixed memory.
 *
 * Two halves: new entries are appended to the young one; an entry found in the
 * old one is copied over. When the young half is full the old one is emptied and
 * they change places, so what is used at least once per half full of news stays.
 * An entry that fills more than a half is not kept.
 */
#include <pthread.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/os.h"
#include "tok/tok_impl.h"

enum { BYTES_PER_SLOT = 64, MIN_HALF_BYTES = 4096 };
#define NO_ENTRY UINT32_MAX

/* Then its ids, then its text. */
typedef struct entry {
    uint64_t hash;
    uint32_t next; /* in the slot's chain: an offset, or NO_ENTRY */
    uint32_t n_ids, len;
    bool first_before, first_after;
} entry;

typedef struct half {
    unsigned char *bytes;
    size_t used;
    uint32_t *slots; /* [n_slots]: offset of the newest entry, or NO_ENTRY */
} half;

struct tok_cache {
    pthread_mutex_t lock;
    half halves[2];
    int young;
    size_t half_bytes, n_slots; /* n_slots: a power of two */
    uint64_t seed; /* of this process: nobody can choose texts that fall into one slot */
    tok_cache_stats stats;
};

static void clear(tok_cache *c, half *h) {
    h->used = 0;
    memset(h->slots, 0xFF, c->n_slots * sizeof *h->slots);
}

static void set_sizes(tok_cache *c, size_t max_bytes) {
    c->half_bytes = max_bytes / 2;
    if (c->half_bytes < MIN_HALF_BYTES) c->half_bytes = MIN_HALF_BYTES;
    if (c->half_bytes > NO_ENTRY / 2) c->half_bytes = NO_ENTRY / 2;
    c->n_slots = 1;
    while (c->n_slots < c->half_bytes / BYTES_PER_SLOT) c->n_slots *= 2;
}

size_t tok_cache_plan_bytes(size_t max_bytes) {
    tok_cache c;
    set_sizes(&c, max_bytes);
    return sizeof c + 2 * (c.half_bytes + c.n_slots * sizeof *c.halves[0].slots);
}

tok_cache *tok_cache_new(size_t max_bytes, error *err) {
    tok_cache *c = calloc(1, sizeof *c);
    bool ok = c != NULL;
    if (ok) {
        pthread_mutex_init(&c->lock, NULL);
        set_sizes(c, max_bytes);
        os_random(&c->seed, sizeof c->seed);
        for (int i = 0; i < 2; i++) {
            half *h = &c->halves[i];
            h->bytes = malloc(c->half_bytes);
            h->slots = malloc(c->n_slots * sizeof *h->slots);
            ok &= h->bytes && h->slots;
            if (!ok) break;
            memset(h->bytes, 0xFF, c->half_bytes); /* touched now: memory does not grow later */
            clear(c, h);
        }
    }
    if (ok) return c;
    tok_cache_free(c);
    error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to remember encoded text in.");
    return NULL;
}

void tok_cache_free(tok_cache *c) {
    if (!c) return;
    for (int i = 0; i < 2; i++) {
        free(c->halves[i].bytes);
        free(c->halves[i].slots);
    }
    pthread_mutex_destroy(&c->lock);
    free(c);
}

tok_cache_stats tok_cache_get_stats(tok_cache *c) {
    pthread_mutex_lock(&c->lock);
    tok_cache_stats s = c->stats;
    pthread_mutex_unlock(&c->lock);
    return s;
}

static size_t entry_bytes(size_t n_ids, size_t len) {
    size_t n = sizeof(entry) + n_ids * sizeof(int32_t) + len;
    return (n + _Alignof(entry) - 1) / _Alignof(entry) * _Alignof(entry);
}

static uint64_t hash_of(const tok_cache *c, str text, bool first) {
    return hash_bytes(text.ptr, text.len, c->seed ^ first);
}

static const int32_t *ids_of(const entry *e) {
    return (const int32_t *)(e + 1);
}

static const entry *find(const tok_cache *c, const half *h, uint64_t hash, str text, bool first) {
    uint32_t at = h->slots[hash & (c->n_slots - 1)];
    while (at != NO_ENTRY) {
        const entry *e = (const entry *)(const void *)(h->bytes + at);
        if (e->hash == hash && e->len == text.len && e->first_before == first &&
            memcmp(ids_of(e) + e->n_ids, text.ptr, text.len) == 0)
            return e;
        at = e->next;
    }
    return NULL;
}

/* head: hash, sizes and flags of the entry. */
static void keep(tok_cache *c, entry head, const int32_t *ids, str text) {
    size_t n = entry_bytes(head.n_ids, head.len);
    if (n > c->half_bytes) return;
    half *h = &c->halves[c->young];
    if (h->used + n > c->half_bytes) {
        c->young = !c->young;
        h = &c->halves[c->young];
        clear(c, h);
    }
    uint32_t *slot = &h->slots[head.hash & (c->n_slots - 1)];
    entry *e = (entry *)(void *)(h->bytes + h->used);
    head.next = *slot;
    *slot = (uint32_t)h->used;
    *e = head;
    if (head.n_ids) memcpy(e + 1, ids, head.n_ids * sizeof *ids);
    memcpy((int32_t *)(e + 1) + head.n_ids, text.ptr, text.len);
    h->used += n;
}

bool cache_find(tok_cache *c, scratch *s, str text) {
    if (text.len > c->half_bytes) return false;
    uint64_t hash = hash_of(c, text, s->first);
    pthread_mutex_lock(&c->lock);
    const entry *e = find(c, &c->halves[c->young], hash, text, s->first);
    bool is_old = !e && (e = find(c, &c->halves[!c->young], hash, text, s->first)) != NULL;
    if (e) {
        size_t from = s->out->n;
        entry head = *e;
        tok_ids_append(s->out, ids_of(e), e->n_ids);
        s->first = e->first_after;
        s->failed |= s->out->failed;
        c->stats.n_remembered_bytes += text.len;
        /* Room may have to be made where e lies: from here on only the copies count. */
        if (is_old && !s->out->failed) keep(c, head, s->out->ids + from, text);
    }
    pthread_mutex_unlock(&c->lock);
    return e != NULL;
}

void cache_keep(tok_cache *c, const scratch *s, str text, bool was_first, size_t from) {
    pthread_mutex_lock(&c->lock);
    c->stats.n_encoded_bytes += text.len;
    if (!s->failed && !s->out->failed && text.len <= c->half_bytes) {
        entry head = {.hash = hash_of(c, text, was_first),
                      .n_ids = (uint32_t)(s->out->n - from),
                      .len = (uint32_t)text.len,
                      .first_before = was_first,
                      .first_after = s->first};
        keep(c, head, s->out->ids + from, text);
    }
    pthread_mutex_unlock(&c->lock);
}
