/* The sampler against a slow twin that sorts everything in double precision. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "sample/dist.h"
#include "sample/sample.h"

/* ── A seeded source of test data ── */
typedef struct dice {
    uint64_t seed, at;
} dice;
static uint64_t roll(dice *d, uint64_t n) {
    return rng_at(d->seed, d->at++) % n;
}
static double unit(dice *d) {
    return rng_uniform_at(d->seed, d->at++);
}
static double gauss(dice *d) {
    double u = 1 - unit(d), v = unit(d);
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

/* ── The twin ── */
typedef struct twin {
    int32_t n;      /* vocabulary */
    float *logits;  /* adjusted */
    int32_t *order; /* ids by rank */
    int32_t n_kept;
    double *p;     /* [n] probability of each id */
    bool is_close; /* a filter's border lies within rounding */
} twin;

static const float *rank_logits;
static int by_rank(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (rank_logits[x] != rank_logits[y]) return rank_logits[x] > rank_logits[y] ? -1 : 1;
    return x < y ? -1 : 1;
}

/* history: prompt then generated, n_prompt of them prompt. */
static twin twin_make(const sample_params *p, const float *logits, int32_t n,
                      const int32_t *history, size_t n_history, size_t n_prompt) {
    twin t = {.n = n};
    t.logits = calloc((size_t)n, sizeof *t.logits);
    t.order = calloc((size_t)n, sizeof *t.order);
    t.p = calloc((size_t)n, sizeof *t.p);
    bool forced = false;
    for (int32_t i = 0; i < p->n_bias; i++) forced |= p->bias[i].bias >= 100;
    for (int32_t id = 0; id < n; id++) {
        float x = isfinite(logits[id]) ? logits[id] : -INFINITY;
        bool is_forced = false;
        for (int32_t i = 0; i < p->n_bias; i++)
            if (p->bias[i].id == id) {
                is_forced = p->bias[i].bias >= 100;
                if (!forced) x = p->bias[i].bias <= -100 ? -INFINITY : x + p->bias[i].bias;
            }
        if (forced && !is_forced) x = -INFINITY;
        size_t window = (size_t)p->repetition_window;
        bool repeated = false;
        for (size_t i = n_history > window ? n_history - window : 0; i < n_history; i++)
            repeated |= history[i] == id;
        if (repeated && p->repetition_penalty != 0 && p->repetition_penalty != 1)
            x = x > 0 ? x / (float)p->repetition_penalty : x * (float)p->repetition_penalty;
        uint32_t count = 0;
        for (size_t i = n_prompt; i < n_history; i++) count += history[i] == id;
        if (count) x -= (float)p->presence_penalty + (float)p->frequency_penalty * (float)count;
        t.logits[id] = x;
        t.order[id] = id;
    }
    rank_logits = t.logits;
    qsort(t.order, (size_t)n, sizeof *t.order, by_rank);
    int32_t alive = 0;
    while (alive < n && t.logits[t.order[alive]] > -INFINITY) alive++;
    if (alive == 0) {
        t.p[0] = 1;
        return t;
    }
    double max = t.logits[t.order[0]];
    if (p->temperature == 0) {
        t.p[t.order[0]] = 1;
        t.n_kept = 1;
        return t;
    }
    int32_t n_k = p->top_k > 0 && p->top_k < alive ? p->top_k : alive, n_p = n_k, n_m = 0;
    double total = 0, mass = 0;
    for (int32_t i = 0; i < n_k; i++) total += exp(t.logits[t.order[i]] - max);
    if (p->top_p < 1) {
        for (n_p = 0; n_p < n_k;) {
            mass += exp(t.logits[t.order[n_p++]] - max);
            if (fabs(mass - p->top_p * total) < 2e-6 * total) t.is_close = true;
            if (mass >= p->top_p * total) break;
        }
    }
    if (p->min_p > 0) {
        double floor_logit = max + log(p->min_p);
        for (int32_t i = 0; i < alive; i++) {
            double x = t.logits[t.order[i]];
            if (p->min_p < 1 && fabs(x - floor_logit) < 1e-5 * (1 + fabs(x))) t.is_close = true;
            n_m += x >= floor_logit;
        }
    } else {
        n_m = alive;
    }
    int32_t keep = n_p < n_m ? n_p : n_m;
    if (keep < p->min_tokens_to_keep) keep = p->min_tokens_to_keep;
    if (keep > n_k) keep = n_k;
    t.n_kept = keep;
    double sum = 0;
    for (int32_t i = 0; i < keep; i++)
        sum += t.p[t.order[i]] = exp((t.logits[t.order[i]] - max) / p->temperature);
    for (int32_t i = 0; i < n; i++) t.p[i] /= sum;
    return t;
}

static void twin_free(twin *t) {
    free(t->logits);
    free(t->order);
    free(t->p);
}

/* The id that owns u, or -1 when u is within rounding of a border. */
static int32_t twin_draw(const twin *t, double u) {
    double sum = 0;
    int32_t last = 0;
    for (int32_t i = 0; i < t->n; i++) {
        if (t->p[i] == 0) continue;
        last = i;
        double next = sum + t->p[i];
        if (u < next) {
            if (t->p[i] < 1 && (fabs(u - next) < 2e-6 || (sum > 0 && fabs(u - sum) < 2e-6)))
                return -1;
            return i;
        }
        sum = next;
    }
    return last;
}

/* ── Data ── */
static void fill_logits(dice *d, float *x, int32_t n) {
    int shape = (int)roll(d, 6);
    double spread = (double[]){0.1, 1, 4, 12, 100}[roll(d, 5)];
    for (int32_t i = 0; i < n; i++) {
        switch (shape) {
        case 0: x[i] = (float)(gauss(d) * spread); break;
        case 1: x[i] = (float)((int)roll(d, 5) - 2); break; /* many ties */
        case 2: x[i] = 1.25f; break;                        /* all equal */
        case 3: x[i] = (float)(gauss(d) * spread + (roll(d, 20) == 0 ? 10 : 0)); break;
        case 4: x[i] = (float)(-spread * i / n); break; /* sorted */
        default: x[i] = (float)(gauss(d) * spread);
        }
        if (shape == 5 && roll(d, 4) == 0) x[i] = (float[]){NAN, INFINITY, -INFINITY}[roll(d, 3)];
    }
}

static void fill_params(dice *d, sample_params *p, sample_bias *bias, int32_t n) {
    *p = sample_defaults();
    p->seed = rng_at(d->seed, d->at++) >> 1;
    p->temperature = (double[]){0, 0.01, 0.3, 0.7, 1, 1, 1.3, 2}[roll(d, 8)];
    if (roll(d, 2)) p->top_k = 1 + (int32_t)roll(d, roll(d, 2) ? 10 : (uint64_t)n + 3);
    if (roll(d, 2)) p->top_p = (double[]){0, 1e-6, 0.1, 0.5, 0.9, 0.95, 0.999}[roll(d, 7)];
    if (roll(d, 2)) p->min_p = (double[]){1e-4, 0.02, 0.05, 0.2, 0.7, 1}[roll(d, 6)];
    if (roll(d, 3) == 0) p->min_tokens_to_keep = 1 + (int32_t)roll(d, 20);
    if (roll(d, 3) == 0) {
        p->repetition_penalty = 0.5 + unit(d) * 2;
        p->repetition_window = (int32_t)roll(d, 12);
    }
    if (roll(d, 3) == 0) p->presence_penalty = unit(d) * 4 - 2;
    if (roll(d, 3) == 0) p->frequency_penalty = unit(d) * 4 - 2;
    p->bias = bias;
    if (roll(d, 3) == 0) {
        int32_t want = (int32_t)roll(d, 6), id = 0;
        for (int32_t i = 0; i < want; i++) {
            id += (int32_t)roll(d, (uint64_t)n / 4 + 1) + 1;
            if (id >= n) break;
            bias[p->n_bias++] = (sample_bias){id, (float[]){-100, 100, -3, 2.5f, 20}[roll(d, 5)]};
        }
    }
    if (roll(d, 3) == 0) p->n_top = (int32_t)roll(d, SAMPLE_MAX_TOP + 1);
}

/* ── Property: every draw is the twin's ── */
static void test_twin(void **state) {
    (void)state;
    static const int32_t sizes[] = {1, 2, 5, 24, 25, 37, 255, 256, 257, 1000, 3001};
    int n_checked = 0, n_close = 0;
    for (uint64_t seed = 0; seed < 3000; seed++) {
        dice d = {seed, 0};
        int32_t n = sizes[roll(&d, sizeof sizes / sizeof *sizes)];
        sample_params p;
        sample_bias bias[8];
        fill_params(&d, &p, bias, n);
        error err = {0};
        if (!sample_check(&p, n, &err)) continue; /* every token banned */
        sampler *s = sampler_new(&p, n, &err);
        assert_non_null(s);
        int32_t history[64];
        size_t n_prompt = roll(&d, 30), n_history = n_prompt;
        for (size_t i = 0; i < n_prompt; i++)
            history[i] = (int32_t)roll(&d, (uint64_t)(n < 8 ? n : 8));
        sampler_note_prompt(s, history, n_prompt);
        float *x = malloc((size_t)n * sizeof *x), *scratch = malloc((size_t)n * sizeof *x);
        fill_logits(&d, x, n);
        for (uint64_t step = 0; step < 12; step++) {
            memcpy(scratch, x, (size_t)n * sizeof *x);
            sample_result r;
            sampler_next(s, scratch, step, &r);
            assert_in_range(r.id, 0, n - 1);
            twin t = twin_make(&p, x, n, history, n_history, n_prompt);
            int32_t want = twin_draw(&t, rng_uniform_at(p.seed, step));
            n_checked++;
            if (t.is_close || want < 0) {
                n_close++;
            } else if (r.id != want) {
                fail_msg(
                    "seed %llu step %llu: id %d, twin says %d of %d kept (T %g k %d p %g m %g)",
                    (unsigned long long)seed, (unsigned long long)step, r.id, want, t.n_kept,
                    p.temperature, p.top_k, p.top_p, p.min_p);
            }
            twin_free(&t);
            history[n_history++] = r.id;
        }
        free(x);
        free(scratch);
        sampler_free(s);
    }
    assert_true(n_checked > 30000);
    assert_true(n_close < n_checked / 20); /* the test must not excuse itself */
}

/* ── Statistics ── */
static void test_chi_square(void **state) {
    (void)state;
    enum { N = 300, DRAWS = 60000 };
    static const struct {
        double temperature, top_p, min_p;
        int32_t top_k;
    } cases[] = {{1, 1, 0, 0},    {0.7, 1, 0, 0},      {1.5, 0.9, 0, 0},
                 {1, 1, 0.05, 0}, {2, 0.95, 0.01, 40}, {0.5, 1, 0, 7}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        dice d = {1000 + c, 0};
        float x[N], scratch[N];
        for (int i = 0; i < N; i++) x[i] = (float)(gauss(&d) * 2);
        sample_params p = sample_defaults();
        p.temperature = cases[c].temperature, p.top_p = cases[c].top_p, p.min_p = cases[c].min_p;
        p.top_k = cases[c].top_k;
        p.seed = c * 77 + 5;
        twin t = twin_make(&p, x, N, NULL, 0, 0);
        sampler *s = sampler_new(&p, N, NULL);
        int64_t count[N] = {0}, pairs[2][2] = {{0}};
        bool before = false;
        for (uint64_t step = 0; step < DRAWS; step++) {
            memcpy(scratch, x, sizeof x);
            sample_result r;
            sampler_next(s, scratch, step, &r);
            count[r.id]++;
            bool is_even = r.id % 2 == 0;
            if (step) pairs[before][is_even]++;
            before = is_even;
        }
        /* Cells with fewer than 8 expected draws are taken together. */
        double chi2 = 0, rest_want = 0, p_even = 0;
        int64_t rest = 0;
        int cells = 0;
        for (int i = 0; i < N; i++) {
            double want = t.p[i] * DRAWS;
            if (i % 2 == 0) p_even += t.p[i];
            if (t.p[i] == 0) assert_int_equal(count[i], 0);
            if (want >= 8) {
                chi2 += (count[i] - want) * (count[i] - want) / want;
                cells++;
            } else {
                rest_want += want;
                rest += count[i];
            }
        }
        if (rest_want >= 8) {
            chi2 += (rest - rest_want) * (rest - rest_want) / rest_want;
            cells++;
        }
        double df = cells - 1;
        assert_true(cells > 3);
        /* 4.5 σ of the χ² distribution; the seeds are fixed, so this cannot flicker. */
        if (chi2 > df + 4.5 * sqrt(2 * df))
            fail_msg("case %zu: chi2 %g with %g degrees of freedom", c, chi2, df);
        /* One step tells nothing about the next. */
        double pe[2] = {1 - p_even, p_even}, serial = 0;
        for (int a = 0; a < 2; a++)
            for (int b = 0; b < 2; b++) {
                double want = pe[a] * pe[b] * (DRAWS - 1);
                serial += (pairs[a][b] - want) * (pairs[a][b] - want) / want;
            }
        assert_true(serial < 3 + 4.5 * sqrt(6));
        sampler_free(s);
        twin_free(&t);
    }
}

/* One draw from each of many seeds at the same step is uniform too. */
static void test_seeds_spread(void **state) {
    (void)state;
    enum { N = 64, DRAWS = 32000 };
    int64_t count[N] = {0};
    sample_params p = sample_defaults();
    sampler *s = sampler_new(&p, N, NULL);
    for (uint64_t seed = 0; seed < DRAWS; seed++) {
        float x[N] = {0};
        sample_result r;
        p.seed = seed;
        sampler_start(s, &p);
        sampler_next(s, x, 3, &r);
        count[r.id]++;
    }
    double chi2 = 0, want = (double)DRAWS / N;
    for (int i = 0; i < N; i++) chi2 += (count[i] - want) * (count[i] - want) / want;
    assert_true(chi2 < 63 + 4.5 * sqrt(126));
    sampler_free(s);
}

/* ── Single facts ── */
static void test_greedy_ties(void **state) {
    (void)state;
    sample_params p = sample_defaults();
    p.temperature = 0;
    for (int32_t n = 2; n < 600; n += 7) {
        float *x = calloc((size_t)n, sizeof *x);
        for (int32_t i = 0; i < n; i++) x[i] = (float)(i % 3);
        x[n / 2] = x[n - 1] = 5;
        sampler *s = sampler_new(&p, n, NULL);
        sample_result r;
        sampler_next(s, x, 0, &r);
        assert_int_equal(r.id, n / 2);
        sampler_free(s);
        free(x);
    }
}

static void test_tiny_top_p_is_greedy(void **state) {
    (void)state;
    sample_params p = sample_defaults();
    p.temperature = 1.5;
    p.top_p = 1e-6;
    sampler *s = sampler_new(&p, 500, NULL);
    for (uint64_t step = 0; step < 200; step++) {
        dice d = {step, 0};
        float x[500];
        int32_t best = 0;
        for (int i = 0; i < 500; i++) {
            x[i] = (float)gauss(&d);
            if (x[i] > x[best]) best = i;
        }
        sample_result r;
        sampler_next(s, x, step, &r);
        assert_int_equal(r.id, best);
    }
    sampler_free(s);
}

static void test_nothing_left(void **state) {
    (void)state;
    for (int greedy = 0; greedy < 2; greedy++) {
        sample_params p = sample_defaults();
        p.temperature = greedy ? 0 : 1;
        p.n_top = 3;
        float x[5] = {NAN, INFINITY, -INFINITY, NAN, INFINITY};
        sampler *s = sampler_new(&p, 5, NULL);
        sample_result r;
        sampler_next(s, x, 0, &r);
        assert_int_equal(r.id, 0);
        assert_int_equal(r.n_top, 0);
        assert_true(r.logprob == SAMPLE_MIN_LOGPROB);
        sampler_free(s);
    }
}

static void test_tiny_temperature(void **state) {
    (void)state;
    sample_params p = sample_defaults();
    p.temperature = 1e-300;
    sampler *s = sampler_new(&p, 3, NULL);
    for (uint64_t step = 0; step < 50; step++) {
        float x[3] = {1, 1.001f, -3e38f};
        sample_result r;
        sampler_next(s, x, step, &r);
        assert_int_equal(r.id, 1);
    }
    sampler_free(s);
}

static void test_logprobs(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        dice d = {seed + 9000, 0};
        enum { N = 700 };
        float x[N], scratch[N];
        fill_logits(&d, x, N);
        sample_params p;
        sample_bias bias[8];
        fill_params(&d, &p, bias, N);
        p.n_top = (int32_t)roll(&d, SAMPLE_MAX_TOP + 1);
        sampler *s = sampler_new(&p, N, NULL);
        int32_t prompt[] = {1, 2, 3, 1};
        sampler_note_prompt(s, prompt, 4);
        /* What the model itself says: bias, penalties and filters change the choice, not this. */
        sample_params plain = sample_defaults();
        twin t = twin_make(&plain, x, N, NULL, 0, 0);
        for (uint64_t step = 0; step < 4; step++) {
            memcpy(scratch, x, sizeof x);
            sample_result r, again;
            sampler_next(s, scratch, step, &r);
            sample_score(x, N, r.id, p.n_top, &again);
            twin chosen = twin_make(&p, x, N, prompt, 4, 4);
            bool is_empty = chosen.logits[chosen.order[0]] == -INFINITY;
            twin_free(&chosen);
            if (is_empty) continue; /* forced or left only what is not a number */
            assert_int_equal(r.n_top, p.n_top);
            double want = t.p[r.id] > 0 && isfinite(x[r.id]) ? log(t.p[r.id]) : SAMPLE_MIN_LOGPROB;
            if (isfinite(x[r.id]) && t.p[r.id] > 1e-300)
                assert_true(fabs(r.logprob - want) < 1e-4 + 1e-6 * fabs(want));
            assert_true(r.logprob >= SAMPLE_MIN_LOGPROB && r.logprob <= 1e-5f);
            for (int i = 0; i < r.n_top; i++) {
                assert_int_equal(r.top[i].id, t.order[i]);
                assert_int_equal(again.top[i].id, r.top[i].id);
                assert_true(again.top[i].logprob == r.top[i].logprob);
            }
            assert_true(again.logprob == r.logprob && again.n_top == r.n_top);
        }
        twin_free(&t);
        sampler_free(s);
    }
}

static void test_score_out_of_range(void **state) {
    (void)state;
    float x[3] = {0, 0, NAN};
    sample_result r;
    sample_score(x, 3, 7, 5, &r);
    assert_true(r.logprob == SAMPLE_MIN_LOGPROB);
    assert_int_equal(r.n_top, 2);
    assert_true(fabs(r.top[0].logprob + log(2)) < 1e-6);
    sample_score(x, 3, 2, 0, &r);
    assert_true(r.logprob == SAMPLE_MIN_LOGPROB);
}

/* Started again, a sampler is as good as new. */
static void test_start_again(void **state) {
    (void)state;
    enum { N = 50 };
    sample_params p = sample_defaults(), q = p;
    p.repetition_penalty = 1.7, p.frequency_penalty = 1, p.seed = 4;
    sample_bias bias = {3, 100};
    q.bias = &bias, q.n_bias = 1;
    sampler *used = sampler_new(&q, N, NULL), *fresh = sampler_new(&p, N, NULL);
    for (int round = 0; round < 3; round++) {
        float x[N] = {0};
        sample_result r;
        sampler_next(used, x, 0, &r);
        assert_int_equal(r.id, 3);
    }
    int32_t prompt[] = {9, 9, 8};
    sampler_start(used, &p);
    sampler_note_prompt(used, prompt, 3);
    sampler_note_prompt(fresh, prompt, 3);
    for (uint64_t step = 0; step < 100; step++) {
        dice d = {step, 0};
        float x[N], y[N];
        for (int i = 0; i < N; i++) x[i] = y[i] = (float)gauss(&d);
        sample_result a, b;
        sampler_next(used, x, step, &a);
        sampler_next(fresh, y, step, &b);
        assert_int_equal(a.id, b.id);
    }
    sampler_free(used);
    sampler_free(fresh);
}

static void test_exp(void **state) {
    (void)state;
    for (int i = 0; i <= 870000; i++) {
        float x = -(float)i / 10000;
        double want = exp((double)x);
        assert_true(fabs(dist_exp(x) - want) <= 4e-7 * want);
    }
    assert_true(dist_exp(0) == 1);
    assert_true(dist_exp(-INFINITY) == 0);
    assert_true(dist_exp(-3e38f) == 0);
}

static void test_check(void **state) {
    (void)state;
#define BAD(field, value, want_code, name)        \
    do {                                          \
        sample_params p_ = sample_defaults();     \
        p_.field = value;                         \
        error e_ = {0};                           \
        assert_false(sample_check(&p_, 10, &e_)); \
        assert_int_equal(e_.code, want_code);     \
        assert_string_equal(e_.param, name);      \
    } while (0)
    BAD(temperature, 2.5, ERR_DECIMAL_ABOVE_MAX, "temperature");
    BAD(temperature, -0.1, ERR_DECIMAL_BELOW_MIN, "temperature");
    BAD(temperature, NAN, ERR_INVALID_VALUE, "temperature");
    BAD(top_p, 1.5, ERR_DECIMAL_ABOVE_MAX, "top_p");
    BAD(top_p, -1, ERR_DECIMAL_BELOW_MIN, "top_p");
    BAD(min_p, 1.01, ERR_DECIMAL_ABOVE_MAX, "min_p");
    BAD(top_k, -1, ERR_INT_BELOW_MIN, "top_k");
    BAD(min_tokens_to_keep, 0, ERR_INT_BELOW_MIN, "min_tokens_to_keep");
    BAD(repetition_penalty, -1, ERR_DECIMAL_BELOW_MIN, "repetition_penalty");
    BAD(repetition_window, SAMPLE_MAX_REPEAT_WINDOW + 1, ERR_INT_ABOVE_MAX,
        "repetition_context_size");
    BAD(presence_penalty, 3, ERR_DECIMAL_ABOVE_MAX, "presence_penalty");
    BAD(frequency_penalty, -2.01, ERR_DECIMAL_BELOW_MIN, "frequency_penalty");
    BAD(n_top, 21, ERR_INT_ABOVE_MAX, "top_logprobs");
    BAD(n_top, -2, ERR_INT_BELOW_MIN, "top_logprobs");
#undef BAD
    static const struct {
        sample_bias bias[3];
        int32_t n;
        error_code want;
    } cases[] = {
        {{{10, 1}}, 1, ERR_INVALID_VALUE},
        {{{-1, 1}}, 1, ERR_INVALID_VALUE},
        {{{1, 101}}, 1, ERR_DECIMAL_ABOVE_MAX},
        {{{1, NAN}}, 1, ERR_INVALID_VALUE},
        {{{1, 1}, {2, 1}, {1, 2}}, 3, ERR_INVALID_VALUE},
        {{{1, 100}, {2, -100}, {0, 0}}, 3, ERR_NONE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        sample_params p = sample_defaults();
        p.bias = cases[i].bias, p.n_bias = cases[i].n;
        error e = {0};
        assert_int_equal(sample_check(&p, 10, &e), cases[i].want == ERR_NONE);
        assert_int_equal(e.code, cases[i].want);
        if (e.code) assert_string_equal(e.param, "logit_bias");
    }
    sample_params p = sample_defaults();
    sample_bias all[2] = {{0, -100}, {1, -100}};
    p.bias = all, p.n_bias = 2;
    assert_false(sample_check(&p, 2, NULL));
    assert_true(sample_check(&p, 3, NULL));
    p.n_bias = SAMPLE_MAX_BIAS + 1;
    error e = {0};
    assert_false(sample_check(&p, 3, &e));
    assert_int_equal(e.code, ERR_ARRAY_ABOVE_MAX);
    assert_null(sampler_new(&p, 3, NULL));
}

/* A window of any length forgets exactly what left it, over a long run. */
static void test_long_window(void **state) {
    (void)state;
    enum { N = 40, STEPS = 3000 };
    sample_params p = sample_defaults();
    p.repetition_penalty = 1.3, p.repetition_window = 17, p.frequency_penalty = 0.01, p.seed = 12;
    sampler *s = sampler_new(&p, N, NULL);
    int32_t *history = malloc((STEPS + 100) * sizeof *history);
    size_t n = 0;
    for (; n < 100; n++) history[n] = (int32_t)(n % 13);
    sampler_note_prompt(s, history, 100);
    int n_close = 0;
    for (uint64_t step = 0; step < STEPS; step++) {
        dice d = {step + 5, 0};
        float x[N], scratch[N];
        for (int i = 0; i < N; i++) x[i] = scratch[i] = (float)gauss(&d);
        sample_result r;
        sampler_next(s, scratch, step, &r);
        twin t = twin_make(&p, x, N, history, n, 100);
        int32_t want = twin_draw(&t, rng_uniform_at(p.seed, step));
        if (want < 0)
            n_close++;
        else
            assert_int_equal(r.id, want);
        twin_free(&t);
        history[n++] = r.id;
    }
    assert_true(n_close < 10);
    free(history);
    sampler_free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp),          cmocka_unit_test(test_twin),
        cmocka_unit_test(test_chi_square),   cmocka_unit_test(test_seeds_spread),
        cmocka_unit_test(test_greedy_ties),  cmocka_unit_test(test_tiny_top_p_is_greedy),
        cmocka_unit_test(test_nothing_left), cmocka_unit_test(test_tiny_temperature),
        cmocka_unit_test(test_logprobs),     cmocka_unit_test(test_score_out_of_range),
        cmocka_unit_test(test_start_again),  cmocka_unit_test(test_long_window),
        cmocka_unit_test(test_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
