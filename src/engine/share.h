/* Places by client, so that one who floods leaves room for the others.
 *
 * A place is a job that runs or waits; there are n_parallel + n_queue of them. Who a client is says the
 * room above (engine_request.client); 0 is nobody in particular, who is refused only when no
 * place is left. Two rules:
 *
 *   - A client takes a further place only while it holds fewer than SHARE_GREED times as many as are
 *     free, or fewer than n_parallel. Alone it gets three quarters of them, and who comes then three
 *     quarters of the rest; as places come back, n greedy ones draw level, and one place of 3n + 1 stays
 *     free for whoever comes next: the dynamic threshold of shared packet buffers (Choudhury and
 *     Hahne, 1998). What could run at once is never kept from the only one who asks.
 *   - Of the jobs that wait, the one whose client has the fewest running is next; among equals the
 *     oldest.
 *
 * Clients are told apart by a salted hash with SHARE_CLIENTS values: two that meet in one share its
 * places (McKenney's stochastic fairness); nobody is refused who would not have been as one client.
 */
#ifndef ENGINE_SHARE_H
#define ENGINE_SHARE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum { SHARE_CLIENTS = 4096, SHARE_GREED = 3 };

typedef struct shares {
    int n_parallel, n_places;
    uint64_t salt;
    atomic_int n_held; /* places taken */
    atomic_int held[SHARE_CLIENTS];
    int running[SHARE_CLIENTS]; /* the engine thread's */
} shares;

typedef enum share_answer { SHARE_TAKEN, SHARE_FULL, SHARE_OVER } share_answer;

void share_init(shares *s, int n_parallel, int n_queue, uint64_t salt);

/* Any thread, never blocks. Not TAKEN: nothing was taken, and all places are held, or the client has
 * its share. */
share_answer share_take(shares *s, uint64_t client);
/* What share_take would say now. */
share_answer share_ask(shares *s, uint64_t client);
/* One that was taken. Any thread. */
void share_give_back(shares *s, uint64_t client);

int share_n_held(shares *s, uint64_t client);

/* The count of the client's running jobs, to read and to change: the engine thread's. */
int *share_running(shares *s, uint64_t client);

#endif
