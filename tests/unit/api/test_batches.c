/* When a batch's line is tried again, and when it is given up. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "api/batches_impl.h"

static void a_server_that_cannot_is_asked_a_bounded_number_of_times(void **state) {
    (void)state;
    unsigned char line = 2 * ONE_PUT_BACK;
    int64_t wait_ms = 0, before = 0, all_ms = 0;
    int n = 0;
    for (; n < 1000 && batch_line_refused(&line, 503, false, &wait_ms); n++) {
        assert_true(wait_ms >= before && wait_ms <= 5000);
        before = wait_ms;
        all_ms += wait_ms;
    }
    assert_int_equal(n, BATCH_MAX_REFUSALS - 1);
    assert_true(all_ms > 10000); /* not given up while a moment's crowd passes */
    assert_int_equal(line & LINE_PUT_BACK, 2 * ONE_PUT_BACK);
    assert_int_equal(line & (LINE_DONE | LINE_ACTIVE), 0);
}

static void a_full_queue_or_conversation_is_waited_for(void **state) {
    (void)state;
    unsigned char queue = 0, conversation = 0;
    int64_t wait_ms = 0;
    for (int i = 0; i < 1000; i++) {
        assert_true(batch_line_refused(&queue, 429, false, &wait_ms));
        assert_true(wait_ms > 0 && wait_ms <= 100);
        assert_true(batch_line_refused(&conversation, 400, true, &wait_ms));
    }
}

static void any_other_answer_is_the_answer(void **state) {
    (void)state;
    static const int statuses[] = {200, 400, 401, 404, 413, 500, 501, 507};
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        unsigned char line = 0;
        int64_t wait_ms;
        assert_false(batch_line_refused(&line, statuses[i], false, &wait_ms));
        assert_int_equal(line, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_server_that_cannot_is_asked_a_bounded_number_of_times),
        cmocka_unit_test(a_full_queue_or_conversation_is_waited_for),
        cmocka_unit_test(any_other_answer_is_the_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
