/* Names of blocks: a 128-bit keyed hash over the parent's name and the block's
 * ids, so that a name stands for all ids since position 0. Keyed with a secret,
 * because ids come from strangers and a name that someone can forge would show
 * them another's rows. SipHash-2-4 with 128 bits of output (Aumasson & Bernstein,
 * 2012). Pure.
 */
#ifndef KV_CHAIN_H
#define KV_CHAIN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct kv_name {
    uint64_t a, b;
} kv_name;

static inline bool kv_name_equal(kv_name x, kv_name y) {
    return x.a == y.a && x.b == y.b;
}

static inline uint64_t chain_rotate(uint64_t x, int n) {
    return x << n | x >> (64 - n);
}
static inline void chain_round(uint64_t v[4]) {
    v[0] += v[1], v[1] = chain_rotate(v[1], 13) ^ v[0], v[0] = chain_rotate(v[0], 32);
    v[2] += v[3], v[3] = chain_rotate(v[3], 16) ^ v[2];
    v[0] += v[3], v[3] = chain_rotate(v[3], 21) ^ v[0];
    v[2] += v[1], v[1] = chain_rotate(v[1], 17) ^ v[2], v[2] = chain_rotate(v[2], 32);
}
static inline void chain_word(uint64_t v[4], uint64_t m) {
    v[3] ^= m;
    chain_round(v);
    chain_round(v);
    v[0] ^= m;
}
/* Words in the machine's byte order: every machine oriel runs on is little-endian. */
static inline kv_name chain_hash(kv_name key, const void *bytes, size_t len) {
    uint64_t v[4] = {key.a ^ 0x736f6d6570736575ull, key.b ^ 0x646f72616e646f6dull ^ 0xee,
                     key.a ^ 0x6c7967656e657261ull, key.b ^ 0x7465646279746573ull};
    const unsigned char *p = bytes;
    uint64_t last = (uint64_t)len << 56, word;
    for (size_t left = len; left >= 8; left -= 8, p += 8) {
        memcpy(&word, p, 8);
        chain_word(v, word);
    }
    word = 0;
    memcpy(&word, p, len % 8);
    chain_word(v, last | word);
    kv_name out;
    v[2] ^= 0xee;
    for (int i = 0; i < 4; i++) chain_round(v);
    out.a = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    for (int i = 0; i < 4; i++) chain_round(v);
    out.b = v[0] ^ v[1] ^ v[2] ^ v[3];
    return out;
}

#endif
