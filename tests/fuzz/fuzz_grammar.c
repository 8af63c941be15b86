/* Any bytes as a schema, a pattern, a GBNF and a Lark grammar (the first byte chooses): compiling ends in a
 * grammar or in one sentence; a grammar then reads the rest of the bytes without harm. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "sample/grammar.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

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
    grammar_unref(g);
    json_decref(schema);
    return 0;
}
