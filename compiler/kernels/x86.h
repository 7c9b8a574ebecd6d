// Everything but the tile, for x86-64 with AVX2: from floats to bits, from sums to floats or bits. The file that
// includes it has defined `kWordBytes`, `put_word`, `lanes` and `panel_of_sums`.
#pragma once

#include <cstring>

#include "layer.h"
#include "reals.h"

// Tests build the library for instructions that their processor lacks, over functions that stand in for them.
#ifdef FROSTLINE_EMULATED
#define SUPPORTS(feature) true
#else
#define SUPPORTS(feature) __builtin_cpu_supports(feature)
#endif

namespace frostline {
namespace {

// Bit c of word p is x[c][p] >= 0, for up to 32 channels of 16 pixels: a line of the cache is read at once, as the lines
// of many channels may have one place in it.
inline void signs_of_columns(const float* x, int64_t stride, int64_t channels, int64_t pixels, uint32_t* words) {
    alignas(64) Marks marks[16 / kReals][32] = {};
    if (pixels >= 16) {
        for (int64_t c = 0; c < channels; ++c)
            for (int h = 0; h < 16 / kReals; ++h) marks[h][c] = signs_of(reals(x + c * stride + h * kReals));
    } else {
        for (int h = 0; h * kReals < pixels; ++h) {
            const int64_t left = pixels - h * kReals, count = left < kReals ? left : kReals;
            for (int64_t c = 0; c < channels; ++c) marks[h][c] = signs_of(some_reals(x + c * stride + h * kReals, count));
        }
    }
    for (int h = 0; h < 16 / kReals; ++h) turned(marks[h], words + h * kReals);
}

// Bit c is x[c] >= 0, for up to 32 values.
inline uint32_t signs_of_row(const float* x, int64_t channels) {
    uint32_t word = 0;
    int64_t c = 0;
    for (; c + kReals <= channels; c += kReals) word |= uint32_t(signs_of(reals(x + c))) << c;
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

struct Panel {
    int64_t image, pixel, count;     // pixels that are there, of kPanel
    int64_t channel, valid, stride;  // first channel, outputs that are there, from pixel to pixel in the sums
};

void to_bits(const int16_t* sums, const Panel& panel, const Epilogue& e, const Sizes& sizes, const Tensors& t, int64_t words) {
    for (int64_t o = 0; o < panel.valid; o += 32) {
        const int64_t channel = panel.channel + o, left = panel.valid - o;
        const Levels levels = levels_of(e.thresholds + channel);
        const uint32_t flips = e.flips[channel / 32], there = left < 32 ? (1u << left) - 1 : ~0u;
        uint32_t* to = t.y_bits + (panel.image * sizes.pixels_out + panel.pixel) * words + channel / 32;
        for (int64_t p = 0; p < panel.count; ++p)
            to[p * words] = (reached(sums + p * panel.stride + o, levels) ^ flips) & there;
    }
}

// What follows the sums, known when this is compiled, so that the loops do nothing else. Each step is rounded by itself,
// as separate operators round.
template <bool kScale, bool kResidual, bool kLimits, bool kBits>
struct Floats {
    const Epilogue& e;
    const Tensors& t;

    Reals finished(Sums sums, Reals scale, Reals shift, Reals residual) const {
        Reals y = reals_of(sums);
        if (kScale) y = sum(times(y, scale), shift);
        if (kResidual) y = sum(y, residual);
        // Of NaN, or of zeros of two signs, the second operand is chosen: the value, as Clip does.
        if (kLimits) y = least(each(e.limits[1]), most(each(e.limits[0]), y));
        return y;
    }

    // A vector of results at `at`, and the bits of their signs.
    Marks write(Sums sums, Reals scale, Reals shift, int64_t at) const {
        const Reals y = finished(sums, scale, shift, kResidual ? reals(t.residual + at) : none());
        put(t.y + at, y);
        return kBits ? signs_of(y) : 0;
    }

    // Its first `count`.
    Marks write_some(Sums sums, Reals scale, Reals shift, int64_t at, int64_t count) const {
        const Reals y = finished(sums, scale, shift, kResidual ? some_reals(t.residual + at, count) : none());
        put_some(t.y + at, y, count);
        return kBits ? Marks(signs_of(y) & ((1u << count) - 1)) : 0;
    }

    void rows(const int16_t* sums, const Panel& panel, const Sizes& sizes, int64_t channels) const {
        for (int64_t p = 0; p < panel.count; ++p) {
            const int64_t pixel = panel.image * sizes.pixels_out + panel.pixel + p, at = pixel * channels + panel.channel;
            alignas(64) Marks signs[kBlock / kReals] = {};
            for (int64_t o = 0; o < panel.valid; o += kReals) {
                const Sums some = sums_at(sums + p * panel.stride + o);
                const Reals scale = kScale ? reals(e.scale + panel.channel + o) : none();
                const Reals shift = kScale ? reals(e.shift + panel.channel + o) : none();
                const int64_t left = panel.valid - o;
                signs[o / kReals] = left >= kReals ? write(some, scale, shift, at + o) : write_some(some, scale, shift, at + o, left);
            }
            if (kBits) memcpy(t.y_bits + pixel * words_of(channels) + panel.channel / 32, signs, size_t(4 * words_of(panel.valid)));
        }
    }

    // Channel by channel: a line of the cache is written at once, for the reason given above.
    void columns(const int16_t* sums, const Panel& panel, const Sizes& sizes, int64_t channels) const {
        constexpr int kParts = kPanel / kReals;
        const bool whole = panel.count == kPanel;
        alignas(64) Marks signs[kParts][kBlock] = {};
        for (int64_t o = 0; o < panel.valid; o += kReals) {
            Sums turned_sums[kParts][kReals];
            for (int part = 0; part < kParts; ++part) transpose(sums + part * kReals * panel.stride + o, panel.stride, turned_sums[part]);
            const int64_t some = panel.valid - o < kReals ? panel.valid - o : kReals;
            for (int64_t i = 0; i < some; ++i) {
                const int64_t channel = panel.channel + o + i;
                const int64_t at = (panel.image * channels + channel) * sizes.pixels_out + panel.pixel;
                const Reals scale = kScale ? each(e.scale[channel]) : none(), shift = kScale ? each(e.shift[channel]) : none();
                if (whole) {
                    for (int part = 0; part < kParts; ++part)
                        signs[part][o + i] = write(turned_sums[part][i], scale, shift, at + part * kReals);
                    continue;
                }
                for (int64_t part = 0; kReals * part < panel.count; ++part) {
                    const int64_t left = panel.count - kReals * part, count = left < kReals ? left : kReals;
                    signs[part][o + i] = write_some(turned_sums[part][i], scale, shift, at + kReals * part, count);
                }
            }
        }
        if (!kBits) return;
        const int64_t words = words_of(channels);
        for (int64_t o = 0; o < panel.valid; o += 32) {
            uint32_t found[kPanel];
            for (int part = 0; part < kParts; ++part) turned(signs[part] + o, found + part * kReals);
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
