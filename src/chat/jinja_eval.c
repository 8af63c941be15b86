/* Runs a tree: scopes, statements, expressions, calls, and the door's render.
 *
 * Scopes are Jinja's: a loop's body, a macro, a with, set, filter or call block
 * have one of their own, an if has none; a name is looked up outwards, then
 * among the context's variables and the global functions. A loop's scope is
 * emptied for each round.
 *
 * The machine's stack: every function that recurses goes through jinja_enter,
 * and what is not needed while recursing is kept out of eval() and exec() so
 * that their frames stay small.
 */
#include "chat/jinja_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define COLD __attribute__((noinline))

static value eval(rt *r, const node *n);
static void exec(rt *r, const node *n);

/* ── Failing ── */

COLD value jinja_fail(rt *r, const char *fmt, ...) {
    if (!r->failed) {
        error e = {0};
        va_list ap;
        va_start(ap, fmt);
        error_vset(&e, ERR_TEMPLATE, NULL, fmt, ap);
        va_end(ap);
        size_t n = strlen(e.message);
        bool ended = n && strchr(".!?", e.message[n - 1]);
        error_set(r->err, ERR_TEMPLATE, NULL, "Template line %d: %s%s", r->line, e.message,
                  ended ? "" : ".");
    }
    r->failed = true;
    return v_none();
}

value jinja_raise(rt *r, str message) {
    if (!r->failed)
        error_set(r->err, ERR_TEMPLATE, NULL, "%.*s",
                  (int)(message.len < 4096 ? message.len : 4096), message.len ? message.ptr : "");
    r->failed = true;
    return v_none();
}

COLD bool jinja_out_of_steps(rt *r) {
    jinja_fail(r, "rendering takes more than %llu steps", (unsigned long long)r->lim.max_steps);
    return false;
}

bool jinja_enter(rt *r) {
    if (r->failed) return false;
    if (r->depth < r->lim.max_depth) {
        r->depth++;
        return true;
    }
    jinja_fail(r, "it is nested more than %d deep", r->lim.max_depth);
    return false;
}

/* ── Scopes ── */

static scope *push_scope(rt *r) {
    scope *s = jinja_alloc(r, 1, sizeof *s);
    if (!s) return NULL;
    s->parent = r->scope;
    r->scope = s;
    return s;
}

static void bind(rt *r, scope *s, int id, value v) {
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

static value lookup(rt *r, int id) {
    for (const scope *s = r->scope; s; s = s->parent)
        for (int i = 0; i < s->n; i++)
            if (s->vars[i].id == id) return s->vars[i].v;
    value v = r->globals[id];
    return given(v) ? v : jinja_undef(r, NULL, r->t->names[id], false);
}

static void assign(rt *r, const node *target, value v) {
    if (target->kind == N_NAME) {
        bind(r, r->scope, target->id, v);
    } else if (target->kind == N_NSATTR) {
        value ns = lookup(r, target->id);
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

/* ── Attributes and items ── */

static value loop_attr(rt *r, value obj, str name, bool *found) {
    const loop *l = obj.loop;
    int64_t at = (int64_t)l->at, n = (int64_t)l->n;
    *found = true;
    if (str_is(name, "index0")) return v_int(at, false);
    if (str_is(name, "index")) return v_int(at + 1, false);
    if (str_is(name, "first")) return v_bool(at == 0, false);
    if (str_is(name, "last")) return v_bool(at + 1 == n, false);
    if (str_is(name, "length")) return v_int(n, false);
    if (str_is(name, "revindex")) return v_int(n - at, false);
    if (str_is(name, "revindex0")) return v_int(n - at - 1, false);
    if (str_is(name, "depth")) return v_int(l->depth0 + 1, false);
    if (str_is(name, "depth0")) return v_int(l->depth0, false);
    if (str_is(name, "previtem"))
        return at > 0 ? l->items[at - 1] : jinja_undef_hint(r, "there is no previous item");
    if (str_is(name, "nextitem"))
        return at + 1 < n ? l->items[at + 1] : jinja_undef_hint(r, "there is no next item");
    *found = false;
    return v_none();
}

static value loop_cycle(rt *r, value self, value *a, const args *raw) {
    (void)a;
    if (!raw->n_pos) return jinja_fail(r, "no items for cycling given");
    return raw->pos[self.loop->at % (size_t)raw->n_pos];
}

static value loop_changed(rt *r, value self, value *a, const args *raw) {
    (void)a;
    seq *now = jinja_seq(r, SEQ_TUPLE, (size_t)raw->n_pos);
    for (int i = 0; i < raw->n_pos; i++) jinja_push(r, now, raw->pos[i]);
    bool same = given(self.loop->changed) && jinja_eq(r, self.loop->changed, v_seq(now));
    self.loop->changed = v_seq(now);
    return v_bool(!same, false);
}

static value cycler_next(rt *r, value self, value *a, const args *raw) {
    (void)r, (void)a, (void)raw;
    value v = self.cycler->items[self.cycler->at];
    self.cycler->at = (self.cycler->at + 1) % self.cycler->n;
    return v;
}

static value cycler_reset(rt *r, value self, value *a, const args *raw) {
    (void)r, (void)a, (void)raw;
    self.cycler->at = 0;
    return v_none();
}

static const builtin loop_methods[] = {{"cycle", loop_cycle, 0, "*"},
                                       {"changed", loop_changed, 0, "*"}};
static const builtin cycler_methods[] = {{"next", cycler_next, 0, ""},
                                         {"reset", cycler_reset, 0, ""}};

static value bound_method(rt *r, value self, const builtin *fn) {
    bound *m = jinja_alloc(r, 1, sizeof *m);
    if (!m) return v_none();
    *m = (bound){self, fn};
    return (value){.kind = V_METHOD, .data = self.data, .bound = m};
}

/* The method `name` of obj's type, or NULL; known[] are the three already looked up, if any. */
static const builtin *method_of_value(value obj, str name, const builtin *const *known) {
    method_of of;
    if (obj.kind == V_STR)
        of = METHOD_STR;
    else if (is_list(obj) ||
             ((is_tuple(obj) || (obj.kind == V_SEQ && obj.seq->type == SEQ_RANGE)) &&
              (str_is(name, "count") || str_is(name, "index"))))
        of = METHOD_LIST;
    else if (obj.kind == V_DICT)
        of = METHOD_DICT;
    else
        return NULL;
    return known ? known[of] : jinja_find_method(of, name);
}

/* obj.name without the fallback to obj['name']; V_MISSING when there is none. */
static value own_attr(rt *r, value obj, str name, const builtin *const *known) {
    const builtin *m = method_of_value(obj, name, known);
    bool found = false;
    if (m) return bound_method(r, obj, m);
    switch ((vkind)obj.kind) {
    case V_NAMESPACE: {
        value *v = jinja_dict_find_str(obj.dict, name);
        if (v) return *v;
        break;
    }
    case V_LOOP: {
        value v = loop_attr(r, obj, name, &found);
        if (found) return v;
        for (int i = 0; i < 2; i++)
            if (str_is(name, loop_methods[i].name)) return bound_method(r, obj, &loop_methods[i]);
        break;
    }
    case V_CYCLER:
        if (str_is(name, "current")) return obj.cycler->items[obj.cycler->at];
        for (int i = 0; i < 2; i++)
            if (str_is(name, cycler_methods[i].name))
                return bound_method(r, obj, &cycler_methods[i]);
        break;
    case V_SEQ:
        if (obj.seq->type == SEQ_GROUP && str_is(name, "grouper")) return obj.seq->items[0];
        if (obj.seq->type == SEQ_GROUP && str_is(name, "list")) return obj.seq->items[1];
        break;
    case V_MACRO:
        if (str_is(name, "name")) return jinja_str(r, obj.macro->def->name, false);
        break;
    default: break;
    }
    return (value){.kind = V_MISSING};
}

static value attr(rt *r, value obj, str name, const builtin *const *known) {
    if (obj.kind == V_UNDEF) return jinja_fail_undef(r, obj);
    value v = own_attr(r, obj, name, known);
    if (given(v)) return v;
    if (obj.kind == V_DICT) {
        value *item = jinja_dict_find_str(obj.dict, name);
        if (item) return *item;
    }
    return jinja_undef(r, jinja_object(obj), name, false);
}

value jinja_getattr(rt *r, value obj, str name) {
    return attr(r, obj, name, NULL);
}

static COLD value no_element(rt *r, value obj, value key) {
    if (key.kind == V_STR) return jinja_undef(r, jinja_object(obj), as_str(key), false);
    grow *g = jinja_grow(r);
    if (key.kind != V_SEQ && key.kind != V_DICT) jinja_repr(r, g, key);
    return jinja_undef(r, jinja_object(obj), str_make(g->ptr, g->len), true);
}

value jinja_getitem(rt *r, value obj, value key) {
    if (obj.kind == V_UNDEF) return jinja_fail_undef(r, obj);
    if (obj.kind == V_DICT) {
        if (key.kind == V_STR) {
            value *v = jinja_dict_find_str(obj.dict, as_str(key));
            if (v) return *v;
        } else if (key.kind != V_DICT &&
                   !(key.kind == V_SEQ && !is_tuple(key) && key.seq->type != SEQ_RANGE)) {
            value *v = jinja_dict_find(r, obj.dict, key);
            if (v) return *v;
        }
    } else if (is_int(key) &&
               (obj.kind == V_STR || (obj.kind == V_SEQ && obj.seq->type <= SEQ_RANGE))) {
        int64_t n = jinja_len(r, obj), at = as_int(key);
        if (at < 0) at += n;
        if (at >= 0 && at < n) {
            if (obj.kind == V_SEQ) return obj.seq->items[at];
            size_t begin = jinja_offset(obj, (size_t)at), end;
            jinja_char(as_str(obj), begin, &end);
            return charge(r, begin) ? jinja_sub(r, obj, begin, end) : v_none();
        }
    }
    if (key.kind == V_STR) {
        value v = own_attr(r, obj, as_str(key), NULL);
        if (given(v)) return v;
    }
    return no_element(r, obj, key);
}

static COLD value eval_item(rt *r, const node *n) {
    value obj = eval(r, n->a);
    const node *index = n->b;
    if (index->kind != N_SLICE) {
        value key = eval(r, index);
        r->line = n->line;
        return r->failed ? v_none() : jinja_getitem(r, obj, key);
    }
    value start = index->a ? eval(r, index->a) : v_none();
    value stop = index->b ? eval(r, index->b) : v_none();
    value step = index->c ? eval(r, index->c) : v_none();
    r->line = n->line;
    if (r->failed) return v_none();
    if (obj.kind == V_UNDEF) return jinja_fail_undef(r, obj);
    if (obj.kind == V_STR || (obj.kind == V_SEQ && obj.seq->type <= SEQ_RANGE))
        return jinja_slice(r, obj, start, stop, step);
    if (obj.kind == V_DICT) return jinja_fail(r, "unhashable type: 'slice'");
    return jinja_fail(r, "'%s' object is not subscriptable", jinja_type(obj));
}

/* ── Arithmetic ── */

static value overflow(rt *r) {
    return jinja_fail(r, "an integer does not fit into 64 bits");
}

static value int_pow(rt *r, int64_t base, int64_t exponent, bool data) {
    if (exponent < 0)
        return base == 0 ? jinja_fail(r, "0.0 cannot be raised to a negative power")
                         : v_float(pow((double)base, (double)exponent), data);
    int64_t out = 1;
    for (; exponent; exponent >>= 1) {
        if (exponent & 1 && __builtin_mul_overflow(out, base, &out)) return overflow(r);
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return overflow(r);
    }
    return v_int(out, data);
}

static value int_binary(rt *r, node_op op, int64_t a, int64_t b, bool data) {
    int64_t out;
    switch (op) {
    case OP_ADD: return __builtin_add_overflow(a, b, &out) ? overflow(r) : v_int(out, data);
    case OP_SUB: return __builtin_sub_overflow(a, b, &out) ? overflow(r) : v_int(out, data);
    case OP_MUL: return __builtin_mul_overflow(a, b, &out) ? overflow(r) : v_int(out, data);
    case OP_POW: return int_pow(r, a, b, data);
    default: break;
    }
    if (b == 0)
        return jinja_fail(r,
                          op == OP_DIV ? "division by zero" : "integer division or modulo by zero");
    if (op == OP_DIV) return v_float((double)((long double)a / (long double)b), data);
    if (b == -1) { /* INT64_MIN / -1 traps */
        if (op == OP_MOD) return v_int(0, data);
        return __builtin_sub_overflow((int64_t)0, a, &out) ? overflow(r) : v_int(out, data);
    }
    int64_t q = a / b, m = a % b;
    if (m && (m < 0) != (b < 0)) { /* Python rounds towards minus infinity */
        q--;
        m += b;
    }
    return v_int(op == OP_MOD ? m : q, data);
}

static value float_binary(rt *r, node_op op, double a, double b, bool data) {
    switch (op) {
    case OP_ADD: return v_float(a + b, data);
    case OP_SUB: return v_float(a - b, data);
    case OP_MUL: return v_float(a * b, data);
    case OP_POW: {
        double p = pow(a, b);
        if (a == 0 && b < 0) return jinja_fail(r, "0.0 cannot be raised to a negative power");
        if (isnan(p) && !isnan(a) && !isnan(b))
            return jinja_fail(r, "complex numbers are not supported");
        if (isinf(p) && !isinf(a) && !isinf(b))
            return jinja_fail(r, "Numerical result out of range");
        return v_float(p, data);
    }
    default: break;
    }
    if (b == 0) return jinja_fail(r, op == OP_DIV ? "float division by zero" : "float modulo");
    if (op == OP_DIV) return v_float(a / b, data);
    double m = fmod(a, b);
    if (m == 0)
        m = copysign(0, b);
    else if ((m < 0) != (b < 0))
        m += b;
    if (op == OP_MOD) return v_float(m, data);
    double quotient = floor((a - m) / b + 0.5);
    return v_float(quotient == 0 ? copysign(0, a / b) : quotient, data);
}

static value add_seqs(rt *r, value a, value b) {
    seq *out = jinja_seq(r, is_tuple(a) ? SEQ_TUPLE : SEQ_LIST, a.seq->n + b.seq->n);
    for (size_t i = 0; i < a.seq->n && !r->failed; i++) jinja_push(r, out, a.seq->items[i]);
    for (size_t i = 0; i < b.seq->n && !r->failed; i++) jinja_push(r, out, b.seq->items[i]);
    value v = v_seq(out);
    v.data = a.data || b.data;
    return v;
}

static value repeat(rt *r, value a, int64_t n) {
    if (a.kind == V_STR) return jinja_repeat(r, a, n);
    seq *out = jinja_seq(r, is_tuple(a) ? SEQ_TUPLE : SEQ_LIST, 0);
    for (int64_t k = 0; a.seq->n && k < n && !r->failed; k++)
        for (size_t i = 0; i < a.seq->n && !r->failed; i++) jinja_push(r, out, a.seq->items[i]);
    value v = v_seq(out);
    v.data = a.data;
    return v;
}

static COLD value no_such_operation(rt *r, node_op op, value a, value b) {
    static const char *const names[] = {
        [OP_ADD] = "+",       [OP_SUB] = "-", [OP_MUL] = "*",          [OP_DIV] = "/",
        [OP_FLOORDIV] = "//", [OP_MOD] = "%", [OP_POW] = "** or pow()"};
    if (a.kind == V_UNDEF) return jinja_fail_undef(r, a);
    if (b.kind == V_UNDEF) return jinja_fail_undef(r, b);
    if (op == OP_ADD && (a.kind == V_STR || is_list(a) || is_tuple(a)))
        return jinja_fail(r, "can only concatenate %s (not \"%s\") to %s", jinja_type(a),
                          jinja_type(b), jinja_type(a));
    return jinja_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", names[op],
                      jinja_type(a), jinja_type(b));
}

COLD value jinja_binary(rt *r, node_op op, value a, value b) {
    bool data = a.data || b.data;
    if (r->failed) return v_none();
    if (op == OP_ADD && a.kind == V_STR && b.kind == V_STR) {
        if (a.markup || b.markup) {
            a = jinja_escape(r, a);
            b = jinja_escape(r, b);
            if (r->failed) return v_none();
        }
        return jinja_concat(r, a, b);
    }
    if (is_int(a) && is_int(b)) return int_binary(r, op, as_int(a), as_int(b), data);
    if (is_number(a) && is_number(b)) return float_binary(r, op, as_float(a), as_float(b), data);
    if (op == OP_ADD && ((is_list(a) && is_list(b)) || (is_tuple(a) && is_tuple(b))))
        return add_seqs(r, a, b);
    if (op == OP_MOD && a.kind == V_STR) return jinja_percent(r, a, b);
    if (op == OP_MUL && is_int(b) && (a.kind == V_STR || is_list(a) || is_tuple(a)))
        return repeat(r, a, as_int(b));
    if (op == OP_MUL && is_int(a) && (b.kind == V_STR || is_list(b) || is_tuple(b)))
        return repeat(r, b, as_int(a));
    return no_such_operation(r, op, a, b);
}

static COLD value eval_sign(rt *r, const node *n) {
    value v = eval(r, n->a);
    r->line = n->line;
    if (r->failed) return v_none();
    if (v.kind == V_FLOAT) return v_float(n->kind == N_NEG ? -v.f : v.f, v.data);
    if (is_int(v))
        return n->kind == N_NEG ? int_binary(r, OP_SUB, 0, as_int(v), v.data)
                                : v_int(as_int(v), v.data);
    if (v.kind == V_UNDEF) return jinja_fail_undef(r, v);
    return jinja_fail(r, "bad operand type for unary %c: '%s'", n->kind == N_NEG ? '-' : '+',
                      jinja_type(v));
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
    value left = eval(r, n->a);
    bool data = left.data;
    for (const node *kid = n->kids; kid; kid = kid->next) {
        value right = eval(r, kid->a);
        r->line = n->line;
        if (r->failed) return v_none();
        data = data || right.data;
        if (!compare(r, (node_op)kid->op, left, right)) return v_bool(false, data);
        left = right;
    }
    return v_bool(true, data);
}

/* ── Calls ── */

value jinja_call_builtin(rt *r, const builtin *fn, const char *what, value self, const args *in) {
    value a[BUILTIN_MAX_PARAMS];
    if (r->failed) return v_none();
    if (fn->params[0] == '*') return fn->fn(r, self, NULL, in);
    int n = 0, n_named = 0;
    for (const char *p = fn->params; *p && n < BUILTIN_MAX_PARAMS; n++) {
        size_t len = strcspn(p, " ");
        a[n] = n < in->n_pos ? in->pos[n] : (value){.kind = V_MISSING};
        for (int k = 0; k < in->n_kw && n >= in->n_pos; k++)
            if (str_eq(in->kw[k].name, str_make(p, len))) {
                if (!given(a[n])) n_named++;
                a[n] = in->kw[k].v;
            }
        if (!given(a[n]) && n < fn->n_required)
            return jinja_fail(r, "%s '%s' misses its argument '%.*s'", what, fn->name,
                              (int)strcspn(p, " /"), p);
        p += len + (p[len] == ' ');
    }
    if (in->n_pos > n)
        return jinja_fail(r, "%s '%s' takes at most %d arguments (%d given)", what, fn->name, n,
                          in->n_pos);
    if (n_named < in->n_kw) {
        for (int k = 0; k < in->n_kw; k++) {
            bool known = false;
            const char *p = fn->params;
            for (int i = 0; *p; i++) {
                size_t len = strcspn(p, " ");
                if (i >= in->n_pos && str_eq(in->kw[k].name, str_make(p, len))) known = true;
                p += len + (p[len] == ' ');
            }
            if (!known)
                return jinja_fail(
                    r, "%s '%s' got an unexpected keyword argument '%.*s'", what, fn->name,
                    (int)(in->kw[k].name.len < 80 ? in->kw[k].name.len : 80), in->kw[k].name.ptr);
        }
    }
    return fn->fn(r, self, a, in);
}

/* Evaluates the arguments among n's kids into *out; `extra` (or NULL) is one more named argument. */
static COLD void eval_args(rt *r, const node *n, const kwarg *extra, args *out) {
    *out = (args){0};
    int n_pos = 0, n_kw = extra != NULL;
    bool stars = false;
    for (const node *k = n->kids; k; k = k->next) {
        if (k->kind == N_KWARG)
            n_kw++;
        else if (k->kind == N_STAR || k->kind == N_DSTAR)
            stars = true;
        else
            n_pos++;
    }
    if (n_pos) out->pos = jinja_alloc(r, (size_t)n_pos, sizeof *out->pos);
    if (n_kw) out->kw = jinja_alloc(r, (size_t)n_kw, sizeof *out->kw);
    if (r->failed) return;
    seq *pos = stars ? jinja_seq(r, SEQ_LIST, (size_t)n_pos) : NULL;
    dict *kw = stars ? jinja_dict(r) : NULL;
    for (const node *k = n->kids; k && !r->failed; k = k->next) {
        if (k->kind == N_KWARG) {
            out->kw[out->n_kw++] = (kwarg){k->name, eval(r, k->a)};
        } else if (k->kind == N_STAR) {
            seq *more = jinja_iter(r, eval(r, k->a));
            for (size_t i = 0; more && i < more->n && !r->failed; i++)
                jinja_push(r, pos, more->items[i]);
        } else if (k->kind == N_DSTAR) {
            value v = eval(r, k->a);
            if (v.kind != V_DICT)
                jinja_fail(r, "argument after ** must be a mapping, not %s", jinja_type(v));
            for (size_t i = 0; v.kind == V_DICT && i < v.dict->n && !r->failed; i++) {
                if (v.dict->e[i].key.kind != V_STR)
                    jinja_fail(r, "keywords must be strings");
                else
                    jinja_dict_set(r, kw, v.dict->e[i].key, v.dict->e[i].val);
            }
        } else if (stars) {
            jinja_push(r, pos, eval(r, k));
        } else {
            out->pos[out->n_pos++] = eval(r, k);
        }
    }
    if (extra && !r->failed) out->kw[out->n_kw++] = *extra;
    if (stars && !r->failed) {
        kwarg *all = jinja_alloc(r, (size_t)out->n_kw + kw->n, sizeof *all);
        if (!all || pos->n > 1 << 20 || kw->n > 1 << 20) {
            jinja_fail(r, "too many arguments");
            return;
        }
        if (out->n_kw) memcpy(all, out->kw, (size_t)out->n_kw * sizeof *all);
        for (size_t i = 0; i < kw->n; i++)
            all[out->n_kw++] = (kwarg){as_str(kw->e[i].key), kw->e[i].val};
        out->kw = all;
        out->pos = pos->items;
        out->n_pos = (int)pos->n;
    }
}

/* Runs a body with its output caught; the scope is the caller's business. */
static value capture(rt *r, const node *body) {
    grow *outer = r->out;
    r->out = jinja_grow(r);
    exec(r, body);
    value v = jinja_grown(r, r->out);
    r->out = outer;
    return v;
}

static void bind_params(rt *r, const node *def, const args *in) {
    int at = 0, n_used = 0;
    bool own_caller = false;
    for (const node *p = def->params; p && !r->failed; p = p->next, at++) {
        value v = {.kind = V_MISSING};
        if (at < in->n_pos) {
            v = in->pos[at];
        } else {
            for (int k = 0; k < in->n_kw; k++)
                if (str_eq(in->kw[k].name, p->name)) v = in->kw[k].v;
            n_used += given(v);
        }
        if (!given(v) && p->a) v = eval(r, p->a);
        if (!given(v)) {
            v = jinja_undef(r, NULL, p->name, false);
            if (!r->failed) v.undef->hint = NULL;
        }
        own_caller = own_caller || p->id == r->t->id_caller;
        bind(r, r->scope, p->id, v);
    }
    if (r->failed) return;
    str caller = STR("caller");
    if ((def->op & MACRO_CALLER) && !own_caller) {
        value v = {.kind = V_MISSING};
        for (int k = 0; k < in->n_kw; k++)
            if (str_eq(in->kw[k].name, caller)) v = in->kw[k].v;
        n_used += given(v);
        bind(r, r->scope, r->t->id_caller, given(v) ? v : jinja_undef_hint(r, "No caller defined"));
    }
    if (def->op & MACRO_VARARGS) {
        seq *rest = jinja_seq(r, SEQ_TUPLE, 0);
        for (int i = at; i < in->n_pos && !r->failed; i++) jinja_push(r, rest, in->pos[i]);
        bind(r, r->scope, r->t->id_varargs, v_seq(rest));
    } else if (in->n_pos > at) {
        jinja_fail(r, "macro '%.*s' takes not more than %d argument(s)", STR_ARG(def->name), at);
    }
    if (!(def->op & MACRO_KWARGS) && n_used >= in->n_kw) return;
    dict *rest = jinja_dict(r);
    for (int k = 0; k < in->n_kw && !r->failed; k++) {
        bool used = (def->op & MACRO_CALLER) && str_eq(in->kw[k].name, caller);
        int i = 0;
        for (const node *p = def->params; p; p = p->next, i++)
            used = used || (i >= in->n_pos && str_eq(in->kw[k].name, p->name));
        if (used) continue;
        if (!(def->op & MACRO_KWARGS)) {
            jinja_fail(r, "macro '%.*s' takes no keyword argument '%.*s'", STR_ARG(def->name),
                       STR_ARG(in->kw[k].name));
            return;
        }
        jinja_dict_set(r, rest, jinja_str(r, in->kw[k].name, false), in->kw[k].v);
    }
    if (def->op & MACRO_KWARGS) bind(r, r->scope, r->t->id_kwargs, v_dict(rest));
}

static COLD value call_macro(rt *r, const macro *m, const args *in) {
    if (!jinja_enter(r)) return v_none();
    scope *outer = r->scope;
    int line = r->line;
    value v = v_none();
    r->scope = m->scope;
    if (push_scope(r)) {
        bind_params(r, m->def, in);
        if (!r->failed) v = capture(r, m->def->kids);
        if (r->flow != FLOW_ON) r->flow = FLOW_ON;
    }
    r->scope = outer;
    if (!r->failed) r->line = line;
    jinja_leave(r);
    return v;
}

static void run_loop(rt *r, const node *n, value iterable, int depth0);

static COLD value call_loop(rt *r, const loop *l, const args *in) {
    if (!l->def->op) return jinja_fail(r, "the loop must have the 'recursive' marker to be called");
    if (in->n_pos != 1 || in->n_kw) return jinja_fail(r, "loop() takes one argument");
    if (!jinja_enter(r)) return v_none();
    scope *scope_here = r->scope;
    grow *outer = r->out;
    r->scope = l->outer;
    r->out = jinja_grow(r);
    run_loop(r, l->def, in->pos[0], l->depth0 + 1);
    value v = jinja_grown(r, r->out);
    r->out = outer;
    r->scope = scope_here;
    jinja_leave(r);
    return v;
}

static value call_value(rt *r, value f, const args *in) {
    switch ((vkind)f.kind) {
    case V_MACRO: return call_macro(r, f.macro, in);
    case V_BUILTIN: return jinja_call_builtin(r, f.builtin, "function", v_none(), in);
    case V_METHOD: return jinja_call_builtin(r, f.bound->fn, "method", f.bound->self, in);
    case V_LOOP: return call_loop(r, f.loop, in);
    case V_JOINER: {
        value v = f.joiner->used ? f.joiner->sep : jinja_cstr(r, "");
        f.joiner->used = true;
        return v;
    }
    case V_UNDEF: return jinja_fail_undef(r, f);
    default: return jinja_fail(r, "'%s' object is not callable", jinja_type(f));
    }
}

static COLD value eval_call(rt *r, const node *n, const kwarg *extra) {
    const node *callee = n->a;
    args in;
    if (callee->kind == N_ATTR) { /* a method is called without making a value of it */
        value self = eval(r, callee->a);
        const builtin *fn = r->failed ? NULL : method_of_value(self, callee->name, callee->methods);
        value f = fn || r->failed ? v_none() : attr(r, self, callee->name, callee->methods);
        if (r->failed) return v_none();
        eval_args(r, n, extra, &in);
        r->line = n->line;
        if (r->failed) return v_none();
        return fn ? jinja_call_builtin(r, fn, "method", self, &in) : call_value(r, f, &in);
    }
    value f = eval(r, callee);
    if (r->failed) return v_none();
    eval_args(r, n, extra, &in);
    r->line = n->line;
    return r->failed ? v_none() : call_value(r, f, &in);
}

static COLD value eval_filter(rt *r, const node *n) {
    value self = n->a ? eval(r, n->a) : r->block_text;
    args in;
    if (!r->failed) eval_args(r, n, NULL, &in);
    r->line = n->line;
    if (r->failed) return v_none();
    if (!n->fn)
        return jinja_fail(r, "No filter named '%.*s'", (int)(n->name.len < 80 ? n->name.len : 80),
                          n->name.ptr);
    return jinja_call_builtin(r, n->fn, "filter", self, &in);
}

static COLD value eval_test(rt *r, const node *n) {
    value self = eval(r, n->a);
    args in;
    if (!r->failed) eval_args(r, n, NULL, &in);
    r->line = n->line;
    if (r->failed) return v_none();
    if (!n->fn)
        return jinja_fail(r, "No test named '%.*s'", (int)(n->name.len < 80 ? n->name.len : 80),
                          n->name.ptr);
    value v = jinja_call_builtin(r, n->fn, "test", self, &in);
    return v_bool(jinja_true(v) != n->op, false);
}

/* ── Expressions ── */

static COLD value eval_list(rt *r, const node *n) {
    seq *s = jinja_seq(r, n->kind == N_TUPLE ? SEQ_TUPLE : SEQ_LIST, (size_t)n->n_kids);
    for (const node *k = n->kids; k && !r->failed; k = k->next) jinja_push(r, s, eval(r, k));
    return v_seq(s);
}

static COLD value eval_dict(rt *r, const node *n) {
    dict *d = jinja_dict(r);
    for (const node *k = n->kids; k && k->next && !r->failed; k = k->next->next) {
        value key = eval(r, k);
        value v = eval(r, k->next);
        r->line = n->line;
        if (!r->failed) jinja_dict_set(r, d, key, v);
    }
    return v_dict(d);
}

static COLD value eval_concat(rt *r, const node *n) {
    value out = jinja_cstr(r, "");
    for (const node *k = n->kids; k && !r->failed; k = k->next) {
        value v = jinja_to_str(r, eval(r, k));
        if (r->failed) break;
        out = k == n->kids ? v : jinja_concat(r, out, v);
    }
    out.markup = false;
    return out;
}

static COLD value eval_binary(rt *r, const node *n) {
    value a = eval(r, n->a);
    if (r->failed) return a;
    value b = eval(r, n->b);
    r->line = n->line;
    return jinja_binary(r, (node_op)n->op, a, b);
}

static COLD value eval_cond(rt *r, const node *n) {
    value test = eval(r, n->a);
    if (r->failed) return test;
    if (jinja_true(test)) return eval(r, n->b);
    return n->c
               ? eval(r, n->c)
               : jinja_undef_hint(
                     r,
                     "the inline if-expression evaluated to false and no else section was defined");
}

static value eval(rt *r, const node *n) {
    if (!tick(r)) return v_none();
    if (n->kind == N_CONST) return n->v;
    if (n->kind == N_NAME) return lookup(r, n->id);
    if (!jinja_enter(r)) return v_none();
    value v;
    r->line = n->line;
    switch ((node_kind)n->kind) {
    case N_LIST:
    case N_TUPLE: v = eval_list(r, n); break;
    case N_DICT: v = eval_dict(r, n); break;
    case N_ATTR:
        v = eval(r, n->a);
        r->line = n->line;
        if (!r->failed) v = attr(r, v, n->name, n->methods);
        break;
    case N_ITEM: v = eval_item(r, n); break;
    case N_CALL: v = eval_call(r, n, NULL); break;
    case N_FILTER: v = eval_filter(r, n); break;
    case N_TEST: v = eval_test(r, n); break;
    case N_BINARY: v = eval_binary(r, n); break;
    case N_CONCAT: v = eval_concat(r, n); break;
    case N_COMPARE: v = eval_compare(r, n); break;
    case N_AND:
        v = eval(r, n->a);
        if (jinja_true(v)) v = eval(r, n->b);
        break;
    case N_OR:
        v = eval(r, n->a);
        if (!jinja_true(v)) v = eval(r, n->b);
        break;
    case N_NOT:
        v = eval(r, n->a);
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

/* ── Statements ── */

static COLD void run_loop(rt *r, const node *n, value iterable, int depth0) {
    seq *items = jinja_iter(r, iterable);
    scope *outer = r->scope;
    if (!items || !push_scope(r)) return;
    scope *s = r->scope;
    if (n->c) {
        size_t kept = 0;
        for (size_t i = 0; i < items->n && tick(r); i++) {
            s->n = 0;
            assign(r, n->a, items->items[i]);
            if (!r->failed && jinja_true(eval(r, n->c))) items->items[kept++] = items->items[i];
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
        bind(r, s, r->t->id_loop, (value){.kind = V_LOOP, .loop = l});
        assign(r, n->a, items->items[i]);
        r->scope = s;
        if (!r->failed) exec(r, n->kids);
        bool stop = r->flow == FLOW_BREAK;
        r->flow = FLOW_ON;
        if (stop) break;
    }
    if (!r->failed && !items->n && n->body2) {
        s->n = 0;
        exec(r, n->body2);
    }
    r->scope = outer;
}

static COLD void exec_if(rt *r, const node *n) {
    for (; n && !r->failed; n = n->c) {
        if (jinja_true(eval(r, n->a))) {
            if (!r->failed) exec(r, n->kids);
            return;
        }
        if (!n->c && n->body2 && !r->failed) exec(r, n->body2);
    }
}

/* Filters of a filter or set block over what its body wrote. */
static value filter_text(rt *r, const node *filters, value text) {
    if (!filters || r->failed) return text;
    value outer = r->block_text;
    r->block_text = text;
    value v = eval(r, filters);
    r->block_text = outer;
    return v;
}

static COLD void exec_block(rt *r, const node *n) {
    scope *outer = r->scope;
    if (n->kind == N_WITH) {
        scope *inner = push_scope(r);
        for (const node *set = n->params; set && !r->failed; set = set->next) {
            r->scope = outer; /* the values do not see each other */
            value v = eval(r, set->b);
            r->scope = inner;
            if (!r->failed) assign(r, set->a, v);
        }
    } else {
        push_scope(r);
    }
    if (r->failed) return;
    if (n->kind == N_WITH || n->kind == N_SCOPE) {
        exec(r, n->kids);
        r->scope = outer;
        return;
    }
    value v = capture(r, n->kids);
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
    value v = eval_call(r, n->a, &caller);
    if (!r->failed) jinja_print(r, r->out, v);
}

static void exec(rt *r, const node *n) {
    if (!n || !jinja_enter(r)) return;
    for (; n && r->flow == FLOW_ON && tick(r); n = n->next) {
        r->line = n->line;
        switch ((node_kind)n->kind) {
        case N_TEXT: jinja_put_str(r, r->out, n->v); break;
        case N_PRINT: jinja_print(r, r->out, eval(r, n->a)); break;
        case N_IF: exec_if(r, n); break;
        case N_FOR: {
            value items = eval(r, n->b);
            if (!r->failed) run_loop(r, n, items, 0);
            break;
        }
        case N_SET: {
            value v = eval(r, n->b);
            r->line = n->line;
            if (!r->failed) assign(r, n->a, v);
            break;
        }
        case N_SETBLOCK:
        case N_FILTERBLOCK:
        case N_WITH:
        case N_SCOPE: exec_block(r, n); break;
        case N_MACRO: bind(r, r->scope, n->id, new_macro(r, n)); break;
        case N_CALLBLOCK: exec_call_block(r, n); break;
        case N_BREAK: r->flow = FLOW_BREAK; break;
        case N_CONTINUE: r->flow = FLOW_CONTINUE; break;
        default: break;
        }
    }
    jinja_leave(r);
}

/* ── The door ── */

static void fill_globals(rt *r) {
    r->globals = jinja_alloc(r, (size_t)r->t->n_names, sizeof *r->globals);
    for (int id = 0; id < r->t->n_names && !r->failed; id++) {
        str name = r->t->names[id];
        const json_t *j = json_object_getn(r->context, name.ptr, name.len);
        if (j) {
            r->globals[id] = jinja_from_json(r, j, name);
        } else {
            const builtin *fn = jinja_find_global(name);
            if (fn) r->globals[id] = (value){.kind = V_BUILTIN, .builtin = fn};
        }
    }
}

static void copy_out(const grow *g, jinja_output *out) {
    *out = (jinja_output){0};
    buf_append(&out->text, g->ptr, g->len);
    size_t n = 0;
    for (size_t i = 0; g->mask && i < g->len; i++) n += g->mask[i] && (!i || !g->mask[i - 1]);
    if (!g->mask) n = g->len && !g->data;
    out->trusted = calloc(n ? n : 1, sizeof *out->trusted);
    if (!out->trusted) {
        out->text.failed = true;
        return;
    }
    if (!g->mask) {
        if (n) out->trusted[out->n_trusted++] = (tok_span){0, g->len};
        return;
    }
    for (size_t i = 0; i < g->len; i++) {
        if (!g->mask[i]) continue;
        size_t begin = i;
        while (i < g->len && g->mask[i]) i++;
        out->trusted[out->n_trusted++] = (tok_span){begin, i};
    }
}

bool jinja_render(const jinja *t, const json_t *context, const jinja_opts *opts, jinja_output *out,
                  error *err) {
    rt r = {.t = t, .err = err, .opts = opts, .context = context, .line = 1};
    if (opts) r.lim = opts->limits;
    if (!r.lim.max_steps) r.lim.max_steps = 20 * 1000 * 1000;
    if (r.lim.max_depth <= 0) r.lim.max_depth = 1000;
    if (!r.lim.max_output_bytes) r.lim.max_output_bytes = 16u << 20;
    if (!r.lim.max_memory_bytes) r.lim.max_memory_bytes = 128u << 20;
    arena_init(&r.mem, r.lim.max_memory_bytes);
    r.block_text = jinja_cstr(&r, "");
    fill_globals(&r);
    r.out = jinja_grow(&r);
    if (!r.failed) {
        r.out->max = r.lim.max_output_bytes;
        push_scope(&r);
        exec(&r, t->body);
    }
    if (!r.failed) {
        copy_out(r.out, out);
        if (out->text.failed) {
            jinja_output_deinit(out);
            r.failed = true;
            error_set(err, ERR_NO_MEMORY, NULL,
                      "Memory ran out while rendering the chat template.");
        }
    }
    /* Otherwise the message says which of the template's limits was reached. */
    if (r.failed && r.mem.no_memory) {
        if (err) *err = (error){0};
        error_set(err, ERR_NO_MEMORY, NULL, "Memory ran out while rendering the chat template.");
    }
    arena_deinit(&r.mem);
    return !r.failed;
}

void jinja_output_deinit(jinja_output *out) {
    buf_deinit(&out->text);
    free(out->trusted);
    *out = (jinja_output){0};
}
