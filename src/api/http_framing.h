/* Which bytes of a connection are HTTP/1.1: a scanner that sees them before the
 * HTTP library does, in whatever pieces they come, and finds the first that may not
 * be handed on. It keeps no text of the message and allocates nothing.
 *
 * What two parsers could read differently is refused (RFC 9112 §2 … §7): control
 * characters and NUL in the head, space around a field's name, folded fields, a bare CR,
 * a missing or second Host, Content-Length that is several, not a number or beside
 * Transfer-Encoding, an encoding other than chunked, white space after either of these,
 * which the library would not take off, chunks that are not framed to the letter. A line
 * of the head may end with a bare LF, one of a chunk may not.
 */
#ifndef API_HTTP_FRAMING_H
#define API_HTTP_FRAMING_H

#include "base/error.h"
#include "base/str.h"

enum {
    FRAMING_MAX_FIELDS = 512, /* header fields, trailers, cookies and arguments of the query: what
                                 the library's pool has room for */
    FRAMING_MAX_CHUNK_LINE = 1024,
    FRAMING_TARGET = 48, /* how much of the target is kept, to know in whose shape to refuse */
};

typedef struct framing_limits {
    size_t max_head; /* request line, fields and trailers together, as sent */
    uint64_t max_length;
} framing_limits;

typedef struct framing {
    framing_limits limits;
    int state;
    size_t n_head, n_fields, n_line; /* n_line: of the token or chunk line being read */
    char name[20], value[12];        /* the beginning of a field's; lower case */
    size_t n_name, n_value;
    int cookie;
    int n_length, n_encoding, n_host;
    int minor;     /* HTTP/1.minor */
    uint64_t left; /* bytes of body or chunk that are still to come */
    char target[FRAMING_TARGET];
    error fault;
} framing;

void framing_init(framing *f, framing_limits limits);

/* How many of the bytes may be handed on. Fewer than there are: the message ends there (the next
 * begins with the next call), or the byte after them is refused and f->fault says why; a faulted
 * scanner takes nothing more. */
size_t framing_feed(framing *f, str bytes);

/* Bytes of body that come next, whatever they are; 0 in the head and between chunks. */
uint64_t framing_body_left(const framing *f);

#endif
