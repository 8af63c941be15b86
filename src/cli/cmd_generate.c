/* oriel generate: one prompt, one answer. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "cli/cli.h"

typedef struct sink {
    const config *c;
    tok *t;
    buf text, reasoning;
    json_out calls; /* into `calls_json` while calls arrive */
    buf calls_json, arguments, logprobs_json;
    json_out logprobs;
    int n_calls;
    bool in_reasoning, said, broken_pipe;
} sink;

static void put_out(sink *s, str text) {
    fwrite(text.ptr, 1, text.len, stdout);
    fflush(stdout);
    s->broken_pipe |= ferror(stdout) != 0;
}

static void put_logprob(sink *s, const turn_event *e) {
    json_out *j = &s->logprobs;
    json_obj(j);
    json_kv_int(j, "id", e->token->id);
    json_kv_str(j, "token", e->piece);
    json_key(j, "logprob");
    json_put_float(j, e->token->logprob);
    json_key(j, "top");
    json_arr(j);
    for (int32_t i = 0; i < e->token->n_top; i++) {
        json_obj(j);
        json_kv_int(j, "id", e->token->top[i].id);
        json_kv_str(j, "token", tok_piece(s->t, e->token->top[i].id));
        json_key(j, "logprob");
        json_put_float(j, e->token->top[i].logprob);
        json_end_obj(j);
    }
    json_end_arr(j);
    json_end_obj(j);
}

static bool show(void *ctx, const turn_event *e) {
    sink *s = ctx;
    bool json = s->c->json;
    switch (e->kind) {
    case TURN_TOKEN:
        if (json && s->c->logprobs >= 0) put_logprob(s, e);
        break;
    case TURN_REASONING:
        if (json) buf_append_str(&s->reasoning, e->text);
        if (!json && s->c->show_reasoning) {
            if (!s->in_reasoning) term_dim(stdout, true);
            s->in_reasoning = true;
            put_out(s, e->text);
        }
        break;
    case TURN_CONTENT:
        s->said |= e->text.len > 0;
        if (json) buf_append_str(&s->text, e->text);
        if (!json) {
            if (s->in_reasoning) {
                term_dim(stdout, false);
                put_out(s, STR("\n\n"));
                s->in_reasoning = false;
            }
            put_out(s, e->text);
        }
        break;
    case TURN_CALL_BEGIN:
        s->n_calls++;
        buf_clear(&s->arguments);
        json_obj(&s->calls);
        json_kv_str(&s->calls, "id", e->call_id);
        json_kv_str(&s->calls, "name", e->text);
        break;
    case TURN_CALL_ARGS: buf_append_str(&s->arguments, e->text); break;
    case TURN_CALL_END:
        json_kv_str(&s->calls, "arguments", buf_str(&s->arguments));
        json_end_obj(&s->calls);
        break;
    default: break;
    }
    return !s->broken_pipe;
}

static const char *finish_name(turn_finish f) {
    switch (f) {
    case TURN_LENGTH: return "length";
    case TURN_TOOL_CALLS: return "tool_calls";
    case TURN_CANCELLED: return "cancelled";
    default: return "stop";
    }
}

static void put_ids(json_out *j, const char *key, const int32_t *ids, size_t n) {
    json_key(j, key);
    json_arr(j);
    for (size_t i = 0; i < n; i++) json_put_int(j, ids[i]);
    json_end_arr(j);
}

static void print_json(sink *s, const session *ses, turn *t, const turn_event *end, error *err) {
    buf out = {0};
    json_out j = json_begin(&out);
    size_t n;
    const int32_t *ids;
    json_obj(&j);
    json_kv_cstr(&j, "model", ses->model.id);
    ids = turn_prompt_ids(t, &n);
    put_ids(&j, "prompt_ids", ids, n);
    ids = turn_token_ids(t, &n);
    put_ids(&j, "token_ids", ids, n);
    json_kv_str(&j, "text", buf_str(&s->text));
    if (s->reasoning.len) json_kv_str(&j, "reasoning", buf_str(&s->reasoning));
    if (s->n_calls) {
        json_key(&j, "tool_calls");
        json_put_raw(&j, buf_str(&s->calls_json));
    }
    json_kv_cstr(&j, "finish_reason", finish_name(end->finish));
    json_key(&j, "logprobs");
    if (s->c->logprobs >= 0)
        json_put_raw(&j, buf_str(&s->logprobs_json));
    else
        json_put_null(&j);
    const turn_usage *u = &end->usage;
    json_key(&j, "usage");
    json_obj(&j);
    json_kv_int(&j, "prompt_tokens", u->n_prompt);
    json_kv_int(&j, "cached_tokens", u->n_cached);
    if (turn_get_context(t)->n_tokens_dropped)
        json_kv_int(&j, "dropped_tokens", turn_get_context(t)->n_tokens_dropped);
    json_kv_int(&j, "completion_tokens", u->n_completion);
    json_kv_int(&j, "reasoning_tokens", u->n_reasoning);
    json_end_obj(&j);
    double prefill = (double)u->prefill_ns / 1e9, decode = (double)u->decode_ns / 1e9;
    json_key(&j, "timings");
    json_obj(&j);
    json_kv_num(&j, "prefill_seconds", prefill);
    json_kv_num(&j, "decode_seconds", decode);
    json_key(&j, "prefill_tokens_per_second");
    json_put_float(&j, prefill > 0 ? (float)((double)u->n_prompt / prefill) : 0);
    json_key(&j, "decode_tokens_per_second");
    json_put_float(&j, decode > 0 ? (float)((double)(u->n_completion - 1) / decode) : 0);
    json_end_obj(&j);
    json_end_obj(&j);
    cli_write(&out, err);
}

/* "1,403, 7" */
static bool parse_ids(const char *text, tok_ids *out, error *err) {
    for (const char *p = text; *p;) {
        char *end;
        long v = strtol(p, &end, 10);
        if (end == p || v < 0 || v > INT32_MAX)
            return error_set(
                err, ERR_USAGE, "prompt-ids",
                "--prompt-ids takes numbers with commas between them, like 1,403; '%.40s' is not that.",
                p);
        tok_ids_push(out, (int32_t)v);
        p = end;
        while (*p == ',' || *p == ' ' || *p == '\n') p++;
    }
    return out->n || error_set(err, ERR_USAGE, "prompt-ids", "--prompt-ids is empty.");
}

static bool read_prompt(const config *c, buf *out, error *err) {
    int n =
        (c->prompt != NULL) + (c->prompt_file != NULL) + (c->prompt_ids != NULL) + (c->n_args > 0);
    if (n > 1)
        return error_set(
            err, ERR_USAGE, "prompt",
            "Give the prompt once: --prompt, --prompt-file, --prompt-ids or plain words.");
    if (c->prompt_ids) return true;
    if (c->prompt) {
        buf_append_cstr(out, c->prompt);
    } else if (c->n_args) {
        for (size_t i = 0; i < c->n_args; i++) {
            if (i) buf_append_char(out, ' ');
            buf_append_cstr(out, c->args[i]);
        }
    } else {
        if (!c->prompt_file && isatty(STDIN_FILENO))
            return error_set(
                err, ERR_USAGE, "prompt",
                "There is no prompt. Try: oriel generate --prompt 'What is the capital of France?'");
        if (!cli_read_file(c->prompt_file ? c->prompt_file : "-", out, err)) return false;
    }
    /* Raw text may begin with nothing, and a system message may be all there is to say. */
    if (!c->raw && !c->system && str_trim(buf_str(out)).len == 0)
        return error_set(
            err, ERR_USAGE, "prompt",
            "The prompt is empty. Try: oriel generate 'What is the capital of France?'");
    return true;
}

/* --json-schema, --grammar, --regex. text and *schema keep what the answer borrows. */
static bool read_answer(const config *c, chat_answer *a, buf *text, json_t **schema, error *err) {
    int n = (c->json_schema != NULL) + (c->grammar_file != NULL) + (c->regex != NULL);
    if (n > 1)
        return error_set(err, ERR_USAGE, "grammar",
                         "Give one of --json-schema, --grammar and --regex: each says all of it.");
    if (c->regex)
        *a = (chat_answer){
            .kind = CHAT_ANSWER_REGEX, .source = str_from(c->regex), .param = "regex"};
    if (c->grammar_file) {
        if (!cli_read_file(c->grammar_file, text, err)) return false;
        bool gbnf = str_find(buf_str(text), STR("::="), 0) >= 0;
        *a = (chat_answer){.kind = gbnf ? CHAT_ANSWER_GBNF : CHAT_ANSWER_LARK,
                           .source = buf_str(text),
                           .param = "grammar"};
    }
    if (c->json_schema) {
        if (!cli_read_file(c->json_schema, text, err)) return false;
        if (!(*schema = json_parse(buf_str(text), err))) {
            error_prefix(err, "%s", c->json_schema);
            return false;
        }
        *a = (chat_answer){.kind = CHAT_ANSWER_SCHEMA, .schema = *schema, .param = "json-schema"};
    }
    return true;
}

int cmd_generate(int argc, char **argv) {
    config c;
    int status;
    if (!cli_begin(
            &c, CONFIG_GENERATE, argc, argv,
            "usage: oriel generate [options] [PROMPT]\n\nOne prompt, one answer on standard output.",
            &status))
        return status;
    error err = {0};
    session s = {0};
    buf prompt = {0}, answer_text = {0};
    json_t *schema = NULL;
    chat_answer answer = {0};
    tok_ids ids = {0};
    turn *t = NULL;
    turn_event end = {0};
    sink out = {.c = &c};
    out.calls = json_begin(&out.calls_json);
    out.logprobs = json_begin(&out.logprobs_json);
    if (!read_answer(&c, &answer, &answer_text, &schema, &err) || !read_prompt(&c, &prompt, &err) ||
        (c.prompt_ids && !parse_ids(c.prompt_ids, &ids, &err)) || !session_open(&s, &c, true, &err))
        goto done;
    session_warn_of_long_context(engine_get_plan(s.e));
    out.t = engine_get_tok(s.e);
    turn_request r = {.max_tokens = config_get_limits(&c, c.performance_mode).max_tokens,
                      .context = session_context(&c, CONTEXT_DROP),
                      .score_prompt = -1,
                      .ignore_end = c.ignore_eos,
                      .keep_ids = c.json,
                      .n_stops = c.n_stop,
                      .sampling = session_sampling(&c)};
    r.sampling.n_top = c.json ? (int32_t)c.logprobs : -1;
    str stops[TURN_MAX_STOPS];
    if (c.n_stop > TURN_MAX_STOPS) {
        error_set(&err, ERR_USAGE, "stop", "At most %d --stop texts are possible.", TURN_MAX_STOPS);
        goto done;
    }
    for (size_t i = 0; i < c.n_stop; i++) stops[i] = str_from(c.stop[i]);
    r.stops = stops;
    chat_message messages[2];
    chat_input in = {.messages = messages, .now = time(NULL)};
    if (answer.kind) in.answer = r.answer = &answer;
    if (c.reasoning_effort) in.reasoning_effort = str_from(c.reasoning_effort);
    if (c.prompt_ids) {
        r.ids = ids.ids;
        r.n_ids = ids.n;
    } else if (c.raw) {
        r.text = buf_str(&prompt);
        r.has_text = true;
    } else {
        if (!chat_can_chat(s.chat)) {
            error_set(
                &err, ERR_USAGE, "raw",
                "This model has no chat template. Use --raw to continue plain text, or --chat-template FILE.");
            goto done;
        }
        size_t n = 0;
        if (c.system)
            messages[n++] = (chat_message){
                .role = CHAT_SYSTEM, .content = str_from(c.system), .has_content = true};
        messages[n++] =
            (chat_message){.role = CHAT_USER, .content = buf_str(&prompt), .has_content = true};
        in.n_messages = n;
        r.chat = &in;
    }
    if (!(t = turn_start(s.chat, &r, &err))) goto done;
    json_arr(&out.logprobs);
    json_arr(&out.calls);
    if (!cli_run_turn(t, show, &out, &end, &err)) goto done;
    json_end_arr(&out.logprobs);
    json_end_arr(&out.calls);
    if (c.json) {
        print_json(&out, &s, t, &end, &err);
    } else {
        if (out.in_reasoning) term_dim(stdout, false);
        if (out.n_calls) fwrite(out.calls_json.ptr, 1, out.calls_json.len, stdout);
        putchar('\n');
        cli_note_unsaid(&c, &end, out.said || out.n_calls);
    }
    if (end.finish == TURN_CANCELLED && term_interrupts())
        error_set(&err, ERR_CANCELLED, NULL, "Interrupted.");
done:
    status = error_is_set(&err) ? cli_fail(&err) : 0;
    turn_free(t);
    session_close(&s);
    buf_deinit(&prompt);
    tok_ids_deinit(&ids);
    buf_deinit(&out.text);
    buf_deinit(&out.reasoning);
    buf_deinit(&out.calls_json);
    buf_deinit(&out.arguments);
    buf_deinit(&out.logprobs_json);
    buf_deinit(&answer_text);
    json_decref(schema);
    config_deinit(&c);
    return status;
}
