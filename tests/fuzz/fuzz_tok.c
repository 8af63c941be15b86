/* Encodes and decodes any bytes with small built-in vocabularies of every kind.
 * Byte-level text comes back as it was, every id is in range, streams agree with
 * decoding; or, when the first byte says so, the rest is loaded as a vocabulary.
 */
#include "tok/tok.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ABC                                                                    \
    "\"a\":0,\"b\":1,\"c\":2,\" \":3,\"ab\":4,\"abc\":5,\"\u2581\":6,\"\u2581" \
    "a\":7,\"<unk>\":8,\"\u0120\":9,\"\u0120"                                  \
    "a\":10"
static const char *const vocabularies[] = {
    /* byte-level with the pre-tokeniser that has the most parts */
    "{\"added_tokens\":[{\"id\":11,\"content\":\"<s>\",\"special\":true,\"lstrip\":true,\"rstrip\":true},"
    "{\"id\":12,\"content\":\"ca\",\"single_word\":true}],\"pre_tokenizer\":{\"type\":\"ByteLevel\"},"
    "\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{" ABC
    "},\"merges\":[\"a b\",\"ab c\",\"\u0120 a\"]}}",
    "{\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{\"type\":\"Lowercase\"},{\"type\":\"StripAccents\"},"
    "{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x*y\"},\"content\":\"a\"}]},\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":["
    "{\"type\":\"Metaspace\"},{\"type\":\"Punctuation\",\"behavior\":\"Contiguous\"},{\"type\":\"Digits\"}]},"
    "\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0],[\"a\",-1],[\"b\",-2],[\"ab\",-2.5],[\"\u2581\",-3],"
    "[\"\u2581"
    "a\",-3.5],[\"<0x41>\",-9]],\"byte_fallback\":true}}",
    "{\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},\"model\":{\"type\":\"WordPiece\","
    "\"unk_token\":\"[UNK]\",\"vocab\":{\"[UNK]\":0,\"a\":1,\"##b\":2,\"##a\":3,\"!\":4}}}",
};

/* Every byte a token: tiktoken's format, with o200k's pattern. */
static tok *load_bytes(void) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const tok_special special[] = {{{"<|end|>", 7}, 300}, {{"<|", 2}, 301}};
    buf ranks = {0};
    for (int i = 0; i < 256; i++)
        buf_printf(&ranks, "%c%c== %d\n", digits[i >> 2], digits[(i & 3) << 4], i);
    buf_append_cstr(&ranks, "aGU= 256\nbGw= 257\naGVsbA== 258\n"); /* he ll hell */
    tok *t = tok_load_tiktoken(buf_str(&ranks), "gpt-4o", special, 2, NULL);
    buf_deinit(&ranks);
    return t;
}

static void try_text(const tok *t, str text, tok_encode_opts opts, bool comes_back) {
    tok_ids ids = {0};
    if (!tok_encode(t, text, opts, &ids, NULL)) abort();
    buf whole = {0}, cut = {0};
    tok_stream s;
    tok_stream_init(&s, t, (tok_decode_opts){0});
    for (size_t i = 0; i < ids.n; i++) {
        if (ids.ids[i] < 0 || ids.ids[i] >= tok_n_vocab(t)) abort();
        tok_stream_push(&s, ids.ids[i], &cut);
        if (!utf8_is_valid(buf_str(&cut))) abort();
    }
    tok_stream_flush(&s, &cut);
    tok_decode(t, ids.ids, ids.n, (tok_decode_opts){0}, &whole);
    if (comes_back && !str_eq(buf_str(&whole), text)) abort();
    if (utf8_is_valid(buf_str(&whole)) && !str_eq(buf_str(&whole), buf_str(&cut))) abort();
    buf_deinit(&whole);
    buf_deinit(&cut);
    tok_ids_deinit(&ids);
}

static void try_load(int kind, str bytes) {
    error err = {0};
    tok *t = kind == 0   ? tok_load_hf(bytes, &err)
             : kind == 1 ? tok_load_sentencepiece(bytes, &err)
             : kind == 2 ? tok_load_tiktoken(bytes, "qwen2", NULL, 0, &err)
                         : tok_load_llama2c(bytes, &err);
    if (!t && !error_is_set(&err)) abort();
    if (t)
        try_text(t, STR("ab <s> \xC3\xA9 12 \xFF"), (tok_encode_opts){.parse_special = true},
                 false);
    tok_unref(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static tok *loaded[4];
    for (int i = 0; i < 4 && !loaded[i]; i++) {
        loaded[i] = i < 3 ? tok_load_hf(str_from(vocabularies[i]), NULL) : load_bytes();
        if (!loaded[i]) abort();
    }
    if (size < 2) return 0;
    str rest = str_make((const char *)data + 2, size - 2);
    if (data[0] >= 0xF0) {
        try_load(data[0] & 3, rest);
        return 0;
    }
    /* The second byte sets the span that is trusted. */
    size_t begin = data[1] >> 4, end = begin + (data[1] & 15);
    tok_span span = {begin, end};
    tok_encode_opts opts = {
        .parse_special = data[0] & 4, .trusted = data[0] & 8 ? &span : NULL, .n_trusted = 1};
    try_text(loaded[data[0] & 3], rest, opts, (data[0] & 3) == 3);
    return 0;
}
