/* What quantised activations stand for. The same bytes on every rung: the product
 * and the difference are exact in double, so there is one rounding, written down here.
 */
#include "kern/pack.h"

void kern_act_subtract(int64_t n, const void *q8, float *x) {
    const act_q8 *b = q8;
    for (int64_t i = 0; i < n; i += 32, b++) {
        int64_t len = n - i < 32 ? n - i : 32;
        for (int64_t k = 0; k < len; k++)
            x[i + k] = (float)((double)x[i + k] - (double)b->d * (double)b->q[k]);
    }
}
