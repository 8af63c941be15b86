#include "tiny_vocab.h"

#include <stdio.h>
#include <stdlib.h>

#include "gguf_builder.h"

/* The visible stand-in of a byte in byte-level vocabularies: printable Latin-1 is itself, the rest
 * counts up from U+0100. */
static void append_byte_char(buf *b, int byte) {
    int hidden = 0;
    for (int i = 0; i <= byte; i++) {
        bool visible = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
        if (i == byte) buf_append_utf8(b, visible ? (uint32_t)i : (uint32_t)(256 + hidden));
        if (!visible) hidden++;
    }
}

tok *tiny_vocab_new(const char *const *special, size_t n_special, int32_t bos, int32_t eos) {
    static const char *const WORDS[TINY_N_WORDS] = {"he", "ll", "hell",
                                                    "\xC4\xA0"
                                                    "a"};
    static const char *const MERGES[TINY_N_WORDS] = {"h e", "l l", "he ll", "\xC4\xA0 a"};
    str tokens[512], merges[TINY_N_WORDS];
    int32_t types[512];
    buf bytes[256] = {0};
    gguf_builder g;
    buf image = {0};
    error err = {0};
    if (TINY_SPECIAL + n_special > 512) abort();
    for (int i = 0; i < 256; i++) {
        append_byte_char(&bytes[i], i);
        tokens[i] = buf_str(&bytes[i]);
        types[i] = 1;
    }
    for (int i = 0; i < TINY_N_WORDS; i++) {
        tokens[TINY_WORDS + i] = str_from(WORDS[i]);
        merges[i] = str_from(MERGES[i]);
        types[TINY_WORDS + i] = 1;
    }
    for (size_t i = 0; i < n_special; i++) {
        tokens[TINY_SPECIAL + i] = str_from(special[i]);
        types[TINY_SPECIAL + i] = 3;
    }
    gguf_builder_init(&g);
    gguf_put_str(&g, "tokenizer.ggml.model", "gpt2");
    gguf_put_str(&g, "tokenizer.ggml.pre", "gpt-2");
    gguf_put_strs(&g, "tokenizer.ggml.tokens", TINY_SPECIAL + n_special, tokens);
    gguf_put_array(&g, "tokenizer.ggml.token_type", FILE_I32, TINY_SPECIAL + n_special, types);
    gguf_put_strs(&g, "tokenizer.ggml.merges", TINY_N_WORDS, merges);
    if (bos >= 0) gguf_put_u32(&g, "tokenizer.ggml.bos_token_id", (uint32_t)bos);
    if (eos >= 0) gguf_put_u32(&g, "tokenizer.ggml.eos_token_id", (uint32_t)eos);
    tok *t = NULL;
    file *f = gguf_builder_render(&g, &image) ? file_open_memory(image.ptr, image.len, "tiny", &err)
                                              : NULL;
    if (f) t = tok_load(f, &err);
    if (!t) {
        fprintf(stderr, "tiny_vocab: %s\n", err.message);
        abort();
    }
    file_close(f);
    buf_deinit(&image);
    gguf_builder_deinit(&g);
    for (int i = 0; i < 256; i++) buf_deinit(&bytes[i]);
    return t;
}

tok *tiny_vocab_harmony(void) {
    static const char *const SPECIAL[] = {
        "<|endoftext|>", "<|return|>",  "<|constrain|>", "<|channel|>",    "<|start|>",
        "<|end|>",       "<|message|>", "<|call|>",      "<|reserved_0|>",
    };
    return tiny_vocab_new(SPECIAL, sizeof SPECIAL / sizeof *SPECIAL, -1, TINY_RETURN);
}
