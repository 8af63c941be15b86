/* Damaged on purpose: seeded bit flips, cuts, wrong lengths and spliced bytes in
 * real and built files, and failing allocations. Each gives a file that can be
 * walked from end to end, or one sentence.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "file/file.h"
#include "gguf_builder.h"
#include "gguf_walk.h"
#include "torture.h"

enum { N_DAMAGED = 300, SEED = 20240 };

static void build(buf *image) {
    gguf_builder g;
    gguf_builder_init(&g);
    gguf_put_str(&g, "general.architecture", "llama");
    gguf_put_u32(&g, "general.alignment", 64);
    g.alignment = 64;
    gguf_put_u16(&g, "split.count", 1);
    gguf_put_f32(&g, "llama.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_put_bool(&g, "tokenizer.ggml.add_bos_token", true);
    gguf_put_strs(&g, "tokenizer.ggml.tokens", 5,
                  (str[]){STR("<s>"), STR("a"), STR(""), STR("\xFF"), STR("long token")});
    gguf_put_array(&g, "tokenizer.ggml.scores", FILE_F32, 5, (float[]){0, -1, -2, -3, -4});
    gguf_put_array(&g, "flags", FILE_BOOL, 3, (uint8_t[]){1, 0, 1});
    gguf_put_tensor(&g, "token_embd.weight", DTYPE_F16, 2, (uint64_t[]){32, 5}, NULL);
    gguf_put_tensor(&g, "blk.0.attn_q.weight", DTYPE_Q8_0, 2, (uint64_t[]){32, 32}, NULL);
    gguf_put_tensor(&g, "blk.0.ffn_up_exps.weight", DTYPE_MXFP4, 3, (uint64_t[]){32, 4, 2}, NULL);
    gguf_put_tensor(&g, "output_norm.weight", DTYPE_F32, 1, (uint64_t[]){32}, NULL);
    assert_true(gguf_builder_render(&g, image));
    gguf_builder_deinit(&g);
}

/* Opens an exact copy; true when it was accepted. */
static bool open_and_walk(const char *bytes, size_t len) {
    char *copy = malloc(len ? len : 1);
    assert_non_null(copy);
    if (len) memcpy(copy, bytes, len);
    error err = {0};
    file *f = file_open_memory(copy, len, "damaged", &err);
    if (f) {
        assert_false(error_is_set(&err));
        assert_true(gguf_walk(f));
        file_close(f);
    } else {
        str m = str_from(err.message);
        assert_true(err.code == ERR_BAD_FILE);
        assert_true(str_starts(m, STR("damaged: ")) && str_ends(m, STR(".")) && utf8_is_valid(m));
    }
    free(copy);
    return f != NULL;
}

/* Numbers that lengths and counts break on. */
static uint64_t nasty(uint64_t r) {
    static const uint64_t values[] = {
        0,          1,          7,          255,       65535,      65536,          INT32_MAX,
        UINT32_MAX, 1ull << 32, 1ull << 61, INT64_MAX, 1ull << 63, UINT64_MAX - 7, UINT64_MAX};
    return values[r % (sizeof values / sizeof *values)];
}

/* Damages bytes[0, *len) somewhere in the first `head`: where structure is. */
static void damage(char *bytes, size_t *len, size_t head, uint64_t seed) {
    uint64_t c = 0;
    size_t n = 1 + rng_at(seed, c++) % 3;
    for (size_t i = 0; i < n; i++) {
        uint64_t how = rng_at(seed, c++), at = rng_at(seed, c++) % (head < *len ? head : *len),
                 r = rng_at(seed, c++);
        uint64_t v;
        switch (how % 5) {
        case 0: bytes[at] ^= (char)(1 << r % 8); break;
        case 1: bytes[at] = (char)r; break;
        case 2: *len = at + 1; break;
        case 3:
            v = nasty(r);
            memcpy(bytes + at, &v, *len - at < 8 ? *len - at : 8);
            break;
        case 4: /* a small change of a length: shifts everything behind it */
            if (*len - at < 8) break;
            memcpy(&v, bytes + at, 8);
            v += r % 17 - 8;
            memcpy(bytes + at, &v, 8);
            break;
        }
    }
}

static void damage_many(const char *image, size_t len, size_t head, int n_times, int *refused) {
    char *copy = malloc(len);
    assert_non_null(copy);
    for (int i = 0; i < n_times; i++) {
        size_t n = len;
        memcpy(copy, image, len);
        damage(copy, &n, head, hash_combine(SEED, (uint64_t)i));
        if (!open_and_walk(copy, n)) ++*refused;
    }
    free(copy);
}

static void test_built(void **state) {
    (void)state;
    buf image = {0};
    build(&image);
    assert_true(open_and_walk(image.ptr, image.len));
    int refused = 0;
    damage_many(image.ptr, image.len, 1000, 20 * N_DAMAGED, &refused);
    print_message("%d of %d refused\n", refused, 20 * N_DAMAGED);
    assert_true(refused > 10 * N_DAMAGED);
    buf_deinit(&image);
}

/* Each bit of the structure, one at a time. */
static void test_every_bit(void **state) {
    (void)state;
    buf image = {0};
    build(&image);
    for (size_t bit = 0; bit < 1000 * 8; bit++) {
        image.ptr[bit / 8] ^= (char)(1 << bit % 8);
        open_and_walk(image.ptr, image.len);
        image.ptr[bit / 8] ^= (char)(1 << bit % 8);
    }
    buf_deinit(&image);
}

static void test_corpus(void **state) {
    (void)state;
    const char *corpus = getenv("ORIEL_CORPUS");
    if (!corpus) skip();
    static const char *const names[] = {
        "models/derived/stories260K/stories260K-q8_0.gguf",
        "models/arch_oracle/gptoss-a/model-bf16.gguf",
        "tokenizers/llama.cpp-vocabs/ggml-vocab-bert-bge.gguf",
    };
    int refused = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[4096];
        buf b = {0};
        snprintf(path, sizeof path, "%s/%s", corpus, names[i]);
        int fd = open(path, O_RDONLY);
        assert_true(fd >= 0 && buf_read_fd(&b, fd));
        close(fd);
        assert_true(open_and_walk(b.ptr, b.len));
        damage_many(b.ptr, b.len, i == 2 ? b.len : 20000, N_DAMAGED / 3, &refused);
        buf_deinit(&b);
    }
    print_message("%d of %d refused\n", refused, N_DAMAGED);
    assert_true(refused > N_DAMAGED / 4);
}

/* ── allocations that fail ── */

static bool open_once(void *ctx) {
    const buf *image = ctx;
    error err = {0};
    file *f = file_open_memory(image->ptr, image->len, "tortured", &err);
    if (!f && err.code != ERR_NO_MEMORY) fail_msg("\"%s\" is not about memory", err.message);
    if (f && !gguf_walk(f)) fail_msg("a file opened short of memory is incomplete");
    file_close(f);
    return f != NULL;
}

static bool open_path_once(void *path) {
    error err = {0};
    file *f = file_open(path, &err);
    if (!f && err.code != ERR_NO_MEMORY) fail_msg("\"%s\" is not about memory", err.message);
    file_close(f);
    return f != NULL;
}

static void test_no_memory(void **state) {
    (void)state;
    if (!torture_is_available()) skip();
    buf image = {0};
    build(&image);
    assert_in_range(torture_run(open_once, &image), 2, 1000);
    buf_deinit(&image);
}

static void test_no_memory_for_many(void **state) {
    (void)state;
    if (!torture_is_available()) skip();
    gguf_builder g;
    gguf_builder_init(&g);
    for (int i = 0; i < 3000; i++) {
        char key[32];
        snprintf(key, sizeof key, "key.%d", i);
        gguf_put_strs(&g, key, 2, (str[]){STR("a"), STR("b")});
        gguf_put_tensor(&g, key, DTYPE_F32, 1, (uint64_t[]){8}, NULL);
    }
    buf image = {0};
    assert_true(gguf_builder_render(&g, &image));
    assert_in_range(torture_run(open_once, &image), 10, 1000);
    char path[] = "/tmp/oriel-test-XXXXXX";
    assert_int_equal(close(mkstemp(path)), 0);
    assert_true(gguf_builder_write(&g, path));
    assert_in_range(torture_run(open_path_once, path), 10, 1000);
    unlink(path);
    buf_deinit(&image);
    gguf_builder_deinit(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_built),
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_corpus),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_no_memory_for_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
