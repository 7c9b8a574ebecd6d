// Sums by table: four inputs of a pixel choose a table, four weights of an output look up how many of the bits differ.
//
// `shuffle_bytes` looks up a vector of outputs at once, so that a vector of V bytes makes 4 V products an instruction
// and an addition; counting the bits of a xor takes eight. After T-MAC (Wei et al., 2024), with the tables fixed.
// The file that includes it has defined `Vector` and its functions.
#pragma once

#include "layer.h"
#include "reals.h"

namespace frostline {
namespace {

constexpr int64_t kWordBytes = 8;  // four inputs a byte, times 16: the offset of their table
constexpr int kWordsOfBytes = 7;   // words whose differences fit into a byte: 7 * 32 <= 255

struct Tables {
    alignas(64) uint8_t at[16][16];
    constexpr Tables() : at() {
        for (int x = 0; x < 16; ++x)
            for (int w = 0; w < 16; ++w)
                for (int bit = x ^ w; bit; bit &= bit - 1) ++at[x][w];
    }
};
constexpr Tables kTables;

inline void put_word(uint8_t* to, uint32_t word) {
    uint64_t wide = word;
    wide = (wide | wide << 16) & 0x0000ffff0000ffff;
    wide = (wide | wide << 8) & 0x00ff00ff00ff00ff;
    wide = (wide | wide << 4) & 0x0f0f0f0f0f0f0f0f;
    wide <<= 4;
    __builtin_memcpy(to, &wide, 8);
}

inline void put_words(uint8_t* to, const uint32_t* words, int64_t count) {
    for (int64_t i = 0; i < count; ++i) put_word(to + i * kWordBytes, words[i]);
}

inline int64_t lanes(int64_t width) { return width < kVector ? kVector : width; }

// Adds to `wide` how many bits differ in a few words of P pixels, for O vectors of outputs.
template <int P, int O>
inline void count(const uint8_t* block, int64_t words, const int64_t* places, const uint8_t* const* x, uint16_t* wide) {
    Vector counts[P][O];
    for (int p = 0; p < P; ++p)
        for (int o = 0; o < O; ++o) counts[p][o] = zero();
    for (int64_t word = 0; word < words; ++word, block += 8 * O * kVector) {
        const int64_t place = places[word];
#pragma GCC unroll 8
        for (int four = 0; four < 8; ++four) {
            Vector weights[O];
#pragma GCC unroll 8
            for (int o = 0; o < O; ++o) weights[o] = load(block + (four * O + o) * kVector);
#pragma GCC unroll 8
            for (int p = 0; p < P; ++p) {
                const Vector table = repeat((const uint8_t*)kTables.at + x[p][place + four]);
#pragma GCC unroll 8
                for (int o = 0; o < O; ++o) counts[p][o] = add_bytes(counts[p][o], shuffle_bytes(table, weights[o]));
            }
        }
    }
    for (int p = 0; p < P; ++p)
        for (int o = 0; o < O; ++o) add_widened(wide + (p * O + o) * kVector, counts[p][o]);
}

// How many bits of 32 outputs differ: where they lie.
struct Counts {
    const uint16_t* at;
};

// The low halves of int32: a base may be twice the largest sum, as what is taken from it may be.
inline __m256i sixteen(const int32_t* x) {
    const __m256i half = _mm256_set1_epi32(0xffff), low = _mm256_and_si256(half, _mm256_loadu_si256((const __m256i*)x));
    const __m256i packed = _mm256_packus_epi32(low, _mm256_and_si256(half, _mm256_loadu_si256((const __m256i*)(x + 8))));
    return _mm256_permute4x64_epi64(packed, 0xd8);
}

// Which of them differ in no more bits than they may.
inline void put_bits(uint32_t* to, const Counts& counts, const int32_t* most) {
    const __m256i low = _mm256_cmpgt_epi16(_mm256_load_si256((const __m256i*)counts.at), sixteen(most));
    const __m256i high = _mm256_cmpgt_epi16(_mm256_load_si256((const __m256i*)(counts.at + 16)), sixteen(most + 16));
    *to = ~uint32_t(_mm256_movemask_epi8(_mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xd8)));
}

inline void put_sums(int16_t* to, const Counts& counts, const int32_t* bases) {
    for (int o = 0; o < 32; o += 16) {
        const __m256i differing = _mm256_load_si256((const __m256i*)(counts.at + o));
        _mm256_store_si256((__m256i*)(to + o), _mm256_sub_epi16(sixteen(bases + o), _mm256_add_epi16(differing, differing)));
    }
}
inline Reals real_sums(const Counts& counts, const int32_t* bases, int64_t first) {
    return sums_of(counts.at + first, bases + first);
}

// The weights of some words stay in the nearest cache for all pixels.
template <int P, int O>
void count_all(const uint8_t* block, int64_t words, const int64_t* places, const uint8_t* const* x, int64_t pixels, uint16_t* wide) {
    for (int64_t first = 0; first < words; first += kWordsOfBytes) {
        const int64_t some = words - first < kWordsOfBytes ? words - first : kWordsOfBytes;
        for (int64_t p = 0; p < pixels; p += P)
            count<P, O>(block + first * 8 * O * kVector, some, places + first, x + p, wide + p * O * kVector);
    }
}

// Gives `end` the counts, 32 outputs at a time.
template <int P, int O, typename End>
void count_pixels(const uint8_t* block, int64_t width, int64_t words, const int64_t* places, const uint8_t* const* x,
                  int64_t pixels, const End& end) {
    alignas(64) uint16_t wide[kPanel * O * kVector] = {};
    count_all<P, O>(block, words, places, x, pixels, wide);
    for (int64_t p = 0; p < pixels; ++p)
        for (int64_t o = 0; o < width; o += 32) end(p, o, Counts{wide + p * O * kVector + o});
}

int64_t spin(int64_t turns) {
    Vector counts[8], table = zero(), places = zero();
    for (Vector& count : counts) count = zero();
    for (int64_t i = 0; i < turns; ++i) {
#pragma GCC unroll 8
        for (Vector& count : counts) {
            opaque(places);  // else one look-up would do for all
            count = add_bytes(count, shuffle_bytes(table, places));
        }
    }
    for (Vector& count : counts) opaque(count);
    return turns * 8 * 4 * kVector;
}

int64_t block_bytes(int64_t width, int64_t words) { return 8 * words * lanes(width); }

// Four weights a byte: word by word, four by four, output by output.
void interleave(const Layer&, const uint32_t* rows, int64_t outputs, int64_t width, int64_t words, uint8_t* block) {
    for (int64_t word = 0; word < words; ++word)
        for (int four = 0; four < 8; ++four)
            for (int64_t o = 0; o < lanes(width); ++o)
                *block++ = o < outputs ? uint8_t(rows[o * words + word] >> (4 * four) & 15) : 0;
}

}  // namespace
}  // namespace frostline
