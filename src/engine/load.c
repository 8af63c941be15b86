/* From a model file to an engine: plan, refuse what does not fit, load. */
#include "engine/impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"

/* What a forward pass needs is known exactly only once the model is loaded: its feed-forward width is
 * not in model_info and is taken from the number of parameters, which overstates it by the
 * embedding's share. The rest follows the buffers of model/forward.c: floats, and int8 blocks (36
 * bytes for 32 values) beside those that go into a matrix. */
static uint64_t estimate_scratch(const model_info *info, model_limits l) {
    enum { BOTH = 6, FLOAT = 4, Q8 = 2 }; /* bytes per value, rounded up */
    uint64_t d = (uint64_t)info->d_model,
             heads = (uint64_t)info->n_heads * (uint64_t)info->head_dim;
    uint64_t kv_heads = (uint64_t)info->n_kv_heads * (uint64_t)info->head_dim;
    uint64_t n_experts = info->n_experts > 0 ? (uint64_t)info->n_experts : 1;
    uint64_t per_layer = info->n_layers > 0 ? info->n_params / (uint64_t)info->n_layers : 0;
    uint64_t ff = d ? per_layer / n_experts / (3 * d) : 0;
    uint64_t row = d * (FLOAT + BOTH) + (heads + 2 * kv_heads) * FLOAT + 2 * heads * FLOAT +
                   heads * BOTH + 2 * (uint64_t)info->head_dim * FLOAT +
                   1024; /* and the tables of a span */
    if (info->n_experts_used > 0)
        row += (uint64_t)info->n_experts_used * (d * (BOTH + FLOAT) + ff * (BOTH + Q8) + 64) +
               n_experts * FLOAT;
    else
        row += ff * BOTH;
    return (uint64_t)l.max_logits * (uint64_t)info->n_vocab * sizeof(float) +
           (uint64_t)l.max_rows * row + (1 << 20);
}

static model_options options_of(const engine_config *c, pool *p) {
    return (model_options){.pool = p,
                           .f32_acts = c->f32_acts,
                           .no_repack = c->no_repack,
                           .progress = c->progress,
                           .progress_ctx = c->progress_ctx};
}

static bool plan_file(const file *f, engine_config *c, model_info *info, engine_plan *plan,
                      error *err) {
    model_options o = options_of(c, NULL);
    if (!model_inspect(f, &o, info, err)) return false;
    engine_config filled = *c; /* limits need the defaults that settling fills in */
    if (!engine_fill_defaults(&filled, info, err)) return false;
    return engine_settle(c, info, info->weight_bytes,
                         estimate_scratch(info, engine_limits(&filled, info)), plan, err);
}

bool engine_make_plan(const file *f, const engine_config *c, engine_plan *plan, error *err) {
    engine_config copy = *c;
    model_info *info = calloc(1, sizeof *info);
    if (!info) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to plan a model.");
    bool ok = plan_file(f, &copy, info, plan, err);
    free(info);
    return ok;
}

/* ── What the file says about itself ── */

static uint64_t digest_value(const file *f, const file_value *v, uint64_t h) {
    h = hash_combine(h, hash_bytes(v->key.ptr, v->key.len, (uint64_t)v->type));
    for (uint64_t i = 0; i < v->n; i++) {
        str s;
        uint64_t u;
        int64_t n;
        double d;
        bool b;
        if (file_item_str(f, v, i, &s))
            h = hash_combine(h, hash_str(s));
        else if (file_item_bool(f, v, i, &b))
            h = hash_combine(h, b);
        else if (file_item_u64(f, v, i, &u))
            h = hash_combine(h, u);
        else if (file_item_i64(f, v, i, &n))
            h = hash_combine(h, (uint64_t)n);
        else if (file_item_f64(f, v, i, &d))
            h = hash_combine(h, hash_bytes(&d, sizeof d, 1));
    }
    return h;
}

static uint64_t digest_tensor(const file_tensor *t, uint64_t h) {
    enum { SAMPLE = 64 };
    h = hash_combine(h, hash_bytes(t->name.ptr, t->name.len, (uint64_t)t->type));
    h = hash_combine(h, hash_bytes(t->shape, sizeof t->shape, t->n_bytes));
    const char *p = t->data;
    uint64_t n = t->n_bytes < SAMPLE ? t->n_bytes : SAMPLE;
    for (uint64_t k = 0; k < 3; k++)
        h = hash_combine(h, hash_bytes(p + (t->n_bytes - n) / 2 * k, n, k));
    return h;
}

static void read_meta(engine *e, const file *f) {
    uint64_t h = hash_mix((uint64_t)file_version(f));
    for (size_t i = 0; i < file_n_values(f); i++) h = digest_value(f, file_get_value(f, i), h);
    for (size_t i = 0; i < file_n_tensors(f); i++) h = digest_tensor(file_get_tensor(f, i), h);
    snprintf(e->digest, sizeof e->digest, "%016llx", (unsigned long long)h);
    e->meta.digest = str_from(e->digest);
    file_get_str(f, "general.name", &e->meta.name);
    file_get_str(f, "general.architecture", &e->meta.arch);
    file_get_str(f, "general.license", &e->meta.license);
    file_get_str(f, "tokenizer.chat_template", &e->meta.chat_template);
}

engine *engine_open(const file *f, const engine_config *c, error *err) {
    engine *e = engine_new(err);
    if (!e) return NULL;
    e->config = *c;
    model_info *planned = calloc(1, sizeof *planned);
    bool ok = planned != NULL;
    if (!ok) error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to plan a model.");
    ok = ok && plan_file(f, &e->config, planned, &e->plan, err) &&
         engine_refuse_unless_fits(&e->plan, err);
    if (ok && e->config.max_context_tokens < planned->n_ctx_train && c->max_context_tokens == 0)
        log_line(
            LOG_WARN, "engine",
            "the context is %lld tokens instead of the trained %lld: more would not fit into memory",
            (long long)e->config.max_context_tokens, (long long)planned->n_ctx_train);
    ok = ok && (e->pool = pool_new(e->config.n_threads, err)) != NULL;
    model_options o = options_of(&e->config, e->pool);
    ok = ok && (e->tok = tok_load(f, err)) != NULL && (e->model = model_load(f, &o, err)) != NULL;
    if (ok) {
        e->info = model_get_info(e->model);
        read_meta(e, f);
        uint64_t scratch = model_ctx_plan_bytes(e->model, engine_limits(&e->config, e->info));
        e->plan.total += scratch - e->plan.scratch;
        e->plan.scratch = scratch;
        e->plan.fits = e->plan.total <= e->plan.free_memory;
        ok = engine_refuse_unless_fits(&e->plan, err) && engine_start(e, err);
    }
    free(planned);
    if (ok) return e;
    engine_close(e);
    return NULL;
}
