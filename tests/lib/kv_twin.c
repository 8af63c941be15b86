#include "kv_twin.h"

#include <string.h>

#include "base/hash.h"

/* For tests and fuzz targets alike. */
static void expect(bool ok) {
    if (!ok) __builtin_trap();
}

static void put(const kv_seq *s, int layer, int64_t pos, uint64_t v) {
    kv_tile t = kv_get_tile(s, layer, 0, pos / KV_BLOCK);
    memcpy((char *)t.k + pos % KV_BLOCK * t.stride, &v, sizeof v);
    memcpy((char *)t.v + pos % KV_BLOCK * t.stride, &v, sizeof v);
}
static uint64_t get(const kv_seq *s, int layer, int64_t pos) {
    kv_tile t = kv_get_tile(s, layer, 0, pos / KV_BLOCK);
    uint64_t k, v;
    memcpy(&k, (char *)t.k + pos % KV_BLOCK * t.stride, sizeof k);
    memcpy(&v, (char *)t.v + pos % KV_BLOCK * t.stride, sizeof v);
    expect(k == v && k != UINT64_MAX); /* all ones: poison of a debug build */
    return k;
}

void twin_run(kv_seq *s, const int32_t *ids, int64_t n, uint64_t *outputs) {
    int64_t len = kv_seq_len(s);
    for (int64_t i = 0; i < n; i++) outputs[i] = hash_mix((uint64_t)ids[i]);
    for (int l = 0; l < TWIN_LAYERS; l++) {
        for (int64_t i = 0; i < n; i++)
            if (!kv_seq_has_row(s, l, len + i))
                put(s, l, len + i,
                    hash_combine(outputs[i], (uint64_t)(len + i) * TWIN_LAYERS + (uint64_t)l));
        for (int64_t i = 0; i < n; i++) {
            kv_range r[2];
            int m = kv_seq_visible(s, l, len + i, r);
            expect(m > 0);
            for (int p = 0; p < m; p++)
                for (int64_t j = r[p].begin; j < r[p].end; j++)
                    outputs[i] = hash_combine(outputs[i], get(s, l, j));
        }
    }
}

void twin_cold(const int32_t *widths, kv_window w, const int32_t *ids, int64_t n, uint64_t *out) {
    static uint64_t rows[TWIN_MAX_LEN];
    for (int64_t i = 0; i < n; i++) out[i] = hash_mix((uint64_t)ids[i]);
    for (int l = 0; l < TWIN_LAYERS; l++) {
        for (int64_t i = 0; i < n; i++)
            rows[i] = hash_combine(out[i], (uint64_t)i * TWIN_LAYERS + (uint64_t)l);
        for (int64_t i = 0; i < n; i++)
            for (int64_t j = 0; j <= i; j++) {
                bool sees = widths[l] ? j > i - widths[l]
                                      : j < w.pinned || w.width == KV_UNBOUNDED || j > i - w.width;
                if (sees) out[i] = hash_combine(out[i], rows[j]);
            }
    }
}
