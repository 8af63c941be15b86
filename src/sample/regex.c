#include "sample/regex.h"

#include <stdlib.h>

#include "base/hash.h"
#include "sample/grammar.h"

typedef enum rx_op { OP_NONE, OP_EPS, OP_SET, OP_CAT, OP_ALT, OP_AND, OP_NOT, OP_REP } rx_op;

typedef struct rx_node {
    uint8_t op;
    bool nullable;
    int32_t a, b;     /* CAT: both; NOT, REP: a; SET: a = which set; ALT, AND: kids [a, a + b) */
    int32_t min, max; /* REP */
    uint64_t hash;
} rx_node;

typedef struct byte_set {
    uint64_t w[4];
} byte_set;

struct regexes {
    rx_node *nodes;
    int32_t n_nodes, cap_nodes;
    int32_t *kids;
    int32_t n_kids, cap_kids;
    byte_set *sets;
    int32_t n_sets, cap_sets;
    int32_t *table; /* of node numbers, −1 = empty; n_table is a power of two */
    uint32_t n_table;
    struct {
        uint32_t stamp;
        rx value;
    } * memo; /* [cap_nodes] of the derivative being computed */
    uint32_t stamp;
    int64_t work;  /* derivatives taken */
    int64_t built; /* expressions put together: a derivative may rebuild a long chain of them */
    rx any_char, any_text; /* 0: not made yet */
    const char *failure;
};

static const char TOO_LONG[] = "A pattern takes too long to compile (GRAMMAR_MAX_REGEX_WORK).";

static rx fail(regexes *x, const char *why) {
    if (!x->failure) x->failure = why;
    return -1;
}

const char *regexes_failure(const regexes *x) {
    return x->failure;
}

static bool grow(regexes *x, void *array, int32_t *cap, int32_t need, size_t size) {
    if (need <= *cap) return true;
    int32_t to = *cap ? *cap : 64;
    while (to < need) to *= 2;
    void *p = realloc(*(void **)array, (size_t)to * size);
    if (!p) {
        fail(x, "There is not enough memory.");
        return false;
    }
    *(void **)array = p;
    *cap = to;
    return true;
}

static uint64_t set_hash(const byte_set *s) {
    return hash_bytes(s->w, sizeof s->w, 7);
}

/* ── Interning ── */

static bool same_node(const regexes *x, const rx_node *n, const int32_t *kids, int32_t at) {
    const rx_node *o = &x->nodes[at];
    if (o->hash != n->hash || o->op != n->op) return false;
    if (n->op == OP_ALT || n->op == OP_AND)
        return o->b == n->b && memcmp(x->kids + o->a, kids, (size_t)n->b * sizeof *kids) == 0;
    return o->a == n->a && o->b == n->b && o->min == n->min && o->max == n->max;
}

static bool rehash(regexes *x) {
    uint32_t n = x->n_table ? x->n_table * 2 : 1024;
    int32_t *t = malloc(n * sizeof *t);
    if (!t) {
        fail(x, "There is not enough memory.");
        return false;
    }
    for (uint32_t i = 0; i < n; i++) t[i] = -1;
    for (int32_t i = 0; i < x->n_nodes; i++) {
        uint32_t at = (uint32_t)x->nodes[i].hash & (n - 1);
        while (t[at] >= 0) at = (at + 1) & (n - 1);
        t[at] = i;
    }
    free(x->table);
    x->table = t;
    x->n_table = n;
    return true;
}

/* kids of ALT and AND are copied when the node is new. */
static rx intern(regexes *x, rx_node n, const int32_t *kids) {
    if (x->failure) return -1;
    x->built += 1 + (kids ? n.b / 8 : 0);
    if (x->built > (int64_t)GRAMMAR_MAX_REGEX_WORK * 5) return fail(x, TOO_LONG);
    uint64_t h = hash_combine(n.op, (uint64_t)(uint32_t)n.b << 32 | (uint32_t)n.min);
    h = hash_combine(h, (uint32_t)n.max);
    if (kids)
        h = hash_bytes(kids, (size_t)n.b * sizeof *kids, h);
    else
        h = hash_combine(h, (uint32_t)n.a);
    n.hash = h;
    if ((uint32_t)x->n_nodes * 2 >= x->n_table && !rehash(x)) return -1;
    uint32_t at = (uint32_t)h & (x->n_table - 1);
    for (; x->table[at] >= 0; at = (at + 1) & (x->n_table - 1))
        if (same_node(x, &n, kids, x->table[at])) return x->table[at];
    if (x->n_nodes >= GRAMMAR_MAX_REGEX_NODES)
        return fail(x, "A pattern is too large (GRAMMAR_MAX_REGEX_NODES).");
    int32_t cap = x->cap_nodes;
    if (!grow(x, &x->nodes, &cap, x->n_nodes + 1, sizeof *x->nodes)) return -1;
    if (cap != x->cap_nodes) {
        void *memo = realloc(x->memo, (size_t)cap * sizeof *x->memo);
        if (!memo) return fail(x, "There is not enough memory.");
        x->memo = memo;
        memset(x->memo + x->cap_nodes, 0, (size_t)(cap - x->cap_nodes) * sizeof *x->memo);
        x->cap_nodes = cap;
    }
    if (kids) {
        if (!grow(x, &x->kids, &x->cap_kids, x->n_kids + n.b, sizeof *x->kids)) return -1;
        memcpy(x->kids + x->n_kids, kids, (size_t)n.b * sizeof *kids);
        n.a = x->n_kids;
        x->n_kids += n.b;
    }
    x->nodes[x->n_nodes] = n;
    x->table[at] = x->n_nodes;
    return x->n_nodes++;
}

regexes *regexes_new(void) {
    regexes *x = calloc(1, sizeof *x);
    if (!x) return NULL;
    intern(x, (rx_node){.op = OP_NONE}, NULL);
    intern(x, (rx_node){.op = OP_EPS, .nullable = true}, NULL);
    intern(x, (rx_node){.op = OP_NOT, .a = RX_NONE, .nullable = true}, NULL);
    if (!x->failure) return x;
    regexes_free(x);
    return NULL;
}

void regexes_free(regexes *x) {
    if (!x) return;
    free(x->nodes);
    free(x->kids);
    free(x->sets);
    free(x->table);
    free(x->memo);
    free(x);
}

bool regex_is_nullable(const regexes *x, rx a) {
    return a >= 0 && x->nodes[a].nullable;
}

/* ── Constructors ── */

rx regex_set(regexes *x, const uint64_t set[4]) {
    byte_set s = {{set[0], set[1], set[2], set[3]}};
    if (!(s.w[0] | s.w[1] | s.w[2] | s.w[3])) return RX_NONE;
    if (x->failure) return -1;
    /* Sets are few: the node table finds them by their content's hash in min/max. */
    uint64_t h = set_hash(&s);
    int32_t at = -1;
    for (int32_t i = x->n_sets - 1; i >= 0; i--)
        if (memcmp(&x->sets[i], &s, sizeof s) == 0) {
            at = i;
            break;
        }
    if (at < 0) {
        if (!grow(x, &x->sets, &x->cap_sets, x->n_sets + 1, sizeof *x->sets)) return -1;
        x->sets[at = x->n_sets++] = s;
    }
    return intern(x, (rx_node){.op = OP_SET, .a = at, .min = (int32_t)(h >> 33)}, NULL);
}

rx regex_byte_range(regexes *x, int lo, int hi) {
    uint64_t s[4] = {0};
    for (int c = lo; c <= hi; c++) s[c >> 6] |= 1ull << (c & 63);
    return regex_set(x, s);
}

rx regex_cat(regexes *x, rx a, rx b) {
    if (a < 0 || b < 0) return -1;
    if (a == RX_NONE || b == RX_NONE) return RX_NONE;
    if (a == RX_EPS) return b;
    if (b == RX_EPS) return a;
    /* To the right, so that equal sequences are equal numbers. */
    if (x->nodes[a].op == OP_CAT) {
        rx head = x->nodes[a].a, tail = x->nodes[a].b;
        return regex_cat(x, head, regex_cat(x, tail, b));
    }
    return intern(
        x,
        (rx_node){
            .op = OP_CAT, .a = a, .b = b, .nullable = x->nodes[a].nullable && x->nodes[b].nullable},
        NULL);
}

rx regex_literal(regexes *x, str bytes) {
    rx r = RX_EPS;
    for (size_t i = bytes.len; i-- > 0;)
        r = regex_cat(x, regex_byte_range(x, (uint8_t)bytes.ptr[i], (uint8_t)bytes.ptr[i]), r);
    return r;
}

static int compare_rx(const void *a, const void *b) {
    rx p = *(const rx *)a, q = *(const rx *)b;
    return (p > q) - (p < q);
}

/* The flattened, sorted, distinct operands of an ALT or AND, one-byte sets merged into one. */
static rx combine(regexes *x, rx_op op, const rx *items, size_t n) {
    rx small[64], *v = small;
    size_t len = 0, cap = sizeof small / sizeof *small;
    rx absorbing = op == OP_ALT ? RX_ALL : RX_NONE, neutral = op == OP_ALT ? RX_NONE : RX_ALL;
    byte_set set;
    memset(&set, op == OP_ALT ? 0 : 0xFF, sizeof set);
    bool has_set = false;
    rx result = -1;
    for (size_t i = 0; i < n; i++) {
        if (items[i] < 0) goto out;
        const rx_node *node = &x->nodes[items[i]];
        size_t n_more = node->op == op ? (size_t)node->b : 1;
        if (len + n_more + 1 > cap) {
            cap = (len + n_more + 1) * 2;
            rx *w = malloc(cap * sizeof *w);
            if (!w) {
                fail(x, "There is not enough memory.");
                goto out;
            }
            memcpy(w, v, len * sizeof *w);
            if (v != small) free(v);
            v = w;
        }
        const rx *from = node->op == op ? x->kids + node->a : &items[i];
        for (size_t k = 0; k < n_more; k++) {
            const rx_node *kid = &x->nodes[from[k]];
            if (from[k] == absorbing) {
                result = absorbing;
                goto out;
            }
            if (from[k] == neutral) continue;
            if (kid->op == OP_SET) {
                for (int w = 0; w < 4; w++)
                    if (op == OP_ALT)
                        set.w[w] |= x->sets[kid->a].w[w];
                    else
                        set.w[w] &= x->sets[kid->a].w[w];
                has_set = true;
            } else
                v[len++] = from[k];
        }
    }
    if (has_set) {
        rx s = regex_set(x, set.w);
        if (s < 0) goto out;
        if (s == absorbing) {
            result = s;
            goto out;
        }
        v[len++] = s; /* never neutral: a set is neither nothing nor everything */
    }
    qsort(v, len, sizeof *v, compare_rx);
    size_t kept = 0;
    bool nullable = op == OP_AND, has_eps = false;
    for (size_t i = 0; i < len; i++) {
        if (kept && v[kept - 1] == v[i]) continue;
        v[kept++] = v[i];
        bool kid_nullable = x->nodes[v[i]].nullable;
        has_eps |= v[i] == RX_EPS;
        if (op == OP_ALT)
            nullable |= kid_nullable;
        else
            nullable &= kid_nullable;
    }
    if (kept == 0)
        result = neutral;
    else if (kept == 1)
        result = v[0];
    else if (op == OP_AND && has_eps)
        result = nullable ? RX_EPS : RX_NONE;
    else
        result = intern(x, (rx_node){.op = op, .b = (int32_t)kept, .nullable = nullable}, v);
out:
    if (v != small) free(v);
    return result;
}

rx regex_alt(regexes *x, const rx *items, size_t n) {
    return combine(x, OP_ALT, items, n);
}
rx regex_and(regexes *x, const rx *items, size_t n) {
    return combine(x, OP_AND, items, n);
}

rx regex_not(regexes *x, rx a) {
    if (a < 0) return -1;
    if (x->nodes[a].op == OP_NOT) return x->nodes[a].a;
    return intern(x, (rx_node){.op = OP_NOT, .a = a, .nullable = !x->nodes[a].nullable}, NULL);
}

rx regex_repeat(regexes *x, rx a, int32_t min, int32_t max) {
    if (a < 0) return -1;
    if (max == 0 || a == RX_EPS) return RX_EPS;
    if (a == RX_NONE) return min == 0 ? RX_EPS : RX_NONE;
    if (min == 1 && max == 1) return a;
    if (x->nodes[a].nullable) min = 0;
    const rx_node *n = &x->nodes[a];
    if (n->op == OP_REP && n->min == 0 && n->max < 0) return a;
    if (n->op == OP_REP && n->min == 1 && n->max < 0 && min == 1 && max < 0) return a;
    if (min == 0 && max < 0 && a == RX_ALL) return a;
    return intern(x, (rx_node){.op = OP_REP, .a = a, .min = min, .max = max, .nullable = min == 0},
                  NULL);
}

/* ── Derivatives ── */

static rx derive(regexes *x, rx r, uint8_t byte) {
    if (r < 0 || x->failure) return -1;
    rx_node n = x->nodes[r];
    switch (n.op) {
    case OP_NONE:
    case OP_EPS: return RX_NONE;
    case OP_SET: return x->sets[n.a].w[byte >> 6] >> (byte & 63) & 1 ? RX_EPS : RX_NONE;
    default: break;
    }
    if (x->memo[r].stamp == x->stamp) return x->memo[r].value;
    if (++x->work > GRAMMAR_MAX_REGEX_WORK) return fail(x, TOO_LONG);
    rx d = -1;
    switch (n.op) {
    case OP_CAT:
        d = regex_cat(x, derive(x, n.a, byte), n.b);
        if (x->nodes[n.a].nullable) d = regex_alt2(x, d, derive(x, n.b, byte));
        break;
    case OP_NOT: d = regex_not(x, derive(x, n.a, byte)); break;
    case OP_REP:
        d = regex_cat(x, derive(x, n.a, byte),
                      regex_repeat(x, n.a, n.min ? n.min - 1 : 0, n.max < 0 ? -1 : n.max - 1));
        break;
    case OP_ALT:
    case OP_AND: {
        rx small[32] = {0}, *v = small;
        int32_t len = 0;
        if (n.b > 32 && !(v = malloc((size_t)n.b * sizeof *v)))
            return fail(x, "There is not enough memory.");
        for (int32_t i = 0; i < n.b; i++) {
            rx k = derive(x, x->kids[n.a + i], byte);
            if (n.op == OP_ALT && k == RX_NONE) continue;
            v[len++] = k;
            if (k < 0 || (n.op == OP_AND && k == RX_NONE)) break;
        }
        d = combine(x, n.op, v, (size_t)len);
        if (v != small) free(v);
        break;
    }
    default: break;
    }
    if (d >= 0) {
        x->memo[r].stamp = x->stamp;
        x->memo[r].value = d;
    }
    return d;
}

rx regex_derive(regexes *x, rx a, uint8_t byte) {
    x->stamp++;
    return derive(x, a, byte);
}

bool regex_is_match(regexes *x, rx a, str text) {
    for (size_t i = 0; i < text.len && a > RX_NONE; i++)
        a = regex_derive(x, a, (uint8_t)text.ptr[i]);
    return a > RX_NONE && x->nodes[a].nullable;
}

enum { EMPTY_STATES = 400 };

bool regex_is_empty(regexes *x, rx a) {
    if (a == RX_NONE) return true;
    rx seen[EMPTY_STATES];
    size_t n = 0;
    if (a < 0) return false;
    seen[n++] = a;
    for (size_t i = 0; i < n; i++) {
        if (x->nodes[seen[i]].nullable) return false;
        rx last = -1;
        for (int c = 0; c < 256; c++) {
            rx d = regex_derive(x, seen[i], (uint8_t)c);
            if (d < 0) return false;
            if (d == RX_NONE || d == last) continue;
            last = d;
            size_t k = 0;
            while (k < n && seen[k] != d) k++;
            if (k < n) continue;
            if (n == EMPTY_STATES) return false;
            seen[n++] = d;
        }
    }
    return true;
}

/* ── Characters as bytes ── */

static rx same_length_range(regexes *x, const uint8_t *lo, const uint8_t *hi, int n) {
    if (n == 0) return RX_EPS;
    if (lo[0] == hi[0])
        return regex_cat(x, regex_byte_range(x, lo[0], lo[0]),
                         same_length_range(x, lo + 1, hi + 1, n - 1));
    static const uint8_t low[4] = {0x80, 0x80, 0x80, 0x80}, high[4] = {0xBF, 0xBF, 0xBF, 0xBF};
    rx parts[3];
    size_t k = 0;
    int from = lo[0], to = hi[0];
    if (memcmp(lo + 1, low, (size_t)n - 1) != 0) {
        parts[k++] = regex_cat(x, regex_byte_range(x, from, from),
                               same_length_range(x, lo + 1, high, n - 1));
        from++;
    }
    if (memcmp(hi + 1, high, (size_t)n - 1) != 0) {
        parts[k++] =
            regex_cat(x, regex_byte_range(x, to, to), same_length_range(x, low, hi + 1, n - 1));
        to--;
    }
    if (from <= to)
        parts[k++] =
            regex_cat(x, regex_byte_range(x, from, to), same_length_range(x, low, high, n - 1));
    return regex_alt(x, parts, k);
}

rx regex_char(regexes *x, uint32_t lo, uint32_t hi) {
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xD7FF, 0xDFFF, 0xFFFF, 0x10FFFF};
    rx parts[6];
    size_t k = 0;
    uint32_t begin = 0;
    for (int i = 0; i < 6; begin = ends[i++] + 1) {
        uint32_t a = lo > begin ? lo : begin, b = hi < ends[i] ? hi : ends[i];
        if (a > b || i == 3) continue; /* surrogates are no characters */
        char u[4], v[4];
        int n = utf8_encode(a, u);
        utf8_encode(b, v);
        parts[k++] = same_length_range(x, (uint8_t *)u, (uint8_t *)v, n);
    }
    return regex_alt(x, parts, k);
}

rx regex_any_char(regexes *x) {
    if (!x->any_char) x->any_char = regex_char(x, 0, 0x10FFFF);
    return x->any_char;
}
rx regex_any_text(regexes *x) {
    if (!x->any_text) x->any_text = regex_repeat(x, regex_any_char(x), 0, -1);
    return x->any_text;
}

/* ── Automata ── */

typedef struct name_node { /* of the trie of names: first child, next sibling */
    int32_t child, sibling, name;
    uint8_t byte;
} name_node;

typedef struct dfa_builder {
    regexes *x;
    name_node *trie;
    int32_t n_trie;
    size_t width;  /* of a state's key: trie place, then the expressions */
    int32_t *keys; /* [n_states][width] */
    uint32_t n_states, cap_states;
    uint32_t *table, n_table;
    uint32_t *next;
    int32_t *row_of; /* [n_row_of] of an expression: where its derivatives are kept, −1 = nowhere */
    int32_t n_row_of;
    rx *rows; /* [n_rows][n_classes]; −1 = not taken yet */
    size_t n_rows, cap_rows;
    uint32_t n_classes;
    uint8_t class_of[256], byte_of[256];
} dfa_builder;

static bool build_trie(dfa_builder *b, const str *names, size_t n) {
    size_t total = 1;
    for (size_t i = 0; i < n; i++) total += names[i].len;
    b->trie = malloc(total * sizeof *b->trie);
    if (!b->trie) return false;
    b->trie[0] = (name_node){-1, -1, -1, 0};
    b->n_trie = 1;
    for (size_t i = 0; i < n; i++) {
        int32_t at = 0;
        for (size_t k = 0; k < names[i].len; k++) {
            uint8_t c = (uint8_t)names[i].ptr[k];
            int32_t kid = b->trie[at].child;
            while (kid >= 0 && b->trie[kid].byte != c) kid = b->trie[kid].sibling;
            if (kid < 0) {
                kid = b->n_trie++;
                b->trie[kid] = (name_node){-1, b->trie[at].child, -1, c};
                b->trie[at].child = kid;
            }
            at = kid;
        }
        b->trie[at].name = (int32_t)i;
    }
    return true;
}

static void split_classes(uint8_t cls[256], uint32_t *n, const uint64_t set[4]) {
    int16_t inside[256], seen_outside[256];
    for (int i = 0; i < 256; i++) inside[i] = -1, seen_outside[i] = 0;
    for (int c = 0; c < 256; c++)
        if (!(set[c >> 6] >> (c & 63) & 1)) seen_outside[cls[c]] = 1;
    for (int c = 0; c < 256; c++) {
        if (!(set[c >> 6] >> (c & 63) & 1) || !seen_outside[cls[c]]) continue;
        int k = cls[c];
        if (inside[k] < 0) inside[k] = (int16_t)(*n)++;
        cls[c] = (uint8_t)inside[k];
    }
}

/* Bytes that no set of the expressions tells apart are one class. Quote, backslash and controls are
 * kept apart from the rest only where a set does. */
static bool find_classes(dfa_builder *b, const rx *roots, size_t n_roots) {
    regexes *x = b->x;
    memset(b->class_of, 0, sizeof b->class_of);
    b->n_classes = 1;
    for (int32_t i = 1; i < b->n_trie; i++) {
        uint64_t one[4] = {0};
        one[b->trie[i].byte >> 6] = 1ull << (b->trie[i].byte & 63);
        split_classes(b->class_of, &b->n_classes, one);
    }
    uint8_t *seen = calloc((size_t)x->n_nodes, 1);
    uint8_t *split = calloc((size_t)x->n_sets + 1, 1);
    int32_t *stack = malloc(((size_t)x->n_nodes + 1) * sizeof *stack);
    size_t n = 0;
    bool ok = seen && split && stack;
    if (ok)
        for (size_t i = 0; i < n_roots; i++)
            if (!seen[roots[i]]) seen[roots[i]] = 1, stack[n++] = roots[i];
    while (ok && n) {
        const rx_node *node = &x->nodes[stack[--n]];
        const int32_t *kids = &node->a;
        int32_t n_kids = 0;
        if (node->op == OP_SET && !split[node->a]) {
            split[node->a] = 1;
            split_classes(b->class_of, &b->n_classes, x->sets[node->a].w);
        }
        if (node->op == OP_CAT) n_kids = 2; /* a and b lie side by side */
        if (node->op == OP_NOT || node->op == OP_REP) n_kids = 1;
        if (node->op == OP_ALT || node->op == OP_AND) kids = x->kids + node->a, n_kids = node->b;
        for (int32_t k = 0; k < n_kids; k++)
            if (!seen[kids[k]]) seen[kids[k]] = 1, stack[n++] = kids[k];
    }
    free(seen);
    free(split);
    free(stack);
    for (int c = 255; c >= 0; c--) b->byte_of[b->class_of[c]] = (uint8_t)c;
    return ok;
}

static uint64_t key_hash(const int32_t *key, size_t width) {
    return hash_bytes(key, width * sizeof *key, 3);
}

/* The state of a key, made if it is new; UINT32_MAX when that is impossible. */
static uint32_t find_state(dfa_builder *b, const int32_t *key) {
    uint32_t at = (uint32_t)key_hash(key, b->width) & (b->n_table - 1);
    for (; b->table[at]; at = (at + 1) & (b->n_table - 1)) {
        uint32_t s = b->table[at] - 1;
        if (memcmp(b->keys + s * b->width, key, b->width * sizeof *key) == 0) return s;
    }
    if (b->n_states >= GRAMMAR_MAX_DFA_STATES) return UINT32_MAX;
    if (b->n_states == b->cap_states) {
        uint32_t cap = b->cap_states ? b->cap_states * 2 : 64;
        int32_t *keys = realloc(b->keys, cap * b->width * sizeof *keys);
        if (keys) b->keys = keys;
        uint32_t *next = keys ? realloc(b->next, (size_t)cap * b->n_classes * sizeof *next) : NULL;
        if (!next) return UINT32_MAX;
        b->next = next;
        b->cap_states = cap;
    }
    memcpy(b->keys + b->n_states * b->width, key, b->width * sizeof *key);
    b->table[at] = ++b->n_states;
    if (b->n_states * 2 > b->n_table) {
        uint32_t n = b->n_table * 2, *t = calloc(n, sizeof *t);
        if (!t) return UINT32_MAX;
        for (uint32_t s = 0; s < b->n_states; s++) {
            uint32_t k = (uint32_t)key_hash(b->keys + s * b->width, b->width) & (n - 1);
            while (t[k]) k = (k + 1) & (n - 1);
            t[k] = s + 1;
        }
        free(b->table);
        b->table = t;
        b->n_table = n;
    }
    return b->n_states - 1;
}

static bool is_hopeless(const int32_t *key, size_t width) {
    if (key[0] >= 0) return false;
    for (size_t i = 1; i < width; i++)
        if (key[i] != RX_NONE) return false;
    return true;
}

/* The derivative by a class, from the rows where it was taken before. */
static rx derive_class(dfa_builder *b, rx r, uint32_t c) {
    regexes *x = b->x;
    if (r == RX_NONE) return RX_NONE;
    if (r >= b->n_row_of) {
        int32_t n = r * 2 + 64, *p = realloc(b->row_of, (size_t)n * sizeof *p);
        if (!p) return -1;
        memset(p + b->n_row_of, 0xFF, (size_t)(n - b->n_row_of) * sizeof *p);
        b->row_of = p;
        b->n_row_of = n;
    }
    if (b->row_of[r] < 0) {
        if (b->n_rows == b->cap_rows) {
            size_t cap = b->cap_rows ? b->cap_rows * 2 : 64;
            rx *p = realloc(b->rows, cap * b->n_classes * sizeof *p);
            if (!p) return -1;
            b->rows = p;
            b->cap_rows = cap;
        }
        memset(b->rows + b->n_rows * b->n_classes, 0xFF, b->n_classes * sizeof *b->rows);
        b->row_of[r] = (int32_t)b->n_rows++;
    }
    size_t at = (size_t)b->row_of[r] * b->n_classes + c;
    if (b->rows[at] < 0) b->rows[at] = regex_derive(x, r, b->byte_of[c]);
    return b->rows[at];
}

static bool expand(dfa_builder *b, uint32_t s) {
    int32_t key[65];
    for (uint32_t c = 0; c < b->n_classes; c++) {
        const int32_t *from = b->keys + s * b->width;
        key[0] = -1;
        if (from[0] >= 0) {
            int32_t kid = b->trie[from[0]].child;
            while (kid >= 0 && b->trie[kid].byte != b->byte_of[c]) kid = b->trie[kid].sibling;
            key[0] = kid;
        }
        for (size_t i = 1; i < b->width; i++)
            if ((key[i] = derive_class(b, from[i], c)) < 0) return false;
        uint32_t to = DFA_DEAD;
        if (!is_hopeless(key, b->width) && (to = find_state(b, key)) == UINT32_MAX) return false;
        b->next[(size_t)s * b->n_classes + c] = to;
    }
    return true;
}

/* ── What is alive, how far the end is, how much is left, what is open ── */

enum { NO_WAY = UINT32_MAX };

/* d->n_ahead, NO_WAY for dead states: backwards from the ends, breadth first. */
static bool find_ahead(dfa *d) {
    /* Reversed transitions, kept as lists per target. */
    size_t n_edges = (size_t)d->n_states * d->n_classes;
    uint32_t *head = malloc((d->n_states + 1) * sizeof *head),
             *link = malloc((n_edges + 1) * sizeof *link),
             *queue = malloc((d->n_states + 1) * sizeof *queue);
    uint32_t n = 0;
    if (!d->n_ahead) d->n_ahead = malloc((d->n_states + 1) * sizeof *d->n_ahead);
    bool ok = head && link && queue && d->n_ahead;
    if (ok) {
        for (uint32_t s = 0; s < d->n_states; s++) {
            head[s] = UINT32_MAX;
            d->n_ahead[s] = d->label[s] >= 0 ? 0 : (uint32_t)NO_WAY;
            if (d->label[s] >= 0) queue[n++] = s;
        }
        for (size_t e = 0; e < n_edges; e++)
            if (d->next[e] != DFA_DEAD) {
                link[e] = head[d->next[e]];
                head[d->next[e]] = (uint32_t)e;
            }
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t e = head[queue[i]]; e != UINT32_MAX; e = link[e]) {
                uint32_t s = e / d->n_classes;
                if (d->n_ahead[s] != (uint32_t)NO_WAY) continue;
                d->n_ahead[s] = d->n_ahead[queue[i]] + 1;
                queue[n++] = s;
            }
    }
    free(head);
    free(link);
    free(queue);
    return ok;
}

static void remove_dead(dfa *d) {
    for (size_t e = 0; e < (size_t)d->n_states * d->n_classes; e++)
        if (d->next[e] != DFA_DEAD && d->n_ahead[d->next[e]] == (uint32_t)NO_WAY)
            d->next[e] = DFA_DEAD;
}

/* Texts left from each state, by depth-first sums; a state on a cycle has no end of them. */
static bool count_left(dfa *d) {
    uint32_t n_of_class[256] = {0};
    for (int c = 0; c < 256; c++) n_of_class[d->class_of[c]]++;
    uint8_t *color = calloc(d->n_states + 1, 1);
    struct {
        uint32_t s, c;
    } *stack = malloc((d->n_states + 1) * sizeof *stack);
    bool ok = color && stack;
    if (ok) {
        memset(d->n_left, 0, d->n_states * sizeof *d->n_left);
        for (uint32_t root = 0; root < d->n_states; root++) {
            if (color[root]) continue;
            size_t n = 0;
            stack[n].s = root, stack[n++].c = 0;
            color[root] = 1;
            uint64_t here;
            while (n) {
                uint32_t s = stack[n - 1].s, c = stack[n - 1].c;
                if (c == d->n_classes) {
                    here = d->n_left[s];
                    if (here < UINT32_MAX && d->label[s] >= 0) here++;
                    d->n_left[s] = (uint32_t)here;
                    color[s] = 2;
                    n--;
                    continue;
                }
                uint32_t t = d->next[(size_t)s * d->n_classes + c];
                if (t != DFA_DEAD && color[t] == 0) {
                    color[t] = 1;
                    stack[n].s = t, stack[n++].c = 0;
                    continue;
                }
                stack[n - 1].c++;
                if (t == DFA_DEAD) continue;
                here = color[t] == 1 ? UINT32_MAX
                                     : d->n_left[s] + (uint64_t)d->n_left[t] * n_of_class[c];
                d->n_left[s] = here > UINT32_MAX ? UINT32_MAX : (uint32_t)here;
                if (color[t] == 1 || d->n_left[t] == UINT32_MAX) d->n_left[s] = UINT32_MAX;
            }
        }
        /* A state met while on the stack may have been summed before its cycle was known. */
        for (bool changed = true; changed;) {
            changed = false;
            for (uint32_t s = d->n_states; s-- > 0;)
                for (uint32_t c = 0; c < d->n_classes && d->n_left[s] != UINT32_MAX; c++) {
                    uint32_t t = d->next[(size_t)s * d->n_classes + c];
                    if (t != DFA_DEAD && d->n_left[t] == UINT32_MAX)
                        d->n_left[s] = UINT32_MAX, changed = true;
                }
        }
    }
    free(color);
    free(stack);
    return ok;
}

/* What may follow a lead byte, as UTF-8 has it: the first range, then how many of 80…BF. */
static bool tail_is_open(const dfa *d, uint32_t q, int lo, int hi, int n_more) {
    if (q == DFA_DEAD) return false;
    uint32_t last = DFA_DEAD;
    for (int c = lo; c <= hi; c++) {
        uint32_t t = dfa_step(d, q, (uint8_t)c);
        if (t == DFA_DEAD) return false;
        if (t == last) continue;
        last = t;
        if (n_more ? !tail_is_open(d, t, 0x80, 0xBF, n_more - 1) : !d->is_open[t]) return false;
    }
    return true;
}

static bool stays_open(const dfa *d, uint32_t q) {
    for (int c = 0x20; c < 0x80; c++) {
        if (c == '"' || c == '\\') continue;
        uint32_t t = dfa_step(d, q, (uint8_t)c);
        if (t == DFA_DEAD || !d->is_open[t]) return false;
    }
    static const struct {
        uint8_t from, to, lo, hi, n_more;
    } LEADS[] = {{0xC2, 0xDF, 0x80, 0xBF, 0}, {0xE0, 0xE0, 0xA0, 0xBF, 1},
                 {0xE1, 0xEC, 0x80, 0xBF, 1}, {0xED, 0xED, 0x80, 0x9F, 1},
                 {0xEE, 0xEF, 0x80, 0xBF, 1}, {0xF0, 0xF0, 0x90, 0xBF, 2},
                 {0xF1, 0xF3, 0x80, 0xBF, 2}, {0xF4, 0xF4, 0x80, 0x8F, 2}};
    for (size_t i = 0; i < sizeof LEADS / sizeof *LEADS; i++) {
        uint32_t last = DFA_DEAD;
        for (int c = LEADS[i].from; c <= LEADS[i].to; c++) {
            uint32_t t = dfa_step(d, q, (uint8_t)c);
            if (t == last && t != DFA_DEAD) continue;
            last = t;
            if (!tail_is_open(d, t, LEADS[i].lo, LEADS[i].hi, LEADS[i].n_more)) return false;
        }
    }
    return true;
}

/* The largest set of states that plain text never leaves: begin with all, throw out whatever leads
 * out, until nothing changes. Successors mostly have higher numbers, hence downwards. */
static void find_open(dfa *d) {
    memset(d->is_open, 1, d->n_states);
    for (bool changed = true; changed;) {
        changed = false;
        for (uint32_t s = d->n_states; s-- > 0;)
            if (d->is_open[s] && !stays_open(d, s)) d->is_open[s] = 0, changed = true;
    }
    d->most_open_ahead = 0;
    for (uint32_t s = 0; s < d->n_states; s++)
        if (d->is_open[s] && d->n_ahead[s] > d->most_open_ahead) d->most_open_ahead = d->n_ahead[s];
}

bool dfa_trim(dfa *d) {
    if (!find_ahead(d)) return false;
    remove_dead(d);
    if (d->n_states && d->n_ahead[0] == (uint32_t)NO_WAY) d->n_states = 0;
    bool ok = count_left(d);
    find_open(d);
    return ok;
}

void dfa_free(dfa *d) {
    if (!d) return;
    free(d->next);
    free(d->label);
    free(d->n_left);
    free(d->n_ahead);
    free(d->is_open);
    free(d);
}

static bool refuse_dfa(const dfa_builder *b, error *err) {
    if (b->x->failure) return error_set(err, ERR_UNSUPPORTED_VALUE, NULL, "%s", b->x->failure);
    if (b->n_states >= GRAMMAR_MAX_DFA_STATES)
        return error_set(err, ERR_UNSUPPORTED_VALUE, NULL,
                         "A pattern needs an automaton of more than %d states "
                         "(GRAMMAR_MAX_DFA_STATES).",
                         GRAMMAR_MAX_DFA_STATES);
    return error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for a pattern.");
}

dfa *dfa_new(regexes *x, const str *names, size_t n_names, const rx *roots, size_t n_roots,
             dfa_label_fn *label, void *ctx, error *err) {
    dfa_builder b = {.x = x, .width = n_roots + 1, .n_table = 256};
    dfa *d = NULL;
    int32_t key[65];
    bool ok = n_roots <= 64 && !x->failure;
    for (size_t i = 0; i < n_roots && ok; i++) ok = roots[i] >= 0;
    ok = ok && build_trie(&b, names, n_names) && find_classes(&b, roots, n_roots) &&
         (b.table = calloc(b.n_table, sizeof *b.table));
    if (ok) {
        key[0] = n_names ? 0 : -1;
        for (size_t i = 0; i < n_roots; i++) key[i + 1] = roots[i];
        ok = find_state(&b, key) == 0;
        for (uint32_t s = 0; ok && s < b.n_states; s++) ok = expand(&b, s);
    }
    if (ok) ok = (d = calloc(1, sizeof *d)) != NULL;
    if (ok) {
        d->n_states = b.n_states;
        d->n_classes = b.n_classes;
        memcpy(d->class_of, b.class_of, sizeof d->class_of);
        d->next = realloc(b.next, (size_t)b.n_states * b.n_classes * sizeof *b.next);
        if (!d->next) d->next = b.next;
        b.next = NULL;
        d->label = malloc(b.n_states * sizeof *d->label);
        d->n_left = malloc(b.n_states * sizeof *d->n_left);
        d->is_open = malloc(b.n_states);
        ok = d->label && d->n_left && d->is_open;
        for (uint32_t s = 0; ok && s < b.n_states; s++) {
            const int32_t *k = b.keys + s * b.width;
            uint64_t matched = 0;
            for (size_t i = 1; i < b.width; i++)
                matched |= (uint64_t)x->nodes[k[i]].nullable << (i - 1);
            d->label[s] = label(ctx, k[0] >= 0 ? b.trie[k[0]].name : -1, matched);
        }
        ok = ok && dfa_trim(d);
    }
    if (!ok) {
        refuse_dfa(&b, err);
        dfa_free(d);
        d = NULL;
    }
    free(b.trie);
    free(b.keys);
    free(b.table);
    free(b.next);
    free(b.row_of);
    free(b.rows);
    return d;
}

static int32_t label_single(void *ctx, int32_t name, uint64_t matched) {
    (void)ctx, (void)name;
    return matched ? 0 : -1;
}

dfa *dfa_new_single(regexes *x, rx root, error *err) {
    return dfa_new(x, NULL, 0, &root, 1, label_single, NULL, err);
}
