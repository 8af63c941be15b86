/* Grammars as text: GBNF (llama.cpp's notation) and Lark's. Both are read straight into
 * nodes; stretches without rule names become one automaton each.
 *
 * Lark here means the language that the rules describe, character by character: there is
 * no separate lexer, so priorities, %declare and keyword precedence change nothing. What
 * %ignore names may stand before the first and behind every terminal of a rule.
 * Refused by name: templates, %override, %extend, imports other than `common`.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sample/grammar_impl.h"

enum { MAX_NESTED = 200, MAX_ITEMS = 4096 };

typedef struct piece { /* a part of a rule: regular, or a node */
    bool is_regular, is_bad;
    rx r;
    grammar_node n;
} piece;

typedef struct rule {
    str name;
    size_t at;         /* where its body begins */
    grammar_node node; /* declared; −1 = a terminal */
    bool is_terminal, is_open;
    rx terminal; /* −2: not read yet */
} rule;

typedef struct source {
    grammar_builder *b;
    regexes *x;
    str text;
    size_t at;
    const char *param;
    bool is_lark, in_terminal;
    int depth;
    rule *rules;
    size_t n_rules, cap_rules;
    grammar_node skip; /* what is ignored, any number of times; −1: nothing */
} source;

static const piece BAD = {.is_bad = true, .r = -1, .n = -1};

static piece bad(source *s, const char *what) {
    size_t line = 1;
    for (size_t i = 0; i < s->at && i < s->text.len; i++) line += s->text.ptr[i] == '\n';
    builder_fail(s->b, ERR_INVALID_VALUE, s->param, "The grammar is wrong in line %zu: %s.", line,
                 what);
    return BAD;
}
static piece cannot(source *s, const char *what) {
    builder_fail(s->b, ERR_UNSUPPORTED_VALUE, s->param,
                 "The grammar uses %s, which is not supported.", what);
    return BAD;
}

/* ── Pieces ── */

static piece regular(rx r) {
    return r < 0 ? BAD : (piece){.is_regular = true, .r = r, .n = -1};
}
static piece node_piece(grammar_node n) {
    return n < 0 ? BAD : (piece){.n = n};
}

static grammar_node to_node(source *s, piece p) {
    if (p.is_bad) return -1;
    return p.is_regular ? builder_regex(s->b, p.r) : p.n;
}

static piece join(source *s, const piece *v, size_t n, bool alternatives) {
    bool all = true;
    for (size_t i = 0; i < n; i++) {
        if (v[i].is_bad) return BAD;
        all &= v[i].is_regular;
    }
    if (all) {
        rx r = alternatives ? RX_NONE : RX_EPS;
        for (size_t i = n; i-- > 0;)
            r = alternatives ? regex_alt2(s->x, v[i].r, r) : regex_cat(s->x, v[i].r, r);
        return regular(r);
    }
    grammar_node *nodes = malloc(n * sizeof *nodes);
    if (!nodes) return cannot(s, "more memory than there is");
    size_t k = 0;
    for (size_t i = 0; i < n; i++) {
        piece p = v[i];
        while (p.is_regular && i + 1 < n &&
               v[i + 1].is_regular) { /* neighbours are one automaton */
            i++;
            p = regular(alternatives ? regex_alt2(s->x, p.r, v[i].r)
                                     : regex_cat(s->x, p.r, v[i].r));
        }
        nodes[k++] = to_node(s, p);
    }
    grammar_node result = alternatives ? grammar_alt(s->b, nodes, k) : grammar_seq(s->b, nodes, k);
    free(nodes);
    return node_piece(result);
}

static piece repeat(source *s, piece p, int32_t min, int32_t max) {
    if (p.is_bad) return BAD;
    if (min > GRAMMAR_MAX_REPEAT || max > GRAMMAR_MAX_REPEAT)
        return cannot(s, "a repetition of more than GRAMMAR_MAX_REPEAT");
    if (max >= 0 && max < min) return bad(s, "a repetition's bounds are the wrong way round");
    /* A counted repetition is a count, not a long automaton. */
    if (p.is_regular && (max < 0 || max <= 64) && min <= 64)
        return regular(regex_repeat(s->x, p.r, min, max));
    return node_piece(grammar_repeat(s->b, to_node(s, p), min, max));
}

/* A terminal in a rule: what is ignored may follow it. */
static piece as_terminal(source *s, piece p) {
    if (p.is_bad || s->in_terminal || s->skip < 0) return p;
    return join(s, (piece[]){p, node_piece(s->skip)}, 2, false);
}

/* ── Characters ── */

static int peek(const source *s) {
    return s->at < s->text.len ? (uint8_t)s->text.ptr[s->at] : -1;
}
static bool looking_at(const source *s, const char *t) {
    return str_starts(str_make(s->text.ptr + s->at, s->text.len - s->at), str_from(t));
}
static bool eat(source *s, const char *t) {
    if (!looking_at(s, t)) return false;
    s->at += strlen(t);
    return true;
}

static bool is_name_char(const source *s, int c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (!s->is_lark && c == '-');
}

static void skip_comment(source *s) {
    while (peek(s) >= 0 && peek(s) != '\n') s->at++;
}

/* Blanks and comments; line ends too. */
static void skip_blanks(source *s) {
    for (;;) {
        int c = peek(s);
        if (c == ' ' || c == '\t' || c == '\r' || c == '\n')
            s->at++;
        else if ((!s->is_lark && c == '#') || (s->is_lark && (looking_at(s, "//") || c == '#')))
            skip_comment(s);
        else
            return;
    }
}

static str take_name(source *s) {
    size_t from = s->at;
    while (is_name_char(s, peek(s))) s->at++;
    return str_make(s->text.ptr + from, s->at - from);
}

static bool take_int(source *s, int32_t *v) {
    if (peek(s) < '0' || peek(s) > '9') return false;
    for (*v = 0; peek(s) >= '0' && peek(s) <= '9'; s->at++)
        if (*v <= GRAMMAR_MAX_REPEAT) *v = *v * 10 + (peek(s) - '0');
    return true;
}

static bool take_hex(source *s, int n, uint32_t *v) {
    *v = 0;
    for (; n > 0; n--, s->at++) {
        int c = peek(s) | 32;
        bool digit = peek(s) >= '0' && peek(s) <= '9';
        if (!digit && (c < 'a' || c > 'f')) return false;
        *v = *v * 16 + (uint32_t)(digit ? peek(s) - '0' : c - 'a' + 10);
    }
    return *v <= 0x10FFFF;
}

/* One character of a literal or class, escapes resolved. */
static bool take_char(source *s, uint32_t *c) {
    if (!eat(s, "\\")) {
        int n = utf8_decode(s->text, s->at, c);
        s->at += n ? (size_t)n : 1;
        return n > 0;
    }
    int e = peek(s);
    s->at++;
    switch (e) {
    case 'n': *c = '\n'; return true;
    case 'r': *c = '\r'; return true;
    case 't': *c = '\t'; return true;
    case 'f': *c = '\f'; return true;
    case 'v': *c = '\v'; return true;
    case 'b': *c = '\b'; return true;
    case 'x': return take_hex(s, 2, c);
    case 'u': return take_hex(s, 4, c);
    case 'U': return take_hex(s, 8, c);
    default:
        if (e < 0) return false;
        s->at--;
        int n = utf8_decode(s->text, s->at, c);
        s->at += n ? (size_t)n : 1;
        return n > 0;
    }
}

static piece take_literal(source *s) {
    s->at++; /* the quote */
    buf text = {0};
    uint32_t c;
    bool ok = true;
    while (ok && peek(s) != '"') {
        ok = peek(s) >= 0 && take_char(s, &c);
        if (ok) buf_append_utf8(&text, c);
    }
    rx r = RX_EPS;
    if (ok) {
        s->at++;
        bool folds = s->is_lark && peek(s) == 'i' && s->at++;
        for (size_t i = text.len; i-- > 0;) {
            uint8_t byte = (uint8_t)text.ptr[i], lower = byte | 32;
            rx one = regex_byte_range(s->x, byte, byte);
            if (folds && lower >= 'a' && lower <= 'z')
                one = regex_alt2(s->x, regex_byte_range(s->x, lower, lower),
                                 regex_byte_range(s->x, lower - 32, lower - 32));
            r = regex_cat(s->x, one, r);
        }
    }
    bool one_char = ok && text.len && utf8_count(buf_str(&text)) == 1;
    uint32_t first = 0, last;
    if (one_char) utf8_decode(buf_str(&text), 0, &first);
    buf_deinit(&text);
    if (!ok) return bad(s, "a string has no end or a wrong escape");
    if (s->is_lark && one_char && looking_at(s, "..\"")) { /* "a".."z" */
        s->at += 3;
        if (!take_char(s, &last) || !eat(s, "\"") || last < first)
            return bad(s, "a range of characters is wrong");
        r = regex_char(s->x, first, last);
    }
    return regular(r);
}

static piece take_class(source *s) {
    s->at++;
    bool negative = eat(s, "^");
    rx r = RX_NONE;
    while (peek(s) != ']') {
        uint32_t lo, hi;
        if (peek(s) < 0 || !take_char(s, &lo))
            return bad(s, "a class has no end or a wrong escape");
        hi = lo;
        if (peek(s) == '-' && s->at + 1 < s->text.len && s->text.ptr[s->at + 1] != ']') {
            s->at++;
            if (!take_char(s, &hi) || hi < lo) return bad(s, "a range of characters is wrong");
        }
        r = regex_alt2(s->x, r, regex_char(s->x, lo, hi));
    }
    s->at++;
    if (negative) r = regex_and2(s->x, regex_any_char(s->x), regex_not(s->x, r));
    return regular(r);
}

/* /pattern/flags */
static piece take_regex(source *s) {
    size_t from = ++s->at;
    bool in_class = false;
    while (peek(s) >= 0 && peek(s) != '\n' && (peek(s) != '/' || in_class)) {
        if (peek(s) == '[') in_class = true;
        if (peek(s) == ']') in_class = false;
        s->at += peek(s) == '\\' ? 2 : 1;
    }
    if (peek(s) != '/') return bad(s, "a pattern has no end");
    buf pattern = {0};
    for (size_t i = from; i < s->at; i++) { /* "\/" is only how a slash is written here */
        if (s->text.ptr[i] == '\\' && i + 1 < s->at && s->text.ptr[i + 1] == '/') continue;
        buf_append_char(&pattern, s->text.ptr[i]);
    }
    s->at++;
    regex_syntax syntax = {.is_python = true};
    for (; peek(s) >= 'a' && peek(s) <= 'z'; s->at++) {
        int flag = peek(s);
        if (flag == 'i') syntax.ignore_case = true;
        if (flag == 's') syntax.dot_all = true;
        if (strchr("imslu", flag))
            continue; /* ends of lines, locales: nothing to tell apart here */
        buf_deinit(&pattern);
        return flag == 'x' ? cannot(s, "the pattern flag x")
                           : bad(s, "a pattern has a flag that does not exist");
    }
    error e = {0};
    rx r = regex_parse(s->x, buf_str(&pattern), syntax, &e);
    buf_deinit(&pattern);
    if (r < 0) {
        builder_fail(s->b, e.code, s->param, "%s", e.message);
        return BAD;
    }
    return regular(r);
}

/* ── Rules ── */

static rule *find_rule(source *s, str name) {
    for (size_t i = 0; i < s->n_rules; i++)
        if (str_eq(s->rules[i].name, name)) return &s->rules[i];
    return NULL;
}

static rule *add_rule(source *s, str name) {
    if (find_rule(s, name)) {
        bad(s, "a rule is defined twice");
        return NULL;
    }
    if (s->n_rules == s->cap_rules) {
        size_t cap = s->cap_rules ? s->cap_rules * 2 : 32;
        rule *p = realloc(s->rules, cap * sizeof *p);
        if (!p) {
            cannot(s, "more memory than there is");
            return NULL;
        }
        s->rules = p;
        s->cap_rules = cap;
    }
    s->rules[s->n_rules] = (rule){.name = name, .node = -1, .terminal = -2};
    return &s->rules[s->n_rules++];
}

/* What Lark's trees are to look like: "?", "!" or both before a rule's name. */
static void skip_marks(source *s) {
    for (int i = 0; i < 2 && (peek(s) == '?' || peek(s) == '!'); i++) s->at++;
}

/* Where a name begins a new rule, the one before has ended. */
static bool at_rule_start(source *s) {
    size_t back = s->at;
    bool yes = false;
    if (s->is_lark) {
        if (peek(s) == '%')
            yes = !looking_at(s, "%json");
        else {
            skip_marks(s);
            str name = take_name(s);
            if (name.len && peek(s) == '.') { /* a priority */
                int32_t n;
                s->at++;
                if (peek(s) == '-') s->at++;
                take_int(s, &n);
            }
            while (peek(s) == ' ' || peek(s) == '\t') s->at++;
            yes = name.len && (peek(s) == ':' || peek(s) == '{');
        }
    } else {
        str name = take_name(s);
        skip_blanks(s);
        yes = name.len && looking_at(s, "::=");
    }
    s->at = back;
    return yes;
}

static piece take_alternatives(source *s);

static piece read_terminal(source *s, rule *r) {
    if (r->terminal == -2) {
        if (r->is_open) return bad(s, "a terminal refers to itself");
        size_t back = s->at;
        bool outer = s->in_terminal;
        str name = r->name;
        r->is_open = s->in_terminal = true;
        s->at = r->at;
        piece p = take_alternatives(s);
        s->at = back;
        s->in_terminal = outer;
        r = find_rule(s, name);
        r->is_open = false;
        if (p.is_bad) return BAD;
        if (!p.is_regular) return cannot(s, "a rule inside a terminal");
        r->terminal = p.r;
    }
    return regular(r->terminal);
}

static piece take_reference(source *s) {
    str name = take_name(s);
    rule *r = find_rule(s, name);
    if (!r) {
        builder_fail(s->b, ERR_INVALID_VALUE, s->param, "The grammar has no rule '%.*s'.",
                     name.len < 100 ? (int)name.len : 100, name.ptr);
        return BAD;
    }
    if (r->is_terminal) return as_terminal(s, read_terminal(s, r));
    if (s->in_terminal) return cannot(s, "a rule inside a terminal");
    return node_piece(r->node);
}

static piece take_json(source *s) {
    s->at += 5;
    json_error_t e;
    json_t *schema = json_loadb(s->text.ptr + s->at, s->text.len - s->at,
                                JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, &e);
    if (!schema) return bad(s, "no JSON Schema stands behind %json");
    s->at += (size_t)e.position;
    grammar_schema_options o = {.param = s->param};
    grammar_node n = grammar_schema(s->b, schema, &o);
    json_decref(schema);
    return as_terminal(s, node_piece(n));
}

static piece take_item(source *s) {
    int c = peek(s);
    if (c == '"') return as_terminal(s, take_literal(s));
    if (c == '(' || (c == '[' && s->is_lark)) {
        s->at++;
        if (++s->depth > MAX_NESTED) return cannot(s, "too many groups in each other");
        piece p = take_alternatives(s);
        s->depth--;
        skip_blanks(s);
        if (p.is_bad) return BAD;
        if (!eat(s, c == '(' ? ")" : "]")) return bad(s, "a group has no end");
        return c == '(' ? p : repeat(s, p, 0, 1);
    }
    if (c == '[') return take_class(s);
    if (c == '.' && !s->is_lark) {
        s->at++;
        return regular(regex_any_char(s->x));
    }
    if (c == '/' && s->is_lark) return as_terminal(s, take_regex(s));
    if (s->is_lark && looking_at(s, "%json")) return take_json(s);
    if (is_name_char(s, c)) return take_reference(s);
    return bad(s, "something is not understood");
}

static piece take_repeated(source *s) {
    piece p = take_item(s);
    while (!p.is_bad) {
        int32_t min = 0, max = -1;
        size_t back = s->at;
        /* "a" ~ 2..3 in Lark, "a" {2,3} in GBNF */
        while (peek(s) == ' ' || peek(s) == '\t') s->at++;
        if (s->is_lark && eat(s, "~")) {
            skip_blanks(s);
            if (!take_int(s, &min)) return bad(s, "a number is missing behind '~'");
            max = min;
            while (peek(s) == ' ') s->at++;
            bool is_range = eat(s, "..");
            while (is_range && peek(s) == ' ') s->at++;
            if (is_range && !take_int(s, &max))
                return bad(s, "a number is missing behind '..'");
        } else if (peek(s) == '{') {
            s->at++;
            skip_blanks(s);
            bool has_min = take_int(s, &min);
            skip_blanks(s);
            if (eat(s, ",")) {
                skip_blanks(s);
                if (!take_int(s, &max)) max = -1;
            } else
                max = min;
            skip_blanks(s);
            if ((!has_min && max < 0) || !eat(s, "}")) return bad(s, "a repetition is wrong");
        } else if (s->at = back, peek(s) == '*' || peek(s) == '+' || peek(s) == '?') {
            min = peek(s) == '+';
            max = peek(s) == '?' ? 1 : -1;
            s->at++;
        } else
            return p;
        p = repeat(s, p, min, max);
    }
    return p;
}

static bool at_end_of_sequence(source *s) {
    int c = peek(s);
    return c < 0 || c == '|' || c == ')' || (c == ']' && s->is_lark) || at_rule_start(s);
}

static piece take_sequence(source *s) {
    piece *v = NULL, result;
    size_t n = 0, cap = 0;
    for (skip_blanks(s); !at_end_of_sequence(s); skip_blanks(s)) {
        if (s->is_lark && eat(s, "->")) { /* an alias: a name for trees */
            skip_blanks(s);
            take_name(s);
            continue;
        }
        if (n == cap) {
            cap = cap ? cap * 2 : 8;
            piece *p = cap > MAX_ITEMS ? NULL : realloc(v, cap * sizeof *p);
            if (!p) {
                free(v);
                return cannot(s, "a sequence that is too long");
            }
            v = p;
        }
        v[n] = take_repeated(s);
        if (v[n++].is_bad) break;
    }
    result = n && v[n - 1].is_bad ? BAD : join(s, v, n, false);
    free(v);
    return result;
}

static piece take_alternatives(source *s) {
    piece *v = NULL, result;
    size_t n = 0, cap = 0;
    do {
        if (n == cap) {
            cap = cap ? cap * 2 : 8;
            piece *p = cap > MAX_ITEMS ? NULL : realloc(v, cap * sizeof *p);
            if (!p) {
                free(v);
                return cannot(s, "too many alternatives");
            }
            v = p;
        }
        v[n] = take_sequence(s);
        if (v[n++].is_bad) break;
    } while (eat(s, "|"));
    result = v[n - 1].is_bad ? BAD : join(s, v, n, true);
    free(v);
    return result;
}

/* ── Whole texts ── */

static bool is_terminal_name(str name) {
    size_t i = 0;
    while (i < name.len && name.ptr[i] == '_') i++;
    return i < name.len && name.ptr[i] >= 'A' && name.ptr[i] <= 'Z';
}

/* Lark's library of terminals, as patterns. */
static const struct {
    const char *name, *pattern;
} COMMON[] = {
    {"DIGIT", "[0-9]"},
    {"HEXDIGIT", "[a-fA-F0-9]"},
    {"INT", "[0-9]+"},
    {"SIGNED_INT", "[+-]?[0-9]+"},
    {"DECIMAL", "[0-9]+\\.[0-9]*|\\.[0-9]+"},
    {"FLOAT", "[0-9]+[eE][+-]?[0-9]+|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?"},
    {"SIGNED_FLOAT", "[+-]?([0-9]+[eE][+-]?[0-9]+|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?)"},
    {"NUMBER", "[0-9]+([eE][+-]?[0-9]+)?|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?"},
    {"SIGNED_NUMBER",
     "[+-]?([0-9]+([eE][+-]?[0-9]+)?|([0-9]+\\.[0-9]*|\\.[0-9]+)([eE][+-]?[0-9]+)?)"},
    {"ESCAPED_STRING", "\"([^\"\\\\\\n]|\\\\.)*\""},
    {"LCASE_LETTER", "[a-z]"},
    {"UCASE_LETTER", "[A-Z]"},
    {"LETTER", "[A-Za-z]"},
    {"WORD", "[A-Za-z]+"},
    {"CNAME", "[A-Za-z_][A-Za-z0-9_]*"},
    {"WS_INLINE", "[ \\t]+"},
    {"WS", "[ \\t\\f\\r\\n]+"},
    {"CR", "\\r"},
    {"LF", "\\n"},
    {"NEWLINE", "(\\r?\\n)+"},
    {"SH_COMMENT", "#[^\\n]*"},
    {"CPP_COMMENT", "//[^\\n]*"},
    {"SQL_COMMENT", "--[^\\n]*"},
    {"C_COMMENT", "/\\*([^*]|\\*+[^*/])*\\*+/"},
};

static bool import_one(source *s, str name, str as) {
    for (size_t i = 0; i < sizeof COMMON / sizeof *COMMON; i++) {
        if (!str_is(name, COMMON[i].name)) continue;
        rule *r = add_rule(s, as);
        if (!r) return false;
        r->is_terminal = true;
        r->terminal = regex_parse(s->x, str_from(COMMON[i].pattern),
                                  (regex_syntax){.is_python = true}, NULL);
        return r->terminal >= 0;
    }
    return !bad(s, "'common' has no such terminal").is_bad;
}

/* %import common.NAME [-> NAME], %import common (A, B) */
static bool take_import(source *s) {
    skip_blanks(s);
    str module = take_name(s);
    if (!str_is(module, "common"))
        return !cannot(s, "an import from elsewhere than 'common'").is_bad;
    if (eat(s, ".")) {
        str name = take_name(s), as = name;
        while (peek(s) == ' ') s->at++;
        if (eat(s, "->")) {
            skip_blanks(s);
            as = take_name(s);
        }
        return import_one(s, name, as);
    }
    skip_blanks(s);
    if (!eat(s, "(")) return !bad(s, "an import is wrong").is_bad;
    do {
        skip_blanks(s);
        str name = take_name(s);
        if (!import_one(s, name, name)) return false;
        skip_blanks(s);
    } while (eat(s, ","));
    return eat(s, ")") || !bad(s, "an import has no end").is_bad;
}

/* Over a rule's body without reading it. */
static bool skip_body(source *s) {
    for (skip_blanks(s); peek(s) >= 0 && !at_rule_start(s); skip_blanks(s)) {
        int c = peek(s);
        if (c == '"') {
            for (s->at++; peek(s) >= 0 && peek(s) != '"'; s->at++)
                if (peek(s) == '\\') s->at++;
            s->at++;
        } else if (c == '[' && !s->is_lark) {
            for (s->at++; peek(s) >= 0 && peek(s) != ']'; s->at++)
                if (peek(s) == '\\') s->at++;
            s->at++;
        } else if (c == '/' && s->is_lark) {
            bool in_class = false;
            for (s->at++; peek(s) >= 0 && peek(s) != '\n' && (peek(s) != '/' || in_class);
                 s->at++) {
                if (peek(s) == '[') in_class = true;
                if (peek(s) == ']') in_class = false;
                if (peek(s) == '\\') s->at++;
            }
            s->at++;
        } else if (s->is_lark && looking_at(s, "%json")) {
            json_error_t e;
            s->at += 5;
            if (s->at > s->text.len) return false;
            json_t *v = json_loadb(s->text.ptr + s->at, s->text.len - s->at,
                                   JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, &e);
            if (!v) return !bad(s, "no JSON Schema stands behind %json").is_bad;
            s->at += (size_t)e.position;
            json_decref(v);
        } else if (is_name_char(s, c))
            take_name(s);
        else
            s->at++;
        if (s->at > s->text.len) s->at = s->text.len;
    }
    return true;
}

static bool list_rules(source *s, str *ignores, size_t *n_ignores, size_t max_ignores) {
    for (skip_blanks(s); peek(s) >= 0; skip_blanks(s)) {
        if (s->is_lark && eat(s, "%import")) {
            if (!take_import(s)) return false;
            continue;
        }
        if (s->is_lark && eat(s, "%ignore")) {
            skip_blanks(s);
            size_t from = s->at;
            if (!skip_body(s)) return false;
            if (*n_ignores == max_ignores) return !cannot(s, "too many %ignore").is_bad;
            ignores[(*n_ignores)++] = str_make(s->text.ptr + from, s->at - from);
            continue;
        }
        if (s->is_lark && eat(s, "%llguidance")) {
            skip_comment(s);
            continue;
        }
        if (peek(s) == '%') return !cannot(s, "a directive other than %import and %ignore").is_bad;
        if (!at_rule_start(s)) return !bad(s, "a rule is expected").is_bad;
        if (s->is_lark) skip_marks(s);
        rule *r = add_rule(s, take_name(s));
        if (!r) return false;
        r->is_terminal = s->is_lark && is_terminal_name(r->name);
        if (s->is_lark && peek(s) == '.') {
            int32_t n;
            s->at++;
            if (peek(s) == '-') s->at++;
            take_int(s, &n);
        }
        skip_blanks(s);
        if (peek(s) == '{') return !cannot(s, "a template").is_bad;
        if (!eat(s, s->is_lark ? ":" : "::=")) return !bad(s, "a rule has no body").is_bad;
        r->at = s->at;
        if (!r->is_terminal) r->node = grammar_declare(s->b);
        if (!skip_body(s)) return false;
    }
    return !grammar_builder_failed(s->b);
}

enum { MAX_IGNORES = 32 };

static grammar_node compile(grammar_builder *b, str text, const char *param, bool is_lark) {
    if (grammar_builder_failed(b)) return -1;
    source s = {.b = b, .x = b->x, .text = text, .param = param, .is_lark = is_lark, .skip = -1};
    str ignores[MAX_IGNORES];
    size_t n_ignores = 0;
    grammar_node root = -1;
    if (text.len > GRAMMAR_MAX_SOURCE)
        cannot(&s, "more than GRAMMAR_MAX_SOURCE bytes");
    else if (!utf8_is_valid(text))
        bad(&s, "it is not well-formed UTF-8");
    else if (list_rules(&s, ignores, &n_ignores, MAX_IGNORES)) {
        rx skip = RX_NONE;
        for (size_t i = 0; i < n_ignores; i++) {
            s.at = (size_t)(ignores[i].ptr - text.ptr);
            s.in_terminal = true;
            piece p = take_alternatives(&s);
            s.in_terminal = false;
            if (p.is_bad) break;
            skip = regex_alt2(s.x, skip, p.r);
        }
        if (n_ignores && !grammar_builder_failed(b))
            s.skip = builder_regex(b, regex_repeat(s.x, skip, 0, -1));
        for (size_t i = 0; i < s.n_rules && !grammar_builder_failed(b); i++) {
            if (s.rules[i].is_terminal) {
                read_terminal(&s, &s.rules[i]);
                continue;
            }
            s.at = s.rules[i].at;
            piece p = take_alternatives(&s);
            skip_blanks(&s);
            if (!p.is_bad && peek(&s) >= 0 && !at_rule_start(&s))
                p = bad(&s, "something is left over");
            grammar_node body = to_node(&s, p);
            if (body >= 0) grammar_define(b, s.rules[i].node, body);
        }
        rule *start = find_rule(&s, is_lark ? STR("start") : STR("root"));
        if (!start && !grammar_builder_failed(b))
            bad(&s, is_lark ? "there is no rule 'start'" : "there is no rule 'root'");
        if (start && !grammar_builder_failed(b)) {
            root = start->node;
            if (s.skip >= 0) root = grammar_seq(b, (grammar_node[]){s.skip, root}, 2);
        }
    }
    free(s.rules);
    return grammar_builder_failed(b) ? -1 : root;
}

grammar_node grammar_gbnf(grammar_builder *b, str text, const char *param) {
    return compile(b, text, param, false);
}
grammar_node grammar_lark(grammar_builder *b, str text, const char *param) {
    return compile(b, text, param, true);
}
