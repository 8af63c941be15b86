#include "sample/grammar_quote.h"

#include <stdlib.h>
#include <string.h>

#include "sample/grammar_impl.h"

enum { MAX_DEPTH = 3000, N_SHORT = 7, STATES_MORE = 6 };

/* What has an escape of two characters. */
static const struct {
    char of, letter;
} SHORT[N_SHORT] = {{'"', '"'},  {'\\', '\\'}, {'\b', 'b'}, {'\f', 'f'},
                    {'\n', 'n'}, {'\r', 'r'},  {'\t', 't'}};

static bool must_be_escaped(uint8_t c) {
    return c < 0x20 || c == '"' || c == '\\';
}

static char find_letter(uint8_t c) {
    for (int i = 0; i < N_SHORT; i++)
        if ((uint8_t)SHORT[i].of == c) return SHORT[i].letter;
    return 0;
}

static void put_escape(buf *out, uint8_t c) {
    char letter = find_letter(c);
    if (letter)
        buf_printf(out, "\\%c", letter);
    else
        buf_printf(out, "\\u%04x", c);
}

/* ── Automata ── a state that takes characters with escapes gets states between, at most STATES_MORE:
 * behind the backslash, and behind \u, \u0, \u00, \u000, \u001. */

typedef struct quoting {
    const dfa *from;
    dfa *to;
    uint32_t cap;
} quoting;

static uint32_t add_state(quoting *k) {
    uint32_t s = k->to->n_states++;
    k->to->label[s] = -1;
    for (uint32_t c = 0; c < k->to->n_classes; c++)
        k->to->next[(size_t)s * k->to->n_classes + c] = DFA_DEAD;
    return s;
}

static void set_next(quoting *k, uint32_t s, uint8_t byte, uint32_t t) {
    k->to->next[(size_t)s * k->to->n_classes + k->to->class_of[byte]] = t;
}

/* Bytes that escapes are made of stand in classes of their own, and control characters in one that
 * nothing takes. */
static void split_classes(quoting *k) {
    static const char ALONE[] = "\"\\bfnrtu0123456789abcde";
    memcpy(k->to->class_of, k->from->class_of, sizeof k->to->class_of);
    k->to->n_classes = k->from->n_classes;
    for (int c = 0; c < 0x20; c++) k->to->class_of[c] = (uint8_t)k->to->n_classes;
    k->to->n_classes++;
    for (const char *c = ALONE; *c; c++) k->to->class_of[(uint8_t)*c] = (uint8_t)k->to->n_classes++;
}

static void quote_state(quoting *k, uint32_t q) {
    uint32_t escape = DFA_DEAD, u = DFA_DEAD, last[2] = {DFA_DEAD, DFA_DEAD};
    k->to->label[q] = k->from->label[q];
    for (int c = 0; c < 256; c++) {
        uint32_t t = dfa_step(k->from, q, (uint8_t)c);
        if (!must_be_escaped((uint8_t)c)) {
            if (t != DFA_DEAD) set_next(k, q, (uint8_t)c, t);
            continue;
        }
        if (t == DFA_DEAD) continue;
        if (escape == DFA_DEAD) escape = add_state(k);
        char letter = find_letter((uint8_t)c);
        if (letter) {
            set_next(k, escape, (uint8_t)letter, t);
            continue;
        }
        if (u == DFA_DEAD) {
            uint32_t zero = add_state(k);
            set_next(k, escape, 'u', zero);
            uint32_t zeros = add_state(k);
            set_next(k, zero, '0', zeros);
            u = add_state(k);
            set_next(k, zeros, '0', u);
        }
        int high = c >> 4;
        if (last[high] == DFA_DEAD) {
            last[high] = add_state(k);
            set_next(k, u, (uint8_t)('0' + high), last[high]);
        }
        set_next(k, last[high], (uint8_t) "0123456789abcdef"[c & 15], t);
    }
    if (escape != DFA_DEAD) set_next(k, q, '\\', escape);
}

static dfa *quote_dfa(const dfa *from) {
    quoting k = {.from = from, .to = calloc(1, sizeof *k.to)};
    if (!k.to) return NULL;
    split_classes(&k);
    k.cap = from->n_states * (STATES_MORE + 1);
    k.to->next = malloc((size_t)k.cap * k.to->n_classes * sizeof *k.to->next);
    k.to->label = malloc(k.cap * sizeof *k.to->label);
    k.to->n_left = malloc(k.cap * sizeof *k.to->n_left);
    k.to->is_open = malloc(k.cap);
    bool ok = k.to->next && k.to->label && k.to->n_left && k.to->is_open;
    for (uint32_t q = 0; ok && q < from->n_states; q++) add_state(&k);
    for (uint32_t q = 0; ok && q < from->n_states; q++) quote_state(&k, q);
    if (ok && dfa_trim(k.to)) return k.to;
    dfa_free(k.to);
    return NULL;
}

/* ── Nodes ── */

typedef struct copying {
    grammar_builder *b;
    const char *param;
    int32_t *copy_of; /* [n] −1: not yet */
    int32_t n;
} copying;

static grammar_node fail(copying *k, error_code code, const char *why) {
    return builder_fail(k->b, code, k->param, "%s", why) - 1;
}

static grammar_node quote_literal(copying *k, gnode g) {
    buf out = {0};
    for (int32_t i = 0; i < g.b; i++) {
        uint8_t c = (uint8_t)k->b->text.ptr[g.a + i];
        if (must_be_escaped(c))
            put_escape(&out, c);
        else
            buf_append_char(&out, (char)c);
    }
    grammar_node n = out.failed ? fail(k, ERR_NO_MEMORY, "There is no memory for a grammar.")
                                : grammar_bytes(k->b, buf_str(&out));
    buf_deinit(&out);
    return n;
}

static grammar_node quote_set(copying *k, gnode g) {
    uint64_t rest[4];
    memcpy(rest, k->b->sets[g.a], sizeof rest);
    grammar_node items[35];
    size_t n = 1;
    for (int c = 0; c < 128; c++) {
        if (!must_be_escaped((uint8_t)c) || !(rest[c >> 6] >> (c & 63) & 1)) continue;
        rest[c >> 6] &= ~(1ull << (c & 63));
        buf out = {0};
        put_escape(&out, (uint8_t)c);
        items[n++] = grammar_bytes(k->b, buf_str(&out));
        buf_deinit(&out);
    }
    items[0] = grammar_set(k->b, rest);
    return grammar_alt(k->b, items, n);
}

static grammar_node quote_automaton(copying *k, gnode g) {
    const dfa *from = k->b->dfas[g.a];
    if ((uint64_t)from->n_states * (STATES_MORE + 1) > GRAMMAR_MAX_DFA_STATES ||
        from->n_classes > 200)
        return fail(k, ERR_UNSUPPORTED_VALUE,
                    "A pattern is too large to be written inside a JSON string.");
    dfa *d = quote_dfa(from);
    if (!d) return fail(k, ERR_NO_MEMORY, "There is no memory for a grammar.");
    int32_t at = builder_add_dfa(k->b, d);
    return at < 0 ? -1 : builder_add(k->b, (gnode){.op = G_DFA, .a = at});
}

static grammar_node quote(copying *k, grammar_node n, int depth);

static grammar_node quote_list(copying *k, gnode g, int depth) {
    grammar_node *items = malloc(((size_t)g.b + 1) * sizeof *items);
    if (!items) return fail(k, ERR_NO_MEMORY, "There is no memory for a grammar.");
    for (int32_t i = 0; i < g.b; i++) items[i] = quote(k, k->b->kids[g.a + i], depth + 1);
    grammar_node made = g.op == G_SEQ ? grammar_seq(k->b, items, (size_t)g.b)
                                      : grammar_alt(k->b, items, (size_t)g.b);
    free(items);
    return made;
}

static grammar_node quote(copying *k, grammar_node n, int depth) {
    if (grammar_builder_failed(k->b) || n < 0 || n >= k->n) return -1;
    if (k->copy_of[n] >= 0) return k->copy_of[n];
    if (depth > MAX_DEPTH)
        return fail(k, ERR_UNSUPPORTED_VALUE,
                    "The grammar is nested too deeply to be written inside a JSON string.");
    gnode g = k->b->nodes[n]; /* by value: adding moves them */
    grammar_node made = -1;
    switch (g.op) {
    case G_LIT: made = quote_literal(k, g); break;
    case G_SET: made = quote_set(k, g); break;
    case G_DFA: made = quote_automaton(k, g); break;
    case G_SEQ:
    case G_ALT: made = quote_list(k, g, depth); break;
    case G_REP: made = grammar_repeat(k->b, quote(k, g.a, depth + 1), g.min, g.max); break;
    case G_CALL:
        made = k->copy_of[n] = grammar_declare(k->b);
        if (g.a >= 0) grammar_define(k->b, made, quote(k, g.a, depth + 1));
        break;
    case G_TOKEN:
    case G_JSON:
        return fail(k, ERR_UNSUPPORTED_VALUE,
                    "Special tokens and %json cannot be used here: this model writes the text "
                    "inside a JSON string.");
    default: made = n; /* nothing at all, or impossible */
    }
    k->copy_of[n] = made;
    return made;
}

grammar_node grammar_quote(grammar_builder *b, grammar_node n, const char *param) {
    if (grammar_builder_failed(b) || n < 0) return -1;
    copying k = {.b = b, .param = param, .n = b->n_nodes};
    k.copy_of = malloc((size_t)k.n * sizeof *k.copy_of);
    if (!k.copy_of) return fail(&k, ERR_NO_MEMORY, "There is no memory for a grammar.");
    memset(k.copy_of, 0xFF, (size_t)k.n * sizeof *k.copy_of);
    grammar_node made = quote(&k, n, 0);
    free(k.copy_of);
    return made;
}
