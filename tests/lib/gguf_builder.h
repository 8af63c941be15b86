/* Builds any GGUF image in memory: whole tiny models for tests, and wrong ones.
 * Values and tensors are appended in call order; tensors are placed one after
 * the other at the alignment unless put at an offset by hand. Nothing is
 * checked: overwrite n_values, n_tensors, version or bytes to build what must be
 * refused. Sticky on allocation failure, like the bufs it is made of.
 *
 *   gguf_builder g;
 *   gguf_builder_init(&g);
 *   gguf_put_str(&g, "general.architecture", "llama");
 *   gguf_put_tensor(&g, "output.weight", DTYPE_F32, 2, (uint64_t[]){8, 4}, weights);
 *   buf image = {0};
 *   gguf_builder_render(&g, &image);    // may be called again after more puts
 *   file *f = file_open_memory(image.ptr, image.len, "tiny", &err);
 *   gguf_builder_deinit(&g);
 */
#ifndef TESTS_GGUF_BUILDER_H
#define TESTS_GGUF_BUILDER_H

#include "base/buf.h"
#include "file/file.h"

typedef struct gguf_builder {
    uint32_t version;  /* 3 */
    uint64_t n_values; /* written to the header as they stand */
    uint64_t n_tensors;
    uint64_t
        alignment; /* 32; set it before the first tensor. A value of that name is yours to put */
    buf values, tensors, data;
} gguf_builder;

void gguf_builder_init(gguf_builder *g);
void gguf_builder_deinit(gguf_builder *g);
/* Replaces out's content by the image. False when memory ran out anywhere. */
bool gguf_builder_render(const gguf_builder *g, buf *out);
/* Renders into a file. False with errno when it cannot be written. */
bool gguf_builder_write(const gguf_builder *g, const char *path);

/* Key and type number; the value's bytes are appended to g->values by hand. */
void gguf_put_key(gguf_builder *g, str key, uint32_t type);
/* A length-prefixed string without a key, for arrays by hand. */
void gguf_put_raw_str(buf *b, str s);
void gguf_put_u8(gguf_builder *g, const char *key, uint8_t v);
void gguf_put_i8(gguf_builder *g, const char *key, int8_t v);
void gguf_put_u16(gguf_builder *g, const char *key, uint16_t v);
void gguf_put_i16(gguf_builder *g, const char *key, int16_t v);
void gguf_put_u32(gguf_builder *g, const char *key, uint32_t v);
void gguf_put_i32(gguf_builder *g, const char *key, int32_t v);
void gguf_put_u64(gguf_builder *g, const char *key, uint64_t v);
void gguf_put_i64(gguf_builder *g, const char *key, int64_t v);
void gguf_put_f32(gguf_builder *g, const char *key, float v);
void gguf_put_f64(gguf_builder *g, const char *key, double v);
void gguf_put_bool(gguf_builder *g, const char *key, bool v);
void gguf_put_str(gguf_builder *g, const char *key, const char *v);
/* n items of a fixed-size type. */
void gguf_put_array(gguf_builder *g, const char *key, file_type item, uint64_t n,
                    const void *items);
void gguf_put_strs(gguf_builder *g, const char *key, size_t n, const str *items);

/* shape[0] runs fastest. bytes: as the type says; NULL writes zeros. */
void gguf_put_tensor(gguf_builder *g, const char *name, uint32_t type, int n_dims,
                     const uint64_t *shape, const void *bytes);
/* Only the description, with any numbers in it. */
void gguf_put_tensor_info(gguf_builder *g, str name, uint32_t type, uint32_t n_dims,
                          const uint64_t *shape, uint64_t offset);
/* Data bytes as they stand, after padding to the alignment; returns their offset. */
uint64_t gguf_put_data(gguf_builder *g, const void *bytes, size_t len);

#endif
