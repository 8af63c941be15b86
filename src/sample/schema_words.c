/* Keywords → sets of shapes: constants, what a keyword says of the value itself, and those that combine
 * other schemas. schema_lower() is where an expression gets its meaning.
 */
#include "sample/schema_impl.h"

/* ── Constants ── */

static typed *const_typed(schema_ctx *c, json_t *v) {
    typed *t = typed_none(c);
    if (!t) return NULL;
    switch (json_typeof(v)) {
    case JSON_NULL: t->lits = JLIT_NULL; break;
    case JSON_TRUE: t->lits = JLIT_TRUE; break;
    case JSON_FALSE: t->lits = JLIT_FALSE; break;
    case JSON_STRING: {
        text_shape s = SHAPE_ANY_TEXT;
        str *value = arena_alloc(&c->mem, sizeof *value);
        if (!value) return NULL;
        *value = json_str(v);
        s.has_values = true;
        s.values = value;
        s.n_values = 1;
        SHAPE_PUSH(c, t->texts, s);
        break;
    }
    case JSON_INTEGER:
    case JSON_REAL: {
        dec *value = arena_alloc(&c->mem, sizeof *value);
        if (!value) return NULL;
        *value = dec_from_json(v);
        SHAPE_PUSH(c, t->nums, ((num_shape){.has_values = true, .values = value, .n_values = 1}));
        break;
    }
    case JSON_ARRAY: {
        size_t n = json_array_size(v);
        sx *prefix = arena_array(&c->mem, n + 1, sizeof *prefix);
        if (!prefix) return NULL;
        for (size_t i = 0; i < n; i++) prefix[i] = schema_const(c, json_array_get(v, i));
        SHAPE_PUSH(c, t->lists,
                   ((list_shape){.prefix = prefix,
                                 .n_prefix = n,
                                 .rest = SX_FALSE,
                                 .min = (uint32_t)n,
                                 .max = (uint32_t)n}));
        break;
    }
    default: {
        size_t n = json_object_size(v), i = 0;
        named_schema *names = arena_array(&c->mem, n + 1, sizeof *names);
        str *required = arena_array(&c->mem, n + 1, sizeof *required);
        key_group *g = arena_alloc(&c->mem, sizeof *g);
        if (!names || !required || !g) return NULL;
        const char *key;
        json_t *value;
        json_object_foreach(v, key, value) {
            required[i] = str_from(key);
            names[i++] = (named_schema){str_from(key), schema_const(c, value)};
        }
        *g = (key_group){.names = names, .n_names = n, .others = SX_FALSE};
        SHAPE_PUSH(c, t->maps,
                   ((map_shape){.groups = g,
                                .n_groups = 1,
                                .required = required,
                                .n_required = n,
                                .max = UINT32_MAX}));
    }
    }
    return t;
}

/* All strings of an enum are one shape, all numbers too. */
static typed *enum_typed(schema_ctx *c, json_t *list) {
    typed *t = typed_none(c);
    size_t n = json_array_size(list);
    str *texts = arena_array(&c->mem, n + 1, sizeof *texts);
    dec *nums = arena_array(&c->mem, n + 1, sizeof *nums);
    size_t n_texts = 0, n_nums = 0;
    if (!t || !texts || !nums) return NULL;
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(list, i);
        if (json_is_string(v))
            texts[n_texts++] = json_str(v);
        else if (json_is_number(v))
            nums[n_nums++] = dec_from_json(v);
        else
            t = typed_or(c, t, const_typed(c, v));
        if (!t) return NULL;
    }
    text_shape s = SHAPE_ANY_TEXT;
    s.has_values = true;
    s.values = texts;
    s.n_values = n_texts;
    if (n_texts) SHAPE_PUSH(c, t->texts, s);
    if (n_nums)
        SHAPE_PUSH(c, t->nums,
                   ((num_shape){.has_values = true, .values = nums, .n_values = n_nums}));
    return t;
}

/* ── Keywords on the value itself ── */

static uint32_t get_count(json_t *v, uint32_t otherwise) {
    if (!v) return otherwise;
    double d = json_number_value(v);
    return d >= UINT32_MAX - 2 ? UINT32_MAX - 2 : (uint32_t)d;
}

static void keep_types(typed *t, json_t *type, bool *integer) {
    static const char *const NAMES[] = {"string",  "number", "array",  "object",
                                        "integer", "null",   "boolean"};
    bool has[7] = {0};
    for (size_t k = 0; k < 7; k++) {
        has[k] = str_is(json_str(type), NAMES[k]);
        for (size_t i = 0; i < json_array_size(type); i++)
            has[k] |= str_is(json_str(json_array_get(type, i)), NAMES[k]);
    }
    if (!has[0]) t->texts.n = 0;
    *integer = has[4] && !has[1];
    if (!has[1] && !has[4]) t->nums.n = 0;
    if (!has[2]) t->lists.n = 0;
    if (!has[3]) t->maps.n = 0;
    t->lits = (uint8_t)((has[5] ? JLIT_NULL : 0) | (has[6] ? JLIT_TRUE | JLIT_FALSE : 0));
}

static void read_number(schema_ctx *c, json_t *s, num_shape *n) {
    json_t *v, *flag;
    if ((v = json_object_get(s, "minimum"))) {
        flag = json_object_get(s, "exclusiveMinimum");
        *n = (num_shape){.is_integer = n->is_integer,
                         .is_digits = n->is_digits,
                         .has_min = true,
                         .min = dec_from_json(v),
                         .open_min = json_is_true(flag)};
    }
    if ((v = json_object_get(s, "maximum"))) {
        flag = json_object_get(s, "exclusiveMaximum");
        n->has_max = true;
        n->max = dec_from_json(v);
        n->open_max = json_is_true(flag);
    }
    num_shape more = {0}, both;
    if (json_is_number(v = json_object_get(s, "exclusiveMinimum")))
        more.has_min = more.open_min = true, more.min = dec_from_json(v);
    if (json_is_number(v = json_object_get(s, "exclusiveMaximum")))
        more.has_max = more.open_max = true, more.max = dec_from_json(v);
    if ((v = json_object_get(s, "multipleOf")) &&
        (more.multiples = arena_alloc(&c->mem, sizeof *more.multiples))) {
        more.multiples[0] = dec_from_json(v);
        more.n_multiples = 1;
    }
    schema_and_number(c, n, &more, &both);
    *n = both;
}

/* "^.{2,60}$" and the like, a length in a pattern's words: counted as one. */
static bool read_length_pattern(str p, text_shape *t) {
    if (!str_starts(p, STR("^.{")) || !str_ends(p, STR("}$"))) return false;
    str inside = str_make(p.ptr + 3, p.len - 5);
    uint64_t bounds[2] = {0, 0};
    size_t n = 0, digits = 0, i = 0;
    for (; i < inside.len && n < 2; i++) {
        char d = inside.ptr[i];
        if (d == ',' && n == 0 && digits) {
            n = 1, digits = 0;
            continue;
        }
        if (d < '0' || d > '9' || ++digits > 6) return false;
        bounds[n] = bounds[n] * 10 + (uint64_t)(d - '0');
    }
    if (n == 0 && !digits) return false;
    if (n == 0) bounds[1] = bounds[0];
    if (bounds[0] > t->min) t->min = (uint32_t)bounds[0];
    if ((n == 0 || digits) && bounds[1] < t->max) t->max = (uint32_t)bounds[1];
    return true;
}

static bool read_text(schema_ctx *c, json_t *s, const char *path, text_shape *t) {
    json_t *v;
    t->min = get_count(json_object_get(s, "minLength"), 0);
    t->max = get_count(json_object_get(s, "maxLength"), UINT32_MAX);
    if ((v = json_object_get(s, "pattern"))) {
        error e = {0};
        str pattern = read_length_pattern(json_str(v), t) ? STR("^.*$") : json_str(v);
        rx r = regex_parse(c->x, pattern, (regex_syntax){.search = true}, &e);
        if (r < 0 && !schema_unsupported(c, path, "pattern", e.message)) return false;
        if (r >= 0) t->pattern = r;
    }
    if ((v = json_object_get(s, "format"))) {
        rx r = schema_format(c, json_str(v), &t->max);
        if (r < 0 &&
            !schema_unsupported(c, path, "format", "this format is not a regular language"))
            return false;
        if (r >= 0) t->pattern = regex_and2(c->x, t->pattern, r);
    }
    return true;
}

static bool read_list(schema_ctx *c, const sx_node *at, list_shape *l) {
    json_t *s = at->json, *items = json_object_get(s, "items"),
           *prefix = json_object_get(s, "prefixItems"), *rest = items, *v;
    const char *keyword = "prefixItems", *rest_keyword = "items";
    if (json_is_array(items)) {
        prefix = items;
        keyword = "items";
        rest = json_object_get(s, "additionalItems");
        rest_keyword = "additionalItems";
    }
    l->min = get_count(json_object_get(s, "minItems"), 0);
    l->max = get_count(json_object_get(s, "maxItems"), UINT32_MAX);
    l->is_unique = json_is_true(json_object_get(s, "uniqueItems"));
    if (prefix && json_array_size(prefix)) {
        sx *p = arena_array(&c->mem, json_array_size(prefix), sizeof *p);
        if (!p) return false;
        for (size_t i = 0; i < json_array_size(prefix); i++)
            p[i] = schema_sub_index(c, at, prefix, i, keyword);
        l->prefix = p;
        l->n_prefix = json_array_size(prefix);
    }
    if (rest) l->rest = schema_sub(c, at, rest, rest_keyword, NULL);
    if ((v = json_object_get(s, "contains"))) {
        list_contains *k = arena_alloc(&c->mem, sizeof *k);
        if (!k) return false;
        *k = (list_contains){.what = schema_sub(c, at, v, "contains", NULL),
                             .min = get_count(json_object_get(s, "minContains"), 1),
                             .max = get_count(json_object_get(s, "maxContains"), UINT32_MAX)};
        if (k->min > k->max) l->min = 1, l->max = 0;
        l->contains = k;
        l->n_contains = 1;
    }
    return true;
}

static bool read_map(schema_ctx *c, const sx_node *at, map_shape *m) {
    json_t *s = at->json, *v, *value;
    const char *key;
    m->min = get_count(json_object_get(s, "minProperties"), 0);
    m->max = get_count(json_object_get(s, "maxProperties"), UINT32_MAX);
    json_t *properties = json_object_get(s, "properties"),
           *patterns = json_object_get(s, "patternProperties"),
           *others = json_object_get(s, "additionalProperties");
    const char *others_keyword = "additionalProperties";
    if (!others && (others = json_object_get(s, "unevaluatedProperties")))
        others_keyword = "unevaluatedProperties";
    if (properties || patterns || others) {
        key_group *g = arena_alloc(&c->mem, sizeof *g);
        named_schema *names = arena_array(&c->mem, json_object_size(properties) + 1, sizeof *names);
        matched_schema *p = arena_array(&c->mem, json_object_size(patterns) + 1, sizeof *p);
        if (!g || !names || !p) return false;
        *g = (key_group){.names = names, .patterns = p, .others = SX_TRUE};
        json_object_foreach(properties, key, value) names[g->n_names++] =
            (named_schema){str_from(key), schema_sub(c, at, value, "properties", key)};
        json_object_foreach(patterns, key, value) {
            error e = {0};
            rx r = regex_parse(c->x, str_from(key), (regex_syntax){.search = true}, &e);
            if (r < 0) {
                if (!schema_unsupported(c, at->path, "patternProperties", e.message)) return false;
                others = NULL; /* which names it would have matched is not known */
                continue;
            }
            p[g->n_patterns++] =
                (matched_schema){r, schema_sub(c, at, value, "patternProperties", key)};
        }
        if (others) g->others = schema_sub(c, at, others, others_keyword, NULL);
        m->groups = g;
        m->n_groups = 1;
    }
    if ((v = json_object_get(s, "required"))) {
        str *names = arena_array(&c->mem, json_array_size(v) + 1, sizeof *names);
        if (!names) return false;
        for (size_t i = 0; i < json_array_size(v); i++) {
            str name = json_str(json_array_get(v, i));
            bool known = false;
            for (size_t k = 0; k < m->n_required && !known; k++) known = str_eq(names[k], name);
            if (!known) names[m->n_required++] = name;
        }
        m->required = names;
    }
    if ((v = json_object_get(s, "propertyNames"))) {
        sx *k = arena_alloc(&c->mem, sizeof *k);
        if (!k) return false;
        *k = schema_sub(c, at, v, "propertyNames", NULL);
        m->names = k;
        m->n_names = 1;
    }
    return m->min <= m->max || true;
}

static const char *const IN_PLACE[] = {"$ref",        "$dynamicRef", "allOf", "anyOf",
                                       "oneOf",       "if",          "not",   "dependentSchemas",
                                       "dependencies"};

static bool has_in_place(json_t *s) {
    for (size_t i = 0; i < sizeof IN_PLACE / sizeof *IN_PLACE; i++)
        if (json_object_get(s, IN_PLACE[i]) && strcmp(IN_PLACE[i], "not") != 0) return true;
    return false;
}

static typed *own_typed(schema_ctx *c, const sx_node *at) {
    json_t *s = at->json, *v;
    typed *t = typed_all(c);
    if (!t) return NULL;
    bool integer = false;
    if ((v = json_object_get(s, "type"))) keep_types(t, v, &integer);
    if (t->nums.n) {
        t->nums.v[0].is_integer = integer;
        t->nums.v[0].is_digits = integer && c->resources[at->resource].is_draft4;
        read_number(c, s, &t->nums.v[0]);
    }
    if (t->texts.n && !read_text(c, s, at->path, &t->texts.v[0])) return NULL;
    if (t->lists.n && !read_list(c, at, &t->lists.v[0])) return NULL;
    if (t->maps.n && !read_map(c, at, &t->maps.v[0])) return NULL;
    if (t->texts.n && t->texts.v[0].min > t->texts.v[0].max) t->texts.n = 0;
    if (t->lists.n && t->lists.v[0].min > t->lists.v[0].max) t->lists.n = 0;
    if (t->maps.n && t->maps.v[0].min > t->maps.v[0].max) t->maps.n = 0;
    if ((v = json_object_get(s, "enum"))) t = typed_and(c, t, enum_typed(c, v));
    if ((v = json_object_get(s, "const"))) t = typed_and(c, t, const_typed(c, v));
    static const char *const UNEVALUATED[] = {"unevaluatedProperties", "unevaluatedItems"};
    for (int i = 0; i < 2; i++) {
        v = json_object_get(s, UNEVALUATED[i]);
        if (!v || json_is_true(v) || (json_is_object(v) && !json_object_size(v))) continue;
        bool simple = i == 0 && !has_in_place(s);
        if (!simple && !schema_unsupported(c, at->path, UNEVALUATED[i],
                                           "it depends on which other schemas hold"))
            return NULL;
    }
    return t;
}
/* ── Keywords that combine ── */

static typed *any_of(schema_ctx *c, const sx_node *at, json_t *list) {
    typed *t = typed_none(c);
    for (size_t i = 0; i < json_array_size(list) && t; i++)
        t = typed_or(c, t, schema_lower(c, schema_sub_index(c, at, list, i, "anyOf")));
    return t;
}

/* Exactly one: as anyOf where no two can hold together, else each and not the others. */
static typed *one_of(schema_ctx *c, const sx_node *at, json_t *list) {
    size_t n = json_array_size(list);
    typed **v = arena_array(&c->mem, n + 1, sizeof *v);
    if (!v) return NULL;
    for (size_t i = 0; i < n; i++)
        if (!(v[i] = schema_lower(c, schema_sub_index(c, at, list, i, "oneOf")))) return NULL;
    typed *t = typed_none(c);
    for (size_t i = 0; i < n && t; i++) {
        typed *only = v[i];
        for (size_t k = 0; k < n && only; k++) {
            if (k == i) continue;
            typed *both = typed_and_deep(c, only, v[k], 0);
            if (!both) return NULL;
            if (typed_is_empty(both)) continue;
            const char *why = "two of its schemas may hold together";
            typed *others = typed_not(c, v[k], &why);
            if (schema_failed(c)) return NULL;
            if (!others) {
                if (!schema_unsupported(c, at->path, "oneOf", why)) return NULL;
                continue; /* lenient: at least one of them */
            }
            only = typed_and(c, only, others);
        }
        t = typed_or(c, t, only);
    }
    return t;
}

static typed *not_of(schema_ctx *c, const sx_node *at, typed *inner, const char *keyword) {
    const char *why = "it is not a set of shapes";
    typed *t = inner ? typed_not(c, inner, &why) : NULL;
    if (t || schema_failed(c)) return t;
    return schema_unsupported(c, at->path, keyword, why) ? typed_all(c) : NULL;
}

static typed *if_then_else(schema_ctx *c, const sx_node *at) {
    json_t *s = at->json, *then = json_object_get(s, "then"), *other = json_object_get(s, "else");
    if (!then && !other) return typed_all(c);
    typed *yes = schema_lower(c, schema_sub(c, at, json_object_get(s, "if"), "if", NULL));
    const char *why = "its contrary is not a set of shapes";
    typed *no = yes ? typed_not(c, yes, &why) : NULL;
    if (schema_failed(c)) return NULL;
    if (!no) return schema_unsupported(c, at->path, "if", why) ? typed_all(c) : NULL;
    if (then) yes = typed_and(c, yes, schema_lower(c, schema_sub(c, at, then, "then", NULL)));
    if (other) no = typed_and(c, no, schema_lower(c, schema_sub(c, at, other, "else", NULL)));
    return yes && no ? typed_or(c, yes, no) : NULL;
}

/* Without the property, or with it and the rest. */
static typed *depends(schema_ctx *c, const sx_node *at, str name, json_t *needs,
                      const char *keyword) {
    typed *without = typed_all(c), *with = typed_all(c);
    if (!without || !with) return NULL;
    without->maps.n = 0;
    typed_push_property(c, without, name, SX_FALSE, false);
    with->lits = 0;
    with->texts.n = with->nums.n = with->lists.n = with->maps.n = 0;
    typed_push_property(c, with, name, SX_TRUE, true);
    if (json_is_array(needs)) {
        str *required = arena_array(&c->mem, json_array_size(needs) + 1, sizeof *required);
        if (!required || schema_failed(c)) return NULL;
        map_shape *m = &with->maps.v[0];
        required[m->n_required - 1] = name;
        for (size_t i = 0; i < json_array_size(needs); i++) {
            str other = json_str(json_array_get(needs, i));
            bool known = false;
            for (size_t k = 0; k < m->n_required && !known; k++) known = str_eq(required[k], other);
            if (!known) required[m->n_required++] = other;
        }
        m->required = required;
    } else {
        sx k = schema_sub(c, at, needs, keyword, NULL);
        if (k < 0) return NULL;
        with = typed_and(c, with, schema_lower(c, k));
    }
    return schema_failed(c) || !with ? NULL : typed_or(c, without, with);
}

static typed *raw_typed(schema_ctx *c, sx a) {
    sx_node at = c->nodes[a]; /* by value: lowering adds nodes */
    json_t *s = at.json, *v, *value;
    const char *key;
    if ((v = json_object_get(s, "$ref"))) {
        sx target = schema_resolve(c, &at, json_str(v), "$ref");
        typed *t = target < 0 ? NULL : schema_lower(c, target);
        if (!t || c->resources[at.resource].old) return t;
        json_t *rest = json_copy(s);
        json_object_del(rest, "$ref");
        bool alone = json_object_size(rest) == 0;
        json_decref(rest);
        if (alone) return t;
    }
    typed *t = own_typed(c, &at);
    if (v && t) t = typed_and(c, t, schema_lower(c, schema_resolve(c, &at, json_str(v), "$ref")));
    v = json_object_get(s, "$dynamicRef");
    if (t && v && schema_count_dynamic_anchors(c->root, 0) > 1) { /* who refers here decides */
        if (!schema_unsupported(c, at.path, "$dynamicRef", "it has several anchors to choose from"))
            return NULL;
    } else if (t && v)
        t = typed_and(c, t, schema_lower(c, schema_resolve(c, &at, json_str(v), "$dynamicRef")));
    if (t && (v = json_object_get(s, "$recursiveRef")) &&
        !schema_unsupported(c, at.path, "$recursiveRef", "it depends on who refers here"))
        return NULL;
    if (t && (v = json_object_get(s, "allOf")))
        for (size_t i = 0; i < json_array_size(v) && t; i++)
            t = typed_and(c, t, schema_lower(c, schema_sub_index(c, &at, v, i, "allOf")));
    if (t && (v = json_object_get(s, "anyOf"))) t = typed_and(c, t, any_of(c, &at, v));
    if (t && (v = json_object_get(s, "oneOf"))) t = typed_and(c, t, one_of(c, &at, v));
    if (t && (v = json_object_get(s, "not")) && json_object_size(v) == 1 &&
        (value = json_object_get(v, "not"))) /* twice is not at all */
        t = typed_and(c, t, schema_lower(c, schema_sub(c, &at, value, "not", "not")));
    else if (t && v)
        t = typed_and(c, t,
                      not_of(c, &at, schema_lower(c, schema_sub(c, &at, v, "not", NULL)), "not"));
    if (t && json_object_get(s, "if")) t = typed_and(c, t, if_then_else(c, &at));
    static const char *const DEPENDENT[] = {"dependentRequired", "dependentSchemas",
                                            "dependencies"};
    for (int i = 0; i < 3 && t; i++) {
        v = json_object_get(s, DEPENDENT[i]);
        json_object_foreach(v, key, value) {
            if (!t) break;
            t = typed_and(c, t, depends(c, &at, str_from(key), value, DEPENDENT[i]));
        }
    }
    return t;
}

typed *schema_lower(schema_ctx *c, sx a) {
    if (a < 0 || schema_failed(c)) return NULL;
    sx_node *n = &c->nodes[a];
    if (n->lowered) return n->lowered;
    if (n->is_lowering) {
        schema_invalid(c, n->path ? n->path : "", "$ref", "It refers to itself without end.");
        return NULL;
    }
    if (c->depth >= MAX_LOWER_DEPTH) {
        schema_too_much(c, "references one behind the other", MAX_LOWER_DEPTH);
        return NULL;
    }
    c->depth++;
    n->is_lowering = true;
    typed *t = NULL;
    switch (n->op) {
    case SXO_TRUE: t = typed_all(c); break;
    case SXO_FALSE: t = typed_none(c); break;
    case SXO_CONST: t = const_typed(c, n->json); break;
    case SXO_RAW: t = raw_typed(c, a); break;
    case SXO_NOT: {
        const char *why = "it is not a set of shapes";
        sx inner = n->a;
        typed *k = schema_lower(c, inner);
        t = k ? typed_not(c, k, &why) : NULL;
        if (!t && !schema_failed(c)) {
            const char *path = c->nodes[inner].path;
            t = schema_unsupported(c,
                                   path         ? path
                                   : c->o.param ? c->o.param
                                                : "",
                                   "not", why)
                    ? typed_all(c)
                    : NULL;
        }
        break;
    }
    default: {
        int32_t first = n->a, count = n->b;
        sx_op op = n->op;
        t = op == SXO_AND ? typed_all(c) : typed_none(c);
        for (int32_t i = 0; i < count && t; i++) {
            typed *k = schema_lower(c, c->kids[first + i]);
            t = op == SXO_AND ? typed_and(c, t, k) : typed_or(c, t, k);
        }
    }
    }
    c->depth--;
    n = &c->nodes[a];
    n->is_lowering = false;
    if (schema_failed(c)) return NULL;
    n->lowered = t;
    return t;
}

rx schema_keys_rx(schema_ctx *c, sx a) {
    typed *t = schema_lower(c, a);
    rx r = t ? RX_NONE : -1;
    for (size_t i = 0; t && i < t->texts.n; i++)
        r = regex_alt2(c->x, r, schema_text_rx(c, &t->texts.v[i]));
    return r;
}
