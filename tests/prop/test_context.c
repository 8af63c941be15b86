/* Random conversations through the rules of chat/context.h, each result looked at by a checker that
 * shares no code with it: it works from the messages alone.
 *
 * ORIEL_CONTEXT_CASES and ORIEL_CONTEXT_SEED choose how many and which; `make soak` runs 100,000.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stddef.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "chat/context.h"

enum { MAX_MESSAGES = 400, MAX_CALLS = 4, MAX_TEXT = 600 };

/* ── A conversation ── */

typedef struct talk {
    chat_message m[MAX_MESSAGES];
    size_t n;
    chat_call calls[MAX_MESSAGES][MAX_CALLS];
    char ids[MAX_MESSAGES][MAX_CALLS][24];
    chat_input in;
    uint64_t seed, draws;
} talk;

static char letters[(MAX_TEXT + 1) * MAX_MESSAGES];

static uint64_t draw(talk *t, uint64_t n) {
    return rng_at(t->seed, t->draws++) % n;
}

static bool chance(talk *t, int percent) {
    return draw(t, 100) < (uint64_t)percent;
}

static chat_message *add(talk *t, chat_role role) {
    if (t->n == MAX_MESSAGES) return &t->m[MAX_MESSAGES - 1];
    chat_message *m = &t->m[t->n];
    size_t len = chance(t, 5) ? draw(t, MAX_TEXT) : draw(t, 40);
    /* Each message's text begins at another address, so that none is taken for another. */
    *m = (chat_message){.role = role,
                        .content = str_make(letters + t->n * (MAX_TEXT + 1), len),
                        .has_content = true};
    t->n++;
    return m;
}

static void add_calls(talk *t) {
    size_t at = t->n;
    chat_message *m = add(t, CHAT_ASSISTANT);
    if (at == MAX_MESSAGES) return;
    m->n_calls = 1 + draw(t, MAX_CALLS);
    m->calls = t->calls[at];
    m->has_content = chance(t, 30);
    if (!m->has_content) m->content = (str){0};
    if (chance(t, 60)) m->reasoning = str_make(letters, draw(t, 60));
    for (size_t i = 0; i < m->n_calls; i++) {
        snprintf(t->ids[at][i], sizeof t->ids[at][i], "c%zu_%zu", at, i);
        t->calls[at][i] = (chat_call){.id = str_from(t->ids[at][i]),
                                      .name = STR("f"),
                                      .arguments = str_make(letters, draw(t, 30))};
    }
}

static void add_result(talk *t, size_t call, size_t i) {
    chat_message *m = add(t, CHAT_TOOL);
    if (t->n < MAX_MESSAGES) m->call_id = str_from(t->ids[call][i]);
}

/* Results of earlier calls that come later than they should. */
typedef struct owed {
    size_t call, i;
} owed;

static void make_talk(talk *t, uint64_t seed) {
    owed late[64];
    size_t n_late = 0;
    t->seed = seed;
    t->draws = 0;
    t->n = 0;
    for (uint64_t k = draw(t, 3); k > 0; k--) add(t, chance(t, 50) ? CHAT_SYSTEM : CHAT_DEVELOPER);
    if (chance(t, 20)) add(t, CHAT_ASSISTANT);
    uint64_t n_turns = chance(t, 10) ? draw(t, 120) : draw(t, 20);
    bool tools = chance(t, 60), wild = chance(t, 30);
    for (uint64_t turn = 0; turn <= n_turns && t->n + 20 < MAX_MESSAGES; turn++) {
        for (uint64_t k = 1 + (wild ? draw(t, 2) : 0); k > 0; k--) add(t, CHAT_USER);
        while (n_late && chance(t, 60)) {
            n_late--;
            add_result(t, late[n_late].call, late[n_late].i);
        }
        if (wild && chance(t, 10)) add(t, chance(t, 50) ? CHAT_SYSTEM : CHAT_DEVELOPER);
        bool last = turn == n_turns;
        for (uint64_t r = tools ? draw(t, last && chance(t, 20) ? 9 : 3) : 0;
             r > 0 && t->n + 10 < MAX_MESSAGES; r--) {
            size_t call = t->n;
            add_calls(t);
            for (size_t i = t->m[call].n_calls; i-- > 0;) {
                if (wild && n_late < 64 && chance(t, 15))
                    late[n_late++] = (owed){call, i};
                else if (!wild || !chance(t, 5))
                    add_result(t, call, i);
            }
        }
        if (!last && (!wild || chance(t, 90))) {
            chat_message *m = add(t, CHAT_ASSISTANT);
            if (chance(t, 50)) m->reasoning = str_make(letters, draw(t, 80));
        }
    }
    t->in = (chat_input){.messages = t->m, .n_messages = t->n, .n_tools = tools ? draw(t, 4) : 0};
}

/* ── What it costs: as harmony charges, a token per byte ── */

static int64_t cost(const chat_input *in) {
    int64_t n = 10 + 20 * (int64_t)in->n_tools;
    size_t last_final = 0;
    for (size_t i = 0; i < in->n_messages; i++) {
        const chat_message *m = &in->messages[i];
        if (m->role == CHAT_ASSISTANT && !m->n_calls && m->has_content) last_final = i + 1;
    }
    for (size_t i = 0; i < in->n_messages; i++) {
        const chat_message *m = &in->messages[i];
        n += 3 + (int64_t)m->content.len;
        if (i >= last_final) n += (int64_t)m->reasoning.len;
        for (size_t k = 0; k < m->n_calls; k++) n += 4 + (int64_t)m->calls[k].arguments.len;
    }
    return n;
}

typedef struct counter {
    int n_calls;
    const chat_message *last;
    size_t n_last;
    int64_t n;
} counter;

static int64_t count(void *ctx, const chat_input *in, error *err) {
    (void)err;
    counter *c = ctx;
    c->n_calls++;
    c->last = in->messages;
    c->n_last = in->n_messages;
    return c->n = cost(in);
}

/* ── The checker ── */

static bool stays(const chat_message *m) {
    return m->role == CHAT_SYSTEM || m->role == CHAT_DEVELOPER;
}

static bool same_message(const chat_message *a, const chat_message *b) {
    return a->role == b->role && a->content.ptr == b->content.ptr &&
           a->content.len == b->content.len && a->calls == b->calls && a->n_calls == b->n_calls &&
           a->reasoning.len == b->reasoning.len && str_eq(a->call_id, b->call_id);
}

/* The message a result answers, or SIZE_MAX. */
static size_t call_of(const talk *t, size_t result) {
    if (t->m[result].role != CHAT_TOOL) return SIZE_MAX;
    for (size_t i = result; i-- > 0;)
        for (size_t k = 0; k < t->m[i].n_calls; k++)
            if (str_eq(t->m[i].calls[k].id, t->m[result].call_id)) return i;
    return SIZE_MAX;
}

/* Where a user begins to speak for the last time, or earlier, when a result from there on answers a
 * call of an older turn. */
static size_t last_turn(const talk *t) {
    size_t at = t->n;
    for (size_t needed = t->n - 1; at > needed;) {
        bool user = false;
        for (at = needed + 1; at > 0; at--) {
            const chat_message *m = &t->m[at - 1];
            if (!stays(m) && user && m->role != CHAT_USER) break;
            user |= m->role == CHAT_USER;
        }
        for (size_t i = at; i < t->n; i++)
            if (call_of(t, i) < needed) needed = call_of(t, i);
    }
    return at;
}

/* S D U A T in order; a call shows as C. What is left out is in lower case. */
static void print_talk(const talk *t, const bool *kept) {
    for (size_t i = 0; i < t->n; i++) {
        char c = t->m[i].n_calls ? 'C' : "SDUAT"[t->m[i].role];
        print_message("%c", kept && !kept[i] ? c + 32 : c);
        if (call_of(t, i) != SIZE_MAX) print_message("%zu", i - call_of(t, i));
    }
    print_message(" (last turn from %zu)\n", last_turn(t));
}

#define REQUIRE(x)                                                                                \
    do {                                                                                          \
        if (!(x))                                                                                 \
            fail_msg("seed %llu, mode %d, limit %lld: not true: %s", (unsigned long long)t->seed, \
                     (int)r->mode, (long long)limit, #x);                                         \
    } while (0)

/* kept[i]: message i is in the result. */
static void check_kept(const talk *t, const context_rules *r, int64_t limit, const bool *kept) {
    size_t last = last_turn(t), last_round = t->n;
    for (size_t i = t->n; i-- > last;)
        if (t->m[i].role == CHAT_ASSISTANT) {
            last_round = i;
            break;
        }
    bool seen_kept = false, user_kept = false, any_dropped = false, any_user = false;
    for (size_t i = 0; i < t->n; i++) {
        const chat_message *m = &t->m[i];
        any_user |= m->role == CHAT_USER;
        if (stays(m)) {
            REQUIRE(kept[i]);
            continue;
        }
        if (kept[i] && !seen_kept) {
            seen_kept = true;
            user_kept = m->role == CHAT_USER;
        }
        any_dropped |= !kept[i];
        if (i < last) /* first in, first out */
            REQUIRE(!seen_kept || kept[i]);
        else if (r->mode == CONTEXT_DROP || m->role == CHAT_USER || i >= last_round)
            REQUIRE(kept[i]);
        size_t call = call_of(t, i);
        if (call != SIZE_MAX && !(r->mode == CONTEXT_CUT && kept[i]))
            REQUIRE(kept[i] == kept[call]);
        if (call != SIZE_MAX && kept[i]) REQUIRE(kept[call]);
    }
    /* Whole turns: what is left begins where a user speaks. */
    if (any_dropped && any_user) REQUIRE(user_kept);
}

static int64_t cost_of(const talk *t, const bool *kept) {
    static chat_message m[MAX_MESSAGES];
    chat_input in = t->in;
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++)
        if (kept[i]) m[n++] = t->m[i];
    in.messages = m;
    in.n_messages = n;
    return cost(&in);
}

/* The smallest a prompt can be under the rules without touching a text. */
static int64_t cost_of_least(const talk *t, context_mode mode) {
    bool kept[MAX_MESSAGES];
    size_t last = last_turn(t), last_round = last;
    if (mode == CONTEXT_CUT) {
        last_round = t->n;
        for (size_t i = last; i < t->n; i++)
            if (t->m[i].role == CHAT_ASSISTANT) last_round = i;
        /* results that answer an earlier round keep that round */
        for (size_t i = t->n; i-- > last_round;) {
            size_t call = call_of(t, i);
            if (call != SIZE_MAX && call < last_round && call >= last) last_round = call;
        }
    }
    for (size_t i = 0; i < t->n; i++) {
        bool is_user = t->m[i].role == CHAT_USER;
        kept[i] =
            stays(&t->m[i]) || (i >= last && (mode == CONTEXT_DROP || is_user || i >= last_round));
    }
    return cost_of(t, kept);
}

static void check(talk *t, const context_rules *r, int64_t limit, int *n_cut, int *n_refused,
                  int *n_texts) {
    arena mem;
    arena_init(&mem, 0);
    error err = {0};
    counter c = {0};
    context_result got;
    chat_input in = t->in;
    int64_t whole = cost(&t->in);
    bool ok = context_fit(&in, r, limit, &mem, count, &c, &got, &err);
    REQUIRE(c.n_calls < 64);
    if (whole <= limit) {
        REQUIRE(ok && in.n_messages == t->n && in.messages == t->m && got.n_tokens == whole);
        REQUIRE(!got.n_tokens_dropped && !got.n_turns_dropped && !got.n_messages_dropped);
    } else if (!ok) {
        (*n_refused)++;
        REQUIRE(err.code == ERR_CONTEXT_LENGTH && strcmp(err.param, "messages") == 0);
        REQUIRE(in.messages == t->m && in.n_messages == t->n);
        if (r->mode == CONTEXT_DROP) REQUIRE(cost_of_least(t, r->mode) > limit);
        if (r->mode == CONTEXT_CUT) { /* not even without a word of what was said */
            chat_message m[MAX_MESSAGES];
            chat_input bare = t->in;
            bare.messages = m;
            bare.n_messages = 0;
            for (size_t i = 0; i < t->n; i++)
                if (stays(&t->m[i])) m[bare.n_messages++] = t->m[i];
            m[bare.n_messages++] = (chat_message){.role = CHAT_USER};
            int64_t slack = 0; /* calls and reasoning of the last round are not texts to cut */
            for (size_t i = last_turn(t); i < t->n; i++) {
                slack += 4 + (int64_t)t->m[i].reasoning.len;
                for (size_t k = 0; k < t->m[i].n_calls; k++)
                    slack += 4 + (int64_t)t->m[i].calls[k].arguments.len;
            }
            REQUIRE(cost(&bare) + slack > limit || cost_of_least(t, CONTEXT_DROP) > limit);
        }
    } else {
        (*n_cut)++;
        REQUIRE(r->mode != CONTEXT_REFUSE);
        REQUIRE(got.n_tokens <= limit && got.n_tokens == cost(&in));
        /* the last thing counted is what is returned */
        REQUIRE(c.last == in.messages && c.n_last == in.n_messages && c.n == got.n_tokens);
        REQUIRE(got.n_tokens_dropped == whole - got.n_tokens && got.n_tokens_dropped > 0);
        REQUIRE(got.n_messages_dropped == (int64_t)(t->n - in.n_messages));
        REQUIRE(in.n_tools == t->in.n_tools);
        bool kept[MAX_MESSAGES] = {false};
        size_t at = 0, n_shorter = 0;
        for (size_t i = 0; i < in.n_messages; i++) {
            chat_message want;
            bool found = false;
            while (at < t->n && !found) { /* in order; a cut text is the end of the original */
                want = t->m[at];
                const chat_message *m = &in.messages[i];
                bool shorter = m->content.len < want.content.len && !stays(&want);
                if (shorter) want.content = m->content;
                found = same_message(m, &want) &&
                        (!shorter ||
                         (got.n_texts_cut > 0 && m->content.ptr + m->content.len ==
                                                     t->m[at].content.ptr + t->m[at].content.len));
                n_shorter += found && shorter;
                kept[at++] = found;
            }
            REQUIRE(found);
        }
        REQUIRE((int64_t)n_shorter == got.n_texts_cut);
        if (got.n_texts_cut) (*n_texts)++;
        if (got.n_texts_cut) REQUIRE(r->mode == CONTEXT_CUT && cost_of_least(t, r->mode) > limit);
        if (getenv("ORIEL_CONTEXT_SHOW")) print_talk(t, kept);
        check_kept(t, r, limit, kept);
    }
    /* Stateless: again, and with nothing left to say. */
    if (ok) {
        chat_input again = t->in;
        context_result second;
        REQUIRE(context_fit(&again, r, limit, &mem, count, &c, &second, &err));
        REQUIRE(again.n_messages == in.n_messages && memcmp(&second, &got, sizeof got) == 0);
    }
    arena_deinit(&mem);
}

static uint64_t from_env(const char *name, uint64_t otherwise) {
    const char *v = getenv(name);
    return v && *v ? strtoull(v, NULL, 10) : otherwise;
}

static void random_conversations(void **state) {
    (void)state;
    uint64_t n = from_env("ORIEL_CONTEXT_CASES", 3000), seed = from_env("ORIEL_CONTEXT_SEED", 1);
    talk *t = calloc(1, sizeof *t);
    int n_cut = 0, n_refused = 0, n_texts = 0;
    for (uint64_t i = 0; i < n; i++) {
        make_talk(t, hash_combine(seed, i));
        int64_t whole = cost(&t->in);
        for (int mode = CONTEXT_REFUSE; mode <= CONTEXT_CUT; mode++) {
            context_rules r = {.mode = (context_mode)mode};
            int64_t limit = 1 + (int64_t)draw(t, (uint64_t)whole + 20);
            check(t, &r, limit, &n_cut, &n_refused, &n_texts);
        }
    }
    print_message("%llu conversations: %d cut, %d refused, %d with a text cut\n",
                  (unsigned long long)n, n_cut, n_refused, n_texts);
    assert_true(n_cut > (int)n / 2 && n_refused > (int)n / 2 && n_texts > (int)n / 50);
    free(t);
}

/* ── Growing ── */

/* A conversation that grows turn by turn: the cut only moves forward, seldom, and as far as it is told;
 * a caller that forgets what was dropped sees the same prompts. */
static void growing_conversations(void **state) {
    (void)state;
    uint64_t n = from_env("ORIEL_CONTEXT_CASES", 3000) / 30,
             seed = from_env("ORIEL_CONTEXT_SEED", 1);
    arena mem;
    arena_init(&mem, 0);
    talk *t = calloc(1, sizeof *t);
    for (uint64_t i = 0; i < n; i++) {
        t->seed = hash_combine(seed + 77, i);
        t->draws = 0;
        t->n = 0;
        t->in = (chat_input){.messages = t->m, .n_tools = draw(t, 3)};
        add(t, CHAT_SYSTEM)->content.len = draw(t, 100);
        int64_t head = 10 + 20 * (int64_t)t->in.n_tools + 3 + (int64_t)t->m[0].content.len;
        int64_t limit = head + 150 + (int64_t)draw(t, 800), step = (limit - head) / 4;
        context_rules rules = {.mode = CONTEXT_DROP}, *r = &rules, forgetful = rules;
        size_t first = 1, forgot = 1;
        int n_moves = 0;
        int64_t said = 0;
        while (t->n + 4 < MAX_MESSAGES) {
            add(t, CHAT_USER)->content.len = draw(t, 40);
            t->in.n_messages = t->n;
            chat_input in = t->in, rest = t->in;
            context_result got, other;
            counter c = {0};
            error err = {0};
            arena_reset(&mem);
            REQUIRE(context_fit(&in, r, limit, &mem, count, &c, &got, &err));
            size_t now = t->n - in.n_messages + 1;
            REQUIRE(now >= first);
            if (now > first) {
                n_moves++;
                /* no more than asked for: a turn less would not have reached the step */
                int64_t whole = cost(&t->in), want = (whole - limit + step - 1) / step * step;
                bool kept[MAX_MESSAGES];
                for (size_t k = 0; k < t->n; k++) kept[k] = k == 0 || k >= now - 2;
                REQUIRE(got.n_tokens_dropped >= want || now + 1 == t->n);
                if (now > 2) REQUIRE(whole - cost_of(t, kept) < want);
            }
            first = now;
            chat_message m[MAX_MESSAGES];
            m[0] = t->m[0];
            memcpy(m + 1, t->m + forgot, (t->n - forgot) * sizeof *m);
            rest.messages = m;
            rest.n_messages = 1 + t->n - forgot;
            REQUIRE(context_fit(&rest, &forgetful, limit, &mem, count, &c, &other, &err));
            REQUIRE(other.n_tokens == got.n_tokens && rest.n_messages == in.n_messages);
            forgot += (size_t)other.n_messages_dropped;
            forgetful.n_before += other.n_tokens_dropped;
            add(t, CHAT_ASSISTANT)->content.len = draw(t, 60);
            said += cost(&t->in);
        }
        int64_t whole = cost(&t->in);
        REQUIRE(n_moves > 0 && n_moves <= (whole - limit) / step + 1);
    }
    free(t);
    arena_deinit(&mem);
}

int main(void) {
    for (size_t i = 0; i < sizeof letters; i++) letters[i] = (char)('a' + i % 26);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_conversations),
        cmocka_unit_test(growing_conversations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
