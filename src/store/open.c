/* Opening: the folder, its lock, the schema and its migrations, the secret. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "store/impl.h"

/* Step i brings a database from version i to i + 1. Never edit one that was released: add another. */
static const char *const migrations[] = {
    "CREATE TABLE object ("
    " id TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, parent TEXT NOT NULL, tag TEXT NOT NULL,"
    " ord INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,"
    " content TEXT NOT NULL, data TEXT NOT NULL, extra TEXT NOT NULL, blob BLOB NOT NULL);"
    "CREATE INDEX object_list ON object (kind, parent, ord);"
    "CREATE INDEX object_parent ON object (parent) WHERE parent <> '';"
    "CREATE INDEX object_expires ON object (expires) WHERE expires > 0;"
    "CREATE INDEX object_content ON object (content) WHERE content <> '';",
    "ALTER TABLE object ADD COLUMN owner TEXT NOT NULL DEFAULT '';",
};
enum { VERSION = sizeof migrations / sizeof migrations[0] };

bool store_errno(const char *what, error *err) {
    int e = errno;
    if (e == ENOSPC || e == EDQUOT || e == EFBIG)
        return error_set(err, ERR_NO_SPACE, NULL,
                         "The disk that holds the data directory is full. Nothing was stored.");
    return error_set(err, ERR_IO, NULL, "The store cannot %s: %s.", what, strerror(e));
}

static int get_version(store_tx *tx) {
    sqlite3_stmt *q = NULL;
    int version = -1;
    if (sqlite3_prepare_v2(tx->db, "PRAGMA user_version", -1, &q, NULL) == SQLITE_OK &&
        sqlite3_step(q) == SQLITE_ROW)
        version = sqlite3_column_int(q, 0);
    sqlite3_finalize(q);
    return version;
}

static bool migrate(store_tx *tx, error *err) {
    /* Asked again under the write lock: two processes may start at once. */
    if (!store_sql(tx, "BEGIN IMMEDIATE", err)) return false;
    int version = get_version(tx);
    bool ok = true;
    if (version < 0)
        ok = store_sql_error(tx, "read its version", err);
    else if (version > VERSION)
        ok = error_set(
            err, ERR_BAD_FILE, NULL,
            "The store in %s was written by a newer oriel (schema %d, this one knows %d).",
            tx->s->dir, version, VERSION);
    for (int v = version; ok && v < VERSION; v++) {
        char set[48];
        snprintf(set, sizeof set, "PRAGMA user_version = %d", v + 1);
        ok = store_sql(tx, migrations[v], err) && store_sql(tx, set, err);
    }
    if (!store_sql(tx, ok ? "COMMIT" : "ROLLBACK", err)) {
        sqlite3_exec(tx->db, "ROLLBACK", NULL, NULL, NULL);
        ok = false;
    }
    return ok;
}

bool store_tx_open(store_tx *tx, store *s, bool writer, error *err) {
    tx->s = s;
    char path[sizeof s->dir + 16];
    snprintf(path, sizeof path, "%s/store.db", s->dir);
    if (writer) { /* before SQLite does, for the mode; -wal and -shm take it over */
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0) return store_errno("open its database", err);
        close(fd);
    }
    if (sqlite3_open_v2(path, &tx->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
                        NULL) != SQLITE_OK)
        return store_sql_error(tx, "open its database", err);
    sqlite3_busy_timeout(tx->db, 10000);
    sqlite3_extended_result_codes(tx->db, 1);
    char cache[48];
    snprintf(cache, sizeof cache, "PRAGMA cache_size = -%d", STORE_CACHE_BYTES >> 10);
    if (!store_sql(tx, cache, err)) return false;
    if (!writer)
        return store_sql(tx, "PRAGMA query_only = 1", err) &&
               store_sql(tx, "PRAGMA temp_store = MEMORY", err);
    return store_sql(tx, "PRAGMA journal_mode = WAL", err) &&
           store_sql(tx, "PRAGMA synchronous = FULL", err) &&
           store_sql(tx, "PRAGMA temp_store = MEMORY", err) &&
           store_sql(tx, "PRAGMA journal_size_limit = 16777216", err) && migrate(tx, err);
}

void store_tx_close(store_tx *tx) {
    for (int i = 0; i < tx->n_cached; i++) sqlite3_finalize(tx->cached[i].stmt);
    tx->n_cached = 0;
    sqlite3_close(tx->db);
    tx->db = NULL;
    free(tx->doubtful);
    tx->doubtful = NULL;
}

/* mkdir -p; what is made here is ours alone. */
static bool make_folder(const char *dir, error *err) {
    char path[4000];
    snprintf(path, sizeof path, "%s", dir);
    for (char *p = path + 1;; p++) {
        if (*p && *p != '/') continue;
        char c = *p;
        *p = 0;
        if (mkdir(path, 0700) != 0 && errno != EEXIST) {
            int e = errno;
            return error_set(err, e == ENOSPC ? ERR_NO_SPACE : ERR_IO, "data-dir",
                             "The data directory %s cannot be made: %s.", path, strerror(e));
        }
        *p = c;
        if (!c) return true;
    }
}

/* The secret is made once; a second process that starts at the same time must not make another. */
bool store_load_secret(store *s, error *err) {
    char path[sizeof s->dir + 16];
    snprintf(path, sizeof path, "%s/secret.key", s->dir);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) return store_errno("open its secret", err);
    bool ok = flock(fd, LOCK_EX) == 0 || store_errno("lock its secret", err);
    ssize_t n = ok ? pread(fd, s->secret, sizeof s->secret, 0) : 0;
    if (ok && n != (ssize_t)sizeof s->secret) {
        if (n > 0) log_line(LOG_WARN, "store", "secret.key was cut short; a new one is made");
        os_random(s->secret, sizeof s->secret);
        ok = (pwrite(fd, s->secret, sizeof s->secret, 0) == (ssize_t)sizeof s->secret &&
              fsync(fd) == 0) ||
             store_errno("write its secret", err);
    }
    close(fd);
    return ok;
}

store *store_open(const char *dir, error *err) {
    store *s = calloc(1, sizeof *s);
    if (!s) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the store.");
        return NULL;
    }
    s->lock_fd = s->files_fd = s->names_fd = -1;
    pthread_mutex_init(&s->lock, NULL);
    pthread_mutex_init(&s->read_lock, NULL);
    pthread_cond_init(&s->done, NULL);
    char path[sizeof s->dir + 16];
    if ((size_t)snprintf(s->dir, sizeof s->dir, "%s", dir) >= sizeof s->dir) {
        error_set(err, ERR_USAGE, "data-dir", "The data directory's name is too long.");
        goto fail;
    }
    if (!make_folder(s->dir, err)) goto fail;
    snprintf(path, sizeof path, "%s/store.lock", s->dir);
    s->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (s->lock_fd < 0) {
        store_errno("open its lock", err);
        goto fail;
    }
    s->is_owner = flock(s->lock_fd, LOCK_EX | LOCK_NB) == 0;
    if (!s->is_owner)
        log_line(LOG_WARN, "store",
                 "%s is also used by another process, which runs its batches and background work",
                 s->dir);
    if (!store_load_secret(s, err) || !store_files_open(s, err) || !store_names_open(s, err) ||
        !store_tx_open(&s->write, s, true, err) || !store_tx_open(&s->read, s, false, err))
        goto fail;
    if (s->is_owner) store_sweep_files(s);
    if (store_threads_start(s, err)) return s;
fail:
    store_close(s);
    return NULL;
}

void store_close(store *s) {
    if (!s) return;
    store_threads_stop(s);
    store_tx_close(&s->read);
    store_tx_close(&s->write);
    if (s->files_fd >= 0) close(s->files_fd);
    if (s->lock_fd >= 0) close(s->lock_fd);
    store_names_close(s);
    pthread_cond_destroy(&s->done);
    pthread_mutex_destroy(&s->read_lock);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

bool store_is_owner(const store *s) {
    return s->is_owner;
}
const unsigned char *store_get_secret(const store *s) {
    return s->secret;
}
