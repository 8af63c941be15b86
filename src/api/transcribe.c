/* POST /v1/audio/transcriptions and /v1/audio/translations. oriel has no model
 * that hears: the upload is checked, then given to the operator's own program
 * (--transcribe-command), which runs in the sandbox: a shell line that reads the
 * audio file on standard input and writes the text on standard output. It is
 * told, as $1 … $5: what to do ("transcribe" or "translate"), the file's
 * extension, the language (may be empty), the prompt, the temperature. */
#include <ctype.h>
#include <sndfile.h>
#include <stdio.h>
#include <strings.h>

#include "api/backend.h"
#include "api/form.h"

static const char *const extensions[] = {"flac", "m4a", "mp3", "mp4",  "mpeg", "mpga",
                                         "oga",  "ogg", "wav", "webm", NULL};
static const char *const formats[] = {"json", "text", "srt", "verbose_json", "vtt", NULL};
enum { FORMAT_JSON, FORMAT_TEXT, FORMAT_SRT, FORMAT_VERBOSE, FORMAT_VTT };
enum { MAX_PROMPT = 4096, MAX_WORDS = 16, WALL_SECONDS = 600 };

typedef struct params {
    str model, language, prompt;
    double temperature;
    int format;
    bool stream;
} params;

static bool decode_language(const field_ctx *c, json_t *v, const char *path, void *out,
                            error *err) {
    (void)c;
    params *p = out;
    if (!field_str(v, path, &p->language, err)) return false;
    bool ok = p->language.len >= 2 && p->language.len <= 12;
    for (size_t i = 0; ok && i < p->language.len; i++)
        ok = isalpha((unsigned char)p->language.ptr[i]) || p->language.ptr[i] == '-';
    return ok || error_set(err, ERR_INVALID_VALUE, path,
                           "Invalid 'language': expected an ISO-639-1 code such as 'en'.");
}

static bool check_words(json_t *v, const char *path, const char *const *words, error *err) {
    field_path at;
    int which;
    if (!field_array(v, path, MAX_WORDS, err)) return false;
    for (size_t i = 0; i < json_array_size(v); i++)
        if (!field_enum(json_array_get(v, i), path_index(&at, path, i), words, &which, err))
            return false;
    return true;
}

static bool decode_granularities(const field_ctx *c, json_t *v, const char *path, void *out,
                                 error *err) {
    (void)c, (void)out;
    static const char *const words[] = {"word", "segment", NULL};
    return check_words(v, path, words, err);
}

static bool decode_include(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c, (void)out;
    static const char *const words[] = {"logprobs", NULL};
    return check_words(v, path, words, err);
}

static const field fields[] = {
    {.name = "model",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(params, model),
     .doc = "any name: the configured command decides"},
    {.name = "language",
     .kind = FIELD_CUSTOM,
     .decode = decode_language,
     .doc = "told to the command"},
    {.name = "prompt",
     .kind = FIELD_STR,
     .offset = offsetof(params, prompt),
     .max = MAX_PROMPT,
     .doc = "told to the command"},
    {.name = "temperature",
     .kind = FIELD_NUM,
     .offset = offsetof(params, temperature),
     .min = 0,
     .max = 1,
     .doc = "told to the command"},
    {.name = "response_format",
     .kind = FIELD_ENUM,
     .offset = offsetof(params, format),
     .values = formats,
     .doc = "json, text, srt, verbose_json, vtt: one segment over the whole"},
    {.name = "stream",
     .kind = FIELD_BOOL,
     .offset = offsetof(params, stream),
     .doc = "events of the text as the command writes it"},
    {.name = "timestamp_granularities",
     .kind = FIELD_CUSTOM,
     .decode = decode_granularities,
     .doc = "word, segment; a segment is the whole"},
    {.name = "include",
     .kind = FIELD_CUSTOM,
     .decode = decode_include,
     .doc = "accepted, no effect"},
    {.name = "chunking_strategy", .kind = FIELD_ACCEPT, .doc = "accepted, no effect"},
};
const field_table transcription_fields = {fields, sizeof fields / sizeof fields[0]};

/* ── how long it is ── */

typedef struct memory_file {
    str bytes;
    sf_count_t at;
} memory_file;

static sf_count_t mem_len(void *c) {
    return (sf_count_t)((memory_file *)c)->bytes.len;
}
static sf_count_t mem_seek(sf_count_t offset, int whence, void *c) {
    memory_file *m = c;
    sf_count_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? m->at : mem_len(c);
    if (base + offset < 0 || base + offset > mem_len(c)) return -1;
    return m->at = base + offset;
}
static sf_count_t mem_read(void *to, sf_count_t n, void *c) {
    memory_file *m = c;
    if (n > mem_len(c) - m->at) n = mem_len(c) - m->at;
    if (n > 0) memcpy(to, m->bytes.ptr + m->at, (size_t)n);
    m->at += n;
    return n;
}
static sf_count_t mem_write(const void *from, sf_count_t n, void *c) {
    (void)from, (void)n, (void)c;
    return 0;
}
static sf_count_t mem_tell(void *c) {
    return ((memory_file *)c)->at;
}

/* Seconds, or 0 when libsndfile cannot read it (m4a, webm): then nobody knows here. */
static double measure(str bytes) {
    memory_file m = {.bytes = bytes};
    SF_INFO info = {0};
    SF_VIRTUAL_IO io = {mem_len, mem_seek, mem_read, mem_write, mem_tell};
    SNDFILE *f = sf_open_virtual(&io, SFM_READ, &info, &m);
    if (!f) return 0;
    sf_close(f);
    return info.samplerate > 0 && info.frames > 0 && info.frames < (sf_count_t)1 << 40
               ? (double)info.frames / info.samplerate
               : 0;
}

/* ── the answer ── */

typedef struct job {
    params p;
    multipart form;
    backend *b;
    buf text;
    size_t sent; /* bytes of it, in events */
    bool ended, translates;
    error err;
    double seconds;
} job;

static void free_job(void *ctx) {
    buf_deinit(&((job *)ctx)->text);
}

static void put_usage(json_out *j, const job *k) {
    json_key(j, "usage");
    json_obj(j);
    json_kv_cstr(j, "type", "duration");
    json_kv_num(j, "seconds", k->seconds);
    json_end_obj(j);
}

static void put_time(buf *out, double seconds, char decimal) {
    int64_t ms = (int64_t)(seconds * 1000 + 0.5);
    buf_printf(out, "%02lld:%02lld:%02lld%c%03lld", (long long)(ms / 3600000),
               (long long)(ms / 60000 % 60), (long long)(ms / 1000 % 60), decimal,
               (long long)(ms % 1000));
}

static void put_json(const job *k, str text, buf *out) {
    json_out j = json_begin(out);
    json_obj(&j);
    if (k->p.format == FORMAT_VERBOSE) {
        json_kv_cstr(&j, "task", k->translates ? "translate" : "transcribe");
        json_kv_str(&j, "language",
                    k->translates       ? STR("english")
                    : k->p.language.len ? k->p.language
                                        : STR("unknown"));
        json_kv_num(&j, "duration", k->seconds);
    }
    json_kv_str(&j, "text", text);
    if (k->p.format == FORMAT_VERBOSE) {
        json_key(&j, "segments");
        json_arr(&j);
        json_obj(&j);
        json_kv_int(&j, "id", 0);
        json_kv_int(&j, "seek", 0);
        json_kv_num(&j, "start", 0);
        json_kv_num(&j, "end", k->seconds);
        json_kv_str(&j, "text", text);
        json_key(&j, "tokens");
        json_arr(&j);
        json_end_arr(&j);
        json_kv_num(&j, "temperature", k->p.temperature);
        json_kv_num(&j, "avg_logprob", 0);
        json_kv_num(&j, "compression_ratio", 1);
        json_kv_num(&j, "no_speech_prob", 0);
        json_end_obj(&j);
        json_end_arr(&j);
    }
    put_usage(&j, k);
    json_end_obj(&j);
}

static void reply(http_req *r, job *k) {
    buf body = {0};
    str text = str_trim(buf_str(&k->text));
    const char *type = "text/plain; charset=utf-8";
    switch (k->p.format) {
    case FORMAT_TEXT:
        buf_append_str(&body, text);
        buf_append_char(&body, '\n');
        break;
    case FORMAT_SRT:
    case FORMAT_VTT: {
        bool vtt = k->p.format == FORMAT_VTT;
        buf_append_cstr(&body, vtt ? "WEBVTT\n\n" : "1\n");
        put_time(&body, 0, vtt ? '.' : ',');
        buf_append_cstr(&body, " --> ");
        put_time(&body, k->seconds, vtt ? '.' : ',');
        buf_append_char(&body, '\n');
        buf_append_str(&body, text);
        buf_append_cstr(&body, "\n\n");
        break;
    }
    default: put_json(k, text, &body); type = "application/json";
    }
    http_reply(r, 200, type, &body);
}

static bool step(http_req *r, void *ctx) {
    job *k = ctx;
    if (!backend_take(k->b, &k->text, &k->err)) return false;
    if (error_is_set(&k->err))
        http_reply_error(r, &k->err);
    else
        reply(r, k);
    return true;
}

/* Events: what the command has written so far, in whole characters. */
static http_pull_result pull(http_req *r, void *ctx, buf *out) {
    (void)r;
    job *k = ctx;
    if (!k->ended) k->ended = backend_take(k->b, &k->text, &k->err);
    str fresh = str_make(k->text.ptr + k->sent, k->text.len - k->sent);
    if (!k->ended) fresh.len = utf8_complete_prefix(fresh);
    /* White space at either end is not of the text: what may be its end waits for more. */
    str words = str_trim(fresh);
    const char *from = k->sent ? fresh.ptr : words.ptr;
    fresh = words.len ? str_make(from, (size_t)(words.ptr + words.len - from)) : (str){0};
    if (fresh.len) k->sent = (size_t)(fresh.ptr + fresh.len - k->text.ptr);
    if (!k->ended && !fresh.len) return HTTP_WAIT;
    if (error_is_set(&k->err)) {
        sse_error(out, &k->err);
        return HTTP_DONE;
    }
    if (fresh.len) {
        sse_begin(out);
        json_out j = json_begin(out);
        json_obj(&j);
        json_kv_cstr(&j, "type", "transcript.text.delta");
        json_kv_str(&j, "delta", fresh);
        json_end_obj(&j);
        sse_end(out);
    }
    if (!k->ended) return HTTP_MORE;
    sse_begin(out);
    json_out j = json_begin(out);
    json_obj(&j);
    json_kv_cstr(&j, "type", "transcript.text.done");
    json_kv_str(&j, "text", str_trim(buf_str(&k->text)));
    put_usage(&j, k);
    json_end_obj(&j);
    sse_end(out);
    return HTTP_DONE;
}

/* ── entry ── */

static const char *find_extension(const multipart_part *audio, error *err) {
    const char *dot = strrchr(audio->filename, '.');
    for (int i = 0; dot && extensions[i]; i++)
        if (strcasecmp(dot + 1, extensions[i]) == 0) return extensions[i];
    error_set(
        err, ERR_INVALID_VALUE, "file",
        "Invalid file format. Supported formats: flac, m4a, mp3, mp4, mpeg, mpga, oga, ogg, wav, webm.");
    return NULL;
}

static char *copy(http_req *r, str s) {
    return arena_dup(http_arena(r), s.ptr ? s : STR(""));
}

static bool start(api *a, http_req *r, job *k, error *err) {
    json_t *body = form_parse(r, fields, sizeof fields / sizeof fields[0], &k->form, err);
    field_ctx ctx = {.mem = http_arena(r), .user = a};
    if (!body ||
        !fields_decode(&ctx, body, fields, sizeof fields / sizeof fields[0], "", &k->p, err))
        return false;
    const multipart_part *audio = form_need_file(&k->form, "file", err);
    const char *extension = audio ? find_extension(audio, err) : NULL;
    if (!extension) return false;
    if (k->p.stream && k->translates)
        return error_set(err, ERR_UNSUPPORTED_VALUE, "stream", "Translations cannot be streamed.");
    if (!a->o.transcribe_command)
        return error_set(
            err, ERR_NOT_IMPLEMENTED, NULL,
            "oriel has no model that hears. Start it with --transcribe-command to let a program of yours do it.");
    k->seconds = measure(audio->body);
    char temperature[32];
    snprintf(temperature, sizeof temperature, "%g", k->p.temperature);
    if (k->p.prompt.len && memchr(k->p.prompt.ptr, 0, k->p.prompt.len))
        return error_set(err, ERR_INVALID_VALUE, "prompt",
                         "Invalid 'prompt': it holds a NUL character.");
    char *language = copy(r, k->p.language), *prompt = copy(r, k->p.prompt);
    if (!language || !prompt)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    const char *const argv[] = {"sh",
                                "-c",
                                a->o.transcribe_command,
                                "oriel",
                                k->translates ? "translate" : "transcribe",
                                extension,
                                language,
                                prompt,
                                temperature,
                                NULL};
    const char *const hidden[] = {a->o.data_dir, NULL};
    sandbox_command c = {
        .argv = argv,
        .input = audio->body,
        .sees_files = true,
        .hidden = hidden,
        .limits = {.wall_ms = WALL_SECONDS * 1000,
                   .cpu_seconds = 4 * WALL_SECONDS,
                   .memory_bytes = 1ull << 40,
                   .output_bytes = 16 << 20},
    };
    k->b = backend_start(r, &c, (backend_filter){0}, err);
    return k->b != NULL;
}

static void answer(api *a, http_req *r, bool translates) {
    error err = {0};
    job *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k) {
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
        http_reply_error(r, &err);
        return;
    }
    http_own(r, k, free_job);
    k->translates = translates;
    if (!start(a, r, k, &err))
        http_reply_error(r, &err);
    else if (k->p.stream)
        http_reply_stream(r, "text/event-stream", pull, k);
    else
        http_reply_later(r, step, k);
}

void route_transcriptions(api *a, http_req *r, str arg) {
    (void)arg;
    answer(a, r, false);
}

void route_translations(api *a, http_req *r, str arg) {
    (void)arg;
    answer(a, r, true);
}
