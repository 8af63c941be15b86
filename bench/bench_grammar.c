/* What a grammar costs: compiling schemas, and the mask of allowed tokens at every step of writing their
 * valid instances with the o200k vocabulary (201,089 ids). Cold: the first time a state is met by its
 * matcher; all: as a server meets them. Corpus from ORIEL_CORPUS; says so and stops without it.
 *
 * Published figures of others, on other machines and other mixes of schemas, for orientation only:
 *   llguidance (its README, github.com/guidance-ai/llguidance): about 50 µs of one core per mask at a
 *     vocabulary of 128k, no start-up cost to speak of
 *   MaskBench (github.com/guidance-ai/jsonschemabench, maskbench): llguidance and llama.cpp compile at once,
 *     XGrammar takes three to four orders of magnitude longer, Outlines ran into its limit of 15
 *     minutes with more than 1,000 of about 10,000 schemas
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/hash.h"
#include "sample/sample.h"

enum { MAX_SAMPLES = 400000, DRAW_EVERY = 8 };
static double all_us[MAX_SAMPLES], compile_ms[4000];
static double hurry_us[MAX_SAMPLES];
static size_t n_hurries;
static double free_us[2][MAX_SAMPLES], bound_us[2][MAX_SAMPLES], more_us[2][MAX_SAMPLES];
static size_t n_all, n_compiles, n_draws;

/* Of this thread: other load does not count. */
static int64_t cpu_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static int compare(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, double *v, size_t n, const char *unit) {
    double sum = 0;
    if (!n) return;
    for (size_t i = 0; i < n; i++) sum += v[i];
    qsort(v, n, sizeof *v, compare);
    printf("%-34s n %7zu  mean %8.2f  median %8.2f  p99 %9.2f  max %9.2f %s\n", name, n,
           sum / (double)n, v[n / 2], v[n * 99 / 100], v[n - 1], unit);
}

/* What a token costs from its logits on, free and bound, at temperature 0 and 1: the same draws in turn, of
 * logits that make the instance's next token all but certain. Bound: mask, draw, walking on, and looking
 * for what is forced. */
typedef struct draws {
    sampler *free[2], *bound[2];
    float *base, *row;
    int32_t n_vocab;
} draws;

static void draws_init(draws *d, int32_t n_vocab) {
    *d = (draws){.base = malloc((size_t)n_vocab * sizeof *d->base),
                 .row = malloc((size_t)n_vocab * sizeof *d->row),
                 .n_vocab = n_vocab};
    for (int k = 0; k < 2; k++) {
        sample_params p = sample_defaults();
        p.temperature = k;
        d->free[k] = sampler_new(&p, n_vocab, NULL);
        d->bound[k] = sampler_new(&p, n_vocab, NULL);
    }
    for (int32_t i = 0; i < n_vocab; i++) d->base[i] = (float)rng_uniform_at(3, (uint64_t)i) * 8;
}

static double time_draw(draws *d, sampler *s, matcher *m, uint64_t step, int32_t *id) {
    sample_result out;
    int32_t forced[64];
    memcpy(d->row, d->base, (size_t)d->n_vocab * sizeof *d->row);
    int64_t begin = cpu_ns();
    sampler_next(s, d->row, step, &out);
    if (m) matcher_forced(m, forced, 64);
    double us = (double)(cpu_ns() - begin) / 1e3;
    *id = out.id;
    return us;
}

static void draw_instance(draws *d, const grammar *g, const grammar_vocab *v, const tok_ids *ids) {
    matcher *m[2] = {matcher_new(g, v, (matcher_options){0}, NULL),
                     matcher_new(g, v, (matcher_options){0}, NULL)};
    for (size_t i = 0; m[0] && m[1] && i < ids->n && n_draws < MAX_SAMPLES; i++) {
        int32_t want = ids->ids[i], id[2], other;
        float was = d->base[want];
        d->base[want] = 40;
        for (int k = 0; k < 2; k++) {
            sampler_constrain(d->bound[k], m[k]);
            bool first = (i + (size_t)k) % 2; /* whoever is second finds its caches warm */
            if (first) bound_us[k][n_draws] = time_draw(d, d->bound[k], m[k], i, &id[k]);
            free_us[k][n_draws] = time_draw(d, d->free[k], NULL, i, &other);
            if (!first) bound_us[k][n_draws] = time_draw(d, d->bound[k], m[k], i, &id[k]);
            more_us[k][n_draws] = bound_us[k][n_draws] - free_us[k][n_draws];
        }
        n_draws++;
        d->base[want] = was;
        if (id[0] != want || id[1] != want) break;
    }
    matcher_free(m[0]);
    matcher_free(m[1]);
}

/* Any allowed token, found from a random place on. */
static int32_t pick(const uint64_t *mask, size_t words, uint64_t at) {
    for (size_t i = 0; i <= words; i++) {
        size_t w = (at / 64 + i) % words;
        uint64_t bits = i ? mask[w] : mask[w] & ~0ull << (at & 63);
        if (bits) return (int32_t)(w * 64 + (size_t)__builtin_ctzll(bits));
    }
    return -1;
}

/* Masks when the tokens run out: an instance is begun that would be too long for them, and where its next
 * token may not come any other does. */
static void hurry_instance(const tok *t, const grammar *g, const grammar_vocab *v,
                           const tok_ids *ids) {
    static uint64_t n_draws_here;
    matcher *m = matcher_new(g, v, (matcher_options){0}, NULL);
    if (!m) return;
    int64_t room = (int64_t)matcher_left(m) + 24;
    bool in_step = true;
    for (int64_t i = 0; i < room && n_hurries < MAX_SAMPLES && !matcher_is_done(m); i++) {
        matcher_hurry(m, room - i, -1);
        int64_t begin = cpu_ns();
        const uint64_t *mask = matcher_mask(m);
        hurry_us[n_hurries++] = (double)(cpu_ns() - begin) / 1e3;
        int32_t id = in_step && (size_t)i < ids->n ? ids->ids[i] : -1;
        if (id < 0 || !matcher_allows(m, id)) {
            in_step = false;
            id = pick(mask, ((size_t)grammar_vocab_n(v) + 63) / 64,
                      rng_at(7, n_draws_here++) % (uint64_t)grammar_vocab_n(v));
        }
        if (id < 0 || tok_is_end(t, id) || !matcher_accept(m, id)) break;
    }
    matcher_free(m);
}

static void write_instance(draws *d, tok *t, const grammar *g, const grammar_vocab *v,
                           json_t *value) {
    static int n_instances;
    buf text = {0};
    json_out j = json_begin(&text);
    json_put_value(&j, value);
    tok_ids ids = {0};
    tok_encode(t, buf_str(&text), (tok_encode_opts){0}, &ids, NULL);
    matcher *m = matcher_new(g, v, (matcher_options){0}, NULL);
    for (size_t i = 0; m && i < ids.n && n_all < MAX_SAMPLES; i++) {
        int64_t begin = cpu_ns();
        matcher_mask(m);
        all_us[n_all++] = (double)(cpu_ns() - begin) / 1e3;
        if (!matcher_accept(m, ids.ids[i])) break;
    }
    matcher_free(m);
    if (n_instances % DRAW_EVERY == 0) draw_instance(d, g, v, &ids);
    if (n_instances++ % DRAW_EVERY == 1) hurry_instance(t, g, v, &ids);
    tok_ids_deinit(&ids);
    buf_deinit(&text);
}

static void time_compile(json_t *schema, grammar **out) {
    int64_t begin = cpu_ns();
    *out = grammar_from_schema(schema, NULL, NULL);
    if (n_compiles < sizeof compile_ms / sizeof *compile_ms)
        compile_ms[n_compiles++] = (double)(cpu_ns() - begin) / 1e6;
}

static json_t *hundred_properties(void) {
    json_t *properties = json_object(), *required = json_array();
    static const char *const TYPES[] = {"string", "integer", "boolean", "number"};
    for (int i = 0; i < 100; i++) {
        char name[40];
        snprintf(name, sizeof name, "property_number_%d", i);
        json_object_set_new(properties, name, json_pack("{s:s}", "type", TYPES[i % 4]));
        json_array_append_new(required, json_string(name));
    }
    return json_pack("{s:s,s:o,s:o,s:b}", "type", "object", "properties", properties, "required",
                     required, "additionalProperties", 0);
}

int main(void) {
    const char *corpus = getenv("ORIEL_CORPUS");
    grammar *g;
    json_t *wide = hundred_properties();
    double best = 1e9;
    for (int i = 0; i < 20; i++) {
        n_compiles = 0;
        time_compile(wide, &g);
        if (compile_ms[0] < best) best = compile_ms[0];
        grammar_unref(g);
    }
    json_decref(wide);
    n_compiles = 0;
    printf("compile, 100 properties            best of 20: %.2f ms\n", best);
    if (!corpus || !*corpus) {
        printf("ORIEL_CORPUS is not set: no vocabulary, no masks\n");
        return 0;
    }
    char path[1600];
    snprintf(path, sizeof path, "%s/tokenizers/o200k/o200k_base.tiktoken", corpus);
    FILE *f = fopen(path, "rb");
    buf ranks = {0};
    if (!f || !buf_read_fd(&ranks, fileno(f))) return 1;
    fclose(f);
    error err = {0};
    tok *t = tok_load_harmony(buf_str(&ranks), &err);
    if (!t) return 1;
    int64_t begin = cpu_ns();
    grammar_vocab *v = grammar_vocab_new(t, &err);
    printf("vocabulary of %d ids prepared in %.0f ms\n", tok_n_vocab(t),
           (double)(cpu_ns() - begin) / 1e6);
    draws dr;
    draws_init(&dr, tok_n_vocab(t));
    snprintf(path, sizeof path, "%s/schemas/maskbench", corpus);
    struct dirent **names = NULL;
    int n = scandir(path, &names, NULL, alphasort), n_schemas = 0;
    for (int i = 0; i < n; i++) {
        char one[2000];
        snprintf(one, sizeof one, "%s/%s", path, names[i]->d_name);
        json_t *d = json_load_file(one, 0, NULL), *tests = json_object_get(d, "tests");
        free(names[i]);
        if (!d) continue;
        time_compile(json_object_get(d, "schema"), &g);
        n_schemas += g != NULL;
        for (size_t k = 0; g && k < json_array_size(tests); k++) {
            json_t *test = json_array_get(tests, k);
            if (json_is_true(json_object_get(test, "valid")))
                write_instance(&dr, t, g, v, json_object_get(test, "data"));
        }
        grammar_unref(g);
        json_decref(d);
    }
    free(names);
    printf("%d schemas\n", n_schemas);
    report("compile, MaskBench sample", compile_ms, n_compiles, "ms");
    report("mask, valid instances", all_us, n_all, "µs");
    report("mask, when the tokens run out", hurry_us, n_hurries, "µs");
    for (int k = 0; k < 2; k++) {
        printf("temperature %d\n", k);
        report("  a free draw", free_us[k], n_draws, "µs");
        report("  a bound draw, with its mask", bound_us[k], n_draws, "µs");
        report("  what it costs more", more_us[k], n_draws, "µs");
    }
    grammar_vocab_unref(v);
    tok_unref(t);
    buf_deinit(&ranks);
    return 0;
}
