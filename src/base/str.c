#include "base/str.h"

#include <stdlib.h>

ptrdiff_t str_find(str s, str needle, size_t from) {
    if (from > s.len) return -1;
    if (needle.len == 0) return (ptrdiff_t)from;
    if (needle.len > s.len - from) return -1;
    const char *hit = memmem(s.ptr + from, s.len - from, needle.ptr, needle.len);
    return hit ? hit - s.ptr : -1;
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

str str_trim(str s) {
    while (s.len && is_space(s.ptr[0])) s.ptr++, s.len--;
    while (s.len && is_space(s.ptr[s.len - 1])) s.len--;
    return s;
}

size_t str_slips(str typed, str meant) {
    enum { LONGEST = 40 };
    size_t row[3][LONGEST + 1], *before = row[0], *last = row[1], *now = row[2];
    if (typed.len > LONGEST || meant.len > LONGEST) return SIZE_MAX;
    for (size_t j = 0; j <= meant.len; j++) last[j] = j;
    for (size_t i = 1; i <= typed.len; i++) {
        now[0] = i;
        for (size_t j = 1; j <= meant.len; j++) {
            size_t best = last[j - 1] + (typed.ptr[i - 1] != meant.ptr[j - 1]);
            if (last[j] + 1 < best) best = last[j] + 1;
            if (now[j - 1] + 1 < best) best = now[j - 1] + 1;
            bool swapped = i > 1 && j > 1 && typed.ptr[i - 1] == meant.ptr[j - 2] &&
                           typed.ptr[i - 2] == meant.ptr[j - 1];
            if (swapped && before[j - 2] + 1 < best) best = before[j - 2] + 1;
            now[j] = best;
        }
        size_t *oldest = before;
        before = last;
        last = now;
        now = oldest;
    }
    size_t longer = typed.len > meant.len ? typed.len : meant.len;
    return 3 * last[meant.len] <= longer ? last[meant.len] : SIZE_MAX;
}

bool str_is_nearer(str typed, str meant, size_t *fewest) {
    size_t slips = str_slips(typed, meant);
    bool is_nearer = slips < *fewest;
    if (is_nearer) *fewest = slips;
    return is_nearer;
}

char *str_dup(str s) {
    char *out = malloc(s.len + 1);
    if (!out) return NULL;
    if (s.len) memcpy(out, s.ptr, s.len);
    out[s.len] = 0;
    return out;
}

/* What a lead byte promises: its length, and the bounds of the second byte that rule out overlong
 * forms, surrogates and values above U+10FFFF (Unicode 15, table 3-7). */
static int lead_length(unsigned char lead, unsigned char *lo, unsigned char *hi) {
    *lo = 0x80;
    *hi = 0xBF;
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return 2;
    if (lead < 0xF0) {
        if (lead == 0xE0) *lo = 0xA0;
        if (lead == 0xED) *hi = 0x9F;
        return 3;
    }
    if (lead < 0xF5) {
        if (lead == 0xF0) *lo = 0x90;
        if (lead == 0xF4) *hi = 0x8F;
        return 4;
    }
    return 0;
}

int utf8_decode(str s, size_t at, uint32_t *cp) {
    *cp = 0xFFFD;
    if (at >= s.len) return 0;
    const unsigned char *p = (const unsigned char *)s.ptr + at;
    unsigned char lo, hi;
    int n = lead_length(p[0], &lo, &hi);
    if (n == 1) {
        *cp = p[0];
        return 1;
    }
    if (n == 0 || s.len - at < (size_t)n || p[1] < lo || p[1] > hi) return 0;
    uint32_t v = p[0] & (0x7Fu >> n);
    for (int i = 1; i < n; i++) {
        if ((p[i] & 0xC0) != 0x80) return 0;
        v = v << 6 | (p[i] & 0x3F);
    }
    *cp = v;
    return n;
}

int utf8_encode(uint32_t cp, char out[4]) {
    if (cp > 0x10FFFF || (cp >= 0xD800 && cp < 0xE000)) cp = 0xFFFD;
    if (cp < 0x80) return out[0] = (char)cp, 1;
    if (cp < 0x800) {
        out[0] = (char)(0xC0 | cp >> 6);
        out[1] = (char)(0x80 | (cp & 0x3F));
        return 2;
    }
    if (cp < 0x10000) {
        out[0] = (char)(0xE0 | cp >> 12);
        out[1] = (char)(0x80 | (cp >> 6 & 0x3F));
        out[2] = (char)(0x80 | (cp & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | cp >> 18);
    out[1] = (char)(0x80 | (cp >> 12 & 0x3F));
    out[2] = (char)(0x80 | (cp >> 6 & 0x3F));
    out[3] = (char)(0x80 | (cp & 0x3F));
    return 4;
}

bool utf8_is_valid(str s) {
    uint32_t cp;
    for (size_t i = 0; i < s.len;) {
        int n = utf8_decode(s, i, &cp);
        if (!n) return false;
        i += (size_t)n;
    }
    return true;
}

size_t utf8_complete_prefix(str s) {
    /* Only the last three bytes can belong to a character that is still growing. */
    for (size_t back = 1; back <= 3 && back <= s.len; back++) {
        const unsigned char *p = (const unsigned char *)s.ptr + s.len - back;
        if ((p[0] & 0xC0) == 0x80) continue;
        unsigned char lo, hi;
        int n = lead_length(p[0], &lo, &hi);
        if (n <= (int)back) return s.len; /* complete, or never a lead byte */
        if (back > 1 && (p[1] < lo || p[1] > hi)) return s.len;
        return s.len - back;
    }
    return s.len;
}

size_t utf8_count(str s) {
    size_t n = 0;
    uint32_t cp;
    for (size_t i = 0; i < s.len; n++) {
        int k = utf8_decode(s, i, &cp);
        i += k ? (size_t)k : 1;
    }
    return n;
}
