/* Block sizes against the table of the quantised corpus. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/dtype.h"
#include "base/json.h"

static void test_rows(void **state) {
    (void)state;
    uint64_t n;
    assert_true(dtype_row_bytes(DTYPE_Q4_K, 512, &n) && n == 288);
    assert_true(dtype_row_bytes(DTYPE_MXFP4, 2880, &n) && n == 1530);
    assert_true(dtype_row_bytes(DTYPE_F32, 0, &n) && n == 0);
    assert_false(dtype_row_bytes(DTYPE_Q4_K, 128, &n));
    assert_false(dtype_row_bytes(DTYPE_F64, 1ull << 61, &n));
    assert_false(dtype_row_bytes((dtype)4, 32, &n));
    static const uint32_t unknown[] = {4, 5, 31, 32, 33, 36, 37, 38, DTYPE_COUNT, UINT32_MAX};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        assert_null(dtype_get(unknown[i]));
    int known = 0;
    for (uint32_t t = 0; t < DTYPE_COUNT; t++) {
        const dtype_info *d = dtype_get(t);
        if (!d) continue;
        known++;
        assert_true(d->block_len > 0 && d->block_bytes > 0);
        for (uint32_t o = 0; o < t; o++)
            assert_true(!dtype_get(o) || strcmp(dtype_get(o)->name, d->name) != 0);
    }
    assert_int_equal(known, 35);
}

static void test_corpus(void **state) {
    (void)state;
    const char *corpus = getenv("ORIEL_CORPUS");
    if (!corpus) skip();
    char path[4096];
    buf b = {0};
    snprintf(path, sizeof path, "%s/models/quant_oracle/index.json", corpus);
    int fd = open(path, O_RDONLY);
    assert_true(fd >= 0 && buf_read_fd(&b, fd));
    close(fd);
    json_t *rows = json_parse(buf_str(&b), NULL);
    assert_true(json_array_size(rows) >= 28);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *r = json_array_get(rows, i);
        const dtype_info *d = dtype_get((uint32_t)json_integer_value(json_object_get(r, "id")));
        uint64_t n;
        assert_non_null(d);
        assert_true(str_is(json_str(json_object_get(r, "type")), d->name));
        assert_int_equal(d->block_len, json_integer_value(json_object_get(r, "block")));
        assert_int_equal(d->block_bytes, json_integer_value(json_object_get(r, "type_size")));
        assert_true(
            dtype_row_bytes((dtype)json_integer_value(json_object_get(r, "id")), 4 * 512, &n));
        assert_int_equal(n, json_integer_value(json_object_get(r, "bytes")));
    }
    json_decref(rows);
    buf_deinit(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_rows), cmocka_unit_test(test_corpus)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
