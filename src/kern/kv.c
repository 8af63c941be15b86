/* Formats of cached key and value rows. Q8_0 rows are ggml's blocks of 32 (f16 scale, then levels); a
 * head whose size is not a multiple of 32 pads its last block with zeros.
 */
#include "kern/kern.h"

#include "kern/num.h"

enum { KV_BLOCK = 32, KV_BLOCK_BYTES = 34 };

size_t kern_kv_row_bytes(kern_kv_type type, int64_t n) {
    switch (type) {
    case KERN_KV_F32: return (size_t)n * 4;
    case KERN_KV_F16:
    case KERN_KV_BF16: return (size_t)n * 2;
    case KERN_KV_Q8_0: return ((size_t)n + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK_BYTES;
    }
    return 0;
}

void kern_kv_load(kern_kv_type type, int64_t n, const void *row, float *out) {
    const uint8_t *b = row;
    switch (type) {
    case KERN_KV_F32: memcpy(out, b, (size_t)n * 4); break;
    case KERN_KV_F16:
        for (int64_t i = 0; i < n; i++) out[i] = num_load_f16(b + 2 * i);
        break;
    case KERN_KV_BF16:
        for (int64_t i = 0; i < n; i++) out[i] = num_bf16(num_u16(b + 2 * i));
        break;
    case KERN_KV_Q8_0:
        for (int64_t i = 0; i < n; i++) {
            const uint8_t *block = b + i / KV_BLOCK * KV_BLOCK_BYTES;
            out[i] = num_load_f16(block) * (float)(int8_t)block[2 + i % KV_BLOCK];
        }
        break;
    }
}
