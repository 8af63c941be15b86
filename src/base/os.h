/* What we ask the operating system: random bytes, memory, cores. Linux. */
#ifndef BASE_OS_H
#define BASE_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Kernel entropy (getrandom). Aborts only if the kernel has none, which Linux ≥ 3.17 rules out. */
void os_random(void *out, size_t len);
/* Cores this process may run on (affinity mask and cgroup quota respected), at least 1. */
int os_n_cpus(void);
/* Bytes that can still be used: the smaller of MemAvailable and the cgroup's headroom (v1 and v2). */
uint64_t os_free_memory(void);
/* Of this process, from /proc/self/status, in bytes; 0 where the kernel does not say. */
typedef struct os_memory {
    uint64_t rss, rss_anon, rss_peak, locked;
} os_memory;
os_memory os_get_memory(void);
/* Page-aligned anonymous memory, zeroed, never NULL-terminated; NULL when there is none. */
void *os_map(size_t bytes);
void os_unmap(void *ptr, size_t bytes);

#endif
