// What precedes the counts, for x86-64 with AVX2: from floats, or from bits, to the padded input of a tile. The file that
// includes it has defined `kWordBytes`, `put_word` and `put_words`.
#pragma once

#include <cstring>

#include "layer.h"
#include "reals.h"

namespace frostline {
namespace {

// Pixels of a channel that are read together: processors foresee what long runs read.
constexpr int kRead = 1024;

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
    const int64_t step = sizes.pixel_step, width = sizes.in[2];
    const float* from = t.x + image * layer.groups * layer.inputs * sizes.pixels_in + (d * sizes.in[1] + first) * width;
    const int64_t row = (d + layer.before[0]) * sizes.padded[1] + first + layer.before[1];
    uint8_t* to = t.prepared + image * sizes.image_bytes + (row * sizes.padded[2] + layer.before[2]) * step;
    const int64_t pixels = (last - first) * width, margin = (sizes.padded[2] - width) * step;
    for (int64_t g = 0; g < layer.groups; ++g)
        for (int64_t k = 0; k < layer.words; ++k) {
            const int64_t left = layer.inputs - 32 * k;
            const float* columns = from + (g * layer.inputs + 32 * k) * sizes.pixels_in;
            uint8_t* word = to + (g * layer.words + k) * sizes.word_step;
            for (int64_t pixel = 0, at = 0; pixel < pixels; pixel += kRead) {
                alignas(64) uint32_t words[kRead];
                const int64_t count = pixels - pixel < kRead ? pixels - pixel : kRead;
                signs_of_columns(columns + pixel, sizes.pixels_in, left < 32 ? left : 32, count, words);
                for (int64_t i = 0; i < count;) {  // what is left of a row of the image
                    const int64_t some = width - at < count - i ? width - at : count - i;
                    if (step == kWordBytes) put_words(word, words + i, some);
                    else for (int64_t j = 0; j < some; ++j) put_word(word + j * step, words[i + j]);
                    word += some * step, i += some, at += some;
                    if (at == width) at = 0, word += margin;
                }
            }
        }
}

// Rows, which have no padding.
void prepare_rows(const Layer& layer, const Sizes& sizes, const Tensors& t, int64_t first, int64_t last) {
    const int64_t channels = layer.inputs, words = layer.words;
    uint8_t* to = t.prepared + first * sizes.pixel_step;
    first *= layer.groups, last *= layer.groups;  // each as a row of its own
    if (t.x_bits) return put_words(to, t.x_bits + first * words, (last - first) * words);
    for (int64_t row = first; row < last; ++row)
        for (int64_t k = 0; k < words; ++k, to += kWordBytes) {
            const int64_t left = channels - 32 * k;
            put_word(to, signs_of_row(t.x + row * channels + 32 * k, left < 32 ? left : 32));
        }
}

// Rows [first, last) of the padded image.
void prepare_image(const Layer& layer, const Sizes& sizes, const Tensors& t, int64_t image, int64_t first, int64_t last) {
    const int64_t step = sizes.pixel_step, words = layer.groups * layer.words;
    const int64_t width = sizes.in[2], margin = sizes.padded[2] - layer.before[2] - width, lines = sizes.planes ? words : 1;
    for (int64_t row = first; row < last; ++row) {
        uint8_t* to = t.prepared + image * sizes.image_bytes + row * sizes.padded[2] * step;
        const int64_t d = row / sizes.padded[1] - layer.before[0], h = row % sizes.padded[1] - layer.before[1];
        const bool outside = d < 0 || d >= sizes.in[0] || h < 0 || h >= sizes.in[1];
        for (int64_t i = 0; i < lines; ++i) {
            uint8_t* line = to + i * sizes.word_step;
            memset(line, 0, size_t((outside ? sizes.padded[2] : layer.before[2]) * step));
            if (!outside) memset(line + (layer.before[2] + width) * step, 0, size_t(margin * step));
        }
        if (outside) continue;
        to += layer.before[2] * step;
        if (t.x_bits) {
            const uint32_t* from = t.x_bits + (image * sizes.pixels_in + (d * sizes.in[1] + h) * width) * words;
            if (!sizes.planes) put_words(to, from, width * words);
            for (int64_t word = 0; sizes.planes && word < words; ++word) {
                uint32_t* line = (uint32_t*)(to + word * sizes.word_step);
                for (int64_t i = 0; i < width; ++i) line[i] = from[i * words + word];
            }
        } else if (h == 0 || row == first) {
            const int64_t rows = last - row, inside = sizes.in[1] - h;
            prepare_columns(layer, sizes, t, image, d, h, h + (rows < inside ? rows : inside));
        }
    }
}

void prepare(const Layer& layer, const Sizes& sizes, const Tensors& t, int64_t image, int64_t first, int64_t last) {
    if (layer.rows) prepare_rows(layer, sizes, t, first, last);
    else prepare_image(layer, sizes, t, image, first, last);
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

}  // namespace
}  // namespace frostline
