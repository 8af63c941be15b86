/* Any bytes as the body of a request, for every route that decodes one: it is accepted, or refused with
 * an error object of the route's manner whose param says where; never a 5xx that was not promised, and
 * the same again when it is asked again. The first byte chooses the route, the rest is the body. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/serve.h"
#include "base/log.h"
#include "hub/hub.h"
#include "fuzz.h"

/* What runs a program, or keeps something on disk, is left out. */
static const char *const paths[] = {
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/responses/input_tokens",
    "/v1/responses/compact",
    "/v1/embeddings",
    "/v1/rerank",
    "/v1/moderations",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/tokenize",
    "/detokenize",
    "/v1/images/generations",
    "/v1/conversations",
    "/v1/batches",
    "/v1/uploads",
};
enum { N_PATHS = sizeof paths / sizeof paths[0], MAX_BODY = 4096 };

static api *open_server(void) {
    static hub_model m;
    error err = {0};
    engine_config c = engine_defaults();
    c.n_threads = 1;
    c.n_parallel = 2;
    c.n_queue = 4096; /* what is given up leaves a little later */
    c.max_context_tokens = c.max_kv_size = 1024;
    c.load = MODEL_LOAD_MMAP;
    chat_options co = {0};
    api_options o = api_defaults();
    o.port = 0;
    log_set_level(LOG_ERROR);
    engine *e = hub_open(NULL, NULL, &m, &err) ? engine_open(m.f, &c, &err) : NULL;
    chat *t = e ? chat_new(e, &co, &err) : NULL;
    api *a = t ? api_open(t, &o, &err) : NULL;
    if (!a) fprintf(stderr, "%s\n", err.message);
    EXPECT(a);
    return a;
}

static void ignore(void *ctx) {
    (void)ctx;
}

static bool is_text_or_null(json_t *v) {
    return json_is_string(v) || json_is_null(v);
}

static void check_error(const char *path, int status, str body) {
    error err = {0};
    json_t *v = json_parse(body, &err), *e = json_object_get(v, "error");
    EXPECT(json_is_object(e));
    EXPECT(json_string_length(json_object_get(e, "message")) > 0);
    EXPECT(json_string_length(json_object_get(e, "type")) > 0);
    if (anthropic_is_path(path)) {
        EXPECT(strcmp(json_string_value(json_object_get(v, "type")), "error") == 0);
    } else {
        EXPECT(is_text_or_null(json_object_get(e, "param")));
        EXPECT(is_text_or_null(json_object_get(e, "code")));
    }
    EXPECT(status == 400 || status == 404 || status == 413 || status == 429 || status == 501);
    json_decref(v);
}

/* 0: accepted, and its work was begun. */
static int ask(const api *a, const char *path, str body, buf *answer) {
    http_req *r = http_local_open(a->http, "POST", path, body, (str){0}, ignore, NULL);
    EXPECT(r);
    int status = 0;
    str said = {0};
    if (!http_local_poll(r, &status, &said)) status = 0;
    if (status >= 400) check_error(path, status, said);
    buf_append_str(answer, said);
    http_local_close(r);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static api *a;
    if (!a) a = open_server();
    if (size < 1 || size > MAX_BODY) return 0;
    const char *path = paths[data[0] % N_PATHS];
    str body = str_make((const char *)data + 1, size - 1);
    buf first = {0}, again = {0};
    int status = ask(a, path, body, &first), same = ask(a, path, body, &again);
    /* A short answer may be there at once, or not; a refusal is a refusal. */
    EXPECT((status >= 400) == (same >= 400));
    if (status >= 400) {
        EXPECT(status == same);
        /* Anthropic's error names its request. */
        EXPECT(anthropic_is_path(path) || str_eq(buf_str(&first), buf_str(&again)));
    }
    buf_deinit(&first);
    buf_deinit(&again);
    return 0;
}
