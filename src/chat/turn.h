/* The one turn: request → prompt → generate → parse → events. CLI chat,
 * one-shot generate, every HTTP route and batch lines run this and nothing
 * else; a transport is only a sink. Same request, same configuration, same seed
 * ⇒ the same token ids through every door.
 *
 * Threads: chat is immutable after chat_new and shared. A turn belongs to one
 * reader; turn_poll runs parsing on the reader's thread. The wake function is
 * the engine's: it runs on the engine thread and must not block.
 */
#ifndef CHAT_TURN_H
#define CHAT_TURN_H

#include "chat/chat.h"
#include "chat/context.h"
#include "engine/engine.h"

typedef struct chat chat; /* a loaded model's way of talking */
typedef struct turn turn;

typedef struct chat_options {
    str template_override; /* Jinja source instead of the file's; empty = none */
    const char *debug_dir; /* --debug: each turn writes its rendered prompt, ids, raw completion and
                              parse here, the same files from every door; NULL = off */
} chat_options;

/* Chooses the family by what the file's vocabulary and template are: harmony (by <|start|>,
 * <|channel|>, <|message|>), else its Jinja template, else none (chat is then a clear
 * ERR_UNSUPPORTED_VALUE; raw prompts work). Borrows e. */
chat *chat_new(engine *e, const chat_options *o, error *err);
void chat_free(chat *c);
engine *chat_get_engine(const chat *c);
bool chat_is_harmony(const chat *c);
bool chat_can_chat(const chat *c);

/* Since chat_new. Any thread. */
typedef struct chat_stats {
    uint64_t n_cut; /* prompts that lost something to the rules … */
    uint64_t n_turns_dropped, n_tokens_dropped;
    uint64_t n_refused; /* … and those that were too long */
    tok_cache_stats
        tokenizing; /* bytes of prompts that were encoded, and that were known from before */
} chat_stats;
chat_stats chat_get_stats(const chat *c);

/* What a chat takes from memory for itself, for an engine of this size: encoded text it remembers. */
size_t chat_plan_bytes(int64_t max_context_tokens, int n_parallel);

/* Messages → prompt ids, as a turn would send them. text (may be NULL) gets the readable form. */
bool chat_render(const chat *c, const chat_input *in, tok_ids *ids, buf *text, error *err);

enum { TURN_MAX_STOPS = 16, TURN_MAX_STOP_BYTES = 1024 };

typedef struct turn_request {
    /* exactly one of: */
    const chat_input *chat; /* a conversation */
    const int32_t *ids;     /* raw ids (n_ids > 0) */
    size_t n_ids;
    str text; /* raw text; BOS as the file asks; special tokens parsed */
    bool has_text;

    /* raw: what the text has to be; NULL = anything. (A conversation's is in chat_input.) */
    const chat_answer *answer;

    context_rules context; /* how long the prompt may be, and what goes when it is not */
    /* a caller that holds a conversation: prompt and tokens of its last turn, so that this one goes on from
     * their rows (context_continue) */
    const int32_t *live;
    size_t n_live;
    sample_params sampling;
    /* −1: what is left of max_context_tokens where max_kv_size holds all of it; no limit where the
     * window is narrower and slides. */
    int64_t max_tokens;
    const str *
        stops; /* stop strings; apply to the final answer (chat; not to a preamble) or the text (raw) */
    size_t n_stops;
    const int32_t *stop_ids;
    size_t n_stop_ids;
    bool ignore_end;
    int32_t score_prompt; /* as engine_request */
    bool echo_special;    /* raw: show special tokens in the text */
    /* for turn_token_ids; without it a turn's memory does not grow with its length */
    bool keep_ids;
    int64_t deadline_ns;
    int64_t max_kv_size;
    uint64_t client; /* as engine_request */
    void (*wake)(void *ctx);
    void *wake_ctx;
} turn_request;

typedef enum turn_event_kind {
    TURN_PROMPT_TOKEN, /* score_prompt: one per prompt token from the 2nd on */
    TURN_TOKEN,        /* every sampled token, markers included, before the text it leads to */
    TURN_REASONING,    /* text: analysis */
    TURN_CONTENT,      /* text: the final answer, or raw text; whole characters only */
    TURN_CALL_BEGIN,   /* call_index, call_id, text = function name */
    TURN_CALL_ARGS,    /* call_index, text: piece of the arguments */
    TURN_CALL_END,     /* call_index */
    TURN_END,          /* exactly once, last */
} turn_event_kind;

typedef enum turn_finish {
    TURN_STOP,
    TURN_LENGTH,
    TURN_TOOL_CALLS,
    TURN_CANCELLED,
    TURN_FAILED
} turn_finish;

typedef struct turn_usage {
    int64_t n_prompt, n_cached, n_completion; /* tokens */
    int64_t n_reasoning; /* of n_completion, markers of the reasoning included */
    int64_t queue_ns, prefill_ns, decode_ns;
    int64_t kv_rows, n_pinned; /* of the window, at the end */
} turn_usage;

typedef struct turn_event {
    turn_event_kind kind;
    str text;      /* borrowed until the next turn_poll */
    int64_t index; /* TOKEN, PROMPT_TOKEN: its index */
    const sample_result *token;
    str piece; /* TOKEN, PROMPT_TOKEN: its own bytes */
    int call_index;
    str call_id;
    turn_finish finish;     /* END */
    str stop_string;        /* END: the stop string that hit, empty otherwise */
    turn_usage usage;       /* END */
    const error *err;       /* END with TURN_FAILED */
    const char *diagnostic; /* END: what the parser found odd, or NULL. Never an error */
} turn_event;

/* NULL with ERR_TEMPLATE, ERR_CONTEXT_LENGTH, ERR_RATE_LIMIT, … Everything borrowed in r may go once
 * this returned. Counts and ids end with the token that ended the turn: what the engine sampled
 * beyond a stop string is not seen. */
turn *turn_start(chat *c, const turn_request *r, error *err);
/* What the rules left out; valid from turn_start on. */
const context_result *turn_get_context(const turn *t);
/* The prompt as sent; valid from turn_start on. */
const int32_t *turn_prompt_ids(const turn *t, size_t *n);
/* Generated so far (up to and including the token that ended it), where keep_ids asked for them;
 * none otherwise. Valid after TURN_END. */
const int32_t *turn_token_ids(const turn *t, size_t *n);
/* What the schemas of tools that are not strict ask for and cannot be enforced: paths, commas between
 * them. Empty when all is. */
str turn_get_unenforced(const turn *t);
/* False: nothing now, wake() follows. */
bool turn_poll(turn *t, turn_event *out);
/* Blocks, for readers without wake; timeout_ms −1 = for ever. */
bool turn_wait(turn *t, turn_event *out, int timeout_ms);
void turn_cancel(turn *t);
void turn_free(turn *t);

#endif
