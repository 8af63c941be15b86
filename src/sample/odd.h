/* Two filters that do not keep the likeliest: locally typical sampling and XTC.
 * Both write −inf over what may not be drawn, so they come where logits may still
 * change. Deterministic: ties go to the lower id.
 *
 * Sources: Meister et al., Locally Typical Sampling (2023); XTC as described in
 * text-generation-webui's pull request 6335. Probabilities are those at
 * temperature 1, as for the other filters.
 */
#ifndef SAMPLE_ODD_H
#define SAMPLE_ODD_H

#include "sample/dist.h"

/* Keeps the ids whose surprise is nearest to the distribution's entropy until their mass reaches
 * typical_p, at least min_keep of them. Expected O(n). max: the largest logit, finite. cands [n_vocab]
 * is scratch. */
void odd_typical(float *logits, int32_t n_vocab, float max, double typical_p, int32_t min_keep,
                 dist_cand *cands);

/* Of the ids at or before `last` (NULL = all) with a probability of at least threshold, drops all but
 * the least likely; with fewer than two of them nothing changes. Returns how many were dropped. */
int32_t odd_exclude_top(float *logits, int32_t n_vocab, float max, double threshold,
                        const dist_cand *last, const float *block_max);

#endif
