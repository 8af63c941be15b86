#include "hub/hub.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The file's name without folder, .gguf and the counting of parts. */
static void id_from_path(const char *path, char *out, size_t cap) {
    const char *base = strrchr(path, '/');
    snprintf(out, cap, "%s", base ? base + 1 : path);
    size_t n = strlen(out);
    if (n > 5 && strcmp(out + n - 5, ".gguf") == 0) out[n -= 5] = 0;
    /* name-00001-of-00003 */
    if (n > 15 && out[n - 15] == '-' && strncmp(out + n - 9, "-of-", 4) == 0) out[n - 15] = 0;
    /* Ids travel in JSON and URLs: what is not UTF-8 there is replaced. */
    if (!utf8_is_valid(str_from(out)))
        for (char *c = out; *c; c++)
            if ((unsigned char)*c >= 0x80) *c = '_';
}

static bool is_file(const char *path, struct stat *st) {
    return stat(path, st) == 0 && S_ISREG(st->st_mode);
}

static bool open_builtin(hub_model *out, error *err) {
    const void *bytes;
    size_t len;
    if (!hub_get_builtin(&bytes, &len))
        return error_set(
            err, ERR_MODEL_NOT_FOUND, "model",
            "This oriel was built without its built-in model. Name a GGUF file with --model FILE.");
    out->f = file_open_linked(bytes, len, HUB_BUILTIN, err);
    out->is_builtin = true;
    snprintf(out->id, sizeof out->id, "%s", HUB_BUILTIN);
    return out->f != NULL;
}

bool hub_open(const char *name, const char *data_dir, hub_model *out, error *err) {
    *out = (hub_model){0};
    if (!name || !*name || strcmp(name, HUB_BUILTIN) == 0 || strcmp(name, "default") == 0)
        return open_builtin(out, err);
    static const char *const forms[] = {"%s/models/%s", "%s/models/%s.gguf"};
    struct stat st;
    snprintf(out->path, sizeof out->path, "%s", name);
    bool there = is_file(out->path, &st);
    for (int i = 0; i < 2 && !there && data_dir && !strchr(name, '/'); i++) {
        snprintf(out->path, sizeof out->path, forms[i], data_dir, name);
        there = is_file(out->path, &st);
    }
    if (!there) {
        /* A directory or an unreadable path has a reason of its own: let the reader say it. */
        if (stat(name, &st) == 0) return (out->f = file_open(name, err)) != NULL;
        return error_set(
            err, ERR_MODEL_NOT_FOUND, "model",
            "There is no model '%.200s': no such file%s%.200s%s. Give the path of a GGUF file, or leave --model out for the built-in model.",
            name, data_dir ? ", and nothing by that name in " : "", data_dir ? data_dir : "",
            data_dir ? "/models" : "");
    }
    out->f = file_open(out->path, err);
    out->created = (int64_t)st.st_mtime;
    id_from_path(out->path, out->id, sizeof out->id);
    return out->f != NULL;
}

void hub_close(hub_model *m) {
    if (m->f) file_close(m->f);
    m->f = NULL;
}
