/* The promise everything leans on: logits are the same bytes with one thread or two, alone or among
 * eight neighbours, and however the prompt is cut. For every architecture and weight type of the
 * oracle's models, packed and from the file's own rows, in a window and without one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/hash.h"
#include "model_run.h"

enum { N_NEIGHBOURS = 8, MAX_CHUNK = 64 };

/* Past the sliding width of 128; the scalar rung is too slow for that many. */
static int n_tokens(void) {
    return kern_get()->rung == KERN_SCALAR ? 48 : 200;
}

typedef struct fellow {
    kv_seq *s;
    int32_t *ids; /* [n] */
    int at;
} fellow;

/* The ids run among neighbours that come with other texts, lengths and windows, in spans of random
 * sizes and in a random place of the batch. */
static float *run_in_company(model *m, const int32_t *ids, int n, const run_options *o,
                             uint64_t seed) {
    const model_info *i = model_get_info(m);
    uint64_t draws = 0;
    kv_window w = o->window;
    if (w.width == 0) w.width = KV_UNBOUNDED;
    kv *k = new_kv(m, o->kv_type, N_NEIGHBOURS + 1, n < 128 ? 128 : n, MAX_CHUNK);
    model_ctx *c = model_ctx_new(
        m, (model_limits){(N_NEIGHBOURS + 1) * MAX_CHUNK, (N_NEIGHBOURS + 1) * MAX_CHUNK}, o->pool,
        NULL);
    fellow all[N_NEIGHBOURS + 1];
    for (int f = 0; f <= N_NEIGHBOURS; f++) {
        kv_window other = f % 2 ? (kv_window){32, 64} : (kv_window){0, KV_UNBOUNDED};
        all[f].s = kv_seq_new(k, f == 0 ? w : other, NULL);
        assert_non_null(all[f].s);
        all[f].ids = malloc((size_t)n * sizeof *ids);
        all[f].at = 0;
        for (int t = 0; t < n; t++)
            all[f].ids[t] =
                f == 0 ? ids[t]
                       : (int32_t)(rng_at(seed + 99, (uint64_t)(f * n + t)) % (uint64_t)i->n_vocab);
    }
    float *out = malloc((size_t)n * (size_t)i->n_vocab * sizeof *out);
    while (all[0].at < n) {
        model_span spans[N_NEIGHBOURS + 1];
        int who[N_NEIGHBOURS + 1], n_spans = 0, me = -1;
        int first = (int)(rng_at(seed, draws++) % (N_NEIGHBOURS + 1));
        for (int f = 0; f <= N_NEIGHBOURS; f++) {
            fellow *x = &all[(first + f) % (N_NEIGHBOURS + 1)];
            int most = rng_at(seed, draws++) % 2 ? 4 : MAX_CHUNK;
            int len = (int)(rng_at(seed, draws++) % (uint64_t)most) + 1;
            if (len > n - x->at) len = n - x->at;
            if (len == 0) continue;
            assert_true(kv_seq_reserve(x->s, len));
            if (x == all) me = n_spans;
            who[n_spans] = (int)(x - all);
            spans[n_spans++] =
                (model_span){.seq = x->s,
                             .ids = x->ids + x->at,
                             .n = len,
                             .n_logits = x == all ? len : (int)(rng_at(seed, draws++) % 2)};
        }
        assert_true(model_forward(c, spans, n_spans, NULL));
        memcpy(out + (ptrdiff_t)all[0].at * i->n_vocab, spans[me].logits,
               (size_t)spans[me].n * (size_t)i->n_vocab * sizeof *out);
        for (int s = 0; s < n_spans; s++) {
            kv_seq_commit(spans[s].seq, spans[s].n);
            all[who[s]].at += spans[s].n;
        }
    }
    for (int f = 0; f <= N_NEIGHBOURS; f++) {
        kv_seq_free(all[f].s);
        free(all[f].ids);
    }
    model_ctx_free(c);
    kv_free(k);
    return out;
}

static void expect_same(const float *want, float *got, size_t bytes, const char *what) {
    if (memcmp(want, got, bytes) != 0) fail_msg("other bytes: %s", what);
    free(got);
}

static void check_file(const char *path, const int32_t *ids, bool no_repack, pool *two) {
    int n = n_tokens();
    loaded l = load_model(path, &(model_options){.no_repack = no_repack});
    size_t bytes = (size_t)n * (size_t)model_get_info(l.m)->n_vocab * sizeof(float);
    const kv_window windows[] = {{0, 0}, {32, 64}, {0, 40}};
    for (int w = 0; w < 3; w++) {
        run_options o = {.kv_type = w == 2 ? KERN_KV_F32 : KERN_KV_F16, .window = windows[w]};
        float *want = run_logits(l.m, ids, n, &o);
        for (size_t i = 0; i < bytes / sizeof *want; i++) assert_true(want[i] == want[i]);
        const int chunks[] = {1, 7, 512};
        for (int c = 0; c < 3; c++)
            for (int threads = 1; threads <= 2; threads++) {
                if (w && threads == c % 2 + 1) continue; /* half of them will do here */
                char what[640];
                snprintf(what, sizeof what, "%s, window %d, chunks of %d, %d threads", path, w,
                         chunks[c], threads);
                o.chunk = chunks[c];
                o.pool = threads == 2 ? two : NULL;
                expect_same(want, run_logits(l.m, ids, n, &o), bytes, what);
            }
        o.pool = two;
        for (uint64_t seed = 0; seed < (w ? 1 : 2); seed++)
            expect_same(want, run_in_company(l.m, ids, n, &o, seed), bytes, "among neighbours");
        if (w == 0) { /* a window that nothing falls out of changes nothing */
            o.window = (kv_window){32, n};
            expect_same(want, run_logits(l.m, ids, n, &o), bytes, "a window that is never left");
        }
        free(want);
    }
    unload_model(&l);
}

static void every_file_of_the_oracle(void **state) {
    (void)state;
    if (!corpus_path("%s", "")) skip();
    static const char *const files[] = {"gptoss-a/model-f32",
                                        "gptoss-b/model-bf16",
                                        "llama-plain-tied/model-f32",
                                        "llama3-ropefreqs-untied/model-f32",
                                        "qwen2/model-f32",
                                        "qwen3/model-f32",
                                        "qwen3moe/model-f32",
                                        "llama-types/model-f32",
                                        "llama-types/model-f16",
                                        "llama-types/model-bf16",
                                        "llama-types/model-q8_0",
                                        "llama-types/model-q4_0",
                                        "llama-types/model-q4_k",
                                        "llama-types/model-q6_k"};
    pool *two = pool_new(2, NULL);
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        char dir[64];
        snprintf(dir, sizeof dir, "%.*s", (int)strcspn(files[f], "/"), files[f]);
        json_t *all = read_json(corpus_path("arch_oracle/%s/ids.json", dir));
        int n;
        int32_t *ids = json_ids(json_object_get(all, "ids300"), &n);
        assert_int_equal(n, 300);
        check_file(corpus_path("arch_oracle/%s.gguf", files[f]), ids, false, two);
        if (f % 3 == 0) check_file(corpus_path("arch_oracle/%s.gguf", files[f]), ids, true, two);
        free(ids);
        json_decref(all);
    }
    pool_free(two);
}

int main(void) {
    const struct CMUnitTest t[] = {cmocka_unit_test(every_file_of_the_oracle)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
