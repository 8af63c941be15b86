/* A multipart form as the JSON object that a field table decodes: the same
 * checks and the same errors as for a JSON body. Not a door.
 */
#ifndef API_FORM_H
#define API_FORM_H

#include "api/fields.h"
#include "api/http.h"
#include "api/multipart.h"

/* Parts without a file name become members: numbers where the table wants numbers, true and false
 * where it wants them, a list for names that end in []. The object lives as long as the request; the
 * form's slices as long as its body. NULL with the error set. */
json_t *form_parse(http_req *r, const field *table, size_t n, multipart *form, error *err);
/* The part that carries a file; ERR_MISSING_PARAMETER where there is none, or it is empty. */
const multipart_part *form_need_file(const multipart *form, const char *name, error *err);

#endif
