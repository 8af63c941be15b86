/* Text from numbers and patterns: Python's repr of floats, the % operator,
 * str.format with its field and format-spec language, strftime, and the reverse
 * (int() and float() of a string).
 *
 * What a pattern says keeps the pattern's provenance, what is filled in keeps
 * its own; padding belongs to the pattern.
 */
#include "chat/jinja_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { MAX_WIDTH = 1 << 16 };

/* ── Numbers ── */

size_t jinja_float_text(double f, char out[FLOAT_TEXT]) {
    if (isnan(f) || isinf(f))
        return (size_t)snprintf(out, FLOAT_TEXT, "%s", isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
    char digits[FLOAT_TEXT];
    for (int precision = 0; precision < 17; precision++) { /* the shortest that reads back equal */
        snprintf(digits, sizeof digits, "%.*e", precision, f);
        if (strtod(digits, NULL) == f) break;
    }
    const char *p = digits + (digits[0] == '-'), *e = strchr(digits, 'e');
    int exponent = (int)strtol(e + 1, NULL, 10), n = 0;
    char d[FLOAT_TEXT];
    for (; p < e; p++)
        if (*p != '.') d[n++] = *p;
    size_t at = 0;
    if (digits[0] == '-') out[at++] = '-';
    if (exponent < -4 || exponent >= 16) {
        out[at++] = d[0];
        if (n > 1) out[at++] = '.';
        for (int i = 1; i < n; i++) out[at++] = d[i];
        return at + (size_t)snprintf(out + at, FLOAT_TEXT - at, "e%c%02d", exponent < 0 ? '-' : '+',
                                     abs(exponent));
    }
    if (exponent < 0) {
        out[at++] = '0';
        out[at++] = '.';
        for (int i = -1; i > exponent; i--) out[at++] = '0';
        for (int i = 0; i < n; i++) out[at++] = d[i];
    } else {
        for (int i = 0; i <= exponent || i < n; i++) {
            if (i == exponent + 1) out[at++] = '.';
            out[at++] = i < n ? d[i] : '0';
        }
        if (n <= exponent + 1) {
            out[at++] = '.';
            out[at++] = '0';
        }
    }
    out[at] = 0;
    return at;
}

static str without_space(str s) {
    size_t begin = 0, end = s.len, next;
    while (begin < end && jinja_is_space(jinja_char(s, begin, &next))) begin = next;
    while (end > begin && (unsigned char)s.ptr[end - 1] < 128 &&
           jinja_is_space((uint32_t)(unsigned char)s.ptr[end - 1]))
        end--;
    return str_make(s.ptr + begin, end - begin);
}

static int digit_value(char c) {
    char low = (char)(c | 32);
    return c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'z' ? low - 'a' + 10 : 36;
}

bool jinja_parse_int(str s, int base, int64_t *out, bool *is_beyond) {
    if (is_beyond) *is_beyond = false;
    if ((base != 0 && base < 2) || base > 36) return false;
    s = without_space(s);
    size_t i = s.len && (s.ptr[0] == '-' || s.ptr[0] == '+');
    bool minus = i && s.ptr[0] == '-', after_digit = false, fits = true;
    char prefix = i + 1 < s.len && s.ptr[i] == '0' ? (char)(s.ptr[i + 1] | 32) : 0;
    int named = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 0;
    if (named && (base == 0 || base == named)) {
        i += 2;
        base = named;
        after_digit = i < s.len && s.ptr[i] == '_'; /* 0x_1 */
    }
    if (base == 0) base = 10;
    uint64_t v = 0;
    for (; i < s.len; i++) {
        if (s.ptr[i] == '_' && after_digit) { /* between digits, one at a time */
            after_digit = false;
            continue;
        }
        int d = digit_value(s.ptr[i]);
        if (d >= base) return false;
        after_digit = true;
        fits = fits && !__builtin_mul_overflow(v, (uint64_t)base, &v) &&
               !__builtin_add_overflow(v, (uint64_t)d, &v);
    }
    if (!after_digit) return false;
    fits = fits && v <= (uint64_t)INT64_MAX + minus;
    if (is_beyond) *is_beyond = !fits;
    if (fits) *out = minus ? (int64_t)(0 - v) : (int64_t)v;
    return fits;
}

bool jinja_parse_float(str s, double *out) {
    char small[400], *text = small, *end;
    s = without_space(s);
    if (!s.len || (s.len >= sizeof small && !(text = malloc(s.len + 1)))) return false;
    bool ok = true;
    size_t n = 0;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '_' && i && i + 1 < s.len && s.ptr[i - 1] != '_') continue;
        /* C reads more than Python. */
        ok = ok && c && c != '(' && (c | 32) != 'x' && (c | 32) != 'p';
        text[n++] = c;
    }
    text[n] = 0;
    *out = strtod(text, &end);
    ok = ok && n && !*end;
    if (text != small) free(text);
    return ok;
}

/* ── One formatted value, for both languages ── */

typedef struct spec {
    char fill[4];
    size_t n_fill;
    char align; /* < > ^ =, 0: by type */
    char sign;  /* + - space, 0 */
    bool alt, zero, comma, underscore;
    int width, precision; /* -1: none */
    char type;            /* 0: by value */
} spec;

static void pad(rt *r, grow *g, const spec *s, int64_t n, bool data) {
    for (; n > 0 && !r->failed; n--) jinja_put(r, g, s->fill, s->n_fill, NULL, data);
}

/* sign+prefix, then digits; '=' pads between them. */
static void put_padded(rt *r, grow *g, const spec *s, str head, value body, char default_align,
                       bool pattern_data) {
    int64_t n = s->width - (int64_t)head.len - (int64_t)jinja_n_chars(body);
    char align = s->align ? s->align : default_align;
    if (n < 0) n = 0;
    int64_t left = align == '>' ? n : align == '^' ? n / 2 : 0;
    pad(r, g, s, left, pattern_data);
    jinja_put(r, g, head.ptr, head.len, NULL, body.data);
    if (align == '=') pad(r, g, s, n, pattern_data);
    jinja_put_str(r, g, body);
    if (align == '<' || align == '^') pad(r, g, s, n - left, pattern_data);
}

/* Groups the digits before the first non-digit by threes. */
static size_t group_digits(char *out, size_t size, const char *digits, char sep) {
    size_t n = strspn(digits, "0123456789"), at = 0;
    for (size_t i = 0; digits[i] && at + 2 < size; i++) {
        if (i && i < n && (n - i) % 3 == 0) out[at++] = sep;
        out[at++] = digits[i];
    }
    out[at] = 0;
    return at;
}

enum { DIGITS_MAX = 720 };

static void put_number(rt *r, grow *g, const spec *s, value v, bool pattern_data) {
    char digits[DIGITS_MAX], grouped[DIGITS_MAX + DIGITS_MAX / 3], head[4] = "";
    size_t n_head = 0;
    char type = s->type;
    bool negative;
    int precision = s->precision > 300 ? 300 : s->precision;
    bool integer = type ? strchr("bcdoxXn", type) != NULL : v.kind != V_FLOAT;
    if (integer && v.kind != V_FLOAT) {
        int64_t i = as_int(v);
        uint64_t u = i < 0 ? -(uint64_t)i : (uint64_t)i;
        negative = i < 0;
        if (type == 'c') {
            char ch[4];
            if (i < 0 || u >= 0x110000) {
                jinja_fail(r, "%%c arg not in range(0x110000)");
                return;
            }
            int n = utf8_encode(u < 0x110000 ? (uint32_t)u : 0xFFFD, ch);
            put_padded(r, g, s, (str){0}, jinja_str(r, str_make(ch, (size_t)n), v.data), '>',
                       pattern_data);
            return;
        }
        if (type == 'b') {
            int n = 0;
            for (int bit = 63; bit >= 0; bit--)
                if (n || u >> bit & 1 || !bit) digits[n++] = (char)('0' + (u >> bit & 1));
            digits[n] = 0;
        } else {
            snprintf(digits, sizeof digits,
                     type == 'x'   ? "%llx"
                     : type == 'X' ? "%llX"
                     : type == 'o' ? "%llo"
                                   : "%llu",
                     (unsigned long long)u);
        }
    } else {
        double f = as_float(v);
        negative = signbit(f) && !isnan(f);
        if (negative) f = -f;
        if (!type && precision < 0) {
            digits[jinja_float_text(f, digits)] = 0;
        } else {
            char fmt[8] = {'%', s->alt ? '#' : '.', s->alt ? '.' : '*', s->alt ? '*' : 0, 0};
            char conv = type == '%' ? 'f' : type == 0 || type == 'n' ? 'g' : type;
            fmt[strlen(fmt)] = conv;
            if (type == '%') f *= 100;
            snprintf(digits, sizeof digits - 2, fmt, precision < 0 ? 6 : precision, f);
            if (type == '%') {
                size_t n = strlen(digits);
                digits[n] = '%';
                digits[n + 1] = 0;
            }
        }
    }
    if (negative)
        head[n_head++] = '-';
    else if (s->sign == '+' || s->sign == ' ')
        head[n_head++] = s->sign;
    if (s->alt && (type == 'x' || type == 'X' || type == 'o' || type == 'b')) {
        head[n_head++] = '0';
        head[n_head++] = type;
    }
    const char *text = digits;
    if (s->comma || s->underscore) {
        group_digits(grouped, sizeof grouped, digits, s->comma ? ',' : '_');
        text = grouped;
    }
    grow *body = jinja_grow(r);
    /* %.5d: at least that many digits */
    for (int64_t i = (int64_t)strlen(text); integer && i < s->precision && !r->failed; i++)
        jinja_put_cstr(r, body, "0", v.data);
    jinja_put_cstr(r, body, text, v.data);
    put_padded(r, g, s, str_make(head, n_head), jinja_grown(r, body), s->zero ? '=' : '>',
               pattern_data);
}

/* ── The % operator ── */

typedef struct percent_args {
    value whole;
    size_t at;
    bool is_tuple, used_names;
} percent_args;

static value next_arg(rt *r, percent_args *in) {
    if (in->is_tuple) {
        if (in->at < in->whole.seq->n) return in->whole.seq->items[in->at++];
    } else if (in->at++ == 0) {
        return in->whole;
    }
    return jinja_fail(r, "not enough arguments for format string");
}

static int read_width(rt *r, str f, size_t *at, percent_args *in, bool *minus) {
    if (*at < f.len && f.ptr[*at] == '*') {
        (*at)++;
        value v = next_arg(r, in);
        if (!is_int(v)) {
            jinja_fail(r, "* wants int");
            return 0;
        }
        int64_t n = as_int(v);
        if (minus && n < 0) *minus = true;
        n = n < 0 ? -n : n;
        return n > MAX_WIDTH || n < 0 ? MAX_WIDTH : (int)n;
    }
    int n = 0;
    for (; *at < f.len && f.ptr[*at] >= '0' && f.ptr[*at] <= '9'; (*at)++)
        n = n < MAX_WIDTH ? n * 10 + (f.ptr[*at] - '0') : n;
    return n > MAX_WIDTH ? MAX_WIDTH : n;
}

static value ascii(rt *r, value v) { /* repr with everything beyond ASCII escaped */
    grow *g = jinja_grow(r), *out = jinja_grow(r);
    jinja_repr(r, g, v);
    value s = jinja_grown(r, g);
    str t = as_str(s);
    for (size_t at = 0, next; at < t.len && !r->failed; at = next) {
        uint32_t cp = jinja_char(t, at, &next);
        char esc[16];
        snprintf(esc, sizeof esc,
                 cp < 0x100     ? "\\x%02x"
                 : cp < 0x10000 ? "\\u%04x"
                                : "\\U%08x",
                 (unsigned)cp);
        if (cp < 128)
            jinja_put_sub(r, out, s, at, next);
        else
            jinja_put_cstr(r, out, esc, s.s->mask ? !s.s->mask[at] : s.data);
    }
    return jinja_grown(r, out);
}

static value repr(rt *r, value v) {
    grow *g = jinja_grow(r);
    jinja_repr(r, g, v);
    return jinja_grown(r, g);
}

static void percent_one(rt *r, grow *g, const spec *s, value v, char type, bool markup, bool data) {
    if (type == 's' || type == 'r' || type == 'a') {
        value text = type == 's' ? jinja_to_str(r, v) : type == 'r' ? repr(r, v) : ascii(r, v);
        if (markup) text = jinja_escape(r, text);
        if (s->precision >= 0 && (size_t)s->precision < jinja_n_chars(text))
            text = jinja_sub(r, text, 0, jinja_offset(text, (size_t)s->precision));
        put_padded(r, g, s, (str){0}, text, '>', data);
    } else if (type == 'c' && v.kind == V_STR && jinja_n_chars(v) == 1) {
        put_padded(r, g, s, (str){0}, v, '>', data);
    } else if (!is_number(v)) {
        if (v.kind == V_UNDEF)
            jinja_fail_undef(r, v);
        else
            jinja_fail(r, "%%%c format: a real number is required, not %s", type, jinja_type(v));
    } else {
        if (strchr("diu", type) && v.kind == V_FLOAT) {
            if (!(fabs(v.f) < 9e18)) {
                jinja_fail(r, "cannot convert this float to an integer");
                return;
            }
            v = v_int((int64_t)v.f, v.data);
        } else if (strchr("xXoc", type) && v.kind == V_FLOAT) {
            jinja_fail(r, "%%%c format: an integer is required, not float", type);
            return;
        }
        put_number(r, g, s, v, data);
    }
}

value jinja_percent(rt *r, value fmt, value arg) {
    str f = as_str(fmt);
    grow *g = jinja_grow(r);
    percent_args in = {.whole = arg, .is_tuple = is_tuple(arg)};
    size_t from = 0;
    for (size_t at = 0; at < f.len && tick(r); from = at) {
        const char *hit = memchr(f.ptr + at, '%', f.len - at);
        if (!hit) break;
        at = (size_t)(hit - f.ptr);
        bool data = fmt.s->mask ? !fmt.s->mask[at] : fmt.data;
        jinja_put_sub(r, g, fmt, from, at);
        at++;
        spec s = {.fill = " ", .n_fill = 1, .precision = -1};
        value named = {.kind = V_MISSING};
        if (at < f.len && f.ptr[at] == '(') {
            size_t begin = ++at;
            while (at < f.len && f.ptr[at] != ')') at++;
            if (arg.kind != V_DICT) return jinja_fail(r, "format requires a mapping");
            value key = jinja_sub(r, fmt, begin, at);
            value *found = jinja_dict_find_str(arg.dict, as_str(key));
            if (!found)
                return jinja_fail(r, "the format's key '%.*s' is missing",
                                  (int)(key.s->len < 80 ? key.s->len : 80), key.s->ptr);
            named = *found;
            in.used_names = true;
            at += at < f.len;
        }
        for (; at < f.len && strchr("#0- +", f.ptr[at]) && f.ptr[at]; at++) {
            if (f.ptr[at] == '#')
                s.alt = true;
            else if (f.ptr[at] == '0')
                s.zero = true;
            else if (f.ptr[at] == '-')
                s.align = '<';
            else if (s.sign != '+')
                s.sign = f.ptr[at];
        }
        bool minus = false;
        s.width = read_width(r, f, &at, &in, &minus);
        if (minus) s.align = '<';
        if (at < f.len && f.ptr[at] == '.') {
            at++;
            bool below = false;
            s.precision = read_width(r, f, &at, &in, &below);
            if (below) s.precision = 0;
        }
        while (at < f.len && strchr("hlL", f.ptr[at]) && f.ptr[at]) at++;
        if (at >= f.len) return jinja_fail(r, "incomplete format");
        char type = f.ptr[at++];
        if (type == '%' && f.ptr[at - 2] == '%') {
            jinja_put_cstr(r, g, "%", data);
            continue;
        }
        if (!type || !strchr("diuoxXeEfFgGcrsa", type))
            return jinja_fail(r, "unsupported format character '%c'",
                              type >= 32 && type < 127 ? type : '?');
        value v = given(named) ? named : next_arg(r, &in);
        if (r->failed) return v_none();
        s.type = type == 'i' || type == 'u' ? 'd' : type;
        if (s.align == '<') s.zero = false;
        if (s.zero && !strchr("crsa", type)) {
            s.fill[0] = '0';
            s.align = '=';
        }
        percent_one(r, g, &s, v, type, fmt.markup, data);
    }
    jinja_put_sub(r, g, fmt, from, f.len);
    bool left = in.is_tuple ? in.at < arg.seq->n
                            : in.at == 0 && arg.kind != V_DICT && arg.kind != V_UNDEF &&
                                  !(arg.kind == V_SEQ && arg.seq->type <= SEQ_RANGE);
    if (left && !in.used_names)
        return jinja_fail(r, "not all arguments converted during string formatting");
    value v = jinja_grown(r, g);
    v.markup = fmt.markup;
    v.data = v.data || fmt.data;
    return v;
}

/* ── str.format ── */

typedef struct formatter {
    const args *in;
    value fmt;
    int next; /* automatic numbering; -1: fields are numbered by hand */
} formatter;

static value arg_named(rt *r, formatter *x, str name, bool alone) {
    int64_t i; /* Python checks the numbering of fields that are a number alone */
    if (!name.len) {
        if (x->next < 0)
            return jinja_fail(
                r, "cannot switch from manual field specification to automatic field numbering");
        i = x->next++;
    } else if (name.ptr[0] >= '0' && name.ptr[0] <= '9' && jinja_parse_int(name, 10, &i, NULL)) {
        if (x->next > 0 && alone)
            return jinja_fail(
                r, "cannot switch from automatic field numbering to manual field specification");
        if (alone) x->next = -1;
    } else {
        for (int k = 0; k < x->in->n_kw; k++)
            if (str_eq(x->in->kw[k].name, name)) return x->in->kw[k].v;
        return jinja_fail(r, "the format's key '%.*s' is missing",
                          (int)(name.len < 80 ? name.len : 80), name.ptr);
    }
    if (i >= x->in->n_pos)
        return jinja_fail(r, "Replacement index %lld out of range for positional args tuple",
                          (long long)i);
    return x->in->pos[i];
}

/* name(.attr | [key])* */
static value field_value(rt *r, formatter *x, str field) {
    size_t at = 0;
    while (at < field.len && field.ptr[at] != '.' && field.ptr[at] != '[') at++;
    value v = arg_named(r, x, str_make(field.ptr, at), at == field.len);
    while (at < field.len && !r->failed) {
        size_t begin = ++at;
        bool index = field.ptr[begin - 1] == '[';
        while (at < field.len &&
               (index ? field.ptr[at] != ']' : field.ptr[at] != '.' && field.ptr[at] != '['))
            at++;
        str name = str_make(field.ptr + begin, at - begin);
        int64_t i;
        if (!index)
            v = jinja_getattr(r, v, name);
        else if (name.len && name.ptr[0] >= '0' && name.ptr[0] <= '9' &&
                 jinja_parse_int(name, 10, &i, NULL))
            v = jinja_getitem(r, v, v_int(i, false));
        else
            v = jinja_getitem(r, v, jinja_str(r, name, false));
        if (index) at += at < field.len;
    }
    return v;
}

/* What Python's __format__ of an int or a str refuses. */
static bool format_fits(rt *r, const spec *s, value v) {
    bool is_text = v.kind == V_STR;
    bool whole = is_int(v) && (!s->type || strchr("bcdoxXn", s->type));
    const char *what = NULL;
    if (is_text && s->sign)
        what = "Sign not allowed in string format specifier";
    else if (is_text && s->alt)
        what = "Alternate form (#) not allowed in string format specifier";
    else if (is_text && s->align == '=')
        what = "'=' alignment not allowed in string format specifier";
    else if (is_text && (s->comma || s->underscore))
        what = "Cannot specify ',' or '_' with 's'";
    else if (whole && s->precision >= 0)
        what = "Precision not allowed in integer format specifier";
    else if (is_int(v) && s->type == 'c' && (s->sign || s->alt))
        what = "Sign or alternate form (#) not allowed with integer format specifier 'c'";
    else if (s->comma && s->type && strchr("nboxXc", s->type))
        what = "Cannot specify ',' with that type";
    else if (s->underscore && s->type && strchr("nc", s->type))
        what = "Cannot specify '_' with that type";
    if (what) jinja_fail(r, "%s", what);
    return !what;
}

static bool parse_spec(rt *r, str t, spec *s) {
    size_t at = 0, next = 0;
    bool filled = false;
    *s = (spec){.fill = " ", .n_fill = 1, .precision = -1};
    if (t.len) jinja_char(t, 0, &next);
    if (next < t.len && t.len && strchr("<>^=", t.ptr[next]) && t.ptr[next] && next <= 4) {
        memcpy(s->fill, t.ptr, next);
        s->n_fill = next;
        filled = true;
        s->align = t.ptr[next];
        at = next + 1;
    } else if (t.len && t.ptr[0] && strchr("<>^=", t.ptr[0])) {
        s->align = t.ptr[0];
        at = 1;
    }
    if (at < t.len && t.ptr[at] && strchr("+- ", t.ptr[at])) s->sign = t.ptr[at++];
    if (at < t.len && t.ptr[at] == '#') {
        s->alt = true;
        at++;
    }
    if (at < t.len && t.ptr[at] == '0') {
        if (!filled) s->fill[0] = '0';
        s->zero = !s->align;
        at++;
    }
    s->width = read_width(r, t, &at, &(percent_args){0}, NULL);
    if (at < t.len && (t.ptr[at] == ',' || t.ptr[at] == '_')) {
        s->comma = t.ptr[at] == ',';
        s->underscore = !s->comma;
        at++;
    }
    if (at < t.len && t.ptr[at] == '.') {
        at++;
        s->precision = read_width(r, t, &at, &(percent_args){0}, NULL);
    }
    if (at < t.len) s->type = t.ptr[at++];
    if (at < t.len || (s->type && !strchr("bcdeEfFgGnosxX%", s->type))) {
        jinja_fail(r, "Invalid format specifier");
        return false;
    }
    return true;
}

/* Literal text and {fields} of `part`; a format spec may hold fields itself, one level down. */
static void expand(rt *r, grow *g, formatter *x, size_t begin, size_t end, int level) {
    str f = as_str(x->fmt);
    size_t from = begin;
    for (size_t at = begin; at < end && tick(r);) {
        char c = f.ptr[at];
        if (c != '{' && c != '}') {
            at++;
            continue;
        }
        jinja_put_sub(r, g, x->fmt, from, at);
        bool data = x->fmt.s->mask ? !x->fmt.s->mask[at] : x->fmt.data;
        if (level == 0 && at + 1 < end && f.ptr[at + 1] == c) {
            jinja_put(r, g, &c, 1, NULL, data);
            from = at += 2;
            continue;
        }
        if (c == '}') {
            jinja_fail(r, "Single '}' encountered in format string");
            return;
        }
        size_t close = at + 1;
        for (int depth = 1; close < end; close++) {
            if (f.ptr[close] == '{') depth++;
            if (f.ptr[close] == '}' && --depth == 0) break;
        }
        if (close >= end) {
            jinja_fail(r, "expected '}' before end of string");
            return;
        }
        size_t colon = at + 1, bracket = 0;
        for (; colon < close; colon++) {
            if (f.ptr[colon] == '[') bracket = 1;
            if (f.ptr[colon] == ']') bracket = 0;
            if (f.ptr[colon] == ':' && !bracket) break;
        }
        str field = str_make(f.ptr + at + 1, colon - at - 1);
        char convert = 0;
        if (field.len >= 2 && field.ptr[field.len - 2] == '!') {
            convert = field.ptr[field.len - 1];
            field.len -= 2;
        }
        value v = field_value(r, x, field);
        if (r->failed) return;
        if (convert && !strchr("rsa", convert)) {
            jinja_fail(r, "Unknown conversion specifier %c",
                       convert > 32 && convert < 127 ? convert : '?');
            return;
        }
        if (convert)
            v = convert == 'r' ? repr(r, v) : convert == 'a' ? ascii(r, v) : jinja_to_str(r, v);
        spec s = {.fill = " ", .n_fill = 1, .precision = -1};
        bool plain = true;
        if (colon < close) {
            grow *text = jinja_grow(r);
            if (level == 0)
                expand(r, text, x, colon + 1, close, 1);
            else
                jinja_put_sub(r, text, x->fmt, colon + 1, close);
            if (r->failed || !parse_spec(r, str_make(text->ptr, text->len), &s)) return;
            plain = !text->len;
        }
        if (!format_fits(r, &s, v)) return;
        if (is_number(v) && !(plain && (v.kind == V_BOOL || v.kind == V_FLOAT))) {
            if (s.type == 's' || (v.kind == V_FLOAT && s.type && strchr("bcdoxX", s.type))) {
                jinja_fail(r, "Unknown format code '%c' for object of type '%s'", s.type,
                           jinja_type(v));
                return;
            }
            put_number(r, g, &s, v, data);
        } else if (plain || v.kind == V_STR) {
            if (s.type && s.type != 's') {
                jinja_fail(r, "Unknown format code '%c' for object of type '%s'", s.type,
                           jinja_type(v));
                return;
            }
            value text = x->fmt.markup ? jinja_escape(r, v) : jinja_to_str(r, v);
            if (s.precision >= 0 && (size_t)s.precision < jinja_n_chars(text))
                text = jinja_sub(r, text, 0, jinja_offset(text, (size_t)s.precision));
            put_padded(r, g, &s, (str){0}, text, '<', data);
        } else {
            jinja_fail(r, "unsupported format string passed to %s.__format__", jinja_type(v));
            return;
        }
        from = at = close + 1;
    }
    jinja_put_sub(r, g, x->fmt, from, end);
}

value jinja_format(rt *r, value fmt, const args *in) {
    formatter x = {.in = in, .fmt = fmt};
    grow *g = jinja_grow(r);
    expand(r, g, &x, 0, fmt.s->len, 0);
    value v = jinja_grown(r, g);
    v.markup = fmt.markup;
    v.data = v.data || fmt.data;
    return v;
}

/* ── strftime ── */

value jinja_strftime(rt *r, value fmt) {
    str f = as_str(fmt);
    int64_t now = 0;
    if (r->opts &&
        __builtin_add_overflow(r->opts->now_unix_s, (int64_t)r->opts->utc_offset_s, &now))
        now = 0;
    struct tm tm;
    time_t t = (time_t)now;
    if (!gmtime_r(&t, &tm)) return jinja_fail(r, "the clock is out of range");
    grow *g = jinja_grow(r);
    for (size_t at = 0; at < f.len && tick(r);) {
        size_t begin = at;
        bool data = fmt.s->mask ? !fmt.s->mask[at] : fmt.data;
        if (f.ptr[at] != '%' || at + 1 >= f.len) {
            while (at < f.len && (f.ptr[at] != '%' || at + 1 >= f.len)) at++;
            jinja_put_sub(r, g, fmt, begin, at);
            continue;
        }
        char one[8] = "%", out[128];
        size_t n = 1;
        at++;
        /* GNU's flags; widths are not passed on, they could ask for a gigabyte. */
        while (at < f.len && n < 4 && f.ptr[at] && strchr("-_0^#EO", f.ptr[at]))
            one[n++] = f.ptr[at++];
        char c = at < f.len ? f.ptr[at++] : 0;
        one[n] = c;
        if (c == 'f') {
            jinja_put_cstr(r, g, "000000", data);
        } else if (c == 'z' || c == 'Z') {
            /* A clock without a zone prints none. */
        } else if (c == 's') {
            int len =
                snprintf(out, sizeof out, "%lld", (long long)(r->opts ? r->opts->now_unix_s : 0));
            jinja_put(r, g, out, (size_t)len, NULL, data);
        } else if (c > ' ' && c < 127) {
            size_t len = strftime(out, sizeof out, one, &tm);
            jinja_put(r, g, out, len, NULL, data);
        } else {
            jinja_put_sub(r, g, fmt, begin, at);
        }
    }
    return jinja_grown(r, g);
}
