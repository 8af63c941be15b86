/* Any bytes as a multipart body: no crash, parts are slices of the body, names end. */
#include <stdlib.h>

#include "api/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static multipart m;
    error err = {0};
    str body = str_make((const char *)data, size);
    /* The first line is the Content-Type, so that both are searched. */
    ptrdiff_t end = str_find(body, STR("\n"), 0);
    char type[200] = "multipart/form-data; boundary=xy";
    if (end > 0 && (size_t)end < sizeof type) {
        memcpy(type, body.ptr, (size_t)end);
        type[end] = 0;
        body = str_make(body.ptr + end + 1, body.len - (size_t)end - 1);
    }
    if (multipart_parse(type, body, &m, &err) == error_is_set(&err)) abort();
    for (size_t i = 0; i < m.n && !error_is_set(&err); i++) {
        const multipart_part *p = &m.parts[i];
        if (p->body.len &&
            (p->body.ptr < body.ptr || p->body.ptr + p->body.len > body.ptr + body.len))
            abort();
        if (strchr(p->filename, '/') || !utf8_is_valid(str_from(p->name))) abort();
    }
    return 0;
}
