/* oriel bench: which benchmark; and oriel bench speed, prefill and decode tokens per second at growing
 * context. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/os.h"
#include "cli/cli.h"

enum { MAX_FRONTIERS = 32, MAX_RUNS = 1000 };

typedef struct point {
    int64_t depth;                       /* tokens in the context before decoding */
    double prefill_tps, decode_tps, cpu; /* medians; cpu: cores busy while decoding */
} point;

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *v, int n) {
    qsort(v, (size_t)n, sizeof *v, by_value);
    return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

static bool parse_frontiers(const char *text, int64_t *out, int *n, error *err) {
    for (const char *p = text; *p;) {
        char *end;
        long long v = strtoll(p, &end, 10);
        if (end == p || v < 0 || *n == MAX_FRONTIERS)
            return error_set(
                err, ERR_USAGE, "frontiers",
                "--frontiers takes up to %d numbers with commas between them, like 0,512,4096.",
                MAX_FRONTIERS);
        out[(*n)++] = v;
        p = end;
        while (*p == ',' || *p == ' ') p++;
    }
    return *n > 0 || error_set(err, ERR_USAGE, "frontiers", "--frontiers is empty.");
}

/* Prefills n_prompt seeded random ids and decodes n_gen: prefill seconds, decode seconds between
 * tokens, CPU seconds meanwhile. */
static bool run(engine *e, int64_t n_prompt, int64_t n_gen, uint64_t seed, double *prefill_s,
                double *decode_s, double *cpu_s, error *err) {
    int32_t n_vocab = engine_get_model(e)->n_vocab;
    int32_t *ids = malloc((size_t)n_prompt * sizeof *ids);
    if (!ids) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the prompt.");
    for (int64_t i = 0; i < n_prompt; i++)
        ids[i] = (int32_t)(rng_at(seed, (uint64_t)i) % (uint64_t)n_vocab);
    engine_request r = {.prompt = ids,
                        .n_prompt = (size_t)n_prompt,
                        .max_tokens = n_gen,
                        .ignore_end = true,
                        .score_prompt = -1,
                        .sampling = sample_defaults()};
    r.sampling.temperature = 0;
    r.sampling.n_top = -1;
    engine_job *j = engine_submit(e, &r, err);
    free(ids);
    if (!j) return false;
    int64_t first_ns = 0, first_cpu = 0;
    engine_event ev;
    bool ok = true, cancelled = false;
    for (;;) {
        if (!engine_wait(j, &ev, 100)) {
            if (term_interrupts() && !cancelled) {
                engine_cancel(j);
                cancelled = true;
            }
            continue;
        }
        if (ev.kind == ENGINE_TOKEN && !first_ns) {
            first_ns = clock_ns();
            first_cpu = clock_cpu_ns();
        }
        if (ev.kind == ENGINE_END) break;
    }
    if (ev.finish == ENGINE_FAILED) {
        *err = ev.err;
        ok = false;
    } else if (ev.finish == ENGINE_CANCELLED)
        ok = error_set(err, ERR_CANCELLED, NULL, "Interrupted.");
    *prefill_s = (double)ev.usage.prefill_ns / 1e9;
    *decode_s = (double)(clock_ns() - first_ns) / 1e9;
    *cpu_s = (double)(clock_cpu_ns() - first_cpu) / 1e9;
    engine_job_free(j);
    return ok;
}

static bool measure(engine *e, const config *c, int64_t depth, point *out, error *err) {
    static double prefill[MAX_RUNS], decode[MAX_RUNS], cpu[MAX_RUNS];
    int64_t n_prompt = depth > 0 ? depth : 1;
    for (int i = 0; i < (int)c->repeat; i++) {
        double ps = 0, ds = 0, cs = 0;
        if (!run(e, n_prompt, c->generate_tokens + 1, (uint64_t)i, &ps, &ds, &cs, err))
            return false;
        prefill[i] = ps > 0 ? (double)n_prompt / ps : 0;
        decode[i] = ds > 0 ? (double)c->generate_tokens / ds : 0;
        cpu[i] = ds > 0 ? cs / ds : 0;
    }
    *out = (point){depth, median(prefill, (int)c->repeat), median(decode, (int)c->repeat),
                   median(cpu, (int)c->repeat)};
    return true;
}

static void print_json(const session *s, const point *points, int n, error *err) {
    buf b = {0};
    json_out j = json_begin(&b);
    const model_info *m = engine_get_model(s->e);
    os_memory mem = os_get_memory();
    json_obj(&j);
    json_kv_cstr(&j, "model", s->model.id);
    json_kv_cstr(&j, "architecture", m->arch);
    json_kv_cstr(&j, "type", dtype_get(m->main_type)->name);
    json_kv_int(&j, "weight_bytes", (int64_t)m->weight_bytes);
    json_kv_int(&j, "threads", engine_get_config(s->e)->n_threads);
    json_kv_cstr(&j, "kernels", kern_get()->name);
    json_kv_int(&j, "rss_bytes", (int64_t)mem.rss);
    json_kv_int(&j, "peak_rss_bytes", (int64_t)mem.rss_peak);
    json_key(&j, "points");
    json_arr(&j);
    for (int i = 0; i < n; i++) {
        json_obj(&j);
        json_kv_int(&j, "depth", points[i].depth);
        json_key(&j, "prefill_tokens_per_second");
        json_put_float(&j, (float)points[i].prefill_tps);
        json_key(&j, "decode_tokens_per_second");
        json_put_float(&j, (float)points[i].decode_tps);
        json_key(&j, "cpu_percent");
        json_put_float(&j, (float)(points[i].cpu * 100));
        json_end_obj(&j);
    }
    json_end_arr(&j);
    json_end_obj(&j);
    cli_write(&b, err);
}

static int bench_speed(int argc, char **argv) {
    config c;
    int status;
    if (!cli_begin(
            &c, CONFIG_BENCH, argc, argv,
            "usage: oriel bench speed [options]\n\nTokens per second: prefill of N tokens, then decoding at context frontiers.",
            &status))
        return status;
    error err = {0};
    session s = {0};
    int64_t frontiers[MAX_FRONTIERS];
    point points[MAX_FRONTIERS];
    int n = 0;
    if (c.n_args != 1) {
        error_set(&err, ERR_USAGE, NULL, "oriel bench speed takes options only, not '%.60s'.",
                  c.args[1]);
        goto done;
    }
    char standard[64];
    snprintf(standard, sizeof standard, "0,%lld", (long long)c.prompt_tokens);
    if (!parse_frontiers(c.frontiers ? c.frontiers : standard, frontiers, &n, &err)) goto done;
    int64_t deepest = 0;
    for (int i = 0; i < n; i++)
        if (frontiers[i] > deepest) deepest = frontiers[i];
    if (!c.ctx) c.ctx = deepest + c.generate_tokens + 2;
    c.parallel = 1;
    if (!session_open(&s, &c, false, &err)) goto done;
    const model_info *m = engine_get_model(s.e);
    if (!c.json)
        printf(
            "%s, %s %s, %s of weights, %d threads, %s kernels, median of %lld\n%8s  %14s  %13s  %6s\n",
            s.model.id, m->arch, dtype_get(m->main_type)->name, term_bytes(m->weight_bytes).text,
            engine_get_config(s.e)->n_threads, kern_get()->name, (long long)c.repeat, "context",
            "prefill tok/s", "decode tok/s", "CPU %");
    for (int i = 0; i < n; i++) {
        if (!measure(s.e, &c, frontiers[i], &points[i], &err)) goto done;
        if (!c.json) {
            printf("%8lld  ", (long long)points[i].depth);
            if (points[i].depth > 0)
                printf("%14.1f", points[i].prefill_tps);
            else
                printf("%14s", "-");
            printf("  %13.2f  %6.0f\n", points[i].decode_tps, points[i].cpu * 100);
            fflush(stdout);
        }
    }
    if (c.json)
        print_json(&s, points, n, &err);
    else {
        os_memory mem = os_get_memory();
        printf("resident %s, peak %s\n", term_bytes(mem.rss).text, term_bytes(mem.rss_peak).text);
    }
done:
    status = error_is_set(&err) ? cli_fail(&err) : 0;
    session_close(&s);
    config_deinit(&c);
    return status;
}

static const struct {
    const char *name;
    cli_command *run;
    const char *help;
} benches[] = {
    {"speed", bench_speed, "prefill and decode tokens per second at growing context"},
    {"window", cmd_bench_window, "do speed and memory stay flat past the window?"},
    {"load", cmd_bench_load, "the ways to get a model into memory, cold and warm"},
    {"notes", cmd_bench_notes,
     "what bench window finds, appended to docs/BENCHMARKS.md or --notes FILE"},
};
enum { N_BENCHES = sizeof benches / sizeof benches[0] };

int cmd_bench(int argc, char **argv) {
    const char *name = argc > 2 ? argv[2] : "";
    for (int i = 0; i < N_BENCHES; i++)
        if (strcmp(name, benches[i].name) == 0) return benches[i].run(argc, argv);
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0) {
        puts("usage: oriel bench NAME [options]\n");
        for (int i = 0; i < N_BENCHES; i++)
            printf("  %-10s %s\n", benches[i].name, benches[i].help);
        puts("\noriel bench NAME --help lists a benchmark's options.");
        return 0;
    }
    error err = {0};
    buf names = {0};
    for (int i = 0; i < N_BENCHES; i++)
        buf_printf(&names, "%s%s",
                   i == 0              ? ""
                   : i + 1 < N_BENCHES ? ", "
                                       : " and ",
                   benches[i].name);
    error_set(&err, ERR_USAGE, NULL,
              "oriel bench knows these benchmarks: %s; as in: oriel bench speed.",
              names.ptr ? names.ptr : "");
    buf_deinit(&names);
    return cli_fail(&err);
}
