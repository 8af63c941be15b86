/* SentencePiece's own model file, a protobuf (sentencepiece_model.proto): the
 * pieces, the kind of model and the normaliser; and llama2.c's tokenizer.bin,
 * which is the same vocabulary with nothing but scores and texts.
 * Refuses: word and character models, white space as a suffix.
 */
#include "tok/tok_impl.h"

#include <stdlib.h>

/* ── Protobuf wire format ── */
typedef struct field {
    uint32_t number;
    uint64_t value; /* varints, and the bits of fixed ones */
    str bytes;      /* of a length-delimited field */
} field;

static bool read_varint(str s, size_t *at, uint64_t *out) {
    *out = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (*at >= s.len) return false;
        unsigned char b = (unsigned char)s.ptr[(*at)++];
        *out |= (uint64_t)(b & 0x7F) << shift;
        if (!(b & 0x80)) return true;
    }
    return false;
}

static bool read_field(str s, size_t *at, field *f) {
    uint64_t key, n;
    *f = (field){0};
    if (!read_varint(s, at, &key)) return false;
    f->number = (uint32_t)(key >> 3);
    switch (key & 7) {
    case 0: return read_varint(s, at, &f->value);
    case 1: n = 8; break;
    case 5: n = 4; break;
    case 2:
        if (!read_varint(s, at, &n)) return false;
        break;
    default: return false;
    }
    if (n > s.len - *at) return false;
    f->bytes = str_make(s.ptr + *at, (size_t)n);
    *at += (size_t)n;
    if ((key & 7) != 2) memcpy(&f->value, f->bytes.ptr, (size_t)n);
    return true;
}

typedef struct spec {
    size_t n_pieces;
    uint64_t model_type; /* 1 unigram, 2 BPE, 3 word, 4 char */
    int64_t unknown, bos, eos;
    bool suffix, add_prefix, squeeze;
    str charsmap;
    bool ok;
} spec;

static void read_trainer(str s, spec *out) {
    field f;
    for (size_t at = 0; at < s.len;) {
        if (!read_field(s, &at, &f)) {
            out->ok = false;
            return;
        }
        switch (f.number) {
        case 3: out->model_type = f.value; break;
        case 24: out->suffix = f.value != 0; break;
        case 40: out->unknown = (int64_t)f.value; break;
        case 41: out->bos = (int64_t)f.value; break;
        case 42: out->eos = (int64_t)f.value; break;
        }
    }
}

static void read_normalizer(str s, spec *out) {
    field f;
    for (size_t at = 0; at < s.len;) {
        if (!read_field(s, &at, &f)) {
            out->ok = false;
            return;
        }
        switch (f.number) {
        case 2: out->charsmap = f.bytes; break;
        case 3: out->add_prefix = f.value != 0; break;
        case 4: out->squeeze = f.value != 0; break;
        }
    }
}

static spec read_spec(str model) {
    spec out = {.model_type = 1,
                .unknown = 0,
                .bos = 1,
                .eos = 2,
                .add_prefix = true,
                .squeeze = true,
                .ok = true};
    field f;
    for (size_t at = 0; at < model.len && out.ok;) {
        out.ok = read_field(model, &at, &f);
        if (!out.ok) break;
        if (f.number == 1) out.n_pieces++;
        if (f.number == 2) read_trainer(f.bytes, &out);
        if (f.number == 3) read_normalizer(f.bytes, &out);
    }
    return out;
}

static unsigned type_flags(uint64_t type) {
    switch (type) {
    case 2: return T_UNKNOWN;
    case 3: return T_CONTROL;
    case 4: return T_USER;
    case 6: return T_BYTE;
    default: return 0; /* also 5, unused: words are built from those all the same */
    }
}

static bool read_pieces(tok *t, str model, vocab_builder *b, error *err) {
    field f;
    for (size_t at = 0; at < model.len && read_field(model, &at, &f);) {
        if (f.number != 1) continue;
        str text = {0};
        float score = 0;
        uint64_t type = 1;
        field inner;
        for (size_t k = 0; k < f.bytes.len;) {
            if (!read_field(f.bytes, &k, &inner))
                return error_set(err, ERR_BAD_FILE, NULL,
                                 "Piece %d of the SentencePiece model is damaged.", b->next);
            if (inner.number == 1) text = inner.bytes;
            if (inner.number == 2) memcpy(&score, &inner.value, sizeof score);
            if (inner.number == 3) type = inner.value;
        }
        if (b->next < t->n) t->scores[b->next] = score;
        if (!vocab_add(b, text, type_flags(type))) return false;
    }
    return true;
}

static bool add_normal(tok *t, normal_op op, str from, error *err) {
    normal_step *step = normal_add(t, err);
    if (!step) return false;
    *step = (normal_step){.op = op, .from = from};
    return true;
}

static bool allocate(tok *t, size_t n, error *err) {
    if (!vocab_reserve(t, n, err)) return false;
    t->scores = calloc(n, sizeof *t->scores);
    return t->scores ||
           error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the tokens' scores.");
}

static bool load_model(tok *t, str model, error *err) {
    spec sp = read_spec(model);
    if (!sp.ok || !sp.n_pieces)
        return error_set(err, ERR_BAD_FILE, NULL, "This is not a SentencePiece model.");
    if (sp.model_type != 1 && sp.model_type != 2)
        return error_set(err, ERR_NOT_IMPLEMENTED, NULL,
                         "SentencePiece word and character models are not built.");
    if (sp.suffix)
        return error_set(err, ERR_NOT_IMPLEMENTED, NULL,
                         "SentencePiece models with white space as a suffix are not built.");
    bool unigram = sp.model_type == 1;
    t->model = unigram ? MODEL_UNIGRAM : MODEL_BPE;
    t->kind = unigram ? TOK_UNIGRAM : TOK_SPM;
    t->order = MERGE_BY_SCORE;
    t->underline = t->unsplit = t->fuse_unknown = t->words_inside = true;
    t->space_prefix = t->strips_first_space = sp.add_prefix;
    t->add_bos = !unigram;
    t->add_eos = t->float_sums = unigram;
    if (!allocate(t, sp.n_pieces, err)) return false;
    vocab_builder b = {.t = t, .form = TEXT_UNDERLINE, .err = err};
    bool ok = read_pieces(t, model, &b, err) && vocab_finish(&b);
    buf_deinit(&b.blob);
    if (!ok) return false;
    t->unknown = (int32_t)(sp.unknown >= 0 && sp.unknown < t->n ? sp.unknown : -1);
    t->bos = (int32_t)(sp.bos >= 0 && sp.bos < t->n ? sp.bos : -1);
    t->eos = (int32_t)(sp.eos >= 0 && sp.eos < t->n ? sp.eos : -1);
    if (sp.charsmap.len) {
        char *copy = arena_dup(&t->mem, sp.charsmap);
        if (!copy)
            return error_set(err, ERR_NO_MEMORY, NULL,
                             "There is no memory for the normalising rules.");
        if (!add_normal(t, NORMAL_CHARSMAP, str_make(copy, sp.charsmap.len), err)) return false;
    }
    return (!sp.squeeze || add_normal(t, NORMAL_SQUEEZE, (str){0}, err)) &&
           vocab_finish_specials(t, err);
}

tok *tok_load_sentencepiece(str model, error *err) {
    tok *t = vocab_new(err);
    if (t && load_model(t, model, err)) return t;
    tok_unref(t);
    return NULL;
}

/* ── llama2.c: u32 longest, then for each token f32 score, u32 bytes, text ── */
static bool next_token(str s, size_t *at, float *score, str *text) {
    uint32_t len;
    if (s.len - *at < 8) return false;
    memcpy(score, s.ptr + *at, 4);
    memcpy(&len, s.ptr + *at + 4, 4);
    *at += 8;
    if (len > s.len - *at) return false;
    *text = str_make(s.ptr + *at, len);
    *at += len;
    return true;
}

static bool load_llama2c(tok *t, str s, error *err) {
    size_t n = 0, at = 4;
    float score;
    str text;
    if (s.len < 4) return error_set(err, ERR_BAD_FILE, NULL, "This is not a llama2.c tokenizer.");
    for (; at < s.len; n++)
        if (!next_token(s, &at, &score, &text))
            return error_set(err, ERR_BAD_FILE, NULL,
                             "Token %zu of the llama2.c tokenizer is cut short.", n);
    t->kind = TOK_SPM;
    t->order = MERGE_BY_SCORE;
    t->underline = t->unsplit = t->space_prefix = t->strips_first_space = t->add_bos =
        t->fuse_unknown = true;
    if (!allocate(t, n, err)) return false;
    vocab_builder b = {.t = t, .form = TEXT_UNDERLINE, .err = err};
    bool ok = true;
    at = 4;
    for (int32_t id = 0; ok && id < t->n; id++) {
        if (!next_token(s, &at, &score, &text)) break;
        t->scores[id] = score;
        /* <s> and </s> lie between newlines there, as they were once printed. */
        if (id == 1) text = STR("<s>");
        if (id == 2) text = STR("</s>");
        ok = vocab_add(&b, text, id == 0 ? T_UNKNOWN : id <= 2 ? T_CONTROL : id < 259 ? T_BYTE : 0);
    }
    ok = ok && vocab_finish(&b);
    buf_deinit(&b.blob);
    t->unknown = 0;
    t->bos = t->n > 1 ? 1 : -1;
    t->eos = t->n > 2 ? 2 : -1;
    return ok && vocab_finish_specials(t, err);
}

tok *tok_load_llama2c(str bytes, error *err) {
    tok *t = vocab_new(err);
    if (t && load_llama2c(t, bytes, err)) return t;
    tok_unref(t);
    return NULL;
}
