// Everything but the tile, for x86-64 with AVX2: from floats to bits, from sums to floats or bits. The file that
// includes it has defined `kWordBytes`, `put_word`, `lanes` and `panel_of_sums`.
#pragma once

#include <immintrin.h>

#include <cstring>

#include "layer.h"

// Tests build the library for instructions that their processor lacks, over functions that stand in for them.
#ifdef FROSTLINE_EMULATED
#define SUPPORTS(feature) true
#else
#define SUPPORTS(feature) __builtin_cpu_supports(feature)
#endif

namespace frostline {
namespace {

inline __m256i first_of_eight(int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(int(count)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline uint8_t signs_of(__m256 values) {
    return uint8_t(_mm256_movemask_ps(_mm256_cmp_ps(values, _mm256_setzero_ps(), _CMP_GE_OQ)));
}

// Bit c of word p from bit p of byte c.
inline void turned(const uint8_t* signs, uint32_t* words) {
    __m256i all = _mm256_load_si256((const __m256i*)signs);
    for (int p = 7; p >= 0; --p) {
        words[p] = uint32_t(_mm256_movemask_epi8(all));
        all = _mm256_add_epi8(all, all);
    }
}

// Bit c of word p is x[c][p] >= 0, for up to 32 channels of 16 pixels: a line of the cache is read at once, as the lines
// of many channels may have one place in it.
inline void signs_of_columns(const float* x, int64_t stride, int64_t channels, int64_t pixels, uint32_t* words) {
    alignas(32) uint8_t low[32] = {}, high[32] = {};
    if (pixels >= 16) {
        for (int64_t c = 0; c < channels; ++c) {
            low[c] = signs_of(_mm256_loadu_ps(x + c * stride));
            high[c] = signs_of(_mm256_loadu_ps(x + c * stride + 8));
        }
    } else {
        const __m256i inside = first_of_eight(pixels), beyond = first_of_eight(pixels - 8);
        for (int64_t c = 0; c < channels; ++c) {
            low[c] = signs_of(_mm256_maskload_ps(x + c * stride, inside));
            if (pixels > 8) high[c] = signs_of(_mm256_maskload_ps(x + c * stride + 8, beyond));
        }
    }
    turned(low, words);
    turned(high, words + 8);
}

// Bit c is x[c] >= 0, for up to 32 values.
inline uint32_t signs_of_row(const float* x, int64_t channels) {
    uint32_t word = 0;
    int64_t c = 0;
    for (; c + 8 <= channels; c += 8) word |= uint32_t(signs_of(_mm256_loadu_ps(x + c))) << c;
    for (; c < channels; ++c) word |= uint32_t(x[c] >= 0) << c;
    return word;
}

void prepare_rows(const Layer& layer, const Sizes& sizes, const Tensors& t, int64_t image, int64_t first, int64_t last) {
    const int64_t pixel_bytes = layer.groups * layer.words * kWordBytes, row_bytes = sizes.padded[2] * pixel_bytes;
    const int64_t channels = layer.groups * layer.inputs, width = sizes.in[2];
    for (int64_t row = first; row < last; ++row) {
        uint8_t* to = t.prepared + (image * sizes.pixels_padded + row * sizes.padded[2]) * pixel_bytes;
        const int64_t d = row / sizes.padded[1] - layer.before[0], h = row % sizes.padded[1] - layer.before[1];
        if (d < 0 || d >= sizes.in[0] || h < 0 || h >= sizes.in[1]) {
            memset(to, 0, size_t(row_bytes));
            continue;
        }
        memset(to, 0, size_t(layer.before[2] * pixel_bytes));
        to += layer.before[2] * pixel_bytes;
        memset(to + width * pixel_bytes, 0, size_t((sizes.padded[2] - layer.before[2] - width) * pixel_bytes));
        const int64_t pixel = (d * sizes.in[1] + h) * width;
        if (t.x_bits) {
            const uint32_t* from = t.x_bits + (image * sizes.pixels_in + pixel) * layer.groups * layer.words;
            for (int64_t i = 0; i < width * layer.groups * layer.words; ++i) put_word(to + i * kWordBytes, from[i]);
        } else if (layer.rows) {
            const float* from = t.x + (image * sizes.pixels_in + pixel) * channels;
            for (int64_t i = 0; i < width; ++i, from += channels)
                for (int64_t g = 0; g < layer.groups; ++g)
                    for (int64_t k = 0; k < layer.words; ++k, to += kWordBytes) {
                        const int64_t left = layer.inputs - 32 * k;
                        put_word(to, signs_of_row(from + g * layer.inputs + 32 * k, left < 32 ? left : 32));
                    }
        } else {
            const float* from = t.x + image * channels * sizes.pixels_in + pixel;
            for (int64_t g = 0; g < layer.groups; ++g)
                for (int64_t k = 0; k < layer.words; ++k) {
                    const int64_t left = layer.inputs - 32 * k, count = left < 32 ? left : 32;
                    const float* columns = from + (g * layer.inputs + 32 * k) * sizes.pixels_in;
                    uint8_t* word = to + (g * layer.words + k) * kWordBytes;
                    for (int64_t w = 0; w < width; w += 16) {
                        uint32_t words[16];
                        const int64_t pixels = width - w < 16 ? width - w : 16;
                        signs_of_columns(columns + w, sizes.pixels_in, count, pixels, words);
                        for (int64_t p = 0; p < pixels; ++p) put_word(word + (w + p) * pixel_bytes, words[p]);
                    }
                }
        }
    }
}

void pack_bits(const float* x, int64_t channels, int64_t pixels, bool rows, uint32_t* bits) {
    const int64_t words = words_of(channels);
    for (int64_t k = 0; k < words; ++k) {
        const int64_t left = channels - 32 * k, count = left < 32 ? left : 32;
        if (rows) {
            for (int64_t p = 0; p < pixels; ++p) bits[p * words + k] = signs_of_row(x + p * channels + 32 * k, count);
            continue;
        }
        for (int64_t p = 0; p < pixels; p += 16) {
            uint32_t found[16];
            signs_of_columns(x + 32 * k * pixels + p, pixels, count, pixels - p, found);
            for (int64_t i = 0; i < 16 && p + i < pixels; ++i) bits[(p + i) * words + k] = found[i];
        }
    }
}

// The low halves of int32: a base may be twice the largest sum, as what is taken from it may be.
inline __m256i sixteen(const int32_t* x) {
    const __m256i half = _mm256_set1_epi32(0xffff), low = _mm256_and_si256(half, _mm256_loadu_si256((const __m256i*)x));
    const __m256i packed = _mm256_packus_epi32(low, _mm256_and_si256(half, _mm256_loadu_si256((const __m256i*)(x + 8))));
    return _mm256_permute4x64_epi64(packed, 0xd8);
}

// Bits of the sums of one pixel, 32 outputs a word.
inline uint32_t reached(const int16_t* sums, const int32_t* thresholds, uint32_t flips) {
    __m256i low = _mm256_cmpgt_epi16(sixteen(thresholds), _mm256_load_si256((const __m256i*)sums));
    __m256i high = _mm256_cmpgt_epi16(sixteen(thresholds + 16), _mm256_load_si256((const __m256i*)(sums + 16)));
    __m256i below = _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xd8);
    return ~uint32_t(_mm256_movemask_epi8(below)) ^ flips;
}

// Eight outputs of eight pixels: sums[pixel][output] to one vector an output.
inline void transpose(const int16_t* sums, int64_t stride, __m128i* columns) {
    __m128i r[8], s[8];
    for (int i = 0; i < 8; ++i) r[i] = _mm_load_si128((const __m128i*)(sums + i * stride));
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

struct Panel {
    int64_t image, pixel, count;     // pixels that are there, of kPanel
    int64_t channel, valid, stride;  // first channel, outputs that are there, from pixel to pixel in the sums
};

void to_bits(const int16_t* sums, const Panel& panel, const Epilogue& e, const Sizes& sizes, const Tensors& t, int64_t words) {
    for (int64_t p = 0; p < panel.count; ++p) {
        uint32_t* to = t.y_bits + (panel.image * sizes.pixels_out + panel.pixel + p) * words + panel.channel / 32;
        for (int64_t o = 0; o < panel.valid; o += 32) {
            const int64_t channel = panel.channel + o, left = panel.valid - o;
            const uint32_t word = reached(sums + p * panel.stride + o, e.thresholds + channel, e.flips[channel / 32]);
            to[o / 32] = left < 32 ? word & ((1u << left) - 1) : word;
        }
    }
}

// What follows the sums, known when this is compiled, so that the loops do nothing else. Each step is rounded by itself,
// as separate operators round.
template <bool kScale, bool kResidual, bool kLimits, bool kBits>
struct Floats {
    const Epilogue& e;
    const Tensors& t;

    __m256 finished(__m128i sums, __m256 scale, __m256 shift, __m256 residual) const {
        __m256 y = _mm256_cvtepi32_ps(_mm256_cvtepi16_epi32(sums));
        if (kScale) y = _mm256_add_ps(_mm256_mul_ps(y, scale), shift);
        if (kResidual) y = _mm256_add_ps(y, residual);
        // Of NaN, or of zeros of two signs, the second operand is chosen: the value, as Clip does.
        if (kLimits) y = _mm256_min_ps(_mm256_broadcast_ss(e.limits + 1), _mm256_max_ps(_mm256_broadcast_ss(e.limits), y));
        return y;
    }

    // Eight results at `at`, and the bits of their signs.
    uint8_t write(__m128i sums, __m256 scale, __m256 shift, int64_t at) const {
        const __m256 y = finished(sums, scale, shift, kResidual ? _mm256_loadu_ps(t.residual + at) : _mm256_setzero_ps());
        _mm256_storeu_ps(t.y + at, y);
        return kBits ? signs_of(y) : 0;
    }

    // The first `count` of eight.
    uint8_t write_some(__m128i sums, __m256 scale, __m256 shift, int64_t at, int64_t count) const {
        const __m256i inside = first_of_eight(count);
        const __m256 residual = kResidual ? _mm256_maskload_ps(t.residual + at, inside) : _mm256_setzero_ps();
        const __m256 y = finished(sums, scale, shift, residual);
        _mm256_maskstore_ps(t.y + at, inside, y);
        return kBits ? uint8_t(signs_of(y) & ((1 << count) - 1)) : 0;
    }

    void rows(const int16_t* sums, const Panel& panel, const Sizes& sizes, int64_t channels) const {
        const __m256 none = _mm256_setzero_ps();
        for (int64_t p = 0; p < panel.count; ++p) {
            const int64_t pixel = panel.image * sizes.pixels_out + panel.pixel + p, at = pixel * channels + panel.channel;
            alignas(32) uint8_t signs[kBlock / 8] = {};
            for (int64_t o = 0; o < panel.valid; o += 8) {
                const __m128i eight = _mm_load_si128((const __m128i*)(sums + p * panel.stride + o));
                const __m256 scale = kScale ? _mm256_loadu_ps(e.scale + panel.channel + o) : none;
                const __m256 shift = kScale ? _mm256_loadu_ps(e.shift + panel.channel + o) : none;
                const int64_t left = panel.valid - o;
                signs[o / 8] = left >= 8 ? write(eight, scale, shift, at + o) : write_some(eight, scale, shift, at + o, left);
            }
            if (kBits) memcpy(t.y_bits + pixel * words_of(channels) + panel.channel / 32, signs, size_t(4 * words_of(panel.valid)));
        }
    }

    // Channel by channel: a line of the cache is written at once, for the reason given above.
    void columns(const int16_t* sums, const Panel& panel, const Sizes& sizes, int64_t channels) const {
        const __m256 none = _mm256_setzero_ps();
        const bool whole = panel.count == kPanel;
        alignas(32) uint8_t signs[2][kBlock] = {};
        for (int64_t o = 0; o < panel.valid; o += 8) {
            __m128i turned_sums[2][8];
            transpose(sums + o, panel.stride, turned_sums[0]);
            transpose(sums + 8 * panel.stride + o, panel.stride, turned_sums[1]);
            const int64_t some = panel.valid - o < 8 ? panel.valid - o : 8;
            for (int64_t i = 0; i < some; ++i) {
                const int64_t channel = panel.channel + o + i;
                const int64_t at = (panel.image * channels + channel) * sizes.pixels_out + panel.pixel;
                const __m256 scale = kScale ? _mm256_broadcast_ss(e.scale + channel) : none;
                const __m256 shift = kScale ? _mm256_broadcast_ss(e.shift + channel) : none;
                if (whole) {
                    signs[0][o + i] = write(turned_sums[0][i], scale, shift, at);
                    signs[1][o + i] = write(turned_sums[1][i], scale, shift, at + 8);
                    continue;
                }
                for (int64_t half = 0; 8 * half < panel.count; ++half) {
                    const int64_t left = panel.count - 8 * half, count = left < 8 ? left : 8;
                    signs[half][o + i] = write_some(turned_sums[half][i], scale, shift, at + 8 * half, count);
                }
            }
        }
        if (!kBits) return;
        const int64_t words = words_of(channels);
        for (int64_t o = 0; o < panel.valid; o += 32) {
            uint32_t found[kPanel];
            turned(signs[0] + o, found);
            turned(signs[1] + o, found + 8);
            uint32_t* to = t.y_bits + (panel.image * sizes.pixels_out + panel.pixel) * words + (panel.channel + o) / 32;
            for (int64_t p = 0; p < panel.count; ++p) to[p * words] = found[p];
        }
    }
};

template <bool... kChosen>
void to_floats(const int16_t* sums, const Panel& panel, const Layer& layer, const Sizes& sizes, const Epilogue& e, const Tensors& t) {
    const int64_t channels = layer.groups * layer.outputs;
    if constexpr (sizeof...(kChosen) == 4) {
        const Floats<kChosen...> floats{e, t};
        if (layer.rows) floats.rows(sums, panel, sizes, channels);
        else floats.columns(sums, panel, sizes, channels);
    } else {
        const bool next[] = {e.scale != nullptr, t.residual != nullptr, e.limits != nullptr, t.y_bits != nullptr};
        if (next[sizeof...(kChosen)]) to_floats<kChosen..., true>(sums, panel, layer, sizes, e, t);
        else to_floats<kChosen..., false>(sums, panel, layer, sizes, e, t);
    }
}

void compute_panel(const Layer& layer, const Sizes& sizes, const Tensors& t, const Epilogue& e, const uint8_t* block,
                   int64_t image, int64_t index, int64_t group, int64_t first, int64_t width) {
    const int64_t pixel_bytes = layer.groups * layer.words * kWordBytes, left = sizes.pixels_out - index * kPanel;
    const int64_t padded = padded_outputs(layer.outputs), outputs = layer.outputs - first;
    Panel panel = {image, index * kPanel, left < kPanel ? left : kPanel, group * layer.outputs + first,
                   outputs < width ? outputs : width, lanes(width)};
    alignas(64) int16_t sums[kPanel * kBlock];
    const uint8_t* x[kPanel];
    const int32_t* bases[kPanel];
    const uint8_t* origin = t.prepared + image * sizes.pixels_padded * pixel_bytes + group * layer.words * kWordBytes;
    for (int64_t p = 0; p < kPanel; ++p) {
        const int64_t pixel = panel.pixel + (p < panel.count ? p : panel.count - 1);
        x[p] = origin + sizes.offsets[pixel];
        bases[p] = sizes.bases + (sizes.patterns[pixel] * layer.groups + group) * padded + first;
    }
    panel_of_sums(width, block, layer.taps * layer.words, sizes.places, x, bases, int(panel.count), sums);
    if (e.thresholds) to_bits(sums, panel, e, sizes, t, words_of(layer.groups * layer.outputs));
    else to_floats<>(sums, panel, layer, sizes, e, t);
}

}  // namespace
}  // namespace frostline
