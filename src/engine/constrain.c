#include "engine/constrain.h"

#include <stdlib.h>

void constrain_init(constrain *c) {
    pthread_mutex_init(&c->lock, NULL);
    c->vocab = NULL;
    c->matchers = NULL;
    c->n = 0;
}

void constrain_deinit(constrain *c) {
    for (int i = 0; i < c->n; i++) matcher_free(c->matchers[i]);
    free(c->matchers);
    grammar_vocab_unref(c->vocab);
    pthread_mutex_destroy(&c->lock);
}

bool constrain_reserve(constrain *c, int n, int32_t n_vocab, error *err) {
    c->matchers = calloc((size_t)n, sizeof(matcher *));
    if (!c->matchers)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the engine's tables.");
    for (; c->n < n; c->n++)
        if (!(c->matchers[c->n] = matcher_reserve(n_vocab, err))) return false;
    return true;
}

void constrain_hold(constrain *c) {
    for (int i = 0; i < c->n; i++) matcher_hold(c->matchers[i]);
}

bool constrain_check(constrain *c, tok *t, const grammar *g, error *err) {
    if (!t)
        return error_set(err, ERR_UNSUPPORTED_VALUE, NULL,
                         "This model has no vocabulary: its answers cannot be constrained.");
    pthread_mutex_lock(&c->lock);
    if (!c->vocab) c->vocab = grammar_vocab_new(t, err);
    bool ok = c->vocab != NULL;
    pthread_mutex_unlock(&c->lock);
    /* Does it begin in more ways than can be followed? Of its memory little is touched. */
    matcher *probe = ok ? matcher_new(g, NULL, (matcher_options){0}, err) : NULL;
    matcher_free(probe);
    return probe != NULL;
}

matcher *constrain_start(constrain *c, int slot, const grammar *g, const int32_t *said, size_t n) {
    matcher *m = c->matchers[slot];
    /* What could fail was tried; were it to fail all the same, the answer ends (matcher_failed). */
    if (matcher_start(m, g, c->vocab, (matcher_options){0}, NULL)) matcher_follow(m, said, n);
    return m;
}
