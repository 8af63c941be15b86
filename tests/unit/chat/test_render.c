/* The interpreter's side of tests/e2e/test_random_templates.py: ORIEL_RENDER names a file of lines
 * {"template": "…", "vars": {…}}, and ORIEL_RENDER_OUT gets {"text": "…"} or {"error": "…"} for each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "chat/jinja.h"

enum { NOON_2025_07_26 = 1753531200 };

static void render(const json_t *line, FILE *out) {
    static const jinja_opts at_noon = {.now_unix_s = NOON_2025_07_26};
    error err = {0};
    jinja_output made = {0};
    jinja *t = jinja_parse(json_str(json_object_get(line, "template")), &err);
    bool ok = t && jinja_render(t, json_object_get(line, "vars"), &at_noon, &made, &err);
    json_t *said = ok ? json_pack("{s:o}", "text",
                                  json_stringn(made.text.ptr ? made.text.ptr : "", made.text.len))
                      : json_pack("{s:s}", "error", err.message);
    if (!said) said = json_pack("{s:s}", "error", "what was rendered is no UTF-8");
    json_dumpf(said, out, JSON_COMPACT);
    fputc('\n', out);
    json_decref(said);
    jinja_output_deinit(&made);
    jinja_free(t);
}

static void test_render(void **state) {
    (void)state;
    const char *in = getenv("ORIEL_RENDER"), *to = getenv("ORIEL_RENDER_OUT");
    if (!in || !*in || !to || !*to) skip();
    FILE *f = fopen(in, "r"), *out = fopen(to, "w");
    assert_non_null(f);
    assert_non_null(out);
    char *text = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&text, &cap, f)) > 0;) {
        json_t *line = json_loadb(text, (size_t)n, JSON_ALLOW_NUL, NULL);
        assert_non_null(line);
        render(line, out);
        json_decref(line);
    }
    free(text);
    fclose(f);
    assert_int_equal(fclose(out), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_render)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
