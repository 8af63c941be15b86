/* multipart/form-data (RFC 7578) over a body that is whole in memory. Pure: parts are slices of the
 * body. Refuses what is malformed, more than MULTIPART_MAX_PARTS parts and header blocks over
 * MULTIPART_MAX_HEADERS bytes. Not a door.
 */
#ifndef API_MULTIPART_H
#define API_MULTIPART_H

#include "base/error.h"
#include "base/str.h"

enum { MULTIPART_MAX_PARTS = 64, MULTIPART_MAX_HEADERS = 8192, MULTIPART_MAX_NAME = 255 };

typedef struct multipart_part {
    char name[MULTIPART_MAX_NAME + 1];
    char filename[MULTIPART_MAX_NAME + 1]; /* UTF-8, without any folders; "" when it has none */
    bool has_filename;
    str type; /* Content-Type, or "" */
    str body;
} multipart_part;

typedef struct multipart {
    multipart_part parts[MULTIPART_MAX_PARTS];
    size_t n;
} multipart;

/* content_type: the request's header, or NULL. */
bool multipart_parse(const char *content_type, str body, multipart *out, error *err);
/* The first part of that name, or NULL. */
const multipart_part *multipart_find(const multipart *m, const char *name);

#endif
