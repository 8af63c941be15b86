/* GET / and /page/{file}: the chat page. The files of src/page are linked into
 * the program by the assembler and served as they lie there; what they do, they
 * do in the browser, through the same API as any other client.
 *
 * They hold no secret and need no key (the page asks for it). The policy they
 * come with lets the browser run and fetch nothing but what this server serves,
 * and keeps scripts from turning text into markup. */
#include <stdio.h>

#include "api/serve.h"
#include "base/hash.h"

#define EMBED(symbol, file)                   \
    __asm__(".section .rodata\n"              \
            ".globl page_" symbol "\n"        \
            "page_" symbol ":\n"              \
            ".incbin \"src/page/" file "\"\n" \
            ".globl page_" symbol "_end\n"    \
            "page_" symbol "_end:\n"          \
            ".byte 0\n"                       \
            ".previous\n")

EMBED("index", "index.html");
EMBED("style", "page.css");
EMBED("icon", "icon.svg");
EMBED("app", "app.js");
EMBED("client", "client.js");
EMBED("markdown", "markdown.js");
EMBED("tools", "tools.js");
EMBED("store", "store.js");
EMBED("turn", "turn.js");
EMBED("view", "view.js");

extern const char page_index[], page_index_end[], page_style[], page_style_end[], page_icon[],
    page_icon_end[], page_app[], page_app_end[], page_client[], page_client_end[], page_markdown[],
    page_markdown_end[], page_tools[], page_tools_end[], page_store[], page_store_end[],
    page_turn[], page_turn_end[], page_view[], page_view_end[];

static const char SCRIPT[] = "text/javascript; charset=utf-8";

static const struct asset {
    const char *name, *type, *begin, *end; /* name: below /page/; the first one is / itself */
} assets[] = {
    {"", "text/html; charset=utf-8", page_index, page_index_end},
    {"page.css", "text/css; charset=utf-8", page_style, page_style_end},
    {"icon.svg", "image/svg+xml", page_icon, page_icon_end},
    {"app.js", SCRIPT, page_app, page_app_end},
    {"client.js", SCRIPT, page_client, page_client_end},
    {"markdown.js", SCRIPT, page_markdown, page_markdown_end},
    {"tools.js", SCRIPT, page_tools, page_tools_end},
    {"store.js", SCRIPT, page_store, page_store_end},
    {"turn.js", SCRIPT, page_turn, page_turn_end},
    {"view.js", SCRIPT, page_view, page_view_end},
};

static const char POLICY[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'";

static void reply_asset(http_req *r, const struct asset *it) {
    size_t len = (size_t)(it->end - it->begin);
    char tag[24];
    snprintf(tag, sizeof tag, "\"%016llx\"", (unsigned long long)hash_bytes(it->begin, len, 0));
    http_add_header(r, "ETag", tag);
    http_add_header(r, "Cache-Control", "no-cache"); /* kept, and asked about each time */
    http_add_header(r, "Content-Security-Policy", POLICY);
    http_add_header(r, "X-Content-Type-Options", "nosniff");
    http_add_header(r, "Referrer-Policy", "no-referrer");
    http_add_header(r, "Cross-Origin-Resource-Policy", "same-origin");
    const char *known = http_header(r, "If-None-Match");
    bool is_known = known && (strstr(known, tag) || str_is(str_trim(str_from(known)), "*"));
    buf body = {0};
    if (is_known)
        buf_reserve(&body, 0);
    else
        buf_append(&body, it->begin, len);
    http_reply(r, is_known ? 304 : 200, is_known ? NULL : it->type, &body);
}

void route_page(api *a, http_req *r, str name) {
    for (size_t i = 0; a->o.page && i < sizeof assets / sizeof assets[0]; i++)
        if (str_is(name, assets[i].name)) {
            reply_asset(r, &assets[i]);
            return;
        }
    if (!name.len) { /* --no-page: who is there, in plain words */
        route_root(a, r, name);
        return;
    }
    error err = {0};
    error_set(&err, ERR_UNKNOWN_URL, NULL, "Invalid URL (%.16s %.200s).", http_method(r),
              http_path(r));
    http_reply_error(r, &err);
}
