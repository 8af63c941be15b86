/* Which part of a conversation the prompt holds when all of it is too long.
 *
 * The longest prompt is `max_context_tokens − max_context_tokens_margin`, and
 * never more than `perf_prompt_token_budget` where that is set. What is longer
 * loses its oldest turns, whole ones: a turn is what users say in a row and all
 * that follows until a user speaks again. System and developer messages stay
 * wherever they stand, tools stay, and the turn that is to be answered stays. A
 * tool call and its result are never parted: where they lie in different turns,
 * those turns go together.
 *
 * The cut is a pure function of the conversation and the limit, so a client that
 * sends everything each time needs no session here. It moves in steps: what has
 * to go is rounded up to a multiple of a quarter of the room that the system
 * part leaves. Between two moves the prompt only grows at its end, so its
 * prefix stays in the key/value cache.
 *
 * Nothing here knows a model: a callback renders and counts. The last call that
 * it gets is the one for the messages that are returned, so it may leave the
 * prompt where the caller wants it.
 */
#ifndef CHAT_CONTEXT_H
#define CHAT_CONTEXT_H

#include "base/arena.h"
#include "chat/chat.h"
#include "tok/tok.h"

typedef enum context_mode {
    CONTEXT_REFUSE, /* too long is ERR_CONTEXT_LENGTH, with the numbers */
    CONTEXT_DROP,   /* whole turns go; ERR_CONTEXT_LENGTH when the last one alone is too long */
    CONTEXT_CUT, /* as DROP, then the oldest tool rounds of the last turn (an assistant's message with
                       its calls and their results), then the beginnings of its longest texts */
} context_mode;

typedef struct context_rules {
    context_mode mode;
    int64_t max_tokens; /* max_context_tokens; 0 = whatever the engine takes */
    bool is_perf;       /* max_tokens was given as perf_max_context_tokens */
    int64_t margin;     /* max_context_tokens_margin: kept free below it */
    int64_t budget;     /* perf_prompt_token_budget; 0 = none */
    int64_t
        n_before; /* tokens of this conversation the caller forgot for good after earlier cuts (the sum
                           of n_tokens_dropped): the steps go on as if they were still there */
} context_rules;

typedef struct context_result {
    int64_t limit;            /* tokens that fit */
    int64_t n_tokens;         /* of the prompt */
    int64_t n_tokens_dropped; /* of what was given, by which the prompt is shorter */
    int64_t n_turns_dropped, n_messages_dropped;
    int64_t n_texts_cut; /* messages of which only the end is left */
} context_result;

/* The longest prompt under the rules, engine_max being the engine's own limit; rules above it mean it.
 * At least 1 for rules that context_check accepts. */
int64_t context_limit(const context_rules *r, int64_t engine_max);
/* Rules that leave nothing are a sentence with what to change: a margin that is as large as the context. The
 * names are those of the configuration and the API. */
bool context_check(const context_rules *r, int64_t engine_max, error *err);

/* Tokens of the prompt that these messages make; negative with *err set. */
typedef int64_t context_count_fn(void *ctx, const chat_input *in, error *err);

/* *in becomes the part that fits: its messages are in->messages themselves or a copy in mem, of which
 * only content slices are ever shorter. ERR_CONTEXT_LENGTH names "messages". */
bool context_fit(chat_input *in, const context_rules *r, int64_t limit, arena *mem,
                 context_count_fn *count, void *ctx, context_result *out, error *err);

/* The same for a raw prompt, which has no turns: refused, or with CONTEXT_CUT its oldest ids go, in the
 * same steps; bos (−1: none) stays in front. */
bool context_fit_ids(tok_ids *ids, int32_t bos, const context_rules *r, int64_t limit,
                     context_result *out, error *err);

/* A conversation that goes on where its rows are. What a model wrote need not be how its text is encoded
 * ("he" + "llo" for "hello"), so rendering the answer into the next prompt can give other ids than those whose
 * rows are there, and everything from that word on would be computed again.
 *
 * live: the ids of the turn before, prompt and answer. From the front, as long as both agree: where a stretch
 * between special tokens differs in its ids but not in its bytes, the live ids take its place. What differs in
 * text (such as analysis that a template leaves out of the history) ends it, and there the prompt stays as it
 * was rendered. Does nothing when the prompt would grow beyond `limit`. Returns how many leading ids agree
 * with live now. */
size_t context_continue(const tok *t, tok_ids *prompt, const int32_t *live, size_t n_live,
                        int64_t limit);

#endif
