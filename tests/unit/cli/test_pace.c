/* The pace on machines that are made up: what the machine does to both sequences cancels, what the run does to
 * itself does not, and the interval knows how far it sees. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "cli/pace.h"

enum { STEP_NS = 15000000, BEGIN = 1088 };

typedef struct machine {
    int64_t n_tokens;
    double wear;      /* of the run: times as slow per 100,000 tokens, 0.02 = 2 % */
    double drift;     /* of the machine: speed lost from the first token to the last, evenly */
    double neighbour; /* time lost to somebody who comes and goes */
    double noise;     /* of each token */
    uint64_t seed;
} machine;

typedef struct made {
    size_t n;
    stats_interval slope, raw; /* raw: of the run's own speed */
} made;

/* The run as the bench does it; tokens are told of as late as a ring of 64 lets them be. */
static made simulate(const machine *m) {
    static pace p;
    static double tokens[PACE_MAX], speed[PACE_MAX], raw[PACE_MAX];
    memset(&p, 0, sizeof p);
    int64_t spacing = pace_spacing(m->n_tokens), n_young = PACE_BURST;
    int64_t *ends = calloc((size_t)m->n_tokens + PACE_BURST, sizeof *ends);
    int64_t told = 0, next_turn = 0;
    double now = 0;
    uint64_t draws = 0;
    bool is_busy = false;
    static int64_t burst[PACE_BURST];
    int64_t burst_from = -1, pause = BEGIN;
    size_t n_raw = 0;
    for (int64_t i = 0; i < m->n_tokens; i++) {
        bool pauses = i == pause;
        for (int k = pauses ? -PACE_BURST : 0; k <= 0; k++) {
            bool young = k < 0;
            if (now >= (double)next_turn) { /* for 0.2 to 20 s, long ones often */
                is_busy = rng_uniform_at(m->seed, draws++) < 0.5;
                next_turn = (int64_t)(now + 2e8 * pow(100, rng_uniform_at(m->seed, draws++)));
            }
            if (young && k == -PACE_BURST) { /* the reader gets to see everything but the last 64 */
                for (; told < i - PACE_BURST; told++) pace_see_run(&p, told, ends[told]);
                for (int64_t b = 0; burst_from >= 0 && b < PACE_BURST; b++)
                    pace_see_young(&p, burst_from + b, burst[b]);
                assert_true(pace_pause(&p, i, n_young));
                burst_from = n_young;
                n_young += PACE_BURST;
            }
            double took = STEP_NS / (1 - m->drift * (double)i / (double)m->n_tokens);
            if (is_busy) took *= 1 + m->neighbour;
            if (!young) took *= 1 + m->wear * (double)i / 1e5;
            took *= 1 + m->noise * (rng_uniform_at(m->seed, draws++) - 0.5) * sqrt(12);
            now += took;
            *(young ? &burst[k + PACE_BURST] : &ends[i]) = (int64_t)now;
        }
        if (pauses) {
            raw[n_raw++] =
                i > BEGIN ? (double)PACE_BURST / (double)(ends[i - 1] - ends[i - 1 - PACE_BURST])
                          : 1;
            pause += spacing;
        }
    }
    for (; told < m->n_tokens; told++) pace_see_run(&p, told, ends[told]);
    for (int64_t b = 0; b < PACE_BURST; b++) pace_see_young(&p, burst_from + b, burst[b]);
    free(ends);
    made out = {.n = pace_take(&p, tokens, speed)};
    out.slope = pace_slope(tokens, speed, out.n);
    out.raw = pace_slope(tokens + 1, raw + 1, out.n - 1);
    return out;
}

static stats_verdict judge(stats_interval s) {
    return stats_judge(s, -1, 1);
}

static void test_machine_that_slows_down(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        made m = simulate(&(machine){100000, 0, 0.3, 0, 0.05, seed});
        if (judge(m.slope) != STATS_PASS || fabs(m.slope.value) > 0.6)
            fail_msg("%g [%g, %g]", m.slope.value, m.slope.low, m.slope.high);
        assert_int_equal(judge(m.raw), STATS_FAIL); /* or there was nothing to cancel */
        assert_true(m.raw.high < -20);
    }
}

static void test_neighbour_who_comes_and_goes(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        made m = simulate(&(machine){100000, 0, 0.3, 0.3, 0.05, seed});
        if (judge(m.slope) == STATS_FAIL || fabs(m.slope.value) > 1)
            fail_msg("%g [%g, %g]", m.slope.value, m.slope.low, m.slope.high);
    }
}

static void test_run_that_wears_out(void **state) {
    (void)state;
    for (uint64_t seed = 1; seed <= 5; seed++) {
        static const double drifts[] = {0, 0.3, -0.3};
        for (int k = 0; k < 3; k++) {
            made m = simulate(&(machine){100000, 0.02, drifts[k], 0, 0.03, seed});
            if (judge(m.slope) != STATS_FAIL || m.slope.high > -1.2)
                fail_msg("%g [%g, %g]", m.slope.value, m.slope.low, m.slope.high);
        }
    }
    made m = simulate(&(machine){1000000, 0.02, 0.3, 0.3, 0.05, 1});
    assert_int_equal(judge(m.slope), STATS_FAIL);
}

static void test_short_run_says_it_cannot_tell(void **state) {
    (void)state;
    made m = simulate(&(machine){20000, 0, 0, 0, 0.1, 1});
    assert_in_range(m.n, 120, 160);
    assert_int_equal(judge(m.slope), STATS_INCONCLUSIVE);
    assert_true(m.slope.low < 0 && 0 < m.slope.high);
    m = simulate(&(machine){20000, 0, 0, 0, 0.003, 1}); /* a machine that quiet does not exist */
    assert_int_equal(judge(m.slope), STATS_PASS);
    assert_true(isnan(pace_slope((double[]){1, 2}, (double[]){1, 1}, 2).low));
}

static void test_intervals_hold(void **state) {
    (void)state;
    enum { TRIES = 100 };
    int held = 0;
    for (uint64_t seed = 0; seed < TRIES; seed++) {
        made m = simulate(&(machine){40000, 0, 0.3, 0.3, 0.05, seed + 100});
        held += m.slope.low <= 0 && 0 <= m.slope.high;
    }
    if (held < TRIES * 90 / 100) fail_msg("%d of %d intervals hold the slope", held, TRIES);
}

static void test_spacing(void **state) {
    (void)state;
    static const int64_t tokens[] = {1, 2000, 20000, 41000, 100000, 1000000, 50000000};
    int64_t before = 0;
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++) {
        int64_t s = pace_spacing(tokens[i]);
        assert_true(s >= PACE_CLOSEST && s >= before && tokens[i] / s < PACE_MAX - 1);
        if (tokens[i] >= 256000) assert_true(s >= 10 * PACE_BURST); /* a tenth more */
        before = s;
    }
}

static void test_pauses_of_another_kind(void **state) {
    (void)state;
    static pace p;
    memset(&p, 0, sizeof p);
    double tokens[4], speed[4];
    int64_t now = 0;
    assert_true(pace_pause(&p, 200, 64));
    assert_true(pace_pause(&p, 400, -1)); /* a new reference begins */
    assert_true(pace_pause(&p, 600, 192));
    assert_true(pace_pause(&p, 800, 256)); /* the run ends before it has its tokens */
    for (int64_t i = 0; i < 860; i++) {
        bool paused = i == 200 || i == 400 || i == 600 || i == 800;
        now += paused ? 1000000 : 10;
        assert_int_equal(pace_see_run(&p, i, now), paused);
    }
    for (int64_t i = 0; i < 320; i++) pace_see_young(&p, i, i * (i < 192 ? 10 : 5));
    assert_int_equal(pace_take(&p, tokens, speed), 2);
    assert_true(tokens[0] == 200 && speed[0] == 1);
    assert_true(tokens[1] == 600 && speed[1] == 0.5);
    while (p.n < PACE_MAX) assert_true(pace_pause(&p, 1000 + 200 * (int64_t)p.n, -1));
    assert_false(pace_pause(&p, 1 << 30, -1));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_machine_that_slows_down),
        cmocka_unit_test(test_neighbour_who_comes_and_goes),
        cmocka_unit_test(test_run_that_wears_out),
        cmocka_unit_test(test_short_run_says_it_cannot_tell),
        cmocka_unit_test(test_intervals_hold),
        cmocka_unit_test(test_spacing),
        cmocka_unit_test(test_pauses_of_another_kind),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
