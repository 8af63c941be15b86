/* Hashing and counter-based random numbers. Pure functions of their inputs, so
 * that a draw depends on (seed, counter) and never on who drew before.
 * Not cryptographic: keys and digests of files use libcrypto.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/str.h"

/* A bijection on 64 bits with full avalanche (Stafford's mix 13, as in SplitMix64). */
static inline uint64_t hash_mix(uint64_t x) {
    x += 0x9E3779B97F4A7C15ull;
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9ull;
    x = (x ^ x >> 27) * 0x94D049BB133111EBull;
    return x ^ x >> 31;
}
static inline uint64_t hash_combine(uint64_t a, uint64_t b) {
    return hash_mix(hash_mix(a) ^ b);
}
/* Any bytes; stable across runs and machines. */
static inline uint64_t hash_bytes(const void *bytes, size_t len, uint64_t seed) {
    const unsigned char *p = bytes;
    uint64_t h = hash_mix(seed ^ len);
    for (; len >= 8; len -= 8, p += 8) {
        uint64_t w;
        memcpy(&w, p, 8);
        h = hash_mix(h ^ w);
    }
    uint64_t w = 0;
    if (len) memcpy(&w, p, len);
    return hash_mix(h ^ w);
}
static inline uint64_t hash_str(str s) {
    return hash_bytes(s.ptr, s.len, 0);
}

/* The counter-th 64-bit draw of a seed. */
static inline uint64_t rng_at(uint64_t seed, uint64_t counter) {
    return hash_mix(hash_mix(seed) + 0xD1B54A32D192ED03ull * (counter + 1));
}
/* Uniform in [0, 1) with 53 bits. */
static inline double rng_uniform_at(uint64_t seed, uint64_t counter) {
    return (double)(rng_at(seed, counter) >> 11) * 0x1p-53;
}

#endif
