/* Calls: arguments as written to the parameters of a C function, a macro or a
 * recursive loop. Filters and tests are calls of C functions too.
 */
#include "chat/jinja_run.h"

int64_t jinja_whole(rt *r, value v, int64_t fallback) {
    if (!given(v)) return fallback;
    if (is_int(v)) return as_int(v);
    if (v.kind == V_UNDEF)
        jinja_fail_undef(r, v);
    else
        jinja_fail(r, "'%s' object cannot be interpreted as an integer", jinja_type(v));
    return fallback;
}

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
            out->kw[out->n_kw++] = (kwarg){k->name, jinja_eval(r, k->a)};
        } else if (k->kind == N_STAR) {
            seq *more = jinja_iter(r, jinja_eval(r, k->a));
            for (size_t i = 0; more && i < more->n && !r->failed; i++)
                jinja_push(r, pos, more->items[i]);
        } else if (k->kind == N_DSTAR) {
            value v = jinja_eval(r, k->a);
            if (v.kind != V_DICT)
                jinja_fail(r, "argument after ** must be a mapping, not %s", jinja_type(v));
            for (size_t i = 0; v.kind == V_DICT && i < v.dict->n && !r->failed; i++) {
                if (v.dict->e[i].key.kind != V_STR)
                    jinja_fail(r, "keywords must be strings");
                else
                    jinja_dict_set(r, kw, v.dict->e[i].key, v.dict->e[i].val);
            }
        } else if (stars) {
            jinja_push(r, pos, jinja_eval(r, k));
        } else {
            out->pos[out->n_pos++] = jinja_eval(r, k);
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
        if (!given(v) && p->a) v = jinja_eval(r, p->a);
        if (!given(v)) {
            v = jinja_undef(r, NULL, p->name, false);
            if (!r->failed) v.undef->hint = NULL;
        }
        own_caller = own_caller || p->id == r->t->id_caller;
        jinja_bind(r, r->scope, p->id, v);
    }
    if (r->failed) return;
    str caller = STR("caller");
    if ((def->op & MACRO_CALLER) && !own_caller) {
        value v = {.kind = V_MISSING};
        for (int k = 0; k < in->n_kw; k++)
            if (str_eq(in->kw[k].name, caller)) v = in->kw[k].v;
        n_used += given(v);
        jinja_bind(r, r->scope, r->t->id_caller,
                   given(v) ? v : jinja_undef_hint(r, "No caller defined"));
    }
    if (def->op & MACRO_VARARGS) {
        seq *rest = jinja_seq(r, SEQ_TUPLE, 0);
        for (int i = at; i < in->n_pos && !r->failed; i++) jinja_push(r, rest, in->pos[i]);
        jinja_bind(r, r->scope, r->t->id_varargs, v_seq(rest));
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
    if (def->op & MACRO_KWARGS) jinja_bind(r, r->scope, r->t->id_kwargs, v_dict(rest));
}

static COLD value call_macro(rt *r, const macro *m, const args *in) {
    if (!jinja_enter(r)) return v_none();
    scope *outer = r->scope;
    int line = r->line;
    value v = v_none();
    r->scope = m->scope;
    if (jinja_push_scope(r)) {
        bind_params(r, m->def, in);
        if (!r->failed) v = jinja_capture(r, m->def->kids);
        if (r->flow != FLOW_ON) r->flow = FLOW_ON;
    }
    r->scope = outer;
    if (!r->failed) r->line = line;
    jinja_leave(r);
    return v;
}

static COLD value call_loop(rt *r, const loop *l, const args *in) {
    if (!l->def->op) return jinja_fail(r, "the loop must have the 'recursive' marker to be called");
    if (in->n_pos != 1 || in->n_kw) return jinja_fail(r, "loop() takes one argument");
    if (!jinja_enter(r)) return v_none();
    scope *scope_here = r->scope;
    grow *outer = r->out;
    r->scope = l->outer;
    r->out = jinja_grow(r);
    jinja_run_loop(r, l->def, in->pos[0], l->depth0 + 1);
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

COLD value jinja_eval_call(rt *r, const node *n, const kwarg *extra) {
    const node *callee = n->a;
    args in;
    if (callee->kind == N_ATTR) { /* a method is called without making a value of it */
        value self = jinja_eval(r, callee->a);
        const builtin *fn = r->failed ? NULL : jinja_method_of(self, callee->name, callee->methods);
        value f = fn || r->failed ? v_none() : jinja_attr(r, self, callee->name, callee->methods);
        if (r->failed) return v_none();
        eval_args(r, n, extra, &in);
        r->line = n->line;
        if (r->failed) return v_none();
        return fn ? jinja_call_builtin(r, fn, "method", self, &in) : call_value(r, f, &in);
    }
    value f = jinja_eval(r, callee);
    if (r->failed) return v_none();
    eval_args(r, n, extra, &in);
    r->line = n->line;
    return r->failed ? v_none() : call_value(r, f, &in);
}

/* what: "filter" or "test", which was found while parsing, or was not. */
static value call_named(rt *r, const node *n, const char *what, value self) {
    args in;
    if (!r->failed) eval_args(r, n, NULL, &in);
    r->line = n->line;
    if (r->failed) return v_none();
    if (!n->fn)
        return jinja_fail(r, "No %s named '%.*s'", what, (int)(n->name.len < 80 ? n->name.len : 80),
                          n->name.ptr);
    return jinja_call_builtin(r, n->fn, what, self, &in);
}

COLD value jinja_eval_filter(rt *r, const node *n) {
    return call_named(r, n, "filter", n->a ? jinja_eval(r, n->a) : r->block_text);
}

COLD value jinja_eval_test(rt *r, const node *n) {
    value v = call_named(r, n, "test", jinja_eval(r, n->a));
    return r->failed ? v_none() : v_bool(jinja_true(v) != n->op, false);
}
