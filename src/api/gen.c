/* What chat completions and completions share: parameters, and the set of
 * turns that answers one request. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/fair.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/os.h"

const char *const gen_truncations[] = {"disabled", "auto", NULL};
const char *const gen_service_tiers[] = {"auto",     "default", "flex", "scale",
                                         "priority", "fast",    NULL};

enum { MAX_STOPS = 4, MAX_METADATA = 16, MAX_METADATA_KEY = 64, MAX_METADATA_VALUE = 512 };

bool gen_decode_stop(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    gen_params *p = out;
    p->stops = arena_array(c->mem, MAX_STOPS, sizeof *p->stops);
    if (!p->stops)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (json_is_string(v)) {
        p->stops[p->n_stops++] = json_str(v);
    } else {
        if (!json_is_array(v))
            return error_set(
                err, ERR_INVALID_TYPE, path,
                "Invalid type for 'stop': expected a string or an array of strings, but got %s instead.",
                field_type_name(v));
        if (!field_array(v, path, MAX_STOPS, err)) return false;
        for (size_t i = 0; i < json_array_size(v); i++) {
            field_path at;
            if (!field_str(json_array_get(v, i), path_index(&at, path, i), &p->stops[p->n_stops++],
                           err))
                return false;
        }
    }
    for (size_t i = 0; i < p->n_stops; i++) {
        if (p->stops[i].len == 0)
            return error_set(err, ERR_INVALID_VALUE, path,
                             "Invalid 'stop': a stop string must not be empty.");
        if (p->stops[i].len > TURN_MAX_STOP_BYTES)
            return error_set(err, ERR_STRING_ABOVE_MAX, path,
                             "Invalid 'stop': a stop string has at most %d bytes.",
                             TURN_MAX_STOP_BYTES);
    }
    return true;
}

bool gen_decode_logit_bias(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    gen_params *p = out;
    if (!field_object(v, path, err)) return false;
    size_t n = json_object_size(v);
    if (n > SAMPLE_MAX_BIAS)
        return error_set(err, ERR_ARRAY_ABOVE_MAX, path,
                         "Invalid 'logit_bias': at most %d tokens may be biased, got %zu.",
                         SAMPLE_MAX_BIAS, n);
    p->bias = arena_array(c->mem, n ? n : 1, sizeof *p->bias);
    if (!p->bias) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    const char *key;
    json_t *value;
    json_object_foreach(v, key, value) {
        char *end;
        long long id = strtoll(key, &end, 10);
        if (*key < '0' || *key > '9' || *end || id > INT32_MAX)
            return error_set(err, ERR_INVALID_VALUE, path,
                             "Invalid key in 'logit_bias': '%.40s'. Keys are token ids.", key);
        double bias;
        field_path at;
        if (!field_num(value, path_member(&at, path, key), -100, 100, &bias, err)) return false;
        p->bias[p->n_bias++] = (sample_bias){(int32_t)id, (float)bias};
    }
    return true;
}

bool gen_decode_stream_options(const field_ctx *c, json_t *v, const char *path, void *out,
                               error *err) {
    (void)c;
    gen_params *p = out;
    if (!field_object(v, path, err)) return false;
    p->has_stream_options = true;
    json_t *usage = field_get(v, "include_usage"), *obf = field_get(v, "include_obfuscation");
    json_t *live = field_get(v, "continuous_usage_stats");
    bool ignored;
    return (!usage || field_bool(usage, "stream_options.include_usage", &p->include_usage, err)) &&
           (!live ||
            field_bool(live, "stream_options.continuous_usage_stats", &p->live_usage, err)) &&
           (!obf || field_bool(obf, "stream_options.include_obfuscation", &ignored, err));
}

bool gen_decode_metadata(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c, (void)out;
    if (!field_object(v, path, err)) return false;
    if (json_object_size(v) > MAX_METADATA)
        return error_set(err, ERR_ARRAY_ABOVE_MAX, path,
                         "Invalid '%s': too many properties. Expected an object with at most %d "
                         "properties, but got an object with %zu properties instead.",
                         path, MAX_METADATA, json_object_size(v));
    const char *key;
    json_t *value;
    json_object_foreach(v, key, value) {
        field_path at;
        str s;
        if (!field_max_chars(str_from(key), path, MAX_METADATA_KEY, err) ||
            !field_str(value, path_member(&at, path, key), &s, err) ||
            !field_max_chars(s, at.text, MAX_METADATA_VALUE, err))
            return false;
    }
    return true;
}

bool gen_decode_unsupported(const field_ctx *c, json_t *v, const char *path, void *out,
                            error *err) {
    (void)c, (void)v, (void)out;
    return error_set(err, ERR_UNSUPPORTED_VALUE, path,
                     "'%s' is not supported: the models served here read and write text only.",
                     path);
}

bool gen_decode_not_implemented(const field_ctx *c, json_t *v, const char *path, void *out,
                                error *err) {
    (void)c, (void)v, (void)out;
    return error_set(err, ERR_NOT_IMPLEMENTED, path, "'%s' is not implemented yet.", path);
}

bool gen_decode_performance_mode(const field_ctx *c, json_t *v, const char *path, void *out,
                                 error *err) {
    (void)c;
    gen_params *p = out;
    bool on;
    if (!field_bool(v, path, &on, err)) return false;
    p->asked.performance_mode = on;
    return true;
}

bool gen_decode_seed(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    gen_params *p = out;
    return p->has_seed = field_int(v, path, INT64_MIN, INT64_MAX, &p->seed, err);
}

gen_params gen_defaults(const api *a) {
    sample_params s = a->o.sampling;
    return (gen_params){.sampling = s,
                        .n = 1,
                        .max_tokens = -1,
                        .max_completion_tokens = -1,
                        .top_k = s.top_k,
                        .min_tokens_to_keep = s.min_tokens_to_keep,
                        .repetition_window = s.repetition_window,
                        .default_max_tokens = -1,
                        .asked = {-1, -1, -1, -1, -1, -1, -1, -1}};
}

/* The first that was given. */
static int64_t first_of(int64_t a, int64_t b, int64_t otherwise) {
    return a >= 0 ? a : b >= 0 ? b : otherwise;
}

/* A request is stronger than the server's configuration, and within one of them a perf_ value is stronger
 * than its plain twin while the mode is on. */
static bool finish_limits(const api *a, gen_params *p, error *err) {
    const gen_context *q = &p->asked;
    bool on = q->performance_mode >= 0 ? q->performance_mode : a->o.performance_mode;
    const config_limits *mine = &a->o.limits[on];
    const engine_plan *plan = engine_get_plan(a->engine);
    int64_t least = engine_get_config(a->engine)->pinned + KV_BLOCK;
    int64_t plain = p->max_completion_tokens >= 0 ? p->max_completion_tokens : p->max_tokens;
    bool has_own = p->default_max_tokens >= 0 && mine->max_tokens == a->o.limits[0].max_tokens;
    p->max_tokens = first_of(on ? q->perf_max_tokens : -1, plain,
                             has_own ? p->default_max_tokens : mine->max_tokens);
    p->max_completion_tokens = -1;
    bool is_perf_window = on && q->perf_max_kv_size >= 0;
    bool is_perf_context = on && q->perf_max_context_tokens >= 0;
    const char *window = is_perf_window ? "perf_max_kv_size" : "max_kv_size";
    int64_t rows = is_perf_window ? q->perf_max_kv_size : p->max_kv_size ? p->max_kv_size : -1;
    if (rows > plan->kv_rows)
        return error_set(
            err, ERR_INT_ABOVE_MAX, window,
            "Invalid '%s': this server was started with a window of %lld tokens; a request may only lower it.",
            window, (long long)plan->kv_rows);
    char pinned[64] = "";
    if (least > KV_BLOCK)
        snprintf(pinned, sizeof pinned, " and %lld tokens are pinned here",
                 (long long)(least - KV_BLOCK));
    if (rows >= 0 && rows < least)
        return error_set(
            err, ERR_INT_BELOW_MIN, window,
            "Invalid '%s': a window of %lld is too small. The cache works in blocks of %d%s, so ask for at least %lld.",
            window, (long long)rows, KV_BLOCK, pinned, (long long)least);
    p->max_kv_size = rows >= 0 ? rows : mine->max_kv_size < plan->kv_rows ? mine->max_kv_size : 0;
    p->context = (context_rules){
        .max_tokens = is_perf_context
                          ? q->perf_max_context_tokens
                          : first_of(q->max_context_tokens, -1, mine->max_context_tokens),
        .is_perf = is_perf_context || (q->max_context_tokens < 0 && mine->is_perf_context),
        .margin = first_of(q->max_context_tokens_margin, -1, a->o.context_margin),
        .budget = on ? first_of(q->perf_prompt_token_budget, -1, mine->prompt_token_budget) : 0,
    };
    int truncation = q->truncation >= 0 ? q->truncation : a->o.truncation;
    bool is_limited = p->context.max_tokens || p->context.budget;
    p->context.mode = truncation == 1                ? CONTEXT_CUT
                      : truncation < 0 && is_limited ? CONTEXT_DROP
                                                     : CONTEXT_REFUSE;
    if (q->max_context_tokens_margin < 0 && (is_perf_context || q->max_context_tokens >= 0) &&
        p->context.max_tokens <= p->context.margin) {
        const char *name = is_perf_context ? "perf_max_context_tokens" : "max_context_tokens";
        return error_set(
            err, ERR_INT_BELOW_MIN, name,
            "Invalid '%s': this server keeps %lld tokens free below it, so ask for more than that, or for another "
            "max_context_tokens_margin.",
            name, (long long)p->context.margin);
    }
    return context_check(&p->context, engine_get_config(a->engine)->max_context_tokens, err);
}

bool gen_finish(const api *a, gen_params *p, error *err) {
    if (p->has_stream_options && !p->stream)
        return error_set(err, ERR_INVALID_VALUE, "stream_options",
                         "'stream_options' is only allowed when 'stream' is true.");
    if (!p->has_seed) {
        os_random(&p->seed, sizeof p->seed);
        p->seed &= INT64_MAX;
    }
    sample_params *s = &p->sampling;
    s->top_k = (int32_t)p->top_k;
    s->min_tokens_to_keep = (int32_t)p->min_tokens_to_keep;
    s->repetition_window = (int32_t)p->repetition_window;
    s->bias = p->bias;
    s->n_bias = (int32_t)p->n_bias;
    s->seed = (uint64_t)p->seed;
    return finish_limits(a, p, err) && sample_check(s, engine_get_model(a->engine)->n_vocab, err);
}

uint64_t gen_seed(const gen_params *p, size_t i) {
    return i ? hash_combine((uint64_t)p->seed, i) >> 1 : (uint64_t)p->seed;
}

/* ── choices ── */

void choices_free(choices *c) {
    if (!c) return;
    for (size_t i = 0; i < c->n; i++) {
        choice *k = &c->items[i];
        turn_free(k->t);
        buf_deinit(&k->content);
        buf_deinit(&k->reasoning);
        for (size_t n = 0; n < k->n_calls; n++) {
            buf_deinit(&k->calls[n].name);
            buf_deinit(&k->calls[n].arguments);
        }
        free(k->calls);
        choice_drop_tokens(k);
        free(k->tokens);
    }
    free(c->items);
    free(c);
}

choices *choices_new(api *a, uint64_t client, size_t n, bool keep_tokens,
                     void (*make)(void *ctx, size_t i, turn_request *out), void *ctx,
                     void (*wake)(void *), void *wake_ctx, error *err) {
    choices *c = calloc(1, sizeof *c);
    if (c) c->items = calloc(n, sizeof *c->items);
    if (!c || !c->items) {
        free(c);
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
        return NULL;
    }
    c->keep_tokens = keep_tokens;
    for (; c->n < n; c->n++) {
        turn_request q = {.client = client, .wake = wake, .wake_ctx = wake_ctx, .score_prompt = -1};
        make(ctx, c->n, &q);
        c->items[c->n].index = c->n;
        c->items[c->n].t = turn_start(a->chat, &q, err);
        if (!c->items[c->n].t) {
            choices_free(c);
            return NULL;
        }
    }
    return c;
}

enum { MAX_UNENFORCED = 1000 }; /* bytes of a header */

/* Of schemas that are not strict: what the answer may ignore. */
static void tell_unenforced(http_req *r, const turn *t) {
    str paths = turn_get_unenforced(t);
    char value[MAX_UNENFORCED + 1];
    if (!paths.len) return;
    snprintf(value, sizeof value, "%.*s", STR_ARG(paths));
    for (char *c = value; *c; c++)
        if (*c < ' ' || *c > '~') *c = '?';
    http_add_header(r, "x-oriel-unenforced", value);
    log_line(LOG_INFO, "api", "request %s: not enforced: %s", http_request_id(r), value);
}

/* What the prompt lost is said in the answer's head too, before any of its body. */
void choices_put_headers(const choices *c, http_req *r) {
    int64_t turns = 0, tokens = 0;
    for (size_t i = 0; i < c->n; i++) {
        const context_result *cut = turn_get_context(c->items[i].t);
        if (cut->n_turns_dropped > turns) turns = cut->n_turns_dropped;
        if (cut->n_tokens_dropped > tokens) tokens = cut->n_tokens_dropped;
    }
    if (c->n) tell_unenforced(r, c->items[0].t);
    if (!tokens) return;
    char number[24];
    snprintf(number, sizeof number, "%lld", (long long)turns);
    http_add_header(r, "x-oriel-dropped-turns", number);
    snprintf(number, sizeof number, "%lld", (long long)tokens);
    http_add_header(r, "x-oriel-dropped-tokens", number);
}

static void wake_request(void *r) {
    http_wake(r);
}
static void free_choices(void *c) {
    choices_free(c);
}

choices *choices_start(api *a, http_req *r, size_t n, bool keep_tokens,
                       void (*make)(void *ctx, size_t i, turn_request *out), void *ctx,
                       error *err) {
    choices *c =
        choices_new(a, fair_get_client(r), n, keep_tokens, make, ctx, wake_request, r, err);
    if (!c) return NULL;
    choices_put_headers(c, r);
    http_own(r, c, free_choices);
    return c;
}

static void keep_token(choice *c, const turn_event *e) {
    if (c->n_tokens == c->cap_tokens) {
        size_t cap = c->cap_tokens ? c->cap_tokens * 2 : 32;
        choice_token *grown = realloc(c->tokens, cap * sizeof *grown);
        if (!grown) {
            error_set(&c->err, ERR_NO_MEMORY, NULL,
                      "There is no memory for the log-probabilities.");
            return;
        }
        c->tokens = grown;
        c->cap_tokens = cap;
    }
    choice_token *k = &c->tokens[c->n_tokens++];
    *k = (choice_token){.piece = str_dup(e->piece), .piece_len = e->piece.len, .r = *e->token};
    if (!k->piece) k->piece_len = 0;
    if (e->kind == TURN_PROMPT_TOKEN) c->n_prompt_tokens_scored++;
}

void choice_drop_tokens(choice *c) {
    for (size_t i = 0; i < c->n_tokens; i++) free(c->tokens[i].piece);
    c->n_tokens = c->n_tokens_sent = 0;
}

static choice_call *begin_call(choice *c, const turn_event *e) {
    choice_call *grown = realloc(c->calls, (c->n_calls + 1) * sizeof *grown);
    if (!grown) {
        error_set(&c->err, ERR_NO_MEMORY, NULL, "There is no memory for the tool call.");
        return NULL;
    }
    c->calls = grown;
    choice_call *k = &c->calls[c->n_calls++];
    memset(k, 0, sizeof *k);
    snprintf(k->id.text, sizeof k->id.text, "%.*s", STR_ARG(e->call_id));
    buf_append_str(&k->name, e->text);
    return k;
}

bool choice_next(choices *set, size_t i, turn_event *e) {
    choice *c = &set->items[i];
    if (c->ended || !turn_poll(c->t, e)) return false;
    switch (e->kind) {
    case TURN_TOKEN:
        c->logprob_sum += (double)e->token->logprob;
        c->n_logprob++;
        /* fall through */
    case TURN_PROMPT_TOKEN:
        if (set->keep_tokens) keep_token(c, e);
        break;
    case TURN_REASONING: buf_append_str(&c->reasoning, e->text); break;
    case TURN_CONTENT: buf_append_str(&c->content, e->text); break;
    case TURN_CALL_BEGIN: begin_call(c, e); break;
    case TURN_CALL_ARGS:
        if (c->n_calls) buf_append_str(&c->calls[c->n_calls - 1].arguments, e->text);
        break;
    case TURN_CALL_END: break;
    case TURN_END:
        c->ended = true;
        c->finish = e->finish;
        c->usage = e->usage;
        if (e->finish == TURN_FAILED && e->err) c->err = *e->err;
        if (e->finish == TURN_CANCELLED)
            error_set(&c->err, ERR_OVERLOADED, NULL, "The server is shutting down.");
        break;
    }
    if (c->content.failed || c->reasoning.failed)
        error_set(&c->err, ERR_NO_MEMORY, NULL, "There is no memory for the answer.");
    return true;
}

bool choices_drain(choices *c) {
    bool all = true;
    turn_event e;
    for (size_t i = 0; i < c->n; i++) {
        while (choice_next(c, i, &e)) continue;
        all &= c->items[i].ended;
    }
    return all;
}

const error *choices_failure(const choices *c) {
    for (size_t i = 0; i < c->n; i++)
        if (error_is_set(&c->items[i].err)) return &c->items[i].err;
    return NULL;
}

/* How many of the predicted tokens came, in their order; a stretch that did not is passed over. */
static int64_t count_predicted(const choices *c, const choice *k) {
    enum { MAX_PASSED = 64 };
    size_t n, at = 0, n_came = 0;
    const int32_t *ids = turn_token_ids(k->t, &n);
    for (size_t i = 0; i < n && at < c->n_predicted; i++) {
        size_t next = at;
        while (next < c->n_predicted && next - at < MAX_PASSED && c->predicted[next] != ids[i])
            next++;
        if (next == c->n_predicted || next - at == MAX_PASSED) continue;
        n_came++;
        at = next + 1;
    }
    return (int64_t)n_came;
}

static void put_usage(json_out *j, int64_t prompt, int64_t cached, int64_t completion,
                      int64_t reasoning, int64_t dropped_turns, int64_t dropped_tokens,
                      int64_t accepted, int64_t rejected) {
    json_obj(j);
    json_kv_int(j, "prompt_tokens", prompt);
    json_kv_int(j, "completion_tokens", completion);
    json_kv_int(j, "total_tokens", prompt + completion);
    json_key(j, "prompt_tokens_details");
    json_obj(j);
    json_kv_int(j, "cached_tokens", cached);
    json_kv_int(j, "audio_tokens", 0);
    if (dropped_tokens) { /* extension, there only when something was left out of the prompt */
        json_kv_int(j, "dropped_turns", dropped_turns);
        json_kv_int(j, "dropped_tokens", dropped_tokens);
    }
    json_end_obj(j);
    json_key(j, "completion_tokens_details");
    json_obj(j);
    json_kv_int(j, "reasoning_tokens", reasoning);
    json_kv_int(j, "audio_tokens", 0);
    json_kv_int(j, "accepted_prediction_tokens", accepted);
    json_kv_int(j, "rejected_prediction_tokens", rejected);
    json_end_obj(j);
    json_end_obj(j);
}

void choices_put_usage(const choices *c, size_t per_prompt, json_out *j) {
    int64_t prompt = 0, cached = 0, completion = 0, reasoning = 0, turns = 0, tokens = 0,
            accepted = 0;
    for (size_t i = 0; i < c->n; i++) {
        const turn_usage *u = &c->items[i].usage;
        completion += u->n_completion;
        reasoning += u->n_reasoning;
        if (c->n_predicted) accepted += count_predicted(c, &c->items[i]);
        if (i % per_prompt == 0) {
            prompt += u->n_prompt;
            cached += u->n_cached;
            turns += turn_get_context(c->items[i].t)->n_turns_dropped;
            tokens += turn_get_context(c->items[i].t)->n_tokens_dropped;
        }
    }
    put_usage(j, prompt, cached, completion, reasoning, turns, tokens, accepted,
              (int64_t)(c->n_predicted * c->n) - accepted);
}

void choices_put_chunk_usage(json_out *j, const gen_params *p, const choice *c) {
    if (!p->include_usage) return;
    json_key(j, "usage");
    if (!p->live_usage) {
        json_put_null(j);
        return;
    }
    size_t n_prompt;
    turn_prompt_ids(c->t, &n_prompt);
    json_obj(j);
    json_kv_int(j, "prompt_tokens", (int64_t)n_prompt);
    json_kv_int(j, "completion_tokens", (int64_t)c->n_logprob);
    json_kv_int(j, "total_tokens", (int64_t)(n_prompt + c->n_logprob));
    json_end_obj(j);
}

/* How long the first choice took, in llama.cpp's words (with several the machine's time is shared), and
 * how much of its window it filled. */
static void put_timings(json_out *j, const choice *c) {
    const turn_usage *u = &c->usage;
    json_key(j, "window");
    json_obj(j);
    json_kv_int(j, "rows", u->kv_rows);
    json_kv_int(j, "pinned_rows", u->n_pinned);
    json_end_obj(j);
    json_key(j, "timings");
    json_obj(j);
    json_kv_int(j, "prompt_n", u->n_prompt - u->n_cached);
    json_kv_num(j, "prompt_ms", (double)u->prefill_ns / 1e6);
    json_kv_int(j, "predicted_n", u->n_completion);
    json_kv_num(j, "predicted_ms", (double)u->decode_ns / 1e6);
    if (u->n_completion > 1 && u->decode_ns > 0) /* the first token is prefill's */
        json_kv_num(j, "predicted_per_second",
                    (double)(u->n_completion - 1) * 1e9 / (double)u->decode_ns);
    json_end_obj(j);
}

http_pull_result choices_pull(choices *c, const choices_sink *sink, void *job, buf *out) {
    /* One event of each choice per round: none of them waits for a long-winded neighbour. */
    bool any = false, all_ended = true;
    turn_event e;
    for (size_t i = 0; i < c->n; i++) {
        if (choice_next(c, i, &e)) {
            any = true;
            sink->put_event(job, &c->items[i], &e, out);
        }
        all_ended &= c->items[i].ended;
    }
    const error *failed = choices_failure(c);
    if (failed) {
        sse_error(out, failed);
        sse_done(out);
        return HTTP_DONE;
    }
    if (!all_ended) return any ? HTTP_MORE : HTTP_WAIT;
    if (sink->may_end) {
        error err = {0};
        if (!sink->may_end(job, &err)) return any ? HTTP_MORE : HTTP_WAIT;
        if (error_is_set(&err)) {
            sse_error(out, &err);
            sse_done(out);
            return HTTP_DONE;
        }
    }
    if (sink->include_usage) {
        sse_begin(out);
        json_out j = json_begin(out);
        json_obj(&j);
        sink->put_head(job, &j);
        json_key(&j, "choices");
        json_arr(&j);
        json_end_arr(&j);
        json_key(&j, "usage");
        choices_put_usage(c, sink->per_prompt, &j);
        if (sink->timings) put_timings(&j, &c->items[0]);
        json_end_obj(&j);
        sse_end(out);
    }
    sse_done(out);
    return HTTP_DONE;
}
