// AVX-512 in plain C, by SIMD Everywhere, in place of the compiler's header: what two kernels do can be tested on any
// processor. Two conversions that it lacks follow.
#pragma once

#define SIMDE_ENABLE_NATIVE_ALIASES
#include <simde/x86/avx2.h>
#include <simde/x86/avx512.h>
#include <string.h>

static inline simde__m512i _mm512_cvtepu8_epi16(simde__m256i bytes) {
    unsigned char narrow[32];
    unsigned short wide[32];
    simde__m512i result;
    memcpy(narrow, &bytes, sizeof narrow);
    for (int i = 0; i < 32; ++i) wide[i] = narrow[i];
    memcpy(&result, wide, sizeof wide);
    return result;
}

static inline simde__m256i _mm512_cvtepi32_epi16(simde__m512i values) {
    int wide[16];
    short narrow[16];
    simde__m256i result;
    memcpy(wide, &values, sizeof wide);
    for (int i = 0; i < 16; ++i) narrow[i] = (short)wide[i];
    memcpy(&result, narrow, sizeof narrow);
    return result;
}
