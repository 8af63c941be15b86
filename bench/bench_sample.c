/* Microseconds per sampled token over a vocabulary of 200,000, for a distribution with a head (as
 * trained models have), broad and flat ones (as random weights have) and for all logits equal. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "sample/sample.h"

enum { N_VOCAB = 200000, ROUNDS = 31 };

static int by_time(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int main(void) {
    static const struct {
        const char *name;
        double temperature, top_p, min_p;
        int32_t top_k, n_top;
    } cases[] = {{"greedy", 0, 1, 0, 0, -1},
                 {"plain", 1, 1, 0, 0, -1},
                 {"top_k 40", 1, 1, 0, 40, -1},
                 {"top_p 0.95", 1, 0.95, 0, 0, -1},
                 {"min_p 0.05", 1, 1, 0.05, 0, -1},
                 {"top_k 40 top_p 0.9 min_p 0.05", 1, 0.9, 0.05, 40, -1},
                 {"plain, logprobs 20", 1, 1, 0, 0, 20}};
    float *x = malloc(N_VOCAB * sizeof *x), *y = malloc(N_VOCAB * sizeof *y);
    if (!x || !y) return 1;
    static const double spreads[] = {2, 3, 1, 0};
    static const char *const names[] = {"head", "broad", "flat", "equal"};
    for (int k = 0; k < 4; k++) {
        for (int i = 0; i < N_VOCAB; i++) {
            double u = 1 - rng_uniform_at(1, 2 * (uint64_t)i),
                   v = rng_uniform_at(1, 2 * (uint64_t)i + 1);
            x[i] = (float)(spreads[k] * sqrt(-2 * log(u)) * cos(2 * M_PI * v));
            if (k == 0 && i % 2000 == 7) x[i] += 8 + (float)(i % 11);
        }
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            sample_params p = sample_defaults();
            p.temperature = cases[c].temperature, p.top_p = cases[c].top_p,
            p.min_p = cases[c].min_p;
            p.top_k = cases[c].top_k, p.n_top = cases[c].n_top;
            sampler *s = sampler_new(&p, N_VOCAB, NULL);
            if (!s) return 1;
            int64_t took[ROUNDS];
            for (int r = 0; r < ROUNDS; r++) {
                memcpy(y, x, N_VOCAB * sizeof *y);
                sample_result out;
                int64_t start = clock_ns();
                sampler_next(s, y, (uint64_t)r, &out);
                took[r] = clock_ns() - start;
            }
            qsort(took, ROUNDS, sizeof *took, by_time);
            printf("%-7s %-32s %7.1f us\n", names[k], cases[c].name,
                   (double)took[ROUNDS / 2] / 1e3);
            sampler_free(s);
        }
    }
    free(x);
    free(y);
    return 0;
}
