/* The block pool against a simple model: visibility row by row, eviction, rewind, reuse of blocks,
 * exact plans. Every row holds a number derived from (sequence, layer, position), so a block that is
 * shared by mistake, evicted too early or handed out twice shows. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/hash.h"
#include "kv/kv.h"

enum { HEAD_DIM = 4, N_HEADS = 2, N_LAYERS = 4, MAX_CHUNK = 48, WIDTH = 40 };

static const int32_t mixed[N_LAYERS] = {WIDTH, 0, WIDTH - 7, 0};

static kv_config config(int n_seqs, int64_t max_rows) {
    return (kv_config){.shape = {N_LAYERS, N_HEADS, HEAD_DIM, mixed, KERN_KV_F32},
                       .n_seqs = n_seqs,
                       .max_rows = max_rows,
                       .max_chunk = MAX_CHUNK};
}

static bool sees(kv_window w, int64_t sliding, int64_t i, int64_t j) {
    if (j > i) return false;
    if (sliding > 0) return j > i - sliding;
    return j < w.pinned || w.width == KV_UNBOUNDED || j > i - w.width;
}

static void visible_matches_the_definition(void **state) {
    (void)state;
    const int64_t pins[] = {0, 32, 64}, widths[] = {32, 33, 50, 64, 1000, KV_UNBOUNDED};
    for (size_t p = 0; p < 3; p++)
        for (size_t w = 0; w < 6; w++)
            for (int64_t sliding = 0; sliding <= 40; sliding += 20)
                for (int64_t i = -1; i < 260; i++) {
                    kv_window win = {pins[p], widths[w]};
                    kv_range r[2] = {{0, 0}, {0, 0}};
                    int n = kv_visible(win, sliding, i, r);
                    assert_in_range(n, i < 0 ? 0 : 1, 2);
                    if (n == 2) assert_true(r[0].end < r[1].begin);
                    for (int64_t j = 0; j < 270; j++) {
                        bool in = false;
                        for (int k = 0; k < n; k++) in |= j >= r[k].begin && j < r[k].end;
                        assert_int_equal(in, i >= 0 && sees(win, sliding, i, j));
                    }
                    if (i < 0) continue;
                    int64_t q = kv_query_position(win, i);
                    int64_t top = win.width == KV_UNBOUNDED ? i : win.pinned + win.width - 1;
                    assert_int_equal(q, i < top ? i : top);
                    if (n == 1 && sliding == 0 && win.pinned) assert_int_equal(q, i);
                }
}

static void nonsense_is_refused(void **state) {
    (void)state;
    kv_config c = config(1, 256);
    kv *k = kv_new(&c, NULL);
    assert_non_null(k);
    const kv_window bad[] = {{0, 31}, {7, 64}, {-32, 64}, {32, 256}, {0, 257}, {288, KV_UNBOUNDED}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error err = {0};
        assert_null(kv_seq_new(k, bad[i], &err));
        assert_int_equal(err.code, ERR_INVALID_VALUE);
        assert_true(strlen(err.message) > 20);
    }
    kv_free(k);
    kv_config big = config(60000, (int64_t)1 << 39);
    assert_int_equal(kv_plan_bytes(&big), 0);
    error err = {0};
    assert_null(kv_new(&big, &err));
    assert_int_equal(err.code, ERR_INVALID_VALUE);
    kv_config q8 = config(1, 64);
    q8.shape.type = KERN_KV_Q8_0; /* head size 4 */
    assert_int_equal(kv_plan_bytes(&q8), 0);
    kv_free(NULL);
    kv_seq_free(NULL);
}

/* gpt-oss-20b: every other one of 24 layers sees 128 rows. */
static void a_rerun_is_bounded(void **state) {
    (void)state;
    int32_t widths[24];
    for (int i = 0; i < 24; i++) widths[i] = i % 2 ? 0 : 128;
    kv_config c = {.shape = {24, 8, 64, widths, KERN_KV_F16},
                   .n_seqs = 1,
                   .max_rows = 256,
                   .max_chunk = MAX_CHUNK};
    kv *k = kv_new(&c, NULL);
    assert_int_equal(kv_rerun_rows(k), 1524);
    kv_free(k);
    c.shape.layer_width = mixed, c.shape.n_layers = N_LAYERS;
    k = kv_new(&c, NULL);
    assert_int_equal(kv_rerun_rows(k), WIDTH - 1 + WIDTH - 7 - 1);
    kv_free(k);
}

/* ── Random walks ── */

static float mark(uint64_t tag, int layer, int head, int64_t pos, int v) {
    return (float)(hash_combine(hash_combine(tag, (uint64_t)pos),
                                (uint64_t)(layer * 64 + head * 2 + v)) >>
                   42);
}

/* Writes rows the way a forward pass does, then reads all that each of them may see. */
static void write_and_check(kv_seq *s, const uint64_t *tags, int64_t n) {
    int64_t len = kv_seq_len(s);
    for (int l = 0; l < N_LAYERS; l++)
        for (int h = 0; h < N_HEADS; h++)
            for (int64_t j = len; j < len + n; j++) {
                kv_tile t = kv_get_tile(s, l, h, j / KV_BLOCK);
                float *k = (float *)((char *)t.k + j % KV_BLOCK * t.stride);
                float *v = (float *)((char *)t.v + j % KV_BLOCK * t.stride);
                for (int i = 0; i < HEAD_DIM; i++) {
                    k[i] = mark(tags[j], l, h, j, 0);
                    v[i] = mark(tags[j], l, h, j, 1);
                }
            }
    for (int l = 0; l < N_LAYERS; l++) {
        dev_kv rows = kv_get_rows(s, l);
        for (int64_t i = len; i < len + n; i += 1 + n / 3) {
            kv_range r[2];
            int m = kv_visible(kv_seq_window(s), mixed[l], i, r);
            for (int p = 0; p < m; p++)
                for (int64_t j = r[p].begin; j < r[p].end; j++) {
                    int h = (int)(j % N_HEADS);
                    kv_tile t = kv_get_tile(s, l, h, j / KV_BLOCK);
                    assert_ptr_equal(t.k, dev_kv_tile(&rows, h, j / KV_BLOCK));
                    assert_ptr_equal(t.v, dev_kv_tile(&rows, h, j / KV_BLOCK) + rows.tile_bytes);
                    const float *k = (float *)((char *)t.k + j % KV_BLOCK * t.stride);
                    const float *v = (float *)((char *)t.v + j % KV_BLOCK * t.stride);
                    assert_true(k[0] == mark(tags[j], l, h, j, 0));
                    assert_true(v[HEAD_DIM - 1] == mark(tags[j], l, h, j, 1));
                }
        }
    }
}

enum { MAX_SEQS = 5, MAX_LEN = 1200 };

typedef struct walker {
    kv_seq *s;
    uint64_t tags[MAX_LEN]; /* what each committed position was written with */
} walker;

/* The oldest position a walk may still go back to: rows that left never come back. */
static bool may_rewind(const kv_seq *s, int64_t released_at, int64_t len) {
    if (len == 0) return true;
    kv_window w = kv_seq_window(s);
    /* Blocks left when `released_at` rows were there. */
    int64_t gone_full =
        w.width > released_at ? 0 : (released_at - w.width + 1) / KV_BLOCK * KV_BLOCK;
    int64_t gone_slide = WIDTH > released_at ? 0 : (released_at - WIDTH + 1) / KV_BLOCK * KV_BLOCK;
    if (gone_full < w.pinned) gone_full = w.pinned;
    int64_t need_full = w.width > len - 1 ? 0 : len - w.width;
    int64_t need_slide = WIDTH > len - 1 ? 0 : len - WIDTH;
    if (need_full < w.pinned) need_full = w.pinned;
    return need_full >= gone_full && need_slide >= gone_slide;
}

static void random_walks(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        uint64_t n_draws = 0;
#define DRAW(n) (int64_t)(rng_at(seed, n_draws++) % (uint64_t)(n))
        int n_seqs = (int)(1 + DRAW(3));
        kv_config c = config(n_seqs, 64 + DRAW(300));
        error err = {0};
        kv *k = kv_new(&c, &err);
        assert_non_null(k);
        int64_t total[2] = {kv_n_blocks(k, false), kv_n_blocks(k, true)};
        walker w[MAX_SEQS] = {0};
        int64_t released[MAX_SEQS] = {0};
        for (int step = 0; step < 300; step++) {
            walker *a = &w[DRAW(MAX_SEQS)];
            int64_t *rel = &released[a - w];
            if (!a->s) {
                int64_t p = DRAW(3) * KV_BLOCK;
                int64_t width = DRAW(4) == 0 ? KV_UNBOUNDED : KV_BLOCK + DRAW(c.max_rows);
                a->s = kv_seq_new(k, (kv_window){p, width}, NULL);
                *rel = 0;
                bool legal = p <= c.max_rows && (width == KV_UNBOUNDED || p + width <= c.max_rows);
                assert_int_equal(a->s != NULL, legal);
                continue;
            }
            int64_t len = kv_seq_len(a->s), what = DRAW(10);
            if (what == 0) {
                kv_seq_free(a->s);
                *a = (walker){0};
            } else if (what <= 2) {
                int64_t to = DRAW(3) ? len - DRAW(len < 60 ? len + 1 : 60) : DRAW(len + 1);
                bool ok = kv_seq_rewind(a->s, to);
                assert_int_equal(ok, may_rewind(a->s, *rel, to));
                if (ok && to == 0) *rel = 0;
                assert_int_equal(kv_seq_len(a->s), ok ? to : len);
            } else {
                int64_t n = 1 + DRAW(MAX_CHUNK);
                if (len + n > MAX_LEN) n = MAX_LEN - len;
                int64_t held = kv_seq_n_blocks(a->s);
                int64_t free0 = kv_n_free_blocks(k, false), free1 = kv_n_free_blocks(k, true);
                if (!kv_seq_reserve(a->s, n)) {
                    assert_int_equal(kv_seq_n_blocks(a->s), held);
                    assert_int_equal(kv_n_free_blocks(k, false), free0);
                    assert_int_equal(kv_n_free_blocks(k, true), free1);
                    /* Never for a single windowed sequence: the plan covers it. */
                    int others = 0;
                    for (int i = 0; i < MAX_SEQS; i++) others += w[i].s && w[i].s != a->s;
                    assert_true(others >= c.n_seqs || others > 0 ||
                                kv_seq_window(a->s).width == KV_UNBOUNDED);
                    continue;
                }
                if (len > *rel) *rel = len;
                int64_t keep = DRAW(4) ? n : DRAW(n + 1);
                for (int64_t j = len; j < len + n; j++)
                    a->tags[j] = rng_at(seed + 77, n_draws * 4096 + (uint64_t)j);
                write_and_check(a->s, a->tags, n);
                kv_seq_commit(a->s, keep);
            }
            int64_t held = 0;
            for (int i = 0; i < MAX_SEQS; i++)
                if (w[i].s) held += kv_seq_n_blocks(w[i].s);
            assert_int_equal(held + kv_n_free_blocks(k, false) + kv_n_free_blocks(k, true),
                             total[0] + total[1]);
        }
        for (int i = 0; i < MAX_SEQS; i++) kv_seq_free(w[i].s);
        assert_int_equal(kv_n_free_blocks(k, false), total[0]);
        assert_int_equal(kv_n_free_blocks(k, true), total[1]);
        kv_free(k);
    }
}

/* Past the window a sequence holds a constant number of blocks, however long it runs, and n_seqs of
 * them fit at once. */
static void memory_is_flat_past_the_window(void **state) {
    (void)state;
    kv_config c = config(3, 200);
    kv *k = kv_new(&c, NULL);
    kv_seq *s[3];
    int64_t most = 0;
    for (int i = 0; i < 3; i++) s[i] = kv_seq_new(k, (kv_window){32 * i, 200 - 32 * i}, NULL);
    for (int step = 0; step < 4000; step++)
        for (int i = 0; i < 3; i++) {
            int64_t n = 1 + (int64_t)(rng_at(5, (uint64_t)(step * 3 + i)) % MAX_CHUNK);
            assert_true(kv_seq_reserve(s[i], n));
            kv_seq_commit(s[i], n);
            if (kv_seq_n_blocks(s[i]) > most) most = kv_seq_n_blocks(s[i]);
        }
    assert_true(kv_seq_len(s[0]) > 80000);
    assert_true(most <= (kv_n_blocks(k, false) + kv_n_blocks(k, true)) / 3);
    for (int i = 0; i < 3; i++) kv_seq_free(s[i]);
    kv_free(k);
}

static void freed_blocks_are_poison_in_debug_builds(void **state) {
    (void)state;
#ifdef ORIEL_DEBUG
    kv_config c = config(1, 64);
    kv *k = kv_new(&c, NULL);
    kv_seq *s = kv_seq_new(k, (kv_window){0, 64}, NULL);
    assert_true(kv_seq_reserve(s, 40));
    kv_tile t = kv_get_tile(s, 1, 0, 0);
    assert_true(isnan(*(float *)t.k) && isnan(*(float *)t.v));
    *(float *)t.k = 1;
    kv_seq_commit(s, 40);
    assert_true(kv_seq_rewind(s, 0));
    assert_true(isnan(*(float *)t.k));
    kv_seq_free(s);
    kv_free(k);
#else
    skip();
#endif
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(visible_matches_the_definition),
        cmocka_unit_test(nonsense_is_refused),
        cmocka_unit_test(a_rerun_is_bounded),
        cmocka_unit_test(random_walks),
        cmocka_unit_test(memory_is_flat_past_the_window),
        cmocka_unit_test(freed_blocks_are_poison_in_debug_builds),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
