/* Debug builds stop on an allocation by the engine thread inside a step. Under a
 * sanitizer through its malloc hook, else by standing in front of malloc (which a
 * program that brings its own malloc overrides). Release builds: nothing.
 */
#ifndef ENGINE_GUARD_H
#define ENGINE_GUARD_H

#ifdef ORIEL_DEBUG
void guard_install(void);
/* Of the calling thread. */
void guard_enter(void);
void guard_leave(void);
#else
static inline void guard_install(void) {}
static inline void guard_enter(void) {}
static inline void guard_leave(void) {}
#endif

#endif
