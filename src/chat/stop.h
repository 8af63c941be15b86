/* Stop strings across pieces of text: finds the first one to be completed, never
 * shows any of it, and holds text back only while it may still become one.
 *
 * "First" means the one whose last byte comes first; of several that end there,
 * the longest. So the result does not depend on where the text was cut.
 * One Knuth–Morris–Pratt automaton for each string: O(strings) a byte.
 */
#ifndef CHAT_STOP_H
#define CHAT_STOP_H

#include "base/buf.h"

typedef struct stop_string {
    str text;           /* a copy */
    uint16_t *fallback; /* [len]: longest proper border of the first i+1 bytes */
    uint16_t matched;   /* bytes of it that the text now ends with */
} stop_string;

typedef struct stop {
    stop_string *strings;
    size_t n;
    buf held;
    int hit; /* index of the string that was found, −1 */
} stop;

enum { STOP_MAX_BYTES = 65535 };

/* Copies the strings; empty ones match nothing. False when memory ran out or one is too long; the
 * struct is then empty but valid. */
bool stop_init(stop *s, const str *strings, size_t n);
void stop_deinit(stop *s);
/* Appends to out what can be shown now. True when a stop string is complete: nothing is taken or
 * shown any more. */
bool stop_push(stop *s, str text, buf *out);
/* The text is over (or something else follows): appends what was held back and starts afresh. */
void stop_flush(stop *s, buf *out);
static inline bool stop_holds(const stop *s) {
    return s->held.len > 0;
}

#endif
