#include "api/form.h"

#include <stdlib.h>
#include <string.h>

static void drop_json(void *v) {
    json_decref(v);
}

static field_kind kind_of(const field *table, size_t n, const char *name) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(table[i].name, name) == 0) return table[i].kind;
    return FIELD_STR;
}

/* What is no number where one is wanted stays a string: the table then says so. */
static json_t *value_of(str text, field_kind kind) {
    char digits[64];
    if (kind == FIELD_BOOL && str_is(text, "true")) return json_true();
    if (kind == FIELD_BOOL && str_is(text, "false")) return json_false();
    if ((kind == FIELD_INT || kind == FIELD_NUM) && text.len && text.len < sizeof digits) {
        char *end;
        memcpy(digits, text.ptr, text.len);
        digits[text.len] = 0;
        double v = strtod(digits, &end);
        if (*end == 0)
            return kind == FIELD_INT && v == (double)(int64_t)v ? json_integer((json_int_t)v)
                                                                : json_real(v);
    }
    return json_stringn(text.ptr ? text.ptr : "", text.len);
}

json_t *form_parse(http_req *r, const field *table, size_t n, multipart *form, error *err) {
    if (!multipart_parse(http_header(r, "Content-Type"), http_body(r), form, err)) return NULL;
    json_t *object = json_object();
    if (object) http_own(r, object, drop_json);
    bool ok = object != NULL;
    for (size_t i = 0; ok && i < form->n; i++) {
        const multipart_part *p = &form->parts[i];
        if (p->has_filename) continue;
        char name[MULTIPART_MAX_NAME + 1];
        size_t len = strlen(p->name);
        memcpy(name, p->name, len + 1);
        bool listed = len > 2 && strcmp(name + len - 2, "[]") == 0;
        if (listed) name[len - 2] = 0;
        json_t *v = value_of(p->body, kind_of(table, n, name)), *list = NULL;
        if (!v) {
            error_set(err, ERR_MALFORMED, name, "The form's field '%s' is not valid UTF-8.", name);
            return NULL;
        }
        if (listed) {
            list = json_object_get(object, name);
            if (!list && json_object_set_new(object, name, list = json_array()) != 0) list = NULL;
            ok = json_is_array(list) && json_array_append_new(list, v) == 0;
        } else
            ok = json_object_set_new(object, name, v) == 0;
    }
    if (!ok) error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the form.");
    return ok ? object : NULL;
}

const multipart_part *form_need_file(const multipart *form, const char *name, error *err) {
    const multipart_part *p = multipart_find(form, name);
    if (!p)
        error_set(err, ERR_MISSING_PARAMETER, name, "Missing required parameter: '%s'.", name);
    else if (!p->body.len) {
        error_set(err, ERR_INVALID_VALUE, name, "Invalid '%s': the file is empty.", name);
        p = NULL;
    }
    return p;
}
