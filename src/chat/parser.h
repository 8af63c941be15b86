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
    str id; /* CALL_BEGIN or, where it was written last, CALL_END: the model's own id; may be empty */
} parser_event;

/* How a family of models writes reasoning and calls in text: a row of formats/families.c. */
typedef struct parser_family parser_family;

/* Tags around reasoning in the text of one family. */
typedef struct parser_tags {
    str open, close; /* open is empty: none */
} parser_tags;

/* What one model's template says about its text. Copy freely. */
typedef struct parser_style {
    const parser_family *family; /* static; never NULL once found */
    parser_tags think;
} parser_style;

typedef struct parser_options {
    const tok *t;              /* borrowed */
    const harmony *harmony;    /* the harmony format; NULL = text */
    const parser_style *style; /* text: copied; NULL = all is content */
    bool inside;               /* harmony: the prompt already opened the assistant's header */
    bool show_special;         /* text: control tokens are shown too */
    bool show_reasoning;       /* reasoning is content, its markers included */
    bool json_answer;       /* text: the answer is one JSON value; a Markdown fence is left out */
    bool takes_calls;       /* tools were offered; else a call is a diagnostic */
    const chat_tool *tools; /* copied; parameters are referenced */
    size_t n_tools;
} parser_options;

typedef struct parser parser;

/* NULL when memory ran out. */
parser *parser_new(const parser_options *o);
void parser_free(parser *p);
void parser_push(parser *p, int32_t id);
/* As if ids of that text had come: what the prompt already wrote in the assistant's name, and tests.
 * Not for harmony, whose markers are ids. */
void parser_push_text(parser *p, str text);
void parser_finish(parser *p);
bool parser_next(parser *p, parser_event *e);
bool parser_failed(const parser *p); /* memory ran out */
/* The first odd thing seen, as a sentence, or NULL. */
const char *parser_diagnostic(const parser *p);
/* Ids that were reasoning, the markers around it included. */
int64_t parser_n_reasoning(const parser *p);

/* What a template's source says about the text its model writes. */
parser_style parser_find_style(str template_source);
/* The template shows no calls: a model must be told how to write them, see plain_tools.h. */
bool parser_style_is_plain(const parser_style *s);
/* The family's name ("hermes-json"), for logs and tests. Static. */
const char *parser_style_name(const parser_style *s);
/* The end of a prompt that is the beginning of the assistant's text: an opened reasoning, a marker
 * that a call or an answer follows. Empty when there is none. A slice of prompt. */
str parser_find_prefix(const parser_style *s, str prompt);

/* ── For formats ── */

typedef struct parser_format {
    size_t state_size; /* zeroed, then init */
    void (*init)(void *state, parser *p, const parser_options *o);
    void (*deinit)(void *state);
    void (*push)(void *state, int32_t id);
    void (*push_text)(void *state, str text); /* may be NULL */
    void (*finish)(void *state);
} parser_format;

extern const parser_format format_harmony, format_tagged;

/* Empty text is no event; pieces of one kind in one push are joined. */
void parser_put(parser *p, parser_event_kind kind, str text);
void parser_begin_call(parser *p, str name, str id);
void parser_end_call(parser *p, str id);
void parser_note(parser *p, const char *diagnostic); /* the first one stays; a literal */
void parser_set_reasoning(parser *p, bool inside);
void parser_fail(parser *p);

#endif
