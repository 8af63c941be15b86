/* What this program does to the heap: counts allocations for the benchmarks, and
 * in debug builds stops on one where none may happen. Stands in front of malloc
 * and its kin (weakly: a program that brings its own malloc overrides it); under a
 * sanitizer it sits in that one's hook. Release builds pay one well-predicted
 * branch per allocation.
 */
#ifndef BASE_HEAP_H
#define BASE_HEAP_H

#include <stdbool.h>
#include <stdint.h>

/* Once, before the others, from any thread. False: somebody else's malloc is in front of ours and
 * nothing will be seen. */
bool heap_install(void);
/* Allocations by all threads of the process while switched on; reallocations count, frees do not. */
void heap_count(bool on);
uint64_t heap_n_allocs(void);
/* Debug builds: an allocation by the calling thread traps; the stack then names who it was. Release
 * builds: nothing. */
void heap_forbid(bool on);

#endif
