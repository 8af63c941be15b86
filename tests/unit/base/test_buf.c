/* The growable buffer: what goes in comes out, and failing is sticky. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "torture.h"

static void test_append(void **state) {
    (void)state;
    buf b = {0};
    buf_append_cstr(&b, "ab");
    buf_append_char(&b, 0);
    buf_append_str(&b, STR("c"));
    buf_append_utf8(&b, 0x20AC);
    buf_append(&b, NULL, 0);
    buf_printf(&b, "%05d|%s", 42, "");
    assert_true(str_eq(buf_str(&b), STR("ab\0c\xE2\x82\xAC"
                                        "00042|")));
    assert_int_equal(b.ptr[b.len], 0);
    for (int i = 0; i < 100000; i++) buf_append_char(&b, (char)i);
    assert_int_equal(b.len, 13 + 100000);
    assert_int_equal((unsigned char)b.ptr[13 + 777], 777 & 255);
    buf_clear(&b);
    assert_true(b.len == 0 && b.ptr[0] == 0 && b.cap > 100000);
    size_t len;
    buf_append_cstr(&b, "mine");
    char *mine = buf_take(&b, &len);
    assert_string_equal(mine, "mine");
    assert_int_equal(len, 4);
    assert_true(b.ptr == NULL && b.len == 0 && b.cap == 0);
    free(mine);
    mine = buf_take(&b, NULL); /* of an empty one: an empty string */
    assert_string_equal(mine, "");
    free(mine);
    buf_deinit(&b);
    buf_deinit(&b);
}

static void test_max_is_sticky(void **state) {
    (void)state;
    buf b = {.max = 5};
    buf_append_cstr(&b, "12345");
    assert_false(b.failed);
    buf_append(&b, "", 0);
    assert_false(b.failed);
    buf_append_char(&b, '6');
    assert_true(b.failed);
    assert_string_equal(b.ptr, "12345"); /* nothing half-written */
    buf_clear(&b);
    buf_append_cstr(&b, "123456");
    assert_true(b.failed && b.len == 0);
    buf_append_char(&b, '1'); /* would fit, but failing is sticky */
    buf_printf(&b, "1");
    assert_int_equal(b.len, 0);
    assert_null(buf_reserve(&b, 1));
    assert_null(buf_take(&b, NULL));
    assert_true(!b.failed && b.max == 5);
    buf_printf(&b, "%d", 1234567);
    assert_true(b.failed);
    buf_deinit(&b);

    buf c = {0};
    assert_null(buf_reserve(&c, SIZE_MAX));
    assert_true(c.failed);
    buf_clear(&c);
    buf_append_cstr(&c, "abc");
    assert_null(buf_reserve(&c, SIZE_MAX - 3));
    buf_clear(&c);
    assert_null(buf_reserve(&c, SIZE_MAX / 2 + 1));
    buf_deinit(&c);
}

static void test_read_fd(void **state) {
    (void)state;
    static const size_t sizes[] = {0, 1, 999, 65535, 65536, 65537, 200000};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int limit = -1; limit <= 1;
             limit++) { /* max one less than, as, one more than the content */
            if (sizes[i] + (size_t)limit + 1 <= 1) continue; /* a max of 0 is no limit */
            char path[] = "/tmp/oriel-test-XXXXXX";
            int fd = mkstemp(path);
            assert_true(fd >= 0);
            unlink(path);
            char *bytes = malloc(sizes[i] + 1);
            for (size_t k = 0; k < sizes[i]; k++) bytes[k] = (char)(k * 7);
            assert_int_equal(write(fd, bytes, sizes[i]), sizes[i]);
            assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
            buf b = {.max = sizes[i] + (size_t)limit};
            bool ok = buf_read_fd(&b, fd);
            assert_int_equal(ok, limit >= 0);
            if (ok) {
                assert_int_equal(b.len, sizes[i]);
                assert_memory_equal(b.ptr, bytes, sizes[i]);
                assert_int_equal(b.ptr[b.len], 0);
            } else
                assert_int_equal(errno, EFBIG);
            free(bytes);
            buf_deinit(&b);
            close(fd);
        }
    buf b = {0};
    assert_false(buf_read_fd(&b, -1));
    assert_int_equal(errno, EBADF);
    buf_deinit(&b);
}

static bool build_once(void *ctx) {
    (void)ctx;
    buf b = {0};
    for (int i = 0; i < 300; i++) buf_printf(&b, "%d,", i);
    bool ok = !b.failed;
    char *s = buf_take(&b, NULL);
    if (ok != (s != NULL)) fail_msg("a failed buffer gave a string, or the reverse");
    free(s);
    return ok;
}

static void test_no_memory(void **state) {
    (void)state;
    if (!torture_is_available()) skip();
    assert_in_range(torture_run(build_once, NULL), 5, 100);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append),
        cmocka_unit_test(test_max_is_sticky),
        cmocka_unit_test(test_read_fd),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
