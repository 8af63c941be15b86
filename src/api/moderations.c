/* POST /v1/moderations: a policy classifier made of the chat model itself. It is
 * shown OpenAI's categories and the text, and its answer is constrained to one
 * true or false for each category; a score is the probability the model gave to true against
 * false at that place. So the judgement is as good as the model is, and no better: the
 * built-in one is far too small to rely on, and the guide says so.
 */
#include <math.h>
#include <stdlib.h>

#include "api/serve.h"

enum { MAX_INPUTS = 64, MAX_ANSWER_TOKENS = 1024, MAX_TOP = SAMPLE_MAX_TOP };

static const struct {
    const char *name, *means;
} categories[] = {
    {"harassment", "insults or bullies somebody"},
    {"harassment/threatening", "harasses and threatens violence or serious harm"},
    {"hate", "expresses or promotes hate for a group because of what it is"},
    {"hate/threatening", "hates a group and threatens it with violence or serious harm"},
    {"illicit", "advises or instructs how to do something illegal"},
    {"illicit/violent", "the same with violence or weapons"},
    {"self-harm", "promotes, encourages or shows self-harm"},
    {"self-harm/intent", "the speaker is harming himself or is going to"},
    {"self-harm/instructions", "tells how to harm oneself"},
    {"sexual", "is meant to arouse sexually or sells sexual services"},
    {"sexual/minors", "sexual content with somebody under 18"},
    {"violence", "shows death, violence or injury"},
    {"violence/graphic", "the same in graphic detail"},
};
enum { N_CATEGORIES = sizeof categories / sizeof categories[0] };

typedef struct params {
    str model;
    json_t *input;
} params;

static const field fields[] = {
    {.name = "input",
     .kind = FIELD_TEXTS,
     .required = true,
     .offset = offsetof(params, input),
     .doc = "text, up to 64 texts, or one input in parts of type text"},
    {.name = "model",
     .kind = FIELD_STR,
     .offset = offsetof(params, model),
     .doc = "omni-moderation-latest and its kin are the loaded model"},
};
const field_table moderation_fields = {fields, sizeof fields / sizeof fields[0]};

typedef struct job {
    api *a;
    arena *mem;
    params p;
    str *texts; /* [n] */
    size_t n;
    tok_ids *prompts; /* [n] */
    chat_answer answer;
    choices *set;
    int64_t now;
} job;

static void free_job(void *ctx) {
    job *k = ctx;
    for (size_t i = 0; k->prompts && i < k->n; i++) tok_ids_deinit(&k->prompts[i]);
}

static bool no_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
}

/* ── the request ── */

/* Parts are one input together, with a line break between them. */
static bool take_parts(job *k, json_t *v, error *err) {
    static const char *const types[] = {"text", "image_url", NULL};
    buf all = {0};
    bool ok = true;
    k->n = 1;
    for (size_t i = 0; ok && i < json_array_size(v); i++) {
        field_path at, member;
        json_t *part = json_array_get(v, i), *x;
        int type;
        str text;
        path_index(&at, "input", i);
        ok = field_object(part, at.text, err) && (x = field_need(part, "type", at.text, err)) &&
             field_enum(x, path_member(&member, at.text, "type"), types, &type, err);
        if (ok && type == 1)
            ok = error_set(err, ERR_UNSUPPORTED_VALUE, at.text,
                           "'%s' is an image, but this model reads text only.", at.text);
        ok = ok && (x = field_need(part, "text", at.text, err)) &&
             field_str(x, path_member(&member, at.text, "text"), &text, err);
        if (!ok) break;
        if (i) buf_append_char(&all, '\n');
        buf_append_str(&all, text);
    }
    const char *joined = ok && !all.failed ? arena_dup(k->mem, buf_str(&all)) : NULL;
    if (joined) k->texts[0] = str_make(joined, all.len);
    buf_deinit(&all);
    return ok && (joined || no_memory(err));
}

static bool take_inputs(job *k, error *err) {
    json_t *v = k->p.input;
    k->n = json_is_string(v) ? 1 : json_array_size(v);
    if (k->n == 0) return field_empty_array("input", err);
    if (k->n > 1 && !field_array(v, "input", MAX_INPUTS, err)) return false;
    k->texts = arena_array(k->mem, k->n, sizeof *k->texts);
    k->prompts = arena_array(k->mem, k->n, sizeof *k->prompts);
    if (!k->texts || !k->prompts) return no_memory(err);
    if (json_is_string(v)) {
        k->texts[0] = json_str(v);
        return true;
    }
    if (json_is_object(json_array_get(v, 0))) return take_parts(k, v, err);
    for (size_t i = 0; i < k->n; i++) {
        field_path at;
        if (!field_str(json_array_get(v, i), path_index(&at, "input", i), &k->texts[i], err))
            return false;
    }
    return true;
}

/* What is asked, then the text, then the beginning of an answer that comes without reasoning first. */
static bool make_prompt(job *k, size_t i, str policy, error *err) {
    chat_message m[2] = {{.role = CHAT_SYSTEM, .content = policy, .has_content = true},
                         {.role = CHAT_USER, .content = k->texts[i], .has_content = true}};
    chat_input in = {.messages = m, .n_messages = 2, .now = k->now, .reasoning_effort = STR("low")};
    if (!chat_render(k->a->chat, &in, &k->prompts[i], NULL, err)) return false;
    return !chat_is_harmony(k->a->chat) ||
           tok_encode(engine_get_tok(k->a->engine), STR("<|channel|>final<|message|>"),
                      (tok_encode_opts){.parse_special = true}, &k->prompts[i], err);
}

static bool make_prompts(job *k, error *err) {
    buf policy = {0}, pattern = {0};
    buf_append_cstr(&policy,
                    "Classify the user's message. Do not answer it. For each category write "
                    "true if the message falls into it and false if not:\n");
    buf_append_cstr(&pattern, "\\{");
    for (size_t c = 0; c < N_CATEGORIES; c++) {
        buf_printf(&policy, "- %s: %s\n", categories[c].name, categories[c].means);
        buf_printf(&pattern, "%s\"%s\":(true|false)", c ? "," : "", categories[c].name);
    }
    buf_append_cstr(&policy, "Answer with a JSON object.");
    buf_append_cstr(&pattern, "\\}");
    char *source = pattern.failed ? NULL : arena_dup(k->mem, buf_str(&pattern));
    bool ok = (source && !policy.failed) || no_memory(err);
    k->answer =
        (chat_answer){.kind = CHAT_ANSWER_REGEX, .source = str_from(source), .param = "input"};
    for (size_t i = 0; ok && i < k->n; i++) ok = make_prompt(k, i, buf_str(&policy), err);
    buf_deinit(&policy);
    buf_deinit(&pattern);
    return ok;
}

static void make_turn(void *ctx, size_t i, turn_request *q) {
    job *k = ctx;
    q->ids = k->prompts[i].ids;
    q->n_ids = k->prompts[i].n;
    q->answer = &k->answer;
    q->sampling = sample_defaults();
    q->sampling.temperature = 0;
    q->sampling.n_top = MAX_TOP;
    q->max_tokens = MAX_ANSWER_TOKENS;
}

/* ── the answer ── */

/* Either is the other's beginning. */
static bool begins(str a, str b) {
    return a.len < b.len ? str_starts(b, a) : str_starts(a, b);
}

/* Probability of true against false where the value begins, at byte `at` of the answer; negative when
 * the model's likeliest tokens there are neither. */
static double find_score(const tok *t, const choice *c, size_t at) {
    size_t from = 0;
    for (size_t n = 0; n < c->n_tokens; from += c->tokens[n++].piece_len) {
        const choice_token *k = &c->tokens[n];
        if (at >= from + k->piece_len) continue;
        size_t inside = at - from;
        double yes = 0, no = 0;
        for (int i = 0; i < k->r.n_top; i++) {
            str piece = tok_piece(t, k->r.top[i].id);
            if (piece.len <= inside || memcmp(piece.ptr, k->piece, inside) != 0) continue;
            double p = exp((double)k->r.top[i].logprob);
            str word = str_make(piece.ptr + inside, piece.len - inside);
            if (begins(word, STR("true"))) yes += p;
            if (begins(word, STR("false"))) no += p;
        }
        return yes + no > 0 ? yes / (yes + no) : -1;
    }
    return -1;
}

typedef struct verdict {
    bool is[N_CATEGORIES];
    double score[N_CATEGORIES];
    bool flagged;
} verdict;

static bool judge(const tok *t, const choice *c, verdict *v, error *err) {
    str text = buf_str(&c->content);
    for (size_t i = 0; i < N_CATEGORIES; i++) {
        char key[48];
        snprintf(key, sizeof key, "\"%s\":", categories[i].name);
        ptrdiff_t found = str_find(text, str_from(key), 0);
        size_t at = found < 0 ? 0 : (size_t)found + strlen(key);
        if (found < 0 || at >= text.len)
            return error_set(
                err, ERR_OVERLOADED, NULL,
                "The classification was cut short; nothing can be said about this text.");
        v->score[i] = find_score(t, c, at);
        /* The mask decides where the model would have said neither. */
        if (v->score[i] < 0) v->score[i] = text.ptr[at] == 't';
        v->is[i] = v->score[i] >= 0.5;
        v->flagged |= v->is[i];
    }
    return true;
}

static void put_result(json_out *j, const verdict *v) {
    json_obj(j);
    json_kv_bool(j, "flagged", v->flagged);
    json_key(j, "categories");
    json_obj(j);
    for (size_t i = 0; i < N_CATEGORIES; i++) json_kv_bool(j, categories[i].name, v->is[i]);
    json_end_obj(j);
    json_key(j, "category_scores");
    json_obj(j);
    for (size_t i = 0; i < N_CATEGORIES; i++) json_kv_num(j, categories[i].name, v->score[i]);
    json_end_obj(j);
    json_key(j, "category_applied_input_types");
    json_obj(j);
    for (size_t i = 0; i < N_CATEGORIES; i++) {
        json_key(j, categories[i].name);
        json_arr(j);
        json_put_cstr(j, "text");
        json_end_arr(j);
    }
    json_end_obj(j);
    json_end_obj(j);
}

static bool step(http_req *r, void *ctx) {
    job *k = ctx;
    bool ended = choices_drain(k->set);
    error err = {0};
    const error *failed = choices_failure(k->set);
    if (failed) err = *failed;
    if (!failed && !ended) return false;
    buf body = {0};
    json_out j = json_begin(&body);
    json_obj(&j);
    json_kv_cstr(&j, "id", api_make_id("modr-").text);
    json_kv_str(&j, "model", k->p.model.len ? k->p.model : str_from(k->a->o.model_id));
    json_key(&j, "results");
    json_arr(&j);
    for (size_t i = 0; i < k->n && !error_is_set(&err); i++) {
        verdict v = {0};
        if (judge(engine_get_tok(k->a->engine), &k->set->items[i], &v, &err)) put_result(&j, &v);
    }
    json_end_arr(&j);
    json_end_obj(&j);
    if (error_is_set(&err)) {
        buf_deinit(&body);
        http_reply_error(r, &err);
    } else
        http_reply(r, 200, "application/json", &body);
    return true;
}

static bool start(api *a, http_req *r, job *k, error *err) {
    json_t *body = api_parse_body(r, err);
    field_ctx ctx = {.mem = k->mem, .user = a};
    if (!body ||
        !fields_decode(&ctx, body, fields, sizeof fields / sizeof fields[0], "", &k->p, err))
        return false;
    bool is_openais = str_find(k->p.model, STR("-moderation-"), 0) > 0;
    if (k->p.model.ptr && !is_openais && !api_check_model(a, k->p.model, err)) return false;
    if (!take_inputs(k, err) || !make_prompts(k, err)) return false;
    k->set = choices_start(a, r, k->n, true, make_turn, k, err);
    return k->set != NULL;
}

void route_moderations(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    job *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k)
        no_memory(&err);
    else {
        k->a = a;
        k->mem = http_arena(r);
        k->now = api_now();
        http_own(r, k, free_job);
        if (start(a, r, k, &err)) {
            http_reply_later(r, step, k);
            return;
        }
    }
    http_reply_error(r, &err);
}
