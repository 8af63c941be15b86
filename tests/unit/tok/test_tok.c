/* The tokenizer's promises on vocabularies small enough to think about, and
 * slow twins for merging and for the unigram path.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/hash.h"
#include "base/json.h"
#include "tiny_vocab.h"
#include "tok/tok.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static tok *load_json(const char *json) {
    error err = {0};
    tok *t = tok_load_hf(str_from(json), &err);
    if (!t) fail_msg("%s", err.message);
    return t;
}

static tok_ids encode(const tok *t, str text, tok_encode_opts opts) {
    tok_ids ids = {0};
    error err = {0};
    if (!tok_encode(t, text, opts, &ids, &err)) fail_msg("%s", err.message);
    return ids;
}

static void expect(const tok *t, const char *text, tok_encode_opts opts, size_t n,
                   const int32_t *want) {
    tok_ids got = encode(t, str_from(text), opts);
    for (size_t i = 0; i < got.n || i < n; i++)
        if (i >= got.n || i >= n || got.ids[i] != want[i]) {
            for (size_t k = 0; k < got.n; k++) print_message(" %d", got.ids[k]);
            fail_msg("\"%s\": id %zu is wrong", text, i);
        }
    tok_ids_deinit(&got);
}
#define EXPECT(t, text, opts, ...) \
    expect(t, text, opts, sizeof(int32_t[]){__VA_ARGS__} / 4, (int32_t[]){__VA_ARGS__})
#define OPTS(...) ((tok_encode_opts){__VA_ARGS__})

/* ── Remembered stretches ── */

/* Thousands of texts from a small alphabet through a cache that turns over all the time: the ids are
 * those of encoding afresh, and what is used again and again is encoded once. */
static void remembering_changes_nothing(void **state) {
    (void)state;
    tok *t = tiny_vocab_harmony();
    error err = {0};
    tok_cache *c = tok_cache_new(1 << 15, &err);
    static const char *const PARTS[] = {"<|end|>", "<|start|>",   "hell",   "he",       " a",
                                        "x",       "<|message|>", "<|end|", "\xC3\xA4", " "};
    buf text = {0};
    for (uint64_t i = 0; i < 20000; i++) {
        buf_clear(&text);
        uint64_t kind = rng_uniform_at(1, i) < 0.5 ? i % 50 : i; /* half of them come again */
        for (uint64_t k = 0; k < 1 + rng_at(2, kind) % 40; k++)
            buf_append_cstr(&text, PARTS[rng_at(kind + 3, k) % 10]);
        tok_encode_opts how = {.parse_special = true};
        tok_ids plain = encode(t, buf_str(&text), how);
        how.cache = c;
        tok_ids got = encode(t, buf_str(&text), how);
        assert_int_equal(plain.n, got.n);
        assert_memory_equal(plain.ids, got.ids, got.n * sizeof *got.ids);
        tok_ids_deinit(&plain);
        tok_ids_deinit(&got);
    }
    tok_cache_stats s = tok_cache_get_stats(c);
    assert_true(s.n_encoded_bytes > 0 && s.n_remembered_bytes > s.n_encoded_bytes);
    /* Too long for a half: encoded each time, and nothing is pushed out for it. */
    buf_clear(&text);
    for (int i = 0; i < 4000; i++) buf_append_cstr(&text, "hell a");
    for (int i = 0; i < 2; i++) {
        tok_ids got = encode(t, buf_str(&text), (tok_encode_opts){.cache = c});
        tok_ids_deinit(&got);
    }
    assert_int_equal(tok_cache_get_stats(c).n_encoded_bytes, s.n_encoded_bytes + 2 * text.len);
    buf_deinit(&text);
    tok_cache_free(c);
    tok_unref(t);
}

/* ── Special tokens ── */
static void special_tokens_need_leave(void **state) {
    (void)state;
    tok *t = tiny_vocab_harmony();
    EXPECT(t, "a<|end|>", OPTS(.parse_special = true), 'a', TINY_END);
    EXPECT(t, "a<|end|>", OPTS(0), 'a', '<', '|', 'e', 'n', 'd', '|', '>');
    assert_int_equal(tok_find_special(t, STR("<|end|>")), TINY_END);
    assert_int_equal(tok_find_special(t, STR("<|end|")), -1);
    assert_int_equal(tok_find_special(t, STR("he")), -1);
    assert_true(tok_is_special(t, TINY_END));
    assert_false(tok_is_special(t, 'a'));
    assert_false(tok_is_special(t, -1) || tok_is_special(t, 1 << 30) || tok_is_end(t, -1));
    assert_int_equal(tok_piece(t, 1 << 30).len, 0);
    assert_true(tok_is_end(t, TINY_RETURN) && tok_is_end(t, TINY_CALL) &&
                tok_is_end(t, TINY_ENDOFTEXT));
    assert_false(tok_is_end(t, TINY_END));
    tok_unref(t);
}

/* "<|end|>" twice, with every pair of borders: it is one token exactly when a span holds all of it. */
static void only_trusted_text_is_special(void **state) {
    (void)state;
    tok *t = tiny_vocab_harmony();
    const char *text = "x<|end|>y<|end|>";
    for (size_t begin = 0; begin <= 16; begin++)
        for (size_t end = begin; end <= 16; end++) {
            tok_span span = {begin, end};
            tok_ids ids = encode(t, str_from(text),
                                 OPTS(.parse_special = true, .trusted = &span, .n_trusted = 1));
            bool first = begin <= 1 && end >= 8, second = begin <= 9 && end >= 16;
            size_t n = 0;
            for (size_t i = 0; i < ids.n; i++) n += ids.ids[i] == TINY_END;
            assert_int_equal(n, first + second);
            assert_int_equal(ids.n, 16 - 6 * n);
            if (first) assert_int_equal(ids.ids[1], TINY_END);
            tok_ids_deinit(&ids);
        }
    /* Two spans that touch do not make one. */
    tok_span halves[] = {{1, 4}, {4, 8}, {9, 16}};
    EXPECT(t, text, OPTS(.parse_special = true, .trusted = halves, .n_trusted = 3), 'x', '<', '|',
           'e', 'n', 'd', '|', '>', 'y', TINY_END);
    tok_span none;
    EXPECT(t, "<|end|>", OPTS(.parse_special = true, .trusted = &none, .n_trusted = 0), '<', '|',
           'e', 'n', 'd', '|', '>');
    /* Words merge across a border. */
    tok_span he = {0, 1};
    EXPECT(t, "hell", OPTS(.parse_special = true, .trusted = &he, .n_trusted = 1), TINY_WORDS + 2);
    tok_unref(t);
}

#define BYTES_VOCAB \
    "\"a\":0,\"b\":1,\"c\":2,\"\u0120\":3,\"\u010a\":4,\"<\":5,\">\":6,\"ab\":7,\"\u0120a\":8,\"_\":9"
#define ADDED(id, text, flags) "{\"id\":" #id ",\"content\":\"" text "\"," flags "}"

static void added_tokens_strip_and_stand_alone(void **state) {
    (void)state;
    tok *t = load_json(
        "{\"added_tokens\":[" ADDED(10, "<l>", "\"lstrip\":true,\"special\":true") "," ADDED(11, "<r>", "\"rstrip\":true,\"special\":true") "," ADDED(
            12, "cab",
            "\"single_word\":true,\"special\":false") "," ADDED(13, "<a",
                                                                "\"special\":true") "," ADDED(14,
                                                                                              "<a>",
                                                                                              "\"special\":true") "," ADDED(15,
                                                                                                                            "<u>",
                                                                                                                            "\"special\":false") "],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
                                                                                                                                                 "\"decoder\":{\"type\":\"ByteLevel\"},"
                                                                                                                                                 "\"model\":{\"type\":\"BPE\",\"vocab\":{" BYTES_VOCAB
                                                                                                                                                 "},\"merges\":[\"a b\",[\"\u0120\",\"a\"]]}}");
    EXPECT(t, "a  <l> a", OPTS(.parse_special = true), 0, 10, 8);
    EXPECT(t, "a <r> \n a", OPTS(.parse_special = true), 0, 3, 11, 0);
    EXPECT(t, "cab", OPTS(0), 12);
    EXPECT(t, "b cab b", OPTS(0), 1, 3, 12, 3, 1);
    EXPECT(t, "acab", OPTS(0), 0, 2, 7);
    EXPECT(t, "cab_", OPTS(0), 2, 7, 9);
    EXPECT(t, "<a>", OPTS(.parse_special = true), 14);
    EXPECT(t, "<ab", OPTS(.parse_special = true), 13, 1);
    EXPECT(t, "<u>", OPTS(0), 15);
    /* A user's mark obeys the spans, a user's word does not. */
    tok_span none = {0, 0};
    tok_ids ids =
        encode(t, STR("<u>cab"), OPTS(.parse_special = true, .trusted = &none, .n_trusted = 1));
    for (size_t i = 0; i < ids.n; i++) assert_int_not_equal(ids.ids[i], 15);
    tok_ids_deinit(&ids);
    EXPECT(t, "b cab", OPTS(.parse_special = true, .trusted = &none, .n_trusted = 1), 1, 3, 12);
    tok_unref(t);
}

/* ── Merging against its definition: always the best pair, leftmost first ── */
enum { TWIN_VOCAB = 40 };
typedef struct twin {
    int n;
    char text[TWIN_VOCAB][24];
    float score[TWIN_VOCAB];
    int left[TWIN_VOCAB], right[TWIN_VOCAB]; /* −1 for the alphabet */
} twin;

static int twin_find(const twin *v, const char *text) {
    for (int i = 0; i < v->n; i++)
        if (strcmp(v->text[i], text) == 0) return i;
    return -1;
}

static twin random_vocab(uint64_t seed) {
    twin v = {.n = 3, .text = {"a", "b", "c"}, .left = {-1, -1, -1}, .right = {-1, -1, -1}};
    for (uint64_t i = 0; v.n < TWIN_VOCAB && i < 400; i++) {
        int left = (int)(rng_at(seed, 2 * i) % (uint64_t)v.n),
            right = (int)(rng_at(seed, 2 * i + 1) % (uint64_t)v.n);
        char text[64];
        snprintf(text, sizeof text, "%s%s", v.text[left], v.text[right]);
        if (strlen(text) >= sizeof v.text[0] || twin_find(&v, text) >= 0) continue;
        memcpy(v.text[v.n], text, strlen(text) + 1);
        v.score[v.n] = (float)(rng_at(seed, 5000 + i) % 7); /* equal ones occur */
        v.left[v.n] = left;
        v.right[v.n++] = right;
    }
    return v;
}

static size_t twin_encode(const twin *v, const char *text, bool by_score, int *out) {
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) out[i] = text[i] - 'a';
    for (;;) {
        size_t best = n;
        int joined = -1;
        for (size_t i = 0; i + 1 < n; i++) {
            char both[64];
            snprintf(both, sizeof both, "%s%s", v->text[out[i]], v->text[out[i + 1]]);
            int id = twin_find(v, both);
            if (id < 0) continue;
            if (!by_score && (v->left[id] != out[i] || v->right[id] != out[i + 1])) continue;
            bool better = joined < 0 || (by_score ? v->score[id] > v->score[joined] : id < joined);
            if (better) best = i, joined = id;
        }
        if (joined < 0) return n;
        out[best] = joined;
        memmove(out + best + 1, out + best + 2, (n - best - 2) * sizeof *out);
        n--;
    }
}

static tok *twin_tok(const twin *v, bool by_score) {
    buf b = {0};
    error err = {0};
    tok *t;
    if (by_score) { /* llama2.c's file: u32, then score, length, text */
        buf_append(&b, &(uint32_t){24}, 4);
        for (int i = -3; i < v->n; i++) { /* three special ids first */
            const char *text = i < 0 ? "<s>" : v->text[i];
            uint32_t len = (uint32_t)strlen(text);
            buf_append(&b, i < 0 ? &(float){0} : &v->score[i], 4);
            buf_append(&b, &len, 4);
            buf_append(&b, text, len);
        }
        t = tok_load_llama2c(buf_str(&b), &err);
    } else {
        buf_append_cstr(&b, "{\"model\":{\"type\":\"BPE\",\"vocab\":{");
        for (int i = 0; i < v->n; i++) buf_printf(&b, "%s\"%s\":%d", i ? "," : "", v->text[i], i);
        buf_append_cstr(&b, "},\"merges\":[");
        for (int i = 3; i < v->n; i++)
            buf_printf(&b, "%s\"%s %s\"", i > 3 ? "," : "", v->text[v->left[i]],
                       v->text[v->right[i]]);
        buf_append_cstr(&b, "]}}");
        t = tok_load_hf(buf_str(&b), &err);
    }
    if (!t) fail_msg("%s", err.message);
    buf_deinit(&b);
    return t;
}

static void merging_follows_its_definition(void **state) {
    (void)state;
    size_t n_long = 0;
    for (uint64_t seed = 0; seed < 60; seed++)
        for (int by_score = 0; by_score < 2; by_score++) {
            twin v = random_vocab(seed);
            tok *t = twin_tok(&v, by_score);
            for (uint64_t k = 0; k < 40; k++) {
                char text[256];
                int want[256];
                size_t len = 1 + rng_at(seed, 9000 + k) % (k % 2 ? 20 : 200);
                for (size_t i = 0; i < len; i++)
                    text[i] = (char)('a' + rng_at(seed * 100 + k, i) % 3);
                text[len] = 0;
                size_t n = twin_encode(&v, text, by_score, want);
                tok_ids ids = encode(t, str_make(text, len), OPTS(0));
                /* By score the file puts a space in front, which this vocabulary cannot write: one unknown. */
                size_t skip = by_score ? 1 : 0;
                assert_int_equal(ids.n, n + skip);
                for (size_t i = 0; i < n; i++)
                    assert_int_equal(ids.ids[i + skip], want[i] + (by_score ? 3 : 0));
                tok_ids_deinit(&ids);
                n_long += len > 32;
            }
            tok_unref(t);
        }
    assert_true(n_long > 1000);
}

/* ── Unigram against all ways to cut a word ── */
static double best_path(const twin *v, const char *text, size_t len) {
    double best[64];
    best[0] = 0;
    for (size_t end = 1; end <= len; end++) {
        best[end] = -INFINITY;
        for (int id = 0; id < v->n; id++) {
            size_t n = strlen(v->text[id]);
            if (n <= end && memcmp(text + end - n, v->text[id], n) == 0)
                best[end] = fmax(best[end], best[end - n] + (double)v->score[id]);
        }
    }
    return best[len];
}

static void unigram_takes_the_best_path(void **state) {
    (void)state;
    for (uint64_t seed = 0; seed < 60; seed++) {
        twin v = random_vocab(seed);
        buf b = {0};
        buf_append_cstr(&b,
                        "{\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[[\"<unk>\",0]");
        for (int i = 0; i < v.n; i++) {
            v.score[i] = -(float)(1 + rng_at(seed, 7000 + (uint64_t)i) % 1000) / 64;
            buf_printf(&b, ",[\"%s\",%.9g]", v.text[i], (double)v.score[i]);
        }
        buf_append_cstr(&b, "]}}");
        tok *t = load_json(b.ptr);
        buf_deinit(&b);
        for (uint64_t k = 0; k < 40; k++) {
            char text[64];
            size_t len = 1 + rng_at(seed, 9000 + k) % 50;
            for (size_t i = 0; i < len; i++) text[i] = (char)('a' + rng_at(seed * 100 + k, i) % 3);
            tok_ids ids = encode(t, str_make(text, len), OPTS(0));
            double score = 0;
            buf back = {0};
            for (size_t i = 0; i < ids.n; i++) score += (double)v.score[ids.ids[i] - 1];
            tok_decode(t, ids.ids, ids.n, (tok_decode_opts){0}, &back);
            assert_true(str_eq(buf_str(&back), str_make(text, len)));
            assert_true(fabs(score - best_path(&v, text, len)) < 1e-9);
            buf_deinit(&back);
            tok_ids_deinit(&ids);
        }
        EXPECT(t, "xyz", OPTS(0), 0); /* unknown characters in a row are one */
        EXPECT(t, "x\xFFz", OPTS(0), 0);
        tok_unref(t);
    }
}

/* ── Hugging Face's parts ── */
#define ABC_VOCAB \
    "\"a\":0,\"b\":1,\"c\":2,\"\u2581\":3,\"\u2581a\":4,\"<unk>\":5,\"1\":6,\"2\":7,\".\":8,\"12\":9,\"ab\":10"
#define ABC_MODEL                                                               \
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{" ABC_VOCAB \
    "},\"merges\":[\"\u2581 a\",\"1 2\",\"a b\"]}"

static void pre_tokenizers_cut(void **state) {
    (void)state;
    static const struct {
        const char *parts, *text;
        int n;
        int32_t ids[12];
    } rows[] = {
        {"\"pre_tokenizer\":{\"type\":\"Digits\",\"individual_digits\":true}", "12", 2, {6, 7}},
        {"\"pre_tokenizer\":{\"type\":\"Digits\"}", "12", 1, {9}},
        {"\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"}", " a  b ", 2, {0, 1}},
        {"\"pre_tokenizer\":{\"type\":\"Whitespace\"}", "ab. 12", 3, {10, 8, 9}},
        {"\"pre_tokenizer\":{\"type\":\"Metaspace\"}", "a a", 2, {4, 4}},
        {"\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"never\"}",
         "a a",
         2,
         {0, 4}},
        {"\"pre_tokenizer\":{\"type\":\"Metaspace\",\"prepend_scheme\":\"first\"}",
         "a a",
         2,
         {4, 4}},
        {"\"pre_tokenizer\":{\"type\":\"Metaspace\"}", " a", 1, {4}},
        {"\"pre_tokenizer\":{\"type\":\"Punctuation\"}", "a.b", 3, {0, 8, 1}},
        {"\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Removed\"}",
         "cabac",
         3,
         {2, 1, 2}},
        {"\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"MergedWithNext\"}",
         "cab",
         2,
         {2, 10}},
        {"\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"MergedWithPrevious\"}",
         "cab",
         3,
         {2, 0, 1}},
        {"\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[ab]+\"},\"behavior\":\"Isolated\",\"invert\":true}",
         "cabc",
         3,
         {2, 10, 2}},
        {"\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"[0-9]\"},\"behavior\":\"Contiguous\"}",
         "a12a",
         3,
         {0, 9, 0}},
        {"\"normalizer\":{\"type\":\"Lowercase\"}", "AB", 1, {10}},
        {"\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFD\"},{\"type\":\"StripAccents\"}]}",
         "\xC3\xA1"
         "b",
         1,
         {10}},
        {"\"normalizer\":{\"type\":\"NFKC\"}", "\xE2\x91\xAB", 1, {9}}, /* circled twelve */
        {"\"normalizer\":{\"type\":\"Strip\"}", " \n a\t", 1, {0}},
        {"\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"x+\"},\"content\":\"a\"}",
         "xxxb",
         1,
         {10}},
        {"\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\" \"},\"content\":\"\u2581\"}",
         " a a",
         2,
         {4, 4}},
        {"\"decoder\":{\"type\":\"Metaspace\"}",
         "\u2581"
         "aq",
         2,
         {4, 5}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char json[2000];
        snprintf(json, sizeof json, "{%s," ABC_MODEL "}", rows[i].parts);
        tok *t = load_json(json);
        expect(t, rows[i].text, OPTS(0), (size_t)rows[i].n, rows[i].ids);
        tok_unref(t);
    }
}

static void wordpiece_from_json(void **state) {
    (void)state;
    tok *t = load_json(
        "{\"normalizer\":{\"type\":\"BertNormalizer\"},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"},"
        "\"post_processor\":{\"type\":\"BertProcessing\",\"sep\":[\"[SEP]\",2],\"cls\":[\"[CLS]\",1]},"
        "\"added_tokens\":[" ADDED(1, "[CLS]", "\"special\":true") "," ADDED(
            2, "[SEP]",
            "\"special\":true") "],"
                                "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":{\"[UNK]\":0,\"[CLS]\":1,"
                                "\"[SEP]\":2,\"hell\":3,\"##o\":4,\"o\":5,\"!\":6,\"##hell\":7}}}");
    EXPECT(t, "H\xC3\xA9llo o!", OPTS(.add_bos = true, .add_eos = true), 1, 3, 4, 5, 6, 2);
    EXPECT(t, "ohell xo", OPTS(0), 5, 7, 0);
    buf b = {0};
    tok_decode(t, (int32_t[]){3, 4, 5, 6}, 4, (tok_decode_opts){.strip_first_space = true}, &b);
    assert_string_equal(b.ptr, "hello o !");
    buf_deinit(&b);
    tok_unref(t);
}

/* ── Decoding ── */

/* Replaces ill-formed sequences by U+FFFD, one for each maximal subpart, by the table of the standard. */
static void scrub(str s, buf *out) {
    const unsigned char *p = (const unsigned char *)s.ptr;
    for (size_t i = 0; i < s.len;) {
        unsigned char lead = p[i], lo = 0x80, hi = 0xBF;
        size_t need = lead < 0x80   ? 1
                      : lead < 0xC2 ? 0
                      : lead < 0xE0 ? 2
                      : lead < 0xF0 ? 3
                      : lead < 0xF5 ? 4
                                    : 0,
               n = 1;
        if (lead == 0xE0) lo = 0xA0;
        if (lead == 0xED) hi = 0x9F;
        if (lead == 0xF0) lo = 0x90;
        if (lead == 0xF4) hi = 0x8F;
        for (; n < need && i + n < s.len && p[i + n] >= lo && p[i + n] <= hi; n++)
            lo = 0x80, hi = 0xBF;
        if (n == need)
            buf_append(out, p + i, n);
        else
            buf_append_utf8(out, 0xFFFD);
        i += n;
    }
}

static void check_stream(const tok *t, const int32_t *ids, size_t n, tok_decode_opts opts) {
    buf whole = {0}, want = {0}, got = {0};
    tok_decode(t, ids, n, opts, &whole);
    scrub(buf_str(&whole), &want);
    tok_stream s;
    tok_stream_init(&s, t, opts);
    for (size_t i = 0; i < n; i++) {
        size_t before = got.len;
        tok_stream_push(&s, ids[i], &got);
        assert_true(utf8_is_valid(str_make(got.ptr + before, got.len - before)));
    }
    tok_stream_flush(&s, &got);
    assert_true(str_eq(buf_str(&got), buf_str(&want)));
    buf_deinit(&whole);
    buf_deinit(&want);
    buf_deinit(&got);
}

static void streams_say_what_decode_says(void **state) {
    (void)state;
    tok *t = tiny_vocab_harmony();
    size_t n_vocab = (size_t)tok_n_vocab(t);
    for (uint64_t seed = 0; seed < 5000; seed++) {
        int32_t ids[64];
        size_t n = rng_at(seed, 1000) % 64;
        /* Half the runs are bytes that make and break characters. */
        static const unsigned char edges[] = {0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98, 0x80, 0xC3,
                                              0xA9, 0xED, 0xA0, 0xE0, 0xF4, 0x90, 'a',  0xFF};
        for (size_t i = 0; i < n; i++) {
            uint64_t r = rng_at(seed, i);
            ids[i] = (int32_t)(seed % 2 ? edges[r % sizeof edges] : r % (n_vocab + 2)) -
                     (int32_t)(r % 97 == 0);
        }
        check_stream(t, ids, n, (tok_decode_opts){.skip_special = seed % 3 == 0});
    }
    tok_unref(t);
}

static void the_first_space_goes_once(void **state) {
    (void)state;
    tok *t = load_json("{\"added_tokens\":[" ADDED(
        5, "<unk>", "\"special\":true") "],\"decoder\":{\"type\":\"Metaspace\"},"
                                        "\"pre_tokenizer\":{\"type\":\"Metaspace\"}," ABC_MODEL
                                        "}");
    static const struct {
        bool skip, strip;
        const char *want;
    } rows[] = {{false, false, "<unk> a ab"},
                {true, false, " a ab"},
                {false, true, "<unk>a ab"},
                {true, true, "a ab"}};
    for (size_t i = 0; i < 4; i++) {
        buf b = {0};
        int32_t ids[] = {5, 4, 4, 1};
        tok_decode_opts opts = {.skip_special = rows[i].skip, .strip_first_space = rows[i].strip};
        tok_decode(t, ids, 4, opts, &b);
        assert_string_equal(b.ptr, rows[i].want);
        check_stream(t, ids, 4, opts);
        buf_deinit(&b);
    }
    tok_unref(t);
}

static void bytes_come_back(void **state) {
    (void)state;
    tok *t = tiny_vocab_harmony();
    for (uint64_t seed = 0; seed < 3000; seed++) {
        char text[80];
        size_t n = rng_at(seed, 1000) % sizeof text;
        for (size_t i = 0; i < n; i++) {
            uint64_t r = rng_at(seed, i);
            text[i] = (char)(r & 1 ? r >> 8 : (uint64_t) "hello a<|end|>"[(r >> 8) % 14]);
        }
        tok_ids ids = encode(t, str_make(text, n), OPTS(.parse_special = seed % 2));
        buf back = {0};
        tok_decode(t, ids.ids, ids.n, (tok_decode_opts){0}, &back);
        assert_true(str_eq(buf_str(&back), str_make(text, n)));
        buf_deinit(&back);
        tok_ids_deinit(&ids);
    }
    tok_unref(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remembering_changes_nothing),
        cmocka_unit_test(special_tokens_need_leave),
        cmocka_unit_test(only_trusted_text_is_special),
        cmocka_unit_test(added_tokens_strip_and_stand_alone),
        cmocka_unit_test(merging_follows_its_definition),
        cmocka_unit_test(unigram_takes_the_best_path),
        cmocka_unit_test(pre_tokenizers_cut),
        cmocka_unit_test(wordpiece_from_json),
        cmocka_unit_test(streams_say_what_decode_says),
        cmocka_unit_test(the_first_space_goes_once),
        cmocka_unit_test(bytes_come_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
