// What follows the counts of a tile, for x86-64 with AVX2: bits, floats in rows, or sums that become floats in columns.
// The file that includes it has defined `Counts`, of how many bits of 32 outputs differ, with `put_bits`, `put_sums` and
// `real_sums`, and `count_panel`, which gives an end the counts of a panel.
#pragma once

#include <cstring>
#include <type_traits>

#include "layer.h"
#include "reals.h"

namespace frostline {
namespace {

// Pixels of a channel that are written together. They are several lines of the cache, as the same pixels of many channels
// may have one place in it.
constexpr int kRun = kTogether * kPanel;

struct Panel {
    int64_t image, pixel, count;  // pixels that are there, of kPanel, or in columns of kRun
    int64_t channel, valid;       // first channel, outputs that are there
    const int32_t* bases[kPanel]; // of each pixel, of the first channel
};

struct Bits {
    const Panel& panel;
    uint32_t* to;
    int64_t words;  // from pixel to pixel

    void operator()(int64_t p, int64_t o, const Counts& counts) const { put_bits(to + p * words + o / 32, counts, panel.bases[p] + o); }
};

// What follows the sums, known when this is compiled, so that the loops do nothing else. Each step is rounded by itself,
// as separate operators round.
template <bool kScale, bool kResidual, bool kLimits, bool kBits>
struct Floats {
    const Epilogue& e;
    const Tensors& t;

    static Reals none() { return each(0); }
    Reals scale(int64_t channel) const { return kScale ? reals(e.scale + channel) : none(); }
    Reals shift(int64_t channel) const { return kScale ? reals(e.shift + channel) : none(); }

    Reals finished(Reals y, Reals scale, Reals shift, Reals residual) const {
        if (kScale) y = sum(times(y, scale), shift);
        if (kResidual) y = sum(y, residual);
        // Of NaN, or of zeros of two signs, the second operand is chosen: the value, as Clip does.
        if (kLimits) y = least(each(e.limits[1]), most(each(e.limits[0]), y));
        return y;
    }

    // A vector of results at `at`, and the bits of their signs.
    Marks write(Reals sums, Reals scale, Reals shift, int64_t at) const {
        const Reals y = finished(sums, scale, shift, kResidual ? reals(t.residual + at) : none());
        put(t.y + at, y);
        return kBits ? signs_of(y) : 0;
    }

    // Its first `count`.
    Marks write_some(Reals sums, Reals scale, Reals shift, int64_t at, int64_t count) const {
        const Reals y = finished(sums, scale, shift, kResidual ? some_reals(t.residual + at, count) : none());
        put_some(t.y + at, y, count);
        return kBits ? Marks(signs_of(y) & ((1u << count) - 1)) : 0;
    }

    // Of 32 outputs of a pixel in rows, the first `left`.
    void write_row(const Counts& counts, const int32_t* bases, int64_t channel, int64_t at, int64_t left, int64_t word) const {
        uint32_t signs = 0;
#pragma GCC unroll 4
        for (int64_t o = 0; o < 32; o += kReals) {
            const Reals sums = real_sums(counts, bases, o);
            if (left >= o + kReals) signs |= uint32_t(write(sums, scale(channel + o), shift(channel + o), at + o)) << o;
            else if (left > o) signs |= uint32_t(write_some(sums, scale(channel + o), shift(channel + o), at + o, left - o)) << o;
        }
        if (kBits) t.y_bits[word] = signs;
    }

    // Sums of pixels that lie one channel after the other.
    void write_columns(const int16_t* sums, const Panel& panel, const Sizes& sizes, int64_t channels) const {
        alignas(64) Marks signs[kRun / kReals][kBlock];
        if (kBits) memset(signs, 0, sizeof signs);
        for (int64_t o = 0; o < panel.valid; ++o, sums += kRun) {
            const int64_t channel = panel.channel + o, at = (panel.image * channels + channel) * sizes.pixels_out + panel.pixel;
            const Reals scale = kScale ? each(e.scale[channel]) : none(), shift = kScale ? each(e.shift[channel]) : none();
            int64_t p = 0;
            for (; p + kReals <= panel.count; p += kReals) signs[p / kReals][o] = write(reals_of(sums_at(sums + p)), scale, shift, at + p);
            if (p < panel.count) signs[p / kReals][o] = write_some(reals_of(sums_at(sums + p)), scale, shift, at + p, panel.count - p);
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

template <typename Floats>
struct Rows {
    const Panel& panel;
    Floats floats;
    int64_t pixel, channels, words;  // the first pixel, and from pixel to pixel

    void operator()(int64_t p, int64_t o, const Counts& counts) const {
        const int64_t channel = panel.channel + o, left = panel.valid - o, at = (pixel + p) * channels + channel;
        const int64_t word = (pixel + p) * words + channel / 32;
        if (left >= 32) floats.write_row(counts, panel.bases[p] + o, channel, at, 32, word);
        else floats.write_row(counts, panel.bases[p] + o, channel, at, left, word);
    }
};

// Sums of a panel, pixel by pixel.
struct Columns {
    const Panel& panel;
    int16_t *sums, *columns;

    void operator()(int64_t p, int64_t o, const Counts& counts) const { put_sums(sums + p * kBlock + o, counts, panel.bases[p] + o); }

    // From output by output to pixel by pixel.
    void turn() const {
        for (int64_t o = 0; o < panel.valid; o += kReals)
            for (int64_t part = 0; part < kPanel; part += kReals) {
                Sums turned_sums[kReals];
                transpose(sums + part * kBlock + o, kBlock, turned_sums);
                for (int64_t i = 0; i < kReals; ++i) put_sums(columns + (o + i) * kRun + part, turned_sums[i]);
            }
    }
};

// Calls `use` with what follows these sums.
template <bool... kChosen, typename Use>
void with_floats(const Epilogue& e, const Tensors& t, const Use& use) {
    if constexpr (sizeof...(kChosen) == 4) {
        use(Floats<kChosen...>{e, t});
    } else {
        const bool next[] = {e.scale != nullptr, t.residual != nullptr, e.limits != nullptr, t.y_bits != nullptr};
        if (next[sizeof...(kChosen)]) with_floats<kChosen..., true>(e, t, use);
        else with_floats<kChosen..., false>(e, t, use);
    }
}

// More floats than this are not in a core's own cache when they are needed; to fetch what is there costs time.
constexpr int64_t kNear = 1 << 18;

// GCC drops a function that does nothing but `__builtin_prefetch`.
inline void fetch(const float* line) { asm volatile("prefetcht0 %0" : : "m"(*line)); }

inline bool is_far(const Layer& layer, const Sizes& sizes, const Tensors& t) {
    return t.y && t.batch * layer.groups * layer.outputs * sizes.pixels_out > kNear;
}

// The same pixels of some outputs, from the first on.
inline void fetch_columns(const float* column, int64_t outputs, const Sizes& sizes) {
    for (int64_t o = 0; o < outputs; ++o, column += sizes.pixels_out) fetch(column);
}

// The results of a panel, or what is added to them, come into the cache while its sums are computed, which use no memory.
void fetch_results(const float* results, const Panel& panel, const Layer& layer, const Sizes& sizes) {
    const int64_t channels = layer.groups * layer.outputs;
    if (layer.rows) {
        const float* row = results + (panel.image * sizes.pixels_out + panel.pixel) * channels + panel.channel;
        for (int64_t p = 0; p < panel.count; ++p, row += channels)
            for (int64_t o = 0; o < panel.valid; o += 16) fetch(row + o);
    } else {
        fetch_columns(results + (panel.image * channels + panel.channel) * sizes.pixels_out + panel.pixel, panel.valid, sizes);
    }
}

// Some pixels of an image, and the outputs of a block.
inline Panel panel_of(const Layer& layer, const Block& block, int64_t image, int64_t pixel, int64_t count) {
    const int64_t left = layer.outputs - block.first;
    return {image, pixel, count, block.group * layer.outputs + block.first, left < block.width ? left : block.width, {}};
}

// Where an image begins for what a block reads.
inline const uint8_t* origin_of(const Layer& layer, const Sizes& sizes, const Tensors& t, int64_t image, const Block& block) {
    return t.prepared + image * sizes.image_bytes + block.group * layer.words * sizes.word_step;
}

void compute_panels(const Layer& layer, const Sizes& sizes, const Tensors& t, const Epilogue& e, int64_t image,
                    int64_t index, int64_t panels, const Block& block) {
    const int64_t channels = layer.groups * layer.outputs, begin = index * kPanel, there = sizes.pixels_out - begin;
    const int64_t pixels = there < panels * kPanel ? there : panels * kPanel;
    const int64_t first = image * sizes.pixels_out + begin, words = words_of(channels);
    const uint8_t* origin = origin_of(layer, sizes, t, image, block);
    const bool far = is_far(layer, sizes, t);
    const int32_t* own_bases = sizes.bases + block.group * padded_outputs(layer.outputs) + block.first;
    Panel panel = panel_of(layer, block, image, begin, pixels);

    const auto count_each = [&](const auto& end_at) {
        for (int64_t done = 0; done < pixels; done += kPanel) {
            const uint8_t* x[kPanel];
            for (int64_t p = 0; p < kPanel; ++p) {
                x[p] = origin + sizes.offsets[begin + done + p];
                panel.bases[p] = own_bases + sizes.based[begin + done + p];
            }
            panel.pixel = begin + done, panel.count = pixels - done < kPanel ? pixels - done : kPanel;
            if (far && !layer.rows) fetch_results(t.y, panel, layer, sizes);
            if (far && t.residual) fetch_results(t.residual, panel, layer, sizes);
            const auto end = end_at(done);
            count_panel(layer, block.width, block.weights, sizes.places, x, panel.count, end);
            if constexpr (std::is_same_v<decltype(end), const Columns>) end.turn();
        }
    };
    if (!t.y) {
        uint32_t* to = t.y_bits + first * words + panel.channel / 32;
        count_each([&](int64_t done) { return Bits{panel, to + done * words, words}; });
    } else if (layer.rows) {
        with_floats(e, t, [&](const auto& floats) {
            count_each([&](int64_t done) { return Rows<std::decay_t<decltype(floats)>>{panel, floats, first + done, channels, words}; });
        });
    } else {
        alignas(64) int16_t sums[kPanel * kBlock], columns[kBlock * kRun];
        count_each([&](int64_t done) { return Columns{panel, sums, columns + done}; });
        panel.pixel = begin, panel.count = pixels;
        with_floats(e, t, [&](const auto& floats) { floats.write_columns(columns, panel, sizes, channels); });
    }
}

}  // namespace
}  // namespace frostline
