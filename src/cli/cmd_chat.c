/* oriel chat: a conversation in the terminal, or through a pipe (one line, one
 * turn). Ctrl-C stops the answer, not the program. */
#include <editline/readline.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/os.h"
#include "cli/cli.h"

/* Messages own their text; the turn borrows them. */
typedef struct history {
    chat_message *items;
    size_t n, cap;
    int64_t n_forgotten; /* tokens of the turns that no longer fit: they are not kept here either */
    tok_ids live;        /* of the last turn, prompt and answer: the next one goes on from there */
} history;

static bool push(history *h, chat_role role, char *owned_text) {
    if (h->n == h->cap) {
        size_t cap = h->cap ? h->cap * 2 : 16;
        chat_message *grown = realloc(h->items, cap * sizeof *grown);
        if (!grown) return false;
        h->items = grown;
        h->cap = cap;
    }
    h->items[h->n++] =
        (chat_message){.role = role, .content = str_from(owned_text), .has_content = true};
    return owned_text != NULL;
}

static void pop(history *h) {
    if (h->n) free((char *)(uintptr_t)h->items[--h->n].content.ptr);
}

/* What will never be in a prompt again leaves, so that a conversation without end takes no more memory. */
static void forget(history *h, const context_result *cut) {
    size_t n = (size_t)cut->n_messages_dropped;
    if (cut->n_texts_cut || n == 0) return; /* a text that was cut is whole in the history */
    for (size_t i = 0; i < n; i++) free((char *)(uintptr_t)h->items[i].content.ptr);
    memmove(h->items, h->items + n, (h->n - n) * sizeof *h->items);
    h->n -= n;
    h->n_forgotten += cut->n_tokens_dropped;
}

static void keep_live(history *h, const turn *t) {
    size_t n;
    const int32_t *ids = turn_prompt_ids(t, &n);
    h->live.n = 0;
    tok_ids_append(&h->live, ids, n);
    ids = turn_token_ids(t, &n);
    tok_ids_append(&h->live, ids, n);
}

static void history_deinit(history *h) {
    while (h->n) pop(h);
    free(h->items);
    tok_ids_deinit(&h->live);
}

typedef struct sink {
    const config *c;
    buf text;
    bool in_reasoning, said;
} sink;

static bool show(void *ctx, const turn_event *e) {
    sink *s = ctx;
    switch (e->kind) {
    case TURN_REASONING:
        if (!s->c->show_reasoning) break;
        if (!s->in_reasoning) term_dim(stdout, true);
        s->in_reasoning = true;
        fwrite(e->text.ptr, 1, e->text.len, stdout);
        break;
    case TURN_CONTENT:
        if (s->in_reasoning) {
            term_dim(stdout, false);
            fputs("\n\n", stdout);
            s->in_reasoning = false;
        }
        s->said |= e->text.len > 0;
        buf_append_str(&s->text, e->text);
        fwrite(e->text.ptr, 1, e->text.len, stdout);
        break;
    case TURN_CALL_BEGIN:
        s->said = true;
        printf("[calls %.*s ", STR_ARG(e->text));
        break;
    case TURN_CALL_ARGS: fwrite(e->text.ptr, 1, e->text.len, stdout); break;
    case TURN_CALL_END: fputs("]", stdout); break;
    default: break;
    }
    fflush(stdout);
    return !ferror(stdout);
}

static void status_line(const session *s, const turn_event *end, int64_t total_tokens) {
    if (s->c->quiet || !isatty(STDERR_FILENO)) return;
    const turn_usage *u = &end->usage;
    double seconds = (double)u->decode_ns / 1e9;
    term_dim(stderr, true);
    fprintf(stderr, "[window %lld of %lld tokens · %.1f tokens/s · %s · %lld tokens so far]",
            (long long)u->kv_rows, (long long)engine_get_plan(s->e)->kv_rows,
            seconds > 0 && u->n_completion > 1 ? (double)(u->n_completion - 1) / seconds : 0.0,
            term_bytes(os_get_memory().rss).text, (long long)total_tokens);
    term_dim(stderr, false);
    fputc('\n', stderr);
}

/* One user turn: answers, or says why not. False ends the program (*err set) only when nothing can go on. */
static bool answer(session *s, history *h, uint64_t seed, int64_t *total, error *err) {
    sink out = {.c = s->c};
    turn_event end = {0};
    chat_message *view = malloc((h->n + 1) * sizeof *view);
    if (!view)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the conversation.");
    size_t n = 0;
    if (s->c->system)
        view[n++] = (chat_message){
            .role = CHAT_SYSTEM, .content = str_from(s->c->system), .has_content = true};
    for (size_t i = 0; i < h->n; i++) view[n++] = h->items[i];
    chat_input in = {.messages = view, .n_messages = n, .now = time(NULL)};
    if (s->c->reasoning_effort) in.reasoning_effort = str_from(s->c->reasoning_effort);
    turn_request r = {.chat = &in,
                      .max_tokens = config_get_limits(s->c, s->c->performance_mode).max_tokens,
                      .context = session_context(s->c, CONTEXT_DROP),
                      .score_prompt = -1,
                      .keep_ids = true,
                      .sampling = session_sampling(s->c)};
    r.context.n_before = h->n_forgotten;
    r.live = h->live.ids;
    r.n_live = h->live.n;
    r.sampling.seed = seed;
    str stops[TURN_MAX_STOPS];
    for (size_t i = 0; i < s->c->n_stop && i < TURN_MAX_STOPS; i++)
        stops[r.n_stops++] = str_from(s->c->stop[i]);
    r.stops = stops;
    error why = {0};
    turn *t = turn_start(s->chat, &r, &why);
    free(view);
    if (!t) {
        fprintf(stderr, "oriel: %s\n", why.message);
        pop(h);
        return true;
    }
    const context_result *cut = turn_get_context(t);
    if (cut->n_tokens_dropped && !s->c->quiet)
        fprintf(
            stderr,
            "[%lld of the oldest turns were left out: the prompt has %lld of at most %lld tokens]\n",
            (long long)cut->n_turns_dropped, (long long)cut->n_tokens, (long long)cut->limit);
    forget(h, cut);
    bool ok = cli_run_turn(t, show, &out, &end, err);
    if (out.in_reasoning) term_dim(stdout, false);
    putchar('\n');
    fflush(stdout);
    *total += end.usage.n_prompt + end.usage.n_completion;
    if (ok) {
        keep_live(h, t);
        cli_note_unsaid(s->c, &end, out.said);
        status_line(s, &end, *total);
        char *text = buf_take(&out.text, NULL);
        if (!text || !push(h, CHAT_ASSISTANT, text)) {
            free(text);
            ok = error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the conversation.");
        }
    } else {
        /* A failed answer is not the end of the conversation. */
        fprintf(stderr, "oriel: %s\n", err->message);
        *err = (error){0};
        pop(h);
        buf_deinit(&out.text);
        ok = true;
    }
    turn_free(t);
    term_reset_interrupts();
    return ok;
}

static const char help_text[] =
    "\\help          this text\n"
    "\\clear         forget the conversation\n"
    "\\reasoning     show or hide the analysis\n"
    "q, Ctrl-D      leave; \\quit, \\exit and \\bye do too\n"
    "A line that ends in \\ goes on in the next one; \\\\ alone opens and closes a block.\n"
    "Ctrl-C stops an answer. At the terminal these commands work with / as well.\n";

/* Other programs' commands begin with a slash; a person who types one does not mean the model. Only lines
 * that are a command and nothing else, and never from a pipe, where a line is data. */
static void take_slash(char *line) {
    static const char *const words[] = {"/help", "/clear", "/reasoning", "/quit", "/exit", "/bye"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(line, words[i]) == 0) line[0] = '\\';
}

static bool leaves(const char *line) {
    static const char *const words[] = {"q", "\\q", "\\quit", "\\exit", "\\bye"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (strcmp(line, words[i]) == 0) return true;
    return false;
}

/* A line from the terminal (edited, remembered) or the pipe; NULL at the end. Caller frees. */
static char *read_line(bool interactive, const char *prompt) {
    if (interactive) {
        term_reset_interrupts();
        char *line = readline(prompt);
        if (line && *line) add_history(line);
        return line;
    }
    char *line = NULL;
    size_t cap = 0;
    ssize_t n = getline(&line, &cap, stdin);
    if (n < 0) {
        free(line);
        return NULL;
    }
    while (n && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
    return line;
}

/* A whole message: continuation lines and blocks joined. NULL at the end of input. */
static char *read_message(bool interactive) {
    buf text = {0};
    bool block = false, open = true, any = false;
    while (open) {
        char *line = read_line(interactive, any ? ". " : "> ");
        if (!line) break;
        size_t n = strlen(line);
        if (strcmp(line, "\\\\") == 0) {
            block = !block;
            open = block;
        } else {
            if (any && text.len) buf_append_char(&text, '\n');
            bool more = n && line[n - 1] == '\\' && !block;
            buf_append(&text, line, more ? n - 1 : n);
            open = block || more;
        }
        any = true;
        free(line);
    }
    if (!any) {
        buf_deinit(&text);
        return NULL;
    }
    if (!text.ptr) buf_reserve(&text, 0);
    return buf_take(&text, NULL);
}

/* The message that begins the conversation, if one was given. */
static bool read_first(const config *c, buf *out, error *err) {
    if ((c->prompt != NULL) + (c->prompt_file != NULL) + (c->n_args > 0) > 1)
        return error_set(err, ERR_USAGE, "prompt",
                         "Give the first message once: --prompt, --prompt-file or plain words.");
    if (c->prompt_file) return cli_read_file(c->prompt_file, out, err);
    if (c->prompt) buf_append_cstr(out, c->prompt);
    for (size_t i = 0; i < c->n_args; i++) {
        if (i) buf_append_char(out, ' ');
        buf_append_cstr(out, c->args[i]);
    }
    return true;
}

int cmd_chat(int argc, char **argv) {
    config c;
    int status;
    if (!cli_begin(
            &c, CONFIG_CHAT, argc, argv,
            "usage: oriel chat [options] [MESSAGE]\n\nA conversation, which MESSAGE may begin; in a pipe every line is a turn.",
            &status))
        return status;
    error err = {0};
    session s = {0};
    history h = {0};
    int64_t total = 0;
    buf first = {0};
    if (!read_first(&c, &first, &err) || !session_open(&s, &c, true, &err)) goto done;
    session_warn_of_long_context(engine_get_plan(s.e));
    if (!chat_can_chat(s.chat)) {
        error_set(
            &err, ERR_USAGE, NULL,
            "This model has no chat template. Use --chat-template FILE, or oriel generate --raw.");
        goto done;
    }
    bool interactive = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    if (interactive && !c.quiet)
        printf("%s, %d layers, window of %lld tokens in %s. \\help for help, Ctrl-D to leave.\n",
               s.model.id, engine_get_model(s.e)->n_layers,
               (long long)engine_get_plan(s.e)->kv_rows,
               term_bytes(engine_get_plan(s.e)->total).text);
    uint64_t seed = session_sampling(&c).seed, turn_index = 0;
    for (;;) {
        char *line = first.len ? buf_take(&first, NULL) : read_message(interactive);
        if (line && interactive) take_slash(line);
        if (!line || leaves(line)) {
            free(line);
            break;
        }
        if (str_trim(str_from(line)).len == 0) {
            free(line);
            continue;
        }
        if (line[0] == '\\') {
            if (strcmp(line, "\\help") == 0)
                fputs(help_text, stdout);
            else if (strcmp(line, "\\clear") == 0) {
                while (h.n) pop(&h);
                h.n_forgotten = 0;
                h.live.n = 0;
            } else if (strcmp(line, "\\reasoning") == 0) {
                c.show_reasoning = !c.show_reasoning;
                printf("[reasoning is %s]\n", c.show_reasoning ? "shown" : "hidden");
            } else
                fprintf(stderr, "oriel: there is no command %.40s; \\help lists them.\n", line);
            free(line);
            continue;
        }
        if (!push(&h, CHAT_USER, line)) {
            error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the conversation.");
            break;
        }
        if (!answer(&s, &h, seed + turn_index++, &total, &err)) break;
        if (ferror(stdout)) break;
    }
done:
    buf_deinit(&first);
    status = error_is_set(&err) ? cli_fail(&err) : 0;
    history_deinit(&h);
    session_close(&s);
    config_deinit(&c);
    return status;
}
