/* A model file behind its door: maps the file, finds the other parts of a split
 * model, joins their directories, answers look-ups. The format is in gguf.c.
 *
 * A split model is `name-00001-of-00003.gguf` and so on. Each part is a GGUF
 * file with split.no (from 0), split.count and split.tensors.count; the first
 * holds the metadata, every part its own tensors. Parts that disagree about any
 * key, the version or the alignment are refused: they are not one model.
 *
 * A file that somebody cuts short while it is mapped: the kernel answers the next
 * read of a lost page with SIGBUS, for which the program has one sentence.
 * Reading through a file_reader is immune; that is how weights are loaded unless
 * they are computed from in place. Replace a model by renaming a new file over it.
 */
#include "file/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file/impl.h"

static bool no_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to open the model file.");
}

/* Puts the file's name before a sentence about it. */
static bool about(error *err, const char *path) {
    enum { TAIL = 90 }; /* of a long path the end says more */
    str s = str_from(path);
    bool cut = s.len > TAIL;
    if (cut) s = str_make(s.ptr + s.len - TAIL, TAIL);
    error_prefix(err, "%s%s", cut ? "..." : "", file_quote(s).text);
    return false;
}

static bool cannot_read(error *err, const char *why) {
    return error_set(err, ERR_IO, NULL, "The file cannot be read: %s.", why);
}

/* ── mapping ── */

/* The descriptor stays open: readers want the same file, whatever has its name by then. */
static bool map_part(gguf_part *p, const char *path, int *out_fd, error *err) {
    /* O_NONBLOCK: opening a pipe must fail below, not wait for its writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char text[128];
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        int code = errno;
        if (fd >= 0) close(fd);
        return cannot_read(err, strerror_r(code, text, sizeof text));
    }
    bool ok = false;
    if (S_ISDIR(st.st_mode))
        error_set(err, ERR_IO, NULL, "This is a directory; name the .gguf file in it.");
    else if (!S_ISREG(st.st_mode))
        error_set(err, ERR_IO, NULL, "This is not a regular file, so it cannot be mapped.");
    else if (st.st_size == 0)
        error_set(err, ERR_BAD_FILE, NULL, "The file is empty.");
    else {
        void *at = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (at == MAP_FAILED)
            cannot_read(err, strerror_r(errno, text, sizeof text));
        else {
            p->bytes = at;
            p->len = (uint64_t)st.st_size;
            ok = true;
        }
    }
    if (ok)
        *out_fd = fd;
    else
        close(fd);
    return ok;
}

/* ── parts ── */

enum { PART_SUFFIX = sizeof "-00001-of-00003.gguf" - 1 };

/* The path of part `no` beside `path`, which has to end as a part of n does. */
static char *part_path(file *f, const char *path, uint64_t no, uint64_t n) {
    size_t stem = strlen(path) - PART_SUFFIX, cap = stem + PART_SUFFIX + 1;
    char *out = arena_alloc(&f->mem, cap);
    if (!out) return NULL;
    memcpy(out, path, stem);
    snprintf(out + stem, cap - stem, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", no + 1, n);
    return out;
}

static bool ends_as_part(const char *path, uint64_t no, uint64_t n) {
    char suffix[64];
    snprintf(suffix, sizeof suffix, "-%05" PRIu64 "-of-%05" PRIu64 ".gguf", no + 1, n);
    return str_ends(str_from(path), str_from(suffix));
}

/* 1 when the file is whole by itself. */
static bool read_split(const gguf_part *p, uint64_t *no, uint64_t *n, error *err) {
    *no = 0;
    *n = 1;
    if (file_index_find(&p->keys, STR("split.count")) < 0) return true;
    if (!gguf_get_u64(p, "split.count", n) || *n > FILE_MAX_PARTS)
        return error_set(err, ERR_BAD_FILE, NULL,
                         "The value of split.count is not an integer from 0 to %d.",
                         FILE_MAX_PARTS);
    if (*n <= 1) {
        *n = 1;
        return true;
    }
    if (!gguf_get_u64(p, "split.no", no) || *no >= *n)
        return error_set(
            err, ERR_BAD_FILE, NULL,
            "The value of split.no is not an integer below split.count, which is %" PRIu64 ".", *n);
    return true;
}

static bool open_part(file *f, int index, error *err) {
    gguf_part *p = &f->parts[index];
    uint64_t no, n;
    if (!map_part(p, f->part_paths[index], &f->fds[index], err) ||
        !gguf_parse(p, index, &f->mem, err) || !read_split(p, &no, &n, err))
        return false;
    if ((int)n != f->n_parts || (int)no != index)
        return error_set(err, ERR_BAD_FILE, NULL,
                         "This says it is part %" PRIu64 " of %" PRIu64
                         ", but part %d of %d is wanted here.",
                         no + 1, n, index + 1, f->n_parts);
    return true;
}

/* Opens the part that was named, and then the others it speaks of. */
static bool open_parts(file *f, error *err) {
    gguf_part first = {0};
    uint64_t no, n;
    int fd;
    if (!map_part(&first, f->path, &fd, err)) return about(err, f->path);
    f->mapped = true;
    f->n_parts = 1;
    f->parts = &first; /* so that a failure unmaps it */
    gguf_part *parts = NULL;
    bool ok = gguf_parse(&first, 0, &f->mem, err) && read_split(&first, &no, &n, err);
    if (ok && n > 1 && !ends_as_part(f->path, no, n))
        ok = error_set(err, ERR_BAD_FILE, NULL,
                       "This is part %" PRIu64 " of a model split into %" PRIu64
                       ", but its name does not end in -%05" PRIu64 "-of-%05" PRIu64
                       ".gguf, so the other parts cannot be found.",
                       no + 1, n, no + 1, n);
    if (ok) {
        parts = arena_array(&f->mem, n, sizeof *parts);
        f->part_paths = arena_array(&f->mem, n, sizeof *f->part_paths);
        f->fds = arena_array(&f->mem, n, sizeof *f->fds);
        ok = (parts && f->part_paths && f->fds) || no_memory(err);
    }
    if (!ok) {
        munmap((void *)first.bytes, first.len);
        close(fd);
        f->n_parts = 0;
        f->parts = NULL;
        return about(err, f->path);
    }
    f->parts = parts;
    f->n_parts = (int)n;
    for (uint64_t i = 0; i < n; i++) f->fds[i] = -1;
    f->parts[no] = first;
    f->fds[no] = fd;
    f->part_paths[no] = f->path;
    for (size_t i = 0; i < first.n_tensors; i++) first.tensors[i].part = (int)no;
    for (int i = 0; i < f->n_parts; i++) {
        if (i == (int)no) continue;
        f->part_paths[i] = part_path(f, f->path, (uint64_t)i, n);
        if (!f->part_paths[i]) return no_memory(err);
        if (!open_part(f, i, err)) {
            about(err, f->part_paths[i]);
            error_prefix(err, "Part %d of %d", i + 1, f->n_parts);
            return false;
        }
    }
    return true;
}

static bool same_value(const gguf_value *a, const gguf_value *b) {
    return a->pub.type == b->pub.type && a->pub.item_type == b->pub.item_type &&
           a->pub.n == b->pub.n && a->n_bytes == b->n_bytes &&
           memcmp(a->data, b->data, a->n_bytes) == 0;
}

/* One directory over all parts. */
static bool join_parts(file *f, error *err) {
    size_t n_values = 0, n_tensors = 0;
    for (int i = 0; i < f->n_parts; i++) {
        n_values += f->parts[i].n_values;
        n_tensors += f->parts[i].n_tensors;
    }
    f->values =
        f->n_parts == 1 ? f->parts[0].values : arena_array(&f->mem, n_values, sizeof *f->values);
    f->tensors =
        f->n_parts == 1 ? f->parts[0].tensors : arena_array(&f->mem, n_tensors, sizeof *f->tensors);
    if (!f->values || !f->tensors ||
        !file_index_init(&f->keys, &f->mem, f->values, sizeof *f->values, n_values) ||
        !file_index_init(&f->names, &f->mem, f->tensors, sizeof *f->tensors, n_tensors))
        return no_memory(err);

    for (int i = 0; i < f->n_parts; i++) {
        const gguf_part *p = &f->parts[i];
        if (p->version != f->parts[0].version)
            return error_set(
                err, ERR_BAD_FILE, NULL,
                "The parts are not of one model: part 1 is GGUF version %d and part %d version %d.",
                f->parts[0].version, i + 1, p->version);
        for (size_t k = 0; k < p->n_values; k++) {
            f->values[f->n_values] = p->values[k];
            ptrdiff_t at = file_index_put(&f->keys, f->n_values);
            if (at == (ptrdiff_t)f->n_values)
                f->n_values++;
            else if (!str_is(p->values[k].pub.key, "split.no") &&
                     !same_value(&f->values[at], &p->values[k]))
                return error_set(err, ERR_BAD_FILE, NULL,
                                 "The parts are not of one model: part %d has another value of %s.",
                                 i + 1, file_quote(p->values[k].pub.key).text);
        }
        for (size_t k = 0; k < p->n_tensors; k++) {
            f->tensors[f->n_tensors] = p->tensors[k];
            ptrdiff_t at = file_index_put(&f->names, f->n_tensors);
            if (at != (ptrdiff_t)f->n_tensors)
                return error_set(
                    err, ERR_BAD_FILE, NULL, "The tensor %s appears in parts %d and %d.",
                    file_quote(p->tensors[k].name).text, f->tensors[at].part + 1, i + 1);
            f->n_tensors++;
        }
    }
    uint64_t total;
    if (f->n_parts > 1 && file_find_value(f, STR("split.tensors.count")) &&
        (!file_get_u64(f, "split.tensors.count", &total) || total != f->n_tensors))
        return error_set(
            err, ERR_BAD_FILE, NULL,
            "The %d parts together have %zu tensors, which is not what split.tensors.count says.",
            f->n_parts, f->n_tensors);
    return true;
}

/* ── open and close ── */

static file *new_file(const char *path, error *err) {
    file *f = calloc(1, sizeof *f);
    if (!f) {
        no_memory(err);
        return NULL;
    }
    arena_init(&f->mem, 0);
    f->path = arena_dup(&f->mem, str_from(path));
    if (!f->path) {
        no_memory(err);
        file_close(f);
        return NULL;
    }
    return f;
}

file *file_open(const char *path, error *err) {
    file *f = new_file(path, err);
    if (f && (!open_parts(f, err) || (!join_parts(f, err) && !about(err, path)))) {
        file_close(f);
        return NULL;
    }
    return f;
}

file *file_open_memory(const void *bytes, size_t len, const char *name, error *err) {
    file *f = new_file(name, err);
    if (!f) return NULL;
    uint64_t no, n;
    f->parts = arena_array(&f->mem, 1, sizeof *f->parts);
    f->part_paths = arena_array(&f->mem, 1, sizeof *f->part_paths);
    bool ok = f->parts && f->part_paths;
    if (!ok) no_memory(err);
    if (ok) {
        f->n_parts = 1;
        f->parts[0] = (gguf_part){.bytes = bytes, .len = len};
        f->part_paths[0] = f->path;
        ok = gguf_parse(&f->parts[0], 0, &f->mem, err) && read_split(&f->parts[0], &no, &n, err);
    }
    if (ok && n > 1)
        ok = error_set(err, ERR_BAD_FILE, NULL,
                       "This is part %" PRIu64 " of a model split into %" PRIu64
                       ", which can only be opened from its files.",
                       no + 1, n);
    if (!ok || !join_parts(f, err)) {
        about(err, name);
        file_close(f);
        return NULL;
    }
    return f;
}

file *file_open_linked(const void *bytes, size_t len, const char *name, error *err) {
    file *f = file_open_memory(bytes, len, name, err);
    if (f) f->linked = true;
    return f;
}

void file_close(file *f) {
    if (!f) return;
    for (int i = 0; f->mapped && i < f->n_parts; i++) {
        if (f->parts[i].bytes) munmap((void *)f->parts[i].bytes, f->parts[i].len);
        if (f->fds && f->fds[i] >= 0) close(f->fds[i]);
    }
    arena_deinit(&f->mem);
    free(f);
}

/* ── the directory ── */

const char *file_get_path(const file *f) {
    return f->path;
}
const char *file_get_part_path(const file *f, int part) {
    return part >= 0 && part < f->n_parts ? f->part_paths[part] : NULL;
}
int file_version(const file *f) {
    return f->parts[0].version;
}
int file_n_parts(const file *f) {
    return f->n_parts;
}
uint64_t file_alignment(const file *f) {
    return f->parts[0].alignment;
}
uint64_t file_n_bytes(const file *f) {
    uint64_t n = 0;
    for (int i = 0; i < f->n_parts; i++) n += f->parts[i].len;
    return n;
}

size_t file_n_tensors(const file *f) {
    return f->n_tensors;
}
const file_tensor *file_get_tensor(const file *f, size_t index) {
    return index < f->n_tensors ? &f->tensors[index] : NULL;
}
const file_tensor *file_find_tensor(const file *f, str name) {
    ptrdiff_t at = file_index_find(&f->names, name);
    return at < 0 ? NULL : &f->tensors[at];
}

size_t file_n_values(const file *f) {
    return f->n_values;
}
const file_value *file_get_value(const file *f, size_t index) {
    return index < f->n_values ? &f->values[index].pub : NULL;
}
const file_value *file_find_value(const file *f, str key) {
    ptrdiff_t at = file_index_find(&f->keys, key);
    return at < 0 ? NULL : &f->values[at].pub;
}
