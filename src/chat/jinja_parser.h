/* What the parser's files share: jinja_parse.c, jinja_parse_expr.c and jinja_parse_stmt.c. Nobody else
 * includes this. After a failure the cursor stands at the end, so that every loop stops, and what
 * returns a node returns NULL or one that nobody will see.
 */
#ifndef CHAT_JINJA_PARSER_H
#define CHAT_JINJA_PARSER_H

#include "chat/jinja_impl.h"

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

/* ── The cursor ── */

static inline token *cur(parser *p) {
    return &p->tok[p->at];
}
static inline token *peek(parser *p) {
    return &p->tok[p->at + (p->at + 1 < p->n)];
}
static inline void advance(parser *p) {
    if (p->at + 1 < p->n) p->at++;
}

static inline bool skip_if(parser *p, token_type type) {
    if (cur(p)->type != type) return false;
    advance(p);
    return true;
}
static inline bool at_name(parser *p, const char *name) {
    return cur(p)->type == T_NAME && str_is(cur(p)->text, name);
}
static inline bool skip_name(parser *p, const char *name) {
    if (!at_name(p, name)) return false;
    advance(p);
    return true;
}

/* jinja_parse.c. A failure keeps the first sentence; both return NULL. */
node *jinja_syntax(parser *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
node *jinja_unexpected(parser *p, const char *wanted);
void jinja_expect(parser *p, token_type type); /* and behind it */

/* Around everything that nests in the source. False: failed. */
bool jinja_down(parser *p);
static inline void up(parser *p) {
    p->nesting--;
}

/* ── Nodes ── */

node *jinja_new_node(parser *p, node_kind kind);            /* NULL: failed */
node *jinja_name_node(parser *p, node_kind kind, str name); /* with the name's number */
value jinja_const_str(parser *p, str s);                    /* borrows s */
/* Accounts for a finished child; the parent's height is what evaluation recurses. */
void jinja_grow_height(parser *p, node *n, const node *child);

typedef struct kid_list {
    node *owner, **tail;
} kid_list;
static inline kid_list kids_of(node *owner) {
    return (kid_list){owner, owner ? &owner->kids : NULL};
}
void jinja_add_kid(parser *p, kid_list *l, node *kid);

/* jinja_parse_expr.c */
node *jinja_parse_expr(parser *p);
/* a, b, c without brackets: one expression stays itself, several are a tuple. Nothing at all is the
 * empty tuple in parentheses, an error elsewhere. with_cond: `a if b` may stand in it. */
node *jinja_parse_tuple(parser *p, bool with_cond, bool in_parens);
/* One or more `name(args)` separated by |; the cursor is at the first name. n: what they filter. */
node *jinja_parse_filters(parser *p, node *n);

/* jinja_parse_stmt.c: statements up to the end (ends NULL) or to `{% <one of ends>`. */
node *jinja_parse_body(parser *p, const char *const *ends, int *which);

#endif
