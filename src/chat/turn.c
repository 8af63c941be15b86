/* The turn: a request becomes a prompt, the engine's tokens become events.
 * Everything happens on the reader's thread, in turn_poll: take what the engine
 * has, push it through the family's parser, the answer through the stop
 * strings, and hand out one event after the other.
 *
 * A stop string ends the turn at the token that completed it: the engine may
 * have produced more by then, which is neither shown nor counted, so what the
 * reader sees does not depend on timing.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/os.h"
#include "chat/constrain.h"
#include "chat/stop.h"

struct turn {
    chat *c;
    engine_job *job;
    parser *parser; /* NULL without a vocabulary: tokens only */
    stop stops;
    tok_ids prompt;
    tok_ids tokens; /* where keeps_ids; n_tokens counts them always */
    int64_t n_tokens;
    bool keeps_ids;
    context_result context;
    sample_result sample; /* of the token event */
    turn_event first;     /* PROMPT_TOKEN or TOKEN, before the events it leads to */
    bool has_first;
    parser_event waiting; /* behind content that was held back */
    bool has_waiting;
    buf shown;
    size_t n_known;      /* bytes of the answer's beginning that the parser still holds back */
    grammar *constraint; /* NULL = the model may say anything */
    buf unenforced;      /* paths of what a tool's schema asks for in vain */
    char call_id[32];
    bool has_calls;
    bool ended, over, failed; /* the engine's end came; ours was handed out; memory ran out */
    engine_finish finish;
    engine_usage usage;
    error err;
    bool is_debug;
    turn_debug debug;
};

/* ── Start ── */

/* Tokens kept for an answer of a form, or a call, that has to come: thinking ends before them. */
enum { ANSWER_ROOM = 1024 };

static bool is_out_of_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for the request.");
}

static bool check_request(const chat *c, const turn_request *r, error *err) {
    if ((r->chat != NULL) + (r->n_ids > 0) + r->has_text != 1)
        return error_set(err, ERR_INVALID_VALUE, NULL,
                         "A turn needs exactly one of messages, ids and text.");
    if (!c->t && !r->n_ids)
        return error_set(err, ERR_UNSUPPORTED_VALUE, NULL,
                         "This model has no vocabulary: it takes token ids only.");
    if (r->chat && r->chat->started.len &&
        (r->chat->n_tools || (r->chat->answer && r->chat->answer->kind != CHAT_ANSWER_TEXT)))
        return error_set(
            err, ERR_UNSUPPORTED_VALUE, "messages",
            "A started answer goes on in words only: without tools and without a form.");
    if (r->n_stops > TURN_MAX_STOPS)
        return error_set(err, ERR_ARRAY_ABOVE_MAX, "stop", "At most %d stop strings are possible.",
                         TURN_MAX_STOPS);
    for (size_t i = 0; i < r->n_stops; i++)
        if (r->stops[i].len > TURN_MAX_STOP_BYTES)
            return error_set(err, ERR_STRING_ABOVE_MAX, "stop",
                             "A stop string has at most %d bytes.", TURN_MAX_STOP_BYTES);
    return true;
}

/* Fills t->prompt; text gets its readable form where somebody needs it. */
static bool make_prompt(turn *t, const turn_request *r, buf *text, error *err) {
    chat *c = t->c;
    if (r->chat)
        return turn_prompt_chat(c, r, &t->prompt, t->is_debug || c->style.family ? text : NULL,
                                &t->context, err);
    if (r->has_text) {
        tok_encode_opts how = {.add_bos = tok_adds_bos(c->t), .parse_special = true};
        if (!tok_encode(c->t, r->text, how, &t->prompt, err)) return false;
    } else {
        tok_ids_append(&t->prompt, r->ids, r->n_ids);
    }
    if (!t->prompt.failed && t->prompt.n == 0)
        return error_set(err, ERR_INVALID_VALUE, "prompt", "The prompt is empty.");
    if (!t->prompt.failed && !turn_prompt_raw(c, r, &t->prompt, &t->context, err)) return false;
    if (t->is_debug && r->has_text && !t->context.n_tokens_dropped)
        buf_append_str(text, r->text);
    else if (t->is_debug && c->t)
        tok_decode(c->t, t->prompt.ids, t->prompt.n, (tok_decode_opts){0}, text);
    return !(t->prompt.failed || text->failed) || is_out_of_memory(err);
}

/* What the prompt ends with in the assistant's name. */
static str find_prefix(const chat *c, str prompt) {
    return c->style.family && !c->is_harmony ? parser_find_prefix(&c->style, prompt) : (str){0};
}

static void forget_events(turn *t) {
    parser_event e;
    while (parser_next(t->parser, &e))
        t->n_known -= e.text.len < t->n_known ? e.text.len : t->n_known;
}

/* The parser reads the answer's beginning too, for what follows may end a marker; nobody hears of it. */
static void read_started(turn *t, str started) {
    const chat *c = t->c;
    size_t at = t->prompt.n;
    while (started.len && strchr(" \t\r\n", started.ptr[0])) /* a parser may leave it out */
        started = str_make(started.ptr + 1, started.len - 1);
    t->n_known = started.len;
    if (c->is_harmony) {
        while (at && t->prompt.ids[at - 1] != c->harmony.channel) at--;
        for (at -= at > 0; at < t->prompt.n; at++) {
            parser_push(t->parser, t->prompt.ids[at]);
            forget_events(t);
        }
    } else {
        parser_push_text(t->parser, started);
        forget_events(t);
    }
}

static bool make_parser(turn *t, const turn_request *r, str prompt, error *err) {
    chat *c = t->c;
    if (!c->t) return true;
    parser_options o = {.t = c->t, .show_special = !r->chat && r->echo_special};
    if (r->chat) {
        o.harmony = c->is_harmony ? &c->harmony : NULL;
        o.style = c->style.family ? &c->style : NULL;
        o.inside = c->is_harmony;
        o.show_reasoning = r->chat->show_reasoning;
        o.takes_calls = r->chat->n_tools && r->chat->tool_choice != CHAT_TOOLS_NONE;
        bool must_call = o.takes_calls && r->chat->tool_choice == CHAT_TOOLS_REQUIRED;
        o.json_answer = !must_call && r->chat->answer &&
                        (r->chat->answer->kind == CHAT_ANSWER_JSON ||
                         r->chat->answer->kind == CHAT_ANSWER_SCHEMA);
        o.tools = r->chat->tools;
        o.n_tools = r->chat->n_tools;
    }
    t->parser = parser_new(&o);
    if (!t->parser) return is_out_of_memory(err);
    /* A template may have opened the reasoning itself, or the first call. */
    if (r->chat && r->chat->started.len)
        read_started(t, r->chat->started);
    else if (r->chat)
        parser_push_text(t->parser, find_prefix(c, prompt));
    return true;
}

/* −1 fills the trained context where all of it stays visible. A window narrower than the context
 * slides, so there the answer may be as long as it likes. */
static int64_t limit_tokens(const turn *t, const turn_request *r) {
    const engine_config *config = engine_get_config(t->c->e);
    int64_t rows = config->max_kv_size;
    if (r->max_kv_size > 0 && r->max_kv_size < rows) rows = r->max_kv_size;
    if (r->max_tokens >= 0 || rows < config->max_context_tokens) return r->max_tokens;
    int64_t room = config->max_context_tokens - (int64_t)t->prompt.n;
    return room > 1 ? room : 1;
}

static bool start(turn *t, const turn_request *r, buf *text, error *err) {
    if (!check_request(t->c, r, err) || !make_prompt(t, r, text, err)) return false;
    if (!make_parser(t, r, buf_str(text), err)) return false;
    if (r->chat && !chat_constrain(t->c, r->chat, find_prefix(t->c, buf_str(text)), &t->constraint,
                                   &t->unenforced, err))
        return false;
    if (!r->chat && r->answer && !chat_constrain_raw(t->c, r->answer, &t->constraint, err))
        return false;
    if (!stop_init(&t->stops, r->stops, r->n_stops)) return is_out_of_memory(err);
    engine_request job = {
        .prompt = t->prompt.ids,
        .n_prompt = t->prompt.n,
        .sampling = r->sampling,
        .max_tokens = limit_tokens(t, r),
        .ignore_end = r->ignore_end,
        .stop_ids = r->stop_ids,
        .n_stop_ids = r->n_stop_ids,
        .score_prompt = r->score_prompt,
        .deadline_ns = r->deadline_ns,
        .max_kv_size = r->max_kv_size,
        .n_pinned = turn_find_pins(t->c, r->chat, &t->prompt),
        .wake = r->wake,
        .wake_ctx = r->wake_ctx,
        .client = r->client,
    };
    if (t->constraint) job.sampling.grammar = t->constraint;
    if (t->constraint && r->chat && job.max_tokens > 0 && chat_must_come(r->chat)) {
        int64_t room = job.max_tokens / 2 < ANSWER_ROOM ? job.max_tokens / 2 : ANSWER_ROOM;
        job.wrap_up_after = job.max_tokens - room;
        job.wrap_up_id = chat_find_think_end(t->c);
    } else if (t->constraint && !r->chat && job.max_tokens > 0) {
        job.wrap_up_after = job.max_tokens; /* raw text does not think: all of it is the answer */
        job.wrap_up_id = -1;
    }
    t->job = engine_submit(t->c->e, &job, err);
    if (t->job && t->is_debug) turn_debug_begin(&t->debug, t->c, buf_str(text));
    return t->job != NULL;
}

turn *turn_start(chat *c, const turn_request *r, error *err) {
    turn *t = calloc(1, sizeof *t);
    if (!t) {
        is_out_of_memory(err);
        return NULL;
    }
    buf text = {0};
    t->c = c;
    t->stops.hit = -1;
    t->is_debug = c->debug_dir != NULL;
    t->keeps_ids = r->keep_ids || t->is_debug;
    bool ok = start(t, r, &text, err);
    buf_deinit(&text);
    if (ok) return t;
    turn_free(t);
    return NULL;
}

const context_result *turn_get_context(const turn *t) {
    return &t->context;
}

const int32_t *turn_prompt_ids(const turn *t, size_t *n) {
    *n = t->prompt.n;
    return t->prompt.ids;
}

const int32_t *turn_token_ids(const turn *t, size_t *n) {
    *n = t->tokens.n;
    return t->tokens.ids;
}

/* ── Engine events in ── */

static bool is_stopped(const turn *t) {
    return t->stops.hit >= 0 || t->failed;
}

static void take_first(turn *t, turn_event_kind kind, const engine_event *e) {
    t->sample = e->token;
    t->first = (turn_event){
        .kind = kind,
        .index = e->index,
        .token = &t->sample,
        .piece = t->c->t ? tok_piece(t->c->t, e->token.id) : (str){0},
    };
    t->has_first = true;
}

static void take(turn *t, const engine_event *e) {
    switch (e->kind) {
    case ENGINE_PROMPT: take_first(t, TURN_PROMPT_TOKEN, e); break;
    case ENGINE_TOKEN:
        if (is_stopped(t)) break; /* sampled before the cancel arrived */
        take_first(t, TURN_TOKEN, e);
        t->n_tokens++;
        if (t->keeps_ids) tok_ids_push(&t->tokens, e->token.id);
        if (t->parser) parser_push(t->parser, e->token.id);
        break;
    case ENGINE_END:
        t->ended = true;
        t->finish = e->finish;
        t->usage = e->usage;
        t->err = e->err;
        if (t->parser && !is_stopped(t)) parser_finish(t->parser);
        break;
    }
    t->failed |= t->tokens.failed || (t->parser && parser_failed(t->parser));
    if (t->failed && !t->ended) engine_cancel(t->job);
}

/* ── Turn events out ── */

static bool give(turn *t, turn_event *out, turn_event e) {
    *out = e;
    if (t->is_debug) turn_debug_event(&t->debug, out);
    return true;
}

static bool give_shown(turn *t, turn_event *out) {
    t->failed |= t->shown.failed;
    return give(t, out, (turn_event){.kind = TURN_CONTENT, .text = buf_str(&t->shown)});
}

static void make_call_id(char out[32]) {
    static const char DIGITS[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ01";
    unsigned char random[24];
    os_random(random, sizeof random);
    memcpy(out, "call_", 5);
    for (size_t i = 0; i < sizeof random; i++) out[5 + i] = DIGITS[random[i] & 63];
    out[5 + sizeof random] = 0;
}

/* The model's own id where it is one that may be told from others, else a fresh one. */
static void set_call_id(turn *t, str own) {
    bool usable = own.len >= 9 && own.len < sizeof t->call_id && !str_is(own, t->call_id);
    bool says_something = false;
    for (size_t i = 0; i < own.len && usable; i++) {
        char c = own.ptr[i];
        usable = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                 c == '_' || c == '-' || c == '.' || c == ':';
        says_something |= c != '0';
    }
    if (!usable || !says_something) {
        make_call_id(t->call_id);
        return;
    }
    memcpy(t->call_id, own.ptr, own.len);
    t->call_id[own.len] = 0;
}

static bool give_parsed(turn *t, turn_event *out, const parser_event *e) {
    static const turn_event_kind KINDS[] = {
        [PARSER_REASONING] = TURN_REASONING,   [PARSER_PREAMBLE] = TURN_CONTENT,
        [PARSER_CALL_BEGIN] = TURN_CALL_BEGIN, [PARSER_CALL_ARGS] = TURN_CALL_ARGS,
        [PARSER_CALL_END] = TURN_CALL_END,
    };
    turn_event result = {.kind = KINDS[e->kind], .text = e->text};
    if (e->kind >= PARSER_CALL_BEGIN) {
        if (e->kind == PARSER_CALL_BEGIN) set_call_id(t, e->id);
        t->has_calls = true;
        result.call_index = e->call;
        result.call_id = str_from(t->call_id);
    }
    return give(t, out, result);
}

static turn_finish finish_of(const turn *t) {
    if (t->failed) return TURN_FAILED;
    if (t->stops.hit >= 0) return TURN_STOP;
    switch (t->finish) {
    case ENGINE_STOP: return t->has_calls ? TURN_TOOL_CALLS : TURN_STOP;
    case ENGINE_LENGTH: return TURN_LENGTH;
    case ENGINE_CANCELLED: return TURN_CANCELLED;
    default: return TURN_FAILED;
    }
}

static void write_debug(turn *t, turn_finish finish) {
    static const char *const NAMES[] = {"stop", "length", "tool_calls", "cancelled", "failed"};
    turn_debug_result r = {
        .t = t->c->t,
        .prompt = t->prompt.ids,
        .n_prompt = t->prompt.n,
        .tokens = t->tokens.ids,
        .n_tokens = t->tokens.n,
        .finish = NAMES[finish],
        .stop_string = t->stops.hit >= 0 ? t->stops.strings[t->stops.hit].text : (str){0},
        .diagnostic = t->parser ? parser_diagnostic(t->parser) : NULL,
        .err = finish == TURN_FAILED ? &t->err : NULL,
    };
    turn_debug_end(&t->debug, t->c->debug_dir, &r);
}

static bool give_end(turn *t, turn_event *out) {
    turn_finish finish = finish_of(t);
    if (t->failed) {
        t->err = (error){0};
        is_out_of_memory(&t->err);
    }
    t->over = true;
    if (t->is_debug) write_debug(t, finish);
    *out = (turn_event){
        .kind = TURN_END,
        .finish = finish,
        .stop_string = t->stops.hit >= 0 ? t->stops.strings[t->stops.hit].text : (str){0},
        .usage = {.n_prompt = (int64_t)t->prompt.n,
                  .n_cached = t->usage.n_cached,
                  .n_completion = t->n_tokens,
                  .n_reasoning = t->parser ? parser_n_reasoning(t->parser) : 0,
                  .queue_ns = t->usage.queue_ns,
                  .prefill_ns = t->usage.prefill_ns,
                  .decode_ns = t->usage.decode_ns,
                  .kv_rows = t->usage.kv_rows,
                  .n_pinned = t->usage.n_pinned},
        .err = finish == TURN_FAILED ? &t->err : NULL,
        .diagnostic = t->parser ? parser_diagnostic(t->parser) : NULL,
    };
    return true;
}

/* What was held back as the beginning of a stop string is none after all. */
static bool give_held(turn *t, turn_event *out) {
    buf_clear(&t->shown);
    stop_flush(&t->stops, &t->shown);
    return give_shown(t, out);
}

/* The next event that needs nothing more from the engine. */
static bool next_event(turn *t, turn_event *out) {
    if (t->has_first) {
        t->has_first = false;
        return give(t, out, t->first);
    }
    parser_event e;
    while (t->has_waiting || (t->parser && parser_next(t->parser, &e))) {
        if (t->has_waiting) e = t->waiting;
        t->has_waiting = false;
        if (is_stopped(t)) continue;
        if (e.kind == PARSER_CONTENT) {
            size_t known = e.text.len < t->n_known ? e.text.len : t->n_known;
            e.text = str_make(e.text.ptr + known, e.text.len - known);
            t->n_known -= known;
            buf_clear(&t->shown);
            bool hit = stop_push(&t->stops, e.text, &t->shown);
            t->failed |= t->shown.failed;
            if ((hit || t->failed) && !t->ended) engine_cancel(t->job);
            if (t->shown.len) return give_shown(t, out);
        } else if (stop_holds(&t->stops)) {
            t->waiting = e;
            t->has_waiting = true;
            return give_held(t, out);
        } else {
            return give_parsed(t, out, &e);
        }
    }
    if (!t->ended || t->over) return false;
    if (!is_stopped(t) && stop_holds(&t->stops)) return give_held(t, out);
    return give_end(t, out);
}

str turn_get_unenforced(const turn *t) {
    return buf_str(&t->unenforced);
}

bool turn_poll(turn *t, turn_event *out) {
    engine_event e;
    for (;;) {
        if (next_event(t, out)) return true;
        if (t->ended || !engine_poll(t->job, &e)) return false;
        take(t, &e);
    }
}

bool turn_wait(turn *t, turn_event *out, int timeout_ms) {
    int64_t until = timeout_ms < 0 ? 0 : clock_ns() + (int64_t)timeout_ms * 1000000;
    engine_event e;
    for (;;) {
        if (next_event(t, out)) return true;
        if (t->ended) return false;
        int64_t left_ns = until - clock_ns();
        int left_ms = timeout_ms < 0 ? -1 : left_ns > 0 ? (int)((left_ns + 999999) / 1000000) : 0;
        if (!engine_wait(t->job, &e, left_ms)) return false;
        take(t, &e);
    }
}

void turn_cancel(turn *t) {
    engine_cancel(t->job);
}

void turn_free(turn *t) {
    if (!t) return;
    if (t->job) engine_job_free(t->job);
    if (t->is_debug && !t->over) write_debug(t, TURN_CANCELLED);
    turn_debug_deinit(&t->debug);
    parser_free(t->parser);
    grammar_unref(t->constraint);
    buf_deinit(&t->unenforced);
    stop_deinit(&t->stops);
    tok_ids_deinit(&t->prompt);
    tok_ids_deinit(&t->tokens);
    buf_deinit(&t->shown);
    free(t);
}
