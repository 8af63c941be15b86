/* A borrowed slice of bytes. Never NUL-terminated by contract; `ptr` may be
 * NULL only when `len` is 0. Lifetime is the owner's. UTF-8 helpers beside it.
 */
#ifndef BASE_STR_H
#define BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct str {
    const char *ptr;
    size_t len; /* bytes */
} str;

#define STR(literal) ((str){(literal), sizeof(literal) - 1})
/* for printf("%.*s", STR_ARG(s)) */
#define STR_ARG(s) (int)(s).len, (s).ptr ? (s).ptr : ""

static inline str str_from(const char *c) {
    return (str){c, c ? strlen(c) : 0};
}
static inline str str_make(const char *p, size_t n) {
    return (str){p, n};
}
static inline bool str_eq(str a, str b) {
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool str_is(str a, const char *c) {
    return str_eq(a, str_from(c));
}
static inline bool str_starts(str s, str prefix) {
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}
static inline bool str_ends(str s, str suffix) {
    return s.len >= suffix.len &&
           (suffix.len == 0 || memcmp(s.ptr + s.len - suffix.len, suffix.ptr, suffix.len) == 0);
}
/* Offset of the first `needle` at or after `from`, or -1. An empty needle is found at `from`. */
ptrdiff_t str_find(str s, str needle, size_t from);
/* ASCII white space off both ends. */
str str_trim(str s);
/* How many letters were left out, put in, mistaken or swapped with the next between two words (optimal
 * string alignment). SIZE_MAX when they have too little in common to be a slip: more than a third
 * of the longer word's letters, or a word of more than 40 bytes. */
size_t str_slips(str typed, str meant);
/* Is that fewer than *fewest, which it then becomes? For a search that begins with SIZE_MAX. */
bool str_is_nearer(str typed, str meant, size_t *fewest);
/* Copies to a fresh NUL-terminated heap string; NULL when memory ran out. Free with free(). */
char *str_dup(str s);

/* Decodes one code point at s.ptr[at]. Returns its bytes (1–4), or 0 when the bytes there are not
 * well-formed UTF-8 (overlong, surrogate, above U+10FFFF, cut short); then *cp = 0xFFFD. */
int utf8_decode(str s, size_t at, uint32_t *cp);
/* Writes 1–4 bytes to out[4]; returns their number. cp must be a scalar value, else U+FFFD is written. */
int utf8_encode(uint32_t cp, char out[4]);
bool utf8_is_valid(str s);
/* Number of leading bytes that are complete, well-formed characters or can never become one: what
 * a stream may emit now. The rest (at most 3 bytes) is the beginning of a character. */
size_t utf8_complete_prefix(str s);
/* Code points, counting each ill-formed byte as one. */
size_t utf8_count(str s);

#endif
