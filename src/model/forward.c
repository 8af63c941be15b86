/* The forward pass, written once for every architecture: a decoder-only
 * transformer with pre-norms, grouped queries, rotary positions and a gated
 * feed-forward part, dense or a mixture of experts. Reads downwards; what an
 * architecture lacks is a NULL.
 *
 * A context carves all its buffers from one allocation whose size
 * model_ctx_plan_bytes tells beforehand.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/os.h"
#include "model/llm.h"

enum { NUMERICS_VERSION = 1 }; /* raise it when the order of any sum here or in dev changes */

typedef struct llm_ctx {
    model_ctx c;
    dev dev;
    char *memory;
    uint64_t bytes;
    /* R = max_rows, L = max_logits */
    int32_t *ids;                   /* [R] */
    float *x;                       /* [R][d_model] the residual stream */
    float *qkv;                     /* [R][(n_heads + 2·n_kv_heads)·head_dim] */
    float *q, *q_pinned;            /* [n_kv_heads][R][group][head_dim] */
    float *angles, *angles_pinned;  /* [R][n_rot] */
    dev_acts in, heads, hidden;     /* of d_model, n_heads·head_dim, n_ff (dense) */
    float *router;                  /* [R][n_experts] */
    dev_moe moe;                    /* its scratch */
    float *logits;                  /* [L][n_vocab] */
    dev_kv *kv;                     /* [R] one per span */
    dev_attn_row *rows;             /* [R] */
    dev_attn_block *blocks, *tails; /* [R] all rows; those whose logits are wanted */
    int n_blocks, n_tails;
} llm_ctx;

/* ── Buffers ── */

typedef struct carver {
    char *base; /* NULL: only count */
    uint64_t used;
    bool overflow;
} carver;

static void *carve(carver *c, uint64_t n, uint64_t size) {
    uint64_t bytes, at = c->used;
    if (__builtin_mul_overflow(n, size, &bytes) || bytes > UINT64_MAX / 4 ||
        __builtin_add_overflow(c->used, (bytes + 63) / 64 * 64, &c->used))
        c->overflow = true;
    return c->base && !c->overflow ? c->base + at : NULL;
}

static dev_acts carve_acts(carver *c, int64_t n_in, uint64_t rows, bool f32, bool q8) {
    dev_acts a = {
        .n_in = n_in,
        .row_bytes = {kern_act_bytes(KERN_ACT_F32, n_in), kern_act_bytes(KERN_ACT_Q8, n_in)}};
    if (f32) a.data[KERN_ACT_F32] = carve(c, rows, a.row_bytes[KERN_ACT_F32]);
    if (q8) a.data[KERN_ACT_Q8] = carve(c, rows, a.row_bytes[KERN_ACT_Q8]);
    return a;
}

/* Lays a context out; the same walk counts and assigns. */
static uint64_t lay_out(llm_ctx *c, const llm *l, model_limits limits, int n_threads, char *base) {
    const model_info *i = &l->m.info;
    carver k = {.base = base};
    uint64_t rows = (uint64_t)limits.max_rows, heads = (uint64_t)i->n_heads * (uint64_t)i->head_dim;
    uint64_t kv_heads = (uint64_t)i->n_kv_heads * (uint64_t)i->head_dim;
    uint64_t d = (uint64_t)i->d_model, rot = (uint64_t)l->n_rot;
    bool q8 = !l->opts.f32_acts;
    c->dev.scratch =
        carve(&k, 1, dev_scratch_bytes(&c->dev, n_threads, i->n_heads, i->n_kv_heads, i->head_dim));
    c->ids = carve(&k, rows, sizeof *c->ids);
    c->x = carve(&k, rows, d * sizeof *c->x);
    c->qkv = carve(&k, rows, (heads + 2 * kv_heads) * sizeof *c->qkv);
    c->q = carve(&k, rows, heads * sizeof *c->q);
    c->q_pinned = carve(&k, rows, heads * sizeof *c->q);
    c->angles = carve(&k, rows, rot * sizeof *c->angles);
    c->angles_pinned = carve(&k, rows, rot * sizeof *c->angles);
    c->in = carve_acts(&k, i->d_model, rows, true, q8);
    c->heads = carve_acts(&k, (int64_t)heads, rows, true, q8);
    c->kv = carve(&k, rows, sizeof *c->kv);
    c->rows = carve(&k, rows, sizeof *c->rows);
    c->blocks = carve(&k, rows, sizeof *c->blocks);
    c->tails = carve(&k, rows, sizeof *c->tails);
    c->logits = carve(&k, (uint64_t)limits.max_logits, (uint64_t)i->n_vocab * sizeof *c->logits);
    if (!l->arch->moe) {
        c->hidden = carve_acts(&k, l->n_ff, rows, true, q8);
    } else {
        bool want[2] = {false, false};
        for (int n = 0; n < i->n_layers; n++)
            want[l->layers[n].gate.act] = want[l->layers[n].up.act] = true;
        uint64_t slots = rows * (uint64_t)i->n_experts_used, experts = (uint64_t)i->n_experts;
        dev_moe *m = &c->moe;
        *m = (dev_moe){
            .n_experts = i->n_experts, .n_used = i->n_experts_used, .gating = l->arch->gating};
        c->router = carve(&k, rows, experts * sizeof *c->router);
        m->logits = c->router;
        m->chosen = carve(&k, slots, sizeof *m->chosen);
        m->slot = carve(&k, slots, sizeof *m->slot);
        m->weight = carve(&k, slots, sizeof *m->weight);
        m->first = carve(&k, experts + 1, sizeof *m->first);
        m->active = carve(&k, experts, sizeof *m->active);
        m->in = carve_acts(&k, i->d_model, slots, want[KERN_ACT_F32], want[KERN_ACT_Q8]);
        m->hidden = carve_acts(&k, l->n_ff, slots, true, q8);
        m->rest = carve_acts(&k, l->n_ff, slots, false, q8);
        m->y = carve(&k, slots, d * sizeof *m->y);
    }
    return k.overflow ? 0 : k.used;
}

static uint64_t llm_ctx_plan(const model *m, model_limits limits, int n_threads) {
    const llm *l = (const llm *)m;
    llm_ctx c = {.dev = l->dev};
    uint64_t bytes = lay_out(&c, l, limits, n_threads, NULL);
    return bytes ? bytes + sizeof c : 0;
}

static void llm_ctx_free(model_ctx *mc) {
    llm_ctx *c = (llm_ctx *)mc;
    if (c->memory) os_unmap(c->memory, c->bytes);
    free(c);
}

static model_ctx *llm_ctx_new(model *m, model_limits limits, pool *p, error *err) {
    llm *l = (llm *)m;
    llm_ctx *c = calloc(1, sizeof *c);
    if (c) {
        *c = (llm_ctx){.c = {m, limits}, .dev = {.kern = l->dev.kern, .pool = p}};
        c->bytes = lay_out(c, l, limits, pool_n_threads(p), NULL);
        c->memory = c->bytes ? os_map(c->bytes) : NULL;
        if (c->memory) {
            lay_out(c, l, limits, pool_n_threads(p), c->memory);
            return &c->c;
        }
    }
    error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the forward pass's %llu bytes.",
              c ? (unsigned long long)c->bytes : 0ull);
    free(c);
    return NULL;
}

static bool llm_ctx_hold(model_ctx *mc, bool lock) {
    llm_ctx *c = (llm_ctx *)mc;
    os_touch(c->memory, c->bytes);
    return !lock || os_lock(c->memory, c->bytes);
}

/* ── Rows ── */

static void add_blocks(dev_attn_block *blocks, int *n, int64_t row, int64_t end, int most) {
    for (; row < end; row += most)
        blocks[(*n)++] =
            (dev_attn_block){(int32_t)row, (int32_t)(end - row < most ? end - row : most)};
}

/* Numbers the rows of all spans, computes their angles, cuts them into attention blocks. Returns how
 * many there are. */
static int64_t place_rows(llm_ctx *c, const llm *l, model_span *spans, int n_spans) {
    const model_info *i = &l->m.info;
    int most = dev_attn_block_rows(i->n_heads, i->n_kv_heads);
    int64_t row = 0;
    c->n_blocks = c->n_tails = 0;
    for (int s = 0; s < n_spans; s++) {
        kv_window w = kv_seq_window(spans[s].seq);
        int64_t len = kv_seq_len(spans[s].seq);
        add_blocks(c->blocks, &c->n_blocks, row, row + spans[s].n, most);
        add_blocks(c->tails, &c->n_tails, row + spans[s].n - spans[s].n_logits, row + spans[s].n,
                   most);
        memcpy(c->ids + row, spans[s].ids, (size_t)spans[s].n * sizeof *c->ids);
        for (int32_t r = 0; r < spans[s].n; r++, row++) {
            int64_t pos = len + r, from = kv_query_position(w, pos);
            c->rows[row] = (dev_attn_row){.kv = &c->kv[s], .pos = pos};
            rope_angles(l->n_rot, l->freq, l->concentration, pos, c->angles + row * l->n_rot);
            if (from != pos)
                rope_angles(l->n_rot, l->freq, l->concentration, from,
                            c->angles_pinned + row * l->n_rot);
        }
    }
    return row;
}

/* Where a layer keeps its rows and what each row sees there. In the last layer only rows with logits
 * look. */
static void look(llm_ctx *c, const llm *l, int layer, model_span *spans, int n_spans) {
    dev_attn_row *row = c->rows;
    for (int s = 0; s < n_spans; s++) {
        int32_t first = layer == l->m.info.n_layers - 1 ? spans[s].n - spans[s].n_logits : 0;
        c->kv[s] = kv_get_rows(spans[s].seq, layer);
        if (layer == 0) spans[s].n_attended = 0;
        for (int32_t r = 0; r < spans[s].n; r++, row++) {
            row->n_seen = kv_seq_visible(spans[s].seq, layer, row->pos, row->seen);
            row->is_stored = kv_seq_has_row(spans[s].seq, layer, row->pos);
            for (int i = 0; i < row->n_seen && r >= first; i++)
                spans[s].n_attended += row->seen[i].end - row->seen[i].begin;
        }
    }
}

/* After the last attention only rows whose logits are wanted go on: they move to the front. */
static int64_t keep_tails(llm_ctx *c, int64_t d_model) {
    int64_t n = 0;
    for (int b = 0; b < c->n_tails; b++)
        for (int32_t r = c->tails[b].row; r < c->tails[b].row + c->tails[b].n_rows; r++, n++) {
            if (n == r) continue;
            memcpy(c->x + n * d_model, c->x + r * d_model, (size_t)d_model * sizeof *c->x);
            memcpy(dev_acts_row(&c->heads, n), dev_acts_row(&c->heads, r),
                   c->heads.row_bytes[KERN_ACT_F32]);
        }
    return n;
}

/* The formats these matrices want, and no other. */
static dev_acts wanted(dev_acts a, const dev_matrix *w0, const dev_matrix *w1,
                       const dev_matrix *w2) {
    if (w0->act != KERN_ACT_Q8 && w1->act != KERN_ACT_Q8 && w2->act != KERN_ACT_Q8)
        a.data[KERN_ACT_Q8] = NULL;
    return a;
}

/* ── The pass ── */

static void feed_forward(llm_ctx *c, const llm *l, const llm_layer *y, int64_t n) {
    const dev *d = &c->dev;
    int64_t d_model = l->m.info.d_model;
    if (!l->arch->moe) {
        dev_acts in = wanted(c->in, &y->gate, &y->up, &y->up);
        dev_acts hidden = wanted(c->hidden, &y->down, &y->down, &y->down);
        dev_norm(d, n, c->x, y->ffn_norm, l->eps, &in);
        dev_gated(d, n, &in, &y->gate, &y->up, l->arch->gating, &hidden);
        dev_quantize(d, n, &hidden);
        dev_matmul(d, n, &hidden, &(dev_product){&y->down, c->x, d_model, true}, 1);
        return;
    }
    dev_acts in = wanted(c->in, &y->gate, &y->up, &y->router);
    dev_norm(d, n, c->x, y->ffn_norm, l->eps, &in);
    dev_matmul(d, n, &in, &(dev_product){&y->router, c->router, l->m.info.n_experts, false}, 1);
    dev_moe moe = c->moe;
    moe.gate = &y->gate;
    moe.up = &y->up;
    moe.down = &y->down;
    for (int t = 0; t < 2; t++)
        if ((int)y->gate.act != t && (int)y->up.act != t) moe.in.data[t] = NULL;
    dev_run_moe(d, &moe, n, &in, c->x);
}

static bool is_cancelled(const atomic_bool *cancel) {
    return cancel && atomic_load_explicit(cancel, memory_order_relaxed);
}

static bool llm_forward(model_ctx *mc, model_span *spans, int n_spans, const atomic_bool *cancel) {
    llm_ctx *c = (llm_ctx *)mc;
    const llm *l = (const llm *)mc->m;
    const model_info *i = &l->m.info;
    const dev *d = &c->dev;
    int64_t d_model = i->d_model, hd = i->head_dim;
    int64_t ldq = (i->n_heads + 2 * i->n_kv_heads) * hd;

    int64_t n = place_rows(c, l, spans, n_spans);
    dev_embed(d, &l->embed, n, c->ids, c->x);
    for (int layer = 0; layer < i->n_layers; layer++) {
        if (is_cancelled(cancel)) return false;
        const llm_layer *y = &l->layers[layer];
        bool last = layer == i->n_layers - 1;

        dev_acts in = wanted(c->in, &y->q, &y->k, &y->v);
        dev_norm(d, n, c->x, y->attn_norm, l->eps, &in);
        float *k = c->qkv + i->n_heads * hd, *v = k + i->n_kv_heads * hd;
        dev_matmul(d, n, &in,
                   (dev_product[]){
                       {&y->q, c->qkv, ldq, false}, {&y->k, k, ldq, false}, {&y->v, v, ldq, false}},
                   3);
        look(c, l, layer, spans, n_spans);
        dev_attention a = {.n_heads = i->n_heads,
                           .n_kv_heads = i->n_kv_heads,
                           .head_dim = i->head_dim,
                           .n_rot = l->n_rot,
                           .halves = l->arch->rope_halves,
                           .scale = (float)(1 / sqrt((double)hd)),
                           .q_norm = y->q_norm,
                           .k_norm = y->k_norm,
                           .eps = l->eps,
                           .sinks = y->sinks,
                           .n_rows = n,
                           .rows = c->rows,
                           .angles = c->angles,
                           .angles_pinned = c->angles_pinned,
                           .q = c->q,
                           .q_pinned = c->q_pinned};
        dev_rotate_store(d, &a, c->qkv, ldq);
        dev_attend(d, &a, last ? c->tails : c->blocks, last ? c->n_tails : c->n_blocks, &c->heads);
        if (last) n = keep_tails(c, d_model);
        dev_acts heads = wanted(c->heads, &y->o, &y->o, &y->o);
        dev_quantize(d, n, &heads);
        dev_matmul(d, n, &heads, &(dev_product){&y->o, c->x, d_model, true}, 1);
        feed_forward(c, l, y, n);
    }
    const dev_matrix *out = l->tied ? &l->embed : &l->output;
    dev_acts in = wanted(c->in, out, out, out);
    dev_norm(d, n, c->x, l->out_norm, l->eps, &in);
    dev_matmul(d, n, &in, &(dev_product){out, c->logits, i->n_vocab, false}, 1);

    float *logits = c->logits;
    const float *hidden = c->x;
    for (int s = 0; s < n_spans; s++) {
        spans[s].logits = logits;
        spans[s].hidden = hidden;
        hidden += (int64_t)spans[s].n_logits * d_model;
        logits += (int64_t)spans[s].n_logits * i->n_vocab;
    }
    return !is_cancelled(cancel);
}

static void llm_norm_hidden(const model *m, const float *x, float *y) {
    const llm *l = (const llm *)m;
    l->dev.kern->rmsnorm(m->info.d_model, x, l->out_norm, l->eps, y);
}

static uint64_t llm_numerics_id(const model *m) {
    const llm *l = (const llm *)m;
    uint64_t switches = (uint64_t)l->opts.f32_acts | (uint64_t)l->opts.no_repack << 1 |
                        (uint64_t)l->opts.no_rope_scaling << 2;
    return hash_combine(kern_numerics_id(l->dev.kern), switches << 32 | NUMERICS_VERSION);
}

const model_ops llm_ops = {.free = llm_free,
                           .lock = llm_lock,
                           .ctx_plan_bytes = llm_ctx_plan,
                           .ctx_new = llm_ctx_new,
                           .ctx_free = llm_ctx_free,
                           .ctx_hold = llm_ctx_hold,
                           .forward = llm_forward,
                           .norm_hidden = llm_norm_hidden,
                           .numerics_id = llm_numerics_id};
