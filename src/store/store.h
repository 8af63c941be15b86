/* What survives a restart: rows in SQLite and file contents on disk, both below
 * the data directory.
 *
 *     store.db (+ -wal, -shm)   rows: one table, because everything the API keeps is a JSON object with
 *                               an id, an owner, a time and perhaps a parent
 *     files/ab/abcd…            contents, named by their SHA-256: written to a temporary name, fsynced,
 *                               renamed, the folder fsynced, and only then named by a row
 *     secret.key                32 random bytes, 0600: seals what clients keep for us
 *     store.lock                who runs batches and sweeps when two processes share the folder
 *     names.lock                a byte for each name that is held (store_hold)
 *
 * Promises. When a write was acknowledged it survives kill -9 and power loss (WAL,
 * synchronous=FULL). A write that fails leaves nothing behind: its transaction is rolled back, its
 * temporary files are unlinked, contents without a row are swept. A full disk is ERR_NO_SPACE.
 *
 * Threads. There is one writer: a thread that takes all waiting operations, runs each inside a
 * savepoint of one transaction and commits them together, so that a hundred answers that end at once
 * cost one fsync and no HTTP thread ever waits for a disk. If the common commit fails, each is tried
 * alone: nobody fails for a neighbour. A second thread (tasks) does the long blocking work: writing and
 * joining contents. Reads are short and come from the page cache: they run on the caller's thread
 * through a second connection, which in WAL mode never waits for the writer.
 *
 * Errors: ERR_NO_SPACE, ERR_IO, ERR_NO_MEMORY, ERR_BAD_FILE (a damaged or newer store.db).
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include "base/arena.h"
#include "base/error.h"

typedef struct store store;
typedef struct store_tx
    store_tx; /* a connection in use: the writer's inside an operation, or a reader */
typedef struct store_job store_job;

enum {
    STORE_SECRET_BYTES = 32,
    STORE_HASH_CHARS = 64,
    STORE_MAX_ID = 120,
    /* Rows kept in memory, by each of two connections. SQLite's own measure, 2 MB, fills request by request,
     * which looks like a leak; what falls out of this one is still in the kernel's page cache. */
    STORE_CACHE_BYTES = 256 << 10,
};

/* Creates the folder (0700) and the database, applies what is missing of the schema, sweeps
 * contents no row names, starts the threads. */
store *store_open(const char *dir, error *err);
/* Finishes what was submitted. NULL is allowed. */
void store_close(store *s);
/* True when no other process held the folder first: the one that runs batches and sweeps. */
bool store_is_owner(const store *s);
const unsigned char *store_get_secret(const store *s); /* [STORE_SECRET_BYTES] */

/* ── Rows ── */

typedef struct store_row {
    str kind;                 /* "response", "file", … */
    str id;                   /* unique over all kinds, ≤ STORE_MAX_ID bytes */
    str parent;               /* id of what it belongs to and is deleted with; "" = none */
    str tag;                  /* what lists filter by: a purpose, a model, a state; may be "" */
    int64_t ord;              /* order within (kind, parent); 0 = when put, after all before it */
    int64_t created, expires; /* Unix seconds; expires 0 = never */
    str content;              /* hash of the contents it names, or "" */
    str owner;                /* whose it is; "" where nobody is told apart. Stays as first put */
    str data;                 /* JSON, as clients see it */
    str extra;                /* JSON, what else is needed */
    str blob;                 /* bytes */
} store_row;

/* Reading on the caller's thread: end it soon, and on the same thread. The server itself sees every row;
 * with store_begin_read_as all below is as if only that owner's rows were there. */
store_tx *store_begin_read(store *s);
store_tx *store_begin_read_as(store *s, str owner);
void store_end_read(store_tx *tx);

/* False with ERR_NOT_FOUND when there is none (or it has expired). Strings live in mem. kind "" =
 * any. */
bool store_get(store_tx *tx, const char *kind, str id, arena *mem, store_row *out, error *err);

/* kind "" = any. */
bool store_has(store_tx *tx, const char *kind, str id);

typedef struct store_query {
    const char *kind;
    str parent, tag; /* tag: only rows with it; NULL ptr = all */
    str after;       /* id of the last row seen; NULL ptr = from the beginning */
    bool descending;
} store_query;
/* Calls each() for row after row until it returns false; the row's strings die after the call. Blobs
 * are left out. False with err set: the disk failed, or `after` names no such row (ERR_NOT_FOUND). */
bool store_each(store_tx *tx, const store_query *q, bool (*each)(void *ctx, const store_row *row),
                void *ctx, error *err);
int64_t store_count(store_tx *tx, const char *kind, str parent, str tag);

/* Inside an operation. Inserts, or replaces the row of that id (its ord stays). ERR_CONFLICT: the id is
 * one of another kind. */
bool store_put(store_tx *tx, const store_row *row, error *err);
/* The row, its children and theirs. Contents nobody names any more are unlinked after the commit.
 * *deleted (may be NULL): whether it was there. */
bool store_delete(store_tx *tx, const char *kind, str id, bool *deleted, error *err);
/* Rows of that parent and kind. */
bool store_delete_children(store_tx *tx, const char *kind, str parent, error *err);
/* A later end for a row. */
bool store_set_expiry(store_tx *tx, str id, int64_t expires, error *err);

/* ── Operations ── */

/* Runs on the writer thread, perhaps twice: it must depend on ctx and tx only. False with err set rolls
 * back what it did. */
typedef bool store_fn(store_tx *tx, void *ctx, error *err);
/* wake (may be NULL) is called once, on the store's thread, when the outcome is known. ctx lives until
 * store_job_free. NULL: no memory. */
store_job *store_submit(store *s, store_fn *fn, void *ctx, void (*wake)(void *), void *wake_ctx);
/* Any blocking work on the tasks' thread; it may call store_write. */
typedef bool store_task_fn(store *s, void *ctx, error *err);
store_job *store_submit_task(store *s, store_task_fn *fn, void *ctx, void (*wake)(void *),
                             void *wake_ctx);
/* True once the outcome is known: *err is set if it failed. NULL job counts as failed for want of memory. */
bool store_poll(store_job *j, error *err);
/* Waits for the outcome if it is not known yet. NULL is allowed. */
void store_job_free(store_job *j);
/* Submits and waits. Not for HTTP threads. */
bool store_write(store *s, store_fn *fn, void *ctx, error *err);

/* ── Names that are held ──
 * For work on an object that outlasts one operation. Nobody else holds the same name meanwhile, in
 * this process or in another that shares the folder; the kernel gives it back when its process dies. */

/* Never waits. False: it is held already (or there is no memory to remember it). */
bool store_hold(store *s, str name);
void store_release(store *s, str name);

/* ── Contents ── */

typedef struct store_content {
    char hash[STORE_HASH_CHARS + 1]; /* SHA-256, hex */
    char md5[33];                    /* hex */
    int64_t bytes;
    char temporary[40]; /* name below files/ until store_keep_content */
} store_content;

typedef struct store_writer store_writer;
store_writer *store_writer_open(store *s, error *err);
bool store_writer_put(store_writer *w, const void *bytes, size_t len, error *err);
/* fsyncs and closes. The content has a temporary name until an operation keeps it. */
bool store_writer_finish(store_writer *w, store_content *out, error *err);
/* Also after finish; unlinks what was not finished. NULL is allowed. */
void store_writer_free(store_writer *w);
/* Inside the operation that puts the row which names it: gives it its lasting name. */
bool store_keep_content(store_tx *tx, const store_content *c, error *err);
/* When that operation failed. */
void store_drop_content(store *s, const store_content *c);
/* A descriptor for reading (pread), or −1. */
int store_open_content(store *s, str hash, error *err);

#endif
