/* Harmony messages as one line of text each, so that tests compare strings:
 *     role[:name] to=recipient |channel| (content type) "content" end
 */
#ifndef TESTS_HARMONY_TEXT_H
#define TESTS_HARMONY_TEXT_H

#include "chat/harmony.h"

static inline void describe_header(const harmony_header *h, buf *out) {
    static const char *const ROLES[] = {"system", "developer", "user", "assistant", "tool"};
    buf_append_cstr(out, ROLES[h->role]);
    if (h->name.len) buf_printf(out, ":%.*s", STR_ARG(h->name));
    if (h->recipient.len) buf_printf(out, " to=%.*s", STR_ARG(h->recipient));
    if (h->channel.len) buf_printf(out, " |%.*s|", STR_ARG(h->channel));
    if (h->content_type.len) buf_printf(out, " (%.*s)", STR_ARG(h->content_type));
    buf_append_cstr(out, " \"");
}

/* Takes what is waiting; false when events are badly nested or a text is empty or not UTF-8. */
static inline bool describe_events(harmony_parser *p, bool *open, buf *out) {
    static const char *const ENDS[] = {"end", "return", "call", "cut"};
    harmony_event e;
    while (harmony_next(p, &e)) {
        if ((e.kind == HARMONY_BEGIN) == *open) return false;
        if (e.kind == HARMONY_BEGIN) describe_header(&e.header, out);
        if (e.kind == HARMONY_TEXT) {
            if (!e.text.len || !utf8_is_valid(e.text)) return false;
            buf_append_str(out, e.text);
        }
        if (e.kind == HARMONY_END) buf_printf(out, "\" %s\n", ENDS[e.end_kind]);
        *open = e.kind != HARMONY_END;
    }
    return true;
}

/* All ids → lines. False when an invariant of the events is broken. */
static inline bool describe_ids(const harmony *h, const int32_t *ids, size_t n, bool open_assistant,
                                bool strict, buf *out, const char **diagnostic) {
    harmony_parser p;
    bool open = false, ok = true;
    harmony_parser_init(&p, h, open_assistant, strict);
    for (size_t i = 0; i < n && ok; i++) {
        harmony_push(&p, ids[i]);
        ok = describe_events(&p, &open, out);
    }
    harmony_finish(&p);
    ok = ok && describe_events(&p, &open, out) && (strict || !open);
    if (diagnostic) *diagnostic = harmony_diagnostic(&p);
    if (p.failed || (!strict && p.stopped)) ok = false;
    harmony_parser_deinit(&p);
    return ok;
}

#endif
