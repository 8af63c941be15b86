/* The built-in model's bytes, linked into the executable by the assembler: the
 * build names the file in ORIEL_BUILTIN when it is there. */
#include "hub/hub.h"

#ifdef ORIEL_BUILTIN
__asm__(".section .rodata\n"
        ".balign 64\n"
        ".globl hub_builtin_begin\n"
        "hub_builtin_begin:\n"
        ".incbin \"" ORIEL_BUILTIN "\"\n"
        ".globl hub_builtin_end\n"
        "hub_builtin_end:\n"
        ".byte 0\n"
        ".previous\n");
extern const char hub_builtin_begin[], hub_builtin_end[];

bool hub_get_builtin(const void **bytes, size_t *len) {
    *bytes = hub_builtin_begin;
    *len = (size_t)(hub_builtin_end - hub_builtin_begin);
    return true;
}
#else
bool hub_get_builtin(const void **bytes, size_t *len) {
    *bytes = NULL;
    *len = 0;
    return false;
}
#endif
