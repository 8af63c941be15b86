#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void buf_deinit(buf *b) {
    free(b->ptr);
    *b = (buf){.max = b->max};
}

void buf_clear(buf *b) {
    b->len = 0;
    b->failed = false;
    if (b->ptr) b->ptr[0] = 0;
}

char *buf_reserve(buf *b, size_t extra) {
    if (b->failed) return NULL;
    size_t need = b->len + extra + 1;
    if (need <= extra || (b->max && need - 1 > b->max)) goto fail;
    if (need > b->cap) {
        size_t cap = b->cap ? b->cap : 64;
        while (cap < need) {
            if (cap > SIZE_MAX / 2) goto fail;
            cap *= 2;
        }
        char *ptr = realloc(b->ptr, cap);
        if (!ptr) goto fail;
        b->ptr = ptr;
        b->cap = cap;
        ptr[b->len] = 0;
    }
    return b->ptr + b->len;
fail:
    b->failed = true;
    return NULL;
}

void buf_append(buf *b, const void *bytes, size_t len) {
    char *at = buf_reserve(b, len);
    if (!at) return;
    if (len) memcpy(at, bytes, len);
    b->len += len;
    b->ptr[b->len] = 0;
}

void buf_append_str(buf *b, str s) {
    buf_append(b, s.ptr, s.len);
}
void buf_append_cstr(buf *b, const char *s) {
    buf_append(b, s, strlen(s));
}
void buf_append_char(buf *b, char c) {
    buf_append(b, &c, 1);
}

void buf_append_utf8(buf *b, uint32_t cp) {
    char out[4];
    buf_append(b, out, (size_t)utf8_encode(cp, out));
}

void buf_printf(buf *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *at = n < 0 ? NULL : buf_reserve(b, (size_t)n);
    if (!at) {
        b->failed = true;
        return;
    }
    va_start(ap, fmt);
    vsnprintf(at, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
}

char *buf_take(buf *b, size_t *len) {
    char *ptr = NULL;
    if (!b->failed && buf_reserve(b, 0)) {
        ptr = b->ptr;
        if (len) *len = b->len;
        b->ptr = NULL;
    }
    buf_deinit(b);
    return ptr;
}

bool buf_read_fd(buf *b, int fd) {
    for (;;) {
        size_t want = 64 * 1024;
        if (b->max && want > b->max - b->len) want = b->max - b->len;
        char probe, *at = buf_reserve(b, want);
        if (!at) {
            errno = ENOMEM;
            return false;
        }
        /* A full buffer is no failure yet: the stream may end right here. */
        ssize_t n = want ? read(fd, at, want) : read(fd, &probe, 1);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        if (n == 0) break;
        if (!want) {
            b->failed = true;
            errno = EFBIG;
            return false;
        }
        b->len += (size_t)n;
    }
    b->ptr[b->len] = 0;
    return true;
}
