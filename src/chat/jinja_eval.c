/* Expressions: a node of the tree and the scopes to a value. A name is looked up
 * outwards, then among the context's variables and the global functions.
 *
 * The machine's stack: every function that recurses goes through jinja_enter,
 * and what is not needed while recursing is kept out of jinja_eval() and
 * jinja_exec() so that their frames stay small.
 */
#include "chat/jinja_run.h"

value jinja_lookup(rt *r, int id) {
    for (const scope *s = r->scope; s; s = s->parent)
        for (int i = 0; i < s->n; i++)
            if (s->vars[i].id == id) return s->vars[i].v;
    value v = r->globals[id];
    return given(v) ? v : jinja_undef(r, NULL, r->t->names[id], false);
}

static COLD value eval_item(rt *r, const node *n) {
    value obj = jinja_eval(r, n->a);
    const node *index = n->b;
    if (index->kind != N_SLICE) {
        value key = jinja_eval(r, index);
        r->line = n->line;
        return r->failed ? v_none() : jinja_getitem(r, obj, key);
    }
    value start = index->a ? jinja_eval(r, index->a) : v_none();
    value stop = index->b ? jinja_eval(r, index->b) : v_none();
    value step = index->c ? jinja_eval(r, index->c) : v_none();
    r->line = n->line;
    if (r->failed) return v_none();
    if (obj.kind == V_UNDEF) return jinja_fail_undef(r, obj);
    if (obj.kind == V_STR || (obj.kind == V_SEQ && obj.seq->type <= SEQ_RANGE))
        return jinja_slice(r, obj, start, stop, step);
    if (obj.kind == V_DICT) return jinja_fail(r, "unhashable type: 'slice'");
    return jinja_fail(r, "'%s' object is not subscriptable", jinja_type(obj));
}

static COLD value eval_sign(rt *r, const node *n) {
    value v = jinja_eval(r, n->a);
    r->line = n->line;
    return r->failed ? v_none() : jinja_sign(r, n->kind == N_NEG, v);
}

static bool compare(rt *r, node_op op, value a, value b) {
    static const char *const names[] = {
        [OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">="};
    int c;
    switch (op) {
    case OP_EQ: return jinja_eq(r, a, b);
    case OP_NE: return !jinja_eq(r, a, b);
    case OP_IN: return jinja_in(r, a, b);
    case OP_NOT_IN: return !jinja_in(r, a, b);
    default: c = jinja_cmp(r, a, b, names[op]);
    }
    if (c == 2) return false; /* NaN, or failed */
    return op == OP_LT ? c < 0 : op == OP_LE ? c <= 0 : op == OP_GT ? c > 0 : c >= 0;
}

static COLD value eval_compare(rt *r, const node *n) {
    value left = jinja_eval(r, n->a);
    bool data = left.data;
    for (const node *kid = n->kids; kid; kid = kid->next) {
        value right = jinja_eval(r, kid->a);
        r->line = n->line;
        if (r->failed) return v_none();
        data = data || right.data;
        if (!compare(r, (node_op)kid->op, left, right)) return v_bool(false, data);
        left = right;
    }
    return v_bool(true, data);
}

static COLD value eval_list(rt *r, const node *n) {
    seq *s = jinja_seq(r, n->kind == N_TUPLE ? SEQ_TUPLE : SEQ_LIST, (size_t)n->n_kids);
    for (const node *k = n->kids; k && !r->failed; k = k->next) jinja_push(r, s, jinja_eval(r, k));
    return v_seq(s);
}

static COLD value eval_dict(rt *r, const node *n) {
    dict *d = jinja_dict(r);
    for (const node *k = n->kids; k && k->next && !r->failed; k = k->next->next) {
        value key = jinja_eval(r, k);
        value v = jinja_eval(r, k->next);
        r->line = n->line;
        if (!r->failed) jinja_dict_set(r, d, key, v);
    }
    return v_dict(d);
}

static COLD value eval_concat(rt *r, const node *n) {
    value out = jinja_cstr(r, "");
    for (const node *k = n->kids; k && !r->failed; k = k->next) {
        value v = jinja_to_str(r, jinja_eval(r, k));
        if (r->failed) break;
        out = k == n->kids ? v : jinja_concat(r, out, v);
    }
    out.markup = false;
    return out;
}

static COLD value eval_binary(rt *r, const node *n) {
    value a = jinja_eval(r, n->a);
    if (r->failed) return a;
    value b = jinja_eval(r, n->b);
    r->line = n->line;
    return jinja_binary(r, (node_op)n->op, a, b);
}

static COLD value eval_cond(rt *r, const node *n) {
    value test = jinja_eval(r, n->a);
    if (r->failed) return test;
    if (jinja_true(test)) return jinja_eval(r, n->b);
    return n->c
               ? jinja_eval(r, n->c)
               : jinja_undef_hint(
                     r,
                     "the inline if-expression evaluated to false and no else section was defined");
}

value jinja_eval(rt *r, const node *n) {
    if (!tick(r)) return v_none();
    if (n->kind == N_CONST) return n->v;
    if (n->kind == N_NAME) return jinja_lookup(r, n->id);
    if (!jinja_enter(r)) return v_none();
    value v;
    r->line = n->line;
    switch ((node_kind)n->kind) {
    case N_LIST:
    case N_TUPLE: v = eval_list(r, n); break;
    case N_DICT: v = eval_dict(r, n); break;
    case N_ATTR:
        v = jinja_eval(r, n->a);
        r->line = n->line;
        if (!r->failed) v = jinja_attr(r, v, n->name, n->methods);
        break;
    case N_ITEM: v = eval_item(r, n); break;
    case N_CALL: v = jinja_eval_call(r, n, NULL); break;
    case N_FILTER: v = jinja_eval_filter(r, n); break;
    case N_TEST: v = jinja_eval_test(r, n); break;
    case N_BINARY: v = eval_binary(r, n); break;
    case N_CONCAT: v = eval_concat(r, n); break;
    case N_COMPARE: v = eval_compare(r, n); break;
    case N_AND:
        v = jinja_eval(r, n->a);
        if (jinja_true(v)) v = jinja_eval(r, n->b);
        break;
    case N_OR:
        v = jinja_eval(r, n->a);
        if (!jinja_true(v)) v = jinja_eval(r, n->b);
        break;
    case N_NOT:
        v = jinja_eval(r, n->a);
        v = v_bool(!jinja_true(v), v.data);
        break;
    case N_NEG:
    case N_POS: v = eval_sign(r, n); break;
    case N_COND: v = eval_cond(r, n); break;
    default: v = jinja_fail(r, "a slice stands alone"); /* a[1:2, 3] */
    }
    jinja_leave(r);
    return v;
}
