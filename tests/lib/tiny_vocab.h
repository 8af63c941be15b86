/* A byte-level vocabulary small enough to think about: ids 0–255 are the bytes
 * in order, then a few merged words, then special tokens. For tests of what
 * stands on a tokenizer: every text can be written, every id can be read.
 */
#ifndef TESTS_TINY_VOCAB_H
#define TESTS_TINY_VOCAB_H

#include "tok/tok.h"

enum {
    TINY_WORDS = 256, /* id of the first merged word */
    TINY_N_WORDS = 4, /* "he", "ll", "hell", " a" */
    TINY_SPECIAL = TINY_WORDS + TINY_N_WORDS,
    /* ids of tiny_vocab_harmony */
    TINY_ENDOFTEXT = TINY_SPECIAL,
    TINY_RETURN,
    TINY_CONSTRAIN,
    TINY_CHANNEL,
    TINY_START,
    TINY_END,
    TINY_MESSAGE,
    TINY_CALL,
    TINY_RESERVED,
    TINY_N_HARMONY,
};

/* Aborts when it cannot be made. Free with tok_unref. eos and bos: ids or −1. */
tok *tiny_vocab_new(const char *const *special, size_t n_special, int32_t bos, int32_t eos);
tok *tiny_vocab_harmony(void);

#endif
