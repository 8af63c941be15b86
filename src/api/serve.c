/* The door's inside: admission (Host, origin, key), routing, and the pieces
 * every route shares. */
#include "api/serve.h"

#include "api/fair.h"
#include "api/store.h"
#include "api/worker.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <time.h>

#include "base/clock.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/os.h"

/* ── admission ── */

/* "host:port" or "[v6]:port" without the port. */
static str host_name(const char *host) {
    str h = str_from(host);
    if (h.len && h.ptr[0] == '[') {
        ptrdiff_t end = str_find(h, STR("]"), 0);
        return end > 0 ? str_make(h.ptr + 1, (size_t)end - 1) : h;
    }
    ptrdiff_t colon = str_find(h, STR(":"), 0);
    if (colon >= 0 && str_find(h, STR(":"), (size_t)colon + 1) < 0) h.len = (size_t)colon;
    return h;
}

static bool is_loopback(str h) {
    if (str_is(h, "::1")) return true;
    if (h.len == 9 && strncasecmp(h.ptr, "localhost", 9) == 0) return true;
    if (h.len > 10 && strncasecmp(h.ptr + h.len - 10, ".localhost", 10) == 0) return true;
    if (!str_starts(h, STR("127."))) return false;
    for (size_t i = 0; i < h.len; i++) /* 127.0.0.1.evil.example is a name, not an address */
        if (h.ptr[i] != '.' && (h.ptr[i] < '0' || h.ptr[i] > '9')) return false;
    return true;
}

static bool host_is_allowed(const api *a, const char *host) {
    if (!host) return true; /* HTTP/1.0 */
    str h = host_name(host);
    if (is_loopback(h) || str_is(h, a->o.host)) return true;
    for (size_t i = 0; i < a->o.n_allowed_hosts; i++) {
        str allowed = str_from(a->o.allowed_hosts[i]);
        if (h.len == allowed.len && strncasecmp(h.ptr, allowed.ptr, h.len) == 0) return true;
    }
    return false;
}

static bool origin_is_allowed(const api *a, const char *origin) {
    for (size_t i = 0; i < a->o.n_cors_origins; i++)
        if (strcmp(a->o.cors_origins[i], "*") == 0 || strcmp(a->o.cors_origins[i], origin) == 0)
            return true;
    const char *host = strstr(origin, "://");
    if (!host || (strncmp(origin, "http://", 7) != 0 && strncmp(origin, "https://", 8) != 0))
        return false;
    return is_loopback(host_name(host + 3));
}

/* Every byte of every key is looked at, so the time tells nothing about a near miss. */
static bool secret_equals(str secret, str given) {
    unsigned diff = secret.len != given.len;
    for (size_t i = 0; i < given.len; i++)
        diff |= (unsigned char)given.ptr[i] ^
                (unsigned char)(secret.len ? secret.ptr[i % secret.len] : 0);
    return diff == 0;
}

static bool check_key(const api *a, http_req *r, error *err) {
    if (!a->o.n_keys) return true;
    const char *auth = http_header(r, "Authorization");
    const char *given = NULL;
    if (auth && strncasecmp(auth, "Bearer ", 7) == 0) given = auth + 7;
    if (!given) given = http_header(r, "api-key");
    if (!given) given = http_header(r, "x-api-key");
    if (!given)
        return error_set(
            err, ERR_UNAUTHORIZED, NULL,
            "You didn't provide an API key. Send it as 'Authorization: Bearer YOUR_KEY'.");
    bool known = false;
    for (size_t i = 0; i < a->o.n_keys; i++)
        if (secret_equals(a->o.keys[i].secret, str_trim(str_from(given)))) {
            known = true;
            http_set_user(r, a->o.keys[i].name);
            http_set_client(r, fair_make_client(r, &a->o.keys[i]));
        }
    if (!known) return error_set(err, ERR_INVALID_API_KEY, NULL, "Incorrect API key provided.");
    return true;
}

/* A base URL without /v1, or a client that adds another one, is the commonest slip there is. */
static bool refuse_path(const char *method, const char *path, error *err) {
    char meant[64];
    bool twice = strncmp(path, "/v1/v1/", 7) == 0;
    int n = snprintf(meant, sizeof meant, "%s%s", twice ? "" : "/v1", path + (twice ? 3 : 0));
    bool is_there = n < (int)sizeof meant && route_find(method, meant).found == ROUTE_OK;
    return error_set(err, ERR_UNKNOWN_URL, NULL, "Invalid URL (%.16s %.200s).%s%s%s", method, path,
                     is_there ? " Did you mean " : "", is_there ? meant : "", is_there ? "?" : "");
}

static bool admit(void *ctx, http_req *r, error *err) {
    api *a = ctx;
    const char *origin = http_header(r, "Origin");
    if (origin && origin_is_allowed(a, origin)) {
        http_add_header(r, "Access-Control-Allow-Origin", origin);
        http_add_header(r, "Vary", "Origin");
        http_add_header(r, "Access-Control-Expose-Headers",
                        "x-request-id, openai-processing-ms, retry-after, "
                        "x-oriel-dropped-turns, x-oriel-dropped-tokens");
    }
    if (!host_is_allowed(a, http_header(r, "Host")))
        return error_set(
            err, ERR_FORBIDDEN, NULL,
            "The Host header names '%.80s', which this server is not known by. Start oriel with --allow-host to add it.",
            http_header(r, "Host"));
    if (strcmp(http_method(r), "OPTIONS") == 0) return true;
    route_match m = route_find(http_method(r), http_path(r));
    if (!(m.found == ROUTE_OK && m.open) && !check_key(a, r, err)) return false;
    const char *upgrade = http_header(r, "Upgrade");
    if (upgrade && strcasecmp(upgrade, "websocket") == 0 && strcmp(http_method(r), "GET") == 0 &&
        (m.found == ROUTE_WRONG_METHOD || m.found == ROUTE_NOT_IMPLEMENTED)) {
        /* Codex takes this status as "use HTTP from now on"; after any other it tries again. */
        http_add_header(r, "Upgrade", "HTTP/1.1");
        return error_set(
            err, ERR_UPGRADE_REQUIRED, NULL,
            "This server has no WebSockets. Send plain HTTP requests to %.200s; they can be streamed.",
            http_path(r));
    }
    if (m.found == ROUTE_WRONG_METHOD) {
        http_add_header(r, "Allow", m.allow);
        return error_set(err, ERR_METHOD, NULL, "Not allowed to %.16s on %.200s. Use %s.",
                         http_method(r), http_path(r), m.allow);
    }
    return m.found != ROUTE_UNKNOWN || refuse_path(http_method(r), http_path(r), err);
}

static bool has_place(void *ctx, http_req *r, error *err) {
    return fair_has_place(ctx, r, err);
}

static void handle(void *ctx, http_req *r) {
    api *a = ctx;
    if (strcmp(http_method(r), "OPTIONS") == 0) {
        http_add_header(r, "Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS, HEAD");
        const char *want = http_header(r, "Access-Control-Request-Headers");
        http_add_header(r, "Access-Control-Allow-Headers",
                        want ? want : "authorization, content-type");
        http_add_header(r, "Access-Control-Max-Age", "600");
        buf empty = {0};
        buf_reserve(&empty, 0);
        http_reply(r, 204, NULL, &empty);
        return;
    }
    route_match m = route_find(http_method(r), http_path(r));
    if (m.found == ROUTE_OK) {
        /* The pattern's argument points into the path, which lives as long as the request. */
        m.handler(a, r, m.arg);
        return;
    }
    error err = {0};
    error_set(&err, ERR_NOT_IMPLEMENTED, NULL,
              "%s %s is part of the OpenAI API but not implemented by oriel.", http_method(r),
              http_path(r));
    http_reply_error(r, &err);
}

static void render_error(void *ctx, http_req *r, const error *err, buf *out) {
    (void)ctx;
    if (anthropic_is_path(http_path(r)))
        anthropic_render_error(r, err, out);
    else
        api_render_error(err, out);
}

/* ── open, close ── */

api_options api_defaults(void) {
    return (api_options){.host = "127.0.0.1",
                         .port = 8080,
                         .n_threads = HTTP_THREADS,
                         .model_id = "default",
                         .sampling = sample_defaults(),
                         .limits = {{.max_tokens = -1}, {.max_tokens = -1}},
                         .truncation = -1,
                         .page = true};
}

api *api_open(chat *c, const api_options *o, error *err) {
    if (!is_loopback(str_from(o->host)) && !o->n_keys) {
        error_set(
            err, ERR_USAGE, "api-key",
            "Refusing to listen on %s without a key: anyone who reaches it could use the model. Add --api-key or --api-key-file, or stay on 127.0.0.1.",
            o->host);
        return NULL;
    }
    api *a = calloc(1, sizeof *a);
    if (!a) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the server.");
        return NULL;
    }
    a->chat = c;
    a->engine = chat_get_engine(c);
    a->o = *o;
    const model_info *m = engine_get_model(a->engine);
    uint64_t h = hash_combine(engine_numerics_id(a->engine), o->config_hash);
    h = hash_combine(h, hash_bytes(m->arch, strlen(m->arch), m->n_params ^ m->weight_bytes));
    h = hash_combine(h, hash_str(str_from(o->model_id)));
    snprintf(a->fingerprint, sizeof a->fingerprint, "fp_%012llx",
             (unsigned long long)(h & 0xFFFFFFFFFFFFull));
    if (o->data_dir) {
        if (!(a->store = store_open(o->data_dir, err))) {
            free(a);
            return NULL;
        }
        memcpy(a->secret, store_get_secret(a->store), sizeof a->secret);
    } else
        os_random(a->secret, sizeof a->secret);
    if (!(a->worker = worker_open(a, err))) {
        api_close(a);
        return NULL;
    }
    http_app app = {.ctx = a,
                    .admit = admit,
                    .has_place = has_place,
                    .handle = handle,
                    .render_error = render_error};
    http_options h_o = {.host = o->host, .port = o->port, .n_threads = o->n_threads};
    a->http = http_open(&h_o, &app, err);
    if (!a->http) {
        api_close(a);
        return NULL;
    }
    worker_start(a->worker);
    return a;
}

/* The worker's requests run the handlers too, so it stops first; what it still holds goes last. */
void api_close(api *a) {
    if (!a) return;
    worker_stop(a->worker);
    http_close(a->http);
    worker_close(a->worker);
    store_close(a->store);
    free(a);
}

size_t api_plan_bytes(bool files) {
    enum { OWN = 800 << 10, LIBRARIES = 2300 << 10 }; /* held to runs by tests/e2e/test_plan.py */
    return OWN + 2 * STORE_CACHE_BYTES + (files ? LIBRARIES : 0);
}

int api_get_port(const api *a) {
    return http_get_port(a->http);
}
const char *api_get_fingerprint(const api *a) {
    return a->fingerprint;
}

/* ── shared pieces ── */

static void drop_json(void *v) {
    json_decref(v);
}

/* Never fewer than there are: each value but the first follows one of these bytes. */
static size_t count_values(str json) {
    size_t n = 1;
    bool in_string = false;
    for (size_t i = 0; i < json.len; i++) {
        char c = json.ptr[i];
        if (in_string && c == '\\')
            i++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string)
            n += c == '{' ? API_OBJECT_VALUES : c == ',' || c == '[' || c == ':';
    }
    return n;
}

json_t *api_parse_body(http_req *r, error *err) {
    str body = http_body(r);
    if (str_trim(body).len == 0) {
        error_set(err, ERR_MALFORMED, NULL,
                  "The request body is empty; a JSON object is expected.");
        return NULL;
    }
    if (count_values(body) > API_MAX_VALUES) {
        error_set(err, ERR_BODY_TOO_LARGE, NULL,
                  "The body holds too many JSON values: at most %d, an object counting as %d.",
                  API_MAX_VALUES, API_OBJECT_VALUES);
        return NULL;
    }
    json_t *v = json_parse(body, err);
    if (!v) return NULL;
    http_own_late(r, v, drop_json);
    if (!json_is_object(v)) {
        error_set(err, ERR_INVALID_TYPE, NULL,
                  "The request body must be a JSON object, but it is %s.", field_type_name(v));
        return NULL;
    }
    return v;
}

bool api_check_model(const api *a, str name, error *err) {
    if (str_is(name, "default") || str_is(name, a->o.model_id)) return true;
    for (size_t i = 0; i < a->o.n_aliases; i++)
        if (str_is(name, a->o.aliases[i])) return true;
    return error_set(
        err, ERR_MODEL_NOT_FOUND, "model",
        "The model '%.*s' does not exist here. This server has '%s', which is also called 'default'; "
        "oriel serve --alias NAME gives it further names.",
        (int)(name.len > 100 ? 100 : name.len), name.ptr ? name.ptr : "", a->o.model_id);
}

void api_render_error(const error *err, buf *out) {
    const error_info *info = error_get_info(err->code);
    json_out j = json_begin(out);
    json_obj(&j);
    json_key(&j, "error");
    json_obj(&j);
    json_kv_cstr(&j, "message", err->message);
    json_kv_cstr(&j, "type", info->type);
    json_kv_cstr(&j, "param", err->param[0] ? err->param : NULL);
    json_kv_cstr(&j, "code", info->api_code);
    json_end_obj(&j);
    json_end_obj(&j);
}

void api_put_base64(buf *out, str bytes) {
    enum { MOST = 1 << 30 };
    char *at = bytes.len <= MOST ? buf_reserve(out, (bytes.len + 2) / 3 * 4 + 1) : NULL;
    if (at)
        out->len += (size_t)EVP_EncodeBlock((unsigned char *)at, (const unsigned char *)bytes.ptr,
                                            (int)bytes.len);
    else
        out->failed = true;
}

api_id api_make_id(const char *prefix) {
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    unsigned char bytes[24];
    os_random(bytes, sizeof bytes);
    api_id id;
    int n = snprintf(id.text, sizeof id.text - sizeof bytes, "%s", prefix);
    for (size_t i = 0; i < sizeof bytes; i++)
        id.text[n++] = letters[bytes[i] % (sizeof letters - 1)];
    id.text[n] = 0;
    return id;
}

int64_t api_now(void) {
    return (int64_t)time(NULL);
}

const char *api_finish_name(turn_finish f) {
    switch (f) {
    case TURN_LENGTH: return "length";
    case TURN_TOOL_CALLS: return "tool_calls";
    default: return "stop";
    }
}

static void put_token(json_out *j, str piece, float logprob) {
    json_kv_str(j, "token", piece);
    /* −infinity (a token that bias or a mask forced) has no JSON form; clients expect a number. */
    json_key(j, "logprob");
    json_put_float(j, logprob < -9999.0f ? -9999.0f : logprob);
    json_key(j, "bytes");
    json_arr(j);
    for (size_t i = 0; i < piece.len; i++) json_put_int(j, (unsigned char)piece.ptr[i]);
    json_end_arr(j);
}

void api_put_token_logprobs(json_out *j, const api *a, const choice *c, size_t from, size_t to) {
    tok *t = engine_get_tok(a->engine);
    for (size_t i = from; i < to; i++) {
        const choice_token *k = &c->tokens[i];
        json_obj(j);
        put_token(j, str_make(k->piece, k->piece_len), k->r.logprob);
        json_key(j, "top_logprobs");
        json_arr(j);
        for (int32_t n = 0; n < k->r.n_top; n++) {
            json_obj(j);
            put_token(j, t ? tok_piece(t, k->r.top[n].id) : (str){0}, k->r.top[n].logprob);
            json_end_obj(j);
        }
        json_end_arr(j);
        json_end_obj(j);
    }
}

void api_put_logprobs(json_out *j, const api *a, const choice *c, size_t from, size_t to) {
    json_obj(j);
    json_key(j, "content");
    json_arr(j);
    api_put_token_logprobs(j, a, c, from, to);
    json_end_arr(j);
    json_kv_null(j, "refusal");
    json_end_obj(j);
}

void sse_begin(buf *out) {
    buf_append(out, "data: ", 6);
}
void sse_end(buf *out) {
    buf_append(out, "\n\n", 2);
}
void sse_error(buf *out, const error *err) {
    sse_begin(out);
    api_render_error(err, out);
    sse_end(out);
}
void sse_done(buf *out) {
    buf_append_cstr(out, "data: [DONE]\n\n");
}
