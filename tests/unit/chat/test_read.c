/* The parsers' side of tests/e2e/test_random_calls.py: ORIEL_READ names a file of lines
 * {"template": "…", "prompt": "…", "text": "…", "tools": [{"name", "parameters"}]}, and ORIEL_READ_OUT
 * gets {"content", "reasoning", "calls": [{"name", "arguments"}], "format"} for each. A text is read
 * whole and in pieces; "cut": true says that the two differed, which is a failure anywhere. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/hash.h"
#include "chat/parser.h"
#include "tiny_vocab.h"

enum { MAX_TOOLS = 8, MAX_CALLS = 64 };

typedef struct reading {
    buf content, reasoning, names[MAX_CALLS], args[MAX_CALLS];
    int n_calls;
    bool in_call;
} reading;

static void take(parser *p, reading *r) {
    parser_event e;
    while (parser_next(p, &e)) {
        assert_true(utf8_is_valid(e.text));
        bool needs_call = e.kind == PARSER_CALL_ARGS || e.kind == PARSER_CALL_END;
        assert_int_equal(r->in_call, needs_call);
        r->in_call = e.kind == PARSER_CALL_BEGIN || e.kind == PARSER_CALL_ARGS;
        if (e.kind == PARSER_REASONING) buf_append_str(&r->reasoning, e.text);
        if (e.kind == PARSER_CONTENT || e.kind == PARSER_PREAMBLE)
            buf_append_str(&r->content, e.text);
        if (e.kind == PARSER_CALL_BEGIN && r->n_calls < MAX_CALLS)
            buf_append_str(&r->names[r->n_calls++], e.text);
        if (e.kind == PARSER_CALL_ARGS) buf_append_str(&r->args[r->n_calls - 1], e.text);
    }
    assert_false(parser_failed(p));
}

/* step 0: pieces of random length. Harmony comes as ids, whatever the step. */
static void read_text(const parser_options *o, str prefix, str text, size_t step, reading *r) {
    parser *p = parser_new(o);
    assert_non_null(p);
    if (o->harmony) {
        tok_ids ids = {0};
        assert_true(tok_encode(o->t, text, (tok_encode_opts){.parse_special = true}, &ids, NULL));
        for (size_t i = 0; i < ids.n; i++) {
            parser_push(p, ids.ids[i]);
            take(p, r);
        }
        tok_ids_deinit(&ids);
    } else {
        parser_push_text(p, prefix);
        for (size_t i = 0, k = 0, n; i < text.len; i += n, k++) {
            n = step ? step : 1 + rng_at(text.len, k) % 7;
            if (n > text.len - i) n = text.len - i;
            parser_push_text(p, str_make(text.ptr + i, n));
            take(p, r);
        }
    }
    parser_finish(p);
    take(p, r);
    assert_false(r->in_call);
    parser_free(p);
}

static json_t *said(const reading *r, const char *format) {
    json_t *calls = json_array();
    for (int i = 0; i < r->n_calls; i++)
        json_array_append_new(
            calls, json_pack("{s:s%, s:s%}", "name", r->names[i].ptr ? r->names[i].ptr : "",
                             r->names[i].len, "arguments", r->args[i].ptr ? r->args[i].ptr : "",
                             r->args[i].len));
    return json_pack("{s:s%, s:s%, s:o, s:s}", "content", r->content.ptr ? r->content.ptr : "",
                     r->content.len, "reasoning", r->reasoning.ptr ? r->reasoning.ptr : "",
                     r->reasoning.len, "calls", calls, "format", format);
}

static void reading_deinit(reading *r) {
    buf_deinit(&r->content);
    buf_deinit(&r->reasoning);
    for (int i = 0; i < r->n_calls; i++) {
        buf_deinit(&r->names[i]);
        buf_deinit(&r->args[i]);
    }
}

static void read_line(const json_t *line, const tok *t, const harmony *h, FILE *out) {
    parser_style style = parser_find_style(json_str(json_object_get(line, "template")));
    str prompt = json_str(json_object_get(line, "prompt")),
        text = json_str(json_object_get(line, "text"));
    bool is_harmony =
        str_find(json_str(json_object_get(line, "template")), STR("<|channel|>analysis"), 0) >= 0;
    chat_tool tools[MAX_TOOLS];
    const json_t *list = json_object_get(line, "tools"), *v;
    size_t n = 0, i;
    json_array_foreach(list, i, v) {
        if (n == MAX_TOOLS) break;
        tools[n++] = (chat_tool){.name = json_str(json_object_get(v, "name")),
                                 .parameters = json_object_get(v, "parameters")};
    }
    parser_options o = {.t = t,
                        .harmony = is_harmony ? h : NULL,
                        .inside = is_harmony,
                        .style = &style,
                        .takes_calls = n > 0,
                        .tools = tools,
                        .n_tools = n};
    str prefix = parser_find_prefix(&style, prompt);
    static const size_t steps[] = {SIZE_MAX, 1, 2, 3, 5, 0};
    json_t *first = NULL;
    for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
        reading r = {0};
        read_text(&o, prefix, text, steps[k] == SIZE_MAX ? text.len + !text.len : steps[k], &r);
        json_t *one = said(&r, is_harmony ? "harmony" : parser_style_name(&style));
        reading_deinit(&r);
        assert_non_null(one);
        if (!first) {
            first = one;
            continue;
        }
        if (!json_equal(first, one)) json_object_set_new(first, "cut", json_true());
        json_decref(one);
    }
    json_dumpf(first, out, JSON_COMPACT);
    fputc('\n', out);
    json_decref(first);
}

static void test_read(void **state) {
    (void)state;
    const char *in = getenv("ORIEL_READ"), *to = getenv("ORIEL_READ_OUT");
    if (!in || !*in || !to || !*to) skip();
    FILE *f = fopen(in, "r"), *out = fopen(to, "w");
    assert_non_null(f);
    assert_non_null(out);
    tok *t = tiny_vocab_harmony();
    harmony h;
    assert_true(harmony_init(&h, t));
    char *text = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&text, &cap, f)) > 0;) {
        json_t *line = json_loadb(text, (size_t)n, JSON_ALLOW_NUL, NULL);
        assert_non_null(line);
        read_line(line, t, &h, out);
        json_decref(line);
    }
    free(text);
    fclose(f);
    assert_int_equal(fclose(out), 0);
    tok_unref(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_read)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
