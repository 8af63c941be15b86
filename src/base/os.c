#include "base/os.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

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

uint64_t os_free_memory(void) {
    uint64_t bytes = line_field("/proc/meminfo", "MemAvailable") * 1024;
    static const struct {
        const char *max, *now, *stat, *active, *inactive;
    } groups[] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat",
         "active_file", "inactive_file"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
         "/sys/fs/cgroup/memory/memory.usage_in_bytes", "/sys/fs/cgroup/memory/memory.stat",
         "total_active_file", "total_inactive_file"},
    };
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        uint64_t max, now;
        if (!read_u64(groups[i].max, &max) || !read_u64(groups[i].now, &now)) continue;
        /* Page cache is charged to the group but given back on demand: a model file that was read
         * once must not count as memory in use. */
        uint64_t cache = line_field(groups[i].stat, groups[i].active) +
                         line_field(groups[i].stat, groups[i].inactive);
        now -= cache < now ? cache : now;
        uint64_t left = max > now ? max - now : 0;
        if (left < bytes) bytes = left;
    }
    return bytes;
}

os_memory os_get_memory(void) {
    static const char path[] = "/proc/self/status";
    return (os_memory){
        .rss = line_field(path, "VmRSS") * 1024,
        .rss_anon = line_field(path, "RssAnon") * 1024,
        .rss_peak = line_field(path, "VmHWM") * 1024,
        .locked = line_field(path, "VmLck") * 1024,
    };
}

void *os_map(size_t bytes) {
    void *p =
        mmap(NULL, bytes ? bytes : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void os_unmap(void *ptr, size_t bytes) {
    if (ptr) munmap(ptr, bytes ? bytes : 1);
}
