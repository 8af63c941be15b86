/* $ref and what it leads to: the resources of a document ($id, with the dialect each is written in), anchors,
 * JSON pointers. Sources: JSON Schema 2020-12 core, 8.2; RFC 3986, 5.2; RFC 6901.
 */
#include <stdio.h>

#include "base/hash.h"
#include "sample/schema_impl.h"

/* ── References ── */

static void normalize_path(buf *path) {
    /* "a/b/../c" and "./" */
    buf out = {0};
    str s = buf_str(path);
    size_t i = 0;
    while (i < s.len) {
        size_t k = i;
        while (k < s.len && s.ptr[k] != '/') k++;
        str part = {s.ptr + i, k - i};
        bool last = k == s.len;
        if (str_is(part, "..")) {
            if (out.len) out.len--;
            while (out.len && out.ptr[out.len - 1] != '/') out.len--;
        } else if (!str_is(part, ".")) {
            buf_append_str(&out, part);
            if (!last) buf_append_char(&out, '/');
        }
        i = k + 1;
    }
    buf_deinit(path);
    *path = out;
}

/* RFC 3986 §5.2 as far as identifiers of schemas need it; the fragment is not part of either. */
static str resolve_uri(schema_ctx *c, str base, str ref) {
    ptrdiff_t colon = str_find(ref, STR(":"), 0), slash = str_find(ref, STR("/"), 0);
    if (colon > 0 && (slash < 0 || colon < slash)) return ref;
    if (!ref.len) return base;
    ptrdiff_t scheme = str_find(base, STR("://"), 0);
    size_t host = scheme >= 0 ? (size_t)scheme + 3 : 0, path = host;
    while (path < base.len && base.ptr[path] != '/') path++;
    if (scheme < 0) path = 0;
    buf out = {0}, tail = {0};
    if (ref.len > 1 && ref.ptr[0] == '/' && ref.ptr[1] == '/') {
        buf_append(&out, base.ptr, scheme >= 0 ? (size_t)scheme + 1 : 0);
        buf_append_str(&out, ref);
    } else {
        buf_append(&out, base.ptr, path);
        if (ref.ptr[0] == '/')
            buf_append_str(&tail, ref);
        else {
            size_t end = base.len;
            while (end > path && base.ptr[end - 1] != '/') end--;
            buf_append(&tail, base.ptr + path, end - path);
            if (end == path && scheme >= 0) buf_append_char(&tail, '/');
            buf_append_str(&tail, ref);
        }
        normalize_path(&tail);
        buf_append_str(&out, buf_str(&tail));
    }
    char *kept = arena_dup(&c->mem, buf_str(&out));
    str result = kept ? str_make(kept, out.len) : (str){0};
    buf_deinit(&out);
    buf_deinit(&tail);
    return result;
}

static str get_id(json_t *s) {
    json_t *v = json_object_get(s, "$id");
    if (!v) v = json_object_get(s, "id");
    str id = json_str(v);
    ptrdiff_t hash = str_find(id, STR("#"), 0);
    if (hash >= 0) id.len = (size_t)hash;
    return id;
}

static bool is_draft4(json_t *s, bool otherwise) {
    str uri = json_str(json_object_get(s, "$schema"));
    if (!uri.len) return otherwise;
    return str_find(uri, STR("draft-04"), 0) >= 0 || str_find(uri, STR("draft-03"), 0) >= 0;
}

static bool hides_siblings(const schema_ctx *c, json_t *s, bool otherwise) {
    (void)c;
    json_t *v = json_object_get(s, "$schema");
    if (!json_is_string(v)) return otherwise;
    str uri = json_str(v);
    static const char *const OLD[] = {"draft-03", "draft-04", "draft-05", "draft-06", "draft-07"};
    for (size_t i = 0; i < sizeof OLD / sizeof *OLD; i++)
        if (str_find(uri, str_from(OLD[i]), 0) >= 0) return true;
    return false;
}

/* Every schema with an identifier, so that references by name find it. */
static void list_resources(schema_ctx *c, json_t *s, int32_t resource, int depth) {
    if (depth > GRAMMAR_MAX_SCHEMA_DEPTH || schema_failed(c)) return;
    if (json_is_array(s)) {
        for (size_t i = 0; i < json_array_size(s); i++)
            list_resources(c, json_array_get(s, i), resource, depth + 1);
        return;
    }
    if (!json_is_object(s)) return;
    str id = get_id(s);
    if (id.len && s != c->root && !(c->resources[resource].old && json_object_get(s, "$ref"))) {
        if (!builder_grow(c->b, &c->resources, &c->cap_resources, c->n_resources + 1,
                          sizeof *c->resources))
            return;
        c->resources[c->n_resources] = (schema_doc){
            .uri = resolve_uri(c, c->resources[resource].uri, id),
            .root = s,
            .old = hides_siblings(c, s, c->resources[resource].old),
            .is_draft4 = is_draft4(s, c->resources[resource].is_draft4),
        };
        resource = c->n_resources++;
    }
    const char *key;
    json_t *v;
    json_object_foreach(s, key, v) {
        if (str_is(str_from(key), "enum") || str_is(str_from(key), "const") ||
            str_is(str_from(key), "default") || str_is(str_from(key), "examples"))
            continue;
        list_resources(c, v, resource, depth + 1);
    }
}

bool schema_list_resources(schema_ctx *c) {
    if (!builder_grow(c->b, &c->resources, &c->cap_resources, 1, sizeof *c->resources))
        return false;
    c->resources[0] = (schema_doc){.uri = get_id(c->root),
                                   .root = c->root,
                                   .old = hides_siblings(c, c->root, false),
                                   .is_draft4 = is_draft4(c->root, false)};
    c->n_resources = 1;
    list_resources(c, c->root, 0, 0);
    return true;
}

static int32_t resource_of(const schema_ctx *c, json_t *s, int32_t inherited) {
    for (int32_t i = 0; i < c->n_resources; i++)
        if (c->resources[i].root == s) return i;
    return inherited;
}

sx schema_sub(schema_ctx *c, const sx_node *at, json_t *schema, const char *a, const char *b) {
    return schema_raw(c, schema, resource_of(c, schema, at->resource),
                      schema_path(c, at->path, a, b));
}

sx schema_sub_index(schema_ctx *c, const sx_node *at, json_t *list, size_t i, const char *keyword) {
    char index[24];
    snprintf(index, sizeof index, "%zu", i);
    return schema_sub(c, at, json_array_get(list, i), keyword, index);
}

static json_t *find_anchor(json_t *s, str name, int depth) {
    if (depth > GRAMMAR_MAX_SCHEMA_DEPTH) return NULL;
    json_t *found = NULL, *v;
    if (json_is_array(s)) {
        for (size_t i = 0; i < json_array_size(s) && !found; i++)
            if (!get_id(json_array_get(s, i)).len) /* another resource's anchors are not ours */
                found = find_anchor(json_array_get(s, i), name, depth + 1);
        return found;
    }
    if (!json_is_object(s)) return NULL;
    if (str_eq(json_str(json_object_get(s, "$anchor")), name) && name.len) return s;
    if (str_eq(json_str(json_object_get(s, "$dynamicAnchor")), name) && name.len) return s;
    for (int i = 0; i < 2; i++) { /* the older way: an id that is only a fragment */
        str id = json_str(json_object_get(s, i ? "id" : "$id"));
        if (id.len == name.len + 1 && id.ptr[0] == '#' &&
            str_eq(str_make(id.ptr + 1, name.len), name))
            return s;
    }
    const char *key;
    json_object_foreach(s, key, v) {
        if (get_id(v).len || str_is(str_from(key), "enum") || str_is(str_from(key), "const"))
            continue;
        if ((found = find_anchor(v, name, depth + 1))) return found;
    }
    return NULL;
}

int schema_count_dynamic_anchors(json_t *s, int depth) {
    int n = 0;
    const char *key;
    json_t *v;
    if (depth > GRAMMAR_MAX_SCHEMA_DEPTH) return 2;
    if (json_is_object(s) && json_object_get(s, "$dynamicAnchor")) n++;
    for (size_t i = 0; i < json_array_size(s); i++)
        n += schema_count_dynamic_anchors(json_array_get(s, i), depth + 1);
    json_object_foreach(s, key, v) n += schema_count_dynamic_anchors(v, depth + 1);
    return n;
}

static int hex_digit(char ch) {
    if (ch >= '0' && ch <= '9') return ch - '0';
    ch |= 32;
    return ch >= 'a' && ch <= 'f' ? ch - 'a' + 10 : -1;
}

/* A JSON pointer below `s`; notes the resources it walks through. */
static json_t *follow_pointer(schema_ctx *c, json_t *s, str pointer, int32_t *resource) {
    size_t i = 0;
    while (s && i < pointer.len) {
        if (pointer.ptr[i] != '/') return NULL;
        i++;
        buf name = {0};
        for (; i < pointer.len && pointer.ptr[i] != '/'; i++) {
            char ch = pointer.ptr[i];
            if (ch == '%' && i + 2 < pointer.len && hex_digit(pointer.ptr[i + 1]) >= 0 &&
                hex_digit(pointer.ptr[i + 2]) >= 0) {
                ch = (char)(hex_digit(pointer.ptr[i + 1]) * 16 + hex_digit(pointer.ptr[i + 2]));
                i += 2;
            }
            buf_append_char(&name, ch);
        }
        buf plain = {0};
        for (size_t k = 0; k < name.len; k++) {
            char ch = name.ptr[k];
            if (ch == '~' && k + 1 < name.len && (name.ptr[k + 1] == '0' || name.ptr[k + 1] == '1'))
                ch = name.ptr[++k] == '0' ? '~' : '/';
            buf_append_char(&plain, ch);
        }
        if (json_is_array(s)) {
            char *end = NULL;
            unsigned long at = plain.len ? strtoul(plain.ptr, &end, 10) : 0;
            s = plain.len && !*end ? json_array_get(s, at) : NULL;
        } else
            s = json_object_getn(s, plain.ptr ? plain.ptr : "", plain.len);
        buf_deinit(&name);
        buf_deinit(&plain);
        if (s) *resource = resource_of(c, s, *resource);
    }
    return s;
}

sx schema_resolve(schema_ctx *c, const sx_node *at, str ref, const char *keyword) {
    ptrdiff_t hash = str_find(ref, STR("#"), 0);
    str uri = hash < 0 ? ref : str_make(ref.ptr, (size_t)hash);
    str fragment = hash < 0 ? (str){0} : str_make(ref.ptr + hash + 1, ref.len - (size_t)hash - 1);
    int32_t r = at->resource;
    if (uri.len) {
        str whole = resolve_uri(c, c->resources[r].uri, uri);
        for (r = 0; r < c->n_resources; r++)
            if (str_eq(c->resources[r].uri, whole)) break;
        if (r == c->n_resources) {
            if (!schema_unsupported(c, at->path, keyword,
                                    "it refers to a schema outside of this one"))
                return SX_FAILED;
            return SX_TRUE;
        }
    }
    json_t *s = c->resources[r].root;
    if (fragment.len && fragment.ptr[0] == '/')
        s = follow_pointer(c, s, fragment, &r);
    else if (fragment.len) {
        s = find_anchor(s, fragment, 0);
        if (s) r = resource_of(c, s, r);
    }
    if (!s || !(json_is_object(s) || json_is_boolean(s))) {
        schema_invalid(c, at->path, keyword, "'%.*s' leads to no schema.",
                       ref.len < 100 ? (int)ref.len : 100, ref.ptr);
        return SX_FAILED;
    }
    return schema_raw(c, s, r, schema_path(c, at->path, keyword, NULL));
}
