/* A bump allocator for one lifetime (a request, a loaded file, a step), freed
 * in one go. Has a cap in bytes and fails stickily: after a failure every
 * arena_alloc returns NULL, so a builder may check once. Zeroed memory.
 * Not thread-safe: one owner.
 */
#ifndef BASE_ARENA_H
#define BASE_ARENA_H

#include "base/str.h"

typedef struct arena_chunk arena_chunk;

typedef struct arena {
    arena_chunk *head;
    size_t used, cap; /* bytes handed out; 0 cap = no limit */
    bool failed;
    bool no_memory; /* it failed because the system gave none, not because of the cap */
} arena;

void arena_init(arena *a, size_t cap_bytes);
void arena_deinit(arena *a);
/* Forgets everything but keeps the newest chunk for reuse; clears `failed`. */
void arena_reset(arena *a);
/* align is a power of two ≤ 4096. size 0 gives a valid unique pointer. */
void *arena_alloc_aligned(arena *a, size_t size, size_t align);
static inline void *arena_alloc(arena *a, size_t size) {
    return arena_alloc_aligned(a, size, _Alignof(max_align_t));
}
/* n × size with overflow check. */
void *arena_array(arena *a, size_t n, size_t size);
/* NUL-terminated copy. */
char *arena_dup(arena *a, str s);

#endif
