/* What models of every family write, against llama.cpp's transcripts: content,
 * reasoning and calls of each, the same however the text is cut; and text that is
 * almost a call.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "chat/formats/tagged.h"
#include "corpus.h"
#include "tiny_vocab.h"

enum { MAX_CALLS = 8 };

typedef struct answer {
    buf content, reasoning, names[MAX_CALLS], args[MAX_CALLS], ids[MAX_CALLS];
    int n_calls;
    bool open;
} answer;

static void answer_deinit(answer *a) {
    buf_deinit(&a->content);
    buf_deinit(&a->reasoning);
    for (int i = 0; i < MAX_CALLS; i++) {
        buf_deinit(&a->names[i]);
        buf_deinit(&a->args[i]);
        buf_deinit(&a->ids[i]);
    }
}

/* Takes what is waiting; events must be well nested and made of whole characters. */
static void take(parser *p, answer *a) {
    parser_event e;
    while (parser_next(p, &e)) {
        assert_true(utf8_is_valid(e.text));
        switch (e.kind) {
        case PARSER_REASONING: buf_append_str(&a->reasoning, e.text); break;
        case PARSER_CONTENT:
        case PARSER_PREAMBLE: buf_append_str(&a->content, e.text); break;
        case PARSER_CALL_BEGIN:
            assert_false(a->open);
            a->open = true;
            assert_int_equal(e.call, a->n_calls);
            if (a->n_calls == MAX_CALLS) fail_msg("too many calls");
            buf_append_str(&a->names[a->n_calls], e.text);
            buf_append_str(&a->ids[a->n_calls], e.id);
            a->n_calls++;
            break;
        case PARSER_CALL_ARGS:
            assert_true(a->open);
            buf_append_str(&a->args[a->n_calls - 1], e.text);
            break;
        case PARSER_CALL_END:
            assert_true(a->open);
            a->open = false;
            if (e.id.len && !a->ids[a->n_calls - 1].len)
                buf_append_str(&a->ids[a->n_calls - 1], e.id);
            break;
        }
    }
    assert_false(parser_failed(p));
}

/* text in pieces of `step` bytes; 0 = whole. `seed`: pieces of random length. */
static void read_text(const parser_options *o, str prefix, str text, size_t step, uint64_t seed,
                      bool finish, answer *a) {
    parser *p = parser_new(o);
    assert_non_null(p);
    parser_push_text(p, prefix);
    take(p, a);
    for (size_t i = 0, k = 0; i < text.len; k++) {
        size_t n = seed ? 1 + rng_at(seed, k) % 9 : step ? step : text.len;
        if (n > text.len - i) n = text.len - i;
        parser_push_text(p, str_make(text.ptr + i, n));
        take(p, a);
        i += n;
    }
    if (finish) parser_finish(p);
    take(p, a);
    parser_free(p);
}

static void read_ids(const parser_options *o, str text, bool finish, answer *a) {
    tok_ids ids = {0};
    assert_true(tok_encode(o->t, text, (tok_encode_opts){.parse_special = true}, &ids, NULL));
    parser *p = parser_new(o);
    assert_non_null(p);
    for (size_t i = 0; i < ids.n; i++) {
        parser_push(p, ids.ids[i]);
        take(p, a);
    }
    if (finish) parser_finish(p);
    take(p, a);
    parser_free(p);
    tok_ids_deinit(&ids);
}

static bool same_buf(const buf *a, const buf *b) {
    return str_eq(buf_str(a), buf_str(b));
}

static bool same(const answer *a, const answer *b) {
    bool ok = same_buf(&a->content, &b->content) && same_buf(&a->reasoning, &b->reasoning) &&
              a->n_calls == b->n_calls;
    for (int i = 0; ok && i < a->n_calls; i++)
        ok = same_buf(&a->names[i], &b->names[i]) && same_buf(&a->args[i], &b->args[i]) &&
             same_buf(&a->ids[i], &b->ids[i]);
    return ok;
}

/* ── The corpus ── */

static str get(const json_t *v, const char *key) {
    return json_str(json_object_get(v, key));
}

/* A generation prompt's own words, before those in the assistant's name. */
static str after_header(str prompt) {
    static const char *const HEADERS[] = {
        "<|im_start|>assistant\n",
        "<|start|>assistant",
        "<｜Assistant｜>",
        "<|turn>model\n",
        "<start_of_turn>model\n",
        "<|start_of_role|>assistant<|end_of_role|>",
        "<seed:bos>assistant\n",
        "<|assistant|>",
        "<role>ASSISTANT</role>\n",
        "<|open|>message role=\"assistant\"<|sep|>",
        "<|im_assistant|>assistant<|im_middle|>",
        "]~b]ai\n",
        "<SPECIAL_11>Assistant\n",
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "\n<|begin_assistant|>\n",
        "assistant<|role_sep|>\n",
    };
    for (size_t i = 0; i < sizeof HEADERS / sizeof *HEADERS; i++)
        if (str_starts(prompt, str_from(HEADERS[i])))
            return str_make(prompt.ptr + strlen(HEADERS[i]), prompt.len - strlen(HEADERS[i]));
    return prompt;
}

/* Arguments count as JSON values; text that is none, as text. */
static bool same_args(str a, str b) {
    json_error_t e;
    json_t *x = json_loadb(a.ptr ? a.ptr : "", a.len, 0, &e),
           *y = json_loadb(b.ptr ? b.ptr : "", b.len, 0, &e);
    bool ok = x && y ? json_equal(x, y) : str_eq(a, b);
    json_decref(x);
    json_decref(y);
    return ok;
}

/* As llama.cpp compares: white space at the ends of content and reasoning is no difference. */
static bool matches(const answer *a, const json_t *expect, bool *exact) {
    str content = get(expect, "content"), reasoning = get(expect, "reasoning_content");
    const json_t *calls = json_object_get(expect, "tool_calls");
    *exact = str_eq(buf_str(&a->content), content) && str_eq(buf_str(&a->reasoning), reasoning);
    bool ok = str_eq(str_trim(buf_str(&a->content)), str_trim(content)) &&
              str_eq(str_trim(buf_str(&a->reasoning)), str_trim(reasoning)) &&
              json_array_size(calls) == (size_t)a->n_calls;
    for (int i = 0; ok && i < a->n_calls; i++) {
        const json_t *call = json_array_get(calls, (size_t)i);
        str id = get(call, "id");
        ok = str_eq(buf_str(&a->names[i]), get(call, "name")) &&
             same_args(buf_str(&a->args[i]), get(call, "arguments")) &&
             (!id.len || str_eq(buf_str(&a->ids[i]), id));
    }
    return ok;
}

static void print_answer(const json_t *row, const answer *a) {
    print_message("%s %s\n  in        %s\n  want      ",
                  json_string_value(json_object_get(row, "id")),
                  json_string_value(json_object_get(row, "template")),
                  json_string_value(json_object_get(row, "input")));
    char *want = json_dumps(json_object_get(row, "expect"), JSON_COMPACT);
    print_message("%s\n  content   %.*s\n  reasoning %.*s\n", want, STR_ARG(buf_str(&a->content)),
                  STR_ARG(buf_str(&a->reasoning)));
    for (int i = 0; i < a->n_calls; i++)
        print_message("  call      %.*s %.*s %.*s\n", STR_ARG(buf_str(&a->names[i])),
                      STR_ARG(buf_str(&a->args[i])), STR_ARG(buf_str(&a->ids[i])));
    free(want);
}

/* How many of a format's transcripts must be read as expected: all, unless it says here. */
static const struct {
    const char *format;
    int n, required;
} FORMATS[] = {
    {"qwen3-coder-xml", 61, 61}, {"mistral-args", 14, 14},
    {"cohere-action", 8, 8},     {"other", 4, 4},
    {"gemma4", 28, 28},          {"hermes-json", 18, 18},
    {"granite", 4, 4},           {"seed-xml", 8, 8},
    {"deepseek-v3.1", 7, 7},     {"deepseek-dsml", 26, 26},
    {"glm-argkv", 30, 29},       {"kimi-k3", 9, 9},
    {"kimi-k2", 4, 4},           {"pythonic-lfm2", 55, 55},
    {"minimax-xml", 6, 6},       {"toolcall-json-array", 3, 3},
    {"cohere-action-md", 3, 3},  {"mistral-json-array", 3, 3},
    {"function-tag-json", 3, 3}, {"functionary-v3.2", 3, 3},
    {"functools-json", 3, 3},    {"deepseek-r1", 14, 14},
    {"apriel-json-array", 4, 4}, {"llama3-json", 6, 6},
    {"harmony", 18, 18},         {"gigachat", 4, 4},
    {"minicpm-xml", 8, 8},
};
enum { N_FORMATS = sizeof FORMATS / sizeof *FORMATS };

static size_t read_tools(const json_t *row, chat_tool *tools) {
    const json_t *list = json_object_get(row, "tools");
    size_t n = json_array_size(list);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(list, i);
        tools[i] = (chat_tool){.name = get(v, "name"),
                               .parameters = json_parse(get(v, "parameters"), NULL)};
    }
    return n;
}

static void test_corpus(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    json_t *rows = corpus_json("tools/llamacpp_chat_cases.json");
    tok *t = tiny_vocab_harmony();
    harmony h;
    assert_true(harmony_init(&h, t));
    int seen[N_FORMATS] = {0}, good[N_FORMATS] = {0}, exact[N_FORMATS] = {0};
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        str format = get(row, "format");
        size_t f = 0;
        while (f < N_FORMATS && !str_is(format, FORMATS[f].format)) f++;
        if (f == N_FORMATS) fail_msg("unknown format %.*s", STR_ARG(format));
        char path[300];
        snprintf(path, sizeof path, "llama.cpp-templates/%.*s", STR_ARG(get(row, "template")));
        buf source = corpus_read("templates/%s", path);
        parser_style style = parser_find_style(buf_str(&source));
        chat_tool tools[MAX_CALLS];
        size_t n_tools = read_tools(row, tools);
        bool is_harmony = str_is(format, "harmony");
        parser_options o = {
            .t = t,
            .harmony = is_harmony ? &h : NULL,
            .inside = is_harmony,
            .style = &style,
            .show_reasoning = str_is(get(row, "reasoning_format"), "none"),
            .json_answer = get(row, "json_schema").len > 0,
            .takes_calls = n_tools > 0,
            .tools = tools,
            .n_tools = n_tools,
        };
        str prefix = after_header(get(row, "generation_prompt")), input = get(row, "input");
        bool finish = !json_is_true(json_object_get(row, "is_partial")), is_exact;
        answer a = {0};
        if (is_harmony) {
            buf whole = {0};
            buf_append_str(&whole, prefix);
            buf_append_str(&whole, input);
            read_ids(&o, buf_str(&whole), finish, &a);
            buf_deinit(&whole);
        } else {
            read_text(&o, prefix, input, 0, 0, finish, &a);
            for (uint64_t k = 0; k < 12; k++) {
                answer b = {0};
                read_text(&o, prefix, input, k < 4 ? k + 1 : 0, k < 4 ? 0 : k, finish, &b);
                if (!same(&a, &b)) {
                    print_answer(row, &a);
                    print_answer(row, &b);
                    fail_msg("depends on where the text is cut");
                }
                answer_deinit(&b);
            }
        }
        seen[f]++;
        bool ok = matches(&a, json_object_get(row, "expect"), &is_exact);
        good[f] += ok;
        exact[f] += ok && is_exact;
        if (!ok) print_answer(row, &a);
        answer_deinit(&a);
        for (size_t k = 0; k < n_tools; k++) json_decref(tools[k].parameters);
        buf_deinit(&source);
    }
    int all = 0, all_good = 0, all_exact = 0;
    bool enough = true;
    for (size_t f = 0; f < N_FORMATS; f++) {
        print_message("%-20s %2d of %2d (%d with the same white space)\n", FORMATS[f].format,
                      good[f], seen[f], exact[f]);
        enough = enough && seen[f] == FORMATS[f].n && good[f] >= FORMATS[f].required;
        all += seen[f];
        all_good += good[f];
        all_exact += exact[f];
    }
    print_message("%-20s %d of %d (%d)\n", "all", all_good, all, all_exact);
    assert_true(enough);
    tok_unref(t);
    json_decref(rows);
}

/* ── Odd texts ── */

/* One template's worth of signs for each family. */
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
    "plain <think>",
};
enum { N_SOURCES = sizeof SOURCES / sizeof *SOURCES };

static void check(const char *source, const char *text, const char *content, const char *reasoning,
                  const char *calls) {
    chat_tool tools[] = {
        {.name = STR("get"),
         .parameters =
             json_pack("{s:s, s:{s:{s:s}, s:{s:s}, s:{s:s}}}", "type", "object", "properties", "s",
                       "type", "string", "n", "type", "integer", "b", "type", "boolean")},
        {.name = STR("python")},
    };
    parser_style style = parser_find_style(str_from(source));
    parser_options o = {.style = &style, .takes_calls = true, .tools = tools, .n_tools = 2};
    for (size_t step = 0; step < 4; step++) {
        answer a = {0};
        buf got = {0};
        read_text(&o, (str){0}, str_from(text), step, 0, true, &a);
        for (int i = 0; i < a.n_calls; i++)
            buf_printf(&got, "%s%.*s(%.*s)", i ? " " : "", STR_ARG(buf_str(&a.names[i])),
                       STR_ARG(buf_str(&a.args[i])));
        if (!str_is(buf_str(&a.content), content) || !str_is(buf_str(&a.reasoning), reasoning) ||
            !str_is(buf_str(&got), calls))
            fail_msg("%s\n%s: [%.*s] %.*s {%.*s}", parser_style_name(&style), text,
                     STR_ARG(buf_str(&a.reasoning)), STR_ARG(buf_str(&a.content)),
                     STR_ARG(buf_str(&got)));
        buf_deinit(&got);
        answer_deinit(&a);
    }
    json_decref(tools[0].parameters);
}

static void test_odd(void **state) {
    (void)state;
    const char *hermes = "<tool_call> <think>",
               *qwen = "<tool_call> <function= <parameter= </think>", *llama = "<|python_tag|>",
               *mistral = "[TOOL_CALLS] [ARGS]", *lfm = "<|tool_call_start|>",
               *glm = "<arg_key> <think>", *gemma = "<|tool_call> <tool_call|>",
               *r1 = "<｜tool▁calls▁begin｜> ```json", *cohere = "<|START_ACTION|>";
    /* arguments before the name, a string that holds them, none at all, a wrapped function */
    check(hermes, "<tool_call>{\"arguments\": {\"n\": 1}, \"name\": \"get\"}</tool_call>", "", "",
          "get({\"n\": 1})");
    check(hermes, "<tool_call>{\"name\": \"get\", \"arguments\": \"{\\\"n\\\": 1}\"}</tool_call>",
          "", "", "get({\"n\": 1})");
    check(hermes, "<tool_call>{\"name\": \"get\"}</tool_call>", "", "", "get({})");
    check(
        hermes,
        "<tool_call>{\"type\": \"function\", \"function\": {\"name\": \"get\", \"arguments\": {}}}"
        "</tool_call>",
        "", "", "get({})");
    check(hermes,
          "<tool_call>[{\"name\": \"get\", \"arguments\": {}}, {\"name\": \"python\"}]</tool_call>",
          "", "", "get({}) python({})");
    check(lfm, "<|tool_call_start|>[get(s=\"\\ud83d\\ude00 \\ud83d, \\ude00\\ud83d\")]", "", "",
          "get({\"s\": \"\xF0\x9F\x98\x80 \xEF\xBF\xBD, \xEF\xBF\xBD\xEF\xBF\xBD\"})");
    /* what Python prints, where the schema wants no text; keys without quotes that are several words */
    check(
        "<seed:tool_call>",
        "<seed:tool_call><function=get><parameter=b>[{'a b': \"it's\", 'q': 'x\\n\\x41\"'}, None, "
        "True]</parameter><parameter=n>[1</parameter></function></seed:tool_call>",
        "", "",
        "get({\"b\": [{\"a b\": \"it's\", \"q\": \"x\\nA\\\"\"}, null, true], \"n\": \"[1\"})");
    check(gemma, "<|tool_call>call:get{two words:{a b:1,$ref:<|\"|>x<|\"|>},n:1}<tool_call|>", "",
          "", "get({\"two words\": {\"a b\": 1, \"$ref\": \"x\"}, \"n\": 1})");
    /* not calls */
    check(hermes, "a <tool_call> tag", "a <tool_call> tag", "", "");
    check(hermes, "<tool_call>{\"x\": 1}</tool_call>", "<tool_call>{\"x\": 1}</tool_call>", "", "");
    check(hermes, "<tool_call>{1}<tool_call>{\"name\": \"get\"}</tool_call>!", "<tool_call>{1}!",
          "", "get({})");
    check(hermes, "<tool_call>", "<tool_call>", "", "");
    check(hermes, "{\"name\": \"get\", \"arguments\": {}}",
          "{\"name\": \"get\", \"arguments\": {}}", "", "");
    /* cut off */
    check(hermes, "<tool_call>{\"name\": \"get\", \"arguments\": {\"s\": \"x", "", "",
          "get({\"s\": \"x)");
    check(hermes, "<think>hm", "", "hm", "");
    /* words around calls */
    check(hermes, "<think>hm</think>\nSo: <tool_call>{\"name\": \"get\"}</tool_call>\n\nDone.",
          "So: \n\nDone.", "hm", "get({})");
    /* bare JSON is a call only of a known function, and only at the beginning */
    check(llama, "{\"name\": \"get\", \"parameters\": {\"n\": 1}}", "", "", "get({\"n\": 1})");
    check(llama, "{\"name\": \"got\", \"parameters\": {}}",
          "{\"name\": \"got\", \"parameters\": {}}", "", "");
    check(llama, "{\"name\": \"get\"", "", "", "get()");
    check(llama, "x {\"name\": \"get\"}", "x {\"name\": \"get\"}", "", "");
    check(llama, "<|python_tag|>get.call(s=\"a\", n=1)", "", "", "get({\"s\": \"a\", \"n\": 1})");
    /* two values without a comma: the call ends where the second begins, and what is left is text */
    check(llama, "<|python_tag|>get.call(s=''x'', n=1)", "x'', n=1)", "", "get({\"s\": \"\")");
    check(llama, "<|python_tag|>get.call(l=[1, 2,], o={a: 1,})", "", "",
          "get({\"l\": [1, 2], \"o\": {\"a\": 1}})");
    check(llama, "<|python_tag|>print(\"a\")\n", "", "",
          "python({\"code\": \"print(\\\"a\\\")\\n\"})");
    check(llama, "<|python_tag|>{\"name\": \"get\", \"parameters\": {}}", "", "", "get({})");
    check("<function= </function>", "<|python_tag|>print(1)", "", "",
          "python({\"code\": \"print(1)\"})");
    check(
        "<|tools_prefix|>",
        "<|inner_prefix|>hm<|inner_suffix|>So.<|tools_prefix|>[{\"get\": {\"n\": 1}}, {\"python\": "
        "{}}]<|tools_suffix|>",
        "So.", "hm", "get({\"n\": 1}) python({})");
    check("<|python_start|>", "<|python_start|>[get(n=1)]<|python_end|>", "", "",
          "get({\"n\": 1})");
    check(
        "<arg_key{}> :opensource",
        "<tool_calls:opensource>\n<tool_call:opensource>get<tool_sep:opensource>\n"
        "<arg_key:opensource>n</arg_key:opensource>\n<arg_value:opensource>1</arg_value:opensource>\n"
        "</tool_call:opensource>\n</tool_calls:opensource>",
        "", "", "get({\"n\": 1})");
    /* names and ids */
    check(mistral, "[TOOL_CALLS]get[CALL_ID]abc[ARGS]{\"n\": {}}x", "x", "", "get({\"n\": {}})");
    check(mistral, "[TOOL_CALLS][{\"name\": \"get\", \"arguments\": {}}]", "", "", "get({})");
    check(mistral, "[TOOL_CALLS]", "[TOOL_CALLS]", "", "");
    check(r1, "<｜tool▁call▁begin｜>get<｜tool▁sep｜>{}<｜tool▁call▁end｜>", "", "", "get({})");
    check(cohere, "<|START_ACTION|>[]<|END_ACTION|>", "<|START_ACTION|>[]<|END_ACTION|>", "", "");
    /* values by their schema */
    check(qwen,
          "<function=get>\n<parameter=s>\n1\n</parameter>\n<parameter=n>\n1\n</parameter>\n"
          "<parameter=b>True</parameter></function>",
          "", "", "get({\"s\": \"1\", \"n\": 1, \"b\": true})");
    check(qwen, "<function=get><parameter=n>one</parameter><parameter=s>a", "", "",
          "get({\"n\": \"one\", \"s\": \"a\"})");
    check(qwen, "<function=get>oops", "oops", "", "get({})");
    check(qwen, "<function=>x", "<function=>x", "", "");
    check(glm, "use <tool_call> to call", "use <tool_call> to call", "", "");
    check(glm, "<tool_call>get</tool_call>", "", "", "get({})");
    /* literals */
    check(lfm,
          "<|tool_call_start|>[get(s='it\\'s \\u00e9 \\x41', n=-1.5, b=[None, (1, 2), {'k': "
          "True}])]<|tool_call_end|>",
          "", "",
          "get({\"s\": \"it's \xC3\xA9 A\", \"n\": -1.5, \"b\": [null, [1, 2], {\"k\": true}]})");
    check(lfm, "<|tool_call_start|>oops", "<|tool_call_start|>oops", "", "");
    check(gemma,
          "<|tool_call>call:get{s:<|\"|>a \\ \"b\"<|\"|>,b:{k:[1,<|\"|>x<|\"|>]}}<tool_call|>", "",
          "", "get({\"s\": \"a \\\\ \\\"b\\\"\", \"b\": {\"k\": [1, \"x\"]}})");
}

/* Marks and pieces of calls in any order: the same events however they are cut. */
static void test_random(void **state) {
    (void)state;
    static const char *const PIECES[] = {"{\"name\": \"get\", \"arguments\": {\"s\": \"x\"}}",
                                         "get",
                                         "{",
                                         "}",
                                         "[",
                                         "]",
                                         "(",
                                         ")",
                                         "\"",
                                         ",",
                                         ":",
                                         "=",
                                         "\\",
                                         "\n",
                                         " ",
                                         "1",
                                         "'",
                                         "a=1",
                                         "s",
                                         "<",
                                         ">",
                                         "true",
                                         "</think>",
                                         "<think>",
                                         "{\"name\": ",
                                         "\"get\"",
                                         "\xC3\xA9",
                                         "```",
                                         "<![CDATA[",
                                         "]]>",
                                         "<|\"|>",
                                         "\n\n"};
    enum { N_PIECES = sizeof PIECES / sizeof *PIECES };
    chat_tool tools[] = {{.name = STR("get")}};
    for (uint64_t seed = 0; seed < 30000; seed++) {
        parser_style style = parser_find_style(str_from(SOURCES[seed % N_SOURCES]));
        const parser_family *f = style.family;
        const char *marks[] = {f->open[0],       f->open[1],   f->drop[0],      f->drop[1],
                               f->drop[2],       f->after[0],  f->after[1],     f->seps[0].text,
                               f->seps[1].text,  f->xml.param, f->xml.key_end,  f->xml.value,
                               f->xml.value_end, f->xml.end,   f->xml.name_end, f->open[0]};
        enum { N_MARKS = sizeof marks / sizeof *marks };
        parser_options o = {.style = &style,
                            .takes_calls = rng_at(seed, 1) % 8,
                            .show_reasoning = rng_at(seed, 2) % 8 == 0,
                            .json_answer = rng_at(seed, 3) % 8 == 0,
                            .tools = tools,
                            .n_tools = 1};
        buf text = {0};
        uint64_t n = rng_at(seed, 4) % 14;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t r = rng_at(seed, 10 + i);
            const char *mark = marks[r / 2 % N_MARKS];
            buf_append_cstr(&text, r % 2 && mark ? mark : PIECES[r / 64 % N_PIECES]);
            if (r % 211 == 0)
                for (uint64_t k = 0; k < r % 700; k++) buf_append_char(&text, ' ');
        }
        answer whole = {0};
        read_text(&o, (str){0}, buf_str(&text), 0, 0, true, &whole);
        for (uint64_t k = 0; k < 3; k++) {
            answer cut = {0};
            read_text(&o, (str){0}, buf_str(&text), k == 0, k ? seed * 3 + k : 0, true, &cut);
            if (!same(&whole, &cut))
                fail_msg("%s, seed %d, cut %d: %.*s\n[%.*s] %.*s {%d}\n[%.*s] %.*s {%d}", f->name,
                         (int)seed, (int)k, STR_ARG(buf_str(&text)),
                         STR_ARG(buf_str(&whole.reasoning)), STR_ARG(buf_str(&whole.content)),
                         whole.n_calls, STR_ARG(buf_str(&cut.reasoning)),
                         STR_ARG(buf_str(&cut.content)), cut.n_calls);
            answer_deinit(&cut);
        }
        answer_deinit(&whole);
        buf_deinit(&text);
    }
}

/* Every template of the corpus that shows how to call says so in a way we know. */
static void test_templates(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    static const char *const WANT[][2] = {
        {"Bielik-11B-v3.0-Instruct.jinja", "hermes-json"},
        {"Qwen-Qwen3-0.6B.jinja", "hermes-json"},
        {"MiniMax-M1.jinja", "minimax-json"},
        {"poolside-Laguna-XS.2.jinja", "glm-argkv"},
        {"upstage-Solar-Open-100B.jinja", "solar-json"},
        {"tencent-Hy3.jinja", "hunyuan-argkv"},
        {"google-gemma-4-31B-it-interleaved.jinja", "gemma4"},
        {"google-gemma-2-2b-it.jinja", "text"},
        {"HuggingFaceTB-SmolLM3-3B.jinja", "text"},
    };
    json_t *rows = corpus_json("tools/llamacpp_chat_cases.json");
    for (size_t i = 0; i < json_array_size(rows) + sizeof WANT / sizeof *WANT; i++) {
        size_t k = i - json_array_size(rows);
        const json_t *row = json_array_get(rows, i);
        const char *name = row ? json_string_value(json_object_get(row, "template")) : WANT[k][0];
        const char *want = row ? json_string_value(json_object_get(row, "format")) : WANT[k][1];
        if (strcmp(want, "harmony") == 0) continue; /* known by its vocabulary */
        buf source = corpus_read("templates/llama.cpp-templates/%s", name);
        parser_style style = parser_find_style(buf_str(&source));
        assert_string_equal(parser_style_name(&style), strcmp(want, "other") == 0 ? "text" : want);
        buf_deinit(&source);
    }
    json_decref(rows);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_corpus), cmocka_unit_test(test_odd),
                                       cmocka_unit_test(test_random),
                                       cmocka_unit_test(test_templates)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
