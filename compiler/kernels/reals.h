// Vectors of floats as wide as the instructions, AVX2's or AVX-512's, with the sums that become them and their signs.
#pragma once

#include <immintrin.h>

#include <cstdint>

// Tests build the library for instructions that their processor lacks, over functions that stand in for them.
#ifdef FROSTLINE_EMULATED
#define SUPPORTS(feature) true
#else
#define SUPPORTS(feature) __builtin_cpu_supports(feature)
#endif

namespace frostline {
namespace {

#if defined(__AVX512BW__) || defined(FROSTLINE_EMULATED)

using Reals = __m512;
using Sums = __m256i;      // of 16 bits
using Marks = uint16_t;    // one bit a float
constexpr int kReals = 16;

inline __mmask16 first_of(int64_t count) { return __mmask16((1u << count) - 1); }
inline Reals each(float value) { return _mm512_set1_ps(value); }
inline Reals reals(const float* x) { return _mm512_loadu_ps(x); }
inline Reals some_reals(const float* x, int64_t count) { return _mm512_maskz_loadu_ps(first_of(count), x); }
inline void put(float* y, Reals values) { _mm512_storeu_ps(y, values); }
inline void put_some(float* y, Reals values, int64_t count) { _mm512_mask_storeu_ps(y, first_of(count), values); }
inline Reals sum(Reals a, Reals b) { return _mm512_add_ps(a, b); }
inline Reals times(Reals a, Reals b) { return _mm512_mul_ps(a, b); }
inline Reals least(Reals a, Reals b) { return _mm512_min_ps(a, b); }
inline Reals most(Reals a, Reals b) { return _mm512_max_ps(a, b); }
// Sums of what counts take twice from bases.
inline Reals sums_of(const uint16_t* counts, const int32_t* bases) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)counts));
    return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(bases), _mm512_add_epi32(wide, wide)));
}
inline Marks signs_of(Reals values) { return Marks(_mm512_cmp_ps_mask(values, _mm512_setzero_ps(), _CMP_GE_OQ)); }
inline Sums sums_at(const int16_t* sums) { return _mm256_load_si256((const __m256i*)sums); }
inline void put_sums(int16_t* to, Sums sums) { _mm256_store_si256((__m256i*)to, sums); }
inline Reals reals_of(Sums sums) { return _mm512_cvtepi32_ps(_mm512_cvtepi16_epi32(sums)); }

// Bit c of word p from bit p of mark c, of 32.
inline void turned(const Marks* marks, uint32_t* words) {
    __m512i all = _mm512_load_si512(marks);
    for (int p = kReals - 1; p >= 0; --p) {
        words[p] = uint32_t(_mm512_movepi16_mask(all));
        all = _mm512_add_epi16(all, all);
    }
}

// Sixteen outputs of sixteen pixels: sums[pixel][output] to one vector an output.
inline void transpose(const int16_t* sums, int64_t stride, Sums* columns) {
    __m512i r[8], s[8];
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {  // pixels i and i + 8, each with its outputs in two lanes
        const __m256i first = sums_at(sums + i * stride), second = sums_at(sums + (i + 8) * stride);
        r[i] = _mm512_inserti64x4(_mm512_castsi256_si512(first), second, 1);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        s[2 * i] = _mm512_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        s[2 * i + 1] = _mm512_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
        r[i] = _mm512_unpacklo_epi32(s[i], s[i + 2]);
        r[i + 2] = _mm512_unpackhi_epi32(s[i], s[i + 2]);
        r[i + 4] = _mm512_unpacklo_epi32(s[i + 4], s[i + 6]);
        r[i + 6] = _mm512_unpackhi_epi32(s[i + 4], s[i + 6]);
    }
    constexpr int kFrom[8] = {0, 0, 2, 2, 1, 1, 3, 3};
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) {
        const __m512i low = r[kFrom[i]], high = r[kFrom[i] + 4];
        const __m512i both = i % 2 ? _mm512_unpackhi_epi64(low, high) : _mm512_unpacklo_epi64(low, high);
        const __m512i apart = _mm512_shuffle_i64x2(both, both, 0xd8);  // lanes: output i, then output i + 8
        columns[i] = _mm512_castsi512_si256(apart);
        columns[i + 8] = _mm512_extracti64x4_epi64(apart, 1);
    }
}

#else

using Reals = __m256;
using Sums = __m128i;
using Marks = uint8_t;
constexpr int kReals = 8;

inline __m256i first_of(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline Reals each(float value) { return _mm256_set1_ps(value); }
inline Reals reals(const float* x) { return _mm256_loadu_ps(x); }
inline Reals some_reals(const float* x, int64_t count) { return _mm256_maskload_ps(x, first_of(count)); }
inline void put(float* y, Reals values) { _mm256_storeu_ps(y, values); }
inline void put_some(float* y, Reals values, int64_t count) { _mm256_maskstore_ps(y, first_of(count), values); }
inline Reals sum(Reals a, Reals b) { return _mm256_add_ps(a, b); }
inline Reals times(Reals a, Reals b) { return _mm256_mul_ps(a, b); }
inline Reals least(Reals a, Reals b) { return _mm256_min_ps(a, b); }
inline Reals most(Reals a, Reals b) { return _mm256_max_ps(a, b); }
inline Reals sums_of(const uint16_t* counts, const int32_t* bases) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)counts));
    return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_loadu_si256((const __m256i*)bases), _mm256_add_epi32(wide, wide)));
}
inline Marks signs_of(Reals values) {
    return Marks(_mm256_movemask_ps(_mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_GE_OQ)));
}
inline Sums sums_at(const int16_t* sums) { return _mm_load_si128((const __m128i*)sums); }
inline void put_sums(int16_t* to, Sums sums) { _mm_store_si128((__m128i*)to, sums); }
inline Reals reals_of(Sums sums) { return _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(sums)); }

inline void turned(const Marks* marks, uint32_t* words) {
    __m256i all = _mm256_load_si256((const __m256i*)marks);
    for (int p = kReals - 1; p >= 0; --p) {
        words[p] = uint32_t(_mm256_movemask_epi8(all));
        all = _mm256_add_epi8(all, all);
    }
}

// Eight outputs of eight pixels: sums[pixel][output] to one vector an output.
inline void transpose(const int16_t* sums, int64_t stride, Sums* columns) {
    __m128i r[8], s[8];
    for (int i = 0; i < 8; ++i) r[i] = sums_at(sums + i * stride);
    for (int i = 0; i < 4; ++i) {
        s[2 * i] = _mm_unpacklo_epi16(r[2 * i], r[2 * i + 1]);
        s[2 * i + 1] = _mm_unpackhi_epi16(r[2 * i], r[2 * i + 1]);
    }
    for (int i = 0; i < 2; ++i) {
        r[i] = _mm_unpacklo_epi32(s[i], s[i + 2]);
        r[i + 2] = _mm_unpackhi_epi32(s[i], s[i + 2]);
        r[i + 4] = _mm_unpacklo_epi32(s[i + 4], s[i + 6]);
        r[i + 6] = _mm_unpackhi_epi32(s[i + 4], s[i + 6]);
    }
    columns[0] = _mm_unpacklo_epi64(r[0], r[4]);
    columns[1] = _mm_unpackhi_epi64(r[0], r[4]);
    columns[2] = _mm_unpacklo_epi64(r[2], r[6]);
    columns[3] = _mm_unpackhi_epi64(r[2], r[6]);
    columns[4] = _mm_unpacklo_epi64(r[1], r[5]);
    columns[5] = _mm_unpackhi_epi64(r[1], r[5]);
    columns[6] = _mm_unpacklo_epi64(r[3], r[7]);
    columns[7] = _mm_unpackhi_epi64(r[3], r[7]);
}

#endif

}  // namespace
}  // namespace frostline
