/* Ids → text, all at once or one by one. */
#include "tok/tok_impl.h"

bool tok_is_hidden(const tok *t, int32_t id) {
    return id >= 0 && id < t->n && t->flags[id] & (T_CONTROL | T_UNKNOWN);
}

/* What an id contributes; *started turns true once text has come. */
static str shown(const tok *t, int32_t id, tok_decode_opts opts, bool *started) {
    if (id < 0 || id >= t->n) return (str){0};
    str piece = piece_of(t, id);
    if (tok_is_hidden(t, id)) return opts.skip_special ? (str){0} : piece;
    if (!*started && piece.len) {
        *started = true;
        if (opts.strip_first_space && t->strips_first_space && piece.ptr[0] == ' ')
            return str_make(piece.ptr + 1, piece.len - 1);
    }
    return piece;
}

void tok_decode(const tok *t, const int32_t *ids, size_t n, tok_decode_opts opts, buf *out) {
    bool started = false;
    for (size_t i = 0; i < n; i++) buf_append_str(out, shown(t, ids[i], opts, &started));
}

/* ── Stream ── */

/* Bytes of one ill-formed sequence at s.ptr[0]: the longest beginning of a character, at least one
 * (Unicode 15, "maximal subparts", which is what other decoders replace by one U+FFFD). */
static size_t ill_formed_len(str s) {
    /* A beginning is what utf8_complete_prefix holds back. */
    for (size_t n = s.len < 3 ? s.len : 3; n > 1; n--)
        if (utf8_complete_prefix(str_make(s.ptr, n)) == 0) return n;
    return 1;
}

/* Appends s with ill-formed bytes replaced; keeps an unfinished character for later unless `last`. */
static size_t append_checked(str s, bool last, buf *out) {
    size_t i = 0;
    while (i < s.len) {
        uint32_t cp;
        int n = utf8_decode(s, i, &cp);
        str rest = str_make(s.ptr + i, s.len - i);
        if (n) {
            buf_append(out, rest.ptr, (size_t)n);
            i += (size_t)n;
        } else if (!last && rest.len < 4 && utf8_complete_prefix(rest) == 0) {
            return i;
        } else {
            buf_append_utf8(out, 0xFFFD);
            i += ill_formed_len(rest);
        }
    }
    return i;
}

void tok_stream_init(tok_stream *s, const tok *t, tok_decode_opts opts) {
    *s = (tok_stream){.t = t, .opts = opts};
}

void tok_stream_push(tok_stream *s, int32_t id, buf *out) {
    str piece = shown(s->t, id, s->opts, &s->started);
    /* The unfinished character first, byte by byte: at most three more bytes settle it. */
    while (s->n_tail && piece.len) {
        s->tail[s->n_tail++] = (unsigned char)piece.ptr[0];
        piece.ptr++;
        piece.len--;
        size_t used = append_checked(str_make((char *)s->tail, (size_t)s->n_tail), false, out);
        s->n_tail -= (int)used;
        memmove(s->tail, s->tail + used, (size_t)s->n_tail);
    }
    if (!piece.len) return;
    size_t used = append_checked(piece, false, out);
    s->n_tail = (int)(piece.len - used);
    memcpy(s->tail, piece.ptr + used, (size_t)s->n_tail);
}

void tok_stream_flush(tok_stream *s, buf *out) {
    append_checked(str_make((char *)s->tail, (size_t)s->n_tail), true, out);
    s->n_tail = 0;
}
