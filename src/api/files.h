/* What uploads and batches need of files. Not a door. */
#ifndef API_FILES_H
#define API_FILES_H

#include "api/store.h"

/* A file object on its way into the store. Strings are borrowed until it is put. */
typedef struct file_draft {
    api_id id;
    str filename, purpose, owner;
    int64_t created, expires; /* 0 = never */
    store_content content;
} file_draft;

/* Renders the object clients see. */
void file_render(const file_draft *f, buf *out);
/* Inside an operation: keeps the content and puts the row. */
bool file_put(store_tx *tx, const file_draft *f, error *err);
/* One of OpenAI's purposes a client may use. */
bool file_check_purpose(str purpose, error *err);
/* How long a file may be asked to live, in seconds. path: of {anchor, seconds}, for the error. */
bool file_check_expiry(int64_t seconds, const char *path, error *err);
/* {"anchor": "created_at", "seconds": …} */
bool file_decode_expiry(json_t *v, const char *path, int64_t *seconds, error *err);

#endif
