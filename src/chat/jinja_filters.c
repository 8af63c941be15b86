/* Filters by name, and those of single values: numbers, defaults, attributes,
 * and JSON, which is tojson as transformers defines it. A row's parameters are
 * Jinja's.
 */
#include "chat/jinja_filters.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

FILTER(f_pprint) {
    UNUSED;
    grow *g = jinja_grow(r);
    jinja_repr(r, g, self);
    return jinja_grown(r, g);
}

FILTER(f_tojson) {
    UNUSED;
    json_style style = {.ensure_ascii = jinja_flag(a[0], false),
                        .sort_keys = jinja_flag(a[3], false),
                        .indent = given(a[1]) ? a[1] : v_none()};
    style.item_sep = style.key_sep = (value){.kind = V_MISSING};
    if (style.indent.kind == V_BOOL) style.indent = v_int(style.indent.b, style.indent.data);
    if (style.indent.kind != V_NONE && style.indent.kind != V_INT && style.indent.kind != V_STR)
        return jinja_fail(r, "tojson: indent must be an int or a str");
    if (given(a[2]) && a[2].kind != V_NONE) {
        seq *pair = jinja_iter(r, a[2]);
        if (!pair) return v_none();
        if (pair->n != 2 || pair->items[0].kind != V_STR || pair->items[1].kind != V_STR)
            return jinja_fail(r, "tojson: separators must be two strings");
        style.item_sep = pair->items[0];
        style.key_sep = pair->items[1];
    }
    return jinja_to_json(r, self, &style);
}

FILTER(f_abs) {
    UNUSED;
    if (self.kind == V_FLOAT) return v_float(fabs(self.f), self.data);
    if (is_int(self))
        return as_int(self) < 0 ? jinja_binary(r, OP_SUB, v_int(0, false), self)
                                : v_int(as_int(self), self.data);
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    return jinja_fail(r, "bad operand type for abs(): '%s'", jinja_type(self));
}

static bool float_to_int(double f, int64_t *out) {
    if (!(f >= -0x1p63 && f < 0x1p63)) return false;
    *out = (int64_t)f;
    return true;
}

FILTER(f_int) {
    UNUSED;
    int64_t i;
    double f;
    value fallback = given(a[0]) ? a[0] : v_int(0, false);
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    if (is_int(self)) return v_int(as_int(self), self.data);
    if (self.kind == V_FLOAT) {
        if (isinf(self.f)) return jinja_fail(r, "cannot convert float infinity to integer");
        if (isnan(self.f)) return fallback;
        return float_to_int(self.f, &i) ? v_int(i, self.data) : jinja_overflow(r);
    }
    if (self.kind != V_STR) return fallback;
    int64_t base = !given(a[1]) ? 10 : is_int(a[1]) ? as_int(a[1]) : -1;
    bool is_beyond = false;
    if (base >= 0 && base <= 36 && jinja_parse_int(as_str(self), (int)base, &i, &is_beyond))
        return v_int(i, self.data);
    if (is_beyond) return jinja_overflow(r);
    if (!jinja_parse_float(as_str(self), &f) || isnan(f) || isinf(f)) return fallback;
    return float_to_int(f, &i) ? v_int(i, self.data) : jinja_overflow(r);
}

FILTER(f_float) {
    UNUSED;
    double f;
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    if (is_number(self)) return v_float(as_float(self), self.data);
    if (self.kind == V_STR && jinja_parse_float(as_str(self), &f)) return v_float(f, self.data);
    return given(a[0]) ? a[0] : v_float(0, false);
}

/* To a multiple of 10 ** n_zeros, ties to the even one. */
static value round_int(rt *r, int64_t i, int n_zeros, bool data) {
    enum { MAX_ZEROS = 19 }; /* 10 ** 20 is more than twice what there is */
    uint64_t unit = 1, size = i < 0 ? 0 - (uint64_t)i : (uint64_t)i;
    if (n_zeros > MAX_ZEROS) return v_int(0, data);
    for (int k = 0; k < n_zeros; k++) unit *= 10;
    uint64_t rest = size % unit, out = size - rest;
    bool up = rest > unit - rest || (rest == unit - rest && (size / unit) % 2);
    if ((up && __builtin_add_overflow(out, unit, &out)) || out > (uint64_t)INT64_MAX + (i < 0))
        return jinja_overflow(r);
    return v_int(i < 0 ? (int64_t)(0 - out) : (int64_t)out, data);
}

/* The same of a float: the digits of its exact value, as printf rounds them. */
static value round_to_zeros(rt *r, double f, int n_zeros, bool data) {
    char text[400];
    int n_left = snprintf(text, sizeof text, "%.0f", trunc(fabs(f))) - n_zeros;
    if (n_left < 0) return v_float(copysign(0, f), data);
    if (n_left == 0) { /* it is nothing, or one unit */
        snprintf(text, sizeof text, "5e%d", n_zeros - 1);
        bool up = fabs(f) > strtod(text, NULL);
        snprintf(text, sizeof text, "%de%d", up, n_zeros);
    } else
        snprintf(text, sizeof text, "%.*e", n_left - 1, fabs(f));
    double out = strtod(text, NULL);
    return isinf(out) ? jinja_fail(r, "the rounded value is too large")
                      : v_float(copysign(out, f), data);
}

FILTER(f_round) {
    UNUSED;
    bool to_int = given(a[0]) && a[0].kind == V_NONE;
    int64_t precision = to_int ? 0 : jinja_whole(r, a[0], 0), i;
    str method = given(a[1]) ? as_str(a[1]) : STR("common");
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    if (!is_number(self))
        return jinja_fail(r, "type %s doesn't define __round__ method", jinja_type(self));
    int n_zeros = precision > 0 ? 0 : precision < -400 ? 400 : (int)-precision;
    if (precision > 300) precision = 300;
    if (precision < -300) precision = -300;
    double scale = pow(10, (double)precision), f = as_float(self);
    if (is_int(self) && precision >= 0 && (str_is(method, "ceil") || str_is(method, "floor")))
        return v_float(f, self.data);
    if (str_is(method, "ceil")) return v_float(ceil(f * scale) / scale, self.data);
    if (str_is(method, "floor")) return v_float(floor(f * scale) / scale, self.data);
    if (!str_is(method, "common")) return jinja_fail(r, "method must be common, ceil or floor");
    if (is_int(self)) return round_int(r, as_int(self), n_zeros, self.data);
    if (to_int && !isnan(f) && !isinf(f))
        return float_to_int(nearbyint(f), &i) ? v_int(i, self.data) : jinja_overflow(r);
    if (to_int)
        return jinja_fail(r, "cannot convert float %s to integer", isnan(f) ? "NaN" : "infinity");
    if (isnan(f) || isinf(f)) return self;
    if (precision >= 0) { /* decimal rounding of the exact value, ties to even, as printf does */
        char text[720];
        snprintf(text, sizeof text, "%.*f", (int)precision, f);
        return v_float(strtod(text, NULL), self.data);
    }
    return round_to_zeros(r, f, n_zeros, self.data);
}

FILTER(f_filesizeformat) {
    UNUSED;
    static const char *const decimal[] = {"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"};
    static const char *const binary[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"};
    double f, base = jinja_flag(a[0], false) ? 1024 : 1000, unit = base;
    char text[400];
    if (self.kind == V_UNDEF) return jinja_fail_undef(r, self);
    if (is_number(self))
        f = as_float(self);
    else if (self.kind != V_STR || !jinja_parse_float(as_str(self), &f))
        return jinja_fail(r, "filesizeformat wants a number");
    int64_t bytes = 0;
    if (f == 1) {
        snprintf(text, sizeof text, "1 Byte");
    } else if (f < base && float_to_int(f, &bytes)) {
        snprintf(text, sizeof text, "%lld Bytes", (long long)bytes);
    } else {
        int i = 0;
        for (; i < 7 && f >= unit * base; i++) unit *= base;
        snprintf(text, sizeof text, "%.1f %s", f / unit, base == 1024 ? binary[i] : decimal[i]);
    }
    char *kept = arena_dup(&r->mem, str_from(text));
    return kept ? jinja_str(r, str_from(kept), self.data) : jinja_fail(r, "memory ran out");
}

FILTER(f_length) {
    UNUSED;
    return v_int(jinja_len(r, self), self.data);
}
FILTER(f_default) {
    UNUSED;
    bool use = self.kind == V_UNDEF || (jinja_flag(a[1], false) && !jinja_true(self));
    return use ? given(a[0]) ? a[0] : jinja_cstr(r, "") : self;
}

FILTER(f_attr) {
    UNUSED;
    if (a[0].kind != V_STR)
        return jinja_fail(r, "attribute name must be string, not '%s'", jinja_type(a[0]));
    value name = a[0];
    if (self.kind != V_DICT || r->failed)
        return r->failed ? v_none() : jinja_getattr(r, self, as_str(name));
    /* Attributes only: a dict's keys are not. */
    if (jinja_find_method(METHOD_DICT, as_str(name))) return jinja_getattr(r, self, as_str(name));
    return jinja_undef(r, jinja_object(self), as_str(name), false);
}

static const builtin rows[] = {
    {"abs", f_abs, 0, ""},
    {"attr", f_attr, 1, "name"},
    {"count", f_length, 0, ""},
    {"d", f_default, 0, "default_value boolean"},
    {"default", f_default, 0, "default_value boolean"},
    {"filesizeformat", f_filesizeformat, 0, "binary"},
    {"float", f_float, 0, "default"},
    {"int", f_int, 0, "default base"},
    {"length", f_length, 0, ""},
    {"pprint", f_pprint, 0, ""},
    {"round", f_round, 0, "precision method"},
    {"tojson", f_tojson, 0, "ensure_ascii indent separators sort_keys"},
};
const builtin_table jinja_value_filters = {rows, sizeof rows / sizeof *rows};

const builtin *jinja_find_filter(str name) {
    const builtin_table *const tables[] = {&jinja_text_filters, &jinja_seq_filters,
                                           &jinja_value_filters};
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (size_t i = 0; i < tables[t]->n; i++)
            if (str_is(name, tables[t]->rows[i].name)) return &tables[t]->rows[i];
    return NULL;
}
