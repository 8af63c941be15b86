#include "engine/guard.h"

#ifdef ORIEL_DEBUG

#include <stdbool.h>
#include <stdlib.h>

static _Thread_local bool is_guarded;

void guard_enter(void) {
    is_guarded = true;
}
void guard_leave(void) {
    is_guarded = false;
}

/* The stack of the trap names who allocated. */
static void check(void) {
    if (is_guarded) __builtin_trap();
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));
static void on_malloc(const volatile void *p, size_t n) {
    (void)p;
    (void)n;
    check();
}
static void on_free(const volatile void *p) {
    (void)p;
}
void guard_install(void) {
    static bool done;
    if (__atomic_exchange_n(&done, true, __ATOMIC_RELAXED)) return;
    __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
}
#else
void *__libc_malloc(size_t n);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t n);
__attribute__((weak)) void *malloc(size_t n) {
    check();
    return __libc_malloc(n);
}
__attribute__((weak)) void *calloc(size_t n, size_t size) {
    check();
    return __libc_calloc(n, size);
}
__attribute__((weak)) void *realloc(void *p, size_t n) {
    check();
    return __libc_realloc(p, n);
}
void guard_install(void) {}
#endif
#endif
