/* Builders, patterns and schemas against texts that do and do not belong. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "sample/grammar.h"

static void check_text(const grammar *g, const char *text, bool want) {
    if (grammar_accepts(g, str_from(text)) != want)
        fail_msg("%s should be %s", text, want ? "accepted" : "refused");
}

static void check_schema(const char *schema, const char *const *good, const char *const *bad) {
    json_t *s = json_loads(schema, JSON_DECODE_ANY, NULL);
    assert_non_null(s);
    error err = {0};
    grammar *g = grammar_from_schema(s, NULL, &err);
    if (!g) fail_msg("%s: %s", schema, err.message);
    for (; *good; good++) check_text(g, *good, true);
    for (; *bad; bad++) check_text(g, *bad, false);
    grammar_unref(g);
    json_decref(s);
}
#define LIST(...) ((const char *const[]){__VA_ARGS__, NULL})

static void check_refused(const char *schema, error_code code, const char *param) {
    json_t *s = json_loads(schema, JSON_DECODE_ANY, NULL);
    assert_non_null(s);
    error err = {0};
    grammar_schema_options o = {.param = "schema"};
    assert_null(grammar_from_schema(s, &o, &err));
    assert_int_equal(err.code, code);
    assert_string_equal(err.param, param);
    json_decref(s);
}

static void test_builder(void **state) {
    (void)state;
    grammar_builder *b = grammar_builder_new();
    grammar_node word = grammar_alt(
        b, (grammar_node[]){grammar_bytes(b, STR("yes")), grammar_bytes(b, STR("no"))}, 2);
    grammar_node item = grammar_seq(b, (grammar_node[]){word, grammar_bytes(b, STR(";"))}, 2);
    grammar_node text = grammar_text(b, (str[]){STR("</t>")}, 1);
    grammar_node root = grammar_seq(
        b, (grammar_node[]){grammar_repeat(b, item, 1, 3), text, grammar_bytes(b, STR("</t>"))}, 3);
    error err = {0};
    grammar *g = grammar_build(b, root, &err);
    grammar_builder_free(b);
    assert_non_null(g);
    check_text(g, "yes;</t>", true);
    check_text(g, "no;yes;no;any < text </ t></t>", true);
    check_text(g, "no;\xF0\x9F\xA6\x9C</t>", true);
    check_text(g, "</t>", false);
    check_text(g, "yes;</t></t>", false);
    check_text(g, "maybe;</t>", false);
    check_text(g, "no;\xFF</t>", false);
    grammar_unref(g);
}

static void test_recursion(void **state) {
    (void)state;
    grammar_builder *b = grammar_builder_new();
    grammar_node sum = grammar_declare(b);
    grammar_node digit = grammar_regex(b, STR("[0-9]"), NULL);
    grammar_node group = grammar_seq(
        b, (grammar_node[]){grammar_bytes(b, STR("(")), sum, grammar_bytes(b, STR(")"))}, 3);
    grammar_node atom = grammar_alt(b, (grammar_node[]){digit, group}, 2);
    grammar_node more = grammar_seq(b, (grammar_node[]){sum, grammar_bytes(b, STR("+")), atom}, 3);
    grammar_define(b, sum, grammar_alt(b, (grammar_node[]){more, atom}, 2));
    error err = {0};
    grammar *g = grammar_build(b, sum, &err);
    grammar_builder_free(b);
    if (!g) fail_msg("%s", err.message);
    check_text(g, "1", true);
    check_text(g, "1+2+(3+4)+5", true);
    check_text(g, "((((7))))", true);
    check_text(g, "1+", false);
    check_text(g, "(1", false);
    grammar_unref(g);
}

static void test_patterns(void **state) {
    (void)state;
    static const struct {
        const char *pattern, *good, *bad;
    } CASES[] = {
        {"a|bc", "bc", "b"},
        {"[^a-c]+", "xyz\xC3\xA9", "xaz"},
        {"\\d{2,3}", "123", "1"},
        {"(?:ab)*", "abab", "aba"},
        {"\\u00e9.", "\xC3\xA9x", "ex"},
        {"(?=a.)[a-z]+", "abc", "bcd"},
        {"(?!ab)[a-z]+", "acd", "abc"},
        {"x{0}y", "y", "xy"},
        {"[\\w.-]+", "a_1.-", "a b"},
        {"a{1,2}?b", "aab", "aaab"},
        {"\\p{Lu}+", "A\xC3\x89", "Aa"},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        error err = {0};
        grammar *g = grammar_from_regex(str_from(CASES[i].pattern), "grammar", &err);
        if (!g) fail_msg("%s: %s", CASES[i].pattern, err.message);
        check_text(g, CASES[i].good, true);
        check_text(g, CASES[i].bad, false);
        grammar_unref(g);
    }
    static const struct {
        const char *pattern;
        error_code code;
    } BAD[] = {{"(a", ERR_INVALID_VALUE},          {"a)", ERR_INVALID_VALUE},
               {"*", ERR_INVALID_VALUE},           {"[b-a]", ERR_INVALID_VALUE},
               {"(a)\\1", ERR_UNSUPPORTED_VALUE},  {"\\bx", ERR_UNSUPPORTED_VALUE},
               {"(?<=a)b", ERR_UNSUPPORTED_VALUE}, {"a{3,2}", ERR_INVALID_VALUE}};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++) {
        error err = {0};
        assert_null(grammar_from_regex(str_from(BAD[i].pattern), "grammar", &err));
        assert_int_equal(err.code, BAD[i].code);
        assert_string_equal(err.param, "grammar");
    }
}

static void test_schemas(void **state) {
    (void)state;
    check_schema("{\"type\":\"integer\"}", LIST("1", "-20", "1.0", "1e2", "120e-1", "0", "-0"),
                 LIST("1.5", "01", "1e-1", "\"1\"", "", "-"));
    check_schema("{\"minimum\":1.5,\"exclusiveMaximum\":30,\"multipleOf\":0.5}",
                 LIST("1.5", "2", "29.50", "0.2e1", "null"), LIST("1", "30", "1.7", "3e1"));
    check_schema("{\"type\":\"string\",\"minLength\":2,\"maxLength\":3}",
                 LIST("\"ab\"", "\"\\u00e9\\n\\\"\"", "\"\xF0\x9F\xA6\x9C\\ud83e\\udd9c\""),
                 LIST("\"a\"", "\"abcd\"", "\"\\ud83e\"", "\"a\nb\"", "\"\\ud83e\\udd9c\""));
    check_schema("{\"enum\":[\"a\",1,null,{\"x\":[true]}]}",
                 LIST("\"\\u0061\"", "1.0", "null", "{ \"x\" : [ true ] }"),
                 LIST("\"b\"", "2", "{}", "{\"x\":[true,true]}", "false"));
    check_schema("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"integer\"},\"b\":{}},"
                 "\"required\":[\"a\"]}",
                 LIST("{\"a\":1}", "{\"b\":[],\"a\":2,\"c\":null}", "{\"c\":1,\n\"\\u0061\":1}"),
                 LIST("{}", "{\"a\":1,\"a\":1}", "{\"a\":\"1\"}", "{\"c\":1,\"c\":1,\"a\":1}",
                      "{\"a\":1,}", "[]"));
    check_schema(
        "{\"patternProperties\":{\"^x\":{\"type\":\"null\"}},\"additionalProperties\":false,"
        "\"maxProperties\":2,\"type\":\"object\"}",
        LIST("{}", "{\"x1\":null,\"xa\":null}"),
        LIST("{\"y\":null}", "{\"x\":1}", "{\"x1\":null,\"x2\":null,\"x3\":null}"));
    check_schema("{\"$ref\":\"#/$defs/n\",\"$defs\":{\"n\":{\"type\":\"array\",\"items\":{\"$ref\":"
                 "\"#/$defs/n\"},\"maxItems\":2}}}",
                 LIST("[]", "[[],[[]]]"), LIST("[[],[],[]]", "[1]", "[["));
    check_schema(
        "{\"anyOf\":[{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"a\"}},"
        "\"required\":[\"k\"]},{\"type\":\"object\",\"properties\":{\"k\":{\"const\":\"b\"},"
        "\"n\":{\"type\":\"null\"}},\"required\":[\"k\",\"n\"]}]}",
        LIST("{\"k\":\"a\"}", "{\"n\":null,\"k\":\"b\"}", "{\"n\":1,\"k\":\"a\"}"),
        LIST("{\"k\":\"b\"}", "{\"n\":1,\"k\":\"b\"}"));
    check_schema("{\"contains\":{\"type\":\"integer\"},\"minContains\":2,\"maxContains\":2,"
                 "\"type\":\"array\"}",
                 LIST("[1,2]", "[\"a\",1,null,2.0]"), LIST("[1]", "[1,2,3]", "[]"));
    check_schema("{\"not\":{\"type\":\"string\"}}", LIST("1", "{}"), LIST("\"\""));
    check_schema("{\"oneOf\":[{\"minimum\":5},{\"type\":\"integer\"}]}", LIST("5.5", "4", "\"a\""),
                 LIST("6", "4.5"));
    check_schema(
        "{\"if\":{\"required\":[\"a\"]},\"then\":{\"required\":[\"b\"]},\"type\":\"object\"}",
        LIST("{}", "{\"a\":1,\"b\":1}", "{\"b\":1}"), LIST("{\"a\":1}", "{\"a\":1,\"c\":1}"));
    check_schema("{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"uniqueItems\":true}",
                 LIST("[\"a\",\"b\"]", "[]"), LIST("[\"a\",\"\\u0061\"]"));
    check_schema("{\"format\":\"date\"}", LIST("\"2024-02-29\"", "3"),
                 LIST("\"2023-02-29\"", "\"2024-11-31\""));
}

/* Is the text taken by one who writes, not only by one who reads? */
static bool is_written(const grammar *g, const char *text) {
    matcher *m = matcher_new(g, NULL, (matcher_options){0}, NULL);
    bool ok = matcher_push(m, str_from(text)) == strlen(text) && matcher_can_end(m);
    matcher_free(m);
    return ok;
}

/* Properties are written in the schema's order, which is not the alphabet's, and read in any. */
static void test_order_of_properties(void **state) {
    (void)state;
    static const struct {
        const char *schema, *in_order[4], *out_of_order[4];
        bool lenient;
    } rows[] = {
        {"{\"properties\":{\"z\":{},\"a\":{},\"m\":{}},\"required\":[\"m\",\"a\",\"z\"],\"additionalProperties\":false}",
         {"{\"z\":1,\"a\":2,\"m\":3}"},
         {"{\"a\":2,\"z\":1,\"m\":3}", "{\"z\":1,\"m\":3,\"a\":2}"},
         false},
        /* what may be missing is passed over; behind it it comes no more */
        {"{\"properties\":{\"z\":{},\"a\":{},\"m\":{}},\"required\":[\"a\"],\"additionalProperties\":false}",
         {"{\"a\":2}", "{\"z\":1,\"a\":2}", "{\"a\":2,\"m\":3}"},
         {"{\"a\":2,\"z\":1}", "{\"m\":3,\"a\":2}"},
         false},
        /* others have no place of their own */
        {"{\"properties\":{\"z\":{},\"a\":{}},\"required\":[\"z\"]}",
         {"{\"x\":0,\"z\":1,\"y\":0,\"a\":2,\"w\":0}", "{\"z\":1,\"w\":0}"},
         {"{\"a\":2,\"z\":1}"},
         false},
        {"{\"allOf\":[{\"properties\":{\"n\":{},\"b\":{}}},{\"properties\":{\"a\":{},\"b\":{}}}],\"required\":[\"y\",\"n\"]}",
         {"{\"n\":1,\"b\":1,\"a\":1,\"y\":1}", "{\"n\":1,\"y\":1}"},
         {"{\"n\":1,\"a\":1,\"b\":1,\"y\":1}", "{\"y\":1,\"n\":1}"},
         false},
        /* more properties than are required: any of them may make up the number, in any order */
        {"{\"properties\":{\"z\":{},\"a\":{}},\"additionalProperties\":false,\"minProperties\":2}",
         {"{\"z\":1,\"a\":2}", "{\"a\":2,\"z\":1}"},
         {NULL},
         false},
        /* leniently nothing is lost */
        {"{\"properties\":{\"z\":{},\"a\":{}},\"required\":[\"a\"]}",
         {"{\"a\":2}", "{\"z\":1,\"a\":2}", "{\"a\":2,\"z\":1}"},
         {NULL},
         true},
        {"{\"properties\":{\"z\":{},\"a\":{}},\"required\":[\"a\",\"z\"]}",
         {"{\"z\":1,\"a\":2}"},
         {"{\"a\":2,\"z\":1}"},
         true},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        json_t *schema = json_loads(rows[i].schema, 0, NULL);
        grammar_schema_options o = {.lenient = rows[i].lenient};
        grammar *g = grammar_from_schema(schema, &o, NULL);
        assert_non_null(g);
        for (int k = 0; k < 4 && rows[i].in_order[k]; k++)
            if (!is_written(g, rows[i].in_order[k]) ||
                !grammar_accepts(g, str_from(rows[i].in_order[k])))
                fail_msg("%s: %s", rows[i].schema, rows[i].in_order[k]);
        for (int k = 0; k < 4 && rows[i].out_of_order[k]; k++)
            if (is_written(g, rows[i].out_of_order[k]) ||
                !grammar_accepts(g, str_from(rows[i].out_of_order[k])))
                fail_msg("%s: %s", rows[i].schema, rows[i].out_of_order[k]);
        grammar_unref(g);
        json_decref(schema);
    }
}

/* A format, a length and a pattern in one string: counted side by side, not multiplied. */
static void test_formats_with_lengths(void **state) {
    (void)state;
    static const char *const FORMATS[] = {
        "date",        "time",          "date-time",    "duration",
        "email",       "idn-email",     "hostname",     "ipv4",
        "ipv6",        "uuid",          "uri",          "uri-reference",
        "iri",         "iri-reference", "json-pointer", "relative-json-pointer",
        "uri-template"};
    static const char *const BESIDE[] = {"\"minLength\":4", "\"maxLength\":255",
                                         "\"minLength\":2,\"maxLength\":2048",
                                         "\"maxLength\":64,\"pattern\":\"^.{1,253}$\""};
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++)
        for (size_t k = 0; k < sizeof BESIDE / sizeof *BESIDE; k++) {
            char schema[200];
            snprintf(schema, sizeof schema, "{\"type\":\"string\",\"format\":\"%s\",%s}",
                     FORMATS[i], BESIDE[k]);
            check_schema(schema, LIST(NULL), LIST("7"));
        }
    check_schema("{\"type\":\"string\",\"format\":\"hostname\",\"maxLength\":11}",
                 LIST("\"a\"", "\"example.com\"", "\"a-b.c\""),
                 LIST("\"examples.com\"", "\"a.xn--b\"", "\"-a\"", "\"a..b\"", "\"a.\""));
    char long_host[300] = "\"";
    for (int i = 0; i < 126; i++) strcat(long_host, "a.");
    strcat(long_host, "b\""); /* 253 characters */
    check_schema("{\"type\":\"string\",\"format\":\"hostname\"}", LIST(long_host), LIST("\"a_b\""));
    long_host[strlen(long_host) - 1] = 0;
    strcat(long_host, "b\"");
    check_schema("{\"type\":\"string\",\"format\":\"hostname\"}", LIST("\"b\""), LIST(long_host));
    check_schema("{\"type\":\"string\",\"format\":\"email\",\"minLength\":8,\"maxLength\":10}",
                 LIST("\"ab@cd.ef\"", "\"abcd@ef.gh\""), LIST("\"a@cd.ef\"", "\"abcde@ef.gh\""));
    check_schema("{\"type\":\"string\",\"format\":\"ipv4\",\"maxLength\":8,\"pattern\":\"^1\"}",
                 LIST("\"1.2.3.4\"", "\"10.2.3.4\""), LIST("\"2.2.3.4\"", "\"10.20.3.4\""));
    check_schema("{\"type\":\"string\",\"pattern\":\"^.{2,3}$\"}",
                 LIST("\"ab\"", "\"\u00e4\u00e4b\""), LIST("\"a\"", "\"abcd\"", "\"a\\nb\""));
    check_schema("{\"type\":\"string\",\"pattern\":\"^.{2}$\"}", LIST("\"ab\""),
                 LIST("\"a\"", "\"abc\""));
    check_schema("{\"type\":\"string\",\"pattern\":\"^.{2,}$\"}", LIST("\"ab\"", "\"abc\""),
                 LIST("\"a\""));
    /* Of how an expression is nested nothing takes for ever. */
    check_schema("{\"type\":\"string\",\"pattern\":\"^(((((((((a+)+)+)+)+)+b?)+c?)+d?)+e?)+$\"}",
                 LIST("\"a\"", "\"aabacade\""), LIST("\"\"", "\"b\""));
    /* What is too large all the same says where. */
    check_refused("{\"properties\":{\"h\":{\"not\":{\"format\":\"hostname\"}}}}",
                  ERR_UNSUPPORTED_VALUE, "schema.properties.h");
    check_refused("{\"propertyNames\":{\"format\":\"hostname\"}}", ERR_UNSUPPORTED_VALUE,
                  "schema.propertyNames");
    check_refused("{\"items\":{\"pattern\":\"^(([a-z]{1,60}x){1,60}y){1,60}$\"}}",
                  ERR_UNSUPPORTED_VALUE, "schema.items.pattern");
    check_refused("{\"items\":{\"format\":\"uri\",\"maxLength\":1000000}}", ERR_UNSUPPORTED_VALUE,
                  "schema.items.format");
}

static void test_schema_errors(void **state) {
    (void)state;
    check_refused("{\"type\":\"strin\"}", ERR_INVALID_VALUE, "schema.type");
    check_refused("{\"properties\":{\"a\":{\"minLength\":-1}}}", ERR_INVALID_VALUE,
                  "schema.properties.a.minLength");
    check_refused("{\"$ref\":\"#/nowhere\"}", ERR_INVALID_VALUE, "schema.$ref");
    check_refused("{\"$ref\":\"#\"}", ERR_INVALID_VALUE, "schema.$ref");
    check_refused("{\"pattern\":\"(\"}", ERR_INVALID_VALUE, "schema.pattern");
    check_refused("{\"pattern\":\"(a)\\\\1\"}", ERR_UNSUPPORTED_VALUE, "schema.pattern");
    check_refused("{\"type\":\"integer\",\"minimum\":2,\"maximum\":1}", ERR_INVALID_VALUE,
                  "schema");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_builder),
        cmocka_unit_test(test_recursion),
        cmocka_unit_test(test_patterns),
        cmocka_unit_test(test_schemas),
        cmocka_unit_test(test_schema_errors),
        cmocka_unit_test(test_order_of_properties),
        cmocka_unit_test(test_formats_with_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
