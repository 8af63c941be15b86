/* harmony, the conversation format gpt-oss was trained on, in both directions:
 * messages → token ids, and token ids → messages, piece by piece.
 *
 *     <|start|>{role}[:name][ to={recipient}][<|channel|>{channel}][ {type}]<|message|>{content}<|end|>
 *
 * The markers are single ids of the vocabulary. All other text is encoded as
 * text, so "<|end|>" inside somebody's message stays five harmless characters
 * and more. `<|return|>` and `<|call|>` end a generation; `<|end|>` only ends a
 * message, after which the assistant opens the next one.
 *
 * Source: OpenAI's harmony format guide and its published renderer, whose ids the
 * corpus holds. Differences from the gpt-oss Jinja template: docs/NOTES.md.
 */
#ifndef CHAT_HARMONY_H
#define CHAT_HARMONY_H

#include "chat/chat.h"
#include "chat/scrub.h"
#include "tok/tok.h"

/* ── The vocabulary's markers ── immutable after harmony_init; copy freely. */
typedef struct harmony {
    const tok *t;                            /* borrowed */
    tok_cache *cache;                        /* borrowed, or NULL: text that was encoded before */
    int32_t start, message, end, channel;    /* always there */
    int32_t constrain, ret, call, endoftext; /* −1 where the vocabulary has none */
} harmony;

/* False when the vocabulary is not a harmony one. */
bool harmony_init(harmony *h, const tok *t);

/* ── Rendering ── */

/* A group of functions under one name ("functions", "browser"). */
typedef struct harmony_namespace {
    str name;
    str description;        /* may be empty; several lines allowed */
    const chat_tool *tools; /* rendered as TypeScript-like types … */
    size_t n_tools;
    str types; /* … or, when not empty, already so rendered */
} harmony_namespace;

/* "browser" or "python" as gpt-oss knows them; NULL for other names. */
const harmony_namespace *harmony_find_builtin(str name);

typedef struct harmony_system {
    str model_identity, knowledge_cutoff, start_date; /* empty = line left out */
    str reasoning_effort;                             /* written in lower case */
    const harmony_namespace *const *tools;
    size_t n_tools;
    const str *channels; /* valid channels; none = section left out */
    size_t n_channels;
    bool channel_required;
} harmony_system;

typedef struct harmony_developer {
    str instructions;
    bool has_instructions;
    const harmony_namespace *const *tools;
    size_t n_tools;
} harmony_developer;

typedef struct harmony_message {
    chat_role role;
    str name;         /* CHAT_TOOL: required, stands in place of the role */
    str recipient;    /* empty = none; "all" is not written */
    str channel;      /* empty = none */
    str content_type; /* "json", "<|constrain|>json"; empty = none */
    str text;         /* the content, unless one of: */
    const harmony_system *system;
    const harmony_developer *developer;
} harmony_message;

typedef struct harmony_render_opts {
    bool
        drop_analysis; /* when the last assistant message is final: leaves out the analysis before the
                            first final message, as OpenAI's renderer does */
    bool end_of_training; /* a last final message ends with <|return|> instead of <|end|> */
    bool open_assistant;  /* ends with "<|start|>assistant": what a generation continues */
} harmony_render_opts;

/* Appends to ids and text; either may be NULL. False: ERR_NO_MEMORY, or a tool message without name. */
bool harmony_render(const harmony *h, const harmony_message *messages, size_t n,
                    harmony_render_opts opts, tok_ids *ids, buf *text, error *err);

/* A conversation of the API's shape → prompt. System and developer messages at the start become one
 * developer message; reasoning is kept only after the last final answer (inside a tool loop); tools
 * are left out when the choice is none; `builtin_tools` of template_args (["browser", "python"]) is
 * honoured. ERR_TEMPLATE names the message: a tool result that answers no call. */
bool harmony_render_chat(const harmony *h, const chat_input *in, tok_ids *ids, buf *text,
                         error *err);

/* A JSON Schema as the format's type notation. Exposed for tests. */
void harmony_put_type(buf *out, const json_t *schema);

/* ── Parsing ──
 * Total: any ids in any order give messages, and a diagnostic where they are odd. Malformed input
 * is read as the nearest sensible message: a header without <|message|> becomes its own content, a
 * missing <|start|> means the assistant, a marker inside content ends the message.
 * Strict (for tests and tools): the first oddity stops the parser, see harmony_parser_failed.
 *
 *     harmony_push(p, id); while (harmony_next(p, &e)) …   and harmony_finish(p) at the end.
 *
 * Events and their strings are borrowed until the next push or finish. */
typedef enum harmony_end_kind {
    HARMONY_END_MESSAGE, /* <|end|> */
    HARMONY_END_RETURN,  /* <|return|> or <|endoftext|> */
    HARMONY_END_CALL,    /* <|call|> */
    HARMONY_END_CUT,     /* the ids stopped, or another message began */
} harmony_end_kind;

typedef struct harmony_header {
    chat_role role;
    str name, recipient, channel, content_type; /* empty = none */
} harmony_header;

typedef enum harmony_event_kind { HARMONY_BEGIN, HARMONY_TEXT, HARMONY_END } harmony_event_kind;

typedef struct harmony_event {
    harmony_event_kind kind;
    harmony_header header;     /* BEGIN */
    str text;                  /* TEXT: whole characters, ill-formed bytes are U+FFFD */
    harmony_end_kind end_kind; /* END */
} harmony_event;

enum {
    HARMONY_MAX_HEADER = 1024, /* bytes; a longer header is taken for content */
    HARMONY_MAX_EVENTS = 8,    /* of one push */
};

typedef struct harmony_parser {
    harmony h;
    bool strict;
    enum { HARMONY_OUTSIDE, HARMONY_IN_HEADER, HARMONY_IN_CONTENT } state;
    bool explicit_role; /* the header began with <|start|> */
    int section;        /* of the header: after <|start|>, <|channel|>, <|constrain|> */
    bool has_section[3];
    buf header_text[3];
    buf header_type;       /* "<|constrain|>" + type */
    harmony_header header; /* slices of the above */
    scrub scrub;           /* of the header section or the content that is open */
    buf text;              /* of this push */
    struct {
        harmony_event_kind kind;
        size_t begin, end;
        harmony_end_kind end_kind;
    } queue[HARMONY_MAX_EVENTS];
    int n_queue, at_queue;
    const char *diagnostic;
    bool stopped, failed;
} harmony_parser;

/* open_assistant: the prompt ended in "<|start|>assistant", so a header is already begun. */
void harmony_parser_init(harmony_parser *p, const harmony *h, bool open_assistant, bool strict);
void harmony_parser_deinit(harmony_parser *p);
void harmony_push(harmony_parser *p, int32_t id);
void harmony_finish(harmony_parser *p); /* no more ids: ends what is open */
bool harmony_next(harmony_parser *p, harmony_event *e);
/* The first odd thing seen, as a sentence, or NULL. */
static inline const char *harmony_diagnostic(const harmony_parser *p) {
    return p->diagnostic;
}
/* Strict: an oddity stopped it. Any mode: memory ran out (p->failed). */
static inline bool harmony_parser_failed(const harmony_parser *p) {
    return p->stopped || p->failed;
}

#endif
