/* docs/API.md, from the tables that decide requests: what is written there is what the server does. */
#ifndef API_DOCS_H
#define API_DOCS_H

#include "base/buf.h"

void api_render_docs(buf *out);

#endif
