/* The picture: well formed whatever the text, inside its frame whatever the numbers, nothing drawn
 * where nothing is known. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "cli/plot.h"

enum { N = 5000 };
static double x[N], y[N];

/* Every coordinate of every polyline lies within the picture. Returns how many there are. */
static int check_polylines(const char *svg) {
    double width, height;
    assert_int_equal(sscanf(strstr(svg, "viewBox"), "viewBox=\"0 0 %lf %lf\"", &width, &height), 2);
    int n = 0;
    for (const char *p = svg; (p = strstr(p, "points=\"")); p++) {
        const char *at = p + strlen("points=\"");
        double px, py;
        int used;
        while (sscanf(at, "%lf,%lf %n", &px, &py, &used) == 2) {
            if (!(px >= 0 && px <= width && py >= 0 && py <= height))
                fail_msg("a point lies outside: %g, %g", px, py);
            at += used;
            n++;
        }
    }
    return n;
}

static void test_long_and_noisy(void **state) {
    (void)state;
    for (int i = 0; i < N; i++) {
        x[i] = 64.0 * i;
        y[i] = i % 100 == 7 ? NAN : 1000 + 200 * rng_uniform_at(1, (uint64_t)i);
    }
    plot p = {.title = "a <b> & \"c\"", .subtitle = "s", .x_label = "tokens", .mark_label = "full"};
    p.n_panels = 2;
    p.panels[0] = (plot_panel){.title = "tokens/s", .n_lines = 2};
    p.panels[0].lines[0] = (plot_line){.name = "256", .x = x, .y = y, .n = N, .mark = 256};
    p.panels[0].lines[1] = (plot_line){.name = "512", .x = x, .y = y, .n = 3, .mark = NAN};
    p.panels[1] = (plot_panel){.title = "memory", .n_lines = 1};
    p.panels[1].lines[0] = (plot_line){.name = "256", .x = x, .y = y, .n = N, .mark = NAN};
    buf b = {0};
    plot_render(&p, &b);
    assert_false(b.failed);
    assert_non_null(strstr(b.ptr, "a &lt;b&gt;"));
    assert_null(strstr(b.ptr, "nan"));
    assert_null(strstr(b.ptr, "inf"));
    int n = check_polylines(b.ptr);
    assert_true(n > 300 && n < 400); /* thinned; three points stay three */
    const char *first = strstr(b.ptr, "class=\"legend\" text-anchor=\"start\">256<");
    assert_non_null(first); /* one name, one entry */
    assert_null(strstr(first + 1, "class=\"legend\" text-anchor=\"start\">256<"));
    buf_deinit(&b);
}

static void test_odd_data(void **state) {
    (void)state;
    static const struct {
        double x[3], y[3];
        size_t n;
    } sets[] = {
        {{0}, {0}, 0},
        {{5}, {7}, 1},
        {{0, 1, 2}, {0, 0, 0}, 3},
        {{0, 1, 2}, {NAN, NAN, NAN}, 3},
        {{1e9, 1e9 + 1, 1e9 + 2}, {1e-9, 2e-9, 3e-9}, 3},
        {{0, 1e12, 2e12}, {1e15, 0, 1e15}, 3},
    };
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++) {
        plot p = {.title = "t", .x_label = "x", .n_panels = 1};
        p.panels[0] = (plot_panel){.title = "p", .n_lines = 1};
        p.panels[0].lines[0] =
            (plot_line){.name = "n", .x = sets[i].x, .y = sets[i].y, .n = sets[i].n, .mark = NAN};
        buf b = {0};
        plot_render(&p, &b);
        assert_false(b.failed);
        assert_null(strstr(b.ptr, "nan"));
        assert_null(strstr(b.ptr, "inf"));
        check_polylines(b.ptr);
        assert_true(b.len < 20000); /* a sane number of ticks */
        buf_deinit(&b);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_long_and_noisy),
                                       cmocka_unit_test(test_odd_data)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
