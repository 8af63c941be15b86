/* The hand-written scanners against the regex engine on the very patterns they
 * stand for (slow twin), and what a pattern may ask of the splitter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/hash.h"
#include "tok/tok_impl.h"

#include <stdlib.h>
#include <utf8proc.h>

#define ANY_CASE "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL     "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER    "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define PREFIX   "[^\\r\\n\\p{L}\\p{N}]?"

static const char *const patterns[] = {
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
    ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" TAIL,
    ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" TAIL,
    ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}" TAIL,
    PREFIX UPPER "*" LOWER "+" ANY_CASE "?|" PREFIX UPPER "+" LOWER "*" ANY_CASE
                 "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
    "[\\r\\n]",
    "\\p{N}",
    "\\p{N}+",
    "\\p{N}{1,3}",
    "[0-9][0-9][0-9]",
    "\\s+$",
};

/* Characters that make the patterns choose: cases, marks, all kinds of spaces, quotes, digits. */
static const uint32_t interesting[] = {
    ' ',    ' ',    ' ',     '\n',    '\r',   '\t',   '\v',     '\f',   0x1C,   0x85,   0xA0,
    0x1680, 0x180E, 0x2003,  0x2028,  0x3000, 0xFEFF, '\'',     '\'',   '\'',   's',    'S',
    't',    'm',    'D',     'r',     'e',    'E',    'v',      'l',    'L',    0x17F,  0x212A,
    'a',    'A',    'b',     'Z',     '0',    '1',    '9',      0xB2,   0x2167, 0x663,  0x1D7D8,
    '/',    '/',    '.',     '!',     '_',    '-',    '(',      '$',    '+',    0x20AC, 0x4E2D,
    0x65E5, 0xAC00, 0x1C5,   0x2B0,   0x301,  0x316,  0x20DD,   0x903,  0xE9,   0xDF,   0x391,
    0x430,  0x5D0,  0x1F600, 0x1F3FD, 0x200D, 0xFE0F, 0x10FFFF, 0xE000, 0x7F,   0,      0x378};

static size_t random_text(uint64_t seed, char *out, size_t n_chars) {
    size_t len = 0;
    for (size_t i = 0; i < n_chars; i++) {
        uint64_t r = rng_at(seed, i);
        uint32_t cp = interesting[(r >> 8) % (sizeof interesting / sizeof *interesting)];
        if (r % 16 == 0) cp = (uint32_t)(r >> 20) % 0x3000;
        if (cp == 0xCF3 || cp == 0xECE)
            cp = 'x'; /* of Unicode 15, which PCRE2 10.42 does not know */
        len += (size_t)utf8_encode(cp, out + len);
    }
    return len;
}

static void scanners_do_what_their_pattern_says(void **state) {
    (void)state;
    size_t n_pieces = 0;
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        error err = {0};
        split_scan scan = split_find_scanner(str_from(patterns[p]));
        assert_non_null(scan);
        regex *re = regex_compile(str_from(patterns[p]), &err);
        if (!re) fail_msg("%s", err.message);
        regex_scratch match = {0};
        for (uint64_t seed = 0; seed < 20000; seed++) {
            char bytes[64 * 4];
            size_t len = random_text(seed * 31 + p, bytes, 1 + seed % 40);
            str text = str_make(bytes, len);
            size_t at = 0, b1, e1, b2, e2;
            for (;;) {
                bool one = scan(text, at, &b1, &e1),
                     two = regex_find(re, &match, text, at, &b2, &e2);
                if (one != two || (one && (b1 != b2 || e1 != e2)))
                    fail_msg(
                        "pattern %zu, seed %llu, at %zu of \"%.*s\": scanner %zu-%zu, regex %zu-%zu",
                        p, (unsigned long long)seed, at, STR_ARG(text), one ? b1 : 0, one ? e1 : 0,
                        two ? b2 : 0, two ? e2 : 0);
                if (!one) break;
                assert_true(e1 > b1);
                at = e1;
                n_pieces++;
            }
        }
        regex_scratch_deinit(&match);
        regex_free(re);
    }
    assert_true(n_pieces > 1000000);
}

/* Ill-formed bytes are characters of no class, and no scanner looks past the end. */
static void scanners_take_any_bytes(void **state) {
    (void)state;
    for (size_t p = 0; p < sizeof patterns / sizeof *patterns; p++) {
        split_scan scan = split_find_scanner(str_from(patterns[p]));
        for (uint64_t seed = 0; seed < 5000; seed++) {
            size_t len = 1 + rng_at(seed, 99) % 24;
            char *bytes = malloc(len); /* exact, so that a sanitizer sees one byte too far */
            for (size_t i = 0; i < len; i++) {
                uint64_t r = rng_at(seed, i);
                bytes[i] = (char)(r % 3 ? r >> 8 : (uint64_t) "' \n1aA\xCC\x81"[(r >> 8) % 8]);
            }
            size_t at = 0, begin, end;
            while (scan(str_make(bytes, len), at, &begin, &end)) {
                assert_true(begin >= at && end > begin && end <= len);
                at = end;
            }
            free(bytes);
        }
    }
}

static void white_space_is_unicodes(void **state) {
    (void)state;
    error err = {0};
    regex *space = regex_compile(STR("^\\s$"), &err), *other = regex_compile(STR("^[^\\s]$"), &err),
          *third = regex_compile(STR("^\\S$"), &err);
    regex_scratch match = {0};
    size_t b, e;
    for (uint32_t cp = 0; cp < 0x11000; cp++) {
        if (cp >= 0xD800 && cp < 0xE000) continue;
        char out[4];
        str s = str_make(out, (size_t)utf8_encode(cp, out));
        bool is = char_class(cp) & C_SPACE;
        assert_int_equal(regex_find(space, &match, s, 0, &b, &e), is);
        assert_int_equal(regex_find(other, &match, s, 0, &b, &e), !is);
        assert_int_equal(regex_find(third, &match, s, 0, &b, &e), !is);
    }
    assert_true(char_class(0x3000) & C_SPACE);
    assert_false(char_class(0x180E) & C_SPACE);
    regex_scratch_deinit(&match);
    regex_free(space);
    regex_free(other);
    regex_free(third);
}

static void bad_patterns_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"(", "[a", "a{2,1}", "\\p{Nonsense}", "(?P<x", "*"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error err = {0};
        assert_null(regex_compile(str_from(bad[i]), &err));
        assert_int_equal(err.code, ERR_BAD_FILE);
        assert_true(strlen(err.message) > 10);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scanners_do_what_their_pattern_says),
        cmocka_unit_test(scanners_take_any_bytes),
        cmocka_unit_test(white_space_is_unicodes),
        cmocka_unit_test(bad_patterns_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
