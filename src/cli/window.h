/* The acceptance bench of the window, between its parts: window_run.c measures one
 * configuration, window_turns.c its long chat, window_judge.c says what holds,
 * window_report.c shows it, cmd_bench_window.c is the command.
 */
#ifndef CLI_WINDOW_H
#define CLI_WINDOW_H

#include "cli/cli.h"
#include "cli/pace.h"
#include "cli/probe.h"
#include "cli/stats.h"

enum {
    WINDOW_MAX_SIZES = 8,
    WINDOW_MAX_SAMPLES = 2048, /* of a run, however long */
    WINDOW_MAX_PAIRS = 10000,
    WINDOW_BURST = 64, /* tokens of one half of a pair */
    WINDOW_MAX_CHECKS = 16,
};

/* What must hold. */
#define WINDOW_SLOPE_BOUND  1.0          /* percent of tokens/s per 100,000 tokens */
#define WINDOW_RATIO_BOUND  0.02         /* deep against shallow */
#define WINDOW_MEMORY_BOUND (64 * 1024.) /* bytes per 100,000 tokens */
enum { WINDOW_ENOUGH_PAIRS = 300, WINDOW_ENOUGH_WINDOWS = 10, WINDOW_ENOUGH_CUTS = 10 };

typedef struct window_check {
    const char *name;
    stats_verdict verdict;
    char detail[200];
} window_check;

/* Along the run: [n] each. */
typedef struct window_series {
    size_t n;
    double tokens[WINDOW_MAX_SAMPLES]; /* position in the sequence */
    double tps[WINDOW_MAX_SAMPLES];    /* tokens/s since the sample before */
    double rss_anon[WINDOW_MAX_SAMPLES], locked[WINDOW_MAX_SAMPLES],
        kv[WINDOW_MAX_SAMPLES]; /* bytes */
} window_series;

typedef struct window_memory {
    stats_interval slope; /* bytes per 100,000 tokens */
    double level, range;  /* median; max − min. Bytes, past the window */
} window_memory;

typedef struct window_chat {
    int64_t n_turns, n_cuts;    /* done; turns at which the prompt was cut anew */
    int64_t limit, longest;     /* max_context_tokens − margin; the largest prompt_tokens */
    int64_t n_prompt;           /* tokens in all prompts … */
    int64_t n_computed;         /* … and of those, not there already … */
    int64_t n_computed_at_cuts; /* … in turns whose prompt was cut anew */
    double ttft_p50, ttft_p99;  /* seconds */
    char skipped[160];          /* why there was none; "" = there was */
} window_chat;

typedef struct window_result {
    int64_t max_kv_size, pinned; /* p + W; p */
    int64_t settled;             /* position from which on nothing may change any more */
    int64_t n_tokens;            /* generated; 0 until the run is complete */
    double n_windows;            /* how often the window was passed */
    uint64_t block_bytes;        /* of one block in all layers */
    uint64_t planned_kv;
    /* before */
    int64_t n_prefill;
    double prefill_s, ttft_s;
    /* counted token by token past the window */
    int64_t n_counted;
    int64_t attended_min, attended_max;       /* key rows per token */
    uint64_t row_bytes;                       /* read for one of them: K and V of all heads */
    int64_t blocks_min, blocks_max, n_uneven; /* n_uneven: tokens that held other blocks than the
                                                 token one block before */
    bool counts_allocs;
    uint64_t n_allocs; /* by all threads */
    /* timed */
    double tps_before, tps_past, step_p50_ms, step_p99_ms;
    stats_interval slope;     /* judged: of the pace, percent per 100,000 tokens */
    stats_interval raw_slope; /* shown: of tokens/s, percent of tps_past per 100,000 tokens */
    int64_t n_reference;      /* tokens of the reference */
    size_t n_paces;           /* past the window: [n_paces] each */
    double pace_tokens[PACE_MAX],
        pace[PACE_MAX]; /* position; the reference's time over the run's */
    size_t n_pairs;
    int64_t shallow_from, shallow_to; /* positions of the pairs' younger half */
    stats_interval ratio;             /* time of the deep burst / of the shallow one */
    /* memory */
    window_memory rss_anon, locked, kv;
    uint64_t n_minor, n_major; /* page faults past the window */
    double cpu_percent, foreign_cores, seconds;
    window_chat chat;
    window_series series;
    window_check checks[WINDOW_MAX_CHECKS];
    int n_checks;
} window_result;

typedef struct window_options {
    int64_t n_tokens, n_turns, turn_tokens, n_pairs, prompt_tokens;
    int64_t max_context_tokens, margin; /* of the chat; 0 = the window, one answer */
    uint64_t seed;
    bool counters_only, wants_lock, shows_progress;
} window_options;

/* Everything about all configurations that is not one of them. */
typedef struct window_about {
    char model[200], arch[32], type[16], digest[32], kernels[16], kv_type[16];
    uint64_t weight_bytes;
    int n_threads;
    probe_machine machine;
} window_about;

/* Opens an engine with this window, runs, closes it. Fills all but checks and chat. */
bool window_run(engine *e, const window_options *o, window_result *r, error *err);
/* A conversation of n_turns turns on the same engine. */
bool window_run_chat(engine *e, const window_options *o, window_chat *out, error *err);
/* Fills the checks. */
void window_judge(const window_options *o, window_result *r);
stats_verdict window_verdict(const window_result *r, int n);

void window_print_table(const window_about *a, const window_options *o, const window_result *r,
                        int n);
void window_put_json(const window_about *a, const window_options *o, const window_result *r, int n,
                     buf *out);
void window_put_notes(const window_about *a, const window_options *o, const window_result *r, int n,
                      const char *svg, buf *out);
void window_put_svg(const window_about *a, const window_result *r, int n, buf *out);

#endif
