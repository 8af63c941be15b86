/* Gives llama.cpp's threads a core each, as llama-bench's own --cpu-strict does.
 *
 * node-llama-cpp cannot attach a thread pool, so llama.cpp makes its threads anew for every graph,
 * and while they spin at a barrier the kernel often leaves two of them on one core until its next
 * tick: a token then takes 24, 28 … 40 ms instead of 9. That is no speed worth beating. `run`
 * preloads this into the llama.cpp half: a thread that creates llama.cpp's threads moves to the
 * first core it may use, the threads it creates go to the next ones in turn.
 */
#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

typedef int create_fn(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

/* The n-th core, counted round, of those the process started with. */
static cpu_set_t nth_core(int n) {
    static cpu_set_t allowed;
    static int known;
    if (!known) known = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? 1 : -1;
    cpu_set_t one;
    CPU_ZERO(&one);
    int left = n % (CPU_COUNT(&allowed) > 0 ? CPU_COUNT(&allowed) : 1);
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &allowed) && left-- == 0) CPU_SET(c, &one);
    return one;
}

int pthread_create(pthread_t *t, const pthread_attr_t *attr, void *(*start)(void *), void *arg) {
    create_fn *create = (create_fn *)dlsym(RTLD_NEXT, "pthread_create");
    Dl_info from;
    const char *threads = getenv("ORIEL_PIN_THREADS");
    if (attr || !threads || !dladdr(__builtin_return_address(0), &from) || !from.dli_fname ||
        !strstr(from.dli_fname, "libggml"))
        return create(t, attr, start, arg);
    static _Thread_local int pinned;
    static _Thread_local unsigned n_made;
    if (!pinned++) {
        cpu_set_t first = nth_core(0);
        sched_setaffinity(0, sizeof first, &first);
    }
    unsigned others = atoi(threads) > 1 ? (unsigned)atoi(threads) - 1 : 1;
    cpu_set_t core = nth_core(1 + (int)(n_made++ % others));
    pthread_attr_t mine;
    pthread_attr_init(&mine);
    pthread_attr_setaffinity_np(&mine, sizeof core, &core);
    int result = create(t, &mine, start, arg);
    pthread_attr_destroy(&mine);
    return result;
}
