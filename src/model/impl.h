/* Inside the model room: what every kind of model (files, the fake) provides. */
#ifndef MODEL_IMPL_H
#define MODEL_IMPL_H

#include "model/model.h"

typedef struct model_ops {
    void (*free)(model *m);
    bool (*lock)(const model *m);
    uint64_t (*ctx_plan_bytes)(const model *m, model_limits limits,
                               int n_threads); /* 0: overflow */
    model_ctx *(*ctx_new)(model *m, model_limits limits, pool *p, error *err);
    void (*ctx_free)(model_ctx *c);
    bool (*ctx_hold)(model_ctx *c, bool lock);
    bool (*forward)(model_ctx *c, model_span *spans, int n_spans, const atomic_bool *cancel);
    void (*norm_hidden)(const model *m, const float *x, float *y); /* NULL: it has none */
    uint64_t (*numerics_id)(const model *m);
} model_ops;

struct model {
    const model_ops *ops;
    model_info info;
};
struct model_ctx {
    model *m;
    model_limits limits;
};

#endif
