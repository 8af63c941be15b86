/* Debug builds stop on an allocation by the engine thread inside a step. */
#ifndef ENGINE_GUARD_H
#define ENGINE_GUARD_H

#include "base/heap.h"

static inline void guard_install(void) {
    heap_install();
}
/* Of the calling thread. */
static inline void guard_enter(void) {
    heap_forbid(true);
}
static inline void guard_leave(void) {
    heap_forbid(false);
}

#endif
