/* Drives the real engine with the model that cannot lie. Client threads submit, read, dawdle, cancel
 * and let go at random; whatever a job said must be the beginning of what a slow twin says that runs
 * the same request alone, one chunk at a time, and every job must end exactly once.
 *
 * ORIEL_SIM_WORLDS (default 24) engines are built one after the other from ORIEL_SIM_SEED (default 1). Which
 * thread is when where is the system's choice; what is asked of the engine is the seed's.
 */
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "engine/engine.h"

enum {
    N_CLIENTS = 3,
    JOBS_PER_CLIENT = 60,
    AT_ONCE = 6,
    MAX_PROMPT = 240,
    MAX_GENERATED = 60,
    N_VOCAB_MAX = 64,
    N_TEXTS = 4, /* of a world: what its prompts begin with */
};
enum { PATIENCE_MS = 20000 }; /* a wake-up that takes longer is lost */

typedef struct dice {
    uint64_t seed, at;
} dice;
static uint64_t roll(dice *d, uint64_t n) {
    return rng_at(d->seed, d->at++) % n;
}
static bool chance(dice *d, int percent) {
    return (int)roll(d, 100) < percent;
}

static atomic_int n_failures;
static atomic_llong n_jobs_done, n_tokens_checked, n_parked, n_cached, n_rerun;
static atomic_llong n_ended[4]; /* by engine_finish */
#define COMPLAIN(...)                                \
    do {                                             \
        if (atomic_fetch_add(&n_failures, 1) < 20) { \
            fprintf(stderr, "sim: " __VA_ARGS__);    \
            fputc('\n', stderr);                     \
        }                                            \
    } while (0)

/* ── A world: one engine and what it is made of ── */
typedef struct world {
    uint64_t seed;
    char dir[40]; /* of kept rows; empty: none */
    model_fake_config fake;
    engine_config config;
    engine *e;
    bool closes_early;
} world;

static world make_world(uint64_t seed) {
    dice d = {hash_combine(seed, 77), 0};
    world w = {.seed = seed, .config = engine_defaults()};
    w.fake = (model_fake_config){.n_vocab = 8 + (int32_t)roll(&d, N_VOCAB_MAX - 8),
                                 .n_layers = 1 + (int32_t)roll(&d, 3),
                                 .width = chance(&d, 60) ? 1 + (int32_t)roll(&d, 50) : 0,
                                 .end_id = 2,
                                 .end_every = chance(&d, 50) ? 5 + (int32_t)roll(&d, 40) : 0,
                                 .seed = seed,
                                 .step_ns = chance(&d, 25) ? (int64_t)roll(&d, 20000) : 0};
    if (w.fake.end_every == 0) w.fake.end_id = -1;
    engine_config *c = &w.config;
    c->n_threads = 1 + (int)roll(&d, 2);
    c->n_parallel = 1 + (int)roll(&d, 6);
    c->n_queue = chance(&d, 30) ? (int)roll(&d, 4) : 512;
    c->n_events = 4 << roll(&d, 4);
    c->max_chunk = 1 + (int32_t)roll(&d, chance(&d, 50) ? 8 : 90);
    c->step_budget_ms = 1 + (int)roll(&d, 20);
    c->park_after_ms = 1 + (int)roll(&d, 5);
    c->pinned = chance(&d, 50) ? 0 : 32 * (int64_t)roll(&d, 3);
    c->max_kv_size = c->pinned + 32 + (int64_t)roll(&d, 120);
    if (chance(&d, 50)) c->max_pinned = (int64_t)roll(&d, 100);
    if (chance(&d, 30)) c->kv_cache_bytes = 1 << 20;
    c->max_context_tokens = MAX_PROMPT;
    c->kv_type = (kern_kv_type)roll(&d, 4);
    if (chance(&d, 25)) {
        snprintf(w.dir, sizeof w.dir, "/tmp/oriel-sim-XXXXXX");
        if (!mkdtemp(w.dir)) w.dir[0] = 0;
        c->kv_dir_bytes = 100000 << roll(&d, 4);
    }
    w.closes_early = chance(&d, 15);
    return w;
}

/* ── One request ── */
typedef struct ask {
    int32_t prompt[MAX_PROMPT], stop_ids[2];
    sample_bias bias[2];
    engine_request r;
} ask;

static void make_ask(dice *d, const world *w, ask *a) {
    engine_request *r = &a->r;
    *r = (engine_request){.prompt = a->prompt, .stop_ids = a->stop_ids, .score_prompt = -1};
    r->n_prompt = 1 + roll(d, chance(d, 50) ? 12 : MAX_PROMPT);
    /* Most begin like others do: the world's texts part from each other at multiples of 40. */
    uint64_t text = roll(d, N_TEXTS);
    size_t same = chance(d, 70) ? roll(d, r->n_prompt + 1) : 0;
    for (size_t i = 0; i < r->n_prompt; i++)
        a->prompt[i] = i < same ? (int32_t)(rng_at(w->seed, i < 40 * text ? i : i + 1000 * text) %
                                            (uint64_t)w->fake.n_vocab)
                                : (int32_t)roll(d, (uint64_t)w->fake.n_vocab);
    if (chance(d, 40)) r->n_pinned = roll(d, r->n_prompt + 1);
    sample_params *p = &r->sampling;
    *p = sample_defaults();
    p->seed = roll(d, 1000);
    p->temperature = chance(d, 30) ? 0 : 0.5 + (double)roll(d, 100) / 100;
    if (chance(d, 30)) p->top_k = 1 + (int32_t)roll(d, 10);
    if (chance(d, 30)) p->top_p = 0.8;
    if (chance(d, 30)) p->frequency_penalty = 0.5;
    if (chance(d, 30)) p->repetition_penalty = 1.3;
    if (chance(d, 20)) p->n_top = (int32_t)roll(d, 4);
    if (chance(d, 20)) {
        a->bias[0] = (sample_bias){3, -100};
        a->bias[1] = (sample_bias){5, 2};
        p->bias = a->bias, p->n_bias = 2;
    }
    r->max_tokens = chance(d, 8) ? 0 : 1 + (int64_t)roll(d, MAX_GENERATED);
    if (w->fake.end_id >= 0) a->stop_ids[r->n_stop_ids++] = w->fake.end_id;
    if (chance(d, 20)) a->stop_ids[r->n_stop_ids++] = 4;
    if (chance(d, 25)) r->score_prompt = (int32_t)roll(d, 3);
    if (chance(d, 12)) r->deadline_ns = clock_ns() + (int64_t)roll(d, 3000000);
    if (chance(d, 25)) {
        int64_t least = w->config.pinned + 32;
        r->max_kv_size = least + (int64_t)roll(d, (uint64_t)(w->config.max_kv_size - least + 1));
    }
}

/* ── The twin ── */
typedef struct said {
    int64_t n_scored, n_generated;
    sample_result scored[MAX_PROMPT], generated[MAX_GENERATED];
} said;

static bool is_same(const sample_result *a, const sample_result *b) {
    bool same = a->id == b->id && a->logprob == b->logprob && a->n_top == b->n_top;
    for (int i = 0; same && i < a->n_top; i++)
        same = a->top[i].id == b->top[i].id && a->top[i].logprob == b->top[i].logprob;
    return same;
}

/* p as the engine's header has it. */
static int64_t expected_pins(const world *w, const engine_request *r, int64_t rows) {
    int64_t always = w->config.pinned, cap = w->config.max_pinned;
    if (r->n_pinned == 0) return always;
    if (cap < 0) cap = always;
    int64_t p = ((int64_t)r->n_pinned + 31) / 32 * 32, half = rows / 2 / 32 * 32;
    if (p > cap / 32 * 32) p = cap / 32 * 32;
    if (p > half) p = half;
    return p < always && cap > always ? always : p;
}

/* Compares what a job said with what the request leads to when run alone. */
static void check_said(const world *w, const ask *a, const said *s, bool is_whole,
                       engine_finish how) {
    const engine_request *r = &a->r;
    error err = {0};
    model *m = model_new_fake(&(model_fake_config){.n_vocab = w->fake.n_vocab,
                                                   .n_layers = w->fake.n_layers,
                                                   .width = w->fake.width,
                                                   .end_id = w->fake.end_id,
                                                   .end_every = w->fake.end_every,
                                                   .seed = w->fake.seed},
                              &err);
    const model_info *info = model_get_info(m);
    const int32_t chunk = 7;
    model_limits limits = {chunk, chunk};
    model_ctx *ctx = model_ctx_new(m, limits, NULL, &err);
    kv_config kc = {
        .shape = {info->n_layers, info->n_kv_heads, info->head_dim, info->layer_width, KERN_KV_F32},
        .n_seqs = 1,
        .max_rows = w->config.max_kv_size,
        .max_chunk = chunk};
    kv *k = kv_new(&kc, &err);
    int64_t rows = r->max_kv_size ? r->max_kv_size : w->config.max_kv_size;
    int64_t p = expected_pins(w, r, rows);
    kv_seq *seq = kv_seq_new(k, (kv_window){p, rows - p}, &err);
    sampler *smp = sampler_new(&r->sampling, w->fake.n_vocab, &err);
    if (!m || !ctx || !k || !seq || !smp) COMPLAIN("the twin cannot be built: %s", err.message);
    sampler_note_prompt(smp, r->prompt, r->n_prompt);
    float *last = NULL;
    for (size_t at = 0;
         at < r->n_prompt && (s->n_generated > 0 || (int64_t)at < s->n_scored + 1);) {
        int32_t n = r->n_prompt - at < (size_t)chunk ? (int32_t)(r->n_prompt - at) : chunk;
        model_span sp = {.seq = seq, .ids = r->prompt + at, .n = n, .n_logits = n};
        if (!kv_seq_reserve(seq, n)) COMPLAIN("the twin has no blocks");
        model_forward(ctx, &sp, 1, NULL);
        kv_seq_commit(seq, n);
        for (int32_t i = 0; i < n && r->score_prompt >= 0; i++) {
            size_t index = at + (size_t)i + 1;
            if (index >= r->n_prompt || (int64_t)index > s->n_scored) continue;
            sample_result want;
            sample_score(sp.logits + i * w->fake.n_vocab, w->fake.n_vocab, r->prompt[index],
                         r->score_prompt, &want);
            if (!is_same(&want, &s->scored[index]))
                COMPLAIN("world %llu: score of prompt token %zu differs",
                         (unsigned long long)w->seed, index);
        }
        last = sp.logits + (n - 1) * w->fake.n_vocab;
        at += (size_t)n;
    }
    engine_finish want_how = ENGINE_LENGTH;
    for (int64_t i = 0; i < s->n_generated; i++) {
        sample_result want;
        sampler_next(smp, last, (uint64_t)i, &want);
        atomic_fetch_add(&n_tokens_checked, 1);
        if (!is_same(&want, &s->generated[i])) {
            COMPLAIN("world %llu: token %lld of a prompt of %zu is %d, the twin says %d",
                     (unsigned long long)w->seed, (long long)i, r->n_prompt, s->generated[i].id,
                     want.id);
            break;
        }
        bool stops = false;
        for (size_t q = 0; q < r->n_stop_ids; q++) stops |= r->stop_ids[q] == want.id;
        if (stops) {
            want_how = ENGINE_STOP;
            if (i + 1 != s->n_generated) COMPLAIN("a job went on after a stop id");
        }
        model_span sp = {.seq = seq, .ids = &want.id, .n = 1, .n_logits = 1};
        if (!kv_seq_reserve(seq, 1)) COMPLAIN("the twin has no blocks");
        model_forward(ctx, &sp, 1, NULL);
        kv_seq_commit(seq, 1);
        last = sp.logits;
    }
    if (is_whole && how != want_how) COMPLAIN("finish is %d, the twin says %d", how, want_how);
    if (is_whole && how == ENGINE_LENGTH && s->n_generated != r->max_tokens)
        COMPLAIN("a job ended too early");
    if (is_whole && r->score_prompt >= 0 && s->n_scored != (int64_t)r->n_prompt - 1)
        COMPLAIN("scores are missing");
    sampler_free(smp);
    kv_seq_free(seq);
    kv_free(k);
    model_ctx_free(ctx);
    model_free(m);
}

/* ── A client ── */
typedef struct mine {
    engine_job *job; /* NULL: free place */
    ask a;
    said s;
    bool ended, cancelled;
    bool waited;     /* engine_wait polls by itself, uncounted */
    int64_t n_false; /* polls that found nothing */
    atomic_llong n_wakes;
    atomic_bool is_freed;
    pthread_mutex_t lock;
    pthread_cond_t woken;
    int64_t n_woken; /* under lock */
} mine;

typedef struct client {
    world *w;
    uint64_t seed;
    int n_left;
    mine jobs[AT_ONCE];
} client;

static void wake(void *ctx) {
    mine *m = ctx;
    if (atomic_load(&m->is_freed)) COMPLAIN("wake() after engine_job_free returned");
    atomic_fetch_add(&m->n_wakes, 1);
    pthread_mutex_lock(&m->lock);
    m->n_woken++;
    pthread_cond_signal(&m->woken);
    pthread_mutex_unlock(&m->lock);
    if (atomic_load(&m->is_freed)) COMPLAIN("engine_job_free returned during wake()");
}

static void take(client *c, mine *m, const engine_event *ev) {
    (void)c;
    said *s = &m->s;
    if (m->ended) COMPLAIN("an event after the end");
    switch (ev->kind) {
    case ENGINE_PROMPT:
        if (m->a.r.score_prompt < 0 || ev->index != s->n_scored + 1 || ev->index >= MAX_PROMPT ||
            s->n_generated)
            COMPLAIN("prompt event %lld out of order", (long long)ev->index);
        else
            s->scored[++s->n_scored] = ev->token;
        break;
    case ENGINE_TOKEN:
        if (ev->index != s->n_generated || ev->index >= MAX_GENERATED)
            COMPLAIN("token %lld out of order", (long long)ev->index);
        else
            s->generated[s->n_generated++] = ev->token;
        break;
    case ENGINE_END:
        m->ended = true;
        atomic_fetch_add(&n_ended[ev->finish], 1);
        if (ev->usage.n_generated != s->n_generated)
            COMPLAIN("usage says %lld tokens", (long long)ev->usage.n_generated);
        if (ev->usage.n_prompt != (int64_t)m->a.r.n_prompt) COMPLAIN("usage has another prompt");
        if (ev->usage.n_cached < 0 || ev->usage.n_cached >= ev->usage.n_prompt)
            COMPLAIN("%lld of %lld prompt tokens cached", (long long)ev->usage.n_cached,
                     (long long)ev->usage.n_prompt);
        if (ev->finish == ENGINE_FAILED && (ev->err.code != ERR_DEADLINE || !m->a.r.deadline_ns))
            COMPLAIN("failed: %s", ev->err.message);
        if (ev->finish == ENGINE_CANCELLED && !m->cancelled && !c->w->closes_early)
            COMPLAIN("cancelled by nobody");
        check_said(c->w, &m->a, s, ev->finish == ENGINE_STOP || ev->finish == ENGINE_LENGTH,
                   ev->finish);
        break;
    }
}

static bool poll_once(client *c, mine *m) {
    engine_event ev;
    if (!engine_poll(m->job, &ev)) {
        m->n_false++;
        return false;
    }
    take(c, m, &ev);
    return true;
}

static void let_go(mine *m) {
    engine_job_free(m->job);
    atomic_store(&m->is_freed, true);
    if (!m->waited && atomic_load(&m->n_wakes) > m->n_false)
        COMPLAIN("more wake-ups than polls that found nothing");
    m->job = NULL;
    atomic_fetch_add(&n_jobs_done, 1);
}

/* Waits for a wake-up after a poll that found nothing. */
static void await_wake(mine *m) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    pthread_mutex_lock(&m->lock);
    while (m->n_woken == 0)
        if (pthread_cond_timedwait(&m->woken, &m->lock, &until) != 0) {
            COMPLAIN("a wake-up was lost");
            break;
        }
    m->n_woken = 0;
    pthread_mutex_unlock(&m->lock);
}

static void submit(client *c, dice *d, mine *m) {
    make_ask(d, c->w, &m->a);
    bool has_wake = chance(d, 80);
    m->a.r.wake = has_wake ? wake : NULL;
    m->a.r.wake_ctx = m;
    m->s.n_scored = m->s.n_generated = 0;
    m->ended = m->cancelled = m->waited = false;
    m->n_false = m->n_woken = 0;
    atomic_store(&m->n_wakes, 0);
    atomic_store(&m->is_freed, false);
    error err = {0};
    m->job = engine_submit(c->w->e, &m->a.r, &err);
    if (m->job)
        c->n_left--;
    else if (err.code != ERR_RATE_LIMIT && !(c->w->closes_early && err.code == ERR_OVERLOADED))
        COMPLAIN("submit: %s", err.message);
    else
        nanosleep(&(struct timespec){0, 200000}, NULL);
}

static void read_some(client *c, dice *d, mine *m) {
    engine_event ev;
    switch (roll(d, m->a.r.wake ? 4 : 5) + (m->a.r.wake && chance(d, 10))) {
    case 0: poll_once(c, m); break;
    case 1:
        while (!m->ended && poll_once(c, m)) {
        }
        break;
    case 2:
        m->waited = true;
        if (!m->ended && engine_wait(m->job, &ev, (int)roll(d, 3))) take(c, m, &ev);
        break;
    case 3: /* to the end, sleeping between wake-ups */
        while (!m->ended)
            if (!poll_once(c, m)) {
                if (!m->a.r.wake) break;
                await_wake(m);
            }
        break;
    default: /* to the end, blocking */
        m->waited = true;
        while (!m->ended) {
            if (!engine_wait(m->job, &ev, PATIENCE_MS)) {
                COMPLAIN("engine_wait was not woken");
                break;
            }
            take(c, m, &ev);
        }
        if (engine_wait(m->job, &ev, -1) || engine_poll(m->job, &ev))
            COMPLAIN("an event after the end");
    }
}

static void *client_main(void *ctx) {
    client *c = ctx;
    dice d = {c->seed, 0};
    for (int i = 0; i < AT_ONCE; i++) {
        pthread_mutex_init(&c->jobs[i].lock, NULL);
        pthread_cond_init(&c->jobs[i].woken, NULL);
    }
    bool any = true;
    while (any) {
        any = c->n_left > 0;
        for (int i = 0; i < AT_ONCE; i++) {
            mine *m = &c->jobs[i];
            if (!m->job) {
                if (c->n_left > 0 && chance(&d, 40)) submit(c, &d, m);
                continue;
            }
            any = true;
            if (chance(&d, 3)) {
                engine_cancel(m->job);
                m->cancelled = true;
            }
            if (chance(&d, 60)) read_some(c, &d, m); /* the others read slowly */
            if (m->ended ? chance(&d, 70) : chance(&d, 2)) let_go(m);
        }
        if (chance(&d, 20)) nanosleep(&(struct timespec){0, (long)roll(&d, 300000)}, NULL);
    }
    for (int i = 0; i < AT_ONCE; i++) {
        pthread_mutex_destroy(&c->jobs[i].lock);
        pthread_cond_destroy(&c->jobs[i].woken);
    }
    return NULL;
}

static void remove_dir(const char *dir) {
    char command[80];
    snprintf(command, sizeof command, "rm -r %s", dir);
    if (*dir && system(command) != 0) COMPLAIN("%s cannot be removed", dir);
}

static void run_engine(world *of, uint64_t seed) {
    world w = *of;
    if (*w.dir) w.config.kv_dir = of->dir;
    error err = {0};
    model *m = model_new_fake(&w.fake, &err);
    if (m) w.e = engine_open_model(m, NULL, &w.config, &err);
    if (!w.e) {
        COMPLAIN("world %llu: %s", (unsigned long long)seed, err.message);
        return;
    }
    client *clients = calloc(N_CLIENTS, sizeof *clients);
    pthread_t threads[N_CLIENTS];
    for (int i = 0; i < N_CLIENTS; i++) {
        clients[i] =
            (client){.w = &w, .seed = hash_combine(seed, (uint64_t)i), .n_left = JOBS_PER_CLIENT};
        pthread_create(&threads[i], NULL, client_main, &clients[i]);
    }
    for (int i = 0; i < N_CLIENTS; i++) pthread_join(threads[i], NULL);
    /* Jobs that were let go of while running end within a step of their own. */
    engine_stats s = {0};
    for (int64_t until = clock_ns() + (int64_t)PATIENCE_MS * 1000000; clock_ns() < until;) {
        s = engine_get_stats(w.e);
        if (s.n_running == 0 && s.n_waiting == 0 && s.kv_blocks_used == 0) break;
        nanosleep(&(struct timespec){0, 100000}, NULL);
    }
    if (s.n_running || s.n_waiting) COMPLAIN("world %llu: jobs are left", (unsigned long long)seed);
    if (s.kv_blocks_used)
        COMPLAIN("world %llu: %lld blocks leaked", (unsigned long long)seed,
                 (long long)s.kv_blocks_used);
    if (s.n_jobs != N_CLIENTS * JOBS_PER_CLIENT)
        COMPLAIN("the engine counted %llu jobs", (unsigned long long)s.n_jobs);
    atomic_fetch_add(&n_parked, (long long)s.n_parked);
    atomic_fetch_add(&n_cached, (long long)s.n_cached_tokens);
    atomic_fetch_add(&n_rerun, (long long)s.n_rerun_tokens);
    engine_close(w.e);
    free(clients);
}

/* Where rows are kept on disk the same world runs twice. */
static void run_world(uint64_t seed) {
    world w = make_world(seed);
    for (int i = 0; i < (*w.dir ? 2 : 1); i++) run_engine(&w, seed);
    remove_dir(w.dir);
}

static uint64_t env_number(const char *name, uint64_t otherwise) {
    const char *v = getenv(name);
    return v && *v ? strtoull(v, NULL, 10) : otherwise;
}

static void test_worlds(void **state) {
    (void)state;
    uint64_t n = env_number("ORIEL_SIM_WORLDS", 24), first = env_number("ORIEL_SIM_SEED", 1);
    for (uint64_t seed = first; seed < first + n && atomic_load(&n_failures) == 0; seed++)
        run_world(seed);
    printf(
        "# %lld jobs, %lld tokens checked; ended: %lld stop, %lld length, %lld cancelled, %lld late; %lld "
        "parked; %lld prompt tokens cached, %lld run again\n",
        (long long)n_jobs_done, (long long)n_tokens_checked, (long long)n_ended[ENGINE_STOP],
        (long long)n_ended[ENGINE_LENGTH], (long long)n_ended[ENGINE_CANCELLED],
        (long long)n_ended[ENGINE_FAILED], (long long)n_parked, (long long)n_cached,
        (long long)n_rerun);
    assert_int_equal(n_failures, 0);
    assert_true(n_tokens_checked > 0);
    if (n >= 8) assert_true(n_parked > 0 && n_cached > 0 && n_rerun > 0);
    for (int i = 0; i < 4 && n >= 8; i++)
        assert_true(n_ended[i] > 0); /* the seeds reach every way to end */
}

/* Closing with jobs in every state ends each of them; what they said until then is right. */
static void test_closing(void **state) {
    (void)state;
    for (uint64_t seed = 500; seed < 530; seed++) {
        world w = make_world(seed);
        w.closes_early = true;
        w.config.n_queue = 512;
        if (*w.dir) w.config.kv_dir = w.dir;
        error err = {0};
        w.e = engine_open_model(model_new_fake(&w.fake, &err), NULL, &w.config, &err);
        assert_non_null(w.e);
        enum { N = 20 };
        static client c;
        static mine jobs[N];
        dice d = {seed, 0};
        c.w = &w;
        for (int i = 0; i < N; i++) {
            memset(&jobs[i], 0, sizeof jobs[i]);
            make_ask(&d, &w, &jobs[i].a);
            jobs[i].job = engine_submit(w.e, &jobs[i].a.r, &err);
            assert_non_null(jobs[i].job);
        }
        nanosleep(&(struct timespec){0, (long)roll(&d, 2000000)}, NULL);
        engine_close(w.e);
        for (int i = 0; i < N; i++) {
            if (i % 3)
                while (poll_once(&c, &jobs[i])) {
                }
            assert_int_equal(jobs[i].ended, i % 3 != 0);
            engine_cancel(jobs[i].job);
            engine_job_free(jobs[i].job);
        }
        remove_dir(w.dir);
    }
    assert_int_equal(n_failures, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_worlds),
                                       cmocka_unit_test(test_closing)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
