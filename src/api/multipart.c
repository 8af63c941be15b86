#include "api/multipart.h"

#include <stdio.h>
#include <strings.h>

static bool bad(error *err, const char *what) {
    return error_set(err, ERR_MALFORMED, NULL, "The multipart body is malformed: %s.", what);
}

static bool starts_fold(str s, const char *prefix) {
    size_t n = strlen(prefix);
    return s.len >= n && strncasecmp(s.ptr, prefix, n) == 0;
}

/* The value of `key=` among ;-separated parameters, unquoted, into to[max + 1]. False: none, or too
 * long. Quotes may hold ';' and escaped quotes. */
static bool get_param(str s, const char *key, char *to, size_t max) {
    size_t at = 0, n_key = strlen(key);
    while (at < s.len) {
        while (at < s.len && (s.ptr[at] == ';' || s.ptr[at] == ' ' || s.ptr[at] == '\t')) at++;
        size_t name = at;
        while (at < s.len && s.ptr[at] != '=' && s.ptr[at] != ';') at++;
        bool is_it = at - name == n_key && strncasecmp(s.ptr + name, key, n_key) == 0;
        if (at == s.len || s.ptr[at] == ';') continue;
        at++;
        bool quoted = at < s.len && s.ptr[at] == '"';
        if (quoted) at++;
        size_t n = 0;
        bool fits = true;
        for (; at < s.len && s.ptr[at] != (quoted ? '"' : ';'); at++) {
            if (quoted && s.ptr[at] == '\\' && at + 1 < s.len &&
                (s.ptr[at + 1] == '"' || s.ptr[at + 1] == '\\'))
                at++;
            if (n < max)
                to[n++] = s.ptr[at];
            else
                fits = false;
        }
        if (quoted) at++;
        if (!is_it) continue;
        while (!quoted && n && (to[n - 1] == ' ' || to[n - 1] == '\t')) n--;
        to[n] = 0;
        return fits;
    }
    return false;
}

static void drop_folders(char *name) {
    char *last = name;
    for (char *p = name; *p; p++)
        if (*p == '/' || *p == '\\') last = p + 1;
    memmove(name, last, strlen(last) + 1);
}

static bool parse_headers(str head, multipart_part *p, error *err) {
    bool named = false;
    for (size_t at = 0; at < head.len;) {
        ptrdiff_t end = str_find(head, STR("\r\n"), at);
        size_t stop = end < 0 ? head.len : (size_t)end;
        str line = str_make(head.ptr + at, stop - at);
        at = stop + 2;
        if (starts_fold(line, "content-disposition:")) {
            str v = str_trim(str_make(line.ptr + 20, line.len - 20));
            if (!starts_fold(v, "form-data")) return bad(err, "a part is not form-data");
            v = str_make(v.ptr + 9, v.len - 9);
            named = get_param(v, "name", p->name, MULTIPART_MAX_NAME);
            p->has_filename = get_param(v, "filename", p->filename, MULTIPART_MAX_NAME);
            if (!p->has_filename) p->filename[0] = 0;
            drop_folders(p->filename);
            if (!utf8_is_valid(str_from(p->name)) || !utf8_is_valid(str_from(p->filename)))
                return bad(err, "a name is not UTF-8");
        } else if (starts_fold(line, "content-type:")) {
            p->type = str_trim(str_make(line.ptr + 13, line.len - 13));
        } else if (starts_fold(line, "content-transfer-encoding:")) {
            str v = str_trim(str_make(line.ptr + 26, line.len - 26));
            if (!starts_fold(v, "binary") && !starts_fold(v, "8bit") && !starts_fold(v, "7bit"))
                return bad(err, "a part has a Content-Transfer-Encoding");
        }
    }
    return named || bad(err, "a part has no name, or too long a one");
}

bool multipart_parse(const char *content_type, str body, multipart *out, error *err) {
    out->n = 0;
    str type = str_from(content_type);
    char boundary[71 + 4] = "\r\n--";
    if (!starts_fold(type, "multipart/form-data"))
        return error_set(err, ERR_INVALID_TYPE, NULL,
                         "This endpoint takes multipart/form-data, not '%.60s'.",
                         content_type ? content_type : "nothing");
    if (!get_param(str_make(type.ptr + 19, type.len - 19), "boundary", boundary + 4, 70) ||
        !boundary[4])
        return bad(err, "Content-Type names no boundary of 1 to 70 characters");
    str delimiter = str_from(boundary), first = str_make(boundary + 2, delimiter.len - 2);
    /* The first delimiter needs no line end before it; a preamble is allowed. */
    size_t at;
    if (str_starts(body, first))
        at = first.len;
    else {
        ptrdiff_t found = str_find(body, delimiter, 0);
        if (found < 0) return bad(err, "the boundary does not occur in it");
        at = (size_t)found + delimiter.len;
    }
    for (;;) {
        if (body.len - at >= 2 && memcmp(body.ptr + at, "--", 2) == 0) return true;
        while (at < body.len && (body.ptr[at] == ' ' || body.ptr[at] == '\t')) at++;
        if (body.len - at < 2 || memcmp(body.ptr + at, "\r\n", 2) != 0)
            return bad(err, "a boundary is not followed by a line end");
        /* Headers may be none at all: then the empty line follows at once. */
        ptrdiff_t end = str_find(str_make(body.ptr, body.len - at > MULTIPART_MAX_HEADERS
                                                        ? at + MULTIPART_MAX_HEADERS
                                                        : body.len),
                                 STR("\r\n\r\n"), at);
        if (end < 0) return bad(err, "the headers of a part do not end, or are too long");
        if (out->n == MULTIPART_MAX_PARTS)
            return error_set(err, ERR_ARRAY_ABOVE_MAX, NULL,
                             "The multipart body has more than %d parts.", MULTIPART_MAX_PARTS);
        multipart_part *p = &out->parts[out->n];
        memset(p, 0, sizeof *p);
        size_t from = at + 2;
        str head = (size_t)end >= from ? str_make(body.ptr + from, (size_t)end - from) : (str){0};
        if (!parse_headers(head, p, err)) return false;
        size_t start = (size_t)end + 4;
        /* An empty body: its delimiter's line end is the one that closes the headers. */
        ptrdiff_t next = str_find(body, delimiter, start - 2);
        if (next < 0) return bad(err, "the last boundary is missing");
        p->body =
            (size_t)next >= start ? str_make(body.ptr + start, (size_t)next - start) : (str){0};
        out->n++;
        at = (size_t)next + delimiter.len;
    }
}

const multipart_part *multipart_find(const multipart *m, const char *name) {
    for (size_t i = 0; i < m->n; i++)
        if (strcmp(m->parts[i].name, name) == 0) return &m->parts[i];
    return NULL;
}
