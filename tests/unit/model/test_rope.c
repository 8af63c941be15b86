/* Rotary frequencies against figures worked out by hand and from the references' formulas. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model/rope.h"

static void near(double is, double want, double within) {
    if (!(fabs(is - want) <= within)) fail_msg("%.9g, expected %.9g", is, want);
}

static const rope_params gpt_oss = {.n_rot = 64,
                                    .base = 150000,
                                    .scaling = ROPE_YARN,
                                    .factor = 32,
                                    .n_ctx_orig = 4096,
                                    .beta_fast = 32,
                                    .beta_slow = 1,
                                    .attn_factor = 1};

static void gpt_oss_does_not_round_its_range(void **state) {
    (void)state;
    double low, high, freq[32];
    rope_yarn_range(&gpt_oss, &low, &high);
    near(low, 8.0928, 1e-3);
    near(high, 17.3980, 1e-3);
    near(rope_frequencies(&gpt_oss, NULL, freq), 1.3466, 1e-4);
    near(freq[0], 1, 0);
    near(freq[8], pow(150000, -16.0 / 64), 1e-15);       /* below the range: kept */
    near(freq[18], pow(150000, -36.0 / 64) / 32, 1e-15); /* above: interpolated */
    double ramp = (12 - low) / (high - low), f = pow(150000, -24.0 / 64);
    near(freq[12], f / 32 * ramp + f * (1 - ramp), 1e-15);
    rope_params others = gpt_oss;
    others.yarn_rounds = true;
    rope_yarn_range(&others, &low, &high);
    near(low, 8, 0);
    near(high, 18, 0);
}

static void plain_linear_and_divided(void **state) {
    (void)state;
    rope_params p = {.n_rot = 8, .base = 10000, .factor = 4, .attn_factor = 1};
    double f[4];
    near(rope_frequencies(&p, NULL, f), 1, 0);
    near(f[1], 0.1, 1e-15);
    p.scaling = ROPE_LINEAR;
    near(rope_frequencies(&p, NULL, f), 1, 0);
    near(f[1], 0.025, 1e-15);
    const float divisors[4] = {1, 2, 4, 8};
    p.scaling = ROPE_NONE;
    rope_frequencies(&p, divisors, f);
    near(f[1], 0.05, 1e-15);
    near(f[3], 0.001 / 8, 1e-15);
}

/* A float angle at a million would be off by 0.03. */
static void angles_are_double(void **state) {
    (void)state;
    const double freq[1] = {0.7310585786};
    float cs[2];
    rope_angles(2, freq, 2, 1000003, cs);
    near((double)cs[0], 2 * cos(1000003 * 0.7310585786), 1e-6);
    near((double)cs[1], 2 * sin(1000003 * 0.7310585786), 1e-6);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(gpt_oss_does_not_round_its_range),
        cmocka_unit_test(plain_linear_and_divided),
        cmocka_unit_test(angles_are_double),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
