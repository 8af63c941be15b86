/* tools[], tool_choice and the deprecated functions and function_call of OpenAI's
 * requests → chat_input, and calls back. Not a door.
 */
#ifndef API_TOOLS_H
#define API_TOOLS_H

#include "api/fields.h"
#include "chat/chat.h"

typedef struct tool_set {
    chat_tool *tools;
    size_t n;
    bool are_functions; /* they came as 'functions' */
    chat_tool_choice choice;
} tool_set;

/* Everything lives in mem and borrows strings from the JSON. */
bool tools_parse(arena *mem, json_t *v, const char *path, tool_set *out, error *err);
bool functions_parse(arena *mem, json_t *v, const char *path, tool_set *out, error *err);
/* After the tools: none, auto, required, one by name, allowed_tools. Bars those that may not be
 * called. */
bool tool_choice_parse(json_t *v, const char *path, tool_set *set, error *err);
/* function_call: none, auto, {"name": …}. */
bool function_call_parse(json_t *v, const char *path, tool_set *set, error *err);
const chat_tool *tool_set_find(const tool_set *set, str name);

/* A custom tool's text, out of {"input": "…"} where the model's way of calling wraps it so. */
void tools_put_input(buf *out, str arguments);

#endif
