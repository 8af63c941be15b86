#include "engine/constrain.h"

void constrain_init(constrain *c) {
    pthread_mutex_init(&c->lock, NULL);
    c->vocab = NULL;
}

void constrain_deinit(constrain *c) {
    grammar_vocab_unref(c->vocab);
    pthread_mutex_destroy(&c->lock);
}

matcher *constrain_start(constrain *c, tok *t, const grammar *g, error *err) {
    if (!t) {
        error_set(err, ERR_UNSUPPORTED_VALUE, NULL,
                  "This model has no vocabulary: its answers cannot be constrained.");
        return NULL;
    }
    pthread_mutex_lock(&c->lock);
    if (!c->vocab) c->vocab = grammar_vocab_new(t, err);
    grammar_vocab *v = grammar_vocab_ref(c->vocab);
    pthread_mutex_unlock(&c->lock);
    matcher *m = v ? matcher_new(g, v, (matcher_options){0}, err) : NULL;
    grammar_vocab_unref(v);
    return m;
}
