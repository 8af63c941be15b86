/* Text with reasoning between two tags and calls between a family's marks
 * (families.c). Here is found what is reasoning, what is the answer and where a
 * call begins; reading a call is another's work (tagged.h). What turns out to be
 * no call after all is content, marks included: nothing the model says is lost
 * but the marks themselves.
 *
 * Marks may be special tokens or ordinary text, cut anywhere. White space around
 * the reasoning, between calls and before the first one belongs to the marks.
 */
#include <stdlib.h>

#include "chat/formats/tagged.h"

enum {
    MAX_HELD_SPACE = 256,  /* white space that waits for a mark; a longer run is text */
    MAX_READ_AGAIN = 4096, /* bytes of a call that was none in which calls are looked for */
};

typedef struct state {
    parser *p;
    const tok *t;
    parser_style style;
    bool show_special, show_reasoning, json_answer, takes_calls;
    chat_tool *tools; /* copies */
    size_t n_tools;
    scrub scrub;
    enum { LEAD, OPENED, THINKING, ANSWER, CALL } at;
    bool may_think;  /* LEAD: reasoning may open */
    bool drops_lead; /* LEAD: white space is not content */
    bool after_call; /* LEAD: behind a call */
    bool has_shown;  /* any content yet */
    bool fence_read; /* json_answer: what stood before the value is left out */
    buf held;        /* text whose meaning the next bytes decide */
    buf opening;     /* show_reasoning: the opening tag until there is reasoning to show */
    call_reader reader;
    buf raw;         /* what the open call was written as, until it begins … */
    size_t mark_len; /* … and how much of that is its mark; 0 = it had none */
    buf tail;        /* json_answer: what may be the fence at the end */
} state;

static void set_thinking(state *s, bool thinks) {
    if (thinks) s->at = OPENED;
    parser_set_reasoning(s->p, thinks);
}

static void init(void *v, parser *p, const parser_options *o) {
    static const parser_style PLAIN = {0};
    state *s = v;
    s->p = p;
    s->t = o->t;
    s->style = o->style ? *o->style : PLAIN;
    s->show_special = o->show_special;
    s->show_reasoning = o->show_reasoning;
    s->json_answer = o->json_answer;
    s->takes_calls = o->takes_calls && s->style.family && s->style.family->style != CALLS_NONE;
    s->may_think = s->style.think.open.len > 0;
    s->at = s->style.family ? LEAD : ANSWER;
    if (s->style.family && s->style.family->flags & FAMILY_BEGINS_THINKING) set_thinking(s, true);
    if (!s->takes_calls) return;
    s->tools = calloc(o->n_tools ? o->n_tools : 1, sizeof *s->tools);
    if (!s->tools) {
        parser_fail(p);
        return;
    }
    for (; s->n_tools < o->n_tools; s->n_tools++) {
        chat_tool *t = &s->tools[s->n_tools];
        t->name = str_make(str_dup(o->tools[s->n_tools].name), o->tools[s->n_tools].name.len);
        if (!t->name.ptr) {
            parser_fail(p);
            return;
        }
        t->is_custom = o->tools[s->n_tools].is_custom;
        t->parameters = json_incref(o->tools[s->n_tools].parameters);
    }
}

static void deinit(void *v) {
    state *s = v;
    for (size_t i = 0; i < s->n_tools; i++) {
        free((char *)(uintptr_t)s->tools[i].name.ptr);
        json_decref(s->tools[i].parameters);
    }
    free(s->tools);
    if (s->at == CALL) call_reader_deinit(&s->reader);
    buf_deinit(&s->held);
    buf_deinit(&s->opening);
    buf_deinit(&s->raw);
    buf_deinit(&s->tail);
}

static void drop_front(buf *b, size_t n) {
    if (!n) return;
    memmove(b->ptr, b->ptr + n, b->len - n);
    b->len -= n;
}

static size_t n_leading_space(str s) {
    size_t n = 0;
    while (n < s.len && call_is_space(s.ptr[n])) n++;
    return n;
}

/* ── Marks ── */

typedef enum mark_kind {
    MARK_NONE,
    MARK_OPEN,
    MARK_CLOSE,
    MARK_CALL,
    MARK_DROP,
    MARK_AFTER
} mark_kind;

typedef struct mark {
    mark_kind kind;
    size_t at, len;
    bool waits; /* what stands at `at` may become a (longer) mark */
} mark;

static void try_mark(mark *m, str rest, str text, mark_kind kind, bool last) {
    if (!text.len) return;
    if (str_starts(rest, text)) {
        if (text.len > m->len) {
            m->kind = kind;
            m->len = text.len;
        }
    } else if (!last && rest.len < text.len && str_starts(text, rest)) {
        m->waits = true;
    }
}

/* The longest mark that stands at this place. */
static mark mark_at(const state *s, str rest, size_t at, bool last) {
    mark m = {.at = at};
    const parser_family *f = s->style.family;
    bool thinks = s->at == THINKING;
    if (thinks) try_mark(&m, rest, s->style.think.close, MARK_CLOSE, last);
    if (!thinks && s->may_think) try_mark(&m, rest, s->style.think.open, MARK_OPEN, last);
    /* A close right at the beginning: reasoning that the prompt or the model left empty. */
    if (s->at == LEAD && s->may_think) try_mark(&m, rest, s->style.think.close, MARK_CLOSE, last);
    if (!f || (thinks && !(f->flags & FAMILY_ENDS_THINKING))) return m;
    if (s->takes_calls)
        for (int i = 0; i < FAMILY_MAX_OPEN && f->open[i]; i++)
            try_mark(&m, rest, str_from(f->open[i]), MARK_CALL, last);
    for (int i = 0; i < FAMILY_MAX_DROP && f->drop[i]; i++)
        try_mark(&m, rest, str_from(f->drop[i]), MARK_DROP, last);
    if (s->after_call)
        for (int i = 0; i < FAMILY_MAX_AFTER && f->after[i]; i++)
            try_mark(&m, rest, str_from(f->after[i]), MARK_AFTER, last);
    return m;
}

/* Bytes with which marks begin: everything else is skipped quickly. */
static void find_first_bytes(const state *s, bool first[256]) {
    const parser_family *f = s->style.family;
    const char *const *open = f ? f->open : NULL, *const *drop = f ? f->drop : NULL;
    if (s->style.think.open.len) first[(unsigned char)s->style.think.open.ptr[0]] = true;
    if (s->style.think.close.len) first[(unsigned char)s->style.think.close.ptr[0]] = true;
    for (int i = 0; open && i < FAMILY_MAX_OPEN && open[i]; i++)
        first[(unsigned char)open[i][0]] = true;
    for (int i = 0; drop && i < FAMILY_MAX_DROP && drop[i]; i++)
        first[(unsigned char)drop[i][0]] = true;
}

/* The first place in text where a mark stands or may be beginning; at its end when there is none. */
static mark find_mark(const state *s, str text, bool last) {
    bool first[256] = {false};
    find_first_bytes(s, first);
    for (size_t i = 0; i < text.len; i++) {
        if (!first[(unsigned char)text.ptr[i]]) continue;
        mark m = mark_at(s, str_make(text.ptr + i, text.len - i), i, last);
        if (m.kind || m.waits) return m;
    }
    return (mark){.at = text.len};
}

/* ── Text out ── */

/* The answer is one JSON value: a fence around it and white space at its ends are left out. */
static void put_json_answer(state *s, str text, bool last) {
    static const str FENCES[] = {{"```json", 7}, {"```", 3}};
    buf_append_str(&s->tail, text);
    str t = buf_str(&s->tail);
    if (!s->fence_read) {
        size_t n = n_leading_space(t);
        str word = str_make(t.ptr + n, t.len - n);
        if (!last && !word.len) return;
        for (int i = 0; i < 2; i++)
            if (str_starts(word, FENCES[i])) {
                n += FENCES[i].len;
                break;
            } else if (!last && str_starts(FENCES[i], word)) {
                return;
            }
        drop_front(&s->tail, n);
        s->fence_read = true;
    }
    if (!s->has_shown) drop_front(&s->tail, n_leading_space(buf_str(&s->tail)));
    t = buf_str(&s->tail);
    if (!t.len) return;
    s->has_shown = true;
    size_t end = t.len, n_ticks = 0;
    while (end && call_is_space(t.ptr[end - 1])) end--;
    while (end && n_ticks < 3 && t.ptr[end - 1] == '`') end--, n_ticks++;
    while (end && n_ticks && call_is_space(t.ptr[end - 1])) end--;
    if (last && n_ticks && n_ticks < 3) end = t.len;
    parser_put(s->p, PARSER_CONTENT, str_make(t.ptr, end));
    drop_front(&s->tail, end);
}

static void put_content(state *s, str text) {
    if (!text.len) return;
    if (s->json_answer) {
        put_json_answer(s, text, false);
    } else {
        s->has_shown = true;
        parser_put(s->p, PARSER_CONTENT, text);
    }
}

static void put_reasoning(state *s, str text) {
    if (!s->show_reasoning) {
        parser_put(s->p, PARSER_REASONING, text);
    } else if (text.len) {
        put_content(s, buf_str(&s->opening));
        buf_clear(&s->opening);
        put_content(s, text);
    }
}

/* ── Where the text stands ── */

static void begin_lead(state *s, bool drops_space, bool after_call) {
    const parser_family *f = s->style.family;
    s->at = LEAD;
    s->may_think = f && f->flags & FAMILY_THINKS_ANYWHERE;
    s->drops_lead = drops_space;
    s->after_call = after_call;
}

static void begin_answer(state *s) {
    const parser_family *f = s->style.family;
    s->at = ANSWER;
    s->may_think = f && f->flags & FAMILY_THINKS_ANYWHERE;
    s->after_call = false;
}

static void begin_call(state *s, call_style style, str mark_text) {
    call_sink sink = {
        .p = s->p, .family = s->style.family, .tools = s->tools, .n_tools = s->n_tools};
    call_reader_init(&s->reader, s->style.family, style, sink);
    s->at = CALL;
    parser_set_reasoning(s->p, false);
    buf_clear(&s->raw);
    buf_append_str(&s->raw, mark_text);
    s->mark_len = mark_text.len;
}

/* Bytes at the front of held that belong to a character begun before it. */
static size_t n_continued(const buf *held, size_t from) {
    size_t n = 0;
    while (from + n < held->len && ((unsigned char)held->ptr[from + n] & 0xC0) == 0x80) n++;
    return n;
}

/* The call is read, or was none: then what has not gone out as a call is content, and calls are
 * looked for behind its first mark. */
static void end_call(state *s, call_state how) {
    bool begun = s->reader.sink.n > 0;
    buf *b = &s->held, whole = s->raw;
    if (s->reader.sink.failed) parser_fail(s->p);
    call_end(&s->reader.sink, (str){0});
    call_reader_deinit(&s->reader);
    begin_lead(s, false, true);
    if (how == CALL_BAD && begun) drop_front(b, n_continued(b, 0));
    if (how == CALL_DONE || begun) return;
    parser_note(s->p, "What looked like a tool call is none and was taken for the answer.");
    begin_answer(s);
    size_t shown = s->mark_len && whole.len <= MAX_READ_AGAIN ? s->mark_len : whole.len;
    buf_append_str(&whole, buf_str(b));
    s->raw = *b;
    *b = whole;
    shown += n_continued(b, shown);
    if (b->failed) return;
    put_content(s, str_make(b->ptr, shown));
    drop_front(b, shown);
}

/* Takes the mark that stands at m, and what is held before it. */
static void take_mark(state *s, mark m) {
    buf *b = &s->held;
    str text = str_make(b->ptr + m.at, m.len);
    switch (m.kind) {
    case MARK_OPEN:
        buf_clear(&s->opening);
        if (s->show_reasoning) buf_append_str(&s->opening, text);
        set_thinking(s, true);
        break;
    case MARK_CALL:
        begin_call(s, str_is(text, FAMILY_PYTHON_TAG) ? CALLS_PYTHON_TAG : s->style.family->style,
                   text);
        break;
    case MARK_CLOSE: begin_lead(s, !s->show_reasoning, false); break;
    default: break; /* left out */
    }
    drop_front(b, m.at + m.len);
}

/* The following take what they can from the front of held; false: they wait for more. */

static bool read_lead(state *s, bool last) {
    buf *b = &s->held;
    str text = buf_str(b);
    size_t n = n_leading_space(text);
    const parser_family *f = s->style.family;
    /* A mark may begin with white space of its own. */
    mark m = mark_at(s, text, 0, last);
    if (!m.kind && !m.waits) m = mark_at(s, str_make(text.ptr + n, text.len - n), n, last);
    if (n > MAX_HELD_SPACE) m = (mark){0};
    if (m.waits) return false;
    if (m.kind) {
        take_mark(s, m);
        return true;
    }
    bool is_bare = s->takes_calls && f->flags & FAMILY_BARE && !s->has_shown && !s->json_answer;
    if (is_bare && n < text.len && text.ptr[n] == '{' && n <= MAX_HELD_SPACE) {
        drop_front(b, n);
        begin_call(s, CALLS_JSON, (str){0});
        return true;
    }
    if (n == text.len && n <= MAX_HELD_SPACE && !s->drops_lead) {
        if (!last) return false;
        /* Only white space: an answer of its own, unless it stands behind a call. */
        if (s->after_call) buf_clear(b);
    }
    if (s->drops_lead) drop_front(b, n);
    if (b->len) begin_answer(s);
    return true;
}

static bool read_answer(state *s, bool last) {
    mark m = find_mark(s, buf_str(&s->held), last);
    put_content(s, str_make(s->held.ptr, m.at));
    if (m.kind && !m.waits) {
        if (m.kind == MARK_DROP) begin_lead(s, false, false);
        take_mark(s, m);
        return true;
    }
    drop_front(&s->held, m.at);
    return !s->held.len;
}

static bool read_opened(state *s) {
    buf *b = &s->held;
    size_t n = n_leading_space(buf_str(b));
    if (s->show_reasoning) buf_append(&s->opening, b->ptr, n);
    drop_front(b, n);
    if (b->len) s->at = THINKING;
    return true;
}

static bool read_thinking(state *s, bool last) {
    buf *b = &s->held;
    str text = buf_str(b);
    mark m = find_mark(s, text, last);
    bool is_mark = m.kind && !m.waits;
    /* White space before a mark is the mark's; before what may become one it waits. */
    size_t end = m.at;
    if (!s->show_reasoning && (is_mark || !last))
        for (int k = 0; k < MAX_HELD_SPACE && end && call_is_space(text.ptr[end - 1]); k++) end--;
    put_reasoning(s, str_make(text.ptr, end));
    if (!is_mark) {
        drop_front(b, end);
        return !b->len;
    }
    bool shows = s->show_reasoning && m.kind == MARK_CLOSE;
    if (shows) put_reasoning(s, str_make(text.ptr + m.at, m.len));
    buf_clear(&s->opening);
    set_thinking(s, false);
    begin_lead(s, !shows, false);
    take_mark(s, m);
    return true;
}

static bool read_call(state *s, bool last) {
    buf *b = &s->held;
    size_t used = 0;
    call_style before = s->reader.style;
    call_state how = call_read(&s->reader, buf_str(b), last, &used);
    bool keeps = !s->reader.sink.n; /* nothing has begun: it may all be content yet */
    if (keeps) buf_append(&s->raw, b->ptr, used);
    drop_front(b, used);
    if (how != CALL_MORE) {
        end_call(s, how);
        return true;
    }
    if (s->reader.sink.failed) parser_fail(s->p);
    if (last) { /* the reader changed its style and wants to be asked again, or it is cut */
        if (used || before != s->reader.style || b->len) return true;
        end_call(s, CALL_BAD);
    }
    return used || before != s->reader.style;
}

/* Decides what can be decided of the held text; `last`: no more comes. */
static void decide(state *s, bool last) {
    bool goes_on = true;
    while (goes_on && !s->held.failed && (s->held.len || (last && s->at == CALL))) {
        switch (s->at) {
        case LEAD: goes_on = read_lead(s, last); break;
        case OPENED: goes_on = read_opened(s); break;
        case THINKING: goes_on = read_thinking(s, last); break;
        case ANSWER: goes_on = read_answer(s, last); break;
        case CALL: goes_on = read_call(s, last); break;
        }
    }
    if (last && s->json_answer) put_json_answer(s, (str){0}, true);
    if (s->held.failed || s->opening.failed || s->raw.failed || s->tail.failed) parser_fail(s->p);
}

/* ── The format ── */

/* Whether a special token's text is a mark of this family, or a part of one. */
static bool is_mark_text(const state *s, str piece) {
    const parser_family *f = s->style.family;
    if (str_find(s->style.think.open, piece, 0) >= 0 ||
        str_find(s->style.think.close, piece, 0) >= 0)
        return true;
    if (!f) return false;
    const char *const marks[] = {f->open[0],      f->open[1],       f->open[2],   f->after[0],
                                 f->after[1],     f->after[2],      f->after[3],  f->seps[0].text,
                                 f->seps[1].text, f->xml.name_end,  f->xml.param, f->xml.key_end,
                                 f->xml.value,    f->xml.value_end, f->xml.end};
    for (size_t i = 0; i < sizeof marks / sizeof *marks; i++)
        if (marks[i] && str_find(str_from(marks[i]), piece, 0) >= 0) return true;
    for (int i = 0; i < FAMILY_MAX_DROP && f->drop[i]; i++)
        if (str_find(str_from(f->drop[i]), piece, 0) >= 0) return true;
    return f->style == CALLS_LITERAL && str_is(piece, "<|\"|>");
}

static void push(void *v, int32_t id) {
    state *s = v;
    str piece = tok_piece(s->t, id);
    if (tok_is_special(s->t, id) && !s->show_special && !(piece.len && is_mark_text(s, piece)))
        return;
    scrub_push(&s->scrub, piece, &s->held);
    decide(s, false);
}

static void push_text(void *v, str text) {
    state *s = v;
    scrub_push(&s->scrub, text, &s->held);
    decide(s, false);
}

static void finish(void *v) {
    state *s = v;
    scrub_flush(&s->scrub, &s->held);
    decide(s, true);
}

const parser_format format_tagged = {sizeof(state), init, deinit, push, push_text, finish};
