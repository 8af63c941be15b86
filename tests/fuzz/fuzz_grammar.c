/* Any bytes as a schema, a pattern, a GBNF and a Lark grammar (the first byte chooses): compiling ends in a
 * grammar or in one sentence; a grammar then reads the rest of the bytes without harm, and what is written under it in little room, token
 * by token, has no dead end and is in its language. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "sample/grammar.h"

#include "base/hash.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Every byte is a token, and one ends the text. */
static grammar_vocab *bytes_vocab(tok **t) {
    static const char DIGITS[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    buf ranks = {0};
    for (int c = 0; c < 256; c++)
        buf_printf(&ranks, "%c%c== %d\n", DIGITS[c >> 2], DIGITS[(c & 3) << 4], c);
    *t = tok_load_tiktoken(buf_str(&ranks), "gpt-4o", &(tok_special){STR("<|endoftext|>"), 256}, 1,
                           NULL);
    buf_deinit(&ranks);
    grammar_vocab *v = *t ? grammar_vocab_new(*t, NULL) : NULL;
    if (!v) abort();
    return v;
}

static void write_in_room(const grammar *g, uint64_t seed) {
    enum { MOST = 200 };
    static tok *t;
    static grammar_vocab *v;
    if (!v) v = bytes_vocab(&t);
    matcher *m = matcher_new(g, v, (matcher_options){0}, NULL);
    buf text = {0};
    int64_t room = m ? (int64_t)matcher_left(m) + (int64_t)(seed % 40) : MOST + 1;
    for (int64_t i = 0; room <= MOST && i < room && !matcher_is_done(m); i++) {
        matcher_hurry(m, room - i, -1);
        const uint64_t *mask = matcher_mask(m);
        if (matcher_failed(m)) break;
        int32_t id = (int32_t)(rng_at(seed, (uint64_t)i) % 257), from = id;
        while (!(mask[id >> 6] >> (id & 63) & 1))
            if ((id = (id + 1) % 257) == from) abort(); /* a dead end */
        if (!matcher_accept(m, id)) abort();
        if (!tok_is_end(t, id)) buf_append_char(&text, (char)id);
    }
    if (room <= MOST && !matcher_failed(m) && (matcher_is_done(m) || matcher_can_end(m))) {
        matcher *reader = matcher_new(g, NULL, (matcher_options){.exact = true}, NULL);
        size_t n = reader ? matcher_push(reader, buf_str(&text)) : 0;
        if (reader && !matcher_failed(reader) && (n < text.len || !matcher_can_end(reader)))
            abort();
        matcher_free(reader);
    }
    buf_deinit(&text);
    matcher_free(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    if (size < 2 || size > 4096) return 0;
    str text = {(const char *)bytes + 1, size - 1};
    error err = {0};
    grammar *g = NULL;
    json_t *schema = NULL;
    switch (bytes[0] % 4) {
    case 0:
        schema = json_parse(text, NULL);
        if (!json_is_object(schema)) {
            json_decref(schema);
            return 0;
        }
        g = grammar_from_schema(schema, NULL, &err);
        break;
    case 1: g = grammar_from_regex(text, "p", &err); break;
    case 2: g = grammar_from_gbnf(text, "p", &err); break;
    default: g = grammar_from_lark(text, "p", &err); break;
    }
    if (!g && (!error_is_set(&err) || !err.message[0] || err.code == ERR_INTERNAL)) abort();
    if (g) {
        error e = {0};
        matcher *m = matcher_new(g, NULL, (matcher_options){.exact = bytes[0] & 4}, &e);
        /* Also how far the end is, wherever it stands. */
        for (size_t i = 0; m && i < text.len; i++) {
            if (matcher_left(m) > 1u << 28) abort();
            if (!matcher_push(m, str_make(text.ptr + i, 1))) break;
        }
        matcher_free(m);
    }
    if (g) write_in_room(g, hash_bytes(bytes, size, 0));
    grammar_unref(g);
    json_decref(schema);
    return 0;
}
