#include "api/routes.h"

#include <stdio.h>
#include <string.h>

/* Implemented operations. Paths of the specification are below /v1. */
static const struct {
    const char *method, *path;
    route_fn *handler;
    bool open;
} handlers[] = {
    {"POST", "/v1/chat/completions", route_chat_completions, false},
    {"POST", "/v1/completions", route_completions, false},
    {"POST", "/v1/audio/speech", route_speech, false},
    {"GET", "/v1/audio/voices", route_voices, false},
    {"POST", "/v1/audio/transcriptions", route_transcriptions, false},
    {"POST", "/v1/audio/translations", route_translations, false},
    {"POST", "/v1/images/generations", route_image_generations, false},
    {"POST", "/v1/images/edits", route_image_edits, false},
    {"POST", "/v1/images/variations", route_image_variations, false},
    {"POST", "/v1/messages", route_anthropic_messages, false},
    {"POST", "/v1/messages/count_tokens", route_anthropic_count, false},
    {"GET", "/v1/chat/completions", route_chat_list, false},
    {"GET", "/v1/chat/completions/{completion_id}", route_chat_get, false},
    {"POST", "/v1/chat/completions/{completion_id}", route_chat_update, false},
    {"DELETE", "/v1/chat/completions/{completion_id}", route_chat_delete, false},
    {"GET", "/v1/chat/completions/{completion_id}/messages", route_chat_messages, false},
    {"POST", "/v1/responses", route_response_create, false},
    {"POST", "/v1/responses/input_tokens", route_response_input_tokens, false},
    {"POST", "/v1/responses/compact", route_response_compact, false},
    {"GET", "/v1/responses/{response_id}", route_response_get, false},
    {"DELETE", "/v1/responses/{response_id}", route_response_delete, false},
    {"POST", "/v1/responses/{response_id}/cancel", route_response_cancel, false},
    {"GET", "/v1/responses/{response_id}/input_items", route_response_input_items, false},
    {"POST", "/v1/conversations", route_conversation_create, false},
    {"GET", "/v1/conversations/{conversation_id}", route_conversation_get, false},
    {"POST", "/v1/conversations/{conversation_id}", route_conversation_update, false},
    {"DELETE", "/v1/conversations/{conversation_id}", route_conversation_delete, false},
    {"POST", "/v1/conversations/{conversation_id}/items", route_conversation_items_create, false},
    {"GET", "/v1/conversations/{conversation_id}/items", route_conversation_items_list, false},
    {"GET", "/v1/conversations/{conversation_id}/items/{item_id}", route_conversation_item_get,
     false},
    {"DELETE", "/v1/conversations/{conversation_id}/items/{item_id}",
     route_conversation_item_delete, false},
    {"POST", "/v1/files", route_file_create, false},
    {"GET", "/v1/files", route_file_list, false},
    {"GET", "/v1/files/{file_id}", route_file_get, false},
    {"DELETE", "/v1/files/{file_id}", route_file_delete, false},
    {"GET", "/v1/files/{file_id}/content", route_file_content, false},
    {"POST", "/v1/uploads", route_upload_create, false},
    {"POST", "/v1/uploads/{upload_id}/parts", route_upload_part, false},
    {"POST", "/v1/uploads/{upload_id}/complete", route_upload_complete, false},
    {"POST", "/v1/uploads/{upload_id}/cancel", route_upload_cancel, false},
    {"POST", "/v1/batches", route_batch_create, false},
    {"GET", "/v1/batches", route_batch_list, false},
    {"GET", "/v1/batches/{batch_id}", route_batch_get, false},
    {"POST", "/v1/batches/{batch_id}/cancel", route_batch_cancel, false},
    {"GET", "/v1/models", route_models, false},
    {"GET", "/v1/models/{model}", route_model, false},
    {"POST", "/v1/moderations", route_moderations, false},
    {"POST", "/v1/embeddings", route_embeddings, false},
    {"POST", "/v1/rerank", route_rerank, false},
    {"POST", "/rerank", route_rerank, false},
    {"POST", "/tokenize", route_tokenize, false},
    {"POST", "/detokenize", route_detokenize, false},
    {"GET", "/props", route_props, false},
    {"GET", "/health", route_health, true},
    {"GET", "/v1/health", route_health, true},
    {"GET", "/metrics", route_metrics, false},
    {"GET", "/", route_page, true},
    {"GET", "/page/{file}", route_page, true},
};

/* Every path of OpenAI's specification (API 2.3.0) with its methods. */
static const struct {
    const char *path, *methods;
} spec[] = {
    {"/assistants", "GET POST"},
    {"/assistants/{assistant_id}", "GET POST DELETE"},
    {"/audio/speech", "POST"},
    {"/audio/transcriptions", "POST"},
    {"/audio/translations", "POST"},
    {"/audio/voice_consents", "POST GET"},
    {"/audio/voice_consents/{consent_id}", "GET POST DELETE"},
    {"/audio/voices", "POST"},
    {"/batches", "POST GET"},
    {"/batches/{batch_id}", "GET"},
    {"/batches/{batch_id}/cancel", "POST"},
    {"/chat/completions", "GET POST"},
    {"/chat/completions/{completion_id}", "GET POST DELETE"},
    {"/chat/completions/{completion_id}/messages", "GET"},
    {"/chatkit/sessions", "POST"},
    {"/chatkit/sessions/{session_id}/cancel", "POST"},
    {"/chatkit/threads", "GET"},
    {"/chatkit/threads/{thread_id}", "GET DELETE"},
    {"/chatkit/threads/{thread_id}/items", "GET"},
    {"/completions", "POST"},
    {"/containers", "GET POST"},
    {"/containers/{container_id}", "GET DELETE"},
    {"/containers/{container_id}/files", "POST GET"},
    {"/containers/{container_id}/files/{file_id}", "GET DELETE"},
    {"/containers/{container_id}/files/{file_id}/content", "GET"},
    {"/content_provenance_checks", "POST"},
    {"/conversations", "POST"},
    {"/conversations/{conversation_id}", "GET DELETE POST"},
    {"/conversations/{conversation_id}/items", "POST GET"},
    {"/conversations/{conversation_id}/items/{item_id}", "GET DELETE"},
    {"/embeddings", "POST"},
    {"/evals", "GET POST"},
    {"/evals/{eval_id}", "GET POST DELETE"},
    {"/evals/{eval_id}/runs", "GET POST"},
    {"/evals/{eval_id}/runs/{run_id}", "GET POST DELETE"},
    {"/evals/{eval_id}/runs/{run_id}/output_items", "GET"},
    {"/evals/{eval_id}/runs/{run_id}/output_items/{output_item_id}", "GET"},
    {"/files", "GET POST"},
    {"/files/{file_id}", "DELETE GET"},
    {"/files/{file_id}/content", "GET"},
    {"/fine_tuning/alpha/graders/run", "POST"},
    {"/fine_tuning/alpha/graders/validate", "POST"},
    {"/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions", "GET POST"},
    {"/fine_tuning/checkpoints/{fine_tuned_model_checkpoint}/permissions/{permission_id}",
     "DELETE"},
    {"/fine_tuning/jobs", "POST GET"},
    {"/fine_tuning/jobs/{fine_tuning_job_id}", "GET"},
    {"/fine_tuning/jobs/{fine_tuning_job_id}/cancel", "POST"},
    {"/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints", "GET"},
    {"/fine_tuning/jobs/{fine_tuning_job_id}/events", "GET"},
    {"/fine_tuning/jobs/{fine_tuning_job_id}/pause", "POST"},
    {"/fine_tuning/jobs/{fine_tuning_job_id}/resume", "POST"},
    {"/images/edits", "POST"},
    {"/images/generations", "POST"},
    {"/images/variations", "POST"},
    {"/models", "GET"},
    {"/models/{model}", "GET DELETE"},
    {"/moderations", "POST"},
    {"/organization/admin_api_keys", "GET POST"},
    {"/organization/admin_api_keys/{key_id}", "GET DELETE"},
    {"/organization/audit_logs", "GET"},
    {"/organization/certificates", "GET POST"},
    {"/organization/certificates/activate", "POST"},
    {"/organization/certificates/deactivate", "POST"},
    {"/organization/certificates/{certificate_id}", "GET POST DELETE"},
    {"/organization/costs", "GET"},
    {"/organization/data_retention", "GET POST"},
    {"/organization/groups", "GET POST"},
    {"/organization/groups/{group_id}", "GET POST DELETE"},
    {"/organization/groups/{group_id}/roles", "GET POST"},
    {"/organization/groups/{group_id}/roles/{role_id}", "GET DELETE"},
    {"/organization/groups/{group_id}/users", "GET POST"},
    {"/organization/groups/{group_id}/users/{user_id}", "GET DELETE"},
    {"/organization/invites", "GET POST"},
    {"/organization/invites/{invite_id}", "GET DELETE"},
    {"/organization/projects", "GET POST"},
    {"/organization/projects/{project_id}", "GET POST"},
    {"/organization/projects/{project_id}/api_keys", "GET"},
    {"/organization/projects/{project_id}/api_keys/{api_key_id}", "GET DELETE"},
    {"/organization/projects/{project_id}/archive", "POST"},
    {"/organization/projects/{project_id}/certificates", "GET"},
    {"/organization/projects/{project_id}/certificates/activate", "POST"},
    {"/organization/projects/{project_id}/certificates/deactivate", "POST"},
    {"/organization/projects/{project_id}/data_retention", "GET POST"},
    {"/organization/projects/{project_id}/groups", "GET POST"},
    {"/organization/projects/{project_id}/groups/{group_id}", "GET DELETE"},
    {"/organization/projects/{project_id}/hosted_tool_permissions", "GET POST"},
    {"/organization/projects/{project_id}/model_permissions", "GET POST DELETE"},
    {"/organization/projects/{project_id}/rate_limits", "GET"},
    {"/organization/projects/{project_id}/rate_limits/{rate_limit_id}", "POST"},
    {"/organization/projects/{project_id}/service_accounts", "GET POST"},
    {"/organization/projects/{project_id}/service_accounts/{service_account_id}",
     "GET POST DELETE"},
    {"/organization/projects/{project_id}/service_accounts/{service_account_id}/api_keys", "POST"},
    {"/organization/projects/{project_id}/spend_alerts", "GET POST"},
    {"/organization/projects/{project_id}/spend_alerts/{alert_id}", "GET POST DELETE"},
    {"/organization/projects/{project_id}/spend_limit", "GET DELETE POST"},
    {"/organization/projects/{project_id}/users", "GET POST"},
    {"/organization/projects/{project_id}/users/{user_id}", "GET POST DELETE"},
    {"/organization/roles", "GET POST"},
    {"/organization/roles/{role_id}", "GET POST DELETE"},
    {"/organization/spend_alerts", "GET POST"},
    {"/organization/spend_alerts/{alert_id}", "GET POST DELETE"},
    {"/organization/spend_limit", "GET POST DELETE"},
    {"/organization/usage/audio_speeches", "GET"},
    {"/organization/usage/audio_transcriptions", "GET"},
    {"/organization/usage/code_interpreter_sessions", "GET"},
    {"/organization/usage/completions", "GET"},
    {"/organization/usage/embeddings", "GET"},
    {"/organization/usage/file_search_calls", "GET"},
    {"/organization/usage/images", "GET"},
    {"/organization/usage/moderations", "GET"},
    {"/organization/usage/vector_stores", "GET"},
    {"/organization/usage/web_search_calls", "GET"},
    {"/organization/users", "GET"},
    {"/organization/users/{user_id}", "GET POST DELETE"},
    {"/organization/users/{user_id}/roles", "GET POST"},
    {"/organization/users/{user_id}/roles/{role_id}", "GET DELETE"},
    {"/projects/{project_id}/groups/{group_id}/roles", "GET POST"},
    {"/projects/{project_id}/groups/{group_id}/roles/{role_id}", "GET DELETE"},
    {"/projects/{project_id}/roles", "GET POST"},
    {"/projects/{project_id}/roles/{role_id}", "GET POST DELETE"},
    {"/projects/{project_id}/users/{user_id}/roles", "GET POST"},
    {"/projects/{project_id}/users/{user_id}/roles/{role_id}", "GET DELETE"},
    {"/realtime/calls", "POST"},
    {"/realtime/calls/{call_id}/accept", "POST"},
    {"/realtime/calls/{call_id}/hangup", "POST"},
    {"/realtime/calls/{call_id}/refer", "POST"},
    {"/realtime/calls/{call_id}/reject", "POST"},
    {"/realtime/client_secrets", "POST"},
    {"/realtime/sessions", "POST"},
    {"/realtime/transcription_sessions", "POST"},
    {"/realtime/translations/client_secrets", "POST"},
    {"/responses", "POST"},
    {"/responses/compact", "POST"},
    {"/responses/input_tokens", "POST"},
    {"/responses/{response_id}", "GET DELETE"},
    {"/responses/{response_id}/cancel", "POST"},
    {"/responses/{response_id}/input_items", "GET"},
    {"/skills", "POST GET"},
    {"/skills/{skill_id}", "DELETE GET POST"},
    {"/skills/{skill_id}/content", "GET"},
    {"/skills/{skill_id}/versions", "POST GET"},
    {"/skills/{skill_id}/versions/{version}", "GET DELETE"},
    {"/skills/{skill_id}/versions/{version}/content", "GET"},
    {"/threads", "POST"},
    {"/threads/runs", "POST"},
    {"/threads/{thread_id}", "GET POST DELETE"},
    {"/threads/{thread_id}/messages", "GET POST"},
    {"/threads/{thread_id}/messages/{message_id}", "GET POST DELETE"},
    {"/threads/{thread_id}/runs", "GET POST"},
    {"/threads/{thread_id}/runs/{run_id}", "GET POST"},
    {"/threads/{thread_id}/runs/{run_id}/cancel", "POST"},
    {"/threads/{thread_id}/runs/{run_id}/steps", "GET"},
    {"/threads/{thread_id}/runs/{run_id}/steps/{step_id}", "GET"},
    {"/threads/{thread_id}/runs/{run_id}/submit_tool_outputs", "POST"},
    {"/uploads", "POST"},
    {"/uploads/{upload_id}/cancel", "POST"},
    {"/uploads/{upload_id}/complete", "POST"},
    {"/uploads/{upload_id}/parts", "POST"},
    {"/vector_stores", "GET POST"},
    {"/vector_stores/{vector_store_id}", "GET POST DELETE"},
    {"/vector_stores/{vector_store_id}/file_batches", "POST"},
    {"/vector_stores/{vector_store_id}/file_batches/{batch_id}", "GET"},
    {"/vector_stores/{vector_store_id}/file_batches/{batch_id}/cancel", "POST"},
    {"/vector_stores/{vector_store_id}/file_batches/{batch_id}/files", "GET"},
    {"/vector_stores/{vector_store_id}/files", "GET POST"},
    {"/vector_stores/{vector_store_id}/files/{file_id}", "GET DELETE POST"},
    {"/vector_stores/{vector_store_id}/files/{file_id}/content", "GET"},
    {"/vector_stores/{vector_store_id}/search", "POST"},
    {"/videos", "POST GET"},
    {"/videos/characters", "POST"},
    {"/videos/characters/{character_id}", "GET"},
    {"/videos/edits", "POST"},
    {"/videos/extensions", "POST"},
    {"/videos/{video_id}", "GET DELETE"},
    {"/videos/{video_id}/content", "GET"},
    {"/videos/{video_id}/remix", "POST"},
};

enum { N_HANDLERS = sizeof handlers / sizeof handlers[0], N_SPEC = sizeof spec / sizeof spec[0] };

/* Segments are compared one by one; {name} takes one non-empty segment, and as the last segment of a
 * model path everything left (model names hold slashes). */
static bool match(const char *pattern, str path, str *arg) {
    size_t at = 0;
    while (*pattern) {
        if (*pattern == '{') {
            bool rest = strcmp(pattern, "{model}") == 0;
            size_t n = 0;
            while (at + n < path.len && (rest || path.ptr[at + n] != '/')) n++;
            if (n == 0) return false;
            if (arg && !arg->ptr) *arg = str_make(path.ptr + at, n);
            at += n;
            pattern += strcspn(pattern, "}") + 1;
        } else if (at == path.len || *pattern++ != path.ptr[at++]) {
            return false;
        }
    }
    return at == path.len;
}

static bool has_method(const char *methods, const char *method) {
    size_t n = strlen(method);
    for (const char *p = methods; (p = strstr(p, method)); p += n)
        if ((p == methods || p[-1] == ' ') && (p[n] == ' ' || p[n] == 0)) return true;
    return false;
}

static void allow_method(char allow[40], const char *method) {
    if (strstr(allow, method)) return;
    size_t n = strlen(allow);
    snprintf(allow + n, 40 - n, "%s%s", n ? ", " : "", method);
}

static bool has_args(const char *path) {
    return strchr(path, '{') != NULL;
}

route_match route_find(const char *method, const char *path) {
    route_match m = {.found = ROUTE_UNKNOWN};
    if (strcmp(method, "HEAD") == 0) method = "GET";
    str whole = str_from(path), rest = whole;
    if (whole.len > 1 && path[whole.len - 1] == '/') whole.len--;
    /* The specification's paths begin behind the version; a slash at their end is a mistake there. */
    bool versioned = str_starts(rest, STR("/v1"));
    if (versioned) rest = str_make(rest.ptr + 3, rest.len - 3);
    /* An exact path wins over one with {…}: /files/{id} must not hide /files/search. */
    for (int args = 0; args < 2 && m.found == ROUTE_UNKNOWN; args++) {
        for (int i = 0; i < N_HANDLERS; i++) {
            str arg = {0};
            if (has_args(handlers[i].path) != args || !match(handlers[i].path, whole, &arg))
                continue;
            if (strcmp(handlers[i].method, method) == 0) {
                m.found = ROUTE_OK;
                m.handler = handlers[i].handler;
                m.open = handlers[i].open;
                m.arg = arg;
                return m;
            }
            m.found = ROUTE_WRONG_METHOD;
            allow_method(m.allow, handlers[i].method);
        }
        for (int i = 0; i < N_SPEC; i++) {
            if (has_args(spec[i].path) != args || !versioned || !match(spec[i].path, rest, NULL))
                continue;
            if (has_method(spec[i].methods, method)) {
                m.found = ROUTE_NOT_IMPLEMENTED;
                return m;
            }
            m.found = ROUTE_WRONG_METHOD;
            char copy[40], *at = copy, *word;
            snprintf(copy, sizeof copy, "%s", spec[i].methods);
            while ((word = strsep(&at, " "))) allow_method(m.allow, word);
        }
    }
    return m;
}

bool route_get_spec(size_t i, route_row *out) {
    if (i >= N_SPEC) return false;
    *out = (route_row){spec[i].path, spec[i].methods};
    return true;
}

bool route_get_handler(size_t i, route_row *out) {
    if (i >= N_HANDLERS) return false;
    *out = (route_row){handlers[i].path, handlers[i].method};
    return true;
}
