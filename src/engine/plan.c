/* How large everything will be, before anything is: the configuration with its gaps filled in, and
 * the bytes of each arena. */
#include "engine/impl.h"

#include <stdio.h>

#include "base/limits.h"
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
    MAX_EVENTS = 65536,
    SCORE_LOGIT_BYTES = 8 << 20, /* of logits held for scoring a prompt's chunk */
    MAX_SCORE_ROWS = 128,
    /* Measured (tests/e2e/test_plan.py): what a process touches of its program and libraries after the
     * plan was made, the stack of a thread, and what a request's text and parsing take besides. */
    LATER_CODE_BYTES = 1 << 20,
    THREAD_BYTES = 48 << 10,
    REQUEST_BYTES = 96 << 10,
    LATER_HEAP_BYTES = 5 << 18,
};

static const uint64_t DEFAULT_KV_DIR_BYTES = (uint64_t)4 << 30;

engine_config engine_defaults(void) {
    return (engine_config){
        .n_queue = DEFAULT_QUEUE,
        .pinned = -1,
        .max_pinned = -1,
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
    if (c->n_threads == 0) c->n_threads = os_n_cpus();
    if (c->n_parallel == 0) c->n_parallel = DEFAULT_PARALLEL;
    if (c->n_events == 0) c->n_events = DEFAULT_EVENTS;
    if (c->max_chunk == 0) c->max_chunk = DEFAULT_CHUNK;
    if (c->step_budget_ms == 0) c->step_budget_ms = DEFAULT_BUDGET_MS;
    if (c->park_after_ms == 0) c->park_after_ms = DEFAULT_PARK_MS;
    if (c->kv_dir && c->kv_dir_bytes == 0) c->kv_dir_bytes = DEFAULT_KV_DIR_BYTES;
    if (c->max_pinned == -1) c->max_pinned = c->pinned == -1 ? LIMIT_ROWS : c->pinned;
    if (c->pinned == -1) c->pinned = info->has_sinks ? 0 : KV_BLOCK;
    if (!check_range("threads", c->n_threads, 1, LIMIT_THREADS, err) ||
        !check_range("parallel", c->n_parallel, 1, LIMIT_PARALLEL, err) ||
        !check_range("queue", c->n_queue, 0, LIMIT_QUEUE, err) ||
        !check_range("events", c->n_events, 1, MAX_EVENTS, err) ||
        !check_range("chunk", c->max_chunk, 1, LIMIT_CHUNK, err) ||
        !check_range("step_budget_ms", c->step_budget_ms, 1, 3600 * 1000, err) ||
        !check_range("park_after_ms", c->park_after_ms, 1, 3600 * 1000, err) ||
        !check_range("pinned", c->pinned, 0, LIMIT_PINNED, err) ||
        !check_range("max_pinned", c->max_pinned, 0, LIMIT_ROWS, err) ||
        !check_range("max_context_tokens", c->max_context_tokens, 0, LIMIT_ROWS, err) ||
        !check_range("max_kv_size", c->max_kv_size, 0, LIMIT_ROWS, err))
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
                       .max_chunk = c->max_chunk,
                       .cache_bytes = c->kv_cache_bytes,
                       .disk_bytes = c->kv_dir ? c->kv_dir_bytes : 0};
}

/* ── The plan ── */

static uint64_t kv_bytes(const engine_config *c, const model_info *info, int64_t rows,
                         int n_parallel) {
    engine_config one = *c;
    one.n_parallel = n_parallel;
    kv_config k = engine_kv_config(&one, info, rows);
    return kv_plan_bytes(&k);
}

static uint64_t kv_bytes_without_cache(const engine_config *c, const model_info *info,
                                       int64_t rows) {
    engine_config bare = *c;
    bare.kv_cache_bytes = 0;
    return kv_bytes(&bare, info, rows, c->n_parallel);
}

/* Everything that depends on the window's size; p holds the rest already. */
static bool plan_rows(const engine_config *c, const model_info *info, int64_t rows, engine_plan *p,
                      error *err) {
    uint64_t rest = p->weights + p->scratch + p->sampling + p->fixed;
    p->kv = kv_bytes(c, info, rows, c->n_parallel);
    p->kv_rows = rows;
    uint64_t bare = kv_bytes_without_cache(c, info, rows);
    if (c->kv_cache_bytes && bare && p->kv == 0)
        return error_set(err, ERR_INVALID_VALUE, "kv_cache",
                         "A --kv-cache of %llu MiB has more blocks than can be counted: lower it.",
                         (unsigned long long)(c->kv_cache_bytes >> 20));
    p->cache = p->kv - bare;
    if (p->kv == 0 || __builtin_add_overflow(rest, p->kv, &p->total))
        return error_set(err, ERR_INVALID_VALUE, "max_kv_size",
                         "A key/value cache of %lld rows for %d at once cannot be built: lower "
                         "--max-kv-size.",
                         (long long)rows, c->n_parallel);
    if (p->total < p->loading) p->total = p->loading;
    p->fits = p->total <= p->free_memory;
    p->missing = p->fits ? 0 : p->total - p->free_memory;
    return true;
}

static int64_t largest_rows(const engine_config *c, const model_info *info, int64_t least,
                            const engine_plan *p) {
    uint64_t rest = p->weights + p->scratch + p->sampling + p->fixed;
    if (rest > p->free_memory || p->loading > p->free_memory) return 0;
    int64_t fits = 0, low = (least + KV_BLOCK - 1) / KV_BLOCK, high = LIMIT_ROWS / KV_BLOCK;
    while (low <= high) {
        int64_t blocks = low + (high - low) / 2;
        uint64_t bytes = kv_bytes(c, info, blocks * KV_BLOCK, c->n_parallel);
        if (bytes && bytes <= p->free_memory - rest) {
            fits = blocks;
            low = blocks + 1;
        } else
            high = blocks - 1;
    }
    return fits * KV_BLOCK;
}

static void plan_fixed(const engine_config *c, const model_info *info, const engine_needs *needs,
                       engine_plan *p) {
    os_memory now = os_get_memory();
    uint64_t own = needs->load == MODEL_LOAD_MMAP ? now.rss_anon : now.rss;
    p->tokenizer = needs->tokenizer;
    p->process = own > needs->tokenizer ? own - needs->tokenizer : 0;
    if (needs->load != MODEL_LOAD_MMAP) p->process += LATER_CODE_BYTES;
    p->waiting_job = sizeof(engine_job) + (uint64_t)c->n_events * sizeof(ring_slot) +
                     JOB_MAX_KEPT * sizeof(int32_t);
    p->seq_job = p->waiting_job + REQUEST_BYTES;
    uint64_t draws = (uint64_t)engine_limits(c, info).max_logits * sizeof(draw);
    int64_t prompt = c->max_context_tokens   ? c->max_context_tokens
                     : info->n_ctx_train > 0 ? info->n_ctx_train
                                             : DEFAULT_CONTEXT;
    if (c->above_bytes)
        p->above = c->above_bytes(prompt, c->n_parallel, needs->load != MODEL_LOAD_MMAP);
    p->fixed = p->process + p->tokenizer + p->above + LATER_HEAP_BYTES + sizeof(engine) + draws +
               (uint64_t)info->n_vocab + (uint64_t)(c->n_threads + 1) * THREAD_BYTES +
               (uint64_t)c->n_parallel * p->seq_job;
    p->loading = own + p->weights + needs->loading;
    p->free_memory = os_free_memory() + now.rss_anon;
}

/* What --kv-cache might be beside the window that was asked for, or, where there is no room for that, beside
 * the smallest. */
static void plan_cache(const engine_config *c, const model_info *info, int64_t least,
                       engine_plan *p) {
    if (!p->cache) return;
    uint64_t rest = p->weights + p->scratch + p->sampling + p->fixed;
    uint64_t bare = rest + p->kv - p->cache;
    if (bare > p->free_memory) bare = rest + kv_bytes_without_cache(c, info, least);
    if (bare > p->free_memory) return;
    double part = (double)(p->free_memory - bare) / (double)p->cache; /* it has an index, too */
    p->largest_cache = part >= 1 ? c->kv_cache_bytes : (uint64_t)((double)c->kv_cache_bytes * part);
}

/* A window that leaves no block to move beside the pinned ones. */
static bool refuse_window(const engine_config *c, int64_t rows, int64_t least, error *err) {
    if (!c->max_kv_size)
        return error_set(
            err, ERR_INVALID_VALUE, "pinned",
            "Invalid 'pinned': %lld rows cannot be pinned in a window of %lld (the context, as --max-kv-size is not "
            "given), which needs a block of %d beside them: lower --pinned to %lld at most, or raise --max-kv-size to "
            "%lld at least.",
            (long long)c->pinned, (long long)rows, KV_BLOCK,
            (long long)(rows < KV_BLOCK ? 0 : (rows - KV_BLOCK) / KV_BLOCK * KV_BLOCK),
            (long long)least);
    char pinned[64] = "";
    if (c->pinned)
        snprintf(pinned, sizeof pinned, " and %lld rows are pinned", (long long)c->pinned);
    return error_set(
        err, ERR_INT_BELOW_MIN, "max_kv_size",
        "Invalid 'max_kv_size': a window of %lld rows is too small. The cache works in "
        "blocks of %d%s: raise it to %lld at least.",
        (long long)rows, KV_BLOCK, pinned, (long long)least);
}

bool engine_settle(engine_config *c, const model_info *info, const engine_needs *needs,
                   engine_plan *p, error *err) {
    bool pins = c->pinned > 0; /* somebody said so */
    if (!engine_fill_defaults(c, info, err)) return false;
    *p = (engine_plan){.weights = needs->weights,
                       .mapped = needs->mapped,
                       .scratch = needs->scratch,
                       .load = needs->load,
                       .n_ctx_train = info->n_ctx_train,
                       .seq_sampling =
                           sampler_plan_bytes(info->n_vocab) + matcher_plan_bytes(info->n_vocab),
                       .forms = needs->forms};
    p->sampling = (uint64_t)c->n_parallel * p->seq_sampling;
    plan_fixed(c, info, needs, p);
    for (int i = 0; i < info->n_layers; i++)
        if (info->layer_width[i] == 0)
            p->kv_row_bytes +=
                2 * (uint64_t)info->n_kv_heads * kern_kv_row_bytes(c->kv_type, info->head_dim);
    p->is_asked = c->max_context_tokens != 0 || c->max_kv_size != 0;
    if (c->max_context_tokens == 0)
        c->max_context_tokens = info->n_ctx_train > 0 ? info->n_ctx_train : DEFAULT_CONTEXT;
    int64_t least = c->pinned + KV_BLOCK,
            rows = c->max_kv_size ? c->max_kv_size : c->max_context_tokens;
    if (rows < least && (c->max_kv_size || pins)) return refuse_window(c, rows, least, err);
    if (rows < least) rows = least; /* of a short context, beside what the model needs pinned */
    if (!plan_rows(c, info, rows, p, err)) return false;
    p->largest_rows = largest_rows(c, info, least, p);
    plan_cache(c, info, least, p);
    /* A cache that fits beside no window is what has to shrink, not the context. */
    bool is_cache_too_large = p->cache && !p->largest_rows;
    /* Nobody asked for this size: rather a shorter context, which is said, than no start. A tenth stays
     * free for whoever else is on this machine. */
    while (!p->is_asked && !is_cache_too_large && p->total > p->free_memory / 10 * 9 &&
           rows > SMALLEST_AUTO_ROWS && rows / 2 >= least) {
        rows = rows / 2 > SMALLEST_AUTO_ROWS ? rows / 2 : SMALLEST_AUTO_ROWS;
        if (!plan_rows(c, info, rows, p, err)) return false;
    }
    if (!p->is_asked && rows < c->max_context_tokens) c->max_context_tokens = rows;
    c->max_kv_size = rows;
    kv_config k = engine_kv_config(c, info, rows);
    if (!kv_check_disk(&k, err)) return false;
    p->max_context_tokens = c->max_context_tokens;
    uint64_t more = kv_bytes(c, info, rows, c->n_parallel + 1);
    p->seq_kv = more > p->kv ? more - p->kv : 0;
    return true;
}

bool engine_refuse_unless_fits(const engine_plan *p, error *err) {
    if (p->fits) return true;
    const double gb = 1e9; /* the unit of oriel plan */
    char advice[200] = "No window is small enough: this model needs more memory";
    if (!p->largest_rows && p->load != MODEL_LOAD_MMAP)
        snprintf(
            advice, sizeof advice,
            "No window is small enough; --load mmap, which computes from the file in place, takes "
            "up to %.2f GB less",
            (double)p->weights / gb);
    if (!p->largest_rows && p->largest_cache)
        snprintf(advice, sizeof advice,
                 "--kv-cache alone takes %.2f GB: lower it to %llu (MiB) at most",
                 (double)p->cache / gb, (unsigned long long)(p->largest_cache >> 20));
    if (p->largest_rows)
        snprintf(advice, sizeof advice, "The largest window that fits is --max-kv-size %lld",
                 (long long)p->largest_rows);
    return error_set(
        err, ERR_NO_MEMORY, NULL,
        "The model needs %.2f GB (weights %.2f, %lld rows of key/value cache %.2f, the rest %.2f) but only %.2f "
        "GB are free: %llu bytes are missing. %s; a smaller %s--parallel or --kv-type q8_0 needs less, too.",
        (double)p->total / gb, (double)p->weights / gb, (long long)p->kv_rows, (double)p->kv / gb,
        (double)(p->scratch + p->sampling + p->fixed) / gb, (double)p->free_memory / gb,
        (unsigned long long)p->missing, advice, p->cache && p->largest_rows ? "--kv-cache, " : "");
}

/* ── Taking it ── */

bool engine_cannot_lock(const engine_plan *p, error *err) {
    const double mib = 1 << 20;
    uint64_t want = p->weights + p->mapped + p->kv + p->scratch;
    return error_set(
        err, ERR_NO_MEMORY, "mlock",
        "The system does not let this process lock %.1f MiB of memory (--mlock): its limit is %.1f MiB. Raise it "
        "with 'ulimit -l unlimited' (as root, or in /etc/security/limits.conf; for systemd: "
        "LimitMEMLOCK=infinity), or leave --mlock out.",
        (double)want / mib, (double)os_lock_limit() / mib);
}

bool engine_may_lock(const engine_plan *p, error *err) {
    return p->weights + p->mapped + p->kv + p->scratch <= os_lock_limit() ||
           engine_cannot_lock(p, err);
}

/* A window can be gigabytes, whose pages take the system a second: in slices, so that it can be
 * called off. */
static bool hold_window(engine *e, error *err) {
    enum { SLICE = 16 << 20 };
    const engine_config *c = &e->config;
    size_t bytes;
    char *rows = kv_get_memory(e->kv, &bytes);
    for (size_t at = 0; at < bytes; at += SLICE) {
        os_touch(rows + at, bytes - at < SLICE ? bytes - at : SLICE);
        if (c->progress && !c->progress(c->progress_ctx, e->plan.weights, e->plan.weights))
            return error_set(err, ERR_CANCELLED, NULL, "Loading was cancelled.");
    }
    return !c->lock || os_lock(rows, bytes) || engine_cannot_lock(&e->plan, err);
}

bool engine_hold(engine *e, error *err) {
    bool lock = e->config.lock;
    if (!model_ctx_hold(e->ctx, lock) || (lock && !model_lock(e->model)))
        return engine_cannot_lock(&e->plan, err);
    for (int i = 0; i < e->config.n_parallel; i++) sampler_hold(e->samplers[i]);
    constrain_hold(&e->constrain);
    return !(e->plan.is_asked || lock) || hold_window(e, err);
}
