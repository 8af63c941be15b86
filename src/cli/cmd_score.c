/* oriel score: how likely a model finds a text. */
#include <math.h>
#include <stdlib.h>

#include "base/json.h"
#include "cli/cli.h"

typedef struct sink {
    double *nll; /* per token from the second on */
    size_t n, cap;
    double sum;
    bool failed;
} sink;

static bool show(void *ctx, const turn_event *e) {
    sink *s = ctx;
    if (e->kind != TURN_PROMPT_TOKEN) return true;
    if (s->n == s->cap) {
        size_t cap = s->cap ? s->cap * 2 : 1024;
        double *grown = realloc(s->nll, cap * sizeof *grown);
        if (!grown) return !(s->failed = true);
        s->nll = grown;
        s->cap = cap;
    }
    s->nll[s->n++] = -(double)e->token->logprob;
    s->sum += -(double)e->token->logprob;
    return true;
}

int cmd_score(int argc, char **argv) {
    config c;
    int status;
    if (!cli_begin(
            &c, CONFIG_SCORE, argc, argv,
            "usage: oriel score [options] [--file FILE]\n\nNegative log-likelihood of every token of a text, and its perplexity.",
            &status))
        return status;
    error err = {0};
    session s = {0};
    buf text = {0};
    sink out = {0};
    turn *t = NULL;
    turn_event end = {0};
    if (!cli_read_file(c.file ? c.file : c.n_args ? c.args[0] : "-", &text, &err)) goto done;
    if (!c.ctx) {
        /* A text longer than the trained context streams through a window of that length. A token
         * has at least one byte, plus a begin-of-text. */
        hub_model m = {0};
        model_info *info = calloc(1, sizeof *info);
        model_options mo = {0};
        if (info && hub_open(c.model, config_find_data_dir(&c), &m, &err) &&
            model_inspect(m.f, &mo, info, &err)) {
            if ((int64_t)text.len + 8 > info->n_ctx_train) {
                c.ctx = (int64_t)text.len + 8;
                if (!c.max_kv_size) c.max_kv_size = info->n_ctx_train;
            }
        }
        free(info);
        hub_close(&m);
        if (error_is_set(&err)) goto done;
    }
    if (!session_open(&s, &c, true, &err)) goto done;
    turn_request r = {.text = buf_str(&text),
                      .has_text = true,
                      .max_tokens = 0,
                      .score_prompt = 0,
                      .sampling = sample_defaults()};
    if (!(t = turn_start(s.chat, &r, &err)) || !cli_run_turn(t, show, &out, &end, &err)) goto done;
    if (out.failed) {
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the scores.");
        goto done;
    }
    if (end.finish == TURN_CANCELLED) {
        error_set(&err, ERR_CANCELLED, NULL, "Interrupted.");
        goto done;
    }
    if (!out.n) {
        error_set(&err, ERR_USAGE, "file",
                  "The text has fewer than two tokens: there is nothing to predict.");
        goto done;
    }
    double mean = out.sum / (double)out.n,
           seconds = (double)(end.usage.prefill_ns + end.usage.decode_ns) / 1e9;
    if (c.json) {
        buf b = {0};
        json_out j = json_begin(&b);
        json_obj(&j);
        json_kv_cstr(&j, "model", s.model.id);
        json_kv_int(&j, "n_tokens", end.usage.n_prompt);
        json_kv_int(&j, "n_scored", (int64_t)out.n);
        json_key(&j, "nll");
        json_arr(&j);
        for (size_t i = 0; i < out.n; i++) json_put_float(&j, (float)out.nll[i]);
        json_end_arr(&j);
        json_kv_num(&j, "mean_nll", mean);
        json_kv_num(&j, "perplexity", exp(mean));
        json_kv_num(&j, "seconds", seconds);
        json_end_obj(&j);
        cli_write(&b, &err);
    } else
        printf(
            "%lld tokens, mean negative log-likelihood %.4f nats, perplexity %.3f (%.1f tokens/s)\n",
            (long long)end.usage.n_prompt, mean, exp(mean),
            seconds > 0 ? (double)end.usage.n_prompt / seconds : 0.0);
done:
    status = error_is_set(&err) ? cli_fail(&err) : 0;
    turn_free(t);
    session_close(&s);
    free(out.nll);
    buf_deinit(&text);
    config_deinit(&c);
    return status;
}
