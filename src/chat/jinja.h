/* Chat templates: the Jinja language as model files use it, from template and
 * JSON context to the text of a prompt.
 *
 * The language is that of Jinja2 3.1 in the environment which Hugging Face's
 * transformers sets up for chat templates: trim_blocks and lstrip_blocks on, no
 * autoescape, `break` and `continue`, `{% generation %}`, raise_exception(),
 * strftime_now(), and a tojson that writes what Python's json.dumps writes.
 * Values print as Python prints them (`True`, `None`, `['a', 1.0]`).
 * Differences, all of them narrow: integers are 64 bits and overflow is an
 * error; lists and dicts may be changed by their methods (the sandbox of
 * transformers refuses); numbers have no attributes; what fails among constants is an error (Jinja2 folds
 * it to undefined: none[1:]); urlize does not exist; filters such as select() run at once instead of when
 * their result is read; an unknown filter or test is an error only when it is
 * reached; include, import and extends have nothing to load from and are
 * refused; a name that an outer block sets further down still has its old value
 * inside an inner block (Jinja2: undefined); `random` and lipsum() do not exist because rendering is pure.
 *
 * Provenance. A prompt is half the template's words and half a stranger's. Only
 * the former may contain special tokens, so every string knows byte by byte who
 * wrote it, through every operation: template literals are trusted, strings of
 * the context are data, and a value computed from data is data. The output says
 * which byte ranges are trusted, in the shape tok_encode() takes.
 *
 * Templates come from strangers too: parsing bounds nesting, rendering bounds
 * steps, depth, output and memory. Each bound ends in one ERR_TEMPLATE sentence
 * that begins with the template's line.
 *
 * Threads: a jinja is immutable after parsing and may be rendered by many
 * threads at once. A render allocates from one arena, freed before it returns.
 */
#ifndef CHAT_JINJA_H
#define CHAT_JINJA_H

#include "base/buf.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"
#include "tok/tok.h"

typedef struct jinja jinja;

/* 0 in any field means the default named here. */
typedef struct jinja_limits {
    uint64_t max_steps; /* expressions, statements, items, 64-byte pieces of text: 20 million */
    int max_depth;      /* nested evaluations and nesting of values: 1,000 */
    size_t max_output_bytes; /* 16 MiB */
    size_t max_memory_bytes; /* everything a render holds, garbage included: 128 MiB */
} jinja_limits;

typedef struct jinja_opts {
    jinja_limits limits;
    int64_t now_unix_s;   /* what strftime_now() tells, Unix seconds … */
    int32_t utc_offset_s; /* … shifted by this, the local zone's distance from UTC */
    /* Context values the caller vouches for: a top-level name ("bos_token") or a path below one
     * ("messages[].role", where [] is any element). Everything below that point is trusted, so
     * list only what no stranger can write: the vocabulary's own tokens, roles that were checked. */
    const char *const *trusted;
    size_t n_trusted; /* at most JINJA_MAX_TRUSTED */
} jinja_opts;

enum {
    JINJA_MAX_TRUSTED = 16,
    JINJA_MAX_SOURCE_BYTES = 1 << 20,
    JINJA_MAX_NESTING = 150, /* tags in tags, brackets in brackets, as written in the source */
    JINJA_MAX_HEIGHT = 400   /* of an expression's tree, such as a + a + a … */
};

typedef struct jinja_output {
    buf text;
    tok_span *trusted; /* sorted, disjoint, not adjacent: what the template wrote */
    size_t n_trusted;
} jinja_output;

/* NULL with ERR_TEMPLATE and the line when the source is not a template. The source is copied. */
jinja *jinja_parse(str source, error *err);
void jinja_free(jinja *t);

/* context is a JSON object: the template's variables; only read. A name that is null there is None,
 * one that is absent is undefined. `out` is written only on success; free it with
 * jinja_output_deinit. opts may be NULL. The template's own raise_exception(msg) becomes
 * ERR_TEMPLATE with exactly msg; every other failure starts with "Template line N: ". */
bool jinja_render(const jinja *t, const json_t *context, const jinja_opts *opts, jinja_output *out,
                  error *err);
void jinja_output_deinit(jinja_output *out);

/* Whether the template mentions a variable of this name, such as "enable_thinking" or "tools". */
bool jinja_mentions(const jinja *t, str name);

#endif
