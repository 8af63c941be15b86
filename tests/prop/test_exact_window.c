/* The slow twin of the window: every architecture's forward pass in double over whole matrices, with a
 * mask and nothing paged, against the real one with random windows, pinned rows, chunk sizes and
 * texts, far past the point where blocks leave. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/hash.h"
#include "model/rope.h"
#include "model_run.h"
#include "tiny_model.h"

enum { N = 300, MAX_D = 64 };

static const float *weights(const file *f, int layer, const char *name) {
    char full[96];
    snprintf(full, sizeof full, layer < 0 ? "%.0d%s" : "blk.%d.%s", layer < 0 ? 0 : layer, name);
    const file_tensor *t = file_find_tensor(f, str_from(full));
    return t ? t->data : NULL;
}

/* y = w·x + bias */
static void product(const float *w, const float *bias, int n_out, int n_in, const double *x,
                    double *y) {
    for (int o = 0; o < n_out; o++) {
        y[o] = bias ? (double)bias[o] : 0;
        for (int i = 0; i < n_in; i++) y[o] += (double)w[(ptrdiff_t)o * n_in + i] * x[i];
    }
}

static void norm(const float *w, int n, const double *x, double *y) {
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i] * x[i];
    double s = 1 / sqrt(sum / n + (double)1e-5f);
    for (int i = 0; i < n; i++) y[i] = x[i] * s * (double)w[i];
}

static void rotate(const tiny *t, const double *freq, double c, int64_t pos, double *h) {
    bool halves = strcmp(t->arch, "llama") != 0;
    int n = t->head_dim;
    for (int i = 0; i < n / 2; i++) {
        double *a = halves ? &h[i] : &h[2 * i], *b = halves ? &h[i + n / 2] : &h[2 * i + 1];
        double co = cos((double)pos * freq[i]) * c, si = sin((double)pos * freq[i]) * c;
        double x = *a * co - *b * si, y = *a * si + *b * co;
        *a = x;
        *b = y;
    }
}

static bool sees(kv_window w, int64_t sliding, int64_t i, int64_t j) {
    if (j > i) return false;
    if (sliding > 0) return j > i - sliding;
    return j < w.pinned || w.width == KV_UNBOUNDED || j > i - w.width;
}

static double gated(const tiny *t, double g, double u) {
    if (strcmp(t->arch, "gpt-oss") != 0) return g / (1 + exp(-g)) * u;
    g = fmin(g, 7);
    u = fmax(-7, fmin(u, 7));
    return g / (1 + exp(-(double)1.702f * g)) * (u + 1);
}

static void feed_forward(const tiny *t, const file *f, int l, const double *in, double weight,
                         int e, double *x) {
    double g[MAX_D], u[MAX_D], y[MAX_D];
    int d = t->d_model, ff = t->n_ff;
    bool moe = t->n_experts > 0, oai = strcmp(t->arch, "gpt-oss") == 0;
    ptrdiff_t at = (ptrdiff_t)e * d * ff;
    const float *bg = oai ? weights(f, l, "ffn_gate_exps.bias") + e * ff : NULL;
    const float *bu = oai ? weights(f, l, "ffn_up_exps.bias") + e * ff : NULL;
    const float *bd = oai ? weights(f, l, "ffn_down_exps.bias") + e * d : NULL;
    product(weights(f, l, moe ? "ffn_gate_exps.weight" : "ffn_gate.weight") + at, bg, ff, d, in, g);
    product(weights(f, l, moe ? "ffn_up_exps.weight" : "ffn_up.weight") + at, bu, ff, d, in, u);
    for (int i = 0; i < ff; i++) g[i] = gated(t, g[i], u[i]);
    product(weights(f, l, moe ? "ffn_down_exps.weight" : "ffn_down.weight") + at, bd, d, ff, g, y);
    for (int i = 0; i < d; i++) x[i] += weight * y[i];
}

/* logits: [N][n_vocab] */
static void twin(const tiny *t, const file *f, const int32_t *ids, kv_window w, double *logits) {
    static double x[N][MAX_D], q[N][4][16], k[N][4][16], v[N][4][16];
    int d = t->d_model, hd = t->head_dim, nh = t->n_heads, nkv = t->n_kv_heads, group = nh / nkv;
    double freq[16];
    rope_params rope = {.n_rot = hd,
                        .base = 10000,
                        .scaling = t->yarn ? ROPE_YARN : ROPE_NONE,
                        .factor = 4,
                        .n_ctx_orig = 1024,
                        .beta_fast = 32,
                        .beta_slow = 1,
                        .attn_factor = 1};
    double conc = rope_frequencies(&rope, NULL, freq);
    for (int i = 0; i < N; i++)
        for (int c = 0; c < d; c++)
            x[i][c] = (double)weights(f, -1, "token_embd.weight")[ids[i] * d + c];
    for (int l = 0; l < t->n_layers; l++) {
        double in[MAX_D];
        for (int i = 0; i < N; i++) {
            norm(weights(f, l, "attn_norm.weight"), d, x[i], in);
            product(weights(f, l, "attn_q.weight"), weights(f, l, "attn_q.bias"), nh * hd, d, in,
                    (double *)logits);
            for (int h = 0; h < nh; h++)
                memcpy(q[i][h], logits + h * hd, sizeof(double) * (size_t)hd);
            product(weights(f, l, "attn_k.weight"), weights(f, l, "attn_k.bias"), nkv * hd, d, in,
                    logits);
            for (int h = 0; h < nkv; h++)
                memcpy(k[i][h], logits + h * hd, sizeof(double) * (size_t)hd);
            product(weights(f, l, "attn_v.weight"), weights(f, l, "attn_v.bias"), nkv * hd, d, in,
                    logits);
            for (int h = 0; h < nkv; h++)
                memcpy(v[i][h], logits + h * hd, sizeof(double) * (size_t)hd);
            for (int h = 0; t->qk_norm && h < nh; h++)
                norm(weights(f, l, "attn_q_norm.weight"), hd, q[i][h], q[i][h]);
            for (int h = 0; t->qk_norm && h < nkv; h++)
                norm(weights(f, l, "attn_k_norm.weight"), hd, k[i][h], k[i][h]);
            for (int h = 0; h < nkv; h++) rotate(t, freq, conc, i, k[i][h]);
        }
        int64_t sliding = t->width && l % 2 == 0 ? t->width : 0;
        for (int i = 0; i < N; i++) {
            double out[MAX_D], add[MAX_D];
            int64_t top = w.width == KV_UNBOUNDED ? i : w.pinned + w.width - 1;
            for (int h = 0; h < nh; h++) {
                double near[16], far[16], score[N], sum = 0;
                memcpy(near, q[i][h], sizeof near);
                memcpy(far, q[i][h], sizeof far);
                rotate(t, freq, conc, i, near);
                rotate(t, freq, conc, i < top ? i : top, far);
                if (t->sinks) sum = exp((double)weights(f, l, "attn_sinks.weight")[h]);
                for (int j = 0; j <= i; j++) {
                    const double *qj = sliding == 0 && j < w.pinned ? far : near;
                    score[j] = 0;
                    for (int c = 0; c < hd; c++) score[j] += qj[c] * k[j][h / group][c] / sqrt(hd);
                    score[j] = sees(w, sliding, i, j) ? exp(score[j]) : 0;
                    sum += score[j];
                }
                for (int c = 0; c < hd; c++) {
                    out[h * hd + c] = 0;
                    for (int j = 0; j <= i; j++)
                        out[h * hd + c] += score[j] / sum * v[j][h / group][c];
                }
            }
            product(weights(f, l, "attn_output.weight"), weights(f, l, "attn_output.bias"), d,
                    nh * hd, out, add);
            for (int c = 0; c < d; c++) x[i][c] += add[c];
            const float *fn = weights(f, l, "ffn_norm.weight");
            norm(fn ? fn : weights(f, l, "post_attention_norm.weight"), d, x[i], in);
            if (!t->n_experts) {
                feed_forward(t, f, l, in, 1, 0, x[i]);
                continue;
            }
            double router[16], sum = 0;
            int chosen[16];
            product(weights(f, l, "ffn_gate_inp.weight"), weights(f, l, "ffn_gate_inp.bias"),
                    t->n_experts, d, in, router);
            for (int r = 0; r < t->n_used; r++) {
                int best = -1;
                for (int e = 0; e < t->n_experts; e++) {
                    bool taken = false;
                    for (int o = 0; o < r; o++) taken |= chosen[o] == e;
                    if (!taken && (best < 0 || router[e] > router[best])) best = e;
                }
                chosen[r] = best;
                sum += exp(router[best]);
            }
            for (int r = 0; r < t->n_used; r++)
                feed_forward(t, f, l, in, exp(router[chosen[r]]) / sum, chosen[r], x[i]);
        }
    }
    const float *out = weights(f, -1, t->tied ? "token_embd.weight" : "output.weight");
    for (int i = 0; i < N; i++) {
        double in[MAX_D];
        norm(weights(f, -1, "output_norm.weight"), d, x[i], in);
        product(out, NULL, t->n_vocab, d, in, logits + (ptrdiff_t)i * t->n_vocab);
    }
}

static void windows_equal_masks(void **state) {
    (void)state;
    static const char *const archs[] = {"gpt-oss", "llama", "qwen2", "qwen3", "qwen3moe"};
    double *want = malloc(sizeof *want * N * 64);
    for (uint64_t seed = 0; seed < 20; seed++) {
        uint64_t draws = 0;
#define DRAW(n) (int64_t)(rng_at(seed, draws++) % (n))
        tiny t = tiny_defaults(archs[seed % 5]);
        t.seed = seed;
        buf image = tiny_image(&t);
        error err = {0};
        file *f = file_open_memory(image.ptr, image.len, "tiny", &err);
        model *m = f ? model_load(f, NULL, &err) : NULL;
        if (!m) fail_msg("%s", err.message);
        int32_t ids[N];
        for (int i = 0; i < N; i++) ids[i] = (int32_t)DRAW(50);
        kv_window w = {DRAW(3) * KV_BLOCK, seed < 5 ? KV_UNBOUNDED : KV_BLOCK + DRAW(100)};
        int chunk = 1 + (int)DRAW(seed % 2 ? 9 : 100);
        twin(&t, f, ids, w, want);
        run_options o = {.kv_type = KERN_KV_F32, .window = w, .chunk = chunk};
        float *got = run_logits(m, ids, N, &o);
        double worst = 0;
        for (int i = 0; i < N * t.n_vocab; i++) worst = fmax(worst, fabs(want[i] - (double)got[i]));
        if (!(worst < 1e-4))
            fail_msg("%s, pinned %d, window %lld, chunks of %d: off by %g", t.arch, (int)w.pinned,
                     (long long)w.width, chunk, worst);
        free(got);
        model_free(m);
        file_close(f);
        buf_deinit(&image);
    }
    free(want);
}

int main(void) {
    const struct CMUnitTest t[] = {cmocka_unit_test(windows_equal_masks)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
