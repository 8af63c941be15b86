/* Regular languages over bytes, by derivatives: an expression is a number, equal
 * languages mostly have equal numbers, and intersection and complement cost no
 * more than concatenation. From expressions to an automaton: one state per
 * distinct derivative.
 * Source: Brzozowski, Derivatives of Regular Expressions (1964); Owens, Reppy,
 * Turon, Regular-expression Derivatives Re-examined (2009), for the byte classes.
 *
 * All strings here are well-formed UTF-8; a pattern's characters are code points.
 */
#ifndef SAMPLE_REGEX_H
#define SAMPLE_REGEX_H

#include "base/error.h"
#include "base/str.h"

typedef int32_t rx; /* an expression of a regexes; −1 after a failure */
typedef struct regexes regexes;

enum { RX_NONE = 0, RX_EPS = 1, RX_ALL = 2 /* any bytes */ };

regexes *regexes_new(void); /* NULL: no memory */
void regexes_free(regexes *x);
/* A limit was reached or memory ran out: every later result is −1. The reason is a sentence. */
const char *regexes_failure(const regexes *x);

rx regex_set(regexes *x, const uint64_t set[4]); /* one byte */
rx regex_byte_range(regexes *x, int lo, int hi);
rx regex_literal(regexes *x, str bytes);
rx regex_cat(regexes *x, rx a, rx b);
rx regex_alt(regexes *x, const rx *items, size_t n);
rx regex_and(regexes *x, const rx *items, size_t n);
rx regex_not(regexes *x, rx a);                              /* against all byte strings */
rx regex_repeat(regexes *x, rx a, int32_t min, int32_t max); /* max −1: no limit */
static inline rx regex_alt2(regexes *x, rx a, rx b) {
    return regex_alt(x, (rx[]){a, b}, 2);
}
static inline rx regex_and2(regexes *x, rx a, rx b) {
    return regex_and(x, (rx[]){a, b}, 2);
}
rx regex_char(regexes *x, uint32_t lo, uint32_t hi); /* one code point of a range */
rx regex_any_char(regexes *x);
rx regex_any_text(regexes *x); /* well-formed UTF-8 */
bool regex_is_match(regexes *x, rx a, str text);
bool regex_is_nullable(const regexes *x, rx a);
/* No text at all matches; false also where that cannot be seen quickly. */
bool regex_is_empty(regexes *x, rx a);
rx regex_derive(regexes *x, rx a, uint8_t byte);

typedef struct regex_syntax {
    bool search;      /* the pattern may match anywhere: JSON Schema's `pattern` */
    bool ignore_case; /* ASCII letters */
    bool dot_all;     /* `.` matches line ends too */
    /* As Python and Rust have it: `.` leaves out line feeds only; \A, \z and \Z are ends; (?i) and
     * (?s) change the rest of their group, (?i:…) its own. */
    bool is_python;
} regex_syntax;
/* ECMAScript's syntax with code points as characters. −1 with an error whose code is
 * ERR_INVALID_VALUE for what is no pattern, ERR_UNSUPPORTED_VALUE for what it cannot say. */
rx regex_parse(regexes *x, str pattern, regex_syntax syntax, error *err);

/* ── Automata ── immutable */
#define DFA_DEAD UINT32_MAX
typedef struct dfa {
    uint32_t n_states, n_classes;
    uint8_t class_of[256];
    uint32_t *next; /* [n_states][n_classes]; DFA_DEAD: no text from there is accepted */
    int32_t *label; /* [n_states] ≥ 0: accepts; −1: does not */
    uint32_t
        *n_left; /* [n_states] how many texts lead to acceptance; UINT32_MAX: that many or more */
    uint32_t *n_ahead; /* [n_states] bytes of the shortest text to acceptance */
    uint8_t *is_open;  /* [n_states] any text of plain characters (no quote, backslash, control)
                         keeps it alive for ever */
    uint32_t most_open_ahead; /* the most that n_ahead is for any of those */
} dfa;

static inline uint32_t dfa_step(const dfa *d, uint32_t q, uint8_t byte) {
    return d->next[(size_t)q * d->n_classes + d->class_of[byte]];
}

/* Word names beside expressions: the automaton over (place among the names, expressions). `label`
 * says what a text is that is names[name] (−1: none) and matches the expressions whose bit is set. */
typedef int32_t dfa_label_fn(void *ctx, int32_t name, uint64_t matched);
/* State 0 is the start; d->n_states is 0 when nothing is accepted. NULL: limits or memory, see err. */
dfa *dfa_new(regexes *x, const str *names, size_t n_names, const rx *roots, size_t n_roots,
             dfa_label_fn *label, void *ctx, error *err);
dfa *dfa_new_single(regexes *x, rx root, error *err);
void dfa_free(dfa *d);
/* Recomputes what is dead, what is left and how far it is after labels were changed to −1. */
bool dfa_trim(dfa *d);

#endif
