/* Sequences that begin, run, are given up, go back, share and end in any order, against a cold twin;
 * no row that was never written or has left is ever read. */
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "kv_twin.c" /* test code is not in the library that fuzz targets link */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_SEQS = 3, LEN = 250, CHUNK = 40, MAX_OPS = 150 };

typedef struct talk {
    kv_seq *s;
    int64_t n, at, again;
    int32_t ids[LEN];
    uint64_t want[LEN];
} talk;

typedef struct input {
    const uint8_t *p, *end;
} input;
static int64_t take(input *in, int64_t n) {
    return in->p < in->end ? *in->p++ % n : 0;
}

static void begin(kv *k, const int32_t *widths, int64_t rows, talk *t, input *in) {
    int64_t text = take(in, 4), parts = take(in, LEN), pinned = take(in, 2) * KV_BLOCK;
    t->n = 2 + take(in, LEN - 2);
    for (int64_t i = 0; i < LEN; i++)
        t->ids[i] = (int32_t)(rng_at(i < parts ? 0 : (uint64_t)text, (uint64_t)i) % 1000);
    kv_window w = {pinned, rows - pinned - take(in, 3)};
    t->s = kv_seq_new(k, w, NULL);
    expect(t->s != NULL);
    twin_cold(widths, w, t->ids, t->n, t->want);
    kv_reuse r = kv_seq_adopt(t->s, t->ids, t->n - 1);
    expect(r.n_rerun <= kv_rerun_rows(k) && r.n_kept + r.n_rerun < t->n);
    t->at = r.n_kept;
    t->again = r.n_kept + r.n_rerun;
    kv_seq_mark(t->s, take(in, LEN));
}

static void start_over(talk *t) {
    expect(kv_seq_rewind(t->s, 0));
    t->at = t->again = 0;
}

static void run(talk *all, talk *t, input *in) {
    uint64_t out[CHUNK];
    int64_t n = 1 + take(in, CHUNK);
    if (n > t->n - t->at) n = t->n - t->at;
    if (!kv_seq_reserve(t->s, n)) {
        bool any = false;
        for (int i = 0; i < N_SEQS; i++)
            if (all[i].s && kv_seq_is_rerunning(all[i].s)) {
                start_over(&all[i]);
                any = true;
            }
        expect(any);
        return;
    }
    twin_run(t->s, t->ids + t->at, n, out);
    if (take(in, 8) == 7) return; /* given up: nothing is committed */
    kv_seq_commit(t->s, n);
    kv_seq_share(t->s, t->ids + t->at, n);
    for (int64_t i = 0; i < n; i++) expect(t->at + i < t->again || out[i] == t->want[t->at + i]);
    t->at += n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int32_t kinds[][TWIN_LAYERS] = {
        {40, 0, 40, 0}, {0, 33, 0, 20}, {0, 0, 0, 0}, {30, 30, 30, 30}, {0, 7, 64, 0}};
    input in = {data, data + size};
    const int32_t *widths = kinds[take(&in, 5)];
    int64_t rows = 70 + take(&in, 180);
    kv_config c = {.shape = {TWIN_LAYERS, 1, TWIN_HEAD_DIM, widths, KERN_KV_F32},
                   .n_seqs = N_SEQS,
                   .max_rows = rows,
                   .max_chunk = CHUNK,
                   .cache_bytes = (uint64_t)take(&in, 3) * 30000};
    kv *k = kv_new(&c, NULL);
    static talk all[N_SEQS];
    memset(all, 0, sizeof all);
    for (int i = 0; i < MAX_OPS && in.p < in.end; i++) {
        talk *t = &all[take(&in, N_SEQS)];
        int64_t what = take(&in, 8);
        if (!t->s) {
            begin(k, widths, rows, t, &in);
        } else if (what == 0 || t->at == t->n) {
            kv_seq_free(t->s);
            t->s = NULL;
        } else if (what == 1 && t->at >= t->again) {
            int64_t to = t->at - take(&in, 64);
            if (to >= 0 && kv_seq_rewind(t->s, to)) t->at = to, t->again = 0;
        } else {
            run(all, t, &in);
        }
    }
    for (int i = 0; i < N_SEQS; i++) kv_seq_free(all[i].s);
    for (int g = 0; g < 2; g++) expect(kv_n_free_blocks(k, g) == kv_n_blocks(k, g));
    kv_free(k);
    return 0;
}
