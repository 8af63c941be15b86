/* JSON. In: jansson, strict (UTF-8, no duplicate keys, one value, bounded
 * depth), with the position in the error. Out: an emitter that writes straight
 * into a buf; an SSE chunk costs a memcpy and an escape instead of a tree.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include "base/buf.h"
#include "base/error.h"

#include <jansson.h>

/* Parses exactly one JSON value (any type). New reference; NULL with ERR_MALFORMED and
 * "line L column C" otherwise, or ERR_NO_MEMORY. An integer beyond int64 becomes a real. (jansson 2.14
 * aborts when it cannot grow the buffer of a single token: bound the text before parsing it.) */
json_t *json_parse(str text, error *err);

/* Borrowed views; {NULL,0} when the value is not a string. */
static inline str json_str(const json_t *v) {
    return json_is_string(v) ? str_make(json_string_value(v), json_string_length(v)) : (str){0};
}

/* ── Emitter ──
 * json_out keeps where commas go; the caller keeps the nesting right (asserted in debug).
 *   json_out j = json_begin(&b);
 *   json_obj(&j); json_key(&j, "id"); json_put_str(&j, id); json_end_obj(&j);
 * Failures are the buf's: check b.failed once. Depth at most 63. Numbers are printed by the C
 * library: LC_NUMERIC has to stay "C" (setlocale(LC_CTYPE, …) is fine). */
typedef struct json_out {
    buf *b;
    uint64_t has_item; /* bit d: container at depth d has an item already */
    int depth;
    bool after_key;
} json_out;

json_out json_begin(buf *b);
void json_obj(json_out *j);
void json_end_obj(json_out *j);
void json_arr(json_out *j);
void json_end_arr(json_out *j);
void json_key(json_out *j, const char *key); /* key must need no escape */
void json_key_str(json_out *j, str key);
void json_put_str(json_out *j, str s); /* ill-formed bytes become U+FFFD */
void json_put_cstr(json_out *j, const char *s);
void json_put_int(json_out *j, int64_t v);
void json_put_num(json_out *j, double v);  /* shortest that reads back equal; NaN/inf → null */
void json_put_float(json_out *j, float v); /* shortest that reads back as the same float */
void json_put_bool(json_out *j, bool v);
void json_put_null(json_out *j);
void json_put_raw(json_out *j, str json);          /* already JSON */
void json_put_value(json_out *j, const json_t *v); /* compact, keys in insertion order, any depth */
/* key and value in one call */
void json_kv_str(json_out *j, const char *key, str s);
void json_kv_cstr(json_out *j, const char *key, const char *s);
void json_kv_int(json_out *j, const char *key, int64_t v);
void json_kv_num(json_out *j, const char *key, double v);
void json_kv_bool(json_out *j, const char *key, bool v);
void json_kv_null(json_out *j, const char *key);

/* Appends s escaped, without quotes. */
void json_escape(buf *b, str s);

#endif
