/* What a model may say next. A `grammar` is compiled once, immutable and shared;
 * a `matcher` walks it for one sequence and answers which token ids are possible.
 *
 * The alphabet is mixed: bytes, and the ids of special tokens as symbols of their
 * own. So a family's whole answer is one grammar ("<|channel|>analysis<|message|>
 * any text <|end|> … final <|message|> {a JSON value of this schema} <|return|>").
 * A special token never matches by its text, and text never makes a special token.
 *
 * A token is allowed only when what has been said, with it, can still be completed.
 *
 * JSON is recognised by a pushdown machine whose frames carry the schema and what
 * has been seen of it, so properties are read in any order, in any spelling of
 * strings. Decisions that the specification leaves open: a property may not occur
 * twice; escapes of lone surrogates are refused. Numbers and blanks when
 * generating: see matcher_options.
 *
 * Threads: grammar and grammar_vocab are immutable and shared freely (atomic
 * reference counts); a builder and a matcher belong to one thread at a time.
 * matcher_mask, _accept and _forced allocate nothing.
 */
#ifndef SAMPLE_GRAMMAR_H
#define SAMPLE_GRAMMAR_H

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"
#include "tok/tok.h"

/* What a grammar may cost. Beyond: ERR_UNSUPPORTED_VALUE that names the limit. */
enum {
    GRAMMAR_MAX_SOURCE = 1 << 20,     /* bytes of a schema, pattern or grammar text */
    GRAMMAR_MAX_NODES = 200000,       /* of a builder */
    GRAMMAR_MAX_REPEAT = 100000,      /* the bounds of one repetition */
    GRAMMAR_MAX_REGEX_NODES = 400000, /* distinct expressions while one grammar is compiled */
    GRAMMAR_MAX_REGEX_WORK =
        6000000, /* derivatives taken for one grammar; expressions built: five times */
    GRAMMAR_MAX_DFA_STATES = 30000,  /* of one automaton */
    GRAMMAR_MAX_SCHEMA_DEPTH = 200,  /* nesting of the schema's own JSON */
    GRAMMAR_MAX_SCHEMAS = 50000,     /* distinct (sub)schemas, combinations included */
    GRAMMAR_MAX_ALTERNATIVES = 2000, /* of one value */
    GRAMMAR_MAX_JSON_DEPTH = 256,    /* nesting of a generated value */
    GRAMMAR_MAX_THREADS = 512,       /* readings of the text followed at once */
    GRAMMAR_ROOM =
        192 << 10, /* bytes of what they have read; real schemas need 16 KiB (a matcher has two) */
};

typedef struct grammar grammar;

grammar *grammar_ref(const grammar *g);
void grammar_unref(const grammar *g);
/* Equal sources built equally have equal hashes. */
uint64_t grammar_hash(const grammar *g);

/* ── Building ──
 * Every call returns a node of the builder, −1 after an error. Errors are sticky: the first is
 * reported by grammar_build, and every call after it is a no-op, so one check at the end is enough.
 * Nodes may be used several times. Strings and arrays are copied. */
typedef struct grammar_builder grammar_builder;
typedef int32_t grammar_node;

grammar_builder *grammar_builder_new(void); /* NULL: no memory; the calls below take NULL */
void grammar_builder_free(grammar_builder *b);
/* The language of `root`. NULL with the first error (its `param` is what the failing call named); a
 * grammar that no text matches is ERR_INVALID_VALUE. b is spent: only grammar_builder_free may follow. */
grammar *grammar_build(grammar_builder *b, grammar_node root, error *err);
bool grammar_builder_failed(const grammar_builder *b);

grammar_node grammar_bytes(grammar_builder *b, str literal); /* exactly these bytes; empty = ε */
grammar_node grammar_set(grammar_builder *b, const uint64_t set[4]); /* one byte of the set */
grammar_node grammar_token(grammar_builder *b, int32_t id);          /* one special token */
grammar_node grammar_seq(grammar_builder *b, const grammar_node *items, size_t n); /* 0 = ε */
grammar_node grammar_alt(grammar_builder *b, const grammar_node *items, size_t n);
/* max −1: no limit. */
grammar_node grammar_repeat(grammar_builder *b, grammar_node item, int32_t min, int32_t max);
static inline grammar_node grammar_optional(grammar_builder *b, grammar_node item) {
    return grammar_repeat(b, item, 0, 1);
}
/* Any well-formed UTF-8, also none, in which none of the markers (byte strings) occurs. What follows
 * usually begins with a marker, or is a special token. */
grammar_node grammar_text(grammar_builder *b, const str *markers, size_t n);
/* Recursion: declare, use, define once. Left recursion is removed where it is direct, else refused. */
grammar_node grammar_declare(grammar_builder *b);
void grammar_define(grammar_builder *b, grammar_node declared, grammar_node body);
/* The whole text matches (no search); ECMAScript's syntax, `.` without line ends, no backreferences,
 * no look-behind, no \b. `param` names the parameter for errors. */
grammar_node grammar_regex(grammar_builder *b, str pattern, const char *param);
/* A grammar text whose start is root (GBNF) or start (Lark). */
grammar_node grammar_gbnf(grammar_builder *b, str source, const char *param);
grammar_node grammar_lark(grammar_builder *b, str source, const char *param);

typedef struct grammar_schema_options {
    const char *param; /* where the schema stands in the request: errors are "param" + JSON path */
    error_code code;   /* of errors about the schema; 0 = ERR_INVALID_VALUE */
    /* false: a keyword that cannot be enforced is an error that names it. true: it is left out and
     * its path is appended to `ignored`. An invalid schema is an error in either case. Lenient, properties
     * are written in the schema's order only where all of them are required, so that none is lost to a
     * model that thought of it too late. */
    bool lenient;
    buf *ignored; /* lenient: comma-separated paths; may be NULL */
    /* The root must be an object whatever the schema says: arguments of a call. */
    bool must_be_object;
} grammar_schema_options;
/* One JSON value that the schema accepts; draft 2020-12, with draft 4–7 spellings. `schema` is an
 * object or a boolean, not changed, not kept. o may be NULL. */
grammar_node grammar_schema(grammar_builder *b, json_t *schema, const grammar_schema_options *o);
/* Any JSON object; any JSON value. */
grammar_node grammar_json_object(grammar_builder *b);
grammar_node grammar_json_value(grammar_builder *b);

/* One-call forms of the above. */
grammar *grammar_from_schema(json_t *schema, const grammar_schema_options *o, error *err);
grammar *grammar_from_regex(str pattern, const char *param, error *err);
grammar *grammar_from_gbnf(str source, const char *param, error *err);
grammar *grammar_from_lark(str source, const char *param, error *err);

/* ── The vocabulary, prepared: a trie of the tokens' bytes ── */
typedef struct grammar_vocab grammar_vocab;
/* Keeps a reference to t. O(bytes of the vocabulary). */
grammar_vocab *grammar_vocab_new(tok *t, error *err);
/* What it takes at most; for a plan. */
uint64_t grammar_vocab_plan_bytes(const tok *t);
grammar_vocab *grammar_vocab_ref(const grammar_vocab *v);
void grammar_vocab_unref(const grammar_vocab *v);
int32_t grammar_vocab_n(const grammar_vocab *v);

/* ── One sequence ── */
typedef struct matcher matcher;

typedef struct matcher_options {
    /* false (generating): blanks between JSON's tokens are bounded (none before ':' and ',', one
     * space after them, or a line end and up to 4 columns per level), and numbers
     * are written plainly (no exponent; integers without a fraction; digits bounded), names and strings
     * that are not free escape only what must be, so
     * that a model cannot fill an answer with blanks or digits. Every text is a valid instance.
     * true (recognising): everything JSON allows; a number's bounds are checked where it ends. */
    bool exact;
} matcher_options;

/* A matcher for vocabularies up to n_vocab, without a grammar. All memory it will ever use is allocated
 * here, matcher_plan_bytes of it; 0: only bytes can be pushed. */
matcher *matcher_reserve(int32_t n_vocab, error *err);
uint64_t matcher_plan_bytes(int32_t n_vocab);
/* Takes its pages from the system now. */
void matcher_hold(matcher *m);
/* Stands at the beginning of g; takes references to g and v (NULL: only bytes). False when g begins in
 * more ways than GRAMMAR_MAX_THREADS: then it has failed, see matcher_failed. Allocates nothing. */
bool matcher_start(matcher *m, const grammar *g, const grammar_vocab *v, matcher_options o,
                   error *err);
void matcher_stop(matcher *m); /* lets go of both */
/* Both in one. */
matcher *matcher_new(const grammar *g, const grammar_vocab *v, matcher_options o, error *err);
void matcher_free(matcher *m);
void matcher_reset(matcher *m); /* back to the start */
/* Makes dst stand where src stands; same grammar, vocabulary and options. */
void matcher_copy(matcher *dst, const matcher *src);

/* Bit id & 63 of word id >> 6 says whether id may come next; [(n_vocab + 63) / 64], borrowed until
 * the next call. Ids that end generation (tok_is_end) are allowed where the text may end, whether
 * or not the grammar names them. */
const uint64_t *matcher_mask(matcher *m);
int32_t matcher_n_vocab(const matcher *m);
bool matcher_allows(matcher *m, int32_t id);
/* Walks on. False (and nothing changes) when the token is not allowed. An end token where the text
 * may end finishes the matcher. */
bool matcher_accept(matcher *m, int32_t id);
/* Being done in time. At most n_room more tokens will be said, the one that ends generation with them
 * (−1: as many as it takes): when they become few, a token behind which the text can no longer be
 * completed in the rest is refused; when there is no other, those remain that go farthest along a shortest
 * way out. `insist` (−1: none) is an id that comes wherever it may come: with it thinking ends. Both
 * hold for the masks until the next call, matcher_start or matcher_reset. */
void matcher_hurry(matcher *m, int64_t n_room, int32_t insist);
/* Bytes and special tokens of a shortest way out, give or take a few (see grammar_left.h). */
size_t matcher_left(const matcher *m);
/* The same for ids known to be allowed, which matcher_forced gave or matcher_accept took before: no mask
 * is made. False: one of them was not. */
bool matcher_follow(matcher *m, const int32_t *ids, size_t n);
/* The same for bytes, for tests and recognising: how many were accepted. */
size_t matcher_push(matcher *m, str bytes);
bool matcher_can_end(const matcher *m); /* the text so far is in the language */
bool matcher_is_done(const matcher *m); /* … and nothing can follow it */
/* Ids that must come next, whatever the model thinks: one canonical tokenisation of the forced text,
 * without the last token where a free continuation could have merged with it. Returns their number,
 * at most cap; they are not accepted yet. */
size_t matcher_forced(matcher *m, int32_t *ids, size_t cap);
/* More readings or nesting than the limits: the matcher allows nothing but to end. */
bool matcher_failed(const matcher *m);

/* Whole text against whole grammar, exact. */
bool grammar_accepts(const grammar *g, str text);

#endif
