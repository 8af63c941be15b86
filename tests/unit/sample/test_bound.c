/* A draw under a grammar is a free draw from logits in which all that the grammar forbids was written
 * over with −inf by hand: the same ids for every filter, penalty and bias, and the model's own
 * log-probabilities. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "corpus.h"
#include "sample/dist.h"
#include "sample/sample.h"
#include "tiny_vocab.h"

static const char SCHEMA[] =
    "{\"type\":\"object\",\"properties\":{\"name\":{\"type\":\"string\",\"maxLength\":9},\"n\":{\"type\":\"integer\"},"
    "\"kind\":{\"enum\":[\"red\",\"green\",true]}},\"required\":[\"n\",\"kind\"],\"additionalProperties\":false}";

typedef struct twins {
    matcher *m;
    sampler *bound, *free;
    float *raw, *a, *b;
    int32_t n_vocab;
} twins;

static void fill(float *x, int32_t n, uint64_t seed) {
    for (int32_t i = 0; i < n; i++) {
        uint64_t r = rng_at(seed, (uint64_t)i);
        x[i] = (float)(rng_uniform_at(seed + 1, (uint64_t)i) * 10 - 4);
        if (r % 50 == 0) x[i] = 5; /* ties */
        if (r % 97 == 1) x[i] = NAN;
        if (r % 97 == 2) x[i] = INFINITY;
        if (r % 97 == 3) x[i] = -INFINITY;
    }
}

/* Each bit of `how` switches something on. */
static sample_params params_of(uint64_t how, sample_bias *bias, int32_t n_vocab) {
    sample_params p = sample_defaults();
    p.seed = how;
    p.temperature = how % 4 == 0 ? 0 : how % 4 == 1 ? 1 : 0.7;
    if (how & 4) p.top_k = 1 + (int32_t)(how % 50);
    if (how & 8) p.top_p = 0.3 + 0.01 * (double)(how % 60);
    if (how & 16) p.min_p = 0.02;
    if (how & 32) p.presence_penalty = 0.5, p.frequency_penalty = 0.3;
    if (how & 64) p.repetition_penalty = 1.3;
    if (how & 128) p.typical_p = 0.8;
    if (how & 256) p.xtc_probability = 0.5, p.xtc_threshold = 0.05;
    if (how & 512) p.n_top = (int32_t)(how % 6);
    if (how & 1024) p.min_tokens_to_keep = 5;
    if (how & 2048) {
        for (int32_t i = 0; i < 40; i++)
            bias[i] =
                (sample_bias){(int32_t)(rng_at(how, (uint64_t)i) % (uint64_t)n_vocab) / 40 * 40 + i,
                              (float)(rng_uniform_at(how + 1, (uint64_t)i) * 8 - 4)};
        int32_t n = 0;
        for (int32_t i = 0; i < 40; i++)
            if (bias[i].id < n_vocab) bias[n++] = bias[i];
        p.bias = bias, p.n_bias = n;
    }
    return p;
}

static bool is_allowed(const uint64_t *mask, int32_t n, int32_t id) {
    return id < n && mask[id >> 6] >> (id & 63) & 1;
}

static int compare_once(twins *w, uint64_t how, int n_steps) {
    sample_bias bias[40];
    sample_params p = params_of(how, bias, w->n_vocab);
    sampler_start(w->bound, &p);
    sampler_start(w->free, &p);
    matcher_reset(w->m);
    sampler_constrain(w->bound, w->m);
    int32_t n = matcher_n_vocab(w->m), n_drawn = 0;
    for (int step = 0; step < n_steps && !matcher_is_done(w->m); step++) {
        fill(w->raw, w->n_vocab, how * 100 + (uint64_t)step);
        memcpy(w->a, w->raw, (size_t)w->n_vocab * sizeof *w->a);
        const uint64_t *mask = matcher_mask(w->m);
        bool any = false;
        int32_t lowest = -1;
        for (int32_t i = 0; i < w->n_vocab; i++) {
            w->b[i] = is_allowed(mask, n, i) ? w->raw[i] : -INFINITY;
            any |= isfinite(w->b[i]);
            if (lowest < 0 && is_allowed(mask, n, i)) lowest = i;
        }
        sample_result x, y;
        sampler_next(w->bound, w->a, (uint64_t)step, &x);
        if (!any) {
            assert_int_equal(x.id, lowest < 0 ? 0 : lowest);
            break;
        }
        sampler_next(w->free, w->b, (uint64_t)step, &y);
        if (x.id != y.id)
            fail_msg("case %llu, step %d: %d, by hand %d", (unsigned long long)how, step, x.id,
                     y.id);
        n_drawn++;
        if (p.n_top < 0) continue;
        for (int32_t i = 0; i < w->n_vocab; i++)
            if (!isfinite(w->raw[i])) w->raw[i] = -INFINITY;
        sample_score(w->raw, w->n_vocab, x.id, p.n_top, &y);
        assert_float_equal(x.logprob, y.logprob, 1e-5);
        assert_int_equal(x.n_top, y.n_top);
        assert_memory_equal(x.top, y.top, (size_t)x.n_top * sizeof *x.top);
    }
    return n_drawn;
}

static void compare(tok *t, int32_t n_vocab, int n_cases, int n_steps) {
    error err = {0};
    json_t *schema = json_loads(SCHEMA, 0, NULL);
    grammar *g = grammar_from_schema(schema, NULL, &err);
    grammar_vocab *v = grammar_vocab_new(t, &err);
    twins w = {.n_vocab = n_vocab, .m = matcher_new(g, v, (matcher_options){0}, &err)};
    assert_non_null(w.m);
    sample_params p = sample_defaults();
    w.bound = sampler_new(&p, n_vocab, &err), w.free = sampler_new(&p, n_vocab, &err);
    w.raw = malloc((size_t)n_vocab * sizeof(float));
    w.a = malloc((size_t)n_vocab * sizeof(float));
    w.b = malloc((size_t)n_vocab * sizeof(float));
    int n_drawn = 0;
    for (int i = 0; i < n_cases; i++)
        n_drawn += compare_once(&w, (uint64_t)i * 4099 / (uint64_t)n_cases, n_steps);
    assert_true(n_drawn > n_cases);
    free(w.raw), free(w.a), free(w.b);
    sampler_free(w.bound), sampler_free(w.free);
    matcher_free(w.m);
    grammar_vocab_unref(v);
    grammar_unref(g);
    json_decref(schema);
}

static void test_small(void **state) {
    (void)state;
    tok *t = tiny_vocab_harmony();
    compare(t, tok_n_vocab(t), 2048, 30);      /* one block and a bit */
    compare(t, tok_n_vocab(t) + 700, 512, 30); /* rows of logits without a token */
    compare(t, tok_n_vocab(t) - 3, 512, 30);   /* and the other way round */
    tok_unref(t);
}

static void test_real(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    buf ranks = corpus_read("tokenizers/o200k/o200k_base.tiktoken");
    error err = {0};
    tok *t = tok_load_harmony(buf_str(&ranks), &err);
    assert_non_null(t);
    compare(t, tok_n_vocab(t), 24, 12);
    tok_unref(t);
    buf_deinit(&ranks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_real),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
