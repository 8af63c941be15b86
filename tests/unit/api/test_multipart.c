/* multipart/form-data: what browsers and SDKs send, what is malformed, what is too much. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/multipart.h"

static multipart m;
static error err;

static bool parse(const char *type, const char *body) {
    err = (error){0};
    return multipart_parse(type, str_from(body), &m, &err);
}
#define TYPE              "multipart/form-data; boundary=xy"
#define PART(head, body)  "--xy\r\n" head "\r\n\r\n" body "\r\n"
#define NAMED(name, body) PART("Content-Disposition: form-data; name=\"" name "\"", body)

static void parts_are_found(void **state) {
    (void)state;
    assert_true(
        parse(TYPE, NAMED("a", "1") PART("content-disposition:form-data;filename=\"x/y\\\"z.bin\"; "
                                         "name=file\r\nContent-Type: text/x ",
                                         "two\r\nlines\r\n--x") NAMED("empty", "") "--xy--\r\n"));
    assert_int_equal(m.n, 3);
    assert_true(str_is(multipart_find(&m, "a")->body, "1"));
    const multipart_part *p = multipart_find(&m, "file");
    assert_string_equal(p->filename, "y\"z.bin");
    assert_true(str_is(p->body, "two\r\nlines\r\n--x") && str_is(p->type, "text/x"));
    assert_int_equal(multipart_find(&m, "empty")->body.len, 0);
    assert_null(multipart_find(&m, "none"));
    /* A preamble, a quoted boundary, blanks behind the boundary, no line end at the end. */
    assert_true(
        parse("Multipart/Form-Data; charset=x; boundary=\"x y\"",
              "hello\r\n--x y \t\r\nContent-Disposition: form-data; name=a\r\n\r\nb\r\n--x y--"));
    assert_true(str_is(multipart_find(&m, "a")->body, "b"));
    assert_true(parse(TYPE, "--xy--"));
    assert_int_equal(m.n, 0);
}

static void malformed_bodies_are_refused(void **state) {
    (void)state;
    static const char *const bodies[] = {
        "",
        "nothing",
        "--xy",
        "--xyz\r\n",
        "--xy\r\n",
        NAMED("a", "1"),
        "--xy\r\nContent-Disposition: form-data; name=\"a\"\r\n--xy--\r\n", /* headers without end */
        PART("Content-Type: x", "1") "--xy--",                              /* no name */
        PART("Content-Disposition: attachment; name=a", "1") "--xy--",
        PART("Content-Disposition: form-data; name=\"\xff\"", "1") "--xy--",
        PART("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64",
             "1") "--xy--",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        if (parse(TYPE, bodies[i])) fail_msg("accepted: %s", bodies[i]);
        assert_int_equal(err.code, ERR_MALFORMED);
    }
    assert_false(parse(NULL, NAMED("a", "1") "--xy--"));
    assert_false(parse("application/json", "{}"));
    assert_int_equal(err.code, ERR_INVALID_TYPE);
    assert_false(parse("multipart/form-data", "--xy--"));
    assert_false(parse("multipart/form-data; boundary=", "--xy--"));
    char long_boundary[200];
    snprintf(long_boundary, sizeof long_boundary, "multipart/form-data; boundary=%0100d", 1);
    assert_false(parse(long_boundary, "--x"));
}

static void there_are_limits(void **state) {
    (void)state;
    char *body = calloc(1, 100000);
    for (int i = 0; i <= MULTIPART_MAX_PARTS; i++) strcat(body, NAMED("a", "1"));
    strcat(body, "--xy--");
    assert_false(parse(TYPE, body));
    assert_int_equal(err.code, ERR_ARRAY_ABOVE_MAX);
    strcpy(body, "--xy\r\nContent-Disposition: form-data; name=a\r\nX: ");
    memset(body + strlen(body), 'x', MULTIPART_MAX_HEADERS);
    strcat(body, "\r\n\r\n1\r\n--xy--");
    assert_false(parse(TYPE, body));
    strcpy(body, "--xy\r\nContent-Disposition: form-data; name=");
    memset(body + strlen(body), 'n', MULTIPART_MAX_NAME + 1);
    strcat(body, "\r\n\r\n1\r\n--xy--");
    assert_false(parse(TYPE, body));
    free(body);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(parts_are_found),
        cmocka_unit_test(malformed_bodies_are_refused),
        cmocka_unit_test(there_are_limits),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
