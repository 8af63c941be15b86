/* Every block format of the corpus, bit for bit against its dequantised floats; and the scalar
 * number formats against properties that define them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kern/kern.h"
#include "kern/num.h"

static void *read_file(const char *dir, const char *name, const char *suffix, size_t *size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/models/quant_oracle/%s%s", dir, name, suffix);
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    void *data = malloc(1 << 20);
    assert_non_null(data);
    *size = fread(data, 1, 1 << 20, f);
    fclose(f);
    return data;
}

static void test_corpus(void **state) {
    (void)state;
    const char *corpus = getenv("ORIEL_CORPUS");
    if (!corpus) skip();
    int n_types = 0;
    for (int t = 0; t < DTYPE_COUNT; t++) {
        const dtype_info *info = dtype_get((uint32_t)t);
        size_t n_bytes = 0, want_bytes = 0;
        void *blocks = info ? read_file(corpus, info->name, ".bin", &n_bytes) : NULL;
        if (!blocks) continue;
        float *want = read_file(corpus, info->name, ".dequant.f32", &want_bytes);
        assert_non_null(want);
        int64_t n = (int64_t)(n_bytes / info->block_bytes * info->block_len);
        assert_int_equal(n * 4, want_bytes);
        float *got = malloc(want_bytes);
        assert_true(kern_dequantize((dtype)t, n, blocks, got));
        for (int64_t i = 0; i < n; i++) {
            /* +0 and -0 are the same weight; numpy's references differ in it */
            if (num_bits(got[i]) != num_bits(want[i]) && !(got[i] == 0 && want[i] == 0))
                fail_msg("%s[%lld]: %.9g, expected %.9g", info->name, (long long)i, got[i],
                         want[i]);
        }
        n_types++;
        free(got);
        free(want);
        free(blocks);
    }
    assert_int_equal(n_types, 28);
}

static void test_refuses(void **state) {
    (void)state;
    float out[64];
    uint8_t block[256] = {0};
    assert_false(kern_dequantize(DTYPE_Q4_0, 33, block, out));
    assert_false(kern_dequantize(DTYPE_I32, 1, block, out));
    assert_false(kern_dequantize((dtype)5, 32, block, out));
    assert_false(kern_dequantize((dtype)4000, 32, block, out));
    assert_true(kern_dequantize(DTYPE_Q4_0, 0, block, out));
}

static void test_half(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x10000; h++) {
        float f = num_f16((uint16_t)h);
        if (f != f) continue;
        assert_int_equal(num_to_f16(f), h);
        _Float16 native;
        memcpy(&native, &h, 2);
        assert_true((float)native == f);
    }
    uint32_t s = 1;
    for (int i = 0; i < 2000000; i++) {
        s = s * 1664525 + 1013904223;
        float f = num_from_bits(s ^ s >> 15);
        if (f != f) continue;
        _Float16 native = (_Float16)f;
        assert_int_equal(num_to_f16(f), num_u16(&native));
        float back = num_bf16(num_to_bf16(f));
        if (back == back && !isinf(back))
            assert_true(fabsf(back - f) <= fabsf(f) * 0x1p-8f + 0x1p-134f);
    }
    assert_int_equal(num_to_bf16(NAN) & 0x7fc0, 0x7fc0);
    assert_true(num_e8m0_half(128) == 1.0f && num_e8m0_half(0) == 0x1p-128f &&
                num_e8m0_half(1) == 0x1p-127f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus),
        cmocka_unit_test(test_refuses),
        cmocka_unit_test(test_half),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
