/* Inside the chat room: what a chat holds, and the --debug files of a turn. */
#ifndef CHAT_CHAT_IMPL_H
#define CHAT_CHAT_IMPL_H

#include <stdatomic.h>

#include "chat/harmony.h"
#include "chat/jinja.h"
#include "chat/parser.h"
#include "chat/turn.h"

typedef struct constraint_cache constraint_cache;

struct chat {
    engine *e; /* borrowed */
    tok *t;    /* the engine's; NULL for a model without a vocabulary: raw ids only */
    bool is_harmony;
    harmony harmony;
    jinja *template;      /* the file's or the override; NULL = harmony, or cannot chat */
    error template_error; /* why the file's could not be parsed */
    parser_style style;   /* how the template's family writes reasoning and calls */
    bool is_plain;        /* … and that it writes no calls: the model is told how */
    bool knows_developer; /* the template speaks of that role … */
    bool asks_for_null;   /* … and tests content for being none */
    tok_cache *cache;     /* NULL without a vocabulary */
    struct {
        atomic_ullong n_cut, n_turns_dropped, n_tokens_dropped, n_refused;
    } counters;                    /* as chat_stats */
    constraint_cache *constraints; /* its own lock; see constrain.h */
    char *debug_dir;
    atomic_int debug_number; /* a number known to be taken: where to look for the next */
};

/* ── A prompt within the request's rules ── (turn_prompt.c)
 * Fill ids (and text, which may be NULL); what had to be left out is in *out, the counters and the log. */
bool turn_prompt_chat(chat *c, const turn_request *r, tok_ids *ids, buf *text, context_result *out,
                      error *err);
/* ids is the whole raw prompt. */
bool turn_prompt_raw(chat *c, const turn_request *r, tok_ids *ids, context_result *out, error *err);

/* Leading ids of a conversation's prompt that belong to its system, developer and tools part; 0 where
 * there is none or it cannot be told. (turn_pins.c) */
size_t turn_find_pins(const chat *c, const chat_input *in, const tok_ids *prompt);

/* ── --debug DIR ──
 * NNNN-prompt.txt at the start, -ids.json, -raw.txt and -parse.json at the end; NNNN counts up from
 * what the directory holds. What cannot be written is a log line, never an error of the turn. */
typedef struct turn_debug {
    buf reasoning, content;
    buf calls;    /* JSON: objects separated by commas … */
    bool in_call; /* … the last one still open */
    int number;   /* 0 = nothing was written */
} turn_debug;

typedef struct turn_debug_result {
    const tok *t;
    const int32_t *prompt, *tokens;
    size_t n_prompt, n_tokens;
    const char *finish;
    str stop_string;
    const char *diagnostic;
    const error *err;
} turn_debug_result;

void turn_debug_begin(turn_debug *d, chat *c, str prompt);
void turn_debug_event(turn_debug *d, const turn_event *e);
void turn_debug_end(turn_debug *d, const char *dir, const turn_debug_result *r);
void turn_debug_deinit(turn_debug *d);

#endif
