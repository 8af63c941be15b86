/* GET /health, /metrics (Prometheus text format 0.0.4) and /. */
#include <inttypes.h>

#include "api/serve.h"
#include "base/os.h"

void route_health(api *a, http_req *r, str arg) {
    (void)a, (void)arg;
    buf body = {0};
    buf_append_cstr(&body, "{\"status\":\"ok\"}");
    http_reply(r, 200, "application/json", &body);
}

void route_root(api *a, http_req *r, str arg) {
    (void)arg;
    buf body = {0};
    buf_printf(&body,
               "oriel " ORIEL_VERSION " serves the model '%s'.\n\n"
               "OpenAI-compatible base URL: http://%s/v1\n"
               "Health: /health   Metrics: /metrics   Models: /v1/models\n",
               a->o.model_id, http_header(r, "Host") ? http_header(r, "Host") : "this-host");
    http_reply(r, 200, "text/plain; charset=utf-8", &body);
}

static void put(buf *b, const char *name, const char *type, const char *help, double v) {
    buf_printf(b, "# HELP oriel_%s %s\n# TYPE oriel_%s %s\noriel_%s %.17g\n", name, help, name,
               type, name, v);
}

void route_metrics(api *a, http_req *r, str arg) {
    (void)arg;
    engine_stats e = engine_get_stats(a->engine);
    http_stats h = http_get_stats(http_get_server(r));
    os_memory m = os_get_memory();
    buf b = {0};
    put(&b, "sequences_running", "gauge", "Sequences being decoded or prefilled now.",
        (double)e.n_running);
    put(&b, "sequences_waiting", "gauge", "Accepted requests that wait for a slot.",
        (double)e.n_waiting);
    put(&b, "sequences_total", "counter", "Sequences accepted.", (double)e.n_jobs);
    put(&b, "sequences_cancelled_total", "counter", "Sequences cancelled before their end.",
        (double)e.n_cancelled);
    put(&b, "sequences_rejected_total", "counter", "Sequences refused because the queue was full.",
        (double)e.n_rejected);
    put(&b, "sequences_failed_total", "counter", "Sequences that ended with an error.",
        (double)e.n_failed);
    put(&b, "prompt_tokens_total", "counter", "Prompt tokens processed.",
        (double)e.n_prompt_tokens);
    put(&b, "cached_tokens_total", "counter", "Prompt tokens taken from the cache.",
        (double)e.n_cached_tokens);
    put(&b, "rerun_tokens_total", "counter",
        "Tokens run again for sliding layers while full layers kept their rows.",
        (double)e.n_rerun_tokens);
    put(&b, "generated_tokens_total", "counter", "Tokens generated.", (double)e.n_generated_tokens);
    chat_stats c = chat_get_stats(a->chat);
    put(&b, "context_cut_total", "counter", "Prompts that lost something to be short enough.",
        (double)c.n_cut);
    put(&b, "context_dropped_turns_total", "counter", "Turns left out of prompts.",
        (double)c.n_turns_dropped);
    put(&b, "context_dropped_tokens_total", "counter", "Tokens left out of prompts.",
        (double)c.n_tokens_dropped);
    put(&b, "context_refused_total", "counter", "Prompts refused as too long.",
        (double)c.n_refused);
    put(&b, "tokenized_bytes_total", "counter", "Bytes of prompts that were tokenized.",
        (double)c.tokenizing.n_encoded_bytes);
    put(&b, "tokenized_remembered_bytes_total", "counter",
        "Bytes of prompts whose tokens were known from before.",
        (double)c.tokenizing.n_remembered_bytes);
    put(&b, "steps_total", "counter", "Forward passes.", (double)e.n_steps);
    put(&b, "step_seconds_total", "counter", "Time spent in forward passes.",
        (double)e.step_ns_total / 1e9);
    put(&b, "prefill_seconds_total", "counter", "Time sequences spent in prefill.",
        (double)e.prefill_ns_total / 1e9);
    put(&b, "decode_seconds_total", "counter", "Time sequences spent decoding.",
        (double)e.decode_ns_total / 1e9);
    put(&b, "kv_blocks_used", "gauge", "KV blocks in use.", (double)e.kv_blocks_used);
    put(&b, "kv_blocks_cached", "gauge", "KV blocks that no sequence holds and that can be found.",
        (double)e.kv_blocks_cached);
    put(&b, "kv_blocks", "gauge", "KV blocks in all.", (double)e.kv_blocks_total);
    put(&b, "http_requests_total", "counter", "HTTP requests.", (double)h.n_requests);
    put(&b, "http_aborted_total", "counter",
        "Requests whose client left before the answer was complete.", (double)h.n_aborted);
    put(&b, "http_timed_out_total", "counter",
        "Connections cut because headers or body took too long.", (double)h.n_timed_out);
    put(&b, "http_connections", "gauge", "Open connections.", (double)h.n_connections);
    put(&b, "http_active_requests", "gauge", "Requests being answered.", (double)h.n_active);
    buf_append_cstr(
        &b,
        "# HELP oriel_http_responses_total Answers by status class.\n# TYPE oriel_http_responses_total counter\n");
    for (int i = 1; i < 6; i++)
        buf_printf(&b, "oriel_http_responses_total{class=\"%dxx\"} %" PRIu64 "\n", i,
                   h.n_status[i]);
    put(&b, "resident_bytes", "gauge", "Resident memory of the process.", (double)m.rss);
    put(&b, "resident_anon_bytes", "gauge", "Resident anonymous memory of the process.",
        (double)m.rss_anon);
    put(&b, "planned_bytes", "gauge", "Memory the plan promised as the bound.",
        (double)engine_get_plan(a->engine)->total);
    http_reply(r, 200, "text/plain; version=0.0.4; charset=utf-8", &b);
}
