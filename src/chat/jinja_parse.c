/* Tokens → tree. One function per level of precedence, loosest first, as in
 * Jinja's grammar: conditional, or, and, not, comparison, + -, ~, * / // %, **,
 * sign, postfix (call, attribute, index), filters and tests.
 *
 * Variable names become small numbers, filters and tests become pointers.
 * Nesting is bounded, so is the height of every expression: what runs later may
 * recurse along the tree without asking.
 */
#include "base/hash.h"
#include "chat/jinja_impl.h"

#include <stdlib.h>

enum { MAX_TREE_BYTES = 64 << 20 };

typedef struct parser {
    jinja *t;
    error *err;
    token *tok;
    size_t n, at;
    int nesting, loops;
    int *slots, n_slots; /* hash → id + 1 of a name */
    uint8_t *macro_uses; /* of the macro being parsed: which special names it mentions */
    bool failed;
} parser;

static token *cur(parser *p) {
    return &p->tok[p->at];
}
static token *peek(parser *p) {
    return &p->tok[p->at + (p->at + 1 < p->n)];
}
static void advance(parser *p) {
    if (p->at + 1 < p->n) p->at++;
}

static node *fail(parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static node *fail(parser *p, const char *fmt, ...) {
    if (!p->failed) {
        error e = {0};
        va_list ap;
        va_start(ap, fmt);
        error_vset(&e, ERR_TEMPLATE, NULL, fmt, ap);
        va_end(ap);
        error_set(p->err, ERR_TEMPLATE, NULL, "Template line %d: %s.", cur(p)->line, e.message);
    }
    p->failed = true;
    p->at = p->n - 1; /* nothing but the end from here: every loop stops */
    return NULL;
}

static const char *token_name(const token *t) {
    static const char *const names[] = {
        [T_EOF] = "the end of the template",
        [T_DATA] = "text",
        [T_VAR_BEGIN] = "{{",
        [T_VAR_END] = "}}",
        [T_BLOCK_BEGIN] = "{%",
        [T_BLOCK_END] = "%}",
        [T_NAME] = "a name",
        [T_STRING] = "a string",
        [T_INT] = "a number",
        [T_FLOAT] = "a number",
        [T_ADD] = "+",
        [T_SUB] = "-",
        [T_MUL] = "*",
        [T_DIV] = "/",
        [T_FLOORDIV] = "//",
        [T_MOD] = "%",
        [T_POW] = "**",
        [T_TILDE] = "~",
        [T_LBRACKET] = "[",
        [T_RBRACKET] = "]",
        [T_LPAREN] = "(",
        [T_RPAREN] = ")",
        [T_LBRACE] = "{",
        [T_RBRACE] = "}",
        [T_EQ] = "==",
        [T_NE] = "!=",
        [T_GT] = ">",
        [T_GE] = ">=",
        [T_LT] = "<",
        [T_LE] = "<=",
        [T_ASSIGN] = "=",
        [T_DOT] = ".",
        [T_COLON] = ":",
        [T_PIPE] = "|",
        [T_COMMA] = ",",
        [T_SEMICOLON] = ";",
    };
    return names[t->type];
}

static node *unexpected(parser *p, const char *wanted) {
    const token *t = cur(p);
    if (t->type == T_NAME)
        return fail(p, "expected %s, found '%.*s'", wanted,
                    (int)(t->text.len < 60 ? t->text.len : 60), t->text.ptr);
    return fail(p, "expected %s, found %s", wanted, token_name(t));
}

static bool skip_if(parser *p, token_type type) {
    if (cur(p)->type != type) return false;
    advance(p);
    return true;
}
static bool at_name(parser *p, const char *name) {
    return cur(p)->type == T_NAME && str_is(cur(p)->text, name);
}
static bool skip_name(parser *p, const char *name) {
    if (!at_name(p, name)) return false;
    advance(p);
    return true;
}
static void expect(parser *p, token_type type) {
    token wanted = {.type = type};
    if (!skip_if(p, type)) unexpected(p, token_name(&wanted));
}

/* ── Nodes ── */

static node *new_node(parser *p, node_kind kind) {
    node *n = p->failed ? NULL : arena_alloc(&p->t->mem, sizeof *n);
    if (!n) return p->failed ? NULL : fail(p, "memory ran out while reading it");
    n->kind = (uint8_t)kind;
    n->line = cur(p)->line;
    n->id = -1;
    return n;
}

/* Accounts for a finished child; the parent's height is what evaluation recurses. */
static void grow_height(parser *p, node *n, const node *child) {
    if (!n || !child || n->height > child->height) return;
    n->height = (uint16_t)(child->height + 1);
    if (n->height > JINJA_MAX_HEIGHT) fail(p, "an expression is too deep");
}
static void set_a(parser *p, node *n, node *a) {
    if (n) n->a = a;
    grow_height(p, n, a);
}
static void set_b(parser *p, node *n, node *b) {
    if (n) n->b = b;
    grow_height(p, n, b);
}
static void set_c(parser *p, node *n, node *c) {
    if (n) n->c = c;
    grow_height(p, n, c);
}
typedef struct kid_list {
    node *owner, **tail;
} kid_list;
static kid_list kids_of(node *owner) {
    return (kid_list){owner, owner ? &owner->kids : NULL};
}
static void add_kid(parser *p, kid_list *l, node *kid) {
    if (!l->tail || !kid || p->failed) return;
    *l->tail = kid;
    while (*l->tail) l->tail = &(*l->tail)->next;
    l->owner->n_kids++;
    grow_height(p, l->owner, kid);
}

/* The number of a name. Open addressing over hashes: a template may hold thousands. */
static int intern(parser *p, str name) {
    jinja *t = p->t;
    if (t->n_names * 2 >= p->n_slots) {
        int n_slots = p->n_slots ? p->n_slots * 2 : 128;
        int *slots = arena_array(&t->mem, (size_t)n_slots, sizeof *slots);
        str *grown = arena_array(&t->mem, (size_t)n_slots / 2, sizeof *grown);
        if (!slots || !grown) {
            fail(p, "memory ran out while reading it");
            return 0;
        }
        for (int id = 0; id < t->n_names; id++) {
            uint64_t at = hash_str(t->names[id]);
            while (slots[at & (uint64_t)(n_slots - 1)]) at++;
            slots[at & (uint64_t)(n_slots - 1)] = id + 1;
            grown[id] = t->names[id];
        }
        p->slots = slots;
        p->n_slots = n_slots;
        t->names = grown;
    }
    uint64_t at = hash_str(name), mask = (uint64_t)(p->n_slots - 1);
    for (; p->slots[at & mask]; at++)
        if (str_eq(t->names[p->slots[at & mask] - 1], name)) return p->slots[at & mask] - 1;
    p->slots[at & mask] = t->n_names + 1;
    t->names[t->n_names] = name;
    return t->n_names++;
}

static value const_str(parser *p, str s) {
    string *x = arena_alloc(&p->t->mem, sizeof *x);
    if (!x) {
        fail(p, "memory ran out while reading it");
        return v_none();
    }
    /* Counted now: the tree is shared between threads and never written again. */
    *x = (string){.ptr = s.ptr, .len = s.len, .n_chars = (ptrdiff_t)utf8_count(s)};
    return (value){.kind = V_STR, .s = x};
}

static bool down(parser *p) {
    if (++p->nesting <= JINJA_MAX_NESTING) return true;
    fail(p, "it is nested too deeply");
    return false;
}
static void up(parser *p) {
    p->nesting--;
}

/* ── Expressions ── */

static node *parse_expr(parser *p);
static node *parse_unary(parser *p, bool with_filter);
static node *parse_primary(parser *p);
static node *parse_postfix(parser *p, node *n);
static node *parse_filters(parser *p, node *n);

static node *name_node(parser *p, node_kind kind, str name) {
    node *n = new_node(p, kind);
    if (!n) return NULL;
    n->name = name;
    n->id = intern(p, name);
    if (p->macro_uses && kind == N_NAME) {
        if (str_is(name, "varargs")) *p->macro_uses |= MACRO_VARARGS;
        if (str_is(name, "kwargs")) *p->macro_uses |= MACRO_KWARGS;
        if (str_is(name, "caller")) *p->macro_uses |= MACRO_CALLER;
    }
    return n;
}

/* Whether a comma-separated list ends here, as after a trailing comma. */
static bool tuple_ends(parser *p) {
    token_type t = cur(p)->type;
    return t == T_VAR_END || t == T_BLOCK_END || t == T_RPAREN || t == T_EOF ||
           at_name(p, "recursive");
}

static node *parse_or(parser *p);

/* a, b, c without brackets: one expression stays itself, several are a tuple. */
static node *parse_tuple(parser *p, bool with_cond, bool in_parens) {
    node *n = new_node(p, N_TUPLE);
    kid_list kids = kids_of(n);
    bool is_tuple = false;
    while (!p->failed) {
        if (n && n->n_kids) {
            if (!skip_if(p, T_COMMA)) break;
            is_tuple = true;
        }
        if (tuple_ends(p)) break;
        add_kid(p, &kids, with_cond ? parse_expr(p) : parse_or(p));
    }
    if (p->failed || !n) return NULL;
    if (is_tuple) return n;
    if (n->n_kids) return n->kids;
    if (!in_parens) return unexpected(p, "an expression");
    return n;
}

static node *parse_primary(parser *p) {
    token *t = cur(p);
    node *n = NULL;
    switch (t->type) {
    case T_NAME:
        if (str_is(t->text, "true") || str_is(t->text, "True") || str_is(t->text, "false") ||
            str_is(t->text, "False")) {
            if ((n = new_node(p, N_CONST))) n->v = v_bool((t->text.ptr[0] | 32) == 't', false);
        } else if (str_is(t->text, "none") || str_is(t->text, "None")) {
            if ((n = new_node(p, N_CONST))) n->v = v_none();
        } else {
            n = name_node(p, N_NAME, t->text);
        }
        advance(p);
        return n;
    case T_STRING: {
        if (!(n = new_node(p, N_CONST))) return NULL;
        str s = t->text;
        advance(p);
        if (cur(p)->type == T_STRING) { /* neighbours are one string */
            buf whole = {0};
            buf_append_str(&whole, s);
            for (; cur(p)->type == T_STRING; advance(p)) buf_append_str(&whole, cur(p)->text);
            char *copy = whole.failed ? NULL : arena_dup(&p->t->mem, buf_str(&whole));
            s = str_make(copy, copy ? whole.len : 0);
            buf_deinit(&whole);
            if (!copy) return fail(p, "memory ran out while reading it");
        }
        n->v = const_str(p, s);
        return n;
    }
    case T_INT:
    case T_FLOAT:
        if ((n = new_node(p, N_CONST)))
            n->v = t->type == T_INT ? v_int(t->i, false) : v_float(t->f, false);
        advance(p);
        return n;
    case T_LPAREN:
        if (!down(p)) return NULL;
        advance(p);
        n = parse_tuple(p, true, true);
        expect(p, T_RPAREN);
        up(p);
        return n;
    case T_LBRACKET: {
        if (!down(p)) return NULL;
        n = new_node(p, N_LIST);
        advance(p);
        kid_list kids = kids_of(n);
        while (!p->failed && cur(p)->type != T_RBRACKET) {
            if (n && n->n_kids) expect(p, T_COMMA);
            if (cur(p)->type == T_RBRACKET) break;
            add_kid(p, &kids, parse_expr(p));
        }
        expect(p, T_RBRACKET);
        up(p);
        return n;
    }
    case T_LBRACE: {
        if (!down(p)) return NULL;
        n = new_node(p, N_DICT);
        advance(p);
        kid_list kids = kids_of(n);
        while (!p->failed && cur(p)->type != T_RBRACE) {
            if (n && n->n_kids) expect(p, T_COMMA);
            if (cur(p)->type == T_RBRACE) break;
            add_kid(p, &kids, parse_expr(p));
            expect(p, T_COLON);
            add_kid(p, &kids, parse_expr(p));
        }
        expect(p, T_RBRACE);
        up(p);
        return n;
    }
    default: return unexpected(p, "an expression");
    }
}

/* ( … ) after something callable, appended to n's kids. */
static void parse_args(parser *p, node *n) {
    if (!down(p)) return;
    expect(p, T_LPAREN);
    kid_list kids = kids_of(n);
    bool named = false;
    while (!p->failed && cur(p)->type != T_RPAREN) {
        if (n->n_kids) {
            expect(p, T_COMMA);
            if (cur(p)->type == T_RPAREN) break;
        }
        node *arg;
        if (cur(p)->type == T_MUL || cur(p)->type == T_POW) {
            arg = new_node(p, cur(p)->type == T_MUL ? N_STAR : N_DSTAR);
            advance(p);
            set_a(p, arg, parse_expr(p));
            named = named || (arg && arg->kind == N_DSTAR);
        } else if (cur(p)->type == T_NAME && peek(p)->type == T_ASSIGN) {
            arg = new_node(p, N_KWARG);
            for (const node *k = n->kids; k; k = k->next)
                if (k->kind == N_KWARG && str_eq(k->name, cur(p)->text))
                    return (void)fail(p, "an argument is named twice");
            if (arg) arg->name = cur(p)->text;
            advance(p);
            advance(p);
            set_a(p, arg, parse_expr(p));
            named = true;
        } else {
            if (named) fail(p, "an argument without a name follows one with a name");
            arg = parse_expr(p);
        }
        add_kid(p, &kids, arg);
    }
    expect(p, T_RPAREN);
    up(p);
}

static node *parse_subscribed(parser *p) {
    node *slice = new_node(p, N_SLICE), *first = NULL;
    if (cur(p)->type != T_COLON) first = parse_expr(p);
    if (!skip_if(p, T_COLON)) return first;
    set_a(p, slice, first);
    token_type t = cur(p)->type;
    if (t != T_COLON && t != T_RBRACKET && t != T_COMMA) set_b(p, slice, parse_expr(p));
    if (skip_if(p, T_COLON)) {
        t = cur(p)->type;
        if (t != T_RBRACKET && t != T_COMMA) set_c(p, slice, parse_expr(p));
    }
    return slice;
}

static node *parse_index(parser *p, node *object) {
    node *n = new_node(p, N_ITEM);
    if (!n || !down(p)) return NULL;
    expect(p, T_LBRACKET);
    node *tuple = new_node(p, N_TUPLE);
    kid_list kids = kids_of(tuple);
    while (!p->failed && cur(p)->type != T_RBRACKET) {
        if (tuple->n_kids) expect(p, T_COMMA);
        add_kid(p, &kids, parse_subscribed(p));
    }
    expect(p, T_RBRACKET);
    up(p);
    if (p->failed) return NULL;
    set_a(p, n, object);
    set_b(p, n, tuple->n_kids == 1 ? tuple->kids : tuple);
    return n;
}

static node *parse_postfix(parser *p, node *n) {
    while (!p->failed) {
        token_type t = cur(p)->type;
        if (t == T_DOT) {
            advance(p);
            token *name = cur(p);
            node *attr = new_node(p, name->type == T_INT ? N_ITEM : N_ATTR);
            if (!attr) return NULL;
            if (name->type == T_INT) {
                node *index = new_node(p, N_CONST);
                if (index) index->v = v_int(name->i, false);
                set_b(p, attr, index);
            } else if (name->type == T_NAME) {
                attr->name = name->text;
                attr->v = const_str(p, name->text);
                for (int of = METHOD_STR; of <= METHOD_DICT; of++)
                    attr->methods[of] = jinja_find_method((method_of)of, name->text);
            } else {
                return unexpected(p, "a name or a number after '.'");
            }
            advance(p);
            set_a(p, attr, n);
            n = attr;
        } else if (t == T_LBRACKET) {
            n = parse_index(p, n);
        } else if (t == T_LPAREN) {
            node *call = new_node(p, N_CALL);
            if (!call) return NULL;
            parse_args(p, call);
            set_a(p, call, n);
            n = call;
        } else {
            break;
        }
    }
    return n;
}

static str dotted_name(parser *p, const char *wanted) {
    str name = cur(p)->text;
    if (cur(p)->type != T_NAME) {
        unexpected(p, wanted);
        return (str){0};
    }
    advance(p);
    while (cur(p)->type == T_DOT && peek(p)->type == T_NAME) {
        advance(p);
        name.len = (size_t)(cur(p)->text.ptr + cur(p)->text.len - name.ptr);
        advance(p);
    }
    return name;
}

static node *parse_test(parser *p, node *subject) {
    node *n = new_node(p, N_TEST);
    if (!n) return NULL;
    advance(p); /* is */
    n->op = skip_name(p, "not");
    n->name = dotted_name(p, "the name of a test");
    n->fn = jinja_find_test(n->name);
    set_a(p, n, subject);
    token_type t = cur(p)->type;
    if (t == T_LPAREN) {
        parse_args(p, n);
    } else if ((t == T_NAME || t == T_STRING || t == T_INT || t == T_FLOAT || t == T_LBRACKET ||
                t == T_LBRACE) &&
               !at_name(p, "else") && !at_name(p, "or") && !at_name(p, "and") &&
               !at_name(p, "if")) {
        if (at_name(p, "is")) return fail(p, "tests cannot be chained with 'is'");
        kid_list kids = kids_of(n);
        add_kid(p, &kids, parse_postfix(p, parse_primary(p)));
    }
    return n;
}

/* One or more `name(args)` separated by |; the cursor is at the first name. */
static node *parse_filter_chain(parser *p, node *n) {
    do {
        node *f = new_node(p, N_FILTER);
        if (!f) return NULL;
        f->name = dotted_name(p, "the name of a filter");
        f->fn = jinja_find_filter(f->name);
        set_a(p, f, n);
        if (cur(p)->type == T_LPAREN) parse_args(p, f);
        n = f;
    } while (!p->failed && skip_if(p, T_PIPE));
    return n;
}

static node *parse_filters(parser *p, node *n) {
    while (!p->failed) {
        if (skip_if(p, T_PIPE)) {
            n = parse_filter_chain(p, n);
        } else if (at_name(p, "is")) {
            n = parse_test(p, n);
        } else if (cur(p)->type == T_LPAREN) { /* calling what a filter gave */
            node *call = new_node(p, N_CALL);
            if (!call) return NULL;
            parse_args(p, call);
            set_a(p, call, n);
            n = call;
        } else {
            break;
        }
    }
    return n;
}

static node *parse_unary(parser *p, bool with_filter) {
    node *n;
    token_type t = cur(p)->type;
    if (t == T_SUB || t == T_ADD) {
        if (!down(p)) return NULL;
        n = new_node(p, t == T_SUB ? N_NEG : N_POS);
        advance(p);
        set_a(p, n, parse_unary(p, false));
        up(p);
    } else {
        n = parse_primary(p);
    }
    n = parse_postfix(p, n);
    return with_filter ? parse_filters(p, n) : n;
}

static node *binary(parser *p, node_op op, node *a) {
    node *n = new_node(p, N_BINARY);
    if (n) n->op = (uint8_t)op;
    set_a(p, n, a);
    return n;
}

static node *parse_pow(parser *p) {
    node *left = parse_unary(p, true);
    while (cur(p)->type == T_POW) {
        left = binary(p, OP_POW, left);
        advance(p);
        set_b(p, left, parse_unary(p, true));
    }
    return left;
}

static node *parse_product(parser *p) {
    node *left = parse_pow(p);
    for (;;) {
        token_type t = cur(p)->type;
        node_op op = t == T_MUL        ? OP_MUL
                     : t == T_DIV      ? OP_DIV
                     : t == T_FLOORDIV ? OP_FLOORDIV
                     : t == T_MOD      ? OP_MOD
                                       : OP_NONE;
        if (op == OP_NONE) return left;
        left = binary(p, op, left);
        advance(p);
        set_b(p, left, parse_pow(p));
    }
}

static node *parse_concat(parser *p) {
    node *first = parse_product(p);
    if (cur(p)->type != T_TILDE) return first;
    node *n = new_node(p, N_CONCAT);
    kid_list kids = kids_of(n);
    add_kid(p, &kids, first);
    while (skip_if(p, T_TILDE)) add_kid(p, &kids, parse_product(p));
    return n;
}

static node *parse_sum(parser *p) {
    node *left = parse_concat(p);
    while (cur(p)->type == T_ADD || cur(p)->type == T_SUB) {
        left = binary(p, cur(p)->type == T_ADD ? OP_ADD : OP_SUB, left);
        advance(p);
        set_b(p, left, parse_concat(p));
    }
    return left;
}

static node_op comparison(parser *p) {
    switch (cur(p)->type) {
    case T_EQ: return OP_EQ;
    case T_NE: return OP_NE;
    case T_LT: return OP_LT;
    case T_LE: return OP_LE;
    case T_GT: return OP_GT;
    case T_GE: return OP_GE;
    case T_NAME:
        if (str_is(cur(p)->text, "in")) return OP_IN;
        if (str_is(cur(p)->text, "not") && peek(p)->type == T_NAME && str_is(peek(p)->text, "in")) {
            advance(p);
            return OP_NOT_IN;
        }
        return OP_NONE;
    default: return OP_NONE;
    }
}

static node *parse_compare(parser *p) {
    node *first = parse_sum(p), *n = NULL;
    kid_list kids = {0};
    for (node_op op; !p->failed && (op = comparison(p)) != OP_NONE;) {
        if (!n) {
            n = new_node(p, N_COMPARE);
            set_a(p, n, first);
            kids = kids_of(n);
        }
        node *kid = new_node(p, N_COMPARE);
        advance(p);
        if (kid) kid->op = (uint8_t)op;
        set_a(p, kid, parse_sum(p));
        add_kid(p, &kids, kid);
    }
    return n ? n : first;
}

static node *parse_not(parser *p) {
    if (!at_name(p, "not")) return parse_compare(p);
    if (!down(p)) return NULL;
    node *n = new_node(p, N_NOT);
    advance(p);
    set_a(p, n, parse_not(p));
    up(p);
    return n;
}

static node *parse_and(parser *p) {
    node *left = parse_not(p);
    while (at_name(p, "and")) {
        node *n = new_node(p, N_AND);
        advance(p);
        set_a(p, n, left);
        set_b(p, n, parse_not(p));
        left = n;
    }
    return left;
}

static node *parse_or(parser *p) {
    node *left = parse_and(p);
    while (at_name(p, "or")) {
        node *n = new_node(p, N_OR);
        advance(p);
        set_a(p, n, left);
        set_b(p, n, parse_and(p));
        left = n;
    }
    return left;
}

static node *parse_expr(parser *p) {
    if (!down(p)) return NULL;
    node *n = parse_or(p);
    while (at_name(p, "if")) {
        node *cond = new_node(p, N_COND);
        advance(p);
        set_b(p, cond, n);
        set_a(p, cond, parse_or(p));
        if (skip_name(p, "else")) set_c(p, cond, parse_expr(p));
        n = cond;
    }
    up(p);
    return n;
}

/* ── Statements ── */

static node *parse_body(parser *p, const char *const *ends, int *which);

/* A body up to one of `ends` (NULL-terminated); the cursor is then behind that name. */
static node *parse_until(parser *p, const char *const *ends, int *which) {
    int ignored;
    expect(p, T_BLOCK_END);
    if (p->failed || !down(p)) return NULL;
    node *body = parse_body(p, ends, which ? which : &ignored);
    up(p);
    return body;
}

static node *target_name(parser *p) {
    token *t = cur(p);
    static const char *const taken[] = {"true", "false", "none", "True", "False", "None"};
    if (t->type != T_NAME) return unexpected(p, "a name to assign to");
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (str_is(t->text, taken[i])) return fail(p, "cannot assign to '%s'", taken[i]);
    node *n = name_node(p, N_NAME, t->text);
    advance(p);
    return n;
}

/* name | (target) | target, target … */
static node *parse_target(parser *p) {
    node *tuple = new_node(p, N_TUPLE);
    kid_list kids = kids_of(tuple);
    bool is_tuple = false;
    while (!p->failed) {
        if (tuple->n_kids) {
            if (!skip_if(p, T_COMMA)) break;
            is_tuple = true;
            if (cur(p)->type != T_NAME && cur(p)->type != T_LPAREN) break;
            if (at_name(p, "in")) break;
        }
        if (cur(p)->type == T_LPAREN) {
            if (!down(p)) return NULL;
            advance(p);
            add_kid(p, &kids, parse_target(p));
            expect(p, T_RPAREN);
            up(p);
        } else {
            add_kid(p, &kids, target_name(p));
        }
    }
    return p->failed ? NULL : is_tuple ? tuple : tuple->kids;
}

static node *parse_for(parser *p) {
    node *n = new_node(p, N_FOR);
    if (!n) return NULL;
    n->a = parse_target(p);
    if (!skip_name(p, "in")) return unexpected(p, "'in'");
    n->b = parse_tuple(p, false, false);
    if (skip_name(p, "if")) n->c = parse_expr(p);
    n->op = skip_name(p, "recursive");
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    int which = 0;
    p->loops++;
    n->kids = parse_until(p, ends, &which);
    p->loops--;
    if (which == 0 && !p->failed) n->body2 = parse_until(p, last, NULL);
    return n;
}

static node *parse_if(parser *p) {
    node *first = new_node(p, N_IF), *n = first;
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif",
                                                                                        NULL};
    while (n && !p->failed) {
        int which = 2;
        n->a = parse_tuple(p, false, false);
        n->kids = parse_until(p, ends, &which);
        if (which == 0)
            n = n->c = new_node(p, N_IF);
        else if (which == 1) {
            n->body2 = parse_until(p, last, NULL);
            break;
        } else
            break;
    }
    return first;
}

static node *parse_set(parser *p) {
    node *target;
    if (cur(p)->type == T_NAME && peek(p)->type == T_DOT) {
        target = name_node(p, N_NSATTR, cur(p)->text);
        advance(p);
        advance(p);
        if (cur(p)->type != T_NAME) return unexpected(p, "the name of an attribute");
        if (target) {
            target->name = cur(p)->text;
            target->v = const_str(p, cur(p)->text);
        }
        advance(p);
    } else {
        target = parse_target(p);
    }
    node *n = new_node(p, N_SET);
    if (!n) return NULL;
    n->a = target;
    if (skip_if(p, T_ASSIGN)) {
        n->b = parse_tuple(p, true, false);
        return n;
    }
    n->kind = N_SETBLOCK;
    if (skip_if(p, T_PIPE)) n->b = parse_filter_chain(p, NULL);
    static const char *const ends[] = {"endset", NULL};
    n->kids = parse_until(p, ends, NULL);
    return n;
}

/* (a, b=default) into n->params. */
static void parse_params(parser *p, node *n) {
    node **tail = &n->params;
    bool defaults = false;
    expect(p, T_LPAREN);
    while (!p->failed && cur(p)->type != T_RPAREN) {
        if (n->params) expect(p, T_COMMA);
        if (cur(p)->type == T_RPAREN) break;
        node *param = target_name(p);
        if (!param) return;
        for (const node *other = n->params; other; other = other->next)
            if (other->id == param->id) return (void)fail(p, "two parameters have one name");
        param->kind = N_PARAM;
        if (skip_if(p, T_ASSIGN))
            param->a = parse_expr(p);
        else if (defaults)
            fail(p, "a parameter without a default follows one with a default");
        if (param->id == p->t->id_caller && !param->a)
            fail(p, "a parameter called 'caller' needs a default");
        defaults = defaults || param->a;
        *tail = param;
        tail = &param->next;
    }
    expect(p, T_RPAREN);
}

static void parse_macro_body(parser *p, node *n, const char *const *ends) {
    uint8_t uses = 0, *outer = p->macro_uses;
    int loops = p->loops;
    p->macro_uses = &uses;
    p->loops = 0;
    n->kids = parse_until(p, ends, NULL);
    for (node *param = n->params; param; param = param->next) {
        if (str_is(param->name, "varargs")) uses &= (uint8_t)~MACRO_VARARGS;
        if (str_is(param->name, "kwargs")) uses &= (uint8_t)~MACRO_KWARGS;
    }
    n->op = uses;
    if (outer) *outer |= uses;
    p->macro_uses = outer;
    p->loops = loops;
}

static node *parse_macro(parser *p) {
    node *name = target_name(p), *n = new_node(p, N_MACRO);
    if (!name || !n) return NULL;
    n->name = name->name;
    n->id = name->id;
    parse_params(p, n);
    static const char *const ends[] = {"endmacro", NULL};
    if (!p->failed) parse_macro_body(p, n, ends);
    return n;
}

static node *parse_call_block(parser *p) {
    node *n = new_node(p, N_CALLBLOCK), *body = new_node(p, N_MACRO);
    if (!n || !body) return NULL;
    body->name = STR("caller");
    body->id = p->t->id_caller;
    if (cur(p)->type == T_LPAREN) parse_params(p, body);
    n->a = parse_expr(p);
    if (!p->failed && n->a->kind != N_CALL) return fail(p, "expected a call");
    n->b = body;
    static const char *const ends[] = {"endcall", NULL};
    if (!p->failed) parse_macro_body(p, body, ends);
    return n;
}

static node *parse_with(parser *p) {
    node *n = new_node(p, N_WITH);
    if (!n) return NULL;
    node **tail = &n->params;
    while (!p->failed && cur(p)->type != T_BLOCK_END) {
        if (n->params) expect(p, T_COMMA);
        node *set = new_node(p, N_SET);
        if (!set) return NULL;
        set->a = parse_target(p);
        expect(p, T_ASSIGN);
        set->b = parse_expr(p);
        *tail = set;
        tail = &set->next;
    }
    static const char *const ends[] = {"endwith", NULL};
    n->kids = parse_until(p, ends, NULL);
    return n;
}

static node *parse_scope(parser *p, const char *end) {
    node *n = new_node(p, N_SCOPE);
    const char *const ends[] = {end, NULL};
    node *body = parse_until(p, ends, NULL);
    if (n) n->kids = body;
    return n;
}

static node *parse_print(parser *p) {
    node *n = new_node(p, N_SCOPE);
    kid_list kids = kids_of(n);
    while (!p->failed) {
        node *print = new_node(p, N_PRINT), *what = parse_expr(p);
        if (print) print->a = what;
        add_kid(p, &kids, print);
        if (!skip_if(p, T_COMMA)) break;
    }
    return n;
}

static node *parse_statement(parser *p) {
    token *t = cur(p);
    if (t->type != T_NAME) return unexpected(p, "the name of a tag");
    str tag = t->text;
    advance(p);
    if (str_is(tag, "if")) return parse_if(p);
    if (str_is(tag, "for")) return parse_for(p);
    if (str_is(tag, "set")) return parse_set(p);
    if (str_is(tag, "macro")) return parse_macro(p);
    if (str_is(tag, "call")) return parse_call_block(p);
    if (str_is(tag, "with")) return parse_with(p);
    if (str_is(tag, "generation")) return parse_scope(p, "endgeneration");
    if (str_is(tag, "break") || str_is(tag, "continue")) {
        if (!p->loops) return fail(p, "'%.*s' outside of a loop", STR_ARG(tag));
        return new_node(p, str_is(tag, "break") ? N_BREAK : N_CONTINUE);
    }
    if (str_is(tag, "print")) return parse_print(p);
    if (str_is(tag, "autoescape")) { /* off is how chat templates run anyway */
        if (!skip_name(p, "false")) return fail(p, "'autoescape' is not supported");
        return parse_scope(p, "endautoescape");
    }
    if (str_is(tag, "filter")) {
        node *n = new_node(p, N_FILTERBLOCK);
        if (!n) return NULL;
        n->b = parse_filter_chain(p, NULL);
        static const char *const ends[] = {"endfilter", NULL};
        n->kids = parse_until(p, ends, NULL);
        return n;
    }
    if (str_is(tag, "block")) { /* nothing can override it here: a scope with a name */
        if (!target_name(p)) return NULL;
        while (skip_name(p, "scoped") || skip_name(p, "required")) {
        }
        node *n = parse_scope(p, "endblock");
        if (cur(p)->type == T_NAME) advance(p);
        return n;
    }
    if (str_is(tag, "include") || str_is(tag, "import") || str_is(tag, "from") ||
        str_is(tag, "extends"))
        return fail(p, "'%.*s' needs other templates, and a chat template has none", STR_ARG(tag));
    p->at -= p->at > 0;
    return fail(p, "unknown tag '%.*s'", (int)(tag.len < 60 ? tag.len : 60), tag.ptr);
}

/* Statements up to the end (ends NULL) or to `{% <one of ends>`. */
static node *parse_body(parser *p, const char *const *ends, int *which) {
    node *first = NULL, **tail = &first;
    while (!p->failed) {
        node *n = NULL;
        token *t = cur(p);
        switch (t->type) {
        case T_EOF:
            if (ends)
                fail(p, "'%s' is missing",
                     ends[0] && ends[1] && ends[2] ? ends[2]
                     : ends[1]                     ? ends[1]
                                                   : ends[0]);
            return first;
        case T_DATA:
            if ((n = new_node(p, N_TEXT))) n->v = const_str(p, t->text);
            advance(p);
            break;
        case T_VAR_BEGIN:
            n = new_node(p, N_PRINT);
            advance(p);
            node *what = parse_tuple(p, true, false);
            if (n) n->a = what;
            expect(p, T_VAR_END);
            break;
        default: /* T_BLOCK_BEGIN */
            advance(p);
            for (int i = 0; ends && ends[i]; i++)
                if (skip_name(p, ends[i])) {
                    *which = i;
                    return first;
                }
            n = parse_statement(p);
            expect(p, T_BLOCK_END);
        }
        if (p->failed || !n) break;
        *tail = n;
        tail = &n->next;
    }
    return first;
}

jinja *jinja_parse(str source, error *err) {
    if (source.len > JINJA_MAX_SOURCE_BYTES) {
        error_set(err, ERR_TEMPLATE, NULL, "The template has %zu bytes; at most %d are read.",
                  source.len, JINJA_MAX_SOURCE_BYTES);
        return NULL;
    }
    jinja *t = calloc(1, sizeof *t);
    if (!t) {
        error_set(err, ERR_NO_MEMORY, NULL, "Memory ran out while reading the chat template.");
        return NULL;
    }
    arena_init(&t->mem, MAX_TREE_BYTES);
    parser p = {.t = t, .err = err};
    p.tok = jinja_lex(&t->mem, source, &p.n, err);
    p.failed = !p.tok;
    if (!p.failed) {
        t->id_loop = intern(&p, STR("loop"));
        t->id_caller = intern(&p, STR("caller"));
        t->id_varargs = intern(&p, STR("varargs"));
        t->id_kwargs = intern(&p, STR("kwargs"));
        t->body = parse_body(&p, NULL, NULL);
    }
    if (p.failed) {
        jinja_free(t);
        return NULL;
    }
    return t;
}

void jinja_free(jinja *t) {
    if (!t) return;
    arena_deinit(&t->mem);
    free(t);
}

bool jinja_mentions(const jinja *t, str name) {
    for (int i = 0; i < t->n_names; i++)
        if (str_eq(t->names[i], name)) return true;
    return false;
}
