/* What a model writes, read by every family of text: any bytes give well-nested
 * events of whole characters, the same however they are cut. First byte: the
 * family and how it is read; the rest: the text.
 */
#include <stdlib.h>

#include "chat/parser.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const SOURCES[] = {
    "DSML",
    "<|open|> <|close|>",
    "<|tool_call> <tool_call|>",
    "<minimax:tool_call> <think>",
    "<tool_call> <function= <parameter= </think>",
    "<function name= <param name=",
    "<arg_key> <think>",
    "<|START_ACTION|>",
    "<|tool_calls_section_begin|>",
    "<｜tool▁calls▁begin｜> ```json",
    "<|tool_call_start|> <think>",
    "[TOOL_CALLS] [ARGS] [THINK]",
    "<tool_calls> [BEGIN FINAL RESPONSE]",
    ">>>all",
    "<|python_tag|>",
    "<tool_call> <think>",
};

typedef struct reading {
    buf text; /* events as lines; pieces of one kind are one text */
    parser_event_kind last;
    bool in_call;
} reading;

static void take(parser *p, reading *r) {
    parser_event e;
    while (parser_next(p, &e)) {
        bool needs_call = e.kind == PARSER_CALL_ARGS || e.kind == PARSER_CALL_END;
        if (!utf8_is_valid(e.text) || r->in_call != needs_call) abort();
        r->in_call = e.kind == PARSER_CALL_BEGIN || e.kind == PARSER_CALL_ARGS;
        if (!r->text.len || r->last != e.kind) buf_printf(&r->text, "\n%d ", (int)e.kind);
        r->last = e.kind;
        buf_append_str(&r->text, e.text);
        buf_append_str(&r->text, e.id);
    }
}

static reading parse(const parser_options *o, str text, size_t step) {
    reading r = {0};
    parser *p = parser_new(o);
    if (!p) abort();
    for (size_t i = 0; i < text.len; i += step) {
        parser_push_text(p, str_make(text.ptr + i, text.len - i < step ? text.len - i : step));
        take(p, &r);
    }
    parser_finish(p);
    take(p, &r);
    if (parser_failed(p) || r.in_call) abort();
    parser_free(p);
    return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 1 || size > 4096) return 0;
    chat_tool tools[] = {{.name = STR("get"),
                          .parameters = json_pack("{s:{s:{s:s}, s:{s:s}}}", "properties", "s",
                                                  "type", "string", "n", "type", "integer")},
                         {.name = STR("python")}};
    parser_style style = parser_find_style(str_from(SOURCES[data[0] & 15]));
    parser_options o = {.style = &style,
                        .takes_calls = !(data[0] & 64),
                        .show_reasoning = data[0] & 16,
                        .json_answer = data[0] & 32,
                        .tools = tools,
                        .n_tools = 2};
    str text = str_make((const char *)data + 1, size - 1);
    reading whole = parse(&o, text, size), cut = parse(&o, text, data[0] & 128 ? 3 : 1);
    if (!str_eq(buf_str(&whole.text), buf_str(&cut.text))) abort();
    buf_deinit(&whole.text);
    buf_deinit(&cut.text);
    json_decref(tools[0].parameters);
    return 0;
}
