/* The error value: every code has its row, the first error stays, cuts keep UTF-8 whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <string.h>

#include "base/error.h"
#include "base/str.h"

static void test_table(void **state) {
    (void)state;
    for (int c = 0; c < ERR_COUNT; c++) {
        const error_info *i = error_get_info((error_code)c);
        assert_non_null(i->type);
        if (c == ERR_NONE) {
            assert_int_equal(i->http_status, 200);
            assert_int_equal(i->exit_status, 0);
            continue;
        }
        assert_in_range(i->http_status, 400, 599);
        assert_in_range(i->exit_status, 1, 255);
        assert_true(strlen(i->type) > 5);
        /* Codes a client can avoid are its own fault; the others are the server's. */
        bool blames_client = strcmp(i->type, "invalid_request_error") == 0;
        if (blames_client) assert_in_range(i->http_status, 400, 499);
        if (i->http_status >= 500) assert_false(blames_client);
    }
    const error_info *internal = error_get_info(ERR_INTERNAL);
    assert_ptr_equal(error_get_info(ERR_COUNT), internal);
    assert_ptr_equal(error_get_info((error_code)-1), internal);
    assert_ptr_equal(error_get_info((error_code)100000), internal);
}

static void test_first_wins(void **state) {
    (void)state;
    error e = {0};
    assert_false(error_is_set(&e));
    assert_false(error_is_set(NULL));
    assert_false(error_set(&e, ERR_IO, "a.b", "First %d.", 1));
    assert_false(error_set(&e, ERR_INTERNAL, NULL, "Second."));
    assert_true(error_is_set(&e));
    assert_int_equal(e.code, ERR_IO);
    assert_string_equal(e.param, "a.b");
    assert_string_equal(e.message, "First 1.");
    assert_false(error_set(NULL, ERR_IO, NULL, "Nobody listens."));
    error_prefix(&e, "file %s", "x");
    assert_string_equal(e.message, "file x: First 1.");
    error none = {0};
    error_prefix(&none, "nothing");
    error_prefix(NULL, "nothing");
    assert_string_equal(none.message, "");
}

/* Messages and parameters of every length, built of characters of 1 to 4 bytes. */
static void test_cuts_keep_utf8(void **state) {
    (void)state;
    static const char *const chars[] = {"a", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80"};
    for (size_t k = 0; k < 4; k++)
        for (size_t lead = 0; lead < 4; lead++) {
            char text[1000];
            size_t n = 0, step = strlen(chars[k]);
            while (n < lead) text[n++] = 'x';
            for (; n + step < sizeof text; n += step) memcpy(text + n, chars[k], step);
            text[n] = 0;
            error e = {0};
            error_set(&e, ERR_IO, text, "%s", text);
            assert_true(utf8_is_valid(str_from(e.message)));
            assert_true(utf8_is_valid(str_from(e.param)));
            assert_in_range(strlen(e.message), sizeof e.message - 4, sizeof e.message - 1);
            assert_in_range(strlen(e.param), sizeof e.param - 4, sizeof e.param - 1);
            error_prefix(&e, "%s", text);
            assert_true(utf8_is_valid(str_from(e.message)));
            assert_in_range(strlen(e.message), sizeof e.message - 4, sizeof e.message - 1);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_first_wins),
        cmocka_unit_test(test_cuts_keep_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
