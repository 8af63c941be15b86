/* Tiny models with random F32 weights, built in memory, and wrong ones: an edit changes or drops one
 * key or tensor. For tests of the model room that need no files. */
#ifndef TESTS_TINY_MODEL_H
#define TESTS_TINY_MODEL_H

#include "gguf_builder.h"

typedef struct tiny_edit {
    const char *name; /* of a key or tensor */
    enum { TINY_DROP, TINY_U32, TINY_I32, TINY_F32, TINY_STR, TINY_SHAPE, TINY_TYPE, TINY_ADD } op;
    int64_t i; /* U32, I32; SHAPE: its first dimension; TYPE: its type */
    double f;
    const char *s;
    bool new_key; /* not one that is written anyway */
} tiny_edit;

typedef struct tiny {
    const char *arch;
    int n_layers, d_model, n_heads, n_kv_heads, head_dim, n_ff, n_vocab;
    int n_experts, n_used; /* 0 = dense */
    int width;             /* gpt-oss: the sliding window */
    bool bias, qk_norm, sinks, tied, yarn, fused_qkv;
    uint64_t seed;
    tiny_edit edits[4]; /* up to the first without a name */
} tiny;

/* Small, with odd sizes where an architecture allows them. */
tiny tiny_defaults(const char *arch);
/* The image; free its ptr with buf_deinit. Fails the test when memory runs out. */
buf tiny_image(const tiny *t);

#endif
