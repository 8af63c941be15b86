/* The families: how each writes reasoning and tool calls. One row is all there
 * is to know about one; rows are tried in order against the template's source,
 * the more particular first, and the first whose signs are all there is taken.
 * Names of models play no part. What no row fits is plain text (PLAIN).
 *
 * A family whose `think` is empty uses the tags its template speaks of (TAGS).
 */
#include "chat/formats/tagged.h"

/* Same marks, two generations of Llama 3 templates. */
#define LLAMA3                                                                                  \
    .name = "llama3-json", .flags = FAMILY_BARE | FAMILY_KNOWN_ONLY, .style = CALLS_PYTHON_TAG, \
    .open = {"<|python_tag|>"},                                                                 \
    .writing = {"", "{\"name\": \"", "\", \"parameters\": ", "}", NULL, ""}

#define LFM2                                                                         \
    .name = "pythonic-lfm2", .style = CALLS_PYTHON, .open = {"<|tool_call_start|>"}, \
    .after = {"<|tool_call_end|>"},                                                  \
    .writing = {"<|tool_call_start|>[", "", "(", ")", ", ", "]<|tool_call_end|>"}

#define GLM(newline)                                                                       \
    .style = CALLS_XML, .flags = FAMILY_ENDS_THINKING | FAMILY_KNOWN_ONLY,                 \
    .open = {"<tool_call>"}, .after = {"</tool_call>"},                                    \
    .drop = {"<|role_end|>", "<|observation|>", "<|user|>"},                               \
    .xml = {"", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>", "</tool_call>"}, \
    .writing = {"", "<tool_call>", newline, "</tool_call>", newline, ""}

static const parser_family FAMILIES[] = {
    {.name = "deepseek-dsml",
     .signs = {"DSML"},
     .think = {"<think>", "</think>"},
     .flags = FAMILY_ENDS_THINKING,
     .style = CALLS_XML,
     .open = {"<｜DSML｜invoke name=\""},
     .drop = {"\n\n<｜DSML｜function_calls>", "\n\n<｜DSML｜tool_calls>",
              "<｜DSML｜function_calls>", "<｜DSML｜tool_calls>", "</｜DSML｜function_calls>",
              "</｜DSML｜tool_calls>"},
     .xml = {">", "<｜DSML｜parameter name=\"", ">", "", "</｜DSML｜parameter>",
             "</｜DSML｜invoke>", "string=\"true\"", "string=\"false\""},
     .writing = {"\n\n<｜DSML｜function_calls>\n", "<｜DSML｜invoke name=\"", "\">\n",
                 "</｜DSML｜invoke>\n", "", "</｜DSML｜function_calls>"}},
    {.name = "kimi-k3",
     .signs = {"<|open|>", "<|close|>"},
     .think = {"<|open|>think<|sep|>", "<|close|>think<|sep|>"},
     .flags = FAMILY_ENDS_THINKING,
     .style = CALLS_XML,
     .open = {"<|open|>call tool=\""},
     .drop = {"<|open|>response<|sep|>", "<|close|>response<|sep|>", "<|open|>tools<|sep|>",
              "<|close|>tools<|sep|>", "<|close|>message<|sep|>"},
     .xml = {"<|sep|>", "<|open|>argument key=\"", "<|sep|>", "", "<|close|>argument<|sep|>",
             "<|close|>call<|sep|>", "type=\"string\"", "type=\""},
     .writing = {"<|open|>response<|sep|><|close|>response<|sep|><|open|>tools<|sep|>",
                 "<|open|>call tool=\"", "\" index=\"1\"<|sep|>", "<|close|>call<|sep|>", NULL,
                 "<|close|>tools<|sep|><|close|>message<|sep|>"}},
    {.name = "gemma4",
     .signs = {"<|tool_call>", "<tool_call|>"},
     .think = {"<|channel>thought", "<channel|>"},
     .flags = FAMILY_THINKS_ANYWHERE,
     .style = CALLS_LITERAL,
     .open = {"<|tool_call>call:"},
     .after = {"<tool_call|>"},
     .drop = {"<|channel>", "<channel|>", "<turn|>"},
     .writing = {"", "<|tool_call>call:", "", "<tool_call|>", "", ""}},
    {.name = "minimax-xml",
     .signs = {"<minimax:tool_call>"},
     .style = CALLS_XML,
     .flags = FAMILY_ENDS_THINKING,
     .open = {"<invoke name=\""},
     .drop = {"<minimax:tool_call>", "</minimax:tool_call>"},
     .xml = {">", "<parameter name=\"", ">", "", "</parameter>", "</invoke>"},
     .writing = {"<minimax:tool_call>\n", "<invoke name=\"", "\">\n", "</invoke>\n", "",
                 "</minimax:tool_call>"}},
    {.name = "seed-xml",
     .signs = {"<seed:tool_call>"},
     .think = {"<seed:think>", "</seed:think>"},
     .style = CALLS_XML,
     .open = {"<function="},
     .drop = {"<seed:tool_call>", "</seed:tool_call>"},
     .xml = {">", "<parameter=", ">", "", "</parameter>", "</function>"},
     .writing = {"", "<seed:tool_call>\n<function=", ">\n", "</function>\n</seed:tool_call>", "\n",
                 ""}},
    {.name = "qwen3-coder-xml",
     .signs = {"<tool_call>", "<function=", "<parameter="},
     .flags = FAMILY_ENDS_THINKING | FAMILY_TRIMS_LINES,
     .style = CALLS_XML,
     .open = {"<function="},
     .drop = {"<tool_call>", "</tool_call>"},
     .xml = {">", "<parameter=", ">", "", "</parameter>", "</function>"},
     .writing = {"", "<tool_call>\n<function=", ">\n", "</function>\n</tool_call>", "\n", ""}},
    {.name = "minicpm-xml",
     .signs = {"<function name=", "<param name="},
     .style = CALLS_XML,
     .open = {"<function name=\""},
     .xml = {">", "<param name=\"", ">", "", "</param>", "</function>"},
     .writing = {"", "<function name=\"", "\">", "</function>", "\n", ""}},
    /* Without line breaks where the template writes none. */
    {.name = "glm-argkv", .signs = {"<arg_key>", "</arg_key><arg_value>"}, GLM("")},
    {.name = "glm-argkv", .signs = {"<arg_key>"}, GLM("\n")},
    {.name = "hunyuan-argkv",
     .signs = {"<arg_key{}>", ":opensource"},
     .think = {"<think:opensource>", "</think:opensource>"},
     .style = CALLS_XML,
     .open = {"<tool_call:opensource>"},
     .drop = {"<tool_calls:opensource>", "</tool_calls:opensource>"},
     .xml = {"<tool_sep:opensource>", "<arg_key:opensource>", "</arg_key:opensource>",
             "<arg_value:opensource>", "</arg_value:opensource>", "</tool_call:opensource>"},
     .writing = {"<tool_calls:opensource>\n", "<tool_call:opensource>", "<tool_sep:opensource>\n",
                 "</tool_call:opensource>\n", "", "</tool_calls:opensource>"}},
    {.name = "apertus-json",
     .signs = {"<|tools_prefix|>"},
     .think = {"<|inner_prefix|>", "<|inner_suffix|>"},
     .flags = FAMILY_KEYED,
     .style = CALLS_JSON,
     .open = {"<|tools_prefix|>"},
     .after = {"<|tools_suffix|>"},
     .writing = {"<|tools_prefix|>[", "{\"", "\": ", "}", ", ", "]<|tools_suffix|>"}},
    {.name = "pythonic-llama4",
     .signs = {"<|python_start|>"},
     .style = CALLS_PYTHON,
     .open = {"<|python_start|>"},
     .after = {"<|python_end|>"},
     .writing = {"<|python_start|>[", "", "(", ")", ", ", "]<|python_end|>"}},
    {.name = "cohere-action",
     .signs = {"<|START_ACTION|>"},
     .think = {"<|START_THINKING|>", "<|END_THINKING|>"},
     .style = CALLS_JSON,
     .open = {"<|START_ACTION|>"},
     .after = {"<|END_ACTION|>"},
     .drop = {"<|START_RESPONSE|>", "<|END_RESPONSE|>", "<|START_TEXT|>", "<|END_TEXT|>"},
     .writing = {"<|START_ACTION|>[\n    ", "{\"tool_call_id\": \"0\", \"tool_name\": \"",
                 "\", \"parameters\": ", "}", NULL, "\n]<|END_ACTION|>"}},
    {.name = "cohere-action-md",
     .signs = {"Action:", "<|CHATBOT_TOKEN|>"},
     .flags = FAMILY_KNOWN_ONLY,
     .style = CALLS_JSON,
     .open = {"Action:\n```json\n", "Action: ```json\n"},
     .after = {"```"},
     .drop = {"<|CHATBOT_TOKEN|>", "<|END_OF_TURN_TOKEN|>"},
     .writing = {"Action:\n```json\n[\n", "    {\"tool_name\": \"", "\", \"parameters\": ", "}",
                 ",\n", "\n]\n```"}},
    {.name = "kimi-k2",
     .signs = {"<|tool_calls_section_begin|>"},
     .think = {"<think>", "</think>"},
     .style = CALLS_NAMED,
     .open = {"<|tool_call_begin|>"},
     .after = {"<|tool_call_end|>"},
     .drop = {"<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"},
     .head = 'i',
     .seps = {{"<|tool_call_argument_begin|>", 'a'}},
     .writing = {"<|tool_calls_section_begin|>", "<|tool_call_begin|>functions.",
                 ":0<|tool_call_argument_begin|>", "<|tool_call_end|>", NULL,
                 "<|tool_calls_section_end|>"}},
    {.name = "deepseek-r1",
     .signs = {"<｜tool▁calls▁begin｜>", "```json"},
     .think = {"<think>", "</think>"},
     .style = CALLS_NAMED,
     .open = {"<｜tool▁call▁begin｜>", "<｜tool▁calls｜>"},
     .after = {"<｜tool▁call▁end｜>", "```<｜tool▁call▁end｜>", "```"},
     .drop = {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"},
     .head = 't',
     .seps = {{"<｜tool▁sep｜>", 'n'}, {"\n```json", 'a'}},
     .writing = {"<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>function<｜tool▁sep｜>",
                 "\n```json\n", "\n```<｜tool▁call▁end｜>", "\n", "<｜tool▁calls▁end｜>"}},
    {.name = "deepseek-v3.1",
     .signs = {"<｜tool▁calls▁begin｜>"},
     .think = {"<think>", "</think>"},
     .style = CALLS_NAMED,
     .open = {"<｜tool▁call▁begin｜>"},
     .after = {"<｜tool▁call▁end｜>"},
     .drop = {"<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"},
     .head = 'n',
     .seps = {{"<｜tool▁sep｜>", 'a'}},
     .writing = {"<｜tool▁calls▁begin｜>", "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>",
                 "<｜tool▁call▁end｜>", "", "<｜tool▁calls▁end｜>"}},
    {.signs = {"<|tool_list_start|>"}, LFM2},
    {.signs = {"<|tool_call_start|>"}, LFM2},
    {.signs = {"List of tools: [", "<|im_start|>"}, LFM2},
    {.name = "mistral-args",
     .signs = {"[TOOL_CALLS]", "[CALL_ID]"},
     .style = CALLS_NAMED,
     .open = {"[TOOL_CALLS]"},
     .head = 'n',
     .seps = {{"[CALL_ID]", 'i'}, {"[ARGS]", 'a'}},
     .writing = {"", "[TOOL_CALLS]", "[CALL_ID]000000000[ARGS]", "", NULL, ""}},
    {.name = "mistral-args",
     .signs = {"[TOOL_CALLS]", "[ARGS]"},
     .style = CALLS_NAMED,
     .open = {"[TOOL_CALLS]"},
     .head = 'n',
     .seps = {{"[CALL_ID]", 'i'}, {"[ARGS]", 'a'}},
     .writing = {"", "[TOOL_CALLS]", "[ARGS]", "", "", ""}},
    {.name = "mistral-json-array",
     .signs = {"[TOOL_CALLS]"},
     .style = CALLS_JSON,
     .open = {"[TOOL_CALLS]"},
     .writing = {"[TOOL_CALLS][", "{\"name\": \"", "\", \"arguments\": ", "}", ", ", "]"}},
    {.name = "toolcall-json-array",
     .signs = {"<TOOLCALL>"},
     .style = CALLS_JSON,
     .open = {"<TOOLCALL>"},
     .after = {"</TOOLCALL>"},
     .writing = {"<TOOLCALL>[", "{\"name\": \"", "\", \"arguments\": ", "}", ", ", "]</TOOLCALL>"}},
    {.name = "apriel-json-array",
     .signs = {"<tool_calls>", "[BEGIN FINAL RESPONSE]"},
     .think = {"", "[BEGIN FINAL RESPONSE]"},
     .flags = FAMILY_BEGINS_THINKING,
     .style = CALLS_JSON,
     .open = {"<tool_calls>"},
     .after = {"</tool_calls>"},
     .drop = {"<|end|>"},
     .writing = {"<tool_calls>[", "{\"name\": \"", "\", \"arguments\": ", "}", ", ",
                 "]</tool_calls>"}},
    {.name = "minimax-json",
     .signs = {"<tool_calls>"},
     .style = CALLS_JSON,
     .open = {"<tool_calls>"},
     .after = {"</tool_calls>"},
     .writing = {"<tool_calls>\n", "{\"name\": \"", "\", \"arguments\": ", "}", "\n",
                 "\n</tool_calls>"}},
    {.name = "solar-json",
     .signs = {"<|tool_call:begin|>"},
     .think = {"<|think|>", "<|end|>"},
     .style = CALLS_NAMED,
     .open = {"<|tool_call:begin|>"},
     .after = {"<|tool_call:end|>"},
     .drop = {"<|begin|>assistant", "<|content|>", "<|end|>", "<|tool_calls|>", "<|calls|>"},
     .head = 'i',
     .seps = {{"<|tool_call:name|>", 'n'}, {"<|tool_call:args|>", 'a'}},
     .writing = {"<|tool_calls|>", "<|tool_call:begin|>0000000000<|tool_call:name|>",
                 "<|tool_call:args|>", "<|tool_call:end|>", NULL, "<|calls|>"}},
    {.name = "granite",
     .signs = {"<|tool_call|>"},
     .style = CALLS_JSON,
     .open = {"<|tool_call|>"},
     .after = {"<|/tool_call|>"},
     .drop = {"<response>", "</response>"},
     .writing = {"<|tool_call|>[", "{\"name\": \"", "\", \"arguments\": ", "}", ", ", "]"}},
    {.name = "gigachat",
     .signs = {"<|function_call|>"},
     .style = CALLS_JSON,
     .open = {"<|function_call|>"},
     .writing = {"", "<|function_call|>{\"name\": \"", "\", \"arguments\": ", "}", NULL, ""}},
    {.name = "functools-json",
     .signs = {"functools"},
     .flags = FAMILY_KNOWN_ONLY,
     .style = CALLS_JSON,
     .open = {" functools", "functools"},
     .writing = {" functools[", "{\"name\": \"", "\", \"arguments\": ", "}", ", ", "]"}},
    {.name = "functionary-v3.2",
     .signs = {">>>all"},
     .flags = FAMILY_KNOWN_ONLY,
     .style = CALLS_NAMED,
     .open = {">>>"},
     .drop = {">>>all\n"},
     .head = 'n',
     .seps = {{"\n", 'a'}},
     .writing = {"", ">>>", "\n", "", "", ""}},
    {.name = "function-tag-json",
     .signs = {"<function=", "</function>"},
     .style = CALLS_NAMED,
     .open = {"<function=", FAMILY_PYTHON_TAG},
     .after = {"</function>"},
     .head = 'n',
     .seps = {{">", 'a'}},
     .writing = {"", "<function=", ">", "</function>", "", ""}},
    {.signs = {"<|python_tag|>"}, LLAMA3},
    {.signs = {"<|start_header_id|>", "\"parameters\""}, LLAMA3},
    {.name = "hermes-json",
     .signs = {"<tool_call>"},
     .style = CALLS_JSON,
     .open = {"<tool_call>"},
     .after = {"</tool_call>"},
     .writing = {"", "<tool_call>\n{\"name\": \"", "\", \"arguments\": ", "}\n</tool_call>", "\n",
                 ""}},
};

/* A template that shows no calls. Models that were told how (plain_tools.c) write them like this. */
static const parser_family PLAIN = {.name = "text",
                                    .flags = FAMILY_BARE | FAMILY_KNOWN_ONLY,
                                    .style = CALLS_JSON,
                                    .open = {"<tool_call>"},
                                    .after = {"</tool_call>"},
                                    .writing = {"", "<tool_call>\n{\"name\": \"",
                                                "\", \"arguments\": ", "}\n</tool_call>", "\n",
                                                ""}};

static const parser_tags TAGS[] = {
    {{"<think>", 7}, {"</think>", 8}}, /* Qwen3, DeepSeek-R1 and many more */
    {{"[THINK]", 7}, {"[/THINK]", 8}}, /* Mistral's reasoning models */
};

static bool contains(str text, const char *what) {
    return str_find(text, str_from(what), 0) >= 0;
}

static const parser_family *find_family(str source) {
    for (size_t i = 0; i < sizeof FAMILIES / sizeof *FAMILIES; i++) {
        const char *const *signs = FAMILIES[i].signs;
        bool all = true;
        for (int k = 0; k < 3 && signs[k]; k++) all = all && contains(source, signs[k]);
        if (all) return &FAMILIES[i];
    }
    return &PLAIN;
}

parser_style parser_find_style(str source) {
    parser_style s = {.family = find_family(source)};
    if (s.family->think[0])
        s.think = (parser_tags){str_from(s.family->think[0]), str_from(s.family->think[1])};
    for (size_t i = 0; i < sizeof TAGS / sizeof *TAGS && !s.think.close.len; i++)
        if (str_find(source, TAGS[i].open, 0) >= 0 || str_find(source, TAGS[i].close, 0) >= 0)
            s.think = TAGS[i];
    return s;
}

bool parser_style_is_plain(const parser_style *s) {
    return s->family == &PLAIN;
}

const char *parser_style_name(const parser_style *s) {
    return s->family->name;
}

str parser_find_prefix(const parser_style *s, str prompt) {
    size_t end = prompt.len;
    while (end && call_is_space(prompt.ptr[end - 1])) end--;
    str text = str_make(prompt.ptr, end);
    for (int i = -1; i < FAMILY_MAX_OPEN; i++) {
        str mark = i < 0 ? s->think.open : str_from(s->family->open[i]);
        if (mark.len && str_ends(text, mark))
            return str_make(prompt.ptr + end - mark.len, prompt.len - end + mark.len);
    }
    return (str){0};
}
