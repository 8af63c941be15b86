#include "model/rope.h"

#include <math.h>

/* The pair whose wavelength makes `turns` turns within the original context. */
static double correction_pair(const rope_params *p, double turns) {
    return p->n_rot * log(p->n_ctx_orig / (turns * 2 * M_PI)) / (2 * log(p->base));
}

void rope_yarn_range(const rope_params *p, double *low, double *high) {
    *low = correction_pair(p, p->beta_fast);
    *high = correction_pair(p, p->beta_slow);
    if (!p->yarn_rounds) return;
    *low = fmax(floor(*low), 0);
    *high = fmin(ceil(*high), p->n_rot - 1);
}

double rope_frequencies(const rope_params *p, const float *divisors, double *freq) {
    double low = 0, high = 0;
    if (p->scaling == ROPE_YARN) rope_yarn_range(p, &low, &high);
    for (int i = 0; i < p->n_rot / 2; i++) {
        double f = pow(p->base, -2.0 * i / p->n_rot);
        if (divisors) f /= divisors[i];
        if (p->scaling == ROPE_LINEAR) f /= p->factor;
        if (p->scaling == ROPE_YARN) {
            /* Fast pairs keep their angle, slow ones are interpolated, a ramp between. */
            double ramp = fmin(fmax((i - low) / fmax(high - low, 0.001), 0), 1);
            f = f / p->factor * ramp + f * (1 - ramp);
        }
        freq[i] = f;
    }
    return p->scaling == ROPE_YARN ? p->attn_factor * (0.1 * log(p->factor) + 1) : 1;
}

void rope_angles(int n_rot, const double *freq, double concentration, int64_t pos, float *cs) {
    for (int i = 0; i < n_rot / 2; i++) {
        double angle = (double)pos * freq[i];
        cs[2 * i] = (float)(cos(angle) * concentration);
        cs[2 * i + 1] = (float)(sin(angle) * concentration);
    }
}
