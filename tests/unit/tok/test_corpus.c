/* Real vocabularies: what is encoded comes back, streams agree with decoding,
 * and a megabyte of anything takes less than a second of CPU time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/hash.h"
#include "corpus.h"
#include "base/json.h"
#include "tok/tok.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#ifdef ORIEL_DEBUG
enum { SLACK = 4, SHRINK = 8 }; /* sanitizers and -O1 */
#else
enum { SLACK = 1, SHRINK = 1 };
#endif

static tok *load(const char *name) {
    error err = {0};
    tok *t;
    if (strstr(name, ".gguf")) {
        char path[1000];
        snprintf(path, sizeof path, "%s/tokenizers/llama.cpp-vocabs/%s", corpus_dir(), name);
        file *f = file_open(path, &err);
        t = f ? tok_load(f, &err) : NULL;
        file_close(f); /* the tokenizer keeps nothing of it */
    } else {
        buf b = corpus_read("%s", name);
        t = strstr(name, ".json") ? tok_load_hf(buf_str(&b), &err)
                                  : tok_load_harmony(buf_str(&b), &err);
        buf_deinit(&b);
    }
    if (!t) fail_msg("%s: %s", name, err.message);
    return t;
}

static const struct {
    const char *name;
    bool composes;    /* NFC: only composed text comes back */
    bool lacks_bytes; /* has no tokens for bytes that UTF-8 never uses */
} names[] = {
    {.name = "tokenizers/o200k/o200k_base.tiktoken"},
    {.name = "ggml-vocab-gpt-2.gguf"},
    {.name = "ggml-vocab-llama-bpe.gguf"},
    {.name = "ggml-vocab-qwen2.gguf", .composes = true},
    {.name = "ggml-vocab-llama-spm.gguf"},
    {.name = "ggml-vocab-gemma-4.gguf"},
    {.name = "ggml-vocab-deepseek-llm.gguf", .lacks_bytes = true},
    {.name = "ggml-vocab-gpt-neox.gguf", .lacks_bytes = true},
    {.name = "ggml-vocab-baichuan.gguf"},
    {.name = "tokenizers/swift-transformers/llama_tokenizer.json"},
};
enum { N_NAMES = sizeof names / sizeof *names };

static void check_round_trip(const tok *t, const char *who, str text) {
    tok_ids ids = {0};
    error err = {0};
    assert_true(tok_encode(t, text, (tok_encode_opts){0}, &ids, &err));
    buf whole = {0}, piecewise = {0};
    tok_decode_opts opts = {.strip_first_space = true};
    tok_decode(t, ids.ids, ids.n, opts, &whole);
    if (!str_eq(buf_str(&whole), text))
        fail_msg("%s: \"%.*s\" came back as \"%.*s\"", who, STR_ARG(text),
                 STR_ARG(buf_str(&whole)));
    tok_stream s;
    tok_stream_init(&s, t, opts);
    for (size_t i = 0; i < ids.n; i++) {
        size_t before = piecewise.len;
        tok_stream_push(&s, ids.ids[i], &piecewise);
        assert_true(utf8_is_valid(str_make(piecewise.ptr + before, piecewise.len - before)));
    }
    tok_stream_flush(&s, &piecewise);
    if (utf8_is_valid(text)) assert_true(str_eq(buf_str(&piecewise), text));
    buf_deinit(&whole);
    buf_deinit(&piecewise);
    tok_ids_deinit(&ids);
}

static void text_comes_back(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    buf oracle = corpus_read("tokenizers/token_oracle.json"),
        play = corpus_read("text/tinyshakespeare.txt"),
        wiki = corpus_read("text/wikitext2_test_tokenised.txt");
    error err = {0};
    json_t *o = json_parse(buf_str(&oracle), &err), *texts = json_object_get(o, "texts");
    for (size_t v = 0; v < N_NAMES; v++) {
        tok *t = load(names[v].name);
        check_round_trip(t, names[v].name, str_make(play.ptr, 200000));
        check_round_trip(t, names[v].name, str_make(wiki.ptr, 200000));
        for (size_t i = 0; i < json_array_size(texts); i++) {
            str text = json_str(json_array_get(texts, i));
            /* ▁ is how these vocabularies write a space. */
            if (str_find(text, STR("\xE2\x96\x81"), 0) >= 0) continue;
            if (!names[v].composes) check_round_trip(t, names[v].name, text);
        }
        for (uint64_t seed = 0; seed < 300 && !names[v].composes && !names[v].lacks_bytes;
             seed++) { /* any bytes */
            char bytes[64];
            size_t n = rng_at(seed, 99) % sizeof bytes;
            for (size_t i = 0; i < n; i++) bytes[i] = (char)(rng_at(seed, i) >> (seed % 3 * 8));
            if (str_find(str_make(bytes, n), STR("\xE2\x96\x81"), 0) >= 0) continue;
            check_round_trip(t, names[v].name, str_make(bytes, n));
        }
        tok_unref(t);
    }
    json_decref(o);
    buf_deinit(&oracle);
    buf_deinit(&play);
    buf_deinit(&wiki);
}

static void random_ids_stream(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    for (size_t v = 0; v < N_NAMES; v++) {
        tok *t = load(names[v].name);
        for (uint64_t seed = 0; seed < 500; seed++) {
            int32_t ids[40];
            for (size_t i = 0; i < 40; i++)
                ids[i] = (int32_t)(rng_at(seed, i) % (uint64_t)tok_n_vocab(t));
            buf one = {0}, cut = {0};
            tok_decode_opts opts = {.skip_special = seed & 1, .strip_first_space = seed & 2};
            tok_stream s;
            tok_stream_init(&s, t, opts);
            for (size_t i = 0; i < 40; i++) tok_stream_push(&s, ids[i], &cut);
            tok_stream_flush(&s, &cut);
            tok_decode(t, ids, 40, opts, &one);
            assert_true(utf8_is_valid(buf_str(&cut)));
            /* Where decoding gives text, the stream gives the same text. */
            if (utf8_is_valid(buf_str(&one))) assert_true(str_eq(buf_str(&one), buf_str(&cut)));
            buf_deinit(&one);
            buf_deinit(&cut);
        }
        tok_unref(t);
    }
}

static double cpu_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void check_time(const tok *t, const char *who, const char *what, str text) {
    tok_ids ids = {0};
    error err = {0};
    double start = cpu_seconds();
    assert_true(tok_encode(t, text, (tok_encode_opts){.parse_special = true}, &ids, &err));
    double seconds = cpu_seconds() - start;
    if (seconds >= 1.0 * SLACK)
        fail_msg("%s: %zu bytes of %s took %.2f s", who, text.len, what, seconds);
    tok_ids_deinit(&ids);
}

static void a_megabyte_takes_less_than_a_second(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    enum { MEGABYTE = (1 << 20) / SHRINK, N_TEXTS = 12 };
    static const char *const units[N_TEXTS] = {"a",
                                               " ",
                                               "\n",
                                               "7",
                                               "\xF0\x9F\x98\x80",
                                               "ab",
                                               "<|",
                                               "\xCC\x81\xCC\x96",
                                               "A",
                                               "\xE4\xB8\xAD"
                                               "A",
                                               "  x",
                                               "\xFF"};
    buf play = corpus_read("text/tinyshakespeare.txt"), text[N_TEXTS] = {0}, noise = {0};
    for (size_t k = 0; k < N_TEXTS; k++)
        while (text[k].len < MEGABYTE) buf_append_cstr(&text[k], units[k]);
    for (uint64_t i = 0; i < MEGABYTE; i++)
        buf_append_char(&noise, (char)('a' + rng_at(3, i) % 26));
    static const char *const timed[] = {"tokenizers/o200k/o200k_base.tiktoken",
                                        "ggml-vocab-qwen2.gguf", "ggml-vocab-llama-spm.gguf",
                                        "ggml-vocab-gemma-4.gguf"};
    for (size_t v = 0; v < sizeof timed / sizeof *timed; v++) {
        tok *t = load(timed[v]);
        check_time(t, timed[v], "plays", str_make(play.ptr, MEGABYTE));
        check_time(t, timed[v], "one random word", buf_str(&noise));
        for (size_t k = 0; k < N_TEXTS; k++) check_time(t, timed[v], units[k], buf_str(&text[k]));
        tok_unref(t);
    }
    for (size_t k = 0; k < N_TEXTS; k++) buf_deinit(&text[k]);
    buf_deinit(&noise);
    buf_deinit(&play);
}

/* No pattern of any family may be quadratic. */
static void every_preset_is_linear(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    static const char *const presets[] = {
        "default",     "tekken",     "falcon",  "deepseek-llm", "deepseek-coder",
        "deepseek-v3", "bloom",      "viking",  "chameleon",    "superbpe",
        "bailingmoe",  "seed-coder", "kimi-k2", "starcoder"};
    static const char *const units[] = {
        "a", " ", "\n", "7", "\xF0\x9F\x98\x80", "A", "\xE4\xB8\xAD", "\xCC\x81", "'", "!", " \n"};
    buf ranks = corpus_read("tokenizers/o200k/o200k_base.tiktoken");
    for (size_t p = 0; p < sizeof presets / sizeof *presets; p++) {
        error err = {0};
        tok *t = tok_load_tiktoken(buf_str(&ranks), presets[p], NULL, 0, &err);
        if (!t) fail_msg("%s: %s", presets[p], err.message);
        for (size_t k = 0; k < sizeof units / sizeof *units; k++) {
            buf text = {0};
            while (text.len < 128 * 1024 / SHRINK) buf_append_cstr(&text, units[k]);
            buf_append_char(&text, 'x');
            check_time(t, presets[p], units[k], buf_str(&text));
            buf_deinit(&text);
        }
        check_round_trip(
            t, presets[p],
            STR("a1234567 b\xC3\xA9\n\n  x <sentinel:1> \xE4\xB8\xAD\xE6\x96\x87!? it's \t$+~"));
        tok_unref(t);
    }
    buf_deinit(&ranks);
}

static void ends_are_known(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    static const struct {
        const char *name, *ends, *no_end; /* "" = none */
    } rows[] = {
        {"ggml-vocab-llama-bpe.gguf", "<|eot_id|>", "<|start_header_id|>"},
        {"ggml-vocab-llama-bpe.gguf", "<|end_of_text|>", "<|begin_of_text|>"},
        {"ggml-vocab-phi-3.gguf", "<|end|>", "<|user|>"},
        {"ggml-vocab-phi-3.gguf", "<|endoftext|>", "<s>"},
        {"ggml-vocab-qwen2.gguf", "<|im_end|>", "<|im_start|>"},
        {"ggml-vocab-gemma-4.gguf", "<turn|>", "<|turn>"},
        {"ggml-vocab-gemma-4.gguf", "<eos>", "<bos>"},
        {"ggml-vocab-llama-spm.gguf", "</s>", "<s>"},
        {"ggml-vocab-deepseek-llm.gguf",
         "<\xEF\xBD\x9C"
         "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
         "<\xEF\xBD\x9C"
         "begin\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"},
        {"tokenizers/hf-tokenizer-json/llama3_1/tokenizer.json", "<|eot_id|>", "<|begin_of_text|>"},
        {"tokenizers/o200k/o200k_base.tiktoken", "<|call|>", "<|end|>"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        tok *t = load(rows[i].name);
        int32_t yes = tok_find_special(t, str_from(rows[i].ends)),
                no = tok_find_special(t, str_from(rows[i].no_end));
        assert_true(yes >= 0 && no >= 0);
        if (!tok_is_end(t, yes)) fail_msg("%s: %s does not end", rows[i].name, rows[i].ends);
        if (tok_is_end(t, no)) fail_msg("%s: %s ends", rows[i].name, rows[i].no_end);
        assert_true(str_is(tok_piece(t, yes), rows[i].ends));
        tok_unref(t);
    }
    tok *t = load("ggml-vocab-llama-spm.gguf");
    assert_true(tok_adds_bos(t) && !tok_adds_eos(t));
    assert_int_equal(tok_get_kind(t), TOK_SPM);
    tok_unref(t);
    t = load("tokenizers/hf-tokenizer-json/llama3_1/tokenizer.json");
    assert_true(tok_adds_bos(t));
    assert_int_equal(tok_bos(t), 128000);
    tok_unref(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_comes_back),
        cmocka_unit_test(random_ids_stream),
        cmocka_unit_test(a_megabyte_takes_less_than_a_second),
        cmocka_unit_test(every_preset_is_linear),
        cmocka_unit_test(ends_are_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
