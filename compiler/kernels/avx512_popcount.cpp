// AVX-512 with VPOPCNTDQ: 16 outputs a vector, bits of a xor counted in the processor.
#include "layer.h"

#if defined(__AVX512VPOPCNTDQ__) || defined(FROSTLINE_EMULATED)

#include <immintrin.h>

namespace frostline {
namespace {

constexpr int64_t kWordBytes = 4;
constexpr int kVector = 16;

inline void put_word(uint8_t* to, uint32_t word) { __builtin_memcpy(to, &word, 4); }
inline void put_words(uint8_t* to, const uint32_t* words, int64_t count) { __builtin_memcpy(to, words, size_t(4 * count)); }

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

// Gives `end` the counts of up to P pixels from pixel `begin` on, 32 outputs at a time.
template <int P, int O, typename End>
inline void count_tile(const uint8_t* block, int64_t words, const int64_t* places, const uint8_t* const* x, int64_t begin,
                       int64_t pixels, const End& end) {
    __m512i counts[P][O];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 8
        for (int o = 0; o < O; ++o) counts[p][o] = _mm512_setzero_si512();
    for (int64_t word = 0; word < words; ++word, block += 4 * kVector * O) {
        __m512i weights[O];
#pragma GCC unroll 8
        for (int o = 0; o < O; ++o) weights[o] = kept(_mm512_load_si512(block + 4 * kVector * o));
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
            int32_t inputs;
            __builtin_memcpy(&inputs, x[begin + p] + places[word], 4);
            const __m512i repeated = _mm512_set1_epi32(inputs);
#pragma GCC unroll 8
            for (int o = 0; o < O; ++o) counts[p][o] = sum_in_place(counts[p][o], differing(weights[o], repeated));
        }
    }
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
        if (begin + p == pixels) return;
#pragma GCC unroll 8
        for (int o = 0; o < O; o += 2) end(begin + p, kVector * o, Counts{counts[p][o], counts[p][o + 1]});
    }
}

template <int P, int O, typename End>
void count_pixels(const uint8_t* block, int64_t words, const int64_t* places, const uint8_t* const* x, int64_t pixels, const End& end) {
    for (int64_t p = 0; p < pixels; p += P) count_tile<P, O>(block, words, places, x, p, pixels, end);
}

template <typename End>
void count_panel(int64_t width, const uint8_t* block, int64_t words, const int64_t* places, const uint8_t* const* x,
                 int64_t pixels, const End& end) {
    if (width == kBlock) count_pixels<4, 4>(block, words, places, x, pixels, end);
    else count_pixels<8, 2>(block, words, places, x, pixels, end);
}

int64_t spin(int64_t turns) {
    __m512i counts[16];
    const __m512i inputs = kept(_mm512_setzero_si512());
#pragma GCC unroll 16
    for (__m512i& count : counts) count = _mm512_setzero_si512();
    for (int64_t i = 0; i < turns; ++i) {
#pragma GCC unroll 16
        for (__m512i& count : counts) count = sum_in_place(count, differing(count, inputs));
    }
#pragma GCC unroll 16
    for (__m512i& count : counts) count = kept(count);
    return turns * 16 * 512;
}

int64_t block_bytes(int64_t width, int64_t words) { return 4 * words * width; }

// Word by word, output by output.
void interleave(const uint32_t* rows, int64_t outputs, int64_t width, int64_t words, uint8_t* block) {
    uint32_t* to = (uint32_t*)block;
    for (int64_t word = 0; word < words; ++word)
        for (int64_t o = 0; o < width; ++o) *to++ = o < outputs ? rows[o * words + word] : 0;
}

}  // namespace
}  // namespace frostline

#include "ends.h"
#include "planes.h"
#include "prepare.h"

namespace frostline {

const Engine* avx512_popcount_engine() {
    const auto compute = [](const Layer& layer, const Sizes& sizes, const Tensors& t, const Epilogue& e, int64_t image, int64_t panel,
                            int64_t panels, const Block& block) {
        (sizes.planes ? compute_planes : compute_panels)(layer, sizes, t, e, image, panel, panels, block);
    };
    static const Engine engine = {"avx512-vpopcntdq", true, kWordBytes, 32766, block_bytes, interleave, prepare_rows, compute, pack_bits, spin};
    return SUPPORTS("avx512bw") && SUPPORTS("avx512vl") && SUPPORTS("avx512vpopcntdq") ? &engine : nullptr;
}

}  // namespace frostline

#else
const frostline::Engine* frostline::avx512_popcount_engine() { return nullptr; }
#endif
