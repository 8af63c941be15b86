/* oriel bench load: the ways to get a model into memory, compared, with the file's pages out of the
 * page cache and in it. Each run is a process of its own, so that its peak and its CPU time are its own;
 * it loads, says one token, and reports through a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/os.h"
#include "cli/cli.h"

enum { N_MODES = 4, MAX_RUNS = 1000, SMALL_CONTEXT = 256 };
static const char *const mode_names[N_MODES] = {"auto", "mmap", "read", "direct"};

typedef struct run {
    double load_s, token_s; /* from the start to loaded, and to the first token */
    double cpu_s;
    double before, after; /* of the file in the page cache: 0 … 1 */
    os_memory memory;
    model_load_mode chose;
    error err;
} run;

typedef struct row {
    int mode;
    bool warm;
    run r; /* the run of median load time */
} row;

/* ── One run ── */

static bool say_one_token(engine *e, error *err) {
    int32_t id = 0;
    engine_request r = {.prompt = &id,
                        .n_prompt = 1,
                        .sampling = sample_defaults(),
                        .max_tokens = 1,
                        .ignore_end = true,
                        .score_prompt = -1};
    r.sampling.temperature = 0;
    engine_job *j = engine_submit(e, &r, err);
    if (!j) return false;
    engine_event ev = {0};
    while (engine_wait(j, &ev, -1))
        if (ev.kind == ENGINE_END) break;
    if (ev.finish == ENGINE_FAILED) *err = ev.err;
    engine_job_free(j);
    return !error_is_set(err);
}

/* In the child. */
static void load_once(const config *c, int mode, run *out) {
    hub_model m = {0};
    engine_config e = session_engine_config(c, &out->err);
    e.load = (model_load_mode)mode;
    e.progress = NULL;
    e.n_parallel = 1;
    if (!e.max_context_tokens) e.max_context_tokens = SMALL_CONTEXT;
    int64_t start = clock_ns(), cpu = clock_cpu_ns();
    if (error_is_set(&out->err) || !hub_open(c->model, c->data_dir, &m, &out->err)) return;
    engine *eng = engine_open(m.f, &e, &out->err);
    out->load_s = (double)(clock_ns() - start) / 1e9;
    if (eng && say_one_token(eng, &out->err)) {
        out->token_s = (double)(clock_ns() - start) / 1e9;
        out->cpu_s = (double)(clock_cpu_ns() - cpu) / 1e9;
        out->memory = os_get_memory();
        out->chose = engine_get_plan(eng)->load;
    }
    engine_close(eng);
    if (!error_is_set(&out->err)) out->after = file_get_residency(m.f);
    hub_close(&m);
}

static bool run_child(const config *c, int mode, run *out) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return error_set(&out->err, ERR_IO, NULL, "A pipe cannot be made: %s.", strerror(errno));
    fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        run mine = *out;
        load_once(c, mode, &mine);
        ssize_t n = write(ends[1], &mine, sizeof mine);
        _exit(n != sizeof mine);
    }
    close(ends[1]);
    ssize_t got = 0, n = 0;
    while (pid > 0 && got < (ssize_t)sizeof *out &&
           ((n = read(ends[0], (char *)out + got, sizeof *out - (size_t)got)) > 0 ||
            (n < 0 && errno == EINTR)))
        if (n > 0) got += n;
    close(ends[0]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) continue;
    if (got != (ssize_t)sizeof *out) {
        out->err = (error){0};
        error_set(&out->err, ERR_IO, NULL, "The process that loads with --load %s died.",
                  mode_names[mode]);
    }
    return !error_is_set(&out->err);
}

/* ── Before it ── */

static bool drop_all_caches(error *err) {
    sync();
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    bool ok = fd >= 0 && write(fd, "3", 1) == 1;
    if (fd >= 0) close(fd);
    return ok || error_set(err, ERR_IO, "drop-caches",
                           "The page cache of the whole machine can only be emptied as root.");
}

/* Through the page cache once, leaving nothing mapped. */
static bool warm_up(const file *f, error *err) {
    enum { BLOCK = 1 << 20 };
    char *block = malloc(BLOCK);
    bool ok = block != NULL;
    for (int i = 0; ok && i < file_n_parts(f); i++) {
        int fd = open(file_get_part_path(f, i), O_RDONLY | O_CLOEXEC);
        ok = fd >= 0;
        for (ssize_t n = 1; ok && n > 0;) ok = (n = read(fd, block, BLOCK)) >= 0;
        if (fd >= 0) close(fd);
    }
    free(block);
    return ok || error_set(err, ERR_IO, NULL, "%s cannot be read: %s.", file_get_path(f),
                           strerror(errno));
}

static bool prepare(const config *c, const file *f, bool warm, run *r) {
    bool ok = warm ? warm_up(f, &r->err) : !c->drop_caches || drop_all_caches(&r->err);
    if (ok && !warm) file_drop_cache(f);
    r->before = file_get_residency(f);
    return ok;
}

/* ── All of them ── */

static int by_time(const void *a, const void *b) {
    const run *x = a, *y = b;
    return (x->load_s > y->load_s) - (x->load_s < y->load_s);
}

static bool measure(const config *c, const file *f, row *out, run *runs, error *err) {
    for (int i = 0; i < (int)c->repeat; i++) {
        runs[i] = (run){0};
        if (!prepare(c, f, out->warm, &runs[i]) || !run_child(c, out->mode, &runs[i])) {
            *err = runs[i].err;
            return false;
        }
        if (term_interrupts()) return error_set(err, ERR_CANCELLED, NULL, "Interrupted.");
    }
    qsort(runs, (size_t)c->repeat, sizeof *runs, by_time);
    out->r = runs[c->repeat / 2];
    return true;
}

/* What is read where it is computed from is read by the first token. */
static double gb_per_s(const row *w, uint64_t bytes) {
    double s = w->r.chose == MODEL_LOAD_MMAP ? w->r.token_s : w->r.load_s;
    return s > 0 ? (double)bytes / s / 1e9 : 0;
}

static uint64_t growth(const row *w, uint64_t bytes) {
    double share = w->r.after - w->r.before;
    return share > 0 ? (uint64_t)(share * (double)bytes) : 0;
}

static void print_row(const row *w, uint64_t bytes) {
    char name[32];
    snprintf(name, sizeof name, "%s%s%s", mode_names[w->mode],
             w->mode == MODEL_LOAD_AUTO ? " → " : "",
             w->mode == MODEL_LOAD_AUTO ? mode_names[w->r.chose] : "");
    int pad = 16 + (w->mode == MODEL_LOAD_AUTO ? 2 : 0); /* the arrow is three bytes wide */
    printf("%-*s %-5s %8.3f %12.3f %7.2f %7.3f %9.2f %% %10s %10s\n", pad, name,
           w->warm ? "warm" : "cold", w->r.load_s, w->r.token_s, gb_per_s(w, bytes), w->r.cpu_s,
           100 * (w->r.after > w->r.before ? w->r.after - w->r.before : 0),
           term_bytes(w->r.memory.rss_peak).text, term_bytes(w->r.memory.rss_anon).text);
    fflush(stdout);
}

static void print_json(const hub_model *m, const row *rows, int n, error *err) {
    uint64_t bytes = file_n_bytes(m->f);
    buf b = {0};
    json_out j = json_begin(&b);
    json_obj(&j);
    json_kv_cstr(&j, "model", m->id);
    json_kv_int(&j, "file_bytes", (int64_t)bytes);
    json_key(&j, "runs");
    json_arr(&j);
    for (int i = 0; i < n; i++) {
        const row *w = &rows[i];
        json_obj(&j);
        json_kv_cstr(&j, "mode", mode_names[w->mode]);
        json_kv_cstr(&j, "used", mode_names[w->r.chose]);
        json_kv_cstr(&j, "cache", w->warm ? "warm" : "cold");
        json_kv_num(&j, "load_seconds", w->r.load_s);
        json_kv_num(&j, "first_token_seconds", w->r.token_s);
        json_kv_num(&j, "gb_per_second", gb_per_s(w, bytes));
        json_kv_num(&j, "cpu_seconds", w->r.cpu_s);
        json_kv_num(&j, "page_cache_before_bytes", w->r.before * (double)bytes);
        json_kv_int(&j, "page_cache_growth_bytes", (int64_t)growth(w, bytes));
        json_kv_int(&j, "peak_rss_bytes", (int64_t)w->r.memory.rss_peak);
        json_kv_int(&j, "rss_anon_bytes", (int64_t)w->r.memory.rss_anon);
        json_end_obj(&j);
    }
    json_end_arr(&j);
    json_end_obj(&j);
    cli_write(&b, err);
}

int cmd_bench_load(int argc, char **argv) {
    config c;
    int status;
    if (!cli_begin(
            &c, CONFIG_BENCH_LOAD, argc, argv,
            "usage: oriel bench load --model FILE [options]\n\nThe ways to get a model into memory, with the page cache cold and warm.",
            &status))
        return status;
    error err = {0};
    hub_model m = {0};
    row rows[2 * N_MODES];
    int n = 0;
    run *runs = calloc((size_t)c.repeat, sizeof *runs);
    if (!runs)
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory.");
    else if (c.n_args != 1)
        error_set(&err, ERR_USAGE, NULL, "oriel bench load takes options only, not '%.60s'.",
                  c.args[1]);
    else if (hub_open(c.model, config_find_data_dir(&c), &m, &err) && !file_is_on_disk(m.f))
        error_set(&err, ERR_USAGE, "model",
                  "The built-in model is not loaded from a file. Name one with --model FILE.");
    if (error_is_set(&err)) goto done;
    uint64_t bytes = file_n_bytes(m.f);
    if (!c.json)
        printf("%s, %s, median of %lld\n%-16s %-5s %8s %12s %7s %7s %11s %10s %10s\n", m.id,
               term_bytes(bytes).text, (long long)c.repeat, "mode", "cache", "load s",
               "1st token s", "GB/s", "CPU s", "page cache", "peak RSS", "RssAnon");
    for (int mode = 0; mode < N_MODES; mode++)
        for (int warm = 0; warm < 2; warm++) {
            if (strcmp(c.load, "auto") != 0 && strcmp(c.load, mode_names[mode]) != 0) continue;
            row *w = &rows[n];
            *w = (row){.mode = mode, .warm = warm};
            if (!measure(&c, m.f, w, runs, &err)) goto done;
            n++;
            if (!c.json) print_row(w, bytes);
        }
    if (c.json) print_json(&m, rows, n, &err);
    for (int i = 0; i < n; i++)
        if (!rows[i].warm && rows[i].r.before > 0.01) {
            fprintf(
                stderr,
                "oriel: somebody keeps %.0f %% of the file in the page cache, so cold is not cold.\n",
                100 * rows[i].r.before);
            break;
        }
done:
    status = error_is_set(&err) ? cli_fail(&err) : 0;
    free(runs);
    hub_close(&m);
    config_deinit(&c);
    return status;
}
