/* Building an engine around a model, taking it down, and looking at it. */
#include "engine/impl.h"

#include <stdlib.h>

#include "base/hash.h"
#include "base/os.h"

static void wake(void *door_of_engine) {
    door *d = door_of_engine;
    gate_signal(&d->gate);
}

/* Rows of other weights or another arithmetic are not these. */
static bool open_disk(engine *e, error *err) {
    kv_disk_config c = {
        .dir = e->config.kv_dir,
        .max_bytes = e->config.kv_dir_bytes,
        .made_by = hash_combine(hash_str(e->meta.digest), model_numerics_id(e->model)),
        .notify = wake,
        .notify_ctx = e->door,
    };
    e->config.kv_dir = NULL; /* borrowed until here */
    return kv_open_disk(e->kv, &c, err);
}

static bool build(engine *e, error *err) {
    const engine_config *c = &e->config;
    size_t n = (size_t)c->n_parallel;
    e->window = (kv_window){c->pinned, c->max_kv_size - c->pinned};
    e->limits = engine_limits(c, e->info);
    kv_config k = engine_kv_config(c, e->info, c->max_kv_size);
    if (!(e->kv = kv_new(&k, err)) || !(e->ctx = model_ctx_new(e->model, e->limits, e->pool, err)))
        return false;
    e->door = door_new();
    e->running = calloc(n, sizeof *e->running);
    e->samplers = calloc(n, sizeof *e->samplers);
    e->free_slots = calloc(n, sizeof *e->free_slots);
    e->sched_jobs = calloc(n, sizeof *e->sched_jobs);
    e->rows = calloc(n, sizeof *e->rows);
    e->step_jobs = calloc(n, sizeof *e->step_jobs);
    e->spans = calloc(n, sizeof *e->spans);
    e->draws = calloc((size_t)e->limits.max_logits, sizeof *e->draws);
    e->is_end = calloc((size_t)e->info->n_vocab, 1);
    e->waiting_tail = &e->waiting;
    uint64_t salt;
    os_random(&salt, sizeof salt);
    share_init(&e->shares, c->n_parallel, c->n_queue, salt);
    if (!e->door || !e->running || !e->samplers || !e->free_slots || !e->sched_jobs || !e->rows ||
        !e->step_jobs || !e->spans || !e->draws || !e->is_end)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the engine's tables.");
    sample_params p = sample_defaults();
    for (size_t i = 0; i < n; i++) {
        e->free_slots[i] = (int)i;
        if (!(e->samplers[i] = sampler_new(&p, e->info->n_vocab, err))) return false;
    }
    int32_t n_known = e->tok ? tok_n_vocab(e->tok) : 0;
    for (int32_t id = 0; id < e->info->n_vocab && id < n_known; id++)
        e->is_end[id] = tok_is_end(e->tok, id);
    if (e->tok && !constrain_reserve(&e->constrain, c->n_parallel, n_known, err)) return false;
    if (c->kv_dir && !open_disk(e, err)) return false;
    return engine_hold(e, err);
}

static void *thread_main(void *ctx) {
    os_share_core("engine", 0, 0);
    engine_main(ctx);
    return NULL;
}

bool engine_start(engine *e, error *err) {
    if (!build(e, err)) return false;
    if (pthread_create(&e->thread, NULL, thread_main, e) != 0)
        return error_set(err, ERR_NO_MEMORY, NULL,
                         "The system refuses to start the engine thread.");
    e->has_thread = true;
    return true;
}

void engine_close(engine *e) {
    if (!e) return;
    if (e->has_thread) {
        atomic_store(&e->door->is_closed, true);
        gate_signal(&e->door->gate);
        pthread_join(e->thread, NULL);
    }
    for (int i = 0; e->samplers && i < e->config.n_parallel; i++) sampler_free(e->samplers[i]);
    free(e->running);
    free(e->samplers);
    free(e->free_slots);
    free(e->sched_jobs);
    free(e->rows);
    free(e->step_jobs);
    free(e->spans);
    free(e->draws);
    free(e->is_end);
    model_ctx_free(e->ctx);
    kv_free(e->kv);
    model_free(e->model);
    constrain_deinit(&e->constrain);
    tok_unref(e->tok);
    pool_free(e->pool);
    arena_deinit(&e->meta_text);
    door_unref(e->door);
    free(e);
}

engine *engine_new(error *err) {
    engine *e = calloc(1, sizeof *e);
    if (!e) error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for an engine.");
    if (e) constrain_init(&e->constrain);
    return e;
}

engine *engine_open_model(model *m, tok *t, const engine_config *c, error *err) {
    engine *e = engine_new(err);
    if (!e) {
        model_free(m);
        tok_unref(t);
        return NULL;
    }
    e->config = *c;
    e->model = m;
    e->tok = t;
    e->info = model_get_info(m);
    e->meta.arch = str_from(e->info->arch);
    engine_config filled = *c;
    bool ok = engine_fill_defaults(&filled, e->info, err);
    engine_needs needs = {.weights = e->info->weight_bytes, .load = MODEL_LOAD_READ};
    if (ok)
        needs.scratch = model_ctx_plan_bytes(m, engine_limits(&filled, e->info), filled.n_threads);
    ok = ok && engine_settle(&e->config, e->info, &needs, &e->plan, err) &&
         engine_refuse_unless_fits(&e->plan, err) &&
         (e->pool = pool_new(e->config.n_threads, err)) != NULL && engine_start(e, err);
    if (ok) return e;
    engine_close(e);
    return NULL;
}

/* ── Looking ── */

const model_info *engine_get_model(const engine *e) {
    return e->info;
}
const engine_plan *engine_get_plan(const engine *e) {
    return &e->plan;
}
const engine_config *engine_get_config(const engine *e) {
    return &e->config;
}
tok *engine_get_tok(const engine *e) {
    return e->tok;
}
const engine_meta *engine_get_meta(const engine *e) {
    return &e->meta;
}
uint64_t engine_numerics_id(const engine *e) {
    return model_numerics_id(e->model);
}

engine_stats engine_get_stats(const engine *e) {
    counters *c = &((engine *)e)->counters; /* C17's atomic_load takes no pointer to const */
    engine_stats out = {.kv_blocks_total = kv_n_blocks(e->kv, false) + kv_n_blocks(e->kv, true)};
#define GET(name) out.name = atomic_load_explicit(&c->name, memory_order_relaxed)
    GET(n_running);
    GET(n_waiting);
    GET(n_jobs);
    GET(n_cancelled);
    GET(n_rejected);
    GET(n_failed);
    GET(n_prompt_tokens);
    GET(n_cached_tokens);
    GET(n_generated_tokens);
    GET(n_steps);
    GET(step_ns_total);
    GET(prefill_ns_total);
    GET(decode_ns_total);
    GET(n_stopped_steps);
    GET(n_parked);
    GET(n_rerun_tokens);
    GET(kv_blocks_used);
    GET(kv_blocks_cached);
#undef GET
    return out;
}
