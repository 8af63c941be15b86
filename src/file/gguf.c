/* The GGUF reader: bytes in, a directory of values and tensors out. Nothing is
 * copied; every view is checked to lie inside the bytes before it is recorded.
 *
 * Layout (little-endian, no padding except where said):
 *   "GGUF" | u32 version | u64 n_tensors | u64 n_values
 *   n_values  × { string key | u32 type | value }
 *   n_tensors × { string name | u32 n_dims | u64 dims[n_dims] | u32 dtype | u64 offset }
 *   padding to `general.alignment` (32 unless set) | tensor data, offsets counted from here
 *   string = u64 length | bytes          array = u32 item type | u64 n | items
 *
 * Refused: versions other than 2 and 3, big-endian files, keys or names that
 * are empty, repeated or not printable UTF-8, bools that are neither 0 nor 1,
 * alignments that are no power of two from 8 up, tensors without elements, with
 * rows that are no whole number of blocks, beyond the end, or on top of each
 * other. Bytes after the last tensor are allowed.
 */
#include "file/gguf.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/os.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "values are read in the host's byte order");

enum { DEFAULT_ALIGNMENT = 32, MIN_ALIGNMENT = 8, MAX_ALIGNMENT = 1 << 30 };

/* A position in the bytes. Reads move it on, or fail with a sentence. */
typedef struct reader {
    const uint8_t *bytes;
    uint64_t len, at;
    error *err;
} reader;

#define BAD(r, ...) error_set((r)->err, ERR_BAD_FILE, NULL, __VA_ARGS__)

file_quoted file_quote(str name) {
    file_quoted q;
    size_t n = 0;
    for (size_t at = 0; at < name.len;) {
        uint32_t cp;
        int k = utf8_decode(name, at, &cp);
        bool plain = k > 0 && cp >= 0x20 && cp != 0x7F && !(cp >= 0x80 && cp < 0xA0);
        size_t want = plain ? (size_t)k : 1;
        if (n + want + sizeof "..." > sizeof q.text) {
            memcpy(q.text + n, "...", 3);
            n += 3;
            break;
        }
        if (plain)
            memcpy(q.text + n, name.ptr + at, want);
        else
            q.text[n] = '?';
        n += want;
        at += k > 0 ? (size_t)k : 1;
    }
    q.text[n] = 0;
    return q;
}

/* ── index ── */

static str item_name(const file_index *ix, size_t item) {
    str name;
    memcpy(&name, ix->items + item * ix->stride, sizeof name);
    return name;
}

bool file_index_init(file_index *ix, arena *a, const void *items, size_t stride, size_t n) {
    uint64_t n_slots = 8;
    while (n_slots < (uint64_t)n * 2) n_slots *= 2;
    *ix = (file_index){.items = items, .stride = stride, .mask = n_slots - 1};
    /* The names come from strangers, who could otherwise choose them to collide. */
    os_random(&ix->seed, sizeof ix->seed);
    ix->slots = arena_array(a, n_slots, sizeof *ix->slots);
    return ix->slots != NULL;
}

/* The slot that holds the name, or the free one where it belongs. */
static uint64_t find_slot(const file_index *ix, str name) {
    uint64_t at = hash_bytes(name.ptr, name.len, ix->seed) & ix->mask;
    while (ix->slots[at] && !str_eq(item_name(ix, ix->slots[at] - 1), name))
        at = (at + 1) & ix->mask;
    return at;
}

ptrdiff_t file_index_find(const file_index *ix, str name) {
    return (ptrdiff_t)ix->slots[find_slot(ix, name)] - 1;
}

ptrdiff_t file_index_put(file_index *ix, size_t item) {
    uint64_t at = find_slot(ix, item_name(ix, item));
    if (ix->slots[at]) return (ptrdiff_t)ix->slots[at] - 1;
    ix->slots[at] = (uint32_t)(item + 1);
    return (ptrdiff_t)item;
}

/* ── primitives ── */

static uint32_t load_u32(const uint8_t *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static uint64_t load_u64(const uint8_t *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* n bytes of `what`; NULL with a sentence when the file ends first. */
static const uint8_t *read_bytes(reader *r, uint64_t n, const char *what) {
    uint64_t left = r->len - r->at;
    if (n > left) {
        BAD(r,
            "The file is damaged or was not downloaded completely: %s at byte %" PRIu64
            " takes %" PRIu64 " bytes, and %" PRIu64 " of them are missing.",
            what, r->at, n, n - left);
        return NULL;
    }
    const uint8_t *p = r->bytes + r->at;
    r->at += n;
    return p;
}

static bool read_u32(reader *r, uint32_t *out, const char *what) {
    const uint8_t *p = read_bytes(r, 4, what);
    if (p) *out = load_u32(p);
    return p;
}
static bool read_u64(reader *r, uint64_t *out, const char *what) {
    const uint8_t *p = read_bytes(r, 8, what);
    if (p) *out = load_u64(p);
    return p;
}

/* A key or a tensor's name. `which` says whose, for the sentence. */
static bool read_name(reader *r, str *out, const char *which, uint64_t index) {
    uint64_t len, at = r->at;
    char what[64];
    snprintf(what, sizeof what, "the name of %s %" PRIu64, which, index);
    if (!read_u64(r, &len, what)) return false;
    if (len == 0)
        return BAD(r, "The name of %s %" PRIu64 " at byte %" PRIu64 " is empty.", which, index, at);
    if (len > FILE_MAX_NAME)
        return BAD(r,
                   "The name of %s %" PRIu64 " at byte %" PRIu64 " is said to be %" PRIu64
                   " bytes long, more than the %d that are allowed.",
                   which, index, at, len, FILE_MAX_NAME);
    const uint8_t *p = read_bytes(r, len, what);
    if (!p) return false;
    *out = str_make((const char *)p, len);
    bool clean = utf8_is_valid(*out);
    for (uint64_t i = 0; i < len && clean; i++) clean = p[i] >= 0x20 && p[i] != 0x7F;
    return clean ||
           BAD(r, "The name of %s %" PRIu64 " at byte %" PRIu64 " is not printable text: \"%s\".",
               which, index, at, file_quote(*out).text);
}

/* ── values ── */

static const uint8_t item_bytes[] = {
    [FILE_U8] = 1,  [FILE_I8] = 1,  [FILE_U16] = 2,  [FILE_I16] = 2, [FILE_U32] = 4,
    [FILE_I32] = 4, [FILE_F32] = 4, [FILE_BOOL] = 1, [FILE_STR] = 0, [FILE_ARR] = 0,
    [FILE_U64] = 8, [FILE_I64] = 8, [FILE_F64] = 8,
};
/* What one item takes at least: bounds a count before anything is allocated for it. */
static uint64_t min_item_bytes(uint32_t type) {
    return type == FILE_STR ? 8 : type == FILE_ARR ? 12 : item_bytes[type];
}

static bool read_type(reader *r, uint32_t *type, const char *what) {
    uint64_t at = r->at;
    if (!read_u32(r, type, what)) return false;
    return *type <= FILE_F64 ||
           BAD(r, "Type %" PRIu32 " at byte %" PRIu64 ", in %s, is unknown.", *type, at, what);
}

/* Item type and count of an array, the count bounded by what the file can still hold. */
static bool read_array_head(reader *r, uint32_t *type, uint64_t *n, const char *what) {
    if (!read_type(r, type, what) || !read_u64(r, n, what)) return false;
    uint64_t left = r->len - r->at, least = min_item_bytes(*type), total;
    if (__builtin_mul_overflow(*n, least, &total) || total > left)
        return BAD(
            r,
            "The file is damaged or was not downloaded completely: %s is said to have %" PRIu64
            " items, which need at least %" PRIu64 " bytes each, but only %" PRIu64
            " bytes follow.",
            what, *n, least, left);
    return true;
}

static bool read_items(reader *r, uint32_t type, uint64_t n, int depth, const char *what);

static bool read_item(reader *r, uint32_t type, int depth, const char *what) {
    uint64_t n;
    uint32_t item_type;
    if (type == FILE_STR) return read_u64(r, &n, what) && read_bytes(r, n, what);
    if (type != FILE_ARR) return read_items(r, type, 1, depth, what);
    if (depth == FILE_MAX_NESTING)
        return BAD(r, "Arrays are nested more than %d deep in %s.", FILE_MAX_NESTING, what);
    return read_array_head(r, &item_type, &n, what) && read_items(r, item_type, n, depth + 1, what);
}

/* Walks over n items, whose least bytes are known to be there. */
static bool read_items(reader *r, uint32_t type, uint64_t n, int depth, const char *what) {
    if (!item_bytes[type]) {
        for (uint64_t i = 0; i < n; i++)
            if (!read_item(r, type, depth, what)) return false;
        return true;
    }
    const uint8_t *p = read_bytes(r, n * item_bytes[type], what);
    if (!p) return false;
    if (type == FILE_BOOL)
        for (uint64_t i = 0; i < n; i++)
            if (p[i] > 1) return BAD(r, "A boolean in %s is %d, neither 0 nor 1.", what, p[i]);
    return true;
}

/* The strings of an array, and where each begins. */
static bool read_strings(reader *r, gguf_value *v, arena *a, const char *what) {
    uint32_t *offsets = arena_array(a, v->pub.n, sizeof *offsets);
    if (!offsets)
        return error_set(r->err, ERR_NO_MEMORY, NULL, "There is no memory to index %s.", what);
    uint64_t start = r->at;
    for (uint64_t i = 0; i < v->pub.n; i++) {
        if (r->at - start > UINT32_MAX)
            return BAD(r, "The strings in %s take more than 4 GiB.", what);
        offsets[i] = (uint32_t)(r->at - start);
        if (!read_item(r, FILE_STR, 0, what)) return false;
    }
    v->offsets = offsets;
    return true;
}

static bool read_value(reader *r, gguf_value *v, uint64_t index, arena *a) {
    if (!read_name(r, &v->pub.key, "metadata key", index)) return false;
    char what[140];
    snprintf(what, sizeof what, "the value of %s", file_quote(v->pub.key).text);
    uint32_t type, item_type = 0;
    uint64_t n = 1;
    if (!read_type(r, &type, what)) return false;
    bool is_array = type == FILE_ARR;
    if (is_array ? !read_array_head(r, &item_type, &n, what) : (item_type = type, false))
        return false;
    v->pub.type = (file_type)type;
    v->pub.item_type = (file_type)item_type;
    v->pub.n = n;
    v->data = r->bytes + r->at;
    bool ok = is_array && item_type == FILE_STR ? read_strings(r, v, a, what)
                                                : read_items(r, item_type, n, is_array, what);
    v->n_bytes = (uint64_t)(r->bytes + r->at - v->data);
    return ok;
}

/* ── tensors ── */

static bool bad_dtype(reader *r, const char *name, uint32_t type) {
    /* Numbers that were given once and taken back: their files need converting again. */
    static const struct {
        uint32_t type;
        const char *name;
    } removed[] = {
        {4, "Q4_2"},      {5, "Q4_3"},        {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},
        {33, "Q4_0_8_8"}, {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"},
    };
    for (size_t i = 0; i < sizeof removed / sizeof *removed; i++)
        if (removed[i].type == type)
            return BAD(r, "Tensor %s has the type %s, which was removed from the format.", name,
                       removed[i].name);
    return BAD(r, "Tensor %s has the unknown type %" PRIu32 ".", name, type);
}

static bool read_tensor(reader *r, file_tensor *t, uint64_t index) {
    if (!read_name(r, &t->name, "tensor", index)) return false;
    file_quoted q = file_quote(t->name);
    char what[140];
    snprintf(what, sizeof what, "the description of tensor %s", q.text);
    uint32_t n_dims, type;
    if (!read_u32(r, &n_dims, what)) return false;
    if (n_dims < 1 || n_dims > FILE_MAX_DIMS)
        return BAD(r, "Tensor %s has %" PRIu32 " dimensions; 1 to %d are possible.", q.text, n_dims,
                   FILE_MAX_DIMS);
    t->n_dims = (int)n_dims;
    t->n_elements = 1;
    for (uint32_t d = 0; d < FILE_MAX_DIMS; d++) {
        t->shape[d] = 1;
        if (d < n_dims && !read_u64(r, &t->shape[d], what)) return false;
        if (t->shape[d] == 0)
            return BAD(r, "Dimension %" PRIu32 " of tensor %s is zero.", d, q.text);
        if (__builtin_mul_overflow(t->n_elements, t->shape[d], &t->n_elements) ||
            t->n_elements > INT64_MAX)
            return BAD(r, "Tensor %s has more elements than can be counted.", q.text);
    }
    if (!read_u32(r, &type, what) || !read_u64(r, &t->offset, what)) return false;
    const dtype_info *info = dtype_get(type);
    if (!info) return bad_dtype(r, q.text, type);
    t->type = (dtype)type;
    if (t->shape[0] % info->block_len)
        return BAD(r,
                   "Rows of tensor %s have %" PRIu64
                   " elements, not a multiple of %s's blocks of %" PRIu32 ".",
                   q.text, t->shape[0], info->name, info->block_len);
    if (!dtype_row_bytes(t->type, t->n_elements, &t->n_bytes))
        return BAD(r, "Tensor %s has more bytes than can be counted.", q.text);
    return true;
}

/* From offsets counted from the data's start to checked views. */
static bool place_tensors(reader *r, gguf_part *p) {
    uint64_t data_at =
        (r->at + p->alignment - 1) & ~(p->alignment - 1); /* r->at ≤ len: cannot wrap */
    const file_tensor *last = NULL;
    uint64_t end_max = 0;
    for (size_t i = 0; i < p->n_tensors; i++) {
        file_tensor *t = &p->tensors[i];
        uint64_t end;
        if (t->offset % p->alignment)
            return BAD(r,
                       "Tensor %s begins at offset %" PRIu64
                       ", not a multiple of the alignment %" PRIu64 ".",
                       file_quote(t->name).text, t->offset, p->alignment);
        if (__builtin_add_overflow(data_at, t->offset, &t->offset) ||
            __builtin_add_overflow(t->offset, t->n_bytes, &end))
            return BAD(r, "Tensor %s lies beyond anything a file can hold.",
                       file_quote(t->name).text);
        if (end > end_max) end_max = end, last = t;
    }
    if (end_max > p->len)
        return BAD(
            r,
            "The file is damaged or was not downloaded completely: tensor %s ends at byte %" PRIu64
            ", and %" PRIu64 " bytes are missing.",
            file_quote(last->name).text, end_max, end_max - p->len);
    for (size_t i = 0; i < p->n_tensors; i++) p->tensors[i].data = p->bytes + p->tensors[i].offset;
    return true;
}

static int by_offset(const void *a, const void *b) {
    const file_tensor *x = *(const file_tensor *const *)a, *y = *(const file_tensor *const *)b;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static bool check_overlap(reader *r, const gguf_part *p, arena *a) {
    const file_tensor **order = arena_array(a, p->n_tensors, sizeof(file_tensor *));
    if (!order)
        return error_set(r->err, ERR_NO_MEMORY, NULL, "There is no memory to check the tensors.");
    bool sorted = true; /* as converters write them */
    for (size_t i = 0; i < p->n_tensors; i++) {
        order[i] = &p->tensors[i];
        if (i && order[i]->offset < order[i - 1]->offset) sorted = false;
    }
    if (!sorted) qsort(order, p->n_tensors, sizeof(file_tensor *), by_offset);
    for (size_t i = 1; i < p->n_tensors; i++)
        if (order[i - 1]->offset + order[i - 1]->n_bytes > order[i]->offset)
            return BAD(r, "Tensors %s and %s overlap at byte %" PRIu64 ".",
                       file_quote(order[i - 1]->name).text, file_quote(order[i]->name).text,
                       order[i]->offset);
    return true;
}

/* ── the whole ── */

static bool read_header(reader *r, gguf_part *p, uint64_t *n_tensors, uint64_t *n_values) {
    if (p->len == 0) return BAD(r, "The file is empty.");
    if (p->len < 4 || memcmp(p->bytes, "GGUF", 4) != 0) {
        const char *guess = file_guess_format(p->bytes, p->len);
        return guess ? BAD(r, "This is not a GGUF file; it looks like %s.", guess)
                     : BAD(r, "This is not a GGUF file: it does not begin with the letters GGUF.");
    }
    uint32_t version;
    r->at = 4;
    if (!read_u32(r, &version, "the header")) return false;
    if ((version & 0xFFFF) == 0 && version != 0)
        return BAD(r, "This is a big-endian GGUF file; oriel reads little-endian ones only.");
    if (version == 1)
        return BAD(r, "This is GGUF version 1, which is obsolete: convert the model again.");
    if (version != 2 && version != 3)
        return BAD(r, "This says it is GGUF version %" PRIu32 "; oriel reads versions 2 and 3.",
                   version);
    p->version = (int)version;
    if (!read_u64(r, n_tensors, "the header") || !read_u64(r, n_values, "the header")) return false;
    if (*n_values > FILE_MAX_VALUES)
        return BAD(r,
                   "The header speaks of %" PRIu64 " metadata keys; more than %d are not accepted.",
                   *n_values, FILE_MAX_VALUES);
    if (*n_tensors > FILE_MAX_TENSORS)
        return BAD(r, "The header speaks of %" PRIu64 " tensors; more than %d are not accepted.",
                   *n_tensors, FILE_MAX_TENSORS);
    /* The least either can take, so that a damaged count does not become a large allocation. */
    uint64_t least = *n_values * (8 + 1 + 4 + 1) + *n_tensors * (8 + 1 + 4 + 8 + 4 + 8),
             left = p->len - r->at;
    if (least > left)
        return BAD(r,
                   "The file is damaged or was not downloaded completely: %" PRIu64
                   " metadata keys and %" PRIu64 " tensors need at least %" PRIu64 " bytes more.",
                   *n_values, *n_tensors, least - left);
    return true;
}

static bool read_alignment(reader *r, gguf_part *p) {
    p->alignment = DEFAULT_ALIGNMENT;
    if (file_index_find(&p->keys, STR("general.alignment")) < 0) return true;
    if (!gguf_get_u64(p, "general.alignment", &p->alignment))
        return BAD(r, "The value of general.alignment is not a positive integer.");
    if (p->alignment < MIN_ALIGNMENT || p->alignment > MAX_ALIGNMENT ||
        (p->alignment & (p->alignment - 1)))
        return BAD(r,
                   "The value of general.alignment is %" PRIu64
                   "; it has to be a power of two from %d to %d.",
                   p->alignment, MIN_ALIGNMENT, MAX_ALIGNMENT);
    return true;
}

bool gguf_parse(gguf_part *p, int index, arena *a, error *err) {
    reader r = {.bytes = p->bytes, .len = p->len, .err = err};
    uint64_t n_tensors, n_values;
    if (!read_header(&r, p, &n_tensors, &n_values)) return false;

    file_index names;
    p->values = arena_array(a, n_values, sizeof *p->values);
    p->tensors = arena_array(a, n_tensors, sizeof *p->tensors);
    if (!p->values || !p->tensors ||
        !file_index_init(&p->keys, a, p->values, sizeof *p->values, n_values) ||
        !file_index_init(&names, a, p->tensors, sizeof *p->tensors, n_tensors))
        return error_set(err, ERR_NO_MEMORY, NULL,
                         "There is no memory for %" PRIu64 " metadata keys and %" PRIu64
                         " tensors.",
                         n_values, n_tensors);

    for (; p->n_values < n_values; p->n_values++) {
        gguf_value *v = &p->values[p->n_values];
        if (!read_value(&r, v, p->n_values, a)) return false;
        if (file_index_put(&p->keys, p->n_values) != (ptrdiff_t)p->n_values)
            return BAD(&r, "The metadata key %s appears twice.", file_quote(v->pub.key).text);
    }
    if (!read_alignment(&r, p)) return false;
    for (; p->n_tensors < n_tensors; p->n_tensors++) {
        file_tensor *t = &p->tensors[p->n_tensors];
        if (!read_tensor(&r, t, p->n_tensors)) return false;
        t->part = index;
        if (file_index_put(&names, p->n_tensors) != (ptrdiff_t)p->n_tensors)
            return BAD(&r, "The tensor %s appears twice.", file_quote(t->name).text);
    }
    return place_tensors(&r, p) && check_overlap(&r, p, a);
}
