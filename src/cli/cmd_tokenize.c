/* oriel tokenize: text to ids and back. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"

static bool parse_ids(str text, int32_t n_vocab, tok_ids *out, error *err) {
    for (const char *p = text.ptr, *limit = p + text.len; p < limit;) {
        if (strchr(" ,\t\r\n[]", *p)) {
            p++;
            continue;
        }
        char *end;
        long v = strtol(p, &end, 10);
        if (end == p || v < 0 || v >= n_vocab)
            return error_set(err, ERR_USAGE, NULL,
                             "'%.20s' is not a token id of this model: ids go from 0 to %d.", p,
                             n_vocab - 1);
        tok_ids_push(out, (int32_t)v);
        p = end;
    }
    return true;
}

int cmd_tokenize(int argc, char **argv) {
    config c;
    int status;
    if (!cli_begin(
            &c, CONFIG_TOKENIZE, argc, argv,
            "usage: oriel tokenize [options] [TEXT]\n\nToken ids of a text; with --decode the text of token ids.",
            &status))
        return status;
    error err = {0};
    hub_model m = {0};
    tok *t = NULL;
    buf text = {0}, out = {0};
    tok_ids ids = {0};
    json_out j = json_begin(&out);
    if (!hub_open(c.model, config_find_data_dir(&c), &m, &err) || !(t = tok_load(m.f, &err)))
        goto done;
    if (c.n_args && !c.file) {
        for (size_t i = 0; i < c.n_args; i++) {
            if (i) buf_append_char(&text, ' ');
            buf_append_cstr(&text, c.args[i]);
        }
    } else if (!cli_read_file(c.file ? c.file : "-", &text, &err))
        goto done;
    buf_reserve(&text, 0);
    if (c.decode) {
        if (!parse_ids(buf_str(&text), tok_n_vocab(t), &ids, &err)) goto done;
        buf decoded = {0};
        tok_decode(t, ids.ids, ids.n, (tok_decode_opts){.strip_first_space = true}, &decoded);
        if (c.json) {
            json_obj(&j);
            json_kv_str(&j, "text", buf_str(&decoded));
            json_kv_int(&j, "n_tokens", (int64_t)ids.n);
            json_end_obj(&j);
        } else
            buf_append_str(&out, buf_str(&decoded));
        buf_deinit(&decoded);
    } else {
        tok_encode_opts o = {.parse_special = c.special};
        if (!tok_encode(t, buf_str(&text), o, &ids, &err)) goto done;
        if (c.json) {
            json_obj(&j);
            json_key(&j, "ids");
            json_arr(&j);
            for (size_t i = 0; i < ids.n; i++) json_put_int(&j, ids.ids[i]);
            json_end_arr(&j);
            json_key(&j, "pieces");
            json_arr(&j);
            for (size_t i = 0; i < ids.n; i++) json_put_str(&j, tok_piece(t, ids.ids[i]));
            json_end_arr(&j);
            json_kv_int(&j, "n_tokens", (int64_t)ids.n);
            json_end_obj(&j);
        } else
            for (size_t i = 0; i < ids.n; i++) buf_printf(&out, "%s%d", i ? " " : "", ids.ids[i]);
    }
    if (ids.failed)
        error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the tokens.");
    else
        cli_write(&out, &err);
done:
    status = error_is_set(&err) ? cli_fail(&err) : 0;
    if (t) tok_unref(t);
    hub_close(&m);
    buf_deinit(&text);
    buf_deinit(&out);
    tok_ids_deinit(&ids);
    config_deinit(&c);
    return status;
}
