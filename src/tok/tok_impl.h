/* What the files of this room share: the vocabulary as it lies in memory, and
 * the four stages of encoding (normal → split → merge/unigram → ids). Nobody
 * outside src/tok includes this.
 *
 * The bytes of a token ("piece") are kept decoded: byte-level alphabets are
 * undone, SentencePiece's ▁ is a space, <0xAB> is the byte. So encoding,
 * decoding and the tests all work on plain text.
 */
#ifndef TOK_TOK_IMPL_H
#define TOK_TOK_IMPL_H

#include "base/arena.h"
#include "tok/tok.h"

#include <stdatomic.h>

enum {
    TOK_MAX_VOCAB = 1 << 23,       /* the largest known vocabularies hold 2^18 */
    TOK_MAX_MERGES = 1 << 24,      /* … and half a million merges */
    TOK_MAX_PIECE_BYTES = 1 << 16, /* of one token */
    TOK_MAX_SPECIAL_BYTES = 1024   /* a longer special token is not looked for in text */
};
#define TOK_MAX_TEXT_BYTES ((size_t)1 << 31) /* of one tok_encode: symbols carry 32-bit offsets */

/* ── Characters (char.c) ── */
enum {
    C_LETTER = 1,    /* \p{L} */
    C_NUMBER = 2,    /* \p{N} */
    C_SPACE = 4,     /* Unicode White_Space */
    C_NEWLINE = 8,   /* \r \n */
    C_MARK = 16,     /* \p{M} */
    C_UPPERISH = 32, /* Lu Lt Lm Lo M */
    C_LOWERISH = 64, /* Ll Lm Lo M */
    C_PUNCT = 128,   /* \p{P} */
    C_SYMBOL = 256,  /* \p{S} */
    C_CONTROL = 512  /* Cc Cf Cn Co */
};
/* Class bits of a code point, from utf8proc's categories. */
unsigned char_class(uint32_t cp);
/* The character at s.ptr[at], at < s.len: its class and its bytes (1 for an ill-formed byte, which
 * has no class at all, like a symbol outside every category). */
typedef struct character {
    uint32_t cp;
    unsigned class;
    int len;
} character;
character char_at(str s, size_t at);

/* ── Normalising (normal.c) ── */
typedef enum normal_op {
    NORMAL_NFC,
    NORMAL_NFD,
    NORMAL_NFKC,
    NORMAL_NFKD,
    NORMAL_LOWER,
    NORMAL_STRIP,         /* white space off the ends: a = left, b = right */
    NORMAL_STRIP_ACCENTS, /* drops nonspacing marks */
    NORMAL_REPLACE,       /* from → to */
    NORMAL_REPLACE_RE,    /* regex → to */
    NORMAL_PREPEND,       /* to, in front of text that is not empty */
    NORMAL_CHARSMAP,      /* SentencePiece's precompiled rules, in `from` */
    NORMAL_SQUEEZE,       /* runs of spaces become one; none at the ends */
    NORMAL_BERT           /* control characters out, CJK apart: a = clean, b = CJK */
} normal_op;
typedef struct regex regex;
typedef struct normal_step {
    normal_op op;
    bool a, b;
    str from, to; /* in the tok's arena */
    regex *re;
} normal_step;

/* ── Splitting (split.c) ── */
typedef enum split_behaviour {
    SPLIT_ISOLATED,
    SPLIT_REMOVED,
    SPLIT_MERGED_PREVIOUS,
    SPLIT_MERGED_NEXT,
    SPLIT_CONTIGUOUS
} split_behaviour;
/* Finds the next match at or after `from`; false when there is none. */
typedef bool (*split_scan)(str text, size_t from, size_t *begin, size_t *end);
typedef enum split_op {
    SPLIT_SCAN, /* a hand-written scanner */
    SPLIT_REGEX,
    SPLIT_STRING,
    SPLIT_DIGIT_GROUPS, /* before every three digits counted from the right */
    SPLIT_ALPHABET,     /* bytes → byte-level alphabet, for steps that want to see that */
    SPLIT_PREFIX_SPACE, /* puts a space in front when there is none */
    SPLIT_METASPACE /* ' ' → ▁ and a ▁ in front: a = of every text, b = of the first only */
} split_op;
typedef struct split_step {
    split_op op;
    split_behaviour behaviour;
    bool invert;
    bool a, b;
    split_scan scan;
    regex *re;
    str text;
} split_step;

/* A compiled pattern; its classes agree with char_class except for characters newer than PCRE2's
 * Unicode. Shared by threads. */
regex *regex_compile(str pattern, error *err);
void regex_free(regex *re);
/* One per encoding call. */
typedef struct regex_scratch {
    void *match, *stack, *context;
    bool failed; /* memory ran out: what was not found may be there */
} regex_scratch;
void regex_scratch_deinit(regex_scratch *s);
/* text must be well-formed UTF-8. */
bool regex_find(const regex *re, regex_scratch *s, str text, size_t from, size_t *begin,
                size_t *end);
/* The scanner that does what this pattern says, or NULL. */
split_scan split_find_scanner(str pattern);
/* Named scanners for pre-tokenizers that have no pattern. */
bool split_scan_number(str, size_t, size_t *, size_t *);  /* \p{N} */
bool split_scan_numbers(str, size_t, size_t *, size_t *); /* \p{N}+ */
bool split_scan_punct(str, size_t, size_t *, size_t *);   /* ASCII or Unicode punctuation, one */
bool split_scan_space(str, size_t, size_t *, size_t *);   /* white space, one */
bool split_scan_words(str, size_t, size_t *, size_t *);   /* \w+|[^\w\s]+ */

/* ── The vocabulary ── */
enum { /* flags of a token */
       T_CONTROL = 1,
       T_USER = 2,
       T_UNKNOWN = 4,
       T_BYTE = 8,
       T_UNUSED = 16,
       T_END = 32,
       T_LSTRIP = 64,
       T_RSTRIP = 128,
       T_SINGLE_WORD = 256,
       T_SPECIAL = T_CONTROL | T_USER | T_UNKNOWN
};
typedef struct merge {
    int32_t left, right, id;
} merge;

typedef enum merge_order {
    MERGE_BY_RANK,  /* `merges`: the earlier line first */
    MERGE_BY_SCORE, /* any two symbols that spell a token: the higher score first */
    MERGE_BY_ID     /* …: the lower id first (tiktoken) */
} merge_order;

typedef enum model_kind { MODEL_BPE, MODEL_UNIGRAM, MODEL_WORDPIECE } model_kind;

struct tok {
    atomic_int refs;
    arena mem; /* all below that is not a heap array */
    model_kind model;
    tok_kind kind;

    int32_t n;        /* ids 0 … n−1 */
    char *blob;       /* all pieces, one after the other */
    uint32_t *at;     // [n + 1] offsets into blob
    uint16_t *flags;  // [n]
    float *scores;    // [n], or NULL
    size_t max_piece; /* bytes of the longest ordinary token */

    uint32_t *slots; // [mask + 1] ordinary tokens by their bytes (see vocab.c), 0 = free
    uint32_t mask;
    merge *merges; // [n_merges], rank is the index
    uint32_t n_merges;
    uint32_t *merge_slots; // [merge_mask + 1] index + 1 by (left, right)
    uint32_t merge_mask;
    uint64_t *pairs; // [1024] bit (a << 8 | b): byte b follows byte a inside some ordinary token
    int32_t *sorted; // [n_sorted] ordinary tokens by bytes, for prefix search (unigram, wordpiece)
    int32_t n_sorted;
    uint32_t sorted_first[257]; /* where each first byte begins in sorted */

    int32_t byte_id[256]; /* the token of one byte: the alphabet, or the fallback; −1 = none */
    merge_order order;
    bool byte_level;  /* symbols start as bytes, else as characters */
    bool alphabet;    /* pieces reach the model in the byte-level alphabet */
    bool whole_first; /* a piece that is a token needs no merging */
    bool fuse_unknown;
    bool underline;    /* ▁ in normalised text means a space */
    bool space_prefix; /* a space goes before text that follows nothing or a special token */
    bool unsplit;      /* no pre-tokeniser: the text may be cut where no token reaches across */
    bool float_sums;   /* unigram: what has been added up is kept as a float */
    bool
        words_inside; /* user-defined words belong to the text around them, as SentencePiece has it */
    float unknown_score;

    normal_step *normal;
    int n_normal;
    split_step *split;
    int n_split;

    int32_t *specials; // [n_specials] control, user-defined and unknown tokens by bytes
    int32_t n_specials;
    uint32_t special_first[257];

    int32_t bos, eos, unknown, sep;
    bool add_bos, add_eos;
    bool strips_first_space; /* decoding takes the first space away again */
};

static inline str piece_of(const tok *t, int32_t id) {
    return str_make(t->blob + t->at[id], t->at[id + 1] - t->at[id]);
}

/* ── Building (vocab.c) ── */
/* How token texts of the source become bytes. */
typedef enum text_form { TEXT_PLAIN, TEXT_BYTE_LEVEL, TEXT_UNDERLINE } text_form;
tok *vocab_new(error *err);
/* Reserves ids 0 … n−1. Then vocab_set in ascending order of id, then vocab_finish. */
bool vocab_reserve(tok *t, size_t n, error *err);
typedef struct vocab_builder {
    tok *t;
    buf blob;
    int32_t next;
    text_form form;
    error *err;
} vocab_builder;
bool vocab_add(vocab_builder *b, str text, unsigned flags);
/* For sources that give ids in any order: entries[n], those without text are left empty and unused. */
typedef struct vocab_entry {
    str text;
    unsigned flags;
    bool set;
} vocab_entry;
bool vocab_add_entries(vocab_builder *b, const vocab_entry *entries, size_t n);
/* A byte as the character that stands for it in the byte-level alphabet. */
uint32_t vocab_byte_character(unsigned char byte);
/* Written like markup: <…> or […]. Such a user-defined token speaks to the model and is never spelt by
 * ordinary text. */
bool vocab_is_markup(str piece);
/* Base64 (padding optional) → bytes; false when it is not that. */
bool vocab_base64(str text, buf *out);
/* Takes the pieces over and builds the look-up tables. */
bool vocab_finish(vocab_builder *b);
/* Room for n merges. A merge whose parts or whole are not tokens is left out (false). `tmp` is scratch
 * that the caller keeps from one to the next. */
bool vocab_reserve_merges(tok *t, size_t n, error *err);
bool vocab_add_merge(tok *t, buf *tmp, str left, str right, text_form form);
bool vocab_finish_merges(tok *t, error *err);
/* Names that end a turn wherever they are special, and lists for special tokens. Last step of a load. */
bool vocab_finish_specials(tok *t, error *err);
/* The ordinary token with these bytes, or −1. */
int32_t vocab_find(const tok *t, str bytes);
/* Index of the merge of two symbols, or UINT32_MAX. */
uint32_t vocab_find_merge(const tok *t, int32_t left, int32_t right);
/* The special or unknown token whose text is exactly this, or −1. */
int32_t vocab_find_special(const tok *t, str text);
/* Narrows [*lo, *hi) of a list sorted by bytes to those with `byte` at offset `depth`. */
void vocab_narrow(const tok *t, const int32_t *list, uint32_t *lo, uint32_t *hi, size_t depth,
                  unsigned char byte);
/* Byte-level text → bytes; false when a character is not in the alphabet (then out is unchanged). */
bool vocab_byte_decode(str text, buf *out);

/* Patterns of the pre-tokeniser that GGUF names; sets t->split and the quirks of the family. */
bool presets_apply(tok *t, str name, error *err);
bool split_add_pattern(tok *t, str pattern, split_behaviour behaviour, bool invert, error *err);
split_step *split_add(tok *t, error *err);
normal_step *normal_add(tok *t, error *err);

/* ── Encoding ── */
typedef struct scratch {
    const tok *t;
    tok_ids *out;
    regex_scratch re;
    buf norm[2]; /* ping and pong */
    buf model;   /* a piece with ▁ undone */
    buf safe;    /* text for the regex with ill-formed bytes replaced */
    void *symbols, *heap;
    size_t cap_symbols, cap_heap;
    bool first; /* nothing of this call has been encoded yet */
    buf joined; /* normalised stretches and the words between them, for a unigram to choose from */
    bool goes_on, is_cut; /* words_inside: such a word stands in front of this stretch; behind it */
    bool bars_markup; /* only places that are trusted have words like <…>; those are cut out */
    bool failed;
} scratch;

/* The ids of this stretch, appended to s->out with s->first as encoding it would leave it; false when
 * it is not known. And what encoding it gave: the ids from s->out[from] on. (cache.c) */
bool cache_find(tok_cache *c, scratch *s, str text);
void cache_keep(tok_cache *c, const scratch *s, str text, bool was_first, size_t from);

/* Normalised copy, or the text itself; lives in s until the next call. */
str normal_apply(scratch *s, str text);
/* Cuts text and hands the pieces to model_encode. */
void split_encode(scratch *s, str text);
/* Appends the ids of one piece. */
void model_encode(scratch *s, str piece);
void merge_encode(scratch *s, str piece);
void unigram_encode(scratch *s, str piece);
void wordpiece_encode(scratch *s, str piece);
/* A character no token covers: its bytes' tokens, else unknown. */
void push_unknown(scratch *s, str bytes);

/* Room for n items of size bytes in a block kept between pieces; NULL and s->failed when memory ran out. */
void *scratch_reserve(scratch *s, void **block, size_t *cap, size_t n, size_t size);

#endif
