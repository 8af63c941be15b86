#include "sample/dist.h"

#include <math.h>
#include <string.h>

#include "base/hash.h"

/* exp by 2^n · p(r), |r| ≤ ln2/2: n is x/ln2 rounded, r keeps its low bits because ln2 is split in a
 * part with trailing zeros and a rest (Cody & Waite 1980). p is the Taylor polynomial of degree 7.
 * Without a branch, so that loops over it vectorise. */
static inline float clamp_exponent(float x) {
    return x > -88.0f ? x : -88.0f; /* there n = −127, and 2^n comes out as 0 */
}
static inline float exp_clamped(float y) {
    const float log2e = 1.44269504f, ln2_hi = 0.693359375f, ln2_lo = -2.12194440e-4f;
    int32_t n = (int32_t)(y * log2e - 0.5f);
    float nf = (float)n;
    float r = (y - nf * ln2_hi) - nf * ln2_lo;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    union {
        int32_t i;
        float f;
    } two_n = {.i = (n + 127) << 23};
    return p * two_n.f;
}

float dist_exp(float x) {
    return exp_clamped(clamp_exponent(x));
}

/* One block as it is walked: always DIST_BLOCK long, short tails padded with −inf, values that are
 * not finite replaced by −inf. */
static void load_block(const float *logits, int32_t n_vocab, int32_t block, float *restrict out) {
    int32_t at = block * DIST_BLOCK, n = n_vocab - at;
    if (n >= DIST_BLOCK) {
        const float *in = logits + at;
        for (int i = 0; i < DIST_BLOCK; i++) out[i] = in[i] - in[i] == 0 ? in[i] : -INFINITY;
        return;
    }
    for (int i = 0; i < n; i++) out[i] = isfinite(logits[at + i]) ? logits[at + i] : -INFINITY;
    for (int i = n; i < DIST_BLOCK; i++) out[i] = -INFINITY;
}

static void weigh_block(const float *restrict x, float max, float scale, float *restrict out) {
    /* Two loops: in one, the compiler turns the clamp into a jump around the polynomial. */
    for (int i = 0; i < DIST_BLOCK; i++) out[i] = clamp_exponent((x[i] - max) * scale);
    for (int i = 0; i < DIST_BLOCK; i++) out[i] = exp_clamped(out[i]);
}

/* Four lanes of doubles in one fixed order. */
static double sum_block(const float *w) {
    double a = 0, b = 0, c = 0, d = 0;
    for (int i = 0; i < DIST_BLOCK; i += 4) a += w[i], b += w[i + 1], c += w[i + 2], d += w[i + 3];
    return (a + b) + (c + d);
}

/* Sixteen lanes: one chain of maxima would wait for itself. */
static float max_of_block(const float *x) {
    enum { N = 16 };
    float m[N];
    memcpy(m, x, sizeof m);
    for (int i = N; i < DIST_BLOCK; i += N)
        for (int k = 0; k < N; k++) m[k] = x[i + k] > m[k] ? x[i + k] : m[k];
    for (int k = 1; k < N; k++) m[0] = m[k] > m[0] ? m[k] : m[0];
    return m[0];
}

/* Four ids whose bits are `nibble`: all ones for those that stay. */
static const uint32_t NIBBLE[16][4] = {
    {0, 0, 0, 0},     {~0u, 0, 0, 0},     {0, ~0u, 0, 0},     {~0u, ~0u, 0, 0},
    {0, 0, ~0u, 0},   {~0u, 0, ~0u, 0},   {0, ~0u, ~0u, 0},   {~0u, ~0u, ~0u, 0},
    {0, 0, 0, ~0u},   {~0u, 0, 0, ~0u},   {0, ~0u, 0, ~0u},   {~0u, ~0u, 0, ~0u},
    {0, 0, ~0u, ~0u}, {~0u, 0, ~0u, ~0u}, {0, ~0u, ~0u, ~0u}, {~0u, ~0u, ~0u, ~0u}};

/* −inf where the mask's bit is 0. By words: most of them are all ones or all zeros. */
static void keep_allowed(float *restrict x, const uint64_t *mask) {
    static const uint32_t minus_inf = 0xFF800000u;
    for (int w = 0; w < DIST_BLOCK / 64; w++, x += 64) {
        uint64_t bits = mask[w];
        if (bits == UINT64_MAX) continue;
        uint32_t v[64];
        memcpy(v, x, sizeof v);
        for (int i = 0; i < 64; i += 4, bits >>= 4) {
            const uint32_t *keep = NIBBLE[bits & 15];
            for (int k = 0; k < 4; k++) v[i + k] = (v[i + k] & keep[k]) | (minus_inf & ~keep[k]);
        }
        memcpy(x, v, sizeof v);
    }
}

float dist_max(float *logits, int32_t n_vocab, const uint64_t *mask, int32_t n_mask,
               float *block_max) {
    float max = -INFINITY, x[DIST_BLOCK];
    for (int32_t b = 0; b < dist_n_blocks(n_vocab); b++) {
        int32_t at = b * DIST_BLOCK, n = n_vocab - at < DIST_BLOCK ? n_vocab - at : DIST_BLOCK;
        uint64_t bits[DIST_BLOCK / 64], any = 0;
        for (int w = 0; mask && w < DIST_BLOCK / 64; w++) {
            int32_t left = n_mask - at - w * 64;
            bits[w] = left > 0 ? mask[at / 64 + w] : 0;
            if (left > 0 && left < 64) bits[w] &= (1ull << left) - 1;
            any |= bits[w];
        }
        block_max[b] = -INFINITY;
        if (mask && !any) continue;
        load_block(logits, n_vocab, b, x);
        if (mask) keep_allowed(x, bits);
        memcpy(logits + at, x, (size_t)n * sizeof *x);
        block_max[b] = max_of_block(x);
        if (block_max[b] > max) max = block_max[b];
    }
    return max;
}

void dist_clear_dead(float *logits, int32_t n_vocab, const float *block_max) {
    for (int32_t i = 0; i < n_vocab; i++)
        if (block_max[i / DIST_BLOCK] == -INFINITY) logits[i] = -INFINITY;
}

/* Weights of a block with those behind `last` at 0. */
static void weigh_survivors(const float *logits, int32_t n_vocab, int32_t block, float max,
                            float scale, const dist_cand *last, float *w) {
    float x[DIST_BLOCK];
    load_block(logits, n_vocab, block, x);
    if (last) {
        /* Ties with `last` stay up to its id: all of a block before it, none of one behind. */
        int32_t at = block * DIST_BLOCK;
        bool ties = at <= last->id, is_split = ties && at + DIST_BLOCK - 1 > last->id;
        float limit = ties ? last->logit : nextafterf(last->logit, INFINITY);
        for (int i = 0; i < DIST_BLOCK; i++) x[i] = x[i] >= limit ? x[i] : -INFINITY;
        for (int i = 0; is_split && i < DIST_BLOCK; i++)
            if (x[i] == last->logit && at + i > last->id) x[i] = -INFINITY;
    }
    weigh_block(x, max, scale, w);
}

double dist_sum(const float *logits, int32_t n_vocab, float max, float scale, const dist_cand *last,
                const float *block_max, double *block_sum) {
    double sum = 0;
    float w[DIST_BLOCK];
    for (int32_t b = 0; b < dist_n_blocks(n_vocab); b++) {
        double part = 0;
        bool counts = !block_max || (last ? block_max[b] >= last->logit : block_max[b] > -INFINITY);
        if (counts) {
            weigh_survivors(logits, n_vocab, b, max, scale, last, w);
            part = sum_block(w);
        }
        if (block_sum) block_sum[b] = part;
        sum += part;
    }
    return sum;
}

int32_t dist_find(const float *logits, int32_t n_vocab, float max, float scale,
                  const dist_cand *last, const double *block_sum, double target) {
    int32_t block = -1;
    double before = 0;
    for (int32_t b = 0; b < dist_n_blocks(n_vocab); b++) {
        if (!(block_sum[b] > 0)) continue;
        if (block >= 0) before += block_sum[block];
        block = b;
        if (target < before + block_sum[b]) break;
    }
    /* Sums inside a block associate differently than its total: a target at the very edge stays with
     * the block's last token that has any weight. */
    float w[DIST_BLOCK];
    if (block < 0) return 0;
    weigh_survivors(logits, n_vocab, block, max, scale, last, w);
    int32_t found = 0;
    double sum = before;
    for (int i = 0; i < DIST_BLOCK; i++) {
        if (!(w[i] > 0)) continue;
        found = i;
        sum += w[i];
        if (target < sum) break;
    }
    return block * DIST_BLOCK + found;
}

/* ── The cut ──
 * A histogram over max − logit finds the bin in which a cut falls. Everything in earlier bins is
 * kept, so only that bin's tokens are gathered, and quickselect finds the place among them. */

enum { BINS = 512, BINS_PER_NAT = 16, LANES = 4 };

static inline int bin_of(float distance) {
    float b = distance * BINS_PER_NAT;
    return b < BINS - 1 ? (int)b : BINS - 1; /* −inf, and all that is far away, share the last */
}

typedef struct histogram {
    uint32_t count[BINS];
    double mass[BINS];
    double total_mass;
} histogram;

/* Lanes keep neighbouring tokens, which often share a bin, from waiting for each other's store. */
static void fill_histogram(histogram *h, const float *logits, int32_t n_vocab, float max,
                           const float *block_max, bool with_mass) {
    uint32_t count[LANES][BINS] = {{0}};
    double mass[LANES][BINS] = {{0}};
    float x[DIST_BLOCK], w[DIST_BLOCK];
    for (int32_t b = 0; b < dist_n_blocks(n_vocab); b++) {
        if (block_max[b] == -INFINITY) continue; /* the last bin's count is never asked for */
        load_block(logits, n_vocab, b, x);
        int n = n_vocab - b * DIST_BLOCK < DIST_BLOCK ? n_vocab - b * DIST_BLOCK : DIST_BLOCK;
        if (with_mass) weigh_block(x, max, 1, w);
        for (int i = 0; i < n; i++) {
            int bin = bin_of(max - x[i]);
            count[i % LANES][bin]++;
            if (with_mass) mass[i % LANES][bin] += w[i];
        }
    }
    h->total_mass = 0;
    for (int i = 0; i < BINS; i++) {
        h->count[i] = count[0][i] + count[1][i] + count[2][i] + count[3][i];
        h->mass[i] = (mass[0][i] + mass[1][i]) + (mass[2][i] + mass[3][i]);
        h->total_mass += h->mass[i];
    }
}

/* The tokens of one bin in order of id. */
static int32_t gather(const float *logits, int32_t n_vocab, float max, const float *block_max,
                      int bin, dist_cand *out) {
    /* A cheap look first: a little wider than the bin, which bin_of then settles. */
    float slack = 0.01f / BINS_PER_NAT + fabsf(max) * 1e-6f;
    float high = max - (float)bin / BINS_PER_NAT + slack;
    float low = bin == BINS - 1 ? -INFINITY : max - (float)(bin + 1) / BINS_PER_NAT - slack;
    int32_t n = 0;
    for (int32_t b = 0; b < dist_n_blocks(n_vocab); b++) {
        if (!(block_max[b] > low)) continue;
        int32_t end = (b + 1) * DIST_BLOCK < n_vocab ? (b + 1) * DIST_BLOCK : n_vocab;
        for (int32_t i = b * DIST_BLOCK; i < end; i++)
            if (logits[i] > low && logits[i] <= high && bin_of(max - logits[i]) == bin)
                out[n++] = (dist_cand){logits[i], i, dist_exp(logits[i] - max)};
    }
    return n;
}

static inline bool ranks_before(const dist_cand *a, const dist_cand *b) {
    return dist_before(a->logit, a->id, b->logit, b->id);
}
static inline void swap(dist_cand *a, dist_cand *b) {
    dist_cand t = *a;
    *a = *b;
    *b = t;
}

static void sort_by_rank(dist_cand *c, int32_t n) {
    for (int32_t i = 1; i < n; i++) {
        dist_cand x = c[i];
        int32_t j = i;
        for (; j > 0 && ranks_before(&x, &c[j - 1]); j--) c[j] = c[j - 1];
        c[j] = x;
    }
}

/* The median of three pseudo-random places: no order of logits is bad for it. */
static int32_t pick_pivot(const dist_cand *c, int32_t lo, int32_t hi) {
    uint64_t r = hash_mix((uint64_t)lo << 32 | (uint32_t)hi), n = (uint64_t)(hi - lo);
    int32_t at[3];
    for (int k = 0; k < 3; k++) at[k] = lo + (int32_t)((r >> 20 * k & 0xFFFFF) * n >> 20);
    bool ab = ranks_before(&c[at[0]], &c[at[1]]), bc = ranks_before(&c[at[1]], &c[at[2]]),
         ac = ranks_before(&c[at[0]], &c[at[2]]);
    return ab == bc ? at[1] : ab == ac ? at[2] : at[0];
}

/* Where the shortest prefix of the ranking with at least `count` candidates and `mass` of weight
 * ends, the last one when nothing reaches that; *kept_mass is the prefix's. Reorders c. Quickselect;
 * O(n) expected. n ≥ 1. */
static dist_cand find_end(dist_cand *c, int32_t n, int64_t count, double mass, double *kept_mass) {
    enum { SMALL = 24 };
    int32_t lo = 0, hi = n; /* the end of the prefix lies in (lo, hi] */
    double mass_lo = 0;     /* of [0, lo), which all rank before [lo, hi) */
    while (hi - lo > SMALL) {
        swap(&c[pick_pivot(c, lo, hi)], &c[hi - 1]);
        dist_cand pivot = c[hi - 1];
        int32_t mid = lo; /* [lo, mid) ranks before the pivot */
        double mass_mid = mass_lo;
        for (int32_t i = lo; i < hi - 1; i++)
            if (ranks_before(&c[i], &pivot)) {
                mass_mid += c[i].weight;
                swap(&c[i], &c[mid++]);
            }
        swap(&c[mid], &c[hi - 1]);
        if (mid > lo && mid >= count && mass_mid >= mass) {
            hi = mid;
            continue;
        }
        mass_lo = mass_mid + pivot.weight;
        lo = mid + 1;
        if (lo == hi || (lo >= count && mass_lo >= mass)) {
            *kept_mass = mass_lo;
            return pivot;
        }
    }
    sort_by_rank(c + lo, hi - lo);
    int32_t kept = lo;
    while (kept < hi) {
        mass_lo += c[kept++].weight;
        if (kept >= count && mass_lo >= mass) break;
    }
    *kept_mass = mass_lo;
    return c[kept - 1];
}

typedef struct row {
    const float *logits, *block_max;
    int32_t n_vocab;
    float max;
    dist_cand *cands; /* scratch */
} row;

/* find_end over the whole row. */
static dist_cand locate(const row *r, const histogram *h, int64_t count, double mass,
                        double *kept_mass) {
    int bin = 0;
    int64_t n = 0; /* of the bins before */
    double m = 0;
    while (bin < BINS - 1 && !(n + h->count[bin] >= count && m + h->mass[bin] >= mass)) {
        n += h->count[bin];
        m += h->mass[bin++];
    }
    int32_t n_bin;
    /* The last bin may be empty or hold only −inf; then the cut lies behind what there is. */
    while ((n_bin = gather(r->logits, r->n_vocab, r->max, r->block_max, bin, r->cands)) == 0) {
        n -= h->count[--bin];
        m -= h->mass[bin];
    }
    dist_cand end = find_end(r->cands, n_bin, count - n, mass - m, kept_mass);
    *kept_mass += m;
    return end;
}

static dist_cand earlier(dist_cand a, dist_cand b) {
    return ranks_before(&b, &a) ? b : a;
}

dist_cand dist_cut(const float *logits, int32_t n_vocab, float max, const float *block_max,
                   const dist_filter *f, dist_cand *cands) {
    row r = {logits, block_max, n_vocab, max, cands};
    dist_cand end = {-INFINITY, INT32_MAX, 0};
    bool has_k = f->top_k > 0 && f->top_k < n_vocab, has_p = f->top_p<1, has_keep = f->min_keep> 1;
    histogram h;
    double mass;
    if (has_k || has_p || has_keep) fill_histogram(&h, logits, n_vocab, max, block_max, has_p);
    if (has_k) end = locate(&r, &h, f->top_k, 0, &mass);
    if (has_p) {
        double total = has_k ? mass : h.total_mass;
        end = earlier(end, locate(&r, &h, has_keep ? f->min_keep : 1, f->top_p * total, &mass));
    }
    if (f->min_p > 0) {
        dist_cand floor = {(float)(max + log(f->min_p)), INT32_MAX, 0};
        if (has_keep) {
            dist_cand keep = locate(&r, &h, f->min_keep, 0, &mass);
            if (ranks_before(&floor, &keep)) floor = keep;
        }
        end = earlier(end, floor);
    }
    return end;
}
