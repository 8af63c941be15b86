/* The parser's door and what both halves of the grammar stand on: the sentence
 * that ends a parse, nodes in the tree's arena, names as small numbers.
 *
 * Nesting is bounded, so is the height of every expression: what runs later may
 * recurse along the tree without asking.
 */
#include "base/hash.h"
#include "chat/jinja_parser.h"

#include <stdlib.h>

enum { MAX_TREE_BYTES = 64 << 20 };

node *jinja_syntax(parser *p, const char *fmt, ...) {
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

node *jinja_unexpected(parser *p, const char *wanted) {
    const token *t = cur(p);
    if (t->type == T_NAME)
        return jinja_syntax(p, "expected %s, found '%.*s'", wanted,
                            (int)(t->text.len < 60 ? t->text.len : 60), t->text.ptr);
    return jinja_syntax(p, "expected %s, found %s", wanted, token_name(t));
}

void jinja_expect(parser *p, token_type type) {
    token wanted = {.type = type};
    if (!skip_if(p, type)) jinja_unexpected(p, token_name(&wanted));
}

node *jinja_new_node(parser *p, node_kind kind) {
    node *n = p->failed ? NULL : arena_alloc(&p->t->mem, sizeof *n);
    if (!n) return p->failed ? NULL : jinja_syntax(p, "memory ran out while reading it");
    n->kind = (uint8_t)kind;
    n->line = cur(p)->line;
    n->id = -1;
    return n;
}

/* Accounts for a finished child; the parent's height is what evaluation recurses. */
void jinja_grow_height(parser *p, node *n, const node *child) {
    if (!n || !child || n->height > child->height) return;
    n->height = (uint16_t)(child->height + 1);
    if (n->height > JINJA_MAX_HEIGHT) jinja_syntax(p, "an expression is too deep");
}

void jinja_add_kid(parser *p, kid_list *l, node *kid) {
    if (!l->tail || !kid || p->failed) return;
    *l->tail = kid;
    while (*l->tail) l->tail = &(*l->tail)->next;
    l->owner->n_kids++;
    jinja_grow_height(p, l->owner, kid);
}

/* The number of a name. Open addressing over hashes: a template may hold thousands. */
static int intern(parser *p, str name) {
    jinja *t = p->t;
    if (t->n_names * 2 >= p->n_slots) {
        int n_slots = p->n_slots ? p->n_slots * 2 : 128;
        int *slots = arena_array(&t->mem, (size_t)n_slots, sizeof *slots);
        str *grown = arena_array(&t->mem, (size_t)n_slots / 2, sizeof *grown);
        if (!slots || !grown) {
            jinja_syntax(p, "memory ran out while reading it");
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

value jinja_const_str(parser *p, str s) {
    string *x = arena_alloc(&p->t->mem, sizeof *x);
    if (!x) {
        jinja_syntax(p, "memory ran out while reading it");
        return v_none();
    }
    /* Counted now: the tree is shared between threads and never written again. */
    *x = (string){.ptr = s.ptr, .len = s.len, .n_chars = (ptrdiff_t)utf8_count(s)};
    return (value){.kind = V_STR, .s = x};
}

bool jinja_down(parser *p) {
    if (++p->nesting <= JINJA_MAX_NESTING) return true;
    jinja_syntax(p, "it is nested too deeply");
    return false;
}

node *jinja_name_node(parser *p, node_kind kind, str name) {
    node *n = jinja_new_node(p, kind);
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
        t->body = jinja_parse_body(&p, NULL, NULL);
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
