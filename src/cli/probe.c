#include "cli/probe.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/os.h"

#ifndef ORIEL_COMMIT
#define ORIEL_COMMIT "unknown"
#endif

void probe_open(probe *p) {
    p->status_fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    p->stat_fd = open("/proc/stat", O_RDONLY | O_CLOEXEC);
}

void probe_close(probe *p) {
    if (p->status_fd >= 0) close(p->status_fd);
    if (p->stat_fd >= 0) close(p->stat_fd);
}

static bool read_start(int fd, char *out, size_t cap) {
    ssize_t n = fd < 0 ? -1 : pread(fd, out, cap - 1, 0);
    out[n > 0 ? n : 0] = 0;
    return n > 0;
}

/* "\nName:   123 kB" → bytes; 0 when the line is not there. */
static uint64_t kib_line(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

/* CPU time of all processes since the machine started, stolen time included. */
static int64_t machine_ns(const char *stat) {
    unsigned long long v[8] = {0}; /* user nice system idle iowait irq softirq steal */
    if (sscanf(stat, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0], &v[1], &v[2], &v[3],
               &v[4], &v[5], &v[6], &v[7]) < 4)
        return 0;
    long ticks = sysconf(_SC_CLK_TCK);
    return (int64_t)((double)(v[0] + v[1] + v[2] + v[5] + v[6] + v[7]) * 1e9 /
                     (double)(ticks > 0 ? ticks : 100));
}

void probe_read(const probe *p, probe_sample *out) {
    char text[4096];
    *out = (probe_sample){.at_ns = clock_ns(), .cpu_ns = clock_cpu_ns()};
    if (read_start(p->status_fd, text, sizeof text)) {
        out->rss_anon = kib_line(text, "\nRssAnon:");
        out->locked = kib_line(text, "\nVmLck:");
    }
    if (read_start(p->stat_fd, text, sizeof text)) out->machine_ns = machine_ns(text);
    out->foreign_ns = out->machine_ns - out->cpu_ns;
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) == 0) {
        out->n_minor = (uint64_t)u.ru_minflt;
        out->n_major = (uint64_t)u.ru_majflt;
    }
}

/* The value of the first "key : value" line. */
static void read_field(const char *path, const char *key, char *out, size_t cap) {
    FILE *f = fopen(path, "re");
    char line[256];
    while (f && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, key, strlen(key)) != 0) continue;
        do colon++;
        while (*colon == ' ' || *colon == '\t');
        colon[strcspn(colon, "\n")] = 0;
        snprintf(out, cap, "%s", colon);
        break;
    }
    if (f) fclose(f);
}

probe_machine probe_get_machine(void) {
    probe_machine m = {.n_cpus = os_n_cpus()};
    char total[64] = "";
    struct utsname u;
    if (uname(&u) == 0) snprintf(m.system, sizeof m.system, "%s %s", u.sysname, u.release);
    snprintf(m.cpu, sizeof m.cpu, "%s", uname(&u) == 0 ? u.machine : "unknown processor");
    read_field("/proc/cpuinfo", "model name", m.cpu, sizeof m.cpu);
    read_field("/proc/meminfo", "MemTotal", total, sizeof total);
    m.memory = strtoull(total, NULL, 10) * 1024;
    time_t now = (time_t)(clock_wall_ns() / 1000000000);
    struct tm t;
    if (gmtime_r(&now, &t)) strftime(m.date, sizeof m.date, "%Y-%m-%d %H:%M UTC", &t);
    return m;
}

const char *probe_get_commit(void) {
    return ORIEL_COMMIT;
}
