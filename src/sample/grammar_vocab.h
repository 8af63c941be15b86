/* The vocabulary as masks are made from it; not a door. */
#ifndef SAMPLE_GRAMMAR_VOCAB_H
#define SAMPLE_GRAMMAR_VOCAB_H

#include <stdatomic.h>

#include "sample/grammar.h"

enum {
    TRIE_MAX_DEPTH = 250, /* longer tokens are never allowed under a grammar */
    VOCAB_COUNTED = 16,
};

typedef struct trie_node {
    uint32_t end : 24; /* the node behind its subtree; its first child, if any, is the next node */
    uint32_t depth : 8;
    uint32_t
        ids : 24; /* the first of the trie's ids in its subtree; its own come first, up to the next node's */
    uint32_t byte : 8;
} trie_node;

enum { TRIE_MAX_NODES = (1 << 24) - 2 };

typedef struct trie {
    trie_node *nodes; /* in preorder, [0] is the root; [n_nodes] only says where the ids end */
    uint32_t n_nodes;
    int32_t *ids; /* in the order of their bytes */
} trie;

typedef struct vocab_long {
    int32_t id, n_chars;
} vocab_long;

struct grammar_vocab {
    atomic_int n_refs;
    tok *t;
    int32_t n_vocab;
    trie all;       /* every token that is text */
    trie marked;    /* those with a quote or a backslash */
    uint64_t *ends; /* mask of the ids that end generation */
    uint64_t *text; /* mask of the tokens that are well-formed UTF-8, the end perhaps unfinished */
    /* Tokens that stay inside a string whose content is free: masks of those that begin at most k characters, for
     * k < VOCAB_COUNTED, then of all; and the longer ones one by one. */
    uint64_t *inside; /* [VOCAB_COUNTED + 1][words] */
    vocab_long *long_inside;
    size_t n_long;
    int most_chars;
};

static inline size_t grammar_vocab_words(const grammar_vocab *v) {
    return ((size_t)v->n_vocab + 63) / 64;
}

#endif
