/* Bytes, not tolerances, for models shaped like gpt-oss and llama.
 *
 * The window: the twin runs all ids in one forward pass, where every row is there and attention skips
 * what is invisible; the paged run goes in chunks and lets blocks leave. Every row's logits are equal.
 *
 * Reuse: sequences that begin with what earlier ones left behind, at random divergences (and going on
 * after them, in random chunks), against the same ids from a cold start. ORIEL_DIVERGENCES sets how many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/hash.h"
#include "model_run.h"
#include "tiny_model.h"

typedef struct toy {
    buf image;
    file *f;
    model *m;
} toy;

static toy load_toy(const char *arch, int width) {
    tiny t = tiny_defaults(arch);
    t.n_layers = 4;
    t.head_dim = 32; /* Q8_0 rows need it */
    t.n_heads = 4, t.n_kv_heads = 1;
    if (t.width) t.width = width;
    toy y = {.image = tiny_image(&t)};
    error err = {0};
    y.f = file_open_memory(y.image.ptr, y.image.len, "toy", &err);
    y.m = y.f ? model_load(y.f, NULL, &err) : NULL;
    if (!y.m) fail_msg("%s", err.message);
    return y;
}
static void free_toy(toy *y) {
    model_free(y->m);
    file_close(y->f);
    buf_deinit(&y->image);
}

static const kern_kv_type types[] = {KERN_KV_F16, KERN_KV_BF16, KERN_KV_Q8_0, KERN_KV_F32};

static void chunks_equal_dense_attention(void **state) {
    (void)state;
    static const char *const archs[] = {"gpt-oss", "llama"};
    static const int widths[] = {64, 100, 128, 129, 1000}, chunks[] = {1, 7, 64};
    int n_types = 0;
    for (int a = 0; a < 2; a++) {
        toy y = load_toy(archs[a], 40);
        int n_vocab = model_get_info(y.m)->n_vocab;
        for (int w = 0; w < 5; w++) {
            int n = widths[w] < 1000 ? 420 : 1200;
            int32_t *ids = malloc((size_t)n * sizeof *ids);
            for (int i = 0; i < n; i++)
                ids[i] = (int32_t)(rng_at(7, (uint64_t)i) % (uint64_t)n_vocab);
            run_options o = {.kv_type = types[n_types++ % 4],
                             .window = {w % 2 * KV_BLOCK, widths[w]},
                             .chunk = n};
            float *want = run_logits(y.m, ids, n, &o);
            for (int c = 0; c < 3; c++) {
                o.chunk = chunks[c];
                float *got = run_logits(y.m, ids, n, &o);
                if (memcmp(want, got, (size_t)n * (size_t)n_vocab * sizeof *got) != 0)
                    fail_msg("%s, window %d, chunks of %d: other bytes", archs[a], widths[w],
                             chunks[c]);
                free(got);
            }
            free(want);
            free(ids);
        }
        free_toy(&y);
    }
}

/* ── Reuse ── */

enum { MAX_LEN = 420, N_TEXTS = 12, MAX_CHUNK = 64 };

typedef struct totals {
    int64_t n_adopted, n_rerun, n_diverged, n_rows;
} totals;

/* One sequence from adopting to its end. Returns false when its rows are not the cold run's. */
static void run_one(model *m, kv *k, model_ctx *c, const int32_t *ids, int n, kv_window w,
                    kern_kv_type type, uint64_t seed, totals *sum) {
    int n_vocab = model_get_info(m)->n_vocab;
    size_t row_bytes = (size_t)n_vocab * sizeof(float);
    float *want = run_logits(m, ids, n, &(run_options){.kv_type = type, .window = w, .chunk = n});
    kv_seq *s = kv_seq_new(k, w, NULL);
    assert_non_null(s);
    kv_reuse r = kv_seq_adopt(s, ids, n - 1);
    assert_in_range(r.n_rerun, 0, kv_rerun_rows(k));
    kv_seq_mark(s, n * 2 / 3);
    sum->n_adopted += r.n_kept;
    sum->n_rerun += r.n_rerun;
    sum->n_diverged += r.n_kept > 0;
    uint64_t draws = 0;
    for (int64_t at = r.n_kept; at < n;) {
        int64_t len = 1 + (int64_t)(rng_at(seed, draws++) % MAX_CHUNK);
        if (len > n - at) len = n - at;
        assert_true(kv_seq_reserve(s, len));
        model_span span = {.seq = s, .ids = ids + at, .n = (int32_t)len, .n_logits = (int32_t)len};
        assert_true(model_forward(c, &span, 1, NULL));
        kv_seq_commit(s, len);
        kv_seq_share(s, ids + at, len);
        for (int64_t i = 0; i < len; i++)
            if (at + i >= r.n_kept + r.n_rerun &&
                memcmp(want + (at + i) * n_vocab, span.logits + i * n_vocab, row_bytes) != 0)
                fail_msg(
                    "seed %llu: row %lld of %d differs (%lld kept, %lld run again, window %lld + %lld)",
                    (unsigned long long)seed, (long long)(at + i), n, (long long)r.n_kept,
                    (long long)r.n_rerun, (long long)w.pinned, (long long)w.width);
        at += len;
        sum->n_rows += len;
    }
    kv_seq_free(s);
    free(want);
}

static void divergences_equal_cold_runs(void **state) {
    (void)state;
    const char *many = getenv("ORIEL_DIVERGENCES");
    int64_t wanted = many ? strtoll(many, NULL, 10) : 300;
    static const char *const archs[] = {"gpt-oss", "llama"};
    for (int a = 0; a < 2; a++) {
        totals sum = {0};
        for (uint64_t seed = 0; sum.n_diverged < wanted / 2; seed++) {
            toy y = load_toy(archs[a], seed % 2 ? 40 : 17);
            kern_kv_type type = types[seed % 4];
            uint64_t draws = 0;
#define DRAW(n) (int64_t)(rng_at(seed + 1000, draws++) % (uint64_t)(n))
            int64_t rows = seed % 3 ? 100 + DRAW(60) : 320;
            const model_info *i = model_get_info(y.m);
            kv *k = kv_new(&(kv_config){.shape = {i->n_layers, i->n_kv_heads, i->head_dim,
                                                  i->layer_width, type},
                                        .n_seqs = 1,
                                        .max_rows = rows,
                                        .max_chunk = MAX_CHUNK,
                                        .cache_bytes = 400000},
                           NULL);
            model_ctx *c = model_ctx_new(y.m, (model_limits){MAX_CHUNK, MAX_CHUNK}, NULL, NULL);
            static int32_t texts[N_TEXTS][MAX_LEN];
            for (int t = 0; t < N_TEXTS; t++) {
                int64_t same = t ? DRAW(MAX_LEN) : 0;
                const int32_t *other = texts[t ? DRAW(t) : 0];
                for (int j = 0; j < MAX_LEN; j++)
                    texts[t][j] = j < same ? other[j] : (int32_t)DRAW(i->n_vocab);
            }
            for (int t = 0; t < 40 && sum.n_diverged < wanted / 2; t++) {
                kv_window w = {DRAW(2) * KV_BLOCK, 0};
                w.width = rows - w.pinned - DRAW(2) * 9;
                int64_t text = DRAW(N_TEXTS), len = 20 + DRAW(MAX_LEN - 20);
                run_one(y.m, k, c, texts[text], (int)len, w, type,
                        seed * 100 + (uint64_t)t, &sum);
            }
            model_ctx_free(c);
            kv_free(k);
            free_toy(&y);
        }
        printf("# %s: %lld divergences, %lld positions kept, %lld run again, %lld rows compared\n",
               archs[a], (long long)sum.n_diverged, (long long)sum.n_adopted,
               (long long)sum.n_rerun, (long long)sum.n_rows);
        assert_true(a == 1 || sum.n_rerun > 0);
    }
}

int main(void) {
    const struct CMUnitTest t[] = {cmocka_unit_test(chunks_equal_dense_attention),
                                   cmocka_unit_test(divergences_equal_cold_runs)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
