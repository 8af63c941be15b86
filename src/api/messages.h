/* messages[] of OpenAI's requests → chat_input. Not a door. */
#ifndef API_MESSAGES_H
#define API_MESSAGES_H

#include "api/fields.h"
#include "chat/chat.h"

/* Everything lives in mem and borrows strings from the JSON. */
bool messages_parse(arena *mem, json_t *v, const char *path, const chat_message **out, size_t *n,
                    error *err);
/* Refuses a call that no tool message right behind it answers, as OpenAI does. `path` is the messages'. */
bool messages_check_answered(const chat_message *m, size_t n, const char *path, error *err);
/* Gives each tool result its function's name, for the formats that print it. */
void messages_name_results(chat_message *m, size_t n);
/* A string, or text parts, which are joined; other parts are a 400 that names them. */
bool content_parse(arena *mem, json_t *v, const char *path, str *out, error *err);
/* Is this a JSON Schema at all (types known, members of the right shape)? The first thing wrong is
 * said with where it is. */
bool schema_check(json_t *schema, const char *path, error_code code, error *err);
/* A function's name: letters, digits, _ and -, 1 to 64. */
bool function_name_check(str name, const char *path, error *err);

#endif
