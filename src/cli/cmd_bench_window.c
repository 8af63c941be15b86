/* oriel bench window, oriel bench notes: does a conversation wear the machine out?
 * Long generations and long chats at several window sizes; see window.h. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/window.h"

enum { EXIT_FAILED = 1, EXIT_INCONCLUSIVE = 2, MAX_PATH = 4096 };

static bool parse_sizes(const char *text, int64_t *out, int *n, error *err) {
    for (const char *p = text; *p;) {
        char *end;
        errno = 0;
        long long v = strtoll(p, &end, 10);
        if (end == p || v < 1 || errno || (*end && *end != ',') || *n == WINDOW_MAX_SIZES)
            return error_set(
                err, ERR_USAGE, "max-kv-size",
                "--max-kv-size takes up to %d numbers with commas between them, like 256,1024.",
                WINDOW_MAX_SIZES);
        out[(*n)++] = v;
        p = *end ? end + 1 : end;
    }
    return *n > 0 || error_set(err, ERR_USAGE, "max-kv-size", "--max-kv-size is empty.");
}

/* One configuration: its own engine, so that nothing is left of the one before. */
static bool run_size(config *c, const window_options *o, int64_t size, window_about *about,
                     window_result *r, error *err) {
    hub_model m = {0};
    engine *e = NULL;
    c->max_kv_size = size;
    c->parallel = 2; /* the pairs' halves */
    int64_t longest = o->prompt_tokens > size + 4096 ? o->prompt_tokens : size + 4096;
    if (!c->ctx || c->ctx < longest) c->ctx = longest;
    engine_config ec = session_engine_config(c, err);
    ec.n_events = WINDOW_BURST;
    if (!error_is_set(err) && hub_open(c->model, config_find_data_dir(c), &m, err))
        e = engine_open(m.f, &ec, err);
    term_progress_end();
    bool ok = e != NULL && window_run(e, o, r, err);
    if (ok && o->n_turns > 0) ok = window_run_chat(e, o, &r->chat, err);
    if (ok) {
        const model_info *info = engine_get_model(e);
        snprintf(about->model, sizeof about->model, "%s", m.id);
        snprintf(about->arch, sizeof about->arch, "%s", info->arch);
        snprintf(about->type, sizeof about->type, "%s", dtype_get(info->main_type)->name);
        snprintf(about->digest, sizeof about->digest, "%.*s", STR_ARG(engine_get_meta(e)->digest));
        snprintf(about->kernels, sizeof about->kernels, "%s", kern_get()->name);
        snprintf(about->kv_type, sizeof about->kv_type, "%s", c->kv_type);
        about->weight_bytes = info->weight_bytes;
        about->n_threads = engine_get_config(e)->n_threads;
        window_judge(o, r);
    }
    engine_close(e);
    hub_close(&m);
    return ok;
}

static bool write_file(const char *path, const buf *text, bool append, error *err) {
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), 0666);
    bool ok = fd >= 0 && !text->failed;
    for (size_t at = 0; ok && at < text->len;) {
        ssize_t n = write(fd, text->ptr + at, text->len - at);
        if (n < 0 && errno == EINTR) continue;
        ok = n > 0;
        if (ok) at += (size_t)n;
    }
    if (!ok) error_set(err, ERR_IO, NULL, "%s cannot be written: %s.", path, strerror(errno));
    if (fd >= 0) close(fd);
    return ok;
}

/* Beside the notes: window-MODEL-COMMIT.svg. The link in the notes is the name alone. */
static void name_picture(const char *notes, const char *of, char path[MAX_PATH]) {
    const char *slash = strrchr(notes, '/');
    int folder = slash ? (int)(slash - notes) + 1 : 0;
    snprintf(path, MAX_PATH, "%.*swindow-%.100s-%.20s.svg", folder, notes, of, probe_get_commit());
    for (char *p = path + folder; *p; p++)
        if (*p == '/' || *p == '+' || *p == ' ') *p = '-';
}

static bool report(const config *c, const window_options *o, const window_about *about,
                   const window_result *r, int n, bool with_notes, error *err) {
    buf text = {0};
    char picture[MAX_PATH] = "";
    if (c->svg)
        snprintf(picture, sizeof picture, "%s", c->svg);
    else if (with_notes && !o->counters_only)
        name_picture(c->notes, about->model, picture);
    bool ok = true;
    if (picture[0]) {
        window_put_svg(about, r, n, &text);
        ok = write_file(picture, &text, false, err);
        buf_clear(&text);
    }
    if (ok && with_notes) {
        const char *slash = strrchr(picture, '/');
        window_put_notes(about, o, r, n, picture[0] ? (slash ? slash + 1 : picture) : NULL, &text);
        ok = write_file(c->notes, &text, true, err);
        buf_clear(&text);
    }
    if (ok && c->json) {
        window_put_json(about, o, r, n, &text);
        return cli_write(&text, err);
    }
    if (ok) window_print_table(about, o, r, n);
    buf_deinit(&text);
    return ok;
}

static int run_window(int argc, char **argv, bool with_notes, const char *synopsis) {
    config c;
    int status, n = 0;
    if (!cli_begin(&c, CONFIG_BENCH_WINDOW, argc, argv, synopsis, &status)) return status;
    error err = {0};
    int64_t sizes[WINDOW_MAX_SIZES];
    window_about about = {.machine = probe_get_machine()};
    window_result *r = NULL;
    window_options o = {.n_tokens = c.tokens,
                        .n_turns = c.turns,
                        .turn_tokens = c.turn_tokens,
                        .n_pairs = c.pairs,
                        .prompt_tokens = c.prompt_tokens,
                        .seed = c.seed < 0 ? 1 : (uint64_t)c.seed,
                        .max_context_tokens = c.max_context_tokens,
                        .margin = c.max_context_tokens_margin,
                        .counters_only = c.counters,
                        .wants_lock = c.mlock,
                        .shows_progress = !c.quiet && term_is_rich(stderr)};
    if (c.n_args != 1)
        error_set(&err, ERR_USAGE, NULL, "oriel bench %s takes options only, not '%.60s'.",
                  c.args[0], c.n_args > 1 ? c.args[1] : "");
    else if (parse_sizes(c.window_sizes, sizes, &n, &err) && !(r = calloc((size_t)n, sizeof *r)))
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the measurements.");
    for (int i = 0; r && i < n; i++)
        if (!run_size(&c, &o, sizes[i], &about, &r[i], &err)) break;
    if (r && !error_is_set(&err)) report(&c, &o, &about, r, n, with_notes, &err);
    if (error_is_set(&err))
        status = cli_fail(&err);
    else {
        static const int statuses[] = {
            [STATS_PASS] = 0, [STATS_FAIL] = EXIT_FAILED, [STATS_INCONCLUSIVE] = EXIT_INCONCLUSIVE};
        status = statuses[window_verdict(r, n)];
    }
    free(r);
    config_deinit(&c);
    return status;
}

int cmd_bench_window(int argc, char **argv) {
    return run_window(
        argc, argv, false,
        "usage: oriel bench window [options]\n\n"
        "Long generations and chats in windows of several sizes: speed, memory and exact counters\n"
        "must stay flat. Exit status 0: they do; 1: a criterion fails; 2: one is inconclusive.");
}

int cmd_bench_notes(int argc, char **argv) {
    return run_window(argc, argv, true,
                      "usage: oriel bench notes [options]\n\n"
                      "oriel bench window, appended to a notebook in Markdown with its picture.");
}
