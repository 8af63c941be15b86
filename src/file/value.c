/* Reading metadata items as C numbers and strings. Conversions are lossless or
 * refused: what a file calls an integer is never rounded, wrapped or guessed.
 */
#include "file/gguf.h"

#include <math.h>

/* An item as the widest of its kind. */
typedef struct number {
    enum { NOT_A_NUMBER, UNSIGNED, SIGNED, FLOATING } kind;
    uint64_t u;
    int64_t i;
    double d;
} number;

#define LOAD(ctype, member, tag)                          \
    {                                                     \
        ctype x;                                          \
        memcpy(&x, v->data + index * sizeof x, sizeof x); \
        return (number){.kind = tag, .member = x};        \
    }

static number load(const gguf_value *v, uint64_t index) {
    if (index < v->pub.n) switch (v->pub.item_type) {
        case FILE_U8: LOAD(uint8_t, u, UNSIGNED)
        case FILE_U16: LOAD(uint16_t, u, UNSIGNED)
        case FILE_U32: LOAD(uint32_t, u, UNSIGNED)
        case FILE_U64: LOAD(uint64_t, u, UNSIGNED)
        case FILE_I8: LOAD(int8_t, i, SIGNED)
        case FILE_I16: LOAD(int16_t, i, SIGNED)
        case FILE_I32: LOAD(int32_t, i, SIGNED)
        case FILE_I64: LOAD(int64_t, i, SIGNED)
        case FILE_F32: LOAD(float, d, FLOATING)
        case FILE_F64: LOAD(double, d, FLOATING)
        case FILE_BOOL:
        case FILE_STR:
        case FILE_ARR: break;
        }
    return (number){0};
}

static bool to_u64(number n, uint64_t *out) {
    if (n.kind == UNSIGNED) return *out = n.u, true;
    if (n.kind == SIGNED && n.i >= 0) return *out = (uint64_t)n.i, true;
    return false;
}

static bool to_i64(number n, int64_t *out) {
    if (n.kind == SIGNED) return *out = n.i, true;
    if (n.kind == UNSIGNED && n.u <= INT64_MAX) return *out = (int64_t)n.u, true;
    return false;
}

static bool to_f64(number n, double *out) {
    const int64_t exact = 1ll << 53; /* every integer up to here is a double */
    if (n.kind == FLOATING) return *out = n.d, true;
    if (n.kind == SIGNED && n.i >= -exact && n.i <= exact) return *out = (double)n.i, true;
    if (n.kind == UNSIGNED && n.u <= (uint64_t)exact) return *out = (double)n.u, true;
    return false;
}

static const gguf_value *whole(const file_value *v) {
    return (const gguf_value *)v;
}

bool file_item_u64(const file *f, const file_value *v, uint64_t index, uint64_t *out) {
    (void)f;
    return v && to_u64(load(whole(v), index), out);
}
bool file_item_i64(const file *f, const file_value *v, uint64_t index, int64_t *out) {
    (void)f;
    return v && to_i64(load(whole(v), index), out);
}
bool file_item_f64(const file *f, const file_value *v, uint64_t index, double *out) {
    (void)f;
    return v && to_f64(load(whole(v), index), out);
}
bool file_item_bool(const file *f, const file_value *v, uint64_t index, bool *out) {
    (void)f;
    if (!v || v->item_type != FILE_BOOL || index >= v->n) return false;
    *out = whole(v)->data[index] != 0;
    return true;
}
bool file_item_str(const file *f, const file_value *v, uint64_t index, str *out) {
    (void)f;
    if (!v || v->item_type != FILE_STR || index >= v->n) return false;
    const uint8_t *p = whole(v)->data + (v->type == FILE_ARR ? whole(v)->offsets[index] : 0);
    uint64_t len;
    memcpy(&len, p, sizeof len);
    *out = str_make((const char *)p + sizeof len, len);
    return true;
}

static const file_value *scalar(const file *f, const char *key) {
    const file_value *v = file_find_value(f, str_from(key));
    return v && v->type != FILE_ARR ? v : NULL;
}

bool file_get_u64(const file *f, const char *key, uint64_t *out) {
    return file_item_u64(f, scalar(f, key), 0, out);
}
bool file_get_i64(const file *f, const char *key, int64_t *out) {
    return file_item_i64(f, scalar(f, key), 0, out);
}
bool file_get_f64(const file *f, const char *key, double *out) {
    return file_item_f64(f, scalar(f, key), 0, out);
}
bool file_get_bool(const file *f, const char *key, bool *out) {
    return file_item_bool(f, scalar(f, key), 0, out);
}
bool file_get_str(const file *f, const char *key, str *out) {
    return file_item_str(f, scalar(f, key), 0, out);
}

bool gguf_get_u64(const gguf_part *part, const char *key, uint64_t *out) {
    ptrdiff_t at = file_index_find(&part->keys, str_from(key));
    return at >= 0 && part->values[at].pub.type != FILE_ARR &&
           to_u64(load(&part->values[at], 0), out);
}
