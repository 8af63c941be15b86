/* Text with and without reasoning tags; what harmony makes of messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "chat/parser.h"
#include "tiny_vocab.h"

static const char *opened = ""; /* what the prompt wrote already */

/* "[reasoning]~preamble~content{name(args)}" of all ids, joined. */
static void describe(const parser_options *o, const int32_t *ids, size_t n, buf *out,
                     const char **diagnostic, int64_t *n_reasoning) {
    parser *p = parser_new(o);
    char last = 0; /* what is open */
    assert_non_null(p);
    parser_push_text(p, str_from(opened));
    for (size_t i = 0; i <= n; i++) {
        parser_event e;
        if (i < n)
            parser_push(p, ids[i]);
        else
            parser_finish(p);
        while (parser_next(p, &e)) {
            assert_true(utf8_is_valid(e.text));
            char open = e.kind == PARSER_REASONING ? '[' : e.kind == PARSER_PREAMBLE ? '~' : 0;
            if (open != last) {
                if (last) buf_append_char(out, last == '[' ? ']' : '~');
                if (open) buf_append_char(out, open);
            }
            last = open;
            if (e.kind == PARSER_CALL_BEGIN) buf_append_char(out, '{');
            buf_append_str(out, e.text);
            if (e.kind == PARSER_CALL_BEGIN) buf_append_char(out, '(');
            if (e.kind == PARSER_CALL_END) buf_append_cstr(out, ")}");
        }
    }
    if (last) buf_append_char(out, last == '[' ? ']' : '~');
    assert_false(parser_failed(p));
    if (diagnostic) *diagnostic = parser_diagnostic(p);
    if (n_reasoning) *n_reasoning = parser_n_reasoning(p);
    parser_free(p);
}

static void check(const parser_options *o, const char *text, const char *want) {
    /* whole tokens, then the same bytes one at a time */
    tok_ids ids = {0}, bytes = {0};
    assert_true(
        tok_encode(o->t, str_from(text), (tok_encode_opts){.parse_special = true}, &ids, NULL));
    for (size_t i = 0; i < ids.n; i++) {
        str piece = tok_piece(o->t, ids.ids[i]);
        if (tok_is_special(o->t, ids.ids[i]))
            tok_ids_push(&bytes, ids.ids[i]);
        else
            for (size_t k = 0; k < piece.len; k++)
                tok_ids_push(&bytes, (unsigned char)piece.ptr[k]);
    }
    for (int i = 0; i < 2; i++) {
        buf got = {0};
        describe(o, i ? bytes.ids : ids.ids, i ? bytes.n : ids.n, &got, NULL, NULL);
        buf_append_cstr(&got, "");
        assert_string_equal(got.ptr ? got.ptr : "", want);
        buf_deinit(&got);
    }
    tok_ids_deinit(&ids);
    tok_ids_deinit(&bytes);
}

static void check_think(const tok *t) {
    parser_style style = parser_find_style(STR("{% if '</think>' in content %}"));
    assert_string_equal(parser_style_name(&style), "text");
    assert_true(str_is(style.think.close, "</think>"));
    parser_options o = {.t = t, .style = &style};
    check(&o, "<think>\nwhy?\n</think>\n\nBecause.", "[why?]Because.");
    check(&o, "<think></think>\n\nBecause.", "Because.");
    check(&o, "<think>\n\n</think>\n\nBecause.", "Because.");
    check(&o, "Because. <think>x</think>", "Because. <think>x</think>");
    check(&o, " <thin", " <thin");
    check(&o, "\n  plain", "\n  plain");
    check(&o, "<think>a\n\nb </thin> c</think>d", "[a\n\nb </thin> c]d");
    check(&o, "<think>cut </th", "[cut </th]");
    check(&o, "<think>one</think>two</think>three", "[one]two</think>three");
    check(&o, "<think>", "");
    check(&o, "", "");
    opened = "<think>\n";
    check(&o, "why?</think>\nBecause.", "[why?]Because.");
    check(&o, "\n\nwhy\xC3\xA9\n", "[why\xC3\xA9\n]");
    o.show_reasoning = true;
    check(&o, "why?</think>\nBecause.", "<think>\nwhy?</think>\nBecause.");
    opened = "";
    o.style = NULL;
    check(&o, "<think>a</think>b",
          o.t && tok_find_special(t, STR("<think>")) >= 0 ? "ab" : "<think>a</think>b");
}

static void test_think(void **state) {
    (void)state;
    static const char *const SPECIAL[] = {"<|im_end|>", "<think>", "</think>"};
    tok *as_text = tiny_vocab_new(SPECIAL, 1, -1, TINY_SPECIAL);
    tok *as_special = tiny_vocab_new(SPECIAL, 3, -1, TINY_SPECIAL);
    check_think(as_text);
    check_think(as_special);
    assert_int_equal(parser_find_style(STR("{{ messages }}")).think.open.len, 0);
    tok_unref(as_text);
    tok_unref(as_special);
}

static void test_plain(void **state) {
    (void)state;
    tok *t = tiny_vocab_harmony();
    parser_options o = {.t = t};
    check(&o, "hell<|end|>o <|start|>\xF0\x9F\x98\x8A", "hello \xF0\x9F\x98\x8A");
    o.show_special = true;
    check(&o, "hell<|end|>o", "hell<|end|>o");
    /* bytes that are no text */
    buf got = {0};
    describe(&o, (int32_t[]){'a', 0xF0, 0x9F, 'b', 0xFF, 9999, -1, 0xC3}, 8, &got, NULL, NULL);
    assert_string_equal(got.ptr, "a\xEF\xBF\xBD"
                                 "b\xEF\xBF\xBD\xEF\xBF\xBD");
    buf_deinit(&got);
    tok_unref(t);
}

static void test_harmony(void **state) {
    (void)state;
    tok *t = tiny_vocab_harmony();
    harmony h;
    chat_tool tools[] = {{.name = STR("get")}};
    assert_true(harmony_init(&h, t));
    parser_options o = {
        .t = t, .harmony = &h, .inside = true, .takes_calls = true, .tools = tools, .n_tools = 1};
    check(
        &o,
        "<|channel|>analysis<|message|>why<|end|><|start|>assistant<|channel|>final<|message|>so<|return|>",
        "[why]so");
    check(
        &o,
        "<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>analysis<|message|>b<|end|>",
        "[a\n\nb]");
    check(
        &o,
        "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.get "
        "<|constrain|>json<|message|>{\"x\":1}<|call|>",
        "~I look.~{get({\"x\":1})}");
    check(&o, "<|channel|>commentary to=get<|message|>{}<|call|>", "{get({})}");
    check(
        &o,
        "<|channel|>commentary to=functions.a<|message|>1<|end|><|start|>assistant<|channel|>commentary "
        "to=functions.b<|message|>2",
        "{a(1)}{b(2)}");
    check(&o, "<|channel|>commentary to=container.exec<|message|>ls<|call|>", "");
    check(
        &o,
        "<|channel|>final<|message|>A<|end|><|start|>user<|message|>B<|end|><|start|>assistant<|message|>C",
        "A~\n\n~C");
    check(&o, "<|channel|>secret<|message|>A", "A");
    o.takes_calls = false;
    check(&o, "<|channel|>commentary to=functions.get<|message|>{}<|call|>", "");

    tok_ids ids = {0};
    buf got = {0};
    const char *diagnostic;
    int64_t n_reasoning;
    tok_encode(
        t,
        STR("<|channel|>analysis<|message|>ab<|end|><|start|>assistant<|channel|>final<|message|>so<|return|>"),
        (tok_encode_opts){.parse_special = true}, &ids, NULL);
    describe(&o, ids.ids, ids.n, &got, &diagnostic, &n_reasoning);
    assert_null(diagnostic);
    assert_int_equal(n_reasoning, 4); /* <|message|> a b <|end|> */
    tok_ids_deinit(&ids);
    buf_deinit(&got);
    tok_unref(t);
}

/* Any bytes, cut anywhere: the same events, and long runs of white space are no trap. */
static void test_random(void **state) {
    (void)state;
    static const char *const WORDS[] = {"<think>", "</think>", "<",        "/",    "think>", " ",
                                        "\n",      "a",        "\xC3\xA9", "</th", "\xFF"};
    static const char *const NONE[] = {"<|im_end|>"};
    tok *t = tiny_vocab_new(NONE, 1, -1, TINY_SPECIAL);
    parser_style style = parser_find_style(STR("</think>"));
    parser_options o = {.t = t, .style = &style};
    for (uint64_t seed = 0; seed < 20000; seed++) {
        tok_ids a = {0}, b = {0};
        buf text = {0}, x = {0}, y = {0};
        uint64_t n = rng_at(seed, 0) % 12;
        for (uint64_t i = 1; i <= n; i++) {
            uint64_t r = rng_at(seed, i);
            buf_append_cstr(&text, WORDS[r % 11]);
            if (r % 101 == 0)
                for (uint64_t k = 0; k < r % 700; k++) buf_append_char(&text, ' ');
        }
        opened = rng_at(seed, 99) % 2 ? "<think>" : "";
        if (text.len) assert_true(tok_encode(t, buf_str(&text), (tok_encode_opts){0}, &a, NULL));
        for (size_t i = 0; i < text.len; i++) tok_ids_push(&b, (unsigned char)text.ptr[i]);
        describe(&o, a.ids, a.n, &x, NULL, NULL);
        describe(&o, b.ids, b.n, &y, NULL, NULL);
        assert_true(str_eq(buf_str(&x), buf_str(&y)));
        tok_ids_deinit(&a);
        tok_ids_deinit(&b);
        buf_deinit(&text);
        buf_deinit(&x);
        buf_deinit(&y);
    }
    tok_unref(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_think),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_harmony),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
