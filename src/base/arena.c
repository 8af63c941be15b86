#include "base/arena.h"

#include <stdlib.h>

struct arena_chunk {
    arena_chunk *next;
    size_t len, cap; /* of the bytes after this header */
};

enum { CHUNK_MIN = 16 * 1024 };

void arena_init(arena *a, size_t cap_bytes) {
    *a = (arena){.cap = cap_bytes};
}

void arena_deinit(arena *a) {
    for (arena_chunk *c = a->head, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    *a = (arena){.cap = a->cap};
}

void arena_reset(arena *a) {
    arena_chunk *keep = a->head;
    if (keep) {
        arena rest = {.head = keep->next};
        arena_deinit(&rest);
        keep->next = NULL;
        keep->len = 0;
    }
    *a = (arena){.head = keep, .cap = a->cap};
}

void *arena_alloc_aligned(arena *a, size_t size, size_t align) {
    if (a->failed) return NULL;
    if (size == 0) size = 1;
    if (size > SIZE_MAX / 4 || (a->cap && size > a->cap - a->used)) goto fail;
    arena_chunk *c = a->head;
    for (int fresh = 0; fresh < 2; fresh++) {
        if (c) {
            uintptr_t base = (uintptr_t)(c + 1);
            uintptr_t at = (base + c->len + align - 1) & ~(uintptr_t)(align - 1);
            if (at - base + size <= c->cap) {
                c->len = at - base + size;
                a->used += size;
                memset((void *)at, 0, size);
                return (void *)at;
            }
        }
        /* Doubling keeps the number of chunks logarithmic in what a request holds. */
        size_t want = c && c->cap < SIZE_MAX / 4 ? c->cap * 2 : CHUNK_MIN;
        if (want > (1u << 20)) want = 1u << 20;
        if (want < size + align) want = size + align;
        arena_chunk *next = malloc(sizeof *next + want);
        if (!next) {
            a->no_memory = true;
            goto fail;
        }
        *next = (arena_chunk){.next = c, .cap = want};
        a->head = c = next;
    }
fail:
    a->failed = true;
    return NULL;
}

void *arena_array(arena *a, size_t n, size_t size) {
    size_t total;
    if (__builtin_mul_overflow(n, size, &total)) {
        a->failed = true;
        return NULL;
    }
    return arena_alloc(a, total);
}

char *arena_dup(arena *a, str s) {
    char *out = arena_alloc_aligned(a, s.len + 1, 1);
    if (out && s.len) memcpy(out, s.ptr, s.len);
    return out;
}
