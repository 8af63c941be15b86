/* Request bodies: gathered within their bounds, decompressed, and given to the app's handler; large ones
 * on a thread of their own, so that nobody's stream waits while they are read. */
#include "api/http_impl.h"

#include <limits.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/clock.h"
#include "base/os.h"

/* How the reader shares a core: streams that run, and small requests, go first. Where a core decodes without
 * a pause, that leaves it a hundredth (docs/BENCHMARKS.md). */
enum { READER_NICE = 19, READER_SLICE_US = 100 };

/* ── decompression ── */

enum { DECODE_PIECE = 64 * 1024 };

/* gzip data is one member after another (RFC 1952, 2.2); deflate is one stream. Bytes that are neither are a
 * fault: what stood in them would be lost without a word. */
static bool inflate_body(str in, buf *out, error *err) {
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.ptr, .avail_in = (uInt)in.len};
    bool is_gzip = in.len && (unsigned char)in.ptr[0] == 0x1f;
    if (in.len > UINT_MAX || inflateInit2(&z, 15 + 32) != Z_OK)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to decompress the body.");
    int got = Z_OK;
    while (got == Z_OK) {
        char *at = buf_reserve(out, DECODE_PIECE);
        if (!at) break;
        os_give_way();
        z.next_out = (Bytef *)at;
        z.avail_out = DECODE_PIECE;
        got = inflate(&z, Z_NO_FLUSH);
        out->len += DECODE_PIECE - z.avail_out;
        if (got == Z_OK && z.avail_in == 0 && z.avail_out) got = Z_BUF_ERROR; /* cut short */
        if (got == Z_STREAM_END && z.avail_in) got = is_gzip ? inflateReset(&z) : Z_DATA_ERROR;
    }
    inflateEnd(&z);
    if (out->failed)
        return error_set(err, ERR_BODY_TOO_LARGE, NULL,
                         "The body is larger than %zu bytes after decompression.", out->max);
    if (got != Z_STREAM_END)
        return error_set(err, ERR_MALFORMED, NULL, "The body is not valid gzip or deflate data.");
    return true;
}

/* Frames follow one another here too (RFC 8878, 3). */
static bool unzstd_body(str in, buf *out, error *err) {
    ZSTD_DStream *z = ZSTD_createDStream();
    if (!z)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to decompress the body.");
    ZSTD_DCtx_setParameter(z, ZSTD_d_windowLogMax, 25); /* a hostile frame may ask for gigabytes */
    ZSTD_inBuffer src = {in.ptr, in.len, 0};
    size_t left = 1;
    while ((left || src.pos < src.size) && !ZSTD_isError(left)) {
        char *at = buf_reserve(out, DECODE_PIECE);
        if (!at) break;
        os_give_way();
        ZSTD_outBuffer dst = {at, DECODE_PIECE, 0};
        size_t before = src.pos;
        left = ZSTD_decompressStream(z, &dst, &src);
        out->len += dst.pos;
        if (left && !ZSTD_isError(left) && dst.pos == 0 && src.pos == before) break; /* cut short */
    }
    ZSTD_freeDStream(z);
    if (out->failed)
        return error_set(err, ERR_BODY_TOO_LARGE, NULL,
                         "The body is larger than %zu bytes after decompression.", out->max);
    if (left) return error_set(err, ERR_MALFORMED, NULL, "The body is not valid zstd data.");
    return true;
}

/* No text that people write shrinks to a hundredth: what claims so is given up before it costs much. */
static size_t most_decoded(size_t n) {
    if (n > HTTP_MAX_BODY / HTTP_MAX_RATIO) return HTTP_MAX_BODY;
    return n * HTTP_MAX_RATIO > HTTP_ANY_RATIO ? n * HTTP_MAX_RATIO : HTTP_ANY_RATIO;
}

/* Undoes Content-Encoding in place. */
static bool decode_body(http_req *r, error *err) {
    const char *enc = http_header(r, "Content-Encoding");
    if (!enc || !*enc || strcasecmp(enc, "identity") == 0) return true;
    buf out = {.max = most_decoded(r->body.len)};
    bool ok;
    if (strcasecmp(enc, "gzip") == 0 || strcasecmp(enc, "x-gzip") == 0 ||
        strcasecmp(enc, "deflate") == 0)
        ok = inflate_body(buf_str(&r->body), &out, err);
    else if (strcasecmp(enc, "zstd") == 0)
        ok = unzstd_body(buf_str(&r->body), &out, err);
    else
        ok = error_set(
            err, ERR_CONTENT_ENCODING, NULL,
            "Content-Encoding '%.40s' is not supported. Send gzip, deflate, zstd or no encoding.",
            enc);
    if (!ok) {
        buf_deinit(&out);
        return false;
    }
    if (!out.ptr) buf_reserve(&out, 0);
    buf_deinit(&r->body);
    r->body = out;
    return true;
}

/* ── gathering ── */

/* Only at the end of the upload can an answer be queued; a client that never ends it is cut off. */
void http_body_take(http_req *r, const char *data, size_t n) {
    http_server *s = r->server;
    if (!r->admitted) return;
    if (!r->too_large && !r->crowded_out) {
        int64_t all = atomic_fetch_add(&s->body_bytes, (int64_t)n) + (int64_t)n;
        r->n_counted += n;
        r->crowded_out = all > s->max_bodies;
        if (!r->crowded_out) buf_append(&r->body, data, n);
        if (!r->body.failed && !r->crowded_out) return;
        r->too_large = r->body.failed;
        r->n_discarded = r->body.len;
        buf_deinit(&r->body);
        atomic_fetch_sub(&s->body_bytes, (int64_t)r->n_counted);
        r->n_counted = 0;
    }
    r->n_discarded += n;
}

/* What decompressing added. */
static bool count_decoded(http_req *r) {
    http_server *s = r->server;
    int64_t more = (int64_t)r->body.len - (int64_t)r->n_counted;
    r->n_counted = r->body.len;
    return atomic_fetch_add(&s->body_bytes, more) + more <= s->max_bodies;
}

/* The whole request is here. */
static void begin(http_req *r) {
    static const char crowded[] =
        "The requests that are here now fill the memory for their bodies.";
    http_server *s = r->server;
    error err = {0};
    if (error_is_set(&r->refusal))
        err = r->refusal;
    else if (r->too_large)
        error_set(&err, ERR_BODY_TOO_LARGE, NULL, "The body has more than %d bytes.",
                  HTTP_MAX_BODY);
    else if (r->crowded_out)
        error_set(&err, ERR_OVERLOADED, NULL, "%s", crowded);
    else if (!r->body.ptr && !buf_reserve(&r->body, 0))
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    else if (decode_body(r, &err) && !count_decoded(r))
        error_set(&err, ERR_OVERLOADED, NULL, "%s", crowded);
    if (error_is_set(&err))
        http_reply_error(r, &err);
    else
        s->app.handle(s->app.ctx, r);
}

/* ── large bodies ── */

static bool is_heavy(const http_req *r) {
    return r->body.len > HTTP_LIGHT_BODY || http_header(r, "Content-Encoding");
}

/* The connection stands still until the reader is done with it; wakes in between leave their mark. */
static bool send_away(http_req *r) {
    http_server *s = r->server;
    pthread_mutex_lock(&s->away_lock);
    bool ok = !s->reader_stops;
    if (ok) {
        MHD_suspend_connection(r->mhd);
        r->is_away = true;
        http_req **at = &s->away; /* smaller ones first: 20 KB do not wait for many times 30 MB */
        while (*at && (*at)->body.len <= r->body.len) at = &(*at)->next_away;
        r->next_away = *at;
        *at = r;
        pthread_cond_signal(&s->away_more);
    }
    pthread_mutex_unlock(&s->away_lock);
    return ok;
}

void http_body_come_back(http_req *r) {
    r->is_away = false;
    if (!r->answer) return;
    r->replied = MHD_queue_response(r->mhd, r->answer_status, r->answer) == MHD_YES;
    MHD_destroy_response(r->answer);
    r->answer = NULL;
}

static void *read_main(void *arg) {
    http_server *s = arg;
    os_share_core("reader", READER_NICE, READER_SLICE_US);
    pthread_mutex_lock(&s->away_lock);
    for (;;) {
        http_req *r = s->away, *over = s->over;
        if (over) { /* first: who comes next may need the memory */
            s->over = over->next_away;
            pthread_mutex_unlock(&s->away_lock);
            http_req_bury(over);
            pthread_mutex_lock(&s->away_lock);
        } else if (r) {
            s->away = r->next_away;
            bool runs = !s->reader_stops && !atomic_load(&r->gone);
            pthread_mutex_unlock(&s->away_lock);
            if (runs) begin(r);
            MHD_resume_connection(r->mhd);
            pthread_mutex_lock(&s->away_lock);
        } else if (s->reader_stops) {
            break;
        } else if (s->wants_trim) {
            s->wants_trim = false;
            pthread_mutex_unlock(&s->away_lock);
            os_trim_heap();
            pthread_mutex_lock(&s->away_lock);
        } else {
            pthread_cond_wait(&s->away_more, &s->away_lock);
        }
    }
    pthread_mutex_unlock(&s->away_lock);
    return NULL;
}

/* Whoever does not wait as it was told is made to: its connection stands still until then. The watcher
 * wakes it. */
static bool refuse_in_time(http_req *r, void *ctx) {
    (void)ctx;
    if (clock_ns() < atomic_load(&r->held_until)) return false;
    begin(r);
    return true;
}

bool http_body_begin(http_req *r) {
    http_server *s = r->server;
    bool is_fine = !error_is_set(&r->refusal) && !r->too_large && !r->crowded_out;
    if (is_fine && s->app.has_place && !s->app.has_place(s->app.ctx, r, &r->refusal) && r->c &&
        clock_ns() < r->c->again_ns) {
        atomic_store(&r->held_until, r->c->again_ns);
        http_reply_later(r, refuse_in_time, NULL);
        return true;
    }
    if (!error_is_set(&r->refusal) && is_heavy(r)) return send_away(r);
    begin(r);
    return true;
}

bool http_reader_start(http_server *s) {
    return s->reader_runs = pthread_create(&s->reader, NULL, read_main, s) == 0;
}

void http_reader_stop(http_server *s) {
    if (!s->reader_runs) return;
    pthread_mutex_lock(&s->away_lock);
    s->reader_stops = true;
    pthread_cond_signal(&s->away_more);
    pthread_mutex_unlock(&s->away_lock);
    pthread_join(s->reader, NULL);
}

bool http_reader_bury(http_server *s, http_req *r) {
    pthread_mutex_lock(&s->away_lock);
    bool ok = s->reader_runs && !s->reader_stops;
    if (ok) {
        r->next_away = s->over;
        s->over = r;
        pthread_cond_signal(&s->away_more);
    }
    pthread_mutex_unlock(&s->away_lock);
    return ok;
}

void http_reader_trim(http_server *s) {
    pthread_mutex_lock(&s->away_lock);
    s->wants_trim = true;
    pthread_cond_signal(&s->away_more);
    pthread_mutex_unlock(&s->away_lock);
}
