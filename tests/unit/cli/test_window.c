/* The verdicts: each criterion passes, fails and stays open where it should, and the worst one decides. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "cli/window.h"

static window_result good;
static const window_options timed = {.n_tokens = 100000, .n_turns = 100, .n_pairs = 300};

static void setup_good(void) {
    good = (window_result){.max_kv_size = 256,
                           .n_windows = 390,
                           .block_bytes = 65536,
                           .n_counted = 99000,
                           .attended_min = 768,
                           .attended_max = 768,
                           .blocks_min = 12,
                           .blocks_max = 14,
                           .counts_allocs = true,
                           .slope = {0.1, -0.4, 0.6},
                           .n_pairs = 300,
                           .ratio = {1.001, 0.996, 1.005},
                           .rss_anon = {{100, -400, 600}, 8e6, 4096},
                           .locked = {{0, 0, 0}, 8e6, 0},
                           .kv = {{0, 0, 0}, 4e5, 0},
                           .chat = {.n_turns = 100, .n_cuts = 12, .limit = 900, .longest = 899}};
}

static stats_verdict verdict_of(const window_options *o, const char *name) {
    window_result r = good;
    window_judge(o, &r);
    stats_verdict all = window_verdict(&r, 1), v = STATS_PASS;
    bool found = false;
    for (int i = 0; i < r.n_checks; i++) {
        assert_true(strlen(r.checks[i].detail) > 10);
        if (strcmp(r.checks[i].name, name) == 0) {
            v = r.checks[i].verdict;
            found = true;
        } else if (r.checks[i].verdict != STATS_PASS)
            fail_msg("%s changed as well: %s", r.checks[i].name, r.checks[i].detail);
    }
    if (!found) fail_msg("there is no criterion %s", name);
    assert_int_equal(all, v);
    setup_good();
    return v;
}
#define EXPECT(name, want, ...)                           \
    do {                                                  \
        __VA_ARGS__;                                      \
        assert_int_equal(verdict_of(&timed, name), want); \
    } while (0)

static void test_each(void **state) {
    (void)state;
    setup_good();
    EXPECT("rows attended", STATS_PASS, (void)0);
    EXPECT("rows attended", STATS_FAIL, good.attended_max = 769);
    EXPECT("blocks held", STATS_FAIL, good.n_uneven = 1);
    EXPECT("blocks held", STATS_FAIL, good.blocks_max = 15);
    EXPECT("allocations", STATS_FAIL, good.n_allocs = 1);
    EXPECT("allocations", STATS_INCONCLUSIVE, good.counts_allocs = false);
    EXPECT("windows passed", STATS_INCONCLUSIVE, good.n_windows = 9.9);
    EXPECT("deep/shallow", STATS_FAIL, good.ratio = ((stats_interval){1.05, 1.03, 1.06}));
    EXPECT("deep/shallow", STATS_FAIL, good.ratio = ((stats_interval){0.95, 0.94, 0.96}));
    EXPECT("deep/shallow", STATS_INCONCLUSIVE, good.ratio = ((stats_interval){1.0, 0.97, 1.03}));
    EXPECT("deep/shallow", STATS_INCONCLUSIVE, good.ratio = ((stats_interval){1.021, 1.01, 1.03}));
    EXPECT("deep/shallow", STATS_INCONCLUSIVE, good.n_pairs = 299);
    EXPECT("speed slope", STATS_FAIL, good.slope = ((stats_interval){-3, -4, -1.1}));
    EXPECT("speed slope", STATS_FAIL, good.slope = ((stats_interval){-40, -74, -7}),
           good.foreign_cores = 1); /* the reference had them too */
    EXPECT("speed slope", STATS_PASS, good.raw_slope = ((stats_interval){-40, -74, -7}));
    EXPECT("speed slope", STATS_INCONCLUSIVE, good.slope = ((stats_interval){0, -2, 2}));
    EXPECT("speed slope", STATS_PASS, good.slope = ((stats_interval){-0.9, -1.5, -0.3}));
    EXPECT("speed slope", STATS_INCONCLUSIVE, good.slope.low = NAN);
    EXPECT("resident memory", STATS_FAIL, good.rss_anon.range = 65537);
    EXPECT("resident memory", STATS_FAIL,
           good.rss_anon.slope = ((stats_interval){1e5, 7e4, 1.3e5}));
    EXPECT("resident memory", STATS_INCONCLUSIVE,
           good.rss_anon.slope = ((stats_interval){0, -7e4, 7e4}));
    EXPECT("locked memory", STATS_FAIL, good.locked.range = 70000);
    EXPECT("key/value memory", STATS_FAIL, good.kv.range = 70000);
    EXPECT("prompt length", STATS_FAIL, good.chat.longest = 901);
    EXPECT("prompt length", STATS_INCONCLUSIVE, good.chat.n_cuts = 9);
    EXPECT("prompt length", STATS_INCONCLUSIVE, strcpy(good.chat.skipped, "no chat template"));
}

static void test_lock_asked_for(void **state) {
    (void)state;
    setup_good();
    window_options o = timed;
    o.wants_lock = true;
    assert_int_equal(verdict_of(&o, "locked memory"), STATS_PASS);
    good.locked = (window_memory){{0, 0, 0}, 0, 0};
    assert_int_equal(verdict_of(&o, "locked memory"), STATS_INCONCLUSIVE);
}

static void test_counters_only(void **state) {
    (void)state;
    setup_good();
    window_options o = {.n_tokens = 20000, .counters_only = true};
    good.slope = good.ratio = (stats_interval){NAN, NAN, NAN}; /* not measured, not judged */
    good.rss_anon.range = 1e9;
    window_judge(&o, &good);
    assert_int_equal(good.n_checks, 4);
    assert_int_equal(window_verdict(&good, 1), STATS_PASS);
    window_result both[2] = {good, good};
    both[0].checks[0].verdict = STATS_INCONCLUSIVE;
    assert_int_equal(window_verdict(both, 2), STATS_INCONCLUSIVE);
    both[1].checks[3].verdict = STATS_FAIL;
    assert_int_equal(window_verdict(both, 2), STATS_FAIL);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_each),
                                       cmocka_unit_test(test_lock_asked_for),
                                       cmocka_unit_test(test_counters_only)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
