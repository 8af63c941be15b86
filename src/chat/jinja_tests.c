/* Tests, what stands behind `is`: Jinja's own. The table at the end names them.
 */
#include "chat/jinja_filters.h"

#define TEST(name, expr)              \
    FILTER(name) {                    \
        UNUSED;                       \
        return v_bool((expr), false); \
    }

static value remainder_of(rt *r, value self, value by) {
    return jinja_binary(r, OP_MOD, self, by);
}
static bool zero(rt *r, value v) {
    return !r->failed && is_number(v) && as_float(v) == 0;
}
static bool ordered(rt *r, value x, value y, const char *op) {
    int c = jinja_cmp(r, x, y, op);
    if (c == 2) return false;
    return op[0] == '<' ? (op[1] ? c <= 0 : c < 0) : (op[1] ? c >= 0 : c > 0);
}
static bool is_callable(value v) {
    return (v.kind >= V_MACRO && v.kind <= V_LOOP) || v.kind == V_JOINER;
}
static bool same(value x, value y) {
    if (x.kind != y.kind) return false;
    switch ((vkind)x.kind) {
    case V_NONE: return true;
    case V_BOOL: return x.b == y.b;
    case V_INT: return x.i == y.i;
    case V_FLOAT: return x.f == y.f;
    case V_STR: return str_eq(as_str(x), as_str(y));
    default: return x.s == y.s;
    }
}

TEST(t_boolean, self.kind == V_BOOL)
TEST(t_callable,
     is_callable(self) || self.kind == V_UNDEF) /* undefined has a call: one that fails */
TEST(t_defined, self.kind != V_UNDEF)
TEST(t_undefined, self.kind == V_UNDEF)
TEST(t_divisibleby, zero(r, remainder_of(r, self, a[0])))
TEST(t_eq, jinja_eq(r, self, a[0]))
TEST(t_ne, !jinja_eq(r, self, a[0]))
TEST(t_ge, ordered(r, self, a[0], ">="))
TEST(t_gt, ordered(r, self, a[0], ">"))
TEST(t_le, ordered(r, self, a[0], "<="))
TEST(t_lt, ordered(r, self, a[0], "<"))
TEST(t_in, jinja_in(r, self, a[0]))
TEST(t_escaped, self.kind == V_STR && self.markup)
TEST(t_even, zero(r, remainder_of(r, self, v_int(2, false))))
TEST(t_odd,
     jinja_eq(r, remainder_of(r, self, v_int(2, false)), v_int(1, false))) /* 2.5 is neither */
TEST(t_false, self.kind == V_BOOL && !self.b)
TEST(t_true, self.kind == V_BOOL && self.b)
TEST(t_filter, jinja_find_filter(as_str(self)) != NULL)
TEST(t_test, jinja_find_test(as_str(self)) != NULL)
TEST(t_float, self.kind == V_FLOAT)
TEST(t_integer, self.kind == V_INT)
TEST(t_number, is_number(self))
TEST(t_iterable,
     self.kind == V_UNDEF || self.kind == V_STR || self.kind == V_SEQ || self.kind == V_DICT)
TEST(t_sequence, self.kind == V_UNDEF || self.kind == V_STR || self.kind == V_DICT ||
                     (self.kind == V_SEQ && self.seq->type <= SEQ_RANGE))
TEST(t_mapping, self.kind == V_DICT)
TEST(t_none, self.kind == V_NONE)
TEST(t_string, self.kind == V_STR)
TEST(t_lower, jinja_is_case(jinja_to_str(r, self), false))
TEST(t_upper, jinja_is_case(jinja_to_str(r, self), true))
TEST(t_sameas, same(self, a[0]))

static const builtin tests[] = {
    {"!=", t_ne, 1, "other"},
    {"<", t_lt, 1, "other"},
    {"<=", t_le, 1, "other"},
    {"==", t_eq, 1, "other"},
    {">", t_gt, 1, "other"},
    {">=", t_ge, 1, "other"},
    {"boolean", t_boolean, 0, ""},
    {"callable", t_callable, 0, ""},
    {"defined", t_defined, 0, ""},
    {"divisibleby", t_divisibleby, 1, "num"},
    {"eq", t_eq, 1, "other"},
    {"equalto", t_eq, 1, "other"},
    {"escaped", t_escaped, 0, ""},
    {"even", t_even, 0, ""},
    {"false", t_false, 0, ""},
    {"filter", t_filter, 0, ""},
    {"float", t_float, 0, ""},
    {"ge", t_ge, 1, "other"},
    {"greaterthan", t_gt, 1, "other"},
    {"gt", t_gt, 1, "other"},
    {"in", t_in, 1, "seq"},
    {"integer", t_integer, 0, ""},
    {"iterable", t_iterable, 0, ""},
    {"le", t_le, 1, "other"},
    {"lessthan", t_lt, 1, "other"},
    {"lower", t_lower, 0, ""},
    {"lt", t_lt, 1, "other"},
    {"mapping", t_mapping, 0, ""},
    {"ne", t_ne, 1, "other"},
    {"none", t_none, 0, ""},
    {"number", t_number, 0, ""},
    {"odd", t_odd, 0, ""},
    {"sameas", t_sameas, 1, "other"},
    {"sequence", t_sequence, 0, ""},
    {"string", t_string, 0, ""},
    {"test", t_test, 0, ""},
    {"true", t_true, 0, ""},
    {"undefined", t_undefined, 0, ""},
    {"upper", t_upper, 0, ""},
};

const builtin *jinja_find_test(str name) {
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (str_is(name, tests[i].name)) return &tests[i];
    return NULL;
}
