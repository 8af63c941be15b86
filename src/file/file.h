/* A model file: typed metadata and a directory of named, bounds-checked
 * tensors. Reads GGUF v2 and v3, little-endian, single or split
 * (`name-00001-of-00003.gguf`: open any part), and bytes in memory (the
 * built-in model). Bytes are hostile: every count, offset, length, alignment
 * and overlap is checked at open, so that afterwards every view handed out lies
 * inside the mapping. What is wrong is said in one sentence that names the
 * key, tensor or offset (ERR_BAD_FILE; ERR_IO when it cannot be read at all).
 *
 * Source: GGUF specification (ggml docs/gguf.md).
 * Threads: immutable after file_open; any thread may read.
 */
#ifndef FILE_FILE_H
#define FILE_FILE_H

#include "base/dtype.h"
#include "base/error.h"
#include "base/str.h"

typedef struct file file;

enum { FILE_MAX_DIMS = 4 };

typedef struct file_tensor {
    str name;
    dtype type;
    int n_dims;
    uint64_t shape[FILE_MAX_DIMS]; /* [0] runs fastest (row length); unused dims are 1 */
    uint64_t n_elements;
    uint64_t n_bytes;
    int part;         /* which split file */
    uint64_t offset;  /* of its bytes in that file */
    const void *data; /* borrowed view into the mapping; lives as long as the file */
} file_tensor;

/* GGUF metadata value types, by the file's numbers. */
typedef enum file_type {
    FILE_U8 = 0,
    FILE_I8,
    FILE_U16,
    FILE_I16,
    FILE_U32,
    FILE_I32,
    FILE_F32,
    FILE_BOOL,
    FILE_STR,
    FILE_ARR,
    FILE_U64,
    FILE_I64,
    FILE_F64,
} file_type;

typedef struct file_value {
    str key;
    file_type type;
    file_type item_type; /* of an array; a scalar's own type */
    uint64_t n;          /* items of an array, else 1; arrays inside arrays are checked, not read */
} file_value;

/* path: any part of a split model. Maps the file(s) read-only. NULL on error. */
file *file_open(const char *path, error *err);
/* The bytes stay the caller's and must outlive the file; tensors are aligned relative to their
 * start. `name` is for messages. */
file *file_open_memory(const void *bytes, size_t len, const char *name, error *err);
/* The same for bytes that are read-only pages of the running program: file_drop_pages may let go of
 * them. */
file *file_open_linked(const void *bytes, size_t len, const char *name, error *err);
void file_close(file *f);

const char *file_get_path(const file *f);                /* as opened, or `name` */
const char *file_get_part_path(const file *f, int part); /* where file_tensor.offset counts */
int file_version(const file *f);                         /* 2 or 3 */
int file_n_parts(const file *f);
uint64_t file_n_bytes(const file *f); /* of all parts */
uint64_t file_alignment(const file *f);

size_t file_n_tensors(const file *f);
const file_tensor *file_get_tensor(const file *f, size_t index); /* in file order */
const file_tensor *file_find_tensor(const file *f, str name);    /* NULL when absent; O(1) */

size_t file_n_values(const file *f);
const file_value *file_get_value(const file *f, size_t index);
const file_value *file_find_value(const file *f, str key); /* NULL when absent; O(1) */

/* Scalars. The result is false when the key is absent or its type cannot be converted without
 * loss (any integer type → int64/uint64 within range, integers and floats → double). */
bool file_get_u64(const file *f, const char *key, uint64_t *out);
bool file_get_i64(const file *f, const char *key, int64_t *out);
bool file_get_f64(const file *f, const char *key, double *out);
bool file_get_bool(const file *f, const char *key, bool *out);
bool file_get_str(const file *f, const char *key, str *out); /* borrowed; may hold any bytes */

/* Items of an array value (or of a scalar, with index 0). False when out of range or not
 * convertible. O(1), strings included (an index is built at open). */
bool file_item_u64(const file *f, const file_value *v, uint64_t index, uint64_t *out);
bool file_item_i64(const file *f, const file_value *v, uint64_t index, int64_t *out);
bool file_item_f64(const file *f, const file_value *v, uint64_t index, double *out);
bool file_item_bool(const file *f, const file_value *v, uint64_t index, bool *out);
bool file_item_str(const file *f, const file_value *v, uint64_t index, str *out);

/* ── The bytes, not through the mapping (read.c) ── */

/* Is there a file behind it that can be read, or are these bytes in memory? */
bool file_is_on_disk(const file *f);
/* How much of all parts the page cache holds now: 0 … 1. Bytes in memory: 1. */
double file_get_residency(const file *f);
/* Lets go of the mapping's pages: they are not counted as this process' memory any more, and come back
 * when touched. Views stay valid. */
void file_drop_pages(const file *f);
/* Reads all of it in and keeps it in physical memory. False: errno says why. */
bool file_lock_pages(const file *f);
/* Asks the system to forget the file's pages in the page cache. Others may still hold them. */
void file_drop_cache(const file *f);

typedef enum file_mode {
    FILE_MAPPED,   /* views into the mapping */
    FILE_BUFFERED, /* pread, through the page cache */
    FILE_DIRECT,   /* O_DIRECT: leaves the page cache alone */
} file_mode;

enum {
    FILE_READ_ALIGN = 4096,
    FILE_READ_SLACK = 2 * FILE_READ_ALIGN, /* that a buffer is longer than what is read into it */
};

/* Any number of threads may read from one reader. NULL on error; f must outlive it. Where the file's
 * system refuses O_DIRECT it reads buffered, and `file_reader_mode` says so. */
typedef struct file_reader file_reader;
file_reader *file_reader_new(const file *f, file_mode mode, error *err);
void file_reader_free(file_reader *r);
file_mode file_reader_mode(const file_reader *r);
/* n bytes of a tensor from `offset` on: `buf` (aligned to FILE_READ_ALIGN, n + FILE_READ_SLACK bytes;
 * for FILE_BUFFERED any n bytes) or a view, where that is enough. NULL when they cannot be read. */
const void *file_reader_read(file_reader *r, const file_tensor *t, uint64_t offset, size_t n,
                             void *buf, error *err);

#endif
