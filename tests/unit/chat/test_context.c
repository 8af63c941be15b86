/* The context rules over real renderings: what a long conversation costs a prefix cache, what is tokenized
 * again, and what a turn reports. The rules themselves: tests/prop/test_context.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include <dirent.h>

#include "base/hash.h"
#include "chat/turn.h"
#include "corpus.h"
#include "tiny_vocab.h"

enum { CONTEXT = 4096, N_TURNS = 200 };

static engine *open_engine(void) {
    error err = {0};
    tok *t = tiny_vocab_harmony();
    model_fake_config m = {
        .n_vocab = tok_n_vocab(t), .n_layers = 2, .width = 16, .end_id = -1, .seed = 7};
    engine_config c = engine_defaults();
    c.n_parallel = 1;
    c.n_threads = 1;
    c.max_context_tokens = CONTEXT;
    model *fake = model_new_fake(&m, &err);
    engine *e = fake ? engine_open_model(fake, t, &c, &err) : NULL;
    if (!e) fail_msg("%s", err.message);
    return e;
}

static chat *new_chat(engine *e, const char *template) {
    error err = {0};
    chat_options o = {.template_override = str_from(template)};
    chat *c = chat_new(e, &o, &err);
    if (!c) fail_msg("%s", err.message);
    return c;
}

static const char chatml[] =
    "{%- for m in messages %}{{ '<|start|>' + m.role + '<|message|>' + m.content + '<|end|>' }}{%- endfor %}"
    "{{ '<|start|>assistant<|message|>' }}";

/* ── A conversation that grows ── */

typedef struct talk {
    chat_message m[1 + 2 * N_TURNS];
    char text[1 + 2 * N_TURNS][200];
    size_t n;
} talk;

static void say(talk *t, chat_role role, uint64_t least, uint64_t most) {
    char *p = t->text[t->n];
    size_t len = least + rng_at(5, t->n) % (most - least);
    for (size_t i = 0; i < len; i++) p[i] = (char)('a' + rng_at(t->n + 9, i) % 26);
    t->m[t->n++] = (chat_message){.role = role, .content = str_make(p, len), .has_content = true};
}

typedef struct renderer {
    chat *c;
    tok_ids ids;
} renderer;

static int64_t render(void *ctx, const chat_input *in, error *err) {
    renderer *r = ctx;
    r->ids.n = 0;
    return chat_render(r->c, in, &r->ids, NULL, err) ? (int64_t)r->ids.n : -1;
}

/* Prompts one after the other, and a cache that holds the rows of the last one. */
typedef struct cache {
    tok_ids last;
    int64_t n_tokens, n_recomputed;
} cache;

static void feed(cache *k, const tok_ids *ids) {
    size_t same = 0;
    while (same < ids->n && same < k->last.n && ids->ids[same] == k->last.ids[same]) same++;
    k->n_tokens += (int64_t)ids->n;
    k->n_recomputed += (int64_t)(ids->n - same);
    k->last.n = 0;
    tok_ids_append(&k->last, ids->ids, ids->n);
}

/* Most turns reuse the prefix of the turn before: over 200 turns a small multiple of what is new is
 * recomputed, and a fraction of what a cut at every turn costs. */
static void most_turns_reuse_their_prefix(void **state) {
    (void)state;
    engine *e = open_engine();
    static const char *const TEMPLATES[] = {"", chatml};
    for (int which = 0; which < 2; which++) {
        chat *c = new_chat(e, TEMPLATES[which]);
        renderer r = {.c = c};
        cache steps = {0}, eager = {0};
        talk *t = calloc(1, sizeof *t);
        context_rules rules = {.mode = CONTEXT_DROP, .margin = 96};
        int64_t limit = context_limit(&rules, CONTEXT), whole = 0, most = 0;
        int n_moves = 0;
        int64_t was_dropped = 0;
        size_t first = 1; /* of the eager way: the fewest turns that fit */
        say(t, CHAT_SYSTEM, 50, 51);
        for (int i = 0; i < N_TURNS; i++) {
            error err = {0};
            arena mem;
            context_result cut;
            arena_init(&mem, 0);
            say(t, CHAT_USER, 20, 60);
            chat_input in = {.messages = t->m, .n_messages = t->n};
            if (!context_fit(&in, &rules, limit, &mem, render, &r, &cut, &err))
                fail_msg("%s", err.message);
            assert_int_equal(r.ids.n, cut.n_tokens);
            assert_true(cut.n_tokens <= limit);
            if (cut.n_tokens > most) most = cut.n_tokens;
            n_moves += cut.n_turns_dropped != was_dropped;
            was_dropped = cut.n_turns_dropped;
            whole = cut.n_tokens + cut.n_tokens_dropped;
            feed(&steps, &r.ids);
            for (;; first += 2) {
                chat_message view[1 + 2 * N_TURNS];
                view[0] = t->m[0];
                memcpy(view + 1, t->m + first, (t->n - first) * sizeof *view);
                in = (chat_input){.messages = view, .n_messages = 1 + t->n - first};
                assert_true(render(&r, &in, &err) > 0);
                if ((int64_t)r.ids.n <= limit) break;
            }
            feed(&eager, &r.ids);
            arena_deinit(&mem);
            if (i + 1 < N_TURNS) say(t, CHAT_ASSISTANT, 60, 180);
        }
        print_message(
            "%s: %d turns of %lld tokens in all, limit %lld, longest prompt %lld: %d moves of the cut, "
            "%lld tokens recomputed (%.2f of what is new), %lld when every turn cuts (%.2f), %lld without "
            "a cache\n",
            which ? "template" : "harmony", N_TURNS, (long long)whole, (long long)limit,
            (long long)most, n_moves, (long long)steps.n_recomputed,
            (double)steps.n_recomputed / (double)whole, (long long)eager.n_recomputed,
            (double)eager.n_recomputed / (double)whole, (long long)steps.n_tokens);
        int64_t step = limit / 5; /* less than a quarter of the room beside the system part */
        assert_true(n_moves > 10 && n_moves <= (whole - limit) / step + 1);
        assert_true(steps.n_recomputed <= whole + n_moves * limit * 3 / 4);
        assert_true(steps.n_recomputed * 4 < eager.n_recomputed);
        free(t);
        tok_ids_deinit(&r.ids);
        tok_ids_deinit(&steps.last);
        tok_ids_deinit(&eager.last);
        chat_free(c);
    }
    engine_close(e);
}

/* ── Templates people use ── */

/* A conversation of n turns; with tools every other turn makes a call. */
static size_t converse(chat_message *m, chat_call *calls, int n, bool has_system, bool has_tools) {
    static const chat_message SYSTEM = {.role = CHAT_SYSTEM,
                                        .content = {"You help with all.", 18},
                                        .has_content = true},
                              USER = {.role = CHAT_USER,
                                      .content = {"What is the weather in Paris today?", 35},
                                      .has_content = true},
                              ANSWER = {.role = CHAT_ASSISTANT,
                                        .content = {"It is sunny there, as it was before.", 36},
                                        .has_content = true};
    size_t k = 0;
    if (has_system) m[k++] = SYSTEM;
    for (int i = 0; i < n; i++) {
        m[k++] = USER;
        if (has_tools && i % 2 == 0) {
            calls[i] = (chat_call){.id = STR("call00001"),
                                   .name = STR("weather"),
                                   .arguments = STR("{\"city\": \"Paris\"}")};
            m[k++] = (chat_message){.role = CHAT_ASSISTANT, .calls = &calls[i], .n_calls = 1};
            m[k++] = (chat_message){.role = CHAT_TOOL,
                                    .call_id = STR("call00001"),
                                    .name = STR("weather"),
                                    .content = STR("sunny"),
                                    .has_content = true};
        }
        m[k++] = ANSWER;
    }
    m[k++] = USER;
    return k;
}

/* What is left of a conversation is one its template takes, within the limit. */
static void check_template(chat *c, const chat_input *in, const char *name, int *n_cut) {
    renderer r = {.c = c};
    error err = {0};
    int64_t whole = render(&r, in, &err);
    if (whole < 0) { /* a template without such roles */
        tok_ids_deinit(&r.ids);
        return;
    }
    static const struct {
        context_mode mode;
        int percent;
    } TRIES[] = {{CONTEXT_DROP, 85}, {CONTEXT_DROP, 60}, {CONTEXT_CUT, 40}};
    for (size_t i = 0; i < sizeof TRIES / sizeof *TRIES; i++) {
        context_rules rules = {.mode = TRIES[i].mode};
        context_result cut;
        chat_input part = *in;
        arena mem;
        arena_init(&mem, 0);
        err = (error){0};
        int64_t limit = whole * TRIES[i].percent / 100;
        bool ok = context_fit(&part, &rules, limit, &mem, render, &r, &cut, &err);
        if (ok ? cut.n_tokens > limit || (int64_t)r.ids.n != cut.n_tokens
               : err.code != ERR_CONTEXT_LENGTH)
            fail_msg("%s, %d %%: %lld of %lld: %s", name, TRIES[i].percent, (long long)cut.n_tokens,
                     (long long)limit, err.message);
        *n_cut += ok;
        arena_deinit(&mem);
    }
    tok_ids_deinit(&r.ids);
}

static void templates_take_what_is_left(void **state) {
    (void)state;
    if (!corpus_dir()) skip();
    static const char schema[] =
        "{\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\"}}}";
    char path[1000];
    error err = {0};
    json_t *parameters = json_parse(STR(schema), &err);
    chat_tool tool = {
        .name = STR("weather"), .description = STR("Tells it."), .parameters = parameters};
    engine *e = open_engine();
    snprintf(path, sizeof path, "%s/templates/llama.cpp-templates", corpus_dir());
    DIR *d = opendir(path);
    assert_non_null(d);
    int n = 0, n_cut = 0;
    for (struct dirent *f; (f = readdir(d));) {
        if (!strstr(f->d_name, ".jinja")) continue;
        buf source = corpus_read("templates/llama.cpp-templates/%s", f->d_name);
        chat *c = chat_new(e, &(chat_options){.template_override = buf_str(&source)}, &err);
        if (!c) fail_msg("%s: %s", f->d_name, err.message);
        for (int kind = 0; kind < 4; kind++) {
            chat_message m[64];
            chat_call calls[12];
            chat_input in = {.messages = m, .now = 1753531200};
            in.n_messages = converse(m, calls, 6, kind & 1, kind & 2);
            if (kind & 2) {
                in.tools = &tool;
                in.n_tools = 1;
            }
            check_template(c, &in, f->d_name, &n_cut);
        }
        n++;
        chat_free(c);
        buf_deinit(&source);
    }
    closedir(d);
    print_message("%d templates, %d prompts cut\n", n, n_cut);
    assert_true(n > 40 && n_cut > 8 * n);
    json_decref(parameters);
    engine_close(e);
}

/* ── Tokenizing ── */

/* A turn more costs the bytes of what is new, also while turns fall out at the other end. */
static void a_turn_more_tokenizes_that_turn(void **state) {
    (void)state;
    engine *e = open_engine();
    static const char *const TEMPLATES[] = {"", chatml};
    for (int which = 0; which < 2; which++) {
        chat *c = new_chat(e, TEMPLATES[which]);
        renderer r = {.c = c};
        talk *t = calloc(1, sizeof *t);
        context_rules rules = {.mode = CONTEXT_DROP};
        uint64_t before = 0, said = 0;
        say(t, CHAT_SYSTEM, 50, 51);
        for (int i = 0; i < N_TURNS; i++) {
            error err = {0};
            arena mem;
            context_result cut;
            arena_init(&mem, 0);
            size_t was = t->n;
            if (i) say(t, CHAT_ASSISTANT, 60, 180);
            say(t, CHAT_USER, 20, 60);
            chat_input in = {.messages = t->m, .n_messages = t->n};
            assert_true(context_fit(&in, &rules, 2000, &mem, render, &r, &cut, &err));
            uint64_t tokenized = chat_get_stats(c).tokenizing.n_encoded_bytes, fresh = 0;
            for (size_t k = was; k < t->n; k++) fresh += t->m[k].content.len;
            said += fresh;
            if (i > 1) assert_int_equal(tokenized - before, fresh);
            before = tokenized;
            /* and the ids are those of a chat that never saw any of it */
            if (i % 50 == 49) {
                chat *other = new_chat(e, TEMPLATES[which]);
                tok_ids ids = {0};
                assert_true(chat_render(other, &in, &ids, NULL, &err));
                assert_int_equal(ids.n, r.ids.n);
                assert_memory_equal(ids.ids, r.ids.ids, ids.n * sizeof *ids.ids);
                tok_ids_deinit(&ids);
                chat_free(other);
            }
            arena_deinit(&mem);
        }
        tok_cache_stats s = chat_get_stats(c).tokenizing;
        print_message("%s: %llu bytes said, %llu tokenized, %llu known from before\n",
                      which ? "template" : "harmony", (unsigned long long)said,
                      (unsigned long long)s.n_encoded_bytes,
                      (unsigned long long)s.n_remembered_bytes);
        free(t);
        tok_ids_deinit(&r.ids);
        chat_free(c);
    }
    engine_close(e);
}

/* ── Going on where the rows are ── */

static tok_ids list(size_t n, const int32_t *ids) {
    tok_ids v = {0};
    tok_ids_append(&v, ids, n);
    return v;
}
#define LIST(...) list(sizeof((int32_t[]){__VA_ARGS__}) / 4, (int32_t[]){__VA_ARGS__})

static void expect_continued(tok *t, tok_ids prompt, tok_ids live, int64_t limit, size_t n_agree,
                             tok_ids want) {
    assert_int_equal(context_continue(t, &prompt, live.ids, live.n, limit), n_agree);
    assert_int_equal(prompt.n, want.n);
    assert_memory_equal(prompt.ids, want.ids, want.n * sizeof *want.ids);
    assert_memory_equal(prompt.ids, live.ids, n_agree * sizeof *live.ids);
    tok_ids_deinit(&prompt);
    tok_ids_deinit(&live);
    tok_ids_deinit(&want);
}

static void live_ids_stay(void **state) {
    (void)state;
    enum { HE = TINY_WORDS, LL, HELL, E = TINY_END, S = TINY_START };
    tok *t = tiny_vocab_harmony();
    /* the same text in other ids: the live ones, and what follows goes on */
    expect_continued(t, LIST(S, 'u', E, S, HELL, 'o', E, S, 'u'),
                     LIST(S, 'u', E, S, HE, LL, 'o', E), 100, 8,
                     LIST(S, 'u', E, S, HE, LL, 'o', E, S, 'u'));
    expect_continued(t, LIST(S, HE, LL, E, S, 'u'), LIST(S, HELL, TINY_RETURN), 100, 2,
                     LIST(S, HELL, E, S, 'u'));
    /* an answer that was cut in its middle */
    expect_continued(t, LIST(S, HELL, E, S), LIST(S, 'h', 'e', 'l', 'l'), 100, 5,
                     LIST(S, 'h', 'e', 'l', 'l', E, S));
    /* another text, another mark, more than the limit: the prompt stays as it is */
    expect_continued(t, LIST(S, HELL, 'o', E), LIST(S, HELL, 'a', E), 100, 2,
                     LIST(S, HELL, 'o', E));
    expect_continued(t, LIST(S, HELL, 'o', E), LIST(S, HE, LL, E), 100, 1, LIST(S, HELL, 'o', E));
    expect_continued(t, LIST(S, 'a', E, HELL), LIST(S, 'a', S, HE, LL), 100, 2,
                     LIST(S, 'a', E, HELL));
    expect_continued(t, LIST(S, HELL, E), LIST(S, HE, LL, E), 3, 1, LIST(S, HELL, E));
    expect_continued(t, LIST('a'), LIST(S), 3, 0, LIST('a'));
    /* many random ones: the text never changes, all that can agree does, and once is enough */
    for (uint64_t i = 0; i < 20000; i++) {
        static const int32_t CHOICES[] = {'h', 'e', 'l', HE, LL, HELL, E, S};
        tok_ids live = {0}, prompt = {0};
        buf text = {0}, after = {0};
        error err = {0};
        for (uint64_t k = 0; k < 1 + rng_at(i, 0) % 20; k++)
            tok_ids_push(&live, CHOICES[rng_at(i, k + 1) % 8]);
        tok_decode(t, live.ids, live.n, (tok_decode_opts){0}, &text);
        buf_append_cstr(&text, "<|end|>he");
        assert_true(
            tok_encode(t, buf_str(&text), (tok_encode_opts){.parse_special = true}, &prompt, &err));
        size_t n = context_continue(t, &prompt, live.ids, live.n, 1000);
        tok_decode(t, prompt.ids, prompt.n, (tok_decode_opts){0}, &after);
        assert_true(str_eq(buf_str(&text), buf_str(&after)));
        assert_int_equal(n, live.n);
        assert_int_equal(prompt.n, live.n + 2);
        assert_int_equal(context_continue(t, &prompt, live.ids, live.n, 1000), n);
        tok_ids_deinit(&live);
        tok_ids_deinit(&prompt);
        buf_deinit(&text);
        buf_deinit(&after);
    }
    tok_unref(t);
}

/* A conversation through turns: with the ids of the turn before, each prompt is that turn's ids and what was
 * said since; without them the model's odd spelling is read anew. */
static void a_conversation_goes_on(void **state) {
    (void)state;
    engine *e = open_engine();
    chat *c = new_chat(e, chatml);
    talk *t = calloc(1, sizeof *t);
    tok_ids live = {0};
    int n_odd = 0;
    for (int i = 0; i < 12; i++) {
        error err = {0};
        say(t, CHAT_USER, 5, 20);
        chat_input in = {.messages = t->m, .n_messages = t->n};
        turn_request r = {.chat = &in,
                          .max_tokens = 12,
                          .score_prompt = -1,
                          .ignore_end = true,
                          .keep_ids = true};
        r.sampling = sample_defaults();
        r.sampling.seed = (uint64_t)i;
        /* letters only, so that what it says is text, in pieces no tokenizer would choose */
        sample_bias bias[8];
        for (int k = 0; k < 3; k++) bias[k] = (sample_bias){"hel"[k], 100};
        for (int k = 3; k < 6; k++) bias[k] = (sample_bias){TINY_WORDS + k - 3, 100};
        r.sampling.bias = bias;
        r.sampling.n_bias = 6;
        r.live = live.ids;
        r.n_live = live.n;
        turn *running = turn_start(c, &r, &err);
        if (!running) fail_msg("%s", err.message);
        size_t n, n_plain;
        const int32_t *ids = turn_prompt_ids(running, &n);
        assert_true(n > live.n);
        if (live.n) assert_memory_equal(ids, live.ids, live.n * sizeof *ids);
        tok_ids plain = {0};
        assert_true(chat_render(c, &in, &plain, NULL, &err));
        n_plain = plain.n;
        n_odd += n_plain != n;
        tok_ids_deinit(&plain);
        live.n = 0;
        tok_ids_append(&live, ids, n);
        turn_event ev;
        buf said = {0};
        while (turn_wait(running, &ev, -1) && ev.kind != TURN_END)
            if (ev.kind == TURN_CONTENT) buf_append_str(&said, ev.text);
        ids = turn_token_ids(running, &n);
        tok_ids_append(&live, ids, n);
        turn_free(running);
        memcpy(t->text[t->n], said.ptr, said.len);
        t->m[t->n] = (chat_message){.role = CHAT_ASSISTANT,
                                    .content = str_make(t->text[t->n], said.len),
                                    .has_content = true};
        t->n++;
        buf_deinit(&said);
    }
    assert_true(n_odd > 5);
    tok_ids_deinit(&live);
    free(t);
    chat_free(c);
    engine_close(e);
}

/* ── Through a turn ── */

static turn_request request(const chat_input *in) {
    turn_request r = {.chat = in, .max_tokens = 2, .score_prompt = -1, .ignore_end = true};
    r.sampling = sample_defaults();
    r.sampling.temperature = 0;
    return r;
}

static void a_turn_tells_what_it_lost(void **state) {
    (void)state;
    engine *e = open_engine();
    chat *c = new_chat(e, "");
    talk *t = calloc(1, sizeof *t);
    error err = {0};
    say(t, CHAT_SYSTEM, 50, 51);
    for (int i = 0; i < 50; i++) {
        say(t, CHAT_USER, 20, 60);
        if (i < 49) say(t, CHAT_ASSISTANT, 60, 180);
    }
    chat_input in = {.messages = t->m, .n_messages = t->n};
    turn_request r = request(&in);
    assert_null(turn_start(c, &r, &err));
    assert_int_equal(err.code, ERR_CONTEXT_LENGTH);
    assert_string_equal(err.param, "messages");
    err = (error){0};
    r.context = (context_rules){.mode = CONTEXT_DROP, .max_tokens = 1000, .margin = 1000};
    assert_null(turn_start(c, &r, &err));
    assert_int_equal(err.code, ERR_INVALID_VALUE);
    assert_string_equal(err.param, "max_context_tokens_margin");
    err = (error){0};
    r.context = (context_rules){.mode = CONTEXT_DROP, .max_tokens = CONTEXT + 1};
    assert_null(turn_start(c, &r, &err));
    assert_int_equal(err.code, ERR_INT_ABOVE_MAX);
    err = (error){0};
    r.context =
        (context_rules){.mode = CONTEXT_DROP, .max_tokens = 1000, .margin = 50, .budget = 900};
    turn *running = turn_start(c, &r, &err);
    if (!running) fail_msg("%s", err.message);
    const context_result *cut = turn_get_context(running);
    size_t n;
    turn_prompt_ids(running, &n);
    assert_int_equal(cut->limit, 900);
    assert_true(n <= 900 && cut->n_tokens == (int64_t)n);
    assert_true(cut->n_turns_dropped > 20 && cut->n_messages_dropped == 2 * cut->n_turns_dropped);
    chat_stats s = chat_get_stats(c);
    assert_int_equal(s.n_refused, 1);
    assert_int_equal(s.n_cut, 1);
    assert_int_equal(s.n_turns_dropped, cut->n_turns_dropped);
    assert_int_equal(s.n_tokens_dropped, cut->n_tokens_dropped);
    turn_free(running);
    /* a raw prompt: the end stays */
    static int32_t ids[3000];
    for (int i = 0; i < 3000; i++) ids[i] = 'a' + i % 26;
    turn_request raw = request(NULL);
    raw.chat = NULL;
    raw.ids = ids;
    raw.n_ids = 3000;
    raw.context = (context_rules){.mode = CONTEXT_DROP, .max_tokens = 1000};
    assert_null(turn_start(c, &raw, &err));
    assert_int_equal(err.code, ERR_CONTEXT_LENGTH);
    err = (error){0};
    raw.context.mode = CONTEXT_CUT;
    running = turn_start(c, &raw, &err);
    assert_non_null(running);
    const int32_t *kept = turn_prompt_ids(running, &n);
    assert_true(n <= 1000 && n > 740);
    assert_memory_equal(kept, ids + 3000 - n, n * sizeof *kept);
    assert_int_equal(turn_get_context(running)->n_tokens_dropped, 3000 - n);
    turn_free(running);
    free(t);
    chat_free(c);
    engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(most_turns_reuse_their_prefix),
        cmocka_unit_test(templates_take_what_is_left),
        cmocka_unit_test(a_turn_more_tokenizes_that_turn),
        cmocka_unit_test(live_ids_stay),
        cmocka_unit_test(a_conversation_goes_on),
        cmocka_unit_test(a_turn_tells_what_it_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
