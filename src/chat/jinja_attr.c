/* obj.name and obj[key]: attributes, methods and items of every type, those of
 * `loop` and cycler included. Refuses nothing by itself: what is not there is
 * undefined, as in Jinja.
 */
#include "chat/jinja_run.h"

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
const builtin *jinja_method_of(value obj, str name, const builtin *const *known) {
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
    const builtin *m = jinja_method_of(obj, name, known);
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

value jinja_attr(rt *r, value obj, str name, const builtin *const *known) {
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
    return jinja_attr(r, obj, name, NULL);
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
