/* Any bytes as a template, parsed and rendered with a fixed context under tight
 * limits: it ends, in a prompt or in one ERR_TEMPLATE sentence, and the trusted
 * spans are sorted, disjoint and inside the text. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "chat/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static const char context_json[] =
    "{\"messages\": [{\"role\": \"system\", \"content\": \"be <|brief|>\"},"
    " {\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"h\\u00e9 \\ud83d\\ude00\"}]},"
    " {\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"function\": {\"name\": \"f\", \"arguments\": {\"a\": [1, 2.5, true]}}}]}],"
    " \"tools\": null, \"s\": \"some words\\nof text\", \"n\": 7, \"f\": 0.1, \"l\": [3, 1, 2, \"b\", \"A\"], \"d\": {\"b\": 1, \"a\": {\"items\": 2}},"
    " \"add_generation_prompt\": true, \"bos_token\": \"<s>\", \"eos_token\": \"</s>\"}";

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
    static json_t *context;
    static const char *const trusted[] = {"bos_token", "eos_token", "messages[].role"};
    const jinja_opts opts = {
        .limits = {.max_steps = 20000,
                   .max_depth = 200,
                   .max_output_bytes = 1 << 16,
                   .max_memory_bytes = 4 << 20},
        .now_unix_s = 1753531200,
        .trusted = trusted,
        .n_trusted = 3,
    };
    if (!context) context = json_parse(str_from(context_json), NULL);
    if (!context) abort();
    error err = {0};
    jinja *t = jinja_parse(str_make((const char *)bytes, size), &err);
    jinja_output out = {0};
    if (!t) {
        if (err.code != ERR_TEMPLATE || !err.message[0]) abort();
    } else if (!jinja_render(t, context, &opts, &out, &err)) {
        if (err.code != ERR_TEMPLATE) abort();
    } else {
        size_t at = 0;
        for (size_t i = 0; i < out.n_trusted; i++) {
            if ((i && out.trusted[i].begin <= at) || out.trusted[i].begin >= out.trusted[i].end ||
                out.trusted[i].end > out.text.len)
                abort();
            at = out.trusted[i].end;
        }
    }
    jinja_output_deinit(&out);
    jinja_free(t);
    return 0;
}
