/* Every vocabulary of the corpus against ids from elsewhere: llama.cpp's own
 * .inp/.out pairs, and token_oracle.json (llama.cpp, Hugging Face's tokenizers
 * in JavaScript, tiktoken). Where we differ on purpose is listed in `differs`
 * with the reason; docs/NOTES.md says more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/buf.h"
#include "corpus.h"
#include "base/json.h"
#include "tok/tok.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <utf8proc.h>

static tok *load_gguf(const char *name) {
    char path[1000];
    error err = {0};
    snprintf(path, sizeof path, "%s/tokenizers/llama.cpp-vocabs/%s", corpus_dir(), name);
    file *f = file_open(path, &err);
    if (!f) fail_msg("%s: %s", path, err.message);
    tok *t = tok_load(f, &err);
    if (!t) fail_msg("%s: %s", path, err.message);
    file_close(f);
    return t;
}

static bool is_nfc(str text) {
    utf8proc_uint8_t *out = NULL;
    utf8proc_ssize_t n =
        utf8proc_map((const utf8proc_uint8_t *)text.ptr, (utf8proc_ssize_t)text.len, &out,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    bool same = n == (utf8proc_ssize_t)text.len && memcmp(out, text.ptr, text.len) == 0;
    free(out);
    return same;
}

/* Qwen's own tokenizer composes text first, llama.cpp's does not. */
static bool differs_by_nfc(const char *who, str text) {
    return strstr(who, "qwen2.gguf") && !is_nfc(text);
}

static bool has_hangul(str text) {
    for (size_t i = 0; i < text.len; i++) {
        uint32_t cp;
        if (utf8_decode(text, i, &cp) && cp >= 0xAC00 && cp <= 0xD7A3) return true;
    }
    return false;
}

/* BERT's own tokenizer decomposes Hangul into all its letters, llama.cpp's keeps the first of them. */
static bool differs_by_nfd(const char *who, str text) {
    return strstr(who, "bert") && has_hangul(text);
}

static void print_ids(const char *label, const tok *t, const int32_t *ids, size_t n) {
    print_message("  %s:", label);
    for (size_t i = 0; i < n && i < 40; i++)
        print_message(" %d'%.*s'", ids[i], STR_ARG(tok_piece(t, ids[i])));
    print_message("\n");
}

/* Remembering changes no id: the second time every stretch that fits comes from the cache. */
static void check_cache(const tok *t, str text, bool special, const tok_ids *want) {
    error err = {0};
    tok_cache *c = tok_cache_new(1 << 16, &err);
    assert_non_null(c);
    for (int round = 0; round < 3; round++) {
        tok_ids got = {0};
        uint64_t before = tok_cache_get_stats(c).n_encoded_bytes;
        assert_true(tok_encode(t, text, (tok_encode_opts){.parse_special = special, .cache = c},
                               &got, &err));
        assert_int_equal(got.n, want->n);
        if (got.n) assert_memory_equal(got.ids, want->ids, got.n * sizeof *got.ids);
        if (round && text.len < 2000)
            assert_int_equal(tok_cache_get_stats(c).n_encoded_bytes, before);
        tok_ids_deinit(&got);
    }
    tok_cache_free(c);
}

/* Number of wrong texts; all are printed. */
static int check(const tok *t, const char *who, str text, const json_t *want, bool special) {
    tok_ids got = {0};
    error err = {0};
    assert_true(tok_encode(t, text, (tok_encode_opts){.parse_special = special}, &got, &err));
    check_cache(t, text, special, &got);
    size_t n = json_array_size(want);
    int32_t *ids = calloc(n + 1, sizeof *ids);
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(want, i));
    bool same = got.n == n && (n == 0 || memcmp(ids, got.ids, n * sizeof *ids) == 0);
    if (!same) {
        print_message("%s%s: \"%.*s\"\n", who, special ? " (special)" : "", STR_ARG(text));
        print_ids("want", t, ids, n);
        print_ids("got ", t, got.ids, got.n);
    }
    free(ids);
    tok_ids_deinit(&got);
    return !same;
}

static json_t *load_oracle(void) {
    buf b = corpus_read("tokenizers/token_oracle.json");
    error err = {0};
    json_t *o = json_parse(buf_str(&b), &err);
    assert_non_null(o);
    buf_deinit(&b);
    return o;
}

static void llama_cpp_oracle(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    json_t *o = load_oracle(), *texts = json_object_get(o, "texts"), *rows;
    const char *name;
    int wrong = 0, checked = 0, other = 0;
    json_object_foreach(json_object_get(o, "llama_cpp_vocabs"), name, rows) {
        tok *t = load_gguf(name);
        for (size_t i = 0; i < json_array_size(texts); i++) {
            str text = json_str(json_array_get(texts, i));
            const json_t *row = json_array_get(rows, i);
            if (differs_by_nfc(name, text) || differs_by_nfd(name, text)) {
                other++;
                continue;
            }
            wrong += check(t, name, text, json_object_get(row, "ids"), false);
            wrong += check(t, name, text, json_object_get(row, "ids_special"), true);
            checked += 2;
        }
        tok_unref(t);
    }
    json_decref(o);
    print_message("%d of %d rows right, %d texts where Hugging Face normalises otherwise\n",
                  checked - wrong, checked, other);
    assert_int_equal(wrong, 0);
    assert_true(checked > 2500);
}

/* name.inp: texts with a line of __ggml_vocab_test__ between; name.out: a line of ids for each. */
static void llama_cpp_inp_out(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    static const char *const names[] = {"bert-bge",  "deepseek-llm", "gemma-4", "gpt-2",
                                        "llama-bpe", "llama-spm",    "mpt",     "phi-3",
                                        "qwen2",     "starcoder"};
    static const char fence[] = "\n__ggml_vocab_test__\n";
    int wrong = 0, checked = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file_name[100];
        snprintf(file_name, sizeof file_name, "ggml-vocab-%s.gguf", names[i]);
        tok *t = load_gguf(file_name);
        buf in = corpus_read("tokenizers/llama.cpp-vocabs/%s.inp", file_name),
            out = corpus_read("tokenizers/llama.cpp-vocabs/%s.out", file_name);
        const char *line = out.ptr;
        for (size_t at = 0; at < in.len && line;) {
            ptrdiff_t hit = str_find(buf_str(&in), str_from(fence), at);
            if (hit < 0) break;
            str text = str_make(in.ptr + at, (size_t)hit - at);
            at = (size_t)hit + sizeof fence - 1;
            json_t *want = json_array();
            for (char *end; *line && *line != '\n'; line = end) {
                long id = strtol(line, &end, 10);
                if (end == line) break;
                json_array_append_new(want, json_integer(id));
                while (*end == ' ') end++;
            }
            line = strchr(line, '\n');
            if (line) line++;
            if (!differs_by_nfc(file_name, text)) {
                wrong += check(t, file_name, text, want, false);
                checked++;
            }
            json_decref(want);
        }
        buf_deinit(&in);
        buf_deinit(&out);
        tok_unref(t);
    }
    print_message("%d of %d right\n", checked - wrong, checked);
    assert_int_equal(wrong, 0);
    assert_true(checked > 400);
}

static int check_rows(const tok *t, const char *who, const json_t *rows, bool has_special) {
    json_t *o = load_oracle(), *texts = json_object_get(o, "texts");
    int wrong = 0;
    assert_int_equal(json_array_size(rows), json_array_size(texts));
    for (size_t i = 0; i < json_array_size(texts); i++) {
        const json_t *row = json_array_get(rows, i);
        str text = json_str(json_array_get(texts, i));
        wrong += check(t, who, text, json_object_get(row, "ids"), !has_special);
        if (has_special) wrong += check(t, who, text, json_object_get(row, "ids_special"), true);
    }
    json_decref(o);
    return wrong;
}

static tok *must(tok *t, const error *err) {
    if (!t) fail_msg("%s", err->message);
    return t;
}

static void tokenizer_json_oracle(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    static const char *const files[][2] = {
        {"llama3_1", "hf-tokenizer-json/llama3_1/tokenizer.json"},
        {"qwen2_5", "hf-tokenizer-json/qwen2_5/tokenizer.json"},
        {"gpt2", "swift-transformers/gpt2_tokenizer.json"},
        {"llama2", "swift-transformers/llama_tokenizer.json"}};
    json_t *o = load_oracle();
    int wrong = 0;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        buf b = corpus_read("tokenizers/%s", files[i][1]);
        error err = {0};
        tok *t = must(tok_load_hf(buf_str(&b), &err), &err);
        buf_deinit(&b);
        wrong += check_rows(
            t, files[i][0],
            json_object_get(json_object_get(o, "hf_tokenizer_json_via_huggingface_tokenizers_js"),
                            files[i][0]),
            false);
        tok_unref(t);
    }
    json_decref(o);
    assert_int_equal(wrong, 0);
}

static tok *load_harmony(void) {
    buf b = corpus_read("tokenizers/o200k/o200k_base.tiktoken");
    error err = {0};
    tok *t = must(tok_load_harmony(buf_str(&b), &err), &err);
    buf_deinit(&b);
    return t;
}

static void harmony_oracle(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    json_t *o = load_oracle();
    tok *t = load_harmony();
    assert_int_equal(
        check_rows(t, "harmony", json_object_get(o, "o200k_harmony_via_tiktoken_wasm"), true), 0);
    assert_int_equal(tok_n_vocab(t), 201089);
    assert_int_equal(tok_find_special(t, STR("<|channel|>")), 200005);
    assert_int_equal(tok_find_special(t, STR("<|reserved_201088|>")), 201088);
    assert_int_equal(tok_eos(t), 200002);
    assert_true(tok_is_end(t, 200002) && tok_is_end(t, 200012) && tok_is_end(t, 199999));
    assert_false(tok_is_end(t, 200007));
    tok_unref(t);
    json_decref(o);
}

/* The model file also holds rules (NFKC, line ends to spaces, single spaces) that the other two forgot. */
static bool is_plain(str text) {
    for (size_t i = 0; i < text.len; i++) {
        bool space = text.ptr[i] == ' ';
        if (space && (i == 0 || i + 1 == text.len || text.ptr[i + 1] == ' ')) return false;
        if (text.ptr[i] < ' ' || text.ptr[i] > '~') return false;
    }
    return true;
}

/* SentencePiece's file, llama2.c's and GGUF's hold one vocabulary. */
static void sentencepiece_files(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    json_t *o = load_oracle();
    const json_t *rows =
        json_object_get(json_object_get(o, "llama_cpp_vocabs"), "ggml-vocab-llama-spm.gguf");
    error err = {0};
    buf model = corpus_read("tokenizers/llama2/tokenizer.model"),
        bin = corpus_read("tokenizers/llama2/tokenizer.bin");
    tok *a = must(tok_load_sentencepiece(buf_str(&model), &err), &err);
    tok *b = must(tok_load_llama2c(buf_str(&bin), &err), &err);
    assert_int_equal(check_rows(a, "llama2 tokenizer.model", rows, true), 0);
    assert_int_equal(check_rows(b, "llama2 tokenizer.bin", rows, true), 0);
    buf small_model = corpus_read("tokenizers/../models/stories260K/tok512.model"),
        small_bin = corpus_read("tokenizers/../models/stories260K/tok512.bin");
    tok *c = must(tok_load_sentencepiece(buf_str(&small_model), &err), &err);
    tok *d = must(tok_load_llama2c(buf_str(&small_bin), &err), &err);
    char path[1000];
    snprintf(path, sizeof path, "%s/models/derived/stories260K/stories260K-q8_0.gguf",
             corpus_dir());
    file *f = file_open(path, &err);
    tok *e = must(tok_load(f, &err), &err);
    const json_t *texts = json_object_get(o, "texts");
    int n_plain = 0;
    for (size_t i = 0; i < json_array_size(texts); i++) {
        tok_ids x = {0}, y = {0}, z = {0};
        str text = json_str(json_array_get(texts, i));
        tok_encode(c, text, (tok_encode_opts){.add_bos = true}, &x, &err);
        tok_encode(d, text, (tok_encode_opts){.add_bos = true}, &y, &err);
        tok_encode(e, text, (tok_encode_opts){.add_bos = true}, &z, &err);
        assert_int_equal(y.n, z.n);
        assert_memory_equal(y.ids, z.ids, y.n * sizeof *y.ids);
        if (is_plain(text)) {
            n_plain++;
            assert_int_equal(x.n, y.n);
            assert_memory_equal(x.ids, y.ids, x.n * sizeof *x.ids);
        }
        tok_ids_deinit(&x);
        tok_ids_deinit(&y);
        tok_ids_deinit(&z);
    }
    assert_true(n_plain > 20);
    file_close(f);
    tok *all[] = {a, b, c, d, e};
    for (int i = 0; i < 5; i++) tok_unref(all[i]);
    buf *bufs[] = {&model, &bin, &small_model, &small_bin};
    for (int i = 0; i < 4; i++) buf_deinit(bufs[i]);
    json_decref(o);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_cpp_oracle),      cmocka_unit_test(llama_cpp_inp_out),
        cmocka_unit_test(tokenizer_json_oracle), cmocka_unit_test(harmony_oracle),
        cmocka_unit_test(sentencepiece_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
