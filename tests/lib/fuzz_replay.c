/* Replays a fuzz target's committed corpus in the ordinary test run: the same
 * entry point that libFuzzer drives under `make fuzz`. Prints TAP. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

#include <fcntl.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int main(int argc, char **argv) {
    const char *name = strrchr(argv[0], '/');
    name = name ? name + 1 : argv[0];
    char dir[4096];
    snprintf(dir, sizeof dir, "%s/%s", argc > 1 ? argv[1] : "tests/fuzz/corpus",
             strncmp(name, "fuzz_", 5) == 0 ? name + 5 : name);
    DIR *d = opendir(dir);
    int n = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[4400];
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        int fd = open(path, O_RDONLY);
        buf b = {0};
        if (fd < 0 || !buf_read_fd(&b, fd)) {
            printf("not ok 1 - %s: %s cannot be read\n", name, path);
            return 1;
        }
        close(fd);
        /* A fresh exact-size copy, so that the sanitizer sees one byte too far. */
        uint8_t *copy = malloc(b.len ? b.len : 1);
        if (!copy) return 1;
        if (b.len) memcpy(copy, b.ptr, b.len);
        LLVMFuzzerTestOneInput(copy, b.len);
        free(copy);
        buf_deinit(&b);
        n++;
    }
    if (d) closedir(d);
    if (n == 0)
        printf("not ok 1 - %s: no corpus in %s\n", name, dir);
    else
        printf("ok 1 - %s: %d inputs replayed\n", name, n);
    return n == 0;
}
