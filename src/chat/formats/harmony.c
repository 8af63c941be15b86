/* harmony messages → reasoning, content and calls. `analysis` is reasoning;
 * `final` and messages without a channel are the answer; `commentary` without a
 * recipient is a preamble, meant for the user; a recipient is a call. What is
 * addressed to a tool nobody offered, or written in another role's name, is left
 * out with a diagnostic. Two messages of one kind are separated by an empty line.
 */
#include <stdlib.h>

#include "chat/parser.h"

typedef struct state {
    parser *p;
    harmony_parser h;
    bool takes_calls, show_reasoning;
    char **tools;
    size_t n_tools;
    enum { LEFT_OUT, REASONING, CONTENT, PREAMBLE, CALL } message;
    bool wrote[2]; /* reasoning, visible text: anything yet */
    bool apart;    /* the next text begins a further message of its kind */
} state;

static void init(void *v, parser *p, const parser_options *o) {
    state *s = v;
    s->p = p;
    s->takes_calls = o->takes_calls;
    s->show_reasoning = o->show_reasoning;
    harmony_parser_init(&s->h, o->harmony, o->inside, false);
    s->tools = calloc(o->n_tools ? o->n_tools : 1, sizeof *s->tools);
    if (!s->tools) {
        parser_fail(p);
        return;
    }
    for (; s->n_tools < o->n_tools; s->n_tools++)
        if (!(s->tools[s->n_tools] = str_dup(o->tools[s->n_tools].name))) {
            parser_fail(p);
            return;
        }
}

static void deinit(void *v) {
    state *s = v;
    for (size_t i = 0; i < s->n_tools; i++) free(s->tools[i]);
    free(s->tools);
    harmony_parser_deinit(&s->h);
}

/* The function's name in a recipient; empty when it is none of ours. A model sometimes forgets the
 * namespace of a function it knows. */
static str find_function(const state *s, str recipient) {
    static const str PREFIX = {"functions.", 10};
    if (str_starts(recipient, PREFIX))
        return str_make(recipient.ptr + PREFIX.len, recipient.len - PREFIX.len);
    for (size_t i = 0; i < s->n_tools; i++)
        if (str_is(recipient, s->tools[i])) return recipient;
    return (str){0};
}

static bool is_everyone(str recipient) {
    return !recipient.len || str_is(recipient, "assistant") || str_is(recipient, "user") ||
           str_is(recipient, "all");
}

static void begin_message(state *s, const harmony_header *h) {
    s->message = LEFT_OUT;
    if (h->role != CHAT_ASSISTANT) {
        parser_note(s->p, "The model wrote a message in another role's name, which was left out.");
    } else if (!is_everyone(h->recipient)) {
        str name = find_function(s, h->recipient);
        if (name.len && s->takes_calls) {
            s->message = CALL;
            parser_begin_call(s->p, name, (str){0});
        } else {
            parser_note(s->p, "The model called a tool it was not offered, which was left out.");
        }
    } else if (str_is(h->channel, "analysis")) {
        s->message = REASONING;
    } else if (str_is(h->channel, "commentary")) {
        s->message = PREAMBLE;
    } else {
        s->message = CONTENT;
        if (!h->channel.len)
            parser_note(s->p, "A message has no channel and was taken for the answer.");
        else if (!str_is(h->channel, "final"))
            parser_note(s->p, "A message has an unknown channel and was taken for the answer.");
    }
    s->apart = s->message != LEFT_OUT && s->message != CALL && s->wrote[s->message != REASONING];
    parser_set_reasoning(s->p, s->message == REASONING);
    if (s->message == REASONING && s->show_reasoning)
        parser_put(s->p, PARSER_CONTENT, STR("<|channel|>analysis<|message|>"));
}

static void put_text(state *s, str text) {
    static const parser_event_kind KINDS[] = {
        [REASONING] = PARSER_REASONING,
        [CONTENT] = PARSER_CONTENT,
        [PREAMBLE] = PARSER_PREAMBLE,
        [CALL] = PARSER_CALL_ARGS,
    };
    if (s->message == LEFT_OUT) return;
    if (s->message == REASONING && s->show_reasoning) {
        parser_put(s->p, PARSER_CONTENT, text);
        return;
    }
    bool is_reasoning = s->message == REASONING;
    if (s->apart) parser_put(s->p, is_reasoning ? PARSER_REASONING : PARSER_PREAMBLE, STR("\n\n"));
    s->apart = false;
    if (s->message != CALL) s->wrote[!is_reasoning] = true;
    parser_put(s->p, KINDS[s->message], text);
}

static void drain(state *s) {
    harmony_event e;
    while (harmony_next(&s->h, &e)) {
        if (e.kind == HARMONY_BEGIN) {
            begin_message(s, &e.header);
        } else if (e.kind == HARMONY_TEXT) {
            put_text(s, e.text);
        } else {
            if (s->message == CALL) parser_end_call(s->p, (str){0});
            if (s->message == REASONING && s->show_reasoning)
                parser_put(s->p, PARSER_CONTENT, STR("<|end|>"));
            s->message = LEFT_OUT;
            parser_set_reasoning(s->p, false);
        }
    }
    if (harmony_diagnostic(&s->h)) parser_note(s->p, harmony_diagnostic(&s->h));
    if (harmony_parser_failed(&s->h)) parser_fail(s->p);
}

static void push(void *v, int32_t id) {
    state *s = v;
    harmony_push(&s->h, id);
    drain(s);
}

static void finish(void *v) {
    state *s = v;
    harmony_finish(&s->h);
    drain(s);
}

const parser_format format_harmony = {sizeof(state), init, deinit, push, NULL, finish};
