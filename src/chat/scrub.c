#include "chat/scrub.h"

static const char REPLACEMENT[] = "\xEF\xBF\xBD";

/* Bytes at `at` that are the ill-formed beginning of a character: the longest run that could still
 * have become one, at least 1. SIZE_MAX when the text ends inside a character that may yet come. */
static size_t ill_formed_length(str s, size_t at) {
    size_t n = 1;
    while (n < 4 && utf8_complete_prefix(str_make(s.ptr + at, n)) == 0) {
        if (at + n == s.len) return SIZE_MAX;
        n++;
    }
    return n > 1 ? n - 1 : 1;
}

/* Appends s; returns how many bytes at its end are an unfinished character (not appended). */
static size_t scrub_text(str s, buf *out) {
    size_t plain = 0, i = 0;
    while (i < s.len) {
        uint32_t cp;
        int n = (unsigned char)s.ptr[i] < 0x80 ? 1 : utf8_decode(s, i, &cp);
        if (n) {
            i += (size_t)n;
            continue;
        }
        buf_append(out, s.ptr + plain, i - plain);
        plain = i;
        size_t bad = ill_formed_length(s, i);
        if (bad == SIZE_MAX) return s.len - i;
        buf_append(out, REPLACEMENT, 3);
        plain = i += bad;
    }
    buf_append(out, s.ptr + plain, i - plain);
    return 0;
}

void scrub_push(scrub *s, str bytes, buf *out) {
    /* A character cut in two: complete it byte by byte, at most four steps, then go on in place. */
    while (s->n_tail && bytes.len) {
        char joined[4];
        memcpy(joined, s->tail, (size_t)s->n_tail);
        joined[s->n_tail] = bytes.ptr[0];
        size_t rest = scrub_text(str_make(joined, (size_t)s->n_tail + 1), out);
        bytes.ptr++, bytes.len--;
        memcpy(s->tail, joined + s->n_tail + 1 - rest, rest);
        s->n_tail = (int)rest;
    }
    if (!bytes.len) return;
    size_t rest = scrub_text(bytes, out);
    memcpy(s->tail, bytes.ptr + bytes.len - rest, rest);
    s->n_tail = (int)rest;
}

void scrub_flush(scrub *s, buf *out) {
    if (s->n_tail) buf_append(out, REPLACEMENT, 3);
    s->n_tail = 0;
}
