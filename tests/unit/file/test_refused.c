/* Every way a GGUF image or a path can be wrong, and the sentence it gets. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file/file.h"
#include "gguf_builder.h"

/* One sentence: the file's name, a capital letter, one full stop at the end, clean UTF-8. */
static void assert_sentence(const error *err, const char *name, const char *part) {
    str m = str_from(err->message);
    if (!strstr(err->message, part)) fail_msg("\"%s\" does not say \"%s\"", err->message, part);
    assert_true(utf8_is_valid(m));
    assert_true(str_starts(m, str_from(name)));
    assert_true(m.len > strlen(name) + 3 && memcmp(m.ptr + strlen(name), ": ", 2) == 0);
    char first = m.ptr[strlen(name) + 2];
    assert_true(first >= 'A' && first <= 'Z');
    assert_true(str_ends(m, STR(".")));
    assert_true(str_find(m, STR(". "), 0) < 0);
    assert_null(strpbrk(err->message, "\n\r\t"));
}

static void refuse_bytes(const void *bytes, size_t len, const char *part) {
    error err = {0};
    char *copy = malloc(len ? len : 1); /* exact, for the sanitizer */
    assert_non_null(copy);
    if (len) memcpy(copy, bytes, len);
    file *f = file_open_memory(copy, len, "built", &err);
    if (f) fail_msg("opened, though \"%s\" was expected", part);
    assert_int_equal(err.code, ERR_BAD_FILE);
    assert_sentence(&err, "built", part);
    free(copy);
}

typedef void build_fn(gguf_builder *g);

static void refuse(build_fn *build, const char *part) {
    gguf_builder g;
    buf image = {0};
    gguf_builder_init(&g);
    build(&g);
    assert_true(gguf_builder_render(&g, &image));
    refuse_bytes(image.ptr, image.len, part);
    buf_deinit(&image);
    gguf_builder_deinit(&g);
}

#define DIMS(...)               ((uint64_t[]){__VA_ARGS__})
#define F32_AT(g, name, offset) gguf_put_tensor_info(g, STR(name), DTYPE_F32, 1, DIMS(8), offset)

/* The row's statement builds; the row's text is what the sentence says. */
/* clang-format off */
#define CASES(X) \
    X(version_0, g->version = 0, "GGUF version 0") \
    X(version_1, g->version = 1, "obsolete") \
    X(version_4, g->version = 4, "GGUF version 4") \
    X(big_endian_2, g->version = 0x02000000, "big-endian") \
    X(big_endian_3, g->version = 0x03000000, "big-endian") \
    X(too_many_values, g->n_values = 1ull << 40, "1099511627776 metadata keys") \
    X(too_many_tensors, g->n_tensors = UINT64_MAX, "18446744073709551615 tensors") \
    X(values_missing, g->n_values = 3, "42 bytes more") \
    X(one_byte_missing, g->n_values = 1; zeros(&g->values, 13), "need at least 1 bytes more") \
    X(tensors_missing, g->n_tensors = 2, "66 bytes more") \
    X(key_empty, gguf_put_key(g, STR(""), FILE_U8); zeros(&g->values, 8), "metadata key 0 at byte 24 is empty") \
    X(key_control, gguf_put_key(g, STR("a\nb"), FILE_U8); buf_append_char(&g->values, 0), "not printable text: \"a?b\"") \
    X(key_nul, gguf_put_key(g, STR("a\0b"), FILE_U8); buf_append_char(&g->values, 0), "not printable text: \"a?b\"") \
    X(key_not_utf8, gguf_put_key(g, STR("a\xC3"), FILE_U8); buf_append_char(&g->values, 0), "not printable text") \
    X(key_twice, gguf_put_u8(g, "k", 1); gguf_put_u8(g, "k", 1), "key k appears twice") \
    X(key_too_long, huge_key(g), "100000 bytes long, more than the 65535") \
    X(key_cut, g->n_values = 1; length(&g->values, 1000); zeros(&g->values, 10), "990 of them are missing") \
    X(type_unknown, gguf_put_key(g, STR("k"), 13); zeros(&g->values, 8), "Type 13 at byte 33, in the value of k, is unknown") \
    X(bool_2, gguf_put_u8(g, "j", 0); gguf_put_key(g, STR("k"), FILE_BOOL); buf_append_char(&g->values, 2), "A boolean in the value of k is 2") \
    X(bools, gguf_put_array(g, "k", FILE_BOOL, 2, (uint8_t[]){1, 9}), "A boolean in the value of k is 9") \
    X(str_cut, gguf_put_key(g, STR("k"), FILE_STR); length(&g->values, 100); zeros(&g->values, 1), "99 of them are missing") \
    X(str_wraps, gguf_put_key(g, STR("k"), FILE_STR); length(&g->values, UINT64_MAX), "18446744073709551615 of them are missing") \
    X(scalar_cut, gguf_put_key(g, STR("k"), FILE_U64); zeros(&g->values, 3), "takes 8 bytes, and 5 of them are missing") \
    X(array_count, array(g, FILE_U16, 100); zeros(&g->values, 8), "100 items, which need at least 2 bytes each, but only 8 bytes follow") \
    X(array_wraps, array(g, FILE_F64, 1ull << 61); zeros(&g->values, 8), "2305843009213693952 items") \
    X(array_strs, array(g, FILE_STR, 3); zeros(&g->values, 16), "3 items") \
    X(array_str_cut, array(g, FILE_STR, 2); zeros(&g->values, 8); length(&g->values, 5), "5 of them are missing") \
    X(array_type, array(g, 77, 1); zeros(&g->values, 8), "Type 77") \
    X(array_deep, nested(g, 5), "nested more than 4 deep in the value of k") \
    X(align_0, gguf_put_u32(g, "general.alignment", 0), "general.alignment is 0") \
    X(align_4, gguf_put_u32(g, "general.alignment", 4), "general.alignment is 4") \
    X(align_48, gguf_put_u32(g, "general.alignment", 48), "power of two") \
    X(align_huge, gguf_put_u64(g, "general.alignment", 1ull << 63), "power of two") \
    X(align_str, gguf_put_str(g, "general.alignment", "32"), "not a positive integer") \
    X(align_negative, gguf_put_i32(g, "general.alignment", -32), "not a positive integer") \
    X(name_empty, gguf_put_tensor(g, "", DTYPE_F32, 1, DIMS(1), NULL), "The name of tensor 0 at byte 24 is empty") \
    X(name_bad, gguf_put_tensor(g, "\x1b[2J", DTYPE_F32, 1, DIMS(1), NULL), "\"?[2J\"") \
    X(name_twice, gguf_put_tensor(g, "t", DTYPE_F32, 1, DIMS(1), NULL); gguf_put_tensor(g, "t", DTYPE_F32, 1, DIMS(1), NULL), "tensor t appears twice") \
    X(dims_0, gguf_put_tensor_info(g, STR("t"), DTYPE_F32, 0, NULL, 0); zeros(&g->data, 64), "0 dimensions") \
    X(dims_5, gguf_put_tensor_info(g, STR("t"), DTYPE_F32, 5, DIMS(1, 1, 1, 1, 1), 0); zeros(&g->data, 64), "5 dimensions") \
    X(dim_zero, gguf_put_tensor_info(g, STR("t"), DTYPE_F32, 2, DIMS(4, 0), 0); zeros(&g->data, 64), "Dimension 1 of tensor t is zero") \
    X(dims_wrap, gguf_put_tensor_info(g, STR("t"), DTYPE_I8, 2, DIMS(1ull << 32, 1ull << 32), 0); zeros(&g->data, 64), "more elements than can be counted") \
    X(dims_sign, gguf_put_tensor_info(g, STR("t"), DTYPE_I8, 1, DIMS(1ull << 63), 0); zeros(&g->data, 64), "more elements than can be counted") \
    X(bytes_wrap, gguf_put_tensor_info(g, STR("t"), DTYPE_F64, 1, DIMS(1ull << 61), 0); zeros(&g->data, 64), "more bytes than can be counted") \
    X(dtype_unknown, gguf_put_tensor_info(g, STR("t"), 99, 1, DIMS(8), 0); zeros(&g->data, 64), "unknown type 99") \
    X(dtype_removed, gguf_put_tensor_info(g, STR("t"), 31, 1, DIMS(8), 0); zeros(&g->data, 64), "Q4_0_4_4, which was removed") \
    X(row_broken, gguf_put_tensor_info(g, STR("t"), DTYPE_Q4_K, 2, DIMS(128, 2), 0); zeros(&g->data, 288), "128 elements, not a multiple of Q4_K's blocks of 256") \
    X(misaligned, F32_AT(g, "t", 16); zeros(&g->data, 64), "offset 16, not a multiple of the alignment 32") \
    X(beyond, F32_AT(g, "t", 64); zeros(&g->data, 64), "and 32 bytes are missing") \
    X(one_missing, F32_AT(g, "t", 0); zeros(&g->data, 31), "and 1 bytes are missing") \
    X(far_beyond, F32_AT(g, "t", 1ull << 60); zeros(&g->data, 64), "bytes are missing") \
    X(offset_wraps, F32_AT(g, "t", UINT64_MAX - 31); zeros(&g->data, 64), "beyond anything a file can hold") \
    X(overlap, F32_AT(g, "a", 0); F32_AT(g, "b", 0); zeros(&g->data, 64), "overlap") \
    X(overlap_unsorted, F32_AT(g, "a", 64); F32_AT(g, "b", 0); F32_AT(g, "c", 64); zeros(&g->data, 128), "Tensors a and c overlap at byte") \
    X(overlap_inside, gguf_put_tensor_info(g, STR("big"), DTYPE_F32, 1, DIMS(64), 0); F32_AT(g, "small", 128); zeros(&g->data, 256), "Tensors big and small overlap") \
    X(split_memory, gguf_put_u16(g, "split.count", 3); gguf_put_u16(g, "split.no", 1), "part 2 of a model split into 3") \
    X(split_no_missing, gguf_put_u16(g, "split.count", 3), "split.no is not an integer below split.count") \
    X(split_no_range, gguf_put_u16(g, "split.count", 3); gguf_put_u16(g, "split.no", 3), "split.no is not an integer below split.count") \
    X(split_count_str, gguf_put_str(g, "split.count", "3"), "split.count is not an integer") \
    X(split_count_big, gguf_put_u16(g, "split.count", 65535), "split.count is not an integer")
/* clang-format on */

static void zeros(buf *b, size_t n) {
    while (n--) buf_append_char(b, 0);
}
static void length(buf *b, uint64_t n) {
    buf_append(b, &n, sizeof n);
}
static void array(gguf_builder *g, uint32_t item, uint64_t n) {
    gguf_put_key(g, STR("k"), FILE_ARR);
    buf_append(&g->values, &item, sizeof item);
    length(&g->values, n);
}
static void nested(gguf_builder *g, int depth) {
    gguf_put_key(g, STR("k"), FILE_ARR);
    for (int i = 0; i < depth; i++) {
        buf_append(&g->values, &(uint32_t){i + 1 < depth ? FILE_ARR : FILE_U8}, 4);
        length(&g->values, 1);
    }
    zeros(&g->values, 1);
}
static void huge_key(gguf_builder *g) {
    g->n_values = 1;
    length(&g->values, 100000);
    for (int i = 0; i < 100000; i++) buf_append_char(&g->values, 'k');
    zeros(&g->values, 5);
}

#define FUNCTION(name, how, what)               \
    static void build_##name(gguf_builder *g) { \
        how;                                    \
    }
CASES(FUNCTION)

static void test_images(void **state) {
    (void)state;
    static const struct {
        build_fn *build;
        const char *part;
    } cases[] = {
#define ROW(name, how, what) {build_##name, what},
        CASES(ROW)};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) refuse(cases[i].build, cases[i].part);
}

static void test_nested_arrays_open(void **state) {
    (void)state;
    gguf_builder g;
    buf image = {0};
    gguf_builder_init(&g);
    nested(&g, 4);
    gguf_put_u8(&g, "after", 7);
    assert_true(gguf_builder_render(&g, &image));
    error err = {0};
    file *f = file_open_memory(image.ptr, image.len, "built", &err);
    assert_string_equal(err.message, "");
    const file_value *v = file_find_value(f, STR("k"));
    uint64_t u;
    str s;
    assert_true(v && v->item_type == FILE_ARR && v->n == 1);
    assert_false(file_item_u64(f, v, 0, &u));
    assert_false(file_item_str(f, v, 0, &s));
    assert_true(file_get_u64(f, "after", &u) && u == 7);
    file_close(f);
    buf_deinit(&image);
    gguf_builder_deinit(&g);
}

/* Every shorter beginning of a good file is refused, and nothing reads past it. */
static void test_every_truncation(void **state) {
    (void)state;
    gguf_builder g;
    buf image = {0};
    gguf_builder_init(&g);
    gguf_put_str(&g, "general.architecture", "llama");
    gguf_put_strs(&g, "tokens", 2, (str[]){STR("a"), STR("bc")});
    gguf_put_array(&g, "numbers", FILE_F32, 2, (float[]){1, 2});
    gguf_put_tensor(&g, "t", DTYPE_F32, 2, DIMS(4, 2), NULL);
    gguf_put_tensor(&g, "u", DTYPE_F16, 1, DIMS(8), NULL);
    assert_true(gguf_builder_render(&g, &image));
    for (size_t n = 0; n < image.len; n++)
        refuse_bytes(image.ptr, n, n == 0 ? "The file is empty" : n < 4 ? "not a GGUF file" : "");
    error err = {0};
    file *f = file_open_memory(image.ptr, image.len, "built", &err);
    assert_non_null(f);
    file_close(f);
    buf_deinit(&image);
    gguf_builder_deinit(&g);
}

static void test_other_formats(void **state) {
    (void)state;
    static const struct {
        str bytes;
        const char *part;
    } cases[] = {
        {{"\x10\0\0\0\0\0\0\0{\"a\":{\"dtype\":1}}", 26}, "a safetensors file"},
        {{"<!DOCTYPE html><html></html>", 28}, "an HTML page"},
        {{"\n  <HTML lang=\"en\">", 19}, "an HTML page"},
        {{"<?xml version=\"1.0\"?><Error/>", 29}, "an XML document"},
        {{"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", 57}, "a git-lfs pointer"},
        {{"PK\x03\x04\x14\0\0\0archive/data.pkl", 24}, "a PyTorch checkpoint"},
        {{"PK\x03\x04\x14\0\0\0weights.txt", 19}, "a zip archive"},
        {{"\x80\x02}q\0.", 6}, "a Python pickle"},
        {{"ggml\1\0\0\0", 8}, "a GGML file from before GGUF"},
        {{"tjgg\3\0\0\0", 8}, "a GGML file from before GGUF"},
        {{"FUGG\0\0\0\3", 8}, "big-endian"},
        {{"\x1f\x8b\x08\0\0\0", 6}, "a gzip archive"},
        {{"{\"error\": \"Unauthorized\"}", 25}, "a JSON document"},
        {{"Entry not found", 15}, "a text file"},
        {{"\0\0\0\0\0\0\0\0", 8}, "nothing but zeros"},
        {{"GGU", 3}, "a text file"},
        {{"\x01\x02\xFF\xFE\x80", 5}, "does not begin with the letters GGUF"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuse_bytes(cases[i].bytes.ptr, cases[i].bytes.len, cases[i].part);
    refuse_bytes("", 0, "The file is empty");
}

static void refuse_path(const char *path, error_code code, const char *part) {
    error err = {0};
    assert_null(file_open(path, &err));
    assert_int_equal(err.code, code);
    assert_sentence(&err, path, part);
    assert_null(file_open(path, NULL)); /* an error may be nobody's concern */
}

static void test_paths(void **state) {
    (void)state;
    char dir[] = "/tmp/oriel-test-XXXXXX", path[64];
    assert_non_null(mkdtemp(dir));
    refuse_path(dir, ERR_IO, "This is a directory");
    snprintf(path, sizeof path, "%s/absent.gguf", dir);
    refuse_path(path, ERR_IO, "No such file");
    snprintf(path, sizeof path, "%s/empty.gguf", dir);
    assert_int_equal(close(open(path, O_CREAT | O_WRONLY, 0600)), 0);
    refuse_path(path, ERR_BAD_FILE, "The file is empty");
    unlink(path);
    snprintf(path, sizeof path, "%s/pipe.gguf", dir);
    assert_int_equal(mkfifo(path, 0600), 0);
    refuse_path(path, ERR_IO, "not a regular file");
    unlink(path);
    snprintf(path, sizeof path, "%s/text.gguf", dir);
    int fd = open(path, O_CREAT | O_WRONLY, 0600);
    assert_int_equal(write(fd, "hello", 5), 5);
    close(fd);
    refuse_path(path, ERR_BAD_FILE, "a text file");
    unlink(path);
    rmdir(dir);

    /* A long path keeps its end; bytes that are no text do not reach the sentence. */
    char longer[400];
    memset(longer, 'x', sizeof longer);
    memcpy(longer, "/\xFF\n", 3);
    memcpy(longer + sizeof longer - 12, "/absent.gguf", 13 - 1);
    longer[sizeof longer - 1] = 0;
    error err = {0};
    assert_null(file_open(longer, &err));
    assert_true(utf8_is_valid(str_from(err.message)));
    assert_non_null(strstr(err.message, "/absent.ggu: "));
    err = (error){0};
    assert_null(file_open("/\xFF\n/a", &err));
    assert_true(utf8_is_valid(str_from(err.message)) && !strchr(err.message, '\n'));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_nested_arrays_open),
        cmocka_unit_test(test_every_truncation),
        cmocka_unit_test(test_other_formats),
        cmocka_unit_test(test_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
