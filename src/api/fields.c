#include "api/fields.h"

#include <math.h>
#include <stdio.h>

const char *field_type_name(const json_t *v) {
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a decimal number";
    case JSON_TRUE:
    case JSON_FALSE: return "a boolean";
    default: return "null";
    }
}

const char *path_member(field_path *p, const char *base, const char *name) {
    snprintf(p->text, sizeof p->text, "%s%s%s", base ? base : "", base && *base ? "." : "", name);
    return p->text;
}

const char *path_index(field_path *p, const char *base, size_t i) {
    snprintf(p->text, sizeof p->text, "%s[%zu]", base, i);
    return p->text;
}

static bool wrong_type(json_t *v, const char *path, const char *want, error *err) {
    return error_set(err, ERR_INVALID_TYPE, path,
                     "Invalid type for '%s': expected %s, but got %s instead.", path, want,
                     field_type_name(v));
}

bool field_bool(json_t *v, const char *path, bool *out, error *err) {
    if (!json_is_boolean(v)) return wrong_type(v, path, "a boolean", err);
    *out = json_is_true(v);
    return true;
}

bool field_int(json_t *v, const char *path, int64_t min, int64_t max, int64_t *out, error *err) {
    double d = json_number_value(v);
    if (!json_is_number(v) || (json_is_real(v) && d != floor(d)))
        return wrong_type(v, path, "an integer", err);
    bool is_huge = json_is_real(v) && d >= 0x1p63, is_tiny = json_is_real(v) && d < -0x1p63;
    int64_t i = json_is_integer(v) ? json_integer_value(v) : is_huge || is_tiny ? 0 : (int64_t)d;
    char got[32];
    snprintf(got, sizeof got, is_huge || is_tiny ? "%.6g" : "%.0f", d);
    if (json_is_integer(v)) snprintf(got, sizeof got, "%lld", (long long)i);
    if (is_tiny || (!is_huge && i < min))
        return error_set(
            err, ERR_INT_BELOW_MIN, path,
            "Invalid '%s': integer below minimum value. Expected a value >= %lld, but got %s instead.",
            path, (long long)min, got);
    if (is_huge || i > max)
        return error_set(
            err, ERR_INT_ABOVE_MAX, path,
            "Invalid '%s': integer above maximum value. Expected a value <= %lld, but got %s instead.",
            path, (long long)max, got);
    *out = i;
    return true;
}

bool field_num(json_t *v, const char *path, double min, double max, double *out, error *err) {
    if (!json_is_number(v)) return wrong_type(v, path, "a decimal number", err);
    double d = json_number_value(v);
    if (d < min)
        return error_set(
            err, ERR_DECIMAL_BELOW_MIN, path,
            "Invalid '%s': decimal below minimum value. Expected a value >= %g, but got %g instead.",
            path, min, d);
    if (d > max)
        return error_set(
            err, ERR_DECIMAL_ABOVE_MAX, path,
            "Invalid '%s': decimal above maximum value. Expected a value <= %g, but got %g instead.",
            path, max, d);
    *out = d;
    return true;
}

bool field_str(json_t *v, const char *path, str *out, error *err) {
    if (!json_is_string(v)) return wrong_type(v, path, "a string", err);
    *out = json_str(v);
    return true;
}

bool field_enum(json_t *v, const char *path, const char *const *values, int *out, error *err) {
    str s;
    if (!field_str(v, path, &s, err)) return false;
    char list[300];
    size_t n = 0;
    for (int i = 0; values[i]; i++) {
        if (str_is(s, values[i])) {
            *out = i;
            return true;
        }
        int k = snprintf(list + n, sizeof list - n, "%s'%s'",
                         i ? (values[i + 1] ? ", " : " and ") : "", values[i]);
        if (k > 0 && n + (size_t)k < sizeof list) n += (size_t)k;
    }
    return error_set(err, ERR_INVALID_VALUE, path,
                     "Invalid value: '%.60s'. Supported values are: %s.", s.len ? s.ptr : "", list);
}

bool field_object(json_t *v, const char *path, error *err) {
    return json_is_object(v) || wrong_type(v, path, "an object", err);
}

bool field_array(json_t *v, const char *path, size_t max_items, error *err) {
    if (!json_is_array(v)) return wrong_type(v, path, "an array", err);
    if (json_array_size(v) > max_items)
        return error_set(
            err, ERR_ARRAY_ABOVE_MAX, path,
            "Invalid '%s': array too long. Expected an array with maximum length %zu, but got an array "
            "with length %zu instead.",
            path, max_items, json_array_size(v));
    return true;
}

bool field_empty_array(const char *path, error *err) {
    return error_set(
        err, ERR_ARRAY_BELOW_MIN, path,
        "Invalid '%s': empty array. Expected an array with minimum length 1, but got an "
        "empty array instead.",
        path);
}

bool field_max_chars(str s, const char *path, size_t max, error *err) {
    size_t n = s.len > max ? utf8_count(s) : s.len;
    return n <= max ||
           error_set(
               err, ERR_STRING_ABOVE_MAX, path,
               "Invalid '%s': string too long. Expected a string with maximum length %zu, but "
               "got a string with length %zu instead.",
               path, max, n);
}

json_t *field_get(json_t *object, const char *name) {
    json_t *v = json_object_get(object, name);
    return json_is_null(v) ? NULL : v;
}

json_t *field_need(json_t *object, const char *name, const char *path, error *err) {
    json_t *v = field_get(object, name);
    if (!v) {
        field_path p;
        path_member(&p, path, name);
        error_set(err, ERR_MISSING_PARAMETER, p.text, "Missing required parameter: '%s'.", p.text);
    }
    return v;
}

static bool decode_one(const field_ctx *c, const field *f, json_t *v, const char *path, void *out,
                       error *err) {
    union {
        bool b;
        int64_t i;
        double d;
        str s;
        int e;
        json_t *v;
    } nowhere;
    void *to = f->offset == FIELD_NOWHERE ? (void *)&nowhere : (char *)out + f->offset;
    bool ranged = f->min != 0 || f->max != 0;
    switch (f->kind) {
    case FIELD_BOOL: return field_bool(v, path, to, err);
    case FIELD_INT:
        return field_int(v, path, ranged ? (int64_t)f->min : INT64_MIN,
                         ranged && f->max < 0x1p63 ? (int64_t)f->max : INT64_MAX, to, err);
    case FIELD_NUM:
        return field_num(v, path, ranged ? f->min : -HUGE_VAL, ranged ? f->max : HUGE_VAL, to, err);
    case FIELD_STR: {
        str *s = to;
        return field_str(v, path, s, err) &&
               (f->max <= 0 || field_max_chars(*s, path, (size_t)f->max, err));
    }
    case FIELD_ENUM: return field_enum(v, path, f->values, to, err);
    case FIELD_TEXTS:
        if (!json_is_string(v) && !json_is_array(v))
            return wrong_type(v, path, "a string or an array", err);
        *(json_t **)to = v;
        return true;
    case FIELD_CUSTOM: return f->decode(c, v, path, out, err);
    case FIELD_ACCEPT: return true;
    }
    return true;
}

bool fields_decode(const field_ctx *c, json_t *object, const field *table, size_t n,
                   const char *path, void *out, error *err) {
    if (!json_is_object(object)) {
        if (path && *path) return field_object(object, path, err);
        return error_set(err, ERR_INVALID_TYPE, NULL,
                         "The request body must be a JSON object, but it is %s.",
                         field_type_name(object));
    }
    for (size_t i = 0; i < n; i++) {
        const field *f = &table[i];
        field_path p;
        path_member(&p, path, f->name);
        json_t *v =
            f->required ? field_need(object, f->name, path, err) : field_get(object, f->name);
        if (!v && f->required) return false;
        if (v && !decode_one(c, f, v, p.text, out, err)) return false;
    }
    return true;
}
