// AVX-512BW: 64 outputs a vector, by table.
#include "layer.h"

#if defined(__AVX512BW__) || defined(FROSTLINE_EMULATED)

#include <immintrin.h>

namespace frostline {
namespace {

using Vector = __m512i;
constexpr int kVector = 64;

inline Vector zero() { return _mm512_setzero_si512(); }
inline Vector load(const uint8_t* from) { return _mm512_load_si512(from); }
inline Vector repeat(const uint8_t* table) { return _mm512_broadcast_i32x4(_mm_load_si128((const __m128i*)table)); }
inline Vector shuffle_bytes(Vector table, Vector places) { return _mm512_shuffle_epi8(table, places); }
inline Vector add_bytes(Vector a, Vector b) {
    a = _mm512_add_epi8(a, b);
#ifndef FROSTLINE_EMULATED
    asm("" : "+v"(a));  // keeps GCC from summing the addends first, which takes more registers than there are
#endif
    return a;
}
inline void opaque(Vector& value) {
#ifndef FROSTLINE_EMULATED
    asm volatile("" : "+v"(value));
#endif
}
inline void add_widened(uint16_t* to, Vector bytes) {
    const __m512i low = _mm512_cvtepu8_epi16(_mm512_castsi512_si256(bytes));
    const __m512i high = _mm512_cvtepu8_epi16(_mm512_extracti64x4_epi64(bytes, 1));
    _mm512_store_si512(to, _mm512_add_epi16(_mm512_load_si512(to), low));
    _mm512_store_si512(to + 32, _mm512_add_epi16(_mm512_load_si512(to + 32), high));
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
    count_pixels<8, 1>(block, width, words, places, x, pixels, end);
}

}  // namespace
}  // namespace frostline

#include "ends.h"
#include "prepare.h"

namespace frostline {

const Engine* avx512_engine() {
    static const Engine engine = {"avx512", false, false, kWordBytes, 32766, block_bytes, interleave, prepare, compute_panels, pack_bits, spin};
    return SUPPORTS("avx512bw") && SUPPORTS("avx512vl") ? &engine : nullptr;
}

}  // namespace frostline

#else
const frostline::Engine* frostline::avx512_engine() { return nullptr; }
#endif
