#include "chat/stop.h"

#include <stdlib.h>

static bool init_string(stop_string *out, str s) {
    char *copy = str_dup(s);
    uint16_t *fallback = calloc(s.len ? s.len : 1, sizeof *fallback);
    *out = (stop_string){.text = {copy, s.len}, .fallback = fallback};
    if (!copy || !fallback || s.len > STOP_MAX_BYTES) return false;
    for (size_t i = 1, k = 0; i < s.len; i++) {
        while (k && s.ptr[i] != s.ptr[k]) k = fallback[k - 1];
        if (s.ptr[i] == s.ptr[k]) k++;
        fallback[i] = (uint16_t)k;
    }
    return true;
}

bool stop_init(stop *s, const str *strings, size_t n) {
    *s = (stop){.hit = -1};
    s->strings = n ? calloc(n, sizeof *s->strings) : NULL;
    if (n && !s->strings) return false;
    bool ok = true;
    for (; s->n < n && ok; s->n++) ok = init_string(&s->strings[s->n], strings[s->n]);
    if (!ok) stop_deinit(s);
    return ok;
}

void stop_deinit(stop *s) {
    for (size_t i = 0; i < s->n; i++) {
        free((char *)(uintptr_t)s->strings[i].text.ptr);
        free(s->strings[i].fallback);
    }
    free(s->strings);
    buf_deinit(&s->held);
    *s = (stop){.hit = -1};
}

/* Moves one automaton by one byte; true when its string is complete. */
static bool step(stop_string *s, char c) {
    size_t k = s->matched;
    if (!s->text.len) return false;
    while (k && s->text.ptr[k] != c) k = s->fallback[k - 1];
    if (s->text.ptr[k] == c) k++;
    s->matched = (uint16_t)k;
    return k == s->text.len;
}

bool stop_push(stop *s, str text, buf *out) {
    if (s->hit >= 0) return true;
    if (!s->n) {
        buf_append_str(out, text);
        return false;
    }
    size_t before = s->held.len;
    buf_append_str(&s->held, text);
    if (s->held.failed) {
        out->failed = true;
        return false;
    }
    for (size_t at = before; at < s->held.len; at++) {
        for (size_t i = 0; i < s->n; i++)
            if (step(&s->strings[i], s->held.ptr[at]) &&
                (s->hit < 0 || s->strings[i].text.len > s->strings[s->hit].text.len))
                s->hit = (int)i;
        if (s->hit < 0) continue;
        buf_append(out, s->held.ptr, at + 1 - s->strings[s->hit].text.len);
        buf_clear(&s->held);
        return true;
    }
    size_t hold = 0;
    for (size_t i = 0; i < s->n; i++)
        if (s->strings[i].matched > hold) hold = s->strings[i].matched;
    size_t show = s->held.len - hold;
    buf_append(out, s->held.ptr, show);
    if (show) {
        memmove(s->held.ptr, s->held.ptr + show, hold);
        s->held.len = hold;
    }
    return false;
}

void stop_flush(stop *s, buf *out) {
    if (s->hit >= 0) return;
    buf_append_str(out, buf_str(&s->held));
    buf_clear(&s->held);
    for (size_t i = 0; i < s->n; i++) s->strings[i].matched = 0;
}
