/* The vocabulary in memory: pieces in one blob, open-addressed look-up tables
 * over it, merges by pair, and what the accessors of tok.h say about an id.
 * Loaders feed it token by token; everything they feed is hostile.
 */
#include "base/hash.h"
#include "tok/tok_impl.h"

#include <assert.h>
#include <stdlib.h>

/* ── Byte-level alphabet (GPT-2) ──
 * Printable Latin-1 stands for itself, every other byte for U+0100 + its rank among the others. */
static bool stands_for_itself(unsigned byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

static int alphabet_byte(uint32_t cp) {
    if (cp < 0x100) return stands_for_itself(cp) ? (int)cp : -1;
    if (cp < 0x121) return (int)(cp - 0x100);        /* 00 … 20 */
    if (cp < 0x143) return (int)(cp - 0x121 + 0x7F); /* 7F … A0 */
    return cp == 0x143 ? 0xAD : -1;
}

uint32_t vocab_byte_character(unsigned char byte) {
    if (stands_for_itself(byte)) return byte;
    if (byte < 0x21) return 0x100u + byte;
    return byte == 0xAD ? 0x143 : 0x121u + byte - 0x7F;
}

bool vocab_byte_decode(str text, buf *out) {
    size_t was = out->len;
    for (size_t i = 0; i < text.len;) {
        uint32_t cp;
        int n = utf8_decode(text, i, &cp);
        int byte = n ? alphabet_byte(cp) : -1;
        if (byte < 0) {
            out->len = was;
            return false;
        }
        buf_append_char(out, (char)byte);
        i += (size_t)n;
    }
    return true;
}

static void append_underline(str text, buf *out) {
    static const str mark = {"\xE2\x96\x81", 3};
    for (size_t i = 0; i < text.len;) {
        ptrdiff_t hit = str_find(text, mark, i);
        size_t end = hit < 0 ? text.len : (size_t)hit;
        buf_append(out, text.ptr + i, end - i);
        if (hit < 0) return;
        buf_append_char(out, ' ');
        i = end + mark.len;
    }
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

/* "<0xAB>" → 0xAB, else −1 */
static int byte_token_value(str text) {
    if (text.len != 6 || memcmp(text.ptr, "<0x", 3) != 0 || text.ptr[5] != '>') return -1;
    int hi = hex_digit(text.ptr[3]), lo = hex_digit(text.ptr[4]);
    return hi < 0 || lo < 0 ? -1 : hi << 4 | lo;
}

/* ── Life ── */
tok *vocab_new(error *err) {
    tok *t = calloc(1, sizeof *t);
    if (!t) {
        error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for a tokenizer.");
        return NULL;
    }
    atomic_init(&t->refs, 1);
    arena_init(&t->mem, 0);
    t->bos = t->eos = t->unknown = t->sep = -1;
    for (int i = 0; i < 256; i++) t->byte_id[i] = -1;
    return t;
}

tok *tok_ref(tok *t) {
    if (t) atomic_fetch_add_explicit(&t->refs, 1, memory_order_relaxed);
    return t;
}

void tok_unref(tok *t) {
    if (!t || atomic_fetch_sub_explicit(&t->refs, 1, memory_order_acq_rel) != 1) return;
    for (int i = 0; i < t->n_normal; i++) regex_free(t->normal[i].re);
    for (int i = 0; i < t->n_split; i++) regex_free(t->split[i].re);
    free(t->blob);
    free(t->at);
    free(t->flags);
    free(t->scores);
    free(t->slots);
    free(t->merges);
    free(t->merge_slots);
    free(t->pairs);
    free(t->sorted);
    free(t->normal);
    free(t->split);
    free(t->specials);
    arena_deinit(&t->mem);
    free(t);
}

/* Tokens that end a turn in some family. */
static const char *const end_names[] = {
    "<|im_end|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
    "<|return|>",
    "<|call|>",
    "<|eot|>",
    "<|end_of_turn|>",
    "<|endofturn|>",
    "<end_of_turn>",
    "<turn|>",
    "<eos>",
    "<|eos|>",
    "[EOS]",
    "[|endofturn|]",
    "<|endofassistant|>",
    "<end_of_utterance>",
    "<|end_of_sentence|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|EOS_TOKEN|>",
    "<EOT>",
    "_<EOT>",
    "< EOT >",
    "<\xEF\xBD\x9C"
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
    "<|fin|>",
    "<\xE2\x96\x81"
    "eos>",
};

static bool is_end_name(str text) {
    for (size_t i = 0; i < sizeof end_names / sizeof *end_names; i++)
        if (str_is(text, end_names[i])) return true;
    return false;
}

/* ── Building ── */
static bool no_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the tokenizer's tables.");
}

bool vocab_reserve(tok *t, size_t n, error *err) {
    if (n == 0) return error_set(err, ERR_BAD_FILE, NULL, "The tokenizer has no tokens.");
    if (n > TOK_MAX_VOCAB)
        return error_set(err, ERR_BAD_FILE, NULL,
                         "The tokenizer lists %zu tokens; at most %d are read.", n, TOK_MAX_VOCAB);
    t->n = (int32_t)n;
    t->at = calloc(n + 1, sizeof *t->at);
    t->flags = calloc(n, sizeof *t->flags);
    return (t->at && t->flags) || no_memory(err);
}

bool vocab_add(vocab_builder *b, str text, unsigned flags) {
    tok *t = b->t;
    if (b->next >= t->n)
        return error_set(b->err, ERR_BAD_FILE, NULL, "The tokenizer has too many tokens.");
    if (text.len > TOK_MAX_PIECE_BYTES)
        return error_set(b->err, ERR_BAD_FILE, NULL,
                         "Token %d is %zu bytes long; at most %d are read.", b->next, text.len,
                         TOK_MAX_PIECE_BYTES);
    int value = flags & T_BYTE ? byte_token_value(text) : -1;
    if (value < 0) flags &= ~(unsigned)T_BYTE;
    if (value >= 0) {
        buf_append_char(&b->blob, (char)value);
        t->byte_id[value] = b->next;
    } else if (b->form == TEXT_BYTE_LEVEL && !(flags & T_SPECIAL)) {
        /* Texts outside the alphabet occur (padding, damaged files): they can be shown, not encoded. */
        if (!vocab_byte_decode(text, &b->blob)) {
            buf_append_str(&b->blob, text);
            flags |= T_UNUSED;
        }
    } else if (b->form == TEXT_UNDERLINE && !(flags & T_CONTROL)) {
        append_underline(text, &b->blob);
    } else {
        buf_append_str(&b->blob, text);
    }
    if (b->blob.failed) return no_memory(b->err);
    if (b->blob.len > UINT32_MAX / 2)
        return error_set(b->err, ERR_BAD_FILE, NULL,
                         "The texts of the tokens are larger than 2 GiB.");
    t->flags[b->next++] = (uint16_t)flags;
    t->at[b->next] = (uint32_t)b->blob.len;
    return true;
}

bool vocab_is_markup(str piece) {
    if (piece.len < 3) return false;
    char first = piece.ptr[0], last = piece.ptr[piece.len - 1];
    return (first == '<' && last == '>') || (first == '[' && last == ']');
}

/* May come out of ordinary text. */
static bool is_ordinary(const tok *t, int32_t id) {
    if (t->flags[id] & (T_CONTROL | T_UNKNOWN | T_BYTE | T_UNUSED)) return false;
    if (t->flags[id] & T_USER && vocab_is_markup(piece_of(t, id)))
        return t->words_inside && t->model == MODEL_UNIGRAM; /* see scratch.bars_markup */
    return t->at[id + 1] > t->at[id];
}

bool vocab_add_entries(vocab_builder *b, const vocab_entry *entries, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!vocab_add(b, entries[i].text, entries[i].set ? entries[i].flags : T_UNUSED))
            return false;
    return true;
}

bool vocab_base64(str text, buf *out) {
    while (text.len && text.ptr[text.len - 1] == '=') text.len--;
    uint32_t bits = 0;
    int n_bits = 0;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        int v = c >= 'A' && c <= 'Z'   ? c - 'A'
                : c >= 'a' && c <= 'z' ? c - 'a' + 26
                : c >= '0' && c <= '9' ? c - '0' + 52
                : c == '+'             ? 62
                : c == '/'             ? 63
                                       : -1;
        if (v < 0) return false;
        bits = bits << 6 | (uint32_t)v;
        n_bits += 6;
        if (n_bits >= 8) {
            n_bits -= 8;
            buf_append_char(out, (char)(bits >> n_bits & 0xFF));
        }
    }
    return !out->failed && n_bits < 6;
}

static uint32_t table_mask(size_t n) {
    size_t size = 16;
    while (size < n + n / 2) size *= 2;
    return (uint32_t)(size - 1);
}

/* A slot is id + 1 in 24 bits below 8 bits of the hash, which spare most looks at the blob. */
#define SLOT_ID 0xFFFFFFu
static_assert(TOK_MAX_VOCAB < SLOT_ID, "an id fits a slot");
static uint32_t slot_tag(uint64_t hash) {
    return (uint32_t)(hash >> 32) & ~SLOT_ID;
}

/* Where these bytes are, or the free slot where they belong. */
static uint32_t find_slot(const tok *t, str bytes, uint64_t hash) {
    uint32_t slot = (uint32_t)hash & t->mask, tag = slot_tag(hash);
    for (; t->slots[slot]; slot = (slot + 1) & t->mask) {
        if ((t->slots[slot] & ~SLOT_ID) != tag) continue;
        if (str_eq(piece_of(t, (int32_t)(t->slots[slot] & SLOT_ID) - 1), bytes)) break;
    }
    return slot;
}

bool vocab_finish(vocab_builder *b) {
    tok *t = b->t;
    if (b->next != t->n)
        return error_set(b->err, ERR_BAD_FILE, NULL, "The tokenizer has gaps in its ids.");
    t->blob = buf_take(&b->blob, NULL);
    if (!t->blob && !(t->blob = calloc(1, 1))) return no_memory(b->err);
    t->mask = table_mask((size_t)t->n);
    t->slots = calloc((size_t)t->mask + 1, sizeof *t->slots);
    t->pairs = calloc(1024, sizeof *t->pairs);
    if (!t->slots || !t->pairs) return no_memory(b->err);
    for (int32_t id = 0; id < t->n; id++) {
        if (!is_ordinary(t, id)) continue;
        str piece = piece_of(t, id);
        /* Some files call <|endoftext|> a word. */
        if (str_starts(piece, STR("<|")) && is_end_name(piece)) {
            t->flags[id] |= T_CONTROL;
            continue;
        }
        uint64_t hash = hash_str(piece);
        uint32_t slot = find_slot(t, piece, hash);
        /* Of two tokens with the same text the first is used, but a word goes before a user's mark. */
        uint32_t other = t->slots[slot] & SLOT_ID;
        bool replaces = !other || (t->flags[other - 1] & T_USER && !(t->flags[id] & T_USER));
        if (other) t->flags[replaces ? (int32_t)other - 1 : id] |= T_UNUSED;
        if (!replaces) continue;
        t->slots[slot] = ((uint32_t)id + 1) | slot_tag(hash);
        if (piece.len > t->max_piece) t->max_piece = piece.len;
        for (size_t i = 1; i < piece.len; i++) {
            unsigned pair =
                (unsigned)(unsigned char)piece.ptr[i - 1] << 8 | (unsigned char)piece.ptr[i];
            t->pairs[pair >> 6] |= 1ull << (pair & 63);
        }
    }
    if (t->byte_level)
        for (int i = 0; i < 256; i++) t->byte_id[i] = vocab_find(t, str_make(&(char){(char)i}, 1));
    return true;
}

int32_t vocab_find(const tok *t, str bytes) {
    if (bytes.len == 0 || bytes.len > t->max_piece) return -1;
    return (int32_t)(t->slots[find_slot(t, bytes, hash_str(bytes))] & SLOT_ID) - 1;
}

/* ── Merges ── */
bool vocab_reserve_merges(tok *t, size_t n, error *err) {
    if (n > TOK_MAX_MERGES)
        return error_set(err, ERR_BAD_FILE, NULL,
                         "The tokenizer lists %zu merges; at most %d are read.", n, TOK_MAX_MERGES);
    t->merges = calloc(n ? n : 1, sizeof *t->merges);
    return t->merges || no_memory(err);
}

static int32_t find_text(tok *t, buf *b, str text, text_form form) {
    buf_clear(b);
    if (form == TEXT_BYTE_LEVEL) {
        if (!vocab_byte_decode(text, b)) return -1;
    } else if (form == TEXT_UNDERLINE) {
        append_underline(text, b);
    } else {
        buf_append_str(b, text);
    }
    return vocab_find(t, buf_str(b));
}

/* Merges usually come in the order of the tokens they make, often several for one: try the last
 * token and the one after it before searching. */
static int32_t find_joined(const tok *t, buf *tmp, str left, str right) {
    int32_t last = t->n_merges ? t->merges[t->n_merges - 1].id : -1;
    for (int32_t id = last; last >= 0 && id <= last + 1 && id < t->n; id++) {
        str piece = piece_of(t, id);
        if (piece.len == left.len + right.len && str_starts(piece, left) &&
            str_ends(piece, right) && is_ordinary(t, id))
            return id;
    }
    buf_clear(tmp);
    buf_append_str(tmp, left);
    buf_append_str(tmp, right);
    return vocab_find(t, buf_str(tmp));
}

bool vocab_add_merge(tok *t, buf *tmp, str left, str right, text_form form) {
    merge m = {find_text(t, tmp, left, form), find_text(t, tmp, right, form), -1};
    if (m.left < 0 || m.right < 0) return false;
    m.id = find_joined(t, tmp, piece_of(t, m.left), piece_of(t, m.right));
    if (m.id < 0) return false;
    t->merges[t->n_merges++] = m;
    return true;
}

static uint32_t pair_slot(const tok *t, int32_t left, int32_t right) {
    return (uint32_t)hash_mix((uint64_t)(uint32_t)left << 32 | (uint32_t)right) & t->merge_mask;
}

bool vocab_finish_merges(tok *t, error *err) {
    t->merge_mask = table_mask(t->n_merges);
    t->merge_slots = calloc((size_t)t->merge_mask + 1, sizeof *t->merge_slots);
    if (!t->merge_slots) return no_memory(err);
    for (uint32_t i = 0; i < t->n_merges; i++) {
        const merge *m = &t->merges[i];
        if (vocab_find_merge(t, m->left, m->right) != UINT32_MAX)
            continue; /* the first line counts */
        uint32_t slot = pair_slot(t, m->left, m->right);
        while (t->merge_slots[slot]) slot = (slot + 1) & t->merge_mask;
        t->merge_slots[slot] = i + 1;
    }
    return true;
}

uint32_t vocab_find_merge(const tok *t, int32_t left, int32_t right) {
    for (uint32_t slot = pair_slot(t, left, right); t->merge_slots[slot];
         slot = (slot + 1) & t->merge_mask) {
        const merge *m = &t->merges[t->merge_slots[slot] - 1];
        if (m->left == left && m->right == right) return t->merge_slots[slot] - 1;
    }
    return UINT32_MAX;
}

/* ── Lists sorted by bytes ── */
static int compare_pieces(const void *a, const void *b, void *t) {
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    str p = piece_of(t, x), q = piece_of(t, y);
    size_t n = p.len < q.len ? p.len : q.len;
    int c = n ? memcmp(p.ptr, q.ptr, n) : 0;
    if (c) return c;
    if (p.len != q.len) return p.len < q.len ? -1 : 1;
    return (x > y) - (x < y);
}

static bool sort_list(tok *t, int32_t **list, int32_t *n_list, uint32_t first[257], bool specials) {
    size_t n = 0;
    for (int pass = 0; pass < 2; pass++) {
        n = 0;
        for (int32_t id = 0; id < t->n; id++) {
            bool in = specials ? t->flags[id] & T_SPECIAL && t->at[id + 1] > t->at[id]
                               : is_ordinary(t, id);
            if (!in) continue;
            if (pass) (*list)[n] = id;
            n++;
        }
        if (!pass && !(*list = malloc((n ? n : 1) * sizeof **list))) return false;
    }
    *n_list = (int32_t)n;
    if (n > 1) qsort_r(*list, n, sizeof **list, compare_pieces, t);
    uint32_t i = 0;
    for (int byte = 0; byte <= 256; byte++) {
        while (i < n && (unsigned char)t->blob[t->at[(*list)[i]]] < byte) i++;
        first[byte] = i;
    }
    first[256] = (uint32_t)n;
    return true;
}

void vocab_narrow(const tok *t, const int32_t *list, uint32_t *lo, uint32_t *hi, size_t depth,
                  unsigned char byte) {
    /* Pieces of exactly `depth` bytes sort before the longer ones: they count as byte −1. */
#define BYTE_AT(i)                                             \
    (t->at[list[i]] + depth < t->at[list[i] + 1]               \
         ? (int)(unsigned char)t->blob[t->at[list[i]] + depth] \
         : -1)
    uint32_t a = *lo, b = *hi;
    while (a < b) {
        uint32_t mid = a + (b - a) / 2;
        if (BYTE_AT(mid) < byte)
            a = mid + 1;
        else
            b = mid;
    }
    *lo = a;
    b = *hi;
    while (a < b) {
        uint32_t mid = a + (b - a) / 2;
        if (BYTE_AT(mid) <= byte)
            a = mid + 1;
        else
            b = mid;
    }
    *hi = b;
#undef BYTE_AT
}

int32_t vocab_find_special(const tok *t, str text) {
    if (!text.len || !t->specials) return -1;
    uint32_t lo = t->special_first[(unsigned char)text.ptr[0]],
             hi = t->special_first[(unsigned char)text.ptr[0] + 1];
    for (size_t d = 1; lo < hi && d < text.len; d++)
        vocab_narrow(t, t->specials, &lo, &hi, d, (unsigned char)text.ptr[d]);
    if (lo >= hi || piece_of(t, t->specials[lo]).len != text.len) return -1;
    return t->specials[lo];
}

bool vocab_finish_specials(tok *t, error *err) {
    if (!sort_list(t, &t->specials, &t->n_specials, t->special_first, true)) return no_memory(err);
    if (t->model != MODEL_BPE && !sort_list(t, &t->sorted, &t->n_sorted, t->sorted_first, false))
        return no_memory(err);
    if (t->model == MODEL_UNIGRAM) { /* an unknown character costs ten more than the rarest token */
        float least = 0;
        for (int32_t i = 0; i < t->n; i++)
            if (t->scores[i] < least) least = t->scores[i];
        t->unknown_score = least - 10;
    }
    if (t->bos >= t->n) t->bos = -1;
    if (t->eos >= t->n) t->eos = -1;
    if (t->unknown >= t->n) t->unknown = -1;
    if (t->sep >= t->n) t->sep = -1;
    if (t->eos >= 0) t->flags[t->eos] |= T_END;
    for (size_t i = 0; i < sizeof end_names / sizeof *end_names; i++) {
        int32_t id = vocab_find_special(t, str_from(end_names[i]));
        if (id >= 0 && !(t->flags[id] & T_UNKNOWN)) t->flags[id] |= T_END;
    }
    /* <|end|> closes a turn for Phi and a mere message for harmony, whatever the metadata say. */
    int32_t end = vocab_find_special(t, STR("<|end|>"));
    bool harmony = vocab_find_special(t, STR("<|return|>")) >= 0 &&
                   vocab_find_special(t, STR("<|call|>")) >= 0;
    if (end >= 0 && !harmony) t->flags[end] |= T_END;
    if (end >= 0 && harmony) t->flags[end] &= (uint16_t)~T_END;
    return true;
}

/* ── Accessors of tok.h ── */
int32_t tok_n_vocab(const tok *t) {
    return t->n;
}
tok_kind tok_get_kind(const tok *t) {
    return t->kind;
}
int32_t tok_bos(const tok *t) {
    return t->bos;
}
int32_t tok_eos(const tok *t) {
    return t->eos;
}
bool tok_adds_bos(const tok *t) {
    return t->add_bos && t->bos >= 0;
}
bool tok_adds_eos(const tok *t) {
    return t->add_eos && t->eos >= 0;
}
static bool in_range(const tok *t, int32_t id) {
    return id >= 0 && id < t->n;
}
bool tok_is_special(const tok *t, int32_t id) {
    return in_range(t, id) && t->flags[id] & T_SPECIAL;
}
bool tok_is_end(const tok *t, int32_t id) {
    return in_range(t, id) && t->flags[id] & T_END;
}
str tok_piece(const tok *t, int32_t id) {
    return in_range(t, id) ? piece_of(t, id) : (str){0};
}
int32_t tok_find_special(const tok *t, str text) {
    return vocab_find_special(t, text);
}

void tok_ids_deinit(tok_ids *v) {
    free(v->ids);
    *v = (tok_ids){0};
}

void tok_ids_append(tok_ids *v, const int32_t *ids, size_t n) {
    if (v->failed || n == 0) return;
    if (n > v->cap - v->n) {
        size_t cap = v->cap ? v->cap : 64;
        while (cap - v->n < n && cap < SIZE_MAX / 16) cap *= 2;
        int32_t *ids_new = cap - v->n < n ? NULL : realloc(v->ids, cap * sizeof *ids_new);
        if (!ids_new) {
            v->failed = true;
            return;
        }
        v->ids = ids_new;
        v->cap = cap;
    }
    memcpy(v->ids + v->n, ids, n * sizeof *ids);
    v->n += n;
}

void tok_ids_push(tok_ids *v, int32_t id) {
    tok_ids_append(v, &id, 1);
}
