#include "model/fill.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "base/os.h"

enum {
    CHUNK = 1 << 20,
    MIN_THREADS = 4, /* one core reads faster with several requests on their way */
    MAX_THREADS = 16,
    INLINE_BYTES = 8 << 20, /* of a model that is not worth a thread */
    TICK_NS = 20000000,
};

typedef struct chunk {
    const fill_part *part;
    uint64_t begin; /* within the tensor */
    size_t n_bytes;
    int mat;
    int64_t row, n_rows; /* of the matrix; of a vector: elements */
} chunk;

typedef struct crew {
    const fill *f;
    file_reader *reader;
    chunk *chunks;
    size_t n_chunks, buf_bytes;
    atomic_size_t next, done_bytes;
    atomic_bool stop;
    pthread_mutex_t lock; /* of what follows */
    pthread_cond_t ended;
    int n_running;
    error err;
} crew;

/* ── Cutting ── */

/* Rows (elements of a vector) that belong together, their bytes, and how many there are. */
typedef struct grain {
    int64_t n, at_once;
    size_t bytes; /* of one */
    int n_mats;
} grain;

static grain grain_of(const fill *f, const fill_part *p) {
    const dtype_info *d = dtype_get(p->t->type);
    if (!p->matrix) { /* blocks */
        int64_t n = (int64_t)(p->n_bytes / d->block_bytes);
        return (grain){n, CHUNK / (int64_t)d->block_bytes, d->block_bytes, 1};
    }
    const kern_matrix *k = &p->matrix->first;
    size_t row = (size_t)k->n_in / d->block_len * d->block_bytes;
    int64_t panel = f->dev->kern->pack_rows, most = (int64_t)(CHUNK / row) / panel * panel;
    return (grain){k->n_out, most > panel ? most : panel, row, p->matrix->n_mats};
}

static size_t n_chunks_of(grain g) {
    return (size_t)((g.n + g.at_once - 1) / g.at_once) * (size_t)g.n_mats;
}

static size_t largest_chunk(const fill *f) {
    size_t most = 0;
    for (size_t i = 0; i < f->n_parts; i++) {
        grain g = grain_of(f, &f->parts[i]);
        size_t bytes = (size_t)(g.n < g.at_once ? g.n : g.at_once) * g.bytes;
        if (bytes > most) most = bytes;
    }
    return (most + FILE_READ_SLACK + OS_PAGE - 1) / OS_PAGE * OS_PAGE;
}

static int by_place(const void *a, const void *b) {
    const chunk *x = a, *y = b;
    if (x->part->t->part != y->part->t->part) return x->part->t->part - y->part->t->part;
    uint64_t u = x->part->t->offset + x->begin, v = y->part->t->offset + y->begin;
    return (u > v) - (u < v);
}

static bool cut(crew *c) {
    const fill *f = c->f;
    for (size_t i = 0; i < f->n_parts; i++) c->n_chunks += n_chunks_of(grain_of(f, &f->parts[i]));
    chunk *at = c->chunks = calloc(c->n_chunks + 1, sizeof *at);
    if (!at) return false;
    for (size_t i = 0; i < f->n_parts; i++) {
        const fill_part *p = &f->parts[i];
        grain g = grain_of(f, p);
        int64_t block = p->matrix ? 1 : (int64_t)dtype_get(p->t->type)->block_len;
        for (int mat = 0; mat < g.n_mats; mat++)
            for (int64_t r = 0; r < g.n; r += g.at_once) {
                int64_t n = g.n - r < g.at_once ? g.n - r : g.at_once;
                *at++ = (chunk){p,
                                p->begin + (uint64_t)(mat * g.n + r) * g.bytes,
                                (size_t)n * g.bytes,
                                mat,
                                r * block,
                                n * block};
            }
    }
    qsort(c->chunks, c->n_chunks, sizeof *c->chunks, by_place);
    return true;
}

/* ── One chunk ── */

/* The parts of t's samples that lie in its bytes [begin, begin + n). out: those of this tensor. */
static void take_samples(const file_tensor *t, uint64_t begin, uint64_t n, const char *bytes,
                         unsigned char *out) {
    uint64_t len = t->n_bytes < MODEL_SAMPLE ? t->n_bytes : MODEL_SAMPLE;
    for (uint64_t s = 0; s < MODEL_N_SAMPLES; s++, out += MODEL_SAMPLE) {
        uint64_t at = (t->n_bytes - len) / (MODEL_N_SAMPLES - 1) * s;
        uint64_t from = at > begin ? at : begin;
        uint64_t to = at + len < begin + n ? at + len : begin + n;
        if (from < to) memcpy(out + (from - at), bytes + (from - begin), to - from);
    }
}

static unsigned char *samples_of(const file *f, const file_tensor *t, unsigned char *all) {
    return all + (size_t)(t - file_get_tensor(f, 0)) * MODEL_N_SAMPLES * MODEL_SAMPLE;
}

void fill_samples(const file *f, unsigned char *samples) {
    for (size_t i = 0; i < file_n_tensors(f); i++) {
        const file_tensor *t = file_get_tensor(f, i);
        take_samples(t, 0, t->n_bytes, t->data, samples_of(f, t, samples));
    }
}

/* Where the file's bytes may be read to without a detour. */
static void *own_place(const crew *c, const chunk *k) {
    const dev_matrix *m = k->part->matrix;
    if (!m || m->first.layout != KERN_ROWS || file_reader_mode(c->reader) != FILE_BUFFERED)
        return NULL;
    return (char *)m->first.data + (size_t)k->mat * m->mat_bytes +
           (size_t)k->row * (m->mat_bytes / (size_t)m->first.n_out);
}

static bool run_chunk(crew *c, const chunk *k, char *bounce, error *err) {
    const fill *f = c->f;
    const file_tensor *t = k->part->t;
    char *to = own_place(c, k);
    const char *bytes = file_reader_read(c->reader, t, k->begin, k->n_bytes, to ? to : bounce, err);
    if (!bytes) return false;
    if (f->opts->samples)
        take_samples(t, k->begin, k->n_bytes, bytes, samples_of(f->f, t, f->opts->samples));
    if (k->part->matrix)
        dev_matrix_put(f->dev, k->part->matrix, k->mat, k->row, k->n_rows, bytes);
    else
        kern_dequantize(t->type, k->n_rows, bytes, k->part->vector + k->row);
    atomic_fetch_add(&c->done_bytes, k->n_bytes);
    return true;
}

static bool report(crew *c) {
    const model_options *o = c->f->opts;
    if (!o->progress ||
        o->progress(o->progress_ctx, atomic_load(&c->done_bytes), c->f->total_bytes))
        return true;
    atomic_store(&c->stop, true);
    return error_set(&c->err, ERR_CANCELLED, NULL, "Loading was cancelled.");
}

/* Takes chunks until there are none. `tells` reports after each: the caller's own thread. */
static void work(crew *c, bool tells) {
    error err = {0};
    char *bounce = os_map(c->buf_bytes);
    bool ok = bounce || error_set(&err, ERR_NO_MEMORY, NULL,
                                  "There is no memory for a buffer to read the model with.");
    for (size_t i;
         ok && !atomic_load(&c->stop) && (i = atomic_fetch_add(&c->next, 1)) < c->n_chunks;)
        ok = run_chunk(c, &c->chunks[i], bounce, &err) && (!tells || report(c));
    os_unmap(bounce, c->buf_bytes);
    if (!error_is_set(&err)) return;
    atomic_store(&c->stop, true);
    pthread_mutex_lock(&c->lock);
    if (!error_is_set(&c->err)) c->err = err;
    pthread_mutex_unlock(&c->lock);
}

static void *worker_main(void *arg) {
    crew *c = arg;
    work(c, false);
    pthread_mutex_lock(&c->lock);
    c->n_running--;
    pthread_cond_signal(&c->ended);
    pthread_mutex_unlock(&c->lock);
    return NULL;
}

/* ── All of them ── */

static int n_threads_for(const fill *f) {
    if (f->total_bytes < INLINE_BYTES) return 0;
    int n = 2 * os_n_cpus();
    return n < MIN_THREADS ? MIN_THREADS : n > MAX_THREADS ? MAX_THREADS : n;
}

uint64_t fill_plan_bytes(const fill *f) {
    int n = n_threads_for(f);
    size_t chunks = 0;
    for (size_t i = 0; i < f->n_parts; i++) chunks += n_chunks_of(grain_of(f, &f->parts[i]));
    return (uint64_t)(n ? n : 1) * largest_chunk(f) + chunks * sizeof(chunk);
}

static void run_crew(crew *c) {
    pthread_t threads[MAX_THREADS];
    int n = 0, want = n_threads_for(c->f);
    c->n_running = want;
    while (n < want && pthread_create(&threads[n], NULL, worker_main, c) == 0) n++;
    pthread_mutex_lock(&c->lock);
    c->n_running -= want - n;
    while (c->n_running > 0) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += TICK_NS;
        if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
        pthread_cond_timedwait(&c->ended, &c->lock, &until);
        if (!atomic_load(&c->stop)) report(c);
    }
    pthread_mutex_unlock(&c->lock);
    for (int i = 0; i < n; i++) pthread_join(threads[i], NULL);
    if (n == 0) work(c, true);
}

bool fill_run(const fill *f, error *err) {
    static const file_mode modes[] = {
        [MODEL_LOAD_MMAP] = FILE_MAPPED,
        [MODEL_LOAD_READ] = FILE_BUFFERED,
        [MODEL_LOAD_DIRECT] = FILE_DIRECT,
    };
    crew c = {.f = f,
              .buf_bytes = largest_chunk(f),
              .lock = PTHREAD_MUTEX_INITIALIZER,
              .ended = PTHREAD_COND_INITIALIZER};
    file_mode mode = modes[f->opts->load];
    c.reader = file_reader_new(f->f, mode, &c.err);
    if (c.reader && !cut(&c))
        error_set(&c.err, ERR_NO_MEMORY, NULL, "There is no memory to read the weights.");
    if (!error_is_set(&c.err)) run_crew(&c);
    if (mode == FILE_DIRECT && c.reader && file_is_on_disk(f->f) &&
        file_reader_mode(c.reader) != FILE_DIRECT && !error_is_set(&c.err))
        log_line(
            LOG_WARN, "model",
            "the file's system refuses direct reading (O_DIRECT), so the weights were read through the page cache");
    file_reader_free(c.reader);
    free(c.chunks);
    if (!error_is_set(&c.err)) return true;
    if (err && !error_is_set(err)) *err = c.err;
    return false;
}
