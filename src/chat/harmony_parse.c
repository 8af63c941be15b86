/* Parsing harmony: ids → messages, piece by piece, never refusing. See the
 * contract in harmony.h. Three states: outside a message, in its header, in its
 * content. A header is kept as text in three sections, one for each marker that
 * can open one, and understood when <|message|> comes; whatever else ends a
 * header (an end marker, <|start|>, too many bytes, no more ids) means that
 * <|message|> was forgotten and the header holds the content.
 */
#include "chat/harmony.h"

enum { AFTER_START, AFTER_CHANNEL, AFTER_CONSTRAIN };
enum { MAX_WORDS = 8, MAX_FIRST_WORD = 40 };

void harmony_parser_deinit(harmony_parser *p) {
    for (int i = 0; i < 3; i++) buf_deinit(&p->header_text[i]);
    buf_deinit(&p->header_type);
    buf_deinit(&p->text);
}

/* Notes an oddity; true when parsing goes on. */
static bool odd(harmony_parser *p, const char *what) {
    if (!p->diagnostic) p->diagnostic = what;
    if (p->strict) p->stopped = true;
    return !p->stopped;
}

/* ── Events ── */

static void emit(harmony_parser *p, harmony_event_kind kind, size_t begin,
                 harmony_end_kind end_kind) {
    if (p->n_queue == HARMONY_MAX_EVENTS) { /* cannot be: one push makes at most four */
        p->failed = true;
        return;
    }
    p->queue[p->n_queue].kind = kind;
    p->queue[p->n_queue].begin = begin;
    p->queue[p->n_queue].end = p->text.len;
    p->queue[p->n_queue++].end_kind = end_kind;
}

bool harmony_next(harmony_parser *p, harmony_event *e) {
    if (p->failed || p->at_queue == p->n_queue) return false;
    int i = p->at_queue++;
    *e = (harmony_event){.kind = p->queue[i].kind, .end_kind = p->queue[i].end_kind};
    if (e->kind == HARMONY_BEGIN) e->header = p->header;
    if (e->kind == HARMONY_TEXT)
        e->text = str_make(p->text.ptr + p->queue[i].begin, p->queue[i].end - p->queue[i].begin);
    return true;
}

static void begin_message(harmony_parser *p) {
    p->state = HARMONY_IN_CONTENT;
    emit(p, HARMONY_BEGIN, 0, HARMONY_END_CUT);
}

static void add_content(harmony_parser *p, str bytes) {
    size_t at = p->text.len;
    scrub_push(&p->scrub, bytes, &p->text);
    if (p->text.len > at) emit(p, HARMONY_TEXT, at, HARMONY_END_CUT);
}

static void end_message(harmony_parser *p, harmony_end_kind kind) {
    size_t at = p->text.len;
    scrub_flush(&p->scrub, &p->text);
    if (p->text.len > at) emit(p, HARMONY_TEXT, at, HARMONY_END_CUT);
    emit(p, HARMONY_END, 0, kind);
    p->state = HARMONY_OUTSIDE;
}

/* ── Headers ── */

static void begin_section(harmony_parser *p, int section) {
    scrub_flush(&p->scrub, &p->header_text[p->section]);
    p->section = section;
    p->has_section[section] = true;
    buf_clear(&p->header_text[section]);
}

static void begin_header(harmony_parser *p, bool explicit_role) {
    p->state = HARMONY_IN_HEADER;
    p->explicit_role = explicit_role;
    p->scrub = (scrub){0};
    for (int i = 0; i < 3; i++) {
        p->has_section[i] = false;
        buf_clear(&p->header_text[i]);
    }
    begin_section(p, AFTER_START);
}

void harmony_parser_init(harmony_parser *p, const harmony *h, bool open_assistant, bool strict) {
    *p = (harmony_parser){.h = *h, .strict = strict};
    if (open_assistant) begin_header(p, false);
}

static bool is_space(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static str next_word(str *rest) {
    size_t i = 0, j;
    if (!rest->len) return (str){0};
    while (i < rest->len && is_space(rest->ptr[i])) i++;
    for (j = i; j < rest->len && !is_space(rest->ptr[j]);) j++;
    str word = str_make(rest->ptr + i, j - i);
    *rest = str_make(rest->ptr + j, rest->len - j);
    return word;
}

/* "assistant" or "user:ana" → role and name. */
static bool parse_role(str word, harmony_header *out) {
    static const struct {
        str name;
        chat_role role;
    } ROLES[] = {
        {{"assistant", 9}, CHAT_ASSISTANT}, {{"user", 4}, CHAT_USER}, {{"system", 6}, CHAT_SYSTEM},
        {{"developer", 9}, CHAT_DEVELOPER}, {{"tool", 4}, CHAT_TOOL},
    };
    for (size_t i = 0; i < sizeof ROLES / sizeof *ROLES; i++) {
        str name = ROLES[i].name;
        if (!str_starts(word, name)) continue;
        if (word.len > name.len && word.ptr[name.len] != ':') continue;
        out->role = ROLES[i].role;
        if (word.len > name.len)
            out->name = str_make(word.ptr + name.len + 1, word.len - name.len - 1);
        return true;
    }
    return false;
}

/* A word that can only be the name of a tool, even without "to=". */
static bool is_tool_name(str word) {
    return str_is(word, "python") || str_is(word, "browser") ||
           (word.len > 2 && memchr(word.ptr + 1, '.', word.len - 2));
}

static bool take_recipient(harmony_header *h, str word) {
    if (!str_starts(word, STR("to=")) || word.len == 3) return false;
    h->recipient = str_make(word.ptr + 3, word.len - 3);
    return true;
}

/* Content type as the renderer takes it: with the marker in front when there was one. */
static str make_type(harmony_parser *p, str word) {
    buf_clear(&p->header_type);
    buf_append_cstr(&p->header_type, "<|constrain|>");
    buf_append_str(&p->header_type, word);
    return buf_str(&p->header_type);
}

/* <|message|> came: reads the header. */
static void parse_header(harmony_parser *p) {
    scrub_flush(&p->scrub, &p->header_text[p->section]);
    harmony_header *h = &p->header;
    *h = (harmony_header){.role = CHAT_ASSISTANT};
    str words[MAX_WORDS];
    int n = 0;
    bool too_many = false, unknown_role = false;
    for (int s = 0; s < 3; s++) {
        if (!p->has_section[s]) continue;
        str rest = buf_str(&p->header_text[s]), word = next_word(&rest);
        if (s == AFTER_START) {
            if (parse_role(word, h)) {
                word = next_word(&rest);
            } else if (p->explicit_role && word.len && !str_starts(word, STR("to="))) {
                /* A tool signs with its name; it is one if it says more, or looks like one. */
                h->role = CHAT_TOOL;
                h->name = word;
                unknown_role = !is_tool_name(word);
                word = next_word(&rest);
            } else if (p->explicit_role) {
                odd(p, "A message header names no role.");
            }
        } else if (s == AFTER_CHANNEL) {
            h->channel = word;
            if (!word.len) odd(p, "A message header names no channel after <|channel|>.");
            word = next_word(&rest);
        } else {
            h->content_type = make_type(p, word);
            word = next_word(&rest);
        }
        for (; word.len; word = next_word(&rest)) {
            if (n == MAX_WORDS)
                too_many = true;
            else
                words[n++] = word;
        }
    }
    /* What is left: a recipient, with or without "to=", and a type in the last place. */
    int left = 0;
    for (int i = 0; i < n; i++) {
        if (take_recipient(h, words[i]))
            unknown_role = false;
        else
            words[left++] = words[i];
    }
    if (left && !h->content_type.len && !is_tool_name(words[left - 1]))
        h->content_type = words[--left];
    if (left && !h->recipient.len && is_tool_name(words[left - 1])) h->recipient = words[--left];
    if (left || too_many) odd(p, "A message header has words that mean nothing.");
    if (unknown_role) odd(p, "A message header names an unknown role.");
}

/* The header ended without <|message|>: role, channel and recipient are read off its front and the
 * rest is the content. Nothing at all is no message. */
static void recover_message(harmony_parser *p, harmony_end_kind kind) {
    harmony_header *h = &p->header;
    *h = (harmony_header){.role = CHAT_ASSISTANT};
    bool any = false, wrote = false;
    size_t at = p->text.len;
    p->state = HARMONY_OUTSIDE;
    for (int s = 0; s < 3; s++) {
        if (!p->has_section[s]) continue;
        str rest = buf_str(&p->header_text[s]), before = rest, word = next_word(&rest);
        if (s == AFTER_START && !parse_role(word, h)) rest = before;
        if (s == AFTER_CHANNEL) h->channel = word;
        if (s == AFTER_CONSTRAIN) h->content_type = make_type(p, (str){0});
        if (s == AFTER_CONSTRAIN && word.len) {
            /* "json{…": the type is the name at the front, wherever the word ends. */
            size_t n = 0;
            while (n < word.len && (word.ptr[n] == '_' || (unsigned char)(word.ptr[n] - '0') < 10 ||
                                    (unsigned char)((word.ptr[n] | 32) - 'a') < 26))
                n++;
            h->content_type = make_type(p, str_make(word.ptr, n));
            rest = str_make(word.ptr + n, (size_t)(rest.ptr + rest.len - word.ptr) - n);
        }
        for (;;) {
            before = rest;
            if (!take_recipient(h, next_word(&rest))) break;
        }
        rest = str_trim(before);
        any |= s != AFTER_START || h->recipient.len > 0;
        if (!rest.len) continue;
        if (wrote) buf_append_char(&p->text, ' ');
        buf_append_str(&p->text, rest);
        wrote = true;
    }
    if (!any && !wrote) {
        if (p->explicit_role && kind != HARMONY_END_CUT) odd(p, "A message ended before it began.");
        return;
    }
    if (!odd(p, "A message has no <|message|> marker.")) return;
    begin_message(p);
    if (p->text.len > at) emit(p, HARMONY_TEXT, at, HARMONY_END_CUT);
}

/* May this, behind a <|start|>assistant that the prompt wrote, still become a header: a role, a
 * recipient, a channel whose marker was forgotten? */
static bool may_be_header(str text) {
    static const str CHANNELS[] = {{"analysis", 8}, {"commentary", 10}, {"final", 5}};
    harmony_header ignored;
    str rest = text, word = next_word(&rest);
    if (!rest.len) {
        for (size_t i = 0; i < word.len; i++) {
            unsigned char c = (unsigned char)word.ptr[i], letter = c | 32;
            if ((letter < 'a' || letter > 'z') && (c < '0' || c > '9') && !strchr("_-.:=", c))
                return false;
        }
        return word.len <= MAX_FIRST_WORD;
    }
    for (size_t i = 0; i < sizeof CHANNELS / sizeof *CHANNELS; i++)
        if (str_eq(word, CHANNELS[i])) return true;
    return parse_role(word, &ignored) || str_starts(word, STR("to=")) || is_tool_name(word);
}

/* The model wrote no header at all: what is there is content, and what comes goes out as it comes. */
static void begin_bare(harmony_parser *p) {
    if (!odd(p, "A message has no header.")) return;
    p->header = (harmony_header){.role = CHAT_ASSISTANT};
    size_t at = p->text.len;
    buf_append_str(&p->text, buf_str(&p->header_text[AFTER_START]));
    begin_message(p);
    if (p->text.len > at) emit(p, HARMONY_TEXT, at, HARMONY_END_CUT);
}

/* ── Tokens ── */

static void header_token(harmony_parser *p, int32_t id) {
    const harmony *h = &p->h;
    if (id == h->message) {
        parse_header(p);
        if (!p->stopped) begin_message(p);
    } else if (id == h->channel || (id == h->constrain && id >= 0)) {
        int section = id == h->channel ? AFTER_CHANNEL : AFTER_CONSTRAIN;
        if (p->has_section[section] && !odd(p, "A message header repeats a marker.")) return;
        begin_section(p, section);
    } else if (tok_is_special(h->t, id)) {
        odd(p, "A message header holds a special token that has no place there.");
    } else {
        buf *b = &p->header_text[p->section];
        str piece = tok_piece(h->t, id);
        if (!piece.len) odd(p, "The model produced an id that is no token.");
        scrub_push(&p->scrub, piece, b);
        if (p->header_text[0].len + p->header_text[1].len + p->header_text[2].len >
            HARMONY_MAX_HEADER)
            recover_message(p, HARMONY_END_CUT);
        else if (p->section == AFTER_START && !p->explicit_role && !may_be_header(buf_str(b)))
            begin_bare(p);
    }
}

static void content_token(harmony_parser *p, int32_t id) {
    const harmony *h = &p->h;
    if (id == h->channel) {
        if (!odd(p, "A message was not ended before the next channel.")) return;
        end_message(p, HARMONY_END_CUT);
        begin_header(p, false);
        header_token(p, id);
    } else if (tok_is_special(h->t, id)) {
        odd(p, "Content holds a special token, which was left out.");
    } else {
        str piece = tok_piece(h->t, id);
        if (id < 0 || id >= tok_n_vocab(h->t)) {
            if (!odd(p, "The model produced an id that is no token.")) return;
            piece = STR("\xEF\xBF\xBD");
        }
        add_content(p, piece);
    }
}

/* <|start|> or an end: whatever is open is over. */
static void close_open(harmony_parser *p, harmony_end_kind kind) {
    if (p->state == HARMONY_IN_HEADER) {
        scrub_flush(&p->scrub, &p->header_text[p->section]);
        recover_message(p, kind);
    }
    if (p->stopped) return;
    if (p->state == HARMONY_IN_CONTENT) end_message(p, kind);
    p->state = HARMONY_OUTSIDE;
}

static bool parse_end(const harmony *h, int32_t id, harmony_end_kind *kind) {
    *kind = id == h->end    ? HARMONY_END_MESSAGE
            : id == h->call ? HARMONY_END_CALL
                            : HARMONY_END_RETURN;
    return id >= 0 && (id == h->end || id == h->ret || id == h->call || id == h->endoftext);
}

static void begin_push(harmony_parser *p) {
    p->n_queue = p->at_queue = 0;
    buf_clear(&p->text);
}

static void end_push(harmony_parser *p) {
    p->failed |= p->text.failed || p->header_type.failed;
    for (int i = 0; i < 3; i++) p->failed |= p->header_text[i].failed;
    if (harmony_parser_failed(p)) p->n_queue = p->at_queue = 0;
}

void harmony_push(harmony_parser *p, int32_t id) {
    if (harmony_parser_failed(p)) return;
    begin_push(p);
    harmony_end_kind kind;
    if (id == p->h.start) {
        if (p->state == HARMONY_IN_CONTENT) odd(p, "A message was not ended before the next one.");
        close_open(p, HARMONY_END_CUT);
        if (!p->stopped) begin_header(p, true);
    } else if (parse_end(&p->h, id, &kind)) {
        if (p->state == HARMONY_OUTSIDE) odd(p, "A message ended before it began.");
        close_open(p, kind);
    } else if (p->state == HARMONY_IN_CONTENT) {
        content_token(p, id);
    } else {
        /* Outside a message anything else opens one of the assistant's, its role implied. */
        if (p->state == HARMONY_OUTSIDE && odd(p, "A message does not begin with <|start|>."))
            begin_header(p, false);
        if (!p->stopped) header_token(p, id);
    }
    end_push(p);
}

void harmony_finish(harmony_parser *p) {
    if (harmony_parser_failed(p)) return;
    begin_push(p);
    close_open(p, HARMONY_END_CUT);
    end_push(p);
}
