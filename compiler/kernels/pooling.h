// Max pooling of signs: a window's largest sign is +1 where one of its bits is set.
#pragma once

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "layer.h"

namespace frostline {

// A window over up to `kAxes` axes; `pads` has all begins before all ends. Unused axes, the first ones, have kernel 1.
class BitPool {
public:
    BitPool(const std::vector<int64_t>& kernel, const std::vector<int64_t>& strides, const std::vector<int64_t>& pads) {
        const size_t axes = kernel.size();
        if (!axes || axes > kAxes || strides.size() != axes || pads.size() != 2 * axes) throw std::invalid_argument("its window has other axes");
        const size_t unused = kAxes - axes;
        for (size_t i = 0; i < axes; ++i) {
            if (kernel[i] < 1 || strides[i] < 1) throw std::invalid_argument("its window or its stride is empty");
            kernel_[unused + i] = kernel[i], strides_[unused + i] = strides[i];
            before_[unused + i] = pads[i], after_[unused + i] = pads[axes + i];
            // then no window lies outside of the image
            if (std::min(pads[i], pads[axes + i]) < 0 || std::max(pads[i], pads[axes + i]) >= kernel[i]) throw std::invalid_argument("it pads as much as its window holds");
        }
    }

    // The sizes of the result; both have all `kAxes`.
    std::vector<int64_t> out_sizes(const std::vector<int64_t>& in) const {
        std::vector<int64_t> out(kAxes);
        for (int i = 0; i < kAxes; ++i) {
            const int64_t room = in[i] + before_[i] + after_[i] - kernel_[i];
            if (in[i] < 1 || room < 0) throw std::invalid_argument("x is smaller than its window");
            out[i] = room / strides_[i] + 1;
        }
        return out;
    }

    // One image, `[pixels, words]`; bits of `flips`, where there are some, are turned in the result.
    void run(const uint32_t* x, const std::vector<int64_t>& in, int64_t words, const uint32_t* flips, uint32_t* y) const {
        const std::vector<int64_t> out = out_sizes(in);
        for (int64_t a = 0; a < out[0]; ++a)
            for (int64_t b = 0; b < out[1]; ++b)
                for (int64_t c = 0; c < out[2]; ++c, y += words) {
                    pixel(x, in, words, {a, b, c}, y);
                    for (int64_t w = 0; flips && w < words; ++w) y[w] ^= flips[w];
                }
    }

private:
    int64_t kernel_[kAxes] = {1, 1, 1}, strides_[kAxes] = {1, 1, 1}, before_[kAxes] = {}, after_[kAxes] = {};

    void pixel(const uint32_t* x, const std::vector<int64_t>& in, int64_t words, const int64_t (&at)[kAxes], uint32_t* y) const {
        int64_t first[kAxes], last[kAxes];
        for (int i = 0; i < kAxes; ++i) {
            const int64_t start = at[i] * strides_[i] - before_[i];
            first[i] = std::max<int64_t>(start, 0), last[i] = std::min(start + kernel_[i], in[i]);
        }
        std::memset(y, 0, size_t(words) * 4);
        for (int64_t a = first[0]; a < last[0]; ++a)
            for (int64_t b = first[1]; b < last[1]; ++b) {
                const uint32_t* tap = x + ((a * in[1] + b) * in[2] + first[2]) * words;
                for (int64_t c = first[2]; c < last[2]; ++c)
                    for (int64_t w = 0; w < words; ++w) y[w] |= *tap++;
            }
    }
};

}  // namespace frostline
