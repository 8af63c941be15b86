#include "sample/odd.h"

#include <math.h>

/* Nearer to the entropy first, then the lower id. `logit` holds the distance. */
static bool is_nearer(const dist_cand *a, const dist_cand *b) {
    return a->logit < b->logit || (a->logit == b->logit && a->id < b->id);
}

static void swap(dist_cand *a, dist_cand *b) {
    dist_cand c = *a;
    *a = *b;
    *b = c;
}

/* Partitions [lo, hi) so that what is nearer than the pivot comes first; returns the pivot's place. */
static int32_t partition(dist_cand *c, int32_t lo, int32_t hi) {
    int32_t mid = lo + (hi - lo) / 2, at = lo;
    swap(&c[mid], &c[hi - 1]);
    for (int32_t i = lo; i < hi - 1; i++)
        if (is_nearer(&c[i], &c[hi - 1])) swap(&c[i], &c[at++]);
    swap(&c[at], &c[hi - 1]);
    return at;
}

/* The shortest run of nearest candidates with that mass and at least min_keep of them. */
static int32_t find_run(dist_cand *c, int32_t n, double mass, int32_t min_keep) {
    int32_t lo = 0, hi = n;
    double before = 0; /* mass of [0, lo) */
    while (hi - lo > 0) {
        int32_t at = partition(c, lo, hi);
        double with = before;
        for (int32_t i = lo; i <= at; i++) with += (double)c[i].weight;
        /* Is the run [0, at] enough? */
        if (with >= mass && at + 1 >= min_keep) {
            hi = at;
        } else {
            before = with;
            lo = at + 1;
        }
    }
    return lo + 1 < n ? lo + 1 : n;
}

void odd_typical(float *logits, int32_t n_vocab, float max, double typical_p, int32_t min_keep,
                 dist_cand *cands) {
    double sum = 0, dot = 0;
    int32_t n = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        float w = isfinite(logits[i]) ? dist_exp(logits[i] - max) : 0;
        if (w <= 0) continue;
        cands[n++] = (dist_cand){logits[i] - max, i, w};
        sum += (double)w;
        dot += (double)w * (double)(logits[i] - max);
    }
    /* surprise − entropy = (log Σ − x) − (log Σ − Σ p x) */
    double mean = dot / sum;
    for (int32_t k = 0; k < n; k++) cands[k].logit = (float)fabs(mean - (double)cands[k].logit);
    int32_t keep = find_run(cands, n, typical_p * sum, min_keep);
    for (int32_t k = keep; k < n; k++) logits[cands[k].id] = -INFINITY;
    /* What has no weight to speak of is not typical either, unless it has to fill up the rest. */
    for (int32_t i = 0; i < n_vocab && n >= min_keep; i++)
        if (isfinite(logits[i]) && dist_exp(logits[i] - max) <= 0) logits[i] = -INFINITY;
}

int32_t odd_exclude_top(float *logits, int32_t n_vocab, float max, double threshold,
                        const dist_cand *last, const float *block_max) {
    double sum = dist_sum(logits, n_vocab, max, 1, last, last ? block_max : NULL, NULL);
    float least = INFINITY;
    int32_t least_id = -1, n = 0;
    for (int32_t i = 0; i < n_vocab; i++) {
        if (!(dist_exp(logits[i] - max) >= threshold * sum) ||
            (last && dist_before(last->logit, last->id, logits[i], i)))
            continue;
        n++;
        if (least_id < 0 || dist_before(least, least_id, logits[i], i)) {
            least = logits[i];
            least_id = i;
        }
    }
    if (n < 2) return 0;
    int32_t n_dropped = 0;
    for (int32_t i = 0; i < n_vocab; i++)
        if (dist_before(logits[i], i, least, least_id)) {
            logits[i] = -INFINITY;
            n_dropped++;
        }
    return n_dropped;
}
