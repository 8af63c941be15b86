/* Fails the 1st, 2nd, 3rd … allocation of a call until it succeeds, and counts
 * what the call leaves behind. The test program's own malloc family stands in
 * front of the C library's, so code under test and every library it calls are
 * covered without a rebuild. Sanitizers bring their own malloc: there
 * torture_run says so and the test skips.
 */
#ifndef TESTS_TORTURE_H
#define TESTS_TORTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Does the whole thing once and frees all of it, whether it worked or not; false when it failed. */
typedef bool torture_fn(void *ctx);

enum { TORTURE_UNAVAILABLE = -1, TORTURE_LEAK = -2, TORTURE_NEVER_WORKS = -3 };

/* Runs fn unharmed once (it has to succeed; lazily made caches are made here), then with only the
 * n-th allocation failing, then with all from the n-th on failing, n = 1, 2, … until none is
 * left to fail. Returns the number of failures injected, or one of the above. */
int torture_run(torture_fn *fn, void *ctx);

/* The parts, for tests with a rhythm of their own. Counted over all threads. */
void torture_arm(int64_t nth, bool and_all_after); /* 1 = the next allocation */
bool torture_disarm(void);                         /* true if one was made to fail */
int64_t torture_live_blocks(void);                 /* allocated and not freed yet */
bool torture_is_available(void);

#endif
