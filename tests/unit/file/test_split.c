/* Models split into several files: opened by any part, refused when they do not belong together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "file/file.h"
#include "gguf_builder.h"

enum { N_PARTS = 3 };

typedef struct fixture {
    char dir[32];
    char path[N_PARTS][96];
} fixture;

/* What a test changes about one part before it is written. */
typedef struct change {
    int part;
    uint32_t version;
    const char *architecture;
    const char *tensor;
    int no, count;
    uint64_t n_tensors;
} change;

static void put_part(const fixture *x, int i, const change *c) {
    gguf_builder g;
    gguf_builder_init(&g);
    bool changed = c && c->part == i;
    if (changed && c->version) g.version = c->version;
    if (i == 0 || (changed && c->architecture))
        gguf_put_str(&g, "general.architecture",
                     changed && c->architecture ? c->architecture : "llama");
    gguf_put_u16(&g, "split.no", (uint16_t)(changed && c->no ? c->no : i));
    gguf_put_u16(&g, "split.count", (uint16_t)(changed && c->count ? c->count : N_PARTS));
    gguf_put_i32(&g, "split.tensors.count", (int32_t)(c && c->n_tensors ? c->n_tensors : 4));
    char name[16];
    snprintf(name, sizeof name, "t%d", i);
    float four[4] = {(float)i, 1, 2, 3};
    gguf_put_tensor(&g, changed && c->tensor ? c->tensor : name, DTYPE_F32, 1, (uint64_t[]){4},
                    four);
    if (i == 1) gguf_put_tensor(&g, "extra", DTYPE_Q8_0, 2, (uint64_t[]){32, 2}, NULL);
    assert_true(gguf_builder_write(&g, x->path[i]));
    gguf_builder_deinit(&g);
}

static void put_all(fixture *x, const change *c) {
    for (int i = 0; i < N_PARTS; i++) put_part(x, i, c);
}

static int setup(void **state) {
    fixture *x = calloc(1, sizeof *x);
    if (!x) return -1;
    char dir[] = "/tmp/oriel-split-XXXXXX";
    if (!mkdtemp(dir)) return -1;
    memcpy(x->dir, dir, sizeof dir);
    for (int i = 0; i < N_PARTS; i++)
        snprintf(x->path[i], sizeof x->path[i], "%s/m-%05d-of-%05d.gguf", dir, i + 1, N_PARTS);
    *state = x;
    return 0;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

static int teardown(void **state) {
    fixture *x = *state;
    nftw(x->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(x);
    return 0;
}

static void refuse(const char *path, error_code code, const char *part) {
    error err = {0};
    assert_null(file_open(path, &err));
    assert_int_equal(err.code, code);
    if (!strstr(err.message, part)) fail_msg("\"%s\" does not say \"%s\"", err.message, part);
    assert_true(str_ends(str_from(err.message), STR(".")));
}

static void test_any_part_opens_all(void **state) {
    fixture *x = *state;
    put_all(x, NULL);
    for (int i = 0; i < N_PARTS; i++) {
        error err = {0};
        file *f = file_open(x->path[i], &err);
        assert_string_equal(err.message, "");
        assert_int_equal(file_n_parts(f), N_PARTS);
        assert_int_equal(file_n_tensors(f), 4);
        assert_string_equal(file_get_path(f), x->path[i]);
        str arch;
        uint64_t u;
        assert_true(file_get_str(f, "general.architecture", &arch) && str_is(arch, "llama"));
        assert_true(file_get_u64(f, "split.no", &u) && u == 0);
        for (int k = 0; k < N_PARTS; k++) {
            char name[16];
            snprintf(name, sizeof name, "t%d", k);
            const file_tensor *t = file_find_tensor(f, str_from(name));
            assert_true(t && t->part == k && *(const float *)t->data == (float)k);
            assert_string_equal(file_get_part_path(f, k), x->path[k]);
            FILE *raw = fopen(x->path[k], "rb"); /* part and offset lead to the same bytes */
            float first;
            assert_non_null(raw);
            assert_int_equal(fseek(raw, (long)t->offset, SEEK_SET), 0);
            assert_int_equal(fread(&first, sizeof first, 1, raw), 1);
            assert_true(first == (float)k);
            fclose(raw);
        }
        assert_null(file_get_part_path(f, N_PARTS));
        assert_null(file_get_part_path(f, -1));
        assert_true(str_is(file_get_tensor(f, 2)->name, "extra"));
        file_close(f);
    }
}

static void test_missing_part(void **state) {
    fixture *x = *state;
    put_all(x, NULL);
    unlink(x->path[1]);
    refuse(x->path[0], ERR_IO, "Part 2 of 3: ");
    refuse(x->path[2], ERR_IO, "m-00002-of-00003.gguf: The file cannot be read: No such file");
}

static void test_foreign_parts(void **state) {
    fixture *x = *state;
    put_all(x, &(change){.part = 1, .architecture = "qwen2"});
    refuse(x->path[0], ERR_BAD_FILE,
           "not of one model: part 2 has another value of general.architecture");
    refuse(x->path[1], ERR_BAD_FILE, "not of one model");
    put_all(x, &(change){.part = 1, .architecture = "llama"}); /* repeated, but the same */
    error err = {0};
    file *f = file_open(x->path[2], &err);
    assert_string_equal(err.message, "");
    file_close(f);
    put_all(x, &(change){.part = 2, .version = 2});
    refuse(x->path[0], ERR_BAD_FILE, "part 1 is GGUF version 3 and part 3 version 2");
    put_all(x, &(change){.part = 2, .no = 1});
    refuse(x->path[0], ERR_BAD_FILE, "This says it is part 2 of 3, but part 3 of 3 is wanted");
    put_all(x, &(change){.part = 2, .count = 4});
    refuse(x->path[0], ERR_BAD_FILE, "This says it is part 3 of 4");
    put_all(x, &(change){.part = 2, .tensor = "t1"});
    refuse(x->path[0], ERR_BAD_FILE, "tensor t1 appears in parts 2 and 3");
    put_all(x, &(change){.n_tensors = 5, .part = -1});
    refuse(x->path[1], ERR_BAD_FILE, "together have 4 tensors");
    put_all(x, NULL);
    assert_int_equal(truncate(x->path[2], 100), 0);
    refuse(x->path[0], ERR_BAD_FILE, "Part 3 of 3: ");
}

static void test_renamed_part(void **state) {
    fixture *x = *state;
    put_all(x, NULL);
    char other[96];
    snprintf(other, sizeof other, "%s/model.gguf", x->dir);
    assert_int_equal(rename(x->path[1], other), 0);
    refuse(other, ERR_BAD_FILE,
           "part 2 of a model split into 3, but its name does not end in -00002-of-00003.gguf");
    assert_int_equal(rename(other, x->path[2]), 0); /* under another part's name */
    refuse(x->path[2], ERR_BAD_FILE, "does not end in -00002-of-00003.gguf");
}

static void test_count_one_is_whole(void **state) {
    fixture *x = *state;
    gguf_builder g;
    gguf_builder_init(&g);
    gguf_put_u16(&g, "split.count", 1);
    char path[96];
    snprintf(path, sizeof path, "%s/whole.gguf", x->dir);
    assert_true(gguf_builder_write(&g, path));
    error err = {0};
    file *f = file_open(path, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(file_n_parts(f), 1);
    assert_string_equal(file_get_part_path(f, 0), path);
    file_close(f);
    gguf_builder_deinit(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_any_part_opens_all, setup, teardown),
        cmocka_unit_test_setup_teardown(test_missing_part, setup, teardown),
        cmocka_unit_test_setup_teardown(test_foreign_parts, setup, teardown),
        cmocka_unit_test_setup_teardown(test_renamed_part, setup, teardown),
        cmocka_unit_test_setup_teardown(test_count_one_is_whole, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
