/* Memory that runs out at every place in turn: prompts and parsers fail with one
 * error or give exactly what they give otherwise, and leave nothing behind.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/hash.h"
#include "chat/chat_impl.h"
#include "chat/stop.h"
#include "tiny_vocab.h"
#include "torture.h"

#define TEXT(s) .content = {s, sizeof(s) - 1}, .has_content = true

static const chat_call CALLS[] = {
    {.id = {"call_1", 6}, .name = {"get", 3}, .arguments = {"{\"x\": 1}", 8}}};
static const chat_message MESSAGES[] = {
    {.role = CHAT_SYSTEM, TEXT("One.")},
    {.role = CHAT_DEVELOPER, TEXT("Two \xFF.")},
    {.role = CHAT_USER, TEXT("Q")},
    {.role = CHAT_ASSISTANT, .reasoning = {"why", 3}, .calls = CALLS, .n_calls = 1},
    {.role = CHAT_TOOL, TEXT("21"), .call_id = {"call_1", 6}},
};

typedef struct scene {
    chat c;
    chat_input in;
    str want; /* the prompt, once it worked */
    buf first;
} scene;

/* A call that failed says so and why; one that did not is whole. */
static bool render(void *ctx) {
    scene *s = ctx;
    tok_ids ids = {0};
    buf text = {0};
    error err = {0};
    bool ok = chat_render(&s->c, &s->in, &ids, &text, &err);
    if (ok && !s->want.len) {
        s->first = text;
        s->want = buf_str(&s->first);
        text = (buf){0};
    } else if (ok) {
        assert_true(str_eq(buf_str(&text), s->want));
    } else {
        assert_true(err.code == ERR_NO_MEMORY || err.code == ERR_TEMPLATE);
    }
    tok_ids_deinit(&ids);
    buf_deinit(&text);
    return ok;
}

typedef struct renderer {
    const chat *c;
    tok_ids *ids;
} renderer;

static int64_t render_ids(void *ctx, const chat_input *in, error *err) {
    renderer *r = ctx;
    r->ids->n = 0;
    return chat_render(r->c, in, r->ids, NULL, err) ? (int64_t)r->ids->n : -1;
}

static void run(torture_fn *fn, void *ctx) {
    int n = torture_run(fn, ctx);
    print_message("%d failures\n", n);
    assert_true(n > 0);
}

static void test_prompts(void **state) {
    (void)state;
    if (!torture_is_available()) skip();
    tok *t = tiny_vocab_harmony();
    json_t *schema =
        json_pack("{s:s, s:{s:{s:s}}}", "type", "object", "properties", "x", "type", "integer");
    chat_tool tool = {.name = STR("get"), .description = STR("Gets."), .parameters = schema};
    scene s = {.c = {.t = t},
               .in = {.messages = MESSAGES, .n_messages = 5, .tools = &tool, .n_tools = 1}};
    s.c.is_harmony = harmony_init(&s.c.harmony, t);
    assert_true(render(&s)); /* also what the first result keeps is not counted as lost */
    run(render, &s);
    buf_deinit(&s.first);
    s.want = (str){0};
    error err = {0};
    s.c.template = jinja_parse(
        STR("{% for m in messages %}{{ m | tojson }}{% endfor %}{{ tools }}{{ bos_token }}<|start|>"),
        &err);
    assert_non_null(s.c.template);
    assert_true(render(&s));
    assert_true(s.want.len > 300);
    run(render, &s);
    buf_deinit(&s.first);
    jinja_free(s.c.template);
    json_decref(schema);
    tok_unref(t);
}

/* The same within rules that leave something out, with a memory of encoded text. */
static bool fit(void *ctx) {
    scene *s = ctx;
    error err = {0};
    context_rules rules = {.mode = CONTEXT_CUT};
    context_result cut;
    arena mem;
    tok_ids ids = {0};
    arena_init(&mem, 0);
    s->c.cache = s->c.harmony.cache = tok_cache_new(8192, &err);
    renderer r = {&s->c, &ids};
    chat_input in = s->in;
    bool ok = s->c.cache && context_fit(&in, &rules, 220, &mem, render_ids, &r, &cut, &err);
    if (ok) assert_true(ids.n <= 220 && cut.n_messages_dropped == 3 && cut.n_texts_cut == 1);
    if (!ok) assert_int_equal(err.code, ERR_NO_MEMORY);
    tok_cache_free(s->c.cache);
    s->c.cache = s->c.harmony.cache = NULL;
    arena_deinit(&mem);
    tok_ids_deinit(&ids);
    return ok;
}

static void test_fitting(void **state) {
    (void)state;
    if (!torture_is_available()) skip();
    static char text[300];
    memset(text, 'x', sizeof text);
    chat_message m[6];
    memcpy(m, MESSAGES, sizeof MESSAGES);
    m[5] = (chat_message){
        .role = CHAT_USER, .content = str_make(text, sizeof text), .has_content = true};
    tok *t = tiny_vocab_harmony();
    scene s = {.c = {.t = t}, .in = {.messages = m, .n_messages = 6, .model_identity = STR("I.")}};
    s.c.is_harmony = harmony_init(&s.c.harmony, t);
    run(fit, &s);
    tok_unref(t);
}

/* ── Parsing ── */

typedef struct reading {
    const tok *t;
    harmony h;
    const char *format; /* which */
    uint64_t want;
} reading;

static bool parse(void *ctx) {
    static const int32_t IDS[] = {
        TINY_CHANNEL, 'a',          ' ', 't',  'o',      '=',        'f', 'u',      'n',
        'c',          't',          'i', 'o',  'n',      's',        '.', 'g',      TINY_CONSTRAIN,
        'j',          TINY_MESSAGE, '{', '}',  TINY_END, TINY_START, 'x', TINY_END, TINY_MESSAGE,
        'a',          'b',          'c', 0xC3, 0xA9,     TINY_RETURN};
    static const chat_tool TOOLS[] = {{.name = {"get", 3}}, {.name = {"put", 3}}};
    reading *r = ctx;
    parser_options o = {
        .t = r->t, .inside = true, .takes_calls = true, .tools = TOOLS, .n_tools = 2};
    parser_style style = parser_find_style(STR("{{ '<tool_call>' }}"));
    style.think = (parser_tags){STR("ab"), STR("c")};
    if (r->format[0] == 'h')
        o.harmony = &r->h;
    else
        o.style = &style;
    parser *p = parser_new(&o);
    buf out = {0};
    if (!p) return false;
    for (size_t i = 0; i <= sizeof IDS / sizeof *IDS; i++) {
        parser_event e;
        if (i < sizeof IDS / sizeof *IDS)
            parser_push(p, IDS[i]);
        else
            parser_finish(p);
        while (parser_next(p, &e)) buf_printf(&out, "%d%.*s", e.kind, STR_ARG(e.text));
    }
    bool ok = !parser_failed(p) && !out.failed;
    if (ok && !r->want) r->want = hash_str(buf_str(&out));
    if (ok) assert_true(r->want == hash_str(buf_str(&out)));
    parser_free(p);
    buf_deinit(&out);
    return ok;
}

static void test_parsers(void **state) {
    (void)state;
    if (!torture_is_available()) skip();
    tok *t = tiny_vocab_harmony();
    reading r = {.t = t, .format = "harmony"};
    assert_true(harmony_init(&r.h, t));
    run(parse, &r);
    r.format = "text";
    r.want = 0;
    run(parse, &r);
    tok_unref(t);
}

static bool match(void *ctx) {
    (void)ctx;
    stop s;
    buf out = {0};
    bool ok = stop_init(&s, (str[]){STR("stop"), STR("halt")}, 2);
    bool hit =
        ok && (stop_push(&s, STR("ready, st"), &out) || stop_push(&s, STR("eady, halt!"), &out));
    ok = ok && !out.failed && !s.held.failed;
    if (ok) assert_true(hit && str_is(buf_str(&out), "ready, steady, "));
    stop_deinit(&s);
    buf_deinit(&out);
    return ok;
}

static void test_stops(void **state) {
    (void)state;
    if (!torture_is_available()) skip();
    run(match, NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_fitting),
        cmocka_unit_test(test_parsers),
        cmocka_unit_test(test_stops),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
