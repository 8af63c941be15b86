/* Routing: who is chosen, with what weight, and in which order they are added. Experts here are
 * diagonal, so every result can be written down. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "dev/dev.h"

enum { D = 32, N_EXPERTS = 4, N_USED = 2, N_ROWS = 5 };

static void *zeros(size_t n) {
    size_t bytes = (n + 63) / 64 * 64;
    void *p = aligned_alloc(64, bytes);
    assert_non_null(p);
    memset(p, 0, bytes);
    return p;
}

static dev_acts acts(int64_t n_rows) {
    dev_acts a = {.n_in = D,
                  .row_bytes = {kern_act_bytes(KERN_ACT_F32, D), kern_act_bytes(KERN_ACT_Q8, D)}};
    a.data[KERN_ACT_F32] = zeros((size_t)n_rows * a.row_bytes[0]);
    return a;
}

static dev_matrix experts(const dev *d, const float *rows, void **memory) {
    *memory = zeros(dev_matrix_bytes(d, DTYPE_F32, D, D, N_EXPERTS, true));
    dev_matrix m = dev_matrix_place(d, DTYPE_F32, D, D, N_EXPERTS, true, false, *memory);
    for (int e = 0; e < N_EXPERTS; e++) dev_matrix_put(d, &m, e, 0, D, rows + e * D * D);
    return m;
}

static void experts_are_chosen_weighted_and_added_in_rank_order(void **state) {
    (void)state;
    dev d = {.kern = kern_get()};
    d.scratch = zeros(dev_scratch_bytes(&d, 1, 1, 1, 8));
    /* Expert e: silu(1·x)·(e+1)·x, then the identity. */
    float *one = zeros(sizeof(float) * N_EXPERTS * D * D),
          *scaled = zeros(sizeof(float) * N_EXPERTS * D * D);
    for (int e = 0; e < N_EXPERTS; e++)
        for (int i = 0; i < D; i++) {
            one[(e * D + i) * D + i] = 1;
            scaled[(e * D + i) * D + i] = (float)(e + 1);
        }
    void *memory[3];
    dev_matrix gate = experts(&d, one, &memory[0]), up = experts(&d, scaled, &memory[1]),
               down = experts(&d, one, &memory[2]);
    static const float logits[N_ROWS][N_EXPERTS] = {
        {1, 2, 3, 0},                         /* 2, 1 */
        {5, 5, 5, 5},                         /* ties: 0, 1 */
        {-1, NAN, -3, NAN},                   /* NaN is never preferred: 0, 2 */
        {-100, 7, 7, -100},                   /* 1, 2 */
        {-INFINITY, 0, -INFINITY, -INFINITY}, /* 1, 0 with weight zero */
    };
    static const int want[N_ROWS][N_USED] = {{2, 1}, {0, 1}, {0, 2}, {1, 2}, {1, 0}};
    dev_moe m = {.n_experts = N_EXPERTS,
                 .n_used = N_USED,
                 .gate = &gate,
                 .up = &up,
                 .down = &down,
                 .logits = &logits[0][0],
                 .chosen = zeros(4 * N_ROWS * N_USED),
                 .slot = zeros(4 * N_ROWS * N_USED),
                 .weight = zeros(4 * N_ROWS * N_USED),
                 .first = zeros(4 * (N_EXPERTS + 1)),
                 .active = zeros(4 * N_EXPERTS),
                 .in = acts(N_ROWS * N_USED),
                 .hidden = acts(N_ROWS * N_USED),
                 .y = zeros(4 * N_ROWS * N_USED * D)};
    dev_acts in = acts(N_ROWS);
    for (int r = 0; r < N_ROWS; r++)
        for (int i = 0; i < D; i++)
            dev_acts_row(&in, r)[i] = (float)(r + 1) * 0.25f + (float)i * 0.01f;
    float x[N_ROWS][D], alone[D];
    for (int r = 0; r < N_ROWS; r++)
        for (int i = 0; i < D; i++) x[r][i] = 10;
    dev_run_moe(&d, &m, N_ROWS, &in, &x[0][0]);
    for (int r = 0; r < N_ROWS; r++) {
        const float *l = logits[r];
        double a = 1, b = exp((double)l[want[r][1]] - (double)l[want[r][0]]);
        assert_int_equal(m.chosen[r * N_USED], want[r][0]);
        assert_int_equal(m.chosen[r * N_USED + 1], want[r][1]);
        assert_true(fabs((double)m.weight[r * N_USED] - a / (a + b)) < 1e-7);
        for (int i = 0; i < D; i++) {
            double v = (double)dev_acts_row(&in, r)[i], y = v / (1 + exp(-v)) * v;
            double sum = 10 + y * (a / (a + b) * (want[r][0] + 1) + b / (a + b) * (want[r][1] + 1));
            assert_true(fabs(sum - (double)x[r][i]) < 1e-5);
        }
    }
    /* Alone, nothing is gathered; the bytes are the same. */
    for (int r = 0; r < N_ROWS; r++) {
        dev_acts row = in;
        row.data[KERN_ACT_F32] = dev_acts_row(&in, r);
        m.logits = logits[r];
        for (int i = 0; i < D; i++) alone[i] = 10;
        dev_run_moe(&d, &m, 1, &row, alone);
        assert_memory_equal(alone, x[r], sizeof alone);
    }
    void *all[] = {d.scratch,        one,        scaled,    m.chosen,  m.slot,
                   m.weight,         m.first,    m.active,  m.y,       m.in.data[0],
                   m.hidden.data[0], in.data[0], memory[0], memory[1], memory[2]};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(experts_are_chosen_weighted_and_added_in_rank_order)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
