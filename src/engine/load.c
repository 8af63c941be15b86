/* From a model file to an engine: plan, refuse what does not fit, load. */
#include "engine/impl.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "base/os.h"

static model_options options_of(const file *f, const engine_config *c) {
    model_options o = {.f32_acts = c->f32_acts,
                       .no_repack = c->no_repack,
                       .load = c->load,
                       .progress = c->progress,
                       .progress_ctx = c->progress_ctx};
    o.load = model_choose_load(f, &o);
    return o;
}

/* The tokenizer is loaded before the plan is made, like the file's directory: so its size is known, not
 * guessed. Then only what stays is resident: freed heap and the file's pages are given back. */
static tok *load_tok(const file *f, uint64_t *bytes, error *err) {
    os_trim_heap();
    uint64_t before = os_get_memory().rss_anon;
    tok *t = tok_load(f, err);
    os_trim_heap();
    file_drop_pages(f);
    uint64_t after = os_get_memory().rss_anon;
    *bytes = after > before ? after - before : 0;
    return t;
}

static bool plan_file(const file *f, const model_options *o, const tok *t, uint64_t tokenizer,
                      engine_config *c, model_info *info, engine_plan *plan, error *err) {
    if (!model_inspect(f, o, info, err)) return false;
    engine_config filled = *c; /* limits need the defaults that settling fills in */
    if (!engine_fill_defaults(&filled, info, err)) return false;
    engine_needs needs = {
        .weights = info->weight_bytes - info->mapped_bytes,
        .mapped = info->mapped_bytes,
        .loading = info->load_bytes,
        .tokenizer = tokenizer,
        .forms = grammar_vocab_plan_bytes(t),
        .load = o->load,
        .scratch = model_file_plan_bytes(f, o, engine_limits(&filled, info), filled.n_threads),
    };
    file_drop_pages(f); /* inspecting looked at names there */
    return engine_settle(c, info, &needs, plan, err);
}

bool engine_make_plan(const file *f, const engine_config *c, engine_plan *plan, error *err) {
    engine_config copy = *c;
    uint64_t tokenizer;
    tok *t = load_tok(f, &tokenizer, err);
    model_info *info = calloc(1, sizeof *info);
    model_options o = options_of(f, c);
    bool ok = t != NULL;
    if (!info) ok = error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to plan a model.");
    ok = ok && plan_file(f, &o, t, tokenizer, &copy, info, plan, err);
    free(info);
    tok_unref(t);
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

static uint64_t digest_tensor(const file_tensor *t, const unsigned char *samples, uint64_t h) {
    h = hash_combine(h, hash_bytes(t->name.ptr, t->name.len, (uint64_t)t->type));
    h = hash_combine(h, hash_bytes(t->shape, sizeof t->shape, t->n_bytes));
    uint64_t n = t->n_bytes < MODEL_SAMPLE ? t->n_bytes : MODEL_SAMPLE;
    for (uint64_t k = 0; k < MODEL_N_SAMPLES; k++, samples += MODEL_SAMPLE)
        h = hash_combine(h, hash_bytes(samples, n, k));
    return h;
}

/* A string value, kept beyond the file's mapping. */
static str keep_str(engine *e, const file *f, const char *key) {
    str s = {0};
    if (file_get_str(f, key, &s)) s.ptr = arena_dup(&e->meta_text, s);
    return s.ptr ? s : (str){0};
}

static bool read_meta(engine *e, const file *f, const unsigned char *samples, error *err) {
    uint64_t h = hash_mix((uint64_t)file_version(f));
    for (size_t i = 0; i < file_n_values(f); i++) h = digest_value(f, file_get_value(f, i), h);
    for (size_t i = 0; i < file_n_tensors(f); i++) {
        h = digest_tensor(file_get_tensor(f, i), samples, h);
        samples += MODEL_N_SAMPLES * MODEL_SAMPLE;
    }
    snprintf(e->digest, sizeof e->digest, "%016llx", (unsigned long long)h);
    e->meta.digest = str_from(e->digest);
    e->meta.name = keep_str(e, f, "general.name");
    e->meta.arch = keep_str(e, f, "general.architecture");
    e->meta.license = keep_str(e, f, "general.license");
    e->meta.chat_template = keep_str(e, f, "tokenizer.chat_template");
    return !e->meta_text.failed ||
           error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the model's description.");
}

/* Weights and what the file says; afterwards its mapping is only needed where rows are computed from
 * in place. */
static bool load_file(engine *e, const file *f, model_options o, error *err) {
    unsigned char *samples = calloc(file_n_tensors(f) + 1, (size_t)MODEL_N_SAMPLES * MODEL_SAMPLE);
    if (!samples) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to load a model.");
    bool was_cached = file_get_residency(f) >= 0.5;
    o.samples = samples;
    e->model = model_load(f, &o, err);
    bool ok = e->model && read_meta(e, f, samples, err);
    free(samples);
    if (o.load != MODEL_LOAD_MMAP) file_drop_pages(f);
    /* The directory was read through the page cache. Where nothing of the file was there before,
     * nothing stays. */
    if (o.load == MODEL_LOAD_DIRECT && !was_cached) file_drop_cache(f);
    if (ok) e->info = model_get_info(e->model);
    if (ok && e->config.lock && o.load == MODEL_LOAD_MMAP && !file_lock_pages(f))
        return engine_cannot_lock(&e->plan, err);
    return ok;
}

engine *engine_open(const file *f, const engine_config *c, error *err) {
    engine *e = engine_new(err);
    if (!e) return NULL;
    e->config = *c;
    model_info *planned = calloc(1, sizeof *planned);
    model_options o = options_of(f, c);
    uint64_t tokenizer;
    bool ok = planned != NULL;
    if (!ok) error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to plan a model.");
    ok = ok && (e->tok = load_tok(f, &tokenizer, err)) != NULL &&
         plan_file(f, &o, e->tok, tokenizer, &e->config, planned, &e->plan, err) &&
         engine_refuse_unless_fits(&e->plan, err) && (!c->lock || engine_may_lock(&e->plan, err));
    if (ok && e->config.max_context_tokens < planned->n_ctx_train && c->max_context_tokens == 0)
        log_line(
            LOG_WARN, "engine",
            "the context is %lld tokens instead of the trained %lld: more would not fit into memory",
            (long long)e->config.max_context_tokens, (long long)planned->n_ctx_train);
    free(planned);
    ok = ok && load_file(e, f, o, err) && (e->pool = pool_new(e->config.n_threads, err)) != NULL &&
         engine_start(e, err);
    if (ok) return e;
    engine_close(e);
    return NULL;
}
