/* Numbers, digit by digit: plain ones while generating, JSON's whole notation while recognising. See
 * number.h.
 */
#include "sample/step_impl.h"

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

void step_number(stepper *s, const frame *from, uint8_t c) {
    const num_shape *shape = &s->g->nums[from->node];
    frame *f = frame_copy(s, from);
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
            if (whole) stepper_resume(s, parent);
            return;
        }
    }
    step_emit(s, f);
    if (whole) stepper_resume(s, parent);
}

void step_begin_number(stepper *s, uint32_t shape, const frame *parent, uint8_t c) {
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
        step_emit(s, frame_copy(s, &start));
        return;
    }
    step_number(s, &start, c);
}
