// Layers of one tap: the carries of two words are counted, in five instructions where counting both words takes six.
//
// Let two words of inputs and weights differ in a and b, and let o be set where all words before differ an odd number of
// times. Of o, a and b, two are set in a place where the count grows by 2: carry. What is odd then is n = o ^ a ^ b, so
// that carry = o == a ? o : ~n, one instruction of logic on three registers. n is no chain of instructions: it is the
// parity of all inputs so far, xor that of all weights so far, which both are known before. So of each pair of words the
// first is kept as it is, and in place of the second the parity of all words up to it. In the end the count is twice the
// carries, and what is odd. (Counters of carries: Harley and Seal; see Mula, Kurz and Lemire, 2018.)
#pragma once

#include "counts.h"
#include "layer.h"

namespace frostline {
namespace {

constexpr int kPair = 2 * 4;  // bytes of a pair of one pixel

// Odd and the difference become carries, in the register of odd.
inline __m512i carries(__m512i odd, __m512i next, __m512i differ) {
#ifdef FROSTLINE_EMULATED
    return _mm512_ternarylogic_epi32(odd, next, differ, 0xb2);
#else
    asm("vpternlogd $0xb2, %2, %1, %0" : "+v"(odd) : "v"(next), "v"(differ));
    return odd;
#endif
}

// Counts the carries of one pair, and leaves in `next` what is odd after it.
template <int P, int O>
inline __attribute__((always_inline)) void count_pair(const uint8_t* weights, const uint8_t* const* x, int64_t at, __m512i (&odd)[P][O],
                                                      __m512i (&next)[P][O], __m512i (&counts)[P][O]) {
    __m512i first[P], parity[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) first[p] = kept(repeated(x[p] + at)), parity[p] = kept(repeated(x[p] + at + 4));
#pragma GCC unroll 8
    for (int o = 0; o < O; ++o, weights += kPair * kVector) {
        const __m512i own_first = kept(_mm512_load_si512(weights)), own_parity = kept(_mm512_load_si512(weights + 4 * kVector));
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p) {
            next[p][o] = kept(_mm512_xor_si512(parity[p], own_parity));
            const __m512i carried = carries(odd[p][o], next[p][o], _mm512_xor_si512(first[p], own_first));
            counts[p][o] = sum_in_place(counts[p][o], _mm512_popcnt_epi32(carried));
        }
    }
}

template <int P, int O, typename End>
inline __attribute__((always_inline)) void count_chained_tile(const uint8_t* block, int64_t pairs, const uint8_t* const* all, int64_t begin, int64_t pixels, int64_t output, const End& end) {
    __m512i odd[P][O], next[P][O], counts[P][O];
    const uint8_t* x[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
        x[p] = all[begin + p];
#pragma GCC unroll 8
        for (int o = 0; o < O; ++o) odd[p][o] = counts[p][o] = _mm512_setzero_si512();
    }
    constexpr int64_t kStep = kPair * kVector * O;
    for (int64_t pair = 0; pair < pairs; pair += 2, block += 2 * kStep) {  // two, so that what is odd is not moved between registers
        count_pair<P, O>(block, x, kPair * pair, odd, next, counts);
        count_pair<P, O>(block + kStep, x, kPair * (pair + 1), next, odd, counts);
    }
    const auto whole = [&](int p, int o) {
        return _mm512_add_epi32(_mm512_add_epi32(counts[p][o], counts[p][o]), _mm512_popcnt_epi32(odd[p][o]));
    };
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p) {
        if (begin + p == pixels) return;
#pragma GCC unroll 8
        for (int o = 0; o < O; o += 2) end(begin + p, output + kVector * o, Counts{whole(p, o), whole(p, o + 1)});
    }
}

// Gives `end` the counts of a panel, 32 outputs at a time.
template <typename End>
void count_chained(int64_t width, const uint8_t* block, int64_t words, const uint8_t* const* x, int64_t pixels, const End& end) {
    constexpr int kPixels = 4, kVectors = 2;
    for (int64_t o = 0; o < width; o += kVectors * kVector, block += 4 * words * kVectors * kVector)
        for (int64_t p = 0; p < pixels; p += kPixels) count_chained_tile<kPixels, kVectors>(block, words / 2, x, p, pixels, o, end);
}

// Of the pixels of rows [first, last), words that wait to become pairs.
void chain_pixels(const Layer& layer, const Sizes& sizes, const Tensors& t, int64_t image, int64_t first, int64_t last) {
    uint32_t* words = (uint32_t*)(t.prepared + image * sizes.image_bytes + first * sizes.padded[2] * sizes.pixel_step);
    for (int64_t left = (last - first) * sizes.padded[2] * layer.groups; left > 0; --left, words += layer.words) {
        uint32_t parity = 0;
        for (int64_t word = 0; word < layer.words; word += 2) words[word + 1] = parity ^= words[word] ^ words[word + 1];
    }
}

// Two vectors of outputs after two, and of them pair by pair: first words and parities of a vector, and of the next.
void interleave_chained(const uint32_t* rows, int64_t outputs, int64_t width, int64_t words, uint8_t* block) {
    __builtin_memset(block, 0, size_t(4 * width * words));
    for (int64_t o = 0; o < outputs; ++o, rows += words) {
        uint32_t parity = 0, *to = (uint32_t*)block + o / (2 * kVector) * 2 * kVector * words + o / kVector % 2 * 2 * kVector + o % kVector;
        for (int64_t word = 0; word < words; word += 2, to += 4 * kVector) {
            parity ^= rows[word] ^ rows[word + 1];
            to[0] = rows[word], to[kVector] = parity;
        }
    }
}

}  // namespace
}  // namespace frostline
