/* Charts for the scripts below bench/: JSON on standard input, SVG on standard output.
 *
 *   {"title":…, "subtitle":…, "x_label":…, "panels":[{"title":…, "lines":[{"name":…, "x":[…], "y":[…]}]}]}
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/plot.h"

static double *new_numbers(const json_t *list, size_t n) {
    double *v = calloc(n + 1, sizeof *v);
    for (size_t i = 0; v && i < n; i++) {
        const json_t *x = json_array_get(list, i);
        v[i] = json_is_number(x) ? json_number_value(x) : NAN;
    }
    return v;
}

int main(void) {
    buf in = {0}, out = {0};
    error err = {0};
    json_t *q = buf_read_fd(&in, STDIN_FILENO) ? json_parse(buf_str(&in), &err) : NULL, *panel,
           *line;
    if (!q) {
        fprintf(stderr, "draw: %s\n", err.message[0] ? err.message : "nothing can be read");
        return 1;
    }
    plot p = {.title = json_string_value(json_object_get(q, "title")),
              .subtitle = json_string_value(json_object_get(q, "subtitle")),
              .x_label = json_string_value(json_object_get(q, "x_label"))};
    size_t i, k;
    json_array_foreach(json_object_get(q, "panels"), i, panel) {
        if (p.n_panels == PLOT_MAX_PANELS) break;
        plot_panel *to = &p.panels[p.n_panels++];
        to->title = json_string_value(json_object_get(panel, "title"));
        json_array_foreach(json_object_get(panel, "lines"), k, line) {
            if (to->n_lines == PLOT_MAX_LINES) break;
            json_t *y = json_object_get(line, "y");
            size_t n = json_array_size(y);
            to->lines[to->n_lines++] =
                (plot_line){.name = json_string_value(json_object_get(line, "name")),
                            .x = new_numbers(json_object_get(line, "x"), n),
                            .y = new_numbers(y, n),
                            .n = n,
                            .mark = NAN};
        }
    }
    plot_render(&p, &out);
    return out.failed || fwrite(out.ptr, 1, out.len, stdout) != out.len || fflush(stdout) ? 1 : 0;
}
