#include "api/sound.h"

#include <math.h>
#include <samplerate.h>
#include <sndfile.h>
#include <stdlib.h>

enum { BLOCK = 4096, MAX_FILE = 256 << 20 };

struct sound {
    sound_format format;
    double ratio;
    SRC_STATE *resampler;
    SNDFILE *encoder; /* NULL for PCM */
    buf file;         /* all of it: encoders go back to patch their headers */
    size_t at, taken; /* where the encoder writes; what was sent */
    bool finished;
    float in[BLOCK], out[BLOCK * 4];
};

const char *sound_content_type(sound_format f) {
    static const char *const types[] = {"audio/mpeg", "audio/ogg", "audio/flac", "audio/wav",
                                        "audio/pcm"};
    return types[f];
}

/* ── the encoder's file, in memory ── */

static sf_count_t file_len(void *ctx) {
    return (sf_count_t)((sound *)ctx)->file.len;
}

static sf_count_t file_seek(sf_count_t offset, int whence, void *ctx) {
    sound *s = ctx;
    sf_count_t base = whence == SEEK_SET   ? 0
                      : whence == SEEK_CUR ? (sf_count_t)s->at
                                           : (sf_count_t)s->file.len;
    if (base + offset < 0 || base + offset > (sf_count_t)s->file.len) return -1;
    s->at = (size_t)(base + offset);
    return (sf_count_t)s->at;
}

static sf_count_t file_read(void *to, sf_count_t n, void *ctx) {
    sound *s = ctx;
    size_t have = s->file.len - s->at, want = (size_t)n;
    if (want > have) want = have;
    if (want) memcpy(to, s->file.ptr + s->at, want);
    s->at += want;
    return (sf_count_t)want;
}

static sf_count_t file_write(const void *from, sf_count_t n, void *ctx) {
    sound *s = ctx;
    size_t len = (size_t)n, over = s->file.len - s->at;
    if (over > len) over = len;
    if (over) memcpy(s->file.ptr + s->at, from, over);
    buf_append(&s->file, (const char *)from + over, len - over);
    if (s->file.failed) return 0;
    s->at += len;
    return n;
}

static sf_count_t file_tell(void *ctx) {
    return (sf_count_t)((sound *)ctx)->at;
}

static bool open_encoder(sound *s, error *err) {
    static const int formats[] = {SF_FORMAT_MPEG | SF_FORMAT_MPEG_LAYER_III,
                                  SF_FORMAT_OGG | SF_FORMAT_OPUS, SF_FORMAT_FLAC | SF_FORMAT_PCM_16,
                                  SF_FORMAT_WAV | SF_FORMAT_PCM_16};
    if (s->format == SOUND_PCM) return true;
    SF_INFO info = {.samplerate = SOUND_RATE, .channels = 1, .format = formats[s->format]};
    SF_VIRTUAL_IO io = {file_len, file_seek, file_read, file_write, file_tell};
    s->encoder = sf_open_virtual(&io, SFM_WRITE, &info, s);
    if (!s->encoder)
        return error_set(err, ERR_NOT_IMPLEMENTED, "response_format",
                         "This machine's libsndfile cannot write that format: %s.",
                         sf_strerror(NULL));
    sf_command(s->encoder, SFC_SET_CLIPPING, NULL, SF_TRUE);
    return true;
}

sound *sound_new(sound_format f, int in_rate, error *err) {
    sound *s = calloc(1, sizeof *s);
    int rc = 0;
    if (!s || in_rate < 1000 || in_rate > 192000) {
        error_set(err, s ? ERR_IO : ERR_NO_MEMORY, NULL, "Speech cannot be encoded.");
        free(s);
        return NULL;
    }
    s->format = f;
    s->ratio = (double)SOUND_RATE / in_rate;
    s->file.max = MAX_FILE;
    s->resampler = src_new(SRC_SINC_FASTEST, 1, &rc);
    if (!s->resampler) error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to resample.");
    if (s->resampler && open_encoder(s, err)) return s;
    sound_free(s);
    return NULL;
}

void sound_free(sound *s) {
    if (!s) return;
    if (s->encoder) sf_close(s->encoder);
    if (s->resampler) src_delete(s->resampler);
    buf_deinit(&s->file);
    free(s);
}

static bool encode(sound *s, const float *samples, size_t n, error *err) {
    if (s->encoder) {
        if (sf_write_float(s->encoder, samples, (sf_count_t)n) == (sf_count_t)n) return true;
        return error_set(err, ERR_IO, NULL, "Speech cannot be encoded: %s.",
                         sf_strerror(s->encoder));
    }
    for (size_t i = 0; i < n; i++) {
        float v = samples[i] * 32768.0f;
        int16_t q = (int16_t)lrintf(v > 32767 ? 32767 : v < -32768 ? -32768 : v);
        char bytes[2] = {(char)(q & 0xFF), (char)((q >> 8) & 0xFF)};
        buf_append(&s->file, bytes, 2);
    }
    return !s->file.failed || error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for speech.");
}

/* One block of s->in [n] through the resampler; `last` lets it give back what it holds. */
static bool resample(sound *s, size_t n, bool last, error *err) {
    size_t at = 0;
    for (;;) {
        SRC_DATA d = {.data_in = s->in + at,
                      .data_out = s->out,
                      .input_frames = (long)(n - at),
                      .output_frames = BLOCK * 4,
                      .src_ratio = s->ratio,
                      .end_of_input = last};
        int rc = src_process(s->resampler, &d);
        if (rc)
            return error_set(err, ERR_IO, NULL, "Speech cannot be resampled: %s.",
                             src_strerror(rc));
        at += (size_t)d.input_frames_used;
        if (!encode(s, s->out, (size_t)d.output_frames_gen, err)) return false;
        if (at >= n && (!last || d.output_frames_gen == 0)) return true;
    }
}

bool sound_push(sound *s, const int16_t *samples, size_t n, error *err) {
    for (size_t at = 0; at < n;) {
        size_t k = n - at < BLOCK ? n - at : BLOCK;
        for (size_t i = 0; i < k; i++) s->in[i] = samples[at + i] / 32768.0f;
        if (!resample(s, k, false, err)) return false;
        at += k;
    }
    return true;
}

bool sound_finish(sound *s, error *err) {
    if (!resample(s, 0, true, err)) return false;
    int rc = s->encoder ? sf_close(s->encoder) : 0;
    s->encoder = NULL;
    s->finished = true;
    if (rc || s->file.failed) return error_set(err, ERR_IO, NULL, "Speech cannot be encoded.");
    return true;
}

void sound_take(sound *s, buf *out) {
    bool patched = s->format == SOUND_WAV || s->format == SOUND_FLAC;
    if (patched && !s->finished) return;
    buf_append(out, s->file.ptr + s->taken, s->file.len - s->taken);
    s->taken = s->file.len;
}
