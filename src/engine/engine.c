#include "engine/impl.h"

#include <limits.h>
#include <stdlib.h>

#include "base/clock.h"
#include "engine/guard.h"

static void add(atomic_ullong *c, uint64_t n) {
    atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

/* ── Submitting: any thread ── */

/* What leads the conversation stays, whole blocks of it, up to the cap and to half of what is visible;
 * a prompt that does not say what leads it keeps what every prompt does. */
static kv_window make_window(const engine *e, const engine_request *r, int64_t rows) {
    int64_t p = e->window.pinned, most = rows / 2 / KV_BLOCK * KV_BLOCK;
    if (r->n_pinned > 0) {
        int64_t led = ((int64_t)r->n_pinned + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK;
        int64_t cap = e->config.max_pinned / KV_BLOCK * KV_BLOCK;
        if (cap < most) most = cap;
        p = led < most ? led : most;
        if (p < e->window.pinned && e->config.max_pinned > e->window.pinned) p = e->window.pinned;
    }
    return (kv_window){p, rows - p};
}

static bool check_request(const engine *e, const engine_request *r, kv_window *window, error *err) {
    const engine_config *c = &e->config;
    if (r->n_prompt == 0 || !r->prompt)
        return error_set(err, ERR_INVALID_VALUE, "prompt",
                         "The prompt is empty: at least one token is needed.");
    if (r->n_prompt > (size_t)c->max_context_tokens)
        return error_set(err, ERR_CONTEXT_LENGTH, "messages",
                         "The prompt has %zu tokens; the longest this server takes is %lld.",
                         r->n_prompt, (long long)c->max_context_tokens);
    for (size_t i = 0; i < r->n_prompt; i++)
        if (r->prompt[i] < 0 || r->prompt[i] >= e->info->n_vocab)
            return error_set(err, ERR_INVALID_VALUE, "prompt",
                             "Token %zu of the prompt is %d; this model's ids are 0 to %d.", i,
                             r->prompt[i], e->info->n_vocab - 1);
    if (!sample_check(&r->sampling, e->info->n_vocab, err)) return false;
    if (r->embed != ENGINE_EMBED_OFF &&
        (!model_has_hidden(e->model) || r->max_tokens != 0 || r->score_prompt >= 0))
        return error_set(err, ERR_UNSUPPORTED_VALUE, "model",
                         "This model gives no embeddings, or not beside an answer.");
    if (r->max_tokens < -1)
        return error_set(err, ERR_INT_BELOW_MIN, "max_tokens",
                         "Invalid 'max_tokens': expected a value >= 0, but got %lld instead.",
                         (long long)r->max_tokens);
    if (r->score_prompt > SAMPLE_MAX_TOP)
        return error_set(err, ERR_INT_ABOVE_MAX, "logprobs",
                         "Invalid 'logprobs': expected a value <= %d, but got %d instead.",
                         SAMPLE_MAX_TOP, r->score_prompt);
    if (r->n_pinned > r->n_prompt)
        return error_set(err, ERR_INVALID_VALUE, "prompt",
                         "%zu tokens of a prompt of %zu cannot be pinned.", r->n_pinned,
                         r->n_prompt);
    *window = make_window(e, r, c->max_kv_size);
    if (r->max_kv_size == 0) return true;
    int64_t least = e->window.pinned + KV_BLOCK;
    if (r->max_kv_size < least)
        return error_set(err, ERR_INT_BELOW_MIN, "max_kv_size",
                         "Invalid 'max_kv_size': expected a value >= %lld, but got %lld instead.",
                         (long long)least, (long long)r->max_kv_size);
    if (r->max_kv_size > c->max_kv_size)
        return error_set(
            err, ERR_INT_ABOVE_MAX, "max_kv_size",
            "Invalid 'max_kv_size': the server keeps %lld rows, but %lld were asked for.",
            (long long)c->max_kv_size, (long long)r->max_kv_size);
    *window = make_window(e, r, r->max_kv_size);
    return true;
}

static engine_job *refuse(engine *e, const engine_request *r, kv_seq *seq) {
    kv_seq_free(seq); /* holds no block yet, so the pool is not touched */
    share_give_back(&e->shares, r->client);
    return NULL;
}

static bool tell_place(engine *e, share_answer a, uint64_t client, error *err) {
    if (a == SHARE_TAKEN) return true;
    add(&e->counters.n_rejected, 1);
    if (a == SHARE_OVER)
        return error_set(err, ERR_RATE_LIMIT, NULL,
                         "This client has %d requests here, and the places that are left are kept for others. Try again later.",
                         share_n_held(&e->shares, client));
    return error_set(err, ERR_RATE_LIMIT, NULL,
                     "%d requests are running and %d are waiting: the queue is full. Try again later.",
                     e->config.n_parallel, e->config.n_queue);
}

bool engine_has_place(engine *e, uint64_t client, error *err) {
    return tell_place(e, share_ask(&e->shares, client), client, err);
}

engine_job *engine_submit(engine *e, const engine_request *r, error *err) {
    door *d = e->door;
    kv_window window;
    if (!check_request(e, r, &window, err)) return NULL;
    if (atomic_load(&d->is_closed)) {
        error_set(err, ERR_OVERLOADED, NULL, "The engine is shutting down.");
        return NULL;
    }
    if (!tell_place(e, share_take(&e->shares, r->client), r->client, err)) return NULL;
    kv_seq *seq = kv_seq_new(e->kv, window, err);
    if (!seq) return refuse(e, r, NULL);
    const grammar *g = r->sampling.grammar;
    if (g && !constrain_check(&e->constrain, e->tok, g, err)) return refuse(e, r, seq);
    engine_job *j = job_new(r, seq, window, (uint32_t)e->config.n_events, d, err);
    if (!j) return refuse(e, r, seq);
    if (r->embed != ENGINE_EMBED_OFF &&
        !(j->embedding = calloc(2 * (size_t)e->info->d_model, sizeof *j->embedding))) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for another request.");
        job_unref(j); /* nobody else has seen it */
        job_unref(j);
        return refuse(e, r, seq);
    }
    add(&e->counters.n_jobs, 1);
    j->next = atomic_load(&d->inbox);
    while (!atomic_compare_exchange_weak(&d->inbox, &j->next, j)) {
    }
    gate_signal(&d->gate);
    return j;
}

/* ── The engine thread ── */

static void count_blocks(engine *e) {
    int64_t used = 0, cached = 0;
    for (int s = 0; s < 2; s++) {
        used += kv_n_blocks(e->kv, s) - kv_n_free_blocks(e->kv, s);
        cached += kv_n_cached_blocks(e->kv, s);
    }
    atomic_store_explicit(&e->counters.kv_blocks_used, used, memory_order_relaxed);
    atomic_store_explicit(&e->counters.kv_blocks_cached, cached, memory_order_relaxed);
}

static void leave_slot(engine *e, engine_job *j) {
    e->free_slots[--e->n_running] = j->slot;
    --*share_running(&e->shares, j->request.client);
    if (j->matcher) matcher_stop(j->matcher);
    j->matcher = NULL;
    j->slot = -1;
}

/* Gives back all a job holds, then publishes its one END. Not yet started: slot is −1. */
static void finish(engine *e, engine_job *j, engine_finish how) {
    int64_t now = clock_ns();
    int64_t len = kv_seq_len(j->seq);
    int64_t rows = j->window.pinned + j->window.width;
    j->usage = (engine_usage){
        .n_prompt = (int64_t)j->request.n_prompt,
        .n_cached = j->n_cached,
        .n_generated = j->n_generated,
        .queue_ns = (j->start_ns ? j->start_ns : now) - j->submit_ns,
        .prefill_ns = j->start_ns ? (j->first_ns ? j->first_ns : now) - j->start_ns : 0,
        .decode_ns = j->first_ns ? now - j->first_ns : 0,
        .kv_rows = len < rows ? len : rows,
        .n_pinned = len < j->window.pinned ? len : j->window.pinned,
    };
    j->finish = how;
    kv_seq_free(j->seq);
    j->seq = NULL;
    count_blocks(e);
    if (j->slot >= 0) leave_slot(e, j);
    if (how == ENGINE_CANCELLED) add(&e->counters.n_cancelled, 1);
    if (how == ENGINE_FAILED) add(&e->counters.n_failed, 1);
    share_give_back(&e->shares, j->request.client);
    ring_end(&j->ring);
    job_wake_reader(j);
    job_unref(j);
}

/* Ends a job that was cancelled or is late. */
static bool finish_if_due(engine *e, engine_job *j, int64_t now) {
    if (job_is_cancelled(j)) {
        finish(e, j, ENGINE_CANCELLED);
        return true;
    }
    if (j->request.deadline_ns == 0 || now < j->request.deadline_ns) return false;
    error_set(&j->err, ERR_DEADLINE, NULL,
              "The request's time was up after %.1f s and %lld generated tokens.",
              (double)(now - j->submit_ns) / 1e9, (long long)j->n_generated);
    finish(e, j, ENGINE_FAILED);
    return true;
}

/* Empties the mailbox, which is newest first, behind the waiting. */
static void drain_inbox(engine *e) {
    engine_job *j = atomic_load_explicit(&e->door->inbox, memory_order_relaxed);
    if (!j) return;
    j = atomic_exchange(&e->door->inbox, NULL);
    engine_job *first = NULL, *last = j;
    for (engine_job *next; j; j = next) {
        next = j->next;
        j->next = first;
        first = j;
        e->n_waiting++;
    }
    *e->waiting_tail = first;
    e->waiting_tail = &last->next;
}

/* Drops jobs that are due from a list; all of them when the engine closes. Returns its new tail. */
static engine_job **end_due_in(engine *e, engine_job **at, int *n, int64_t now, bool all) {
    while (*at) {
        engine_job *j = *at, *next = j->next;
        if (all) engine_cancel(j);
        if (finish_if_due(e, j, now)) {
            *at = next;
            --*n;
        } else {
            at = &j->next;
        }
    }
    return at;
}

static void end_due(engine *e, int64_t now, bool all) {
    e->waiting_tail = end_due_in(e, &e->waiting, &e->n_waiting, now, all);
    end_due_in(e, &e->parked, &e->n_parked, now, all);
    int n = e->n_running, kept = 0;
    for (int i = 0; i < n; i++) {
        if (all) engine_cancel(e->running[i]);
        if (!finish_if_due(e, e->running[i], now)) e->running[kept++] = e->running[i];
    }
}

/* ── Parking: a job that nobody reads holds no place that others wait for ── */

static void leave_running(engine *e, engine_job *j) {
    int at = 0;
    while (e->running[at] != j) at++;
    for (; at + 1 < e->n_running; at++) e->running[at] = e->running[at + 1];
}

/* Its rows are forgotten; ids, and how far it had spoken, are enough to go on to the same text. */
static void park(engine *e, engine_job *j) {
    leave_running(e, j);
    kv_seq_rewind(j->seq, 0);
    j->n_done = 0;
    leave_slot(e, j);
    j->next = e->parked;
    e->parked = j;
    e->n_parked++;
    add(&e->counters.n_parked, 1);
}

/* Parked jobs whose ring has room again stand in line again. */
static void unpark(engine *e) {
    for (engine_job **at = &e->parked; *at;) {
        engine_job *j = *at;
        if (ring_room(&j->ring) == 0) {
            at = &j->next;
            continue;
        }
        *at = j->next;
        j->next = NULL;
        j->starved_ns = 0;
        *e->waiting_tail = j;
        e->waiting_tail = &j->next;
        e->n_parked--;
        e->n_waiting++;
    }
}

/* When the running job may be parked if its ring stays full; INT64_MAX: never. */
static int64_t park_time(const engine *e, const engine_job *j) {
    if (!j->starved_ns || j->n_generated > j->n_kept) return INT64_MAX;
    return j->starved_ns + (int64_t)e->config.park_after_ms * 1000000;
}

static void park_unread(engine *e, int64_t now) {
    for (int i = 0; i < e->n_running; i++) {
        engine_job *j = e->running[i];
        if (ring_room(&j->ring) > 0)
            j->starved_ns = 0;
        else if (!j->starved_ns)
            j->starved_ns = now;
    }
    for (int i = e->n_running - 1; i >= 0; i--) {
        int n_free = e->config.n_parallel - e->n_running;
        if (e->n_waiting > n_free && now >= park_time(e, e->running[i])) park(e, e->running[i]);
    }
}

/* A row that runs is one that somebody wants logits of, or one that nobody has: at least the last, and
 * all whose scores are still to be told. */
static int64_t most_reused(const engine_job *j) {
    int64_t n_prompt = (int64_t)j->request.n_prompt;
    if (j->request.score_prompt >= 0 && j->n_said < n_prompt - 1) return j->n_said;
    if (j->request.embed == ENGINE_EMBED_MEAN) return j->n_said;
    return n_prompt + j->n_generated - 1;
}

/* Begins with what is there already. */
static void adopt(engine *e, engine_job *j) {
    int64_t n_prompt = (int64_t)j->request.n_prompt;
    kv_reuse reuse = kv_seq_adopt(j->seq, j->ids, most_reused(j));
    j->n_done = reuse.n_kept;
    add(&e->counters.n_rerun_tokens, (uint64_t)reuse.n_rerun);
    if (j->was_admitted) return; /* it comes back from parking */
    j->was_admitted = true;
    j->n_cached = reuse.n_kept;
    add(&e->counters.n_cached_tokens, (uint64_t)reuse.n_kept);
    kv_seq_mark(j->seq, n_prompt);
    if (j->request.n_pinned > 0) kv_seq_mark(j->seq, (int64_t)j->request.n_pinned);
}

/* A re-run holds more than a sequence is promised; when another lacks blocks, its job starts over. */
static void give_up_reruns(engine *e) {
    for (int i = 0; i < e->n_running; i++) {
        engine_job *j = e->running[i];
        if (!kv_seq_is_rerunning(j->seq)) continue;
        kv_seq_rewind(j->seq, 0);
        j->n_done = 0;
    }
    e->lacks_blocks = false;
}

/* Is a running job just computing what this one begins with? Then waiting for it is faster than doing
 * the same beside it. Not for one that may have to wait itself: for a reader, that is. */
static bool has_leader(engine *e, const engine_job *j) {
    enum { WORTH = 2 * KV_BLOCK }; /* rows */
    int64_t found = -1, limit = most_reused(j);
    for (int i = 0; i < e->n_running; i++) {
        const engine_job *r = e->running[i];
        int64_t n = (int64_t)r->request.n_prompt, same = 0;
        if (r->request.score_prompt >= 0 || r->starved_ns || r->n_done + WORTH > n) continue;
        if (n > limit) n = limit;
        while (same < n && r->ids[same] == j->ids[same]) same++;
        if (same < r->n_done + WORTH) continue;
        if (found < 0) found = kv_seq_find(j->seq, j->ids, limit);
        if (same < found + WORTH) continue;
        kv_seq_mark(r->seq, same);
        return true;
    }
    return false;
}

static void start(engine *e, engine_job *j) {
    if (!j->start_ns) j->start_ns = clock_ns();
    adopt(e, j);
    e->running[e->n_running] = j;
    j->slot = e->free_slots[e->n_running++];
    ++*share_running(&e->shares, j->request.client);
    sampler_start(e->samplers[j->slot], &j->request.sampling);
    if (j->request.sampling.grammar)
        j->matcher = constrain_start(&e->constrain, j->slot, j->request.sampling.grammar,
                                     j->ids + j->request.n_prompt, (size_t)j->n_generated);
    sampler_constrain(e->samplers[j->slot], j->matcher);
    sampler_note_prompt(e->samplers[j->slot], j->ids, j->request.n_prompt);
    sampler_note_generated(e->samplers[j->slot], j->ids + j->request.n_prompt,
                           (size_t)j->n_generated);
}

/* The waiting whose client has so many running. Returns the fewest that another one has who has more,
 * INT_MAX: there is none. One whose rows are still being computed or read from disk lets others go
 * first. */
static int admit_level(engine *e, int n_own) {
    int next = INT_MAX;
    for (engine_job **at = &e->waiting; *at && e->n_running < e->config.n_parallel;) {
        engine_job *j = *at;
        int own = *share_running(&e->shares, j->request.client);
        if (own > n_own && own < next) next = own;
        if (own != n_own || kv_seq_fetch(j->seq, j->ids, most_reused(j)) || has_leader(e, j)) {
            at = &j->next;
            continue;
        }
        *at = j->next;
        if (!*at) e->waiting_tail = at;
        e->n_waiting--;
        j->next = NULL;
        start(e, j);
        if (own + 1 < next) next = own + 1; /* its client's others */
    }
    return next;
}

/* Who has the fewest running goes first, else in order of arrival. */
static void admit(engine *e) {
    for (int n_own = 0; e->waiting && e->n_running < e->config.n_parallel && n_own != INT_MAX;)
        n_own = admit_level(e, n_own);
}

/* Tokens known and not in the sequence: the prompt's rest, or the one drawn last, or (after parking)
 * everything again. */
static int64_t n_left(const engine_job *j) {
    return (int64_t)j->request.n_prompt + j->n_generated - j->n_done;
}
static bool is_decoding(const engine_job *j) {
    return j->n_generated > 0 && n_left(j) == 1;
}

/* Fills e->rows. Returns their sum. */
static int32_t plan_step(engine *e) {
    for (int i = 0; i < e->n_running; i++) {
        engine_job *j = e->running[i];
        bool scores = j->request.score_prompt >= 0 || j->request.embed == ENGINE_EMBED_MEAN;
        e->sched_jobs[i] = (sched_job){
            .n_left = is_decoding(j) ? 0 : n_left(j),
            .n_room = (int32_t)ring_room(&j->ring),
            .is_scoring = scores && j->n_done < (int64_t)j->request.n_prompt,
        };
    }
    /* Alone, a job may take its time: only its own cancelling waits, and that stops between layers. */
    bool is_alone = e->n_running + e->n_waiting <= 1;
    int64_t budget_ns = (int64_t)e->config.step_budget_ms * (is_alone ? 4000000 : 1000000);
    sched_limits l = {.max_rows = e->limits.max_rows,
                      .max_logits = e->limits.max_logits,
                      .max_chunk = e->config.max_chunk,
                      .budget = sched_budget(&e->rate, budget_ns, e->config.max_chunk)};
    sched_plan(e->sched_jobs, e->n_running, &l, e->rows);
    int32_t n_rows = 0;
    for (int i = 0; i < e->n_running; i++) n_rows += e->rows[i];
    return n_rows;
}

/* Does anybody want to know what the model expects at this index (counted from the prompt's start)? */
static bool is_wanted(const engine_job *j, int64_t index) {
    int64_t n_prompt = (int64_t)j->request.n_prompt;
    if (index <= j->n_said) return false;
    if (j->embedding)
        return j->request.embed == ENGINE_EMBED_MEAN ? index <= n_prompt : index == n_prompt;
    if (index < n_prompt) return j->request.score_prompt >= 0;
    return index == n_prompt + j->n_generated && j->request.max_tokens != 0;
}

/* Jobs with rows become spans; a job whose rows cannot be had is left out. */
static int build_spans(engine *e) {
    int n = 0;
    for (int i = 0; i < e->n_running; i++) {
        engine_job *j = e->running[i];
        int32_t rows = e->rows[i], silent = 0;
        if (rows == 0) continue;
        /* Every sequence's whole window is in the plan: only a re-run's surplus can be in the way. */
        if (!kv_seq_reserve(j->seq, rows)) {
            e->lacks_blocks = true;
            continue;
        }
        while (silent < rows && !is_wanted(j, j->n_done + silent + 1)) silent++;
        e->step_jobs[n] = j;
        e->spans[n++] = (model_span){.seq = j->seq,
                                     .ids = is_decoding(j) ? &j->last_id : j->ids + j->n_done,
                                     .n = rows,
                                     .n_logits = rows - silent};
    }
    return n;
}

/* An answer that has to come is whole before its tokens are used up. */
static void hurry(engine_job *j) {
    const engine_request *r = &j->request;
    if (!r->wrap_up_after || !j->matcher || r->max_tokens < 0) return;
    matcher_hurry(j->matcher, r->max_tokens - j->n_generated,
                  j->n_generated >= r->wrap_up_after ? r->wrap_up_id : -1);
}

static void run_draw(void *ctx, int task, int worker) {
    (void)worker;
    engine *e = ctx;
    draw *d = &e->draws[task];
    engine_job *j = d->job;
    if (d->index < (int64_t)j->request.n_prompt)
        sample_score(d->logits, e->info->n_vocab, j->ids[d->index], j->request.score_prompt,
                     &d->out);
    else {
        hurry(j);
        sampler_next(e->samplers[j->slot], d->logits, (uint64_t)j->n_generated, &d->out);
    }
}

/* Rows come in the order of their positions, one by one, so the sum does not depend on how the prompt
 * was cut. */
static void embed_row(const engine *e, engine_job *j, const float *hidden, int64_t index) {
    int32_t d = e->info->d_model;
    float *sum = j->embedding, *row = sum + d;
    j->n_said = index;
    bool is_last = index == (int64_t)j->request.n_prompt;
    if (j->request.embed == ENGINE_EMBED_LAST) {
        model_norm_hidden(e->model, hidden, sum);
        return;
    }
    model_norm_hidden(e->model, hidden, row);
    for (int32_t i = 0; i < d; i++) sum[i] += row[i];
    for (int32_t i = 0; is_last && i < d; i++) sum[i] /= (float)index;
}

/* One draw per row of logits that somebody wants, in the order they will be published. n_done counts
 * this step's rows already. */
static int collect_draws(engine *e, int n_spans) {
    int n = 0;
    for (int s = 0; s < n_spans; s++) {
        engine_job *j = e->step_jobs[s];
        const model_span *sp = &e->spans[s];
        for (int32_t i = 0; i < sp->n_logits; i++) {
            int64_t index = j->n_done - sp->n_logits + i + 1;
            if (!is_wanted(j, index)) continue;
            if (j->embedding) {
                embed_row(e, j, sp->hidden + (size_t)i * (size_t)e->info->d_model, index);
                continue;
            }
            e->draws[n++] = (draw){.job = j,
                                   .logits = sp->logits + (size_t)i * (size_t)e->info->n_vocab,
                                   .index = index};
        }
    }
    return n;
}

static bool is_stop(const engine *e, const engine_request *r, int32_t id) {
    if (!r->ignore_end && e->is_end[id]) return true;
    for (size_t i = 0; i < r->n_stop_ids; i++)
        if (r->stop_ids[i] == id) return true;
    return false;
}

static void publish(engine *e, draw *d, int64_t now) {
    engine_job *j = d->job;
    j->n_said = d->index;
    if (d->index < (int64_t)j->request.n_prompt) {
        ring_push(&j->ring, &(ring_slot){ENGINE_PROMPT, d->index, d->out, {0}});
        return;
    }
    if (j->n_generated == 0) j->first_ns = now;
    j->cost.end_ns = now;
    ring_push(&j->ring, &(ring_slot){ENGINE_TOKEN, j->n_generated, d->out, j->cost});
    j->last_id = d->out.id;
    if (j->n_generated < j->n_kept) j->ids[d->index] = d->out.id;
    j->n_generated++;
    add(&e->counters.n_generated_tokens, 1);
}

/* What the grammar leaves no choice about is said at once, and run with the next drawn token's row.
 * Not where log-probabilities were asked for: they are the model's to give. */
static void say_forced(engine *e, engine_job *j, int64_t now) {
    const engine_request *r = &j->request;
    if (!j->matcher || r->sampling.n_top >= 0 || is_stop(e, r, j->last_id)) return;
    int64_t room = (int64_t)ring_room(&j->ring), left = j->n_kept - j->n_generated;
    if (left < room) room = left;
    if (r->max_tokens >= 0 && r->max_tokens - j->n_generated < room)
        room = r->max_tokens - j->n_generated;
    if (room > CONSTRAIN_MAX_FORCED) room = CONSTRAIN_MAX_FORCED;
    int32_t ids[CONSTRAIN_MAX_FORCED];
    size_t n = room > 0 ? matcher_forced(j->matcher, ids, (size_t)room) : 0;
    for (size_t i = 0; i < n && !is_stop(e, r, j->last_id); i++) {
        if (ids[i] >= e->info->n_vocab || !matcher_follow(j->matcher, &ids[i], 1)) return;
        sampler_note_generated(e->samplers[j->slot], &ids[i], 1);
        draw d = {.job = j,
                  .index = (int64_t)r->n_prompt + j->n_generated,
                  .out = {.id = ids[i], .logprob = 0}};
        publish(e, &d, now);
        add(&e->counters.n_forced_tokens, 1);
    }
}

/* A job's end as far as its own text says; false: it goes on. */
static bool is_done(const engine *e, const engine_job *j, engine_finish *how) {
    const engine_request *r = &j->request;
    if (j->n_done < (int64_t)r->n_prompt) return false;
    *how = ENGINE_LENGTH;
    if (j->matcher && matcher_failed(j->matcher)) return true; /* cut, also where it says its end */
    *how = ENGINE_STOP;
    if (j->n_generated > 0 && is_stop(e, r, j->last_id)) return true;
    if (j->n_generated > 0 && j->matcher && matcher_is_done(j->matcher)) return true;
    *how = ENGINE_LENGTH;
    return r->max_tokens >= 0 && j->n_generated >= r->max_tokens;
}

static void measure(engine *e, int n_spans, int64_t took_ns) {
    int32_t n_decode = 0, n_prefill = 0;
    for (int s = 0; s < n_spans; s++) {
        engine_job *j = e->step_jobs[s];
        if (e->spans[s].ids == &j->last_id)
            n_decode++;
        else
            n_prefill += e->spans[s].n;
    }
    sched_learn(&e->rate, n_decode, n_prefill, took_ns);
    add(&e->counters.n_steps, 1);
    add(&e->counters.step_ns_total, (uint64_t)took_ns);
    add(n_prefill ? &e->counters.prefill_ns_total : &e->counters.decode_ns_total,
        (uint64_t)took_ns);
    add(&e->counters.n_prompt_tokens, (uint64_t)n_prefill);
}

/* One forward pass and what follows from it. */
static void step(engine *e) {
    int64_t begin = clock_ns();
    int n = build_spans(e);
    job_enter_step(e->step_jobs, n, e->door);
    bool ok = n > 0 && model_forward(e->ctx, e->spans, n, &e->door->stop_step);
    job_leave_step(e->step_jobs, n, e->door);
    if (!ok) { /* nothing was committed: whoever is not cancelled runs these rows again */
        add(&e->counters.n_stopped_steps, 1);
        return;
    }
    for (int s = 0; s < n; s++) {
        kv_seq *seq = e->spans[s].seq;
        kv_seq_commit(seq, e->spans[s].n);
        kv_seq_share(seq, e->spans[s].ids, e->spans[s].n);
        e->step_jobs[s]->n_done += e->spans[s].n;
        e->step_jobs[s]->cost = (engine_cost){.n_attended = e->spans[s].n_attended,
                                              .n_blocks = kv_seq_n_blocks(seq),
                                              .kv_bytes = kv_seq_held_bytes(seq)};
    }
    int n_draws = collect_draws(e, n);
    pool_run(e->pool, n_draws, run_draw, e);
    int64_t now = clock_ns();
    measure(e, n, now - begin);
    count_blocks(e);
    for (int i = 0; i < n_draws; i++) {
        publish(e, &e->draws[i], now);
        if (e->draws[i].index >= (int64_t)e->draws[i].job->request.n_prompt)
            say_forced(e, e->draws[i].job, now);
    }
    for (int s = 0; s < n; s++) {
        engine_finish how;
        if (!is_done(e, e->step_jobs[s], &how)) {
            job_wake_reader(e->step_jobs[s]);
            continue;
        }
        leave_running(e, e->step_jobs[s]);
        finish(e, e->step_jobs[s], how);
    }
}

static void take_earlier(int64_t *nearest, int64_t t) {
    if (t && t < *nearest) *nearest = t;
}

/* Until the nearest deadline, or until a job may be parked for another; −1 when there is neither. */
static int64_t sleep_ns(const engine *e) {
    int64_t nearest = INT64_MAX;
    for (int i = 0; i < e->n_running; i++) {
        take_earlier(&nearest, e->running[i]->request.deadline_ns);
        if (e->n_waiting > 0) take_earlier(&nearest, park_time(e, e->running[i]));
    }
    for (const engine_job *j = e->waiting; j; j = j->next)
        take_earlier(&nearest, j->request.deadline_ns);
    for (const engine_job *j = e->parked; j; j = j->next)
        take_earlier(&nearest, j->request.deadline_ns);
    if (nearest == INT64_MAX) return -1;
    int64_t left = nearest - clock_ns();
    return left > 0 ? left : 0;
}

void engine_main(engine *e) {
    guard_install();
    for (;;) {
        unsigned seen = gate_look(&e->door->gate);
        bool closes = atomic_load(&e->door->is_closed);
        int64_t now = clock_ns();
        guard_enter();
        drain_inbox(e);
        end_due(e, now, closes);
        unpark(e);
        park_unread(e, now);
        if (e->lacks_blocks) give_up_reruns(e);
        kv_run_disk(e->kv);
        admit(e);
        atomic_store_explicit(&e->counters.n_running, e->n_running, memory_order_relaxed);
        atomic_store_explicit(&e->counters.n_waiting, e->n_waiting + e->n_parked,
                              memory_order_relaxed);
        int32_t n_rows = plan_step(e);
        if (n_rows > 0) step(e);
        guard_leave();
        if (closes) return;
        if (n_rows == 0) gate_wait(&e->door->gate, seen, sleep_ns(e));
    }
}
