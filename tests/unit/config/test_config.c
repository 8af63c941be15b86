/* The option table: which source wins, whose default counts, what the hash sees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "config/config.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_ARGS = 16 };

/* Loads the words (NULL-terminated) as a command line; the error's message stays in err. */
static bool load(config *c, int command, error *err, ...) {
    char *argv[MAX_ARGS] = {(char *)(uintptr_t) "oriel", (char *)(uintptr_t) "command"};
    int argc = 2;
    va_list ap;
    va_start(ap, err);
    for (char *word; argc < MAX_ARGS && (word = va_arg(ap, char *));) argv[argc++] = word;
    va_end(ap);
    *err = (error){0};
    return config_load(c, command, argc, argv, 2, err);
}

static void defaults_belong_to_a_command(void **state) {
    (void)state;
    config c;
    error err;
    assert_true(load(&c, CONFIG_SERVE, &err, NULL));
    assert_int_equal(c.parallel, 4);
    assert_int_equal(c.port, 8080);
    config_deinit(&c);
    /* A conversation must not plan memory for answers it never gives at once. */
    assert_true(load(&c, CONFIG_CHAT, &err, NULL));
    assert_int_equal(c.parallel, 0);
    assert_int_equal(c.port, 0);
    assert_true(c.temperature == 1);
    assert_string_equal(c.kv_type, "f16");
    config_deinit(&c);
}

static void the_strongest_source_wins(void **state) {
    (void)state;
    char path[] = "/tmp/oriel-config-XXXXXX";
    const char text[] = "{\"max_tokens\": 3, \"stop\": [\"a\", \"b\"], \"port\": 9}";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)(sizeof text - 1));
    close(fd);
    config c;
    error err;
    assert_true(load(&c, CONFIG_GENERATE, &err, "--config", path, NULL));
    assert_int_equal(c.max_tokens, 3);
    assert_int_equal(c.n_stop, 2);
    assert_int_equal(c.port, 0); /* known, but another command's */
    config_deinit(&c);
    setenv("ORIEL_MAX_TOKENS", "4", 1);
    assert_true(load(&c, CONFIG_GENERATE, &err, "--config", path, NULL));
    assert_int_equal(c.max_tokens, 4);
    config_deinit(&c);
    assert_true(load(&c, CONFIG_GENERATE, &err, "--config", path, "-n", "5", "--stop", "c", "x",
                     "--", "-y", NULL));
    assert_int_equal(c.max_tokens, 5);
    assert_int_equal(c.n_stop, 1); /* a list on the command line replaces the file's */
    assert_string_equal(c.stop[0], "c");
    assert_int_equal(c.n_args, 2);
    assert_string_equal(c.args[1], "-y");
    config_deinit(&c);
    unsetenv("ORIEL_MAX_TOKENS");
    unlink(path);
}

static void what_is_wrong_is_named(void **state) {
    (void)state;
    static const struct {
        const char *flag, *value, *said;
    } rows[] = {
        {"--temperature", "3", "from 0 to 2"},
        {"--temperature", "nan", "a number"},
        {"--max-tokens", "1.5", "a whole number"},
        {"--max-tokens", "99999999999999999999", "a whole number"},
        {"--kv-type", "q3", "f16 bf16 q8_0 f32"},
        {"--reasoning-effort", "low medium", "low medium high"},
        {"--reasoning-effort", "", "low medium high"},
        {"--stop", "", "--stop takes a text that is not empty"},
        {"--port", "1", "does not belong"},
        {"--no-such", "1", "no option"},
        {"-z", "1", "no option"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        config c;
        error err;
        assert_false(load(&c, CONFIG_GENERATE, &err, rows[i].flag, rows[i].value, NULL));
        assert_int_equal(err.code, ERR_USAGE);
        if (!strstr(err.message, rows[i].said))
            fail_msg("%s %s: %s", rows[i].flag, rows[i].value, err.message);
        config_deinit(&c);
    }
}

static uint64_t hash_of(const char *flag, const char *value) {
    config c;
    error err;
    assert_true(load(&c, CONFIG_SERVE, &err, flag, value, NULL));
    uint64_t h = config_hash(&c);
    config_deinit(&c);
    return h;
}

static void the_hash_sees_what_changes_answers(void **state) {
    (void)state;
    uint64_t plain = hash_of(NULL, NULL);
    assert_true(plain == hash_of("--port", "1"));
    assert_true(plain == hash_of("--threads", "2"));
    assert_true(plain == hash_of("--temperature", "1.0"));
    assert_true(plain != hash_of("--temperature", "0.5"));
    assert_true(plain != hash_of("--kv-type", "bf16"));
    assert_true(plain != hash_of("--max-kv-size", "512"));
}

static int64_t max_tokens_of(const char *a, const char *b, const char *c_, const char *d,
                             const char *path) {
    config c;
    error err;
    if (!load(&c, CONFIG_GENERATE, &err, "--config", path, a, b, c_, d, NULL))
        fail_msg("%s", err.message);
    int64_t n = config_get_limits(&c, c.performance_mode).max_tokens;
    config_deinit(&c);
    return n;
}

/* A perf_ value takes its twin's place while the mode is on, unless a stronger source gave the twin. */
static void performance_mode_overrides_its_own_source(void **state) {
    (void)state;
    char path[] = "/tmp/oriel-config-XXXXXX";
    const char text[] = "{\"max_tokens\": 100, \"perf_max_tokens\": 10, \"max_kv_size\": 512, "
                        "\"perf_max_kv_size\": 256, \"perf_prompt_token_budget\": 200, "
                        "\"max_context_tokens\": 400, \"max_context_tokens_margin\": 40}";
    int fd = mkstemp(path);
    assert_true(fd >= 0 && write(fd, text, sizeof text - 1) == (ssize_t)(sizeof text - 1));
    close(fd);
    assert_int_equal(max_tokens_of(NULL, NULL, NULL, NULL, path), 100);
    assert_int_equal(max_tokens_of("--performance-mode", NULL, NULL, NULL, path), 10);
    assert_int_equal(max_tokens_of("--performance-mode", "--max-tokens", "50", NULL, path), 50);
    assert_int_equal(
        max_tokens_of("--max-tokens", "50", "--performance-mode", "--perf-max-tokens=7", path), 7);
    setenv("ORIEL_PERFORMANCE_MODE", "true", 1);
    setenv("ORIEL_MAX_TOKENS", "30", 1); /* stronger than the file */
    assert_int_equal(max_tokens_of(NULL, NULL, NULL, NULL, path), 30);
    setenv("ORIEL_PERF_MAX_TOKENS", "3", 1);
    assert_int_equal(max_tokens_of(NULL, NULL, NULL, NULL, path), 3);
    unsetenv("ORIEL_PERF_MAX_TOKENS");
    unsetenv("ORIEL_MAX_TOKENS");
    unsetenv("ORIEL_PERFORMANCE_MODE");
    config c;
    error err;
    assert_true(load(&c, CONFIG_SERVE, &err, "--config", path, NULL));
    config_limits off = config_get_limits(&c, false), on = config_get_limits(&c, true);
    assert_true(off.max_kv_size == 512 && off.prompt_token_budget == 0);
    assert_true(on.max_kv_size == 256 && on.prompt_token_budget == 200);
    assert_true(on.max_context_tokens == 400 && c.max_context_tokens_margin == 40);
    config_deinit(&c);
    unlink(path);
}

static void limits_that_leave_nothing_are_named(void **state) {
    (void)state;
    static const struct {
        const char *a, *b, *said;
    } rows[] = {
        {"--max-context-tokens=100", "--max-context-tokens-margin=100", "less than that"},
        {"--ctx=100", "--max-context-tokens-margin=200", "less than that"},
        {"--ctx=100", "--max-context-tokens=200", "raise --ctx"},
        {"--pinned=64", "--max-kv-size=64", "lower --pinned"},
        {"--truncation=some", NULL, "auto disabled"},
        {"--perf-max-tokens=0", NULL, "from 1"},
        {"--max-context-tokens-margin=-1", NULL, "from 0"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        config c;
        error err;
        assert_false(load(&c, CONFIG_SERVE, &err, rows[i].a, rows[i].b, NULL));
        assert_int_equal(err.code, ERR_USAGE);
        if (!strstr(err.message, rows[i].said)) fail_msg("%s: %s", rows[i].a, err.message);
        config_deinit(&c);
    }
}

/* A broken file that nobody asked for: where, on which line, what to do; and help in spite of it. */
static void a_broken_file_is_placed(void **state) {
    (void)state;
    static const struct {
        const char *text, *said;
    } rows[] = {
        {"{\"threads\": 1,\n \"ctx\": }", "line 2"},
        {"{\"threads\": 1,\n\n \"stop\": [\"ctx\"],\n \"cts\" : 5}", "line 4"},
        {"{\"threads\": 1,\n \"ctx\": -4}", "line 2"},
        {"[]", "one JSON object"},
    };
    char home[] = "/tmp/oriel-home-XXXXXX", path[100];
    assert_non_null(mkdtemp(home));
    snprintf(path, sizeof path, "%s/oriel", home);
    assert_int_equal(mkdir(path, 0700), 0);
    strcat(path, "/config.json");
    setenv("XDG_CONFIG_HOME", home, 1);
    config c;
    error err;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        fputs(rows[i].text, f);
        fclose(f);
        assert_false(load(&c, CONFIG_SERVE, &err, NULL));
        if (!strstr(err.message, rows[i].said) || !strstr(err.message, path) ||
            !strstr(err.message, "--config FILE"))
            fail_msg("%s: %s", rows[i].text, err.message);
        config_deinit(&c);
        load(&c, CONFIG_SERVE, &err, "--help", NULL);
        assert_true(c.help);
        config_deinit(&c);
        /* Who names a file is not told to name another. */
        assert_false(load(&c, CONFIG_SERVE, &err, "--config", path, NULL));
        assert_null(strstr(err.message, "--config FILE"));
        config_deinit(&c);
    }
    unlink(path);
    *strrchr(path, '/') = 0;
    rmdir(path);
    rmdir(home);
    setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
}

typedef struct strange {
    int n;
    char name[64], meant[64];
} strange;

static void note_strange(void *ctx, str name, const char *meant) {
    strange *s = ctx;
    s->n++;
    snprintf(s->name, sizeof s->name, "%.*s", STR_ARG(name));
    snprintf(s->meant, sizeof s->meant, "%s", meant ? meant : "");
}

static void strange_variables_are_named(void **state) {
    (void)state;
    static const struct {
        const char *name, *meant;
        int n;
    } rows[] = {
        {"ORIEL_MAX_TOKEN", "ORIEL_MAX_TOKENS", 1},
        {"ORIEL_MAX_KVSIZE", "ORIEL_MAX_KV_SIZE", 1},
        {"ORIEL_WEATHER_OF_TOMORROW", "", 1},
        {"ORIEL_", "", 1},
        {"ORIEL_MAX_TOKENS", "", 0},
        {"ORIEL_CORPUS", "", 0},
        {"ORIELLE", "", 0},
    };
    strange before = {0};
    config_name_strange_variables(note_strange, &before);
    assert_int_equal(before.n, 0); /* what starts the tests sets nothing strange */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const char *was = getenv(rows[i].name);
        char *kept = was ? strdup(was) : NULL;
        strange s = {0};
        setenv(rows[i].name, "1", 1);
        config_name_strange_variables(note_strange, &s);
        assert_int_equal(s.n, rows[i].n);
        if (s.n) assert_string_equal(s.name, rows[i].name);
        assert_string_equal(s.meant, rows[i].meant);
        setenv(rows[i].name, "", 1); /* set to nothing is not set */
        s = (strange){0};
        config_name_strange_variables(note_strange, &s);
        assert_int_equal(s.n, 0);
        if (kept)
            setenv(rows[i].name, kept, 1);
        else
            unsetenv(rows[i].name);
        free(kept);
    }
}

int main(void) {
    setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
    unsetenv("ORIEL_CONFIG");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_belong_to_a_command),
        cmocka_unit_test(the_strongest_source_wins),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(the_hash_sees_what_changes_answers),
        cmocka_unit_test(performance_mode_overrides_its_own_source),
        cmocka_unit_test(limits_that_leave_nothing_are_named),
        cmocka_unit_test(a_broken_file_is_placed),
        cmocka_unit_test(strange_variables_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
