/* Statements: a list of nodes to output and to names that are set.
 *
 * Scopes are Jinja's: a loop's body, a macro, a with, set, filter or call block
 * have one of their own, an if has none. A loop's scope is emptied for each
 * round.
 */
#include "chat/jinja_run.h"

scope *jinja_push_scope(rt *r) {
    scope *s = jinja_alloc(r, 1, sizeof *s);
    if (!s) return NULL;
    s->parent = r->scope;
    r->scope = s;
    return s;
}

void jinja_bind(rt *r, scope *s, int id, value v) {
    for (int i = 0; i < s->n; i++)
        if (s->vars[i].id == id) {
            s->vars[i].v = v;
            return;
        }
    if (s->n == s->cap) {
        int cap = s->cap ? s->cap * 2 : 4;
        struct binding *grown = jinja_alloc(r, (size_t)cap, sizeof *grown);
        if (!grown) return;
        if (s->n) memcpy(grown, s->vars, (size_t)s->n * sizeof *grown);
        s->vars = grown;
        s->cap = cap;
    }
    s->vars[s->n++] = (struct binding){id, v};
}

static void assign(rt *r, const node *target, value v) {
    if (target->kind == N_NAME) {
        jinja_bind(r, r->scope, target->id, v);
    } else if (target->kind == N_NSATTR) {
        value ns = jinja_lookup(r, target->id);
        if (ns.kind != V_NAMESPACE)
            jinja_fail(r, "cannot assign attribute on non-namespace object");
        else
            jinja_dict_set(r, ns.dict, target->v, v);
    } else {
        seq *items = jinja_iter(r, v);
        if (!items || !jinja_enter(r)) return;
        if (items->n != (size_t)target->n_kids)
            jinja_fail(r,
                       items->n < (size_t)target->n_kids
                           ? "not enough values to unpack (expected %d, got %zu)"
                           : "too many values to unpack (expected %d, got %zu)",
                       target->n_kids, items->n);
        size_t i = 0;
        for (const node *kid = target->kids; kid && !r->failed; kid = kid->next)
            assign(r, kid, items->items[i++]);
        jinja_leave(r);
    }
}

value jinja_capture(rt *r, const node *body) {
    grow *outer = r->out;
    r->out = jinja_grow(r);
    jinja_exec(r, body);
    value v = jinja_grown(r, r->out);
    r->out = outer;
    return v;
}

COLD void jinja_run_loop(rt *r, const node *n, value iterable, int depth0) {
    seq *items = jinja_iter(r, iterable);
    scope *outer = r->scope;
    if (!items || !jinja_push_scope(r)) return;
    scope *s = r->scope;
    if (n->c) {
        size_t kept = 0;
        for (size_t i = 0; i < items->n && tick(r); i++) {
            s->n = 0;
            assign(r, n->a, items->items[i]);
            if (!r->failed && jinja_true(jinja_eval(r, n->c)))
                items->items[kept++] = items->items[i];
        }
        items->n = kept;
        s->n = 0;
    }
    loop *l = jinja_alloc(r, 1, sizeof *l);
    if (l)
        *l = (loop){
            .def = n, .outer = outer, .items = items->items, .n = items->n, .depth0 = depth0};
    for (size_t i = 0; l && i < items->n && tick(r); i++) {
        s->n = 0;
        l->at = i;
        jinja_bind(r, s, r->t->id_loop, (value){.kind = V_LOOP, .loop = l});
        assign(r, n->a, items->items[i]);
        r->scope = s;
        if (!r->failed) jinja_exec(r, n->kids);
        bool stop = r->flow == FLOW_BREAK;
        r->flow = FLOW_ON;
        if (stop) break;
    }
    if (!r->failed && !items->n && n->body2) {
        s->n = 0;
        jinja_exec(r, n->body2);
    }
    r->scope = outer;
}

static COLD void exec_if(rt *r, const node *n) {
    for (; n && !r->failed; n = n->c) {
        if (jinja_true(jinja_eval(r, n->a))) {
            if (!r->failed) jinja_exec(r, n->kids);
            return;
        }
        if (!n->c && n->body2 && !r->failed) jinja_exec(r, n->body2);
    }
}

/* Filters of a filter or set block over what its body wrote. */
static value filter_text(rt *r, const node *filters, value text) {
    if (!filters || r->failed) return text;
    value outer = r->block_text;
    r->block_text = text;
    value v = jinja_eval(r, filters);
    r->block_text = outer;
    return v;
}

static COLD void exec_block(rt *r, const node *n) {
    scope *outer = r->scope;
    if (n->kind == N_WITH) {
        scope *inner = jinja_push_scope(r);
        for (const node *set = n->params; set && !r->failed; set = set->next) {
            r->scope = outer; /* the values do not see each other */
            value v = jinja_eval(r, set->b);
            r->scope = inner;
            if (!r->failed) assign(r, set->a, v);
        }
    } else {
        jinja_push_scope(r);
    }
    if (r->failed) return;
    if (n->kind == N_WITH || n->kind == N_SCOPE) {
        jinja_exec(r, n->kids);
        r->scope = outer;
        return;
    }
    value v = jinja_capture(r, n->kids);
    r->scope = outer;
    if (r->failed) return;
    v = filter_text(r, n->b, v);
    if (r->failed) return;
    if (n->kind == N_FILTERBLOCK)
        jinja_print(r, r->out, v);
    else
        assign(r, n->a, v);
}

static value new_macro(rt *r, const node *def) {
    macro *m = jinja_alloc(r, 1, sizeof *m);
    if (!m) return v_none();
    *m = (macro){def, r->scope};
    return (value){.kind = V_MACRO, .macro = m};
}

static COLD void exec_call_block(rt *r, const node *n) {
    kwarg caller = {STR("caller"), new_macro(r, n->b)};
    if (r->failed) return;
    value v = jinja_eval_call(r, n->a, &caller);
    if (!r->failed) jinja_print(r, r->out, v);
}

void jinja_exec(rt *r, const node *n) {
    if (!n || !jinja_enter(r)) return;
    for (; n && r->flow == FLOW_ON && tick(r); n = n->next) {
        r->line = n->line;
        switch ((node_kind)n->kind) {
        case N_TEXT: jinja_put_str(r, r->out, n->v); break;
        case N_PRINT: jinja_print(r, r->out, jinja_eval(r, n->a)); break;
        case N_IF: exec_if(r, n); break;
        case N_FOR: {
            value items = jinja_eval(r, n->b);
            if (!r->failed) jinja_run_loop(r, n, items, 0);
            break;
        }
        case N_SET: {
            value v = jinja_eval(r, n->b);
            r->line = n->line;
            if (!r->failed) assign(r, n->a, v);
            break;
        }
        case N_SETBLOCK:
        case N_FILTERBLOCK:
        case N_WITH:
        case N_SCOPE: exec_block(r, n); break;
        case N_MACRO: jinja_bind(r, r->scope, n->id, new_macro(r, n)); break;
        case N_CALLBLOCK: exec_call_block(r, n); break;
        case N_BREAK: r->flow = FLOW_BREAK; break;
        case N_CONTINUE: r->flow = FLOW_CONTINUE; break;
        default: break;
        }
    }
    jinja_leave(r);
}
