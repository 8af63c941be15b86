/* Inside grammars: the compiled form, between the builders and the matcher; not a door.
 *
 * A grammar is a program of nodes (sequence, alternative, …) whose leaves are bytes,
 * automata, special tokens and JSON values. A JSON value is a `jnode`: what it may
 * be, type by type; objects and arrays lead to further jnodes.
 */
#ifndef SAMPLE_GRAMMAR_IMPL_H
#define SAMPLE_GRAMMAR_IMPL_H

#include <stdatomic.h>

#include "sample/grammar.h"
#include "sample/number.h"
#include "sample/regex.h"

typedef enum gop {
    G_FAIL,
    G_EPS,
    G_LIT,
    G_SET,
    G_TOKEN,
    G_DFA,
    G_SEQ,
    G_ALT,
    G_REP,
    G_CALL,
    G_JSON
} gop;

typedef struct gnode {
    uint8_t op;
    bool nullable, productive;
    int32_t a, b; /* LIT: text [a, a + b); SEQ, ALT: kids [a, a + b); SET, DFA, JSON, CALL, REP: a;
                     TOKEN: id a */
    int32_t min, max; /* REP; max −1: no limit */
    uint32_t least;   /* bytes and special tokens of its shortest text, see grammar_left.h */
} gnode;

enum { JLIT_NULL = 1, JLIT_TRUE = 2, JLIT_FALSE = 4 };

/* A value: lists of shapes by type, [first, first + n) in the grammar's arrays. */
typedef struct jnode {
    uint8_t lits;
    uint16_t height; /* containers that any instance nests at least; UINT16_MAX: there is none */
    uint32_t least;  /* as a node's */
    uint32_t str, n_str, num, n_num, arr, n_arr, obj, n_obj;
} jnode;

typedef struct str_shape {
    uint32_t dfa; /* over the decoded characters */
    bool counts;  /* length limits beside the automaton */
    uint32_t min, max;
    /* Where the automaton is not that of all text: bit k of a state's row: k more characters can lead to
     * acceptance. Rows reach to max, or to min where there is no max (the last bit: that many or more). */
    uint64_t *lengths; /* [n_states][n_length_words] or NULL */
    uint32_t n_length_words;
} str_shape;

enum { ARR_MAX_CONTAINS = 4, OBJ_MAX_SOME = 16 };

typedef struct arr_choice {
    uint32_t node;
    uint8_t hits; /* bit k: counts as one that the k-th `contains` is about */
} arr_choice;

typedef struct arr_shape {
    uint32_t n_prefix;
    uint32_t *first; /* [n_prefix + 2]: choices of position i are [first[i], first[i + 1]); all
                             positions from n_prefix on share the last */
    arr_choice *choices;
    uint32_t min, max; /* items; UINT32_MAX: no limit */

    uint32_t n_contains;
    uint32_t min_hits[ARR_MAX_CONTAINS], max_hits[ARR_MAX_CONTAINS]; /* several: below 256 each */
    bool is_unique;                                                  /* items are strings only */
    uint32_t unique_dfa;
    uint16_t height;
} arr_shape;

typedef struct obj_choice {
    uint32_t node;
    uint32_t hits; /* bit k: is the property that the k-th "some" wants */
} obj_choice;

typedef struct obj_some { /* some property has to be …: its bit is n_named + k */
    uint64_t *names;      /* [n_words] named properties that can be it */
    bool others;          /* others can */
} obj_some;

typedef struct obj_shape {
    uint32_t
        dfa; /* of keys; label < n_named: that property, in the schema's order, else a class of others */
    uint32_t n_named, n_words;
    uint32_t n_slots;

    uint32_t
        *first; /* [n_slots + 1] label → choices [first, next first); the first is the plain one */
    obj_choice *choices;
    obj_some some[OBJ_MAX_SOME];
    uint32_t n_some;
    uint64_t *required; /* [n_words] */
    uint32_t n_required;
    /* A generator writes the names in their order, which is the schema's: none before one that has come, and
     * none behind one that is required and has not. Not where more properties are wanted than are required,
     * nor, leniently, where some are optional. */
    bool is_ordered;
    uint64_t *reach;    /* [n_states][n_words] properties whose names begin here */
    uint32_t *n_others; /* [n_states] other keys that begin here; UINT32_MAX: no end of them */
    uint32_t min, max;  /* properties */
    /* Where several somes meet a maximum: which classes of others (n_named + bit) begin here. */
    uint64_t *classes; /* [n_states] or NULL */
    /* The shortest, in bytes: keys and values by label; whole properties (quotes, colon and comma
     * with them) by bit of `required`; the way to each state of the keys. One allocation, at `lengths`.
     * Then that of the cheapest property. */
    uint32_t *lengths, *values, *costs, *depths, cheapest;
    uint16_t height;
    bool has_others;
} obj_shape;

struct grammar {
    atomic_int n_refs;
    uint64_t hash;
    gnode *nodes;
    int32_t n_nodes, root;
    int32_t *kids;
    char *text;
    uint64_t (*sets)[4];
    dfa **dfas; /* [0]: any text */
    size_t n_dfas;
    jnode *jnodes;
    size_t n_jnodes;
    str_shape *strs;
    size_t n_strs;
    num_shape *nums;
    size_t n_nums;
    arr_shape *arrs;
    size_t n_arrs;
    obj_shape *objs;
    size_t n_objs;
    uint16_t max_height; /* of the jnodes */
};

/* ── Builder ── */
struct grammar_builder {
    error err;
    regexes *x;
    gnode *nodes;
    int32_t n_nodes, cap_nodes;
    int32_t *kids;
    int32_t n_kids, cap_kids;
    buf text;
    uint64_t (*sets)[4];
    int32_t n_sets, cap_sets;
    dfa **dfas;
    int32_t n_dfas, cap_dfas;
    jnode *jnodes;
    int32_t n_jnodes, cap_jnodes;
    str_shape *strs;
    int32_t n_strs, cap_strs;
    num_shape *nums;
    int32_t n_nums, cap_nums;
    arr_shape *arrs;
    int32_t n_arrs, cap_arrs;
    obj_shape *objs;
    int32_t n_objs, cap_objs;
    uint64_t hash;
    bool is_spent;
};

bool builder_fail(grammar_builder *b, error_code code, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* array points at the builder's pointer member. */
bool builder_grow(grammar_builder *b, void *array, int32_t *cap, int64_t need, size_t size);
grammar_node builder_add(grammar_builder *b, gnode n);
/* Takes d; −1 after a failure (d may be NULL then). */
int32_t builder_add_dfa(grammar_builder *b, dfa *d);
grammar_node builder_regex(grammar_builder *b, rx r);
void builder_mix(grammar_builder *b, uint64_t h);

/* schema.c: the jnode of a schema, or −1. */
int32_t schema_compile(grammar_builder *b, json_t *schema, const grammar_schema_options *o);

#endif
