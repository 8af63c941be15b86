/* Logits → one token. Pure given (parameters, history, logits, step): a draw is
 * a function of (seed, step), so it does not depend on neighbours or timing.
 *
 * One step, in this order:
 *   1. logits that are NaN or infinite become −inf: such a token is never chosen
 *   2. log-probabilities, if asked for: of the model's own distribution
 *   3. logit_bias: ≤ −100 bans, ≥ +100 leaves only ids that have it, else added
 *   4. repetition penalty over the last repetition_window tokens (prompt and answer)
 *   5. presence and frequency penalties over the generated tokens
 *      … and what the grammar does not allow here becomes −inf, if there is one (in the pass that
 *      finds the maximum, so a bound draw costs little more than a free one)
 *   6. temperature 0: the largest logit, ties to the lower id; no softmax. Done.
 *   7. top_k, then top_p of what top_k left (renormalised), then min_p. They see
 *      probabilities at temperature 1, so what may be said at all does not depend
 *      on temperature. Rank is by logit, ties to the lower id; each filter keeps a
 *      prefix of the ranking, and top_p and min_p keep at least min_tokens_to_keep.
 *      Before top_k typical_p takes away, and behind min_p, in as many steps as
 *      xtc_probability says, XTC.
 *   8. weights exp((logit − max)/temperature) of the survivors, and the token whose
 *      interval, in order of id, holds uniform(seed, step) × their sum
 * If nothing may be chosen (every logit left was NaN or infinite) the token is id 0, under a grammar
 * the lowest id it allows: a ban does not make an answer ill-formed.
 *
 * Time: O(n_vocab) per step; filters select, they do not sort.
 * Threads: a sampler belongs to its sequence's owner. sampler_start, sampler_note_prompt
 * and sampler_next allocate nothing.
 */
#ifndef SAMPLE_SAMPLE_H
#define SAMPLE_SAMPLE_H

#include "base/error.h"
#include "base/str.h"
#include "sample/grammar.h"

enum {
    SAMPLE_MAX_TOP = 20, /* top_logprobs */
    SAMPLE_MAX_BIAS = 1024,
    SAMPLE_MAX_REPEAT_WINDOW = 65536,
};
#define SAMPLE_MIN_LOGPROB (-9999.0f) /* stands for −inf, so that every logprob is finite */

typedef struct sample_bias {
    int32_t id;
    float bias;
} sample_bias; /* −100 bans, +100 forces */

typedef struct sample_params {
    double temperature; /* 0 … 2; 0 = greedy; default 1 */
    double top_p;       /* 0 … 1; 1 = off. Smallest set whose mass reaches top_p, at least 1 */
    double min_p;       /* 0 … 1; 0 = off. Relative to the likeliest token */
    double typical_p;   /* 0 … 1; 0 and 1 = off. See odd.h */
    double xtc_probability, xtc_threshold; /* 0 … 1, 0 = off; 0 … 0.5. See odd.h */
    int32_t top_k;                         /* ≥ 0; 0 = off */
    int32_t min_tokens_to_keep; /* top_p and min_p leave at least this many; ≥ 1; default 1 */
    double repetition_penalty; /* 0 … 10; 0 or 1 = off: logit/penalty if positive else ·penalty */
    int32_t
        repetition_window; /* last tokens of prompt and answer it looks at; 0 = off; default 20 */
    double presence_penalty, frequency_penalty; /* −2 … 2, over generated tokens; 0 = off */
    const sample_bias *bias;                    /* copied; −100 … 100, every id at most once */
    int32_t n_bias;
    uint64_t seed; /* 63 bits used by the doors */
    int32_t n_top; /* −1: no logprobs; 0 … SAMPLE_MAX_TOP */
    /* What may be said; NULL: anything. Borrowed until engine_submit returns, which makes a matcher of
     * it; the sampler itself looks at sampler_constrain only. */
    const grammar *grammar;
} sample_params;

sample_params sample_defaults(void);
/* Names the parameter that is out of range (the API's names; repetition_window is
 * repetition_context_size there). */
bool sample_check(const sample_params *p, int32_t n_vocab, error *err);

typedef struct sample_top {
    int32_t id;
    float logprob;
} sample_top;
typedef struct sample_result {
    int32_t id;
    float logprob; /* valid when n_top ≥ 0 */
    int32_t n_top;
    sample_top top[SAMPLE_MAX_TOP]; /* descending, ties by lower id */
} sample_result;

typedef struct sampler sampler;
/* Bytes per sampler, for the plan. */
uint64_t sampler_plan_bytes(int32_t n_vocab);
sampler *sampler_new(const sample_params *p, int32_t n_vocab, error *err);
void sampler_free(sampler *s);
/* Takes its pages from the system now. */
void sampler_hold(sampler *s);
/* Forgets history and parameters and takes new ones, which passed sample_check. */
void sampler_start(sampler *s, const sample_params *p);
/* After sampler_start: the matcher that says what may come, walked on by every draw; borrowed, NULL: none. */
void sampler_constrain(sampler *s, matcher *m);
/* Tokens the penalties look at: prompt tokens once at the start, then each generated one. */
void sampler_note_prompt(sampler *s, const int32_t *ids, size_t n);
/* Tokens generated before, when a sequence goes on in another sampler: as if sampler_next had drawn
 * them. */
void sampler_note_generated(sampler *s, const int32_t *ids, size_t n);
/* Draws the token of this step (0, 1, …) and notes it. `logits` [n_vocab] may be modified. */
void sampler_next(sampler *s, float *logits, uint64_t step, sample_result *out);
/* Log-probability of a given id and the n_top likeliest, for scoring prompts. Pure. */
void sample_score(const float *logits, int32_t n_vocab, int32_t id, int32_t n_top,
                  sample_result *out);

#endif
