/* The API's conversation → harmony messages. What the format wants differently:
 * system and developer messages are the developer's instructions (harmony's own
 * system message states identity, date and effort); one assistant message can be
 * an analysis, a preamble or answer, and several calls; a tool's result is signed
 * with the function's name.
 */
#include "chat/harmony.h"

#include <stdio.h>
#include <time.h>

#include "base/arena.h"

#define DEFAULT_IDENTITY "You are ChatGPT, a large language model trained by OpenAI."
#define DEFAULT_CUTOFF   "2024-06"

typedef struct builder {
    const chat_input *in;
    arena a;
    harmony_message *messages;
    size_t n;
} builder;

static void add(builder *b, harmony_message m) {
    b->messages[b->n++] = m;
}

static str join(arena *a, str x, str between, str y) {
    size_t len = x.len + between.len + y.len;
    char *p = arena_alloc(a, len + 1);
    if (!p) return (str){0};
    if (x.len) memcpy(p, x.ptr, x.len);
    if (between.len) memcpy(p + x.len, between.ptr, between.len);
    if (y.len) memcpy(p + x.len + between.len, y.ptr, y.len);
    return str_make(p, len);
}

static str default_to(str s, const json_t *args, const char *key, str otherwise) {
    if (s.len) return s;
    s = json_str(json_object_get(args, key));
    return s.len ? s : otherwise;
}

/* The model knows three levels; the API has names around them. */
static str known_effort(str s) {
    if (str_is(s, "none") || str_is(s, "minimal")) return STR("low");
    if (str_is(s, "xhigh")) return STR("high");
    return s;
}

static bool is_instructions(const chat_message *m) {
    return m->role == CHAT_SYSTEM || m->role == CHAT_DEVELOPER;
}

/* Everything borrowed from b's arena; NULL when memory ran out (sticky in the arena). */
static void add_system(builder *b) {
    static const str CHANNELS[] = {{"analysis", 8}, {"commentary", 10}, {"final", 5}};
    const chat_input *in = b->in;
    harmony_system *s = arena_alloc(&b->a, sizeof *s);
    const json_t *wanted = json_object_get(in->template_args, "builtin_tools");
    const harmony_namespace **tools =
        arena_array(&b->a, json_array_size(wanted) + 1, sizeof *tools);
    char *date = arena_alloc(&b->a, 64);
    if (b->a.failed) return;
    size_t n_tools = 0;
    for (size_t i = 0; i < json_array_size(wanted); i++) {
        const harmony_namespace *tool = harmony_find_builtin(json_str(json_array_get(wanted, i)));
        if (tool) tools[n_tools++] = tool;
    }
    struct tm tm;
    time_t now = (time_t)in->now;
    if (in->now > 0 && gmtime_r(&now, &tm))
        snprintf(date, 64, "%04d-%02d-%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
    *s = (harmony_system){
        .model_identity = default_to(in->model_identity, in->template_args, "model_identity",
                                     STR(DEFAULT_IDENTITY)),
        .knowledge_cutoff = in->knowledge_cutoff.len ? in->knowledge_cutoff : STR(DEFAULT_CUTOFF),
        .start_date = str_from(date),
        .reasoning_effort = known_effort(
            default_to(in->reasoning_effort, in->template_args, "reasoning_effort", STR("medium"))),
        .tools = tools,
        .n_tools = n_tools,
        .channels = CHANNELS,
        .n_channels = 3,
        .channel_required = true,
    };
    add(b, (harmony_message){.role = CHAT_SYSTEM, .system = s});
}

static void add_developer(builder *b, str instructions, bool with_tools) {
    const chat_input *in = b->in;
    with_tools = with_tools && in->n_tools && in->tool_choice != CHAT_TOOLS_NONE;
    if (!instructions.len && !with_tools) return;
    harmony_developer *d = arena_alloc(&b->a, sizeof *d);
    harmony_namespace *functions = arena_alloc(&b->a, sizeof *functions);
    const harmony_namespace **tools = arena_alloc(&b->a, sizeof *tools);
    if (b->a.failed) return;
    *functions =
        (harmony_namespace){.name = STR("functions"), .tools = in->tools, .n_tools = in->n_tools};
    tools[0] = functions;
    *d = (harmony_developer){
        .instructions = instructions,
        .has_instructions = instructions.len > 0,
        .tools = tools,
        .n_tools = with_tools,
    };
    add(b, (harmony_message){.role = CHAT_DEVELOPER, .developer = d});
}

static void add_assistant(builder *b, const chat_message *m, bool keep_reasoning) {
    harmony_message base = {.role = CHAT_ASSISTANT, .name = m->name};
    if (keep_reasoning && m->reasoning.len) {
        harmony_message analysis = base;
        analysis.channel = STR("analysis");
        analysis.text = m->reasoning;
        add(b, analysis);
    }
    /* Words before a call are a preamble, which the format shows to the user in `commentary`. */
    if (m->has_content && (m->content.len || !m->n_calls)) {
        harmony_message answer = base;
        answer.channel = m->n_calls ? STR("commentary") : STR("final");
        answer.text = m->content;
        add(b, answer);
    }
    for (size_t i = 0; i < m->n_calls; i++) {
        harmony_message call = base;
        call.channel = STR("commentary");
        call.recipient = join(&b->a, STR("functions."), (str){0}, m->calls[i].name);
        if (!m->calls[i].is_custom) call.content_type = STR("<|constrain|>json");
        call.text = m->calls[i].arguments;
        add(b, call);
    }
}

/* The function a tool message answers: by call id, else by its own name, else the latest call. */
static str find_called(const chat_input *in, size_t at) {
    const chat_message *m = &in->messages[at];
    for (size_t i = at; m->call_id.len && i-- > 0;)
        for (size_t k = 0; k < in->messages[i].n_calls; k++)
            if (str_eq(in->messages[i].calls[k].id, m->call_id))
                return in->messages[i].calls[k].name;
    if (m->name.len) return m->name;
    for (size_t i = at; i-- > 0;)
        if (in->messages[i].n_calls) return in->messages[i].calls[in->messages[i].n_calls - 1].name;
    return (str){0};
}

static bool add_tool(builder *b, size_t at, error *err) {
    const chat_message *m = &b->in->messages[at];
    str name = find_called(b->in, at);
    if (!name.len) {
        char param[40];
        snprintf(param, sizeof param, "messages[%zu]", at);
        return error_set(
            err, ERR_TEMPLATE, param,
            "A message with role 'tool' must follow an assistant message with 'tool_calls'.");
    }
    add(b, (harmony_message){
               .role = CHAT_TOOL,
               .name = join(&b->a, STR("functions."), (str){0}, name),
               .recipient = STR("assistant"),
               .channel = STR("commentary"),
               .text = m->content,
           });
    return true;
}

static bool build(builder *b, error *err) {
    const chat_input *in = b->in;
    size_t room = 2, first = 0, last_final = 0; /* last_final: one past it */
    for (size_t i = 0; i < in->n_messages; i++) {
        const chat_message *m = &in->messages[i];
        room += 2 + m->n_calls;
        if (m->role == CHAT_ASSISTANT && !m->n_calls && m->has_content) last_final = i + 1;
    }
    b->messages = arena_array(&b->a, room, sizeof *b->messages);
    if (!b->messages) return true;
    add_system(b);
    str instructions = {0};
    for (; first < in->n_messages && is_instructions(&in->messages[first]); first++) {
        str more = in->messages[first].content;
        if (instructions.len && more.len)
            instructions = join(&b->a, instructions, STR("\n\n"), more);
        else if (more.len)
            instructions = more;
    }
    add_developer(b, instructions, true);
    for (size_t i = first; i < in->n_messages; i++) {
        const chat_message *m = &in->messages[i];
        if (is_instructions(m))
            add_developer(b, m->content, false);
        else if (m->role == CHAT_USER)
            add(b, (harmony_message){.role = CHAT_USER, .name = m->name, .text = m->content});
        else if (m->role == CHAT_ASSISTANT)
            add_assistant(b, m, i >= last_final);
        else if (!add_tool(b, i, err))
            return false;
    }
    return true;
}

bool harmony_render_chat(const harmony *h, const chat_input *in, tok_ids *ids, buf *text,
                         error *err) {
    builder b = {.in = in};
    arena_init(&b.a, 0);
    bool ok = build(&b, err);
    if (ok && b.a.failed)
        ok = error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for the prompt.");
    if (ok)
        ok = harmony_render(h, b.messages, b.n, (harmony_render_opts){.open_assistant = true}, ids,
                            text, err);
    arena_deinit(&b.a);
    return ok;
}
