/* From a configuration to a loaded model, and running one turn on it. */
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/os.h"
#include "api/api.h"
#include "cli/cli.h"

int cli_fail(const error *err) {
    term_progress_end();
    fprintf(stderr, "oriel: %s\n",
            err->message[0] ? err->message : "it failed for an unknown reason");
    return error_get_info(err->code)->exit_status;
}

static void say_strange_variable(void *ctx, str name, const char *meant) {
    (void)ctx;
    fprintf(stderr, "oriel: no option knows the environment variable %.*s.%s%s%s\n",
            (int)(name.len < 60 ? name.len : 60), name.ptr, meant ? " Did you mean " : "",
            meant ? meant : "", meant ? "?" : "");
}

bool cli_begin(config *c, int command, int argc, char **argv, const char *synopsis, int *status) {
    error err = {0};
    bool ok = config_load(c, command, argc, argv, 2, &err);
    if (c->help) {
        printf("%s\n\n", synopsis);
        config_print_help(stdout, command);
        *status = 0;
    } else if (!ok) {
        *status = cli_fail(&err);
    } else {
        if (!c->quiet) config_name_strange_variables(say_strange_variable, NULL);
        log_set_level((log_level)c->log_level);
        term_catch_interrupt();
        return true;
    }
    config_deinit(c);
    return false;
}

sample_params session_sampling(const config *c) {
    sample_params p = sample_defaults();
    p.temperature = c->temperature;
    p.top_p = c->top_p;
    p.min_p = c->min_p;
    p.top_k = (int32_t)c->top_k;
    p.min_tokens_to_keep = (int32_t)c->min_tokens_to_keep;
    p.repetition_penalty = c->repetition_penalty;
    p.repetition_window = (int32_t)c->repetition_context_size;
    p.presence_penalty = c->presence_penalty;
    p.frequency_penalty = c->frequency_penalty;
    if (c->seed >= 0)
        p.seed = (uint64_t)c->seed;
    else {
        os_random(&p.seed, sizeof p.seed);
        p.seed >>= 1;
    }
    p.n_top = -1;
    return p;
}

static size_t chat_bytes(int64_t max_context_tokens, int n_parallel, bool files) {
    (void)files;
    return tok_cache_plan_bytes(chat_plan_bytes(max_context_tokens, n_parallel));
}

static size_t serve_bytes(int64_t max_context_tokens, int n_parallel, bool files) {
    return chat_bytes(max_context_tokens, n_parallel, files) + api_plan_bytes(files);
}

engine_config session_engine_config(const config *c, error *err) {
    engine_config e = engine_defaults();
    static const struct {
        const char *name;
        kern_kv_type type;
    } types[] = {
        {"f16", KERN_KV_F16}, {"bf16", KERN_KV_BF16}, {"q8_0", KERN_KV_Q8_0}, {"f32", KERN_KV_F32}};
    bool known = false;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(c->kv_type, types[i].name) == 0) {
            e.kv_type = types[i].type;
            known = true;
        }
    if (!known)
        error_set(err, ERR_USAGE, "kv-type", "--kv-type is f16, bf16, q8_0 or f32, not '%.40s'.",
                  c->kv_type);
    static const char *const modes[] = {"auto", "mmap", "read",
                                        "direct"}; /* as the enum has them */
    for (size_t i = 0; c->load && i < sizeof modes / sizeof modes[0]; i++)
        if (strcmp(c->load, modes[i]) == 0) e.load = (model_load_mode)i;
    if (c->kv_dir && !*c->kv_dir)
        error_set(err, ERR_USAGE, "kv-dir",
                  "--kv-dir is empty: name a directory, or leave it out.");
    e.lock = c->mlock;
    if (c->command == CONFIG_SERVE || (c->command == CONFIG_PLAN && c->parallel))
        e.above_bytes = serve_bytes;
    else if (c->command & (CONFIG_GENERATE | CONFIG_CHAT | CONFIG_PLAN))
        e.above_bytes = chat_bytes;
    e.n_threads = (int)c->threads;
    e.n_parallel = c->parallel ? (int)c->parallel : 1;
    if (c->command == CONFIG_SERVE) e.n_queue = (int)c->queue;
    config_limits l = config_get_limits(c, c->performance_mode);
    e.max_context_tokens = c->ctx ? c->ctx : l.max_context_tokens;
    e.max_kv_size = l.max_kv_size;
    e.pinned = c->pinned;
    e.kv_cache_bytes = (uint64_t)c->kv_cache << 20;
    e.kv_dir = c->kv_dir;
    e.kv_dir_bytes = (uint64_t)c->kv_dir_size << 20;
    e.max_chunk = (int32_t)c->chunk;
    e.f32_acts = c->f32_acts;
    e.no_repack = c->mmap_rows;
    e.progress = c->quiet ? term_not_interrupted : term_progress;
    e.progress_ctx = (void *)(uintptr_t) "loading";
    return e;
}

context_rules session_context(const config *c, context_mode otherwise) {
    config_limits l = config_get_limits(c, c->performance_mode);
    context_rules r = {
        .mode = otherwise,
        .max_tokens = l.max_context_tokens,
        .is_perf = l.is_perf_context,
        .margin = c->max_context_tokens_margin,
        .budget = l.prompt_token_budget,
    };
    if (c->truncation) r.mode = strcmp(c->truncation, "auto") == 0 ? CONTEXT_CUT : CONTEXT_REFUSE;
    return r;
}

/* A window no block fits into; what the model pins by itself is the engine's to look at. */
static bool check_window(const config *c, const engine_config *e, error *err) {
    bool is_perf = config_get_limits(c, c->performance_mode).is_perf_window;
    const char *name = is_perf ? "perf-max-kv-size" : "max-kv-size";
    int64_t pinned = e->pinned > 0 ? (e->pinned + KV_BLOCK - 1) / KV_BLOCK * KV_BLOCK : 0;
    if (e->max_kv_size == 0 || e->max_kv_size >= pinned + KV_BLOCK) return true;
    if (!pinned)
        return error_set(
            err, ERR_USAGE, name,
            "A window of --%s %lld rows is smaller than the cache's blocks: raise it to %d at least.",
            name, (long long)e->max_kv_size, KV_BLOCK);
    return error_set(
        err, ERR_USAGE, name,
        "A window of --%s %lld rows is too small beside %lld pinned ones (in blocks of %d): raise "
        "it to %lld at least, or lower --pinned.",
        name, (long long)e->max_kv_size, (long long)pinned, KV_BLOCK,
        (long long)(pinned + KV_BLOCK));
}

void session_warn_of_long_context(const engine_plan *p) {
    long long asked = p->max_context_tokens, trained = p->n_ctx_train;
    if (trained > 0 && asked > trained)
        log_line(
            LOG_WARN, "config",
            "prompts may have %lld tokens, but the model was trained for %lld: answers to longer "
            "ones will be poor",
            asked, trained);
}

static void warn_of_idle_mode(const config *c) {
    if (c->performance_mode && !c->perf_max_tokens && !c->perf_max_context_tokens &&
        !c->perf_max_kv_size && !c->perf_prompt_token_budget)
        log_line(LOG_WARN, "config",
                 "performance_mode is on, but changes nothing: none of perf_max_tokens, "
                 "perf_max_context_tokens, perf_max_kv_size and perf_prompt_token_budget is set.");
}

bool session_prepare(const config *c, engine_config *e, error *err) {
    *e = session_engine_config(c, err);
    warn_of_idle_mode(c);
    return !error_is_set(err) && check_window(c, e, err);
}

bool session_check_plan(const config *c, const engine_plan *p, error *err) {
    context_rules rules = session_context(c, CONTEXT_DROP);
    return context_check(&rules, p->max_context_tokens, err) &&
           (!c->mlock || !p->fits || engine_may_lock(p, err));
}

bool session_open(session *s, config *c, bool with_chat, error *err) {
    *s = (session){.c = c};
    engine_config e;
    if (!session_prepare(c, &e, err) ||
        !hub_open(c->model, config_find_data_dir(c), &s->model, err))
        return false;
    s->e = engine_open(s->model.f, &e, err);
    term_progress_end();
    if (!s->e || !session_check_plan(c, engine_get_plan(s->e), err)) return false;
    if (!with_chat) return true;
    buf template = {0};
    chat_options o = {.debug_dir = c->debug_dir};
    bool ok = !c->chat_template || cli_read_file(c->chat_template, &template, err);
    if (c->chat_template) o.template_override = buf_str(&template);
    if (ok) s->chat = chat_new(s->e, &o, err);
    buf_deinit(&template);
    return s->chat != NULL;
}

void session_close(session *s) {
    if (s->chat) chat_free(s->chat);
    if (s->e) engine_close(s->e);
    hub_close(&s->model);
}

void cli_note_unsaid(const config *c, const turn_event *end, bool said) {
    if (said || c->quiet || end->finish != TURN_LENGTH) return;
    bool asked = config_get_limits(c, c->performance_mode).max_tokens > 0;
    fprintf(stderr,
            "oriel: the limit of %lld tokens came before the answer began; %s allows more%s.\n",
            (long long)end->usage.n_completion, asked ? "--max-tokens" : "a larger --ctx",
            c->show_reasoning ? "" : ", --show-reasoning shows what was thought");
}

bool cli_run_turn(turn *t, show_fn *show, void *ctx, turn_event *end, error *err) {
    bool cancelled = false;
    for (turn_event e;;) {
        if (!turn_wait(t, &e, 50)) {
            if (term_interrupts() && !cancelled) {
                turn_cancel(t);
                cancelled = true;
            }
            continue;
        }
        if (term_interrupts() && !cancelled) {
            turn_cancel(t);
            cancelled = true;
        }
        if (show && !show(ctx, &e) && !cancelled) {
            turn_cancel(t);
            cancelled = true;
        }
        if (e.kind == TURN_END) {
            *end = e;
            if (e.finish == TURN_FAILED) {
                *err = *e.err;
                return false;
            }
            return true;
        }
    }
}
