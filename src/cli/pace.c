#include "cli/pace.h"

#include <math.h>

int64_t pace_spacing(int64_t n_tokens) {
    int64_t apart = n_tokens / PACE_ENOUGH, least = n_tokens / (PACE_MAX - 2) + 1;
    if (apart < PACE_CLOSEST) apart = PACE_CLOSEST;
    if (apart > PACE_USUAL) apart = PACE_USUAL;
    return apart > least ? apart : least;
}

bool pace_pause(pace *p, int64_t run_from, int64_t young_from) {
    if (p->n == PACE_MAX) return false;
    p->points[p->n++] = (pace_point){.run_from = run_from, .young_from = young_from};
    return true;
}

static double between(const pace *p, int64_t from, int64_t to) {
    return (double)(p->ends[to % PACE_KEPT] - p->ends[from % PACE_KEPT]);
}

bool pace_see_run(pace *p, int64_t index, int64_t end_ns) {
    p->ends[index % PACE_KEPT] = end_ns;
    if (p->n_run == p->n) return false;
    pace_point *at = &p->points[p->n_run];
    int64_t since = index - at->run_from;
    if (since == PACE_BURST) {
        double before = between(p, at->run_from - 1 - PACE_BURST, at->run_from - 1);
        at->run_ns = (before + between(p, at->run_from, index)) / (2 * PACE_BURST);
        p->n_run++;
    }
    return since == 0;
}

void pace_see_young(pace *p, int64_t index, int64_t end_ns) {
    while (p->n_young < p->n && p->points[p->n_young].young_from < 0) p->n_young++;
    if (p->n_young == p->n) return;
    pace_point *at = &p->points[p->n_young];
    if (index == at->young_from) p->young_begin = end_ns;
    if (index != at->young_from + PACE_BURST - 1) return;
    at->young_ns = (double)(end_ns - p->young_begin) / (PACE_BURST - 1);
    p->n_young++;
}

size_t pace_take(const pace *p, double *tokens, double *speed) {
    size_t n = 0;
    for (size_t i = 0; i < p->n; i++) {
        const pace_point *at = &p->points[i];
        if (!(at->run_ns > 0 && at->young_ns > 0)) continue;
        tokens[n] = (double)at->run_from;
        speed[n++] = at->young_ns / at->run_ns;
    }
    return n;
}

stats_interval pace_slope(const double *tokens, const double *speed, size_t n) {
    static double x[PACE_MAX], y[PACE_MAX], room[2 * PACE_MAX];
    for (size_t i = 0; i < n; i++) {
        x[i] = tokens[i] / 1e5;
        y[i] = log(speed[i]);
    }
    stats_interval s = stats_trend(x, y, n, room);
    return (stats_interval){expm1(s.value) * 100, expm1(s.low) * 100, expm1(s.high) * 100};
}
