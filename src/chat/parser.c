#include "chat/parser.h"

#include <stdlib.h>

typedef struct queued {
    parser_event_kind kind;
    size_t begin, end, id_end; /* in text: [begin, end), its id [end, id_end) */
    int call;
} queued;

struct parser {
    const parser_format *format;
    void *state;
    buf text; /* of this push */
    queued *queue;
    size_t n_queue, cap_queue, at_queue;
    int n_calls;
    bool reasoning, failed;
    const char *diagnostic;
    int64_t n_reasoning;
};

parser *parser_new(const parser_options *o) {
    parser *p = calloc(1, sizeof *p);
    if (!p) return NULL;
    p->format = o->harmony ? &format_harmony : &format_tagged;
    p->state = calloc(1, p->format->state_size);
    if (p->state) p->format->init(p->state, p, o);
    if (p->state && !p->failed) return p;
    parser_free(p);
    return NULL;
}

void parser_free(parser *p) {
    if (!p) return;
    if (p->state) p->format->deinit(p->state);
    free(p->state);
    free(p->queue);
    buf_deinit(&p->text);
    free(p);
}

static void begin(parser *p) {
    p->failed |= p->text.failed; /* clearing forgets it */
    p->n_queue = p->at_queue = 0;
    buf_clear(&p->text);
}

void parser_push(parser *p, int32_t id) {
    if (p->failed) return;
    begin(p);
    bool before = p->reasoning;
    p->format->push(p->state, id);
    if (before || p->reasoning) p->n_reasoning++;
}

void parser_push_text(parser *p, str text) {
    if (p->failed || !p->format->push_text) return;
    begin(p);
    p->format->push_text(p->state, text);
}

void parser_finish(parser *p) {
    if (p->failed) return;
    begin(p);
    p->format->finish(p->state);
}

bool parser_next(parser *p, parser_event *e) {
    if (parser_failed(p) || p->at_queue == p->n_queue) return false;
    const queued *q = &p->queue[p->at_queue++];
    *e = (parser_event){q->kind, str_make(p->text.ptr + q->begin, q->end - q->begin), q->call,
                        str_make(p->text.ptr + q->end, q->id_end - q->end)};
    return true;
}

bool parser_failed(const parser *p) {
    return p->failed || p->text.failed;
}
const char *parser_diagnostic(const parser *p) {
    return p->diagnostic;
}
int64_t parser_n_reasoning(const parser *p) {
    return p->n_reasoning;
}

static void enqueue(parser *p, parser_event_kind kind, str text, str id) {
    queued *last = p->n_queue ? &p->queue[p->n_queue - 1] : NULL;
    if (!last || last->kind != kind || !text.len || kind == PARSER_CALL_BEGIN ||
        kind == PARSER_CALL_END) {
        if (p->n_queue == p->cap_queue) {
            size_t cap = p->cap_queue ? 2 * p->cap_queue : 8;
            queued *grown = realloc(p->queue, cap * sizeof *grown);
            if (!grown) {
                p->failed = true;
                return;
            }
            p->queue = grown;
            p->cap_queue = cap;
        }
        last = &p->queue[p->n_queue++];
        *last = (queued){kind, p->text.len, p->text.len, p->text.len, p->n_calls - 1};
    }
    buf_append_str(&p->text, text);
    last->end = p->text.len;
    buf_append_str(&p->text, id);
    last->id_end = p->text.len;
}

void parser_put(parser *p, parser_event_kind kind, str text) {
    if (text.len) enqueue(p, kind, text, (str){0});
}

void parser_begin_call(parser *p, str name, str id) {
    p->n_calls++;
    enqueue(p, PARSER_CALL_BEGIN, name, id);
}

void parser_end_call(parser *p, str id) {
    enqueue(p, PARSER_CALL_END, (str){0}, id);
}

void parser_note(parser *p, const char *diagnostic) {
    if (!p->diagnostic) p->diagnostic = diagnostic;
}

void parser_set_reasoning(parser *p, bool inside) {
    p->reasoning = inside;
}
void parser_fail(parser *p) {
    p->failed = true;
}
