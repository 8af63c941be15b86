/* Counting: what is counted, when, and that the program says so when it cannot count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/heap.h"

#ifdef __SANITIZE_THREAD__
enum { SEEN = 3 }; /* its runtime calls no hook for aligned_alloc */
#else
enum { SEEN = 4 };
#endif

static void test_count(void **state) {
    (void)state;
    if (!heap_install()) skip(); /* this program's own malloc is in front */
    void *(*volatile allocate)(size_t) = malloc;
    uint64_t before = heap_n_allocs();
    free(allocate(10));
    assert_int_equal(heap_n_allocs(), before); /* off */
    heap_count(true);
    void *volatile p = allocate(10);
    p = realloc(p, 1000);
    free(p);
    p = calloc(3, 4);
    free(p);
    p = aligned_alloc(64, 128);
    free(p);
    heap_count(false);
    assert_int_equal(heap_n_allocs(), before + SEEN);
    free(allocate(10));
    assert_int_equal(heap_n_allocs(), before + SEEN);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_count)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
