/* Items of the Responses API: what clients send → what is kept and listed → chat messages. Not a door.
 */
#ifndef API_RESPONSES_ITEMS_H
#define API_RESPONSES_ITEMS_H

#include "api/store.h"

enum { ITEMS_MAX = 16384 };

/* `input` (a string, or an array of items) as a new array of whole items: every one has an id, a type
 * and its content as parts; references are replaced by what they name, if that is the owner's. Ids that clients gave stay
 * unless fresh_ids; others are made of `seed` (24 letters, see item_id). NULL with the first thing wrong,
 * named by its path. */
json_t *items_normalise(api *a, str owner, json_t *input, const char *path, const char *seed,
                        bool fresh_ids, error *err);
/* "msg_" + seed + which + index: an output item's id tells which response it belongs to. */
api_id item_id(const char *type, const char *seed, char which, size_t index);

/* How the model knows a tool of a namespace: models know functions by one name only. Harmony's own
 * "functions" needs none, nor does a name that would become too long. */
typedef struct tool_name {
    char text[72];
} tool_name;
tool_name tool_name_offered(str space, str name);
/* Whether its `tools` are offered like the request's own. */
bool item_has_tools(json_t *item);

/* Messages for a chat request, made of items. */
typedef struct item_messages {
    json_t *messages; /* array; owned */
    buf reasoning;    /* of the assistant's message that comes next */
    bool reasoning_failed;
    /* where message i came from, for errors: [n_messages] */
    field_path *origins;
    size_t cap;
} item_messages;
bool item_messages_init(item_messages *m);
void item_messages_deinit(item_messages *m);
/* instructions come first; later system and developer messages before any other join them. */
bool item_messages_instruct(item_messages *m, str text, error *err);
/* path: of the array; items are normal (items_normalise). */
bool item_messages_add(api *a, item_messages *m, json_t *items, const char *path, error *err);
/* "messages[3].content" → "input[2].content" */
void item_messages_fix_param(const item_messages *m, error *err);

/* The purposes things are sealed for. */
#define SEAL_REASONING  "reasoning"
#define SEAL_COMPACTION "compaction"
#define SEAL_WINDOW     "window" /* a summary that stands for all before it, with the last words */

#endif
