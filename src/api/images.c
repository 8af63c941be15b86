/* POST /v1/images/generations, /edits and /variations. oriel has no model that
 * draws: the request is checked, then given to the operator's own program
 * (--image-command), which runs in the sandbox once per image: a shell line that
 * writes a PNG, JPEG or WebP on standard output. It is told, as $1 … $4: what to do
 * ("generate", "edit" or "vary"), the width and the height (0: as it likes), the prompt;
 * on standard input it finds the image to edit or vary. */
#include <stdio.h>
#include <stdlib.h>

#include "api/backend.h"
#include "api/form.h"

enum {
    MAX_PROMPT = 32000,
    MAX_IMAGES = 10,
    MAX_PARTIAL = 3,
    MAX_SIDE = 8192,
    WALL_SECONDS = 600,
    MAX_IMAGE_BYTES = 64 << 20
};

typedef enum task { GENERATE, EDIT, VARY } task;
static const char *const task_names[] = {"generate", "edit", "vary"};

typedef struct params {
    str model, prompt;
    int64_t n;
    int width, height, format, response;
} params;

static bool decode_size(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    params *p = out;
    str s;
    char text[24], end;
    if (!field_str(v, path, &s, err)) return false;
    if (str_is(s, "auto")) return true;
    snprintf(text, sizeof text, "%.*s", STR_ARG(s));
    if (s.len < sizeof text && sscanf(text, "%dx%d%c", &p->width, &p->height, &end) == 2 &&
        p->width > 0 && p->width <= MAX_SIDE && p->height > 0 && p->height <= MAX_SIDE)
        return true;
    return error_set(err, ERR_INVALID_VALUE, path,
                     "Invalid value: '%.40s'. A size is 'auto' or WIDTHxHEIGHT, each up to %d.",
                     s.len ? s.ptr : "", MAX_SIDE);
}

static bool decode_stream(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    bool on;
    return field_bool(v, path, &on, err) &&
           (!on || gen_decode_not_implemented(c, v, path, out, err));
}

static bool decode_partial(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    int64_t n;
    return field_int(v, path, 0, MAX_PARTIAL, &n, err) &&
           (!n || gen_decode_not_implemented(c, v, path, out, err));
}

static const char *const responses[] = {"url", "b64_json", NULL};
enum { RESPONSE_URL };
static const char *const qualities[] = {"standard", "hd", "low", "medium", "high", "auto", NULL};
static const char *const styles[] = {"vivid", "natural", NULL};
static const char *const backgrounds[] = {"transparent", "opaque", "auto", NULL};
static const char *const moderations[] = {"low", "auto", NULL};
static const char *const fidelities[] = {"high", "low", NULL};
static const char *const outputs[] = {"png", "jpeg", "webp", NULL};

static const field fields[] = {
    {.name = "model",
     .kind = FIELD_STR,
     .offset = offsetof(params, model),
     .doc = "any name: the configured command decides"},
    {.name = "prompt",
     .kind = FIELD_STR,
     .offset = offsetof(params, prompt),
     .max = MAX_PROMPT,
     .doc = "required but for variations"},
    {.name = "n",
     .kind = FIELD_INT,
     .offset = offsetof(params, n),
     .min = 1,
     .max = MAX_IMAGES,
     .doc = "one after the other"},
    {.name = "size", .kind = FIELD_CUSTOM, .decode = decode_size, .doc = "auto or WIDTHxHEIGHT"},
    {.name = "response_format",
     .kind = FIELD_ENUM,
     .offset = offsetof(params, response),
     .values = responses,
     .doc = "b64_json, or url: a data: URL"},
    {.name = "output_format",
     .kind = FIELD_ENUM,
     .offset = offsetof(params, format),
     .values = outputs,
     .doc = "checked; the command decides"},
    {.name = "stream",
     .kind = FIELD_CUSTOM,
     .decode = decode_stream,
     .doc = "false; a stream of images is a 501"},
    {.name = "partial_images",
     .kind = FIELD_CUSTOM,
     .decode = decode_partial,
     .doc = "0; more is a 501"},
    {.name = "quality",
     .kind = FIELD_ENUM,
     .offset = FIELD_NOWHERE,
     .values = qualities,
     .doc = "checked, no effect"},
    {.name = "style",
     .kind = FIELD_ENUM,
     .offset = FIELD_NOWHERE,
     .values = styles,
     .doc = "checked, no effect"},
    {.name = "background",
     .kind = FIELD_ENUM,
     .offset = FIELD_NOWHERE,
     .values = backgrounds,
     .doc = "checked, no effect"},
    {.name = "moderation",
     .kind = FIELD_ENUM,
     .offset = FIELD_NOWHERE,
     .values = moderations,
     .doc = "checked, no effect"},
    {.name = "output_compression",
     .kind = FIELD_INT,
     .offset = FIELD_NOWHERE,
     .min = 0,
     .max = 100,
     .doc = "checked, no effect"},
    {.name = "input_fidelity",
     .kind = FIELD_ENUM,
     .offset = FIELD_NOWHERE,
     .values = fidelities,
     .doc = "checked, no effect"},
    {.name = "user", .kind = FIELD_STR, .offset = FIELD_NOWHERE, .doc = "accepted, no effect"},
};
const field_table image_fields = {fields, sizeof fields / sizeof fields[0]};

typedef struct job {
    api *a;
    task task;
    params p;
    multipart form;
    str image;    /* to edit or vary */
    char *prompt; /* in the request's arena */
    backend *b;
    buf fresh; /* the image being written */
    buf done;  /* finished ones, as the members of "data" */
    int64_t n_done, created;
    error err;
} job;

static void free_job(void *ctx) {
    job *k = ctx;
    buf_deinit(&k->fresh);
    buf_deinit(&k->done);
}

/* The kind of image by its first bytes, or NULL. */
static const char *image_type(str b) {
    if (str_starts(b, STR("\x89PNG\r\n\x1a\n"))) return "image/png";
    if (str_starts(b, STR("\xff\xd8\xff"))) return "image/jpeg";
    if (b.len > 12 && memcmp(b.ptr, "RIFF", 4) == 0 && memcmp(b.ptr + 8, "WEBP", 4) == 0)
        return "image/webp";
    return NULL;
}

static bool run_next(http_req *r, job *k, error *err) {
    char width[16], height[16];
    snprintf(width, sizeof width, "%d", k->p.width);
    snprintf(height, sizeof height, "%d", k->p.height);
    const char *const argv[] = {
        "sh",      "-c", k->a->o.image_command, "oriel", task_names[k->task], width, height,
        k->prompt, NULL};
    const char *const hidden[] = {k->a->o.data_dir, NULL};
    sandbox_command c = {
        .argv = argv,
        .input = k->image,
        .sees_files = true,
        .hidden = hidden,
        .limits = {.wall_ms = WALL_SECONDS * 1000,
                   .cpu_seconds = 4 * WALL_SECONDS,
                   .memory_bytes = 1ull << 40,
                   .output_bytes = MAX_IMAGE_BYTES},
    };
    k->b = backend_start(r, &c, (backend_filter){0}, err);
    return k->b != NULL;
}

static void put_image(job *k, const char *type) {
    if (k->done.len) buf_append_char(&k->done, ',');
    buf_append_cstr(&k->done,
                    k->p.response == RESPONSE_URL ? "{\"url\":\"data:" : "{\"b64_json\":\"");
    if (k->p.response == RESPONSE_URL) buf_printf(&k->done, "%s;base64,", type);
    api_put_base64(&k->done, buf_str(&k->fresh));
    buf_append_cstr(&k->done, "\"}");
    buf_clear(&k->fresh);
    k->n_done++;
}

static bool step(http_req *r, void *ctx) {
    job *k = ctx;
    if (!backend_take(k->b, &k->fresh, &k->err)) return false;
    const char *type = image_type(buf_str(&k->fresh));
    if (!error_is_set(&k->err) && !type)
        error_set(&k->err, ERR_IO, NULL,
                  "The image command wrote something that is no PNG, JPEG or WebP.");
    if (!error_is_set(&k->err)) {
        put_image(k, type);
        if (k->n_done < k->p.n && run_next(r, k, &k->err)) return false;
    }
    if (error_is_set(&k->err)) {
        http_reply_error(r, &k->err);
        return true;
    }
    buf body = {0};
    buf_printf(&body, "{\"created\":%lld,\"data\":[", (long long)k->created);
    buf_append_str(&body, buf_str(&k->done));
    buf_append_cstr(&body, "]}");
    if (k->done.failed) body.failed = true;
    http_reply(r, 200, "application/json", &body);
    return true;
}

static bool start(api *a, http_req *r, job *k, error *err) {
    enum { N_FIELDS = sizeof fields / sizeof fields[0] };
    json_t *body = k->task == GENERATE ? api_parse_body(r, err)
                                       : form_parse(r, fields, N_FIELDS, &k->form, err);
    field_ctx ctx = {.mem = http_arena(r), .user = a};
    k->a = a;
    k->p.n = 1;
    if (!body || !fields_decode(&ctx, body, fields, N_FIELDS, "", &k->p, err)) return false;
    if (k->task != VARY && !k->p.prompt.len)
        return error_set(err, ERR_MISSING_PARAMETER, "prompt",
                         "Missing required parameter: 'prompt'.");
    if (k->task != GENERATE) {
        const multipart_part *image = multipart_find(&k->form, "image");
        if (!image) image = multipart_find(&k->form, "image[]");
        if (!image) return form_need_file(&k->form, "image", err) != NULL;
        if (!image_type(image->body))
            return error_set(err, ERR_INVALID_VALUE, "image",
                             "Invalid 'image': expected a PNG, JPEG or WebP file.");
        k->image = image->body;
    }
    if (!a->o.image_command)
        return error_set(
            err, ERR_NOT_IMPLEMENTED, NULL,
            "oriel has no model that draws. Start it with --image-command to let a program of yours do it.");
    if (k->p.prompt.len && memchr(k->p.prompt.ptr, 0, k->p.prompt.len))
        return error_set(err, ERR_INVALID_VALUE, "prompt",
                         "Invalid 'prompt': it holds a NUL character.");
    k->prompt = arena_dup(http_arena(r), k->p.prompt.ptr ? k->p.prompt : STR(""));
    if (!k->prompt)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    k->created = api_now();
    return run_next(r, k, err);
}

static void answer(api *a, http_req *r, task t) {
    error err = {0};
    job *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k)
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    else {
        http_own(r, k, free_job);
        k->task = t;
        if (start(a, r, k, &err)) {
            http_reply_later(r, step, k);
            return;
        }
    }
    http_reply_error(r, &err);
}

void route_image_generations(api *a, http_req *r, str arg) {
    (void)arg;
    answer(a, r, GENERATE);
}
void route_image_edits(api *a, http_req *r, str arg) {
    (void)arg;
    answer(a, r, EDIT);
}
void route_image_variations(api *a, http_req *r, str arg) {
    (void)arg;
    answer(a, r, VARY);
}
