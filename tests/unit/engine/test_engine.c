/* The engine's promises one by one: refusals, the full queue, cancelling within one step, deadlines, parking,
 * nothing to generate, plans, and real models through it. The simulator (tests/sim) does the mixing. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "engine/guard.h"
#include "engine/impl.h"
#include "model_run.h"

enum { PATIENCE_MS = 30000 };

static model_fake_config fake_config(void) {
    return (model_fake_config){.n_vocab = 50, .n_layers = 2, .width = 40, .end_id = -1, .seed = 3};
}
static engine_config small_config(void) {
    engine_config c = engine_defaults();
    c.n_threads = 1;
    c.n_parallel = 2;
    c.max_kv_size = 128;
    c.max_context_tokens = 2000;
    c.pinned = 0;
    c.max_chunk = 64;
    c.n_events = 16;
    return c;
}
static engine *open_fake(const model_fake_config *f, const engine_config *c) {
    error err = {0};
    engine *e = engine_open_model(model_new_fake(f, &err), NULL, c, &err);
    if (!e) fail_msg("%s", err.message);
    return e;
}

static const int32_t short_prompt[] = {1, 2, 3};
static engine_request make_request(int64_t max_tokens) {
    return (engine_request){.prompt = short_prompt,
                            .n_prompt = 3,
                            .sampling = sample_defaults(),
                            .max_tokens = max_tokens,
                            .score_prompt = -1};
}

/* Reads to the end. Returns the number of tokens; *end gets the last event. */
static int64_t read_all(engine_job *j, engine_event *end) {
    int64_t n = 0;
    for (;;) {
        if (!engine_wait(j, end, PATIENCE_MS)) fail_msg("the job does not end");
        if (end->kind == ENGINE_END) return n;
        n += end->kind == ENGINE_TOKEN;
    }
}
/* Until cond over stats holds. */
#define AWAIT(e, cond)                                                     \
    for (int64_t until_ = clock_ns() + (int64_t)PATIENCE_MS * 1000000;;) { \
        engine_stats s = engine_get_stats(e);                              \
        if (cond) break;                                                   \
        if (clock_ns() > until_) fail_msg("waited in vain for " #cond);    \
        nanosleep(&(struct timespec){0, 100000}, NULL);                    \
    }

static void test_refusals(void **state) {
    (void)state;
    model_fake_config f = fake_config();
    engine_config c = small_config();
    c.pinned = 32;
    engine *e = open_fake(&f, &c);
    int32_t bad[] = {1, 50}, negative[] = {-1};
    static int32_t longest[2001];
    static const struct {
        error_code code;
        const char *param;
    } want[] = {{ERR_INVALID_VALUE, "prompt"},         {ERR_INVALID_VALUE, "prompt"},
                {ERR_INVALID_VALUE, "prompt"},         {ERR_CONTEXT_LENGTH, "messages"},
                {ERR_INT_BELOW_MIN, "max_tokens"},     {ERR_INT_ABOVE_MAX, "max_kv_size"},
                {ERR_INT_BELOW_MIN, "max_kv_size"},    {ERR_INT_ABOVE_MAX, "logprobs"},
                {ERR_DECIMAL_ABOVE_MAX, "temperature"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        engine_request r = make_request(4);
        switch (i) {
        case 0: r.n_prompt = 0; break;
        case 1: r.prompt = bad, r.n_prompt = 2; break;
        case 2: r.prompt = negative, r.n_prompt = 1; break;
        case 3: r.prompt = longest, r.n_prompt = 2001; break;
        case 4: r.max_tokens = -2; break;
        case 5: r.max_kv_size = 129; break;
        case 6: r.max_kv_size = 63; break;
        case 7: r.score_prompt = 21; break;
        default: r.sampling.temperature = 3;
        }
        error err = {0};
        assert_null(engine_submit(e, &r, &err));
        assert_int_equal(err.code, want[i].code);
        assert_string_equal(err.param, want[i].param);
    }
    assert_int_equal(engine_get_stats(e).n_jobs, 0);
    engine_request r = make_request(1);
    r.prompt = longest, r.n_prompt = 2000; /* longer than the window: streams through it */
    engine_event end;
    engine_job *j = engine_submit(e, &r, NULL);
    assert_int_equal(read_all(j, &end), 1);
    assert_int_equal(end.usage.kv_rows, 128);
    engine_job_free(j);
    engine_close(e);
    engine_close(NULL);
    engine_job_free(NULL);
}

static void test_wrong_configurations(void **state) {
    (void)state;
    for (int i = 0; i < 8; i++) {
        model_fake_config f = fake_config();
        engine_config c = small_config();
        switch (i) {
        case 0: c.n_parallel = -1; break;
        case 1: c.max_chunk = -5; break;
        case 2: c.max_kv_size = 31; break;
        case 3: c.pinned = 128; break;
        case 4: c.n_queue = -1; break;
        case 5: c.max_kv_size = INT64_MAX; break;
        case 6: c.n_threads = -3; break;
        default: c.max_kv_size = (int64_t)1 << 34; /* more than any machine has */
        }
        error err = {0};
        assert_null(engine_open_model(model_new_fake(&f, NULL), NULL, &c, &err));
        assert_int_not_equal(err.code, ERR_NONE);
        if (i == 2) assert_null(strstr(err.message, "pinned"));
        if (i == 3) assert_non_null(strstr(err.message, "128 rows are pinned"));
        if (i == 7) {
            assert_int_equal(err.code, ERR_NO_MEMORY);
            assert_non_null(strstr(err.message, "are missing"));
        }
    }
}

static void test_queue_full(void **state) {
    (void)state;
    model_fake_config f = fake_config();
    engine_config c = small_config();
    c.n_parallel = 1, c.n_queue = 1;
    engine *e = open_fake(&f, &c);
    engine_request forever = make_request(-1), brief = make_request(3);
    error err = {0};
    engine_job *a = engine_submit(e, &forever, &err), *b = engine_submit(e, &brief, &err);
    assert_non_null(a);
    assert_non_null(b);
    assert_null(engine_submit(e, &brief, &err));
    assert_int_equal(err.code, ERR_RATE_LIMIT);
    assert_int_equal(engine_get_stats(e).n_rejected, 1);
    engine_cancel(a);
    engine_event end;
    read_all(a, &end);
    assert_int_equal(end.finish, ENGINE_CANCELLED);
    engine_job *d = engine_submit(e, &brief, NULL); /* an END that was read means a free place */
    assert_non_null(d);
    assert_int_equal(read_all(b, &end), 3);
    assert_int_equal(read_all(d, &end), 3);
    engine_job_free(a);
    engine_job_free(b);
    engine_job_free(d);
    engine_close(e);
}

/* Counted, not timed: after engine_cancel returned at most the step in flight is finished. */
static void test_cancel_within_one_step(void **state) {
    (void)state;
    for (int round = 0; round < 30; round++) {
        model_fake_config f = fake_config();
        engine_config c = small_config();
        c.n_parallel = 1;
        c.n_events = 1024;
        engine *e = open_fake(&f, &c);
        engine_request forever = make_request(-1);
        engine_job *j = engine_submit(e, &forever, NULL);
        AWAIT(e, s.n_generated_tokens >= (uint64_t)round);
        engine_cancel(j);
        uint64_t steps = engine_get_stats(e).n_steps;
        engine_event end;
        read_all(j, &end);
        assert_int_equal(end.finish, ENGINE_CANCELLED);
        engine_stats s = engine_get_stats(e);
        assert_true(s.n_steps <= steps + 1);
        assert_int_equal(s.kv_blocks_used, 0);
        engine_job_free(j);
        engine_close(e);
    }
}

/* A forward pass that works for nobody any more stops between layers. */
static void test_cancel_inside_forward(void **state) {
    (void)state;
    model_fake_config f = fake_config();
    f.n_layers = 50;
    f.step_ns = 30000000; /* a pass of 32 rows takes a second, a layer of it 20 ms */
    engine_config c = small_config();
    engine *e = open_fake(&f, &c);
    engine_request r = make_request(5);
    static const int32_t many[64] = {1};
    r.prompt = many, r.n_prompt = 64;
    engine_job *a = engine_submit(e, &r, NULL), *b = engine_submit(e, &r, NULL);
    AWAIT(e, s.n_running == 2);
    uint64_t steps = engine_get_stats(e).n_steps;     /* a may have had one alone */
    nanosleep(&(struct timespec){0, 30000000}, NULL); /* now inside a pass of both */
    engine_cancel(a);
    nanosleep(&(struct timespec){0, 30000000}, NULL);
    assert_int_equal(engine_get_stats(e).n_stopped_steps, 0); /* b still wants it */
    engine_cancel(b);
    engine_event end;
    read_all(a, &end);
    read_all(b, &end);
    assert_true(engine_get_stats(e).n_stopped_steps >= 1);
    assert_int_equal(engine_get_stats(e).n_steps, steps);
    engine_job_free(a);
    engine_job_free(b);
    engine_close(e);
}

static void test_deadlines(void **state) {
    (void)state;
    model_fake_config f = fake_config();
    engine_config c = small_config();
    c.n_parallel = 1;
    engine *e = open_fake(&f, &c);
    engine_request late = make_request(-1);
    late.deadline_ns = clock_ns() + 20000000;
    /* The first sleeps in front of a full ring, the second waits for its place: both still end. */
    engine_job *a = engine_submit(e, &late, NULL), *b = engine_submit(e, &late, NULL);
    AWAIT(e, s.n_failed == 2);
    engine_event end;
    for (int i = 0; i < 2; i++) {
        read_all(i ? b : a, &end);
        assert_int_equal(end.finish, ENGINE_FAILED);
        assert_int_equal(end.err.code, ERR_DEADLINE);
    }
    engine_job_free(a);
    engine_job_free(b);
    engine_close(e);
}

/* More readers that read nothing than places: the others still get theirs. */
static void test_unread_jobs_give_way(void **state) {
    (void)state;
    model_fake_config f = fake_config();
    engine_config c = small_config();
    c.park_after_ms = 5;
    engine *e = open_fake(&f, &c);
    engine_request long_one = make_request(300), brief = make_request(10);
    enum { UNREAD = 5 };
    engine_job *unread[UNREAD], *j;
    for (int i = 0; i < UNREAD; i++) unread[i] = engine_submit(e, &long_one, NULL);
    engine_event end;
    for (int i = 0; i < 10; i++) {
        j = engine_submit(e, &brief, NULL);
        assert_int_equal(read_all(j, &end), 10);
        engine_job_free(j);
    }
    assert_true(engine_get_stats(e).n_parked > 0);
    for (int i = 0; i < UNREAD; i++) { /* and they go on when somebody reads them after all */
        assert_int_equal(read_all(unread[i], &end), 300);
        assert_int_equal(end.finish, ENGINE_LENGTH);
        engine_job_free(unread[i]);
    }
    engine_close(e);
}

static void test_nothing_to_generate(void **state) {
    (void)state;
    model_fake_config f = fake_config();
    engine_config c = small_config();
    engine *e = open_fake(&f, &c);
    engine_request r = make_request(0);
    engine_event ev;
    engine_job *j = engine_submit(e, &r, NULL);
    assert_int_equal(read_all(j, &ev), 0);
    assert_int_equal(ev.finish, ENGINE_LENGTH);
    assert_int_equal(ev.usage.n_prompt, 3);
    engine_job_free(j);
    r.score_prompt = 2;
    j = engine_submit(e, &r, NULL);
    for (int64_t i = 1; i <= 2; i++) {
        assert_true(engine_wait(j, &ev, PATIENCE_MS));
        assert_int_equal(ev.kind, ENGINE_PROMPT);
        assert_int_equal(ev.index, i);
        assert_int_equal(ev.token.id, short_prompt[i]);
        assert_int_equal(ev.token.n_top, 2);
    }
    assert_true(engine_wait(j, &ev, PATIENCE_MS));
    assert_int_equal(ev.kind, ENGINE_END);
    assert_false(engine_wait(j, &ev, -1)); /* after the end it does not block */
    engine_job_free(j);
    engine_close(e);
}

/* ── Reuse ── */

/* Whoever comes after finds the rows of a shared prompt; those who come at once end up with one copy. */
static void test_agents_share_one_system_prompt(void **state) {
    (void)state;
    enum { N = 8, SYSTEM = 320, ALL = SYSTEM + 20 };
    model_fake_config f = fake_config();
    f.width = 0;
    engine_config c = small_config();
    c.n_parallel = N, c.max_kv_size = 1024, c.park_after_ms = 100000;
    for (int is_warm = 0; is_warm < 2; is_warm++) {
        engine *e = open_fake(&f, &c);
        static int32_t prompts[N][ALL];
        for (int i = 0; i < N; i++)
            for (int t = 0; t < ALL; t++) prompts[i][t] = t < SYSTEM ? t * 7 % 50 : (i + t) % 50;
        engine_request r = make_request(-1);
        r.n_prompt = ALL, r.n_pinned = SYSTEM;
        engine_event ev;
        if (is_warm) {
            r.prompt = prompts[0], r.max_tokens = 1;
            engine_job *j = engine_submit(e, &r, NULL);
            assert_int_equal(read_all(j, &ev), 1);
            assert_int_equal(ev.usage.n_cached, 0);
            engine_job_free(j);
            r.max_tokens = -1;
        }
        engine_job *jobs[N];
        for (int i = 0; i < N; i++) {
            r.prompt = prompts[i];
            assert_non_null(jobs[i] = engine_submit(e, &r, NULL));
        }
        /* All their rings are full. */
        AWAIT(e, s.n_generated_tokens == (uint64_t)N * 16 + (uint64_t)is_warm);
        engine_stats now = engine_get_stats(e);
        /* Ten blocks once; then 20 tokens and 15 of the answer are two blocks of each job's own. */
        assert_int_equal(now.kv_blocks_used, SYSTEM / KV_BLOCK + 2 * N);
        /* And computed once: whoever came at the same time has waited for the first. */
        assert_true(now.n_cached_tokens >= (N - !is_warm) * (SYSTEM - 2 * KV_BLOCK));
        for (int i = 0; i < N; i++) engine_job_free(jobs[i]);
        AWAIT(e, s.kv_blocks_used == 0 && s.kv_blocks_cached > 0);
        engine_close(e);
    }
}

/* The same answer from a cold engine and from one that has had the conversation before; what was not run
 * is told. */
static void test_usage_tells_what_was_cached(void **state) {
    (void)state;
    model_fake_config f = fake_config();
    engine_config c = small_config();
    c.max_kv_size = 512;
    engine *e = open_fake(&f, &c), *cold = open_fake(&f, &c);
    int32_t prompt[300], again[2][8];
    for (int i = 0; i < 300; i++) prompt[i] = i * 11 % 50;
    engine_request r = make_request(8);
    r.prompt = prompt;
    r.sampling.temperature = 0;
    engine_event ev;
    r.n_prompt = 200;
    engine_job *j = engine_submit(e, &r, NULL);
    read_all(j, &ev);
    assert_int_equal(ev.usage.n_cached, 0);
    engine_job_free(j);
    r.n_prompt = 300;
    engine *both[] = {e, cold};
    for (int i = 0; i < 2; i++) {
        j = engine_submit(both[i], &r, NULL);
        for (int t = 0; t < 8; t++) {
            assert_true(engine_wait(j, &ev, PATIENCE_MS));
            again[i][t] = ev.token.id;
        }
        assert_true(engine_wait(j, &ev, PATIENCE_MS));
        assert_int_equal(ev.kind, ENGINE_END);
        assert_int_equal(ev.usage.n_cached, i == 0 ? 200 : 0);
        engine_job_free(j);
    }
    assert_memory_equal(again[0], again[1], sizeof again[0]);
    engine_stats s = engine_get_stats(e);
    assert_int_equal(s.n_cached_tokens, 200);
    engine_close(e);
    engine_close(cold);
}

/* With a directory the next engine goes on where this one stopped: to the same text. */
static void test_rows_survive_a_restart(void **state) {
    (void)state;
    char dir[] = "/tmp/oriel-engine-XXXXXX", command[64];
    assert_non_null(mkdtemp(dir));
    model_fake_config f = fake_config();
    engine_config c = small_config();
    c.max_kv_size = 512;
    int32_t prompt[400], said[3][20];
    for (int i = 0; i < 400; i++) prompt[i] = i * 13 % 50;
    engine_request r = make_request(20);
    r.prompt = prompt;
    r.sampling.temperature = 0;
    for (int run = 0; run < 3; run++) { /* cold, then with a directory twice */
        c.kv_dir = run ? dir : NULL;
        engine *e = open_fake(&f, &c);
        engine_event ev;
        for (int part = run == 1 ? 0 : 1; part < 2; part++) {
            r.n_prompt = part ? 400 : 300;
            engine_job *j = engine_submit(e, &r, NULL);
            for (int t = 0; t < 20; t++) {
                assert_true(engine_wait(j, &ev, PATIENCE_MS));
                if (part) said[run][t] = ev.token.id;
            }
            assert_true(engine_wait(j, &ev, PATIENCE_MS));
            assert_int_equal(ev.kind, ENGINE_END);
            if (part) assert_in_range(ev.usage.n_cached, run == 2 ? 384 : run ? 288 : 0, 399);
            engine_job_free(j);
        }
        engine_close(e);
        if (run) assert_memory_equal(said[run], said[0], sizeof said[0]);
    }
    snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

static void test_plan_shrinks_what_nobody_asked_for(void **state) {
    (void)state;
    model_fake_config f = fake_config(); /* trained for 2^20 tokens */
    f.n_layers = 400;                    /* 100 KB a row and sequence: more than any machine has */
    model *m = model_new_fake(&f, NULL);
    engine_config c = small_config();
    c.n_parallel = 64;
    c.kv_type = KERN_KV_F32;
    c.max_context_tokens = c.max_kv_size = 0;
    error err = {0};
    engine_plan p;
    engine_config settled = c;
    assert_true(engine_settle(&settled, model_get_info(m), &(engine_needs){0}, &p, &err));
    assert_true(p.kv_rows < 1 << 20 && p.kv_rows >= 1024);
    assert_true(p.fits || p.kv_rows == 1024);
    assert_int_equal(settled.max_kv_size, p.kv_rows);
    assert_int_equal(settled.max_context_tokens, p.kv_rows); /* no prompt is cut silently */
    assert_true(p.total == p.weights + p.kv + p.scratch + p.sampling + p.fixed);
    /* Asked for, it is not changed but refused. */
    settled = c;
    settled.max_context_tokens = 1 << 20;
    assert_true(engine_settle(&settled, model_get_info(m), &(engine_needs){0}, &p, &err));
    assert_int_equal(p.kv_rows, 1 << 20);
    assert_false(p.fits);
    model_free(m);
}

static void test_what_cannot_hold_is_refused_by_the_plan(void **state) {
    (void)state;
    model_fake_config f = fake_config();
    model *m = model_new_fake(&f, NULL);
    engine_config c = small_config();
    c.max_kv_size = 0;
    c.max_context_tokens = 100;
    for (int64_t pinned = 32; pinned <= 128; pinned += 32) {
        error err = {0};
        engine_plan p;
        engine_config settled = c;
        settled.pinned = pinned;
        bool ok = engine_settle(&settled, model_get_info(m), &(engine_needs){0}, &p, &err);
        assert_true(ok == (pinned <= 64));
        if (ok) assert_int_equal(p.kv_rows, 100);
        if (!ok) assert_string_equal(err.param, "pinned");
        if (!ok) assert_non_null(strstr(err.message, "--pinned to 64 at most"));
    }
    error tight = {0};
    engine_plan small;
    engine_config kept = c;
    kept.kv_dir = "/tmp/oriel-never-made",
    kept.kv_dir_bytes = 1000; /* said before anything is loaded */
    assert_false(engine_settle(&kept, model_get_info(m), &(engine_needs){0}, &small, &tight));
    assert_string_equal(tight.param, "kv-dir-size");
    c.max_context_tokens = 20; /* short, but nobody pins anything: the window is a block */
    engine_plan p;
    assert_true(engine_settle(&c, model_get_info(m), &(engine_needs){0}, &p, NULL));
    assert_int_equal(p.kv_rows, 32);
    model_free(m);
}

/* ── Real models ── */

static void generate(engine *e, const int32_t *ids, size_t n, int64_t max_tokens, int32_t *out) {
    engine_request r = make_request(max_tokens);
    r.prompt = ids, r.n_prompt = n;
    r.sampling.temperature = 0;
    r.ignore_end = true;
    error err = {0};
    engine_job *j = engine_submit(e, &r, &err);
    if (!j) fail_msg("%s", err.message);
    engine_event ev;
    int64_t at = 0;
    while (engine_wait(j, &ev, PATIENCE_MS) && ev.kind == ENGINE_TOKEN) out[at++] = ev.token.id;
    assert_int_equal(ev.kind, ENGINE_END);
    assert_int_equal(at, max_tokens);
    engine_job_free(j);
}

static void test_real_model(void **state) {
    (void)state;
    const char *path = corpus_path("derived/stories260K/stories260K-f32.gguf");
    if (!path) skip();
    error err = {0};
    file *f = file_open(path, &err);
    engine_config c = engine_defaults();
    c.kv_type = KERN_KV_F32;
    c.max_chunk = 3;
    engine *e = engine_open(f, &c, &err);
    if (!e) fail_msg("%s", err.message);
    const engine_meta *meta = engine_get_meta(e);
    assert_true(str_is(meta->arch, "llama"));
    assert_int_equal(meta->digest.len, 16);
    assert_non_null(engine_get_tok(e));
    json_t *ref = read_json(corpus_path("derived/stories260K/reference.json"));
    const json_t *prompts = json_object_get(ref, "cases");
    assert_true(json_array_size(prompts) > 0);
    for (size_t i = 0; i < json_array_size(prompts); i++) {
        const json_t *p = json_array_get(prompts, i);
        int n_prompt, n_want;
        int32_t *ids = json_ids(json_object_get(p, "prompt_ids"), &n_prompt);
        int32_t *want = json_ids(json_object_get(p, "greedy_ids"), &n_want);
        int32_t *got = calloc((size_t)n_want, sizeof *got);
        generate(e, ids, (size_t)n_prompt, n_want, got);
        assert_memory_equal(got, want, (size_t)n_want * sizeof *got);
        free(ids);
        free(want);
        free(got);
    }
    json_decref(ref);
    engine_close(e);
    file_close(f);
}

/* What is planned before anything is loaded is what is taken then. */
static void test_plan_before_loading(void **state) {
    (void)state;
    static const char *const names[] = {
        "derived/stories260K/stories260K-f32.gguf", "derived/stories260K/stories260K-q8_0.gguf",
        "arch_oracle/gptoss-a/model-f32.gguf",      "arch_oracle/gptoss-b/model-bf16.gguf",
        "arch_oracle/llama-types/model-q4_k.gguf",  "arch_oracle/qwen3moe/model-f32.gguf"};
    if (!corpus_path("%s", names[0])) skip();
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        error err = {0};
        file *f = file_open(corpus_path("%s", names[i]), &err);
        if (!f) fail_msg("%s", err.message);
        engine_config c = engine_defaults();
        engine_plan before;
        assert_true(engine_make_plan(f, &c, &before, &err));
        engine *e = engine_open(f, &c, &err);
        if (!e) fail_msg("%s: %s", names[i], err.message);
        const engine_plan *after = engine_get_plan(e);
        if (before.scratch != after->scratch || before.kv != after->kv ||
            before.weights != after->weights)
            fail_msg("%s: scratch %llu planned, %llu needed", names[i],
                     (unsigned long long)before.scratch, (unsigned long long)after->scratch);
        engine_close(e);
        file_close(f);
    }
}

static void test_allocation_guard(void **state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    guard_install();
    pid_t child = fork();
    if (child == 0) {
        signal(SIGILL, SIG_DFL);
        signal(SIGTRAP, SIG_DFL);
        guard_enter();
        void *volatile p = malloc(10); /* volatile: the compiler drops an unused pair */
        free(p);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
#else
    skip(); /* release builds have none; test programs bring their own malloc */
#endif
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_allocation_guard),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_wrong_configurations),
        cmocka_unit_test(test_queue_full),
        cmocka_unit_test(test_cancel_within_one_step),
        cmocka_unit_test(test_cancel_inside_forward),
        cmocka_unit_test(test_deadlines),
        cmocka_unit_test(test_unread_jobs_give_way),
        cmocka_unit_test(test_nothing_to_generate),
        cmocka_unit_test(test_agents_share_one_system_prompt),
        cmocka_unit_test(test_usage_tells_what_was_cached),
        cmocka_unit_test(test_rows_survive_a_restart),
        cmocka_unit_test(test_plan_shrinks_what_nobody_asked_for),
        cmocka_unit_test(test_what_cannot_hold_is_refused_by_the_plan),
        cmocka_unit_test(test_real_model),
        cmocka_unit_test(test_plan_before_loading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
