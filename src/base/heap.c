#include "base/heap.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

static atomic_bool is_counting;
static atomic_ullong n_allocs;
static _Thread_local bool is_forbidden;

static inline void note(void) {
    if (atomic_load_explicit(&is_counting, memory_order_relaxed))
        atomic_fetch_add_explicit(&n_allocs, 1, memory_order_relaxed);
#ifdef ORIEL_DEBUG
    if (is_forbidden) __builtin_trap();
#endif
}

void heap_count(bool on) {
    atomic_store(&is_counting, on);
}
uint64_t heap_n_allocs(void) {
    return atomic_load(&n_allocs);
}
void heap_forbid(bool on) {
    is_forbidden = on;
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));
static void on_malloc(const volatile void *p, size_t n) {
    (void)p;
    (void)n;
    note();
}
static void on_free(const volatile void *p) {
    (void)p;
}
bool heap_install(void) {
    static atomic_bool done;
    if (!atomic_exchange(&done, true))
        __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
    return true;
}
#else
/* glibc's own entry points, for programs that put theirs in front. */
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
void *__libc_memalign(size_t align, size_t n);

__attribute__((weak)) void *malloc(size_t n) {
    note();
    return __libc_malloc(n);
}
__attribute__((weak)) void *calloc(size_t n, size_t size) {
    note();
    return __libc_calloc(n, size);
}
__attribute__((weak)) void *realloc(void *p, size_t n) {
    note();
    return __libc_realloc(p, n);
}
__attribute__((weak)) void *aligned_alloc(size_t align, size_t n) {
    note();
    return __libc_memalign(align, n);
}
__attribute__((weak)) int posix_memalign(void **out, size_t align, size_t n) {
    if (align < sizeof(void *) || (align & (align - 1))) return EINVAL;
    note();
    void *p = __libc_memalign(align, n);
    if (!p) return ENOMEM;
    *out = p;
    return 0;
}
bool heap_install(void) {
    /* The compiler may not remove a pair it cannot see through. */
    void *(*volatile allocate)(size_t) = malloc;
    bool was = atomic_exchange(&is_counting, true);
    uint64_t before = heap_n_allocs();
    free(allocate(1));
    bool seen = heap_n_allocs() > before;
    atomic_store(&is_counting, was);
    return seen;
}
#endif
