/* The GGUF reader against images built by hand and every file of the corpus. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>

#include "file/file.h"
#include "gguf_builder.h"

/* Opens what g describes; the image stays in *image. */
static file *open_built(const gguf_builder *g, buf *image, error *err) {
    assert_true(gguf_builder_render(g, image));
    return file_open_memory(image->ptr, image->len, "built", err);
}

static void test_values(void **state) {
    (void)state;
    gguf_builder g;
    gguf_builder_init(&g);
    gguf_put_u8(&g, "u8", 255);
    gguf_put_i8(&g, "i8", -128);
    gguf_put_u16(&g, "u16", 65535);
    gguf_put_i16(&g, "i16", -32768);
    gguf_put_u32(&g, "u32", 4294967295u);
    gguf_put_i32(&g, "i32", INT32_MIN);
    gguf_put_u64(&g, "u64", UINT64_MAX);
    gguf_put_i64(&g, "i64", INT64_MIN);
    gguf_put_i64(&g, "exact", -(1ll << 53));
    gguf_put_i64(&g, "inexact", -(1ll << 53) - 1);
    gguf_put_u64(&g, "uexact", 1ull << 53);
    gguf_put_u64(&g, "uinexact", (1ull << 53) + 1);
    gguf_put_f32(&g, "f32", 0.1f);
    gguf_put_f64(&g, "f64", 0.1);
    gguf_put_bool(&g, "yes", true);
    gguf_put_bool(&g, "no", false);
    gguf_put_str(&g, "str", "h\xC3\xA9llo \xFF");
    gguf_put_str(&g, "empty", "");
    gguf_put_array(&g, "i32s", FILE_I32, 3, (int32_t[]){-1, 0, 7});
    gguf_put_array(&g, "f64s", FILE_F64, 2, (double[]){0.5, -2});
    gguf_put_array(&g, "bools", FILE_BOOL, 2, (uint8_t[]){1, 0});
    gguf_put_array(&g, "none", FILE_U8, 0, NULL);
    gguf_put_strs(&g, "strs", 3, (str[]){STR("a"), STR(""), STR("c\0d")});
    buf image = {0};
    error err = {0};
    file *f = open_built(&g, &image, &err);
    assert_string_equal(err.message, "");
    assert_non_null(f);
    assert_int_equal(file_n_values(f), 23);
    assert_int_equal(file_version(f), 3);
    assert_string_equal(file_get_path(f), "built");

    static const struct {
        const char *key;
        bool is_u, is_i, is_f;
        uint64_t u;
        int64_t i;
        double d;
    } rows[] = {
        {"u8", 1, 1, 1, 255, 255, 255},
        {"i8", 0, 1, 1, 0, -128, -128},
        {"u16", 1, 1, 1, 65535, 65535, 65535},
        {"i16", 0, 1, 1, 0, -32768, -32768},
        {"u32", 1, 1, 1, 4294967295u, 4294967295, 4294967295.0},
        {"i32", 0, 1, 1, 0, INT32_MIN, INT32_MIN},
        {"u64", 1, 0, 0, UINT64_MAX, 0, 0},
        {"i64", 0, 1, 0, 0, INT64_MIN, 0},
        {"exact", 0, 1, 1, 0, -(1ll << 53), -0x1p53},
        {"inexact", 0, 1, 0, 0, -(1ll << 53) - 1, 0},
        {"uexact", 1, 1, 1, 1ull << 53, 1ll << 53, 0x1p53},
        {"uinexact", 1, 1, 0, (1ull << 53) + 1, (1ll << 53) + 1, 0},
        {"f32", 0, 0, 1, 0, 0, (double)0.1f},
        {"f64", 0, 0, 1, 0, 0, 0.1},
        {"yes", 0, 0, 0, 0, 0, 0},
        {"str", 0, 0, 0, 0, 0, 0},
        {"i32s", 0, 0, 0, 0, 0, 0},
        {"absent", 0, 0, 0, 0, 0, 0},
    };
    for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
        uint64_t u = 0;
        int64_t i = 0;
        double d = 0;
        assert_int_equal(file_get_u64(f, rows[k].key, &u), rows[k].is_u);
        assert_int_equal(file_get_i64(f, rows[k].key, &i), rows[k].is_i);
        assert_int_equal(file_get_f64(f, rows[k].key, &d), rows[k].is_f);
        assert_true(u == rows[k].u && i == rows[k].i && d == rows[k].d);
    }
    bool b = false;
    assert_true(file_get_bool(f, "yes", &b) && b);
    assert_true(file_get_bool(f, "no", &b) && !b);
    assert_false(file_get_bool(f, "u8", &b));
    str s;
    assert_true(file_get_str(f, "str", &s) && str_is(s, "h\xC3\xA9llo \xFF"));
    assert_true(file_get_str(f, "empty", &s) && s.len == 0);
    assert_false(file_get_str(f, "u8", &s));
    assert_false(file_get_str(f, "strs", &s));

    const file_value *v = file_find_value(f, STR("i32s"));
    assert_true(v && v->type == FILE_ARR && v->item_type == FILE_I32 && v->n == 3);
    int64_t i;
    uint64_t u;
    assert_true(file_item_i64(f, v, 0, &i) && i == -1);
    assert_true(file_item_u64(f, v, 2, &u) && u == 7);
    assert_false(file_item_u64(f, v, 0, &u)); /* negative */
    assert_false(file_item_i64(f, v, 3, &i)); /* beyond */
    assert_false(file_item_i64(f, v, UINT64_MAX, &i));
    v = file_find_value(f, STR("f64s"));
    double d;
    assert_true(file_item_f64(f, v, 1, &d) && d == -2);
    v = file_find_value(f, STR("bools"));
    assert_true(file_item_bool(f, v, 0, &b) && b && file_item_bool(f, v, 1, &b) && !b);
    assert_false(file_item_bool(f, v, 2, &b));
    v = file_find_value(f, STR("none"));
    assert_true(v && v->n == 0 && !file_item_u64(f, v, 0, &u));
    v = file_find_value(f, STR("strs"));
    assert_true(file_item_str(f, v, 0, &s) && str_is(s, "a"));
    assert_true(file_item_str(f, v, 1, &s) && s.len == 0);
    assert_true(file_item_str(f, v, 2, &s) && str_eq(s, STR("c\0d")));
    assert_false(file_item_str(f, v, 3, &s));
    v = file_find_value(f, STR("u8"));
    assert_true(v && v->n == 1 && v->type == FILE_U8 && file_item_u64(f, v, 0, &u) && u == 255);
    assert_null(file_find_value(f, STR("u")));
    assert_null(file_get_value(f, 23));
    for (size_t k = 0; k < file_n_values(f); k++)
        assert_ptr_equal(file_find_value(f, file_get_value(f, k)->key), file_get_value(f, k));
    file_close(f);
    buf_deinit(&image);
    gguf_builder_deinit(&g);
}

static void test_tensors(void **state) {
    (void)state;
    gguf_builder g;
    gguf_builder_init(&g);
    float four[4] = {1, 2, 3, 4};
    gguf_put_tensor(&g, "a", DTYPE_F32, 1, (uint64_t[]){4}, four);
    gguf_put_tensor(&g, "b", DTYPE_Q4_K, 4, (uint64_t[]){256, 2, 3, 5}, NULL);
    gguf_put_tensor(&g, "c", DTYPE_I8, 2, (uint64_t[]){1, 1}, "x");
    buf image = {0};
    error err = {0};
    file *f = open_built(&g, &image, &err);
    assert_string_equal(err.message, "");
    assert_int_equal(file_n_tensors(f), 3);
    assert_int_equal(file_n_bytes(f), image.len);
    assert_int_equal(file_alignment(f), 32);
    const file_tensor *t = file_find_tensor(f, STR("a"));
    assert_true(t && t->n_dims == 1 && t->shape[0] == 4 && t->shape[3] == 1 && t->n_bytes == 16);
    assert_memory_equal(t->data, four, 16);
    t = file_find_tensor(f, STR("b"));
    assert_true(t && t->n_elements == 256 * 30 && t->n_bytes == 144 * 30 && t->shape[3] == 5);
    assert_int_equal(t->offset % 32, 0);
    t = file_get_tensor(f, 2);
    assert_true(str_is(t->name, "c") && *(const char *)t->data == 'x' && t->part == 0);
    assert_ptr_equal((const char *)t->data, image.ptr + t->offset);
    assert_null(file_find_tensor(f, STR("d")));
    assert_null(file_get_tensor(f, 3));
    file_close(f);
    buf_deinit(&image);
    gguf_builder_deinit(&g);
}

/* Files need not list tensors in the order of their bytes, nor leave none between. */
static void test_any_order(void **state) {
    (void)state;
    gguf_builder g;
    gguf_builder_init(&g);
    gguf_put_tensor_info(&g, STR("last"), DTYPE_I8, 1, (uint64_t[]){32}, 128);
    gguf_put_tensor_info(&g, STR("first"), DTYPE_I8, 1, (uint64_t[]){33}, 0);
    gguf_put_tensor_info(&g, STR("middle"), DTYPE_I8, 1, (uint64_t[]){64}, 64);
    gguf_put_data(&g, NULL, 160);
    buf image = {0};
    error err = {0};
    file *f = open_built(&g, &image, &err);
    assert_string_equal(err.message, "");
    const char *base = file_find_tensor(f, STR("first"))->data;
    assert_ptr_equal(file_find_tensor(f, STR("last"))->data, base + 128);
    assert_ptr_equal(file_find_tensor(f, STR("middle"))->data, base + 64);
    file_close(f);
    buf_deinit(&image);
    gguf_builder_deinit(&g);
}

/* ── corpus ── */

static int n_opened;

static int open_one(const char *path, const struct stat *st, int type, struct FTW *ftw) {
    (void)ftw;
    if (type != FTW_F || !str_ends(str_from(path), STR(".gguf"))) return 0;
    error err = {0};
    file *f = file_open(path, &err);
    assert_string_equal(err.message, "");
    assert_non_null(f);
    assert_int_equal(file_n_bytes(f), st->st_size);
    str arch;
    assert_true(file_get_str(f, "general.architecture", &arch) && arch.len > 0);
    const file_value *tokens = file_find_value(f, STR("tokenizer.ggml.tokens"));
    str s;
    assert_true(tokens && tokens->n > 0 && file_item_str(f, tokens, tokens->n - 1, &s));
    for (size_t i = 0; i < file_n_tensors(f); i++)
        assert_ptr_equal(file_find_tensor(f, file_get_tensor(f, i)->name), file_get_tensor(f, i));
    file_close(f);
    n_opened++;
    return 0;
}

static void test_corpus(void **state) {
    (void)state;
    const char *corpus = getenv("ORIEL_CORPUS");
    if (!corpus) skip();
    n_opened = 0;
    assert_int_equal(nftw(corpus, open_one, 16, FTW_PHYS), 0);
    print_message("%d files\n", n_opened);
    assert_true(n_opened >= 10);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_tensors),
        cmocka_unit_test(test_any_order),
        cmocka_unit_test(test_corpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
