/* Which handler a path finds: exact paths first, a slash at the end passed over, methods named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/routes.h"

static void an_exact_path_hides_one_with_a_name_in_it(void **state) {
    (void)state;
    static const char *const posts[] = {"/v1/responses/input_tokens", "/v1/responses/compact",
                                        "/v1/threads/runs", "/v1/videos/edits"};
    for (size_t i = 0; i < sizeof posts / sizeof posts[0]; i++) {
        route_match m = route_find("GET", posts[i]);
        assert_int_equal(m.found, ROUTE_WRONG_METHOD);
        assert_string_equal(m.allow, "POST");
        assert_int_not_equal(route_find("POST", posts[i]).found, ROUTE_WRONG_METHOD);
    }
    assert_int_equal(route_find("GET", "/v1/responses/resp_1").found, ROUTE_OK);
}

static void a_slash_at_the_end_changes_nothing(void **state) {
    (void)state;
    static const char *const paths[] = {"/v1/responses/resp_1", "/v1/responses/resp_1/",
                                        "/v1/files/resp_1/", "/v1/models/resp_1/"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        route_match m = route_find("GET", paths[i]);
        assert_int_equal(m.found, ROUTE_OK);
        assert_true(str_is(m.arg, "resp_1"));
    }
    assert_int_equal(route_find("GET", "/v1/models/").found, ROUTE_OK);
    assert_int_equal(route_find("GET", "/").found, ROUTE_OK);
    assert_int_equal(route_find("GET", "/v1/responses//").found, ROUTE_UNKNOWN);
    assert_true(str_is(route_find("GET", "/v1/models/a/b").arg, "a/b"));
}

static void what_is_not_made_or_not_known_says_so(void **state) {
    (void)state;
    assert_int_equal(route_find("GET", "/v1/assistants/a").found, ROUTE_NOT_IMPLEMENTED);
    assert_int_equal(route_find("DELETE", "/v1/models/m").found, ROUTE_NOT_IMPLEMENTED);
    assert_int_equal(route_find("PUT", "/v1/models/m").found, ROUTE_WRONG_METHOD);
    assert_int_equal(route_find("GET", "/assistants").found, ROUTE_UNKNOWN);
    assert_int_equal(route_find("GET", "/v2/models").found, ROUTE_UNKNOWN);
    assert_int_equal(route_find("GET", "").found, ROUTE_UNKNOWN);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_exact_path_hides_one_with_a_name_in_it),
        cmocka_unit_test(a_slash_at_the_end_changes_nothing),
        cmocka_unit_test(what_is_not_made_or_not_known_says_so),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
