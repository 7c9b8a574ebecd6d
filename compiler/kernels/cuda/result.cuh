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

__device__ inline bool bit_of(const Convolution& c, int output, int sum) {
    return (sum >= c.thresholds[output]) != (c.flips && c.flips[output]);
}

// sum * scale + shift + residual, rounded after each step as PyTorch does it.
template <int RESULT>
__device__ inline typename Entry<RESULT>::Type value_of(const Convolution& c, long long row, int output, int sum) {
    if constexpr (RESULT == SUMS) {
        return sum;
    } else {
        float value = static_cast<float>(sum);
        if (c.scales) value = value * c.scales[output];
        if (c.shifts) value = value + c.shifts[output];
        const long long place = row * c.outputs + output;
        if constexpr (RESULT == HALVES) {
            if (c.residual) value = value + float_of(static_cast<const unsigned short*>(c.residual)[place]);
            return half_of(value);
        } else {
            if (c.residual) value = value + static_cast<const float*>(c.residual)[place];
            return value;
        }
    }
}

#endif
