// What becomes of an integer sum of signs: itself, a float, a half, or one bit.
#ifndef FROSTLINE_RESULT
#define FROSTLINE_RESULT

#include "window.cuh"

enum Result { SUMS, FLOATS, HALVES, BITS };

template <int RESULT>
struct Entry {
    using Type = int;
};
template <>
struct Entry<FLOATS> {
    using Type = float;
};
template <>
struct Entry<HALVES> {
    using Type = unsigned short;
};

// Two neighbours, written at once.
template <class T>
struct alignas(2 * sizeof(T)) Pair {
    T first, second;
};

// What is the same for all rows of one output.
struct Column {
    int threshold;
    bool flip;
    float scale, shift;
};

template <int RESULT>
__device__ inline Column column_of(const Convolution& c, int output) {
    Column column = {0, false, 1.0f, -0.0f};  // -0 changes no sum, not even -0
    if constexpr (RESULT == BITS) {
        column.threshold = c.thresholds[output];
        column.flip = c.flips && c.flips[output];
    } else if constexpr (RESULT != SUMS) {
        if (c.scales) column.scale = c.scales[output];
        if (c.shifts) column.shift = c.shifts[output];
    }
    return column;
}

// sum * scale + shift + residual, rounded after each step as PyTorch does it. `place` is that in the result.
template <int RESULT>
__device__ inline typename Entry<RESULT>::Type value_of(const Convolution& c, const Column& column, long long place,
                                                        int sum) {
    if constexpr (RESULT == SUMS) {
        return sum;
    } else {
        const float value = static_cast<float>(sum) * column.scale + column.shift;
        if constexpr (RESULT == HALVES) {
            if (!c.residual) return half_of(value);
            return half_of(value + float_of(static_cast<const unsigned short*>(c.residual)[place]));
        } else {
            return c.residual ? value + static_cast<const float*>(c.residual)[place] : value;
        }
    }
}

#endif
