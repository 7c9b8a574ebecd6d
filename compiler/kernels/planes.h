// Floats of images whose rows are whole panels: a vector holds one output of sixteen pixels, and nothing is turned.
//
// Weights lie word by word, and in a word output by output.
#pragma once

#include "counts.h"
#include "ends.h"

namespace frostline {
namespace {

// Gives `end` panel i and output o of a tile: how many bits of its sixteen pixels differ.
template <int P, int O, typename End>
inline void count_planes(const uint8_t* weights, int64_t width, int64_t words, const int64_t* places, const uint8_t* const* x, const End& end) {
    __m512i counts[O][P];
#pragma GCC unroll 8
    for (int o = 0; o < O; ++o)
#pragma GCC unroll 8
        for (int i = 0; i < P; ++i) counts[o][i] = _mm512_setzero_si512();
    for (int64_t word = 0; word < words; ++word, weights += 4 * width) {
        __m512i inputs[P];
#pragma GCC unroll 8
        for (int i = 0; i < P; ++i) inputs[i] = kept(_mm512_loadu_si512(x[i] + places[word]));
#pragma GCC unroll 8
        for (int o = 0; o < O; ++o) {
            const __m512i own = repeated(weights + 4 * o);
#pragma GCC unroll 8
            for (int i = 0; i < P; ++i) counts[o][i] = sum_in_place(counts[o][i], differing(inputs[i], own));
        }
    }
#pragma GCC unroll 8
    for (int o = 0; o < O; ++o)
#pragma GCC unroll 8
        for (int i = 0; i < P; ++i) end(i, o, counts[o][i]);
}

void compute_planes(const Layer& layer, const Sizes& sizes, const Tensors& t, const Epilogue& e, int64_t image,
                    int64_t index, int64_t panels, const Block& block) {
    constexpr int kPanels = 2, kOutputs = 8;  // of a tile
    const int64_t channels = layer.groups * layer.outputs, words = layer.taps * layer.words;
    const uint8_t* origin = origin_of(layer, sizes, t, image, block);
    const int16_t* bases = sizes.panel_bases + (block.group * padded_outputs(layer.outputs) + block.first) * kPanel;
    const Panel all = panel_of(layer, block, image, index * kPanel, panels * kPanel);
    const bool far = is_far(layer, sizes, t);
    alignas(64) int16_t columns[kBlock * kRun];
    for (int64_t first = 0; first < all.valid; first += kOutputs) {
        const auto count_some = [&](int64_t panel, auto some) {
            constexpr int kSome = decltype(some)::value;
            const uint8_t* x[kSome];
            for (int i = 0; i < kSome; ++i) x[i] = origin + sizes.offsets[(index + panel + i) * kPanel];
            const uint8_t* weights = block.weights + 4 * first;
            for (int i = 0; far && i < kSome; ++i) {
                const float* results = t.y + (image * channels + all.channel + first) * sizes.pixels_out + (index + panel + i) * kPanel;
                fetch_columns(results, all.valid - first < kOutputs ? all.valid - first : kOutputs, sizes);
            }
            count_planes<kSome, kOutputs>(weights, block.width, words, sizes.places, x, [&](int i, int o, __m512i counts) {
                const __m256i base = sums_at(bases + sizes.panel_based[index + panel + i] + (first + o) * kPanel);
                const __m256i differing = _mm512_cvtepi32_epi16(counts);
                const __m256i sums = _mm256_sub_epi16(base, _mm256_add_epi16(differing, differing));
                put_sums(columns + (first + o) * kRun + (panel + i) * kPanel, sums);
            });
        };
        int64_t panel = 0;
        for (; panel + kPanels <= panels; panel += kPanels) count_some(panel, std::integral_constant<int, kPanels>());
        for (; panel < panels; ++panel) count_some(panel, std::integral_constant<int, 1>());
    }
    with_floats(e, t, [&](const auto& floats) { floats.write_columns(columns, all, sizes, channels); });
}

}  // namespace
}  // namespace frostline
