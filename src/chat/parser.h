/* Model output → what it means: reasoning, content, tool calls. One interface
 * for every family; how a family writes is one small file in chat/formats/.
 * Parsers are total: any ids give events, oddities give a diagnostic.
 *
 *     parser_push(p, id); while (parser_next(p, &e)) …   and parser_finish(p) at the end.
 *
 * Not thread-safe: one owner.
 */
#ifndef CHAT_PARSER_H
#define CHAT_PARSER_H

#include "chat/harmony.h"

typedef enum parser_event_kind {
    PARSER_REASONING,  /* text */
    PARSER_CONTENT,    /* text: the answer */
    PARSER_PREAMBLE,   /* text the user sees beside the answer: words before a call, the empty line
                          between two messages */
    PARSER_CALL_BEGIN, /* text: the function's name */
    PARSER_CALL_ARGS,  /* text: a piece of the arguments */
    PARSER_CALL_END,
} parser_event_kind;

typedef struct parser_event {
    parser_event_kind kind;
    str text; /* whole characters; borrowed until the next push or finish */
    int call; /* CALL_*: 0, 1, … */
} parser_event;

/* Tags around reasoning in the text of one family. */
typedef struct parser_tags {
    str open, close;
} parser_tags;

typedef struct parser_options {
    const tok *t;            /* borrowed */
    const harmony *harmony;  /* the harmony format; NULL = text */
    const parser_tags *tags; /* text: reasoning between these; NULL = all is content */
    bool inside;             /* the prompt already opened the assistant's header / the reasoning */
    bool show_special;       /* text: control tokens are shown too */
    bool takes_calls;        /* tools were offered; else a call is a diagnostic */
    const chat_tool *tools;  /* their names are copied */
    size_t n_tools;
} parser_options;

typedef struct parser parser;

/* NULL when memory ran out. */
parser *parser_new(const parser_options *o);
void parser_free(parser *p);
void parser_push(parser *p, int32_t id);
void parser_finish(parser *p);
bool parser_next(parser *p, parser_event *e);
bool parser_failed(const parser *p); /* memory ran out */
/* The first odd thing seen, as a sentence, or NULL. */
const char *parser_diagnostic(const parser *p);
/* Ids that were reasoning, the markers around it included. */
int64_t parser_n_reasoning(const parser *p);

/* The tags a template's source speaks of, or NULL. Borrowed, static. */
const parser_tags *parser_find_tags(str template_source);

/* ── For formats ── */

typedef struct parser_format {
    size_t state_size; /* zeroed, then init */
    void (*init)(void *state, parser *p, const parser_options *o);
    void (*deinit)(void *state);
    void (*push)(void *state, int32_t id);
    void (*finish)(void *state);
} parser_format;

extern const parser_format format_harmony, format_text;

/* Empty text is no event; pieces of one kind in one push are joined. */
void parser_put(parser *p, parser_event_kind kind, str text);
void parser_begin_call(parser *p, str name);
void parser_end_call(parser *p);
void parser_note(parser *p, const char *diagnostic); /* the first one stays; a literal */
void parser_set_reasoning(parser *p, bool inside);
void parser_fail(parser *p);

#endif
