/* What the routes of this room share; not a door. */
#ifndef API_SERVE_H
#define API_SERVE_H

#include "api/api.h"
#include "api/fields.h"
#include "api/routes.h"
#include "base/json.h"

struct api {
    chat *chat;
    engine *engine;
    api_options o;
    http_server *http;
    struct store *store; /* NULL: nothing is kept */
    unsigned char secret[32];
    struct worker *worker;
    char fingerprint[24];
    char bound_host[256];
};

enum {
    API_MAX_CHOICES = 128,
    API_MAX_MESSAGES = 16384,
    API_MAX_TOOLS = 128,
    API_MAX_PARTS = 4096,
    API_MAX_NAME = 64,        /* of functions, and of who speaks */
    API_MAX_VALUES = 1 << 20, /* JSON values of a body; an object counts as API_OBJECT_VALUES … */
    API_OBJECT_VALUES = 8,    /* … for it takes that much more memory */
};

/* The body as a JSON object; it lives as long as the request. NULL after the error was set. */
json_t *api_parse_body(http_req *r, error *err);
/* "default", the model's id or one of its aliases; anything else is a 404. */
bool api_check_model(const api *a, str name, error *err);
/* {"error":{…}} */
void api_render_error(const error *err, buf *out);
/* Paths that speak Anthropic's Messages API, and its error object (anthropic.c). */
bool anthropic_is_path(const char *path);
void anthropic_render_error(http_req *r, const error *err, buf *out);
/* prefix + 24 random letters, NUL-terminated. */
typedef struct api_id {
    char text[48];
} api_id;
api_id api_make_id(const char *prefix);
int64_t api_now(void); /* Unix seconds */

/* How long a prompt may be and what happens beyond, as a request says it; −1 = it does not. */
typedef struct gen_context {
    int64_t max_context_tokens, max_context_tokens_margin;
    int64_t perf_max_tokens, perf_max_context_tokens, perf_max_kv_size, perf_prompt_token_budget;
    int performance_mode, truncation; /* 0, 1 (on; auto) */
} gen_context;

/* Members every generating route has, as OpenAI names them. */
typedef struct gen_params {
    str model;
    chat_answer answer; /* what `grammar` says; kind CHAT_ANSWER_TEXT: nothing */
    sample_params sampling;
    bool has_seed;
    int64_t seed;
    int64_t n, max_tokens,
        max_completion_tokens;  /* −1 = not given; gen_finish: max_tokens is the limit */
    int64_t default_max_tokens; /* the route's own, or −1 for the server's */
    str *stops;
    size_t n_stops;
    bool stream, include_usage, live_usage, has_stream_options;
    sample_bias *bias;
    int64_t n_bias;
    int64_t top_k, min_tokens_to_keep, repetition_window, max_kv_size;
    bool ignore_eos;
    gen_context asked;     /* what the request says; gen_finish makes the rules of it */
    context_rules context; /* for turn_request */
} gen_params;

/* Custom decoders on a struct whose first member is gen_params. */
field_fn gen_decode_stop, gen_decode_logit_bias, gen_decode_stream_options, gen_decode_metadata,
    gen_decode_unsupported, gen_decode_not_implemented, gen_decode_grammar,
    gen_decode_performance_mode, gen_decode_seed;
extern const char *const gen_service_tiers[], *const gen_truncations[];

/* How much of the context a request takes, the same rows on every route: oriel's own, so no API's names
 * are in their way. */
#define GEN_LIMIT_FIELDS                                                                   \
    {.name = "max_kv_size",                                                                \
     .kind = FIELD_INT,                                                                    \
     .offset = offsetof(gen_params, max_kv_size),                                          \
     .min = 1,                                                                             \
     .max = 1ll << 40,                                                                     \
     .doc = "extension: a smaller window for this request"},                               \
        {.name = "truncation",                                                             \
         .kind = FIELD_ENUM,                                                               \
         .offset = offsetof(gen_params, asked.truncation),                                 \
         .values = gen_truncations,                                                        \
         .doc = "extension: auto cuts a prompt that is too long, disabled refuses it"},    \
        {.name = "max_context_tokens",                                                     \
         .kind = FIELD_INT,                                                                \
         .offset = offsetof(gen_params, asked.max_context_tokens),                         \
         .min = 1,                                                                         \
         .max = 1ll << 40,                                                                 \
         .doc = "extension: the longest prompt; what is longer loses its oldest turns"},   \
        {.name = "max_context_tokens_margin",                                              \
         .kind = FIELD_INT,                                                                \
         .offset = offsetof(gen_params, asked.max_context_tokens_margin),                  \
         .min = 0,                                                                         \
         .max = 1ll << 40,                                                                 \
         .doc = "extension: prompts stay this far below it"},                              \
        {.name = "performance_mode",                                                       \
         .kind = FIELD_CUSTOM,                                                             \
         .decode = gen_decode_performance_mode,                                            \
         .doc = "extension: the perf_ values take the place of their plain twins"},        \
        {.name = "perf_max_tokens",                                                        \
         .kind = FIELD_INT,                                                                \
         .offset = offsetof(gen_params, asked.perf_max_tokens),                            \
         .min = 1,                                                                         \
         .max = 1ll << 40,                                                                 \
         .doc = "extension, in performance mode: max_tokens"},                             \
        {.name = "perf_max_context_tokens",                                                \
         .kind = FIELD_INT,                                                                \
         .offset = offsetof(gen_params, asked.perf_max_context_tokens),                    \
         .min = 1,                                                                         \
         .max = 1ll << 40,                                                                 \
         .doc = "extension, in performance mode: max_context_tokens"},                     \
        {.name = "perf_max_kv_size",                                                       \
         .kind = FIELD_INT,                                                                \
         .offset = offsetof(gen_params, asked.perf_max_kv_size),                           \
         .min = 1,                                                                         \
         .max = 1ll << 40,                                                                 \
         .doc = "extension, in performance mode: max_kv_size"},                            \
    {                                                                                      \
        .name = "perf_prompt_token_budget", .kind = FIELD_INT,                             \
        .offset = offsetof(gen_params, asked.perf_prompt_token_budget), .min = 1,          \
        .max = 1ll << 40, .doc = "extension, in performance mode: prompts are cut to this" \
    }

/* The rows every generating route shares, for a struct whose first member is gen_params. */
#define GEN_FIELDS(doc_seed)                                                                \
    {.name = "temperature",                                                                 \
     .kind = FIELD_NUM,                                                                     \
     .offset = offsetof(gen_params, sampling.temperature),                                  \
     .min = 0,                                                                              \
     .max = 2,                                                                              \
     .doc = "0 is greedy"},                                                                 \
        {.name = "top_p",                                                                   \
         .kind = FIELD_NUM,                                                                 \
         .offset = offsetof(gen_params, sampling.top_p),                                    \
         .min = 0,                                                                          \
         .max = 1,                                                                          \
         .doc = "nucleus"},                                                                 \
        {.name = "n",                                                                       \
         .kind = FIELD_INT,                                                                 \
         .offset = offsetof(gen_params, n),                                                 \
         .min = 1,                                                                          \
         .max = API_MAX_CHOICES,                                                            \
         .doc = "choices share the prompt; choice i draws from seed and i"},                \
        {.name = "stream",                                                                  \
         .kind = FIELD_BOOL,                                                                \
         .offset = offsetof(gen_params, stream),                                            \
         .doc = "SSE"},                                                                     \
        {.name = "stream_options",                                                          \
         .kind = FIELD_CUSTOM,                                                              \
         .decode = gen_decode_stream_options,                                               \
         .doc = "include_usage; with it continuous_usage_stats (extension): counts in "     \
                "every chunk, timings and window in the last"},                             \
        {.name = "stop",                                                                    \
         .kind = FIELD_CUSTOM,                                                              \
         .decode = gen_decode_stop,                                                         \
         .doc = "string or up to 4"},                                                       \
        {.name = "presence_penalty",                                                        \
         .kind = FIELD_NUM,                                                                 \
         .offset = offsetof(gen_params, sampling.presence_penalty),                         \
         .min = -2,                                                                         \
         .max = 2,                                                                          \
         .doc = "over generated tokens"},                                                   \
        {.name = "frequency_penalty",                                                       \
         .kind = FIELD_NUM,                                                                 \
         .offset = offsetof(gen_params, sampling.frequency_penalty),                        \
         .min = -2,                                                                         \
         .max = 2,                                                                          \
         .doc = "over generated tokens"},                                                   \
        {.name = "logit_bias",                                                              \
         .kind = FIELD_CUSTOM,                                                              \
         .decode = gen_decode_logit_bias,                                                   \
         .doc = "-100 bans, 100 forces"},                                                   \
        {.name = "seed", .kind = FIELD_CUSTOM, .decode = gen_decode_seed, .doc = doc_seed}, \
        {.name = "user",                                                                    \
         .kind = FIELD_STR,                                                                 \
         .offset = FIELD_NOWHERE,                                                           \
         .doc = "accepted, no effect"},                                                     \
        {.name = "top_k",                                                                   \
         .kind = FIELD_INT,                                                                 \
         .offset = offsetof(gen_params, top_k),                                             \
         .min = 0,                                                                          \
         .max = 1 << 30,                                                                    \
         .doc = "extension; 0 is off"},                                                     \
        {.name = "min_p",                                                                   \
         .kind = FIELD_NUM,                                                                 \
         .offset = offsetof(gen_params, sampling.min_p),                                    \
         .min = 0,                                                                          \
         .max = 1,                                                                          \
         .doc = "extension"},                                                               \
        {.name = "min_tokens_to_keep",                                                      \
         .kind = FIELD_INT,                                                                 \
         .offset = offsetof(gen_params, min_tokens_to_keep),                                \
         .min = 1,                                                                          \
         .max = 1 << 20,                                                                    \
         .doc = "extension"},                                                               \
        {.name = "repetition_penalty",                                                      \
         .kind = FIELD_NUM,                                                                 \
         .offset = offsetof(gen_params, sampling.repetition_penalty),                       \
         .min = 0,                                                                          \
         .max = 100,                                                                        \
         .doc = "extension; 1 is off"},                                                     \
        {.name = "repetition_context_size",                                                 \
         .kind = FIELD_INT,                                                                 \
         .offset = offsetof(gen_params, repetition_window),                                 \
         .min = 0,                                                                          \
         .max = SAMPLE_MAX_REPEAT_WINDOW,                                                   \
         .doc = "extension; default 20"},                                                   \
        {.name = "ignore_eos",                                                              \
         .kind = FIELD_BOOL,                                                                \
         .offset = offsetof(gen_params, ignore_eos),                                        \
         .doc = "extension"},                                                               \
        GEN_LIMIT_FIELDS,                                                                   \
        {.name = "typical_p",                                                               \
         .kind = FIELD_NUM,                                                                 \
         .offset = offsetof(gen_params, sampling.typical_p),                                \
         .min = 0,                                                                          \
         .max = 1,                                                                          \
         .doc = "extension; 1 is off"},                                                     \
        {.name = "xtc_probability",                                                         \
         .kind = FIELD_NUM,                                                                 \
         .offset = offsetof(gen_params, sampling.xtc_probability),                          \
         .min = 0,                                                                          \
         .max = 1,                                                                          \
         .doc = "extension; 0 is off"},                                                     \
        {.name = "xtc_threshold",                                                           \
         .kind = FIELD_NUM,                                                                 \
         .offset = offsetof(gen_params, sampling.xtc_threshold),                            \
         .min = 0,                                                                          \
         .max = 0.5,                                                                        \
         .doc = "extension; default 0.1"},                                                  \
    {                                                                                       \
        .name = "grammar", .kind = FIELD_CUSTOM, .decode = gen_decode_grammar,              \
        .doc = "extension: a GBNF or Lark text, or {syntax, definition}; regex too"         \
    }

gen_params gen_defaults(const api *a);
/* After decoding: bounds against each other, seeds; fills sampling. */
bool gen_finish(const api *a, gen_params *p, error *err);
/* Seed of choice i: the request's own for i = 0, so that n = 1 is the plain case. */
uint64_t gen_seed(const gen_params *p, size_t i);

/* ── Choices: the turns of one request, drained together ── */
typedef struct choice_call {
    api_id id;
    buf name, arguments;
} choice_call;

typedef struct choice_token { /* one sampled (or scored) token with its logprobs */
    char *piece;              /* [piece_len] */
    size_t piece_len;
    sample_result r;
} choice_token;

typedef struct choice {
    turn *t;
    size_t index;
    bool ended;
    buf content, reasoning;
    choice_call *calls;
    size_t n_calls;
    choice_token *tokens; /* kept only when asked for; streams drop those they have sent */
    size_t n_tokens, cap_tokens, n_tokens_sent;
    size_t n_prompt_tokens_scored; /* leading entries of tokens that belong to the prompt */
    double logprob_sum;
    size_t n_logprob;
    turn_finish finish;
    turn_usage usage;
    error err;
} choice;

typedef struct choices {
    choice *items;
    size_t n;
    bool keep_tokens;
    const int32_t
        *predicted; /* what the request expected to come; usage counts how much of it did */
    size_t n_predicted;
} choices;

/* Starts n turns; all or none. Each `make` call fills the request of choice i. The set is owned by
 * the HTTP request. */
choices *choices_start(api *a, http_req *r, size_t n, bool keep_tokens,
                       void (*make)(void *ctx, size_t i, turn_request *out), void *ctx, error *err);
/* The same for work that outlives its request: the caller owns the set, wake is the turn's, client the
 * engine's. */
choices *choices_new(api *a, uint64_t client, size_t n, bool keep_tokens,
                     void (*make)(void *ctx, size_t i, turn_request *out), void *ctx,
                     void (*wake)(void *), void *wake_ctx, error *err);
void choices_free(choices *c);
/* What was left out of the prompts and of schemas, as headers; choices_start does it itself. */
void choices_put_headers(const choices *c, http_req *r);
/* Takes the next event of choice i into its record; false when there is none now. */
bool choice_next(choices *c, size_t i, turn_event *e);
/* Drains all; true when every choice has ended. */
bool choices_drain(choices *c);
/* What a stream makes of the choices' events; `job` is the route's own. */
typedef struct choices_sink {
    void (*put_event)(void *job, choice *c, const turn_event *e, buf *out);
    void (*put_head)(void *job, json_out *j); /* what every chunk begins with: id, object, … */
    bool include_usage;
    size_t per_prompt; /* choices that share one prompt */
    /* May be NULL. After every choice ended: false = not yet, http_wake follows. */
    bool (*may_end)(void *job, error *err);
    bool timings; /* and the window, in the usage chunk */
} choices_sink;
/* The events, then the usage chunk if it was asked for, then [DONE]; a failure ends the stream with
 * an error event. To be called from a pull function; not again after HTTP_DONE. */
http_pull_result choices_pull(choices *c, const choices_sink *sink, void *job, buf *out);
/* A prompt counts once, however many choices share it; every choice's tokens count. */
void choices_put_usage(const choices *c, size_t per_prompt, json_out *j);
/* A chunk's own "usage", if the request asked for usage at all: null, or the counts so far. */
void choices_put_chunk_usage(json_out *j, const gen_params *p, const choice *c);
/* The first failure among them, or NULL. */
const error *choices_failure(const choices *c);
void choice_drop_tokens(choice *c);

/* "token", "bytes", "logprob", "top_logprobs" objects of tokens [from, to) as chat's logprobs. */
void api_put_logprobs(json_out *j, const api *a, const choice *c, size_t from, size_t to);
/* The objects alone, into an array that is open. */
void api_put_token_logprobs(json_out *j, const api *a, const choice *c, size_t from, size_t to);
const char *api_finish_name(turn_finish f);
/* "data: " + JSON + blank line around what the caller writes in between. */
/* bytes as base64, padded. At most 1 GiB; fails stickily. */
void api_put_base64(buf *out, str bytes);
void sse_begin(buf *out);
void sse_end(buf *out);
void sse_error(buf *out, const error *err);
void sse_done(buf *out);

#endif
