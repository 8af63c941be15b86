/* Schemas and grammars of others, with texts that belong and texts that do not: every one of either
 * kind is told apart, in two spellings, for every schema that compiles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <cmocka.h>

#include "corpus.h"
#include "sample/grammar.h"

typedef struct tally {
    int n, n_compiled, n_texts, n_wrong;
} tally;

/* The same value with blanks around everything outside of strings. */
static void spread(buf *out, str text) {
    bool inside = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool mark = !inside && c && strchr("{}[],:", c);
        if (mark) buf_append_cstr(out, "\r\n ");
        buf_append_char(out, c);
        if (mark) buf_append_cstr(out, "\t");
        if (c == '"') inside = !inside;
        if (c == '\\') buf_append_char(out, text.ptr[++i]);
    }
}

static void check_value(tally *t, const grammar *g, const char *name, json_t *value, bool want) {
    buf compact = {0}, wide = {0};
    json_out j = json_begin(&compact);
    json_put_value(&j, value);
    spread(&wide, buf_str(&compact));
    const buf *both[2] = {&compact, &wide};
    for (int i = 0; i < 2; i++) {
        t->n_texts++;
        if (grammar_accepts(g, buf_str(both[i])) == want) continue;
        t->n_wrong++;
        print_message("# %s: should be %s: %.200s\n", name, want ? "valid" : "invalid",
                      both[i]->ptr);
    }
    buf_deinit(&compact);
    buf_deinit(&wide);
}

static void check_schema(tally *t, const char *name, json_t *schema, json_t *tests) {
    error err = {0};
    t->n++;
    grammar *g = grammar_from_schema(schema, NULL, &err);
    if (!g) {
        assert_true(err.code == ERR_UNSUPPORTED_VALUE || err.code == ERR_INVALID_VALUE);
        return;
    }
    t->n_compiled++;
    for (size_t i = 0; i < json_array_size(tests); i++) {
        json_t *one = json_array_get(tests, i), *data = json_object_get(one, "data");
        /* A leap second at another offset than UTC's is a valid time that is refused: documented. */
        if (str_find(json_str(data), STR(":60"), 0) >= 0) continue;
        bool want = json_is_true(json_object_get(one, "valid"));
        /* A host name in IDNA's letters is never written: documented. */
        if (want && str_starts(json_str(data), STR("xn--"))) continue;
        check_value(t, g, name, data, want);
    }
    grammar_unref(g);
}

static int list_json(const char *folder, char (**names)[128]) {
    char path[1600];
    snprintf(path, sizeof path, "%s/%s", corpus_dir(), folder);
    DIR *d = opendir(path);
    if (!d) return 0;
    int n = 0;
    *names = NULL;
    for (struct dirent *e; (e = readdir(d));) {
        if (!str_ends(str_from(e->d_name), STR(".json"))) continue;
        *names = realloc(*names, (size_t)(n + 1) * sizeof **names);
        snprintf((*names)[n++], sizeof **names, "%s", e->d_name);
    }
    closedir(d);
    return n;
}

static void test_maskbench(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    char(*names)[128] = NULL;
    int n = list_json("schemas/maskbench", &names);
    tally t = {0};
    for (int i = 0; i < n; i++) {
        json_t *d = corpus_json("schemas/maskbench/%s", names[i]);
        check_schema(&t, names[i], json_object_get(d, "schema"), json_object_get(d, "tests"));
        json_decref(d);
    }
    free(names);
    print_message("# MaskBench sample: %d of %d compile, %d texts, %d wrong\n", t.n_compiled, t.n,
                  t.n_texts, t.n_wrong);
    assert_true(t.n > 100);
    assert_int_equal(t.n_wrong, 0);
    assert_true(t.n_compiled * 100 >= t.n * 95);
}

static void test_suite(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    static const char *const FOLDERS[] = {"draft2020-12", "draft7", "draft2020-12/optional",
                                          "draft2020-12/optional/format", "draft7/optional/format"};
    tally t = {0};
    for (size_t f = 0; f < sizeof FOLDERS / sizeof *FOLDERS; f++) {
        char folder[200], (*names)[128] = NULL;
        snprintf(folder, sizeof folder, "schemas/JSON-Schema-Test-Suite/tests/%s", FOLDERS[f]);
        int n = list_json(folder, &names);
        bool is_old = strncmp(FOLDERS[f], "draft7", 6) == 0,
             is_format = strstr(FOLDERS[f], "format");
        for (int i = 0; i < n; i++) {
            /* There formats are annotations; here they are enforced, as in optional/format. */
            if (!is_format && strcmp(names[i], "format.json") == 0) continue;
            json_t *groups = corpus_json("%s/%s", folder, names[i]);
            for (size_t k = 0; k < json_array_size(groups); k++) {
                json_t *g = json_array_get(groups, k), *schema = json_object_get(g, "schema");
                if (is_old && json_is_object(schema) && !json_object_get(schema, "$schema"))
                    json_object_set_new(schema, "$schema",
                                        json_string("http://json-schema.org/draft-07/schema#"));
                char name[400];
                snprintf(name, sizeof name, "%s/%s: %s", FOLDERS[f], names[i],
                         json_string_value(json_object_get(g, "description")));
                check_schema(&t, name, schema, json_object_get(g, "tests"));
            }
            json_decref(groups);
        }
        free(names);
    }
    print_message("# JSON Schema Test Suite: %d of %d compile, %d texts, %d wrong\n", t.n_compiled,
                  t.n, t.n_texts, t.n_wrong);
    assert_true(t.n > 100);
    assert_int_equal(t.n_wrong, 0);
}

static int count_wrong(const grammar *g, const char *name, json_t *texts, bool want, int *n) {
    int wrong = 0;
    for (size_t i = 0; i < json_array_size(texts); i++, ++*n) {
        str s = json_str(json_array_get(texts, i));
        if (grammar_accepts(g, s) == want) continue;
        print_message("# %s: should be %s: %.*s\n", name, want ? "accepted" : "refused",
                      STR_ARG(s));
        wrong++;
    }
    return wrong;
}

static void check_strings(const char *from, const char *key, bool is_schema) {
    json_t *all = corpus_json("schemas/%s", from);
    int n = 0, wrong = 0;
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *one = json_array_get(all, i);
        str source = json_str(json_object_get(one, key));
        const char *name = json_string_value(json_object_get(one, "desc"));
        error err = {0};
        json_t *schema =
            is_schema ? json_loadb(source.ptr, source.len, JSON_DECODE_ANY, NULL) : NULL;
        grammar *g = is_schema ? grammar_from_schema(schema, NULL, &err)
                               : grammar_from_gbnf(source, NULL, &err);
        if (!g) fail_msg("%s: %s", name, err.message);
        wrong += count_wrong(g, name, json_object_get(one, "accept"), true, &n);
        if (!is_schema) wrong += count_wrong(g, name, json_object_get(one, "reject"), false, &n);
        grammar_unref(g);
        json_decref(schema);
    }
    print_message("# %s: %d texts, %d wrong\n", from, n, wrong);
    assert_true(n > 10);
    assert_int_equal(wrong, 0);
    json_decref(all);
}

static void test_gbnf_strings(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    check_strings("llamacpp_gbnf_strings.json", "grammar", false);
}

/* What a validator says decides, not what that other compiler does. */
static void test_other_schemas(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    json_t *all = corpus_json("schemas/xgrammar_accept_reject.json");
    tally t = {0};
    for (size_t i = 0; i < json_array_size(all); i++) {
        json_t *one = json_array_get(all, i), *valid = json_object_get(one, "jsonschema_valid");
        str kind = json_str(json_object_get(one, "kind")),
            text = json_str(json_object_get(one, "instance"));
        error err = {0};
        grammar *g = NULL;
        bool want;
        /* A key that comes twice is refused here: JSON Schema does not say. */
        json_t *parsed = json_loadb(text.ptr, text.len, JSON_DECODE_ANY, NULL),
               *strict =
                   json_loadb(text.ptr, text.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
        bool is_double = parsed && !strict;
        json_decref(parsed);
        json_decref(strict);
        if (is_double) continue;
        if (str_is(kind, "json_schema") && json_is_boolean(valid)) {
            json_t *schema = json_loads(json_string_value(json_object_get(one, "schema")),
                                        JSON_DECODE_ANY, NULL);
            g = grammar_from_schema(schema, NULL, &err);
            want = json_is_true(valid);
            json_decref(schema);
        } else if (str_is(kind, "regex")) {
            json_t *pattern = json_object_get(one, "regex");
            if (!pattern) pattern = json_object_get(one, "grammar");
            g = grammar_from_regex(json_str(pattern), NULL, &err);
            want = json_is_true(json_object_get(one, "accepted"));
        } else
            continue;
        t.n++;
        if (!g) continue;
        t.n_compiled++;
        t.n_texts++;
        if (grammar_accepts(g, text) != want) {
            t.n_wrong++;
            print_message("# %.*s: should be %s\n", STR_ARG(text), want ? "accepted" : "refused");
        }
        grammar_unref(g);
    }
    print_message(
        "# schemas and patterns of another compiler's tests: %d of %d compile, %d wrong\n",
        t.n_compiled, t.n, t.n_wrong);
    assert_true(t.n > 100 && t.n_compiled * 100 >= t.n * 95);
    assert_int_equal(t.n_wrong, 0);
    json_decref(all);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_maskbench),
        cmocka_unit_test(test_suite),
        cmocka_unit_test(test_gbnf_strings),
        cmocka_unit_test(test_other_schemas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
