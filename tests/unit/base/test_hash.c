/* Hashing and counter-based draws: stable values, avalanche, uniformity. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/hash.h"

/* Written down once: cache files and seeds depend on these staying what they are. */
static void test_stable(void **state) {
    (void)state;
    assert_true(hash_mix(0) == 0xE220A8397B1DCDAFull); /* SplitMix64's first output for seed 0 */
    assert_true(hash_mix(0x9E3779B97F4A7C15ull) == 0x6E789E6AA1B965F4ull);
    assert_true(hash_mix(0x3C6EF372FE94F82Aull) == 0x06C45D188009454Full);
    assert_true(hash_str((str){0}) == hash_str(STR("")));
    assert_true(hash_str(STR("a")) != hash_str(STR("a\0")));
    assert_true(hash_bytes("abc", 3, 1) != hash_bytes("abc", 3, 2));
    assert_true(hash_combine(1, 2) != hash_combine(2, 1));
}

static void test_no_tail_is_ignored(void **state) {
    (void)state;
    unsigned char bytes[40] = {0};
    for (size_t len = 1; len <= sizeof bytes; len++) {
        uint64_t h = hash_bytes(bytes, len, 0);
        for (size_t bit = 0; bit < len * 8; bit++) {
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
            if (hash_bytes(bytes, len, 0) == h)
                fail_msg("bit %zu of %zu bytes does not matter", bit, len);
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
        }
        assert_true(hash_bytes(bytes, len, 0) == h);
        assert_true(hash_bytes(bytes, len - 1, 0) != h);
    }
}

/* One input bit flips half of the output bits on average. */
static void test_avalanche(void **state) {
    (void)state;
    for (int bit = 0; bit < 64; bit++) {
        int flips = 0;
        enum { N = 2000 };
        for (uint64_t i = 0; i < N; i++)
            flips += __builtin_popcountll(hash_mix(i) ^ hash_mix(i ^ 1ull << bit));
        double mean = (double)flips / N;
        if (mean < 31 || mean > 33) fail_msg("bit %d flips %.2f bits", bit, mean);
    }
}

static void test_uniform(void **state) {
    (void)state;
    enum { N = 200000, BINS = 100 };
    int bins[BINS] = {0};
    for (uint64_t i = 0; i < N; i++) {
        double u = rng_uniform_at(7, i);
        assert_true(u >= 0 && u < 1);
        bins[(int)(u * BINS)]++;
        if (rng_uniform_at(7, i) != u || rng_at(7, i) == rng_at(8, i)) fail_msg("draw %d", (int)i);
    }
    double chi2 = 0, want = (double)N / BINS;
    for (int i = 0; i < BINS; i++) chi2 += (bins[i] - want) * (bins[i] - want) / want;
    assert_true(chi2 > 55 && chi2 < 160); /* 99 degrees of freedom: both tails below 1 in 5000 */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stable),
        cmocka_unit_test(test_no_tail_is_ignored),
        cmocka_unit_test(test_avalanche),
        cmocka_unit_test(test_uniform),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
