/* The formats of JSON Schema as patterns. Sources: RFC 3339 (dates, times,
 * durations), 5321 (mail), 1123 (hosts), 3986/3987 (URI, IRI), 4291 (IPv6), 4122
 * (UUID), 6570 (templates), 6901 (JSON pointers).
 *
 * Leap seconds: 23:59:60 in UTC only. Names not listed are annotations.
 */
#include "sample/schema_impl.h"

#define DATE                                                                                  \
    "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|" \
    "02-(0[1-9]|1[0-9]|2[0-8]))|([0-9]{2}(0[48]|[2468][048]|[13579][26])|"                    \
    "([02468][048]|[13579][26])00)-02-29)"
#define OFFSET "([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
#define TIME                                                       \
    "(([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]+)?" OFFSET \
    "|23:59:60(\\.[0-9]+)?([Zz]|[+-]00:00))"
#define LABEL "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
#define HOST  LABEL "(\\." LABEL ")*"
/* Whether a label that says "xn--" is one takes the tables of IDNA: an answer has none. */
#define NO_A_LABEL "(?!(.*\\.)?[Xx][Nn]--)"
#define OCTET      "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
#define IPV4       OCTET "\\." OCTET "\\." OCTET "\\." OCTET
#define H16        "[0-9A-Fa-f]{1,4}"
#define LS32       "(" H16 ":" H16 "|" IPV4 ")"
#define IPV6                                                                                  \
    "((" H16 ":){6}" LS32 "|::(" H16 ":){5}" LS32 "|(" H16 ")?::(" H16 ":){4}" LS32 "|((" H16 \
    ":){0,1}" H16 ")?::(" H16 ":){3}" LS32 "|((" H16 ":){0,2}" H16 ")?::(" H16 ":){2}" LS32   \
    "|((" H16 ":){0,3}" H16 ")?::" H16 ":" LS32 "|((" H16 ":){0,4}" H16 ")?::" LS32 "|((" H16 \
    ":){0,5}" H16 ")?::" H16 "|((" H16 ":){0,6}" H16 ")?::)"
#define ATOM(more)  "[A-Za-z0-9!#$%&'*+/=?^_`{|}~" more "-]+"
#define LOCAL(more) "(" ATOM(more) "(\\." ATOM(more) ")*|\"([ !#-\\[\\]-~" more "]|\\\\[ -~])*\")"
/* A host without a dot and an URI of a scheme alone are right by the RFCs and refused by many a validator:
 * an answer has neither. */
#define MAIL_HOST   "(" LABEL "(\\." LABEL ")+|\\[" IPV4 "\\]|\\[IPv6:" IPV6 "\\])"
#define PCT         "%[0-9A-Fa-f]{2}"
#define UCS         "\\u00A0-\\uD7FF\\uF900-\\uFDCF\\uFDF0-\\uFFEF\\u{10000}-\\u{EFFFD}"
#define PCHAR(more) "([A-Za-z0-9._~!$&'()*+,;=:@" more "-]|" PCT ")"
#define AUTHORITY(more)                                                                   \
    "(([A-Za-z0-9._~!$&'()*+,;=:" more "-]|" PCT ")*@)?(\\[(" IPV6                        \
    "|[vV][0-9A-Fa-f]+\\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\\]|([A-Za-z0-9._~!$&'()*+,;=" more \
    "-]|" PCT ")*)(:[0-9]*)?"
#define PRIVATE           "\\uE000-\\uF8FF\\u{F0000}-\\u{10FFFD}"
#define TAIL(more, query) "(\\?(" PCHAR(query) "|[/?])*)?(#(" PCHAR(more) "|[/?])*)?"
#define URI(more, query)                                                           \
    "[A-Za-z][A-Za-z0-9+.-]*:(//" AUTHORITY(more) "(/" PCHAR(more) "*)*|/(" PCHAR( \
        more) "+(/" PCHAR(more) "*)*)?|" PCHAR(more) "+(/" PCHAR(more) "*)*)" TAIL(more, query)
#define RELATIVE(more, query)                                                \
    "(//" AUTHORITY(more) "(/" PCHAR(more) "*)*|/(" PCHAR(more) "+(/" PCHAR( \
        more) "*)*)?|"                                                       \
              "([A-Za-z0-9._~!$&'()*+,;=@" more "-]|" PCT                    \
              ")+(/" PCHAR(more) "*)*|)" TAIL(more, query)
#define POINTER       "(/([^/~]|~[01])*)*"
#define TEMPLATE_NAME "([A-Za-z0-9_]|" PCT ")(\\.?([A-Za-z0-9_]|" PCT "))*(:[1-9][0-9]{0,3}|\\*)?"

static const struct {
    const char *name, *pattern;
    uint32_t max; /* characters; 0: no limit */
} FORMATS[] = {
    {"date", DATE, 0},
    {"time", TIME, 0},
    {"date-time", DATE "[Tt]" TIME, 0},
    {"duration",
     "P([0-9]+W|([0-9]+Y([0-9]+M([0-9]+D)?)?|[0-9]+M([0-9]+D)?|[0-9]+D)"
     "(T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))?|"
     "T([0-9]+H([0-9]+M([0-9]+S)?)?|[0-9]+M([0-9]+S)?|[0-9]+S))",
     0},
    {"email", LOCAL("") "@" MAIL_HOST, 0},
    {"idn-email", LOCAL("\\u0080-\\u{10FFFF}") "@[^ @\\u0000-\\u001F]+", 0},
    {"hostname", NO_A_LABEL HOST, 253},
    {"ipv4", IPV4, 0},
    {"ipv6", IPV6, 0},
    {"uuid", "[0-9A-Fa-f]{8}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{4}-[0-9A-Fa-f]{12}", 0},
    {"uri", URI("", ""), 0},
    {"uri-reference", "(" URI("", "") "|" RELATIVE("", "") ")", 0},
    {"iri", URI(UCS, UCS PRIVATE), 0},
    {"iri-reference", "(" URI(UCS, UCS PRIVATE) "|" RELATIVE(UCS, UCS PRIVATE) ")", 0},
    {"json-pointer", POINTER, 0},
    {"relative-json-pointer", "(0|[1-9][0-9]*)(#|" POINTER ")", 0},
    {"uri-template",
     "([^\\u0000-\\u0020\"'%<>\\\\^`{|}]|" PCT "|\\{[+#./;?&=,!@|]?" TEMPLATE_NAME
     "(," TEMPLATE_NAME ")*\\})*",
     0},
};

rx schema_format(schema_ctx *c, str name, uint32_t *max) {
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++) {
        if (!str_is(name, FORMATS[i].name)) continue;
        if (FORMATS[i].max && FORMATS[i].max < *max) *max = FORMATS[i].max;
        return regex_parse(c->x, str_from(FORMATS[i].pattern), (regex_syntax){0}, NULL);
    }
    if (str_is(name, "regex") || str_is(name, "idn-hostname")) return -1;
    return RX_ALL;
}
