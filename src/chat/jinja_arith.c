/* Arithmetic as Python does it: + - * / // % ** and signs of ints, floats,
 * strings and lists. Ints have 64 bits; what does not fit fails. Knows values,
 * no tree.
 */
#include "chat/jinja_impl.h"

#include <math.h>

#define COLD __attribute__((noinline))

COLD value jinja_overflow(rt *r) {
    return jinja_fail(r, "an integer does not fit into 64 bits");
}

static value int_pow(rt *r, int64_t base, int64_t exponent, bool data) {
    if (exponent < 0)
        return base == 0 ? jinja_fail(r, "0.0 cannot be raised to a negative power")
                         : v_float(pow((double)base, (double)exponent), data);
    int64_t out = 1;
    for (; exponent; exponent >>= 1) {
        if (exponent & 1 && __builtin_mul_overflow(out, base, &out)) return jinja_overflow(r);
        if (exponent > 1 && __builtin_mul_overflow(base, base, &base)) return jinja_overflow(r);
    }
    return v_int(out, data);
}

static value int_binary(rt *r, node_op op, int64_t a, int64_t b, bool data) {
    int64_t out;
    switch (op) {
    case OP_ADD: return __builtin_add_overflow(a, b, &out) ? jinja_overflow(r) : v_int(out, data);
    case OP_SUB: return __builtin_sub_overflow(a, b, &out) ? jinja_overflow(r) : v_int(out, data);
    case OP_MUL: return __builtin_mul_overflow(a, b, &out) ? jinja_overflow(r) : v_int(out, data);
    case OP_POW: return int_pow(r, a, b, data);
    default: break;
    }
    if (b == 0)
        return jinja_fail(r,
                          op == OP_DIV ? "division by zero" : "integer division or modulo by zero");
    if (op == OP_DIV) return v_float((double)((long double)a / (long double)b), data);
    if (b == -1) { /* INT64_MIN / -1 traps */
        if (op == OP_MOD) return v_int(0, data);
        return __builtin_sub_overflow((int64_t)0, a, &out) ? jinja_overflow(r) : v_int(out, data);
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

value jinja_sign(rt *r, bool minus, value v) {
    if (v.kind == V_FLOAT) return v_float(minus ? -v.f : v.f, v.data);
    if (is_int(v))
        return minus ? int_binary(r, OP_SUB, 0, as_int(v), v.data) : v_int(as_int(v), v.data);
    if (v.kind == V_UNDEF) return jinja_fail_undef(r, v);
    return jinja_fail(r, "bad operand type for unary %c: '%s'", minus ? '-' : '+', jinja_type(v));
}
