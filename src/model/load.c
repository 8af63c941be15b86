/* From a file to typed, shape-checked fields: hyperparameters, then every
 * tensor by name. Afterwards nobody compares strings. A file is a stranger's:
 * every number has a range with a name, sizes are multiplied with overflow
 * checks, and a tensor that nobody asked for is refused, because ignoring a
 * part of a model gives a different model.
 *
 * One walk serves model_inspect (bytes are counted) and model_load (which walks
 * twice: to count, and to say where everything goes), so that the plan and the
 * loading cannot disagree. Only then the weights are read, by fill.c.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/os.h"
#include "model/fill.h"
#include "model/llm.h"

enum {
    MAX_VOCAB = 1 << 22,
    MAX_D_MODEL = 1 << 16,
    MAX_FF = 1 << 18,
    MAX_HEADS = 1024,
    MAX_EXPERTS = 1024,
    MAX_CTX = 1 << 30,
    MAX_TENSORS = 32 * KV_MAX_LAYERS,
    MAX_NAME = 96,
    ALIGN = 64, /* of every matrix and vector */
};

static const llm_arch archs[] = {
    /* OpenAI, gpt_oss/torch/model.py */
    {.name = "gpt-oss",
     .rope_halves = true,
     .moe = true,
     .attn_bias = true,
     .out_bias = true,
     .sinks = true,
     .sliding_even = true,
     .ffn_norm = "post_attention_norm",
     .gating = {.oai = true, .alpha = 1.702f, .limit = 7.0f}},
    /* Touvron et al. 2023; GGUF's converter permutes q and k so that pairs lie side by side */
    {.name = "llama", .yarn_rounds = true, .ffn_norm = "ffn_norm"},
    {.name = "qwen2",
     .rope_halves = true,
     .attn_bias = true,
     .yarn_rounds = true,
     .ffn_norm = "ffn_norm"},
    {.name = "qwen3",
     .rope_halves = true,
     .qk_norm = true,
     .yarn_rounds = true,
     .ffn_norm = "ffn_norm"},
    {.name = "qwen3moe",
     .rope_halves = true,
     .moe = true,
     .qk_norm = true,
     .yarn_rounds = true,
     .ffn_norm = "ffn_norm"},
};

typedef struct loader {
    const file *f;
    llm *l;
    error *err;
    bool ok;
    bool *used;   /* [n_tensors] */
    char *memory; /* the weights'; NULL: only count */
    uint64_t placed;
    fill_part *parts; /* [n_tensors + 2 per layer]: at most three parts come from one tensor */
    size_t n_parts;
    uint64_t total_bytes;
    const float *divisors; /* rope_freqs, once they are read */
    rope_params rope;
    uint64_t type_bytes[DTYPE_COUNT];
} loader;

static bool fail(loader *ld, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool fail(loader *ld, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    error_vset(ld->err, ERR_BAD_FILE, NULL, fmt, ap);
    va_end(ap);
    return ld->ok = false;
}

/* ── Hyperparameters ── */

static const char *key_of(const loader *ld, const char *name, char *buf) {
    snprintf(buf, MAX_NAME, "%s.%s", ld->l->arch->name, name);
    return buf;
}

/* An integer in [min, max]; def < 0 means the key must be there. */
static int64_t get_int(loader *ld, const char *name, int64_t def, int64_t min, int64_t max) {
    char key[MAX_NAME];
    int64_t v = def;
    if (!ld->ok) return min;
    key_of(ld, name, key);
    const file_value *value = file_find_value(ld->f, str_from(key));
    if (!value) {
        if (def < 0) fail(ld, "The key %s is missing.", key);
    } else if (value->type == FILE_ARR) {
        /* One number per layer is fine as long as it is the same number. */
        for (uint64_t i = 0; i < value->n; i++) {
            int64_t item;
            if (!file_item_i64(ld->f, value, i, &item) || (i && item != v)) {
                fail(ld, "The key %s differs from layer to layer, which is not supported.", key);
                return min;
            }
            v = item;
        }
        if (value->n == 0) fail(ld, "The key %s is an empty list.", key);
    } else if (!file_get_i64(ld->f, key, &v)) {
        fail(ld, "The key %s is not an integer.", key);
    }
    if (ld->ok && (v < min || v > max))
        fail(ld, "The key %s is %lld; supported are %lld to %lld.", key, (long long)v,
             (long long)min, (long long)max);
    return ld->ok ? v : min;
}

static double get_float(loader *ld, const char *name, double def, double min, double max) {
    char key[MAX_NAME];
    double v = def;
    if (!ld->ok) return min;
    key_of(ld, name, key);
    if (!file_find_value(ld->f, str_from(key))) {
        if (isnan(def)) fail(ld, "The key %s is missing.", key);
    } else if (!file_get_f64(ld->f, key, &v)) {
        fail(ld, "The key %s is not a number.", key);
    }
    if (ld->ok && !(v >= min && v <= max))
        fail(ld, "The key %s is %g; supported are %g to %g.", key, v, min, max);
    return ld->ok ? v : min;
}

static bool has_key(const loader *ld, const char *name) {
    char key[MAX_NAME];
    return file_find_value(ld->f, str_from(key_of(ld, name, key))) != NULL;
}

static void get_rope_scaling(loader *ld, rope_params *p) {
    char key[MAX_NAME];
    str type = STR("linear"); /* what a bare factor means */
    p->scaling = ROPE_NONE;
    p->factor = p->attn_factor = 1;
    if (ld->l->opts.no_rope_scaling) return;
    bool has_factor = has_key(ld, "rope.scaling.factor");
    if (has_key(ld, "rope.scaling.type") &&
        !file_get_str(ld->f, key_of(ld, "rope.scaling.type", key), &type)) {
        fail(ld, "The key %s is not a string.", key);
        return;
    }
    if (!has_factor && has_key(ld, "rope.scale_linear"))
        p->factor = get_float(ld, "rope.scale_linear", 1, 1e-3, 1e6);
    else if (has_factor)
        p->factor = get_float(ld, "rope.scaling.factor", 1, 0, 1e6);
    if (p->factor == 0) p->factor = 1; /* how converters write "not scaled" */
    if (str_is(type, "none"))
        p->factor = 1;
    else if (str_is(type, "linear"))
        p->scaling = ROPE_LINEAR;
    else if (str_is(type, "yarn"))
        p->scaling = ROPE_YARN;
    else
        fail(ld, "The rope scaling type “%.*s” is not supported.",
             (int)(type.len < 40 ? type.len : 40), type.ptr);
    if (p->scaling != ROPE_YARN) return;
    p->yarn_rounds = ld->l->arch->yarn_rounds;
    p->n_ctx_orig = (double)get_int(ld, "rope.scaling.original_context_length",
                                    ld->l->m.info.n_ctx_train, 1, MAX_CTX);
    p->beta_fast = get_float(ld, "rope.scaling.yarn_beta_fast", 32, 1e-3, 1e6);
    p->beta_slow = get_float(ld, "rope.scaling.yarn_beta_slow", 1, 1e-3, 1e6);
    p->attn_factor = get_float(ld, "rope.scaling.attn_factor", 1, 1e-3, 1e3);
}

static void get_hyperparameters(loader *ld, rope_params *rope) {
    llm *l = ld->l;
    model_info *i = &l->m.info;
    str name = {0};
    if (!file_get_str(ld->f, "general.architecture", &name)) {
        fail(ld, "The key general.architecture is missing or not a string.");
        return;
    }
    for (size_t a = 0; a < sizeof archs / sizeof *archs; a++)
        if (str_is(name, archs[a].name)) l->arch = &archs[a];
    if (!l->arch) {
        fail(
            ld,
            "The architecture “%.*s” is not supported; supported are gpt-oss, llama, qwen2, qwen3 and "
            "qwen3moe.",
            (int)(name.len < 40 ? name.len : 40), name.ptr);
        return;
    }
    snprintf(i->arch, sizeof i->arch, "%s", l->arch->name);
    i->n_layers = (int32_t)get_int(ld, "block_count", -1, 1, KV_MAX_LAYERS);
    i->d_model = (int32_t)get_int(ld, "embedding_length", -1, 1, MAX_D_MODEL);
    i->n_ctx_train = get_int(ld, "context_length", -1, 1, MAX_CTX);
    i->n_heads = (int32_t)get_int(ld, "attention.head_count", -1, 1, MAX_HEADS);
    i->n_kv_heads = (int32_t)get_int(ld, "attention.head_count_kv", i->n_heads, 1, MAX_HEADS);
    if (!ld->ok) return;
    if (i->n_heads % i->n_kv_heads) {
        fail(ld, "%d query heads cannot share %d key/value heads evenly.", i->n_heads,
             i->n_kv_heads);
        return;
    }
    if (!has_key(ld, "attention.key_length") && i->d_model % i->n_heads) {
        fail(ld, "An embedding of %d cannot be divided among %d heads.", i->d_model, i->n_heads);
        return;
    }
    i->head_dim =
        (int32_t)get_int(ld, "attention.key_length", i->d_model / i->n_heads, 1, KERN_MAX_HEAD_DIM);
    int64_t v_dim = get_int(ld, "attention.value_length", i->head_dim, 1, KERN_MAX_HEAD_DIM);
    l->n_rot = (int)get_int(ld, "rope.dimension_count", i->head_dim, 2, KERN_MAX_HEAD_DIM);
    if (!ld->ok) return;
    if (v_dim != i->head_dim)
        fail(ld, "Heads with keys of %d and values of %lld elements are not supported.",
             i->head_dim, (long long)v_dim);
    else if (l->n_rot % 2 || l->n_rot > i->head_dim)
        fail(ld, "Rotary embedding of %d elements does not fit a head of %d; it must be even.",
             l->n_rot, i->head_dim);
    else if (i->head_dim % 2)
        fail(ld, "A head of %d elements is odd.", i->head_dim);
    l->eps = (float)get_float(ld, "attention.layer_norm_rms_epsilon", NAN, 0, 1);
    if (l->arch->moe) {
        i->n_experts = (int32_t)get_int(ld, "expert_count", -1, 1, MAX_EXPERTS);
        i->n_experts_used =
            (int32_t)get_int(ld, "expert_used_count", -1, 1, MODEL_MAX_EXPERTS_USED);
        if (ld->ok && i->n_experts_used > i->n_experts)
            fail(ld, "%d experts of %d cannot be used at once.", i->n_experts_used, i->n_experts);
        l->n_ff = get_int(ld, "expert_feed_forward_length",
                          has_key(ld, "feed_forward_length")
                              ? get_int(ld, "feed_forward_length", -1, 1, MAX_FF)
                              : -1,
                          1, MAX_FF);
    } else {
        l->n_ff = get_int(ld, "feed_forward_length", -1, 1, MAX_FF);
        if (has_key(ld, "expert_count") && get_int(ld, "expert_count", 0, 0, MAX_EXPERTS) > 0)
            fail(ld, "The architecture “%s” with experts is not supported.", l->arch->name);
    }
    if (l->arch->sliding_even) {
        int32_t width = (int32_t)get_int(ld, "attention.sliding_window", -1, 1, MAX_CTX);
        for (int32_t n = 0; n < i->n_layers; n += 2) i->layer_width[n] = width;
    }
    i->has_sinks = l->arch->sinks;
    *rope = (rope_params){.n_rot = l->n_rot};
    rope->base = get_float(ld, "rope.freq_base", 10000, 1.0001, 1e12);
    get_rope_scaling(ld, rope);
}

/* ── Tensors ── */

/* The tensor of that name if its shape is right. NULL when it is absent (an error unless optional) or
 * wrong. */
static const file_tensor *take(loader *ld, const char *name, bool optional, int64_t n0, int64_t n1,
                               int64_t n2) {
    if (!ld->ok) return NULL;
    const file_tensor *t = file_find_tensor(ld->f, str_from(name));
    if (!t) {
        if (!optional) fail(ld, "The tensor %s is missing.", name);
        return NULL;
    }
    if (t->shape[0] != (uint64_t)n0 || t->shape[1] != (uint64_t)n1 || t->shape[2] != (uint64_t)n2 ||
        t->shape[3] != 1) {
        fail(ld, "The tensor %s has the shape %llu×%llu×%llu×%llu, expected is %lld×%lld×%lld.",
             name, (unsigned long long)t->shape[0], (unsigned long long)t->shape[1],
             (unsigned long long)t->shape[2], (unsigned long long)t->shape[3], (long long)n0,
             (long long)n1, (long long)n2);
        return NULL;
    }
    const dtype_info *d = dtype_get(t->type);
    if (!d || !kern_is_supported(t->type) || n0 % d->block_len) {
        fail(ld, "The tensor %s has the type %s, which is not supported%s.", name,
             d ? d->name : "?", d && kern_is_supported(t->type) ? " for rows of this length" : "");
        return NULL;
    }
    for (size_t i = 0; i < file_n_tensors(ld->f); i++)
        if (file_get_tensor(ld->f, i) == t) ld->used[i] = true;
    return t;
}

static void count(loader *ld, const file_tensor *t) {
    model_info *i = &ld->l->m.info;
    ld->type_bytes[t->type] += t->n_bytes;
    i->n_params += t->n_elements;
    i->n_params_active += t->n_elements;
}

/* Room in the weights' memory; NULL while counting. */
static void *place(loader *ld, uint64_t bytes) {
    uint64_t at = ld->placed;
    ld->placed += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    return ld->memory ? ld->memory + at : NULL;
}

/* Vectors become floats, whatever they are stored as: [n1][n0]. */
static const float *take_vector(loader *ld, const char *name, bool optional, int64_t n0,
                                int64_t n1) {
    const file_tensor *t = take(ld, name, optional, n0, n1, 1);
    if (!t) return NULL;
    count(ld, t);
    float *v = place(ld, t->n_elements * sizeof *v);
    ld->parts[ld->n_parts++] = (fill_part){.t = t, .n_bytes = t->n_bytes, .vector = v};
    return v;
}

/* Rows of t from byte `begin` on. */
static void load_rows(loader *ld, const file_tensor *t, uint64_t begin, int64_t n_out, int64_t n_in,
                      int64_t n_mats, dev_matrix *out) {
    const llm *l = ld->l;
    uint64_t row_bytes = 0;
    dtype_row_bytes(t->type, (uint64_t)n_in, &row_bytes);
    uint64_t bytes = row_bytes * (uint64_t)n_out * (uint64_t)n_mats; /* ≤ t->n_bytes: no overflow */
    bool mapped = l->opts.load == MODEL_LOAD_MMAP, pack = !l->opts.no_repack;
    const void *memory = (const char *)t->data + begin;
    if (mapped)
        ld->l->m.info.mapped_bytes += bytes;
    else
        memory = place(ld, dev_matrix_bytes(&l->dev, t->type, n_out, n_in, (int)n_mats, pack));
    *out = dev_matrix_place(&l->dev, t->type, n_out, n_in, (int)n_mats, pack, l->opts.f32_acts,
                            memory);
    if (!mapped)
        ld->parts[ld->n_parts++] =
            (fill_part){.t = t, .begin = begin, .n_bytes = bytes, .matrix = out};
}

static bool take_matrix(loader *ld, const char *name, bool optional, int64_t n_in, int64_t n_out,
                        int64_t n_mats, dev_matrix *out) {
    const file_tensor *t = take(ld, name, optional, n_in, n_out, n_mats);
    if (!t) return false;
    count(ld, t);
    if (n_mats > 1) {
        const model_info *i = &ld->l->m.info;
        uint64_t used = t->n_elements / (uint64_t)i->n_experts * (uint64_t)i->n_experts_used;
        ld->l->m.info.n_params_active -= t->n_elements - used;
    }
    load_rows(ld, t, 0, n_out, n_in, n_mats, out);
    return ld->ok;
}

static char *layer_name(char *buf, int layer, const char *name) {
    snprintf(buf, MAX_NAME, "blk.%d.%s", layer, name);
    return buf;
}

/* q, k and v, in three tensors or one after the other in a fused one. Biases must be there where the
 * architecture has them and are used where a file has them anyway. */
static void take_qkv(loader *ld, int n, llm_layer *y) {
    const model_info *i = &ld->l->m.info;
    char name[MAX_NAME];
    int64_t nq = (int64_t)i->n_heads * i->head_dim, nk = (int64_t)i->n_kv_heads * i->head_dim;
    bool need_bias = ld->l->arch->attn_bias;
    dev_matrix *part[3] = {&y->q, &y->k, &y->v};
    const int64_t rows[3] = {nq, nk, nk};
    const file_tensor *t =
        take(ld, layer_name(name, n, "attn_qkv.weight"), true, i->d_model, nq + 2 * nk, 1);
    if (t) {
        count(ld, t);
        uint64_t row_bytes, at = 0;
        dtype_row_bytes(t->type, (uint64_t)i->d_model, &row_bytes);
        for (int p = 0; p < 3; at += (uint64_t)rows[p++] * row_bytes)
            load_rows(ld, t, at, rows[p], i->d_model, 1, part[p]);
        const float *bias =
            take_vector(ld, layer_name(name, n, "attn_qkv.bias"), !need_bias, nq + 2 * nk, 1);
        for (int p = 0; p < 3 && bias; bias += rows[p++]) part[p]->bias = bias;
        return;
    }
    static const char *const weights[3] = {"attn_q.weight", "attn_k.weight", "attn_v.weight"};
    static const char *const biases[3] = {"attn_q.bias", "attn_k.bias", "attn_v.bias"};
    for (int p = 0; p < 3; p++) {
        take_matrix(ld, layer_name(name, n, weights[p]), false, i->d_model, rows[p], 1, part[p]);
        part[p]->bias = take_vector(ld, layer_name(name, n, biases[p]), !need_bias, rows[p], 1);
    }
}

static void take_layer(loader *ld, int n, llm_layer *y) {
    const llm *l = ld->l;
    const model_info *i = &l->m.info;
    const llm_arch *a = l->arch;
    char name[MAX_NAME], norm[MAX_NAME];
    int64_t d = i->d_model, ff = l->n_ff, experts = i->n_experts;
    y->attn_norm = take_vector(ld, layer_name(name, n, "attn_norm.weight"), false, d, 1);
    take_qkv(ld, n, y);
    if (a->qk_norm) {
        y->q_norm =
            take_vector(ld, layer_name(name, n, "attn_q_norm.weight"), false, i->head_dim, 1);
        y->k_norm =
            take_vector(ld, layer_name(name, n, "attn_k_norm.weight"), false, i->head_dim, 1);
    }
    if (a->sinks)
        y->sinks = take_vector(ld, layer_name(name, n, "attn_sinks.weight"), false, i->n_heads, 1);
    take_matrix(ld, layer_name(name, n, "attn_output.weight"), false,
                (int64_t)i->n_heads * i->head_dim, d, 1, &y->o);
    y->o.bias = take_vector(ld, layer_name(name, n, "attn_output.bias"), !a->out_bias, d, 1);
    snprintf(norm, sizeof norm, "blk.%d.%s.weight", n, a->ffn_norm);
    y->ffn_norm = take_vector(ld, norm, false, d, 1);
    if (!a->moe) {
        take_matrix(ld, layer_name(name, n, "ffn_gate.weight"), false, d, ff, 1, &y->gate);
        take_matrix(ld, layer_name(name, n, "ffn_up.weight"), false, d, ff, 1, &y->up);
        take_matrix(ld, layer_name(name, n, "ffn_down.weight"), false, ff, d, 1, &y->down);
        y->gate.bias = take_vector(ld, layer_name(name, n, "ffn_gate.bias"), true, ff, 1);
        y->up.bias = take_vector(ld, layer_name(name, n, "ffn_up.bias"), true, ff, 1);
        y->down.bias = take_vector(ld, layer_name(name, n, "ffn_down.bias"), true, d, 1);
        return;
    }
    take_matrix(ld, layer_name(name, n, "ffn_gate_inp.weight"), false, d, experts, 1, &y->router);
    take_matrix(ld, layer_name(name, n, "ffn_gate_exps.weight"), false, d, ff, experts, &y->gate);
    take_matrix(ld, layer_name(name, n, "ffn_up_exps.weight"), false, d, ff, experts, &y->up);
    take_matrix(ld, layer_name(name, n, "ffn_down_exps.weight"), false, ff, d, experts, &y->down);
    if (!a->out_bias) return;
    y->router.bias = take_vector(ld, layer_name(name, n, "ffn_gate_inp.bias"), false, experts, 1);
    y->gate.bias = take_vector(ld, layer_name(name, n, "ffn_gate_exps.bias"), false, ff, experts);
    y->up.bias = take_vector(ld, layer_name(name, n, "ffn_up_exps.bias"), false, ff, experts);
    y->down.bias = take_vector(ld, layer_name(name, n, "ffn_down_exps.bias"), false, d, experts);
}

static void take_all(loader *ld) {
    llm *l = ld->l;
    model_info *i = &l->m.info;
    if (file_n_tensors(ld->f) > MAX_TENSORS) {
        fail(ld, "The file has %zu tensors; no supported model has more than %d.",
             file_n_tensors(ld->f), MAX_TENSORS);
        return;
    }
    get_hyperparameters(ld, &ld->rope);
    const file_tensor *embed = ld->ok ? file_find_tensor(ld->f, STR("token_embd.weight")) : NULL;
    if (ld->ok && !embed) fail(ld, "The tensor token_embd.weight is missing.");
    if (ld->ok && (embed->shape[1] < 1 || embed->shape[1] > MAX_VOCAB))
        fail(ld, "The tensor token_embd.weight has %llu rows; supported are 1 to %d.",
             (unsigned long long)embed->shape[1], MAX_VOCAB);
    if (!ld->ok) return;
    i->n_vocab = (int32_t)embed->shape[1];
    l->layers = arena_array(&l->tables, (size_t)i->n_layers, sizeof *l->layers);
    l->freq = arena_array(&l->tables, (size_t)l->n_rot / 2, sizeof *l->freq);
    ld->parts = calloc(file_n_tensors(ld->f) + 2 * (size_t)i->n_layers, sizeof *ld->parts);
    if (!l->layers || !l->freq || !ld->parts) {
        error_set(ld->err, ERR_NO_MEMORY, NULL, "There is no memory for the model's tables.");
        ld->ok = false;
        return;
    }
    /* An embedding that is only looked up stays as it is; a tied one is also the output matrix and is
     * packed like one. */
    l->tied = !file_find_tensor(ld->f, STR("output.weight"));
    bool no_repack = l->opts.no_repack;
    l->opts.no_repack = no_repack || !l->tied;
    take_matrix(ld, "token_embd.weight", false, i->d_model, i->n_vocab, 1, &l->embed);
    l->opts.no_repack = no_repack;
    if (!l->tied) {
        i->n_params_active -= i->n_params; /* of an embedding only one row is active */
        take_matrix(ld, "output.weight", false, i->d_model, i->n_vocab, 1, &l->output);
    }
    l->out_norm = take_vector(ld, "output_norm.weight", false, i->d_model, 1);
    ld->divisors = take_vector(ld, "rope_freqs.weight", true, l->n_rot / 2, 1);
    for (int n = 0; n < i->n_layers && ld->ok; n++) take_layer(ld, n, &l->layers[n]);
    for (size_t n = 0; n < file_n_tensors(ld->f) && ld->ok; n++)
        if (!ld->used[n]) {
            str name = file_get_tensor(ld->f, n)->name;
            fail(ld, "The tensor %.*s is not known in the architecture “%s”.",
                 (int)(name.len < MAX_NAME ? name.len : MAX_NAME), name.ptr, l->arch->name);
        }
    i->file_bytes = file_n_bytes(ld->f);
    for (int t = 0; t < DTYPE_COUNT; t++)
        if (ld->type_bytes[t] > ld->type_bytes[i->main_type]) i->main_type = (dtype)t;
}

/* What loading needs besides: to read the weights, and the pages of bytes linked into the program. */
static fill fill_of(const loader *ld) {
    return (fill){.f = ld->f,
                  .dev = &ld->l->dev,
                  .parts = ld->parts,
                  .n_parts = ld->n_parts,
                  .opts = &ld->l->opts,
                  .total_bytes = ld->total_bytes};
}

/* Reads what the walk laid out. */
static bool read_weights(loader *ld) {
    llm *l = ld->l;
    fill parts = fill_of(ld);
    if (!fill_run(&parts, ld->err)) return false;
    for (int k = 0; ld->divisors && k < l->n_rot / 2; k++)
        if (!(ld->divisors[k] > 0))
            return fail(ld, "The tensor rope_freqs.weight holds a number that is not positive.");
    l->concentration = rope_frequencies(&ld->rope, ld->divisors, l->freq);
    if (l->opts.samples && l->opts.load == MODEL_LOAD_MMAP) fill_samples(ld->f, l->opts.samples);
    return true;
}

/* The walk, counting with bytes 0; then a model without weights. Else a whole one of so many bytes. */
static llm *load(const file *f, const model_options *opts, uint64_t bytes, error *err) {
    llm *l = calloc(1, sizeof *l);
    bool *used = calloc(file_n_tensors(f) + 1, sizeof *used);
    if (!l || !used) {
        free(l);
        free(used);
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for a model.");
        return NULL;
    }
    l->m.ops = &llm_ops;
    if (opts) l->opts = *opts;
    if (!l->opts.kern) l->opts.kern = kern_get();
    l->opts.load = model_choose_load(f, &l->opts);
    if (l->opts.load == MODEL_LOAD_MMAP) l->opts.no_repack = true;
    l->dev = (dev){.kern = l->opts.kern};
    arena_init(&l->tables, 0);
    loader ld = {.f = f, .l = l, .err = err, .ok = true, .used = used};
    if (bytes && !(ld.memory = l->memory = os_map(bytes))) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for %llu bytes of weights.",
                  (unsigned long long)bytes);
        ld.ok = false;
    }
    l->memory_bytes = bytes;
    if (ld.ok) take_all(&ld);
    if (ld.ok) {
        model_info *i = &l->m.info;
        for (size_t n = 0; n < ld.n_parts; n++) ld.total_bytes += ld.parts[n].n_bytes;
        fill parts = fill_of(&ld);
        i->weight_bytes = ld.placed + i->mapped_bytes;
        i->load_bytes = fill_plan_bytes(&parts);
        if (bytes) ld.ok = read_weights(&ld);
    }
    free(ld.parts);
    free(used);
    if (ld.ok) return l;
    llm_free(&l->m);
    return NULL;
}

void llm_free(model *m) {
    llm *l = (llm *)m;
    os_unmap(l->memory, l->memory_bytes);
    arena_deinit(&l->tables);
    free(l);
}

bool llm_lock(const model *m) {
    const llm *l = (const llm *)m;
    return os_lock(l->memory, l->memory_bytes);
}

model_load_mode model_choose_load(const file *f, const model_options *opts) {
    if (opts && opts->load != MODEL_LOAD_AUTO) return opts->load;
    if (opts && opts->no_repack) return MODEL_LOAD_MMAP;
    return file_get_residency(f) >= 0.5 ? MODEL_LOAD_READ : MODEL_LOAD_DIRECT;
}

bool model_inspect(const file *f, const model_options *opts, model_info *info, error *err) {
    llm *l = load(f, opts, 0, err);
    if (!l) return false;
    *info = l->m.info;
    llm_free(&l->m);
    return true;
}

uint64_t model_file_plan_bytes(const file *f, const model_options *opts, model_limits limits,
                               int n_threads) {
    error err = {0};
    llm *l = load(f, opts, 0, &err);
    if (!l) return 0;
    uint64_t bytes = model_ctx_plan_bytes(&l->m, limits, n_threads);
    llm_free(&l->m);
    return bytes;
}

model *model_load(const file *f, const model_options *opts, error *err) {
    model_info *info = calloc(1, sizeof *info);
    llm *l = NULL;
    if (!info)
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for a model.");
    else if (model_inspect(f, opts, info, err))
        l = load(f, opts, info->weight_bytes - info->mapped_bytes, err);
    free(info);
    return l ? &l->m : NULL;
}
