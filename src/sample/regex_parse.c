/* ECMAScript's regular expressions (and, where asked, some ways of Python's) → expressions. Two passes: the pattern becomes
 * a tree; the tree becomes an expression from the right to the left, each part
 * together with all that follows it, because look-ahead and `$` speak of that.
 *
 * Refused by name: backreferences, look-behind, \b and \B, look-ahead and anchors
 * inside a repetition, named groups' references.
 */
#include <stdlib.h>

#include <utf8proc.h>

#include "base/arena.h"
#include "sample/grammar.h"
#include "sample/regex.h"

enum { MAX_GROUPS_DEEP = 200, MAX_RANGES = 4096 };

typedef enum ast_op { A_EMPTY, A_CHARS, A_CAT, A_ALT, A_REP, A_BEGIN, A_END, A_LOOK } ast_op;

typedef struct ast {
    ast_op op;
    struct ast *a, *b;
    int32_t min, max;
    bool negative;    /* LOOK */
    bool has_context; /* holds an anchor or look-ahead */
    rx chars;         /* CHARS */
} ast;

typedef struct range {
    uint32_t lo, hi;
} range;

typedef struct parse {
    regexes *x;
    str text;
    size_t at;
    regex_syntax syntax;
    arena mem;
    int depth;
    error *err;
    range ranges[MAX_RANGES];
    size_t n_ranges;
} parse;

static void *bad(parse *p, const char *what) {
    error_set(p->err, ERR_INVALID_VALUE, NULL,
              "The pattern '%.*s' is not a regular expression: %s at byte %zu.",
              (int)(p->text.len < 100 ? p->text.len : 100), p->text.ptr, what, p->at);
    return NULL;
}
static void *unsupported(parse *p, const char *what) {
    error_set(p->err, ERR_UNSUPPORTED_VALUE, NULL,
              "The pattern '%.*s' uses %s, which an automaton cannot do.",
              (int)(p->text.len < 100 ? p->text.len : 100), p->text.ptr, what);
    return NULL;
}

static ast *node(parse *p, ast_op op, ast *a, ast *b) {
    ast *n = arena_alloc(&p->mem, sizeof *n);
    if (!n) {
        error_set(p->err, ERR_UNSUPPORTED_VALUE, NULL, "A pattern is too large.");
        return NULL;
    }
    *n = (ast){.op = op, .a = a, .b = b};
    n->has_context = op == A_BEGIN || op == A_END || op == A_LOOK || (a && a->has_context) ||
                     (b && b->has_context);
    return n;
}

static int peek(const parse *p) {
    return p->at < p->text.len ? (uint8_t)p->text.ptr[p->at] : -1;
}
static bool eat(parse *p, const char *s) {
    if (!str_starts(str_make(p->text.ptr + p->at, p->text.len - p->at), str_from(s))) return false;
    p->at += strlen(s);
    return true;
}
static uint32_t take_char(parse *p) {
    uint32_t c;
    int n = utf8_decode(p->text, p->at, &c);
    p->at += n ? (size_t)n : 1;
    return c;
}

/* ── Classes ── */

static void add(parse *p, uint32_t lo, uint32_t hi) {
    if (p->n_ranges < MAX_RANGES) p->ranges[p->n_ranges++] = (range){lo, hi};
}

static int compare_ranges(const void *a, const void *b) {
    uint32_t x = ((const range *)a)->lo, y = ((const range *)b)->lo;
    return (x > y) - (x < y);
}

/* Sorts, joins and, if asked, complements the ranges from `begin` on. */
static void settle(parse *p, size_t begin, bool negate) {
    range *r = p->ranges + begin;
    size_t n = p->n_ranges - begin, kept = 0;
    qsort(r, n, sizeof *r, compare_ranges);
    for (size_t i = 0; i < n; i++)
        if (kept && r[i].lo <= r[kept - 1].hi + 1) {
            if (r[i].hi > r[kept - 1].hi) r[kept - 1].hi = r[i].hi;
        } else
            r[kept++] = r[i];
    if (negate) {
        uint32_t next = 0;
        size_t m = 0;
        for (size_t i = 0; i < kept; i++) {
            range old = r[i];
            if (old.lo > next) r[m++] = (range){next, old.lo - 1};
            next = old.hi + 1;
        }
        if (next <= 0x10FFFF) r[m++] = (range){next, 0x10FFFF};
        kept = m;
    }
    p->n_ranges = begin + kept;
}

static void add_letter_class(parse *p, int c) {
    size_t begin = p->n_ranges;
    switch (c | 32) {
    case 'd': add(p, '0', '9'); break;
    case 'w':
        add(p, '0', '9');
        add(p, 'A', 'Z');
        add(p, '_', '_');
        add(p, 'a', 'z');
        break;
    default: {
        static const uint16_t blanks[][2] = {{9, 13},          {32, 32},         {0xA0, 0xA0},
                                             {0x1680, 0x1680}, {0x2000, 0x200A}, {0x2028, 0x2029},
                                             {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000},
                                             {0xFEFF, 0xFEFF}};
        for (size_t i = 0; i < sizeof blanks / sizeof *blanks; i++)
            add(p, blanks[i][0], blanks[i][1]);
    }
    }
    if (c < 'a') settle(p, begin, true);
}

/* General categories by their short and usual long names. */
static bool is_category(str name, utf8proc_category_t cat) {
    static const struct {
        const char *name, *prefix;
    } LONG[] = {{"Letter", "L"},
                {"Number", "N"},
                {"Punctuation", "P"},
                {"Symbol", "S"},
                {"Separator", "Z"},
                {"Mark", "M"},
                {"Other", "C"},
                {"Lowercase_Letter", "Ll"},
                {"Uppercase_Letter", "Lu"},
                {"Decimal_Number", "Nd"},
                {"Alphabetic", "L"},
                {"Alpha", "L"},
                {"Lowercase", "Ll"},
                {"Uppercase", "Lu"}};
    for (size_t i = 0; i < sizeof LONG / sizeof *LONG; i++)
        if (str_is(name, LONG[i].name)) name = str_from(LONG[i].prefix);
    static const char SHORT[][3] = {"Cn", "Lu", "Ll", "Lt", "Lm", "Lo", "Mn", "Mc", "Me", "Nd",
                                    "Nl", "No", "Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Sm",
                                    "Sc", "Sk", "So", "Zs", "Zl", "Zp", "Cc", "Cf", "Cs", "Co"};
    return str_starts(str_from(SHORT[cat]), name);
}

static bool add_property(parse *p, bool negate) {
    if (!eat(p, "{")) return bad(p, "'{' is missing after \\p") != NULL;
    size_t from = p->at;
    while (peek(p) >= 0 && peek(p) != '}') p->at++;
    str name = str_make(p->text.ptr + from, p->at - from);
    if (!eat(p, "}")) return bad(p, "'}' is missing") != NULL;
    if (str_starts(name, STR("gc="))) name = str_make(name.ptr + 3, name.len - 3);
    size_t begin = p->n_ranges;
    uint32_t open = 0;
    bool inside = false;
    for (uint32_t c = 0; c <= 0x110000; c++) {
        bool in = c < 0x110000 && name.len && is_category(name, utf8proc_category((int32_t)c));
        if (in && !inside) open = c;
        if (!in && inside) add(p, open, c - 1);
        inside = in;
    }
    if (p->n_ranges == begin)
        return unsupported(p, "a Unicode property that is not a general category") != NULL;
    settle(p, begin, negate);
    return true;
}

static bool take_hex(parse *p, int n, uint32_t *out) {
    *out = 0;
    for (int i = 0; i < n; i++) {
        int c = peek(p);
        int v = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
        if (v < 0) return bad(p, "hexadecimal digits are missing") != NULL;
        *out = *out * 16 + (uint32_t)v;
        p->at++;
    }
    return true;
}

static bool take_unicode(parse *p, uint32_t *c) {
    if (eat(p, "{")) {
        *c = 0;
        int n = 0;
        for (; peek(p) >= 0 && peek(p) != '}'; n++) {
            uint32_t d;
            if (n == 6 || !take_hex(p, 1, &d)) return bad(p, "a code point is too long") != NULL;
            *c = *c * 16 + d;
        }
        return (n && eat(p, "}") && *c <= 0x10FFFF) || bad(p, "a code point is wrong") != NULL;
    }
    if (!take_hex(p, 4, c)) return false;
    uint32_t low;
    if (*c >= 0xD800 && *c < 0xDC00 && eat(p, "\\u")) {
        if (!take_hex(p, 4, &low)) return false;
        if (low < 0xDC00 || low > 0xDFFF) return bad(p, "half a surrogate pair") != NULL;
        *c = 0x10000 + ((*c - 0xD800) << 10) + (low - 0xDC00);
    }
    return true;
}

/* After the backslash. A single character goes to *c; a class is added to the ranges and *c is −1. */
static bool take_escape(parse *p, bool in_class, int64_t *c) {
    int e = peek(p);
    uint32_t u;
    if (e < 0) return bad(p, "nothing follows a backslash") != NULL;
    *c = -1;
    switch (e) {
    case 'd':
    case 'D':
    case 'w':
    case 'W':
    case 's':
    case 'S':
        p->at++;
        add_letter_class(p, e);
        return true;
    case 'p':
    case 'P': p->at++; return add_property(p, e == 'P');
    case 'b':
        if (!in_class) return unsupported(p, "a word boundary (\\b)") != NULL;
        *c = 8;
        break;
    case 'B': return unsupported(p, "a word boundary (\\B)") != NULL;
    case 'A':
    case 'Z':
    case 'z':
        if (!in_class) return unsupported(p, "an anchor of another dialect (\\A, \\Z)") != NULL;
        *c = e;
        break;
    case 'k': return unsupported(p, "a backreference") != NULL;
    case 'n': *c = '\n'; break;
    case 'r': *c = '\r'; break;
    case 't': *c = '\t'; break;
    case 'f': *c = '\f'; break;
    case 'v': *c = '\v'; break;
    case 'a': *c = 7; break;
    case 'e': *c = 27; break;
    case '0':
        p->at++;
        if (peek(p) >= '0' && peek(p) <= '9') return unsupported(p, "an octal escape") != NULL;
        *c = 0;
        return true;
    case 'c':
        p->at++;
        e = peek(p) | 32;
        if (e < 'a' || e > 'z') return bad(p, "a letter is missing after \\c") != NULL;
        *c = e - 'a' + 1;
        break;
    case 'x':
        p->at++;
        if (!take_hex(p, 2, &u)) return false;
        *c = u;
        return true;
    case 'u':
        p->at++;
        if (!take_unicode(p, &u)) return false;
        *c = u;
        return true;
    default:
        if (e >= '1' && e <= '9') return unsupported(p, "a backreference") != NULL;
        *c = take_char(p);
        return true;
    }
    p->at++;
    return true;
}

static ast *make_chars(parse *p, size_t begin) {
    if (p->n_ranges >= MAX_RANGES) return unsupported(p, "too many ranges in its classes");
    if (p->syntax.ignore_case) {
        size_t n = p->n_ranges;
        for (size_t i = begin; i < n; i++)
            for (uint32_t c = 'A'; c <= 'Z'; c++) {
                range r = p->ranges[i];
                if (r.lo <= c && c <= r.hi) add(p, c + 32, c + 32);
                if (r.lo <= c + 32 && c + 32 <= r.hi) add(p, c, c);
            }
        settle(p, begin, false);
    }
    ast *n = node(p, A_CHARS, NULL, NULL);
    if (!n) return NULL;
    rx small[16], *parts = small;
    size_t k = p->n_ranges - begin;
    if (k > 16 && !(parts = arena_array(&p->mem, k, sizeof *parts)))
        return unsupported(p, "too much");
    for (size_t i = 0; i < k; i++)
        parts[i] = regex_char(p->x, p->ranges[begin + i].lo, p->ranges[begin + i].hi);
    n->chars = regex_alt(p->x, parts, k);
    p->n_ranges = begin;
    return n;
}

static ast *parse_class(parse *p) {
    size_t begin = p->n_ranges;
    bool negate = eat(p, "^");
    while (peek(p) != ']') {
        int64_t lo, hi;
        if (peek(p) < 0) return bad(p, "']' is missing");
        if (eat(p, "\\")) {
            if (!take_escape(p, true, &lo)) return NULL;
        } else
            lo = take_char(p);
        if (peek(p) == '-' && p->at + 1 < p->text.len && p->text.ptr[p->at + 1] != ']' && lo >= 0) {
            size_t back = p->at++;
            if (eat(p, "\\")) {
                size_t n = p->n_ranges;
                if (!take_escape(p, true, &hi)) return NULL;
                if (hi < 0) { /* "a-\d": the dash is itself */
                    p->n_ranges = n;
                    p->at = back + 1;
                    add(p, (uint32_t)lo, (uint32_t)lo);
                    add(p, '-', '-');
                    continue;
                }
            } else
                hi = take_char(p);
            if (hi < lo) return bad(p, "a range is the wrong way round");
            add(p, (uint32_t)lo, (uint32_t)hi);
        } else if (lo >= 0)
            add(p, (uint32_t)lo, (uint32_t)lo);
    }
    p->at++;
    settle(p, begin, negate);
    return make_chars(p, begin);
}

/* ── Structure ── */

static ast *parse_alt(parse *p);

/* Behind "(?" of "(?i)" or "(?s-i:": true at the ')' or behind the ':'. */
static bool take_flags(parse *p) {
    bool on = true;
    for (;; p->at++) {
        int c = peek(p);
        if (c == 'i')
            p->syntax.ignore_case = on;
        else if (c == 's')
            p->syntax.dot_all = on;
        else if (c == '-' && on)
            on = false;
        else if (c != 'u')
            return c == ')' || eat(p, ":");
    }
}

static ast *parse_atom(parse *p) {
    size_t begin = p->n_ranges;
    int64_t c;
    ast *n;
    switch (peek(p)) {
    case '^': p->at++; return node(p, A_BEGIN, NULL, NULL);
    case '$': p->at++; return node(p, A_END, NULL, NULL);
    case '.':
        p->at++;
        if (!p->syntax.dot_all) {
            add(p, '\n', '\n');
            if (!p->syntax.is_python) {
                add(p, '\r', '\r');
                add(p, 0x2028, 0x2029);
            }
        }
        settle(p, begin, true);
        return make_chars(p, begin);
    case '[': p->at++; return parse_class(p);
    case '(': {
        p->at++;
        bool look = false, negative = false;
        regex_syntax outside = p->syntax;
        if (eat(p, "?:")) {
        } else if (eat(p, "?=")) {
            look = true;
        } else if (eat(p, "?!")) {
            look = negative = true;
        } else if (eat(p, "?<=") || eat(p, "?<!")) {
            return unsupported(p, "look-behind");
        } else if (eat(p, "?<") || eat(p, "?P<")) {
            while (peek(p) >= 0 && peek(p) != '>') p->at++;
            if (!eat(p, ">")) return bad(p, "a group's name has no end");
        } else if (peek(p) == '?') {
            p->at++;
            if (!p->syntax.is_python || !take_flags(p))
                return unsupported(p, "a group of an unknown kind");
            if (eat(p, ")")) return node(p, A_EMPTY, NULL, NULL);
        }
        if (++p->depth > MAX_GROUPS_DEEP) return unsupported(p, "too many groups in each other");
        n = parse_alt(p);
        p->depth--;
        p->syntax = outside;
        if (!n) return NULL;
        if (!eat(p, ")")) return bad(p, "')' is missing");
        if (!look) return n;
        ast *l = node(p, A_LOOK, n, NULL);
        if (l) l->negative = negative;
        return l;
    }
    case '*':
    case '+':
    case '?': return bad(p, "nothing is there to repeat");
    case '\\':
        p->at++;
        if (p->syntax.is_python && eat(p, "A")) return node(p, A_BEGIN, NULL, NULL);
        if (p->syntax.is_python && (eat(p, "z") || eat(p, "Z"))) return node(p, A_END, NULL, NULL);
        if (!take_escape(p, false, &c)) return NULL;
        if (c >= 0) add(p, (uint32_t)c, (uint32_t)c);
        return make_chars(p, begin);
    default: {
        uint32_t u = take_char(p);
        add(p, u, u);
        return make_chars(p, begin);
    }
    }
}

static bool take_number(parse *p, int32_t *out) {
    int64_t v = 0;
    if (peek(p) < '0' || peek(p) > '9') return false;
    for (; peek(p) >= '0' && peek(p) <= '9'; p->at++)
        if (v <= GRAMMAR_MAX_REPEAT) v = v * 10 + (peek(p) - '0');
    *out = (int32_t)(v > GRAMMAR_MAX_REPEAT ? GRAMMAR_MAX_REPEAT + 1 : v);
    return true;
}

/* {n}, {n,}, {n,m}; anything else in braces is text, as browsers read it. */
static bool take_bounds(parse *p, int32_t *min, int32_t *max) {
    size_t back = p->at++;
    if (take_number(p, min)) {
        *max = *min;
        if (eat(p, ",") && !take_number(p, max)) *max = -1;
        if (eat(p, "}")) return true;
    }
    p->at = back;
    return false;
}

static ast *parse_repeat(parse *p) {
    ast *n = parse_atom(p);
    while (n) {
        int32_t min, max;
        int c = peek(p);
        if (c == '*')
            min = 0, max = -1, p->at++;
        else if (c == '+')
            min = 1, max = -1, p->at++;
        else if (c == '?')
            min = 0, max = 1, p->at++;
        else if (c != '{' || !take_bounds(p, &min, &max))
            return n;
        eat(p, "?"); /* lazy: the same language */
        if (min > GRAMMAR_MAX_REPEAT || max > GRAMMAR_MAX_REPEAT)
            return unsupported(p, "a repetition of more than GRAMMAR_MAX_REPEAT");
        if (max >= 0 && max < min) return bad(p, "a repetition's bounds are the wrong way round");
        if (n->has_context && (n->op == A_LOOK || n->op == A_BEGIN || n->op == A_END) && min == 0)
            n = node(p, A_EMPTY, NULL, NULL);
        else if ((n = node(p, A_REP, n, NULL)))
            n->min = min, n->max = max;
    }
    return n;
}

static ast *parse_cat(parse *p) {
    ast *items = NULL, *last = NULL;
    while (peek(p) >= 0 && peek(p) != '|' && peek(p) != ')') {
        if (peek(p) == '{') {
            int32_t min, max;
            if (take_bounds(p, &min, &max)) return bad(p, "nothing is there to repeat");
        }
        ast *n = parse_repeat(p);
        if (!n) return NULL;
        /* A list to the right: CAT(first, CAT(second, …)). */
        ast *cell = node(p, A_CAT, n, NULL);
        if (!cell) return NULL;
        if (last)
            last->b = cell;
        else
            items = cell;
        last = cell;
    }
    if (!items) return node(p, A_EMPTY, NULL, NULL);
    bool context = false;
    for (ast *c = items; c; c = c->b) context |= c->a->has_context;
    items->has_context = context;
    return items;
}

static ast *parse_alt(parse *p) {
    ast *n = parse_cat(p);
    if (!n || peek(p) != '|') return n;
    ast *first = node(p, A_ALT, n, NULL), *last = first;
    while (first && eat(p, "|")) {
        if (!(n = parse_cat(p))) return NULL;
        ast *cell = node(p, A_ALT, n, NULL);
        if (!cell) return NULL;
        last->b = cell;
        last = cell;
        first->has_context |= n->has_context;
    }
    return first;
}

/* ── Tree → expression ── */

/* Can the part match without consuming anything, and can it consume? */
static bool may_be_empty(const ast *n) {
    switch (n->op) {
    case A_CHARS: return false;
    case A_CAT:
        for (; n; n = n->b)
            if (!may_be_empty(n->a)) return false;
        return true;
    case A_ALT:
        for (; n; n = n->b)
            if (may_be_empty(n->a)) return true;
        return false;
    case A_REP: return n->min == 0 || may_be_empty(n->a);
    default: return true;
    }
}
static bool may_consume(const ast *n) {
    switch (n->op) {
    case A_CHARS: return true;
    case A_CAT:
    case A_ALT:
        for (; n; n = n->b)
            if (may_consume(n->a)) return true;
        return false;
    case A_REP: return n->max != 0 && may_consume(n->a);
    default: return false;
    }
}

static rx plain(parse *p, const ast *n) {
    rx r;
    switch (n->op) {
    case A_CHARS: return n->chars;
    case A_REP: return regex_repeat(p->x, plain(p, n->a), n->min, n->max);
    case A_CAT:
        if (!n->b) return plain(p, n->a);
        r = plain(p, n->b);
        return regex_cat(p->x, plain(p, n->a), r);
    case A_ALT: {
        size_t k = 0;
        for (const ast *c = n; c; c = c->b) k++;
        rx *parts = arena_array(&p->mem, k, sizeof *parts);
        if (!parts) return -1;
        k = 0;
        for (const ast *c = n; c; c = c->b) parts[k++] = plain(p, c->a);
        return regex_alt(p->x, parts, k);
    }
    default: return RX_EPS;
    }
}

/* The texts that n, followed by what `rest` matches, makes. at_start: nothing was consumed before. */
static rx with_rest(parse *p, const ast *n, rx rest, bool at_start, bool maybe_start) {
    if (rest < 0) return -1;
    if (!n->has_context) return regex_cat(p->x, plain(p, n), rest);
    switch (n->op) {
    case A_BEGIN:
        if (at_start) return rest;
        if (!maybe_start) return RX_NONE;
        unsupported(p, "'^' behind something that may be empty");
        return -1;
    case A_END: return regex_and2(p->x, rest, RX_EPS);
    case A_LOOK: {
        rx ahead = with_rest(p, n->a, RX_ALL, at_start, maybe_start);
        return regex_and2(p->x, rest, n->negative ? regex_not(p->x, ahead) : ahead);
    }
    case A_ALT: {
        rx r = RX_NONE;
        for (; n; n = n->b)
            r = regex_alt2(p->x, r, with_rest(p, n->a, rest, at_start, maybe_start));
        return r;
    }
    case A_CAT: {
        if (!n->b) return with_rest(p, n->a, rest, at_start, maybe_start);
        bool start = at_start && !may_consume(n->a);
        bool maybe = maybe_start && may_be_empty(n->a);
        /* The tail was marked only at the head of its list: look again. */
        ast tail = *n->b;
        tail.has_context = false;
        for (const ast *c = n->b; c; c = c->b) tail.has_context |= c->a->has_context;
        rest = with_rest(p, &tail, rest, start, maybe);
        return with_rest(p, n->a, rest, at_start, maybe_start);
    }
    case A_REP:
        if (n->max == 1) {
            rx once = with_rest(p, n->a, rest, at_start, maybe_start);
            return n->min == 0 ? regex_alt2(p->x, once, rest) : once;
        }
        /* (look · character)*: unrolled through a fixed point when the repeated part consumes exactly
         * one character after its look-ahead. */
        if (n->min == 0 && n->max < 0 && n->a->op == A_CAT && n->a->a->op == A_LOOK && n->a->b &&
            !n->a->b->b && n->a->b->a->op == A_CHARS && !n->a->a->a->has_context) {
            /* every suffix that begins inside the repetition must (not) match the look-ahead */
            const ast *look = n->a->a;
            if (!look->negative || rest != RX_ALL) {
                if (!look->negative || (rest != RX_EPS && rest != RX_ALL)) break;
            }
            /* all text, no place of which begins what was ruled out */
            rx ahead = regex_cat(p->x, plain(p, look->a), RX_ALL);
            rx body = regex_repeat(p->x, n->a->b->a->chars, 0, -1);
            rx clean = regex_not(p->x, regex_cat(p->x, RX_ALL, ahead));
            if (rest == RX_EPS && !regex_is_nullable(p->x, ahead))
                return regex_and2(p->x, body, clean);
        }
        break;
    default: break;
    }
    unsupported(p, "an anchor or look-ahead inside a repetition");
    return -1;
}

rx regex_parse(regexes *x, str pattern, regex_syntax syntax, error *err) {
    parse *p = calloc(1, sizeof *p);
    if (!p) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for a pattern.");
        return -1;
    }
    error own = {0};
    p->x = x;
    p->text = pattern;
    p->syntax = syntax;
    p->err = err ? err : &own;
    arena_init(&p->mem, 64 << 20);
    rx r = -1;
    ast *n = NULL;
    if (pattern.len > GRAMMAR_MAX_SOURCE)
        unsupported(p, "more than GRAMMAR_MAX_SOURCE bytes");
    else if (!utf8_is_valid(pattern))
        bad(p, "ill-formed UTF-8");
    else
        n = parse_alt(p);
    if (n && p->at < pattern.len) n = bad(p, "')' has no '('");
    if (n) {
        if (syntax.search) {
            rx any = regex_any_text(x);
            rx some = regex_cat(x, regex_any_char(x), any);
            /* RX_ALL behind: the caller intersects with well-formed text anyway. */
            rx here = with_rest(p, n, RX_ALL, true, true);
            rx later = with_rest(p, n, RX_ALL, false, false);
            r = regex_alt2(x, here, regex_cat(x, some, later));
        } else
            r = with_rest(p, n, RX_EPS, true, true);
        r = regex_and2(x, r, regex_any_text(x));
        if (r < 0 && !error_is_set(p->err))
            error_set(p->err, ERR_UNSUPPORTED_VALUE, NULL, "%s",
                      regexes_failure(x) ? regexes_failure(x) : "A pattern is too large.");
        if (error_is_set(p->err)) r = -1;
    }
    arena_deinit(&p->mem);
    free(p);
    return r;
}
