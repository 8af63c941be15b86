/* One configuration of the window bench: a prompt prefilled, a long generation that is
 * counted and timed token by token, then pairs of bursts of that sequence and a young
 * one.
 *
 * Nothing here allocates between the first and the last token of the long generation,
 * and memory that is written during it was written before: what grows is the engine's.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/heap.h"
#include "cli/window.h"

enum {
    START_TOKENS = 16,  /* of the long generation's prompt: it begins before its window */
    RESTART_PAIRS = 64, /* the young sequence begins again after so many bursts */
    FIT_GROUPS = 100,   /* points of a slope: the median of each group of samples */
    STALL_S = 600,      /* no token for so long: something is broken */
    SHOW_EVERY_NS = 500000000,
};

static int32_t *new_ids(const engine *e, int64_t n, uint64_t seed, error *err) {
    int32_t *ids = malloc((size_t)n * sizeof *ids);
    uint64_t n_vocab = (uint64_t)engine_get_model(e)->n_vocab;
    if (!ids) error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the prompt.");
    for (int64_t i = 0; ids && i < n; i++) ids[i] = (int32_t)(rng_at(seed, (uint64_t)i) % n_vocab);
    return ids;
}

static engine_job *submit(engine *e, int64_t n_prompt, int64_t max_tokens, uint64_t seed,
                          error *err) {
    int32_t *ids = new_ids(e, n_prompt, seed, err);
    if (!ids) return NULL;
    engine_request r = {.prompt = ids,
                        .n_prompt = (size_t)n_prompt,
                        .max_tokens = max_tokens,
                        .ignore_end = true,
                        .score_prompt = -1,
                        .sampling = sample_defaults()};
    r.sampling.temperature = 1; /* greedy decoding of a small model runs in circles */
    r.sampling.seed = seed;
    r.sampling.n_top = -1;
    engine_job *j = engine_submit(e, &r, err);
    free(ids);
    return j;
}

/* The next token; false with an error when the user or the engine ended it. */
static bool next_token(engine_job *j, engine_event *ev, error *err) {
    int64_t begin = 0;
    while (!engine_wait(j, ev, 100)) {
        int64_t now = clock_ns();
        if (!begin) begin = now;
        if (term_interrupts()) return error_set(err, ERR_CANCELLED, NULL, "Interrupted.");
        if (now - begin > (int64_t)STALL_S * 1000000000)
            return error_set(err, ERR_INTERNAL, NULL, "The engine gave no token for %d s.",
                             STALL_S);
    }
    if (ev->kind == ENGINE_TOKEN) return true;
    if (ev->finish == ENGINE_FAILED) {
        *err = ev->err;
        return false;
    }
    return error_set(err, ERR_INTERNAL, NULL, "The engine ended the run early.");
}

/* ── Prefill ── */

static bool prefill(engine *e, int64_t n, uint64_t seed, window_result *r, error *err) {
    int64_t begin = clock_ns();
    engine_job *j = submit(e, n, 1, seed, err);
    engine_event ev;
    bool ok = j && next_token(j, &ev, err);
    r->ttft_s = (double)(clock_ns() - begin) / 1e9;
    while (ok && (!engine_wait(j, &ev, 100) || ev.kind != ENGINE_END)) {
    }
    r->n_prefill = n;
    r->prefill_s = ok ? (double)ev.usage.prefill_ns / 1e9 : 0;
    engine_job_free(j);
    return ok;
}

/* ── The long generation ── */

typedef struct run {
    engine *e;
    const window_options *o;
    window_result *r;
    probe probe;
    engine_job *deep;
    int64_t n_read;           /* of its tokens */
    int64_t blocks[KV_BLOCK]; /* held at the last positions, by their place in a block */
    stats_times times;
} run;

static void count(run *u, int64_t position, const engine_cost *c) {
    window_result *r = u->r;
    int64_t *before = &u->blocks[position % KV_BLOCK];
    if (r->n_counted == 0) {
        r->attended_min = r->attended_max = c->n_attended;
        r->blocks_min = r->blocks_max = c->n_blocks;
    }
    if (c->n_attended < r->attended_min) r->attended_min = c->n_attended;
    if (c->n_attended > r->attended_max) r->attended_max = c->n_attended;
    if (c->n_blocks < r->blocks_min) r->blocks_min = c->n_blocks;
    if (c->n_blocks > r->blocks_max) r->blocks_max = c->n_blocks;
    r->n_uneven += r->n_counted >= KV_BLOCK && c->n_blocks != *before;
    *before = c->n_blocks;
    r->n_counted++;
}

static void take_sample(run *u, int64_t position, double tps, const engine_cost *c,
                        const probe_sample *p) {
    window_series *s = &u->r->series;
    if (s->n == WINDOW_MAX_SAMPLES) return;
    s->tokens[s->n] = (double)position;
    s->tps[s->n] = tps;
    s->rss_anon[s->n] = (double)p->rss_anon;
    s->locked[s->n] = (double)p->locked;
    s->kv[s->n] = (double)c->kv_bytes;
    s->n++;
}

static void show(const run *u, const char *what, int64_t done, int64_t of) {
    static int64_t shown_ns;
    int64_t now = clock_ns();
    if (!u->o->shows_progress || (now - shown_ns < SHOW_EVERY_NS && done < of)) return;
    shown_ns = now;
    fprintf(stderr, "\r\033[K%lld rows: %s %lld of %lld", (long long)u->r->max_kv_size, what,
            (long long)done, (long long)of);
    if (done >= of) fputs("\r\033[K", stderr);
}

static bool run_deep(run *u, error *err) {
    window_result *r = u->r;
    const window_options *o = u->o;
    int64_t stride = o->n_tokens / (WINDOW_MAX_SAMPLES - 48);
    if (stride < 64) stride = 64;
    if (!(u->deep = submit(u->e, START_TOKENS, -1, o->seed, err))) return false;
    int64_t begin_ns = 0, last_ns = 0, before_ns = 0, before_n = 0, past_ns = 0, past_n = 0;
    int64_t sample_ns = 0;
    uint64_t allocs = 0;
    probe_sample first = {0}, settled = {0}, now;
    engine_event ev = {0};
    heap_count(true);
    for (int64_t i = 0; i < o->n_tokens; i++) {
        if (!next_token(u->deep, &ev, err)) return false;
        int64_t position = START_TOKENS + i, took = ev.cost.end_ns - last_ns;
        last_ns = ev.cost.end_ns;
        u->n_read++;
        if (i == 0) {
            begin_ns = sample_ns = last_ns;
            probe_read(&u->probe, &first);
            continue;
        }
        if (position <= r->max_kv_size) {
            before_ns += took;
            before_n++;
        }
        if (position == r->settled) {
            allocs = heap_n_allocs();
            probe_read(&u->probe, &settled);
        }
        if (position > r->settled) {
            past_ns += took;
            past_n++;
            count(u, position, &ev.cost);
            stats_add_time(&u->times, took);
        }
        if (i % stride == 0) {
            probe_read(&u->probe, &now);
            take_sample(u, position, (double)stride * 1e9 / (double)(last_ns - sample_ns), &ev.cost,
                        &now);
            sample_ns = last_ns;
            show(u, "token", i, o->n_tokens);
        }
    }
    r->n_allocs = heap_n_allocs() - allocs;
    heap_count(false);
    probe_read(&u->probe, &now);
    show(u, "token", o->n_tokens, o->n_tokens);
    double wall = (double)(now.at_ns - first.at_ns);
    r->n_tokens = o->n_tokens;
    r->seconds = (double)(last_ns - begin_ns) / 1e9;
    r->n_windows = (double)(START_TOKENS + o->n_tokens) / (double)r->max_kv_size;
    r->tps_before = before_ns > 0 ? (double)before_n * 1e9 / (double)before_ns : NAN;
    r->tps_past = past_ns > 0 ? (double)past_n * 1e9 / (double)past_ns : NAN;
    r->step_p50_ms = stats_time_quantile(&u->times, 0.5) / 1e6;
    r->step_p99_ms = stats_time_quantile(&u->times, 0.99) / 1e6;
    r->cpu_percent = wall > 0 ? (double)(now.cpu_ns - first.cpu_ns) / wall * 100 : 0;
    r->foreign_cores = wall > 0 ? (double)(now.foreign_ns - first.foreign_ns) / wall : 0;
    if (r->foreign_cores < 0) r->foreign_cores = 0; /* the machine counts in ticks */
    r->n_minor = settled.at_ns ? now.n_minor - settled.n_minor : 0;
    r->n_major = settled.at_ns ? now.n_major - settled.n_major : 0;
    return true;
}

/* ── What the samples say ── */

/* Points for a slope: group medians, so that a moment of somebody else's load does not tilt it. */
static stats_line fit(const double *x, const double *y, size_t n) {
    static double gx[FIT_GROUPS], gy[FIT_GROUPS], v[WINDOW_MAX_SAMPLES];
    size_t groups = n < FIT_GROUPS ? n : FIT_GROUPS;
    for (size_t g = 0; g < groups; g++) {
        size_t from = n * g / groups, to = n * (g + 1) / groups;
        memcpy(v, x + from, (to - from) * sizeof *v);
        gx[g] = stats_quantile(v, to - from, 0.5) / 1e5; /* slopes are per 100,000 tokens */
        memcpy(v, y + from, (to - from) * sizeof *v);
        gy[g] = stats_quantile(v, to - from, 0.5);
    }
    return stats_fit(gx, gy, groups);
}

static window_memory sum_up(const double *x, const double *y, size_t n) {
    static double v[WINDOW_MAX_SAMPLES];
    memcpy(v, y, n * sizeof *v);
    return (window_memory){fit(x, y, n).slope, stats_quantile(v, n, 0.5), stats_range(y, n)};
}

static void sum_up_series(window_result *r) {
    const window_series *s = &r->series;
    size_t from = 0;
    /* A sample's speed is that of the tokens before it. */
    while (from < s->n && s->tokens[from] < (double)r->settled) from++;
    if (from < s->n) from++;
    size_t n = s->n - from;
    stats_line l = fit(s->tokens + from, s->tps + from, n);
    r->slope = (stats_interval){l.slope.value / l.mean_y * 100, l.slope.low / l.mean_y * 100,
                                l.slope.high / l.mean_y * 100};
    r->rss_anon = sum_up(s->tokens + from, s->rss_anon + from, n);
    r->locked = sum_up(s->tokens + from, s->locked + from, n);
    r->kv = sum_up(s->tokens + from, s->kv + from, n);
}

/* ── Pairs ──
 * A job whose reader does not read fills its event ring, WINDOW_BURST events, and rests. Reading as
 * many lets it run a burst of that length; its times come out of the ring at the next turn. */

static uint64_t n_generated(const engine *e) {
    return engine_get_stats(e).n_generated_tokens;
}

/* Sleeps until the engine has generated that many tokens in all. */
static bool await(const run *u, uint64_t target, int64_t about_ns, error *err) {
    int64_t begin = clock_ns(), nap = about_ns / 50;
    if (nap < 50000) nap = 50000;
    if (nap > 20000000) nap = 20000000;
    while (n_generated(u->e) < target) {
        if (term_interrupts()) return error_set(err, ERR_CANCELLED, NULL, "Interrupted.");
        if (clock_ns() - begin > (int64_t)STALL_S * 1000000000)
            return error_set(err, ERR_INTERNAL, NULL, "The engine gave no token for %d s.",
                             STALL_S);
        nanosleep(&(struct timespec){0, nap}, NULL);
    }
    return true;
}

/* Takes a burst out of a full ring: nanoseconds from its first to its last token. */
static bool read_burst(engine_job *j, double *ns, error *err) {
    engine_event ev;
    int64_t first = 0;
    for (int i = 0; i < WINDOW_BURST; i++) {
        if (!next_token(j, &ev, err)) return false;
        if (i == 0) first = ev.cost.end_ns;
    }
    *ns = (double)(ev.cost.end_ns - first);
    return true;
}

/* A young sequence, just past its window, its ring full. */
static bool restart_shallow(run *u, engine_job **shallow, uint64_t *target, error *err) {
    engine_job_free(*shallow);
    *shallow = NULL;
    for (int64_t begin = clock_ns(); engine_get_stats(u->e).n_running > 1;) {
        if (clock_ns() - begin > (int64_t)STALL_S * 1000000000)
            return error_set(err, ERR_INTERNAL, NULL, "A cancelled job does not end.");
        nanosleep(&(struct timespec){0, 100000}, NULL);
    }
    *target = n_generated(u->e) + WINDOW_BURST;
    return (*shallow = submit(u->e, u->r->settled, -1, u->o->seed + 1, err)) &&
           await(u, *target, 100000000, err);
}

static bool run_pairs(run *u, error *err) {
    enum { SHALLOW, DEEP };
    window_result *r = u->r;
    engine_job *jobs[2] = {NULL, u->deep};
    static double ratio[WINDOW_MAX_PAIRS];
    double took[2];
    bool ok = true;
    u->deep = NULL; /* jobs[] owns it from here on */
    /* The deep job goes on until its ring is full: then, and only then, nothing runs. */
    nanosleep(&(struct timespec){0, 1000000}, NULL);
    for (uint64_t n = 0; ok && n != n_generated(u->e);) {
        n = n_generated(u->e);
        int64_t nap = (int64_t)(4e6 * r->step_p99_ms) + 2000000;
        nanosleep(&(struct timespec){nap / 1000000000, nap % 1000000000}, NULL);
    }
    uint64_t target = 0;
    for (int64_t k = 0; ok && r->n_pairs < (size_t)u->o->n_pairs; k++) {
        int64_t in_row = k % RESTART_PAIRS;
        if (in_row == 0) ok = restart_shallow(u, &jobs[SHALLOW], &target, err);
        for (int half = 0; ok && half < 2; half++) {
            int which = (half + (int)k) % 2;
            double old;
            ok = read_burst(jobs[which], &old, err) &&
                 await(u, target += WINDOW_BURST, (int64_t)(r->step_p50_ms * 1e6 * WINDOW_BURST),
                       err);
            took[which] = old;
        }
        /* What was just read are the bursts before: of the pair before, where there was one. */
        if (ok && in_row > 0) ratio[r->n_pairs++] = took[DEEP] / took[SHALLOW];
        show(u, "pair", (int64_t)r->n_pairs, u->o->n_pairs);
    }
    r->shallow_from = r->settled;
    r->shallow_to = r->settled + (RESTART_PAIRS + 1) * WINDOW_BURST;
    r->ratio = stats_median(ratio, r->n_pairs);
    engine_job_free(jobs[SHALLOW]);
    engine_job_free(jobs[DEEP]);
    return ok;
}

/* ── */

/* The position at which every layer's window is full and has begun to move. */
static int64_t settled_position(const engine *e) {
    const model_info *m = engine_get_model(e);
    int64_t widest = engine_get_config(e)->max_kv_size;
    for (int i = 0; i < m->n_layers; i++)
        if (m->layer_width[i] > widest) widest = m->layer_width[i];
    return widest + 2 * KV_BLOCK;
}

bool window_run(engine *e, const window_options *o, window_result *r, error *err) {
    const engine_config *c = engine_get_config(e);
    const model_info *m = engine_get_model(e);
    int64_t settled = settled_position(e);
    if (o->n_tokens < settled + 8 * KV_BLOCK)
        return error_set(
            err, ERR_USAGE, "tokens",
            "%lld tokens hardly fill a window of %lld rows: --tokens has to be %lld or more.",
            (long long)o->n_tokens, (long long)c->max_kv_size, (long long)(settled + 8 * KV_BLOCK));
    run *u = calloc(1, sizeof *u);
    if (!u) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the measurements.");
    memset(u, 1, sizeof *u); /* touched now, so that touching it later is no page fault */
    memset(r, 1, sizeof *r);
    *u = (run){.e = e, .o = o, .r = r};
    *r = (window_result){.max_kv_size = c->max_kv_size,
                         .pinned = c->pinned,
                         .settled = settled,
                         .row_bytes = 2 * (uint64_t)m->n_kv_heads *
                                      kern_kv_row_bytes(c->kv_type, m->head_dim),
                         .planned_kv = engine_get_plan(e)->kv,
                         .counts_allocs = heap_install(),
                         .ratio = {NAN, NAN, NAN}};
    r->block_bytes = r->row_bytes * KV_BLOCK * (uint64_t)m->n_layers;
    probe_open(&u->probe);
    bool ok = o->counters_only || prefill(e, o->prompt_tokens, o->seed + 2, r, err);
    ok = ok && run_deep(u, err);
    if (ok) sum_up_series(r);
    if (ok && !o->counters_only && o->n_pairs > 0) ok = run_pairs(u, err);
    engine_job_free(u->deep);
    probe_close(&u->probe);
    free(u);
    return ok;
}
