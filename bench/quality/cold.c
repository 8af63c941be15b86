/* Scores single tokens of a long text the expensive way: for each target a new sequence of the pinned
 * tokens and the last ones before it, nothing else. `run` compares that with one pass through the window.
 *
 *     cold MODEL THREADS KV_TYPE < requests     one JSON object a line:
 *     {"ids":[…],"pinned":32,"width":256,"from":288,"to":4500}     →  {"nll":[…]}
 *
 * Target t is predicted from ids[0, pinned) and ids[t − width, t).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "engine/engine.h"

enum { AT_ONCE = 8, MAX_ROWS = 1024 };

static int64_t get_int(const json_t *q, const char *key) {
    return json_integer_value(json_object_get(q, key));
}

/* One target's sequence, on its way. */
static engine_job *submit(engine *e, const int32_t *ids, int64_t pinned, int64_t width, int64_t t,
                          error *err) {
    static int32_t prompt[MAX_ROWS + 1];
    int64_t from = t - width > pinned ? t - width : pinned,
            n = t + 1 - from; /* the target is last */
    if (pinned + n > MAX_ROWS || from > t) {
        error_set(err, ERR_USAGE, NULL, "That window is too wide.");
        return NULL;
    }
    memcpy(prompt, ids, (size_t)pinned * sizeof *ids);
    memcpy(prompt + pinned, ids + from, (size_t)n * sizeof *ids);
    engine_request r = {.prompt = prompt,
                        .n_prompt = (size_t)(pinned + n),
                        .max_tokens = 0,
                        .score_prompt = 0,
                        .sampling = sample_defaults()};
    return engine_submit(e, &r, err);
}

static bool read_last(engine_job *j, double *nll, error *err) {
    engine_event ev;
    while (engine_wait(j, &ev, -1) && ev.kind != ENGINE_END)
        if (ev.kind == ENGINE_PROMPT) *nll = -(double)ev.token.logprob;
    engine_job_free(j);
    if (ev.finish == ENGINE_FAILED) *err = ev.err;
    return ev.finish == ENGINE_LENGTH;
}

static bool answer(engine *e, str line, error *err) {
    json_t *q = json_parse(line, err), *list = json_object_get(q, "ids");
    if (!q) return false;
    int64_t n = (int64_t)json_array_size(list), from = get_int(q, "from"), to = get_int(q, "to");
    int64_t pinned = get_int(q, "pinned"), width = get_int(q, "width");
    int32_t *ids = calloc((size_t)n + 1, sizeof *ids);
    double *nll = calloc((size_t)n + 1, sizeof *nll);
    bool ok = ids && nll && from > pinned && to <= n;
    if (!ok) error_set(err, ERR_USAGE, NULL, "That is no request.");
    for (int64_t i = 0; ok && i < n; i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    engine_job *jobs[AT_ONCE] = {0};
    for (int64_t t = from; ok && t < to + AT_ONCE; t++) {
        engine_job **j = &jobs[t % AT_ONCE];
        if (*j) ok = read_last(*j, &nll[t - AT_ONCE], err);
        *j = NULL;
        if (ok && t < to) ok = (*j = submit(e, ids, pinned, width, t, err)) != NULL;
    }
    for (int i = 0; i < AT_ONCE; i++) engine_job_free(jobs[i]);
    if (ok) {
        buf b = {0};
        json_out j = json_begin(&b);
        json_obj(&j);
        json_key(&j, "nll");
        json_arr(&j);
        for (int64_t t = from; t < to; t++) json_put_float(&j, (float)nll[t]);
        json_end_arr(&j);
        json_end_obj(&j);
        buf_append_char(&b, '\n');
        ok = !b.failed && fwrite(b.ptr, 1, b.len, stdout) == b.len && fflush(stdout) == 0;
        buf_deinit(&b);
    }
    free(ids);
    free(nll);
    json_decref(q);
    return ok;
}

int main(int argc, char **argv) {
    static const char *const types[] = {[KERN_KV_F32] = "f32",
                                        [KERN_KV_F16] = "f16",
                                        [KERN_KV_BF16] = "bf16",
                                        [KERN_KV_Q8_0] = "q8_0"};
    error err = {0};
    engine_config c = engine_defaults();
    if (argc < 4) {
        fprintf(stderr, "usage: cold MODEL THREADS KV_TYPE < requests\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i] && !strcmp(argv[3], types[i])) c.kv_type = (kern_kv_type)i;
    c.n_threads = atoi(argv[2]);
    c.n_parallel = AT_ONCE;
    c.n_events = 1024; /* a whole prompt's scores: nobody waits for a reader */
    c.max_context_tokens = c.max_kv_size = MAX_ROWS;
    file *f = file_open(argv[1], &err);
    engine *e = f ? engine_open(f, &c, &err) : NULL;
    char *line = NULL;
    size_t cap = 0;
    bool ok = e != NULL;
    for (ssize_t n; ok && (n = getline(&line, &cap, stdin)) > 0;)
        ok = answer(e, str_make(line, (size_t)n), &err);
    if (!ok) fprintf(stderr, "cold: %s\n", err.message);
    free(line);
    engine_close(e);
    file_close(f);
    return ok ? 0 : 1;
}
