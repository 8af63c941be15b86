/* Every architecture and weight type of the oracle's tiny models within the bounds its index names:
 * with float activations and an F32 cache, and as the program runs by default. gpt-oss there was
 * computed by OpenAI's own reference model. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model_run.h"

typedef struct measure {
    double max_abs, mean_kl, median_of_max, share_below_5e3;
} measure;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* KL(want || got) of two rows of logits, in nats. */
static double kl(const double *want, const float *got, int n) {
    double mw = want[0], mg = got[0], sw = 0, sg = 0, sum = 0;
    for (int v = 0; v < n; v++) {
        mw = fmax(mw, want[v]);
        mg = fmax(mg, (double)got[v]);
    }
    for (int v = 0; v < n; v++) {
        sw += exp(want[v] - mw);
        sg += exp((double)got[v] - mg);
    }
    for (int v = 0; v < n; v++) {
        double lw = want[v] - mw - log(sw), lg = (double)got[v] - mg - log(sg);
        sum += exp(lw) * (lw - lg);
    }
    return sum;
}

/* Row r of the file is the r-th of: all positions (n ≤ 32), else every 16th and the last 32. */
static measure compare(const float *got, int n, int n_vocab, const char *path) {
    size_t bytes;
    char *raw = read_bytes(path, &bytes);
    bool wide = strstr(path, ".f64") != NULL;
    int rows = (int)(bytes / (size_t)n_vocab / (wide ? 8 : 4)), r = 0;
    double *tops = malloc((size_t)rows * sizeof *tops),
           *want = malloc((size_t)n_vocab * sizeof *want);
    measure m = {0};
    for (int pos = 0; pos < n; pos++) {
        if (n > 32 && pos % 16 && pos < n - 32) continue;
        const float *row = got + (ptrdiff_t)pos * n_vocab;
        double top = 0;
        assert_true(r < rows);
        for (int v = 0; v < n_vocab; v++) {
            ptrdiff_t at = (ptrdiff_t)r * n_vocab + v;
            want[v] = wide ? ((const double *)raw)[at] : (double)((const float *)raw)[at];
            top = fmax(top, fabs(want[v] - (double)row[v]));
            assert_true(isfinite(row[v]));
        }
        m.mean_kl += kl(want, row, n_vocab) / rows;
        m.max_abs = fmax(m.max_abs, top);
        m.share_below_5e3 += (top < 5e-3) / (double)rows;
        tops[r++] = top;
    }
    assert_int_equal(r, rows);
    qsort(tops, (size_t)rows, sizeof *tops, by_value);
    m.median_of_max = rows % 2 ? tops[rows / 2] : (tops[rows / 2 - 1] + tops[rows / 2]) / 2;
    free(raw);
    free(tops);
    free(want);
    return m;
}

/* How many of the named bounds were broken. */
static int check(const char *what, const json_t *bounds, measure m) {
    int broken = 0;
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)bounds, key, v) {
        double bound = json_number_value(v), is = NAN;
        bool at_least = false;
        if (strcmp(key, "max_abs") == 0)
            is = m.max_abs;
        else if (strcmp(key, "mean_kl") == 0)
            is = m.mean_kl;
        else if (strcmp(key, "median_over_positions_of_max_abs") == 0)
            is = m.median_of_max;
        else if (strcmp(key, "share_of_rows_with_max_abs_below_5e-3") == 0)
            is = m.share_below_5e3, at_least = true;
        else
            fail_msg("a bound nobody checks: %s", key);
        if (at_least ? is >= bound : is <= bound) continue;
        print_message("BROKEN %s: %s is %.3g, bound %.3g\n", what, key, is, bound);
        broken++;
    }
    return broken;
}

static int check_logits(const char *dir, const char *name, const json_t *entry,
                        const json_t *all_ids) {
    const char *for_file = json_string_value(json_object_get(entry, "for"));
    const json_t *bounds = json_object_get(entry, "bounds");
    char file_name[64] = {0};
    for (size_t i = 0; for_file[i] && for_file[i] != ' ' && i < sizeof file_name - 1; i++)
        file_name[i] = for_file[i];
    bool plain_rope = strstr(for_file, "rope.scaling") != NULL;
    int n, broken = 0;
    int32_t *ids =
        json_ids(json_object_get(all_ids, json_string_value(json_object_get(entry, "ids"))), &n);
    /* Thousands of tokens take the scalar rung minutes; every other rung runs them. */
    bool too_long = n > 1000 && kern_get()->rung == KERN_SCALAR;
    for (int pass = 0; pass < 2 && !too_long; pass++) {
        bool exact = pass == 0;
        const json_t *b = json_object_get(bounds, exact ? "f32_activations" : "int8_activations");
        if (!b && !exact) b = json_object_get(bounds, "f16_or_bf16_activations");
        /* Whoever keeps F16 rows and float weights is in between: far tighter than int8 anyway. */
        if (!b) continue;
        loaded l = load_model(corpus_path("arch_oracle/%s/%s", dir, file_name),
                              &(model_options){.f32_acts = exact, .no_rope_scaling = plain_rope});
        int n_vocab = model_get_info(l.m)->n_vocab;
        float *got =
            run_logits(l.m, ids, n,
                       &(run_options){.kv_type = exact ? KERN_KV_F32 : KERN_KV_F16, .chunk = 128});
        measure m = compare(got, n, n_vocab, corpus_path("arch_oracle/%s/%s", dir, name));
        char what[160];
        snprintf(what, sizeof what, "%s %s (%s)", dir, name, exact ? "float" : "default");
        print_message("%-60s max %.2g  KL %.2g  median %.2g\n", what, m.max_abs, m.mean_kl,
                      m.median_of_max);
        broken += check(what, b, m);
        free(got);
        unload_model(&l);
    }
    free(ids);
    return broken;
}

static void every_model_of_the_index(void **state) {
    (void)state;
    if (!corpus_path("%s", "")) skip();
    json_t *index = read_json(corpus_path("arch_oracle/index.json")), *model_entry, *entry;
    const char *dir, *name;
    int n_models = 0, n_checked = 0, broken = 0;
    json_object_foreach(json_object_get(index, "models"), dir, model_entry) {
        json_t *ids = read_json(corpus_path("arch_oracle/%s/ids.json", dir));
        json_object_foreach(json_object_get(model_entry, "logits"), name, entry) {
            broken += check_logits(dir, name, entry, ids);
            n_checked++;
        }
        json_decref(ids);
        n_models++;
    }
    json_decref(index);
    assert_int_equal(n_models, 8);
    assert_true(n_checked >= 40);
    assert_int_equal(broken, 0);
}

int main(void) {
    const struct CMUnitTest t[] = {cmocka_unit_test(every_model_of_the_index)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
