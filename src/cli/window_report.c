/* What the window bench measured, as a table for the terminal, JSON, Markdown for the
 * notebook, and a picture. All from the same rows.
 */
#include <math.h>
#include <string.h>

#include "base/json.h"
#include "cli/plot.h"
#include "cli/window.h"

enum { CELL = 48 };
static const double MIB = 1024 * 1024;

static const char *const verdict_names[] = {
    [STATS_PASS] = "pass", [STATS_FAIL] = "FAIL", [STATS_INCONCLUSIVE] = "inconclusive"};

/* 1234567 → "1,234,567" */
static void put_count(char out[CELL], int64_t v) {
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%lld", (long long)v), at = 0;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0 && digits[i - 1] != '-') out[at++] = ',';
        out[at++] = digits[i];
    }
    out[at] = 0;
}

static void put_range(char out[CELL], int64_t low, int64_t high) {
    char a[CELL], b[CELL];
    put_count(a, low);
    put_count(b, high);
    if (low == high)
        snprintf(out, CELL, "%s", a);
    else
        snprintf(out, CELL, "%.20s to %.20s", a, b);
}

/* ── Rows ── */

typedef void row_fn(const window_result *r, char out[CELL]);

#define ROW(name) static void name(const window_result *r, char out[CELL])
ROW(row_tokens) {
    put_count(out, r->n_tokens);
}
ROW(row_windows) {
    snprintf(out, CELL, "%.1f", r->n_windows);
}
ROW(row_attended) {
    put_range(out, r->attended_min, r->attended_max);
}
ROW(row_read) {
    snprintf(out, CELL, "%.1f KiB", (double)r->row_bytes * (double)r->attended_max / 1024);
}
ROW(row_blocks) {
    put_range(out, r->blocks_min, r->blocks_max);
}
ROW(row_allocs) {
    if (r->counts_allocs)
        snprintf(out, CELL, "%g",
                 r->n_counted ? (double)r->n_allocs / (double)r->n_counted : (double)r->n_allocs);
    else
        snprintf(out, CELL, "not counted");
}
ROW(row_held) {
    snprintf(out, CELL, "%.2f of %.2f MiB", r->kv.level / MIB, (double)r->planned_kv / MIB);
}
ROW(row_prefill) {
    snprintf(out, CELL, "%.3f s, %.0f/s", r->prefill_s,
             r->prefill_s > 0 ? (double)r->n_prefill / r->prefill_s : 0);
}
ROW(row_ttft) {
    snprintf(out, CELL, "%.1f ms", r->ttft_s * 1e3);
}
/* "value [low, high]", as far as they are known. */
static void put_between(char out[CELL], const char *fmt, stats_interval i, double by) {
    char v[3][CELL];
    const double values[] = {i.value, i.low, i.high};
    for (int k = 0; k < 3; k++)
        if (isnan(values[k]))
            snprintf(v[k], CELL, "?");
        else
            snprintf(v[k], CELL, fmt, values[k] / by);
    if (isnan(i.value))
        snprintf(out, CELL, "-");
    else
        snprintf(out, CELL, "%.14s [%.14s, %.14s]", v[0], v[1], v[2]);
}
ROW(row_before) {
    if (isnan(r->tps_before))
        snprintf(out, CELL, "-");
    else
        snprintf(out, CELL, "%.1f", r->tps_before);
}
ROW(row_past) {
    if (isnan(r->tps_past))
        snprintf(out, CELL, "-");
    else
        snprintf(out, CELL, "%.1f (%+.1f %%)", r->tps_past,
                 (r->tps_past / r->tps_before - 1) * 100);
}
ROW(row_slope) {
    put_between(out, "%+.2f", r->slope, 1);
}
ROW(row_raw_slope) {
    put_between(out, "%+.2f", r->raw_slope, 1);
}
ROW(row_paces) {
    snprintf(out, CELL, "%zu, %+.1f %% tokens", r->n_paces,
             r->n_tokens ? 100 * (double)r->n_reference / (double)r->n_tokens : 0.0);
}
ROW(row_ratio) {
    put_between(out, "%.4f", r->ratio, 1);
}
ROW(row_steps) {
    snprintf(out, CELL, "%.3f / %.3f ms", r->step_p50_ms, r->step_p99_ms);
}
static void put_memory(char out[CELL], const window_memory *m) {
    snprintf(out, CELL, "%.2f ± %.2f MiB", m->level / MIB, m->range / 2 / MIB);
}
ROW(row_rss) {
    put_memory(out, &r->rss_anon);
}
ROW(row_rss_slope) {
    put_between(out, "%+.1f", r->rss_anon.slope, 1024);
}
ROW(row_locked) {
    put_memory(out, &r->locked);
}
ROW(row_faults) {
    snprintf(out, CELL, "%llu / %llu", (unsigned long long)r->n_minor,
             (unsigned long long)r->n_major);
}
ROW(row_cpu) {
    snprintf(out, CELL, "%.0f %%", r->cpu_percent);
}
ROW(row_gpu) {
    (void)r;
    snprintf(out, CELL, "no GPU");
}
ROW(row_foreign) {
    snprintf(out, CELL, "%.2f", r->foreign_cores);
}
ROW(row_turns) {
    if (r->chat.skipped[0])
        snprintf(out, CELL, "none");
    else
        snprintf(out, CELL, "%lld, cut %lld times", (long long)r->chat.n_turns,
                 (long long)r->chat.n_cuts);
}
ROW(row_longest) {
    snprintf(out, CELL, "%lld of %lld", (long long)r->chat.longest, (long long)r->chat.limit);
}
ROW(row_computed) {
    char a[CELL], b[CELL];
    put_count(a, r->chat.n_computed);
    put_count(b, r->chat.n_prompt);
    snprintf(out, CELL, "%.20s of %.20s", a, b);
}
ROW(row_per_turn) {
    const window_chat *c = &r->chat;
    int64_t plain = c->n_turns - c->n_cuts;
    snprintf(out, CELL, "%.0f; %.0f",
             plain ? (double)(c->n_computed - c->n_computed_at_cuts) / (double)plain : 0.0,
             c->n_cuts ? (double)c->n_computed_at_cuts / (double)c->n_cuts : 0.0);
}
ROW(row_turn_ttft) {
    snprintf(out, CELL, "%.1f / %.1f ms", r->chat.ttft_p50 * 1e3, r->chat.ttft_p99 * 1e3);
}

enum { ALWAYS, TIMED, CHAT };
static const struct {
    const char *label;
    row_fn *fn;
    int when;
} rows[] = {
    {"tokens generated", row_tokens, ALWAYS},
    {"windows passed", row_windows, ALWAYS},
    {"key rows attended per token", row_attended, ALWAYS},
    {"K/V read per token", row_read, ALWAYS},
    {"K/V blocks held", row_blocks, ALWAYS},
    {"K/V memory held, of planned", row_held, ALWAYS},
    {"heap allocations per token", row_allocs, ALWAYS},
    {"prefill", row_prefill, TIMED},
    {"time to first token", row_ttft, TIMED},
    {"tokens/s before the window", row_before, TIMED},
    {"tokens/s past it", row_past, TIMED},
    {"raw slope, % per 100k (shown)", row_raw_slope, TIMED},
    {"slope to reference (judged)", row_slope, TIMED},
    {"points of the reference", row_paces, TIMED},
    {"deep/shallow, paired", row_ratio, TIMED},
    {"step p50 / p99", row_steps, TIMED},
    {"resident (RssAnon)", row_rss, TIMED},
    {"slope, KiB per 100,000 tokens", row_rss_slope, TIMED},
    {"locked (VmLck)", row_locked, TIMED},
    {"page faults minor / major", row_faults, TIMED},
    {"CPU", row_cpu, TIMED},
    {"GPU", row_gpu, TIMED},
    {"cores busy with others", row_foreign, TIMED},
    {"chat: turns", row_turns, CHAT},
    {"chat: longest prompt, limit", row_longest, CHAT},
    {"chat: prompt tokens computed", row_computed, CHAT},
    {"per turn; per turn with a cut", row_per_turn, CHAT},
    {"chat: first token p50 / p99", row_turn_ttft, CHAT},
};
enum { N_ROWS = sizeof rows / sizeof rows[0] };

static bool is_shown(int row, const window_options *o) {
    if (rows[row].when == TIMED) return !o->counters_only;
    return rows[row].when == ALWAYS || o->n_turns > 0;
}

/* ── Table ── */

static int width_of(const char *text) {
    int n = 0;
    for (const char *c = text; *c; c++) n += ((unsigned char)*c & 0xC0) != 0x80;
    return n;
}

static void print_cell(const char *text, int width) {
    printf("  %*s%s", width > width_of(text) ? width - width_of(text) : 0, "", text);
}

void window_print_table(const window_about *a, const window_options *o, const window_result *r,
                        int n) {
    enum { LABEL = 31 };
    char cell[CELL];
    int width[WINDOW_MAX_SIZES] = {0};
    for (int i = 0; i < n; i++) {
        width[i] = 12;
        for (int k = 0; k < N_ROWS; k++) {
            if (!is_shown(k, o)) continue;
            rows[k].fn(&r[i], cell);
            if (width_of(cell) > width[i]) width[i] = width_of(cell);
        }
    }
    printf(
        "%s, %s %s, digest %s; %d thread%s, %s kernels, %s keys and values\n%s, %d cores, %.0f GiB, "
        "%s; oriel %s (%s); %s\n\n%-*s",
        a->model, a->arch, a->type, a->digest, a->n_threads, a->n_threads == 1 ? "" : "s",
        a->kernels, a->kv_type, a->machine.cpu, a->machine.n_cpus,
        (double)a->machine.memory / MIB / 1024, a->machine.system, ORIEL_VERSION,
        probe_get_commit(), a->machine.date, LABEL, "window (max_kv_size)");
    for (int i = 0; i < n; i++) {
        put_count(cell, r[i].max_kv_size);
        print_cell(cell, width[i]);
    }
    putchar('\n');
    for (int k = 0; k < N_ROWS; k++) {
        if (!is_shown(k, o)) continue;
        printf("%-*s", LABEL, rows[k].label);
        for (int i = 0; i < n; i++) {
            rows[k].fn(&r[i], cell);
            print_cell(cell, width[i]);
        }
        putchar('\n');
    }
    putchar('\n');
    for (int k = 0; k < r[0].n_checks; k++) {
        printf("%-*s", LABEL, r[0].checks[k].name);
        for (int i = 0; i < n; i++) print_cell(verdict_names[r[i].checks[k].verdict], width[i]);
        putchar('\n');
    }
    for (int i = 0; i < n; i++)
        for (int k = 0; k < r[i].n_checks; k++)
            if (r[i].checks[k].verdict != STATS_PASS)
                printf("%lld: %s %s: %s\n", (long long)r[i].max_kv_size, r[i].checks[k].name,
                       r[i].checks[k].verdict == STATS_FAIL ? "FAILS" : "is inconclusive",
                       r[i].checks[k].detail);
}

/* ── JSON ── */

static void put_interval(json_out *j, const char *key, stats_interval i) {
    json_key(j, key);
    json_obj(j);
    json_kv_num(j, "value", i.value);
    json_kv_num(j, "low", i.low);
    json_kv_num(j, "high", i.high);
    json_end_obj(j);
}

static void put_memory_json(json_out *j, const char *key, const window_memory *m) {
    json_key(j, key);
    json_obj(j);
    json_kv_num(j, "median_bytes", m->level);
    json_kv_num(j, "range_bytes", m->range);
    put_interval(j, "bytes_per_100k_tokens", m->slope);
    json_end_obj(j);
}

static void put_series(json_out *j, const char *key, const double *v, size_t n) {
    json_key(j, key);
    json_arr(j);
    for (size_t i = 0; i < n; i++) json_put_float(j, (float)v[i]);
    json_end_arr(j);
}

static void put_timed(json_out *j, const window_result *r) {
    json_kv_int(j, "prefill_tokens", r->n_prefill);
    json_kv_num(j, "prefill_seconds", r->prefill_s);
    json_kv_num(j, "ttft_seconds", r->ttft_s);
    json_kv_num(j, "tokens_per_second_before", r->tps_before);
    json_kv_num(j, "tokens_per_second_past", r->tps_past);
    json_kv_cstr(j, "judged_slope", "reference_slope_percent_per_100k_tokens");
    put_interval(j, "reference_slope_percent_per_100k_tokens", r->slope);
    put_interval(j, "raw_slope_percent_per_100k_tokens", r->raw_slope);
    json_kv_int(j, "reference_points", (int64_t)r->n_paces);
    json_kv_int(j, "reference_tokens", r->n_reference);
    json_kv_int(j, "pairs", (int64_t)r->n_pairs);
    if (r->n_pairs) {
        put_interval(j, "deep_over_shallow", r->ratio);
        json_kv_int(j, "shallow_from", r->shallow_from);
        json_kv_int(j, "shallow_to", r->shallow_to);
    }
    json_kv_num(j, "step_p50_ms", r->step_p50_ms);
    json_kv_num(j, "step_p99_ms", r->step_p99_ms);
    put_memory_json(j, "rss_anon", &r->rss_anon);
    put_memory_json(j, "locked", &r->locked);
    put_memory_json(j, "kv", &r->kv);
    json_kv_int(j, "minor_faults", (int64_t)r->n_minor);
    json_kv_int(j, "major_faults", (int64_t)r->n_major);
    json_kv_num(j, "cpu_percent", r->cpu_percent);
    json_kv_null(j, "gpu_percent");
    json_kv_num(j, "foreign_cores", r->foreign_cores);
    json_kv_num(j, "seconds", r->seconds);
    json_key(j, "series");
    json_obj(j);
    put_series(j, "tokens", r->series.tokens, r->series.n);
    put_series(j, "tokens_per_second", r->series.tps, r->series.n);
    put_series(j, "rss_anon", r->series.rss_anon, r->series.n);
    put_series(j, "locked", r->series.locked, r->series.n);
    put_series(j, "kv", r->series.kv, r->series.n);
    json_end_obj(j);
    json_key(j, "reference");
    json_obj(j);
    put_series(j, "tokens", r->pace_tokens, r->n_paces);
    put_series(j, "run_over_reference", r->pace, r->n_paces);
    json_end_obj(j);
}

static void put_chat(json_out *j, const window_chat *c) {
    json_key(j, "chat");
    json_obj(j);
    if (c->skipped[0]) json_kv_cstr(j, "skipped", c->skipped);
    json_kv_int(j, "turns", c->n_turns);
    json_kv_int(j, "cuts", c->n_cuts);
    json_kv_int(j, "longest_prompt", c->longest);
    json_kv_int(j, "limit", c->limit);
    json_kv_int(j, "prompt_tokens", c->n_prompt);
    json_kv_int(j, "computed_tokens", c->n_computed);
    json_kv_int(j, "computed_tokens_at_cuts", c->n_computed_at_cuts);
    json_kv_num(j, "ttft_p50_seconds", c->ttft_p50);
    json_kv_num(j, "ttft_p99_seconds", c->ttft_p99);
    json_end_obj(j);
}

static void put_checks(json_out *j, const window_result *r) {
    json_key(j, "checks");
    json_arr(j);
    for (int i = 0; i < r->n_checks; i++) {
        static const char *const names[] = {"pass", "fail", "inconclusive"};
        json_obj(j);
        json_kv_cstr(j, "name", r->checks[i].name);
        json_kv_cstr(j, "verdict", names[r->checks[i].verdict]);
        json_kv_cstr(j, "detail", r->checks[i].detail);
        json_end_obj(j);
    }
    json_end_arr(j);
}

void window_put_json(const window_about *a, const window_options *o, const window_result *r, int n,
                     buf *out) {
    json_out j = json_begin(out);
    json_obj(&j);
    json_kv_cstr(&j, "model", a->model);
    json_kv_cstr(&j, "architecture", a->arch);
    json_kv_cstr(&j, "type", a->type);
    json_kv_cstr(&j, "digest", a->digest);
    json_kv_int(&j, "weight_bytes", (int64_t)a->weight_bytes);
    json_kv_int(&j, "threads", a->n_threads);
    json_kv_cstr(&j, "kernels", a->kernels);
    json_kv_cstr(&j, "kv_type", a->kv_type);
    json_kv_cstr(&j, "version", ORIEL_VERSION);
    json_kv_cstr(&j, "commit", probe_get_commit());
    json_kv_cstr(&j, "cpu", a->machine.cpu);
    json_kv_int(&j, "cores", a->machine.n_cpus);
    json_kv_int(&j, "memory_bytes", (int64_t)a->machine.memory);
    json_kv_cstr(&j, "system", a->machine.system);
    json_kv_cstr(&j, "date", a->machine.date);
    json_kv_int(&j, "seed", (int64_t)o->seed);
    json_key(&j, "windows");
    json_arr(&j);
    for (int i = 0; i < n; i++) {
        const window_result *w = &r[i];
        json_obj(&j);
        json_kv_int(&j, "max_kv_size", w->max_kv_size);
        json_kv_int(&j, "pinned", w->pinned);
        json_kv_int(&j, "settled_at", w->settled);
        json_kv_int(&j, "tokens", w->n_tokens);
        json_kv_num(&j, "windows_passed", w->n_windows);
        json_kv_int(&j, "tokens_counted", w->n_counted);
        json_kv_int(&j, "rows_attended_min", w->attended_min);
        json_kv_int(&j, "rows_attended_max", w->attended_max);
        json_kv_int(&j, "row_bytes", (int64_t)w->row_bytes);
        json_kv_int(&j, "block_bytes", (int64_t)w->block_bytes);
        json_kv_int(&j, "blocks_min", w->blocks_min);
        json_kv_int(&j, "blocks_max", w->blocks_max);
        json_kv_int(&j, "blocks_uneven", w->n_uneven);
        json_kv_int(&j, "planned_kv_bytes", (int64_t)w->planned_kv);
        if (w->counts_allocs)
            json_kv_int(&j, "allocations", (int64_t)w->n_allocs);
        else
            json_kv_null(&j, "allocations");
        if (!o->counters_only) put_timed(&j, w);
        if (o->n_turns > 0) put_chat(&j, &w->chat);
        put_checks(&j, w);
        json_end_obj(&j);
    }
    json_end_arr(&j);
    static const char *const names[] = {"pass", "fail", "inconclusive"};
    json_kv_cstr(&j, "verdict", names[window_verdict(r, n)]);
    json_end_obj(&j);
}

/* ── Notes ── */

void window_put_notes(const window_about *a, const window_options *o, const window_result *r, int n,
                      const char *svg, buf *b) {
    char cell[CELL];
    buf_printf(
        b,
        "\n## %s: the window, %s\n\n%s %s, digest `%s`, %.1f MiB of weights; %d thread%s, %s "
        "kernels, %s keys and values, seed %llu.\n%s, %d cores, %.0f GiB, %s; oriel %s "
        "(`%s`).\n\n| window (`max_kv_size`) |",
        a->model, a->machine.date, a->arch, a->type, a->digest, (double)a->weight_bytes / MIB,
        a->n_threads, a->n_threads == 1 ? "" : "s", a->kernels, a->kv_type,
        (unsigned long long)o->seed, a->machine.cpu, a->machine.n_cpus,
        (double)a->machine.memory / MIB / 1024, a->machine.system, ORIEL_VERSION,
        probe_get_commit());
    for (int i = 0; i < n; i++) {
        put_count(cell, r[i].max_kv_size);
        buf_printf(b, " %s |", cell);
    }
    buf_append_cstr(b, "\n|---|");
    for (int i = 0; i < n; i++) buf_append_cstr(b, "---|");
    for (int k = 0; k < N_ROWS; k++) {
        if (!is_shown(k, o)) continue;
        buf_printf(b, "\n| %s |", rows[k].label);
        for (int i = 0; i < n; i++) {
            rows[k].fn(&r[i], cell);
            buf_printf(b, " %s |", cell);
        }
    }
    for (int k = 0; k < r[0].n_checks; k++) {
        buf_printf(b, "\n| **%s** |", r[0].checks[k].name);
        for (int i = 0; i < n; i++) buf_printf(b, " %s |", verdict_names[r[i].checks[k].verdict]);
    }
    buf_append_cstr(b, "\n\n");
    for (int i = 0; i < n; i++)
        for (int k = 0; k < r[i].n_checks; k++)
            if (r[i].checks[k].verdict != STATS_PASS)
                buf_printf(b, "- %lld, %s: %s: %s.\n", (long long)r[i].max_kv_size,
                           r[i].checks[k].name, verdict_names[r[i].checks[k].verdict],
                           r[i].checks[k].detail);
    if (svg) buf_printf(b, "\n![tokens per second and memory over tokens](%s)\n", svg);
}

/* ── Picture ── */

/* Bytes become MiB in an array of their own. */
static void add_lines(plot_panel *p, const window_result *r, int n,
                      double (*values)[WINDOW_MAX_SAMPLES], const char (*names)[24]) {
    for (int i = 0; i < n && i < PLOT_MAX_LINES; i++)
        p->lines[p->n_lines++] = (plot_line){.name = names[i],
                                             .x = r[i].series.tokens,
                                             .y = values[i],
                                             .n = r[i].series.n,
                                             .mark = (double)r[i].max_kv_size};
}

static void add_paces(plot_panel *p, const window_result *r, int n, const char (*names)[24]) {
    p->title = "speed, of the young reference's";
    for (int i = 0; i < n && i < PLOT_MAX_LINES; i++)
        p->lines[p->n_lines++] = (plot_line){.name = names[i],
                                             .x = r[i].pace_tokens,
                                             .y = r[i].pace,
                                             .n = r[i].n_paces,
                                             .mark = (double)r[i].max_kv_size};
}

void window_put_svg(const window_about *a, const window_result *r, int n, buf *out) {
    static double values[4][WINDOW_MAX_SIZES][WINDOW_MAX_SAMPLES];
    static const char *const titles[] = {"tokens per second", "resident memory (RssAnon), MiB",
                                         "locked memory (VmLck), MiB", "key/value rows held, MiB"};
    static char names[WINDOW_MAX_SIZES][24], title[260], subtitle[400];
    bool has_locked = false;
    for (int i = 0; i < n; i++) {
        const window_series *s = &r[i].series;
        char size[CELL];
        put_count(size, r[i].max_kv_size);
        snprintf(names[i], sizeof names[i], "%.16s rows", size);
        for (size_t k = 0; k < s->n; k++) {
            values[0][i][k] = s->tps[k];
            values[1][i][k] = s->rss_anon[k] / MIB;
            values[2][i][k] = s->locked[k] / MIB;
            values[3][i][k] = s->kv[k] / MIB;
            has_locked |= s->locked[k] > 0;
        }
    }
    snprintf(title, sizeof title, "%s in a window", a->model);
    snprintf(subtitle, sizeof subtitle, "%s %s, %d thread%s, %s; %s; oriel %s (%s), %s", a->arch,
             a->type, a->n_threads, a->n_threads == 1 ? "" : "s", a->kernels, a->machine.cpu,
             ORIEL_VERSION, probe_get_commit(), a->machine.date);
    plot p = {.title = title,
              .subtitle = subtitle,
              .x_label = "tokens in the sequence",
              .mark_label = "window full"};
    for (int i = 0; i < 4; i++) {
        if (i == 2 && !has_locked) continue;
        p.panels[p.n_panels].title = titles[i];
        add_lines(&p.panels[p.n_panels++], r, n, values[i], names);
        if (i == 0 && r[0].n_paces > 0) add_paces(&p.panels[p.n_panels++], r, n, names);
    }
    plot_render(&p, out);
}
