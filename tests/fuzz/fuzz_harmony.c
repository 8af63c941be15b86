/* Any ids: harmony's parser gives well nested messages of whole characters, the
 * chat-level parser well nested calls, and a stop matcher never lets its string
 * through. Two bytes an id. */
#include <stdlib.h>

#include "chat/parser.h"
#include "chat/stop.h"

/* A fuzz target is linked without tests/lib. */
#include "gguf_builder.c"
#include "tiny_vocab.c"

static void require(bool ok) {
    if (!ok) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static tok *t;
    static harmony h;
    if (!t) {
        t = tiny_vocab_harmony();
        require(harmony_init(&h, t));
    }
    harmony_parser p;
    stop s;
    buf shown = {0};
    bool open = false, in_call = false;
    parser *q = parser_new(
        &(parser_options){.t = t, .harmony = &h, .inside = size & 2, .takes_calls = true});
    harmony_parser_init(&p, &h, size & 2, false);
    require(q && stop_init(&s, (str[]){STR("ab"), STR("hell")}, 2));
    for (size_t i = 0; i + 1 < size + 2; i += 2) {
        bool last = i + 1 >= size;
        int32_t id = last ? 0 : (int32_t)(data[i] | data[i + 1] << 8) - 16;
        if (last) {
            harmony_finish(&p);
            parser_finish(q);
        } else {
            harmony_push(&p, id);
            parser_push(q, id);
        }
        harmony_event e;
        while (harmony_next(&p, &e)) {
            require((e.kind == HARMONY_BEGIN) != open);
            open = e.kind != HARMONY_END;
            require(e.kind != HARMONY_TEXT || (e.text.len && utf8_is_valid(e.text)));
        }
        parser_event c;
        while (parser_next(q, &c)) {
            require((c.kind == PARSER_CALL_ARGS || c.kind == PARSER_CALL_END) == in_call);
            in_call = c.kind == PARSER_CALL_BEGIN || c.kind == PARSER_CALL_ARGS;
            require(utf8_is_valid(c.text));
            if (c.kind == PARSER_CONTENT) stop_push(&s, c.text, &shown);
        }
    }
    require(!open && !in_call && !harmony_parser_failed(&p) && !parser_failed(q));
    stop_flush(&s, &shown);
    require(str_find(buf_str(&shown), STR("ab"), 0) < 0 &&
            str_find(buf_str(&shown), STR("hell"), 0) < 0);
    harmony_parser_deinit(&p);
    parser_free(q);
    stop_deinit(&s);
    buf_deinit(&shown);
    return 0;
}
