/* Pre-tokenising: cuts normalised text into the pieces that merging may not
 * cross. A vocabulary has a list of steps; each cuts what the one before left.
 * Patterns without a scanner run in PCRE2 with its JIT.
 */
#include "tok/tok_impl.h"

#include <pcre2.h>
#include <stdlib.h>

enum {
    MAX_SPLIT_STEPS = 32,
    MAX_PATTERN_BYTES = 1 << 16,
    JIT_STACK_BYTES = 1 << 20,
    MATCH_LIMIT = 10 * 1000 * 1000 /* backtracks for one match of a stranger's pattern */
};

struct regex {
    pcre2_code *code;
};

/* PCRE2's \s has U+180E, which Unicode took out of White_Space in 6.3: spell the property out. */
#define WHITE_SPACE \
    "\\x09-\\x0d\\x20\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}"

static bool rewrite_pattern(str in, buf *out) {
    bool in_class = false;
    for (size_t i = 0; i < in.len; i++) {
        char c = in.ptr[i], next = i + 1 < in.len ? in.ptr[i + 1] : 0;
        if (c == '\\' && next == 's') {
            buf_append_cstr(out, in_class ? WHITE_SPACE : "[" WHITE_SPACE "]");
            i++;
        } else if (c == '\\' && next == 'S' && !in_class) {
            buf_append_cstr(out, "[^" WHITE_SPACE "]");
            i++;
        } else if (c == '\\' && next) {
            buf_append(out, in.ptr + i++, 2);
        } else {
            if (c == '[' && !in_class) {
                in_class = true;
                buf_append_char(out, c);
                /* A ] that comes first stands for itself. */
                if (next == '^') buf_append_char(out, in.ptr[++i]);
                if (i + 1 < in.len && in.ptr[i + 1] == ']') buf_append(out, "\\]", 2), i++;
                continue;
            }
            if (c == ']') in_class = false;
            buf_append_char(out, c);
        }
    }
    return !out->failed;
}

regex *regex_compile(str pattern, error *err) {
    if (pattern.len > MAX_PATTERN_BYTES) {
        error_set(err, ERR_BAD_FILE, NULL, "A pre-tokeniser pattern is %zu bytes long.",
                  pattern.len);
        return NULL;
    }
    buf text = {0};
    regex *re = calloc(1, sizeof *re);
    if (!rewrite_pattern(pattern, &text) || !re) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for a pre-tokeniser pattern.");
        goto fail;
    }
    int code;
    PCRE2_SIZE where;
    re->code = pcre2_compile((PCRE2_SPTR)(text.ptr ? text.ptr : ""), text.len,
                             PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY,
                             &code, &where, NULL);
    if (!re->code) {
        char why[128] = "";
        pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
        error_set(err, ERR_BAD_FILE, NULL,
                  "The pre-tokeniser pattern \"%.*s\" is not understood: %s.",
                  (int)(pattern.len < 200 ? pattern.len : 200), pattern.ptr, why);
        goto fail;
    }
    pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE); /* without it the interpreter does the same */
    buf_deinit(&text);
    return re;
fail:
    buf_deinit(&text);
    regex_free(re);
    return NULL;
}

void regex_free(regex *re) {
    if (!re) return;
    pcre2_code_free(re->code);
    free(re);
}

void regex_scratch_deinit(regex_scratch *s) {
    if (s->match) pcre2_match_data_free(s->match);
    if (s->context) pcre2_match_context_free(s->context);
    if (s->stack) pcre2_jit_stack_free(s->stack);
    *s = (regex_scratch){0};
}

bool regex_find(const regex *re, regex_scratch *s, str text, size_t from, size_t *begin,
                size_t *end) {
    if (from > text.len || s->failed) return false;
    if (!s->context) {
        s->context = pcre2_match_context_create(NULL);
        s->match = pcre2_match_data_create(1, NULL);
        s->stack = pcre2_jit_stack_create(32 * 1024, JIT_STACK_BYTES, NULL);
        if (s->context) pcre2_set_match_limit(s->context, MATCH_LIMIT);
        if (s->context && s->stack) pcre2_jit_stack_assign(s->context, NULL, s->stack);
    }
    if (!s->context || !s->match || !s->stack) {
        s->failed = true;
        return false;
    }
    /* No UTF check: the caller vouches for the text, and checking it anew for every match would make
     * the whole quadratic. */
    int rc = pcre2_match(re->code, (PCRE2_SPTR)(text.ptr ? text.ptr : ""), text.len, from,
                         PCRE2_NO_UTF_CHECK, s->match, s->context);
    if (rc == PCRE2_ERROR_NOMEMORY) s->failed = true;
    if (rc < 0) return false; /* no match, or a limit: the rest stays one piece */
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer(s->match);
    *begin = at[0];
    *end = at[1];
    return *begin <= *end && *begin >= from; /* \K can do strange things */
}

/* ── Steps ── */
split_step *split_add(tok *t, error *err) {
    if (t->n_split >= MAX_SPLIT_STEPS) {
        error_set(err, ERR_BAD_FILE, NULL, "The tokenizer has more than %d pre-tokeniser steps.",
                  MAX_SPLIT_STEPS);
        return NULL;
    }
    split_step *grown = realloc(t->split, (size_t)(t->n_split + 1) * sizeof *grown);
    if (!grown) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the pre-tokeniser.");
        return NULL;
    }
    t->split = grown;
    split_step *step = &t->split[t->n_split++];
    *step = (split_step){0};
    return step;
}

bool split_add_pattern(tok *t, str pattern, split_behaviour behaviour, bool invert, error *err) {
    split_step *step = split_add(t, err);
    if (!step) return false;
    step->behaviour = behaviour;
    step->invert = invert;
    if (str_is(pattern, "(?=(\\d{3})+(?!\\d))")) {
        step->op = SPLIT_DIGIT_GROUPS;
        return true;
    }
    step->scan = split_find_scanner(pattern);
    step->op = step->scan ? SPLIT_SCAN : SPLIT_REGEX;
    if (step->scan) return true;
    step->re = regex_compile(pattern, err);
    return step->re != NULL;
}

/* ── Running ── */
static bool find_match(scratch *s, const split_step *step, str text, str safe, size_t from,
                       size_t *begin, size_t *end) {
    switch (step->op) {
    case SPLIT_SCAN: return step->scan(text, from, begin, end);
    case SPLIT_REGEX: return regex_find(step->re, &s->re, safe, from, begin, end);
    default: break;
    }
    ptrdiff_t hit = step->text.len ? str_find(text, step->text, from) : -1;
    if (hit < 0) return false;
    *begin = (size_t)hit;
    *end = *begin + step->text.len;
    return true;
}

static void run_step(scratch *s, int at, str text);

/* Collects matches and the text between them into pieces as the behaviour says. */
typedef struct joiner {
    scratch *s;
    int next_step;
    split_behaviour behaviour;
    str text;
    size_t begin, end; /* of the piece being collected; none when equal */
    bool has_match;    /* … it holds a match */
    bool only_match;   /* … nothing but matches */
} joiner;

static void joiner_flush(joiner *j) {
    if (j->end > j->begin)
        run_step(j->s, j->next_step, str_make(j->text.ptr + j->begin, j->end - j->begin));
    j->begin = j->end;
    j->has_match = j->only_match = false;
}

static void joiner_add(joiner *j, size_t begin, size_t end, bool is_match) {
    bool joins = false;
    switch (j->behaviour) {
    case SPLIT_ISOLATED: break;
    case SPLIT_REMOVED:
        joiner_flush(j);
        if (is_match) {
            j->begin = j->end = end;
            return;
        }
        break;
    case SPLIT_MERGED_PREVIOUS: joins = is_match && !j->has_match; break;
    case SPLIT_MERGED_NEXT: joins = !is_match && j->has_match; break;
    case SPLIT_CONTIGUOUS: joins = is_match && j->only_match; break;
    }
    if (!joins || j->end == j->begin) {
        joiner_flush(j);
        j->begin = begin;
        j->only_match = is_match;
    }
    j->end = end;
    j->has_match |= is_match;
    j->only_match &= is_match;
}

static void run_pattern(scratch *s, int at, str text) {
    const split_step *step = &s->t->split[at];
    joiner j = {.s = s, .next_step = at + 1, .behaviour = step->behaviour, .text = text};
    buf safe = {0};
    str seen = text;
    if (step->op == SPLIT_REGEX && !utf8_is_valid(text)) {
        /* Same offsets, but every ill-formed byte is a control character for the regex. */
        buf_append_str(&safe, text);
        uint32_t cp;
        for (size_t i = 0; i < safe.len;) {
            int n = utf8_decode(text, i, &cp);
            if (!n) safe.ptr[i] = 1;
            i += n ? (size_t)n : 1;
        }
        if (safe.failed)
            s->failed = true;
        else
            seen = buf_str(&safe);
    }
    size_t done = 0, from = 0, begin, end;
    while (!s->failed && find_match(s, step, text, seen, from, &begin, &end)) {
        if (begin > done) joiner_add(&j, done, begin, step->invert);
        if (end > begin)
            joiner_add(&j, begin, end, !step->invert);
        else
            joiner_flush(&j); /* an empty match cuts */
        done = end;
        from = end;
        if (end == begin) {
            if (end >= text.len) break;
            from += (size_t)char_at(text, end).len;
        }
    }
    if (text.len > done) joiner_add(&j, done, text.len, step->invert);
    joiner_flush(&j);
    buf_deinit(&safe);
}

static const str mark = {"\xE2\x96\x81", 3};

static void run_metaspace(scratch *s, int at, str text) {
    const split_step *step = &s->t->split[at];
    buf out = {0};
    if ((step->a || (step->b && s->first)) && !str_starts(text, mark) && text.ptr[0] != ' ')
        buf_append_str(&out, mark);
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] == ' ')
            buf_append_str(&out, mark);
        else
            buf_append_char(&out, text.ptr[i]);
    }
    if (out.failed)
        s->failed = true;
    else
        run_step(s, at + 1, buf_str(&out));
    buf_deinit(&out);
}

/* Cuts before every three digits counted from the right of a run. By hand because the pattern's
 * look-ahead would run to the end of the digits at every one of them. */
static void run_digit_groups(scratch *s, int at, str text) {
    size_t begin = 0;
    for (size_t i = 0, stop; i < text.len; i = stop) {
        for (stop = i; stop < text.len && text.ptr[stop] >= '0' && text.ptr[stop] <= '9';) stop++;
        if (stop == i) {
            stop++;
            continue;
        }
        for (size_t cut = i + (stop - i) % 3; cut < stop; cut += 3) {
            if (cut > begin) run_step(s, at + 1, str_make(text.ptr + begin, cut - begin));
            begin = cut;
        }
    }
    run_step(s, at + 1, str_make(text.ptr + begin, text.len - begin));
}

static void run_step(scratch *s, int at, str text) {
    if (s->failed || text.len == 0) return;
    if (at >= s->t->n_split) {
        model_encode(s, text);
        s->first = false;
        return;
    }
    const split_step *step = &s->t->split[at];
    if (step->op == SPLIT_METASPACE) {
        run_metaspace(s, at, text);
    } else if (step->op == SPLIT_ALPHABET) {
        buf out = {0};
        for (size_t i = 0; i < text.len; i++)
            buf_append_utf8(&out, vocab_byte_character((unsigned char)text.ptr[i]));
        if (out.failed)
            s->failed = true;
        else
            run_step(s, at + 1, buf_str(&out));
        buf_deinit(&out);
    } else if (step->op == SPLIT_DIGIT_GROUPS) {
        run_digit_groups(s, at, text);
    } else if (step->op == SPLIT_PREFIX_SPACE) {
        if (text.ptr[0] == ' ') {
            run_step(s, at + 1, text);
            return;
        }
        buf out = {0};
        buf_append_char(&out, ' ');
        buf_append_str(&out, text);
        if (out.failed)
            s->failed = true;
        else
            run_step(s, at + 1, buf_str(&out));
        buf_deinit(&out);
    } else {
        run_pattern(s, at, text);
    }
}

void split_encode(scratch *s, str text) {
    run_step(s, 0, text);
}
