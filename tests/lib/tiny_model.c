#include "tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/hash.h"

typedef struct maker {
    const tiny *t;
    gguf_builder g;
    uint64_t draws;
} maker;

static const tiny_edit *edit_of(const maker *m, const char *name) {
    for (int i = 0; i < 4 && m->t->edits[i].name; i++)
        if (strcmp(m->t->edits[i].name, name) == 0) return &m->t->edits[i];
    return NULL;
}

/* True when an edit took the key's place. */
static bool put_edited(maker *m, const char *key) {
    const tiny_edit *e = edit_of(m, key);
    if (!e) return false;
    if (e->op == TINY_U32) gguf_put_u32(&m->g, key, (uint32_t)e->i);
    if (e->op == TINY_I32) gguf_put_i32(&m->g, key, (int32_t)e->i);
    if (e->op == TINY_F32) gguf_put_f32(&m->g, key, (float)e->f);
    if (e->op == TINY_STR) gguf_put_str(&m->g, key, e->s);
    return true;
}

static const char *key_of(const maker *m, const char *name, char *to, size_t size) {
    snprintf(to, size, "%s.%s", m->t->arch, name);
    return to;
}
static void put_int(maker *m, const char *name, int v) {
    char key[80];
    key_of(m, name, key, sizeof key);
    if (!put_edited(m, key)) gguf_put_u32(&m->g, key, (uint32_t)v);
}
static void put_float(maker *m, const char *name, double v) {
    char key[80];
    key_of(m, name, key, sizeof key);
    if (!put_edited(m, key)) gguf_put_f32(&m->g, key, (float)v);
}

/* centre + uniform in ±spread */
static void put_tensor(maker *m, const char *name, int n0, int n1, int n2, double centre,
                       double spread) {
    const tiny_edit *e = edit_of(m, name);
    if (e && e->op == TINY_DROP) return;
    if (e && e->op == TINY_SHAPE) n0 = (int)e->i;
    uint64_t shape[3] = {(uint64_t)n0, (uint64_t)n1, (uint64_t)n2};
    int n_dims = n2 > 1 ? 3 : n1 > 1 ? 2 : 1;
    if (e && e->op == TINY_TYPE) {
        gguf_put_tensor(&m->g, name, (uint32_t)e->i, n_dims, shape, NULL);
        return;
    }
    size_t n = (size_t)n0 * (size_t)n1 * (size_t)n2;
    float *x = malloc((n + 1) * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)(centre + spread * (2 * rng_uniform_at(m->t->seed, m->draws++) - 1));
    gguf_put_tensor(&m->g, name, DTYPE_F32, n_dims, shape, x);
    free(x);
}

static void put_layer(maker *m, int layer) {
    const tiny *t = m->t;
    char name[80];
#define NAME(s) (snprintf(name, sizeof name, "blk.%d.%s", layer, s), name)
    int d = t->d_model, nq = t->n_heads * t->head_dim, nk = t->n_kv_heads * t->head_dim;
    double w = 1.7 / __builtin_sqrt(d);
    bool oai = strcmp(t->arch, "gpt-oss") == 0;
    put_tensor(m, NAME("attn_norm.weight"), d, 1, 1, 1, 0.3);
    put_tensor(m, NAME(oai ? "post_attention_norm.weight" : "ffn_norm.weight"), d, 1, 1, 1, 0.3);
    if (t->fused_qkv) {
        put_tensor(m, NAME("attn_qkv.weight"), d, nq + 2 * nk, 1, 0, 2 * w);
        if (t->bias) put_tensor(m, NAME("attn_qkv.bias"), nq + 2 * nk, 1, 1, 0, 0.5);
    } else {
        put_tensor(m, NAME("attn_q.weight"), d, nq, 1, 0, 2 * w);
        put_tensor(m, NAME("attn_k.weight"), d, nk, 1, 0, 2 * w);
        put_tensor(m, NAME("attn_v.weight"), d, nk, 1, 0, 2 * w);
        if (t->bias) {
            put_tensor(m, NAME("attn_q.bias"), nq, 1, 1, 0, 0.5);
            put_tensor(m, NAME("attn_k.bias"), nk, 1, 1, 0, 0.5);
            put_tensor(m, NAME("attn_v.bias"), nk, 1, 1, 0, 0.5);
        }
    }
    if (t->qk_norm) {
        put_tensor(m, NAME("attn_q_norm.weight"), t->head_dim, 1, 1, 1, 0.3);
        put_tensor(m, NAME("attn_k_norm.weight"), t->head_dim, 1, 1, 1, 0.3);
    }
    if (t->sinks) put_tensor(m, NAME("attn_sinks.weight"), t->n_heads, 1, 1, 0.5, 1);
    put_tensor(m, NAME("attn_output.weight"), nq, d, 1, 0, 1.7 / __builtin_sqrt(nq));
    if (oai) put_tensor(m, NAME("attn_output.bias"), d, 1, 1, 0, 0.2);
    int ff = t->n_ff, e = t->n_experts;
    double wf = 1.7 / __builtin_sqrt(ff);
    if (e == 0) {
        put_tensor(m, NAME("ffn_gate.weight"), d, ff, 1, 0, w);
        put_tensor(m, NAME("ffn_up.weight"), d, ff, 1, 0, w);
        put_tensor(m, NAME("ffn_down.weight"), ff, d, 1, 0, wf);
        return;
    }
    put_tensor(m, NAME("ffn_gate_inp.weight"), d, e, 1, 0, w);
    put_tensor(m, NAME("ffn_gate_exps.weight"), d, ff, e, 0, w);
    put_tensor(m, NAME("ffn_up_exps.weight"), d, ff, e, 0, w);
    put_tensor(m, NAME("ffn_down_exps.weight"), ff, d, e, 0, wf);
    if (!oai) return;
    put_tensor(m, NAME("ffn_gate_inp.bias"), e, 1, 1, 0, 0.3);
    put_tensor(m, NAME("ffn_gate_exps.bias"), ff, e, 1, 0, 0.3);
    put_tensor(m, NAME("ffn_up_exps.bias"), ff, e, 1, 0, 0.3);
    put_tensor(m, NAME("ffn_down_exps.bias"), d, e, 1, 0, 0.3);
#undef NAME
}

tiny tiny_defaults(const char *arch) {
    tiny t = {.arch = arch,
              .n_layers = 2,
              .d_model = 24,
              .n_heads = 4,
              .n_kv_heads = 2,
              .head_dim = 8,
              .n_ff = 36,
              .n_vocab = 50,
              .seed = 1};
    t.tied = strcmp(arch, "llama") == 0;
    t.bias = strcmp(arch, "qwen2") == 0;
    t.qk_norm = strcmp(arch, "qwen3") == 0 || strcmp(arch, "qwen3moe") == 0;
    if (strcmp(arch, "gpt-oss") == 0) {
        t.bias = t.sinks = t.yarn = true;
        t.width = 40;
    }
    if (t.sinks || strcmp(arch, "qwen3moe") == 0) {
        t.n_experts = 5;
        t.n_used = 2;
    }
    return t;
}

buf tiny_image(const tiny *t) {
    maker m = {.t = t};
    gguf_builder_init(&m.g);
    if (!put_edited(&m, "general.architecture"))
        gguf_put_str(&m.g, "general.architecture", t->arch);
    put_int(&m, "block_count", t->n_layers);
    put_int(&m, "context_length", 4096);
    put_int(&m, "embedding_length", t->d_model);
    put_int(&m, "feed_forward_length", t->n_ff);
    put_int(&m, "attention.head_count", t->n_heads);
    put_int(&m, "attention.head_count_kv", t->n_kv_heads);
    put_int(&m, "attention.key_length", t->head_dim);
    put_int(&m, "attention.value_length", t->head_dim);
    put_int(&m, "rope.dimension_count", t->head_dim);
    put_float(&m, "rope.freq_base", 10000);
    put_float(&m, "attention.layer_norm_rms_epsilon", 1e-5);
    if (t->n_experts) {
        put_int(&m, "expert_count", t->n_experts);
        put_int(&m, "expert_used_count", t->n_used);
        put_int(&m, "expert_feed_forward_length", t->n_ff);
    }
    if (t->width) put_int(&m, "attention.sliding_window", t->width);
    if (t->yarn) {
        char key[80];
        key_of(&m, "rope.scaling.type", key, sizeof key);
        if (!put_edited(&m, key)) gguf_put_str(&m.g, key, "yarn");
        put_float(&m, "rope.scaling.factor", 4);
        put_int(&m, "rope.scaling.original_context_length", 1024);
    }
    put_tensor(&m, "token_embd.weight", t->d_model, t->n_vocab, 1, 0, 1);
    put_tensor(&m, "output_norm.weight", t->d_model, 1, 1, 1, 0.3);
    if (!t->tied) put_tensor(&m, "output.weight", t->d_model, t->n_vocab, 1, 0, 0.5);
    for (int l = 0; l < t->n_layers; l++) put_layer(&m, l);
    for (int i = 0; i < 4 && t->edits[i].name; i++) {
        const tiny_edit *e = &t->edits[i];
        if (e->op == TINY_ADD) put_tensor(&m, e->name, (int)e->i, 1, 1, 1, 0);
        if (e->new_key) put_edited(&m, e->name);
    }
    buf image = {0};
    assert_true(gguf_builder_render(&m.g, &image));
    gguf_builder_deinit(&m.g);
    return image;
}
