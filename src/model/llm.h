/* Inside the model room: a decoder-only transformer read from a file. What
 * architectures differ in is data here: flags, numbers, absent tensors. */
#ifndef MODEL_LLM_H
#define MODEL_LLM_H

#include "base/arena.h"
#include "model/impl.h"
#include "model/rope.h"

/* What an architecture's name decides. Everything else its file says. */
typedef struct llm_arch {
    const char *name;
    bool rope_halves; /* rotary pairs (i, i + n/2); else adjacent */
    bool moe;
    bool attn_bias; /* q, k, v have biases */
    bool out_bias;  /* so do the attention output, router and experts */
    bool qk_norm;
    bool sinks;
    bool yarn_rounds;
    bool sliding_even;    /* layers 0, 2, 4 … have a sliding window */
    const char *ffn_norm; /* name of the norm before the feed-forward part */
    dev_gating gating;
} llm_arch;

typedef struct llm_layer {
    const float *attn_norm, *ffn_norm;
    const float *q_norm, *k_norm; /* [head_dim] or NULL */
    const float *sinks;           /* [n_heads] or NULL */
    dev_matrix q, k, v, o;
    dev_matrix router;         /* moe */
    dev_matrix gate, up, down; /* moe: n_mats = n_experts */
} llm_layer;

typedef struct llm {
    model m;
    const llm_arch *arch;
    model_options opts;
    dev dev;      /* without scratch: the ctx has its own */
    char *memory; /* every weight that is not in the file's mapping */
    uint64_t memory_bytes;
    arena tables; /* layers, freq */
    int64_t n_ff; /* of an expert when moe */
    float eps;
    int n_rot;
    double *freq; /* [n_rot/2] */
    double concentration;
    dev_matrix embed;
    dev_matrix output; /* unused when tied: then embed is the output matrix */
    bool tied;
    const float *out_norm;
    llm_layer *layers;
} llm;

extern const model_ops llm_ops; /* in forward.c, but for .free and .lock */
void llm_free(model *m);
bool llm_lock(const model *m);

#endif
