/* Which of the window's promises a measurement confirms. A criterion fails when the
 * numbers contradict it and is inconclusive when they cannot tell.
 */
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "cli/window.h"

static window_check *add(window_result *r, const char *name, stats_verdict v, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
static window_check *add(window_result *r, const char *name, stats_verdict v, const char *fmt,
                         ...) {
    window_check *c = &r->checks[r->n_checks++];
    c->name = name;
    c->verdict = v;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(c->detail, sizeof c->detail, fmt, ap);
    va_end(ap);
    return c;
}

static stats_verdict holds(bool yes) {
    return yes ? STATS_PASS : STATS_FAIL;
}
static stats_verdict unless_few(stats_verdict v, bool enough) {
    return v == STATS_PASS && !enough ? STATS_INCONCLUSIVE : v;
}

static void judge_counters(window_result *r) {
    bool counted = r->n_counted > KV_BLOCK;
    enum { GROUPS = 2 }; /* full and sliding layers have blocks of their own */
    add(r, "rows attended", unless_few(holds(r->attended_min == r->attended_max), counted),
        "%lld to %lld key rows a token, over %lld tokens past the window",
        (long long)r->attended_min, (long long)r->attended_max, (long long)r->n_counted);
    add(r, "blocks held",
        unless_few(holds(r->n_uneven == 0 && r->blocks_max - r->blocks_min <= GROUPS), counted),
        "%lld to %lld blocks; %lld tokens held other than the token a block before",
        (long long)r->blocks_min, (long long)r->blocks_max, (long long)r->n_uneven);
    if (r->counts_allocs)
        add(r, "allocations", unless_few(holds(r->n_allocs == 0), counted),
            "%llu heap allocations by all threads during %lld tokens",
            (unsigned long long)r->n_allocs, (long long)r->n_counted);
    else
        add(r, "allocations", STATS_INCONCLUSIVE,
            "another malloc stands in front of the counting one");
    add(r, "windows passed",
        r->n_windows >= WINDOW_ENOUGH_WINDOWS ? STATS_PASS : STATS_INCONCLUSIVE,
        "the run is %.1f windows long; %d are asked for", r->n_windows, WINDOW_ENOUGH_WINDOWS);
}

static void judge_memory(window_result *r, const char *name, const window_memory *m) {
    double kib = 1024, block = (double)r->block_bytes;
    stats_verdict v = stats_judge(m->slope, -WINDOW_MEMORY_BOUND, WINDOW_MEMORY_BOUND);
    if (m->range > block) v = STATS_FAIL;
    add(r, name, v,
        "%.1f KiB per 100,000 tokens [%.1f, %.1f], bound %.0f; range %.0f KiB, one block is %.0f",
        m->slope.value / kib, m->slope.low / kib, m->slope.high / kib, WINDOW_MEMORY_BOUND / kib,
        m->range / kib, block / kib);
}

static void judge_chat(window_result *r) {
    const window_chat *c = &r->chat;
    if (c->skipped[0]) {
        add(r, "prompt length", STATS_INCONCLUSIVE, "%s", c->skipped);
        return;
    }
    add(r, "prompt length",
        unless_few(holds(c->longest <= c->limit), c->n_cuts >= WINDOW_ENOUGH_CUTS),
        "the longest of %lld prompts has %lld tokens of %lld; it was cut %lld times, %d are asked for",
        (long long)c->n_turns, (long long)c->longest, (long long)c->limit, (long long)c->n_cuts,
        WINDOW_ENOUGH_CUTS);
}

void window_judge(const window_options *o, window_result *r) {
    r->n_checks = 0;
    judge_counters(r);
    if (o->n_turns > 0) judge_chat(r);
    if (o->counters_only) return;
    stats_verdict v = stats_judge(r->ratio, 1 - WINDOW_RATIO_BOUND, 1 + WINDOW_RATIO_BOUND);
    if (fabs(r->ratio.value - 1) > WINDOW_RATIO_BOUND && v == STATS_PASS) v = STATS_INCONCLUSIVE;
    add(r, "deep/shallow", unless_few(v, r->n_pairs >= WINDOW_ENOUGH_PAIRS),
        "median of %zu pairs of %d tokens %.4f [%.4f, %.4f], bound 1 ± %.2f; %d pairs are asked for",
        r->n_pairs, WINDOW_BURST, r->ratio.value, r->ratio.low, r->ratio.high, WINDOW_RATIO_BOUND,
        WINDOW_ENOUGH_PAIRS);
    /* Of the pace: others who come or go during the run look like a slope of ours in tokens/s, to its
     * interval too. */
    add(r, "speed slope", stats_judge(r->slope, -WINDOW_SLOPE_BOUND, WINDOW_SLOPE_BOUND),
        "%+.2f %% per 100,000 tokens against the reference [%+.2f, %+.2f] at %zu points, bound ± %.0f %%; "
        "raw %+.2f [%+.2f, %+.2f] with %.2f cores busy with others",
        r->slope.value, r->slope.low, r->slope.high, r->n_paces, WINDOW_SLOPE_BOUND,
        r->raw_slope.value, r->raw_slope.low, r->raw_slope.high, r->foreign_cores);
    judge_memory(r, "resident memory", &r->rss_anon);
    if (o->wants_lock && !(r->locked.level > 0))
        add(r, "locked memory", STATS_INCONCLUSIVE, "--mlock was asked for, but nothing is locked");
    else if (r->locked.level > 0)
        judge_memory(r, "locked memory", &r->locked);
    judge_memory(r, "key/value memory", &r->kv);
}

stats_verdict window_verdict(const window_result *r, int n) {
    stats_verdict worst = STATS_PASS;
    for (int i = 0; i < n; i++)
        for (int k = 0; k < r[i].n_checks; k++) {
            stats_verdict v = r[i].checks[k].verdict;
            if (v == STATS_FAIL) return v;
            if (v == STATS_INCONCLUSIVE) worst = v;
        }
    return worst;
}
