#include "chat/context.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"

enum {
    STEPS = 4,            /* the cut moves by a quarter of the room */
    MAX_TEXT_PROBES = 12, /* renderings spent on where a text is cut */
};
#define STAYS UINT32_MAX /* a message that belongs to no group: it is never dropped */
#define NONE  UINT32_MAX

static bool is_out_of_memory(error *err) {
    return error_set(err, ERR_NO_MEMORY, NULL, "There is not enough memory for the prompt.");
}

/* ── Rules ── */

static int64_t context_of(const context_rules *r, int64_t engine_max) {
    return r->max_tokens > 0 && r->max_tokens < engine_max ? r->max_tokens : engine_max;
}

static const char *name_of(const context_rules *r) {
    return r->is_perf ? "perf_max_context_tokens" : "max_context_tokens";
}

int64_t context_limit(const context_rules *r, int64_t engine_max) {
    int64_t limit = context_of(r, engine_max) - r->margin;
    if (r->budget > 0 && r->budget < limit) limit = r->budget;
    return limit > 1 ? limit : 1;
}

bool context_check(const context_rules *r, int64_t engine_max, error *err) {
    if (r->max_tokens > engine_max)
        return error_set(
            err, ERR_INT_ABOVE_MAX, name_of(r),
            "A %s of %lld is more than the %lld tokens this model was loaded for; lower it, or load "
            "with a larger --ctx.",
            name_of(r), (long long)r->max_tokens, (long long)engine_max);
    int64_t max = context_of(r, engine_max);
    if (r->margin >= max)
        return error_set(
            err, ERR_INVALID_VALUE, "max_context_tokens_margin",
            "A max_context_tokens_margin of %lld leaves nothing of a %s of %lld; set it to less than "
            "that, a few hundred at most.",
            (long long)r->margin, name_of(r), (long long)max);
    return true;
}

/* "at most N fit (max_context_tokens 4096 less a margin of 96)" */
typedef struct sentence {
    char text[200];
} sentence;

static sentence what_fits(const context_rules *r, int64_t limit) {
    sentence s;
    if (r->budget > 0 && limit == r->budget)
        snprintf(s.text, sizeof s.text, "at most %lld fit (perf_prompt_token_budget)",
                 (long long)limit);
    else if (r->margin > 0)
        snprintf(s.text, sizeof s.text, "at most %lld fit (%s %lld less a margin of %lld)",
                 (long long)limit, name_of(r), (long long)(limit + r->margin),
                 (long long)r->margin);
    else
        snprintf(s.text, sizeof s.text, "at most %lld fit (%s)", (long long)limit, name_of(r));
    return s;
}

/* ── Groups: what can only go together ── */

typedef struct groups {
    const chat_input *in;
    uint32_t *of; /* [n_messages]: ascending group numbers, or STAYS */
    uint32_t
        *partner;  /* [n_messages]: of a tool result, the message that made the call; else NONE */
    uint32_t *map; /* [n_messages + 2]: scratch */
    uint32_t n;    /* groups, oldest first … */
    uint32_t n_turns; /* … the first n_turns − 1 of them are the turns before the last one */
    uint32_t n_droppable;
} groups;

static bool is_instructions(const chat_message *m) {
    return m->role == CHAT_SYSTEM || m->role == CHAT_DEVELOPER;
}

/* Calls seen so far, by id. Open addressing; of calls with one id the last counts. */
typedef struct known_call {
    str id;
    uint32_t at; /* its message */
    bool used;
} known_call;

static known_call *find_known(known_call *table, size_t n_slots, str id) {
    size_t slot = hash_str(id) & (n_slots - 1);
    while (table[slot].used && !str_eq(table[slot].id, id)) slot = (slot + 1) & (n_slots - 1);
    return &table[slot];
}

/* The call a result answers: by id, else the latest message with calls. */
static bool find_partners(groups *g, arena *mem) {
    size_t n_calls = 0, n_slots = 4;
    for (size_t i = 0; i < g->in->n_messages; i++) n_calls += g->in->messages[i].n_calls;
    while (n_slots < 2 * n_calls) n_slots *= 2;
    known_call *table = arena_array(mem, n_slots, sizeof *table);
    if (!table) return false;
    uint32_t latest = NONE;
    for (size_t i = 0; i < g->in->n_messages; i++) {
        const chat_message *m = &g->in->messages[i];
        g->partner[i] = NONE;
        if (m->role == CHAT_TOOL) {
            const known_call *call = find_known(table, n_slots, m->call_id);
            g->partner[i] = m->call_id.len && call->used ? call->at : latest;
        }
        for (size_t k = 0; k < m->n_calls; k++)
            *find_known(table, n_slots, m->calls[k].id) =
                (known_call){m->calls[k].id, (uint32_t)i, true};
        if (m->n_calls) latest = (uint32_t)i;
    }
    return true;
}

/* Joins the groups between a call and its result, and numbers what is left from 0. */
static void join_pairs(groups *g, uint32_t n) {
    memset(g->map, 0, ((size_t)n + 1) * sizeof *g->map);
    /* map[b] > 0 (as running sum): some pair spans the border in front of group b */
    for (size_t i = 0; i < g->in->n_messages; i++) {
        uint32_t call = g->partner[i];
        if (call == NONE || g->of[i] == STAYS || g->of[call] == STAYS) continue;
        if (g->of[call] >= g->of[i]) continue;
        g->map[g->of[call] + 1]++;
        g->map[g->of[i] + 1]--;
    }
    uint32_t open = 0, next = 0;
    for (uint32_t b = 0; b < n; b++) {
        open += g->map[b];
        if (b && !open) next++;
        g->map[b] = next;
    }
    for (size_t i = 0; i < g->in->n_messages; i++)
        if (g->of[i] != STAYS) g->of[i] = g->map[g->of[i]];
    g->n = n ? next + 1 : 0;
}

static void find_turns(groups *g) {
    bool user_before = false, any = false;
    uint32_t turn = 0;
    for (size_t i = 0; i < g->in->n_messages; i++) {
        const chat_message *m = &g->in->messages[i];
        g->of[i] = STAYS;
        if (is_instructions(m)) continue;
        bool is_user = m->role == CHAT_USER;
        if (any && is_user && !user_before) turn++;
        g->of[i] = turn;
        user_before = is_user;
        any = true;
    }
    join_pairs(g, any ? turn + 1 : 0);
    g->n_turns = g->n;
    g->n_droppable = g->n ? g->n - 1 : 0;
}

/* In the last turn only what the user said has to stay, and its last round. */
static void find_rounds(groups *g) {
    if (!g->n) return;
    uint32_t last = g->n - 1, group = last;
    bool any = false;
    for (size_t i = 0; i < g->in->n_messages; i++) {
        if (g->of[i] != last) continue;
        chat_role role = g->in->messages[i].role;
        g->of[i] = STAYS;
        if (role == CHAT_USER) continue;
        if (any && role == CHAT_ASSISTANT) group++;
        g->of[i] = group;
        any = true;
    }
    join_pairs(g, any ? group + 1 : last);
    g->n_droppable = any ? g->n - 1 : last;
}

/* ── Trying cuts ── */

typedef struct search {
    chat_input *in;
    const chat_input *whole;
    const groups *g;
    chat_message *view;
    context_count_fn *count;
    void *ctx;
    error *err;
    uint32_t counted; /* the number of groups left out in the last call of count */
    int64_t n_counted;
} search;

static void make_view(search *s, uint32_t n_out) {
    size_t n = 0;
    for (size_t i = 0; i < s->whole->n_messages; i++)
        if (s->g->of[i] == STAYS || s->g->of[i] >= n_out) s->view[n++] = s->whole->messages[i];
    s->in->messages = s->view;
    s->in->n_messages = n;
}

/* Tokens without the n_out oldest groups; negative with the error set. */
static int64_t count_without(search *s, uint32_t n_out) {
    if (s->counted == n_out) return s->n_counted;
    make_view(s, n_out);
    s->counted = n_out;
    return s->n_counted = s->count(s->ctx, s->in, s->err);
}

/* What a prompt costs before anybody spoke; 0 where the template cannot say. */
static int64_t count_head(search *s) {
    error ignored = {0};
    size_t n = 0;
    for (size_t i = 0; i < s->whole->n_messages; i++)
        if (is_instructions(&s->whole->messages[i])) s->view[n++] = s->whole->messages[i];
    chat_input head = *s->whole;
    head.messages = s->view;
    head.n_messages = n;
    s->counted = NONE;
    int64_t count = s->count(s->ctx, &head, &ignored);
    return count > 0 ? count : 0;
}

static int64_t round_up(int64_t n, int64_t step) {
    return (n + step - 1) / step * step;
}

static int64_t step_of(int64_t limit, int64_t head) {
    int64_t step = (limit - head) / STEPS;
    return step > 1 ? step : 1;
}

/* The smallest number of groups whose tokens reach `target`, or all that may go. */
static bool find_cut(search *s, int64_t whole, int64_t target, int64_t limit, uint32_t *out) {
    uint32_t lo = 0, hi = s->g->n_droppable; /* lo is too few */
    *out = hi;
    int64_t least = count_without(s, hi); /* known to be in vain, the search would be long */
    if (least < 0 || least > limit) return least >= 0;
    while (hi - lo > 1) {
        uint32_t mid = lo + (hi - lo) / 2;
        int64_t n = count_without(s, mid);
        if (n < 0) return false;
        if (whole - n >= target)
            hi = mid;
        else
            lo = mid;
    }
    *out = hi;
    /* Templates that charge a turn differently by its place may need more. */
    for (uint32_t more = 1;; more *= 2) {
        int64_t n = count_without(s, *out);
        if (n < 0) return false;
        if (n <= limit || *out == s->g->n_droppable) return true;
        *out = s->g->n_droppable - *out > more ? *out + more : s->g->n_droppable;
    }
}

/* ── The beginnings of texts ── */

static str tail(str s, size_t len) {
    size_t at = s.len - len;
    while (at < s.len && ((unsigned char)s.ptr[at] & 0xC0) == 0x80) at++;
    return str_make(s.ptr + at, s.len - at);
}

typedef struct text {
    size_t at; /* in the view */
    str whole;
} text;

static int by_length(const void *x, const void *y) {
    const text *a = x, *b = y;
    if (a->whole.len != b->whole.len) return a->whole.len < b->whole.len ? 1 : -1;
    return a->at < b->at ? -1 : 1;
}

static int64_t count_view(search *s) {
    return s->n_counted = s->count(s->ctx, s->in, s->err);
}

static int64_t count_emptied(search *s, const text *texts, size_t n, size_t n_emptied) {
    for (size_t i = 0; i < n; i++)
        s->view[texts[i].at].content = i < n_emptied ? tail(texts[i].whole, 0) : texts[i].whole;
    return count_view(s);
}

/* The longest end of the text that fits, nearly; that it fits when empty is known. Tokens grow about
 * evenly with bytes: interpolate between what fits and what does not. */
static bool cut_text(search *s, const text *t, int64_t n_fits, int64_t n_long, int64_t limit) {
    str *content = &s->view[t->at].content;
    size_t fits = 0, too_long = t->whole.len;
    for (int i = 0; i < MAX_TEXT_PROBES && too_long - fits > 8; i++) {
        if (i && limit - n_fits <= limit / 32) break;
        double share = (double)(limit - n_fits) / (double)(n_long > n_fits ? n_long - n_fits : 1);
        size_t guess = fits + (size_t)(share * (double)(too_long - fits) * (i ? 0.98 : 1));
        if (guess <= fits) guess = fits + 1;
        if (guess >= too_long) guess = too_long - 1;
        *content = tail(t->whole, guess);
        int64_t n = count_view(s);
        if (n < 0) return false;
        if (n <= limit) {
            fits = guess;
            n_fits = n;
        } else {
            too_long = guess;
            n_long = n;
        }
    }
    *content = tail(t->whole, fits);
    return count_view(s) >= 0;
}

/* The longest texts lose their beginnings: as few of them as possible, the last of these only as much
 * as it must. */
static bool cut_texts(search *s, arena *mem, int64_t limit, context_result *out) {
    size_t n = 0;
    text *texts = arena_array(mem, s->in->n_messages + 1, sizeof *texts);
    if (!texts) return is_out_of_memory(s->err);
    for (size_t i = 0; i < s->in->n_messages; i++)
        if (!is_instructions(&s->view[i]) && s->view[i].content.len)
            texts[n++] = (text){i, s->view[i].content};
    qsort(texts, n, sizeof *texts, by_length);
    int64_t least = count_emptied(s, texts, n, n);
    if (least < 0 || least > limit) return least >= 0;
    size_t lo = 0, hi = n; /* lo is too few */
    while (hi - lo > 1) {
        size_t mid = lo + (hi - lo) / 2;
        int64_t now = count_emptied(s, texts, n, mid);
        if (now < 0) return false;
        if (now <= limit)
            hi = mid;
        else
            lo = mid;
    }
    int64_t n_long = count_emptied(s, texts, n, hi - 1);
    int64_t n_fits = n_long < 0 ? -1 : count_emptied(s, texts, n, hi);
    if (n_fits < 0) return false;
    out->n_texts_cut = (int64_t)hi;
    return cut_text(s, &texts[hi - 1], n_fits, n_long, limit);
}

/* ── Conversations ── */

static bool refuse_whole(const context_rules *r, int64_t limit, int64_t n, error *err) {
    return error_set(
        err, ERR_CONTEXT_LENGTH, "messages",
        "The conversation has %lld tokens; %s. Shorten it, or let truncation 'auto' leave out its oldest turns.",
        (long long)n, what_fits(r, limit).text);
}

static bool refuse_rest(const context_rules *r, int64_t limit, int64_t n, int64_t head,
                        error *err) {
    if (head > limit)
        return error_set(
            err, ERR_CONTEXT_LENGTH, "messages",
            "System and developer messages and tools alone have %lld tokens and are never left out; %s. Shorten them, "
            "or raise the limit.",
            (long long)head, what_fits(r, limit).text);
    return error_set(
        err, ERR_CONTEXT_LENGTH, "messages",
        "With all older turns left out%s the prompt still has %lld tokens, %lld of them system and developer messages "
        "and tools; %s. The last turn is too long%s.",
        r->mode == CONTEXT_CUT ? " and its texts cut" : "", (long long)n, (long long)head,
        what_fits(r, limit).text,
        r->mode == CONTEXT_DROP ? ": shorten it, or let truncation 'auto' cut it" : "");
}

static bool fit(search *s, groups *g, const context_rules *r, int64_t limit, int64_t whole,
                arena *mem, context_result *out, error *err) {
    if (!find_partners(g, mem)) return is_out_of_memory(err);
    find_turns(g);
    if (r->mode == CONTEXT_CUT) find_rounds(g);
    int64_t head = count_head(s);
    int64_t excess = r->n_before + whole - limit;
    int64_t target = round_up(excess, step_of(limit, head)) - r->n_before;
    uint32_t n_out = 0;
    if (target > 0 && g->n_droppable && !find_cut(s, whole, target, limit, &n_out)) return false;
    int64_t n = count_without(s, n_out);
    if (n < 0) return false;
    size_t n_view = s->in->n_messages;
    if (n > limit && r->mode == CONTEXT_CUT) {
        if (!cut_texts(s, mem, limit, out)) return false;
        n = s->n_counted;
    }
    if (n > limit) return refuse_rest(r, limit, n, head, err);
    out->n_tokens = n;
    out->n_tokens_dropped = whole > n ? whole - n : 0;
    out->n_messages_dropped = (int64_t)(s->whole->n_messages - n_view);
    uint32_t n_old_turns = g->n_turns ? g->n_turns - 1 : 0;
    out->n_turns_dropped = n_out < n_old_turns ? n_out : n_old_turns;
    return true;
}

bool context_fit(chat_input *in, const context_rules *r, int64_t limit, arena *mem,
                 context_count_fn *count, void *ctx, context_result *out, error *err) {
    int64_t whole = count(ctx, in, err);
    *out = (context_result){.limit = limit, .n_tokens = whole};
    if (whole < 0) return false;
    if (whole <= limit && (r->mode == CONTEXT_REFUSE || r->n_before == 0)) return true;
    if (r->mode == CONTEXT_REFUSE) return refuse_whole(r, limit, whole, err);
    const chat_input given = *in;
    size_t n = given.n_messages;
    groups g = {
        .in = &given,
        .of = arena_array(mem, n + 1, sizeof *g.of),
        .partner = arena_array(mem, n + 1, sizeof *g.partner),
        .map = arena_array(mem, n + 2, sizeof *g.map),
    };
    search s = {
        .in = in,
        .whole = &given,
        .g = &g,
        .view = arena_array(mem, n + 1, sizeof *s.view),
        .count = count,
        .ctx = ctx,
        .err = err,
        .counted = NONE,
    };
    if (!g.of || !g.partner || !g.map || !s.view) return is_out_of_memory(err);
    if (fit(&s, &g, r, limit, whole, mem, out, err)) return true;
    *in = given;
    return false;
}

/* ── Raw prompts ── */

bool context_fit_ids(tok_ids *ids, int32_t bos, const context_rules *r, int64_t limit,
                     context_result *out, error *err) {
    int64_t n = (int64_t)ids->n;
    *out = (context_result){.limit = limit, .n_tokens = n};
    if (n <= limit) return true;
    if (r->mode != CONTEXT_CUT)
        return error_set(
            err, ERR_CONTEXT_LENGTH, "prompt",
            "The prompt has %lld tokens; %s. Shorten it, or let truncation 'auto' leave out its beginning.",
            (long long)n, what_fits(r, limit).text);
    int64_t head = bos >= 0 && ids->ids[0] == bos && limit > 1;
    int64_t out_of = n - head - 1, target = round_up(n - limit, step_of(limit, head));
    if (target > out_of) target = out_of;
    memmove(ids->ids + head, ids->ids + head + target,
            (size_t)(n - head - target) * sizeof *ids->ids);
    ids->n = (size_t)(n - target);
    out->n_tokens = n - target;
    out->n_tokens_dropped = target;
    return true;
}

/* ── Going on where the rows are ── */

/* One past the stretch of ordinary ids that begins at `at`. */
static size_t stretch_end(const tok *t, const int32_t *ids, size_t n, size_t at) {
    while (at < n && !tok_is_special(t, ids[at])) at++;
    return at;
}

static bool same_bytes(const tok *t, const int32_t *a, size_t n_a, const int32_t *b, size_t n_b) {
    str x = {0}, y = {0};
    size_t i = 0, k = 0;
    for (;;) {
        while (!x.len && i < n_a) x = tok_piece(t, a[i++]);
        while (!y.len && k < n_b) y = tok_piece(t, b[k++]);
        if (!x.len || !y.len) return x.len == y.len;
        size_t n = x.len < y.len ? x.len : y.len;
        if (memcmp(x.ptr, y.ptr, n) != 0) return false;
        x = str_make(x.ptr + n, x.len - n);
        y = str_make(y.ptr + n, y.len - n);
    }
}

/* Puts n ids in place of those at [begin, end). */
static bool replace(tok_ids *v, size_t begin, size_t end, const int32_t *ids, size_t n) {
    size_t tail = v->n - end, old = v->n;
    if (n > end - begin) {
        /* grows by any ids of the right number: they are overwritten below */
        tok_ids_append(v, ids, n - (end - begin));
        if (v->failed) return false;
    }
    memmove(v->ids + begin + n, v->ids + end, tail * sizeof *ids);
    memcpy(v->ids + begin, ids, n * sizeof *ids);
    v->n = old - (end - begin) + n;
    return true;
}

size_t context_continue(const tok *t, tok_ids *prompt, const int32_t *live, size_t n_live,
                        int64_t limit) {
    size_t at = 0;
    while (at < n_live && at < prompt->n) {
        if (tok_is_special(t, live[at]) || tok_is_special(t, prompt->ids[at])) {
            if (live[at] != prompt->ids[at]) break;
            at++;
            continue;
        }
        size_t mine = stretch_end(t, prompt->ids, prompt->n, at) - at;
        size_t theirs = stretch_end(t, live, n_live, at) - at;
        const int32_t *a = prompt->ids + at, *b = live + at;
        bool same = mine == theirs && memcmp(a, b, mine * sizeof *a) == 0;
        if (!same &&
            (!same_bytes(t, a, mine, b, theirs) || (int64_t)(prompt->n - mine + theirs) > limit ||
             !replace(prompt, at, at + mine, b, theirs))) {
            while (at < n_live && at < prompt->n && live[at] == prompt->ids[at]) at++;
            break;
        }
        at += theirs;
    }
    return at;
}
