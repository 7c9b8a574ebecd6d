// Counts of bits in vectors of sixteen outputs, and what becomes of them.
#pragma once

#include <immintrin.h>

#include <cstdint>

namespace frostline {
namespace {

constexpr int kVector = 16;

// Adds in place, and keeps a vector in its register: left alone, GCC copies every counter in every turn of the tile, and
// reads weights from memory once more for each pixel, a tenth of the tile's time.
inline __m512i sum_in_place(__m512i counts, __m512i more) {
#ifdef FROSTLINE_EMULATED
    return _mm512_add_epi32(counts, more);
#else
    asm("vpaddd %1, %0, %0" : "+v"(counts) : "v"(more));
    return counts;
#endif
}
inline __m512i kept(__m512i vector) {
#ifndef FROSTLINE_EMULATED
    asm volatile("" : "+v"(vector));
#endif
    return vector;
}
inline __m512i repeated(const uint8_t* from) {
    int32_t word;
    __builtin_memcpy(&word, from, 4);
    return _mm512_set1_epi32(word);
}
inline __m512i differing(__m512i a, __m512i b) { return _mm512_popcnt_epi32(_mm512_xor_si512(a, b)); }

// How many bits of 32 outputs differ.
struct Counts {
    __m512i low, high;
};

// Which of them differ in no more bits than they may.
inline void put_bits(uint32_t* to, const Counts& counts, const int32_t* most) {
    const __mmask16 low = _mm512_cmple_epi32_mask(counts.low, _mm512_loadu_si512(most));
    const __mmask16 high = _mm512_cmple_epi32_mask(counts.high, _mm512_loadu_si512(most + kVector));
    __builtin_memcpy(to, &low, 2), __builtin_memcpy((char*)to + 2, &high, 2);
}

inline __m512i sums_of(__m512i counts, const int32_t* bases) {
    return _mm512_sub_epi32(_mm512_loadu_si512(bases), _mm512_add_epi32(counts, counts));
}
inline void put_sums(int16_t* to, const Counts& counts, const int32_t* bases) {
    _mm256_store_si256((__m256i*)to, _mm512_cvtepi32_epi16(sums_of(counts.low, bases)));
    _mm256_store_si256((__m256i*)(to + kVector), _mm512_cvtepi32_epi16(sums_of(counts.high, bases + kVector)));
}
inline __m512 real_sums(const Counts& counts, const int32_t* bases, int64_t first) {
    return _mm512_cvtepi32_ps(sums_of(first ? counts.high : counts.low, bases + first));
}

}  // namespace
}  // namespace frostline
