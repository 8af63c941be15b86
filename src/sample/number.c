#include "sample/number.h"

#include <stdio.h>
#include <stdlib.h>

static uwide power10(int n) {
    static const uint64_t P[] = {1,           10,           100,          1000,      10000,
                                 100000,      1000000,      10000000,     100000000, 1000000000,
                                 10000000000, 100000000000, 1000000000000};
    uwide p = 1;
    for (; n > 12; n -= 12) p *= P[12];
    return n > 0 ? p * P[n] : p;
}
static int count_digits(uwide m) {
    int n = 0;
    for (; m; m /= 10) n++;
    return n;
}

dec dec_make(bool negative, uwide m, int32_t e) {
    if (m == 0) return (dec){0};
    while (m % 10 == 0) m /= 10, e++;
    return (dec){.negative = negative, .m = m, .e = e};
}

dec dec_from_json(const json_t *v) {
    if (json_is_integer(v)) {
        json_int_t i = json_integer_value(v);
        return dec_make(i < 0, i < 0 ? (uwide)0 - (uwide)i : (uwide)i, 0);
    }
    double d = json_number_value(v), back = 0;
    char text[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*e", digits - 1, d);
        back = strtod(text, NULL);
        if (back == d) break;
    }
    bool negative = text[0] == '-';
    uwide m = 0;
    int32_t e = 0, behind = 0;
    bool dot = false;
    for (const char *p = text + negative; *p; p++) {
        if (*p == '.')
            dot = true;
        else if (*p == 'e') {
            e = (int32_t)strtol(p + 1, NULL, 10);
            break;
        } else {
            m = m * 10 + (uwide)(*p - '0');
            behind += dot;
        }
    }
    return dec_make(negative, m, e - behind);
}

static int compare_size(const dec *a, const dec *b) {
    if (a->m == 0 || b->m == 0) return (a->m != 0) - (b->m != 0);
    int na = count_digits(a->m), nb = count_digits(b->m);
    int64_t ta = (int64_t)na + a->e, tb = (int64_t)nb + b->e;
    if (ta != tb) return ta < tb ? -1 : 1;
    uwide ma = a->m * power10(DEC_DIGITS - na), mb = b->m * power10(DEC_DIGITS - nb);
    if (ma != mb) return ma < mb ? -1 : 1;
    return a->inexact - b->inexact;
}

int dec_compare(const dec *a, const dec *b) {
    if (a->negative != b->negative) return a->negative ? -1 : 1;
    int c = compare_size(a, b);
    return a->negative ? -c : c;
}

bool dec_is_integer(const dec *a) {
    return a->m == 0 || (a->e >= 0 && !a->inexact) || (a->inexact && a->e > 400);
}

bool dec_is_multiple(const dec *a, const dec *of) {
    if (a->m == 0) return true;
    if (a->inexact || of->m == 0) return false;
    /* a.m · 10^(a.e − of.e) must be a multiple of of.m. */
    int64_t shift = (int64_t)a->e - of->e;
    if (shift < 0) {
        /* of.m · 10^−shift divides a.m, which has no trailing zero: only by cancelling. */
        uwide m = of->m;
        for (; shift < 0; shift++) {
            if (m > a->m / 10) return false;
            m *= 10;
        }
        return a->m % m == 0;
    }
    uwide r = a->m % of->m;
    for (; shift > 0 && r; shift--) {
        /* r·10 mod of.m without overflow: of.m < 10^36, r·10 < 10^37 fits. */
        r = r * 10 % of->m;
        if (shift > 2000) shift = 2000; /* 10^k mod m has its factors of 2 and 5 by then */
    }
    return r == 0;
}

bool num_holds(const num_shape *s, const dec *v) {
    if (s->has_values) {
        for (size_t i = 0;; i++) {
            if (i == s->n_values) return false;
            if (dec_compare(v, &s->values[i]) == 0) break;
        }
    }
    if (s->is_integer && !dec_is_integer(v)) return false;
    if (s->is_fraction && dec_is_integer(v)) return false;
    if (s->has_min) {
        int c = dec_compare(v, &s->min);
        if (c < 0 || (c == 0 && s->open_min)) return false;
    }
    if (s->has_max) {
        int c = dec_compare(v, &s->max);
        if (c > 0 || (c == 0 && s->open_max)) return false;
    }
    for (size_t i = 0; i < s->n_multiples; i++)
        if (!dec_is_multiple(v, &s->multiples[i])) return false;
    for (size_t i = 0; i < s->n_not_multiples; i++)
        if (dec_is_multiple(v, &s->not_multiples[i])) return false;
    for (size_t i = 0; i < s->n_banned; i++)
        if (dec_compare(v, &s->banned[i]) == 0) return false;
    return true;
}

/* ── The plain form ── */

/* v · 10^scale as an integer, rounded down or up; false when it does not fit. */
static bool scale_dec(const dec *v, int32_t scale, bool up, wide *out, bool *exact) {
    int64_t e = (int64_t)v->e + scale;
    uwide m = v->m;
    *exact = true;
    for (; e < 0 && m; e++) {
        if (m % 10) *exact = false;
        m /= 10;
    }
    for (; e > 0 && m; e--) {
        if (m > power10(DEC_DIGITS) / 10) return false;
        m *= 10;
    }
    if (m > power10(DEC_DIGITS)) return false;
    *out = v->negative ? -(wide)m : (wide)m;
    if (!*exact && up && !v->negative) ++*out;
    if (!*exact && !up && v->negative) --*out;
    return true;
}

static int32_t fraction_digits(const dec *v) {
    return v->e < 0 ? -v->e : 0;
}
static int32_t int_digits(const dec *v) {
    int n = count_digits(v->m) + v->e;
    return n > 0 ? n : 0;
}

static uwide gcd(uwide a, uwide b) {
    while (b) {
        uwide t = a % b;
        a = b;
        b = t;
    }
    return a;
}

static void want(int32_t *n, int32_t k) {
    if (k > *n) *n = k;
}

/* The first admissible number in [low, high] (both of one sign's magnitudes), or −1. */
static wide first_in(const num_shape *s, bool negative, wide low, wide high) {
    if (low < s->low[negative]) low = s->low[negative];
    if (high > s->high[negative]) high = s->high[negative];
    if (low > high) return -1;
    if (s->has_values) {
        for (size_t i = 0; i < s->n_values; i++) {
            wide v = s->values_scaled[i];
            if ((v < 0) != negative) continue;
            if (v < 0) v = -v;
            if (v >= low && v <= high) return v;
        }
        return -1;
    }
    if (s->step == 1 && !s->n_banned_scaled && !s->is_fraction && !s->n_not_multiples) return low;
    wide unit = (wide)power10(s->n_fraction);
    wide v = (low + s->step - 1) / s->step * s->step;
    for (size_t tries = 0; v <= high; v += s->step, tries++) {
        bool is_banned = s->is_fraction && v % unit == 0;
        for (size_t i = 0; i < s->n_not_multiples && !is_banned; i++)
            is_banned = v % s->skips[i] == 0;
        for (size_t i = 0; i < s->n_banned_scaled && !is_banned; i++)
            is_banned = s->banned_scaled[i] == (negative ? -v : v);
        if (!is_banned) return v;
        if (tries > s->n_banned_scaled + 64) break;
    }
    return -1;
}

bool num_is_alive(const num_shape *s, bool negative, uwide digits, int32_t n_int, bool has_dot,
                  int32_t n_fraction) {
    if (has_dot || (n_int == 1 && digits == 0)) {
        if (n_fraction > s->n_fraction || (has_dot && s->n_fraction == 0)) return false;
        wide unit = (wide)power10(s->n_fraction - n_fraction);
        wide low = (wide)digits * unit;
        return first_in(s, negative, low, low + unit - 1) >= 0;
    }
    wide unit = (wide)power10(s->n_fraction);
    wide low = (wide)digits, width = 1;
    for (int32_t n = n_int; n <= s->n_int && low * unit <= s->high[negative];
         n++, low *= 10, width *= 10)
        if (first_in(s, negative, low * unit, (low + width) * unit - 1) >= 0) return true;
    return false;
}

bool num_is_whole(const num_shape *s, bool negative, uwide digits, int32_t n_fraction) {
    wide v = (wide)digits * (wide)power10(s->n_fraction - n_fraction);
    return first_in(s, negative, v, v) == v;
}

bool num_prepare(num_shape *s, bool *unrepresentable) {
    *unrepresentable = false;
    int32_t frac = 0, before = 0;
    if (s->has_min) want(&frac, fraction_digits(&s->min)), want(&before, int_digits(&s->min));
    if (s->has_max) want(&frac, fraction_digits(&s->max)), want(&before, int_digits(&s->max));
    for (size_t i = 0; i < s->n_multiples; i++) {
        want(&frac, fraction_digits(&s->multiples[i]));
        want(&before, int_digits(&s->multiples[i]));
    }
    for (size_t i = 0; i < s->n_not_multiples; i++)
        want(&frac, fraction_digits(&s->not_multiples[i]));
    for (size_t i = 0; i < s->n_values; i++) {
        want(&frac, fraction_digits(&s->values[i]));
        want(&before, int_digits(&s->values[i]));
    }
    if (s->is_integer)
        frac = 0;
    else if (!s->n_multiples && !s->has_values && frac < NUM_PLAIN_FRACTION)
        frac = NUM_PLAIN_FRACTION;
    /* A bound far out is met by the digits there are: an open range does not need all of it. */
    bool is_far = before > DEC_DIGITS - 1 || frac > DEC_DIGITS - 1;
    if (frac > 18) frac = 18;
    s->n_fraction = frac;
    s->n_int = before < NUM_PLAIN_INT ? NUM_PLAIN_INT : before + 1;
    if (s->n_int + frac > DEC_DIGITS) s->n_int = DEC_DIGITS - frac;
    wide end = (wide)power10(s->n_int + frac) - 1, low = -end, high = end, v;
    bool exact, fits = true;
    if (s->has_min) {
        if (scale_dec(&s->min, frac, true, &v, &exact)) {
            if (exact && s->open_min) v++;
            if (v > low) low = v;
        } else if (!s->min.negative)
            fits = false;
    }
    if (s->has_max) {
        if (scale_dec(&s->max, frac, false, &v, &exact)) {
            if (exact && s->open_max) v--;
            if (v < high) high = v;
        } else if (s->max.negative)
            fits = false;
    }
    s->low[0] = low > 0 ? low : 0;
    s->high[0] = fits ? high : -1;
    s->low[1] = high < 0 ? -high : 1; /* −0 is written 0 */
    s->high[1] = fits ? -low : -1;
    uwide step = s->is_integer ? power10(frac) : 1;
    for (size_t i = 0; i < s->n_multiples; i++) {
        if (!scale_dec(&s->multiples[i], frac, true, &v, &exact) || v <= 0) {
            fits = false;
            break;
        }
        if (!exact) { /* an integer's multipleOf 1.5: whole steps of it */
            dec m = s->multiples[i];
            uwide den = power10(fraction_digits(&m));
            v = (wide)(m.m / gcd(m.m, den)) * (wide)(power10(frac));
        }
        uwide g = gcd(step, (uwide)v), other = (uwide)v / g;
        if (step > power10(DEC_DIGITS) / other) {
            fits = false;
            break;
        }
        step *= other;
    }
    s->step = (wide)step;
    free(s->banned_scaled);
    free(s->values_scaled);
    free(s->skips);
    s->skips = calloc(s->n_not_multiples + 1, sizeof *s->skips);
    s->banned_scaled = calloc(s->n_banned + 1, sizeof *s->banned_scaled);
    s->values_scaled = calloc(s->n_values + 1, sizeof *s->values_scaled);
    s->n_banned_scaled = 0;
    if (!s->banned_scaled || !s->values_scaled || !s->skips) return false;
    for (size_t i = 0; i < s->n_not_multiples; i++)
        if (!scale_dec(&s->not_multiples[i], frac, true, &s->skips[i], &exact) || s->skips[i] <= 0)
            fits = false, s->skips[i] = 1;
        else if (!exact) { /* among integers: whole steps of it */
            uwide den = power10(fraction_digits(&s->not_multiples[i]));
            s->skips[i] = (wide)(s->not_multiples[i].m / gcd(s->not_multiples[i].m, den)) *
                          (wide)power10(frac);
        }
    for (size_t i = 0; i < s->n_banned; i++)
        if (scale_dec(&s->banned[i], frac, true, &v, &exact) && exact)
            s->banned_scaled[s->n_banned_scaled++] = v;
    size_t n = 0, n_held = 0;
    for (size_t i = 0; i < s->n_values; i++) {
        if (!num_holds(s, &s->values[i])) continue;
        n_held++;
        s->values[n] = s->values[i];
        if (scale_dec(&s->values[i], frac, true, &v, &exact) && exact && v <= end && v >= -end)
            s->values_scaled[n++] = v;
        else
            *unrepresentable = true;
    }
    if (s->has_values) s->n_values = n;
    bool any = fits && (first_in(s, false, 0, end) >= 0 || first_in(s, true, 0, end) >= 0);
    if (!any && (!fits || is_far)) *unrepresentable = true;
    return any && !*unrepresentable;
}

void num_deinit(num_shape *s) {
    free(s->multiples);
    free(s->banned);
    free(s->not_multiples);
    free(s->skips);
    free(s->values);
    free(s->banned_scaled);
    free(s->values_scaled);
    *s = (num_shape){0};
}
