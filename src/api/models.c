/* GET /v1/models and /v1/models/{model}: the loaded model under its own id, as "default" and by its
 * aliases. Whoever says which version of Anthropic's API it speaks gets Anthropic's shape. */
#include <time.h>

#include "api/serve.h"

static bool is_anthropic(const http_req *r) {
    return http_header(r, "anthropic-version") != NULL;
}

static void put_model(json_out *j, const api *a, str id, bool anthropic) {
    json_obj(j);
    json_kv_str(j, "id", id);
    if (anthropic) {
        struct tm tm;
        char when[32] = "";
        time_t created = (time_t)a->o.model_created;
        if (gmtime_r(&created, &tm)) strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
        json_kv_cstr(j, "type", "model");
        json_kv_str(j, "display_name", id);
        json_kv_cstr(j, "created_at", when);
        json_end_obj(j);
        return;
    }
    json_kv_cstr(j, "object", "model");
    json_kv_int(j, "created", a->o.model_created);
    json_kv_cstr(j, "owned_by", "oriel");
    json_end_obj(j);
}

void route_models(api *a, http_req *r, str arg) {
    (void)arg;
    buf body = {0};
    json_out j = json_begin(&body);
    bool anthropic = is_anthropic(r);
    json_obj(&j);
    if (!anthropic) json_kv_cstr(&j, "object", "list");
    json_key(&j, "data");
    json_arr(&j);
    put_model(&j, a, str_from(a->o.model_id), anthropic);
    if (!str_is(str_from(a->o.model_id), "default")) put_model(&j, a, STR("default"), anthropic);
    for (size_t i = 0; i < a->o.n_aliases; i++)
        put_model(&j, a, str_from(a->o.aliases[i]), anthropic);
    json_end_arr(&j);
    if (anthropic) {
        json_kv_bool(&j, "has_more", false);
        json_kv_cstr(&j, "first_id", a->o.model_id);
        json_kv_cstr(&j, "last_id", a->o.n_aliases ? a->o.aliases[a->o.n_aliases - 1] : "default");
    }
    json_end_obj(&j);
    http_reply(r, 200, "application/json", &body);
}

void route_model(api *a, http_req *r, str arg) {
    error err = {0};
    if (!api_check_model(a, arg, &err)) {
        http_reply_error(r, &err);
        return;
    }
    buf body = {0};
    json_out j = json_begin(&body);
    put_model(&j, a, arg, is_anthropic(r));
    http_reply(r, 200, "application/json", &body);
}
