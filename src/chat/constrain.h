/* What an answer may look like, as one grammar for the sampler: reasoning as the
 * family writes it, then calls whose names are of the tools that may be called and
 * whose arguments obey their schemas, or an answer of the form that was asked for.
 *
 * Calls that were asked for (required, named) begin right behind the reasoning.
 * With a free choice the model may answer in words instead; whether it does, and
 * which tool it calls, stays its own decision.
 */
#ifndef CHAT_CONSTRAIN_H
#define CHAT_CONSTRAIN_H

#include "chat/chat_impl.h"
#include "sample/grammar.h"

/* Grammars that were asked for lately, by what they were made of. Shared by all turns; NULL works and
 * keeps nothing. */
constraint_cache *constraint_cache_new(void);
void constraint_cache_free(constraint_cache *k);

/* True and *out NULL: nothing to enforce. *out has to be unref'd. prefix: what the prompt has already
 * written in the assistant's name (parser_find_prefix). ignored gets the paths of what a schema asks
 * for that cannot be enforced, commas between them; only of tools that are not strict. Errors name
 * the tool's parameter. */
bool chat_constrain(const chat *c, const chat_input *in, str prefix, grammar **out, buf *ignored,
                    error *err);
/* The same for the text that a raw prompt goes on with, which no family's marks surround: see answer.h. */
bool chat_constrain_raw(const chat *c, const chat_answer *a, grammar **out, error *err);
/* Was an answer of a form asked for, or a call required? */
bool chat_must_come(const chat_input *in);
/* The id that ends a reasoning message; −1: none. */
int32_t chat_find_think_end(const chat *c);

#endif
