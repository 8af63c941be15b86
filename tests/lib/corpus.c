#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "corpus.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *corpus_dir(void) {
    const char *dir = getenv("ORIEL_CORPUS");
    return dir && *dir ? dir : NULL;
}

static buf read_named(const char *name) {
    char path[1600];
    snprintf(path, sizeof path, "%s/%s", corpus_dir() ? corpus_dir() : "", name);
    buf b = {0};
    int fd = open(path, O_RDONLY);
    if (fd < 0 || !buf_read_fd(&b, fd)) fail_msg("%s cannot be read", path);
    close(fd);
    return b;
}

buf corpus_read(const char *fmt, ...) {
    char name[500];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    return read_named(name);
}

json_t *corpus_json(const char *fmt, ...) {
    char name[500];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    buf b = read_named(name);
    error err = {0};
    json_t *v = json_parse(buf_str(&b), &err);
    if (!v) fail_msg("%s: %s", name, err.message);
    buf_deinit(&b);
    return v;
}
