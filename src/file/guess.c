/* What a file that is not GGUF looks like, from its first bytes: people point at
 * the wrong file of a download more often than at a damaged one.
 */
#include "file/gguf.h"

#include <strings.h>

static bool has(const uint8_t *bytes, uint64_t len, uint64_t at, str magic) {
    return at <= len && len - at >= magic.len && memcmp(bytes + at, magic.ptr, magic.len) == 0;
}

static bool starts_nocase(str s, str word) {
    return s.len >= word.len && strncasecmp(s.ptr, word.ptr, word.len) == 0;
}

/* A length below 100 MB in 8 bytes, then the JSON header it measures. */
static bool is_safetensors(const uint8_t *bytes, uint64_t len) {
    if (len < 10 || bytes[8] != '{') return false;
    uint64_t header = 0;
    for (int i = 7; i >= 0; i--) header = header << 8 | bytes[i];
    return header >= 2 && header < 100000000;
}

static bool all_zero(const uint8_t *bytes, uint64_t len) {
    uint64_t n = len < 4096 ? len : 4096;
    for (uint64_t i = 0; i < n; i++)
        if (bytes[i]) return false;
    return n > 0;
}

const char *file_guess_format(const uint8_t *bytes, uint64_t len) {
    static const struct {
        uint64_t at;
        str magic;
        const char *what;
    } magics[] = {
        {0, {"FUGG", 4}, "a big-endian GGUF file, which oriel does not read"},
        {0, {"ggml", 4}, "a GGML file from before GGUF"},
        {0, {"lmgg", 4}, "a GGML file from before GGUF"},
        {0, {"fmgg", 4}, "a GGML file from before GGUF"},
        {0, {"tjgg", 4}, "a GGML file from before GGUF"},
        {0, {"algg", 4}, "a GGLA adapter from before GGUF"},
        {0,
         {"version https://git-lfs", 23},
         "a git-lfs pointer: the model itself was not downloaded (try `git lfs pull`)"},
        {0, {"\x89HDF\r\n\x1a\n", 8}, "an HDF5 file"},
        {0, {"\x93NUMPY", 6}, "a NumPy array"},
        {0, {"\x1f\x8b", 2}, "a gzip archive"},
        {0, {"\x28\xb5\x2f\xfd", 4}, "a zstd archive"},
        {0,
         {"\xfd"
          "7zXZ",
          5},
         "an xz archive"},
        {0, {"7z\xbc\xaf\x27\x1c", 6}, "a 7-zip archive"},
        {0,
         {"\x7f"
          "ELF",
          4},
         "a program"},
        {0, {"%PDF", 4}, "a PDF document"},
        {0, {"SQLite format 3", 15}, "an SQLite database"},
        {4, {"TFL3", 4}, "a TensorFlow Lite model"},
        {257, {"ustar", 5}, "a tar archive"},
    };
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
        if (has(bytes, len, magics[i].at, magics[i].magic)) return magics[i].what;

    str head = {(const char *)bytes, len < 4096 ? len : 4096};
    if (has(bytes, len, 0, STR("PK\x03\x04")) || has(bytes, len, 0, STR("PK\x05\x06")))
        return str_find(head, STR("data.pkl"), 0) >= 0
                   ? "a PyTorch checkpoint (a zip with a pickle)"
                   : "a zip archive";
    if (len >= 2 && bytes[0] == 0x80 && bytes[1] >= 2 && bytes[1] <= 5)
        return "a Python pickle, perhaps an old PyTorch checkpoint";
    if (is_safetensors(bytes, len)) return "a safetensors file, which has to be converted to GGUF";

    str text = str_trim(head);
    if (starts_nocase(text, STR("<!doctype html")) || starts_nocase(text, STR("<html")))
        return "an HTML page, so the download probably failed";
    if (starts_nocase(text, STR("<?xml")) || starts_nocase(text, STR("<error")))
        return "an XML document, so the download probably failed";
    if (str_starts(text, STR("{")) || str_starts(text, STR("["))) return "a JSON document";
    if (all_zero(bytes, len)) return "nothing but zeros: an unfinished download";
    head.len = utf8_complete_prefix(head);
    if (head.len && utf8_is_valid(head) && !memchr(head.ptr, 0, head.len)) return "a text file";
    return NULL;
}
