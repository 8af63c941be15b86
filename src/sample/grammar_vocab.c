#include "sample/grammar_vocab.h"

#include <stdlib.h>

static int compare_pieces(const void *a, const void *b, void *ctx) {
    const tok *t = ctx;
    str x = tok_piece(t, *(const int32_t *)a), y = tok_piece(t, *(const int32_t *)b);
    size_t n = x.len < y.len ? x.len : y.len;
    int c = memcmp(x.ptr, y.ptr, n);
    if (c) return c;
    if (x.len != y.len) return x.len < y.len ? -1 : 1;
    int32_t p = *(const int32_t *)a, q = *(const int32_t *)b;
    return (p > q) - (p < q);
}

/* Nodes in preorder: a node's first child is the next one, `end` is behind its subtree. ids are in the
 * order of their bytes, which is the same order. */
static bool build(trie *x, const tok *t, int32_t *ids, size_t n) {
    size_t cap = 2;
    for (size_t i = 0; i < n; i++) cap += tok_piece(t, ids[i]).len;
    x->nodes = cap <= TRIE_MAX_NODES ? malloc(cap * sizeof *x->nodes) : NULL;
    x->ids = ids;
    if (!x->nodes) return false;
    uint32_t path[TRIE_MAX_DEPTH + 1], at = 0;
    x->nodes[0] = (trie_node){.ids = 0};
    path[0] = 0;
    size_t depth = 0;
    str last = {0};
    for (size_t i = 0; i < n; i++) {
        str s = tok_piece(t, ids[i]);
        size_t same = 0;
        while (same < depth && same < s.len && last.ptr[same] == s.ptr[same]) same++;
        for (; depth > same; depth--) x->nodes[path[depth]].end = (at + 1) & 0xFFFFFF;
        for (; depth < s.len; depth++) {
            path[depth + 1] = ++at;
            x->nodes[at] = (trie_node){.ids = (uint32_t)i & 0xFFFFFF,
                                       .depth = (uint8_t)(depth + 1),
                                       .byte = (uint8_t)s.ptr[depth]};
        }
        last = s;
    }
    for (;; depth--) {
        x->nodes[path[depth]].end = (at + 1) & 0xFFFFFF;
        if (!depth) break;
    }
    x->n_nodes = at + 1;
    x->nodes[x->n_nodes] = (trie_node){.ids = (uint32_t)n & 0xFFFFFF};
    trie_node *fit = realloc(x->nodes, ((size_t)x->n_nodes + 1) * sizeof *fit);
    if (fit) x->nodes = fit;
    return true;
}

/* What a token does inside a string whose content is free: 0 = cannot be there, 1 = stays inside,
 * 2 = has a quote or a backslash, which need a closer look. *n: characters it begins. */
static int read_inside(str s, int *n) {
    *n = 0;
    if (memchr(s.ptr, '"', s.len) || memchr(s.ptr, '\\', s.len)) return 2;
    for (size_t i = 0; i < s.len; ++*n) {
        if ((uint8_t)s.ptr[i] < 0x20) return 0;
        uint32_t cp;
        int len = utf8_decode(s, i, &cp);
        if (len) {
            i += (size_t)len;
            continue;
        }
        /* The beginning of a character at the token's end, or nothing. */
        str tail = {s.ptr + i, s.len - i};
        ++*n;
        return tail.len < 4 && utf8_complete_prefix(tail) == 0 ? 1 : 0;
    }
    return 1;
}

/* Well-formed UTF-8, the last character perhaps unfinished. */
static bool is_text(str s) {
    size_t whole = utf8_complete_prefix(s);
    return utf8_is_valid(str_make(s.ptr, whole));
}

static void set_bit(uint64_t *mask, int32_t id) {
    mask[id >> 6] |= 1ull << (id & 63);
}

static bool sort_inside(grammar_vocab *v, const int32_t *ids, size_t n, int32_t *marked,
                        size_t *n_marked) {
    size_t words = grammar_vocab_words(v);
    v->inside = calloc((VOCAB_COUNTED + 1) * words, sizeof *v->inside);
    v->long_inside = malloc((n + 1) * sizeof *v->long_inside);
    if (!v->inside || !v->long_inside) return false;
    for (size_t i = 0; i < n; i++) {
        int chars;
        str s = tok_piece(v->t, ids[i]);
        int how = read_inside(s, &chars);
        if (is_text(s)) set_bit(v->text, ids[i]);
        if (how == 2) marked[(*n_marked)++] = ids[i];
        if (how != 1) continue;
        set_bit(v->inside + VOCAB_COUNTED * words, ids[i]);
        if (chars > v->most_chars) v->most_chars = chars;
        if (chars >= VOCAB_COUNTED) v->long_inside[v->n_long++] = (vocab_long){ids[i], chars};
        for (int k = chars; k < VOCAB_COUNTED; k++) set_bit(v->inside + (size_t)k * words, ids[i]);
    }
    return true;
}

grammar_vocab *grammar_vocab_new(tok *t, error *err) {
    grammar_vocab *v = calloc(1, sizeof *v);
    int32_t *ids = NULL, *marked = NULL;
    bool ok = v != NULL;
    if (ok) {
        v->t = tok_ref(t);
        v->n_vocab = tok_n_vocab(t);
        atomic_store(&v->n_refs, 1);
        ids = malloc(((size_t)v->n_vocab + 1) * sizeof *ids);
        marked = malloc(((size_t)v->n_vocab + 1) * sizeof *marked);
        v->ends = calloc(grammar_vocab_words(v), sizeof *v->ends);
        v->text = calloc(grammar_vocab_words(v), sizeof *v->text);
        ok = ids && marked && v->ends && v->text;
    }
    size_t n = 0, n_marked = 0;
    if (ok) {
        for (int32_t id = 0; id < v->n_vocab; id++) {
            if (tok_is_end(t, id)) set_bit(v->ends, id);
            size_t len = tok_piece(t, id).len;
            if (len && len <= TRIE_MAX_DEPTH && !tok_is_special(t, id)) ids[n++] = id;
        }
        qsort_r(ids, n, sizeof *ids, compare_pieces, t);
        ok = sort_inside(v, ids, n, marked, &n_marked);
        ok = build(&v->all, t, ids, n) && ok;
        ok = build(&v->marked, t, marked, n_marked) && ok;
        ids = marked = NULL;
    }
    free(ids);
    free(marked);
    if (ok) return v;
    error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for the vocabulary's trie.");
    grammar_vocab_unref(v);
    return NULL;
}

/* Of the trie's nodes at most one for every byte; marked tokens are few. */
uint64_t grammar_vocab_plan_bytes(const tok *t) {
    uint64_t n_bytes = 0, n_marked = 0, n = (uint64_t)tok_n_vocab(t), words = (n + 63) / 64;
    for (int32_t id = 0; id < tok_n_vocab(t); id++) {
        str s = tok_piece(t, id);
        int chars;
        if (s.len > TRIE_MAX_DEPTH || tok_is_special(t, id)) continue;
        n_bytes += s.len;
        if (read_inside(s, &chars) == 2) n_marked += s.len;
    }
    return sizeof(grammar_vocab) + (n_bytes + n_marked) * sizeof(trie_node) +
           (n + n_marked) * sizeof(int32_t) + (VOCAB_COUNTED + 3) * words * sizeof(uint64_t);
}

grammar_vocab *grammar_vocab_ref(const grammar_vocab *v) {
    grammar_vocab *w = (grammar_vocab *)v;
    if (w) atomic_fetch_add_explicit(&w->n_refs, 1, memory_order_relaxed);
    return w;
}

void grammar_vocab_unref(const grammar_vocab *v) {
    grammar_vocab *w = (grammar_vocab *)v;
    if (!w || atomic_fetch_sub(&w->n_refs, 1) != 1) return;
    free(w->all.nodes);
    free(w->all.ids);
    free(w->marked.nodes);
    free(w->marked.ids);
    free(w->ends);
    free(w->text);
    free(w->inside);
    free(w->long_inside);
    tok_unref(w->t);
    free(w);
}

int32_t grammar_vocab_n(const grammar_vocab *v) {
    return v->n_vocab;
}
