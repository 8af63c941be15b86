/* POST /v1/embeddings and /v1/rerank: hidden states of the loaded model, pooled
 * over the text and scaled to length 1. A chat model's are no match for a model
 * trained to embed, but they are real, deterministic, and in the same process.
 *
 * Rerank is the cosine of the query's and each document's vector, moved to 0 … 1.
 */
#include <math.h>
#include <stdlib.h>

#include "api/fair.h"

enum { MAX_INPUTS = 2048, MAX_INPUT_TOKENS = 300000 };

typedef struct input {
    str text;
    bool is_ids;
    tok_ids ids;
} input;

typedef struct params {
    str model, query;
    json_t *input, *documents;
    int64_t dimensions, top_n;
    int encoding, pooling;
    bool return_documents;
} params;

static const char *const encodings[] = {"float", "base64", NULL};
enum { ENCODING_BASE64 = 1 };
static const char *const poolings[] = {"mean", "last", NULL};

static bool keep_documents(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    ((params *)out)->documents = v;
    return field_array(v, path, MAX_INPUTS, err);
}

#define POOLING_ROW                                                                 \
    {                                                                               \
        .name = "pooling", .kind = FIELD_ENUM, .offset = offsetof(params, pooling), \
        .values = poolings, .doc = "extension: mean (default) or last"              \
    }

static const field embed_fields[] = {
    {.name = "model",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(params, model),
     .doc = "the loaded model or default"},
    {.name = "input",
     .kind = FIELD_TEXTS,
     .required = true,
     .offset = offsetof(params, input),
     .doc = "text, texts, token ids, or lists of them; at most 2,048"},
    {.name = "dimensions",
     .kind = FIELD_INT,
     .offset = offsetof(params, dimensions),
     .min = 1,
     .max = 1 << 20,
     .doc = "the first so many, scaled to length 1 again"},
    {.name = "encoding_format",
     .kind = FIELD_ENUM,
     .offset = offsetof(params, encoding),
     .values = encodings,
     .doc = "float or base64 (float32, little-endian)"},
    {.name = "user", .kind = FIELD_STR, .offset = FIELD_NOWHERE, .doc = "accepted, no effect"},
    POOLING_ROW,
};
const field_table embedding_fields = {embed_fields, sizeof embed_fields / sizeof embed_fields[0]};

static const field rank_fields[] = {
    {.name = "model",
     .kind = FIELD_STR,
     .offset = offsetof(params, model),
     .doc = "the loaded model or default"},
    {.name = "query",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(params, query),
     .doc = "what the documents are compared with"},
    {.name = "documents",
     .kind = FIELD_CUSTOM,
     .required = true,
     .decode = keep_documents,
     .doc = "strings, or objects with text; at most 2,047"},
    {.name = "top_n",
     .kind = FIELD_INT,
     .offset = offsetof(params, top_n),
     .min = 1,
     .max = 1 << 20,
     .doc = "only the best so many"},
    {.name = "return_documents",
     .kind = FIELD_BOOL,
     .offset = offsetof(params, return_documents),
     .doc = "repeat them in the answer"},
    POOLING_ROW,
};
const field_table rerank_fields = {rank_fields, sizeof rank_fields / sizeof rank_fields[0]};

/* ── inputs ── */

static bool no_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
}

static bool take_ids(const api *a, json_t *v, const char *path, input *in, error *err) {
    in->is_ids = true;
    for (size_t i = 0; i < json_array_size(v); i++) {
        field_path at;
        int64_t id;
        if (!field_int(json_array_get(v, i), path_index(&at, path, i), INT64_MIN, INT64_MAX, &id,
                       err))
            return false;
        if (id < 0 || id >= engine_get_model(a->engine)->n_vocab)
            return error_set(err, ERR_INVALID_VALUE, "input",
                             "Invalid '%s': this model has no token %lld; ids go from 0 to %d.",
                             at.text, (long long)id, engine_get_model(a->engine)->n_vocab - 1);
        tok_ids_push(&in->ids, (int32_t)id);
    }
    if (in->ids.failed) return no_memory(err);
    return in->ids.n > 0 || field_empty_array(path, err);
}

static bool take_text(json_t *v, const char *path, input *in, error *err) {
    if (!field_str(v, path, &in->text, err)) return false;
    return in->text.len > 0 ||
           error_set(err, ERR_INVALID_VALUE, path, "Invalid '%s': the text is empty.", path);
}

static bool encode(const api *a, const char *path, input *in, error *err) {
    tok *t = engine_get_tok(a->engine);
    if (!in->is_ids) {
        if (!t)
            return error_set(err, ERR_UNSUPPORTED_VALUE, path,
                             "This model file brings no vocabulary: send token ids.");
        if (!tok_encode(t, in->text, (tok_encode_opts){.add_bos = tok_adds_bos(t)}, &in->ids, err))
            return false;
    }
    int64_t most = engine_get_plan(a->engine)->max_context_tokens;
    return (int64_t)in->ids.n <= most ||
           error_set(err, ERR_CONTEXT_LENGTH, path,
                     "'%s' has %zu tokens; the longest this server takes is %lld.", path, in->ids.n,
                     (long long)most);
}

/* ── the running request ── */

typedef struct job {
    api *a;
    http_req *r;
    params p;
    bool reranks;
    input *in;         /* [n] */
    engine_job **jobs; /* [n]: NULL before they start and after they ended */
    float *vectors;    /* [n][d], of length 1 */
    size_t n, n_started, n_ended;
    int32_t d_model, d;
    int64_t n_tokens;
    error err;
} job;

static void free_job(void *ctx) {
    job *k = ctx;
    for (size_t i = 0; i < k->n; i++) {
        if (k->jobs) engine_job_free(k->jobs[i]);
        if (k->in) tok_ids_deinit(&k->in[i].ids);
    }
    free(k->vectors);
}

static void wake(void *r) {
    http_wake(r);
}

/* The first d numbers, scaled to length 1 (all zero stays all zero). */
static void scale(const float *from, int32_t d, float *to) {
    double sum = 0;
    for (int32_t i = 0; i < d; i++) sum += (double)from[i] * (double)from[i];
    double factor = sum > 0 && isfinite(sum) ? 1 / sqrt(sum) : 0;
    for (int32_t i = 0; i < d; i++) to[i] = (float)(from[i] * factor);
}

/* Starts what may run: as many at once as the engine has places for. */
static bool start_some(job *k, error *err) {
    size_t most = (size_t)engine_get_config(k->a->engine)->n_parallel;
    while (k->n_started < k->n && k->n_started - k->n_ended < most) {
        input *in = &k->in[k->n_started];
        engine_request q = {
            .prompt = in->ids.ids,
            .n_prompt = in->ids.n,
            .sampling = sample_defaults(),
            .score_prompt = -1,
            .embed = k->p.pooling ? ENGINE_EMBED_LAST : ENGINE_EMBED_MEAN,
            .wake = wake,
            .wake_ctx = k->r,
            .client = fair_get_client(k->r),
        };
        engine_job *j = engine_submit(k->a->engine, &q, err);
        if (!j) return false;
        k->jobs[k->n_started++] = j;
    }
    return true;
}

/* Takes what has ended. */
static void drain(job *k) {
    engine_event e;
    for (size_t i = 0; i < k->n_started; i++) {
        while (k->jobs[i] && engine_poll(k->jobs[i], &e)) {
            if (e.kind != ENGINE_END) continue;
            if (e.finish == ENGINE_FAILED)
                k->err = e.err;
            else if (e.finish == ENGINE_CANCELLED)
                error_set(&k->err, ERR_OVERLOADED, NULL, "The server is shutting down.");
            else
                scale(engine_get_embedding(k->jobs[i]), k->d, k->vectors + i * (size_t)k->d);
            engine_job_free(k->jobs[i]);
            k->jobs[i] = NULL;
            k->n_ended++;
        }
    }
}

/* False: something is still running. Whoever was started is polled before we go to sleep: a job wakes
 * only a reader who has looked and found nothing. */
static bool advance(job *k) {
    size_t n_seen;
    do {
        drain(k);
        n_seen = k->n_started;
    } while (!error_is_set(&k->err) && start_some(k, &k->err) && k->n_started > n_seen);
    return error_is_set(&k->err) || k->n_ended == k->n;
}

/* ── answers ── */

static void put_vector(json_out *j, const job *k, size_t i) {
    const float *v = k->vectors + i * (size_t)k->d;
    if (k->p.encoding != ENCODING_BASE64) {
        json_arr(j);
        for (int32_t x = 0; x < k->d; x++) json_put_float(j, v[x]);
        json_end_arr(j);
        return;
    }
    buf text = {0};
    api_put_base64(&text, str_make((const char *)v, (size_t)k->d * sizeof *v));
    j->b->failed |= text.failed;
    json_put_str(j, buf_str(&text));
    buf_deinit(&text);
}

static void put_usage(json_out *j, const job *k) {
    json_key(j, "usage");
    json_obj(j);
    json_kv_int(j, "prompt_tokens", k->n_tokens);
    json_kv_int(j, "total_tokens", k->n_tokens);
    json_end_obj(j);
}

static void put_embeddings(const job *k, buf *body) {
    json_out j = json_begin(body);
    json_obj(&j);
    json_kv_cstr(&j, "object", "list");
    json_key(&j, "data");
    json_arr(&j);
    for (size_t i = 0; i < k->n; i++) {
        json_obj(&j);
        json_kv_cstr(&j, "object", "embedding");
        json_kv_int(&j, "index", (int64_t)i);
        json_key(&j, "embedding");
        put_vector(&j, k, i);
        json_end_obj(&j);
    }
    json_end_arr(&j);
    json_kv_str(&j, "model", k->p.model);
    put_usage(&j, k);
    json_end_obj(&j);
}

typedef struct rank {
    size_t document;
    double score;
} rank;

static int by_score(const void *x, const void *y) {
    const rank *a = x, *b = y;
    if (a->score != b->score) return a->score < b->score ? 1 : -1;
    return a->document < b->document ? -1 : a->document > b->document;
}

/* Input 0 is the query. */
static void put_ranking(const job *k, buf *body) {
    size_t n = k->n - 1;
    rank *ranks = arena_array(http_arena(k->r), n ? n : 1, sizeof *ranks);
    if (!ranks) {
        body->failed = true;
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const float *q = k->vectors, *v = k->vectors + (i + 1) * (size_t)k->d;
        double dot = 0;
        for (int32_t x = 0; x < k->d; x++) dot += (double)q[x] * (double)v[x];
        ranks[i] = (rank){i, (1 + fmin(1, fmax(-1, dot))) / 2};
    }
    qsort(ranks, n, sizeof *ranks, by_score);
    if (k->p.top_n && (size_t)k->p.top_n < n) n = (size_t)k->p.top_n;
    json_out j = json_begin(body);
    json_obj(&j);
    json_kv_cstr(&j, "id", api_make_id("rerank-").text);
    json_kv_cstr(&j, "object", "list");
    json_kv_cstr(&j, "model", k->a->o.model_id);
    json_key(&j, "results");
    json_arr(&j);
    for (size_t i = 0; i < n; i++) {
        json_obj(&j);
        json_kv_int(&j, "index", (int64_t)ranks[i].document);
        json_kv_num(&j, "relevance_score", ranks[i].score);
        if (k->p.return_documents) {
            json_key(&j, "document");
            json_obj(&j);
            json_kv_str(&j, "text", k->in[ranks[i].document + 1].text);
            json_end_obj(&j);
        }
        json_end_obj(&j);
    }
    json_end_arr(&j);
    put_usage(&j, k);
    json_end_obj(&j);
}

static bool step(http_req *r, void *ctx) {
    job *k = ctx;
    if (!advance(k)) return false;
    buf body = {0};
    if (error_is_set(&k->err))
        http_reply_error(r, &k->err);
    else {
        if (k->reranks)
            put_ranking(k, &body);
        else
            put_embeddings(k, &body);
        http_reply(r, 200, "application/json", &body);
    }
    return true;
}

/* ── entry ── */

static bool reserve(job *k, size_t n, error *err) {
    arena *mem = http_arena(k->r);
    k->in = arena_array(mem, n, sizeof *k->in);
    k->jobs = arena_array(mem, n, sizeof *k->jobs);
    if (!k->in || !k->jobs) return no_memory(err);
    k->n = n;
    return true;
}

static bool take_inputs(job *k, error *err) {
    json_t *v = k->p.input;
    if (json_is_string(v)) return reserve(k, 1, err) && take_text(v, "input", &k->in[0], err);
    size_t n = json_array_size(v);
    if (n == 0) return field_empty_array("input", err);
    bool are_ids = json_is_array(json_array_get(v, 0));
    if (json_is_number(json_array_get(v, 0)))
        return reserve(k, 1, err) && take_ids(k->a, v, "input", &k->in[0], err);
    if (!field_array(v, "input", MAX_INPUTS, err) || !reserve(k, n, err)) return false;
    for (size_t i = 0; i < n; i++) {
        field_path at;
        json_t *x = json_array_get(v, i);
        path_index(&at, "input", i);
        if (are_ids ? !field_array(x, at.text, SIZE_MAX, err) ||
                          !take_ids(k->a, x, at.text, &k->in[i], err)
                    : !take_text(x, at.text, &k->in[i], err))
            return false;
    }
    return true;
}

static bool take_documents(job *k, error *err) {
    size_t n = json_array_size(k->p.documents);
    if (n == 0) return field_empty_array("documents", err);
    if (!reserve(k, n + 1, err)) return false;
    k->in[0].text = k->p.query;
    if (!k->p.query.len)
        return error_set(err, ERR_INVALID_VALUE, "query", "Invalid 'query': the text is empty.");
    for (size_t i = 0; i < n; i++) {
        field_path at;
        json_t *x = json_array_get(k->p.documents, i);
        path_index(&at, "documents", i);
        if (json_is_object(x) && !(x = field_need(x, "text", at.text, err))) return false;
        if (!take_text(x, at.text, &k->in[i + 1], err)) return false;
    }
    return true;
}

static bool encode_all(job *k, error *err) {
    bool is_list = json_is_array(k->p.input) && !json_is_number(json_array_get(k->p.input, 0));
    for (size_t i = 0; i < k->n; i++) {
        field_path at;
        const char *path = path_index(&at, k->reranks ? "documents" : "input", i - k->reranks);
        if (k->reranks && i == 0) path = "query";
        if (!k->reranks && !is_list) path = "input";
        if (!encode(k->a, path, &k->in[i], err)) return false;
        k->n_tokens += (int64_t)k->in[i].ids.n;
    }
    return k->n_tokens <= MAX_INPUT_TOKENS ||
           error_set(err, ERR_INVALID_VALUE, k->reranks ? "documents" : "input",
                     "The inputs have %lld tokens together; one request takes at most %d.",
                     (long long)k->n_tokens, MAX_INPUT_TOKENS);
}

static bool start(job *k, error *err) {
    json_t *body = api_parse_body(k->r, err);
    field_ctx ctx = {.mem = http_arena(k->r), .user = k->a};
    const field *table = k->reranks ? rank_fields : embed_fields;
    size_t n =
        k->reranks ? sizeof rank_fields / sizeof *table : sizeof embed_fields / sizeof *table;
    k->d_model = k->d = engine_get_model(k->a->engine)->d_model;
    if (!body || !fields_decode(&ctx, body, table, n, "", &k->p, err)) return false;
    if (k->p.model.ptr && !api_check_model(k->a, k->p.model, err)) return false;
    if (k->p.dimensions > k->d_model)
        return error_set(
            err, ERR_INT_ABOVE_MAX, "dimensions",
            "Invalid 'dimensions': this model's vectors have %d, but %lld were asked for.",
            k->d_model, (long long)k->p.dimensions);
    if (k->p.dimensions) k->d = (int32_t)k->p.dimensions;
    if (!(k->reranks ? take_documents(k, err) : take_inputs(k, err)) || !encode_all(k, err))
        return false;
    k->vectors = calloc(k->n, (size_t)k->d * sizeof *k->vectors);
    if (!k->vectors) return no_memory(err);
    return start_some(k, err);
}

static void answer(api *a, http_req *r, bool reranks) {
    error err = {0};
    job *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k)
        no_memory(&err);
    else {
        http_own(r, k, free_job);
        k->a = a;
        k->r = r;
        k->reranks = reranks;
        if (start(k, &err)) {
            http_reply_later(r, step, k);
            return;
        }
    }
    http_reply_error(r, &err);
}

void route_embeddings(api *a, http_req *r, str arg) {
    (void)arg;
    answer(a, r, false);
}

void route_rerank(api *a, http_req *r, str arg) {
    (void)arg;
    answer(a, r, true);
}
