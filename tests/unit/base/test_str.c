/* Slices, and UTF-8 against every code point and the ill-formed forms Unicode lists. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/hash.h"
#include "base/str.h"

static void test_slices(void **state) {
    (void)state;
    str s = STR("hello world");
    assert_int_equal(str_find(s, STR("o"), 0), 4);
    assert_int_equal(str_find(s, STR("o"), 5), 7);
    assert_int_equal(str_find(s, STR("o"), 8), -1);
    assert_int_equal(str_find(s, STR(""), 11), 11);
    assert_int_equal(str_find(s, STR(""), 12), -1);
    assert_int_equal(str_find(s, STR("hello world!"), 0), -1);
    assert_int_equal(str_find((str){0}, STR("x"), 0), -1);
    assert_int_equal(str_find((str){0}, (str){0}, 0), 0);
    assert_int_equal(str_find(STR("a\0b\0c"), STR("b\0c"), 0), 2);
    assert_true(str_eq((str){0}, STR("")) && !str_eq(s, STR("hello")));
    assert_true(str_starts(s, STR("hell")) && str_starts(s, STR("")) &&
                !str_starts(STR("h"), STR("he")));
    assert_true(str_ends(s, STR("rld")) && str_ends(s, STR("")) && !str_ends(STR("d"), STR("ld")));
    assert_true(str_is(str_trim(STR(" \t\r\n a b \v\f")), "a b"));
    assert_int_equal(str_trim(STR("  ")).len, 0);
    assert_int_equal(str_trim((str){0}).len, 0);
    char *copy = str_dup(STR("a\0b"));
    assert_memory_equal(copy, "a\0b", 4);
    free(copy);
    copy = str_dup((str){0});
    assert_string_equal(copy, "");
    free(copy);
    assert_int_equal(str_from(NULL).len, 0);
}

static void test_slips(void **state) {
    (void)state;
    static const struct {
        const char *typed, *meant;
        size_t slips;
    } rows[] = {
        {"serve", "serve", 0},
        {"srve", "serve", 1},
        {"chta", "chat", 1},
        {"seerve", "serve", 1},
        {"plam", "plan", 1},
        {"temprature", "temperature", 1},
        {"max-tokns", "max-tokens", 1},
        {"cat", "chat", 1},
        {"", "", 0},
        {"x", "", SIZE_MAX},
        {"run", "plan", SIZE_MAX},
        {"abc", "bca", SIZE_MAX},
        {"0123456789012345678901234567890123456789x", "0123456789012345678901234567890123456789",
         SIZE_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_int_equal(str_slips(str_from(rows[i].typed), str_from(rows[i].meant)),
                         rows[i].slips);
        assert_int_equal(str_slips(str_from(rows[i].meant), str_from(rows[i].typed)),
                         rows[i].slips);
    }
}

static void test_every_code_point(void **state) {
    (void)state;
    for (uint32_t cp = 0; cp <= 0x110000; cp++) {
        char out[4];
        uint32_t back;
        int n = utf8_encode(cp, out);
        bool scalar = cp <= 0x10FFFF && !(cp >= 0xD800 && cp <= 0xDFFF);
        int want = cp < 0x80 ? 1 : cp < 0x800 ? 2 : !scalar || cp < 0x10000 ? 3 : 4;
        if (n != want || utf8_decode(str_make(out, (size_t)n), 0, &back) != n ||
            back != (scalar ? cp : 0xFFFD))
            fail_msg("U+%04X", cp);
        for (int k = 1; k < n; k++) { /* every beginning of it is incomplete, and waits */
            str part = str_make(out, (size_t)k);
            if (utf8_decode(part, 0, &back) != 0 || back != 0xFFFD ||
                utf8_complete_prefix(part) != 0)
                fail_msg("U+%04X cut to %d bytes", cp, k);
        }
    }
    char out[4];
    assert_int_equal(utf8_encode(UINT32_MAX, out), 3);
    assert_memory_equal(out, "\xEF\xBF\xBD", 3);
}

/* The definition, spelled out independently: what one to four bytes may be (Unicode table 3-7). */
static int slow_decode(const unsigned char *p, size_t n) {
    if (n >= 1 && p[0] <= 0x7F) return 1;
    if (n >= 2 && p[0] >= 0xC2 && p[0] <= 0xDF && p[1] >> 6 == 2) return 2;
    if (n >= 3 && p[0] >> 4 == 0xE && p[1] >> 6 == 2 && p[2] >> 6 == 2) {
        uint32_t cp = (p[0] & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u);
        return cp >= 0x800 && !(cp >= 0xD800 && cp <= 0xDFFF) ? 3 : 0;
    }
    if (n >= 4 && p[0] >> 3 == 0x1E && p[1] >> 6 == 2 && p[2] >> 6 == 2 && p[3] >> 6 == 2) {
        uint32_t cp = (p[0] & 7u) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
        return cp >= 0x10000 && cp <= 0x10FFFF ? 4 : 0;
    }
    return 0;
}

static void test_ill_formed(void **state) {
    (void)state;
    static const str bad[] = {
        {"\x80", 1},
        {"\xBF", 1},
        {"\xC0\x80", 2},
        {"\xC1\xBF", 2},
        {"\xC2", 1},
        {"\xC2\x41", 2},
        {"\xE0\x80\x80", 3},
        {"\xE0\x9F\xBF", 3},
        {"\xE1\x80", 2},
        {"\xED\xA0\x80", 3},
        {"\xED\xBF\xBF", 3},
        {"\xEF\xBF", 2},
        {"\xF0\x80\x80\x80", 4},
        {"\xF0\x8F\xBF\xBF", 4},
        {"\xF4\x90\x80\x80", 4},
        {"\xF5\x80\x80\x80", 4},
        {"\xF8\x88\x80\x80", 4},
        {"\xFE", 1},
        {"\xFF", 1},
        {"\xF1\x80\x80", 3},
    };
    uint32_t cp;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(utf8_decode(bad[i], 0, &cp), 0);
        assert_int_equal(cp, 0xFFFD);
        assert_false(utf8_is_valid(bad[i]));
    }
    assert_int_equal(utf8_decode(STR("a"), 1, &cp), 0);
    assert_int_equal(utf8_decode((str){0}, 0, &cp), 0);
    assert_true(utf8_is_valid((str){0}));
    /* all pairs, and triples and quadruples over the interesting bytes */
    static const unsigned char edge[] = {0,    0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF,
                                         0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE,
                                         0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF};
    enum { N = sizeof edge };
    for (size_t i = 0; i < (size_t)N * N * N * N; i++) {
        unsigned char p[4] = {edge[i % N], edge[i / N % N], edge[i / N / N % N],
                              edge[i / N / N / N]};
        for (size_t n = 1; n <= 4; n++)
            if (utf8_decode(str_make((char *)p, n), 0, &cp) != slow_decode(p, n))
                fail_msg("%02X %02X %02X %02X, %zu bytes", p[0], p[1], p[2], p[3], n);
    }
}

/* Cut anywhere and fed piece by piece, the prefixes are the whole, and each is whole characters. */
static void test_complete_prefix(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 20000; seed++) {
        char text[24], out[40];
        size_t n = 0, n_out = 0, held = 0;
        bool valid = seed % 2;
        while (n < 16) {
            uint64_t r = rng_at(seed, n);
            if (valid)
                n += (size_t)utf8_encode((uint32_t)(r >> 8) & (r & 1 ? 0x7FF : 0x1FFFFF), text + n);
            else
                text[n++] = (char)(r & 3 ? 0x80 | (r >> 8 & 0x7F) : r >> 8 & 0x7F);
        }
        char pending[8];
        for (size_t i = 0; i < n; i++) {
            pending[held++] = text[i];
            size_t k = utf8_complete_prefix(str_make(pending, held));
            assert_true(k <= held && held - k <= 3);
            if (valid) assert_true(utf8_is_valid(str_make(pending, k)));
            memcpy(out + n_out, pending, k);
            n_out += k;
            held -= k;
            memmove(pending, pending + k, held);
        }
        memcpy(out + n_out, pending, held);
        assert_int_equal(n_out + held, n);
        assert_memory_equal(out, text, n);
        if (valid) assert_int_equal(held, 0);
    }
    assert_int_equal(utf8_complete_prefix(STR("a\xE2\x82")), 1);
    assert_int_equal(utf8_complete_prefix(STR("a\xE2\x41")), 3);
    assert_int_equal(utf8_complete_prefix(STR("\xED\xA0")), 2); /* a surrogate never becomes one */
    assert_int_equal(utf8_complete_prefix(STR("\x80\x80\x80\x80")), 4);
    assert_int_equal(utf8_complete_prefix((str){0}), 0);
}

static void test_count(void **state) {
    (void)state;
    assert_int_equal(utf8_count(STR("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80")), 4);
    assert_int_equal(utf8_count(STR("\xFF\xE2\x82")), 3);
    assert_int_equal(utf8_count((str){0}), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_slices),           cmocka_unit_test(test_slips),
        cmocka_unit_test(test_every_code_point), cmocka_unit_test(test_ill_formed),
        cmocka_unit_test(test_complete_prefix),  cmocka_unit_test(test_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
