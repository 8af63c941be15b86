/* What a file may say about a model, and what it is told when it says something else. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "model/model.h"
#include "tiny_model.h"

static model *load(const tiny *t, const model_options *o, file **f, buf *image, error *err) {
    *image = tiny_image(t);
    *f = file_open_memory(image->ptr, image->len, "tiny", err);
    if (!*f) fail_msg("%s", err->message);
    return model_load(*f, o, err);
}

static const char *const archs[] = {"gpt-oss", "llama", "qwen2", "qwen3", "qwen3moe"};

static void every_architecture_loads(void **state) {
    (void)state;
    for (size_t a = 0; a < 5; a++)
        for (int fused = 0; fused < 2; fused++) {
            tiny t = tiny_defaults(archs[a]);
            t.fused_qkv = fused;
            error err = {0};
            file *f;
            buf image;
            model *m = load(&t, NULL, &f, &image, &err);
            if (!m) fail_msg("%s: %s", archs[a], err.message);
            const model_info *i = model_get_info(m);
            assert_string_equal(i->arch, archs[a]);
            assert_int_equal(i->n_vocab, 50);
            assert_int_equal(i->n_heads, 4);
            assert_int_equal(i->head_dim, 8);
            assert_int_equal(i->n_ctx_train, 4096);
            assert_int_equal(i->layer_width[0], t.width);
            assert_int_equal(i->layer_width[1], 0);
            assert_int_equal(i->has_sinks, a == 0);
            assert_int_equal(i->main_type, DTYPE_F32);
            assert_int_equal(i->file_bytes, image.len);
            uint64_t n = 0;
            for (size_t k = 0; k < file_n_tensors(f); k++) n += file_get_tensor(f, k)->n_elements;
            assert_int_equal(i->n_params, n);
            assert_true(i->n_params_active <= n);
            /* An expert that is not used, and all but one row of an embedding, is not active. */
            uint64_t idle =
                t.n_experts ? (uint64_t)(2 * 3 * 3 * 24 * 36) : 0; /* 3 of 5 idle, 2 layers */
            assert_int_equal(i->n_params_active, n - idle - (t.tied ? 0 : 24 * 50));
            assert_true(i->weight_bytes >= 4 * n);
            model_info seen;
            assert_true(model_inspect(f, NULL, &seen, &err));
            assert_memory_equal(&seen, i, sizeof seen);
            model_free(m);
            file_close(f);
            buf_deinit(&image);
        }
}

typedef struct refusal {
    const char *arch, *says; /* a part of the sentence */
    tiny_edit edits[3];
} refusal;

#define KEY_INT(k, v) \
    { .name = k, .op = TINY_I32, .i = v }
#define KEY_F(k, v) \
    { .name = k, .op = TINY_F32, .f = v }
#define NEW_INT(k, v) \
    { .name = k, .op = TINY_I32, .i = v, .new_key = true }
#define NO_KEY(k) \
    { .name = k, .op = TINY_DROP }

static const refusal refusals[] = {
    {"llama",
     "“mamba” is not supported",
     {{.name = "general.architecture", .op = TINY_STR, .s = "mamba"}}},
    {"llama", "general.architecture is missing", {NO_KEY("general.architecture")}},
    {"llama", "llama.block_count is missing", {NO_KEY("llama.block_count")}},
    {"llama", "llama.block_count is 0", {KEY_INT("llama.block_count", 0)}},
    {"llama", "llama.block_count is 513", {KEY_INT("llama.block_count", 513)}},
    {"llama", "llama.block_count is -2", {KEY_INT("llama.block_count", -2)}},
    {"llama", "blk.2.attn_norm.weight is missing", {KEY_INT("llama.block_count", 3)}},
    {"llama", "is not known", {KEY_INT("llama.block_count", 1)}},
    {"llama",
     "llama.block_count is not an integer",
     {{.name = "llama.block_count", .op = TINY_STR, .s = "2"}}},
    {"llama", "embedding_length is 2147483647", {KEY_INT("llama.embedding_length", INT32_MAX)}},
    {"llama", "head_count is 0", {KEY_INT("llama.attention.head_count", 0)}},
    {"llama", "head_count_kv is 0", {KEY_INT("llama.attention.head_count_kv", 0)}},
    {"llama", "4 query heads cannot share 3", {KEY_INT("llama.attention.head_count_kv", 3)}},
    {"llama",
     "cannot be divided among 5",
     {KEY_INT("llama.attention.head_count", 5), KEY_INT("llama.attention.head_count_kv", 5),
      NO_KEY("llama.attention.key_length")}},
    {"llama", "keys of 8 and values of 6", {KEY_INT("llama.attention.value_length", 6)}},
    {"llama",
     "head of 7 elements is odd",
     {KEY_INT("llama.attention.key_length", 7), KEY_INT("llama.attention.value_length", 7),
      KEY_INT("llama.rope.dimension_count", 6)}},
    {"llama", "Rotary embedding of 7", {KEY_INT("llama.rope.dimension_count", 7)}},
    {"llama", "Rotary embedding of 10", {KEY_INT("llama.rope.dimension_count", 10)}},
    {"llama",
     "key_length is 1024",
     {KEY_INT("llama.attention.key_length", 1024), KEY_INT("llama.attention.value_length", 1024)}},
    {"llama", "feed_forward_length is 0", {KEY_INT("llama.feed_forward_length", 0)}},
    {"llama", "epsilon is missing", {NO_KEY("llama.attention.layer_norm_rms_epsilon")}},
    {"llama", "epsilon is nan", {KEY_F("llama.attention.layer_norm_rms_epsilon", NAN)}},
    {"llama", "freq_base is 0", {KEY_F("llama.rope.freq_base", 0)}},
    {"llama", "freq_base is inf", {KEY_F("llama.rope.freq_base", INFINITY)}},
    {"llama", "context_length is 0", {KEY_INT("llama.context_length", 0)}},
    {"llama", "with experts", {NEW_INT("llama.expert_count", 8)}},
    {"llama",
     "scaling type “longrope”",
     {{.name = "llama.rope.scaling.type", .op = TINY_STR, .s = "longrope", .new_key = true}}},
    {"gpt-oss", "sliding_window is 0", {KEY_INT("gpt-oss.attention.sliding_window", 0)}},
    {"gpt-oss", "expert_count is 0", {KEY_INT("gpt-oss.expert_count", 0)}},
    {"gpt-oss", "expert_used_count is 0", {KEY_INT("gpt-oss.expert_used_count", 0)}},
    {"gpt-oss", "6 experts of 5", {KEY_INT("gpt-oss.expert_used_count", 6)}},
    {"gpt-oss", "expert_used_count is 65", {KEY_INT("gpt-oss.expert_used_count", 65)}},
    {"gpt-oss", "scaling.factor is nan", {KEY_F("gpt-oss.rope.scaling.factor", NAN)}},
    {"gpt-oss", "attn_sinks.weight is missing", {NO_KEY("blk.1.attn_sinks.weight")}},
    {"gpt-oss", "attn_q.bias is missing", {NO_KEY("blk.0.attn_q.bias")}},
    {"gpt-oss", "ffn_down_exps.bias is missing", {NO_KEY("blk.0.ffn_down_exps.bias")}},
    {"qwen2", "attn_k.bias is missing", {NO_KEY("blk.0.attn_k.bias")}},
    {"qwen3", "attn_q_norm.weight is missing", {NO_KEY("blk.1.attn_q_norm.weight")}},
    {"qwen3moe", "ffn_gate_inp.weight is missing", {NO_KEY("blk.1.ffn_gate_inp.weight")}},
    {"llama", "token_embd.weight is missing", {NO_KEY("token_embd.weight")}},
    {"llama", "output_norm.weight is missing", {NO_KEY("output_norm.weight")}},
    {"llama", "blk.1.ffn_up.weight is missing", {NO_KEY("blk.1.ffn_up.weight")}},
    {"llama",
     "blk.1.attn_k.weight has the shape 25×16×1×1, expected is 24×16×1",
     {{.name = "blk.1.attn_k.weight", .op = TINY_SHAPE, .i = 25}}},
    {"llama",
     "token_embd.weight has the shape",
     {{.name = "token_embd.weight", .op = TINY_SHAPE, .i = 8}}},
    {"llama",
     "blk.0.ffn_down.weight has the type",
     {{.name = "blk.0.ffn_down.weight", .op = TINY_TYPE, .i = DTYPE_I32}}},
    {"llama",
     "blk.0.surprise.weight is not known",
     {{.name = "blk.0.surprise.weight", .op = TINY_ADD, .i = 4}}},
    {"llama",
     "blk.9.attn_norm.weight is not known",
     {{.name = "blk.9.attn_norm.weight", .op = TINY_ADD, .i = 24}}},
    {"llama",
     "rope_freqs.weight has the shape",
     {{.name = "rope_freqs.weight", .op = TINY_ADD, .i = 5}}},
};

static void everything_else_is_refused_with_a_sentence(void **state) {
    (void)state;
    for (size_t r = 0; r < sizeof refusals / sizeof *refusals; r++) {
        tiny t = tiny_defaults(refusals[r].arch);
        memcpy(t.edits, refusals[r].edits, sizeof refusals[r].edits);
        error err = {0}, again = {0};
        file *f;
        buf image;
        model *m = load(&t, NULL, &f, &image, &err);
        if (m) fail_msg("accepted, though: %s", refusals[r].says);
        assert_int_equal(err.code, ERR_BAD_FILE);
        if (!strstr(err.message, refusals[r].says))
            fail_msg("“%s” does not say “%s”", err.message, refusals[r].says);
        size_t n = strlen(err.message);
        assert_true(err.message[n - 1] == '.');
        model_info info;
        assert_false(model_inspect(f, NULL, &info, &again));
        assert_string_equal(err.message, again.message);
        file_close(f);
        buf_deinit(&image);
    }
}

static bool stop_at_half(void *ctx, uint64_t done, uint64_t total) {
    int *calls = ctx;
    ++*calls;
    assert_true(done <= total);
    return done < total / 2;
}

static void loading_can_be_cancelled(void **state) {
    (void)state;
    tiny t = tiny_defaults("gpt-oss");
    error err = {0};
    file *f;
    buf image;
    int calls = 0;
    assert_null(load(&t, &(model_options){.progress = stop_at_half, .progress_ctx = &calls}, &f,
                     &image, &err));
    assert_int_equal(err.code, ERR_CANCELLED);
    assert_in_range(calls, 2, 30);
    file_close(f);
    buf_deinit(&image);
}

/* Fused and split tensors, packed and in place: the same model. */
static void plans_are_exact(void **state) {
    (void)state;
    tiny t = tiny_defaults("qwen3moe");
    error err = {0};
    file *f;
    buf image;
    model *m = load(&t, NULL, &f, &image, &err);
    assert_non_null(m);
    uint64_t last = 0;
    for (int rows = 1; rows <= 64; rows *= 4) {
        uint64_t bytes = model_ctx_plan_bytes(m, (model_limits){rows, rows}, 1);
        assert_true(bytes > last);
        last = bytes;
        model_ctx *c = model_ctx_new(m, (model_limits){rows, rows}, NULL, &err);
        assert_non_null(c);
        model_ctx_free(c);
    }
    assert_null(model_ctx_new(m, (model_limits){0, 0}, NULL, &err));
    assert_int_equal(err.code, ERR_INVALID_VALUE);
    model_free(m);
    model_free(NULL);
    model_ctx_free(NULL);
    file_close(f);
    buf_deinit(&image);
}

int main(void) {
    const struct CMUnitTest t[] = {
        cmocka_unit_test(every_architecture_loads),
        cmocka_unit_test(everything_else_is_refused_with_a_sentence),
        cmocka_unit_test(loading_can_be_cancelled),
        cmocka_unit_test(plans_are_exact),
    };
    return cmocka_run_group_tests(t, NULL, NULL);
}
