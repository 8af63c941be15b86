/* One sequence under a grammar: the threads it may be in, and the tokens they allow.
 *
 * A mask is made by walking the vocabulary's trie with the set of threads. Three
 * things keep that short: inside a free string almost every token is known
 * beforehand and only those with a quote or a backslash are walked; a single
 * string or automaton glides through the trie without making frames; and masks
 * are kept by the threads' hash (LRU), for most positions recur.
 */
#include <stdlib.h>

#include "base/hash.h"
#include "base/os.h"
#include "sample/grammar_left.h"
#include "sample/grammar_vocab.h"

enum {
    N_CACHED = 4, /* masks: what is asked for again is almost always the last one */
    WALK_THREADS = 1 << 12,
    WALK_WORK = 8000000, /* steps of threads in one walk; what lies beyond is not allowed */
    MAX_FORCED_BYTES = 1024,
    /* Tokens left from which on each token's way out is measured, beyond the shortest way there is. */
    HURRY_FROM = 256,
    /* Tokens that the measure may be short of (grammar_left.h), with the one that ends generation. */
    HURRY_SPARE = 4,
};

typedef struct cached_mask {
    uint64_t key, used;
    uint64_t *mask;
} cached_mask;

struct matcher {
    const grammar *g;
    const grammar_vocab *v;
    matcher_options options;
    stepper s;
    /* Frames of the threads; the other one is for moving what is alive to, and meanwhile for walks. */
    region room[2];
    int current;
    size_t collect_at;
    size_t n_words; /* of a mask, at most */
    const frame *threads[GRAMMAR_MAX_THREADS], *next[GRAMMAR_MAX_THREADS];
    int n_threads;
    bool can_end, is_done, failed;
    uint64_t key;   /* of the threads and can_end */
    int64_t n_room; /* see matcher_hurry */
    int32_t insist;
    /* While a mask is made: what may be left behind a token, and the least that any token leaves. */
    uint32_t limit, least;
    cached_mask cache[N_CACHED];
    uint64_t clock;
    uint64_t *masks;            /* [N_CACHED][words] */
    const frame **walk_threads; /* [WALK_THREADS] */
};

static void settle(matcher *m) {
    uint64_t sum = m->can_end ? 1 : 0;
    for (int i = 0; i < m->n_threads; i++) sum += hash_mix(m->threads[i]->hash);
    m->key = hash_mix(sum) | 1;
}

static region *live(matcher *m) {
    return &m->room[m->current];
}
static region *scratch(matcher *m) {
    return &m->room[!m->current];
}

void matcher_reset(matcher *m) {
    m->room[0].used = m->room[1].used = 0;
    m->current = 0;
    m->collect_at = GRAMMAR_ROOM / 8;
    m->is_done = m->failed = false;
    m->n_room = m->insist = -1;
    stepper_begin(&m->s, live(m), m->threads, GRAMMAR_MAX_THREADS);
    stepper_start(&m->s);
    m->n_threads = m->s.n_out;
    m->can_end = m->s.can_end;
    m->failed = m->s.overflow;
    settle(m);
}

static size_t words_of(int32_t n_vocab) {
    return ((size_t)n_vocab + 63) / 64;
}

uint64_t matcher_plan_bytes(int32_t n_vocab) {
    uint64_t bytes = sizeof(matcher) + 2 * GRAMMAR_ROOM;
    if (n_vocab > 0)
        bytes += N_CACHED * words_of(n_vocab) * sizeof(uint64_t) + WALK_THREADS * sizeof(frame *);
    return bytes;
}

matcher *matcher_reserve(int32_t n_vocab, error *err) {
    matcher *m = calloc(1, sizeof *m);
    bool ok = m != NULL;
    if (ok) {
        for (int i = 0; i < 2; i++) {
            m->room[i] = (region){.base = malloc(GRAMMAR_ROOM), .cap = GRAMMAR_ROOM};
            ok = ok && m->room[i].base;
        }
        if (n_vocab > 0) {
            m->n_words = words_of(n_vocab);
            m->masks = malloc(N_CACHED * m->n_words * sizeof *m->masks);
            m->walk_threads = malloc(WALK_THREADS * sizeof *m->walk_threads);
            ok = ok && m->masks && m->walk_threads;
        }
    }
    if (ok) return m;
    error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for a constrained answer.");
    matcher_free(m);
    return NULL;
}

void matcher_hold(matcher *m) {
    os_touch(m, sizeof *m);
    for (int i = 0; i < 2; i++) os_touch(m->room[i].base, GRAMMAR_ROOM);
    if (!m->n_words) return;
    os_touch(m->masks, N_CACHED * m->n_words * sizeof *m->masks);
    os_touch(m->walk_threads, WALK_THREADS * sizeof *m->walk_threads);
}

bool matcher_start(matcher *m, const grammar *g, const grammar_vocab *v, matcher_options o,
                   error *err) {
    const grammar *old = m->g;
    const grammar_vocab *old_v = m->v;
    m->g = grammar_ref(g);
    m->v = grammar_vocab_ref(v);
    grammar_unref(old);
    grammar_vocab_unref(old_v);
    m->options = o;
    m->s = (stepper){.g = g, .exact = o.exact};
    size_t words = v ? grammar_vocab_words(v) : 0;
    for (int i = 0; i < N_CACHED; i++)
        m->cache[i] = (cached_mask){.mask = m->masks ? m->masks + (size_t)i * words : NULL};
    matcher_reset(m);
    if (words > m->n_words) m->failed = true;
    if (!m->failed) return true;
    return error_set(err, ERR_UNSUPPORTED_VALUE, NULL,
                     "The grammar begins in more than %d ways at once (GRAMMAR_MAX_THREADS).",
                     GRAMMAR_MAX_THREADS);
}

void matcher_stop(matcher *m) {
    grammar_vocab_unref(m->v);
    grammar_unref(m->g);
    m->v = NULL;
    m->g = NULL;
    m->n_threads = 0;
}

matcher *matcher_new(const grammar *g, const grammar_vocab *v, matcher_options o, error *err) {
    matcher *m = matcher_reserve(v ? v->n_vocab : 0, err);
    if (!m || matcher_start(m, g, v, o, err)) return m;
    matcher_free(m);
    return NULL;
}

void matcher_free(matcher *m) {
    if (!m) return;
    matcher_stop(m);
    free(m->room[0].base);
    free(m->room[1].base);
    free(m->masks);
    free(m->walk_threads);
    free(m);
}

static const frame *moved(const frame *f, const char *from, char *to) {
    return f ? (const frame *)(to + ((const char *)f - from)) : NULL;
}

void matcher_copy(matcher *dst, const matcher *src) {
    const region *a = &src->room[src->current];
    region *b = &dst->room[0];
    dst->current = 0;
    dst->collect_at = src->collect_at;
    memcpy(b->base, a->base, a->used);
    b->used = a->used;
    for (size_t at = 0; at < b->used;) {
        frame *f = (frame *)(b->base + at);
        f->parent = moved(f->parent, a->base, b->base);
        f->seen = moved(f->seen, a->base, b->base);
        at += frame_size(f);
    }
    for (int i = 0; i < src->n_threads; i++)
        dst->threads[i] = moved(src->threads[i], a->base, b->base);
    dst->n_threads = src->n_threads;
    dst->can_end = src->can_end;
    dst->is_done = src->is_done;
    dst->failed = src->failed;
    dst->key = src->key;
    dst->n_room = src->n_room;
    dst->insist = src->insist;
    dst->s.birth = src->s.birth;
}

int32_t matcher_n_vocab(const matcher *m) {
    return m->v ? m->v->n_vocab : 0;
}

bool matcher_can_end(const matcher *m) {
    return m->can_end;
}
bool matcher_failed(const matcher *m) {
    return m->failed;
}
bool matcher_is_done(const matcher *m) {
    return m->is_done || m->n_threads == 0;
}

/* ── Keeping only what is alive ── */

/* A chain of parents, each moved once; a moved frame's parent says where it went. */
static const frame *rescue(const frame *f, region *to) {
    const frame *result = NULL, **link = &result;
    while (f) {
        if (f->is_copied) {
            *link = f->parent;
            break;
        }
        size_t size = frame_size(f);
        frame *w = (frame *)(to->base + to->used), *old = (frame *)f;
        memcpy(w, f, size);
        to->used += size;
        const frame *parent = f->parent;
        old->parent = w;
        old->is_copied = 1;
        if (w->seen) w->seen = rescue(w->seen, to);
        *link = w;
        link = &w->parent;
        f = parent;
    }
    return result;
}

static void collect(matcher *m) {
    region *to = scratch(m);
    to->used = 0;
    for (int i = 0; i < m->n_threads; i++) m->threads[i] = rescue(m->threads[i], to);
    m->current = !m->current;
    /* Often while little is alive, which keeps it in the nearest cache; then as rarely as there is room. */
    m->collect_at = to->used < GRAMMAR_ROOM / 32 ? GRAMMAR_ROOM / 8 : to->used * 4;
    if (m->collect_at > GRAMMAR_ROOM / 2) m->collect_at = GRAMMAR_ROOM / 2;
}

/* ── Walking on ── */

/* One byte for all threads; false when none of them takes it (nothing changed then). */
static bool push_byte(matcher *m, uint8_t c) {
    if (live(m)->used > m->collect_at) collect(m);
    stepper_begin(&m->s, live(m), m->next, GRAMMAR_MAX_THREADS);
    for (int i = 0; i < m->n_threads && !m->s.overflow; i++) stepper_byte(&m->s, m->threads[i], c);
    if (m->s.overflow) {
        m->failed = true;
        return false;
    }
    if (!m->s.n_out && !m->s.can_end) return false;
    memcpy(m->threads, m->next, (size_t)m->s.n_out * sizeof *m->next);
    m->n_threads = m->s.n_out;
    m->can_end = m->s.can_end;
    return true;
}

size_t matcher_push(matcher *m, str bytes) {
    size_t i = 0;
    while (i < bytes.len && !m->failed && push_byte(m, (uint8_t)bytes.ptr[i])) i++;
    settle(m);
    return i;
}

static bool push_special(matcher *m, int32_t id) {
    stepper_begin(&m->s, live(m), m->next, GRAMMAR_MAX_THREADS);
    for (int i = 0; i < m->n_threads && !m->s.overflow; i++)
        stepper_token(&m->s, m->threads[i], id);
    if (m->s.overflow || (!m->s.n_out && !m->s.can_end)) return false;
    memcpy(m->threads, m->next, (size_t)m->s.n_out * sizeof *m->next);
    m->n_threads = m->s.n_out;
    m->can_end = m->s.can_end;
    settle(m);
    return true;
}

static bool advance(matcher *m, int32_t id) {
    if (push_special(m, id)) return true;
    if (m->v->ends[id >> 6] >> (id & 63) & 1) {
        m->is_done = true;
        m->n_threads = 0;
        settle(m);
        return true;
    }
    str piece = tok_piece(m->v->t, id);
    return matcher_push(m, piece) == piece.len;
}

bool matcher_accept(matcher *m, int32_t id) {
    return m->v && !m->is_done && matcher_allows(m, id) && advance(m, id);
}

bool matcher_follow(matcher *m, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!m->v || m->is_done || ids[i] < 0 || ids[i] >= m->v->n_vocab || !advance(m, ids[i]))
            return false;
    return true;
}

/* ── How far the end is ── */

enum { NO_LIMIT = UINT32_MAX };

static uint32_t least_left(const matcher *m, const frame *const *threads, int n, bool can_end) {
    uint32_t least = can_end ? 0 : LEFT_FAR;
    for (int i = 0; i < n && least; i++) {
        uint32_t left = stepper_left(&m->s, threads[i]);
        if (left < least) least = left;
    }
    return least;
}

size_t matcher_left(const matcher *m) {
    return m->is_done || m->failed ? 0 : least_left(m, m->threads, m->n_threads, m->can_end);
}

void matcher_hurry(matcher *m, int64_t n_room, int32_t insist) {
    m->n_room = n_room;
    m->insist = insist;
}

static uint32_t find_limit(const matcher *m) {
    if (m->n_room < 0 || m->n_room > HURRY_FROM + (int64_t)matcher_left(m)) return NO_LIMIT;
    return m->n_room > HURRY_SPARE + 1 ? (uint32_t)m->n_room - HURRY_SPARE - 1 : 0;
}

/* May what leaves so much be said? */
static bool is_in_room(matcher *m, uint32_t left) {
    if (m->limit == (uint32_t)NO_LIMIT) return true;
    if (left < m->least) m->least = left;
    return left <= m->limit;
}

/* ── Masks ── */

static void set_bit(uint64_t *mask, int32_t id) {
    mask[id >> 6] |= 1ull << (id & 63);
}

typedef struct place { /* of the walk, one per depth */
    bool glides, can_end;
    glide at;
    uint32_t left_after; /* gliding under a limit: behind the string or automaton */
    int begin, n;        /* threads */
    size_t used;         /* of the scratch region, its own frames included */
} place;

/* The threads behind c at a node, into *to; false: none. */
static bool walk_byte(matcher *m, const place *from, place *to, uint8_t c,
                      const frame *const *after, int n_after) {
    stepper *s = &m->s;
    to->begin = from->begin + from->n;
    to->n = 0;
    int cap = WALK_THREADS - to->begin;
    if (cap > GRAMMAR_MAX_THREADS) cap = GRAMMAR_MAX_THREADS;
    stepper_begin(s, scratch(m), m->walk_threads + to->begin, cap);
    if (from->glides) {
        to->at = from->at;
        glide_step how = glide_byte(s, &to->at, c);
        const dfa *d = from->at.d;
        if (n_after && from->at.base->kind == F_DFA && d->label[from->at.q] >= 0)
            for (int i = 0; i < n_after; i++) stepper_byte(s, after[i], c);
        if (how == GLIDE_ON && !s->n_out && !s->can_end) {
            to->glides = true;
            to->left_after = from->left_after;
            return true;
        }
        const frame *f =
            how == GLIDE_DEAD ? NULL : glide_frame(s, how == GLIDE_ON ? &to->at : &from->at);
        if (f && how == GLIDE_ON && s->n_out < s->cap_out) s->out[s->n_out++] = f;
        if (f && how == GLIDE_LEAVES) stepper_byte(s, f, c);
    } else {
        for (int i = 0; i < from->n && !s->overflow; i++)
            stepper_byte(s, m->walk_threads[from->begin + i], c);
    }
    to->glides = false;
    to->n = s->n_out;
    to->can_end = s->can_end;
    return !s->overflow && (s->n_out || s->can_end);
}

static uint32_t place_left(const matcher *m, const place *at) {
    if (at->glides) return glide_left(&m->s, &at->at) + at->left_after;
    return least_left(m, m->walk_threads + at->begin, at->n, at->can_end);
}

/* skip_idle: not where text leaves the end as far as it is, which is too far. */
static void walk(matcher *m, const trie *t, const frame *const *threads, int n, bool skip_idle,
                 uint64_t *mask) {
    if (!n || t->n_nodes < 2) return;
    place places[TRIE_MAX_DEPTH + 2];
    const frame *after[64];
    int n_after = 0;
    scratch(m)->used = 0;
    places[0] = (place){.n = n};
    memcpy(m->walk_threads, threads, (size_t)n * sizeof *threads);
    if (n == 1 && glide_begin(&m->s, threads[0], &places[0].at)) {
        places[0].glides = true;
        places[0].n = 0;
        if (m->limit != (uint32_t)NO_LIMIT)
            places[0].left_after = stepper_left_after(&m->s, threads[0]);
        if (threads[0]->kind == F_DFA) { /* where the automaton accepts, these go on */
            stepper_begin(&m->s, scratch(m), after, 64);
            stepper_resume(&m->s, threads[0]->parent);
            for (int i = 0; i < m->s.n_out; i++)
                if (after[i]->kind != F_TOKEN) after[n_after++] = after[i];
            if (m->s.overflow) {
                places[0].glides = false;
                places[0].n = 1;
                n_after = 0;
            }
        }
    }
    places[0].used = scratch(m)->used;
    int64_t work = 0;
    for (uint32_t i = 1; i < t->n_nodes;) {
        const trie_node *node = &t->nodes[i];
        place *from = &places[node->depth - 1], *to = &places[node->depth];
        scratch(m)->used = from->used; /* what earlier siblings took is free again */
        work += from->glides ? 1 : from->n;
        bool ok = work < WALK_WORK && walk_byte(m, from, to, node->byte, after, n_after);
        if (!ok || (skip_idle && to->glides && glide_is_idle(&m->s, &to->at) &&
                    place_left(m, to) > m->limit)) {
            i = node->end;
            continue;
        }
        to->used = scratch(m)->used;
        if (node->ids < node[1].ids &&
            (m->limit == (uint32_t)NO_LIMIT || is_in_room(m, place_left(m, to))))
            for (uint32_t k = node->ids; k < node[1].ids; k++) set_bit(mask, t->ids[k]);
        i++;
    }
}

static void or_masks(uint64_t *mask, const uint64_t *more, size_t words) {
    for (size_t i = 0; i < words; i++) mask[i] |= more[i];
}

/* What has to be walked for a thread in a string or key that any text keeps alive: its tokens without a
 * mark are known beforehand. Under a limit they are not if some lead too far; but then only those towards
 * names can be near enough, and none where text leaves the end as far as it is. */
typedef enum reach { REACH_MARKED, REACH_NAMES, REACH_ALL } reach;

static reach add_inside(matcher *m, const frame *f, const glide *at, uint32_t room,
                        uint64_t *mask) {
    const grammar_vocab *v = m->v;
    size_t words = grammar_vocab_words(v);
    if (m->limit != (uint32_t)NO_LIMIT && glide_is_idle(&m->s, at)) {
        if (stepper_left(&m->s, f) > m->limit) return REACH_MARKED;
    } else if (m->limit != (uint32_t)NO_LIMIT && stepper_left_inside(&m->s, f) > m->limit) {
        return f->kind == F_KEY && !at->d->most_open_ahead ? REACH_NAMES : REACH_ALL;
    }
    if (room >= (uint32_t)v->most_chars) {
        or_masks(mask, v->inside + VOCAB_COUNTED * words, words);
        return REACH_MARKED;
    }
    uint32_t k = room < VOCAB_COUNTED - 1 ? room : VOCAB_COUNTED - 1;
    or_masks(mask, v->inside + k * words, words);
    for (size_t l = 0; l < v->n_long; l++)
        if ((uint32_t)v->long_inside[l].n_chars <= room) set_bit(mask, v->long_inside[l].id);
    return REACH_MARKED;
}

static void compute(matcher *m, uint64_t *mask, uint32_t limit) {
    const grammar_vocab *v = m->v;
    size_t words = grammar_vocab_words(v);
    m->limit = limit;
    m->least = LEFT_FAR;
    memset(mask, 0, words * sizeof *mask);
    if (m->can_end || m->is_done || m->failed) or_masks(mask, v->ends, words);
    if (m->is_done || m->failed) return;
    const frame *open[GRAMMAR_MAX_THREADS], *rest[GRAMMAR_MAX_THREADS];
    int n_open = 0, n_rest = 0;
    for (int i = 0; i < m->n_threads; i++) {
        const frame *f = m->threads[i];
        glide at;
        uint32_t room;
        if (f->kind == F_TOKEN) {
            int32_t id = m->g->nodes[f->node].a;
            if (id < v->n_vocab &&
                (limit == (uint32_t)NO_LIMIT || is_in_room(m, stepper_left_after(&m->s, f))))
                set_bit(mask, id);
        } else if (f->kind == F_DFA && f->node == 0 && f->q == 0) {
            if (limit == (uint32_t)NO_LIMIT || is_in_room(m, stepper_left_after(&m->s, f)))
                or_masks(mask, v->text, words);
        } else {
            bool glides = glide_begin(&m->s, f, &at);
            reach r = glides && glide_is_open(&m->s, &at, &room) ? add_inside(m, f, &at, room, mask)
                                                                 : REACH_ALL;
            if (r != REACH_ALL)
                open[n_open++] = f;
            else if (!glides)
                rest[n_rest++] = f;
            /* Each for itself: together they would need frames. */
            if (glides && r != REACH_MARKED) walk(m, &v->all, &f, 1, r == REACH_NAMES, mask);
        }
    }
    walk(m, &v->marked, open, n_open, false, mask);
    walk(m, &v->all, rest, n_rest, false, mask);
    uint64_t any = 0;
    for (size_t i = 0; i < words; i++) any |= mask[i];
    if (any) return;
    if (limit !=
        (uint32_t)NO_LIMIT) { /* it will not be whole in time: along the shortest way then */
        compute(m, mask, m->least < LEFT_FAR ? m->least : (uint32_t)NO_LIMIT);
        return;
    }
    /* No grammar leads into a dead end: there were more readings than a walk can follow. */
    m->failed = true;
    or_masks(mask, v->ends, words);
}

/* Where the one id that is insisted on may come, it is all that may. */
static void apply_insisted(const matcher *m, uint64_t *mask) {
    int32_t id = m->insist;
    if (id < 0 || id >= m->v->n_vocab || !(mask[id >> 6] >> (id & 63) & 1)) return;
    memset(mask, 0, grammar_vocab_words(m->v) * sizeof *mask);
    set_bit(mask, id);
}

const uint64_t *matcher_mask(matcher *m) {
    int oldest = 0;
    uint32_t limit = find_limit(m);
    uint64_t key = m->key;
    if (limit != (uint32_t)NO_LIMIT || m->insist >= 0)
        key = hash_combine(key, (uint64_t)limit << 32 | (uint32_t)m->insist) | 1;
    for (int i = 0; i < N_CACHED; i++) {
        if (m->cache[i].key == key) {
            m->cache[i].used = ++m->clock;
            return m->cache[i].mask;
        }
        if (m->cache[i].used < m->cache[oldest].used) oldest = i;
    }
    cached_mask *c = &m->cache[oldest];
    compute(m, c->mask, limit);
    apply_insisted(m, c->mask);
    c->key = key;
    c->used = ++m->clock;
    return c->mask;
}

bool matcher_allows(matcher *m, int32_t id) {
    if (!m->v || id < 0 || id >= m->v->n_vocab) return false;
    return matcher_mask(m)[id >> 6] >> (id & 63) & 1;
}

/* ── What must come ── */

/* The only byte that the threads take, or −1: none or several, or the text may end here. */
static int only_byte(matcher *m, const frame *const *threads, int n, region *mem,
                     const frame **out) {
    int found = -1;
    size_t mark = mem->used;
    for (int c = 0; c < 256; c++) {
        stepper_begin(&m->s, mem, out, GRAMMAR_MAX_THREADS);
        for (int i = 0; i < n && !m->s.overflow; i++) stepper_byte(&m->s, threads[i], (uint8_t)c);
        bool any = m->s.n_out || m->s.can_end || m->s.overflow;
        mem->used = mark;
        if (any && found >= 0) return -1;
        if (any) found = c;
    }
    return found;
}

size_t matcher_forced(matcher *m, int32_t *ids, size_t cap) {
    if (!m->v || m->is_done || m->failed || m->can_end || !cap) return 0;
    const trie *t = &m->v->all;
    uint8_t bytes[MAX_FORCED_BYTES];
    size_t n = 0;
    /* Two halves of the walk's room: the threads now and the threads after a byte. */
    const frame **now = m->walk_threads, **next = now + GRAMMAR_MAX_THREADS;
    int n_now = m->n_threads;
    memcpy(now, m->threads, (size_t)n_now * sizeof *now);
    scratch(m)->used = 0;
    bool can_end = false;
    int32_t special = -1;
    for (;;) {
        bool has_token = false;
        for (int i = 0; i < n_now; i++)
            if (now[i]->kind == F_TOKEN) has_token = true;
        if (can_end) break;
        if (has_token) {
            if (n_now == 1) special = m->g->nodes[now[0]->node].a;
            break;
        }
        if (n == MAX_FORCED_BYTES || scratch(m)->used > scratch(m)->cap / 2) break;
        int c = only_byte(m, now, n_now, scratch(m), next);
        if (c < 0) break;
        stepper_begin(&m->s, scratch(m), next, GRAMMAR_MAX_THREADS);
        for (int i = 0; i < n_now; i++) stepper_byte(&m->s, now[i], (uint8_t)c);
        if (m->s.overflow) break;
        bytes[n++] = (uint8_t)c;
        can_end = m->s.can_end;
        n_now = m->s.n_out;
        const frame **w = now;
        now = next;
        next = w;
    }
    bool is_closed = special >= 0 || (can_end && n_now == 0);
    size_t n_ids = 0, at = 0;
    while (at < n && n_ids < cap) { /* the longest token at each place */
        uint32_t node = 0, best = 0;
        size_t len = 0, best_len = 0;
        for (;;) {
            if (at + len == n && !is_closed && t->nodes[node].end > node + 1) {
                best = 0; /* a longer token might begin here: the model chooses it */
                break;
            }
            if (at + len == n) break;
            uint32_t kid = node + 1, end = t->nodes[node].end;
            while (kid < end && t->nodes[kid].byte != bytes[at + len]) kid = t->nodes[kid].end;
            if (kid >= end) break;
            node = kid;
            len++;
            if (t->nodes[node + 1].ids > t->nodes[node].ids) best = node, best_len = len;
        }
        if (!best) break;
        ids[n_ids++] = t->ids[t->nodes[best].ids];
        at += best_len;
    }
    if (at == n && special >= 0 && special < m->v->n_vocab && n_ids < cap) ids[n_ids++] = special;
    return n_ids;
}

bool grammar_accepts(const grammar *g, str text) {
    matcher *m = matcher_new(g, NULL, (matcher_options){.exact = true}, NULL);
    bool ok = m && matcher_push(m, text) == text.len && m->can_end;
    matcher_free(m);
    return ok;
}
