/* main(), flags, terminal: the only room that prints and exits.
 *
 * Answers go to standard output, everything about them to standard error.
 * Exit status: 0 done, 1 it failed here, 2 the command line or input was wrong,
 * 130 interrupted.
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <stdio.h>

#include "chat/turn.h"
#include "config/config.h"
#include "hub/hub.h"

typedef int cli_command(int argc, char **argv);
cli_command cmd_generate, cmd_chat, cmd_score, cmd_tokenize, cmd_inspect, cmd_bench, cmd_serve,
    cmd_plan;
cli_command cmd_bench_window, cmd_bench_notes, cmd_bench_load;

/* Prints the error as one sentence on stderr; returns the exit status it asks for. */
int cli_fail(const error *err);
/* Loads configuration and answers --help. False: *status is what to return. */
bool cli_begin(config *c, int command, int argc, char **argv, const char *synopsis, int *status);

/* ── a loaded model ── */
typedef struct session {
    config *c;
    hub_model model;
    engine *e;
    chat *chat; /* NULL unless asked for */
} session;

bool session_open(session *s, config *c, bool with_chat, error *err);
/* What session_open looks at besides memory, so that oriel plan refuses and warns of the same: first what needs no
 * model, with the engine's configuration as the result; then what needs the plan. */
bool session_prepare(const config *c, engine_config *e, error *err);
bool session_check_plan(const config *c, const engine_plan *p, error *err);
/* A line in the log when --ctx goes beyond what the model was trained for. */
void session_warn_of_long_context(const engine_plan *p);
void session_close(session *s);
engine_config session_engine_config(const config *c, error *err);
sample_params session_sampling(const config *c);
/* How long prompts may be; `otherwise` where the configuration does not say what happens beyond. */
context_rules session_context(const config *c, context_mode otherwise);

/* Runs a turn to its end. `show` (may be NULL) sees every event; false from it cancels. Fills *end with
 * TURN_END's event (its strings are gone). SIGINT cancels; then *end.finish is TURN_CANCELLED. */
typedef bool show_fn(void *ctx, const turn_event *e);
bool cli_run_turn(turn *t, show_fn *show, void *ctx, turn_event *end, error *err);

/* What a person who sees no words is told on stderr: they all went into thinking. */
void cli_note_unsaid(const config *c, const turn_event *end, bool said);

/* ── terminal ── */
bool term_is_rich(FILE *f); /* a terminal that takes colours (NO_COLOR respected) */
void term_dim(FILE *f, bool on);
bool term_progress(void *ctx, uint64_t done,
                   uint64_t total); /* model_options.progress; ctx: const char *what */
bool term_not_interrupted(void *ctx, uint64_t done, uint64_t total); /* the same, silent */
void term_progress_end(void);
/* "3.1 GB" */
typedef struct term_size {
    char text[24];
} term_size;
term_size term_bytes(uint64_t bytes);
/* Ctrl-C (and SIGTERM): counts presses since the last reset instead of killing the program. */
void term_catch_interrupt(void);
/* A mapped file that is cut short meanwhile ends the program with a sentence. */
void term_catch_lost_pages(void);
int term_interrupts(void);
void term_reset_interrupts(void);

/* Writes the text and a newline to standard output and frees it. Whether the output took it is looked
 * at once, when the command is done. */
bool cli_write(buf *text, error *err);

/* Whole file, or standard input for "-". */
bool cli_read_file(const char *path, buf *out, error *err);

#endif
