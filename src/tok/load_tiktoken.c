/* tiktoken's rank files ("base64 rank" lines), and o200k_harmony on top of one. */
#include "tok/tok_impl.h"

#include <stdio.h>
#include <stdlib.h>

typedef struct rank_line {
    str text; /* base64 */
    int64_t id;
} rank_line;

/* The next line that is not blank; false at the end or, with *bad, at a damaged line. */
static bool next_line(str ranks, size_t *at, rank_line *line, bool *bad) {
    while (*at < ranks.len) {
        ptrdiff_t hit = str_find(ranks, STR("\n"), *at);
        size_t end = hit < 0 ? ranks.len : (size_t)hit;
        str text = str_trim(str_make(ranks.ptr + *at, end - *at));
        *at = end + 1;
        if (!text.len) continue;
        ptrdiff_t space = str_find(text, STR(" "), 0);
        *bad = space < 0 || text.len - (size_t)space - 1 > 9 || text.len - (size_t)space < 2;
        if (*bad) return false;
        line->text = str_make(text.ptr, (size_t)space);
        line->id = 0;
        for (size_t i = (size_t)space + 1; i < text.len; i++) {
            *bad |= text.ptr[i] < '0' || text.ptr[i] > '9';
            line->id = line->id * 10 + (text.ptr[i] - '0');
        }
        return !*bad;
    }
    return false;
}

static bool read_ranks(str ranks, buf *bytes, vocab_entry *entries, size_t *n, error *err) {
    size_t at = 0;
    rank_line line;
    bool bad = false;
    int64_t most = -1;
    for (size_t count = 0; next_line(ranks, &at, &line, &bad); count++) {
        if (line.id > most) most = line.id;
        if (!entries) continue;
        size_t begin = bytes->len;
        if (!vocab_base64(line.text, bytes)) {
            bad = true;
            break;
        }
        if (entries[line.id].set)
            return error_set(err, ERR_BAD_FILE, NULL, "Rank %lld occurs twice.",
                             (long long)line.id);
        /* An offset for now: the buffer still moves. */
        entries[line.id] =
            (vocab_entry){.text = {(char *)(uintptr_t)begin, bytes->len - begin}, .set = true};
    }
    if (bad)
        return error_set(err, ERR_BAD_FILE, NULL,
                         "The rank file is damaged before byte %zu: lines are \"base64 rank\".",
                         at);
    *n = (size_t)(most + 1);
    return true;
}

static bool load_ranks(tok *t, str ranks, const tok_special *special, size_t n_special,
                       error *err) {
    buf bytes = {0};
    vocab_entry *entries = NULL;
    vocab_builder b = {.t = t, .form = TEXT_PLAIN, .err = err};
    size_t n = 0, n_ranks = 0;
    bool ok = false;
    if (!read_ranks(ranks, &bytes, NULL, &n_ranks, err)) goto done;
    n = n_ranks;
    for (size_t i = 0; i < n_special; i++) {
        if (special[i].id < 0) {
            error_set(err, ERR_INVALID_VALUE, NULL, "The special token %.*s has a negative id.",
                      STR_ARG(special[i].text));
            goto done;
        }
        if ((size_t)special[i].id >= n) n = (size_t)special[i].id + 1;
    }
    if (!vocab_reserve(t, n, err)) goto done;
    entries = calloc(n, sizeof *entries);
    if (!entries) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for %zu tokens.", n);
        goto done;
    }
    if (!read_ranks(ranks, &bytes, entries, &n_ranks, err)) goto done;
    for (size_t i = 0; i < n_ranks; i++)
        entries[i].text.ptr =
            entries[i].text.len ? bytes.ptr + (uintptr_t)entries[i].text.ptr : NULL;
    for (size_t i = 0; i < n_special; i++)
        entries[special[i].id] =
            (vocab_entry){.text = special[i].text, .flags = T_CONTROL, .set = true};
    ok = vocab_add_entries(&b, entries, n) && vocab_finish(&b);
done:
    buf_deinit(&b.blob);
    buf_deinit(&bytes);
    free(entries);
    return ok;
}

static int32_t first_special(const tok *t, const char *const *names, size_t n) {
    for (size_t i = 0; i < n; i++) {
        int32_t id = vocab_find_special(t, str_from(names[i]));
        if (id >= 0) return id;
    }
    return -1;
}

tok *tok_load_tiktoken(str ranks, const char *pattern_name, const tok_special *special,
                       size_t n_special, error *err) {
    tok *t = vocab_new(err);
    if (!t) return NULL;
    t->kind = TOK_BPE;
    t->byte_level = t->whole_first = true;
    t->order = MERGE_BY_ID;
    bool ok = load_ranks(t, ranks, special, n_special, err) &&
              presets_apply(t, str_from(pattern_name), err) && vocab_finish_specials(t, err);
    if (!ok) {
        tok_unref(t);
        return NULL;
    }
    t->whole_first = true;
    static const char *const eos[] = {"<|return|>", "<|endoftext|>", "<|end_of_text|>",
                                      "<|eot_id|>", "<|im_end|>"};
    static const char *const bos[] = {"<|startoftext|>", "<|begin_of_text|>"};
    t->eos = first_special(t, eos, 5);
    t->bos = first_special(t, bos, 2);
    if (t->eos >= 0) t->flags[t->eos] |= T_END;
    t->add_bos = t->add_bos && t->bos >= 0;
    return t;
}

tok *tok_load_harmony(str o200k_ranks, error *err) {
    enum {
        FIRST = 199998,
        RESERVED = 200000,
        LAST = 201088,
        N = LAST - FIRST + 1,
        NAME_BYTES = 24
    };
    static const struct {
        const char *name;
        int32_t id;
    } named[] = {{"<|startoftext|>", 199998}, {"<|endoftext|>", 199999}, {"<|return|>", 200002},
                 {"<|constrain|>", 200003},   {"<|channel|>", 200005},   {"<|start|>", 200006},
                 {"<|end|>", 200007},         {"<|message|>", 200008},   {"<|call|>", 200012}};
    tok_special *special = calloc(N, sizeof *special);
    char(*names)[NAME_BYTES] = calloc(N, sizeof *names);
    tok *t = NULL;
    if (special && names) {
        for (int i = 0; i < N; i++) {
            snprintf(names[i], NAME_BYTES, "<|reserved_%d|>", FIRST + i);
            special[i] = (tok_special){str_from(names[i]), FIRST + i};
        }
        for (size_t i = 0; i < sizeof named / sizeof *named; i++)
            special[named[i].id - FIRST].text = str_from(named[i].name);
        t = tok_load_tiktoken(o200k_ranks, "gpt-4o", special, N, err);
    } else {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for harmony's special tokens.");
    }
    free(special);
    free(names);
    return t;
}
