/* The encoder's side of tests/e2e/test_random_tokens.py: ORIEL_ENCODE names a file of lines, and
 * ORIEL_ENCODE_OUT gets one line for each of them.
 *
 *     {"load": "gguf" | "hf" | "sentencepiece" | "llama2c", "path": "…"}
 *     {"load": "tiktoken", "path": "…", "pre": "gpt-4o"}       → {"loaded": n} or {"error": "…"}
 *     {"bytes": "hex", "special": true, "trusted": [[0, 3], …]} → {"ids": […], "text": "hex", "stream": "hex"}
 *
 * text is what the ids decode to without the space put in front, stream the same said id by id. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/json.h"
#include "tok/tok.h"

enum { MAX_SPANS = 64 };

static buf read_whole(const char *path) {
    buf b = {0};
    char block[1 << 16];
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    for (size_t n; (n = fread(block, 1, sizeof block, f)) > 0;) buf_append(&b, block, n);
    fclose(f);
    assert_false(b.failed);
    return b;
}

static tok *load(const json_t *line, error *err) {
    str kind = json_str(json_object_get(line, "load")),
        pre = json_str(json_object_get(line, "pre"));
    const char *path = json_string_value(json_object_get(line, "path"));
    if (str_is(kind, "gguf")) {
        file *f = file_open(path, err);
        tok *t = f ? tok_load(f, err) : NULL;
        file_close(f);
        return t;
    }
    buf b = read_whole(path);
    tok *t = str_is(kind, "hf")              ? tok_load_hf(buf_str(&b), err)
             : str_is(kind, "sentencepiece") ? tok_load_sentencepiece(buf_str(&b), err)
             : str_is(kind, "llama2c")       ? tok_load_llama2c(buf_str(&b), err)
                                       : tok_load_tiktoken(buf_str(&b), pre.ptr, NULL, 0, err);
    buf_deinit(&b);
    return t;
}

static json_t *to_hex(buf *b) {
    buf hex = {0};
    for (size_t i = 0; i < b->len; i++) buf_printf(&hex, "%02x", (unsigned char)b->ptr[i]);
    json_t *said = json_stringn(hex.ptr ? hex.ptr : "", hex.len);
    buf_deinit(&hex);
    buf_deinit(b);
    return said;
}

static json_t *encode(const tok *t, const json_t *line) {
    str hex = json_str(json_object_get(line, "bytes"));
    char *bytes = malloc(hex.len / 2 + 1);
    assert_non_null(bytes);
    for (size_t i = 0; i < hex.len / 2; i++) {
        char pair[3] = {hex.ptr[2 * i], hex.ptr[2 * i + 1], 0};
        bytes[i] = (char)strtol(pair, NULL, 16);
    }
    tok_span spans[MAX_SPANS];
    const json_t *trusted = json_object_get(line, "trusted");
    tok_encode_opts opts = {.parse_special = json_is_true(json_object_get(line, "special"))};
    if (json_is_array(trusted)) {
        opts.trusted = spans;
        opts.n_trusted = json_array_size(trusted);
        assert_true(opts.n_trusted <= MAX_SPANS);
        for (size_t i = 0; i < opts.n_trusted; i++) {
            const json_t *pair = json_array_get(trusted, i);
            spans[i] = (tok_span){(size_t)json_integer_value(json_array_get(pair, 0)),
                                  (size_t)json_integer_value(json_array_get(pair, 1))};
        }
    }
    tok_ids ids = {0};
    error err = {0};
    assert_true(tok_encode(t, str_make(bytes, hex.len / 2), opts, &ids, &err));
    free(bytes);
    json_t *list = json_array();
    for (size_t i = 0; i < ids.n; i++) json_array_append_new(list, json_integer(ids.ids[i]));
    tok_decode_opts all = {.strip_first_space = true};
    buf text = {0}, stream = {0};
    tok_decode(t, ids.ids, ids.n, all, &text);
    tok_stream s;
    tok_stream_init(&s, t, all);
    for (size_t i = 0; i < ids.n; i++) tok_stream_push(&s, ids.ids[i], &stream);
    tok_stream_flush(&s, &stream);
    tok_ids_deinit(&ids);
    return json_pack("{s:o,s:o,s:o}", "ids", list, "text", to_hex(&text), "stream",
                     to_hex(&stream));
}

static void test_encode(void **state) {
    (void)state;
    const char *in = getenv("ORIEL_ENCODE"), *to = getenv("ORIEL_ENCODE_OUT");
    if (!in || !*in || !to || !*to) skip();
    FILE *f = fopen(in, "r"), *out = fopen(to, "w");
    assert_non_null(f);
    assert_non_null(out);
    tok *t = NULL;
    char *text = NULL;
    size_t cap = 0;
    for (ssize_t n; (n = getline(&text, &cap, f)) > 0;) {
        json_t *line = json_loadb(text, (size_t)n, 0, NULL), *said;
        assert_non_null(line);
        if (json_object_get(line, "load")) {
            error err = {0};
            tok_unref(t);
            t = load(line, &err);
            said = t ? json_pack("{s:i}", "loaded", (int)tok_n_vocab(t))
                     : json_pack("{s:s}", "error", err.message);
        } else {
            said = t ? encode(t, line) : json_pack("{s:s}", "error", "nothing is loaded");
        }
        json_dumpf(said, out, JSON_COMPACT);
        fputc('\n', out);
        json_decref(said);
        json_decref(line);
    }
    tok_unref(t);
    free(text);
    fclose(f);
    assert_int_equal(fclose(out), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_encode)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
