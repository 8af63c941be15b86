/* Which job gets how many rows of the next forward pass. Pure: the same jobs,
 * limits and measurements give the same plan, and no plan can change what any
 * job says, only when.
 *
 * Jobs that decode come first, one row each: somebody reads along. What the step
 * has left is shared evenly among the prompts, oldest first where it does not
 * divide, so that a long prompt does not hold up a short one.
 */
#ifndef ENGINE_SCHED_H
#define ENGINE_SCHED_H

#include <stdbool.h>
#include <stdint.h>

typedef struct sched_job {
    int64_t n_left;  /* prompt tokens still to run; 0: decodes one token */
    int32_t n_room;  /* events its reader's ring can take; 0 = sits out */
    bool is_scoring; /* wants the logits of every prompt row, one event for each */
} sched_job;

typedef struct sched_limits {
    int32_t max_rows;   /* of a forward pass, ≥ number of jobs */
    int32_t max_logits; /* rows with logits, ≥ number of jobs */
    int32_t max_chunk;  /* rows of one prompt */
    int32_t budget;     /* rows of all prompts together this step, ≥ 1 */
} sched_limits;

/* jobs by age, oldest first; rows [n] is filled. If any job has room, some job gets a row. */
void sched_plan(const sched_job *jobs, int n, const sched_limits *l, int32_t *rows);

/* ── The step's time, learned from the steps before ── */
typedef struct sched_rate {
    double decode_ns; /* of a step that only decodes; 0 = not seen yet */
    double row_ns;    /* of one further prompt row; 0 = not seen yet */
} sched_rate;

/* Folds one measured step in. Recent steps weigh more; a single odd one does not count much. */
void sched_learn(sched_rate *r, int32_t n_decode, int32_t n_prefill, int64_t took_ns);
/* Prompt rows that fit into a step of budget_ns: 1 … max_chunk. Where nothing is known yet it begins
 * carefully. */
int32_t sched_budget(const sched_rate *r, int64_t budget_ns, int32_t max_chunk);

#endif
