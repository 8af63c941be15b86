/* The NEON rung against the scalar one, as TAP and without a test library, so that it can be built for
 * another processor and run in an emulator: tests/e2e/test_neon.sh does that.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "kern/kern.h"
#include "kern/num.h"

static uint64_t counter;
static int n_tests, n_failed;

static void report(bool ok, const char *name) {
    printf("%sok %d - %s\n", ok ? "" : "not ", ++n_tests, name);
    n_failed += !ok;
}

static float draw(void) {
    return 2 * (float)rng_uniform_at(11, counter++) - 1;
}

static int64_t range(int64_t low, int64_t high) {
    return low + (int64_t)(rng_at(11, counter++) % (uint64_t)(high - low + 1));
}

static void *take(size_t n) {
    void *p = NULL;
    if (posix_memalign(&p, 64, n ? n : 1)) abort();
    return p;
}

static bool check_matmul(const kern *a, const kern *b, dtype type) {
    bool same = true;
    for (int i = 0; i < 6 && same; i++) {
        const dtype_info *info = dtype_get(type);
        int64_t n_out = range(1, 60), n_rows = range(1, 5),
                n_in = info->block_len * range(1, 1 + 900 / info->block_len);
        size_t row_bytes = (size_t)(n_in / info->block_len) * info->block_bytes,
               n = (size_t)(n_out * n_rows);
        uint8_t *w = take(row_bytes * (size_t)n_out),
                *packed = take(kern_pack_bytes(a, type, n_out, n_in));
        for (size_t j = 0; j < row_bytes * (size_t)n_out; j++)
            w[j] = (uint8_t)(rng_at(12, counter++) & 0x3f);
        kern_pack(a, type, n_out, n_in, w, 0, n_out, packed);
        kern_matrix forms[2] = {{type, KERN_ROWS, n_out, n_in, w},
                                {type, KERN_PACKED, n_out, n_in, packed}};
        size_t act_bytes = kern_act_bytes(kern_act_for(type), n_in);
        uint8_t *x = take(act_bytes * (size_t)n_rows), *x2 = take(act_bytes * (size_t)n_rows);
        memset(x, 0, act_bytes * (size_t)n_rows);
        memset(x2, 0, act_bytes * (size_t)n_rows);
        float *row = take((size_t)n_in * 4), *ya = take(n * 4), *yb = take(n * 4);
        for (int64_t r = 0; r < n_rows; r++) {
            for (int64_t j = 0; j < n_in; j++) row[j] = draw();
            a->quantize(kern_act_for(type), n_in, row, x + (size_t)r * act_bytes);
            b->quantize(kern_act_for(type), n_in, row, x2 + (size_t)r * act_bytes);
        }
        same = memcmp(x, x2, act_bytes * (size_t)n_rows) == 0;
        kern_acts acts = {kern_act_for(type), n_in, x};
        for (int f = 0; f < 2; f++) {
            a->matmul(&forms[f], &acts, n_rows, ya, n_out, 0, n_out);
            b->matmul(&forms[f], &acts, n_rows, yb, n_out, 0, n_out);
            same = same && memcmp(ya, yb, n * 4) == 0;
        }
        free(w), free(packed), free(x), free(x2), free(row), free(ya), free(yb);
    }
    return same;
}

static bool check_elementwise(const kern *a, const kern *b) {
    bool same = true;
    for (int i = 0; i < 40 && same; i++) {
        int64_t n = 2 * range(1, 100);
        size_t bytes = (size_t)n * 4;
        float *x = take(bytes), *w = take(bytes), *ya = take(bytes), *yb = take(bytes);
        for (int64_t j = 0; j < n; j++) x[j] = draw() * 20, w[j] = draw() * 10;
        a->rmsnorm(n, x, w, 1e-5f, ya), b->rmsnorm(n, x, w, 1e-5f, yb);
        same = same && memcmp(ya, yb, bytes) == 0;
        a->swiglu(n, x, w, ya), b->swiglu(n, x, w, yb);
        same = same && memcmp(ya, yb, bytes) == 0;
        a->swiglu_oai(n, x, w, 1.702f, 7, ya), b->swiglu_oai(n, x, w, 1.702f, 7, yb);
        same = same && memcmp(ya, yb, bytes) == 0;
        a->rope(n, i & 1, w, ya), b->rope(n, i & 1, w, yb);
        same = same && memcmp(ya, yb, bytes) == 0;
        a->axpy(n, 0.7f, x, ya), b->axpy(n, 0.7f, x, yb);
        same = same && memcmp(ya, yb, bytes) == 0 && a->argmax(n, x) == b->argmax(n, x);
        free(x), free(w), free(ya), free(yb);
    }
    return same;
}

/* Sums over a head are ordered differently per rung, so this is equal within rounding. */
static bool check_attention(const kern *a, const kern *b, kern_kv_type type) {
    bool close = true;
    for (int i = 0; i < 12 && close; i++) {
        int64_t dim = 8 * range(1, 16), n_rows = range(1, 64), n_group = range(1, 9),
                first = range(0, n_rows - 1);
        size_t row_bytes = kern_kv_row_bytes(type, dim), n = (size_t)(dim * n_group);
        uint8_t *k = take(row_bytes * (size_t)n_rows), *v = take(row_bytes * (size_t)n_rows);
        float *x = take((size_t)dim * 4), *q = take(n * 4), *out[2] = {take(n * 4), take(n * 4)},
              *acc = take(n * 4);
        for (size_t j = 0; j < n; j++) q[j] = draw();
        for (int64_t r = 0; r < 2 * n_rows; r++) {
            for (int64_t j = 0; j < dim; j++) x[j] = draw() * 2;
            a->kv_store(type, dim, x, (r & 1 ? v : k) + (size_t)(r / 2) * row_bytes);
        }
        const kern *rungs[2] = {a, b};
        for (int u = 0; u < 2; u++) {
            kern_attn_state st[9];
            memset(acc, 0, n * 4);
            for (int64_t g = 0; g < n_group; g++)
                st[g] = (kern_attn_state){-INFINITY, 0, acc + g * dim};
            rungs[u]->attn_tile(type, dim, n_group, q, k, (int64_t)row_bytes, v, (int64_t)row_bytes,
                                first, n_rows, st);
            for (int64_t g = 0; g < n_group; g++)
                rungs[u]->attn_finish(dim, st + g, 0.3f, out[u] + g * dim);
        }
        for (size_t j = 0; j < n; j++) close = close && fabsf(out[0][j] - out[1][j]) <= 1e-5f;
        free(k), free(v), free(x), free(q), free(out[0]), free(out[1]), free(acc);
    }
    return close;
}

int main(void) {
    static const dtype types[] = {DTYPE_Q8_0, DTYPE_Q4_0,  DTYPE_Q5_0, DTYPE_Q4_K,
                                  DTYPE_Q6_K, DTYPE_MXFP4, DTYPE_F16,  DTYPE_F32};
    const kern *scalar = kern_get_rung(KERN_SCALAR), *neon = kern_get_rung(KERN_NEON);
    report(neon != NULL && kern_get() == neon, "NEON is the rung of this processor");
    if (neon) {
        for (size_t t = 0; t < sizeof types / sizeof *types; t++) {
            char name[64];
            snprintf(name, sizeof name, "matmul %s: the scalar rung's bytes",
                     dtype_get(types[t])->name);
            report(check_matmul(scalar, neon, types[t]), name);
        }
        report(check_elementwise(scalar, neon), "elementwise kernels: the scalar rung's bytes");
        for (int t = 0; t < 4; t++)
            report(check_attention(scalar, neon, (kern_kv_type)t),
                   "attention within rounding of the scalar rung");
    }
    printf("1..%d\n", n_tests);
    return n_failed != 0;
}
