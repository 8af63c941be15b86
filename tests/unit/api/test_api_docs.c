/* docs/API.md is what the tables say. With ORIEL_WRITE_DOCS=1 it is written (`make docs`). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/docs.h"
#include "api/routes.h"

static void docs_are_current(void **state) {
    (void)state;
    buf want = {0};
    api_render_docs(&want);
    assert_false(want.failed);
    if (getenv("ORIEL_WRITE_DOCS")) {
        FILE *f = fopen("docs/API.md", "w");
        assert_non_null(f);
        assert_int_equal(fwrite(want.ptr, 1, want.len, f), want.len);
        fclose(f);
    }
    FILE *f = fopen("docs/API.md", "r");
    if (!f) fail_msg("docs/API.md cannot be opened: run this from the repository's top");
    char *have = calloc(1, want.len + 2);
    size_t n = fread(have, 1, want.len + 1, f);
    fclose(f);
    if (n != want.len || memcmp(have, want.ptr, n) != 0)
        fail_msg("docs/API.md is not current: run `make docs`");
    free(have);
    buf_deinit(&want);
}

static void every_handler_can_be_reached(void **state) {
    (void)state;
    route_row row;
    size_t n = 0;
    for (; route_get_handler(n, &row); n++) {
        char path[200], *to = path;
        for (const char *p = row.path; *p; p++)
            if (*p == '{') {
                *to++ = 'x';
                p += strcspn(p, "}");
            } else
                *to++ = *p;
        *to = 0;
        route_match m = route_find(row.methods, path);
        if (m.found != ROUTE_OK) fail_msg("%s %s", row.methods, path);
        if (strchr(row.path, '{')) assert_true(str_is(m.arg, "x") || m.arg.len == 0);
        assert_int_equal(route_find("PATCH", path).found, ROUTE_WRONG_METHOD);
    }
    assert_true(n > 30);
    for (n = 0; route_get_spec(n, &row); n++) continue;
    assert_true(n > 150);
}

static void special_paths_win_over_ids(void **state) {
    (void)state;
    route_match m = route_find("POST", "/v1/responses/compact"), id;
    assert_int_equal(m.found, ROUTE_OK);
    id = route_find("GET", "/v1/responses/resp_1");
    assert_int_equal(id.found, ROUTE_OK);
    assert_true(str_is(id.arg, "resp_1") && id.handler != m.handler);
    id = route_find("GET", "/v1/conversations/conv_1/items/item_2");
    assert_true(id.found == ROUTE_OK && str_is(id.arg, "conv_1"));
    m = route_find("PUT", "/v1/files/f");
    assert_int_equal(m.found, ROUTE_WRONG_METHOD);
    assert_non_null(strstr(m.allow, "GET"));
    assert_non_null(strstr(m.allow, "DELETE"));
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(docs_are_current),
        cmocka_unit_test(every_handler_can_be_reached),
        cmocka_unit_test(special_paths_win_over_ids),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
