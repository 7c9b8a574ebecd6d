// AVX2: 32 outputs a vector, by table.
#include "layer.h"

#ifdef __AVX2__

#include <immintrin.h>

namespace frostline {
namespace {

using Vector = __m256i;
constexpr int kVector = 32;

inline Vector zero() { return _mm256_setzero_si256(); }
inline Vector load(const uint8_t* from) { return _mm256_load_si256((const __m256i*)from); }
inline Vector repeat(const uint8_t* table) { return _mm256_broadcastsi128_si256(_mm_load_si128((const __m128i*)table)); }
inline Vector shuffle_bytes(Vector table, Vector places) { return _mm256_shuffle_epi8(table, places); }
inline Vector add_bytes(Vector a, Vector b) {
    a = _mm256_add_epi8(a, b);
    asm("" : "+x"(a));  // keeps GCC from summing the addends first, which takes more registers than there are
    return a;
}
inline void opaque(Vector& value) { asm volatile("" : "+x"(value)); }
inline void add_widened(uint16_t* to, Vector bytes) {
    __m256i *low = (__m256i*)to, *high = (__m256i*)(to + 16);
    *low = _mm256_add_epi16(*low, _mm256_cvtepu8_epi16(_mm256_castsi256_si128(bytes)));
    *high = _mm256_add_epi16(*high, _mm256_cvtepu8_epi16(_mm256_extracti128_si256(bytes, 1)));
}

}  // namespace
}  // namespace frostline

#include "lookup.h"

namespace frostline {
namespace {

template <typename End>
void count_panel(const Layer& layer, int64_t width, const uint8_t* block, const int64_t* places, const uint8_t* const* x,
                 int64_t pixels, const End& end) {
    const int64_t words = layer.taps * layer.words;
    if (width == kBlock) count_pixels<4, 2>(block, width, words, places, x, pixels, end);
    else count_pixels<8, 1>(block, width, words, places, x, pixels, end);
}

}  // namespace
}  // namespace frostline

#include "ends.h"
#include "prepare.h"

namespace frostline {

const Engine* avx2_engine() {
    static const Engine engine = {"avx2", false, false, kWordBytes, 32766, block_bytes, interleave, prepare, compute_panels, pack_bits, spin};
    return SUPPORTS("avx2") ? &engine : nullptr;
}

}  // namespace frostline

#else
const frostline::Engine* frostline::avx2_engine() { return nullptr; }
#endif
