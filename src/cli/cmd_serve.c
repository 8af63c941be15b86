/* oriel serve: the OpenAI API on this machine, until it is told to stop. */
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "api/api.h"
#include "cli/cli.h"

enum { MAX_KEYS = 1024, MAX_NAME = 100 };

/* "KEY" or "NAME=KEY". What ends in '=' has no name: that is how base64 ends. */
static bool add_key(api_key *keys, size_t *n, str line, error *err) {
    line = str_trim(line);
    if (!line.len || line.ptr[0] == '#' || *n == MAX_KEYS) return true;
    ptrdiff_t eq = str_find(line, STR("="), 0);
    size_t end = line.len;
    while (end && line.ptr[end - 1] == '=') end--;
    bool named = eq > 0 && (size_t)eq < end;
    if (named && eq > MAX_NAME)
        return error_set(err, ERR_USAGE, "api-key", "A key's name has at most %d bytes.", MAX_NAME);
    keys[(*n)++] = named ? (api_key){str_make(line.ptr, (size_t)eq),
                                     str_make(line.ptr + eq + 1, line.len - (size_t)eq - 1)}
                         : (api_key){.secret = line};
    return true;
}

static bool load_keys(const config *c, buf *lines, api_key *keys, size_t *n, error *err) {
    for (size_t i = 0; i < c->n_api_key; i++)
        if (!add_key(keys, n, str_from(c->api_key[i]), err)) return false;
    if (!c->api_key_file) return true;
    if (!cli_read_file(c->api_key_file, lines, err)) return false;
    size_t before = *n;
    for (size_t at = 0; at < lines->len;) {
        ptrdiff_t end = str_find(buf_str(lines), STR("\n"), at);
        size_t stop = end < 0 ? lines->len : (size_t)end;
        if (!add_key(keys, n, str_make(lines->ptr + at, stop - at), err)) return false;
        at = stop + 1;
    }
    return *n > before ||
           error_set(err, ERR_USAGE, "api-key-file", "%s holds no key.", c->api_key_file);
}

static void print_banner(const session *s, const api *a, const config *c, size_t n_keys) {
    const engine_plan *p = engine_get_plan(s->e);
    const char *host = strcmp(c->host, "0.0.0.0") == 0 ? "127.0.0.1" : c->host;
    char url[300];
    bool v6 = strchr(host, ':') != NULL;
    snprintf(url, sizeof url, "http://%s%s%s:%d/", v6 ? "[" : "", host, v6 ? "]" : "",
             api_get_port(a));
    printf(
        "oriel serves %s\n\n"
        "  page     %s\n"
        "  URL      %sv1\n"
        "  model    %s (also called default), %s, context %lld tokens\n"
        "  memory   at most %s: weights %s, window %s for %d answer%s at once;\n"
        "           the first answer of a given form adds up to %s\n\n"
        "Try it:\n\n"
        "  curl %sv1/chat/completions -H 'Content-Type: application/json' %s\\\n"
        "    -d '{\"model\": \"default\", \"temperature\": 0, \"messages\": [{\"role\": \"user\", \"content\": \"What is the capital of France?\"}]}'\n\n"
        "Ctrl-C stops the server.\n",
        s->model.id, c->no_page ? "off" : url, url, s->model.id, engine_get_model(s->e)->arch,
        (long long)engine_get_config(s->e)->max_context_tokens, term_bytes(p->total).text,
        term_bytes(p->weights).text, term_bytes(p->kv).text, engine_get_config(s->e)->n_parallel,
        engine_get_config(s->e)->n_parallel == 1 ? "" : "s", term_bytes(p->forms).text, url,
        n_keys ? "-H \"Authorization: Bearer $ORIEL_KEY\" " : "");
    fflush(stdout);
}

/* What no browser ever sends as an origin would be an option without effect. */
static bool check_origins(const config *c, error *err) {
    for (size_t i = 0; i < c->n_cors_origin; i++) {
        const char *origin = c->cors_origin[i], *host = strstr(origin, "://");
        bool is_one = host && host != origin && host[3] && !strchr(host + 3, '/');
        if (!is_one && strcmp(origin, "*") != 0 && strcmp(origin, "null") != 0)
            return error_set(
                err, ERR_USAGE, "cors-origin",
                "--cors-origin takes an origin as browsers send it, like https://app.example:8443 "
                "without a path or a slash behind it, not '%.60s'.",
                origin);
    }
    return true;
}

static bool check_aliases(const config *c, error *err) {
    for (size_t i = 0; i < c->n_alias; i++)
        if (!*c->alias[i] || strlen(c->alias[i]) > 200 || !utf8_is_valid(str_from(c->alias[i])))
            return error_set(
                err, ERR_USAGE, "alias",
                "--alias takes a model name of 1 to 200 bytes of text, such as gpt-4o.");
    return true;
}

int cmd_serve(int argc, char **argv) {
    config c;
    int status;
    if (!cli_begin(&c, CONFIG_SERVE, argc, argv,
                   "usage: oriel serve [options]\n\nThe OpenAI API on this machine.", &status))
        return status;
    error err = {0};
    session s = {0};
    api *a = NULL;
    buf key_file = {0};
    size_t n_keys = 0;
    api_key *keys = calloc(MAX_KEYS, sizeof *keys);
    if (!keys)
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the keys.");
    else if (c.n_args)
        error_set(&err, ERR_USAGE, NULL, "oriel serve takes options only; '%.60s' is not one.",
                  c.args[0]);
    else if (check_origins(&c, &err) && check_aliases(&c, &err))
        load_keys(&c, &key_file, keys, &n_keys, &err);
    if (error_is_set(&err) || !session_open(&s, &c, true, &err)) goto done;
    session_warn_of_long_context(engine_get_plan(s.e));
    api_options o = api_defaults();
    o.host = c.host;
    o.port = (int)c.port;
    o.n_threads = (int)c.http_threads;
    o.keys = keys;
    o.n_keys = n_keys;
    o.transcribe_command = c.transcribe_command;
    o.image_command = c.image_command;
    o.cors_origins = c.cors_origin;
    o.n_cors_origins = c.n_cors_origin;
    o.allowed_hosts = c.allow_host;
    o.n_allowed_hosts = c.n_allow_host;
    o.model_id = s.model.id;
    o.aliases = c.alias;
    o.n_aliases = c.n_alias;
    o.model_created = s.model.created ? s.model.created : time(NULL);
    o.config_hash = config_hash(&c);
    o.sampling = session_sampling(&c);
    o.reasoning_effort = c.reasoning_effort;
    for (int mode = 0; mode < 2; mode++) o.limits[mode] = config_get_limits(&c, mode);
    o.performance_mode = c.performance_mode;
    o.context_margin = c.max_context_tokens_margin;
    if (c.truncation) o.truncation = strcmp(c.truncation, "auto") == 0;
    if (!c.no_store && !(o.data_dir = config_find_data_dir(&c))) {
        error_set(&err, ERR_USAGE, "data-dir",
                  "There is no home directory to keep state in: use --data-dir or --no-store.");
        goto done;
    }
    o.store_seconds = c.store_days * 86400;
    o.page = !c.no_page;
    if (!(a = api_open(s.chat, &o, &err))) goto done;
    if (!c.quiet) print_banner(&s, a, &c, n_keys);
    while (!term_interrupts()) nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    if (!c.quiet) fputs("stopping\n", stderr);
done:
    status = error_is_set(&err) ? cli_fail(&err) : 0;
    api_close(a);
    session_close(&s);
    free(keys);
    buf_deinit(&key_file);
    config_deinit(&c);
    return status;
}
