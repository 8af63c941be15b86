#include "torture.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OWN_MALLOC 0
#else
#define OWN_MALLOC 1
#endif

static atomic_llong countdown; /* 0 = disarmed */
static atomic_bool all_after, fired;
static atomic_llong live;

void torture_arm(int64_t nth, bool and_all_after) {
    atomic_store(&fired, false);
    atomic_store(&all_after, and_all_after);
    atomic_store(&countdown, nth);
}
bool torture_disarm(void) {
    atomic_store(&countdown, 0);
    return atomic_load(&fired);
}
int64_t torture_live_blocks(void) {
    return atomic_load(&live);
}
bool torture_is_available(void) {
    return OWN_MALLOC;
}

#if OWN_MALLOC
/* glibc's own entry points, for programs that put theirs in front. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);
void __libc_free(void *);

static bool must_fail(void) {
    if (atomic_load_explicit(&countdown, memory_order_relaxed) <= 0) return false;
    if (atomic_fetch_sub(&countdown, 1) != 1) return false;
    if (atomic_load(&all_after)) atomic_store(&countdown, 1);
    atomic_store(&fired, true);
    errno = ENOMEM;
    return true;
}

static void *count(void *p) {
    if (p) atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    return p;
}

void *malloc(size_t n) {
    return must_fail() ? NULL : count(__libc_malloc(n));
}
void *calloc(size_t n, size_t size) {
    return must_fail() ? NULL : count(__libc_calloc(n, size));
}
void *memalign(size_t align, size_t n);
void *memalign(size_t align, size_t n) {
    return must_fail() ? NULL : count(__libc_memalign(align, n));
}
void *aligned_alloc(size_t align, size_t n) {
    return memalign(align, n);
}
int posix_memalign(void **out, size_t align, size_t n) {
    void *p = memalign(align, n);
    if (!p) return ENOMEM;
    *out = p;
    return 0;
}
void *realloc(void *old, size_t n) {
    if (must_fail()) return NULL;
    void *p = __libc_realloc(old, n);
    if (!old) return count(p);
    if (n == 0 && !p) atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed); /* freed */
    return p;
}
void free(void *p) {
    if (p) atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
    __libc_free(p);
}
#endif

int torture_run(torture_fn *fn, void *ctx) {
    if (!OWN_MALLOC) return TORTURE_UNAVAILABLE;
    if (!fn(ctx)) return TORTURE_NEVER_WORKS;
    int injected = 0;
    for (int after = 0; after < 2; after++)
        for (int64_t nth = 1;; nth++) {
            int64_t before = torture_live_blocks();
            torture_arm(nth, after);
            bool ok = fn(ctx);
            bool failed_one = torture_disarm();
            if (torture_live_blocks() != before) return TORTURE_LEAK;
            if (!failed_one && !ok) return TORTURE_NEVER_WORKS;
            if (!failed_one) break;
            injected++;
        }
    return injected;
}
