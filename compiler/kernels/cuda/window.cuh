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

// The window of one row: taps [top, bottom) x [left, right) lie inside of the image, and `origin` is the word of its first
// tap, which may lie outside.
struct alignas(16) Window {
    long long origin;
    short top, bottom, left, right;
};

__device__ inline int at_most(int a, int b) { return a < b ? a : b; }

// How many steps of `dilation` reach `distance` or go beyond it, `kernel` at most.
__device__ inline int taps_before(int distance, int dilation, int kernel) {
    return distance <= 0 ? 0 : at_most((distance + dilation - 1) / dilation, kernel);
}

__device__ inline Window window_of(const Convolution& c, int row) {
    if (row >= c.rows) return {0, 0, 0, 0, 0};
    const int line = row / c.out_width;
    const int image = line / c.out_height;
    const int y = (line - image * c.out_height) * c.stride_y - c.pad_top;
    const int x = (row - line * c.out_width) * c.stride_x - c.pad_left;
    Window window;
    window.origin = ((static_cast<long long>(image) * c.height + y) * c.width + x) * c.words;
    window.top = static_cast<short>(taps_before(-y, c.dilation_y, c.kernel_height));
    window.bottom = static_cast<short>(taps_before(c.height - y, c.dilation_y, c.kernel_height));
    window.left = static_cast<short>(taps_before(-x, c.dilation_x, c.kernel_width));
    window.right = static_cast<short>(taps_before(c.width - x, c.dilation_x, c.kernel_width));
    return window;
}

__device__ inline bool whole(const Convolution& c, const Window& window) {
    return window.top == 0 && window.left == 0 && window.bottom == c.kernel_height && window.right == c.kernel_width;
}

// Words from the origin of a window to a tap of it.
__device__ inline int tap_offset(const Convolution& c, int y, int x) {
    return (y * c.dilation_y * c.width + x * c.dilation_x) * c.words;
}

// What a sum over the taps inside of the image lacks: a . w = 4 popc(a & w) - 2 popc(a) + correction, where correction is
// inputs - 2 popc(w) of every such tap. `corrections` holds it summed over all taps above and left of a corner.
__device__ inline int correction(const Convolution& c, const Window& window, int output) {
    const int* corner = c.corrections + output;
    const int across = c.kernel_width + 1;
    int sum = corner[(window.bottom * across + window.right) * c.outputs];
    if (window.top > 0) sum -= corner[(window.top * across + window.right) * c.outputs];
    if (window.left > 0) sum -= corner[(window.bottom * across + window.left) * c.outputs];
    if (window.top > 0 && window.left > 0) sum += corner[(window.top * across + window.left) * c.outputs];
    return sum;
}

#endif
