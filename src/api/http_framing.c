#include "api/http_framing.h"

#include <inttypes.h>

enum {
    START, /* before a request line; empty lines are passed over */
    METHOD,
    TARGET,
    VERSION,
    LINE_LF,
    FIELD_START, /* of a field, or the head's end */
    NAME,
    VALUE,
    VALUE_LF,
    HEAD_LF,
    BODY,
    CHUNK_START,
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_LF,
    CHUNK_DATA,
    CHUNK_END,
    CHUNK_END_LF,
    TRAILER_START,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    TRAILERS_END_LF,
    FAULTY,
};

/* How far the cookie is that is being read. */
enum { COOKIE_NAME, COOKIE_EMPTY, COOKIE_QUOTE, COOKIE_VALUE };

void framing_init(framing *f, framing_limits limits) {
    *f = (framing){.limits = limits};
}

uint64_t framing_body_left(const framing *f) {
    return f->state == BODY || f->state == CHUNK_DATA ? f->left : 0;
}

static bool is_token(unsigned char c) { /* RFC 9110 §5.6.2 */
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool is_control(unsigned char c) {
    return (c < ' ' && c != '\t') || c == 0x7F;
}

static char lower(unsigned char c) {
    return (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

static int hex_digit(unsigned char c) {
    return c >= '0' && c <= '9'                 ? c - '0'
           : lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10
                                                : -1;
}

static bool bad(framing *f, const char *why) {
    return error_set(&f->fault, ERR_MALFORMED, NULL, "%s", why);
}

static bool count_field(framing *f) {
    return ++f->n_fields <= FRAMING_MAX_FIELDS ||
           error_set(&f->fault, ERR_HEADER_TOO_LARGE, NULL,
                     "The request has more than %d header fields, cookies and query arguments.",
                     FRAMING_MAX_FIELDS);
}

/* A byte of the request line, the fields or the trailers. */
static bool count_head(framing *f) {
    return ++f->n_head <= f->limits.max_head ||
           error_set(&f->fault, ERR_HEADER_TOO_LARGE, NULL,
                     "The request line and headers have more than %zu bytes.", f->limits.max_head);
}

/* ── the request line ── */

static bool see_target(framing *f, unsigned char c) {
    if (c < ' ' || c == 0x7F) return bad(f, "The request's target holds a control character.");
    if (f->n_line < FRAMING_TARGET - 1) f->target[f->n_line] = (char)c;
    f->n_line++;
    /* %00 would end the string that it becomes. n_value counts how much of it came. */
    f->n_value = c == '%' ? 1 : c == '0' && f->n_value ? f->n_value + 1 : 0;
    if (f->n_value == 3) return bad(f, "The request's target holds a NUL (%00).");
    return (c != '&' && c != '?') || count_field(f);
}

static bool end_target(framing *f) {
    str t = str_from(f->target);
    for (size_t i = 0; i < t.len; i++) f->target[i] = lower((unsigned char)t.ptr[i]);
    size_t scheme = str_starts(t, STR("http://")) ? 7 : str_starts(t, STR("https://")) ? 8 : 0;
    if (f->n_line == 0) return bad(f, "The request line names no target.");
    if (scheme && (!f->target[scheme] || f->target[scheme] == '/'))
        return bad(f, "The request's target names no host.");
    f->n_line = 0;
    return true;
}

/* "HTTP/1.1", byte by byte. */
static bool see_version(framing *f, unsigned char c) {
    static const char wanted[] = "HTTP/1.";
    size_t at = f->n_line++;
    if (at < sizeof wanted - 1) {
        if (c == (unsigned char)wanted[at]) return true;
        if (at == 5 && c >= '0' && c <= '9')
            return error_set(&f->fault, ERR_MALFORMED, NULL,
                             "This server speaks HTTP/1.1, not HTTP/%c.", c);
    } else if (at == sizeof wanted - 1 && c >= '0' && c <= '9') {
        f->minor = c - '0';
        return true;
    }
    return bad(f, "The request line does not end with HTTP/1.1.");
}

static bool end_line(framing *f) {
    return f->n_line == 8 || bad(f, "The request line does not end with HTTP/1.1.");
}

/* ── fields ── */

static bool field_is(const framing *f, const char *name) {
    return f->n_name == strlen(name) && memcmp(f->name, name, f->n_name) == 0;
}

static bool begin_field(framing *f, unsigned char c) {
    if (c == ' ' || c == '\t')
        return bad(f, "A header field begins with white space: folded fields are not supported.");
    if (!is_token(c)) return bad(f, "A header field has no proper name.");
    f->n_name = f->n_value = 0;
    f->cookie = COOKIE_NAME;
    return count_field(f);
}

static bool see_name(framing *f, unsigned char c) {
    if (!is_token(c))
        return bad(f, c == '\r' || c == '\n'  ? "A header field has no colon."
                      : c == ' ' || c == '\t' ? "There is white space in a header field's name."
                      : is_control(c)         ? "A header's name holds control characters."
                                              : "A header field has no proper name.");
    if (f->n_name < sizeof f->name) f->name[f->n_name] = lower(c);
    f->n_name++;
    return true;
}

static bool begin_value(framing *f) {
    if (field_is(f, "content-length")) {
        f->n_length++;
        f->left = 0;
    } else if (field_is(f, "transfer-encoding"))
        f->n_encoding++;
    else if (field_is(f, "host"))
        f->n_host++;
    return true;
}

static bool see_value(framing *f, unsigned char c) {
    static const char not_number[] = "There must be one numeric Content-Length header.";
    if (is_control(c)) return bad(f, "A header's value holds control characters.");
    if ((c == ' ' || c == '\t') && !f->n_value) return true;
    if (field_is(f, "content-length")) {
        if (c < '0' || c > '9') return bad(f, not_number);
        f->left = f->left > UINT64_MAX / 10 - 10 ? UINT64_MAX / 10 : f->left * 10 + (c - '0');
    } else if (field_is(f, "transfer-encoding")) {
        if (f->n_value < sizeof f->value) f->value[f->n_value] = lower(c);
    } else if (field_is(f, "cookie")) {
        bool is_end = c == ';' || c == ',';
        if (is_end && !count_field(f)) return false;
        f->cookie = is_end                     ? COOKIE_NAME
                    : f->cookie == COOKIE_NAME ? (c == '=' ? COOKIE_EMPTY : COOKIE_NAME)
                    : f->cookie == COOKIE_EMPTY && c == '"' ? COOKIE_QUOTE
                                                            : COOKIE_VALUE;
    }
    f->n_value++;
    return true;
}

static bool end_value(framing *f) {
    if (field_is(f, "content-length") && !f->n_value)
        return bad(f, "There must be one numeric Content-Length header.");
    if (field_is(f, "transfer-encoding") &&
        !str_is(str_make(f->value, f->n_value < sizeof f->value ? f->n_value : sizeof f->value),
                "chunked"))
        return bad(f, "The only Transfer-Encoding supported is chunked.");
    if (f->cookie == COOKIE_QUOTE)
        return bad(f, "A cookie's value is a quotation mark without its other half.");
    return true;
}

static bool end_head(framing *f) {
    if (f->n_length > 1) return bad(f, "There must be one numeric Content-Length header.");
    if (f->n_encoding > 1) return bad(f, "The only Transfer-Encoding supported is chunked.");
    if (f->n_length && f->n_encoding)
        return bad(f, "Content-Length and Transfer-Encoding exclude each other.");
    if (f->n_encoding && f->minor == 0) return bad(f, "HTTP/1.0 has no Transfer-Encoding.");
    if (f->n_host > 1 || (f->n_host == 0 && f->minor > 0))
        return bad(f, "There must be exactly one Host header.");
    if (f->left > f->limits.max_length)
        return error_set(&f->fault, ERR_BODY_TOO_LARGE, NULL,
                         "The body has more than %" PRIu64 " bytes.", f->limits.max_length);
    return true;
}

/* ── chunks ── */

static bool see_chunk_line(framing *f) {
    return ++f->n_line <= FRAMING_MAX_CHUNK_LINE ||
           bad(f, "The line before a chunk is longer than a chunk's size needs.");
}

static bool see_size(framing *f, unsigned char c) {
    int digit = hex_digit(c);
    if (digit < 0) return bad(f, "A chunk's size is no hexadecimal number.");
    if (f->left > f->limits.max_length)
        return error_set(&f->fault, ERR_BODY_TOO_LARGE, NULL,
                         "A chunk is larger than the %" PRIu64 " bytes a body may have.",
                         f->limits.max_length);
    f->left = f->left * 16 + (uint64_t)digit;
    return true;
}

/* ── the states ── */

/* One byte that is not body; false with a fault. */
static bool step(framing *f, unsigned char c) {
    static const char bare_cr[] = "A CR stands without its LF.";
    bool is_eol = c == '\r' || c == '\n';
    if (f->state <= HEAD_LF || f->state >= TRAILER_START)
        if (!count_head(f)) return false;
    switch (f->state) {
    case START:
        if (f->n_line && c != '\n') return bad(f, bare_cr);
        f->n_line = c == '\r';
        if (is_eol) return true;
        f->state = METHOD;
        f->n_line = 0;
        f->n_value = 0;
        memset(f->target, 0, sizeof f->target);
        /* fallthrough */
    case METHOD:
        if (c == ' ' && f->n_line) {
            f->state = TARGET;
            f->n_line = 0;
            return true;
        }
        f->n_line++;
        return is_token(c) ||
               bad(f, "This is not an HTTP request: it does not begin with a method.");
    case TARGET:
        if (is_eol) return bad(f, "The request line does not end with HTTP/1.1.");
        if (c != ' ') return see_target(f, c);
        f->state = VERSION;
        return end_target(f);
    case VERSION:
        if (!is_eol) return see_version(f, c);
        f->state = c == '\r' ? LINE_LF : FIELD_START;
        return end_line(f);
    case LINE_LF: f->state = FIELD_START; return c == '\n' || bad(f, bare_cr);
    case FIELD_START:
        if (c == '\r') {
            f->state = HEAD_LF;
            return true;
        }
        if (c == '\n') goto head_end;
        f->state = NAME;
        return begin_field(f, c) && see_name(f, c);
    case NAME:
        if (c != ':') return see_name(f, c);
        f->state = VALUE;
        return begin_value(f);
    case VALUE:
        if (!is_eol) return see_value(f, c);
        f->state = c == '\r' ? VALUE_LF : FIELD_START;
        return end_value(f);
    case VALUE_LF: f->state = FIELD_START; return c == '\n' || bad(f, bare_cr);
    case HEAD_LF:
        if (c != '\n') return bad(f, bare_cr);
    head_end:
        f->state = f->n_encoding ? CHUNK_START : f->left ? BODY : START;
        f->n_line = 0;
        return end_head(f);
    case CHUNK_START:
        f->state = CHUNK_SIZE;
        f->n_line = 0;
        f->left = 0;
        return see_size(f, c);
    case CHUNK_SIZE:
        if (c == ';')
            f->state = CHUNK_EXTENSION;
        else if (c == '\r')
            f->state = CHUNK_LF;
        else if (!see_size(f, c))
            return false;
        return see_chunk_line(f);
    case CHUNK_EXTENSION:
        if (c == '\r') f->state = CHUNK_LF;
        if (c != '\r' && is_control(c))
            return bad(f, "A chunk's extension holds control characters.");
        return see_chunk_line(f);
    case CHUNK_LF:
        f->state = f->left ? CHUNK_DATA : TRAILER_START;
        return c == '\n' || bad(f, bare_cr);
    case CHUNK_END:
        f->state = CHUNK_END_LF;
        return c == '\r' || bad(f, "A chunk does not end where its size says.");
    case CHUNK_END_LF: f->state = CHUNK_START; return c == '\n' || bad(f, bare_cr);
    case TRAILER_START:
        if (c == '\r') {
            f->state = TRAILERS_END_LF;
            return true;
        }
        f->state = TRAILER_NAME;
        return begin_field(f, c) && see_name(f, c);
    case TRAILER_NAME:
        if (c != ':') return see_name(f, c);
        f->state = TRAILER_VALUE;
        return true;
    case TRAILER_VALUE:
        if (c == '\r')
            f->state = TRAILER_LF;
        else if (is_control(c))
            return bad(f, "A trailer's value holds control characters.");
        return true;
    case TRAILER_LF: f->state = TRAILER_START; return c == '\n' || bad(f, bare_cr);
    case TRAILERS_END_LF: f->state = START; return c == '\n' || bad(f, bare_cr);
    default: return false;
    }
}

size_t framing_feed(framing *f, str bytes) {
    size_t at = 0;
    while (at < bytes.len) {
        if (f->state == BODY || f->state == CHUNK_DATA) {
            size_t n = bytes.len - at;
            if (n > f->left) n = (size_t)f->left;
            at += n;
            f->left -= n;
            if (f->left) break;
            f->state = f->state == BODY ? START : CHUNK_END;
        } else {
            bool was_inside = f->state != START;
            if (!step(f, (unsigned char)bytes.ptr[at])) {
                f->state = FAULTY;
                break;
            }
            at++;
            if (f->state != START || !was_inside) continue;
        }
        if (f->state == START) {
            framing_init(f, f->limits);
            break;
        }
    }
    return at;
}
