/* The pace of the window bench's long run: its speed against that of a reference, a young
 * sequence just past its window, so that what the machine does to both cancels.
 *
 * At regular points the run pauses for one burst of the reference. A point's pace is the
 * reference's time per token over the run's own, from as many tokens before the pause and as
 * many after it as the burst is long: run, reference, run. A machine that speeds up or slows
 * down evenly meanwhile changes nothing. Tokens are told apart by their number alone, because
 * their times are read long after they ran. Pure bookkeeping: no clock, no engine.
 *
 * What slows the whole process, young sequences too, cannot be seen here.
 */
#ifndef CLI_PACE_H
#define CLI_PACE_H

#include "cli/stats.h"

enum {
    PACE_BURST = 64, /* tokens of the reference at a point */
    PACE_MAX = 2048, /* points */
    /* Apart: a tenth of the run's time, but 400 points where they are to be had; never closer than
     * lets a point have its tokens. */
    PACE_USUAL = 10 * PACE_BURST,
    PACE_ENOUGH = 400,
    PACE_CLOSEST = 2 * PACE_BURST,
    PACE_KEPT = 4 * PACE_BURST, /* of the run's last times */
};

typedef struct pace_point {
    int64_t run_from, young_from; /* the first token after the pause; of the burst, -1 = none */
    double run_ns, young_ns;      /* per token; 0 = not seen (yet) */
} pace_point;

typedef struct pace {
    size_t n, n_run, n_young; /* points; those seen to their end */
    int64_t ends[PACE_KEPT], young_begin;
    pace_point points[PACE_MAX];
} pace;

/* Tokens from one point to the next in a run that long. */
int64_t pace_spacing(int64_t n_tokens);
/* The run pauses after run_from tokens, PACE_CLOSEST or more after the pause before, and the young
 * sequence runs its tokens [young_from, + PACE_BURST); -1: a pause for another purpose. False when
 * there is no room for more. */
bool pace_pause(pace *p, int64_t run_from, int64_t young_from);
/* Each token in order, from 0; end_ns: when it was there. True: a pause was before it, and the time
 * since the token before is none of its own. */
bool pace_see_run(pace *p, int64_t index, int64_t end_ns);
/* The same of the young sequences' tokens, numbered on through all of them. */
void pace_see_young(pace *p, int64_t index, int64_t end_ns);
/* Complete points: where (tokens of the run) and the pace there. [PACE_MAX]; how many. */
size_t pace_take(const pace *p, double *tokens, double *speed);
/* Percent per 100,000 tokens: Theil and Sen's slope of the pace's logarithm. */
stats_interval pace_slope(const double *tokens, const double *speed, size_t n);

#endif
