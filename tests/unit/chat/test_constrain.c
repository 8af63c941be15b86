/* Constraints: whatever a model without any sense writes under one is read as calls
 * of tools that may be called, with arguments their schemas accept; in every
 * family's way of writing, after reasoning or without.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "chat/close_schema.h"
#include "chat/constrain.h"
#include "corpus.h"
#include "tiny_vocab.h"

enum { MAX_CALLS = 64, MAX_TOKENS = 3000 };

typedef struct call {
    buf name, args;
} call;

typedef struct reading {
    buf content, reasoning;
    call calls[MAX_CALLS];
    int n_calls;
} reading;

static void reading_deinit(reading *r) {
    buf_deinit(&r->content);
    buf_deinit(&r->reasoning);
    for (int i = 0; i < r->n_calls; i++) {
        buf_deinit(&r->calls[i].name);
        buf_deinit(&r->calls[i].args);
    }
}

static void take(parser *p, reading *r) {
    parser_event e;
    while (parser_next(p, &e)) {
        if (e.kind == PARSER_REASONING) buf_append_str(&r->reasoning, e.text);
        if (e.kind == PARSER_CONTENT || e.kind == PARSER_PREAMBLE)
            buf_append_str(&r->content, e.text);
        if (e.kind == PARSER_CALL_BEGIN) {
            if (r->n_calls == MAX_CALLS) fail_msg("too many calls");
            r->calls[r->n_calls] = (call){0};
            buf_append_str(&r->calls[r->n_calls++].name, e.text);
        }
        if (e.kind == PARSER_CALL_ARGS) buf_append_str(&r->calls[r->n_calls - 1].args, e.text);
    }
}

/* A model that knows nothing but what it may say; it likes to come to an end. */
static bool walk(const grammar *g, tok *t, uint64_t seed, tok_ids *ids) {
    error err = {0};
    grammar_vocab *v = grammar_vocab_new(t, &err);
    matcher *m = matcher_new(g, v, (matcher_options){0}, &err);
    if (!m) fail_msg("%s", err.message);
    int32_t n_vocab = tok_n_vocab(t);
    bool ended = false;
    for (uint64_t i = 0; i < MAX_TOKENS && !ended; i++) {
        const uint64_t *mask = matcher_mask(m);
        int32_t allowed[512];
        int n = 0;
        bool quick = rng_at(seed, i * 2) % 4 == 0;
        for (int32_t id = 0; id < n_vocab && n < 512; id++) {
            if (!(mask[id >> 6] >> (id & 63) & 1)) continue;
            bool closes = id == '"' || id == '}' || id == ']' || id == '<' || id >= TINY_SPECIAL;
            if (quick && closes)
                n = 0, quick = false, allowed[n++] = id, id = n_vocab;
            else
                allowed[n++] = id;
        }
        if (!n) fail_msg("nothing is allowed");
        int32_t id = allowed[rng_at(seed, i * 2 + 1) % (uint64_t)n];
        if (!matcher_accept(m, id)) fail_msg("%d was allowed", id);
        if (tok_is_end(t, id)) ended = true;
        tok_ids_push(ids, id);
    }
    matcher_free(m);
    grammar_vocab_unref(v);
    return ended;
}

static bool validates(json_t *schema, str args) {
    error err = {0};
    grammar_schema_options o = {.must_be_object = true};
    grammar *g = grammar_from_schema(schema, &o, &err);
    if (!g) fail_msg("%s", err.message);
    bool ok = grammar_accepts(g, args);
    grammar_unref(g);
    return ok;
}

/* ── The tools ── */

static const char *const SCHEMAS[] = {
    "{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\",\"enum\":[\"Oslo\",\"Rome\"]},"
    "\"days\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":9},"
    "\"sky\":{\"anyOf\":[{\"const\":\"dry\"},{\"$ref\":\"#/$defs/wet\"},{\"type\":\"null\"},"
    "{\"type\":\"integer\",\"minimum\":1,\"maximum\":3}]},\"when\":{\"$ref\":\"#/$defs/when\"}},"
    "\"required\":[\"city\",\"sky\"],\"additionalProperties\":false,\"$defs\":{"
    "\"wet\":{\"type\":\"string\",\"enum\":[\"rain\",\"snow\"]},\"when\":{\"oneOf\":[{\"const\":\"now\"},"
    "{\"enum\":[\"soon\",null]}]}}}",
    "{\"type\":\"object\",\"properties\":{\"on\":{\"type\":\"boolean\"},\"to\":{\"type\":\"object\","
    "\"properties\":{\"x\":{\"type\":\"array\",\"items\":{\"enum\":[1,2]},\"maxItems\":2}},"
    "\"required\":[\"x\"],\"additionalProperties\":false}},\"required\":[\"on\",\"to\"],"
    "\"additionalProperties\":false}",
    "{\"type\":\"object\",\"properties\":{},\"additionalProperties\":false}",
};
static const char *const NAMES[] = {"weather", "set", "ping"};

static void check_calls(const char *family, const reading *r, json_t **schemas, int barred,
                        bool one) {
    if (!r->n_calls || (one && r->n_calls > 1))
        fail_msg("%s: %d calls: %.*s", family, r->n_calls, STR_ARG(buf_str(&r->content)));
    for (int i = 0; i < r->n_calls; i++) {
        int k = 0;
        while (k < 3 && !str_is(buf_str(&r->calls[i].name), NAMES[k])) k++;
        if (k == 3 || k == barred)
            fail_msg("%s: calls %.*s", family, STR_ARG(buf_str(&r->calls[i].name)));
        if (!validates(schemas[k], buf_str(&r->calls[i].args)))
            fail_msg("%s: %s(%.*s)", family, NAMES[k], STR_ARG(buf_str(&r->calls[i].args)));
    }
}

static const char *const SOURCES[] = {
    "DSML",
    "<|open|> <|close|>",
    "<|tool_call> <tool_call|>",
    "<minimax:tool_call> <think>",
    "<seed:tool_call>",
    "<tool_call> <function= <parameter= </think>",
    "<function name= <param name=",
    "<arg_key></arg_key><arg_value>",
    "<arg_key> <think>",
    "<|START_ACTION|>",
    "Action: <|CHATBOT_TOKEN|>",
    "<|tool_calls_section_begin|>",
    "<｜tool▁calls▁begin｜> ```json",
    "<｜tool▁calls▁begin｜>",
    "<|tool_call_start|> <think>",
    "[TOOL_CALLS] [ARGS] [THINK]",
    "[TOOL_CALLS] [CALL_ID]",
    "[TOOL_CALLS]",
    "<TOOLCALL> <think>",
    "<tool_calls> [BEGIN FINAL RESPONSE]",
    "<tool_calls>",
    "<|tool_call:begin|>",
    "<|tool_call|>",
    "<|function_call|>",
    "functools",
    ">>>all",
    "<function= </function>",
    "<|python_tag|>",
    "<tool_call> <think>",
    "<arg_key{}> :opensource",
    "<|tools_prefix|>",
    "<|python_start|>",
    "plain",
};
enum { N_SOURCES = sizeof SOURCES / sizeof *SOURCES, HARMONY = N_SOURCES };

/* Returns the calls of an answer that came to its end. */
static int check_family(int which, tok *t, uint64_t seed) {
    error err = {0};
    chat c = {.t = t};
    if (which == HARMONY)
        assert_true(c.is_harmony = harmony_init(&c.harmony, t));
    else
        c.style = parser_find_style(str_from(SOURCES[which]));
    const char *family = which == HARMONY ? "harmony" : parser_style_name(&c.style);
    json_t *schemas[3];
    chat_tool tools[3] = {0};
    int barred = (int)(rng_at(seed, 1) % 4);
    for (int i = 0; i < 3; i++) {
        schemas[i] = json_parse(str_from(SCHEMAS[i]), NULL);
        assert_non_null(schemas[i]);
        tools[i] = (chat_tool){.name = str_from(NAMES[i]),
                               .parameters = schemas[i],
                               .strict = rng_at(seed, 2) % 2,
                               .is_barred = i == barred};
    }
    bool required = rng_at(seed, 3) % 2, one = rng_at(seed, 4) % 2;
    chat_input in = {.tools = tools,
                     .n_tools = 3,
                     .tool_choice = required ? CHAT_TOOLS_REQUIRED : CHAT_TOOLS_AUTO,
                     .one_call = one};
    str prefix = {0};
    if (c.style.think.open.len && rng_at(seed, 5) % 2) prefix = c.style.think.open;
    if (which != HARMONY && strcmp(SOURCES[which], ">>>all") == 0) prefix = STR(">>>");
    buf ignored = {0};
    grammar *g;
    int n_calls = 0;
    if (!chat_constrain(&c, &in, prefix, &g, &ignored, &err))
        fail_msg("%s: %s: %s", family, err.param, err.message);
    assert_int_equal(ignored.len, 0);
    if (g) {
        tok_ids ids = {0};
        bool ended = walk(g, t, seed, &ids);
        parser_options o = {.t = t,
                            .harmony = c.is_harmony ? &c.harmony : NULL,
                            .inside = c.is_harmony,
                            .style = &c.style,
                            .takes_calls = true,
                            .tools = tools,
                            .n_tools = 3};
        parser *p = parser_new(&o);
        reading r = {0};
        parser_push_text(p, prefix);
        take(p, &r);
        for (size_t i = 0; i < ids.n; i++) {
            parser_push(p, ids.ids[i]);
            take(p, &r);
        }
        parser_finish(p);
        take(p, &r);
        if (ended && (required || r.n_calls)) {
            check_calls(family, &r, schemas, barred, one);
            n_calls = r.n_calls;
            if (required && buf_str(&r.content).len && str_trim(buf_str(&r.content)).len)
                fail_msg("%s: words before a call: %.*s", family, STR_ARG(buf_str(&r.content)));
        }
        parser_free(p);
        reading_deinit(&r);
        tok_ids_deinit(&ids);
        grammar_unref(g);
    } else {
        assert_false(required);
    }
    for (int i = 0; i < 3; i++) json_decref(schemas[i]);
    buf_deinit(&ignored);
    return n_calls;
}

static void test_walks(void **state) {
    (void)state;
    static const char *const END[] = {"<|im_end|>"}, *const MARKS[] = {"<|im_end|>",
                                                                       "<think>",
                                                                       "</think>",
                                                                       "<tool_call>",
                                                                       "</tool_call>",
                                                                       "[TOOL_CALLS]",
                                                                       "[ARGS]",
                                                                       "<|open|>",
                                                                       "<|close|>",
                                                                       "<|sep|>",
                                                                       "<|tool_call>",
                                                                       "<tool_call|>",
                                                                       "<|\"|>",
                                                                       "<|tool_call_start|>",
                                                                       "<|tool_call_end|>",
                                                                       "<｜tool▁call▁begin｜>",
                                                                       "<｜tool▁sep｜>",
                                                                       "[BEGIN FINAL RESPONSE]",
                                                                       "<think:opensource>",
                                                                       "</think:opensource>",
                                                                       "<|inner_prefix|>",
                                                                       "<|inner_suffix|>"};
    tok *text = tiny_vocab_new(END, 1, -1, TINY_SPECIAL),
        *special = tiny_vocab_new(MARKS, sizeof MARKS / sizeof *MARKS, -1, TINY_SPECIAL),
        *gpt_oss = tiny_vocab_harmony();
    int all = 0;
    for (int i = 0; i < N_SOURCES; i++) {
        int n = 0;
        for (uint64_t seed = 0; seed < 12; seed++)
            n += check_family(i, seed % 2 ? special : text, seed);
        if (!n) fail_msg("%s: no walk came to a call", SOURCES[i]);
        all += n;
    }
    int n = 0;
    for (uint64_t seed = 0; seed < 40; seed++) n += check_family(HARMONY, gpt_oss, seed);
    assert_true(n >= 10);
    print_message("%d calls\n", all + n);
    tok_unref(text);
    tok_unref(special);
    tok_unref(gpt_oss);
}

/* The text of a custom tool obeys its format in every family, inside quotes of any kind too. */
static void check_custom(chat_format format, const char *definition, const grammar *want) {
    static const char *const END[] = {"<|im_end|>"};
    tok *t = tiny_vocab_new(END, 1, -1, TINY_SPECIAL);
    error err = {0};
    int n_made = 0;
    for (int i = 0; i < N_SOURCES; i++) {
        chat c = {.t = t, .style = parser_find_style(str_from(SOURCES[i]))};
        chat_tool tool = {.name = STR("shell"),
                          .is_custom = true,
                          .format = format,
                          .definition = str_from(definition)};
        chat_input in = {
            .tools = &tool, .n_tools = 1, .tool_choice = CHAT_TOOLS_REQUIRED, .one_call = true};
        for (uint64_t seed = 0; seed < 6; seed++) {
            grammar *g = NULL;
            tok_ids ids = {0};
            err = (error){0};
            if (!chat_constrain(&c, &in, (str){0}, &g, NULL, &err))
                fail_msg("%s: %s", SOURCES[i], err.message);
            assert_non_null(g);
            bool ended = walk(g, t, seed, &ids);
            parser_options o = {
                .t = t, .style = &c.style, .takes_calls = true, .tools = &tool, .n_tools = 1};
            parser *p = parser_new(&o);
            reading r = {0};
            for (size_t k = 0; k < ids.n; k++) {
                parser_push(p, ids.ids[k]);
                take(p, &r);
            }
            parser_finish(p);
            take(p, &r);
            if (ended) {
                assert_int_equal(r.n_calls, 1);
                json_t *v = json_parse(buf_str(&r.calls[0].args), NULL);
                json_t *input = json_object_get(v, "input");
                str said = input ? json_str(input) : buf_str(&r.calls[0].args);
                if (want && !grammar_accepts(want, said))
                    fail_msg("%s: %.*s", SOURCES[i], STR_ARG(buf_str(&r.calls[0].args)));
                json_decref(v);
                n_made++;
            }
            parser_free(p);
            reading_deinit(&r);
            tok_ids_deinit(&ids);
            grammar_unref(g);
        }
    }
    print_message("# %d calls\n", n_made);
    assert_true(n_made > (want ? 100 : 10));
    tok_unref(t);
}

static void test_custom(void **state) {
    (void)state;
    static const char LARK[] = "start: line line?\n"
                               "line: \"say \\\"\" /[\"\\\\a-c\\n\\x01é]{1,4}/ \"\\\";\" sub?\n"
                               "sub: \"(\" sub? \")\"\n";
    static const char REGEX[] = "[a-c]{2,4} (\"x\"|'y\\\\'|<|é\\n)[0-9]?";
    error err = {0};
    grammar *lark = grammar_from_lark(str_from(LARK), NULL, &err),
            *regex = grammar_from_regex(str_from(REGEX), NULL, &err);
    if (!lark || !regex) fail_msg("%s", err.message);
    check_custom(CHAT_FORMAT_LARK, LARK, lark);
    check_custom(CHAT_FORMAT_REGEX, REGEX, regex);
    grammar *number = grammar_from_regex(STR("[1-9][0-9]{2}"), NULL, &err);
    if (!number) fail_msg("%s", err.message);
    check_custom(CHAT_FORMAT_REGEX, "[1-9][0-9]{2}", number);
    grammar_unref(number);
    check_custom(CHAT_FORMAT_TEXT, "", NULL);
    grammar_unref(lark);
    grammar_unref(regex);
}

static void test_cache(void **state) {
    (void)state;
    tok *t = tiny_vocab_harmony();
    chat c = {.t = t, .constraints = constraint_cache_new()};
    assert_true(c.is_harmony = harmony_init(&c.harmony, t));
    json_t *odd = json_parse(
        STR("{\"properties\":{\"a\":{\"type\":\"string\",\"pattern\":\"(a)\\\\1\"}}}"), NULL);
    assert_non_null(odd);
    chat_tool tool = {.name = STR("get"), .parameters = odd};
    chat_input in = {.tools = &tool, .n_tools = 1, .tool_choice = CHAT_TOOLS_REQUIRED};
    error err = {0};
    buf told[3] = {0};
    grammar *g[3] = {0};
    for (int i = 0; i < 3; i++) {
        in.one_call = i == 2;
        assert_true(chat_constrain(&c, &in, (str){0}, &g[i], &told[i], &err));
        assert_true(told[i].len > 0 && str_eq(buf_str(&told[i]), buf_str(&told[0])));
    }
    assert_ptr_equal(g[0], g[1]);
    assert_ptr_not_equal(g[0], g[2]);
    for (int k = 0; k < 40; k++) { /* more than it keeps */
        char name[8];
        snprintf(name, sizeof name, "f%d", k);
        tool.name = str_from(name);
        grammar *other;
        assert_true(chat_constrain(&c, &in, (str){0}, &other, NULL, &err));
        grammar_unref(other);
    }
    for (int i = 0; i < 3; i++) {
        grammar_unref(g[i]);
        buf_deinit(&told[i]);
    }
    chat_answer forms[] = {{.kind = CHAT_ANSWER_REGEX, .source = STR("[ab]+"), .param = "grammar"},
                           {.kind = CHAT_ANSWER_GBNF, .source = STR("root ::= [ab]+")}};
    grammar *raw[3] = {0}, *none;
    for (int i = 0; i < 3; i++) assert_true(chat_constrain_raw(&c, &forms[i / 2], &raw[i], &err));
    assert_ptr_equal(raw[0], raw[1]);
    assert_ptr_not_equal(raw[0], raw[2]);
    assert_true(grammar_accepts(raw[2], STR("ba")) && !grammar_accepts(raw[2], STR("")));
    for (int i = 0; i < 3; i++) grammar_unref(raw[i]);
    forms[0].source = STR("(");
    assert_false(chat_constrain_raw(&c, &forms[0], &none, &err));
    assert_null(none);
    constraint_cache_free(c.constraints);
    json_decref(odd);
    tok_unref(t);
}

static void test_close(void **state) {
    (void)state;
    static const char *const CASES[][2] = {
        {"{\"properties\":{\"a\":{}}}",
         "{\"properties\":{\"a\":{}},\"additionalProperties\":false}"},
        {"{\"properties\":{\"a\":{}},\"additionalProperties\":true}", NULL},
        {"{\"type\":\"object\"}", NULL},
        {"{\"properties\":{\"a\":{}},\"required\":[\"b\"]}", NULL},
        {"{\"properties\":{\"a\":{}},\"anyOf\":[{\"properties\":{\"b\":{}}}]}", NULL},
        {"{\"allOf\":[{\"properties\":{\"b\":{}}}]}", NULL},
        {"{\"items\":{\"anyOf\":[{\"properties\":{}},true]}}",
         "{\"items\":{\"anyOf\":[{\"properties\":{},\"additionalProperties\":false},true]}}"},
        {"{\"enum\":[{\"properties\":{}}]}", NULL},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        json_t *v = json_parse(str_from(CASES[i][0]), NULL),
               *want = json_parse(str_from(CASES[i][1] ? CASES[i][1] : CASES[i][0]), NULL),
               *got = close_schema(v);
        assert_true(json_equal(got, want));
        json_decref(got);
        json_decref(want);
        json_decref(v);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walks), cmocka_unit_test(test_close),
                                       cmocka_unit_test(test_cache), cmocka_unit_test(test_custom)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
