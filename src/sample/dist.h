/* The arithmetic below the sampler, over one row of logits walked in blocks:
 * maxima, exponentials, rank, and the cut that top_k, top_p and min_p make.
 * Exponentials are our own, in single precision with sums in double, because
 * libm's differ between machines and a seed must not. Relative error < 3e-7.
 * Pure; nothing allocates.
 */
#ifndef SAMPLE_DIST_H
#define SAMPLE_DIST_H

#include "sample/sample.h"

enum { DIST_BLOCK = 256 }; /* ids per block: long enough to vectorise, short enough to skip */

static inline int32_t dist_n_blocks(int32_t n_vocab) {
    return (n_vocab + DIST_BLOCK - 1) / DIST_BLOCK;
}

/* A place in the ranking: larger logit first, then lower id. */
typedef struct dist_cand {
    float logit;
    int32_t id;
    float weight; /* exp(logit − max) */
} dist_cand;

static inline bool dist_before(float la, int32_t ia, float lb, int32_t ib) {
    return la > lb || (la == lb && ia < ib);
}

/* exp(x) for x ≤ 0; 0 below −88, where single precision ends. */
float dist_exp(float x);

/* Writes −inf over every value that is not finite, and over ids that `mask` (a bit per id below n_mask,
 * NULL: all are allowed) leaves out, and fills block_max [dist_n_blocks]. Returns the maximum, −inf
 * when nothing is left. Blocks of which nothing is left keep what they hold: a maximum of −inf says
 * that nobody may look (all below keep to it; dist_clear_dead is for readers that do not). */
float dist_max(float *logits, int32_t n_vocab, const uint64_t *mask, int32_t n_mask,
               float *block_max);
void dist_clear_dead(float *logits, int32_t n_vocab, const float *block_max);

/* Σ exp((logits[i] − max)·scale) over finite logits; block_sum [dist_n_blocks] may be NULL. Only
 * ids that rank at or before `last` count; NULL = all. block_max may be NULL without `last`: then every
 * block is looked at. */
double dist_sum(const float *logits, int32_t n_vocab, float max, float scale, const dist_cand *last,
                const float *block_max, double *block_sum);
/* The id whose interval holds `target` in [0, Σ), intervals laid in order of id as dist_sum summed. */
int32_t dist_find(const float *logits, int32_t n_vocab, float max, float scale,
                  const dist_cand *last, const double *block_sum, double target);

typedef struct dist_filter {
    int32_t top_k, min_keep;
    double top_p, min_p;
} dist_filter;
/* The last candidate in rank that the filters keep. `cands` [n_vocab] is scratch. Precondition: max is
 * finite. */
dist_cand dist_cut(const float *logits, int32_t n_vocab, float max, const float *block_max,
                   const dist_filter *f, dist_cand *cands);

#endif
