#include "cli/plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/stats.h"

enum {
    WIDTH = 860,
    LEFT = 76,
    RIGHT = 24,
    HEAD = 110, /* title, subtitle, legend */
    PANEL = 190,
    GAP = 52,
    FOOT = 54,
    INNER = WIDTH - LEFT - RIGHT,
    COLUMNS = 170, /* of a thinned line */
    MOST_PER_COLUMN = 4096,
};

/* Told apart by colour-blind readers too, in this order. */
static const char *const colours[PLOT_MAX_LINES] = {"#2563a8", "#d1700a", "#2a8a4a", "#8a3fa8",
                                                    "#b0303c", "#0b8a94", "#7a6a20", "#555d66"};

static void put_text(buf *b, double x, double y, const char *class, const char *anchor,
                     const char *text) {
    buf_printf(b, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\" text-anchor=\"%s\">", x, y, class,
               anchor);
    for (const char *c = text; *c; c++) {
        if (*c == '<')
            buf_append_cstr(b, "&lt;");
        else if (*c == '&')
            buf_append_cstr(b, "&amp;");
        else if (*c == '>')
            buf_append_cstr(b, "&gt;");
        else if ((unsigned char)*c >= ' ')
            buf_append_char(b, *c);
    }
    buf_append_cstr(b, "</text>\n");
}

/* 1, 2 or 5 times a power of ten: at most `most` steps reach the top. */
static double step_for(double top, int most) {
    double raw = top / most, unit = pow(10, floor(log10(raw)));
    static const double nice[] = {1, 2, 5, 10};
    for (int i = 0; i < 4; i++)
        if (raw <= nice[i] * unit * (1 + 1e-9)) return nice[i] * unit;
    return 10 * unit;
}

/* 1200000 → "1.2M", in the unit of the axis' largest value. */
static void put_number(char out[24], double v, double step, double top) {
    const char *unit = "";
    double by = 1;
    if (top >= 2e6) {
        unit = "M";
        by = 1e6;
    } else if (top >= 5e3) {
        unit = "k";
        by = 1e3;
    }
    if (v == 0) unit = "";
    int digits = 0;
    while (digits < 6 && fabs(step / by * pow(10, digits) - round(step / by * pow(10, digits))) >
                             1e-6 * fabs(step / by * pow(10, digits)))
        digits++;
    snprintf(out, 24, "%.*f%s", v == 0 ? 0 : digits, v / by, unit);
}

typedef struct frame {
    double x0, top, height, x_max, y_max;
} frame;

static double at_x(const frame *f, double x) {
    return LEFT + (x - f->x0) / (f->x_max - f->x0) * INNER;
}
static double at_y(const frame *f, double y) {
    return f->top + f->height * (1 - y / f->y_max);
}

typedef struct column {
    double x, low, middle, high;
} column;

/* Cuts a line into equal columns of its points. */
static int thin(const plot_line *l, column *out) {
    static _Thread_local double v[MOST_PER_COLUMN];
    int n_out = 0;
    size_t n_columns = l->n < COLUMNS ? l->n : COLUMNS;
    for (size_t c = 0; c < n_columns; c++) {
        size_t from = l->n * c / n_columns, to = l->n * (c + 1) / n_columns, n = 0;
        size_t skip = (to - from) / MOST_PER_COLUMN + 1;
        double x = 0;
        for (size_t i = from; i < to; i += skip)
            if (!isnan(l->y[i])) {
                v[n++] = l->y[i];
                x += l->x[i];
            }
        if (!n) continue;
        out[n_out++] = (column){x / (double)n, stats_quantile(v, n, 0.1), stats_quantile(v, n, 0.5),
                                stats_quantile(v, n, 0.9)};
    }
    return n_out;
}

static void draw_line(buf *b, const frame *f, const plot_line *l, const char *colour) {
    static _Thread_local column c[COLUMNS];
    int n = thin(l, c);
    if (n == 0) return;
    if (l->n > COLUMNS) {
        buf_printf(b, "<path fill=\"%s\" fill-opacity=\"0.16\" stroke=\"none\" d=\"M", colour);
        for (int i = 0; i < n; i++)
            buf_printf(b, "%.1f %.1f ", at_x(f, c[i].x), at_y(f, c[i].high));
        for (int i = n - 1; i >= 0; i--)
            buf_printf(b, "%.1f %.1f ", at_x(f, c[i].x), at_y(f, c[i].low));
        buf_append_cstr(b, "Z\"/>\n");
    }
    buf_printf(b,
               "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" "
               "stroke-linejoin=\"round\" points=\"",
               colour);
    for (int i = 0; i < n; i++) buf_printf(b, "%.1f,%.1f ", at_x(f, c[i].x), at_y(f, c[i].middle));
    buf_append_cstr(b, "\"/>\n");
    if (!isnan(l->mark) && l->mark >= f->x0 && l->mark <= f->x_max)
        buf_printf(b, "<path stroke=\"%s\" stroke-width=\"1.6\" d=\"M%.1f %.1fv-9\"/>\n", colour,
                   at_x(f, l->mark), f->top + f->height);
}

/* Distinct names in order of appearance. */
static int find_name(const char **names, int *n, const char *name) {
    for (int i = 0; i < *n; i++)
        if (strcmp(names[i], name) == 0) return i;
    if (*n == PLOT_MAX_LINES) return PLOT_MAX_LINES - 1;
    names[*n] = name;
    return (*n)++;
}

static void draw_panel(buf *b, const plot *p, int which, frame f, const char **names,
                       int *n_names) {
    const plot_panel *q = &p->panels[which];
    double top = 0;
    for (int i = 0; i < q->n_lines; i++) {
        static _Thread_local column c[COLUMNS];
        int n = thin(&q->lines[i], c);
        for (int k = 0; k < n; k++)
            if (c[k].high > top) top = c[k].high;
    }
    if (!(top > 0)) top = 1;
    double step = step_for(top * 1.04, 4);
    f.y_max = ceil(top * 1.04 / step - 1e-9) * step;
    put_text(b, LEFT, f.top - 12, "panel", "start", q->title);
    char text[24];
    for (double y = 0; y <= f.y_max * (1 + 1e-9); y += step) {
        double at = at_y(&f, y);
        buf_printf(b, "<path class=\"%s\" d=\"M%d %.1fH%d\"/>\n", y > 0 ? "grid" : "axis", LEFT, at,
                   WIDTH - RIGHT);
        put_number(text, y, step, f.y_max);
        put_text(b, LEFT - 8, at + 4, "tick", "end", text);
    }
    double dx = step_for(f.x_max - f.x0, 8);
    for (double x = ceil(f.x0 / dx) * dx; x <= f.x_max * (1 + 1e-9); x += dx) {
        buf_printf(b, "<path class=\"axis\" d=\"M%.1f %.1fv4\"/>\n", at_x(&f, x), f.top + f.height);
        put_number(text, x, dx, f.x_max);
        put_text(b, at_x(&f, x), f.top + f.height + 18, "tick", "middle", text);
    }
    for (int i = 0; i < q->n_lines; i++)
        draw_line(b, &f, &q->lines[i], colours[find_name(names, n_names, q->lines[i].name)]);
}

static double width_of(const char *text) {
    double n = 0;
    for (const char *c = text; *c; c++) n += ((unsigned char)*c & 0xC0) != 0x80;
    return 7 * n; /* about, at 12 px */
}

void plot_render(const plot *p, buf *b) {
    int height = HEAD + p->n_panels * PANEL + (p->n_panels - 1) * GAP + FOOT;
    buf_printf(
        b,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" width=\"%d\" "
        "height=\"%d\" font-family=\"system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif\">\n"
        "<style>.title{font-size:17px;font-weight:600;fill:#1b2026}"
        ".sub{font-size:12px;fill:#5a636d}.panel{font-size:13px;font-weight:600;fill:#2d343b}"
        ".tick,.legend{font-size:12px;fill:#4a535c}.grid{stroke:#e6e9ec;stroke-width:1}"
        ".axis{stroke:#8b949d;stroke-width:1}</style>\n"
        "<rect width=\"%d\" height=\"%d\" rx=\"6\" fill=\"#fff\"/>\n",
        WIDTH, height, WIDTH, height, WIDTH, height);
    put_text(b, LEFT, 30, "title", "start", p->title);
    if (p->subtitle) put_text(b, LEFT, 49, "sub", "start", p->subtitle);
    frame f = {.x0 = INFINITY, .x_max = -INFINITY, .height = PANEL};
    for (int i = 0; i < p->n_panels; i++)
        for (int k = 0; k < p->panels[i].n_lines; k++) {
            const plot_line *l = &p->panels[i].lines[k];
            if (!l->n) continue;
            if (l->x[0] < f.x0) f.x0 = l->x[0];
            if (l->x[l->n - 1] > f.x_max) f.x_max = l->x[l->n - 1];
        }
    if (f.x0 > 0 && f.x0 < f.x_max / 10) f.x0 = 0;
    if (f.x0 > f.x_max) f.x0 = f.x_max = 0; /* no point at all */
    if (f.x0 == f.x_max) f.x_max += 1;
    const char *names[PLOT_MAX_LINES];
    int n_names = 0;
    for (int i = 0; i < p->n_panels; i++) {
        f.top = HEAD + i * (PANEL + GAP);
        draw_panel(b, p, i, f, names, &n_names);
    }
    put_text(b, LEFT + INNER / 2.0, height - 12, "tick", "middle", p->x_label);
    double x = LEFT;
    for (int i = 0; i < n_names; i++) {
        buf_printf(b, "<path stroke=\"%s\" stroke-width=\"3\" d=\"M%.1f 64h18\"/>\n", colours[i],
                   x);
        put_text(b, x + 24, 68, "legend", "start", names[i]);
        x += 24 + width_of(names[i]) + 20;
    }
    if (p->mark_label) {
        buf_printf(b, "<path stroke=\"#4a535c\" stroke-width=\"1.6\" d=\"M%.1f 68v-9\"/>\n", x + 3);
        put_text(b, x + 10, 68, "legend", "start", p->mark_label);
    }
    buf_append_cstr(b, "</svg>\n");
}
