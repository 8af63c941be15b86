/* Contents on disk. A name is given only to bytes that are safely there. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "store/impl.h"

struct store_writer {
    store *s;
    int fd;
    EVP_MD_CTX *sha, *md5;
    int64_t bytes;
    char temporary[40];
    bool finished;
};

/* "ab/abcd…" */
typedef struct content_path {
    char text[STORE_HASH_CHARS + 4];
} content_path;
static content_path make_path(const char *hash) {
    content_path p;
    snprintf(p.text, sizeof p.text, "%.2s/%.64s", hash, hash);
    return p;
}

static bool is_hash(str s) {
    if (s.len != STORE_HASH_CHARS) return false;
    for (size_t i = 0; i < s.len; i++)
        if (!((s.ptr[i] >= '0' && s.ptr[i] <= '9') || (s.ptr[i] >= 'a' && s.ptr[i] <= 'f')))
            return false;
    return true;
}

bool store_files_open(store *s, error *err) {
    char path[sizeof s->dir + 16];
    snprintf(path, sizeof path, "%s/files", s->dir);
    if (mkdir(path, 0700) != 0 && errno != EEXIST) return store_errno("make files/", err);
    s->files_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return s->files_fd >= 0 || store_errno("open files/", err);
}

store_writer *store_writer_open(store *s, error *err) {
    store_writer *w = calloc(1, sizeof *w);
    if (w) {
        w->s = s;
        w->fd = -1;
        w->sha = EVP_MD_CTX_new();
        w->md5 = EVP_MD_CTX_new();
    }
    if (!w || !w->sha || !w->md5 || !EVP_DigestInit_ex(w->sha, EVP_sha256(), NULL) ||
        !EVP_DigestInit_ex(w->md5, EVP_md5(), NULL)) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the file.");
        store_writer_free(w);
        return NULL;
    }
    snprintf(w->temporary, sizeof w->temporary, "tmp-%ld-%llu", (long)getpid(),
             (unsigned long long)atomic_fetch_add(&s->n_temporary, 1));
    w->fd = openat(s->files_fd, w->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (w->fd < 0) {
        store_errno("make a file", err);
        store_writer_free(w);
        return NULL;
    }
    return w;
}

bool store_writer_put(store_writer *w, const void *bytes, size_t len, error *err) {
    EVP_DigestUpdate(w->sha, bytes, len);
    EVP_DigestUpdate(w->md5, bytes, len);
    const char *p = bytes;
    while (len) {
        ssize_t n = write(w->fd, p, len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            if (n == 0) errno = ENOSPC;
            return store_errno("write a file", err);
        }
        p += n;
        len -= (size_t)n;
        w->bytes += n;
    }
    return true;
}

static void put_hex(char *to, const unsigned char *from, size_t n) {
    for (size_t i = 0; i < n; i++) snprintf(to + 2 * i, 3, "%02x", from[i]);
}

bool store_writer_finish(store_writer *w, store_content *out, error *err) {
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    memset(out, 0, sizeof *out);
    EVP_DigestFinal_ex(w->sha, digest, &n);
    put_hex(out->hash, digest, 32);
    EVP_DigestFinal_ex(w->md5, digest, &n);
    put_hex(out->md5, digest, 16);
    out->bytes = w->bytes;
    snprintf(out->temporary, sizeof out->temporary, "%s", w->temporary);
    if (fsync(w->fd) != 0) return store_errno("write a file to disk", err);
    w->finished = true;
    return true;
}

void store_writer_free(store_writer *w) {
    if (!w) return;
    if (w->fd >= 0) {
        close(w->fd);
        if (!w->finished) unlinkat(w->s->files_fd, w->temporary, 0);
    }
    EVP_MD_CTX_free(w->sha);
    EVP_MD_CTX_free(w->md5);
    free(w);
}

/* Runs perhaps twice (see store_fn): the second time the temporary name is gone already. */
bool store_keep_content(store_tx *tx, const store_content *c, error *err) {
    store *s = tx->s;
    content_path to = make_path(c->hash);
    char folder[3] = {c->hash[0], c->hash[1], 0};
    /* Should this operation be rolled back, the content is swept unless another row names it. */
    if (!store_doubt(tx, c->hash, err)) return false;
    bool made = mkdirat(s->files_fd, folder, 0700) == 0;
    if (!made && errno != EEXIST) return store_errno("make a folder", err);
    if (renameat(s->files_fd, c->temporary, s->files_fd, to.text) != 0) {
        struct stat st;
        if (errno != ENOENT || fstatat(s->files_fd, to.text, &st, 0) != 0)
            return store_errno("name a file", err);
    }
    int fd = openat(s->files_fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0 && (!made || fsync(s->files_fd) == 0);
    if (!ok) store_errno("write a folder to disk", err);
    if (fd >= 0) close(fd);
    return ok;
}

void store_drop_content(store *s, const store_content *c) {
    if (c->temporary[0]) unlinkat(s->files_fd, c->temporary, 0);
}

int store_open_content(store *s, str hash, error *err) {
    if (!is_hash(hash)) {
        error_set(err, ERR_NOT_FOUND, NULL, "There is no such content.");
        return -1;
    }
    content_path p = make_path(hash.ptr);
    int fd = openat(s->files_fd, p.text, O_RDONLY | O_CLOEXEC);
    if (fd < 0) store_errno("open a file", err);
    return fd;
}

void store_unlink_content(store *s, const char *hash) {
    content_path p = make_path(hash);
    unlinkat(s->files_fd, p.text, 0);
}

/* ── sweeping at start ── */

static DIR *open_folder(int at, const char *name) {
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d && fd >= 0) close(fd);
    return d;
}

void store_sweep_files(store *s) {
    DIR *top = open_folder(s->files_fd, ".");
    if (!top) return;
    int n_swept = 0;
    for (struct dirent *e; (e = readdir(top));) {
        str name = str_from(e->d_name);
        if (str_starts(name, STR("tmp-"))) {
            n_swept += unlinkat(s->files_fd, e->d_name, 0) == 0;
            continue;
        }
        DIR *d = name.len == 2 && name.ptr[0] != '.' ? open_folder(s->files_fd, e->d_name) : NULL;
        if (!d) continue;
        for (struct dirent *f; (f = readdir(d));) {
            if (!is_hash(str_from(f->d_name))) continue;
            sqlite3_stmt *q =
                store_statement(&s->write, "SELECT 1 FROM object WHERE content = ?1 LIMIT 1", NULL);
            if (!q) break;
            sqlite3_bind_text(q, 1, f->d_name, -1, SQLITE_STATIC);
            int rc = sqlite3_step(q);
            sqlite3_reset(q);
            if (rc == SQLITE_DONE) {
                store_unlink_content(s, f->d_name);
                n_swept++;
            }
        }
        closedir(d);
    }
    closedir(top);
    if (n_swept) log_line(LOG_INFO, "store", "%d files that no row names were removed", n_swept);
}
