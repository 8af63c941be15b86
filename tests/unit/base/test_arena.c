/* The arena: zeroed, aligned, disjoint, capped, sticky. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "base/arena.h"
#include "base/hash.h"
#include "torture.h"

static void test_disjoint_and_zeroed(void **state) {
    (void)state;
    arena a;
    arena_init(&a, 0);
    for (int round = 0; round < 3; round++) {
        enum { N = 2000 };
        static unsigned char *ptr[N];
        static size_t size[N];
        size_t used = 0;
        for (size_t i = 0; i < N; i++) {
            uint64_t r = rng_at((uint64_t)round, i);
            size_t align = (size_t)1 << r % 13;
            size[i] = r >> 8 & (r & 0x80000000 ? 0xFFFF : 0x3F);
            ptr[i] = arena_alloc_aligned(&a, size[i], align);
            assert_non_null(ptr[i]);
            assert_int_equal((uintptr_t)ptr[i] % align, 0);
            for (size_t k = 0; k < size[i]; k++)
                if (ptr[i][k]) fail_msg("not zeroed");
            memset(ptr[i], (int)(i % 255 + 1), size[i]);
            used += size[i] ? size[i] : 1;
        }
        assert_int_equal(a.used, used);
        for (size_t i = 0; i < N; i++)
            for (size_t k = 0; k < size[i]; k++)
                if (ptr[i][k] != i % 255 + 1) fail_msg("allocation %zu was overwritten", i);
        arena_reset(&a);
        assert_int_equal(a.used, 0);
    }
    void *x = arena_alloc(&a, 0), *y = arena_alloc(&a, 0);
    assert_true(x && y && x != y);
    assert_string_equal(arena_dup(&a, STR("text")), "text");
    assert_string_equal(arena_dup(&a, (str){0}), "");
    arena_deinit(&a);
    arena_deinit(&a);
}

static void test_cap_is_sticky(void **state) {
    (void)state;
    arena a;
    arena_init(&a, 100);
    assert_non_null(arena_alloc(&a, 60));
    assert_null(arena_alloc(&a, 41));
    assert_true(a.failed);
    assert_null(arena_alloc(&a, 1));
    assert_null(arena_dup(&a, STR("")));
    arena_reset(&a);
    assert_false(a.failed);
    assert_non_null(arena_alloc(&a, 100));
    assert_null(arena_alloc(&a, 1));
    arena_deinit(&a);
    arena_init(&a, 0);
    assert_null(arena_array(&a, SIZE_MAX / 2, 3));
    assert_true(a.failed);
    arena_reset(&a);
    assert_null(arena_alloc(&a, SIZE_MAX));
    arena_reset(&a);
    assert_null(arena_alloc(&a, SIZE_MAX / 2));
    arena_deinit(&a);
}

static bool fill_once(void *ctx) {
    (void)ctx;
    arena a;
    arena_init(&a, 0);
    for (size_t i = 0; i < 200; i++) {
        char *p = arena_alloc(&a, i * 100);
        if (p) memset(p, 1, i * 100);
    }
    bool ok = !a.failed;
    arena_deinit(&a);
    return ok;
}

static void test_no_memory(void **state) {
    (void)state;
    if (!torture_is_available()) skip();
    assert_in_range(torture_run(fill_once, NULL), 4, 1000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_disjoint_and_zeroed),
        cmocka_unit_test(test_cap_is_sticky),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
