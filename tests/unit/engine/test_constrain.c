/* Answers under a grammar, by a model that says anything at all. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "engine/engine.h"
#include "tiny_vocab.h"

static engine *open_random(uint64_t seed) {
    model_fake_config f = {
        .n_vocab = TINY_N_HARMONY, .n_layers = 2, .width = 64, .end_id = -1, .seed = seed};
    engine_config c = engine_defaults();
    c.n_threads = 1;
    c.n_parallel = 2;
    c.max_context_tokens = c.max_kv_size = 2048;
    error err = {0};
    engine *e = engine_open_model(model_new_fake(&f, &err), tiny_vocab_harmony(), &c, &err);
    if (!e) fail_msg("%s", err.message);
    return e;
}

typedef struct answer {
    buf text;
    int32_t last;
    int64_t n, n_steps;
    engine_finish finish;
} answer;

/* wrap_up_after 0: the answer may be cut. */
static answer ask_in_room(engine *e, const grammar *g, uint64_t seed, int64_t max_tokens,
                          int32_t n_top, int64_t wrap_up_after) {
    static const int32_t PROMPT[] = {'a', 'b', 'c'};
    engine_request r = {.prompt = PROMPT,
                        .n_prompt = 3,
                        .sampling = sample_defaults(),
                        .max_tokens = max_tokens,
                        .wrap_up_after = wrap_up_after,
                        .wrap_up_id = TINY_END,
                        .score_prompt = -1};
    r.sampling.seed = seed;
    r.sampling.grammar = g;
    r.sampling.n_top = n_top;
    error err = {0};
    answer a = {.last = -1};
    uint64_t before = engine_get_stats(e).n_steps;
    engine_job *j = engine_submit(e, &r, &err);
    if (!j) fail_msg("%s", err.message);
    engine_event ev;
    while (engine_wait(j, &ev, -1)) {
        if (ev.kind == ENGINE_TOKEN) {
            assert_int_equal(ev.index, a.n);
            a.n++;
            a.last = ev.token.id;
            buf_append_str(&a.text, tok_piece(engine_get_tok(e), ev.token.id));
        }
        if (ev.kind == ENGINE_END) a.finish = ev.finish;
    }
    engine_job_free(j);
    a.n_steps = (int64_t)(engine_get_stats(e).n_steps - before);
    return a;
}

static answer ask(engine *e, const grammar *g, uint64_t seed, int64_t max_tokens, int32_t n_top) {
    return ask_in_room(e, g, seed, max_tokens, n_top, 0);
}

static const char SCHEMA[] =
    "{\"type\":\"object\",\"properties\":{\"colour\":{\"enum\":[\"red\",\"blue\"]},"
    "\"sizes\":{\"type\":\"array\",\"items\":{\"type\":\"integer\",\"minimum\":3,\"maximum\":44},"
    "\"maxItems\":3}},\"required\":[\"colour\",\"sizes\"],\"additionalProperties\":false}";

static void put_sample(FILE *out, const buf *text) {
    buf line = {0};
    json_out j = json_begin(&line);
    json_obj(&j);
    json_kv_cstr(&j, "name", "sample");
    json_key(&j, "schema");
    json_put_raw(&j, str_from(SCHEMA));
    json_kv_str(&j, "text", buf_str(text));
    json_end_obj(&j);
    fprintf(out, "%s\n", line.ptr);
    buf_deinit(&line);
}

static void test_valid(void **state) {
    (void)state;
    engine *e = open_random(5);
    json_t *s = json_loads(SCHEMA, 0, NULL);
    grammar *g = grammar_from_schema(s, NULL, NULL);
    assert_non_null(g);
    int64_t n = 0, n_steps = 0;
    /* How many, and a file for a validator that is not ours (tests/e2e/test_structured.py). */
    const char *count = getenv("ORIEL_SAMPLES"), *path = getenv("ORIEL_SAMPLE_OUT");
    uint64_t wanted = count && *count ? strtoull(count, NULL, 10) : 100;
    FILE *out = path && *path ? fopen(path, "w") : NULL;
    for (uint64_t seed = 0; seed < wanted; seed++) {
        answer a = ask(e, g, seed, 200, -1);
        assert_int_equal(a.finish, ENGINE_STOP);
        if (!grammar_accepts(g, buf_str(&a.text))) fail_msg("%s", a.text.ptr);
        json_t *v = json_loadb(a.text.ptr, a.text.len, 0, NULL);
        assert_non_null(v);
        json_decref(v);
        if (out) put_sample(out, &a.text);
        n += a.n;
        n_steps += a.n_steps;
        buf_deinit(&a.text);
    }
    if (out) fclose(out);
    /* The names' letters are forced: most tokens need no forward pass of their own. */
    assert_true(n_steps < n * 2 / 3);
    assert_int_equal(engine_get_stats(e).n_generated_tokens, n);
    grammar_unref(g);
    json_decref(s);
    engine_close(e);
}

static void test_cut_and_logprobs(void **state) {
    (void)state;
    engine *e = open_random(6);
    grammar *g = grammar_from_regex(STR("a long constant text( and more)*"), NULL, NULL);
    answer a = ask(e, g, 1, 5, -1);
    assert_int_equal(a.finish, ENGINE_LENGTH);
    assert_int_equal(a.n, 5);
    assert_memory_equal(a.text.ptr, "a long constant text", a.text.len);
    buf_deinit(&a.text);
    a = ask(e, g, 1, 300, 2); /* with log-probabilities nothing is forced */
    assert_int_equal(a.n_steps, a.n);
    assert_int_equal(a.finish, a.n == 300 ? ENGINE_LENGTH : ENGINE_STOP);
    buf_deinit(&a.text);
    grammar_unref(g);
    engine_close(e);
}

/* A whole harmony answer: reasoning, then a final message of a schema, then the end. */
static void test_markers(void **state) {
    (void)state;
    engine *e = open_random(7);
    grammar_builder *b = grammar_builder_new();
    grammar_node item[] = {
        grammar_token(b, TINY_CHANNEL),
        grammar_bytes(b, STR("analysis")),
        grammar_token(b, TINY_MESSAGE),
        grammar_regex(b, STR("[a-z ]{0,20}"), NULL),
        grammar_token(b, TINY_END),
        grammar_token(b, TINY_START),
        grammar_bytes(b, STR("assistant")),
        grammar_token(b, TINY_CHANNEL),
        grammar_bytes(b, STR("final")),
        grammar_token(b, TINY_MESSAGE),
        grammar_regex(b, STR("yes|no"), NULL),
        grammar_token(b, TINY_RETURN),
    };
    grammar *g = grammar_build(b, grammar_seq(b, item, sizeof item / sizeof *item), NULL);
    grammar_builder_free(b);
    assert_non_null(g);
    for (uint64_t seed = 0; seed < 20; seed++) {
        answer a = ask(e, g, seed, 200, -1);
        assert_int_equal(a.finish, ENGINE_STOP);
        assert_int_equal(a.last, TINY_RETURN);
        str text = buf_str(&a.text);
        assert_true(str_ends(text, STR("yes<|return|>")) || str_ends(text, STR("no<|return|>")));
        assert_true(str_starts(text, STR("<|channel|>analysis<|message|>")));
        buf_deinit(&a.text);
    }
    grammar_unref(g);
    engine_close(e);
}

/* An answer that has to come is whole when its tokens are used up, also where the text inside it could
 * go on for ever. */
static void test_room(void **state) {
    (void)state;
    engine *e = open_random(8);
    json_t *s = json_loads(
        "{\"type\":\"object\",\"properties\":{\"note\":{\"type\":\"string\"},\"list\":{\"type\":"
        "\"array\",\"items\":{\"type\":\"string\"},\"minItems\":1},\"more\":{\"type\":\"object\"}},"
        "\"required\":[\"note\",\"list\"],\"additionalProperties\":false}",
        0, NULL);
    grammar_builder *b = grammar_builder_new();
    grammar_node item[] = {grammar_token(b, TINY_CHANNEL), grammar_text(b, NULL, 0),
                           grammar_token(b, TINY_END), grammar_schema(b, s, NULL),
                           grammar_token(b, TINY_RETURN)};
    grammar *g = grammar_build(b, grammar_seq(b, item, 5), NULL),
            *json = grammar_from_schema(s, NULL, NULL);
    grammar_builder_free(b);
    assert_non_null(g);
    for (uint64_t seed = 0; seed < 60; seed++) {
        int64_t room = 45 + (int64_t)seed;
        answer a = ask_in_room(e, g, seed, room, -1, room / 2);
        assert_true(a.n <= room);
        if (a.finish != ENGINE_STOP)
            fail_msg("seed %d: cut: %.*s", (int)seed, STR_ARG(buf_str(&a.text)));
        assert_int_equal(a.last, TINY_RETURN);
        str text = buf_str(&a.text), end = STR("<|end|>");
        size_t from = 0;
        while (from < text.len && !str_starts(str_make(text.ptr + from, text.len - from), end))
            from++;
        str body =
            str_make(text.ptr + from + end.len, text.len - from - end.len - strlen("<|return|>"));
        if (!grammar_accepts(json, body)) fail_msg("%.*s", STR_ARG(text));
        buf_deinit(&a.text);
    }
    grammar_unref(g), grammar_unref(json);
    json_decref(s);
    engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_cut_and_logprobs),
        cmocka_unit_test(test_markers),
        cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
