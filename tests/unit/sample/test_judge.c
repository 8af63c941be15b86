/* The grammars' side of tests/e2e/test_random_forms.py: ORIEL_JUDGE names a file of lines
 *   {"schema": … or "regex" or "lark" or "gbnf": "…", "texts": […]}
 * and ORIEL_JUDGE_OUT gets for each {"error": "…"} or {"verdicts": [is texts[i] of it?], "made": [texts of
 * random walks through the masks]}. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/hash.h"
#include "sample/grammar.h"
#include "tiny_vocab.h"

enum { MAX_TOKENS = 400, MAX_FREE = 12, N_WALKS = 4 };

static grammar *compile(json_t *line, error *err) {
    json_t *schema = json_object_get(line, "schema");
    if (schema) return grammar_from_schema(schema, NULL, err);
    json_t *source = json_object_get(line, "regex");
    if (source) return grammar_from_regex(json_str(source), NULL, err);
    if ((source = json_object_get(line, "lark")))
        return grammar_from_lark(json_str(source), NULL, err);
    return grammar_from_gbnf(json_str(json_object_get(line, "gbnf")), NULL, err);
}

/* After a while closing characters are preferred, so that walks end. */
static int32_t choose(const uint64_t *mask, int32_t n, int step, uint64_t seed) {
    for (const char *c = "\"}]"; step > MAX_FREE && *c; c++)
        if (mask[*c >> 6] >> (*c & 63) & 1) return *c;
    uint64_t r = rng_at(seed, (uint64_t)step);
    if (r % 3) { /* printable rather than not: they lead further */
        for (int i = 0; i < 40; i++) {
            int c = 32 + (int)(rng_at(seed ^ 77, (uint64_t)(step * 64 + i)) % 95);
            if (mask[c >> 6] >> (c & 63) & 1) return c;
        }
    }
    int32_t at = (int32_t)(r / 3 % (uint64_t)n);
    for (int32_t i = 0; i < n; i++) {
        int32_t id = (at + i) % n;
        if (mask[id >> 6] >> (id & 63) & 1) return id;
    }
    return -1;
}

static void walk(const grammar *g, tok *t, const grammar_vocab *v, uint64_t seed, json_t *made) {
    error err = {0};
    matcher *m = matcher_new(g, v, (matcher_options){0}, &err);
    if (!m) return;
    buf text = {0};
    for (int i = 0; i < MAX_TOKENS && !matcher_is_done(m); i++) {
        if (matcher_can_end(m) && (i > MAX_FREE || rng_at(seed ^ 5, (uint64_t)i) % 4 == 0)) break;
        int32_t id = choose(matcher_mask(m), tok_n_vocab(t), i, seed);
        if (id < 0) {
            json_array_append_new(
                made, json_pack("{s:s%}", "dead_end", text.ptr ? text.ptr : "", text.len));
            break;
        }
        if (!matcher_accept(m, id)) {
            if (!matcher_failed(m)) fail_msg("%d was allowed", id);
            break; /* more readings than are followed */
        }
        if (tok_is_end(t, id)) break;
        buf_append_str(&text, tok_piece(t, id));
    }
    if (!matcher_failed(m) && (matcher_can_end(m) || matcher_is_done(m))) {
        if (!grammar_accepts(g, buf_str(&text))) fail_msg("not its own: %s", text.ptr);
        json_array_append_new(made, json_stringn(text.ptr ? text.ptr : "", text.len));
    }
    buf_deinit(&text);
    matcher_free(m);
}

static void judge(json_t *line, tok *t, const grammar_vocab *v, uint64_t seed, FILE *out) {
    error err = {0};
    grammar *g = compile(line, &err);
    json_t *said = json_object();
    if (!g) {
        json_object_set_new(said, "error", json_string(err.message));
        json_object_set_new(said, "code", json_integer(err.code));
    } else {
        json_t *texts = json_object_get(line, "texts"), *verdicts = json_array(),
               *made = json_array();
        for (size_t i = 0; i < json_array_size(texts); i++)
            json_array_append_new(
                verdicts, json_boolean(grammar_accepts(g, json_str(json_array_get(texts, i)))));
        for (uint64_t k = 0; k < N_WALKS; k++) walk(g, t, v, seed * N_WALKS + k, made);
        json_object_set_new(said, "verdicts", verdicts);
        json_object_set_new(said, "made", made);
    }
    json_dumpf(said, out, JSON_COMPACT);
    fputc('\n', out);
    json_decref(said);
    grammar_unref(g);
}

static void test_judge(void **state) {
    (void)state;
    const char *in = getenv("ORIEL_JUDGE"), *to = getenv("ORIEL_JUDGE_OUT");
    if (!in || !*in || !to || !*to) skip();
    FILE *f = fopen(in, "r"), *out = fopen(to, "w");
    assert_non_null(f);
    assert_non_null(out);
    tok *t = tiny_vocab_harmony();
    grammar_vocab *v = grammar_vocab_new(t, NULL);
    char *text = NULL;
    size_t cap = 0;
    ssize_t n;
    for (uint64_t i = 0; (n = getline(&text, &cap, f)) > 0; i++) {
        json_t *line = json_loadb(text, (size_t)n, JSON_ALLOW_NUL, NULL);
        assert_non_null(line);
        judge(line, t, v, i, out);
        json_decref(line);
    }
    free(text);
    fclose(f);
    assert_int_equal(fclose(out), 0);
    grammar_vocab_unref(v);
    tok_unref(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_judge)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
