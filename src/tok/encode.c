/* tok_encode: finds special tokens, and sends the text between them through
 * normalising, splitting and the model.
 *
 * Of several special tokens that match at one place the longest allowed one is
 * taken, and matches are taken from the left (as Hugging Face's tokenizers do).
 */
#include "tok/tok_impl.h"

#include <stdlib.h>

void model_encode(scratch *s, str piece) {
    const tok *t = s->t;
    if (t->alphabet) {
        buf_clear(&s->model);
        if (!vocab_byte_decode(piece, &s->model)) return;
        piece = buf_str(&s->model);
    }
    if (t->underline && str_find(piece, STR("\xE2\x96\x81"), 0) >= 0) {
        buf_clear(&s->model);
        for (size_t i = 0; i < piece.len;) {
            if (str_starts(str_make(piece.ptr + i, piece.len - i), STR("\xE2\x96\x81"))) {
                buf_append_char(&s->model, ' ');
                i += 3;
            } else {
                buf_append_char(&s->model, piece.ptr[i++]);
            }
        }
        if (s->model.failed) {
            s->failed = true;
            return;
        }
        piece = buf_str(&s->model);
    }
    if (!piece.len) return;
    if (t->model == MODEL_BPE)
        merge_encode(s, piece);
    else if (t->model == MODEL_UNIGRAM)
        unigram_encode(s, piece);
    else
        wordpiece_encode(s, piece);
}

static void encode_new(scratch *s, str text) {
    buf prefixed = {0};
    text = normal_apply(s, text);
    if (s->t->space_prefix && !s->goes_on && (text.len || s->is_cut)) {
        buf_append_char(&prefixed, ' ');
        buf_append_str(&prefixed, text);
        if (prefixed.failed) s->failed = true;
        text = buf_str(&prefixed);
    }
    if (s->t->model == MODEL_UNIGRAM && (s->goes_on || s->is_cut)) {
        buf_append_str(&s->joined, text);
        if (s->joined.failed) s->failed = true;
    } else if (!s->failed && text.len)
        split_encode(s, text);
    buf_deinit(&prefixed);
}

static void encode_joined(scratch *s) {
    if (s->joined.len && !s->failed) split_encode(s, buf_str(&s->joined));
    buf_clear(&s->joined);
}

static void encode_text(scratch *s, str text, tok_cache *cache) {
    bool is_whole = !s->goes_on && !s->is_cut;
    if (!is_whole) cache = NULL; /* its ids depend on its neighbours */
    if ((!text.len && (is_whole || s->goes_on)) || s->failed ||
        (cache && cache_find(cache, s, text)))
        return;
    size_t from = s->out->n;
    bool was_first = s->first;
    encode_new(s, text);
    if (cache) cache_keep(cache, s, text, was_first, from);
}

/* ── Special tokens ── */
typedef struct special_finder {
    const tok *t;
    const tok_encode_opts *opts;
    size_t span; /* the first trusted span that can still hold a match */
} special_finder;

static bool is_allowed(special_finder *f, int32_t id, size_t begin, size_t end) {
    unsigned flags = f->t->flags[id];
    bool plain = flags & T_USER && !(flags & T_CONTROL);
    if (f->opts->trusted) {
        if (plain && !vocab_is_markup(piece_of(f->t, id))) return true;
        if (!f->opts->parse_special && !plain) return false;
        while (f->span < f->opts->n_trusted && f->opts->trusted[f->span].end <= begin) f->span++;
        /* Spans that end inside this token are passed over, not consumed: a later, shorter one may fit. */
        const tok_span *span = f->span < f->opts->n_trusted ? &f->opts->trusted[f->span] : NULL;
        return span && span->begin <= begin && end <= span->end;
    }
    return plain || f->opts->parse_special;
}

static bool is_word_character(str text, size_t at) {
    return at < text.len &&
           (text.ptr[at] == '_' || char_at(text, at).class & (C_LETTER | C_NUMBER | C_MARK));
}

static bool stands_alone(str text, size_t begin, size_t end) {
    size_t before = begin;
    if (before > 0) {
        do before--;
        while (before > 0 && ((unsigned char)text.ptr[before] & 0xC0) == 0x80);
        if (is_word_character(text, before)) return false;
    }
    return !is_word_character(text, end);
}

/* The longest special token at `at` that may be one here, or −1. */
static int32_t special_at(special_finder *f, str text, size_t at) {
    const tok *t = f->t;
    unsigned char first = (unsigned char)text.ptr[at];
    uint32_t lo = t->special_first[first], hi = t->special_first[first + 1];
    int32_t found = -1;
    for (size_t d = 1; lo < hi && d <= TOK_MAX_SPECIAL_BYTES; d++) {
        int32_t id = t->specials[lo];
        if (t->at[id + 1] - t->at[id] == d && is_allowed(f, id, at, at + d) &&
            (!(t->flags[id] & T_SINGLE_WORD) || stands_alone(text, at, at + d)))
            found = id;
        if (at + d >= text.len) break;
        vocab_narrow(t, t->specials, &lo, &hi, d, (unsigned char)text.ptr[at + d]);
    }
    return found;
}

static size_t strip_back(str text, size_t begin, size_t end) {
    while (end > begin) {
        size_t last = end - 1;
        while (last > begin && ((unsigned char)text.ptr[last] & 0xC0) == 0x80) last--;
        if (!(char_at(text, last).class & C_SPACE)) break;
        end = last;
    }
    return end;
}

static size_t strip_forward(str text, size_t at) {
    while (at < text.len) {
        character c = char_at(text, at);
        if (!(c.class & C_SPACE)) break;
        at += (size_t)c.len;
    }
    return at;
}

static void encode_all(scratch *s, str text, const tok_encode_opts *opts) {
    const tok *t = s->t;
    special_finder f = {.t = t, .opts = opts};
    size_t begin = 0;
    for (size_t at = 0; at < text.len && !s->failed;) {
        unsigned char byte = (unsigned char)text.ptr[at];
        int32_t id =
            t->special_first[byte] < t->special_first[byte + 1] ? special_at(&f, text, at) : -1;
        if (id < 0) {
            at++;
            continue;
        }
        size_t end = t->flags[id] & T_LSTRIP ? strip_back(text, begin, at) : at;
        bool is_word = t->words_inside && t->flags[id] & T_USER && !(t->flags[id] & T_CONTROL);
        s->is_cut = is_word;
        encode_text(s, str_make(text.ptr + begin, end - begin), opts->cache);
        /* In a unigram a word competes with the tokens around it, unless it is like markup and trusted. */
        if (is_word && t->model == MODEL_UNIGRAM &&
            !(s->bars_markup && vocab_is_markup(piece_of(t, id))))
            buf_append_str(&s->joined, piece_of(t, id));
        else {
            encode_joined(s);
            tok_ids_push(s->out, id);
        }
        s->first = s->is_cut = false;
        s->goes_on = is_word;
        at += piece_of(t, id).len;
        if (t->flags[id] & T_RSTRIP) at = strip_forward(text, at);
        begin = at;
    }
    encode_text(s, str_make(text.ptr + begin, text.len - begin), opts->cache);
    encode_joined(s);
}

bool tok_encode(const tok *t, str text, tok_encode_opts opts, tok_ids *out, error *err) {
    if (text.len > TOK_MAX_TEXT_BYTES)
        return error_set(err, ERR_STRING_ABOVE_MAX, NULL,
                         "The text is %zu bytes long; at most %zu are encoded.", text.len,
                         TOK_MAX_TEXT_BYTES);
    scratch s = {.t = t, .out = out, .first = true, .bars_markup = opts.trusted != NULL};
    if (opts.add_bos && t->bos >= 0) tok_ids_push(out, t->bos);
    encode_all(&s, text, &opts);
    if (opts.add_eos && t->eos >= 0) tok_ids_push(out, t->eos);
    bool failed = s.failed || s.re.failed || out->failed;
    regex_scratch_deinit(&s.re);
    buf_deinit(&s.norm[0]);
    buf_deinit(&s.norm[1]);
    buf_deinit(&s.model);
    buf_deinit(&s.joined);
    free(s.symbols);
    free(s.heap);
    if (!failed) return true;
    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory to encode %zu bytes of text.",
                     text.len);
}
