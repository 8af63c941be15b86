/* oriel's half of the comparison: loads one model into the engine, then answers the requests of
 * `run` on standard input, one JSON object a line. peer_llama.mjs speaks the same protocol:
 *
 *   {"op":"prefill","ids":[…]}             {"seconds":…}            until the first token is here
 *   {"op":"decode","ids":[…],"next":[…]}   {"seconds":…,"ids":[…]}  as many tokens as `next` has,
 *                                          after the prompt `ids`; greedy, so `next` is not used
 *   {"op":"top","ids":[…],"n":8}           {"top":[[id, logit],…]}  after the prompt; logits up to
 *                                          a constant
 *   {"op":"long"|"turn","ids":[…],"n":99}  {"times":[…],"computed":…,"shifted":0}  greedy; milliseconds
 *                                          until each token was there, rows that were run
 *
 *     peer_oriel MODEL THREADS CONTEXT BATCH [mmap]
 *
 * Everything is timed from the reader's side: the engine thread, its scheduler, the sampler and the
 * event ring are inside.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "engine/engine.h"

static void say(buf *b) {
    buf_append_char(b, '\n');
    if (!b->failed) fwrite(b->ptr, 1, b->len, stdout);
    fflush(stdout);
    buf_clear(b);
}

static int fail(const error *err) {
    fprintf(stderr, "peer_oriel: %s\n", err->message);
    return 1;
}

/* Runs one job to its end. seconds[0]: submit → first token; seconds[1]: first → last token. */
static bool run(engine *e, const engine_request *r, double seconds[2], sample_result *first,
                int32_t *ids, error *err) {
    int64_t start = clock_ns(), at = 0, n = 0;
    engine_job *j = engine_submit(e, r, err);
    if (!j) return false;
    engine_event ev;
    for (;;) {
        if (!engine_wait(j, &ev, -1)) continue;
        if (ev.kind == ENGINE_END) break;
        if (ev.kind != ENGINE_TOKEN) continue;
        if (!n++) {
            at = clock_ns();
            *first = ev.token;
        } else if (ids)
            *ids++ = ev.token.id;
    }
    seconds[0] = (double)(at - start) / 1e9;
    seconds[1] = (double)(clock_ns() - at) / 1e9;
    engine_job_free(j);
    if (ev.finish == ENGINE_FAILED) {
        *err = ev.err;
        return false;
    }
    return n == r->max_tokens ||
           error_set(err, ERR_INTERNAL, NULL, "The engine ended after %lld tokens instead of %lld.",
                     (long long)n, (long long)r->max_tokens);
}

/* What peer_llama_window.mjs answers: every token's time, and how many rows it took. */
static bool trace(engine *e, const int32_t *prompt, size_t n_prompt, int64_t n, buf *out,
                  error *err) {
    engine_request r = {.prompt = prompt,
                        .n_prompt = n_prompt,
                        .max_tokens = n,
                        .ignore_end = true,
                        .score_prompt = -1,
                        .sampling = sample_defaults()};
    r.sampling.temperature = 0;
    r.sampling.n_top = -1;
    uint64_t before = engine_get_stats(e).n_prompt_tokens;
    int64_t start = clock_ns();
    engine_job *j = engine_submit(e, &r, err);
    if (!j) return false;
    json_out o = json_begin(out);
    json_obj(&o);
    json_key(&o, "times");
    json_arr(&o);
    engine_event ev;
    while (engine_wait(j, &ev, -1) && ev.kind != ENGINE_END)
        if (ev.kind == ENGINE_TOKEN) json_put_num(&o, (double)(ev.cost.end_ns - start) / 1e6);
    json_end_arr(&o);
    engine_job_free(j);
    json_kv_int(&o, "computed",
                (int64_t)(engine_get_stats(e).n_prompt_tokens - before) + ev.usage.n_generated - 1);
    json_kv_int(&o, "shifted", 0);
    json_end_obj(&o);
    say(out);
    if (ev.finish == ENGINE_FAILED) *err = ev.err;
    return ev.finish == ENGINE_LENGTH;
}

/* One request line. The ids are the driver's own: no more checks than it takes not to crash. */
static bool answer(engine *e, str line, buf *out, error *err) {
    json_t *q = json_parse(line, err), *ids = json_object_get(q, "ids");
    if (!q) return false;
    const char *op = json_string_value(json_object_get(q, "op"));
    size_t n_ids = json_array_size(ids), n_next = json_array_size(json_object_get(q, "next"));
    int32_t *prompt = calloc(n_ids + 1, sizeof *prompt), *next = calloc(n_next + 1, sizeof *next);
    bool ok = prompt && next && op;
    if (!ok) error_set(err, ERR_USAGE, NULL, "That is no request.");
    for (size_t i = 0; ok && i < n_ids; i++)
        prompt[i] = (int32_t)json_integer_value(json_array_get(ids, i));
    engine_request r = {.prompt = prompt,
                        .n_prompt = n_ids,
                        .max_tokens = 1 + (int64_t)n_next,
                        .ignore_end = true,
                        .score_prompt = -1,
                        .sampling = sample_defaults()};
    r.sampling.temperature = 0;
    r.sampling.n_top =
        ok && !strcmp(op, "top") ? (int32_t)json_integer_value(json_object_get(q, "n")) : -1;
    double seconds[2];
    sample_result first = {0};
    bool traces = ok && (!strcmp(op, "long") || !strcmp(op, "turn"));
    if (traces)
        ok = trace(e, prompt, n_ids, json_integer_value(json_object_get(q, "n")), out, err);
    else
        ok = ok && run(e, &r, seconds, &first, next, err);
    if (ok && !traces) {
        json_out j = json_begin(out);
        json_obj(&j);
        if (!strcmp(op, "top")) {
            json_key(&j, "top");
            json_arr(&j);
            for (int i = 0; i < first.n_top; i++) {
                json_arr(&j);
                json_put_int(&j, first.top[i].id);
                json_put_float(&j, first.top[i].logprob);
                json_end_arr(&j);
            }
            json_end_arr(&j);
        } else {
            json_kv_num(&j, "seconds", seconds[!strcmp(op, "decode")]);
            json_key(&j, "ids");
            json_arr(&j);
            json_put_int(&j, first.id);
            for (size_t i = 0; i < n_next; i++) json_put_int(&j, next[i]);
            json_end_arr(&j);
        }
        json_end_obj(&j);
        say(out);
    }
    free(prompt);
    free(next);
    json_decref(q);
    return ok;
}

int main(int argc, char **argv) {
    error err = {0};
    if (argc < 5) {
        fprintf(stderr, "usage: peer_oriel MODEL THREADS CONTEXT BATCH [mmap]\n");
        return 2;
    }
    engine_config c = engine_defaults();
    c.n_threads = atoi(argv[2]);
    c.n_parallel = 1;
    c.max_context_tokens = c.max_kv_size = atoi(argv[3]);
    c.max_chunk = atoi(argv[4]);
    c.no_repack = argc > 5 && !strcmp(argv[5], "mmap");
    file *f = file_open(argv[1], &err);
    engine *e = f ? engine_open(f, &c, &err) : NULL;
    int status = 0;
    buf out = {0};
    char *line = NULL;
    size_t cap = 0;
    if (e) {
        const model_info *m = engine_get_model(e);
        json_out j = json_begin(&out);
        json_obj(&j);
        json_kv_bool(&j, "ready", true);
        json_kv_cstr(&j, "release", ORIEL_VERSION);
        json_kv_cstr(&j, "kernels", kern_get()->name);
        json_kv_int(&j, "n_vocab", m->n_vocab);
        json_kv_cstr(&j, "load", c.no_repack ? "mmap" : "read, repacked");
        json_end_obj(&j);
        say(&out);
        for (ssize_t n; !status && (n = getline(&line, &cap, stdin)) > 0;)
            if (!answer(e, str_make(line, (size_t)n), &out, &err)) status = fail(&err);
    } else
        status = fail(&err);
    free(line);
    buf_deinit(&out);
    if (e) engine_close(e);
    file_close(f);
    return status;
}
