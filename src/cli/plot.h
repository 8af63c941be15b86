/* Line charts as SVG: panels below each other with a common horizontal axis and
 * one legend. Long series are thinned to what a screen shows: the median of each
 * column as a line, its 10th to 90th percentile as a band behind it.
 */
#ifndef CLI_PLOT_H
#define CLI_PLOT_H

#include <stdint.h>

#include "base/buf.h"

enum { PLOT_MAX_LINES = 8, PLOT_MAX_PANELS = 6 };

typedef struct plot_line {
    const char *name;    /* in the legend; lines of one name share colour and entry */
    const double *x, *y; /* [n], x ascending; NaN leaves a gap. Borrowed until rendered */
    size_t n;
    double
        mark; /* a tick at the panel's foot in the line's colour, e.g. where the window is full; NaN = none */
} plot_line;

typedef struct plot_panel {
    const char *title; /* with the unit */
    plot_line lines[PLOT_MAX_LINES];
    int n_lines;
} plot_panel;

typedef struct plot {
    const char *title, *subtitle, *x_label,
        *mark_label; /* mark_label: what the ticks mean; NULL = none */
    plot_panel panels[PLOT_MAX_PANELS];
    int n_panels;
} plot;

/* Vertical axes begin at zero. Failures are the buf's. */
void plot_render(const plot *p, buf *out);

#endif
