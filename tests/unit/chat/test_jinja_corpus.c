/* The interpreter against oracles from outside: llama.cpp's Jinja cases, and
 * real chat templates rendered by jinja2 with transformers' settings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <fcntl.h>
#include <unistd.h>

#include "chat/jinja.h"

enum { NOON_2025_07_26 = 1753531200 };

static json_t *load(const char *name) {
    const char *corpus = getenv("ORIEL_CORPUS");
    if (!corpus || !*corpus) skip();
    char path[4096];
    snprintf(path, sizeof path, "%s/templates/%s", corpus, name);
    json_t *j = json_load_file(path, 0, NULL);
    if (!j) fail_msg("%s cannot be read", path);
    return j;
}

static const char *const vouched[] = {"bos_token", "eos_token"};
static const jinja_opts at_noon = {
    .now_unix_s = NOON_2025_07_26, .trusted = vouched, .n_trusted = 2};

static const char *member(const json_t *row, const char *key) {
    return json_string_value(json_object_get(row, key));
}

/* Renders and compares; prints where they part. */
static bool gives(const char *label, const char *source, const json_t *vars, const char *want) {
    error err = {0};
    jinja_output out = {0};
    jinja *t = jinja_parse(str_from(source), &err);
    bool ok = t && jinja_render(t, vars, &at_noon, &out, &err);
    if (!ok) {
        print_error("%s: %s\n", label, err.message);
    } else if (!str_is(buf_str(&out.text), want)) {
        ok = false;
        size_t at = 0;
        while (out.text.ptr && out.text.ptr[at] && out.text.ptr[at] == want[at]) at++;
        print_error("%s: differs at byte %zu\n  want …%.80s\n  have …%.80s\n", label, at, want + at,
                    out.text.ptr ? out.text.ptr + at : "");
    }
    jinja_output_deinit(&out);
    jinja_free(t);
    return ok;
}

static void every_jinja_case_of_llama_cpp(void **state) {
    (void)state;
    json_t *rows = load("llamacpp_jinja_unit.json"), *row;
    size_t i, wrong = 0;
    json_array_foreach(rows, i, row) wrong +=
        !gives(member(row, "name"), member(row, "template"), json_object_get(row, "vars"),
               member(row, "expect"));
    assert_true(json_array_size(rows) > 200);
    json_decref(rows);
    assert_int_equal(wrong, 0);
}

/* Two of the templates know no system role; llama.cpp's expectation has the system message folded
 * into the user's first, which is the caller's work, not the template's. */
static void fold_system(json_t *row) {
    json_t *messages = json_object_get(row, "messages"), *user = json_array_get(messages, 1);
    char whole[400];
    snprintf(whole, sizeof whole, "%s\n%s", member(json_array_get(messages, 0), "content"),
             member(user, "content"));
    json_object_set_new(user, "content", json_string(whole));
    json_array_remove(messages, 0);
}

static void every_chat_case_of_llama_cpp(void **state) {
    (void)state;
    json_t *rows = load("llamacpp_chat_template_cases.json"), *row;
    size_t i, wrong = 0;
    json_array_foreach(rows, i, row) {
        if (!json_is_true(json_object_get(row, "supported_with_jinja"))) continue;
        const char *want = member(row, "expected_jinja"), *name = member(row, "name");
        if (strstr(name, "Old pre-v1") || strcmp(name, "Phi-3-medium") == 0) fold_system(row);
        wrong += !gives(name, member(row, "template"), row,
                        want && *want ? want : member(row, "expected_legacy"));
    }
    assert_true(json_array_size(rows) > 20);
    json_decref(rows);
    assert_int_equal(wrong, 0);
}

static json_t *find_fixture(const json_t *fixtures, const char *name) {
    size_t i;
    json_t *f;
    json_array_foreach(fixtures, i,
                       f) if (strcmp(member(f, "name"), name) == 0) return json_deep_copy(f);
    fail_msg("no fixture %s", name);
    return NULL;
}

static buf read_template(const char *name) {
    char path[4096];
    snprintf(path, sizeof path, "%s/templates/llama.cpp-templates/%s", getenv("ORIEL_CORPUS"),
             name);
    int fd = open(path, O_RDONLY);
    buf b = {0};
    if (fd < 0 || !buf_read_fd(&b, fd)) fail_msg("%s cannot be read", path);
    close(fd);
    return b;
}

/* Where jinja2 refuses: "TemplateError: msg" is the template's own raise_exception. */
static bool refuses(const char *label, const char *source, const json_t *vars, const char *want) {
    error err = {0};
    jinja_output out = {0};
    jinja *t = jinja_parse(str_from(source), &err);
    bool ok = t && !jinja_render(t, vars, &at_noon, &out, &err) && err.code == ERR_TEMPLATE;
    if (ok && strncmp(want, "TemplateError: ", 15) == 0) ok = strcmp(err.message, want + 15) == 0;
    if (ok && strncmp(want, "UndefinedError: ", 16) == 0)
        ok = strstr(err.message, want + 16) != NULL;
    if (!ok)
        print_error("%s: wanted %s, have %s\n", label, want,
                    err.code ? err.message : "a rendering");
    jinja_output_deinit(&out);
    jinja_free(t);
    return ok;
}

static void every_real_template(void **state) {
    (void)state;
    json_t *rows = load("template_oracle.json"), *fixtures = load("template_oracle_fixtures.json"),
           *row;
    size_t i, wrong = 0, rendered = 0;
    json_array_foreach(rows, i, row) {
        char label[200];
        snprintf(label, sizeof label, "%s/%s", member(row, "template"), member(row, "fixture"));
        buf source = read_template(member(row, "template"));
        json_t *vars = find_fixture(fixtures, member(row, "fixture"));
        const char *without = member(row, "jinja2_tools_undefined");
        json_object_set_new(vars, "bos_token", json_string("<s>"));
        json_object_set_new(vars, "eos_token", json_string("</s>"));
        if (without && strncmp(without, "UndefinedError", 14) != 0 &&
            strncmp(without, "TypeError", 9) != 0)
            wrong += !gives(label, source.ptr, vars, without);
        if (!json_object_get(vars, "tools")) json_object_set_new(vars, "tools", json_null());
        if (!json_object_get(vars, "documents"))
            json_object_set_new(vars, "documents", json_null());
        const char *want = member(row, "jinja2");
        if (want)
            wrong += !gives(label, source.ptr, vars, want);
        else
            wrong += !refuses(label, source.ptr, vars, member(row, "jinja2_error"));
        rendered += want != NULL;
        json_decref(vars);
        buf_deinit(&source);
    }
    json_decref(rows);
    json_decref(fixtures);
    assert_true(rendered > 1000);
    assert_int_equal(wrong, 0);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(every_jinja_case_of_llama_cpp),
        cmocka_unit_test(every_chat_case_of_llama_cpp),
        cmocka_unit_test(every_real_template),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
