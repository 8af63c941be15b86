/* The model that cannot lie: a stand-in for tests of the rooms above. A row of
 * K holds its token, its position and its layer as base-64 digits, a row of V
 * holds them mixed; the logits of row i are drawn from a hash of every row that
 * kv_visible shows it in every layer, read back from the cache. So a wrong slot,
 * a row too many or too few, or a stale row changes the text.
 *
 * Digits are whole numbers below 64 beside one 127, which F32, F16, BF16 and
 * Q8_0 rows all hold exactly: the text is the same with every row format.
 */
#include <stdlib.h>
#include <time.h>

#include "base/hash.h"
#include "model/impl.h"

enum {
    N_DIGITS = 32,
    MARK = 127,     /* digit 0: makes the Q8_0 scale exactly one */
    ID_DIGITS = 6,  /* 36 bits */
    POS_DIGITS = 8, /* 48 bits */
    LAYER_DIGITS = 2,
    MAX_VOCAB = 1 << 24,
};

typedef struct fake {
    model m;
    model_fake_config config;
    const kern *kern;
} fake;

typedef struct fake_ctx {
    model_ctx c;
    float *logits; /* [max_logits][n_vocab] */
} fake_ctx;

static void put_digits(float *d, int n, uint64_t v) {
    for (int i = 0; i < n; i++, v >>= 6) d[i] = (float)(v & 63);
}

/* What K (kind 0) or V (kind 1) of a row holds. */
static void fill_row(int kind, uint64_t seed, int32_t id, int64_t pos, int layer, float *d) {
    uint64_t sum = hash_combine(hash_combine(seed + (uint64_t)kind, (uint64_t)id),
                                hash_combine((uint64_t)pos, (uint64_t)layer));
    d[0] = MARK;
    if (kind == 0) {
        put_digits(d + 1, ID_DIGITS, (uint64_t)id);
        put_digits(d + 1 + ID_DIGITS, POS_DIGITS, (uint64_t)pos);
        put_digits(d + 1 + ID_DIGITS + POS_DIGITS, LAYER_DIGITS, (uint64_t)layer);
    } else {
        put_digits(d + 1, 10, hash_mix(sum));
        put_digits(d + 11, 6, hash_mix(~sum));
    }
    put_digits(d + 17, 10, sum);
    put_digits(d + 27, 5, hash_mix(sum + 1));
}

static uint64_t read_row(kern_kv_type type, const void *row) {
    float d[N_DIGITS];
    kern_kv_load(type, N_DIGITS, row, d);
    uint64_t h = 0;
    for (int i = 0; i < N_DIGITS; i++)
        h = h * 0x9E3779B97F4A7C15ull + (d[i] >= 0 && d[i] <= MARK ? (uint64_t)d[i] : 200);
    return h;
}

static void fake_free(model *m) {
    free(m);
}

static uint64_t fake_plan(const model *m, model_limits limits, int n_threads) {
    (void)n_threads;
    return sizeof(fake_ctx) +
           (uint64_t)limits.max_logits * (uint64_t)m->info.n_vocab * sizeof(float);
}

static void fake_ctx_free(model_ctx *c) {
    free(((fake_ctx *)c)->logits);
    free(c);
}

static model_ctx *fake_ctx_new(model *m, model_limits limits, pool *p, error *err) {
    (void)p;
    fake_ctx *c = calloc(1, sizeof *c);
    float *logits = calloc((size_t)limits.max_logits + 1, (size_t)m->info.n_vocab * sizeof *logits);
    if (!c || !logits) {
        free(c);
        free(logits);
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the forward pass.");
        return NULL;
    }
    *c = (fake_ctx){.c = {m, limits}, .logits = logits};
    return &c->c;
}

static void write_rows(const fake *f, const model_span *s, int layer) {
    dev_kv rows = kv_get_rows(s->seq, layer);
    float d[N_DIGITS];
    for (int32_t r = 0; r < s->n; r++) {
        int64_t pos = kv_seq_len(s->seq) + r;
        if (kv_seq_has_row(s->seq, layer, pos)) continue;
        char *k = dev_kv_tile(&rows, 0, pos / KV_BLOCK) + pos % KV_BLOCK * rows.row_bytes;
        fill_row(0, f->config.seed, s->ids[r], pos, layer, d);
        f->kern->kv_store(rows.type, N_DIGITS, d, k);
        fill_row(1, f->config.seed, s->ids[r], pos, layer, d);
        f->kern->kv_store(rows.type, N_DIGITS, d, k + rows.tile_bytes);
    }
}

static uint64_t hash_visible(const fake *f, model_span *s, int64_t pos) {
    uint64_t h = hash_mix(f->config.seed);
    for (int l = 0; l < f->config.n_layers; l++) {
        dev_kv rows = kv_get_rows(s->seq, l);
        kv_range seen[2];
        int n = kv_seq_visible(s->seq, l, pos, seen);
        for (int i = 0; i < n; i++) {
            s->n_attended += seen[i].end - seen[i].begin;
            for (int64_t j = seen[i].begin; j < seen[i].end; j++) {
                const char *k = dev_kv_tile(&rows, 0, j / KV_BLOCK) + j % KV_BLOCK * rows.row_bytes;
                h = hash_combine(h, read_row(rows.type, k) * 3 +
                                        read_row(rows.type, k + rows.tile_bytes));
            }
        }
    }
    return h;
}

static void draw_logits(const fake *f, uint64_t h, float *logits) {
    int32_t n = f->config.n_vocab, end = f->config.end_id;
    for (int32_t v = 0; v < n; v++) logits[v] = (float)(rng_uniform_at(h, (uint64_t)v) * 16 - 8);
    if (end < 0 || end >= n) return;
    bool now = f->config.end_every > 0 && hash_mix(h) % (uint64_t)f->config.end_every == 0;
    logits[end] = now ? 12 : -12;
}

static bool is_cancelled(const atomic_bool *cancel) {
    return cancel && atomic_load_explicit(cancel, memory_order_relaxed);
}

static bool fake_forward(model_ctx *mc, model_span *spans, int n_spans, const atomic_bool *cancel) {
    fake_ctx *c = (fake_ctx *)mc;
    const fake *f = (const fake *)mc->m;
    int64_t n_rows = 0;
    for (int s = 0; s < n_spans; s++) n_rows += spans[s].n;
    int64_t layer_ns = f->config.step_ns * n_rows / f->config.n_layers;
    for (int l = 0; l < f->config.n_layers; l++) {
        if (is_cancelled(cancel)) return false;
        for (int s = 0; s < n_spans; s++) write_rows(f, &spans[s], l);
        if (layer_ns > 0)
            nanosleep(&(struct timespec){layer_ns / 1000000000, layer_ns % 1000000000}, NULL);
    }
    float *out = c->logits;
    for (int s = 0; s < n_spans; s++) {
        model_span *sp = &spans[s];
        sp->logits = out;
        sp->hidden = NULL;
        sp->n_attended = 0; /* only rows with logits look */
        for (int32_t r = sp->n - sp->n_logits; r < sp->n; r++, out += f->config.n_vocab)
            draw_logits(f, hash_visible(f, sp, kv_seq_len(sp->seq) + r), out);
    }
    return !is_cancelled(cancel);
}

static uint64_t fake_numerics_id(const model *m) {
    return hash_combine(0xFA4E, ((const fake *)m)->config.seed);
}

static bool fake_lock(const model *m) {
    (void)m;
    return true;
}

static bool fake_ctx_hold(model_ctx *c, bool lock) {
    (void)c;
    (void)lock;
    return true;
}

static const model_ops fake_ops = {.free = fake_free,
                                   .lock = fake_lock,
                                   .ctx_plan_bytes = fake_plan,
                                   .ctx_new = fake_ctx_new,
                                   .ctx_free = fake_ctx_free,
                                   .ctx_hold = fake_ctx_hold,
                                   .forward = fake_forward,
                                   .numerics_id = fake_numerics_id};

model *model_new_fake(const model_fake_config *c, error *err) {
    if (c->n_vocab < 1 || c->n_vocab > MAX_VOCAB || c->n_layers < 1 ||
        c->n_layers > KV_MAX_LAYERS || c->width < 0 || c->step_ns < 0) {
        error_set(err, ERR_INVALID_VALUE, NULL, "The fake model's configuration is out of range.");
        return NULL;
    }
    fake *f = calloc(1, sizeof *f);
    if (!f) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for a model.");
        return NULL;
    }
    *f = (fake){.m.ops = &fake_ops, .config = *c, .kern = kern_get()};
    f->m.info = (model_info){.arch = "fake",
                             .n_vocab = c->n_vocab,
                             .n_layers = c->n_layers,
                             .d_model = N_DIGITS,
                             .n_heads = 1,
                             .n_kv_heads = 1,
                             .head_dim = N_DIGITS,
                             .n_ctx_train = 1 << 20,
                             .main_type = DTYPE_F32};
    for (int l = 0; l < c->n_layers; l += 2) f->m.info.layer_width[l] = c->width;
    return &f->m;
}
