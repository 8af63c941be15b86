/* The door: sends each call to the kind of model it is. */
#include "model/impl.h"

void model_free(model *m) {
    if (m) m->ops->free(m);
}
const model_info *model_get_info(const model *m) {
    return &m->info;
}
bool model_lock(const model *m) {
    return m->ops->lock(m);
}
uint64_t model_ctx_plan_bytes(const model *m, model_limits limits, int n_threads) {
    return m->ops->ctx_plan_bytes(m, limits, n_threads);
}
bool model_ctx_hold(model_ctx *c, bool lock) {
    return c->m->ops->ctx_hold(c, lock);
}
model_ctx *model_ctx_new(model *m, model_limits limits, pool *p, error *err) {
    if (limits.max_rows < 1 || limits.max_logits < 0) {
        error_set(err, ERR_INVALID_VALUE, NULL, "A forward pass needs room for at least one row.");
        return NULL;
    }
    return m->ops->ctx_new(m, limits, p, err);
}
void model_ctx_free(model_ctx *c) {
    if (c) c->m->ops->ctx_free(c);
}
bool model_forward(model_ctx *c, model_span *spans, int n_spans, const atomic_bool *cancel) {
    return c->m->ops->forward(c, spans, n_spans, cancel);
}
bool model_has_hidden(const model *m) {
    return m->ops->norm_hidden != NULL;
}
void model_norm_hidden(const model *m, const float *x, float *y) {
    m->ops->norm_hidden(m, x, y);
}
uint64_t model_numerics_id(const model *m) {
    return m->ops->numerics_id(m);
}
