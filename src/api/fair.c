#include "api/fair.h"

#include "base/hash.h"

uint64_t fair_get_owner(str name) {
    return name.len ? hash_str(name) : 0;
}

uint64_t fair_make_client(const http_req *r, const api_key *k) {
    uint64_t id = hash_combine(hash_str(k->name.len ? k->name : k->secret), http_peer(r));
    return id ? id : 1;
}

uint64_t fair_get_client(const http_req *r) {
    uint64_t id = http_client(r);
    return id ? id : fair_get_owner(http_user(r));
}

bool fair_has_place(api *a, const http_req *r, error *err) {
    static route_fn *const starters[] = {
        route_chat_completions, route_completions,      route_anthropic_messages,
        route_response_create,  route_response_compact, route_embeddings,
        route_rerank,           route_moderations,
    };
    route_match m = route_find(http_method(r), http_path(r));
    if (m.found != ROUTE_OK) return true;
    for (size_t i = 0; i < sizeof starters / sizeof starters[0]; i++)
        if (m.handler == starters[i])
            return engine_has_place(a->engine, fair_get_client(r), err);
    return true;
}
