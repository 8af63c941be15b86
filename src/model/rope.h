/* Rotary frequencies. Pure; angles are position × frequency, in double.
 * Sources: RoPE (Su et al. 2021); YaRN (Peng et al. 2023) as in OpenAI's gpt-oss
 * model, which does not round the correction range, and as in Hugging Face's
 * transformers, which does.
 */
#ifndef MODEL_ROPE_H
#define MODEL_ROPE_H

#include <stdbool.h>
#include <stdint.h>

typedef enum rope_scaling { ROPE_NONE, ROPE_LINEAR, ROPE_YARN } rope_scaling;

typedef struct rope_params {
    int n_rot; /* rotated elements of a head, even */
    double base;
    rope_scaling scaling;
    double factor;     /* context extension, ≥ 1 as a rule */
    double n_ctx_orig; /* YaRN: context before extension */
    double beta_fast, beta_slow;
    double attn_factor; /* multiplies YaRN's concentration */
    bool yarn_rounds;   /* correction range widened to whole dimensions */
} rope_params;

/* freq: [n_rot/2] radians per position. divisors: rope_freqs.weight, or NULL. Returns what cos and sin
 * of q and k are multiplied by (YaRN's concentration, else 1). */
double rope_frequencies(const rope_params *p, const float *divisors, double *freq);
/* YaRN's correction range, in units of rotated pairs. */
void rope_yarn_range(const rope_params *p, double *low, double *high);
/* cs: [n_rot/2] {cos, sin} pairs of one position. */
void rope_angles(int n_rot, const double *freq, double concentration, int64_t pos, float *cs);

#endif
