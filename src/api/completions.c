/* POST /v1/completions: raw prompts, echo, prompt scoring, best_of, the legacy
 * log-probability object. */
#include <stdio.h>
#include <stdlib.h>

#include "api/serve.h"

enum { MAX_PROMPTS = 128, MAX_LOGPROBS = 5, MAX_BEST_OF = 20, DEFAULT_MAX_TOKENS = 16 };

typedef struct prompt {
    str text; /* when it came as a string */
    bool is_text;
    int32_t *ids; /* when it came as tokens, or stands for an empty text */
    size_t n_ids;
    int32_t *filled; /* with a suffix: both, the way the model fills in the middle */
    size_t n_filled;
} prompt;

/* How vocabularies name the parts of a text with a hole: before, after, the hole. */
static const char *const FIM[][3] = {
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},    /* Qwen */
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},          /* StarCoder */
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},          /* SantaCoder */
    {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},    /* DeepSeek: end comes last */
    {"<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"}, /* GLM */
    {"<PRE>", "<SUF>", "<MID>"},                               /* Code Llama */
    {"▁<PRE>", "▁<SUF>", "▁<MID>"},
};

typedef struct params {
    gen_params gen; /* first: the shared decoders write here */
    prompt *prompts;
    size_t n_prompts;
    int64_t logprobs, best_of;
    bool has_logprobs, has_best_of, echo;
    str suffix;
} params;

static bool decode_ids(const field_ctx *c, json_t *v, const char *path, prompt *p, error *err) {
    size_t n = json_array_size(v);
    if (n == 0) return field_empty_array(path, err);
    p->ids = arena_array(c->mem, n, sizeof *p->ids);
    if (!p->ids) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    for (size_t i = 0; i < n; i++) {
        int64_t id;
        field_path at;
        if (!field_int(json_array_get(v, i), path_index(&at, path, i), INT64_MIN, INT64_MAX, &id,
                       err))
            return false;
        const api *a = c->user;
        if (id < 0 || id >= engine_get_model(a->engine)->n_vocab)
            return error_set(err, ERR_INVALID_VALUE, "prompt",
                             "Invalid '%s': this model has no token %lld; ids go from 0 to %d.",
                             at.text, (long long)id, engine_get_model(a->engine)->n_vocab - 1);
        p->ids[p->n_ids++] = (int32_t)id;
    }
    return true;
}

/* An empty text: the model goes on as if a new document began. */
static bool begin_nothing(const field_ctx *c, prompt *p, error *err) {
    const api *a = c->user;
    tok *t = engine_get_tok(a->engine);
    int32_t id = !t ? -1 : tok_bos(t) >= 0 ? tok_bos(t) : tok_eos(t);
    if (id < 0) return true; /* the turn says that there is nothing */
    p->ids = arena_array(c->mem, 1, sizeof *p->ids);
    if (!p->ids) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    p->ids[p->n_ids++] = id;
    return true;
}

/* "text" · ["text", …] · [id, …] · [[id, …], …] */
static bool decode_prompt(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    params *p = out;
    bool one = json_is_string(v) || (json_is_array(v) && json_is_number(json_array_get(v, 0)));
    if (!one && !json_is_array(v))
        return error_set(
            err, ERR_INVALID_TYPE, path,
            "Invalid type for 'prompt': expected a string, an array of strings, an array of tokens or an array of token arrays, but got %s instead.",
            field_type_name(v));
    size_t n = one ? 1 : json_array_size(v);
    if (n == 0) return field_empty_array(path, err);
    if (!one && !field_array(v, path, MAX_PROMPTS, err)) return false;
    bool are_ids = !one && json_is_array(json_array_get(v, 0));
    p->prompts = arena_array(c->mem, n, sizeof *p->prompts);
    if (!p->prompts)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    for (size_t i = 0; i < n; i++) {
        field_path at;
        const char *where = one ? path : path_index(&at, path, i);
        json_t *item = one ? v : json_array_get(v, i);
        prompt *to = &p->prompts[p->n_prompts++];
        if (are_ids && !field_array(item, where, SIZE_MAX, err)) return false;
        if (are_ids || (one && json_is_array(item))) {
            if (!decode_ids(c, item, where, to, err)) return false;
        } else {
            to->is_text = true;
            if (!field_str(item, where, &to->text, err)) return false;
            if (!to->text.len && !begin_nothing(c, to, err)) return false;
        }
    }
    return true;
}

static bool decode_logprobs(const field_ctx *c, json_t *v, const char *path, void *out,
                            error *err) {
    (void)c;
    params *p = out;
    p->has_logprobs = true;
    return field_int(v, path, 0, MAX_LOGPROBS, &p->logprobs, err);
}

static bool decode_best_of(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    params *p = out;
    p->has_best_of = true;
    return field_int(v, path, 1, MAX_BEST_OF, &p->best_of, err);
}

/* Tokens of the prompt, the suffix and the marks around them. False: the model has no such marks. */
static bool fill_in(const api *a, arena *mem, prompt *p, str suffix, error *err) {
    tok *t = engine_get_tok(a->engine);
    int32_t marks[3] = {-1, -1, -1};
    for (size_t i = 0; t && i < sizeof FIM / sizeof *FIM && marks[2] < 0; i++)
        for (int k = 0; k < 3; k++) {
            marks[k] = tok_find_special(t, str_from(FIM[i][k]));
            if (marks[k] < 0) marks[2] = -1;
            if (marks[k] < 0) break;
        }
    if (marks[2] < 0)
        return error_set(
            err, ERR_UNSUPPORTED_VALUE, "suffix",
            "'suffix' is not supported by this model: its vocabulary has no tokens for "
            "filling in the middle.");
    tok_ids ids = {0};
    if (tok_adds_bos(t) && tok_bos(t) >= 0) tok_ids_push(&ids, tok_bos(t));
    tok_ids_push(&ids, marks[0]);
    bool ok = !p->is_text || tok_encode(t, p->text, (tok_encode_opts){0}, &ids, err);
    if (!p->is_text) tok_ids_append(&ids, p->ids, p->n_ids);
    tok_ids_push(&ids, marks[1]);
    ok = ok && tok_encode(t, suffix, (tok_encode_opts){0}, &ids, err);
    tok_ids_push(&ids, marks[2]);
    p->filled = arena_array(mem, ids.n + 1, sizeof *p->filled);
    if (ok && (ids.failed || !p->filled))
        ok = error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (ok) memcpy(p->filled, ids.ids, (p->n_filled = ids.n) * sizeof *ids.ids);
    tok_ids_deinit(&ids);
    return ok;
}

static const field fields[] = {
    {.name = "model",
     .kind = FIELD_STR,
     .required = true,
     .offset = offsetof(params, gen.model),
     .doc = "the model's id or 'default'"},
    {.name = "prompt",
     .kind = FIELD_CUSTOM,
     .required = true,
     .decode = decode_prompt,
     .doc = "string, strings, tokens or lists of tokens; no template"},
    GEN_FIELDS("any 64-bit integer; same seed, same text"),
    {.name = "max_tokens",
     .kind = FIELD_INT,
     .offset = offsetof(params, gen.max_tokens),
     .min = 0,
     .max = 1ll << 40,
     .doc = "default 16; 0 with echo scores the prompt"},
    {.name = "echo",
     .kind = FIELD_BOOL,
     .offset = offsetof(params, echo),
     .doc = "the prompt in front of the text, with its logprobs"},
    {.name = "logprobs",
     .kind = FIELD_CUSTOM,
     .decode = decode_logprobs,
     .doc = "0 to 5, the legacy object"},
    {.name = "best_of",
     .kind = FIELD_CUSTOM,
     .decode = decode_best_of,
     .doc = "1 to 20, the n likeliest per token are returned"},
    {.name = "suffix",
     .kind = FIELD_STR,
     .offset = offsetof(params, suffix),
     .doc = "the text is what comes between; a 400 where the model cannot fill in"},
};

const field_table completions_fields = {fields, sizeof fields / sizeof fields[0]};

/* ── the running request ── */

typedef struct job {
    api *a;
    params p;
    choices *set;
    size_t per_prompt; /* turns per prompt: best_of or n */
    size_t *order;     /* whole answer: which turn is shown at each index */
    api_id id;
    int64_t created;
    size_t *text_chars; /* per turn: code points emitted so far, for text_offset */
    bool *echoed;
} job;

static const prompt *prompt_of(const job *k, size_t i) {
    return &k->p.prompts[i / k->per_prompt];
}

static void make_turn(void *ctx, size_t i, turn_request *q) {
    job *k = ctx;
    const gen_params *g = &k->p.gen;
    const prompt *p = prompt_of(k, i);
    q->has_text = p->is_text && !p->n_ids && !p->n_filled;
    q->text = p->text;
    q->ids = p->n_filled ? p->filled : p->ids;
    q->n_ids = p->n_filled ? p->n_filled : p->n_ids;
    q->sampling = g->sampling;
    q->answer = g->answer.kind ? &g->answer : NULL;
    q->sampling.seed = gen_seed(g, i % k->per_prompt);
    q->sampling.n_top = k->p.has_logprobs              ? (int32_t)k->p.logprobs
                        : k->per_prompt > (size_t)g->n ? 0
                                                       : -1;
    q->score_prompt = k->p.has_logprobs && k->p.echo ? (int32_t)k->p.logprobs : -1;
    q->max_tokens = g->max_tokens;
    q->context = g->context;
    if (k->p.echo) q->context.mode = CONTEXT_REFUSE; /* what is shown is what was scored */
    q->stops = g->stops;
    q->n_stops = g->n_stops;
    q->ignore_end = g->ignore_eos;
    q->max_kv_size = g->max_kv_size;
}

static void put_head(json_out *j, const job *k) {
    json_kv_cstr(j, "id", k->id.text);
    json_kv_cstr(j, "object", "text_completion");
    json_kv_int(j, "created", k->created);
    json_kv_str(j, "model", k->p.gen.model);
    json_kv_cstr(j, "system_fingerprint", k->a->fingerprint);
}

/* The prompt as text: as it was sent, or decoded. */
static void put_echo(const job *k, size_t i, buf *out) {
    const prompt *p = prompt_of(k, i);
    if (p->is_text) {
        buf_append_str(out, p->text);
        return;
    }
    tok_decode_opts o = {.skip_special = false, .strip_first_space = true};
    tok_decode(engine_get_tok(k->a->engine), p->ids, p->n_ids, o, out);
}

/* One row of the legacy object. */
typedef struct row {
    str piece;
    bool has_logprob;
    const sample_result *r;
} row;

/* Rows of the tokens kept so far. The prompt's first token was never predicted: its logprob is null;
 * a begin-of-text that oriel added itself is not shown. An end token has no text to point at, and a
 * control token said in between has an empty one, as in the text: joined, the tokens are the text. */
static size_t collect_rows(const job *k, const choice *c, bool with_first, row *rows) {
    tok *t = engine_get_tok(k->a->engine);
    size_t n = 0;
    if (with_first && k->p.echo) {
        size_t n_ids;
        const int32_t *ids = turn_prompt_ids(c->t, &n_ids);
        const prompt *p = prompt_of(k, c->index);
        bool added_bos = p->is_text && n_ids && (ids[0] == tok_bos(t) || p->n_ids);
        if (n_ids && !added_bos) rows[n++] = (row){.piece = tok_piece(t, ids[0])};
    }
    for (size_t i = 0; i < c->n_tokens; i++) {
        const choice_token *m = &c->tokens[i];
        if (i >= c->n_prompt_tokens_scored && !k->p.gen.ignore_eos && tok_is_end(t, m->r.id))
            continue;
        str piece = str_make(m->piece, m->piece_len);
        if (i >= c->n_prompt_tokens_scored && tok_is_hidden(t, m->r.id)) piece.len = 0;
        rows[n++] = (row){.piece = piece, .has_logprob = true, .r = &m->r};
    }
    return n;
}

/* A member of top_logprobs. The chosen token is called as in `tokens`; another one that is no text by itself
 * by its bytes, as OpenAI does, for U+FFFD would be the name of all of them. */
static void put_top(json_out *j, str piece, float logprob, bool is_chosen) {
    buf name = {0};
    if (!is_chosen && !utf8_is_valid(piece)) {
        buf_append_cstr(&name, "bytes:");
        for (size_t i = 0; i < piece.len; i++)
            buf_printf(&name, "\\x%02x", (unsigned char)piece.ptr[i]);
        piece = buf_str(&name);
    }
    json_key_str(j, piece);
    json_put_float(j, logprob < -9999.0f ? -9999.0f : logprob);
    j->b->failed |= name.failed;
    buf_deinit(&name);
}

static void put_logprobs(json_out *j, const job *k, const choice *c, bool with_first) {
    tok *t = engine_get_tok(k->a->engine);
    row *rows = calloc(c->n_tokens + 1, sizeof *rows);
    size_t n = rows ? collect_rows(k, c, with_first, rows) : 0;
    /* SentencePiece puts a space before the first word that the text does not have. */
    const prompt *p = prompt_of(k, c->index);
    if (n && with_first && k->p.echo && p->is_text && rows[0].piece.len &&
        rows[0].piece.ptr[0] == ' ' && !(p->text.len && p->text.ptr[0] == ' '))
        rows[0].piece = str_make(rows[0].piece.ptr + 1, rows[0].piece.len - 1);
    json_obj(j);
    json_key(j, "tokens");
    json_arr(j);
    for (size_t i = 0; i < n; i++) json_put_str(j, rows[i].piece);
    json_end_arr(j);
    json_key(j, "token_logprobs");
    json_arr(j);
    for (size_t i = 0; i < n; i++) {
        if (rows[i].has_logprob)
            json_put_float(j, rows[i].r->logprob < -9999.0f ? -9999.0f : rows[i].r->logprob);
        else
            json_put_null(j);
    }
    json_end_arr(j);
    json_key(j, "top_logprobs");
    json_arr(j);
    for (size_t i = 0; i < n; i++) {
        if (!rows[i].has_logprob) {
            json_put_null(j);
            continue;
        }
        json_obj(j);
        bool has_own = false;
        for (int32_t m = 0; m < rows[i].r->n_top; m++) {
            const sample_top *top = &rows[i].r->top[m];
            has_own |= top->id == rows[i].r->id;
            put_top(j, tok_piece(t, top->id), top->logprob, top->id == rows[i].r->id);
        }
        if (!has_own) /* the chosen token is always among them */
            put_top(j, tok_piece(t, rows[i].r->id), rows[i].r->logprob, true);
        json_end_obj(j);
    }
    json_end_arr(j);
    json_key(j, "text_offset");
    json_arr(j);
    for (size_t i = 0; i < n; i++) {
        json_put_int(j, (int64_t)k->text_chars[c->index]);
        k->text_chars[c->index] += utf8_count(rows[i].piece);
    }
    json_end_arr(j);
    json_end_obj(j);
    free(rows);
}

/* The n likeliest of each prompt's best_of, by mean log-probability; ties keep their order. */
static void rank(job *k) {
    size_t n = (size_t)k->p.gen.n;
    for (size_t p = 0; p < k->p.n_prompts; p++) {
        size_t first = p * k->per_prompt, *slot = &k->order[p * n];
        bool taken[MAX_BEST_OF] = {false};
        for (size_t s = 0; s < n; s++) {
            size_t best = k->per_prompt;
            double best_mean = 0;
            for (size_t i = 0; i < k->per_prompt; i++) {
                if (k->per_prompt == n) {
                    best = s;
                    break;
                }
                const choice *c = &k->set->items[first + i];
                double mean = c->n_logprob ? c->logprob_sum / (double)c->n_logprob : -1e30;
                if (!taken[i] && (best == k->per_prompt || mean > best_mean)) {
                    best = i;
                    best_mean = mean;
                }
            }
            if (k->per_prompt != n) taken[best] = true;
            slot[s] = first + best;
        }
    }
}

static bool step(http_req *r, void *ctx) {
    job *k = ctx;
    bool ended = choices_drain(k->set);
    const error *failed = choices_failure(k->set);
    if (failed) {
        http_reply_error(r, failed);
        return true;
    }
    if (!ended) return false;
    rank(k);
    buf body = {0}, text = {0};
    json_out j = json_begin(&body);
    json_obj(&j);
    put_head(&j, k);
    json_key(&j, "choices");
    json_arr(&j);
    for (size_t i = 0; i < k->p.n_prompts * (size_t)k->p.gen.n; i++) {
        choice *c = &k->set->items[k->order[i]];
        buf_clear(&text);
        if (k->p.echo) put_echo(k, c->index, &text);
        buf_append_str(&text, buf_str(&c->content));
        json_obj(&j);
        json_kv_str(&j, "text", buf_str(&text));
        json_kv_int(&j, "index", (int64_t)i);
        json_key(&j, "logprobs");
        if (k->p.has_logprobs)
            put_logprobs(&j, k, c, true);
        else
            json_put_null(&j);
        json_kv_cstr(&j, "finish_reason", api_finish_name(c->finish));
        json_end_obj(&j);
    }
    json_end_arr(&j);
    json_key(&j, "usage");
    choices_put_usage(k->set, k->per_prompt, &j);
    json_end_obj(&j);
    if (text.failed) body.failed = true;
    buf_deinit(&text);
    http_reply(r, 200, "application/json", &body);
    return true;
}

/* ── stream ── */

static void put_chunk(job *k, choice *c, str text, const char *finish, buf *out) {
    bool first = !k->echoed[c->index];
    sse_begin(out);
    json_out j = json_begin(out);
    json_obj(&j);
    put_head(&j, k);
    json_key(&j, "choices");
    json_arr(&j);
    json_obj(&j);
    json_kv_int(&j, "index", (int64_t)c->index);
    if (first && k->p.echo) {
        buf whole = {0};
        put_echo(k, c->index, &whole);
        buf_append_str(&whole, text);
        json_kv_str(&j, "text", buf_str(&whole));
        buf_deinit(&whole);
    } else
        json_kv_str(&j, "text", text);
    json_key(&j, "logprobs");
    if (k->p.has_logprobs && (c->n_tokens || (first && k->p.echo))) {
        put_logprobs(&j, k, c, first);
        choice_drop_tokens(c);
        c->n_prompt_tokens_scored = 0;
    } else
        json_put_null(&j);
    json_kv_cstr(&j, "finish_reason", finish);
    json_end_obj(&j);
    json_end_arr(&j);
    choices_put_chunk_usage(&j, &k->p.gen, c);
    json_end_obj(&j);
    sse_end(out);
    k->echoed[c->index] = true;
}

static void put_event(void *ctx, choice *c, const turn_event *e, buf *out) {
    job *k = ctx;
    if (e->kind == TURN_CONTENT) {
        put_chunk(k, c, e->text, NULL, out);
        buf_clear(&c->content);
    } else if (e->kind == TURN_END && !error_is_set(&c->err))
        put_chunk(k, c, (str){0}, api_finish_name(e->finish), out);
}

static void put_chunk_head(void *ctx, json_out *j) {
    put_head(j, ctx);
}

static http_pull_result pull(http_req *r, void *ctx, buf *out) {
    (void)r;
    job *k = ctx;
    choices_sink sink = {put_event,     put_chunk_head, k->p.gen.include_usage,
                         k->per_prompt, NULL,           k->p.gen.live_usage};
    return choices_pull(k->set, &sink, k, out);
}

/* ── entry ── */

static bool start(api *a, http_req *r, job *k, error *err) {
    json_t *body = api_parse_body(r, err);
    if (!body) return false;
    k->a = a;
    k->p = (params){.gen = gen_defaults(a)};
    k->p.gen.default_max_tokens = DEFAULT_MAX_TOKENS;
    field_ctx ctx = {.mem = http_arena(r), .user = a};
    if (!fields_decode(&ctx, body, fields, sizeof fields / sizeof fields[0], "", &k->p, err))
        return false;
    if (!api_check_model(a, k->p.gen.model, err)) return false;
    if (!k->p.has_best_of) k->p.best_of = k->p.gen.n;
    if (k->p.best_of < k->p.gen.n)
        return error_set(err, ERR_INVALID_VALUE, "best_of",
                         "Invalid 'best_of': it must be at least 'n' (%lld), but it is %lld.",
                         (long long)k->p.gen.n, (long long)k->p.best_of);
    if (k->p.best_of > k->p.gen.n && k->p.gen.stream)
        return error_set(
            err, ERR_INVALID_VALUE, "best_of",
            "'best_of' greater than 'n' cannot be streamed: the best is known only at the end.");
    if (!gen_finish(a, &k->p.gen, err)) return false;
    if (k->p.suffix.len && k->p.echo)
        return error_set(err, ERR_INVALID_VALUE, "suffix",
                         "'suffix' and 'echo' cannot be used together.");
    for (size_t i = 0; k->p.suffix.len && i < k->p.n_prompts; i++)
        if (!fill_in(a, http_arena(r), &k->p.prompts[i], k->p.suffix, err)) return false;
    k->per_prompt = (size_t)k->p.best_of;
    size_t n = k->p.n_prompts * k->per_prompt;
    if (n > API_MAX_CHOICES)
        return error_set(
            err, ERR_INT_ABOVE_MAX, "n",
            "%zu prompts with %zu answers each are more than the %d this server makes at once.",
            k->p.n_prompts, k->per_prompt, API_MAX_CHOICES);
    k->order = arena_array(http_arena(r), n, sizeof *k->order);
    k->text_chars = arena_array(http_arena(r), n, sizeof *k->text_chars);
    k->echoed = arena_array(http_arena(r), n, sizeof *k->echoed);
    if (!k->order || !k->text_chars || !k->echoed)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    k->id = api_make_id("cmpl-");
    k->created = api_now();
    k->set = choices_start(a, r, n, k->p.has_logprobs, make_turn, k, err);
    if (k->set) return true;
    if (err->code == ERR_CONTEXT_LENGTH) snprintf(err->param, sizeof err->param, "prompt");
    return false;
}

void route_completions(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    job *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k)
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    else
        start(a, r, k, &err);
    if (error_is_set(&err))
        http_reply_error(r, &err);
    else if (k->p.gen.stream)
        http_reply_stream(r, "text/event-stream", pull, k);
    else
        http_reply_later(r, step, k);
}
