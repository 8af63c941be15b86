/* A model file's bytes without its mapping: what the page cache holds of it, and
 * reading, buffered or past the cache. Reads are immune to a file that is cut
 * short meanwhile (that is one sentence), and leave nothing mapped behind.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "file/impl.h"

enum { PAGE = FILE_READ_ALIGN };

bool file_is_on_disk(const file *f) {
    return f->mapped;
}

double file_get_residency(const file *f) {
    enum { AT_ONCE = 16384 }; /* pages looked at by one call */
    unsigned char in_core[AT_ONCE];
    uint64_t n = 0, n_in = 0;
    if (!f->mapped) return 1;
    for (int i = 0; i < f->n_parts; i++) {
        const gguf_part *p = &f->parts[i];
        for (uint64_t at = 0; at < p->len; at += (uint64_t)AT_ONCE * PAGE) {
            uint64_t len = p->len - at < (uint64_t)AT_ONCE * PAGE ? p->len - at : AT_ONCE * PAGE;
            uint64_t pages = (len + PAGE - 1) / PAGE;
            if (mincore((void *)(p->bytes + at), len, in_core) != 0) continue;
            for (uint64_t k = 0; k < pages; k++) n_in += in_core[k] & 1;
            n += pages;
        }
    }
    return n ? (double)n_in / (double)n : 0;
}

void file_drop_pages(const file *f) {
    if (!f->mapped && !f->linked) return;
    for (int i = 0; i < f->n_parts; i++) {
        /* Of linked bytes only whole pages: their neighbours are the program's. */
        uintptr_t begin = ((uintptr_t)f->parts[i].bytes + PAGE - 1) & ~(uintptr_t)(PAGE - 1);
        uintptr_t end = (uintptr_t)f->parts[i].bytes + f->parts[i].len;
        if (f->linked) end &= ~(uintptr_t)(PAGE - 1);
        if (end > begin) madvise((void *)begin, end - begin, MADV_DONTNEED);
    }
}

bool file_lock_pages(const file *f) {
    bool ok = true;
    for (int i = 0; i < f->n_parts && ok; i++) ok = mlock(f->parts[i].bytes, f->parts[i].len) == 0;
    return ok;
}

void file_drop_cache(const file *f) {
    if (!f->mapped) return;
    file_drop_pages(f); /* mapped pages would stay */
    for (int i = 0; i < f->n_parts; i++) posix_fadvise(f->fds[i], 0, 0, POSIX_FADV_DONTNEED);
}

/* ── The reader ── */

struct file_reader {
    const file *f;
    _Atomic(file_mode) mode;
    int *direct; /* [n_parts], −1 where not open */
};

file_reader *file_reader_new(const file *f, file_mode mode, error *err) {
    file_reader *r = calloc(1, sizeof *r);
    if (r) r->direct = calloc((size_t)f->n_parts, sizeof *r->direct);
    if (!r || !r->direct) {
        free(r);
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to read the model file.");
        return NULL;
    }
    r->f = f;
    atomic_init(&r->mode, f->mapped ? mode : FILE_MAPPED);
    for (int i = 0; i < f->n_parts; i++) r->direct[i] = -1;
    for (int i = 0; i < f->n_parts && file_reader_mode(r) == FILE_DIRECT; i++) {
        char path[64];
        snprintf(path, sizeof path, "/proc/self/fd/%d", f->fds[i]);
        r->direct[i] = open(path, O_RDONLY | O_CLOEXEC | O_DIRECT);
        if (r->direct[i] < 0) atomic_store(&r->mode, FILE_BUFFERED);
    }
    return r;
}

void file_reader_free(file_reader *r) {
    if (!r) return;
    for (int i = 0; i < r->f->n_parts; i++)
        if (r->direct[i] >= 0) close(r->direct[i]);
    free(r->direct);
    free(r);
}

file_mode file_reader_mode(const file_reader *r) {
    return atomic_load_explicit(&((file_reader *)r)->mode, memory_order_relaxed);
}

/* Reads until there are at least `least` bytes. −1 on an error, else how many there are. */
static int64_t read_at(int fd, char *to, size_t n, size_t least, uint64_t offset) {
    size_t got = 0;
    while (got < least) {
        ssize_t k = pread(fd, to + got, n - got, (off_t)(offset + got));
        if (k < 0 && errno == EINTR) continue;
        if (k < 0) return -1;
        if (k == 0) break;
        got += (size_t)k;
    }
    return (int64_t)got;
}

const void *file_reader_read(file_reader *r, const file_tensor *t, uint64_t offset, size_t n,
                             void *buf, error *err) {
    const file *f = r->f;
    if (file_reader_mode(r) == FILE_MAPPED) return (const char *)t->data + offset;
    uint64_t at = (uint64_t)((const uint8_t *)t->data - f->parts[t->part].bytes) + offset;
    int64_t got = -1;
    size_t before = 0;
    if (file_reader_mode(r) == FILE_DIRECT) {
        before = (size_t)(at % PAGE);
        size_t whole = (before + n + PAGE - 1) / PAGE * PAGE;
        got = read_at(r->direct[t->part], buf, whole, before + n, at - before);
        /* Some systems take the flag and refuse the reads. */
        if (got < 0 && errno == EINVAL) atomic_store(&r->mode, FILE_BUFFERED);
    }
    if (file_reader_mode(r) == FILE_BUFFERED && got < 0) {
        before = 0;
        got = read_at(f->fds[t->part], buf, n, n, at);
    }
    if (got >= 0 && (uint64_t)got >= before + n) return (char *)buf + before;
    char text[128];
    if (got < 0)
        error_set(err, ERR_IO, NULL, "The model file cannot be read at byte %" PRIu64 ": %s.", at,
                  strerror_r(errno, text, sizeof text));
    else
        error_set(err, ERR_IO, NULL,
                  "The model file was cut short while it was being read: byte %" PRIu64
                  " is not there any more.",
                  at + n);
    return NULL;
}
