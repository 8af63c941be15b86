#include "sample/grammar_impl.h"
grammar_node grammar_gbnf(grammar_builder *b, str source, const char *param) {
    (void)source;
    if (b) builder_fail(b, ERR_NOT_IMPLEMENTED, param, "GBNF grammars are not implemented yet.");
    return -1;
}
grammar_node grammar_lark(grammar_builder *b, str source, const char *param) {
    (void)source;
    if (b) builder_fail(b, ERR_NOT_IMPLEMENTED, param, "Lark grammars are not implemented yet.");
    return -1;
}
