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
/* How the calling thread shares a core with others. `name` is shown by top -H (15 bytes at most).
 * nice: 0 … 19, at least what it is. slice_us: how long a turn it asks for, 100 … 100,000, 0 = the
 * kernel's; with a short one a thread that wakes up has its turn sooner, for no more of the core
 * (Linux ≥ 6.12; ignored before). What the system refuses is left as it is. */
void os_share_core(const char *name, int nice, int slice_us);
/* The kernel looks at the length of a turn only at its ticks, milliseconds apart. Long work on a thread that
 * asked for short turns calls this now and then: once its turn is over, whoever waits for the core has it.
 * On other threads nothing happens. */
void os_give_way(void);
/* Bytes that can still be used: the smallest of MemAvailable and what every cgroup this process is in
 * has left, up to the root (v1 and v2). */
uint64_t os_free_memory(void);
/* The same below another root, for tests: root/proc/meminfo, root/proc/self/cgroup, root/sys/fs/cgroup. */
uint64_t os_free_memory_at(const char *root);
/* Of this process, from /proc/self/status, in bytes; 0 where the kernel does not say. */
typedef struct os_memory {
    uint64_t rss, rss_anon, rss_file, rss_peak, locked;
} os_memory;
os_memory os_get_memory(void);
/* Gives freed heap back to the system, so that what is resident is what is used. */
void os_trim_heap(void);

enum { OS_PAGE = 4096 };
/* Page-aligned anonymous memory, zeroed; NULL when there is none. Pages come when they are first
 * written, and are small ones: huge pages were measured and are slower to compute from. */
void *os_map(size_t bytes);
void os_unmap(void *ptr, size_t bytes);
/* Takes every page of memory of one's own, from os_map or malloc, from the system now. */
void os_touch(void *ptr, size_t bytes);
/* Keeps pages in memory (read-only mappings too). False: errno says why. */
bool os_lock(const void *ptr, size_t bytes);
/* How much this process may lock; UINT64_MAX when nothing limits it. */
uint64_t os_lock_limit(void);

#endif
