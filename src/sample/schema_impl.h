/* Inside the schema compiler, between schema.c (keywords → sets of shapes, and their
 * algebra), schema_check.c (is it a schema at all?), schema_format.c and
 * schema_emit.c (shapes → the machine's tables); not a door.
 *
 * A schema expression (sx) is a number: a piece of the schema as written, or an
 * and/or/not of others; equal expressions are equal numbers. Lowering one gives a
 * `typed`: for every JSON type the list of shapes a value may have, a value being
 * good when it fits one of them. Nothing below the value itself is lowered with
 * it, so recursion through properties and items costs nothing.
 */
#ifndef SAMPLE_SCHEMA_IMPL_H
#define SAMPLE_SCHEMA_IMPL_H

#include "base/arena.h"
#include "sample/grammar_impl.h"

typedef int32_t sx;
enum { SX_FAILED = -1, SX_TRUE = 0, SX_FALSE = 1 };

typedef struct text_shape {
    rx pattern;        /* RX_ALL: no pattern */
    uint32_t min, max; /* characters; UINT32_MAX: no limit */
    bool has_values;
    const str *values;
    size_t n_values;
} text_shape;

typedef struct list_contains {
    sx what;
    uint32_t min, max;
} list_contains;

typedef struct list_shape {
    const sx *prefix;
    size_t n_prefix;
    sx rest;
    uint32_t min, max;
    const list_contains *contains;
    size_t n_contains;
    bool is_unique;
} list_shape;

typedef struct named_schema {
    str name;
    sx what;
} named_schema;
typedef struct matched_schema {
    rx pattern;
    sx what;
} matched_schema;

/* properties, patternProperties and additionalProperties of one schema object. */
typedef struct key_group {
    const named_schema *names;
    size_t n_names;
    const matched_schema *patterns;
    size_t n_patterns;
    sx others;
} key_group;

typedef struct map_some { /* a property under one of these names must be … */
    rx keys;
    sx what;
} map_some;

typedef struct map_shape {
    const key_group *groups; /* every one of them holds */
    size_t n_groups;
    const str *required;
    size_t n_required;
    const sx *names; /* propertyNames */
    size_t n_names;
    const map_some *some;
    size_t n_some;
    uint32_t min, max;
} map_shape;

#define LIST_OF(type)  \
    struct {           \
        type *v;       \
        size_t n, cap; \
    }

typedef struct typed {
    uint8_t lits;
    LIST_OF(text_shape) texts;
    LIST_OF(num_shape) nums;
    LIST_OF(list_shape) lists;
    LIST_OF(map_shape) maps;
} typed;

typedef struct schema_doc { /* a schema with a URI of its own; [0] is the root */
    str uri;
    json_t *root;
    bool old;       /* draft 7 and before: $ref hides its siblings */
    bool is_draft4; /* 1.0 is no integer */
} schema_doc;

typedef enum sx_op { SXO_TRUE, SXO_FALSE, SXO_RAW, SXO_CONST, SXO_AND, SXO_OR, SXO_NOT } sx_op;

typedef struct sx_node {
    uint8_t op;
    bool is_lowering;
    json_t *json;     /* RAW, CONST: borrowed */
    const char *path; /* RAW: where it stands, for errors */
    int32_t resource;
    int32_t a, b; /* NOT: a; AND, OR: kids [a, a + b) */
    uint64_t hash;
    typed *lowered;
    int32_t jnode; /* −1: none yet */
} sx_node;

typedef struct schema_ctx {
    grammar_builder *b;
    regexes *x;
    grammar_schema_options o;
    arena mem;
    json_t *root;
    sx_node *nodes;
    int32_t n_nodes, cap_nodes;
    int32_t *kids;
    int32_t n_kids, cap_kids;
    int32_t *table;
    uint32_t n_table;
    schema_doc *resources;
    int32_t n_resources, cap_resources;
    int32_t *work; /* jnode numbers' expressions still to be emitted */
    int32_t n_work, cap_work;
    int depth;
} schema_ctx;

bool schema_failed(const schema_ctx *c);
/* The schema is no schema. Returns false. */
bool schema_invalid(schema_ctx *c, const char *path, const char *keyword, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* The keyword cannot be enforced: false (failed), or true in lenient mode: go on without it. */
bool schema_unsupported(schema_ctx *c, const char *path, const char *keyword, const char *why);
const char *schema_path(schema_ctx *c, const char *base, const char *a, const char *b);

/* schema_check.c */
bool schema_check_all(schema_ctx *c, json_t *schema, const char *path, int depth);
/* schema_format.c: RX_ALL: an annotation; −1: cannot be enforced. Lowers *max to the characters that
 * the format allows: counted beside the automaton, for the product of both is too large. */
rx schema_format(schema_ctx *c, str name, uint32_t *max);

/* schema.c */
sx schema_raw(schema_ctx *c, json_t *schema, int32_t resource, const char *path);
sx schema_const(schema_ctx *c, json_t *value);
sx schema_and(schema_ctx *c, const sx *items, size_t n);
sx schema_not(schema_ctx *c, sx a);
typed *schema_lower(schema_ctx *c, sx a); /* NULL after a failure */
rx schema_text_rx(schema_ctx *c, const text_shape *t);
/* What keys a propertyNames schema lets through. */
rx schema_keys_rx(schema_ctx *c, sx a);
bool schema_is_empty(schema_ctx *c, sx a, int depth); /* surely no value fits */

/* schema_emit.c */
int32_t schema_emit(schema_ctx *c, sx root);

#endif
