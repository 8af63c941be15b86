/* Inside chat/formats: how families write tool calls in text, as data, and the
 * five ways to read one. tagged.c finds where a call begins; a reader takes over
 * until the call is complete and hands its text back.
 *
 * Readers are total and incremental: what they report depends on the bytes, not
 * on where those were cut. Each says after every push whether it wants more, is
 * done, or has read something that is no call.
 */
#ifndef CHAT_FORMATS_TAGGED_H
#define CHAT_FORMATS_TAGGED_H

#include "chat/parser.h"

typedef enum call_style {
    CALLS_NONE,
    CALLS_JSON,       /* {"name": …, "arguments": {…}}, or a list of them */
    CALLS_NAMED,      /* a name, separators, then the arguments as JSON */
    CALLS_XML,        /* a name, then tagged parameters with text or JSON in them */
    CALLS_PYTHON,     /* [name(key=value), …] */
    CALLS_LITERAL,    /* call:name{key:value, …} with odd quotes */
    CALLS_PYTHON_TAG, /* JSON, name.call(key=value), or bare code for an interpreter */
} call_style;

/* ── A family ── */

/* Begins a CALLS_PYTHON_TAG call, whatever the family's style. */
#define FAMILY_PYTHON_TAG "<|python_tag|>"

enum { FAMILY_MAX_OPEN = 3, FAMILY_MAX_DROP = 10, FAMILY_MAX_AFTER = 4, FAMILY_MAX_SEPS = 2 };

enum {
    FAMILY_ENDS_THINKING = 1 << 0,   /* a call may come before the reasoning was closed */
    FAMILY_THINKS_ANYWHERE = 1 << 1, /* reasoning may begin after the answer did */
    FAMILY_BARE = 1 << 2,            /* an answer that begins with { may be a call */
    FAMILY_KNOWN_ONLY = 1 << 3,      /* weak markers: a call must name an offered tool */
    FAMILY_TRIMS_LINES = 1 << 4,     /* XML: a line break on both sides of a value is not its own */
    FAMILY_BEGINS_THINKING = 1 << 5, /* reasoning comes first and is never opened, only closed */
    FAMILY_KEYED = 1 << 6,           /* JSON: {name: arguments} */
};

/* Parts of a named call's head: its kind (no news), the name, the id, the arguments. */
typedef struct family_sep {
    const char *text;
    char next; /* what follows it: 'n' name, 'i' id, 'a' arguments */
} family_sep;

typedef struct family_xml {
    const char *name_end;  /* after the function's name, "" = white space or the next tag */
    const char *param;     /* before a parameter's name … */
    const char *key_end;   /* … after it and its attributes … */
    const char *value;     /* … before its value, "" = at once … */
    const char *value_end; /* … after it */
    const char *end;       /* after the last parameter */
    const char *is_string; /* in a parameter's attributes: its value is text, */
    const char *is_json;   /* or JSON; NULL = the schema says */
} family_xml;

/* How to write a call so that its reader, and the model's memory of its own calls, agree. */
typedef struct family_writing {
    const char *before;      /* all calls */
    const char *before_name; /* each call */
    const char *before_args; /* after the name (and the id) */
    const char *after_args;
    const char *between; /* two calls */
    const char *after;   /* all calls */
} family_writing;

struct parser_family {
    const char *name;
    const char *signs[3]; /* the template's source holds all of these */
    const char *think[2]; /* NULL: as the source says, see families.c */
    unsigned flags;
    call_style style;
    const char *open[FAMILY_MAX_OPEN]; /* begins a call or a list of calls */
    const char *drop[FAMILY_MAX_DROP]; /* wrappers, never content */
    /* Ends of a call, dropped right behind one; the first also ends one without arguments. */
    const char *after[FAMILY_MAX_AFTER];
    char head; /* CALLS_NAMED: what the head begins with, as family_sep */
    family_sep seps[FAMILY_MAX_SEPS];
    family_xml xml;
    family_writing writing;
};

/* ── Reading one call ── */

typedef enum call_state { CALL_MORE, CALL_DONE, CALL_BAD } call_state;

enum {
    CALL_MAX_HEAD = 512, /* bytes of name, id and markers before the arguments */
    CALL_MAX_NAME = 256,
    CALL_MAX_DEPTH = 64,     /* of brackets in literals */
    CALL_MAX_VALUE = 1 << 20 /* bytes of a value that must be read whole to know what it is */
};

/* Where calls go, and what is known about the tools. */
typedef struct call_sink {
    parser *p;
    const parser_family *family;
    const chat_tool *tools;
    size_t n_tools;
    int n;     /* calls begun by this reader */
    bool open; /* the last one is not ended */
    bool failed;
} call_sink;

const chat_tool *call_find_tool(const call_sink *s, str name);
/* False: this family's calls must be of tools that were offered. */
bool call_begin(call_sink *s, str name, str id);
void call_put(call_sink *s, str args);
void call_end(call_sink *s, str id);

/* A JSON value byte by byte: where does it end? Not a validator. */
typedef struct json_walk {
    int depth;
    bool begun, in_string, escaped, is_scalar;
} json_walk;
typedef enum walk_step { WALK_IN, WALK_LAST, WALK_BEHIND, WALK_BAD } walk_step;
/* IN: c belongs to the value. LAST: and ends it. BEHIND: the value (a number or word) ended before c.
 * Space before the value must have been skipped. */
walk_step json_walk_byte(json_walk *w, char c);

typedef struct call_json {
    enum { JSON_ITEM, JSON_KEY, JSON_IN_KEY, JSON_COLON, JSON_VALUE, JSON_IN_VALUE } at;
    enum { JSON_SKIP, JSON_NAME, JSON_ID, JSON_ARGS, JSON_INNER } what; /* of the value */
    bool in_list, has_args, escaped;
    int n_objects, nesting; /* objects read; objects around name and arguments beyond the first */
    json_walk walk;
    buf key, value, name, id;
    buf early;  /* arguments that came before the name */
    bool whole; /* arguments that are text are read whole */
} call_json;

typedef struct call_named {
    bool in_args, begun;
    json_walk walk;
    buf head;
} call_named;

typedef struct call_xml {
    enum { XML_NAME, XML_BETWEEN, XML_KEY, XML_TO_VALUE, XML_VALUE } at;
    buf name, key, value;
    int n_params;
    bool is_text; /* the open value goes out as a string, piece by piece */
    bool cdata;
    bool started;  /* the value's first bytes were looked at */
    unsigned type; /* CALL_TYPE_* the schema allows; 0 = unknown */
} call_xml;

typedef struct call_literal {
    enum { LITERAL_NAME, LITERAL_KEY, LITERAL_VALUE, LITERAL_AFTER } at;
    buf name, word;
    char
        stack[CALL_MAX_DEPTH]; /* open brackets inside a value; ':' = a dict that waits for a key */
    int depth, n_params;
    char quote; /* of the open string; 1 = the family's own quote marker */
    bool in_string, escaped, in_list, expect_key;
    bool has_value, comma; /* a value (or key) stands already where one could; a comma is due */
    int n_hex; /* digits of an escape still to come */
    uint32_t cp, high; /* high: the first half of a pair, whose second has to come */
} call_literal;

typedef struct call_reader {
    const parser_family *family;
    call_style style;
    call_sink sink;
    union {
        call_json json;
        call_named named;
        call_xml xml;
        call_literal literal;
    };
    enum { TAG_UNDECIDED, TAG_JSON, TAG_CALL, TAG_CODE } tag; /* CALLS_PYTHON_TAG */
} call_reader;

/* style: the family's, or CALLS_JSON for a bare object. */
void call_reader_init(call_reader *r, const parser_family *f, call_style style, call_sink sink);
void call_reader_deinit(call_reader *r);
/* Takes bytes from the front of text and says how many; the rest is to be offered again with more
 * behind it. last: no more comes. */
call_state call_read(call_reader *r, str text, bool last, size_t *used);

/* One for each style; see call_read. */
call_state call_json_read(call_reader *r, str text, bool last, size_t *used);
call_state call_named_read(call_reader *r, str text, bool last, size_t *used);
call_state call_xml_read(call_reader *r, str text, bool last, size_t *used);
call_state call_literal_read(call_reader *r, str text, bool last, size_t *used);

/* JSON types as bits, and which a property's schema allows (0 = it does not say). */
enum {
    CALL_TYPE_STRING = 1,
    CALL_TYPE_NUMBER = 2,
    CALL_TYPE_BOOL = 4,
    CALL_TYPE_NULL = 8,
    CALL_TYPE_OBJECT = 16,
    CALL_TYPE_ARRAY = 32,
};
unsigned call_find_type(const json_t *parameters, str property);
unsigned call_types_of(const json_t *parameters, const json_t *schema);
/* What "#/$defs/name" of the same schema stands for; other references say nothing. */
const json_t *call_follow(const json_t *parameters, const json_t *schema);

static inline bool call_is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

#endif
