/* The door's render: one run's arena, limits and global names, what it failed
 * of, and its output with the ranges that the template wrote. Knows nothing of
 * the tree but where it begins.
 */
#include "chat/jinja_run.h"

#include <stdio.h>
#include <stdlib.h>

/* ── Failing ── */

COLD value jinja_fail(rt *r, const char *fmt, ...) {
    if (!r->failed) {
        error e = {0};
        va_list ap;
        va_start(ap, fmt);
        error_vset(&e, ERR_TEMPLATE, NULL, fmt, ap);
        va_end(ap);
        size_t n = strlen(e.message);
        bool ended = n && strchr(".!?", e.message[n - 1]);
        error_set(r->err, ERR_TEMPLATE, NULL, "Template line %d: %s%s", r->line, e.message,
                  ended ? "" : ".");
    }
    r->failed = true;
    return v_none();
}

value jinja_raise(rt *r, str message) {
    if (!r->failed)
        error_set(r->err, ERR_TEMPLATE, NULL, "%.*s",
                  (int)(message.len < 4096 ? message.len : 4096), message.len ? message.ptr : "");
    r->failed = true;
    return v_none();
}

COLD bool jinja_out_of_steps(rt *r) {
    jinja_fail(r, "rendering takes more than %llu steps", (unsigned long long)r->lim.max_steps);
    return false;
}

bool jinja_enter(rt *r) {
    if (r->failed) return false;
    if (r->depth < r->lim.max_depth) {
        r->depth++;
        return true;
    }
    jinja_fail(r, "it is nested more than %d deep", r->lim.max_depth);
    return false;
}

/* ── The door ── */

static void fill_globals(rt *r) {
    r->globals = jinja_alloc(r, (size_t)r->t->n_names, sizeof *r->globals);
    for (int id = 0; id < r->t->n_names && !r->failed; id++) {
        str name = r->t->names[id];
        const json_t *j = json_object_getn(r->context, name.ptr, name.len);
        if (j) {
            r->globals[id] = jinja_from_json(r, j, name);
        } else {
            const builtin *fn = jinja_find_global(name);
            if (fn) r->globals[id] = (value){.kind = V_BUILTIN, .builtin = fn};
        }
    }
}

static void copy_out(const grow *g, jinja_output *out) {
    *out = (jinja_output){0};
    buf_append(&out->text, g->ptr, g->len);
    size_t n = 0;
    for (size_t i = 0; g->mask && i < g->len; i++) n += g->mask[i] && (!i || !g->mask[i - 1]);
    if (!g->mask) n = g->len && !g->data;
    out->trusted = calloc(n ? n : 1, sizeof *out->trusted);
    if (!out->trusted) {
        out->text.failed = true;
        return;
    }
    if (!g->mask) {
        if (n) out->trusted[out->n_trusted++] = (tok_span){0, g->len};
        return;
    }
    for (size_t i = 0; i < g->len; i++) {
        if (!g->mask[i]) continue;
        size_t begin = i;
        while (i < g->len && g->mask[i]) i++;
        out->trusted[out->n_trusted++] = (tok_span){begin, i};
    }
}

bool jinja_render(const jinja *t, const json_t *context, const jinja_opts *opts, jinja_output *out,
                  error *err) {
    rt r = {.t = t, .err = err, .opts = opts, .context = context, .line = 1};
    if (opts) r.lim = opts->limits;
    if (!r.lim.max_steps) r.lim.max_steps = 20 * 1000 * 1000;
    if (r.lim.max_depth <= 0) r.lim.max_depth = 1000;
    if (!r.lim.max_output_bytes) r.lim.max_output_bytes = 16u << 20;
    if (!r.lim.max_memory_bytes) r.lim.max_memory_bytes = 128u << 20;
    arena_init(&r.mem, r.lim.max_memory_bytes);
    r.block_text = jinja_cstr(&r, "");
    fill_globals(&r);
    r.out = jinja_grow(&r);
    if (!r.failed) {
        r.out->max = r.lim.max_output_bytes;
        jinja_push_scope(&r);
        jinja_exec(&r, t->body);
    }
    if (!r.failed) {
        copy_out(r.out, out);
        if (out->text.failed) {
            jinja_output_deinit(out);
            r.failed = true;
            error_set(err, ERR_NO_MEMORY, NULL,
                      "Memory ran out while rendering the chat template.");
        }
    }
    /* Otherwise the message says which of the template's limits was reached. */
    if (r.failed && r.mem.no_memory) {
        if (err) *err = (error){0};
        error_set(err, ERR_NO_MEMORY, NULL, "Memory ran out while rendering the chat template.");
    }
    arena_deinit(&r.mem);
    return !r.failed;
}

void jinja_output_deinit(jinja_output *out) {
    buf_deinit(&out->text);
    free(out->trusted);
    *out = (jinja_output){0};
}
