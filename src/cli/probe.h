/* What the system says about this process and this machine while something is
 * measured. Reading allocates nothing and opens nothing. Linux.
 */
#ifndef CLI_PROBE_H
#define CLI_PROBE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct probe {
    int status_fd, stat_fd; /* /proc/self/status, /proc/stat; −1 where there is none */
} probe;

typedef struct probe_sample {
    int64_t at_ns, cpu_ns;          /* clock_ns(); CPU time of this process */
    uint64_t rss_anon, locked;      /* bytes */
    uint64_t n_minor, n_major;      /* page faults so far */
    int64_t machine_ns, foreign_ns; /* CPU time of the whole machine; of others */
} probe_sample;

void probe_open(probe *p);
void probe_close(probe *p);
void probe_read(const probe *p, probe_sample *out);

/* Measurements name where they were taken. */
typedef struct probe_machine {
    char cpu[96], system[96];
    int n_cpus;
    uint64_t memory; /* bytes */
    char date[24];   /* 2026-01-31 12:00 UTC */
} probe_machine;
probe_machine probe_get_machine(void);
/* The commit this program was built from, with a + when it was not exactly that; "unknown" outside a
 * repository. */
const char *probe_get_commit(void);

#endif
