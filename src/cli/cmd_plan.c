/* oriel plan MODEL: what loading would take, part by part, and whether it fits. Exit status 1 when
 * it does not; what else a load would refuse is refused here. */
#include <inttypes.h>
#include <string.h>

#include "base/json.h"
#include "cli/cli.h"

static const char *const mode_names[] = {"auto", "mmap", "read", "direct"};

static void print_json(const hub_model *m, const config *c, const engine_plan *p, error *err) {
    buf b = {0};
    json_out j = json_begin(&b);
    json_obj(&j);
    json_kv_cstr(&j, "model", m->id);
    json_kv_cstr(&j, "load", mode_names[p->load]);
    json_kv_int(&j, "parallel", c->parallel ? c->parallel : 1);
    json_kv_cstr(&j, "for", c->parallel ? "serve" : "generate");
    json_kv_cstr(&j, "kv_type", c->kv_type);
    json_kv_int(&j, "max_kv_size", p->kv_rows);
    json_kv_int(&j, "max_context_tokens", p->max_context_tokens);
    json_kv_int(&j, "total_bytes", (int64_t)p->total);
    json_kv_int(&j, "weight_bytes", (int64_t)p->weights);
    json_kv_int(&j, "kv_bytes", (int64_t)p->kv);
    json_kv_int(&j, "kv_cache_bytes", (int64_t)p->cache);
    json_kv_int(&j, "scratch_bytes", (int64_t)p->scratch);
    json_kv_int(&j, "sampling_bytes", (int64_t)p->sampling);
    json_kv_int(&j, "fixed_bytes", (int64_t)p->fixed);
    json_key(&j, "fixed");
    json_obj(&j);
    json_kv_int(&j, "process_bytes", (int64_t)p->process);
    json_kv_int(&j, "tokenizer_bytes", (int64_t)p->tokenizer);
    json_kv_int(&j, "chat_bytes", (int64_t)p->above);
    json_kv_int(&j, "tables_bytes", (int64_t)(p->fixed - p->process - p->tokenizer - p->above));
    json_end_obj(&j);
    json_key(&j, "per_sequence");
    json_obj(&j);
    json_kv_int(&j, "kv_bytes", (int64_t)p->seq_kv);
    json_kv_int(&j, "sampling_bytes", (int64_t)p->seq_sampling);
    json_kv_int(&j, "request_bytes", (int64_t)p->seq_job);
    json_kv_int(&j, "total_bytes", (int64_t)(p->seq_kv + p->seq_sampling + p->seq_job));
    json_end_obj(&j);
    json_kv_int(&j, "waiting_request_bytes", (int64_t)p->waiting_job);
    json_kv_int(&j, "given_form_bytes", (int64_t)p->forms);
    json_kv_int(&j, "kv_row_bytes", (int64_t)p->kv_row_bytes);
    json_kv_int(&j, "loading_bytes", (int64_t)p->loading);
    json_kv_int(&j, "mapped_bytes", (int64_t)p->mapped);
    json_kv_int(&j, "free_bytes", (int64_t)p->free_memory);
    json_kv_bool(&j, "fits", p->fits);
    json_kv_int(&j, "shortfall_bytes", (int64_t)p->missing);
    json_kv_int(&j, "largest_max_kv_size", p->largest_rows);
    json_end_obj(&j);
    cli_write(&b, err);
}

static void print_line(const char *what, uint64_t bytes, const char *note) {
    printf("  %-12s %10s  %16" PRIu64 "%s%s\n", what, term_bytes(bytes).text, bytes,
           *note ? "  " : "", note);
}

static void print_text(const hub_model *m, const config *c, const engine_plan *p) {
    char note[160];
    printf("%s, load %s, for %s\n\n", m->id, mode_names[p->load],
           c->parallel ? "oriel serve" : "chat and generate");
    print_line("weights", p->weights, "");
    snprintf(note, sizeof note, "%lld rows %s for %lld at once, %s each", (long long)p->kv_rows,
             c->kv_type, (long long)(c->parallel ? c->parallel : 1), term_bytes(p->seq_kv).text);
    print_line("window", p->kv, note);
    if (p->cache) print_line("of it", p->cache, "for reuse alone (--kv-cache)");
    print_line("scratch", p->scratch, "of the forward pass");
    print_line("sampling", p->sampling, "");
    snprintf(note, sizeof note, "program %s, tokenizer %s, %s %s", term_bytes(p->process).text,
             term_bytes(p->tokenizer).text, c->parallel ? "server" : "chat",
             term_bytes(p->above).text);
    print_line("fixed", p->fixed, note);
    print_line("in all", p->total, "resident at most");
    if (p->mapped)
        print_line("in the file", p->mapped, "pages the system keeps or drops as it likes");
    print_line("free", p->free_memory, "of the machine and this process' groups, with its own");
    print_line("given forms", p->forms, "on top at most, from the first answer of a given form on");
    printf("\nOne sequence more takes %s. ",
           term_bytes(p->seq_kv + p->seq_sampling + p->seq_job).text);
    if (p->fits)
        printf("It fits: %s stay free.\n", term_bytes(p->free_memory - p->total).text);
    else
        printf("It does not fit: %s (%" PRIu64 " bytes) are missing.\n",
               term_bytes(p->missing).text, p->missing);
    if (p->largest_rows)
        printf("The largest window that fits is %lld rows (--max-kv-size %lld).\n",
               (long long)p->largest_rows, (long long)p->largest_rows);
    else
        printf(p->cache ? "No window fits beside this --kv-cache.\n" : "No window fits.\n");
    if (p->fits && p->mapped > p->free_memory - p->total)
        printf("The file is larger than what stays free: tokens will wait for the disk.\n");
}

int cmd_plan(int argc, char **argv) {
    config c;
    int status;
    if (!cli_begin(
            &c, CONFIG_PLAN, argc, argv,
            "usage: oriel plan [options] [FILE]\n\nWhat loading a model would take, and whether it fits. Nothing is loaded.",
            &status))
        return status;
    error err = {0};
    hub_model m = {0};
    engine_config e;
    engine_plan p = {0};
    if (c.n_args > 1 || (c.n_args && c.model))
        error_set(&err, ERR_USAGE, NULL, "oriel plan looks at one model at a time.");
    if (!error_is_set(&err) && session_prepare(&c, &e, &err) &&
        hub_open(c.n_args ? c.args[0] : c.model, config_find_data_dir(&c), &m, &err) &&
        engine_make_plan(m.f, &e, &p, &err) && session_check_plan(&c, &p, &err)) {
        session_warn_of_long_context(&p);
        if (c.json)
            print_json(&m, &c, &p, &err);
        else
            print_text(&m, &c, &p);
    }
    status = error_is_set(&err) ? cli_fail(&err) : !p.fits;
    hub_close(&m);
    config_deinit(&c);
    return status;
}
