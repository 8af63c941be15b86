/* Text ↔ token ids. Loads the vocabulary of a GGUF file (byte-level BPE with
 * the pre-tokeniser named there, SentencePiece BPE and unigram with byte
 * fallback), of a Hugging Face tokenizer.json, and of a tiktoken rank file.
 *
 * Threads: a tok is immutable after loading and shared freely; encoding keeps
 * its scratch in a caller's tok_scratch or on the heap of the call.
 * Time: linear in the text, also for one endless word.
 */
#ifndef TOK_TOK_H
#define TOK_TOK_H

#include "base/buf.h"
#include "base/error.h"
#include "base/str.h"
#include "file/file.h"

typedef struct tok tok;

typedef enum tok_kind { TOK_BPE, TOK_SPM, TOK_UNIGRAM, TOK_WORDPIECE } tok_kind;

/* A growable list of ids; zero-initialise, free with tok_ids_deinit. Fails stickily like buf. */
typedef struct tok_ids {
    int32_t *ids;
    size_t n, cap;
    bool failed;
} tok_ids;
void tok_ids_deinit(tok_ids *v);
void tok_ids_push(tok_ids *v, int32_t id);
void tok_ids_append(tok_ids *v, const int32_t *ids, size_t n);

tok *tok_load(const file *f, error *err);
tok *tok_load_hf(str tokenizer_json, error *err);
/* "base64 rank" lines plus special tokens; `pattern_name` as GGUF's tokenizer.ggml.pre ("gpt-4o"). */
typedef struct tok_special {
    str text;
    int32_t id;
} tok_special;
tok *tok_load_tiktoken(str ranks, const char *pattern_name, const tok_special *special,
                       size_t n_special, error *err);
/* o200k_harmony: the o200k_base ranks with harmony's 1,091 special tokens (ids up to 201088). */
tok *tok_load_harmony(str o200k_ranks, error *err);
/* SentencePiece's own model file (a protobuf), BPE or unigram. Its user-defined words are whole parts of the
 * text around them: no space is put in front of what follows one. (Those with a space in them are
 * taken where they stand; SentencePiece itself never finds them.) */
tok *tok_load_sentencepiece(str model, error *err);
/* llama2.c's tokenizer.bin: scores and texts, ids 1 and 2 are <s> and </s>. */
tok *tok_load_llama2c(str bytes, error *err);
/* Shared ownership: the engine and every request that is alive hold one reference. */
tok *tok_ref(tok *t);
void tok_unref(tok *t);

int32_t tok_n_vocab(const tok *t);
tok_kind tok_get_kind(const tok *t);
/* Special ids, or -1 where the vocabulary has none. */
int32_t tok_bos(const tok *t);
int32_t tok_eos(const tok *t);
bool tok_adds_bos(const tok *t); /* what the file asks for at the start of a raw prompt */
bool tok_adds_eos(const tok *t);
/* The id whose text is exactly this special/control/user-defined token, or -1. */
int32_t tok_find_special(const tok *t, str text);
bool tok_is_special(const tok *t, int32_t id); /* control or user-defined: shown only on request */
bool tok_is_hidden(const tok *t, int32_t id);  /* what tok_decode leaves out with skip_special */
/* Ends generation: eos, eot and their kin as the file or well-known names say. For harmony:
 * <|return|>, <|call|> and <|endoftext|>, never <|end|>. */
bool tok_is_end(const tok *t, int32_t id);
/* The id's own bytes (special tokens: their text); borrowed; empty for an id out of range. Byte-level
 * and byte-fallback tokens give the raw byte, which need not be UTF-8. SentencePiece's ▁ is a space. */
str tok_piece(const tok *t, int32_t id);

typedef struct tok_span {
    size_t begin, end;
} tok_span; /* byte offsets, half-open */

typedef struct tok_cache tok_cache;

typedef struct tok_encode_opts {
    bool add_bos, add_eos; /* only where the vocabulary has them */
    bool
        parse_special; /* the text of a control token becomes its id …; user-defined tokens always do … */
    const tok_span *trusted; /* … but, when not NULL, only where it lies wholly inside one of these
                                sorted, disjoint spans (what a template wrote, not what a user said). User-defined
                                tokens obey the spans when written like markup, <…> or […]; others, such as
                                runs of spaces, are words and match everywhere */
    size_t n_trusted;
    tok_cache *cache; /* remembered stretches of text, or NULL; the ids are the same either way */
} tok_encode_opts;

/* Appends to out. Ill-formed UTF-8 is encoded byte by byte. False only when memory ran out. */
bool tok_encode(const tok *t, str text, tok_encode_opts opts, tok_ids *out, error *err);
/* Appends the text of the ids. skip_special drops control tokens. SentencePiece drops the space it
 * put before the first word when `strip_first_space`. */
typedef struct tok_decode_opts {
    bool skip_special, strip_first_space;
} tok_decode_opts;
void tok_decode(const tok *t, const int32_t *ids, size_t n, tok_decode_opts opts, buf *out);

/* ── Remembered encodings ──
 * Special tokens cut a text into stretches that are encoded apart, and a stretch's ids depend on its
 * bytes alone (and on whether it is the first). So a conversation that grew by one turn needs only
 * that turn encoded: the other stretches come from here. A stretch is compared byte for byte, never by
 * its hash alone.
 *
 * Fixed memory, all of it taken (and touched) by tok_cache_new: two halves of max_bytes / 2. What was
 * not used while a half filled up goes. Belongs to one tok. Any thread. */
tok_cache *tok_cache_new(size_t max_bytes, error *err);
void tok_cache_free(tok_cache *c);
size_t tok_cache_plan_bytes(size_t max_bytes); /* what tok_cache_new takes */
typedef struct tok_cache_stats {
    uint64_t n_encoded_bytes, n_remembered_bytes; /* of text, since tok_cache_new */
} tok_cache_stats;
tok_cache_stats tok_cache_get_stats(tok_cache *c);

/* ── Streaming detokeniser ──
 * Pushing ids one by one and flushing emits the same bytes as tok_decode of all of them with
 * ill-formed bytes replaced by U+FFFD, and never half a character in one piece. No allocation. */
typedef struct tok_stream {
    const tok *t;
    tok_decode_opts opts;
    bool started;
    unsigned char tail[4]; /* an unfinished character */
    int n_tail;
} tok_stream;
void tok_stream_init(tok_stream *s, const tok *t, tok_decode_opts opts);
/* Appends what can be shown now. */
void tok_stream_push(tok_stream *s, int32_t id, buf *out);
void tok_stream_flush(tok_stream *s, buf *out);

#endif
