#include "chat/plain_tools.h"

bool plain_tools_concern(const chat_message *m) {
    return m->n_calls > 0 || m->role == CHAT_TOOL;
}

void plain_tools_put_instructions(buf *out, const chat_tool *tools, size_t n) {
    if (!n) return;
    buf_append_cstr(out, "You can call functions. They are, one a line:\n");
    for (size_t i = 0; i < n; i++) {
        json_out j = json_begin(out);
        json_obj(&j);
        json_kv_str(&j, "name", tools[i].name);
        if (tools[i].description.len) json_kv_str(&j, "description", tools[i].description);
        if (tools[i].is_custom) {
            json_key(&j, "parameters");
            json_put_raw(&j, STR("{\"type\":\"object\",\"properties\":{\"input\":{\"type\":"
                                 "\"string\"}},\"required\":[\"input\"]}"));
        } else if (tools[i].parameters) {
            json_key(&j, "parameters");
            json_put_value(&j, tools[i].parameters);
        }
        json_end_obj(&j);
        buf_append_char(out, '\n');
    }
    buf_append_cstr(out, "To call a function, write only this, with its name and its arguments:\n"
                         "<tool_call>\n{\"name\": \"function\", \"arguments\": {}}\n</tool_call>");
}

void plain_tools_put_message(buf *out, const chat_message *m) {
    if (m->role == CHAT_TOOL) {
        buf_append_cstr(out, "<tool_response>\n");
        buf_append_str(out, m->content);
        buf_append_cstr(out, "\n</tool_response>");
        return;
    }
    buf_append_str(out, m->content);
    for (size_t i = 0; i < m->n_calls; i++) {
        if (out->len) buf_append_char(out, '\n');
        buf_append_cstr(out, "<tool_call>\n");
        json_out j = json_begin(out);
        json_obj(&j);
        json_kv_str(&j, "name", m->calls[i].name);
        json_key(&j, "arguments");
        error err = {0};
        json_t *value = m->calls[i].is_custom ? NULL : json_parse(m->calls[i].arguments, &err);
        out->failed |= err.code == ERR_NO_MEMORY; /* else they would be told as text */
        if (m->calls[i].is_custom) {
            json_obj(&j);
            json_kv_str(&j, "input", m->calls[i].arguments);
            json_end_obj(&j);
        } else if (value)
            json_put_value(&j, value);
        else
            json_put_str(&j, m->calls[i].arguments);
        json_decref(value);
        json_end_obj(&j);
        buf_append_cstr(out, "\n</tool_call>");
    }
}
