/* The schema compiler's door and its expressions: pieces of the schema, and and, or, not of them, one number
 * for equal ones. What they mean is in schema_words.c; how they fail is here.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "sample/schema_impl.h"

enum { SCHEMA_MEMORY = 256 << 20 };

/* ── Failing ── */

bool schema_failed(const schema_ctx *c) {
    return error_is_set(&c->b->err) || c->mem.failed;
}

const char *schema_path(schema_ctx *c, const char *base, const char *a, const char *b) {
    buf out = {0};
    buf_append_cstr(&out, base);
    if (a && *a) buf_printf(&out, "%s%s", out.len ? "." : "", a);
    if (b && *b) buf_printf(&out, "%s%s", out.len ? "." : "", b);
    char *s = out.failed ? NULL : arena_dup(&c->mem, buf_str(&out));
    buf_deinit(&out);
    return s ? s : "";
}

bool schema_invalid(schema_ctx *c, const char *path, const char *keyword, const char *fmt, ...) {
    char why[400];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, sizeof why, fmt, ap);
    va_end(ap);
    const char *at = schema_path(c, path, keyword, NULL);
    return builder_fail(c->b, c->o.code ? c->o.code : ERR_INVALID_VALUE, at,
                        "Invalid schema: '%s': %s", *at ? at : "schema", why);
}

bool schema_unsupported(schema_ctx *c, const char *path, const char *keyword, const char *why) {
    const char *at = schema_path(c, path, keyword, NULL);
    if (c->o.lenient) {
        if (c->o.ignored && str_find(buf_str(c->o.ignored), str_from(at), 0) < 0) {
            if (c->o.ignored->len) buf_append_cstr(c->o.ignored, ",");
            buf_append_cstr(c->o.ignored, at);
        }
        return true;
    }
    return builder_fail(c->b, c->o.code ? c->o.code : ERR_UNSUPPORTED_VALUE, at,
                        "'%s' cannot be enforced: %s%s", *at ? at : "schema", why,
                        str_ends(str_from(why), STR(".")) ? "" : ".");
}

bool schema_too_much(schema_ctx *c, const char *limit, int n) {
    return builder_fail(c->b, ERR_UNSUPPORTED_VALUE, c->o.param,
                        "The schema needs more than %d %s.", n, limit);
}

/* ── Expressions ── */

static uint64_t node_hash(const sx_node *n, const sx *kids) {
    uint64_t h = hash_combine(n->op, (uint64_t)(uintptr_t)n->json);
    h = hash_combine(h, (uint64_t)(uint32_t)n->resource << 32 | (uint32_t)n->b);
    return kids ? hash_bytes(kids, (size_t)n->b * sizeof *kids, h)
                : hash_combine(h, (uint64_t)n->a);
}

static sx intern(schema_ctx *c, sx_node n, const sx *kids) {
    if (schema_failed(c)) return SX_FAILED;
    n.hash = node_hash(&n, kids);
    n.jnode = -1;
    if ((uint32_t)c->n_nodes * 2 >= c->n_table) {
        uint32_t size = c->n_table ? c->n_table * 2 : 256;
        int32_t *t = malloc(size * sizeof *t);
        if (!t) return builder_fail(c->b, ERR_NO_MEMORY, NULL, "There is no memory.") - 1;
        memset(t, 0xFF, size * sizeof *t);
        for (int32_t i = 0; i < c->n_nodes; i++) {
            uint32_t at = (uint32_t)c->nodes[i].hash & (size - 1);
            while (t[at] >= 0) at = (at + 1) & (size - 1);
            t[at] = i;
        }
        free(c->table);
        c->table = t;
        c->n_table = size;
    }
    uint32_t at = (uint32_t)n.hash & (c->n_table - 1);
    for (; c->table[at] >= 0; at = (at + 1) & (c->n_table - 1)) {
        const sx_node *o = &c->nodes[c->table[at]];
        if (o->hash == n.hash && o->op == n.op && o->json == n.json && o->b == n.b &&
            (kids ? memcmp(c->kids + o->a, kids, (size_t)n.b * sizeof *kids) == 0 : o->a == n.a))
            return c->table[at];
    }
    if (c->n_nodes >= GRAMMAR_MAX_SCHEMAS)
        return schema_too_much(c, "subschemas, combinations included (GRAMMAR_MAX_SCHEMAS)",
                               GRAMMAR_MAX_SCHEMAS) -
               1;
    if (!builder_grow(c->b, &c->nodes, &c->cap_nodes, c->n_nodes + 1, sizeof *c->nodes))
        return SX_FAILED;
    if (kids) {
        if (!builder_grow(c->b, &c->kids, &c->cap_kids, c->n_kids + n.b, sizeof *c->kids))
            return SX_FAILED;
        memcpy(c->kids + c->n_kids, kids, (size_t)n.b * sizeof *kids);
        n.a = c->n_kids;
        c->n_kids += n.b;
    }
    c->nodes[c->n_nodes] = n;
    c->table[at] = c->n_nodes;
    return c->n_nodes++;
}

sx schema_raw(schema_ctx *c, json_t *schema, int32_t resource, const char *path) {
    if (json_is_boolean(schema)) return json_is_true(schema) ? SX_TRUE : SX_FALSE;
    if (json_object_size(schema) == 0) return SX_TRUE;
    return intern(c, (sx_node){.op = SXO_RAW, .json = schema, .resource = resource, .path = path},
                  NULL);
}

sx schema_const(schema_ctx *c, json_t *value) {
    return intern(c, (sx_node){.op = SXO_CONST, .json = value}, NULL);
}

static int compare_sx(const void *a, const void *b) {
    sx x = *(const sx *)a, y = *(const sx *)b;
    return (x > y) - (x < y);
}

static sx combine(schema_ctx *c, sx_op op, const sx *items, size_t n) {
    sx absorbing = op == SXO_AND ? SX_FALSE : SX_TRUE, neutral = op == SXO_AND ? SX_TRUE : SX_FALSE;
    size_t len = 0, total = 0;
    for (size_t i = 0; i < n; i++) {
        if (items[i] < 0) return SX_FAILED;
        total += c->nodes[items[i]].op == op ? (size_t)c->nodes[items[i]].b : 1;
    }
    sx *v = arena_array(&c->mem, total + 1, sizeof *v);
    if (!v) return SX_FAILED;
    for (size_t i = 0; i < n; i++) {
        const sx_node *k = &c->nodes[items[i]];
        if (items[i] == absorbing) return absorbing;
        if (items[i] == neutral) continue;
        if (k->op == op)
            for (int32_t j = 0; j < k->b; j++) v[len++] = c->kids[k->a + j];
        else
            v[len++] = items[i];
    }
    qsort(v, len, sizeof *v, compare_sx);
    size_t kept = 0;
    for (size_t i = 0; i < len; i++)
        if (!kept || v[kept - 1] != v[i]) v[kept++] = v[i];
    if (kept == 0) return neutral;
    if (kept == 1) return v[0];
    return intern(c, (sx_node){.op = (uint8_t)op, .b = (int32_t)kept}, v);
}

sx schema_and(schema_ctx *c, const sx *items, size_t n) {
    return combine(c, SXO_AND, items, n);
}

sx schema_not(schema_ctx *c, sx a) {
    if (a < 0) return SX_FAILED;
    if (a == SX_TRUE) return SX_FALSE;
    if (a == SX_FALSE) return SX_TRUE;
    if (c->nodes[a].op == SXO_NOT) return c->nodes[a].a;
    return intern(c, (sx_node){.op = SXO_NOT, .a = a}, NULL);
}
/* ── Entry ── */

static bool json_is_deep(json_t *v, int depth) {
    if (depth > GRAMMAR_MAX_SCHEMA_DEPTH * 2) return true;
    const char *key;
    json_t *k;
    if (json_is_array(v))
        for (size_t i = 0; i < json_array_size(v); i++)
            if (json_is_deep(json_array_get(v, i), depth + 1)) return true;
    json_object_foreach(v, key, k) if (json_is_deep(k, depth + 1)) return true;
    return false;
}

int32_t schema_compile(grammar_builder *b, json_t *schema, const grammar_schema_options *o) {
    schema_ctx c = {.b = b, .x = b->x, .root = schema};
    if (o) c.o = *o;
    const char *path = c.o.param ? c.o.param : "";
    arena_init(&c.mem, SCHEMA_MEMORY);
    int32_t result = -1;
    intern(&c, (sx_node){.op = SXO_TRUE}, NULL);
    intern(&c, (sx_node){.op = SXO_FALSE}, NULL);
    if (json_is_deep(schema, 0))
        schema_invalid(&c, path, "",
                       "It is nested more than %d levels deep (GRAMMAR_MAX_SCHEMA_DEPTH).",
                       GRAMMAR_MAX_SCHEMA_DEPTH);
    else if (schema_check_all(&c, schema, path, 0) && schema_list_resources(&c)) {
        str dialect = json_str(json_object_get(schema, "$schema"));
        if (dialect.len && str_find(dialect, STR("json-schema.org/"), 0) < 0)
            schema_unsupported(&c, path, "$schema",
                               "it names a dialect that is not JSON Schema's own");
        sx root = schema_raw(&c, schema, 0, path);
        if (c.o.must_be_object) {
            static const char TEXT[] = "{\"type\":\"object\"}";
            json_t *object = json_loads(TEXT, 0, NULL);
            if (object) {
                root = schema_and(&c, (sx[]){root, schema_raw(&c, object, 0, path)}, 2);
                result = schema_emit(&c, root);
                json_decref(object);
            }
        } else
            result = schema_emit(&c, root);
    }
    if (c.mem.failed && !error_is_set(&b->err))
        builder_fail(b, ERR_UNSUPPORTED_VALUE, c.o.param,
                     "The schema needs more than %d MiB to compile.", SCHEMA_MEMORY >> 20);
    if (regexes_failure(b->x) && !error_is_set(&b->err))
        builder_fail(b, ERR_UNSUPPORTED_VALUE, c.o.param, "%s", regexes_failure(b->x));
    if (error_is_set(&b->err)) result = -1;
    free(c.nodes);
    free(c.kids);
    free(c.table);
    free(c.resources);
    free(c.work);
    arena_deinit(&c.mem);
    return result;
}
