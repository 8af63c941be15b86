/* The pre-tokenisers that GGUF files name (tokenizer.ggml.pre). Each row is
 * what the family's own tokenizer does; where llama.cpp's engine approximates a
 * pattern, the model's own pattern is used (docs/NOTES.md).
 */
#include "tok/tok_impl.h"

#define GPT2                "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"
#define ANY_CASE            "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL                "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3              ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" TAIL
#define QWEN2               ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" TAIL
#define QWEN35              ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}" TAIL
#define UPPER               "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER               "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define PREFIX              "[^\\r\\n\\p{L}\\p{N}]?"
#define O200K_WORDS(suffix) PREFIX UPPER "*" LOWER "+" suffix "|" PREFIX UPPER "+" LOWER "*" suffix
#define SLASH_TAIL          "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define O200K               O200K_WORDS(ANY_CASE "?") "|\\p{N}{1,3}" SLASH_TAIL
#define TEKKEN              O200K_WORDS("") "|\\p{N}" SLASH_TAIL
#define BLOOM \
    " ?[^(\\s|.,!?\xE2\x80\xA6\xE3\x80\x82\xEF\xBC\x8C\xE3\x80\x81\xE0\xA5\xA4\xDB\x94\xD8\x8C)]+"
/* CJK ideographs, kana and Hangul as DeepSeek lists them */
#define DEEPSEEK_CJK \
    "[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+"

/* DeepSeek LLM's own list of cased letters. */
#define DEEPSEEK_LETTERS                                                                                                        \
    "\\s?[A-Za-z\xC2\xB5\xC3\x80-\xC3\x96\xC3\x98-\xC3\xB6\xC3\xB8-\xC6\xBA\xC6\xBC-\xC6\xBF\xC7\x84-\xCA\x93\xCA\x95-\xCA\xAF" \
    "\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37b}-\\x{37d}\\x{37f}\\x{386}\\x{388}-\\x{38a}\\x{38c}"                               \
    "\\x{38e}-\\x{3a1}\\x{3a3}-\\x{3f5}\\x{3f7}-\\x{481}\\x{48a}-\\x{52f}\\x{531}-\\x{556}"                                     \
    "\\x{10a0}-\\x{10c5}\\x{13a0}-\\x{13f5}\\x{13f8}-\\x{13fd}\\x{1c90}-\\x{1cba}\\x{1cbd}-\\x{1cbf}"                           \
    "\\x{1d00}-\\x{1d2b}\\x{1d6b}-\\x{1d77}\\x{1d79}-\\x{1d9a}\\x{1e00}-\\x{1f15}\\x{1f18}-\\x{1f1d}"                           \
    "\\x{1f20}-\\x{1f45}\\x{1f48}-\\x{1f4d}\\x{1f50}-\\x{1f57}\\x{1f59}\\x{1f5b}\\x{1f5d}"                                      \
    "\\x{1f5f}-\\x{1f7d}\\x{1f80}-\\x{1fb4}\\x{1fb6}-\\x{1fbc}\\x{1fbe}\\x{1fc2}-\\x{1fc4}"                                     \
    "\\x{1fc6}-\\x{1fcc}\\x{1fd0}-\\x{1fd3}\\x{1fd6}-\\x{1fdb}\\x{1fe0}-\\x{1fec}\\x{1ff2}-\\x{1ff4}"                           \
    "\\x{1ff6}-\\x{1ffc}\\x{2102}\\x{2107}\\x{210a}-\\x{2113}\\x{2115}\\x{2119}-\\x{211d}\\x{2124}"                             \
    "\\x{2126}\\x{2128}\\x{212a}-\\x{212d}\\x{212f}-\\x{2134}\\x{2139}\\x{213c}-\\x{213f}"                                      \
    "\\x{2145}-\\x{2149}\\x{214e}\\x{2183}\\x{2184}\\x{2c00}-\\x{2c7b}\\x{2c7e}-\\x{2ce4}"                                      \
    "\\x{2ceb}-\\x{2cee}\\x{2cf2}\\x{2cf3}\\x{a640}-\\x{a66d}\\x{a680}-\\x{a69b}\\x{a722}-\\x{a76f}"                            \
    "\\x{a771}-\\x{a787}\\x{a78b}-\\x{a78e}\\x{ab70}-\\x{abbf}\\x{fb00}-\\x{fb06}\\x{fb13}-\\x{fb17}"                           \
    "\\x{ff21}-\\x{ff3a}\\x{ff41}-\\x{ff5a}\\x{10400}-\\x{1044f}\\x{104b0}-\\x{104d3}"                                          \
    "\\x{104d8}-\\x{104fb}\\x{10c80}-\\x{10cb2}\\x{10cc0}-\\x{10cf2}\\x{118a0}-\\x{118df}"                                      \
    "\\x{1e900}-\\x{1e943}]+"
#define DEEPSEEK_PUNCT \
    "\\s?[!-/:-~\xEF\xBC\x81-\xEF\xBC\x8F\xEF\xBC\x9A-\xEF\xBD\x9E\xE2\x80\x98-\xE2\x80\x9F\xE3\x80\x80-\xE3\x80\x82]+"

enum { ADDS_BOS = 1, WHOLE_FIRST = 2, WITH_NFC = 4 };

static const struct preset {
    const char *names; /* separated by spaces */
    unsigned flags;
    const char *patterns[7];
} presets[] = {
    {"default", 0, {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
    {"llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
     ADDS_BOS | WHOLE_FIRST,
     {LLAMA3}},
    {"dbrx smaug-bpe smaug chatglm-bpe glm4 a.x-4.0", 0, {LLAMA3}},
    {"qwen2 megrez", WITH_NFC, {QWEN2}},
    {"qwen35 qwen3.5", WITH_NFC, {QWEN35}},
    {"stablelm2 deepseek-r1-qwen kormo hunyuan grok-2 solar-open", 0, {QWEN2}},
    {"gpt-4o llama4 kanana2 minimax-m2", 0, {O200K}},
    {"tekken", ADDS_BOS | WHOLE_FIRST, {TEKKEN}},
    {"gpt-2 gpt2 phi-2 jina-es jina-de jina-v1-en jina-v2-es jina-v2-de gigachat mpt olmo jais jais-2 trillion "
     "granite-docling exaone4 roberta-bpe modern-bert a.x-3.1 mellum",
     0,
     {GPT2}},
    {"starcoder refact command-r smollm codeshell exaone minerva-7b minerva jina-v2-code",
     0,
     {"\\p{N}", GPT2}},
    {"falcon", 0, {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {"deepseek-llm",
     0,
     {"[\\r\\n]", DEEPSEEK_LETTERS, DEEPSEEK_PUNCT, "\\s+$", DEEPSEEK_CJK, "\\p{N}+"}},
    {"deepseek-coder", 0, {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", DEEPSEEK_CJK, "\\p{N}"}},
    {"deepseek-v3 hunyuan-dense youtu joyai-llm",
     0,
     {"\\p{N}{1,3}",
      "[\xE4\xB8\x80-\xE9\xBE\xA5\xE3\x81\x80-\xE3\x82\x9F\xE3\x82\xA0-\xE3\x83\xBF]+",
      "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
      " ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}},
    {"poro-chat bloom gpt3-finnish", 0, {BLOOM}},
    {"viking", 0, {BLOOM, "\\p{N}"}},
    {"chameleon",
     ADDS_BOS,
     {"<sentinel:[0-9]+>", "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z", "([\\t\\n]|    |  )", "\\p{N}",
      "[\\p{P}!-/:-@\\[-`{-~]", GPT2}},
    {"superbpe", 0, {"\\p{N}+", "(?=(\\d{3})+(?!\\d))"}},
    {"bailingmoe bailingmoe2 llada-moe",
     0,
     {"'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|"
      "\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"}},
    {"seed-coder",
     0,
     {ANY_CASE "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|\\s*[\\r\\n]+|"
               "\\s+(?!\\S)|\\s+"}},
    {"kimi-k2",
     0,
     {"\\p{Han}+|[^\\r\\n\\p{L}\\p{N}]?(?:(?!\\p{Han})" UPPER ")*(?:(?!\\p{Han})" LOWER
      ")+" ANY_CASE "?|"
      "[^\\r\\n\\p{L}\\p{N}]?(?:(?!\\p{Han})" UPPER ")+(?:(?!\\p{Han})" LOWER ")*" ANY_CASE "?|"
      "\\p{N}{1,3}" TAIL}},
};

static bool has_name(const char *names, str name) {
    for (const char *p = names; *p;) {
        size_t n = strcspn(p, " ");
        if (str_eq(str_make(p, n), name)) return true;
        p += n + (p[n] == ' ');
    }
    return false;
}

bool presets_apply(tok *t, str name, error *err) {
    for (size_t i = 0; i < sizeof presets / sizeof *presets; i++) {
        const struct preset *p = &presets[i];
        if (!has_name(p->names, name)) continue;
        for (int k = 0; k < 7 && p->patterns[k]; k++)
            if (!split_add_pattern(t, str_from(p->patterns[k]), SPLIT_ISOLATED, false, err))
                return false;
        if (p->flags & ADDS_BOS) t->add_bos = true;
        if (p->flags & WHOLE_FIRST) t->whole_first = true;
        if (p->flags & WITH_NFC) {
            normal_step *step = normal_add(t, err);
            if (!step) return false;
            step->op = NORMAL_NFC;
        }
        return true;
    }
    return error_set(err, ERR_NOT_IMPLEMENTED, NULL,
                     "The pre-tokeniser \"%.*s\" is not known here.",
                     (int)(name.len < 100 ? name.len : 100), name.ptr);
}
