#include "kv/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/os.h"

enum { NONE = -1, MAX_FILES = 1 << 18, NAME_LEN = 32 + 1 + 16 + 2, VERSION = 1 };
static const char MAGIC[8] = "orielkv1";

typedef struct header {
    char magic[8];
    uint32_t version, group;
    kv_name identity, parent, name;
    int64_t pinned, width, block;
    int32_t ids[KV_BLOCK];
    uint64_t n_bytes, rows_sum, header_sum; /* the last over all before it */
} header;

/* A file as far as the index knows it. */
typedef struct known {
    kv_name name;
    uint64_t identity; /* of any model: foreign files count towards the budget */
    uint64_t bytes;
    int32_t group;
    int32_t next; /* in its bucket, or among the unused */
    int32_t older, newer;
} known;

struct kv_disk {
    char *dir;
    int fd;
    uint64_t max_bytes;
    kv_name identity;
    size_t bytes[2];
    void (*notify)(void *ctx);
    void *notify_ctx;
    pthread_t thread;
    bool has_thread;
    bool has_found_damage;
    bool has_complained;       /* of writing: once */
    atomic_int n_free, n_done; /* lengths of the lists: looked at without the lock */

    pthread_mutex_t lock; /* all below */
    pthread_cond_t wanted, done_one;
    bool closes;
    int n_busy; /* items neither free nor with the owner */
    kv_disk_item items[KV_DISK_ITEMS];
    kv_disk_item *free, *done, *reads, *writes; /* reads and writes: oldest first */
    known *files;
    int32_t *buckets;
    int32_t n_files_max, n_buckets, unused, oldest, newest;
    uint64_t total;
};

/* ── Names ── */

static void print_name(char out[NAME_LEN + 1], kv_name name, uint64_t identity, int group) {
    snprintf(out, NAME_LEN + 1, "%016llx%016llx-%016llx.%c", (unsigned long long)name.a,
             (unsigned long long)name.b, (unsigned long long)identity, group == 0 ? 'f' : 's');
}

static bool parse_hex(const char *p, uint64_t *v) {
    *v = 0;
    for (int i = 0; i < 16; i++) {
        const char *digits = "0123456789abcdef", *d = p[i] ? strchr(digits, p[i]) : NULL;
        if (!d) return false;
        *v = *v << 4 | (uint64_t)(d - digits);
    }
    return true;
}

static bool parse_name(const char *p, known *out) {
    if (strlen(p) != NAME_LEN || p[32] != '-' || p[49] != '.' || (p[50] != 'f' && p[50] != 's'))
        return false;
    out->group = p[50] == 's';
    return parse_hex(p, &out->name.a) && parse_hex(p + 16, &out->name.b) &&
           parse_hex(p + 33, &out->identity);
}

/* ── The index ── under the lock */

static int32_t *bucket_of(kv_disk *d, kv_name name) {
    return &d->buckets[name.b & (uint64_t)(d->n_buckets - 1)];
}

static int32_t find(kv_disk *d, kv_name name, uint64_t identity, int group) {
    for (int32_t i = *bucket_of(d, name); i != NONE; i = d->files[i].next) {
        const known *k = &d->files[i];
        if (k->group == group && k->identity == identity && kv_name_equal(k->name, name)) return i;
    }
    return NONE;
}

static void unlink_lru(kv_disk *d, int32_t i) {
    known *k = &d->files[i];
    *(k->older == NONE ? &d->oldest : &d->files[k->older].newer) = k->newer;
    *(k->newer == NONE ? &d->newest : &d->files[k->newer].older) = k->older;
}

static void link_newest(kv_disk *d, int32_t i) {
    known *k = &d->files[i];
    k->older = d->newest;
    k->newer = NONE;
    *(d->newest == NONE ? &d->oldest : &d->files[d->newest].newer) = i;
    d->newest = i;
}

static void forget(kv_disk *d, int32_t i) {
    known *k = &d->files[i];
    unlink_lru(d, i);
    int32_t *at = bucket_of(d, k->name);
    while (*at != i) at = &d->files[*at].next;
    *at = k->next;
    d->total -= k->bytes;
    k->next = d->unused;
    d->unused = i;
}

/* There is room: the caller made it. */
static void remember(kv_disk *d, const known *k) {
    int32_t i = d->unused, *head = bucket_of(d, k->name);
    d->unused = d->files[i].next;
    d->files[i] = *k;
    d->files[i].next = *head;
    *head = i;
    link_newest(d, i);
    d->total += k->bytes;
}

/* Removes files until `more` bytes fit. Takes the lock itself; unlinks outside of it. */
static void make_room(kv_disk *d, uint64_t more) {
    for (;;) {
        char name[NAME_LEN + 1];
        pthread_mutex_lock(&d->lock);
        bool fits = d->unused != NONE && (d->total + more <= d->max_bytes || d->oldest == NONE);
        if (!fits) {
            const known *k = &d->files[d->oldest];
            print_name(name, k->name, k->identity, k->group);
            forget(d, d->oldest);
        }
        pthread_mutex_unlock(&d->lock);
        if (fits) return;
        unlinkat(d->fd, name, 0);
    }
}

/* ── Files ── the thread's */

static bool write_all(int fd, const void *bytes, size_t n) {
    for (const char *p = bytes; n > 0;) {
        ssize_t w = write(fd, p, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return false;
        p += w;
        n -= (size_t)w;
    }
    return true;
}

static bool read_all(int fd, void *bytes, size_t n) {
    for (char *p = bytes; n > 0;) {
        ssize_t r = read(fd, p, n);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) return false;
        p += r;
        n -= (size_t)r;
    }
    return true;
}

static header make_header(const kv_disk *d, const kv_disk_block *b, uint64_t rows_sum) {
    header h;
    memset(&h, 0, sizeof h); /* padding too: it is summed and written */
    memcpy(h.magic, MAGIC, sizeof h.magic);
    h.version = VERSION;
    h.group = (uint32_t)b->group;
    h.identity = d->identity;
    h.parent = b->parent;
    h.name = b->name;
    h.pinned = b->window.pinned;
    h.width = b->window.width;
    h.block = b->block;
    memcpy(h.ids, b->ids, sizeof h.ids);
    h.n_bytes = d->bytes[b->group];
    h.rows_sum = rows_sum;
    h.header_sum = hash_bytes(&h, offsetof(header, header_sum), VERSION);
    return h;
}

static void complain(kv_disk *d, const char *what) {
    if (!d->has_complained)
        log_line(LOG_WARN, "kv", "%s: blocks cannot be kept there: %s: %s", d->dir, what,
                 strerror(errno));
    d->has_complained = true;
}

/* False: it is not there afterwards. */
static bool write_file(kv_disk *d, const kv_disk_item *it) {
    size_t n = d->bytes[it->of.group];
    char name[NAME_LEN + 1], temporary[64];
    make_room(d, n + sizeof(header));
    print_name(name, it->of.name, d->identity.a, it->of.group);
    uint64_t random;
    os_random(&random, sizeof random);
    snprintf(temporary, sizeof temporary, ".tmp-%ld-%016llx", (long)getpid(),
             (unsigned long long)random);
    int fd = openat(d->fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        complain(d, "a file cannot be made");
        return false;
    }
    header h = make_header(d, &it->of, hash_bytes(it->rows, n, VERSION));
    bool ok = write_all(fd, &h, sizeof h) && write_all(fd, it->rows, n) && fsync(fd) == 0;
    if (!ok) complain(d, "a file cannot be written");
    if (close(fd) != 0) ok = false;
    if (ok && renameat(d->fd, temporary, d->fd, name) != 0) {
        complain(d, "a file cannot be named");
        ok = false;
    }
    if (!ok) {
        unlinkat(d->fd, temporary, 0);
        return false;
    }
    known k = {.name = it->of.name,
               .identity = d->identity.a,
               .bytes = n + sizeof h,
               .group = it->of.group};
    pthread_mutex_lock(&d->lock);
    int32_t old = find(d, k.name, k.identity, k.group);
    if (old != NONE) forget(d, old);
    remember(d, &k);
    pthread_mutex_unlock(&d->lock);
    return true;
}

/* What is wrong with the file, or NULL. */
static const char *read_rows(const kv_disk *d, kv_disk_item *it, int fd) {
    struct stat st;
    header h;
    size_t n = d->bytes[it->of.group];
    if (fstat(fd, &st) != 0 || st.st_size != (off_t)(n + sizeof h)) return "has another size";
    if (!read_all(fd, &h, sizeof h) || !read_all(fd, it->rows, n)) return "cannot be read";
    header want = make_header(d, &it->of, h.rows_sum);
    if (memcmp(&h, &want, sizeof h) != 0) return "says it is another block";
    if (hash_bytes(it->rows, n, VERSION) != h.rows_sum) return "is damaged";
    return NULL;
}

static bool read_file(kv_disk *d, kv_disk_item *it) {
    char name[NAME_LEN + 1];
    print_name(name, it->of.name, d->identity.a, it->of.group);
    int fd = openat(d->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    const char *wrong = fd < 0 ? "is gone" : read_rows(d, it, fd);
    if (!wrong) futimens(fd, NULL); /* last used now, also for the next start */
    if (fd >= 0) close(fd);
    pthread_mutex_lock(&d->lock);
    int32_t i = find(d, it->of.name, d->identity.a, it->of.group);
    if (i != NONE && wrong) {
        forget(d, i);
    } else if (i != NONE) {
        unlink_lru(d, i);
        link_newest(d, i);
    }
    pthread_mutex_unlock(&d->lock);
    if (!wrong) return true;
    log_line(d->has_found_damage ? LOG_INFO : LOG_WARN, "kv", "%s/%s %s: ignored%s", d->dir, name,
             wrong, d->has_found_damage ? "" : "; further ones are logged at level 2");
    d->has_found_damage = true;
    if (fd >= 0) unlinkat(d->fd, name, 0);
    return false;
}

/* ── The thread ── */

static kv_disk_item *pop(kv_disk_item **list) {
    kv_disk_item *i = *list;
    if (i) *list = i->next;
    return i;
}

static void append(kv_disk_item **list, kv_disk_item *i) {
    while (*list) list = &(*list)->next;
    i->next = NULL;
    *list = i;
}

static void *run(void *ctx) {
    kv_disk *d = ctx;
    pthread_mutex_lock(&d->lock);
    for (;;) {
        kv_disk_item *i = pop(&d->reads);
        if (!i) i = pop(&d->writes);
        if (!i) {
            if (d->closes) break;
            pthread_cond_wait(&d->wanted, &d->lock);
            continue;
        }
        pthread_mutex_unlock(&d->lock);
        i->ok = i->is_read ? read_file(d, i) : write_file(d, i);
        pthread_mutex_lock(&d->lock);
        append(&d->done, i);
        atomic_fetch_add(&d->n_done, 1);
        pthread_cond_signal(&d->done_one);
        if (d->notify && !d->closes) {
            pthread_mutex_unlock(&d->lock);
            d->notify(d->notify_ctx);
            pthread_mutex_lock(&d->lock);
        }
    }
    pthread_mutex_unlock(&d->lock);
    return NULL;
}

/* ── The owner's calls ── */

bool kv_disk_has(kv_disk *d, kv_name name, int group) {
    pthread_mutex_lock(&d->lock);
    bool has = find(d, name, d->identity.a, group) != NONE;
    pthread_mutex_unlock(&d->lock);
    return has;
}

kv_disk_item *kv_disk_take_free(kv_disk *d) {
    if (atomic_load(&d->n_free) == 0) return NULL;
    pthread_mutex_lock(&d->lock);
    kv_disk_item *i = pop(&d->free);
    if (i) atomic_fetch_sub(&d->n_free, 1);
    pthread_mutex_unlock(&d->lock);
    return i;
}

void kv_disk_submit(kv_disk *d, kv_disk_item *i) {
    pthread_mutex_lock(&d->lock);
    append(i->is_read ? &d->reads : &d->writes, i);
    d->n_busy++;
    pthread_cond_signal(&d->wanted);
    pthread_mutex_unlock(&d->lock);
}

kv_disk_item *kv_disk_take_done(kv_disk *d, int timeout_ms) {
    if (timeout_ms == 0 && atomic_load(&d->n_done) == 0) return NULL;
    pthread_mutex_lock(&d->lock);
    if (!d->done && timeout_ms > 0 && d->n_busy > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += (long)(timeout_ms % 1000) * 1000000;
        until.tv_sec += timeout_ms / 1000 + until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        while (!d->done && pthread_cond_timedwait(&d->done_one, &d->lock, &until) == 0) {
        }
    }
    kv_disk_item *i = pop(&d->done);
    if (i) {
        d->n_busy--;
        atomic_fetch_sub(&d->n_done, 1);
    }
    pthread_mutex_unlock(&d->lock);
    return i;
}

void kv_disk_give_back(kv_disk *d, kv_disk_item *i) {
    pthread_mutex_lock(&d->lock);
    i->next = d->free;
    d->free = i;
    atomic_fetch_add(&d->n_free, 1);
    pthread_mutex_unlock(&d->lock);
}

bool kv_disk_is_idle(kv_disk *d) {
    pthread_mutex_lock(&d->lock);
    bool idle = d->n_busy == 0;
    pthread_mutex_unlock(&d->lock);
    return idle;
}

/* ── Opening ── */

/* The directory's key; made by whoever comes first. */
static bool read_key(kv_disk *d, kv_name *key) {
    for (int tries = 0; tries < 3; tries++) {
        int fd = openat(d->fd, "key", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd >= 0) {
            bool ok = read_all(fd, key, sizeof *key);
            close(fd);
            if (ok) return true;
            log_line(LOG_WARN, "kv", "%s/key is damaged: what was kept there is not used", d->dir);
            unlinkat(d->fd, "key", 0);
        }
        char temporary[64];
        snprintf(temporary, sizeof temporary, ".tmp-%ld-key", (long)getpid());
        os_random(key, sizeof *key);
        unlinkat(d->fd, temporary, 0);
        fd = openat(d->fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) return false;
        bool ok = write_all(fd, key, sizeof *key) && fsync(fd) == 0;
        close(fd);
        ok = ok && (linkat(d->fd, temporary, d->fd, "key", 0) == 0 || errno == EEXIST);
        unlinkat(d->fd, temporary, 0);
        if (!ok) return false;
    }
    return false;
}

typedef struct dated {
    known k;
    struct timespec used;
} dated;

static int by_date(const void *a, const void *b) {
    const dated *x = a, *y = b;
    if (x->used.tv_sec != y->used.tv_sec) return x->used.tv_sec < y->used.tv_sec ? -1 : 1;
    return x->used.tv_nsec < y->used.tv_nsec ? -1 : x->used.tv_nsec > y->used.tv_nsec;
}

/* A temporary file whose writer is gone. (In a container another start may have the same process id.) */
static bool is_left_over(const kv_disk *d, const char *name) {
    enum { OLD_S = 60 };
    long pid = 0;
    struct stat st;
    if (sscanf(name, ".tmp-%ld-", &pid) != 1 || pid <= 0) return false;
    char proc[32];
    snprintf(proc, sizeof proc, "/proc/%ld", pid);
    return access(proc, F_OK) != 0 || (fstatat(d->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
                                       st.st_mtime < clock_wall_ns() / 1000000000 - OLD_S);
}

static bool scan(kv_disk *d) {
    DIR *dir = opendir(d->dir);
    dated *found = calloc((size_t)d->n_files_max, sizeof *found);
    if (!dir || !found) {
        if (dir) closedir(dir);
        free(found);
        return false;
    }
    int32_t n = 0;
    int64_t n_ours = 0, n_models = 0, n_odd = 0;
    for (struct dirent *e; (e = readdir(dir));) {
        struct stat st;
        known k = {0};
        if (is_left_over(d, e->d_name)) unlinkat(d->fd, e->d_name, 0);
        if (e->d_name[0] == '.' || strcmp(e->d_name, "key") == 0) continue;
        if (!parse_name(e->d_name, &k) || n == d->n_files_max ||
            fstatat(d->fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode)) {
            n_odd++;
            continue;
        }
        *(k.identity == d->identity.a ? &n_ours : &n_models) += 1;
        k.bytes = (uint64_t)st.st_size;
        found[n++] = (dated){k, st.st_mtim};
    }
    closedir(dir);
    qsort(found, (size_t)n, sizeof *found, by_date);
    for (int32_t i = 0; i < n; i++) remember(d, &found[i].k);
    free(found);
    log_line(
        n_models + n_odd ? LOG_WARN : LOG_INFO, "kv",
        "%s: %lld blocks of this model; ignored: %lld of other models or versions, %lld other files",
        d->dir, (long long)n_ours, (long long)n_models, (long long)n_odd);
    return true;
}

static size_t largest(const size_t bytes[2]) {
    return bytes[0] > bytes[1] ? bytes[0] : bytes[1];
}

static int32_t count_files(uint64_t max_bytes, const size_t bytes[2]) {
    size_t least = bytes[0] && (!bytes[1] || bytes[0] < bytes[1]) ? bytes[0] : bytes[1];
    uint64_t n = max_bytes / least + 64;
    return n < MAX_FILES ? (int32_t)n : MAX_FILES;
}

uint64_t kv_disk_plan(uint64_t max_bytes, const size_t bytes[2]) {
    uint64_t n = (uint64_t)count_files(max_bytes, bytes);
    return sizeof(kv_disk) + n * (sizeof(known) + 2 * sizeof(int32_t)) +
           KV_DISK_ITEMS * (uint64_t)largest(bytes);
}

bool kv_disk_check(uint64_t max_bytes, const size_t bytes[2], error *err) {
    const uint64_t least = largest(bytes) + sizeof(header), mib = 1 << 20;
    return least <= max_bytes ||
           error_set(
               err, ERR_INVALID_VALUE, "kv-dir-size",
               "A --kv-dir-size of %.1f MiB has no room for one block of this model (%.1f MiB): raise it to %llu "
               "at least.",
               (double)max_bytes / (double)mib, (double)least / (double)mib,
               (unsigned long long)((least + mib - 1) / mib));
}

static bool build(kv_disk *d, const kv_disk_config *c) {
    size_t most = largest(d->bytes);
    d->n_files_max = count_files(c->max_bytes, d->bytes);
    for (d->n_buckets = 64; d->n_buckets < d->n_files_max;) d->n_buckets *= 2;
    d->files = calloc((size_t)d->n_files_max, sizeof *d->files);
    d->buckets = malloc((size_t)d->n_buckets * sizeof *d->buckets);
    d->dir = strdup(c->dir);
    if (!d->files || !d->buckets || !d->dir) return false;
    for (int32_t i = 0; i < d->n_buckets; i++) d->buckets[i] = NONE;
    for (int32_t i = 0; i < d->n_files_max; i++)
        d->files[i].next = i + 1 < d->n_files_max ? i + 1 : NONE;
    d->oldest = d->newest = NONE;
    for (int i = 0; i < KV_DISK_ITEMS; i++) {
        if (!(d->items[i].rows = malloc(most))) return false;
        d->items[i].next = d->free;
        d->free = &d->items[i];
        atomic_fetch_add(&d->n_free, 1);
    }
    return true;
}

static bool open_dir(kv_disk *d, kv_name *key, error *err) {
    if (!*d->dir)
        return error_set(err, ERR_INVALID_VALUE, "kv-dir",
                         "The directory for kept blocks (--kv-dir) has no name.");
    bool is_there = mkdir(d->dir, 0700) == 0 || errno == EEXIST;
    if (!is_there && errno == ENOENT)
        return error_set(
            err, ERR_IO, "kv-dir",
            "%s cannot be made for kept blocks (--kv-dir): the directory above it is not there. Make "
            "that first.",
            d->dir);
    return (is_there && (d->fd = open(d->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) >= 0 &&
            read_key(d, key) && scan(d)) ||
           error_set(err, ERR_IO, "kv-dir", "%s cannot be used for kept blocks (--kv-dir): %s.",
                     d->dir, strerror(errno));
}

kv_disk *kv_disk_open(const kv_disk_config *c, kv_name identity, const size_t bytes[2],
                      kv_name *key, error *err) {
    kv_disk *d = calloc(1, sizeof *d);
    if (!d) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the kept blocks' index.");
        return NULL;
    }
    *d = (kv_disk){.fd = -1,
                   .max_bytes = c->max_bytes,
                   .identity = identity,
                   .bytes = {bytes[0], bytes[1]},
                   .notify = c->notify,
                   .notify_ctx = c->notify_ctx};
    pthread_mutex_init(&d->lock, NULL);
    pthread_cond_init(&d->wanted, NULL);
    pthread_cond_init(&d->done_one, NULL);
    if (!build(d, c)) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the kept blocks' index.");
    } else if (!kv_disk_check(c->max_bytes, bytes, err)) {
        ; /* said */
    } else if (!open_dir(d, key, err)) {
        ; /* said */
    } else if (pthread_create(&d->thread, NULL, run, d) != 0) {
        error_set(err, ERR_NO_MEMORY, NULL, "The system refuses to start another thread.");
    } else {
        d->has_thread = true;
        make_room(d, 0); /* a smaller budget than last time */
        return d;
    }
    kv_disk_close(d);
    return NULL;
}

void kv_disk_close(kv_disk *d) {
    if (!d) return;
    if (d->has_thread) {
        pthread_mutex_lock(&d->lock);
        d->closes = true;
        pthread_cond_signal(&d->wanted);
        pthread_mutex_unlock(&d->lock);
        pthread_join(d->thread, NULL);
    }
    for (int i = 0; i < KV_DISK_ITEMS; i++) free(d->items[i].rows);
    if (d->fd >= 0) close(d->fd);
    pthread_mutex_destroy(&d->lock);
    pthread_cond_destroy(&d->wanted);
    pthread_cond_destroy(&d->done_one);
    free(d->files);
    free(d->buckets);
    free(d->dir);
    free(d);
}
