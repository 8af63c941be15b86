/* Inside the schema compiler; not a door. In the order of a schema's way through it:
 * schema_check.c (is it a schema at all?), schema.c (expressions), schema_refs.c
 * (what a $ref leads to), schema_words.c with schema_format.c (keywords → sets of
 * shapes), schema_sets.c (their algebra), schema_emit.c (shapes → the machine's
 * tables).
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
/* More than a named limit allows. False. */
bool schema_too_much(schema_ctx *c, const char *limit, int n);
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

/* schema_refs.c */
/* The resources below c->root, itself the first. False: no memory. */
bool schema_list_resources(schema_ctx *c);
/* The schema under the keywords a and b of `at`. */
sx schema_sub(schema_ctx *c, const sx_node *at, json_t *schema, const char *a, const char *b);
sx schema_sub_index(schema_ctx *c, const sx_node *at, json_t *list, size_t i, const char *keyword);
/* What `ref`, written under the keyword, refers to. */
sx schema_resolve(schema_ctx *c, const sx_node *at, str ref, const char *keyword);
int schema_count_dynamic_anchors(json_t *s, int depth);

/* schema_words.c */
typed *schema_lower(schema_ctx *c, sx a); /* NULL after a failure */
/* What keys a propertyNames schema lets through. */
rx schema_keys_rx(schema_ctx *c, sx a);

/* schema_sets.c; NULL goes in and comes out after a failure. */
enum { MAX_LOWER_DEPTH = 400, MAX_EMPTY_DEPTH = 4 };
static const text_shape SHAPE_ANY_TEXT = {.pattern = RX_ALL, .max = UINT32_MAX};
typed *typed_none(schema_ctx *c);
typed *typed_all(schema_ctx *c);
bool typed_is_empty(const typed *t);
typed *typed_and(schema_ctx *c, const typed *a, const typed *b);
/* `depth`: how far into values the search for what is impossible goes; MAX_EMPTY_DEPTH: not at all. */
typed *typed_and_deep(schema_ctx *c, const typed *a, const typed *b, int depth);
typed *typed_or(schema_ctx *c, const typed *a, const typed *b);
/* NULL with *why: the rest is no set of shapes. */
typed *typed_not(schema_ctx *c, const typed *a, const char **why);
/* An object with this property, which is `what` or (SX_FALSE) may not be. */
void typed_push_property(schema_ctx *c, typed *t, str name, sx what, bool required);
bool schema_and_number(schema_ctx *c, const num_shape *a, const num_shape *b, num_shape *out);
rx schema_text_rx(schema_ctx *c, const text_shape *t);
bool schema_is_empty(schema_ctx *c, sx a, int depth); /* surely no value fits */

/* Appends to one of a typed's lists. */
#define SHAPE_PUSH(c, list, item)                                                        \
    do {                                                                                 \
        if ((list).n == (list).cap) {                                                    \
            size_t cap_ = (list).cap ? (list).cap * 2 : 4;                               \
            void *p_ = cap_ <= GRAMMAR_MAX_ALTERNATIVES * 2                              \
                           ? arena_array(&(c)->mem, cap_, sizeof *(list).v)              \
                           : NULL;                                                       \
            if (!p_) {                                                                   \
                schema_too_much(c, "ways to write one value (GRAMMAR_MAX_ALTERNATIVES)", \
                                GRAMMAR_MAX_ALTERNATIVES);                               \
                break;                                                                   \
            }                                                                            \
            if ((list).n) memcpy(p_, (list).v, (list).n * sizeof *(list).v);             \
            (list).v = p_;                                                               \
            (list).cap = cap_;                                                           \
        }                                                                                \
        (list).v[(list).n++] = (item);                                                   \
    } while (0)

/* schema_emit.c */
int32_t schema_emit(schema_ctx *c, sx root);

#endif
