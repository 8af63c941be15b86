/* A directory of named blocks. A file is one block of one group of layers:
 *
 *     header: "orielkv1", what the rows were made by (model, format, arithmetic, shape), the block's
 *     name, its parent's, its ids, its window if it has one, and checksums of rows and header
 *     rows, in logical order: [layer][kv_head]{ K [KV_BLOCK][row], V the same }
 *
 * written under a temporary name, synced, renamed: a file is whole or not there. Names
 * are keyed by 16 random bytes in the file `key`. What is damaged, foreign or stale is ignored: one
 * log line, and damaged ones are removed. Least recently used files go when the budget is spent.
 *
 * Threads: one of its own reads and writes. The owner hands it items and takes them back; no call
 * waits for the disk except kv_disk_open and kv_disk_close.
 */
#ifndef KV_DISK_H
#define KV_DISK_H

#include "base/error.h"
#include "kv/chain.h"
#include "kv/kv.h"

typedef struct kv_disk kv_disk;

typedef struct kv_disk_block {
    kv_name parent, name;
    kv_window window;
    int64_t block;
    int32_t group;
    int32_t ids[KV_BLOCK];
} kv_disk_block;

typedef struct kv_disk_item {
    struct kv_disk_item *next; /* the list it is in */
    bool is_read, ok;
    kv_disk_block of;
    char *rows; /* [bytes of the group's blocks] */
} kv_disk_item;

enum { KV_DISK_ITEMS = 8 }; /* blocks on their way at most */

/* Bytes kv_disk_open will allocate, its index at its fullest. */
uint64_t kv_disk_plan(uint64_t max_bytes, const size_t bytes[2]);
/* False with a sentence: not even one block has room. */
bool kv_disk_check(uint64_t max_bytes, const size_t bytes[2], error *err);
/* *key: what names are keyed with in this directory. bytes: of a block of each group, 0 = there is no
 * such group. notify: any thread; an item is done. */
kv_disk *kv_disk_open(const kv_disk_config *c, kv_name identity, const size_t bytes[2],
                      kv_name *key, error *err);
/* Finishes what was handed in. NULL is allowed. */
void kv_disk_close(kv_disk *d);
bool kv_disk_has(kv_disk *d, kv_name name, int group);
/* An item to fill in, or NULL while all are on their way. */
kv_disk_item *kv_disk_take_free(kv_disk *d);
void kv_disk_submit(kv_disk *d, kv_disk_item *i);
/* Back from the thread, or NULL. Waits up to timeout_ms for one; 0 = not at all. */
kv_disk_item *kv_disk_take_done(kv_disk *d, int timeout_ms);
void kv_disk_give_back(kv_disk *d, kv_disk_item *i);
/* Nothing is on its way, nor done and not taken. */
bool kv_disk_is_idle(kv_disk *d);

#endif
