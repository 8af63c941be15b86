#include "api/docs.h"

#include <stdio.h>
#include <string.h>

#include "api/fields.h"
#include "api/routes.h"

/* What the tables cannot say. Every operation here must have a handler (the test looks). */
static const struct {
    const char *method, *path;
    const field_table *fields; /* of its body, or NULL */
    const char *note;
} notes[] = {
    {"POST", "/v1/chat/completions", &chat_completions_fields, "whole and as a stream"},
    {"GET", "/v1/chat/completions", NULL, "stored ones: limit, order, after, model, metadata[key]"},
    {"GET", "/v1/chat/completions/{completion_id}", NULL, "a stored one"},
    {"POST", "/v1/chat/completions/{completion_id}", NULL, "sets metadata"},
    {"DELETE", "/v1/chat/completions/{completion_id}", NULL, ""},
    {"GET", "/v1/chat/completions/{completion_id}/messages", NULL,
     "the request's messages: limit, order, after"},
    {"POST", "/v1/completions", &completions_fields, "whole and as a stream"},
    {"POST", "/v1/responses", &response_fields, "whole, as a stream and in the background"},
    {"POST", "/v1/responses/input_tokens", NULL, "fields as for creating"},
    {"POST", "/v1/responses/compact", NULL,
     "fields as for creating; user messages stay, the rest becomes a sealed summary by the model"},
    {"GET", "/v1/responses/{response_id}", NULL,
     "with stream=true its events again, from starting_after or Last-Event-ID on, if it was made "
     "with stream or background"},
    {"DELETE", "/v1/responses/{response_id}", NULL, "also ends it if it still runs"},
    {"POST", "/v1/responses/{response_id}/cancel", NULL, "background responses"},
    {"GET", "/v1/responses/{response_id}/input_items", NULL,
     "its own input: limit, order, after; include is accepted"},
    {"POST", "/v1/conversations", &conversation_fields, ""},
    {"GET", "/v1/conversations/{conversation_id}", NULL, ""},
    {"POST", "/v1/conversations/{conversation_id}", NULL, "sets metadata"},
    {"DELETE", "/v1/conversations/{conversation_id}", NULL, "its items go with it"},
    {"POST", "/v1/conversations/{conversation_id}/items", NULL, "up to 20 items"},
    {"GET", "/v1/conversations/{conversation_id}/items", NULL, "limit, order, after"},
    {"GET", "/v1/conversations/{conversation_id}/items/{item_id}", NULL, ""},
    {"DELETE", "/v1/conversations/{conversation_id}/items/{item_id}", NULL, ""},
    {"POST", "/v1/files", NULL,
     "multipart: file, purpose, expires_after[anchor], expires_after[seconds]; a body has at most "
     "32 MiB, larger files go through uploads"},
    {"GET", "/v1/files", NULL, "purpose, limit, order, after"},
    {"GET", "/v1/files/{file_id}", NULL, ""},
    {"DELETE", "/v1/files/{file_id}", NULL, ""},
    {"GET", "/v1/files/{file_id}/content", NULL, ""},
    {"POST", "/v1/uploads", &upload_fields, "up to 8 GiB; expires after an hour"},
    {"POST", "/v1/uploads/{upload_id}/parts", NULL, "multipart: data"},
    {"POST", "/v1/uploads/{upload_id}/complete", NULL, "part_ids in order, md5 is checked"},
    {"POST", "/v1/uploads/{upload_id}/cancel", NULL, ""},
    {"POST", "/v1/batches", &batch_fields, "runs below live requests, resumes after a restart"},
    {"GET", "/v1/batches", NULL, "limit, order, after"},
    {"GET", "/v1/batches/{batch_id}", NULL, ""},
    {"POST", "/v1/batches/{batch_id}/cancel", NULL, "what is answered already is in the output"},
    {"POST", "/v1/embeddings", &embedding_fields, "pooled hidden states of the loaded model"},
    {"POST", "/v1/moderations", &moderation_fields,
     "the loaded model's own judgement, constrained to OpenAI's categories: as good as the model is"},
    {"POST", "/v1/rerank", &rerank_fields, "not OpenAI's: by the cosine of embeddings"},
    {"POST", "/rerank", NULL, "as /v1/rerank"},
    {"POST", "/v1/audio/speech", &speech_fields, "by espeak-ng in the sandbox"},
    {"GET", "/v1/audio/voices", NULL, "an extension: the voices of speech"},
    {"POST", "/v1/audio/transcriptions", &transcription_fields,
     "multipart: file and these; by --transcribe-command, else a 501"},
    {"POST", "/v1/audio/translations", NULL, "as transcriptions"},
    {"POST", "/v1/images/generations", &image_fields, "by --image-command, else a 501"},
    {"POST", "/v1/images/edits", NULL, "multipart: image, and fields as for generations"},
    {"POST", "/v1/images/variations", NULL, "multipart: image, and fields as for generations"},
    {"POST", "/v1/messages", &anthropic_fields, "Anthropic's Messages API, whole and as a stream"},
    {"POST", "/v1/messages/count_tokens", NULL, "fields as for messages"},
    {"POST", "/tokenize", &tokenize_fields, "llama.cpp's and vLLM's"},
    {"POST", "/detokenize", NULL, "tokens"},
    {"GET", "/props", NULL, "llama.cpp's: sizes, defaults, the chat template"},
    {"GET", "/", NULL, "the chat page; with --no-page a few words about the server"},
    {"GET", "/page/{file}", NULL, "its files"},
    {"GET", "/v1/models", NULL, ""},
    {"GET", "/v1/models/{model}", NULL, "'default' is the loaded model"},
};
enum { N_NOTES = sizeof notes / sizeof notes[0] };

static const char *find_note(const char *method, const char *path, const field_table **fields) {
    *fields = NULL;
    for (size_t i = 0; i < N_NOTES; i++)
        if (strcmp(notes[i].method, method) == 0 && strcmp(notes[i].path, path) == 0) {
            *fields = notes[i].fields;
            return notes[i].note;
        }
    return "";
}

static bool is_done(const char *method, const char *path) {
    route_row row;
    for (size_t i = 0; route_get_handler(i, &row); i++)
        if (strcmp(row.methods, method) == 0 && strncmp(row.path, "/v1", 3) == 0 &&
            strcmp(row.path + 3, path) == 0)
            return true;
    return false;
}

static void put_type(buf *out, const field *f) {
    bool ranged = f->min != 0 || f->max != 0;
    switch (f->kind) {
    case FIELD_BOOL: buf_append_cstr(out, "boolean"); break;
    case FIELD_INT:
    case FIELD_NUM:
        buf_append_cstr(out, f->kind == FIELD_INT ? "integer" : "number");
        if (ranged && f->max >= 1e9)
            buf_printf(out, ", from %.0f", f->min);
        else if (ranged)
            buf_printf(out, ", %g to %g", f->min, f->max);
        break;
    case FIELD_STR:
        buf_append_cstr(out, "string");
        if (f->max > 0) buf_printf(out, ", at most %.0f characters", f->max);
        break;
    case FIELD_ENUM:
        for (int i = 0; f->values[i]; i++) buf_printf(out, "%s`%s`", i ? ", " : "", f->values[i]);
        break;
    case FIELD_TEXTS: buf_append_cstr(out, "string or array"); break;
    case FIELD_CUSTOM: buf_append_cstr(out, "as in the specification"); break;
    case FIELD_ACCEPT: buf_append_cstr(out, "any"); break;
    }
}

void api_render_docs(buf *out) {
    route_row row;
    buf_append_cstr(
        out,
        "# The API, operation by operation\n\n"
        "Made from the tables in `src/api` by `make docs`; do not edit. A test fails when it is "
        "not current.\n\n"
        "`null` counts as absent everywhere, and members no table knows are tolerated. "
        "Errors have OpenAI's shape and name the parameter. Every path of OpenAI's "
        "published specification that is not listed here answers a typed 501.\n\n"
        "## Operations\n\n| operation | |\n|---|---|\n");
    for (size_t i = 0; route_get_handler(i, &row); i++) {
        const field_table *fields;
        buf_printf(out, "| `%s %s` | %s |\n", row.methods, row.path,
                   find_note(row.methods, row.path, &fields));
    }
    for (size_t i = 0; i < N_NOTES; i++) {
        if (!notes[i].fields) continue;
        buf_printf(out, "\n## `%s %s`\n\n| parameter | type | what it does here |\n|---|---|---|\n",
                   notes[i].method, notes[i].path);
        for (size_t n = 0; n < notes[i].fields->n; n++) {
            const field *f = &notes[i].fields->fields[n];
            buf_printf(out, "| `%s`%s | ", f->name, f->required ? " (required)" : "");
            put_type(out, f);
            buf_printf(out, " | %s |\n", f->doc ? f->doc : "");
        }
    }
    buf_append_cstr(out, "\n## Not implemented\n\nThese answer 501 with `not_implemented`:\n\n");
    for (size_t i = 0; route_get_spec(i, &row); i++) {
        char methods[60], *at = methods, *word, left[60] = "";
        snprintf(methods, sizeof methods, "%s", row.methods);
        while ((word = strsep(&at, " ")))
            if (!is_done(word, row.path)) {
                size_t n = strlen(left);
                snprintf(left + n, sizeof left - n, "%s%s", n ? " " : "", word);
            }
        if (left[0]) buf_printf(out, "- `%s /v1%s`\n", left, row.path);
    }
}
