/* What the files that run a tree share: jinja_render.c, jinja_exec.c, jinja_eval.c, jinja_call.c and
 * jinja_attr.c. Nobody else includes this. After a failure every function here returns at once, with
 * something harmless.
 */
#ifndef CHAT_JINJA_RUN_H
#define CHAT_JINJA_RUN_H

#include "chat/jinja_impl.h"

#define COLD __attribute__((noinline)) /* keeps its locals out of frames that recurse */

/* jinja_exec.c */
void jinja_exec(rt *r, const node *n);             /* n and those behind it; NULL: nothing */
value jinja_capture(rt *r, const node *body);      /* what it writes; scope is the caller's */
scope *jinja_push_scope(rt *r);                    /* inside r->scope; the caller restores it */
void jinja_bind(rt *r, scope *s, int id, value v); /* a name in exactly that scope */
/* The loop n over `iterable`, written to r->out; depth0: how many loops of the same recursion are
 * around it. */
void jinja_run_loop(rt *r, const node *n, value iterable, int depth0);

/* jinja_eval.c */
value jinja_eval(rt *r, const node *n);
value jinja_lookup(rt *r, int id); /* a variable by the number of its name; else undefined */

/* jinja_call.c: nodes N_CALL, N_FILTER, N_TEST. `extra`, or NULL, is one more named argument. */
value jinja_eval_call(rt *r, const node *n, const kwarg *extra);
value jinja_eval_filter(rt *r, const node *n);
value jinja_eval_test(rt *r, const node *n);

/* jinja_attr.c. known: the methods of that name of str, list and dict, looked up before; or NULL. */
value jinja_attr(rt *r, value obj, str name, const builtin *const *known);
const builtin *jinja_method_of(value obj, str name, const builtin *const *known); /* NULL: none */

#endif
