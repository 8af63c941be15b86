/* Plan, load, and the one thread that owns all mutable inference state.
 * Knows tokens, not text, roles, JSON or HTTP.
 *
 * Jobs enter through a bounded mailbox; each answers through its own event
 * ring, which ends with exactly one ENGINE_END, whatever happens. The engine
 * thread drains its mailbox, plans a step (a pure function, engine/sched.h),
 * runs it, publishes. It never waits for a reader: a job whose ring is full
 * sits out the next plans, and gives up its place when others wait for one. Prompts are prefilled in chunks between decodes
 * under a step time budget. A cancelled job frees its slot within one step; a
 * forward whose jobs are all cancelled stops between layers.
 *
 * A job begins with the rows that earlier or running jobs left for the same leading
 * ids (kv/kv.h), and one that begins like a job which is just being prefilled waits
 * for it. Neither changes what it says: ids and logits are those of a cold start.
 *
 * No allocation or lock per token on the engine thread; at most one wake-up per
 * step and job, and only if its reader said it waits.
 */
#ifndef ENGINE_ENGINE_H
#define ENGINE_ENGINE_H

#include "base/error.h"
#include "file/file.h"
#include "model/model.h"
#include "sample/sample.h"
#include "tok/tok.h"

typedef struct engine engine;
typedef struct engine_job engine_job;

typedef struct engine_config {
    int n_threads;              /* 0 = all cores this process may use */
    int n_parallel;             /* sequences decoded at once; 0 = 4 */
    int n_queue;                /* jobs waiting beyond those; default 512; 0 = none may wait */
    int n_events;               /* events a job may be ahead of its reader, rounded up to a power of
                               two; 0 = 128 */
    int64_t max_context_tokens; /* longest prompt; 0 = trained length */
    int64_t max_kv_size; /* visible rows per full layer (p + W); 0 = max_context_tokens. If both
                               are 0, both shrink together until the plan fits, to 1,024 at least */
    int64_t pinned;     /* p: rows kept for ever of a prompt without n_pinned; −1 = 0 with learned
                               sinks, else one block (the 4 rows that such models lean on) */
    int64_t max_pinned; /* most rows kept for ever because of n_pinned; −1 = `pinned` if that is
                               given, else no cap of its own. Never more than half of max_kv_size */
    uint64_t kv_cache_bytes; /* key/value blocks for reuse alone, beyond running jobs' windows */
    const char *kv_dir;      /* blocks are kept there too and survive a restart; NULL = nowhere.
                               Borrowed while opening */
    uint64_t kv_dir_bytes;   /* budget of that directory; 0 = 4 GiB */
    kern_kv_type kv_type;    /* default KERN_KV_F16 */
    int32_t max_chunk;       /* prefill rows per step at most; 0 = 512 */
    int step_budget_ms;      /* aim for a step when anybody waits; 0 = 100 */
    int park_after_ms; /* a job whose reader left its ring full this long gives its place to one
                               that waits, and goes on (from the start, to the same text) when it is
                               read again; 0 = 200 */
    bool f32_acts, no_repack;
    model_load_mode load; /* default MODEL_LOAD_AUTO */
    bool lock; /* keep weights, window and scratch in physical memory; ERR_NO_MEMORY says what to do
                  where the system does not allow it */
    bool (*progress)(void *ctx, uint64_t done, uint64_t total);
    void *progress_ctx;
    /* What rooms above will take for an engine with such prompts and so many sequences, so that the
     * plan holds it too; `files`: with the pages of libraries that only they touch. May be NULL. */
    size_t (*above_bytes)(int64_t max_context_tokens, int n_parallel, bool files);
} engine_config;

engine_config engine_defaults(void);

/* What will be allocated, in bytes, before anything is. Loading takes memory from here and nowhere else;
 * scratch and samplers, and the window when its size was asked for, are taken from the system at
 * start, so that nothing grows later. */
typedef struct engine_plan {
    uint64_t weights;  /* repacked, and vectors as floats */
    uint64_t kv;       /* the window of all sequences, with room for a chunk, and … */
    uint64_t cache;    /* … of it: blocks for reuse alone */
    uint64_t scratch;  /* of the forward pass */
    uint64_t sampling; /* all samplers, and what follows a grammar beside each */
    uint64_t fixed;    /* the rest: process + tokenizer + above + tables, threads and
                          running jobs */
    uint64_t process; /* of fixed: the program and its libraries, as found when the plan was made */
    uint64_t tokenizer, above; /* of fixed */
    uint64_t loading;          /* the most that is held while loading */
    uint64_t total;  /* the most that is ever resident: the sum of the first five, or `loading` */
    uint64_t mapped; /* pages of the model file computed from in place: the system takes and
                          restores them as it likes, so they are not in total */
    /* What one sequence more or fewer changes; the sums above hold n_parallel of each. */
    uint64_t seq_kv, seq_sampling, seq_job;
    uint64_t waiting_job; /* each waiting request, on top */
    uint64_t
        forms; /* on top once the first answer of a given form is asked for: the vocabulary as a trie */
    model_load_mode load;       /* as chosen: not AUTO */
    int64_t kv_rows;            /* p + W actually used */
    uint64_t kv_row_bytes;      /* of one position in all full layers */
    int64_t max_context_tokens; /* the longest prompt, as settled … */
    int64_t n_ctx_train;        /* … and the longest the model was trained for; 0: unknown */
    uint64_t free_memory;       /* when asked, with what this process holds already */
    bool fits;
    uint64_t missing; /* how much, when not */
    uint64_t
        largest_cache;    /* kv_cache_bytes that would fit; 0: none would, or none was asked for */
    int64_t largest_rows; /* the largest kv_rows that would fit, whole blocks; 0: none does */
    bool is_asked; /* max_context_tokens or max_kv_size were given: the window's size is no guess */
} engine_plan;
bool engine_make_plan(const file *f, const engine_config *c, engine_plan *plan, error *err);
/* Would this process be allowed to lock what was planned? False: ERR_NO_MEMORY says what to do. */
bool engine_may_lock(const engine_plan *p, error *err);

/* Plans, refuses what does not fit, loads, starts the thread. `f` is borrowed and must outlive the
 * engine. ERR_NO_MEMORY names the shortfall. */
engine *engine_open(const file *f, const engine_config *c, error *err);
/* The same around a model made by the caller (the fake one): takes ownership of m and of t (t may be NULL). */
engine *engine_open_model(model *m, tok *t, const engine_config *c, error *err);
/* Ends every job (cancelled), joins the thread, frees all. Jobs may still be read and freed
 * afterwards; no engine_submit may run beside or after this. NULL is allowed. */
void engine_close(engine *e);

const model_info *engine_get_model(const engine *e);
const engine_plan *engine_get_plan(const engine *e);
const engine_config *engine_get_config(const engine *e); /* effective values: no zeros left */
tok *engine_get_tok(const engine *e);                    /* borrowed; NULL for a bare fake model */

/* What the model file says about itself. Borrowed from the engine; fields are {NULL,0} where the
 * file does not say. Any bytes may be in them. */
typedef struct engine_meta {
    str name;          /* general.name */
    str arch;          /* general.architecture */
    str license;       /* general.license */
    str chat_template; /* tokenizer.chat_template */
    str digest;        /* 16 hex digits over metadata, tensor directory and samples of every tensor:
                          tells model files apart; not a checksum of all bytes */
} engine_meta;
const engine_meta *engine_get_meta(const engine *e);
uint64_t engine_numerics_id(const engine *e);

/* ── Jobs ── */
typedef enum engine_embed {
    ENGINE_EMBED_OFF,
    ENGINE_EMBED_MEAN, /* of all rows' hidden states after the output's norm */
    ENGINE_EMBED_LAST, /* the last row's */
} engine_embed;

typedef struct engine_request {
    const int32_t *prompt; /* copied; at least one id, each in [0, n_vocab) */
    size_t n_prompt;
    sample_params sampling;
    int64_t max_tokens;      /* tokens to generate; 0 = only prefill (and score); −1 = no limit */
    bool ignore_end;         /* do not stop at end tokens */
    const int32_t *stop_ids; /* further ids that end generation; copied */
    size_t n_stop_ids;
    int32_t
        score_prompt; /* −1 off; k ≥ 0: one ENGINE_PROMPT event per prompt token from the 2nd on,
                               with k top alternatives */
    engine_embed embed;  /* with max_tokens 0: the prompt's embedding, see engine_get_embedding */
    int64_t deadline_ns; /* clock_ns() after which the job ends with ERR_DEADLINE; 0 = none */
    /* Under a grammar, so that an answer which has to come is whole before max_tokens: once so many
     * tokens are generated, wrap_up_id (−1: none) comes wherever the grammar allows it, which ends
     * thinking, and nothing is begun that could not be completed in the rest (matcher_hurry). 0 = no
     * such care. */
    int64_t wrap_up_after;
    int32_t wrap_up_id;
    int64_t max_kv_size; /* at most the engine's, for this job; 0 = the engine's */
    size_t n_pinned;     /* leading prompt ids that should stay visible for ever: a conversation's
                            system, developer and tools part; rounded up to blocks, capped; 0 = none */
    /* Called on the engine thread, at most once per engine_poll() that returned false: there is
     * something to read now. Must not block, allocate or call into the engine; do not call
     * engine_job_free with a lock held that wake() takes. May be NULL. */
    void (*wake)(void *ctx);
    void *wake_ctx;
    /* For whom, of those who share the engine; 0 = nobody in particular. No client gets all places, and
     * who has the fewest running is next (engine/share.h). */
    uint64_t client;
} engine_request;

typedef enum engine_finish {
    ENGINE_STOP, /* an end token or stop id (it is the last ENGINE_TOKEN event), or nothing can follow
                      under the grammar */
    ENGINE_LENGTH, /* max_tokens */
    ENGINE_CANCELLED,
    ENGINE_FAILED, /* see error */
} engine_finish;

typedef enum engine_event_kind { ENGINE_PROMPT, ENGINE_TOKEN, ENGINE_END } engine_event_kind;

typedef struct engine_usage {
    int64_t n_prompt, n_generated;
    int64_t n_cached; /* leading prompt tokens that did not run: their rows were there */
    int64_t queue_ns, prefill_ns, decode_ns; /* waiting; first step → first token; rest */
    int64_t kv_rows;                         /* rows held at the end */
    int64_t n_pinned;                        /* of them, that stay for ever */
} engine_usage;

/* What the step that led to a token cost its job. */
typedef struct engine_cost {
    int64_t end_ns; /* clock_ns() when the step was done */
    int64_t
        n_attended; /* key rows looked at, summed over the job's rows of that step and all layers */
    int64_t n_blocks;  /* key/value blocks held then … */
    uint64_t kv_bytes; /* … and their bytes in all layers */
} engine_cost;

typedef struct engine_event {
    engine_event_kind kind;
    int64_t index;        /* token's index in prompt / answer */
    sample_result token;  /* PROMPT, TOKEN */
    engine_cost cost;     /* TOKEN */
    engine_finish finish; /* END */
    engine_usage usage;   /* END */
    error err;            /* END with ENGINE_FAILED */
} engine_event;

/* Would engine_submit take one more job for this client now? False: ERR_RATE_LIMIT, counted as a
 * rejection. A hint, to be asked before the work that leads to a job. Any thread. */
bool engine_has_place(engine *e, uint64_t client, error *err);
/* Any thread. NULL: ERR_RATE_LIMIT when the queue is full or what is left of it is kept for others, ERR_CONTEXT_LENGTH with the numbers,
 * ERR_INVALID_VALUE for ids out of range, sample_check's errors, and what else is out of range by
 * its API name (max_tokens, max_kv_size, logprobs). */
engine_job *engine_submit(engine *e, const engine_request *r, error *err);
/* The one reader of this job. False = nothing now; wake() follows when there is (never lost). After
 * ENGINE_END it is false for ever. */
bool engine_poll(engine_job *j, engine_event *out);
/* Blocks up to timeout_ms (−1 = for ever). For readers without a wake function. False: time is up,
 * or ENGINE_END was given before. */
bool engine_wait(engine_job *j, engine_event *out, int timeout_ms);
/* Asks the job to end soon; its ENGINE_END still comes. Any thread, any time, idempotent. */
void engine_cancel(engine_job *j);
/* [d_model], valid after an ENGINE_END that is not ENGINE_FAILED or ENGINE_CANCELLED until
 * engine_job_free; not scaled to a length. NULL for a job that did not ask. */
const float *engine_get_embedding(const engine_job *j);
/* Reader is done. Cancels if still running; wake() is not called any more once this returned. */
void engine_job_free(engine_job *j);

/* ── Counters for /metrics and the status line. Any thread, relaxed. ── */
typedef struct engine_stats {
    int64_t n_running, n_waiting;
    uint64_t n_jobs, n_cancelled, n_rejected, n_failed;
    uint64_t n_prompt_tokens, n_cached_tokens, n_generated_tokens;
    uint64_t n_steps, step_ns_total;
    uint64_t prefill_ns_total, decode_ns_total; /* of steps with and without prompt rows */
    uint64_t n_stopped_steps; /* given up between layers: every job was cancelled */
    uint64_t n_parked;        /* times a job gave its place away because nobody read it */
    uint64_t n_rerun_tokens;  /* run again for sliding layers while full layers kept their rows */
    int64_t kv_blocks_used,
        kv_blocks_total;      /* used: held by jobs, each once however many share it */
    int64_t kv_blocks_cached; /* held by none and findable */
} engine_stats;
engine_stats engine_get_stats(const engine *e);

#endif
