/* What the files of filters and tests share: jinja_filters.c, jinja_filters_text.c, jinja_filters_seq.c
 * and jinja_tests.c. Nobody else includes this.
 */
#ifndef CHAT_JINJA_FILTERS_H
#define CHAT_JINJA_FILTERS_H

#include "chat/jinja_impl.h"

#define FILTER(name) static value name(rt *r, value self, value *a, const args *raw)
#define UNUSED       (void)r, (void)self, (void)a, (void)raw

typedef struct builtin_table {
    const builtin *rows;
    size_t n;
} builtin_table;
extern const builtin_table jinja_text_filters, jinja_seq_filters, jinja_value_filters;

static inline bool jinja_flag(value v, bool fallback) {
    return given(v) ? jinja_true(v) : fallback;
}

#endif
