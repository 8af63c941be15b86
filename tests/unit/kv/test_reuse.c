/* Reuse against a cold twin (tests/lib/kv_twin.h): a row that was adopted wrongly, run again from too late,
 * evicted too early or written while shared changes the outputs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/hash.h"
#include "kv_twin.h"

enum { N_LAYERS = TWIN_LAYERS, MAX_CHUNK = 48, MAX_LEN = TWIN_MAX_LEN, N_TEXTS = 24 };

/* ── Conversations ── */

typedef struct talk {
    kv_seq *s;
    kv_window w;
    int32_t ids[MAX_LEN];
    int64_t n, at; /* ids there are; those that ran */
    int64_t again; /* positions below run for their sliding rows alone */
    uint64_t want[MAX_LEN];
} talk;

typedef struct world {
    uint64_t seed, draws;
    const int32_t *widths;
    kv *k;
    int32_t texts[N_TEXTS][MAX_LEN]; /* what conversations begin with */
    int64_t n_adopted, n_rerun, n_divergences, n_refused;
} world;

static int64_t draw(world *x, int64_t n) {
    return (int64_t)(rng_at(x->seed, x->draws++) % (uint64_t)n);
}

/* A text that shares a random part of another one. */
static void begin(world *x, talk *t, int64_t max_rows) {
    int32_t *text = x->texts[draw(x, N_TEXTS)];
    const int32_t *other = x->texts[draw(x, 6)];
    int64_t same = draw(x, 3) ? draw(x, MAX_LEN) : draw(x, MAX_LEN / 32) * 32;
    memcpy(text, other, (size_t)same * sizeof *text);
    for (int64_t i = same; i < MAX_LEN; i++) text[i] = (int32_t)draw(x, 1000);
    t->n = 2 + draw(x, MAX_LEN - 2);
    t->at = 0;
    memcpy(t->ids, text, sizeof t->ids);
    /* Few windows, so that conversations meet. */
    int64_t p = draw(x, 2) * KV_BLOCK;
    t->w = (kv_window){p, draw(x, 3) ? max_rows - p : max_rows - p - 10};
    t->s = kv_seq_new(x->k, t->w, NULL);
    assert_non_null(t->s);
    twin_cold(x->widths, t->w, t->ids, t->n, t->want);
    kv_reuse r = kv_seq_adopt(t->s, t->ids, t->n - 1);
    assert_int_equal(kv_seq_len(t->s), r.n_kept);
    assert_in_range(r.n_rerun, 0, kv_rerun_rows(x->k));
    assert_true(r.n_kept + r.n_rerun < t->n);
    t->at = r.n_kept;
    t->again = r.n_kept + r.n_rerun;
    x->n_adopted += r.n_kept;
    x->n_rerun += r.n_rerun;
    x->n_divergences += r.n_kept > 0;
    kv_seq_mark(t->s, t->n / 2);
}

static bool go_on(world *x, talk *t) {
    uint64_t out[MAX_CHUNK];
    int64_t n = 1 + draw(x, MAX_CHUNK), left = t->n - t->at;
    if (n > left) n = left;
    if (!kv_seq_reserve(t->s, n)) {
        x->n_refused++;
        return false;
    }
    twin_run(t->s, t->ids + t->at, n, out);
    if (draw(x, 10) == 0) return true; /* given up between layers: nothing is committed */
    kv_seq_commit(t->s, n);
    kv_seq_share(t->s, t->ids + t->at, n);
    for (int64_t i = 0; i < n; i++)
        if (t->at + i >= t->again && out[i] != t->want[t->at + i])
            fail_msg("seed %llu: position %lld of %lld, window %lld + %lld, is not the twin's",
                     (unsigned long long)x->seed, (long long)(t->at + i), (long long)t->n,
                     (long long)t->w.pinned, (long long)t->w.width);
    t->at += n;
    if (draw(x, 12) == 0 && t->at >= t->again) {
        int64_t to = t->at - draw(x, t->at < 40 ? t->at : 40);
        if (kv_seq_rewind(t->s, to)) {
            t->at = to;
            t->again = 0; /* true rows alone are left, or the sequence is empty */
        }
    }
    return true;
}

static void run_world(uint64_t seed, int64_t *n_divergences, int64_t *n_rerun, int64_t *n_adopted) {
    static const int32_t kinds[][N_LAYERS] = {
        {40, 0, 40, 0}, {0, 33, 0, 20}, {0, 0, 0, 0}, {30, 30, 30, 30}, {0, 64, 64, 0}};
    enum { N_TALKS = 3 };
    world x = {.seed = seed, .widths = kinds[seed % 5]};
    int64_t rows = 80 + draw(&x, 3) * 100 + draw(&x, 40);
    kv_config c = {.shape = {N_LAYERS, 1, TWIN_HEAD_DIM, x.widths, KERN_KV_F32},
                   .n_seqs = N_TALKS,
                   .max_rows = rows,
                   .max_chunk = MAX_CHUNK,
                   .cache_bytes = (uint64_t)draw(&x, 2) * 200000};
    x.k = kv_new(&c, NULL);
    assert_non_null(x.k);
    for (int i = 0; i < N_TEXTS; i++)
        for (int j = 0; j < MAX_LEN; j++) x.texts[i][j] = (int32_t)draw(&x, 1000);
    static talk talks[N_TALKS];
    memset(talks, 0, sizeof talks);
    for (int step = 0; step < 900; step++) {
        talk *t = &talks[draw(&x, N_TALKS)];
        if (!t->s) {
            begin(&x, t, rows);
            continue;
        }
        if (!go_on(&x, t)) { /* only a re-run's surplus can be in the way: it gives up */
            bool any = false;
            for (int i = 0; i < N_TALKS; i++) {
                if (!talks[i].s || !kv_seq_is_rerunning(talks[i].s)) continue;
                any = true;
                assert_true(kv_seq_rewind(talks[i].s, 0));
                talks[i].at = talks[i].again = 0;
            }
            assert_true(any);
        }
        if (t->at < t->n && draw(&x, 40)) continue;
        kv_seq_free(t->s);
        t->s = NULL;
    }
    for (int i = 0; i < N_TALKS; i++) kv_seq_free(talks[i].s);
    for (int g = 0; g < 2; g++) assert_int_equal(kv_n_free_blocks(x.k, g), kv_n_blocks(x.k, g));
    kv_free(x.k);
    *n_divergences += x.n_divergences;
    *n_rerun += x.n_rerun;
    *n_adopted += x.n_adopted;
}

static void divergences_equal_cold_runs(void **state) {
    (void)state;
    const char *many = getenv("ORIEL_KV_WORLDS");
    uint64_t n = many ? strtoull(many, NULL, 10) : 8;
    int64_t divergences = 0, rerun = 0, adopted = 0;
    for (uint64_t seed = 0; seed < n; seed++) run_world(seed, &divergences, &rerun, &adopted);
    printf("# %lld divergences: %lld positions adopted, %lld run again\n", (long long)divergences,
           (long long)adopted, (long long)rerun);
    assert_true(divergences > 100);
    assert_true(rerun > 0);
}

int main(void) {
    const struct CMUnitTest t[] = {cmocka_unit_test(divergences_equal_cold_runs)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
