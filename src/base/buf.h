/* A growable byte buffer that fails stickily: after an allocation failed (or
 * `max` was reached) every append is a no-op and `failed` is set, so a builder
 * checks once at its end. Always NUL-terminated while `ptr` is not NULL.
 */
#ifndef BASE_BUF_H
#define BASE_BUF_H

#include "base/str.h"

typedef struct buf {
    char *ptr;
    size_t len, cap; /* bytes */
    size_t max;      /* refuses to grow beyond; 0 = no limit */
    bool failed;
} buf;

void buf_deinit(buf *b);
/* Forgets the content, keeps the memory and clears `failed`. */
void buf_clear(buf *b);
/* Makes room for `extra` more bytes and returns where they go, or NULL. */
char *buf_reserve(buf *b, size_t extra);
void buf_append(buf *b, const void *bytes, size_t len);
void buf_append_str(buf *b, str s);
void buf_append_cstr(buf *b, const char *s);
void buf_append_char(buf *b, char c);
void buf_append_utf8(buf *b, uint32_t cp);
void buf_printf(buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static inline str buf_str(const buf *b) {
    return (str){b->ptr, b->len};
}
/* Ownership of the NUL-terminated bytes moves to the caller (free()); NULL if the buffer failed. */
char *buf_take(buf *b, size_t *len);

/* Appends the rest of a file or stream; false with errno when reading failed (EFBIG: more than
 * `max`). */
bool buf_read_fd(buf *b, int fd);

#endif
