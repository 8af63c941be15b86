/* Between quotes: strings and keys, their escapes, and whether what was said can still become one that
 * is allowed (lengths, unique items, properties that were seen).
 */
#include "sample/step_impl.h"

/* ── What was seen: other keys, unique items ── */

bool step_was_seen(const frame *seen, uint64_t x) {
    for (; seen; seen = seen->parent)
        if (seen->x == x) return true;
    return false;
}
const frame *step_add_seen(stepper *s, const frame *seen, uint64_t x) {
    frame *f = frame_take(s, 0);
    if (!f) return NULL;
    *f = (frame){.kind = F_SEEN, .x = x, .parent = seen, .n = step_count_seen(seen) + 1};
    frame_seal(f);
    return f;
}

/* Some text from state q on, whose hash so far is x, ends in a label ≥ least and was not seen. Called
 * only where such texts are not many more than what was seen. */
static bool step_find_unseen(const dfa *d, uint32_t q, uint64_t x, int32_t least, const frame *seen,
                             int deep) {
    if (deep > MAX_DEEP || (d->label[q] >= least && !step_was_seen(seen, x))) return true;
    for (int c = 0; c < 256; c++) {
        uint32_t t = dfa_step(d, q, (uint8_t)c);
        if (t != DFA_DEAD &&
            step_find_unseen(d, t, hash_mix(x ^ (uint64_t)c), least, seen, deep + 1))
            return true;
    }
    return false;
}

/* Behind the last name that has come, up to the first that has to. */
static void find_places(const obj_shape *o, const frame *f, uint32_t *from, uint32_t *to) {
    for (uint32_t w = o->n_words; w-- > 0;)
        if (f->words[w]) {
            *from = w * 64 + 64 - (uint32_t)__builtin_clzll(f->words[w]);
            break;
        }
    for (uint32_t w = 0; w < o->n_words; w++)
        if (o->required[w] & ~f->words[w]) {
            *to = w * 64 + 1 + (uint32_t)__builtin_ctzll(o->required[w] & ~f->words[w]);
            break;
        }
}

obj_room step_find_room(const stepper *s, const obj_shape *o, const frame *f) {
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
    obj_room room = {.none = o->max != UINT32_MAX && f->n >= o->max,
                     .named_only_required = full || deep,
                     .others = !full && !deep && o->has_others,
                     .to = UINT32_MAX};
    if (o->is_ordered && !s->exact) find_places(o, f, &room.from, &room.to);
    return room;
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

/* Can `room` more properties be all that is still required? `from`: classes of others and (NULL: all)
 * named properties to begin with. By trying; what takes too long is taken to be possible. */
bool step_can_cover(const obj_shape *o, const uint64_t *words, uint32_t room, uint64_t classes,
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
            if (progress && step_can_cover(o, after, room - 1, UINT64_MAX, NULL, false, work))
                return true;
        }
    }
    return false;
}

bool step_key_is_possible(const obj_shape *o, const dfa *d, const frame *f, obj_room room,
                          uint32_t q, uint64_t x) {
    const uint64_t *reach = o->reach + (size_t)q * o->n_words;
    if (room.none) return false;
    if (o->classes) {
        int work = COVER_WORK;
        bool unseen = o->n_others[q] > step_count_seen(f->seen) ||
                      step_find_unseen(d, q, x, (int32_t)o->n_named, f->seen, 0);
        uint64_t classes = unseen ? o->classes[q] : 0;
        return step_can_cover(o, f->words, o->max - f->n, classes, reach, true, &work);
    }
    for (uint32_t w = 0; w < o->n_words; w++) {
        uint64_t free_names = reach[w] & ~f->words[w] & step_room_names(room, w);
        if (room.named_only_required)
            free_names &= o->required[w];
        else if (o->n_some)
            free_names &= ~some_bits(o, w);
        if (free_names) return true;
    }
    if (!room.others || !o->n_others[q]) return false;
    return o->n_others[q] > step_count_seen(f->seen) ||
           step_find_unseen(d, q, x, (int32_t)o->n_named, f->seen, 0);
}

/* ── Strings ── */

/* Some number of characters from here is both what the automaton takes and what the limits allow. */
bool step_length_is_possible(const str_shape *s, uint32_t q, uint32_t n) {
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
bool text_is_alive(const text_rule *r, uint32_t q, uint64_t x, uint32_t n) {
    if (r->shape && r->shape->lengths && !step_length_is_possible(r->shape, q, n)) return false;
    if (r->o) return step_key_is_possible(r->o, r->d, r->object, r->room, q, x);
    return !r->is_unique || r->d->n_left[q] > step_count_seen(r->seen) ||
           step_find_unseen(r->d, q, x, 0, r->seen, 0);
}

/* Whether a character of [lo, hi], as UTF-8, keeps the text alive. */
static bool range_alive(const text_rule *r, const frame *f, uint32_t q, uint64_t x,
                        const uint8_t *lo, const uint8_t *hi, int n) {
    if (n == 0) return text_is_alive(r, q, x, f->n);
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

text_step text_step_byte(const text_rule *r, frame *f, uint8_t c) {
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

void step_string(stepper *s, const frame *from, uint8_t c) {
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
    frame *f = frame_copy(s, from);
    if (!f) return;
    text_step how = text_step_byte(&rule, f, c);
    if (how == TEXT_DEAD) return;
    if (how == TEXT_ON) {
        if (f->esc || text_is_alive(&rule, f->q, f->x, f->n)) step_emit(s, f);
        return;
    }
    if (!unique) {
        stepper_resume(s, parent);
        return;
    }
    if (step_was_seen(parent->seen, f->x)) return;
    frame *next = frame_copy(s, parent);
    if (!next) return;
    next->seen = step_add_seen(s, parent->seen, f->x);
    step_emit(s, next);
}
