/* A grammar of text as it stands inside a JSON string: every quote, backslash and
 * control character in its escape, one spelling for each. What a model that writes
 * calls as JSON may put there, when the text itself has to obey a grammar.
 */
#ifndef SAMPLE_GRAMMAR_QUOTE_H
#define SAMPLE_GRAMMAR_QUOTE_H

#include "sample/grammar.h"

/* A copy of n and all it leads to (rules too), for between two quotes. Errors as for every node:
 * ERR_UNSUPPORTED_VALUE where n has special tokens or JSON values of a schema in it. */
grammar_node grammar_quote(grammar_builder *b, grammar_node n, const char *param);

#endif
