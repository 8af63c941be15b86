/* Turns over the real engine and the model that cannot lie, with a vocabulary
 * of bytes: what a request gives does not depend on who else runs, where the
 * text is cut, or how fast anybody reads.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "chat/answer.h"
#include "chat/turn.h"
#include "tiny_vocab.h"

enum { CONTEXT = 512 };

static engine *open_engine(tok *t, int n_parallel) {
    error err = {0};
    model_fake_config m = {
        .n_vocab = tok_n_vocab(t), .n_layers = 2, .width = 16, .end_id = -1, .seed = 7};
    engine_config c = engine_defaults();
    c.n_parallel = n_parallel;
    c.n_threads = 1;
    c.max_context_tokens = CONTEXT;
    model *fake = model_new_fake(&m, &err);
    engine *e = fake ? engine_open_model(fake, t, &c, &err) : NULL;
    if (!e) fail_msg("%s", err.message);
    return e;
}

static chat *new_chat(engine *e, const char *template, const char *debug_dir) {
    error err = {0};
    chat_options o = {.template_override = str_from(template), .debug_dir = debug_dir};
    chat *c = chat_new(e, &o, &err);
    if (!c) fail_msg("%s", err.message);
    return c;
}

static turn_request raw_request(const char *text, int64_t max_tokens) {
    turn_request r = {.text = str_from(text),
                      .has_text = true,
                      .max_tokens = max_tokens,
                      .score_prompt = -1,
                      .ignore_end = true,
                      .keep_ids = true};
    r.sampling = sample_defaults();
    r.sampling.temperature = 0;
    return r;
}

/* Everything a turn said. */
typedef struct result {
    buf content, reasoning, calls;
    int32_t ids[CONTEXT * 2];
    size_t n;
    turn_finish finish;
    turn_usage usage;
    char stop[64];
    int n_prompt_events;
} result;

static void free_result(result *r) {
    buf_deinit(&r->content);
    buf_deinit(&r->reasoning);
    buf_deinit(&r->calls);
}

/* False when the turn is over. Checks the order of events. */
static bool record(result *r, turn *t, const turn_event *e) {
    size_t n;
    switch (e->kind) {
    case TURN_PROMPT_TOKEN: assert_int_equal(e->index, ++r->n_prompt_events); break;
    case TURN_TOKEN:
        assert_int_equal(e->index, r->n);
        assert_true(r->n < CONTEXT * 2);
        r->ids[r->n++] = e->token->id;
        break;
    case TURN_CONTENT:
        assert_true(e->text.len > 0 && utf8_is_valid(e->text));
        buf_append_str(&r->content, e->text);
        break;
    case TURN_REASONING: buf_append_str(&r->reasoning, e->text); break;
    case TURN_CALL_BEGIN:
        assert_true(str_starts(e->call_id, STR("call_")) && e->call_id.len == 29);
        buf_printf(&r->calls, "%d:%.*s(", e->call_index, STR_ARG(e->text));
        break;
    case TURN_CALL_ARGS: buf_append_str(&r->calls, e->text); break;
    case TURN_CALL_END: buf_append_char(&r->calls, ')'); break;
    case TURN_END:
        r->finish = e->finish;
        r->usage = e->usage;
        snprintf(r->stop, sizeof r->stop, "%.*s", STR_ARG(e->stop_string));
        assert_int_equal(e->usage.n_completion, r->n);
        turn_token_ids(t, &n);
        assert_int_equal(n, r->n);
        turn_prompt_ids(t, &n);
        assert_int_equal(e->usage.n_prompt, n);
        assert_true(e->usage.n_reasoning <= e->usage.n_completion);
        assert_true((e->err != NULL) == (e->finish == TURN_FAILED));
        return false;
    }
    return true;
}

static turn *begin(chat *c, const turn_request *r) {
    error err = {0};
    turn *t = turn_start(c, r, &err);
    if (!t) fail_msg("%s", err.message);
    return t;
}

static void run(chat *c, const turn_request *request, result *r) {
    turn *t = begin(c, request);
    turn_event e;
    *r = (result){0};
    while (turn_wait(t, &e, -1) && record(r, t, &e)) {
    }
    assert_false(turn_poll(t, &e)); /* nothing after the end */
    turn_free(t);
}

static void check_same(const result *a, const result *b) {
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->ids, b->ids, a->n * sizeof *a->ids);
    assert_true(str_eq(buf_str(&a->content), buf_str(&b->content)));
    assert_true(str_eq(buf_str(&a->reasoning), buf_str(&b->reasoning)));
    assert_true(str_eq(buf_str(&a->calls), buf_str(&b->calls)));
    assert_int_equal(a->finish, b->finish);
    assert_int_equal(a->usage.n_reasoning, b->usage.n_reasoning);
}

/* ── Raw text ── */

static void test_raw(void **state) {
    (void)state;
    tok *t = tiny_vocab_harmony();
    engine *e = open_engine(tok_ref(t), 2);
    chat *c = new_chat(e, "", NULL);
    turn_request q = raw_request("hello", 50);
    result r, again;
    q.sampling.n_top = 2;
    q.score_prompt = 1;
    run(c, &q, &r);
    assert_int_equal(r.finish, TURN_LENGTH);
    assert_int_equal(r.n, 50);
    assert_int_equal(r.n_prompt_events, 1); /* "hell" "o": from the second on */
    /* the text is that of the ids */
    tok_stream s;
    buf want = {0};
    tok_stream_init(&s, t, (tok_decode_opts){.skip_special = true});
    for (size_t i = 0; i < r.n; i++) tok_stream_push(&s, r.ids[i], &want);
    tok_stream_flush(&s, &want);
    assert_true(want.len > 0 && str_eq(buf_str(&want), buf_str(&r.content)));
    /* the same prompt as ids */
    int32_t ids[] = {TINY_WORDS + 2, 'o'};
    q.has_text = false;
    q.ids = ids;
    q.n_ids = 2;
    run(c, &q, &again);
    check_same(&r, &again);
    free_result(&again);
    /* no limit: what is left of the context */
    q.max_tokens = -1;
    run(c, &q, &again);
    assert_int_equal(again.finish, TURN_LENGTH);
    assert_int_equal(again.n, CONTEXT - 2);
    free_result(&r);
    free_result(&again);
    buf_deinit(&want);
    chat_free(c);
    engine_close(e);
    tok_unref(t);
}

/* A stop string taken from the text itself, anywhere, also across tokens: the text ends before its
 * first occurrence and the ids with the token that completed it, whoever else is running. */
/* A form for raw text is whole before the limit cuts it, where it can be: JSON that takes 12 bytes at
 * least. With less room the text goes as far as it comes along the way. */
static void test_raw_form(void **state) {
    (void)state;
    engine *e = open_engine(tiny_vocab_harmony(), 1);
    chat *c = new_chat(e, "", NULL);
    error err = {0};
    chat_answer answer = {.kind = CHAT_ANSWER_SCHEMA,
                          .schema = json_loads("{\"type\":\"object\",\"properties\":{\"a\":{},"
                                               "\"words\":{\"type\":\"string\"}},"
                                               "\"required\":[\"words\"]}",
                                               0, NULL)};
    grammar *g = chat_answer_compile(&answer, &err);
    assert_non_null(g);
    for (int64_t max_tokens = 8; max_tokens < 120; max_tokens += 7)
        for (uint64_t seed = 0; seed < 4; seed++) {
            turn_request q = raw_request("Say:", max_tokens);
            result r;
            q.answer = &answer;
            q.ignore_end = false;
            q.sampling.temperature = 1;
            q.sampling.seed = seed;
            run(c, &q, &r);
            assert_true(r.n <= (size_t)max_tokens);
            bool fits = max_tokens > 12 + 6;
            if (fits && !grammar_accepts(g, buf_str(&r.content)))
                fail_msg("%d tokens: %s", (int)max_tokens, r.content.ptr);
            if (fits) assert_int_equal(r.finish, TURN_STOP);
            if (!fits) assert_true(r.finish == TURN_STOP || r.finish == TURN_LENGTH);
            free_result(&r);
        }
    grammar_unref(g);
    json_decref(answer.schema);
    chat_free(c);
    engine_close(e);
}

static void test_stop_strings(void **state) {
    (void)state;
    engine *e = open_engine(tiny_vocab_harmony(), 4);
    chat *c = new_chat(e, "", NULL);
    int n_late = 0;
    for (int i = 0; i < 60; i++) {
        char prompt[20];
        snprintf(prompt, sizeof prompt, "prompt %d", i);
        turn_request q = raw_request(prompt, 60);
        result whole, cut;
        run(c, &q, &whole);
        str text = buf_str(&whole.content);
        size_t at = (size_t)(i * 7) % (text.len - 8), len = 1 + (size_t)i % 8;
        while (at > 0 && (text.ptr[at] & 0xC0) == 0x80) at--;
        while (at + len < text.len && (text.ptr[at + len] & 0xC0) == 0x80) len++;
        str stops[] = {STR("never there"), str_make(text.ptr + at, len)};
        q.stops = stops;
        q.n_stops = 2;
        run(c, &q, &cut);
        ptrdiff_t first = str_find(text, stops[1], 0);
        assert_true(first >= 0);
        assert_int_equal(cut.finish, TURN_STOP);
        assert_true(str_is(stops[1], cut.stop));
        assert_true(str_eq(buf_str(&cut.content), str_make(text.ptr, (size_t)first)));
        assert_true(cut.n <= whole.n);
        assert_memory_equal(cut.ids, whole.ids, cut.n * sizeof *cut.ids);
        n_late += cut.n > 10;
        /* in company, and read in another way */
        turn *others[3], *t;
        turn_event ev;
        turn_request noise = raw_request("noise", 40);
        for (int k = 0; k < 3; k++) others[k] = begin(c, &noise);
        result again = {0};
        t = begin(c, &q);
        do
            while (!turn_poll(t, &ev)) usleep(50);
        while (record(&again, t, &ev));
        check_same(&cut, &again);
        turn_free(t);
        for (int k = 0; k < 3; k++) turn_free(others[k]); /* running or not */
        free_result(&whole);
        free_result(&cut);
        free_result(&again);
    }
    assert_true(n_late > 10);
    chat_free(c);
    engine_close(e);
}

static void test_parallel(void **state) {
    (void)state;
    enum { N = 8 };
    engine *e = open_engine(tiny_vocab_harmony(), 4);
    chat *c = new_chat(e, "", NULL);
    result alone[N], together[N] = {0};
    turn *t[N];
    char prompts[N][20];
    for (int i = 0; i < N; i++) {
        snprintf(prompts[i], sizeof prompts[i], "%d hello", i * 37);
        turn_request q = raw_request(prompts[i], 30 + i);
        q.sampling.temperature = 1;
        q.sampling.seed = (uint64_t)i;
        run(c, &q, &alone[i]);
    }
    for (int i = 0; i < N; i++) {
        turn_request q = raw_request(prompts[i], 30 + i);
        q.sampling.temperature = 1;
        q.sampling.seed = (uint64_t)i;
        t[i] = begin(c, &q);
    }
    for (int left = N; left > 0;)
        for (int i = 0; i < N; i++) {
            turn_event ev;
            if (!t[i] || !turn_wait(t[i], &ev, 1) || record(&together[i], t[i], &ev)) continue;
            turn_free(t[i]);
            t[i] = NULL;
            left--;
        }
    for (int i = 0; i < N; i++) {
        check_same(&alone[i], &together[i]);
        free_result(&alone[i]);
        free_result(&together[i]);
    }
    chat_free(c);
    engine_close(e);
}

static void test_cancel(void **state) {
    (void)state;
    engine *e = open_engine(tiny_vocab_harmony(), 1);
    chat *c = new_chat(e, "", NULL);
    turn_request q = raw_request("hello", -1);
    turn *t = begin(c, &q);
    turn_event ev;
    result r = {0};
    for (int i = 0; i < 5; i++) assert_true(turn_wait(t, &ev, -1) && record(&r, t, &ev));
    turn_cancel(t);
    turn_cancel(t);
    while (turn_wait(t, &ev, -1) && record(&r, t, &ev)) {
    }
    assert_true(r.finish == TURN_CANCELLED || (r.finish == TURN_LENGTH && r.n == CONTEXT - 2));
    turn_free(t);
    /* the slot is free again */
    free_result(&r);
    q.max_tokens = 3;
    run(c, &q, &r);
    assert_int_equal(r.n, 3);
    free_result(&r);
    chat_free(c);
    engine_close(e);
}

/* Nobody asked for the ids: only their count is kept. */
static void test_keeps_no_ids(void **state) {
    (void)state;
    engine *e = open_engine(tiny_vocab_harmony(), 1);
    chat *c = new_chat(e, "", NULL);
    turn_request q = raw_request("hello", 40);
    q.keep_ids = false;
    turn *t = begin(c, &q);
    turn_event ev;
    while (turn_wait(t, &ev, -1) && ev.kind != TURN_END) continue;
    size_t n;
    turn_token_ids(t, &n);
    assert_int_equal(n, 0);
    assert_int_equal(ev.usage.n_completion, 40);
    turn_free(t);
    chat_free(c);
    engine_close(e);
}

static void test_refusals(void **state) {
    (void)state;
    engine *e = open_engine(tiny_vocab_harmony(), 1);
    chat *c = new_chat(e, "", NULL);
    struct {
        turn_request r;
        error_code code;
    } cases[8] = {0};
    static str stops[TURN_MAX_STOPS + 1], long_stop;
    static char long_bytes[TURN_MAX_STOP_BYTES + 1];
    int n = 0;
    long_stop = str_make(long_bytes, sizeof long_bytes);
    chat_message m = {.role = CHAT_USER, .content = STR("x"), .has_content = true};
    chat_input in = {.messages = &m, .n_messages = 1};
    cases[n].r = (turn_request){.score_prompt = -1, .sampling = sample_defaults()};
    cases[n++].code = ERR_INVALID_VALUE; /* no prompt at all */
    cases[n].r = raw_request("x", 1);
    cases[n].r.chat = &in;
    cases[n++].code = ERR_INVALID_VALUE; /* two */
    cases[n].r = raw_request("", 1);
    cases[n++].code = ERR_INVALID_VALUE;
    cases[n].r = raw_request("x", 1);
    cases[n].r.stops = stops;
    cases[n].r.n_stops = TURN_MAX_STOPS + 1;
    cases[n++].code = ERR_ARRAY_ABOVE_MAX;
    cases[n].r = raw_request("x", 1);
    cases[n].r.stops = &long_stop;
    cases[n].r.n_stops = 1;
    cases[n++].code = ERR_STRING_ABOVE_MAX;
    static char big[CONTEXT + 2];
    memset(big, 'x', CONTEXT + 1);
    cases[n].r = raw_request(big, 1);
    cases[n++].code = ERR_CONTEXT_LENGTH;
    for (int i = 0; i < n; i++) {
        error err = {0};
        assert_null(turn_start(c, &cases[i].r, &err));
        assert_int_equal(err.code, cases[i].code);
        assert_true(strlen(err.message) > 10);
    }
    chat_free(c);
    engine_close(e);
}

/* ── harmony ── */

static buf read_file(const char *dir, const char *name) {
    char path[600];
    buf b = {0};
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDONLY);
    if (fd < 0 || !buf_read_fd(&b, fd)) fail_msg("%s cannot be read", path);
    close(fd);
    return b;
}

/* Random answers through the harmony parser, twice; and the same files each time. */
static void test_harmony_turns(void **state) {
    (void)state;
    char dir[] = "/tmp/oriel-turn-XXXXXX";
    assert_non_null(mkdtemp(dir));
    engine *e = open_engine(tiny_vocab_harmony(), 2);
    chat *c = new_chat(e, "", dir);
    chat_tool tool = {.name = STR("get")};
    chat_message m = {.role = CHAT_USER, .content = STR("Hi <|end|>"), .has_content = true};
    chat_input in = {
        .messages = &m, .n_messages = 1, .tools = &tool, .n_tools = 1, .now = 1753531200};
    int n_with_text = 0;
    for (int i = 0; i < 20; i++) {
        turn_request q = raw_request("", 40);
        result r, again;
        q.has_text = false;
        q.chat = &in;
        q.sampling.temperature = 1;
        q.sampling.seed = (uint64_t)i;
        /* a header, so that answers are more than noise */
        sample_bias bias[] = {{TINY_CHANNEL, 4}, {TINY_MESSAGE, 5}};
        q.sampling.bias = bias;
        q.sampling.n_bias = 2;
        run(c, &q, &r);
        run(c, &q, &again);
        check_same(&r, &again);
        n_with_text += r.content.len + r.reasoning.len > 0;
        free_result(&r);
        free_result(&again);
    }
    assert_true(n_with_text > 5);
    static const char *const FILES[] = {"prompt.txt", "ids.json", "raw.txt", "parse.json"};
    for (int i = 1; i <= 40; i += 2)
        for (int k = 0; k < 4; k++) {
            char name[2][40];
            buf b[2];
            for (int j = 0; j < 2; j++) {
                snprintf(name[j], sizeof name[j], "%04d-%s", i + j, FILES[k]);
                b[j] = read_file(dir, name[j]);
            }
            assert_true(str_eq(buf_str(&b[0]), buf_str(&b[1])));
            if (k == 1 || k == 3) {
                json_t *v = json_parse(buf_str(&b[0]), NULL);
                assert_true(json_is_object(v));
                json_decref(v);
            }
            for (int j = 0; j < 2; j++) {
                char path[600];
                snprintf(path, sizeof path, "%s/%s", dir, name[j]);
                assert_int_equal(unlink(path), 0);
                buf_deinit(&b[j]);
            }
        }
    assert_int_equal(rmdir(dir), 0);
    chat_free(c);
    engine_close(e);
}

/* ── Templates ── */

#define CHATML                                                                                               \
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}" \
    "{% if tools %}{{ tools | tojson }}{% endif %}{{ '<|im_start|>assistant\\n<think>\\n' }}"

static void test_template(void **state) {
    (void)state;
    static const char *const SPECIAL[] = {"<s>", "<|im_start|>", "<|im_end|>", "<think>",
                                          "</think>"};
    enum { BOS = TINY_SPECIAL, IM_START, IM_END, THINK };
    tok *t = tiny_vocab_new(SPECIAL, 5, BOS, IM_END);
    engine *e = open_engine(t, 1);
    chat *c = new_chat(e, CHATML, NULL);
    assert_false(chat_is_harmony(c));
    assert_true(chat_can_chat(c));
    chat_message m[] = {
        {.role = CHAT_DEVELOPER, .content = STR("Be <|im_end|>."), .has_content = true},
        {.role = CHAT_USER, .content = STR("h\xFFi"), .has_content = true}};
    chat_input in = {.messages = m, .n_messages = 2};
    tok_ids ids = {0};
    buf text = {0};
    error err = {0};
    if (!chat_render(c, &in, &ids, &text, &err)) fail_msg("%s", err.message);
    assert_string_equal(
        text.ptr,
        "<|im_start|>system\nBe <|im_end|>.<|im_end|>\n<|im_start|>user\nh\xEF\xBF\xBDi<|im_end|>\n"
        "<|im_start|>assistant\n<think>\n");
    int n[5] = {0};
    for (size_t i = 0; i < ids.n; i++)
        if (ids.ids[i] >= BOS) n[ids.ids[i] - BOS]++;
    assert_int_equal(n[IM_START - BOS], 3);
    assert_int_equal(n[IM_END - BOS], 2); /* not the developer's words */
    assert_int_equal(n[THINK - BOS], 1);
    assert_int_equal(n[0], tok_adds_bos(t) ? 1 : 0);

    /* the prompt opened the reasoning, so the answer begins inside it */
    turn_request q = raw_request("", 10);
    result r;
    q.has_text = false;
    q.chat = &in;
    run(c, &q, &r);
    assert_int_equal(r.usage.n_reasoning, 10);
    assert_int_equal(r.content.len, 0);
    free_result(&r);

    /* an answer that has begun goes on behind the reasoning; its words stay words */
    in.started = STR("So <|im_end|>");
    buf_clear(&text);
    ids.n = 0;
    memset(n, 0, sizeof n);
    if (!chat_render(c, &in, &ids, &text, &err)) fail_msg("%s", err.message);
    assert_true(str_ends(buf_str(&text), STR("<think>\n</think>\n\nSo <|im_end|>")));
    for (size_t i = 0; i < ids.n; i++)
        if (ids.ids[i] >= BOS) n[ids.ids[i] - BOS]++;
    assert_int_equal(n[IM_END - BOS], 2);
    assert_int_equal(n[4], 1);
    run(c, &q, &r);
    assert_int_equal(r.usage.n_reasoning, 0);
    assert_int_equal(r.usage.n_prompt, (int64_t)ids.n);
    assert_true(r.content.len > 0 && str_find(buf_str(&r.content), STR("So"), 0) != 0);
    free_result(&r);

    chat_tool tool = {.name = STR("get")};
    in.tools = &tool;
    in.n_tools = 1;
    err = (error){0};
    assert_null(turn_start(c, &q, &err)); /* words only */
    assert_int_equal(err.code, ERR_UNSUPPORTED_VALUE);
    err = (error){0};
    in.started = (str){0};
    buf_clear(&text);
    if (!chat_render(c, &in, NULL, &text, &err)) fail_msg("%s", err.message);
    /* a template that shows no calls: the system message tells how */
    assert_true(
        str_starts(buf_str(&text), STR("<|im_start|>system\nBe <|im_end|>.\n\nYou can call")));
    assert_true(str_find(buf_str(&text), STR("{\"name\":\"get\"}"), 0) > 0);
    run(c, &q, &r);
    free_result(&r);
    in.tool_choice = CHAT_TOOLS_NONE;
    run(c, &q, &r);
    free_result(&r);

    /* a file without template and without harmony */
    chat *none = new_chat(e, "", NULL);
    err = (error){0};
    assert_false(chat_can_chat(none));
    assert_null(turn_start(none, &q, &err));
    assert_int_equal(err.code, ERR_UNSUPPORTED_VALUE);
    chat_options bad = {.template_override = STR("{% if %}")};
    err = (error){0};
    assert_null(chat_new(e, &bad, &err));
    assert_int_equal(err.code, ERR_TEMPLATE);
    chat_free(none);
    chat_free(c);
    engine_close(e);
    tok_ids_deinit(&ids);
    buf_deinit(&text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raw),      cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_raw_form), cmocka_unit_test(test_parallel),
        cmocka_unit_test(test_cancel),   cmocka_unit_test(test_keeps_no_ids),
        cmocka_unit_test(test_refusals), cmocka_unit_test(test_harmony_turns),
        cmocka_unit_test(test_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
