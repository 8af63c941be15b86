/* Numbers as JSON Schema means them: decimals, exact. Two ways to write one:
 * "plain" (digits, a dot, digits), of which every prefix can be judged, so that
 * a generated number is never in a dead end; and JSON's whole notation, judged
 * where it ends.
 */
#ifndef SAMPLE_NUMBER_H
#define SAMPLE_NUMBER_H

#include "base/error.h"
#include "base/json.h"

typedef __int128 wide;
typedef unsigned __int128 uwide;

enum {
    DEC_DIGITS = 36,    /* of a mantissa */
    NUM_PLAIN_INT = 18, /* digits before the dot when generating, more where a bound needs them */
    NUM_PLAIN_FRACTION = 12, /* and behind it */
};

/* ± m · 10^e; m has no trailing zeros, zero is m = 0, e = 0, not negative. */
typedef struct dec {
    bool negative;
    bool inexact; /* digits beyond DEC_DIGITS were dropped */
    int32_t e;
    uwide m;
} dec;

dec dec_make(bool negative, uwide m, int32_t e);
/* A JSON number; exact for integers, the shortest decimal of a double otherwise. */
dec dec_from_json(const json_t *v);
int dec_compare(const dec *a, const dec *b);
bool dec_is_integer(const dec *a);
bool dec_is_multiple(const dec *a, const dec *of); /* of > 0 */

/* What a number has to be. */
typedef struct num_shape {
    bool is_integer, is_fraction; /* must (not) be an integer */
    bool is_digits;               /* integers are written without dot and exponent: draft 4 */
    bool has_min, has_max, open_min, open_max;
    dec min, max;
    dec *multiples;
    size_t n_multiples;
    dec *not_multiples; /* … and of none of these */
    size_t n_not_multiples;
    dec *banned;
    size_t n_banned;
    dec *values; /* has_values: one of these */
    size_t n_values;
    bool has_values;
    /* ── the plain form: everything times 10^n_fraction ── */
    int32_t n_int, n_fraction;
    wide low[2],
        high[2]; /* magnitudes of the positive and the negative numbers; low > high: none */
    wide step;   /* multiples of this */
    wide *banned_scaled, *values_scaled, *skips; /* skips: multiples of these are left out */
    size_t n_banned_scaled;
} num_shape;

/* A value of the whole notation. */
bool num_holds(const num_shape *s, const dec *v);
/* Computes the plain form. False: no plain number exists (then *unrepresentable says whether some
 * number does). */
bool num_prepare(num_shape *s, bool *unrepresentable);
void num_deinit(num_shape *s);
/* Some plain number with this sign has these digits and more: n_int digits before the dot; has_dot,
 * then n_fraction digits behind it. digits: all of them as one number. */
bool num_is_alive(const num_shape *s, bool negative, uwide digits, int32_t n_int, bool has_dot,
                  int32_t n_fraction);
bool num_is_whole(const num_shape *s, bool negative, uwide digits, int32_t n_fraction);

#endif
