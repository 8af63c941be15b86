#include "sample/grammar_step.h"

#include "base/hash.h"

enum { MAX_DEEP = 3000, MAX_WORK = 200000 };

/* phases */
enum { O_OPEN, O_KEY, O_WANT_KEY, O_COLON, O_NEXT };
enum { N_SIGN, N_INT, N_DOT, N_FRACTION, N_E, N_E_SIGN, N_EXPONENT };

void stepper_begin(stepper *s, region *mem, const frame **out, int cap_out) {
    s->mem = mem;
    s->out = out;
    s->n_out = 0;
    s->cap_out = cap_out;
    s->can_end = s->overflow = false;
    s->birth++;
    s->deep = s->work = 0;
}

/* ── Frames ── */

static frame *take(stepper *s, unsigned n_words) {
    size_t size = sizeof(frame) + n_words * sizeof(uint64_t);
    if (s->mem->cap - s->mem->used < size) {
        s->overflow = true;
        return NULL;
    }
    frame *f = (frame *)(s->mem->base + s->mem->used);
    s->mem->used += size;
    return f;
}

static frame *make(stepper *s, frame_kind kind, uint32_t node, const frame *parent) {
    frame *f = take(s, 0);
    if (f)
        *f = (frame){
            .kind = kind, .node = node, .parent = parent, .depth = parent ? parent->depth : 0};
    return f;
}

static frame *copy(stepper *s, const frame *from) {
    frame *f = take(s, from->n_words);
    if (f) {
        memcpy(f, from, frame_size(from));
        f->is_copied = 0;
    }
    return f;
}

static uint64_t mix(uint64_t h, uint64_t v) {
    h = (h ^ v) * 0x9E3779B97F4A7C15ull;
    return h ^ h >> 29;
}

/* A multiplication per word: frames are made by the million, and a set of threads mixes again. */
static void seal(frame *f) {
    uint64_t h = f->parent ? f->parent->hash : 1;
    h = mix(h, (uint64_t)f->kind << 56 | (uint64_t)f->phase << 48 | (uint64_t)f->ws << 40 |
                   (uint64_t)f->negative << 32 | f->node);
    h = mix(h, (uint64_t)f->q << 32 | f->n);
    h = mix(h, f->x + f->esc);
    if (f->y) h = mix(h, f->y);
    for (int i = 0; i < f->n_words; i++) h = mix(h, f->words[i]);
    if (f->seen) h = mix(h, f->seen->hash);
    f->hash = h;
}

/* A thread that waits for input. */
static void emit(stepper *s, frame *f) {
    if (!f || s->overflow) return;
    seal(f);
    for (int i = 0; i < s->n_out; i++)
        if (s->out[i]->hash == f->hash) {
            /* the last one taken: give its room back */
            if ((char *)f + frame_size(f) == s->mem->base + s->mem->used)
                s->mem->used -= frame_size(f);
            return;
        }
    if (s->n_out == s->cap_out) {
        s->overflow = true;
        return;
    }
    s->out[s->n_out++] = f;
}

static void emit_again(stepper *s, const frame *f) {
    for (int i = 0; i < s->n_out; i++)
        if (s->out[i]->hash == f->hash) return;
    if (s->n_out == s->cap_out)
        s->overflow = true;
    else
        s->out[s->n_out++] = f;
}

/* ── The program ── */

static void resume(stepper *s, const frame *f);

static void enter(stepper *s, int32_t n, const frame *parent) {
    const grammar *g = s->g;
    for (;;) {
        const gnode *node = &g->nodes[n];
        if (s->overflow || !node->productive) return;
        if (s->deep > MAX_DEEP || ++s->work > MAX_WORK) {
            s->overflow = true;
            return;
        }
        frame *f;
        switch (node->op) {
        case G_EPS: resume(s, parent); return;
        case G_LIT: emit(s, make(s, F_LIT, (uint32_t)n, parent)); return;
        case G_SET: emit(s, make(s, F_SET, (uint32_t)n, parent)); return;
        case G_TOKEN: emit(s, make(s, F_TOKEN, (uint32_t)n, parent)); return;
        case G_JSON: emit(s, make(s, F_VALUE, (uint32_t)node->a, parent)); return;
        case G_DFA: {
            const dfa *d = g->dfas[node->a];
            if (d->label[0] < 0 || d->n_left[0] > 1)
                emit(s, make(s, F_DFA, (uint32_t)node->a, parent));
            if (d->label[0] >= 0) resume(s, parent);
            return;
        }
        case G_CALL: n = node->a; continue;
        case G_SEQ:
            if (!(f = make(s, F_SEQ, (uint32_t)n, parent))) return;
            f->n = 1;
            seal(f);
            parent = f;
            n = g->kids[node->a];
            continue;
        case G_ALT:
            s->deep++;
            for (int32_t k = 0; k < node->b; k++) enter(s, g->kids[node->a + k], parent);
            s->deep--;
            return;
        case G_REP:
            s->deep++;
            if (node->min == 0) resume(s, parent);
            s->deep--;
            if (!g->nodes[node->a].productive) return;
            if (!(f = make(s, F_REP, (uint32_t)n, parent))) return;
            f->n = 1;
            f->birth = s->birth;
            seal(f);
            parent = f;
            n = node->a;
            continue;
        default: return;
        }
    }
}

/* What f was waiting for is over. */
static void resume(stepper *s, const frame *f) {
    if (!f) {
        s->can_end = true;
        if (s->exact && s->g->nodes[s->g->root].op == G_JSON) emit(s, make(s, F_TAIL, 0, NULL));
        return;
    }
    if (s->overflow) return;
    if (s->deep > MAX_DEEP || ++s->work > MAX_WORK) {
        s->overflow = true;
        return;
    }
    const gnode *node = &s->g->nodes[f->kind == F_SEQ || f->kind == F_REP ? f->node : 0];
    s->deep++;
    if (f->kind == F_SEQ) {
        int32_t next = s->g->kids[node->a + (int32_t)f->n];
        const frame *parent = f->parent;
        if ((int32_t)f->n + 1 < node->b) {
            frame *more = copy(s, f);
            if (more) {
                more->n++;
                seal(more);
            }
            parent = more;
        }
        if (!s->overflow) enter(s, next, parent);
    } else if (f->kind == F_REP) {
        /* A round that took nothing counts for all that are left. */
        bool took_nothing = f->birth == s->birth;
        if ((int32_t)f->n >= node->min || took_nothing) resume(s, f->parent);
        if (!took_nothing && (node->max < 0 || (int32_t)f->n < node->max)) {
            frame *more = copy(s, f);
            if (more) {
                if (node->max >= 0 || (int32_t)f->n < node->min) more->n++;
                more->birth = s->birth;
                seal(more);
                enter(s, node->a, more);
            }
        }
    } else
        emit_again(s, f); /* an object or array, which waits for what follows its value */
    s->deep--;
}

void stepper_start(stepper *s) {
    enter(s, s->g->root, NULL);
}

void stepper_token(stepper *s, const frame *f, int32_t id) {
    if (f->kind == F_TOKEN && s->g->nodes[f->node].a == id) resume(s, f->parent);
}

/* ── JSON: blanks ── */

enum { WS_ONE, WS_LINE };

/* Generating: one space, or (WS_LINE) a line end and up to 4 columns per level. `ws` is 0 at first. */
static bool blank(const stepper *s, int where, uint8_t *ws, uint16_t depth, uint8_t c) {
    if (s->exact) return c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (*ws == 0) {
        if (c == ' ') {
            *ws = 255;
            return true;
        }
        if (c == '\n' && where == WS_LINE) {
            *ws = 1;
            return true;
        }
        return false;
    }
    int most = depth < 16 ? depth * 4 : 64;
    if (*ws == 255 || (c != ' ' && c != '\t') || *ws > most) return false;
    ++*ws;
    return true;
}

/* ── What was seen: other keys, unique items ── */

static bool was_seen(const frame *seen, uint64_t x) {
    for (; seen; seen = seen->parent)
        if (seen->x == x) return true;
    return false;
}
static uint32_t count_seen(const frame *seen) {
    return seen ? seen->n : 0;
}
static const frame *add_seen(stepper *s, const frame *seen, uint64_t x) {
    frame *f = take(s, 0);
    if (!f) return NULL;
    *f = (frame){.kind = F_SEEN, .x = x, .parent = seen, .n = count_seen(seen) + 1};
    seal(f);
    return f;
}

/* Some text from state q on, whose hash so far is x, ends in a label ≥ least and was not seen. Called
 * only where such texts are not many more than what was seen. */
static bool find_unseen(const dfa *d, uint32_t q, uint64_t x, int32_t least, const frame *seen,
                        int deep) {
    if (deep > MAX_DEEP || (d->label[q] >= least && !was_seen(seen, x))) return true;
    for (int c = 0; c < 256; c++) {
        uint32_t t = dfa_step(d, q, (uint8_t)c);
        if (t != DFA_DEAD && find_unseen(d, t, hash_mix(x ^ (uint64_t)c), least, seen, deep + 1))
            return true;
    }
    return false;
}

static const uint64_t TEXT_SEED = 0x6B6579;

/* All, or only the required ones where there is room for no others. */
typedef struct obj_room obj_room;

static obj_room find_room(const stepper *s, const obj_shape *o, const frame *f) {
    uint32_t missing = 0;
    for (uint32_t w = 0; w < o->n_words; w++)
        missing += (uint32_t)__builtin_popcountll(o->required[w] & ~f->words[w]);
    /* One property may be several of those the object has to hold: only a generator is careful. */
    if (s->exact)
        for (uint32_t i = o->n_named; i < o->n_named + o->n_some && missing; i++)
            missing -= !(f->words[i >> 6] >> (i & 63) & 1);
    bool full = o->max != UINT32_MAX && f->n + missing >= o->max;
    /* At the bottom nothing that is not needed may be opened. */
    bool deep = f->depth + s->g->max_height > GRAMMAR_MAX_JSON_DEPTH && f->n + missing >= o->min;
    return (obj_room){.none = o->max != UINT32_MAX && f->n >= o->max,
                      .named_only_required = full || deep,
                      .others = !full && !deep && o->has_others};
}

/* Of a word: the bits that are no names. */
static uint64_t some_bits(const obj_shape *o, uint32_t w) {
    if ((w + 1) * 64 <= o->n_named) return 0;
    return w * 64 >= o->n_named ? UINT64_MAX : UINT64_MAX << (o->n_named & 63);
}

static uint64_t hit_bits(const obj_shape *o, uint32_t hits, uint32_t w) {
    uint64_t bits = 0;
    for (uint32_t i = 0; i < o->n_some; i++)
        if (hits >> i & 1 && (o->n_named + i) >> 6 == w) bits |= 1ull << ((o->n_named + i) & 63);
    return bits;
}

enum { COVER_WORDS = 4, COVER_WORK = 3000 };

/* Can `room` more properties be all that is still required? `from`: classes of others and (NULL: all)
 * named properties to begin with. By trying; what takes too long is taken to be possible. */
static bool can_cover(const obj_shape *o, const uint64_t *words, uint32_t room, uint64_t classes,
                      const uint64_t *names, bool first, int *work) {
    uint32_t missing = 0;
    for (uint32_t w = 0; w < o->n_words; w++)
        missing += (uint32_t)__builtin_popcountll(o->required[w] & ~words[w]);
    if (!missing && !first) return true;
    if (!room) return false;
    if (--*work < 0 || o->n_words > COVER_WORDS) return true;
    for (uint32_t label = 0; label < o->n_slots; label++) {
        bool named = label < o->n_named;
        if (named ? words[label >> 6] >> (label & 63) & 1 : !(classes >> (label - o->n_named) & 1))
            continue;
        if (named && names && !(names[label >> 6] >> (label & 63) & 1)) continue;
        for (uint32_t k = o->first[label]; k < o->first[label + 1]; k++) {
            uint64_t after[COVER_WORDS];
            bool progress = first;
            if (o->choices[k].hits == UINT32_MAX) continue;
            for (uint32_t w = 0; w < o->n_words; w++) {
                after[w] = words[w] | hit_bits(o, o->choices[k].hits, w);
                if (named && label >> 6 == w) after[w] |= 1ull << (label & 63);
                progress |= (o->required[w] & after[w] & ~words[w]) != 0;
            }
            if (progress && can_cover(o, after, room - 1, UINT64_MAX, NULL, false, work))
                return true;
        }
    }
    return false;
}

static bool key_is_possible(const obj_shape *o, const dfa *d, const frame *f, obj_room room,
                            uint32_t q, uint64_t x) {
    const uint64_t *reach = o->reach + (size_t)q * o->n_words;
    if (room.none) return false;
    if (o->classes) {
        int work = COVER_WORK;
        bool unseen = o->n_others[q] > count_seen(f->seen) ||
                      find_unseen(d, q, x, (int32_t)o->n_named, f->seen, 0);
        uint64_t classes = unseen ? o->classes[q] : 0;
        return can_cover(o, f->words, o->max - f->n, classes, reach, true, &work);
    }
    for (uint32_t w = 0; w < o->n_words; w++) {
        uint64_t free_names = reach[w] & ~f->words[w];
        if (room.named_only_required)
            free_names &= o->required[w];
        else if (o->n_some)
            free_names &= ~some_bits(o, w);
        if (free_names) return true;
    }
    if (!room.others || !o->n_others[q]) return false;
    return o->n_others[q] > count_seen(f->seen) ||
           find_unseen(d, q, x, (int32_t)o->n_named, f->seen, 0);
}

/* ── Strings ── */

typedef struct text_rule { /* what a string is read by */
    const dfa *d;
    bool counts, hashes;
    bool is_tight; /* only what must be escaped is: a name or a word of a list has one spelling */
    uint32_t min, max;
    const str_shape *shape; /* a value */
    const obj_shape *o;     /* a key: of this object … */
    const frame *object;    /* … as far as it is */
    obj_room room;
    const frame *seen; /* a unique item: those before */
    bool is_unique;
} text_rule;

/* Some number of characters from here is both what the automaton takes and what the limits allow. */
static bool length_is_possible(const str_shape *s, uint32_t q, uint32_t n) {
    const uint64_t *row = s->lengths + (size_t)q * s->n_length_words;
    uint32_t low = n < s->min ? s->min - n : 0;
    uint32_t high = (s->max == UINT32_MAX ? s->min : s->max) - (s->max == UINT32_MAX ? 0 : n);
    for (uint32_t w = low >> 6; w <= high >> 6; w++) {
        uint64_t bits = row[w];
        if (w == low >> 6) bits &= UINT64_MAX << (low & 63);
        if (w == high >> 6 && (high & 63) != 63) bits &= (1ull << ((high & 63) + 1)) - 1;
        if (bits) return true;
    }
    return false;
}

/* Can the text go on from here to an end that is allowed? */
static bool is_alive(const text_rule *r, uint32_t q, uint64_t x, uint32_t n) {
    if (r->shape && r->shape->lengths && !length_is_possible(r->shape, q, n)) return false;
    if (r->o) return key_is_possible(r->o, r->d, r->object, r->room, q, x);
    return !r->is_unique || r->d->n_left[q] > count_seen(r->seen) ||
           find_unseen(r->d, q, x, 0, r->seen, 0);
}

/* Whether a character of [lo, hi], as UTF-8, keeps the text alive. */
static bool range_alive(const text_rule *r, const frame *f, uint32_t q, uint64_t x,
                        const uint8_t *lo, const uint8_t *hi, int n) {
    if (n == 0) return is_alive(r, q, x, f->n);
    uint32_t last = DFA_DEAD;
    bool plain = !r->o && !r->is_unique;
    for (int c = lo[0]; c <= hi[0]; c++) {
        uint32_t t = dfa_step(r->d, q, (uint8_t)c);
        bool inner = plain && c > lo[0] && c < hi[0];
        if (t == DFA_DEAD || (inner && t == last)) continue;
        static const uint8_t low[3] = {0x80, 0x80, 0x80}, high[3] = {0xBF, 0xBF, 0xBF};
        if (range_alive(r, f, t, r->hashes ? hash_mix(x ^ (uint64_t)c) : 0,
                        c == lo[0] ? lo + 1 : low, c == hi[0] ? hi + 1 : high, n - 1))
            return true;
        if (inner) last = t;
    }
    return false;
}

static bool any_alive(const text_rule *r, const frame *f, uint32_t lo, uint32_t hi) {
    static const uint32_t ends[] = {0x7F, 0x7FF, 0xD7FF, 0xDFFF, 0xFFFF, 0x10FFFF};
    uint32_t begin = 0;
    for (int i = 0; i < 6; begin = ends[i++] + 1) {
        uint32_t a = lo > begin ? lo : begin, z = hi < ends[i] ? hi : ends[i];
        if (a > z || i == 3) continue;
        char u[4], v[4];
        int n = utf8_encode(a, u);
        utf8_encode(z, v);
        if (range_alive(r, f, f->q, f->x, (uint8_t *)u, (uint8_t *)v, n)) return true;
    }
    return false;
}

static bool feed(const text_rule *r, frame *f, const uint8_t *bytes, int n) {
    for (int i = 0; i < n; i++) {
        f->q = dfa_step(r->d, f->q, bytes[i]);
        if (f->q == DFA_DEAD) return false;
        if (r->hashes) f->x = hash_mix(f->x ^ bytes[i]);
    }
    return true;
}
static bool feed_char(const text_rule *r, frame *f, uint32_t cp) {
    char u[4];
    int n = utf8_encode(cp, u);
    return feed(r, f, (uint8_t *)u, n);
}

/* A character begins. Where nothing limits them above, counting ends at the minimum. */
static bool count_char(const text_rule *r, frame *f) {
    if (!r->counts) return true;
    if (f->n >= r->max) return false;
    if (r->max != UINT32_MAX || f->n < r->min) f->n++;
    return true;
}

static int hex_value(uint8_t c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* esc: 0 outside; 1 behind '\'; 2…5 at digit esc − 2 of \u; 6, 7: '\' and 'u' of the second half of a
 * pair must come; 8…11 its digits. y: the digits so far, the first half in bits 16 and up. */
static bool escape(const text_rule *r, frame *f, uint8_t c) {
    if (f->esc == 1) {
        static const char FROM[] = "\"\\/bfnrt", TO[] = "\"\\/\b\f\n\r\t";
        const char *at = c ? strchr(FROM, c) : NULL;
        f->esc = 0;
        if (at) return (!r->is_tight || c != '/') && feed_char(r, f, (uint8_t)TO[at - FROM]);
        f->esc = 2;
        f->y = 0;
        return c == 'u' && any_alive(r, f, 0, r->is_tight ? 0x1F : 0x10FFFF);
    }
    if (f->esc == 6 || f->esc == 7) return c == (f->esc++ == 6 ? '\\' : 'u');
    int v = hex_value(c);
    if (v < 0) return false;
    bool second = f->esc >= 8;
    uint32_t first = (uint32_t)(f->y >> 16), digits = (uint32_t)(f->y & 0xFFFF) << 4 | (uint32_t)v;
    uint32_t n = f->esc - (second ? 8 : 2) + 1; /* digits read */
    uint32_t lo = digits << (4 * (4 - n)), hi = lo | ((1u << (4 * (4 - n))) - 1);
    if (r->is_tight && hi > 0x1F) hi = 0x1F;
    if (lo > hi) return false;
    f->y = (uint64_t)first << 16 | digits;
    f->esc++;
    if (second) {
        if (lo < 0xDC00) lo = 0xDC00;
        if (hi > 0xDFFF) hi = 0xDFFF;
        if (lo > hi) return false;
        uint32_t base = 0x10000 + ((first - 0xD800) << 10);
        if (n < 4) return any_alive(r, f, base + lo - 0xDC00, base + hi - 0xDC00);
        f->esc = 0;
        f->y = 0;
        return feed_char(r, f, base + lo - 0xDC00);
    }
    if (n == 4 && (lo < 0xD800 || lo > 0xDFFF)) {
        f->esc = 0;
        f->y = 0;
        return feed_char(r, f, lo);
    }
    if (n == 4) { /* the first half of a pair; a lone second half is no character */
        if (lo >= 0xDC00) return false;
        f->esc = 6;
        f->y = (uint64_t)lo << 16;
    }
    if (any_alive(r, f, lo, hi)) return true;
    uint32_t a = lo > 0xD800 ? lo : 0xD800, z = hi < 0xDBFF ? hi : 0xDBFF;
    return a <= z &&
           any_alive(r, f, 0x10000 + ((a - 0xD800) << 10), 0x10000 + ((z - 0xD800) << 10) + 0x3FF);
}

typedef enum text_step { TEXT_DEAD, TEXT_ON, TEXT_CLOSED } text_step;

static text_step step_text(const text_rule *r, frame *f, uint8_t c) {
    if (f->esc) return escape(r, f, c) ? TEXT_ON : TEXT_DEAD;
    if (c == '"')
        return r->d->label[f->q] >= 0 && (!r->counts || f->n >= r->min) ? TEXT_CLOSED : TEXT_DEAD;
    if (c < 0x20) return TEXT_DEAD;
    if (c == '\\') {
        f->esc = 1;
        if (!count_char(r, f)) return TEXT_DEAD;
        if (r->is_tight)
            return any_alive(r, f, 0, 0x1F) || any_alive(r, f, '"', '"') ||
                           any_alive(r, f, '\\', '\\')
                       ? TEXT_ON
                       : TEXT_DEAD;
        return any_alive(r, f, 0, 0x10FFFF) ? TEXT_ON : TEXT_DEAD;
    }
    if ((c & 0xC0) != 0x80 && !count_char(r, f)) return TEXT_DEAD;
    return feed(r, f, &c, 1) ? TEXT_ON : TEXT_DEAD;
}

/* ── Objects ── */

static bool is_closable(const obj_shape *o, const frame *f) {
    if (f->n < o->min) return false;
    for (uint32_t w = 0; w < o->n_words; w++)
        if (o->required[w] & ~f->words[w]) return false;
    return true;
}

static void begin_key(stepper *s, const frame *f) {
    const obj_shape *o = &s->g->objs[f->node];
    const dfa *d = s->g->dfas[o->dfa];
    if (!d->n_states || !key_is_possible(o, d, f, find_room(s, o, f), 0, TEXT_SEED)) return;
    frame *object = copy(s, f);
    if (!object) return;
    object->phase = O_KEY;
    object->ws = 0;
    seal(object);
    frame *key = make(s, F_KEY, f->node, object);
    if (key && o->has_others) key->x = TEXT_SEED;
    emit(s, key);
}

static bool more_is_possible(const stepper *s, const frame *f) {
    const obj_shape *o = &s->g->objs[f->node];
    const dfa *d = s->g->dfas[o->dfa];
    return d->n_states && key_is_possible(o, d, f, find_room(s, o, f), 0, TEXT_SEED);
}

/* Something that is required came in. */
static bool is_progress(const obj_shape *o, const frame *before, const frame *after) {
    for (uint32_t w = 0; w < o->n_words; w++)
        if (o->required[w] & after->words[w] & ~before->words[w]) return true;
    return false;
}

/* Whatever the object still has to hold can still come. */
static bool somes_are_possible(const obj_shape *o, const frame *f) {
    for (uint32_t i = 0; i < o->n_some; i++) {
        uint32_t bit = o->n_named + i;
        if (f->words[bit >> 6] >> (bit & 63) & 1 || o->some[i].others) continue;
        bool any = false;
        for (uint32_t w = 0; w < o->n_words && !any; w++) any = o->some[i].names[w] & ~f->words[w];
        if (!any) return false;
    }
    return true;
}

static void step_key(stepper *s, const frame *f, uint8_t c) {
    const frame *object = f->parent;
    const obj_shape *o = &s->g->objs[f->node];
    const dfa *d = s->g->dfas[o->dfa];
    obj_room room = find_room(s, o, object);
    text_rule rule = {.d = d,
                      .hashes = o->has_others,
                      .is_tight = !s->exact,
                      .o = o,
                      .object = object,
                      .room = room};
    frame *key = copy(s, f);
    if (!key) return;
    text_step how = step_text(&rule, key, c);
    if (how == TEXT_DEAD) return;
    if (how == TEXT_ON) {
        if (key->esc || is_alive(&rule, key->q, key->x, key->n)) emit(s, key);
        return;
    }
    int32_t label = d->label[key->q];
    bool named = (uint32_t)label < o->n_named;
    uint64_t bit = 1ull << (label & 63);
    if (named ? (object->words[label >> 6] & bit) != 0 : was_seen(object->seen, key->x)) return;
    const frame *seen = named ? object->seen : NULL;
    for (uint32_t k = o->first[label]; k < o->first[label + 1] && !s->overflow; k++) {
        const obj_choice *choice = &o->choices[k];
        if (choice->hits == UINT32_MAX) continue;
        frame *next = copy(s, object);
        if (!next) return;
        if (named) next->words[label >> 6] |= bit;
        for (uint32_t i = 0; i < o->n_some; i++)
            if (choice->hits >> i & 1)
                next->words[(o->n_named + i) >> 6] |= 1ull << ((o->n_named + i) & 63);
        if (o->classes) {
            int work = COVER_WORK;
            if (!can_cover(o, next->words, o->max - next->n - 1, UINT64_MAX, NULL, false, &work))
                continue;
        } else if (room.named_only_required ? !is_progress(o, object, next)
                                            : !named && !room.others)
            continue;
        if (!named && !seen && !(seen = add_seen(s, object->seen, key->x))) return;
        next->seen = seen;
        if (o->max != UINT32_MAX || next->n < o->min || next->n == 0) next->n++;
        next->phase = O_COLON;
        next->q = choice->node;
        if (o->n_some == 0 || somes_are_possible(o, next)) emit(s, next);
    }
}

static void begin_value(stepper *s, uint32_t node, const frame *parent, uint8_t c);

static void step_object(stepper *s, const frame *f, uint8_t c) {
    const obj_shape *o = &s->g->objs[f->node];
    uint8_t ws = f->ws;
    frame *next;
    switch (f->phase) {
    case O_OPEN:
    case O_WANT_KEY:
        if (c == '"') {
            begin_key(s, f);
            return;
        }
        if (c == '}' && f->phase == O_OPEN) {
            if (is_closable(o, f)) resume(s, f->parent);
            return;
        }
        break;
    case O_COLON:
        if (c == ':') {
            if (!(next = copy(s, f))) return;
            next->phase = O_NEXT;
            next->ws = 0;
            next->q = 0;
            seal(next);
            emit(s, make(s, F_VALUE, f->q, next));
            return;
        }
        if (!s->exact) return;
        break;
    default:
        if (c == '}') {
            if (is_closable(o, f)) resume(s, f->parent);
            return;
        }
        if (c == ',') {
            if ((f->ws && !s->exact) || !more_is_possible(s, f) || !(next = copy(s, f))) return;
            next->phase = O_WANT_KEY;
            next->ws = 0;
            emit(s, next);
            return;
        }
        if (!s->exact && !is_closable(o, f)) return; /* blanks only before the end */
    }
    if (blank(s, WS_LINE, &ws, f->depth, c) && (next = copy(s, f))) {
        next->ws = ws;
        emit(s, next);
    }
}

/* ── Arrays ── */

static uint32_t position(const arr_shape *a, uint32_t n) {
    return n < a->n_prefix ? n : a->n_prefix;
}

/* Can an array with n items, of which `hits` count, still be completed? One `contains`. */
static bool can_finish_one(const arr_shape *a, uint32_t n, uint32_t hits) {
    uint32_t min_hits = a->min_hits[0], max_hits = a->max_hits[0];
    if (hits > max_hits || n > a->max) return false;
    uint32_t could = 0, must = 0; /* of the items from n on */
    for (uint32_t len = n;; len++) {
        if (hits + must > max_hits) return false;
        if (len >= a->min && hits + could >= min_hits) return true;
        if (len >= a->max) return false;
        uint32_t i = position(a, len);
        bool hit = false, miss = false;
        for (uint32_t k = a->first[i]; k < a->first[i + 1]; k++)
            if (a->choices[k].hits)
                hit = true;
            else
                miss = true;
        if (!hit && !miss) return false;
        could += hit;
        must += !miss;
        if (i == a->n_prefix) { /* from here on every item is alike: no need to count one by one */
            uint32_t more = len + 1 < a->min ? a->min - len - 1 : 0;
            if (!hit && hits + could < min_hits) return false;
            if (hit && hits + could < min_hits && min_hits - hits - could > more)
                more = min_hits - hits - could;
            uint64_t end = (uint64_t)len + 1 + more;
            if (end > a->max) return false;
            return (uint64_t)hits + must + (miss ? 0 : more) <= max_hits;
        }
    }
}

/* Hits of several are counted in a byte each; where there is no maximum, up to the minimum. */
static bool add_hits(const arr_shape *a, uint32_t *counts, uint8_t hits) {
    if (a->n_contains == 1) {
        if (hits && (a->max_hits[0] != UINT32_MAX || *counts < a->min_hits[0])) ++*counts;
        return *counts <= a->max_hits[0];
    }
    for (uint32_t w = 0; w < a->n_contains; w++) {
        uint32_t n = *counts >> (8 * w) & 0xFF;
        if (!(hits >> w & 1) || (a->max_hits[w] == UINT32_MAX && n >= a->min_hits[w])) continue;
        if (n + 1 > a->max_hits[w]) return false;
        *counts += 1u << (8 * w);
    }
    return true;
}

static bool has_hits(const arr_shape *a, uint32_t counts) {
    if (a->n_contains == 1) return counts >= a->min_hits[0];
    for (uint32_t w = 0; w < a->n_contains; w++)
        if ((counts >> (8 * w) & 0xFF) < a->min_hits[w]) return false;
    return true;
}

/* The same for several, by trying; what takes too long is taken to be possible. */
static bool can_finish_many(const arr_shape *a, uint32_t n, uint32_t counts, int *work) {
    bool enough = has_hits(a, counts);
    if ((enough && n >= a->min) || --*work < 0) return true;
    if (n >= a->max) return false;
    uint32_t i = position(a, n);
    for (uint32_t k = a->first[i]; k < a->first[i + 1]; k++) {
        uint32_t then = counts;
        if (!add_hits(a, &then, a->choices[k].hits)) continue;
        if (i == a->n_prefix && then == counts && !enough) continue; /* a filler brings nothing */
        if (i == a->n_prefix && then == counts) return a->min <= a->max;
        if (can_finish_many(a, n + 1, then, work)) return true;
    }
    return false;
}

static bool can_finish(const arr_shape *a, uint32_t n, uint32_t counts) {
    int work = 2000;
    return a->n_contains == 1 ? can_finish_one(a, n, counts)
                              : n <= a->max && can_finish_many(a, n, counts, &work);
}

static bool can_take(const arr_shape *a, const frame *f, const arr_choice *choice) {
    uint32_t counts = f->q;
    return add_hits(a, &counts, choice->hits) && can_finish(a, f->n + 1, counts);
}

static const dfa *unique_dfa(const stepper *s, const arr_shape *a) {
    return s->g->dfas[a->unique_dfa];
}

static bool item_is_possible(const stepper *s, const arr_shape *a, const frame *f) {
    if (f->n >= a->max) return false;
    if (f->n >= a->min && has_hits(a, f->q) && f->depth + s->g->max_height > GRAMMAR_MAX_JSON_DEPTH)
        return false;
    if (a->is_unique && unique_dfa(s, a)->n_left[0] <= count_seen(f->seen)) return false;
    uint32_t i = position(a, f->n);
    for (uint32_t k = a->first[i]; k < a->first[i + 1]; k++)
        if (!a->n_contains || can_take(a, f, &a->choices[k])) return true;
    return false;
}

static void begin_item(stepper *s, const frame *f, uint8_t c) {
    const arr_shape *a = &s->g->arrs[f->node];
    if (!item_is_possible(s, a, f)) return;
    uint32_t i = position(a, f->n);
    for (uint32_t k = a->first[i]; k < a->first[i + 1]; k++) {
        const arr_choice *choice = &a->choices[k];
        if (a->n_contains && !can_take(a, f, choice)) continue;
        frame *next = copy(s, f);
        if (!next) return;
        next->phase = O_NEXT;
        next->ws = 0;
        if (a->max != UINT32_MAX || next->n < a->min || next->n < a->n_prefix || next->n == 0)
            next->n++;
        add_hits(a, &next->q, choice->hits);
        seal(next);
        begin_value(s, choice->node, next, c);
    }
}

static bool array_is_closable(const arr_shape *a, const frame *f) {
    return f->n >= a->min && has_hits(a, f->q);
}

static void step_array(stepper *s, const frame *f, uint8_t c) {
    const arr_shape *a = &s->g->arrs[f->node];
    uint8_t ws = f->ws;
    frame *next;
    if (c == ']' && f->phase != O_WANT_KEY) {
        if (array_is_closable(a, f)) resume(s, f->parent);
        return;
    }
    if (f->phase == O_NEXT) {
        if (c == ',') {
            if ((f->ws && !s->exact) || !item_is_possible(s, a, f) || !(next = copy(s, f))) return;
            next->phase = O_WANT_KEY;
            next->ws = 0;
            emit(s, next);
            return;
        }
        if (!s->exact && !array_is_closable(a, f)) return;
    }
    if (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
        /* Blanks behind '[' that nothing but an item could follow are fine: one is possible. */
        if (blank(s, WS_LINE, &ws, f->depth, c) && (next = copy(s, f))) {
            next->ws = ws;
            emit(s, next);
        }
        return;
    }
    if (f->phase != O_NEXT) begin_item(s, f, c);
}

/* ── Numbers ── */

static uwide get_digits(const frame *f) {
    return (uwide)f->y << 64 | f->x;
}
static void set_digits(frame *f, uwide v) {
    f->x = (uint64_t)v;
    f->y = (uint64_t)(v >> 64);
}

static bool exact_holds(const num_shape *shape, const frame *f) {
    if (f->phase != N_INT && f->phase != N_FRACTION && f->phase != N_EXPONENT) return false;
    int32_t e = (int32_t)f->esc;
    dec v = dec_make(f->negative & 1, get_digits(f),
                     (f->negative & 4 ? -e : e) + (int32_t)f->q - (int32_t)f->n);
    v.inexact = f->negative & 8;
    return num_holds(shape, &v);
}

/* JSON's whole notation. negative: bit 0 the sign, 1 began with 0, 2 the exponent's sign, 3 digits were
 * dropped. q: digits dropped before the dot. */
static bool step_exact_number(frame *f, uint8_t c) {
    bool digit = c >= '0' && c <= '9';
    uwide v = get_digits(f);
    switch (f->phase) {
    case N_SIGN:
        f->phase = N_INT;
        f->negative |= c == '0' ? 2 : 0;
        if (!digit) return false;
        set_digits(f, (uwide)(c - '0'));
        return true;
    case N_INT:
    case N_DOT:
    case N_FRACTION:
        if (digit) {
            if (f->phase == N_INT && f->negative & 2) return false;
            if (f->phase == N_DOT) f->phase = N_FRACTION;
            if (v < (uwide)1000000000000000000 * 100000000000000000) {
                set_digits(f, v * 10 + (uwide)(c - '0'));
                f->n += f->phase == N_FRACTION;
            } else {
                if (c != '0') f->negative |= 8;
                f->q += f->phase == N_INT;
            }
            return true;
        }
        if (c == '.' && f->phase == N_INT) {
            f->phase = N_DOT;
            return true;
        }
        if ((c | 32) != 'e' || f->phase == N_DOT) return false;
        f->phase = N_E;
        return true;
    case N_E:
        if (c == '+' || c == '-') {
            f->phase = N_E_SIGN;
            f->negative |= c == '-' ? 4 : 0;
            return true;
        } /* fall through */
    default:
        f->phase = N_EXPONENT;
        if (digit && f->esc < 100000000) f->esc = f->esc * 10 + (uint32_t)(c - '0');
        return digit;
    }
}

static bool step_plain_number(const num_shape *shape, frame *f, uint8_t c) {
    uwide v = get_digits(f);
    if (c == '.') {
        if (f->phase != N_INT) return false;
        f->phase = N_DOT;
    } else if (c < '0' || c > '9' || (f->phase == N_INT && f->q == 1 && v == 0)) {
        return false;
    } else if (f->phase == N_SIGN || f->phase == N_INT) {
        f->phase = N_INT;
        f->q++;
        set_digits(f, v * 10 + (uwide)(c - '0'));
    } else {
        f->phase = N_FRACTION;
        f->n++;
        if ((int32_t)f->n > shape->n_fraction) return false;
        set_digits(f, v * 10 + (uwide)(c - '0'));
    }
    if ((int32_t)f->q > shape->n_int) return false;
    return num_is_alive(shape, f->negative & 1, get_digits(f), (int32_t)f->q, f->phase >= N_DOT,
                        (int32_t)f->n);
}

static void step_number(stepper *s, const frame *from, uint8_t c) {
    const num_shape *shape = &s->g->nums[from->node];
    frame *f = copy(s, from);
    if (!f) return;
    const frame *parent = f->parent;
    bool whole;
    if (s->exact) {
        if (!step_exact_number(f, c)) return;
        if (shape->is_digits && f->phase != N_SIGN && f->phase != N_INT) return;
        whole = exact_holds(shape, f);
    } else {
        if (!step_plain_number(shape, f, c)) return;
        whole =
            f->phase != N_DOT && num_is_whole(shape, f->negative & 1, get_digits(f), (int32_t)f->n);
        /* Is there anything behind it? Another digit or the dot. */
        bool more = false;
        frame probe;
        for (uint8_t d = '.'; d <= '9' && !more; d++) {
            memcpy(&probe, f, sizeof probe);
            more = step_plain_number(shape, &probe, d);
        }
        if (!more) {
            if (whole) resume(s, parent);
            return;
        }
    }
    emit(s, f);
    if (whole) resume(s, parent);
}

static void begin_number(stepper *s, uint32_t shape, const frame *parent, uint8_t c) {
    frame start = {
        .kind = F_NUM, .node = shape, .parent = parent, .depth = parent ? parent->depth : 0};
    if (c == '-') {
        start.negative = 1;
        const num_shape *n = &s->g->nums[shape];
        if (!s->exact) {
            bool any = false;
            frame probe;
            for (uint8_t d = '0'; d <= '9' && !any; d++) {
                probe = start;
                any = step_plain_number(n, &probe, d);
            }
            if (!any) return;
        }
        emit(s, copy(s, &start));
        return;
    }
    step_number(s, &start, c);
}

/* ── Values ── */

static const char *const LITERALS[] = {"null", "true", "false"};

static void begin_value(stepper *s, uint32_t node, const frame *parent, uint8_t c) {
    const grammar *g = s->g;
    const jnode *v = &g->jnodes[node];
    frame *f;
    uint16_t depth = parent ? parent->depth : 0;
    switch (c) {
    case '"':
        for (uint32_t i = 0; i < v->n_str; i++)
            if ((f = make(s, F_STR, v->str + i, parent))) {
                if (parent && parent->kind == F_ARR && g->arrs[parent->node].is_unique)
                    f->x = TEXT_SEED;
                emit(s, f);
            }
        return;
    case '{':
        for (uint32_t i = 0; i < v->n_obj; i++) {
            const obj_shape *o = &g->objs[v->obj + i];
            if (depth + o->height > GRAMMAR_MAX_JSON_DEPTH) continue;
            if (!(f = take(s, o->n_words))) return;
            *f = (frame){.kind = F_OBJ,
                         .node = v->obj + i,
                         .parent = parent,
                         .depth = (uint16_t)(depth + 1),
                         .n_words = (uint8_t)o->n_words};
            memset(f->words, 0, o->n_words * sizeof f->words[0]);
            emit(s, f);
        }
        return;
    case '[':
        for (uint32_t i = 0; i < v->n_arr; i++) {
            if (depth + g->arrs[v->arr + i].height > GRAMMAR_MAX_JSON_DEPTH) continue;
            if (!(f = make(s, F_ARR, v->arr + i, parent))) return;
            f->depth++;
            emit(s, f);
        }
        return;
    case 'n':
    case 't':
    case 'f': {
        uint32_t which = c == 'n' ? 0 : c == 't' ? 1 : 2;
        if (!(v->lits >> which & 1) || !(f = make(s, F_JLIT, which, parent))) return;
        f->n = 1;
        emit(s, f);
        return;
    }
    default:
        if (c != '-' && (c < '0' || c > '9')) return;
        for (uint32_t i = 0; i < v->n_num; i++) begin_number(s, v->num + i, parent, c);
    }
}

static void step_string(stepper *s, const frame *from, uint8_t c) {
    const str_shape *shape = &s->g->strs[from->node];
    const frame *parent = from->parent;
    const arr_shape *a = parent && parent->kind == F_ARR ? &s->g->arrs[parent->node] : NULL;
    bool unique = a && a->is_unique;
    text_rule rule = {.d = s->g->dfas[shape->dfa],
                      .counts = shape->counts,
                      .hashes = unique,
                      .is_tight = !s->exact && shape->dfa != 0,
                      .min = shape->min,
                      .max = shape->max,
                      .shape = shape,
                      .is_unique = unique,
                      .seen = unique ? parent->seen : NULL};
    frame *f = copy(s, from);
    if (!f) return;
    text_step how = step_text(&rule, f, c);
    if (how == TEXT_DEAD) return;
    if (how == TEXT_ON) {
        if (f->esc || is_alive(&rule, f->q, f->x, f->n)) emit(s, f);
        return;
    }
    if (!unique) {
        resume(s, parent);
        return;
    }
    if (was_seen(parent->seen, f->x)) return;
    frame *next = copy(s, parent);
    if (!next) return;
    next->seen = add_seen(s, parent->seen, f->x);
    emit(s, next);
}

void stepper_byte(stepper *s, const frame *f, uint8_t c) {
    frame *next;
    switch (f->kind) {
    case F_LIT: {
        const gnode *n = &s->g->nodes[f->node];
        if ((uint8_t)s->g->text[n->a + (int32_t)f->n] != c) return;
        if ((int32_t)f->n + 1 == n->b)
            resume(s, f->parent);
        else if ((next = copy(s, f))) {
            next->n++;
            emit(s, next);
        }
        return;
    }
    case F_SET:
        if (s->g->sets[s->g->nodes[f->node].a][c >> 6] >> (c & 63) & 1) resume(s, f->parent);
        return;
    case F_DFA: {
        const dfa *d = s->g->dfas[f->node];
        uint32_t q = dfa_step(d, f->q, c);
        if (q == DFA_DEAD) return;
        if ((d->label[q] < 0 || d->n_left[q] > 1) && (next = copy(s, f))) {
            next->q = q;
            emit(s, next);
        }
        if (d->label[q] >= 0) resume(s, f->parent);
        return;
    }
    case F_VALUE: {
        uint8_t ws = f->ws;
        bool after_colon = f->parent && f->parent->kind == F_OBJ;
        if ((s->exact || after_colon) && blank(s, WS_ONE, &ws, f->depth, c)) {
            if ((next = copy(s, f))) {
                next->ws = ws;
                emit(s, next);
            }
        } else
            begin_value(s, f->node, f->parent, c);
        return;
    }
    case F_JLIT: {
        const char *text = LITERALS[f->node];
        if ((uint8_t)text[f->n] != c) return;
        if (!text[f->n + 1])
            resume(s, f->parent);
        else if ((next = copy(s, f))) {
            next->n++;
            emit(s, next);
        }
        return;
    }
    case F_TAIL:
        if (c == ' ' || c == '\n' || c == '\t' || c == '\r') resume(s, NULL);
        return;
    case F_STR: step_string(s, f, c); return;
    case F_KEY: step_key(s, f, c); return;
    case F_NUM: step_number(s, f, c); return;
    case F_OBJ: step_object(s, f, c); return;
    case F_ARR: step_array(s, f, c); return;
    default: return;
    }
}

void stepper_resume(stepper *s, const frame *f) {
    resume(s, f);
}

/* ── Gliding ── */

bool glide_begin(const stepper *s, const frame *f, glide *at) {
    const grammar *g = s->g;
    if (f->kind != F_DFA && f->kind != F_STR && f->kind != F_KEY) return false;
    if (f->kind != F_DFA && f->esc) return false;
    uint32_t d = f->kind == F_DFA   ? f->node
                 : f->kind == F_STR ? g->strs[f->node].dfa
                                    : g->objs[f->node].dfa;
    *at = (glide){.base = f, .d = g->dfas[d], .q = f->q, .n = f->n, .x = f->x};
    if (f->kind == F_KEY) at->room = find_room(s, &g->objs[f->node], f->parent);
    return true;
}

glide_step glide_byte(const stepper *s, glide *at, uint8_t c) {
    const frame *f = at->base;
    uint32_t q;
    if (f->kind == F_DFA) {
        q = dfa_step(at->d, at->q, c);
        if (q == DFA_DEAD) return GLIDE_DEAD;
        at->q = q;
        return GLIDE_ON;
    }
    if (c == '"' || c == '\\') return GLIDE_LEAVES;
    if (c < 0x20 || (q = dfa_step(at->d, at->q, c)) == DFA_DEAD) return GLIDE_DEAD;
    if (f->kind == F_STR) {
        const str_shape *shape = &s->g->strs[f->node];
        if (shape->counts && (c & 0xC0) != 0x80) {
            if (at->n >= shape->max) return GLIDE_DEAD;
            if (shape->max != UINT32_MAX || at->n < shape->min) at->n++;
        }
        if (shape->lengths && !length_is_possible(shape, q, at->n)) return GLIDE_DEAD;
        if (f->x) {
            if (at->d->n_left[q] != UINT32_MAX) return GLIDE_LEAVES;
            at->x = hash_mix(at->x ^ c);
        }
    } else {
        const obj_shape *o = &s->g->objs[f->node];
        uint64_t x = o->has_others ? hash_mix(at->x ^ c) : 0;
        if (!key_is_possible(o, at->d, f->parent, at->room, q, x)) return GLIDE_DEAD;
        at->x = x;
    }
    at->q = q;
    return GLIDE_ON;
}

const frame *glide_frame(stepper *s, const glide *at) {
    frame *f = copy(s, at->base);
    if (!f) return NULL;
    f->q = at->q;
    f->n = at->n;
    f->x = at->x;
    seal(f);
    return f;
}

bool glide_is_open(const stepper *s, const glide *at, uint32_t *room) {
    const frame *f = at->base;
    *room = UINT32_MAX;
    if (f->kind == F_DFA || !at->d->is_open[at->q]) return false;
    if (f->kind == F_STR) {
        const str_shape *shape = &s->g->strs[f->node];
        if (shape->counts && shape->max != UINT32_MAX) *room = shape->max - at->n;
        return !shape->lengths;
    }
    return at->room.others;
}
