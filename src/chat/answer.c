#include "chat/answer.h"

grammar *chat_answer_compile(const chat_answer *a, error *err) {
    switch (a->kind) {
    case CHAT_ANSWER_JSON: {
        grammar_schema_options o = {.param = a->param, .must_be_object = true};
        return grammar_from_schema(json_true(), &o, err);
    }
    case CHAT_ANSWER_SCHEMA: {
        grammar_schema_options o = {.param = a->param};
        return grammar_from_schema(a->schema, &o, err);
    }
    case CHAT_ANSWER_REGEX: return grammar_from_regex(a->source, a->param, err);
    case CHAT_ANSWER_LARK: return grammar_from_lark(a->source, a->param, err);
    case CHAT_ANSWER_GBNF: return grammar_from_gbnf(a->source, a->param, err);
    default: error_set(err, ERR_INTERNAL, a->param, "The answer has no form."); return NULL;
    }
}
