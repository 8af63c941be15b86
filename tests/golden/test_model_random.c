/* Every architecture in every weight type against the float64 reference in tools/ref, on random
 * models made on the spot: with float activations to float precision, packed and from the file's own
 * rows; with int8 activations to theirs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "model_run.h"

/* Largest difference of each row, sorted: [n]. */
static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static void row_errors(const float *got, const double *want, int n, int n_vocab, double *errors) {
    for (int r = 0; r < n; r++) {
        errors[r] = 0;
        for (int v = 0; v < n_vocab; v++) {
            ptrdiff_t at = (ptrdiff_t)r * n_vocab + v;
            errors[r] = fmax(errors[r], fabs((double)got[at] - want[at]));
        }
    }
    qsort(errors, (size_t)n, sizeof *errors, by_value);
}

static void check_model(const char *dir, const char *name, const int32_t *ids, int n) {
    char path[512], want_path[512];
    snprintf(path, sizeof path, "%s/%s.gguf", dir, name);
    snprintf(want_path, sizeof want_path, "%s/%s.f64", dir, name);
    size_t bytes;
    double *want = read_bytes(want_path, &bytes), errors[64];
    for (int pass = 0; pass < 3; pass++) {
        bool f32 = pass < 2;
        loaded l = load_model(path, &(model_options){.f32_acts = f32, .no_repack = pass == 1});
        int n_vocab = model_get_info(l.m)->n_vocab;
        assert_int_equal(bytes, sizeof *want * (size_t)n * (size_t)n_vocab);
        float *got = run_logits(
            l.m, ids, n, &(run_options){.kv_type = f32 ? KERN_KV_F32 : KERN_KV_F16, .chunk = 17});
        row_errors(got, want, n, n_vocab, errors);
        /* The worst row may have sent a token to another expert; half of the rows have not. Logits
         * have a standard deviation of about 2. */
        double is = f32 ? errors[n - 1] : errors[n / 2], bound = f32 ? 2e-4 : 0.5;
        if (!(is <= bound)) fail_msg("%s, pass %d: off by %g, bound %g", name, pass, is, bound);
        free(got);
        unload_model(&l);
    }
    free(want);
}

static void every_architecture_in_every_type(void **state) {
    (void)state;
    char dir[] = "/tmp/oriel-random-XXXXXX", command[600], line[128], ids_path[64];
    assert_non_null(mkdtemp(dir));
    snprintf(command, sizeof command, "/usr/bin/python3 tests/golden/random_models.py %s", dir);
    FILE *p = popen(command, "r");
    assert_non_null(p);
    char names[80][32];
    int n_names = 0, n = 0;
    while (n_names < 80 && fgets(line, sizeof line, p))
        snprintf(names[n_names++], sizeof names[0], "%.*s", (int)strcspn(line, "\n"), line);
    int status = pclose(p);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        rmdir(dir);
        skip();
    }
    assert_int_equal(status, 0);
    assert_int_equal(n_names, 64);
    snprintf(ids_path, sizeof ids_path, "%s/ids.json", dir);
    json_t *v = read_json(ids_path);
    int32_t *ids = json_ids(v, &n);
    assert_in_range(n, 1, 64);
    for (int i = 0; i < n_names; i++) {
        check_model(dir, names[i], ids, n);
        for (int e = 0; e < 2; e++) {
            snprintf(command, sizeof command, "%s/%s.%s", dir, names[i], e ? "gguf" : "f64");
            unlink(command);
        }
    }
    unlink(ids_path);
    rmdir(dir);
    json_decref(v);
    free(ids);
}

int main(void) {
    const struct CMUnitTest t[] = {cmocka_unit_test(every_architecture_in_every_type)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
