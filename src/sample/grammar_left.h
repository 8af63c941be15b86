/* How far it is to the end: the bytes and special tokens of a shortest text that
 * completes what was said, for a matcher that has to be done in the room left.
 *
 * Exact for programs and automata. For JSON values it adds up what is still
 * required, piece by piece: escapes inside strings are counted as one byte, and a
 * number as the digits its bounds ask for, so it may be a few bytes off. Whoever
 * needs certainty leaves that much room (see matcher.c). Pure; nothing allocates
 * but grammar_left_settle.
 */
#ifndef SAMPLE_GRAMMAR_LEFT_H
#define SAMPLE_GRAMMAR_LEFT_H

#include "sample/grammar_step.h"

enum { LEFT_FAR = 1 << 28 }; /* that far or farther, or no way at all */

/* Fills in `least` of every node and value and what objects need for it. Once, when all else of the
 * grammar stands. False: no memory. */
bool grammar_left_settle(grammar *g);
/* The rest of a thread, its outer frames included. */
uint32_t stepper_left(const stepper *s, const frame *f);
/* What comes after f is done; with glide_left: what the glide still is itself. */
uint32_t stepper_left_after(const stepper *s, const frame *f);
uint32_t glide_left(const stepper *s, const glide *at);
/* Of an open string or key (glide_is_open): the most that stepper_left can be behind plain text in it. */
uint32_t stepper_left_inside(const stepper *s, const frame *f);
/* Plain text in the open string or key leaves the end as far as it is. */
bool glide_is_idle(const stepper *s, const glide *at);

#endif
