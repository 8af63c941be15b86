/* What leads a conversation is found in its ids, through a template and in harmony. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "chat/chat_impl.h"
#include "tiny_vocab.h"

static engine *open_engine(tok *t) {
    error err = {0};
    model_fake_config m = {.n_vocab = tok_n_vocab(t), .n_layers = 1, .end_id = -1, .seed = 7};
    engine_config c = engine_defaults();
    c.n_threads = 1;
    c.max_context_tokens = 512;
    engine *e = engine_open_model(model_new_fake(&m, &err), t, &c, &err);
    if (!e) fail_msg("%s", err.message);
    return e;
}

static size_t find(chat *c, const chat_message *m, size_t n, const char *text_of_pins) {
    error err = {0};
    chat_input in = {.messages = m, .n_messages = n};
    tok_ids ids = {0};
    if (!chat_render(c, &in, &ids, NULL, &err)) fail_msg("%s", err.message);
    size_t pins = turn_find_pins(c, &in, &ids);
    buf text = {0};
    tok_decode(c->t, ids.ids, pins, (tok_decode_opts){0}, &text);
    if (text_of_pins) assert_true(str_is(buf_str(&text), text_of_pins));
    buf_deinit(&text);
    tok_ids_deinit(&ids);
    return pins;
}

#define SAYS(who, what) \
    { .role = who, .content = STR(what), .has_content = true }

static void through_a_template(void **state) {
    (void)state;
    engine *e = open_engine(tiny_vocab_harmony());
    chat_options o = {.template_override = STR(
                          "{% for m in messages %}<{{m.role}}>{{m.content}};{% endfor %}<bot>")};
    chat *c = chat_new(e, &o, NULL);
    const chat_message m[] = {SAYS(CHAT_SYSTEM, "Be brief."), SAYS(CHAT_USER, "Hi"),
                              SAYS(CHAT_ASSISTANT, "Yes?"), SAYS(CHAT_USER, "Go on")};
    find(c, m, 2, "<system>Be brief.;<user>");
    find(c, m, 4, "<system>Be brief.;<user>");
    assert_int_equal(find(c, m + 1, 1, NULL), 0);
    chat_free(c);
    engine_close(e);
}

static void in_harmony(void **state) {
    (void)state;
    engine *e = open_engine(tiny_vocab_harmony());
    chat *c = chat_new(e, &(chat_options){0}, NULL);
    assert_true(chat_is_harmony(c));
    const chat_message m[] = {SAYS(CHAT_DEVELOPER, "Be brief."), SAYS(CHAT_USER, "Hi"),
                              SAYS(CHAT_ASSISTANT, "Yes?"), SAYS(CHAT_USER, "Go on")};
    size_t system = find(c, m + 1, 1, NULL), both = find(c, m, 2, NULL);
    assert_true(system > 20 && both > system + 9);
    assert_int_equal(find(c, m, 4, NULL), both);
    chat_free(c);
    engine_close(e);
}

int main(void) {
    const struct CMUnitTest t[] = {cmocka_unit_test(through_a_template),
                                   cmocka_unit_test(in_harmony)};
    return cmocka_run_group_tests(t, NULL, NULL);
}
