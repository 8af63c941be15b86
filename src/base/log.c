#include "base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static atomic_int max_level = LOG_WARN;

void log_set_level(log_level level) {
    atomic_store(&max_level, (int)level);
}

void log_line(log_level level, const char *room, const char *fmt, ...) {
    if ((int)level > atomic_load_explicit(&max_level, memory_order_relaxed)) return;
    static const char *const names[] = {"error", "warn", "info", "debug"};
    char line[1024];
    struct tm tm;
    time_t now = time(NULL);
    gmtime_r(&now, &tm);
    int n = (int)strftime(line, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
    n += snprintf(line + n, sizeof line - (size_t)n, " %s %s: ", names[level], room);
    va_list ap;
    va_start(ap, fmt);
    int k = vsnprintf(line + n, sizeof line - (size_t)n - 1, fmt, ap);
    va_end(ap);
    int end = k < 0 ? n : n + k;
    if (end > (int)sizeof line - 2) end = (int)sizeof line - 2;
    for (int i = 0; i < end; i++)
        if ((unsigned char)line[i] < 0x20) line[i] = ' ';
    line[end++] = '\n';
    /* One write per line, so that lines of several threads do not mix. */
    if (write(STDERR_FILENO, line, (size_t)end) < 0) return;
}
