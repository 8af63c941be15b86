/* One job: what was asked, how far it is, and its way back to the reader. Held
 * by two: the reader (until engine_job_free) and the engine (until its end is
 * published); whoever lets go last frees it.
 */
#ifndef ENGINE_JOB_H
#define ENGINE_JOB_H

#include "engine/engine.h"
#include "engine/gate.h"
#include "engine/ring.h"

/* What jobs and engine share and what outlives either: jobs may be read, cancelled and freed after
 * the engine was closed. */
typedef struct door {
    atomic_int n_refs;
    gate gate;                   /* the engine thread sleeps here */
    _Atomic(engine_job *) inbox; /* the mailbox, newest first */
    atomic_bool is_closed;
    atomic_int n_step_live; /* jobs of the running step that nobody cancelled */
    atomic_bool stop_step;  /* none is left: forward may stop. Only ever a hint */
} door;

door *door_new(void);
door *door_ref(door *d);
void door_unref(door *d);

enum { JOB_MAX_KEPT = 8192 };                      /* a job that generated more cannot be parked */
enum { JOB_CANCELLED = 1, JOB_IN_STEP = 2 };       /* bits of `state` */
enum { JOB_WAKE_CALLING = 1, JOB_WAKE_FREED = 2 }; /* bits of `wake_state` */

struct engine_job {
    atomic_int n_refs;
    atomic_int state;
    atomic_int wake_state;
    gate gate; /* engine_wait sleeps here, and engine_job_free for a wake() in progress */
    door *door;
    engine_job *next; /* in the mailbox, then among the waiting */
    ring ring;

    /* The request; pointers lead into this allocation. */
    engine_request request;
    kv_window window;
    kv_seq *seq; /* the engine's until the end */
    matcher *matcher; /* its slot's; NULL: the answer is free, or it does not run */

    /* Progress: the engine thread's. */
    int slot;       /* which sampler; −1 while waiting or parked */
    int32_t *ids;   /* [n_prompt + n_kept] the prompt, then what was generated, as far as kept */
    int64_t n_kept; /* generated ids that have room in `ids` */
    int64_t n_done; /* tokens in the sequence */
    int64_t n_cached;
    bool was_admitted;
    int64_t n_said; /* highest index of a token that was scored or drawn, counted from the prompt's
                           start: rows that run again are silent up to here */
    int64_t n_generated;
    float *embedding; /* [d_model] then a row's scratch [d_model]; the job's own; or NULL */
    int32_t last_id;
    engine_cost cost;   /* of its last step */
    int64_t starved_ns; /* since when the ring is full; 0 = it is not */
    int64_t submit_ns, start_ns, first_ns;

    /* The end: written before ring_end, read after RING_END. */
    engine_finish finish;
    engine_usage usage;
    error err;
};

/* Copies the request, its arrays and n_events slots into one allocation. Takes seq. */
engine_job *job_new(const engine_request *r, kv_seq *seq, kv_window window, uint32_t n_events,
                    door *d, error *err);
void job_unref(engine_job *j);

static inline bool job_is_cancelled(const engine_job *j) {
    return atomic_load_explicit(&((engine_job *)j)->state, memory_order_relaxed) & JOB_CANCELLED;
}

/* Around a step, over its jobs: lets engine_cancel stop the forward pass when the last one goes. */
void job_enter_step(engine_job **jobs, int n, door *d);
void job_leave_step(engine_job **jobs, int n, door *d);

/* Wakes the reader if it waits. Engine thread. */
void job_wake_reader(engine_job *j);

#endif
