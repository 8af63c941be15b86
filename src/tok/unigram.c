/* Unigram segmentation (Kudo 2018, "Subword Regularization", best path only)
 * and WordPiece (greedy longest match within a word), both by walking a list of
 * tokens sorted by bytes.
 */
#include "tok/tok_impl.h"

#include <math.h>
#include <stdlib.h>

typedef struct step {
    double score;  /* of the best way to get here, or the nearest float (see rounded) */
    uint32_t from; /* where its last token begins */
    int32_t id;    /* −1: a character that no token covers */
} step;

/* SentencePiece adds to a double and keeps a float, which decides between ways that are equally good but
 * for the order of their tokens; Hugging Face and GGUF's engines keep the double. */
static double rounded(const tok *t, double score) {
    return t->float_sums ? (double)(float)score : score;
}

/* A word the user defined wins, for it costs next to nothing: in SentencePiece itself a tenth, which only
 * decides how sums are rounded. */
static double score_of(const tok *t, int32_t id) {
    if (!(t->flags[id] & T_USER)) return (double)t->scores[id];
    return t->words_inside ? -0.1 : 0.0;
}

/* Viterbi over byte offsets of one piece; only character boundaries are reached. */
void unigram_encode(scratch *s, str piece) {
    const tok *t = s->t;
    if (!piece.len) return;
    step *best = scratch_reserve(s, &s->symbols, &s->cap_symbols, piece.len + 1, sizeof *best);
    if (!best) return;
    for (size_t i = 0; i <= piece.len; i++)
        best[i] = (step){.score = -INFINITY, .from = UINT32_MAX};
    best[0].score = 0;
    for (size_t at = 0; at < piece.len;) {
        uint32_t cp;
        int len = utf8_decode(piece, at, &cp);
        if (len == 0) len = 1;
        unsigned char first = (unsigned char)piece.ptr[at];
        uint32_t lo = t->sorted_first[first], hi = t->sorted_first[first + 1];
        bool single = false;
        for (size_t d = 1; lo < hi; d++) {
            int32_t id = t->sorted[lo];
            bool is_barred =
                s->bars_markup && t->flags[id] & T_USER && vocab_is_markup(piece_of(t, id));
            if (t->at[id + 1] - t->at[id] == d && !is_barred) {
                double score = best[at].score + score_of(t, id);
                step *to = &best[at + d];
                if (to->from == UINT32_MAX || score > to->score)
                    *to = (step){rounded(t, score), (uint32_t)at, id};
                if (d == (size_t)len) single = true;
            }
            if (at + d >= piece.len) break;
            vocab_narrow(t, t->sorted, &lo, &hi, d, (unsigned char)piece.ptr[at + d]);
        }
        if (!single) {
            double score = best[at].score + (double)t->unknown_score;
            step *to = &best[at + (size_t)len];
            if (to->from == UINT32_MAX || score > to->score)
                *to = (step){rounded(t, score), (uint32_t)at, -1};
        }
        at += (size_t)len; /* always reached: by a token or as an unknown character */
    }
    /* Turn the chain around in place: `from` of each step becomes where the next token ends. */
    size_t end = piece.len, next = piece.len;
    while (end > 0) {
        size_t from = best[end].from;
        best[end].from = (uint32_t)next;
        next = end;
        end = from;
    }
    for (size_t at = 0, to = next; at < piece.len;) {
        if (best[to].id >= 0)
            tok_ids_push(s->out, best[to].id);
        else
            push_unknown(s, str_make(piece.ptr + at, to - at));
        size_t after = best[to].from;
        at = to;
        to = after;
    }
}

enum { WORDPIECE_MAX_CHARS = 100 }; /* BERT gives up on longer words */

/* A word with its leading space, which the vocabulary writes at the start of a word's first token. */
void wordpiece_encode(scratch *s, str word) {
    const tok *t = s->t;
    size_t n_before = s->out->n;
    bool fits = utf8_count(word) <= WORDPIECE_MAX_CHARS + 1;
    for (size_t at = 0; fits && at < word.len;) {
        unsigned char first = (unsigned char)word.ptr[at];
        uint32_t lo = t->sorted_first[first], hi = t->sorted_first[first + 1];
        int32_t longest = -1;
        size_t len = 0;
        for (size_t d = 1; lo < hi; d++) {
            int32_t id = t->sorted[lo];
            if (t->at[id + 1] - t->at[id] == d) longest = id, len = d;
            if (at + d >= word.len) break;
            vocab_narrow(t, t->sorted, &lo, &hi, d, (unsigned char)word.ptr[at + d]);
        }
        if (longest < 0)
            fits = false;
        else
            tok_ids_push(s->out, longest);
        at += len;
    }
    if (fits) return;
    s->out->n = n_before;
    if (t->unknown >= 0) tok_ids_push(s->out, t->unknown);
}
