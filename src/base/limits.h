/* The ranges that the command line and the engine share: what the first lets in, the second takes. */
#ifndef BASE_LIMITS_H
#define BASE_LIMITS_H

#include <stdint.h>

enum {
    LIMIT_THREADS = 1024,
    LIMIT_PARALLEL = 256, /* sequences decoded at once */
    LIMIT_QUEUE = 65536,  /* requests that wait */
    LIMIT_CHUNK = 8192,   /* rows of a step's prefill */
};
#define LIMIT_ROWS   ((int64_t)1 << 40) /* tokens of a prompt, rows of a window */
#define LIMIT_PINNED (LIMIT_ROWS / 2)

#endif
