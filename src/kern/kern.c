/* The ladder: which rung runs, and the questions a caller asks before it lays out memory.
 *
 * ORIEL_CPU=scalar|avx2|avx512|neon caps the ladder: the best rung up to and including the named one.
 * A name that is none of these counts as not set.
 */
#include "kern/kern.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "base/hash.h"
#include "kern/pack.h"

enum { NUMERICS_VERSION = 1 }; /* raise it when any kernel's results change */

#if defined(__x86_64__)
static bool has_f16c(void) {
    unsigned a, b, c = 0, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
#endif

const kern *kern_get_rung(kern_rung rung) {
    switch (rung) {
    case KERN_SCALAR: return &kern_scalar;
#if defined(__x86_64__)
    case KERN_AVX2:
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c()
                   ? &kern_avx2
                   : NULL;
#if !defined(ORIEL_NO_AVX512)
    case KERN_AVX512:
        __builtin_cpu_init();
        return kern_get_rung(KERN_AVX2) && __builtin_cpu_supports("avx512f") &&
                       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")
                   ? &kern_avx512
                   : NULL;
#endif
#elif defined(__aarch64__)
    case KERN_NEON: return &kern_neon;
#endif
    default: return NULL;
    }
}

static const kern *chosen;

static void choose(void) {
    static const char *const names[KERN_N_RUNGS] = {"scalar", "avx2", "avx512", "neon"};
    const char *cap = getenv("ORIEL_CPU");
    int top = KERN_N_RUNGS - 1;
    for (int r = 0; cap && r < KERN_N_RUNGS; r++)
        if (strcmp(cap, names[r]) == 0) top = r;
    for (int r = KERN_SCALAR; r <= top; r++) {
        const kern *k = kern_get_rung((kern_rung)r);
        if (k) chosen = k;
    }
}

const kern *kern_get(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, choose);
    return chosen;
}

kern_act_type kern_act_for(dtype type) {
    switch (type) {
#define CASE(T) \
    case DTYPE_##T: return KERN_ACT_Q8;
        PACK_QUANTISED(CASE)
#undef CASE
    default: return KERN_ACT_F32;
    }
}

size_t kern_act_bytes(kern_act_type type, int64_t n_in) {
    size_t n = (size_t)n_in;
    size_t bytes = type == KERN_ACT_Q8 ? (n + 31) / 32 * sizeof(act_q8) : n * sizeof(float);
    return (bytes + 63) / 64 * 64;
}

uint64_t kern_numerics_id(const kern *k) {
    uint32_t facts[2] = {(uint32_t)k->rung, NUMERICS_VERSION};
    return hash_bytes(facts, sizeof facts, 0);
}
