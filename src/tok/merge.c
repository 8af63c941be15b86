/* Byte-pair merging of one piece. Starts from bytes or characters and joins
 * the neighbours with the best priority, leftmost first among equals, until no
 * two neighbours make a token.
 *
 * Short pieces (nearly all) are scanned for the best pair; long ones keep the
 * candidates in a heap, so that a piece of n symbols costs O(n log n) also when
 * it is a whole book without a space.
 */
#include "tok/tok_impl.h"

#include <stdlib.h>

enum { SHORT_SYMBOLS = 32 };
#define NO_MERGE  UINT32_MAX
#define NO_SYMBOL UINT32_MAX

typedef struct symbol {
    uint32_t prev, next; /* indices; NO_SYMBOL at the ends */
    uint32_t begin;      /* first byte in the piece; a symbol ends where the next begins */
    uint32_t prio;       /* of joining with the next symbol: smaller first, NO_MERGE = cannot */
    int32_t id;          /* −1: a character that no token covers */
    int32_t joined;      /* what joining with the next gives */
} symbol;

void *scratch_reserve(scratch *s, void **block, size_t *cap, size_t n, size_t size) {
    if (n > *cap) {
        size_t want = n < 64 ? 64 : n;
        void *p = want > SIZE_MAX / size ? NULL : realloc(*block, want * size);
        if (!p) {
            s->failed = true;
            return NULL;
        }
        *block = p;
        *cap = want;
    }
    return *block;
}

/* Smaller is better, so that heap keys are plain integers; NaN sorts somewhere, always the same. */
static uint32_t score_prio(float score) {
    uint32_t bits;
    memcpy(&bits, &score, sizeof bits);
    uint32_t ascending = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return ascending == 0 ? NO_MERGE - 1 : ~ascending;
}

static void judge(const tok *t, str piece, symbol *sym, uint32_t at) {
    symbol *a = &sym[at];
    a->prio = NO_MERGE;
    if (a->next == NO_SYMBOL) return;
    const symbol *b = &sym[a->next];
    if (t->order == MERGE_BY_RANK) {
        if (a->id < 0 || b->id < 0) return;
        a->prio = vocab_find_merge(t, a->id, b->id);
        if (a->prio != NO_MERGE) a->joined = t->merges[a->prio].id;
        return;
    }
    size_t end = b->next == NO_SYMBOL ? piece.len : sym[b->next].begin;
    int32_t id = vocab_find(t, str_make(piece.ptr + a->begin, end - a->begin));
    if (id < 0) return;
    a->joined = id;
    a->prio = t->order == MERGE_BY_ID ? (uint32_t)id : score_prio(t->scores[id]);
}

/* Joins `at` with its right neighbour and judges the two new pairs. */
static void join(const tok *t, str piece, symbol *sym, uint32_t at) {
    symbol *a = &sym[at];
    uint32_t gone = a->next;
    a->id = a->joined;
    a->next = sym[gone].next;
    if (a->next != NO_SYMBOL) sym[a->next].prev = at;
    sym[gone].prio = NO_MERGE;
    judge(t, piece, sym, at);
    if (a->prev != NO_SYMBOL) judge(t, piece, sym, a->prev);
}

static void merge_short(const tok *t, str piece, symbol *sym) {
    for (;;) {
        uint32_t best = NO_SYMBOL, prio = NO_MERGE;
        for (uint32_t i = 0; i != NO_SYMBOL; i = sym[i].next)
            if (sym[i].prio < prio) prio = sym[i].prio, best = i;
        if (best == NO_SYMBOL) return;
        join(t, piece, sym, best);
    }
}

static void heap_push(uint64_t *heap, size_t *n, uint64_t key) {
    size_t i = (*n)++;
    for (; i && heap[(i - 1) / 2] > key; i = (i - 1) / 2) heap[i] = heap[(i - 1) / 2];
    heap[i] = key;
}

static uint64_t heap_pop(uint64_t *heap, size_t *n) {
    uint64_t top = heap[0], last = heap[--*n];
    size_t i = 0;
    for (size_t child; (child = 2 * i + 1) < *n; i = child) {
        if (child + 1 < *n && heap[child + 1] < heap[child]) child++;
        if (heap[child] >= last) break;
        heap[i] = heap[child];
    }
    heap[i] = last;
    return top;
}

/* A key is (priority, index). A pair that changed since its key was pushed has another priority now,
 * or was judged again with the same one: both ways the symbol itself knows what is true. At most
 * n − 1 keys at first and two per join: 3n in all. */
static void merge_long(scratch *s, str piece, symbol *sym, uint32_t n) {
    const tok *t = s->t;
    uint64_t *heap = scratch_reserve(s, &s->heap, &s->cap_heap, 3 * (size_t)n, sizeof *heap);
    if (!heap) return;
    size_t n_heap = 0;
    for (uint32_t i = 0; i < n; i++)
        if (sym[i].prio != NO_MERGE) heap_push(heap, &n_heap, (uint64_t)sym[i].prio << 32 | i);
    while (n_heap) {
        uint64_t key = heap_pop(heap, &n_heap);
        uint32_t at = (uint32_t)key;
        if (sym[at].prio != key >> 32) continue;
        join(t, piece, sym, at);
        uint32_t prev = sym[at].prev;
        if (sym[at].prio != NO_MERGE) heap_push(heap, &n_heap, (uint64_t)sym[at].prio << 32 | at);
        if (prev != NO_SYMBOL && sym[prev].prio != NO_MERGE)
            heap_push(heap, &n_heap, (uint64_t)sym[prev].prio << 32 | prev);
    }
}

void push_unknown(scratch *s, str bytes) {
    const tok *t = s->t;
    bool covered = true;
    for (size_t i = 0; i < bytes.len && covered; i++)
        covered = t->byte_id[(unsigned char)bytes.ptr[i]] >= 0;
    if (covered) {
        for (size_t i = 0; i < bytes.len; i++)
            tok_ids_push(s->out, t->byte_id[(unsigned char)bytes.ptr[i]]);
        return;
    }
    if (t->unknown < 0) return;
    bool again = t->fuse_unknown && s->out->n && s->out->ids[s->out->n - 1] == t->unknown;
    if (!again) tok_ids_push(s->out, t->unknown);
}

static void merge_run(scratch *s, str piece) {
    const tok *t = s->t;
    symbol few[SHORT_SYMBOLS], *sym = few;
    if (piece.len > SHORT_SYMBOLS) {
        sym = scratch_reserve(s, &s->symbols, &s->cap_symbols, piece.len, sizeof *sym);
        if (!sym) return;
    }
    uint32_t n = 0;
    for (size_t at = 0; at < piece.len; n++) {
        uint32_t cp;
        int len = t->byte_level ? 1 : utf8_decode(piece, at, &cp);
        if (len == 0) len = 1;
        int32_t id = t->byte_level ? t->byte_id[(unsigned char)piece.ptr[at]]
                                   : vocab_find(t, str_make(piece.ptr + at, (size_t)len));
        sym[n] =
            (symbol){.prev = n ? n - 1 : NO_SYMBOL, .next = n + 1, .begin = (uint32_t)at, .id = id};
        at += (size_t)len;
    }
    sym[n - 1].next = NO_SYMBOL;
    for (uint32_t i = 0; i < n; i++) judge(t, piece, sym, i);
    if (n <= SHORT_SYMBOLS)
        merge_short(t, piece, sym);
    else
        merge_long(s, piece, sym, n);
    for (uint32_t i = 0; i != NO_SYMBOL; i = sym[i].next) {
        size_t end = sym[i].next == NO_SYMBOL ? piece.len : sym[sym[i].next].begin;
        if (sym[i].id >= 0)
            tok_ids_push(s->out, sym[i].id);
        else
            push_unknown(s, str_make(piece.ptr + sym[i].begin, end - sym[i].begin));
    }
}

/* True when no ordinary token holds these two neighbours, so that no merge reaches across. */
static bool can_cut(const tok *t, str piece, size_t at) {
    unsigned pair = (unsigned)(unsigned char)piece.ptr[at - 1] << 8 | (unsigned char)piece.ptr[at];
    return !(t->pairs[pair >> 6] >> (pair & 63) & 1) &&
           ((unsigned char)piece.ptr[at] & 0xC0) != 0x80;
}

void merge_encode(scratch *s, str piece) {
    const tok *t = s->t;
    if (t->whole_first) {
        int32_t id = vocab_find(t, piece);
        if (id >= 0) {
            tok_ids_push(s->out, id);
            return;
        }
    }
    size_t begin = 0;
    if (t->unsplit)
        for (size_t i = 1; i < piece.len; i++)
            if (can_cut(t, piece, i)) {
                merge_run(s, str_make(piece.ptr + begin, i - begin));
                begin = i;
            }
    merge_run(s, str_make(piece.ptr + begin, piece.len - begin));
}
