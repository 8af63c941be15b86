/* Vocabularies that lie: every one is refused with a sentence or works, and
 * nothing crashes, leaks or takes longer than its size says.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/hash.h"
#include "gguf_builder.h"
#include "tok/tok.h"
#include "torture.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const char *const texts[] = {"",
                                    " ",
                                    "ab abc",
                                    "<s>a</s>",
                                    "\xFF\xC3",
                                    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa b",
                                    "\xE4\xB8\xAD\xE6\x96\x87 123 \n\t x",
                                    "\xE2\x96\x81"};

/* A loaded tokenizer answers everything without harm. */
static void use(const tok *t) {
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        for (int special = 0; special < 2; special++) {
            tok_ids ids = {0};
            error err = {0};
            tok_encode_opts opts = {.add_bos = true, .add_eos = true, .parse_special = special};
            assert_true(tok_encode(t, str_from(texts[i]), opts, &ids, &err));
            for (size_t k = 0; k < ids.n; k++) assert_in_range(ids.ids[k], 0, tok_n_vocab(t) - 1);
            buf b = {0};
            tok_decode(t, ids.ids, ids.n, (tok_decode_opts){.strip_first_space = special}, &b);
            buf_deinit(&b);
            tok_ids_deinit(&ids);
        }
    for (int32_t id = -1; id <= tok_n_vocab(t) && id < 2000; id++) {
        str piece = tok_piece(t, id);
        volatile char last = piece.len ? piece.ptr[piece.len - 1] : 0;
        (void)last;
        if (tok_is_special(t, id)) assert_true(tok_find_special(t, piece) >= 0 || !piece.len);
        tok_is_end(t, id);
    }
    assert_true(tok_bos(t) >= -1 && tok_bos(t) < tok_n_vocab(t) && tok_eos(t) >= -1 &&
                tok_eos(t) < tok_n_vocab(t));
}

/* True when it loaded. */
static bool try_loaded(tok *t, const error *err) {
    if (t) {
        use(t);
        tok_unref(t);
        return true;
    }
    assert_int_not_equal(err->code, ERR_NONE);
    assert_true(strlen(err->message) > 8);
    return false;
}

static bool try_gguf(gguf_builder *g) {
    buf image = {0};
    error err = {0};
    assert_true(gguf_builder_render(g, &image));
    file *f = file_open_memory(image.ptr, image.len, "hostile", &err);
    if (!f) fail_msg("%s", err.message);
    bool ok = try_loaded(tok_load(f, &err), &err);
    file_close(f);
    buf_deinit(&image);
    gguf_builder_deinit(g);
    return ok;
}

#define TOKENS                                                                                 \
    STR("<unk>"), STR("<s>"), STR("</s>"), STR("a"), STR("b"), STR("ab"), STR("\xE2\x96\x81"), \
        STR("c")
enum { N = 8 };

static void begin_gguf(gguf_builder *g, const char *model, const char *pre) {
    gguf_builder_init(g);
    gguf_put_str(g, "tokenizer.ggml.model", model);
    if (pre) gguf_put_str(g, "tokenizer.ggml.pre", pre);
}

static void put_tokens(gguf_builder *g) {
    gguf_put_strs(g, "tokenizer.ggml.tokens", N, (str[]){TOKENS});
}
static void put_types(gguf_builder *g) {
    gguf_put_array(g, "tokenizer.ggml.token_type", FILE_I32, N,
                   (int32_t[]){2, 3, 3, 1, 1, 1, 1, 4});
}

static void gguf_that_lies(void **state) {
    (void)state;
    gguf_builder g;
    static const char *const models[] = {"gpt2", "llama", "t5", "bert", "gemma4"};
    for (size_t m = 0; m < 5; m++) {
        bool merges = m == 0 || m == 4;
        /* nothing but the name; no tokens; tokens of the wrong type */
        begin_gguf(&g, models[m], NULL);
        assert_false(try_gguf(&g));
        begin_gguf(&g, models[m], NULL);
        gguf_put_strs(&g, "tokenizer.ggml.tokens", 0, NULL);
        assert_false(try_gguf(&g));
        begin_gguf(&g, models[m], NULL);
        gguf_put_array(&g, "tokenizer.ggml.tokens", FILE_U32, 3, (uint32_t[]){1, 2, 3});
        assert_false(try_gguf(&g));
        begin_gguf(&g, models[m], NULL);
        gguf_put_str(&g, "tokenizer.ggml.tokens", "abc");
        assert_false(try_gguf(&g));
        /* no merges, where they are needed */
        begin_gguf(&g, models[m], NULL);
        put_tokens(&g);
        assert_int_equal(try_gguf(&g), !merges);
        /* merges of absent tokens, without a space, circular, twice, empty halves */
        begin_gguf(&g, models[m], "default");
        put_tokens(&g);
        put_types(&g);
        gguf_put_strs(&g, "tokenizer.ggml.merges", 9,
                      (str[]){STR("x y"), STR("ab"), STR(""), STR(" "), STR("a "), STR(" b"),
                              STR("a b"), STR("a b"), STR("ab a")});
        assert_true(try_gguf(&g));
        /* types and scores that do not match the tokens */
        begin_gguf(&g, models[m], "default");
        put_tokens(&g);
        gguf_put_array(&g, "tokenizer.ggml.token_type", FILE_I32, 3, (int32_t[]){1, 1, 1});
        assert_false(try_gguf(&g));
        begin_gguf(&g, models[m], "default");
        put_tokens(&g);
        gguf_put_array(&g, "tokenizer.ggml.scores", FILE_F32, 2, (float[]){1, 1});
        assert_false(try_gguf(&g));
        /* types out of range, scores that are not numbers, ids out of range */
        begin_gguf(&g, models[m], "default");
        put_tokens(&g);
        gguf_put_array(&g, "tokenizer.ggml.token_type", FILE_I32, N,
                       (int32_t[]){0, -1, 7, 99, INT32_MIN, INT32_MAX, 6, 5});
        gguf_put_array(&g, "tokenizer.ggml.scores", FILE_F32, N,
                       (float[]){NAN, INFINITY, -INFINITY, 0, -0.0f, NAN, 1e38f, -NAN});
        gguf_put_strs(&g, "tokenizer.ggml.merges", 1, (str[]){STR("a b")});
        gguf_put_u32(&g, "tokenizer.ggml.bos_token_id", 4000000000u);
        gguf_put_i32(&g, "tokenizer.ggml.eos_token_id", -5);
        gguf_put_str(&g, "tokenizer.ggml.unknown_token_id", "zero");
        gguf_put_u32(&g, "tokenizer.ggml.eot_token_id", 8);
        assert_true(try_gguf(&g));
        /* empty, equal and ill-formed texts */
        begin_gguf(&g, models[m], "default");
        gguf_put_strs(&g, "tokenizer.ggml.tokens", N,
                      (str[]){STR(""), STR(""), STR("a"), STR("a"), STR("\xFF"), STR("\xE2\x96"),
                              STR("<0xZZ>"), STR("<0x41>")});
        gguf_put_array(&g, "tokenizer.ggml.token_type", FILE_I32, N,
                       (int32_t[]){3, 4, 4, 3, 4, 1, 6, 6});
        gguf_put_strs(&g, "tokenizer.ggml.merges", 1, (str[]){STR("a a")});
        assert_true(try_gguf(&g));
        /* a charsmap of noise */
        for (uint64_t seed = 0; seed < 50; seed++) {
            uint8_t noise[64];
            for (size_t i = 0; i < sizeof noise; i++) noise[i] = (uint8_t)rng_at(seed, i);
            noise[1] = noise[2] = noise[3] = 0;
            begin_gguf(&g, models[m], "default");
            put_tokens(&g);
            gguf_put_strs(&g, "tokenizer.ggml.merges", 1, (str[]){STR("a b")});
            gguf_put_array(&g, "tokenizer.ggml.precompiled_charsmap", FILE_U8,
                           rng_at(seed, 99) % 65, noise);
            try_gguf(&g);
        }
    }
    begin_gguf(&g, "rwkv", NULL);
    assert_false(try_gguf(&g));
    begin_gguf(&g, "gpt2", "no-such-family");
    put_tokens(&g);
    gguf_put_strs(&g, "tokenizer.ggml.merges", 1, (str[]){STR("a b")});
    assert_false(try_gguf(&g));
    gguf_builder_init(&g);
    gguf_put_u32(&g, "tokenizer.ggml.model", 4);
    assert_false(try_gguf(&g));
}

/* Cyclic: joining gives back one of the parts, as far as the tables can say so. */
static void merges_always_end(void **state) {
    (void)state;
    error err = {0};
    static const char *const merges[] = {"[\"a a\",\"aa aa\",\"aaaa a\",\"a aaaa\"]",
                                         "[\"a aa\",\"aa a\"]", "[\"a a\",\"a a\"]",
                                         "[[\"a\"],[],[\"a\",\"a\",\"a\"],4,null,\"a\",\"  \"]"};
    for (size_t i = 0; i < 4; i++) {
        char json[1000];
        snprintf(
            json, sizeof json,
            "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1,\"aaa\":2,\"aaaa\":3,\"aaaaa\":4},\"merges\":%s}}",
            merges[i]);
        assert_true(try_loaded(tok_load_hf(str_from(json), &err), &err));
    }
}

static void json_that_lies(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "3",
        "{}",
        "{\"model\":3}",
        "{\"model\":{}}",
        "{\"model\":{\"type\":\"BPE\"}}",
        "{\"model\":{\"type\":\"Magic\",\"vocab\":{}}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":1e9},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999999},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"a\":1},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":[\"a\"],\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":{}}}",
        "{\"model\":{\"type\":\"BPE\",\"end_of_word_suffix\":\"</w>\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"model\":{\"type\":\"Unigram\",\"vocab\":[[\"a\"]]}}",
        "{\"model\":{\"type\":\"Unigram\",\"vocab\":[3]}}",
        "{\"added_tokens\":[{\"content\":\"x\"}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"added_tokens\":[{\"id\":1073741824,\"content\":\"x\"}],\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"normalizer\":{\"type\":\"Nmt\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"normalizer\":{},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"normalizer\":{\"type\":\"Precompiled\",\"precompiled_charsmap\":\"%\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"}},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"pre_tokenizer\":{\"type\":\"Split\",\"behavior\":\"Odd\",\"pattern\":{\"String\":\"a\"}},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
        "{\"pre_tokenizer\":{\"type\":\"UnicodeScripts\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        error err = {0};
        if (try_loaded(tok_load_hf(str_from(bad[i]), &err), &err)) fail_msg("accepted: %s", bad[i]);
    }
    /* Sequences in Sequences */
    buf deep = {0};
    buf_append_cstr(&deep, "{\"normalizer\":");
    for (int i = 0; i < 100; i++)
        buf_append_cstr(&deep, "{\"type\":\"Sequence\",\"normalizers\":[");
    for (int i = 0; i < 100; i++) buf_append_cstr(&deep, "]}");
    buf_append_cstr(&deep, ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}");
    error err = {0};
    assert_false(try_loaded(tok_load_hf(buf_str(&deep), &err), &err));
    buf_deinit(&deep);
    /* Parts of the wrong kind that say nothing harmful */
    err = (error){0};
    assert_true(try_loaded(
        tok_load_hf(
            STR("{\"added_tokens\":{\"id\":3},\"decoder\":[1],\"post_processor\":\"x\",\"truncation\":[],"
                "\"model\":{\"type\":\"BPE\",\"unk_token\":7,\"vocab\":{\"a\":5},\"merges\":[]}}"),
            &err),
        &err));
}

static const char good_json[] =
    "{\"added_tokens\":[{\"id\":5,\"content\":\"<s>\",\"special\":true,\"lstrip\":true}],"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":\"Prepend\",\"prepend\":\"a\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\" {2,}\"},\"content\":\" \"}]},"
    "\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\p{L}+| ?x\"},"
    "\"behavior\":\"Isolated\"},{\"type\":\"ByteLevel\",\"add_prefix_space\":true}]},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},{\"Sequence\":{\"id\":\"A\"}}]},"
    "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"c\":2,\"ab\":3,\"\u0120\":4},"
    "\"merges\":[\"a b\"]}}";
static const char good_ranks[] = "YQ== 0\nYg== 1\nIA== 2\nYWI= 3\n";
/* pieces <unk> <s> </s> a b ab; trainer BPE; normaliser without prefix */
static const char good_model[] =
    "\x0A\x09\x0A\x05<unk>\x18\x02\x0A\x07\x0A\x03<s>\x18\x03\x0A\x08\x0A\x04</s>\x18\x03"
    "\x0A\x03\x0A\x01"
    "a\x0A\x03\x0A\x01"
    "b\x0A\x09\x0A\x02"
    "ab\x15\0\0\x80\xBF"
    "\x12\x02\x18\x02\x1A\x02\x18\x00";

typedef struct source {
    const char *bytes;
    size_t len;
    int kind;
} source;
static const source sources[] = {{good_json, sizeof good_json - 1, 0},
                                 {good_ranks, sizeof good_ranks - 1, 1},
                                 {good_model, sizeof good_model - 1, 2}};

static tok *load(int kind, str bytes, error *err) {
    static const tok_special special[] = {{{"<s>", 3}, 9}};
    if (kind == 0) return tok_load_hf(bytes, err);
    if (kind == 1) return tok_load_tiktoken(bytes, "deepseek-v3", special, 1, err);
    if (kind == 2) return tok_load_sentencepiece(bytes, err);
    return tok_load_llama2c(bytes, err);
}

static void damaged_bytes(void **state) {
    (void)state;
    for (size_t k = 0; k < 3; k++) {
        error err = {0};
        assert_true(try_loaded(
            load(sources[k].kind, str_make(sources[k].bytes, sources[k].len), &err), &err));
        for (size_t cut = 0; cut < sources[k].len; cut++) {
            char *copy = malloc(cut + 1);
            memcpy(copy, sources[k].bytes, cut);
            err = (error){0};
            try_loaded(load(sources[k].kind, str_make(copy, cut), &err), &err);
            err = (error){0};
            if (k == 2) try_loaded(load(3, str_make(copy, cut), &err), &err);
            free(copy);
        }
        for (uint64_t seed = 0; seed < 3000; seed++) {
            char copy[2048];
            assert_true(sources[k].len < sizeof copy);
            memcpy(copy, sources[k].bytes, sources[k].len);
            for (uint64_t i = 0; i <= seed % 3; i++) {
                uint64_t r = rng_at(seed, i);
                copy[r % sources[k].len] = (char)(r >> 32);
            }
            err = (error){0};
            try_loaded(load(sources[k].kind, str_make(copy, sources[k].len), &err), &err);
            err = (error){0};
            if (k == 2) try_loaded(load(3, str_make(copy, sources[k].len), &err), &err);
        }
    }
    /* Huge ids and counts do not ask for huge memory. */
    error err = {0};
    assert_null(tok_load_tiktoken(STR("YQ== 999999999\n"), "gpt-4o", NULL, 0, &err));
    assert_int_equal(err.code, ERR_BAD_FILE);
    err = (error){0};
    assert_null(tok_load_tiktoken(STR("YQ== 0\nYg== 0\n"), "gpt-4o", NULL, 0, &err));
    err = (error){0};
    assert_true(try_loaded(tok_load_tiktoken(STR("= 1\n"), "gpt-4o", NULL, 0, &err), &err));
    err = (error){0};
    assert_null(tok_load_llama2c(str_make("\x01\0\0\0\0\0\0\0\xFF\xFF\xFF\xFF", 12), &err));
}

static bool load_and_use(void *ctx) {
    const source *s = ctx;
    error err = {0};
    tok *t = load(s->kind, str_make(s->bytes, s->len), &err);
    if (!t) {
        assert_int_not_equal(err.code, ERR_NONE);
        return false;
    }
    tok_ids ids = {0};
    bool ok = tok_encode(
        t, STR("ab  ab <s> \xC3\xA9\xCC\x81 abababababababababababababababababababababababab"),
        (tok_encode_opts){.parse_special = true}, &ids, &err);
    if (!ok) assert_int_equal(err.code, ERR_NO_MEMORY);
    buf b = {0};
    tok_decode(t, ids.ids, ids.n, (tok_decode_opts){0}, &b);
    ok = ok && !b.failed;
    buf_deinit(&b);
    tok_ids_deinit(&ids);
    tok_unref(t);
    return ok;
}

static void memory_that_runs_out(void **state) {
    (void)state;
    if (!torture_is_available()) skip();
    for (size_t k = 0; k < 3; k++) {
        int n = torture_run(load_and_use, (void *)&sources[k]);
        if (n <= 10) fail_msg("source %zu: torture says %d", k, n);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gguf_that_lies),       cmocka_unit_test(merges_always_end),
        cmocka_unit_test(json_that_lies),       cmocka_unit_test(damaged_bytes),
        cmocka_unit_test(memory_that_runs_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
