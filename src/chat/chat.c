/* A loaded model's way of talking: which family it is, and messages → prompt.
 * harmony vocabularies are rendered natively; every other model by the Jinja
 * template of its file, whose own words alone may become special tokens.
 */
#include "chat/chat_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/hash.h"
#include "chat/constrain.h"
#include "chat/plain_tools.h"

static bool is_out_of_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for the prompt.");
}

static bool contains(str text, const char *what) {
    return str_find(text, str_from(what), 0) >= 0;
}

chat *chat_new(engine *e, const chat_options *o, error *err) {
    chat *c = calloc(1, sizeof *c);
    if (!c) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for the chat.");
        return NULL;
    }
    c->e = e;
    c->t = engine_get_tok(e);
    c->constraints = constraint_cache_new();
    c->is_harmony = c->t && harmony_init(&c->harmony, c->t);
    bool is_own = o && o->template_override.len;
    str source = is_own ? o->template_override : engine_get_meta(e)->chat_template;
    if (c->t && source.len && (is_own || !c->is_harmony)) {
        c->template = jinja_parse(source, is_own ? err : &c->template_error);
        c->style = parser_find_style(source);
        c->is_plain = parser_style_is_plain(&c->style);
        c->knows_developer = contains(source, "developer");
        /* DeepSeek's way; the families that write .content check it and then stop at null elsewhere. */
        c->asks_for_null = contains(source, "['content'] is not none");
    }
    if (c->t) {
        const engine_config *config = engine_get_config(e);
        c->cache =
            tok_cache_new(chat_plan_bytes(config->max_context_tokens, config->n_parallel), err);
        c->harmony.cache = c->cache;
    }
    if (o && o->debug_dir) c->debug_dir = str_dup(str_from(o->debug_dir));
    if ((c->t && !c->cache) || (is_own && !c->template && c->t) ||
        (o && o->debug_dir && !c->debug_dir)) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for the chat.");
        chat_free(c);
        return NULL;
    }
    return c;
}

void chat_free(chat *c) {
    if (!c) return;
    jinja_free(c->template);
    constraint_cache_free(c->constraints);
    tok_cache_free(c->cache);
    free(c->debug_dir);
    free(c);
}

/* Room in each half of the cache for the conversations of all slots and one more: about four bytes of
 * text and four of id a token, and a header a stretch. At least a history of 100,000 tokens. */
size_t chat_plan_bytes(int64_t max_context_tokens, int n_parallel) {
    const size_t least = 2 * 1024 * 1024, most = 16 * 1024 * 1024, per_token = 10;
    size_t n = (size_t)(max_context_tokens > 0 ? max_context_tokens : 0);
    if (n > most || n_parallel > 1024) return most;
    n *= 2 * per_token * ((size_t)n_parallel + 1);
    return n < least ? least : n > most ? most : n;
}

chat_stats chat_get_stats(const chat *c) {
    chat *m = (chat *)(uintptr_t)c; /* C17's atomic_load takes no pointer to const */
    chat_stats s = {.n_cut = atomic_load(&m->counters.n_cut),
                    .n_turns_dropped = atomic_load(&m->counters.n_turns_dropped),
                    .n_tokens_dropped = atomic_load(&m->counters.n_tokens_dropped),
                    .n_refused = atomic_load(&m->counters.n_refused)};
    if (c->cache) s.tokenizing = tok_cache_get_stats(c->cache);
    return s;
}

engine *chat_get_engine(const chat *c) {
    return c->e;
}
bool chat_is_harmony(const chat *c) {
    return c->is_harmony;
}
bool chat_can_chat(const chat *c) {
    return c->template || c->is_harmony;
}

/* ── Messages in the shape templates expect ── */

/* A JSON value under construction, which fails stickily: a context that lost a message because
 * memory ran out would be a different conversation. */
typedef struct context {
    const chat *c;
    /* What a template that refused the messages may want instead, tried in turn: */
    bool describes;     /* every parameter has a description, if an empty one (Command R+) */
    bool short_ids;     /* nine letters and digits (Mistral's) */
    bool args_as_text;  /* arguments joined to strings (DeepSeek-R1, Functionary) */
    bool args_as_map;   /* arguments by name (Qwen3-Coder), also those that are no object */
    bool leaves_effort; /* no reasoning effort that it has no word for (Hunyuan 3) */
    bool tells_in_user; /* no system message: what is told of tools joins the user's first */
    bool failed;
} context;

static void set(context *x, json_t *object, const char *key, json_t *v) {
    x->failed |= json_object_set_new(object, key, v) != 0;
}

static void append(context *x, json_t *array, json_t *v) {
    x->failed |= json_array_append_new(array, v) != 0;
}

/* Templates work on text; bytes that are none become U+FFFD. */
static json_t *make_text(str s) {
    if (utf8_is_valid(s)) return json_stringn(s.ptr ? s.ptr : "", s.len);
    buf clean = {0};
    scrub scrubber = {0};
    scrub_push(&scrubber, s, &clean);
    scrub_flush(&scrubber, &clean);
    json_t *v = clean.failed ? NULL : json_stringn(clean.ptr, clean.len);
    buf_deinit(&clean);
    return v;
}

static void set_text(context *x, json_t *object, const char *key, str s) {
    set(x, object, key, make_text(s));
}

/* Templates write arguments out themselves, so they get the value; text that is no object stays text. */
static json_t *make_arguments(context *x, const chat_call *call) {
    error err = {0};
    str text = call->arguments;
    if (call->is_custom) {
        json_t *input = json_object();
        set_text(x, input, "input", text);
        if (!x->args_as_text) return input;
        char *joined = json_dumps(input, JSON_ENCODE_ANY);
        json_t *said = joined ? json_string(joined) : NULL;
        free(joined);
        json_decref(input);
        return said;
    }
    if (x->args_as_text) return make_text(text);
    if (!str_trim(text).len) return json_object(); /* a call without any */
    json_t *v = json_parse(text, &err);
    x->failed |= err.code == ERR_NO_MEMORY;
    if (json_is_object(v)) return v;
    json_decref(v);
    if (!x->args_as_map) return make_text(text);
    v = json_object();
    set_text(x, v, "arguments", text);
    return v;
}

static void set_id(context *x, json_t *object, const char *key, str id) {
    static const char LETTERS[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    char out[9];
    bool fits = id.len == sizeof out;
    for (size_t i = 0; i < id.len && fits; i++) fits = memchr(LETTERS, id.ptr[i], 62) != NULL;
    if (!x->short_ids || fits) {
        set_text(x, object, key, id);
        return;
    }
    uint64_t h = hash_str(id);
    for (size_t i = 0; i < sizeof out; i++, h /= 62) out[i] = LETTERS[h % 62];
    set_text(x, object, key, str_make(out, sizeof out));
}

static json_t *make_calls(context *x, const chat_message *m) {
    json_t *calls = json_array();
    for (size_t i = 0; i < m->n_calls; i++) {
        json_t *call = json_object(), *function = json_object();
        set_id(x, call, "id", m->calls[i].id);
        set(x, call, "type", json_string("function"));
        set_text(x, function, "name", m->calls[i].name);
        set(x, function, "arguments", make_arguments(x, &m->calls[i]));
        set(x, call, "function", function);
        append(x, calls, call);
    }
    return calls;
}

/* A message with or about calls for a template that knows none. */
static json_t *make_plain_message(context *x, const chat_message *m) {
    json_t *v = json_object();
    buf text = {0};
    plain_tools_put_message(&text, m);
    x->failed |= text.failed;
    set(x, v, "role", json_string(m->role == CHAT_TOOL ? "user" : "assistant"));
    set_text(x, v, "content", buf_str(&text));
    if (m->reasoning.len) set_text(x, v, "reasoning_content", m->reasoning);
    buf_deinit(&text);
    return v;
}

static json_t *make_message(context *x, const chat_message *m) {
    static const char *const ROLES[] = {"system", "developer", "user", "assistant", "tool"};
    if (x->c->is_plain && plain_tools_concern(m)) return make_plain_message(x, m);
    json_t *v = json_object();
    bool as_system = m->role == CHAT_DEVELOPER && !x->c->knows_developer;
    set(x, v, "role", json_string(as_system ? "system" : ROLES[m->role]));
    /* Empty rather than null, at which half of all templates print "None" or stop, unless the
     * template asks for null to know a message of calls only. */
    if (m->n_calls && !m->has_content && x->c->asks_for_null)
        set(x, v, "content", json_null());
    else
        set_text(x, v, "content", m->content);
    if (m->reasoning.len) set_text(x, v, "reasoning_content", m->reasoning);
    if (m->name.len) set_text(x, v, "name", m->name);
    if (m->call_id.len) set_id(x, v, "tool_call_id", m->call_id);
    if (m->n_calls) set(x, v, "tool_calls", make_calls(x, m));
    return v;
}

static json_t *make_parameters(context *x, const chat_tool *t) {
    size_t n = json_object_size(t->parameters);
    bool says_nothing = n == 0 || (n == 1 && json_object_get(t->parameters, "type"));
    json_t *made = t->is_custom
                       ? json_pack("{s:s, s:{s:{s:s}}, s:[s]}", "type", "object", "properties",
                                   "input", "type", "string", "required", "input")
                   : says_nothing ? json_pack("{s:s, s:{}}", "type", "object", "properties")
                   : x->describes ? json_deep_copy(t->parameters)
                                  : json_incref(t->parameters),
           *property;
    const char *key;
    if (!x->describes) return made;
    json_object_foreach(json_object_get(made, "properties"), key, property) {
        if (json_is_object(property) && !json_object_get(property, "description"))
            set(x, property, "description", json_string(""));
    }
    return made;
}

static json_t *make_tools(context *x, const chat_input *in) {
    json_t *tools = json_array();
    for (size_t i = 0; i < in->n_tools; i++) {
        const chat_tool *t = &in->tools[i];
        json_t *tool = json_object(), *function = json_object();
        set(x, tool, "type", json_string("function"));
        set_text(x, function, "name", t->name);
        set_text(x, function, "description", t->description);
        set(x, function, "parameters", make_parameters(x, t));
        set(x, tool, "function", function);
        append(x, tools, tool);
    }
    return tools;
}

/* Firefunction's names for the tools and the time. */
static void set_functions(context *x, json_t *v, const chat_input *in, bool has_tools) {
    json_t *tools = has_tools ? make_tools(x, in) : json_array();
    char *text = json_dumps(tools, JSON_INDENT(2)), date[40];
    set(x, v, "functions", text ? json_string(text) : NULL);
    free(text);
    json_decref(tools);
    time_t now = (time_t)in->now;
    struct tm tm;
    if (gmtime_r(&now, &tm) && strftime(date, sizeof date, "%b %d %Y %H:%M:%S GMT", &tm))
        set(x, v, "datetime", json_string(date));
}

static str special_text(const tok *t, int32_t id) {
    return id < 0 ? (str){0} : tok_piece(t, id);
}

/* The instructions join the system message, or become one; or they join the first user message. */
static void tell_tools(context *x, json_t *messages, const chat_input *in) {
    buf text = {0};
    json_t *first = json_array_get(messages, 0);
    bool is_system = str_is(json_str(json_object_get(first, "role")), "system");
    if (is_system || x->tells_in_user)
        buf_append_str(&text, json_str(json_object_get(first, "content")));
    if (text.len) buf_append_cstr(&text, "\n\n");
    plain_tools_put_instructions(&text, in->tools, in->n_tools);
    x->failed |= text.failed;
    if (is_system || (x->tells_in_user && first)) {
        set_text(x, first, "content", buf_str(&text));
    } else {
        json_t *system = json_object();
        set(x, system, "role", json_string("system"));
        set_text(x, system, "content", buf_str(&text));
        x->failed |= json_array_insert_new(messages, 0, system) != 0;
    }
    buf_deinit(&text);
}

static json_t *make_context(context *x, const chat_input *in) {
    const tok *t = x->c->t;
    json_t *v = json_object(), *messages = json_array();
    bool has_tools = in->n_tools && in->tool_choice != CHAT_TOOLS_NONE;
    for (size_t i = 0; i < in->n_messages; i++)
        append(x, messages, make_message(x, &in->messages[i]));
    if (has_tools && x->c->is_plain) tell_tools(x, messages, in);
    set(x, v, "messages", messages);
    if (has_tools && !x->c->is_plain) set(x, v, "tools", make_tools(x, in));
    if (jinja_mentions(x->c->template, STR("functions"))) set_functions(x, v, in, has_tools);
    set(x, v, "add_generation_prompt", json_true());
    set_text(x, v, "bos_token", special_text(t, tok_bos(t)));
    set_text(x, v, "eos_token", special_text(t, tok_eos(t)));
    if (in->reasoning_effort.len && !x->leaves_effort)
        set_text(x, v, "reasoning_effort", in->reasoning_effort);
    if (in->model_identity.len) set_text(x, v, "model_identity", in->model_identity);
    if (in->template_args) x->failed |= json_object_update_missing(v, in->template_args) != 0;
    return v;
}

/* ── Prompt ── */

/* The template refused: is there something it may rather want to see? */
static bool try_otherwise(context *x, const chat_input *in, const error *why) {
    bool has_calls = false;
    for (size_t i = 0; i < in->n_messages; i++) has_calls |= in->messages[i].n_calls > 0;
    /* A render that ran out of memory must not succeed as a different prompt. */
    if (why->code != ERR_TEMPLATE || contains(str_from(why->message), "memory")) return false;
    if (!x->describes && in->n_tools && contains(str_from(why->message), "'description'"))
        return x->describes = true;
    if (!x->short_ids && contains(str_from(why->message), "length 9")) return x->short_ids = true;
    if (!x->leaves_effort && in->reasoning_effort.len &&
        contains(str_from(why->message), "reasoning_effort"))
        return x->leaves_effort = true;
    if (!x->args_as_text && !x->args_as_map && has_calls) return x->args_as_text = true;
    if (x->args_as_text && !x->args_as_map) {
        x->args_as_text = false;
        return x->args_as_map = true;
    }
    if (!x->tells_in_user && x->c->is_plain && in->n_tools) return x->tells_in_user = true;
    return false;
}

/* The answer's beginning behind the prompt, and before it the end of a reasoning that the template opened:
 * that is the template's to say, what the client wrote stays text. */
static bool put_started(const chat *c, str started, jinja_output *out) {
    str opened = c->style.family ? parser_find_prefix(&c->style, buf_str(&out->text)) : (str){0};
    if (opened.len && c->style.think.open.len && str_starts(opened, c->style.think.open)) {
        tok_span *grown = realloc(out->trusted, (out->n_trusted + 1) * sizeof *grown);
        if (!grown) return false;
        out->trusted = grown;
        size_t from = out->text.len;
        buf_append_str(&out->text, c->style.think.close);
        buf_append_cstr(&out->text, "\n\n");
        grown[out->n_trusted++] = (tok_span){from, out->text.len};
    }
    buf_append_str(&out->text, started);
    return !out->text.failed;
}

/* The same for harmony: the header of a final message, and the text. */
static bool put_started_harmony(const harmony *h, str started, tok_ids *ids, buf *text,
                                error *err) {
    bool ok = true;
    if (ids) {
        tok_ids_push(ids, h->channel);
        ok = tok_encode(h->t, STR("final"), (tok_encode_opts){0}, ids, err);
        tok_ids_push(ids, h->message);
        ok = ok && tok_encode(h->t, started, (tok_encode_opts){0}, ids, err);
    }
    if (text) {
        buf_append_cstr(text, "<|channel|>final<|message|>");
        buf_append_str(text, started);
    }
    return ok && (!((ids && ids->failed) || (text && text->failed)) || is_out_of_memory(err));
}

static bool render_template(const chat *c, const chat_input *in, tok_ids *ids, buf *text,
                            error *err) {
    static const char *const TRUSTED[] = {"bos_token", "eos_token", "messages[].role"};
    jinja_opts opts = {.now_unix_s = in->now, .trusted = TRUSTED, .n_trusted = 3};
    jinja_output out = {0};
    context x = {.c = c};
    error first = {0}, why = {0};
    bool ok = false;
    do {
        why = (error){0};
        json_t *variables = make_context(&x, in);
        ok = x.failed ? is_out_of_memory(&why)
                      : jinja_render(c->template, variables, &opts, &out, &why);
        json_decref(variables);
        if (!ok && !error_is_set(&first)) first = why;
    } while (!ok && try_otherwise(&x, in, &why));
    if (!ok) {
        if (err) *err = first;
        return false;
    }
    if (in->started.len && !put_started(c, in->started, &out)) ok = is_out_of_memory(err);
    if (ok && ids) {
        /* A template that leaves BOS to the tokenizer gets it; one that writes it is not doubled. */
        str bos = special_text(c->t, tok_bos(c->t));
        bool has_bos = !bos.len || str_starts(buf_str(&out.text), bos);
        tok_encode_opts how = {
            .add_bos = tok_adds_bos(c->t) && !has_bos,
            .parse_special = true,
            .trusted = out.trusted ? out.trusted : &(tok_span){0, 0},
            .n_trusted = out.n_trusted,
            .cache = c->cache,
        };
        ok = tok_encode(c->t, buf_str(&out.text), how, ids, err);
    }
    if (ok && text) buf_append_str(text, buf_str(&out.text));
    jinja_output_deinit(&out);
    if (ok && ((ids && ids->failed) || (text && text->failed))) ok = is_out_of_memory(err);
    return ok;
}

bool chat_render(const chat *c, const chat_input *in, tok_ids *ids, buf *text, error *err) {
    if (c->template) return render_template(c, in, ids, text, err);
    if (c->is_harmony)
        return harmony_render_chat(&c->harmony, in, ids, text, err) &&
               (!in->started.len || put_started_harmony(&c->harmony, in->started, ids, text, err));
    if (error_is_set(&c->template_error))
        return error_set(err, ERR_UNSUPPORTED_VALUE, NULL,
                         "This model's chat template cannot be used: %s",
                         c->template_error.message);
    return error_set(
        err, ERR_UNSUPPORTED_VALUE, NULL,
        "This model's file has no chat template, so it cannot chat; raw prompts work.");
}
