/* Fork-join over a fixed set of pinned threads, for one owner (the engine
 * thread). The owner works too. Tasks are taken dynamically, one at a time, so
 * that a thread that lost its core does not hold up the others for long.
 * Between jobs workers spin for some microseconds, then sleep on a futex: spin
 * barriers collapse when another process takes a core.
 *
 * Results must not depend on who ran a task or in which order: tasks write
 * disjoint outputs, and nothing is reduced across tasks here.
 */
#ifndef BASE_POOL_H
#define BASE_POOL_H

#include "base/error.h"

typedef struct pool pool;

/* `worker` is 0 … n_threads−1 (0 = the owner): index for per-worker scratch. */
typedef void pool_fn(void *ctx, int task, int worker);

/* n_threads ≥ 1, the owner counted in; 1 starts no thread. */
pool *pool_new(int n_threads, error *err);
void pool_free(pool *p);
int pool_n_threads(const pool *p);
/* Runs fn for every task in [0, n_tasks); returns when all are done. Owner thread only. No
 * allocation. A NULL pool runs them in place. */
void pool_run(pool *p, int n_tasks, pool_fn *fn, void *ctx);

#endif
