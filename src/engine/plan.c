/* How large everything will be, before anything is: the configuration with its gaps filled in, and
 * the bytes of each arena. */
#include "engine/impl.h"

#include "base/os.h"

enum {
    DEFAULT_PARALLEL = 4,
    DEFAULT_QUEUE = 512,
    DEFAULT_EVENTS = 128,
    DEFAULT_CHUNK = 512,
    DEFAULT_BUDGET_MS = 100,
    DEFAULT_PARK_MS = 200,
    DEFAULT_CONTEXT = 4096, /* of a file that does not say how it was trained */
    SMALLEST_AUTO_ROWS = 1024,
    MAX_PARALLEL = 256,
    MAX_QUEUE = 65536,
    MAX_EVENTS = 65536,
    MAX_CHUNK = 8192,
    SCORE_LOGIT_BYTES = 32 << 20, /* of logits held for scoring a prompt's chunk */
    MAX_SCORE_ROWS = 128,
};

engine_config engine_defaults(void) {
    return (engine_config){
        .n_queue = DEFAULT_QUEUE,
        .pinned = -1,
        .kv_type = KERN_KV_F16,
    };
}

/* ── The plan ── */

static bool check_range(const char *name, int64_t v, int64_t min, int64_t max, error *err) {
    if (v < min)
        return error_set(err, ERR_INT_BELOW_MIN, name,
                         "Invalid '%s': expected a value >= %lld, but got %lld instead.", name,
                         (long long)min, (long long)v);
    if (v > max)
        return error_set(err, ERR_INT_ABOVE_MAX, name,
                         "Invalid '%s': expected a value <= %lld, but got %lld instead.", name,
                         (long long)max, (long long)v);
    return true;
}

static int round_up_power_of_two(int n) {
    int p = 4;
    while (p < n) p *= 2;
    return p;
}

bool engine_fill_defaults(engine_config *c, const model_info *info, error *err) {
    const int64_t max_rows = (int64_t)1 << 40;
    if (c->n_threads == 0) c->n_threads = os_n_cpus();
    if (c->n_parallel == 0) c->n_parallel = DEFAULT_PARALLEL;
    if (c->n_events == 0) c->n_events = DEFAULT_EVENTS;
    if (c->max_chunk == 0) c->max_chunk = DEFAULT_CHUNK;
    if (c->step_budget_ms == 0) c->step_budget_ms = DEFAULT_BUDGET_MS;
    if (c->park_after_ms == 0) c->park_after_ms = DEFAULT_PARK_MS;
    if (c->pinned == -1) c->pinned = info->has_sinks ? 0 : KV_BLOCK;
    if (!check_range("threads", c->n_threads, 1, 1024, err) ||
        !check_range("parallel", c->n_parallel, 1, MAX_PARALLEL, err) ||
        !check_range("queue", c->n_queue, 0, MAX_QUEUE, err) ||
        !check_range("events", c->n_events, 1, MAX_EVENTS, err) ||
        !check_range("chunk", c->max_chunk, 1, MAX_CHUNK, err) ||
        !check_range("step_budget_ms", c->step_budget_ms, 1, 3600 * 1000, err) ||
        !check_range("park_after_ms", c->park_after_ms, 1, 3600 * 1000, err) ||
        !check_range("pinned", c->pinned, 0, max_rows / 2, err) ||
        !check_range("max_context_tokens", c->max_context_tokens, 0, max_rows, err) ||
        !check_range("max_kv_size", c->max_kv_size, 0, max_rows, err))
        return false;
    c->n_events = round_up_power_of_two(c->n_events);
    c->pinned = (c->pinned + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK;
    return true;
}

model_limits engine_limits(const engine_config *c, const model_info *info) {
    int64_t score_rows = SCORE_LOGIT_BYTES / ((int64_t)info->n_vocab * (int64_t)sizeof(float));
    if (score_rows > MAX_SCORE_ROWS) score_rows = MAX_SCORE_ROWS;
    return (model_limits){.max_rows = c->max_chunk + c->n_parallel,
                          .max_logits = c->n_parallel + (int32_t)score_rows};
}

kv_config engine_kv_config(const engine_config *c, const model_info *info, int64_t rows) {
    return (kv_config){.shape = {.n_layers = info->n_layers,
                                 .n_kv_heads = info->n_kv_heads,
                                 .head_dim = info->head_dim,
                                 .layer_width = info->layer_width,
                                 .type = c->kv_type},
                       .n_seqs = c->n_parallel,
                       .max_rows = rows,
                       .max_chunk = c->max_chunk};
}

static bool plan_rows(const engine_config *c, const model_info *info, int64_t rows, engine_plan *p,
                      error *err) {
    kv_config k = engine_kv_config(c, info, rows);
    p->kv = kv_plan_bytes(&k);
    p->kv_rows = rows;
    if (p->kv == 0 ||
        __builtin_add_overflow(p->weights + p->scratch + p->sampling + p->fixed, p->kv, &p->total))
        return error_set(err, ERR_INVALID_VALUE, "max_kv_size",
                         "A key/value cache of %lld rows for %d sequences cannot be built.",
                         (long long)rows, c->n_parallel);
    p->fits = p->total <= p->free_memory;
    return true;
}

bool engine_settle(engine_config *c, const model_info *info, uint64_t weights, uint64_t scratch,
                   engine_plan *p, error *err) {
    if (!engine_fill_defaults(c, info, err)) return false;
    uint64_t n_jobs = (uint64_t)c->n_parallel + (uint64_t)c->n_queue;
    *p = (engine_plan){
        .weights = weights,
        .scratch = scratch,
        .sampling = (uint64_t)c->n_parallel * sampler_plan_bytes(info->n_vocab),
        .fixed = sizeof(engine) +
                 n_jobs * (sizeof(engine_job) + (uint64_t)c->n_events * sizeof(ring_slot)),
        .free_memory = os_free_memory(),
    };
    for (int i = 0; i < info->n_layers; i++)
        if (info->layer_width[i] == 0)
            p->kv_row_bytes +=
                2 * (uint64_t)info->n_kv_heads * kern_kv_row_bytes(c->kv_type, info->head_dim);
    bool is_auto = c->max_context_tokens == 0 && c->max_kv_size == 0;
    if (c->max_context_tokens == 0)
        c->max_context_tokens = info->n_ctx_train > 0 ? info->n_ctx_train : DEFAULT_CONTEXT;
    int64_t least = c->pinned + KV_BLOCK,
            rows = c->max_kv_size ? c->max_kv_size : c->max_context_tokens;
    if (c->max_kv_size && !check_range("max_kv_size", rows, least, INT64_MAX, err)) return false;
    if (rows < least) rows = least;
    if (!plan_rows(c, info, rows, p, err)) return false;
    /* Nobody asked for this size: rather a shorter context, which is said, than no start. A tenth stays
     * free for whoever else is on this machine. */
    while (is_auto && p->total > p->free_memory / 10 * 9 && rows > SMALLEST_AUTO_ROWS &&
           rows / 2 >= least) {
        rows = rows / 2 > SMALLEST_AUTO_ROWS ? rows / 2 : SMALLEST_AUTO_ROWS;
        if (!plan_rows(c, info, rows, p, err)) return false;
    }
    if (is_auto && rows < c->max_context_tokens) c->max_context_tokens = rows;
    c->max_kv_size = rows;
    p->max_context_tokens = c->max_context_tokens;
    return true;
}

bool engine_refuse_unless_fits(const engine_plan *p, error *err) {
    if (p->fits) return true;
    const double gib = 1 << 30;
    return error_set(
        err, ERR_NO_MEMORY, NULL,
        "The model needs %.2f GiB (weights %.2f, %lld rows of key/value cache %.2f, the rest %.2f) but only %.2f "
        "GiB are free: %.2f GiB are missing. A smaller --ctx or --parallel needs less.",
        (double)p->total / gib, (double)p->weights / gib, (long long)p->kv_rows,
        (double)p->kv / gib, (double)(p->scratch + p->sampling + p->fixed) / gib,
        (double)p->free_memory / gib, (double)(p->total - p->free_memory) / gib);
}
