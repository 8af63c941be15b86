/* A request's prompt within its rules: chat/context.h decides, this renders,
 * counts and says what was left out. */
#include "base/log.h"
#include "chat/chat_impl.h"

typedef struct renderer {
    const chat *c;
    tok_ids *ids;
    buf *text;
} renderer;

static int64_t render(void *ctx, const chat_input *in, error *err) {
    renderer *r = ctx;
    r->ids->n = 0;
    if (r->text) buf_clear(r->text);
    return chat_render(r->c, in, r->ids, r->text, err) ? (int64_t)r->ids->n : -1;
}

static bool note(chat *c, bool ok, const context_result *out, const error *err) {
    if (!ok && err && err->code == ERR_CONTEXT_LENGTH) atomic_fetch_add(&c->counters.n_refused, 1);
    if (!ok || !out->n_tokens_dropped) return ok;
    bool is_first = atomic_fetch_add(&c->counters.n_cut, 1) == 0;
    atomic_fetch_add(&c->counters.n_turns_dropped, (unsigned long long)out->n_turns_dropped);
    atomic_fetch_add(&c->counters.n_tokens_dropped, (unsigned long long)out->n_tokens_dropped);
    log_line(
        is_first ? LOG_WARN : LOG_INFO, "chat",
        "A prompt of %lld tokens was cut to %lld of the %lld that fit: %lld turns, %lld messages left out, "
        "%lld texts cut.%s",
        (long long)(out->n_tokens + out->n_tokens_dropped), (long long)out->n_tokens,
        (long long)out->limit, (long long)out->n_turns_dropped, (long long)out->n_messages_dropped,
        (long long)out->n_texts_cut, is_first ? " Further ones are logged at level 2." : "");
    return true;
}

static bool find_limit(const chat *c, const turn_request *r, int64_t *limit, error *err) {
    int64_t max = engine_get_config(c->e)->max_context_tokens;
    if (!context_check(&r->context, max, err)) return false;
    *limit = context_limit(&r->context, max);
    return true;
}

bool turn_prompt_chat(chat *c, const turn_request *r, tok_ids *ids, buf *text, context_result *out,
                      error *err) {
    int64_t limit;
    if (!find_limit(c, r, &limit, err)) return false;
    arena mem;
    arena_init(&mem, 0);
    chat_input in = *r->chat;
    renderer how = {c, ids, text};
    error mine = {0};
    bool ok = context_fit(&in, &r->context, limit, &mem, render, &how, out, &mine);
    arena_deinit(&mem);
    if (ok && r->n_live) {
        context_continue(c->t, ids, r->live, r->n_live, limit);
        ok = !ids->failed ||
             error_set(&mine, ERR_NO_MEMORY, NULL, "There is not enough memory for the prompt.");
        out->n_tokens = (int64_t)ids->n;
    }
    note(c, ok, out, &mine);
    if (!ok && err && !error_is_set(err)) *err = mine;
    return ok;
}

bool turn_prompt_raw(chat *c, const turn_request *r, tok_ids *ids, context_result *out,
                     error *err) {
    int64_t limit;
    if (!find_limit(c, r, &limit, err)) return false;
    error mine = {0};
    bool ok = context_fit_ids(ids, c->t ? tok_bos(c->t) : -1, &r->context, limit, out, &mine);
    note(c, ok, out, &mine);
    if (!ok && err && !error_is_set(err)) *err = mine;
    return ok;
}
