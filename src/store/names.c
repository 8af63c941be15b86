/* Names that are held: a list for this process, and for others a locked byte of names.lock at the name's
 * hash. Locks of an open file description end with their process, whatever ends it, so nothing is
 * left to clean up. Two names of one hash (2^-62) count as one. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hash.h"
#include "store/impl.h"

bool store_names_open(store *s, error *err) {
    char path[sizeof s->dir + 16];
    snprintf(path, sizeof path, "%s/names.lock", s->dir);
    s->names_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    return s->names_fd >= 0 || store_errno("open its names", err);
}

void store_names_close(store *s) {
    if (s->names_fd >= 0) close(s->names_fd);
    free(s->held);
}

static uint64_t hash_name(str name) {
    return hash_str(name) >> 2; /* a file offset */
}

/* False only when somebody else has it: a file system without such locks has one process to serve. */
static bool lock_byte(store *s, uint64_t at, short type) {
    struct flock l = {.l_type = type, .l_whence = SEEK_SET, .l_start = (off_t)at, .l_len = 1};
    return fcntl(s->names_fd, F_OFD_SETLK, &l) == 0 || (errno != EAGAIN && errno != EACCES);
}

static size_t find(const store *s, uint64_t hash) {
    size_t i = 0;
    while (i < s->n_held && s->held[i] != hash) i++;
    return i;
}

static bool make_room(store *s) {
    if (s->n_held < s->cap_held) return true;
    size_t cap = s->cap_held ? s->cap_held * 2 : 16;
    uint64_t *grown = realloc(s->held, cap * sizeof *grown);
    if (!grown) return false;
    s->held = grown;
    s->cap_held = cap;
    return true;
}

bool store_hold(store *s, str name) {
    uint64_t hash = hash_name(name);
    pthread_mutex_lock(&s->lock);
    bool ok = find(s, hash) == s->n_held && make_room(s) && lock_byte(s, hash, F_WRLCK);
    if (ok) s->held[s->n_held++] = hash;
    pthread_mutex_unlock(&s->lock);
    return ok;
}

void store_release(store *s, str name) {
    uint64_t hash = hash_name(name);
    pthread_mutex_lock(&s->lock);
    size_t i = find(s, hash);
    if (i < s->n_held) {
        s->held[i] = s->held[--s->n_held];
        lock_byte(s, hash, F_UNLCK);
    }
    pthread_mutex_unlock(&s->lock);
}
