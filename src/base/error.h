/* One error value, on the caller's stack, set where the facts are known and
 * passed up unchanged. Only the edge renders it: `api` as OpenAI's JSON, `cli`
 * as one sentence on stderr. Below `cli` nothing prints to the user or exits.
 *
 * Functions that can fail return false / NULL / -1 and fill `*err`. A NULL
 * `err` is allowed everywhere. The first error wins: setting an error that is
 * already set keeps the older, which is closer to the cause.
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

typedef enum error_code {
    ERR_NONE = 0,
    /* what a client sent */
    ERR_INVALID_VALUE,
    ERR_INVALID_TYPE,
    ERR_MISSING_PARAMETER,
    ERR_UNSUPPORTED_VALUE,
    ERR_INT_ABOVE_MAX,
    ERR_INT_BELOW_MIN,
    ERR_DECIMAL_ABOVE_MAX,
    ERR_DECIMAL_BELOW_MIN,
    ERR_ARRAY_ABOVE_MAX,
    ERR_ARRAY_BELOW_MIN,
    ERR_STRING_ABOVE_MAX,
    ERR_MALFORMED, /* not JSON, not HTTP, not UTF-8 */
    ERR_TEMPLATE,  /* the chat template refused the messages */
    ERR_CONTEXT_LENGTH,
    ERR_INVALID_FUNCTION_PARAMETERS,
    ERR_UNAUTHORIZED,
    ERR_INVALID_API_KEY,
    ERR_FORBIDDEN,
    ERR_NOT_FOUND,
    ERR_PREVIOUS_RESPONSE,   /* previous_response_id names none */
    ERR_CONVERSATION_LOCKED, /* another request is answered in it */
    ERR_CONFLICT,            /* not in this object's state */
    ERR_MODEL_NOT_FOUND,
    ERR_UNKNOWN_URL,
    ERR_METHOD,
    ERR_BODY_TOO_LARGE,
    ERR_HEADER_TOO_LARGE,
    ERR_UPGRADE_REQUIRED, /* a WebSocket was asked for; plain HTTP is what there is */
    ERR_CONTENT_ENCODING,
    ERR_RATE_LIMIT, /* queue full */
    /* what we do not do (yet) */
    ERR_NOT_IMPLEMENTED,
    /* what went wrong here */
    ERR_OVERLOADED,
    ERR_DEADLINE,
    ERR_CANCELLED,
    ERR_NO_MEMORY,
    ERR_NO_SPACE,
    ERR_IO,
    ERR_BAD_FILE, /* a damaged or unsupported model file */
    ERR_USAGE,    /* a wrong command line */
    ERR_INTERNAL,
    ERR_COUNT
} error_code;

/* One row per code: what each door makes of it. */
typedef struct error_info {
    int http_status;
    const char *type;     /* OpenAI `error.type` */
    const char *api_code; /* OpenAI `error.code`, NULL = null */
    int exit_status;
} error_info;

typedef struct error {
    error_code code;
    char param[120];   /* parameter path such as messages[2].content; "" = null */
    char message[600]; /* one or more whole sentences, UTF-8 */
} error;

const error_info *error_get_info(error_code code);

/* Returns false always, so `return error_set(...)` reads well. param may be NULL. */
bool error_set(error *err, error_code code, const char *param, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
bool error_vset(error *err, error_code code, const char *param, const char *fmt, va_list ap);
/* Puts "prefix: " in front of the message, for context such as a file's name. */
void error_prefix(error *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static inline bool error_is_set(const error *err) {
    return err && err->code != ERR_NONE;
}

#endif
