#include "chat/close_schema.h"

#include <string.h>

enum { MAX_DEPTH = 100 };

static bool has_any(const json_t *object, const char *const *keys) {
    for (; *keys; keys++)
        if (json_object_get(object, *keys)) return true;
    return false;
}

static bool declares_required(const json_t *schema) {
    const json_t *required = json_object_get(schema, "required"),
                 *properties = json_object_get(schema, "properties");
    for (size_t i = 0; i < json_array_size(required); i++)
        if (!json_object_get(properties, json_string_value(json_array_get(required, i))))
            return false;
    return true;
}

/* Closes in place. False: something here makes closing unsafe. Data (enum, const, default) is not
 * looked into. */
static bool close_in_place(json_t *v, int depth) {
    /* Which properties there may be is said by several schemas together. */
    static const char *const JOINED[] = {"allOf",         "if",
                                         "not",           "dependentSchemas",
                                         "dependencies",  "unevaluatedProperties",
                                         "$dynamicRef",   "$recursiveRef",
                                         "minProperties", NULL};
    static const char *const BRANCHES[] = {"anyOf", "oneOf", "$ref", NULL};
    static const char *const OPEN[] = {"additionalProperties", "patternProperties", "propertyNames",
                                       NULL};
    static const char *const MAPS[] = {"properties", "$defs", "definitions", "patternProperties",
                                       NULL};
    static const char *const ONES[] = {"items", "additionalProperties", "contains", NULL};
    static const char *const LISTS[] = {"anyOf", "oneOf", "prefixItems", "items", NULL};
    if (!json_is_object(v)) return true;
    if (depth > MAX_DEPTH || has_any(v, JOINED) || !declares_required(v)) return false;
    bool declares = json_object_get(v, "properties");
    if (declares && has_any(v, BRANCHES)) return false;
    const char *key;
    json_t *item;
    for (int k = 0; MAPS[k]; k++)
        json_object_foreach(json_object_get(v, MAPS[k]), key,
                            item) if (!close_in_place(item, depth + 1)) return false;
    for (int k = 0; ONES[k]; k++)
        if (!close_in_place(json_object_get(v, ONES[k]), depth + 1)) return false;
    for (int k = 0; LISTS[k]; k++) {
        json_t *list = json_object_get(v, LISTS[k]);
        for (size_t i = 0; i < json_array_size(list); i++)
            if (!close_in_place(json_array_get(list, i), depth + 1)) return false;
    }
    if (!declares || has_any(v, OPEN)) return true;
    return json_object_set_new(v, "additionalProperties", json_false()) == 0;
}

json_t *close_schema(json_t *schema) {
    json_t *copy = json_deep_copy(schema);
    if (copy && close_in_place(copy, 0)) return copy;
    json_decref(copy);
    return json_incref(schema);
}
