/* However weights get into memory, they are the same bytes; and what happens when they cannot. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "base/clock.h"
#include "model/llm.h"
#include "tiny_model.h"
#include "torture.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SLOWER = 20 };
#else
enum { SLOWER = 1 };
#endif

static char path[] = "/tmp/oriel-fill-XXXXXX";
static buf image;

/* 23 MB of odd shapes: more than one thread, rows that are no whole panels, vectors between them. */
static int write_file(void **state) {
    (void)state;
    tiny t = tiny_defaults("gpt-oss");
    t.d_model = 248;
    t.n_ff = 1000;
    t.n_vocab = 1999;
    t.n_layers = 2;
    image = tiny_image(&t);
    int fd = mkstemp(path);
    bool ok = fd >= 0 && write(fd, image.ptr, image.len) == (ssize_t)image.len && fsync(fd) == 0;
    if (fd >= 0) close(fd);
    return !ok;
}

static int remove_file(void **state) {
    (void)state;
    unlink(path);
    buf_deinit(&image);
    return 0;
}

static void every_way_gives_the_same_bytes(void **state) {
    (void)state;
    for (int rows = 0; rows < 2; rows++) {
        error err = {0};
        file *memory = file_open_memory(image.ptr, image.len, "memory", &err);
        model_options o = {.load = MODEL_LOAD_READ, .no_repack = rows};
        model *want = model_load(memory, &o, &err);
        if (!want) fail_msg("%s", err.message);
        const llm *a = (const llm *)want;
        assert_true(a->memory_bytes > 20 << 20);
        for (int mode = MODEL_LOAD_AUTO; mode <= MODEL_LOAD_DIRECT; mode++) {
            file *f = file_open(path, &err);
            o.load = (model_load_mode)mode;
            size_t n_samples = file_n_tensors(f) * MODEL_N_SAMPLES * MODEL_SAMPLE;
            unsigned char *samples = calloc(n_samples, 1);
            o.samples = samples;
            model *got = model_load(f, &o, &err);
            o.samples = NULL;
            if (!got) fail_msg("%s", err.message);
            const llm *b = (const llm *)got;
            const model_info *info = model_get_info(got);
            assert_int_equal(b->memory_bytes, info->weight_bytes - info->mapped_bytes);
            bool in_place = mode == MODEL_LOAD_MMAP || (mode == MODEL_LOAD_AUTO && rows);
            assert_int_equal(info->mapped_bytes > 0, in_place);
            if (!in_place) {
                assert_int_equal(b->memory_bytes, a->memory_bytes);
                assert_memory_equal(a->memory, b->memory, a->memory_bytes);
            }
            for (size_t i = 0; i < file_n_tensors(f); i++) {
                const file_tensor *t = file_get_tensor(f, i);
                const unsigned char *s = samples + i * MODEL_N_SAMPLES * MODEL_SAMPLE;
                uint64_t n = t->n_bytes < MODEL_SAMPLE ? t->n_bytes : MODEL_SAMPLE;
                for (uint64_t k = 0; k < MODEL_N_SAMPLES; k++)
                    assert_memory_equal(s + k * MODEL_SAMPLE,
                                        (const char *)t->data + (t->n_bytes - n) / 2 * k, n);
            }
            /* Nothing but rows that stay in place needs the mapping. */
            file_drop_pages(f);
            model_free(got);
            file_close(f);
            free(samples);
        }
        model_free(want);
        file_close(memory);
    }
}

static void a_file_cut_short_is_a_sentence(void **state) {
    (void)state;
    for (int mode = MODEL_LOAD_READ; mode <= MODEL_LOAD_DIRECT; mode++) {
        char copy[] = "/tmp/oriel-cut-XXXXXX";
        int fd = mkstemp(copy);
        assert_int_equal(write(fd, image.ptr, image.len), image.len);
        error err = {0};
        file *f = file_open(copy, &err);
        assert_non_null(f);
        assert_int_equal(ftruncate(fd, (off_t)image.len / 2), 0);
        assert_null(model_load(f, &(model_options){.load = (model_load_mode)mode}, &err));
        assert_int_equal(err.code, ERR_IO);
        assert_non_null(strstr(err.message, "cut short"));
        file_close(f);
        close(fd);
        unlink(copy);
    }
}

static bool stop_now(void *ctx, uint64_t done, uint64_t total) {
    int64_t *at = ctx;
    assert_true(done <= total);
    if (!*at) *at = clock_ns();
    return false;
}

/* The best of some tries: on a busy machine a thread may wait long for its turn. */
static void cancelling_takes_no_time(void **state) {
    (void)state;
    enum { TRIES = 10 };
    for (int mode = MODEL_LOAD_READ; mode <= MODEL_LOAD_DIRECT; mode++) {
        int64_t best = INT64_MAX;
        for (int i = 0; i < TRIES && best > (int64_t)100000000 * SLOWER; i++) {
            error err = {0};
            file *f = file_open(path, &err);
            int64_t at = 0;
            model_options o = {
                .load = (model_load_mode)mode, .progress = stop_now, .progress_ctx = &at};
            model *m = model_load(f, &o, &err);
            int64_t took = clock_ns() - at;
            /* (Without one it was done before the first look.) */
            if (!m) assert_int_equal(err.code, ERR_CANCELLED);
            if (took < best) best = took;
            model_free(m);
            file_close(f);
        }
        assert_true(best <= (int64_t)100000000 * SLOWER);
    }
}

static bool load_and_free(void *ctx) {
    file *f = ctx;
    error err = {0};
    model *m = model_load(f, &(model_options){.load = MODEL_LOAD_READ}, &err);
    if (!m) assert_int_equal(err.code, ERR_NO_MEMORY);
    model_free(m);
    return m != NULL;
}

static void memory_may_run_out_anywhere(void **state) {
    (void)state;
    if (!torture_is_available()) skip();
    tiny t = tiny_defaults("qwen3moe");
    buf small = tiny_image(&t);
    file *f = file_open_memory(small.ptr, small.len, "small", NULL);
    assert_true(torture_run(load_and_free, f) > 3);
    file_close(f);
    buf_deinit(&small);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(every_way_gives_the_same_bytes),
        cmocka_unit_test(a_file_cut_short_is_a_sentence),
        cmocka_unit_test(cancelling_takes_no_time),
        cmocka_unit_test(memory_may_run_out_anywhere),
    };
    return cmocka_run_group_tests(t, write_file, remove_file);
}
