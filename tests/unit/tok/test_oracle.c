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
#include "base/json.h"
#include "tok/tok.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <utf8proc.h>

static const char *corpus(void) { return getenv("ORIEL_CORPUS"); }

static buf read_corpus(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static buf read_corpus(const char *fmt, ...) {
    char name[500], path[1000];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(name, sizeof name, fmt, ap);
    va_end(ap);
    snprintf(path, sizeof path, "%s/tokenizers/%s", corpus(), name);
    buf b = {0};
    int fd = open(path, O_RDONLY);
    if (fd < 0 || !buf_read_fd(&b, fd)) fail_msg("%s cannot be read", path);
    close(fd);
    return b;
}

static tok *load_gguf(const char *name) {
    char path[1000];
    error err = {0};
    snprintf(path, sizeof path, "%s/tokenizers/llama.cpp-vocabs/%s", corpus(), name);
    file *f = file_open(path, &err);
    if (!f) fail_msg("%s: %s", path, err.message);
    tok *t = tok_load(f, &err);
    if (!t) fail_msg("%s: %s", path, err.message);
    file_close(f);
    return t;
}

static bool is_nfc(str text) {
    utf8proc_uint8_t *out = NULL;
    utf8proc_ssize_t n = utf8proc_map((const utf8proc_uint8_t *)text.ptr, (utf8proc_ssize_t)text.len, &out,
                                      UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    bool same = n == (utf8proc_ssize_t)text.len && memcmp(out, text.ptr, text.len) == 0;
    free(out);
    return same;
}

/* Qwen's own tokenizer composes text first, llama.cpp's does not. */
static bool differs_by_nfc(const char *who, str text) { return strstr(who, "qwen2.gguf") && !is_nfc(text); }

static bool has_hangul(str text) {
    for (size_t i = 0; i < text.len; i++) {
        uint32_t cp;
        if (utf8_decode(text, i, &cp) && cp >= 0xAC00 && cp <= 0xD7A3) return true;
    }
    return false;
}

/* BERT's own tokenizer decomposes Hangul into all its letters, llama.cpp's keeps the first of them. */
static bool differs_by_nfd(const char *who, str text) { return strstr(who, "bert") && has_hangul(text); }

static void print_ids(const char *label, const tok *t, const int32_t *ids, size_t n) {
    print_message("  %s:", label);
    for (size_t i = 0; i < n && i < 40; i++)
        print_message(" %d'%.*s'", ids[i], STR_ARG(tok_piece(t, ids[i])));
    print_message("\n");
}

/* Number of wrong texts; all are printed. */
static int check(const tok *t, const char *who, str text, const json_t *want, bool special) {
    tok_ids got = {0};
    error err = {0};
    assert_true(tok_encode(t, text, (tok_encode_opts){.parse_special = special}, &got, &err));
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
    buf b = read_corpus("token_oracle.json");
    error err = {0};
    json_t *o = json_parse(buf_str(&b), &err);
    assert_non_null(o);
    buf_deinit(&b);
    return o;
}

static void llama_cpp_oracle(void **state) {
    (void)state;
    if (!corpus()) skip();
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
    print_message("%d of %d rows right, %d texts where Hugging Face normalises otherwise\n", checked - wrong, checked, other);
    assert_int_equal(wrong, 0);
    assert_true(checked > 2500);
}

/* name.inp: texts with a line of __ggml_vocab_test__ between; name.out: a line of ids for each. */
static void llama_cpp_inp_out(void **state) {
    (void)state;
    if (!corpus()) skip();
    static const char *const names[] = {"bert-bge", "deepseek-llm", "gemma-4", "gpt-2", "llama-bpe", "llama-spm",
                                        "mpt", "phi-3", "qwen2", "starcoder"};
    static const char fence[] = "\n__ggml_vocab_test__\n";
    int wrong = 0, checked = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file_name[100];
        snprintf(file_name, sizeof file_name, "ggml-vocab-%s.gguf", names[i]);
        tok *t = load_gguf(file_name);
        buf in = read_corpus("llama.cpp-vocabs/%s.inp", file_name), out = read_corpus("llama.cpp-vocabs/%s.out", file_name);
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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(llama_cpp_oracle),
        cmocka_unit_test(llama_cpp_inp_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
