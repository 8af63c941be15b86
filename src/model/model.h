/* Hyperparameters, weights, forward(). Architectures: gpt-oss, llama (Llama
 * 2/3, Mistral, SmolLM, TinyStories), qwen2, qwen3, qwen3moe, read from GGUF.
 * Tensor names become typed, shape-checked fields once, at load; an unknown
 * architecture, a missing, unknown or mis-shaped tensor is one sentence.
 *
 * Bit-exactness: logits are the same bytes for any thread count, any batch
 * neighbours and any cut of a prompt into chunks (one kernel rung, one layout).
 *
 * Threads: a model is immutable after loading. A model_ctx (scratch for one
 * forward at a time) belongs to the engine thread.
 * Sources: each architecture's reference named at its file.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdatomic.h>

#include "base/error.h"
#include "base/pool.h"
#include "base/str.h"
#include "file/file.h"
#include "dev/dev.h"
#include "kv/kv.h"

typedef struct model model;
typedef struct model_ctx model_ctx;

enum { MODEL_MAX_EXPERTS_USED = 64 };

typedef struct model_info {
    char arch[32];   /* as in general.architecture */
    int32_t n_vocab; /* rows of the embedding: ids ≥ n_vocab are refused */
    int32_t n_layers, d_model, n_heads, n_kv_heads, head_dim;
    int32_t n_experts, n_experts_used;  /* 0 = dense */
    int64_t n_ctx_train;                /* trained context length */
    int32_t layer_width[KV_MAX_LAYERS]; /* 0 = full, else sliding width */
    bool has_sinks;                     /* learned attention sinks: no pinned rows needed */
    uint64_t n_params, n_params_active; /* active: per token */
    uint64_t weight_bytes;              /* in memory, as loaded, */
    uint64_t mapped_bytes;              /* these among them as pages of the file, not of our own */
    uint64_t load_bytes;                /* held besides, only while loading */
    uint64_t file_bytes;
    dtype main_type; /* the type most weight bytes have */
} model_info;

/* How weights get into memory. All but MMAP repack them into the layout that computes fastest. */
typedef enum model_load_mode {
    MODEL_LOAD_AUTO,   /* READ where the page cache holds most of the file, else DIRECT; MMAP with
                          no_repack */
    MODEL_LOAD_MMAP,   /* computed from the file's own rows where they are */
    MODEL_LOAD_READ,   /* through the page cache */
    MODEL_LOAD_DIRECT, /* O_DIRECT: leaves the page cache alone */
} model_load_mode;

enum { MODEL_SAMPLE = 64, MODEL_N_SAMPLES = 3 };

typedef struct model_options {
    const kern *kern;     /* NULL = kern_get() */
    bool f32_acts;        /* activations stay float: slow, for parity tests */
    bool no_repack;       /* rows stay as in the file (KERN_ROWS), wherever they are */
    bool no_rope_scaling; /* ignore the file's rope.scaling.* keys, for parity tests */
    model_load_mode load;
    /* Filled while loading unless NULL: the first, middle and last MODEL_SAMPLE bytes of every tensor,
     * [file_n_tensors][MODEL_N_SAMPLES][MODEL_SAMPLE], zero where a tensor is shorter. */
    unsigned char *samples;
    /* Called now and then while loading, on the calling thread; returning false cancels
     * (ERR_CANCELLED). May be NULL. */
    bool (*progress)(void *ctx, uint64_t done_bytes, uint64_t total_bytes);
    void *progress_ctx;
} model_options;

/* What AUTO means for this file now; any other mode is itself. */
model_load_mode model_choose_load(const file *f, const model_options *opts);
/* Reads hyperparameters only; no weights are touched. Fills the bytes for these options. */
bool model_inspect(const file *f, const model_options *opts, model_info *info, error *err);
/* The file may be closed only after model_free (rows may be used in place). Its weights are one
 * allocation of weight_bytes − mapped_bytes. */
model *model_load(const file *f, const model_options *opts, error *err);
void model_free(model *m);
const model_info *model_get_info(const model *m);
/* Keeps the weights in physical memory. False: errno says why. */
bool model_lock(const model *m);

/* The model that cannot lie, for tests of everything above it: its logits are a hash of exactly the
 * tokens and positions that kv_visible shows in each layer, read back from the KV rows themselves,
 * so one wrong slot changes the text. */
typedef struct model_fake_config {
    int32_t n_vocab;
    int32_t n_layers; /* alternating sliding `width` / full when width > 0, else all full */
    int32_t width;
    int32_t end_id; /* gets the highest logit about every `end_every` tokens; -1 = never */
    int32_t end_every;
    uint64_t seed;
    int64_t step_ns; /* pretends to take this long per row; 0 = none */
} model_fake_config;
model *model_new_fake(const model_fake_config *c, error *err);

/* Scratch for forward passes of up to max_rows rows in all, max_logits of them with logits. */
typedef struct model_limits {
    int32_t max_rows, max_logits;
} model_limits;
uint64_t model_ctx_plan_bytes(const model *m, model_limits limits, int n_threads);
/* The same before a file is loaded, exactly; 0 when the file cannot be. */
uint64_t model_file_plan_bytes(const file *f, const model_options *opts, model_limits limits,
                               int n_threads);
model_ctx *model_ctx_new(model *m, model_limits limits, pool *p, error *err);
void model_ctx_free(model_ctx *c);
/* Takes the context's pages from the system now; with `lock` they stay. False: errno says why. */
bool model_ctx_hold(model_ctx *c, bool lock);

/* A run of consecutive new tokens of one sequence, at positions kv_seq_len(seq) … +n−1. The caller
 * has reserved their rows; forward writes them (where kv_seq_has_row does not say that they are there)
 * and does not commit. A sequence appears once. */
typedef struct model_span {
    kv_seq *seq;
    const int32_t *ids; /* [n], each in [0, n_vocab) */
    int32_t n;
    int32_t n_logits;   /* logits of the last n_logits rows, 0 … n */
    float *logits;      /* out, borrowed from the ctx until the next forward: [n_logits][n_vocab] */
    const float *hidden; /* out, borrowed likewise: the same rows before the output's norm,
                            [n_logits][d_model]; NULL for a model without any */
    int64_t n_attended; /* out: key rows that this span's rows looked at, summed over all layers */
} model_span;

/* False when *cancel became true between layers (KV rows then hold garbage: do not commit). cancel
 * may be NULL. No allocation. Ids were checked by the caller. */
bool model_forward(model_ctx *c, model_span *spans, int n_spans, const atomic_bool *cancel);

/* One row of hidden state through the output's norm: what the logits are made of. x, y [d_model], may be
 * the same. Only for models whose spans have `hidden`. Any thread. */
bool model_has_hidden(const model *m);
void model_norm_hidden(const model *m, const float *x, float *y);

/* A name for the arithmetic: kernel rung, layouts, activation type, version. */
uint64_t model_numerics_id(const model *m);

#endif
