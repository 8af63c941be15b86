/* Who gets a place, counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "engine/share.h"

static shares *make(int n_parallel, int n_queue) {
    shares *s = calloc(1, sizeof *s);
    assert_non_null(s);
    share_init(s, n_parallel, n_queue, 42);
    return s;
}

/* Takes until it is refused; how often it was not. */
static int fill(shares *s, uint64_t client) {
    int n = 0;
    while (share_take(s, client) == SHARE_TAKEN) n++;
    assert_int_not_equal(share_ask(s, client), SHARE_TAKEN);
    return n;
}

static void nobody_gets_all_places(void **state) {
    (void)state;
    shares *s = make(8, 16);
    assert_int_equal(fill(s, 1), 18); /* three quarters of 24 */
    assert_int_equal(share_ask(s, 1), SHARE_OVER);
    assert_int_equal(share_ask(s, 2), SHARE_TAKEN);
    assert_int_equal(fill(s, 2), 6); /* what could run at once is not kept from it */
    assert_int_equal(share_ask(s, 3), SHARE_FULL);
    /* The first one's places go to whoever has fewer. */
    for (int i = 0; i < 6; i++) share_give_back(s, 1);
    assert_int_equal(share_ask(s, 1), SHARE_TAKEN);
    assert_int_equal(share_take(s, 2), SHARE_TAKEN);
    for (int i = 0; i < 12; i++) share_give_back(s, 1);
    for (int i = 0; i < 7; i++) share_give_back(s, 2);
    assert_int_equal(share_n_held(s, 1), 0);
    assert_int_equal(s->n_held, 0);
    free(s);
}

static void there_is_one_left_beside_many(void **state) {
    (void)state;
    shares *s = make(2, 498);
    /* Each comes when the others took what they could: three quarters of what is left, every time. */
    assert_int_equal(fill(s, 1), 375);
    assert_int_equal(fill(s, 2), 94);
    assert_int_equal(fill(s, 3), 24);
    assert_int_equal(share_ask(s, 4), SHARE_TAKEN);
    free(s);
    /* All at once, in turns: each the same. */
    s = make(2, 498);
    for (int more = 1; more;) {
        more = 0;
        for (uint64_t c = 1; c <= 20; c++) more += share_take(s, c) == SHARE_TAKEN;
    }
    for (uint64_t c = 1; c <= 20; c++) assert_in_range(share_n_held(s, c), 23, 25);
    assert_int_equal(share_ask(s, 99), SHARE_TAKEN);
    free(s);
}

static void who_is_nobody_may_have_all(void **state) {
    (void)state;
    shares *s = make(4, 3);
    assert_int_equal(fill(s, 0), 7);
    assert_int_equal(share_ask(s, 0), SHARE_FULL);
    free(s);
    s = make(4, 0); /* no queue: nothing is kept back of what could run */
    assert_int_equal(fill(s, 5), 4);
    free(s);
    s = make(1, 0);
    assert_int_equal(fill(s, 5), 1);
    free(s);
    s = make(4, 1);
    assert_int_equal(fill(s, 5), 4);
    assert_int_equal(fill(s, 6), 1);
    free(s);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nobody_gets_all_places),
        cmocka_unit_test(there_is_one_left_beside_many),
        cmocka_unit_test(who_is_nobody_may_have_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
