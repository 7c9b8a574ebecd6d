// A convolution of packed signs, and which taps of a window lie inside of the image.
#ifndef FROSTLINE_WINDOW
#define FROSTLINE_WINDOW

#include "warp.cuh"

// Field by field the same as `Convolution` in cuda.py. A word is 32 channels; a row is a pixel of the result.
struct Convolution {
    const unsigned* activations;  // [images, height, width, words]
    const unsigned* weights;      // [outputs, kernel_height, kernel_width, group_words]
    const int* corrections;       // [kernel_height + 1, kernel_width + 1, outputs], see correction()
    void* result;                 // [rows, outputs], or [rows, ceil(outputs / 32)] words of bits
    const int* thresholds;        // [outputs], for BITS
    const unsigned char* flips;   // [outputs] or null, for BITS
    const float* scales;          // [outputs] or null, for FLOATS and HALVES
    const float* shifts;          // [outputs] or null
    const void* residual;         // [rows, outputs] of the result's type, or null
    int rows;                     // images * out_height * out_width
    int height, width, words;
    int inputs, group_words;  // of one group
    int out_height, out_width;
    int outputs, group_outputs;  // of all groups, of one group
    int kernel_height, kernel_width, stride_y, stride_x, pad_top, pad_left, dilation_y, dilation_x;
};

// The window of one row: where its first tap lies. In padding that is outside of the image.
struct alignas(16) Window {
    const unsigned* origin;
    int y, x;
};

// The taps [top, bottom) x [left, right) that lie inside of the image.
struct Taps {
    int top, bottom, left, right;
};

constexpr int NOWHERE = -(1 << 30);  // no tap reaches an image from there

__device__ inline int at_most(int a, int b) { return a < b ? a : b; }

__device__ inline Window window_of(const Convolution& c, int row) {
    if (row >= c.rows) return {c.activations, NOWHERE, NOWHERE};
    const int line = row / c.out_width;
    const int image = line / c.out_height;
    const int y = (line - image * c.out_height) * c.stride_y - c.pad_top;
    const int x = (row - line * c.out_width) * c.stride_x - c.pad_left;
    const long long pixel = (static_cast<long long>(image) * c.height + y) * c.width + x;
    return {c.activations + pixel * c.words, y, x};
}

// Whether all taps lie inside of the image.
__device__ inline bool whole(const Convolution& c, const Window& window) {
    const int bottom = window.y + (c.kernel_height - 1) * c.dilation_y;
    const int right = window.x + (c.kernel_width - 1) * c.dilation_x;
    return window.y >= 0 && window.x >= 0 && bottom < c.height && right < c.width;
}

// How many taps come before `distance`.
__device__ inline int taps_before(int distance, int dilation, int kernel) {
    return distance <= 0 ? 0 : at_most((distance - 1) / dilation + 1, kernel);
}

__device__ inline Taps taps_of(const Convolution& c, const Window& window) {
    return {taps_before(-window.y, c.dilation_y, c.kernel_height),
            taps_before(c.height - window.y, c.dilation_y, c.kernel_height),
            taps_before(-window.x, c.dilation_x, c.kernel_width),
            taps_before(c.width - window.x, c.dilation_x, c.kernel_width)};
}

// Words from the origin of a window to a tap of it.
__device__ inline int tap_offset(const Convolution& c, int y, int x) {
    return (y * c.dilation_y * c.width + x * c.dilation_x) * c.words;
}

// What a sum over the taps inside of the image lacks: a . w = 4 popc(a & w) - 2 popc(a) + correction, where correction
// is inputs - 2 popc(w) of every such tap. `corrections` holds it summed over all taps above and left of a corner.
__device__ inline int correction(const Convolution& c, const Taps& taps, int output) {
    const int* corner = c.corrections + output;
    const int across = c.kernel_width + 1;
    int sum = corner[(taps.bottom * across + taps.right) * c.outputs];
    if (taps.top > 0) sum -= corner[(taps.top * across + taps.right) * c.outputs];
    if (taps.left > 0) sum -= corner[(taps.bottom * across + taps.left) * c.outputs];
    if (taps.top > 0 && taps.left > 0) sum += corner[(taps.top * across + taps.left) * c.outputs];
    return sum;
}

#endif
