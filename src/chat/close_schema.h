/* A schema that leaves undeclared properties open lets a weak model invent them
 * until its tokens are used up. When generating they are left out: every object
 * that declares properties and does not speak of others is closed. What the
 * narrower schema accepts the wider one does too.
 */
#ifndef CHAT_CLOSE_SCHEMA_H
#define CHAT_CLOSE_SCHEMA_H

#include "base/json.h"

/* New reference: a closed copy; the schema itself where closing could contradict what it says
 * elsewhere (compositions, names that are required but not declared) or memory ran out. */
json_t *close_schema(json_t *schema);

#endif
