#include "sample/grammar.h"

/* The machine behind the contract is being moved in; until it is there every way to a grammar says so. */
static grammar_node refuse(grammar_builder *b) {
    (void)b;
    return -1;
}
grammar *grammar_ref(const grammar *g) {
    return (grammar *)g;
}
void grammar_unref(const grammar *g) {
    (void)g;
}
uint64_t grammar_hash(const grammar *g) {
    (void)g;
    return 0;
}
grammar_builder *grammar_builder_new(void) {
    return NULL;
}
void grammar_builder_free(grammar_builder *b) {
    (void)b;
}
grammar *grammar_build(grammar_builder *b, grammar_node root, error *err) {
    (void)b, (void)root;
    error_set(err, ERR_NOT_IMPLEMENTED, NULL, "Constrained answers are not implemented yet.");
    return NULL;
}
bool grammar_builder_failed(const grammar_builder *b) {
    (void)b;
    return true;
}
grammar_node grammar_bytes(grammar_builder *b, str literal) {
    (void)literal;
    return refuse(b);
}
grammar_node grammar_set(grammar_builder *b, const uint64_t set[4]) {
    (void)set;
    return refuse(b);
}
grammar_node grammar_token(grammar_builder *b, int32_t id) {
    (void)id;
    return refuse(b);
}
grammar_node grammar_seq(grammar_builder *b, const grammar_node *items, size_t n) {
    (void)items, (void)n;
    return refuse(b);
}
grammar_node grammar_alt(grammar_builder *b, const grammar_node *items, size_t n) {
    (void)items, (void)n;
    return refuse(b);
}
grammar_node grammar_repeat(grammar_builder *b, grammar_node item, int32_t min, int32_t max) {
    (void)item, (void)min, (void)max;
    return refuse(b);
}
grammar_node grammar_text(grammar_builder *b, const str *markers, size_t n) {
    (void)markers, (void)n;
    return refuse(b);
}
grammar_node grammar_declare(grammar_builder *b) {
    return refuse(b);
}
void grammar_define(grammar_builder *b, grammar_node declared, grammar_node body) {
    (void)b, (void)declared, (void)body;
}
grammar_node grammar_regex(grammar_builder *b, str pattern, const char *param) {
    (void)pattern, (void)param;
    return refuse(b);
}
grammar_node grammar_gbnf(grammar_builder *b, str source, const char *param) {
    (void)source, (void)param;
    return refuse(b);
}
grammar_node grammar_lark(grammar_builder *b, str source, const char *param) {
    (void)source, (void)param;
    return refuse(b);
}
grammar_node grammar_schema(grammar_builder *b, json_t *schema, const grammar_schema_options *o) {
    (void)schema, (void)o;
    return refuse(b);
}
grammar_node grammar_json_object(grammar_builder *b) {
    return refuse(b);
}
grammar_node grammar_json_value(grammar_builder *b) {
    return refuse(b);
}
grammar *grammar_from_schema(json_t *schema, const grammar_schema_options *o, error *err) {
    (void)schema, (void)o;
    return grammar_build(NULL, -1, err);
}
