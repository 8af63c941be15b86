/* Grammars written by hand, with texts that do and do not belong: grammar_cases.json beside this file, each row
 * {"syntax", "name", "grammar", "accept", "reject"} or, where the grammar is refused, "error": words of the
 * sentence. Lark's rows are held against Lark itself by tests/e2e/test_grammar_cases.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "sample/grammar.h"

static const char CASES[] = "tests/unit/sample/grammar_cases.json";

static int check_texts(const grammar *g, const char *name, const json_t *texts, bool want) {
    int n_wrong = 0;
    for (size_t i = 0; i < json_array_size(texts); i++) {
        str text = json_str(json_array_get(texts, i));
        if (grammar_accepts(g, text) == want) continue;
        print_message("# %s: should be %s: %.*s\n", name, want ? "accepted" : "refused",
                      STR_ARG(text));
        n_wrong++;
    }
    return n_wrong;
}

static int check_row(const json_t *row) {
    const char *name = json_string_value(json_object_get(row, "name"));
    str source = json_str(json_object_get(row, "grammar"));
    const char *says = json_string_value(json_object_get(row, "error"));
    bool is_lark = str_is(json_str(json_object_get(row, "syntax")), "lark");
    error err = {0};
    grammar *g = is_lark ? grammar_from_lark(source, "grammar", &err)
                         : grammar_from_gbnf(source, "grammar", &err);
    int n_wrong = 0;
    if (says) {
        bool good = !g && (err.code == ERR_INVALID_VALUE || err.code == ERR_UNSUPPORTED_VALUE) &&
                    str_find(str_from(err.message), str_from(says), 0) >= 0;
        if (!good) print_message("# %s: %s\n", name, g ? "not refused" : err.message);
        n_wrong = !good;
    } else if (!g) {
        print_message("# %s: %s\n", name, err.message);
        n_wrong = 1;
    } else {
        n_wrong = check_texts(g, name, json_object_get(row, "accept"), true) +
                  check_texts(g, name, json_object_get(row, "reject"), false);
    }
    grammar_unref(g);
    return n_wrong;
}

static void test_cases(void **state) {
    (void)state;
    json_error_t e;
    json_t *rows = json_load_file(CASES, 0, &e);
    if (!rows) fail_msg("%s: %s (run from the repository's root)", CASES, e.text);
    int n_wrong = 0;
    for (size_t i = 0; i < json_array_size(rows); i++)
        n_wrong += check_row(json_array_get(rows, i));
    print_message("# %d rows, %d wrong\n", (int)json_array_size(rows), n_wrong);
    assert_true(json_array_size(rows) > 100);
    assert_int_equal(n_wrong, 0);
    json_decref(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
