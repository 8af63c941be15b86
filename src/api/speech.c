/* POST /v1/audio/speech and GET /v1/audio/voices: text is spoken by espeak-ng,
 * a program of its own (GPL) that runs in the sandbox; its samples are resampled
 * and encoded here as they come. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/backend.h"
#include "api/sound.h"

enum {
    MAX_INPUT_CHARS = 4096, /* as in OpenAI's specification */
    ESPEAK_WORDS_PER_MINUTE = 175,
    ESPEAK_SLOWEST = 80, /* words per minute; it cannot speak slower */
    WAV_HEADER = 44,
    MAX_VOICE = 40,
    SSE_AUDIO_BYTES = 24 * 1024,
};

/* OpenAI's voices and what stands for them. */
static const struct {
    const char *name, *espeak;
} voices[] = {
    {"alloy", "en-us+f2"}, {"ash", "en-us+m3"},     {"ballad", "en-gb+m2"}, {"coral", "en-us+f3"},
    {"echo", "en-us+m1"},  {"fable", "en-gb+f4"},   {"onyx", "en-us+m7"},   {"nova", "en-us+f5"},
    {"sage", "en-gb+f1"},  {"shimmer", "en-us+f4"}, {"verse", "en-us+m4"},  {"marin", "en-us+f1"},
    {"cedar", "en-us+m2"},
};
static const char *const models[] = {"tts-1", "tts-1-hd", "gpt-4o-mini-tts", "espeak-ng"};

typedef struct params {
    str model, input, instructions;
    char voice[MAX_VOICE + 1];
    int format, stream_format;
    double speed;
} params;

/* espeak's own names are letters, digits and -+_ : nothing that could be an option or a path. */
static bool is_espeak_voice(str s) {
    if (!s.len || s.len > MAX_VOICE || !isalpha((unsigned char)s.ptr[0])) return false;
    for (size_t i = 0; i < s.len; i++)
        if (!isalnum((unsigned char)s.ptr[i]) && !strchr("-+_", s.ptr[i])) return false;
    return true;
}

static bool decode_voice(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    params *p = out;
    str name;
    field_path id;
    if (json_is_object(v)) {
        if (!(v = field_need(v, "id", path, err))) return false;
        path = path_member(&id, path, "id");
    }
    if (!field_str(v, path, &name, err)) return false;
    for (size_t i = 0; i < sizeof voices / sizeof voices[0]; i++)
        if (str_is(name, voices[i].name)) {
            snprintf(p->voice, sizeof p->voice, "%s", voices[i].espeak);
            return true;
        }
    if (!is_espeak_voice(name))
        return error_set(err, ERR_INVALID_VALUE, path,
                         "Unknown voice '%.60s': GET /v1/audio/voices lists them.",
                         name.ptr ? name.ptr : "");
    snprintf(p->voice, sizeof p->voice, "%.*s", (int)name.len, name.ptr);
    return true;
}

static const char *const formats[] = {"mp3", "opus", "flac", "wav", "pcm", "aac", NULL};
static const char *const stream_formats[] = {"audio", "sse", NULL};
enum { FORMAT_AAC = 5, STREAM_SSE = 1 };

static const field fields[] = {
    {.name = "model",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(params, model),
     .doc = "tts-1, tts-1-hd, gpt-4o-mini-tts, espeak-ng or the loaded model: all speak alike"},
    {.name = "input",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(params, input),
     .max = MAX_INPUT_CHARS,
     .doc = "what is said"},
    {.name = "voice",
     .kind = FIELD_CUSTOM,
     .required = true,
     .decode = decode_voice,
     .doc = "OpenAI's names, or one of espeak-ng's (de, en-gb+f3, …)"},
    {.name = "response_format",
     .kind = FIELD_ENUM,
     .offset = offsetof(params, format),
     .values = formats,
     .doc = "mp3, opus, flac, wav, pcm (24 kHz); aac is a 501"},
    {.name = "speed",
     .kind = FIELD_NUM,
     .offset = offsetof(params, speed),
     .min = 0.25,
     .max = 4,
     .doc = "below 0.46 it speaks at 0.46"},
    {.name = "stream_format",
     .kind = FIELD_ENUM,
     .offset = offsetof(params, stream_format),
     .values = stream_formats,
     .doc = "audio (chunked bytes) or sse"},
    {.name = "instructions",
     .kind = FIELD_STR,
     .offset = offsetof(params, instructions),
     .max = MAX_INPUT_CHARS,
     .doc = "accepted; espeak-ng has one manner of speaking"},
};
const field_table speech_fields = {fields, sizeof fields / sizeof fields[0]};

/* ── from espeak's WAV to the format asked for ── */

typedef struct encoder {
    sound_format format;
    sound *sound; /* NULL until the header is whole */
    char head[WAV_HEADER];
    size_t n_head;
    char odd; /* half a sample */
    bool has_odd;
} encoder;

static bool encoder_start(encoder *e, error *err) {
    const unsigned char *h = (const unsigned char *)e->head;
    if (memcmp(h, "RIFF", 4) || memcmp(h + 8, "WAVEfmt ", 8) || h[22] != 1 || h[34] != 16 ||
        memcmp(h + 36, "data", 4))
        return error_set(err, ERR_IO, NULL, "espeak-ng wrote something other than plain WAV.");
    int rate = h[24] | h[25] << 8 | h[26] << 16;
    e->sound = sound_new(e->format, rate, err);
    return e->sound != NULL;
}

static bool encoder_push(void *ctx, str bytes, buf *out, error *err) {
    encoder *e = ctx;
    if (!bytes.len) {
        if (!e->sound) return error_set(err, ERR_IO, NULL, "espeak-ng wrote nothing.");
        if (!sound_finish(e->sound, err)) return false;
        sound_take(e->sound, out);
        return true;
    }
    while (e->n_head < WAV_HEADER && bytes.len) {
        e->head[e->n_head++] = *bytes.ptr++;
        bytes.len--;
        if (e->n_head == WAV_HEADER && !encoder_start(e, err)) return false;
    }
    int16_t samples[1024];
    size_t n = 0;
    while (bytes.len) {
        if (!e->has_odd) {
            e->odd = *bytes.ptr;
            e->has_odd = true;
        } else {
            samples[n++] = (int16_t)((unsigned char)e->odd | (unsigned char)*bytes.ptr << 8);
            e->has_odd = false;
        }
        bytes.ptr++;
        bytes.len--;
        if (n == sizeof samples / sizeof samples[0] || !bytes.len) {
            if (!sound_push(e->sound, samples, n, err)) return false;
            n = 0;
        }
    }
    sound_take(e->sound, out);
    return !out->failed || error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for speech.");
}

static void encoder_done(void *ctx) {
    encoder *e = ctx;
    sound_free(e->sound);
    free(e);
}

/* ── the answer ── */

typedef struct job {
    params p;
    backend *b;
    buf ready; /* taken from the backend, not yet sent */
    bool ended;
    error err;
    int64_t n_input_tokens;
} job;

static void free_job(void *ctx) {
    buf_deinit(&((job *)ctx)->ready);
}

static void put_audio_event(buf *out, str audio) {
    sse_begin(out);
    buf_append_cstr(out, "{\"type\":\"speech.audio.delta\",\"audio\":\"");
    api_put_base64(out, audio);
    buf_append_cstr(out, "\"}");
    sse_end(out);
}

static void put_done_event(const job *k, buf *out) {
    sse_begin(out);
    json_out j = json_begin(out);
    json_obj(&j);
    json_kv_cstr(&j, "type", "speech.audio.done");
    json_key(&j, "usage");
    json_obj(&j);
    json_kv_int(&j, "input_tokens", k->n_input_tokens);
    json_kv_int(&j, "output_tokens", 0);
    json_kv_int(&j, "total_tokens", k->n_input_tokens);
    json_end_obj(&j);
    json_end_obj(&j);
    sse_end(out);
}

/* A format whose pieces make sense one by one goes out as it comes; the rest waits for its end. */
static http_pull_result pull(http_req *r, void *ctx, buf *out) {
    (void)r;
    job *k = ctx;
    if (!k->ended) k->ended = backend_take(k->b, &k->ready, &k->err);
    bool sse = k->p.stream_format == STREAM_SSE;
    for (size_t at = 0; at < k->ready.len;) {
        size_t n = k->ready.len - at;
        if (sse && n > SSE_AUDIO_BYTES) n = SSE_AUDIO_BYTES;
        str piece = str_make(k->ready.ptr + at, n);
        if (sse)
            put_audio_event(out, piece);
        else
            buf_append_str(out, piece);
        at += n;
    }
    buf_clear(&k->ready);
    if (!k->ended) return HTTP_WAIT;
    if (error_is_set(&k->err)) {
        if (!sse) return HTTP_ABORT;
        sse_error(out, &k->err);
    } else if (sse)
        put_done_event(k, out);
    return HTTP_DONE;
}

/* Waits for the first bytes, so that what goes wrong early is an error and not a cut stream. */
static bool step(http_req *r, void *ctx) {
    job *k = ctx;
    k->ended = backend_take(k->b, &k->ready, &k->err);
    if (!k->ended && !k->ready.len) return false;
    if (error_is_set(&k->err)) {
        if (strstr(k->err.message, "voice does not exist"))
            k->err = (error){0}, error_set(&k->err, ERR_INVALID_VALUE, "voice",
                                           "espeak-ng has no voice '%s'.", k->p.voice);
        http_reply_error(r, &k->err);
    } else if (k->p.stream_format == STREAM_SSE)
        http_reply_stream(r, "text/event-stream", pull, k);
    else
        http_reply_stream(r, sound_content_type((sound_format)k->p.format), pull, k);
    return true;
}

static bool is_speaker(const api *a, str name, error *err) {
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++)
        if (str_is(name, models[i])) return true;
    return api_check_model(a, name, err);
}

static bool start(api *a, http_req *r, job *k, error *err) {
    json_t *body = api_parse_body(r, err);
    field_ctx ctx = {.mem = http_arena(r), .user = a};
    k->p.speed = 1;
    if (!body ||
        !fields_decode(&ctx, body, fields, sizeof fields / sizeof fields[0], "", &k->p, err))
        return false;
    if (!is_speaker(a, k->p.model, err)) return false;
    if (!k->p.input.len)
        return error_set(err, ERR_INVALID_VALUE, "input",
                         "Invalid 'input': there is nothing to say.");
    if (k->p.format == FORMAT_AAC)
        return error_set(err, ERR_NOT_IMPLEMENTED, "response_format",
                         "'aac' is not implemented: use mp3, opus, flac, wav or pcm.");
    encoder *e = calloc(1, sizeof *e);
    if (!e) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for speech.");
    e->format = (sound_format)k->p.format;
    int speed = (int)(k->p.speed * ESPEAK_WORDS_PER_MINUTE + 0.5);
    char words[12];
    snprintf(words, sizeof words, "%d", speed < ESPEAK_SLOWEST ? ESPEAK_SLOWEST : speed);
    const char *const argv[] = {"espeak-ng", "--stdin",  "--stdout", "-b",  "1",
                                "-v",        k->p.voice, "-s",       words, NULL};
    sandbox_command c = {
        .argv = argv,
        .input = k->p.input,
        .limits = {.wall_ms = 120000,
                   .cpu_seconds = 60,
                   .memory_bytes = 512 << 20,
                   .output_bytes = 256 << 20},
    };
    tok *t = engine_get_tok(a->engine);
    tok_ids ids = {0};
    if (t && tok_encode(t, k->p.input, (tok_encode_opts){0}, &ids, err))
        k->n_input_tokens = (int64_t)ids.n;
    tok_ids_deinit(&ids);
    k->b = backend_start(r, &c, (backend_filter){e, encoder_push, encoder_done}, err);
    return k->b != NULL;
}

void route_speech(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    job *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k)
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    else {
        *k = (job){0};
        http_own(r, k, free_job);
        if (start(a, r, k, &err)) {
            http_reply_later(r, step, k);
            return;
        }
    }
    http_reply_error(r, &err);
}

void route_voices(api *a, http_req *r, str arg) {
    (void)a, (void)arg;
    buf body = {0};
    json_out j = json_begin(&body);
    json_obj(&j);
    json_kv_cstr(&j, "object", "list");
    json_key(&j, "data");
    json_arr(&j);
    for (size_t i = 0; i < sizeof voices / sizeof voices[0]; i++) {
        json_obj(&j);
        json_kv_cstr(&j, "id", voices[i].name);
        json_kv_cstr(&j, "object", "voice");
        json_kv_cstr(&j, "espeak", voices[i].espeak);
        json_end_obj(&j);
    }
    json_end_arr(&j);
    json_end_obj(&j);
    http_reply(r, 200, "application/json", &body);
}
