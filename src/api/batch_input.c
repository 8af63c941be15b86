/* A batch's input: a file of requests, one JSON object a line. */
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "api/batches_impl.h"

void batch_add_error(json_t *list, const char *code, size_t line, const char *param,
                     const char *message) {
    if (json_array_size(list) >= BATCH_MAX_ERRORS) return;
    json_t *e = json_pack("{s:s, s:s}", "code", code, "message", message);
    json_object_set_new(e, "line", line ? json_integer((json_int_t)line) : json_null());
    json_object_set_new(e, "param", param ? json_string(param) : json_null());
    json_array_append_new(list, e);
}

static bool map_input(batch_job *k, store *s, str hash, error *err) {
    struct stat st;
    k->fd = store_open_content(s, hash, err);
    if (k->fd < 0) return false;
    if (fstat(k->fd, &st) != 0) return error_set(err, ERR_IO, NULL, "The input cannot be read.");
    k->len = (size_t)st.st_size;
    if (k->len == 0) return true;
    void *text = mmap(NULL, k->len, PROT_READ, MAP_PRIVATE, k->fd, 0);
    if (text == MAP_FAILED)
        return error_set(err, ERR_NO_MEMORY, NULL, "The input cannot be mapped.");
    k->text = text;
    return true;
}

/* Lines that hold something. */
static bool index_lines(batch_job *k, error *err) {
    size_t cap = 0;
    for (size_t at = 0; at < k->len;) {
        const char *end = memchr(k->text + at, '\n', k->len - at);
        size_t stop = end ? (size_t)(end - k->text) : k->len;
        if (str_trim(str_make(k->text + at, stop - at)).len) {
            if (k->n + 1 >= cap) {
                cap = cap ? cap * 2 : 64;
                size_t *grown = realloc(k->starts, cap * 2 * sizeof *grown);
                if (!grown)
                    return error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the batch.");
                k->starts = grown;
            }
            if (k->n == BATCH_MAX_LINES)
                return error_set(err, ERR_ARRAY_ABOVE_MAX, NULL, "A batch has at most %d requests.",
                                 BATCH_MAX_LINES);
            k->starts[2 * k->n] = at;
            k->starts[2 * k->n + 1] = stop;
            k->n++;
        }
        at = stop + 1;
    }
    k->state = calloc(k->n ? k->n : 1, 1);
    return k->state || error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the batch.");
}

str batch_get_line(const batch_job *k, size_t n) {
    return str_trim(str_make(k->text + k->starts[2 * n], k->starts[2 * n + 1] - k->starts[2 * n]));
}

/* Every line is a request of this batch's endpoint with an id of its own; what the request itself
 * holds is its handler's business. */
void batch_validate(batch_job *k, json_t *errors) {
    json_t *seen = json_object();
    size_t n_lines = 0, counted = 0; /* empty ones too, up to there */
    const char *endpoint = json_string_value(json_object_get(k->object, "endpoint"));
    if (k->n == 0)
        batch_add_error(errors, "empty_file", 0, NULL, "The input file has no requests.");
    for (size_t i = 0; i < k->n && json_array_size(errors) < BATCH_MAX_ERRORS; i++) {
        error err = {0};
        str line = batch_get_line(k, i);
        for (; counted < k->starts[2 * i + 1]; counted++) n_lines += k->text[counted] == '\n';
        json_t *v = line.len <= BATCH_MAX_LINE ? json_parse(line, &err) : NULL;
        str id = json_str(json_object_get(v, "custom_id"));
        json_t *body = json_object_get(v, "body");
        if (line.len > BATCH_MAX_LINE)
            batch_add_error(errors, "request_too_large", n_lines + 1, NULL,
                            "This line is too long.");
        else if (!v)
            batch_add_error(errors, "invalid_json_line", n_lines + 1, NULL,
                            "This line is not parseable as valid JSON.");
        else if (!json_is_object(v))
            batch_add_error(errors, "invalid_request", n_lines + 1, NULL,
                            "This line is not a JSON object.");
        else if (!id.len)
            batch_add_error(errors, "missing_required_parameter", n_lines + 1, "custom_id",
                            "Missing required parameter: 'custom_id'.");
        else if (json_object_getn(seen, id.ptr, id.len))
            batch_add_error(errors, "duplicate_custom_id", n_lines + 1, "custom_id",
                            "This custom_id was used by an earlier line.");
        else if (!str_is(json_str(json_object_get(v, "method")), "POST"))
            batch_add_error(errors, "invalid_method", n_lines + 1, "method",
                            "The method must be POST.");
        else if (!str_is(json_str(json_object_get(v, "url")), endpoint))
            batch_add_error(errors, "mismatched_endpoint", n_lines + 1, "url",
                            "The url is not the batch's endpoint.");
        else if (!json_is_object(body))
            batch_add_error(errors, "missing_required_parameter", n_lines + 1, "body",
                            "Missing required parameter: 'body'.");
        else if (i == 0)
            json_object_set_new(k->object, "model",
                                json_is_string(json_object_get(body, "model"))
                                    ? json_incref(json_object_get(body, "model"))
                                    : json_null());
        if (id.len) json_object_setn_new(seen, id.ptr, id.len, json_true());
        json_decref(v);
    }
    json_decref(seen);
}

bool batch_open_input(batch_job *k, store *s, str hash, error *err) {
    return map_input(k, s, hash, err) && index_lines(k, err);
}
