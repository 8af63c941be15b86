#include "cli/stats.h"

#include <math.h>
#include <stdlib.h>

static const double Z = 1.959963984540054; /* 97.5 % of a standard normal lies below */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double quantile_of_sorted(const double *v, size_t n, double q) {
    if (n == 0) return NAN;
    double at = q * (double)(n - 1);
    size_t i = (size_t)at;
    if (i + 1 >= n) return v[n - 1];
    return v[i] + (at - (double)i) * (v[i + 1] - v[i]);
}

double stats_quantile(double *v, size_t n, double q) {
    qsort(v, n, sizeof *v, by_value);
    return quantile_of_sorted(v, n, q);
}

stats_interval stats_median(double *v, size_t n) {
    stats_interval out = {stats_quantile(v, n, 0.5), NAN, NAN};
    if (n < 6) return out;
    /* The number of values below the true median is binomial(n, 1/2): the order statistics that far
     * from the middle enclose it. */
    double reach = Z * sqrt((double)n) / 2;
    double low = floor((double)n / 2 - reach), high = ceil((double)n / 2 + reach);
    out.low = v[low < 1 ? 0 : (size_t)low - 1];
    out.high = v[high >= (double)n ? n - 1 : (size_t)high];
    return out;
}

/* 97.5 % quantile of Student's t: the expansion of Abramowitz and Stegun, 26.7.5. */
static double student(double df) {
    double z = Z, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
    return z + (z3 + z) / (4 * df) + (5 * z5 + 16 * z3 + 3 * z) / (96 * df * df) +
           (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * df * df * df);
}

stats_line stats_fit(const double *x, const double *y, size_t n) {
    stats_line out = {{NAN, NAN, NAN}, NAN};
    double mx = 0, my = 0, sxx = 0, sxy = 0;
    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    if (n > 0) out.mean_y = my;
    for (size_t i = 0; i < n; i++) {
        sxx += (x[i] - mx) * (x[i] - mx);
        sxy += (x[i] - mx) * (y[i] - my);
    }
    if (n < 8 || sxx <= 0) return out;
    double slope = sxy / sxx, ss = 0, lagged = 0, before = 0;
    for (size_t i = 0; i < n; i++) {
        double r = y[i] - my - slope * (x[i] - mx);
        ss += r * r;
        lagged += r * before;
        before = r;
    }
    double r = ss > 0 ? lagged / ss : 0;
    if (r < 0) r = 0;
    if (r > 0.99) r = 0.99;
    double df = (double)(n - 2), se = sqrt(ss / df / sxx) * sqrt((1 + r) / (1 - r));
    double reach = student(df) * se;
    out.slope = (stats_interval){slope, slope - reach, slope + reach};
    return out;
}

/* The slope of that rank, from 0, among all pairs': by bisection of the value, so that nobody has to
 * keep n² of them. */
static double slope_of_rank(const double *x, const double *y, size_t n, double rank) {
    double low = INFINITY, high = -INFINITY;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n; j++) {
            double s = (y[j] - y[i]) / (x[j] - x[i]);
            if (s < low) low = s;
            if (s > high) high = s;
        }
    for (;;) {
        double s = low + (high - low) / 2;
        if (!(s > low && s < high)) return high;
        size_t below = 0;
        for (size_t i = 0; i < n; i++)
            for (size_t j = i + 1; j < n; j++) below += y[j] - y[i] <= s * (x[j] - x[i]);
        *((double)below > rank ? &high : &low) = s;
    }
}

/* By how much the variance of a mean of these exceeds that of independent values. */
static double dependence(const double *v, size_t n, double *rank) {
    double mean = (double)(n - 1) / 2, ss = 0, sum = 1;
    for (size_t i = 0; i < n; i++) {
        rank[i] = -mean;
        for (size_t j = 0; j < n; j++)
            rank[i] += v[j] < v[i] ? 1 : j != i && v[j] == v[i] ? 0.5 : 0;
        ss += rank[i] * rank[i];
    }
    for (size_t lag = 1; lag < n / 4 && ss > 0; lag++) {
        double r = 0;
        for (size_t i = lag; i < n; i++) r += rank[i] * rank[i - lag] / ss;
        if (r <= 0) break;
        sum += 2 * r;
    }
    return sum;
}

stats_interval stats_trend(const double *x, const double *y, size_t n, double *room) {
    stats_interval out = {NAN, NAN, NAN};
    if (n < 8) return out;
    double of = (double)n, last = of * (of - 1) / 2 - 1;
    out.value = slope_of_rank(x, y, n, floor(last / 2));
    for (size_t i = 0; i < n; i++) room[i] = y[i] - out.value * x[i];
    /* Kendall's S of n independent values has this variance. */
    double spread = sqrt(of * (of - 1) * (2 * of + 5) / 18 * dependence(room, n, room + n));
    double low = floor((last + 1 - Z * spread) / 2) - 1, high = ceil((last + 1 + Z * spread) / 2);
    out.low = slope_of_rank(x, y, n, low < 0 ? 0 : low);
    out.high = slope_of_rank(x, y, n, high > last ? last : high);
    return out;
}

double stats_range(const double *v, size_t n) {
    if (n == 0) return 0;
    double low = v[0], high = v[0];
    for (size_t i = 1; i < n; i++) {
        if (v[i] < low) low = v[i];
        if (v[i] > high) high = v[i];
    }
    return high - low;
}

stats_verdict stats_judge(stats_interval i, double low, double high) {
    if (isnan(i.low) || isnan(i.high)) return STATS_INCONCLUSIVE;
    if (i.low > high || i.high < low) return STATS_FAIL;
    return i.high - i.low > high - low ? STATS_INCONCLUSIVE : STATS_PASS;
}

/* ── Times ── */

/* Six bits below the leading one choose the bucket; times below 64 ns have one each. */
static size_t bucket_of(uint64_t ns) {
    if (ns < 64) return (size_t)ns;
    int high = 63 - __builtin_clzll(ns);
    return (size_t)(high - 5) * 64 + (size_t)(ns >> (high - 6) & 63);
}
static double middle_of(size_t bucket) {
    if (bucket < 64) return (double)bucket;
    int high = (int)(bucket / 64) + 5;
    return ldexp(64.5 + (double)(bucket % 64), high - 6);
}

void stats_add_time(stats_times *t, int64_t ns) {
    size_t b = bucket_of(ns < 0 ? 0 : (uint64_t)ns);
    t->counts[b < STATS_BUCKETS ? b : STATS_BUCKETS - 1]++;
    t->n++;
}

double stats_time_quantile(const stats_times *t, double q) {
    double rank = q * (double)t->n, seen = 0;
    size_t last = STATS_BUCKETS;
    for (size_t b = 0; b < STATS_BUCKETS; b++) {
        if (!t->counts[b]) continue;
        last = b;
        seen += (double)t->counts[b];
        if (seen >= rank) break;
    }
    return last == STATS_BUCKETS ? NAN : middle_of(last);
}
