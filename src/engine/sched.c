#include "engine/sched.h"

enum { FIRST_CHUNK = 32, MIN_CHUNK = 8 };

static int32_t min32(int32_t a, int32_t b) {
    return a < b ? a : b;
}

/* Most rows this prompt could use now. */
static int32_t want_rows(const sched_job *j, const sched_limits *l, int32_t score_rows) {
    int32_t want = j->n_left < l->max_chunk ? (int32_t)j->n_left : l->max_chunk;
    return j->is_scoring ? min32(want, min32(j->n_room, score_rows)) : want;
}

void sched_plan(const sched_job *jobs, int n, const sched_limits *l, int32_t *rows) {
    int32_t n_decode = 0, n_prefill = 0, n_scoring = 0;
    for (int i = 0; i < n; i++) {
        bool runs = jobs[i].n_room > 0;
        rows[i] = runs && jobs[i].n_left == 0;
        n_decode += rows[i];
        if (!runs || jobs[i].n_left == 0) continue;
        n_prefill++;
        n_scoring += jobs[i].is_scoring;
    }
    if (n_prefill == 0) return;
    /* Every job may need one row of logits; scoring ones share what is left of them. */
    int32_t score_rows = n_scoring ? 1 + (l->max_logits - n) / n_scoring : 0;
    int32_t left = min32(l->budget, l->max_rows - n_decode);
    int32_t open = n_prefill; /* prompts that could use more */
    while (left > 0 && open > 0) {
        int32_t share = left / open > 0 ? left / open : 1;
        open = 0;
        for (int i = 0; i < n && left > 0; i++) {
            if (jobs[i].n_room <= 0 || jobs[i].n_left == 0) continue;
            int32_t want = want_rows(&jobs[i], l, score_rows) - rows[i];
            int32_t more = min32(min32(want, share), left);
            rows[i] += more;
            left -= more;
            open += want > more;
        }
    }
}

static double blend(double old, double seen) {
    if (old == 0) return seen;
    /* One slow step (a page fault, another process) moves the estimate by a factor of 2 at most. */
    if (seen > 4 * old) seen = 4 * old;
    return old + (seen - old) / 4;
}

void sched_learn(sched_rate *r, int32_t n_decode, int32_t n_prefill, int64_t took_ns) {
    if (took_ns <= 0) return;
    if (n_prefill == 0) {
        if (n_decode > 0) r->decode_ns = blend(r->decode_ns, (double)took_ns);
        return;
    }
    /* A chunk of few rows measures the cost of a step, not of a row. */
    if (n_prefill < MIN_CHUNK) return;
    double rest = (double)took_ns - r->decode_ns; /* any step reads the weights once */
    double floor_ns = (double)took_ns / (n_prefill + n_decode) / 4;
    double seen = rest / n_prefill;
    r->row_ns = blend(r->row_ns, seen > floor_ns ? seen : floor_ns);
}

int32_t sched_budget(const sched_rate *r, int64_t budget_ns, int32_t max_chunk) {
    if (r->row_ns == 0) return min32(FIRST_CHUNK, max_chunk);
    double rows = ((double)budget_ns - r->decode_ns) / r->row_ns;
    /* A model so slow that decoding alone takes the budget still has to get through its prompts. */
    if (rows < MIN_CHUNK) rows = MIN_CHUNK;
    return rows < max_chunk ? (int32_t)rows : max_chunk;
}
