/* Blocks on disk: what a restart finds is what was there, whatever happened to the files or to the process
 * that wrote them. Everything read back is compared with a cold twin (tests/lib/kv_twin.h).
 * ORIEL_KV_KILLS says how many writers are killed (default 20). */
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/hash.h"
#include "kv_twin.h"

enum { MAX_CHUNK = 48, ROWS = 512, LEN = 500 };
static const int32_t widths[TWIN_LAYERS] = {40, 0, 40, 0};

static void nap(void) {
    nanosleep(&(struct timespec){0, 200000}, NULL);
}

typedef struct place_of_files {
    char dir[64];
} place_of_files;

static place_of_files make_dir(void) {
    place_of_files p = {"/tmp/oriel-kv-XXXXXX"};
    assert_non_null(mkdtemp(p.dir));
    return p;
}

/* Calls f for every block file; returns how many there are. */
static int each_file(const char *dir, void (*f)(const char *path, int n)) {
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));) {
        if (e->d_name[0] == '.' || strcmp(e->d_name, "key") == 0) continue;
        char path[400];
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        if (f) f(path, n);
        n++;
    }
    closedir(d);
    return n;
}
static void remove_file(const char *path, int n) {
    (void)n;
    unlink(path);
}
static void remove_dir(const char *dir) {
    char key[100];
    each_file(dir, remove_file);
    snprintf(key, sizeof key, "%s/key", dir);
    unlink(key);
    rmdir(dir);
}

static kv *open_pool(const char *dir, uint64_t made_by, uint64_t budget) {
    kv_config c = {.shape = {TWIN_LAYERS, 1, TWIN_HEAD_DIM, widths, KERN_KV_F32},
                   .n_seqs = 2,
                   .max_rows = ROWS,
                   .max_chunk = MAX_CHUNK,
                   .disk_bytes = budget};
    kv *k = kv_new(&c, NULL);
    assert_non_null(k);
    error err = {0};
    if (!kv_open_disk(k, &(kv_disk_config){.dir = dir, .max_bytes = budget, .made_by = made_by},
                      &err))
        fail_msg("%s", err.message);
    return k;
}

static void make_text(uint64_t seed, int32_t *ids) {
    for (int i = 0; i < LEN; i++)
        ids[i] = (int32_t)(rng_at(i < 200 ? 1 : seed, (uint64_t)i) % 5000);
}

/* Runs a text to its end and compares. Returns how many positions were reused. */
static int64_t run_text(kv *k, uint64_t seed, kv_window w) {
    int32_t ids[LEN];
    uint64_t want[LEN], out[MAX_CHUNK];
    make_text(seed, ids);
    twin_cold(widths, w, ids, LEN, want);
    kv_seq *s = kv_seq_new(k, w, NULL);
    for (int64_t until = clock_ns() + 20000000000; kv_seq_fetch(s, ids, LEN - 1); nap()) {
        kv_run_disk(k);
        assert_true(clock_ns() < until);
    }
    kv_reuse r = kv_seq_adopt(s, ids, LEN - 1);
    kv_seq_mark(s, LEN / 2);
    for (int64_t at = r.n_kept, n; at < LEN; at += n) {
        n = LEN - at < MAX_CHUNK ? LEN - at : MAX_CHUNK;
        assert_true(kv_seq_reserve(s, n));
        twin_run(s, ids + at, n, out);
        kv_seq_commit(s, n);
        kv_seq_share(s, ids + at, n);
        for (int64_t i = 0; i < n; i++)
            if (at + i >= r.n_kept + r.n_rerun && out[i] != want[at + i])
                fail_msg("text %llu: position %lld is not the twin's (%lld kept, %lld again)",
                         (unsigned long long)seed, (long long)(at + i), (long long)r.n_kept,
                         (long long)r.n_rerun);
        kv_run_disk(k);
    }
    kv_seq_free(s);
    return r.n_kept;
}

static const uint64_t BUDGET = 64 << 20;
static const kv_window whole = {0, ROWS}, narrow = {32, 128};

static void a_restart_finds_what_was_there(void **state) {
    (void)state;
    const kv_window windows[] = {whole, narrow};
    for (int i = 0; i < 2; i++) {
        place_of_files p = make_dir();
        kv *k = open_pool(p.dir, 7, BUDGET);
        assert_int_equal(run_text(k, 3, windows[i]), 0);
        kv_free(k); /* writes what is waiting */
        k = open_pool(p.dir, 7, BUDGET);
        /* The last whole block's end, where the sliding rows were kept too. */
        assert_true(run_text(k, 3, windows[i]) >= LEN - 1 - KV_BLOCK);
        kv_free(k);
        /* Another model's rows are not taken, and do no harm to each other. */
        k = open_pool(p.dir, 8, BUDGET);
        assert_int_equal(run_text(k, 3, windows[i]), 0);
        kv_free(k);
        k = open_pool(p.dir, 7, BUDGET);
        assert_true(run_text(k, 3, windows[i]) >= LEN - 1 - KV_BLOCK);
        /* A text that shares 200 ids with it. */
        assert_in_range(run_text(k, 4, windows[i]), windows[i].width == ROWS ? 100 : 0, 200);
        kv_free(k);
        remove_dir(p.dir);
    }
}

static void harm(const char *path, int n) {
    int fd = open(path, O_RDWR);
    struct stat st;
    fstat(fd, &st);
    uint64_t r = rng_at(5, (uint64_t)n);
    char byte;
    off_t at = (off_t)(r % (uint64_t)st.st_size);
    switch (n % 4) {
    case 0: break;
    case 1:
        assert_int_equal(pread(fd, &byte, 1, at), 1);
        byte = (char)(byte ^ (1 << r % 8));
        assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        break;
    case 2: assert_int_equal(ftruncate(fd, at), 0); break;
    default: assert_int_equal(ftruncate(fd, st.st_size + 5), 0);
    }
    close(fd);
}

static void damage_is_ignored(void **state) {
    (void)state;
    for (int round = 0; round < 4; round++) {
        place_of_files p = make_dir();
        kv *k = open_pool(p.dir, 7, BUDGET);
        for (uint64_t seed = 3; seed < 6; seed++) run_text(k, seed, whole);
        kv_free(k);
        int n = each_file(p.dir, NULL);
        assert_true(n > 20);
        each_file(p.dir, harm);
        char path[100];
        snprintf(path, sizeof path, "%s/letter.txt", p.dir);
        int fd = open(path, O_CREAT | O_WRONLY, 0600);
        assert_int_equal(write(fd, "Dear", 4), 4);
        close(fd);
        if (round == 1) { /* the key is lost: names mean nothing any more */
            snprintf(path, sizeof path, "%s/key", p.dir);
            assert_int_equal(truncate(path, 3), 0);
        }
        k = open_pool(p.dir, 7, BUDGET);
        for (uint64_t seed = 3; seed < 7; seed++) run_text(k, seed, round < 2 ? whole : narrow);
        kv_free(k);
        snprintf(path, sizeof path, "%s/letter.txt", p.dir);
        assert_int_equal(access(path, F_OK), 0); /* not ours: left alone */
        remove_dir(p.dir);
    }
}

static uint64_t n_bytes;
static void count_bytes(const char *path, int n) {
    struct stat st;
    (void)n;
    if (stat(path, &st) == 0) n_bytes += (uint64_t)st.st_size;
}

static void the_budget_is_kept(void **state) {
    (void)state;
    place_of_files p = make_dir();
    const uint64_t budget = 60000; /* some 20 blocks */
    for (uint64_t seed = 3; seed < 12; seed++) {
        kv *k = open_pool(p.dir, 7 + seed % 2, budget);
        run_text(k, seed, whole);
        kv_free(k);
        n_bytes = 0;
        assert_true(each_file(p.dir, count_bytes) > 0);
        assert_true(n_bytes > budget / 2 && n_bytes <= budget);
    }
    kv *k = open_pool(p.dir, 7, budget / 3); /* a smaller one than last time */
    kv_free(k);
    n_bytes = 0;
    each_file(p.dir, count_bytes);
    assert_true(n_bytes <= budget / 3);
    remove_dir(p.dir);
}

static void a_directory_that_cannot_be_used_is_said(void **state) {
    (void)state;
    kv_config c = {.shape = {TWIN_LAYERS, 1, TWIN_HEAD_DIM, widths, KERN_KV_F32},
                   .n_seqs = 1,
                   .max_rows = ROWS,
                   .max_chunk = MAX_CHUNK};
    kv *k = kv_new(&c, NULL);
    error err = {0};
    kv_disk_config d = {.dir = "/dev/null/kv", .max_bytes = BUDGET};
    assert_false(kv_open_disk(k, &d, &err));
    assert_int_equal(err.code, ERR_IO);
    err = (error){0};
    d.dir = "/tmp/oriel-kv-not-there/below";
    assert_false(kv_open_disk(k, &d, &err));
    assert_non_null(strstr(err.message, "Make that first"));
    err = (error){0};
    d.dir = "";
    assert_false(kv_open_disk(k, &d, &err));
    assert_int_equal(err.code, ERR_INVALID_VALUE);
    assert_string_equal(err.param, "kv-dir");
    kv_free(k);
}

/* The first block that is kept must not be more than all of them may be. */
static void a_budget_below_one_block_is_refused(void **state) {
    (void)state;
    place_of_files p = make_dir();
    kv *k = open_pool(p.dir, 7, BUDGET);
    run_text(k, 3, whole);
    kv_free(k);
    n_bytes = 0;
    int n = each_file(p.dir, count_bytes);
    assert_true(n > 0);
    kv_config c = {.shape = {TWIN_LAYERS, 1, TWIN_HEAD_DIM, widths, KERN_KV_F32},
                   .n_seqs = 1,
                   .max_rows = ROWS,
                   .max_chunk = MAX_CHUNK};
    uint64_t one = n_bytes / (uint64_t)n; /* both groups have two layers */
    for (uint64_t less = 0; less < 2; less++) {
        error err = {0};
        k = kv_new(&c, NULL);
        bool ok = kv_open_disk(
            k, &(kv_disk_config){.dir = p.dir, .max_bytes = one - less, .made_by = 7}, &err);
        assert_true(ok == !less);
        if (less) assert_string_equal(err.param, "kv-dir-size");
        kv_free(k);
    }
    remove_dir(p.dir);
}

/* Writers that die at any moment leave nothing behind that a reader believes. */
static void killed_writers_do_no_harm(void **state) {
    (void)state;
    const char *many = getenv("ORIEL_KV_KILLS");
    int n = many ? atoi(many) : 20;
    place_of_files p = make_dir();
    int64_t reused = 0;
    for (int i = 0; i < n; i++) {
        pid_t child = fork();
        if (child == 0) {
            kv *k = open_pool(p.dir, 7, 400000);
            for (uint64_t seed = (uint64_t)i * 3;; seed++)
                run_text(k, seed % 50 + 3, i % 2 ? whole : narrow);
        }
        assert_true(child > 0);
        nanosleep(&(struct timespec){0, (long)(rng_at(9, (uint64_t)i) % 60) * 1000000 + 1000000},
                  NULL);
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        if (i % 4 < 3) continue; /* another writer finds it first */
        kv *k = open_pool(p.dir, 7, 400000);
        for (uint64_t seed = 0; seed < 3; seed++)
            reused += run_text(k, ((uint64_t)i * 3 + seed) % 50 + 3, i % 2 ? whole : narrow);
        kv_free(k);
    }
    printf("# %d writers killed, %lld positions reused after it\n", n, (long long)reused);
    assert_true(reused > 0);
    remove_dir(p.dir);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(a_restart_finds_what_was_there),
        cmocka_unit_test(damage_is_ignored),
        cmocka_unit_test(the_budget_is_kept),
        cmocka_unit_test(a_directory_that_cannot_be_used_is_said),
        cmocka_unit_test(a_budget_below_one_block_is_refused),
        cmocka_unit_test(killed_writers_do_no_harm),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
