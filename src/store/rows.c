/* Rows: SQL in and out. Everything of the database is said here and in open.c. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/impl.h"

/* SQLite knows ENOSPC only, and what errno said is lost by now: ask the disk itself. */
static bool disk_is_full(const store *s) {
    static const char bytes[16384];
    int fd = openat(s->files_fd, "tmp-probe", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    bool full = (fd < 0 || write(fd, bytes, sizeof bytes) != (ssize_t)sizeof bytes) &&
                (errno == ENOSPC || errno == EDQUOT || errno == EFBIG);
    if (fd >= 0) close(fd);
    unlinkat(s->files_fd, "tmp-probe", 0);
    return full;
}

bool store_sql_error(store_tx *tx, const char *what, error *err) {
    int code = tx->db ? sqlite3_extended_errcode(tx->db) : SQLITE_NOMEM;
    const char *why = tx->db ? sqlite3_errmsg(tx->db) : "no memory";
    if ((code & 0xFF) == SQLITE_FULL ||
        ((code & 0xFF) == SQLITE_IOERR && code != SQLITE_IOERR_NOMEM && disk_is_full(tx->s)))
        return error_set(err, ERR_NO_SPACE, NULL,
                         "The disk that holds the data directory is full. Nothing was stored.");
    if ((code & 0xFF) == SQLITE_NOMEM || code == SQLITE_IOERR_NOMEM)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the store.");
    if ((code & 0xFF) == SQLITE_CORRUPT || (code & 0xFF) == SQLITE_NOTADB)
        return error_set(err, ERR_BAD_FILE, NULL, "The store's database is damaged (%s: %s).", what,
                         why);
    return error_set(err, ERR_IO, NULL, "The store cannot %s: %s.", what, why);
}

sqlite3_stmt *store_statement(store_tx *tx, const char *sql, error *err) {
    for (int i = 0; i < tx->n_cached; i++)
        if (tx->cached[i].sql == sql) {
            sqlite3_reset(tx->cached[i].stmt);
            sqlite3_clear_bindings(tx->cached[i].stmt);
            return tx->cached[i].stmt;
        }
    sqlite3_stmt *stmt = NULL;
    if (tx->n_cached == STORE_MAX_STATEMENTS ||
        sqlite3_prepare_v3(tx->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &stmt, NULL) != SQLITE_OK) {
        store_sql_error(tx, "prepare", err);
        return NULL;
    }
    tx->cached[tx->n_cached].sql = sql;
    tx->cached[tx->n_cached++].stmt = stmt;
    return stmt;
}

bool store_sql(store_tx *tx, const char *sql, error *err) {
    return sqlite3_exec(tx->db, sql, NULL, NULL, NULL) == SQLITE_OK ||
           store_sql_error(tx, sql, err);
}

static void bind_str(sqlite3_stmt *q, int at, str s) {
    sqlite3_bind_text64(q, at, s.ptr ? s.ptr : "", s.len, SQLITE_STATIC, SQLITE_UTF8);
}

/* Steps a statement that gives no rows. */
static bool run(store_tx *tx, sqlite3_stmt *q, const char *what, error *err) {
    int rc = sqlite3_step(q);
    bool ok = rc == SQLITE_DONE || rc == SQLITE_ROW || store_sql_error(tx, what, err);
    sqlite3_reset(q);
    return ok;
}

static str column(sqlite3_stmt *q, int i) {
    const void *p = sqlite3_column_blob(q, i);
    return str_make(p, p ? (size_t)sqlite3_column_bytes(q, i) : 0);
}

/* For readers that see one owner's rows only: bound to NULL, it lets every row through. */
static void bind_owner(sqlite3_stmt *q, int at, const store_tx *tx) {
    if (tx->is_scoped) bind_str(q, at, tx->owner);
}

#define COLUMNS "kind, id, parent, tag, ord, created, expires, content, data, extra, owner"

static store_row read_row(sqlite3_stmt *q) {
    return (store_row){.kind = column(q, 0),
                       .id = column(q, 1),
                       .parent = column(q, 2),
                       .tag = column(q, 3),
                       .ord = sqlite3_column_int64(q, 4),
                       .created = sqlite3_column_int64(q, 5),
                       .expires = sqlite3_column_int64(q, 6),
                       .content = column(q, 7),
                       .data = column(q, 8),
                       .extra = column(q, 9),
                       .owner = column(q, 10)};
}

static bool copy(arena *mem, str *s) {
    char *p = arena_dup(mem, *s);
    s->ptr = p;
    return p != NULL;
}

bool store_get(store_tx *tx, const char *kind, str id, arena *mem, store_row *out, error *err) {
    sqlite3_stmt *q = store_statement(
        tx,
        "SELECT " COLUMNS ", blob FROM object WHERE id = ?1 AND (?2 = '' OR kind = ?2) AND"
        " (expires = 0 OR expires > ?3) AND (?4 IS NULL OR owner = ?4)",
        err);
    if (!q) return false;
    bind_str(q, 1, id);
    bind_str(q, 2, str_from(kind));
    sqlite3_bind_int64(q, 3, time(NULL));
    bind_owner(q, 4, tx);
    bool ok = false;
    switch (sqlite3_step(q)) {
    case SQLITE_ROW:
        *out = read_row(q);
        out->blob = column(q, 11);
        ok = (copy(mem, &out->kind) && copy(mem, &out->id) && copy(mem, &out->parent) &&
              copy(mem, &out->tag) && copy(mem, &out->content) && copy(mem, &out->data) &&
              copy(mem, &out->extra) && copy(mem, &out->owner) && copy(mem, &out->blob)) ||
             error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for what was stored.");
        break;
    case SQLITE_DONE: error_set(err, ERR_NOT_FOUND, NULL, "There is no such object."); break;
    default: store_sql_error(tx, "read", err);
    }
    sqlite3_reset(q);
    return ok;
}

bool store_has(store_tx *tx, const char *kind, str id) {
    sqlite3_stmt *q = store_statement(
        tx,
        "SELECT 1 FROM object WHERE id = ?1 AND (?2 = '' OR kind = ?2) AND (expires = 0 OR "
        "expires > ?3) AND (?4 IS NULL OR owner = ?4)",
        NULL);
    if (!q) return false;
    bind_str(q, 1, id);
    bind_str(q, 2, str_from(kind));
    sqlite3_bind_int64(q, 3, time(NULL));
    bind_owner(q, 4, tx);
    bool has = sqlite3_step(q) == SQLITE_ROW;
    sqlite3_reset(q);
    return has;
}

bool store_each(store_tx *tx, const store_query *query, bool (*each)(void *, const store_row *),
                void *ctx, error *err) {
    int64_t from = query->descending ? INT64_MAX : INT64_MIN;
    sqlite3_stmt *q;
    if (query->after.ptr) {
        q = store_statement(tx,
                            "SELECT ord FROM object WHERE id = ?1 AND kind = ?2 AND parent = ?3 AND"
                            " (?4 IS NULL OR owner = ?4)",
                            err);
        if (!q) return false;
        bind_str(q, 1, query->after);
        bind_str(q, 2, str_from(query->kind));
        bind_str(q, 3, query->parent);
        bind_owner(q, 4, tx);
        int rc = sqlite3_step(q);
        if (rc == SQLITE_ROW)
            from = sqlite3_column_int64(q, 0);
        else if (rc == SQLITE_DONE)
            error_set(err, ERR_NOT_FOUND, "after", "There is no object '%.*s' to list after.",
                      (int)(query->after.len > 100 ? 100 : query->after.len), query->after.ptr);
        else
            store_sql_error(tx, "read", err);
        sqlite3_reset(q);
        if (rc != SQLITE_ROW) return false;
    }
    q = query->descending
            ? store_statement(tx,
                              "SELECT " COLUMNS
                              " FROM object WHERE kind = ?1 AND parent = ?2 AND ord < ?3 AND "
                              "(?4 IS NULL OR tag = ?4) AND (expires = 0 OR expires > ?5) "
                              "AND (?6 IS NULL OR owner = ?6) "
                              "ORDER BY ord DESC",
                              err)
            : store_statement(tx,
                              "SELECT " COLUMNS
                              " FROM object WHERE kind = ?1 AND parent = ?2 AND ord > ?3 AND "
                              "(?4 IS NULL OR tag = ?4) AND (expires = 0 OR expires > ?5) "
                              "AND (?6 IS NULL OR owner = ?6) "
                              "ORDER BY ord",
                              err);
    if (!q) return false;
    bind_str(q, 1, str_from(query->kind));
    bind_str(q, 2, query->parent);
    sqlite3_bind_int64(q, 3, from);
    if (query->tag.ptr) bind_str(q, 4, query->tag);
    sqlite3_bind_int64(q, 5, time(NULL));
    bind_owner(q, 6, tx);
    int rc;
    while ((rc = sqlite3_step(q)) == SQLITE_ROW) {
        store_row row = read_row(q);
        if (!each(ctx, &row)) break;
    }
    bool ok = rc == SQLITE_ROW || rc == SQLITE_DONE || store_sql_error(tx, "list", err);
    sqlite3_reset(q);
    return ok;
}

int64_t store_count(store_tx *tx, const char *kind, str parent, str tag) {
    sqlite3_stmt *q = store_statement(
        tx,
        "SELECT count(*) FROM object WHERE kind = ?1 AND parent = ?2 AND (?3 IS NULL OR tag = ?3)"
        " AND (?4 IS NULL OR owner = ?4)",
        NULL);
    if (!q) return 0;
    bind_str(q, 1, str_from(kind));
    bind_str(q, 2, parent);
    if (tag.ptr) bind_str(q, 3, tag);
    bind_owner(q, 4, tx);
    int64_t n = sqlite3_step(q) == SQLITE_ROW ? sqlite3_column_int64(q, 0) : 0;
    sqlite3_reset(q);
    return n;
}

/* Later than anything before it, also of another process, as far as clocks agree. */
static int64_t next_ord(store *s) {
    int64_t now = clock_wall_ns();
    s->last_ord = now > s->last_ord ? now : s->last_ord + 1;
    return s->last_ord;
}

bool store_put(store_tx *tx, const store_row *row, error *err) {
    sqlite3_stmt *q = store_statement(
        tx,
        "INSERT INTO object (kind, id, parent, tag, ord, created, expires, content, data, extra, blob,"
        " owner) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)"
        " ON CONFLICT (id) DO UPDATE SET parent = ?3, tag = ?4, expires = ?7, content = ?8,"
        " data = ?9, extra = ?10, blob = ?11 WHERE kind = ?1",
        err);
    if (!q) return false;
    if (row->id.len == 0 || row->id.len > STORE_MAX_ID)
        return error_set(err, ERR_INTERNAL, NULL, "An id of %zu bytes cannot be stored.",
                         row->id.len);
    bind_str(q, 1, row->kind);
    bind_str(q, 2, row->id);
    bind_str(q, 3, row->parent);
    bind_str(q, 4, row->tag);
    sqlite3_bind_int64(q, 5, row->ord ? row->ord : next_ord(tx->s));
    sqlite3_bind_int64(q, 6, row->created);
    sqlite3_bind_int64(q, 7, row->expires);
    bind_str(q, 8, row->content);
    bind_str(q, 9, row->data);
    bind_str(q, 10, row->extra);
    sqlite3_bind_blob64(q, 11, row->blob.ptr ? row->blob.ptr : "", row->blob.len, SQLITE_STATIC);
    bind_str(q, 12, row->owner);
    if (!run(tx, q, "write", err)) return false;
    return sqlite3_changes(tx->db) == 1 ||
           error_set(err, ERR_CONFLICT, NULL, "The id '%.*s' is taken.", STR_ARG(row->id));
}

/* Remembers which contents may be free once these rows are gone, then deletes them. */
static bool delete_rows(store_tx *tx, const char *select, const char *remove, str a, str b,
                        error *err) {
    sqlite3_stmt *q = store_statement(tx, select, err);
    if (!q) return false;
    bind_str(q, 1, a);
    bind_str(q, 2, b);
    int rc;
    bool ok = true;
    while (ok && (rc = sqlite3_step(q)) == SQLITE_ROW)
        ok = store_doubt(tx, (const char *)sqlite3_column_text(q, 0), err);
    if (ok && rc != SQLITE_DONE) ok = store_sql_error(tx, "delete", err);
    sqlite3_reset(q);
    if (!ok || !(q = store_statement(tx, remove, err))) return false;
    bind_str(q, 1, a);
    bind_str(q, 2, b);
    return run(tx, q, "delete", err);
}

/* A row and everything below it. */
#define TREE                                                                                   \
    "WITH RECURSIVE t (id) AS (SELECT id FROM object WHERE id = ?1 AND (?2 = '' OR kind = ?2)" \
    " UNION SELECT o.id FROM object o JOIN t ON o.parent = t.id) "

bool store_delete(store_tx *tx, const char *kind, str id, bool *deleted, error *err) {
    int before = sqlite3_total_changes(tx->db);
    bool ok = delete_rows(
        tx, TREE "SELECT content FROM object WHERE id IN (SELECT id FROM t) AND content <> ''",
        TREE "DELETE FROM object WHERE id IN (SELECT id FROM t)", id, str_from(kind), err);
    if (deleted) *deleted = ok && sqlite3_total_changes(tx->db) != before;
    return ok;
}

bool store_delete_children(store_tx *tx, const char *kind, str parent, error *err) {
    return delete_rows(
        tx, "SELECT content FROM object WHERE parent = ?1 AND kind = ?2 AND content <> ''",
        "DELETE FROM object WHERE parent = ?1 AND kind = ?2", parent, str_from(kind), err);
}

bool store_set_expiry(store_tx *tx, str id, int64_t expires, error *err) {
    sqlite3_stmt *q = store_statement(tx, "UPDATE object SET expires = ?2 WHERE id = ?1", err);
    if (!q) return false;
    bind_str(q, 1, id);
    sqlite3_bind_int64(q, 2, expires);
    return run(tx, q, "write", err);
}

/* The binding is store_delete's: the time goes as text. */
bool store_delete_expired(store_tx *tx, void *ctx, error *err) {
    (void)ctx;
    char now[24];
    int n = snprintf(now, sizeof now, "%lld", (long long)time(NULL));
#define OLD                                                                 \
    "WITH RECURSIVE t (id) AS (SELECT id FROM object WHERE expires > 0 AND" \
    " expires <= CAST(?1 AS INTEGER) AND ?2 = '' UNION"                     \
    " SELECT o.id FROM object o JOIN t ON o.parent = t.id) "
    return delete_rows(
        tx, OLD "SELECT content FROM object WHERE id IN (SELECT id FROM t) AND content <> ''",
        OLD "DELETE FROM object WHERE id IN (SELECT id FROM t)", str_make(now, (size_t)n), (str){0},
        err);
}

/* ── contents that may be free ── */

bool store_doubt(store_tx *tx, const char *hash, error *err) {
    if (!hash || strlen(hash) != STORE_HASH_CHARS) return true;
    if (tx->n_doubtful == tx->cap_doubtful) {
        size_t cap = tx->cap_doubtful ? tx->cap_doubtful * 2 : 16;
        void *grown = realloc(tx->doubtful, cap * sizeof *tx->doubtful);
        if (!grown) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the store.");
        tx->doubtful = grown;
        tx->cap_doubtful = cap;
    }
    memcpy(tx->doubtful[tx->n_doubtful++], hash, STORE_HASH_CHARS + 1);
    return true;
}

/* Asked after the commit (or rollback), so a row that came meanwhile keeps its content. */
void store_sweep_doubtful(store_tx *tx) {
    for (size_t i = 0; i < tx->n_doubtful; i++) {
        sqlite3_stmt *q =
            store_statement(tx, "SELECT 1 FROM object WHERE content = ?1 LIMIT 1", NULL);
        if (!q) break;
        bind_str(q, 1, str_from(tx->doubtful[i]));
        int rc = sqlite3_step(q);
        sqlite3_reset(q);
        if (rc == SQLITE_DONE) store_unlink_content(tx->s, tx->doubtful[i]);
    }
    tx->n_doubtful = 0;
}
