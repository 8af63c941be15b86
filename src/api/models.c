/* GET /v1/models and /v1/models/{model}: the loaded model under its own id and
 * as "default". */
#include "api/serve.h"

static void put_model(json_out *j, const api *a, str id) {
    json_obj(j);
    json_kv_str(j, "id", id);
    json_kv_cstr(j, "object", "model");
    json_kv_int(j, "created", a->o.model_created);
    json_kv_cstr(j, "owned_by", "oriel");
    json_end_obj(j);
}

void route_models(api *a, http_req *r, str arg) {
    (void)arg;
    buf body = {0};
    json_out j = json_begin(&body);
    json_obj(&j);
    json_kv_cstr(&j, "object", "list");
    json_key(&j, "data");
    json_arr(&j);
    put_model(&j, a, str_from(a->o.model_id));
    if (!str_is(str_from(a->o.model_id), "default")) put_model(&j, a, STR("default"));
    json_end_arr(&j);
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
    put_model(&j, a, arg);
    http_reply(r, 200, "application/json", &body);
}
