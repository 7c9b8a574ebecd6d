// Everything but the tile, for x86-64 with AVX2: from floats to bits, from sums to floats or bits. The file that
// includes it has defined `kWordBytes`, `put_word`, `put_words`, `lanes` and `panel_of_sums`.
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

// Pixels of a channel that are written together, and that are read together. They are several lines of the cache, as the
// same pixels of many channels may have one place in it; processors foresee what long runs read.
constexpr int kRun = kTogether * kPanel, kRead = 1024;

// Bit c of word p is x[c][p] >= 0, for up to 32 channels of up to kRead pixels.
inline void signs_of_columns(const float* x, int64_t stride, int64_t channels, int64_t pixels, uint32_t* words) {
    alignas(64) Marks marks[kRead / kReals][32];
    if (channels < 32) memset(marks, 0, size_t((pixels + kReals - 1) / kReals) * sizeof marks[0]);
    for (int64_t c = 0; c < channels; ++c) {
        const float* from = x + c * stride;
        int64_t p = 0;
        for (; p + kReals <= pixels; p += kReals) {
            marks[p / kReals][c] = signs_of(reals(from + p));
        }
        if (p < pixels) marks[p / kReals][c] = signs_of(some_reals(from + p, pixels - p));
    }
    for (int64_t p = 0; p < pixels; p += kReals) turned(marks[p / kReals], words + p);
}

// Bit c is x[c] >= 0, for up to 32 values.
inline uint32_t signs_of_row(const float* x, int64_t channels) {
    uint32_t word = 0;
    int64_t c = 0;
    for (; c + kReals <= channels; c += kReals) word |= uint32_t(signs_of(reals(x + c))) << c;
    for (; c < channels; ++c) word |= uint32_t(x[c] >= 0) << c;
    return word;
}

// The pixels of whole rows, channel by channel: of depth d, rows [first, last) of the image.
void prepare_columns(const Layer& layer, const Sizes& sizes, const Tensors& t, int64_t image, int64_t d, int64_t first, int64_t last) {
    const int64_t pixel_bytes = layer.groups * layer.words * kWordBytes, width = sizes.in[2];
    const float* from = t.x + image * layer.groups * layer.inputs * sizes.pixels_in + (d * sizes.in[1] + first) * width;
    const int64_t row = (d + layer.before[0]) * sizes.padded[1] + first + layer.before[1];
    uint8_t* to = t.prepared + (image * sizes.pixels_padded + row * sizes.padded[2] + layer.before[2]) * pixel_bytes;
    const int64_t pixels = (last - first) * width, margin = (sizes.padded[2] - width) * pixel_bytes;
    for (int64_t g = 0; g < layer.groups; ++g)
        for (int64_t k = 0; k < layer.words; ++k) {
            const int64_t left = layer.inputs - 32 * k;
            const float* columns = from + (g * layer.inputs + 32 * k) * sizes.pixels_in;
            uint8_t* word = to + (g * layer.words + k) * kWordBytes;
            for (int64_t pixel = 0, at = 0; pixel < pixels; pixel += kRead) {
                alignas(64) uint32_t words[kRead];
                const int64_t count = pixels - pixel < kRead ? pixels - pixel : kRead;
                signs_of_columns(columns + pixel, sizes.pixels_in, left < 32 ? left : 32, count, words);
                for (int64_t i = 0; i < count;) {  // what is left of a row of the image
                    const int64_t end = i + width - at < count ? i + width - at : count;
                    for (at += end - i; i < end; ++i, word += pixel_bytes) put_word(word, words[i]);
                    if (at == width) at = 0, word += margin;
                }
            }
        }
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
            put_words(to, from, width * layer.groups * layer.words);
        } else if (layer.rows) {
            const float* from = t.x + (image * sizes.pixels_in + pixel) * channels;
            for (int64_t i = 0; i < width; ++i, from += channels)
                for (int64_t g = 0; g < layer.groups; ++g)
                    for (int64_t k = 0; k < layer.words; ++k, to += kWordBytes) {
                        const int64_t left = layer.inputs - 32 * k;
                        put_word(to, signs_of_row(from + g * layer.inputs + 32 * k, left < 32 ? left : 32));
                    }
        } else if (h == 0 || row == first) {
            const int64_t rows = last - row, inside = sizes.in[1] - h;
            prepare_columns(layer, sizes, t, image, d, h, h + (rows < inside ? rows : inside));
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
        for (int64_t p = 0; p < pixels; p += kRead) {
            alignas(64) uint32_t found[kRead];
            const int64_t some = pixels - p < kRead ? pixels - p : kRead;
            signs_of_columns(x + 32 * k * pixels + p, pixels, count, some, found);
            for (int64_t i = 0; i < some; ++i) bits[(p + i) * words + k] = found[i];
        }
    }
}

struct Panel {
    int64_t image, pixel, count;     // pixels that are there, of kPanel, or in columns of kRun
    int64_t channel, valid, stride;  // first channel, outputs that are there, from pixel to pixel in the sums
};

// Sums of a panel, from output by output to pixel by pixel.
void turn(const int16_t* sums, const Panel& panel, int16_t* columns) {
    for (int64_t o = 0; o < panel.valid; o += kReals)
        for (int64_t part = 0; part < kPanel; part += kReals) {
            Sums turned_sums[kReals];
            transpose(sums + part * panel.stride + o, panel.stride, turned_sums);
            for (int64_t i = 0; i < kReals; ++i) put_sums(columns + (o + i) * kRun + part, turned_sums[i]);
        }
}

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

    // Of a panel's pixels the outputs of neighbouring blocks, which lie one after the other.
    void rows(const int16_t* sums, const Panel* blocks, int64_t count, const Sizes& sizes, int64_t channels) const {
        for (int64_t p = 0; p < blocks->count; ++p)
            for (int64_t i = 0; i < count; ++i) row(sums + i * kPanel * kBlock + p * blocks[i].stride, blocks[i], p, sizes, channels);
    }

    void row(const int16_t* sums, const Panel& panel, int64_t p, const Sizes& sizes, int64_t channels) const {
        const int64_t pixel = panel.image * sizes.pixels_out + panel.pixel + p, at = pixel * channels + panel.channel;
        alignas(64) Marks signs[kBlock / kReals] = {};
        for (int64_t o = 0; o < panel.valid; o += kReals) {
            const Sums some = sums_at(sums + o);
            const Reals scale = kScale ? reals(e.scale + panel.channel + o) : none();
            const Reals shift = kScale ? reals(e.shift + panel.channel + o) : none();
            const int64_t left = panel.valid - o;
            signs[o / kReals] = left >= kReals ? write(some, scale, shift, at + o) : write_some(some, scale, shift, at + o, left);
        }
        if (kBits) memcpy(t.y_bits + pixel * words_of(channels) + panel.channel / 32, signs, size_t(4 * words_of(panel.valid)));
    }

    // One channel after the other.
    void columns(const int16_t* sums, const Panel& panel, const Sizes& sizes, int64_t channels) const {
        alignas(64) Marks signs[kRun / kReals][kBlock];
        if (kBits) memset(signs, 0, sizeof signs);
        for (int64_t o = 0; o < panel.valid; ++o, sums += kRun) {
            const int64_t channel = panel.channel + o, at = (panel.image * channels + channel) * sizes.pixels_out + panel.pixel;
            const Reals scale = kScale ? each(e.scale[channel]) : none(), shift = kScale ? each(e.shift[channel]) : none();
            int64_t p = 0;
            for (; p + kReals <= panel.count; p += kReals) signs[p / kReals][o] = write(sums_at(sums + p), scale, shift, at + p);
            if (p < panel.count) signs[p / kReals][o] = write_some(sums_at(sums + p), scale, shift, at + p, panel.count - p);
        }
        if (!kBits) return;
        const int64_t words = words_of(channels);
        for (int64_t o = 0; o < panel.valid; o += 32) {
            alignas(64) uint32_t found[kRun];
            for (int64_t p = 0; p < panel.count; p += kReals) turned(signs[p / kReals] + o, found + p);
            uint32_t* to = t.y_bits + (panel.image * sizes.pixels_out + panel.pixel) * words + (panel.channel + o) / 32;
            for (int64_t p = 0; p < panel.count; ++p) to[p * words] = found[p];
        }
    }
};

template <bool... kChosen>
void to_floats(const int16_t* sums, const Panel* blocks, int64_t count, const Layer& layer, const Sizes& sizes, const Epilogue& e, const Tensors& t) {
    const int64_t channels = layer.groups * layer.outputs;
    if constexpr (sizeof...(kChosen) == 4) {
        const Floats<kChosen...> floats{e, t};
        if (layer.rows) floats.rows(sums, blocks, count, sizes, channels);
        else floats.columns(sums, *blocks, sizes, channels);
    } else {
        const bool next[] = {e.scale != nullptr, t.residual != nullptr, e.limits != nullptr, t.y_bits != nullptr};
        if (next[sizeof...(kChosen)]) to_floats<kChosen..., true>(sums, blocks, count, layer, sizes, e, t);
        else to_floats<kChosen..., false>(sums, blocks, count, layer, sizes, e, t);
    }
}

// More floats than this are not in a core's own cache when they are needed; to fetch what is there costs time.
constexpr int64_t kNear = 1 << 18;

// GCC drops a function that does nothing but `__builtin_prefetch`.
inline void fetch(const float* line) { asm volatile("prefetcht0 %0" : : "m"(*line)); }

// The results of a panel, or what is added to them, come into the cache while its sums are computed, which use no memory.
void fetch_results(const float* results, const Panel& panel, const Layer& layer, const Sizes& sizes) {
    const int64_t channels = layer.groups * layer.outputs;
    if (layer.rows) {
        const float* row = results + (panel.image * sizes.pixels_out + panel.pixel) * channels + panel.channel;
        for (int64_t p = 0; p < panel.count; ++p, row += channels)
            for (int64_t o = 0; o < panel.valid; o += 16) fetch(row + o);
    } else {
        const float* column = results + (panel.image * channels + panel.channel) * sizes.pixels_out + panel.pixel;
        for (int64_t o = 0; o < panel.valid; ++o, column += sizes.pixels_out) fetch(column);
    }
}

void compute_panels(const Layer& layer, const Sizes& sizes, const Tensors& t, const Epilogue& e, int64_t image,
                    int64_t index, int64_t panels, const Block* blocks, int64_t count) {
    const int64_t group = blocks->group, begin = index * kPanel, there = sizes.pixels_out - begin;
    const int64_t pixels = there < panels * kPanel ? there : panels * kPanel;
    const uint8_t* origin = t.prepared + (image * sizes.pixels_padded * layer.groups + group) * layer.words * kWordBytes;
    const bool far = !e.thresholds && t.batch * layer.groups * layer.outputs * sizes.pixels_out > kNear;
    alignas(64) int16_t sums[kNeighbours * kPanel * kBlock], columns[kBlock * kRun];
    Panel own[kNeighbours];
    for (int64_t i = 0; i < count; ++i) {
        const int64_t first = blocks[i].first, left = layer.outputs - first, width = blocks[i].width;
        own[i] = {image, begin, pixels, group * layer.outputs + first, left < width ? left : width, lanes(width)};
    }
    for (int64_t done = 0; done < pixels; done += kPanel) {
        const uint8_t* x[kPanel];
        for (int64_t p = 0; p < kPanel; ++p) x[p] = origin + sizes.offsets[begin + done + p];
        for (int64_t i = 0; i < count; ++i) {
            const int32_t* own_bases = sizes.bases + group * padded_outputs(layer.outputs) + blocks[i].first;
            const int32_t* bases[kPanel];
            for (int64_t p = 0; p < kPanel; ++p) bases[p] = own_bases + sizes.based[begin + done + p];
            own[i].pixel = begin + done, own[i].count = pixels - done < kPanel ? pixels - done : kPanel;
            int16_t* to = sums + i * kPanel * kBlock;
            if (far) fetch_results(t.y, own[i], layer, sizes);
            if (far && t.residual) fetch_results(t.residual, own[i], layer, sizes);
            panel_of_sums(blocks[i].width, blocks[i].weights, layer.taps * layer.words, sizes.places, x, bases, int(own[i].count), to);
            if (e.thresholds) to_bits(to, own[i], e, sizes, t, words_of(layer.groups * layer.outputs));
            else if (!layer.rows) turn(to, own[i], columns + done);
        }
        if (!e.thresholds && layer.rows) to_floats<>(sums, own, count, layer, sizes, e, t);
    }
    if (e.thresholds || layer.rows) return;
    own->pixel = begin, own->count = pixels;
    to_floats<>(columns, own, 1, layer, sizes, e, t);
}

}  // namespace
}  // namespace frostline
