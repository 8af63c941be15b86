#include "base/os.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

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

int os_n_cpus(void) {
    cpu_set_t set;
    int n = 1;
    if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f) {
        unsigned long long quota, period;
        if (fscanf(f, "%llu %llu", &quota, &period) == 2 && period) {
            int limit = (int)((quota + period - 1) / period);
            if (limit >= 1 && limit < n) n = limit;
        }
        fclose(f);
    }
    return n < 1 ? 1 : n;
}

/* "Key:   123 kB" lines as bytes. */
static uint64_t proc_field(const char *path, const char *key) {
    FILE *f = fopen(path, "re");
    if (!f) return 0;
    char line[256];
    uint64_t kb = 0;
    size_t n = strlen(key);
    while (fgets(line, sizeof line, f))
        if (strncmp(line, key, n) == 0 && line[n] == ':') {
            kb = strtoull(line + n + 1, NULL, 10);
            break;
        }
    fclose(f);
    return kb * 1024;
}

uint64_t os_free_memory(void) {
    uint64_t bytes = proc_field("/proc/meminfo", "MemAvailable");
    static const char *const limits[][2] = {
        {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
        {"/sys/fs/cgroup/memory/memory.limit_in_bytes",
         "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
    };
    for (size_t i = 0; i < 2; i++) {
        uint64_t max, now;
        if (read_u64(limits[i][0], &max) && read_u64(limits[i][1], &now)) {
            uint64_t left = max > now ? max - now : 0;
            if (left < bytes) bytes = left;
        }
    }
    return bytes;
}

os_memory os_get_memory(void) {
    return (os_memory){
        .rss = proc_field("/proc/self/status", "VmRSS"),
        .rss_anon = proc_field("/proc/self/status", "RssAnon"),
        .rss_peak = proc_field("/proc/self/status", "VmHWM"),
        .locked = proc_field("/proc/self/status", "VmLck"),
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
