/* Every rung against the scalar one and against double precision, on seeded random shapes with tails.
 * A rung this machine lacks is not tested (the run names those it has).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "kern/kern.h"
#include "kern/num.h"

static uint64_t seed = 7, counter;

static uint64_t draw(void) {
    return rng_at(seed, counter++);
}

static int64_t draw_range(int64_t low, int64_t high) {
    return low + (int64_t)(draw() % (uint64_t)(high - low + 1));
}

static float draw_normal(void) {
    double s = 0;
    for (int i = 0; i < 12; i++) s += rng_uniform_at(seed, counter++);
    return (float)(s - 6);
}

/* Exactly the bytes asked for, so that asan sees a kernel read or write past them. */
static void *take(size_t n) {
    void *p;
    if (posix_memalign(&p, 64, n ? n : 1)) abort();
    return p;
}

static const dtype fast_types[] = {DTYPE_F32,  DTYPE_F16,  DTYPE_BF16, DTYPE_Q8_0, DTYPE_Q4_0,
                                   DTYPE_Q5_0, DTYPE_Q4_K, DTYPE_Q6_K, DTYPE_MXFP4};
enum { N_FAST = sizeof fast_types / sizeof *fast_types };

/* Random bytes make good blocks once their scales are tame. */
static void random_weights(dtype type, int64_t n, uint8_t *out) {
    const dtype_info *info = dtype_get(type);
    for (int64_t i = 0; i < n / info->block_len; i++) {
        uint8_t *b = out + (size_t)i * info->block_bytes;
        for (uint32_t j = 0; j < info->block_bytes; j++) b[j] = (uint8_t)draw();
        uint16_t d = num_to_f16(draw_normal() * 0.05f), m = num_to_f16(draw_normal() * 0.02f);
        float f = draw_normal();
        uint16_t h;
        switch (type) {
        case DTYPE_F32: memcpy(b, &f, 4); break;
        case DTYPE_F64: {
            double wide = f;
            memcpy(b, &wide, 8);
            break;
        }
        case DTYPE_F16:
            h = num_to_f16(f);
            memcpy(b, &h, 2);
            break;
        case DTYPE_BF16:
            h = num_to_bf16(f);
            memcpy(b, &h, 2);
            break;
        case DTYPE_Q6_K: memcpy(b + 208, &d, 2); break;
        case DTYPE_Q4_K:
        case DTYPE_Q5_K:
        case DTYPE_Q4_1:
            memcpy(b, &d, 2);
            memcpy(b + 2, &m, 2);
            break;
        case DTYPE_MXFP4: b[0] = (uint8_t)draw_range(118, 128); break;
        default: memcpy(b, &d, 2); break;
        }
    }
}

static int64_t draw_width(dtype type) {
    switch (dtype_get(type)->block_len) {
    case 1: return draw_range(1, 700);
    case 32: return 32 * draw_range(1, 20);
    default: return 256 * draw_range(1, 5);
    }
}

/* A matrix in both layouts with quantised and float activations of n_rows rows. */
typedef struct problem {
    dtype type;
    int64_t n_out, n_in, n_rows;
    kern_matrix rows, packed;
    kern_acts q8, f32;
    float *x;
} problem;

static problem make_problem(const kern *k, dtype type, int64_t n_out, int64_t n_in,
                            int64_t n_rows) {
    problem p = {.type = type, .n_out = n_out, .n_in = n_in, .n_rows = n_rows};
    uint64_t row_bytes;
    assert_true(dtype_row_bytes(type, (uint64_t)n_in, &row_bytes));
    uint8_t *w = take((size_t)n_out * row_bytes);
    random_weights(type, n_out * n_in, w);
    p.rows = (kern_matrix){type, KERN_ROWS, n_out, n_in, w};
    size_t packed_bytes = kern_pack_bytes(k, type, n_out, n_in);
    if (kern_can_pack(k, type)) {
        assert_true(packed_bytes > 0);
        uint8_t *panels = take(packed_bytes);
        int64_t cut = draw_range(0, n_out / k->pack_rows) * k->pack_rows;
        kern_pack(k, type, n_out, n_in, w + (size_t)cut * row_bytes, cut, n_out, panels);
        if (cut) kern_pack(k, type, n_out, n_in, w, 0, cut, panels);
        p.packed = (kern_matrix){type, KERN_PACKED, n_out, n_in, panels};
    } else {
        assert_int_equal(packed_bytes, 0);
    }
    p.x = take((size_t)(n_rows * n_in) * 4);
    for (int64_t i = 0; i < n_rows * n_in; i++) p.x[i] = draw_normal();
    if (n_in >= 32)
        for (int64_t i = 0; i < 32; i++) p.x[i] = i & 1 ? 0 : p.x[i] * 100; /* an uneven block */
    size_t qb = kern_act_bytes(KERN_ACT_Q8, n_in), fb = kern_act_bytes(KERN_ACT_F32, n_in);
    uint8_t *xq = take((size_t)n_rows * qb), *xf = take((size_t)n_rows * fb);
    for (int64_t r = 0; r < n_rows; r++) {
        k->quantize(KERN_ACT_Q8, n_in, p.x + r * n_in, xq + (size_t)r * qb);
        k->quantize(KERN_ACT_F32, n_in, p.x + r * n_in, xf + (size_t)r * fb);
    }
    p.q8 = (kern_acts){KERN_ACT_Q8, n_in, xq};
    p.f32 = (kern_acts){KERN_ACT_F32, n_in, xf};
    return p;
}

static void free_problem(problem *p) {
    free((void *)p->rows.data);
    free((void *)p->packed.data);
    free((void *)p->q8.data);
    free((void *)p->f32.data);
    free(p->x);
}

/* Σ w·x and Σ |w·x| in double, of dequantised weights and the activations as given. */
static void oracle(const problem *p, int64_t r, int64_t o, const float *x, double *sum,
                   double *mag) {
    float *w = take((size_t)p->n_in * 4);
    kern_matrix_row(&p->rows, o, w);
    *sum = *mag = 0;
    for (int64_t i = 0; i < p->n_in; i++) {
        *sum += (double)w[i] * x[r * p->n_in + i];
        *mag += fabs((double)w[i] * x[r * p->n_in + i]);
    }
    free(w);
}

static void test_pack_round_trip(void **state) {
    (void)state;
    for (int t = 0; t < N_FAST; t++) {
        for (int i = 0; i < 4; i++) {
            problem p = make_problem(kern_get(), fast_types[t], draw_range(1, 50),
                                     draw_width(fast_types[t]), 1);
            float *a = take((size_t)p.n_in * 4), *b = take((size_t)p.n_in * 4);
            for (int64_t o = 0; o < p.n_out; o++) {
                kern_matrix_row(&p.rows, o, a);
                kern_matrix_row(&p.packed, o, b);
                assert_memory_equal(a, b, (size_t)p.n_in * 4);
            }
            free(a);
            free(b);
            free_problem(&p);
        }
    }
}

/* Float activations: within n·ε·Σ|wx| of double. Quantised: that of the dequantised activations. */
static void check_against_double(const kern *k, problem *p, const kern_matrix *w,
                                 const kern_acts *x) {
    float *y = take((size_t)(p->n_rows * p->n_out) * 4), *seen = p->x;
    k->matmul(w, x, p->n_rows, y, p->n_out, 0, p->n_out);
    if (x->type ==
        KERN_ACT_Q8) { /* what the block format makes of x; its own error: half a level */
        seen = take((size_t)(p->n_rows * p->n_in) * 4);
        for (int64_t r = 0; r < p->n_rows; r++) {
            for (int64_t b = 0; b < p->n_in; b += 32) {
                float amax = 0;
                for (int64_t i = b; i < b + 32; i++)
                    amax = fmaxf(amax, fabsf(p->x[r * p->n_in + i]));
                float d = amax / 127;
                for (int64_t i = b; i < b + 32; i++) {
                    float v = p->x[r * p->n_in + i];
                    seen[r * p->n_in + i] = amax ? d * rintf(v * (127 / amax)) : 0;
                    assert_true(fabsf(seen[r * p->n_in + i] - v) <= d * 0.50001f);
                }
            }
        }
    }
    for (int64_t r = 0; r < p->n_rows; r++) {
        for (int64_t o = 0; o < p->n_out; o++) {
            double sum, mag;
            oracle(p, r, o, seen, &sum, &mag);
            double bound = (double)p->n_in * 0x1p-23 * mag + 1e-30;
            if (!(fabs(y[r * p->n_out + o] - sum) <= bound))
                fail_msg("%s %s %s [%lld][%lld] of %lldx%lld: %g, expected %g", k->name,
                         dtype_get(p->type)->name, x->type == KERN_ACT_Q8 ? "q8" : "f32",
                         (long long)r, (long long)o, (long long)p->n_out, (long long)p->n_in,
                         y[r * p->n_out + o], sum);
        }
    }
    if (seen != p->x) free(seen);
    free(y);
}

static void test_matmul_oracle(void **state) {
    (void)state;
    for (int rung = 0; rung < KERN_N_RUNGS; rung++) {
        const kern *k = kern_get_rung((kern_rung)rung);
        if (!k) continue;
        print_message("# rung %s\n", k->name);
        for (int t = 0; t < DTYPE_COUNT; t++) {
            dtype type = (dtype)t;
            if (!kern_is_supported(type)) continue;
            /* formats whose scale sits elsewhere would turn random bytes into huge or NaN weights */
            bool tame = kern_can_pack(k, type) || type == DTYPE_F64 || type == DTYPE_Q4_1 ||
                        type == DTYPE_Q5_K || type == DTYPE_IQ4_NL;
            if (!tame) continue;
            for (int i = 0; i < 3; i++) {
                int64_t width =
                    dtype_get(type)->block_len == 64 ? 64 * draw_range(1, 6) : draw_width(type);
                problem p = make_problem(k, type, draw_range(1, 70), width, draw_range(1, 9));
                check_against_double(k, &p, &p.rows, &p.f32);
                if (p.packed.data) check_against_double(k, &p, &p.packed, &p.f32);
                if (kern_act_for(type) == KERN_ACT_Q8) {
                    check_against_double(k, &p, &p.rows, &p.q8);
                    check_against_double(k, &p, &p.packed, &p.q8);
                }
                free_problem(&p);
            }
        }
    }
}

/* Same bytes as the scalar rung: quantised products in both layouts, float products of packed weights. */
static void test_matmul_matches_scalar(void **state) {
    (void)state;
    const kern *scalar = kern_get_rung(KERN_SCALAR);
    for (int rung = KERN_SCALAR + 1; rung < KERN_N_RUNGS; rung++) {
        const kern *k = kern_get_rung((kern_rung)rung);
        for (int t = 0; k && t < N_FAST; t++) {
            for (int i = 0; i < 6; i++) {
                dtype type = fast_types[t];
                problem p =
                    make_problem(k, type, draw_range(1, 140), draw_width(type), draw_range(1, 20));
                size_t n = (size_t)(p.n_rows * p.n_out);
                float *want = take(n * 4), *got = take(n * 4);
                const kern_acts *acts[2] = {&p.f32,
                                            kern_act_for(type) == KERN_ACT_Q8 ? &p.q8 : NULL};
                for (int a = 0; a < 2 && acts[a]; a++) {
                    scalar->matmul(&p.rows, acts[a], p.n_rows, want, p.n_out, 0, p.n_out);
                    k->matmul(&p.packed, acts[a], p.n_rows, got, p.n_out, 0, p.n_out);
                    for (size_t j = 0; j < n; j++)
                        if (num_bits(want[j]) != num_bits(got[j]))
                            fail_msg("%s %s acts %d: %g, scalar %g", k->name, dtype_get(type)->name,
                                     a, got[j], want[j]);
                    if (a == 0) continue;
                    k->matmul(&p.rows, acts[a], p.n_rows, got, p.n_out, 0, p.n_out);
                    assert_memory_equal(want, got, n * 4);
                }
                free(want);
                free(got);
                free_problem(&p);
            }
        }
    }
}

/* The promise: a row's results are the same bytes for any number of rows and any split of outputs. */
static void test_matmul_invariance(void **state) {
    (void)state;
    for (int rung = 0; rung < KERN_N_RUNGS; rung++) {
        const kern *k = kern_get_rung((kern_rung)rung);
        for (int t = 0; k && t < N_FAST + 1; t++) {
            dtype type = t < N_FAST ? fast_types[t] : DTYPE_Q5_K;
            for (int i = 0; i < 4; i++) {
                int64_t width = draw_range(0, 3) ? draw_width(type) : 256 * draw_range(1, 9);
                problem p = make_problem(k, type, draw_range(1, 200), width, draw_range(1, 40));
                size_t n = (size_t)(p.n_rows * p.n_out);
                float *whole = take(n * 4), *parts = take(n * 4);
                for (int form = 0; form < 4; form++) {
                    const kern_matrix *w = form & 1 ? &p.packed : &p.rows;
                    kern_acts x = form & 2 ? p.q8 : p.f32;
                    if (!w->data || x.type > kern_act_for(type)) continue;
                    k->matmul(w, &x, p.n_rows, whole, p.n_out, 0, p.n_out);
                    memset(parts, 0xff, n * 4);
                    size_t act_bytes = kern_act_bytes(x.type, p.n_in);
                    for (int64_t r = 0, m; r < p.n_rows; r += m) {
                        m = draw_range(1, draw_range(1, p.n_rows - r));
                        kern_acts xr = {x.type, x.n_in,
                                        (const uint8_t *)x.data + (size_t)r * act_bytes};
                        for (int64_t o = 0, e; o < p.n_out; o = e) {
                            e = o + k->pack_rows * draw_range(1, 8);
                            if (e > p.n_out) e = p.n_out;
                            k->matmul(w, &xr, m, parts + r * p.n_out, p.n_out, o, e);
                        }
                    }
                    if (memcmp(whole, parts, n * 4))
                        fail_msg("%s %s form %d: %lldx%lld, %lld rows", k->name,
                                 dtype_get(type)->name, form, (long long)p.n_out, (long long)p.n_in,
                                 (long long)p.n_rows);
                }
                free(whole);
                free(parts);
                free_problem(&p);
            }
        }
    }
}

static void test_quantize(void **state) {
    (void)state;
    const kern *scalar = kern_get_rung(KERN_SCALAR);
    for (int rung = 0; rung < KERN_N_RUNGS; rung++) {
        const kern *k = kern_get_rung((kern_rung)rung);
        for (int i = 0; k && i < 200; i++) {
            int64_t n = draw_range(1, 300);
            size_t bytes = kern_act_bytes(KERN_ACT_Q8, n);
            float *x = take((size_t)n * 4);
            uint8_t *a = take(bytes), *b = take(bytes);
            memset(a, 0, bytes);
            memset(b, 0, bytes);
            float scale = ldexpf(1, (int)draw_range(-130, 100));
            for (int64_t j = 0; j < n; j++) x[j] = draw_normal() * scale;
            if (i % 5 == 0) x[draw_range(0, n - 1)] = i % 10 ? INFINITY : NAN;
            if (i % 7 == 0) memset(x, 0, (size_t)n * 4);
            scalar->quantize(KERN_ACT_Q8, n, x, a);
            k->quantize(KERN_ACT_Q8, n, x, b);
            assert_memory_equal(a, b, bytes);
            free(x);
            free(a);
            free(b);
        }
    }
}

static void test_elementwise(void **state) {
    (void)state;
    const kern *scalar = kern_get_rung(KERN_SCALAR);
    for (int rung = 0; rung < KERN_N_RUNGS; rung++) {
        const kern *k = kern_get_rung((kern_rung)rung);
        for (int i = 0; k && i < 100; i++) {
            int64_t n = draw_range(1, 400);
            size_t bytes = (size_t)n * 4;
            float *x = take(bytes), *w = take(bytes), *a = take(bytes), *b = take(bytes);
            for (int64_t j = 0; j < n; j++) x[j] = draw_normal() * 4, w[j] = draw_normal() * 4;
            if (i % 9 == 0) x[draw_range(0, n - 1)] = -200, x[draw_range(0, n - 1)] = 200;

            scalar->rmsnorm(n, x, w, 1e-5f, a);
            k->rmsnorm(n, x, w, 1e-5f, b);
            assert_memory_equal(a, b, bytes);
            double ss = 0;
            for (int64_t j = 0; j < n; j++) ss += (double)x[j] * x[j];
            for (int64_t j = 0; j < n; j++) {
                double want = x[j] / sqrt(ss / (double)n + 1e-5) * w[j];
                assert_true(fabs(b[j] - want) <= 4e-7 * fabs(want) + 1e-30);
            }
            memcpy(b, x, bytes); /* in place */
            k->rmsnorm(n, b, w, 1e-5f, b);
            assert_memory_equal(a, b, bytes);

            scalar->swiglu(n, x, w, a);
            k->swiglu(n, x, w, b);
            assert_memory_equal(a, b, bytes);
            for (int64_t j = 0; j < n; j++) {
                double want = x[j] / (1 + exp(-(double)x[j])) * w[j];
                assert_true(fabs(b[j] - want) <= 1e-6 * fabs(want) + 1e-30);
            }
            scalar->swiglu_oai(n, x, w, 1.702f, 7.0f, a);
            k->swiglu_oai(n, x, w, 1.702f, 7.0f, b);
            assert_memory_equal(a, b, bytes);
            for (int64_t j = 0; j < n; j++) {
                double g = fmin(x[j], 7), u = fmax(fmin(w[j], 7), -7);
                double want = g / (1 + exp(-1.702f * g)) * (u + 1);
                assert_true(fabs(b[j] - want) <= 3e-6 * fabs(want) + 1e-30);
            }

            memcpy(a, w, bytes);
            memcpy(b, w, bytes);
            scalar->add(n, x, a);
            k->add(n, x, b);
            assert_memory_equal(a, b, bytes);
            scalar->axpy(n, 0.3f, x, a);
            k->axpy(n, 0.3f, x, b);
            assert_memory_equal(a, b, bytes);
            for (int64_t j = 0; j < n; j++) assert_true(b[j] == fmaf(0.3f, x[j], w[j] + x[j]));

            if (i % 3 == 0) x[draw_range(0, n - 1)] = NAN;
            if (i % 4 == 0) x[0] = x[n - 1] = 50;
            if (i % 11 == 0)
                for (int64_t j = 0; j < n; j++) x[j] = -INFINITY;
            int64_t best = 0;
            for (int64_t j = 0; j < n; j++)
                if (x[j] > x[best] || (x[best] != x[best] && x[j] == x[j])) best = j;
            if (x[best] == -INFINITY || x[best] != x[best]) best = 0;
            assert_int_equal(k->argmax(n, x), best);
            free(x);
            free(w);
            free(a);
            free(b);
        }
    }
}

static void test_rope(void **state) {
    (void)state;
    const kern *scalar = kern_get_rung(KERN_SCALAR);
    for (int rung = 0; rung < KERN_N_RUNGS; rung++) {
        const kern *k = kern_get_rung((kern_rung)rung);
        for (int i = 0; k && i < 60; i++) {
            int64_t n = 2 * draw_range(1, 70);
            bool halves = i & 1;
            float *cs = take((size_t)n * 4), *x = take((size_t)n * 4), *a = take((size_t)n * 4),
                  *b = take((size_t)n * 4);
            for (int64_t j = 0; j < n / 2; j++) {
                double angle = draw_normal() * 10;
                cs[2 * j] = (float)cos(angle);
                cs[2 * j + 1] = (float)sin(angle);
            }
            for (int64_t j = 0; j < n; j++) a[j] = b[j] = x[j] = draw_normal();
            scalar->rope(n, halves, cs, a);
            k->rope(n, halves, cs, b);
            assert_memory_equal(a, b, (size_t)n * 4);
            for (int64_t j = 0; j < n / 2; j++) {
                int64_t p = halves ? j : 2 * j, q = halves ? j + n / 2 : 2 * j + 1;
                assert_true(fabs((double)x[p] * cs[2 * j] - (double)x[q] * cs[2 * j + 1] - b[p]) <
                            1e-6);
                assert_true(fabs((double)x[p] * cs[2 * j + 1] + (double)x[q] * cs[2 * j] - b[q]) <
                            1e-6);
            }
            free(cs);
            free(x);
            free(a);
            free(b);
        }
    }
}

static void test_kv_formats(void **state) {
    (void)state;
    const kern *scalar = kern_get_rung(KERN_SCALAR);
    static const double bound[] = {0, 0x1p-11, 0x1p-8, 0};
    for (int rung = 0; rung < KERN_N_RUNGS; rung++) {
        const kern *k = kern_get_rung((kern_rung)rung);
        for (int i = 0; k && i < 200; i++) {
            kern_kv_type type = (kern_kv_type)(i % 4);
            int64_t n = i % 3 ? 8 * draw_range(1, 32) : draw_range(1, 200);
            size_t bytes = kern_kv_row_bytes(type, n);
            float *x = take((size_t)n * 4), *back = take((size_t)n * 4);
            uint8_t *a = take(bytes), *b = take(bytes);
            for (int64_t j = 0; j < n; j++) x[j] = draw_normal();
            scalar->kv_store(type, n, x, a);
            k->kv_store(type, n, x, b);
            assert_memory_equal(a, b, bytes);
            kern_kv_load(type, n, b, back);
            for (int64_t j = 0; j < n; j++) {
                double limit = bound[type] * fabs(x[j]) + 1e-7;
                if (type == KERN_KV_Q8_0) {
                    float amax = 0;
                    for (int64_t m = j / 32 * 32; m < n && m < j / 32 * 32 + 32; m++)
                        amax = fmaxf(amax, fabsf(x[m]));
                    limit = amax / 127 * 0.51 + amax * 0x1p-11;
                }
                if (type == KERN_KV_F32)
                    assert_true(back[j] == x[j]);
                else
                    assert_true(fabs((double)back[j] - x[j]) <= limit);
            }
            free(x);
            free(back);
            free(a);
            free(b);
        }
    }
}

/* A whole attention over scattered tiles against double precision; rows out of range are poison. */
static void test_attention(void **state) {
    (void)state;
    for (int rung = 0; rung < KERN_N_RUNGS; rung++) {
        const kern *k = kern_get_rung((kern_rung)rung);
        for (int i = 0; k && i < 160; i++) {
            kern_kv_type type = (kern_kv_type)(i % 4);
            static const int64_t dims[] = {8, 16, 32, 64, 80, 96, 128, 256, 20};
            int64_t dim = dims[draw_range(0, 8)], n_group = draw_range(1, 9),
                    tile = 16 * draw_range(1, 4);
            int64_t begin = draw_range(0, 40), end = begin + draw_range(1, 150),
                    n_tiles = end / tile + 1;
            size_t row_bytes = kern_kv_row_bytes(type, dim), stride = row_bytes + (i & 1 ? 64 : 0);
            size_t tile_bytes = stride * (size_t)(tile - 1) + row_bytes;
            bool with_sink = i % 3 == 0;
            float *q = take((size_t)(n_group * dim) * 4), *row = take((size_t)dim * 4);
            float *out = take((size_t)dim * 4), *ks = take((size_t)(end * dim) * 4),
                  *vs = take((size_t)(end * dim) * 4);
            for (int64_t j = 0; j < n_group * dim; j++) q[j] = draw_normal() * 0.3f;
            uint8_t **kt = calloc((size_t)n_tiles, sizeof *kt),
                    **vt = calloc((size_t)n_tiles, sizeof *vt);
            for (int64_t t = 0; t < n_tiles; t++) {
                kt[t] = take(tile_bytes);
                vt[t] = take(tile_bytes);
                memset(kt[t], 0xff, tile_bytes); /* NaN in every format but Q8_0's levels */
                memset(vt[t], 0xff, tile_bytes);
            }
            for (int64_t j = begin; j < end; j++) {
                for (int kv = 0; kv < 2; kv++) {
                    for (int64_t d = 0; d < dim; d++) row[d] = draw_normal();
                    uint8_t *at = (kv ? vt : kt)[j / tile] + (size_t)(j % tile) * stride;
                    k->kv_store(type, dim, row, at);
                    kern_kv_load(type, dim, at, (kv ? vs : ks) + j * dim);
                }
            }
            kern_attn_state *st = calloc((size_t)n_group, sizeof *st),
                            *one = calloc((size_t)n_group, sizeof *one);
            float *acc = take((size_t)(n_group * dim) * 4),
                  *acc1 = take((size_t)(n_group * dim) * 4);
            for (int64_t g = 0; g < n_group; g++) {
                st[g] = (kern_attn_state){-INFINITY, 0, acc + g * dim};
                one[g] = (kern_attn_state){-INFINITY, 0, acc1 + g * dim};
            }
            memset(acc, 0, (size_t)(n_group * dim) * 4);
            memset(acc1, 0, (size_t)(n_group * dim) * 4);
            int64_t split = draw_range(1, n_group);
            for (int64_t t = 0; t < n_tiles; t++) {
                int64_t rb = begin > t * tile ? begin - t * tile : 0,
                        re = end < (t + 1) * tile ? end - t * tile : tile;
                if (rb >= re) continue;
                k->attn_tile(type, dim, n_group, q, kt[t], (int64_t)stride, vt[t], (int64_t)stride,
                             rb, re, st);
                k->attn_tile(type, dim, split, q, kt[t], (int64_t)stride, vt[t], (int64_t)stride,
                             rb, re, one);
                if (split < n_group)
                    k->attn_tile(type, dim, n_group - split, q + split * dim, kt[t],
                                 (int64_t)stride, vt[t], (int64_t)stride, rb, re, one + split);
            }
            assert_memory_equal(acc, acc1,
                                (size_t)(n_group * dim) * 4); /* neighbours change nothing */
            for (int64_t g = 0; g < n_group; g++) {
                assert_true(st[g].max == one[g].max && st[g].sum == one[g].sum);
                double sink = with_sink ? 0.7 : -INFINITY, max = sink, total = 0;
                double *score = calloc((size_t)end, sizeof *score);
                for (int64_t j = begin; j < end; j++) {
                    for (int64_t d = 0; d < dim; d++)
                        score[j] += (double)q[g * dim + d] * ks[j * dim + d];
                    if (score[j] > max) max = score[j];
                }
                for (int64_t j = begin; j < end; j++) total += exp(score[j] - max);
                total += exp(sink - max);
                kern_attn_state half = st[g];
                float *half_acc = take((size_t)dim * 4);
                if (i &
                    2) { /* merging with itself doubles weights: the same average, but for the sink */
                    memcpy(half_acc, half.acc, (size_t)dim * 4);
                    half.acc = half_acc;
                    k->attn_merge(dim, &half, &st[g]);
                    total = 2 * (total - exp(sink - max)) + exp(sink - max);
                }
                k->attn_finish(dim, &half, (float)sink, out);
                for (int64_t d = 0; d < dim; d++) {
                    double want = 0, mag = 0;
                    for (int64_t j = begin; j < end; j++) {
                        double weight = exp(score[j] - max) / total * (i & 2 ? 2 : 1);
                        want += weight * vs[j * dim + d];
                        mag += fabs(weight * vs[j * dim + d]);
                    }
                    if (!(fabs(out[d] - want) <= 3e-5 * mag + 1e-30))
                        fail_msg("%s kv %d dim %lld: %g, expected %g", k->name, type,
                                 (long long)dim, out[d], want);
                }
                free(half_acc);
                free(score);
            }
            /* nothing visible: zeros */
            memset(acc, 0, (size_t)(n_group * dim) * 4);
            kern_attn_state empty = {-INFINITY, 0, acc};
            k->attn_finish(dim, &empty, -INFINITY, out);
            for (int64_t d = 0; d < dim; d++) assert_true(out[d] == 0);
            for (int64_t t = 0; t < n_tiles; t++) free(kt[t]), free(vt[t]);
            free(kt), free(vt), free(st), free(one), free(acc), free(acc1);
            free(q), free(row), free(out), free(ks), free(vs);
        }
    }
}

/* A NaN among the activations must reach the result in every rung. */
static void test_nan_shows(void **state) {
    (void)state;
    for (int rung = 0; rung < KERN_N_RUNGS; rung++) {
        const kern *k = kern_get_rung((kern_rung)rung);
        for (int t = 0; k && t < N_FAST; t++) {
            problem p = make_problem(k, fast_types[t], 20, 256, 1);
            p.x[100] = NAN;
            kern_acts *x = kern_act_for(p.type) == KERN_ACT_Q8 ? &p.q8 : &p.f32;
            k->quantize(x->type, p.n_in, p.x, (void *)x->data);
            float y[20];
            k->matmul(&p.packed, x, 1, y, 20, 0, 20);
            for (int i = 0; i < 20; i++) assert_true(y[i] != y[i]);
            free_problem(&p);
        }
    }
}

static void test_ladder(void **state) {
    (void)state;
    assert_ptr_equal(kern_get(), kern_get());
    assert_non_null(kern_get_rung(KERN_SCALAR));
    assert_null(kern_get_rung((kern_rung)77));
    for (int a = 0; a < KERN_N_RUNGS; a++) {
        const kern *k = kern_get_rung((kern_rung)a);
        if (!k) continue;
        assert_int_equal(k->rung, a);
        for (int b = 0; b < a; b++)
            if (kern_get_rung((kern_rung)b))
                assert_true(kern_numerics_id(k) != kern_numerics_id(kern_get_rung((kern_rung)b)));
    }
    const char *cap = getenv("ORIEL_CPU");
    if (cap && strcmp(cap, "scalar") == 0) assert_int_equal(kern_get()->rung, KERN_SCALAR);
    assert_int_equal(kern_pack_bytes(kern_get(), DTYPE_Q4_0, 16, 33), 0);
    assert_int_equal(kern_pack_bytes(kern_get(), DTYPE_Q4_0, INT64_MAX, 1 << 20), 0);
    assert_int_equal(kern_pack_bytes(kern_get(), DTYPE_Q5_K, 16, 256), 0);
    assert_int_equal(kern_pack_bytes(kern_get(), DTYPE_Q4_0, 17, 64), 32 * 36);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ladder),
        cmocka_unit_test(test_pack_round_trip),
        cmocka_unit_test(test_quantize),
        cmocka_unit_test(test_matmul_oracle),
        cmocka_unit_test(test_matmul_matches_scalar),
        cmocka_unit_test(test_matmul_invariance),
        cmocka_unit_test(test_elementwise),
        cmocka_unit_test(test_rope),
        cmocka_unit_test(test_kv_formats),
        cmocka_unit_test(test_attention),
        cmocka_unit_test(test_nan_shows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
