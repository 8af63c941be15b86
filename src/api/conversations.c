/* /v1/conversations: a row for the conversation, one for each item. */
#include <stdio.h>

#include "api/responses_impl.h"

enum { MAX_ITEMS_AT_ONCE = 20, MAX_LIST = 100 };

typedef struct conversation_params {
    json_t *items, *metadata;
} conversation_params;

static bool keep_items(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    (void)c;
    ((conversation_params *)out)->items = v;
    return field_array(v, path, MAX_ITEMS_AT_ONCE, err);
}

static bool keep_metadata(const field_ctx *c, json_t *v, const char *path, void *out, error *err) {
    ((conversation_params *)out)->metadata = v;
    return gen_decode_metadata(c, v, path, NULL, err);
}

static const field fields[] = {
    {.name = "items", .kind = FIELD_CUSTOM, .decode = keep_items, .doc = "up to 20 at a time"},
    {.name = "metadata", .kind = FIELD_CUSTOM, .decode = keep_metadata, .doc = "up to 16 pairs"},
};
const field_table conversation_fields = {fields, sizeof fields / sizeof fields[0]};

/* ── the object ── */

typedef struct change {
    api *a;
    str id, owner;
    int64_t created;
    json_t *metadata, *items; /* items: normal, or NULL */
    bool is_new, holds;
} change;

/* Before the answer is sent: whoever has it may go on. */
static void release(void *ctx) {
    change *k = ctx;
    if (k->holds) store_release(k->a->store, k->id);
    k->holds = false;
}

static void drop_json(void *v) {
    json_decref(v);
}

static void render(const change *k, buf *out) {
    json_out j = json_begin(out);
    json_obj(&j);
    json_kv_str(&j, "id", k->id);
    json_kv_cstr(&j, "object", "conversation");
    json_kv_int(&j, "created_at", k->created);
    json_key(&j, "metadata");
    if (k->metadata)
        json_put_value(&j, k->metadata);
    else {
        json_obj(&j);
        json_end_obj(&j);
    }
    json_end_obj(&j);
}

/* An item that is kept elsewhere already (a reference, an id the client made up) is copied under an id
 * of its own: rows belong to one conversation. */
bool conversation_put_items(store_tx *tx, str owner, str id, json_t *items, error *err) {
    for (size_t i = 0; i < json_array_size(items); i++) {
        json_t *item = json_array_get(items, i);
        if (store_has(tx, "", json_str(json_object_get(item, "id"))))
            json_object_set_new(item, "id", json_string(api_make_id("item_").text));
        buf data = {0};
        json_out j = json_begin(&data);
        json_put_value(&j, item);
        store_row row = {.kind = STR("item"),
                         .owner = owner,
                         .id = json_str(json_object_get(item, "id")),
                         .parent = id,
                         .created = api_now(),
                         .data = buf_str(&data)};
        bool ok = !data.failed && store_put(tx, &row, err);
        if (data.failed) error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the item.");
        buf_deinit(&data);
        if (!ok) return false;
    }
    return true;
}

static bool save(store_tx *tx, void *ctx, error *err) {
    change *k = ctx;
    buf data = {0};
    if (!k->is_new && !store_has(tx, "conversation", k->id))
        return error_set(err, ERR_NOT_FOUND, "id", "The conversation was deleted meanwhile.");
    render(k, &data);
    store_row row = {.kind = STR("conversation"),
                     .id = k->id,
                     .owner = k->owner,
                     .created = k->created,
                     .data = buf_str(&data)};
    bool ok =
        store_put(tx, &row, err) && conversation_put_items(tx, k->owner, k->id, k->items, err);
    buf_deinit(&data);
    return ok;
}

bool conversation_hold(api *a, str id, const char *param, error *err) {
    return store_hold(a->store, id) ||
           error_set(err, ERR_CONVERSATION_LOCKED, param,
                     "Another process is currently operating on this conversation. Please retry in "
                     "a few seconds.");
}

/* Its items change: not while an answer is made of them. */
static bool hold(change *k, http_req *r, error *err) {
    k->holds = conversation_hold(k->a, k->id, "id", err);
    if (k->holds) http_own(r, k, release);
    return k->holds;
}

static void say(api *a, http_req *r, void *ctx) {
    (void)a;
    buf body = {0};
    render(ctx, &body);
    http_reply(r, 200, "application/json", &body);
}

static bool load(api *a, http_req *r, str id, change *k, error *err) {
    store_row row;
    json_t *v;
    if (!api_get_row(a, r, "conversation", id, "conversation", &row, err) ||
        !(v = api_parse_row(r, row.data, err)))
        return false;
    *k = (change){.a = a,
                  .id = row.id,
                  .owner = row.owner,
                  .created = row.created,
                  .metadata = json_object_get(v, "metadata")};
    return true;
}

/* Items of the body, in normal form, owned by the request. */
static bool take_items(api *a, http_req *r, json_t *items, change *k, error *err) {
    if (!items) return true;
    api_id seed = api_make_id("");
    k->items = items_normalise(a, k->owner, items, "items", seed.text, true, err);
    if (k->items) http_own(r, k->items, drop_json);
    return k->items != NULL;
}

static change *begin(api *a, http_req *r, error *err) {
    change *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k) error_set(err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    return k && api_get_store(a, err) ? k : NULL;
}

void route_conversation_create(api *a, http_req *r, str arg) {
    (void)arg;
    error err = {0};
    conversation_params p = {0};
    field_ctx c = {.mem = http_arena(r)};
    json_t *body = NULL;
    change *k = begin(a, r, &err);
    /* The SDKs send no body at all for create(). */
    bool empty = str_trim(http_body(r)).len == 0;
    char *id = arena_dup(http_arena(r), str_from(api_make_id("conv_").text));
    if (!k || (!empty && (!(body = api_parse_body(r, &err)) ||
                          !fields_decode(&c, body, fields, conversation_fields.n, "", &p, &err)))) {
        http_reply_error(r, &err);
        return;
    }
    *k = (change){.a = a,
                  .id = str_from(id),
                  .owner = http_user(r),
                  .created = api_now(),
                  .metadata = p.metadata,
                  .is_new = true};
    if (take_items(a, r, p.items, k, &err))
        api_write(a, r, save, k, say);
    else
        http_reply_error(r, &err);
}

void route_conversation_get(api *a, http_req *r, str arg) {
    api_reply_row(a, r, "conversation", arg, "conversation");
}

void route_conversation_update(api *a, http_req *r, str arg) {
    error err = {0};
    json_t *body, *metadata;
    change *k = begin(a, r, &err);
    if (!k || !load(a, r, arg, k, &err) || !(body = api_parse_body(r, &err)) ||
        !(metadata = api_need_metadata(body, &err))) {
        http_reply_error(r, &err);
        return;
    }
    k->metadata = metadata;
    api_write(a, r, save, k, say);
}

void route_conversation_delete(api *a, http_req *r, str arg) {
    api_delete_row(a, r, "conversation", arg, "conversation", "conversation.deleted");
}

/* ── items ── */

static void say_items(api *a, http_req *r, void *ctx) {
    (void)a;
    change *k = ctx;
    list_query q = {.limit = MAX_ITEMS_AT_ONCE};
    release(k);
    list_reply_array(r, &q, k->items);
}

void route_conversation_items_create(api *a, http_req *r, str arg) {
    error err = {0};
    json_t *body, *items;
    change *k = begin(a, r, &err);
    if (!k || !load(a, r, arg, k, &err) || !(body = api_parse_body(r, &err)) ||
        !(items = field_need(body, "items", "", &err)) ||
        !field_array(items, "items", MAX_ITEMS_AT_ONCE, &err) ||
        !response_parse_include(r, NULL, &err) || !take_items(a, r, items, k, &err) ||
        !hold(k, r, &err)) {
        http_reply_error(r, &err);
        return;
    }
    api_write(a, r, save, k, say_items);
}

void route_conversation_items_list(api *a, http_req *r, str arg) {
    error err = {0};
    list_query q;
    store_row row;
    list_rows rows = {.kind = "item", .parent = arg};
    if (api_get_row(a, r, "conversation", arg, "conversation", &row, &err) &&
        list_parse(r, 20, MAX_LIST, true, &q, &err) && response_parse_include(r, NULL, &err))
        list_reply_rows(a, r, &q, &rows);
    else
        http_reply_error(r, &err);
}

/* The last segment of the path, which the route's one argument does not hold. */
static bool get_item(api *a, http_req *r, str conversation, store_row *row, error *err) {
    const char *last = strrchr(http_path(r), '/');
    str id = str_from(last ? last + 1 : "");
    if (!api_get_row(a, r, "item", id, "item", row, err)) return false;
    return str_eq(row->parent, conversation) ||
           error_set(err, ERR_NOT_FOUND, "id", "No item found with id '%.*s'.",
                     (int)(id.len > 100 ? 100 : id.len), id.ptr);
}

void route_conversation_item_get(api *a, http_req *r, str arg) {
    error err = {0};
    store_row row;
    if (response_parse_include(r, NULL, &err) && get_item(a, r, arg, &row, &err))
        api_reply_data(r, row.data);
    else
        http_reply_error(r, &err);
}

typedef struct removal {
    change of;
    str id;
} removal;

static bool delete_item(store_tx *tx, void *ctx, error *err) {
    return store_delete(tx, "item", ((removal *)ctx)->id, NULL, err);
}

static void say_conversation(api *a, http_req *r, void *ctx) {
    release(&((removal *)ctx)->of);
    /* The first argument again: the conversation is what the answer shows. */
    str path = str_from(http_path(r));
    str rest = str_make(path.ptr + 18, path.len - 18); /* behind /v1/conversations/ */
    ptrdiff_t end = str_find(rest, STR("/"), 0);
    route_conversation_get(a, r, str_make(rest.ptr, end < 0 ? rest.len : (size_t)end));
}

void route_conversation_item_delete(api *a, http_req *r, str arg) {
    error err = {0};
    store_row row;
    removal *k = arena_alloc(http_arena(r), sizeof *k);
    if (!k) error_set(&err, ERR_NO_MEMORY, NULL, "There is no memory for the request.");
    if (!k || !get_item(a, r, arg, &row, &err)) {
        http_reply_error(r, &err);
        return;
    }
    *k = (removal){.of = {.a = a, .id = row.parent}, .id = row.id};
    if (hold(&k->of, r, &err))
        api_write(a, r, delete_item, k, say_conversation);
    else
        http_reply_error(r, &err);
}
