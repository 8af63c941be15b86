/* Tools for models whose template knows none: the system message tells what can
 * be called and how, a call is text between <tool_call> tags, a result comes as a
 * user's message. The parser of plain text reads such calls (formats/families.c).
 */
#ifndef CHAT_PLAIN_TOOLS_H
#define CHAT_PLAIN_TOOLS_H

#include "base/buf.h"
#include "chat/chat.h"

/* Whether a message must be told in other words because it calls or answers a call. */
bool plain_tools_concern(const chat_message *m);
/* What the model is told of its tools; nothing when there are none. */
void plain_tools_put_instructions(buf *out, const chat_tool *tools, size_t n);
/* An assistant's message with calls, or a tool's result, as text. */
void plain_tools_put_message(buf *out, const chat_message *m);

#endif
