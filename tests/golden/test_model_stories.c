/* A trained model against a float64 forward pass: stories260K in every format. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model_run.h"

static const char dir[] = "derived/stories260K";

/* Prompt + greedy continuation in one array. */
static int32_t *whole(const json_t *c, int *n_prompt, int *n) {
    int n_greedy;
    int32_t *p = json_ids(json_object_get(c, "prompt_ids"), n_prompt);
    int32_t *g = json_ids(json_object_get(c, "greedy_ids"), &n_greedy);
    *n = *n_prompt + n_greedy;
    p = realloc(p, (size_t)*n * sizeof *p);
    memcpy(p + *n_prompt, g, (size_t)n_greedy * sizeof *p);
    free(g);
    return p;
}

/* Generating greedily gives exactly the expected ids if and only if every row's arg max, fed the
 * expected ids, is the next one. Checks the first `most` of them. */
static void check_greedy(const float *logits, const int32_t *ids, int n_prompt, int n, int n_vocab,
                         int most) {
    const kern *k = kern_get();
    for (int i = n_prompt; i < n && i < n_prompt + most; i++)
        assert_int_equal(k->argmax(n_vocab, logits + (ptrdiff_t)(i - 1) * n_vocab), ids[i]);
}

static double worst_logit(const float *row, const json_t *want, int n_vocab) {
    double worst = 0;
    for (int v = 0; v < n_vocab; v++)
        worst =
            fmax(worst, fabs((double)row[v] - json_number_value(json_array_get(want, (size_t)v))));
    return worst;
}

static double nll(const float *row, int n_vocab, int32_t id) {
    double max = row[0], sum = 0;
    for (int v = 0; v < n_vocab; v++) max = fmax(max, (double)row[v]);
    for (int v = 0; v < n_vocab; v++) sum += exp((double)row[v] - max);
    return log(sum) + max - (double)row[id];
}

typedef struct bounds {
    int n_greedy;
    double logits, mean_nll, any_nll;
} bounds;

/* Against the float64 forward pass over the weights as trained. A narrower file's weights differ from
 * those by their rounding, which no arithmetic can undo: after about 130 tokens the BF16 weights
 * prefer another token where two were 0.004 apart. What BF16 logits must be is checked below. */
static void check_float_file(const char *name, kern_kv_type kv_type, bounds bound) {
    json_t *ref = read_json(corpus_path("%s/reference.json", dir)), *c;
    loaded l = load_model(corpus_path("%s/stories260K-%s.gguf", dir, name), NULL);
    int n_vocab = model_get_info(l.m)->n_vocab;
    double worst = 0, worst_nll = 0, worst_mean = 0;
    size_t i;
    json_array_foreach(json_object_get(ref, "cases"), i, c) {
        int n_prompt, n;
        int32_t *ids = whole(c, &n_prompt, &n);
        float *logits = run_logits(l.m, ids, n, &(run_options){.kv_type = kv_type});
        check_greedy(logits, ids, n_prompt, n, n_vocab, bound.n_greedy);
        worst = fmax(worst, worst_logit(logits + (ptrdiff_t)(n_prompt - 1) * n_vocab,
                                        json_object_get(c, "logits_last_prompt_pos"), n_vocab));
        const json_t *want = json_object_get(c, "nll_per_token");
        assert_int_equal(json_array_size(want), n - 1);
        double sum = 0;
        for (int k = 1; k < n; k++) {
            double d = nll(logits + (ptrdiff_t)(k - 1) * n_vocab, n_vocab, ids[k]) -
                       json_number_value(json_array_get(want, (size_t)k - 1));
            worst_nll = fmax(worst_nll, fabs(d));
            sum += d;
        }
        worst_mean = fmax(worst_mean, fabs(sum / (n - 1)));
        free(logits);
        free(ids);
    }
    assert_int_equal(i, 4);
    print_message("%s: logits within %.2g, NLL within %.2g, mean within %.2g\n", name, worst,
                  worst_nll, worst_mean);
    assert_true(worst <= bound.logits);
    assert_true(worst_mean <= bound.mean_nll);
    assert_true(worst_nll <= bound.any_nll);
    unload_model(&l);
    json_decref(ref);
}

static void float_files(void **state) {
    (void)state;
    if (!corpus_path("%s", "")) skip();
    check_float_file("f32", KERN_KV_F32, (bounds){1000, 1e-4, 1e-3, 1e-3});
    check_float_file("f32", KERN_KV_F16, (bounds){1000, 1e-2, 1e-3, 1e-2});
    check_float_file("f16", KERN_KV_F32, (bounds){1000, 1e-2, 1e-3, 1e-2});
    check_float_file("f16", KERN_KV_F16, (bounds){1000, 3e-2, 1e-3, 1e-2});
    check_float_file("bf16", KERN_KV_F32, (bounds){100, 1e-1, 1e-3, 1e-1});
    check_float_file("bf16", KERN_KV_F16, (bounds){100, 1e-1, 1e-3, 1e-1});
}

/* The same weights dequantised, then float64: with float activations every type agrees, ids and all. */
static void quantised_files(void **state) {
    (void)state;
    if (!corpus_path("%s", "")) skip();
    json_t *ref = read_json(corpus_path("%s/reference_quant.json", dir)), *cases, *c;
    const char *type;
    int n_types = 0;
    json_object_foreach(json_object_get(ref, "weights_dequantised_then_float64"), type, cases) {
        char name[16] = {0};
        for (size_t k = 0; type[k] && k < sizeof name - 1; k++)
            name[k] = (char)(type[k] >= 'A' && type[k] <= 'Z' ? type[k] + 32 : type[k]);
        for (int rows = 0; rows < 2; rows++) {
            loaded l = load_model(corpus_path("%s/stories260K-%s.gguf", dir, name),
                                  &(model_options){.f32_acts = true, .no_repack = rows});
            int n_vocab = model_get_info(l.m)->n_vocab;
            double worst = 0;
            size_t i;
            json_array_foreach(cases, i, c) {
                int n_prompt, n;
                int32_t *ids = whole(c, &n_prompt, &n);
                float *logits = run_logits(l.m, ids, n, &(run_options){.kv_type = KERN_KV_F32});
                check_greedy(logits, ids, n_prompt, n, n_vocab, n);
                worst =
                    fmax(worst, worst_logit(logits + (ptrdiff_t)(n_prompt - 1) * n_vocab,
                                            json_object_get(c, "logits_last_prompt_pos"), n_vocab));
                free(logits);
                free(ids);
            }
            print_message("%s%s: logits within %.2g\n", type, rows ? " (rows)" : "", worst);
            assert_true(worst <= 1e-4);
            unload_model(&l);
        }
        n_types++;
    }
    assert_int_equal(n_types, 8);
    json_decref(ref);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(float_files),
        cmocka_unit_test(quantised_files),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
