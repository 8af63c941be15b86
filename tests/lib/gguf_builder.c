#include "gguf_builder.h"

#include <fcntl.h>
#include <unistd.h>

void gguf_builder_init(gguf_builder *g) {
    *g = (gguf_builder){.version = 3, .alignment = 32};
}

void gguf_builder_deinit(gguf_builder *g) {
    buf_deinit(&g->values);
    buf_deinit(&g->tensors);
    buf_deinit(&g->data);
}

static void pad(buf *b, uint64_t alignment) {
    while (alignment && b->len % alignment) buf_append_char(b, 0);
}

static void append_u32(buf *b, uint32_t v) {
    buf_append(b, &v, sizeof v);
}
static void append_u64(buf *b, uint64_t v) {
    buf_append(b, &v, sizeof v);
}

bool gguf_builder_render(const gguf_builder *g, buf *out) {
    buf_clear(out);
    buf_append(out, "GGUF", 4);
    append_u32(out, g->version);
    append_u64(out, g->n_tensors);
    append_u64(out, g->n_values);
    buf_append_str(out, buf_str(&g->values));
    buf_append_str(out, buf_str(&g->tensors));
    if (g->data.len) pad(out, g->alignment);
    buf_append_str(out, buf_str(&g->data));
    return !(out->failed || g->values.failed || g->tensors.failed || g->data.failed);
}

bool gguf_builder_write(const gguf_builder *g, const char *path) {
    buf image = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && gguf_builder_render(g, &image);
    for (size_t at = 0; ok && at < image.len;) {
        ssize_t n = write(fd, image.ptr + at, image.len - at);
        ok = n > 0;
        if (ok) at += (size_t)n;
    }
    if (fd >= 0 && close(fd) != 0) ok = false;
    buf_deinit(&image);
    return ok;
}

void gguf_put_raw_str(buf *b, str s) {
    append_u64(b, s.len);
    buf_append_str(b, s);
}

void gguf_put_key(gguf_builder *g, str key, uint32_t type) {
    gguf_put_raw_str(&g->values, key);
    append_u32(&g->values, type);
    g->n_values++;
}

#define SCALAR(name, ctype, type)                                     \
    void gguf_put_##name(gguf_builder *g, const char *key, ctype v) { \
        gguf_put_key(g, str_from(key), type);                         \
        buf_append(&g->values, &v, sizeof v);                         \
    }
SCALAR(u8, uint8_t, FILE_U8)
SCALAR(i8, int8_t, FILE_I8)
SCALAR(u16, uint16_t, FILE_U16)
SCALAR(i16, int16_t, FILE_I16)
SCALAR(u32, uint32_t, FILE_U32)
SCALAR(i32, int32_t, FILE_I32)
SCALAR(u64, uint64_t, FILE_U64)
SCALAR(i64, int64_t, FILE_I64)
SCALAR(f32, float, FILE_F32)
SCALAR(f64, double, FILE_F64)
SCALAR(bool, bool, FILE_BOOL)

void gguf_put_str(gguf_builder *g, const char *key, const char *v) {
    gguf_put_key(g, str_from(key), FILE_STR);
    gguf_put_raw_str(&g->values, str_from(v));
}

static void array_head(gguf_builder *g, const char *key, file_type item, uint64_t n) {
    gguf_put_key(g, str_from(key), FILE_ARR);
    append_u32(&g->values, item);
    append_u64(&g->values, n);
}

void gguf_put_array(gguf_builder *g, const char *key, file_type item, uint64_t n,
                    const void *items) {
    static const size_t bytes[] = {[FILE_U8] = 1,  [FILE_I8] = 1,  [FILE_U16] = 2, [FILE_I16] = 2,
                                   [FILE_U32] = 4, [FILE_I32] = 4, [FILE_F32] = 4, [FILE_BOOL] = 1,
                                   [FILE_U64] = 8, [FILE_I64] = 8, [FILE_F64] = 8};
    array_head(g, key, item, n);
    buf_append(&g->values, items, n * bytes[item]);
}

void gguf_put_strs(gguf_builder *g, const char *key, size_t n, const str *items) {
    array_head(g, key, FILE_STR, n);
    for (size_t i = 0; i < n; i++) gguf_put_raw_str(&g->values, items[i]);
}

uint64_t gguf_put_data(gguf_builder *g, const void *bytes, size_t len) {
    pad(&g->data, g->alignment);
    uint64_t at = g->data.len;
    if (bytes)
        buf_append(&g->data, bytes, len);
    else
        for (size_t i = 0; i < len; i++) buf_append_char(&g->data, 0);
    return at;
}

void gguf_put_tensor_info(gguf_builder *g, str name, uint32_t type, uint32_t n_dims,
                          const uint64_t *shape, uint64_t offset) {
    gguf_put_raw_str(&g->tensors, name);
    append_u32(&g->tensors, n_dims);
    for (uint32_t d = 0; d < n_dims; d++) append_u64(&g->tensors, shape[d]);
    append_u32(&g->tensors, type);
    append_u64(&g->tensors, offset);
    g->n_tensors++;
}

void gguf_put_tensor(gguf_builder *g, const char *name, uint32_t type, int n_dims,
                     const uint64_t *shape, const void *bytes) {
    uint64_t n = 1, n_bytes = 0;
    for (int d = 0; d < n_dims; d++) n *= shape[d];
    dtype_row_bytes((dtype)type, n, &n_bytes);
    uint64_t at = gguf_put_data(g, bytes, n_bytes);
    gguf_put_tensor_info(g, str_from(name), type, (uint32_t)n_dims, shape, at);
}
