/* Stop strings in pieces against a whole-string twin. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/hash.h"
#include "chat/stop.h"

/* The twin: for every end, the longest string that ends there; what is before it is shown. */
static int find_whole(str text, const str *strings, size_t n, size_t *shown) {
    for (size_t end = 1; end <= text.len; end++) {
        int best = -1;
        for (size_t i = 0; i < n; i++)
            if (strings[i].len && strings[i].len <= end &&
                str_ends(str_make(text.ptr, end), strings[i]) &&
                (best < 0 || strings[i].len > strings[best].len))
                best = (int)i;
        if (best < 0) continue;
        *shown = end - strings[best].len;
        return best;
    }
    *shown = text.len;
    return -1;
}

/* Longest end of the text that begins a stop string: what may be held back, and not a byte more. */
static size_t find_hold(str text, const str *strings, size_t n) {
    size_t hold = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = strings[i].len; k-- > 1;)
            if (k <= text.len && str_ends(text, str_make(strings[i].ptr, k)) && k > hold) hold = k;
    return hold;
}

static void random_string(uint64_t seed, uint64_t *at, size_t max, char *out, size_t *len) {
    *len = rng_at(seed, (*at)++) % (max + 1);
    for (size_t i = 0; i < *len; i++) out[i] = (char)('a' + rng_at(seed, (*at)++) % 2);
}

static void test_twin(void **state) {
    (void)state;
    int n_hits = 0;
    for (uint64_t seed = 0; seed < 30000; seed++) {
        uint64_t at = 0;
        char bytes[4][6], text_bytes[40];
        str strings[4], text = {text_bytes, 0};
        size_t n = rng_at(seed, at++) % 5;
        for (size_t i = 0; i < n; i++) {
            random_string(seed, &at, 6, bytes[i], &strings[i].len);
            strings[i].ptr = bytes[i];
        }
        random_string(seed, &at, 40, text_bytes, &text.len);
        size_t shown, fed = 0;
        int want = find_whole(text, strings, n, &shown);
        stop s;
        buf out = {0};
        assert_true(stop_init(&s, strings, n));
        bool hit = false;
        while (fed < text.len && !hit) {
            size_t piece = 1 + rng_at(seed, at++) % 7;
            if (piece > text.len - fed) piece = text.len - fed;
            hit = stop_push(&s, str_make(text.ptr + fed, piece), &out);
            fed += piece;
            if (!hit)
                assert_int_equal(out.len, fed - find_hold(str_make(text.ptr, fed), strings, n));
        }
        assert_true(hit == (want >= 0));
        if (hit) assert_true(str_eq(strings[s.hit], strings[want]));
        stop_flush(&s, &out);
        assert_true(str_eq(buf_str(&out), str_make(text.ptr, shown)));
        n_hits += hit;
        stop_deinit(&s);
        buf_deinit(&out);
    }
    assert_true(n_hits > 5000 && n_hits < 29000);
}

static void test_nothing_after(void **state) {
    (void)state;
    stop s;
    buf out = {0};
    assert_true(stop_init(&s, &STR("\n\n"), 1));
    assert_false(stop_push(&s, STR("one\n"), &out));
    assert_string_equal(out.ptr, "one");
    assert_true(stop_holds(&s));
    assert_true(stop_push(&s, STR("\ntwo"), &out));
    assert_true(stop_push(&s, STR("three"), &out));
    stop_flush(&s, &out);
    assert_string_equal(out.ptr, "one");
    stop_deinit(&s);
    buf_deinit(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_twin),
                                       cmocka_unit_test(test_nothing_after)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
