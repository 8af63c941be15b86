/* The conversation as every door knows it: messages, tools, and what a model
 * family makes of them. All strings are borrowed UTF-8 slices; the owner is the
 * request's arena.
 */
#ifndef CHAT_CHAT_H
#define CHAT_CHAT_H

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

typedef enum chat_role {
    CHAT_SYSTEM,
    CHAT_DEVELOPER,
    CHAT_USER,
    CHAT_ASSISTANT,
    CHAT_TOOL
} chat_role;

typedef struct chat_call {
    str id; /* "call_…" */
    str name;
    str arguments; /* the JSON text as the model or the client wrote it; a custom tool's free text */
    bool is_custom;
} chat_call;

typedef struct chat_message {
    chat_role role;
    str content;      /* text parts joined; empty when has_content is false */
    bool has_content; /* false = null (an assistant message of calls only) */
    str reasoning;    /* analysis of an assistant message, when the client sent it back */
    str name;         /* participant or function name; may be empty */
    str call_id;      /* CHAT_TOOL: which call this answers */
    const chat_call *calls;
    size_t n_calls;
} chat_message;

typedef enum chat_format { CHAT_FORMAT_TEXT, CHAT_FORMAT_REGEX, CHAT_FORMAT_LARK } chat_format;

typedef struct chat_tool {
    str name, description;
    json_t *parameters;        /* JSON Schema object, borrowed; NULL = none declared */
    const char *schema_member; /* where errors say they stand; NULL = "function.parameters" */
    bool strict;               /* what the schema asks for is enforced, all of it */
    bool is_barred;            /* the model is told of it but may not call it now */
    bool is_custom;            /* takes free text instead of parameters … */
    chat_format format;        /* … of this form … */
    str definition;            /* … which the pattern or grammar here describes */
} chat_tool;

typedef enum chat_tool_choice {
    CHAT_TOOLS_AUTO,
    CHAT_TOOLS_NONE,
    CHAT_TOOLS_REQUIRED /* one that is not barred, right behind the reasoning */
} chat_tool_choice;

/* The form of an answer in words. */
typedef enum chat_answer_kind {
    CHAT_ANSWER_TEXT,
    CHAT_ANSWER_JSON,   /* any object */
    CHAT_ANSWER_SCHEMA, /* a value of schema */
    CHAT_ANSWER_REGEX,  /* source is … */
    CHAT_ANSWER_LARK,
    CHAT_ANSWER_GBNF
} chat_answer_kind;

typedef struct chat_answer {
    chat_answer_kind kind;
    json_t *schema; /* borrowed */
    str source;
    const char *param; /* where the schema or source stands in the request, for errors */
} chat_answer;

typedef struct chat_input {
    const chat_message *messages;
    size_t n_messages;
    const chat_tool *tools;
    size_t n_tools;
    chat_tool_choice tool_choice;
    bool one_call;             /* at most one in an answer */
    bool are_functions;        /* tools came as the deprecated 'functions': errors name those */
    const chat_answer *answer; /* NULL = words as the model likes */
    str started; /* what the assistant has said already: the answer goes on from there, without thinking
                    first and without repeating it; empty = it begins. Not with tools or a form */
    bool show_reasoning;   /* reasoning is content, as the model marks it */
    str reasoning_effort;  /* "low" "medium" "high" …; empty = the family's default */
    str model_identity;    /* harmony system identity; empty = the family's default */
    str knowledge_cutoff;  /* "2024-06"; empty = the family's default */
    int64_t now;           /* Unix seconds: "Current date" and strftime_now (UTC) */
    json_t *template_args; /* extra variables for a Jinja template, borrowed, or NULL; harmony takes
                              "builtin_tools": ["browser", "python"] from it */
} chat_input;

#endif
