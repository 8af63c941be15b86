/* Configuration: one table. Each option's flag, environment variable, file key,
 * type, range, default and help stand in one row, and every door reads the same
 * merge: flag, then ORIEL_* in the environment, then the JSON file (--config,
 * else $XDG_CONFIG_HOME/oriel/config.json where it exists), then the default.
 *
 * An unknown flag, an unknown key in the file or a value out of range is one
 * sentence that names it.
 */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include <stdio.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/str.h"

/* Which commands an option belongs to; its row says so with these bits. */
enum {
    CONFIG_GENERATE = 1 << 0,
    CONFIG_CHAT = 1 << 1,
    CONFIG_SCORE = 1 << 2,
    CONFIG_TOKENIZE = 1 << 3,
    CONFIG_INSPECT = 1 << 4,
    CONFIG_BENCH = 1 << 5,
    CONFIG_SERVE = 1 << 6,
    CONFIG_PLAN = 1 << 7,
    CONFIG_BENCH_WINDOW = 1 << 10,
    CONFIG_BENCH_LOAD = 1 << 11,
};

typedef struct config {
    int command; /* the bit this was loaded for */
    /* model and engine */
    const char *model; /* NULL = built in */
    const char *data_dir;
    int64_t threads, parallel, ctx, max_kv_size, pinned, chunk, queue, kv_cache, kv_dir_size;
    int64_t max_context_tokens, max_context_tokens_margin; /* of prompts; 0 = not given */
    const char *truncation; /* "auto", "disabled", NULL = not given */
    bool performance_mode;
    int64_t perf_max_tokens, perf_max_context_tokens, perf_max_kv_size,
        perf_prompt_token_budget; /* 0 = not given */
    const char *kv_type, *load, *kv_dir;
    bool f32_acts, mmap_rows, mlock, drop_caches;
    const char *chat_template; /* file with a Jinja template instead of the model's own */
    /* the turn */
    const char *prompt, *prompt_file, *prompt_ids, *system;
    const char *json_schema, *grammar_file, *regex; /* the form of the answer */
    bool raw, ignore_eos;
    int64_t max_tokens;
    double temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
    int64_t top_k, min_tokens_to_keep, repetition_context_size, seed, logprobs;
    const char *reasoning_effort;
    const char **stop;
    size_t n_stop;
    /* what is shown */
    bool json, show_reasoning, quiet, special, decode;
    const char *debug_dir, *file;
    int64_t log_level;
    /* serve */
    const char *host;
    int64_t port, http_threads;
    const char **api_key, **cors_origin, **allow_host, **alias;
    size_t n_api_key, n_cors_origin, n_allow_host, n_alias;
    const char *api_key_file;
    const char *transcribe_command, *image_command;
    bool no_store, no_page;
    int64_t store_days;
    /* bench */
    int64_t prompt_tokens, generate_tokens, repeat;
    const char *frontiers;
    /* bench window */
    const char *window_sizes, *svg, *notes;
    int64_t tokens, turns, turn_tokens, pairs;
    bool counters;

    bool help, version;
    const char **args; /* what is not an option */
    size_t n_args;
    arena mem;  /* owns every string above */
    int source; /* while loading: which of the sources is being read … */
    unsigned char
        *set_by; /* … and [option]: the strongest that gave it, 0 = none but the default */
} config;

/* What holds in the end: in performance mode (c->performance_mode, unless a request says otherwise) each perf_… value that was given takes the place
 * of its plain twin, unless a stronger source gave the twin. 0 (max_tokens: −1) = not given. */
typedef struct config_limits {
    int64_t max_tokens, max_context_tokens, max_kv_size, prompt_token_budget;
    bool is_perf_context, is_perf_window; /* it was the perf_ twin that gave it */
} config_limits;
config_limits config_get_limits(const config *c, bool performance_mode);

/* Parses argv[first…] for a command (one of the bits). Fills *c; config_deinit in any case. Members of
 * options that the command does not have stay zero. */
bool config_load(config *c, int command, int argc, char **argv, int first, error *err);
void config_deinit(config *c);

/* Calls `say` for every ORIEL_… variable in the environment that has a value and means nothing to any
 * command; `meant` is the variable that was probably meant, or NULL. */
typedef void config_strange_fn(void *ctx, str name, const char *meant);
void config_name_strange_variables(config_strange_fn *say, void *ctx);

/* The rows of a command, for --help. Fits a screen. */
void config_print_help(FILE *out, int command);
/* Of the effective values that change answers: part of system_fingerprint. */
uint64_t config_hash(const config *c);
/* --data-dir, else $ORIEL_DATA_DIR, else $XDG_DATA_HOME/oriel, else ~/.local/share/oriel. Not created. */
const char *config_find_data_dir(config *c);

#endif
