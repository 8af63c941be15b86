/* Character classes for the scanners, from utf8proc's general categories
 * (Unicode 15). White space is Unicode's White_Space property, which is what
 * the tokenizers' own regex engines mean by \s (PCRE2's \s has U+180E besides).
 */
#include "tok/tok_impl.h"

#include <utf8proc.h>

static const unsigned short category_class[] = {
    [UTF8PROC_CATEGORY_LU] = C_LETTER | C_UPPERISH,
    [UTF8PROC_CATEGORY_LL] = C_LETTER | C_LOWERISH,
    [UTF8PROC_CATEGORY_LT] = C_LETTER | C_UPPERISH,
    [UTF8PROC_CATEGORY_LM] = C_LETTER | C_UPPERISH | C_LOWERISH,
    [UTF8PROC_CATEGORY_LO] = C_LETTER | C_UPPERISH | C_LOWERISH,
    [UTF8PROC_CATEGORY_MN] = C_MARK | C_UPPERISH | C_LOWERISH,
    [UTF8PROC_CATEGORY_MC] = C_MARK | C_UPPERISH | C_LOWERISH,
    [UTF8PROC_CATEGORY_ME] = C_MARK | C_UPPERISH | C_LOWERISH,
    [UTF8PROC_CATEGORY_ND] = C_NUMBER,
    [UTF8PROC_CATEGORY_NL] = C_NUMBER,
    [UTF8PROC_CATEGORY_NO] = C_NUMBER,
    [UTF8PROC_CATEGORY_PC] = C_PUNCT,
    [UTF8PROC_CATEGORY_PD] = C_PUNCT,
    [UTF8PROC_CATEGORY_PS] = C_PUNCT,
    [UTF8PROC_CATEGORY_PE] = C_PUNCT,
    [UTF8PROC_CATEGORY_PI] = C_PUNCT,
    [UTF8PROC_CATEGORY_PF] = C_PUNCT,
    [UTF8PROC_CATEGORY_PO] = C_PUNCT,
    [UTF8PROC_CATEGORY_SM] = C_SYMBOL,
    [UTF8PROC_CATEGORY_SC] = C_SYMBOL,
    [UTF8PROC_CATEGORY_SK] = C_SYMBOL,
    [UTF8PROC_CATEGORY_SO] = C_SYMBOL,
    [UTF8PROC_CATEGORY_ZS] = 0,
    [UTF8PROC_CATEGORY_ZL] = 0,
    [UTF8PROC_CATEGORY_ZP] = 0,
    [UTF8PROC_CATEGORY_CC] = C_CONTROL,
    [UTF8PROC_CATEGORY_CF] = C_CONTROL,
    [UTF8PROC_CATEGORY_CS] = C_CONTROL,
    [UTF8PROC_CATEGORY_CO] = C_CONTROL,
    [UTF8PROC_CATEGORY_CN] = C_CONTROL,
};

static bool is_white_space(uint32_t cp) {
    if (cp <= 0x20) return cp == 0x20 || (cp >= 0x09 && cp <= 0x0D);
    if (cp < 0x1680) return cp == 0x85 || cp == 0xA0;
    return cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200A) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202F || cp == 0x205F || cp == 0x3000;
}

unsigned char_class(uint32_t cp) {
    if (cp < 0x80) { /* most text, without the table walk */
        if ((cp | 0x20) - 'a' < 26) return C_LETTER | (cp & 0x20 ? C_LOWERISH : C_UPPERISH);
        if (cp - '0' < 10) return C_NUMBER;
        if (cp == ' ') return C_SPACE;
        if (cp == '\n' || cp == '\r') return C_SPACE | C_NEWLINE | C_CONTROL;
    }
    unsigned class = category_class[utf8proc_category((utf8proc_int32_t)cp)];
    if (is_white_space(cp)) class |= C_SPACE;
    return class;
}

character char_at(str s, size_t at) {
    character c;
    unsigned char b = (unsigned char)s.ptr[at];
    if (b < 0x80) return (character){b, char_class(b), 1};
    c.len = utf8_decode(s, at, &c.cp);
    if (!c.len) return (character){0xFFFD, 0, 1};
    c.class = char_class(c.cp);
    return c;
}
