/* Random walks through the masks, without a model: nothing is ever a dead end, and all that comes out is
 * of the grammar and JSON. ORIEL_WALKS says how many (2,000); ORIEL_WALK_OUT names a file that gets one
 * line {"schema":…, "text":…} for each, for a validator that is not ours (tests/e2e/test_structured.py). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <dirent.h>
#include <cmocka.h>

#include "base/hash.h"
#include "chat/close_schema.h"
#include "corpus.h"
#include "sample/grammar.h"
#include "tiny_vocab.h"

enum { MAX_TOKENS = 300, MAX_FREE = 20 };
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { WALKS = 50 };
#else
enum { WALKS = 2000 };
#endif

typedef struct walker {
    tok *t;
    const grammar_vocab *v;
    uint64_t draws;
    FILE *out;
    int n_finished, n_cut, n_in_room, n_late;
    int32_t closers[3]; /* the tokens '"', '}' and ']' */
} walker;

static void find_closers(walker *w) {
    static const char *const CLOSERS[] = {"\"", "}", "]"};
    for (int i = 0; i < 3; i++) {
        w->closers[i] = -1;
        for (int32_t id = 0; id < grammar_vocab_n(w->v) && w->closers[i] < 0; id++)
            if (str_is(tok_piece(w->t, id), CLOSERS[i])) w->closers[i] = id;
    }
}

static uint64_t draw(walker *w, uint64_t n) {
    return rng_at(17, w->draws++) % n;
}

/* The first set bit at or behind a place, around the end; −1: none. (Counting all bits to choose among
 * them evenly took as long as making the mask.) */
static int32_t pick(const uint64_t *mask, size_t words, uint64_t from) {
    size_t at = from / 64 % words;
    uint64_t bits = mask[at] & UINT64_MAX << (from & 63);
    for (size_t i = 0; !bits && i < words; i++) {
        at = at + 1 < words ? at + 1 : 0;
        bits = mask[at];
    }
    return bits ? (int32_t)(at * 64) + __builtin_ctzll(bits) : -1;
}

/* After MAX_FREE tokens only bytes that close something are preferred, so that walks end. */
static int32_t choose(walker *w, const uint64_t *mask, size_t words, int n_done) {
    for (int i = 0; i < 3 && n_done > MAX_FREE; i++) {
        int32_t id = w->closers[i];
        if (id >= 0 && mask[id >> 6] >> (id & 63) & 1) return id;
    }
    return pick(mask, words, draw(w, (uint64_t)words * 64));
}

static void walk_once(walker *w, const grammar *g, matcher *m, const char *name, json_t *schema) {
    size_t words = ((size_t)grammar_vocab_n(w->v) + 63) / 64;
    buf text = {0};
    matcher_reset(m);
    for (int i = 0; i < MAX_TOKENS && !matcher_is_done(m); i++) {
        if (matcher_can_end(m) && (i > MAX_FREE || draw(w, 3) == 0)) break;
        int32_t id;
        if (matcher_forced(m, &id, 1) == 0) {
            id = choose(w, matcher_mask(m), words, i);
            if (id < 0) fail_msg("%s: a dead end after %.*s", name, STR_ARG(buf_str(&text)));
        }
        assert_true(matcher_accept(m, id));
        if (tok_is_end(w->t, id)) break;
        buf_append_str(&text, tok_piece(w->t, id));
    }
    if (!matcher_can_end(m)) {
        w->n_cut++;
        buf_deinit(&text);
        return;
    }
    w->n_finished++;
    if (!grammar_accepts(g, buf_str(&text))) fail_msg("%s: not its own: %s", name, text.ptr);
    json_t *v = json_loadb(text.ptr, text.len,
                           JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    if (!v) fail_msg("%s: no JSON: %s", name, text.ptr);
    json_decref(v);
    if (w->out) {
        json_t *line = json_pack("{s:s, s:O, s:s#}", "name", name, "schema", schema, "text",
                                 text.ptr, (int)text.len);
        json_dumpf(line, w->out, JSON_COMPACT);
        fputc('\n', w->out);
        json_decref(line);
    }
    buf_deinit(&text);
}

/* What is refused for want of room would leave more than there is, and what is allowed does not: token by
 * token, against the same without a limit. */
static void check_hurried(walker *w, const grammar *g, const matcher *m, const uint64_t *mask,
                          int64_t room, const buf *text) {
    enum {
        SPARE = 5,     /* HURRY_SPARE and the token itself */
        UNFINISHED = 3 /* bytes of a character that the token begins */
    };
    matcher *free_one = matcher_new(g, w->v, (matcher_options){0}, NULL),
            *next = matcher_new(g, w->v, (matcher_options){0}, NULL);
    assert_true(free_one && next);
    matcher_copy(free_one, m);
    matcher_hurry(free_one, -1, -1);
    int n_near = 0, n_far = 0;
    for (int32_t id = 0; id < grammar_vocab_n(w->v); id++) {
        if (tok_is_end(w->t, id) || !matcher_allows(free_one, id)) continue;
        matcher_copy(next, free_one);
        assert_true(matcher_accept(next, id));
        bool said = mask[id >> 6] >> (id & 63) & 1;
        bool near = (int64_t)matcher_left(next) <= room - SPARE;
        n_far += said && (int64_t)matcher_left(next) > room - SPARE + UNFINISHED;
        n_near += near;
        if (near && !said)
            fail_msg("token %d leaves %zu of %d behind %.*s", id, matcher_left(next), (int)room,
                     STR_ARG(buf_str(text)));
    }
    if (n_near && n_far) fail_msg("%d tokens said that leave more than %d", n_far, (int)room);
    matcher_free(free_one);
    matcher_free(next);
}

/* With the room for a shortest answer and a little more, any walk is whole in time. */
static void walk_in_room(walker *w, const grammar *g, matcher *m, const char *name) {
    size_t words = ((size_t)grammar_vocab_n(w->v) + 63) / 64;
    buf text = {0};
    matcher_reset(m);
    int64_t room = (int64_t)matcher_left(m) + 8 + (int64_t)draw(w, 30), n = 0;
    if (room > MAX_TOKENS) return;
    for (bool is_over = false; n < room && !is_over; n++) {
        matcher_hurry(m, room - n, -1);
        const uint64_t *mask = matcher_mask(m);
        if (grammar_vocab_n(w->v) < 1000) check_hurried(w, g, m, mask, room - n, &text);
        int32_t id = pick(mask, words, draw(w, (uint64_t)words * 64));
        assert_true(id >= 0 && matcher_accept(m, id));
        is_over = tok_is_end(w->t, id) || matcher_is_done(m);
        if (!tok_is_end(w->t, id)) buf_append_str(&text, tok_piece(w->t, id));
    }
    w->n_in_room++;
    if (grammar_accepts(g, buf_str(&text))) {
        buf_deinit(&text);
        return;
    }
    w->n_late++;
    print_message("# %.40s: not whole after %d tokens: %.*s\n", name, (int)room,
                  STR_ARG(buf_str(&text)));
    buf_deinit(&text);
}

static void walk_one_schema(walker *w, const char *name, json_t *schema, int n) {
    error err = {0};
    grammar *g = grammar_from_schema(schema, NULL, &err);
    if (!g) return; /* what cannot be enforced is another test's business */
    matcher *m = matcher_new(g, w->v, (matcher_options){0}, &err);
    if (!m) fail_msg("%s: %s", name, err.message);
    for (int i = 0; i < n; i++) walk_once(w, g, m, name, schema);
    for (int i = 0; i < (n + 9) / 10; i++) walk_in_room(w, g, m, name);
    matcher_free(m);
    grammar_unref(g);
}

/* As it stands, and as tools and answers have it: closed, so that walks come to an end. */
static void walk_schema(walker *w, const char *name, json_t *schema, int n) {
    json_t *closed = close_schema(schema);
    bool same = json_equal(schema, closed);
    walk_one_schema(w, name, schema, same ? n : (n + 2) / 3);
    if (!same) walk_one_schema(w, name, closed, n - (n + 2) / 3);
    json_decref(closed);
}

static const char *const OWN[] = {
    "{\"type\":\"object\"}",
    "{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\",\"minimum\":-7,\"maximum\":120},"
    "\"b\":{\"type\":\"number\",\"multipleOf\":0.25,\"exclusiveMinimum\":1},\"c\":{\"enum\":[\"x\",null,"
    "[1],{\"k\":2}]}},\"required\":[\"a\",\"b\"],\"additionalProperties\":false}",
    "{\"type\":\"array\",\"items\":{\"type\":\"string\",\"pattern\":\"^(a|bc)*$\",\"maxLength\":9},"
    "\"uniqueItems\":true,\"minItems\":3,\"maxItems\":6}",
    "{\"type\":\"array\",\"items\":{\"enum\":[\"p\",\"q\",\"r\"]},\"uniqueItems\":true,\"minItems\":2}",
    "{\"type\":\"object\",\"patternProperties\":{\"^[ab]$\":{\"type\":\"boolean\"}},"
    "\"additionalProperties\":false,\"minProperties\":2}",
    "{\"type\":\"array\",\"contains\":{\"type\":\"boolean\"},\"minContains\":2,\"maxContains\":3,"
    "\"maxItems\":5,\"items\":{\"type\":[\"integer\",\"boolean\"]}}",
    "{\"$ref\":\"#/$defs/t\",\"$defs\":{\"t\":{\"type\":\"object\",\"properties\":{\"v\":{\"type\":"
    "\"string\",\"format\":\"date\"},\"kids\":{\"type\":\"array\",\"items\":{\"$ref\":\"#/$defs/t\"},"
    "\"maxItems\":2}},\"required\":[\"v\"],\"additionalProperties\":false}}}",
    "{\"oneOf\":[{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"k\":{\"const\":1}},\"required\":[\"k\"]},"
    "{\"type\":\"object\",\"additionalProperties\":false,\"properties\":{\"k\":{\"const\":2},\"n\":{\"type\":\"string\",\"minLength\":3,"
    "\"maxLength\":5}},\"required\":[\"k\",\"n\"]}]}",
    "{\"type\":\"object\",\"properties\":{\"h\":{\"type\":\"string\",\"format\":\"hostname\",\"maxLength\":11},"
    "\"m\":{\"type\":\"string\",\"format\":\"email\",\"minLength\":12,\"maxLength\":14},\"u\":{\"type\":\"string\","
    "\"format\":\"uri\",\"minLength\":9,\"maxLength\":16}},\"required\":[\"h\",\"m\",\"u\"],\"additionalProperties\":false}",
    /* Of which a free text can lead far away from the end. */
    "{\"type\":\"object\",\"properties\":{\"a\":{},\"required_words\":{\"type\":\"string\"}},\"required\":[\"required_words\"]}",
    "{\"type\":\"string\",\"pattern\":\"^$|.ABCDEFGHIJKLMNOPQRST$\"}",
    "{\"type\":\"object\",\"not\":{\"additionalProperties\":{\"type\":\"integer\"}},\"maxProperties\":2}",
};

static void test_small_vocabulary(void **state) {
    (void)state;
    tok *t = tiny_vocab_harmony();
    grammar_vocab *v = grammar_vocab_new(t, NULL);
    walker w = {.t = t, .v = v};
    find_closers(&w);
    for (size_t i = 0; i < sizeof OWN / sizeof *OWN; i++) {
        json_t *schema = json_loads(OWN[i], 0, NULL);
        assert_non_null(schema);
        walk_schema(&w, OWN[i], schema, 40);
        json_decref(schema);
    }
    print_message("# %d walks finished, %d cut; %d in short room, %d late\n", w.n_finished, w.n_cut,
                  w.n_in_room, w.n_late);
    assert_int_equal(w.n_late, 0);
    assert_true(w.n_finished > 40 * (int)(sizeof OWN / sizeof *OWN) / 2);
    grammar_vocab_unref(v);
    tok_unref(t);
}

static void test_real_vocabulary(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    const char *count = getenv("ORIEL_WALKS"), *path = getenv("ORIEL_WALK_OUT");
    int wanted = count && *count ? (int)strtol(count, NULL, 10) : WALKS;
    buf ranks = corpus_read("tokenizers/o200k/o200k_base.tiktoken");
    error err = {0};
    tok *t = tok_load_harmony(buf_str(&ranks), &err);
    if (!t) fail_msg("%s", err.message);
    grammar_vocab *v = grammar_vocab_new(t, &err);
    assert_non_null(v);
    walker w = {.t = t, .v = v, .out = path && *path ? fopen(path, "w") : NULL};
    find_closers(&w);
    for (size_t i = 0; i < sizeof OWN / sizeof *OWN; i++) {
        json_t *schema = json_loads(OWN[i], 0, NULL);
        walk_schema(&w, OWN[i], schema, wanted / 40 + 1);
        json_decref(schema);
    }
    char folder[1600];
    snprintf(folder, sizeof folder, "%s/schemas/maskbench", corpus_dir());
    struct dirent **names = NULL;
    int n = scandir(folder, &names, NULL, alphasort);
    /* Compiling takes most of the time: an ordinary run takes every tenth of them. */
    int stride = wanted > 20000 ? 1 : 10;
    for (int i = 0; i < n; i++) {
        if (str_ends(str_from(names[i]->d_name), STR(".json")) && i % stride == 3 % stride &&
            w.n_finished < wanted) {
            json_t *one = corpus_json("schemas/maskbench/%s", names[i]->d_name);
            walk_schema(&w, names[i]->d_name, json_object_get(one, "schema"),
                        wanted * stride / 150 + 1);
            json_decref(one);
        }
        free(names[i]);
    }
    free(names);
    if (w.out) fclose(w.out);
    print_message("# %d walks finished, %d cut after %d tokens, no dead end\n", w.n_finished,
                  w.n_cut, MAX_TOKENS);
    print_message("# %d in short room, %d late\n", w.n_in_room, w.n_late);
    assert_int_equal(w.n_late, 0);
    assert_true(w.n_finished >= wanted * 6 / 10);
    grammar_vocab_unref(v);
    tok_unref(t);
    buf_deinit(&ranks);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_vocabulary),
        cmocka_unit_test(test_real_vocabulary),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
