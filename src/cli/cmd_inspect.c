/* oriel inspect FILE: what a model file says about itself. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"

enum { SHOWN_ITEMS = 6, SHOWN_TEXT = 72 };

static const char *const type_names[] = {"u8",   "i8",  "u16", "i16", "u32", "i32", "f32",
                                         "bool", "str", "arr", "u64", "i64", "f64"};

static void put_item(json_out *j, const file *f, const file_value *v, file_type type, uint64_t i) {
    str s;
    int64_t n;
    uint64_t u;
    double d;
    bool b;
    if (type == FILE_STR && file_item_str(f, v, i, &s))
        json_put_str(j, s);
    else if (type == FILE_BOOL && file_item_bool(f, v, i, &b))
        json_put_bool(j, b);
    else if ((type == FILE_F32 || type == FILE_F64) && file_item_f64(f, v, i, &d))
        json_put_num(j, d);
    else if (file_item_i64(f, v, i, &n))
        json_put_int(j, n);
    else if (file_item_u64(f, v, i, &u))
        json_put_num(j, (double)u);
    else
        json_put_null(j);
}

static void put_value(json_out *j, const file *f, const file_value *v, uint64_t most) {
    if (v->type != FILE_ARR) {
        put_item(j, f, v, v->type, 0);
        return;
    }
    json_arr(j);
    for (uint64_t i = 0; i < v->n && i < most; i++) put_item(j, f, v, v->item_type, i);
    json_end_arr(j);
}

static void print_json(const file *f, const char *id, bool loads, const model_info *info,
                       const error *why, error *err) {
    buf b = {0};
    json_out j = json_begin(&b);
    json_obj(&j);
    json_kv_cstr(&j, "file", file_get_path(f));
    json_kv_cstr(&j, "id", id);
    json_kv_cstr(&j, "format", "GGUF");
    json_kv_int(&j, "version", file_version(f));
    json_kv_int(&j, "parts", file_n_parts(f));
    json_kv_int(&j, "bytes", (int64_t)file_n_bytes(f));
    json_kv_bool(&j, "supported", loads);
    if (!loads) json_kv_cstr(&j, "reason", why->message);
    if (loads) {
        json_kv_cstr(&j, "architecture", info->arch);
        json_kv_int(&j, "parameters", (int64_t)info->n_params);
        json_kv_int(&j, "active_parameters", (int64_t)info->n_params_active);
        json_kv_int(&j, "weight_bytes", (int64_t)info->weight_bytes);
        json_kv_int(&j, "context_length", info->n_ctx_train);
    }
    json_key(&j, "metadata");
    json_obj(&j);
    for (size_t i = 0; i < file_n_values(f); i++) {
        const file_value *v = file_get_value(f, i);
        json_key_str(&j, v->key);
        put_value(&j, f, v, UINT64_MAX);
    }
    json_end_obj(&j);
    json_key(&j, "tensors");
    json_arr(&j);
    for (size_t i = 0; i < file_n_tensors(f); i++) {
        const file_tensor *t = file_get_tensor(f, i);
        json_obj(&j);
        json_kv_str(&j, "name", t->name);
        json_kv_cstr(&j, "type", dtype_get(t->type)->name);
        json_key(&j, "shape");
        json_arr(&j);
        for (int d = 0; d < t->n_dims; d++) json_put_int(&j, (int64_t)t->shape[d]);
        json_end_arr(&j);
        json_kv_int(&j, "bytes", (int64_t)t->n_bytes);
        json_end_obj(&j);
    }
    json_end_arr(&j);
    json_end_obj(&j);
    cli_write(&b, err);
}

static void print_value(const file *f, const file_value *v) {
    buf b = {0};
    json_out j = json_begin(&b);
    put_value(&j, f, v, SHOWN_ITEMS);
    if (b.len > SHOWN_TEXT) { /* cut at a whole character */
        size_t n = SHOWN_TEXT;
        while (n && ((unsigned char)b.ptr[n] & 0xC0) == 0x80) n--;
        b.len = n;
        buf_append_cstr(&b, " …");
    }
    printf("  %-46.*s %-5s %s", STR_ARG(v->key),
           v->type == FILE_ARR ? type_names[v->item_type] : type_names[v->type],
           b.ptr ? b.ptr : "");
    if (v->type == FILE_ARR) printf("  (%" PRIu64 " items)", v->n);
    putchar('\n');
    buf_deinit(&b);
}

static void print_text(const file *f, const char *id, bool loads, const model_info *info,
                       const error *why, error *err) {
    (void)err;
    printf("%s: GGUF v%d, %s, %zu tensors%s\n", id, file_version(f),
           term_bytes(file_n_bytes(f)).text, file_n_tensors(f),
           file_n_parts(f) > 1 ? ", split" : "");
    if (loads) {
        printf("%s, %.1f M parameters", info->arch, (double)info->n_params / 1e6);
        if (info->n_params_active != info->n_params)
            printf(" (%.1f M active per token)", (double)info->n_params_active / 1e6);
        printf(", %d layers, width %d, %d heads (%d key/value) of %d", info->n_layers,
               info->d_model, info->n_heads, info->n_kv_heads, info->head_dim);
        if (info->n_experts)
            printf(", %d experts (%d used)", info->n_experts, info->n_experts_used);
        printf("\ntrained for %lld tokens of context; %s of weights in memory\n",
               (long long)info->n_ctx_train, term_bytes(info->weight_bytes).text);
    } else
        printf("oriel cannot run it: %s\n", why->message);
    printf("\nMetadata\n");
    for (size_t i = 0; i < file_n_values(f); i++) print_value(f, file_get_value(f, i));
    printf("\nTensors\n");
    for (size_t i = 0; i < file_n_tensors(f); i++) {
        const file_tensor *t = file_get_tensor(f, i);
        char shape[96];
        int n = 0;
        for (int d = 0; d < t->n_dims; d++)
            n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%" PRIu64, d ? " × " : "",
                          t->shape[d]);
        printf("  %-46.*s %-8s %s\n", STR_ARG(t->name), dtype_get(t->type)->name,
               n ? shape : "scalar");
    }
}

int cmd_inspect(int argc, char **argv) {
    config c;
    int status;
    if (!cli_begin(
            &c, CONFIG_INSPECT, argc, argv,
            "usage: oriel inspect [options] [FILE]\n\nWhat a model file says about itself; without FILE the built-in model.",
            &status))
        return status;
    error err = {0}, why = {0};
    hub_model m = {0};
    model_info *info = calloc(1, sizeof *info);
    model_options o = {0};
    if (c.n_args > 1)
        error_set(&err, ERR_USAGE, NULL, "oriel inspect looks at one file at a time.");
    else if (!info)
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory.");
    else if (hub_open(c.n_args ? c.args[0] : NULL, config_find_data_dir(&c), &m, &err)) {
        bool loads = model_inspect(m.f, &o, info, &why);
        (c.json ? print_json : print_text)(m.f, m.id, loads, info, &why, &err);
    }
    status = error_is_set(&err) ? cli_fail(&err) : 0;
    free(info);
    hub_close(&m);
    config_deinit(&c);
    return status;
}
