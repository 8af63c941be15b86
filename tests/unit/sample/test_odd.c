/* Typical sampling and XTC against their definitions, worked out by sorting. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/hash.h"
#include "sample/odd.h"

enum { N = 600 };

static void fill(float *logits, uint64_t seed) {
    for (int i = 0; i < N; i++) {
        logits[i] = (float)(rng_uniform_at(seed, (uint64_t)i) * 12 - 6);
        if (rng_at(seed + 1, (uint64_t)i) % 17 == 0) logits[i] = -INFINITY;
        if (rng_at(seed + 2, (uint64_t)i) % 7 == 0) logits[i] = 1; /* ties */
    }
}

typedef struct item {
    double distance, p;
    int id;
} item;

static int compare(const void *a, const void *b) {
    const item *x = a, *y = b;
    if (x->distance != y->distance) return x->distance < y->distance ? -1 : 1;
    return x->id - y->id;
}

static float find_max(const float *logits) {
    float max = -INFINITY;
    for (int i = 0; i < N; i++)
        if (logits[i] > max) max = logits[i];
    return max;
}

static void test_typical(void **state) {
    (void)state;
    static dist_cand cands[N];
    for (uint64_t seed = 0; seed < 200; seed++) {
        float logits[N], got[N];
        fill(logits, seed * 5);
        double sum = 0, entropy = 0, p_typical = 0.05 + 0.9 * rng_uniform_at(seed, 9999);
        float max = find_max(logits);
        int min_keep = seed % 3 ? 1 : 40;
        for (int i = 0; i < N; i++) sum += exp((double)logits[i] - max);
        item items[N];
        int n = 0;
        for (int i = 0; i < N; i++) {
            double p = exp((double)logits[i] - max) / sum;
            if (p <= 0) continue;
            entropy -= p * log(p);
            items[n++] = (item){0, p, i};
        }
        for (int i = 0; i < n; i++)
            items[i].distance = (double)(float)fabs(-log(items[i].p) - entropy);
        qsort(items, (size_t)n, sizeof *items, compare);
        int keep = 0;
        double mass = 0;
        while (keep < n && (mass < p_typical || keep < min_keep)) mass += items[keep++].p;
        for (int i = 0; i < N; i++) got[i] = logits[i];
        odd_typical(got, N, max, p_typical, min_keep, cands);
        int kept = 0, wrong = 0;
        for (int i = 0; i < N; i++) kept += isfinite(got[i]);
        for (int i = 0; i < keep; i++) wrong += !isfinite(got[items[i].id]);
        /* rounding may move the border by neighbours of equal distance */
        assert_true(abs(kept - keep) <= 2 && wrong <= 2);
        assert_true(kept >= min_keep || kept == n);
        for (int i = 0; i < N; i++) assert_true(!isfinite(got[i]) || got[i] == logits[i]);
    }
}

static void test_exclude_top(void **state) {
    (void)state;
    float logits[] = {logf(0.1f), logf(0.4f), logf(0.2f), logf(0.25f), logf(0.05f)};
    float row[5];
    for (int i = 0; i < 5; i++) row[i] = logits[i];
    assert_int_equal(odd_exclude_top(row, 5, logits[1], 0.15, NULL, NULL), 2);
    assert_true(!isfinite(row[1]) && !isfinite(row[3]) && isfinite(row[2]) && isfinite(row[0]));
    for (int i = 0; i < 5; i++) row[i] = logits[i];
    assert_int_equal(odd_exclude_top(row, 5, logits[1], 0.3, NULL, NULL), 0); /* only one */
    assert_int_equal(odd_exclude_top(row, 5, logits[1], 0.5, NULL, NULL), 0);
    /* of those a cut has left: the first two, renormalised 0.62 and 0.38 */
    dist_cand last = {logits[3], 3, 0};
    float block_max[1] = {logits[1]};
    assert_int_equal(odd_exclude_top(row, 5, logits[1], 0.35, &last, block_max), 1);
    assert_true(!isfinite(row[1]) && isfinite(row[3]));
    /* equal probabilities: the highest id is the least likely */
    float same[] = {0, 0, 0};
    assert_int_equal(odd_exclude_top(same, 3, 0, 0.3, NULL, NULL), 2);
    assert_true(isfinite(same[2]));
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_typical),
                                       cmocka_unit_test(test_exclude_top)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
