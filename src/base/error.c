#include "base/error.h"

#include <stdio.h>
#include <string.h>

#define BAD "invalid_request_error"

static const error_info infos[ERR_COUNT] = {
    [ERR_NONE] = {200, "", NULL, 0},
    [ERR_INVALID_VALUE] = {400, BAD, "invalid_value", 2},
    [ERR_INVALID_TYPE] = {400, BAD, "invalid_type", 2},
    [ERR_MISSING_PARAMETER] = {400, BAD, "missing_required_parameter", 2},
    [ERR_UNSUPPORTED_VALUE] = {400, BAD, "unsupported_value", 2},
    [ERR_INT_ABOVE_MAX] = {400, BAD, "integer_above_max_value", 2},
    [ERR_INT_BELOW_MIN] = {400, BAD, "integer_below_min_value", 2},
    [ERR_DECIMAL_ABOVE_MAX] = {400, BAD, "decimal_above_max_value", 2},
    [ERR_DECIMAL_BELOW_MIN] = {400, BAD, "decimal_below_min_value", 2},
    [ERR_ARRAY_ABOVE_MAX] = {400, BAD, "array_above_max_length", 2},
    [ERR_ARRAY_BELOW_MIN] = {400, BAD, "empty_array", 2},
    [ERR_STRING_ABOVE_MAX] = {400, BAD, "string_above_max_length", 2},
    [ERR_MALFORMED] = {400, BAD, NULL, 2},
    [ERR_TEMPLATE] = {400, BAD, "invalid_value", 2},
    [ERR_CONTEXT_LENGTH] = {400, BAD, "context_length_exceeded", 2},
    [ERR_INVALID_FUNCTION_PARAMETERS] = {400, BAD, "invalid_function_parameters", 2},
    [ERR_UNAUTHORIZED] = {401, BAD, NULL, 1},
    [ERR_INVALID_API_KEY] = {401, BAD, "invalid_api_key", 1},
    [ERR_FORBIDDEN] = {403, BAD, "forbidden", 1},
    [ERR_NOT_FOUND] = {404, BAD, NULL, 1},
    [ERR_PREVIOUS_RESPONSE] = {400, BAD, "previous_response_not_found", 1},
    [ERR_CONVERSATION_LOCKED] = {400, BAD, "conversation_locked", 1},
    [ERR_CONFLICT] = {409, BAD, NULL, 1},
    [ERR_MODEL_NOT_FOUND] = {404, BAD, "model_not_found", 1},
    [ERR_UNKNOWN_URL] = {404, BAD, "unknown_url", 1},
    [ERR_METHOD] = {405, BAD, "method_not_supported", 1},
    [ERR_BODY_TOO_LARGE] = {413, BAD, NULL, 1},
    [ERR_HEADER_TOO_LARGE] = {431, BAD, NULL, 1},
    [ERR_UPGRADE_REQUIRED] = {426, BAD, "upgrade_required", 1},
    [ERR_CONTENT_ENCODING] = {415, BAD, NULL, 1},
    [ERR_RATE_LIMIT] = {429, "requests", "rate_limit_exceeded", 1},
    [ERR_NOT_IMPLEMENTED] = {501, "not_implemented_error", "not_implemented", 1},
    [ERR_OVERLOADED] = {503, "server_error", NULL, 1},
    [ERR_DEADLINE] = {503, "server_error", "deadline_exceeded", 1},
    [ERR_CANCELLED] = {499, "server_error", "cancelled", 130},
    [ERR_NO_MEMORY] = {503, "server_error", "out_of_memory", 1},
    [ERR_NO_SPACE] = {507, "server_error", "insufficient_storage", 1},
    [ERR_IO] = {500, "server_error", NULL, 1},
    [ERR_BAD_FILE] = {500, "server_error", NULL, 1},
    [ERR_USAGE] = {400, BAD, NULL, 2},
    [ERR_INTERNAL] = {500, "server_error", NULL, 1},
};

const error_info *error_get_info(error_code code) {
    return &infos[(unsigned)code < ERR_COUNT ? code : ERR_INTERNAL];
}

/* Cuts a string that snprintf may have cut inside a character back to whole UTF-8. */
static void trim_partial_utf8(char *s) {
    size_t n = strlen(s), back = 0;
    while (back < 3 && back < n && ((unsigned char)s[n - 1 - back] & 0xC0) == 0x80) back++;
    if (back >= n) return;
    unsigned char lead = (unsigned char)s[n - 1 - back];
    size_t want = lead >= 0xF0 ? 3 : lead >= 0xE0 ? 2 : lead >= 0xC0 ? 1 : 0;
    if (want > back) s[n - 1 - back] = 0;
}

bool error_vset(error *err, error_code code, const char *param, const char *fmt, va_list ap) {
    if (!err || err->code != ERR_NONE) return false;
    err->code = code;
    snprintf(err->param, sizeof err->param, "%s", param ? param : "");
    trim_partial_utf8(err->param);
    vsnprintf(err->message, sizeof err->message, fmt, ap);
    trim_partial_utf8(err->message);
    return false;
}

bool error_set(error *err, error_code code, const char *param, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    error_vset(err, code, param, fmt, ap);
    va_end(ap);
    return false;
}

void error_prefix(error *err, const char *fmt, ...) {
    if (!error_is_set(err)) return;
    char head[200], whole[sizeof head + sizeof err->message];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    trim_partial_utf8(head);
    snprintf(whole, sizeof whole, "%s: %s", head, err->message);
    memcpy(err->message, whole, sizeof err->message - 1);
    err->message[sizeof err->message - 1] = 0;
    trim_partial_utf8(err->message);
}
