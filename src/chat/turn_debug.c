#include "chat/chat_impl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"

enum { MAX_NUMBER = 9999999 };

static void write_all(int fd, str bytes, const char *path) {
    while (bytes.len) {
        ssize_t n = write(fd, bytes.ptr, bytes.len);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) {
            log_line(LOG_WARN, "chat", "%s cannot be written", path);
            break;
        }
        bytes.ptr += n;
        bytes.len -= (size_t)n;
    }
    close(fd);
}

static bool make_path(char *path, size_t size, const char *dir, int number, const char *suffix) {
    int n = snprintf(path, size, "%s/%04d-%s", dir, number, suffix);
    return n > 0 && (size_t)n < size;
}

void turn_debug_begin(turn_debug *d, chat *c, str prompt) {
    const char *dir = c->debug_dir;
    char path[4096];
    mkdir(dir, 0700);
    /* O_EXCL claims a number against other turns and other processes. */
    for (int number = atomic_load(&c->debug_number) + 1; number <= MAX_NUMBER; number++) {
        if (!make_path(path, sizeof path, dir, number, "prompt.txt")) break;
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0 && errno == EEXIST) continue;
        if (fd < 0) break;
        d->number = number;
        atomic_store(&c->debug_number, number);
        write_all(fd, prompt, path);
        return;
    }
    log_line(LOG_WARN, "chat", "nothing can be written into the debug directory %s", dir);
}

void turn_debug_event(turn_debug *d, const turn_event *e) {
    switch (e->kind) {
    case TURN_REASONING: buf_append_str(&d->reasoning, e->text); break;
    case TURN_CONTENT: buf_append_str(&d->content, e->text); break;
    case TURN_CALL_BEGIN:
        buf_append_cstr(&d->calls, d->calls.len ? ",{\"name\":\"" : "{\"name\":\"");
        json_escape(&d->calls, e->text);
        buf_append_cstr(&d->calls, "\",\"arguments\":\"");
        d->in_call = true;
        break;
    case TURN_CALL_ARGS: json_escape(&d->calls, e->text); break;
    case TURN_CALL_END:
        buf_append_cstr(&d->calls, "\"}");
        d->in_call = false;
        break;
    default: break;
    }
}

static void put_ids(json_out *j, const char *key, const int32_t *ids, size_t n) {
    json_key(j, key);
    json_arr(j);
    for (size_t i = 0; i < n; i++) json_put_int(j, ids[i]);
    json_end_arr(j);
}

static void write_file(const turn_debug *d, const char *dir, const char *suffix, buf *b) {
    char path[4096];
    if (b->failed || !make_path(path, sizeof path, dir, d->number, suffix)) return;
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        log_line(LOG_WARN, "chat", "%s cannot be written", path);
    else
        write_all(fd, buf_str(b), path);
    buf_clear(b);
}

void turn_debug_end(turn_debug *d, const char *dir, const turn_debug_result *r) {
    if (!d->number) return;
    buf b = {0};
    json_out j = json_begin(&b);
    json_obj(&j);
    put_ids(&j, "prompt_ids", r->prompt, r->n_prompt);
    put_ids(&j, "token_ids", r->tokens, r->n_tokens);
    json_end_obj(&j);
    buf_append_char(&b, '\n');
    write_file(d, dir, "ids.json", &b);

    if (r->t) tok_decode(r->t, r->tokens, r->n_tokens, (tok_decode_opts){0}, &b);
    write_file(d, dir, "raw.txt", &b);

    /* No call ids and no times: the same turn writes the same bytes through every door. */
    buf_clear(&b);
    j = json_begin(&b);
    json_obj(&j);
    json_kv_str(&j, "reasoning", buf_str(&d->reasoning));
    json_kv_str(&j, "content", buf_str(&d->content));
    json_key(&j, "tool_calls");
    buf_append_char(&b, '[');
    buf_append_str(&b, buf_str(&d->calls));
    buf_append_cstr(&b, d->in_call ? "\"}]" : "]");
    j.after_key = false;
    json_kv_cstr(&j, "finish", r->finish);
    if (r->stop_string.len) json_kv_str(&j, "stop_string", r->stop_string);
    if (r->diagnostic) json_kv_cstr(&j, "diagnostic", r->diagnostic);
    if (r->err) json_kv_cstr(&j, "error", r->err->message);
    json_end_obj(&j);
    buf_append_char(&b, '\n');
    write_file(d, dir, "parse.json", &b);
    buf_deinit(&b);
    d->number = 0;
}

void turn_debug_deinit(turn_debug *d) {
    buf_deinit(&d->reasoning);
    buf_deinit(&d->content);
    buf_deinit(&d->calls);
}
