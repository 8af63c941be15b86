/* What the benchmarks say about numbers they measured: quantiles, the median's and a
 * slope's 95 % confidence interval, a histogram of times in fixed memory. Pure.
 */
#ifndef CLI_STATS_H
#define CLI_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* NaN everywhere below: too few values to say. */
typedef struct stats_interval {
    double value, low, high;
} stats_interval;

/* Sorts v. q in [0, 1], linear between neighbours; NaN of nothing. */
double stats_quantile(double *v, size_t n, double q);
/* Sorts v. The interval runs between order statistics, so it needs no assumption about the
 * distribution; six values at least. */
stats_interval stats_median(double *v, size_t n);

/* Least squares y = a + slope·x over points in order of x. The interval allows for neighbours that
 * resemble each other: its width grows by √((1+r)/(1−r)) with the residuals' lag-1 correlation r
 * where that is positive. Eight points at least. */
typedef struct stats_line {
    stats_interval slope;
    double mean_y;
} stats_line;
stats_line stats_fit(const double *x, const double *y, size_t n);

/* Theil and Sen's slope, the median of those of all pairs of points, x strictly ascending: more than a
 * quarter of the values may be anything. The interval is Sen's, between order statistics of those
 * slopes, wider where neighbours resemble each other: its variance grows by 1 + 2·Σ rₖ over the
 * autocorrelations of the residuals' ranks up to the first that is not positive. Eight points at least.
 * room: [2n]. Time grows with n². */
stats_interval stats_trend(const double *x, const double *y, size_t n, double *room);

/* The largest deviation between two values: max − min; 0 of nothing. */
double stats_range(const double *v, size_t n);

/* Where the claim "the value lies within [low, high]" stands. */
typedef enum stats_verdict { STATS_PASS, STATS_FAIL, STATS_INCONCLUSIVE } stats_verdict;
/* Fails only if the whole interval lies outside the bounds; an interval wider than the bounds are
 * apart (or none at all) decides nothing, unless it lies outside. */
stats_verdict stats_judge(stats_interval i, double low, double high);

/* Times from 1 ns to centuries, 64 buckets to a doubling: quantiles are right within 1.1 %. */
enum { STATS_BUCKETS = 64 * 58 };
typedef struct stats_times {
    uint64_t n, counts[STATS_BUCKETS];
} stats_times;
void stats_add_time(stats_times *t, int64_t ns);
/* In nanoseconds; NaN of nothing. */
double stats_time_quantile(const stats_times *t, double q);

#endif
