/* Hugging Face's tokenizer.json: model (BPE, Unigram, WordPiece), added tokens,
 * normalizer, pre_tokenizer, post_processor (for what goes before and after a
 * text) and as much of the decoder as says how tokens are written. A part whose
 * type is not known here is refused by name rather than left out.
 * Source: the tokenizers library's serialised format.
 */
#include "base/json.h"
#include "tok/tok_impl.h"

#include <stdlib.h>

static const str mark = {"\xE2\x96\x81", 3};

typedef struct loader {
    tok *t;
    const json_t *root, *model;
    text_form form;
    bool byte_fallback, wordpiece;
    error *err;
    int depth; /* of nested Sequences */
} loader;

enum { MAX_DEPTH = 8 };

static const json_t *get(const json_t *v, const char *key) {
    return json_object_get(v, key);
}
static str get_str(const json_t *v, const char *key) {
    return json_str(get(v, key));
}
static bool get_bool(const json_t *v, const char *key, bool otherwise) {
    const json_t *b = get(v, key);
    return json_is_boolean(b) ? json_boolean_value(b) : otherwise;
}

static bool refuse(loader *l, const char *what, str type) {
    return error_set(l->err, ERR_NOT_IMPLEMENTED, NULL,
                     "tokenizer.json: the %s \"%.*s\" is not built.", what,
                     (int)(type.len < 100 ? type.len : 100), type.ptr ? type.ptr : "");
}

static bool no_memory(loader *l) {
    return error_set(l->err, ERR_NO_MEMORY, NULL, "There is no memory for the tokenizer.");
}

static bool keep(loader *l, str s, str *out) {
    char *copy = arena_dup(&l->t->mem, s);
    *out = str_make(copy, copy ? s.len : 0);
    return copy || no_memory(l);
}

/* A nested list: `key` holds the parts. */
static bool each(loader *l, const json_t *list, bool (*one)(loader *, const json_t *)) {
    if (++l->depth > MAX_DEPTH)
        return error_set(l->err, ERR_BAD_FILE, NULL,
                         "tokenizer.json: Sequences are nested more than %d deep.", MAX_DEPTH);
    bool ok = true;
    for (size_t i = 0; ok && i < json_array_size(list); i++) ok = one(l, json_array_get(list, i));
    l->depth--;
    return ok;
}

/* ── Normalizer ── */
static bool add_normal(loader *l, normal_step step) {
    normal_step *to = normal_add(l->t, l->err);
    if (!to) {
        regex_free(step.re);
        return false;
    }
    *to = step;
    return true;
}

static bool add_replace(loader *l, const json_t *v) {
    normal_step step = {.op = NORMAL_REPLACE};
    const json_t *pattern = get(v, "pattern");
    str regex_text = get_str(pattern, "Regex");
    if (!keep(l, get_str(v, "content"), &step.to) ||
        !keep(l, get_str(pattern, "String"), &step.from))
        return false;
    if (regex_text.ptr) {
        step.op = NORMAL_REPLACE_RE;
        if (!(step.re = regex_compile(regex_text, l->err))) return false;
    }
    return add_normal(l, step);
}

static bool add_bert(loader *l, const json_t *v) {
    bool lower = get_bool(v, "lowercase", true);
    if (!add_normal(l, (normal_step){.op = NORMAL_BERT,
                                     .a = get_bool(v, "clean_text", true),
                                     .b = get_bool(v, "handle_chinese_chars", true)}))
        return false;
    if (get_bool(v, "strip_accents", lower) &&
        (!add_normal(l, (normal_step){.op = NORMAL_NFD}) ||
         !add_normal(l, (normal_step){.op = NORMAL_STRIP_ACCENTS})))
        return false;
    return !lower || add_normal(l, (normal_step){.op = NORMAL_LOWER});
}

static bool add_charsmap(loader *l, const json_t *v) {
    buf rules = {0};
    normal_step step = {.op = NORMAL_CHARSMAP};
    bool ok = vocab_base64(get_str(v, "precompiled_charsmap"), &rules)
                  ? keep(l, buf_str(&rules), &step.from)
                  : error_set(l->err, ERR_BAD_FILE, NULL,
                              "tokenizer.json: precompiled_charsmap is not base64.");
    buf_deinit(&rules);
    return ok && (step.from.len == 0 || add_normal(l, step));
}

static bool load_normalizer(loader *l, const json_t *v) {
    static const struct {
        const char *type;
        normal_op op;
    } plain[] = {{"NFC", NORMAL_NFC},         {"NFD", NORMAL_NFD},
                 {"NFKC", NORMAL_NFKC},       {"NFKD", NORMAL_NFKD},
                 {"Lowercase", NORMAL_LOWER}, {"StripAccents", NORMAL_STRIP_ACCENTS}};
    if (!v || json_is_null(v)) return true;
    str type = get_str(v, "type");
    for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
        if (str_is(type, plain[i].type)) return add_normal(l, (normal_step){.op = plain[i].op});
    if (str_is(type, "Sequence")) return each(l, get(v, "normalizers"), load_normalizer);
    if (str_is(type, "Replace")) return add_replace(l, v);
    if (str_is(type, "Prepend")) {
        normal_step step = {.op = NORMAL_PREPEND};
        return keep(l, get_str(v, "prepend"), &step.to) && add_normal(l, step);
    }
    if (str_is(type, "Strip"))
        return add_normal(l, (normal_step){.op = NORMAL_STRIP,
                                           .a = get_bool(v, "strip_left", true),
                                           .b = get_bool(v, "strip_right", true)});
    if (str_is(type, "BertNormalizer")) return add_bert(l, v);
    if (str_is(type, "Precompiled")) return add_charsmap(l, v);
    return refuse(l, "normalizer", type);
}

/* ── Pre-tokenizer ── */
static bool add_step(loader *l, split_step step) {
    split_step *to = split_add(l->t, l->err);
    if (!to) return false;
    *to = step;
    return true;
}

static bool add_scan(loader *l, split_scan scan, split_behaviour behaviour) {
    return add_step(l, (split_step){.op = SPLIT_SCAN, .scan = scan, .behaviour = behaviour});
}

static bool get_behaviour(loader *l, const json_t *v, split_behaviour *out) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    str name = get_str(v, "behavior");
    *out = SPLIT_ISOLATED;
    for (int i = 0; i < 5; i++)
        if (str_is(name, names[i])) return *out = (split_behaviour)i, true;
    return !name.ptr || refuse(l, "split behavior", name);
}

static bool add_split(loader *l, const json_t *v) {
    split_behaviour behaviour;
    if (!get_behaviour(l, v, &behaviour)) return false;
    bool invert = get_bool(v, "invert", false);
    const json_t *pattern = get(v, "pattern");
    str regex_text = get_str(pattern, "Regex");
    if (regex_text.ptr) return split_add_pattern(l->t, regex_text, behaviour, invert, l->err);
    split_step step = {.op = SPLIT_STRING, .behaviour = behaviour, .invert = invert};
    return keep(l, get_str(pattern, "String"), &step.text) && add_step(l, step);
}

static bool add_byte_level(loader *l, const json_t *v) {
    if (get_bool(v, "add_prefix_space", false) &&
        !add_step(l, (split_step){.op = SPLIT_PREFIX_SPACE}))
        return false;
    if (get_bool(v, "use_regex", true) &&
        !split_add_pattern(
            l->t,
            STR("'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"),
            SPLIT_ISOLATED, false, l->err))
        return false;
    /* What follows in a Sequence sees the alphabet, not the bytes: Falcon's digits depend on it. At
     * the end nothing looks any more, and the step is taken off again. */
    l->t->alphabet = true;
    return add_step(l, (split_step){.op = SPLIT_ALPHABET});
}

static bool add_metaspace(loader *l, const json_t *v) {
    str scheme = get_str(v, "prepend_scheme"), replacement = get_str(v, "replacement");
    if (replacement.ptr && !str_eq(replacement, mark))
        return refuse(l, "Metaspace replacement", replacement);
    split_step step = {.op = SPLIT_METASPACE};
    if (scheme.ptr) {
        step.a = str_is(scheme, "always");
        step.b = str_is(scheme, "first");
    } else {
        step.a = get_bool(v, "add_prefix_space", true);
    }
    l->t->strips_first_space |= step.a || step.b;
    if (!add_step(l, step)) return false;
    if (!get_bool(v, "split", true)) return true;
    return add_step(l,
                    (split_step){.op = SPLIT_STRING, .behaviour = SPLIT_MERGED_NEXT, .text = mark});
}

static bool load_pre_tokenizer(loader *l, const json_t *v) {
    if (!v || json_is_null(v)) return true;
    str type = get_str(v, "type");
    split_behaviour behaviour;
    if (str_is(type, "Sequence")) return each(l, get(v, "pretokenizers"), load_pre_tokenizer);
    if (str_is(type, "Split")) return add_split(l, v);
    if (str_is(type, "ByteLevel")) return add_byte_level(l, v);
    if (str_is(type, "Metaspace")) return add_metaspace(l, v);
    if (str_is(type, "Digits"))
        return add_scan(
            l, get_bool(v, "individual_digits", false) ? split_scan_number : split_scan_numbers,
            SPLIT_ISOLATED);
    if (str_is(type, "Punctuation"))
        return get_behaviour(l, v, &behaviour) && add_scan(l, split_scan_punct, behaviour);
    if (str_is(type, "Whitespace"))
        return add_step(l, (split_step){.op = SPLIT_SCAN,
                                        .scan = split_scan_words,
                                        .behaviour = SPLIT_REMOVED,
                                        .invert = true});
    if (str_is(type, "WhitespaceSplit")) return add_scan(l, split_scan_space, SPLIT_REMOVED);
    if (str_is(type, "BertPreTokenizer"))
        return add_scan(l, split_scan_space, SPLIT_REMOVED) &&
               add_scan(l, split_scan_punct, SPLIT_ISOLATED);
    return refuse(l, "pre-tokenizer", type);
}

/* ── Decoder: only how the tokens are written ── */
static bool load_decoder(loader *l, const json_t *v) {
    if (!v || json_is_null(v)) return true;
    str type = get_str(v, "type");
    if (str_is(type, "Sequence")) return each(l, get(v, "decoders"), load_decoder);
    if (str_is(type, "ByteLevel")) l->form = TEXT_BYTE_LEVEL;
    if (str_is(type, "ByteFallback")) l->byte_fallback = true;
    if (str_is(type, "Metaspace")) {
        l->form = TEXT_UNDERLINE;
        str scheme = get_str(v, "prepend_scheme");
        l->t->strips_first_space |=
            scheme.ptr ? !str_is(scheme, "never") : get_bool(v, "add_prefix_space", true);
    }
    if (str_is(type, "Replace") && str_eq(get_str(get(v, "pattern"), "String"), mark))
        l->form = TEXT_UNDERLINE;
    if (str_is(type, "Strip") && json_integer_value(get(v, "start")) > 0)
        l->t->strips_first_space = true;
    return true;
}

/* ── Model and added tokens ── */
static unsigned word_flags(const loader *l, str text) {
    return l->byte_fallback && text.len == 6 && str_starts(text, STR("<0x")) ? T_BYTE : 0;
}

/* WordPiece writes ## before what continues a word; here the beginning of a word has a space. */
static bool wordpiece_text(loader *l, str *text) {
    if (str_starts(*text, STR("##")) && text->len > 2) {
        *text = str_make(text->ptr + 2, text->len - 2);
        return true;
    }
    char *copy = arena_alloc(&l->t->mem, text->len + 1);
    if (!copy) return no_memory(l);
    copy[0] = ' ';
    memcpy(copy + 1, text->ptr, text->len);
    *text = str_make(copy, text->len + 1);
    return true;
}

static bool get_id(const json_t *v, int32_t *id) {
    if (!json_is_integer(v)) return false;
    json_int_t x = json_integer_value(v);
    if (x < 0 || x >= TOK_MAX_VOCAB) return false;
    *id = (int32_t)x;
    return true;
}

static bool bad_id(loader *l, str text) {
    return error_set(l->err, ERR_BAD_FILE, NULL,
                     "tokenizer.json: the token \"%.*s\" has no valid id.",
                     (int)(text.len < 100 ? text.len : 100), text.ptr ? text.ptr : "");
}

/* One more than the largest id, 0 after an error. */
static size_t count_ids(loader *l, const json_t *vocab, const json_t *added) {
    size_t n = json_is_array(vocab) ? json_array_size(vocab) : 0;
    const char *key;
    json_t *value;
    int32_t id;
    if (json_is_object(vocab)) {
        json_object_foreach((json_t *)vocab, key, value) {
            if (!get_id(value, &id)) return bad_id(l, str_from(key)), 0;
            if ((size_t)id >= n) n = (size_t)id + 1;
        }
    }
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *a = json_array_get(added, i);
        if (!get_id(get(a, "id"), &id)) return bad_id(l, get_str(a, "content")), 0;
        if ((size_t)id >= n) n = (size_t)id + 1;
    }
    if (!n) error_set(l->err, ERR_BAD_FILE, NULL, "tokenizer.json has no tokens.");
    return n;
}

static bool collect_words(loader *l, const json_t *vocab, vocab_entry *entries) {
    json_t *value;
    const char *key;
    size_t key_len;
    if (json_is_object(vocab)) {
        json_object_keylen_foreach((json_t *)vocab, key, key_len, value) {
            str text = str_make(key, key_len);
            vocab_entry *e = &entries[json_integer_value(value)];
            if (e->set)
                return error_set(l->err, ERR_BAD_FILE, NULL,
                                 "tokenizer.json: two tokens have the id %lld.",
                                 (long long)json_integer_value(value));
            *e = (vocab_entry){text, word_flags(l, text), true};
            if (l->wordpiece && !wordpiece_text(l, &e->text)) return false;
        }
        return true;
    }
    l->t->scores =
        calloc(json_array_size(vocab) + json_array_size(get(l->root, "added_tokens")) + 1,
               sizeof *l->t->scores);
    if (!l->t->scores) return no_memory(l);
    for (size_t i = 0; i < json_array_size(vocab); i++) {
        const json_t *pair = json_array_get(vocab, i);
        str text = json_str(json_array_get(pair, 0));
        if (!text.ptr || !json_is_number(json_array_get(pair, 1))) return bad_id(l, text);
        entries[i] = (vocab_entry){text, word_flags(l, text), true};
        l->t->scores[i] = (float)json_number_value(json_array_get(pair, 1));
    }
    return true;
}

static void collect_added(loader *l, const json_t *added, vocab_entry *entries) {
    for (size_t i = 0; i < json_array_size(added); i++) {
        const json_t *a = json_array_get(added, i);
        str text = get_str(a, "content");
        unsigned flags = get_bool(a, "special", false) ? T_CONTROL : T_USER;
        /* Runs of ▁ that Gemma adds: a text with real spaces reaches them by merging, not by name. */
        if (flags == T_USER && l->form == TEXT_UNDERLINE && str_find(text, mark, 0) >= 0) flags = 0;
        if (get_bool(a, "lstrip", false)) flags |= T_LSTRIP;
        if (get_bool(a, "rstrip", false)) flags |= T_RSTRIP;
        if (get_bool(a, "single_word", false)) flags |= T_SINGLE_WORD;
        if (text.len) entries[json_integer_value(get(a, "id"))] = (vocab_entry){text, flags, true};
    }
}

static bool load_tokens(loader *l) {
    tok *t = l->t;
    const json_t *vocab = get(l->model, "vocab"), *added = get(l->root, "added_tokens");
    bool wants_array = t->model == MODEL_UNIGRAM;
    if (wants_array ? !json_is_array(vocab) : !json_is_object(vocab))
        return error_set(l->err, ERR_BAD_FILE, NULL,
                         "tokenizer.json: model.vocab is missing or of the wrong kind.");
    size_t n = count_ids(l, vocab, added);
    if (!n || !vocab_reserve(t, n, l->err)) return false;
    vocab_entry *entries = calloc(n, sizeof *entries);
    vocab_builder b = {.t = t, .form = l->form, .err = l->err};
    bool ok = entries ? collect_words(l, vocab, entries) : no_memory(l);
    if (ok) {
        collect_added(l, added, entries);
        ok = vocab_add_entries(&b, entries, n) && vocab_finish(&b);
    }
    buf_deinit(&b.blob);
    free(entries);
    if (ok &&
        wants_array) { /* ids beyond the list are added tokens, found by name and not by score */
        float *scores = realloc(t->scores, n * sizeof *scores);
        if (!scores) return no_memory(l);
        size_t listed = json_array_size(vocab);
        if (n > listed) memset(scores + listed, 0, (n - listed) * sizeof *scores);
        t->scores = scores;
    }
    return ok;
}

static bool load_merges(loader *l) {
    const json_t *merges = get(l->model, "merges");
    if (!json_is_array(merges))
        return error_set(l->err, ERR_BAD_FILE, NULL, "tokenizer.json: model.merges is missing.");
    if (!vocab_reserve_merges(l->t, json_array_size(merges), l->err)) return false;
    buf tmp = {0};
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *m = json_array_get(merges, i);
        str left = json_str(json_array_get(m, 0)), right = json_str(json_array_get(m, 1)),
            line = json_str(m);
        ptrdiff_t space = line.ptr ? str_find(line, STR(" "), 1) : -1;
        if (space > 0) {
            left = str_make(line.ptr, (size_t)space);
            right = str_make(line.ptr + space + 1, line.len - (size_t)space - 1);
        }
        if (left.len && right.len) vocab_add_merge(l->t, &tmp, left, right, l->form);
    }
    bool failed = tmp.failed;
    buf_deinit(&tmp);
    return failed ? no_memory(l) : vocab_finish_merges(l->t, l->err);
}

/* An id by the text the file writes, before any decoding. */
static int32_t id_of(const loader *l, str text) {
    if (!text.ptr) return -1;
    int32_t id;
    const json_t *added = get(l->root, "added_tokens");
    for (size_t i = 0; i < json_array_size(added); i++)
        if (str_eq(get_str(json_array_get(added, i), "content"), text))
            return get_id(get(json_array_get(added, i), "id"), &id) ? id : -1;
    const json_t *vocab = get(l->model, "vocab");
    return json_is_object(vocab) && get_id(json_object_getn(vocab, text.ptr, text.len), &id) ? id
                                                                                             : -1;
}

static bool load_model(loader *l) {
    tok *t = l->t;
    str type = get_str(l->model, "type");
    /* Old files leave the type out. */
    bool bpe = str_is(type, "BPE") || (!type.ptr && json_is_array(get(l->model, "merges")));
    l->wordpiece = str_is(type, "WordPiece");
    if (!bpe && !l->wordpiece && !str_is(type, "Unigram")) return refuse(l, "model", type);
    t->model = bpe ? MODEL_BPE : l->wordpiece ? MODEL_WORDPIECE : MODEL_UNIGRAM;
    t->kind = bpe ? TOK_BPE : l->wordpiece ? TOK_WORDPIECE : TOK_UNIGRAM;
    t->order = MERGE_BY_RANK;
    t->byte_level = bpe && l->form == TEXT_BYTE_LEVEL;
    t->underline = l->form == TEXT_UNDERLINE;
    t->whole_first = get_bool(l->model, "ignore_merges", false);
    t->fuse_unknown = get_bool(l->model, "fuse_unk", false) || t->model == MODEL_UNIGRAM;
    t->unsplit = bpe && !t->byte_level && t->n_split == 0;
    l->byte_fallback |= get_bool(l->model, "byte_fallback", false);
    str suffix = get_str(l->model, "end_of_word_suffix"),
        prefix = get_str(l->model, "continuing_subword_prefix");
    if (bpe && suffix.len) return refuse(l, "end_of_word_suffix", suffix);
    if (bpe && prefix.len) return refuse(l, "continuing_subword_prefix", prefix);
    if (l->wordpiece && prefix.ptr && !str_is(prefix, "##"))
        return refuse(l, "continuing_subword_prefix", prefix);
    if (l->wordpiece) {
        t->strips_first_space = true;
        if (!add_step(l, (split_step){.op = SPLIT_PREFIX_SPACE})) return false;
    }
    if (!load_tokens(l) || (bpe && !load_merges(l))) return false;
    t->unknown = id_of(l, get_str(l->model, "unk_token"));
    int32_t id;
    if (t->model == MODEL_UNIGRAM && get_id(get(l->model, "unk_id"), &id) && id < t->n)
        t->unknown = id;
    if (t->unknown >= 0) t->flags[t->unknown] |= T_UNKNOWN;
    return true;
}

/* ── Post-processor: what goes around a text ── */
static bool load_post_processor(loader *l, const json_t *v) {
    tok *t = l->t;
    if (!v || json_is_null(v)) return true;
    str type = get_str(v, "type");
    if (str_is(type, "Sequence")) return each(l, get(v, "processors"), load_post_processor);
    if (str_is(type, "TemplateProcessing")) {
        const json_t *single = get(v, "single");
        bool after = false;
        for (size_t i = 0; i < json_array_size(single); i++) {
            const json_t *part = json_array_get(single, i);
            str name = get_str(get(part, "SpecialToken"), "id");
            if (get(part, "Sequence")) after = true;
            if (!name.ptr) continue;
            int32_t id = id_of(l, name);
            if (after && t->eos < 0) t->eos = id, t->add_eos = id >= 0;
            if (!after && t->bos < 0) t->bos = id, t->add_bos = id >= 0;
        }
    } else if (str_is(type, "BertProcessing") || str_is(type, "RobertaProcessing")) {
        t->bos = id_of(l, json_str(json_array_get(get(v, "cls"), 0)));
        t->eos = id_of(l, json_str(json_array_get(get(v, "sep"), 0)));
        t->add_bos = t->bos >= 0;
        t->add_eos = t->eos >= 0;
    }
    return true;
}

/* tokenizer.json does not name these; the families do. */
static void guess_ids(tok *t) {
    static const char *const bos[] = {"<|begin_of_text|>", "<|startoftext|>", "<s>", "<bos>",
                                      "[CLS]"};
    static const char *const eos[] = {"<|return|>",
                                      "<|end_of_text|>",
                                      "<|im_end|>",
                                      "<|endoftext|>",
                                      "</s>",
                                      "<eos>",
                                      "<\xEF\xBD\x9C"
                                      "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
                                      "[SEP]"};
    for (size_t i = 0; i < sizeof bos / sizeof *bos && t->bos < 0; i++)
        t->bos = vocab_find_special(t, str_from(bos[i]));
    for (size_t i = 0; i < sizeof eos / sizeof *eos && t->eos < 0; i++)
        t->eos = vocab_find_special(t, str_from(eos[i]));
    if (t->eos >= 0) t->flags[t->eos] |= T_END;
}

/* How tokens are written: the decoder says so, else the stages that write text that way. */
static void guess_form(loader *l) {
    if (l->form != TEXT_PLAIN) return;
    for (int i = 0; i < l->t->n_split; i++) {
        if (l->t->split[i].op == SPLIT_METASPACE) l->form = TEXT_UNDERLINE;
        if (l->t->split[i].op == SPLIT_ALPHABET) l->form = TEXT_BYTE_LEVEL;
    }
    for (int i = 0; i < l->t->n_normal && l->form == TEXT_PLAIN; i++)
        if (str_eq(l->t->normal[i].to, mark)) l->form = TEXT_UNDERLINE;
}

static bool load_all(loader *l) {
    tok *t = l->t;
    l->model = get(l->root, "model");
    if (!json_is_object(l->model))
        return error_set(l->err, ERR_BAD_FILE, NULL, "tokenizer.json has no model.");
    if (!load_normalizer(l, get(l->root, "normalizer")) ||
        !load_pre_tokenizer(l, get(l->root, "pre_tokenizer")) ||
        !load_decoder(l, get(l->root, "decoder")))
        return false;
    guess_form(l);
    if (t->n_split && t->split[t->n_split - 1].op == SPLIT_ALPHABET) {
        t->n_split--;
        t->alphabet = false;
    }
    if (!load_model(l) || !load_post_processor(l, get(l->root, "post_processor"))) return false;
    if (!vocab_finish_specials(t, l->err)) return false;
    guess_ids(t);
    return true;
}

tok *tok_load_hf(str tokenizer_json, error *err) {
    json_t *root = json_parse(tokenizer_json, err);
    if (!root) return NULL;
    loader l = {.t = vocab_new(err), .root = root, .err = err};
    bool ok = l.t && load_all(&l);
    json_decref(root);
    if (ok) return l.t;
    tok_unref(l.t);
    return NULL;
}
