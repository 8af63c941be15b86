/* Expressions. One function per level of precedence, loosest first, as in
 * Jinja's grammar: conditional, or, and, not, comparison, + -, ~, * / // %, **,
 * sign, postfix (call, attribute, index), filters and tests. Filters, tests and
 * methods become pointers here; one that does not exist fails when it is run.
 */
#include "chat/jinja_parser.h"

static void set_a(parser *p, node *n, node *a) {
    if (n) n->a = a;
    jinja_grow_height(p, n, a);
}
static void set_b(parser *p, node *n, node *b) {
    if (n) n->b = b;
    jinja_grow_height(p, n, b);
}
static void set_c(parser *p, node *n, node *c) {
    if (n) n->c = c;
    jinja_grow_height(p, n, c);
}

static node *parse_primary(parser *p);
static node *parse_postfix(parser *p, node *n);
static node *parse_filters(parser *p, node *n);

/* Whether a comma-separated list ends here, as after a trailing comma. */
static bool tuple_ends(parser *p) {
    token_type t = cur(p)->type;
    return t == T_VAR_END || t == T_BLOCK_END || t == T_RPAREN || t == T_EOF ||
           at_name(p, "recursive");
}

static node *parse_or(parser *p);

/* a, b, c without brackets: one expression stays itself, several are a tuple. */
node *jinja_parse_tuple(parser *p, bool with_cond, bool in_parens) {
    node *n = jinja_new_node(p, N_TUPLE);
    kid_list kids = kids_of(n);
    bool is_tuple = false;
    while (!p->failed) {
        if (n && n->n_kids) {
            if (!skip_if(p, T_COMMA)) break;
            is_tuple = true;
        }
        if (tuple_ends(p)) break;
        jinja_add_kid(p, &kids, with_cond ? jinja_parse_expr(p) : parse_or(p));
    }
    if (p->failed || !n) return NULL;
    if (is_tuple) return n;
    if (n->n_kids) return n->kids;
    if (!in_parens) return jinja_unexpected(p, "an expression");
    return n;
}

/* [ … ] or { … : … }, a comma between two and perhaps after the last. */
static node *parse_items(parser *p, node_kind kind, token_type end) {
    if (!jinja_down(p)) return NULL;
    node *n = jinja_new_node(p, kind);
    advance(p);
    kid_list kids = kids_of(n);
    while (!p->failed && cur(p)->type != end) {
        if (n && n->n_kids) jinja_expect(p, T_COMMA);
        if (cur(p)->type == end) break;
        jinja_add_kid(p, &kids, jinja_parse_expr(p));
        if (kind != N_DICT) continue;
        jinja_expect(p, T_COLON);
        jinja_add_kid(p, &kids, jinja_parse_expr(p));
    }
    jinja_expect(p, end);
    up(p);
    return n;
}

static node *parse_primary(parser *p) {
    token *t = cur(p);
    node *n = NULL;
    switch (t->type) {
    case T_NAME:
        if (str_is(t->text, "true") || str_is(t->text, "True") || str_is(t->text, "false") ||
            str_is(t->text, "False")) {
            if ((n = jinja_new_node(p, N_CONST)))
                n->v = v_bool((t->text.ptr[0] | 32) == 't', false);
        } else if (str_is(t->text, "none") || str_is(t->text, "None")) {
            if ((n = jinja_new_node(p, N_CONST))) n->v = v_none();
        } else {
            n = jinja_name_node(p, N_NAME, t->text);
        }
        advance(p);
        return n;
    case T_STRING: {
        if (!(n = jinja_new_node(p, N_CONST))) return NULL;
        str s = t->text;
        advance(p);
        if (cur(p)->type == T_STRING) { /* neighbours are one string */
            buf whole = {0};
            buf_append_str(&whole, s);
            for (; cur(p)->type == T_STRING; advance(p)) buf_append_str(&whole, cur(p)->text);
            char *copy = whole.failed ? NULL : arena_dup(&p->t->mem, buf_str(&whole));
            s = str_make(copy, copy ? whole.len : 0);
            buf_deinit(&whole);
            if (!copy) return jinja_syntax(p, "memory ran out while reading it");
        }
        n->v = jinja_const_str(p, s);
        return n;
    }
    case T_INT:
    case T_FLOAT:
        if ((n = jinja_new_node(p, N_CONST)))
            n->v = t->type == T_INT ? v_int(t->i, false) : v_float(t->f, false);
        advance(p);
        return n;
    case T_LPAREN:
        if (!jinja_down(p)) return NULL;
        advance(p);
        n = jinja_parse_tuple(p, true, true);
        jinja_expect(p, T_RPAREN);
        up(p);
        return n;
    case T_LBRACKET: return parse_items(p, N_LIST, T_RBRACKET);
    case T_LBRACE: return parse_items(p, N_DICT, T_RBRACE);
    default: return jinja_unexpected(p, "an expression");
    }
}

/* ( … ) after something callable, appended to n's kids. */
static void parse_args(parser *p, node *n) {
    if (!jinja_down(p)) return;
    jinja_expect(p, T_LPAREN);
    kid_list kids = kids_of(n);
    bool named = false;
    while (!p->failed && cur(p)->type != T_RPAREN) {
        if (n->n_kids) {
            jinja_expect(p, T_COMMA);
            if (cur(p)->type == T_RPAREN) break;
        }
        node *arg;
        if (cur(p)->type == T_MUL || cur(p)->type == T_POW) {
            arg = jinja_new_node(p, cur(p)->type == T_MUL ? N_STAR : N_DSTAR);
            advance(p);
            set_a(p, arg, jinja_parse_expr(p));
            named = named || (arg && arg->kind == N_DSTAR);
        } else if (cur(p)->type == T_NAME && peek(p)->type == T_ASSIGN) {
            arg = jinja_new_node(p, N_KWARG);
            for (const node *k = n->kids; k; k = k->next)
                if (k->kind == N_KWARG && str_eq(k->name, cur(p)->text))
                    return (void)jinja_syntax(p, "an argument is named twice");
            if (arg) arg->name = cur(p)->text;
            advance(p);
            advance(p);
            set_a(p, arg, jinja_parse_expr(p));
            named = true;
        } else {
            if (named) jinja_syntax(p, "an argument without a name follows one with a name");
            arg = jinja_parse_expr(p);
        }
        jinja_add_kid(p, &kids, arg);
    }
    jinja_expect(p, T_RPAREN);
    up(p);
}

static node *parse_subscribed(parser *p) {
    node *slice = jinja_new_node(p, N_SLICE), *first = NULL;
    if (cur(p)->type != T_COLON) first = jinja_parse_expr(p);
    if (!skip_if(p, T_COLON)) return first;
    set_a(p, slice, first);
    token_type t = cur(p)->type;
    if (t != T_COLON && t != T_RBRACKET && t != T_COMMA) set_b(p, slice, jinja_parse_expr(p));
    if (skip_if(p, T_COLON)) {
        t = cur(p)->type;
        if (t != T_RBRACKET && t != T_COMMA) set_c(p, slice, jinja_parse_expr(p));
    }
    return slice;
}

static node *parse_index(parser *p, node *object) {
    node *n = jinja_new_node(p, N_ITEM);
    if (!n || !jinja_down(p)) return NULL;
    jinja_expect(p, T_LBRACKET);
    node *tuple = jinja_new_node(p, N_TUPLE);
    kid_list kids = kids_of(tuple);
    while (!p->failed && cur(p)->type != T_RBRACKET) {
        if (tuple->n_kids) jinja_expect(p, T_COMMA);
        jinja_add_kid(p, &kids, parse_subscribed(p));
    }
    jinja_expect(p, T_RBRACKET);
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
            node *attr = jinja_new_node(p, name->type == T_INT ? N_ITEM : N_ATTR);
            if (!attr) return NULL;
            if (name->type == T_INT) {
                node *index = jinja_new_node(p, N_CONST);
                if (index) index->v = v_int(name->i, false);
                set_b(p, attr, index);
            } else if (name->type == T_NAME) {
                attr->name = name->text;
                attr->v = jinja_const_str(p, name->text);
                for (int of = METHOD_STR; of <= METHOD_DICT; of++)
                    attr->methods[of] = jinja_find_method((method_of)of, name->text);
            } else {
                return jinja_unexpected(p, "a name or a number after '.'");
            }
            advance(p);
            set_a(p, attr, n);
            n = attr;
        } else if (t == T_LBRACKET) {
            n = parse_index(p, n);
        } else if (t == T_LPAREN) {
            node *call = jinja_new_node(p, N_CALL);
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
        jinja_unexpected(p, wanted);
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
    node *n = jinja_new_node(p, N_TEST);
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
        if (at_name(p, "is")) return jinja_syntax(p, "tests cannot be chained with 'is'");
        kid_list kids = kids_of(n);
        jinja_add_kid(p, &kids, parse_postfix(p, parse_primary(p)));
    }
    return n;
}

/* One or more `name(args)` separated by |; the cursor is at the first name. */
node *jinja_parse_filters(parser *p, node *n) {
    do {
        node *f = jinja_new_node(p, N_FILTER);
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
            n = jinja_parse_filters(p, n);
        } else if (at_name(p, "is")) {
            n = parse_test(p, n);
        } else if (cur(p)->type == T_LPAREN) { /* calling what a filter gave */
            node *call = jinja_new_node(p, N_CALL);
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
        if (!jinja_down(p)) return NULL;
        n = jinja_new_node(p, t == T_SUB ? N_NEG : N_POS);
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
    node *n = jinja_new_node(p, N_BINARY);
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
    node *n = jinja_new_node(p, N_CONCAT);
    kid_list kids = kids_of(n);
    jinja_add_kid(p, &kids, first);
    while (skip_if(p, T_TILDE)) jinja_add_kid(p, &kids, parse_product(p));
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
            n = jinja_new_node(p, N_COMPARE);
            set_a(p, n, first);
            kids = kids_of(n);
        }
        node *kid = jinja_new_node(p, N_COMPARE);
        advance(p);
        if (kid) kid->op = (uint8_t)op;
        set_a(p, kid, parse_sum(p));
        jinja_add_kid(p, &kids, kid);
    }
    return n ? n : first;
}

static node *parse_not(parser *p) {
    if (!at_name(p, "not")) return parse_compare(p);
    if (!jinja_down(p)) return NULL;
    node *n = jinja_new_node(p, N_NOT);
    advance(p);
    set_a(p, n, parse_not(p));
    up(p);
    return n;
}

static node *parse_and(parser *p) {
    node *left = parse_not(p);
    while (at_name(p, "and")) {
        node *n = jinja_new_node(p, N_AND);
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
        node *n = jinja_new_node(p, N_OR);
        advance(p);
        set_a(p, n, left);
        set_b(p, n, parse_and(p));
        left = n;
    }
    return left;
}

node *jinja_parse_expr(parser *p) {
    if (!jinja_down(p)) return NULL;
    node *n = parse_or(p);
    while (at_name(p, "if")) {
        node *cond = jinja_new_node(p, N_COND);
        advance(p);
        set_b(p, cond, n);
        set_a(p, cond, parse_or(p));
        if (skip_name(p, "else")) set_c(p, cond, jinja_parse_expr(p));
        n = cond;
    }
    up(p);
    return n;
}
