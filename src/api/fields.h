/* Decoding a JSON object by a table of fields: name, kind, range, destination.
 * Errors name the parameter with its path and what was expected, in OpenAI's
 * codes. null means absent; unknown fields are tolerated.
 */
#ifndef API_FIELDS_H
#define API_FIELDS_H

#include "base/arena.h"
#include "base/error.h"
#include "base/json.h"

typedef enum field_kind {
    FIELD_BOOL,   /* bool */
    FIELD_INT,    /* int64_t; 3.0 is an integer, 3.5 is not */
    FIELD_NUM,    /* double */
    FIELD_STR,    /* str */
    FIELD_ENUM,   /* int: index into `values` */
    FIELD_TEXTS,  /* json_t *, borrowed: a string, or an array of what the route looks at itself */
    FIELD_CUSTOM, /* decode() */
    FIELD_ACCEPT, /* any value, no effect */
} field_kind;

#define FIELD_NOWHERE SIZE_MAX /* checked, and then of no effect */

typedef struct field_ctx {
    arena *mem;
    void *user; /* the route's own */
} field_ctx;

/* `path` is the value's path, for errors. `out` is the whole destination struct. */
typedef bool field_fn(const field_ctx *c, json_t *v, const char *path, void *out, error *err);

typedef struct field {
    const char *name;
    field_kind kind;
    bool required;   /* absent or null is missing_required_parameter */
    size_t offset;   /* of the destination in the struct, or FIELD_NOWHERE */
    double min, max; /* INT and NUM: inclusive; STR: `max` characters; no check when both 0 */
    const char *const *values; /* ENUM: NULL-terminated */
    field_fn *decode;          /* CUSTOM */
    const char *doc;           /* one line for docs/API.md: what it does here */
} field;

/* A route's fields, for docs/API.md. */
typedef struct field_table {
    const field *fields;
    size_t n;
} field_table;
extern const field_table chat_completions_fields, completions_fields, response_fields,
    conversation_fields, upload_fields, batch_fields, embedding_fields, rerank_fields,
    moderation_fields, speech_fields, transcription_fields, image_fields, anthropic_fields,
    tokenize_fields;

bool fields_decode(const field_ctx *c, json_t *object, const field *table, size_t n,
                   const char *path, void *out, error *err);

/* The same checks for single values in custom decoders. */
bool field_bool(json_t *v, const char *path, bool *out, error *err);
bool field_int(json_t *v, const char *path, int64_t min, int64_t max, int64_t *out, error *err);
bool field_num(json_t *v, const char *path, double min, double max, double *out, error *err);
bool field_str(json_t *v, const char *path, str *out, error *err);
bool field_enum(json_t *v, const char *path, const char *const *values, int *out, error *err);
bool field_object(json_t *v, const char *path, error *err);
bool field_array(json_t *v, const char *path, size_t max_items, error *err);
/* What an array must not be; returns false. */
bool field_empty_array(const char *path, error *err);
/* At most so many characters. */
bool field_max_chars(str s, const char *path, size_t max, error *err);
/* A member that must be there; NULL with the error set. */
json_t *field_need(json_t *object, const char *name, const char *path, error *err);
/* Member or NULL; JSON null counts as absent. */
json_t *field_get(json_t *object, const char *name);

/* "a.b" / "a[3]" in a caller's buffer; returns it. */
typedef struct field_path {
    char text[120];
} field_path;
const char *path_member(field_path *p, const char *base, const char *name);
const char *path_index(field_path *p, const char *base, size_t i);

const char *field_type_name(const json_t *v); /* "a string", "an object", … */

#endif
