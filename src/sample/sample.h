/* Logits → one token. Pure given (parameters, history, logits, step): a draw is
 * a function of (seed, step), so it does not depend on neighbours or timing.
 *
 * Order: logit_bias, repetition penalty, presence and frequency penalties, then
 * (temperature > 0) top_k, typical?, top_p, min_p, temperature, draw. Filters see
 * probabilities before temperature's flattening as documented at each field.
 * temperature 0 is argmax without a softmax; ties take the lower id.
 * Log-probabilities are of the model's own distribution: before bias, penalties,
 * filters and temperature.
 *
 * Threads: a sampler belongs to its sequence's owner. sampler_next allocates nothing.
 */
#ifndef SAMPLE_SAMPLE_H
#define SAMPLE_SAMPLE_H

#include "base/error.h"
#include "base/str.h"

enum {
    SAMPLE_MAX_TOP = 20,          /* top_logprobs */
    SAMPLE_MAX_BIAS = 1024,
    SAMPLE_MAX_REPEAT_WINDOW = 65536,
};

typedef struct sample_bias { int32_t id; float bias; } sample_bias; /* −100 bans, +100 forces */

typedef struct sample_params {
    double temperature;        /* ≥ 0; 0 = greedy; default 1 */
    double top_p;              /* (0, 1]; 1 = off. Smallest set whose mass reaches top_p */
    double min_p;              /* [0, 1]; 0 = off. Relative to the likeliest token */
    int32_t top_k;             /* 0 = off */
    int32_t min_tokens_to_keep; /* top_p and min_p leave at least this many; ≥ 1 */
    double repetition_penalty; /* > 0; 1 = off: logit/penalty if positive else ·penalty */
    int32_t repetition_window; /* last tokens of prompt and answer it looks at; 0 = off; default 20 */
    double presence_penalty, frequency_penalty; /* over generated tokens */
    const sample_bias *bias;   /* copied */
    int32_t n_bias;
    uint64_t seed;             /* 63 bits used by the doors */
    int32_t n_top;             /* −1: no logprobs; 0 … SAMPLE_MAX_TOP */
} sample_params;

sample_params sample_defaults(void);
/* Names the parameter that is out of range (the API's names). */
bool sample_check(const sample_params *p, int32_t n_vocab, error *err);

typedef struct sample_top { int32_t id; float logprob; } sample_top;
typedef struct sample_result {
    int32_t id;
    float logprob;                      /* valid when n_top ≥ 0 */
    int32_t n_top;
    sample_top top[SAMPLE_MAX_TOP];     /* descending, ties by lower id */
} sample_result;

typedef struct sampler sampler;
/* Bytes per sampler, for the plan. */
uint64_t sampler_plan_bytes(int32_t n_vocab);
sampler *sampler_new(const sample_params *p, int32_t n_vocab, error *err);
void sampler_free(sampler *s);
/* Tokens the penalties look at: prompt tokens once at the start, then each generated one. */
void sampler_note_prompt(sampler *s, const int32_t *ids, size_t n);
/* Draws the token of this step (0, 1, …) and notes it. `logits` [n_vocab] may be modified. */
void sampler_next(sampler *s, float *logits, uint64_t step, sample_result *out);
/* Log-probability of a given id and the top ones, for scoring prompts. */
void sample_score(const float *logits, int32_t n_vocab, int32_t id, int32_t n_top, sample_result *out);

#endif
