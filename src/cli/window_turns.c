/* The window bench's long chat: a client that sends the whole conversation with every
 * turn, as HTTP clients do, and lets the context rules decide what the prompt holds.
 */
#include <string.h>

#include "base/arena.h"
#include "base/hash.h"
#include "cli/window.h"

enum { MAX_ANSWER_BYTES = 1 << 16, MIN_ROOM = 96 /* tokens a chat needs to say anything */ };

/* Sentences of a seeded speaker: seldom twice the same. */
static const char *const subjects[] = {"the little dog", "a red kite", "my sister",
                                       "the old bridge", "our garden", "the moon",
                                       "a lost key",     "the baker"};
static const char *const verbs[] = {"was seen near", "likes",      "went past",  "came back from",
                                    "dreams of",     "hid behind", "sang about", "forgot"};
static const char *const questions[] = {"What happened then?", "Why is that?",   "Tell me more.",
                                        "Is it true?",         "Who was there?", "And after that?"};

static str say(arena *mem, uint64_t seed, uint64_t turn_number) {
    char text[160];
    uint64_t r = rng_at(seed, turn_number);
    int n =
        snprintf(text, sizeof text, "On day %llu %s %s %s. %s", (unsigned long long)turn_number,
                 subjects[r % 8], verbs[r / 8 % 8], subjects[r / 64 % 8], questions[r / 512 % 6]);
    return str_make(arena_dup(mem, str_make(text, (size_t)n)), (size_t)n);
}

static bool collect(void *ctx, const turn_event *e) {
    if (e->kind == TURN_CONTENT) buf_append_str(ctx, e->text);
    return true;
}

typedef struct talk {
    chat *chat;
    const window_options *o;
    context_rules rules;
    chat_message *messages; /* [1 + 2 · n_turns] */
    size_t n_messages;
    arena mem;
    buf answer;
    int64_t n_dropped; /* turns, at the last cut */
    double *ttft;      /* [n_turns] seconds */
} talk;

static bool run_turn(talk *k, int64_t i, window_chat *out, error *err) {
    k->messages[k->n_messages++] = (chat_message){
        .role = CHAT_USER, .content = say(&k->mem, k->o->seed, (uint64_t)i), .has_content = true};
    chat_input in = {.messages = k->messages, .n_messages = k->n_messages};
    turn_request r = {.chat = &in,
                      .context = k->rules,
                      .sampling = sample_defaults(),
                      .max_tokens = k->o->turn_tokens,
                      .score_prompt = -1};
    r.sampling.temperature = 1;
    r.sampling.seed = k->o->seed + (uint64_t)i;
    r.sampling.n_top = -1;
    turn_event end = {0};
    turn *t = turn_start(k->chat, &r, err);
    buf_clear(&k->answer);
    bool ok = t && cli_run_turn(t, collect, &k->answer, &end, err);
    if (ok && end.finish == TURN_CANCELLED)
        ok = error_set(err, ERR_CANCELLED, NULL, "Interrupted.");
    if (ok) {
        const context_result *c = turn_get_context(t);
        int64_t computed = end.usage.n_prompt - end.usage.n_cached;
        bool is_cut = c->n_turns_dropped > k->n_dropped;
        k->n_dropped = c->n_turns_dropped;
        out->limit = c->limit;
        out->n_turns++;
        out->n_cuts += is_cut;
        out->n_prompt += end.usage.n_prompt;
        out->n_computed += computed;
        out->n_computed_at_cuts += is_cut ? computed : 0;
        if (end.usage.n_prompt > out->longest) out->longest = end.usage.n_prompt;
        k->ttft[i] = (double)(end.usage.queue_ns + end.usage.prefill_ns) / 1e9;
        str said = k->answer.len ? buf_str(&k->answer) : str_from("I do not know.");
        k->messages[k->n_messages++] =
            (chat_message){.role = CHAT_ASSISTANT,
                           .content = str_make(arena_dup(&k->mem, said), said.len),
                           .has_content = true};
    }
    turn_free(t);
    if (ok && (k->mem.failed || k->answer.failed))
        ok = error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the conversation.");
    return ok;
}

bool window_run_chat(engine *e, const window_options *o, window_chat *out, error *err) {
    *out = (window_chat){0};
    talk k = {.o = o, .answer = {.max = MAX_ANSWER_BYTES}};
    int64_t rows = engine_get_config(e)->max_kv_size, n = o->n_turns;
    k.rules = (context_rules){.mode = CONTEXT_DROP,
                              .max_tokens = o->max_context_tokens ? o->max_context_tokens : rows,
                              .margin = o->margin ? o->margin : o->turn_tokens};
    if (k.rules.max_tokens - k.rules.margin < MIN_ROOM) {
        snprintf(out->skipped, sizeof out->skipped, "%lld tokens are too few for a chat",
                 (long long)(k.rules.max_tokens - k.rules.margin));
        return true;
    }
    chat_options options = {0};
    arena_init(&k.mem, (size_t)1 << 30);
    k.messages = arena_array(&k.mem, 1 + 2 * (size_t)n, sizeof *k.messages);
    k.ttft = arena_array(&k.mem, (size_t)n, sizeof *k.ttft);
    k.chat = chat_new(e, &options, err);
    bool ok = k.chat != NULL;
    if (ok && (!k.messages || !k.ttft))
        ok = error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the conversation.");
    if (ok && !chat_can_chat(k.chat)) {
        snprintf(out->skipped, sizeof out->skipped, "this model has no chat template");
        n = 0;
    }
    if (ok && n > 0)
        k.messages[k.n_messages++] = (chat_message){.role = CHAT_SYSTEM,
                                                    .content = str_from("Answer in one sentence."),
                                                    .has_content = true};
    for (int64_t i = 0; ok && i < n; i++) ok = run_turn(&k, i, out, err);
    if (ok && out->n_turns > 0) {
        out->ttft_p50 = stats_quantile(k.ttft, (size_t)out->n_turns, 0.5);
        out->ttft_p99 = stats_quantile(k.ttft, (size_t)out->n_turns, 0.99);
    }
    chat_free(k.chat);
    buf_deinit(&k.answer);
    arena_deinit(&k.mem);
    return ok;
}
