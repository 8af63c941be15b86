/* Who is a client, and whether there is room for what it asks, before anything is spent on it.
 *
 * A client is an API key together with the address that uses it (of IPv6 the network of 64 bits): people
 * who share a key have a share each, and another key from the same machine is somebody else. Without
 * keys oriel listens on loopback only, where everybody has the same address and a connection is nobody:
 * there places are given first come, first served. What runs without a connection (a batch's lines,
 * a response that goes on in the background) is its key's name.
 *
 * A client's share of the places, and who is next, are engine/share.h's. Here a request that would be
 * refused there is refused when its last byte came: its body is not decompressed, not parsed and
 * not tokenized. The answer is a 429 `rate_limit_exceeded` with Retry-After, and the connection stays.
 */
#ifndef API_FAIR_H
#define API_FAIR_H

#include "api/serve.h"

/* The client that comes with this key (its name; its secret where it has none). */
uint64_t fair_make_client(const http_req *r, const api_key *k);
/* Whose request this is; 0 = nobody in particular. */
uint64_t fair_get_client(const http_req *r);
/* The same for work without a request, by its owner's name. */
uint64_t fair_get_owner(str name);

/* Is there a place for what this route would start? True for routes that start nothing. */
bool fair_has_place(api *a, const http_req *r, error *err);

#endif
