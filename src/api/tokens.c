/* POST /tokenize, POST /detokenize and GET /props: what llama.cpp's and vLLM's
 * clients ask a server about its vocabulary and itself. */
#include "api/messages.h"
#include "api/tools.h"
#include "api/serve.h"

typedef struct tokenize_params {
    str model, text;
    bool has_text, add_special, parse_special, with_pieces;
    json_t *messages, *tools;
} tokenize_params;

static bool keep_text(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    tokenize_params *p = out;
    p->has_text = true;
    return field_str(v, path, &p->text, err);
}

static bool keep_messages(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c, (void)path, (void)err;
    ((tokenize_params *)out)->messages = v;
    return true;
}

static bool keep_tools(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c, (void)path, (void)err;
    ((tokenize_params *)out)->tools = v;
    return true;
}

static const field fields[] = {
    {.name = "model",
     .kind = FIELD_STR,
     .offset = offsetof(tokenize_params, model),
     .doc = "the loaded model or default"},
    {.name = "content", .kind = FIELD_CUSTOM, .decode = keep_text, .doc = "the text"},
    {.name = "prompt", .kind = FIELD_CUSTOM, .decode = keep_text, .doc = "another name of content"},
    {.name = "messages",
     .kind = FIELD_CUSTOM,
     .decode = keep_messages,
     .doc = "instead of a text: a conversation, as chat/completions would send it"},
    {.name = "tools", .kind = FIELD_CUSTOM, .decode = keep_tools, .doc = "beside messages"},
    {.name = "add_special",
     .kind = FIELD_BOOL,
     .offset = offsetof(tokenize_params, add_special),
     .doc = "begin as the model's file asks; default false"},
    {.name = "parse_special",
     .kind = FIELD_BOOL,
     .offset = offsetof(tokenize_params, parse_special),
     .doc = "texts of special tokens become their ids; default true"},
    {.name = "with_pieces",
     .kind = FIELD_BOOL,
     .offset = offsetof(tokenize_params, with_pieces),
     .doc = "each token with its text"},
};
const field_table tokenize_fields = {fields, sizeof fields / sizeof fields[0]};

static void put_piece(json_out *j, str piece) {
    json_key(j, "piece");
    if (utf8_is_valid(piece)) {
        json_put_str(j, piece);
        return;
    }
    json_arr(j);
    for (size_t i = 0; i < piece.len; i++) json_put_int(j, (unsigned char)piece.ptr[i]);
    json_end_arr(j);
}

static tok *need_tok(const api *a, error *err) {
    tok *t = engine_get_tok(a->engine);
    if (!t) error_set(err, ERR_UNSUPPORTED_VALUE, "model", "This model file brings no vocabulary.");
    return t;
}

static bool tokenize(api *a, http_req *r, tokenize_params *p, tok_ids *ids, error *err) {
    json_t *body = api_parse_body(r, err);
    tok *t = need_tok(a, err);
    arena *mem = http_arena(r);
    field_ctx ctx = {.mem = mem};
    p->parse_special = true;
    if (!body || !t ||
        !fields_decode(&ctx, body, fields, sizeof fields / sizeof fields[0], "", p, err) ||
        (p->model.len && !api_check_model(a, p->model, err)))
        return false;
    if (p->messages) {
        chat_input in = {.now = api_now()};
        tool_set set = {0};
        if (p->tools && !tools_parse(mem, p->tools, "tools", &set, err)) return false;
        in.tools = set.tools;
        in.n_tools = set.n;
        return messages_parse(mem, p->messages, "messages", &in.messages, &in.n_messages, err) &&
               chat_render(a->chat, &in, ids, NULL, err);
    }
    if (!p->has_text)
        return error_set(err, ERR_MISSING_PARAMETER, "content",
                         "Missing required parameter: 'content' (or 'prompt', or 'messages').");
    tok_encode_opts o = {.add_bos = p->add_special && tok_adds_bos(t),
                         .add_eos = p->add_special && tok_adds_eos(t),
                         .parse_special = p->parse_special};
    return tok_encode(t, p->text, o, ids, err);
}

void route_tokenize(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    tokenize_params p = {0};
    tok_ids ids = {0};
    if (!tokenize(a, r, &p, &ids, &err)) {
        http_reply_error(r, &err);
        tok_ids_deinit(&ids);
        return;
    }
    buf body = {0};
    json_out j = json_begin(&body);
    json_obj(&j);
    json_key(&j, "tokens");
    json_arr(&j);
    for (size_t i = 0; i < ids.n; i++) {
        if (!p.with_pieces) {
            json_put_int(&j, ids.ids[i]);
            continue;
        }
        json_obj(&j);
        json_kv_int(&j, "id", ids.ids[i]);
        put_piece(&j, tok_piece(engine_get_tok(a->engine), ids.ids[i]));
        json_end_obj(&j);
    }
    json_end_arr(&j);
    json_kv_int(&j, "count", (int64_t)ids.n);
    json_kv_int(&j, "max_model_len", engine_get_plan(a->engine)->max_context_tokens);
    json_end_obj(&j);
    http_reply(r, 200, "application/json", &body);
    tok_ids_deinit(&ids);
}

static bool detokenize(api *a, http_req *r, buf *text, error *err) {
    json_t *body = api_parse_body(r, err), *v;
    tok *t = need_tok(a, err);
    str name;
    if (!body || !t) return false;
    if ((v = field_get(body, "model")) &&
        (!field_str(v, "model", &name, err) || !api_check_model(a, name, err)))
        return false;
    if (!(v = field_need(body, "tokens", "", err)) || !field_array(v, "tokens", HTTP_MAX_BODY, err))
        return false;
    size_t n = json_array_size(v);
    int32_t *ids = arena_array(http_arena(r), n ? n : 1, sizeof *ids);
    if (!ids) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    for (size_t i = 0; i < n; i++) {
        field_path at;
        int64_t id;
        if (!field_int(json_array_get(v, i), path_index(&at, "tokens", i), 0, tok_n_vocab(t) - 1,
                       &id, err))
            return false;
        ids[i] = (int32_t)id;
    }
    tok_decode(t, ids, n, (tok_decode_opts){0}, text);
    return !text->failed || error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the text.");
}

void route_detokenize(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    buf text = {0}, body = {0};
    if (detokenize(a, r, &text, &err)) {
        json_out j = json_begin(&body);
        json_obj(&j);
        json_kv_str(&j, "content", buf_str(&text));
        json_kv_str(&j, "prompt", buf_str(&text));
        json_end_obj(&j);
        http_reply(r, 200, "application/json", &body);
    } else
        http_reply_error(r, &err);
    buf_deinit(&text);
}

void route_props(api *a, http_req *r, str arg) {
    (void)arg;
    const engine_meta *m = engine_get_meta(a->engine);
    const engine_config *c = engine_get_config(a->engine);
    const engine_plan *p = engine_get_plan(a->engine);
    buf body = {0};
    json_out j = json_begin(&body);
    json_obj(&j);
    json_key(&j, "default_generation_settings");
    json_obj(&j);
    json_kv_int(&j, "n_ctx", p->max_context_tokens);
    json_key(&j, "params");
    json_obj(&j);
    json_kv_num(&j, "temperature", a->o.sampling.temperature);
    json_kv_num(&j, "top_p", a->o.sampling.top_p);
    json_kv_num(&j, "min_p", a->o.sampling.min_p);
    json_kv_int(&j, "top_k", a->o.sampling.top_k);
    json_end_obj(&j);
    json_end_obj(&j);
    json_kv_int(&j, "total_slots", c->n_parallel);
    json_kv_int(&j, "max_kv_size", p->kv_rows);
    json_kv_cstr(&j, "model_alias", a->o.model_id);
    json_kv_str(&j, "architecture", m->arch);
    json_kv_str(&j, "chat_template", m->chat_template);
    json_kv_cstr(&j, "build_info", "oriel " ORIEL_VERSION);
    json_end_obj(&j);
    http_reply(r, 200, "application/json", &body);
}
