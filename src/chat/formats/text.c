/* Plain text, with or without reasoning between two tags at its beginning
 * (<think>…</think> and its kin, each a row of TAGS). White space around the
 * reasoning belongs to the tags and is left out. Tags may be special tokens or
 * ordinary text, cut anywhere.
 */
#include "chat/parser.h"

static const parser_tags TAGS[] = {
    {{"<think>", 7}, {"</think>", 8}}, /* Qwen3, DeepSeek-R1 and many more */
    {{"[THINK]", 7}, {"[/THINK]", 8}}, /* Mistral's reasoning models */
};

const parser_tags *parser_find_tags(str source) {
    for (size_t i = 0; i < sizeof TAGS / sizeof *TAGS; i++)
        if (str_find(source, TAGS[i].open, 0) >= 0 || str_find(source, TAGS[i].close, 0) >= 0)
            return &TAGS[i];
    return NULL;
}

/* White space that waits for a tag; a longer run is text. Keeps the work a byte constant. */
enum { MAX_HELD_SPACE = 256 };

typedef struct state {
    parser *p;
    const tok *t;
    const parser_tags *tags;
    bool show_special;
    scrub scrub;
    enum { AT_START, OPENED, IN_REASONING, CLOSED, IN_CONTENT } at;
    buf held; /* text whose meaning the next bytes decide */
} state;

static void init(void *v, parser *p, const parser_options *o) {
    state *s = v;
    s->p = p;
    s->t = o->t;
    s->tags = o->tags;
    s->show_special = o->show_special;
    s->at = !o->tags ? IN_CONTENT : o->inside ? OPENED : AT_START;
    parser_set_reasoning(p, s->at == OPENED);
}

static void deinit(void *v) {
    state *s = v;
    buf_deinit(&s->held);
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t n_leading_space(str s) {
    size_t n = 0;
    while (n < s.len && is_space(s.ptr[n])) n++;
    return n;
}

static void drop_front(buf *b, size_t n) {
    if (!n) return;
    memmove(b->ptr, b->ptr + n, b->len - n);
    b->len -= n;
}

/* How many bytes at the end may be the beginning of `close`, white space before it included. */
static size_t n_undecided(str text, str close) {
    size_t n = close.len - 1 < text.len ? close.len - 1 : text.len;
    while (n && memcmp(text.ptr + text.len - n, close.ptr, n) != 0) n--;
    for (size_t k = 0; k < MAX_HELD_SPACE && n < text.len && is_space(text.ptr[text.len - n - 1]);
         k++)
        n++;
    return n;
}

/* Decides what can be decided of the held text; `last`: no more comes. */
static void decide(state *s, bool last) {
    buf *b = &s->held;
    if (b->failed) parser_fail(s->p);
    while (b->len && !b->failed) {
        str text = buf_str(b);
        size_t n_space = n_leading_space(text);
        str word = str_make(text.ptr + n_space, text.len - n_space);
        switch (s->at) {
        case AT_START:
            if (n_space > MAX_HELD_SPACE) {
                s->at = IN_CONTENT;
            } else if (str_starts(word, s->tags->open)) {
                drop_front(b, n_space + s->tags->open.len);
                s->at = OPENED;
                parser_set_reasoning(s->p, true);
            } else if (!last && str_starts(s->tags->open, word)) {
                return;
            } else {
                s->at = IN_CONTENT;
            }
            break;
        case OPENED:
            drop_front(b, n_space);
            if (b->len) s->at = IN_REASONING;
            break;
        case IN_REASONING: {
            ptrdiff_t close = str_find(text, s->tags->close, 0);
            size_t end = close >= 0 ? (size_t)close
                         : last     ? text.len
                                    : text.len - n_undecided(text, s->tags->close);
            size_t shown = end;
            while (close >= 0 && shown && end - shown < MAX_HELD_SPACE &&
                   is_space(text.ptr[shown - 1]))
                shown--;
            parser_put(s->p, PARSER_REASONING, str_make(text.ptr, shown));
            drop_front(b, end + (close >= 0 ? s->tags->close.len : 0));
            if (close < 0) return;
            s->at = CLOSED;
            parser_set_reasoning(s->p, false);
            break;
        }
        case CLOSED:
            drop_front(b, n_space);
            if (b->len) s->at = IN_CONTENT;
            break;
        case IN_CONTENT:
            parser_put(s->p, PARSER_CONTENT, text);
            buf_clear(b);
            break;
        }
    }
}

static void push(void *v, int32_t id) {
    state *s = v;
    str piece = tok_piece(s->t, id);
    bool is_tag = s->tags && (str_eq(piece, s->tags->open) || str_eq(piece, s->tags->close));
    if (tok_is_special(s->t, id) && !s->show_special && !is_tag) return;
    scrub_push(&s->scrub, piece, &s->held);
    decide(s, false);
}

static void finish(void *v) {
    state *s = v;
    scrub_flush(&s->scrub, &s->held);
    decide(s, true);
}

const parser_format format_text = {sizeof(state), init, deinit, push, finish};
