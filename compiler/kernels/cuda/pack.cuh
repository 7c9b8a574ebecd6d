// Values to bits: +1 is a set bit. Zero of either sign counts as +1, NaN as -1.
#ifndef FROSTLINE_PACK
#define FROSTLINE_PACK

#include "warp.cuh"

// Field by field the same as `Packing` in cuda.py. Strides in values.
struct Packing {
    const void* values;  // [images, channels, pixels] by strides
    unsigned* bits;      // [images, pixels, words]
    long long images, pixels, image_stride, channel_stride, pixel_stride;
    unsigned long long infinity;  // the bits of it, in the values' type
    int channels, words;
};

// Whether value >= 0, from the bits of a float of any width.
template <class T>
__device__ inline bool positive(T value, unsigned long long infinity) {
    const T minus_zero = static_cast<T>(T{1} << (8 * sizeof(T) - 1));
    return value <= static_cast<T>(infinity) || value == minus_zero;
}

// For channels far apart: a thread has a word, neighbours have neighbouring pixels.
template <class T>
__device__ inline void pack_planes(const Packing& p) {
    const long long thread = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const long long plane = thread / p.pixels, pixel = thread - plane * p.pixels;
    const long long image = plane / p.words;
    const int word = static_cast<int>(plane - image * p.words);
    if (image >= p.images) return;
    const T* values = static_cast<const T*>(p.values) + image * p.image_stride + pixel * p.pixel_stride;
    const int count = p.channels - 32 * word < 32 ? p.channels - 32 * word : 32;
    unsigned bits = 0;
    for (int bit = 0; bit < count; ++bit) {
        const T value = values[(32 * word + bit) * p.channel_stride];
        bits |= static_cast<unsigned>(positive(value, p.infinity)) << bit;
    }
    p.bits[(image * p.pixels + pixel) * p.words + word] = bits;
}

// For channels side by side: a warp has 32 words one after the other, a lane has one bit of each.
template <class T>
__device__ inline void pack_rows(const Packing& p) {
    const long long thread = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    const long long words = p.images * p.pixels * p.words;
    const int lane = threadIdx.x % 32;
    const long long first = thread - lane, row = first / p.words;
    long long image = row / p.pixels, pixel = row - image * p.pixels;
    int word = static_cast<int>(first - row * p.words);
    unsigned mine = 0;
#pragma unroll 4
    for (int turn = 0; turn < 32; ++turn) {
        const int channel = 32 * word + lane;
        const T* values = static_cast<const T*>(p.values) + image * p.image_stride + pixel * p.pixel_stride;
        const bool present = first + turn < words && channel < p.channels;
        const unsigned all = lane_bits(present && positive(values[channel * p.channel_stride], p.infinity));
        if (lane == turn) mine = all;
        if (++word < p.words) continue;
        word = 0;
        if (++pixel < p.pixels) continue;
        pixel = 0;
        ++image;
    }
    if (thread < words) p.bits[thread] = mine;
}

#endif
