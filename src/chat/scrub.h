/* Bytes in pieces → well-formed UTF-8 in whole characters. What cannot be a
 * character becomes U+FFFD, one per maximal ill-formed part (Unicode 15, §3.9),
 * wherever the pieces were cut.
 */
#ifndef CHAT_SCRUB_H
#define CHAT_SCRUB_H

#include "base/buf.h"

typedef struct scrub {
    char tail[4]; /* the beginning of a character */
    int n_tail;
} scrub;

/* Appends to out what is certain now. */
void scrub_push(scrub *s, str bytes, buf *out);
/* No more bytes: an unfinished character becomes U+FFFD. */
void scrub_flush(scrub *s, buf *out);

#endif
