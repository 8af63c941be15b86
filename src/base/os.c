#include "base/os.h"

#include <errno.h>
#include <inttypes.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"

void os_random(void *out, size_t len) {
    unsigned char *p = out;
    while (len) {
        ssize_t n = getrandom(p, len, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) abort();
        p += n;
        len -= (size_t)n;
    }
}

/* First whitespace-separated word of a small file; false if it cannot be read. */
static bool read_word(const char *path, char *out, size_t cap) {
    FILE *f = fopen(path, "re");
    if (!f) return false;
    char fmt[16];
    snprintf(fmt, sizeof fmt, "%%%zus", cap - 1);
    bool ok = fscanf(f, fmt, out) == 1;
    fclose(f);
    return ok;
}

static bool read_u64(const char *path, uint64_t *out) {
    char word[32], *end;
    if (!read_word(path, word, sizeof word)) return false;
    errno = 0;
    *out = strtoull(word, &end, 10);
    return end != word && *end == 0 && errno == 0;
}

/* The CPUs a cgroup's quota amounts to, rounded up; 0 when it sets none. */
static uint64_t cpu_quota(void) {
    uint64_t quota = 0, period = 0;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re"); /* v2: "max 100000" or "150000 100000" */
    if (f) {
        if (fscanf(f, "%" SCNu64 " %" SCNu64, &quota, &period) != 2) quota = period = 0;
        fclose(f);
    } else if (!read_u64("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", &quota) ||
               !read_u64("/sys/fs/cgroup/cpu/cpu.cfs_period_us", &period) || quota > INT64_MAX)
        return 0; /* v1 says -1 for no limit, which strtoull makes huge */
    return period ? quota / period + (quota % period != 0) : 0;
}

int os_n_cpus(void) {
    cpu_set_t set;
    long n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                         : sysconf(_SC_NPROCESSORS_ONLN);
    uint64_t limit = cpu_quota();
    if (limit && n > 0 && limit < (uint64_t)n) n = (long)limit;
    return n < 1 ? 1 : (int)n;
}

/* The number on the line "Key:   123 kB" (/proc) or "key 123" (cgroup); 0 when there is none. */
static uint64_t line_field(const char *path, const char *key) {
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    char line[256];
    uint64_t value = 0;
    size_t n = strlen(key);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && (line[n] == ':' || line[n] == ' ')) {
            value = strtoull(line + n + 1, NULL, 10);
            break;
        }
    fclose(f);
    return value;
}

/* What one cgroup's directory leaves of `bytes`. */
typedef struct group_files {
    const char *max, *now, *active, *inactive;
} group_files;
static const group_files group_v1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                     "total_active_file", "total_inactive_file"};
static const group_files group_v2 = {"memory.max", "memory.current", "active_file",
                                     "inactive_file"};

static uint64_t group_left(const char *dir, const group_files *g, uint64_t bytes) {
    char path[4096 + 64];
    uint64_t max, now;
    snprintf(path, sizeof path, "%s/%s", dir, g->max);
    if (!read_u64(path, &max)) return bytes; /* also v2's "max" */
    snprintf(path, sizeof path, "%s/%s", dir, g->now);
    if (!read_u64(path, &now)) return bytes;
    /* Page cache is charged to the group but given back on demand: a model file that was read
     * once must not count as memory in use. */
    snprintf(path, sizeof path, "%s/memory.stat", dir);
    uint64_t cache = line_field(path, g->active) + line_field(path, g->inactive);
    now -= cache < now ? cache : now;
    uint64_t left = max > now ? max - now : 0;
    return left < bytes ? left : bytes;
}

/* Every group from `path` up to the mount's root: each of them limits. In a container the mount often
 * shows our own group as its root, whatever `path` says: then the longer ones are not there. */
static uint64_t groups_left(const char *mount, const char *path, const group_files *g,
                            uint64_t bytes) {
    char dir[4096];
    int n = snprintf(dir, sizeof dir, "%s%s", mount, path);
    if (n < 0 || (size_t)n >= sizeof dir) return bytes;
    for (size_t root = strlen(mount);;) {
        bytes = group_left(dir, g, bytes);
        char *slash = strrchr(dir + root, '/');
        if (!slash) return bytes;
        *slash = 0;
    }
}

uint64_t os_free_memory_at(const char *root) {
    char path[1024], line[4096];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    uint64_t bytes = line_field(path, "MemAvailable") * 1024;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *f = fopen(path, "re");
    if (!f) return bytes;
    while (fgets(line, sizeof line, f)) { /* "4:memory:/a/b", of v2 "0::/a/b" */
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'), *group = controllers;
        if (controllers) group = strchr(++controllers, ':');
        if (!group) continue;
        *group++ = 0;
        if (*controllers == 0) {
            snprintf(path, sizeof path, "%s/sys/fs/cgroup", root);
            bytes = groups_left(path, group, &group_v2, bytes);
        } else if (strcmp(controllers, "memory") == 0) {
            snprintf(path, sizeof path, "%s/sys/fs/cgroup/memory", root);
            bytes = groups_left(path, group, &group_v1, bytes);
        }
    }
    fclose(f);
    return bytes;
}

uint64_t os_free_memory(void) {
    return os_free_memory_at("");
}

os_memory os_get_memory(void) {
    static const char path[] = "/proc/self/status";
    return (os_memory){
        .rss = line_field(path, "VmRSS") * 1024,
        .rss_anon = line_field(path, "RssAnon") * 1024,
        .rss_file = line_field(path, "RssFile") * 1024,
        .rss_peak = line_field(path, "VmHWM") * 1024,
        .locked = line_field(path, "VmLck") * 1024,
    };
}

static _Thread_local int64_t turn_ns, turn_began;

void os_give_way(void) {
    if (!turn_ns || clock_ns() - turn_began < turn_ns) return;
    sched_yield();
    turn_began = clock_ns();
}

void os_share_core(const char *name, int nice, int slice_us) {
    turn_ns = (int64_t)slice_us * 1000;
    /* The kernel's sched_attr, its first version; for the ordinary policy `runtime` is the slice. */
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {.size = sizeof attr};
    prctl(PR_SET_NAME, name, 0, 0, 0);
    if (syscall(SYS_sched_getattr, 0, &attr, sizeof attr, 0) != 0 || attr.policy != SCHED_OTHER)
        return; /* whoever chose another policy has reasons */
    if (nice > attr.nice) attr.nice = nice;
    if (slice_us) attr.runtime = (uint64_t)slice_us * 1000;
    attr.flags = 0;
    attr.size = sizeof attr;
    syscall(SYS_sched_setattr, 0, &attr, 0);
}

void os_trim_heap(void) {
    malloc_trim(0);
}

void *os_map(size_t bytes) {
    void *p =
        mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return NULL;
    madvise(p, bytes, MADV_NOHUGEPAGE);
    return p;
}

void os_unmap(void *ptr, size_t bytes) {
    if (ptr) munmap(ptr, bytes ? bytes : 1);
}

void os_touch(void *ptr, size_t bytes) {
    if (!ptr || !bytes) return;
    uintptr_t begin = (uintptr_t)ptr & ~(uintptr_t)(OS_PAGE - 1), end = (uintptr_t)ptr + bytes;
    if (madvise((void *)begin, end - begin, MADV_POPULATE_WRITE) == 0) return;
    for (uintptr_t at = (uintptr_t)ptr; at < end; at = (at & ~(uintptr_t)(OS_PAGE - 1)) + OS_PAGE) {
        volatile char *p = (volatile char *)at; /* kernels before 5.14 */
        *p = *p;
    }
}

bool os_lock(const void *ptr, size_t bytes) {
    return !ptr || !bytes || mlock(ptr, bytes) == 0;
}

uint64_t os_lock_limit(void) {
    struct rlimit limit;
    char line[64];
    enum { CAP_IPC_LOCK = 14 };
    FILE *f = fopen("/proc/self/status", "re");
    bool may = false;
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "CapEff:", 7) == 0)
            may = strtoull(line + 7, NULL, 16) >> CAP_IPC_LOCK & 1;
    if (f) fclose(f);
    if (may || getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return limit.rlim_cur;
}
