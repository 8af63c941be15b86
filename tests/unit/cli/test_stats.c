/* The benchmarks' statistics: values worked out elsewhere, and coverage: 95 % intervals hold the truth
 * about 95 times in 100, of independent noise and of noise that drifts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "cli/stats.h"

static void assert_near(double a, double b, double by) {
    if (!(fabs(a - b) <= by)) fail_msg("%.9g is not within %g of %.9g", a, by, b);
}

/* A standard normal by Box and Muller. */
static double noise(uint64_t seed, uint64_t i) {
    double u = rng_uniform_at(seed, 2 * i), v = rng_uniform_at(seed, 2 * i + 1);
    return sqrt(-2 * log(1 - u)) * cos(2 * M_PI * v);
}

static void test_quantiles(void **state) {
    (void)state;
    double v[] = {5, 1, 4, 2, 3};
    assert_near(stats_quantile(v, 5, 0.5), 3, 0);
    assert_near(stats_quantile(v, 5, 0), 1, 0);
    assert_near(stats_quantile(v, 5, 1), 5, 0);
    assert_near(stats_quantile(v, 5, 0.625), 3.5, 1e-12);
    double w[] = {4, 1, 3, 2};
    assert_near(stats_quantile(w, 4, 0.5), 2.5, 1e-12);
    assert_true(isnan(stats_quantile(w, 0, 0.5)));
    assert_true(isnan(stats_median(w, 4).low));
    assert_near(stats_range(v, 5), 4, 0);
    assert_near(stats_range(v, 0), 0, 0);
}

static void test_median_covers(void **state) {
    (void)state;
    enum { N = 101, TRIES = 1000 };
    int held = 0;
    double width = 0;
    for (uint64_t t = 0; t < TRIES; t++) {
        double v[N];
        for (uint64_t i = 0; i < N; i++) v[i] = exp(noise(t, i)); /* skewed; its median is 1 */
        stats_interval m = stats_median(v, N);
        assert_true(m.low <= m.value && m.value <= m.high);
        held += m.low <= 1 && 1 <= m.high;
        width += (m.high - m.low) / TRIES;
    }
    if (held < 930 || held > 990) fail_msg("%d of 1000 intervals hold the median", held);
    assert_true(width < 0.7);
}

static void test_fit_by_hand(void **state) {
    (void)state;
    /* Straight from the textbook's formulas; t(6) = 2.446912. The residuals alternate, so that their
     * correlation widens nothing. */
    double x[] = {1, 2, 3, 4, 5, 6, 7, 8}, y[] = {2.1, 3.8, 6.2, 7.8, 10.1, 11.8, 14.1, 15.7};
    stats_line l = stats_fit(x, y, 8);
    double mx = 4.5, my = 8.95, sxx = 42, sxy = 0, ss = 0;
    for (int i = 0; i < 8; i++) sxy += (x[i] - mx) * (y[i] - my);
    double slope = sxy / sxx;
    for (int i = 0; i < 8; i++) ss += pow(y[i] - my - slope * (x[i] - mx), 2);
    assert_near(l.slope.value, slope, 1e-12);
    assert_near(l.slope.high - l.slope.value, 2.446912 * sqrt(ss / 6 / sxx), 1e-4);
    assert_near(l.mean_y, my, 1e-12);
    assert_true(isnan(stats_fit(x, y, 7).slope.low));
    double same[8] = {3, 3, 3, 3, 3, 3, 3, 3};
    assert_true(isnan(stats_fit(same, y, 8).slope.value)); /* no spread in x */
    l = stats_fit(x, same, 8);
    assert_near(l.slope.low, 0, 0); /* a constant has slope 0, surely */
    assert_near(l.slope.high, 0, 0);
}

static void test_fit_covers(void **state) {
    (void)state;
    enum { N = 200, TRIES = 1000 };
    for (int drift = 0; drift < 2; drift++) {
        int held = 0;
        for (uint64_t t = 0; t < TRIES; t++) {
            double x[N], y[N], walk = 0;
            for (uint64_t i = 0; i < N; i++) {
                walk = (drift ? 0.6 : 0) * walk + noise(t + 5000, i);
                x[i] = (double)i;
                y[i] = 7 - 0.25 * x[i] + walk;
            }
            stats_interval s = stats_fit(x, y, N).slope;
            held += s.low <= -0.25 && -0.25 <= s.high;
        }
        if (held < 925 || held > 985)
            fail_msg("%d of 1000 intervals hold the slope (drift %d)", held, drift);
    }
}

static void test_trend_by_hand(void **state) {
    (void)state;
    double x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, room[20];
    double y[] = {2.1, 3.8, 6.2, 7.8, 10.1, 11.8, 14.1, 15.7, 90, 19.9};
    stats_interval s = stats_trend(x, y, 10, room);
    double all[45];
    size_t n = 0;
    for (int i = 0; i < 10; i++)
        for (int j = i + 1; j < 10; j++) all[n++] = (y[j] - y[i]) / (x[j] - x[i]);
    assert_near(s.value, stats_quantile(all, 45, 0.5), 1e-12); /* all is sorted from here on */
    /* S has the standard deviation √125, 1.96 of which are 21.9: (45 ∓ 21.9) / 2 */
    assert_near(s.low, all[10], 1e-12);
    assert_near(s.high, all[34], 1e-12);
    assert_true(s.high < 2.5); /* 90 is one value of ten */
    assert_true(isnan(stats_trend(x, y, 7, room).low));
    double same[8] = {3, 3, 3, 3, 3, 3, 3, 3};
    s = stats_trend(x, same, 8, room);
    assert_true(s.low == 0 && s.value == 0 && s.high == 0);
}

static void test_trend_covers(void **state) {
    (void)state;
    enum { N = 120, TRIES = 500, PLAIN = 0, DRIFTS, WILD, KINDS };
    for (int kind = 0; kind < KINDS; kind++) {
        int held = 0;
        for (uint64_t t = 0; t < TRIES; t++) {
            double x[N], y[N], room[2 * N], walk = 0;
            for (uint64_t i = 0; i < N; i++) {
                walk = (kind == DRIFTS ? 0.5 : 0) * walk + noise(t + 9000, i);
                x[i] = (double)i;
                y[i] = 7 - 0.25 * x[i] + walk;
                if (kind == WILD && rng_uniform_at(t, i) < 0.1) y[i] += 40;
            }
            stats_interval s = stats_trend(x, y, N, room);
            assert_true(s.low <= s.value && s.value <= s.high);
            held += s.low <= -0.25 && -0.25 <= s.high;
        }
        if (held < TRIES * 92 / 100)
            fail_msg("%d of %d intervals hold the slope (kind %d)", held, TRIES, kind);
    }
}

static void test_judge(void **state) {
    (void)state;
    assert_int_equal(stats_judge((stats_interval){0, -0.5, 0.5}, -1, 1), STATS_PASS);
    assert_int_equal(stats_judge((stats_interval){0.9, 0.5, 1.3}, -1, 1), STATS_PASS);
    assert_int_equal(stats_judge((stats_interval){2, 1.1, 2.9}, -1, 1), STATS_FAIL);
    assert_int_equal(stats_judge((stats_interval){-2, -3, -1.1}, -1, 1), STATS_FAIL);
    assert_int_equal(stats_judge((stats_interval){9, 2, 16}, -1, 1), STATS_FAIL);
    assert_int_equal(stats_judge((stats_interval){0, -2, 2}, -1, 1), STATS_INCONCLUSIVE);
    assert_int_equal(stats_judge((stats_interval){0, NAN, NAN}, -1, 1), STATS_INCONCLUSIVE);
}

static void test_times(void **state) {
    (void)state;
    static stats_times t;
    assert_true(isnan(stats_time_quantile(&t, 0.5)));
    for (int64_t ns = 1; ns <= 1000000; ns++) stats_add_time(&t, ns);
    assert_near(stats_time_quantile(&t, 0.5), 500000, 500000 * 0.011);
    assert_near(stats_time_quantile(&t, 0.99), 990000, 990000 * 0.011);
    assert_near(stats_time_quantile(&t, 0.00001), 10, 0);
    static stats_times one;
    static const int64_t values[] = {0, 1, 63, 64, 65, 127, 128, 999, 123456789, INT64_MAX / 2, -5};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        memset(&one, 0, sizeof one);
        stats_add_time(&one, values[i]);
        double v = values[i] < 0 ? 0 : (double)values[i];
        assert_near(stats_time_quantile(&one, 0.5), v, v * 0.011);
    }
    stats_add_time(&one, INT64_MAX); /* the last bucket: no overrun */
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantiles),     cmocka_unit_test(test_median_covers),
        cmocka_unit_test(test_fit_by_hand),   cmocka_unit_test(test_fit_covers),
        cmocka_unit_test(test_trend_by_hand), cmocka_unit_test(test_trend_covers),
        cmocka_unit_test(test_judge),         cmocka_unit_test(test_times),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
