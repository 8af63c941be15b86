/* A model that is a hash with a transformer's dependencies: a row of layer l is made from the layer's
 * input at that position, and the layer's output there from all rows that are visible. Run over the rows
 * of a sequence, and from the ids alone. */
#ifndef TESTS_KV_TWIN_H
#define TESTS_KV_TWIN_H

#include "kv/kv.h"

enum { TWIN_HEAD_DIM = 4, TWIN_LAYERS = 4, TWIN_MAX_LEN = 700 };

/* Runs n ids at the sequence's end, whose rows are reserved. outputs: [n], the last layer's. */
void twin_run(kv_seq *s, const int32_t *ids, int64_t n, uint64_t *outputs);
/* The same without any cache, from position 0. out: [n], n ≤ TWIN_MAX_LEN. */
void twin_cold(const int32_t *widths, kv_window w, const int32_t *ids, int64_t n, uint64_t *out);

#endif
