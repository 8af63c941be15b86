/* Reads everything an opened file offers: each item of each value through every
 * accessor, the first and last byte of each tensor, each name back through the
 * index. For the fuzzer and the damage tests: a view that leaves the mapping is
 * caught by the sanitizer, a directory that contradicts itself by the result.
 */
#ifndef TESTS_GGUF_WALK_H
#define TESTS_GGUF_WALK_H

#include "file/file.h"

static inline bool gguf_walk_value(const file *f, const file_value *v) {
    bool is_int = v->item_type != FILE_STR && v->item_type != FILE_ARR &&
                  v->item_type != FILE_BOOL && v->item_type != FILE_F32 && v->item_type != FILE_F64;
    for (uint64_t i = 0; i < v->n; i++) {
        uint64_t u;
        int64_t s;
        double d;
        bool b;
        str t;
        bool is_u = file_item_u64(f, v, i, &u), is_s = file_item_i64(f, v, i, &s);
        bool is_d = file_item_f64(f, v, i, &d), is_b = file_item_bool(f, v, i, &b);
        bool is_t = file_item_str(f, v, i, &t);
        if (is_int != (is_u || is_s) || (is_u && is_s && u != (uint64_t)s)) return false;
        if (is_b != (v->item_type == FILE_BOOL) || is_t != (v->item_type == FILE_STR)) return false;
        if (is_d && (v->item_type == FILE_STR || v->item_type == FILE_ARR)) return false;
        volatile char last = is_t && t.len ? t.ptr[t.len - 1] : 0;
        (void)last;
    }
    uint64_t u;
    return !file_item_u64(f, v, v->n, &u);
}

/* False when the file contradicts itself. */
static inline bool gguf_walk(const file *f) {
    for (size_t i = 0; i < file_n_values(f); i++) {
        const file_value *v = file_get_value(f, i);
        if (file_find_value(f, v->key) != v || !gguf_walk_value(f, v)) return false;
        if (v->type != FILE_ARR && (v->n != 1 || v->item_type != v->type)) return false;
    }
    for (size_t i = 0; i < file_n_tensors(f); i++) {
        const file_tensor *t = file_get_tensor(f, i);
        uint64_t n = 1;
        for (int d = 0; d < FILE_MAX_DIMS; d++) n *= t->shape[d];
        if (file_find_tensor(f, t->name) != t || n != t->n_elements || t->n_bytes == 0)
            return false;
        if (!dtype_get(t->type) || t->offset > file_n_bytes(f) - t->n_bytes) return false;
        volatile char edge = *(const char *)t->data;
        edge = ((const char *)t->data)[t->n_bytes - 1];
        (void)edge;
    }
    return true;
}

#endif
