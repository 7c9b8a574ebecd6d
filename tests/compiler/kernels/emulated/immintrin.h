// AVX-512 in plain C, by SIMD Everywhere, in place of the compiler's header: what two kernels do can be tested on any
// processor. What it lacks follows.
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

static inline simde__m512i _mm512_cvtepi16_epi32(simde__m256i values) {
    short narrow[16];
    int wide[16];
    simde__m512i result;
    memcpy(narrow, &values, sizeof narrow);
    for (int i = 0; i < 16; ++i) wide[i] = narrow[i];
    memcpy(&result, wide, sizeof wide);
    return result;
}

static inline simde__m512i _mm512_cvtepu16_epi32(simde__m256i values) {
    unsigned short narrow[16];
    int wide[16];
    simde__m512i result;
    memcpy(narrow, &values, sizeof narrow);
    for (int i = 0; i < 16; ++i) wide[i] = narrow[i];
    memcpy(&result, wide, sizeof wide);
    return result;
}

static inline simde__m512 _mm512_cvtepi32_ps(simde__m512i values) {
    int whole[16];
    float reals[16];
    simde__m512 result;
    memcpy(whole, &values, sizeof whole);
    for (int i = 0; i < 16; ++i) reals[i] = (float)whole[i];
    memcpy(&result, reals, sizeof reals);
    return result;
}

typedef unsigned short __mmask16;

// Of memory, nothing but what the mask names.
static inline simde__m512 _mm512_maskz_loadu_ps(__mmask16 mask, const float* from) {
    float reals[16];
    simde__m512 result;
    for (int i = 0; i < 16; ++i) reals[i] = mask >> i & 1 ? from[i] : 0;
    memcpy(&result, reals, sizeof reals);
    return result;
}

static inline void _mm512_mask_storeu_ps(float* to, __mmask16 mask, simde__m512 values) {
    float reals[16];
    memcpy(reals, &values, sizeof reals);
    for (int i = 0; i < 16; ++i)
        if (mask >> i & 1) to[i] = reals[i];
}

#define _mm512_shuffle_i64x2(a, b, lanes) simde_mm512_shuffle_i32x4(a, b, lanes)
