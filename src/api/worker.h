/* Threads for work that belongs to no connection: one drives the runs of /v1/responses, one (of
 * batch_run.c) the lines of batches. Both take up what a stopped server left unfinished. Not a door.
 */
#ifndef API_WORKER_H
#define API_WORKER_H

#include <semaphore.h>

#include "api/serve.h"

typedef struct worker worker;
typedef struct runs runs;       /* responses_run.c */
typedef struct batches batches; /* batches_impl.h */

worker *worker_open(api *a, error *err);
void worker_start(worker *w);
/* Joins the thread; what it drove stands still. */
void worker_stop(worker *w);
/* Frees what is left. NULL is allowed. */
void worker_close(worker *w);
/* Sleeps until `more` is posted or ms are over, and takes all posts: one look serves many wakes. */
void worker_sleep(sem_t *more, int ms);
/* There is something to do. Any thread, never blocks. ctx is the worker. */
void worker_wake(void *w);
runs *worker_runs(worker *w);
batches *worker_batches(worker *w);

/* What it drives. runs_advance returns in how many milliseconds it wants to be looked at again
 * unless woken. */
runs *runs_new(api *a, error *err);
void runs_free(runs *r);
void runs_resume(runs *r); /* background responses of before */
int runs_advance(runs *r);
batches *batches_new(api *a, error *err);
void batches_free(batches *b);
void batches_start(batches *b);
void batches_stop(batches *b); /* joins its thread, closes its requests */

#endif
