/* A vocabulary from GGUF metadata (tokenizer.ggml.*). Source: GGUF
 * specification, "Tokenizer"; defaults that files leave out are those the
 * format's own converter assumes.
 */
#include "tok/tok_impl.h"

#include <stdlib.h>

/* tokenizer.ggml.token_type */
enum { TYPE_NORMAL = 1, TYPE_UNKNOWN, TYPE_CONTROL, TYPE_USER, TYPE_UNUSED, TYPE_BYTE };

static unsigned type_flags(int64_t type) {
    switch (type) {
    case TYPE_UNKNOWN: return T_UNKNOWN;
    case TYPE_CONTROL: return T_CONTROL;
    case TYPE_USER: return T_USER;
    case TYPE_UNUSED: return T_UNUSED;
    case TYPE_BYTE: return T_BYTE;
    default: return 0;
    }
}

/* An array of `tokens`' length, or NULL when the key is absent. */
static bool find_parallel(const file *f, const char *key, uint64_t n, const file_value **out,
                          error *err) {
    *out = file_find_value(f, str_from(key));
    if (*out && ((*out)->type != FILE_ARR || (*out)->n != n)) {
        *out = NULL;
        return error_set(err, ERR_BAD_FILE, NULL,
                         "%s does not have one entry for each of the %llu tokens.", key,
                         (unsigned long long)n);
    }
    return true;
}

static bool load_tokens(tok *t, const file *f, text_form form, error *err) {
    const file_value *tokens = file_find_value(f, STR("tokenizer.ggml.tokens"));
    if (!tokens || tokens->type != FILE_ARR || tokens->item_type != FILE_STR)
        return error_set(err, ERR_BAD_FILE, NULL,
                         "The file has no list of tokens (tokenizer.ggml.tokens).");
    const file_value *types, *scores;
    if (!find_parallel(f, "tokenizer.ggml.token_type", tokens->n, &types, err) ||
        !find_parallel(f, "tokenizer.ggml.scores", tokens->n, &scores, err) ||
        !vocab_reserve(t, tokens->n, err))
        return false;
    bool wants_scores = t->model == MODEL_UNIGRAM || t->order == MERGE_BY_SCORE;
    if (wants_scores && !(t->scores = calloc((size_t)t->n, sizeof *t->scores)))
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the tokens' scores.");
    vocab_builder b = {.t = t, .form = form, .err = err};
    bool ok = true;
    for (uint64_t i = 0; ok && i < tokens->n; i++) {
        str text;
        int64_t type = TYPE_NORMAL;
        double score = 0;
        ok = file_item_str(f, tokens, i, &text) && (!types || file_item_i64(f, types, i, &type)) &&
             (!wants_scores || !scores || file_item_f64(f, scores, i, &score));
        if (!ok) {
            error_set(err, ERR_BAD_FILE, NULL, "Token %llu of the file cannot be read.",
                      (unsigned long long)i);
            break;
        }
        if (wants_scores) t->scores[i] = (float)score;
        unsigned flags = type_flags(type);
        /* SentencePiece builds words from tokens it would not show on their own. */
        if (form == TEXT_UNDERLINE) flags &= ~(unsigned)T_UNUSED;
        ok = vocab_add(&b, text, flags);
    }
    ok = ok && vocab_finish(&b);
    buf_deinit(&b.blob);
    return ok;
}

static bool load_merges(tok *t, const file *f, text_form form, error *err) {
    const file_value *merges = file_find_value(f, STR("tokenizer.ggml.merges"));
    if (!merges || merges->type != FILE_ARR || merges->item_type != FILE_STR)
        return error_set(err, ERR_BAD_FILE, NULL,
                         "The file has no list of merges (tokenizer.ggml.merges).");
    if (!vocab_reserve_merges(t, merges->n, err)) return false;
    buf tmp = {0};
    for (uint64_t i = 0; i < merges->n; i++) {
        str line;
        if (!file_item_str(f, merges, i, &line)) continue;
        ptrdiff_t space =
            str_find(line, STR(" "), 1); /* the first part is never empty and may be a space */
        if (space < 0) continue;
        vocab_add_merge(t, &tmp, str_make(line.ptr, (size_t)space),
                        str_make(line.ptr + space + 1, line.len - (size_t)space - 1), form);
    }
    bool failed = tmp.failed;
    buf_deinit(&tmp);
    if (failed) return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the merges.");
    return vocab_finish_merges(t, err);
}

static int32_t get_id(const file *f, const char *key, int32_t otherwise, int32_t n) {
    int64_t id;
    if (!file_get_i64(f, key, &id)) return otherwise >= 0 && otherwise < n ? otherwise : -1;
    return id >= 0 && id < n ? (int32_t)id : -1;
}

static bool add_split(tok *t, split_op op, split_scan scan, split_behaviour behaviour, error *err) {
    split_step *step = split_add(t, err);
    if (!step) return false;
    step->op = op;
    step->scan = scan;
    step->behaviour = behaviour;
    return true;
}

static normal_step *add_normal(tok *t, normal_op op, error *err) {
    normal_step *step = normal_add(t, err);
    if (step) step->op = op;
    return step;
}

/* BERT (uncased): clean, lower-case without accents, words at white space and punctuation. */
static bool set_up_wordpiece(tok *t, error *err) {
    normal_step *clean = add_normal(t, NORMAL_BERT, err);
    if (!clean) return false;
    clean->a = clean->b = true;
    return add_normal(t, NORMAL_NFD, err) && add_normal(t, NORMAL_STRIP_ACCENTS, err) &&
           add_normal(t, NORMAL_LOWER, err) &&
           add_split(t, SPLIT_SCAN, split_scan_space, SPLIT_REMOVED, err) &&
           add_split(t, SPLIT_SCAN, split_scan_punct, SPLIT_ISOLATED, err) &&
           add_split(t, SPLIT_PREFIX_SPACE, NULL, SPLIT_ISOLATED, err);
}

static bool set_up_unigram(tok *t, const file *f, error *err) {
    const file_value *map = file_find_value(f, STR("tokenizer.ggml.precompiled_charsmap"));
    if (map && map->type == FILE_ARR && map->n > 0) {
        if (map->n > 1u << 24)
            return error_set(err, ERR_BAD_FILE, NULL,
                             "tokenizer.ggml.precompiled_charsmap is too large.");
        char *bytes = arena_alloc(&t->mem, map->n);
        normal_step *step = bytes ? add_normal(t, NORMAL_CHARSMAP, err) : NULL;
        if (!step)
            return error_set(err, ERR_NO_MEMORY, NULL,
                             "There is no memory for the normalising rules.");
        for (uint64_t i = 0; i < map->n; i++) {
            int64_t byte = 0;
            file_item_i64(f, map, i, &byte);
            bytes[i] = (char)byte;
        }
        step->from = str_make(bytes, map->n);
    }
    bool squeeze = true;
    file_get_bool(f, "tokenizer.ggml.remove_extra_whitespaces", &squeeze);
    return !squeeze || add_normal(t, NORMAL_SQUEEZE, err);
}

static bool load_kind(tok *t, const file *f, str model, error *err) {
    str pre = STR("default");
    if (str_is(model, "gpt2") || str_is(model, "gemma4")) {
        bool bytes = str_is(model, "gpt2");
        text_form form = bytes ? TEXT_BYTE_LEVEL : TEXT_UNDERLINE;
        t->kind = TOK_BPE;
        t->byte_level = bytes;
        t->underline = !bytes;
        t->order = MERGE_BY_RANK;
        if (!load_tokens(t, f, form, err) || !load_merges(t, f, form, err)) return false;
        if (!bytes) return split_add_pattern(t, STR("[^\\n]+|[\\n]+"), SPLIT_ISOLATED, false, err);
        file_get_str(f, "tokenizer.ggml.pre", &pre);
        return presets_apply(t, pre, err);
    }
    if (str_is(model, "llama")) {
        t->kind = TOK_SPM;
        t->underline = t->unsplit = t->space_prefix = t->add_bos = true;
        t->order = MERGE_BY_SCORE;
        return load_tokens(t, f, TEXT_UNDERLINE, err);
    }
    if (str_is(model, "t5")) {
        t->kind = TOK_UNIGRAM;
        t->model = MODEL_UNIGRAM;
        t->underline = t->space_prefix = t->add_eos = t->fuse_unknown = true;
        return load_tokens(t, f, TEXT_UNDERLINE, err) && set_up_unigram(t, f, err);
    }
    if (str_is(model, "bert")) {
        t->kind = TOK_WORDPIECE;
        t->model = MODEL_WORDPIECE;
        t->add_bos = t->add_eos = t->strips_first_space = true;
        return load_tokens(t, f, TEXT_UNDERLINE, err) && set_up_wordpiece(t, err);
    }
    return error_set(err, ERR_NOT_IMPLEMENTED, NULL,
                     "Tokenizers of the kind \"%.*s\" are not built.",
                     (int)(model.len < 100 ? model.len : 100), model.ptr);
}

static void load_ids(tok *t, const file *f) {
    bool spm = t->kind == TOK_SPM, bert = t->kind == TOK_WORDPIECE;
    t->bos = get_id(f, "tokenizer.ggml.bos_token_id", spm ? 1 : -1, t->n);
    t->eos = get_id(f, "tokenizer.ggml.eos_token_id", spm ? 2 : -1, t->n);
    t->unknown = get_id(f, "tokenizer.ggml.unknown_token_id", spm ? 0 : -1, t->n);
    /* Byte-level files name <|endoftext|> here; a byte without a token is left out rather than end the text. */
    if (t->byte_level) t->unknown = -1;
    t->sep = get_id(f, "tokenizer.ggml.seperator_token_id", -1, t->n); /* the format spells it so */
    if (bert && t->bos < 0) t->bos = get_id(f, "tokenizer.ggml.cls_token_id", -1, t->n);
    if (bert && t->eos < 0) t->eos = t->sep;
    file_get_bool(f, "tokenizer.ggml.add_bos_token", &t->add_bos);
    file_get_bool(f, "tokenizer.ggml.add_eos_token", &t->add_eos);
    if (spm || t->kind == TOK_UNIGRAM) {
        file_get_bool(f, "tokenizer.ggml.add_space_prefix", &t->space_prefix);
        t->strips_first_space = t->space_prefix;
    }
    static const char *const ends[] = {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id",
                                       "tokenizer.ggml.eom_token_id"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        const file_value *v = file_find_value(f, str_from(ends[i]));
        for (uint64_t k = 0; v && k < v->n && k < 64; k++) {
            int64_t id;
            if (file_item_i64(f, v, k, &id) && id >= 0 && id < t->n) t->flags[id] |= T_END;
        }
    }
}

/* Phi-3's special tokens swallow the white space behind them, which GGUF has no key for. */
static void apply_name_quirks(tok *t, const file *f) {
    str name = {0}, arch = {0};
    file_get_str(f, "general.name", &name);
    file_get_str(f, "general.architecture", &arch);
    bool phi3 = str_is(arch, "phi3");
    for (size_t i = 0; i + 5 <= name.len && !phi3; i++)
        phi3 =
            strncasecmp(name.ptr + i, "phi-3", 5) == 0 || strncasecmp(name.ptr + i, "phi3", 4) == 0;
    if (phi3 && t->kind == TOK_SPM)
        for (int32_t id = 3; id < t->n; id++) {
            str piece = piece_of(t, id);
            if (t->flags[id] & T_SPECIAL && !str_is(piece, "<|endoftext|>"))
                t->flags[id] |= T_RSTRIP;
        }
    if (phi3 && t->kind == TOK_SPM && t->n > 2) t->flags[2] |= T_RSTRIP; /* </s> */
}

tok *tok_load(const file *f, error *err) {
    str model;
    tok *t = vocab_new(err);
    if (!t) return NULL;
    bool ok = file_get_str(f, "tokenizer.ggml.model", &model)
                  ? load_kind(t, f, model, err)
                  : error_set(err, ERR_BAD_FILE, NULL,
                              "The file has no tokenizer (tokenizer.ggml.model).");
    if (ok) {
        load_ids(t, f);
        apply_name_quirks(t, f);
        ok = vocab_finish_specials(t, err);
    }
    if (ok) return t;
    tok_unref(t);
    return NULL;
}
