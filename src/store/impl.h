/* Inside the store; not a door. */
#ifndef STORE_IMPL_H
#define STORE_IMPL_H

#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>

#include "store/store.h"

enum { STORE_MAX_STATEMENTS = 24 };

struct store_tx {
    store *s;
    sqlite3 *db;
    struct {
        const char *sql; /* compared by address: literals */
        sqlite3_stmt *stmt;
    } cached[STORE_MAX_STATEMENTS];
    int n_cached;
    bool is_scoped; /* reader only: to that owner */
    str owner;
    /* writer only: contents that may have lost their last row */
    char (*doubtful)[STORE_HASH_CHARS + 1];
    size_t n_doubtful, cap_doubtful;
};

struct store_job {
    store_job *next;
    store *s;
    store_fn *fn;
    store_task_fn *task;
    void *ctx;
    void (*wake)(void *);
    void *wake_ctx;
    bool done; /* under s->lock */
    error err;
};

typedef struct job_queue {
    store_job *head, **tail;
    pthread_cond_t more;
    pthread_t thread;
    bool runs;
} job_queue;

struct store {
    char dir[4000];
    int lock_fd, files_fd, names_fd;
    bool is_owner;
    unsigned char secret[STORE_SECRET_BYTES];
    store_tx write, read;
    pthread_mutex_t read_lock;
    pthread_mutex_t lock; /* queues and jobs */
    pthread_cond_t done;
    bool closing;
    uint64_t *held; /* under lock: hashes of names */
    size_t n_held, cap_held;
    job_queue writes, tasks;
    int64_t last_ord;
    _Atomic uint64_t n_temporary;
};

/* sql is a literal; the statement is reset and unbound. NULL with err set. */
sqlite3_stmt *store_statement(store_tx *tx, const char *sql, error *err);
/* Sets err from the connection's state; false always. */
bool store_sql_error(store_tx *tx, const char *what, error *err);
bool store_sql(store_tx *tx, const char *sql, error *err);
bool store_errno(const char *what, error *err); /* from errno; false always */
bool store_tx_open(store_tx *tx, store *s, bool writer, error *err);
void store_tx_close(store_tx *tx);
/* Unlinks the doubtful contents that no row names. */
void store_sweep_doubtful(store_tx *tx);
bool store_doubt(store_tx *tx, const char *hash, error *err);
bool store_delete_expired(store_tx *tx, void *ctx, error *err);

bool store_files_open(store *s, error *err);
void store_sweep_files(store *s); /* at start: temporaries, and contents without a row */
void store_unlink_content(store *s, const char *hash);
bool store_load_secret(store *s, error *err);

bool store_names_open(store *s, error *err);
void store_names_close(store *s);

bool store_threads_start(store *s, error *err);
void store_threads_stop(store *s);

#endif
