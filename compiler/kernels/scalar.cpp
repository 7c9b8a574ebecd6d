// Any processor: one output of one pixel at a time.
#include <cstring>

#include "layer.h"

namespace frostline {
namespace {

int64_t block_bytes(int64_t width, int64_t words) { return 4 * width * words; }

void interleave(const Layer&, const uint32_t* rows, int64_t outputs, int64_t width, int64_t words, uint8_t* block) {
    memset(block, 0, size_t(block_bytes(width, words)));
    memcpy(block, rows, size_t(4 * outputs * words));
}

uint32_t signs(const float* x, int64_t stride, int64_t count) {
    uint32_t word = 0;
    for (int64_t c = 0; c < count; ++c) word |= uint32_t(x[c * stride] >= 0) << c;
    return word;
}

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

void prepare(const Layer& layer, const Sizes& sizes, const Tensors& t, int64_t image, int64_t first, int64_t last) {
    const int64_t words = layer.groups * layer.words, channels = layer.groups * layer.inputs;
    uint32_t* to = (uint32_t*)t.prepared + (image * sizes.pixels_padded + first * sizes.padded[2]) * words;
    for (int64_t row = first; row < last; ++row)
        for (int64_t column = 0; column < sizes.padded[2]; ++column) {
            const int64_t d = row / sizes.padded[1] - layer.before[0], h = row % sizes.padded[1] - layer.before[1];
            const int64_t w = column - layer.before[2], pixel = (d * sizes.in[1] + h) * sizes.in[2] + w;
            const bool inside = d >= 0 && d < sizes.in[0] && h >= 0 && h < sizes.in[1] && w >= 0 && w < sizes.in[2];
            for (int64_t i = 0; i < words; ++i, ++to) {
                const int64_t group = i / layer.words, k = i % layer.words;
                const int64_t channel = group * layer.inputs + 32 * k, count = least(layer.inputs - 32 * k, 32);
                if (!inside) *to = 0;
                else if (t.x_bits) *to = t.x_bits[(image * sizes.pixels_in + pixel) * words + i];
                else if (layer.rows) *to = signs(t.x + (image * sizes.pixels_in + pixel) * channels + channel, 1, count);
                else *to = signs(t.x + (image * channels + channel) * sizes.pixels_in + pixel, sizes.pixels_in, count);
            }
        }
}

void compute(const Layer& layer, const Sizes& sizes, const Tensors& t, const Epilogue& e, int64_t image, int64_t panel,
             int64_t panels, const Block& block) {
    const int64_t words = layer.taps * layer.words, channels = layer.groups * layer.outputs, group = block.group, first = block.first;
    const int64_t out_words = words_of(channels), padded = padded_outputs(layer.outputs);
    const uint8_t* origin = t.prepared + 4 * (image * sizes.pixels_padded * layer.groups + group) * layer.words;
    for (int64_t pixel = panel * kPanel; pixel < least((panel + panels) * kPanel, sizes.pixels_out); ++pixel) {
        const int64_t at_pixel = image * sizes.pixels_out + pixel;
        for (int64_t o = 0; o < least(block.width, layer.outputs - first); ++o) {
            const uint32_t* weights = (const uint32_t*)block.weights + o * words;
            const uint8_t* x = origin + sizes.offsets[pixel];
            int64_t differing = 0;
            for (int64_t k = 0; k < words; ++k) {
                uint32_t word;
                memcpy(&word, x + sizes.places[k], 4);
                differing += __builtin_popcount(word ^ weights[k]);
            }
            const int64_t channel = group * layer.outputs + first + o;
            const int64_t base = sizes.bases[sizes.based[pixel] + group * padded + first + o];
            bool bit;
            if (!t.y) {
                bit = differing <= base;
            } else {
                const int64_t at = layer.rows ? at_pixel * channels + channel
                                              : (image * channels + channel) * sizes.pixels_out + pixel;
                float y = float(base - 2 * differing);
                if (e.scale) y = y * e.scale[channel], y = y + e.shift[channel];
                if (t.residual) y = y + t.residual[at];
                if (e.limits) y = y < e.limits[0] ? e.limits[0] : y, y = y > e.limits[1] ? e.limits[1] : y;
                t.y[at] = y;
                bit = y >= 0;
            }
            if (t.y_bits) {
                uint32_t& word = t.y_bits[at_pixel * out_words + channel / 32];
                if (channel % 32 == 0) word = 0;
                word |= uint32_t(bit) << channel % 32;
            }
        }
    }
}

void pack(const float* x, int64_t channels, int64_t pixels, bool rows, uint32_t* bits) {
    for (int64_t p = 0; p < pixels; ++p)
        for (int64_t c = 0; c < channels; c += 32)
            *bits++ = signs(rows ? x + p * channels + c : x + c * pixels + p, rows ? 1 : pixels, least(channels - c, 32));
}

int64_t spin(int64_t turns) {
    uint32_t x = 1;
    int64_t differing = 0;
    for (int64_t i = 0; i < turns; ++i)
        for (int k = 0; k < 8; ++k) {
            asm volatile("" : "+r"(x));
            differing += __builtin_popcount(x);
        }
    asm volatile("" : "+r"(differing));
    return turns * 8 * 32;
}

}  // namespace

const Engine* scalar_engine() {
    static const Engine engine = {"scalar", false, false, 4, 1 << 30, block_bytes, interleave, prepare, compute, pack, spin};
    return &engine;
}

}  // namespace frostline
