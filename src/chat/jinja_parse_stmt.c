/* Statements: text, {{ … }} and the tags between {% and %}. Refuses tags that
 * need other templates, and tags that nobody knows.
 */
#include "chat/jinja_parser.h"

/* A body up to one of `ends` (NULL-terminated); the cursor is then behind that name. */
static node *parse_until(parser *p, const char *const *ends, int *which) {
    int ignored;
    jinja_expect(p, T_BLOCK_END);
    if (p->failed || !jinja_down(p)) return NULL;
    node *body = jinja_parse_body(p, ends, which ? which : &ignored);
    up(p);
    return body;
}

static node *target_name(parser *p) {
    token *t = cur(p);
    static const char *const taken[] = {"true", "false", "none", "True", "False", "None"};
    if (t->type != T_NAME) return jinja_unexpected(p, "a name to assign to");
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (str_is(t->text, taken[i])) return jinja_syntax(p, "cannot assign to '%s'", taken[i]);
    node *n = jinja_name_node(p, N_NAME, t->text);
    advance(p);
    return n;
}

/* name | (target) | target, target … */
static node *parse_target(parser *p) {
    node *tuple = jinja_new_node(p, N_TUPLE);
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
            if (!jinja_down(p)) return NULL;
            advance(p);
            jinja_add_kid(p, &kids, parse_target(p));
            jinja_expect(p, T_RPAREN);
            up(p);
        } else {
            jinja_add_kid(p, &kids, target_name(p));
        }
    }
    return p->failed ? NULL : is_tuple ? tuple : tuple->kids;
}

static node *parse_for(parser *p) {
    node *n = jinja_new_node(p, N_FOR);
    if (!n) return NULL;
    n->a = parse_target(p);
    if (!skip_name(p, "in")) return jinja_unexpected(p, "'in'");
    n->b = jinja_parse_tuple(p, false, false);
    if (skip_name(p, "if")) n->c = jinja_parse_expr(p);
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
    node *first = jinja_new_node(p, N_IF), *n = first;
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif",
                                                                                        NULL};
    while (n && !p->failed) {
        int which = 2;
        n->a = jinja_parse_tuple(p, false, false);
        n->kids = parse_until(p, ends, &which);
        if (which == 0)
            n = n->c = jinja_new_node(p, N_IF);
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
        target = jinja_name_node(p, N_NSATTR, cur(p)->text);
        advance(p);
        advance(p);
        if (cur(p)->type != T_NAME) return jinja_unexpected(p, "the name of an attribute");
        if (target) {
            target->name = cur(p)->text;
            target->v = jinja_const_str(p, cur(p)->text);
        }
        advance(p);
    } else {
        target = parse_target(p);
    }
    node *n = jinja_new_node(p, N_SET);
    if (!n) return NULL;
    n->a = target;
    if (skip_if(p, T_ASSIGN)) {
        n->b = jinja_parse_tuple(p, true, false);
        return n;
    }
    n->kind = N_SETBLOCK;
    if (skip_if(p, T_PIPE)) n->b = jinja_parse_filters(p, NULL);
    static const char *const ends[] = {"endset", NULL};
    n->kids = parse_until(p, ends, NULL);
    return n;
}

/* (a, b=default) into n->params. */
static void parse_params(parser *p, node *n) {
    node **tail = &n->params;
    bool defaults = false;
    jinja_expect(p, T_LPAREN);
    while (!p->failed && cur(p)->type != T_RPAREN) {
        if (n->params) jinja_expect(p, T_COMMA);
        if (cur(p)->type == T_RPAREN) break;
        node *param = target_name(p);
        if (!param) return;
        for (const node *other = n->params; other; other = other->next)
            if (other->id == param->id)
                return (void)jinja_syntax(p, "two parameters have one name");
        param->kind = N_PARAM;
        if (skip_if(p, T_ASSIGN))
            param->a = jinja_parse_expr(p);
        else if (defaults)
            jinja_syntax(p, "a parameter without a default follows one with a default");
        if (param->id == p->t->id_caller && !param->a)
            jinja_syntax(p, "a parameter called 'caller' needs a default");
        defaults = defaults || param->a;
        *tail = param;
        tail = &param->next;
    }
    jinja_expect(p, T_RPAREN);
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
    node *name = target_name(p), *n = jinja_new_node(p, N_MACRO);
    if (!name || !n) return NULL;
    n->name = name->name;
    n->id = name->id;
    parse_params(p, n);
    static const char *const ends[] = {"endmacro", NULL};
    if (!p->failed) parse_macro_body(p, n, ends);
    return n;
}

static node *parse_call_block(parser *p) {
    node *n = jinja_new_node(p, N_CALLBLOCK), *body = jinja_new_node(p, N_MACRO);
    if (!n || !body) return NULL;
    body->name = STR("caller");
    body->id = p->t->id_caller;
    if (cur(p)->type == T_LPAREN) parse_params(p, body);
    n->a = jinja_parse_expr(p);
    if (!p->failed && n->a->kind != N_CALL) return jinja_syntax(p, "expected a call");
    n->b = body;
    static const char *const ends[] = {"endcall", NULL};
    if (!p->failed) parse_macro_body(p, body, ends);
    return n;
}

static node *parse_with(parser *p) {
    node *n = jinja_new_node(p, N_WITH);
    if (!n) return NULL;
    node **tail = &n->params;
    while (!p->failed && cur(p)->type != T_BLOCK_END) {
        if (n->params) jinja_expect(p, T_COMMA);
        node *set = jinja_new_node(p, N_SET);
        if (!set) return NULL;
        set->a = parse_target(p);
        jinja_expect(p, T_ASSIGN);
        set->b = jinja_parse_expr(p);
        *tail = set;
        tail = &set->next;
    }
    static const char *const ends[] = {"endwith", NULL};
    n->kids = parse_until(p, ends, NULL);
    return n;
}

static node *parse_scope(parser *p, const char *end) {
    node *n = jinja_new_node(p, N_SCOPE);
    const char *const ends[] = {end, NULL};
    node *body = parse_until(p, ends, NULL);
    if (n) n->kids = body;
    return n;
}

static node *parse_print(parser *p) {
    node *n = jinja_new_node(p, N_SCOPE);
    kid_list kids = kids_of(n);
    while (!p->failed) {
        node *print = jinja_new_node(p, N_PRINT), *what = jinja_parse_expr(p);
        if (print) print->a = what;
        jinja_add_kid(p, &kids, print);
        if (!skip_if(p, T_COMMA)) break;
    }
    return n;
}

static node *parse_statement(parser *p) {
    token *t = cur(p);
    if (t->type != T_NAME) return jinja_unexpected(p, "the name of a tag");
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
        if (!p->loops) return jinja_syntax(p, "'%.*s' outside of a loop", STR_ARG(tag));
        return jinja_new_node(p, str_is(tag, "break") ? N_BREAK : N_CONTINUE);
    }
    if (str_is(tag, "print")) return parse_print(p);
    if (str_is(tag, "autoescape")) { /* off is how chat templates run anyway */
        if (!skip_name(p, "false")) return jinja_syntax(p, "'autoescape' is not supported");
        return parse_scope(p, "endautoescape");
    }
    if (str_is(tag, "filter")) {
        node *n = jinja_new_node(p, N_FILTERBLOCK);
        if (!n) return NULL;
        n->b = jinja_parse_filters(p, NULL);
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
        return jinja_syntax(p, "'%.*s' needs other templates, and a chat template has none",
                            STR_ARG(tag));
    p->at -= p->at > 0;
    return jinja_syntax(p, "unknown tag '%.*s'", (int)(tag.len < 60 ? tag.len : 60), tag.ptr);
}

/* Statements up to the end (ends NULL) or to `{% <one of ends>`. */
node *jinja_parse_body(parser *p, const char *const *ends, int *which) {
    node *first = NULL, **tail = &first;
    while (!p->failed) {
        node *n = NULL;
        token *t = cur(p);
        switch (t->type) {
        case T_EOF:
            if (ends)
                jinja_syntax(p, "'%s' is missing",
                             ends[0] && ends[1] && ends[2] ? ends[2]
                             : ends[1]                     ? ends[1]
                                                           : ends[0]);
            return first;
        case T_DATA:
            if ((n = jinja_new_node(p, N_TEXT))) n->v = jinja_const_str(p, t->text);
            advance(p);
            break;
        case T_VAR_BEGIN:
            n = jinja_new_node(p, N_PRINT);
            advance(p);
            node *what = jinja_parse_tuple(p, true, false);
            if (n) n->a = what;
            jinja_expect(p, T_VAR_END);
            break;
        default: /* T_BLOCK_BEGIN */
            advance(p);
            for (int i = 0; ends && ends[i]; i++)
                if (skip_name(p, ends[i])) {
                    *which = i;
                    return first;
                }
            n = parse_statement(p);
            jinja_expect(p, T_BLOCK_END);
        }
        if (p->failed || !n) break;
        *tail = n;
        tail = &n->next;
    }
    return first;
}
