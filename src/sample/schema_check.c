/* Is it a JSON Schema at all? The types of all keywords, as the specification's
 * own schema has them, also where nothing refers to. */
#include <math.h>

#include "sample/schema_impl.h"

static bool is_count(json_t *v) {
    if (json_is_integer(v)) return json_integer_value(v) >= 0;
    double d = json_is_real(v) ? json_real_value(v) : -1;
    return d >= 0 && d == floor(d);
}

static bool is_schema(json_t *v) {
    return json_is_object(v) || json_is_boolean(v);
}

static bool is_type_name(json_t *v) {
    static const char *const NAMES[] = {"null",   "boolean", "object", "array",
                                        "number", "string",  "integer"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        if (json_is_string(v) && str_is(json_str(v), NAMES[i])) return true;
    return false;
}

static bool check_type(schema_ctx *c, json_t *v, const char *path) {
    if (json_is_string(v))
        return is_type_name(v) ||
               schema_invalid(c, path, "type", "'%s' is not a JSON type.", json_string_value(v));
    if (!json_is_array(v) || !json_array_size(v))
        return schema_invalid(c, path, "type", "It must be a type's name or a list of names.");
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!is_type_name(json_array_get(v, i)))
            return schema_invalid(c, path, "type", "Item %zu is not the name of a JSON type.", i);
    return true;
}

typedef enum rule {
    R_COUNT,
    R_NUMBER,
    R_POSITIVE,
    R_LIMIT,
    R_BOOL,
    R_STRING,
    R_PATTERN,
    R_SCHEMA,
    R_SCHEMAS,
    R_ITEMS,
    R_MAP,
    R_PATTERN_MAP,
    R_NAMES,
    R_ARRAY,
    R_DEPENDENCIES,
    R_NAME_LISTS,
    R_BOOL_OR_SCHEMA
} rule;

static const struct {
    const char *name;
    rule rule;
} RULES[] = {
    {"minLength", R_COUNT},
    {"maxLength", R_COUNT},
    {"minItems", R_COUNT},
    {"maxItems", R_COUNT},
    {"minProperties", R_COUNT},
    {"maxProperties", R_COUNT},
    {"minContains", R_COUNT},
    {"maxContains", R_COUNT},
    {"minimum", R_NUMBER},
    {"maximum", R_NUMBER},
    {"exclusiveMinimum", R_LIMIT},
    {"exclusiveMaximum", R_LIMIT},
    {"multipleOf", R_POSITIVE},
    {"uniqueItems", R_BOOL},
    {"$ref", R_STRING},
    {"$dynamicRef", R_STRING},
    {"$id", R_STRING},
    {"$anchor", R_STRING},
    {"$schema", R_STRING},
    {"format", R_STRING},
    {"pattern", R_PATTERN},
    {"not", R_SCHEMA},
    {"if", R_SCHEMA},
    {"then", R_SCHEMA},
    {"else", R_SCHEMA},
    {"contains", R_SCHEMA},
    {"propertyNames", R_SCHEMA},
    {"additionalProperties", R_SCHEMA},
    {"unevaluatedProperties", R_SCHEMA},
    {"unevaluatedItems", R_SCHEMA},
    {"additionalItems", R_SCHEMA},
    {"allOf", R_SCHEMAS},
    {"anyOf", R_SCHEMAS},
    {"oneOf", R_SCHEMAS},
    {"prefixItems", R_SCHEMAS},
    {"items", R_ITEMS},
    {"properties", R_MAP},
    {"$defs", R_MAP},
    {"definitions", R_MAP},
    {"dependentSchemas", R_MAP},
    {"patternProperties", R_PATTERN_MAP},
    {"required", R_NAMES},
    {"enum", R_ARRAY},
    {"dependencies", R_DEPENDENCIES},
    {"dependentRequired", R_NAME_LISTS},
};

static bool check_names(schema_ctx *c, json_t *v, const char *path, const char *keyword) {
    if (!json_is_array(v)) return schema_invalid(c, path, keyword, "It must be a list of names.");
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!json_is_string(json_array_get(v, i)))
            return schema_invalid(c, path, keyword, "Item %zu is not a string.", i);
    return true;
}

static bool check_pattern(schema_ctx *c, str pattern, const char *path, const char *keyword) {
    error e = {0};
    if (regex_parse(c->x, pattern, (regex_syntax){.search = true}, &e) >= 0) return true;
    /* What an automaton cannot do is told where it is used. */
    return e.code != ERR_INVALID_VALUE || schema_invalid(c, path, keyword, "%s", e.message);
}

static bool check_list(schema_ctx *c, json_t *v, const char *path, const char *keyword, int depth) {
    if (!json_is_array(v) || !json_array_size(v))
        return schema_invalid(c, path, keyword, "It must be a list of schemas that is not empty.");
    for (size_t i = 0; i < json_array_size(v); i++) {
        char index[24];
        snprintf(index, sizeof index, "%zu", i);
        if (!schema_check_all(c, json_array_get(v, i), schema_path(c, path, keyword, index),
                              depth + 1))
            return false;
    }
    return true;
}

static bool check_map(schema_ctx *c, json_t *v, const char *path, const char *keyword, rule r,
                      int depth) {
    if (!json_is_object(v)) return schema_invalid(c, path, keyword, "It must be an object.");
    const char *key;
    json_t *value;
    json_object_foreach(v, key, value) {
        if (r == R_PATTERN_MAP && !check_pattern(c, str_from(key), path, keyword)) return false;
        if (r == R_NAME_LISTS || (r == R_DEPENDENCIES && json_is_array(value))) {
            if (!check_names(c, value, schema_path(c, path, keyword, key), "")) return false;
        } else if (!schema_check_all(c, value, schema_path(c, path, keyword, key), depth + 1))
            return false;
    }
    return true;
}

static bool check_keyword(schema_ctx *c, json_t *v, const char *path, const char *k, rule r,
                          int depth) {
    switch (r) {
    case R_COUNT:
        return is_count(v) || schema_invalid(c, path, k, "It must be a whole number, 0 or more.");
    case R_NUMBER: return json_is_number(v) || schema_invalid(c, path, k, "It must be a number.");
    case R_LIMIT:
        return json_is_number(v) || json_is_boolean(v) ||
               schema_invalid(c, path, k, "It must be a number.");
    case R_POSITIVE:
        return (json_is_number(v) && json_number_value(v) > 0) ||
               schema_invalid(c, path, k, "It must be a number above 0.");
    case R_BOOL:
        return json_is_boolean(v) || schema_invalid(c, path, k, "It must be true or false.");
    case R_STRING: return json_is_string(v) || schema_invalid(c, path, k, "It must be a string.");
    case R_PATTERN:
        return json_is_string(v) ? check_pattern(c, json_str(v), path, k)
                                 : schema_invalid(c, path, k, "It must be a string.");
    case R_SCHEMA: return schema_check_all(c, v, schema_path(c, path, k, NULL), depth + 1);
    case R_ITEMS:
        if (json_is_array(v)) return !json_array_size(v) || check_list(c, v, path, k, depth);
        return schema_check_all(c, v, schema_path(c, path, k, NULL), depth + 1);
    case R_SCHEMAS: return check_list(c, v, path, k, depth);
    case R_MAP:
    case R_PATTERN_MAP:
    case R_DEPENDENCIES:
    case R_NAME_LISTS: return check_map(c, v, path, k, r, depth);
    case R_NAMES: return check_names(c, v, path, k);
    case R_ARRAY: return json_is_array(v) || schema_invalid(c, path, k, "It must be a list.");
    default: return true;
    }
}

bool schema_check_all(schema_ctx *c, json_t *schema, const char *path, int depth) {
    if (!is_schema(schema))
        return schema_invalid(c, path, "", "A schema must be an object or a boolean.");
    if (!json_is_object(schema)) return true;
    if (depth > GRAMMAR_MAX_SCHEMA_DEPTH)
        return schema_invalid(c, path, "",
                              "It is nested more than %d levels deep (GRAMMAR_MAX_SCHEMA_DEPTH).",
                              GRAMMAR_MAX_SCHEMA_DEPTH);
    json_t *type = json_object_get(schema, "type");
    if (type && !check_type(c, type, path)) return false;
    for (size_t i = 0; i < sizeof RULES / sizeof *RULES; i++) {
        json_t *v = json_object_get(schema, RULES[i].name);
        if (v && !check_keyword(c, v, path, RULES[i].name, RULES[i].rule, depth)) return false;
    }
    return !schema_failed(c);
}
