/* Jobs under a grammar: the vocabulary's trie, made when the first one comes, and
 * one matcher for each place to run in, reserved from the plan. A waiting job holds
 * its grammar only; where it goes on after parking, the matcher reads again what
 * was said. */
#ifndef ENGINE_CONSTRAIN_H
#define ENGINE_CONSTRAIN_H

#include <pthread.h>

#include "engine/engine.h"
#include "sample/grammar.h"

typedef struct constrain {
    pthread_mutex_t lock;
    grammar_vocab *vocab; /* NULL until it is needed */
    matcher **matchers;   /* [n] the engine thread's */
    int n;
} constrain;

void constrain_init(constrain *c);
void constrain_deinit(constrain *c);
/* Before the engine runs. */
bool constrain_reserve(constrain *c, int n, int32_t n_vocab, error *err);
void constrain_hold(constrain *c);
/* Whether this grammar can be followed, before a job waits with it. Any thread; t may be NULL. */
bool constrain_check(constrain *c, tok *t, const grammar *g, error *err);
/* The slot's matcher, at the place behind what was said; borrowed. Of a grammar that was checked. */
matcher *constrain_start(constrain *c, int slot, const grammar *g, const int32_t *said, size_t n);

enum { CONSTRAIN_MAX_FORCED = 64 }; /* ids said in one go without asking the model */

#endif
