/* The extension `grammar`: the form of the answer's text. A string is a GBNF grammar
 * (with `::=`) or a Lark one; an object is {"syntax": "gbnf" | "lark" | "regex", "definition": "…"},
 * as OpenAI writes the grammars of custom tools. */
#include "api/serve.h"

bool gen_decode_grammar(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    gen_params *p = out;
    static const char *const syntaxes[] = {"gbnf", "lark", "regex", NULL};
    static const chat_answer_kind kinds[] = {CHAT_ANSWER_GBNF, CHAT_ANSWER_LARK, CHAT_ANSWER_REGEX};
    if (json_is_string(v)) {
        str source = json_str(v);
        bool gbnf = str_find(source, STR("::="), 0) >= 0;
        p->answer = (chat_answer){.kind = gbnf ? CHAT_ANSWER_GBNF : CHAT_ANSWER_LARK,
                                  .source = source,
                                  .param = "grammar"};
        return true;
    }
    field_path at;
    json_t *syntax, *definition;
    int which;
    str source;
    if (!field_object(v, path, err) || !(syntax = field_need(v, "syntax", path, err)) ||
        !field_enum(syntax, path_member(&at, path, "syntax"), syntaxes, &which, err) ||
        !(definition = field_need(v, "definition", path, err)) ||
        !field_str(definition, path_member(&at, path, "definition"), &source, err))
        return false;
    p->answer =
        (chat_answer){.kind = kinds[which], .source = source, .param = "grammar.definition"};
    return true;
}
