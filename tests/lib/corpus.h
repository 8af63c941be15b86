/* The folder of real data that tests are held against: $ORIEL_CORPUS. */
#ifndef CORPUS_H
#define CORPUS_H

#include "base/json.h"

/* NULL when ORIEL_CORPUS is not set: then the test says skip(). */
const char *corpus_dir(void);
/* A whole file of it, its name printf'd; the test fails when it cannot be read. */
buf corpus_read(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/* The same as JSON; new reference. */
json_t *corpus_json(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
