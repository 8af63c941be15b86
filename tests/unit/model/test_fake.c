/* The fake model must notice: one wrong row anywhere it can see, and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model/model.h"

enum { N_VOCAB = 100, WIDTH = 45, N_TOKENS = 200 };

static const model_fake_config config = {
    .n_vocab = N_VOCAB, .n_layers = 3, .width = WIDTH, .end_id = 7, .end_every = 20, .seed = 5};

static kv *new_kv(const model *m, kern_kv_type type) {
    const model_info *i = model_get_info(m);
    kv_config c = {.shape = {i->n_layers, i->n_kv_heads, i->head_dim, i->layer_width, type},
                   .n_seqs = 1,
                   .max_rows = 256,
                   .max_chunk = 64};
    return kv_new(&c, NULL);
}

/* Runs ids through in chunks; the last row's logits of every chunk are copied to out[position]. */
static void feed(model_ctx *c, kv_seq *s, const int32_t *ids, int n, int chunk,
                 float out[][N_VOCAB]) {
    for (int at = 0; at < n; at += chunk) {
        int m = n - at < chunk ? n - at : chunk;
        assert_true(kv_seq_reserve(s, m));
        model_span sp = {.seq = s, .ids = ids + at, .n = m, .n_logits = m};
        assert_true(model_forward(c, &sp, 1, NULL));
        memcpy(out[at], sp.logits, (size_t)m * sizeof *out);
        kv_seq_commit(s, m);
    }
}

static void chunks_formats_and_runs_agree(void **state) {
    (void)state;
    static float want[N_TOKENS][N_VOCAB], got[N_TOKENS][N_VOCAB];
    int32_t ids[N_TOKENS];
    for (int i = 0; i < N_TOKENS; i++) ids[i] = i * 37 % N_VOCAB;
    model *m = model_new_fake(&config, NULL);
    model_ctx *c = model_ctx_new(m, (model_limits){64, 64}, NULL, NULL);
    const kern_kv_type types[] = {KERN_KV_F32, KERN_KV_F16, KERN_KV_BF16, KERN_KV_Q8_0};
    const int chunks[] = {1, 7, 64};
    for (int t = 0; t < 4; t++)
        for (int k = 0; k < 3; k++) {
            kv *rows = new_kv(m, types[t]);
            kv_seq *s = kv_seq_new(rows, (kv_window){32, 64}, NULL);
            feed(c, s, ids, N_TOKENS, chunks[k], t + k ? got : want);
            if (t + k) assert_memory_equal(want, got, sizeof want);
            kv_seq_free(s);
            kv_free(rows);
        }
    int ends = 0;
    for (int i = 0; i < N_TOKENS; i++) {
        float top = -100;
        for (int v = 0; v < N_VOCAB; v++) top = want[i][v] > top ? want[i][v] : top;
        ends += want[i][7] == top;
    }
    assert_in_range(ends, 3, 25); /* about every 20th of 200 */
    model_ctx_free(c);
    model_free(m);
}

static void sees_every_visible_row_and_no_other(void **state) {
    (void)state;
    static float want[N_TOKENS][N_VOCAB];
    int32_t ids[N_TOKENS];
    for (int i = 0; i < N_TOKENS; i++) ids[i] = i * 31 % N_VOCAB;
    model *m = model_new_fake(&config, NULL);
    model_ctx *c = model_ctx_new(m, (model_limits){64, 64}, NULL, NULL);
    kv *rows = new_kv(m, KERN_KV_F32);
    kv_window w = {32, 64};
    kv_seq *s = kv_seq_new(rows, w, NULL);
    enum { LAST = N_TOKENS - 1 };
    feed(c, s, ids, LAST, 64, want);
    assert_true(kv_seq_reserve(s, 1));
    model_span sp = {.seq = s, .ids = ids + LAST, .n = 1, .n_logits = 1};
    assert_true(model_forward(c, &sp, 1, NULL));
    memcpy(want[0], sp.logits, sizeof want[0]);
    for (int l = 0; l < 3; l++)
        for (int64_t j = 0; j < LAST; j++) {
            bool sliding = l % 2 == 0;
            bool held = sliding ? j >= 128 : j < 32 || j > LAST - 64;
            if (!held) continue;
            kv_tile t = kv_get_tile(s, l, 0, j / KV_BLOCK);
            float *k = (float *)((char *)t.k + j % KV_BLOCK * t.stride) + 3, old = *k;
            *k = old == 1 ? 2 : 1;
            assert_true(model_forward(c, &sp, 1, NULL));
            bool seen = sliding ? j > LAST - WIDTH : true;
            assert_int_equal(memcmp(want[0], sp.logits, sizeof want[0]) != 0, seen);
            *k = old;
        }
    assert_true(model_forward(c, &sp, 1, NULL));
    assert_memory_equal(want[0], sp.logits, sizeof want[0]);
    atomic_bool stop = true;
    assert_false(model_forward(c, &sp, 1, &stop));
    kv_seq_free(s);
    kv_free(rows);
    model_ctx_free(c);
    model_free(m);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(chunks_formats_and_runs_agree),
        cmocka_unit_test(sees_every_visible_row_and_no_other),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
