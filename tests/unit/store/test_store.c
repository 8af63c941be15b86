/* The store: rows, order, deletion, expiry, contents, reopening, and every write, fsync and rename
 * failing once. The program's own write family stands in front of the C library's, so SQLite is hit too. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "base/log.h"
#include "store/store.h"

/* ── failing I/O ── */

static atomic_llong countdown; /* 0 = disarmed */
static atomic_bool for_ever, fired;
static int fail_errno = ENOSPC;

static void arm(long long nth, bool all_after) {
    atomic_store(&fired, false);
    atomic_store(&for_ever, all_after);
    atomic_store(&countdown, nth);
}

static bool must_fail(void) {
    if (atomic_load(&countdown) <= 0 || atomic_fetch_sub(&countdown, 1) != 1) return false;
    if (atomic_load(&for_ever)) atomic_store(&countdown, 1);
    atomic_store(&fired, true);
    errno = fail_errno;
    return true;
}

#define NEXT(type, name, ...) ((type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name))
ssize_t write(int fd, const void *p, size_t n) {
    return fd > 2 && must_fail() ? -1 : NEXT(ssize_t, "write", int, const void *, size_t)(fd, p, n);
}
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t at) {
    return must_fail()
               ? -1
               : NEXT(ssize_t, "pwrite64", int, const void *, size_t, off64_t)(fd, p, n, at);
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t at) {
    return pwrite64(fd, p, n, at);
}
int fsync(int fd) {
    return must_fail() ? -1 : NEXT(int, "fsync", int)(fd);
}
int fdatasync(int fd) {
    return must_fail() ? -1 : NEXT(int, "fdatasync", int)(fd);
}
int renameat(int a, const char *from, int b, const char *to) {
    return must_fail()
               ? -1
               : NEXT(int, "renameat", int, const char *, int, const char *)(a, from, b, to);
}

/* ── helpers ── */

static char dir[64];

static int new_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/oriel-store-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}
static int drop_dir(void **state) {
    (void)state;
    char command[100];
    snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static store *must_open(void) {
    error err = {0};
    store *s = store_open(dir, &err);
    if (!s) fail_msg("%s", err.message);
    return s;
}

static bool put(store_tx *tx, void *ctx, error *err) {
    return store_put(tx, ctx, err);
}
static bool del(store_tx *tx, void *ctx, error *err) {
    return store_delete(tx, "", *(str *)ctx, NULL, err);
}
static void must_put(store *s, store_row row) {
    error err = {0};
    if (!store_write(s, put, &row, &err)) fail_msg("%s", err.message);
}

typedef struct found {
    char text[400];
    int max;
} found;
static bool collect(void *ctx, const store_row *row) {
    found *f = ctx;
    strncat(f->text, row->id.ptr, row->id.len);
    strcat(f->text, " ");
    return --f->max != 0;
}
static found list(store *s, store_query q) {
    found f = {.max = -1};
    error err = {0};
    store_tx *tx = store_begin_read(s);
    bool ok = store_each(tx, &q, collect, &f, &err);
    store_end_read(tx);
    if (!ok) snprintf(f.text, sizeof f.text, "%s", err.message);
    return f;
}
static bool has(store *s, const char *id, store_row *out, arena *mem) {
    store_tx *tx = store_begin_read(s);
    bool ok = store_get(tx, "", str_from(id), mem, out, NULL);
    store_end_read(tx);
    return ok;
}
static int count_files(void) {
    char command[200];
    snprintf(command, sizeof command, "find %s/files -type f | wc -l", dir);
    FILE *p = popen(command, "r");
    int n = -1;
    if (fscanf(p, "%d", &n) != 1) n = -1;
    pclose(p);
    return n;
}

/* ── tests ── */

static void rows_come_back(void **state) {
    (void)state;
    store *s = must_open();
    must_put(s, (store_row){.kind = STR("a"),
                            .id = STR("a1"),
                            .tag = STR("x"),
                            .data = STR("{\"n\":1}"),
                            .extra = STR("[]"),
                            .blob = str_make("\0\1\2", 3),
                            .created = 7});
    must_put(s, (store_row){.kind = STR("a"), .id = STR("a2"), .tag = STR("y"), .data = STR("{}")});
    must_put(s, (store_row){.kind = STR("a"), .id = STR("a3"), .tag = STR("x"), .data = STR("{}")});
    must_put(
        s, (store_row){.kind = STR("b"), .id = STR("b1"), .parent = STR("a1"), .data = STR("{}")});
    must_put(
        s, (store_row){.kind = STR("c"), .id = STR("c1"), .parent = STR("b1"), .data = STR("{}")});
    store_close(s);

    s = must_open(); /* and again from disk */
    assert_true(store_is_owner(s));
    arena mem;
    arena_init(&mem, 0);
    store_row row;
    assert_true(has(s, "a1", &row, &mem));
    assert_true(str_is(row.data, "{\"n\":1}") && str_is(row.extra, "[]") && row.created == 7);
    assert_int_equal(row.blob.len, 3);
    assert_memory_equal(row.blob.ptr, "\0\1\2", 3);
    assert_string_equal(list(s, (store_query){.kind = "a"}).text, "a1 a2 a3 ");
    assert_string_equal(list(s, (store_query){.kind = "a", .descending = true}).text, "a3 a2 a1 ");
    assert_string_equal(list(s, (store_query){.kind = "a", .tag = STR("x")}).text, "a1 a3 ");
    assert_string_equal(list(s, (store_query){.kind = "a", .after = STR("a2")}).text, "a3 ");
    assert_string_equal(
        list(s, (store_query){.kind = "a", .after = STR("a2"), .descending = true}).text, "a1 ");
    assert_non_null(strstr(list(s, (store_query){.kind = "a", .after = STR("zz")}).text, "'zz'"));
    assert_string_equal(list(s, (store_query){.kind = "b", .parent = STR("a1")}).text, "b1 ");
    /* A replaced row keeps its place. */
    must_put(s, (store_row){.kind = STR("a"), .id = STR("a1"), .data = STR("{\"n\":2}")});
    assert_string_equal(list(s, (store_query){.kind = "a"}).text, "a1 a2 a3 ");
    /* Children and theirs go with it. */
    str id = STR("a1");
    assert_true(store_write(s, del, &id, NULL));
    assert_false(has(s, "a1", &row, &mem) || has(s, "b1", &row, &mem) || has(s, "c1", &row, &mem));
    assert_true(has(s, "a2", &row, &mem));
    arena_deinit(&mem);
    store_close(s);
}

static void modes_are_private(void **state) {
    (void)state;
    char inner[100];
    snprintf(inner, sizeof inner, "%s/x/y", dir);
    error err = {0};
    store *s = store_open(inner, &err);
    assert_non_null(s);
    unsigned char secret[STORE_SECRET_BYTES];
    memcpy(secret, store_get_secret(s), sizeof secret);
    store *second = store_open(inner, &err);
    assert_non_null(second);
    assert_false(store_is_owner(second));
    assert_memory_equal(store_get_secret(second), secret, sizeof secret);
    store_close(second);
    struct stat st;
    assert_int_equal(stat(inner, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    static const char *const names[] = {"store.db", "secret.key", "store.db-wal"};
    for (int i = 0; i < 3; i++) {
        char path[130];
        snprintf(path, sizeof path, "%s/%s", inner, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
    }
    store_close(s);
}

static void expired_rows_are_gone(void **state) {
    (void)state;
    store *s = must_open();
    must_put(s, (store_row){.kind = STR("a"), .id = STR("old"), .expires = time(NULL) - 1});
    must_put(s, (store_row){.kind = STR("a"), .id = STR("new"), .expires = time(NULL) + 1000});
    arena mem;
    arena_init(&mem, 0);
    store_row row;
    assert_false(has(s, "old", &row, &mem));
    assert_true(has(s, "new", &row, &mem));
    assert_string_equal(list(s, (store_query){.kind = "a"}).text, "new ");
    arena_deinit(&mem);
    store_close(s);
}

static void newer_schema_is_refused(void **state) {
    (void)state;
    store_close(must_open());
    char path[100];
    snprintf(path, sizeof path, "%s/store.db", dir);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    error err = {0};
    assert_null(store_open(dir, &err));
    assert_non_null(strstr(err.message, "newer oriel"));
    assert_int_equal(err.code, ERR_BAD_FILE);
}

/* A database as the first schema made it: every row stays, and belongs to nobody in particular. */
static void older_schema_is_brought_up(void **state) {
    (void)state;
    static const char first[] =
        "CREATE TABLE object ("
        " id TEXT NOT NULL PRIMARY KEY, kind TEXT NOT NULL, parent TEXT NOT NULL, tag TEXT NOT NULL,"
        " ord INTEGER NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,"
        " content TEXT NOT NULL, data TEXT NOT NULL, extra TEXT NOT NULL, blob BLOB NOT NULL);"
        "CREATE INDEX object_list ON object (kind, parent, ord);"
        "CREATE INDEX object_parent ON object (parent) WHERE parent <> '';"
        "CREATE INDEX object_expires ON object (expires) WHERE expires > 0;"
        "CREATE INDEX object_content ON object (content) WHERE content <> '';"
        "INSERT INTO object VALUES ('a1', 'a', '', 'x', 5, 7, 0, '', '{\"n\":1}', '[]', x'0102');"
        "INSERT INTO object VALUES ('a2', 'a', '', 'y', 6, 7, 0, '', '{}', '', '');"
        "PRAGMA user_version = 1;";
    char path[100];
    snprintf(path, sizeof path, "%s/store.db", dir);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, first, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
    arena mem;
    arena_init(&mem, 0);
    store_row row;
    for (int i = 0; i < 2; i++) { /* the second time there is nothing left to do */
        store *s = must_open();
        assert_string_equal(list(s, (store_query){.kind = "a"}).text, "a1 a2 ");
        assert_true(has(s, "a1", &row, &mem));
        assert_true(str_is(row.data, "{\"n\":1}") && str_is(row.extra, "[]") && row.created == 7);
        assert_int_equal(row.blob.len, 2);
        assert_int_equal(row.owner.len, 0);
        if (i == 0)
            must_put(s, (store_row){.kind = STR("b"), .id = STR("b1"), .owner = STR("ada")});
        assert_true(has(s, "b1", &row, &mem) && str_is(row.owner, "ada"));
        store_close(s);
    }
    arena_deinit(&mem);
}

static found list_as(store *s, store_query q, str owner) {
    found f = {.max = -1};
    error err = {0};
    store_tx *tx = store_begin_read_as(s, owner);
    bool ok = store_each(tx, &q, collect, &f, &err);
    store_end_read(tx);
    if (!ok) snprintf(f.text, sizeof f.text, "error %d", err.code);
    return f;
}

static void owners_see_their_own(void **state) {
    (void)state;
    store *s = must_open();
    arena mem;
    arena_init(&mem, 0);
    store_row row;
    error err = {0};
    must_put(s,
             (store_row){.kind = STR("a"), .id = STR("a1"), .owner = STR("ada"), .tag = STR("x")});
    must_put(s,
             (store_row){.kind = STR("a"), .id = STR("a2"), .owner = STR("bob"), .tag = STR("x")});
    must_put(s, (store_row){.kind = STR("a"), .id = STR("a3"), .tag = STR("x")});
    must_put(s, (store_row){.kind = STR("a"), .id = STR("a4"), .owner = STR("ada")});
    /* Replacing a row does not take it away from whoever made it. */
    must_put(s,
             (store_row){.kind = STR("a"), .id = STR("a4"), .owner = STR("bob"), .data = STR("1")});
    store_query q = {.kind = "a"}, x = {.kind = "a", .tag = STR("x"), .descending = true};
    assert_string_equal(list(s, q).text, "a1 a2 a3 a4 ");
    assert_string_equal(list_as(s, q, STR("ada")).text, "a1 a4 ");
    assert_string_equal(list_as(s, x, STR("ada")).text, "a1 ");
    assert_string_equal(list_as(s, q, STR("bob")).text, "a2 ");
    assert_string_equal(list_as(s, q, (str){0}).text, "a3 ");
    assert_string_equal(list_as(s, q, STR("eve")).text, "");
    q.after = STR("a1");
    assert_string_equal(list_as(s, q, STR("ada")).text, "a4 ");
    char want[20];
    snprintf(want, sizeof want, "error %d", ERR_NOT_FOUND);
    assert_string_equal(list_as(s, q, STR("bob")).text, want);
    store_tx *tx = store_begin_read_as(s, STR("bob"));
    assert_false(store_get(tx, "a", STR("a1"), &mem, &row, &err));
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_false(store_has(tx, "a", STR("a4")));
    assert_true(store_get(tx, "a", STR("a2"), &mem, &row, NULL));
    assert_int_equal(store_count(tx, "a", (str){0}, (str){0}), 1);
    store_end_read(tx);
    tx = store_begin_read(s); /* and the next reader is not bound to him */
    assert_int_equal(store_count(tx, "a", (str){0}, (str){0}), 4);
    assert_true(store_get(tx, "a", STR("a4"), &mem, &row, NULL) && str_is(row.data, "1"));
    store_end_read(tx);
    arena_deinit(&mem);
    store_close(s);
}

/* Two stores on one folder stand for two processes: each has a file description of its own. */
static void names_are_held_once(void **state) {
    (void)state;
    store *s = must_open(), *other = must_open();
    assert_true(store_hold(s, STR("conv_1")));
    assert_false(store_hold(s, STR("conv_1")));
    assert_false(store_hold(other, STR("conv_1")));
    assert_true(store_hold(other, STR("conv_2")));
    assert_false(store_hold(s, STR("conv_2")));
    store_release(other, STR("conv_1")); /* not its own: nothing happens */
    assert_false(store_hold(other, STR("conv_1")));
    char name[20];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "n%d", i);
        assert_true(store_hold(s, str_from(name)));
    }
    store_release(s, STR("conv_1"));
    assert_true(store_hold(other, STR("conv_1")));
    store_close(other); /* as when its process dies */
    assert_true(store_hold(s, STR("conv_1")));
    assert_true(store_hold(s, STR("conv_2")));
    assert_false(store_hold(s, STR("n99")));
    store_close(s);
}

static void damaged_database_is_refused(void **state) {
    (void)state;
    char path[100];
    snprintf(path, sizeof path, "%s/store.db", dir);
    FILE *f = fopen(path, "w");
    for (int i = 0; i < 4096; i++) fputc('x', f);
    fclose(f);
    error err = {0};
    assert_null(store_open(dir, &err));
    assert_int_equal(err.code, ERR_BAD_FILE);
}

/* ── contents ── */

typedef struct keeping {
    store_content c;
    const char *id;
} keeping;
static bool keep(store_tx *tx, void *ctx, error *err) {
    keeping *k = ctx;
    store_row row = {.kind = STR("file"), .id = str_from(k->id), .content = str_from(k->c.hash)};
    return store_keep_content(tx, &k->c, err) && store_put(tx, &row, err);
}

static bool add_file(store *s, const char *id, const char *text, char hash[65], error *err) {
    keeping k = {.id = id};
    store_writer *w = store_writer_open(s, err);
    bool ok = w && store_writer_put(w, text, strlen(text), err) &&
              store_writer_finish(w, &k.c, err) && store_write(s, keep, &k, err);
    store_writer_free(w);
    if (!ok) store_drop_content(s, &k.c);
    if (hash) memcpy(hash, k.c.hash, sizeof k.c.hash);
    return ok;
}

static void contents_are_shared_and_swept(void **state) {
    (void)state;
    store *s = must_open();
    char hash[65];
    assert_true(add_file(s, "f1", "hello", hash, NULL));
    assert_string_equal(hash, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    assert_true(add_file(s, "f2", "hello", hash, NULL));
    assert_true(add_file(s, "f3", "other", NULL, NULL));
    assert_int_equal(count_files(), 2);
    int fd = store_open_content(s, str_from(hash), NULL);
    char text[6] = {0};
    assert_int_equal(pread(fd, text, 5, 0), 5);
    assert_string_equal(text, "hello");
    close(fd);
    str id = STR("f1");
    assert_true(store_write(s, del, &id, NULL));
    assert_int_equal(count_files(), 2); /* f2 still names it */
    id = STR("f2");
    assert_true(store_write(s, del, &id, NULL));
    assert_int_equal(count_files(), 1);
    /* What a crash leaves behind: a temporary file and a content whose row never came. */
    store_content c;
    store_writer *w = store_writer_open(s, NULL);
    assert_true(w && store_writer_put(w, "x", 1, NULL) && store_writer_finish(w, &c, NULL));
    store_writer_free(w);
    assert_int_equal(count_files(), 2);
    char path[200];
    snprintf(path, sizeof path, "%s/files/%.2s", dir, hash);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/files/%.2s/%s", dir, hash, hash);
    fclose(fopen(path, "w"));
    assert_int_equal(count_files(), 3);
    store_close(s);
    s = must_open();
    assert_int_equal(count_files(), 1);
    assert_int_equal(store_open_content(s, STR("../../etc/passwd"), NULL), -1);
    store_close(s);
}

/* ── many at once ── */

static bool put_or_refuse(store_tx *tx, void *ctx, error *err) {
    const char *id = ctx;
    store_row row = {.kind = STR("n"), .id = str_from(id)};
    return store_put(tx, &row, err) &&
           (id[0] != 'x' || error_set(err, ERR_INVALID_VALUE, NULL, "refused"));
}

static void a_group_fails_one_by_one(void **state) {
    (void)state;
    store *s = must_open();
    enum { N = 200 };
    char ids[N][8];
    store_job *jobs[N];
    for (int i = 0; i < N; i++) {
        snprintf(ids[i], sizeof ids[i], "%c%d", i % 10 == 3 ? 'x' : 'n', i);
        jobs[i] = store_submit(s, put_or_refuse, ids[i], NULL, NULL);
        assert_non_null(jobs[i]);
    }
    for (int i = 0; i < N; i++) {
        error err = {0};
        while (!store_poll(jobs[i], &err)) usleep(1000);
        assert_int_equal(err.code, i % 10 == 3 ? ERR_INVALID_VALUE : ERR_NONE);
        store_job_free(jobs[i]);
    }
    store_tx *tx = store_begin_read(s);
    assert_int_equal(store_count(tx, "n", (str){0}, (str){0}), N - N / 10);
    store_end_read(tx);
    store_close(s);
}

/* ── every write fails once ── */

/* Fails the n-th call of the write family, n = 1, 2, … until none is left to fail. Whatever is
 * acknowledged is there after reopening, whatever was refused is not, and no file is left over. */
static void io_torture(bool all_after) {
    store *s = must_open();
    arena mem;
    arena_init(&mem, 0);
    store_row row;
    int n_injected = 0, n_files = 0;
    for (int n = 1;; n++) {
        char id[16], file_id[16], text[32];
        snprintf(id, sizeof id, "row%d", n);
        snprintf(file_id, sizeof file_id, "file%d", n);
        snprintf(text, sizeof text, "content %d", n);
        store_row put_row = {.kind = STR("a"), .id = str_from(id), .data = STR("{}")};
        error row_err = {0}, file_err = {0};
        arm(n, all_after);
        bool row_ok = store_write(s, put, &put_row, &row_err);
        bool file_ok = add_file(s, file_id, text, NULL, &file_err);
        atomic_store(&countdown, 0);
        if (!row_ok && row_err.code != ERR_NO_SPACE) fail_msg("%d: %s", n, row_err.message);
        if (!file_ok && file_err.code != ERR_NO_SPACE) fail_msg("%d: %s", n, file_err.message);
        assert_int_equal(has(s, id, &row, &mem), row_ok);
        assert_int_equal(has(s, file_id, &row, &mem), file_ok);
        n_files += file_ok;
        assert_int_equal(count_files(), n_files);
        /* The disk has room again: the same store goes on. */
        snprintf(id, sizeof id, "good%d", n);
        must_put(s, (store_row){.kind = STR("a"), .id = str_from(id), .data = STR("{}")});
        store_close(s);
        s = must_open();
        snprintf(id, sizeof id, "row%d", n);
        assert_int_equal(has(s, id, &row, &mem), row_ok);
        assert_int_equal(has(s, file_id, &row, &mem), file_ok);
        snprintf(id, sizeof id, "good%d", n);
        assert_true(has(s, id, &row, &mem));
        assert_int_equal(count_files(), n_files);
        if (!atomic_load(&fired)) break;
        n_injected++;
        assert_true(n < 1000);
    }
    assert_true(n_injected >= 8);
    arena_deinit(&mem);
    store_close(s);
}

static void every_write_fails_once(void **state) {
    (void)state;
    fail_errno = ENOSPC;
    io_torture(false);
}
static void every_write_fails_from_some_on(void **state) {
    (void)state;
    fail_errno = EDQUOT;
    io_torture(true);
}

#define T(f) cmocka_unit_test_setup_teardown(f, new_dir, drop_dir)
int main(void) {
    log_set_level(LOG_ERROR);
    const struct CMUnitTest t[] = {
        T(rows_come_back),
        T(modes_are_private),
        T(expired_rows_are_gone),
        T(newer_schema_is_refused),
        T(older_schema_is_brought_up),
        T(owners_see_their_own),
        T(names_are_held_once),
        T(damaged_database_is_refused),
        T(contents_are_shared_and_swept),
        T(a_group_fails_one_by_one),
        T(every_write_fails_once),
        T(every_write_fails_from_some_on),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
