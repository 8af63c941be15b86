/* Any bytes: a file that can be walked from end to end, or one sentence. */
#include <stdint.h>
#include <stdlib.h>

#include "file/file.h"
#include "gguf_walk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    error err = {0};
    file *f = file_open_memory(data, size, "fuzzed", &err);
    if (f) {
        if (error_is_set(&err) || !gguf_walk(f)) abort();
        file_close(f);
        return 0;
    }
    str m = str_from(err.message);
    if (err.code != ERR_BAD_FILE || !str_ends(m, STR(".")) || !utf8_is_valid(m)) abort();
    if (str_find(m, STR("\n"), 0) >= 0) abort(); /* hostile names are quoted printably */
    return 0;
}
