/* What the files of /v1/batches share; not a door. batches.c has the routes and the object, batch_input.c
 * reads a batch's file, batch_run.c runs its lines, batch_output.c writes what came of them. */
#ifndef API_BATCHES_IMPL_H
#define API_BATCHES_IMPL_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

#include "api/files.h"
#include "api/worker.h"

enum {
    BATCH_MAX_LINES = 50000,
    BATCH_MAX_ERRORS = 100,
    BATCH_MAX_LINE = 16 << 20,
    BATCH_MAX_ACTIVE = 256,
    BATCH_MAX_REFUSALS = 12,
};

typedef struct batch_line {
    size_t n; /* its number, from 0 */
    http_req *r;
} batch_line;

typedef struct batch_job {
    char id[48];
    char *owner;
    json_t *object; /* as clients see it */
    int64_t created, expires, output_seconds;
    int fd;
    char *text; /* the input file, mapped */
    size_t len;
    size_t *starts; /* [n][2]: where line i begins and ends */
    size_t n;
    unsigned char *state; /* [n] below */
    size_t next;          /* no line before it is undone and idle */
    int64_t n_ok, n_failed;
    batch_line active[BATCH_MAX_ACTIVE];
    size_t n_active;
    int64_t retry_ns; /* until then no line that was refused is tried again */
    int64_t usage[5]; /* input, cached, output, reasoning, total */
} batch_job;

/* Of state[]: it has its row; it runs; how often it was put back; how often it was refused. */
enum { LINE_DONE = 0x80, LINE_ACTIVE = 0x40, LINE_PUT_BACK = 0x30, LINE_REFUSED = 0x0F };
enum { ONE_PUT_BACK = 0x10 };

struct batches {
    api *a;
    pthread_t thread;
    bool has_thread;
    atomic_bool closing, look;
    sem_t more;
    batch_job *job;
    int n_waited; /* ticks with live requests waiting */
};

/* ── Driving (batch_run.c) ── */
/* Whether the answer to a line is no answer, and the line is to be tried again after wait_ms. How long
 * others fill the queue (429) or the conversation says nothing about the line; a server that cannot
 * answer it (503) is asked BATCH_MAX_REFUSALS times, then that is the answer. */
bool batch_line_refused(unsigned char *state, int status, bool is_locked, int64_t *wait_ms);

/* ── The object as clients see it (batches.c) ── */
const char *batch_get_status(const batch_job *b);
/* Of a row's extra: the seconds its output files live, or 0. */
int64_t batch_parse_seconds(str extra);
/* The status and the time it began. */
void batch_set_status(json_t *object, const char *status);
/* request_counts and usage, from the job's. */
void batch_set_counts(batch_job *b);
bool batch_put_object(store_tx *tx, const char *id, json_t *object, str owner, int64_t created,
                      int64_t expires, int64_t output_seconds, error *err);

/* ── The input (batch_input.c) ── */
/* Maps the file and finds its lines. */
bool batch_open_input(batch_job *k, store *s, str hash, error *err);
/* Line n as it came; borrowed. */
str batch_get_line(const batch_job *k, size_t n);
/* Adds what is wrong with the lines to a list in the shape of OpenAI's batch errors, BATCH_MAX_ERRORS at
 * most; none = it may run. Takes the model's name into the object. */
void batch_validate(batch_job *k, json_t *errors);
void batch_add_error(json_t *list, const char *code, size_t line, const char *param,
                     const char *message);

/* ── The output (batch_output.c) ── */
/* One line of the output or error file. request_id NULL: it was never answered, code and message say why. */
void batch_render_line(const batch_job *k, size_t n, int status, const char *request_id, str body,
                       const char *code, const char *message, buf *out);

typedef struct batch_files {
    file_draft output, errors;
    bool has_output, has_errors;
    char names[2][80];
} batch_files;
/* Writes both files of the rows of the lines, in the order of the lines; with expired, lines without a
 * row go to the errors, and count there. What was written stays when it fails: batch_files_drop. The
 * drafts borrow from `files`. */
bool batch_files_write(store *s, batch_job *k, bool expired, batch_files *files, error *err);
/* Makes files of them, in an operation. */
bool batch_files_put(store_tx *tx, const batch_files *files, error *err);
void batch_files_drop(store *s, const batch_files *files);

#endif
