#include "sample/sample.h"

#include <math.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/os.h"
#include "sample/odd.h"

#define XTC_STREAM 0x787463ull /* "xtc" */

/* What penalties need to know of one id. */
typedef struct tally {
    uint32_t n_generated;
    uint32_t n_window; /* occurrences among the last repetition_window tokens */
    float raw;         /* this step's logit before bias and penalties */
    bool is_listed;    /* in `touched` */
} tally;

struct sampler {
    sample_params p; /* bias points at `bias` */
    sample_bias bias[SAMPLE_MAX_BIAS];
    float bias_raw[SAMPLE_MAX_BIAS];
    int32_t n_vocab;
    bool has_forced;
    tally *tallies;   /* [n_vocab] */
    int32_t *touched; /* ids whose tally may be other than 0 */
    int32_t n_touched;
    int32_t *window; /* ring of the last tokens, [SAMPLE_MAX_REPEAT_WINDOW] */
    int32_t window_at, window_len;
    dist_cand *cands;  /* [n_vocab] */
    float *block_max;  /* [dist_n_blocks] */
    double *block_sum; /* [dist_n_blocks] */
    matcher *matcher;  /* NULL: anything may be said */
};

sample_params sample_defaults(void) {
    return (sample_params){
        .temperature = 1,
        .top_p = 1,
        .min_tokens_to_keep = 1,
        .repetition_penalty = 1,
        .repetition_window = 20,
        .xtc_threshold = 0.1,
        .n_top = -1,
    };
}

static bool check_decimal(const char *name, double v, double min, double max, error *err) {
    if (isnan(v))
        return error_set(err, ERR_INVALID_VALUE, name, "Invalid '%s': it must be a number.", name);
    if (v < min)
        return error_set(
            err, ERR_DECIMAL_BELOW_MIN, name,
            "Invalid '%s': decimal below minimum value. Expected a value >= %g, but got %g instead.",
            name, min, v);
    if (v > max)
        return error_set(
            err, ERR_DECIMAL_ABOVE_MAX, name,
            "Invalid '%s': decimal above maximum value. Expected a value <= %g, but got %g instead.",
            name, max, v);
    return true;
}

static bool check_int(const char *name, int64_t v, int64_t min, int64_t max, error *err) {
    if (v < min)
        return error_set(
            err, ERR_INT_BELOW_MIN, name,
            "Invalid '%s': integer below minimum value. Expected a value >= %lld, but got %lld instead.",
            name, (long long)min, (long long)v);
    if (v > max)
        return error_set(
            err, ERR_INT_ABOVE_MAX, name,
            "Invalid '%s': integer above maximum value. Expected a value <= %lld, but got %lld instead.",
            name, (long long)max, (long long)v);
    return true;
}

static int compare_ids(const void *a, const void *b) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

static bool check_bias(const sample_bias *bias, int32_t n, int32_t n_vocab, error *err) {
    static const char name[] = "logit_bias";
    if (n < 0 || n > SAMPLE_MAX_BIAS)
        return error_set(err, ERR_ARRAY_ABOVE_MAX, name,
                         "Invalid '%s': at most %d tokens can be biased, got %d.", name,
                         SAMPLE_MAX_BIAS, n);
    int32_t ids[SAMPLE_MAX_BIAS], n_banned = 0;
    for (int32_t i = 0; i < n; i++) {
        if (bias[i].id < 0 || bias[i].id >= n_vocab)
            return error_set(
                err, ERR_INVALID_VALUE, name,
                "Invalid '%s': token id %d is not in the vocabulary, whose ids are 0 to %d.", name,
                bias[i].id, n_vocab - 1);
        if (!check_decimal(name, bias[i].bias, -100, 100, err)) return false;
        n_banned += bias[i].bias <= -100;
        ids[i] = bias[i].id;
    }
    qsort(ids, (size_t)n, sizeof *ids, compare_ids);
    for (int32_t i = 1; i < n; i++)
        if (ids[i] == ids[i - 1])
            return error_set(err, ERR_INVALID_VALUE, name,
                             "Invalid '%s': token id %d is given twice.", name, ids[i]);
    if (n > 0 && n_banned == n_vocab)
        return error_set(err, ERR_INVALID_VALUE, name,
                         "Invalid '%s': every token of the vocabulary is banned.", name);
    return true;
}

bool sample_check(const sample_params *p, int32_t n_vocab, error *err) {
    return check_decimal("temperature", p->temperature, 0, 2, err) &&
           check_decimal("top_p", p->top_p, 0, 1, err) &&
           check_decimal("min_p", p->min_p, 0, 1, err) &&
           check_decimal("typical_p", p->typical_p, 0, 1, err) &&
           check_decimal("xtc_probability", p->xtc_probability, 0, 1, err) &&
           check_decimal("xtc_threshold", p->xtc_threshold, 0, 0.5, err) &&
           check_int("top_k", p->top_k, 0, INT32_MAX, err) &&
           check_int("min_tokens_to_keep", p->min_tokens_to_keep, 1, INT32_MAX, err) &&
           check_decimal("repetition_penalty", p->repetition_penalty, 0, 10, err) &&
           check_int("repetition_context_size", p->repetition_window, 0, SAMPLE_MAX_REPEAT_WINDOW,
                     err) &&
           check_decimal("presence_penalty", p->presence_penalty, -2, 2, err) &&
           check_decimal("frequency_penalty", p->frequency_penalty, -2, 2, err) &&
           check_int("top_logprobs", p->n_top, -1, SAMPLE_MAX_TOP, err) &&
           check_bias(p->bias, p->n_bias, n_vocab, err);
}

/* ── Lifetime ── */

uint64_t sampler_plan_bytes(int32_t n_vocab) {
    uint64_t n = n_vocab > 0 ? (uint64_t)n_vocab : 0,
             n_blocks = (uint64_t)dist_n_blocks((int32_t)n);
    return sizeof(sampler) + n * (sizeof(tally) + sizeof(int32_t) + sizeof(dist_cand)) +
           SAMPLE_MAX_REPEAT_WINDOW * sizeof(int32_t) + n_blocks * (sizeof(float) + sizeof(double));
}

sampler *sampler_new(const sample_params *p, int32_t n_vocab, error *err) {
    if (!sample_check(p, n_vocab, err)) return NULL;
    sampler *s = calloc(1, sizeof *s);
    size_t n = (size_t)n_vocab, n_blocks = (size_t)dist_n_blocks(n_vocab);
    if (s) {
        s->n_vocab = n_vocab;
        s->tallies = calloc(n, sizeof *s->tallies);
        s->touched = calloc(n, sizeof *s->touched);
        s->window = calloc(SAMPLE_MAX_REPEAT_WINDOW, sizeof *s->window);
        s->cands = calloc(n, sizeof *s->cands);
        s->block_max = calloc(n_blocks, sizeof *s->block_max);
        s->block_sum = calloc(n_blocks, sizeof *s->block_sum);
    }
    if (!s || !s->tallies || !s->touched || !s->window || !s->cands || !s->block_max ||
        !s->block_sum) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for a sampler (%llu bytes).",
                  (unsigned long long)sampler_plan_bytes(n_vocab));
        sampler_free(s);
        return NULL;
    }
    sampler_start(s, p);
    return s;
}

void sampler_free(sampler *s) {
    if (!s) return;
    free(s->tallies);
    free(s->touched);
    free(s->window);
    free(s->cands);
    free(s->block_max);
    free(s->block_sum);
    free(s);
}

void sampler_hold(sampler *s) {
    size_t n = (size_t)s->n_vocab, n_blocks = (size_t)dist_n_blocks(s->n_vocab);
    os_touch(s, sizeof *s);
    os_touch(s->tallies, n * sizeof *s->tallies);
    os_touch(s->touched, n * sizeof *s->touched);
    os_touch(s->window, SAMPLE_MAX_REPEAT_WINDOW * sizeof *s->window);
    os_touch(s->cands, n * sizeof *s->cands);
    os_touch(s->block_max, n_blocks * sizeof *s->block_max);
    os_touch(s->block_sum, n_blocks * sizeof *s->block_sum);
}

void sampler_start(sampler *s, const sample_params *p) {
    for (int32_t i = 0; i < s->n_touched; i++) s->tallies[s->touched[i]] = (tally){0};
    s->n_touched = s->window_at = s->window_len = 0;
    s->p = *p;
    s->matcher = NULL;
    s->has_forced = false;
    for (int32_t i = 0; i < p->n_bias; i++) {
        s->bias[i] = p->bias[i];
        s->has_forced |= p->bias[i].bias >= 100;
    }
    s->p.bias = s->bias;
}

void sampler_constrain(sampler *s, matcher *m) {
    s->matcher = m;
}

/* ── History ── */

static tally *touch(sampler *s, int32_t id) {
    tally *t = &s->tallies[id];
    if (!t->is_listed) {
        t->is_listed = true;
        s->touched[s->n_touched++] = id;
    }
    return t;
}

static bool penalises_repetition(const sample_params *p) {
    return p->repetition_window > 0 && p->repetition_penalty != 1 && p->repetition_penalty != 0;
}

static void push_window(sampler *s, int32_t id) {
    if (!penalises_repetition(&s->p)) return;
    if (s->window_len == s->p.repetition_window)
        s->tallies[s->window[s->window_at]].n_window--;
    else
        s->window_len++;
    s->window[s->window_at] = id;
    s->window_at = s->window_at + 1 < s->p.repetition_window ? s->window_at + 1 : 0;
    touch(s, id)->n_window++;
}

void sampler_note_prompt(sampler *s, const int32_t *ids, size_t n) {
    size_t keep = (size_t)s->p.repetition_window;
    for (size_t i = n > keep ? n - keep : 0; i < n; i++) push_window(s, ids[i]);
}

static void note_generated(sampler *s, int32_t id) {
    push_window(s, id);
    if (s->p.presence_penalty != 0 || s->p.frequency_penalty != 0) touch(s, id)->n_generated++;
}

void sampler_note_generated(sampler *s, const int32_t *ids, size_t n) {
    for (size_t i = 0; i < n; i++) note_generated(s, ids[i]);
}

/* ── One step ── */

static float finite_logprob(double v) {
    return v > SAMPLE_MIN_LOGPROB ? (float)v : SAMPLE_MIN_LOGPROB;
}

/* The n likeliest, by insertion: almost every id fails the first comparison. */
static int32_t find_top(const float *logits, int32_t n_vocab, int32_t n, double log_total,
                        sample_top *top) {
    int32_t have = 0;
    for (int32_t i = 0; i < n_vocab && n > 0; i++) {
        float x = logits[i];
        if (!(have < n || x > top[have - 1].logprob) || !isfinite(x)) continue;
        int32_t at = have < n ? have++ : n - 1;
        for (; at > 0 && x > top[at - 1].logprob; at--) top[at] = top[at - 1];
        top[at] = (sample_top){i, x};
    }
    for (int32_t i = 0; i < have; i++) top[i].logprob = finite_logprob(top[i].logprob - log_total);
    return have;
}

/* Fills top and returns log Σ exp(logits). */
static double describe(const float *logits, int32_t n_vocab, float max, int32_t n_top,
                       sample_result *out) {
    double log_total = max + log(dist_sum(logits, n_vocab, max, 1, NULL, NULL, NULL));
    out->n_top = find_top(logits, n_vocab, n_top, log_total, out->top);
    return log_total;
}

void sample_score(const float *logits, int32_t n_vocab, int32_t id, int32_t n_top,
                  sample_result *out) {
    *out = (sample_result){.id = id, .logprob = SAMPLE_MIN_LOGPROB};
    float max = -INFINITY;
    for (int32_t i = 0; i < n_vocab; i++)
        if (isfinite(logits[i]) && logits[i] > max) max = logits[i];
    if (max == -INFINITY) return;
    double log_total = describe(logits, n_vocab, max, n_top, out);
    if (id >= 0 && id < n_vocab && isfinite(logits[id]))
        out->logprob = finite_logprob(logits[id] - log_total);
}

/* Remembers the model's own logits of every id that bias or penalties may change. */
static void save_raw(sampler *s, const float *logits) {
    for (int32_t i = 0; i < s->n_touched; i++)
        s->tallies[s->touched[i]].raw = logits[s->touched[i]];
    for (int32_t i = 0; i < s->p.n_bias; i++) s->bias_raw[i] = logits[s->bias[i].id];
}

static float get_raw(const sampler *s, const float *logits, int32_t id) {
    if (s->tallies[id].is_listed) return s->tallies[id].raw;
    for (int32_t i = 0; i < s->p.n_bias; i++)
        if (s->bias[i].id == id) return s->bias_raw[i];
    return logits[id];
}

static void apply_bias(sampler *s, float *logits) {
    if (s->has_forced) {
        float forced[SAMPLE_MAX_BIAS];
        for (int32_t i = 0; i < s->p.n_bias; i++) forced[i] = logits[s->bias[i].id];
        for (int32_t i = 0; i < s->n_vocab; i++) logits[i] = -INFINITY;
        for (int32_t i = 0; i < s->p.n_bias; i++)
            if (s->bias[i].bias >= 100) logits[s->bias[i].id] = forced[i];
        return;
    }
    for (int32_t i = 0; i < s->p.n_bias; i++) {
        float *x = &logits[s->bias[i].id];
        *x = s->bias[i].bias <= -100 ? -INFINITY : *x + s->bias[i].bias;
    }
}

static void apply_penalties(sampler *s, float *logits) {
    float repetition = (float)s->p.repetition_penalty, presence = (float)s->p.presence_penalty,
          frequency = (float)s->p.frequency_penalty;
    int32_t n = 0;
    for (int32_t i = 0; i < s->n_touched; i++) {
        int32_t id = s->touched[i];
        tally *t = &s->tallies[id];
        float *x = &logits[id];
        if (t->n_window) *x = *x > 0 ? *x / repetition : *x * repetition;
        if (t->n_generated) *x -= presence + frequency * (float)t->n_generated;
        /* What left the window is forgotten here, so the list stays as short as the window. */
        if (t->n_window || t->n_generated)
            s->touched[n++] = id;
        else
            *t = (tally){.raw = t->raw};
    }
    s->n_touched = n;
}

/* Where the model or a bias ruled out all that the grammar allows. */
static int32_t first_allowed(const sampler *s) {
    const uint64_t *mask = matcher_mask(s->matcher);
    int32_t n = matcher_n_vocab(s->matcher);
    for (int32_t i = 0; i < n && i < s->n_vocab; i += 64)
        if (mask[i >> 6]) {
            int32_t id = i + __builtin_ctzll(mask[i >> 6]);
            return id < s->n_vocab ? id : 0;
        }
    return 0;
}

/* Draws from `logits`, whose maximum (finite) and block maxima are known. */
static int32_t draw(sampler *s, float *logits, float max, uint64_t step) {
    const sample_params *p = &s->p;
    if (p->temperature == 0) {
        int32_t b = 0;
        while (s->block_max[b] != max) b++;
        int32_t i = b * DIST_BLOCK;
        while (logits[i] != max) i++;
        return i;
    }
    dist_cand last, *cut = NULL;
    bool is_odd = (p->typical_p > 0 && p->typical_p < 1) || p->xtc_probability > 0;
    if (s->matcher && is_odd) dist_clear_dead(logits, s->n_vocab, s->block_max);
    if (p->typical_p > 0 && p->typical_p < 1) {
        odd_typical(logits, s->n_vocab, max, p->typical_p, p->min_tokens_to_keep, s->cands);
        max = dist_max(logits, s->n_vocab, NULL, 0, s->block_max);
    }
    if ((p->top_k > 0 && p->top_k < s->n_vocab) || p->top_p < 1 || p->min_p > 0) {
        dist_filter f = {p->top_k, p->min_tokens_to_keep, p->top_p, p->min_p};
        last = dist_cut(logits, s->n_vocab, max, s->block_max, &f, s->cands);
        cut = &last;
    }
    /* A draw of its own, so that switching it on does not move the others'. */
    if (p->xtc_probability > 0 && rng_uniform_at(p->seed ^ XTC_STREAM, step) < p->xtc_probability &&
        odd_exclude_top(logits, s->n_vocab, max, p->xtc_threshold, cut, s->block_max))
        max = dist_max(logits, s->n_vocab, NULL, 0, s->block_max);
    /* Below a millionth nothing but the maximum has weight, and 1/temperature must stay finite. */
    float scale = (float)(1 / (p->temperature > 1e-6 ? p->temperature : 1e-6));
    double sum = dist_sum(logits, s->n_vocab, max, scale, cut, s->block_max, s->block_sum);
    double target = rng_uniform_at(p->seed, step) * sum;
    return dist_find(logits, s->n_vocab, max, scale, cut, s->block_sum, target);
}

void sampler_next(sampler *s, float *logits, uint64_t step, sample_result *out) {
    *out = (sample_result){.logprob = SAMPLE_MIN_LOGPROB};
    bool reports = s->p.n_top >= 0, adjusts = s->p.n_bias > 0 || s->n_touched > 0;
    float max = -INFINITY;
    double log_total = 0;
    if (reports) {
        max = dist_max(logits, s->n_vocab, NULL, 0, s->block_max);
        reports = max > -INFINITY;
        if (reports) log_total = describe(logits, s->n_vocab, max, s->p.n_top, out);
        if (reports) save_raw(s, logits);
    }
    if (adjusts) {
        apply_bias(s, logits);
        apply_penalties(s, logits);
    }
    /* The mask comes last, in the pass that looks for the maximum: what it leaves out is not read, and
     * the rest is changed by nothing else. */
    if (s->matcher) {
        const uint64_t *mask = matcher_mask(s->matcher);
        max = dist_max(logits, s->n_vocab, mask, matcher_n_vocab(s->matcher), s->block_max);
    } else if (adjusts || !reports)
        max = dist_max(logits, s->n_vocab, NULL, 0, s->block_max);
    if (max > -INFINITY)
        out->id = draw(s, logits, max, step);
    else if (s->matcher)
        out->id = first_allowed(s);
    if (reports) out->logprob = finite_logprob(get_raw(s, logits, out->id) - log_total);
    if (s->matcher) matcher_accept(s->matcher, out->id);
    note_generated(s, out->id);
}
