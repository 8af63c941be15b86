#include "config/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/json.h"
#include "base/limits.h"

typedef enum kind { FLAG, INT, NUM, TEXT, LIST } kind;

typedef struct option {
    const char *
        name; /* "max-kv-size": flag --max-kv-size, environment ORIEL_MAX_KV_SIZE, file key max_kv_size */
    kind kind;
    size_t offset; /* LIST: of the array, with its count in the next size_t member (count_offset) */
    size_t count_offset;
    int commands;
    double min, max; /* both 0: no check */
    const char *fallback;
    const char *arg, *help; /* arg: what --help calls the value; help NULL: not shown */
    bool affects_answers;
    char letter;
    const char *values; /* TEXT: the only ones allowed, with spaces between */
} option;

#define AT(member) .offset = offsetof(config, member)
#define MANY(member) \
    .offset = offsetof(config, member), .count_offset = offsetof(config, n_##member)
enum {
    TURN = CONFIG_GENERATE | CONFIG_CHAT,
    LOADS = TURN | CONFIG_SCORE | CONFIG_BENCH | CONFIG_BENCH_WINDOW | CONFIG_SERVE | CONFIG_PLAN |
            CONFIG_BENCH_LOAD,
    ALL = LOADS | CONFIG_TOKENIZE | CONFIG_INSPECT,
};

static const option options[] = {
    {"model", TEXT, AT(model), .commands = ALL & ~CONFIG_INSPECT, .arg = "FILE",
     .help = "GGUF file or a name in the models directory; default: the built-in model",
     .letter = 'm'},
    {"prompt", TEXT, AT(prompt), .commands = TURN, .arg = "TEXT",
     .help = "the user's message (with --raw: the text to continue)", .letter = 'p'},
    {"prompt-file", TEXT, AT(prompt_file), .commands = TURN, .arg = "FILE",
     .help = "the same from a file; - is standard input", .letter = 'f'},
    {"prompt-ids", TEXT, AT(prompt_ids), .commands = CONFIG_GENERATE, .arg = "1,403",
     .help = "token ids to continue"},
    {"json-schema", TEXT, AT(json_schema), .commands = CONFIG_GENERATE, .arg = "FILE",
     .help = "the answer is one JSON value of this schema"},
    {"grammar", TEXT, AT(grammar_file), .commands = CONFIG_GENERATE, .arg = "FILE",
     .help = "the answer obeys this grammar: GBNF where it has ::=, else Lark"},
    {"regex", TEXT, AT(regex), .commands = CONFIG_GENERATE, .arg = "PATTERN",
     .help = "the whole answer matches this pattern"},
    {"system", TEXT, AT(system), .commands = TURN, .arg = "TEXT",
     .help = "system (developer) message", .affects_answers = true},
    {"raw", FLAG, AT(raw), .commands = CONFIG_GENERATE,
     .help = "no chat template: continue the text"},
    {"max-tokens", INT, AT(max_tokens), .commands = TURN | CONFIG_SERVE, .min = -1, .max = 0x1p40,
     .fallback = "-1", .arg = "N", .help = "stop after N tokens; -1: no limit of its own",
     .letter = 'n'},
    {"temperature", NUM, AT(temperature), .commands = TURN | CONFIG_SERVE, .min = 0, .max = 2,
     .fallback = "1", .arg = "T", .help = "0 is greedy; default 1", .affects_answers = true},
    {"top-p", NUM, AT(top_p), .commands = TURN | CONFIG_SERVE, .min = 0, .max = 1, .fallback = "1",
     .arg = "P", .help = "nucleus sampling; 1 is off", .affects_answers = true},
    {"top-k", INT, AT(top_k), .commands = TURN | CONFIG_SERVE, .min = 0, .max = 1 << 30,
     .fallback = "0", .arg = "K", .help = "0 is off", .affects_answers = true},
    {"min-p", NUM, AT(min_p), .commands = TURN | CONFIG_SERVE, .min = 0, .max = 1, .fallback = "0",
     .arg = "P", .help = "0 is off", .affects_answers = true},
    {"min-tokens-to-keep", INT, AT(min_tokens_to_keep), .commands = TURN | CONFIG_SERVE, .min = 1,
     .max = 1 << 20, .fallback = "1", .affects_answers = true},
    {"repetition-penalty", NUM, AT(repetition_penalty), .commands = TURN | CONFIG_SERVE, .min = 0,
     .max = 100, .fallback = "1", .arg = "R", .help = "1 is off", .affects_answers = true},
    {"repetition-context-size", INT, AT(repetition_context_size), .commands = TURN | CONFIG_SERVE,
     .min = 0, .max = 65536, .fallback = "20", .affects_answers = true},
    {"presence-penalty", NUM, AT(presence_penalty), .commands = TURN | CONFIG_SERVE, .min = -2,
     .max = 2, .fallback = "0", .affects_answers = true},
    {"frequency-penalty", NUM, AT(frequency_penalty), .commands = TURN | CONFIG_SERVE, .min = -2,
     .max = 2, .fallback = "0", .affects_answers = true},
    {"seed", INT, AT(seed), .commands = TURN | CONFIG_BENCH | CONFIG_BENCH_WINDOW, .min = -1,
     .max = 0x1p63, .fallback = "-1", .arg = "S", .help = "same seed, same text; -1 is random",
     .letter = 's'},
    {"stop", LIST, MANY(stop), .commands = TURN, .arg = "TEXT",
     .help = "stop before this text (repeatable)"},
    {"ignore-eos", FLAG, AT(ignore_eos), .commands = CONFIG_GENERATE,
     .help = "go on past end tokens"},
    {"logprobs", INT, AT(logprobs), .commands = CONFIG_GENERATE, .min = -1, .max = 20,
     .fallback = "-1", .arg = "K", .help = "with --json: log-probabilities with K alternatives"},
    {"reasoning-effort", TEXT, AT(reasoning_effort), .commands = TURN | CONFIG_SERVE,
     .arg = "LEVEL", .help = "low, medium or high", .affects_answers = true,
     .values = "low medium high"},
    {"show-reasoning", FLAG, AT(show_reasoning), .commands = TURN,
     .help = "print the analysis too, dimmed"},
    {"file", TEXT, AT(file), .commands = CONFIG_SCORE | CONFIG_TOKENIZE, .arg = "FILE",
     .help = "text to read; default: standard input", .letter = 'f'},
    {"decode", FLAG, AT(decode), .commands = CONFIG_TOKENIZE,
     .help = "the other way: ids (numbers) to text"},
    {"special", FLAG, AT(special), .commands = CONFIG_TOKENIZE,
     .help = "read the text of special tokens as those tokens"},
    {"host", TEXT, AT(host), .commands = CONFIG_SERVE, .fallback = "127.0.0.1", .arg = "ADDR",
     .help = "address to listen on; beyond loopback a key is needed"},
    {"port", INT, AT(port), .commands = CONFIG_SERVE, .min = 0, .max = 65535, .fallback = "8080",
     .arg = "N", .help = "default 8080; 0 takes a free one"},
    {"api-key", LIST, MANY(api_key), .commands = CONFIG_SERVE, .arg = "KEY",
     .help = "ask clients for this key; what NAME=KEY stores is NAME's (repeatable)"},
    {"api-key-file", TEXT, AT(api_key_file), .commands = CONFIG_SERVE, .arg = "FILE",
     .help = "keys, one a line (KEY or NAME=KEY)"},
    {"cors-origin", LIST, MANY(cors_origin), .commands = CONFIG_SERVE, .arg = "URL",
     .help = "web origin that may call, beside loopback ones (repeatable)"},
    {"allow-host", LIST, MANY(allow_host), .commands = CONFIG_SERVE, .arg = "NAME",
     .help = "further Host name this server is known by (repeatable)"},
    {"alias", LIST, MANY(alias), .commands = CONFIG_SERVE, .arg = "NAME",
     .help = "further name clients may call the model by, such as gpt-4o (repeatable)"},
    {"transcribe-command", TEXT, AT(transcribe_command), .commands = CONFIG_SERVE},
    {"image-command", TEXT, AT(image_command), .commands = CONFIG_SERVE},
    {"http-threads", INT, AT(http_threads), .commands = CONFIG_SERVE, .min = 1, .max = 64,
     .fallback = "4"},
    {"parallel", INT, AT(parallel), .commands = CONFIG_SERVE | CONFIG_BENCH, .min = 1,
     .max = LIMIT_PARALLEL, .fallback = "4", .arg = "N",
     .help = "answers generated at once; default 4"},
    {"parallel", INT, AT(parallel), .commands = CONFIG_PLAN, .min = 0, .max = LIMIT_PARALLEL,
     .fallback = "0", .arg = "N",
     .help = "plan for oriel serve with N answers at once; default: for chat and generate"},
    {"queue", INT, AT(queue), .commands = CONFIG_SERVE, .min = 0, .max = LIMIT_QUEUE,
     .fallback = "512", .arg = "N", .help = "requests that may wait; more get 429"},
    {"prompt-tokens", INT, AT(prompt_tokens), .commands = CONFIG_BENCH | CONFIG_BENCH_WINDOW,
     .min = 1, .max = 0x1p30, .fallback = "512", .arg = "N", .help = "prefill length; default 512"},
    {"generate-tokens", INT, AT(generate_tokens), .commands = CONFIG_BENCH, .min = 1, .max = 0x1p30,
     .fallback = "64", .arg = "N", .help = "tokens decoded at each frontier; default 64"},
    {"frontiers", TEXT, AT(frontiers), .commands = CONFIG_BENCH, .arg = "0,512,4096",
     .help = "context lengths at which decoding is timed"},
    {"repeat", INT, AT(repeat), .commands = CONFIG_BENCH | CONFIG_BENCH_LOAD, .min = 1, .max = 1000,
     .fallback = "3", .arg = "N", .help = "runs; the median is shown"},
    {"max-kv-size", TEXT, AT(window_sizes), .commands = CONFIG_BENCH_WINDOW,
     .fallback = "256,512,1024,4096", .arg = "256,512", .help = "the windows to run, one by one"},
    {"tokens", INT, AT(tokens), .commands = CONFIG_BENCH_WINDOW, .min = 1, .max = 0x1p40,
     .fallback = "20000", .arg = "N", .help = "length of each generation; default 20,000",
     .letter = 'n'},
    {"turns", INT, AT(turns), .commands = CONFIG_BENCH_WINDOW, .min = 0, .max = 1 << 20,
     .fallback = "0", .arg = "N", .help = "turns of a long chat beside it; default none"},
    {"turn-tokens", INT, AT(turn_tokens), .commands = CONFIG_BENCH_WINDOW, .min = 1, .max = 1 << 20,
     .fallback = "32", .arg = "N", .help = "longest answer in the chat; default 32"},
    {"pairs", INT, AT(pairs), .commands = CONFIG_BENCH_WINDOW, .min = 0, .max = 10000,
     .fallback = "300", .arg = "N", .help = "bursts of a deep and a young sequence compared"},
    {"counters", FLAG, AT(counters), .commands = CONFIG_BENCH_WINDOW,
     .help = "only what is counted exactly; nothing that is timed"},
    {"svg", TEXT, AT(svg), .commands = CONFIG_BENCH_WINDOW, .arg = "FILE",
     .help = "draw speed and memory over tokens"},
    {"notes", TEXT, AT(notes), .commands = CONFIG_BENCH_WINDOW, .fallback = "docs/BENCHMARKS.md",
     .arg = "FILE", .help = "where bench notes appends"},
    {"ctx", INT, AT(ctx), .commands = LOADS, .min = 0, .max = (double)LIMIT_ROWS, .fallback = "0",
     .arg = "N", .help = "longest prompt in tokens; default: the trained length",
     .affects_answers = true, .letter = 'c'},
    {"max-context-tokens", INT, AT(max_context_tokens), .commands = LOADS, .min = 1,
     .max = (double)LIMIT_ROWS, .arg = "N",
     .help = "the same, and longer prompts lose their oldest turns", .affects_answers = true},
    {"max-context-tokens-margin", INT, AT(max_context_tokens_margin), .commands = LOADS, .min = 0,
     .max = (double)LIMIT_ROWS, .fallback = "0", .arg = "N",
     .help = "prompts stay this far below it", .affects_answers = true},
    {"truncation", TEXT, AT(truncation), .commands = TURN | CONFIG_SERVE, .arg = "MODE",
     .help = "auto: cut prompts that are too long; disabled: refuse them", .affects_answers = true,
     .values = "auto disabled"},
    {"performance-mode", FLAG, AT(performance_mode), .commands = LOADS,
     .help = "the perf-... values take the place of their plain twins", .affects_answers = true},
    {"perf-max-tokens", INT, AT(perf_max_tokens), .commands = LOADS, .min = 1,
     .max = (double)LIMIT_ROWS, .affects_answers = true},
    {"perf-max-context-tokens", INT, AT(perf_max_context_tokens), .commands = LOADS, .min = 1,
     .max = (double)LIMIT_ROWS, .affects_answers = true},
    {"perf-max-kv-size", INT, AT(perf_max_kv_size), .commands = LOADS, .min = 1,
     .max = (double)LIMIT_ROWS, .affects_answers = true},
    {"perf-prompt-token-budget", INT, AT(perf_prompt_token_budget), .commands = LOADS, .min = 1,
     .max = (double)LIMIT_ROWS, .affects_answers = true},
    {"max-kv-size", INT, AT(max_kv_size), .commands = LOADS & ~CONFIG_BENCH_WINDOW, .min = 0,
     .max = (double)LIMIT_ROWS, .fallback = "0", .arg = "N",
     .help = "window: rows of context kept; default: --ctx", .affects_answers = true},
    {"pinned", INT, AT(pinned), .commands = LOADS, .min = -1, .max = (double)LIMIT_PINNED,
     .fallback = "-1", .affects_answers = true},
    {"kv-type", TEXT, AT(kv_type), .commands = LOADS, .fallback = "f16", .arg = "TYPE",
     .help = "f16 (default), bf16, q8_0 or f32", .affects_answers = true,
     .values = "f16 bf16 q8_0 f32"},
    {"load", TEXT, AT(load), .commands = LOADS, .fallback = "auto", .arg = "MODE",
     .help = "auto, mmap (in place), read or direct (past the page cache)",
     .values = "auto mmap read direct"},
    {"drop-caches", FLAG, AT(drop_caches), .commands = CONFIG_BENCH_LOAD,
     .help = "cold: empty the whole machine's page cache, not this file's (as root)"},
    {"mlock", FLAG, AT(mlock), .commands = LOADS, .help = "keep weights and window in memory"},
    {"kv-cache", INT, AT(kv_cache), .commands = LOADS, .min = 0, .max = 0x1p30, .fallback = "0",
     .arg = "MIB", .help = "key/value memory for reuse alone, beyond the windows"},
    {"kv-dir", TEXT, AT(kv_dir), .commands = LOADS, .arg = "DIR",
     .help = "keep key/value rows there too: prompts that were seen survive a restart"},
    {"kv-dir-size", INT, AT(kv_dir_size), .commands = LOADS, .min = 1, .max = 0x1p30,
     .fallback = "4096", .arg = "MIB", .help = "how large DIR may get; default 4096"},
    {"threads", INT, AT(threads), .commands = LOADS, .min = 0, .max = LIMIT_THREADS,
     .fallback = "0", .arg = "N", .help = "default: all cores", .letter = 't'},
    {"chunk", INT, AT(chunk), .commands = LOADS, .min = 1, .max = LIMIT_CHUNK, .fallback = "512"},
    {"f32-activations", FLAG, AT(f32_acts), .commands = LOADS, .affects_answers = true},
    {"no-repack", FLAG, AT(mmap_rows), .commands = LOADS, .affects_answers = true},
    {"chat-template", TEXT, AT(chat_template), .commands = TURN | CONFIG_SERVE, .arg = "FILE",
     .help = "Jinja template instead of the model's own", .affects_answers = true},
    {"data-dir", TEXT, AT(data_dir), .commands = ALL, .arg = "DIR",
     .help = "where oriel keeps its state"},
    {"no-store", FLAG, AT(no_store), .commands = CONFIG_SERVE,
     .help = "keep nothing: no stored responses, conversations, files or batches"},
    {"no-page", FLAG, AT(no_page), .commands = CONFIG_SERVE, .help = "no chat page on /"},
    {"store-days", INT, AT(store_days), .commands = CONFIG_SERVE, .min = 0, .max = 36500,
     .fallback = "30", .arg = "N", .help = "stored answers expire after N days; 0 is never"},
    {"debug", TEXT, AT(debug_dir), .commands = TURN | CONFIG_SERVE, .arg = "DIR",
     .help = "write each turn's prompt, ids, raw completion and parse there"},
    {"json", FLAG, AT(json), .commands = ALL & ~(CONFIG_CHAT | CONFIG_SERVE),
     .help = "one JSON object on standard output"},
    {"quiet", FLAG, AT(quiet), .commands = ALL, .help = "no progress and no status lines",
     .letter = 'q'},
    {"log-level", INT, AT(log_level), .commands = LOADS, .min = 0, .max = 3, .fallback = "1",
     .arg = "0-3", .help = "0 errors, 1 warnings, 2 info, 3 debug"},
    {"help", FLAG, AT(help), .commands = ALL, .help = "this text", .letter = 'h'},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

static bool usage(error *err, const char *name, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static bool usage(error *err, const char *name, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    error_vset(err, ERR_USAGE, name, fmt, ap);
    va_end(ap);
    return false;
}

static bool has_word(const char *words, const char *word) {
    size_t n = strlen(word);
    if (strchr(word, ' ')) return false;
    for (const char *p = words; n && (p = strstr(p, word)); p += n)
        if ((p == words || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0)) return true;
    return false;
}

/* `where` says how the user wrote it: "--port", "ORIEL_PORT", "port in FILE". */
static bool set_value(config *c, const option *o, const char *value, const char *where,
                      error *err) {
    void *to = (char *)c + o->offset;
    char *end;
    errno = 0;
    c->set_by[o - options] = (unsigned char)c->source;
    switch (o->kind) {
    case FLAG:
        if (!value || strcmp(value, "1") == 0 || strcmp(value, "true") == 0)
            *(bool *)to = true;
        else if (strcmp(value, "0") == 0 || strcmp(value, "false") == 0)
            *(bool *)to = false;
        else
            return usage(err, o->name, "%s is on or off: use true or false, not '%.60s'.", where,
                         value);
        return true;
    case INT: {
        long long v = strtoll(value, &end, 10);
        if (end == value || *end || errno)
            return usage(err, o->name, "%s takes a whole number, not '%.60s'.", where, value);
        if ((o->min != 0 || o->max != 0) && ((double)v < o->min || (double)v > o->max))
            return usage(err, o->name, "%s takes a number from %.0f to %.0f, not %lld.", where,
                         o->min, o->max, v);
        *(int64_t *)to = v;
        return true;
    }
    case NUM: {
        double v = strtod(value, &end);
        if (end == value || *end || errno || !isfinite(v))
            return usage(err, o->name, "%s takes a number, not '%.60s'.", where, value);
        if (v < o->min || v > o->max)
            return usage(err, o->name, "%s takes a number from %g to %g, not %g.", where, o->min,
                         o->max, v);
        *(double *)to = v;
        return true;
    }
    case TEXT:
        if (o->values && !has_word(o->values, value))
            return usage(err, o->name, "%s is one of: %s; not '%.60s'.", where, o->values, value);
        *(const char **)to = arena_dup(&c->mem, str_from(value));
        break;
    case LIST: {
        if (!*value) return usage(err, o->name, "%s takes a text that is not empty.", where);
        const char ***list = to;
        size_t *n = (size_t *)((char *)c + o->count_offset);
        const char **grown = arena_array(&c->mem, *n + 1, sizeof *grown);
        if (grown) {
            if (*n) memcpy(grown, *list, *n * sizeof *grown);
            grown[(*n)++] = arena_dup(&c->mem, str_from(value));
            *list = grown;
        }
        break;
    }
    }
    return !c->mem.failed ||
           error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the configuration.");
}

static const option *find_option(str name, int command) {
    for (int i = 0; i < N_OPTIONS; i++)
        if (str_is(name, options[i].name) && options[i].commands & command) return &options[i];
    return NULL;
}

/* ── sources, weakest first ── */

enum { BY_DEFAULT, BY_FILE, BY_ENVIRONMENT, BY_FLAG };

static bool load_defaults(config *c, int command, error *err) {
    for (int i = 0; i < N_OPTIONS; i++)
        if (options[i].fallback && options[i].commands & command &&
            !set_value(c, &options[i], options[i].fallback, options[i].name, err))
            return false;
    return true;
}

static bool load_json_value(config *c, const option *o, json_t *v, const char *where, error *err) {
    char text[64];
    switch (json_typeof(v)) {
    case JSON_NULL: return true;
    case JSON_TRUE:
        return o->kind == FLAG ? set_value(c, o, "true", where, err)
                               : usage(err, o->name, "%s is not on or off.", where);
    case JSON_FALSE:
        return o->kind == FLAG ? set_value(c, o, "false", where, err)
                               : usage(err, o->name, "%s is not on or off.", where);
    case JSON_INTEGER:
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(v));
        return set_value(c, o, text, where, err);
    case JSON_REAL:
        snprintf(text, sizeof text, "%.17g", json_real_value(v));
        return set_value(c, o, text, where, err);
    case JSON_STRING: return set_value(c, o, json_string_value(v), where, err);
    case JSON_ARRAY:
        if (o->kind != LIST) return usage(err, o->name, "%s takes one value, not a list.", where);
        for (size_t i = 0; i < json_array_size(v); i++)
            if (!json_is_string(json_array_get(v, i)) ||
                !set_value(c, o, json_string_value(json_array_get(v, i)), where, err))
                return usage(err, o->name, "%s takes a list of strings.", where);
        return true;
    default: return usage(err, o->name, "%s cannot be an object.", where);
    }
}

/* The command's option whose name is nearest to a mistyped word, or NULL. */
static const char *meant_option(str word, int command) {
    const char *nearest = NULL;
    size_t fewest = SIZE_MAX;
    for (int i = 0; i < N_OPTIONS; i++)
        if (options[i].commands & command &&
            str_is_nearer(word, str_from(options[i].name), &fewest))
            nearest = options[i].name;
    return nearest;
}

/* An option's name as a key of the file: max_kv_size. */
typedef struct key_text {
    char text[64];
} key_text;
static key_text key_name(const char *option_name) {
    key_text k;
    snprintf(k.text, sizeof k.text, "%s", option_name);
    for (char *p = k.text; *p; p++)
        if (*p == '-') *p = '_';
    return k;
}

/* The line of a file of one flat object on which a key stands; 0: it cannot be told (written with escapes). */
static int line_of(str text, const char *key) {
    size_t n = strlen(key);
    int line = 1;
    for (size_t i = 0; i + n + 2 <= text.len; i++) {
        if (text.ptr[i] == '\n') line++;
        if (text.ptr[i] != '"' || memcmp(text.ptr + i + 1, key, n) != 0 ||
            text.ptr[i + n + 1] != '"')
            continue;
        size_t k = i + n + 2;
        while (k < text.len && strchr(" \t\r\n", text.ptr[k])) k++;
        if (k < text.len && text.ptr[k] == ':') return line;
    }
    return 0;
}

static bool load_key(config *c, int command, const char *path, str text, const char *key, json_t *v,
                     error *err) {
    char name[64], where[300], line[32] = "";
    int n = line_of(text, key);
    if (n) snprintf(line, sizeof line, ", line %d", n);
    snprintf(name, sizeof name, "%s", key);
    for (char *p = name; *p; p++)
        if (*p == '_') *p = '-';
    const option *any = NULL;
    for (int i = 0; i < N_OPTIONS; i++)
        if (strcmp(options[i].name, name) == 0 && (!any || options[i].commands & command))
            any = &options[i];
    if (!any) {
        const char *meant = meant_option(str_from(name), ALL); /* all commands share a file */
        return usage(err, key, "%s%s has an unknown key '%.60s'.%s%s%s", path, line, key,
                     meant ? " Did you mean '" : "", meant ? key_name(meant).text : "",
                     meant ? "'?" : "");
    }
    snprintf(where, sizeof where, "'%s' in %s%s", key, path, line);
    return !(any->commands & command) || load_json_value(c, any, v, where, err);
}

static bool load_file(config *c, int command, const char *path, bool must_exist, error *err) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        if (!must_exist && (errno == ENOENT || errno == ENOTDIR)) return true;
        return usage(err, "config", "The configuration file %s cannot be read: %s.", path,
                     strerror(errno));
    }
    buf text = {.max = 16 * 1024 * 1024};
    bool ok = buf_read_fd(&text, fd);
    if (!ok)
        usage(err, "config", "The configuration file %s cannot be read: %s.", path,
              strerror(errno));
    close(fd);
    json_t *root = ok ? json_parse(buf_str(&text), err) : NULL;
    if (ok && !root) error_prefix(err, "%s", path);
    ok = root &&
         (json_is_object(root) ||
          usage(err, "config", "The configuration file %s must hold one JSON object.", path));
    const char *key;
    json_t *v;
    if (ok)
        json_object_foreach(root, key, v) if (!(ok = load_key(c, command, path, buf_str(&text), key,
                                                              v, err))) break;
    json_decref(root);
    buf_deinit(&text);
    return ok;
}

/* The file that is read without being asked for. What is wrong with it must not stop those who can do
 * without, and the others hear what to do. */
static bool load_default_file(config *c, int command, error *err) {
    char path[4096];
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (xdg && *xdg)
        snprintf(path, sizeof path, "%s/oriel/config.json", xdg);
    else
        snprintf(path, sizeof path, "%s/.config/oriel/config.json", home ? home : "");
    if (load_file(c, command, path, false, err)) return true;
    if (err && err->code != ERR_NO_MEMORY)
        snprintf(err->message + strlen(err->message), sizeof err->message - strlen(err->message),
                 " Mend that file, move it away, or name another with --config FILE.");
    return false;
}

/* An option's variable: ORIEL_MAX_KV_SIZE. */
static key_text variable_name(const char *option_name) {
    key_text k;
    snprintf(k.text, sizeof k.text, "ORIEL_%s", option_name);
    for (char *p = k.text; *p; p++) *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
    return k;
}

static bool load_environment(config *c, int command, error *err) {
    for (int i = 0; i < N_OPTIONS; i++) {
        key_text name = variable_name(options[i].name);
        const char *v = getenv(name.text);
        if (v && *v && options[i].commands & command && strcmp(options[i].name, "help") != 0 &&
            !set_value(c, &options[i], v, name.text, err))
            return false;
    }
    return true;
}

/* Variables that are no options: of other rooms, of clients, and of the tests and scripts, which start
 * the program with theirs set (tests/e2e/test_cli.py looks whether one is missing here). */
static const char OTHER_VARIABLES[] =
    "CONFIG CPU KEY BUILD CALLS CALLS_SEED COMMIT CONFORMANCE CONTEXT_CASES CONTEXT_SEED CONTEXT_SHOW "
    "CORPUS CYCLES DIVERGENCES ENCODE ENCODE_OUT FORMS FORMS_SEED HTTP_STREAMS JUDGE JUDGE_OUT "
    "KV_KILLS KV_WORLDS LOAD_SEED PIN_THREADS PLAN_ALL RANDOM READ READ_OUT RENDER RENDER_OUT SAMPLES SAMPLE_OUT "
    "SIM_SEED SIM_WORLDS SOAK_KILLS TEMPLATES TEMPLATES_SEED TOKENS_SEED WALKS WALK_OUT WRITE_DOCS";

void config_name_strange_variables(config_strange_fn *say, void *ctx) {
    for (char **at = environ; at && *at; at++) {
        str all = str_from(*at), name = {0};
        const char *eq = strchr(*at, '='), *meant = NULL;
        size_t fewest = SIZE_MAX;
        char word[64];
        if (!str_starts(all, STR("ORIEL_")) || !eq || !eq[1]) continue;
        name = str_make(*at + 6, (size_t)(eq - *at) - 6);
        snprintf(word, sizeof word, "%.*s", STR_ARG(name));
        bool known = has_word(OTHER_VARIABLES, word);
        for (int i = 0; i < N_OPTIONS && !known; i++) {
            key_text k = variable_name(options[i].name);
            str option_name = str_from(k.text + 6);
            known = str_eq(name, option_name);
            if (str_is_nearer(name, option_name, &fewest)) meant = options[i].name;
        }
        if (!known)
            say(ctx, str_make(*at, (size_t)(eq - *at)), meant ? variable_name(meant).text : NULL);
    }
}

/* One flag at argv[*at]; may take the next word as its value. */
static bool load_flag(config *c, int command, int argc, char **argv, int *at, error *err) {
    const char *word = argv[*at], *eq = NULL;
    const option *o = NULL;
    str name = {0};
    if (word[1] == '-') {
        eq = strchr(word, '=');
        name = str_make(word + 2, eq ? (size_t)(eq - word - 2) : strlen(word + 2));
        o = find_option(name, command);
    } else if (word[2] == 0) {
        for (int i = 0; i < N_OPTIONS; i++)
            if (options[i].letter == word[1] && options[i].commands & command) o = &options[i];
    }
    if (!o) {
        for (int i = 0; i < N_OPTIONS && word[1] == '-'; i++)
            if (str_is(name, options[i].name))
                return usage(err, word,
                             "%.60s does not belong to this command. --help lists what does.",
                             word);
        const char *meant = meant_option(name, command);
        if (meant)
            return usage(err, word, "There is no option %.60s here. Did you mean --%s?", word,
                         meant);
        return usage(err, word, "There is no option %.60s here. --help lists the options.", word);
    }
    const char *value = eq ? eq + 1 : NULL;
    if (o->kind != FLAG && !value) {
        if (*at + 1 >= argc) return usage(err, o->name, "--%s needs a value.", o->name);
        value = argv[++*at];
    }
    char where[64];
    snprintf(where, sizeof where, "--%s", o->name);
    return set_value(c, o, value, where, err);
}

/* ── performance mode, and values against each other ── */

static int source_of(const config *c, const char *name) {
    for (int i = 0; i < N_OPTIONS; i++)
        if (strcmp(options[i].name, name) == 0 && options[i].commands & c->command)
            return c->set_by[i];
    return BY_DEFAULT;
}

static bool wins(const config *c, const char *perf_name, int64_t perf, const char *name) {
    return perf > 0 && source_of(c, perf_name) >= source_of(c, name);
}

config_limits config_get_limits(const config *c, bool performance_mode) {
    if (!performance_mode)
        return (config_limits){.max_tokens = c->max_tokens,
                               .max_context_tokens = c->max_context_tokens,
                               .max_kv_size = c->max_kv_size};
    bool perf_context =
             wins(c, "perf-max-context-tokens", c->perf_max_context_tokens, "max-context-tokens"),
         perf_window = wins(c, "perf-max-kv-size", c->perf_max_kv_size, "max-kv-size");
    return (config_limits){
        .max_tokens = wins(c, "perf-max-tokens", c->perf_max_tokens, "max-tokens")
                          ? c->perf_max_tokens
                          : c->max_tokens,
        .max_context_tokens = perf_context ? c->perf_max_context_tokens : c->max_context_tokens,
        .max_kv_size = perf_window ? c->perf_max_kv_size : c->max_kv_size,
        .prompt_token_budget = c->perf_prompt_token_budget,
        .is_perf_context = perf_context,
        .is_perf_window = perf_window,
    };
}

/* What can be said before the model is known. */
static bool check_context(const config *c, error *err) {
    config_limits l = config_get_limits(c, c->performance_mode);
    int64_t max = l.max_context_tokens ? l.max_context_tokens : c->ctx;
    const char *context = l.is_perf_context ? "perf-max-context-tokens" : "max-context-tokens";
    const char *window = l.is_perf_window ? "perf-max-kv-size" : "max-kv-size";
    if (c->ctx && l.max_context_tokens > c->ctx)
        return usage(
            err, context,
            "--%s %lld is more than --ctx %lld lets in: lower it, raise --ctx or leave --ctx out.",
            context, (long long)l.max_context_tokens, (long long)c->ctx);
    if (max && c->max_context_tokens_margin >= max)
        return usage(
            err, "max-context-tokens-margin",
            "--max-context-tokens-margin %lld leaves nothing of a context of %lld tokens: set it to less than that, "
            "a few hundred at most.",
            (long long)c->max_context_tokens_margin, (long long)max);
    if (l.max_kv_size && c->pinned >= l.max_kv_size)
        return usage(
            err, "pinned",
            "--pinned %lld leaves nothing of a window of --%s %lld rows to move: lower --pinned or raise "
            "--%s.",
            (long long)c->pinned, window, (long long)l.max_kv_size, window);
    return true;
}

bool config_load(config *c, int command, int argc, char **argv, int first, error *err) {
    *c = (config){.command = command};
    arena_init(&c->mem, 64 * 1024 * 1024);
    c->set_by = arena_array(&c->mem, N_OPTIONS, 1);
    if (!c->set_by)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the configuration.");
    const char *file = getenv("ORIEL_CONFIG");
    /* --config decides which file is read, and files are weaker than flags: find it first. */
    for (int i = first; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], "--config=", 9) == 0)
            file = argv[i] + 9;
        else if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
            file = argv[i + 1];
    }
    if (!load_defaults(c, command, err)) return false;
    c->source = BY_FILE;
    bool ok =
        file && *file ? load_file(c, command, file, true, err) : load_default_file(c, command, err);
    c->source = BY_ENVIRONMENT;
    ok = ok && load_environment(c, command, err);
    /* The flags are read even so: --help is there when the configuration is not. */
    c->source = BY_FLAG;
    c->args = arena_array(&c->mem, (size_t)(argc - first) + 1, sizeof *c->args);
    if (!c->args)
        return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the configuration.");
    /* A list given on the command line replaces one from below instead of adding to it. */
    bool replaced[N_OPTIONS] = {false};
    for (int i = first; i < argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            for (i++; i < argc; i++) c->args[c->n_args++] = argv[i];
            break;
        }
        if (argv[i][0] != '-' || argv[i][1] == 0) {
            c->args[c->n_args++] = argv[i];
            continue;
        }
        if (strcmp(argv[i], "--config") == 0) {
            if (++i >= argc) return usage(err, "config", "--config needs a value.");
            continue;
        }
        if (strncmp(argv[i], "--config=", 9) == 0) continue;
        for (int k = 0; k < N_OPTIONS; k++)
            if (options[k].kind == LIST && !replaced[k] && strncmp(argv[i], "--", 2) == 0 &&
                str_is(str_make(argv[i] + 2, strcspn(argv[i] + 2, "=")), options[k].name)) {
                *(size_t *)((char *)c + options[k].count_offset) = 0;
                replaced[k] = true;
            }
        if (!load_flag(c, command, argc, argv, &i, err)) return false;
    }
    return ok && check_context(c, err);
}

void config_deinit(config *c) {
    arena_deinit(&c->mem);
}

void config_print_help(FILE *out, int command) {
    fputs("Options:\n", out);
    for (int i = 0; i < N_OPTIONS; i++) {
        const option *o = &options[i];
        if (!(o->commands & command) || !o->help) continue;
        char left[40], letter[8] = "    ";
        if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->arg ? " " : "",
                 o->arg ? o->arg : "");
        fprintf(out, "  %-27s %s\n", left, o->help);
    }
    fputs("Every option can stand in the environment (ORIEL_MAX_KV_SIZE=4096) and in a JSON\n"
          "file (--config FILE). docs/USER_GUIDE.md describes the rarer ones.\n",
          out);
}

uint64_t config_hash(const config *c) {
    uint64_t h = 1;
    for (int i = 0; i < N_OPTIONS; i++) {
        const option *o = &options[i];
        const void *at = (const char *)c + o->offset;
        if (!o->affects_answers) continue;
        switch (o->kind) {
        case FLAG: h = hash_combine(h, *(const bool *)at); break;
        case INT: h = hash_combine(h, (uint64_t) * (const int64_t *)at); break;
        case NUM: h = hash_combine(h, hash_bytes(at, sizeof(double), 0)); break;
        case TEXT: h = hash_combine(h, hash_str(str_from(*(const char *const *)at))); break;
        case LIST: break;
        }
    }
    return h;
}

const char *config_find_data_dir(config *c) {
    if (c->data_dir) return c->data_dir;
    const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    char path[4096];
    if (xdg && *xdg)
        snprintf(path, sizeof path, "%s/oriel", xdg);
    else if (home && *home)
        snprintf(path, sizeof path, "%s/.local/share/oriel", home);
    else
        return NULL;
    return c->data_dir = arena_dup(&c->mem, str_from(path));
}
