/* How much of a prompt leads the conversation — system, developer and tool
 * definitions — and should stay visible however long it gets. */
#include <stdlib.h>
#include <string.h>

#include "chat/chat_impl.h"

static bool is_instructions(const chat_message *m) {
    return m->role == CHAT_SYSTEM || m->role == CHAT_DEVELOPER;
}

/* Do the ids from i on spell this word? */
static bool spells(const tok *t, const tok_ids *ids, size_t i, str word) {
    while (word.len && i < ids->n) {
        str piece = tok_piece(t, ids->ids[i++]);
        if (!piece.len || !str_starts(word, piece)) return false;
        word = (str){word.ptr + piece.len, word.len - piece.len};
    }
    return !word.len;
}

/* Up to the first message of another role. */
static size_t find_in_harmony(const harmony *h, const tok_ids *prompt) {
    for (size_t i = 0; i < prompt->n; i++)
        if (prompt->ids[i] == h->start && !spells(h->t, prompt, i + 1, STR("system")) &&
            !spells(h->t, prompt, i + 1, STR("developer")))
            return i;
    return 0;
}

/* What the prompt has in common with that of another conversation that is led by the same. */
static size_t find_in_template(const chat *c, const chat_input *in, const tok_ids *prompt) {
    size_t n_lead = 0, n = 0;
    while (n_lead < in->n_messages && is_instructions(&in->messages[n_lead])) n_lead++;
    if (n_lead == 0 && in->n_tools == 0) return 0;
    chat_message *messages = calloc(n_lead + 1, sizeof *messages);
    if (!messages) return 0;
    memcpy(messages, in->messages, n_lead * sizeof *messages);
    messages[n_lead] =
        (chat_message){.role = CHAT_USER, .content = str_from("\xE2\x80\xA6"), .has_content = true};
    chat_input other = *in;
    other.messages = messages;
    other.n_messages = n_lead + 1;
    tok_ids ids = {0};
    error unused = {0};
    if (chat_render(c, &other, &ids, NULL, &unused) && !ids.failed)
        while (n < ids.n && n < prompt->n && ids.ids[n] == prompt->ids[n]) n++;
    tok_ids_deinit(&ids);
    free(messages);
    return n;
}

size_t turn_find_pins(const chat *c, const chat_input *in, const tok_ids *prompt) {
    if (!in || engine_get_config(c->e)->max_pinned == 0) return 0;
    return c->template     ? find_in_template(c, in, prompt)
           : c->is_harmony ? find_in_harmony(&c->harmony, prompt)
                           : 0;
}
