/* JSON out against jansson in, and what the strict parser refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/json.h"
#include "torture.h"

static json_t *reread(const buf *b) {
    error err = {0};
    assert_false(b->failed);
    assert_true(utf8_is_valid(buf_str(b)));
    json_t *v = json_parse(buf_str(b), &err);
    if (!v) fail_msg("%s in: %s", err.message, b->ptr);
    return v;
}

static size_t random_text(char *out, size_t cap, uint64_t seed) {
    size_t n = 0;
    for (uint64_t i = 0; n + 4 <= cap; i++) {
        uint64_t r = rng_at(seed, i);
        static const uint32_t masks[] = {0x1F, 0x7F, 0x7FF, 0xFFFF, 0x1FFFFF};
        n += (size_t)utf8_encode((uint32_t)(r >> 8) & masks[r % 5], out + n);
    }
    return n;
}

static void test_strings(void **state) {
    (void)state;
    buf b = {0};
    for (uint64_t seed = 0; seed < 2000; seed++) {
        char text[64];
        size_t n = random_text(text, seed % sizeof text, seed);
        buf_clear(&b);
        json_out j = json_begin(&b);
        json_arr(&j);
        json_put_str(&j, str_make(text, n));
        json_end_arr(&j);
        json_t *v = reread(&b);
        assert_true(str_eq(json_str(json_array_get(v, 0)), str_make(text, n)));
        json_decref(v);
    }
    /* every byte alone, well-formed or not */
    for (int c = 0; c < 256; c++) {
        char byte = (char)c;
        buf_clear(&b);
        json_out j = json_begin(&b);
        json_put_str(&j, str_make(&byte, 1));
        json_t *v = reread(&b);
        assert_true(str_eq(json_str(v), c < 0x80 ? str_make(&byte, 1) : STR("\xEF\xBF\xBD")));
        json_decref(v);
    }
    buf_clear(&b);
    json_escape(&b, STR("a\"\\/\b\f\n\r\t\x01\x7F\xC3"));
    assert_string_equal(b.ptr, "a\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\x7F\xEF\xBF\xBD");
    buf_deinit(&b);
}

static void test_numbers(void **state) {
    (void)state;
    buf b = {0};
    for (uint64_t i = 0; i < 20000; i++) {
        uint64_t bits = rng_at(1, i);
        double d;
        float f;
        memcpy(&d, &bits, 8);
        memcpy(&f, &bits, 4);
        buf_clear(&b);
        json_out j = json_begin(&b);
        json_arr(&j);
        json_put_num(&j, d);
        json_put_float(&j, f);
        json_put_int(&j, (int64_t)bits);
        json_put_num(&j, (double)(bits % 1000) / 100);
        json_end_arr(&j);
        json_t *v = reread(&b), *x = json_array_get(v, 0), *y = json_array_get(v, 1);
        assert_true(isfinite(d) ? json_number_value(x) == d : json_is_null(x));
        assert_true(isfinite(f) ? strtof(strchr(b.ptr, ',') + 1, NULL) == f : json_is_null(y));
        assert_true(json_integer_value(json_array_get(v, 2)) == (int64_t)bits);
        assert_true(json_number_value(json_array_get(v, 3)) == (double)(bits % 1000) / 100);
        json_decref(v);
    }
    static const struct {
        double v;
        const char *text;
    } rows[] = {{0, "0"},           {1, "1"},
                {-1.5, "-1.5"},     {0.1, "0.1"},
                {1e21, "1e+21"},    {NAN, "null"},
                {INFINITY, "null"}, {1e-7, "1e-07"},
                {0.7, "0.7"},       {9007199254740993.0, "9007199254740992"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        buf_clear(&b);
        json_out j = json_begin(&b);
        json_put_num(&j, rows[i].v);
        assert_string_equal(b.ptr, rows[i].text);
    }
    buf_clear(&b);
    json_out j = json_begin(&b);
    json_put_float(&j, 0.1f);
    assert_string_equal(b.ptr, "0.1");
    buf_deinit(&b);
}

static void test_nesting(void **state) {
    (void)state;
    buf b = {0};
    json_out j = json_begin(&b);
    json_obj(&j);
    json_kv_int(&j, "a", 1);
    json_key(&j, "b");
    json_arr(&j);
    json_obj(&j);
    json_end_obj(&j);
    json_arr(&j);
    json_end_arr(&j);
    json_put_null(&j);
    json_put_raw(&j, STR("{\"raw\":1}"));
    json_end_arr(&j);
    json_key_str(&j, STR("q\"\n"));
    json_put_bool(&j, true);
    json_kv_cstr(&j, "c", NULL);
    json_kv_str(&j, "d", (str){0});
    json_kv_num(&j, "e", 0.5);
    json_kv_bool(&j, "f", false);
    json_kv_null(&j, "g");
    json_kv_cstr(&j, "h", "x");
    json_end_obj(&j);
    assert_string_equal(
        b.ptr,
        "{\"a\":1,\"b\":[{},[],null,{\"raw\":1}],\"q\\\"\\n\":true,\"c\":null,\"d\":\"\",\"e\":0.5,"
        "\"f\":false,\"g\":null,\"h\":\"x\"}");
    buf_clear(&b);
    j = json_begin(&b);
    for (int i = 0; i < 63; i++) i % 2 ? (json_put_int(&j, i), json_arr(&j)) : json_arr(&j);
    for (int i = 0; i < 63; i++) json_end_arr(&j), (i < 62 ? json_put_int(&j, i) : (void)0);
    json_decref(reread(&b));
    buf_deinit(&b);
}

/* Any parsed value written again is the same value. */
static void test_put_value(void **state) {
    (void)state;
    static const char *const same[] = {
        "{\"z\":1,\"a\":[1.0,-0.1,1e+300,0.1,\"\\u0000\\u001f\xC3\xA9\",true,false,null,{}],\"\":{\"k\":[[[]]]}}",
        "12",
        "\"x\"",
        "null",
        "[]",
        "-9223372036854775808",
        "0.30000000000000004",
        "2.5e-10",
        "100.0",
    };
    buf b = {0};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++) {
        json_t *v = json_parse(str_from(same[i]), NULL);
        assert_non_null(v);
        buf_clear(&b);
        json_out j = json_begin(&b);
        json_put_value(&j, v);
        assert_string_equal(b.ptr, same[i]);
        json_decref(v);
    }
    buf_clear(&b);
    json_out j = json_begin(&b);
    json_obj(&j);
    json_key(&j, "v");
    json_put_value(&j, NULL);
    json_end_obj(&j);
    assert_string_equal(b.ptr, "{\"v\":null}");

    buf text = {0}; /* deeper than the emitter's own containers may be */
    for (int i = 0; i < 1000; i++) buf_append_cstr(&text, "[1,");
    buf_append_cstr(&text, "[]");
    for (int i = 0; i < 1000; i++) buf_append_cstr(&text, ",2]");
    json_t *v = json_parse(buf_str(&text), NULL);
    assert_non_null(v);
    buf_clear(&b);
    j = json_begin(&b);
    json_put_value(&j, v);
    assert_string_equal(b.ptr, text.ptr);
    json_decref(v);
    buf_deinit(&text);
    buf_deinit(&b);
}

static void test_strict_parser(void **state) {
    (void)state;
    static const str bad[] = {
        {"", 0},
        {" ", 1},
        {"{", 1},
        {"[1,]", 4},
        {"{\"a\":1,}", 8},
        {"{a:1}", 5},
        {"[1] 2", 5},
        {"01", 2},
        {"+1", 2},
        {"1.", 2},
        {".5", 2},
        {"1e", 2},
        {"nul", 3},
        {"NaN", 3},
        {"'a'", 3},
        {"\"a", 2},
        {"\"\n\"", 3},
        {"\"\\x\"", 4},
        {"\"\\ud800\"", 8},
        {"\"\\udc00\\ud800\"", 14},
        {"\"\xFF\"", 3},
        {"\"\xED\xA0\x80\"", 5},
        {"\"\xC0\x80\"", 4},
        {"{\"a\":1,\"a\":2}", 13},
        {"{\"a\":1,\"\\u0061\":2}", 18},
        {"\xEF\xBB\xBF{}", 5},
        {"[1\0]", 4},
        {"1e999", 5},
        {"// x\n1", 6},
        {"\0", 1},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error err = {0};
        json_t *v = json_parse(bad[i], &err);
        if (v) fail_msg("accepted: %.*s", STR_ARG(bad[i]));
        assert_int_equal(err.code, ERR_MALFORMED);
        assert_true(utf8_is_valid(str_from(err.message)));
        assert_non_null(strstr(err.message, "line "));
        assert_null(json_parse(bad[i], NULL));
    }
    error err = {0};
    assert_null(json_parse((str){0}, &err));
    err = (error){0};
    assert_null(json_parse(STR("{\n \"a\": tru\n}"), &err));
    assert_non_null(strstr(err.message, "(line 2, column 9)"));

    json_t *v = json_parse(STR("\"a\\u0000b\\ud83d\\ude00\""), NULL);
    assert_true(str_eq(json_str(v), STR("a\0b\xF0\x9F\x98\x80")));
    json_decref(v);
    v = json_parse(STR("[18446744073709551616, 1, 9223372036854775808]"), NULL);
    assert_non_null(v);
    assert_true(json_number_value(json_array_get(v, 0)) == 18446744073709551616.0);
    assert_true(json_is_integer(json_array_get(v, 1))); /* the others stay what they are */
    assert_true(json_is_real(json_array_get(v, 2)));
    json_decref(v);
    v = json_parse(STR("{\"a\\\"99999999999999999999\": 99999999999999999999, \"b\": "
                       "[1.12345678901234567890123, -9223372036854775808, -9223372036854775809, "
                       "5e00000000000000000000001, 9223372036854775807]}"),
                   NULL);
    assert_true(json_number_value(json_object_get(v, "a\"99999999999999999999")) == 1e20);
    json_t *b = json_object_get(v, "b");
    assert_true(json_real_value(json_array_get(b, 0)) == 1.12345678901234567890123);
    assert_true(json_integer_value(json_array_get(b, 1)) == INT64_MIN);
    assert_true(json_real_value(json_array_get(b, 2)) == -0x1p63);
    assert_true(json_real_value(json_array_get(b, 3)) == 50);
    assert_true(json_integer_value(json_array_get(b, 4)) == INT64_MAX);
    json_decref(v);
    v = json_parse(STR("99999999999999999999"), NULL);
    assert_true(json_real_value(v) == 1e20);
    json_decref(v);
    assert_null(json_parse(STR("[99999999999999999999, 1e999]"), NULL));
    assert_null(json_parse(STR("[99999999999999999999"), NULL));
    v = json_parse(STR("  null\n"), NULL);
    assert_true(json_is_null(v) && json_str(v).len == 0 && json_str(v).ptr == NULL);
    json_decref(v);

    buf deep = {0}; /* bounded depth, not a stack overflow */
    for (int i = 0; i < 100000; i++) buf_append_char(&deep, '[');
    for (int i = 0; i < 100000; i++) buf_append_char(&deep, ']');
    assert_null(json_parse(buf_str(&deep), NULL));
    buf_deinit(&deep);
}

/* Random bytes and damaged JSON: a value or a sentence in UTF-8. */
static void test_garbage(void **state) {
    (void)state;
    static const char base[] = "{\"a\":[1,2.5,\"t\xC3\xA9xt\\u20ac\",{\"b\":null}],\"c\":true}";
    for (uint64_t seed = 0; seed < 20000; seed++) {
        char text[sizeof base];
        memcpy(text, base, sizeof base);
        size_t n = sizeof base - 1;
        for (uint64_t k = 0; k <= seed % 3; k++) {
            uint64_t r = rng_at(seed, k);
            text[r % n] = r >> 16 & 1 ? "{}[]\",:\\0e.-\xC3"[(r >> 20) % 13] : (char)(r >> 32);
        }
        if (seed % 7 == 0) n = rng_at(seed, 9) % n;
        error err = {0};
        json_t *v = json_parse(str_make(text, n), &err);
        assert_true((v != NULL) != error_is_set(&err));
        assert_true(utf8_is_valid(str_from(err.message)));
        json_decref(v);
    }
}

static bool parse_once(void *ctx) {
    (void)ctx;
    error err = {0};
    json_t *v = json_parse(STR("[[], {}]"), &err);
    if (!v && err.code != ERR_NO_MEMORY) fail_msg("%s", err.message);
    json_decref(v);
    return v != NULL;
}

static bool write_once(void *ctx) {
    buf b = {0};
    json_out j = json_begin(&b);
    json_put_value(&j, ctx);
    bool ok = !b.failed;
    buf_deinit(&b);
    return ok;
}

/* Only brackets: jansson 2.14 asserts when the buffer of a token it reads cannot be made. */
static void test_no_memory(void **state) {
    (void)state;
    if (!torture_is_available()) skip();
    assert_in_range(torture_run(parse_once, NULL), 5, 100);
    buf text = {0};
    buf_append_cstr(&text, "[0.5");
    for (int i = 0; i < 300; i++) buf_printf(&text, ",{\"%d\":\"text\"}", i);
    buf_append_cstr(&text, "]");
    json_t *v = json_parse(buf_str(&text), NULL);
    assert_non_null(v);
    assert_in_range(torture_run(write_once, v), 5, 100);
    json_decref(v);
    buf_deinit(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings),       cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_nesting),       cmocka_unit_test(test_put_value),
        cmocka_unit_test(test_strict_parser), cmocka_unit_test(test_garbage),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
