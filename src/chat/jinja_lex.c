/* Source → tokens. Owns everything about white space: line ends become \n, one
 * newline at the very end goes, `-` strips to the next text, a newline after a
 * block tag goes (trim_blocks), blanks before a block tag that begins its line
 * go (lstrip_blocks, unless `+`), and a raw block is data.
 *
 * Refuses: text that is not UTF-8, unclosed tags and comments, brackets that do
 * not pair, characters that begin no token.
 */
#include "chat/jinja_impl.h"

#include <errno.h>
#include <stdlib.h>

typedef struct lexer {
    arena *mem;
    error *err;
    str src;
    size_t at;
    int line;
    bool line_starting; /* the last match ended with a newline (or nothing came before) */
    char brackets[JINJA_MAX_NESTING];
    int n_brackets;
    token *tokens;
    size_t n, cap;
    bool failed;
} lexer;

static void fail(lexer *x, const char *what) {
    if (!x->failed) error_set(x->err, ERR_TEMPLATE, NULL, "Template line %d: %s.", x->line, what);
    x->failed = true;
}

static token *emit(lexer *x, token_type type) {
    if (x->n == x->cap) {
        size_t cap = x->cap ? x->cap * 2 : 256;
        token *grown = realloc(x->tokens, cap * sizeof *grown);
        if (!grown) {
            fail(x, "memory ran out while reading it");
            return NULL;
        }
        x->tokens = grown;
        x->cap = cap;
    }
    token *t = &x->tokens[x->n++];
    *t = (token){.type = type, .line = x->line};
    return t;
}

static bool looking_at(const lexer *x, const char *s) {
    return str_starts(str_make(x->src.ptr + x->at, x->src.len - x->at), str_from(s));
}

static void move(lexer *x, size_t n) {
    for (size_t i = 0; i < n; i++) x->line += x->src.ptr[x->at + i] == '\n';
    x->at += n;
    if (n) x->line_starting = x->src.ptr[x->at - 1] == '\n';
}

static void skip_space(lexer *x) {
    size_t at = x->at, next;
    while (at < x->src.len && jinja_is_space(jinja_char(x->src, at, &next))) at = next;
    move(x, at - x->at);
}

/* Length of a tag's end at the cursor with what it swallows, or 0. `close` is "%}", "}}" or "#}". */
static bool end_tag(lexer *x, const char *close, bool trims) {
    char minus[4] = {'-', close[0], close[1], 0}, plus[4] = {'+', close[0], close[1], 0};
    if (looking_at(x, minus)) {
        move(x, 3);
        skip_space(x);
        return true;
    }
    if (trims && looking_at(x, plus)) {
        move(x, 3);
        return true;
    }
    if (!looking_at(x, close)) return false;
    move(x, 2);
    if (trims && looking_at(x, "\n")) move(x, 1);
    return true;
}

static size_t rstrip(str s) {
    while (s.len) {
        size_t begin = s.len - 1, next;
        while (begin > 0 && s.len - begin < 4 && ((unsigned char)s.ptr[begin] & 0xC0) == 0x80)
            begin--;
        if (!jinja_is_space(jinja_char(s, begin, &next)) || next != s.len) break;
        s.len = begin;
    }
    return s.len;
}

/* The text before a tag, minus what the tag's sign or lstrip_blocks take from its end. */
static str strip_before(str text, char sign, bool is_block, bool line_starting) {
    if (sign == '-') return str_make(text.ptr, rstrip(text));
    if (sign == '+' || !is_block) return text;
    size_t begin = text.len;
    while (begin > 0 && text.ptr[begin - 1] != '\n') begin--;
    if (begin == 0 && !line_starting) return text;
    str tail = str_make(text.ptr + begin, text.len - begin);
    return rstrip(tail) == 0 ? str_make(text.ptr, begin) : text;
}

static void emit_data(lexer *x, str text, int line) {
    if (!text.len) return;
    token *t = emit(x, T_DATA);
    if (t) *t = (token){.type = T_DATA, .line = line, .text = text};
}

/* At "{%": is this `{%- raw -%}` (or endraw)? Then its length up to the word's end, else 0. */
static size_t raw_word(const lexer *x, size_t at, const char *word) {
    str s = x->src;
    size_t next;
    if (!str_starts(str_make(s.ptr + at, s.len - at), STR("{%"))) return 0;
    size_t p = at + 2;
    if (p < s.len && (s.ptr[p] == '-' || s.ptr[p] == '+')) p++;
    while (p < s.len && jinja_is_space(jinja_char(s, p, &next))) p = next;
    if (!str_starts(str_make(s.ptr + p, s.len - p), str_from(word))) return 0;
    p += strlen(word);
    while (p < s.len && jinja_is_space(jinja_char(s, p, &next))) p = next;
    str rest = str_make(s.ptr + p, s.len - p);
    if (!str_starts(rest, STR("%}")) && !str_starts(rest, STR("-%}")) &&
        !(word[0] == 'e' && str_starts(rest, STR("+%}"))))
        return 0;
    return p - at;
}

static char sign_at(const lexer *x, size_t at) {
    char c = at < x->src.len ? x->src.ptr[at] : 0;
    return c == '-' || c == '+' ? c : 0;
}

static void lex_raw(lexer *x, size_t n) {
    move(x, n);
    if (looking_at(x, "-"))
        end_tag(x, "%}", false);
    else
        move(x, 2);
    size_t begin = x->at, p = begin;
    while (p < x->src.len && !(n = raw_word(x, p, "endraw"))) p++;
    if (p >= x->src.len) {
        fail(x, "Missing end of raw directive");
        return;
    }
    bool starting = x->line_starting;
    emit_data(
        x, strip_before(str_make(x->src.ptr + begin, p - begin), sign_at(x, p + 2), true, starting),
        x->line);
    move(x, p - begin + n);
    end_tag(x, "%}", true);
}

static void lex_comment(lexer *x, size_t n_begin) {
    move(x, n_begin);
    while (x->at < x->src.len) {
        if (end_tag(x, "#}", true)) return;
        move(x, 1);
    }
    fail(x, "Missing end of comment tag");
}

static int hex_digits(str s, size_t at, int n) {
    int v = 0;
    if (at + (size_t)n > s.len) return -1;
    for (int i = 0; i < n; i++) {
        char c = s.ptr[at + (size_t)i];
        int d = c >= '0' && c <= '9'                 ? c - '0'
                : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                     : -1;
        if (d < 0 || v > 0x7FFFFFF) return -1;
        v = v * 16 + d;
    }
    return v;
}

/* Python's escapes; an unknown one keeps its backslash. The result is never longer than `s`. */
static str unescape(lexer *x, str s) {
    char *out = arena_alloc_aligned(x->mem, s.len + 1, 1);
    size_t n = 0;
    if (!out) {
        fail(x, "memory ran out while reading it");
        return (str){0};
    }
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] != '\\' || i + 1 >= s.len) {
            out[n++] = s.ptr[i];
            continue;
        }
        char c = s.ptr[++i];
        static const char from[] = "\\'\"abfnrtv", to[] = "\\'\"\a\b\f\n\r\t\v";
        const char *known = c ? strchr(from, c) : NULL;
        if (known) {
            out[n++] = to[known - from];
        } else if (c == '\n') {
            /* a line continued */
        } else if (c >= '0' && c <= '7') {
            int v = 0;
            for (int k = 0; k < 3 && i < s.len && s.ptr[i] >= '0' && s.ptr[i] <= '7'; k++, i++)
                v = v * 8 + (s.ptr[i] - '0');
            i--;
            /* \0 is one byte for two; \777 is two for four. */
            n += (size_t)utf8_encode((uint32_t)v, out + n);
        } else if (c == 'x' || c == 'u' || c == 'U') {
            int digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
            int v = hex_digits(s, i + 1, digits);
            if (v < 0) {
                fail(x, "a string holds an escape that is cut short");
                return (str){0};
            }
            i += (size_t)digits;
            if (v >= 0xD800 && v < 0xDC00 && i + 6 < s.len && s.ptr[i + 1] == '\\' &&
                s.ptr[i + 2] == 'u') {
                int low = hex_digits(s, i + 3, 4);
                if (low >= 0xDC00 && low < 0xE000) {
                    v = 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
                    i += 6;
                }
            }
            n += (size_t)utf8_encode((uint32_t)v, out + n);
        } else {
            out[n++] = '\\';
            out[n++] = c;
        }
    }
    return str_make(out, n);
}

static void lex_string(lexer *x) {
    char quote = x->src.ptr[x->at];
    size_t p = x->at + 1;
    while (p < x->src.len && x->src.ptr[p] != quote) p += x->src.ptr[p] == '\\' ? 2 : 1;
    if (p >= x->src.len) {
        fail(x, "a string does not end");
        return;
    }
    str content = str_make(x->src.ptr + x->at + 1, p - x->at - 1);
    token *t = emit(x, T_STRING);
    if (!t) return;
    t->text = unescape(x, content);
    move(x, p + 1 - x->at);
}

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

static size_t digits_at(str s, size_t p) {
    size_t begin = p;
    while (p < s.len && (is_digit(s.ptr[p]) ||
                         (s.ptr[p] == '_' && p > begin && p + 1 < s.len && is_digit(s.ptr[p + 1]))))
        p++;
    return p - begin;
}

static void lex_number(lexer *x) {
    str s = x->src;
    size_t p = x->at;
    char text[64];
    size_t n = 0;
    bool is_float = false;
    int base = 10;
    char second = p + 1 < s.len && s.ptr[p] == '0' ? (char)(s.ptr[p + 1] | 32) : 0;
    if (second == 'x' || second == 'o' || second == 'b') {
        base = second == 'x' ? 16 : second == 'o' ? 8 : 2;
        p += 2;
        while (p < s.len && (is_digit(s.ptr[p]) || s.ptr[p] == '_' ||
                             (base == 16 && (s.ptr[p] | 32) >= 'a' && (s.ptr[p] | 32) <= 'f')))
            p++;
    } else {
        p += digits_at(s, p);
        bool after_dot = x->at > 0 && s.ptr[x->at - 1] == '.';
        if (!after_dot && p + 1 < s.len && s.ptr[p] == '.' && is_digit(s.ptr[p + 1])) {
            p += 1 + digits_at(s, p + 1);
            is_float = true;
        }
        if (!after_dot && p < s.len && (s.ptr[p] | 32) == 'e') {
            size_t q = p + 1;
            if (q < s.len && (s.ptr[q] == '+' || s.ptr[q] == '-')) q++;
            size_t exponent = digits_at(s, q);
            if (exponent) {
                p = q + exponent;
                is_float = true;
            }
        }
    }
    for (size_t i = x->at + (base == 10 ? 0 : 2); i < p; i++)
        if (s.ptr[i] != '_') {
            if (n + 1 >= sizeof text) {
                fail(x, "a number is too long");
                return;
            }
            text[n++] = s.ptr[i];
        }
    text[n] = 0;
    if (base == 10 && !is_float && text[0] == '0' && text[strspn(text, "0")]) {
        fail(x, "a number begins with 0");
        return;
    }
    token *t = emit(x, is_float ? T_FLOAT : T_INT);
    if (!t) return;
    char *end;
    errno = 0;
    if (is_float) {
        t->f = strtod(text, &end);
    } else {
        t->i = strtoll(text, &end, base);
        if (errno || !n) fail(x, "an integer is too large");
    }
    if (*end) fail(x, "a number is malformed");
    t->text = str_make(s.ptr + x->at, p - x->at);
    move(x, p - x->at);
}

static const struct {
    const char *text;
    token_type type;
} operators[] = {
    {"//", T_FLOORDIV}, {"**", T_POW},   {"==", T_EQ},      {"!=", T_NE},      {">=", T_GE},
    {"<=", T_LE},       {"+", T_ADD},    {"-", T_SUB},      {"*", T_MUL},      {"/", T_DIV},
    {"%", T_MOD},       {"~", T_TILDE},  {"[", T_LBRACKET}, {"]", T_RBRACKET}, {"(", T_LPAREN},
    {")", T_RPAREN},    {"{", T_LBRACE}, {"}", T_RBRACE},   {">", T_GT},       {"<", T_LT},
    {"=", T_ASSIGN},    {".", T_DOT},    {":", T_COLON},    {"|", T_PIPE},     {",", T_COMMA},
    {";", T_SEMICOLON},
};

static void lex_operator(lexer *x) {
    for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
        const char *text = operators[i].text;
        if (!looking_at(x, text)) continue;
        char c = text[1] ? 0 : text[0];
        if (c == '(' || c == '[' || c == '{') {
            if (x->n_brackets == JINJA_MAX_NESTING) {
                fail(x, "brackets are nested too deeply");
                return;
            }
            x->brackets[x->n_brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
        } else if (c == ')' || c == ']' || c == '}') {
            if (!x->n_brackets || x->brackets[--x->n_brackets] != c) {
                char what[] = "unexpected '?'";
                what[12] = c;
                fail(x, what);
                return;
            }
        }
        emit(x, operators[i].type);
        move(x, strlen(text));
        return;
    }
    fail(x, "a tag holds a character that means nothing there");
}

/* The inside of {{ … }} or {% … %}. */
static void lex_tag(lexer *x, const char *close, bool is_block) {
    x->n_brackets = 0;
    while (!x->failed) {
        if (!x->n_brackets) {
            int line = x->line;
            if (end_tag(x, close, is_block)) {
                token *t = emit(x, is_block ? T_BLOCK_END : T_VAR_END);
                if (t) t->line = line;
                return;
            }
        }
        if (x->at >= x->src.len) {
            fail(x, is_block ? "the template ends inside a block tag"
                             : "the template ends inside an expression");
            return;
        }
        size_t next;
        uint32_t cp = jinja_char(x->src, x->at, &next);
        if (jinja_is_space(cp)) {
            skip_space(x);
        } else if (cp < 128 && is_digit((char)cp)) {
            lex_number(x);
        } else if (jinja_is_word(cp)) {
            size_t p = next;
            while (p < x->src.len && jinja_is_word(jinja_char(x->src, p, &next))) p = next;
            token *t = emit(x, T_NAME);
            if (!t) return;
            t->text = str_make(x->src.ptr + x->at, p - x->at);
            move(x, p - x->at);
        } else if (cp == '\'' || cp == '"') {
            lex_string(x);
        } else {
            lex_operator(x);
        }
    }
}

static void lex_all(lexer *x) {
    while (x->at < x->src.len && !x->failed) {
        size_t begin = x->at, p = begin;
        int line = x->line;
        bool starting = x->line_starting;
        while (p + 1 < x->src.len && !(x->src.ptr[p] == '{' && memchr("{%#", x->src.ptr[p + 1], 3)))
            p++;
        if (p + 1 >= x->src.len) {
            emit_data(x, str_make(x->src.ptr + begin, x->src.len - begin), line);
            x->at = x->src.len;
            return;
        }
        char type = x->src.ptr[p + 1], sign = sign_at(x, p + 2);
        emit_data(
            x, strip_before(str_make(x->src.ptr + begin, p - begin), sign, type != '{', starting),
            line);
        move(x, p - begin);
        size_t raw = type == '%' ? raw_word(x, x->at, "raw") : 0;
        if (raw) {
            lex_raw(x, raw);
        } else if (type == '#') {
            lex_comment(x, sign ? 3 : 2);
        } else {
            emit(x, type == '%' ? T_BLOCK_BEGIN : T_VAR_BEGIN);
            move(x, sign ? 3 : 2);
            lex_tag(x, type == '%' ? "%}" : "}}", type == '%');
        }
    }
}

/* \r\n and \r become \n, and one newline at the end goes. */
static str normalise(arena *mem, str source) {
    char *out = arena_alloc_aligned(mem, source.len + 1, 1);
    size_t n = 0;
    if (!out) return (str){0};
    for (size_t i = 0; i < source.len; i++) {
        char c = source.ptr[i];
        if (c == '\r') {
            if (i + 1 < source.len && source.ptr[i + 1] == '\n') i++;
            c = '\n';
        }
        out[n++] = c;
    }
    if (n && out[n - 1] == '\n') n--;
    return str_make(out, n);
}

token *jinja_lex(arena *mem, str source, size_t *n, error *err) {
    lexer x = {.mem = mem, .err = err, .line = 1, .line_starting = true};
    x.src = normalise(mem, source);
    if (!x.src.ptr) fail(&x, "memory ran out while reading it");
    if (!x.failed && !utf8_is_valid(x.src)) fail(&x, "the template is not UTF-8");
    if (!x.failed) lex_all(&x);
    if (!x.failed) emit(&x, T_EOF);
    token *out = NULL;
    if (!x.failed) {
        out = arena_array(mem, x.n, sizeof *out);
        if (out)
            memcpy(out, x.tokens, x.n * sizeof *out);
        else
            fail(&x, "memory ran out while reading it");
        *n = x.n;
    }
    free(x.tokens);
    return out;
}
