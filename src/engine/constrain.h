/* Jobs under a grammar: the vocabulary's trie, made when the first one comes, and
 * what a grammar leaves no choice about. */
#ifndef ENGINE_CONSTRAIN_H
#define ENGINE_CONSTRAIN_H

#include <pthread.h>

#include "engine/engine.h"
#include "sample/grammar.h"

typedef struct constrain {
    pthread_mutex_t lock;
    grammar_vocab *vocab; /* NULL until it is needed */
} constrain;

void constrain_init(constrain *c);
void constrain_deinit(constrain *c);
/* Any thread. NULL with an error; t may be NULL. */
matcher *constrain_start(constrain *c, tok *t, const grammar *g, error *err);

enum { CONSTRAIN_MAX_FORCED = 64 }; /* ids said in one go without asking the model */

#endif
