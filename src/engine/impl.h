/* Inside the engine room: the engine itself, between engine.c (submitting and the
 * thread), plan.c (sizes), open.c (around a model) and load.c (from a file). */
#ifndef ENGINE_IMPL_H
#define ENGINE_IMPL_H

#include <pthread.h>

#include "base/arena.h"
#include "engine/constrain.h"
#include "engine/job.h"
#include "engine/sched.h"
#include "engine/share.h"

enum { ENGINE_DIGEST_LEN = 16 };

/* What one job wants done with one row of logits. */
typedef struct draw {
    engine_job *job;
    float *logits;
    int64_t
        index; /* of the token, from the prompt's start: inside the prompt it is scored, else drawn */
    sample_result out;
} draw;

typedef struct counters {
    atomic_llong n_running, n_waiting, kv_blocks_used, kv_blocks_cached;
    atomic_ullong n_jobs, n_cancelled, n_rejected, n_failed;
    atomic_ullong n_prompt_tokens, n_cached_tokens, n_generated_tokens, n_forced_tokens;
    atomic_ullong n_steps, step_ns_total, prefill_ns_total, decode_ns_total, n_stopped_steps,
        n_parked, n_rerun_tokens;
} counters;

struct engine {
    engine_config config; /* effective */
    engine_plan plan;
    engine_meta meta;
    char digest[ENGINE_DIGEST_LEN + 1];
    arena meta_text; /* copies: after loading nothing needs the file's mapping */
    const model_info *info;
    model *model;
    model_ctx *ctx;
    tok *tok;
    pool *pool;
    kv *kv;
    uint8_t *is_end; /* [n_vocab]: ids that end generation */
    kv_window window;
    model_limits limits;
    door *door;
    shares shares; /* who holds which places */
    constrain constrain;
    pthread_t thread;
    bool has_thread;
    counters counters;

    /* The engine thread's own. */
    engine_job *waiting, **waiting_tail; /* in order of arrival */
    engine_job *parked;                  /* until their readers come back */
    int n_waiting, n_parked, n_running;
    engine_job **running;   /* [n_parallel] by age */
    sampler **samplers;     /* [n_parallel] */
    int *free_slots;        /* stack of sampler numbers */
    sched_job *sched_jobs;  /* [n_parallel] */
    int32_t *rows;          /* [n_parallel] */
    engine_job **step_jobs; /* [n_parallel] jobs of this step … */
    model_span *spans;      /* … and their spans */
    draw *draws;            /* [max_logits] */
    sched_rate rate;
    bool lacks_blocks; /* a job could not go on beside a re-run */
};

/* plan.c */
/* Fills in what is 0 or −1 in *c; refuses nonsense. */
bool engine_fill_defaults(engine_config *c, const model_info *info, error *err);
model_limits engine_limits(const engine_config *c, const model_info *info);
/* layer_width is borrowed from info. */
kv_config engine_kv_config(const engine_config *c, const model_info *info, int64_t rows);
/* What a plan is made from, in bytes. */
typedef struct engine_needs {
    uint64_t weights, mapped, scratch;
    uint64_t loading;   /* besides the weights, while they are read */
    uint64_t tokenizer; /* resident already */
    uint64_t forms;     /* the vocabulary as grammars need it, when they do */
    model_load_mode load;
} engine_needs;
/* Defaults, sizes and the plan. Counts what this process holds now. */
bool engine_settle(engine_config *c, const model_info *info, const engine_needs *needs,
                   engine_plan *plan, error *err);
bool engine_refuse_unless_fits(const engine_plan *p, error *err);
bool engine_cannot_lock(const engine_plan *p, error *err); /* the sentence; false */
/* Takes from the system what the plan promised to take at start, and locks it if that was asked for. */
bool engine_hold(engine *e, error *err);

/* open.c */
engine *engine_new(error *err);
/* The rest of the engine around config, plan, info, model, tok and pool; and its thread. */
bool engine_start(engine *e, error *err);

/* engine.c */
void engine_main(engine *e); /* the thread */

#endif
