// AVX-512 with VPOPCNTDQ: 16 outputs a vector, bits of a xor counted in the processor.
#include "layer.h"

#if defined(__AVX512VPOPCNTDQ__) || defined(FROSTLINE_EMULATED)

#include "chained.h"

namespace frostline {
namespace {

constexpr int64_t kWordBytes = 4;
inline void put_word(uint8_t* to, uint32_t word) { __builtin_memcpy(to, &word, 4); }
inline void put_words(uint8_t* to, const uint32_t* words, int64_t count) { __builtin_memcpy(to, words, size_t(4 * count)); }

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
            const __m512i inputs = repeated(x[begin + p] + places[word]);
#pragma GCC unroll 8
            for (int o = 0; o < O; ++o) counts[p][o] = sum_in_place(counts[p][o], differing(weights[o], inputs));
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
void count_panel(const Layer& layer, int64_t width, const uint8_t* block, const int64_t* places, const uint8_t* const* x,
                 int64_t pixels, const End& end) {
    const int64_t words = layer.taps * layer.words;
    if (layer.chained) count_chained(width, block, words, x, pixels, end);
    else if (width == kBlock) count_pixels<4, 4>(block, words, places, x, pixels, end);
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
void interleave(const Layer& layer, const uint32_t* rows, int64_t outputs, int64_t width, int64_t words, uint8_t* block) {
    if (layer.chained) return interleave_chained(rows, outputs, width, words, block);
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
namespace {

void prepare_chained(const Layer& layer, const Sizes& sizes, const Tensors& t, int64_t image, int64_t first, int64_t last) {
    prepare(layer, sizes, t, image, first, last);
    if (layer.chained) chain_pixels(layer, sizes, t, image, first, last);
}

void compute(const Layer& layer, const Sizes& sizes, const Tensors& t, const Epilogue& e, int64_t image, int64_t panel, int64_t panels,
             const Block& block) {
    (sizes.planes ? compute_planes : compute_panels)(layer, sizes, t, e, image, panel, panels, block);
}

}  // namespace

const Engine* avx512_popcount_engine() {
    static const Engine engine = {"avx512-vpopcntdq", true, true, kWordBytes, 32766, block_bytes, interleave, prepare_chained, compute, pack_bits, spin};
    return SUPPORTS("avx512bw") && SUPPORTS("avx512vl") && SUPPORTS("avx512vpopcntdq") ? &engine : nullptr;
}

}  // namespace frostline

#else
const frostline::Engine* frostline::avx512_popcount_engine() { return nullptr; }
#endif
