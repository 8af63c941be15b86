/* Inside `file` only: one GGUF image in memory, parsed into a part. Doors are
 * in file.h. A part borrows the bytes; its tables live in the arena.
 */
#ifndef FILE_GGUF_H
#define FILE_GGUF_H

#include "base/arena.h"
#include "file/file.h"

/* Limits. Far above any real model, low enough that a damaged count is named as such. */
enum {
    FILE_MAX_VALUES = 1 << 20,
    FILE_MAX_TENSORS = 1 << 22,
    FILE_MAX_NAME = 65535, /* bytes of a key (the specification's bound) or a tensor's name */
    FILE_MAX_NESTING = 4,  /* arrays inside arrays */
    FILE_MAX_PARTS = 4096,
};

/* A metadata value and where its bytes are. `pub` is first: file.h hands out its address. */
typedef struct gguf_value {
    file_value pub;
    const uint8_t *data;     /* first item, unaligned; of a string: its 8-byte length */
    uint64_t n_bytes;        /* of all items */
    const uint32_t *offsets; /* [n] of a string array: from data to each item's length; else NULL */
} gguf_value;

/* An open-addressing table over an array of structs whose first member is a str. */
typedef struct file_index {
    uint32_t *slots; /* item + 1; 0 is free */
    uint64_t mask, seed;
    const char *items;
    size_t stride; /* bytes from one struct to the next */
} file_index;

/* Room for n items; false when memory ran out. */
bool file_index_init(file_index *ix, arena *a, const void *items, size_t stride, size_t n);
/* The item of that name, or -1. */
ptrdiff_t file_index_find(const file_index *ix, str name);
/* Enters items[item]; if the name is there already, changes nothing and returns the older item. */
ptrdiff_t file_index_put(file_index *ix, size_t item);

typedef struct gguf_part {
    const uint8_t *bytes;
    uint64_t len;
    int version;
    uint64_t alignment;
    gguf_value *values;
    size_t n_values;
    file_index keys;
    file_tensor *tensors;
    size_t n_tensors;
} gguf_part;

/* part->bytes and ->len are given; fills the rest. `index` goes into the tensors' `part`. The
 * error's sentence does not name the file. Duplicate keys and names inside the part are refused. */
bool gguf_parse(gguf_part *part, int index, arena *a, error *err);

/* A scalar of any integer type as uint64; false when absent, negative or of another type. */
bool gguf_get_u64(const gguf_part *part, const char *key, uint64_t *out);

/* What bytes without GGUF's magic look like ("a safetensors file"), or NULL. */
const char *file_guess_format(const uint8_t *bytes, uint64_t len);

/* Makes a name from a file printable: valid UTF-8 without control characters, cut with "...". */
typedef struct file_quoted {
    char text[100];
} file_quoted;
file_quoted file_quote(str name);

#endif
