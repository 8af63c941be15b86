#include "engine/job.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* ── The door ── */

door *door_new(void) {
    door *d = calloc(1, sizeof *d);
    if (d) atomic_store(&d->n_refs, 1);
    return d;
}
door *door_ref(door *d) {
    atomic_fetch_add_explicit(&d->n_refs, 1, memory_order_relaxed);
    return d;
}
void door_unref(door *d) {
    if (d && atomic_fetch_sub(&d->n_refs, 1) == 1) free(d);
}

/* ── Lifetime ── */

/* Grows *total by n items and says where they begin; false on overflow. */
static bool place(size_t *total, size_t n, size_t size, size_t *at) {
    size_t bytes;
    *at = (*total + RING_LINE - 1) / RING_LINE * RING_LINE;
    return !__builtin_mul_overflow(n, size, &bytes) && !__builtin_add_overflow(*at, bytes, total);
}

engine_job *job_new(const engine_request *r, kv_seq *seq, kv_window window, uint32_t n_events,
                    door *d, error *err) {
    size_t total = sizeof(engine_job), slots, prompt, stops, bias, n_kept = JOB_MAX_KEPT;
    if (r->max_tokens >= 0 && r->max_tokens < JOB_MAX_KEPT) n_kept = (size_t)r->max_tokens;
    char *p = NULL;
    if (place(&total, n_events, sizeof(ring_slot), &slots) && r->n_prompt <= SIZE_MAX - n_kept &&
        place(&total, r->n_prompt + n_kept, sizeof *r->prompt, &prompt) &&
        place(&total, r->n_stop_ids, sizeof *r->stop_ids, &stops) &&
        place(&total, (size_t)r->sampling.n_bias, sizeof *r->sampling.bias, &bias) &&
        total <= SIZE_MAX - RING_LINE)
        p = aligned_alloc(RING_LINE, (total + RING_LINE - 1) / RING_LINE * RING_LINE);
    if (!p) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for another request.");
        return NULL;
    }
    engine_job *j = (engine_job *)p;
    *j = (engine_job){.door = door_ref(d),
                      .request = *r,
                      .window = window,
                      .seq = seq,
                      .slot = -1,
                      .submit_ns = clock_ns()};
    atomic_store(&j->n_refs, 2);
    ring_init(&j->ring, (ring_slot *)(p + slots), n_events);
    memcpy(p + prompt, r->prompt, r->n_prompt * sizeof *r->prompt);
    j->request.prompt = j->ids = (int32_t *)(p + prompt);
    j->n_kept = (int64_t)n_kept;
    /* Touched now: a long answer's memory does not grow while it is written. */
    memset(j->ids + r->n_prompt, 0, n_kept * sizeof *j->ids);
    if (r->n_stop_ids) memcpy(p + stops, r->stop_ids, r->n_stop_ids * sizeof *r->stop_ids);
    j->request.stop_ids = (const int32_t *)(p + stops);
    if (r->sampling.n_bias)
        memcpy(p + bias, r->sampling.bias, (size_t)r->sampling.n_bias * sizeof *r->sampling.bias);
    j->request.sampling.bias = (const sample_bias *)(p + bias);
    j->request.sampling.grammar = grammar_ref(r->sampling.grammar);
    return j;
}

void job_unref(engine_job *j) {
    if (atomic_fetch_sub(&j->n_refs, 1) != 1) return;
    door_unref(j->door);
    grammar_unref(j->request.sampling.grammar);
    free(j->embedding);
    free(j);
}

/* ── Cancelling ── */

void job_enter_step(engine_job **jobs, int n, door *d) {
    atomic_store(&d->stop_step, false);
    atomic_store(&d->n_step_live, n);
    int n_gone = 0;
    for (int i = 0; i < n; i++)
        n_gone += (atomic_fetch_or(&jobs[i]->state, JOB_IN_STEP) & JOB_CANCELLED) != 0;
    if (n_gone && atomic_fetch_sub(&d->n_step_live, n_gone) == n_gone)
        atomic_store(&d->stop_step, true);
}

void job_leave_step(engine_job **jobs, int n, door *d) {
    for (int i = 0; i < n; i++) atomic_fetch_and(&jobs[i]->state, ~JOB_IN_STEP);
    atomic_store(&d->stop_step, false);
}

void engine_cancel(engine_job *j) {
    door *d = j->door;
    int old = atomic_fetch_or(&j->state, JOB_CANCELLED);
    if (old & JOB_CANCELLED) return;
    /* If that step ends just now, the count belongs to the next one, which may then stop without
     * need. It is not committed and runs again: time is lost, nothing else. */
    if (old & JOB_IN_STEP && atomic_fetch_sub(&d->n_step_live, 1) == 1)
        atomic_store(&d->stop_step, true);
    if (!atomic_load(&j->ring.is_ended)) gate_signal(&d->gate);
}

/* ── The reader's side ── */

const float *engine_get_embedding(const engine_job *j) {
    return j->embedding;
}

void job_wake_reader(engine_job *j) {
    if (!ring_take_waiter(&j->ring)) return;
    int old = atomic_fetch_or(&j->wake_state, JOB_WAKE_CALLING);
    if (!(old & JOB_WAKE_FREED) && j->request.wake) j->request.wake(j->request.wake_ctx);
    atomic_fetch_and(&j->wake_state, ~JOB_WAKE_CALLING);
    gate_signal(&j->gate);
}

void engine_job_free(engine_job *j) {
    if (!j) return;
    engine_cancel(j);
    atomic_fetch_or(&j->wake_state, JOB_WAKE_FREED);
    for (;;) {
        unsigned seen = gate_look(&j->gate);
        if (!(atomic_load(&j->wake_state) & JOB_WAKE_CALLING)) break;
        gate_wait(&j->gate, seen, -1);
    }
    job_unref(j);
}

bool engine_poll(engine_job *j, engine_event *out) {
    ring_slot s;
    bool unstarved;
    ring_read read = ring_poll(&j->ring, &s, &unstarved);
    if (unstarved) gate_signal(&j->door->gate);
    if (read == RING_NOTHING) return false;
    if (read == RING_EVENT) {
        *out = (engine_event){
            .kind = (engine_event_kind)s.kind, .index = s.index, .token = s.token, .cost = s.cost};
        return true;
    }
    *out = (engine_event){.kind = ENGINE_END,
                          .index = j->usage.n_generated,
                          .finish = j->finish,
                          .usage = j->usage,
                          .err = j->err};
    return true;
}

bool engine_wait(engine_job *j, engine_event *out, int timeout_ms) {
    int64_t until = timeout_ms < 0 ? 0 : clock_ns() + (int64_t)timeout_ms * 1000000;
    for (;;) {
        unsigned seen = gate_look(&j->gate);
        if (engine_poll(j, out)) return true;
        if (j->ring.end_taken) return false;
        int64_t left = timeout_ms < 0 ? -1 : until - clock_ns();
        if (timeout_ms >= 0 && left <= 0) return false;
        gate_wait(&j->gate, seen, left);
    }
}
