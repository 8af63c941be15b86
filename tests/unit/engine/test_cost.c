/* What a token says it cost: rows attended against a count written down here, blocks and bytes against
 * their formula, past the window the same for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/engine.h"

enum { WIDTH = 40, SLIDING = 2, FULL = 2, MAX = 700 };

/* Rows that position i sees in the fake model's four layers: every second one slides. */
static int64_t attended(int64_t i, int64_t pinned, int64_t window) {
    int64_t slides = 0, full = 0;
    for (int64_t j = 0; j <= i; j++) {
        slides += j > i - WIDTH;
        full += j < pinned || j > i - window;
    }
    return SLIDING * slides + FULL * full;
}

static void test_costs_are_exact(void **state) {
    (void)state;
    static const struct {
        int64_t pinned, rows;
    } shapes[] = {{0, 128}, {32, 160}, {32, 100}, {0, 32}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        error err = {0};
        engine_config c = engine_defaults();
        c.n_threads = 1;
        c.n_parallel = 1;
        c.max_context_tokens = 64;
        c.max_kv_size = shapes[s].rows;
        c.pinned = shapes[s].pinned;
        c.kv_type = KERN_KV_F32;
        model_fake_config f = {
            .n_vocab = 50, .n_layers = SLIDING + FULL, .width = WIDTH, .end_id = -1, .seed = 3};
        engine *e = engine_open_model(model_new_fake(&f, &err), NULL, &c, &err);
        if (!e) fail_msg("%s", err.message);
        const model_info *m = engine_get_model(e);
        uint64_t layer_bytes =
            (uint64_t)(2 * KV_BLOCK * m->n_kv_heads) * kern_kv_row_bytes(c.kv_type, m->head_dim);
        int32_t prompt[] = {1, 2, 3, 4, 5};
        engine_request r = {.prompt = prompt,
                            .n_prompt = 5,
                            .sampling = sample_defaults(),
                            .max_tokens = MAX,
                            .score_prompt = -1};
        engine_job *j = engine_submit(e, &r, &err);
        assert_non_null(j);
        static int64_t blocks[MAX];
        int64_t last_ns = 0, n = 0, window = shapes[s].rows - shapes[s].pinned;
        for (engine_event ev; engine_wait(j, &ev, 30000) && ev.kind == ENGINE_TOKEN; n++) {
            /* The token at index n was drawn from position n_prompt + n − 1. */
            assert_int_equal(ev.cost.n_attended, attended(4 + n, shapes[s].pinned, window));
            assert_true(ev.cost.end_ns >= last_ns);
            last_ns = ev.cost.end_ns;
            blocks[n] = ev.cost.n_blocks;
            /* Sliding blocks are what is left: both groups have two layers here. */
            assert_int_equal(ev.cost.kv_bytes, 2 * (uint64_t)ev.cost.n_blocks * layer_bytes);
            if (n > shapes[s].rows + 2 * KV_BLOCK)
                assert_int_equal(blocks[n], blocks[n - KV_BLOCK]);
        }
        assert_int_equal(n, MAX);
        engine_job_free(j);
        engine_close(e);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_costs_are_exact)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
